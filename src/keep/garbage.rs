//! Garbage: files that nothing needs, and their removal beside readers and writers.
//!
//! 1. What is there is listed, then the rows are read: what no row needs is a candidate. A blob that
//!    comes later is none.
//! 2. With the lock, nobody is between writing a blob and committing it ([`crate::blob`]): all commits
//!    that could name a candidate are there, and are read.
//! 3. What is still a candidate is deleted.
//!
//! So nothing that a commit names is ever deleted, however many write meanwhile. A reader finds what
//! its snapshot names, because that stays needed; but for versions that were merged since, which is
//! what the grace time is for.
//!
//! In memory there is one entry for each blob, and none for each row.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;

use super::{Hash, Merged, parse_hash};
use crate::blob::BlobFile;
use crate::entry::now_micros;
use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::oplog::{Scan, TableState};
use crate::policy::publish;
use crate::pond::Pond;
use crate::store::list_dir;

/// How long to wait for transactions under way.
const LOCK_WAIT: Duration = Duration::from_secs(60);

/// How long what is no longer needed is left alone, for those who still read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl Default for Grace {
    /// Five minutes.
    fn default() -> Self {
        Self(Duration::from_secs(5 * 60))
    }
}

/// Why a file is garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GarbageKind {
    /// A blob that no row needs.
    Blob,
    /// A file of the oplog that was merged, or whose commit never came.
    Oplog,
    /// What a writer left that was killed.
    Staging,
    /// A part of the cache that is no longer in use.
    Cache,
}

impl GarbageKind {
    /// Returns the word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blob => "blob",
            Self::Oplog => "oplog",
            Self::Staging => "staging",
            Self::Cache => "cache",
        }
    }
}

/// A file that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Why it is garbage.
    pub kind: GarbageKind,
}

/// Files that may be garbage.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    blobs: HashMap<Hash, BlobFile>,
    staged: Vec<BlobFile>,
    others: Vec<Garbage>,
    /// The newest transaction that was looked at.
    txn: i64,
}

impl Pond {
    /// Removes what nothing needs, and returns it, in the order of the paths. With `dry_run` it is
    /// only returned.
    ///
    /// # Errors
    /// `Conflict` if a transaction is under way that does not end; `Corrupt`, `Io`; `Refused` by a
    /// policy that is read-only, unless it is a `dry_run`.
    pub async fn collect_garbage(&self, grace: Grace, dry_run: bool) -> Result<Vec<Garbage>> {
        if !dry_run {
            self.policy().check_write("what the pond stores")?;
        }
        let mut candidates = self.find_garbage(grace).await?;
        if dry_run || candidates.is_empty() {
            return Ok(candidates.into_garbage());
        }
        let lock = self.blobs().lock(LOCK_WAIT).await?;
        let table = self.table().await?;
        let since = Scan::txns(candidates.txn + 1..=i64::MAX);
        candidates.drop_needed(self, &table, since, &Merged::default(), 0).await?;
        publish()?;
        for blob in candidates.blobs.values().chain(&candidates.staged) {
            self.blobs().delete(&lock, blob).await?;
        }
        lock.release().await;
        for file in &candidates.others {
            remove(&file.path)?;
        }
        Ok(candidates.into_garbage())
    }

    /// Returns what nothing needs at the moment.
    pub(super) async fn find_garbage(&self, grace: Grace) -> Result<Candidates> {
        let mut candidates = Candidates::default();
        for file in self.blobs().list().await? {
            match file.sha256.as_deref().and_then(parse_hash) {
                Some(hash) => drop(candidates.blobs.insert(hash, file)),
                None if is_staging(&file.path) => candidates.staged.push(file),
                // Whatever it is, it is not ours.
                None => {}
            }
        }
        let table = self.table().await?;
        candidates.txn = table.txn;
        let time = now_micros() - i64::try_from(grace.0.as_micros()).unwrap_or(i64::MAX);
        let merged = Merged::read(self.oplog(), &table.files).await?;
        candidates.drop_needed(self, &table, Scan::all(), &merged, time).await?;
        if let Some(dir) = self.dir() {
            candidates.others = leftovers_of_oplog(dir, &table, grace.0)?;
        }
        if let Some(dir) = self.cache_dir() {
            candidates.others.extend(leftovers_of_cache(dir, grace.0)?);
        }
        Ok(candidates)
    }
}

