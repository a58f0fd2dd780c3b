//! Conversions: CSV texts as Parquet.
//!
//! ```text
//! cache/csv/<key>.json            what one text was converted to
//! cache/csv/<key>.lock            held by whoever converts it; becomes the .json
//! cache/csv/files/<uuid>.parquet  the rows
//! cache/csv/hits                  how often what was used, and when: a line a second
//! ```
//!
//! A key stands for one text, and for how it is to be read ([`conversion_key`]); which version of the
//! text was converted is in the conversion ([`SourceIdentity`]).
//!
//! **What is torn is never served**, although nothing here is synced: a thousand small files would
//! take a thousand syncs. Each file is known by the hash of its content and by its [`FileId`]. As
//! long as the system runs that wrote it, the id will do, since every change of the file changes it.
//! After a start of the system, and wherever the id is another one (a copied pond, a flipped byte),
//! the content is hashed once and compared, and the record renewed. The `.json` has a hash of its own
//! before it. What does not fit counts as not there, and is made anew by whoever wants it.
//!
//! **Room.** The conversions may take as much room as the [budget](Cache::set_budget); beyond it, those
//! used longest ago are forgotten, but neither one used within the last minute nor the one used
//! last. Files that were let go stay for a grace time, since queries may be reading them, so for so
//! long more room may be taken. That, and clearing up, is done by a thread of its own, at most once a
//! minute or whenever a sixteenth of the budget was written.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use datafusion::datasource::object_store::ObjectStoreUrl;
use object_store::ObjectMeta;
use object_store::path::Path as Location;
use rustix::fs::FlockOperation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_128;
use uuid::Uuid;

use super::{Cache, FILES_GRACE, FileId, Lock, no_cache, open_locked};
use crate::blob::sha256;
use crate::entry::{EntryType, TableFacts, now_micros};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{CsvOptions, KnownTable, Layout, TableFormat, TableSource};
use crate::memo::Memo;
use crate::path::PondPath;
use crate::store::{Durability, Staged, keep, list_dir};

/// Changes whenever the converter would make something else of the same text.
pub const CONVERTER: u32 = 1;
/// Changes whenever [`Conversion`] does.
const FORMAT: u32 = 1;
/// About the most that conversions held ready take in memory.
const READY_BYTES: usize = 32 << 20;
/// How long an entry that was used is safe from the budget.
const IN_USE: Duration = Duration::from_secs(60);
/// How long after clearing up it is done again.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// What part of the budget may be written before it is looked at again.
const SWEEP_FRACTION: u64 = 16;
/// The budget unless one is set: a part of the file system, within bounds.
const BUDGET_FRACTION: u64 = 10;
const BUDGET_BYTES: (u64, u64) = (1 << 30, 50 << 30);
/// How long uses are counted in memory before they are written.
const HITS_INTERVAL: Duration = Duration::from_secs(1);
/// The size from which the record of uses is summed up.
const HITS_BYTES: u64 = 1 << 20;
/// Bytes hashed at once.
const HASH_BYTES: usize = 256 << 10;

/// What a text was converted to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Conversion {
    /// Where the text is.
    pub path: String,
    /// The node that it was converted for; others may show it, too.
    pub shown_as: String,
    /// The text as it was.
    pub source: SourceIdentity,
    /// What is known of the text.
    pub layout: Layout,
    /// Its rows: those of all files.
    pub rows: u64,
    /// Records that were left out, and values that became null, because they do not fit.
    pub rejected: u64,
    /// The rows, in the order of the text.
    pub files: Vec<ConvertedFile>,
    /// What of the text was hashed, from its beginning on.
    pub prefix: Option<Prefix>,
    /// When it was converted, microseconds since 1970 UTC.
    pub converted_at: i64,
    /// How long that took.
    pub took_ms: u64,
}

/// The beginning of a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// Its length.
    pub bytes: u64,
    /// The lines in it.
    pub lines: u64,
    /// XXH3 of it, of 128 bits, in hex.
    pub xxh3: String,
}

