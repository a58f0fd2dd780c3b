//! Texts read directly, as a source of the engine's own `DataSourceExec`.
//!
//! All partitions take chunks from one queue, so that they end together however the work is cut, and
//! no text need be searched for line breaks within values before it is read. Rows come in the order of
//! the text where there is one partition, as there is for what is small.
//!
//! Columns are matched by name, file by file, and a file that lacks one has nulls there. A filter of
//! the plan above is looked at before the columns that only the rest of the plan needs: a batch in
//! which no row meets it is not read further.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::Statistics;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, conjunction};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr};
use datafusion_datasource::source::{DataSource, OpenArgs};
use futures::stream;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Mutex;

use super::super::{TableSource, WatchedStore, watch};
use super::chunks::{Chunks, Next};
use super::convert;
use super::decode::{Decoder, Reading, Rejects, Stop};
use super::options::Layout;
use crate::error::{Error, Result};
use crate::node::meets;
use crate::path::PondPath;

/// Bytes that a partition takes at once.
const CHUNK_BYTES: usize = 2 * 1024 * 1024;
/// How many paths a plan shows.
const SHOWN_PATHS: usize = 5;

/// A text of a scan.
#[derive(Debug, Clone)]
pub(in super::super) struct CsvFile {
    pub source: TableSource,
    pub layout: Arc<Layout>,
    pub store: WatchedStore,
}

/// Reads texts.
#[derive(Debug, Clone)]
pub(in super::super) struct CsvScan {
    files: Arc<Vec<CsvFile>>,
    /// The columns that it yields.
    schema: SchemaRef,
    partitions: usize,
    limit: Option<usize>,
    /// What rows must meet, over those columns.
    filter: Option<Arc<dyn PhysicalExpr>>,
    metrics: ExecutionPlanMetricsSet,
}

impl CsvScan {
    pub fn new(
        files: Vec<CsvFile>,
        schema: SchemaRef,
        partitions: usize,
        limit: Option<usize>,
    ) -> Self {
        let metrics = ExecutionPlanMetricsSet::new();
        Self { files: Arc::new(files), schema, partitions, limit, filter: None, metrics }
    }

    /// Returns the paths of the files.
    pub fn paths(&self) -> impl Iterator<Item = &PondPath> {
        self.files.iter().map(|file| &file.source.path)
    }

    /// Returns what rows must meet.
    pub fn filter(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        self.filter.as_ref()
    }

    /// Returns the names of the columns that it yields.
    pub fn columns(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }
}

/// Chunks for whichever partition comes next.
#[derive(Default)]
struct Queue {
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    file: usize,
    chunks: Option<Chunks>,
}

impl Queue {
    /// Returns the next chunk, and the file that it is of. `step` files on is the next one.
    async fn next(&self, files: &[CsvFile], step: usize) -> Result<Option<(usize, Next)>> {
        let mut current = self.current.lock().await;
        loop {
            let at = current.file;
            let Some(file) = files.get(at) else { return Ok(None) };
            let chunks = match &mut current.chunks {
                Some(chunks) => chunks,
                none => none.insert(Chunks::new(
                    Arc::new(file.store.clone()),
                    &file.source,
                    &file.layout,
                    CHUNK_BYTES,
                )?),
            };
            match watch::isolate(&file.source.path, chunks.next()).await? {
                Next::End => {
                    // Says so if it changed on the way.
                    if !file.source.immutable && file.source.object.size > 0 {
                        let location = &file.source.object.location;
                        file.store.head(location).await.map_err(Error::from_store)?;
                    }
                    current.chunks = None;
                    current.file += step;
                }
                next => return Ok(Some((at, next))),
            }
        }
    }
}

/// What one partition is at.
struct Partition {
    scan: CsvScan,
    queue: Arc<Queue>,
    step: usize,
    decoder: Option<(usize, Decoder)>,
    ready: VecDeque<RecordBatch>,
    left: usize,
    metrics: BaselineMetrics,
    bytes: Count,
    /// Whether a column must have a wider type.
    widens: bool,
}

impl Partition {
    async fn next(mut self) -> EngineResult<Option<(RecordBatch, Self)>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if let Some(mut batch) = self.ready.pop_front() {
                if batch.num_rows() > self.left {
                    batch = batch.slice(0, self.left);
                }
                self.left -= batch.num_rows();
                self.metrics.record_output(batch.num_rows());
                return Ok(Some((batch, self)));
            }
            let files = self.scan.files.clone();
            let Some((at, next)) = self.queue.next(&files, self.step).await? else {
                return Ok(None);
            };
            // Whoever waits for the next chunk was woken on this thread, and no other one takes it on
            // until this task stands back.
            tokio::task::yield_now().await;
            if let Next::Records(chunk) = next {
                self.bytes.add(chunk.bytes.len());
                let time = self.metrics.elapsed_compute().clone();
                let _timer = time.timer();
                let path = &files[at].source.path;
                let read = async { self.read(at, &files[at], &chunk) };
                let read = watch::isolate(path, read).await;
                if self.widens {
                    // All of the text tells at once what else it has.
                    let file = &files[at];
                    let store: Arc<dyn ObjectStore> = Arc::new(file.store.clone());
                    let wide = convert::widen(&store, &file.source, &file.layout).await?;
                    super::remember_wider(&file.source, &wide);
                }
                read?;
            }
        }
    }

    fn read(&mut self, at: usize, file: &CsvFile, chunk: &super::chunks::Chunk) -> Result<()> {
        let schema = &self.scan.schema;
        let mut decoder = match self.decoder.take() {
            Some((of, decoder)) if of == at => decoder,
            _ => {
                let reading = reading_of(file, schema)?;
                let decoder = Decoder::new(reading)?;
                match self.scan.filter.as_ref().and_then(|filter| first_of(filter, file, schema)) {
                    Some((columns, filter)) => decoder.with_filter(columns, filter),
                    None => decoder,
                }
            }
        };
        let filter = self.scan.filter.clone();
        let (ready, left) = (&mut self.ready, self.left);
        let mut rows = 0;
        let decoded = decoder.decode(chunk, &mut Rejects::counted(), |batch| {
            let mut batch = conform(&batch, schema)?;
            if let Some(filter) = &filter {
                batch = filter_record_batch(&batch, &meets(filter, &batch)?)?;
            }
            rows += batch.num_rows();
            if batch.num_rows() > 0 {
                ready.push_back(batch);
            }
            Ok(rows < left)
        });
        match decoded {
            Ok(()) => {
                self.decoder = Some((at, decoder));
                Ok(())
            }
            Err(stop) => {
                self.widens = matches!(stop, Stop::Widen { .. });
                Err(stop.into_error(decoder.reading()))
            }
        }
    }
}

