//! Copies of a pond: they show what the pond shows, now and at any time of the past; what is there does
//! not travel again; a run may be killed, and may run beside writers; what does not belong together is
//! refused, and what was lost is found and brought back.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use pond::ErrorKind;
use pond::blob::Blobs;
use pond::entry::now_micros;
use pond::keep::{GarbageKind, Grace};
use pond::oplog::{Oplog, Scan};
use pond::pond::{At, Pond};
use pond::progress::Progress;
use pond::replica::{Compared, Copied, Forwarded, Side, compare, fast_forward, heal};
use pond::store::DurableStore;
use pond::tree::Tree;
use url::Url;

use crate::cli::{pond_with_data, run, stderr, stdout};
use crate::crash::{Work, acknowledged, spawn, verify};
use crate::keep::whole;
use crate::objects::Server;
use crate::oplog::{FAST, mkdir, path};
use crate::world::{Random, append, bytes, init, open, picture, remove, write};

const POND: &str = env!("CARGO_BIN_EXE_pond");

fn progress() -> Arc<Progress> {
    Arc::new(Progress::default())
}

fn side(dir: &Path) -> Side {
    Side::open_or_make(dir, FAST).unwrap()
}

async fn forward(source: &Path, copy: &Path) -> pond::Result<Forwarded> {
    fast_forward(&side(source), &side(copy), &progress()).await
}

/// Copies what is new, of which there is something.
async fn copied(source: &Path, copy: &Path) -> Copied {
    match forward(source, copy).await.unwrap() {
        Forwarded::Copied(copied) => copied,
        other => panic!("{other:?}"),
    }
}

/// Compares two ponds; returns what is different.
async fn differences(pond: &Path, copy: &Path) -> (Option<Compared>, Vec<String>) {
    let mut found = Vec::new();
    let compared = compare(&side(pond), &side(copy), |error| found.push(error.to_string())).await;
    (compared.unwrap(), found)
}

/// Checks that a copy is the pond: whole, with the same rows, and with the same tree now and at all times.
async fn same(pond: &Path, copy: &Path) {
    whole(copy).await;
    let (compared, found) = differences(pond, copy).await;
    assert!(found.is_empty(), "{found:#?}");
    assert_eq!((compared.unwrap().ahead, compared.unwrap().behind), (0, 0));
    let (pond, copy) = (open(pond).await, open(copy).await);
    assert_eq!(pond.pond().log().await.unwrap(), copy.pond().log().await.unwrap());
    let first = pond.pond().first_txn().await.unwrap();
    assert_eq!(first, copy.pond().first_txn().await.unwrap());
    for txn in first..=pond.snapshot().await.unwrap().txn() {
        let at = Some(At::Version(txn));
        let expected = picture(&pond, at).await.unwrap();
        assert_eq!(picture(&copy, at).await.unwrap(), expected, "transaction {txn}");
    }
}

/// Some steps of everything: bytes in rows and in blobs, a series that is merged, and removals.
async fn steps(tree: &Tree, steps: std::ops::Range<u64>) {
    for step in steps {
        match step % 7 {
            0 | 1 => drop(append(tree, "/d/s.series", step as i64 * 10).await.unwrap()),
            2 => drop(write(tree, "/d/large", bytes(step, 90_000)).await.unwrap()),
            3 if step > 5 => drop(remove(tree, &format!("/d/f{}", step - 4)).await.unwrap()),
            _ => drop(write(tree, &format!("/d/f{step}"), bytes(step, 2000)).await.unwrap()),
        }
    }
}

