//! Checking the files of the oplog: each of them is read whole and compared with its checks.

use std::collections::BTreeMap;

use bytes::Bytes;
use deltalake::logstore::commit_uri_from_version;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use super::log::{self, checkpoint_path, last_checkpoint};
use super::rows;
use super::{DataFile, LAST_CHECKPOINT, Oplog, TableState};
use crate::error::{Error, ErrorKind, Result};

/// Files read at once.
const READS: usize = 4;
/// What others may write into `_last_checkpoint`, too.
const LAST_CHECKPOINT_KEYS: [&str; 8] = [
    "version",
    "size",
    "parts",
    "sizeInBytes",
    "numOfAddFiles",
    "checkpointSchema",
    "checksum",
    "tags",
];

impl Oplog {
    /// Checks the files of the log and, if it can be replayed, those of the table; tells `found` of each
    /// that is not what was written.
    ///
    /// Returns the state of the table and, of its files, those that are whole.
    ///
    /// # Errors
    /// `NotFound` if there is no table; `Io` if the files cannot be listed.
    pub async fn check(
        &self,
        found: &mut impl FnMut(Error),
    ) -> Result<Option<(TableState, Vec<DataFile>)>> {
        let listing = self.list_log().await?;
        for version in &listing.logs {
            match self.read_log(*version).await {
                Ok(Some(bytes)) => {
                    log::parse_log(*version, &bytes).err().into_iter().for_each(&mut *found);
                }
                // Cleaned up meanwhile.
                Ok(None) => {}
                Err(error) => found(error.context(commit_uri_from_version(Some(*version)))),
            }
        }
        let mut hints = BTreeMap::new();
        for version in &listing.checkpoints {
            let read = self.read_checkpoint(&checkpoint_path(*version)).await;
            let size_bytes = read.as_ref().map_or(0, Bytes::len);
            match read.and_then(|bytes| log::decode_checkpoint(*version, bytes)) {
                Ok((replay, rows)) => {
                    let hint = last_checkpoint(*version, rows, size_bytes, replay.adds.len());
                    hints.insert(*version, hint);
                }
                Err(error) => found(error),
            }
        }
        if !hints.is_empty() {
            self.check_last_checkpoint(&hints).await.err().into_iter().for_each(&mut *found);
        }
        let state = match self.load().await {
            Ok(state) => state,
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
            Err(error) => {
                found(error);
                return Ok(None);
            }
        };
        let mut whole = Vec::new();
        let mut checks = futures::stream::iter(state.files.clone())
            .map(|file| async { (rows::check_file(&self.store, &file).await, file) })
            .buffered(READS);
        while let Some((checked, file)) = checks.next().await {
            match checked {
                Ok(()) => whole.push(file),
                Err(error) => found(error),
            }
        }
        drop(checks);
        Ok(Some((state, whole)))
    }

    /// Compares `_last_checkpoint` with what it should say of one of the checkpoints.
    async fn check_last_checkpoint(&self, hints: &BTreeMap<u64, String>) -> Result<()> {
        let path = Path::from(LAST_CHECKPOINT);
        let bytes = match async { self.store.get(&path).await?.bytes().await }.await {
            Ok(bytes) => bytes,
            // It is only a hint, and written last.
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(self.failed("reading the oplog", error)),
        };
        let damaged = || log::damaged(&path);
        let last: Value =
            serde_json::from_slice(&bytes).map_err(|error| damaged().with_source(error))?;
        let last = last.as_object().ok_or_else(damaged)?;
        let version = last.get("version").and_then(Value::as_u64);
        let hint = version.and_then(|version| hints.get(&version)).ok_or_else(damaged)?;
        let are_known = last.keys().all(|key| LAST_CHECKPOINT_KEYS.contains(&key.as_str()));
        let is_of_others = last.len() != 4 || last.contains_key("parts");
        if are_known && (is_of_others || bytes == hint.as_bytes()) {
            Ok(())
        } else {
            Err(damaged())
        }
    }
}
