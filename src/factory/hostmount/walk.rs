//! The walk below `ls()` on a mount: directory entries straight into record batches.
//!
//! # Model
//! Workers share a stack of tasks: directories to open, and directories to read on. A worker reads
//! one buffer of entries (`getdents64`), puts the rest of the directory and the directories it found
//! on the stack, and only then looks at its own entries closely, so that one directory of a million
//! files keeps every worker busy as well as a thousand small ones do. Taking the newest task first
//! walks depth-first, which bounds the stack by depth times buffer, not by the width of the tree.
//!
//! An entry costs what is asked of it. Its type comes with its name; the filter is evaluated on
//! whole buffers of names; `statx` is called for the survivors, and only if a column needs it; a walk
//! with a limit reads one small buffer and stops.
//!
//! # Invariants
//! - Links are never followed: directories are opened by name below an open parent with
//!   `O_NOFOLLOW`, so neither a loop nor a swapped link can lead the walk astray.
//! - At most [`OPEN_MAX`] tasks hold a directory open; beyond that a directory is found again from
//!   the root of the walk, name by name.
//! - An entry that is gone by the time it is looked at was removed, and is left out. Whatever else
//!   fails is a row with its `error`.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Int64Builder, RecordBatch, RecordBatchOptions, StringViewBuilder,
    TimestampMicrosecondBuilder, UInt32Builder, new_null_array,
};
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;

use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::glob::GlobState;
use crate::node::{Walk, WalkCounters, listing_schema};
use crate::path::{escape_name, unescape_name};

/// Bytes of the first buffers of entries, some seven hundred names: what is wanted may be among
/// them.
const BUFFER_BYTES_MIN: usize = 32 * 1024;
/// Bytes of later buffers of the same directory.
const BUFFER_BYTES_MAX: usize = 256 * 1024;
/// A directory entry is never larger: a name of 255 bytes and its header.
const ENTRY_BYTES_MAX: usize = 280;
/// Rows of a worker's first batch; later ones are larger, up to what the caller asked for.
const FIRST_BATCH_ROWS: usize = 256;
/// Most directories held open by tasks that wait. Processes may often open 1,024 files.
const OPEN_MAX: usize = 200;
/// A walk with a limit is left to one worker until it has read this many buffers …
const LIMITED_READS_ALONE: usize = 4;
/// … or for this long.
const LIMITED_TIME_ALONE: Duration = Duration::from_millis(50);

/// Where a worker's rows go.
pub(super) trait Sink {
    /// Takes a batch; false if nobody wants more.
    fn send(&mut self, batch: Result<RecordBatch>) -> bool;
    /// Whether nobody wants more.
    fn is_closed(&self) -> bool;
}

/// One walk, shared by its workers.
pub(super) struct Walker {
    walk: Walk,
    counters: WalkCounters,
    root: Arc<Dir>,
    schema: SchemaRef,
    /// What each entry must be asked for.
    stat_mask: StatxFlags,
    wants_target: bool,
    wants_error: bool,
    queue: Mutex<Queue>,
    wake: Condvar,
    stop: AtomicBool,
    reads: AtomicUsize,
    workers: AtomicUsize,
    open: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Queue {
    tasks: Vec<Task>,
    busy: usize,
}

enum Task {
    /// Open the child `name` of `parent` and read it.
    Open { parent: Parent, name: CString, place: Place },
    /// Read on in a directory.
    Read { dir: Arc<Dir>, buffer_bytes: usize },
}

enum Parent {
    Open(Arc<Dir>),
    /// Too many are open: find it again.
    Closed,
}

/// An open directory.
struct Dir {
    fd: OwnedFd,
    place: Place,
    open: Arc<AtomicUsize>,
}

impl Drop for Dir {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of a directory by its path alone.
struct Place {
    /// Its path with a `/` at the end, which the paths of its children start with.
    prefix: String,
    /// Depth of its children.
    depth: u32,
    /// How far into the glob it leads.
    glob: GlobState,
}

impl Place {
    fn path(&self) -> &str {
        if self.prefix.len() == 1 { "/" } else { &self.prefix[..self.prefix.len() - 1] }
    }
}

impl Walker {
    /// Prepares a walk of the open directory `fd`.
    pub fn new(walk: Walk, fd: OwnedFd) -> Self {
        let path = walk.path.as_str();
        let all = listing_schema();
        let wants = |name: &str| walk.projection.iter().any(|at| all.field(*at).name() == name);
        let mut stat_mask = StatxFlags::empty();
        for (column, flag) in
            [("size", StatxFlags::SIZE), ("mtime", StatxFlags::MTIME), ("mode", StatxFlags::MODE)]
        {
            if wants(column) {
                stat_mask |= flag;
            }
        }
        let open = Arc::new(AtomicUsize::new(1));
        let place = Place {
            prefix: if path == "/" { "/".to_owned() } else { format!("{path}/") },
            depth: walk.depth,
            glob: walk.glob.as_ref().map(|glob| glob.state(path)).unwrap_or_default(),
        };
        let root = Arc::new(Dir { fd, place, open: open.clone() });
        let first = Task::Read { dir: root.clone(), buffer_bytes: BUFFER_BYTES_MIN };
        Self {
            schema: project(&walk.projection),
            wants_target: wants("symlink_target"),
            wants_error: wants("error"),
            stat_mask,
            counters: walk.counters.clone(),
            walk,
            root,
            queue: Mutex::new(Queue { tasks: vec![first], busy: 0 }),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
            open,
        }
    }

