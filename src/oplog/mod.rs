//! The oplog (TLogFS): the Delta table of [`OplogEntry`] rows, and the only place with Delta types.
//!
//! A commit is two files: the rows' Parquet, then `_delta_log/<version>.json` put-if-absent. Losing
//! that race is [`Written::Lost`]: the caller reads the winner's rows, checks its own preconditions
//! against them and tries again. Nothing lists the log: the next commit is asked for by its exact
//! name.
//!
//! **Bounded cost.** Every [`CHECKPOINT_COMMITS`] commits the writer compacts, writes a checkpoint and
//! removes what the previous checkpoint made unneeded. Compaction is tiered by row count: any
//! `MERGE_FILES` files of one tier become one, so a row is rewritten a logarithmic number of
//! times, and a merged file is no larger than can be made in memory. It changes no row (`dataChange`
//! is false): history is in the rows' `txn`, so it is never lost by any of this. Only
//! [`Oplog::expire`] takes rows out of the table, and the table says so.
//!
//! **Checks.** Log files and checkpoints carry a CRC of themselves, data files have theirs in the log,
//! and all are compared whenever something is read: nothing is believed that was not written. A
//! damaged checkpoint is recovered from the one before and the log since, which clean-up keeps.
//!
//! **Trap: a hole in the log.** After clean-up the name `<version>.json` of an old version is free
//! again, and a writer that slept through it could win it. Clean-up therefore deletes in ascending
//! order and keeps everything since the checkpoint before the last, and a writer looks for the
//! predecessor of what it wrote: if that is gone, it wrote below the checkpoint, where no reader
//! looks, takes its file back and starts from the newest state. Whoever reads a log file looks for
//! its predecessor, too, so that nobody builds on one that is about to be taken back.
//!
//! A table without some of the columns (written before they existed) is read by name, the missing
//! ones null; the first commit adds them to the table's schema.

mod check;
mod copy;
mod log;
mod rows;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deltalake::kernel::transaction::TransactionError;
use deltalake::kernel::{Action, Add, Remove};
use deltalake::logstore::{
    CommitOrBytes, LogStoreRef, StorageConfig, commit_uri_from_version, default_logstore,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::entry::OplogEntry;
use crate::error::{Error, ErrorKind, Result};

pub use copy::Appended;
use log::{LogWriter, Replay, checkpoint_path, parse_json};
use rows::{COLUMNS, FileWriter, Pieces};
pub use rows::{Scan, oplog_schema, rows_batch};

/// Commits between two checkpoints: a reader without a cache reads at most this many log files.
pub const CHECKPOINT_COMMITS: u64 = 32;

/// Returns the version of delta-rs, which writes the table.
pub fn delta_version() -> &'static str {
    deltalake::crate_version()
}
/// Files of one tier that compaction merges into one.
const MERGE_FILES: usize = 16;
/// A file with more rows than this is never merged again.
const MERGE_ROWS_MAX: i64 = 1 << 20;
/// A merged file is no larger than this, for it is made in memory; one of half the size is left alone.
const MERGE_BYTES_MAX: i64 = 32 << 20;
/// Where the log is.
const LOG_DIR: &str = "_delta_log";
/// Names the newest checkpoint, for other readers.
const LAST_CHECKPOINT: &str = "_delta_log/_last_checkpoint";
/// Property of the table: the first transaction whose state can still be seen.
const EXPIRED_BEFORE: &str = "pond.expiredBefore";
/// Property of the table: its time.
const EXPIRED_TIME: &str = "pond.expiredTime";
/// Tag of a file in the log: the CRCs of its pieces.
const PIECES_TAG: &str = "pond.crc32";
/// Tag of a file in the log: `false` if no row in it is a segment's.
const SEGMENTS_TAG: &str = "pond.segments";
/// How long a compacted file stays readable for those who planned with it.
const TOMBSTONE_MILLIS: i64 = 5 * 60 * 1000;
/// More tombstones than this are not kept, whatever their age.
const TOMBSTONES_MAX: usize = 512;
/// Age after which a file that no commit names is taken for a killed writer's.
const ORPHAN_MILLIS: i64 = 60 * 60 * 1000;

/// A data file of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Path below the table.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: i64,
    /// Number of rows.
    pub rows: i64,
    /// Smallest transaction in it.
    pub txn_min: i64,
    /// Largest transaction in it.
    pub txn_max: i64,
    /// When it was written, milliseconds since 1970 UTC.
    pub modified_millis: i64,
    /// Whether it may hold rows of segments.
    pub segments: bool,
    pieces: Option<Pieces>,
}

/// A file that was taken out of the table and that is still on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    path: String,
    removed_millis: i64,
}

impl Tombstone {
    fn new(remove: &Remove) -> Self {
        Self {
            path: remove.path.clone(),
            removed_millis: remove.deletion_timestamp.unwrap_or_else(now_millis),
        }
    }
}

/// History that was given up on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// The first transaction whose state can still be seen.
    pub before: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
}

