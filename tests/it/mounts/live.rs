//! S4: a mount shows the host as it is while it changes, and never a part of it for the whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;

use super::{Mounted, ls, ls_all};

/// How long the mutators run.
const DURATION: Duration = Duration::from_secs(20);
const STABLE: usize = 2_000;
/// The two sizes of the file that is cut and grown.
const LARGE: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_shows_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(dir.path()).await;
    assert!(mounted.paths(ls("/host")).await.unwrap().is_empty());
    std::fs::write(dir.path().join("a"), "1").unwrap();
    assert_eq!(
        mounted.rows(ls("/host"), "SELECT path, size FROM ls").await.unwrap(),
        ["/host/a|1"]
    );
    std::fs::write(dir.path().join("a"), "22").unwrap();
    assert_eq!(
        mounted.rows(ls("/host"), "SELECT path, size FROM ls").await.unwrap(),
        ["/host/a|2"]
    );
    assert_eq!(mounted.cat("/host/a").await.unwrap(), b"22");
    std::fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
    assert_eq!(mounted.paths(ls("/host")).await.unwrap(), ["/host/b"]);
    assert!(mounted.node("/host/a").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_short_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.csv");
    let mounted = Mounted::new(dir.path()).await;
    let make = || File::create(&path).unwrap().set_len(LARGE).unwrap();
    let cut = || File::options().write(true).open(&path).unwrap().set_len(LARGE / 2).unwrap();

    make();
    let mut bytes = mounted.file("/host/f.csv").await.unwrap().bytes().await.unwrap().unwrap();
    bytes.next().await.unwrap().unwrap();
    cut();
    let error = bytes.try_collect::<Vec<_>>().await.unwrap_err();
    assert!(error.to_string().contains("cut short while it was being read"), "{error}");

    make();
    let (source, store) = mounted.source("/host/f.csv").await.unwrap();
    let mut bytes = store.get(&source.object.location).await.unwrap().into_stream();
    bytes.next().await.unwrap().unwrap();
    cut();
    assert!(bytes.try_collect::<Vec<_>>().await.is_err());
    let ranges = [0..10, LARGE - 10..LARGE];
    let error = store.get_ranges(&source.object.location, &ranges).await.unwrap_err();
    assert!(error.to_string().contains("cut short"), "{error}");
    // What is left can be read.
    assert_eq!(store.get_ranges(&source.object.location, &ranges[..1]).await.unwrap()[0].len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_reads_the_file_that_was_planned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.csv");
    let mounted = Mounted::new(dir.path()).await;
    std::fs::write(&path, "x\nold\n").unwrap();
    let (old, store) = mounted.source("/host/f.csv").await.unwrap();
    std::fs::write(dir.path().join("new"), "x\nnew\n").unwrap();
    std::fs::rename(dir.path().join("new"), &path).unwrap();
    let (new, _) = mounted.source("/host/f.csv").await.unwrap();
    assert_ne!(old.object.location, new.object.location, "the engine's caches go by location");
    let read = async |location| store.get(location).await.unwrap().bytes().await.unwrap();
    assert_eq!(read(&old.object.location).await, "x\nold\n");
    assert_eq!(read(&new.object.location).await, "x\nnew\n");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(read(&new.object.location).await, "x\nnew\n");
    // Rewritten in place, it is another content.
    std::fs::write(&path, "x\none\n").unwrap();
    let (one, _) = mounted.source("/host/f.csv").await.unwrap();
    std::fs::write(&path, "x\ntwo\n").unwrap();
    let (two, _) = mounted.source("/host/f.csv").await.unwrap();
    assert_ne!(one.object.location, two.object.location);
}

/// More files than are kept open: those that are opened again must be the same ones.
#[tokio::test(flavor = "multi_thread")]
async fn files_opened_again_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::new(dir.path()).await;
    let mut sources = Vec::new();
    for number in 0..400 {
        let name = format!("f{number:03}.csv");
        std::fs::write(dir.path().join(&name), format!("x\n{number}\n")).unwrap();
        sources.push(mounted.source(&format!("/host/{name}")).await.unwrap());
    }
    std::fs::write(dir.path().join("f000.csv"), "x\nanother\n").unwrap();
    for (number, (source, store)) in sources.iter().enumerate() {
        let result = store.get(&source.object.location).await;
        match number {
            0 => assert!(result.unwrap_err().to_string().contains("another file"), "{number}"),
            _ => {
                let bytes = result.unwrap().bytes().await.unwrap();
                assert_eq!(bytes, format!("x\n{number}\n"), "{number}");
            }
        }
    }
}

