//! S14 of the promises, and R1 where it is about the cache: what is kept of CSV files is never served
//! when it is not what the text says, whatever happens to the text, to the options and to the cache;
//! and it is used whenever it can be.
//!
//! To see the harness fail, leave the time of the last change out of the identity of a host file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use datafusion::arrow::util::pretty::pretty_format_batches;
use pond::PondContext;
use pond::cache::Told;
use pond::pond::Pond;
use pond::tree::Tree;
use tempfile::TempDir;

use crate::cli::{run, shell, stdout};
use crate::full::SmallDisk;
use crate::oplog::FAST;
use crate::world::{Random, init, open};

/// A directory of the host, mounted as `/host`; a pond that converts, in two contexts that know nothing
/// of each other, and one in memory that cannot.
struct World {
    host: TempDir,
    home: PathBuf,
    _dir: TempDir,
    ponds: [PondContext; 2],
    oracle: PondContext,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("pond");
        Self::at(home, dir).await
    }

    async fn at(home: PathBuf, dir: TempDir) -> Self {
        let host = tempfile::tempdir().unwrap();
        let one = PondContext::new(init(&home).await);
        let two = PondContext::new(open(&home).await);
        let oracle = PondContext::new(Tree::new(Pond::transient().await.unwrap()));
        let world = Self { host, home, _dir: dir, ponds: [one, two], oracle };
        let host = world.host.path().display();
        world
            .define(&format!("CREATE NODE '/host' FACTORY hostmount WITH (directory = '{host}')"))
            .await;
        world
    }

    /// Runs a statement in the pond that converts, and in the one that does not.
    async fn define(&self, statement: &str) {
        for pond in [&self.ponds[0], &self.oracle] {
            ask(pond, statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.host.path().join(name)
    }

    fn csv(&self) -> PathBuf {
        self.home.join("cache/csv")
    }

    /// The Parquet files of the cache, by name.
    fn kept(&self) -> Vec<String> {
        names(&self.csv().join("files"))
    }

    /// Asks in all ways, at once in those that convert; returns what all say.
    async fn ask(&self, query: &str) -> Result<String, String> {
        let [one, two] = &self.ponds;
        let (one, two) = tokio::join!(ask(one, query), ask(two, query));
        let expected = ask(&self.oracle, query).await;
        assert_eq!(one, expected, "{query}");
        assert_eq!(two, expected, "{query}, in the other context");
        expected
    }

    /// Returns column by column what `cache()` says, ordered by source.
    async fn cached(&self, columns: &str) -> String {
        ask(&self.ponds[0], &format!("SELECT {columns} FROM cache() ORDER BY source"))
            .await
            .unwrap()
    }

    /// Returns the names of the files that are converted from now on.
    fn watch(&self) -> Arc<Mutex<Vec<String>>> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        for pond in &self.ponds {
            let seen = seen.clone();
            pond.tree().cache().observe(Some(Arc::new(move |told| match told {
                Told::Converting { path, read: None, .. } => {
                    seen.lock().unwrap().push(path.to_string());
                }
                Told::Converting { .. } => {}
                Told::Notice(notice) => seen.lock().unwrap().push(notice.to_owned()),
            })));
        }
        seen
    }
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(listing) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        listing.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn ask(pond: &PondContext, query: &str) -> Result<String, String> {
    let output = pond.sql(query).await.map_err(|error| error.to_string())?;
    let batches = output.collect().await.map_err(|error| error.to_string())?;
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let rows = table.lines().filter(|line| line.starts_with('|')).skip(1);
    let mut rows: Vec<&str> = rows.map(|line| line.trim_matches(['|', ' '])).collect();
    rows.sort_unstable();
    let rows: Vec<String> =
        rows.iter().map(|row| row.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    Ok(rows.join("\n"))
}

/// Rows that another delimiter cuts otherwise.
fn some_rows(random: &mut Random, rows: u64) -> String {
    (0..rows)
        .map(|_| {
            format!(
                "{:03},{:03};{:03}\n",
                random.below(1000),
                random.below(1000),
                random.below(1000)
            )
        })
        .collect()
}

const OPTIONS: [&str; 6] = [
    "delimiter = ',', on_error = 'fail'",
    "delimiter = ';', on_error = 'fail'",
    "delimiter = ',', on_error = 'skip'",
    "delimiter = ',', on_error = 'null'",
    "delimiter = ',', on_error = 'fail', null_values = '017'",
    "delimiter = ',', on_error = 'fail', target_schema = 'a TEXT'",
];

/// What is done to the text, or to the cache. Returns what it was.
fn disturb(world: &World, random: &mut Random) -> &'static str {
    let text = world.file("x.csv");
    let before = std::fs::metadata(&text).ok();
    let content = std::fs::read(&text).unwrap_or_default();
    let rows = if random.below(12) == 0 { 40_000 } else { 1 + random.below(30) };
    let fresh = |random: &mut Random| format!("a,b;c\n{}", some_rows(random, rows));
    let set_time =
        |at: SystemTime| File::options().write(true).open(&text).unwrap().set_modified(at).unwrap();
    let Some(before) = before.filter(|before| before.len() > 6) else {
        std::fs::write(&text, fresh(random)).unwrap();
        return "made";
    };
    // Of the same size.
    let other =
        format!("a,b;c\n{}", some_rows(random, (content.len() as u64 - 6) / 12)).into_bytes();
    let in_place = |bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        File::options().write(true).open(&text).unwrap().write_all_at(bytes, 0).unwrap();
    };
    match random.below(15) {
        0 => {
            in_place(&other);
            "rewritten in place"
        }
        1 | 2 => {
            in_place(&other);
            set_time(before.modified().unwrap());
            "rewritten in place, with the time it had"
        }
        3 => {
            in_place(&other);
            set_time(SystemTime::now() - Duration::from_secs(random.below(100_000)));
            "rewritten, and made old"
        }
        4 | 5 => {
            let away = world.file("away");
            std::fs::write(&away, &other).unwrap();
            File::options()
                .write(true)
                .open(&away)
                .unwrap()
                .set_modified(before.modified().unwrap())
                .unwrap();
            std::fs::rename(away, &text).unwrap();
            "replaced by one of the same size and time"
        }
        6 | 7 => {
            let mut file = File::options().append(true).open(&text).unwrap();
            file.write_all(some_rows(random, rows).as_bytes()).unwrap();
            "grown"
        }
        8 => {
            let mut file = File::options().append(true).open(&text).unwrap();
            let rows = some_rows(random, 3);
            file.write_all(&rows.as_bytes()[..rows.len() - random.below(12) as usize]).unwrap();
            "grown by a part of a line"
        }
        9 => {
            let length = random.below(content.len() as u64 + 1);
            File::options().write(true).open(&text).unwrap().set_len(length).unwrap();
            "cut off"
        }
        10 => {
            std::fs::remove_file(&text).unwrap();
            "deleted"
        }
        11 => {
            std::fs::write(&text, fresh(random)).unwrap();
            "made anew"
        }
        12 => {
            set_time(SystemTime::now());
            "touched"
        }
        13 => {
            in_place(&other);
            let mut file = File::options().append(true).open(&text).unwrap();
            file.write_all(some_rows(random, rows).as_bytes()).unwrap();
            "changed and grown"
        }
        _ => {
            let dir = [world.csv(), world.csv().join("files"), world.home.join("cache")];
            let _ = std::fs::remove_dir_all(&dir[random.below(3) as usize]);
            "the cache removed"
        }
    }
}

