//! The directories and files of a mount, reached one name at a time.
//!
//! A directory is a handle (`O_PATH`, which needs no right to read it). A child that is no link is
//! found by its name below that handle, with `O_NOFOLLOW`; a link is resolved by the kernel from the
//! mount's own handle, beneath it.

use std::ffi::OsStr;
use std::fs::File as HostHandle;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Int64Type, SchemaRef, TimestampMicrosecondType, UInt32Type};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::blocking;
use super::store::{self, HostStore};
use super::walk::{Sink, Walker, errno_text, is_gone, micros};
use crate::entry::EntryType;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{TableFormat, TableSource, open_table};
use crate::node::{
    DirEntry, Directory, File, ListFields, Node, Prune, Walk, WalkCounters, listing_schema,
};
use crate::path::{PondPath, check_name, escape_name, unescape_name};

/// Batches that a walk is ahead of its reader, for each worker.
const BATCHES_AHEAD: usize = 2;
/// Rows of a batch of [`Directory::list`].
const LIST_ROWS: usize = 1024;

/// One mounted directory, shared by everything opened below it.
#[derive(Debug)]
pub(super) struct Mount {
    /// The mounted directory.
    root: Dir,
    /// The node that mounts it.
    path: PondPath,
    /// Device and inode of the mounted directory.
    identity: (u64, u64),
}

impl Mount {
    /// Returns how users call it in messages.
    pub fn describe(&self) -> String {
        format!("hostmount '{}'", self.path)
    }

    /// Returns a word that no other directory of this host has.
    pub fn id(&self) -> String {
        format!("{:x}-{:x}", self.identity.0, self.identity.1)
    }

    /// Opens what `below` leads to, without following a link out of the mount.
    ///
    /// Opens regular files only: whatever else is there is not touched.
    pub fn open_file(&self, below: &Path) -> std::io::Result<HostHandle> {
        check_regular(&self.resolve(below, OFlags::PATH)?)?;
        let file = self.resolve(below, OFlags::NONBLOCK | OFlags::NOCTTY)?;
        // It may have been swapped since.
        check_regular(&file)?;
        Ok(file)
    }

    fn resolve(&self, below: &Path, flags: OFlags) -> std::io::Result<HostHandle> {
        let mut options = OpenOptions::new();
        let flags = i32::try_from(flags.bits()).map_err(std::io::Error::other)?;
        options.read(true).custom_flags(flags);
        self.root.open_with(below, &options).map(cap_std::fs::File::into_std)
    }

    /// Says in pond words why `path`, at `below`, could not be opened. `link` is the text of the
    /// link that it is.
    fn explain(&self, path: &PondPath, link: Option<&[u8]>, error: std::io::Error) -> Error {
        let Some(link) = link else { return Error::io(format!("'{path}'"), error) };
        let target = escape_name(link);
        // Refused by the resolution itself, not by the host: there is no error number.
        let escapes = link.starts_with(b"/")
            || (error.kind() == std::io::ErrorKind::PermissionDenied
                && error.raw_os_error().is_none());
        if escapes {
            return Error::new(
                ErrorKind::PermissionDenied,
                format!("'{path}' is a link that leaves the {}: to '{target}'", self.describe()),
            )
            .with_hint("links are followed within the mounted directory only");
        }
        match Errno::from_io_error(&error) {
            Some(Errno::LOOP) => {
                Error::invalid(format!("'{path}' is a loop of symbolic links, to '{target}'"))
            }
            Some(Errno::NOENT | Errno::NOTDIR) => {
                Error::not_found(format!("'{path}' is a link to '{target}', which does not exist"))
            }
            _ => Error::io(format!("'{path}', a link to '{target}'"), error),
        }
    }
}

fn check_regular(file: &HostHandle) -> std::io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(()),
        _ => Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "not a regular file")),
    }
}

/// A directory of a mount.
#[derive(Debug)]
pub(super) struct HostDirectory {
    mount: Arc<Mount>,
    handle: Arc<OwnedFd>,
    /// Its path in the pond.
    path: PondPath,
    /// Where it is below the mounted directory, by host names, as the user came here.
    below: PathBuf,
}