/// What tells one version of a text from others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SourceIdentity {
    /// The address of the object store that holds it; none for a text that is named by its content.
    pub store: Option<String>,
    /// Where it is there. That of a host file holds its device, inode, size and times.
    pub location: String,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed, nanoseconds since 1970 UTC.
    pub modified: i64,
    /// What the store says to tell it from others.
    pub e_tag: Option<String>,
}

/// A Parquet file with rows of a text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConvertedFile {
    /// Its name.
    pub name: String,
    /// XXH3 of its content, of 128 bits, in hex.
    pub xxh3: String,
    /// What is known of its rows.
    pub facts: TableFacts,
    id: FileId,
    #[serde(skip)]
    known: OnceLock<Arc<KnownTable>>,
}

/// The outline of a conversion that is kept: without what is known of columns, so that all of them
/// can be held at once.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptConversion {
    /// What it is kept under.
    #[serde(skip)]
    pub key: String,
    /// See [`Conversion::path`].
    pub path: String,
    /// See [`Conversion::shown_as`].
    pub shown_as: String,
    /// See [`Conversion::rows`].
    pub rows: u64,
    /// See [`Conversion::rejected`].
    pub rejected: u64,
    /// Its files.
    pub files: Vec<KeptFile>,
    /// See [`Conversion::converted_at`].
    pub converted_at: i64,
    /// How often it was used.
    #[serde(skip)]
    pub hits: u64,
    /// When it was used last, microseconds since 1970 UTC; making it counts.
    #[serde(skip)]
    pub used_at: i64,
}

/// The outline of a file of a conversion.
#[derive(Debug, Clone, Deserialize)]
pub struct KeptFile {
    /// Its name.
    pub name: String,
    id: FileId,
}

/// Returns the key of a text that is to be converted to a table or a series. A text that is named by
/// its content has the same one wherever it is.
pub fn conversion_key(
    source: &TableSource,
    options: &CsvOptions,
    temporal_column: Option<&str>,
    target: EntryType,
) -> String {
    let text = named_by_content(source).unwrap_or(source.path.as_str());
    // Not JSON, in which what is left to be detected looks like what is said to be none.
    let all = format!("{:?}", (CONVERTER, text, options, temporal_column, target.as_str()));
    sha256(all.as_bytes())
}

/// Returns the name of a text that is named by its content.
fn named_by_content(source: &TableSource) -> Option<&str> {
    let name = source.object.location.filename().filter(|_| source.immutable)?;
    let is_hash = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then_some(name)
}

impl SourceIdentity {
    /// Returns that of a text as it was opened.
    pub fn of(source: &TableSource) -> Self {
        let object = &source.object;
        if let Some(name) = named_by_content(source) {
            let (location, size) = (name.to_owned(), object.size);
            return Self { store: None, location, size, modified: 0, e_tag: None };
        }
        Self {
            store: Some(source.store_url.as_str().to_owned()),
            location: object.location.to_string(),
            size: object.size,
            modified: object.last_modified.timestamp_nanos_opt().unwrap_or_default(),
            e_tag: object.e_tag.clone(),
        }
    }
}

impl Conversion {
    /// Returns the size of its files, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(ConvertedFile::size).sum()
    }
}

impl KeptConversion {
    /// Returns the size of its files, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.id.size).sum()
    }

    /// Whether it is of `path`, or shown there, or below.
    fn is_of(&self, path: &PondPath) -> bool {
        [&self.path, &self.shown_as]
            .iter()
            .any(|of| PondPath::parse(of).is_ok_and(|of| of.starts_with(path)))
    }

    fn is_in_use(&self) -> bool {
        let age = now_micros().saturating_sub(self.used_at);
        u64::try_from(age).is_ok_and(|age| u128::from(age) < IN_USE.as_micros())
    }
}

impl ConvertedFile {
    /// Returns its size in bytes.
    pub fn size(&self) -> u64 {
        self.id.size
    }

    /// Returns what is known of its rows, made ready to plan with.
    ///
    /// # Errors
    /// `Corrupt` if it is damaged.
    pub fn known(&self) -> Result<Arc<KnownTable>> {
        if let Some(known) = self.known.get() {
            return Ok(known.clone());
        }
        let known = KnownTable::from_facts(&self.facts)?;
        Ok(self.known.get_or_init(|| known).clone())
    }
}

