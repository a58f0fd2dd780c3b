//! Housekeeping: garbage goes and nothing else does, history expires as a whole or not at all, and a
//! whole pond passes its check.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use pond::ErrorKind;
use pond::keep::{Checked, Garbage, GarbageKind, Grace, check, parse_age};
use pond::pond::{At, Pond};
use pond::tree::Tree;

use crate::oplog::{FAST, path};
use crate::world::{Picture, Random, append, bytes, init, open, picture, remove, write};

const NOW: Grace = Grace(Duration::ZERO);

/// Checks a pond that should be whole.
pub async fn whole(dir: &Path) -> Checked {
    let mut findings = Vec::new();
    let checked = check(dir, |error| findings.push(error.to_string())).await.unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    checked
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path)
            } else {
                found.insert(path);
            }
        }
    }
    found
}

fn paths(garbage: &[Garbage]) -> BTreeSet<PathBuf> {
    garbage.iter().map(|file| file.path.clone()).collect()
}

fn age(file: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(then).unwrap();
}

/// A pond with all kinds of contents and its picture at each transaction; series are merged in it.
async fn full(dir: &Path, seed: u64) -> (Tree, Vec<(i64, Picture)>) {
    let tree = init(dir).await;
    let mut random = Random(seed);
    for step in 0..45i64 {
        match random.below(10) {
            0..3 => drop(append(&tree, "/d/s.series", step * 10).await.unwrap()),
            3..5 => {
                let length = [10, 70_000, 300][random.below(3) as usize];
                let to = format!("/d/f{}", random.below(4));
                write(&tree, &to, bytes(random.below(5), length)).await.unwrap();
            }
            5 => {
                let to = format!("/e{}/f{}", random.below(2), random.below(3));
                write(&tree, &to, bytes(step as u64, 66_000)).await.unwrap();
            }
            6 => drop(append(&tree, "/t.series", step * 10).await.unwrap()),
            7 => {
                let at = ["/e0", "/e1", "/d/f1", "/t.series"][random.below(4) as usize];
                let _ = remove(&tree, at).await;
            }
            _ => {
                let from = path(&format!("/d/f{}", random.below(4)));
                let to = path(&format!("/d/f{}", random.below(4)));
                let _ = tree.rename(&from, &to, None).await;
            }
        }
    }
    for step in 45..75 {
        append(&tree, "/d/s.series", step * 10).await.unwrap();
    }
    let newest = tree.snapshot().await.unwrap().txn();
    let mut pictures = Vec::new();
    for txn in 0..=newest {
        pictures.push((txn, picture(&tree, Some(At::Version(txn))).await.unwrap()));
    }
    (tree, pictures)
}

