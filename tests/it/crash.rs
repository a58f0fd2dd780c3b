//! R1 and R5 of the promises: a process that dies at any moment takes nothing acknowledged with it
//! and leaves no half transaction; processes that commit at once all get what they were told.
//!
//! The writers are this test binary again, running the ignored test `crash::child`: it commits without
//! pause and writes a line for each acknowledged commit. To see the harness fail, let the child
//! acknowledge before it commits (`POND_TEST_LIAR=1`): `a_lying_writer_is_caught` does.

use std::collections::{BTreeMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pond::ErrorKind;
use pond::pond::{Pond, PondOptions};
use pond::snapshot::Located;
use pond::store::Durability;

use crate::oplog::{FAST, exists, path};

fn spawn(dir: &Path, writer: usize, commits: usize, liar: bool) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "crash::child", "--nocapture", "--quiet"])
        .env("POND_TEST_DIR", dir)
        .env("POND_TEST_WRITER", writer.to_string())
        .env("POND_TEST_COMMITS", commits.to_string())
        .env("POND_TEST_LIAR", if liar { "1" } else { "0" })
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The writer. Each commit makes a directory with two children, all or nothing; every tenth one
/// contends for a path that all writers want.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests of this file, as a process of its own"]
async fn child() {
    let dir = variable("POND_TEST_DIR");
    let (dir, writer) = (Path::new(&dir), variable("POND_TEST_WRITER"));
    let commits: usize = variable("POND_TEST_COMMITS").parse().unwrap();
    let liar = variable("POND_TEST_LIAR") == "1";
    let durability = if writer == "0" { Durability::Full } else { Durability::Process };
    let options = PondOptions { durability };
    let mut stdout = std::io::stdout();
    let pond = match Pond::open(dir, options).await {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Pond::init(dir, options).await.unwrap()
        }
        pond => pond.unwrap(),
    };
    let start = pond.snapshot().await.unwrap().txn();
    for number in 0..commits {
        let shared = number % 10 == 9;
        let name = match shared {
            true => format!("/shared/{number}"),
            false => format!("/w{writer}-{start}/{number}"),
        };
        if liar {
            writeln!(stdout, "ack {name} 0").unwrap();
        }
        let mut transaction = pond.begin(Some(name.clone())).await.unwrap();
        let made = transaction
            .mkdir(&path(&format!("{name}/a")))
            .and_then(|()| transaction.mkdir(&path(&format!("{name}/b"))));
        let committed = match made {
            Ok(()) => pond.commit(transaction).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(committed) => writeln!(stdout, "ack {name} {}", committed.txn).unwrap(),
            Err(error) => {
                let known = matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists);
                assert!(shared && known, "{error:?}");
                writeln!(stdout, "lost {name}").unwrap();
            }
        }
        stdout.flush().unwrap();
    }
}

/// The acknowledgements in what a writer said: path and transaction.
fn acknowledged(said: &str) -> Vec<(String, i64)> {
    let complete = said.rsplit_once('\n').map_or("", |(lines, _)| lines);
    complete
        .lines()
        .filter_map(|line| {
            let (path, txn) = line.strip_prefix("ack ")?.split_once(' ')?;
            Some((path.to_owned(), txn.parse().ok()?))
        })
        .collect()
}

/// Opens the pond and checks that its log is contiguous, no transaction is torn and all that was
/// acknowledged is there exactly once.
async fn check(dir: &Path, acknowledged: &[(String, i64)]) {
    let pond = Pond::open(dir, FAST).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    let log = pond.log().await.unwrap();
    assert!(log.iter().map(|entry| entry.txn).eq(1..=snapshot.txn()), "the log has a gap");
    let by_txn: BTreeMap<i64, &str> =
        log.iter().map(|entry| (entry.txn, entry.message.as_deref().unwrap_or(""))).collect();
    let mut seen = HashSet::new();
    for (name, txn) in acknowledged {
        assert!(seen.insert(name), "{name} was acknowledged twice");
        assert!(exists(&snapshot, name), "{name} was acknowledged and is lost");
        if *txn > 0 {
            assert_eq!(by_txn.get(txn), Some(&name.as_str()), "transaction {txn}");
        }
    }
    for (txn, name) in by_txn {
        for child in ["a", "b"] {
            assert!(exists(&snapshot, &format!("{name}/{child}")), "{name} of {txn} is torn");
        }
    }
}

/// A small generator of its own, so that a failure's seed is enough to see it again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// Kills a writer again and again; returns what it had acknowledged.
fn kill_repeatedly(dir: &Path, kills: usize, seed: u64, liar: bool) -> Vec<(String, i64)> {
    let mut random = Random(seed);
    let mut all = Vec::new();
    for kill in 0..kills {
        let mut child = spawn(dir, kill % 3, usize::MAX, liar);
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        // Some kills hit the start and `init`, the others commits and maintenance.
        if kill % 4 != 0 {
            while !said.contains("ack ") && stdout.read_line(&mut said).unwrap() > 0 {}
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        all.extend(acknowledged(&said));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_lose_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let seed = 20_260_102;
    println!("seed {seed}");
    let mut acknowledged = Vec::new();
    for round in 0..10 {
        acknowledged.extend(kill_repeatedly(dir.path(), 10, seed + round, false));
        if dir.path().join("oplog/_delta_log/00000000000000000000.json").exists()
            || !acknowledged.is_empty()
        {
            check(dir.path(), &acknowledged).await;
        }
    }
    assert!(acknowledged.len() > 100, "only {} commits came through", acknowledged.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_writer_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = kill_repeatedly(dir.path(), 20, 7, true);
    let dir = dir.path().to_owned();
    let checked = tokio::spawn(async move { check(&dir, &acknowledged).await });
    assert!(checked.await.is_err(), "the check cannot fail");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_commit_at_once() {
    let dir = tempfile::tempdir().unwrap();
    Pond::init(dir.path(), FAST).await.unwrap();
    let began = Instant::now();
    let mut children: Vec<Child> =
        (0..4).map(|writer| spawn(dir.path(), writer, 50, false)).collect();
    // One of them dies on the way.
    let mut victim = children.pop().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = lines.by_ref().map_while(Result::ok).take(20).collect();
    victim.kill().unwrap();
    victim.wait().unwrap();
    said.extend(lines.map_while(Result::ok));
    let mut acknowledged = acknowledged(&(said.join("\n") + "\n"));
    let mut won = BTreeMap::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        acknowledged.extend(super::crash::acknowledged(&String::from_utf8(output.stdout).unwrap()));
    }
    for (name, _) in acknowledged.iter().filter(|(name, _)| name.starts_with("/shared/")) {
        *won.entry(name).or_insert(0) += 1;
    }
    assert_eq!(won.len(), 5, "each contended path has a winner");
    assert!(won.values().all(|winners| *winners == 1), "and only one: {won:?}");
    check(dir.path(), &acknowledged).await;

    let pond = Pond::open(dir.path(), FAST).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    assert!(matches!(snapshot.locate(&path("/shared/9")).unwrap(), Located::Found(_)));
    println!("{} transactions in {:?}", snapshot.txn(), began.elapsed());
}
