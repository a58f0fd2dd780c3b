//! [`PondContext`]: a session with a pond. It runs the whole language: our statements, and the
//! engine's over pond paths.
//!
//! A statement sees one snapshot. It is taken when the statement begins, and every name of the
//! statement is resolved in it: the engine plans with a copy of the session's state over which a
//! `Binding` to that snapshot was put. What a statement changes in the pond is one transaction,
//! whose message is the statement's text; or, after `BEGIN`, a part of one (`transaction.rs`).
//!
//! SQL reaches host files through mounts only. `COPY … TO './file'` (or a URL; `'/…'` is a path of the
//! pond) and `CREATE EXTERNAL TABLE` over host files are refused unless the application allows them
//! ([`PondContextBuilder::with_host_files`]); `engine_statements::check_plan` is the one place that
//! decides. What the policy of the tree's handle says holds here, too: its limits on memory and time
//! (`limits.rs`), and which files of the host may be named at all.

mod complete;
mod copy;
#[cfg(feature = "ballista")]
mod distribute;
pub(crate) mod engine_statements;
mod explain_node;
mod limits;
mod moment;
pub(crate) mod node_statements;
mod output;
mod repeat;
mod rows;
#[cfg(feature = "serve")]
mod serving;
pub(crate) mod session;
mod summary;
mod transaction;
mod write_syntax;
mod writes;

use std::sync::{Arc, OnceLock, RwLock};

use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::resolve::resolve_table_references;

use self::repeat::Repeats;
use self::session::LeanSession;
use self::writes::Writing;
use crate::catalog::{Answers, Binding, Reading};
#[cfg(feature = "ballista")]
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::node::{Node, resolve};
use crate::path::PondPath;
use crate::snapshot::Snapshot;
use crate::sql::{Body, Params, Script, Statement, diagnose, from_clause};
use crate::tree::{Edit, Engine, Tree};
pub use complete::{CANDIDATES_MAX, Candidate, CandidateKind, Completions, complete_host_path};
pub use output::{Output, OutputKind};
#[cfg(feature = "serve")]
pub(crate) use serving::Description;

/// The name of the file in a query about one file.
const SOURCE: &str = "source";

/// How often a query is begun anew, before any row of it is out, because something was learnt of what
/// it reads.
const AGAIN_MAX: usize = 32;

/// A session with a pond; clones share it.
#[derive(Clone)]
pub struct PondContext {
    inner: Arc<Inner>,
    params: Params,
}

struct Inner {
    tree: Tree,
    /// Built when first needed: many statements need no engine.
    session: OnceLock<LeanSession>,
    repeats: Repeats,
    config: SessionConfig,
    runtime: Option<Arc<RuntimeEnv>>,
    /// Whether the application gave the runtime, which others may use, too.
    is_memory_shared: bool,
    /// What relative paths are relative to.
    directory: RwLock<PondPath>,
    /// The open transaction. Its lock is held while a statement works in it.
    open: Arc<tokio::sync::Mutex<Option<Edit>>>,
    host_files: bool,
    #[cfg(feature = "ballista")]
    cluster: Option<Cluster>,
}

/// Makes a [`PondContext`].
#[derive(Debug)]
pub struct PondContextBuilder {
    tree: Tree,
    config: SessionConfig,
    runtime: Option<Arc<RuntimeEnv>>,
    host_files: bool,
    #[cfg(feature = "ballista")]
    cluster: Option<Cluster>,
}