async fn shows(tree: &Tree, pictures: &[(i64, Picture)]) {
    for (txn, expected) in pictures {
        let seen = picture(tree, Some(At::Version(*txn))).await.unwrap();
        assert_eq!(seen, *expected, "as of {txn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_goes_and_nothing_else_does() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, pictures) = full(dir.path(), 1).await;
    let (dir, pond) = (tree.pond().dir().unwrap().to_owned(), tree.pond());
    whole(&dir).await;
    // What was merged is garbage, and what was never committed; with a grace time only the latter.
    let orphan = pond.blobs().put(
        futures::stream::StreamExt::boxed(futures::stream::once(async { Ok(bytes(99, 70_000)) })),
        true,
    );
    let orphan = orphan.await.unwrap().created.unwrap().path;
    let staged = [
        dir.join("oplog/_delta_log/_last_checkpoint#4194303000001"),
        dir.join("oplog/part-00000000000000000009-x.parquet#4194303000002"),
        dir.join("blobs/staged#4194303000003"),
        dir.join("cache/namespace/head.0190"),
    ];
    staged.iter().for_each(|file| std::fs::write(file, "half").unwrap());
    let lost = dir.join("oplog/part-00000000000000000007-lost.parquet");
    std::fs::write(&lost, "half").unwrap();
    let strange = dir.join("blobs/README");
    std::fs::write(&strange, "not ours").unwrap();
    let young = pond.collect_garbage(Grace::default(), true).await.unwrap();
    assert_eq!(paths(&young), BTreeSet::from([orphan.clone(), staged[2].clone()]));
    age(&lost, 3601);
    let dry = pond.collect_garbage(NOW, true).await.unwrap();
    let merged = dry.iter().filter(|file| file.kind == GarbageKind::Blob && file.path != orphan);
    assert!(merged.count() > 20, "{dry:#?}");
    assert!(staged.iter().chain([&orphan, &lost]).all(|file| paths(&dry).contains(file)));
    let before = files(&dir);
    assert_eq!(pond.collect_garbage(NOW, false).await.unwrap(), dry);
    let gone: BTreeSet<PathBuf> = before.difference(&files(&dir)).cloned().collect();
    assert_eq!(gone, paths(&dry), "a dry run lists what the run deletes");
    assert!(strange.exists());
    std::fs::remove_file(strange).unwrap();
    assert_eq!(pond.collect_garbage(NOW, false).await.unwrap(), []);
    shows(&tree, &pictures).await;
    whole(&dir).await;
    shows(&open(&dir).await, &pictures).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_collection_waits_for_a_transaction_and_heeds_what_it_names() {
    let dir = tempfile::tempdir().unwrap();
    let tree = init(dir.path()).await;
    // The same bytes were put before, and nobody names them.
    let content = bytes(5, 100_000);
    let mut edit = tree.begin(None).await.unwrap();
    crate::world::write_in(&mut edit, "/f", content.clone()).await.unwrap();
    let other = open(dir.path()).await;
    let collecting =
        tokio::spawn(async move { other.pond().collect_garbage(NOW, false).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!collecting.is_finished(), "it must wait");
    edit.commit().await.unwrap();
    collecting.await.unwrap();
    whole(dir.path()).await;
    let seen = picture(&tree, None).await.unwrap();
    assert!(seen["/f"].contains("100000 bytes"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_is_refused_and_all_else_is_as_it_was() {
    for seed in [3, 4] {
        let dir = tempfile::tempdir().unwrap();
        let (tree, pictures) = full(dir.path(), seed).await;
        let other = open(dir.path()).await;
        let log = tree.log().await.unwrap();
        let newest = log.last().unwrap().txn;
        for cutoff in [newest / 3, newest / 2, newest] {
            let time = log[usize::try_from(cutoff).unwrap() - 1].timestamp;
            let dry = tree.pond().expire(time, None, true).await.unwrap();
            shows(&tree, &pictures[cutoff as usize - 1..=cutoff as usize]).await;
            let done = tree.pond().expire(time, None, false).await.unwrap();
            assert_eq!((dry, done.before), (done, Some(cutoff)));
            assert!(done.rows_dropped > 0);
            let again = tree.pond().expire(time, None, false).await.unwrap();
            assert_eq!(again.before, None);
            std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
            let reopened = open(dir.path()).await;
            for tree in [&tree, &other, &reopened] {
                shows(tree, &pictures[cutoff as usize..]).await;
                for gone in [0, 1, cutoff - 1] {
                    let error = picture(tree, Some(At::Version(gone))).await.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
                    assert!(error.hint().unwrap().contains(&cutoff.to_string()), "{error:?}");
                }
                let early = At::Timestamp(time - 1);
                assert!(picture(tree, Some(early)).await.is_err(), "before the cutoff");
                let then = picture(tree, Some(At::Timestamp(time))).await.unwrap();
                assert_eq!(then, pictures[cutoff as usize].1);
                for (at, _) in pictures[newest as usize].1.iter().filter(|(_, it)| it.len() > 10) {
                    let history = tree.history(&path(at)).await.unwrap();
                    assert!(history.iter().any(|change| change.change != "removed"), "{at}");
                }
                let left: Vec<i64> = tree.log().await.unwrap().iter().map(|it| it.txn).collect();
                assert_eq!(left, (cutoff..=newest).collect::<Vec<_>>());
            }
            whole(dir.path()).await;
            tree.pond().collect_garbage(NOW, false).await.unwrap();
            shows(&other, &pictures[cutoff as usize..]).await;
            whole(dir.path()).await;
        }
        // Life goes on.
        let txn = write(&other, "/new", bytes(1, 10)).await.unwrap();
        assert_eq!(txn, newest + 1);
        shows(&tree, &pictures[newest as usize..]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn maintenance_leaves_few_files_and_shows_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, pictures) = full(dir.path(), 8).await;
    let before = tree.pond().status().await.unwrap();
    assert!(before.since_checkpoint > 0 && before.versions > before.nodes, "{before:?}");
    let done = tree.maintain().await.unwrap();
    assert!(done.oplog_files.1 <= done.oplog_files.0);
    let after = tree.pond().status().await.unwrap();
    assert_eq!((after.since_checkpoint, after.mergeable_files), (0, 0));
    assert_eq!(after.nodes, before.nodes);
    shows(&tree, &pictures).await;
    let checked = whole(dir.path()).await;
    assert_eq!(checked.blobs, after.live_blobs + after.past_blobs + after.garbage_files);
    shows(&Tree::new(Pond::open(dir.path(), FAST).await.unwrap()), &pictures).await;
}

#[test]
fn ages_have_units() {
    assert_eq!(parse_age("90s").unwrap(), Duration::from_secs(90));
    assert_eq!(parse_age("12h").unwrap(), Duration::from_secs(43_200));
    assert_eq!(parse_age("2w").unwrap(), Duration::from_secs(1_209_600));
    for wrong in ["", "5", "h", "-1d", "1.5d", "5 d", "1y", "99999999999d"] {
        assert_eq!(parse_age(wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong}");
    }
}
