//! Reading part of the oplog: what a scan yields is what a filter over all rows would, in order, however
//! the rows lie in files.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use pond::entry::{EntryType, NodeId, OplogEntry, Segment};
use pond::oplog::{Oplog, Scan, TableState, Written};
use url::Url;

/// A table of 400 commits of 1 to 40 rows each, maintained on the way, and its rows.
async fn table() -> (Oplog, TableState, Vec<OplogEntry>, Vec<NodeId>) {
    let store = Arc::new(InMemory::new());
    let oplog = Oplog::new(store.clone(), store, &Url::parse("memory:///").unwrap());
    let mut state = oplog.create().await.unwrap();
    let nodes: Vec<NodeId> = (0..50).map(|_| NodeId::create()).collect();
    let mut all = Vec::new();
    for txn in 1..=400_i64 {
        let rows = if txn % 7 == 0 { 40 } else { 1 + txn % 3 };
        let rows: Vec<OplogEntry> = (0..rows).map(|at| row(txn, at, &nodes)).collect();
        all.extend(rows.clone());
        let Written::Done(commit) = oplog.write(&state, rows).await.unwrap() else {
            panic!("nobody else writes")
        };
        state.apply(&commit).unwrap();
        if oplog.needs_maintenance(&state) {
            oplog.maintain(&mut state).await.unwrap();
        }
    }
    (oplog, state, all, nodes)
}

fn row(txn: i64, at: i64, nodes: &[NodeId]) -> OplogEntry {
    let node = nodes[(txn * 31 + at * 17) as usize % nodes.len()];
    let mut row =
        OplogEntry::new(node, NodeId::ROOT, &format!("n{txn}-{at}"), EntryType::FileSeries);
    (row.txn, row.timestamp, row.version) = (txn, txn * 1000, at + 1);
    row.arrow_schema = Some("{}".into());
    row.statistics = Some("{\"numRecords\":1}".into());
    if txn % 10 == 0 {
        row.content = Some(Bytes::from(vec![txn as u8; 60_000]));
    }
    if txn % 50 == 0 && at == 3 {
        let segment = Segment { from: 1, to: at, sorted: true, runs: vec![(1, 1)] };
        row.attributes = Some(segment.attributes());
    } else if at == 1 {
        row.attributes = Some("{\"sorted\":true}".into());
    }
    row
}

async fn scanned(oplog: &Oplog, state: &TableState, scan: Scan) -> Vec<OplogEntry> {
    oplog.rows(&state.files, scan).try_concat().await.unwrap()
}

#[tokio::test]
async fn a_scan_yields_the_rows_that_a_filter_would_in_their_order() {
    let (oplog, state, all, nodes) = table().await;
    assert!(state.files.len() < 60, "{} files", state.files.len());
    let check = async |scan: Scan, wanted: &dyn Fn(&OplogEntry) -> bool, what: &str| {
        let expected: Vec<OplogEntry> = all.iter().filter(|row| wanted(row)).cloned().collect();
        let seen = scanned(&oplog, &state, scan).await;
        assert_eq!(seen.len(), expected.len(), "{what}");
        assert!(seen == expected, "{what}");
    };
    check(Scan::all(), &|_| true, "all").await;
    for txn in [0, 1, 33, 200, 399, 400, 1000] {
        check(Scan::up_to(txn), &|row| row.txn <= txn, "up to").await;
        let or_segment = |row: &OplogEntry| row.txn <= txn || row.is_segment();
        check(Scan::up_to(txn).and_segments(), &or_segment, "segments").await;
        check(Scan::txns(txn..=txn + 20), &|row| (txn..=txn + 20).contains(&row.txn), "range")
            .await;
        let few = [nodes[3], nodes[40]];
        check(
            Scan::up_to(txn).and_segments().of_nodes(few),
            &|row| few.contains(&row.node_id) && or_segment(row),
            "nodes",
        )
        .await;
    }
    check(Scan::all().of_nodes([NodeId::create()]), &|_| false, "no such node").await;

    let seen = scanned(&oplog, &state, Scan::all().without_content().without_facts()).await;
    let without = |row: &OplogEntry| OplogEntry {
        content: None,
        arrow_schema: None,
        statistics: None,
        ..row.clone()
    };
    assert!(seen == all.iter().map(without).collect::<Vec<_>>(), "columns left out");
}
