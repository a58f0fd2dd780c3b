//! `ls(path_or_glob [, recursive => …, hidden => …])`: the tree as rows.
//!
//! # Model
//! `ls('/dir')` lists a directory's children, `ls('/file')` the file, a glob everything that matches;
//! `recursive => true` adds everything below. A path that exists is never taken for a glob. A literal
//! path that does not exist is an error, a glob without matches is no rows.
//!
//! A scan resolves the path and then walks. Directories that have a fast walk of their own
//! ([`Directory::walk`]) are left to it, as many streams as the session wants partitions; the others
//! are listed one after the other, depth first, whatever factory made them.
//!
//! Conditions on columns that come with the name are evaluated by the walk, so that LIMIT reaches it,
//! too, and what they say about paths and depth decides which directories are opened at all.
//!
//! # Invariants
//! - Rows stream; no listing is held in memory, and dropping the stream ends the walk.
//! - A node that cannot be opened is a row with its `error`; its siblings are listed.
//! - Symbolic links are rows, and never followed while descending.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, internal_err};
use datafusion::error::Result as EngineResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::metrics::{
    BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, RecordOutput,
};
use datafusion::physical_plan::stream::{
    RecordBatchReceiverStreamBuilder, RecordBatchStreamAdapter,
};
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning,
    PhysicalExpr, PlanProperties, ReplaceChildrenOptions,
};
use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;

use super::RootSource;
use super::arguments::{Arguments, Signature};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::node::{
    DirEntry, Directory, ListFields, ListingFilter, Node, Prune, Walk, WalkCounters,
    is_cheap_column, listing_batch, listing_schema, lookup, not_found,
};
use crate::path::{PondPath, is_glob};

/// The function. Without a path it lists the session's directory.
pub(super) static SIGNATURE: Signature =
    Signature { name: "ls", parameters: &["path", "recursive", "hidden"] };

/// Rows of the first batch of a generic walk; later ones are larger.
const FIRST_BATCH_ROWS: usize = 256;
/// Batches that a generic walk is ahead of its reader.
const BATCHES_AHEAD: usize = 2;

/// What `ls()` is called with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LsArgs {
    /// An absolute path or glob.
    pub path: String,
    /// Whether to list everything below, too.
    pub recursive: bool,
    /// Whether to list names that start with a dot. A glob that has the dot itself finds them anyway.
    pub hidden: bool,
}

/// The rows of one call of `ls()`.
#[derive(Debug)]
pub struct LsTable {
    source: Arc<dyn RootSource>,
    path: PondPath,
    recursive: bool,
    hidden: bool,
}

impl LsTable {
    /// Makes the table; nothing is looked up before it is scanned.
    ///
    /// # Errors
    /// `Invalid` for a relative path.
    pub fn try_new(source: Arc<dyn RootSource>, args: LsArgs) -> Result<Self> {
        let path = PondPath::parse(&args.path)?;
        Ok(Self { source, path, recursive: args.recursive, hidden: args.hidden })
    }

    /// Finds out what is to be listed.
    async fn target(&self) -> Result<Target> {
        let past = self.source.past(&self.path).await?;
        let (root, path) = match &past {
            Some(place) => (place.root.clone(), &place.path),
            None => (self.source.root().await?, &self.path),
        };
        match lookup(&root, path).await? {
            Some(Node::Directory(directory)) => {
                return Ok(Target::Tree { directory, path: path.clone(), glob: None });
            }
            Some(Node::File(file)) => {
                let parent = path.split().map_or(PondPath::root(), |(parent, _)| parent);
                let name = path.name().to_owned();
                let entry = DirEntry { name, ..file.metadata().await? };
                return Ok(Target::Rows(vec![(entry, parent.to_string(), depth(path))]));
            }
            // `lookup` follows links of the pond.
            Some(Node::Symlink(_)) | None => {}
        }
        // A path that exists need not be a glob.
        if !is_glob(path.as_str()) {
            return Err(match &past {
                Some(place) => place.not_found().await,
                None => not_found(&root, path).await,
            });
        }
        let glob = Glob::parse(path.as_str())?;
        let glob = Arc::new(if self.recursive { glob.or_below() } else { glob });
        let base = glob.base();
        Ok(match lookup(&root, &base).await? {
            Some(Node::Directory(directory)) => {
                Target::Tree { directory, path: base, glob: Some(glob) }
            }
            _ => Target::Rows(Vec::new()),
        })
    }
}