impl HostDirectory {
    /// Opens the mounted directory itself.
    ///
    /// # Errors
    /// Names the node and the host directory, if that is gone or is none.
    pub fn open_mount(path: PondPath, directory: PathBuf) -> Result<Self> {
        let failed = |error: std::io::Error| {
            let shown = directory.display();
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => "does not exist",
                std::io::ErrorKind::NotADirectory => "is not a directory",
                _ => "cannot be opened",
            };
            Error::io(format!("'{path}': the host directory '{shown}' {reason}"), error)
        };
        let root =
            Dir::open_ambient_dir(&directory, cap_std::ambient_authority()).map_err(failed)?;
        let stat = rustix::fs::fstat(&root).map_err(|errno| failed(errno.into()))?;
        let handle = open_child(&root, OsStr::new("."), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|errno| failed(errno.into()))?;
        let mount = Mount { root, path: path.clone(), identity: (stat.st_dev, stat.st_ino) };
        Ok(Self { mount: Arc::new(mount), handle: Arc::new(handle), path, below: PathBuf::new() })
    }

    /// Opens the directory for reading.
    fn open_list(&self) -> Result<OwnedFd> {
        open_child(&*self.handle, OsStr::new("."), OFlags::DIRECTORY)
            .map_err(|errno| Error::io(format!("'{}'", self.path), errno.into()))
    }

    pub fn open(&self, name: &str) -> Result<Option<Node>> {
        if check_name(name).is_err() {
            return Ok(None);
        }
        let Some(host_name) = unescape_name(name) else { return Ok(None) };
        let host_name = OsStr::from_bytes(&host_name);
        let path = self.path.child(name);
        let failed = |errno: Errno| Error::io(format!("'{path}'"), errno.into());
        let stat = match stat(&*self.handle, host_name) {
            Ok(stat) => stat,
            Err(errno) if is_gone(errno) || errno == Errno::NAMETOOLONG => return Ok(None),
            // It is the directory that does not let anyone in.
            Err(Errno::ACCESS) => {
                return Err(Error::io(format!("'{}'", self.path), Errno::ACCESS.into()));
            }
            Err(errno) => return Err(failed(errno)),
        };
        let below = self.below.join(host_name);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => self.open_link(path, below, host_name),
            FileType::Directory => {
                match open_child(&*self.handle, host_name, OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(handle) => Ok(Some(self.directory(path, below, handle))),
                    Err(errno) if is_gone(errno) => Ok(None),
                    Err(errno) => Err(failed(errno)),
                }
            }
            _ => Ok(Some(self.file(path, below, host_name, false))),
        }
    }

    /// Opens what the link `below` leads to.
    fn open_link(&self, path: PondPath, below: PathBuf, host_name: &OsStr) -> Result<Option<Node>> {
        let target = match rustix::fs::readlinkat(&*self.handle, host_name, Vec::new()) {
            Ok(target) => target,
            // It was a link a moment ago.
            Err(Errno::INVAL) => return self.open(path.name()),
            Err(errno) if is_gone(errno) => return Ok(None),
            Err(errno) => return Err(Error::io(format!("'{path}'"), errno.into())),
        };
        let failed = |error| self.mount.explain(&path, Some(target.to_bytes()), error);
        let handle = self.mount.resolve(&below, OFlags::PATH).map_err(failed)?;
        let stat = rustix::fs::fstat(&handle).map_err(|errno| failed(errno.into()))?;
        Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.directory(path, below, handle.into()),
            _ => self.file(path, below, host_name, true),
        }))
    }

    fn directory(&self, path: PondPath, below: PathBuf, handle: OwnedFd) -> Node {
        let mount = self.mount.clone();
        Node::Directory(Arc::new(HostDirectory { mount, handle: Arc::new(handle), path, below }))
    }

    fn file(&self, path: PondPath, below: PathBuf, host_name: &OsStr, is_link: bool) -> Node {
        Node::File(Arc::new(HostFile {
            mount: self.mount.clone(),
            parent: self.handle.clone(),
            host_name: PathBuf::from(host_name),
            path,
            below,
            is_link,
        }))
    }
}

