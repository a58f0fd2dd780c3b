//! TPC-H over mounted Parquet (W5): pond's tables against the same engine on the files directly.
//!
//! ```text
//! benches/peers/tpch/generate.sh DIRECTORY
//! cargo bench --bench tpch -- DIRECTORY [rounds=N] [queries=1,6] [datafusion.…=VALUE]
//! ```
//!
//! Both sides run in this process, turn by turn, in sessions as a user of the engine gets them by
//! default; pond's opens each table anew for each statement, as its catalog does. A first round,
//! which is reported apart, warms both up and compares their answers; then medians count. CPU time
//! is less disturbed by other work on the machine than wall time is. Options that start with
//! `datafusion.` are set on pond's side only.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "tpch/common.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::{Options, TABLES, median, query, sorted};
use datafusion::catalog::{MemoryCatalogProvider, SchemaProvider, TableProvider};
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};
use pond::node::{Node, resolve};
use pond::path::PondPath;
use pond::pond::Pond;
use pond::tree::{CreateMode, NewNode, Tree};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The tables of a directory that is mounted in a pond, opened there when a statement names them.
#[derive(Debug)]
struct Mounted {
    tree: Tree,
    session: SessionState,
}

impl Mounted {
    async fn register(session: &SessionContext, directory: &Path) {
        let tree = Tree::new(Pond::transient().await.unwrap());
        let mount = NewNode {
            path: PondPath::parse("/tpch").unwrap(),
            factory: "hostmount".to_owned(),
            options: vec![("directory".to_owned(), directory.to_str().unwrap().into())],
            mode: CreateMode::New,
            comment: None,
        };
        tree.create_node(mount, None).await.unwrap();
        let schema = Arc::new(Self { tree, session: session.state() });
        let catalog = Arc::new(MemoryCatalogProvider::new());
        datafusion::catalog::CatalogProvider::register_schema(catalog.as_ref(), "public", schema)
            .unwrap();
        session.register_catalog("datafusion", catalog);
    }
}

#[async_trait]
impl SchemaProvider for Mounted {
    fn table_names(&self) -> Vec<String> {
        TABLES.map(str::to_owned).to_vec()
    }

    fn table_exist(&self, name: &str) -> bool {
        TABLES.contains(&name)
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        if !self.table_exist(name) {
            return Ok(None);
        }
        let root = self.tree.root(self.tree.snapshot().await?);
        let path = PondPath::parse(&format!("/tpch/{name}.parquet"))?;
        match resolve(&root, &path).await? {
            Node::File(file) => Ok(Some(file.table(&self.session).await?)),
            node => panic!("{path} is {node:?}"),
        }
    }
}

/// What one run took.
#[derive(Clone, Copy, Default)]
struct Cost {
    wall: Duration,
    cpu: Duration,
}

async fn run(session: &SessionContext, query: &str) -> (Cost, String) {
    let (wall, cpu) = (Instant::now(), cpu_time());
    let batches = session.sql(query).await.unwrap().collect().await.unwrap();
    let cost = Cost { wall: wall.elapsed(), cpu: cpu_time() - cpu };
    (cost, sorted(&batches))
}

/// CPU time of this process, in ticks of ten milliseconds.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let ticks = |field: usize| fields.split_whitespace().nth(field)?.parse::<u64>().ok();
    Duration::from_millis(10 * (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)))
}

#[tokio::main]
async fn main() {
    let Some(options) = Options::parse(7) else { return };
    let plain = SessionContext::new();
    options.register(&plain).await;
    let mut config = SessionConfig::new();
    for (key, value) in &options.settings {
        config = config.set_str(key, value);
    }
    let mounted = SessionContext::new_with_config(config);
    Mounted::register(&mounted, &options.directory).await;

    let mut first = [Cost::default(); 2];
    let mut costs = vec![[Vec::new(), Vec::new()]; options.queries.len()];
    for round in 0..=options.rounds {
        for (place, number) in options.queries.iter().enumerate() {
            let query = query(*number);
            let mut answers = [String::new(), String::new()];
            for turn in 0..2 {
                let side = (turn + round + place) % 2;
                let (cost, answer) = run([&plain, &mounted][side], &query).await;
                if round == 0 {
                    first[side].wall += cost.wall;
                    first[side].cpu += cost.cpu;
                } else {
                    costs[place][side].push(cost);
                }
                answers[side] = answer;
            }
            assert_eq!(answers[0], answers[1], "answers to query {number} differ");
        }
    }

    println!("query   plain ms    pond ms   ratio");
    let mut total = [0.0; 2];
    for (place, number) in options.queries.iter().enumerate() {
        let [a, b] = [0, 1].map(|side| {
            median(costs[place][side].iter().map(|cost| cost.wall.as_secs_f64() * 1e3))
        });
        println!("q{number:<5} {a:>9.1}  {b:>9.1}  {:>6.3}", b / a);
        total[0] += a;
        total[1] += b;
    }
    println!("total  {:>9.1}  {:>9.1}  {:>6.3}", total[0], total[1], total[1] / total[0]);
    let cpu = [0, 1].map(|side: usize| {
        let all = costs.iter().flat_map(|sides| &sides[side]);
        all.map(|cost| cost.cpu.as_secs_f64()).sum::<f64>() * 1e3 / options.rounds as f64
    });
    println!("cpu    {:>9.1}  {:>9.1}  {:>6.3}", cpu[0], cpu[1], cpu[1] / cpu[0]);
    let [a, b] = first.map(|cost| cost.wall.as_secs_f64() * 1e3);
    println!("first  {a:>9.1}  {b:>9.1}  {:>6.3}", b / a);
}