    /// Does one worker's share of the walk, on the calling thread, until nothing is left to do for
    /// anyone. A worker that starts late only helps less.
    pub fn work(&self, sink: &mut dyn Sink) {
        if self.workers.fetch_add(1, Ordering::Relaxed) > 0 && self.walk.limit.is_some() {
            self.wait_for_need();
        }
        let mut worker = Worker {
            walker: self,
            sink,
            buffer: Vec::new(),
            chunk: Chunk::default(),
            output: Columns::new(&self.walk.projection),
            batch_rows: FIRST_BATCH_ROWS.min(self.walk.batch_rows),
            yielded: 0,
            closed: false,
        };
        while !worker.closed
            && let Some((task, _busy)) = self.next_task()
        {
            if let Err(error) = worker.run(task) {
                worker.sink.send(Err(error));
                self.stop();
            }
        }
        worker.flush();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under the lock can panic half-way.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_task(&self) -> Option<(Task, Busy<'_>)> {
        let mut queue = self.lock();
        loop {
            if self.is_stopped() {
                return None;
            }
            if let Some(task) = queue.tasks.pop() {
                queue.busy += 1;
                return Some((task, Busy(self)));
            }
            if queue.busy == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn push(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut queue = self.lock();
        let before = queue.tasks.len();
        queue.tasks.extend(tasks);
        match queue.tasks.len() - before {
            0 => {}
            1 => self.wake.notify_one(),
            _ => self.wake.notify_all(),
        }
    }

    /// Waits until one worker alone is not enough for a walk with a limit.
    fn wait_for_need(&self) {
        let end = Instant::now() + LIMITED_TIME_ALONE;
        let mut queue = self.lock();
        while !self.is_stopped()
            && self.reads.load(Ordering::Relaxed) < LIMITED_READS_ALONE
            && (queue.busy > 0 || !queue.tasks.is_empty())
        {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            queue = self.wake.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // A waiting worker looks at the flag under the lock.
        drop(self.lock());
        self.wake.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Counts a worker as busy while it has a task, also if it panics.
struct Busy<'a>(&'a Walker);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.busy -= 1;
        if queue.busy == 0 && queue.tasks.is_empty() {
            self.0.wake.notify_all();
        }
    }
}

struct Worker<'a> {
    walker: &'a Walker,
    sink: &'a mut dyn Sink,
    buffer: Vec<u8>,
    chunk: Chunk,
    output: Columns,
    batch_rows: usize,
    yielded: usize,
    /// Nobody wants more of this worker; the rest of the walk is left to the others.
    closed: bool,
}

impl Worker<'_> {
    fn run(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Read { dir, buffer_bytes } => self.read(&dir, buffer_bytes),
            Task::Open { parent, name, place } => {
                let walker = self.walker;
                let opened = match parent {
                    Parent::Open(parent) => open_child(&parent.fd, &name),
                    Parent::Closed => self.open_from_root(place.path()),
                };
                walker.counters.opened.add(1);
                match opened {
                    Ok(fd) => {
                        walker.open.fetch_add(1, Ordering::Relaxed);
                        let dir = Arc::new(Dir { fd, place, open: walker.open.clone() });
                        self.read(&dir, BUFFER_BYTES_MIN)
                    }
                    Err(errno) if is_gone(errno) => Ok(()),
                    // The directory's own row has told.
                    Err(errno) if walker.walk.limit.is_some() && !is_exhaustion(errno) => Ok(()),
                    Err(errno) => self.fail(&place, errno),
                }
            }
        }
    }