impl Candidates {
    fn is_empty(&self) -> bool {
        self.blobs.is_empty() && self.staged.is_empty() && self.others.is_empty()
    }

    /// Strikes out the blobs that rows need.
    async fn drop_needed(
        &mut self,
        pond: &Pond,
        table: &TableState,
        scan: Scan,
        merged: &Merged,
        time: i64,
    ) -> Result<()> {
        let mut rows = pond.oplog().rows(&table.files, scan.without_content().without_facts());
        while let Some(batch) = rows.try_next().await? {
            for row in batch.iter().filter(|row| !row.deleted) {
                let Some(hash) = row.sha256.as_deref().and_then(parse_hash) else { continue };
                if self.blobs.contains_key(&hash) && !merged.covers(row, time)? {
                    self.blobs.remove(&hash);
                }
            }
        }
        Ok(())
    }

    /// Returns them all, in the order of the paths.
    pub(super) fn into_garbage(self) -> Vec<Garbage> {
        let garbage = |kind| {
            move |file: BlobFile| Garbage { path: file.path, size_bytes: file.size_bytes, kind }
        };
        let mut all: Vec<Garbage> =
            self.blobs.into_values().map(garbage(GarbageKind::Blob)).collect();
        all.extend(self.staged.into_iter().map(garbage(GarbageKind::Staging)));
        all.extend(self.others);
        all.sort_by(|one, other| one.path.cmp(&other.path));
        all
    }
}

/// Returns what killed writers and finished merges left in the oplog.
fn leftovers_of_oplog(dir: &Path, table: &TableState, grace: Duration) -> Result<Vec<Garbage>> {
    let mut found = Vec::new();
    for file in files_in(&dir.join("oplog"))? {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if is_staging(&file.path) && file.age >= grace {
            found.push(file.garbage(GarbageKind::Staging));
        } else if table.is_disposable(&name, file.age) {
            found.push(file.garbage(GarbageKind::Oplog));
        }
    }
    for file in files_in(&dir.join("oplog/_delta_log"))? {
        if is_staging(&file.path) && file.age >= grace {
            found.push(file.garbage(GarbageKind::Staging));
        }
    }
    Ok(found)
}

/// Returns what is no longer in use in the cache.
fn leftovers_of_cache(dir: &Path, grace: Duration) -> Result<Vec<Garbage>> {
    let mut found = Vec::new();
    let namespace = dir.join("namespace");
    let in_use = Namespace::new(namespace.clone()).in_use();
    for file in files_in(&namespace)? {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        if !in_use.contains(name.as_ref()) && file.age >= grace {
            found.push(file.garbage(GarbageKind::Cache));
        }
    }
    Ok(found)
}

/// A file in a directory of the pond.
struct Found {
    path: PathBuf,
    size_bytes: u64,
    age: Duration,
}

impl Found {
    fn garbage(&self, kind: GarbageKind) -> Garbage {
        Garbage { path: self.path.clone(), size_bytes: self.size_bytes, kind }
    }
}

/// Returns the files in `dir`, without those below; none if it does not exist.
fn files_in(dir: &Path) -> Result<Vec<Found>> {
    let failed = |error| Error::io(dir.display(), error);
    let now = SystemTime::now();
    let mut files = Vec::new();
    for (path, metadata) in list_dir(dir).map_err(failed)? {
        if metadata.is_file() {
            let modified = metadata.modified().map_err(failed)?;
            let age = now.duration_since(modified).unwrap_or_default();
            files.push(Found { path, size_bytes: metadata.len(), age });
        }
    }
    Ok(files)
}

/// Whether a file's name is one that the store gives to what is being written.
pub(super) fn is_staging(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.rsplit_once('#').is_some_and(|(_, digits)| {
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(path.display(), error))
        }
        _ => Ok(()),
    }
}
