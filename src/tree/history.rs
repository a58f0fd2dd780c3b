//! The past of one node, and what two points of the past differ in.

use std::collections::{BTreeMap, BTreeSet};

use super::{Edit, Tree};
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, Result};
use crate::path::PondPath;
use crate::pond::At;
use crate::snapshot::{Located, Snapshot};

/// One change of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Number of the transaction.
    pub txn: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// `created`, `updated`, `appended`, `renamed` or `removed`.
    pub change: &'static str,
    /// Version of the content since.
    pub version: i64,
    /// The node's name since.
    pub name: String,
    /// What it is.
    pub entry_type: EntryType,
    /// The factory of a dynamic node.
    pub factory: Option<String>,
    /// Size of the content in bytes.
    pub size: Option<i64>,
    /// Number of the content's rows, if it is a table.
    pub rows: Option<i64>,
    /// SHA-256 of the content, in hex.
    pub sha256: Option<String>,
    /// The statement, or the user's words.
    pub message: Option<String>,
}

/// One node that differs between two points of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffEntry {
    /// `added`, `removed`, `modified` or `renamed`.
    pub change: &'static str,
    /// Where it is; for one that was removed, where it was.
    pub path: PondPath,
    /// Where it was, if it was renamed.
    pub from: Option<PondPath>,
    /// What it is.
    pub entry_type: EntryType,
    /// Version of its content before.
    pub version_before: Option<i64>,
    /// Version of its content after.
    pub version_after: Option<i64>,
    /// Size of its content before, in bytes.
    pub size_before: Option<i64>,
    /// Size of its content after, in bytes.
    pub size_after: Option<i64>,
}

impl Tree {
    /// Returns the changes of the node at `path`, oldest first, and of those that were there before
    /// it and are gone.
    ///
    /// # Errors
    /// `NotFound` if no stored node is or was there.
    pub async fn history(&self, path: &PondPath) -> Result<Vec<HistoryEntry>> {
        let newest = self.pond.snapshot().await?;
        let mut nodes = BTreeSet::new();
        if let Located::Found(entry) = newest.locate(path)? {
            nodes.insert(entry.node_id);
        }
        nodes.extend(self.pond.nodes_at(path).await?);
        let first_txn = self.pond.first_txn().await?;
        if nodes.is_empty() {
            let root = self.root(newest);
            return match crate::node::lookup(&root, path).await? {
                Some(_) => Err(Error::unsupported(format!(
                    "'{path}' is not stored: it is made on access, and has no past"
                ))),
                None => Err(crate::node::not_found(&root, path).await),
            };
        }
        let nodes: Vec<NodeId> = nodes.into_iter().collect();
        let rows = self.pond.rows_of(&nodes).await?;
        let mut latest: BTreeMap<NodeId, OplogEntry> = BTreeMap::new();
        let mut first: BTreeMap<NodeId, i64> = BTreeMap::new();
        let mut history = Vec::new();
        for row in rows.into_iter().filter(|row| !row.is_segment()) {
            let before = latest.get(&row.node_id);
            // A copy of a series brings its versions all at once.
            let born = *first.entry(row.node_id).or_insert(row.txn);
            let is_copied = before.is_some() && born == row.txn && !row.deleted;
            let entry = HistoryEntry {
                txn: row.txn,
                timestamp: row.timestamp,
                change: change_of(before, &row, first_txn),
                version: row.version,
                name: row.name.clone(),
                entry_type: row.entry_type,
                factory: row.dynamic_factory().map(str::to_owned),
                size: row.size,
                rows: row.num_rows(),
                sha256: row.sha256.clone(),
                message: row.message.clone(),
            };
            match history.last_mut() {
                Some(last) if is_copied => {
                    let change = HistoryEntry::clone(last).change;
                    *last = HistoryEntry { change, ..entry };
                }
                _ => history.push(entry),
            }
            latest.insert(row.node_id, row);
        }
        Ok(history)
    }

