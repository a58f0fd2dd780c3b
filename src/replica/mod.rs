//! Copies of a pond: backups, clones, and how both sides are brought together again.
//!
//! A copy *is* a pond: the same layout, the same identity (the `id` of the Delta table), the same rows
//! with the same transactions and times. So it is opened, queried and checked like any other, and made
//! a pond again by copying it back. What is derived, the cache, stays behind.
//!
//! **One direction, one operation.** [`fast_forward`] brings a pond whose history is a beginning of
//! another's up to that; backup, clone, restore, pull and push are that with the sides named
//! differently:
//!
//! 1. Both states are read: of the log alone, so that nothing costs more because the pond is large.
//! 2. `History` compares the rows of the older tip on both sides; if they are not the same, the histories
//!    have diverged, and nothing is written.
//! 3. The blobs that the rows above the copy's tip name are copied, unless they are there, a few at once,
//!    each compared with its name on the way.
//! 4. Those rows become one commit of the copy, put if no other came first. If one did, all of this is
//!    done again on what is there then.
//!
//! Killed at any moment, the copy is as it was, with some blobs more; the next run finds them and sends
//! the others. Both sides are pinned ([`Blobs::pin`]) meanwhile, so garbage collection on either leaves
//! alone what is being copied; writers go on, and what they commit after step 1 is the next run's.
//!
//! **History that was given up.** What has expired on the source stays on a copy that has it; a new copy
//! is made without it, and says so. A copy whose tip is older than what the source has left cannot go on.
//!
//! Versions of a series whose rows are in a merged file need not be there any more (`Merged`); all else
//! that is missing or damaged on the source is an error, and then nothing is committed.
//!
//! In memory there is one entry for each blob that is copied.

mod compare;
mod heal;
mod history;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};

use crate::blob::{Blobs, Pin};
use crate::entry::OplogEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::keep::{Hash, Merged, Upkeep, parse_hash};
use crate::location::Location;
use crate::oplog::{DataFile, Oplog, Scan, TableState, Written};
use crate::policy;
use crate::pond::{PondOptions, local_stores, remote_stores};
use crate::progress::Progress;
use crate::store::create_dirs;

pub use compare::{Compared, compare};
pub use heal::{Healed, heal};
use history::History;

/// Times it is tried again because another writer came first, or files were replaced meanwhile.
const ATTEMPTS_MAX: u32 = 20;
/// Times the log is read again.
const LOADS_MAX: u32 = 5;
/// How long is waited before that, more each time.
const WAIT: Duration = Duration::from_millis(2);
/// Blobs copied at once.
const COPIES: usize = 4;
/// Blobs looked for at once.
const LOOKS: usize = 16;
/// More blobs than this are not asked for one by one: all that are there are listed.
const ASKED_MAX: usize = 1000;

/// A pond, as one of the two sides of a copy.
#[derive(Debug, Clone)]
pub struct Side {
    name: String,
    location: Option<Location>,
    oplog: Oplog,
    blobs: Blobs,
    /// Whether the pond is made if it is not there.
    is_made: bool,
}

/// What [`fast_forward`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Nothing: both are at this transaction.
    UpToDate {
        /// The newest.
        txn: i64,
    },
    /// Nothing: what was to be brought up is ahead.
    Ahead {
        /// The newest transaction of the source.
        source_txn: i64,
        /// The newest transaction of the other.
        txn: i64,
    },
    /// It is at the same transaction as the source now.
    Copied(Copied),
}

/// What travelled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Copied {
    /// The newest transaction.
    pub txn: i64,
    /// Transactions.
    pub txns: u64,
    /// Rows of the oplog.
    pub rows: u64,
    /// Blobs that were not there yet.
    pub blobs: u64,
    /// Size of the blobs, and of the files that hold the rows.
    pub bytes: u64,
}

impl Side {
    /// The pond whose table is `oplog` and whose large files are in `blobs`, called `name` in messages.
    /// As a copy, it is made if it is not there.
    pub fn over(name: impl Into<String>, oplog: Oplog, blobs: Blobs) -> Self {
        Self { name: name.into(), location: None, oplog, blobs, is_made: true }
    }

