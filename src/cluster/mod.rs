//! Queries on a Ballista cluster: planned here, against the statement's snapshot, and run there.
//!
//! ```text
//! statement ── plan for the cluster ── travels? ── yes ── scheduler ── executors ── rows
//!                                        └── no: why ── plan for this process ── rows
//! ```
//!
//! What is sent is a physical plan of the engine's own nodes: the files to read, as URLs that whoever
//! runs it opens, the predicates, the expressions. So a stock scheduler and stock executors run it,
//! which know nothing of ponds, and it sees one snapshot like any statement: blobs never change. Whether
//! a plan travels is found by walking it (`send`): each of its scans, functions and nodes must be one
//! that the cluster has. A plan that does not runs here as if there were no cluster, and a plan that
//! reads no file is not worth the way. `EXPLAIN` tells which it is, and why.
//!
//! Naming a cluster says that its executors open the pond's files: a pond in a directory is at the
//! same path there (the same machine, or a file system that they share), one on an object store has
//! credentials of theirs. Nothing secret is sent: of the settings those of the engine and of Ballista go
//! along, and credentials are in neither.
//!
//! A query that is given up is cancelled there (`job`); [`Cluster::settle`] waits until that was told.

mod job;
mod joins;
mod send;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ballista_core::extension::{SessionConfigExt, SessionConfigHelperExt};
use ballista_core::optimizer::with_ballista_optimizer_rules;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use tokio::task::JoinHandle;
use url::Url;
use uuid::Uuid;

use crate::error::{Error, Result};
use job::Query;
use send::Message;

/// The port of a scheduler that is told none.
const PORT: u16 = 50050;

/// The most partitions that a query is cut into, unless the session says how many: what Ballista takes.
const PARTITIONS: usize = 16;

/// How long the end of a session waits for a cluster to hear what was given up.
const SETTLE: Duration = Duration::from_secs(3);

/// A Ballista cluster, by the address of its scheduler.
#[derive(Clone)]
pub struct Cluster {
    host: String,
    port: u16,
    /// The session that its queries are of; executors keep footers of files for a session.
    session: Arc<str>,
    /// What watches over queries that run, or were given up.
    watchers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Cluster {
    /// Reads an address: `df://host:50050`. Without a port it is 50050. Nothing is connected to.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn parse(address: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid(format!("'{address}' is no address of a cluster"))
                .with_hint("a cluster is named by its scheduler: df://host:50050")
        };
        let url = Url::parse(address).map_err(|_| wrong())?;
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none()
            && url.fragment().is_none();
        match url.host_str() {
            Some(host) if url.scheme() == "df" && is_bare && !host.is_empty() => Ok(Self {
                host: host.to_owned(),
                port: url.port().unwrap_or(PORT),
                session: Uuid::now_v7().to_string().into(),
                watchers: Arc::default(),
            }),
            _ => Err(wrong()),
        }
    }

    /// Waits until the cluster was told of each query that was given up; three seconds at most.
    pub async fn settle(&self) {
        let watchers = std::mem::take(&mut *self.watchers.lock().expect("never poisoned"));
        let all = futures::future::join_all(watchers);
        // One that does not listen is not waited for.
        let _ = tokio::time::timeout(SETTLE, all).await;
    }

    /// Returns settings with those of Ballista among them, so that SQL can set them.
    pub(crate) fn settings(config: SessionConfig) -> SessionConfig {
        let settings = config.ballista_config();
        config.with_option_extension(settings)
    }

    /// Makes the session that plans for this cluster, of the one that plans for this process: settings
    /// and rules are those of a client of Ballista's. With `placing`, its plans of queries are put there.
    pub(crate) fn session(
        &self,
        here: SessionState,
        placing: Option<Arc<Placing>>,
    ) -> SessionState {
        let default = SessionConfig::new().target_partitions();
        let rules = with_ballista_optimizer_rules(here.optimizers());
        let physical_rules = joins::with_fitting(here.physical_optimizers());
        let mut config = here.config().clone();
        if config.target_partitions() == default {
            config = config.with_target_partitions(PARTITIONS);
        }
        let prefers_hash_join = config.options().optimizer.prefer_hash_join;
        // The session's own tables are there, and stay.
        config = config.upgrade_for_ballista().ballista_restricted_configuration();
        config = config.with_create_default_catalog_and_schema(false);
        // Whether their memory is enough is known here (`joins`).
        config.options_mut().optimizer.prefer_hash_join = prefers_hash_join;
        if let Some(placing) = placing {
            config.set_extension(placing);
        }
        SessionStateBuilder::new_from_existing(here)
            .with_config(config)
            .with_optimizer_rules(rules)
            .with_physical_optimizer_rules(physical_rules)
            .build()
    }

    fn watch(&self, watcher: JoinHandle<()>) {
        let mut watchers = self.watchers.lock().expect("never poisoned");
        watchers.retain(|watcher| !watcher.is_finished());
        watchers.push(watcher);
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "df://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({self})")
    }
}