fn blobs(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for below in std::fs::read_dir(dir.join("blobs")).unwrap() {
        let below = below.unwrap().path();
        found.extend(std::fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_copy_is_the_pond() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup, clone] = ["pond", "backup", "clone"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    steps(&tree, 0..40).await;
    // What is merged is not there any more, and is not missed.
    let merge = async || {
        assert!(tree.merge_series(&path("/d/s.series"), 30).await.unwrap() > 0);
        tree.pond().collect_garbage(Grace(Duration::ZERO), false).await.unwrap()
    };
    assert!(merge().await.iter().any(|file| file.kind == GarbageKind::Blob));
    let tip = tree.snapshot().await.unwrap().txn();
    assert!(tip > 40, "merging is a transaction");
    assert_eq!(copied(&pond, &backup).await.txns, tip as u64);
    same(&pond, &backup).await;
    copied(&backup, &clone).await;
    same(&pond, &clone).await;
    // Commits, merges, compaction and checkpoints go on, and follow.
    for round in 0..9 {
        steps(&tree, 40 + round * 5..45 + round * 5).await;
        if round % 3 == 1 {
            tree.maintain().await.unwrap();
            merge().await;
        }
        copied(&pond, &backup).await;
    }
    same(&pond, &backup).await;
    let tip = tree.snapshot().await.unwrap().txn();
    assert_eq!(forward(&pond, &backup).await.unwrap(), Forwarded::UpToDate { txn: tip });
    // And back again: what is committed in the copy is the pond's.
    write(&open(&backup).await, "/new", bytes(1, 100_000)).await.unwrap();
    let ahead = Forwarded::Ahead { source_txn: tip, txn: tip + 1 };
    assert_eq!(forward(&pond, &backup).await.unwrap(), ahead);
    assert_eq!(copied(&backup, &pond).await.blobs, 1);
    // The handle from before sees it.
    assert_eq!(tree.snapshot().await.unwrap().txn(), tip + 1);
    same(&backup, &pond).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_stay_small_however_often_they_are_brought_up() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    for number in 0..100 {
        mkdir(tree.pond(), &format!("/d{number}")).await.unwrap();
        assert_eq!(copied(&pond, &backup).await.rows, 1);
    }
    let files = std::fs::read_dir(backup.join("oplog")).unwrap().count();
    let logs = std::fs::read_dir(backup.join("oplog/_delta_log")).unwrap().count();
    // A few minutes' worth of merged files is still there for those who planned with them.
    assert!(logs < 110 && files < 130, "{logs} {files}");
    let status = open(&backup).await.pond().status().await.unwrap();
    assert!(status.oplog_files < 40 && status.since_checkpoint < 40, "{status:?}");
    same(&pond, &backup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_new_travels() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    for number in 0..50 {
        write(&tree, &format!("/f{number}"), bytes(number, 100_000)).await.unwrap();
    }
    let first = copied(&pond, &backup).await;
    assert_eq!((first.txns, first.rows, first.blobs), (50, 50, 50));
    assert!(first.bytes > 5_000_000, "{first:?}");
    // Contents that are there under another name are there.
    write(&tree, "/again", bytes(7, 100_000)).await.unwrap();
    let again = copied(&pond, &backup).await;
    assert_eq!((again.txns, again.rows, again.blobs), (1, 1, 0));
    assert!(again.bytes < 20_000, "{again:?}");
    write(&tree, "/f7", bytes(1000, 80_000)).await.unwrap();
    let changed = copied(&pond, &backup).await;
    assert_eq!((changed.txns, changed.rows, changed.blobs), (1, 1, 1));
    assert!((80_000..100_000).contains(&changed.bytes), "{changed:?}");
    same(&pond, &backup).await;
}

/// The second run makes no pass over what is there: with all old blobs gone it succeeds all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_incremental_run_reads_none_of_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    for number in 0..10 {
        write(&tree, &format!("/f{number}"), bytes(number, 100_000)).await.unwrap();
    }
    copied(&pond, &backup).await;
    let old = [blobs(&pond), blobs(&backup)].concat();
    write(&tree, "/new", bytes(100, 100_000)).await.unwrap();
    for blob in old {
        std::fs::remove_file(blob).unwrap();
    }
    assert_eq!(copied(&pond, &backup).await.blobs, 1);
    assert_eq!(blobs(&backup).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pond_travels_through_object_stores() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, back] = ["pond", "back"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    steps(&tree, 0..30).await;
    let bucket = || {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let url = Url::parse("memory:///").unwrap();
        Side::over("bucket", Oplog::new(store.clone(), store, &url), Blobs::memory())
    };
    let (one, two) = (bucket(), bucket());
    for (source, copy) in [(&side(&pond), &one), (&one, &two), (&two, &side(&back))] {
        let forwarded = fast_forward(source, copy, &progress()).await.unwrap();
        assert!(matches!(forwarded, Forwarded::Copied(Copied { txns: 30, .. })), "{forwarded:?}");
    }
    same(&pond, &back).await;
    // What is damaged gets no name there.
    write(&tree, "/bad", bytes(77, 100_000)).await.unwrap();
    let blob = open(&pond).await.snapshot().await.unwrap();
    let blob = blob.children(pond::entry::NodeId::ROOT).find_map(|row| {
        let row = row.unwrap();
        (row.name == "bad").then(|| row.sha256.unwrap())
    });
    let blob = pond.join("blobs").join(&blob.as_ref().unwrap()[..2]).join(blob.unwrap());
    flip(&blob);
    let error = fast_forward(&side(&pond), &one, &progress()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    let forwarded = fast_forward(&one, &two, &progress()).await.unwrap();
    assert!(matches!(forwarded, Forwarded::UpToDate { .. }), "{forwarded:?}");
}

fn flip(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_that_have_diverged_are_refused_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, copy, other] = ["pond", "copy", "other"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    steps(&tree, 0..10).await;
    copied(&pond, &copy).await;
    let twin = open(&copy).await;
    for number in 0..3 {
        mkdir(tree.pond(), &format!("/here{number}")).await.unwrap();
    }
    mkdir(twin.pond(), "/there").await.unwrap();
    let tips = |error: &pond::Error| {
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{text}");
        for part in [
            "have diverged after transaction 10",
            &format!("'{}' is at transaction 13 of 20", pond.display()),
            &format!("'{}' is at transaction 11 of 20", copy.display()),
        ] {
            assert!(text.contains(part), "{text}");
        }
    };
    tips(&forward(&pond, &copy).await.unwrap_err());
    tips(&forward(&copy, &pond).await.unwrap_err());
    assert_eq!(tree.snapshot().await.unwrap().txn(), 13);
    assert_eq!(twin.snapshot().await.unwrap().txn(), 11);
    let (_, found) = differences(&pond, &copy).await;
    assert!(
        found.iter().any(|it| it.contains("'here0' of transaction 11 is missing")),
        "{found:?}"
    );
    assert!(found.iter().any(|it| it.contains("'there' of transaction 11 is not in")), "{found:?}");
    // So are other ponds, and places that hold something else.
    init(&other).await;
    let error = forward(&pond, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().ends_with("are different ponds"), "{error}");
    assert_eq!(forward(&pond, &pond).await.unwrap_err().kind(), ErrorKind::Invalid);
    std::fs::create_dir_all(dir.path().join("home/below")).unwrap();
    std::fs::write(dir.path().join("home/below/letter"), "dear").unwrap();
    let error = Side::open_or_make(dir.path().join("home"), FAST).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_was_given_up_stays_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, old, new, stale] = ["pond", "old", "new", "stale"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    steps(&tree, 0..10).await;
    copied(&pond, &stale).await;
    steps(&tree, 10..30).await;
    copied(&pond, &old).await;
    steps(&tree, 30..32).await;
    let cut = tree.pond().log().await.unwrap()[19].timestamp;
    tree.pond().expire(cut, None, false).await.unwrap();
    tree.pond().collect_garbage(Grace(Duration::ZERO), false).await.unwrap();
    // A new copy has what is left, and says so.
    copied(&pond, &new).await;
    same(&pond, &new).await;
    let error = open(&new).await.as_of(At::Version(19)).await.unwrap_err();
    assert!(error.to_string().contains("has expired"), "{error}");
    // One that has the past keeps it.
    assert_eq!(copied(&pond, &old).await.txns, 2);
    assert!(open(&old).await.as_of(At::Version(19)).await.is_ok());
    let (_, found) = differences(&pond, &old).await;
    assert!(found.is_empty(), "{found:?}");
    whole(&old).await;
    // One that is older than what is left cannot go on.
    let error = forward(&pond, &stale).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("is at transaction 10, and the history"), "{error}");
    assert!(error.to_string().contains("before 20 has expired"), "{error}");
    // Neither can the pond from a copy that has less.
    let from_new = forward(&new, &stale).await.unwrap_err();
    assert_eq!(from_new.kind(), ErrorKind::Conflict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_finds_what_is_different() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, copy, short] = ["pond", "copy", "short"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    for number in 0..5 {
        write(&tree, &format!("/f{number}"), bytes(number, 100_000)).await.unwrap();
    }
    copied(&pond, &copy).await;
    let files = blobs(&copy);
    flip(&files[0]);
    std::fs::remove_file(&files[1]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&files[2]).unwrap();
    file.set_len(99_999).unwrap();
    let (_, found) = differences(&pond, &copy).await;
    assert_eq!(found.len(), 3, "{found:#?}");
    for file in &files[..3] {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(found.iter().any(|it| it.contains(name)), "{name}: {found:#?}");
    }
    // A table that lacks a row, and is whole in itself.
    std::fs::create_dir_all(short.join("oplog")).unwrap();
    let store = Arc::new(DurableStore::new(&short.join("oplog"), FAST.durability).unwrap());
    let root = Arc::new(DurableStore::new(Path::new("/"), FAST.durability).unwrap());
    let url = Url::from_directory_path(short.join("oplog")).unwrap();
    let oplog = Oplog::new(store, root, &url);
    let original = oplog_of(&pond).load().await.unwrap();
    let table = oplog.create_copy(&original).await.unwrap();
    let rows = oplog_of(&pond).rows(&original.files, Scan::all());
    let rows = rows.map_ok(|mut rows| {
        rows.retain(|row| row.name != "f2");
        rows
    });
    oplog.append(&table, &original, rows.boxed()).await.unwrap();
    std::fs::remove_file(&files[3]).unwrap();
    std::fs::create_dir(short.join("blobs")).unwrap();
    copy_dir(&pond.join("blobs"), &short.join("blobs"));
    let (_, found) = differences(&pond, &short).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("the row of 'f2' of transaction 3 is missing"), "{found:#?}");
    let (_, found) = differences(&short, &pond).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("the row of 'f2' of transaction 3 is not in"), "{found:#?}");
}

fn oplog_of(dir: &Path) -> Oplog {
    let store = Arc::new(DurableStore::new(&dir.join("oplog"), FAST.durability).unwrap());
    let root = Arc::new(DurableStore::new(Path::new("/"), FAST.durability).unwrap());
    Oplog::new(store, root, &Url::from_directory_path(dir.join("oplog")).unwrap())
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_dir(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_is_brought_back_from_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, copy] = ["pond", "copy"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    steps(&tree, 0..30).await;
    copied(&pond, &copy).await;
    // What is only here stays.
    write(&tree, "/here", bytes(500, 100_000)).await.unwrap();
    let expected = picture(&tree, None).await.unwrap();
    let files = blobs(&copy);
    let here = |file: &PathBuf| pond.join(file.strip_prefix(&copy).unwrap());
    std::fs::remove_file(here(&files[0])).unwrap();
    std::fs::OpenOptions::new().write(true).open(here(&files[1])).unwrap().set_len(10).unwrap();
    flip(&here(&files[2]));
    let healed = heal(&side(&pond), &side(&copy), &progress(), |error| panic!("{error}")).await;
    let healed = healed.unwrap();
    assert_eq!(healed.healed, 3);
    assert!(healed.checked > files.len() as u64 / 2, "{healed:?}");
    whole(&pond).await;
    assert_eq!(picture(&open(&pond).await, None).await.unwrap(), expected);
    // What the copy has not got either is told.
    for file in blobs(&pond) {
        if !copy.join(file.strip_prefix(&pond).unwrap()).exists() {
            flip(&file);
        }
    }
    let mut lost = Vec::new();
    let healed = heal(&side(&pond), &side(&copy), &progress(), |error| lost.push(error)).await;
    assert_eq!((healed.unwrap().healed, lost.len()), (0, 1));
    assert_eq!(lost[0].kind(), ErrorKind::Corrupt);
    // And keeps a backup from being made of it, by its name.
    let error = forward(&pond, &copy).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(matches!(forward(&copy, &pond).await.unwrap(), Forwarded::Ahead { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_killed_at_any_moment_is_completed_by_the_next() {
    let kills = 36;
    let seed = 20_260_107;
    println!("seed {seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    let (mut killed, mut round) = (0, 0);
    let mut longest = Duration::from_millis(200);
    let start = || {
        Command::new(POND)
            .arg("--pond")
            .arg(&pond)
            .arg("backup")
            .arg(&backup)
            .env("POND_DURABILITY", "process")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    while killed < kills {
        // As much as takes a while, in a few transactions.
        for number in 0..5 {
            let mut edit = tree.begin(None).await.unwrap();
            for file in 0..20 {
                let content = bytes(round * 1000 + number * 100 + file, 150_000);
                let to = format!("/r{round}/n{number}/f{file}");
                edit.mkdir(&path(&format!("/r{round}/n{number}")), true).await.unwrap();
                crate::world::write_in(&mut edit, &to, content).await.unwrap();
            }
            edit.commit().await.unwrap();
            append(&tree, "/s.series", (round * 10 + number) as i64 * 10).await.unwrap();
        }
        round += 1;
        let tip = tree.snapshot().await.unwrap().txn();
        loop {
            let begun = Instant::now();
            let mut child = start();
            std::thread::sleep(longest.mul_f64(random.below(1000) as f64 / 1000.0));
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            } else {
                longest = (longest + begun.elapsed()) / 2;
            }
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(ended.status.code().is_none_or(|code| code == 0), "{said}");
            // Whatever came of it, it shows a transaction of the pond, whole.
            let txn = match Pond::open(&backup, FAST).await {
                Err(error) if error.kind() == ErrorKind::NotFound => 0,
                copy => {
                    let copy = Tree::new(copy.unwrap());
                    let txn = copy.snapshot().await.unwrap().txn();
                    let expected = picture(&tree, Some(At::Version(txn))).await.unwrap();
                    assert_eq!(picture(&copy, None).await.unwrap(), expected);
                    txn
                }
            };
            if txn == tip {
                break;
            }
        }
    }
    println!("{killed} kills in {round} rounds");
    assert!(round >= 3, "most kills came before anything was done");
    let (_, found) = differences(&pond, &backup).await;
    assert!(found.is_empty(), "{found:#?}");
    whole(&backup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_while_others_write_and_merge() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    let writers = [0, 1].map(|writer| spawn(&pond, writer, Work::Contents, 60));
    let mut seen = Vec::new();
    while seen.len() < 8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        match forward(&pond, &backup).await.unwrap() {
            Forwarded::Copied(copied) => seen.push(copied.txn),
            Forwarded::UpToDate { .. } if seen.len() > 2 => break,
            other => assert!(matches!(other, Forwarded::UpToDate { .. }), "{other:?}"),
        }
        tree.pond().compact().await.unwrap();
        whole(&backup).await;
        let copy = open(&backup).await;
        let txn = copy.snapshot().await.unwrap().txn();
        let expected = picture(&tree, Some(At::Version(txn))).await.unwrap();
        assert_eq!(picture(&copy, None).await.unwrap(), expected, "transaction {txn}");
    }
    let mut all = Vec::new();
    for writer in writers {
        let ended = writer.wait_with_output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        all.extend(acknowledged(&String::from_utf8(ended.stdout).unwrap()));
    }
    assert!(seen.len() > 2, "{seen:?}");
    forward(&pond, &backup).await.unwrap();
    verify(&backup, &all).await;
    let (_, found) = differences(&pond, &backup).await;
    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_to_one_place_end_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let [pond, backup] = ["pond", "backup"].map(|name| dir.path().join(name));
    let tree = init(&pond).await;
    for round in 0..6 {
        steps(&tree, round * 7..round * 7 + 7).await;
        let runs = (0..4).map(|_| forward(&pond, &backup));
        for forwarded in futures::future::join_all(runs).await {
            let forwarded = forwarded.unwrap();
            assert!(!matches!(forwarded, Forwarded::Ahead { .. }), "{forwarded:?}");
        }
    }
    same(&pond, &backup).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_expires_meanwhile_is_not_torn() {
    let dir = tempfile::tempdir().unwrap();
    let pond = dir.path().join("pond");
    let tree = init(&pond).await;
    steps(&tree, 0..20).await;
    let expiring = tokio::spawn(async move {
        for step in 20..60 {
            steps(&tree, step..step + 1).await;
            tree.pond().expire(now_micros() - 20_000, None, false).await.unwrap();
            tree.pond().collect_garbage(Grace(Duration::ZERO), false).await.unwrap();
        }
    });
    for number in 0.. {
        let copy = dir.path().join(format!("copy{number}"));
        copied(&pond, &copy).await;
        whole(&copy).await;
        picture(&open(&copy).await, None).await.unwrap();
        if expiring.is_finished() {
            break;
        }
    }
    expiring.await.unwrap();
}

#[test]
fn the_verbs_copy_dynamic_nodes_and_everything_else() {
    let dir = pond_with_data();
    let here = dir.path();
    let query = "SELECT n * 2 AS twice FROM '/data/n.csv'";
    for arguments in [
        &["put", "data/n.csv", "/kept.table"] as &[&str],
        &["create-derived-table", "/twice.table", "--query", query],
        &["ln", "-s", "/kept.table", "/link.table"],
        &["mknod", "--factory", "temporal_reduce", "/no", "--set", "resolutions=1h"],
    ] {
        let output = run(here, arguments);
        // The last is refused, and leaves nothing.
        assert_eq!(output.status.success(), arguments[0] != "mknod", "{}", stderr(&output));
    }
    let said = |arguments: &[&str]| {
        let output = run(here, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let (_, told) = said(&["backup", "copy"]);
    let rest = told.strip_prefix("backed up to 'copy': 4 transactions, 4 rows, ").unwrap();
    assert!(rest.ends_with(" bytes (txn 4)\n"), "{told}");
    assert_eq!(said(&["backup", "copy"]).1, "note: up to date (txn 4)\n");
    said(&["clone", "copy", "clone"]);
    for arguments in [
        &["log"] as &[&str],
        &["ls", "-lR"],
        &["cat", "/twice.table", "--format", "csv"],
        &["cat", "/link.table", "--format", "csv"],
        &["sql", "SHOW NODES"],
    ] {
        let of = |pond: &str| said(&[&["--pond", pond], arguments].concat()).0;
        let expected = of(".pond");
        assert!(expected.lines().count() > 2, "{expected}");
        assert_eq!(of("clone"), expected);
        assert_eq!(of("copy"), expected);
    }
    said(&["--pond", "clone", "mkdir", "/from-clone"]);
    said(&["--pond", "clone", "push", "copy"]);
    said(&["pull", "copy"]);
    assert!(said(&["ls"]).0.contains("from-clone"));
    // A pond that is gone is made again, in its place.
    std::fs::remove_dir_all(here.join(".pond")).unwrap();
    said(&["--pond", ".pond", "restore-from", "copy"]);
    assert!(said(&["ls"]).0.contains("from-clone"));
    let (_, told) = said(&["fsck", "--against", "copy"]);
    assert!(told.contains("compared up to transaction 5: 5 rows and 1 blobs"), "{told}");
    // Diverged.
    said(&["mkdir", "/here"]);
    said(&["--pond", "copy", "mkdir", "/there"]);
    for verb in ["push", "pull", "backup", "restore-from"] {
        let output = run(here, &[verb, "copy"]);
        assert_eq!(output.status.code(), Some(3), "{verb}: {}", stderr(&output));
        assert!(stderr(&output).contains("'copy' is at transaction 6"), "{}", stderr(&output));
    }
    let output = run(here, &["fsck", "--against", "copy"]);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stdout(&output).contains("'here' of transaction 6 is missing"), "{}", stdout(&output));
}

#[test]
fn a_backup_in_an_object_store_is_a_pond_there() {
    let server = Server::start();
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    std::fs::write(home.join("small.csv"), "a,b\n1,x\n2,y\n").unwrap();
    // More than is sent in one piece.
    std::fs::write(home.join("large.bin"), bytes(7, 20_000_000)).unwrap();
    let safe = "s3://bucket/safe";
    let said = |arguments: &[&str]| {
        let mut shell = crate::cli::shell(home);
        let output = shell.envs(server.environment(home)).args(arguments).output().unwrap();
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let done = |arguments: &[&str]| {
        let (code, out, told) = said(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {told}");
        (out, told)
    };
    done(&["init"]);
    done(&["put", "small.csv", "/t.table"]);
    done(&["put", "large.bin", "/large.bin"]);
    let query = "SELECT a FROM '/t.table'";
    done(&["create-derived-table", "/v.table", "--query", query]);
    let (_, told) = done(&["backup", safe]);
    assert!(
        told.starts_with("backed up to 's3://bucket/safe': 3 transactions, 3 rows, 2 "),
        "{told}"
    );
    done(&["put", "small.csv", "/another.csv"]);
    server.requests();
    let (_, told) = done(&["backup", safe]);
    assert!(told.contains(": 1 transaction, 1 row, 0 blobs, "), "{told}");
    let requests = server.requests();
    assert!(requests.len() <= 20, "{requests:#?}");
    assert_eq!(done(&["backup", safe]).1, "note: up to date (txn 4)\n");
    for arguments in [&["ls", "-lR"] as &[&str], &["log"], &["cat", "/v.table", "--format", "csv"]]
    {
        let expected = done(arguments).0;
        assert_eq!(done(&[&["--pond", safe], arguments].concat()).0, expected);
    }
    let (_, told) = done(&["fsck", "--against", safe]);
    assert!(told.contains("compared up to transaction 4: 4 rows and 2 blobs"), "{told}");
    done(&["clone", safe, "twin"]);
    done(&["--pond", "twin", "fsck", "--against", ".pond"]);
    done(&["clone", safe, "s3://bucket/again"]);
    done(&["fsck", "--against", "s3://bucket/again"]);
    // What was lost comes back, and what was committed there.
    done(&["--pond", safe, "mkdir", "/there"]);
    for blob in blobs(&home.join(".pond")) {
        std::fs::remove_file(blob).unwrap();
    }
    let (_, told) = done(&["restore-from", safe]);
    assert!(told.contains("restored from") && told.contains("2 repaired"), "{told}");
    done(&["fsck"]);
    // Places that hold nothing, or something else.
    let (code, _, told) = said(&["push", "s3://bucket/nowhere"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("no pond at"), "{told}");
    let (code, _, told) = said(&["backup", "s3://bucket"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("is not empty, and holds no pond"), "{told}");
}
