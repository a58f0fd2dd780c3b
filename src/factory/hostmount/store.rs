//! The bytes of mounted files, as the object store that the engine's table scans read from.
//!
//! # Model
//! A file that becomes part of a table is opened then, and kept open for the scan: a file deleted or
//! replaced between planning and reading is still read as it was planned. The files kept open are
//! bounded in number and time ([`KEPT_MAX`], [`KEPT_IDLE`]); one that is not kept any more is opened
//! again, and is an error if it is another file by then.
//!
//! A location is `<mount>/<file>/<names below the mount>`: device and inode of the mounted directory,
//! then inode, size and times of the file. The engine's cache of footers is keyed by location alone,
//! so no two files may ever share one, nor two contents of one file.
//!
//! Bytes that are in the page cache are copied on the calling thread: handing them to another costs
//! more. Whatever must be waited for is read on a thread of its own.
//!
//! # Invariants
//! - It only reads. Every change is refused, and names the mount.
//! - It serves files, not listings: a listing is `ls()`.
//! - A range that the file does not have any more is an error.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::IoSliceMut;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::{Path as Location, PathPart};
use object_store::{
    Attributes, CopyOptions, Error as StoreError, GetOptions, GetResult, GetResultPayload,
    ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result as StoreResult,
};
use rustix::io::ReadWriteFlags;
use tokio::sync::mpsc;

use super::dir::Mount;
use crate::error::{Error, Result};

/// Most files kept open for scans, of all mounts together.
const KEPT_MAX: usize = 256;
/// How long a file is kept open unused.
const KEPT_IDLE: Duration = Duration::from_secs(60);
/// Bytes of a chunk of a stream.
const CHUNK_BYTES: u64 = 1 << 20;
/// Chunks that a stream is ahead of its reader.
const CHUNKS_AHEAD: usize = 2;
/// Most bytes copied from the page cache on the calling thread in one call.
const INLINE_BYTES_MAX: u64 = 16 << 20;

/// The read-only object store of one mount.
#[derive(Debug, Clone)]
pub(super) struct HostStore {
    mount: Arc<Mount>,
}

/// A file kept open.
struct Kept {
    file: Arc<File>,
    used: Instant,
}

static KEPT: LazyLock<Mutex<HashMap<Location, Kept>>> = LazyLock::new(Mutex::default);

fn kept() -> MutexGuard<'static, HashMap<Location, Kept>> {
    // Nothing under the lock can panic half-way.
    KEPT.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HostStore {
    pub fn new(mount: Arc<Mount>) -> Self {
        Self { mount }
    }

    /// Makes the store known to a session, if there is one, and returns its address.
    pub fn register(&self, session: Option<&dyn Session>) -> Result<ObjectStoreUrl> {
        let url = ObjectStoreUrl::parse(format!("hostmount://{}", self.mount.id()))?;
        if let Some(session) = session {
            session.runtime_env().register_object_store(url.as_ref(), Arc::new(self.clone()));
        }
        Ok(url)
    }

    /// Keeps an open file, which is `below` the mount, for the scans to come.
    pub fn keep(&self, file: File, below: &Path) -> std::io::Result<ObjectMeta> {
        let identity = Identity::of(&file)?;
        let parts = [self.mount.id().into_bytes(), identity.to_string().into_bytes()];
        let names = below.components().map(|name| name.as_os_str().as_bytes());
        let location =
            parts.iter().map(Vec::as_slice).chain(names).map(PathPart::from).collect::<Location>();
        let object = identity.object(location.clone());
        keep(location, Arc::new(file));
        Ok(object)
    }

    /// Returns the open file of a location, and what it is now.
    fn open(&self, location: &Location) -> StoreResult<(Arc<File>, Identity)> {
        let found = kept().get_mut(location).map(|kept| {
            kept.used = Instant::now();
            kept.file.clone()
        });
        if let Some(file) = found {
            let now = Identity::of(&file).map_err(|error| failed(location, error))?;
            return Ok((file, now));
        }
        let not_ours = || StoreError::NotFound {
            path: location.to_string(),
            source: format!("the {} has no such file", self.mount.describe()).into(),
        };
        let mut parts = location.parts();
        let mount = parts.next().ok_or_else(not_ours)?;
        let planned = parts.next().ok_or_else(not_ours)?;
        if mount.as_ref() != self.mount.id() {
            return Err(not_ours());
        }
        let mut below = PathBuf::new();
        for part in parts {
            let name = decode(part.as_ref()).ok_or_else(not_ours)?;
            below.push(OsStr::from_bytes(&name));
        }
        let file = self.mount.open_file(&below).map_err(|error| failed(location, error))?;
        let now = Identity::of(&file).map_err(|error| failed(location, error))?;
        // Its links may have changed since, but not its content.
        let content = |text: &str| text.rsplit_once('-').map(|(content, _)| content.to_owned());
        if content(&now.to_string()) != content(planned.as_ref()) {
            let error = std::io::Error::other("it is another file than when it was opened");
            return Err(failed(location, error));
        }
        let file = Arc::new(file);
        keep(location.clone(), file.clone());
        Ok((file, now))
    }

    fn refuse(&self, operation: &str) -> StoreError {
        let error = Error::read_only(format!(
            "the {} is read-only: {operation} is not possible",
            self.mount.describe()
        ))
        .with_hint("change the files on the host");
        StoreError::Generic { store: "hostmount", source: Box::new(error) }
    }
}