/// The conversions of a pond, and what is known of them in this process.
#[derive(Debug)]
pub(super) struct Conversions {
    place: Place,
    /// The directory of the files in the engine's words; `None` if it cannot be said.
    root: Option<Location>,
    ready: Memo<(String, FileId), Arc<Opened>>,
    hits: Mutex<Hits>,
    sweep: Mutex<Sweep>,
    is_sweeping: Arc<AtomicBool>,
    /// In bytes; zero as long as it is neither set nor needed.
    budget: AtomicU64,
}

/// A conversion that was read.
#[derive(Debug)]
struct Opened {
    conversion: Arc<Conversion>,
    /// Of each file, as what it was last known to be whole.
    seen: Mutex<Vec<Option<FileId>>>,
}

/// Uses that are not written yet.
#[derive(Debug, Default)]
struct Hits {
    waiting: HashMap<String, Uses>,
    written: Option<Instant>,
}

/// How often something was used, and when last, microseconds since 1970 UTC.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    count: u64,
    last: i64,
}

impl Uses {
    fn add(&mut self, other: Uses) {
        self.count = self.count.saturating_add(other.count);
        self.last = self.last.max(other.last);
    }
}

/// When was cleared up last, and the bytes written since.
#[derive(Debug, Default)]
struct Sweep {
    done: Option<Instant>,
    written_bytes: u64,
}

impl Conversions {
    pub(super) fn at(dir: PathBuf) -> Self {
        Self {
            root: Location::from_absolute_path(dir.join("files")).ok(),
            place: Place { dir },
            ready: Memo::new(READY_BYTES, |(_, id)| {
                3 * usize::try_from(id.size).unwrap_or(READY_BYTES)
            }),
            hits: Mutex::default(),
            sweep: Mutex::default(),
            is_sweeping: Arc::default(),
            budget: AtomicU64::new(0),
        }
    }

    /// Returns what is kept under `key`, and the id of its record.
    fn open(&self, key: &str) -> Option<(FileId, Arc<Opened>)> {
        let path = self.place.record(key);
        let id = FileId::at(&path).ok()?;
        let opened = self.ready.get_or_try_insert((key.to_owned(), id), || {
            let read = self.place.read(key).filter(|read| read.id == id);
            let Record { content, is_seen, .. }: Record<Conversion> =
                read.ok_or_else(|| Error::corrupt(path.display().to_string()))?;
            let seen = content.files.iter().map(|file| is_seen.then_some(file.id)).collect();
            Ok(Arc::new(Opened { conversion: Arc::new(content), seen: Mutex::new(seen) }))
        });
        Some((id, opened.ok()?))
    }

    /// Whether the files of a conversion are what they were when it was made.
    fn is_whole(&self, key: &str, record: FileId, opened: &Opened) -> bool {
        let mut seen = opened.seen.lock().expect("never poisoned");
        let mut is_new = false;
        for (file, seen) in opened.conversion.files.iter().zip(seen.iter_mut()) {
            if !is_file_name(&file.name) {
                return false;
            }
            let path = self.place.file(&file.name);
            let Ok(id) = FileId::at(&path) else { return false };
            if *seen == Some(id) {
                continue;
            }
            let is_same = id.size == file.size()
                && hash_of(&path).is_ok_and(|hash| hash == file.xxh3)
                && FileId::at(&path).is_ok_and(|after| after == id);
            if !is_same {
                return false;
            }
            (*seen, is_new) = (Some(id), true);
        }
        if is_new {
            let ids = seen.iter().copied().collect::<Option<Vec<_>>>();
            // Otherwise the next process hashes them again.
            let _ = self.renew(key, record, &opened.conversion, ids.unwrap_or_default());
        }
        true
    }

    /// Keeps by which ids the files are known now, unless somebody is converting the text.
    fn renew(
        &self,
        key: &str,
        record: FileId,
        conversion: &Conversion,
        ids: Vec<FileId>,
    ) -> io::Result<()> {
        let Some(lock) = Lock::attempt(&self.place.lock(key))? else { return Ok(()) };
        if FileId::at(&self.place.record(key))? != record {
            return Ok(());
        }
        let mut conversion = conversion.clone();
        for (file, id) in conversion.files.iter_mut().zip(ids) {
            file.id = id;
        }
        self.place.write(key, &conversion, &lock).map(drop)
    }

