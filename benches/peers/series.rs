//! W6, W7b and W3s: a series of many versions, after ordinary appends, against the same rows in one
//! file; and filters on time buckets against the range written by hand.
//!
//! ```text
//! cargo bench --bench series -- [dir=DIR] [versions=1000] [rows=10000] [rounds=101]
//!     [python=PYTHON] [pond=POND] [duckdb=DUCKDB]
//! ```
//!
//! The rows are readings of ten stations (timestamp, station, temperature, humidity, status), one hour
//! a version. They are appended to a series as a user would, and written by the engine's own writer
//! with its defaults, but for row groups of a version each, as one merged file. Then queries run turn
//! by turn in one process: in pond's session, and in one of the same engine over the merged file;
//! medians count. With `python=` (which has the module `duckdb`), the same queries run over a native
//! table of DuckDB; with `pond=` and `duckdb=` (binaries), the hour is also asked for by processes of
//! their own. The directory is kept when it is named, and used again.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{
    Float64Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use pond::PondContext;
use pond::path::PondPath;
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Tree, WriteMode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OPTIONS: PondOptions = PondOptions { durability: Durability::Process };
const HOUR_MICROS: i64 = 3_600_000_000;
/// 2026-01-01.
const START_MICROS: i64 = 1_767_225_600_000_000;
/// Appends whose mean is one sample: as many as are merged at once.
const WINDOW: usize = 25;

struct Options {
    directory: Option<PathBuf>,
    versions: i64,
    rows: i64,
    rounds: usize,
    python: Option<String>,
    pond: Option<String>,
    duckdb: Option<String>,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self {
            directory: None,
            versions: 1000,
            rows: 10_000,
            rounds: 101,
            python: None,
            pond: None,
            duckdb: None,
        };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("dir", dir)) => options.directory = Some(dir.into()),
                Some(("versions", number)) => options.versions = number.parse().unwrap(),
                Some(("rows", number)) => options.rows = number.parse().unwrap(),
                Some(("rounds", number)) => options.rounds = number.parse().unwrap(),
                Some(("python", path)) => options.python = Some(path.to_owned()),
                Some(("pond", path)) => options.pond = Some(path.to_owned()),
                Some(("duckdb", path)) => options.duckdb = Some(path.to_owned()),
                _ => assert!(argument.starts_with("--"), "unknown option {argument}"),
            }
        }
        options
    }
}

fn main() {
    let options = Options::parse();
    let kept = options.directory.clone();
    let dir = kept.clone().unwrap_or_else(|| std::env::temp_dir().join("pond-bench-series"));
    if kept.is_none() {
        let _ = std::fs::remove_dir_all(&dir);
    }
    std::fs::create_dir_all(&dir).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(&dir, &options));
    if kept.is_none() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// The begin of an hour of the series, as SQL.
fn begin(hour: i64) -> String {
    let (day, hour) = (hour / 24, hour % 24);
    // Within the months of 2026.
    let (mut month, mut day) = (0, day);
    const DAYS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while day >= DAYS[month] {
        day -= DAYS[month];
        month += 1;
    }
    format!("TIMESTAMP '2026-{:02}-{:02} {hour:02}:00:00'", month + 1, day + 1)
}

/// What is asked: the figure, a name, and SQL over `{t}`, which all sides understand.
fn queries(versions: i64) -> Vec<(&'static str, &'static str, String)> {
    let (from, to) = (begin(versions * 3 / 5), begin(versions * 3 / 5 + 1));
    [
        ("W6a", "one hour", format!("SELECT round(avg(temperature), 6) AS a, count(*) AS n FROM {{t}} WHERE timestamp >= {from} AND timestamp < {to}")),
        ("W6b", "count(*)", "SELECT count(*) AS n FROM {t}".to_owned()),
        ("W6b", "min, max of time", "SELECT min(timestamp) AS a, max(timestamp) AS b FROM {t}".to_owned()),
        ("W6c", "last value", "SELECT * FROM {t} ORDER BY timestamp DESC LIMIT 1".to_owned()),
        ("W6c", "first 10", "SELECT * FROM {t} ORDER BY timestamp LIMIT 10".to_owned()),
        ("W6d", "daily aggregate", "SELECT date_trunc('day', timestamp) AS day, round(avg(temperature), 6) AS a, min(humidity) AS b, \
             max(humidity) AS c, count(*) AS n FROM {t} GROUP BY 1 ORDER BY 1".to_owned()),
    ]
    .into()
}

