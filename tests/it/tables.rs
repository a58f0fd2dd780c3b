//! Tables and series that the pond stores, through the library.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use pond::node::{Node, resolve};
use pond::path::PondPath;
use pond::pond::{At, Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Tree, WriteMode};
use pond::{ErrorKind, PondContext, Result};

fn path(text: &str) -> PondPath {
    PondPath::parse(text).unwrap()
}

async fn tree(dir: &std::path::Path) -> Tree {
    let options = PondOptions { durability: Durability::Process };
    Tree::new(Pond::init(dir, options).await.unwrap())
}

/// One row for each of these seconds.
fn rows(seconds: impl IntoIterator<Item = i64>) -> SendableRecordBatchStream {
    let seconds: Vec<i64> = seconds.into_iter().collect();
    let times: TimestampMicrosecondArray =
        seconds.iter().map(|second| Some(second * 1_000_000)).collect();
    let values: Float64Array = seconds.iter().map(|second| Some(*second as f64 / 2.0)).collect();
    let batch = RecordBatch::try_from_iter([
        ("timestamp", Arc::new(times) as _),
        ("value", Arc::new(values) as _),
    ])
    .unwrap();
    let stream = futures::stream::iter([Ok(batch.clone())]);
    Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream))
}

async fn append(tree: &Tree, to: &str, seconds: impl IntoIterator<Item = i64>) -> Result<i64> {
    let mut edit = tree.begin(None).await?;
    let there = tree.stored(&*tree.snapshot().await?, &path(to))?.is_some();
    let mode = if there { WriteMode::Append } else { WriteMode::Create };
    edit.write_table(&path(to), mode, None, None, rows(seconds)).await?;
    Ok(edit.commit().await?[0].txn.unwrap())
}