/// What a handle knows of the Delta table: enough to commit and to read, without asking the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableState {
    /// The newest Delta version known.
    pub version: u64,
    /// CRC-32 of that version's log file: tells this table from another at the same place.
    pub log_crc: u32,
    /// The newest transaction; 0 before the first.
    pub txn: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// The files that hold all rows.
    pub files: Vec<DataFile>,
    tombstones: Vec<Tombstone>,
    /// Versions of the last two checkpoints; 0 stands for none.
    checkpoint: u64,
    checkpoint_before: u64,
    /// The lowest version whose log file may still be there.
    log_floor: u64,
    /// The table's `metaData` and `protocol` actions.
    metadata: String,
    protocol: String,
}

/// One commit, as others must apply it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Its Delta version.
    pub version: u64,
    /// CRC-32 of its log file.
    pub log_crc: u32,
    /// Its rows; none for a compaction.
    pub rows: Vec<OplogEntry>,
    added: Vec<DataFile>,
    removed: Vec<Tombstone>,
    metadata: Option<String>,
    protocol: Option<String>,
}

/// What came of an attempt to write the next version.
#[derive(Debug)]
pub enum Written {
    /// It is durable.
    Done(Commit),
    /// Another writer has that version.
    Lost,
    /// The state is so old that its log is gone: load it again.
    Stale,
}

/// What follows the state in the log.
#[derive(Debug)]
pub enum Next {
    /// One more commit.
    Commit(Commit),
    /// The state is the newest.
    Newest,
    /// The state cannot be continued: load it again.
    Stale,
}

/// The versions of the log that are there.
#[derive(Debug, Default)]
struct LogListing {
    logs: BTreeSet<u64>,
    checkpoints: BTreeSet<u64>,
}

impl LogListing {
    fn newest(&self) -> Option<u64> {
        self.logs.last().max(self.checkpoints.last()).copied()
    }
}

/// The files of a table without its expired rows, ready to take the place of those with them.
#[derive(Debug)]
pub struct Expiry {
    expired: Expired,
    added: Vec<DataFile>,
    removed: Vec<DataFile>,
}

/// New files in the place of old ones, in the making.
struct Rewrite<'a> {
    oplog: &'a Oplog,
    version: u64,
    writer: Option<FileWriter>,
    added: Vec<DataFile>,
}

impl<'a> Rewrite<'a> {
    fn new(oplog: &'a Oplog, version: u64) -> Self {
        Self { oplog, version, writer: None, added: Vec::new() }
    }

    /// Appends rows of transactions that are not below those before.
    async fn push(&mut self, rows: Vec<OplogEntry>) -> Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        // All rows of a transaction stay in one file.
        let full = |writer: &FileWriter| writer.is_full() && writer.txn_max() < first.txn;
        if self.writer.as_ref().is_some_and(full) {
            self.end_file().await?;
        }
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => FileWriter::for_merge()?,
        };
        self.writer.insert(writer).push(rows)
    }

    async fn end_file(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.added.push(self.oplog.put_file(writer, self.version).await?);
        }
        Ok(())
    }
}

/// A handle on the Delta table; it holds no state.
#[derive(Debug, Clone)]
pub struct Oplog {
    log: LogStoreRef,
    store: Arc<dyn ObjectStore>,
    /// Where the table is, if that is a directory of this machine.
    dir: Option<PathBuf>,
}

impl Oplog {
    /// Makes a handle on the table at `url`: `store` is rooted there, `root_store` at the URL's root.
    pub fn new(store: Arc<dyn ObjectStore>, root_store: Arc<dyn ObjectStore>, url: &Url) -> Self {
        let log = default_logstore(store.clone(), root_store, url, &StorageConfig::default());
        Self { log, store, dir: None }
    }

    /// Says that `store` is the directory `dir` of this machine. Each statement asks for the next commit;
    /// there it is read in place, since handing that to another thread takes longer.
    #[must_use]
    pub fn in_dir(self, dir: PathBuf) -> Self {
        Self { dir: Some(dir), ..self }
    }

    /// Creates the table, as Delta version 0.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one.
    pub async fn create(&self) -> Result<TableState> {
        let now = now_millis();
        let protocol = json!({"minReaderVersion": 1, "minWriterVersion": 2});
        let metadata = json!({
            "id": Uuid::new_v4(),
            "name": "oplog",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": delta_schema(&[]),
            "partitionColumns": [],
            "configuration": {
                // Retention is ours: other writers' clean-up must not guess.
                "delta.enableExpiredLogCleanup": "false",
                "delta.checkpointInterval": CHECKPOINT_COMMITS.to_string(),
            },
            "createdTime": now,
        });
        self.create_with(metadata, protocol).await
    }

