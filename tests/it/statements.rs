//! Statements where one session is not enough to see what they promise: others at the same time,
//! statements that are given up, and more rows than there is memory for.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, TimestampNanosecondType};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::TryStreamExt;
use pond::path::PondPath;
use pond::pond::Pond;
use pond::tree::{Tree, WriteMode};
use pond::{Error, ErrorKind, PondContext};

async fn tree() -> Tree {
    Tree::new(Pond::transient().await.unwrap())
}

async fn run(context: &PondContext, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    context.sql(sql).await?.collect().await
}

/// The first column of all rows.
async fn numbers(context: &PondContext, sql: &str) -> Vec<i64> {
    let batches = run(context, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let values =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
    values.copied().collect()
}

#[tokio::test]
async fn others_see_all_of_a_transaction_or_nothing() {
    let tree = tree().await;
    let (one, other) = (PondContext::new(tree.clone()), PondContext::new(tree));
    run(&one, "CREATE TABLE '/a.table' AS SELECT 1 AS v").await.unwrap();
    run(&one, "BEGIN").await.unwrap();
    run(&one, "INSERT INTO '/a.table' VALUES (2)").await.unwrap();
    run(&one, "CREATE TABLE '/b.table' AS SELECT v FROM '/a.table'").await.unwrap();
    assert_eq!(numbers(&other, "SELECT count(*) FROM '/a.table'").await, [1]);
    let error = run(&other, "SELECT * FROM '/b.table'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(numbers(&one, "SELECT count(*) FROM '/b.table'").await, [2]);

    // Nor does a transaction see what others commit meanwhile.
    run(&other, "CREATE TABLE '/c.table' AS SELECT 1 AS v").await.unwrap();
    assert_eq!(numbers(&one, "SELECT count(*) FROM nodes()").await, [2]);
    run(&one, "COMMIT").await.unwrap();
    assert_eq!(numbers(&other, "SELECT count(*) FROM '/b.table'").await, [2]);
    assert_eq!(numbers(&one, "SELECT count(*) FROM nodes()").await, [3]);
}

#[tokio::test]
async fn of_two_changes_of_one_table_the_later_is_a_conflict() {
    let tree = tree().await;
    let (one, other) = (PondContext::new(tree.clone()), PondContext::new(tree));
    run(&one, "CREATE TABLE '/a.table' AS SELECT 1 AS v").await.unwrap();
    for change in [
        "UPDATE '/a.table' SET v = v + 1",
        "INSERT INTO '/a.table' VALUES (5)",
        "DELETE FROM '/a.table' WHERE v > 0",
        "DROP TABLE '/a.table'",
    ] {
        run(&one, "BEGIN").await.unwrap();
        run(&one, "CREATE SCHEMA \"/new\"").await.unwrap();
        run(&one, change).await.unwrap();
        run(&other, "UPDATE '/a.table' SET v = v + 10").await.unwrap();
        let error = run(&one, "COMMIT").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{change}: {error}");
        assert!(error.message().contains("'/a.table'"), "{change}: {error}");
        assert!(error.hint().unwrap().contains("rolled back"), "{change}");
        assert!(!one.in_transaction());
        assert_eq!(numbers(&one, "SELECT count(*) FROM nodes()").await, [1], "{change}");
    }
    assert_eq!(numbers(&one, "SELECT v FROM '/a.table'").await, [41]);
}

#[tokio::test]
async fn appends_to_one_series_at_the_same_time_all_come_through() {
    let tree = tree().await;
    let context = PondContext::new(tree.clone());
    run(&context, "CREATE TABLE '/a.series' (timestamp TIMESTAMP, v BIGINT)").await.unwrap();
    let open = PondContext::new(tree.clone());
    run(&open, "BEGIN").await.unwrap();
    run(&open, "INSERT INTO '/a.series' VALUES ('2026-01-01', 100)").await.unwrap();
    let writers = (0..8).map(|writer| {
        let context = PondContext::new(tree.clone());
        tokio::spawn(async move {
            for at in 0..4 {
                let sql = format!(
                    "INSERT INTO '/a.series' VALUES ('2026-01-0{} 0{at}:00:00', 1)",
                    writer + 1
                );
                run(&context, &sql).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    run(&open, "COMMIT").await.unwrap();
    assert_eq!(numbers(&context, "SELECT sum(v) FROM '/a.series'").await, [132]);
}

#[tokio::test]
async fn a_query_reads_on_as_of_when_it_began() {
    let context = PondContext::new(tree().await);
    let fill = "SELECT value AS v FROM generate_series(1, 200000)";
    run(&context, &format!("CREATE TABLE '/a.table' AS {fill}")).await.unwrap();
    let mut stream = context.sql("SELECT v FROM '/a.table'").await.unwrap().stream;
    let mut rows = stream.try_next().await.unwrap().unwrap().num_rows();
    run(&context, "TRUNCATE '/a.table'").await.unwrap();
    assert_eq!(numbers(&context, "SELECT count(*) FROM '/a.table'").await, [0]);
    while let Some(batch) = stream.try_next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, 200_000);
}

#[tokio::test]
async fn a_statement_that_is_given_up_leaves_the_transaction_as_it_was() {
    let context = PondContext::new(tree().await);
    run(&context, "BEGIN").await.unwrap();
    run(&context, "CREATE TABLE '/a.table' AS SELECT 1 AS v").await.unwrap();
    let endless = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i FROM n) SELECT i FROM n";
    for statement in [
        format!("INSERT OVERWRITE '/a.table' {endless}"),
        format!("CREATE TABLE '/b.table' AS {endless}"),
        format!("COPY ({endless}) TO '/b.csv'"),
    ] {
        let work = run(&context, &statement);
        assert!(tokio::time::timeout(Duration::from_millis(200), work).await.is_err());
        assert!(context.in_transaction());
    }
    run(&context, "COMMIT").await.unwrap();
    assert_eq!(numbers(&context, "SELECT count(*) FROM nodes()").await, [1]);
    assert_eq!(numbers(&context, "SELECT v FROM '/a.table'").await, [1]);
}

#[tokio::test]
async fn more_rows_than_fit_in_memory_are_sorted_on_disk() {
    const ROWS: i64 = 600_000;
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(14 << 20, 1.0).build_arc().unwrap();
    let context = PondContext::builder(tree().await).with_runtime_env(runtime).build();
    run(&context, "CREATE TABLE '/a.series' (timestamp TIMESTAMP, v BIGINT)").await.unwrap();
    let shuffled = format!(
        "SELECT to_timestamp_nanos((value * 7919) % {ROWS} * 1000), value \
         FROM generate_series(0, {})",
        ROWS - 1
    );
    run(&context, &format!("INSERT INTO '/a.series' {shuffled}")).await.unwrap();
    let rows = run(&context, "SELECT timestamp FROM '/a.series'").await.unwrap();
    let mut expected = 0;
    for batch in rows {
        for time in batch.column(0).as_primitive::<TimestampNanosecondType>().values() {
            assert_eq!(*time, expected * 1000);
            expected += 1;
        }
    }
    assert_eq!(expected, ROWS);
    // It is known that they are in order: nothing is sorted again.
    let plan = plan(&context, "EXPLAIN SELECT * FROM '/a.series' ORDER BY timestamp").await;
    assert!(!plan.contains("SortExec"), "{plan}");
}

async fn plan(context: &PondContext, sql: &str) -> String {
    let plan = run(context, sql).await.unwrap();
    datafusion::arrow::util::pretty::pretty_format_batches(&plan).unwrap().to_string()
}

#[tokio::test]
async fn explain_shows_how_the_rows_of_a_file_are_made() {
    let context = PondContext::new(tree().await);
    run(&context, "CREATE TABLE '/a.table' AS SELECT 1 AS id, 'x' AS name").await.unwrap();
    for (sql, expected) in [
        (
            "EXPLAIN UPDATE '/a.table' SET name = 'y' WHERE id > 2",
            "CASE WHEN /a.table.id > Int64(2) THEN",
        ),
        ("EXPLAIN DELETE FROM '/a.table' WHERE id > 2", "/a.table.id > Int64(2) IS NOT TRUE"),
        (
            "EXPLAIN DELETE FROM '/a.table' WHERE id IN (SELECT max(id) FROM '/a.table')",
            "RightMark Join",
        ),
        ("EXPLAIN CREATE TABLE '/b.table' AS SELECT 1 AS v", "ProjectionExec: expr=[1 as v]"),
        ("EXPLAIN COPY '/a.table' TO '/b.csv'", "TableScan: /a.table"),
    ] {
        let plan = plan(&context, sql).await;
        assert!(plan.contains(expected), "{sql}: {plan}");
    }
    assert_eq!(numbers(&context, "SELECT count(*) FROM pond_log()").await, [1]);
}

/// Both kinds of conditions keep the rows of a large table in their order.
#[tokio::test]
async fn rows_keep_their_order_when_some_of_them_change() {
    let context = PondContext::new(tree().await);
    run(&context, "CREATE TABLE '/a.table' AS SELECT value AS v FROM generate_series(1, 300000)")
        .await
        .unwrap();
    for change in [
        "UPDATE '/a.table' SET v = -v WHERE v % 2 = 0",
        "UPDATE '/a.table' SET v = -v WHERE v IN (SELECT v FROM '/a.table' WHERE v < 0)",
        "DELETE FROM '/a.table' WHERE v > 200000",
        "DELETE FROM '/a.table' WHERE v IN (SELECT v FROM '/a.table' WHERE v > 100000)",
        "INSERT INTO '/a.table' SELECT v + 100000 FROM '/a.table'",
    ] {
        run(&context, change).await.unwrap();
    }
    let values = numbers(&context, "SELECT v FROM '/a.table'").await;
    assert_eq!(values.len(), 200_000);
    assert!(values.is_sorted());
}

/// A relative link leads on from where it is, and not from the link that it was reached by.
#[tokio::test]
async fn a_link_below_a_link_leads_on_from_its_own_place() {
    let tree = tree().await;
    let context = PondContext::new(tree.clone());
    let path = |text| PondPath::parse(text).unwrap();
    run(&context, "CREATE TABLE '/x/t.table' AS SELECT 1 AS v").await.unwrap();
    let mut edit = tree.begin(None).await.unwrap();
    edit.mkdir(&path("/x/y"), false).await.unwrap();
    edit.symlink(&path("/a"), "x/y").await.unwrap();
    edit.symlink(&path("/x/y/l"), "../t.table").await.unwrap();
    edit.commit().await.unwrap();
    run(&context, "INSERT INTO '/a/l' VALUES (2)").await.unwrap();
    assert_eq!(numbers(&context, "SELECT sum(v) FROM '/x/t.table'").await, [3]);
}

/// A link is followed, and a file whose name tells nothing is told about: both come from the shell.
#[tokio::test]
async fn what_the_shell_has_made_is_written_to_or_refused() {
    let tree = tree().await;
    let context = PondContext::new(tree.clone());
    let path = |text| PondPath::parse(text).unwrap();
    let mut edit = tree.begin(None).await.unwrap();
    edit.symlink(&path("/link"), "d/a.table").await.unwrap();
    edit.symlink(&path("/loop"), "loop").await.unwrap();
    let bytes = futures::stream::once(async { Ok(bytes::Bytes::from_static(b"x")) });
    edit.write_bytes(&path("/data"), WriteMode::Create, Box::pin(bytes)).await.unwrap();
    edit.commit().await.unwrap();
    for change in [
        "CREATE TABLE '/link' AS SELECT 1 AS v",
        "INSERT INTO '/link' VALUES (2)",
        "UPDATE '/link' SET v = v * 10",
        "COPY (SELECT v FROM '/link' WHERE v > 10) TO '/link'",
    ] {
        run(&context, change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    }
    assert_eq!(numbers(&context, "SELECT v FROM '/d/a.table'").await, [20]);
    for (statement, expected) in [
        ("COPY (SELECT 1 AS v) TO '/data'", "'/data': its name tells no format"),
        ("COPY (SELECT 1 AS v) TO '/loop'", "'/loop' is a loop of symbolic links"),
        ("INSERT INTO '/data' VALUES (1)", "'/data' is a file:data: it takes no INSERT"),
    ] {
        let error = run(&context, statement).await.unwrap_err();
        assert_eq!(error.message(), expected, "{statement}");
    }
}

#[tokio::test]
async fn of_a_long_statement_the_log_keeps_the_beginning() {
    let context = PondContext::new(tree().await);
    let values = vec!["('é')"; 20_000].join(", ");
    run(&context, &format!("CREATE TABLE '/a.table' AS VALUES {values}")).await.unwrap();
    let lengths =
        "SELECT octet_length(message)::BIGINT FROM pond_log() WHERE message LIKE 'CREATE%…'";
    assert!((8_000..8_200).contains(&numbers(&context, lengths).await[0]));
    assert_eq!(numbers(&context, "SELECT count(*) FROM '/a.table'").await, [20_000]);
}

#[tokio::test]
async fn clones_of_a_context_share_its_transaction() {
    let context = PondContext::new(tree().await);
    run(&context, "BEGIN").await.unwrap();
    let clones = (0..4).map(|at| {
        let context = Arc::new(context.clone());
        tokio::spawn(async move {
            run(&context, &format!("CREATE TABLE '/{at}.table' AS SELECT 1 AS v")).await.unwrap();
        })
    });
    for clone in clones.collect::<Vec<_>>() {
        clone.await.unwrap();
    }
    assert!(context.roll_back().await);
    assert_eq!(numbers(&context, "SELECT count(*) FROM nodes()").await, [0]);
}