/// Runs `sql` over the series as it was at some point.
async fn query(tree: &Tree, at: At, sql: &str) -> String {
    let session = SessionContext::new();
    let root = tree.root(tree.as_of(at).await.unwrap());
    let Node::File(file) = resolve(&root, &path("/s.series")).await.unwrap() else {
        panic!("a series is a file")
    };
    let table = file.table(&session.state()).await.unwrap();
    session.register_table("series", table).unwrap();
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

const SUMMARY: &str = "SELECT count(*) AS n, count(value) AS v, min(timestamp) AS a, \
                       max(timestamp) AS b, sum(value) AS s, \
                       sum(value) FILTER (WHERE timestamp > to_timestamp_micros(60000000)) AS late \
                       FROM series";

#[tokio::test(flavor = "multi_thread")]
async fn a_series_shows_the_same_whatever_is_merged_and_so_does_its_past() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let mut expected = Vec::new();
    for version in 0..80i64 {
        // Every seventh comes late.
        let start = if version % 7 == 6 { version * 10 - 95 } else { version * 10 };
        let txn = append(&tree, "/s.series", start..start + 10).await.unwrap();
        expected.push((txn, query(&tree, At::Version(txn), SUMMARY).await));
    }
    let snapshot = tree.snapshot().await.unwrap();
    let series = tree.stored(&snapshot, &path("/s.series")).unwrap().unwrap().entry;
    assert_eq!(series.version, 80);
    let merged = snapshot.segments(series.node_id).count();
    assert!(merged > 0, "nothing was merged");
    for (txn, expected) in expected {
        assert_eq!(query(&tree, At::Version(txn), SUMMARY).await, expected, "transaction {txn}");
    }
    let newest = At::Version(snapshot.txn());
    let ascending = query(&tree, newest, "SELECT timestamp FROM series ORDER BY timestamp").await;
    let times: Vec<&str> = ascending.lines().filter(|line| line.contains("| 19")).collect();
    assert_eq!(times.len(), 800);
    assert!(times.is_sorted(), "{ascending}");
    let last = "SELECT timestamp FROM series ORDER BY timestamp DESC LIMIT 7";
    let last = query(&tree, newest, last).await;
    let wanted: Vec<&str> = times.iter().rev().take(7).copied().collect();
    assert_eq!(last.lines().filter(|line| line.contains("| 19")).collect::<Vec<_>>(), wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_goes_on_from_where_it_was_restored_to() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let series = path("/s.series");
    let mut txns = Vec::new();
    for version in 0..40i64 {
        txns.push(append(&tree, "/s.series", version * 10..version * 10 + 10).await.unwrap());
    }
    let at = At::Version(txns[19]);
    let count = "SELECT count(*) AS n, sum(value) AS s, max(timestamp) AS b FROM series";
    let then = query(&tree, at, count).await;
    let whole = query(&tree, At::Version(txns[39]), count).await;
    let mut edit = tree.begin(None).await.unwrap();
    edit.restore(&series, at).await.unwrap();
    edit.commit().await.unwrap();
    let now = |tree: Tree| async move {
        let newest = At::Version(tree.snapshot().await.unwrap().txn());
        query(&tree, newest, count).await
    };
    assert_eq!(now(tree.clone()).await, then);
    // What comes next is neither lost among the rows that went nor brings them back.
    for version in 20..60i64 {
        append(&tree, "/s.series", version * 10..version * 10 + 10).await.unwrap();
        if version == 39 {
            assert_eq!(now(tree.clone()).await, whole);
        }
    }
    assert!(now(tree.clone()).await.contains("| 600 "), "{}", now(tree.clone()).await);
    assert_eq!(query(&tree, at, count).await, then);
    assert_eq!(query(&tree, At::Version(txns[39]), count).await, whole);
}

/// A series whose first version has no rows, and whose columns change.
#[tokio::test(flavor = "multi_thread")]
async fn versions_without_rows_and_with_other_columns_keep_what_they_show() {
    let dir = tempfile::tempdir().unwrap();
    let context = PondContext::new(tree(dir.path()).await);
    let run = |sql: String| {
        let context = context.clone();
        async move {
            let batches = context.sql(&sql).await.unwrap().collect().await.unwrap();
            pretty_format_batches(&batches).unwrap().to_string()
        }
    };
    run("CREATE TABLE '/s.series' (timestamp TIMESTAMP, v BIGINT)".to_owned()).await;
    run("INSERT INTO '/s.series' VALUES ('2026-01-01', 9007199254740993)".to_owned()).await;
    let before = "SELECT * FROM '/s.series@v2'";
    let expected = run(before.to_owned()).await;
    for minute in 0..120 {
        run(format!(
            "INSERT INTO '/s.series' VALUES (TIMESTAMP '2026-01-02' + INTERVAL '{minute} minutes', 1)"
        ))
        .await;
    }
    let count = run("SELECT count(*), sum(v) FROM '/s.series'".to_owned()).await;
    assert!(count.contains("| 121      | 9007199254741113"), "{count}");
    for minute in 0..70 {
        run(format!(
            "COPY (SELECT TIMESTAMP '2026-01-03' + INTERVAL '{minute} minutes' AS timestamp, \
             'new' AS w) TO '/s.series'"
        ))
        .await;
    }
    assert_eq!(run(before.to_owned()).await, expected, "merging changed the past");
    let snapshot = context.tree().snapshot().await.unwrap();
    let series = context.tree().stored(&snapshot, &path("/s.series")).unwrap().unwrap();
    assert!(snapshot.segments(series.entry.node_id).count() >= 2);
    run("RESTORE NODE '/s.series' TO VERSION 1".to_owned()).await;
    for minute in 0..70 {
        run(format!(
            "INSERT INTO '/s.series' VALUES (TIMESTAMP '2026-01-02' + INTERVAL '{minute} minutes', 1)"
        ))
        .await;
    }
    let count = run("SELECT count(*), sum(v) FROM '/s.series'".to_owned()).await;
    assert!(count.contains("| 70       | 70 "), "{count}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_cannot_be_read_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let context = PondContext::new(tree.clone());
    let run = |sql: &'static str| {
        let context = context.clone();
        async move { context.sql(sql).await?.collect().await }
    };
    run("CREATE TABLE '/s.series' AS SELECT TIMESTAMP '2026-01-01' AS timestamp, \
         9007199254740993 AS v")
    .await
    .unwrap();
    // A float cannot hold what is there.
    let error = run("COPY (SELECT TIMESTAMP '2026-01-02' AS timestamp, 1.5 AS v) TO '/s.series'");
    let error = error.await.unwrap_err();
    assert!(error.message().contains("cannot hold 9007199254740993"), "{error}");
    // Of two that begin on the same version, the later is checked against the earlier.
    let series = path("/s.series");
    let mut late = tree.begin(None).await.unwrap();
    late.write_table(&series, WriteMode::Append, None, None, rows([1])).await.unwrap();
    run("COPY (SELECT TIMESTAMP '2026-01-02' AS timestamp, 'text' AS value) TO '/s.series'")
        .await
        .unwrap();
    assert_eq!(late.commit().await.unwrap_err().kind(), ErrorKind::Conflict);
    run("SELECT * FROM '/s.series'").await.unwrap();
}

/// Who is given up while it commits may have committed: then all that it names is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_given_up_takes_nothing_away_that_it_named() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let mut random = crate::world::Random(11);
    let mut given_up = 0;
    for number in 0..150 {
        let mut edit = tree.begin(None).await.unwrap();
        let content = crate::world::bytes(number, 100_000);
        let content = futures::stream::iter([Ok(content)]).boxed();
        let to = path(&format!("/f{number}"));
        edit.write_bytes(&to, WriteMode::Create, content).await.unwrap();
        let patience = std::time::Duration::from_micros(random.below(3000));
        given_up += usize::from(tokio::time::timeout(patience, edit.commit()).await.is_err());
    }
    assert!(given_up > 10, "{given_up} were given up");
    let mut findings = Vec::new();
    pond::keep::check(dir.path(), |error| findings.push(error)).await.unwrap();
    assert!(findings.is_empty(), "{} findings, as {}", findings.len(), findings[0]);
}

