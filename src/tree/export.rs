//! Exporting: files and directories of the pond are copied to the host.
//!
//! Bytes come out as they went in; what has rows only, a series or a view, comes out as one Parquet
//! file. A file is written beside its place and takes it when it is whole. Everything is written
//! through the directory above it, and no link on the host is followed below the target: what is in
//! the pond cannot lead a copy out of the directory it was meant for.
//!
//! What would be overwritten is found out before anything is written. A node that cannot be read is
//! told, and breaks nothing beside it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::walk::{Engine, Found, FoundFile, Skipped, Walk};
use crate::blob::read_file;
use crate::error::{Error, ErrorKind, Result};
use crate::format;
use crate::node::{Directory, Node, resolve};
use crate::path::{PondPath, host_bytes};
use crate::policy::{Access, Policy};
use crate::progress::Progress;
use crate::store::{Durability, Staged, copy_in_kernel};

/// Bytes copied in the kernel at once.
const COPY_BYTES: u64 = 8 << 20;

/// What is to be copied to the host.
#[derive(Debug)]
pub struct Export {
    /// What is copied, and where to. Directories that are there are added to.
    pub sources: Vec<ExportSource>,
    /// Whether files that are there are replaced.
    pub overwrite: bool,
    /// Told how far it has come.
    pub progress: Arc<Progress>,
    /// Reads what has rows only.
    pub engine: Engine,
    /// Where on the host it may write: the tree's policy.
    pub policy: Policy,
}

/// One thing to be copied.
#[derive(Debug)]
pub struct ExportSource {
    /// A root of the pond, of now or then.
    pub root: Arc<dyn Directory>,
    /// What is copied; a link is followed.
    pub path: PondPath,
    /// Its name and place on the host. Directories above it are made.
    pub to: PathBuf,
}

/// What an export did.
#[derive(Debug, Default)]
pub struct Exported {
    /// How many files were written.
    pub files: u64,
    /// What cannot be on the host: FIFOs of mounts, links that lead nowhere.
    pub skipped: Vec<Skipped>,
    /// Why what could not be read could not; each error names the path.
    pub failed: Vec<Error>,
}

impl Export {
    /// Copies.
    ///
    /// # Errors
    /// `Refused` by the policy; `NotFound`; `AlreadyExists` for a file that is there, unless `overwrite`; `Invalid` where a
    /// directory would be written through a link; `Io`.
    pub async fn run(self) -> Result<Exported> {
        for source in &self.sources {
            self.policy.check_host(&source.to, Access::Write)?;
        }
        for source in &self.sources {
            self.check(source).await?;
        }
        let mut exporter = Exporter {
            overwrite: self.overwrite,
            progress: self.progress,
            engine: self.engine,
            done: Exported::default(),
        };
        for source in &self.sources {
            exporter.copy(source).await?;
        }
        Ok(exporter.done)
    }

    /// Looks for what is in the way, and adds up sizes.
    async fn check(&self, source: &ExportSource) -> Result<()> {
        let mut walk = Items::open(source).await?;
        while let Some(found) = walk.next().await? {
            let (path, is_directory) = match &found {
                Found::Directory(path) => (path, true),
                Found::File(file) => {
                    let size = file.size.and_then(|size| u64::try_from(size).ok());
                    self.progress.expect_bytes(size.unwrap_or(0));
                    (&file.path, false)
                }
                Found::Link { path, .. } => (path, false),
                Found::Skipped(_) | Found::Broken(_) => continue,
            };
            let to = host_path(&source.to, path);
            match std::fs::symlink_metadata(&to) {
                Err(_) => {}
                Ok(there) if is_directory && there.is_dir() => {}
                Ok(_) if is_directory => return Err(not_a_directory(&to)),
                Ok(there) if there.is_dir() => {
                    return Err(Error::invalid(format!("'{}' is a directory", to.display())));
                }
                Ok(_) if self.overwrite => {}
                Ok(_) => {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("'{}' already exists", to.display()),
                    )
                    .with_hint("to replace what is there: --force"));
                }
            }
        }
        Ok(())
    }
}

/// Streams the bytes of a file or, where it has none, its rows as Parquet.
///
/// # Errors
/// `NotFound`; `Unsupported` for a directory.
pub async fn read_node(
    root: &Arc<dyn Directory>,
    path: &PondPath,
    engine: &Engine,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let Node::File(file) = resolve(root, path).await? else {
        return Err(Error::unsupported(format!("'{path}' is a directory")));
    };
    match file.bytes().await? {
        Some(bytes) => Ok(bytes),
        None => format::read(&*file, engine.session()?).await,
    }
}