    /// Opens a directory again whose parent is not held open.
    fn open_from_root(&self, path: &str) -> Result<OwnedFd, Errno> {
        let below = &path[self.walker.root.place.prefix.len()..];
        let mut open: Option<OwnedFd> = None;
        for name in below.split('/') {
            let name = unescape_name(name).and_then(|name| CString::new(name).ok());
            let name = name.ok_or(Errno::NOENT)?;
            let parent = open.as_ref().unwrap_or(&self.walker.root.fd);
            open = Some(open_child(parent, &name)?);
        }
        open.ok_or(Errno::NOENT)
    }

    /// Reads a directory to its end, or leaves its rest to whoever is free.
    fn read(&mut self, dir: &Arc<Dir>, mut buffer_bytes: usize) -> Result<()> {
        let walker = self.walker;
        loop {
            if walker.is_stopped() {
                return Ok(());
            }
            self.closed |= self.sink.is_closed();
            if self.closed {
                walker.push([Task::Read { dir: dir.clone(), buffer_bytes }]);
                return Ok(());
            }
            walker.reads.fetch_add(1, Ordering::Relaxed);
            walker.counters.reads.add(1);
            let bytes = match self.fill(dir, buffer_bytes) {
                Ok(0) => return Ok(()),
                Ok(bytes) => bytes,
                Err(errno) if is_gone(errno) => return Ok(()),
                Err(errno) if Arc::ptr_eq(dir, &walker.root) => {
                    return Err(Error::io(format!("'{}'", dir.place.path()), errno.into()));
                }
                Err(errno) => return self.fail(&dir.place, errno),
            };
            let full = bytes + ENTRY_BYTES_MAX >= buffer_bytes;
            if full {
                buffer_bytes = (buffer_bytes * 2).min(BUFFER_BYTES_MAX);
            }
            // A limit may be met before the rest is of interest.
            let hand_over = (full || walker.walk.limit.is_some())
                && walker.open.load(Ordering::Relaxed) < OPEN_MAX;
            if hand_over {
                walker.push([Task::Read { dir: dir.clone(), buffer_bytes }]);
            }
            self.descend(dir);
            self.select(&dir.place)?;
            self.look(dir);
            self.emit(&dir.place)?;
            if hand_over {
                return Ok(());
            }
        }
    }

    /// Reads one buffer of entries into the chunk; returns about how many bytes they took.
    fn fill(&mut self, dir: &Dir, buffer_bytes: usize) -> Result<usize, Errno> {
        self.chunk.clear();
        if self.buffer.capacity() < buffer_bytes {
            self.buffer = Vec::with_capacity(buffer_bytes);
        }
        let buffer: &mut [MaybeUninit<u8>] = &mut self.buffer.spare_capacity_mut()[..buffer_bytes];
        let mut entries = RawDir::new(&dir.fd, buffer);
        let mut bytes = 0;
        // With a glob, its own dots decide what is hidden.
        let hidden = self.walker.walk.hidden || self.walker.walk.glob.is_some();
        let mut unknown = false;
        loop {
            match entries.next() {
                None => break,
                Some(Err(Errno::INTR)) => continue,
                Some(Err(errno)) => return Err(errno),
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    bytes += (name.count_bytes() + 20).next_multiple_of(8);
                    let first = name.to_bytes().first();
                    let is_dots = matches!(name.to_bytes(), b"." | b"..");
                    if !is_dots && (hidden || first != Some(&b'.')) {
                        let kind = Kind::of(entry.file_type());
                        unknown |= kind == Kind::Unknown;
                        self.chunk.push(name, kind);
                    }
                }
            }
            if entries.is_buffer_empty() {
                break;
            }
        }
        if unknown {
            self.ask_kinds(dir);
        }
        Ok(bytes)
    }