/// Keeps a file open, in place of the one used longest ago if there are many.
fn keep(location: Location, file: Arc<File>) {
    let mut kept = kept();
    let now = Instant::now();
    kept.retain(|_, kept| now.duration_since(kept.used) < KEPT_IDLE);
    if kept.len() >= KEPT_MAX
        && let Some(oldest) =
            kept.iter().min_by_key(|(_, kept)| kept.used).map(|(location, _)| location.clone())
    {
        kept.remove(&oldest);
    }
    let is_first = kept.is_empty();
    kept.insert(location, Kept { file, used: now });
    drop(kept);
    if is_first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(close_idle());
    }
}

/// Closes what nobody uses, until nothing is kept.
async fn close_idle() {
    loop {
        tokio::time::sleep(KEPT_IDLE).await;
        let mut kept = kept();
        let now = Instant::now();
        kept.retain(|_, kept| now.duration_since(kept.used) < KEPT_IDLE);
        if kept.is_empty() {
            return;
        }
    }
}

/// What tells one content of one file from all others, as far as the host can tell.
#[derive(Debug, Clone, Copy)]
struct Identity {
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Identity {
    fn of(file: &File) -> std::io::Result<Self> {
        let stat = rustix::fs::fstat(file)?;
        let nanos = |nanos: u64| u32::try_from(nanos).unwrap_or_default();
        Ok(Self {
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
        })
    }

    fn object(&self, location: Location) -> ObjectMeta {
        let (seconds, nanos) = self.modified;
        let time = if seconds < 0 {
            std::time::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs())
        } else {
            std::time::UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs())
        } + Duration::from_nanos(u64::from(nanos));
        ObjectMeta {
            location,
            last_modified: time.into(),
            size: self.size,
            // Not the time of the last change: being renamed or deleted leaves the content alone.
            e_tag: Some(format!("{:x}-{:x}-{seconds:x}.{nanos:x}", self.inode, self.size)),
            // That time, in nanoseconds since 1970: who keeps something of the content needs it.
            version: {
                let (seconds, nanos) = self.changed;
                Some((i128::from(seconds) * 1_000_000_000 + i128::from(nanos)).to_string())
            },
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((modified, modified_nanos), (changed, changed_nanos)) = (self.modified, self.changed);
        write!(
            f,
            "{:x}.{:x}.{modified:x}.{modified_nanos:x}-{changed:x}.{changed_nanos:x}",
            self.inode, self.size
        )
    }
}

