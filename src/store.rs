//! The durable local object store: what is acknowledged survives a power cut.
//!
//! object_store's `LocalFileSystem` never syncs, so writing is ours and reading is its. An object is
//! written to an unnamed file (or, where the file system has none, to `name#…` beside it, which no
//! listing shows), synced, then linked under its name, and the directory is synced before the put
//! returns: there is never a name with half an object behind it, and never an acknowledged object
//! without its name. [`Durability::Process`] leaves the syncs out: a crash of the process loses
//! nothing, a power cut may.
//!
//! A put that must not replace is one `link`, which the kernel makes atomic across processes.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, UploadPart,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// File and directory are synced before a put returns.
    #[default]
    Full,
    /// The operating system has it: safe from a crash of the process alone.
    Process,
}

impl std::str::FromStr for Durability {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "full" => Ok(Self::Full),
            "process" => Ok(Self::Process),
            _ => Err(crate::Error::invalid(format!("durability '{text}'"))
                .with_hint("it is 'full' or 'process'")),
        }
    }
}

/// A local directory as an object store whose puts are durable.
#[derive(Debug)]
pub struct DurableStore {
    local: LocalFileSystem,
    durability: Durability,
}

impl DurableStore {
    /// Opens the store in `dir`, which must exist.
    pub fn new(dir: &FsPath, durability: Durability) -> object_store::Result<Self> {
        Ok(Self { local: LocalFileSystem::new_with_prefix(dir)?, durability })
    }
}

impl fmt::Display for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableStore({})", self.local)
    }
}

/// A file being written that has not got its final name yet.
pub(crate) struct Staged {
    file: File,
    dest: PathBuf,
    /// The name it has meanwhile; `None` for an unnamed file.
    staging: Option<PathBuf>,
    durability: Durability,
}

impl Staged {
    /// Opens a file that will be called `dest`, making the directories above it.
    pub(crate) fn create(dest: PathBuf, durability: Durability) -> io::Result<Self> {
        match Self::try_create(&dest, durability) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_dirs(parent_of(&dest), durability)?;
                Self::try_create(&dest, durability)
            }
            result => result,
        }
    }

    fn try_create(dest: &FsPath, durability: Durability) -> io::Result<Self> {
        let unnamed = rustix::fs::open(
            parent_of(dest),
            OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
            Mode::from_raw_mode(0o644),
        );
        let (file, staging) = match unnamed {
            Ok(fd) => (File::from(fd), None),
            Err(rustix::io::Errno::NOENT) => return Err(io::ErrorKind::NotFound.into()),
            // Some file systems have no unnamed files.
            Err(_) => {
                let staging = staging_path(dest);
                let file =
                    OpenOptions::new().read(true).write(true).create_new(true).open(&staging)?;
                (file, Some(staging))
            }
        };
        Ok(Self { file, dest: dest.to_owned(), staging, durability })
    }

    /// Returns the file, to write to.
    pub(crate) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the file another name than the one it was opened for.
    pub(crate) fn publish_as(mut self, dest: PathBuf, replace: bool) -> io::Result<()> {
        create_dirs(parent_of(&dest), self.durability)?;
        self.dest = dest;
        self.publish(replace)
    }

    /// Returns what it takes to be done.
    pub(crate) fn durability(&self) -> Durability {
        self.durability
    }

    /// Gives the file its name, which must be free unless `replace`.
    fn publish(mut self, replace: bool) -> io::Result<()> {
        if self.durability == Durability::Full {
            self.file.sync_all()?;
        }
        if replace {
            // Only a rename replaces, so the file needs a name first.
            let staging = match self.staging.take() {
                Some(staging) => staging,
                None => {
                    let staging = staging_path(&self.dest);
                    link_unnamed(&self.file, &staging)?;
                    staging
                }
            };
            std::fs::rename(&staging, &self.dest)?;
        } else if let Some(staging) = &self.staging {
            std::fs::hard_link(staging, &self.dest)?;
        } else {
            link_unnamed(&self.file, &self.dest)?;
        }
        if self.durability == Durability::Full {
            sync_dir(parent_of(&self.dest))?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(staging) = &self.staging {
            // Nothing is lost if this fails: no listing shows the name.
            let _ = std::fs::remove_file(staging);
        }
    }
}

/// Tells by its time that a file is wanted again, and makes sure that it and its name are on the disk:
/// whoever wrote it may not have got so far.
pub(crate) fn keep(path: &FsPath, durability: Durability) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_modified(std::time::SystemTime::now())?;
    if durability == Durability::Full {
        file.sync_all()?;
        sync_dir(parent_of(path))?;
    }
    Ok(())
}

