//! W7: derived nodes over the series of the `series` benchmark, against the same query without them.
//!
//! ```text
//! cargo bench --bench series -- dir=DIR            # makes the series, once
//! cargo bench --bench derived -- dir=DIR [rounds=101] [python=PYTHON]
//! ```
//!
//! Both sides are asked turn by turn in one session, as a user's repeated query is; medians count.
//! `first` is the same in a session of its own, which has planned nothing yet. With `python=` (which
//! has the module `duckdb`), the answer that a node keeps is also queried by DuckDB, in one session
//! over the very Parquet file.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use datafusion::arrow::util::pretty::pretty_format_batches;
use pond::PondContext;
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::Tree;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OPTIONS: PondOptions = PondOptions { durability: Durability::Process };
/// An hour in the middle of the series.
const FROM: &str = "TIMESTAMP '2026-01-26 00:00:00'";
const TO: &str = "TIMESTAMP '2026-01-26 01:00:00'";
/// Levels of the diamond.
const DIAMOND: usize = 20;

fn main() {
    let (mut dir, mut rounds, mut python) = (None, 101, None);
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("dir", path)) => dir = Some(PathBuf::from(path)),
            Some(("rounds", number)) => rounds = number.parse().unwrap(),
            Some(("python", path)) => python = Some(path.to_owned()),
            _ => assert!(argument.starts_with("--"), "unknown option {argument}"),
        }
    }
    let dir = dir.expect("dir=DIR, which `cargo bench --bench series -- dir=DIR` has filled");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(&dir.join("pond"), rounds, python.as_deref()));
}

async fn run(dir: &Path, rounds: usize, python: Option<&str>) {
    let tree = Tree::new(Pond::open(dir, OPTIONS).await.unwrap());
    let pond = PondContext::new(tree.clone());
    make_nodes(&pond).await;
    println!("{:32} {:>9} {:>9} {:>6}", "", "node ms", "direct ms", "ratio");
    let columns = "round(avg(temperature), 6) AS a, count(*) AS n";
    let range = format!("timestamp >= {FROM} AND timestamp < {TO}");
    let direct = format!("SELECT {columns} FROM '/readings.series' WHERE {range} AND status >= 0");
    for depth in [1, 2, 4, 8] {
        let node = format!("SELECT {columns} FROM '/chain/{depth}.series' WHERE {range}");
        compare(&format!("W7 depth {depth}"), &tree, &pond, &node, &direct, rounds).await;
    }
    let bucket =
        "date_trunc('hour', timestamp) AS hour, round(avg(temperature), 6) AS a, count(*) AS n";
    let raw = format!("SELECT {bucket} FROM '/readings.series' WHERE {range} GROUP BY 1");
    let node = format!("SELECT hour, a, n FROM '/hourly.series' WHERE hour = {FROM}");
    compare("W7b hourly node, its bucket", &tree, &pond, &node, &raw, rounds).await;
    let node =
        format!("SELECT hour, a, n FROM '/hourly.series' WHERE hour >= {FROM} AND hour < {TO}");
    compare("W7b hourly node, a range", &tree, &pond, &node, &raw, rounds).await;

    let query = format!("EXPLAIN SELECT * FROM '/diamond/{DIAMOND}.table' WHERE k = 3");
    let mut times = Vec::new();
    for _ in 0..rounds.div_ceil(5) {
        let fresh = PondContext::new(tree.clone());
        ask(&fresh, "SELECT abs(1)").await;
        times.push(timed(ask(&fresh, &query)).await.1);
    }
    println!("planning a diamond of {DIAMOND} levels:   {:9.3} ms", median(times));

    for node in ["/kept.series", "/kept/hourly.series"] {
        kept(&pond, node, rounds, python).await;
    }
}

/// Makes what is asked, unless it is there.
async fn make_nodes(pond: &PondContext) {
    let mut statements = Vec::new();
    for depth in 1..=8 {
        let (source, filter) = match depth {
            1 => ("/readings.series".to_owned(), "status >= 0"),
            _ => (format!("/chain/{}.series", depth - 1), "humidity >= 0"),
        };
        statements.push(format!(
            "CREATE NODE IF NOT EXISTS '/chain/{depth}.series' FACTORY sql_derived_series FROM '{source}' \
             AS SELECT timestamp, station, temperature, humidity, status FROM source WHERE {filter}"
        ));
    }
    let hourly = "SELECT date_trunc('hour', timestamp) AS hour, round(avg(temperature), 6) AS a, \
                  count(*) AS n FROM source GROUP BY 1";
    statements.push(format!(
        "CREATE NODE IF NOT EXISTS '/hourly.series' FACTORY sql_derived_series \
         FROM '/readings.series' AS {hourly}"
    ));
    statements.push(
        "CREATE NODE IF NOT EXISTS '/kept.series' FACTORY sql_derived_series FROM '/readings.series' \
         REFRESH EVERY '1000 hours' AS SELECT timestamp, station, temperature, humidity FROM source \
         WHERE status = 0 AND temperature > 5"
            .to_owned(),
    );
    statements.push(
        "CREATE NODE IF NOT EXISTS '/kept/hourly.series' FACTORY sql_derived_series \
         FROM '/readings.series' REFRESH EVERY '1000 hours' AS SELECT date_trunc('hour', timestamp) AS \
         timestamp, station, avg(temperature) AS temperature, max(humidity) AS humidity FROM source \
         GROUP BY 1, 2"
            .to_owned(),
    );
    statements.push(
        "CREATE TABLE IF NOT EXISTS '/diamond/0.table' AS SELECT i AS k, i AS v FROM \
         (SELECT unnest(range(0, 1000)) AS i)"
            .to_owned(),
    );
    for level in 1..=DIAMOND {
        let below = level - 1;
        statements.push(format!(
            "CREATE VIEW IF NOT EXISTS '/diamond/{level}.table' AS SELECT a.k, a.v + b.v AS v \
             FROM '/diamond/{below}.table' a JOIN '/diamond/{below}.table' b USING (k)"
        ));
    }
    for statement in statements {
        ask(pond, &statement).await;
    }
}

