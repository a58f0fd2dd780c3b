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
mod later;
mod report;

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

pub use answers::{Answer, AnswerFile, Ready, SourceVersion};
use conversions::Conversions;
pub use conversions::{
    CONVERTER, Conversion, ConvertedFile, KeptConversion, KeptFile, NewFile, Prefix,
    SourceIdentity, conversion_key,
};
use later::Later;
use report::Report;
pub use report::{Observer, Progress, Told};

use crate::error::{Error, ErrorKind, Result};
use crate::path::PondPath;
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
    later: Arc<Later>,
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

impl Cache {
    /// Returns all that is kept, in the order of the nodes that show it.
    ///
    /// # Errors
    /// `Corrupt` if what is said of a file is damaged; `Io`.
    pub fn entries(&self) -> Result<Vec<CacheEntry>> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut all = Vec::new();
        for (key, answer) in self.answers()? {
            all.push(CacheEntry {
                kind: CacheKind::Answer,
                source: None,
                built_at: answer.built_at,
                checked_at: Some(answer.checked_at),
                txn: Some(answer.txn),
                rows: answer.rows()?,
                rejected: None,
                files: answer.files.len(),
                size: answer.size(),
                hits: None,
                used_at: None,
                key,
                path: answer.path,
            });
        }
        for kept in self.conversions()? {
            all.push(CacheEntry {
                kind: CacheKind::Csv,
                built_at: kept.converted_at,
                checked_at: None,
                txn: None,
                rows: number(kept.rows),
                rejected: Some(number(kept.rejected)),
                files: kept.files.len(),
                size: number(kept.size()),
                hits: Some(number(kept.hits)),
                used_at: Some(kept.used_at),
                source: Some(kept.path),
                key: kept.key,
                path: kept.shown_as,
            });
        }
        all.sort_by(|one, other| {
            (&one.path, one.built_at, &one.key).cmp(&(&other.path, other.built_at, &other.key))
        });
        Ok(all)
    }

    /// Forgets all that is kept of a node at `path` or below, or that was made from a text there;
    /// without a path, everything. Returns how many bytes that freed.
    ///
    /// What is being made at this moment stays. A query that is reading what goes ends in an error
    /// that says so, and may be run again: whoever clears wants the room now.
    ///
    /// # Errors
    /// `Io`.
    pub fn clear(&self, path: Option<&PondPath>) -> Result<u64> {
        Ok(self.clear_answers(path)? + self.clear_conversions(path)?)
    }
}

/// What is kept, whatever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEntry {
    /// The node that shows it; of a text, the one that it was converted for.
    pub path: String,
    /// The text that was converted.
    pub source: Option<String>,
    /// What it is.
    pub kind: CacheKind,
    /// When it was made, microseconds since 1970 UTC.
    pub built_at: i64,
    /// When it was last known to be what its sources say, microseconds since 1970 UTC. A conversion is
    /// compared with its text whenever it is used.
    pub checked_at: Option<i64>,
    /// The transaction that it is as of; a conversion is of none.
    pub txn: Option<i64>,
    /// How many rows it has.
    pub rows: i64,
    /// Records that were left out of a conversion, and values that became null.
    pub rejected: Option<i64>,
    /// How many files it has.
    pub files: usize,
    /// Their size in bytes.
    pub size: i64,
    /// How often a conversion was used.
    pub hits: Option<i64>,
    /// When a conversion was used last, microseconds since 1970 UTC; making it counts.
    pub used_at: Option<i64>,
    /// What it is kept under.
    pub key: String,
}

/// What the cache keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheKind {
    /// The rows of a derived node.
    Answer,
    /// The rows of a CSV text.
    Csv,
}

impl CacheKind {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Csv => "csv",
        }
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
///
/// Files are dear to make, and this one may become what is kept: then the right ends with that.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Closing it unlocks.
    file: File,
    is_spent: AtomicBool,
}

impl Lock {
    /// Takes it, unless somebody has it.
    fn attempt(path: &Path) -> io::Result<Option<Self>> {
        let file = open_locked(path, FlockOperation::NonBlockingLockExclusive)?;
        Ok(file.map(|file| Self { path: path.to_owned(), file, is_spent: AtomicBool::new(false) }))
    }

    /// Makes the file of the lock one called `dest` that holds `bytes`, in the place of the one before.
    fn become_file(&self, dest: &Path, bytes: &[u8]) -> io::Result<FileId> {
        if self.is_spent.load(Ordering::Acquire) {
            return Err(io::Error::other("the lock was used before"));
        }
        // Whoever had it before may have been killed here.
        if self.file.metadata()?.len() > 0 {
            self.file.set_len(0)?;
        }
        (&self.file).write_all(bytes)?;
        std::fs::rename(&self.path, dest)?;
        self.is_spent.store(true, Ordering::Release);
        Ok(FileId::of(&self.file.metadata()?))
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

impl Drop for Lock {
    fn drop(&mut self) {
        if !self.is_spent.load(Ordering::Acquire) && is_named(&self.file, &self.path) {
            // The next one to have it would remove it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn is_named(file: &File, path: &Path) -> bool {
    let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let named = std::fs::metadata(path).map(id).ok();
    named.is_some() && named == file.metadata().map(id).ok()
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
        if is_named(&file, path) {
            return Ok(Some(file));
        }
    }
}
