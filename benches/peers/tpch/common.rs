//! What the benchmarks over TPC-H share: its tables, its queries, and what they are told to do.

use std::path::{Path, PathBuf};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{ParquetReadOptions, SessionContext};

pub const TABLES: [&str; 8] =
    ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// `DIRECTORY [rounds=N] [queries=1,6] [KEY=VALUE]…`
pub struct Options {
    pub directory: PathBuf,
    pub rounds: usize,
    pub queries: Vec<usize>,
    /// What else was said.
    pub settings: Vec<(String, String)>,
}

impl Options {
    /// Reads the arguments; `None` if there are no tables, which is said.
    pub fn parse(rounds: usize) -> Option<Self> {
        let mut options = Self {
            directory: std::env::var_os("POND_TPCH").unwrap_or_default().into(),
            rounds,
            queries: (1..=22).collect(),
            settings: Vec::new(),
        };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("rounds", rounds)) => options.rounds = rounds.parse().unwrap(),
                Some(("queries", queries)) => {
                    options.queries =
                        queries.split(',').map(|query| query.parse().unwrap()).collect();
                }
                Some((key, value)) => options.settings.push((key.to_owned(), value.to_owned())),
                None if argument.starts_with("--") => {}
                None => options.directory = argument.into(),
            }
        }
        options.directory = options.directory.canonicalize().unwrap_or_default();
        if TABLES.iter().any(|table| !options.file(table).exists()) {
            println!("skipped: no tables; benches/peers/tpch/generate.sh DIRECTORY makes them");
            return None;
        }
        Some(options)
    }

    pub fn file(&self, table: &str) -> PathBuf {
        self.directory.join(format!("{table}.parquet"))
    }

    /// Makes the files tables of a session of the engine's.
    pub async fn register(&self, session: &SessionContext) {
        for table in TABLES {
            let file = self.file(table);
            let file = file.to_str().unwrap();
            session.register_parquet(table, file, ParquetReadOptions::default()).await.unwrap();
        }
    }
}

pub fn query(number: usize) -> String {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tpch");
    std::fs::read_to_string(queries.join(format!("q{number:02}.sql"))).unwrap()
}

/// Returns rows as text, sorted: those that compare as equal come in any order.
pub fn sorted(batches: &[RecordBatch]) -> String {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

pub fn median(times: impl IntoIterator<Item = f64>) -> f64 {
    let mut times: Vec<f64> = times.into_iter().collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
