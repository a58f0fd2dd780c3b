//! `lineage(path [, direction])`: what a node is made from, and what is made from it; a row for each
//! time that something reads something.
//!
//! `path` is the end that is farther away: upstream, what is read, and `read_by` says by whom;
//! downstream, who reads, and `reads` says what.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::error::Result as EngineResult;

use super::arguments::{Arguments, Signature};
use super::rows::Rows;
use crate::catalog::Binding;
use crate::error::Result;
use crate::path::PondPath;
use crate::tree::{Direction, Edge, LineageGraph, Vertex};

/// The function.
pub(super) static SIGNATURE: Signature =
    Signature { name: "lineage", parameters: &["path", "direction"] };

/// `lineage()` of one binding.
#[derive(Debug)]
pub(super) struct LineageRows(pub Arc<Binding>);

impl TableFunctionImpl for LineageRows {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.0.path(&args.required_text("path")?)?;
        let direction = args.text("direction")?.map(|text| Direction::parse(&text)).transpose()?;
        self.0.mark_used();
        let binding = self.0.clone();
        Ok(Arc::new(Rows::new(schema(), move || {
            let (binding, path) = (binding.clone(), path.clone());
            async move { lineage_batch(&lineage_of(&binding, &path, direction).await?) }
        })))
    }
}

/// Returns the lineage of the node at `path`.
///
/// # Errors
/// Those of [`crate::tree::Tree::lineage_of`].
pub(crate) async fn lineage_of(
    binding: &Binding,
    path: &PondPath,
    direction: Option<Direction>,
) -> Result<LineageGraph> {
    binding.tree().lineage_of(&binding.in_time(path).await?, direction).await
}

fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("direction", DataType::Utf8View, false),
            Field::new("depth", DataType::Int64, false),
            Field::new("path", DataType::Utf8View, false),
            Field::new("read_by", DataType::Utf8View, true),
            Field::new("reads", DataType::Utf8View, true),
            Field::new("entry_type", DataType::Utf8View, true),
            Field::new("factory", DataType::Utf8View, true),
            Field::new("error", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Makes rows as those of `lineage()`.
///
/// # Errors
/// None that is expected.
pub fn lineage_batch(graph: &LineageGraph) -> Result<RecordBatch> {
    fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        Arc::new(values.collect::<StringViewArray>())
    }
    let edges = || graph.edges.iter();
    let far = |edge: &Edge| -> &Vertex { &graph.vertices[edge.far()] };
    let near = |edge: &Edge, direction| {
        (edge.direction == direction).then(|| graph.vertices[edge.near()].path.as_str())
    };
    let depths = edges().map(|edge| i64::try_from(edge.depth).ok());
    let columns: Vec<ArrayRef> = vec![
        text(edges().map(|edge| Some(edge.direction.as_str()))),
        Arc::new(depths.collect::<Int64Array>()),
        text(edges().map(|edge| Some(far(edge).path.as_str()))),
        text(edges().map(|edge| near(edge, Direction::Upstream))),
        text(edges().map(|edge| near(edge, Direction::Downstream))),
        text(edges().map(|edge| far(edge).entry_type.map(|kind| kind.as_str()))),
        text(edges().map(|edge| far(edge).factory.as_deref())),
        text(edges().map(|edge| far(edge).error.as_deref())),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}
