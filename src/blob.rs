//! Blobs: file contents that are too large for their row, and all Parquet, named by their SHA-256.
//!
//! `blobs/<aa>/<sha256>` is immutable: its name says what is in it, so equal contents are stored
//! once however often they are put, and a reader can check what it read. Contents stream in: they
//! are hashed and written at the same time, by threads of their own, into a file that has no name
//! before it is whole and synced.
//!
//! **Against clean-up.** A blob is published before the commit that names it, so for a moment it
//! looks like garbage. Whoever writes blobs therefore holds a [`Pin`], a shared lock on the
//! directory, from the first of them until after the commit; whoever deletes takes the lock
//! exclusively ([`Blobs::lock`]), looks at the newest commit under it, and deletes what that does
//! not name. The locks are the system's, so a killed process leaves none behind.
//!
//! Readers take no lock: what they read was named by a commit, and clean-up leaves that alone for a
//! grace time.
//!
//! In an object store (`object`) all is the same, but that contents wait for their name on this
//! machine, and that the locks are objects (`lease`), which end some minutes after the process that
//! held them.

mod lease;
mod object;

mod transfer;

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::{ObjectMeta, ObjectStore};
use rustix::fs::FlockOperation;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};

use self::lease::{Lease, TERMS};
use self::object::Objects;
use crate::entry::INLINE_BYTES_MAX;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Remote;
use crate::store::{Durability, Staged, copy_in_kernel, create_dirs, keep, list_dir};

/// Bytes read from or handed to a file at once.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that wait for a slower thread.
const CHUNKS_WAITING: usize = 4;
/// A long file is sent to the disk in pieces of this size while it is being written.
const FLUSH_BYTES: u64 = 64 << 20;
/// Bytes copied in the kernel at once, before they are hashed.
const COPY_BYTES: u64 = 8 << 20;
/// Bytes hashed at once: few enough to stay in the processor's cache.
const HASH_BYTES: usize = 256 << 10;
/// How long to wait between two attempts at the lock.
const LOCK_POLL: Duration = Duration::from_millis(5);
/// How long a writer to an object store waits for clean-up.
const LEASE_WAIT: Duration = Duration::from_secs(60);

/// The blobs of one pond; clones share them.
#[derive(Debug, Clone)]
pub struct Blobs {
    place: Arc<Place>,
}

#[derive(Debug)]
enum Place {
    Local {
        dir: PathBuf,
        /// The same in the engine's words.
        root: object_store::path::Path,
        durability: Durability,
    },
    Objects(Objects),
}

/// Contents that are stored: in a blob, or, if `content` is given, still to be put into their row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// SHA-256 of the contents, in hex.
    pub sha256: String,
    /// Their size in bytes.
    pub size: i64,
    /// The contents themselves, where they are small enough for the row.
    pub content: Option<Bytes>,
    /// The blob, if it was not there before.
    pub created: Option<BlobFile>,
}

/// A file below `blobs/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobFile {
    /// SHA-256 of its contents, in hex; `None` for a file that is no blob: what a killed writer left.
    pub sha256: Option<String>,
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// Keeps clean-up away from blobs that no commit names yet; dropped after the commit.
#[derive(Debug)]
pub struct Pin {
    /// The locked directory.
    lock: Option<File>,
    /// What stands for it in an object store. In memory, where nothing cleans up, there is neither.
    lease: Option<Lease>,
}

impl Pin {
    /// Makes sure that it still keeps clean-up away.
    ///
    /// # Errors
    /// `Conflict` if clean-up has taken its holder for dead; `Io`.
    pub async fn check(&self) -> Result<()> {
        match &self.lease {
            Some(lease) => lease.check().await,
            None => Ok(()),
        }
    }

