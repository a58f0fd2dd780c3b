//! Blobs from one place to another: nothing gets a name that it has not been compared with.
//!
//! Between directories the kernel copies, and the copy is hashed behind it; otherwise the bytes stream.
//! Into an object store they go under their name at once: an upload appears when it is whole, and one
//! with a wrong hash is given up before that.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::{Blobs, Place, blob_path, copy_all, hex, joined, open_blob, publish};
use crate::error::{Error, Result};

impl Blobs {
    /// Whether a blob is there, and has this size.
    ///
    /// # Errors
    /// `Io` if that cannot be told.
    pub async fn has(&self, sha256: &str, size: i64) -> Result<bool> {
        let size_bytes = u64::try_from(size).unwrap_or(u64::MAX);
        let dir = match &*self.place {
            Place::Local { dir, .. } => dir,
            Place::Objects(objects) => return objects.holds(sha256, size_bytes).await,
        };
        let path = blob_path(dir, sha256);
        match tokio::fs::metadata(&path).await {
            Ok(found) => Ok(found.len() == size_bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(path.display(), error)),
        }
    }

    /// Returns the sizes of all blobs that are there, by their names; none in memory.
    ///
    /// # Errors
    /// `Io`.
    pub async fn sizes(&self) -> Result<HashMap<String, u64>> {
        let files = self.list().await?.into_iter();
        Ok(files.filter_map(|file| Some((file.sha256?, file.size_bytes))).collect())
    }

    /// Compares a blob with its name, on a thread of its own.
    ///
    /// # Errors
    /// Those of [`Blobs::verify`].
    pub async fn verify_aside(&self, sha256: &str, size: i64) -> Result<()> {
        let (blobs, sha256, runtime) = (self.clone(), sha256.to_owned(), Handle::current());
        spawn_blocking(move || runtime.block_on(blobs.verify(&sha256, size)))
            .await
            .map_err(joined)?
    }

    /// Copies a blob of this name and size from `source`; one that is there with other contents is
    /// replaced. `copied` is told of the bytes as they are copied. The caller holds a [`super::Pin`].
    ///
    /// # Errors
    /// `Corrupt` if it is missing there, or is not what its name says: nothing was copied then; `Io`.
    pub async fn copy_from(
        &self,
        source: &Blobs,
        sha256: &str,
        size: i64,
        copied: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<()> {
        let copied = Arc::new(copied);
        let size_bytes = u64::try_from(size)
            .map_err(|_| Error::corrupt(format!("blob {sha256} of {size} bytes")))?;
        if let (Some(from), Place::Local { dir, durability, .. }) =
            (source.path_of(sha256), &*self.place)
        {
            let (dir, durability, name) = (dir.clone(), *durability, sha256.to_owned());
            let copied = copied.clone();
            let in_kernel = spawn_blocking(move || -> Result<bool> {
                let file = open_blob(&from, size)?;
                let Some((staged, found)) =
                    copy_all(&dir, durability, &file, size_bytes, &*copied)?
                else {
                    return Ok(false);
                };
                compare(&name, &found)?;
                publish(&dir, staged, &name, size_bytes)?;
                Ok(true)
            });
            if in_kernel.await.map_err(joined)?? {
                return Ok(());
            }
        }
        let chunks = source.read(sha256, size).await?;
        let chunks = chunks.inspect_ok(move |chunk| copied(chunk.len() as u64)).boxed();
        match &*self.place {
            Place::Objects(objects) => {
                objects.send(sha256, size_bytes, checked(chunks, sha256.to_owned())).await
            }
            // What has another hash gets that for its name, and is garbage.
            Place::Local { .. } => compare(sha256, &self.put(chunks, true).await?.sha256),
        }
    }
}

/// Streams contents, with an error at their end if they are not those of `sha256`.
fn checked(
    chunks: BoxStream<'static, Result<Bytes>>,
    sha256: String,
) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold((chunks, Sha256::new(), sha256), |(mut chunks, mut hasher, sha256)| async {
        match chunks.try_next().await? {
            Some(chunk) => {
                hasher.update(&chunk);
                Ok(Some((chunk, (chunks, hasher, sha256))))
            }
            None => compare(&sha256, &hex(hasher)).map(|()| None),
        }
    })
    .boxed()
}

fn compare(sha256: &str, found: &str) -> Result<()> {
    if found == sha256 {
        return Ok(());
    }
    Err(Error::corrupt(format!("blob {sha256}: its contents have the SHA-256 {found}")))
}