    /// Writes the uses that were counted.
    fn write_hits(&self) {
        let mut hits = self.hits.lock().expect("never poisoned");
        hits.written = Some(Instant::now());
        let waiting = std::mem::take(&mut hits.waiting);
        drop(hits);
        // They are counted to choose what to forget; nothing fails for want of them.
        let _ = self.place.add_hits(&waiting);
    }

    /// Returns the budget in bytes.
    fn budget(&self) -> u64 {
        if self.budget.load(Ordering::Relaxed) == 0 {
            let budget = self.place.default_budget();
            // Unless it was set meanwhile.
            let _ = self.budget.compare_exchange(0, budget, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.budget.load(Ordering::Relaxed)
    }

    /// Clears up on a thread of its own, if it is time.
    fn sweep_if_due(&self, written_bytes: u64) {
        let budget = self.budget();
        let mut sweep = self.sweep.lock().expect("never poisoned");
        sweep.written_bytes = sweep.written_bytes.saturating_add(written_bytes);
        let is_much = sweep.written_bytes >= budget / SWEEP_FRACTION;
        let is_late = sweep.done.is_none_or(|done| done.elapsed() >= SWEEP_INTERVAL);
        if !is_much && !is_late {
            return;
        }
        *sweep = Sweep { done: Some(Instant::now()), written_bytes: 0 };
        drop(sweep);
        // Another process may have done it.
        if !is_much && self.place.was_swept_lately() {
            return;
        }
        if self.is_sweeping.swap(true, Ordering::AcqRel) {
            return;
        }
        self.write_hits();
        let (place, is_sweeping) = (self.place.clone(), self.is_sweeping.clone());
        let thread = std::thread::Builder::new().name("cache sweep".to_owned()).spawn(move || {
            // The next one to publish tries again.
            let _ = place.sweep(budget);
            is_sweeping.store(false, Ordering::Release);
        });
        if thread.is_err() {
            self.is_sweeping.store(false, Ordering::Release);
        }
    }
}

impl Drop for Conversions {
    fn drop(&mut self) {
        self.write_hits();
    }
}

impl Cache {
    fn csv(&self) -> Result<&Conversions> {
        self.conversions.as_ref().ok_or_else(no_cache)
    }

    /// Returns the conversion kept under `key` if it is of this version of the text, and whole.
    ///
    /// After a start of the system, that reads its files from end to end, once.
    pub fn conversion(&self, key: &str, source: &SourceIdentity) -> Option<Arc<Conversion>> {
        let csv = self.conversions.as_ref()?;
        let (record, opened) = csv.open(key)?;
        let serves = opened.conversion.source == *source && csv.is_whole(key, record, &opened);
        serves.then(|| opened.conversion.clone())
    }

    /// Returns the conversion kept under `key`, whichever version of the text it is of, if it is
    /// whole.
    pub fn kept_conversion(&self, key: &str) -> Option<Arc<Conversion>> {
        let csv = self.conversions.as_ref()?;
        let (record, opened) = csv.open(key)?;
        csv.is_whole(key, record, &opened).then(|| opened.conversion.clone())
    }

    /// Waits for the right to convert a text, for as long as another has it.
    ///
    /// # Errors
    /// `Unsupported` without a directory; `Io`.
    pub async fn lock_conversion(&self, key: &str) -> Result<Lock> {
        Lock::wait(&self.csv()?.place.lock(key), None).await
    }

    /// Begins a file of a conversion.
    ///
    /// # Errors
    /// `Unsupported` without a directory; `Io`.
    pub fn new_file(&self) -> Result<NewFile> {
        let name = format!("{}.parquet", Uuid::now_v7());
        let path = self.csv()?.place.file(&name);
        let staged = Staged::create(path.clone(), Durability::Process)
            .map_err(|error| Error::io(path.display(), error))?;
        Ok(NewFile { name, path, staged, hasher: XxHash3_128::new() })
    }

    /// Puts a conversion in the place of the one before, whose files stay for a while if this one has
    /// them no more. The lock ends with that.
    ///
    /// # Errors
    /// `Conflict` if a file of it is gone: that is so if it took longer than the grace time to be
    /// named; `Io`.
    pub fn publish_conversion(&self, key: &str, conversion: Conversion, lock: &Lock) -> Result<()> {
        let csv = self.csv()?;
        let path = csv.place.record(key);
        debug_assert_eq!(lock.path, csv.place.lock(key));
        for file in &conversion.files {
            let file = csv.place.file(&file.name);
            if !file.exists() {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    format!("'{}' was removed before it was in use", file.display()),
                ));
            }
        }
        if let Some((_, before)) = csv.open(key) {
            let before = before.conversion.files.iter().map(|file| file.name.as_str());
            let now: HashSet<&str> =
                conversion.files.iter().map(|file| file.name.as_str()).collect();
            csv.place.let_go(before.filter(|name| !now.contains(name)));
        }
        let bytes = conversion.size();
        let id = csv.place.write(key, &conversion, lock);
        let id = id.map_err(|error| Error::io(path.display(), error))?;
        // What was just written need not be read.
        let seen = Mutex::new(conversion.files.iter().map(|file| Some(file.id)).collect());
        let opened = Arc::new(Opened { conversion: Arc::new(conversion), seen });
        csv.ready.get_or_try_insert((key.to_owned(), id), || Ok(opened))?;
        csv.sweep_if_due(bytes);
        Ok(())
    }

