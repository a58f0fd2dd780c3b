//! R5 of the promises: processes that commit at once all get what they were told, whatever else goes on.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::Child;

use pond::pond::Pond;

use crate::crash::{Work, acknowledged, spawn, verify};
use crate::oplog::{FAST, exists};

/// Eight processes, one of which is killed on the way; others maintain and collect garbage meanwhile.
async fn at_once(writers: usize, commits: usize) {
    let dir = tempfile::tempdir().unwrap();
    Pond::init(dir.path(), FAST).await.unwrap();
    let works = [Work::Commits, Work::Contents, Work::Synced, Work::Contents];
    let start = |writer| spawn(dir.path(), writer, works[writer % works.len()], commits);
    let mut children: Vec<Child> = (0..writers).map(start).collect();
    let mut keeper = spawn(dir.path(), 99, Work::Upkeep, usize::MAX);
    let mut victim = children.pop().unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines();
    let mut said: Vec<String> = lines.by_ref().map_while(Result::ok).take(20).collect();
    victim.kill().unwrap();
    victim.wait().unwrap();
    said.extend(lines.map_while(Result::ok));
    let mut all = acknowledged(&(said.join("\n") + "\n"));
    for child in children {
        let output = child.wait_with_output().unwrap();
        let panic = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "a writer failed: {panic}");
        all.extend(acknowledged(&String::from_utf8(output.stdout).unwrap()));
    }
    assert!(keeper.try_wait().unwrap().is_none(), "upkeep failed");
    keeper.kill().unwrap();
    keeper.wait().unwrap();
    let mut won = BTreeMap::new();
    for (name, _) in all.iter().filter(|(name, _)| name.starts_with("/shared/")) {
        *won.entry(name).or_insert(0) += 1;
    }
    assert_eq!(won.len(), commits / 10, "each contended path has a winner");
    assert!(won.values().all(|winners| *winners == 1), "and only one: {won:?}");
    assert!(all.len() > (writers - 1) * (commits - commits / 10), "{} commits", all.len());
    verify(dir.path(), &all).await;
    let snapshot = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
    assert!(exists(&snapshot, "/shared/9/b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_commit_at_once() {
    at_once(8, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_processes() {
    for _ in 0..20 {
        at_once(8, 500).await;
    }
}
