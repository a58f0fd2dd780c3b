//! `nodes([path])`: the stored nodes below a directory, and what is stored about each.
//!
//! It is what the pond keeps, not what it shows: children of dynamic directories are for `ls()`.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::catalog::Binding;
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::node::{Freshness, Node, lookup};
use crate::path::PondPath;
use crate::tree::StoredNode;
use crate::tree::past::InTime;

/// The function.
pub(super) static SIGNATURE: Signature = Signature { name: "nodes", parameters: &["path"] };

/// `nodes()` of one binding.
#[derive(Debug)]
pub(super) struct Nodes(pub Arc<Binding>);

impl TableFunctionImpl for Nodes {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.0.path(args.text("path")?.as_deref().unwrap_or("/"))?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(nodes_schema(), move || {
            let (binding, path) = (binding.clone(), path.clone());
            async move { nodes_batch(&binding, &path, true).await }
        })))
    }
}

/// Returns the stored nodes below the directory `path`.
///
/// # Errors
/// `NotFound`; `Unsupported` for a directory that stores none because a factory makes its children;
/// `Invalid` for what is no directory.
async fn stored_nodes(
    place: &InTime,
    binding: &Binding,
    recursive: bool,
) -> Result<Vec<StoredNode>> {
    let tree = binding.tree();
    let (path, snapshot) = (&place.path, &place.snapshot);
    let by_factory = |factory: &str, at: &PondPath| {
        Error::unsupported(format!(
            "'{path}' stores no nodes: the {factory} node '{at}' makes them on access"
        ))
        .with_hint(format!("list them: SELECT * FROM ls('{path}')"))
    };
    match tree.stored(snapshot, path)? {
        Some(StoredNode { entry, .. }) => match (entry.dynamic_factory(), entry.entry_type) {
            (Some(factory), EntryType::Directory) => Err(by_factory(factory, path)),
            (None, EntryType::Directory) => tree.stored_below(snapshot, path, recursive),
            _ => Err(Error::invalid(format!("'{path}' is not a directory"))),
        },
        None if path.is_root() => tree.stored_below(snapshot, path, recursive),
        None => {
            if lookup(&place.root, path).await?.is_none() {
                return Err(place.not_found().await);
            }
            let mut at = path.clone();
            while let Some((parent, _)) = at.split() {
                if let Some(node) = tree.stored(snapshot, &parent)?
                    && let Some(factory) = node.entry.dynamic_factory()
                {
                    return Err(by_factory(factory, &parent));
                }
                at = parent;
            }
            // A link on the way leads elsewhere in the pond.
            Err(Error::invalid(format!("'{path}' is reached through a symbolic link"))
                .with_hint(format!("list it: SELECT * FROM ls('{path}')")))
        }
    }
}

/// Returns the columns of `nodes()`.
pub(crate) fn nodes_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("path", DataType::Utf8View, false),
            Field::new("name", DataType::Utf8View, false),
            Field::new("entry_type", DataType::Utf8View, false),
            Field::new("factory", DataType::Utf8View, true),
            Field::new("options", DataType::Utf8View, true),
            Field::new("comment", DataType::Utf8View, true),
            Field::new("dynamic", DataType::Boolean, false),
            Field::new("size", DataType::Int64, true),
            Field::new("version", DataType::Int64, false),
            // Neither is known of what an open transaction has made.
            Field::new("txn", DataType::Int64, true),
            Field::new("changed", time, true),
            // How new what a dynamic node shows is: live, fresh, stale, cached, unconverted; of many
            // files together, how many are which.
            Field::new("state", DataType::Utf8View, true),
            Field::new("error", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Returns the rows of `nodes()`: the stored nodes below the directory `path`; with `recursive`, all of
/// them.
///
/// # Errors
/// Those of [`stored_nodes`].
pub(crate) async fn nodes_batch(
    binding: &Binding,
    path: &PondPath,
    recursive: bool,
) -> Result<RecordBatch> {
    let place = binding.in_time(path).await?;
    let nodes = stored_nodes(&place, binding, recursive).await?;
    let mut states = Vec::with_capacity(nodes.len());
    for node in &nodes {
        states.push(match node.entry.dynamic_factory() {
            Some(_) if node.error.is_none() => state_of(&place, &node.path).await,
            _ => None,
        });
    }
    let text = |value: fn(&StoredNode) -> Option<String>| -> ArrayRef {
        Arc::new(nodes.iter().map(value).collect::<StringViewArray>())
    };
    let number = |value: fn(&StoredNode) -> Option<i64>| -> ArrayRef {
        Arc::new(nodes.iter().map(value).collect::<Int64Array>())
    };
    let times = nodes.iter().map(|node| Some(node.entry.timestamp).filter(|time| *time > 0));
    let dynamic = nodes.iter().map(|node| Some(node.entry.dynamic_factory().is_some()));
    let columns = vec![
        text(|node| Some(node.path.as_str().to_owned())),
        text(|node| Some(node.path.name().to_owned())),
        text(|node| Some(node.entry.entry_type.as_str().to_owned())),
        text(|node| node.entry.dynamic_factory().map(str::to_owned)),
        text(stored_options),
        text(|node| node.entry.comment()),
        Arc::new(dynamic.collect::<BooleanArray>()),
        number(|node| node.entry.size),
        number(|node| Some(node.entry.version)),
        number(|node| Some(node.entry.txn).filter(|txn| *txn > 0)),
        Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC")),
        Arc::new(states.into_iter().collect::<StringViewArray>()),
        text(|node| node.error.clone()),
    ];
    Ok(RecordBatch::try_new(nodes_schema(), columns)?)
}

/// Returns how new what a dynamic node shows is.
async fn state_of(place: &InTime, path: &PondPath) -> Option<String> {
    match lookup(&place.root, path).await {
        Ok(Some(Node::File(file))) => file.freshness().await.ok()?.as_str().map(str::to_owned),
        Ok(Some(Node::Directory(directory))) => match directory.state().await.ok()? {
            None => Freshness::Live.as_str().map(str::to_owned),
            state => state,
        },
        // Its error is told elsewhere.
        _ => None,
    }
}

/// The configuration of a dynamic node as it is stored, a JSON object.
fn stored_options(node: &StoredNode) -> Option<String> {
    node.entry.dynamic_factory()?;
    let content = node.entry.content.as_deref()?;
    Some(String::from_utf8_lossy(content).into_owned())
}
