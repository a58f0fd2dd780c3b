//! What the pond knows of a stored Parquet file: the facts of its row, made ready to plan with.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::parquet::arrow::arrow_reader::RowSelection;

use crate::entry::TableFacts;
use crate::error::Result;

/// What the pond knows of a Parquet file that it keeps, so that planning opens no file.
///
/// Only for files that never change: they are not watched.
#[derive(Debug, Clone)]
pub struct KnownTable {
    /// The columns, with text as `Utf8View` and bytes as `BinaryView`.
    pub schema: SchemaRef,
    /// Row count and column bounds, in the order of `schema`: of the rows in `rows`. A bound is
    /// exact or absent.
    pub statistics: Arc<Statistics>,
    /// The column that orders a series.
    pub temporal_column: Option<String>,
    /// Whether the rows are in its order; it has no nulls then.
    pub sorted: bool,
    /// Which rows of the file belong to the table; `None` for all.
    pub rows: Option<RowSelection>,
}

impl KnownTable {
    /// Reads the facts of a row. What has been read before is found in a memo, so that a query over
    /// a thousand files parses nothing.
    ///
    /// # Errors
    /// `Corrupt` if the facts are not what [`super::TableWriter`] writes.
    pub fn from_facts(facts: &TableFacts) -> Result<Arc<Self>> {
        let _ = facts;
        todo!()
    }
}
