//! Answers of derived nodes that are kept: with a `refresh_interval`, a node is read from Parquet in the
//! cache while that is young enough, and made anew, once, when it is not.
//!
//! An answer older than the interval whose sources have not changed is as good as new. Else, where the
//! query allows it, only what the new versions of its source change is computed (`increment.rs`);
//! and where it does not, everything is.
//!
//! What an open transaction sees, what is read of the past, and a node that is only looked at
//! (`DESCRIBE`, `EXPLAIN`) makes no answer; the first two are read from none, either. A cache that
//! cannot be written to costs its speed and nothing else: the query is answered from its sources, and
//! `pond status` tells.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::datatypes::FieldRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::Result as EngineResult;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::parquet::transform_schema_to_view;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Volatility, cast, ident};
use datafusion::physical_plan::execute_stream;

use super::Binding;
use super::increment::Increment;
use super::plans::Plans;
use crate::blob::Blobs;
use crate::cache::{Answer, AnswerFile, Ready, SourceVersion};
use crate::entry::{EntryType, NodeId};
use crate::error::{Error, Result};
use crate::factory::derived::Derived;
use crate::factory::{Config, OptionKind};
use crate::format::{EncodedTable, detect_any_temporal};
use crate::keep::Upkeep;
use crate::path::PondPath;
use crate::snapshot::Located;

/// Most files of an answer that is added to, before they are made one.
const FILES_MAX: usize = 8;

/// What a statement may do with answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Answers {
    /// Read the sources.
    #[default]
    None,
    /// Read them, and make none.
    Read,
    /// Read them, and make those anew that are too old.
    Make,
}

/// How a statement reads derived nodes.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub answers: Answers,
    /// The node whose answer is to be made anew, however young it is.
    pub remake: Option<PondPath>,
    /// Plans of earlier statements.
    pub plans: Option<Arc<Plans>>,
}

impl From<Answers> for Reading {
    fn from(answers: Answers) -> Self {
        Self { answers, ..Self::default() }
    }
}

/// Why there is no answer.
enum Failure {
    /// The query fails: it does so without a cache, too.
    Query(Error),
    /// The cache fails.
    Cache(Error),
}

impl Binding {
    /// Returns the answer that is kept of `file`, however old; `None` if there is none, or if it must
    /// not be used.
    pub(super) fn kept(&self, file: &Derived) -> Option<Ready> {
        if self.derived.reading.answers == Answers::None || file.cx.is_past {
            return None;
        }
        file.answer()
    }

    /// Returns the rows of `file` from the cache if they are young enough there.
    pub(super) fn fresh(&self, file: &Derived) -> Option<Arc<dyn TableProvider>> {
        let interval = file.recipe.refresh?;
        let ready = self.kept(file)?;
        let is_broken = || match file.cx.snapshot.follow(&file.cx.path) {
            Ok((_, Located::Found(entry) | Located::Dynamic { entry, .. })) => {
                self.tree.lineage(&file.cx.snapshot).broken(&entry).is_some()
            }
            _ => true,
        };
        // A statement does not see what was committed after it began.
        let is_later = ready.answer.txn > file.cx.snapshot.txn();
        let serves = ready.answer.is_fresh(interval) && !is_later && !is_broken();
        serves.then(|| self.used(file, ready))
    }

    /// Remembers what a statement has read of `file`, and returns its rows.
    fn used(&self, file: &Derived, ready: Ready) -> Arc<dyn TableProvider> {
        let files = ready.answer.files.iter().map(|file| file.sha256.clone()).collect();
        self.derived.used.lock().expect("never poisoned").insert(file.cx.path.clone(), files);
        ready.table
    }