    /// Lets clean-up through; so does dropping it, which in an object store may take minutes.
    pub async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

/// The right to delete blobs: nobody is between writing one and committing it.
#[derive(Debug)]
pub struct Lock {
    _lock: Option<File>,
    lease: Option<Lease>,
}

impl Lock {
    /// Lets writers through; so does dropping it, which in an object store may take minutes.
    pub async fn release(self) {
        if let Some(lease) = self.lease {
            lease.release().await;
        }
    }
}

impl Blobs {
    /// The blobs below `dir`, an absolute path, which is made on first use.
    ///
    /// # Errors
    /// `Invalid` if the path cannot be one of an object store.
    pub fn local(dir: PathBuf, durability: Durability) -> Result<Self> {
        let root = object_store::path::Path::from_absolute_path(&dir)
            .map_err(|error| Error::invalid(dir.display().to_string()).with_source(error))?;
        Ok(Self { place: Arc::new(Place::Local { dir, root, durability }) })
    }

    /// Blobs in memory, gone with the last handle.
    pub fn memory() -> Self {
        Self { place: Arc::new(Place::Objects(Objects::memory())) }
    }

    /// The blobs of the pond at `remote`; new ones are spooled in `spool`, a directory that is made on
    /// first use.
    ///
    /// # Errors
    /// `Invalid` if the URL cannot be one of the engine's.
    pub fn remote(remote: &Remote, spool: PathBuf) -> Result<Self> {
        Ok(Self { place: Arc::new(Place::Objects(Objects::remote(remote, spool)?)) })
    }

    /// Keeps clean-up away until it is dropped.
    ///
    /// # Errors
    /// `Io`.
    pub async fn pin(&self) -> Result<Pin> {
        match &*self.place {
            Place::Local { dir, durability, .. } => {
                let dir = dir.clone();
                let durability = *durability;
                let lock = open_dir(dir, durability).await?;
                loop {
                    if try_lock(&lock, FlockOperation::NonBlockingLockShared)? {
                        return Ok(Pin { lock: Some(lock), lease: None });
                    }
                    // Clean-up holds it for as long as it takes to delete.
                    tokio::time::sleep(LOCK_POLL).await;
                }
            }
            Place::Objects(objects) => {
                let lease = match &objects.pins {
                    Some(pins) => {
                        Some(Lease::shared(&objects.store, pins, LEASE_WAIT, TERMS).await?)
                    }
                    None => None,
                };
                Ok(Pin { lock: None, lease })
            }
        }
    }

