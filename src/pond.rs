//! A pond: one oplog, its newest snapshot, and the commit loop.
//!
//! Commits are optimistic. A transaction is written as the version after the newest this handle
//! knows; if another writer has that version, its rows are read, the transaction is rebased (or told
//! `Conflict`) and written again. Commits of one process queue for the handle's lock; those of others
//! race for the log file's name.
//!
//! A pond in an object store is the same in other stores; its cache is on this machine, in a directory
//! for each identity of a pond that was seen at the URL.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::sync::Mutex;
use url::Url;

use crate::blob::Blobs;
use crate::entry::{NodeId, OplogEntry, now_micros};
use crate::error::{Error, ErrorKind, Result};
use crate::keep::Upkeep;
use crate::location::{Location, Remote};
use crate::namespace::Namespace;
use crate::oplog::{Next, Oplog, Scan, TableState, Written};
use crate::path::PondPath;
use crate::policy::{self, Policy};
use crate::snapshot::Snapshot;
use crate::store::{Durability, DurableStore};
use crate::transaction::Transaction;

/// Times a commit is tried before the pond is called too busy. Each lost race means that another
/// writer got through.
const COMMIT_ATTEMPTS_MAX: u32 = 200;
/// Times folding the oplog is tried again.
const LOAD_ATTEMPTS_MAX: u32 = 5;
/// Snapshots of the past that are kept, and for how long: clean-up may remove files that merging has
/// replaced since.
const PAST_KEPT: usize = 8;
const PAST_AGE_MAX: Duration = Duration::from_secs(60);
/// Longest wait between two attempts.
const BACKOFF_MAX: Duration = Duration::from_millis(20);

/// Where the folded namespace is in the cache.
const NAMESPACE: &str = "namespace";

/// How a pond is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct PondOptions {
    /// When a commit counts as done.
    pub durability: Durability,
}

/// An open pond; clones share it.
#[derive(Debug, Clone)]
pub struct Pond {
    inner: Arc<Inner>,
    /// What this handle may be used for.
    policy: Arc<Policy>,
}

#[derive(Debug)]
struct Inner {
    location: Option<Location>,
    cache_dir: Option<PathBuf>,
    oplog: Oplog,
    blobs: Blobs,
    state: Mutex<State>,
    past: Mutex<Vec<Past>>,
}

/// A point of the pond's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// After this transaction; 0 is the empty pond.
    Version(i64),
    /// As it was at this time, microseconds since 1970 UTC.
    Timestamp(i64),
}

/// A snapshot of the past that was asked for.
#[derive(Debug)]
struct Past {
    txn: i64,
    folded: Instant,
    snapshot: Arc<Snapshot>,
}

#[derive(Debug)]
struct State {
    table: TableState,
    snapshot: Arc<Snapshot>,
    namespace: Option<Namespace>,
}

/// What a commit reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Number of the transaction.
    pub txn: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
}

/// One transaction of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Number of the transaction.
    pub txn: i64,
    /// Its time, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// The statement, or the user's words; several statements are joined.
    pub message: Option<String>,
    /// Number of rows it wrote.
    pub changes: i64,
    /// The statement of the newest of these rows.
    last_message: Option<String>,
}

/// The longest text that the statements of one transaction are joined to.
const MESSAGE_BYTES_MAX: usize = 4096;

impl LogEntry {
    /// Adds another row of the same transaction.
    fn add(&mut self, row: OplogEntry) {
        self.changes += 1;
        if row.message == self.last_message {
            return;
        }
        if let Some(statement) = &row.message {
            let message = self.message.get_or_insert_default();
            if message.len() < MESSAGE_BYTES_MAX {
                let separator = if message.is_empty() { "" } else { "; " };
                message.push_str(separator);
                message.push_str(statement);
            } else if !message.ends_with('…') {
                message.push_str("; …");
            }
        }
        self.last_message = row.message;
    }
}