    /// The pond at `location`. One that is not there in an object store is only found to be missing when
    /// it is asked.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn open(location: impl Into<Location>, options: PondOptions) -> Result<Self> {
        let location = location.into();
        if let Some(dir) = location.dir()
            && !has_log(dir)?
        {
            return Err(Error::not_found(format!("no pond in '{}'", dir.display())));
        }
        Self::at(location, options, false)
    }

    /// The pond at `location`, or the place for one, which is empty or, if a directory, made.
    ///
    /// # Errors
    /// `AlreadyExists` if something else is there; `Io`.
    pub fn open_or_make(location: impl Into<Location>, options: PondOptions) -> Result<Self> {
        let location = location.into();
        if let Some(dir) = location.dir()
            && !has_log(dir)?
        {
            if is_occupied(dir)? {
                return Err(not_empty(&location));
            }
            let failed = |error| Error::io(format!("'{}'", dir.display()), error);
            let oplog = std::path::absolute(dir).map_err(failed)?.join("oplog");
            create_dirs(&oplog, options.durability).map_err(failed)?;
        }
        Self::at(location, options, true)
    }

    fn at(location: Location, options: PondOptions, is_made: bool) -> Result<Self> {
        let name = location.to_string();
        let (location, (oplog, blobs)) = match location {
            Location::Local(dir) => {
                let failed = |error| Error::io(format!("'{name}'"), error);
                let dir = dir.canonicalize().map_err(failed)?;
                let stores = local_stores(&dir, options)?;
                (dir.into(), stores)
            }
            Location::Remote(remote) => {
                let stores = remote_stores(&remote)?;
                (remote.into(), stores)
            }
        };
        Ok(Self { name, location: Some(location), oplog, blobs, is_made })
    }

    /// Returns what it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether there is a pond.
    ///
    /// # Errors
    /// `Io`, `Corrupt` if that cannot be told.
    pub async fn is_there(&self) -> Result<bool> {
        match self.state().await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            state => state.map(|_| true),
        }
    }

    /// Reads the newest state of the table.
    async fn state(&self) -> Result<TableState> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.oplog.load().await {
                // Another process may cut the log while it is being read.
                Err(error) if error.kind() == ErrorKind::Corrupt && attempt < LOADS_MAX => {
                    tokio::time::sleep(WAIT * attempt).await;
                }
                loaded => return loaded.map_err(|error| self.named(error)),
            }
        }
    }

    /// Says in an error that it is about this side.
    fn named(&self, error: Error) -> Error {
        error.context(format!("'{}'", self.name))
    }

    /// Makes the pond as a copy without rows; `None` if others did meanwhile.
    async fn make(&self, original: &TableState) -> Result<Option<TableState>> {
        if let Some(Location::Remote(remote)) = &self.location {
            let first = remote.store().list(Some(remote.root())).next().await.transpose();
            if first.map_err(Error::from_store).map_err(|error| self.named(error))?.is_some() {
                // Perhaps a pond by now.
                return match self.oplog.load().await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        Err(not_empty(&Location::from(remote.clone())))
                    }
                    _ => Ok(None),
                };
            }
        }
        match self.oplog.create_copy(original).await {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
            made => made.map(Some).map_err(|error| self.named(error)),
        }
    }

    /// Keeps clean-up away while this is read, if it can: not where there are no blobs, or where nothing
    /// may be written. What is cleaned away meanwhile is missed later.
    async fn pin_to_read(&self) -> Result<Option<Pin>> {
        match &self.location {
            Some(Location::Local(dir)) if !dir.join("blobs").is_dir() => Ok(None),
            Some(Location::Remote(_)) => match self.blobs.pin().await {
                Err(error) if error.kind() == ErrorKind::Io => Ok(None),
                pin => pin.map(Some).map_err(|error| self.named(error)),
            },
            _ => self.blobs.pin().await.map(Some).map_err(|error| self.named(error)),
        }
    }

    /// Refuses a copy that is at the same place, or within the other: it would be lost with it.
    fn check_apart(&self, copy: &Self) -> Result<()> {
        let (one, two) = match (&self.location, &copy.location) {
            (Some(Location::Local(one)), Some(Location::Local(two))) => (one.clone(), two.clone()),
            (Some(Location::Remote(one)), Some(Location::Remote(two))) => {
                (one.url().as_str().into(), two.url().as_str().into())
            }
            _ => return Ok(()),
        };
        let relation = match (one.starts_with(&two), two.starts_with(&one)) {
            (true, true) => "is the pond itself".to_owned(),
            (false, true) => format!("is inside '{}'", self.name),
            (true, false) => format!("holds '{}'", self.name),
            (false, false) => return Ok(()),
        };
        Err(Error::invalid(format!("'{}' {relation}", copy.name))
            .with_hint("a copy has a place of its own"))
    }
}

