//! Checking a pond: everything that is stored is read and compared with what was written.
//!
//! | what | against what |
//! |---|---|
//! | each file of the log and of the table | the CRC in itself, or in the log |
//! | each row | its node's other rows, its directory, the hash of its bytes |
//! | each blob | its name, which is its SHA-256 |
//! | each reference to a blob | the blob, and its size |
//!
//! The cache is left out: it is checked whenever it is used. Files that nothing needs are no damage;
//! [`Pond::collect_garbage`](crate::pond::Pond::collect_garbage) finds them.
//!
//! Rows and files stream; in memory there is one entry for each node, and one for each blob. Blobs are
//! hashed by as many threads as there are processors.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::garbage::is_staging;
use super::{Hash, Merged, parse_hash};
use crate::blob::{BlobFile, Blobs, sha256};
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, Result};
use crate::location::Location;
use crate::oplog::{DataFile, Oplog, Scan};
use crate::pond::{PondOptions, local_stores, remote_stores};

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Rows of the oplog.
    pub rows: u64,
    /// Nodes that there ever were.
    pub nodes: u64,
    /// Blobs.
    pub blobs: u64,
    /// Their size in bytes.
    pub blob_bytes: u64,
}

/// Checks the pond at `location`, also one that cannot be opened. `found` is told of each thing that is
/// wrong: an error that names the file or the node.
///
/// # Errors
/// `NotFound` if there is no pond; `Io` if something cannot be listed.
pub async fn check(location: impl Into<Location>, mut found: impl FnMut(Error)) -> Result<Checked> {
    let (oplog, blobs) = match location.into() {
        Location::Local(dir) => {
            let failed = |error| Error::io(format!("'{}'", dir.display()), error);
            let dir = dir.canonicalize().map_err(failed)?;
            local_stores(&dir, PondOptions::default())?
        }
        Location::Remote(remote) => remote_stores(&remote)?,
    };
    let mut rows = Rows::default();
    // Without the log nothing says which rows there are; blobs say themselves what they are.
    if let Some((table, whole)) = oplog.check(&mut found).await? {
        rows.are_all = whole.len() == table.files.len();
        rows.read(&oplog, &whole, &mut found).await?;
        rows.check_parents(&mut found);
    }
    let mut checked =
        Checked { rows: rows.count, nodes: rows.nodes.len() as u64, ..Checked::default() };
    check_blobs(&blobs, rows.needed, &mut checked, &mut found).await?;
    Ok(checked)
}

/// What the rows said so far.
#[derive(Default)]
struct Rows {
    /// Whether no file of the table is damaged, so that no row is missing.
    are_all: bool,
    count: u64,
    nodes: HashMap<NodeId, Known>,
    /// Directories of rows that came before theirs, with such a row.
    awaited: HashMap<NodeId, String>,
    needed: HashMap<Hash, Needed>,
}

struct Known {
    version: i64,
    is_directory: bool,
}

/// A blob that a row names.
struct Needed {
    size: i64,
    by: String,
}

