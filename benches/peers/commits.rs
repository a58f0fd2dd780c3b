//! W3: what a commit and an opening cost, and that neither grows with history.
//!
//! `cargo bench --bench commits -- [--dir DIR] [--commits 10000]`
//!
//! One node a commit, `durability = process`, maintenance included: commits come in windows of 32,
//! between two checkpoints, and a window's mean is one sample. Compared are the first ten windows (from
//! commit 10) and the last ten. Openings are of the pond as it was after ten commits and after all of
//! them, each with the resolving of one path; medians of 101, in turn, in one process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pond::path::PondPath;
use pond::pond::{Pond, PondOptions};
use pond::snapshot::Located;
use pond::store::Durability;

const WINDOW: usize = 32;
const OPTIONS: PondOptions = PondOptions { durability: Durability::Process };

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut dir, mut commits) = (std::env::temp_dir().join("pond-bench-commits"), 10_000);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--dir" => dir = PathBuf::from(args.next().expect("--dir DIR")),
            "--commits" => commits = args.next().expect("--commits N").parse().expect("a number"),
            _ => {}
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(run(&dir, commits));
    std::fs::remove_dir_all(&dir).unwrap();
}

fn directory(number: usize) -> PondPath {
    PondPath::parse(&format!("/d{}/n{number}", number % 100)).unwrap()
}

async fn run(dir: &Path, commits: usize) {
    let (small, large) = (dir.join("small"), dir.join("large"));
    fill(&small, 10).await;
    let times = fill(&large, commits).await;
    let windows: Vec<f64> = times[10.min(times.len())..]
        .chunks_exact(WINDOW)
        .map(|window| millis(window.iter().sum::<Duration>()) / WINDOW as f64)
        .collect();
    let first = median(windows[..10.min(windows.len())].to_vec());
    let last = median(windows[windows.len().saturating_sub(10)..].to_vec());
    println!("W3a commit near 10:       {first:.3} ms (mean with maintenance, median of windows)");
    println!("W3a commit near {commits}:    {last:.3} ms");
    println!("W3a ratio:                {:.2}", last / first);
    let alone = |range: &[Duration]| median(range.iter().map(|time| millis(*time)).collect());
    println!(
        "    a commit alone:       {:.3} / {:.3} ms (median)",
        alone(&times[10..300]),
        alone(&times[times.len() - 300..])
    );

    let (mut small_times, mut large_times) = (Vec::new(), Vec::new());
    for _ in 0..101 {
        small_times.push(open(&small, 5).await);
        large_times.push(open(&large, commits / 2).await);
    }
    let (small, large) = (median(small_times), median(large_times));
    println!("W3c open, resolve at 10:  {small:.3} ms");
    println!("W3c at {commits}:             {large:.3} ms");
    println!("W3c ratio:                {:.2}", large / small);
}

async fn fill(dir: &Path, commits: usize) -> Vec<Duration> {
    std::fs::create_dir_all(dir).unwrap();
    let pond = Pond::init(dir, OPTIONS).await.unwrap();
    let mut times = Vec::with_capacity(commits);
    for number in 0..commits {
        let began = Instant::now();
        let mut transaction = pond.begin(Some(format!("commit {number}"))).await.unwrap();
        transaction.mkdir(&directory(number)).unwrap();
        pond.commit(transaction).await.unwrap();
        times.push(began.elapsed());
    }
    times
}

/// Milliseconds to open the pond and find one node in it.
async fn open(dir: &Path, number: usize) -> f64 {
    let began = Instant::now();
    let pond = Pond::open(dir, OPTIONS).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    assert!(matches!(snapshot.locate(&directory(number)).unwrap(), Located::Found(_)));
    millis(began.elapsed())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
