//! Watching the files of a scan: each must stay what it was when it was opened, its errors carry
//! its pond path, and a reader that panics ends in an error.
//!
//! [`WatchedStore`] compares size, time and tag of a file with those it was opened with, whenever
//! the store tells them; [`WatchedSource`] wraps the engine's own file source, and checks once more
//! when the last row has been read. So a file that changes while it is read is an error and never
//! fewer rows. What a file rewritten in place with the same size and time holds cannot be told.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::Session;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::{
    FileGroup, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, Partitioning, PhysicalSortExpr,
};
use datafusion::physical_plan::filter_pushdown::FilterPushdownPropagation;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::{DisplayFormatType, PhysicalExpr, SortOrderPushdownResult};
use datafusion_datasource::TableSchema;
use datafusion_datasource::file_groups::FileGroupPartitioner;
use datafusion_datasource::morsel::{
    Morsel, MorselPlan, MorselPlanner, Morselizer, PendingMorselPlanner,
};
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::ends::Lane;
use super::{TableFormat, TableSource};
use crate::error::{Error, ErrorKind, Result};
use crate::path::PondPath;

/// The most of a text that is handed on at once: less than any batch of rows takes.
const PIECE_BYTES: usize = 8 * 1024;

/// A file as it was when it was opened.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PondPath,
    object: ObjectMeta,
    /// Whether it is named by its content, and so cannot change.
    immutable: bool,
    /// Whether it is read from its beginning to its end, as text.
    is_text: bool,
    /// Its bytes, if they came with it.
    inline: Option<Bytes>,
    /// Whether its identity has been seen since.
    seen: AtomicBool,
}

impl WatchedFile {
    /// Returns the files to watch by their location.
    pub(super) fn watch<'a>(
        sources: impl IntoIterator<Item = &'a TableSource>,
    ) -> HashMap<Path, WatchedFile> {
        let files = sources.into_iter().map(|source| {
            let file = WatchedFile {
                path: source.path.clone(),
                object: source.object.clone(),
                immutable: source.immutable,
                is_text: matches!(source.format, TableFormat::Json { .. }),
                inline: source.inline.clone(),
                seen: AtomicBool::new(false),
            };
            (source.object.location.clone(), file)
        });
        files.collect()
    }

    fn check(&self, now: &ObjectMeta) -> Result<()> {
        self.seen.store(true, Ordering::Relaxed);
        let then = &self.object;
        let same = then.size == now.size
            && then.last_modified == now.last_modified
            && (then.e_tag.is_none() || now.e_tag.is_none() || then.e_tag == now.e_tag);
        if same || self.immutable {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Io, format!("'{}' changed while it was being read", self.path))
            .with_hint("run the statement again"))
    }
}

/// The object store of some watched files. It only reads.
#[derive(Debug, Clone)]
pub(super) struct WatchedStore {
    inner: Arc<dyn ObjectStore>,
    files: Arc<HashMap<Path, WatchedFile>>,
}

