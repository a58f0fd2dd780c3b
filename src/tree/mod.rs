//! The tree as users see it: stored nodes opened as [`Directory`] and [`File`](crate::node::File), dynamic ones through
//! their factories, and the verbs that change it.
//!
//! A directory of the pond is a view of one [`Snapshot`], so everything reached from one root is of
//! one transaction. Opening a node opens nothing else: a broken node (its factory is unknown, its
//! source is gone) is listed with its error and fails only when it is opened itself.
//!
//! Changes are collected in an [`Edit`], which becomes one transaction; each verb checks everything
//! before it writes: a recipe that does not open is never stored.

mod edit;
mod export;
mod graph;
mod history;
mod import;
mod lineage;
pub mod past;
mod stored;
mod tables;
mod undo;
mod upkeep;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use self::stored::StoredDirectory;
use crate::cache::Cache;
use crate::entry::{EntryType, OplogEntry};
use crate::error::{Error, Result};
use crate::factory::{Config, CreateContext, FactoryRegistry, OptionKind};
use crate::format::OpenTables;
use crate::node::{Directory, lookup, not_found};
use crate::path::PondPath;
use crate::policy::Policy;
use crate::pond::{At, LogEntry, Pond};
pub use crate::progress::Progress;
use crate::snapshot::{Located, Snapshot};
use crate::transaction::read_only;
pub use edit::{Edit, Savepoint, WriteMode};
pub use export::{Export, ExportSource, Exported, read_node};
pub use graph::{Direction, Edge, LineageGraph, Vertex};
pub use history::{DiffEntry, HistoryEntry};
pub use import::{Import, ImportSource, Imported};
pub use lineage::{LEVELS_MAX, Lineage, Source};
pub use undo::Undo;
pub use upkeep::Maintained;
pub use walk::{Engine, Skipped};

/// A pond with its factories: what the shell and the SQL surface call.
#[derive(Debug, Clone)]
pub struct Tree {
    pond: Pond,
    factories: FactoryRegistry,
    cache: Arc<Cache>,
    tables: Arc<OpenTables>,
    create: CreateContext,
}

/// A dynamic node to be made.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Where; missing directories above it are made.
    pub path: PondPath,
    /// Name of its factory.
    pub factory: String,
    /// The factory's options, not yet checked.
    pub options: Vec<(String, Value)>,
    /// What to do if the path is taken.
    pub mode: CreateMode,
    /// The user's words about it.
    pub comment: Option<String>,
}

/// What to do if the path of a new node is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CreateMode {
    /// Fail.
    #[default]
    New,
    /// Leave what is there.
    IfNotExists,
    /// Replace a dynamic node; static content is never replaced.
    OrReplace,
}

impl CreateMode {
    /// Returns the mode that the clauses of a statement about `path` mean.
    ///
    /// # Errors
    /// `Invalid` for both.
    pub fn of_clauses(path: &PondPath, if_not_exists: bool, or_replace: bool) -> Result<Self> {
        match (if_not_exists, or_replace) {
            (true, true) => Err(Error::invalid(format!(
                "'{path}': OR REPLACE and IF NOT EXISTS exclude each other"
            ))),
            (true, false) => Ok(Self::IfNotExists),
            (false, true) => Ok(Self::OrReplace),
            (false, false) => Ok(Self::New),
        }
    }
}

/// A change to a dynamic node.
#[derive(Debug, Clone)]
pub enum AlterNode {
    /// Sets options; the others stay.
    Set(Vec<(String, Value)>),
    /// Gives options their defaults back.
    Reset(Vec<String>),
    /// Sets or removes the comment.
    Comment(Option<String>),
}

/// How nodes are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DropNodes {
    /// A node that is not there is fine.
    pub if_exists: bool,
    /// A directory goes with all below it.
    pub recursive: bool,
    /// The nodes that read what is dropped go, too; else there must be none.
    pub cascade: bool,
}

/// What a verb did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `created`, `replaced`, `appended`, `altered`, `renamed`, `copied`, `restored`, `dropped`,
    /// `refreshed`, `exists` or `unchanged`.
    pub status: &'static str,
    /// The transaction, if one was needed.
    pub txn: Option<i64>,
    /// The node.
    pub path: PondPath,
}

impl Change {
    /// Whether the verb wrote anything.
    pub fn is_written(&self) -> bool {
        !matches!(self.status, "exists" | "unchanged" | "refreshed")
    }
}