/// Copies bytes from one file to the same place in another without bringing them here; returns how
/// many, none at the end, or `None` if that is not possible with these two.
pub(crate) fn copy_in_kernel(
    from: &File,
    to: &File,
    at: u64,
    length: u64,
) -> io::Result<Option<u64>> {
    use rustix::io::Errno;
    let (mut read, mut written) = (at, at);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    loop {
        let copied =
            rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), length);
        match copied {
            Ok(count) => return Ok(Some(count as u64)),
            Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => {
                return Ok(None);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn link_unnamed(file: &File, dest: &FsPath) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(rustix::fs::linkat(CWD, opened, CWD, dest, AtFlags::SYMLINK_FOLLOW)?)
}

fn staging_path(dest: &FsPath) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = dest.as_os_str().to_owned();
    // `LocalFileSystem` hides names that end in `#` and digits.
    name.push(format!("#{}{:06}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

fn parent_of(path: &FsPath) -> &FsPath {
    path.parent().expect("an object lies below the store's directory")
}

/// Returns what is in `dir`, in no order: nothing if it does not exist. What goes meanwhile is left out.
pub(crate) fn list_dir(dir: &FsPath) -> io::Result<Vec<(PathBuf, Metadata)>> {
    let listing = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing?,
    };
    let mut found = Vec::new();
    for entry in listing {
        let entry = entry?;
        match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            metadata => found.push((entry.path(), metadata?)),
        }
    }
    Ok(found)
}

/// Makes `dir` and what is missing above it, each synced into its parent.
pub(crate) fn create_dirs(dir: &FsPath, durability: Durability) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dirs(parent, durability)?;
        match std::fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if durability == Durability::Full {
            sync_dir(parent)?;
        }
    }
    Ok(())
}

fn sync_dir(dir: &FsPath) -> io::Result<()> {
    let dir = if dir.as_os_str().is_empty() { FsPath::new(".") } else { dir };
    File::open(dir)?.sync_all()
}

fn store_error(path: &FsPath, source: io::Error) -> object_store::Error {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::AlreadyExists => {
            object_store::Error::AlreadyExists { path, source: source.into() }
        }
        io::ErrorKind::NotFound => object_store::Error::NotFound { path, source: source.into() },
        io::ErrorKind::PermissionDenied => {
            object_store::Error::PermissionDenied { path, source: source.into() }
        }
        _ => object_store::Error::Generic {
            store: "DurableStore",
            source: format!("{path}: {source}").into(),
        },
    }
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&FsPath) -> io::Result<T> + Send + 'static,
) -> object_store::Result<T> {
    tokio::task::spawn_blocking(move || work(&path).map_err(|source| store_error(&path, source)))
        .await?
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let replace = match options.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => {
                return Err(object_store::Error::NotImplemented {
                    operation: "conditional update".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let durability = self.durability;
        blocking(self.local.path_to_filesystem(location)?, move |path| {
            let mut staged = Staged::create(path.to_owned(), durability)?;
            payload.iter().try_for_each(|chunk| staged.file.write_all(chunk))?;
            staged.publish(replace)
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let durability = self.durability;
        let dest = self.local.path_to_filesystem(location)?;
        let staged =
            blocking(dest, move |path| Staged::create(path.to_owned(), durability)).await?;
        Ok(Box::new(Upload {
            dest: staged.dest.clone(),
            staged: Arc::new(Mutex::new(Some(staged))),
            offset: 0,
        }))
    }

    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        self.local.get_opts(location, options).await
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.local.get_ranges(location, ranges).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.local.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.local.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.local.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        let durability = self.durability;
        let from = self.local.path_to_filesystem(from)?;
        let replace = options.mode == CopyMode::Overwrite;
        blocking(self.local.path_to_filesystem(to)?, move |path| {
            let mut staged = Staged::create(path.to_owned(), durability)?;
            io::copy(&mut File::open(from)?, &mut staged.file)?;
            staged.publish(replace)
        })
        .await
    }
}

/// A multipart put: parts are written where they belong, in any order; the file appears whole.
#[derive(Debug)]
struct Upload {
    dest: PathBuf,
    staged: Arc<Mutex<Option<Staged>>>,
    offset: u64,
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staged({})", self.dest.display())
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, payload: PutPayload) -> UploadPart {
        use std::os::unix::fs::FileExt;
        let mut offset = self.offset;
        self.offset += payload.content_length() as u64;
        let staged = self.staged.clone();
        let written = blocking(self.dest.clone(), move |_| {
            let guard = staged.lock().expect("a part never panics");
            let staged = guard.as_ref().ok_or_else(|| io::Error::other("the upload has ended"))?;
            for chunk in payload.iter() {
                staged.file.write_all_at(chunk, offset)?;
                offset += chunk.len() as u64;
            }
            Ok(())
        });
        Box::pin(written) as BoxFuture<'static, object_store::Result<()>>
    }

    async fn complete(&mut self) -> object_store::Result<PutResult> {
        let staged = self.staged.clone();
        blocking(self.dest.clone(), move |_| {
            let staged = staged.lock().expect("a part never panics").take();
            staged.ok_or_else(|| io::Error::other("the upload has ended"))?.publish(true)
        })
        .await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    async fn abort(&mut self) -> object_store::Result<()> {
        self.staged.lock().expect("a part never panics").take();
        Ok(())
    }
}