impl WatchedStore {
    /// Watches `sources`, which are all in the store registered for `url`.
    pub(super) fn open<'a>(
        session: &dyn Session,
        url: &ObjectStoreUrl,
        sources: impl IntoIterator<Item = &'a TableSource>,
    ) -> Result<Self> {
        Self::new(session, url, Arc::new(WatchedFile::watch(sources)))
    }

    /// Watches `files`, which are all in the store registered for `url`.
    pub(super) fn new(
        session: &dyn Session,
        url: &ObjectStoreUrl,
        files: Arc<HashMap<Path, WatchedFile>>,
    ) -> Result<Self> {
        Ok(Self { inner: session.runtime_env().object_store(url)?, files })
    }

    /// Returns the store that has `location`: for a file whose bytes came with it, one of its own.
    async fn store_of(&self, location: &Path) -> object_store::Result<Arc<dyn ObjectStore>> {
        let Some(bytes) = self.files.get(location).and_then(|file| file.inline.clone()) else {
            return Ok(self.inner.clone());
        };
        let memory = InMemory::new();
        memory.put(location, bytes.into()).await?;
        Ok(Arc::new(memory))
    }

    /// Says in pond words what the store said of `location`.
    fn explain(&self, location: &Path, error: object_store::Error) -> object_store::Error {
        let Some(file) = self.files.get(location) else { return error };
        if file.immutable {
            let name = location.filename().unwrap_or_default();
            let missing = matches!(error, object_store::Error::NotFound { .. });
            // The cache may be cleared at any moment.
            let mut dirs = location.parts().rev().skip(1).take(2);
            if missing && dirs.any(|dir| dir.as_ref() == "files") {
                let gone = format!("'{}': the cache was cleared while it was read", file.path);
                return carry(
                    Error::new(ErrorKind::Conflict, gone)
                        .with_hint("run the statement again")
                        .with_source(error),
                );
            }
            // Nothing that the pond stores goes away, or changes, while it is named.
            let what = if missing { "missing" } else { "damaged" };
            return carry(
                Error::corrupt(format!("'{}': its blob {name} is {what}", file.path))
                    .with_hint("restore the file from a backup")
                    .with_source(error),
            );
        }
        let kind = match &error {
            object_store::Error::NotFound { .. } => {
                return carry(Error::not_found(format!("'{}' does not exist any more", file.path)));
            }
            object_store::Error::PermissionDenied { .. } => ErrorKind::PermissionDenied,
            _ => ErrorKind::Io,
        };
        carry(match Error::from(DataFusionError::from(error)) {
            ours if ours.kind() != ErrorKind::Engine => ours,
            engine => Error::new(kind, format!("'{}'", file.path)).with_source(engine),
        })
    }

    fn check(&self, location: &Path, now: &ObjectMeta) -> object_store::Result<()> {
        self.files.get(location).map_or(Ok(()), |file| file.check(now)).map_err(carry)
    }

    /// Whether a first read of `location` has yet to be followed by a check.
    fn is_unseen(&self, location: &Path) -> bool {
        self.files
            .get(location)
            .is_some_and(|file| !file.immutable && !file.seen.load(Ordering::Relaxed))
    }
}

/// Cuts what a text is read in: the engine's decoder takes in one more chunk for each batch that it
/// gives out, however many rows are waiting in those it has, so that large ones would pile up.
fn in_pieces(
    bytes: BoxStream<'static, object_store::Result<Bytes>>,
) -> BoxStream<'static, object_store::Result<Bytes>> {
    let cut = |mut chunk: Bytes| {
        std::iter::from_fn(move || {
            let piece = chunk.split_to(chunk.len().min(PIECE_BYTES));
            (!piece.is_empty()).then_some(Ok(piece))
        })
    };
    bytes.map_ok(move |chunk| stream::iter(cut(chunk))).try_flatten().boxed()
}

/// Sends one of our errors through an object store's.
fn carry(error: Error) -> object_store::Error {
    object_store::Error::Generic { store: "pond", source: Box::new(error) }
}

impl fmt::Display for WatchedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for WatchedStore {
    async fn get_opts(
        &self,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let result = self.store_of(location).await?.get_opts(location, options).await;
        let mut result = result.map_err(|error| self.explain(location, error))?;
        self.check(location, &result.meta)?;
        if self.files.get(location).is_some_and(|file| file.is_text)
            && let GetResultPayload::Stream(bytes) = result.payload
        {
            result.payload = GetResultPayload::Stream(in_pieces(bytes));
        }
        Ok(result)
    }

    async fn get_ranges(
        &self,
        location: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        let bytes = match self.store_of(location).await?.get_ranges(location, ranges).await {
            Ok(bytes) => bytes,
            Err(error) => {
                // A range beyond the end says less than that the file is shorter now.
                self.head(location).await?;
                return Err(self.explain(location, error));
            }
        };
        if self.is_unseen(location) {
            self.head(location).await?;
        }
        Ok(bytes)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_opts(
        &self,
        _: &Path,
        _: PutPayload,
        _: PutOptions,
    ) -> object_store::Result<PutResult> {
        Err(read_only())
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(read_only())
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        stream::once(async { Err(read_only()) }).boxed()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        Err(read_only())
    }
}

fn read_only() -> object_store::Error {
    carry(Error::read_only("a scan only reads"))
}

/// Runs `work` on the file `path`: a panic in it is an error, and an error of the engine names it.
pub(super) async fn isolate<T>(
    path: &PondPath,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(result) => result.map_err(|error| name(path, error)),
        Err(panic) => Err(panicked(path, panic.as_ref())),
    }
}

