//! Queries that are asked again: a plan is kept, so that asking again costs what running it does.
//!
//! Clients ask the same text over and over: of a connection whether it is alive, of a dashboard what there
//! is now. Planning costs far more than the rows of a small answer. What is kept is the plan and never
//! the answer, and it serves for exactly what it was made of: the text, the pond's newest snapshot, the
//! session's settings and resources, the very functions that it calls.
//!
//! Kept are plans that nothing else goes into. The names in their text are paths of stored files; their
//! functions return the same for the same arguments, so none that the planner asks the clock for; their
//! steps are those of the engine that can run again, with no filter that is found out while they run
//! (what [`reset_plan_states`] asks for), over Parquet files that never change.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::Result as EngineResult;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::{SessionState, TaskContext};
use datafusion::logical_expr::{AggregateUDF, Expr, LogicalPlan, ScalarUDF, Volatility};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};

use super::{Output, OutputKind, PondContext};
use crate::catalog::{Binding, is_of};
use crate::error::Result;
use crate::format::scans_again;
use crate::snapshot::{Located, Snapshot};

/// Most plans kept of a session.
const PLANS_MAX: usize = 64;

/// The longest text whose plan is kept, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// How often a plan opens a file before they are made anew: each time adds some kilobytes to
/// what a scan has measured.
const OPENS_MAX: usize = 100;

/// The plans of one session, by their texts.
#[derive(Default)]
pub(super) struct Repeats(Mutex<HashMap<String, Arc<Repeat>>>);

/// A plan that can run again, and what it was made of.
pub(super) struct Repeat {
    plan: Arc<dyn ExecutionPlan>,
    functions: Vec<Function>,
    snapshot: Weak<Snapshot>,
    settings: Arc<ConfigOptions>,
    runtime: Arc<RuntimeEnv>,
    /// What it runs in: the session's, which a statement's own state would hold on to.
    task: Arc<TaskContext>,
    runs: AtomicUsize,
    runs_max: usize,
}

/// A function of the session's that a plan calls.
enum Function {
    Scalar(Arc<ScalarUDF>),
    Aggregate(Arc<AggregateUDF>),
}

impl Function {
    /// Whether the session still calls it by its name.
    fn is_of(&self, state: &SessionState) -> bool {
        match self {
            Self::Scalar(function) => state
                .scalar_functions()
                .get(function.name())
                .is_some_and(|known| Arc::ptr_eq(known, function)),
            Self::Aggregate(function) => state
                .aggregate_functions()
                .get(function.name())
                .is_some_and(|known| Arc::ptr_eq(known, function)),
        }
    }
}

impl Repeat {
    /// Whether all that it was made of, but for the snapshot, is as it was.
    fn is_of(&self, state: &SessionState) -> bool {
        Arc::ptr_eq(&self.settings, state.config().options())
            && Arc::ptr_eq(&self.runtime, state.runtime_env())
            && self.functions.iter().all(|function| function.is_of(state))
    }

    /// Runs it once more.
    pub(super) fn run(&self) -> Result<Output> {
        let plan = reset_plan_states(self.plan.clone())?;
        Ok(Output::new(OutputKind::Rows, execute_stream(plan, self.task.clone())?))
    }
}

impl PondContext {
    /// Whether queries are asked in a way that a plan can be kept for.
    fn repeats(&self, text: &str) -> bool {
        #[cfg(feature = "ballista")]
        if self.inner.cluster.is_some() {
            return false;
        }
        self.params.is_empty() && text.len() <= TEXT_BYTES_MAX
    }

    /// Returns the plan that was kept of a query's text; `None` if there is none that still holds.
    pub(super) async fn kept(&self, text: &str) -> Result<Option<Arc<Repeat>>> {
        let kept = self.inner.repeats.0.lock().expect("never poisoned").get(text).cloned();
        let Some(kept) = kept else { return Ok(None) };
        let holds = self.repeats(text)
            && kept.runs.fetch_add(1, Ordering::Relaxed) < kept.runs_max
            && kept.is_of(&self.session().state_ref().read())
            && self.inner.open.lock().await.is_none()
            && is_of(&kept.snapshot, &self.tree().snapshot().await?);
        if holds {
            return Ok(Some(kept));
        }
        self.inner.repeats.0.lock().expect("never poisoned").remove(text);
        Ok(None)
    }

