//! W2: listing a million files, against `find` and `fd`, in turn, in one run.
//!
//! `cargo bench --bench listing -- [--dir DIR] [--rounds 7] [--files 1000000]`
//!
//! Two trees are made in DIR (and left there for the next run): the files in a thousand directories,
//! and in one. One in ten is a `.csv`. Each contender runs once a round; reported are medians of wall
//! and processor time, and their ratio to the first contender of the group. pond runs twice: in this
//! process through the engine, and as the shell, which includes its start.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use datafusion::prelude::{SessionConfig, SessionContext};
use pond::factory::{Factory, hostmount::Hostmount};
use pond::node::Directory;
use pond::path::PondPath;
use pond::pond::{Pond, PondOptions};
use pond::table_fn::FixedRoot;
use pond::table_fn::ls::{LsArgs, LsTable};
use pond::tree::{CreateMode, NewNode, Tree};
use tokio::runtime::Runtime;

/// Directories of the nested tree.
const DIRECTORIES: usize = 1000;

/// One way to do a thing: returns a check value, for those that have one.
type Contender<'a> = (String, Box<dyn FnMut() -> Option<String> + 'a>);

fn main() {
    let mut args = std::env::args().skip(1);
    let mut dir = std::env::temp_dir().join("pond-bench-listing");
    let (mut rounds, mut files) = (7, 1_000_000);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok()).expect("a number");
        match arg.as_str() {
            "--rounds" => rounds = number(),
            "--files" => files = number(),
            "--dir" => dir = PathBuf::from(args.next().expect("--dir DIR")),
            _ => {}
        }
    }
    make_tree(&dir.join("nested"), DIRECTORIES, files);
    make_tree(&dir.join("flat"), 1, files);
    let bench = Bench::new(&dir);
    let nested = dir.join("nested").display().to_string();
    let all = "ls('/nested', recursive => true)";

    let metadata = format!("SELECT count(*), sum(size), max(mtime) FROM {all}");
    bench.compare(
        "W2a names, sizes, mtimes",
        rounds,
        vec![
            command("find -printf", &["find", &nested, "-printf", "%p %s %T@\n"]),
            bench.library("/nested", true, "SELECT count(*), sum(size), max(mtime) FROM ls"),
            bench.shell(&metadata),
            bench.library("/nested", true, "SELECT count(path), sum(size), max(mtime) FROM ls"),
        ],
    );
    bench.compare(
        "W2b names",
        rounds,
        vec![
            command("find", &["find", &nested]),
            bench.library("/nested", true, "SELECT count(*) FROM ls"),
            bench.shell(&format!("SELECT count(*) FROM {all}")),
            bench.library("/nested", true, "SELECT sum(length(path)) FROM ls"),
        ],
    );
    let fd = ["fd", "fdfind"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").stdout(Stdio::null()).status().is_ok());
    let csv = "SELECT count(*), sum(size), max(mtime) FROM ls";
    let mut contenders: Vec<Contender> = Vec::new();
    if let Some(fd) = fd {
        contenders.push(command("fd", &[fd, "--unrestricted", "--glob", "*.csv", &nested]));
    }
    contenders.extend([
        bench.library("/nested/**/*.csv", false, csv),
        bench.shell("SELECT count(*), sum(size), max(mtime) FROM ls('/nested/**/*.csv')"),
        bench.library("/nested", true, &format!("{csv} WHERE name LIKE '%.csv'")),
        command("find -name -printf", &["find", &nested, "-name", "*.csv", "-printf", "%s %T@\n"]),
    ]);
    bench.compare("W2d **/*.csv with size and mtime", rounds, contenders);
    let limit = "WHERE name LIKE '%.csv' LIMIT 10";
    bench.compare(
        "W2c LIKE '%.csv' LIMIT 10",
        3 * rounds,
        vec![
            bench.shell("SELECT 1"),
            bench.shell(&format!("SELECT path, size, mtime FROM {all} {limit}")),
            bench.shell(&format!("SELECT path, size, mtime FROM ls('/flat') {limit}")),
            bench.library("/nested", true, &format!("SELECT path, size, mtime FROM ls {limit}")),
            bench.library("/flat", false, &format!("SELECT path, size, mtime FROM ls {limit}")),
        ],
    );
    let flat = dir.join("flat").display().to_string();
    bench.compare(
        "    one directory: sizes, then names",
        rounds,
        vec![
            command("find -printf", &["find", &flat, "-printf", "%p %s %T@\n"]),
            bench.library("/flat", false, "SELECT count(*), sum(size), max(mtime) FROM ls"),
            command("find", &["find", &flat]),
            bench.library("/flat", false, "SELECT count(*) FROM ls"),
        ],
    );
}

struct Bench {
    runtime: Runtime,
    root: Arc<dyn Directory>,
    pond: PathBuf,
}

