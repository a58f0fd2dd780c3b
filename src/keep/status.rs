//! How large what is: the sizes of a pond's parts, what is in it, and what housekeeping would do.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use futures::TryStreamExt;

use super::{Failure, Grace, Hash, last_failures, parse_hash};
use crate::entry::{EntryType, NodeId};
use crate::error::{Error, Result};
use crate::oplog::{CHECKPOINT_COMMITS, Scan};
use crate::pond::Pond;
use crate::snapshot::Snapshot;
use crate::store::list_dir;

/// What is in a pond, and how much room it takes. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The newest transaction.
    pub txn: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// The first transaction whose state can still be seen; 0 if no history was given up.
    pub expired_before: i64,
    /// Nodes in the tree.
    pub nodes: u64,
    /// Versions of contents, those of the past included.
    pub versions: u64,
    /// Size of the oplog.
    pub oplog_bytes: u64,
    /// Its data files.
    pub oplog_files: u64,
    /// Its data files that would be merged now.
    pub mergeable_files: u64,
    /// Commits since the last checkpoint.
    pub since_checkpoint: u64,
    /// Commits after which the next one comes.
    pub checkpoint_every: u64,
    /// Blobs that the newest snapshot shows.
    pub live_blobs: u64,
    /// Their size.
    pub live_bytes: u64,
    /// Blobs that only the past shows.
    pub past_blobs: u64,
    /// Their size.
    pub past_bytes: u64,
    /// Files that nothing needs.
    pub garbage_files: u64,
    /// Their size.
    pub garbage_bytes: u64,
    /// Size of the cache.
    pub cache_bytes: u64,
    /// Its files.
    pub cache_files: u64,
    /// Maintenance that failed, and has not succeeded since.
    pub failures: Vec<Failure>,
}

impl Pond {
    /// Takes stock.
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub async fn status(&self) -> Result<Status> {
        let table = self.table().await?;
        let snapshot = self.snapshot().await?;
        let mut status = Status {
            txn: snapshot.txn(),
            timestamp: snapshot.timestamp(),
            expired_before: table.expired().map_or(0, |expired| expired.before),
            oplog_files: table.files.len() as u64,
            mergeable_files: self.oplog().mergeable(&table).iter().flatten().count() as u64,
            since_checkpoint: table.since_checkpoint(),
            checkpoint_every: CHECKPOINT_COMMITS,
            versions: self.count_versions().await?,
            ..Status::default()
        };
        status.oplog_bytes = match self.dir() {
            Some(dir) => size_of_dir(&dir.join("oplog"))?.1,
            None => self.oplog().size_bytes().await?,
        };
        if let Some(dir) = self.cache_dir() {
            (status.cache_files, status.cache_bytes) = size_of_dir(dir)?;
            status.failures = last_failures(dir);
        }
        let mut live = Live::default();
        live.add_below(&snapshot, NodeId::ROOT)?;
        status.nodes = live.nodes;
        let garbage = self.find_garbage(Grace::default()).await?.into_garbage();
        let gone: HashSet<&Path> = garbage.iter().map(|file| file.path.as_path()).collect();
        status.garbage_files = garbage.len() as u64;
        status.garbage_bytes = garbage.iter().map(|file| file.size_bytes).sum();
        for blob in self.blobs().list().await? {
            let hash = blob.sha256.as_deref().and_then(parse_hash);
            let Some(hash) = hash.filter(|_| !gone.contains(blob.path.as_path())) else { continue };
            let (count, bytes) = if live.blobs.contains(&hash) {
                (&mut status.live_blobs, &mut status.live_bytes)
            } else {
                (&mut status.past_blobs, &mut status.past_bytes)
            };
            *count += 1;
            *bytes += blob.size_bytes;
        }
        Ok(status)
    }

    async fn count_versions(&self) -> Result<u64> {
        let mut newest: HashMap<NodeId, i64> = HashMap::new();
        let mut count = 0;
        let mut rows = self.rows(Scan::all().without_content().without_facts()).await?;
        while let Some(batch) = rows.try_next().await? {
            for row in batch.iter().filter(|row| row.entry_type.is_file() && !row.is_segment()) {
                if newest.insert(row.node_id, row.version) != Some(row.version) {
                    count += 1;
                }
            }
        }
        Ok(count)
    }
}

/// What the newest snapshot shows.
#[derive(Debug, Default)]
struct Live {
    nodes: u64,
    blobs: HashSet<Hash>,
}

impl Live {
    fn add_below(&mut self, snapshot: &Snapshot, directory: NodeId) -> Result<()> {
        let mut directories = vec![directory];
        while let Some(directory) = directories.pop() {
            for child in snapshot.children(directory) {
                let child = child?;
                self.nodes += 1;
                match child.entry_type {
                    EntryType::Directory => directories.push(child.node_id),
                    EntryType::FileSeries => {
                        let versions = snapshot.versions(child.node_id);
                        for row in versions.chain(snapshot.segments(child.node_id)) {
                            self.blobs.extend(row?.sha256.as_deref().and_then(parse_hash));
                        }
                    }
                    _ => self.blobs.extend(child.sha256.as_deref().and_then(parse_hash)),
                }
            }
        }
        Ok(())
    }
}

/// Returns the number and the size of all files below `dir`; zero if it does not exist.
fn size_of_dir(dir: &Path) -> Result<(u64, u64)> {
    let (mut count, mut size_bytes) = (0, 0);
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        let listed = list_dir(&at).map_err(|error| Error::io(at.display(), error))?;
        for (path, metadata) in listed {
            if metadata.is_dir() {
                waiting.push(path);
            } else {
                count += 1;
                size_bytes += metadata.len();
            }
        }
    }
    Ok((count, size_bytes))
}