fn not_empty(location: &Location) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("'{location}' is not empty, and holds no pond"))
        .with_hint("name a place that is empty, or is not there yet")
}

async fn release(pin: Option<Pin>) {
    if let Some(pin) = pin {
        pin.release().await;
    }
}

/// Whether there is a file in the directory of the log.
fn has_log(dir: &Path) -> Result<bool> {
    let log = dir.join("oplog/_delta_log");
    if log.is_dir() { is_occupied(&log) } else { Ok(false) }
}

/// Whether there is anything but directories in `dir`, at any depth.
fn is_occupied(dir: &Path) -> Result<bool> {
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        let failed = |error| Error::io(format!("'{}'", at.display()), error);
        if !at.is_dir() && at.exists() {
            return Ok(true);
        }
        for (path, metadata) in crate::store::list_dir(&at).map_err(failed)? {
            if !metadata.is_dir() {
                return Ok(true);
            }
            waiting.push(path);
        }
    }
    Ok(false)
}

/// Brings `copy`, which may be empty, up to the newest transaction of `source`.
///
/// # Errors
/// `Conflict` if the two are different ponds, if their histories have diverged, or if the source has
/// given up what the copy lacks; `Corrupt`, naming it, for what the source has lost; `Io`. The copy shows
/// what it did before then.
pub async fn fast_forward(
    source: &Side,
    copy: &Side,
    progress: &Arc<Progress>,
) -> Result<Forwarded> {
    source.check_apart(copy)?;
    let pin = source.pin_to_read().await?;
    let copied = Copied::default();
    let mut run = Run { source, copy, progress, pin: None, copied, replaced: None };
    let forwarded = run.finish().await;
    release(run.pin).await;
    release(pin).await;
    forwarded
}

/// One run from a source to its copy.
struct Run<'a> {
    source: &'a Side,
    copy: &'a Side,
    progress: &'a Arc<Progress>,
    /// Of the copy, from the first blob on.
    pin: Option<Pin>,
    copied: Copied,
    /// Why an attempt was given up, if it was because of a file that was there before.
    replaced: Option<Error>,
}