/// A stored node: its newest row, and whether it can be opened.
#[derive(Debug, Clone)]
pub struct StoredNode {
    /// Where it is.
    pub path: PondPath,
    /// Its newest row.
    pub entry: Arc<OplogEntry>,
    /// Why it cannot be opened, as far as that is known without opening it.
    pub error: Option<String>,
}

impl Tree {
    /// Makes the tree of `pond` with the built-in factories.
    pub fn new(pond: Pond) -> Self {
        let pond_dir = pond.dir().map(std::path::Path::to_owned);
        let cache = match pond.cache_dir() {
            Some(dir) => Cache::at(dir.to_owned()),
            None => Cache::none(),
        };
        let create = CreateContext { base_dir: None, pond_dir, policy: pond.policy().clone() };
        Self {
            pond,
            factories: FactoryRegistry::default(),
            cache: Arc::new(cache),
            tables: Arc::default(),
            create,
        }
    }

    /// Returns the same tree, which may be used for what `policy` allows, and for nothing that this one
    /// does not.
    #[must_use]
    pub fn restricted(mut self, policy: Policy) -> Self {
        self.pond = self.pond.restricted(policy);
        self.create.policy = self.pond.policy().clone();
        self
    }

    /// Sets what relative host paths are relative to: a shell's working directory.
    #[must_use]
    pub fn with_base_dir(mut self, dir: PathBuf) -> Self {
        self.create.base_dir = Some(dir);
        self
    }

    /// Returns what relative host paths are relative to, if they mean anything.
    pub fn base_dir(&self) -> Option<&Path> {
        self.create.base_dir.as_deref()
    }

    /// Returns the pond.
    pub fn pond(&self) -> &Pond {
        &self.pond
    }

    /// Returns what the tree may be used for: the policy of the handle that it was made over.
    pub fn policy(&self) -> &Policy {
        self.pond.policy()
    }

    /// Returns the factories; an application adds its own there.
    pub fn factories(&self) -> &FactoryRegistry {
        &self.factories
    }

