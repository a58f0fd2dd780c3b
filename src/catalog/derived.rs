//! Plans derived nodes: a query over other nodes becomes a plan that is put in line where the node is
//! read, so that predicates, projections and limits travel through it to the files.
//!
//! A node is planned once for each statement, in the very tree that the statement reads, or in that of
//! the past in which it was found. Those that it needs come first, in the order of the lineage: then
//! planning never goes deeper than one query, however long the chain, and a diamond costs each node
//! once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::catalog::TableProvider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_plan::collect;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, ExprWithAlias};

use super::answers::{Answers, Reading};
use super::shared::{COPIES_MAX, SharedTable};
use super::{Binding, Pinned, increment};
use crate::entry::OplogEntry;
use crate::error::{Error, Result};
use crate::factory::derived::{Derived, PlanDerived, Planner, Query};
use crate::path::PondPath;
use crate::pond::At;
use crate::snapshot::Located;
use crate::sql::time_travel::{Moment, name_past};
use crate::sql::{StoredQuery, diagnose};
use crate::tree::past;

/// Most trees of the past that are read out of each other: `'/a@v9'` reads `'/b@v7'` reads …
const PASTS_MAX: usize = 8;

/// What the bindings of one statement share.
#[derive(Default)]
pub(super) struct Statement {
    /// The bindings to trees of the past, by their transaction.
    pasts: Mutex<HashMap<i64, Arc<Binding>>>,
    /// The nodes whose sources come, or came, before them.
    in_order: Mutex<HashSet<(i64, PondPath)>>,
    /// How many trees of the past this one was reached through.
    depth: usize,
    pub(super) reading: Reading,
    /// The nodes whose plans depend on the snapshot only.
    settled: Mutex<HashSet<PondPath>>,
    /// The nodes that are computed once and shared.
    pub(super) shared: Mutex<HashSet<PondPath>>,
    /// The files of the answers that were read.
    pub(super) used: Mutex<HashMap<PondPath, Vec<String>>>,
}

impl Statement {
    /// Whether a node is computed once and shared.
    pub(super) fn is_shared(&self, path: &PondPath) -> bool {
        self.shared.lock().expect("never poisoned").contains(path)
    }

    pub(super) fn new(reading: Reading) -> Self {
        Self { reading, ..Self::default() }
    }
}

/// The planner of one binding.
struct OfBinding(Arc<Binding>);

#[async_trait]
impl PlanDerived for OfBinding {
    async fn plan_derived(&self, file: &Derived) -> Result<Arc<dyn TableProvider>> {
        let binding = self.0.of(file)?;
        let path = &file.cx.path;
        let planned = async {
            let remake = binding.derived.reading.remake.as_ref() == Some(path);
            if !remake && let Some(fresh) = binding.fresh(file) {
                return Ok(fresh);
            }
            binding.plan_sources(file).await?;
            let live = binding.plan_query(file).await?;
            binding.keep_plan(file, &live)?;
            match remake {
                true => binding.refreshed(file, live).await,
                false => binding.answered(file, live).await,
            }
        };
        planned.await.map_err(|error: Error| error.context(format!("'{path}' is broken")))
    }
}

impl Binding {
    /// Returns what plans derived nodes, for a session's extensions.
    pub(crate) fn planner(self: &Arc<Self>) -> Planner {
        Planner(Arc::new(OfBinding(self.clone())))
    }

