//! The tree as users see it: stored nodes opened as [`Directory`] and [`File`], dynamic ones through
//! their factories, and the verbs that change it.
//!
//! A directory of the pond is a view of one [`Snapshot`], so everything reached from one root is of
//! one transaction. Opening a node opens nothing else: a broken node (its factory is unknown, its
//! source is gone) is listed with its error and fails only when it is opened itself.
//!
//! Each verb is one transaction and checks everything before it writes: a recipe that does not open is
//! never stored.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Map, Value};

use crate::cache::Cache;
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::factory::{Config, CreateContext, Factory, FactoryRegistry, OpenContext};
use crate::format::TableSource;
use crate::node::{DirEntry, Directory, File, ListFields, Node, lookup, not_found};
use crate::path::PondPath;
use crate::pond::{LogEntry, Pond};
use crate::snapshot::{Located, Snapshot, symlink_target};
use crate::transaction::{NodeContent, Transaction, read_only};

/// A pond with its factories: what the shell and the SQL surface call.
#[derive(Debug, Clone)]
pub struct Tree {
    pond: Pond,
    factories: FactoryRegistry,
    cache: Arc<Cache>,
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

/// What a verb did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `created`, `replaced`, `exists`, `altered`, `dropped`, `renamed` or `unchanged`.
    pub status: &'static str,
    /// The transaction, if one was needed.
    pub txn: Option<i64>,
    /// The node.
    pub path: PondPath,
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
        let cache = match &pond_dir {
            Some(dir) => Cache::at(dir.join("cache")),
            None => Cache::none(),
        };
        let create = CreateContext { base_dir: None, pond_dir };
        Self { pond, factories: FactoryRegistry::default(), cache: Arc::new(cache), create }
    }

    /// Sets what relative host paths are relative to: a shell's working directory.
    #[must_use]
    pub fn with_base_dir(mut self, dir: PathBuf) -> Self {
        self.create.base_dir = Some(dir);
        self
    }

    /// Returns the pond.
    pub fn pond(&self) -> &Pond {
        &self.pond
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
        Arc::new(StoredDirectory {
            view: Arc::new(View {
                snapshot,
                factories: self.factories.clone(),
                cache: self.cache.clone(),
            }),
            id: NodeId::ROOT,
            path: PondPath::root(),
        })
    }

    /// Makes a dynamic node, and the directories above it that are missing.
    ///
    /// # Errors
    /// `NotFound` for an unknown factory, `Invalid` for bad options, `AlreadyExists`, `ReadOnly` inside
    /// a dynamic node, `Conflict`, and whatever keeps the node from being opened.
    pub async fn create_node(&self, new: NewNode, message: Option<String>) -> Result<Change> {
        let factory = self.factories.require(&new.factory)?;
        let config = Config::validate(&*factory, new.options)?;
        let mut transaction = self.pond.begin(message).await?;
        let path = new.path;
        let replaced = match transaction.view().locate(&path)? {
            Located::Found(_) if new.mode == CreateMode::IfNotExists => {
                return Ok(Change { status: "exists", txn: None, path });
            }
            Located::Found(entry) if new.mode == CreateMode::OrReplace => {
                if entry.dynamic_factory().is_none() {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("'{path}' is a static {}", entry.entry_type),
                    )
                    .with_hint(format!(
                        "OR REPLACE replaces dynamic nodes only; DROP NODE '{path}' first"
                    )));
                }
                true
            }
            Located::Found(_) => {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("'{path}' already exists"),
                )
                .with_hint(format!("use CREATE OR REPLACE NODE, or DROP NODE '{path}' first")));
            }
            _ => false,
        };
        let attributes =
            new.comment.map(|comment| serde_json::json!({"comment": comment}).to_string());
        let content = self.recipe(&*factory, config, &path, &transaction, attributes).await?;
        let status = if replaced {
            transaction.update(&path, content)?;
            "replaced"
        } else {
            transaction.create(&path, content)?;
            "created"
        };
        self.commit(transaction, status, path).await
    }

    /// Completes a configuration, opens the node once, and returns what is stored of it.
    async fn recipe(
        &self,
        factory: &dyn Factory,
        config: Config,
        path: &PondPath,
        transaction: &Transaction,
        attributes: Option<String>,
    ) -> Result<NodeContent> {
        let config = factory.prepare(config, &self.create).await?;
        let cx = OpenContext {
            path: path.clone(),
            root: self.root(Arc::new(transaction.view().clone())),
            cache: self.cache.clone(),
        };
        factory.open(&config, &cx).await?;
        Ok(NodeContent {
            entry_type: factory.entry_type(&config),
            factory: Some(factory.name().to_owned()),
            content: Some(Bytes::from(config.to_json())),
            attributes,
        })
    }

    /// Changes the configuration or the comment of a dynamic node.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported` for a static node, and as [`Tree::create_node`].
    pub async fn alter_node(
        &self,
        path: &PondPath,
        change: AlterNode,
        message: Option<String>,
    ) -> Result<Change> {
        let mut transaction = self.pond.begin(message).await?;
        let entry = self.require(transaction.view(), path).await?;
        let Some(factory) = entry.dynamic_factory() else {
            return Err(Error::unsupported(format!("'{path}' is static: it has no options"))
                .with_hint("ALTER NODE changes nodes that a factory makes"));
        };
        let factory = self.factories.require(factory)?;
        let before = Config::from_json(entry.content.as_deref().unwrap_or_default())?;
        let mut options: Vec<(String, Value)> =
            before.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
        let mut attributes: Map<String, Value> = entry
            .attributes
            .as_deref()
            .and_then(|attributes| serde_json::from_str(attributes).ok())
            .unwrap_or_default();
        let comment_only = matches!(change, AlterNode::Comment(_));
        match change {
            AlterNode::Set(set) => {
                options
                    .retain(|(name, _)| !set.iter().any(|(key, _)| key.eq_ignore_ascii_case(name)));
                options.extend(set);
            }
            AlterNode::Reset(names) => {
                for name in names {
                    let known: Vec<&str> = factory.options().iter().map(|spec| spec.name).collect();
                    if !known.iter().any(|known| known.eq_ignore_ascii_case(&name)) {
                        return Err(Error::invalid(format!(
                            "factory '{}' has no option '{name}'",
                            factory.name()
                        ))
                        .with_hint_opt(crate::error::did_you_mean(&name, known)));
                    }
                    options.retain(|(key, _)| !key.eq_ignore_ascii_case(&name));
                }
            }
            AlterNode::Comment(Some(comment)) => {
                attributes.insert("comment".to_owned(), Value::String(comment));
            }
            AlterNode::Comment(None) => {
                attributes.remove("comment");
            }
        }
        let attributes = (!attributes.is_empty()).then(|| Value::Object(attributes).to_string());
        let content = if comment_only {
            // The recipe stays, also one that does not open just now.
            NodeContent {
                entry_type: entry.entry_type,
                factory: entry.factory.clone(),
                content: entry.content.clone(),
                attributes,
            }
        } else {
            let config = Config::validate(&*factory, options)?;
            self.recipe(&*factory, config, path, &transaction, attributes).await?
        };
        if content.content == entry.content && content.attributes == entry.attributes {
            return Ok(Change { status: "unchanged", txn: None, path: path.clone() });
        }
        transaction.update(path, content)?;
        self.commit(transaction, "altered", path.clone()).await
    }

    /// Takes nodes out of the tree, all in one transaction.
    ///
    /// # Errors
    /// `NotFound` unless `if_exists`; `Invalid` for a directory that is not empty unless `recursive`;
    /// `ReadOnly` inside a dynamic node.
    pub async fn drop_nodes(
        &self,
        paths: &[PondPath],
        if_exists: bool,
        recursive: bool,
        message: Option<String>,
    ) -> Result<Vec<Change>> {
        let mut transaction = self.pond.begin(message).await?;
        let mut changes = Vec::new();
        for path in paths {
            match self.require(transaction.view(), path).await {
                Err(error) if if_exists && error.kind() == ErrorKind::NotFound => {
                    changes.push(Change { status: "unchanged", txn: None, path: path.clone() });
                    continue;
                }
                result => result?,
            };
            transaction.remove(path, recursive)?;
            changes.push(Change { status: "dropped", txn: None, path: path.clone() });
        }
        if !transaction.is_empty() {
            let committed = self.pond.commit(transaction).await?;
            for change in changes.iter_mut().filter(|change| change.status == "dropped") {
                change.txn = Some(committed.txn);
            }
        }
        Ok(changes)
    }

    /// Gives a node another path; directories above it that are missing are made.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `ReadOnly`, `Conflict`; `Invalid` into itself.
    pub async fn rename(
        &self,
        from: &PondPath,
        to: &PondPath,
        message: Option<String>,
    ) -> Result<Change> {
        let mut transaction = self.pond.begin(message).await?;
        self.require(transaction.view(), from).await?;
        if from == to {
            return Ok(Change { status: "unchanged", txn: None, path: to.clone() });
        }
        transaction.rename(from, to)?;
        self.commit(transaction, "renamed", to.clone()).await
    }

    /// Makes a directory. With `parents`, those above it, too, and one that is there is fine.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` for a missing parent; `ReadOnly` inside a dynamic node.
    pub async fn mkdir(
        &self,
        path: &PondPath,
        parents: bool,
        message: Option<String>,
    ) -> Result<Change> {
        let mut transaction = self.pond.begin(message).await?;
        match transaction.view().locate(path)? {
            Located::Found(entry) if parents && entry.entry_type == EntryType::Directory => {
                return Ok(Change { status: "exists", txn: None, path: path.clone() });
            }
            Located::Missing { names, at, .. } if names.len() > 1 && !parents => {
                return Err(Error::not_found(format!("'{}' does not exist", at.child(&names[0])))
                    .with_hint("make it first, or all at once: pond mkdir -p"));
            }
            _ => {}
        }
        transaction.mkdir(path)?;
        self.commit(transaction, "created", path.clone()).await
    }

    /// Returns the stored node at `path`; `None` if there is none, also below a dynamic node.
    pub fn stored(&self, snapshot: &Snapshot, path: &PondPath) -> Result<Option<StoredNode>> {
        match snapshot.locate(path)? {
            Located::Found(entry) => Ok(Some(self.describe(path.clone(), entry))),
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
            nodes.push(self.describe(path.clone(), child));
            open.extend(below.map(|children| (path, children)));
        }
        Ok(nodes)
    }

    /// Returns the transactions of the past, oldest first.
    pub async fn log(&self) -> Result<Vec<LogEntry>> {
        self.pond.log().await
    }

    fn describe(&self, path: PondPath, entry: OplogEntry) -> StoredNode {
        let error = broken(&self.factories, &entry);
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

    async fn commit(
        &self,
        transaction: Transaction,
        status: &'static str,
        path: PondPath,
    ) -> Result<Change> {
        let committed = self.pond.commit(transaction).await?;
        Ok(Change { status, txn: Some(committed.txn), path })
    }
}