/// The longest text of a reader that is repeated: it may quote a whole row.
const ERROR_CHARS_MAX: usize = 400;

/// Makes the engine's error one about the file `path`; our own name it already.
fn name(path: &PondPath, error: Error) -> Error {
    if error.kind() != ErrorKind::Engine {
        return error;
    }
    let text = error.to_string();
    let mut text = ["Arrow error: ", "Parquet error: ", "Execution error: "]
        .iter()
        .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text))
        .to_owned();
    if let Some((end, _)) = text.char_indices().nth(ERROR_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    Error::corrupt(format!("'{path}': {text}"))
}

fn panicked(path: &PondPath, panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    Error::corrupt(format!("'{path}': the reader failed: {text}"))
}

/// One of the engine's file sources, over watched files.
#[derive(Clone)]
pub(super) struct WatchedSource {
    inner: Arc<dyn FileSource>,
    store: WatchedStore,
    /// If set, the scan is cut into partitions where the plan asks for them, and not before, once it
    /// has so many bytes.
    splits_from: Option<usize>,
    /// The files in the order of a column, if they are.
    lane: Option<Arc<Lane>>,
}

impl WatchedSource {
    pub(super) fn new(inner: Arc<dyn FileSource>, store: WatchedStore) -> Self {
        Self { inner, store, splits_from: None, lane: None }
    }

    /// Returns how many files its table has.
    pub(super) fn files(&self) -> usize {
        self.store.files.len()
    }

    /// Returns the path of the table, or of the file, that has a file.
    pub(super) fn path_of(&self, location: &Path) -> Option<PondPath> {
        self.store.files.get(location).map(|file| file.path.clone())
    }

    /// Returns the engine's own source.
    pub(super) fn inner(&self) -> &Arc<dyn FileSource> {
        &self.inner
    }

    /// Whether bytes of its table came with their row.
    #[cfg(feature = "ballista")]
    pub(super) fn holds_bytes(&self) -> bool {
        self.store.files.values().any(|file| file.inline.is_some())
    }

    /// Whether no file of its table ever changes.
    pub(super) fn is_immutable(&self) -> bool {
        self.store.files.values().all(|file| file.immutable)
    }

    /// Cuts a scan of at least `size_min` bytes into partitions where the plan asks for them: the
    /// largest group into parts that follow each other, so that an order of its rows is one of each
    /// part.
    pub(super) fn splitting(self, size_min: usize) -> Self {
        Self { splits_from: Some(size_min), ..self }
    }

    /// Adds the files as they were before the scan was cut into partitions, if they are in order.
    pub(super) fn with_lane(self, lane: Option<Lane>) -> Self {
        Self { lane: lane.map(Arc::new), ..self }
    }

    /// Returns the files in order.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.lane.as_deref()
    }

    fn wrap(&self, inner: Arc<dyn FileSource>) -> Arc<dyn FileSource> {
        Arc::new(Self { inner, ..self.clone() })
    }
}