    /// Returns the binding to the tree in which `file` was found.
    fn of(self: &Arc<Self>, file: &Derived) -> Result<Arc<Self>> {
        let snapshot = &file.cx.snapshot;
        let is_ours = |pinned: &Pinned| {
            Arc::ptr_eq(&pinned.snapshot, snapshot) && pinned.is_past == file.cx.is_past
        };
        if self.pinned.as_ref().is_some_and(is_ours) {
            return Ok(self.clone());
        }
        let statement = &self.derived;
        if let Some(past) = statement.pasts.lock().expect("never poisoned").get(&snapshot.txn()) {
            return Ok(past.clone());
        }
        if statement.depth >= PASTS_MAX {
            return Err(Error::invalid(format!(
                "'{}' is read through more than {PASTS_MAX} moments of the past",
                file.cx.path
            )));
        }
        let root = file.cx.root.clone();
        let answers = if file.cx.is_past { Answers::None } else { statement.reading.answers };
        let depth = statement.depth + usize::from(file.cx.is_past);
        let binding = Arc::new(Self {
            pinned: Some(Pinned { snapshot: snapshot.clone(), root, is_past: file.cx.is_past }),
            opened: Arc::default(),
            directories: Arc::default(),
            derived: Arc::new(Statement { depth, ..Statement::new(answers.into()) }),
            ..self.sibling()
        });
        // A binding to the newest snapshot is of its statement alone.
        if self.pinned.is_some() {
            let mut pasts = statement.pasts.lock().expect("never poisoned");
            pasts.insert(snapshot.txn(), binding.clone());
        }
        Ok(binding)
    }