fn failed(location: &Location, error: std::io::Error) -> StoreError {
    let path = location.to_string();
    match error.kind() {
        std::io::ErrorKind::NotFound => StoreError::NotFound { path, source: error.into() },
        std::io::ErrorKind::PermissionDenied => {
            StoreError::PermissionDenied { path, source: error.into() }
        }
        _ => StoreError::Generic { store: "hostmount", source: error.into() },
    }
}

/// Undoes the percent encoding of a part of a location; `None` for what no file is called.
fn decode(part: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = tail;
    }
    let is_name = !matches!(bytes.as_slice(), b"" | b"." | b"..")
        && !bytes.contains(&b'/')
        && !bytes.contains(&0);
    is_name.then_some(bytes)
}

fn cut_short(at: u64, end: u64) -> std::io::Error {
    std::io::Error::new(
        std::io::ErrorKind::UnexpectedEof,
        format!("it was cut short while it was being read: {at} bytes of {end}"),
    )
}

/// Reads a range, all of it.
fn read_range(file: &File, range: Range<u64>) -> std::io::Result<Bytes> {
    let length = usize::try_from(range.end - range.start).map_err(std::io::Error::other)?;
    let mut bytes: Vec<u8> = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = range.start + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(cut_short(at, range.end)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocation may be larger than asked for.
    bytes.truncate(length);
    Ok(bytes.into())
}

/// Whether the ends of a range are in the page cache, and so, most likely, is what lies between.
fn is_cached(file: &File, range: &Range<u64>) -> bool {
    let has = |at: u64| {
        let mut byte = [0];
        let mut buffers = [IoSliceMut::new(&mut byte)];
        rustix::io::preadv2(file, &mut buffers, at, ReadWriteFlags::NOWAIT) == Ok(1)
    };
    range.is_empty() || (has(range.start) && has(range.end - 1))
}

/// Reads ranges, on this thread if that does not wait.
async fn read_ranges(file: Arc<File>, ranges: Vec<Range<u64>>) -> std::io::Result<Vec<Bytes>> {
    let read = move || ranges.into_iter().map(|range| read_range(&file, range)).collect();
    tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?
}

/// Streams a range, reading ahead on a thread of its own.
fn stream_range(file: Arc<File>, range: Range<u64>) -> BoxStream<'static, std::io::Result<Bytes>> {
    chunks(move |send| {
        let mut at = range.start;
        while at < range.end {
            let end = (at + CHUNK_BYTES).min(range.end);
            let chunk = read_range(&file, at..end);
            let is_error = chunk.is_err();
            if !send(chunk) || is_error {
                return;
            }
            at = end;
        }
    })
}

/// Streams a whole file. Its size is what it was when reading started, or what reading finds where
/// the host makes the content as it is read.
pub(super) fn read_all(file: Arc<File>) -> BoxStream<'static, std::io::Result<Bytes>> {
    chunks(move |send| {
        let before = match Identity::of(&file).and_then(|id| Ok((id, is_made_up(&file)?))) {
            Ok(before) => before,
            Err(error) => {
                send(Err(error));
                return;
            }
        };
        let (before, is_made_up) = before;
        let mut at = 0;
        loop {
            let wanted = if is_made_up { CHUNK_BYTES } else { before.size - at }.min(CHUNK_BYTES);
            if wanted == 0 {
                return;
            }
            let mut bytes: Vec<u8> = Vec::with_capacity(wanted as usize);
            let chunk =
                match rustix::io::pread(&file, rustix::buffer::spare_capacity(&mut bytes), at) {
                    Err(rustix::io::Errno::INTR) => continue,
                    Err(errno) => Err(errno.into()),
                    Ok(0) if is_made_up => return,
                    Ok(0) => Err(cut_short(at, before.size)),
                    Ok(_) => {
                        bytes.truncate(wanted as usize);
                        at += bytes.len() as u64;
                        Ok(Bytes::from(bytes))
                    }
                };
            let is_error = chunk.is_err();
            if !send(chunk) || is_error {
                return;
            }
        }
    })
}

