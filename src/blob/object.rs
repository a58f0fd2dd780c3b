//! Blobs as objects of a store.
//!
//! Contents get their name, their hash, only once they are whole, so they are spooled to a file without
//! a name on this machine, hashed on the way, and then sent: large ones in parts, a few at a time. What
//! is there already is not sent again. An object is there whole or not at all.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};
use uuid::Uuid;

use super::{BlobFile, CHUNK_BYTES, is_sha256, read_file};
use crate::error::{Error, ErrorKind, Result};
use crate::location::Remote;

/// What is larger is sent in parts.
const SINGLE_BYTES_MAX: u64 = 16 << 20;
/// Size of a part.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS_SENT: usize = 4;

/// Where the blobs of a pond are that is not in a directory.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) url: ObjectStoreUrl,
    /// What their names lie below.
    root: Path,
    /// Where leases are; none in memory, where nothing cleans up.
    pub(super) pins: Option<Path>,
    /// Where contents wait for their name; without, they are held in memory.
    pub(super) spool: Option<PathBuf>,
}

impl Objects {
    pub(super) fn memory() -> Self {
        let url = ObjectStoreUrl::parse(format!("pond://{}", Uuid::new_v4().simple()))
            .expect("a scheme and a name");
        let store = Arc::new(InMemory::new());
        Self { store, url, root: Path::default(), pins: None, spool: None }
    }

    pub(super) fn remote(remote: &Remote, spool: PathBuf) -> Result<Self> {
        let url = &remote.url()[..url::Position::BeforePath];
        Ok(Self {
            store: remote.store().clone(),
            url: ObjectStoreUrl::parse(url)?,
            root: remote.root().clone().join("blobs"),
            pins: Some(remote.root().clone().join("pins")),
            spool: Some(spool),
        })
    }

    pub(super) fn location(&self, sha256: &str) -> Path {
        self.root.clone().join(sha256.get(..2).unwrap_or_default()).join(sha256)
    }

    /// Names a blob as a user may look for it.
    fn display(&self, location: &Path) -> String {
        format!("{}{location}", self.url.as_str())
    }

    /// Streams a blob, which must have `size` bytes.
    pub(super) async fn read(
        &self,
        sha256: &str,
        size: i64,
    ) -> Result<BoxStream<'static, Result<Bytes>>> {
        let location = self.location(sha256);
        let name = self.display(&location);
        let corrupt = |problem: &str| {
            Error::corrupt(format!("'{name}' {problem}"))
                .with_hint("restore it from a backup: pond restore-from")
        };
        let found = match self.store.get(&location).await {
            Err(object_store::Error::NotFound { .. }) => return Err(corrupt("is missing")),
            found => found.map_err(|error| failed(&name, error))?,
        };
        if i64::try_from(found.meta.size) != Ok(size) {
            return Err(corrupt(&format!("has {} bytes, not {size}", found.meta.size)));
        }
        Ok(found.into_stream().map_err(move |error| failed(&name, error)).boxed())
    }

    /// Whether a blob is there, with this size.
    pub(super) async fn holds(&self, sha256: &str, size_bytes: u64) -> Result<bool> {
        let location = self.location(sha256);
        match self.store.head(&location).await {
            Ok(found) => Ok(found.size == size_bytes),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(failed(&self.display(&location), error)),
        }
    }

    /// Stores contents that are in memory.
    pub(super) async fn publish_bytes(&self, sha256: &str, bytes: Bytes) -> Result<()> {
        let location = self.location(sha256);
        if self.spool.is_some() && self.holds(sha256, bytes.len() as u64).await? {
            return Ok(());
        }
        let sent = self.store.put(&location, bytes.into()).await;
        sent.map(drop).map_err(|error| failed(&self.display(&location), error))
    }

    /// Stores contents that are in a file.
    pub(super) async fn publish_file(
        &self,
        sha256: &str,
        mut file: File,
        size_bytes: u64,
    ) -> Result<()> {
        if self.holds(sha256, size_bytes).await? {
            return Ok(());
        }
        file.seek(SeekFrom::Start(0)).map_err(|error| Error::io("the spooled contents", error))?;
        self.send(sha256, size_bytes, read_file(file)).await
    }

    /// Sends contents of a known name.
    pub(super) async fn send(
        &self,
        sha256: &str,
        size_bytes: u64,
        mut bytes: BoxStream<'_, Result<Bytes>>,
    ) -> Result<()> {
        let location = self.location(sha256);
        let failed = |error| failed(&self.display(&location), error);
        if size_bytes <= SINGLE_BYTES_MAX {
            let chunks: Vec<Bytes> = bytes.try_collect().await?;
            let payload: object_store::PutPayload = chunks.into_iter().collect();
            return self.store.put(&location, payload).await.map(drop).map_err(failed);
        }
        let upload = self.store.put_multipart(&location).await.map_err(failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        loop {
            let chunk = match bytes.try_next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return parts.finish().await.map(drop).map_err(failed),
                Err(error) => {
                    // What was sent of it is of no use; the store's owner may have to remove it.
                    let _ = parts.abort().await;
                    return Err(error);
                }
            };
            parts.wait_for_capacity(PARTS_SENT).await.map_err(failed)?;
            parts.put(chunk);
        }
    }

    /// Lists what is there, in no order.
    pub(super) async fn list(&self) -> Result<Vec<BlobFile>> {
        if self.spool.is_none() {
            return Ok(Vec::new());
        }
        let objects = self.store.list(Some(&self.root));
        let files = objects.map_ok(|object| {
            let name = object.location.filename().unwrap_or_default().to_owned();
            let is_blob = is_sha256(&name) && self.location(&name) == object.location;
            BlobFile {
                sha256: is_blob.then_some(name),
                path: self.display(&object.location).into(),
                size_bytes: object.size,
                modified: SystemTime::from(object.last_modified),
            }
        });
        files.try_collect().await.map_err(|error| failed("listing the blobs", error))
    }

    /// Deletes a blob; one that is gone already is fine.
    pub(super) async fn delete(&self, sha256: &str) -> Result<()> {
        let location = self.location(sha256);
        match self.store.delete(&location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed(&self.display(&location), error)),
        }
    }

    pub(super) fn object(&self, sha256: &str, size: i64) -> ObjectMeta {
        ObjectMeta {
            location: self.location(sha256),
            // A blob never changes, whatever its object's time says.
            last_modified: SystemTime::UNIX_EPOCH.into(),
            size: u64::try_from(size).unwrap_or(0),
            e_tag: None,
            version: None,
        }
    }
}

fn failed(name: &str, error: object_store::Error) -> Error {
    Error::new(ErrorKind::Io, format!("'{name}'")).with_source(error)
}

const _: () = assert!(PART_BYTES >= CHUNK_BYTES);