/// What a call of `ls()` lists.
enum Target {
    /// What is below a directory, or what of it matches a glob.
    Tree { directory: Arc<dyn Directory>, path: PondPath, glob: Option<Arc<Glob>> },
    /// These entries, each with its parent's path and its depth.
    Rows(Vec<(DirEntry, String, u32)>),
}

/// The number of names in a path.
fn depth(path: &PondPath) -> u32 {
    u32::try_from(path.names().count()).unwrap_or(u32::MAX)
}

#[async_trait]
impl TableProvider for LsTable {
    fn schema(&self) -> SchemaRef {
        listing_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        filters
            .iter()
            .map(|filter| {
                Ok(if is_evaluated_by_walk(filter)? {
                    TableProviderFilterPushDown::Exact
                } else {
                    TableProviderFilterPushDown::Unsupported
                })
            })
            .collect()
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let filter = match conjunction(filters.to_vec()) {
            Some(condition) => {
                let schema = DFSchema::try_from(listing_schema())?;
                let condition = unqualified(condition)?;
                Some(ListingFilter::new(session.create_physical_expr(condition, &schema)?)?)
            }
            None => None,
        };
        let metrics = ExecutionPlanMetricsSet::new();
        let count = |name: &'static str| MetricBuilder::new(&metrics).global_counter(name);
        let config = &session.config_options().execution;
        let target = self.target().await?;
        let (path, glob) = match &target {
            Target::Tree { path, glob, .. } => (path.clone(), glob.clone()),
            Target::Rows(_) => (self.path.clone(), None),
        };
        let walk = Walk {
            depth: depth(&path) + 1,
            path,
            projection: match projection {
                Some(projection) => projection.clone(),
                None => (0..listing_schema().fields().len()).collect(),
            },
            filter,
            recursive: match &glob {
                Some(glob) => glob.is_recursive(),
                None => self.recursive,
            },
            glob,
            prune: bounds(filters),
            hidden: self.hidden,
            limit,
            partitions: config.target_partitions,
            batch_rows: config.batch_size.get(),
            counters: WalkCounters {
                reads: count("directory_reads"),
                stats: count("stat_calls"),
                opened: count("directories_opened"),
                unreadable: count("directories_unreadable"),
            },
        };
        Ok(Arc::new(ListingExec::try_new(self.path.clone(), target, walk, metrics)?))
    }
}