impl Rows {
    async fn read(
        &mut self,
        oplog: &Oplog,
        files: &[DataFile],
        found: &mut impl FnMut(Error),
    ) -> Result<()> {
        let merged = match Merged::read(oplog, files).await {
            Ok(merged) => merged,
            Err(error) => {
                found(error);
                return Ok(());
            }
        };
        let mut rows = oplog.rows(files, Scan::all());
        loop {
            match rows.try_next().await {
                Ok(Some(batch)) => {
                    for row in &batch {
                        self.check(row, &merged, found);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.are_all = false;
                    found(error);
                    return Ok(());
                }
            }
        }
    }

    fn check(&mut self, row: &OplogEntry, merged: &Merged, found: &mut impl FnMut(Error)) {
        self.count += 1;
        let mut wrong = |problem: &str| found(Error::corrupt(format!("{}: {problem}", label(row))));
        for json in [&row.arrow_schema, &row.statistics, &row.attributes].into_iter().flatten() {
            if serde_json::from_str::<serde::de::IgnoredAny>(json).is_err() {
                wrong("what it says of its table is damaged");
            }
        }
        if let (Some(content), Some(hash)) = (&row.content, &row.sha256)
            && (sha256(content) != *hash || row.size != i64::try_from(content.len()).ok())
        {
            wrong("its bytes are not those that were written");
        }
        let is_merged = match row.segment() {
            Ok(segment) => {
                if segment.is_some_and(|segment| segment.from < 1 || segment.to < segment.from) {
                    wrong("it merges no versions");
                }
                merged.covers(row, i64::MAX).unwrap_or(false)
            }
            Err(_) => {
                wrong("which versions it merges is damaged");
                false
            }
        };
        if let (Some(hash), None, false, false) =
            (&row.sha256, &row.content, row.deleted, is_merged)
        {
            match (parse_hash(hash), row.size) {
                (Some(hash), Some(size)) => {
                    let needed = self.needed.entry(hash);
                    let needed = needed.or_insert_with(|| Needed { size, by: label(row) });
                    if needed.size != size {
                        wrong("another row gives its blob another size");
                    }
                }
                _ => wrong("which blob it needs is damaged"),
            }
        }
        if row.is_segment() || !self.are_all {
            return;
        }
        let first = if row.entry_type == EntryType::FileSeries { 1 } else { row.version.max(1) };
        match self.nodes.get(&row.node_id) {
            Some(before) if row.version - before.version > 1 || row.version < before.version => {
                wrong(&format!("version {} follows {}", row.version, before.version));
            }
            None if row.version != first && !row.deleted => {
                wrong(&format!("its first version is {}", row.version));
            }
            _ => {}
        }
        let is_directory = row.entry_type == EntryType::Directory;
        self.nodes.insert(row.node_id, Known { version: row.version, is_directory });
        if row.parent_id != NodeId::ROOT
            && !self.nodes.get(&row.parent_id).is_some_and(|parent| parent.is_directory)
        {
            self.awaited.entry(row.parent_id).or_insert_with(|| label(row));
        }
    }

    /// Checks that all directories are there. Where history was given up, a directory's row may be
    /// newer than those of what is in it.
    fn check_parents(&self, found: &mut impl FnMut(Error)) {
        for (parent, row) in self.awaited.iter().filter(|_| self.are_all) {
            if !self.nodes.get(parent).is_some_and(|parent| parent.is_directory) {
                found(Error::corrupt(format!("{row}: the directory that holds it is missing")));
            }
        }
    }
}

/// Names a row.
fn label(row: &OplogEntry) -> String {
    format!("'{}' of transaction {}", row.name, row.txn)
}

/// Compares all blobs with their names, and those that are needed with what is needed.
async fn check_blobs(
    blobs: &Blobs,
    mut needed: HashMap<Hash, Needed>,
    checked: &mut Checked,
    found: &mut impl FnMut(Error),
) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    // A blob is there before the row that names it, so none that is needed can come later.
    let mut verified = futures::stream::iter(blobs.list().await?)
        .map(|file| async { (verify(blobs.clone(), &file).await, file) })
        .buffer_unordered(threads);
    while let Some((verified, file)) = verified.next().await {
        let place = file.path.display();
        let Some(hash) = file.sha256.as_deref().and_then(parse_hash) else {
            if !is_staging(&file.path) {
                found(Error::corrupt(format!("'{place}' is no blob")));
            }
            continue;
        };
        checked.blobs += 1;
        checked.blob_bytes += file.size_bytes;
        let needed = needed.remove(&hash);
        match (verified, needed) {
            (Err(error), Some(needed)) => {
                found(error.context(format!("'{place}', for {}", needed.by)))
            }
            (Err(error), None) => found(error.context(format!("'{place}', which nothing needs"))),
            (Ok(()), Some(needed)) if i64::try_from(file.size_bytes) != Ok(needed.size) => {
                found(Error::corrupt(format!(
                    "'{place}' has {} bytes, not {}, which {} has",
                    file.size_bytes, needed.size, needed.by
                )));
            }
            _ => {}
        }
    }
    for (hash, needed) in needed {
        let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        found(Error::corrupt(format!("blob {name} is missing, for {}", needed.by)));
    }
    Ok(())
}

/// Hashes a blob, on a thread of its own; what is no blob is fine.
async fn verify(blobs: Blobs, file: &BlobFile) -> Result<()> {
    let Some(name) = file.sha256.clone() else { return Ok(()) };
    let size = i64::try_from(file.size_bytes).unwrap_or(i64::MAX);
    let runtime = Handle::current();
    let verified = spawn_blocking(move || runtime.block_on(blobs.verify(&name, size))).await;
    verified.map_err(|error| Error::corrupt("hashing was cut short").with_source(error))?
}