/// What is asked by a bucket of time, and the same by a range written by hand.
fn buckets(versions: i64) -> Vec<(&'static str, &'static str, String, String)> {
    const ROWS: &str = "SELECT round(avg(temperature), 6) AS a, count(*) AS n";
    const HOURS: &str = "SELECT date_trunc('hour', timestamp) AS hour, \
                         round(avg(temperature), 6) AS a, count(*) AS n";
    let hour = versions * 3 / 5;
    let range = |hours: i64| {
        format!("timestamp >= {} AND timestamp < {}", begin(hour), begin(hour + hours))
    };
    let [one_hour, six_hours] = [1, 6].map(range);
    let [from, to] = [hour, hour + 6].map(begin);
    [
        (
            "W6e",
            "an hour, by bucket",
            format!("{ROWS} FROM {{t}} WHERE date_trunc('hour', timestamp) = {from}"),
            format!("{ROWS} FROM {{t}} WHERE {one_hour}"),
        ),
        (
            "W7b",
            "hourly, one bucket",
            format!("SELECT * FROM ({HOURS} FROM {{t}} GROUP BY 1) WHERE hour = {from}"),
            format!("{HOURS} FROM {{t}} WHERE {one_hour} GROUP BY 1"),
        ),
        (
            "W7b",
            "hourly, six buckets",
            format!(
                "SELECT * FROM ({HOURS} FROM {{t}} GROUP BY 1) \
                 WHERE hour >= {from} AND hour < {to} ORDER BY 1"
            ),
            format!("{HOURS} FROM {{t}} WHERE {six_hours} GROUP BY 1 ORDER BY 1"),
        ),
    ]
    .into()
}

async fn run(dir: &Path, options: &Options) {
    let (pond_dir, merged) = (dir.join("pond"), dir.join("merged.parquet"));
    if !merged.exists() {
        append(&pond_dir, options).await;
        write_merged(&merged, options);
    }
    let tree = Tree::new(Pond::open(&pond_dir, OPTIONS).await.unwrap());
    let pond = PondContext::new(tree);
    let engine = SessionContext::new();
    let read = ParquetReadOptions::default();
    engine.register_parquet("merged", merged.to_str().unwrap(), read).await.unwrap();

    println!("{:24} {:>10} {:>10} {:>6}", "", "pond ms", "merged ms", "ratio");
    for (figure, name, query) in queries(options.versions) {
        let ours = query.replace("{t}", "'/readings.series'");
        let theirs = query.replace("{t}", "merged");
        let rounds = if figure == "W6d" { options.rounds.div_ceil(7) } else { options.rounds };
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..rounds + 2 {
            let (ours, pond_time) = timed(pond_query(&pond, &ours)).await;
            let (theirs, engine_time) = timed(engine_query(&engine, &theirs)).await;
            if round == 0 {
                assert_eq!(ours, theirs, "{query}");
            } else if round > 1 {
                times[0].push(pond_time);
                times[1].push(engine_time);
            }
        }
        let [ours, theirs] = times.map(median);
        println!("{figure} {name:20} {ours:10.3} {theirs:10.3} {:6.2}", ours / theirs);
    }
    println!("{:24} {:>10} {:>10} {:>6}", "", "bucket ms", "range ms", "ratio");
    for (figure, name, bucket, range) in buckets(options.versions) {
        let [bucket, range] =
            [bucket, range].map(|query| query.replace("{t}", "'/readings.series'"));
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..options.rounds + 2 {
            let (by_bucket, bucket_time) = timed(pond_query(&pond, &bucket)).await;
            let (by_range, range_time) = timed(pond_query(&pond, &range)).await;
            if round == 0 {
                assert_eq!(by_bucket, by_range, "{bucket}");
            } else if round > 1 {
                times[0].push(bucket_time);
                times[1].push(range_time);
            }
        }
        let [bucket, range] = times.map(median);
        println!("{figure} {name:20} {bucket:10.3} {range:10.3} {:6.2}", bucket / range);
    }
    if let Some(python) = &options.python {
        native(python, dir, &merged, options);
    }
    processes(dir, &pond_dir, &merged, options);
}

/// Appends all versions, one transaction each, and prints what they cost (W3s).
async fn append(pond_dir: &Path, options: &Options) {
    let _ = std::fs::remove_dir_all(pond_dir);
    std::fs::create_dir_all(pond_dir).unwrap();
    let tree = Tree::new(Pond::init(pond_dir, OPTIONS).await.unwrap());
    let path = PondPath::parse("/readings.series").unwrap();
    let mut times = Vec::new();
    for number in 0..options.versions {
        let batch = hour(number, options.rows);
        let began = Instant::now();
        let rows = futures::stream::iter([Ok(batch.clone())]);
        let rows = Box::pin(RecordBatchStreamAdapter::new(batch.schema(), rows));
        let mode = if number == 0 { WriteMode::Create } else { WriteMode::Append };
        let mut edit = tree.begin(None).await.unwrap();
        edit.write_table(&path, mode, None, None, rows).await.unwrap();
        edit.commit().await.unwrap();
        times.push(began.elapsed());
    }
    let windows: Vec<f64> = times[10.min(times.len())..]
        .chunks_exact(WINDOW)
        .map(|window| millis(window.iter().sum::<Duration>()) / WINDOW as f64)
        .collect();
    if windows.len() >= 8 {
        let first = median(windows[..4].to_vec());
        let last = median(windows[windows.len() - 4..].to_vec());
        println!(
            "W3s append near version 10:   {first:.2} ms (mean with merging, median of windows)"
        );
        println!("W3s append near version {}: {last:.2} ms", options.versions);
        println!("W3s ratio:                    {:.2}", last / first);
    }
}