    /// Waits until no writer holds a [`Pin`], at most for `wait`.
    ///
    /// # Errors
    /// `Conflict` if one still does; `Io`.
    pub async fn lock(&self, wait: Duration) -> Result<Lock> {
        let (dir, durability) = match &*self.place {
            Place::Local { dir, durability, .. } => (dir, durability),
            Place::Objects(objects) => {
                let lease = match &objects.pins {
                    Some(pins) => Some(Lease::exclusive(&objects.store, pins, wait, TERMS).await?),
                    None => None,
                };
                return Ok(Lock { _lock: None, lease });
            }
        };
        let lock = open_dir(dir.clone(), *durability).await?;
        let until = tokio::time::Instant::now() + wait;
        while !try_lock(&lock, FlockOperation::NonBlockingLockExclusive)? {
            if tokio::time::Instant::now() >= until {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("'{}' is being written to", dir.display()),
                )
                .with_hint("a transaction is under way; try again when it has ended"));
            }
            tokio::time::sleep(LOCK_POLL).await;
        }
        Ok(Lock { _lock: Some(lock), lease: None })
    }

    /// Begins to store contents. The caller holds a [`Pin`].
    pub fn writer(&self) -> BlobWriter {
        BlobWriter { blobs: self.clone(), held: Vec::new(), size: 0, pipeline: None }
    }

    /// Stores all that `stream` yields.
    ///
    /// # Errors
    /// Those of the stream; `Io`.
    pub async fn put(
        &self,
        mut stream: BoxStream<'static, Result<Bytes>>,
        always_blob: bool,
    ) -> Result<Stored> {
        let mut writer = self.writer();
        while let Some(chunk) = stream.try_next().await? {
            writer.write(chunk).await?;
        }
        writer.finish(always_blob).await
    }

    /// Returns the URL under which the engine finds the store of the blobs; local ones are in its
    /// own `file:///`.
    pub fn url(&self) -> ObjectStoreUrl {
        match &*self.place {
            Place::Local { .. } => ObjectStoreUrl::local_filesystem(),
            Place::Objects(objects) => objects.url.clone(),
        }
    }

    /// Makes that store known to an engine, unless it is the engine's own.
    pub fn register(&self, runtime: &RuntimeEnv) {
        if let Place::Objects(Objects { store, url, .. }) = &*self.place {
            runtime.register_object_store(url.as_ref(), store.clone());
        }
    }

    /// Returns that store.
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        match &*self.place {
            Place::Local { .. } => Arc::new(LocalFileSystem::new()),
            Place::Objects(objects) => objects.store.clone(),
        }
    }

    /// Returns where a blob of `size` bytes is in that store.
    pub fn object(&self, sha256: &str, size: i64) -> ObjectMeta {
        let location = match &*self.place {
            Place::Local { root, .. } => {
                root.clone().join(sha256.get(..2).unwrap_or_default()).join(sha256)
            }
            Place::Objects(objects) => return objects.object(sha256, size),
        };
        ObjectMeta {
            location,
            // A blob never changes, whatever its file's time says.
            last_modified: SystemTime::UNIX_EPOCH.into(),
            size: u64::try_from(size).unwrap_or(0),
            e_tag: None,
            version: None,
        }
    }

    /// Returns the file that holds a blob; `None` if it is in no file.
    pub fn path_of(&self, sha256: &str) -> Option<PathBuf> {
        match &*self.place {
            Place::Local { dir, .. } => Some(blob_path(dir, sha256)),
            Place::Objects(_) => None,
        }
    }

    /// Streams a blob.
    ///
    /// # Errors
    /// `Corrupt` if it is missing or has not this size; `Io`.
    pub async fn read(&self, sha256: &str, size: i64) -> Result<BoxStream<'static, Result<Bytes>>> {
        match &*self.place {
            Place::Local { dir, .. } => {
                let path = blob_path(dir, sha256);
                let file =
                    spawn_blocking(move || open_blob(&path, size)).await.map_err(joined)??;
                Ok(read_file(file))
            }
            Place::Objects(objects) => objects.read(sha256, size).await,
        }
    }

    /// Reads a blob from end to end and compares it with its name.
    ///
    /// # Errors
    /// `Corrupt` if it is missing or its contents are other ones; `Io`.
    pub async fn verify(&self, sha256: &str, size: i64) -> Result<()> {
        let mut stream = self.read(sha256, size).await?;
        let mut hasher = Sha256::new();
        while let Some(chunk) = stream.try_next().await? {
            hasher.update(&chunk);
        }
        let found = hex(hasher);
        if found == sha256 {
            return Ok(());
        }
        Err(Error::corrupt(format!("blob {sha256}: its contents have the SHA-256 {found}"))
            .with_hint("restore the file from a backup"))
    }

    /// Lists what is there, in no order; nothing in memory.
    ///
    /// # Errors
    /// `Io`.
    pub async fn list(&self) -> Result<Vec<BlobFile>> {
        match &*self.place {
            Place::Local { .. } => self.list_files(),
            Place::Objects(objects) => objects.list().await,
        }
    }

    /// Lists the files that are there, in no order; none if they are in no directory.
    ///
    /// # Errors
    /// `Io`.
    pub fn list_files(&self) -> Result<Vec<BlobFile>> {
        let Place::Local { dir, .. } = &*self.place else { return Ok(Vec::new()) };
        let mut files = Vec::new();
        let mut waiting = vec![dir.clone()];
        while let Some(at) = waiting.pop() {
            let failed = |error| Error::io(at.display(), error);
            for (path, metadata) in list_dir(&at).map_err(failed)? {
                if metadata.is_dir() {
                    waiting.push(path);
                    continue;
                }
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let is_blob = is_sha256(&name) && blob_path(dir, &name) == path;
                files.push(BlobFile {
                    sha256: is_blob.then_some(name),
                    path,
                    size_bytes: metadata.len(),
                    modified: metadata.modified().map_err(failed)?,
                });
            }
        }
        Ok(files)
    }

    /// Deletes blobs that a transaction made and that it will not commit after all, unless others
    /// have put the same contents meanwhile, or are about to. What cannot be deleted is left to
    /// clean-up.
    pub fn discard(&self, pin: &Pin, created: &[BlobFile]) {
        let Some(lock) = &pin.lock else { return };
        if created.is_empty() {
            return;
        }
        // Exclusive in place of shared: fails if anybody else holds a pin.
        if !matches!(try_lock(lock, FlockOperation::NonBlockingLockExclusive), Ok(true)) {
            return;
        }
        for file in created {
            let untouched = std::fs::metadata(&file.path)
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| modified == file.modified);
            if untouched {
                let _ = std::fs::remove_file(&file.path);
            }
        }
    }

    /// Deletes a file that [`Blobs::list`] returned; one that is gone already is fine.
    ///
    /// # Errors
    /// `Io`.
    pub async fn delete(&self, lock: &Lock, file: &BlobFile) -> Result<()> {
        if let Place::Objects(objects) = &*self.place {
            if let Some(lease) = &lock.lease {
                lease.check().await?;
            }
            return match &file.sha256 {
                Some(sha256) => objects.delete(sha256).await,
                None => Ok(()),
            };
        }
        match std::fs::remove_file(&file.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io(file.path.display(), error))
            }
            _ => Ok(()),
        }
    }

    /// Stores the first `size_bytes` of a file, which the kernel copies where it can; what is small is
    /// returned instead, to be put into its row. `copied` is told of the bytes as they are copied.
    ///
    /// # Errors
    /// `Io`, also for a file that is cut short meanwhile.
    pub async fn put_file(
        &self,
        file: File,
        size_bytes: u64,
        copied: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Stored> {
        let copied = Arc::new(copied);
        if size_bytes > INLINE_BYTES_MAX as u64
            && let Place::Local { dir, durability, .. } = &*self.place
        {
            let (dir, durability, copied) = (dir.clone(), *durability, copied.clone());
            let source = file.try_clone().map_err(|error| Error::io("copying a file", error))?;
            let stored = spawn_blocking(move || -> Result<Option<Stored>> {
                let Some((staged, sha256)) =
                    copy_all(&dir, durability, &source, size_bytes, &*copied)?
                else {
                    return Ok(None);
                };
                let created = publish(&dir, staged, &sha256, size_bytes)?;
                let size = i64::try_from(size_bytes)
                    .map_err(|_| Error::invalid(format!("{size_bytes} bytes are too many")))?;
                Ok(Some(Stored { sha256, size, content: None, created }))
            });
            if let Some(stored) = stored.await.map_err(joined)?? {
                return Ok(stored);
            }
        }
        let bytes = read_file(file).inspect_ok(move |chunk| copied(chunk.len() as u64));
        let stored = self.put(bytes.boxed(), false).await?;
        match u64::try_from(stored.size) {
            Ok(size) if size < size_bytes => Err(cut_short(size, size_bytes)),
            _ => Ok(stored),
        }
    }

    /// Opens the file that holds a blob; `None` if it is in no file.
    ///
    /// # Errors
    /// `Corrupt` if it is missing or has not this size; `Io`.
    pub async fn open(&self, sha256: &str, size: i64) -> Result<Option<File>> {
        let Place::Local { dir, .. } = &*self.place else { return Ok(None) };
        let path = blob_path(dir, sha256);
        spawn_blocking(move || open_blob(&path, size)).await.map_err(joined)?.map(Some)
    }

    async fn publish_small(&self, bytes: Bytes, sha256: &str) -> Result<Option<BlobFile>> {
        match &*self.place {
            Place::Local { dir, durability, .. } => {
                let (dir, sha256, durability) = (dir.clone(), sha256.to_owned(), *durability);
                spawn_blocking(move || {
                    let mut staged = stage(&dir, durability)?;
                    staged.file().write_all(&bytes).map_err(|error| wrote(&dir, error))?;
                    publish(&dir, staged, &sha256, bytes.len() as u64)
                })
                .await
                .map_err(joined)?
            }
            Place::Objects(objects) => {
                objects.publish_bytes(sha256, bytes).await?;
                Ok(None)
            }
        }
    }

    /// Returns where contents wait for their name: a directory, and what makes them durable there.
    fn staging(&self) -> Option<(&Path, Durability)> {
        match &*self.place {
            Place::Local { dir, durability, .. } => Some((dir, *durability)),
            Place::Objects(objects) => Some((objects.spool.as_deref()?, Durability::Process)),
        }
    }
}

