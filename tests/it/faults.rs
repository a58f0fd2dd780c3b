//! R3 of the promises: whichever request to the store fails, and however, a verb ends in an error or in a
//! success, and what it says is true; nothing panics, nothing is by half, and the pond goes on.
//!
//! The same work is done again and again, and each time another request fails: the first, the second,
//! and so on to the last, in each of the ways of [`Fault`]. A store that says nothing of a failure
//! ([`Fault::Lie`]) must be caught.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};
use pond::ErrorKind;
use pond::blob::Blobs;
use pond::entry::NodeId;
use pond::oplog::Oplog;
use pond::pond::{At, Pond};
use url::Url;

use crate::oplog::path;

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The device reports an error; nothing was done.
    Eio,
    /// The disk is full; nothing was done.
    Enospc,
    /// Access is denied; nothing was done.
    Eacces,
    /// A read yields less than there is; a write fails half-way, and shows nothing.
    Short,
    /// It is done, but the answer does not come.
    Late,
    /// It is not done, but the answer says so.
    Lie,
}

const FAULTS: [Fault; 5] = [Fault::Eio, Fault::Enospc, Fault::Eacces, Fault::Short, Fault::Late];

impl Fault {
    fn error(self, path: &str) -> Error {
        let code = match self {
            Self::Eacces => {
                let source = io::Error::from_raw_os_error(13).into();
                return Error::PermissionDenied { path: path.to_owned(), source };
            }
            Self::Enospc => 28,
            Self::Late => 110,
            _ => 5,
        };
        let source = format!("{path}: {}", io::Error::from_raw_os_error(code)).into();
        Error::Generic { store: "Faulty", source }
    }
}

/// A store in memory of which one request fails.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    requests: AtomicUsize,
    /// The number of the request that fails, from 1; 0 for none.
    failing: usize,
    fault: Fault,
    failed: AtomicBool,
    disarmed: AtomicBool,
}

impl Faulty {
    fn new(inner: InMemory, failing: usize, fault: Fault) -> Self {
        let [failed, disarmed] = [false; 2].map(AtomicBool::new);
        Self { inner, requests: AtomicUsize::new(0), failing, fault, failed, disarmed }
    }

    /// Counts a request, and tells whether it is the one to fail.
    fn is_due(&self) -> bool {
        if self.disarmed.load(Ordering::SeqCst) {
            return false;
        }
        let due = self.requests.fetch_add(1, Ordering::SeqCst) + 1 == self.failing;
        if due {
            self.failed.store(true, Ordering::SeqCst);
        }
        due
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        match (self.is_due(), self.fault) {
            (false, _) => self.inner.put_opts(at, payload, options).await,
            (true, Fault::Late) => {
                self.inner.put_opts(at, payload, options).await?;
                Err(self.fault.error(at.as_ref()))
            }
            (true, Fault::Lie) => Ok(PutResult { e_tag: None, version: None }),
            (true, fault) => Err(fault.error(at.as_ref())),
        }
    }
    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the oplog puts whole files")
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        match (self.is_due(), self.fault) {
            (false, _) => self.inner.get_opts(at, options).await,
            (true, Fault::Short) if !is_head => {
                let mut result = self.inner.get_opts(at, options).await?;
                let (meta, range) = (result.meta.clone(), result.range.clone());
                let attributes = std::mem::take(&mut result.attributes);
                let bytes = result.bytes().await?;
                let half = bytes.slice(..bytes.len() / 2);
                let stream = futures::stream::once(async { Ok(half) }).boxed();
                let payload = GetResultPayload::Stream(stream);
                Ok(GetResult { payload, meta, range, attributes })
            }
            (true, fault) => Err(fault.error(at.as_ref())),
        }
    }
    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        match (self.is_due(), self.fault) {
            (false, _) => self.inner.get_ranges(at, ranges).await,
            (true, Fault::Short) => {
                let all = self.inner.get_ranges(at, ranges).await?;
                Ok(all.iter().map(|bytes| bytes.slice(..bytes.len() / 2)).collect())
            }
            (true, fault) => Err(fault.error(at.as_ref())),
        }
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match (self.is_due(), self.fault) {
            (false, _) => self.inner.delete_stream(locations),
            (true, Fault::Late) => {
                let fault = self.fault;
                let deleted = self.inner.delete_stream(locations);
                deleted.map(move |path| Err(fault.error(path?.as_ref()))).boxed()
            }
            (true, Fault::Lie) => locations,
            (true, fault) => locations.map(move |path| Err(fault.error(path?.as_ref()))).boxed(),
        }
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match (self.is_due(), self.fault) {
            (false, _) => self.inner.list(prefix),
            // A listing is not short without saying so.
            (true, fault) => {
                let half = self.inner.list(prefix).take(3);
                let error = fault.error("listing");
                half.chain(futures::stream::once(async { Err(error) })).boxed()
            }
        }
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.is_due() {
            false => self.inner.list_with_delimiter(prefix).await,
            true => Err(self.fault.error("listing")),
        }
    }
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("the oplog copies nothing")
    }
}

