//! `EXPLAIN NODE '/p'`: how a node is made, down to the files that reading it opens.
//!
//! ```text
//! node  depth  path              factory            state   detail
//! node  0      /logs/trending…   sql_derived_table  live    SELECT hour, count(*) …
//! node  1      /logs/all_events… NULL               stored  NULL
//! scan  NULL   /logs/all_events… NULL               NULL    1 of 30 files, columns …, where …
//! plan  NULL   NULL              NULL               NULL    the physical plan
//! ```

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use datafusion::physical_plan::displayable;

use super::node_statements::file_properties;
use super::{Output, PondContext};
use crate::entry::OplogEntry;
use crate::error::{Error, Result};
use crate::factory::Config;
use crate::format::{Scan, scans_of};
use crate::node::{File, Freshness, Node, lookup};
use crate::path::PondPath;
use crate::snapshot::{Located, Snapshot};
use crate::tree::past::InTime;

/// One row of the answer.
#[derive(Debug, Default)]
struct Row {
    what: &'static str,
    depth: Option<i64>,
    path: Option<String>,
    factory: Option<String>,
    state: Option<String>,
    detail: Option<String>,
}

impl PondContext {
    /// Shows how the node at `path` is made, what of it is kept, and what its plan reads.
    pub(super) async fn explain_node(&self, path: &PondPath) -> Result<Output> {
        let binding = self.bind(Vec::new()).await?;
        let place = binding.in_time(path).await?;
        let found = lookup(&place.root, &place.path).await?;
        let Some(found) = found else { return Err(place.not_found().await) };
        let session = self.lean().bound(&binding);
        let mut rows = Vec::new();
        if let Node::File(file) = &found
            && self.tree().stored(&place.snapshot, &place.path)?.is_none()
        {
            rows.push(transient_row(&place.path, &**file, &session).await);
        }
        rows.extend(self.chain(&place, rows.len(), &session).await?);
        if matches!(found, Node::File(_)) {
            let plan = binding.plan_table(path).await?;
            rows.extend(scans_of(&plan).into_iter().map(scan_row));
            let text = displayable(plan.as_ref()).indent(false).to_string();
            let detail = Some(text.trim_end().to_owned());
            rows.push(Row { what: "plan", detail, ..Row::default() });
        }
        Output::rows(batch(&rows)?)
    }

    /// Returns a row for the node at `place`, or for the directory that makes it, and for each stored
    /// node that it is made from, the nearest first, from `depth` on.
    async fn chain(&self, place: &InTime, depth: usize, session: &dyn Session) -> Result<Vec<Row>> {
        let depth = i64::try_from(depth).unwrap_or(i64::MAX);
        let lineage = self.tree().lineage(&place.snapshot);
        let mut rows = Vec::new();
        let mut seen = HashSet::new();
        let mut waiting = VecDeque::from([(depth, place.path.clone())]);
        while let Some((depth, path)) = waiting.pop_front() {
            let Some((path, entry)) = stored(&place.snapshot, &path)? else { continue };
            if !seen.insert(path.clone()) {
                continue;
            }
            for source in lineage.sources(&entry).unwrap_or_default() {
                if source.nodes.is_empty() {
                    rows.push(Row {
                        what: "node",
                        depth: Some(depth + 1),
                        path: Some(source.named.path.to_string()),
                        detail: source.error,
                        ..Row::default()
                    });
                }
                waiting.extend(source.nodes.into_iter().map(|(path, _)| (depth + 1, path)));
            }
            rows.push(node_row(place, depth, &path, &entry, session).await);
        }
        rows.sort_by_key(|row| row.depth);
        Ok(rows)
    }
}

/// Returns the stored node that a path leads to: itself, or the dynamic directory that it is in.
fn stored(snapshot: &Snapshot, path: &PondPath) -> Result<Option<(PondPath, OplogEntry)>> {
    Ok(match snapshot.follow(path)? {
        (path, Located::Found(entry)) => Some((path, entry)),
        (path, Located::Dynamic { entry, .. }) => Some((path, entry)),
        _ => None,
    })
}

