//! The engine's session behind a context: built lean, completed on demand.
//!
//! A one-shot pays for what it uses. A session starts with the five aggregates that most statements
//! need and none of the other functions, of which the engine has some three hundred; the first
//! statement that does not plan without them completes the session and is planned again. Planning
//! has no effects, so this changes nothing but the time it takes. The five are functions whose name
//! means the same whether or not the others are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::functions_aggregate::{average, count, min_max, sum};
use datafusion::optimizer::Optimizer;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::catalog::{Binding, CATALOG, Catalogs, Plans};
#[cfg(feature = "ballista")]
use crate::cluster::{Cluster, Placing};
use crate::format::optimizer_rules;
use crate::sql::functions;
use crate::sql::like_escape::like_escape;
use crate::sql::time_buckets::with_time_buckets;
use crate::table_fn::{self, FromPlanner};

/// The schema of a session's own tables, and the one that bare names are looked up in.
pub(super) const SESSION_SCHEMA: &str = "public";

/// A session of the engine, which knows nothing of the pond: a [`Binding`] is put over a copy of it
/// for each statement.
pub(super) struct LeanSession {
    context: SessionContext,
    is_complete: AtomicBool,
    plans: Arc<Plans>,
}

impl LeanSession {
    /// Builds a session. The catalog settings of `config` are replaced.
    pub(super) fn new(config: SessionConfig, runtime: Option<Arc<RuntimeEnv>>) -> Self {
        let config = config
            .with_default_catalog_and_schema(CATALOG, SESSION_SCHEMA)
            .with_create_default_catalog_and_schema(true)
            .with_information_schema(true);
        let mut builder = SessionStateBuilder::new()
            .with_config(config)
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_table_function_list(SessionStateDefaults::default_table_functions())
            .with_aggregate_functions(vec![
                count::count_udaf(),
                sum::sum_udaf(),
                average::avg_udaf(),
                min_max::min_udaf(),
                min_max::max_udaf(),
            ])
            .with_optimizer_rules(with_time_buckets(Optimizer::new().rules))
            .with_physical_optimizer_rules(optimizer_rules());
        if let Some(runtime) = runtime {
            builder = builder.with_runtime_env(runtime);
        }
        let mut state = builder.build();
        state.register_function_rewrite(like_escape()).expect("registering a rewrite cannot fail");
        let context = SessionContext::new_with_state(state);
        Self { context, is_complete: AtomicBool::new(false), plans: Arc::default() }
    }

    /// Returns the plans of derived nodes that are kept.
    pub(super) fn plans(&self) -> &Arc<Plans> {
        &self.plans
    }

    /// Returns the session without the pond.
    pub(super) fn context(&self) -> &SessionContext {
        &self.context
    }

    /// Returns a copy of the session's state with `binding` put over it.
    pub(super) fn bound(&self, binding: &Arc<Binding>) -> SessionState {
        let mut state = self.context.state();
        bind(&mut state, binding);
        state
    }

    /// Returns a session that plans for a cluster, with `binding` put over it; with `placing`, its plans
    /// of queries are put there.
    #[cfg(feature = "ballista")]
    pub(super) fn bound_for(
        &self,
        cluster: &Cluster,
        placing: Option<Arc<Placing>>,
        binding: &Arc<Binding>,
    ) -> SessionState {
        let mut state = cluster.session(self.context.state(), placing);
        bind(&mut state, binding);
        state
    }

    /// Whether nothing is missing any more. A state made before this was so may lack functions.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete.load(Ordering::SeqCst)
    }

    /// Adds every function and file format that is not there yet.
    pub(super) fn complete(&self) {
        let state = self.context.state_ref();
        let mut state = state.write();
        if !self.is_complete() {
            add_all(&mut state);
            self.is_complete.store(true, Ordering::SeqCst);
        }
    }
}

/// Adds the engine's functions and formats, and our functions; those that an application has
/// registered stay.
fn add_all(state: &mut SessionState) {
    const FREE: &str = "registering a function under a free name cannot fail";
    let config = state.config_options().clone();
    for function in SessionStateDefaults::default_scalar_functions() {
        if !state.scalar_functions().contains_key(function.name()) {
            let updated = function.inner().with_updated_config(&config).map(Arc::new);
            state.register_udf(updated.unwrap_or(function)).expect(FREE);
        }
    }
    functions::add_to(state);
    for function in SessionStateDefaults::default_higher_order_functions() {
        if !state.higher_order_functions().contains_key(function.name()) {
            state.register_higher_order_function(function).expect(FREE);
        }
    }
    for function in SessionStateDefaults::default_aggregate_functions() {
        if !state.aggregate_functions().contains_key(function.name()) {
            state.register_udaf(function).expect(FREE);
        }
    }
    for function in SessionStateDefaults::default_window_functions() {
        if !state.window_functions().contains_key(function.name()) {
            state.register_udwf(function).expect(FREE);
        }
    }
    for format in SessionStateDefaults::default_file_formats() {
        if state.get_file_format_factory(&format.get_ext()).is_none() {
            state.register_file_format(format, false).expect(FREE);
        }
    }
    for (name, factory) in SessionStateDefaults::default_table_factories() {
        state.table_factories_mut().entry(name).or_insert(factory);
    }
}

/// Puts `binding` over a session: the catalog, the table functions, the planner of FROM items, and
/// that of derived nodes.
pub(crate) fn bind(state: &mut SessionState, binding: &Arc<Binding>) {
    state.config_mut().set_extension(Arc::new(binding.planner()));
    let catalogs = Catalogs::over(state, binding.clone());
    state.register_catalog_list(Arc::new(catalogs));
    for (name, function) in table_fn::functions(binding) {
        state.register_udtf(name, function);
    }
    let planner = Arc::new(FromPlanner::new(binding.clone()));
    state.register_relation_planner(planner).expect("a session takes any number of planners");
}