/// Whether a condition can be told from an entry's name, type and place alone.
fn is_evaluated_by_walk(filter: &Expr) -> EngineResult<bool> {
    let mut plain = !filter.is_volatile();
    filter.apply(|expr| {
        plain &= match expr {
            Expr::Column(column) => is_cheap_column(&column.name),
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::OuterReferenceColumn(..)
            | Expr::Placeholder(_) => false,
            _ => true,
        };
        Ok(if plain { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(plain)
}

/// Strips the alias of the call from the columns.
fn unqualified(condition: Expr) -> EngineResult<Expr> {
    use datafusion::common::tree_node::Transformed;
    let stripped = condition.transform(|expr| {
        Ok(match expr {
            Expr::Column(mut column) if column.relation.is_some() => {
                column.relation = None;
                Transformed::yes(Expr::Column(column))
            }
            other => Transformed::no(other),
        })
    })?;
    Ok(stripped.data)
}

/// Concludes from the conditions where wanted entries can lie.
fn bounds(filters: &[Expr]) -> Prune {
    let mut prune = Prune::default();
    for filter in filters.iter().flat_map(datafusion::logical_expr::utils::split_conjunction) {
        match filter {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let compared = match (literal_of(left), literal_of(right)) {
                    (None, Some(value)) => column_of(left).map(|name| (name, *op, value)),
                    (Some(value), None) => column_of(right)
                        .and_then(|name| op.swap().map(|swapped| (name, swapped, value))),
                    _ => None,
                };
                if let Some((column, op, value)) = compared {
                    compare(&mut prune, column, op, &value);
                }
            }
            Expr::Like(like) if !like.negated && !like.case_insensitive => {
                if let (Some("path"), Some(pattern), None) =
                    (column_of(&like.expr), literal_of(&like.pattern), like.escape_char)
                    && let Some(pattern) = text_of(&pattern)
                    // A backslash escapes what follows it.
                    && let Some(prefix) = pattern.split(['%', '_', '\\']).next()
                {
                    narrow_prefix(&mut prune, prefix);
                }
            }
            Expr::ScalarFunction(call) if call.name() == "starts_with" => {
                if let [path, prefix] = call.args.as_slice()
                    && let (Some("path"), Some(prefix)) = (column_of(path), literal_of(prefix))
                    && let Some(prefix) = text_of(&prefix)
                {
                    narrow_prefix(&mut prune, &prefix);
                }
            }
            _ => {}
        }
    }
    prune
}

fn compare(prune: &mut Prune, column: &str, op: Operator, value: &ScalarValue) {
    match (column, op) {
        ("path", Operator::Eq) => {
            if let Some(path) = text_of(value) {
                narrow_prefix(prune, &path);
            }
        }
        ("parent", Operator::Eq) => {
            if let Some(parent) = text_of(value) {
                let names = parent.split('/').filter(|name| !name.is_empty()).count();
                narrow_depth(prune, i64::try_from(names).unwrap_or(i64::MAX).saturating_add(1));
                let separator = if parent.ends_with('/') { "" } else { "/" };
                narrow_prefix(prune, &format!("{parent}{separator}"));
            }
        }
        ("depth", Operator::Eq | Operator::LtEq) => {
            if let Some(depth) = number_of(value) {
                narrow_depth(prune, depth);
            }
        }
        ("depth", Operator::Lt) => {
            if let Some(depth) = number_of(value) {
                narrow_depth(prune, depth.saturating_sub(1));
            }
        }
        _ => {}
    }
}

/// Notes one more prefix; of two, the longer one says more.
fn narrow_prefix(prune: &mut Prune, prefix: &str) {
    if prune.path_prefix.as_ref().is_none_or(|known| known.len() < prefix.len()) {
        prune.path_prefix = Some(prefix.to_owned());
    }
}

fn narrow_depth(prune: &mut Prune, depth: i64) {
    let depth = u32::try_from(depth.max(0)).unwrap_or(u32::MAX);
    prune.depth_max = Some(prune.depth_max.map_or(depth, |known| known.min(depth)));
}

fn column_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Column(column) => Some(&column.name),
        _ => None,
    }
}

fn literal_of(expr: &Expr) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) if !value.is_null() => Some(value.clone()),
        _ => None,
    }
}

fn text_of(value: &ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}

fn number_of(value: &ScalarValue) -> Option<i64> {
    match value.cast_to(&datafusion::arrow::datatypes::DataType::Int64) {
        Ok(ScalarValue::Int64(number)) => number,
        _ => None,
    }
}

/// The plan of one call of `ls()`.
struct ListingExec {
    shown: PondPath,
    listing: Arc<Listing>,
    partitions: usize,
    /// Walks that have begun, each as the streams nobody has taken yet: a plan may run more than once.
    begun: Mutex<Vec<Vec<Option<SendableRecordBatchStream>>>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

/// What to list, and how.
struct Listing {
    target: Target,
    walk: Walk,
    schema: SchemaRef,
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing").field("walk", &self.walk).finish_non_exhaustive()
    }
}

impl fmt::Debug for ListingExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListingExec").field("listing", &self.listing).finish_non_exhaustive()
    }
}

impl ListingExec {
    fn try_new(
        shown: PondPath,
        target: Target,
        walk: Walk,
        metrics: ExecutionPlanMetricsSet,
    ) -> Result<Self> {
        let schema = Arc::new(listing_schema().project(&walk.projection)?);
        // Whether there is a fast walk is known once it is begun.
        let mut begun = Vec::new();
        let mut partitions = 1;
        if let Target::Tree { directory, .. } = &target
            && let Some(streams) = directory.walk(&walk)
        {
            let streams = streams?;
            partitions = streams.len();
            begun.push(streams.into_iter().map(Some).collect());
        }
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema.clone()),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        // Every stream ends in a channel of the runtime, which yields by itself.
        .with_scheduling_type(SchedulingType::Cooperative);
        Ok(Self {
            shown,
            listing: Arc::new(Listing { target, walk, schema }),
            partitions,
            begun: Mutex::new(begun),
            properties: Arc::new(properties),
            metrics,
        })
    }

    /// Returns the stream of a partition, of a walk from which it has not been taken.
    fn take(&self, partition: usize) -> Result<SendableRecordBatchStream> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(stream) = begun.iter_mut().find_map(|streams| streams[partition].take()) {
            begun.retain(|streams| streams.iter().any(Option::is_some));
            return Ok(stream);
        }
        let mut streams = self.listing.streams()?;
        if streams.len() != self.partitions {
            return Err(Error::invalid(format!("'{}' has changed its kind", self.shown))
                .with_hint("run the statement again"));
        }
        let stream = streams.swap_remove(partition);
        if self.partitions > 1 {
            let mut rest: Vec<_> = streams.into_iter().map(Some).collect();
            // `swap_remove` put the last stream here; they are all alike.
            rest.insert(partition, None);
            begun.push(rest);
        }
        Ok(stream)
    }
}

