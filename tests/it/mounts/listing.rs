//! `ls()`: what it lists, and what it costs. Costs are counted, not timed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::catalog::TableFunctionImpl;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use pond::ErrorKind;
use pond::path::PondPath;
use pond::table_fn::FixedRoot;
use pond::table_fn::ls::{LsArgs, LsFunction, LsTable};

use super::{Mounted, ls, ls_all, metric, mount};

/// `directories` directories of `files` files each, one in ten a CSV file.
fn tree(root: &Path, directories: usize, files: usize) {
    for directory in 0..directories {
        let path = root.join(format!("d{directory:03}"));
        std::fs::create_dir_all(&path).unwrap();
        for file in 0..files {
            let ending = if file % 10 == 0 { "csv" } else { "dat" };
            std::fs::write(path.join(format!("f{file:06}.{ending}")), "12345").unwrap();
        }
    }
}

fn recursive(path: &str) -> LsArgs {
    LsArgs { recursive: true, ..ls(path) }
}

async fn cost(mounted: &Mounted, args: LsArgs, query: &str) -> [usize; 3] {
    let batches = mounted.sql(args, &format!("EXPLAIN ANALYZE {query}")).await.unwrap();
    ["stat_calls", "directory_reads", "directories_opened"].map(|name| metric(&batches, name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_lists_children_a_file_itself_a_glob_its_matches() {
    let dir = tempfile::tempdir().unwrap();
    for sub in ["a/b/c", ".git/x"] {
        std::fs::create_dir_all(dir.path().join(sub)).unwrap();
    }
    for file in
        ["1.csv", "2.txt", ".hid", "a/3.csv", "a/b/4.csv", "a/b/c/5.csv", ".git/6.csv", "x[1].csv"]
    {
        std::fs::write(dir.path().join(file), file).unwrap();
    }
    let mounted = Mounted::new(dir.path()).await;
    let hidden = |path: &str| LsArgs { hidden: true, ..ls(path) };
    for (args, expected) in [
        (ls("/"), &["/host"][..]),
        (ls("/host"), &["/host/1.csv", "/host/2.txt", "/host/a", "/host/x[1].csv"]),
        (
            hidden("/host"),
            &[
                "/host/.git",
                "/host/.hid",
                "/host/1.csv",
                "/host/2.txt",
                "/host/a",
                "/host/x[1].csv",
            ],
        ),
        (ls("/host/a/3.csv"), &["/host/a/3.csv"]),
        (ls("/host/.hid"), &["/host/.hid"]),
        (ls("/host/.git"), &["/host/.git/6.csv", "/host/.git/x"]),
        (ls("/host/*.csv"), &["/host/1.csv", "/host/x[1].csv"]),
        (ls("/host/x[1].csv"), &["/host/x[1].csv"]),
        (ls("/host/[0-9].{csv,txt}"), &["/host/1.csv", "/host/2.txt"]),
        (ls("/host/.*"), &["/host/.git", "/host/.hid"]),
        (ls("/host/*/*.csv"), &["/host/a/3.csv"]),
        (
            ls("/host/**/?.csv"),
            &["/host/1.csv", "/host/a/3.csv", "/host/a/b/4.csv", "/host/a/b/c/5.csv"],
        ),
        (ls("/*/a/b"), &["/host/a/b"]),
        (ls("/**/4.csv"), &["/host/a/b/4.csv"]),
        (ls("/ho*/{a/b,nothing}/*"), &["/host/a/b/4.csv", "/host/a/b/c"]),
        (
            recursive("/host/a"),
            &["/host/a/3.csv", "/host/a/b", "/host/a/b/4.csv", "/host/a/b/c", "/host/a/b/c/5.csv"],
        ),
        (
            recursive("/host/a/b*"),
            &["/host/a/b", "/host/a/b/4.csv", "/host/a/b/c", "/host/a/b/c/5.csv"],
        ),
        (recursive("/host/a/3.csv"), &["/host/a/3.csv"]),
        (ls("/host/*.nothing"), &[]),
        (ls("/nothing/*"), &[]),
        (ls("/host/1.csv/*"), &[]),
    ] {
        let shown = format!("{args:?}");
        assert_eq!(mounted.paths(args).await.unwrap(), expected, "{shown}");
    }
    for (path, hint) in [
        ("/host/aa", Some("did you mean '/host/a'?")),
        ("/host/a/3.csw", Some("did you mean '/host/a/3.csv'?")),
        ("/host/1.csv/x", Some("'/host/1.csv' is not a directory")),
        ("/hosts", Some("did you mean '/host'?")),
        ("/zzzzz", None),
    ] {
        let error = mounted.paths(ls(path)).await.unwrap_err();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::NotFound, hint), "{path}: {error:?}");
        assert_eq!(error.message(), format!("'{path}' does not exist"));
    }
    for path in ["host", "/host/[a", "/host/{a", "/host/a\0"] {
        assert_eq!(mounted.paths(ls(path)).await.unwrap_err().kind(), ErrorKind::Invalid, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_complete() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    std::fs::write(dir.path().join("sub/.f"), "12345").unwrap();
    std::os::unix::fs::symlink(".f", dir.path().join("sub/l")).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_500_000_000_250);
    let file = std::fs::File::options().write(true).open(dir.path().join("sub/.f")).unwrap();
    file.set_modified(time).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    file.set_permissions(mode).unwrap();
    let mounted = Mounted::new(dir.path()).await;
    let query = "SELECT * FROM ls WHERE name = '.f'";
    let row = "/host/sub/.f|.f|/host/sub|file:data|NULL|true|5|2017-07-14T02:40:00.250Z|416|3|false\
               |NULL|true|NULL|NULL|NULL";
    for args in
        [ls_all("/"), ls_all("/host"), ls_all("/host/sub"), ls("/host/**/.f"), ls("/host/sub/.f")]
    {
        assert_eq!(mounted.rows(args, query).await.unwrap(), [row]);
    }
    let query = "SELECT entry_type, is_symlink, symlink_target, size, hidden, depth FROM ls \
                 WHERE is_symlink";
    assert_eq!(mounted.rows(recursive("/"), query).await.unwrap(), ["symlink|true|.f|2|false|3"]);
    let query = "SELECT name, factory, dynamic, version, txn, depth FROM ls WHERE depth = 1";
    assert_eq!(mounted.rows(recursive("/"), query).await.unwrap(), ["host|hostmount|true|1|1|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_select_the_same_rows_in_the_walk_as_above_it() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 5, 30);
    std::fs::create_dir_all(dir.path().join("d001/deep/er")).unwrap();
    std::fs::write(dir.path().join("d001/deep/er/x.csv"), "").unwrap();
    let mounted = Mounted::new(dir.path()).await;
    mounted.tree.mkdir(&PondPath::parse("/static/in").unwrap(), true, None).await.unwrap();
    mount(&mounted.tree, "/static/mount", dir.path()).await.unwrap();
    let root = mounted.tree.root(mounted.tree.snapshot().await.unwrap());
    let mounted = Mounted { root, ..mounted };
    let everything = mounted.sql(recursive("/"), "SELECT * FROM ls").await.unwrap();
    let reference = SessionContext::new();
    let table = datafusion::datasource::MemTable::try_new(everything[0].schema(), vec![everything]);
    reference.register_table("ls", Arc::new(table.unwrap())).unwrap();
    for condition in [
        "name LIKE '%.csv'",
        "name LIKE 'f00000_.csv' AND depth = 3",
        "path LIKE '/host/d00%'",
        "path LIKE '/static/mount/d001/deep%'",
        "path LIKE '/host/d001/d%' AND depth < 5",
        r"path LIKE '/host/d00\_%'",
        "path = '/host/d002/f000003.dat'",
        "path = '/host/'",
        "parent = '/host/d003'",
        "parent = '/'",
        "starts_with(path, '/host/d004/f')",
        "depth <= 2",
        "3 > depth",
        "depth BETWEEN 2 AND 3 AND name <> 'd001'",
        "depth = -1",
        "depth > 3",
        "entry_type = 'directory'",
        "entry_type IS NULL",
        "NOT dynamic",
        "factory = 'hostmount'",
        "size = 5 AND name LIKE 'f%' AND path LIKE '/host/%'",
        "size IS NULL OR name = 'in'",
        "length(name) = 4 OR hidden",
        "path IN ('/host', '/static/in', '/nothing')",
        "version IS NOT NULL",
        "name ~ '^f.*1\\.dat$'",
        "error IS NULL AND mode IS NOT NULL AND depth = 2",
    ] {
        let query = format!("SELECT path, name, size FROM ls WHERE {condition}");
        let mut expected =
            super::lines(&reference.sql(&query).await.unwrap().collect().await.unwrap());
        expected.sort();
        assert_eq!(mounted.rows(recursive("/"), &query).await.unwrap(), expected, "{condition}");
        let count = format!("SELECT count(*) FROM ls WHERE {condition}");
        let counted = mounted.rows(recursive("/"), &count).await.unwrap();
        assert_eq!(counted, [expected.len().to_string()], "{condition}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_asks_the_host_for_what_it_needs() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 20, 100);
    let mounted = Mounted::new(dir.path()).await;
    let all = || recursive("/host");
    let rows = 20 + 20 * 100;

    // Names, types and places come with the directory.
    for query in [
        "SELECT count(*) FROM ls",
        "SELECT path, name, parent, entry_type, depth, hidden, is_symlink, dynamic FROM ls",
        "SELECT name FROM ls WHERE name LIKE '%.csv' AND entry_type = 'file:data' ORDER BY path",
        "SELECT factory, version, txn FROM ls",
    ] {
        let [stats, _, opened] = cost(&mounted, all(), query).await;
        assert_eq!((stats, opened), (0, 20), "{query}");
    }
    // Anything else costs one call for each row that is wanted.
    assert_eq!(cost(&mounted, all(), "SELECT size FROM ls").await[0], rows);
    let query = "SELECT size, mtime, mode FROM ls WHERE name LIKE '%.csv'";
    assert_eq!(cost(&mounted, all(), query).await[0], 200);
    assert_eq!(cost(&mounted, ls("/host/**/*.csv"), "SELECT size FROM ls").await[0], 200);
    // A directory that cannot hold anything wanted is not opened.
    for (args, query, expected) in [
        (all(), "SELECT name FROM ls WHERE path LIKE '/host/d003/%'", 1),
        (all(), "SELECT name FROM ls WHERE path LIKE '/host/d01%'", 10),
        (all(), "SELECT name FROM ls WHERE path = '/host/d007/f000010.csv'", 1),
        (all(), "SELECT name FROM ls WHERE parent = '/host/d007'", 1),
        (all(), "SELECT name FROM ls WHERE starts_with(path, '/host/d00')", 10),
        (all(), "SELECT name FROM ls WHERE depth <= 2", 0),
        (all(), "SELECT name FROM ls WHERE depth < 4", 20),
        (ls("/host/d01?/*.csv"), "SELECT name FROM ls", 10),
        (ls("/host/{d001,d002/f*0}*"), "SELECT name FROM ls", 1),
        (ls("/host/d00[12]"), "SELECT size FROM ls", 0),
        (ls("/host"), "SELECT size FROM ls", 0),
    ] {
        assert_eq!(cost(&mounted, args, query).await[2], expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_stops_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 30, 100);
    let flat = dir.path().join("flat");
    std::fs::create_dir(&flat).unwrap();
    for file in 0..5_000 {
        let ending = if file % 10 == 0 { "csv" } else { "dat" };
        std::fs::File::create(flat.join(format!("file{file:06}.{ending}"))).unwrap();
    }
    let mounted = Mounted::new(dir.path()).await;
    for (args, query) in [
        (recursive("/host"), "SELECT path, size FROM ls WHERE name LIKE '%.csv' LIMIT 10"),
        (recursive("/host"), "SELECT * FROM ls LIMIT 10"),
        (ls("/host/flat"), "SELECT path, size FROM ls WHERE name LIKE '%.csv' LIMIT 10"),
        (ls("/host/flat/*.csv"), "SELECT path, size, mtime FROM ls LIMIT 10"),
    ] {
        for _ in 0..5 {
            let rows = mounted.rows(args.clone(), query).await.unwrap();
            assert_eq!(rows.len(), 10, "{query}");
            let [stats, reads, opened] = cost(&mounted, args.clone(), query).await;
            assert!(stats <= 10 && reads <= 2, "{query}: {stats} stats, {reads} reads");
            assert!(opened <= 2, "{query}: {opened} directories");
        }
    }
    // More than one directory has, and more than there is.
    let csv = "SELECT path, size FROM ls WHERE name LIKE '%.csv'";
    for (limit, expected) in [(100, 100), (799, 799), (800, 800), (9_000, 800)] {
        let rows = mounted.rows(recursive("/host"), &format!("{csv} LIMIT {limit}")).await.unwrap();
        assert_eq!(rows.len(), expected);
    }
    let rows =
        mounted.rows(recursive("/host"), &format!("{csv} LIMIT 5 OFFSET 798")).await.unwrap();
    assert_eq!(rows.len(), 2);
    assert!(mounted.rows(recursive("/host"), &format!("{csv} LIMIT 0")).await.unwrap().is_empty());
}

/// S6, with a tenth of the entries: nothing is lost or doubled however the workers share it.
#[tokio::test(flavor = "multi_thread")]
async fn large_directories_are_listed_in_whole() {
    const FILES: usize = 100_000;
    // Where making files is quick, if there is such a place.
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    for file in 0..FILES {
        std::fs::File::create(dir.path().join(format!("f{file}"))).unwrap();
    }
    let mounted = Mounted::new(dir.path()).await;
    let query = "SELECT count(*), count(DISTINCT name), sum(size), count(mtime) FROM ls";
    let rows = mounted.rows(recursive("/host"), query).await.unwrap();
    assert_eq!(rows, [format!("{FILES}|{FILES}|0|{FILES}")]);
    let [stats, reads, _] = cost(&mounted, ls("/host"), "SELECT * FROM ls LIMIT 10").await;
    assert!(stats <= 10 && reads <= 2, "{stats} stats, {reads} reads");
    let [stats, reads, _] = cost(&mounted, ls("/host"), "SELECT name FROM ls").await;
    assert!(stats == 0 && reads < 40, "{stats} stats, {reads} reads");
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_trees_need_few_open_directories() {
    const DEPTH: usize = 1_500;
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
    let mut at = rustix::fs::open(dir.path(), flags, rustix::fs::Mode::empty()).unwrap();
    let mode = rustix::fs::Mode::from_bits_truncate(0o755);
    for _ in 0..DEPTH {
        // The second one waits while the first is walked, and would hold its parent open.
        for name in ["d", "e"] {
            rustix::fs::mkdirat(&at, name, mode).unwrap();
        }
        at = rustix::fs::openat(&at, "d", flags, rustix::fs::Mode::empty()).unwrap();
    }
    drop(at);
    let mounted = Mounted::new(dir.path()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(std::fs::read_dir("/proc/self/fd").unwrap().count());
            }
            most
        }
    });
    let query = "SELECT count(*), max(depth), count(error) FROM ls";
    let rows = mounted.rows(recursive("/host"), query).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    assert_eq!(rows, [format!("{}|{}|0", 2 * DEPTH, DEPTH + 1)]);
    // Other tests have files open, too.
    let most = watch.join().unwrap();
    assert!(most < 900, "{most} files were open at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_may_be_read_in_any_order_dropped_and_run_again() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path(), 30, 100);
    let mounted = Mounted::new(dir.path()).await;
    let table = LsTable::try_new(Arc::new(FixedRoot(mounted.root.clone())), recursive("/host"));
    let config = SessionConfig::new().with_target_partitions(2).with_batch_size(64);
    let context = SessionContext::new_with_config(config);
    let frame = context.read_table(Arc::new(table.unwrap())).unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let task = context.task_ctx();
    let partitions = plan.properties().partitioning.partition_count();
    assert_eq!(partitions, 2);
    let count = async |mut stream: SendableRecordBatchStream| {
        let mut rows = 0;
        while let Some(batch) = stream.next().await {
            rows += batch.unwrap().num_rows();
        }
        rows
    };
    for order in [[0, 1], [1, 0]] {
        let mut rows = 0;
        for partition in order {
            rows += count(plan.execute(partition, task.clone()).unwrap()).await;
        }
        assert_eq!(rows, 30 + 30 * 100);
    }
    // Two runs at once, and one that is given up.
    let streams = [0, 0, 1, 1].map(|partition| plan.execute(partition, task.clone()).unwrap());
    let rows: usize = futures::future::join_all(streams.map(count)).await.iter().sum();
    assert_eq!(rows, 2 * (30 + 30 * 100));
    let mut stream = plan.execute(0, task.clone()).unwrap();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    // Who goes takes along what was meant for it, and no more.
    let rest = count(plan.execute(1, task).unwrap()).await;
    assert!((2_000..30 + 30 * 100).contains(&rest), "{rest} rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_function_takes_literals() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a"), "").unwrap();
    let mounted = Mounted::new(dir.path()).await;
    let context = &mounted.context;
    let function = LsFunction::new(Arc::new(FixedRoot(mounted.root.clone())));
    context.register_udtf("ls", Arc::new(function) as Arc<dyn TableFunctionImpl>);
    let run = async |sql: &str| -> pond::Result<Vec<String>> {
        let rows = async { context.sql(sql).await?.collect().await };
        Ok(super::lines(&rows.await?))
    };
    assert_eq!(run("SELECT path FROM ls('/host')").await.unwrap(), ["/host/a"]);
    assert_eq!(
        run("SELECT l.path FROM ls('/ho' || 'st') AS l WHERE l.name = 'a'").await.unwrap(),
        ["/host/a"]
    );
    for sql in [
        "SELECT * FROM ls()",
        "SELECT * FROM ls('/host', 1)",
        "SELECT * FROM ls('/host', true, true, true)",
        "SELECT * FROM ls(1)",
        "SELECT * FROM ls(NULL)",
        "SELECT * FROM (VALUES ('/host')) AS v(p), LATERAL ls(v.p)",
        "SELECT * FROM ls((SELECT '/host'))",
    ] {
        let error = run(sql).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{sql}: {error:?}");
        assert!(error.hint().is_some(), "{sql}");
    }
}