impl Pond {
    /// Makes a new pond at `location`; a directory may exist if it holds no pond.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one; `Io`.
    pub async fn init(location: impl Into<Location>, options: PondOptions) -> Result<Self> {
        match location.into() {
            Location::Local(dir) => Self::init_local(&dir, options).await,
            Location::Remote(remote) => Self::init_remote(remote).await,
        }
    }

    async fn init_local(dir: &Path, options: PondOptions) -> Result<Self> {
        let failed = |error| Error::io(format!("'{}'", dir.display()), error);
        let oplog_dir = std::path::absolute(dir).map_err(failed)?.join("oplog");
        if holds_files(&oplog_dir)? && !holds_files(&oplog_dir.join("_delta_log"))? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("'{}' holds files, but no log", oplog_dir.display()),
            )
            .with_hint("choose another directory, or move the files away"));
        }
        crate::store::create_dirs(&oplog_dir, options.durability).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let (oplog, blobs) = local_stores(&dir, options)?;
        let table = oplog.create().await.map_err(|error| taken(error, &dir.display()))?;
        let cache_dir = dir.join("cache");
        Ok(Self::made(dir.into(), Some(cache_dir), oplog, blobs, table))
    }

    async fn init_remote(remote: Remote) -> Result<Self> {
        let (oplog, blobs) = remote_stores(&remote)?;
        let table = oplog.create().await.map_err(|error| taken(error, remote.url()))?;
        let cache_dir = cache_of(&remote, &table)?;
        Ok(Self::made(remote.into(), cache_dir, oplog, blobs, table))
    }

    /// Returns a pond that was made just now.
    fn made(
        location: Location,
        cache_dir: Option<PathBuf>,
        oplog: Oplog,
        blobs: Blobs,
        table: TableState,
    ) -> Self {
        let mut namespace = cache_dir.as_ref().map(|dir| Namespace::new(dir.join(NAMESPACE)));
        if let Some(namespace) = &mut namespace {
            let _ = namespace.save(&table, &Snapshot::default());
        }
        let state = State { table, snapshot: Arc::default(), namespace };
        Self::new(Some(location), cache_dir, oplog, blobs, state)
    }

    /// Opens the pond at `location`.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Corrupt` if it cannot be read.
    pub async fn open(location: impl Into<Location>, options: PondOptions) -> Result<Self> {
        match location.into() {
            Location::Local(dir) => Self::open_local(&dir, options).await,
            Location::Remote(remote) => Self::open_remote(remote).await,
        }
    }

    async fn open_local(dir: &Path, options: PondOptions) -> Result<Self> {
        if !holds_files(&dir.join("oplog/_delta_log"))? {
            if holds_files(&dir.join("oplog"))? {
                return Err(Error::corrupt(format!(
                    "the pond in '{}' has lost its log, 'oplog/_delta_log'",
                    dir.display()
                ))
                .with_hint("restore the directory from a backup"));
            }
            // Empty directories are what an `init` that was killed leaves.
            return Err(Error::not_found(format!("no pond in '{}'", dir.display()))
                .with_hint(format!("make one: pond init {}", dir.display())));
        }
        let dir =
            dir.canonicalize().map_err(|error| Error::io(format!("'{}'", dir.display()), error))?;
        let (oplog, blobs) = local_stores(&dir, options)?;
        let cache_dir = dir.join("cache");
        let mut namespace = Namespace::new(cache_dir.join(NAMESPACE));
        let (state, from_cache) = match load_cached(&mut namespace) {
            Some((table, snapshot)) => {
                (State { table, snapshot: Arc::new(snapshot), namespace: Some(namespace) }, true)
            }
            None => (load(&oplog, Some(namespace.forget())).await?, false),
        };
        let pond = Self::new(Some(dir.into()), Some(cache_dir), oplog, blobs, state);
        pond.catch_up(&mut *pond.inner.state.lock().await, from_cache).await?;
        Ok(pond)
    }

    async fn open_remote(remote: Remote) -> Result<Self> {
        let (oplog, blobs) = remote_stores(&remote)?;
        for cache_dir in remote.caches().map_or_else(Vec::new, |caches| identities(&caches)) {
            let mut namespace = Namespace::new(cache_dir.join(NAMESPACE));
            let Some((table, snapshot)) = load_cached(&mut namespace) else { continue };
            let next = oplog.next(&table).await?;
            if matches!(next, Next::Stale) {
                continue;
            }
            let state = State { table, snapshot: Arc::new(snapshot), namespace: Some(namespace) };
            let (cache_dir, location) = (Some(cache_dir), Some(remote.into()));
            let pond = Self::new(location, cache_dir, oplog, blobs, state);
            if let Next::Commit(commit) = next {
                let mut state = pond.inner.state.lock().await;
                state.learn(&commit, true)?;
                pond.catch_up(&mut state, true).await?;
            }
            return Ok(pond);
        }
        let mut state = load(&oplog, None).await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => Error::not_found(format!("no pond at '{}'", remote.url()))
                .with_hint(format!("make one: pond init {}", remote.url())),
            _ => error,
        })?;
        let cache_dir = cache_of(&remote, &state.table)?;
        state.namespace = cache_dir.as_ref().map(|dir| Namespace::new(dir.join(NAMESPACE)));
        state.save();
        Ok(Self::new(Some(remote.into()), cache_dir, oplog, blobs, state))
    }

    /// Opens the pond whose table is `oplog`, wherever it is kept, with its large files in `blobs`.
    ///
    /// Without a directory there is no cache: the whole oplog is read.
    ///
    /// # Errors
    /// `NotFound` if there is no table; `Corrupt` if it cannot be read.
    pub async fn over(oplog: Oplog, blobs: Blobs) -> Result<Self> {
        let state = load(&oplog, None).await?;
        Ok(Self::new(None, None, oplog, blobs, state))
    }

    /// Makes an empty pond in memory, which is gone with its last handle.
    pub async fn transient() -> Result<Self> {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let url = Url::parse("memory:///").expect("a constant");
        let oplog = Oplog::new(store.clone(), store, &url);
        let table = oplog.create().await?;
        let state = State { table, snapshot: Arc::default(), namespace: None };
        Ok(Self::new(None, None, oplog, Blobs::memory(), state))
    }

    fn new(
        location: Option<Location>,
        cache_dir: Option<PathBuf>,
        oplog: Oplog,
        blobs: Blobs,
        state: State,
    ) -> Self {
        let (state, past) = (Mutex::new(state), Mutex::default());
        let inner = Arc::new(Inner { location, cache_dir, oplog, blobs, state, past });
        Self { inner, policy: Arc::default() }
    }

    /// Returns a handle on the same pond that may be used for what both this one and `policy` allow.
    /// What is made over it obeys: trees, edits, sessions. Other handles stay as they are.
    #[must_use]
    pub fn restricted(&self, policy: Policy) -> Self {
        let policy = Policy::clone(&self.policy).tighten(policy);
        Self { inner: self.inner.clone(), policy: Arc::new(policy) }
    }

    /// Returns what this handle may be used for.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns where the contents of large files are.
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Returns where the pond is; `None` for one in memory.
    pub fn location(&self) -> Option<&Location> {
        self.inner.location.as_ref()
    }

    /// Returns the pond's directory; `None` for one in memory, or in an object store.
    pub fn dir(&self) -> Option<&Path> {
        self.location()?.dir()
    }

    /// Returns the directory of what is derived from the pond; `None` for one that has no cache.
    pub fn cache_dir(&self) -> Option<&Path> {
        self.inner.cache_dir.as_deref()
    }

    /// Returns the newest snapshot, other processes' commits included.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let mut state = self.inner.state.lock().await;
        self.catch_up(&mut state, false).await?;
        Ok(state.snapshot.clone())
    }

    /// Returns the tree as it was at some point of its history.
    ///
    /// # Errors
    /// `NotFound` for what is still to come, or was given up; the hint says what there is.
    pub async fn as_of(&self, at: At) -> Result<Arc<Snapshot>> {
        let (table, newest) = {
            let mut state = self.inner.state.lock().await;
            self.catch_up(&mut state, false).await?;
            (state.table.clone(), state.snapshot.clone())
        };
        let txn = match at {
            At::Version(txn) => txn,
            At::Timestamp(time) if time >= newest.timestamp() && time <= now_micros() => {
                newest.txn()
            }
            At::Timestamp(time) => self.txn_at(&table, time).await?,
        };
        if txn == newest.txn() {
            return Ok(newest);
        }
        if !(0..=newest.txn()).contains(&txn) {
            return Err(Error::not_found(format!("transaction {txn} does not exist"))
                .with_hint(format!("the newest is {}; SHOW LOG lists them all", newest.txn())));
        }
        if let Some(expired) = table.expired()
            && txn < expired.before
        {
            return Err(Error::not_found(format!("transaction {txn} has expired"))
                .with_hint(format!("the oldest that can be seen is {}", expired.before)));
        }
        let mut past = self.inner.past.lock().await;
        past.retain(|past| past.folded.elapsed() < PAST_AGE_MAX);
        if let Some(found) = past.iter().find(|past| past.txn == txn) {
            return Ok(found.snapshot.clone());
        }
        let mut snapshot = Snapshot::default();
        let mut rows = self.inner.oplog.rows(&table.files, Scan::up_to(txn).and_segments());
        while let Some(batch) = rows.try_next().await? {
            for row in batch {
                if row.txn <= txn {
                    snapshot.apply(&row)?;
                } else if row.is_segment() {
                    snapshot.arrange(&row)?;
                }
            }
        }
        let snapshot = Arc::new(snapshot);
        if past.len() >= PAST_KEPT {
            past.remove(0);
        }
        past.push(Past { txn, folded: Instant::now(), snapshot: snapshot.clone() });
        Ok(snapshot)
    }

    /// Returns the newest transaction that is not later than `time`.
    async fn txn_at(&self, table: &TableState, time: i64) -> Result<i64> {
        if time > now_micros() {
            return Err(Error::not_found("that time is still to come")
                .with_hint("leave AS OF out to read what there is now"));
        }
        if let Some(expired) = table.expired()
            && time < expired.timestamp
        {
            return Err(Error::not_found("what the pond was at that time has expired").with_hint(
                format!("the oldest transaction that can be seen is {}", expired.before),
            ));
        }
        let scan = Scan::all().without_content().without_facts();
        let mut rows = self.inner.oplog.rows(&table.files, scan);
        let mut txn = None;
        while let Some(batch) = rows.try_next().await? {
            match batch.iter().rev().find(|row| row.timestamp <= time) {
                Some(row) => txn = Some(row.txn),
                // Time and transactions grow together.
                None => break,
            }
        }
        txn.ok_or_else(|| {
            Error::not_found("the pond is younger than that")
                .with_hint("SHOW LOG lists its transactions with their times")
        })
    }

    /// Returns all rows of some nodes, oldest first, without their inline bytes.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of reading the oplog.
    pub async fn rows_of(&self, nodes: &[NodeId]) -> Result<Vec<OplogEntry>> {
        let scan = Scan::all().of_nodes(nodes.iter().copied()).without_content();
        self.rows(scan).await?.try_concat().await
    }

    /// Returns the nodes that ever got a row at `path`: those that are or were there.
    ///
    /// # Errors
    /// As [`Pond::rows_of`].
    pub async fn nodes_at(&self, path: &PondPath) -> Result<BTreeSet<NodeId>> {
        let mut nodes = BTreeSet::new();
        let mut tree = Snapshot::default();
        let mut rows = self.rows(Scan::all().without_content().without_facts()).await?;
        while let Some(batch) = rows.try_next().await? {
            for row in batch {
                tree.apply(&row)?;
                if row.name == path.name() && tree.path_of(row.node_id)?.as_ref() == Some(path) {
                    nodes.insert(row.node_id);
                }
            }
        }
        Ok(nodes)
    }

    /// Returns the nodes that transactions after `first`, up to `last`, wrote rows of.
    ///
    /// # Errors
    /// As [`Pond::rows_of`].
    pub async fn nodes_between(&self, first: i64, last: i64) -> Result<BTreeSet<NodeId>> {
        let mut nodes = BTreeSet::new();
        let scan = Scan::txns(first + 1..=last).without_content().without_facts();
        let mut rows = self.rows(scan).await?;
        while let Some(batch) = rows.try_next().await? {
            nodes.extend(batch.into_iter().map(|row| row.node_id));
        }
        Ok(nodes)
    }

    /// Streams rows of the oplog, oldest first.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of reading the oplog.
    pub async fn rows(&self, scan: Scan) -> Result<BoxStream<'static, Result<Vec<OplogEntry>>>> {
        Ok(self.inner.oplog.rows(&self.table().await?.files, scan))
    }

    /// Begins a transaction on the newest snapshot.
    pub async fn begin(&self, message: Option<String>) -> Result<Transaction> {
        Ok(Transaction::new(self.snapshot().await?, message))
    }

    /// Publishes a transaction: when this returns, it is durable and visible to all.
    ///
    /// # Errors
    /// `Conflict` if another transaction changed the same path first, `Refused` by a policy that is
    /// read-only, `Limit` if the statement is late; nothing was written then.
    pub async fn commit(&self, transaction: Transaction) -> Result<Committed> {
        if !transaction.is_empty() {
            self.policy.check_write("the pond")?;
        }
        let mut state = self.inner.state.lock().await;
        let mut transaction = transaction;
        for attempt in 0..COMMIT_ATTEMPTS_MAX {
            if transaction.base().txn() != state.snapshot.txn() {
                transaction = transaction.rebase(state.snapshot.clone())?;
            }
            if transaction.is_empty() {
                let snapshot = &state.snapshot;
                return Ok(Committed { txn: snapshot.txn(), timestamp: snapshot.timestamp() });
            }
            let committed = Committed {
                txn: state.table.txn + 1,
                // Time never runs backwards in the log, whatever the clock does.
                timestamp: now_micros().max(state.table.timestamp + 1),
            };
            let rows = transaction.stamped(committed.txn, committed.timestamp);
            policy::publish()?;
            match self.inner.oplog.write(&state.table, rows).await? {
                Written::Done(commit) => {
                    state.apply(&commit)?;
                    if let Some(namespace) = &state.namespace {
                        // The next to open reads the commit from the oplog instead.
                        let _ = namespace.append(&commit);
                    }
                    self.maintain(&mut state).await;
                    return Ok(committed);
                }
                Written::Lost => {
                    tokio::time::sleep(backoff(attempt)).await;
                    self.catch_up(&mut state, false).await?;
                }
                Written::Stale => self.reload(&mut state).await?,
            }
        }
        Err(Error::new(
            ErrorKind::Conflict,
            format!("the pond is too busy: {COMMIT_ATTEMPTS_MAX} commits came first"),
        )
        .with_hint("nothing was written; try again"))
    }

    /// Returns the transactions of the past, oldest first.
    pub async fn log(&self) -> Result<Vec<LogEntry>> {
        let table = self.table().await?;
        // Rows from before that are what is left of it, and no history.
        let scan = Scan::txns(first_txn(&table)..=i64::MAX).without_content().without_facts();
        let mut log: Vec<LogEntry> = Vec::new();
        let mut rows = self.inner.oplog.rows(&table.files, scan);
        while let Some(batch) = rows.try_next().await? {
            for row in batch {
                match log.last_mut() {
                    Some(last) if last.txn == row.txn => last.add(row),
                    _ => log.push(LogEntry {
                        txn: row.txn,
                        timestamp: row.timestamp,
                        last_message: row.message.clone(),
                        message: row.message,
                        changes: 1,
                    }),
                }
            }
        }
        Ok(log)
    }

    /// Returns the first transaction whose state can still be seen: 0, unless history was given up.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of reading the oplog.
    pub async fn first_txn(&self) -> Result<i64> {
        Ok(first_txn(&self.table().await?))
    }

    /// Returns the oplog.
    pub(crate) fn oplog(&self) -> &Oplog {
        &self.inner.oplog
    }

    /// Returns the newest state of the oplog's table.
    pub(crate) async fn table(&self) -> Result<TableState> {
        let mut state = self.inner.state.lock().await;
        self.catch_up(&mut state, false).await?;
        Ok(state.table.clone())
    }

    /// Lets `work` change the newest state of the oplog's table, but none of its rows, while no other
    /// thread of this process commits. A policy that is read-only refuses it.
    pub(crate) async fn rearrange<T>(
        &self,
        work: impl AsyncFnOnce(&Oplog, &mut TableState) -> Result<T>,
    ) -> Result<T> {
        self.policy.check_write("the oplog")?;
        let mut state = self.inner.state.lock().await;
        self.catch_up(&mut state, false).await?;
        policy::publish()?;
        let result = work(&self.inner.oplog, &mut state.table).await;
        state.save();
        result
    }

    /// Applies the commits that others made since. With `append`, the cache learns of them, too.
    async fn catch_up(&self, state: &mut State, append: bool) -> Result<()> {
        loop {
            match self.inner.oplog.next(&state.table).await? {
                Next::Commit(commit) => state.learn(&commit, append)?,
                Next::Newest => return Ok(()),
                Next::Stale => self.reload(state).await?,
            }
        }
    }

    async fn reload(&self, state: &mut State) -> Result<()> {
        let namespace = state.namespace.as_ref().map(Namespace::forget);
        *state = load(&self.inner.oplog, namespace).await?;
        Ok(())
    }

    /// Keeps the oplog small. A failure is not the commit's: it is tried again after the next one.
    async fn maintain(&self, state: &mut State) {
        if !self.inner.oplog.needs_maintenance(&state.table) {
            return;
        }
        let maintained = self.inner.oplog.maintain(&mut state.table).await;
        Upkeep::Oplog.remember(self.cache_dir(), maintained.err().as_ref());
        state.save();
    }
}