    /// Keeps the plan of a query for when it is asked again, if it can be; `logical` is what its text
    /// says, before anything was made of it.
    pub(super) async fn keep(
        &self,
        text: &str,
        logical: &LogicalPlan,
        plan: &Arc<dyn ExecutionPlan>,
        binding: &Binding,
    ) -> Result<()> {
        let Some(files) = files_of(plan) else { return Ok(()) };
        let runs_max = OPENS_MAX.checked_div(files).unwrap_or(usize::MAX);
        if runs_max == 0 || !self.repeats(text) || self.inner.open.lock().await.is_some() {
            return Ok(());
        }
        let Some((names, mut functions)) = parts(logical)? else { return Ok(()) };
        let snapshot = binding.snapshot().await?;
        for name in names {
            let path = binding.path_of(&name).filter(|_| name.table().starts_with('/'));
            let Some(path) = path else { return Ok(()) };
            let Located::Found(entry) = snapshot.locate(&path)? else { return Ok(()) };
            if !entry.entry_type.is_file() || entry.dynamic_factory().is_some() {
                return Ok(());
            }
        }
        let state = self.session().state();
        // Others are what the syntax means, whatever the session calls by their names.
        functions.retain(|function| function.is_of(&state));
        let kept = Repeat {
            plan: plan.clone(),
            functions,
            snapshot: Arc::downgrade(&snapshot),
            settings: state.config().options().clone(),
            runtime: state.runtime_env().clone(),
            task: state.task_ctx(),
            runs: AtomicUsize::new(0),
            runs_max,
        };
        let mut all = self.inner.repeats.0.lock().expect("never poisoned");
        if all.len() >= PLANS_MAX {
            all.clear();
        }
        all.insert(text.to_owned(), Arc::new(kept));
        Ok(())
    }
}

/// Returns the tables that a query scans and the functions that it calls; `None` if it depends on more
/// than them.
fn parts(plan: &LogicalPlan) -> EngineResult<Option<(Vec<TableReference>, Vec<Function>)>> {
    let (mut names, mut functions) = (Vec::new(), Vec::new());
    let mut holds = true;
    let go_on = |holds| match holds {
        true => Ok(TreeNodeRecursion::Continue),
        false => Ok(TreeNodeRecursion::Stop),
    };
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::TableScan(scan) => names.push(scan.table_name.clone()),
            LogicalPlan::Projection(_)
            | LogicalPlan::Filter(_)
            | LogicalPlan::Aggregate(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Subquery(_)
            | LogicalPlan::SubqueryAlias(_)
            | LogicalPlan::EmptyRelation(_) => {}
            _ => holds = false,
        }
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                match expr {
                    Expr::ScalarFunction(call) => {
                        holds &= call.func.signature().volatility == Volatility::Immutable;
                        functions.push(Function::Scalar(call.func.clone()));
                    }
                    Expr::AggregateFunction(call) => {
                        holds &= call.func.signature().volatility == Volatility::Immutable;
                        functions.push(Function::Aggregate(call.func.clone()));
                    }
                    Expr::ScalarVariable(..)
                    | Expr::WindowFunction(_)
                    | Expr::HigherOrderFunction(_)
                    | Expr::Placeholder(_)
                    | Expr::Unnest(_) => holds = false,
                    _ => {}
                }
                go_on(holds)
            })
        })?;
        go_on(holds)
    })?;
    Ok(holds.then_some((names, functions)))
}