    /// Creates the table with these actions.
    async fn create_with(&self, metadata: Value, protocol: Value) -> Result<TableState> {
        let mut log = LogWriter::new("CREATE TABLE", None, None)?;
        log.push(&json!({"protocol": protocol}))?;
        log.push(&json!({"metaData": metadata}))?;
        let bytes = log.finish();
        let log_crc = crc32fast::hash(&bytes);
        match self.log.write_commit_entry(0, CommitOrBytes::LogBytes(bytes), Uuid::nil()).await {
            Ok(()) => {}
            Err(TransactionError::VersionAlreadyExists(_)) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("a pond already exists at {}", self.log.root_url()),
                ));
            }
            Err(error) => return Err(self.failed("creating the oplog", error)),
        }
        Ok(TableState {
            version: 0,
            log_crc,
            txn: 0,
            timestamp: 0,
            files: Vec::new(),
            tombstones: Vec::new(),
            checkpoint: 0,
            checkpoint_before: 0,
            log_floor: 0,
            metadata: metadata.to_string(),
            protocol: protocol.to_string(),
        })
    }

    /// Reads the newest state from the table itself: the slow way, for when the cache is gone.
    ///
    /// If the newest checkpoint is damaged, the one before it and the log since give the same state.
    ///
    /// # Errors
    /// `NotFound` if there is no table; `Corrupt`, naming the file, if something that is needed is
    /// missing or is not what was written; `Unsupported` if another program upgraded the table.
    pub async fn load(&self) -> Result<TableState> {
        let listing = self.list_log().await?;
        let Some(newest) = listing.newest() else {
            return Err(Error::not_found(format!("no pond at {}", self.log.root_url())));
        };
        let mut damage = None;
        for checkpoint in listing.checkpoints.iter().rev().copied().map(Some).chain([None]) {
            match self.replay(checkpoint, newest, &listing).await {
                Ok(state) => return Ok(state),
                Err(error) if error.kind() == ErrorKind::Corrupt => damage.get_or_insert(error),
                Err(error) => return Err(error),
            };
        }
        Err(damage.expect("at least one replay was tried"))
    }

    /// Replays the log from a checkpoint, or from the beginning, to version `newest`.
    async fn replay(
        &self,
        checkpoint: Option<u64>,
        newest: u64,
        listing: &LogListing,
    ) -> Result<TableState> {
        let mut replay = match checkpoint {
            Some(version) => {
                let path = checkpoint_path(version);
                log::decode_checkpoint(version, self.read_checkpoint(&path).await?)?.0
            }
            None => Replay::default(),
        };
        let first = checkpoint.map_or(0, |version| version + 1);
        for version in first..newest {
            for action in log::parse_log(version, &self.read_listed(version, listing).await?)? {
                replay.apply(action)?;
            }
        }
        let newest_log = self.read_listed(newest, listing).await?;
        let actions = log::parse_log(newest, &newest_log)?;
        if checkpoint != Some(newest) {
            actions.into_iter().try_for_each(|action| replay.apply(action))?;
        }
        let mut files = Vec::new();
        for add in replay.adds.values() {
            files.push(self.data_file(add).await?);
        }
        let lacks = |what| Error::corrupt(format!("the oplog has no {what}"));
        let mut tombstones: Vec<Tombstone> = replay.tombstones.into_values().collect();
        tombstones.sort_by_key(|tombstone| tombstone.removed_millis);
        let mut checkpoints = listing.checkpoints.iter().rev().copied();
        let mut state = TableState {
            version: newest,
            log_crc: crc32fast::hash(&newest_log),
            txn: files.iter().map(|file| file.txn_max).max().unwrap_or(0),
            timestamp: 0,
            files,
            tombstones,
            checkpoint: checkpoints.next().unwrap_or(0),
            checkpoint_before: checkpoints.next().unwrap_or(0),
            log_floor: listing.logs.first().copied().unwrap_or(newest),
            metadata: replay.metadata.ok_or_else(|| lacks("metadata"))?,
            protocol: replay.protocol.ok_or_else(|| lacks("protocol"))?,
        };
        self.find_orphans(&mut state).await?;
        Ok(state)
    }

    async fn list_log(&self) -> Result<LogListing> {
        let mut listing = LogListing::default();
        let mut files = self.store.list(Some(&Path::from(LOG_DIR)));
        while let Some(object) = files.next().await {
            let object = object.map_err(|error| self.failed("listing the oplog", error))?;
            let name = object.location.filename().unwrap_or_default();
            let digits = name.get(..20).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
            let Some(version) = digits.and_then(|digits| digits.parse().ok()) else { continue };
            match &name[20..] {
                ".json" => listing.logs.insert(version),
                ".checkpoint.parquet" => listing.checkpoints.insert(version),
                _ => false,
            };
        }
        Ok(listing)
    }

    async fn read_checkpoint(&self, path: &Path) -> Result<Bytes> {
        match async { self.store.get(path).await?.bytes().await }.await {
            Ok(bytes) => Ok(bytes),
            Err(object_store::Error::NotFound { .. }) => Err(missing(path)),
            Err(error) => Err(self.failed("reading the oplog", error)),
        }
    }

    async fn read_listed(&self, version: u64, listing: &LogListing) -> Result<Bytes> {
        let log = match listing.logs.contains(&version) {
            true => self.read_log(version).await?,
            false => None,
        };
        log.ok_or_else(|| missing(&commit_uri_from_version(Some(version))))
    }

    /// Lists the table once, for data files that nothing names: a writer was killed, or the record
    /// of their removal is gone.
    async fn find_orphans(&self, state: &mut TableState) -> Result<()> {
        let mut known: HashSet<&str> = state.files.iter().map(|file| file.path.as_str()).collect();
        known.extend(state.tombstones.iter().map(|tombstone| tombstone.path.as_str()));
        let now = now_millis();
        let listing = self.store.list_with_delimiter(None).await;
        let mut orphans = Vec::new();
        for object in listing.map_err(|error| self.failed("listing the oplog", error))?.objects {
            let modified_millis = object.last_modified.timestamp_millis();
            let name = object.location.as_ref();
            let is_orphan = name.ends_with(".parquet") && !known.contains(name);
            if is_orphan && now - modified_millis > ORPHAN_MILLIS {
                orphans.push(Tombstone { path: name.to_owned(), removed_millis: modified_millis });
            }
        }
        state.tombstones.splice(..0, orphans);
        Ok(())
    }

    /// Whether `state` is of this table and not older than its log: one read.
    async fn is_current(&self, state: &TableState) -> Result<bool> {
        let log = self.read_log(state.version).await?;
        Ok(log.is_some_and(|log| crc32fast::hash(&log) == state.log_crc))
    }

    /// Reads the commit that follows `state`, by its exact name.
    pub async fn next(&self, state: &TableState) -> Result<Next> {
        let version = state.version + 1;
        let Some(log) = self.read_log(version).await? else {
            // Deleted in ascending order: while ours is there, the next one is not gone but not yet.
            return Ok(if self.is_current(state).await? { Next::Newest } else { Next::Stale });
        };
        // Our own still being there after that one was read, it was not written into a hole.
        if !self.is_current(state).await? {
            return Ok(Next::Stale);
        }
        let mut commit = Commit {
            version,
            log_crc: crc32fast::hash(&log),
            rows: Vec::new(),
            added: Vec::new(),
            removed: Vec::new(),
            metadata: None,
            protocol: None,
        };
        let actions = log::parse_log(version, &log)?;
        let gone = |action: &Action| matches!(action, Action::Remove(gone) if gone.data_change);
        if actions.iter().any(gone) {
            // Someone took rows out of the table: fold it again from what is left.
            return Ok(Next::Stale);
        }
        let new = |action: &&Action| matches!(action, Action::Add(new) if new.data_change);
        if actions.iter().filter(new).count() > 1 {
            // Too many for one list: these rows came from a copy ([`Oplog::append`]).
            return Ok(Next::Stale);
        }
        for action in actions {
            match action {
                Action::Add(add) => {
                    let file = self.data_file(&add).await?;
                    if add.data_change {
                        let rows = match self.read_rows(std::slice::from_ref(&file)).await {
                            Ok(rows) => rows,
                            // Compacted and cleaned up since.
                            Err(error) if error.kind() == ErrorKind::NotFound => {
                                return Ok(Next::Stale);
                            }
                            Err(error) => return Err(error),
                        };
                        commit.rows.extend(rows);
                    }
                    commit.added.push(file);
                }
                Action::Remove(remove) => commit.removed.push(Tombstone::new(&remove)),
                Action::Metadata(metadata) => commit.metadata = Some(log::to_json(&metadata)?),
                Action::Protocol(protocol) => {
                    commit.protocol = Some(log::parse_protocol(&protocol)?);
                }
                _ => {}
            }
        }
        Ok(Next::Commit(commit))
    }

    /// Writes `rows` as the version after `state`; they carry their transaction already.
    pub async fn write(&self, state: &TableState, rows: Vec<OplogEntry>) -> Result<Written> {
        let version = state.version + 1;
        let first = rows.first().expect("a transaction has a row");
        let mut log = LogWriter::new("WRITE", Some(first.txn), first.message.as_deref())?;
        let metadata = state.metadata_with_all_columns()?;
        if let Some(metadata) = &metadata {
            log.push(&json!({"metaData": metadata}))?;
        }
        let mut writer = FileWriter::for_commit(rows.len())?;
        writer.write(&rows)?;
        let file = self.put_file(writer, version).await?;
        log.push(&Action::Add(add_action(&file, true)))?;
        let files = vec![file];
        let commit = Commit {
            version,
            log_crc: 0,
            rows,
            added: files.clone(),
            removed: Vec::new(),
            metadata: metadata.map(|metadata| metadata.to_string()),
            protocol: None,
        };
        let written = self.write_log(commit, log.finish()).await;
        self.drop_unless_committed(&written, &files).await;
        written
    }

    /// Deletes data files that no commit will name. After an error the commit may be there all the
    /// same, so they stay; if it is not, they are found as orphans.
    async fn drop_unless_committed(&self, written: &Result<Written>, files: &[DataFile]) {
        if matches!(written, Ok(Written::Lost | Written::Stale)) {
            for file in files {
                let _ = self.store.delete(&Path::from(file.path.as_str())).await;
            }
        }
    }

    /// Puts the log file of `commit`, if its version is free and not below the checkpoint.
    async fn write_log(&self, mut commit: Commit, bytes: Bytes) -> Result<Written> {
        let version = commit.version;
        commit.log_crc = crc32fast::hash(&bytes);
        match self
            .log
            .write_commit_entry(version, CommitOrBytes::LogBytes(bytes.clone()), Uuid::nil())
            .await
        {
            Ok(()) => {}
            // A store asks again when an answer was lost: then it is our own that is there.
            Err(TransactionError::VersionAlreadyExists(_))
                if self.read_log(version).await.map_err(unsure)?.as_ref() == Some(&bytes) => {}
            Err(TransactionError::VersionAlreadyExists(_)) => return Ok(Written::Lost),
            Err(error) => return Err(unsure(self.failed("writing the oplog", error))),
        }
        if self.has_log(version - 1).await.map_err(unsure)? {
            return Ok(Written::Done(commit));
        }
        self.delete(&commit_uri_from_version(Some(version))).await.map_err(unsure)?;
        Ok(Written::Stale)
    }

    /// Whether the next commit should be followed by [`Oplog::maintain`].
    pub fn needs_maintenance(&self, state: &TableState) -> bool {
        state.version >= state.checkpoint + CHECKPOINT_COMMITS
    }

    /// Compacts, writes a checkpoint and cleans up, as far as each is due; applies to `state` what it
    /// did and returns the compaction's commit, if there was one.
    ///
    /// A race lost to another writer leaves the rest to the next time. A compaction that fails does
    /// not keep the log from being cut: its error comes last.
    pub async fn maintain(&self, state: &mut TableState) -> Result<Option<Commit>> {
        let compacted = match self.compact(state).await {
            Ok(Some(Written::Done(commit))) => {
                state.apply(&commit)?;
                Ok(Some(commit))
            }
            Ok(Some(_)) => return Ok(None),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let (bytes, last) = log::encode_checkpoint(state)?;
        self.put(&checkpoint_path(state.version), bytes).await?;
        self.put(&Path::from(LAST_CHECKPOINT), last.into()).await?;
        state.checkpoint_before = state.checkpoint;
        state.checkpoint = state.version;
        self.clean_up(state).await?;
        compacted
    }

    /// Returns the groups of files that compaction would merge now, each into one file.
    pub fn mergeable<'a>(&self, state: &'a TableState) -> Vec<Vec<&'a DataFile>> {
        let mut tiers: HashMap<u32, Vec<&DataFile>> = HashMap::new();
        for file in &state.files {
            if file.rows <= MERGE_ROWS_MAX && file.size_bytes < MERGE_BYTES_MAX / 2 {
                tiers.entry(file.rows.max(1).ilog2() / MERGE_FILES.ilog2()).or_default().push(file);
            }
        }
        let mut groups = Vec::new();
        for mut files in tiers.into_values().filter(|files| files.len() >= MERGE_FILES) {
            files.sort_by_key(|file| file.txn_min);
            let mut bytes = 0;
            // Two always fit, and what is left out is too large a sum to be merged again.
            files.retain(|file| {
                bytes += file.size_bytes;
                bytes <= MERGE_BYTES_MAX
            });
            groups.push(files);
        }
        groups
    }

    async fn compact(&self, state: &TableState) -> Result<Option<Written>> {
        let groups = self.mergeable(state);
        if groups.is_empty() {
            return Ok(None);
        }
        let mut rewrite = Rewrite::new(self, state.version + 1);
        let mut removed = Vec::new();
        for group in groups {
            let files: Vec<DataFile> = group.into_iter().cloned().collect();
            let mut rows = self.rows(&files, Scan::all());
            while let Some(rows) = rows.try_next().await? {
                rewrite.push(rows).await?;
            }
            rewrite.end_file().await?;
            removed.extend(files);
        }
        let added = rewrite.added;
        let log = LogWriter::new("OPTIMIZE", None, None)?;
        let written = self.replace(state, added.clone(), &removed, log, None).await;
        self.drop_unless_committed(&written, &added).await;
        written.map(Some)
    }

    /// Commits new files in the place of old ones. With `metadata`, rows were left out.
    async fn replace(
        &self,
        state: &TableState,
        added: Vec<DataFile>,
        old: &[DataFile],
        mut log: LogWriter,
        metadata: Option<Value>,
    ) -> Result<Written> {
        let data_change = metadata.is_some();
        if let Some(metadata) = &metadata {
            log.push(&json!({"metaData": metadata}))?;
        }
        let removed_millis = now_millis();
        let mut removed = Vec::new();
        for file in old {
            log.push(&Action::Remove(Remove {
                path: file.path.clone(),
                data_change,
                deletion_timestamp: Some(removed_millis),
                extended_file_metadata: Some(true),
                partition_values: Some(HashMap::new()),
                size: Some(file.size_bytes),
                ..Remove::default()
            }))?;
            removed.push(Tombstone { path: file.path.clone(), removed_millis });
        }
        for file in &added {
            log.push(&Action::Add(add_action(file, data_change)))?;
        }
        let commit = Commit {
            version: state.version + 1,
            log_crc: 0,
            rows: Vec::new(),
            added,
            removed,
            metadata: metadata.map(|metadata| metadata.to_string()),
            protocol: None,
        };
        self.write_log(commit, log.finish()).await
    }

    /// Prepares to give up history: writes the table's files anew without those rows of transactions
    /// below `expired.before` that `keep` does not want. It is asked once for each, in their order.
    /// Nothing refers to the new files before [`Oplog::expire`].
    ///
    /// # Errors
    /// `Io`, `Corrupt`; the table is as it was then.
    pub async fn prepare_expiry(
        &self,
        state: &TableState,
        expired: Expired,
        mut keep: impl FnMut(&OplogEntry) -> bool,
    ) -> Result<Expiry> {
        let files: Vec<DataFile> =
            state.files.iter().filter(|file| file.txn_min < expired.before).cloned().collect();
        let mut rewrite = Rewrite::new(self, state.version + 1);
        let mut rows = self.rows(&files, Scan::all());
        while let Some(mut rows) = rows.try_next().await? {
            rows.retain(|row| row.txn >= expired.before || keep(row));
            rewrite.push(rows).await?;
        }
        drop(rows);
        rewrite.end_file().await?;
        Ok(Expiry { expired, added: rewrite.added, removed: files })
    }

    /// Gives up history: from then on the table's metadata says so ([`TableState::expired`]). Other
    /// handles find out as they go on, and load the table again. The old files go as compacted ones
    /// do.
    ///
    /// After [`Written::Lost`] it can be tried again on the newer state, unless others have rewritten
    /// the files meanwhile: then it is [`Written::Stale`], and the new files are gone.
    pub async fn expire(
        &self,
        state: &TableState,
        expiry: &Expiry,
        message: Option<&str>,
    ) -> Result<Written> {
        let paths: HashSet<&str> = state.files.iter().map(|file| file.path.as_str()).collect();
        if !expiry.removed.iter().all(|file| paths.contains(file.path.as_str())) {
            self.drop_unless_committed(&Ok(Written::Stale), &expiry.added).await;
            return Ok(Written::Stale);
        }
        let mut metadata = match state.metadata_with_all_columns()? {
            Some(metadata) => metadata,
            None => parse_json(&state.metadata)?,
        };
        let configuration = metadata.pointer_mut("/configuration").and_then(Value::as_object_mut);
        let configuration =
            configuration.ok_or_else(|| Error::corrupt("oplog metadata has no configuration"))?;
        let Expired { before, timestamp } = expiry.expired;
        configuration.insert(EXPIRED_BEFORE.to_owned(), before.to_string().into());
        configuration.insert(EXPIRED_TIME.to_owned(), timestamp.to_string().into());
        let log = LogWriter::new("DELETE", None, message)?;
        let (added, removed) = (expiry.added.clone(), &expiry.removed);
        let written = self.replace(state, added, removed, log, Some(metadata)).await;
        if matches!(written, Ok(Written::Stale)) {
            self.drop_unless_committed(&written, &expiry.added).await;
        }
        written
    }

    /// Deletes log files and checkpoints from before the last checkpoint but one, in ascending order,
    /// and data files whose time is up.
    async fn clean_up(&self, state: &mut TableState) -> Result<()> {
        let keep = state.checkpoint_before;
        for version in state.log_floor..keep {
            self.delete(&commit_uri_from_version(Some(version))).await?;
            self.delete(&checkpoint_path(version)).await?;
            state.log_floor = version + 1;
        }
        let now = now_millis();
        let surplus = state.tombstones.len().saturating_sub(TOMBSTONES_MAX);
        let mut at = 0;
        let (due, mut kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.tombstones).into_iter().partition(|tombstone| {
                at += 1;
                at <= surplus || now - tombstone.removed_millis > TOMBSTONE_MILLIS
            });
        let mut failure = None;
        for tombstone in due {
            if let Err(error) = self.delete(&Path::from(tombstone.path.as_str())).await {
                kept.push(tombstone);
                failure = Some(error);
            }
        }
        state.tombstones = kept;
        failure.map_or(Ok(()), Err)
    }

    /// Streams the wanted rows of `files`, in the order of their transactions, a batch at a time.
    ///
    /// What is in memory at once is a row group (4 MiB or a little more) of each file whose
    /// transactions overlap, of which compaction leaves a few dozen at most.
    pub fn rows(
        &self,
        files: &[DataFile],
        scan: Scan,
    ) -> BoxStream<'static, Result<Vec<OplogEntry>>> {
        rows::read(self.store.clone(), files, scan)
    }

    /// Reads all rows of `files`, in the order of their transactions.
    pub async fn read_rows(&self, files: &[DataFile]) -> Result<Vec<OplogEntry>> {
        self.rows(files, Scan::all()).try_concat().await
    }

    /// Puts the file that `writer` has made, as one that the commit of `version` will name.
    async fn put_file(&self, writer: FileWriter, version: u64) -> Result<DataFile> {
        let (bytes, facts) = writer.finish()?;
        let file = DataFile {
            // The version sorts a directory listing by age; the UUID makes the name unique.
            path: format!("part-{version:020}-{}.parquet", Uuid::new_v4()),
            size_bytes: i64::try_from(bytes.len()).expect("a file fits"),
            rows: facts.rows,
            txn_min: facts.txn_min,
            txn_max: facts.txn_max,
            modified_millis: now_millis(),
            segments: facts.segments,
            pieces: Some(Pieces::of(&bytes)),
        };
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        self.store
            .put_opts(&Path::from(file.path.as_str()), bytes.into(), options)
            .await
            .map_err(|error| self.failed("writing the oplog", error))?;
        Ok(file)
    }

    /// Describes a file that the log names; one written by others may lack statistics.
    async fn data_file(&self, add: &Add) -> Result<DataFile> {
        let tag = |name: &str| add.tags.as_ref()?.get(name)?.as_deref();
        let pieces = tag(PIECES_TAG).map(|tag| {
            let damaged = || Error::corrupt(format!("oplog: the checks of file {}", add.path));
            Pieces::parse(tag).ok_or_else(damaged)
        });
        let mut file = DataFile {
            path: add.path.clone(),
            size_bytes: add.size,
            rows: 0,
            txn_min: i64::MIN,
            txn_max: i64::MAX,
            modified_millis: add.modification_time,
            segments: tag(SEGMENTS_TAG) != Some("false"),
            pieces: pieces.transpose()?,
        };
        let stats: Option<Value> =
            add.stats.as_ref().and_then(|stats| serde_json::from_str(stats).ok());
        let number = |path: &str| stats.as_ref()?.pointer(path)?.as_i64();
        match (number("/numRecords"), number("/minValues/txn"), number("/maxValues/txn")) {
            (Some(rows), Some(txn_min), Some(txn_max)) => {
                file.rows = rows;
                file.txn_min = txn_min;
                file.txn_max = txn_max;
            }
            _ => {
                let rows = self.read_rows(std::slice::from_ref(&file)).await?;
                file.rows = i64::try_from(rows.len()).expect("rows fit");
                file.txn_min = rows.first().map_or(0, |row| row.txn);
                file.txn_max = rows.last().map_or(0, |row| row.txn);
            }
        }
        Ok(file)
    }

    /// Returns how large all files of the table are, in bytes, those of the log included.
    ///
    /// # Errors
    /// `Io`.
    pub async fn size_bytes(&self) -> Result<u64> {
        let sizes = self.store.list(None).map_ok(|object| object.size);
        let sum = sizes.try_fold(0, |sum, size| async move { Ok(sum + size) }).await;
        sum.map_err(|error| self.failed("listing the oplog", error))
    }

    async fn has_log(&self, version: u64) -> Result<bool> {
        match self.store.head(&commit_uri_from_version(Some(version))).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.failed("reading the oplog", error)),
        }
    }

    async fn read_log(&self, version: u64) -> Result<Option<Bytes>> {
        if let Some(dir) = &self.dir {
            let path = dir.join(commit_uri_from_version(Some(version)).as_ref());
            return match std::fs::read(path) {
                Ok(log) => Ok(Some(log.into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.failed("reading the oplog", error)),
            };
        }
        self.log
            .read_commit_entry(version)
            .await
            .map_err(|error| self.failed("reading the oplog", error))
    }

    async fn put(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.store
            .put(path, bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| self.failed("writing the oplog", error))
    }

    async fn delete(&self, path: &Path) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("cleaning up the oplog", error)),
        }
    }

    fn failed(&self, doing: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        let kind = if is_not_found(&error) { ErrorKind::NotFound } else { ErrorKind::Io };
        let hint = hint_of_store(&chain(&error));
        let failed = Error::new(kind, format!("{doing} at {}", self.log.root_url()));
        failed.with_source(error).with_hint_opt(hint)
    }
}