impl State {
    fn apply(&mut self, commit: &crate::oplog::Commit) -> Result<()> {
        self.table.apply(commit)?;
        if !commit.rows.is_empty() {
            let snapshot = Arc::make_mut(&mut self.snapshot);
            commit.rows.iter().try_for_each(|row| snapshot.apply(row))?;
        }
        Ok(())
    }

    /// Applies a commit of others. With `append`, the cache learns of it, too.
    fn learn(&mut self, commit: &crate::oplog::Commit, append: bool) -> Result<()> {
        self.apply(commit)?;
        if append && let Some(namespace) = &self.namespace {
            let _ = namespace.append(commit);
        }
        Ok(())
    }

    fn save(&mut self) {
        if let Some(namespace) = &mut self.namespace
            && let Ok(snapshot) = namespace.save(&self.table, &self.snapshot)
        {
            self.snapshot = Arc::new(snapshot);
        }
    }
}

/// Folds the whole oplog: the slow way, for when the cache does not help.
async fn load(oplog: &Oplog, namespace: Option<Namespace>) -> Result<State> {
    let mut attempt = 0;
    let (table, snapshot) = loop {
        match fold(oplog).await {
            // Another process's maintenance may remove files while they are being read.
            Err(_) if attempt < LOAD_ATTEMPTS_MAX => {
                tokio::time::sleep(backoff(attempt)).await;
                attempt += 1;
            }
            result => break result?,
        }
    };
    let mut state = State { table, snapshot: Arc::new(snapshot), namespace };
    state.save();
    Ok(state)
}