fn oplog(store: Arc<dyn ObjectStore>) -> Oplog {
    Oplog::new(store.clone(), store, &Url::parse("memory:///").unwrap())
}

async fn copy(from: &InMemory) -> InMemory {
    let to = InMemory::new();
    let files: Vec<ObjectMeta> = from.list(None).try_collect().await.unwrap();
    for file in files {
        let bytes = from.get(&file.location).await.unwrap().bytes().await.unwrap();
        to.put(&file.location, bytes.into()).await.unwrap();
    }
    to
}

/// A change, and how to see whether it was made: what there is then, and what there is not.
struct Step {
    name: &'static str,
    there: &'static [&'static str],
    gone: &'static [&'static str],
}

const STEPS: [Step; 5] = [
    Step { name: "make", there: &["/one/a", "/one/b"], gone: &[] },
    Step { name: "rename", there: &["/renamed/a", "/renamed/b"], gone: &["/base1"] },
    Step { name: "remove", there: &[], gone: &["/base2/a", "/base2"] },
    Step { name: "make", there: &["/two/a", "/two/b"], gone: &[] },
    Step { name: "late", there: &["/three/a", "/three/b"], gone: &[] },
];

async fn perform(pond: &Pond, step: &Step) -> pond::Result<()> {
    let mut transaction = pond.begin(Some(step.name.to_owned())).await?;
    match step.name {
        "rename" => transaction.rename(&path("/base1"), &path("/renamed"))?,
        "remove" => transaction.remove(&path("/base2"), true)?,
        _ => step.there.iter().try_for_each(|made| transaction.mkdir(&path(made)))?,
    }
    pond.commit(transaction).await.map(drop)
}

/// Fourteen commits: with the next few there is enough to merge.
async fn base() -> InMemory {
    let store = Arc::new(InMemory::new());
    oplog(store.clone()).create().await.unwrap();
    let pond = Pond::over(oplog(store.clone()), Blobs::memory()).await.unwrap();
    for number in 1..=14 {
        let mut transaction = pond.begin(None).await.unwrap();
        for child in ["a", "b"] {
            transaction.mkdir(&path(&format!("/base{number}/{child}"))).unwrap();
        }
        pond.commit(transaction).await.unwrap();
    }
    copy(&store).await
}

/// The outcome of the work with one request failing.
struct Outcome {
    /// Whether the request came at all.
    failed: bool,
    wrong: Option<String>,
}

/// Does all the work on a store of which one request fails, then looks at it with one that does not.
async fn work(base: &InMemory, failing: usize, fault: Fault) -> Outcome {
    let store = Arc::new(Faulty::new(copy(base).await, failing, fault));
    let wrong = match tokio::spawn(try_work(store.clone())).await {
        Ok(worked) => worked.err(),
        Err(panic) => Some(panic.to_string()),
    };
    let wrong = wrong.map(|wrong| format!("{fault:?} of request {failing}: {wrong}"));
    Outcome { failed: store.failed.load(Ordering::SeqCst), wrong }
}