/// Puts the plans of one statement on a cluster: an extension of the session that plans them.
#[derive(Debug)]
pub(crate) struct Placing {
    cluster: Cluster,
    has_placed: AtomicBool,
    /// The partitions that its plan is cut into; 0 for those of the session.
    partitions: AtomicUsize,
}

impl Placing {
    /// Begins a statement.
    pub(crate) fn on(cluster: &Cluster) -> Arc<Self> {
        Arc::new(Self {
            cluster: cluster.clone(),
            has_placed: AtomicBool::new(false),
            partitions: AtomicUsize::new(0),
        })
    }

    /// Whether a plan of the statement runs on the cluster.
    pub(crate) fn has_placed(&self) -> bool {
        self.has_placed.load(Ordering::Relaxed)
    }

    /// Returns the session that plans a query anew in fewer partitions, if `plan`, made in `state`, reads
    /// too little for as many. Each is a task of its own, that hashes anew what is sent to all of them; what
    /// Ballista's planner takes a partition to be worth, it can only put together while a query runs.
    pub(crate) fn narrower(
        &self,
        plan: &Arc<dyn ExecutionPlan>,
        state: &SessionState,
    ) -> Option<SessionState> {
        if state.config().target_partitions() != PARTITIONS {
            return None;
        }
        let bytes = joins::largest_scan(plan);
        let least = state.config().ballista_config().coalesce_target_partition_bytes();
        let partitions = bytes.div_ceil(least.max(1) as u64);
        let partitions = usize::try_from(partitions).unwrap_or(PARTITIONS).max(2);
        if partitions >= PARTITIONS {
            return None;
        }
        self.partitions.store(partitions, Ordering::Relaxed);
        let mut state = state.clone();
        self.narrow(&mut state);
        Some(state)
    }

    /// Has a session plan in the partitions that the statement's plan is cut into.
    pub(crate) fn narrow(&self, state: &mut SessionState) {
        match self.partitions.load(Ordering::Relaxed) {
            0 => {}
            partitions => {
                state.config_mut().options_mut().execution.target_partitions = partitions;
            }
        }
    }

    /// Returns the plan that has the rows of `plan` made on the cluster.
    ///
    /// # Errors
    /// [`Stays`], carried by the engine's error, for one that must run here.
    pub(crate) fn place(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &SessionConfig,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let message = Message::of(plan)?;
        let placed = Query::new(self.cluster.clone(), message, config).into_plan()?;
        self.has_placed.store(true, Ordering::Relaxed);
        Ok(placed)
    }
}

/// Why a plan runs in this process.
#[derive(Debug)]
pub(crate) struct Stays(pub(crate) String);

impl Stays {
    /// Finds it in what planning failed with.
    pub(crate) fn find(error: &DataFusionError) -> Option<&Self> {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(stays) = error.downcast_ref::<Self>() {
                return Some(stays);
            }
            cause = error.source();
        }
        None
    }
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Stays {}

impl From<Stays> for DataFusionError {
    fn from(stays: Stays) -> Self {
        DataFusionError::External(Box::new(stays))
    }
}