impl FileSource for WatchedSource {
    fn create_file_opener(
        &self,
        _: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> EngineResult<Arc<dyn FileOpener>> {
        self.inner.create_file_opener(Arc::new(self.store.clone()), config, partition)
    }

    fn create_morselizer(
        &self,
        _: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        partition: usize,
    ) -> EngineResult<Box<dyn Morselizer>> {
        let store = Arc::new(self.store.clone());
        // See `keep_apart`: here it would have row groups skipped that come before others.
        let mut config = Cow::Borrowed(config);
        if !config.output_ordering.is_empty() && !config.preserve_order {
            config.to_mut().preserve_order = true;
        }
        Ok(Box::new(WatchedMorselizer {
            inner: self.inner.create_morselizer(store, &config, partition)?,
            store: self.store.clone(),
        }))
    }

    fn table_schema(&self) -> &TableSchema {
        self.inner.table_schema()
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        self.wrap(self.inner.with_batch_size(batch_size))
    }

    fn filter(&self) -> Option<Arc<dyn PhysicalExpr>> {
        self.inner.filter()
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        self.inner.projection()
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        self.inner.metrics()
    }

    fn file_type(&self) -> &str {
        self.inner.file_type()
    }

    fn fmt_extra(&self, format: DisplayFormatType, f: &mut fmt::Formatter) -> fmt::Result {
        self.inner.fmt_extra(format, f)
    }

    fn supports_repartitioning(&self) -> bool {
        self.inner.supports_repartitioning()
    }

    fn repartitioned(
        &self,
        partitions: usize,
        size_min: usize,
        ordering: Option<LexOrdering>,
        config: &FileScanConfig,
    ) -> EngineResult<Option<FileScanConfig>> {
        let Some(own_size_min) = self.splits_from else {
            return self.inner.repartitioned(partitions, size_min, ordering, config);
        };
        let groups = split_largest(&config.file_groups, partitions, size_min.min(own_size_min));
        Ok(groups.map(|groups| {
            let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups);
            keep_apart(config).build()
        }))
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> EngineResult<FilterPushdownPropagation<Arc<dyn FileSource>>> {
        let pushed = self.inner.try_pushdown_filters(filters, config)?;
        Ok(FilterPushdownPropagation {
            filters: pushed.filters,
            updated_node: pushed.updated_node.map(|inner| self.wrap(inner)),
        })
    }

    fn try_pushdown_sort(
        &self,
        order: &[PhysicalSortExpr],
        properties: &EquivalenceProperties,
    ) -> EngineResult<SortOrderPushdownResult<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_sort(order, properties)?.map(|inner| self.wrap(inner)))
    }

    fn reorder_files(&self, files: Vec<PartitionedFile>) -> Vec<PartitionedFile> {
        self.inner.reorder_files(files)
    }

    fn try_pushdown_projection(
        &self,
        projection: &ProjectionExprs,
    ) -> EngineResult<Option<Arc<dyn FileSource>>> {
        Ok(self.inner.try_pushdown_projection(projection)?.map(|inner| self.wrap(inner)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        self.inner.apply_expressions(f)
    }
}

/// So many files keep each partition busy unsplit.
const FILES_PER_PARTITION: usize = 4;

/// Splits the largest group into parts that follow each other, so that there are as many groups as
/// `partitions`; `None` if there are already, or if it has fewer than `size_min` bytes.
pub(super) fn split_largest(
    groups: &[FileGroup],
    partitions: usize,
    size_min: usize,
) -> Option<Vec<FileGroup>> {
    let size =
        |group: &FileGroup| -> u64 { group.iter().map(PartitionedFile::effective_size).sum() };
    let largest = (0..groups.len()).max_by_key(|at| size(&groups[*at]))?;
    let files = &groups[largest];
    let total = size(files);
    if groups.len() >= partitions || total < size_min as u64 {
        return None;
    }
    let parts = partitions - groups.len() + 1;
    let split = if files.len() >= FILES_PER_PARTITION * parts {
        // Whole files: one that is read by two partitions is opened by both.
        let mut split = vec![Vec::new(); parts];
        let mut before = 0;
        for file in files.iter() {
            let part = (before * parts as u64 / total.max(1)) as usize;
            split[part.min(parts - 1)].push(file.clone());
            before += file.effective_size();
        }
        split.into_iter().filter(|part| !part.is_empty()).map(FileGroup::new).collect()
    } else {
        FileGroupPartitioner::new()
            .with_target_partitions(parts)
            .with_repartition_file_min_size(size_min)
            .repartition_file_groups(&groups[largest..=largest])?
    };
    let mut groups = groups.to_vec();
    groups.splice(largest..=largest, split);
    Some(groups)
}

/// Keeps the partitions of an ordered scan from taking files of each other's.
///
/// The engine sees to that itself, but forgets it when a limit is pushed into the scan
/// (apache/datafusion issue 24272); partitions whose number is declared it leaves alone.
pub(super) fn keep_apart(config: FileScanConfigBuilder) -> FileScanConfigBuilder {
    let config = config.build();
    let partitions = (!config.output_ordering.is_empty() && config.file_groups.len() > 1)
        .then(|| Partitioning::UnknownPartitioning(config.file_groups.len()));
    FileScanConfigBuilder::from(config).with_output_partitioning(partitions)
}

/// A part of a watched file that is being read.
#[derive(Debug, Clone)]
struct Part {
    store: WatchedStore,
    location: Path,
}

impl Part {
    fn file(&self) -> &WatchedFile {
        self.store.files.get(&self.location).expect("a scan reads the files it watches")
    }

    fn path(&self) -> &PondPath {
        &self.file().path
    }

    /// Runs a step of planning.
    fn isolate<T>(&self, work: impl FnOnce() -> EngineResult<T>) -> EngineResult<T> {
        match std::panic::catch_unwind(AssertUnwindSafe(work)) {
            Ok(result) => result.map_err(|error| self.name(error)),
            Err(panic) => Err(panicked(self.path(), panic.as_ref()).into()),
        }
    }

    fn name(&self, error: DataFusionError) -> DataFusionError {
        if matches!(error.find_root(), DataFusionError::ResourcesExhausted(_)) {
            return error;
        }
        name(self.path(), Error::from(error)).into()
    }

    /// As [`Part::name`], but looks for the cause: a change of the file.
    async fn explain(&self, error: DataFusionError) -> DataFusionError {
        if let Err(changed) = self.check().await {
            return changed;
        }
        self.name(error)
    }

    /// Checks that the file is still what it was.
    async fn check(&self) -> EngineResult<()> {
        if !self.file().immutable {
            self.store.head(&self.location).await?;
        }
        Ok(())
    }

    fn watch(
        self,
        rows: BoxStream<'static, EngineResult<RecordBatch>>,
    ) -> BoxStream<'static, EngineResult<RecordBatch>> {
        let rows = AssertUnwindSafe(rows).catch_unwind().boxed();
        stream::unfold(Some((rows, self)), |state| async move {
            let (mut rows, part) = state?;
            let error = match rows.next().await {
                Some(Ok(Ok(batch))) => return Some((Ok(batch), Some((rows, part)))),
                Some(Ok(Err(error))) => part.explain(error).await,
                Some(Err(panic)) => panicked(part.path(), panic.as_ref()).into(),
                None => part.check().await.err()?,
            };
            Some((Err(error), None))
        })
        .boxed()
    }

    fn wrap(&self, inner: Box<dyn MorselPlanner>) -> Box<dyn MorselPlanner> {
        Box::new(WatchedPlanner { inner, part: self.clone() })
    }
}