    /// Returns the cache of derived files.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Returns the newest snapshot.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.pond.snapshot().await
    }

    /// Returns the root directory at `snapshot`.
    pub fn root(&self, snapshot: Arc<Snapshot>) -> Arc<dyn Directory> {
        Arc::new(StoredDirectory::root(self.clone(), snapshot))
    }

    /// Returns the root directory of a snapshot of the past, in which what is live does not open.
    pub fn past_root(&self, snapshot: Arc<Snapshot>) -> Arc<dyn Directory> {
        Arc::new(StoredDirectory::past_root(self.clone(), snapshot))
    }

    /// Begins a transaction. `message` is stored with its rows: the statement, or the user's words.
    ///
    /// # Errors
    /// Those of [`Pond::snapshot`].
    pub async fn begin(&self, message: Option<String>) -> Result<Edit> {
        Ok(Edit::new(self.clone(), self.pond.begin(message).await?))
    }

    /// Returns the tree as it was at some point of its history.
    ///
    /// # Errors
    /// Those of [`Pond::as_of`].
    pub async fn as_of(&self, at: At) -> Result<Arc<Snapshot>> {
        self.pond.as_of(at).await
    }

    /// [`Edit::create_node`] as a transaction of its own.
    ///
    /// # Errors
    /// Those of the verb, and `Conflict`.
    pub async fn create_node(&self, new: NewNode, message: Option<String>) -> Result<Change> {
        let mut edit = self.begin(message).await?;
        edit.create_node(new).await?;
        edit.commit_one().await
    }

    /// [`Edit::alter_node`] as a transaction of its own.
    ///
    /// # Errors
    /// Those of the verb, and `Conflict`.
    pub async fn alter_node(
        &self,
        path: &PondPath,
        change: AlterNode,
        message: Option<String>,
    ) -> Result<Change> {
        let mut edit = self.begin(message).await?;
        edit.alter_node(path, change).await?;
        edit.commit_one().await
    }

    /// [`Edit::drop_nodes`] as a transaction of its own.
    ///
    /// # Errors
    /// Those of the verb, and `Conflict`.
    pub async fn drop_nodes(
        &self,
        paths: &[PondPath],
        drop: DropNodes,
        message: Option<String>,
    ) -> Result<Vec<Change>> {
        let mut edit = self.begin(message).await?;
        edit.drop_nodes(paths, drop).await?;
        edit.commit().await
    }

    /// [`Edit::rename`] as a transaction of its own.
    ///
    /// # Errors
    /// Those of the verb, and `Conflict`.
    pub async fn rename(
        &self,
        from: &PondPath,
        to: &PondPath,
        message: Option<String>,
    ) -> Result<Change> {
        let mut edit = self.begin(message).await?;
        edit.rename(from, to).await?;
        edit.commit_one().await
    }

    /// [`Edit::mkdir`] as a transaction of its own.
    ///
    /// # Errors
    /// Those of the verb, and `Conflict`.
    pub async fn mkdir(
        &self,
        path: &PondPath,
        parents: bool,
        message: Option<String>,
    ) -> Result<Change> {
        let mut edit = self.begin(message).await?;
        edit.mkdir(path, parents).await?;
        edit.commit_one().await
    }

    /// Returns the stored node at `path`; `None` if there is none, also below a dynamic node.
    pub fn stored(&self, snapshot: &Snapshot, path: &PondPath) -> Result<Option<StoredNode>> {
        match snapshot.locate(path)? {
            Located::Found(entry) => Ok(Some(self.describe(snapshot, path.clone(), entry))),
            _ => Ok(None),
        }
    }

    /// Returns the stored nodes below the directory `path`, in the order of their paths; with
    /// `recursive`, all of them, else its children. None below a dynamic node.
    pub fn stored_below(
        &self,
        snapshot: &Snapshot,
        path: &PondPath,
        recursive: bool,
    ) -> Result<Vec<StoredNode>> {
        let Located::Found(directory) = snapshot.locate(path)? else { return Ok(Vec::new()) };
        let mut nodes = Vec::new();
        let mut open = vec![(path.clone(), snapshot.children(directory.node_id))];
        while let Some((path, children)) = open.last_mut() {
            let Some(child) = children.next().transpose()? else {
                open.pop();
                continue;
            };
            let path = path.child(&child.name);
            let below = (recursive && child.entry_type == EntryType::Directory)
                .then(|| snapshot.children(child.node_id));
            nodes.push(self.describe(snapshot, path.clone(), child));
            open.extend(below.map(|children| (path, children)));
        }
        Ok(nodes)
    }

    /// Returns the transactions of the past, oldest first.
    pub async fn log(&self) -> Result<Vec<LogEntry>> {
        self.pond.log().await
    }

    /// Returns what the recipes of a snapshot read.
    pub fn lineage<'a>(&'a self, snapshot: &'a Snapshot) -> Lineage<'a> {
        Lineage { factories: &self.factories, snapshot }
    }

    /// Returns the host directories that a row's recipe names.
    fn host_directories(&self, row: &OplogEntry) -> Result<Vec<PathBuf>> {
        let factory = row.dynamic_factory().and_then(|name| self.factories.get(name));
        let Some(factory) = factory.filter(|_| !row.deleted) else { return Ok(Vec::new()) };
        let is_host = |name: &str| {
            let mut options = factory.options().iter();
            options.any(|spec| spec.name == name && spec.kind == OptionKind::HostDirectory)
        };
        let Some(content) = &row.content else { return Ok(Vec::new()) };
        let config = Config::from_json(content)?;
        let named = config.iter().filter(|(name, _)| is_host(name));
        Ok(named.filter_map(|(_, value)| value.as_str().map(PathBuf::from)).collect())
    }

    fn describe(&self, snapshot: &Snapshot, path: PondPath, entry: OplogEntry) -> StoredNode {
        let error = self.lineage(snapshot).broken(&entry);
        StoredNode { path, entry: Arc::new(entry), error }
    }

    /// Returns the stored node at `path`, or the error that says best why there is none to change.
    async fn require(&self, view: &Snapshot, path: &PondPath) -> Result<OplogEntry> {
        match view.locate(path)? {
            Located::Found(entry) => Ok(entry),
            Located::Dynamic { entry, at } => {
                let root = self.root(Arc::new(view.clone()));
                if let Ok(None) = lookup(&root, path).await {
                    return Err(not_found(&root, path).await);
                }
                Err(read_only(path, &entry, &at)
                    .with_hint(format!("to remove the node itself: DROP NODE '{at}'")))
            }
            _ => Err(not_found(&self.root(Arc::new(view.clone())), path).await),
        }
    }
}
