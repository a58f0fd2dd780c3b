//! Tables and series that the pond stores, through the library.

use std::sync::Arc;

use datafusion::arrow::array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use pond::Result;
use pond::node::{Node, resolve};
use pond::path::PondPath;
use pond::pond::{At, Pond, PondOptions};
use pond::store::Durability;
use pond::tree::{Tree, WriteMode};

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