async fn fold(oplog: &Oplog) -> Result<(TableState, Snapshot)> {
    let mut table = oplog.load().await?;
    let mut snapshot = Snapshot::default();
    let mut rows = oplog.rows(&table.files, Scan::all());
    let missing = |error: Error| match error.kind() {
        // There is a pond, but not all of it.
        ErrorKind::NotFound => Error::corrupt(error.message()).with_source(error),
        _ => error,
    };
    while let Some(batch) = rows.try_next().await.map_err(missing)? {
        batch.iter().try_for_each(|row| snapshot.apply(row))?;
    }
    drop(rows);
    table.txn = snapshot.txn();
    table.timestamp = snapshot.timestamp();
    Ok((table, snapshot))
}

pub(crate) fn local_stores(dir: &Path, options: PondOptions) -> Result<(Oplog, Blobs)> {
    let failed = |error: object_store::Error| {
        Error::new(ErrorKind::Io, format!("'{}'", dir.display())).with_source(error)
    };
    let oplog_dir = dir.join("oplog");
    let url = Url::from_directory_path(&oplog_dir)
        .map_err(|()| Error::invalid(format!("'{}' is not an absolute path", dir.display())))?;
    let store = Arc::new(DurableStore::new(&oplog_dir, options.durability).map_err(failed)?);
    let root = Arc::new(DurableStore::new(Path::new("/"), options.durability).map_err(failed)?);
    let blobs = Blobs::local(dir.join("blobs"), options.durability)?;
    Ok((Oplog::new(store, root, &url).in_dir(oplog_dir), blobs))
}

