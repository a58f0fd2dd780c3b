//! Queries on a Ballista cluster: answers, what runs here and why, and what happens when a part of it
//! dies.
//!
//! A scheduler and two executors of the stock crates run on loopback ([`crate::ballista`]); they are this
//! test binary again, running the ignored test `cluster::child`.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use pond::cluster::Cluster;
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{ErrorKind, PondContext};

use crate::ballista::Running;
use crate::world::init;

/// How long a query of these tests may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// Most bytes of what is hashed for a join.
const LIMIT: &str = "ballista.optimizer.hash_join_max_build_partition_bytes";

/// How this binary becomes a process of the cluster.
const CHILD: &[&str] = &["--ignored", "--exact", "cluster::child", "--nocapture", "--quiet"];

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn child() {
    crate::ballista::child();
}

fn address(running: &Running) -> String {
    format!("df://{}", running.address())
}

fn on(tree: &Tree, address: &str) -> PondContext {
    PondContext::builder(tree.clone()).with_cluster(Cluster::parse(address).unwrap()).build()
}

async fn run(context: &PondContext, sql: &str) -> pond::Result<Vec<RecordBatch>> {
    let work = async { context.sql(sql).await?.collect().await };
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("it takes long: {sql}"))
}

/// Runs statements, and returns the rows of the last as text.
async fn text(context: &PondContext, sql: &str) -> String {
    let rows = run(context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    pretty_format_batches(&rows).unwrap().to_string()
}

/// The rows of a query, as lines that are sorted: rows that compare as equal come in any order.
async fn lines(context: &PondContext, sql: &str) -> Vec<String> {
    let mut lines: Vec<String> = text(context, sql).await.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// What the first row of an `EXPLAIN` says.
async fn place(context: &PondContext, sql: &str) -> String {
    let text = text(context, &format!("EXPLAIN {sql}")).await;
    let row = text.lines().nth(3).unwrap();
    row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(": ")
}

/// The tables of TPC-H, small and made up, but with rows for most of its queries.
const TABLES: &[(&str, &str)] = &[
    (
        "region",
        "SELECT value AS r_regionkey, ['AFRICA','AMERICA','ASIA','EUROPE','MIDDLE EAST'][value + 1] AS r_name, 'x' AS r_comment FROM generate_series(0, 4)",
    ),
    (
        "nation",
        "SELECT value AS n_nationkey, ['ALGERIA','ARGENTINA','BRAZIL','CANADA','EGYPT','ETHIOPIA','FRANCE','GERMANY','INDIA','INDONESIA','IRAN','IRAQ','JAPAN','JORDAN','KENYA','MOROCCO','MOZAMBIQUE','PERU','CHINA','ROMANIA','SAUDI ARABIA','VIETNAM','RUSSIA','UNITED KINGDOM','UNITED STATES'][value + 1] AS n_name, [0,1,1,1,4,0,3,3,2,2,4,4,2,4,0,0,0,1,2,3,4,2,3,3,1][value + 1] AS n_regionkey, 'x' AS n_comment FROM generate_series(0, 24)",
    ),
    (
        "supplier",
        "SELECT value AS s_suppkey, 'Supplier ' || value AS s_name, 'street ' || value AS s_address, value * 7 % 25 AS s_nationkey, (10 + value * 7 % 25) || '-' || value AS s_phone, CAST(value * 37 % 9999 - 900 AS DECIMAL(15,2)) AS s_acctbal, CASE WHEN value % 10 = 0 THEN 'Customer so Complaints' ELSE 'fine' END AS s_comment FROM generate_series(1, 100)",
    ),
    (
        "customer",
        "SELECT value AS c_custkey, 'Customer ' || value AS c_name, 'road ' || value AS c_address, value * 3 % 25 AS c_nationkey, (10 + value * 3 % 25) || '-' || value AS c_phone, CAST(value * 91 % 9999 - 900 AS DECIMAL(15,2)) AS c_acctbal, ['AUTOMOBILE','BUILDING','FURNITURE','HOUSEHOLD','MACHINERY'][1 + value % 5] AS c_mktsegment, 'c' || value AS c_comment FROM generate_series(1, 300)",
    ),
    (
        "part",
        "SELECT value AS p_partkey, ['forest green','almond blue','green lace','ivory red'][1 + value % 4] AS p_name, 'Manufacturer#' || (1 + value % 5) AS p_mfgr, 'Brand#' || (1 + value % 3) || (1 + value % 5) AS p_brand, ['ECONOMY ANODIZED STEEL','STANDARD POLISHED BRASS','PROMO BURNISHED COPPER','MEDIUM POLISHED TIN'][1 + value % 4] AS p_type, [15,49,14,23,45,19,3,36,9,1][1 + value % 10] AS p_size, ['SM CASE','MED BOX','LG CASE','MED BAG','SM BOX'][1 + value % 5] AS p_container, CAST(900 + value AS DECIMAL(15,2)) AS p_retailprice, 'p' AS p_comment FROM generate_series(1, 400)",
    ),
    (
        "partsupp",
        "SELECT 1 + value / 4 AS ps_partkey, 1 + (1 + value / 4 + value % 4 * 25) % 100 AS ps_suppkey, 1 + value * 17 % 9999 AS ps_availqty, CAST(1 + value * 13 % 1000 AS DECIMAL(15,2)) AS ps_supplycost, 'ps' AS ps_comment FROM generate_series(0, 1599)",
    ),
    (
        "orders",
        "SELECT value AS o_orderkey, 1 + value * 11 % 200 AS o_custkey, ['F','O','P'][1 + value % 3] AS o_orderstatus, CAST(1000 + value * 37 % 400000 AS DECIMAL(15,2)) AS o_totalprice, CAST(CAST(8035 + value * 5 % 2400 AS INT) AS DATE) AS o_orderdate, ['1-URGENT','2-HIGH','3-MEDIUM','4-NOT SPECIFIED','5-LOW'][1 + value % 5] AS o_orderpriority, 'Clerk#1' AS o_clerk, 0 AS o_shippriority, CASE WHEN value % 7 = 0 THEN 'special big requests' ELSE 'plain' END AS o_comment FROM generate_series(1, 1000)",
    ),
    (
        "lineitem",
        "SELECT 1 + n / 7 AS l_orderkey, 1 + n * 3 % 400 AS l_partkey, 1 + (1 + n * 3 % 400 + n % 4 * 25) % 100 AS l_suppkey, 1 + n % 7 AS l_linenumber, CAST(q AS DECIMAL(15,2)) AS l_quantity, CAST(q * (900 + n * 3 % 400) AS DECIMAL(15,2)) AS l_extendedprice, CAST(n % 11 / 100.0 AS DECIMAL(15,2)) AS l_discount, CAST(n % 9 / 100.0 AS DECIMAL(15,2)) AS l_tax, ['A','N','R'][1 + n % 3] AS l_returnflag, ['O','F'][1 + n % 2] AS l_linestatus, CAST(CAST(d + 1 + n * 11 % 120 AS INT) AS DATE) AS l_shipdate, CAST(CAST(d + 30 + n * 17 % 60 AS INT) AS DATE) AS l_commitdate, CAST(CAST(d + 2 + n * 11 % 120 + n % 30 AS INT) AS DATE) AS l_receiptdate, ['DELIVER IN PERSON','COLLECT COD'][1 + n % 2] AS l_shipinstruct, ['AIR','AIR REG','MAIL','SHIP','RAIL','TRUCK','FOB'][1 + n % 7] AS l_shipmode, 'l' AS l_comment FROM (SELECT value AS n, CASE WHEN value / 7 % 50 = 0 THEN 50 ELSE 1 + value * 13 % 50 END AS q, 8035 + (1 + value / 7) * 5 % 2400 AS d FROM generate_series(0, 6999))",
    ),
];

/// Makes a pond with the tables in `/tpch`.
async fn tpch(dir: &Path) -> Tree {
    let tree = init(dir).await;
    let context = PondContext::new(tree.clone());
    text(&context, "CREATE SCHEMA '/tpch'").await;
    for (name, query) in TABLES {
        text(&context, &format!("CREATE TABLE '/tpch/{name}' AS {query}")).await;
    }
    tree
}

/// Joins of all kinds, of tables with one partition and with many, whose rows something above puts
/// together.
const KINDS: &[&str] = &[
    "SELECT count(*), sum(l_quantity) FROM lineitem, part WHERE p_partkey = l_partkey AND p_brand < 'Brand#2' AND EXISTS (SELECT 1 FROM (SELECT l_partkey AS k, avg(l_quantity) AS a FROM lineitem GROUP BY l_partkey) AS t WHERE k = p_partkey)",
    "SELECT count(*), sum(p_partkey) FROM part WHERE p_partkey IN (SELECT l_partkey FROM lineitem WHERE l_quantity > 10)",
    "SELECT count(*), sum(p_partkey) FROM part WHERE NOT EXISTS (SELECT 1 FROM lineitem WHERE l_partkey = p_partkey AND l_quantity > 10)",
    "SELECT count(*), sum(l_quantity) FROM part LEFT JOIN lineitem ON p_partkey = l_partkey AND l_tax > 0.05",
    "SELECT count(*), sum(l_quantity) FROM lineitem LEFT JOIN part ON p_partkey = l_partkey AND p_size > 20",
    "SELECT count(*), sum(l_quantity) FROM lineitem FULL JOIN part ON p_partkey = l_partkey + 100",
    "SELECT n_name, count(*), sum(s_acctbal) FROM nation LEFT JOIN supplier ON n_nationkey = s_nationkey GROUP BY n_name",
    "SELECT count(*) FROM region WHERE r_regionkey NOT IN (SELECT n_regionkey FROM nation WHERE n_nationkey > 3)",
    "SELECT o_custkey, count(*) FROM orders JOIN customer ON c_custkey = o_custkey WHERE o_custkey IN (SELECT c_custkey FROM customer WHERE c_acctbal > 0) GROUP BY o_custkey ORDER BY 1",
    "SELECT count(*), sum(p_partkey) FROM part WHERE p_size > 40 OR p_partkey IN (SELECT l_partkey FROM lineitem WHERE l_quantity > 45)",
];

fn query(number: usize) -> String {
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tpch");
    std::fs::read_to_string(queries.join(format!("q{number:02}.sql"))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_tpch_are_the_local_ones() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tpch(dir.path()).await;
    let running = Running::start(2, CHILD);
    let (here, there) = (PondContext::new(tree.clone()), on(&tree, &address(&running)));
    for context in [&here, &there] {
        text(context, "USE '/tpch'").await;
    }
    let mut with_rows = 0;
    for number in 1..=22 {
        let query = query(number);
        assert_eq!(place(&there, &query).await, format!("cluster: {}", address(&running)));
        let (ours, theirs) = (lines(&here, &query).await, lines(&there, &query).await);
        assert_eq!(ours, theirs, "query {number}");
        with_rows += usize::from(ours.len() > 4);
    }
    assert!(with_rows >= 18, "{with_rows} queries have rows");

    // Whatever kind of join, and however large its tables are: the scheduler changes some of them.
    for sql in KINDS {
        assert_eq!(lines(&here, sql).await, lines(&there, sql).await, "{sql}");
    }

    // However little memory there is for joins.
    for limit in [1000, 100] {
        text(&there, &format!("SET {LIMIT} = {limit}")).await;
        let queries = [2, 4, 9, 13, 16, 17, 18, 20, 21, 22].map(query);
        for query in KINDS.iter().map(|sql| (*sql).to_owned()).chain(queries) {
            assert_eq!(lines(&here, &query).await, lines(&there, &query).await, "{query}");
        }
    }

    // What a query of the cluster's finds can be written here.
    let made =
        "SELECT l_shipmode AS mode, count(*) AS n, sum(l_quantity) AS q FROM lineitem GROUP BY 1";
    assert!(
        place(&there, &format!("CREATE TABLE '/modes.table' AS {made}"))
            .await
            .starts_with("cluster")
    );
    text(&there, &format!("CREATE TABLE '/modes.table' AS {made}")).await;
    text(&there, "INSERT INTO '/modes.table' SELECT 'LAST', count(*), sum(l_quantity) FROM lineitem WHERE l_tax > 0").await;
    let modes = lines(&here, "SELECT * FROM '/modes.table'").await;
    assert_eq!(
        modes.iter().filter(|line| line.contains("LAST") || line.contains("AIR")).count(),
        3
    );
    text(&here, &format!("CREATE TABLE '/again.table' AS {made}")).await;
    assert_eq!(
        text(&here, "DESCRIBE '/modes.table'").await,
        text(&here, "DESCRIBE '/again.table'").await
    );

    // The order of an answer is kept.
    let sorted = "SELECT l_orderkey, l_linenumber FROM lineitem WHERE l_tax > 0 ORDER BY 1 DESC, 2 DESC LIMIT 50";
    assert_eq!(text(&there, sorted).await, text(&here, sorted).await);

    // The shell does the same.
    let pond = dir.path().to_str().unwrap();
    let sql = "SELECT count(*) AS n FROM '/tpch/lineitem' WHERE l_quantity = 50";
    let shell = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pond"));
        command.args(["--pond", pond, "--format", "csv", "sql"]).args(more).arg(sql);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(shell(&["--cluster", &address(&running)]), shell(&[]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_executor_ends_in_a_right_answer_or_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tpch(dir.path()).await;
    let mut running = Running::start(2, CHILD);
    let there = on(&tree, &address(&running));
    // Some seconds of work, in stages that read each other's rows.
    let sql = "SELECT a.l_shipmode, count(*) AS n, sum(a.l_quantity * b.l_quantity) AS q
               FROM '/tpch/lineitem' a JOIN '/tpch/lineitem' b ON a.l_tax = b.l_tax AND a.l_partkey <> b.l_partkey
               GROUP BY 1 ORDER BY 1";
    let right = text(&PondContext::new(tree.clone()), sql).await;
    assert_eq!(text(&there, sql).await, right);
    for wait in [0, 300, 1500] {
        let mut victim = running.take_executor();
        let query = tokio::spawn({
            let there = there.clone();
            async move { run(&there, sql).await }
        });
        tokio::time::sleep(Duration::from_millis(wait)).await;
        victim.kill().unwrap();
        victim.wait().unwrap();
        match query.await.unwrap() {
            Ok(rows) => assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), right),
            Err(error) => {
                let address = address(&running);
                assert!(error.to_string().contains(&address), "{error:?}");
                assert!(error.hint().is_some(), "{error:?}");
            }
        }
        running.add_executor();
    }
    // Until the scheduler has noticed who is gone, the hint may be needed.
    let since = Instant::now();
    let rows = loop {
        match run(&there, sql).await {
            Ok(rows) => break rows,
            Err(error) => assert!(since.elapsed() < PATIENCE, "{error:?}"),
        }
    };
    assert_eq!(pretty_format_batches(&rows).unwrap().to_string(), right);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_that_is_given_up_is_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tpch(dir.path()).await;
    let running = Running::start(1, CHILD);
    let there = on(&tree, &address(&running));
    // Minutes of work, in many pieces: what an executor is at, it ends.
    let piece = |n: usize| {
        format!(
            "SELECT count(*) AS n FROM '/tpch/lineitem' a, '/tpch/lineitem' b
             WHERE a.l_partkey * b.l_partkey % 1000 = {n}"
        )
    };
    let endless = (0..300).map(piece).collect::<Vec<_>>().join(" UNION ALL ");
    let endless = &format!("SELECT sum(n) FROM ({endless})");
    assert!(place(&there, endless).await.starts_with("cluster"));
    let given_up = tokio::time::timeout(Duration::from_secs(3), run(&there, endless)).await;
    assert!(given_up.is_err(), "it ended: {given_up:?}");
    let begun = Instant::now();
    there.settle().await;
    let n = "SELECT count(*) AS n FROM '/tpch/lineitem' WHERE l_quantity = 50";
    assert_eq!(text(&there, n).await, text(&PondContext::new(tree.clone()), n).await);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[tokio::test]
async fn what_cannot_travel_runs_here() {
    let dir = tempfile::tempdir().unwrap();
    let host = tempfile::tempdir().unwrap();
    let tree = tpch(&dir.path().join("pond")).await;
    // Nobody listens there: what is answered was answered here.
    let there = on(&tree, "df://127.0.0.1:1");
    let here = PondContext::new(tree.clone());
    let (csv, parquet) = (host.path().join("a.csv"), host.path().join("a.parquet"));
    std::fs::write(&csv, "n\n1\n2\n").unwrap();
    let plain = SessionContext::new();
    let made = format!("COPY (SELECT 1 AS n) TO '{}'", parquet.display());
    plain.sql(&made).await.unwrap().collect().await.unwrap();
    let mount = host.path().display();
    text(&here, &format!("CREATE NODE '/host' FACTORY hostmount WITH (directory = '{mount}')"))
        .await;
    text(&here, "COPY (SELECT 1 AS n) TO '/inline.parquet'").await;
    text(&here, "COPY (SELECT 1 AS n) TO '/inline.json'").await;
    let series = "CREATE TABLE '/s.series' AS SELECT CAST(value AS TIMESTAMP) AS timestamp, value FROM generate_series(1, 1000)";
    text(&here, series).await;
    text(&there, "CREATE TABLE session_table AS SELECT 1 AS n").await;

    for (sql, said) in [
        (
            "SELECT n FROM '/inline.parquet' WHERE n > 0",
            "here: scan of '/inline.parquet' holds bytes of the oplog",
        ),
        (
            "SELECT n FROM '/inline.json' WHERE n > 0",
            "here: scan of '/inline.json' holds bytes of the oplog",
        ),
        (
            "SELECT n FROM '/host/a.parquet' WHERE n > 0",
            "here: scan of '/host/a.parquet' is in a store that only this process has",
        ),
        ("SELECT n FROM '/host/a.csv' WHERE n > 0", "here: scan of '/host/a.csv' reads text"),
        ("SELECT path FROM ls('/tpch')", "here: rows of"),
        ("SELECT 1", "here: no file is read"),
        ("SELECT n FROM session_table", "here: no file is read"),
        ("SELECT count(*), max(value) FROM '/s.series'", "here: no file is read"),
        (
            "SELECT * FROM '/s.series' ORDER BY timestamp DESC LIMIT 3",
            "here: scan of '/s.series' is of some rows of a file",
        ),
        (
            "SELECT bar(value, 0, 1000, 10) FROM '/s.series'",
            "here: the cluster has no function bar() like this one",
        ),
        (
            "SELECT value FROM '/s.series' s JOIN '/host/a.csv' a ON s.value = a.n",
            "here: scan of '/host/a.csv' reads text",
        ),
    ] {
        let place = place(&there, sql).await;
        assert!(place.starts_with(said), "{sql}: {place}");
        text(&there, sql).await;
        if !sql.contains("session_table") {
            assert_eq!(lines(&there, sql).await, lines(&here, sql).await, "{sql}");
        }
    }
    for sql in [
        "SELECT sum(value) FROM '/s.series'",
        "SELECT value FROM '/s.series' s JOIN session_table t ON s.value = t.n",
        "SELECT path, value FROM '/s.series', (VALUES ('a')) AS v(path)",
    ] {
        assert_eq!(place(&there, sql).await, "cluster: df://127.0.0.1:1", "{sql}");
    }
    // Joins are by hashing, unless what is hashed would not fit.
    let join =
        "SELECT count(*) FROM '/tpch/orders' o JOIN '/tpch/lineitem' l ON o_orderkey = l_orderkey";
    let explain = format!("EXPLAIN {join}");
    let parted = "HashJoinExec: mode=Partitioned";
    assert!(text(&there, &explain).await.contains(parted));
    for (limit, way) in [(100, "SortMergeJoinExec"), (0, parted)] {
        text(&there, &format!("SET {LIMIT} = {limit}")).await;
        assert!(text(&there, &explain).await.contains(way), "{limit}: {way}");
    }
    text(&there, "SET datafusion.optimizer.prefer_hash_join = false").await;
    assert!(text(&there, &explain).await.contains("SortMergeJoinExec"));
    text(&there, "SET datafusion.optimizer.prefer_hash_join = true").await;

    let changed = place(&there, "DELETE FROM '/tpch/region' WHERE r_regionkey = 1").await;
    assert_eq!(changed, "here: the statement's rows keep their order");
    let analyzed = text(&there, "EXPLAIN ANALYZE SELECT sum(value) FROM '/s.series'").await;
    assert!(analyzed.contains("| here "), "{analyzed}");

    // A pond in memory is in no store of others'.
    let memory = Tree::new(Pond::transient().await.unwrap());
    let there = on(&memory, "df://127.0.0.1:1");
    text(&there, series).await;
    let said = place(&there, "SELECT sum(value) FROM '/s.series'").await;
    assert_eq!(said, "here: scan of '/s.series' is in a store that only this process has");
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tpch(dir.path()).await;
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    drop(silent);
    let nobody = format!("df://127.0.0.1:{port}");
    let error =
        run(&on(&tree, &nobody), "SELECT sum(l_tax) FROM '/tpch/lineitem'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with(&format!("{nobody}: no scheduler answers")), "{error}");
    assert!(error.hint().unwrap().contains("ballista-scheduler"), "{error:?}");

    // A scheduler without executors says so, after a while.
    let running = Running::start(0, CHILD);
    let error = run(&on(&tree, &address(&running)), "SELECT sum(l_tax) FROM '/tpch/lineitem'")
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), format!("{}: it has no executor", address(&running)));
    assert!(error.hint().unwrap().contains("ballista-executor"), "{error:?}");

    for wrong in
        ["", "host:50050", "http://host:50050", "df://", "df://a/b", "df://u:p@host", "df://h:x"]
    {
        let error = Cluster::parse(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{wrong}");
        assert_eq!(error.hint(), Some("a cluster is named by its scheduler: df://host:50050"));
    }
    assert_eq!(Cluster::parse("df://host").unwrap().to_string(), "df://host:50050");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_executors_do_not_have_is_an_error_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tpch(dir.path()).await;
    let running = Running::start(1, CHILD);
    let there = on(&tree, &address(&running));
    let sql = "SELECT sum(l_tax) FROM '/tpch/lineitem' WHERE l_quantity = 50";
    text(&there, sql).await;
    // As on a machine that has another pond, or none, at this path.
    std::fs::rename(dir.path().join("blobs"), dir.path().join("elsewhere")).unwrap();
    let error = run(&there, "SELECT sum(c_acctbal) FROM '/tpch/customer' WHERE c_nationkey = 3")
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with(&address(&running)), "{error}");
    assert!(error.hint().unwrap().contains("each executor must see the pond's files"), "{error:?}");
}