    /// Asks for the types that the directory itself does not tell on this file system.
    fn ask_kinds(&mut self, dir: &Dir) {
        let Chunk { names, raw, rows } = &mut self.chunk;
        let mut asked = 0;
        rows.retain_mut(|row| {
            if row.kind != Kind::Unknown {
                return true;
            }
            asked += 1;
            match stat(dir, row.host_name(names, raw), StatxFlags::TYPE) {
                Ok(stat) => {
                    row.kind =
                        Kind::of(FileType::from_raw_mode(rustix::fs::RawMode::from(stat.stx_mode)));
                }
                Err(errno) if is_gone(errno) => return false,
                Err(errno) => row.fail(errno),
            }
            true
        });
        self.walker.counters.stats.add(asked);
    }

    /// Puts the directories of the chunk on the stack that can hold something wanted.
    fn descend(&mut self, dir: &Arc<Dir>) {
        let walker = self.walker;
        let walk = &walker.walk;
        if !walk.recursive {
            return;
        }
        let mut tasks = Vec::new();
        for row in self.chunk.rows.iter_mut().filter(|row| row.kind == Kind::Directory) {
            let name = row.name(&self.chunk.names);
            let glob = match &walk.glob {
                Some(glob) => {
                    let state = dir.place.glob.enter(glob, name, walk.hidden);
                    if state.is_dead() {
                        continue;
                    }
                    state
                }
                None => GlobState::default(),
            };
            let depth = dir.place.depth + 1;
            let mut prefix = format!("{}{name}/", dir.place.prefix);
            if !walk.prune.may_hold(&prefix[..prefix.len() - 1], depth) {
                continue;
            }
            prefix.shrink_to_fit();
            let name = row.host_name(&self.chunk.names, &self.chunk.raw).to_owned();
            // Only now can the directory's own row still tell. With a limit most rows are never
            // wanted, and `look` asks for those that are.
            if walker.wants_error && walk.limit.is_none() {
                walker.counters.opened.add(1);
                if let Err(errno) = open_child(&dir.fd, &name)
                    && !is_gone(errno)
                {
                    walker.counters.unreadable.add(1);
                    row.fail(errno);
                    continue;
                }
            }
            let parent = if walker.open.load(Ordering::Relaxed) < OPEN_MAX {
                Parent::Open(dir.clone())
            } else {
                Parent::Closed
            };
            tasks.push(Task::Open { parent, name, place: Place { prefix, depth, glob } });
        }
        walker.push(tasks);
    }

    /// Leaves only the wanted rows in the chunk, as far as their names tell.
    fn select(&mut self, place: &Place) -> Result<()> {
        let walk = &self.walker.walk;
        let Chunk { names, rows, .. } = &mut self.chunk;
        if let Some(glob) = &walk.glob {
            rows.retain(|row| place.glob.is_match(glob, row.name(names), walk.hidden));
        }
        let Some(filter) = &walk.filter else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        let mut columns = Columns::new(filter.columns());
        columns.append(place, names, rows);
        let mask = filter.evaluate(&columns.finish(&project(filter.columns()))?)?;
        let mut wanted = mask.values().iter();
        rows.retain(|_| wanted.next().expect("the mask is as long as the batch"));
        Ok(())
    }