fn write_merged(file: &Path, options: &Options) {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(options.rows as usize));
    let beside = file.with_extension("part");
    let out = std::fs::File::create(&beside).unwrap();
    let schema = hour(0, 1).schema();
    let mut writer = ArrowWriter::try_new(out, schema, Some(properties.build())).unwrap();
    for number in 0..options.versions {
        writer.write(&hour(number, options.rows)).unwrap();
    }
    writer.close().unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// The readings of one hour, in order, at times that are not quite regular.
fn hour(hour: i64, rows: i64) -> RecordBatch {
    let step = HOUR_MICROS / rows;
    let start = START_MICROS + hour * HOUR_MICROS;
    let noise = |row: i64, salt: u64| {
        let mut x = ((hour * rows + row) as u64).wrapping_add(salt << 48);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 1) as i64
    };
    let times =
        (0..rows).map(|row| start + row * step + noise(row, 1) % (step * 3 / 4) / 1000 * 1000);
    let stations = (0..rows).map(|row| format!("station-{:02}", noise(row, 2) % 10));
    let daily = (hour % 24 - 14) as f64;
    let temperatures = (0..rows)
        .map(|row| ((180.0 - daily * daily) + (noise(row, 3) % 200) as f64).round() / 10.0);
    let humidities = (0..rows).map(|row| (300 + noise(row, 4) % 600) as f64 / 10.0);
    let statuses =
        (0..rows).map(|row| i32::from(noise(row, 5) % 50 == 0) * (noise(row, 6) % 4) as i32);
    RecordBatch::try_from_iter([
        ("timestamp", Arc::new(TimestampMicrosecondArray::from_iter_values(times)) as _),
        ("station", Arc::new(StringArray::from_iter_values(stations)) as _),
        ("temperature", Arc::new(Float64Array::from_iter_values(temperatures)) as _),
        ("humidity", Arc::new(Float64Array::from_iter_values(humidities)) as _),
        ("status", Arc::new(Int32Array::from_iter_values(statuses)) as _),
    ])
    .unwrap()
}

async fn pond_query(pond: &PondContext, query: &str) -> String {
    let batches = pond.sql(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

async fn engine_query(engine: &SessionContext, query: &str) -> String {
    let batches = engine.sql(query).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// Runs the queries over a native table of DuckDB, in one process.
fn native(python: &str, dir: &Path, merged: &Path, options: &Options) {
    let database = dir.join("native.duckdb");
    let mut script = format!(
        "import duckdb, statistics, time\n\
         con = duckdb.connect('{}')\n\
         con.execute(\"CREATE TABLE IF NOT EXISTS readings AS FROM '{}'\")\n\
         print('DuckDB', duckdb.__version__, 'native table')\n",
        database.display(),
        merged.display(),
    );
    for (figure, name, query) in queries(options.versions) {
        let rounds = if figure == "W6d" { options.rounds.div_ceil(7) } else { options.rounds };
        script += &format!(
            "times = []\n\
             for round in range({rounds} + 2):\n\
             \x20   began = time.perf_counter()\n\
             \x20   con.execute(\"\"\"{}\"\"\").fetchall()\n\
             \x20   times.append(time.perf_counter() - began)\n\
             print('{figure} {name:20} %10.3f' % (1000 * statistics.median(times[2:])))\n",
            query.replace("{t}", "readings"),
        );
    }
    let status = Command::new(python).args(["-c", &script]).status().unwrap();
    assert!(status.success(), "{python} failed");
}

/// Asks for the hour in processes of their own (W6o).
fn processes(dir: &Path, pond_dir: &Path, merged: &Path, options: &Options) {
    let (_, _, query) = queries(options.versions).swap_remove(0);
    let mut sides: Vec<(String, Command)> = Vec::new();
    if let Some(pond) = &options.pond {
        let mut command = Command::new(pond);
        command
            .arg("--pond")
            .arg(pond_dir)
            .arg("sql")
            .arg(query.replace("{t}", "'/readings.series'"));
        sides.push(("pond".to_owned(), command));
    }
    if let Some(duckdb) = &options.duckdb {
        let mut command = Command::new(duckdb);
        let file = format!("'{}'", merged.display());
        command.arg("-c").arg(query.replace("{t}", &file));
        sides.push(("DuckDB, merged file".to_owned(), command));
        let database = dir.join("native.duckdb");
        if database.exists() {
            let mut command = Command::new(duckdb);
            command.arg("-readonly").arg(database).arg("-c").arg(query.replace("{t}", "readings"));
            sides.push(("DuckDB, native table".to_owned(), command));
        }
    }
    let mut times = vec![Vec::new(); sides.len()];
    for round in 0..options.rounds.min(31) + 2 {
        for ((name, command), times) in sides.iter_mut().zip(&mut times) {
            let began = Instant::now();
            let output = command.output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            if round > 1 {
                times.push(millis(began.elapsed()));
            }
        }
    }
    for ((name, _), times) in sides.iter().zip(times) {
        println!("W6o one hour, {name:21} {:10.2} ms", median(times));
    }
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