impl Listing {
    fn streams(self: &Arc<Self>) -> Result<Vec<SendableRecordBatchStream>> {
        if let Target::Tree { directory, .. } = &self.target
            && let Some(streams) = directory.walk(&self.walk)
        {
            return streams;
        }
        let mut builder = RecordBatchReceiverStreamBuilder::new(self.schema.clone(), BATCHES_AHEAD);
        let sender = builder.tx();
        let listing = self.clone();
        builder.spawn(async move {
            let mut lister = Lister {
                listing: &listing,
                sender,
                rows: Vec::new(),
                batch_rows: FIRST_BATCH_ROWS.min(listing.walk.batch_rows),
            };
            lister.run().await?;
            Ok(())
        });
        Ok(vec![builder.build()])
    }
}

/// Lists directories that have no walk of their own.
struct Lister<'a> {
    listing: &'a Listing,
    sender: mpsc::Sender<EngineResult<RecordBatch>>,
    rows: Vec<(DirEntry, String, u32)>,
    batch_rows: usize,
}

/// A directory whose turn has yet to come.
enum Pending {
    List { directory: Arc<dyn Directory>, path: PondPath, depth: u32 },
    Walk(Vec<SendableRecordBatchStream>),
}

/// Nobody reads on.
struct Closed;

impl Lister<'_> {
    async fn run(&mut self) -> Result<()> {
        let walk = &self.listing.walk;
        let mut pending = match &self.listing.target {
            Target::Rows(rows) => {
                self.rows = rows.clone();
                Vec::new()
            }
            Target::Tree { directory, path, .. } => vec![Pending::List {
                directory: directory.clone(),
                path: path.clone(),
                depth: walk.depth,
            }],
        };
        while let Some(next) = pending.pop() {
            let ended = match next {
                Pending::List { directory, path, depth } => {
                    self.list(&*directory, &path, depth, &mut pending).await?
                }
                Pending::Walk(streams) => self.forward(streams).await,
            };
            if let Some(Closed) = ended {
                return Ok(());
            }
        }
        self.flush().await?;
        Ok(())
    }

    async fn list(
        &mut self,
        directory: &dyn Directory,
        path: &PondPath,
        depth: u32,
        pending: &mut Vec<Pending>,
    ) -> Result<Option<Closed>> {
        let walk = &self.listing.walk;
        let wants =
            |name: &str| self.listing.schema.fields().iter().any(|field| field.name() == name);
        let wants_error = wants("error");
        let fields = ListFields {
            metadata: wants_error || wants("size") || wants("mtime") || wants("mode"),
            symlink_target: wants("symlink_target"),
        };
        let state = walk.glob.as_ref().map(|glob| (glob, glob.state(path.as_str())));
        let mut entries = directory.list(fields);
        while let Some(entry) = entries.next().await {
            let mut entry = entry?;
            let below = match &state {
                Some((glob, state)) => !state.enter(glob, &entry.name, walk.hidden).is_dead(),
                None => walk.hidden || !entry.is_hidden(),
            };
            let wanted = match &state {
                Some((glob, state)) => state.is_match(glob, &entry.name, walk.hidden),
                None => walk.hidden || !entry.is_hidden(),
            };
            let child = path.child(&entry.name);
            let descends = below
                && walk.recursive
                && entry.entry_type == Some(EntryType::Directory)
                && walk.prune.may_hold(child.as_str(), depth + 1);
            // What a factory makes is opened to see whether it can be.
            if descends || (wanted && wants_error && entry.dynamic && entry.error.is_none()) {
                match self.open(directory, &entry.name, &child, depth).await {
                    Ok(next) if descends => pending.extend(next),
                    Ok(_) => {}
                    Err(error) => {
                        walk.counters.unreadable.add(usize::from(descends));
                        entry.error.get_or_insert_with(|| error.to_string());
                    }
                }
            }
            if wanted {
                self.rows.push((entry, path.to_string(), depth));
                if self.rows.len() >= self.batch_rows
                    && let Some(closed) = self.flush().await?
                {
                    return Ok(Some(closed));
                }
            }
        }
        Ok(None)
    }

    /// Opens a child; returns what is to be listed of it, if it is a directory.
    async fn open(
        &self,
        directory: &dyn Directory,
        name: &str,
        path: &PondPath,
        depth: u32,
    ) -> Result<Option<Pending>> {
        let Some(Node::Directory(directory)) = directory.get(name).await? else {
            return Ok(None);
        };
        let walk = Walk { path: path.clone(), depth: depth + 1, ..self.listing.walk.clone() };
        Ok(Some(match directory.walk(&walk) {
            Some(streams) => Pending::Walk(streams?),
            None => Pending::List { directory, path: path.clone(), depth: depth + 1 },
        }))
    }

    async fn forward(&mut self, streams: Vec<SendableRecordBatchStream>) -> Option<Closed> {
        let mut batches = stream::select_all(streams);
        while let Some(batch) = batches.next().await {
            if self.sender.send(batch).await.is_err() {
                return Some(Closed);
            }
        }
        None
    }

    async fn flush(&mut self) -> Result<Option<Closed>> {
        let rows = std::mem::take(&mut self.rows);
        self.batch_rows = (self.batch_rows * 4).min(self.listing.walk.batch_rows);
        let batch = self.listing.select(&rows)?;
        if batch.num_rows() > 0 && self.sender.send(Ok(batch)).await.is_err() {
            return Ok(Some(Closed));
        }
        Ok(None)
    }
}

