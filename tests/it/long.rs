//! R8 of the promises: after many commits any point of the past is what it was, and neither opening the
//! pond nor the disk it takes grows with their number more than it must.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pond::entry::{EntryType, NodeId};
use pond::path::PondPath;
use pond::pond::{At, Pond};
use pond::snapshot::Snapshot;
use pond::transaction::NodeContent;

use crate::oplog::{FAST, path};
use crate::world::Random;

type Model = BTreeMap<String, u64>;

#[derive(Debug)]
enum Step {
    Write(String, u64),
    Remove(String),
    Rename(String, String),
}

impl Step {
    fn random(model: &Model, random: &mut Random) -> Self {
        let new = format!("/d{}/f{}", random.below(7), random.below(50));
        let there = model.keys().nth(random.below(model.len().max(1) as u64) as usize).cloned();
        match (random.below(10), there) {
            (0, Some(there)) => Self::Remove(there),
            (1, Some(there)) if !model.contains_key(&new) => Self::Rename(there, new),
            (2..6, Some(there)) => Self::Write(there, random.below(1 << 30)),
            _ => Self::Write(new, random.below(1 << 30)),
        }
    }

    fn apply(&self, model: &mut Model) {
        match self {
            Self::Write(path, value) => drop(model.insert(path.clone(), *value)),
            Self::Remove(path) => drop(model.remove(path)),
            Self::Rename(from, to) => {
                let value = model.remove(from).unwrap();
                model.insert(to.clone(), value);
            }
        }
    }

    async fn commit(&self, pond: &Pond, model: &Model) -> i64 {
        let mut transaction = pond.begin(None).await.unwrap();
        match self {
            Self::Write(at, value) => {
                let content = NodeContent {
                    entry_type: EntryType::FileData,
                    content: Some(Bytes::from(value.to_string())),
                    ..NodeContent::directory()
                };
                match model.contains_key(at) {
                    true => transaction.update(&path(at), content).unwrap(),
                    false => transaction.create(&path(at), content).unwrap(),
                }
            }
            Self::Remove(at) => transaction.remove(&path(at), false).unwrap(),
            Self::Rename(from, to) => transaction.rename(&path(from), &path(to)).unwrap(),
        }
        pond.commit(transaction).await.unwrap().txn
    }
}

fn files(snapshot: &Snapshot) -> Model {
    let mut files = Model::new();
    let mut directories = vec![(PondPath::root(), NodeId::ROOT)];
    while let Some((at, id)) = directories.pop() {
        for child in snapshot.children(id) {
            let child = child.unwrap();
            let path = at.child(&child.name);
            match child.entry_type {
                EntryType::Directory => directories.push((path, child.node_id)),
                _ => {
                    let content = snapshot.content(&child).unwrap().unwrap();
                    let value = std::str::from_utf8(&content).unwrap().parse().unwrap();
                    files.insert(path.to_string(), value);
                }
            }
        }
    }
    files
}

/// Number and size of the files in `dir`.
fn size(dir: &Path) -> (usize, u64) {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap());
    let files: Vec<u64> = files.filter(|it| it.is_file()).map(|it| it.len()).collect();
    (files.len(), files.iter().sum())
}

async fn open(dir: &Path) -> (Pond, Duration) {
    let begun = Instant::now();
    let pond = Pond::open(dir, FAST).await.unwrap();
    (pond, begun.elapsed())
}

async fn long(commits: i64, seed: u64) {
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    let mut random = Random(seed);
    let (mut model, mut steps) = (Model::new(), Vec::new());
    for txn in 1..=commits {
        let step = Step::random(&model, &mut random);
        assert_eq!(step.commit(&pond, &model).await, txn);
        step.apply(&mut model);
        steps.push(step);
        if txn % 100 == 0 {
            // Merged files of at most four sizes, fifteen of each, what came since, and what was merged a
            // short while ago and is still there for those who read it.
            let (count, bytes) = size(&dir.path().join("oplog"));
            let (logs, log_bytes) = size(&dir.path().join("oplog/_delta_log"));
            assert!(count <= 4 * 15 + 33 + 512, "{count} data files after {txn} commits");
            assert!(logs <= 70 && log_bytes < 1 << 20, "{logs} log files, {log_bytes} bytes");
            let most = 512 * 12_000 + 1000 * txn as u64;
            assert!(bytes < most, "{bytes} bytes after {txn} commits");
            let (count, bytes) = size(&dir.path().join("cache/namespace"));
            assert!(count <= 4 && bytes < 1 << 20, "{count} cache files, {bytes} bytes");
        }
    }
    drop(pond);
    let (pond, cached) = open(dir.path()).await;
    assert_eq!(files(&pond.snapshot().await.unwrap()), model);
    drop(pond);
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let (pond, folded) = open(dir.path()).await;
    assert_eq!(files(&pond.snapshot().await.unwrap()), model);
    println!("opened in {cached:?}, without the cache in {folded:?}");
    assert!(cached < Duration::from_millis(500), "opened in {cached:?}");
    for _ in 0..200 {
        let txn = random.below(commits as u64 + 1) as i64;
        let mut then = Model::new();
        steps[..txn as usize].iter().for_each(|step| step.apply(&mut then));
        let snapshot = pond.as_of(At::Version(txn)).await.unwrap();
        assert_eq!(snapshot.txn(), txn);
        assert_eq!(files(&snapshot), then, "as of {txn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_commits_are_all_there_and_cost_no_more_than_they_must() {
    long(2000, 20_260_102).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_long() {
    long(10_000, std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).await;
}