/// What there is to copy for one source.
struct Items {
    first: Option<Found>,
    walk: Option<Walk>,
}

impl Items {
    async fn open(source: &ExportSource) -> Result<Self> {
        let ExportSource { root, path, .. } = source;
        Ok(match resolve(root, path).await? {
            Node::Directory(directory) => Self {
                first: Some(Found::Directory(PondPath::root())),
                walk: Some(Walk::of_pond(path.clone(), root.clone(), directory).await?),
            },
            Node::File(file) => {
                Self { first: Some(Found::File(FoundFile::alone(file).await?)), walk: None }
            }
            Node::Symlink(target) => {
                return Err(Error::not_found(format!("'{path}' links to '{target}'")));
            }
        })
    }

    async fn next(&mut self) -> Result<Option<Found>> {
        match (self.first.take(), &mut self.walk) {
            (Some(first), _) => Ok(Some(first)),
            (None, Some(walk)) => walk.next().await,
            (None, None) => Ok(None),
        }
    }
}

struct Exporter {
    overwrite: bool,
    progress: Arc<Progress>,
    engine: Engine,
    done: Exported,
}

impl Exporter {
    async fn copy(&mut self, source: &ExportSource) -> Result<()> {
        // The directory above the target, and those below it on the way to what was found last.
        let mut above: Vec<HostDir> = vec![HostDir::above(&source.to)?];
        let mut items = Items::open(source).await?;
        while let Some(found) = items.next().await? {
            let path = match &found {
                Found::Directory(path) | Found::Link { path, .. } => path.clone(),
                Found::File(file) => file.path.clone(),
                Found::Skipped(skipped) => {
                    self.done.skipped.push(skipped.clone());
                    continue;
                }
                Found::Broken(error) => {
                    self.fail(&source.path, error);
                    continue;
                }
            };
            above.truncate(path.names().count() + 1);
            let parent = above.last().expect("the directory above the target");
            let name = match path.is_root() {
                true => source.to.file_name().unwrap_or_default().as_bytes().to_vec(),
                false => host_bytes(path.name()),
            };
            match found {
                Found::Directory(_) => {
                    let directory = parent.enter(&name)?;
                    above.push(directory);
                }
                Found::Link { target, .. } => {
                    parent.link(&name, &host_bytes(&target), self.overwrite)?;
                }
                Found::File(file) => self.file(source, &file, parent, &name).await?,
                Found::Skipped(_) | Found::Broken(_) => {}
            }
        }
        Ok(())
    }

    /// Copies a file. That it cannot be read is told and not an error; that the copy cannot be
    /// written is one.
    async fn file(
        &mut self,
        source: &ExportSource,
        file: &FoundFile,
        parent: &HostDir,
        name: &[u8],
    ) -> Result<()> {
        let from = match self.open(file).await {
            Ok(Some(from)) => from,
            // It has gone since it was listed.
            Ok(None) => return Ok(()),
            Err(error) => {
                self.fail(&source.path.append(&file.path), &error);
                return Ok(());
            }
        };
        let mut staged = parent.stage(name)?;
        let mut bytes = match from {
            Contents::Bytes(bytes) => bytes,
            Contents::HostFile(host_file, size) => {
                let (rest, copy) = staged.copy(host_file, size, self.progress.clone()).await?;
                staged = copy;
                rest
            }
        };
        loop {
            let chunk = match bytes.try_next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    self.fail(&source.path.append(&file.path), &error);
                    return Ok(());
                }
            };
            self.progress.add_bytes(chunk.len() as u64);
            staged = staged.write(chunk).await?;
        }
        staged.publish(self.overwrite).await?;
        self.done.files += 1;
        Ok(())
    }

    async fn open(&self, file: &FoundFile) -> Result<Option<Contents>> {
        let Some(file) = file.open().await? else { return Ok(None) };
        if let Some((host_file, size)) = file.host_file().await? {
            return Ok(Some(Contents::HostFile(host_file, size)));
        }
        Ok(Some(Contents::Bytes(match file.bytes().await? {
            Some(bytes) => bytes,
            None => format::read(&*file, self.engine.session()?).await?,
        })))
    }

    fn fail(&mut self, path: &PondPath, error: &Error) {
        let path = format!("'{path}'");
        let is_named = error.to_string().starts_with(&path);
        let error = error.restate();
        self.done.failed.push(if is_named { error } else { error.context(path) });
    }
}

