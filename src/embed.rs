//! [`register`]: gives a plain session of another application the pond.
//!
//! Afterwards the application's own `ctx.sql()` reads pond paths, calls `ls()` and the other table
//! functions, and makes nodes with standard SQL:
//!
//! ```sql
//! CREATE EXTERNAL TABLE '/h' STORED AS HOSTMOUNT LOCATION '/var/log'
//! SELECT * FROM '/h/today.csv'
//! ```
//!
//! Such a session gives no sign of where a statement begins, so each name is resolved in the newest
//! snapshot when it is planned; two names of one statement may see different ones. Its
//! `information_schema` lists stored nodes as of the last statement that used the pond. Any statement may
//! make the answers of derived nodes anew that are too old, EXPLAIN included. Our own
//! statements and whole-statement snapshots are [`PondContext`](crate::context::PondContext)'s.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider, TableProviderFactory};
use datafusion::error::Result as EngineResult;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::CreateExternalTable;
use datafusion::optimizer::OptimizerRule;
use datafusion::prelude::SessionContext;

use crate::catalog::{Answers, Binding, CreatedNode, OpenSession};
use crate::context::engine_statements::{external_node, external_text};
use crate::context::node_statements::{absolute, plan_made};
use crate::context::session::bind;
use crate::error::{Error, Result};
use crate::path::PondPath;
use crate::sql::functions;
use crate::sql::like_escape::like_escape;
use crate::sql::time_buckets::with_time_buckets;
use crate::tree::Tree;

/// Adds the catalog `pond`, bare pond paths, the table functions, our functions of time, the rule that
/// prunes by time buckets, and `CREATE EXTERNAL TABLE … STORED AS` each factory to a session.
///
/// Register factories of your own before this. Names that are no pond paths mean what they did.
///
/// # Errors
/// Whatever keeps the pond from being read.
pub async fn register(context: &SessionContext, tree: Tree) -> Result<()> {
    let session = context.state_weak_ref();
    let session: OpenSession = Arc::new(move |binding, _| match session.upgrade() {
        Some(session) => {
            let mut state = session.read().clone();
            bind(&mut state, binding);
            Ok(state)
        }
        None => Err(Error::invalid("the session is gone")),
    });
    let binding = Binding::unpinned(tree.clone(), session.clone());
    // What information_schema is answered from until the pond is used.
    binding.snapshot().await?;
    let rules = with_time_buckets(context.state_ref().read().optimizers().to_vec());
    set_optimizer_rules(context, rules);
    let state = context.state_ref();
    let mut state = state.write();
    bind(&mut state, &binding);
    state.register_function_rewrite(like_escape())?;
    functions::add_to(&mut state);
    for factory in tree.factories().all() {
        let name = factory.name();
        let (binding, session) = (binding.clone(), session.clone());
        let factory = Arc::new(NodeFactory { name, binding, session });
        state.table_factories_mut().insert(name.to_uppercase(), factory);
    }
    Ok(())
}

/// Replaces a session's optimizer rules one by one, which is all that the engine offers: what the
/// session plans meanwhile may miss some.
fn set_optimizer_rules(context: &SessionContext, rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>) {
    for rule in &rules {
        context.remove_optimizer_rule(rule.name());
    }
    for rule in rules {
        context.add_optimizer_rule(rule);
    }
}

/// Makes nodes of one factory for `CREATE EXTERNAL TABLE`.
struct NodeFactory {
    name: &'static str,
    binding: Arc<Binding>,
    session: OpenSession,
}

impl fmt::Debug for NodeFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeFactory").field("name", &self.name).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProviderFactory for NodeFactory {
    async fn create(
        &self,
        _state: &dyn Session,
        create: &CreateExternalTable,
    ) -> EngineResult<Arc<dyn TableProvider>> {
        let tree = self.binding.tree();
        let factory = tree.factories().require(self.name)?;
        let path = self.binding.path_of(&create.name).ok_or_else(|| {
            Error::invalid(format!("'{}' is not a pond path", create.name))
                .with_hint("a node is made under a path: CREATE EXTERNAL TABLE '/name' …")
        })?;
        let mut new = external_node(path, &*factory, create)?;
        let root = PondPath::root();
        new.options = absolute(&root, &*factory, new.options)?;
        let mut edit = tree.begin(external_text(create)).await?;
        let change = edit.create_node(new).await?;
        // A query that does not work is never stored.
        let binding = Binding::pinned(
            tree.clone(),
            edit.snapshot(),
            root,
            Vec::new(),
            Answers::None.into(),
            self.session.clone(),
        );
        plan_made(&binding, &change).await?;
        edit.commit().await?;
        self.binding.snapshot().await?;
        Ok(Arc::new(CreatedNode))
    }
}