/// Returns what is to be read of a file for rows with these columns.
fn reading_of(file: &CsvFile, schema: &SchemaRef) -> Result<Reading> {
    let place = |name: &str| file.layout.columns.iter().position(|column| column.name == name);
    let wanted = schema.fields().iter().filter_map(|field| place(field.name())).collect();
    Reading::new(file.source.path.clone(), file.layout.clone(), wanted)
}

/// Returns the columns of a file that a filter of rows with these columns looks at, and the filter over
/// them alone; `None` if the file has them otherwise.
fn first_of(
    filter: &Arc<dyn PhysicalExpr>,
    file: &CsvFile,
    schema: &SchemaRef,
) -> Option<(Vec<usize>, Arc<dyn PhysicalExpr>)> {
    let mut looked_at: Vec<usize> =
        collect_columns(filter).iter().map(|column| column.index()).collect();
    looked_at.sort_unstable();
    let columns = looked_at.iter().map(|at| {
        let field = schema.field(*at);
        let columns = &file.layout.columns;
        columns
            .iter()
            .position(|own| own.name == *field.name() && own.data_type == *field.data_type())
    });
    let columns = columns.collect::<Option<Vec<_>>>()?;
    let alone = schema.project(&looked_at).ok()?;
    let filter = reassign_expr_columns(filter.clone(), &alone).ok()?;
    Some((columns, filter))
}

/// Gives rows the columns that are wanted: cast where types differ, null where they are missing.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.schema_ref().fields() == schema.fields() {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
        Some(column) => Ok(cast(column, field.data_type())?),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &rows)?)
}

impl DataSource for CsvScan {
    /// Without a queue to share, each partition has files of its own.
    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> EngineResult<SendableRecordBatchStream> {
        self.open_with_args(OpenArgs::new(partition, context))
    }

    fn open_with_args(&self, args: OpenArgs) -> EngineResult<SendableRecordBatchStream> {
        let shared = args.sibling_state.and_then(|state| state.downcast::<Queue>().ok());
        let (queue, step) = match shared {
            Some(queue) => (queue, 1),
            None => {
                let current = Current { file: args.partition, chunks: None };
                (Arc::new(Queue { current: Mutex::new(current) }), self.partitions)
            }
        };
        let partition = Partition {
            queue,
            step,
            decoder: None,
            ready: VecDeque::new(),
            left: self.limit.unwrap_or(usize::MAX),
            metrics: BaselineMetrics::new(&self.metrics, args.partition),
            bytes: MetricBuilder::new(&self.metrics).counter("bytes_scanned", args.partition),
            widens: false,
            scan: self.clone(),
        };
        let batches = stream::try_unfold(partition, Partition::next);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches)))
    }

    fn create_sibling_state(
        &self,
        _: &ConfigOptions,
    ) -> Option<Arc<dyn std::any::Any + Send + Sync>> {
        Some(Arc::new(Queue::default()))
    }

    fn fmt_as(&self, t: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        let paths: Vec<&str> = self.paths().take(SHOWN_PATHS).map(PondPath::as_str).collect();
        let more = if self.files.len() > paths.len() { ", …" } else { "" };
        if t == DisplayFormatType::TreeRender {
            return writeln!(f, "format=csv\nfiles={}", self.files.len());
        }
        let columns = self.columns().join(", ");
        write!(f, "csv=[{}{more}], projection=[{columns}]", paths.join(", "))?;
        if let Some(limit) = self.limit {
            write!(f, ", limit={limit}")?;
        }
        match &self.filter {
            Some(filter) => write!(f, ", predicate={filter}"),
            None => Ok(()),
        }
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(self.schema.clone())
    }

    fn partition_statistics(&self, _: Option<usize>) -> EngineResult<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema)))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(
        &self,
        _: &ProjectionExprs,
    ) -> EngineResult<Option<Arc<dyn DataSource>>> {
        Ok(None)
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        datafusion::physical_plan::apply_expression_roots(self.filter.iter(), f)
    }

    /// Takes all filters, and applies them exactly.
    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> EngineResult<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        // A limit counts rows that meet the filters it was set over.
        if self.limit.is_some() || filters.is_empty() {
            let none = vec![PushedDown::No; filters.len()];
            return Ok(FilterPushdownPropagation::with_parent_pushdown_result(none));
        }
        let taken = vec![PushedDown::Yes; filters.len()];
        let filter = conjunction(self.filter.iter().cloned().chain(filters));
        let source = Self { filter: Some(filter), ..self.clone() };
        Ok(FilterPushdownPropagation::with_parent_pushdown_result(taken)
            .with_updated_node(Arc::new(source) as Arc<dyn DataSource>))
    }
}