    /// Makes a binding of the same statement to the same tree.
    pub(super) fn sibling(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            pinned: self.pinned.clone(),
            directory: None,
            aliases: Vec::new(),
            is_stored: true,
            session: self.session.clone(),
            opened: self.opened.clone(),
            directories: self.directories.clone(),
            derived: self.derived.clone(),
            listing: Mutex::default(),
            is_used: Default::default(),
        }
    }

    /// Plans what `file` needs, bottom up.
    pub(super) async fn plan_sources(self: &Arc<Self>, file: &Derived) -> Result<()> {
        let (path, snapshot) = (&file.cx.path, &file.cx.snapshot);
        let key = |path: &PondPath| (snapshot.txn(), path.clone());
        let is_in_order = |key: &(i64, PondPath)| {
            self.derived.in_order.lock().expect("never poisoned").contains(key)
        };
        if is_in_order(&key(path)) {
            return Ok(());
        }
        let order = self.tree.lineage(snapshot).order(path)?;
        self.derived.in_order.lock().expect("never poisoned").extend(order.iter().map(key));
        self.find_shared(&order, file)?;
        for source in order.iter().filter(|source| *source != path) {
            // A directory has no rows; what reads it opens a child. An error is told by whoever reads it.
            if matches!(snapshot.locate(source)?, Located::Found(entry) if entry.entry_type.is_file())
            {
                self.table(source, false).await;
            }
        }
        Ok(())
    }

    /// Keeps the plan of `file` for later statements, if it depends on the snapshot only.
    fn keep_plan(&self, file: &Derived, table: &Arc<dyn TableProvider>) -> Result<()> {
        let Some(plans) = self.derived.reading.plans.as_ref() else { return Ok(()) };
        let (path, snapshot) = (&file.cx.path, &file.cx.snapshot);
        // Many copies of one that has many would be far too many.
        let is_wide = table.get_logical_plan().is_none_or(|plan| scans(&plan) > KEPT_SCANS_MAX);
        if is_wide
            || self.derived.is_shared(path)
            || file.recipe.refresh.is_some()
            || !file.recipe.query.is_settled()
        {
            return Ok(());
        }
        let (at, entry) = match snapshot.locate(path)? {
            Located::Found(entry) => (path.clone(), entry),
            Located::Dynamic { entry, at } => (at, entry),
            _ => return Ok(()),
        };
        let mut settled = self.derived.settled.lock().expect("never poisoned");
        for source in self.tree.lineage(snapshot).sources(&entry)? {
            let is_settled = |(path, entry): &(PondPath, OplogEntry)| {
                entry.dynamic_factory().is_none()
                    || settled.contains(path)
                    || plans.get(snapshot, path).is_some()
            };
            let in_past = source.nodes.is_empty();
            if in_past || !source.named.is_table || !source.nodes.iter().all(is_settled) {
                return Ok(());
            }
        }
        settled.insert(at);
        plans.put(snapshot, path.clone(), table.clone());
        Ok(())
    }

    /// Finds the nodes that would be put in line too often, given the nodes that are read, sources
    /// first.
    fn find_shared(&self, order: &[PondPath], file: &Derived) -> Result<()> {
        let snapshot = &file.cx.snapshot;
        let lineage = self.tree.lineage(snapshot);
        let mut copies: HashMap<PondPath, usize> = HashMap::new();
        let mut shared = self.derived.shared.lock().expect("never poisoned");
        for path in order.iter().rev() {
            let mut times = copies.get(path).copied().unwrap_or(1);
            if times > COPIES_MAX {
                shared.insert(path.clone());
                times = 1;
            }
            let Located::Found(entry) = snapshot.locate(path)? else { continue };
            // What is wrong with a recipe is told when the node is opened.
            for source in lineage.sources(&entry).unwrap_or_default() {
                for (path, _) in source.nodes {
                    let all = copies.entry(path).or_default();
                    *all = all.saturating_add(times.saturating_mul(source.named.times));
                }
            }
        }
        Ok(())
    }

    /// Plans the query of `file`, whose sources are planned.
    pub(super) async fn plan_query(
        self: &Arc<Self>,
        file: &Derived,
    ) -> Result<Arc<dyn TableProvider>> {
        let recipe = &file.recipe;
        let reduced;
        let (query, text) = match &recipe.query {
            Query::Stored(query, text) => (&**query, text),
            Query::Reduced(reduction) => {
                let source = self.require_table(reduction.source()).await?;
                reduced = reduction.query(&source.schema())?;
                (&reduced.0, &reduced.1)
            }
        };
        let inner = Arc::new(Self { aliases: recipe.aliases.clone(), ..self.sibling() });
        let mut state = (self.session)(&inner, false)?;
        let mut planned = inner.logical(&state, query).await;
        if planned.is_err() {
            // A lean session may lack a function.
            state = (self.session)(&inner, true)?;
            planned = inner.logical(&state, query).await;
        }
        let plan = planned.map_err(|error| inner.explain(error, &state, query))?;
        let path = &file.cx.path;
        let is_large = expressions(&plan)? > EXPRESSIONS_MAX;
        if is_large {
            self.derived.shared.lock().expect("never poisoned").insert(path.clone());
        }
        if is_large || self.derived.is_shared(path) {
            return Ok(Arc::new(SharedTable::new(path.clone(), plan)));
        }
        Ok(Arc::new(ViewTable::new(plan, Some(text.clone()))))
    }

    async fn logical(
        self: &Arc<Self>,
        state: &SessionState,
        query: &StoredQuery,
    ) -> EngineResult<LogicalPlan> {
        let mut statement = query.statement().clone();
        let mut suffixes = Vec::with_capacity(query.past().len());
        for clause in query.past() {
            suffixes.push(past::suffix(moment(state, &clause.moment).await?));
        }
        name_past(&mut statement, &suffixes);
        // A stored query means the same to everybody, whatever their session is set to.
        let mut state = state.clone();
        let fixed = ConfigOptions::default();
        let options = state.config_mut().options_mut();
        options.execution.time_zone = fixed.execution.time_zone;
        options.sql_parser = fixed.sql_parser;
        let plan = state.statement_to_plan(statement).await?;
        if let LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) = plan {
            return Err(Error::unsupported("the query makes a table (INTO)")
                .with_hint("a node shows what its query selects: leave INTO out")
                .into());
        }
        if let Some(name) = plan.get_parameter_names()?.into_iter().next() {
            return Err(Error::invalid(format!("the query has a parameter, '{name}'"))
                .with_hint("a stored query has none: write the value")
                .into());
        }
        // So that the types of its columns are the final ones.
        let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
        unique_columns(&plan)?;
        flattened(plan, &state)
    }

    /// Says why a query could not be planned: first of all, because of a path.
    fn explain(&self, error: DataFusionError, state: &SessionState, query: &StoredQuery) -> Error {
        if diagnose::is_ours(&error) {
            return diagnose::explain(error, state);
        }
        let explained = diagnose::explain(error, state);
        let references = state.resolve_table_references(query.statement()).unwrap_or_default();
        let of_path = references
            .iter()
            .filter(|table| explained.message().contains(&format!("'{}'", table.table())))
            .find_map(|table| self.error_of(table));
        of_path.unwrap_or(explained)
    }
}

/// Most scans of a plan that is kept for later statements.
const KEPT_SCANS_MAX: usize = 4;