/// Returns how many files a plan opens, each counted as often as it is, if all of its steps are known to
/// make the same rows when they run again.
fn files_of(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let is_known = plan.is::<ProjectionExec>()
        || plan.is::<FilterExec>()
        || plan.is::<PlaceholderRowExec>()
        || plan.is::<EmptyExec>()
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<GlobalLimitExec>()
        || plan.is::<LocalLimitExec>()
        || plan.is::<SortExec>()
        || plan.is::<SortPreservingMergeExec>()
        || plan.is::<AggregateExec>();
    let own = if is_known { 0 } else { scans_again(plan)? };
    if !plan.dynamic_expressions_produced().is_empty() {
        return None;
    }
    let below: Option<usize> = plan.children().into_iter().map(files_of).sum();
    Some(own + below?)
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_batches;
    use datafusion::logical_expr::create_udf;
    use datafusion::logical_expr::{ColumnarValue, ScalarFunctionImplementation};
    use datafusion::scalar::ScalarValue;

    use super::*;
    use crate::pond::Pond;
    use crate::tree::Tree;

    async fn context() -> PondContext {
        let context = PondContext::new(Tree::new(Pond::transient().await.unwrap()));
        for sql in [
            "CREATE TABLE '/t.table' AS SELECT value AS a FROM generate_series(1, 5)",
            "CREATE VIEW '/when.table' AS SELECT a, now() AS n FROM '/t.table'",
            "CREATE VIEW '/plain.table' AS SELECT a + 1 AS a FROM '/t.table'",
            "CREATE TABLE mine AS SELECT 1 AS a",
        ] {
            text(&context, sql).await;
        }
        context
    }

    async fn text(context: &PondContext, sql: &str) -> String {
        let output = context.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let batches = output.collect().await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// How often a kept plan of the text has run; `None` if none is kept.
    fn runs(context: &PondContext, sql: &str) -> Option<usize> {
        let kept = context.inner.repeats.0.lock().unwrap();
        kept.get(sql).map(|kept| kept.runs.load(Ordering::Relaxed))
    }

    #[tokio::test]
    async fn kept_is_what_depends_on_stored_tables_alone() {
        let context = context().await;
        for sql in [
            "SELECT 1",
            "SELECT 'a' || upper('b') AS c",
            "SELECT sum(a), count(*) FROM '/t.table' WHERE a > 1",
            "SELECT a FROM '/t.table' ORDER BY a DESC",
            "SELECT DISTINCT a % 2 FROM \"/t.table\" AS x",
        ] {
            let first = text(&context, sql).await;
            assert_eq!(text(&context, sql).await, first, "{sql}");
            assert_eq!(text(&context, sql).await, first, "{sql}");
            assert_eq!(runs(&context, sql), Some(2), "{sql}");
        }
        for sql in [
            "SELECT now()",
            "SELECT random()",
            "SELECT current_date",
            "SELECT a FROM mine",
            "SELECT a FROM 't.table'",
            "SELECT a FROM '/when.table'",
            "SELECT a FROM '/t.table@v1'",
            "SELECT a FROM '/t*.table'",
            "SELECT path FROM ls('/')",
            "SELECT a FROM '/t.table' ORDER BY a LIMIT 2",
            "SELECT row_number() OVER (ORDER BY a) FROM '/t.table'",
            "SELECT x.a FROM '/t.table' x JOIN '/t.table' y ON x.a = y.a",
            "EXPLAIN SELECT 1",
            "SHOW NODES",
            "SUMMARIZE '/t.table'",
        ] {
            text(&context, sql).await;
            assert_eq!(runs(&context, sql), None, "{sql}");
        }
    }

    fn answer(value: i64) -> ScalarUDF {
        let call: ScalarFunctionImplementation =
            Arc::new(move |_| Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(value)))));
        let returns = datafusion::arrow::datatypes::DataType::Int64;
        create_udf("answer", vec![], returns, Volatility::Immutable, call)
    }

    #[tokio::test]
    async fn a_kept_plan_ends_with_what_it_was_made_of() {
        let context = context().await;
        let sum = "SELECT sum(a) AS s FROM '/t.table'";
        let has = |text: &str, value: &str| assert!(text.contains(&format!(" {value} ")), "{text}");
        for _ in 0..2 {
            has(&text(&context, sum).await, "15");
        }
        // What is committed, here or elsewhere.
        text(&context, "INSERT INTO '/t.table' VALUES (10)").await;
        has(&text(&context, sum).await, "25");
        has(&text(&context, sum).await, "25");
        text(&PondContext::new(context.tree().clone()), "INSERT INTO '/t.table' VALUES (5)").await;
        has(&text(&context, sum).await, "30");
        // An open transaction, and its end.
        text(&context, "BEGIN").await;
        text(&context, "INSERT INTO '/t.table' VALUES (70)").await;
        has(&text(&context, sum).await, "100");
        text(&context, "ROLLBACK").await;
        has(&text(&context, sum).await, "30");
        // A view that means something else now.
        let view = "SELECT min(a) AS m FROM '/plain.table'";
        has(&text(&context, view).await, "2");
        text(
            &context,
            "CREATE OR REPLACE VIEW '/plain.table' AS SELECT a + 2 AS a FROM '/t.table'",
        )
        .await;
        has(&text(&context, view).await, "3");
        // A function of the application's.
        let call = "SELECT answer() AS a";
        for value in [41, 42] {
            context.session().register_udf(answer(value));
            has(&text(&context, call).await, &value.to_string());
            has(&text(&context, call).await, &value.to_string());
            assert_eq!(runs(&context, call), Some(1));
        }
        // Settings.
        let time = "SELECT to_timestamp('2026-01-01T00:00:00') AS t";
        let utc = text(&context, time).await;
        assert_eq!(text(&context, time).await, utc);
        text(&context, "SET datafusion.execution.time_zone = '+02:00'").await;
        assert_ne!(text(&context, time).await, utc);
    }
}