/// What another transaction has put, too, is not taken away with the one that gives it up; and what
/// is damaged is not taken for what is put.
#[tokio::test(flavor = "multi_thread")]
async fn equal_contents_are_kept_for_whoever_commits_and_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let bytes = || futures::stream::iter([Ok(bytes::Bytes::from(vec![7; 100_000]))]).boxed();
    let mut given_up = tree.begin(None).await.unwrap();
    given_up.write_bytes(&path("/a"), WriteMode::Create, bytes()).await.unwrap();
    let mut kept = tree.begin(None).await.unwrap();
    kept.write_bytes(&path("/b"), WriteMode::Create, bytes()).await.unwrap();
    kept.commit().await.unwrap();
    drop(given_up);
    let blobs = tree.pond().blobs();
    let blob = blobs.list().await.unwrap().remove(0);
    let sha256 = blob.sha256.clone().unwrap();
    blobs.verify(&sha256, 100_000).await.unwrap();
    let mut damaged = vec![7; 100_000];
    damaged[5] = 8;
    std::fs::write(&blob.path, damaged).unwrap();
    assert!(blobs.verify(&sha256, 100_000).await.is_err());
    let mut again = tree.begin(None).await.unwrap();
    again.write_bytes(&path("/c"), WriteMode::Create, bytes()).await.unwrap();
    again.commit().await.unwrap();
    blobs.verify(&sha256, 100_000).await.unwrap();
}

/// A directory that were its own parent would be lost.
#[tokio::test]
async fn a_directory_is_not_moved_into_itself_through_a_link() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree(dir.path()).await;
    let mut edit = tree.begin(None).await.unwrap();
    edit.mkdir(&path("/b"), false).await.unwrap();
    edit.symlink(&path("/a"), "b").await.unwrap();
    let error = edit.rename(&path("/b"), &path("/a/c")).await.unwrap_err();
    assert_eq!(error.message(), "'/b' cannot be moved into itself");
    // The link itself may go where it leads.
    edit.rename(&path("/a"), &path("/a/a")).await.unwrap();
    assert!(tree.stored(&edit.snapshot(), &path("/b/a")).unwrap().is_some());
}
