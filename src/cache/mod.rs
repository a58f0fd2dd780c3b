//! The cache directory: derived files that may be deleted at any moment.
//!
//! | folder | what | is valid while |
//! |---|---|---|
//! | `cache/derived/` | [answers](Answer): the rows that derived nodes showed | its interval lasts |
//! | `cache/csv/` | [conversions](Conversion): texts as Parquet | the text is the same |
//!
//! Both work alike. What is kept under a key is told by a `.json`, and is published by the rename
//! that puts it in place, when its files are whole: a reader sees the one before or the one after.
//! Whoever makes it holds a [`Lock`], across processes. Files that nothing names any more are removed
//! by whoever publishes next, after a grace time for those who planned with them; `pond gc` does the
//! same.

mod answers;
mod conversions;
mod report;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use answers::{Answer, AnswerFile, Ready, SourceVersion};
use conversions::Conversions;
pub use conversions::{
    CONVERTER, Conversion, ConvertedFile, KeptConversion, NewFile, Prefix, SourceIdentity,
    conversion_key,
};
use report::Report;
pub use report::{Converting, Observer, Progress};

use crate::error::{Error, ErrorKind, Result};
use crate::store::{Durability, create_dirs};

/// How long files stay that nothing names any more: queries that were planned with them may run.
const FILES_GRACE: Duration = Duration::from_secs(600);
/// How long to wait at first between two attempts at a lock, and at most.
const LOCK_POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Where derived files of a pond are kept.
#[derive(Debug, Default)]
pub struct Cache {
    dir: Option<PathBuf>,
    ready: Mutex<HashMap<String, (FileId, Ready)>>,
    conversions: Option<Conversions>,
    report: Report,
}

impl Cache {
    /// A cache in `dir`, an absolute path, which is made on first use.
    pub fn at(dir: PathBuf) -> Self {
        let conversions = Some(Conversions::at(dir.join("csv")));
        Self { dir: Some(dir), conversions, ..Self::default() }
    }

    /// No cache: a transient pond has no place for one.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the directory, if there is one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
}

fn no_cache() -> Error {
    Error::unsupported("a pond in memory has no cache")
}

/// What tells a file, and its content, from the next of that name, as far as the host can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct FileId {
    device: u64,
    inode: u64,
    size: u64,
    /// When its content was changed last, nanoseconds since 1970 UTC.
    modified: i64,
    /// When anything of it was changed last, nanoseconds since 1970 UTC.
    changed: i64,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self::of(&std::fs::metadata(path)?))
    }
}

/// The right to make what is kept under one key anew; nobody else has it, in this process or
/// another. It ends with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing it unlocks.
    _file: File,
}

impl Lock {
    /// Takes it, unless somebody has it.
    fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let file = open_locked(path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file.map(|file| Self { path: path.to_owned(), _file: file }))
    }

    /// Waits for it, at most for `longest`; without, for as long as its holder lives.
    ///
    /// # Errors
    /// `Conflict` if somebody has it for longer; `Io`.
    async fn wait(path: &Path, longest: Option<Duration>) -> Result<Self> {
        let failed = |error| Error::io(path.display(), error);
        let until = longest.map(|longest| tokio::time::Instant::now() + longest);
        let (mut poll, poll_max) = LOCK_POLL;
        loop {
            let attempt = match Self::attempt(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let dir = path.parent().expect("a lock is in a directory");
                    create_dirs(dir, Durability::Process).map_err(failed)?;
                    Self::attempt(path)
                }
                attempt => attempt,
            };
            if let Some(lock) = attempt.map_err(failed)? {
                return Ok(lock);
            }
            if until.is_some_and(|until| tokio::time::Instant::now() >= until) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("'{}' is held by another process for long", path.display()),
                ));
            }
            tokio::time::sleep(poll).await;
            poll = poll_max.min(poll * 2);
        }
    }
}

/// Opens a file to append to it, and to read it, with a lock on it; `None` if another has one.
fn open_locked(path: &Path, operation: FlockOperation) -> io::Result<Option<File>> {
    loop {
        let file = File::options().create(true).append(true).read(true).open(path)?;
        match rustix::fs::flock(&file, operation) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // It may have been removed or replaced since: then a lock on it is one on nothing.
        let named = std::fs::metadata(path);
        let opened = file.metadata()?;
        if named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())) {
            return Ok(Some(file));
        }
    }
}