    /// Asks the host about each wanted entry, as far as the columns need it and the limit allows.
    fn look(&mut self, dir: &Dir) {
        let walker = self.walker;
        let left = walker.walk.limit.map_or(usize::MAX, |limit| limit - self.yielded);
        let Chunk { names, raw, rows } = &mut self.chunk;
        let needs_stat = !walker.stat_mask.is_empty();
        if !needs_stat && !walker.wants_target && !walker.wants_error {
            rows.truncate(left);
            return;
        }
        let (mut kept, mut asked) = (0, 0);
        rows.retain_mut(|row| {
            if kept == left {
                return false;
            }
            let name = row.host_name(names, raw);
            if needs_stat {
                asked += 1;
                match stat(dir, name, walker.stat_mask) {
                    Ok(stat) => row.set_stat(&stat),
                    Err(errno) if is_gone(errno) => return false,
                    Err(errno) => row.fail(errno),
                }
            }
            if walker.wants_target && row.kind == Kind::Symlink {
                match rustix::fs::readlinkat(&dir.fd, name, Vec::new()) {
                    Ok(target) => row.detail().target = Some(escape_name(target.to_bytes())),
                    Err(errno) if is_gone(errno) => return false,
                    Err(errno) => row.fail(errno),
                }
            }
            if walker.wants_error
                && row.detail.as_ref().is_none_or(|detail| detail.error.is_none())
                && let Err(errno) = may_read(dir, name, row.kind)
            {
                row.fail(errno);
            }
            kept += 1;
            true
        });
        walker.counters.stats.add(asked);
    }

    /// Hands the chunk's rows on.
    fn emit(&mut self, place: &Place) -> Result<()> {
        self.output.append(place, &self.chunk.names, &self.chunk.rows);
        self.yielded += self.chunk.rows.len();
        let enough = self.walker.walk.limit.is_some_and(|limit| self.yielded >= limit);
        if enough {
            self.walker.stop();
        }
        if enough || self.output.rows >= self.batch_rows {
            self.batch_rows = (self.batch_rows * 4).min(self.walker.walk.batch_rows);
            self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) {
        if self.output.rows == 0 {
            return;
        }
        let batch = self.output.finish(&self.walker.schema);
        self.closed |= !self.sink.send(batch);
    }

    /// Yields the row of a directory that could not be read, if the caller would see why.
    fn fail(&mut self, place: &Place, errno: Errno) -> Result<()> {
        let walker = self.walker;
        // Not the directory's fault but the process's: an answer without it would be wrong.
        if is_exhaustion(errno) {
            return Err(Error::io(format!("'{}'", place.path()), errno.into()));
        }
        walker.counters.unreadable.add(1);
        if !walker.wants_error {
            return Ok(());
        }
        let (parent, name) = place.path().rsplit_once('/').unwrap_or(("", ""));
        let glob = walker.walk.glob.as_ref();
        let parent = Place {
            prefix: format!("{parent}/"),
            depth: place.depth - 1,
            glob: glob.map(|glob| glob.state(parent)).unwrap_or_default(),
        };
        self.chunk.clear();
        self.chunk.push_text(name, Kind::Directory);
        for row in &mut self.chunk.rows {
            row.fail(errno);
        }
        self.select(&parent)?;
        self.emit(&parent)
    }
}

/// Opens a directory below an open one, without following a link.
fn open_child(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn stat(dir: &Dir, name: &CStr, mask: StatxFlags) -> Result<rustix::fs::Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    rustix::fs::statx(&dir.fd, name, flags, mask)
}

/// Whether the entry could be opened. Directories are: there are more reasons for them not to be.
fn may_read(dir: &Dir, name: &CStr, kind: Kind) -> Result<(), Errno> {
    let result = match kind {
        Kind::Directory => open_child(&dir.fd, name).map(drop),
        Kind::File => rustix::fs::accessat(&dir.fd, name, Access::READ_OK, AtFlags::EACCESS),
        Kind::Symlink | Kind::Special | Kind::Unknown => Ok(()),
    };
    match result {
        Err(errno) if is_gone(errno) => Ok(()),
        result => result,
    }
}

/// Whether an entry is not there any more, or not what it was.
pub(super) fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE)
}

/// Whether this process has run out of something: no fault of the entry.
fn is_exhaustion(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOMEM)
}

/// Returns the host's words for an error, without its number.
pub(super) fn errno_text(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
    Symlink,
    Special,
    Unknown,
}