/// Where the bytes of a copy come from.
enum Contents {
    Bytes(BoxStream<'static, Result<Bytes>>),
    /// So many of a file.
    HostFile(std::fs::File, u64),
}

/// A directory of the host that is written to.
struct HostDir {
    fd: OwnedFd,
    path: PathBuf,
}

impl HostDir {
    /// Opens the directory above `target`, making it and those above it.
    fn above(target: &Path) -> Result<Self> {
        let path = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let failed = |error| Error::io(format!("'{}'", path.display()), error);
        std::fs::create_dir_all(&path).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .map_err(|errno| failed(errno.into()))?;
        Ok(Self { fd, path })
    }

    /// Opens the directory `name`, making it; a link is not followed.
    fn enter(&self, name: &[u8]) -> Result<Self> {
        let path = self.child(name);
        let failed = |errno: Errno| Error::io(format!("'{}'", path.display()), errno.into());
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Ok(Self { fd, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(not_a_directory(&path)),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn link(&self, name: &[u8], target: &[u8], overwrite: bool) -> Result<()> {
        let made = match rustix::fs::symlinkat(target, &self.fd, name) {
            Err(Errno::EXIST) if overwrite => {
                let beside = [name, b"#link"].concat();
                rustix::fs::symlinkat(target, &self.fd, &*beside)
                    .and_then(|()| rustix::fs::renameat(&self.fd, &*beside, &self.fd, name))
                    .inspect_err(|_| {
                        let _ = rustix::fs::unlinkat(&self.fd, &*beside, AtFlags::empty());
                    })
            }
            made => made,
        };
        made.map_err(|errno| Error::io(format!("'{}'", self.child(name).display()), errno.into()))
    }

    /// Begins a file that will be called `name`.
    fn stage(&self, name: &[u8]) -> Result<StagedFile> {
        let path = self.child(name);
        let fd = self.fd.as_fd().try_clone_to_owned();
        let staged = fd.and_then(|directory| {
            // However the directory's own path changes meanwhile, this is the directory.
            let below = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let to = Path::new(&below).join(OsStr::from_bytes(name));
            // As with `cp`: the copy is the system's to keep.
            let staged = Staged::create(to.clone(), Durability::Process)?;
            Ok(StagedFile { staged, to, _directory: directory, path: path.clone() })
        });
        staged.map_err(|error| Error::io(format!("'{}'", path.display()), error))
    }

    fn child(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

/// A file that is being written.
struct StagedFile {
    staged: Staged,
    /// Its place, through the open directory.
    to: PathBuf,
    _directory: OwnedFd,
    /// Its place, for errors.
    path: PathBuf,
}

impl StagedFile {
    async fn write(mut self, chunk: Bytes) -> Result<Self> {
        use std::io::Write;
        let path = self.path.clone();
        let written = spawn_blocking(move || self.staged.file().write_all(&chunk).map(|()| self));
        done(&path, written.await)
    }

    /// Copies `size` bytes of a file in the kernel and returns what is left to be copied: nothing or,
    /// where the kernel cannot, all of it.
    async fn copy(
        mut self,
        from: std::fs::File,
        size: u64,
        progress: Arc<Progress>,
    ) -> Result<(BoxStream<'static, Result<Bytes>>, Self)> {
        let path = self.path.clone();
        let copied = spawn_blocking(move || {
            let mut at = 0;
            while at < size {
                let length = (size - at).min(COPY_BYTES);
                match copy_in_kernel(&from, self.staged.file(), at, length)? {
                    None | Some(0) if at == 0 => return Ok((read_file(from), self)),
                    None | Some(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    Some(count) => {
                        at += count;
                        progress.add_bytes(count);
                    }
                }
            }
            Ok((stream::empty().boxed(), self))
        });
        done(&path, copied.await)
    }

    async fn publish(self, overwrite: bool) -> Result<()> {
        let Self { staged, to, path, _directory } = self;
        let published = spawn_blocking(move || {
            let published = staged.publish_as(to, overwrite);
            drop(_directory);
            published
        });
        done(&path, published.await)
    }
}

fn done<T>(path: &Path, result: Result<std::io::Result<T>, tokio::task::JoinError>) -> Result<T> {
    let result = result.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    result.map_err(|error| Error::io(format!("'{}'", path.display()), error))
}

fn host_path(target: &Path, path: &PondPath) -> PathBuf {
    path.names().fold(target.to_owned(), |to, name| to.join(OsStr::from_bytes(&host_bytes(name))))
}

fn not_a_directory(path: &Path) -> Error {
    Error::invalid(format!("'{}' is not a directory", path.display()))
        .with_hint("a link is not followed there; move it away, or choose another target")
}