async fn try_work(store: Arc<Faulty>) -> std::result::Result<(), String> {
    let mut errors = Vec::new();
    let mut note = |what: &str, result: pond::Result<()>| match result {
        Ok(()) => Ok(true),
        Err(error) => {
            let is_known = matches!(
                error.kind(),
                ErrorKind::Io | ErrorKind::PermissionDenied | ErrorKind::Corrupt
            );
            errors.push(format!("{what}: {error:?}"));
            if is_known { Ok(false) } else { Err(format!("{what} failed with {error:?}")) }
        }
    };
    let open = async || Pond::over(oplog(store.clone()), Blobs::memory()).await;
    let pond = match open().await {
        Ok(pond) => pond,
        Err(error) => {
            note("opening", Err(error))?;
            open().await.map_err(|error| format!("opening again: {error:?}"))?
        }
    };
    let mut done = Vec::new();
    for step in &STEPS {
        if step.name == "late" {
            let time = pond.log().await.ok().and_then(|log| log.get(5).map(|it| it.timestamp));
            let expired = pond.expire(time.unwrap_or(0), None, false).await.map(drop);
            note("expiring", expired)?;
            note("compacting", pond.compact().await.map(drop))?;
            note("the past", pond.as_of(At::Version(12)).await.map(drop))?;
        }
        done.push(note(step.name, perform(&pond, step).await)?);
    }
    store.disarmed.store(true, Ordering::SeqCst);
    if errors.len() > 1 {
        return Err(format!("one request failed, and {errors:?}"));
    }
    let fresh = Arc::new(copy(&store.inner).await);
    let fresh = Pond::over(oplog(fresh), Blobs::memory());
    let fresh = fresh.await.map_err(|error| format!("after {errors:?}: {error:?}"))?;
    for pond in [&pond, &fresh] {
        looks_right(pond, &done).await.map_err(|wrong| format!("after {errors:?}: {wrong}"))?;
    }
    let mut findings = Vec::new();
    let checked = oplog(store).check(&mut |error| findings.push(error.to_string())).await;
    checked.map_err(|error| error.to_string())?;
    if findings.is_empty() { Ok(()) } else { Err(format!("after {errors:?}: {findings:?}")) }
}

async fn looks_right(pond: &Pond, done: &[bool]) -> std::result::Result<(), String> {
    let failed = |error: pond::Error| format!("{error:?}");
    let snapshot = pond.snapshot().await.map_err(failed)?;
    let exists = |at: &str| crate::oplog::exists(&snapshot, at);
    for (step, done) in STEPS.iter().zip(done) {
        let seen: BTreeSet<bool> = (step.there.iter().map(|at| exists(at)))
            .chain(step.gone.iter().map(|at| !exists(at)))
            .collect();
        if seen.len() > 1 {
            return Err(format!("'{}' is by half", step.name));
        }
        if *done && seen.contains(&false) {
            return Err(format!("'{}' was acknowledged and is lost", step.name));
        }
    }
    let children = snapshot.children(NodeId::ROOT).count();
    if !(13..=18).contains(&children) {
        return Err(format!("there are {children} directories"));
    }
    let log = pond.log().await.map_err(failed)?;
    let first = log[0].txn;
    if !log.iter().map(|entry| entry.txn).eq(first..=snapshot.txn()) {
        return Err("the log has a gap".to_owned());
    }
    Ok(())
}

/// Lets each request fail in turn, and returns how many there are and what was wrong.
async fn all_requests(base: Arc<InMemory>, fault: Fault) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    for failing in 1.. {
        let outcome = work(&base, failing, fault).await;
        wrong.extend(outcome.wrong);
        if !outcome.failed {
            return (failing - 1, wrong);
        }
    }
    unreachable!("the work has an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_may_fail_in_every_way() {
    let base = Arc::new(base().await);
    let tasks = FAULTS.map(|fault| tokio::spawn(all_requests(base.clone(), fault)));
    for (fault, task) in FAULTS.iter().zip(tasks) {
        let (count, wrong) = task.await.unwrap();
        assert!(count > 100, "only {count} requests were made");
        let some = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "{fault:?}: of {count}, {} are wrong: {some:#?}", wrong.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lies_is_caught() {
    let base = base().await;
    let mut wrong = 0;
    for failing in 1..150 {
        wrong += usize::from(work(&base, failing, Fault::Lie).await.wrong.is_some());
    }
    assert!(wrong > 5, "only {wrong} lies were caught");
}