#[async_trait]
impl Directory for HostDirectory {
    fn list(&self, fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let mut columns = vec!["name", "entry_type"];
        if fields.metadata {
            columns.extend(["size", "mtime", "mode", "error"]);
        }
        if fields.symlink_target {
            columns.push("symlink_target");
        }
        let schema = listing_schema();
        let walk = Walk {
            path: self.path.clone(),
            depth: 1,
            projection: columns
                .iter()
                .map(|name| schema.index_of(name).expect("a column of the listing"))
                .collect(),
            filter: None,
            glob: None,
            prune: Prune::default(),
            recursive: false,
            hidden: true,
            limit: None,
            partitions: 1,
            batch_rows: LIST_ROWS,
            counters: WalkCounters::default(),
        };
        let streams = match self.walk(&walk) {
            Some(Ok(streams)) => streams,
            Some(Err(error)) => return stream::once(async { Err(error) }).boxed(),
            None => Vec::new(),
        };
        stream::iter(streams)
            .flatten()
            .flat_map(|batch| {
                stream::iter(match batch {
                    Ok(batch) => entries(&batch).into_iter().map(Ok).collect(),
                    Err(error) => vec![Err(Error::from(error))],
                })
            })
            .boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        // Finding a name is quick, and a session may look up thousands; only a network or a sleeping
        // disk makes it wait.
        let (this, name) = (self.share(), name.to_owned());
        blocking(move || this.open(&name)).await
    }

    fn walk(&self, walk: &Walk) -> Option<Result<Vec<SendableRecordBatchStream>>> {
        Some(self.open_list().and_then(|fd| {
            let schema: SchemaRef = Arc::new(listing_schema().project(&walk.projection)?);
            let walker = Arc::new(Walker::new(walk.clone(), fd));
            Ok((0..walk.partitions.max(1))
                .map(|_| -> SendableRecordBatchStream {
                    let worker = WorkerStream::Waiting(walker.clone());
                    Box::pin(RecordBatchStreamAdapter::new(
                        schema.clone(),
                        worker.map(|batch| batch.map_err(Into::into)),
                    ))
                })
                .collect())
        }))
    }

    fn read_only(&self) -> Option<String> {
        Some(self.mount.describe())
    }
}

impl HostDirectory {
    fn share(&self) -> Self {
        Self {
            mount: self.mount.clone(),
            handle: self.handle.clone(),
            path: self.path.clone(),
            below: self.below.clone(),
        }
    }
}

/// One worker of a walk as a stream. Its thread starts when the stream is first polled, so that a
/// reader that takes one stream after the other still gets everything.
enum WorkerStream {
    Waiting(Arc<Walker>),
    Working(mpsc::Receiver<Result<RecordBatch>>),
}

impl Stream for WorkerStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Self::Waiting(walker) = &*self {
            let walker = walker.clone();
            let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
            tokio::task::spawn_blocking(move || walker.work(&mut Sender(sender)));
            *self = Self::Working(receiver);
        }
        match &mut *self {
            Self::Working(receiver) => receiver.poll_recv(cx),
            Self::Waiting(_) => Poll::Ready(None),
        }
    }
}

struct Sender(mpsc::Sender<Result<RecordBatch>>);

