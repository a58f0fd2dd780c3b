//! Upkeep of a whole pond: what otherwise comes with the commits, and garbage collection.

use super::Tree;
use crate::entry::{EntryType, NodeId};
use crate::error::{ErrorKind, Result};
use crate::format::MAINTAIN_TARGET_ROWS;
use crate::keep::{Garbage, Grace};
use crate::path::PondPath;

/// What [`Tree::maintain`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Maintained {
    /// Merged files of series that were written.
    pub series_merged: usize,
    /// Data files of the oplog, before and after.
    pub oplog_files: (usize, usize),
    /// Files that were removed.
    pub garbage: Vec<Garbage>,
}

impl Tree {
    /// Removes from the cache what is kept of derived nodes that are gone or have another recipe, and
    /// the conversions of texts for which there is no room. Returns how many bytes that freed at
    /// once; files that were named until now go a while later.
    ///
    /// # Errors
    /// `Io`; `Refused` by a policy that is read-only.
    pub async fn sweep_cache(&self) -> Result<u64> {
        self.policy().check_write("the cache")?;
        let snapshot = self.pond.snapshot().await?;
        let answers = self.cache.sweep(|node, version| snapshot.has_version(node, version))?;
        Ok(answers + self.cache.sweep_conversions()?)
    }

    /// Merges what is in small pieces, and removes what nothing needs. What anything shows, now or of
    /// the past, does not change.
    ///
    /// # Errors
    /// `Corrupt`, `Io`; `Conflict` if a transaction is under way that does not end; `Refused` by a policy
    /// that is read-only.
    pub async fn maintain(&self) -> Result<Maintained> {
        self.policy().check_write("the pond")?;
        let mut series_merged = 0;
        let snapshot = self.pond.snapshot().await?;
        let mut directories = vec![(PondPath::root(), NodeId::ROOT)];
        while let Some((at, id)) = directories.pop() {
            for child in snapshot.children(id) {
                let child = child?;
                let path = at.child(&child.name);
                if child.dynamic_factory().is_some() {
                    continue;
                }
                match child.entry_type {
                    EntryType::Directory => directories.push((path, child.node_id)),
                    EntryType::FileSeries => {
                        match self.merge_series(&path, MAINTAIN_TARGET_ROWS).await {
                            Ok(written) => series_merged += written,
                            // It was removed or renamed meanwhile.
                            Err(error) if error.kind() == ErrorKind::NotFound => {}
                            Err(error) => return Err(error),
                        }
                    }
                    _ => {}
                }
            }
        }
        let oplog_files = self.pond.compact().await?;
        let garbage = self.pond.collect_garbage(Grace::default(), false).await?;
        self.sweep_cache().await?;
        Ok(Maintained { series_merged, oplog_files, garbage })
    }
}
