//! TPC-H on a Ballista cluster: pond's tables against Ballista's own client and listing tables over the
//! same Parquet.
//!
//! ```text
//! benches/peers/tpch/generate.sh DIRECTORY
//! cargo bench --features ballista --bench cluster -- DIRECTORY [rounds=N] [queries=1,6]
//!     [executors=2] [pond.datafusion.…=VALUE]
//! ```
//!
//! A scheduler and the executors run as processes of their own, on loopback; each executor has its share
//! of the processors. The tables are put into a pond, which keeps Parquet byte for byte. Then both
//! sides run turn by turn, each as a user of it gets it by default; a first round, which is reported
//! apart, warms both up and compares their answers, then medians count. Settings that start with `pond.`
//! are made on pond's side only.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../../tests/it/ballista.rs"]
#[allow(dead_code)]
mod ballista;
#[path = "tpch/common.rs"]
mod common;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ballista_core::extension::SessionStateExt;
use common::{Options, TABLES, median, query, sorted};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionState;
use datafusion::prelude::SessionContext;
use pond::PondContext;
use pond::cluster::Cluster;
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::Tree;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OPTIONS: PondOptions = PondOptions { durability: Durability::Process };

/// Puts the tables into a pond, as a user would.
fn load(pond: &Path, options: &Options) {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pond"));
        command.env("POND_DURABILITY", "process").args(["--pond", pond.to_str().unwrap(), "-q"]);
        assert!(command.args(arguments).status().unwrap().success(), "pond {arguments:?}");
    };
    run(&["init"]);
    run(&["mkdir", "/tpch"]);
    for table in TABLES {
        let file = options.file(table);
        // Put as a table, which is known by its name; the queries say it without an ending.
        run(&["put", "--type", "table", file.to_str().unwrap(), &format!("/tpch/{table}")]);
    }
}

fn main() {
    if std::env::var_os("POND_TEST_ROLE").is_some() {
        return ballista::child();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(8 << 20)
        .build()
        .unwrap();
    if let Some(options) = Options::parse(5) {
        runtime.block_on(compare(options));
    }
}

async fn compare(options: Options) {
    let mut executors = 2;
    let mut settings = Vec::new();
    for (key, value) in &options.settings {
        match (key.as_str(), key.strip_prefix("pond.")) {
            ("executors", _) => executors = value.parse().unwrap(),
            (_, Some(key)) => settings.push((key, value)),
            _ => panic!("{key}?"),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let pond = dir.path().join("pond");
    load(&pond, &options);
    let running = ballista::Running::start(executors, &[]);

    let state = SessionState::new_ballista_state(format!("http://{}", running.address())).unwrap();
    let plain = SessionContext::new_with_state(state);
    options.register(&plain).await;
    let cluster = Cluster::parse(&format!("df://{}", running.address())).unwrap();
    let tree = Tree::new(Pond::open(&pond, OPTIONS).await.unwrap());
    let context = PondContext::builder(tree).with_cluster(cluster).build();
    context.sql("USE '/tpch'").await.unwrap();
    for (key, value) in settings {
        context.sql(&format!("SET {key} = '{value}'")).await.unwrap();
    }

    for number in &options.queries {
        let place = context.sql(&format!("EXPLAIN {}", query(*number))).await.unwrap();
        let place = pretty_format_batches(&place.collect().await.unwrap()).unwrap().to_string();
        assert!(place.contains("| cluster "), "query {number} runs here: {place}");
    }
    let mut first = [Duration::ZERO; 2];
    let mut times = vec![[Vec::new(), Vec::new()]; options.queries.len()];
    for round in 0..=options.rounds {
        for (place, number) in options.queries.iter().enumerate() {
            let query = query(*number);
            let mut answers = [String::new(), String::new()];
            for turn in 0..2 {
                let side = (turn + round + place) % 2;
                let begun = Instant::now();
                let batches = match side {
                    0 => plain.sql(&query).await.unwrap().collect().await.unwrap(),
                    _ => context.sql(&query).await.unwrap().collect().await.unwrap(),
                };
                let took = begun.elapsed();
                match round {
                    0 => first[side] += took,
                    _ => times[place][side].push(took),
                }
                answers[side] = sorted(&batches);
            }
            assert_eq!(answers[0], answers[1], "answers to query {number} differ");
        }
    }

    println!("query  ballista ms    pond ms   ratio");
    let mut total = [0.0; 2];
    for (place, number) in options.queries.iter().enumerate().filter(|_| options.rounds > 0) {
        let [a, b] = [0, 1]
            .map(|side| median(times[place][side].iter().map(|time| time.as_secs_f64() * 1e3)));
        println!("q{number:<5} {a:>11.1}  {b:>9.1}  {:>6.3}", b / a);
        total[0] += a;
        total[1] += b;
    }
    println!("total  {:>11.1}  {:>9.1}  {:>6.3}", total[0], total[1], total[1] / total[0]);
    let [a, b] = first.map(|time| time.as_secs_f64() * 1e3);
    println!("first  {a:>11.1}  {b:>9.1}  {:>6.3}", b / a);
}
