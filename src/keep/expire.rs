//! Giving up history: the rows that only the past needs are left out of the table.
//!
//! What stays is all that any transaction from the cutoff on shows: every row from the cutoff on, and
//! of the rows before it the newest of each node that is in the tree then, with all versions and merged
//! files if it is a series. So `AS OF` the cutoff, and anything later, is as it was.
//!
//! In memory there is one entry for each node and each version of a series, and one bit for each row.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;

use super::Merged;
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::oplog::{Expired, Oplog, Scan, TableState, Written};
use crate::pond::Pond;

/// Times it is tried again because others rewrote the same files.
const ATTEMPTS_MAX: u32 = 10;

/// What [`Pond::expire`] did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiration {
    /// The first transaction whose state can still be seen; `None` if nothing is old enough.
    pub before: Option<i64>,
    /// Rows that go.
    pub rows_dropped: u64,
    /// Rows from before that transaction that stay, because it shows them.
    pub rows_kept: u64,
}

impl Pond {
    /// Gives up the history from before `time`, microseconds since 1970 UTC: every state that the pond
    /// had since then can still be seen, and none before. `message` is noted in the log. With `dry_run` it is only told what would go.
    ///
    /// Blobs that nothing names any more are left to [`Pond::collect_garbage`].
    ///
    /// # Errors
    /// `Conflict` if others keep rewriting the table; `Corrupt`, `Io`; `Refused` by a policy that is
    /// read-only, unless it is a `dry_run`. Nothing was changed then.
    pub async fn expire(
        &self,
        time: i64,
        message: Option<String>,
        dry_run: bool,
    ) -> Result<Expiration> {
        if !dry_run {
            self.policy().check_write("the pond's history")?;
        }
        for _ in 0..ATTEMPTS_MAX {
            let table = self.table().await?;
            let nothing = Expiration { before: None, rows_dropped: 0, rows_kept: 0 };
            let Some(expired) = cutoff(self.oplog(), &table, time).await? else {
                return Ok(nothing);
            };
            if table.expired().is_some_and(|before| before.before >= expired.before) {
                return Ok(nothing);
            }
            let kept = Kept::find(self.oplog(), &table, expired.before).await?;
            let expiration = Expiration {
                before: Some(expired.before),
                rows_dropped: kept.rows - kept.count,
                rows_kept: kept.count,
            };
            if dry_run {
                return Ok(expiration);
            }
            let mut at = 0;
            let keep = |_: &OplogEntry| {
                at += 1;
                kept.contains(at - 1)
            };
            let expiry = self.oplog().prepare_expiry(&table, expired, keep).await?;
            loop {
                let written = self.rearrange(async |oplog, table| {
                    let written = oplog.expire(table, &expiry, message.as_deref()).await?;
                    if let Written::Done(commit) = &written {
                        table.apply(commit)?;
                    }
                    Ok(written)
                });
                match written.await? {
                    Written::Done(_) => return Ok(expiration),
                    Written::Lost => {}
                    Written::Stale => break,
                }
            }
        }
        Err(Error::new(ErrorKind::Conflict, "the oplog is being rewritten by others")
            .with_hint("nothing was changed; try again"))
    }
}

/// Returns the newest transaction that is not later than `time`.
async fn cutoff(oplog: &Oplog, table: &TableState, time: i64) -> Result<Option<Expired>> {
    let mut rows = oplog.rows(&table.files, Scan::all().without_content().without_facts());
    let mut cutoff = None;
    while let Some(batch) = rows.try_next().await? {
        match batch.iter().rev().find(|row| row.timestamp <= time) {
            Some(row) => {
                cutoff = Some(Expired { before: row.txn, timestamp: row.timestamp });
            }
            // Time and transactions grow together.
            None => break,
        }
    }
    Ok(cutoff)
}

/// The rows from before a transaction that it still shows, by their place in the order of all.
#[derive(Debug, Default)]
struct Kept {
    bits: Vec<u64>,
    rows: u64,
    count: u64,
}

/// The newest row of a node.
struct Last {
    parent: NodeId,
    at: u64,
    deleted: bool,
}

impl Kept {
    async fn find(oplog: &Oplog, table: &TableState, cutoff: i64) -> Result<Self> {
        let mut kept = Self::default();
        let mut nodes: HashMap<NodeId, Last> = HashMap::new();
        let mut versions: HashMap<(NodeId, i64), u64> = HashMap::new();
        let mut merged = Merged::default();
        let mut merged_rows: Vec<(OplogEntry, u64)> = Vec::new();
        let scan = Scan::up_to(cutoff).without_content().without_facts();
        let mut rows = oplog.rows(&table.files, scan);
        let mut at = 0;
        while let Some(batch) = rows.try_next().await? {
            for row in batch {
                if row.txn < cutoff {
                    kept.rows += 1;
                }
                if row.is_segment() {
                    merged.add(&row)?;
                    merged_rows.push((row, at));
                } else {
                    if row.entry_type == EntryType::FileSeries {
                        versions.insert((row.node_id, row.version), at);
                    }
                    let (parent, deleted) = (row.parent_id, row.deleted);
                    nodes.insert(row.node_id, Last { parent, at, deleted });
                }
                at += 1;
            }
        }
        let in_tree = in_tree(&nodes);
        nodes.iter().filter(|(node, _)| in_tree.contains(node)).for_each(|(_, it)| kept.add(it.at));
        for ((node, _), at) in versions {
            if in_tree.contains(&node) {
                kept.add(at);
            }
        }
        for (row, at) in merged_rows {
            if in_tree.contains(&row.node_id) && !merged.covers(&row, i64::MAX)? {
                kept.add(at);
            }
        }
        Ok(kept)
    }

    fn add(&mut self, at: u64) {
        // From the cutoff on, rows stay without being asked for.
        if at < self.rows && !self.contains(at) {
            let word = (at / 64) as usize;
            if self.bits.len() <= word {
                self.bits.resize(word + 1, 0);
            }
            self.bits[word] |= 1 << (at % 64);
            self.count += 1;
        }
    }

    fn contains(&self, at: u64) -> bool {
        self.bits.get((at / 64) as usize).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// Returns the nodes that can be reached from the root.
fn in_tree(nodes: &HashMap<NodeId, Last>) -> HashSet<NodeId> {
    let mut inside = HashSet::from([NodeId::ROOT]);
    let mut outside = HashSet::new();
    for start in nodes.keys() {
        let mut way = Vec::new();
        let mut at = *start;
        let is_inside = loop {
            if inside.contains(&at) {
                break true;
            }
            match nodes.get(&at) {
                // No way is longer than there are nodes, unless the rows are damaged.
                Some(last)
                    if !last.deleted && !outside.contains(&at) && way.len() < nodes.len() =>
                {
                    way.push(at);
                    at = last.parent;
                }
                _ => break false,
            }
        };
        if is_inside { inside.extend(way) } else { outside.extend(way) }
    }
    inside
}
