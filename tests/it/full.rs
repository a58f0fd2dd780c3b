//! R6 of the promises: on a disk that is full nothing is torn and nothing is lost, the error says what is
//! the matter, reads go on, and writes do so once there is room.
//!
//! The disk is a small `tmpfs`, which takes the right to mount; without it, the test says so and does
//! nothing. A store with a quota stands for it where the oplog is concerned.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use pond::ErrorKind;
use pond::blob::Blobs;
use pond::oplog::Oplog;
use pond::pond::{Pond, PondOptions};
use pond::tree::Tree;
use url::Url;

use crate::keep::whole;
use crate::oplog::{exists, mkdir, path};
use crate::world::{append_in, bytes, picture, write_in};

/// A mounted file system of this size; unmounted when dropped.
pub struct SmallDisk {
    pub at: PathBuf,
    _dir: tempfile::TempDir,
}

impl SmallDisk {
    pub fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(output) if output.status.success() => {
                Some(Self { at: dir.path().to_owned(), _dir: dir })
            }
            refused => {
                println!("skipped: no file system can be mounted: {refused:?}");
                None
            }
        }
    }

    /// Fills the disk up to this many free bytes.
    pub fn fill(&self, free: usize) {
        let filler = self.filler();
        let _ = std::fs::remove_file(&filler);
        let mut size = 1 << 24;
        // What does not fit is cut off.
        let _ = std::fs::write(&filler, vec![1; size]);
        size = std::fs::metadata(&filler).unwrap().len() as usize;
        std::fs::File::options()
            .write(true)
            .open(&filler)
            .unwrap()
            .set_len(size.saturating_sub(free) as u64)
            .unwrap();
    }

    pub fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

/// A commit with something of everything.
async fn commit(tree: &Tree, number: u64) -> pond::Result<()> {
    let mut edit = tree.begin(None).await?;
    edit.mkdir(&path(&format!("/{number}/a")), true).await?;
    write_in(&mut edit, &format!("/{number}/small"), bytes(number, 3000)).await?;
    write_in(&mut edit, &format!("/{number}/large"), bytes(number, 90_000)).await?;
    append_in(&mut edit, "/s.series", number as i64 * 10).await?;
    edit.commit().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_tears_nothing_and_says_so() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let dir = disk.at.join("pond");
    let options = PondOptions::default();
    let tree = Tree::new(Pond::init(&dir, options).await.unwrap());
    commit(&tree, 0).await.unwrap();
    let mut failed = 0;
    let mut number = 0;
    for free in (0..180_000).step_by(9_000) {
        disk.fill(free);
        let before = picture(&tree, None).await.unwrap();
        number += 1;
        let there = match commit(&tree, number).await {
            Ok(()) => true,
            Err(error) => {
                failed += 1;
                let text = format!("{error:?}");
                assert!(text.contains("No space left"), "{text}");
                assert_eq!(error.kind(), ErrorKind::Io, "{text}");
                false
            }
        };
        // While the disk is full, what was there can be read, by this process and by others.
        for tree in [&tree, &Tree::new(Pond::open(&dir, options).await.unwrap())] {
            let snapshot = tree.snapshot().await.unwrap();
            for child in ["a", "small", "large"] {
                assert_eq!(exists(&snapshot, &format!("/{number}/{child}")), there, "{child}");
            }
            let now = picture(tree, None).await.unwrap();
            assert!(there || now == before, "with {free} bytes free");
        }
        whole(&dir).await;
        disk.free();
        number += 1;
        commit(&tree, number).await.unwrap();
    }
    assert!((4..=19).contains(&failed), "{failed} of 20 commits failed");
    let left: Vec<PathBuf> = staged(&dir);
    assert!(left.is_empty(), "a failed write cleans up after itself: {left:?}");
    whole(&dir).await;
}

fn staged(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for below in ["oplog", "oplog/_delta_log", "blobs"] {
        for entry in std::fs::read_dir(dir.join(below)).unwrap() {
            let path = entry.unwrap().path();
            found.extend(path.to_string_lossy().contains('#').then_some(path));
        }
    }
    found
}

/// A store in memory that takes so many bytes.
#[derive(Debug)]
struct Quota {
    inner: InMemory,
    free: AtomicI64,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Quota")
    }
}

#[async_trait]
impl ObjectStore for Quota {
    async fn put_opts(
        &self,
        at: &ObjectPath,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let size = payload.content_length() as i64;
        if self.free.fetch_sub(size, Ordering::SeqCst) < size {
            self.free.fetch_add(size, Ordering::SeqCst);
            let source = format!("{at}: {}", std::io::Error::from_raw_os_error(122)).into();
            return Err(object_store::Error::Generic { store: "Quota", source });
        }
        self.inner.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the oplog puts whole files")
    }
    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<ObjectPath>>,
    ) -> BoxStream<'static, Result<ObjectPath>> {
        self.inner.delete_stream(locations)
    }
    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> Result<()> {
        unreachable!("the oplog copies nothing")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_tears_nothing_and_says_so() {
    let quota = Arc::new(Quota { inner: InMemory::new(), free: AtomicI64::new(20_000) });
    let oplog = Oplog::new(quota.clone(), quota.clone(), &Url::parse("memory:///").unwrap());
    oplog.create().await.unwrap();
    let pond = Pond::over(oplog.clone(), Blobs::memory()).await.unwrap();
    let mut txn = 0;
    for round in 0..60 {
        // Room for a part of a commit, for one, or for some and their maintenance.
        let room = [1_000, 6_000, 9_000, 40_000][round % 4];
        quota.free.store(room, Ordering::SeqCst);
        let error = loop {
            match mkdir(&pond, &format!("/d{}", txn + 1)).await {
                Ok(made) => {
                    txn += 1;
                    assert_eq!(made, txn);
                }
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("quota exceeded"), "{error}");
        let other = Pond::over(oplog.clone(), Blobs::memory()).await.unwrap();
        for pond in [&pond, &other] {
            let snapshot = pond.snapshot().await.unwrap();
            assert_eq!(snapshot.txn(), txn);
            assert!(!exists(&snapshot, &format!("/d{}", txn + 1)));
        }
    }
    assert!(txn > 60, "only {txn} commits came through");
    let mut findings = Vec::new();
    oplog.check(&mut |error| findings.push(error.to_string())).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}