/// What all nodes of one root share.
#[derive(Debug)]
struct View {
    snapshot: Arc<Snapshot>,
    factories: FactoryRegistry,
    cache: Arc<Cache>,
}

/// A static directory at one snapshot.
#[derive(Debug, Clone)]
struct StoredDirectory {
    view: Arc<View>,
    id: NodeId,
    path: PondPath,
}

#[async_trait]
impl Directory for StoredDirectory {
    fn list(&self, _fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let view = self.view.clone();
        let children = self.view.snapshot.children(self.id);
        futures::stream::iter(children)
            .map(move |child| Ok(listed(&view.factories, &child?)))
            .boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        let Some(entry) = self.view.snapshot.child(self.id, name)? else { return Ok(None) };
        let path = self.path.child(name);
        if let Some(factory) = entry.dynamic_factory() {
            let factory = self.view.factories.require(factory).map_err(|error| {
                error.context(format!("'{path}' cannot be opened")).with_hint(
                    "it was made by another version or application; register its factory first",
                )
            })?;
            let config = Config::from_json(entry.content.as_deref().unwrap_or_default())
                .map_err(|error| error.context(format!("'{path}'")))?;
            let root = StoredDirectory {
                view: self.view.clone(),
                id: NodeId::ROOT,
                path: PondPath::root(),
            };
            let cx = OpenContext { path, root: Arc::new(root), cache: self.view.cache.clone() };
            return factory.open(&config, &cx).await.map(Some);
        }
        Ok(Some(match entry.entry_type {
            EntryType::Directory => Node::Directory(Arc::new(StoredDirectory {
                view: self.view.clone(),
                id: entry.node_id,
                path,
            })),
            EntryType::Symlink => Node::Symlink(self.path.join(&symlink_target(&entry)?)?),
            _ => Node::File(Arc::new(StoredFile {
                listed: listed(&self.view.factories, &entry),
                path,
                entry,
            })),
        }))
    }
}