/// Returns the size of a file; `None` where it says nothing about the content.
pub(super) fn honest_size(file: &File) -> std::io::Result<Option<u64>> {
    Ok(if is_made_up(file)? { None } else { Some(Identity::of(file)?.size) })
}

/// Whether the file is one whose content the kernel makes as it is read, such as those in `/proc`:
/// it takes no room, and its size says nothing.
fn is_made_up(file: &File) -> std::io::Result<bool> {
    const KERNEL_FILE_SYSTEMS: [u32; 5] = [
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
        0x6367_7270, // cgroup2
    ];
    let kind = rustix::fs::fstatfs(file)?.f_type;
    Ok(u32::try_from(kind).is_ok_and(|kind| KERNEL_FILE_SYSTEMS.contains(&kind)))
}

/// Streams what `read` sends from a thread of its own; `send` returns false if nobody reads on.
fn chunks(
    read: impl FnOnce(&mut dyn FnMut(std::io::Result<Bytes>) -> bool) + Send + 'static,
) -> BoxStream<'static, std::io::Result<Bytes>> {
    let (sender, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || read(&mut |chunk| sender.blocking_send(chunk).is_ok()));
    stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed()
}

impl fmt::Display for HostStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.mount.describe())
    }
}

#[async_trait]
impl ObjectStore for HostStore {
    async fn get_opts(&self, location: &Location, options: GetOptions) -> StoreResult<GetResult> {
        let (file, now) = self.open(location)?;
        let meta = now.object(location.clone());
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range.as_range(meta.size).map_err(|error| StoreError::Generic {
                store: "hostmount",
                source: error.into(),
            })?,
            None => 0..meta.size,
        };
        let bytes = if options.head || range.is_empty() {
            stream::empty().boxed()
        } else if range.end - range.start <= CHUNK_BYTES && is_cached(&file, &range) {
            let chunk = read_range(&file, range.clone());
            stream::once(async { chunk }).boxed()
        } else {
            stream_range(file, range.clone())
        };
        let place = location.clone();
        let bytes = bytes.map(move |chunk| chunk.map_err(|error| failed(&place, error)));
        Ok(GetResult {
            payload: GetResultPayload::Stream(bytes.boxed()),
            meta,
            range,
            attributes: Attributes::default(),
        })
    }

    async fn get_ranges(
        &self,
        location: &Location,
        ranges: &[Range<u64>],
    ) -> StoreResult<Vec<Bytes>> {
        let (file, now) = self.open(location)?;
        if let Some(range) =
            ranges.iter().find(|range| range.end > now.size || range.start > range.end)
        {
            return Err(failed(location, cut_short(now.size, range.end)));
        }
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let result =
            if bytes <= INLINE_BYTES_MAX && ranges.iter().all(|range| is_cached(&file, range)) {
                ranges.iter().map(|range| read_range(&file, range.clone())).collect()
            } else {
                read_ranges(file, ranges.to_vec()).await
            };
        result.map_err(|error| failed(location, error))
    }

    async fn put_opts(&self, _: &Location, _: PutPayload, _: PutOptions) -> StoreResult<PutResult> {
        Err(self.refuse("writing"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Location,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(self.refuse("writing"))
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Location>>,
    ) -> BoxStream<'static, StoreResult<Location>> {
        let this = self.clone();
        locations.map(move |_| Err(this.refuse("deleting"))).boxed()
    }

    async fn copy_opts(&self, _: &Location, _: &Location, _: CopyOptions) -> StoreResult<()> {
        Err(self.refuse("copying into it"))
    }

    async fn rename_opts(&self, _: &Location, _: &Location, _: RenameOptions) -> StoreResult<()> {
        Err(self.refuse("renaming"))
    }

    fn list(&self, _: Option<&Location>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let error = self.unlisted();
        stream::once(async { Err(error) }).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Location>) -> StoreResult<ListResult> {
        Err(self.unlisted())
    }
}

impl HostStore {
    fn unlisted(&self) -> StoreError {
        StoreError::NotImplemented {
            operation: "listing; use ls()".to_owned(),
            implementer: self.to_string(),
        }
    }
}