    /// Returns the files of a conversion, to be opened as a table that is called `path`.
    ///
    /// # Errors
    /// `Corrupt` if what is known of them is damaged; `Invalid` if the pond's directory cannot be a
    /// path of an object store.
    pub fn conversion_sources(
        &self,
        conversion: &Conversion,
        path: &PondPath,
    ) -> Result<Vec<TableSource>> {
        let csv = self.csv()?;
        let root = csv.root.as_ref().ok_or_else(|| {
            Error::invalid(format!("'{}' is no path of an object store", csv.place.dir.display()))
        })?;
        let source = |file: &ConvertedFile| {
            Ok(TableSource {
                path: path.clone(),
                store_url: ObjectStoreUrl::local_filesystem(),
                object: ObjectMeta {
                    location: root.clone().join(file.name.as_str()),
                    // Its name is never given again.
                    last_modified: SystemTime::UNIX_EPOCH.into(),
                    size: file.size(),
                    e_tag: None,
                    version: None,
                },
                format: TableFormat::Parquet,
                known: Some(file.known()?),
                inline: None,
                immutable: true,
                after: None,
                text: None,
            })
        };
        conversion.files.iter().map(source).collect()
    }

    /// Counts a use of the conversion kept under `key`. Uses are written once a second, and when the
    /// cache is dropped.
    pub fn used(&self, key: &str) {
        let Some(csv) = &self.conversions else { return };
        let mut hits = csv.hits.lock().expect("never poisoned");
        let use_now = Uses { count: 1, last: now_micros() };
        match hits.waiting.get_mut(key) {
            Some(uses) => uses.add(use_now),
            None => drop(hits.waiting.insert(key.to_owned(), use_now)),
        }
        let is_due = hits.written.is_none_or(|written| written.elapsed() >= HITS_INTERVAL);
        drop(hits);
        if is_due {
            csv.write_hits();
        }
    }

    /// Returns every conversion that is kept, whether or not it could be served, in the order of the
    /// sources.
    ///
    /// # Errors
    /// `Io`.
    pub fn conversions(&self) -> Result<Vec<KeptConversion>> {
        let Some(csv) = &self.conversions else { return Ok(Vec::new()) };
        csv.write_hits();
        let (mut all, _) = csv.place.kept()?;
        all.sort_by(|one, other| (&one.path, &one.key).cmp(&(&other.path, &other.key)));
        Ok(all)
    }

