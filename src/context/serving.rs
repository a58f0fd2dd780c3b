//! What a front end of another protocol asks a session beyond running statements: what a statement
//! would return, which tables there are, and queries that it parsed by itself.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan, TableType};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use super::{Answers, Output, Planned, PondContext, Purpose, write_syntax};
use crate::error::Result;
use crate::sql::{Body, Statement};
use crate::tree::{Edit, Savepoint};

/// What is known of a statement before it runs.
pub(crate) struct Description {
    /// The columns of its rows; none for a statement that has no rows.
    pub schema: Option<SchemaRef>,
    /// The types that parameters must have, by `$name`; those of others are free.
    pub parameters: HashMap<String, DataType>,
}

impl Description {
    fn of_plan(plan: &LogicalPlan) -> Result<Self> {
        let has_rows = !matches!(
            plan,
            LogicalPlan::Ddl(_)
                | LogicalPlan::Dml(_)
                | LogicalPlan::Copy(_)
                | LogicalPlan::Statement(_)
        );
        let schema = has_rows.then(|| plan.schema().inner().clone());
        Ok(Self { schema, parameters: parameters(plan)? })
    }

    fn without_rows() -> Self {
        Self { schema: None, parameters: HashMap::new() }
    }
}

/// Returns what is known of the types of parameters, by a cast or by what they are compared with.
fn parameters(plan: &LogicalPlan) -> Result<HashMap<String, DataType>> {
    let mut types: HashMap<String, DataType> = plan
        .get_parameter_types()?
        .into_iter()
        .filter_map(|(name, data_type)| Some((name, data_type?)))
        .collect();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Cast(cast) = expr
                    && let Expr::Placeholder(placeholder) = cast.expr.as_ref()
                {
                    let data_type = cast.field.data_type().clone();
                    types.entry(placeholder.id.clone()).or_insert(data_type);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(types)
}

impl PondContext {
    /// Says what a statement would return, without running what changes anything. A `SHOW` or
    /// `DESCRIBE` runs for it.
    pub(crate) async fn description(&self, statement: Statement) -> Result<Description> {
        match statement.clone().into_parts().1 {
            Body::Engine(mut statement, past) => {
                self.name_past(&mut statement, &past).await?;
                if write_syntax::of_statement(&mut statement, &self.directory())?.is_some() {
                    // Its plan tells the types of parameters by the columns that they go to.
                    let described = self.description_of(*statement).await?;
                    return Ok(Description { schema: None, ..described });
                }
                self.description_of(*statement).await
            }
            Body::Node(_) | Body::Summarize(..) if statement.is_question() => {
                let schema = self.execute(statement).await?.schema();
                Ok(Description { schema: Some(schema), parameters: HashMap::new() })
            }
            Body::Node(_) | Body::Summarize(..) => Ok(Description::without_rows()),
        }
    }

    async fn description_of(&self, statement: EngineStatement) -> Result<Description> {
        let binding = self.bind_with(Vec::new(), Answers::Read).await?;
        match self.planned(&binding, statement, Purpose::Description).await?.1 {
            Planned::Described(plan) => Description::of_plan(&plan),
            _ => Ok(Description::without_rows()),
        }
    }

    /// Says what a query that was parsed elsewhere would return.
    pub(crate) async fn description_of_query(&self, query: SqlStatement) -> Result<Description> {
        self.description_of(EngineStatement::Statement(Box::new(query))).await
    }

    /// Runs a query by the plan that was kept of its text; `None` if there is none that still holds.
    pub(crate) async fn repeat(&self, text: &str) -> Result<Option<Output>> {
        let Some(kept) = self.kept(text).await? else { return Ok(None) };
        let run = async move { kept.run() };
        super::limits::limited(self.tree().policy(), run).await.map(Some)
    }

    /// Runs a query that was parsed elsewhere; `text` is what it was.
    pub(crate) async fn run_query(&self, query: SqlStatement, text: &str) -> Result<Output> {
        let statement = EngineStatement::Statement(Box::new(query));
        self.query(statement, text.to_owned(), false).await
    }

    /// Lists the tables, by directory, as `information_schema` does; none is opened.
    pub(crate) async fn tables(&self) -> Result<BTreeMap<String, BTreeMap<String, TableType>>> {
        let binding = self.bind(Vec::new()).await?;
        binding.prepare_listing().await?;
        Ok(binding.tables())
    }

    /// Returns a point in the open transaction to which it can be taken back; `None` without one.
    pub(crate) async fn savepoint(&self) -> Option<Savepoint> {
        self.inner.open.lock().await.as_ref().map(Edit::savepoint)
    }

    /// Takes the open transaction back to a point in it, or all of it to before its beginning.
    pub(crate) async fn roll_back_to(&self, point: Option<Savepoint>) {
        let mut open = self.inner.open.lock().await;
        match (open.as_mut(), point) {
            (Some(edit), Some(point)) => edit.roll_back_to(point),
            _ => *open = None,
        }
    }

    /// Makes the engine's session have all functions there are.
    pub(crate) fn complete_session(&self) {
        self.lean().complete();
        self.lean().plans().clear();
    }
}
