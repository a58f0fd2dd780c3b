//! What makes one table the copy of another: the same identity and, up to some transaction, the same
//! rows.

use deltalake::kernel::Action;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use serde_json::json;

use super::log::{LogWriter, parse_json};
use super::{Commit, Oplog, Rewrite, TableState, Written, add_action};
use crate::entry::OplogEntry;
use crate::error::{Error, Result};

/// What [`Oplog::append`] wrote.
#[derive(Debug)]
pub struct Appended {
    /// What came of it.
    pub written: Written,
    /// Rows.
    pub rows: u64,
    /// Size of the files that hold them.
    pub size_bytes: u64,
}

impl Oplog {
    /// Creates the table as a copy of `original` without rows.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one.
    pub async fn create_copy(&self, original: &TableState) -> Result<TableState> {
        self.create_with(parse_json(&original.metadata)?, parse_json(&original.protocol)?).await
    }

    /// Writes rows of `original` as the version after `state`, which has all rows up to theirs: one
    /// commit, whose files are put while the rows come. If `state` has none, the table is given the
    /// properties of `original`, too: which history was given up.
    ///
    /// # Errors
    /// Those of the rows; `Corrupt` if the last of them is not of `original`'s newest transaction; `Io`.
    pub async fn append(
        &self,
        state: &TableState,
        original: &TableState,
        rows: BoxStream<'_, Result<Vec<OplogEntry>>>,
    ) -> Result<Appended> {
        let mut rewrite = Rewrite::new(self, state.version + 1);
        let mut written = Self::rewrite_all(&mut rewrite, rows).await;
        if let Ok((_, last)) = &written
            && *last != original.txn
        {
            written = Err(Error::corrupt(format!("transaction {} has no rows", original.txn)));
        }
        let added = rewrite.added;
        let count = match written {
            Ok((count, _)) => count,
            Err(error) => {
                self.drop_unless_committed(&Ok(Written::Stale), &added).await;
                return Err(error);
            }
        };
        let properties = if state.txn == 0 { original } else { state };
        let metadata = match properties.metadata_with_all_columns()? {
            None if properties.metadata != state.metadata => {
                Some(parse_json(&properties.metadata)?)
            }
            metadata => metadata,
        };
        let mut log = LogWriter::new("WRITE", Some(original.txn), None)?;
        if let Some(metadata) = &metadata {
            log.push(&json!({"metaData": metadata}))?;
        }
        for file in &added {
            log.push(&Action::Add(add_action(file, true)))?;
        }
        let commit = Commit {
            version: state.version + 1,
            log_crc: 0,
            rows: Vec::new(),
            added: added.clone(),
            removed: Vec::new(),
            metadata: metadata.map(|metadata| metadata.to_string()),
            protocol: None,
        };
        let written = self.write_log(commit, log.finish()).await;
        self.drop_unless_committed(&written, &added).await;
        let size_bytes = added.iter().map(|file| u64::try_from(file.size_bytes).unwrap_or(0)).sum();
        Ok(Appended { written: written?, rows: count, size_bytes })
    }

    /// Writes all rows; returns how many there were, and the last one's transaction.
    async fn rewrite_all(
        rewrite: &mut Rewrite<'_>,
        mut rows: BoxStream<'_, Result<Vec<OplogEntry>>>,
    ) -> Result<(u64, i64)> {
        let (mut count, mut last) = (0, 0);
        while let Some(rows) = rows.try_next().await? {
            count += rows.len() as u64;
            last = rows.last().map_or(last, |row| row.txn);
            rewrite.push(rows).await?;
        }
        rewrite.end_file().await?;
        Ok((count, last))
    }
}