impl PondContextBuilder {
    /// Sets the engine's configuration. Its default catalog and schema are always the pond's, and its
    /// SQL dialect the generic one.
    #[must_use]
    pub fn with_config(mut self, config: SessionConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets the engine's resources: memory pool, spill directory, object stores, caches. SQL sets no
    /// other memory limit then, so sessions with the same resources stay within one.
    #[must_use]
    pub fn with_runtime_env(mut self, runtime: Arc<RuntimeEnv>) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Whether `COPY … TO` may write files of the host (`'./…'`, `'file:///…'` and other URLs; what
    /// begins with `/` is always a path of the pond), and `CREATE EXTERNAL TABLE` read them. Off unless
    /// set. A policy that closes files of the host closes them here, too, and under any such policy
    /// `CREATE EXTERNAL TABLE` reads none: a mount lets no link lead out of it, and the engine does.
    #[must_use]
    pub fn with_host_files(mut self, allowed: bool) -> Self {
        self.host_files = allowed;
        self
    }

    /// Has queries run on a cluster, as far as they can: see [`crate::cluster`]. Off unless set.
    #[cfg(feature = "ballista")]
    #[must_use]
    pub fn with_cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(cluster);
        self
    }

    /// Makes the context. Where the policy of the tree limits memory, the engine's resources and
    /// settings are held to that.
    pub fn build(self) -> PondContext {
        let is_memory_shared = self.runtime.is_some();
        #[cfg(feature = "ballista")]
        let given = match &self.cluster {
            Some(_) => Cluster::settings(self.config),
            None => self.config,
        };
        #[cfg(not(feature = "ballista"))]
        let given = self.config;
        let (config, runtime) = match self.tree.policy().memory_limit {
            Some(limit) => {
                let runtime = limits::runtime(self.runtime, limit);
                (limits::config(given, limit), Some(runtime))
            }
            None => (given, self.runtime),
        };
        PondContext {
            inner: Arc::new(Inner {
                tree: self.tree,
                session: OnceLock::new(),
                repeats: Repeats::default(),
                config,
                runtime,
                is_memory_shared,
                directory: RwLock::new(PondPath::root()),
                open: Arc::default(),
                host_files: self.host_files,
                #[cfg(feature = "ballista")]
                cluster: self.cluster,
            }),
            params: Params::default(),
        }
    }
}

impl PondContext {
    /// Makes a context over `tree` with the defaults.
    pub fn new(tree: Tree) -> Self {
        Self::builder(tree).build()
    }

    /// Begins to make a context over `tree`.
    pub fn builder(tree: Tree) -> PondContextBuilder {
        PondContextBuilder {
            tree,
            config: SessionConfig::new(),
            runtime: None,
            host_files: false,
            #[cfg(feature = "ballista")]
            cluster: None,
        }
    }

    /// Returns this session with values for the parameters of statements, `$name` and `$1`, in place
    /// of those it had. They hold for texts given to what is returned, not to its other clones.
    #[must_use]
    pub fn with_params(mut self, params: Params) -> Self {
        self.params = params;
        self
    }

    /// Returns the values for the parameters of statements.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// Waits for what goes on elsewhere after a statement was given up: that its cluster has heard of it.
    /// A program that ends calls it before.
    pub async fn settle(&self) {
        #[cfg(feature = "ballista")]
        if let Some(cluster) = &self.inner.cluster {
            cluster.settle().await;
        }
    }

    /// Returns the pond's tree.
    pub fn tree(&self) -> &Tree {
        &self.inner.tree
    }

    /// Returns the directory that relative paths are relative to; `USE '/sensors'` sets it.
    pub fn directory(&self) -> PondPath {
        self.inner.directory.read().expect("never poisoned").clone()
    }

    /// Returns the engine's session, for the application's own tables and functions. Its own `sql()`
    /// knows nothing of the pond.
    pub fn session(&self) -> &SessionContext {
        self.lean().context()
    }