#[derive(Debug)]
struct WatchedMorselizer {
    inner: Box<dyn Morselizer>,
    store: WatchedStore,
}

impl Morselizer for WatchedMorselizer {
    fn plan_file(&self, file: PartitionedFile) -> EngineResult<Box<dyn MorselPlanner>> {
        let part = Part { store: self.store.clone(), location: file.object_meta.location.clone() };
        let planner = part.isolate(|| self.inner.plan_file(file))?;
        Ok(part.wrap(planner))
    }
}

#[derive(Debug)]
struct WatchedPlanner {
    inner: Box<dyn MorselPlanner>,
    part: Part,
}

impl MorselPlanner for WatchedPlanner {
    fn plan(self: Box<Self>) -> EngineResult<Option<MorselPlan>> {
        let Self { inner, part } = *self;
        let Some(mut plan) = part.isolate(|| inner.plan())? else { return Ok(None) };
        let morsels = plan
            .take_morsels()
            .into_iter()
            .map(|inner| Box::new(WatchedMorsel { inner, part: part.clone() }) as Box<dyn Morsel>);
        let planners = plan.take_ready_planners().into_iter().map(|inner| part.wrap(inner));
        let mut watched =
            MorselPlan::new().with_morsels(morsels.collect()).with_planners(planners.collect());
        if let Some(pending) = plan.take_pending_planner().map(PendingMorselPlanner::into_future) {
            watched.set_pending_planner(async move {
                match AssertUnwindSafe(pending).catch_unwind().await {
                    Ok(Ok(planner)) => Ok(part.wrap(planner)),
                    Ok(Err(error)) => Err(part.explain(error).await),
                    Err(panic) => Err(panicked(part.path(), panic.as_ref()).into()),
                }
            });
        }
        Ok(Some(watched))
    }
}

#[derive(Debug)]
struct WatchedMorsel {
    inner: Box<dyn Morsel>,
    part: Part,
}

impl Morsel for WatchedMorsel {
    fn into_stream(self: Box<Self>) -> BoxStream<'static, EngineResult<RecordBatch>> {
        let Self { inner, part } = *self;
        match part.isolate(|| Ok(inner.into_stream())) {
            Ok(rows) => part.watch(rows),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }
}