/// Damages a file of the cache, whose times are older than their steps.
fn damage(world: &World, random: &mut Random) -> Option<String> {
    let dir = if random.below(3) == 0 { world.csv() } else { world.csv().join("files") };
    let mut found = names(&dir);
    found.retain(|name| dir.join(name).is_file());
    let name = found.get(random.below(found.len().max(1) as u64) as usize)?;
    let path = dir.join(name);
    std::thread::sleep(Duration::from_millis(20));
    let mut bytes = std::fs::read(&path).unwrap();
    let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
    if bytes.is_empty() {
        return None;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(4) {
        0 => bytes.truncate(at),
        1 => bytes[at] ^= 1 << random.below(8),
        2 => bytes[at..].fill(0),
        _ => {
            // Another of the same kind.
            let other = &found[random.below(found.len() as u64) as usize];
            bytes = std::fs::read(dir.join(other)).unwrap();
        }
    }
    std::fs::write(&path, bytes).unwrap();
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    Some(format!("{name} damaged"))
}

async fn random_steps(seed: u64, steps: usize) {
    let world = World::new().await;
    let mut random = Random(seed);
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first', delimiter = ',')")
        .await;
    let mut done = Vec::new();
    let seen = world.watch();
    let mut answers = 0;
    for step in 0..steps {
        for _ in 0..=random.below(2) {
            let what = match random.below(6) {
                0 => {
                    let convert = ["first", "later", "auto"][random.below(3) as usize];
                    let options = OPTIONS[random.below(6) as usize];
                    let options = format!("{options}, convert = '{convert}'");
                    world.define("ALTER NODE '/t' RESET (null_values, target_schema)").await;
                    world.define(&format!("ALTER NODE '/t' SET ({options})")).await;
                    options
                }
                1 => damage(&world, &mut random).unwrap_or_default(),
                _ => disturb(&world, &mut random).to_owned(),
            };
            done.push(what);
        }
        let last = &done[done.len().saturating_sub(6)..];
        println!("seed {seed}, step {step}: {last:?}");
        answers += usize::from(world.ask("SELECT * FROM '/t/x.table'").await.is_ok());
        if random.below(2) == 0 {
            for pond in &world.ponds {
                pond.tree().cache().idle().await;
            }
            let _ = world.ask("SELECT * FROM '/t/x.table'").await;
        }
        if random.below(40) == 0 {
            world.ponds[0].tree().cache().sweep_conversions().unwrap();
        }
    }
    let seen = seen.lock().unwrap().len();
    println!("{answers} answers, {seen} conversions");
    assert!(answers > steps / 3 && seen > steps / 4, "{answers} answers, {seen} conversions");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_the_rows_are_those_of_the_text() {
    random_steps(20_260_211, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the long form: run with --ignored soak"]
async fn soak_random_steps() {
    random_steps(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs(), 5_000).await;
}

/// Of a hundred files, the one that was touched is converted again.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_touched_is_converted_again() {
    let world = World::new().await;
    for number in 0..100 {
        std::fs::write(world.file(&format!("{number}.csv")), format!("x\n{number}\n")).unwrap();
    }
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first')")
        .await;
    let seen = world.watch();
    let sum = "SELECT sum(x), count(*) FROM '/t/*.table'";
    assert_eq!(world.ask(sum).await.unwrap(), "4950 | 100");
    assert_eq!(std::mem::take(&mut *seen.lock().unwrap()).len(), 100);
    let before = world.cached("source, built, key").await;
    assert_eq!(before.lines().count(), 100);

    let touched = File::options().write(true).open(world.file("42.csv")).unwrap();
    touched.set_modified(SystemTime::now() - Duration::from_secs(3)).unwrap();
    assert_eq!(world.ask(sum).await.unwrap(), "4950 | 100");
    assert_eq!(std::mem::take(&mut *seen.lock().unwrap()), ["/host/42.csv"]);
    let after = world.cached("source, built, key").await;
    let other: Vec<(&str, &str)> =
        before.lines().zip(after.lines()).filter(|(before, after)| before != after).collect();
    assert_eq!(other.len(), 1);
    assert!(other[0].0.starts_with("/host/42.csv"), "{other:?}");
    // Nor is any converted for being asked in other words.
    world.ask("SELECT max(x) FROM '/t/*.table' WHERE x < 50").await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 0);
}

/// Makes the pond `pond` in a directory, which shows its `host`, and the CSV files of that as `/t`.
fn make_pond(at: &Path) {
    for arguments in [
        vec!["init", "pond"],
        vec![
            "sql",
            "--pond",
            "pond",
            "CREATE NODE '/host' FACTORY hostmount WITH (directory = 'host')",
        ],
        vec![
            "sql",
            "--pond",
            "pond",
            "CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first')",
        ],
    ] {
        let output = run(at, &arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

/// The second access, in a process of its own, opens the text, and reads no byte of it.
#[test]
fn the_second_access_reads_no_byte_of_csv() {
    if Command::new("strace").arg("--version").output().is_err() {
        println!("skipped: there is no strace");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().canonicalize().unwrap();
    std::fs::create_dir(at.join("host")).unwrap();
    let rows: String = (0..1000).map(|n| format!("{n},x\n")).collect();
    std::fs::write(at.join("host/watched.csv"), format!("n,s\n{rows}")).unwrap();
    make_pond(&at);
    let reads = || {
        let trace = at.join("trace");
        let traced = shell(&at);
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-y",
            "-e",
            "trace=read,readv,pread64,preadv,preadv2,mmap,sendfile,copy_file_range",
            "-o",
        ]);
        command.arg(&trace).arg(traced.get_program());
        command.args(["sql", "--pond", "pond", "SELECT sum(n), max(s) FROM '/t/watched.table'"]);
        command.current_dir(&at).stdin(Stdio::null());
        for (name, value) in traced.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.output().unwrap();
        assert!(output.status.success() && stdout(&output).contains("499500"), "{output:?}");
        let trace = std::fs::read_to_string(trace).unwrap();
        trace.lines().filter(|line| line.contains("watched.csv>")).count()
    };
    assert!(reads() > 0, "the trace shows no reads");
    assert_eq!(reads(), 0);
    assert_eq!(reads(), 0);
}

/// Of two processes that want a text first, one converts it.
#[test]
fn two_processes_convert_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::create_dir(at.join("host")).unwrap();
    let rows: String = (0..60_000).map(|n| format!("{n},text {n}\n")).collect();
    std::fs::write(at.join("host/x.csv"), format!("n,s\n{rows}")).unwrap();
    make_pond(at);
    let query = ["sql", "--pond", "pond", "SELECT sum(n) FROM '/t/x.table'"];
    let children: Vec<_> = (0..4).map(|_| shell(at).args(query).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(stdout(&output).contains("1799970000"), "{output:?}");
    }
    assert_eq!(names(&at.join("pond/cache/csv/files")).len(), 1);
    let output = run(at, &["sql", "--pond", "pond", "SELECT files, hits FROM cache()"]);
    assert!(stdout(&output).contains('4'), "{}", stdout(&output));
}

/// A text that only grew keeps what was converted of it; one whose beginning changed does not.
#[tokio::test(flavor = "multi_thread")]
async fn what_grew_is_converted_from_where_it_ended() {
    let world = World::new().await;
    let text = world.file("x.csv");
    let rows = |numbers: std::ops::Range<u64>| {
        numbers.map(|n| format!("{n},text {n:06}\n")).collect::<String>()
    };
    std::fs::write(&text, format!("n,s\n{}", rows(0..30_000))).unwrap();
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first')")
        .await;
    let sums = "SELECT count(*), sum(n), max(s) FROM '/t/x.table'";
    world.ask(sums).await.unwrap();
    let first = world.kept();
    assert_eq!(first.len(), 1);
    let append = |more: &str| {
        File::options().append(true).open(&text).unwrap().write_all(more.as_bytes()).unwrap()
    };
    append(&rows(30_000..30_010));
    assert_eq!(world.ask(sums).await.unwrap(), "30010 | 450285045 | text 030009");
    assert_eq!(world.cached("files, \"rows\"").await, "2 | 30010");
    assert!(world.kept().contains(&first[0]));
    // A line that has not ended is one that goes on.
    append("30010,text 03");
    world.ask(sums).await.unwrap();
    append("0010\n30011,text 030011\n");
    assert_eq!(world.ask(sums).await.unwrap(), "30012 | 450345066 | text 030011");

    let mut changed = std::fs::read(&text).unwrap();
    changed[1000] ^= 1;
    changed.extend_from_slice(rows(30_012..30_020).as_bytes());
    std::fs::write(&text, changed).unwrap();
    world.ask(sums).await.unwrap();
    assert_eq!(world.cached("files, \"rows\"").await, "1 | 30020");
    // A value that needs another type is for all of the text.
    append("x,text\n");
    world.ask("SELECT count(*), max(n) FROM '/t/x.table'").await.unwrap();
    assert_eq!(world.cached("files, \"rows\"").await, "1 | 30021");
}

/// Whatever the end of a text was, it is read with what follows as if it had always been there.
#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_grew_is_read_as_if_it_had_been_so() {
    let world = World::new().await;
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first', on_error = 'skip', delimiter = ',', quote = '\"')")
        .await;
    let long =
        |last: &str| (0..30_000).map(|n| format!("{n},text {n},{last}\n")).collect::<String>();
    for (number, (end, more)) in [
        // Within quotes.
        ("1,\"x\n", "y\",\n2,z,\n"),
        ("1,\"x\n", "3,w,\n4,\"u\",\n"),
        ("1,x,\"\n", "\"\n"),
        // Between the bytes of a line end.
        ("1,x,\r", "\n2,y,\r\n"),
        ("1,x,\r\n", "2,y,\r\n"),
        // Within a line, and within a character.
        ("1,x", "y,\n"),
        // A column without values gets one.
        ("1,x,\n", "2,y,z\n"),
        ("1,x,17\n", "2,y,z\n"),
        // Too few, too many.
        ("1,x\n", "2,y,,,\n3,z,\n"),
    ]
    .into_iter()
    .enumerate()
    {
        for last in ["", "v"] {
            let name = format!("{number}{last}.csv");
            std::fs::write(world.file(&name), format!("n,s,v\n{}{end}", long(last))).unwrap();
            let query = format!(
                "SELECT arrow_typeof(v), count(*), sum(n), max(s), max(v) FROM '/t/{number}{last}.table' GROUP BY 1"
            );
            println!("{end:?}, {more:?}");
            world.ask(&query).await.unwrap();
            File::options()
                .append(true)
                .open(world.file(&name))
                .unwrap()
                .write_all(more.as_bytes())
                .unwrap();
            world.ask(&query).await.unwrap();
        }
    }
}

/// A process that converts text after text, each of which it writes first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the other tests, as a process of its own"]
async fn child() {
    let variable = |name| PathBuf::from(std::env::var(name).unwrap());
    let (home, host) = (variable("POND_TEST_DIR"), variable("POND_TEST_HOST"));
    let pond = PondContext::new(Tree::new(Pond::open(&home, FAST).await.unwrap()));
    println!("ready");
    let mut random = Random(u64::from(std::process::id()));
    loop {
        let name = random.below(3);
        let rows = some_rows(&mut random, 20_000);
        let mut file = File::options()
            .append(random.0.is_multiple_of(2))
            .write(true)
            .create(true)
            .truncate(false)
            .open(host.join(format!("{name}.csv")))
            .unwrap();
        file.write_all(format!("a,b;c\n{rows}").as_bytes()).unwrap();
        ask(&pond, &format!("SELECT count(*) FROM '/t/{name}.table'")).await.unwrap();
    }
}

/// Processes that die while they convert leave nothing that is served wrongly, and nothing that is not
/// cleared up.
#[tokio::test(flavor = "multi_thread")]
async fn killed_processes_leave_nothing() {
    let world = World::new().await;
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first', on_error = 'skip', delimiter = ',')")
        .await;
    for name in 0..3 {
        std::fs::write(world.file(&format!("{name}.csv")), "a,b;c\n1,2;3\n").unwrap();
    }
    let mut random = Random(20_260_212);
    for kill in 0..30 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "csv_cache::child", "--nocapture", "--quiet"])
            .env("POND_TEST_DIR", &world.home)
            .env("POND_TEST_HOST", world.host.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        tokio::time::sleep(Duration::from_micros(random.below(400_000))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        for name in 0..3 {
            let sums =
                format!("SELECT count(*), count(a), max(a), max(\"b;c\") FROM '/t/{name}.table'");
            let answer = world.ask(&sums).await;
            assert!(answer.is_ok(), "kill {kill}: {answer:?}");
        }
    }
    clear_up(&world);
    let left = world.kept();
    let named: BTreeMap<String, ()> = world.ponds[0]
        .tree()
        .cache()
        .conversions()
        .unwrap()
        .into_iter()
        .flat_map(|kept| kept.files)
        .map(|file| (file.name, ()))
        .collect();
    assert_eq!(left, named.into_keys().collect::<Vec<_>>());
    let records = names(&world.csv());
    let odd: Vec<&String> = records
        .iter()
        .filter(|name| {
            !name.ends_with(".json") && !["files", "hits", "swept"].contains(&name.as_str())
        })
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!(records.iter().filter(|name| name.ends_with(".json")).count(), 3);
}