fn mutators(root: &Path, stop: &Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<()>> {
    let spawn = |step: Box<dyn Fn(u64) + Send>| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                step(number);
                number += 1;
            }
        })
    };
    let at = |name: &str| root.join(name);
    let (files, dirs, moved, cut) = (at("files"), at("dirs"), at("moved"), at("cut.csv"));
    vec![
        // Makes and deletes files.
        spawn(Box::new(move |number| {
            let path = files.join(format!("comes-{}", number % 50));
            std::fs::write(&path, "x").unwrap();
            if number % 3 != 0 {
                std::fs::remove_file(&path).unwrap();
            }
        })),
        // Makes and deletes directories, with files in them.
        spawn(Box::new(move |number| {
            let path = dirs.join(format!("comes-{}", number % 20));
            std::fs::create_dir_all(path.join("in")).unwrap();
            std::fs::write(path.join("in/file"), "x").unwrap();
            std::fs::remove_dir_all(&path).unwrap();
        })),
        // Renames files, and swaps a directory with a file.
        spawn(Box::new(move |number| {
            let (a, b) = (moved.join("a"), moved.join("b"));
            std::fs::rename(&a, &b).unwrap();
            std::fs::rename(&b, &a).unwrap();
            if number % 10 == 0 {
                let (cwd, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                let (dir, file) = (moved.join("dir"), moved.join("file"));
                rustix::fs::renameat_with(cwd, &dir, cwd, &file, flags).unwrap();
            }
        })),
        // Cuts and grows a file.
        spawn(Box::new(move |number| {
            let file = File::options().write(true).open(&cut).unwrap();
            file.set_len(if number % 2 == 0 { 0 } else { LARGE }).unwrap();
        })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changing_directory_is_listed_and_read_without_fail() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for sub in ["files", "dirs", "moved/dir", "stable"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    for number in 0..STABLE {
        std::fs::write(root.join(format!("stable/s{number}")), "x").unwrap();
        std::fs::write(root.join(format!("files/s{number}")), "x").unwrap();
    }
    for (name, size) in [("moved/a", 0), ("moved/file", 0), ("cut.csv", LARGE)] {
        File::create(root.join(name)).unwrap().set_len(size).unwrap();
    }
    let mounted = Mounted::new(root).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mutators = mutators(root, &stop);
    let (listings, reads, errors) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let end = Instant::now() + DURATION;

    let list = async {
        while Instant::now() < end {
            let query = "SELECT path, entry_type, size, error FROM ls";
            let rows = mounted.rows(ls_all("/host"), query).await.unwrap();
            let mut seen = BTreeSet::new();
            let mut stable = 0;
            for row in rows {
                let fields: Vec<&str> = row.split('|').collect();
                let path = fields[0].strip_prefix("/host/").unwrap();
                let name = path.rsplit('/').next().unwrap();
                let is_stable = name.starts_with('s') && name != "stable";
                if is_stable {
                    stable += 1;
                    assert_eq!(fields[1..], ["file:data", "1", "NULL"], "{row}");
                    assert!(seen.insert(path.to_owned()), "{path} is listed twice");
                }
                let is_known = is_stable
                    || name.starts_with("comes-")
                    || [
                        "files", "dirs", "moved", "stable", "a", "b", "dir", "file", "in",
                        "cut.csv",
                    ]
                    .contains(&name);
                assert!(is_known, "{row}");
                assert_eq!(*fields.last().unwrap(), "NULL", "{row}");
            }
            assert_eq!(stable, 2 * STABLE, "files that nobody touches are always listed");
            let count =
                mounted.rows(ls("/host/stable/*"), "SELECT count(*) FROM ls").await.unwrap();
            assert_eq!(count, [STABLE.to_string()]);
            listings.fetch_add(1, Ordering::Relaxed);
        }
    };
    let read = async {
        while Instant::now() < end {
            let sourced = async {
                let (source, store) = mounted.source("/host/cut.csv").await.ok()?;
                let result = store.get(&source.object.location).await.ok()?;
                // What the scan was told is what it gets.
                let (size, bytes) = (result.meta.size, result.bytes().await.ok()?);
                assert_eq!(bytes.len() as u64, size);
                Some(size)
            };
            let whole = mounted.cat("/host/cut.csv").await.ok().map(|bytes| bytes.len() as u64);
            for size in [whole, sourced.await] {
                match size {
                    Some(size) => assert!(size == 0 || size == LARGE, "{size} bytes of {LARGE}"),
                    None => _ = errors.fetch_add(1, Ordering::Relaxed),
                }
                reads.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    futures::join!(list, read);
    stop.store(true, Ordering::Relaxed);
    for mutator in mutators {
        mutator.join().unwrap();
    }
    let (listings, reads, errors) =
        (listings.into_inner(), reads.into_inner(), errors.into_inner());
    assert!(listings > 5 && reads > 20, "{listings} listings, {reads} reads");
    assert!(errors < reads, "{errors} of {reads} reads failed");
}