impl Kind {
    fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Unknown => Self::Unknown,
            _ => Self::Special,
        }
    }

    fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Directory => Some(EntryType::Directory.as_str()),
            Self::File => Some(EntryType::FileData.as_str()),
            Self::Symlink => Some(EntryType::Symlink.as_str()),
            Self::Special => Some(EntryType::Special.as_str()),
            Self::Unknown => None,
        }
    }
}

/// The entries of one buffer, all of one directory.
#[derive(Default)]
struct Chunk {
    /// Their pond names, each with a NUL after it.
    names: String,
    /// The host names of those that had to be escaped, each with a NUL after it.
    raw: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    start: u32,
    end: u32,
    /// Where the host name starts in `Chunk::raw`, if it is not the pond name.
    raw: Option<u32>,
    kind: Kind,
    has_stat: bool,
    mode: u32,
    size: i64,
    mtime: i64,
    detail: Option<Box<Detail>>,
}

#[derive(Default)]
struct Detail {
    target: Option<String>,
    error: Option<String>,
}

impl Chunk {
    fn clear(&mut self) {
        self.names.clear();
        self.raw.clear();
        self.rows.clear();
    }

    fn push(&mut self, host_name: &CStr, kind: Kind) {
        match std::str::from_utf8(host_name.to_bytes()) {
            Ok(name) if !name.as_bytes().contains(&b'\\') => self.push_text(name, kind),
            _ => {
                let raw = index(self.raw.len());
                self.raw.extend_from_slice(host_name.to_bytes_with_nul());
                self.push_text(&escape_name(host_name.to_bytes()), kind);
                self.rows.last_mut().expect("just pushed").raw = Some(raw);
            }
        }
    }

    fn push_text(&mut self, name: &str, kind: Kind) {
        let start = index(self.names.len());
        self.names.push_str(name);
        let end = index(self.names.len());
        self.names.push('\0');
        self.rows.push(Row {
            start,
            end,
            raw: None,
            kind,
            has_stat: false,
            mode: 0,
            size: 0,
            mtime: 0,
            detail: None,
        });
    }
}

/// A buffer of entries, however escaped, is far below four gigabytes.
fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a buffer of entries is small")
}

impl Row {
    fn name<'a>(&self, names: &'a str) -> &'a str {
        &names[self.start as usize..self.end as usize]
    }

    fn host_name<'a>(&self, names: &'a str, raw: &'a [u8]) -> &'a CStr {
        let bytes = match self.raw {
            None => &names.as_bytes()[self.start as usize..=self.end as usize],
            Some(start) => &raw[start as usize..],
        };
        CStr::from_bytes_until_nul(bytes).expect("every name is pushed with its NUL")
    }

    fn set_stat(&mut self, stat: &rustix::fs::Statx) {
        self.has_stat = true;
        self.size = i64::try_from(stat.stx_size).unwrap_or(i64::MAX);
        self.mtime = micros(stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
        self.mode = u32::from(stat.stx_mode) & 0o7777;
    }

    fn detail(&mut self) -> &mut Detail {
        self.detail.get_or_insert_default()
    }

    fn fail(&mut self, errno: Errno) {
        self.detail().error = Some(errno_text(errno));
    }
}

/// Returns microseconds since 1970.
pub(super) fn micros(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1000))
}

fn project(columns: &[usize]) -> SchemaRef {
    let all = listing_schema();
    Arc::new(Schema::new(columns.iter().map(|at| all.field(*at).clone()).collect::<Vec<_>>()))
}

/// A batch being built.
struct Columns {
    columns: Vec<Column>,
    rows: usize,
    path: String,
}

enum Column {
    Path(StringViewBuilder),
    Name(StringViewBuilder),
    Parent(StringViewBuilder),
    EntryType(StringViewBuilder),
    Dynamic(BooleanBuilder),
    Size(Int64Builder),
    Mtime(TimestampMicrosecondBuilder),
    Mode(UInt32Builder),
    Depth(UInt32Builder),
    IsSymlink(BooleanBuilder),
    SymlinkTarget(StringViewBuilder),
    Hidden(BooleanBuilder),
    Error(StringViewBuilder),
    /// What host files do not have.
    Null,
}