/// A static file at one snapshot: its bytes are in its row.
#[derive(Debug)]
struct StoredFile {
    path: PondPath,
    entry: OplogEntry,
    listed: DirEntry,
}

#[async_trait]
impl File for StoredFile {
    async fn metadata(&self) -> Result<DirEntry> {
        Ok(self.listed.clone())
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        match (&self.entry.content, &self.entry.sha256) {
            (None, Some(sha256)) => Err(Error::unsupported(format!(
                "'{}' is stored as the blob {sha256}, which this version cannot read",
                self.path
            ))),
            (content, _) => {
                let content = content.clone().unwrap_or_default();
                Ok(Some(futures::stream::once(async { Ok(content) }).boxed()))
            }
        }
    }

    async fn table(&self, _session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        Err(Error::unsupported(format!("'{}' is a static file, which has no rows", self.path)))
    }

    async fn table_source(&self, _session: &dyn Session) -> Result<Option<TableSource>> {
        Ok(None)
    }
}

fn listed(factories: &FactoryRegistry, entry: &OplogEntry) -> DirEntry {
    let size = entry.size.or_else(|| {
        let is_static_file = entry.entry_type.is_file() && entry.dynamic_factory().is_none();
        is_static_file.then(|| entry.content.as_ref().map_or(0, |content| content.len() as i64))
    });
    DirEntry {
        name: entry.name.clone(),
        entry_type: Some(entry.entry_type),
        factory: entry.dynamic_factory().map(str::to_owned),
        dynamic: entry.dynamic_factory().is_some(),
        size,
        mtime: Some(entry.timestamp),
        mode: None,
        symlink_target: (entry.entry_type == EntryType::Symlink)
            .then(|| symlink_target(entry).unwrap_or_default()),
        version: Some(entry.version),
        txn: Some(entry.txn),
        error: broken(factories, entry),
    }
}

/// Says why a node cannot be opened, as far as its row tells.
fn broken(factories: &FactoryRegistry, entry: &OplogEntry) -> Option<String> {
    let factory = entry.dynamic_factory()?;
    factories.require(factory).err().map(|error| error.message().to_owned())
}