/// Stores contents as they come. Dropped before it is finished, it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    /// The contents so far, while they may still fit into a row, or there is no file to write.
    held: Vec<u8>,
    size: u64,
    pipeline: Option<Pipeline>,
}

/// The threads that hash and write at the same time.
#[derive(Debug)]
struct Pipeline {
    to_hash: mpsc::Sender<Bytes>,
    to_write: mpsc::Sender<Bytes>,
    hashed: JoinHandle<String>,
    written: JoinHandle<Result<Staged>>,
}

impl BlobWriter {
    /// Takes the next part of the contents.
    ///
    /// # Errors
    /// `Io`.
    pub async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.size += chunk.len() as u64;
        if let Some(pipeline) = &self.pipeline {
            return if pipeline.send(chunk).await { Ok(()) } else { self.failure().await };
        }
        self.held.extend_from_slice(&chunk);
        if self.held.len() > INLINE_BYTES_MAX
            && let Some((dir, durability)) = self.blobs.staging()
        {
            let pipeline = Pipeline::start(dir.to_owned(), durability);
            let sent = pipeline.send(Bytes::from(std::mem::take(&mut self.held))).await;
            self.pipeline = Some(pipeline);
            if !sent {
                return self.failure().await;
            }
        }
        Ok(())
    }

    /// Returns the size so far, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Ends the contents. They are durable when this returns, unless they are small and not
    /// `always_blob`: then they are returned, to be put into their row.
    ///
    /// # Errors
    /// `Io`.
    pub async fn finish(mut self, always_blob: bool) -> Result<Stored> {
        let size = i64::try_from(self.size)
            .map_err(|_| Error::invalid(format!("{} bytes are too many", self.size)))?;
        if let Some(pipeline) = self.pipeline.take() {
            let Pipeline { to_hash, to_write, hashed, written } = pipeline;
            drop((to_hash, to_write));
            let staged = written.await.map_err(joined)??;
            let sha256 = hashed.await.map_err(joined)?;
            let dir = match &*self.blobs.place {
                Place::Local { dir, .. } => dir,
                Place::Objects(objects) => {
                    let mut staged = staged;
                    let file = staged.file().try_clone();
                    let file = file.map_err(|error| Error::io("the spooled contents", error))?;
                    objects.publish_file(&sha256, file, self.size).await?;
                    return Ok(Stored { sha256, size, content: None, created: None });
                }
            };
            let (dir, name, size_bytes) = (dir.clone(), sha256.clone(), self.size);
            let created = spawn_blocking(move || publish(&dir, staged, &name, size_bytes))
                .await
                .map_err(joined)??;
            return Ok(Stored { sha256, size, content: None, created });
        }
        let bytes = Bytes::from(std::mem::take(&mut self.held));
        let sha256 = sha256(&bytes);
        if !always_blob && bytes.len() <= INLINE_BYTES_MAX {
            return Ok(Stored { sha256, size, content: Some(bytes), created: None });
        }
        let created = self.blobs.publish_small(bytes, &sha256).await?;
        Ok(Stored { sha256, size, content: None, created })
    }

    /// Returns why the writing thread has ended.
    async fn failure(&mut self) -> Result<()> {
        let pipeline = self.pipeline.take().expect("only a pipeline fails");
        pipeline.written.await.map_err(joined)?.map(|_| ())
    }
}