impl Columns {
    fn new(columns: &[usize]) -> Self {
        let all = listing_schema();
        let columns = columns
            .iter()
            .map(|at| match all.field(*at).name().as_str() {
                "path" => Column::Path(StringViewBuilder::new()),
                "name" => Column::Name(StringViewBuilder::new()),
                "parent" => Column::Parent(StringViewBuilder::new()),
                "entry_type" => Column::EntryType(StringViewBuilder::new()),
                "dynamic" => Column::Dynamic(BooleanBuilder::new()),
                "size" => Column::Size(Int64Builder::new()),
                "mtime" => Column::Mtime(TimestampMicrosecondBuilder::new().with_timezone("UTC")),
                "mode" => Column::Mode(UInt32Builder::new()),
                "depth" => Column::Depth(UInt32Builder::new()),
                "is_symlink" => Column::IsSymlink(BooleanBuilder::new()),
                "symlink_target" => Column::SymlinkTarget(StringViewBuilder::new()),
                "hidden" => Column::Hidden(BooleanBuilder::new()),
                "error" => Column::Error(StringViewBuilder::new()),
                _ => Column::Null,
            })
            .collect();
        Self { columns, rows: 0, path: String::new() }
    }

    fn append(&mut self, place: &Place, names: &str, rows: &[Row]) {
        self.rows += rows.len();
        for column in &mut self.columns {
            match column {
                Column::Path(out) => {
                    self.path.clear();
                    self.path.push_str(&place.prefix);
                    for row in rows {
                        self.path.truncate(place.prefix.len());
                        self.path.push_str(row.name(names));
                        out.append_value(&self.path);
                    }
                }
                Column::Name(out) => rows.iter().for_each(|row| out.append_value(row.name(names))),
                Column::Parent(out) => {
                    let block = out.append_block(place.path().as_bytes().into());
                    let length = index(place.path().len());
                    for _ in rows {
                        out.try_append_view(block, 0, length).expect("the block is this text");
                    }
                }
                Column::EntryType(out) => {
                    rows.iter().for_each(|row| out.append_option(row.kind.as_str()));
                }
                Column::Dynamic(out) => out.append_n(rows.len(), true),
                Column::Size(out) => {
                    rows.iter().for_each(|row| out.append_option(row.has_stat.then_some(row.size)));
                }
                Column::Mtime(out) => {
                    rows.iter()
                        .for_each(|row| out.append_option(row.has_stat.then_some(row.mtime)));
                }
                Column::Mode(out) => {
                    rows.iter().for_each(|row| out.append_option(row.has_stat.then_some(row.mode)));
                }
                Column::Depth(out) => out.append_value_n(place.depth, rows.len()),
                Column::IsSymlink(out) => {
                    rows.iter().for_each(|row| out.append_value(row.kind == Kind::Symlink));
                }
                Column::SymlinkTarget(out) => rows.iter().for_each(|row| {
                    out.append_option(row.detail.as_ref().and_then(|d| d.target.as_deref()));
                }),
                Column::Hidden(out) => {
                    rows.iter().for_each(|row| out.append_value(row.name(names).starts_with('.')));
                }
                Column::Error(out) => rows.iter().for_each(|row| {
                    out.append_option(row.detail.as_ref().and_then(|d| d.error.as_deref()));
                }),
                Column::Null => {}
            }
        }
    }

    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let columns = self
            .columns
            .iter_mut()
            .zip(schema.fields())
            .map(|(column, field)| -> ArrayRef {
                match column {
                    Column::Path(out)
                    | Column::Name(out)
                    | Column::Parent(out)
                    | Column::EntryType(out)
                    | Column::SymlinkTarget(out)
                    | Column::Error(out) => Arc::new(out.finish()),
                    Column::Dynamic(out) | Column::IsSymlink(out) | Column::Hidden(out) => {
                        Arc::new(out.finish())
                    }
                    Column::Size(out) => Arc::new(out.finish()),
                    Column::Mtime(out) => Arc::new(out.finish()),
                    Column::Mode(out) | Column::Depth(out) => Arc::new(out.finish()),
                    Column::Null => new_null_array(field.data_type(), rows),
                }
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
    }
}