    /// Forgets the conversions of texts that are at or below a path, or that are shown there; all of
    /// them without one. See [`Cache::clear`].
    pub(super) fn clear_conversions(&self, below: Option<&PondPath>) -> Result<u64> {
        let Some(csv) = &self.conversions else { return Ok(0) };
        let (mut all, broken) = csv.place.kept()?;
        let mut freed = 0;
        all.retain(|kept| below.is_none_or(|below| kept.is_of(below)));
        for kept in &all {
            if csv.place.forget(&kept.key)? {
                for file in &kept.files {
                    remove(&csv.place.file(&file.name))?;
                    freed += file.id.size;
                }
            }
        }
        for broken in broken.iter().filter(|_| below.is_none()) {
            csv.place.forget(&broken.key)?;
        }
        Ok(freed)
    }

    /// Forgets what is beyond the budget, and removes files that nothing names. Returns how many bytes
    /// they had.
    ///
    /// # Errors
    /// `Io`.
    pub fn sweep_conversions(&self) -> Result<u64> {
        let Some(csv) = &self.conversions else { return Ok(0) };
        csv.write_hits();
        csv.place.sweep(csv.budget())
    }

    /// Sets how much room the conversions may take, in bytes. Unless this is called, it is a tenth of
    /// the file system, and at least 1 GiB and at most 50 GiB.
    pub fn set_budget(&self, bytes: u64) {
        if let Some(csv) = &self.conversions {
            csv.budget.store(bytes.max(1), Ordering::Relaxed);
        }
    }
}

/// A file of a conversion that is being written. It has no name before it is finished, so that nothing
/// is left of it if the process is killed.
pub struct NewFile {
    name: String,
    path: PathBuf,
    staged: Staged,
    hasher: XxHash3_128,
}

impl std::fmt::Debug for NewFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewFile({})", self.path.display())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.staged.file().write(bytes)?;
        self.hasher.write(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile {
    /// Gives the file its name. `facts` say what its rows are.
    ///
    /// # Errors
    /// `Io`.
    pub fn finish(self, facts: TableFacts) -> Result<ConvertedFile> {
        let Self { name, path, staged, hasher } = self;
        let published = staged.publish_as(path.clone(), false);
        // Its name is a part of what it is: getting it changed the file's times.
        let id = published.and_then(|()| FileId::at(&path));
        let id = id.map_err(|error| Error::io(path.display(), error))?;
        let xxh3 = hex(&hasher);
        Ok(ConvertedFile { name, xxh3, facts, id, known: OnceLock::new() })
    }
}

/// The directory of the conversions.
#[derive(Debug, Clone)]
struct Place {
    dir: PathBuf,
}

/// The first line of a record, which says what the second one is.
#[derive(Serialize, Deserialize)]
struct Seal<'a> {
    format: u32,
    key: &'a str,
    /// Which start of the system the ids of the files are of.
    boot: &'a str,
    /// XXH3 of the second line.
    xxh3: String,
}

/// A record as it was read.
struct Record<T> {
    id: FileId,
    content: T,
    /// Whether the ids of its files are of this start of the system.
    is_seen: bool,
}

/// A record that is not as it was written.
struct Broken {
    key: String,
    written: SystemTime,
}

impl Place {
    fn record(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }

    fn lock(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.lock"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join("files").join(name)
    }

    fn hits(&self) -> PathBuf {
        self.dir.join("hits")
    }

    /// Whose time says when was cleared up last, by whatever process.
    fn swept(&self) -> PathBuf {
        self.dir.join("swept")
    }