impl Pipeline {
    fn start(dir: PathBuf, durability: Durability) -> Self {
        let (to_hash, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
        let hashed = spawn_blocking(move || {
            let mut hasher = Sha256::new();
            while let Some(chunk) = chunks.blocking_recv() {
                hasher.update(&chunk);
            }
            hex(hasher)
        });
        let (to_write, chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
        let written = spawn_blocking(move || write_all(&dir, durability, chunks));
        Self { to_hash, to_write, hashed, written }
    }

    /// Returns whether the threads are still there.
    async fn send(&self, chunk: Bytes) -> bool {
        // The hasher ends only after its sender.
        self.to_write.send(chunk.clone()).await.is_ok() && self.to_hash.send(chunk).await.is_ok()
    }
}

fn write_all(
    dir: &Path,
    durability: Durability,
    mut chunks: mpsc::Receiver<Bytes>,
) -> Result<Staged> {
    let mut staged = stage(dir, durability)?;
    let mut flusher = Flusher::start(dir, &mut staged, durability)?;
    let mut result = Ok(());
    while let Some(chunk) = chunks.blocking_recv() {
        result = staged.file().write_all(&chunk).map_err(|error| wrote(dir, error));
        if result.is_err() {
            break;
        }
        flusher.wrote(chunk.len() as u64);
    }
    flusher.finish()?;
    result.map(|()| staged)
}

/// Copies `size` bytes of a file in the kernel and hashes the copy behind it; `None` if the kernel
/// cannot, and nothing was copied.
fn copy_all(
    dir: &Path,
    durability: Durability,
    source: &File,
    size: u64,
    copied: impl Fn(u64),
) -> Result<Option<(Staged, String)>> {
    let mut staged = stage(dir, durability)?;
    let failed = |error| wrote(dir, error);
    let target = staged.file().try_clone().map_err(failed)?;
    let behind = staged.file().try_clone().map_err(failed)?;
    let mut flusher = Flusher::start(dir, &mut staged, durability)?;
    let (to_hash, ends) = std::sync::mpsc::channel();
    let hasher = std::thread::spawn(move || hash_behind(&behind, &ends));
    let mut at = 0;
    let copying = loop {
        if at == size {
            break Ok(true);
        }
        match copy_in_kernel(source, &target, at, (size - at).min(COPY_BYTES)) {
            Ok(None | Some(0)) if at == 0 => break Ok(false),
            Ok(None | Some(0)) => break Err(cut_short(at, size)),
            Ok(Some(count)) => {
                at += count;
                copied(count);
                flusher.wrote(count);
                // The hasher ends early only if it fails, which is told below.
                let _ = to_hash.send(at);
            }
            Err(error) => break Err(failed(error)),
        }
    };
    drop(to_hash);
    let hash = hasher.join().map_err(|_| Error::corrupt("the thread that hashes panicked"))?;
    flusher.finish()?;
    if !copying? {
        return Ok(None);
    }
    Ok(Some((staged, hash.map_err(failed)?)))
}

/// Hashes a file that is being written, up to each of `ends`.
fn hash_behind(file: &File, ends: &std::sync::mpsc::Receiver<u64>) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_BYTES];
    let mut at = 0;
    for end in ends {
        while at < end {
            let wanted = usize::try_from(end - at).map_or(HASH_BYTES, |left| left.min(HASH_BYTES));
            file.read_exact_at(&mut buffer[..wanted], at)?;
            hasher.update(&buffer[..wanted]);
            at += wanted as u64;
        }
    }
    Ok(hex(hasher))
}

