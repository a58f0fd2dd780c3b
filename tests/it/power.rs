//! R2 of the promises: after a power cut at any moment the pond opens, has all that was acknowledged, and
//! has nothing by half.
//!
//! A recording store notes what is asked of it while a pond is worked on. From that, images are made of
//! what a disk may hold if the power goes at some moment: what was acknowledged is there, what was under
//! way is there or is not, and what was deleted may have come back, for deletions are not synced. Each
//! image is opened, checked and written to.
//!
//! Taking syncing away ([`Disk::Lazy`]) makes images in which the newest files are missing, short, or
//! have holes: then the same check must fail, and does.
//!
//! That the store for directories keeps that contract is shown by the second half ([`traced`]), from the
//! system calls of a real process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pond::blob::Blobs;
use pond::entry::NodeId;
use pond::oplog::Oplog;
use pond::pond::{At, Pond};
use url::Url;

use crate::oplog::path;
use crate::world::Random;

/// What happened, in order.
#[derive(Debug, Clone)]
enum Event {
    Began {
        put: usize,
        path: Path,
        bytes: Bytes,
    },
    Ended {
        put: usize,
    },
    Deleted {
        path: Path,
    },
    /// A commit was acknowledged: this transaction is durable.
    Acknowledged {
        txn: i64,
    },
}

/// An object store in memory that notes what is asked of it.
#[derive(Debug, Default)]
struct Recorder {
    inner: InMemory,
    events: Mutex<Vec<Event>>,
}

impl Recorder {
    fn note(&self, event: Event) -> usize {
        let mut events = self.events.lock().unwrap();
        events.push(event);
        events.len()
    }
}

impl fmt::Display for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorder")
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let bytes = Bytes::from(payload.clone());
        let put = self.events.lock().unwrap().len();
        self.note(Event::Began { put, path: at.clone(), bytes });
        let result = self.inner.put_opts(at, payload, options).await?;
        self.note(Event::Ended { put });
        Ok(result)
    }
    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the oplog puts whole files")
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let deleted = futures::executor::block_on(locations.collect::<Vec<_>>());
        for path in deleted.iter().flatten() {
            self.note(Event::Deleted { path: path.clone() });
        }
        self.inner.delete_stream(futures::stream::iter(deleted).boxed())
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("the oplog copies nothing")
    }
}

/// When what was put is on the disk.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Disk {
    /// When the put returns.
    Synced,
    /// Some time later.
    Lazy,
}

/// Operations until a lazy disk has written something.
const LAZY_EVENTS: usize = 40;

/// Makes one of the images that the disk may hold after the first `cut` events.
fn image(events: &[Event], cut: usize, disk: Disk, random: &mut Random) -> BTreeMap<Path, Bytes> {
    let mut files = BTreeMap::new();
    let mut under_way = BTreeMap::new();
    for (at, event) in events[..cut].iter().enumerate() {
        match event {
            Event::Began { put, path, bytes } => {
                under_way.insert(*put, (path.clone(), bytes.clone()));
            }
            Event::Ended { put } => {
                let (path, bytes) = under_way.remove(put).unwrap();
                let is_lazy = disk == Disk::Lazy && at + LAZY_EVENTS > cut;
                match if is_lazy { random.below(8) } else { 0 } {
                    0..4 => drop(files.insert(path, bytes)),
                    4..6 => {}
                    6 => {
                        let length = random.below(bytes.len() as u64) as usize;
                        files.insert(path, bytes.slice(..length));
                    }
                    _ => {
                        let page = random.below(bytes.len().div_ceil(4096) as u64) as usize * 4096;
                        let end = bytes.len().min(page + 4096);
                        let mut torn = bytes.to_vec();
                        torn[page..end].fill(0);
                        files.insert(path, torn.into());
                    }
                }
            }
            Event::Deleted { path } => {
                if random.below(4) > 0 {
                    files.remove(path);
                }
            }
            Event::Acknowledged { .. } => {}
        }
    }
    for (path, bytes) in under_way.into_values() {
        if random.below(2) == 0 {
            files.insert(path, bytes);
        }
    }
    files
}

/// The newest transaction that was acknowledged in the first `cut` events.
fn acknowledged(events: &[Event], cut: usize) -> i64 {
    let txns = events[..cut].iter().map(|event| match event {
        Event::Acknowledged { txn } => *txn,
        _ => 0,
    });
    txns.max().unwrap_or(0)
}

/// Commits, maintenance and expiry, recorded. Transaction n makes `/n/a` and `/n/b`.
async fn record(commits: i64) -> Vec<Event> {
    let store = Arc::new(Recorder::default());
    let oplog = Oplog::new(store.clone(), store.clone(), &Url::parse("memory:///").unwrap());
    oplog.create().await.unwrap();
    let pond = Pond::over(oplog, Blobs::memory()).await.unwrap();
    for txn in 1..=commits {
        make(&pond, txn).await.unwrap();
        store.note(Event::Acknowledged { txn });
        if txn == commits / 2 || txn == commits - 5 {
            let log = pond.log().await.unwrap();
            let time = log[log.len() - 20].timestamp;
            assert!(pond.expire(time, None, false).await.unwrap().before.is_some());
        }
    }
    store.events.lock().unwrap().clone()
}