impl Bench {
    /// Makes a pond with both trees mounted.
    fn new(dir: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let pond = dir.join("pond");
        let root = runtime.block_on(async {
            let _ = std::fs::remove_dir_all(&pond);
            let tree = Tree::new(Pond::init(&pond, PondOptions::default()).await.expect("a pond"));
            for name in ["nested", "flat"] {
                let directory = dir.join(name).to_str().expect("a UTF-8 path").into();
                let new = NewNode {
                    path: PondPath::parse(&format!("/{name}")).expect("a path"),
                    factory: Hostmount.name().to_owned(),
                    options: vec![("directory".to_owned(), directory)],
                    mode: CreateMode::New,
                    comment: None,
                };
                tree.create_node(new, None).await.expect("a mount");
            }
            tree.root(tree.snapshot().await.expect("a snapshot"))
        });
        Self { runtime, root, pond }
    }

    /// The engine in this process, over the table of one call of `ls()`.
    fn library(&self, path: &str, recursive: bool, query: &str) -> Contender<'_> {
        let args = LsArgs { path: path.to_owned(), recursive, hidden: false };
        let query = query.to_owned();
        let name = format!("library: {path}: {query}");
        let run = move || {
            let table = LsTable::try_new(Arc::new(FixedRoot(self.root.clone())), args.clone());
            let context = SessionContext::new_with_config(SessionConfig::new());
            context.register_table("ls", Arc::new(table.expect("a table"))).expect("a name");
            let collect = async { context.sql(&query).await?.collect().await };
            let batches = self.runtime.block_on(collect).expect("rows");
            let rows: usize = batches.iter().map(|batch| batch.num_rows()).sum();
            let only = batches.first().filter(|_| rows == 1).map(|batch| batch.column(0));
            only.map(|column| {
                datafusion::arrow::util::display::array_value_to_string(column, 0).expect("text")
            })
        };
        (name, Box::new(run))
    }

    /// The shell, from its start to its end.
    fn shell(&self, query: &str) -> Contender<'_> {
        let pond = self.pond.to_str().expect("a UTF-8 path");
        let words = [env!("CARGO_BIN_EXE_pond"), "--pond", pond, "sql", query];
        command(&format!("shell: {query}"), &words)
    }

    fn compare(&self, title: &str, rounds: usize, mut contenders: Vec<Contender>) {
        println!("{title}");
        let mut times: Vec<Vec<(f64, f64)>> = vec![Vec::new(); contenders.len()];
        let mut checks = vec![None; contenders.len()];
        for _ in 0..rounds {
            for (at, (_, run)) in contenders.iter_mut().enumerate() {
                let (start, cpu) = (Instant::now(), cpu_secs());
                checks[at] = run();
                times[at].push((start.elapsed().as_secs_f64(), cpu_secs() - cpu));
            }
        }
        let median = |times: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
            let mut values: Vec<f64> = times.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let first = median(&times[0], |(wall, _)| *wall);
        for (at, (name, _)) in contenders.iter().enumerate() {
            let wall = median(&times[at], |(wall, _)| *wall);
            let cpu = median(&times[at], |(_, cpu)| *cpu);
            let check = checks[at].as_deref().unwrap_or_default();
            println!(
                "  {:8.1} ms  cpu {:8.1} ms  {:5.2}x  {check:>8}  {name}",
                wall * 1e3,
                cpu * 1e3,
                wall / first
            );
        }
    }
}

/// A program, with its output thrown away.
fn command(name: &str, words: &[&str]) -> Contender<'static> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let run = move || {
        let status = Command::new(&words[0])
            .args(&words[1..])
            .stdout(Stdio::null())
            .status()
            .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
        assert!(status.success(), "{words:?}: {status}");
        None
    };
    (name.to_owned(), Box::new(run))
}

/// Returns the processor time of this process and of its children that have ended, in steps of 10 ms.
fn cpu_secs() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let after_name = stat.rsplit_once(") ").expect("the name is in brackets").1;
    let fields: Vec<f64> =
        after_name.split(' ').map(|field| field.parse().unwrap_or_default()).collect();
    // utime, stime, cutime, cstime, in ticks of 1/100 s.
    fields[11..15].iter().sum::<f64>() / 100.0
}

fn make_tree(root: &Path, directories: usize, files: usize) {
    let done = root.with_extension("made");
    let made = format!("{directories} {files}");
    if std::fs::read_to_string(&done).is_ok_and(|text| text == made) {
        return;
    }
    let _ = std::fs::remove_dir_all(root);
    for directory in 0..directories {
        let path = match directories {
            1 => root.to_owned(),
            _ => root.join(format!("dir_{directory:04}")),
        };
        std::fs::create_dir_all(&path).expect("a directory");
        for file in directory * files / directories..(directory + 1) * files / directories {
            let ending = if file % 10 == 0 { "csv" } else { "dat" };
            let path = path.join(format!("measurement_{file:07}.{ending}"));
            let content = if file % 100 == 0 { vec![b'x'; file % 977] } else { Vec::new() };
            std::fs::write(path, content).expect("a file");
        }
    }
    std::fs::write(done, made).expect("a file");
}