impl Listing {
    /// Makes a batch of the rows that meet the filter.
    fn select(&self, rows: &[(DirEntry, String, u32)]) -> Result<RecordBatch> {
        let batch = listing_batch(rows, &self.walk.projection)?;
        let Some(filter) = &self.walk.filter else { return Ok(batch) };
        let mask = filter.evaluate(&listing_batch(rows, filter.columns())?)?;
        Ok(filter_record_batch(&batch, &mask)?)
    }
}

impl DisplayAs for ListingExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let walk = &self.listing.walk;
        let columns: Vec<&str> =
            self.listing.schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(f, "ListingExec: path={}, projection=[{}]", self.shown, columns.join(", "))?;
        if walk.recursive {
            f.write_str(", recursive=true")?;
        }
        if let Some(filter) = &walk.filter {
            write!(f, ", filter={filter}")?;
        }
        if let Some(prefix) = &walk.prune.path_prefix {
            write!(f, ", below={prefix}")?;
        }
        if let Some(depth) = walk.prune.depth_max {
            write!(f, ", depth_max={depth}")?;
        }
        if let Some(limit) = walk.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for ListingExec {
    fn name(&self) -> &'static str {
        "ListingExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> EngineResult<TreeNodeRecursion>,
    ) -> EngineResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a listing has no children") }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        _: Arc<TaskContext>,
    ) -> EngineResult<SendableRecordBatchStream> {
        let stream = self.take(partition)?;
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counted = stream.map(move |batch| batch.map(|batch| batch.record_output(&metrics)));
        let schema = self.listing.schema.clone();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// `ls()` of the statements that read one source.
#[derive(Debug)]
pub struct LsFunction {
    source: Arc<dyn RootSource>,
}

impl LsFunction {
    /// Makes the function for statements that read the root of `source`.
    pub fn new(source: Arc<dyn RootSource>) -> Self {
        Self { source }
    }
}

impl TableFunctionImpl for LsFunction {
    fn call_with_args(&self, args: TableFunctionArgs) -> EngineResult<Arc<dyn TableProvider>> {
        let args = Arguments::new(&SIGNATURE, args.exprs())?;
        let path = self.source.path(args.text("path")?.as_deref().unwrap_or("."))?;
        let args = LsArgs {
            path: path.to_string(),
            recursive: args.boolean("recursive")?.unwrap_or(false),
            hidden: args.boolean("hidden")?.unwrap_or(false),
        };
        Ok(Arc::new(LsTable::try_new(self.source.clone(), args)?))
    }
}