impl Sink for Sender {
    fn send(&mut self, batch: Result<RecordBatch>) -> bool {
        self.0.blocking_send(batch).is_ok()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Turns a batch of a walk into entries.
fn entries(batch: &RecordBatch) -> Vec<DirEntry> {
    let text = |name: &str, row: usize| {
        let column = batch.column_by_name(name)?.as_string_view();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let size = batch.column_by_name("size").map(|column| column.as_primitive::<Int64Type>());
    let mtime = batch
        .column_by_name("mtime")
        .map(|column| column.as_primitive::<TimestampMicrosecondType>());
    let mode = batch.column_by_name("mode").map(|column| column.as_primitive::<UInt32Type>());
    (0..batch.num_rows())
        .map(|row| DirEntry {
            name: text("name", row).unwrap_or_default(),
            entry_type: text("entry_type", row).and_then(|text| EntryType::parse_listed(&text)),
            dynamic: true,
            size: size.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
            mtime: mtime.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
            mode: mode.filter(|column| column.is_valid(row)).map(|column| column.value(row)),
            symlink_target: text("symlink_target", row),
            error: text("error", row),
            ..DirEntry::default()
        })
        .collect()
}

/// A file of a mount, or a FIFO, socket or device, which is listed and never opened.
#[derive(Debug, Clone)]
struct HostFile {
    mount: Arc<Mount>,
    parent: Arc<OwnedFd>,
    host_name: PathBuf,
    path: PondPath,
    below: PathBuf,
    /// Whether it is reached through a link within the mount.
    is_link: bool,
}

impl HostFile {
    fn stat(&self) -> Result<Stat> {
        let stat = if self.is_link {
            self.mount
                .resolve(&self.below, OFlags::PATH)
                .and_then(|file| rustix::fs::fstat(&file).map_err(Into::into))
        } else {
            stat(&*self.parent, self.host_name.as_os_str()).map_err(Into::into)
        };
        stat.map_err(|error| self.failed(error))
    }

    /// Opens it, if it is a regular file.
    fn open(&self) -> Result<HostHandle> {
        let kind = FileType::from_raw_mode(self.stat()?.st_mode);
        if kind != FileType::RegularFile {
            let kind = match kind {
                FileType::Fifo => "a FIFO",
                FileType::Socket => "a socket",
                FileType::CharacterDevice | FileType::BlockDevice => "a device",
                FileType::Directory => "a directory",
                _ => "no regular file",
            };
            return Err(Error::unsupported(format!("'{}' is {kind}", self.path))
                .with_hint("it is listed, but never opened"));
        }
        let file = if self.is_link {
            self.mount.open_file(&self.below)
        } else {
            open_child(&*self.parent, self.host_name.as_os_str(), OFlags::NONBLOCK | OFlags::NOCTTY)
                .map_err(std::io::Error::from)
                .map(HostHandle::from)
                .and_then(|file| check_regular(&file).map(|()| file))
        };
        file.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        let link = if self.is_link {
            rustix::fs::readlinkat(&*self.parent, &self.host_name, Vec::new()).ok()
        } else {
            None
        };
        self.mount.explain(&self.path, link.as_deref().map(std::ffi::CStr::to_bytes), error)
    }

    fn format(&self) -> Result<TableFormat> {
        TableFormat::of_name(self.path.name()).ok_or_else(|| {
            Error::unsupported(format!("'{}' is no table", self.path)).with_hint(
                "tables are called *.parquet, *.csv, *.tsv, *.json, *.jsonl, *.ndjson or *.arrow",
            )
        })
    }
}

#[async_trait]
impl File for HostFile {
    async fn metadata(&self) -> Result<DirEntry> {
        let this = self.clone();
        blocking(move || {
            let stat = this.stat()?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            let is_file = kind == FileType::RegularFile;
            let error = if is_file {
                let access = rustix::fs::Access::READ_OK;
                rustix::fs::accessat(&*this.parent, &this.host_name, access, AtFlags::EACCESS)
                    .err()
                    .filter(|errno| !is_gone(*errno) && !this.is_link)
            } else {
                None
            };
            Ok(DirEntry {
                name: this.path.name().to_owned(),
                entry_type: Some(if is_file { EntryType::FileData } else { EntryType::Special }),
                dynamic: true,
                size: Some(stat.st_size),
                mtime: Some(micros(
                    stat.st_mtime,
                    u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
                )),
                mode: Some(stat.st_mode & 0o7777),
                error: error.map(errno_text),
                ..DirEntry::default()
            })
        })
        .await
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let this = self.clone();
        let file = blocking(move || this.open()).await?;
        let path = self.path.clone();
        let bytes = store::read_all(Arc::new(file))
            .map(move |chunk| chunk.map_err(|error| Error::io(format!("'{path}'"), error)));
        Ok(Some(bytes.boxed()))
    }

    async fn host_file(&self) -> Result<Option<(HostHandle, u64)>> {
        let this = self.clone();
        blocking(move || {
            let file = this.open()?;
            let size = store::honest_size(&file).map_err(|error| this.failed(error))?;
            Ok(size.map(|size| (file, size)))
        })
        .await
    }

    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let source = self.source(Some(session), self.format()?).await?;
        open_table(session, vec![source]).await
    }

    async fn table_sources(&self, session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        Ok(Some(vec![self.source(Some(session), self.format()?).await?]))
    }

    async fn text_source(&self, session: Option<&dyn Session>) -> Result<Option<TableSource>> {
        let format = TableFormat::csv_of_name(self.path.name());
        self.source(session, format).await.map(Some)
    }
}

impl HostFile {
    async fn source(
        &self,
        session: Option<&dyn Session>,
        format: TableFormat,
    ) -> Result<TableSource> {
        let this = self.clone();
        let store = HostStore::new(self.mount.clone());
        let store_url = store.register(session)?;
        let object = blocking(move || {
            let file = this.open()?;
            store.keep(file, &this.below).map_err(|error| this.failed(error))
        })
        .await?;
        Ok(TableSource {
            path: self.path.clone(),
            store_url,
            object,
            format,
            known: None,
            inline: None,
            immutable: false,
            after: None,
            text: None,
        })
    }
}

fn open_child(parent: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent.as_fd(), name, flags, Mode::empty())
}

fn stat(parent: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    let parent: BorrowedFd<'_> = parent.as_fd();
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
}