    /// Returns the nodes that differ between two points of the past, in the order of their paths.
    /// What lies below a renamed directory is not listed with it.
    ///
    /// # Errors
    /// Those of [`crate::pond::Pond::as_of`].
    pub async fn diff(&self, before: At, after: At) -> Result<Vec<DiffEntry>> {
        let (before, after) = (self.pond.as_of(before).await?, self.pond.as_of(after).await?);
        let (first, last) = (before.txn().min(after.txn()), before.txn().max(after.txn()));
        differences(&before, &after, self.pond.nodes_between(first, last).await?)
    }
}

impl Edit {
    /// Returns the nodes that committing would change, in the order of their paths: what a dry run
    /// shows.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of the cache.
    pub fn diff(&self) -> Result<Vec<DiffEntry>> {
        let touched: BTreeSet<NodeId> =
            self.transaction.rows().iter().map(|row| row.node_id).collect();
        differences(self.transaction.base(), self.transaction.view(), touched)
    }
}

/// Returns how two snapshots differ in the nodes `touched` and what is below them.
fn differences(
    before: &Snapshot,
    after: &Snapshot,
    touched: impl IntoIterator<Item = NodeId>,
) -> Result<Vec<DiffEntry>> {
    let mut differences = BTreeMap::new();
    for node in touched {
        let old = found(before, node)?;
        let new = found(after, node)?;
        let difference = match (old, new) {
            (Some((path, entry)), None) => {
                add_below(before, "removed", &path, &entry, &mut differences)?;
                continue;
            }
            (None, Some((path, entry))) => {
                add_below(after, "added", &path, &entry, &mut differences)?;
                continue;
            }
            (Some((old_path, old)), Some((path, new))) => {
                let moved = old.parent_id != new.parent_id || old.name != new.name;
                let changed = old.version != new.version || old.sha256 != new.sha256;
                let change = match (moved, changed) {
                    (true, _) => "renamed",
                    (false, true) => "modified",
                    (false, false) => continue,
                };
                DiffEntry {
                    change,
                    path,
                    from: moved.then_some(old_path),
                    entry_type: new.entry_type,
                    version_before: Some(old.version),
                    version_after: Some(new.version),
                    size_before: old.size,
                    size_after: new.size,
                }
            }
            (None, None) => continue,
        };
        differences.insert((difference.path.clone(), difference.change), difference);
    }
    Ok(differences.into_values().collect())
}

fn change_of(before: Option<&OplogEntry>, row: &OplogEntry, first_txn: i64) -> &'static str {
    match before {
        _ if row.deleted => "removed",
        // What was before it has expired.
        None if row.txn < first_txn && row.version > 1 => "updated",
        None => "created",
        Some(before) if before.version != row.version => match row.entry_type {
            EntryType::FileSeries if row.dynamic_factory().is_none() => "appended",
            _ => "updated",
        },
        Some(_) => "renamed",
    }
}

fn found(snapshot: &Snapshot, node: NodeId) -> Result<Option<(PondPath, OplogEntry)>> {
    let Some(path) = snapshot.path_of(node)? else { return Ok(None) };
    match snapshot.locate(&path)? {
        Located::Found(entry) => Ok(Some((path, entry))),
        _ => Ok(None),
    }
}

/// Adds a node that is only in `snapshot`, and all below it.
fn add_below(
    snapshot: &Snapshot,
    change: &'static str,
    path: &PondPath,
    entry: &OplogEntry,
    differences: &mut BTreeMap<(PondPath, &'static str), DiffEntry>,
) -> Result<()> {
    let removed = change == "removed";
    let (version, size) = (Some(entry.version), entry.size);
    differences.insert(
        (path.clone(), change),
        DiffEntry {
            change,
            path: path.clone(),
            from: None,
            entry_type: entry.entry_type,
            version_before: version.filter(|_| removed),
            version_after: version.filter(|_| !removed),
            size_before: size.filter(|_| removed),
            size_after: size.filter(|_| !removed),
        },
    );
    if entry.entry_type == EntryType::Directory && entry.dynamic_factory().is_none() {
        for child in snapshot.children(entry.node_id) {
            let child = child?;
            add_below(snapshot, change, &path.child(&child.name), &child, differences)?;
        }
    }
    Ok(())
}