fn cut_short(at: u64, size: u64) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("a file was cut short while it was being copied: {at} bytes of {size}"),
    )
}

/// Sends a file to the disk in pieces while the rest is still coming, so that the last sync has
/// little to wait for.
struct Flusher {
    to_flush: Option<std::sync::mpsc::SyncSender<()>>,
    thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
    unflushed: u64,
}

impl Flusher {
    fn start(dir: &Path, staged: &mut Staged, durability: Durability) -> Result<Self> {
        if durability == Durability::Process {
            return Ok(Self { to_flush: None, thread: None, unflushed: 0 });
        }
        let file = staged.file().try_clone().map_err(|error| wrote(dir, error))?;
        let (to_flush, flushes) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            // The system tells of a failed write once: the last sync would not hear of it again.
            flushes.iter().try_for_each(|()| file.sync_data())
        });
        Ok(Self { to_flush: Some(to_flush), thread: Some(thread), unflushed: 0 })
    }

    fn wrote(&mut self, bytes: u64) {
        self.unflushed += bytes;
        if self.unflushed >= FLUSH_BYTES
            && let Some(to_flush) = &self.to_flush
        {
            self.unflushed = 0;
            // While one is under way, another has nothing to add.
            let _ = to_flush.try_send(());
        }
    }

    fn finish(mut self) -> Result<()> {
        self.to_flush.take();
        match self.thread.take().map(std::thread::JoinHandle::join) {
            Some(Err(_)) => Err(Error::corrupt("the thread that flushes panicked")),
            Some(Ok(Err(error))) => Err(Error::io("sending a blob to the disk", error)),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }
}