/// A plan with an expression of more parts than this is not put in line: merging filters with
/// projections may double it with every level.
const EXPRESSIONS_MAX: usize = 2000;

fn scans(plan: &LogicalPlan) -> usize {
    let mut scans = 0;
    let _ = plan.apply(|node| {
        scans += usize::from(matches!(node, LogicalPlan::TableScan(_)));
        Ok(TreeNodeRecursion::Continue)
    });
    scans
}

/// Returns the size of the largest expression of a plan.
fn expressions(plan: &LogicalPlan) -> EngineResult<usize> {
    let mut largest = 0;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            let mut size = 0;
            expr.apply(|_| {
                size += 1;
                Ok(TreeNodeRecursion::Continue)
            })?;
            largest = largest.max(size);
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(largest)
}

/// Merges the filters and projections of a plan with those that it was put over: a chain of nodes is as
/// short as one, for each statement that reads it. Nothing is evaluated: what `now()` is, is for the
/// statement to say.
fn flattened(plan: LogicalPlan, state: &SessionState) -> EngineResult<LogicalPlan> {
    // The rules expect that subqueries have been made joins.
    let mut has_subquery = false;
    plan.apply(|node| {
        has_subquery |= increment::has_subquery(node)?;
        Ok(if has_subquery { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    if has_subquery {
        return Ok(plan);
    }
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        vec![Arc::new(PushDownFilter::new()), Arc::new(OptimizeProjections::new())];
    Optimizer::with_rules(rules).optimize(plan, state, |_, _| {})
}

/// Two columns of one name could not be told apart by whoever reads the node.
fn unique_columns(plan: &LogicalPlan) -> EngineResult<()> {
    let mut seen = HashSet::new();
    match plan.schema().fields().iter().find(|field| !seen.insert(field.name())) {
        None => Ok(()),
        Some(field) => {
            let name = field.name();
            Err(Error::invalid(format!("the query has two columns '{name}'"))
                .with_hint(format!("rename one: … AS {name}_2"))
                .into())
        }
    }
}

/// Returns the point of history that a clause names.
///
/// # Errors
/// `Invalid` if it is no constant time; those of evaluating it.
pub(crate) async fn moment(state: &SessionState, moment: &Moment) -> EngineResult<At> {
    match moment {
        Moment::Version(txn) => Ok(At::Version(*txn)),
        Moment::Time(time) => {
            let value = evaluate(state, time).await?;
            past::micros(&value).map(At::Timestamp).ok_or_else(|| {
                Error::invalid(format!("{time} is no time"))
                    .with_hint("a text like '2026-01-31T12:00:00Z', or now() - INTERVAL '1 hour'")
                    .into()
            })
        }
    }
}

/// Evaluates a constant expression.
async fn evaluate(state: &SessionState, expr: &SqlExpr) -> EngineResult<ScalarValue> {
    let expr = ExprWithAlias { expr: expr.clone(), alias: None };
    let expr = state.create_logical_expr_from_sql_expr(expr, &DFSchema::empty())?;
    let plan = LogicalPlanBuilder::empty(true).project([expr])?.build()?;
    let batches = collect(state.create_physical_plan(&plan).await?, state.task_ctx()).await?;
    match batches.first() {
        Some(batch) if batch.num_rows() == 1 => ScalarValue::try_from_array(batch.column(0), 0),
        _ => Err(Error::invalid("it has no value").into()),
    }
}

/// Makes one table of what a glob matches: columns are matched by name, one that a table lacks is
/// null.
pub(super) fn union(
    pattern: &PondPath,
    tables: Vec<Arc<dyn TableProvider>>,
) -> Result<Arc<dyn TableProvider>> {
    let mut all: Option<LogicalPlanBuilder> = None;
    for table in tables {
        let table = LogicalPlanBuilder::scan(pattern.as_str(), provider_as_source(table), None)?;
        all = Some(match all {
            None => table,
            Some(all) => all.union_by_name(table.build()?)?,
        });
    }
    let all = all.ok_or_else(|| Error::not_found(format!("'{pattern}' matches no file")))?;
    Ok(Arc::new(ViewTable::new(all.build()?, None)))
}