    /// Reads a record; one that is not as it was written is none.
    fn read<T: DeserializeOwned>(&self, key: &str) -> Option<Record<T>> {
        let mut file = File::open(self.record(key)).ok()?;
        let id = FileId::of(&file.metadata().ok()?);
        let mut bytes = Vec::with_capacity(usize::try_from(id.size).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        let (seal, text) = bytes.split_at(memchr::memchr(b'\n', &bytes)?);
        let seal: Seal = serde_json::from_slice(seal).ok()?;
        let text = &text[1..];
        if (seal.format, seal.key) != (FORMAT, key) || seal.xxh3 != hex_of(text) {
            return None;
        }
        let content = serde_json::from_slice(text).ok()?;
        let is_seen = BOOT.as_ref().is_some_and(|boot| boot == seal.boot);
        Some(Record { id, content, is_seen })
    }

    /// Writes a record in the place of the one before, and returns its id.
    fn write(&self, key: &str, conversion: &Conversion, lock: &Lock) -> io::Result<FileId> {
        let text = serde_json::to_vec(conversion).map_err(io::Error::other)?;
        let boot = BOOT.as_deref().unwrap_or_default();
        let seal = Seal { format: FORMAT, key, boot, xxh3: hex_of(&text) };
        let mut bytes = serde_json::to_vec(&seal).map_err(io::Error::other)?;
        bytes.push(b'\n');
        bytes.extend(text);
        lock.become_file(&self.record(key), &bytes)
    }

    /// Begins the grace time of files that nothing names any more.
    fn let_go<'a>(&self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            // One that is gone needs no grace.
            let _ = keep(&self.file(name), Durability::Process);
        }
    }

    /// Returns all that is kept, in no order, and the records that are broken.
    fn kept(&self) -> Result<(Vec<KeptConversion>, Vec<Broken>)> {
        let failed = |error| Error::io(self.dir.display(), error);
        let hits = self.read_hits().map_err(failed)?;
        let (mut all, mut broken) = (Vec::new(), Vec::new());
        for (path, metadata) in list_dir(&self.dir).map_err(failed)? {
            let Some(key) = name_of(&path).strip_suffix(".json").map(str::to_owned) else {
                continue;
            };
            let read: Option<Record<KeptConversion>> = self.read(&key);
            match read.map(|read| read.content) {
                // A file of ours is in the directory of the files.
                Some(kept) if kept.files.iter().all(|file| is_file_name(&file.name)) => {
                    let uses = hits.get(&key).copied().unwrap_or_default();
                    let used_at = uses.last.max(kept.converted_at);
                    all.push(KeptConversion { key, hits: uses.count, used_at, ..kept });
                }
                _ => broken.push(Broken { key, written: metadata.modified().map_err(failed)? }),
            }
        }
        Ok((all, broken))
    }

    /// Removes a record, unless somebody is converting the text: then it stays, and this is false.
    fn forget(&self, key: &str) -> Result<bool> {
        let path = self.lock(key);
        let lock = Lock::attempt(&path).map_err(|error| Error::io(path.display(), error))?;
        if lock.is_none() {
            return Ok(false);
        }
        remove(&self.record(key))?;
        Ok(true)
    }

    fn was_swept_lately(&self) -> bool {
        let swept = std::fs::metadata(self.swept()).and_then(|metadata| metadata.modified());
        swept.is_ok_and(|swept| age(swept) < SWEEP_INTERVAL)
    }

    /// See [`Cache::sweep_conversions`].
    fn sweep(&self, budget: u64) -> Result<u64> {
        let failed = |error| Error::io(self.dir.display(), error);
        // Listed before the records are read: what is named later is not in it.
        let files = list_dir(&self.dir.join("files")).map_err(failed)?;
        let others = list_dir(&self.dir).map_err(failed)?;
        if files.is_empty() && others.is_empty() {
            return Ok(0);
        }
        let (mut kept, broken) = self.kept()?;
        for broken in broken.iter().filter(|broken| age(broken.written) > FILES_GRACE) {
            self.forget(&broken.key)?;
        }
        self.evict(&mut kept, budget)?;
        let keys: HashSet<&str> = kept.iter().map(|kept| kept.key.as_str()).collect();
        let named: HashSet<&str> =
            kept.iter().flat_map(|kept| kept.files.iter().map(|file| file.name.as_str())).collect();
        let mut freed = 0;
        for (path, metadata) in files {
            if !named.contains(name_of(&path))
                && metadata.modified().is_ok_and(|it| age(it) > FILES_GRACE)
            {
                remove(&path)?;
                freed += metadata.len();
            }
        }
        for (path, metadata) in others {
            if metadata.modified().is_ok_and(|it| age(it) > FILES_GRACE) {
                self.sweep_other(&path, &keys)?;
            }
        }
        self.sum_up_hits(&keys).map_err(failed)?;
        std::fs::write(self.swept(), "").map_err(failed)?;
        Ok(freed)
    }

    /// Removes an old lock of a key that is gone, or what a writer left that was killed.
    fn sweep_other(&self, path: &Path, keys: &HashSet<&str>) -> Result<()> {
        let name = name_of(path);
        match name.strip_suffix(".lock") {
            Some(key) if !keys.contains(key) => self.forget(key).map(drop),
            None if name.contains('#') => remove(path),
            _ => Ok(()),
        }
    }

    /// Forgets what was used longest ago until the rest is within the budget.
    fn evict(&self, kept: &mut Vec<KeptConversion>, budget: u64) -> Result<()> {
        kept.sort_by_key(|kept| std::cmp::Reverse(kept.used_at));
        let mut bytes: u64 = kept.iter().map(|kept| kept.size()).sum();
        let mut in_work = Vec::new();
        while bytes > budget && kept.len() > 1 {
            let Some(last) = kept.pop_if(|last| !last.is_in_use()) else { break };
            bytes -= last.size();
            if self.forget(&last.key)? {
                self.let_go(last.files.iter().map(|file| file.name.as_str()));
            } else {
                // Somebody is converting it: its files are named until then.
                in_work.push(last);
            }
        }
        kept.extend(in_work);
        Ok(())
    }

    fn default_budget(&self) -> u64 {
        let (least, most) = BUDGET_BYTES;
        match rustix::fs::statvfs(&self.dir) {
            Ok(found) => {
                (found.f_blocks.saturating_mul(found.f_frsize) / BUDGET_FRACTION).clamp(least, most)
            }
            Err(_) => least,
        }
    }

    /// Adds uses to the record of them.
    fn add_hits(&self, uses: &HashMap<String, Uses>) -> io::Result<()> {
        if uses.is_empty() {
            return Ok(());
        }
        let mut file = self.open_hits()?;
        file.write_all(lines_of(uses).as_bytes())
    }

    fn open_hits(&self) -> io::Result<File> {
        let file = open_locked(&self.hits(), FlockOperation::LockExclusive)?;
        file.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Returns how often what was used; what cannot be read in it is left out.
    fn read_hits(&self) -> io::Result<HashMap<String, Uses>> {
        let text = match std::fs::read(self.hits()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
            text => text?,
        };
        let mut all: HashMap<String, Uses> = HashMap::new();
        let now = now_micros();
        for line in text.split(|byte| *byte == b'\n') {
            let line = std::str::from_utf8(line).unwrap_or_default();
            let mut words = line.split(' ');
            if let (Some(key), Some(Ok(count)), Some(Ok(last)), None) = (
                words.next(),
                words.next().map(str::parse),
                words.next().map(str::parse::<i64>),
                words.next(),
            ) {
                let uses = Uses { count, last: last.min(now) };
                all.entry(key.to_owned()).or_default().add(uses);
            }
        }
        Ok(all)
    }

    /// Puts one line in the place of all lines of a key, once there are many; those of keys that are
    /// gone go.
    fn sum_up_hits(&self, keys: &HashSet<&str>) -> io::Result<()> {
        let path = self.hits();
        if !std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > HITS_BYTES) {
            return Ok(());
        }
        let _locked = self.open_hits()?;
        let mut uses = self.read_hits()?;
        uses.retain(|key, _| keys.contains(key.as_str()));
        let mut staged = Staged::create(path.clone(), Durability::Process)?;
        staged.file().write_all(lines_of(&uses).as_bytes())?;
        staged.publish_as(path, true)
    }
}

/// What tells this start of the system from others; `None` where it does not say.
static BOOT: LazyLock<Option<String>> = LazyLock::new(|| {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(boot.trim().to_owned()).filter(|boot| !boot.is_empty())
});

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn is_file_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|plain| plain == name)
}

fn age(modified: SystemTime) -> Duration {
    modified.elapsed().unwrap_or_default()
}

/// Removes a file, which may be gone.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(path.display(), error))
        }
        _ => Ok(()),
    }
}

fn lines_of(uses: &HashMap<String, Uses>) -> String {
    uses.iter().map(|(key, Uses { count, last })| format!("{key} {count} {last}\n")).collect()
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = XxHash3_128::new();
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hasher)),
            Ok(count) => hasher.write(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn hex(hasher: &XxHash3_128) -> String {
    format!("{:032x}", hasher.finish_128())
}

fn hex_of(bytes: &[u8]) -> String {
    format!("{:032x}", XxHash3_128::oneshot(bytes))
}
