//! R7 of the promises: a file of the pond that is deleted, cut short, zeroed, or has one bit flipped is
//! recovered from, or is an error that names it; never a wrong answer, never a panic. The check finds
//! every flip.
//!
//! Two things are told apart. What the oplog says is checked whenever it is read. The bytes of a blob
//! are checked by `pond fsck`, which compares them with its name; a read of them checks the size alone.
//!
//! A log file that is gone from the very end of the log is a commit that was not made: nothing else
//! tells of it.

use std::path::{Path, PathBuf};

use pond::keep::check;
use pond::pond::{At, Pond};
use pond::tree::Tree;

use crate::oplog::FAST;
use crate::world::{Picture, Random, append, bytes, init, picture, remove, write};

/// A pond with two checkpoints, merged and unmerged rows, bytes in rows and in blobs, and a past.
async fn template(dir: &Path) {
    let tree = init(dir).await;
    for step in 0..70u64 {
        match step % 7 {
            0 | 1 => drop(append(&tree, "/d/s.series", step as i64 * 10).await.unwrap()),
            2 => drop(write(&tree, "/d/large", bytes(step, 70_000)).await.unwrap()),
            3 if step > 5 => drop(remove(&tree, &format!("/d/f{}", step - 4)).await.unwrap()),
            _ => drop(write(&tree, &format!("/d/f{step}"), bytes(step, 2000)).await.unwrap()),
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.join("oplog"), dir.join("blobs")];
    while let Some(at) = waiting.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { waiting.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn name(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

async fn findings(dir: &Path) -> Vec<String> {
    let mut findings = Vec::new();
    check(dir, |error| findings.push(error.to_string())).await.unwrap();
    findings
}

/// Opens the pond without its cache and reads all of it; a panic is an error that names nothing.
async fn read(dir: &Path, at: Option<At>) -> Result<Picture, String> {
    let _ = std::fs::remove_dir_all(dir.join("cache"));
    let dir = dir.to_owned();
    let read = tokio::spawn(async move {
        let tree = Tree::new(Pond::open(&dir, FAST).await?);
        picture(&tree, at).await
    });
    match read.await {
        Ok(picture) => picture.map_err(|error| error.to_string()),
        Err(panic) => Err(format!("panic: {panic}")),
    }
}

/// What a pond shows now, and showed half-way.
struct Shown {
    now: Picture,
    then: Picture,
}

const HALF: At = At::Version(35);

impl Shown {
    async fn of(dir: &Path) -> Self {
        Self { now: read(dir, None).await.unwrap(), then: read(dir, Some(HALF)).await.unwrap() }
    }

    /// Whether the pond shows the same, or an error that names `file`.
    async fn holds(&self, dir: &Path, file: &Path) -> Result<(), String> {
        for (at, expected) in [(None, &self.now), (Some(HALF), &self.then)] {
            match read(dir, at).await {
                Ok(seen) if seen == *expected => {}
                Ok(_) => return Err(format!("{}: a wrong answer", file.display())),
                Err(error) if error.contains(name(file)) && !error.starts_with("panic") => {}
                Err(error) => return Err(format!("{}: {error}", file.display())),
            }
        }
        Ok(())
    }
}

fn flip(file: &Path, at: u64) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[(at / 8) as usize] ^= 1 << (at % 8);
    std::fs::write(file, bytes).unwrap();
}

/// Flips bits one at a time: each must be found by the check, and must not change an answer.
async fn flips(count: u64, seed: u64) {
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    template(dir.path()).await;
    let shown = Shown::of(dir.path()).await;
    assert_eq!(findings(dir.path()).await, [""; 0]);
    let (logs, others): (Vec<PathBuf>, Vec<PathBuf>) = files(dir.path())
        .into_iter()
        .partition(|file| file.parent().unwrap().ends_with("_delta_log"));
    let (rows, blobs): (Vec<PathBuf>, Vec<PathBuf>) =
        others.into_iter().partition(|file| file.parent().unwrap().ends_with("oplog"));
    let mut random = Random(seed);
    let rows = in_table(dir.path(), rows).await;
    for number in 0..count {
        let kind = [&logs, &rows, &blobs][(number % 3) as usize];
        let file = &kind[random.below(kind.len() as u64) as usize];
        let bit = random.below(8 * std::fs::metadata(file).unwrap().len());
        flip(file, bit);
        let found = findings(dir.path()).await;
        assert!(
            found.iter().any(|found| found.contains(name(file))),
            "seed {seed}, flip {number}: bit {bit} of {} was not found: {found:?}",
            file.display()
        );
        // Reading takes longer than checking; blobs are checked by the check alone.
        if number % 3 != 2 && (number / 3) % 4 == 0 {
            let held = shown.holds(dir.path(), file).await;
            assert!(held.is_ok(), "seed {seed}, flip {number}, bit {bit}: {held:?}");
        }
        flip(file, bit);
    }
    assert_eq!(findings(dir.path()).await, [""; 0]);
}

/// Leaves out the files that were merged and wait for their removal: nothing reads them.
async fn in_table(dir: &Path, files: Vec<PathBuf>) -> Vec<PathBuf> {
    let url = url::Url::from_directory_path(dir.join("oplog")).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    let named: Vec<String> = table.get_file_uris().unwrap().collect();
    files.into_iter().filter(|file| named.iter().any(|uri| uri.ends_with(name(file)))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_flips_are_found_and_change_no_answer() {
    flips(500, 20_260_107).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_flips() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    flips(20_000, seed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_cut_short_or_zeroed_is_recovered_from_or_named() {
    let dir = tempfile::tempdir().unwrap();
    template(dir.path()).await;
    let shown = Shown::of(dir.path()).await;
    let files = files(dir.path());
    let last_log = files.iter().rfind(|file| name(file).ends_with(".json")).unwrap().clone();
    for (number, file) in files.iter().enumerate() {
        let bytes = std::fs::read(file).unwrap();
        let half = bytes[..bytes.len() / 2].to_vec();
        let zeros = vec![0; bytes.len()];
        // All ways for some files, one for each.
        let ways = [None, Some(half), Some(zeros), Some(Vec::new())];
        for (way, damaged) in ways.into_iter().enumerate() {
            let is_blob = !file.starts_with(dir.path().join("oplog"));
            if (way != number % 4 && number % 8 != 0) || (is_blob && way == 2) {
                continue;
            }
            match &damaged {
                Some(damaged) => std::fs::write(file, damaged).unwrap(),
                None => std::fs::remove_file(file).unwrap(),
            }
            if *file != last_log || damaged.is_some() {
                let held = shown.holds(dir.path(), file).await;
                assert!(held.is_ok(), "way {way}: {held:?}");
            }
            std::fs::write(file, &bytes).unwrap();
        }
    }
    assert_eq!(findings(dir.path()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_checkpoint_is_recovered_from_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    template(dir.path()).await;
    let shown = Shown::of(dir.path()).await;
    let all = files(dir.path());
    let newest = all.iter().rfind(|file| name(file).ends_with(".checkpoint.parquet")).unwrap();
    let whole = std::fs::read(newest).unwrap();
    let (mut torn, mut wrong) = (whole.clone(), whole.clone());
    torn.truncate(whole.len() / 2);
    wrong[whole.len() / 3] ^= 4;
    for damaged in [Vec::new(), torn, wrong] {
        std::fs::write(newest, damaged).unwrap();
        assert_eq!(read(dir.path(), None).await.unwrap(), shown.now);
        assert_eq!(read(dir.path(), Some(HALF)).await.unwrap(), shown.then);
        assert!(findings(dir.path()).await.iter().any(|found| found.contains(name(newest))));
    }
    // Later checkpoints take its place.
    let tree = Tree::new(Pond::open(dir.path(), FAST).await.unwrap());
    for step in 0..70 {
        write(&tree, "/later", bytes(step, 10)).await.unwrap();
    }
    assert!(!newest.exists());
    assert_eq!(findings(dir.path()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_reads_no_seals_lets_flips_through() {
    // What the harness would see if the oplog did not check itself: a flip in a row's bytes, with the
    // checks in the log taken away, is a wrong answer or an error that names nothing.
    let dir = tempfile::tempdir().unwrap();
    let tree = init(dir.path()).await;
    write(&tree, "/f", bytes(1, 2000)).await.unwrap();
    drop(tree);
    let now = read(dir.path(), None).await.unwrap();
    let then = now.clone();
    let shown = Shown { now, then };
    let files = files(dir.path());
    let log = files.iter().find(|file| name(file).ends_with("01.json")).unwrap();
    let text = crate::oplog::without_checks(&std::fs::read_to_string(log).unwrap());
    std::fs::write(log, text).unwrap();
    let rows = files.iter().find(|file| name(file).starts_with("part-")).unwrap();
    let content = bytes(1, 2000);
    let whole = std::fs::read(rows).unwrap();
    let at = whole.windows(20).position(|window| window == &content[100..120]).unwrap();
    flip(rows, at as u64 * 8);
    let seen = read(dir.path(), None).await.unwrap();
    assert_ne!(seen, shown.now, "the flip must be seen");
    // The content's hash is in its row, so the check finds even this one.
    assert!(findings(dir.path()).await.iter().any(|found| found.contains("'f'")));
}