pub(crate) fn remote_stores(remote: &Remote) -> Result<(Oplog, Blobs)> {
    let mut url = remote.url().clone();
    url.set_path(&format!("{}/", remote.root().clone().join("oplog")));
    let oplog = Oplog::new(remote.below("oplog"), remote.store().clone(), &url);
    // Spooled contents have no names, so it does not matter who shares the directory.
    let spool = remote.caches().unwrap_or_else(std::env::temp_dir).join("spool");
    Ok((oplog, Blobs::remote(remote, spool)?))
}

/// Reads the namespace in the cache. It is of this pond if the log says so.
fn load_cached(namespace: &mut Namespace) -> Option<(TableState, Snapshot)> {
    // Another process may replace the layers between their names and their opening.
    namespace.load().or_else(|| namespace.load())
}

/// Returns the caches of the ponds that were seen at a URL.
fn identities(caches: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(caches) else { return Vec::new() };
    found.flatten().map(|entry| entry.path()).filter(|dir| dir.join(NAMESPACE).is_dir()).collect()
}

/// Returns the cache of the pond that is at `remote` now, and removes those of ponds that were.
fn cache_of(remote: &Remote, table: &TableState) -> Result<Option<PathBuf>> {
    let Some(caches) = remote.caches() else { return Ok(None) };
    let dir = caches.join(table.id()?);
    for before in identities(&caches).iter().filter(|before| **before != dir) {
        // It may be in use still by whoever had the pond open: then it is removed the next time.
        let _ = std::fs::remove_dir_all(before);
    }
    Ok(Some(dir))
}

/// Says that there is a pond already.
fn taken(error: Error, place: &dyn std::fmt::Display) -> Error {
    match error.kind() {
        ErrorKind::AlreadyExists => {
            Error::new(ErrorKind::AlreadyExists, format!("'{place}' already holds a pond"))
        }
        _ => error,
    }
}

fn first_txn(table: &TableState) -> i64 {
    table.expired().map_or(0, |expired| expired.before)
}

/// Whether there are files in `dir` itself; there are none in one that does not exist.
fn holds_files(dir: &Path) -> Result<bool> {
    match std::fs::read_dir(dir) {
        Ok(files) => Ok(files.flatten().any(|file| file.path().is_file())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(format!("'{}'", dir.display()), error)),
    }
}

/// A random wait that grows with the attempts, so that racing writers fall out of step.
fn backoff(attempt: u32) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let most = BACKOFF_MAX.min(Duration::from_micros(200) * (attempt + 1));
    most.mul_f64(RandomState::new().hash_one(attempt) as f64 / u64::MAX as f64)
}