/// Returns an error with all that it is from, as a text.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(|error| error.to_string()).collect::<Vec<_>>().join(": ")
}

/// Says what to do about an error of an object store that many meet.
fn hint_of_store(error: &str) -> Option<String> {
    // Where a machine of the vendor's asks who it is: the last resort.
    let hint = if error.contains("169.254.169.254") {
        "no credentials: set AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION; the profiles in \
         ~/.aws are not read"
    } else if error.contains("NoSuchBucket") {
        "the bucket does not exist: make it first, or correct its name"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

fn missing(path: &Path) -> Error {
    Error::corrupt(format!("oplog file {path} is missing"))
        .with_hint("restore the file from a backup")
}

/// Says that a failed commit may have happened.
fn unsure(error: Error) -> Error {
    error.with_hint("the commit may be there all the same: look before you try again")
}

fn is_not_found(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(object_store::Error::NotFound { .. }) = error.downcast_ref() {
            return true;
        }
        at = error.source();
    }
    false
}

impl TableState {
    /// Applies the commit that follows.
    pub fn apply(&mut self, commit: &Commit) -> Result<()> {
        if commit.version != self.version + 1 {
            return Err(Error::corrupt(format!(
                "oplog version {} does not follow {}",
                commit.version, self.version
            )));
        }
        self.version = commit.version;
        self.log_crc = commit.log_crc;
        if let Some(last) = commit.rows.last() {
            self.txn = self.txn.max(last.txn);
            self.timestamp = self.timestamp.max(last.timestamp);
        }
        if !commit.removed.is_empty() {
            let removed: HashSet<&str> =
                commit.removed.iter().map(|tombstone| tombstone.path.as_str()).collect();
            self.files.retain(|file| !removed.contains(file.path.as_str()));
            self.tombstones.extend(commit.removed.iter().cloned());
        }
        self.files.extend(commit.added.iter().cloned());
        if let Some(metadata) = &commit.metadata {
            self.metadata.clone_from(metadata);
        }
        if let Some(protocol) = &commit.protocol {
            self.protocol.clone_from(protocol);
        }
        Ok(())
    }

    /// Whether a file of this name in the table's directory, last written so long ago, is needed
    /// neither by the table nor by those who have planned with it.
    pub fn is_disposable(&self, name: &str, age: Duration) -> bool {
        if !name.ends_with(".parquet") || self.files.iter().any(|file| file.path == name) {
            return false;
        }
        match self.tombstones.iter().find(|tombstone| tombstone.path == name) {
            Some(tombstone) => now_millis() - tombstone.removed_millis > TOMBSTONE_MILLIS,
            None => age.as_millis() > ORPHAN_MILLIS as u128,
        }
    }

    /// Returns the table's identity, which copies of a pond share.
    ///
    /// # Errors
    /// `Corrupt` if the table has none that could be a name.
    pub fn id(&self) -> Result<String> {
        let metadata = parse_json(&self.metadata)?;
        let id = metadata.get("id").and_then(Value::as_str).unwrap_or_default();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        match id.len() {
            1..=64 if id.bytes().all(is_plain) => Ok(id.to_owned()),
            _ => Err(Error::corrupt("oplog metadata has no id")),
        }
    }

    /// Returns how many commits there were since the last checkpoint.
    pub fn since_checkpoint(&self) -> u64 {
        self.version - self.checkpoint
    }

    /// Returns which history was given up; `None` if all of it is there.
    pub fn expired(&self) -> Option<Expired> {
        let metadata = parse_json(&self.metadata).ok()?;
        let number = |name: &str| -> Option<i64> {
            metadata.get("configuration")?.get(name)?.as_str()?.parse().ok()
        };
        Some(Expired { before: number(EXPIRED_BEFORE)?, timestamp: number(EXPIRED_TIME)? })
    }

    /// Returns the metadata with the columns that the table lacks, or `None` if it has them all.
    fn metadata_with_all_columns(&self) -> Result<Option<Value>> {
        let mut metadata = parse_json(&self.metadata)?;
        let schema: Value = metadata
            .get("schemaString")
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str(text).ok())
            .ok_or_else(|| Error::corrupt("oplog metadata has no schema"))?;
        let fields = schema.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
        let names: HashSet<&str> =
            fields.iter().filter_map(|field| field.get("name")?.as_str()).collect();
        if COLUMNS.iter().all(|(name, _)| names.contains(name)) {
            return Ok(None);
        }
        metadata["schemaString"] = Value::String(delta_schema(&fields));
        Ok(Some(metadata))
    }
}