/// Describes a file that a directory makes.
async fn transient_row(path: &PondPath, file: &dyn File, session: &dyn Session) -> Row {
    let mut detail: Vec<String> = file.kept().into_iter().collect();
    detail.extend(file_properties(file, session).await.iter().map(property));
    Row {
        what: "node",
        depth: Some(0),
        path: Some(path.to_string()),
        state: state_of(file).await,
        detail: (!detail.is_empty()).then(|| detail.join("\n")),
        ..Row::default()
    }
}

fn property((name, value): &(&'static str, String)) -> String {
    format!("{name}: {value}")
}

async fn state_of(file: &dyn File) -> Option<String> {
    let freshness = file.freshness().await.ok()?;
    Some(freshness.as_str().unwrap_or("stored").to_owned())
}

async fn node_row(
    place: &InTime,
    depth: i64,
    path: &PondPath,
    entry: &OplogEntry,
    session: &dyn Session,
) -> Row {
    let mut row = Row {
        what: "node",
        depth: Some(depth),
        path: Some(path.to_string()),
        factory: entry.dynamic_factory().map(str::to_owned),
        ..Row::default()
    };
    let mut more = Vec::new();
    match lookup(&place.root, path).await {
        Ok(Some(Node::File(file))) => {
            row.state = state_of(&*file).await;
            let is_old = row.state.as_deref() == Freshness::Stale.as_str();
            more.extend(file.kept().map(|kept| match is_old {
                true => format!("{kept}, too old"),
                false => kept,
            }));
            if row.factory.is_some() {
                more.extend(file_properties(&*file, session).await.iter().map(property));
            }
        }
        Ok(Some(Node::Directory(directory))) if row.factory.is_some() => {
            let state = directory.state().await.ok().flatten();
            row.state = state.or_else(|| Freshness::Live.as_str().map(str::to_owned));
        }
        Ok(_) if row.factory.is_some() => {
            row.state = Freshness::Live.as_str().map(str::to_owned);
        }
        Ok(_) => row.state = Some("stored".to_owned()),
        Err(error) => {
            row.detail = Some(error.message().to_owned());
            return row;
        }
    }
    let config = Config::from_json(entry.content.as_deref().unwrap_or_default());
    let query = match (&row.factory, &config) {
        (Some(_), Ok(config)) => {
            config.text("sql_query").map_or_else(|| config.to_json(), str::to_owned)
        }
        _ => return row,
    };
    more.insert(0, query);
    row.detail = Some(more.join("\n"));
    row
}

fn scan_row(scan: Scan) -> Row {
    let paths: Vec<&str> = scan.paths.iter().map(PondPath::as_str).collect();
    let plural = if scan.of == 1 { "" } else { "s" };
    let mut detail =
        format!("{} of {} file{plural}, columns {}", scan.files, scan.of, scan.columns.join(", "));
    if let Some(predicate) = scan.predicate {
        detail.push_str(&format!(", where {predicate}"));
    }
    if let Some(limit) = scan.limit {
        detail.push_str(&format!(", limit {limit}"));
    }
    Row { what: "scan", path: Some(paths.join(", ")), detail: Some(detail), ..Row::default() }
}

fn batch(rows: &[Row]) -> Result<RecordBatch> {
    let text = |value: fn(&Row) -> Option<&str>| -> ArrayRef {
        Arc::new(rows.iter().map(value).collect::<StringArray>())
    };
    let columns = vec![
        text(|row| Some(row.what)),
        Arc::new(rows.iter().map(|row| row.depth).collect::<Int64Array>()),
        text(|row| row.path.as_deref()),
        text(|row| row.factory.as_deref()),
        text(|row| row.state.as_deref()),
        text(|row| row.detail.as_deref()),
    ];
    let field = |name: &str, kind| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        Field::new("what", DataType::Utf8, false),
        field("depth", DataType::Int64),
        field("path", DataType::Utf8),
        field("factory", DataType::Utf8),
        field("state", DataType::Utf8),
        field("detail", DataType::Utf8),
    ]);
    RecordBatch::try_new(Arc::new(schema), columns).map_err(Error::from)
}