/// Prints what a query of a node takes, and what the same without the node does.
async fn compare(
    name: &str,
    tree: &Tree,
    pond: &PondContext,
    node: &str,
    direct: &str,
    rounds: usize,
) {
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + 2 {
        let (ours, node_time) = timed(ask(pond, node)).await;
        let (theirs, direct_time) = timed(ask(pond, direct)).await;
        if round == 0 {
            assert_eq!(ours, theirs, "{node}");
        } else if round > 1 {
            times[0].push(node_time);
            times[1].push(direct_time);
        }
    }
    let [ours, theirs] = times.map(median);
    println!("{name:32} {ours:9.3} {theirs:9.3} {:6.2}", ours / theirs);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..rounds.div_ceil(5) {
        for (query, times) in [node, direct].into_iter().zip(&mut times) {
            let fresh = PondContext::new(tree.clone());
            ask(&fresh, "SELECT abs(1)").await;
            times.push(timed(ask(&fresh, query)).await.1);
        }
    }
    let [ours, theirs] = times.map(median);
    println!("{:32} {ours:9.3} {theirs:9.3} {:6.2}", format!("{name}, first"), ours / theirs);
}

/// Queries the answer that a node keeps, here and in DuckDB.
async fn kept(pond: &PondContext, node: &str, rounds: usize, python: Option<&str>) {
    let queries = [
        ("count", "SELECT count(*) AS n FROM {t}".to_owned()),
        ("one hour", format!("SELECT round(avg(temperature), 6) AS a, count(*) AS n FROM {{t}} WHERE timestamp >= {FROM} AND timestamp < {TO}")),
        ("by station", "SELECT station, round(avg(temperature), 6) AS a FROM {t} GROUP BY station ORDER BY station".to_owned()),
        ("daily", "SELECT date_trunc('day', timestamp) AS day, round(avg(temperature), 6) AS a, max(humidity) AS b FROM {t} GROUP BY 1 ORDER BY 1".to_owned()),
        ("top 10", "SELECT * FROM {t} ORDER BY temperature DESC, timestamp LIMIT 10".to_owned()),
    ];
    ask(pond, &format!("SELECT count(*) FROM '{node}'")).await;
    let plan = ask(pond, &format!("EXPLAIN SELECT * FROM '{node}'")).await;
    let from = plan.find("[[").unwrap() + 2;
    let file = format!("/{}", &plan[from..from + plan[from..].find([']', ',', ':']).unwrap()]);
    println!("{:32} {:>9}", format!("{node}, warm"), "pond ms");
    for (name, query) in &queries {
        let query = query.replace("{t}", &format!("'{node}'"));
        let mut times = Vec::new();
        for round in 0..rounds.div_ceil(3) + 2 {
            let (_, time) = timed(ask(pond, &query)).await;
            if round > 1 {
                times.push(time);
            }
        }
        println!("{name:32} {:9.3}", median(times));
    }
    let Some(python) = python else { return };
    let mut script = format!(
        "import duckdb, statistics, time\n\
         con = duckdb.connect()\n\
         con.execute(\"CREATE VIEW kept AS FROM read_parquet('{file}')\")\n\
         print('DuckDB', duckdb.__version__, 'on the same Parquet')\n"
    );
    for (name, query) in &queries {
        script += &format!(
            "times = []\n\
             for round in range({} + 2):\n\
             \x20   began = time.perf_counter()\n\
             \x20   con.execute(\"\"\"{}\"\"\").fetchall()\n\
             \x20   times.append(time.perf_counter() - began)\n\
             print('{name:32} %9.3f' % (1000 * statistics.median(times[2:])))\n",
            rounds.div_ceil(3),
            query.replace("{t}", "kept"),
        );
    }
    let status = Command::new(python).args(["-c", &script]).status().unwrap();
    assert!(status.success(), "{python} failed");
}

async fn ask(pond: &PondContext, query: &str) -> String {
    let batches = pond.sql(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn timed(query: impl Future<Output = String>) -> (String, f64) {
    let began = Instant::now();
    let rows = query.await;
    (rows, millis(began.elapsed()))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