impl Run<'_> {
    async fn finish(&mut self) -> Result<Forwarded> {
        for attempt in 1..=ATTEMPTS_MAX {
            if let Some(forwarded) = self.attempt().await? {
                return Ok(forwarded);
            }
            tokio::time::sleep(WAIT * attempt).await;
        }
        let name = &self.copy.name;
        let busy = format!("'{name}' is being written to by others");
        Err(self.replaced.take().unwrap_or_else(|| {
            Error::new(ErrorKind::Conflict, busy)
                .with_hint("what was copied of large files stays there; try again")
        }))
    }

    /// Returns `None`, for another attempt, if it was a file of the oplog that was not there: it was
    /// merged with others, and removed, since it was listed.
    fn unless_replaced<T>(&mut self, done: Result<T>) -> Result<Option<T>> {
        match done {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.replaced = Some(error);
                Ok(None)
            }
            done => done.map(Some),
        }
    }

    /// Does it all, unless another writer comes first.
    async fn attempt(&mut self) -> Result<Option<Forwarded>> {
        let Self { source, copy, .. } = *self;
        let original = source.state().await?;
        let mut table = match copy.state().await {
            Err(error) if error.kind() == ErrorKind::NotFound && copy.is_made => {
                let Some(made) = copy.make(&original).await? else { return Ok(None) };
                made
            }
            table => table?,
        };
        let history = history::relate(source, &original, copy, &table).await;
        let Some(history) = self.unless_replaced(history)? else { return Ok(None) };
        match history {
            History::Same if self.copied == Copied::default() => {
                return Ok(Some(Forwarded::UpToDate { txn: table.txn }));
            }
            // Another run committed what this one has copied.
            History::Same => {
                return Ok(Some(Forwarded::Copied(Copied { txn: table.txn, ..self.copied })));
            }
            History::Ahead => {
                let (source_txn, txn) = (original.txn, table.txn);
                return Ok(Some(Forwarded::Ahead { source_txn, txn }));
            }
            History::Behind => {}
        }
        let scan = Scan::txns(table.txn + 1..=original.txn);
        let sent = self.send_blobs(&original, &scan).await;
        let Some(()) = self.unless_replaced(sent)? else { return Ok(None) };
        // The first of the rows were read long ago, and their files may have been replaced since.
        let now = source.state().await?;
        if now.expired() != original.expired() {
            return Ok(None);
        }
        let told = self.progress.clone();
        let rows = source.oplog.rows(&now.files, scan);
        let rows = rows.inspect_ok(move |rows| told.add_rows(rows.len() as u64)).boxed();
        if let Some(pin) = &self.pin {
            pin.check().await.map_err(|error| copy.named(error))?;
        }
        policy::publish()?;
        let appended = copy.oplog.append(&table, &original, rows).await;
        let appended = appended.map_err(|error| copy.named(error));
        let Some(appended) = self.unless_replaced(appended)? else { return Ok(None) };
        let Written::Done(commit) = appended.written else { return Ok(None) };
        self.copied.txns = u64::try_from(original.txn - table.txn).unwrap_or(0);
        self.copied.txn = original.txn;
        self.copied.rows = appended.rows;
        self.copied.bytes += appended.size_bytes;
        table.apply(&commit)?;
        if copy.oplog.needs_maintenance(&table) {
            // As after any commit: it is not what was asked for, and is tried again after the next.
            let maintained = copy.oplog.maintain(&mut table).await;
            let cache = copy.location.as_ref().and_then(Location::dir).map(|dir| dir.join("cache"));
            Upkeep::Oplog.remember(cache.as_deref(), maintained.err().as_ref());
        }
        Ok(Some(Forwarded::Copied(self.copied)))
    }

    /// Copies the blobs that the rows of `scan` need and that are not there.
    async fn send_blobs(&mut self, original: &TableState, scan: &Scan) -> Result<()> {
        let Self { source, copy, progress, .. } = *self;
        let named = needed(&source.oplog, &original.files, scan.clone(), None).await;
        let named = named.map_err(|error| source.named(error))?;
        if named.is_empty() {
            return Ok(());
        }
        if self.pin.is_none() {
            self.pin = Some(copy.blobs.pin().await.map_err(|error| copy.named(error))?);
        }
        let blobs = missing(&copy.blobs, named).await.map_err(|error| copy.named(error))?;
        progress.expect_bytes(blobs.values().map(|size| size_bytes(*size)).sum());
        let mut copies = futures::stream::iter(blobs)
            .map(|(hash, size)| async move {
                let sent = send(source, copy, progress, &hash, size).await;
                sent.map(|is_sent| (hash, size, is_sent))
            })
            .buffer_unordered(COPIES);
        let mut lost = HashSet::new();
        while let Some((hash, size, is_sent)) = copies.try_next().await? {
            if is_sent {
                self.copied.blobs += 1;
                self.copied.bytes += size_bytes(size);
            } else {
                lost.insert(hash);
            }
        }
        if lost.is_empty() { Ok(()) } else { check_lost(source, original, scan, &lost).await }
    }
}