/// Opens a file without a name in the directory of the blobs.
fn stage(dir: &Path, durability: Durability) -> Result<Staged> {
    Staged::create(dir.join("staged"), durability).map_err(|error| wrote(dir, error))
}

/// Gives a written file its name, and returns it; contents that are there already are left as they
/// are, and are told to be wanted ([`keep`]): who made them may be about to take them
/// away again.
fn publish(
    dir: &Path,
    mut staged: Staged,
    sha256: &str,
    size_bytes: u64,
) -> Result<Option<BlobFile>> {
    let path = blob_path(dir, sha256);
    let failed = |error| wrote(&path, error);
    // Read before the file has its name: later, the time may be another writer's.
    let modified = staged.file().metadata().and_then(|metadata| metadata.modified());
    let modified = modified.map_err(failed)?;
    let durability = staged.durability();
    let there = || keep(&path, durability).map(|()| None).map_err(failed);
    match File::open(&path) {
        Ok(file) if same_contents(&file, staged.file()).map_err(failed)? => return there(),
        // It has lost its contents: these are the right ones.
        Ok(_) => staged.publish_as(path.clone(), true).map_err(failed)?,
        // The pin keeps everybody from deleting it again.
        Err(_) => match staged.publish_as(path.clone(), false) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return there(),
            result => result.map_err(failed)?,
        },
    }
    Ok(Some(BlobFile { sha256: Some(sha256.to_owned()), path, size_bytes, modified }))
}

/// Compares two files byte by byte.
fn same_contents(one: &File, other: &File) -> std::io::Result<bool> {
    use std::os::unix::fs::FileExt;
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut left, mut right) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut at = 0;
    loop {
        let read = one.read_at(&mut left, at)?;
        if read == 0 {
            return Ok(true);
        }
        other.read_exact_at(&mut right[..read], at)?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
        at += read as u64;
    }
}

fn open_blob(path: &Path, size: i64) -> Result<File> {
    let file = match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::corrupt(format!("'{}' is missing", path.display()))
                .with_hint("restore the file from a backup"));
        }
        file => file.map_err(|error| Error::io(path.display(), error))?,
    };
    let found = file.metadata().map_err(|error| Error::io(path.display(), error))?.len();
    if i64::try_from(found) != Ok(size) {
        return Err(Error::corrupt(format!("'{}' has {found} bytes, not {size}", path.display()))
            .with_hint("restore the file from a backup"));
    }
    Ok(file)
}

/// Streams a file from its beginning.
pub fn read_file(file: File) -> BoxStream<'static, Result<Bytes>> {
    stream::try_unfold(file, |mut file| async move {
        spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = (&mut file)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk)
                .map_err(|error| Error::io("reading a file", error))?;
            Ok((read > 0).then(|| (Bytes::from(chunk), file)))
        })
        .await
        .map_err(joined)?
    })
    .boxed()
}

/// Returns the SHA-256 of `bytes`, in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

fn hex(hasher: Sha256) -> String {
    use std::fmt::Write;
    hasher.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

fn is_sha256(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn blob_path(dir: &Path, sha256: &str) -> PathBuf {
    dir.join(sha256.get(..2).unwrap_or_default()).join(sha256)
}

async fn open_dir(dir: PathBuf, durability: Durability) -> Result<File> {
    spawn_blocking(move || {
        let failed = |error| Error::io(dir.display(), error);
        create_dirs(&dir, durability).map_err(failed)?;
        File::open(&dir).map_err(failed)
    })
    .await
    .map_err(joined)?
}

fn try_lock(dir: &File, operation: FlockOperation) -> Result<bool> {
    match rustix::fs::flock(dir, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Error::io("locking the blobs", error.into())),
    }
}

fn wrote(path: &Path, error: std::io::Error) -> Error {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let error = Error::io(path.display(), error);
    if full { error.with_hint("the disk is full: nothing was changed") } else { error }
}

fn joined(error: tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Io, "a thread that stores a file ended early").with_source(error)
}