/// Makes all that is there old, and clears up.
fn clear_up(world: &World) {
    let then = SystemTime::now() - Duration::from_secs(700);
    for dir in [world.csv(), world.csv().join("files")] {
        for name in names(&dir) {
            let path = dir.join(name);
            if path.is_file() {
                File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
            }
        }
    }
    world.ponds[0].tree().cache().sweep_conversions().unwrap();
}

/// On a disk that is full, texts are read directly, and somebody is told; nothing is left of what was
/// tried, and it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_no_error() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let world = World::at(disk.at.join("pond"), tempfile::tempdir().unwrap()).await;
    world
        .define("CREATE NODE '/t' FACTORY csv_directory WITH (source_pattern = '/host/*.csv', convert = 'first')")
        .await;
    let mut random = Random(17);
    let rows: String = (0..100_000)
        .map(|n| format!("{n},{:08x}{:08x}\n", random.below(1 << 31), random.below(1 << 31)))
        .collect();
    let text = format!("n,s\n{rows}");
    let mut told = 0;
    for (number, free) in [0, 4096, 20_000, 200_000, 600_000].into_iter().enumerate() {
        let name = format!("{number}.csv");
        std::fs::write(world.file(&name), &text).unwrap();
        let before = world.kept();
        let seen = world.watch();
        disk.fill(free);
        let sums = format!("SELECT count(*), sum(n), max(s) FROM '/t/{number}.table'");
        let full = world.ask(&sums).await.unwrap();
        let notices = std::mem::take(&mut *seen.lock().unwrap());
        let notices: Vec<&String> = notices.iter().filter(|told| told.contains(' ')).collect();
        told += notices.len();
        for notice in &notices {
            assert!(
                notice.contains("is read without the cache") && notice.contains("space"),
                "{notice}"
            );
        }
        assert_eq!(world.kept(), before, "with {free} bytes free");
        disk.free();
        assert_eq!(world.ask(&sums).await.unwrap(), full);
        assert_eq!(world.kept().len(), before.len() + 1, "with {free} bytes free");
        world.ponds[0].tree().cache().clear(None).unwrap();
    }
    assert!(told >= 5, "{told}");
    let odd: Vec<String> = names(&world.csv())
        .into_iter()
        .filter(|name| name.contains('#') || name.ends_with(".lock"))
        .collect();
    assert!(odd.is_empty(), "{odd:?}");
}