    /// Returns the rows of `file`, whose query was planned as `live`: from an answer made now, if the
    /// statement may, or else from its sources.
    pub(super) async fn answered(
        self: &Arc<Self>,
        file: &Derived,
        live: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>> {
        let Some(interval) = file.recipe.refresh else { return Ok(live) };
        let live = stored_types(live)?;
        if self.derived.reading.answers != Answers::Make || file.cx.is_past {
            return Ok(live);
        }
        let Some(key) = file.answer_key() else { return Ok(live) };
        if self.kept(file).is_some_and(|ready| ready.answer.txn > file.cx.snapshot.txn()) {
            return Ok(live);
        }
        let dir = self.tree.pond().cache_dir();
        match self.make(file, &key, &live, Some(interval)).await {
            Ok(ready) => {
                Upkeep::Answers.remember(dir, None);
                Ok(self.used(file, ready))
            }
            Err(Failure::Query(error)) => Err(error),
            Err(Failure::Cache(error)) => {
                Upkeep::Answers.remember(dir, Some(&error));
                Ok(live)
            }
        }
    }

    /// Makes the answer of `file` anew, now and from all of its sources.
    ///
    /// # Errors
    /// What is wrong with the query, or with the cache.
    pub(super) async fn refreshed(
        self: &Arc<Self>,
        file: &Derived,
        live: Arc<dyn TableProvider>,
    ) -> Result<Arc<dyn TableProvider>> {
        let Some(key) = file.answer_key().filter(|_| file.recipe.refresh.is_some()) else {
            return Ok(live);
        };
        match self.make(file, &key, &stored_types(live)?, None).await {
            Ok(ready) => Ok(self.used(file, ready)),
            Err(Failure::Query(error) | Failure::Cache(error)) => Err(error),
        }
    }

    /// Makes an answer anew unless somebody has done so just now; without an `interval`, in any case
    /// and from all of its sources.
    async fn make(
        self: &Arc<Self>,
        file: &Derived,
        key: &str,
        live: &Arc<dyn TableProvider>,
        interval: Option<Duration>,
    ) -> Result<Ready, Failure> {
        let cache = &file.cx.cache;
        let files = cache.files().map_err(Failure::Cache)?;
        let files = files.ok_or_else(|| {
            Failure::Cache(Error::unsupported("a pond in memory keeps no answers"))
        })?;
        let lock = cache.lock(key).await.map_err(Failure::Cache)?;
        let before = cache.get(key);
        if let (Some(ready), Some(interval)) = (&before, interval)
            && ready.answer.is_fresh(interval)
        {
            return Ok(ready.clone());
        }
        let plan = plan_of(live).map_err(Failure::Query)?;
        let sources = self.sources_of(file, &plan).map_err(Failure::Query)?;
        let before = before.filter(|_| interval.is_some());
        let answer = self.next(file, &files, before, plan, sources).await?;
        let snapshot = &file.cx.snapshot;
        let is_wanted = |node, version| snapshot.has_version(node, version);
        cache.publish(key, &answer, &lock, is_wanted).map_err(Failure::Cache)?;
        let ready = cache.get(key).ok_or_else(|| {
            let path = &file.cx.path;
            Failure::Cache(Error::invalid(format!("the answer of '{path}' is gone")))
        })?;
        Ok(ready)
    }

    async fn next(
        self: &Arc<Self>,
        file: &Derived,
        files: &Blobs,
        before: Option<Ready>,
        plan: LogicalPlan,
        sources: Option<Vec<SourceVersion>>,
    ) -> Result<Answer, Failure> {
        let (path, txn) = (&file.cx.path, file.cx.snapshot.txn());
        let state = (self.session)(self, true).map_err(Failure::Query)?;
        let made = file.cx.made.unwrap_or((NodeId::ROOT, 0));
        let as_of_now = |files| Answer::new(path, made, txn, sources.clone(), files);
        let mut rows = plan;
        if let Some(Ready { answer, table }) = before
            && has_columns(&table, &rows)
            && answer.sources.is_some()
            && let Some(now) = &sources
        {
            if answer.sources == sources {
                return Ok(answer.checked(txn));
            }
            let increment = self.increment(file, &rows, &answer, now).await;
            let (kept, new) = match increment.map_err(Failure::Query)? {
                Some(Increment::Rows(new)) if answer.files.len() < FILES_MAX => {
                    let added = self.write(file, files, &state, new).await?;
                    let mut all = answer.files.clone();
                    if added.rows().map_err(Failure::Cache)? > 0 {
                        all.push(added);
                    }
                    return Ok(as_of_now(all));
                }
                Some(Increment::Rows(new)) => (None, Some(new)),
                Some(Increment::Buckets { new, others }) => (Some(others), Some(new)),
                None => (None, None),
            };
            if let Some(new) = new {
                rows = joined(path.as_str(), table, kept, new).map_err(Failure::Query)?;
            }
        }
        let file = self.write(file, files, &state, rows).await?;
        Ok(as_of_now(vec![file]))
    }

    /// Runs a plan and keeps its rows as a file; those of a series in the order of time.
    async fn write(
        &self,
        file: &Derived,
        files: &Blobs,
        state: &SessionState,
        plan: LogicalPlan,
    ) -> Result<AnswerFile, Failure> {
        let engine = |error: datafusion::error::DataFusionError| Failure::Query(error.into());
        let temporal = detect_any_temporal(plan.schema().as_arrow()).ok();
        let plan = match &temporal {
            Some(time) if file.recipe.entry_type == EntryType::FileSeries => {
                let sorted =
                    LogicalPlanBuilder::from(plan).sort(vec![ident(time).sort(true, false)]);
                sorted.and_then(LogicalPlanBuilder::build).map_err(engine)?
            }
            _ => plan,
        };
        let plan = state.create_physical_plan(&plan).await.map_err(engine)?;
        let rows = execute_stream(plan, state.task_ctx()).map_err(engine)?;
        // What fails from here on may be the query, or rows that cannot be kept: without a cache it
        // will tell.
        let mut encoded = EncodedTable::new(rows, temporal.as_deref()).map_err(Failure::Cache)?;
        let mut writer = files.writer();
        while let Some(bytes) = encoded.next().await.map_err(Failure::Cache)? {
            writer.write(bytes).await.map_err(Failure::Cache)?;
        }
        let facts = encoded.finish().map_err(Failure::Cache)?;
        let stored = writer.finish(true).await.map_err(Failure::Cache)?;
        Ok(AnswerFile { sha256: stored.sha256, size: stored.size, facts })
    }

    /// Returns the contents that a plan of `file` reads; `None` if they cannot be told from later
    /// ones: files of the host, what the clock says.
    fn sources_of(&self, file: &Derived, plan: &LogicalPlan) -> Result<Option<Vec<SourceVersion>>> {
        let snapshot = &file.cx.snapshot;
        // A node that is computed once and shared hides its plan.
        let hides = !self.derived.shared.lock().expect("never poisoned").is_empty();
        if hides || !file.recipe.query.is_settled() || !is_settled(plan)? {
            return Ok(None);
        }
        let lineage = self.tree.lineage(snapshot);
        let mut sources = BTreeSet::new();
        let mut seen = HashSet::new();
        let (Ok((_, Located::Found(entry))) | Ok((_, Located::Dynamic { entry, .. }))) =
            snapshot.follow(&file.cx.path)
        else {
            return Ok(None);
        };
        let mut waiting = vec![entry];
        while let Some(reader) = waiting.pop() {
            for read in lineage.sources(&reader)? {
                if !read.named.is_table {
                    return Ok(None);
                }
                for (path, entry) in read.nodes {
                    let mut source = SourceVersion {
                        read_as: (reader.node_id, read.named.path.to_string()),
                        node: entry.node_id,
                        version: entry.version,
                        written_at: entry.timestamp,
                        files: Vec::new(),
                    };
                    if let Some(factory) = entry.dynamic_factory() {
                        let factory = self.tree.factories().require(factory)?;
                        let config =
                            Config::from_json(entry.content.as_deref().unwrap_or_default())?;
                        if factory.is_live() || !factory.is_settled(&config) {
                            return Ok(None);
                        }
                        let keeps = factory.options().iter().any(|option| {
                            option.kind == OptionKind::Duration
                                && config.text(option.name).is_some()
                        });
                        if keeps {
                            // What it showed is what its own answers say.
                            let used = self.derived.used.lock().expect("never poisoned");
                            let below = used.iter().filter(|(used, _)| used.starts_with(&path));
                            source.files = below.flat_map(|(_, files)| files.clone()).collect();
                            source.files.sort();
                            if source.files.is_empty() {
                                return Ok(None);
                            }
                        } else if seen.insert(entry.node_id) {
                            waiting.push(entry);
                        }
                    }
                    sources.insert(source);
                }
            }
        }
        Ok(Some(sources.into_iter().collect()))
    }
}

/// Whether an answer has the columns of a plan: a source may have got others since.
fn has_columns(answer: &Arc<dyn TableProvider>, plan: &LogicalPlan) -> bool {
    let (kept, wanted) = (answer.schema(), plan.schema().as_arrow());
    let column = |field: &FieldRef| (field.name().clone(), field.data_type().clone());
    kept.fields().iter().map(column).eq(wanted.fields().iter().map(column))
}

/// Returns the plan of a table that is one.
fn plan_of(table: &Arc<dyn TableProvider>) -> Result<LogicalPlan> {
    match table.get_logical_plan() {
        Some(plan) => Ok(plan.into_owned()),
        None => {
            Ok(LogicalPlanBuilder::scan("rows", provider_as_source(table.clone()), None)?
                .build()?)
        }
    }
}

/// Whether a plan gives the same rows whenever it is run on the same tables.
fn is_settled(plan: &LogicalPlan) -> EngineResult<bool> {
    let mut settled = true;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::ScalarFunction(ScalarFunction { func, .. }) = expr
                    && func.signature().volatility != Volatility::Immutable
                {
                    settled = false;
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(settled)
}

/// Gives the columns of a query the types that they have when they are kept, so that a node has the
/// same columns wherever it is read from.
fn stored_types(live: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>> {
    let plan = plan_of(&live)?;
    let schema = plan.schema().as_arrow().clone();
    let stored = transform_schema_to_view(&schema);
    if stored.fields() == schema.fields() {
        return Ok(live);
    }
    let columns =
        plan.schema().columns().into_iter().zip(stored.fields()).map(|(column, field)| {
            let name = column.name.clone();
            cast(Expr::Column(column), field.data_type().clone()).alias(name)
        });
    let plan = LogicalPlanBuilder::from(plan.clone()).project(columns)?.build()?;
    Ok(Arc::new(ViewTable::new(plan, live.get_table_definition().map(str::to_owned))))
}

/// Puts the rows of an answer, those that meet `kept`, before new ones.
fn joined(
    name: &str,
    answer: Arc<dyn TableProvider>,
    kept: Option<Expr>,
    new: LogicalPlan,
) -> Result<LogicalPlan> {
    let mut before = LogicalPlanBuilder::scan(name, provider_as_source(answer), None)?;
    if let Some(kept) = kept {
        before = before.filter(kept)?;
    }
    Ok(before.union(new)?.build()?)
}
