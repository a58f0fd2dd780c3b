//! What the harnesses of reliability share: a pond with something of everything in it, changed at random
//! by steps that can be told from each other, and a picture of all that it shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{Float64Array, RecordBatch, TimestampMicrosecondArray};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::SessionContext;
use futures::{StreamExt, TryStreamExt};
use pond::Result;
use pond::entry::{EntryType, NodeId};
use pond::node::{Node, resolve};
use pond::path::PondPath;
use pond::pond::{At, Pond};
use pond::snapshot::Snapshot;
use pond::tree::{DropNodes, Edit, Tree, WriteMode};

use crate::oplog::{FAST, path};

/// A small generator of its own, so that a failure's seed is enough to see it again.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

pub async fn open(dir: &std::path::Path) -> Tree {
    Tree::new(Pond::open(dir, FAST).await.unwrap())
}

pub async fn init(dir: &std::path::Path) -> Tree {
    Tree::new(Pond::init(dir, FAST).await.unwrap())
}

/// Bytes that are different for each `seed`.
pub fn bytes(seed: u64, length: usize) -> Bytes {
    let mut random = Random(seed);
    (0..length).map(|_| random.below(256) as u8).collect()
}

/// Rows of a series: ten, from this second on.
pub fn rows(second: i64) -> SendableRecordBatchStream {
    let seconds = second..second + 10;
    let times: TimestampMicrosecondArray = seconds.clone().map(|it| Some(it * 1_000_000)).collect();
    let values: Float64Array = seconds.map(|second| Some(second as f64)).collect();
    let columns = [("timestamp", Arc::new(times) as _), ("value", Arc::new(values) as _)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let stream = futures::stream::iter([Ok(batch.clone())]);
    Box::pin(RecordBatchStreamAdapter::new(batch.schema(), stream))
}

/// Writes a file, in an edit of its own; returns its transaction.
pub async fn write(tree: &Tree, to: &str, content: Bytes) -> Result<i64> {
    let mut edit = tree.begin(None).await?;
    write_in(&mut edit, to, content).await?;
    Ok(edit.commit().await?[0].txn.unwrap())
}

/// Writes a file.
pub async fn write_in(edit: &mut Edit, to: &str, content: Bytes) -> Result<()> {
    let stream = futures::stream::once(async { Ok(content) }).boxed();
    edit.write_bytes(&path(to), WriteMode::Replace, stream).await.map(drop)
}

/// Appends ten rows to a series, in an edit of its own; returns its transaction.
pub async fn append(tree: &Tree, to: &str, second: i64) -> Result<i64> {
    let mut edit = tree.begin(None).await?;
    append_in(&mut edit, to, second).await?;
    Ok(edit.commit().await?[0].txn.unwrap())
}

/// Appends ten rows to a series.
pub async fn append_in(edit: &mut Edit, to: &str, second: i64) -> Result<()> {
    let there = edit.tree().stored(&edit.snapshot(), &path(to))?.is_some();
    let mode = if there { WriteMode::Append } else { WriteMode::Create };
    edit.write_table(&path(to), mode, None, None, rows(second)).await.map(drop)
}

pub async fn remove(tree: &Tree, at: &str) -> Result<i64> {
    let changes = tree
        .drop_nodes(&[path(at)], DropNodes { recursive: true, ..DropNodes::default() }, None)
        .await?;
    Ok(changes[0].txn.unwrap())
}

/// All that a pond shows: each path with its type, and a digest of its contents.
pub type Picture = BTreeMap<String, String>;

/// Reads everything there is, now or at some point of the past.
pub async fn picture(tree: &Tree, at: Option<At>) -> Result<Picture> {
    let snapshot = match at {
        Some(at) => tree.as_of(at).await?,
        None => tree.snapshot().await?,
    };
    let mut picture = Picture::new();
    let mut directories = vec![(PondPath::root(), NodeId::ROOT)];
    while let Some((at, id)) = directories.pop() {
        for child in snapshot.children(id) {
            let child = child?;
            let path = at.child(&child.name);
            let digest = match child.entry_type {
                EntryType::Directory => {
                    directories.push((path.clone(), child.node_id));
                    String::new()
                }
                EntryType::FileSeries => series(tree, &snapshot, &path).await?,
                _ => file(tree, &snapshot, &path).await?,
            };
            picture.insert(path.to_string(), format!("{} {digest}", child.entry_type));
        }
    }
    Ok(picture)
}

async fn node(tree: &Tree, snapshot: &Arc<Snapshot>, path: &PondPath) -> Result<Node> {
    resolve(&tree.root(snapshot.clone()), path).await
}

async fn file(tree: &Tree, snapshot: &Arc<Snapshot>, path: &PondPath) -> Result<String> {
    let Node::File(file) = node(tree, snapshot, path).await? else { panic!("'{path}' is no file") };
    let mut stream = file.bytes().await?.expect("a stored file has bytes");
    let (mut crc, mut length) = (crc32fast::Hasher::new(), 0);
    while let Some(chunk) = stream.try_next().await? {
        crc.update(&chunk);
        length += chunk.len();
    }
    Ok(format!("{length} bytes, {:08x}", crc.finalize()))
}

async fn series(tree: &Tree, snapshot: &Arc<Snapshot>, path: &PondPath) -> Result<String> {
    let Node::File(file) = node(tree, snapshot, path).await? else { panic!("'{path}' is no file") };
    let session = SessionContext::new();
    let table = file.table(&session.state()).await?;
    let batches = session.read_table(table)?.collect().await?;
    let (mut rows, mut sum) = (0, 0.0);
    for batch in &batches {
        rows += batch.num_rows();
        let values = batch.column_by_name("value").expect("each row has one");
        let values = values.as_any().downcast_ref::<Float64Array>().expect("it is a number");
        sum += values.iter().flatten().sum::<f64>();
    }
    Ok(format!("{rows} rows, {sum}"))
}