fn add_action(file: &DataFile, data_change: bool) -> Add {
    let stats = json!({
        "numRecords": file.rows,
        "minValues": {"txn": file.txn_min},
        "maxValues": {"txn": file.txn_max},
        "nullCount": {"txn": 0},
    });
    let pieces = file.pieces.as_ref().map(|pieces| (PIECES_TAG, pieces.to_tag()));
    let tags = [(SEGMENTS_TAG, file.segments.to_string())].into_iter().chain(pieces);
    let tags = tags.map(|(name, value)| (name.to_owned(), Some(value)));
    Add {
        path: file.path.clone(),
        size: file.size_bytes,
        modification_time: file.modified_millis,
        data_change,
        stats: Some(stats.to_string()),
        tags: Some(tags.collect()),
        ..Add::default()
    }
}

/// Returns the Delta schema: `fields` as they are, then the columns of ours that they lack.
fn delta_schema(fields: &[Value]) -> String {
    let mut all = fields.to_vec();
    for (name, delta_type) in COLUMNS {
        if !fields.iter().any(|field| field.get("name").and_then(Value::as_str) == Some(name)) {
            all.push(json!({"name": name, "type": delta_type, "nullable": true, "metadata": {}}));
        }
    }
    json!({"type": "struct", "fields": all}).to_string()
}

fn now_millis() -> i64 {
    crate::entry::now_micros() / 1000
}
