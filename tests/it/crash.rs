//! R1 of the promises: a process that dies at any moment takes nothing acknowledged with it and leaves
//! no half transaction.
//!
//! The processes are this test binary again, running the ignored test `crash::child`, which does one
//! kind of [`Work`] without pause and writes a line for each thing that was acknowledged. To see the
//! harness fail, let the child acknowledge before it commits (`POND_TEST_LIAR=1`):
//! `a_lying_writer_is_caught` does.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pond::ErrorKind;
use pond::entry::now_micros;
use pond::keep::Grace;
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Edit, Tree};

use crate::keep::whole;
use crate::oplog::{FAST, exists, path};
use crate::world::{Random, append_in, bytes, write_in};

/// What a process does, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Makes directories, in transactions that survive a power cut.
    Synced,
    /// Makes directories.
    Commits,
    /// Makes directories, and writes files and versions of series, which are merged.
    Contents,
    /// Maintains, collects garbage, and gives up the history that is older than two seconds.
    Upkeep,
    /// Makes directories, and says so before it has.
    Lies,
}

impl Work {
    const ALL: [Self; 5] = [Self::Synced, Self::Commits, Self::Contents, Self::Upkeep, Self::Lies];
}

/// Starts a process that does `work` so many times.
pub fn spawn(dir: &Path, writer: usize, work: Work, times: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture", "--quiet"])
        .env("POND_TEST_DIR", dir)
        .env("POND_TEST_WRITER", writer.to_string())
        .env("POND_TEST_TIMES", times.to_string())
        .env("POND_TEST_WORK", format!("{work:?}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The process. Each commit makes a directory with two children, all or nothing; every tenth one
/// contends for a path that all writers want.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests, as a process of its own"]
async fn child() {
    let (dir, writer, name) =
        (variable("POND_TEST_DIR"), variable("POND_TEST_WRITER"), variable("POND_TEST_WORK"));
    let work = Work::ALL.into_iter().find(|work| format!("{work:?}") == name).unwrap();
    let times: usize = variable("POND_TEST_TIMES").parse().unwrap();
    let durability = if work == Work::Synced { Durability::Full } else { Durability::Process };
    let (dir, options) = (Path::new(&dir), PondOptions { durability });
    let pond = match Pond::open(dir, options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Pond::init(dir, options).await,
        pond => pond,
    };
    let tree = Tree::new(pond.unwrap());
    let start = tree.snapshot().await.unwrap().txn();
    for number in 0..times {
        if work == Work::Upkeep {
            keep_up(&tree).await;
            say("kept");
            continue;
        }
        let shared = number % 10 == 9;
        let name = match shared {
            true => format!("/shared/{number}"),
            false => format!("/w{writer}-{start}/{number}"),
        };
        if work == Work::Lies {
            say(&format!("ack {name} 0"));
        }
        let mut edit = tree.begin(Some(name.clone())).await.unwrap();
        let committed = match fill(&mut edit, &name, &writer, number, work).await {
            Ok(()) => edit.commit().await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(changes) => {
                let txn = changes.last().unwrap().txn.unwrap();
                say(&format!("ack {name} {txn}"));
            }
            Err(error) => {
                let known = matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists);
                assert!(shared && known, "{error:?}");
                say(&format!("lost {name}"));
            }
        }
    }
}

async fn fill(
    edit: &mut Edit,
    name: &str,
    writer: &str,
    number: usize,
    work: Work,
) -> pond::Result<()> {
    let (parent, _) = name.rsplit_once('/').unwrap();
    edit.mkdir(&path(parent), true).await?;
    // Of those who want the same, one makes it.
    for made in ["", "/a", "/b"] {
        edit.mkdir(&path(&format!("{name}{made}")), false).await?;
    }
    if work == Work::Contents {
        let length = [70_000, 500, 300_000][number % 3];
        write_in(edit, &format!("{name}/f"), bytes(number as u64 % 50, length)).await?;
        if number.is_multiple_of(2) {
            append_in(edit, &format!("/series/{writer}.series"), number as i64 * 10).await?;
        }
    }
    Ok(())
}

async fn keep_up(tree: &Tree) {
    let pond = tree.pond();
    pond.expire(now_micros() - 2_000_000, None, false).await.unwrap();
    tree.maintain().await.unwrap();
    pond.collect_garbage(Grace(Duration::from_secs(1)), false).await.unwrap();
}

fn say(line: &str) {
    let mut stdout = std::io::stdout();
    stdout.write_all(format!("{line}\n").as_bytes()).and_then(|()| stdout.flush()).unwrap();
}

/// The acknowledgements in what a process said: path and transaction.
pub fn acknowledged(said: &str) -> Vec<(String, i64)> {
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete
        .lines()
        .filter_map(|line| {
            let (path, txn) = line.strip_prefix("ack ")?.split_once(' ')?;
            Some((path.to_owned(), txn.parse().ok()?))
        })
        .collect()
}

/// Opens the pond and checks that all in it is whole, its log is contiguous, no transaction is torn and
/// all that was acknowledged is there exactly once.
pub async fn verify(dir: &Path, acknowledged: &[(String, i64)]) {
    whole(dir).await;
    let pond = Pond::open(dir, FAST).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    let log = pond.log().await.unwrap();
    // What is older may have expired.
    let first = log.first().map_or(1, |entry| entry.txn);
    assert!(log.iter().map(|entry| entry.txn).eq(first..=snapshot.txn()), "the log has a gap");
    let by_txn: BTreeMap<i64, &str> =
        log.iter().map(|entry| (entry.txn, entry.message.as_deref().unwrap_or(""))).collect();
    let mut seen = HashSet::new();
    for (name, txn) in acknowledged {
        assert!(seen.insert(name), "{name} was acknowledged twice");
        assert!(exists(&snapshot, name), "{name} was acknowledged and is lost");
        if *txn >= first {
            assert_eq!(by_txn.get(txn), Some(&name.as_str()), "transaction {txn}");
        }
    }
    // The others are of merged series.
    for (txn, name) in by_txn.into_iter().filter(|(_, name)| name.starts_with('/')) {
        for child in ["a", "b"] {
            assert!(exists(&snapshot, &format!("{name}/{child}")), "{name} of {txn} is torn");
        }
    }
}

/// Kills a process again and again; returns what it had acknowledged.
fn kill_repeatedly(dir: &Path, kills: usize, seed: u64, works: &[Work]) -> Vec<(String, i64)> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for kill in 0..kills {
        let mut child = spawn(dir, kill % 3, works[kill % works.len()], usize::MAX);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        // Some kills hit the start and `init`, the others commits and maintenance.
        if kill % 4 != 0 {
            let worked = |said: &str| said.contains("ack ") || said.contains("kept");
            while !worked(&said) && stdout.read_line(&mut said).unwrap() > 0 {}
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        all.extend(acknowledged(&said));
    }
    all
}

async fn survives(rounds: u64, seed: u64, works: &'static [Work]) {
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..rounds {
        let at = dir.path().to_owned();
        let killed = move || kill_repeatedly(&at, 15, seed + round, works);
        acknowledged.extend(tokio::task::spawn_blocking(killed).await.unwrap());
        if dir.path().join("oplog/_delta_log/00000000000000000000.json").exists()
            || !acknowledged.is_empty()
        {
            verify(dir.path(), &acknowledged).await;
        }
    }
    assert!(acknowledged.len() > 100, "only {} commits came through", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_committing_processes_lose_nothing_acknowledged() {
    survives(8, 20_260_102, &[Work::Synced, Work::Commits]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_writers_of_files_and_of_upkeep_lose_nothing_acknowledged() {
    survives(12, 20_260_103, &[Work::Contents, Work::Contents, Work::Upkeep]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_kills() {
    let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    survives(500, seed, &[Work::Synced, Work::Contents, Work::Commits, Work::Upkeep]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_writer_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = kill_repeatedly(dir.path(), 20, 7, &[Work::Lies]);
    let dir = dir.path().to_owned();
    let verified = tokio::spawn(async move { verify(&dir, &acknowledged).await });
    assert!(verified.await.is_err(), "the check cannot fail");
}
