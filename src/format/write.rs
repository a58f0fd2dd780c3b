//! Writing rows as Parquet, the way scans like it. (signatures)

/// A streaming encoder: see the brief.
pub struct TableWriter;
impl TableWriter {
    pub fn new(schema: SchemaRef, temporal_column: Option<String>) -> Result<Self>;
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()>;
    pub fn take(&mut self) -> Bytes;
    pub fn finish(self) -> Result<(Bytes, TableFacts)>;
}

/// Rows being encoded on the blocking pool while their producer runs: what CREATE TABLE AS, INSERT
/// and put (CSV, JSON, Arrow) use. Dropping it stops both.
///
/// while let Some(bytes) = table.next().await? { blob.write(bytes).await? }
/// let facts = table.finish()?;
pub struct EncodedTable;
impl EncodedTable {
    /// `temporal`: None for file:table; for file:series what detect_temporal returned.
    pub fn new(rows: SendableRecordBatchStream, temporal_column: Option<String>) -> Result<Self>;
    pub async fn next(&mut self) -> Result<Option<Bytes>>;
    /// `Invalid` before `next` returned `None`.
    pub fn finish(self) -> Result<TableFacts>;
}

/// The temporal column of a series with these columns: `wanted`, or the one called `timestamp` (any
/// case); it has a timestamp or date type. Err(Invalid) names those it could be.
pub fn detect_temporal(schema: &Schema, wanted: Option<&str>) -> Result<String>;

/// Facts of a Parquet file stored as it is. `object` is readable in `store` (the staged blob).
/// Invalid("'/p' is not a Parquet file: …") if it is none. `temporal`: as for TableWriter.
pub async fn facts_of_parquet(store: Arc<dyn ObjectStore>, object: &ObjectMeta, path: &PondPath, series: Option<SeriesOptions /* wanted temporal column */>) -> Result<TableFacts>;

// compact.rs
/// Which versions to merge next, or None: ask after every append, merge, ask again.
pub fn next_merge(parts: &[Part]) -> Option<RangeInclusive<i64>>;
/// One file of a series as the policy sees it, in the order of versions.
pub struct Part { pub from: i64, pub to: i64, pub rows: u64, pub bytes: u64 }

/// Merges the files (series_sources(stored, a..=b, rows)) of versions a..=b.
/// `files` pair each source with its runs: a version's own file is [(version, rows)].
pub struct Merge;
impl Merge {
    pub async fn new(session/runtime, files: Vec<MergeFile>, versions) -> Result<Self>;
    pub async fn next(&mut self) -> Result<Option<Bytes>>;
    pub fn finish(self) -> Result<(TableFacts, Segment)>;
}