async fn make(pond: &Pond, txn: i64) -> pond::Result<()> {
    let mut transaction = pond.begin(Some(format!("make {txn}"))).await?;
    for child in ["a", "b"] {
        transaction.mkdir(&path(&format!("/{txn}/{child}")))?;
    }
    if txn > 3 && txn % 3 == 0 {
        transaction.remove(&path(&format!("/{}/a", txn - 3)), true)?;
    }
    assert_eq!(pond.commit(transaction).await?.txn, txn);
    Ok(())
}

/// What is looked at, of an image; each takes its time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Depth {
    /// Each file.
    Files,
    /// What there is now.
    Now,
    /// What there was.
    Past,
}

/// Opens an image and says what is wrong with it.
async fn check(
    image: BTreeMap<Path, Bytes>,
    acknowledged: i64,
    depth: Depth,
) -> std::result::Result<(), String> {
    let store = Arc::new(InMemory::new());
    for (path, bytes) in image {
        store.put(&path, bytes.into()).await.unwrap();
    }
    let oplog = Oplog::new(store.clone(), store.clone(), &Url::parse("memory:///").unwrap());
    if depth == Depth::Files {
        let mut findings = Vec::new();
        let checked = oplog.check(&mut |error| findings.push(error.to_string())).await;
        return match checked {
            _ if !findings.is_empty() => Err(format!("findings: {findings:?}")),
            Err(error) if acknowledged > 0 => Err(error.to_string()),
            _ => Ok(()),
        };
    }
    let pond = match Pond::over(oplog, Blobs::memory()).await {
        Ok(pond) => pond,
        // Nothing was there yet.
        Err(_) if acknowledged == 0 => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    let newest = pond.snapshot().await.map_err(|error| error.to_string())?.txn();
    if newest < acknowledged {
        return Err(format!("transaction {acknowledged} is lost, {newest} is the newest"));
    }
    let log = pond.log().await.map_err(|error| error.to_string())?;
    let first = log.first().map_or(1, |entry| entry.txn);
    if !log.iter().map(|entry| entry.txn).eq(first..=newest) {
        return Err(format!("the log has a gap between {first} and {newest}"));
    }
    let at = if depth == Depth::Past { newest / 2 + first / 2 } else { newest };
    {
        let snapshot = pond.as_of(At::Version(at)).await.map_err(|error| error.to_string())?;
        let wanted: Vec<String> = (1..=at).map(|txn| txn.to_string()).collect();
        let mut seen = Vec::new();
        for child in snapshot.children(NodeId::ROOT) {
            let child = child.map_err(|error| error.to_string())?;
            let below = snapshot.children(child.node_id).count();
            let removed = child.name.parse::<i64>().is_ok_and(|txn| txn % 3 == 0 && txn + 3 <= at);
            if below != if removed { 1 } else { 2 } {
                return Err(format!("transaction {} is torn: {below} of 2", child.name));
            }
            seen.push(child.name);
        }
        seen.sort_by_key(|name| name.parse::<i64>().unwrap());
        if seen != wanted {
            return Err(format!("as of {at} there is {seen:?}"));
        }
    }
    // And it goes on from here.
    make(&pond, newest + 1).await.map_err(|error| error.to_string())
}

/// Makes `count` images of recorded work and checks them; returns what was wrong.
async fn images(count: u64, seed: u64, disk: Disk) -> Vec<String> {
    println!("seed {seed}");
    let events = Arc::new(record(75).await);
    let checks = (0..count).map(|number| {
        let events = events.clone();
        let mut random = Random(seed + number * 7919);
        let cut = random.below(events.len() as u64 + 1) as usize;
        let image = image(&events, cut, disk, &mut random);
        let acknowledged = acknowledged(&events, cut);
        let depth = [Depth::Now, Depth::Past, Depth::Now, Depth::Files][(number % 4) as usize];
        let checked = tokio::spawn(check(image, acknowledged, depth));
        async move {
            let wrong = match checked.await {
                Ok(checked) => checked.err()?,
                Err(panic) => panic.to_string(),
            };
            Some(format!("image {number} of seed {seed}, cut at {cut}: {wrong}"))
        }
    });
    let wrong = futures::stream::iter(checks).buffered(4);
    wrong.filter_map(|wrong| async { wrong }).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_power_cuts_lose_nothing_acknowledged() {
    let wrong = images(2000, 20_260_102, Disk::Synced).await;
    assert!(wrong.is_empty(), "{} images are wrong: {:#?}", wrong.len(), &wrong[..1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_synced_is_caught() {
    let wrong = images(60, 3, Disk::Lazy).await;
    assert!(wrong.len() > 20, "only {} of 60 images are wrong", wrong.len());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_power() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let wrong = images(100_000, seed, Disk::Synced).await;
    assert!(wrong.is_empty(), "{} images are wrong: {:#?}", wrong.len(), &wrong[..1]);
}