    /// Returns the names of all functions, sorted: for completion.
    pub fn function_names(&self) -> Vec<String> {
        self.lean().complete();
        let state = self.session().state();
        let mut names: Vec<String> = state
            .scalar_functions()
            .keys()
            .chain(state.aggregate_functions().keys())
            .chain(state.window_functions().keys())
            .chain(state.higher_order_functions().keys())
            .chain(state.table_functions().keys())
            .cloned()
            .chain(crate::table_fn::names().map(str::to_owned))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Runs a text that is exactly one statement.
    ///
    /// # Errors
    /// Those of [`Script`] and [`PondContext::execute`].
    pub async fn sql(&self, text: &str) -> Result<Output> {
        self.execute(self.script(text).only()?).await
    }

    /// Splits a text into statements, in which the values of parameters are put.
    pub fn script(&self, text: &str) -> Script {
        Script::new(text).with_params(&self.params)
    }

    /// Runs a statement of a [`Script`]. A query's rows are made as they are read from the output.
    ///
    /// # Errors
    /// What is wrong with the statement, in our words, often with a hint; what the tree reports of a
    /// change; whatever keeps a table from being opened; `Refused` and `Limit` by the tree's policy.
    /// A statement that is late has changed nothing, and neither has one whose rows are.
    pub async fn execute(&self, statement: Statement) -> Result<Output> {
        limits::limited(self.tree().policy(), Box::pin(self.carry_out(statement))).await
    }

    async fn carry_out(&self, statement: Statement) -> Result<Output> {
        let (text, body) = statement.into_parts();
        match body {
            Body::Node(statement) => self.execute_node(statement, text).await,
            Body::Engine(mut statement, past) => {
                if let Some(kept) = self.kept(&text).await? {
                    return kept.run();
                }
                self.name_past(&mut statement, &past).await?;
                if !engine_statements::is_query(&statement) {
                    return self.execute_engine(*statement, text).await;
                }
                self.query(*statement, text, false).await
            }
            Body::Summarize(mut statement, past) => {
                self.name_past(&mut statement, &past).await?;
                self.query(*statement, text, true).await
            }
        }
    }

    /// Runs a query, or summarizes it, until its first rows are there.
    async fn query(
        &self,
        statement: EngineStatement,
        text: String,
        summarizes: bool,
    ) -> Result<Output> {
        let run = async |statement, text: String| match summarizes {
            true => self.run(statement, &text, Vec::new(), Purpose::Summary).await,
            false => self.execute_engine(statement, text).await,
        };
        for _ in 0..AGAIN_MAX {
            match run(statement.clone(), text.clone()).await?.begun().await {
                // What a text holds beyond its beginning was not known before.
                Err(error) if error.is_passing() => {}
                begun => return begun,
            }
        }
        run(statement, text).await
    }

    /// Runs a query about one file, which may leave out its FROM: `SELECT * WHERE x > 25`. With a
    /// FROM, the file is called `source`, or by its path.
    ///
    /// # Errors
    /// `Invalid` if `text` is no query; else as [`PondContext::execute`].
    pub async fn cat_sql(&self, path: &PondPath, text: &str) -> Result<Output> {
        limits::limited(self.tree().policy(), Box::pin(self.query_file(path, text))).await
    }

    async fn query_file(&self, path: &PondPath, text: &str) -> Result<Output> {
        let text = from_clause::add_from(text, SOURCE)?;
        let (_, body) = self.script(&text).only()?.into_parts();
        let Body::Engine(mut statement, past) = body else { return Err(not_a_query()) };
        self.name_past(&mut statement, &past).await?;
        if !engine_statements::is_query(&statement) {
            return Err(not_a_query());
        }
        let aliases = vec![(SOURCE.to_owned(), path.clone())];
        self.run(*statement, &text, aliases, Purpose::Rows(&text)).await
    }

    /// Returns the engine for copies of what the pond shows, views included
    /// ([`Export`](crate::tree::Export), [`Edit::copy`]).
    ///
    /// # Errors
    /// Those of [`Tree::snapshot`].
    pub async fn engine(&self) -> Result<Engine> {
        let binding = self.bind_with(Vec::new(), Answers::Make).await?;
        let context = self.clone();
        Ok(Engine::new(move || Ok(context.lean().bound(&binding))))
    }

    /// Sets the directory that relative paths are relative to.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for what is no directory.
    pub async fn change_directory(&self, path: &PondPath) -> Result<()> {
        let root = self.tree().root(self.snapshot().await?);
        match resolve(&root, path).await? {
            Node::Directory(_) => {
                *self.inner.directory.write().expect("never poisoned") = path.clone();
                Ok(())
            }
            _ => Err(Error::invalid(format!("'{path}' is not a directory"))),
        }
    }

    fn lean(&self) -> &LeanSession {
        self.inner
            .session
            .get_or_init(|| LeanSession::new(self.inner.config.clone(), self.inner.runtime.clone()))
    }

    /// Binds a statement to what it sees. Answers that are kept are read, and none is made.
    async fn bind(&self, aliases: Vec<(String, PondPath)>) -> Result<Arc<Binding>> {
        self.bind_with(aliases, Answers::Read).await
    }

    /// Binds a statement to what it sees; in an open transaction that is no answer that is kept.
    async fn bind_with(
        &self,
        aliases: Vec<(String, PondPath)>,
        answers: Answers,
    ) -> Result<Arc<Binding>> {
        if let Some(edit) = self.inner.open.lock().await.as_ref() {
            return Ok(self.bind_to(edit.snapshot(), aliases, Answers::None.into()));
        }
        // Many statements that only look need no engine.
        let plans = (answers == Answers::Make).then(|| self.lean().plans().clone());
        let reading = Reading { answers, plans, remake: None };
        Ok(self.bind_to(self.tree().snapshot().await?, aliases, reading))
    }

    fn bind_to(
        &self,
        snapshot: Arc<Snapshot>,
        aliases: Vec<(String, PondPath)>,
        reading: Reading,
    ) -> Arc<Binding> {
        let context = self.clone();
        Binding::pinned(
            self.tree().clone(),
            snapshot,
            self.directory(),
            aliases,
            reading,
            Arc::new(move |binding, complete| {
                let lean = context.lean();
                if complete {
                    lean.complete();
                }
                Ok(lean.bound(binding))
            }),
        )
    }

    async fn execute_engine(&self, mut statement: EngineStatement, text: String) -> Result<Output> {
        if let EngineStatement::Explain(explain) = &mut statement
            && let Some(write) =
                write_syntax::of_statement(&mut explain.statement, &self.directory())?
        {
            let analyze = explain.options.analyze;
            return self.explain_write(statement, write, analyze).await;
        }
        if let Some(write) = write_syntax::of_statement(&mut statement, &self.directory())? {
            return self.write(statement, write, text).await;
        }
        match self.intercept(&statement, &text).await? {
            Some(output) => Ok(output),
            None => self.run(statement, &text, Vec::new(), Purpose::Rows(&text)).await,
        }
    }

    /// Plans and runs a statement of the engine's.
    async fn run(
        &self,
        statement: EngineStatement,
        text: &str,
        aliases: Vec<(String, PondPath)>,
        purpose: Purpose<'_>,
    ) -> Result<Output> {
        // What only looks at nodes makes no answers.
        let looks = match &statement {
            EngineStatement::Explain(explain) => !explain.options.analyze,
            _ => resolve_table_references(&statement, true)?
                .0
                .iter()
                .any(|table| table.schema() == Some("information_schema")),
        };
        let answers = if looks { Answers::Read } else { Answers::Make };
        let binding = self.bind_with(aliases, answers).await?;
        let (state, planned) = self.planned(&binding, statement, purpose).await?;
        match planned {
            Planned::Query(plan) => {
                Ok(Output::new(OutputKind::Rows, execute_stream(plan, state.task_ctx())?))
            }
            Planned::Rows(_) => Err(Error::invalid("the statement writes nothing")),
            #[cfg(feature = "serve")]
            Planned::Described(_) => Err(Error::invalid("the statement is not run")),
            Planned::Node(new) => {
                let mut work = self.work(text.to_owned()).await?;
                let change = self.make(work.edit(), new).await?;
                work.finish(vec![change]).await
            }
            Planned::Session(plan) => self.run_in_session(plan, &state).await,
        }
    }

    /// Plans a statement of the engine's, and returns the session to run it in.
    async fn planned(
        &self,
        binding: &Arc<Binding>,
        statement: EngineStatement,
        purpose: Purpose<'_>,
    ) -> Result<(SessionState, Planned)> {
        #[cfg(feature = "ballista")]
        if let Some(cluster) = &self.inner.cluster {
            return self.planned_with(cluster, binding, statement, purpose).await;
        }
        self.planned_here(binding, statement, purpose).await
    }

    /// Plans a statement to be run in this process.
    async fn planned_here(
        &self,
        binding: &Arc<Binding>,
        statement: EngineStatement,
        purpose: Purpose<'_>,
    ) -> Result<(SessionState, Planned)> {
        let lean = self.lean();
        let mut was_complete = lean.is_complete();
        let mut state = lean.bound(binding);
        let references = state.resolve_table_references(&statement)?;
        if references.iter().any(|table| table.schema() == Some("information_schema")) {
            binding.prepare_listing().await?;
            lean.complete();
            was_complete = true;
            state = lean.bound(binding);
        }
        let mut planned = self.plan(&state, binding, statement.clone(), purpose).await;
        if planned.is_err() && !was_complete {
            lean.complete();
            state = lean.bound(binding);
            planned = self.plan(&state, binding, statement, purpose).await;
        }
        match planned {
            Ok(planned) => Ok((state, planned)),
            Err(error) => Err(self.explain(error, &references, binding, &state)),
        }
    }

    async fn plan(
        &self,
        state: &SessionState,
        binding: &Arc<Binding>,
        statement: EngineStatement,
        purpose: Purpose<'_>,
    ) -> Result<Planned, DataFusionError> {
        let mut plan = state.statement_to_plan(statement).await?;
        match (purpose, plan) {
            (Purpose::Rows(_), planned) => plan = planned,
            (Purpose::Summary, planned) => plan = summary::summarize(planned)?,
            #[cfg(feature = "serve")]
            (Purpose::Description, planned) => return Ok(Planned::Described(Box::new(planned))),
            (Purpose::Write(writing), LogicalPlan::Explain(explain)) => {
                return writing.explain(explain, state).await.map(Planned::Query);
            }
            (Purpose::Write(writing), plan) => {
                let plans = writing.plan(&plan, binding, state, self.inner.host_files).await?;
                return Ok(Planned::Rows(plans));
            }
        }
        if let Some(new) = engine_statements::node_of_plan(&plan, binding)? {
            return Ok(Planned::Node(new));
        }
        let Inner { host_files, is_memory_shared, .. } = *self.inner;
        engine_statements::check_plan(&plan, binding, state, host_files, is_memory_shared)?;
        match plan {
            LogicalPlan::Ddl(_) | LogicalPlan::Statement(_) => Ok(Planned::Session(Box::new(plan))),
            plan => {
                let physical = physical_plan(state, &plan).await?;
                if let Purpose::Rows(text) = purpose {
                    self.keep(text, &plan, &physical, binding).await?;
                }
                Ok(Planned::Query(physical))
            }
        }
    }

    /// Runs what changes the session itself: its settings, its own tables, prepared statements.
    async fn run_in_session(&self, plan: Box<LogicalPlan>, state: &SessionState) -> Result<Output> {
        // The session plans some of these again, without the copy that was made for the statement.
        self.lean().complete();
        self.lean().plans().clear();
        let explain = |error| diagnose::explain(error, state);
        let is_query = engine_statements::is_execute(&plan);
        let rows = self.session().execute_logical_plan(*plan).await.map_err(explain)?;
        let stream = rows.execute_stream().await.map_err(explain)?;
        let kind = if is_query { OutputKind::Rows } else { OutputKind::Done };
        Ok(Output::new(kind, stream))
    }

    /// Says why a statement could not be planned: first of all, because of a path.
    fn explain(
        &self,
        error: DataFusionError,
        references: &[datafusion::common::TableReference],
        binding: &Binding,
        state: &SessionState,
    ) -> Error {
        let is_ours = diagnose::is_ours(&error);
        let explained = diagnose::explain(error, state);
        if is_ours {
            return explained;
        }
        let names_it = |table: &&datafusion::common::TableReference| {
            explained.message().contains(&format!("'{table}'"))
                || explained.message().contains(&format!("'{}'", table.table()))
        };
        let of_path = references.iter().filter(names_it).find_map(|table| binding.error_of(table));
        of_path.unwrap_or(explained)
    }
}

/// Plans the rows of a query: on the cluster that `state` plans for, if it does.
async fn physical_plan(
    state: &SessionState,
    plan: &LogicalPlan,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let physical = state.create_physical_plan(plan).await?;
    #[cfg(feature = "ballista")]
    if let Some(placing) = state.config().get_extension::<crate::cluster::Placing>()
        && !matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_))
    {
        // What goes along with a plan must say of it what is so: the scheduler cuts the rest alike.
        return match placing.narrower(&physical, state) {
            Some(state) => {
                let physical = state.create_physical_plan(plan).await?;
                placing.place(physical, state.config())
            }
            None => placing.place(physical, state.config()),
        };
    }
    Ok(physical)
}

/// What the rows of a statement are for.
#[derive(Clone, Copy)]
enum Purpose<'a> {
    /// They are the answer to this text.
    Rows(&'a str),
    /// They are summarized.
    Summary,
    /// They are written.
    Write(&'a Writing),
    /// None is wanted: what they would be is.
    #[cfg(feature = "serve")]
    Description,
}

/// A statement that is ready to run.
enum Planned {
    Query(Arc<dyn ExecutionPlan>),
    /// What a file is to hold: the rows of one plan after the other's.
    Rows(Vec<Arc<dyn ExecutionPlan>>),
    Node(crate::tree::NewNode),
    Session(Box<LogicalPlan>),
    /// What is not run.
    #[cfg(feature = "serve")]
    Described(Box<LogicalPlan>),
}

fn not_a_query() -> Error {
    Error::invalid("a query about one file must be a SELECT")
        .with_hint("SELECT * WHERE …; the file is called source in a FROM")
}