/// The blobs that some rows need, and their sizes.
type Needed = HashMap<Hash, i64>;

/// Returns the blobs that the rows of `files` need, but those that are covered by `merged`.
async fn needed(
    oplog: &Oplog,
    files: &[DataFile],
    scan: Scan,
    merged: Option<&Merged>,
) -> Result<Needed> {
    let mut needed = Needed::new();
    let mut rows = oplog.rows(files, scan.without_facts());
    while let Some(batch) = rows.try_next().await? {
        for row in &batch {
            if let Some((hash, size)) = needs(row)?
                && !merged.map_or(Ok(false), |merged| merged.covers(row, i64::MAX))?
            {
                needed.insert(hash, size);
            }
        }
    }
    Ok(needed)
}

/// Returns the blob that a row names, and its size.
fn needs(row: &OplogEntry) -> Result<Option<(Hash, i64)>> {
    let (Some(name), None, false) = (&row.sha256, &row.content, row.deleted) else {
        return Ok(None);
    };
    match (parse_hash(name), row.size) {
        (Some(hash), Some(size)) => Ok(Some((hash, size))),
        _ => Err(Error::corrupt(format!("{}: which blob it needs is damaged", label(row)))),
    }
}

/// Names a row.
fn label(row: &OplogEntry) -> String {
    format!("'{}' of transaction {}", row.name, row.txn)
}

/// Returns the name of a blob.
fn name_of(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns those of the blobs that are not there, or not with their size.
async fn missing(blobs: &Blobs, mut needed: Needed) -> Result<Needed> {
    if needed.len() > ASKED_MAX {
        for (name, size_bytes) in blobs.sizes().await? {
            if let Some(hash) = parse_hash(&name)
                && needed.get(&hash).is_some_and(|size| u64::try_from(*size) == Ok(size_bytes))
            {
                needed.remove(&hash);
            }
        }
        return Ok(needed);
    }
    let looks = futures::stream::iter(needed).map(|(hash, size)| async move {
        let is_there = blobs.has(&name_of(&hash), size).await?;
        Ok::<_, Error>((!is_there).then_some((hash, size)))
    });
    looks.buffer_unordered(LOOKS).try_filter_map(async |found| Ok(found)).try_collect().await
}

/// Copies a blob; returns whether the source has it.
async fn send(
    source: &Side,
    copy: &Side,
    progress: &Arc<Progress>,
    hash: &Hash,
    size: i64,
) -> Result<bool> {
    let (name, told) = (name_of(hash), progress.clone());
    let told = move |bytes| told.add_bytes(bytes);
    let sent = copy.blobs.copy_from(&source.blobs, &name, size, told).await;
    match sent {
        Ok(()) => Ok(true),
        // It is not there at all, or has lost its end; or else it is damaged.
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            match source.blobs.has(&name, size).await? {
                true => Err(source.named(error).with_hint(
                    "nothing was committed; `pond restore-from` repairs it from a copy that has it",
                )),
                false => Ok(false),
            }
        }
        Err(error) => Err(error),
    }
}

/// Checks that nothing needs the blobs that the source has not got: the rows of each are in a merged
/// file.
async fn check_lost(
    source: &Side,
    original: &TableState,
    scan: &Scan,
    lost: &HashSet<Hash>,
) -> Result<()> {
    let merged = Merged::read(&source.oplog, &original.files).await?;
    let mut rows = source.oplog.rows(&original.files, scan.clone().without_facts());
    while let Some(batch) = rows.try_next().await? {
        for row in &batch {
            if let Some((hash, _)) = needs(row)?
                && lost.contains(&hash)
                && !merged.covers(row, i64::MAX)?
            {
                let problem =
                    format!("blob {} is missing or cut short, for {}", name_of(&hash), label(row));
                return Err(source.named(Error::corrupt(problem)).with_hint(
                    "nothing was committed; `pond restore-from` brings it back from a copy that \
                     has it",
                ));
            }
        }
    }
    Ok(())
}

fn size_bytes(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}
