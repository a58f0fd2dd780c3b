//! The pond as a catalog of the engine: a schema is a directory, a table is a file with rows in it.
//!
//! ```text
//! pond."/sensors"."a.series"      catalog, directory, file
//! '/sensors/a.series'             the same, as a bare name
//! '/sensors/*.csv'                a glob: all matches are one table, columns matched by name
//! 'a.series'                      relative to the session's directory
//! '/sensors/a.series@v12'         as it was after transaction 12
//! ```
//!
//! A `Binding` says what one statement sees: the root of one snapshot, the session's directory, and
//! the tables opened so far. `Catalogs` puts it over a session's own catalogs. A name that starts
//! with `/` is always a pond path; other names are the session's own tables first.
//!
//! A path that cannot be opened is no table to the engine, which must not fail when it asks for the
//! target of a CREATE or lists the columns of everything. Why it could not be opened is kept, and
//! `Binding::error_of` gives it to whoever finds the name in a FROM.
//!
//! A derived node is planned by the binding of the statement that reads it (`derived.rs`), once for
//! each statement, and inlined.
//!
//! The listing behind `information_schema` is bounded ([`LISTED_TABLES_MAX`]): stored nodes, and the
//! directories of dynamic ones, level by level ([`LISTED_DIRECTORIES_MAX`]); none is opened as a table.

mod answers;
mod derived;
mod increment;
mod plans;
mod shared;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::{StreamExt, TryStreamExt};

use crate::entry::EntryType;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{self, TableFormat, TableSource};
use crate::glob::Glob;
use crate::node::{
    DirEntry, Directory, ListFields, Match, Node, find_files, lookup, not_found, resolve,
};
use crate::path::{PondPath, is_glob};
use crate::snapshot::Snapshot;
pub use crate::sql::CATALOG;
use crate::tree::Tree;
use crate::tree::past::InTime;
pub(crate) use answers::{Answers, Reading};
pub(crate) use derived::moment;
pub(crate) use plans::{Plans, is_of};

/// How many tables `information_schema` lists.
pub const LISTED_TABLES_MAX: usize = 10_000;

/// How many children of one dynamic directory `information_schema` looks at.
pub const LISTED_CHILDREN_MAX: usize = 1_000;

/// How many directories below dynamic ones `information_schema` looks into, these included.
pub const LISTED_DIRECTORIES_MAX: usize = 256;

/// How many files of a glob are opened at once.
const GLOB_OPENS: usize = 16;

/// How many directories a statement keeps open.
const KEPT_DIRECTORIES_MAX: usize = 64;

/// How many errors are kept of a binding that many statements share.
const KEPT_ERRORS_MAX: usize = 64;

/// Makes the session that opens tables: bound to the same binding, so that what a table is made of
/// resolves as the statement does. With `true`, it has all functions there are.
pub(crate) type OpenSession =
    Arc<dyn Fn(&Arc<Binding>, bool) -> Result<SessionState> + Send + Sync>;

/// The tables that were opened, or why they could not be, by path.
type Tables = HashMap<String, Result<Arc<dyn TableProvider>>>;

/// What names mean to one statement, or to all statements of a foreign session.
pub(crate) struct Binding {
    tree: Tree,
    /// The statement's snapshot; `None` reads the newest each time.
    pinned: Option<Pinned>,
    /// What relative names are relative to; without it, they are not ours.
    directory: Option<PondPath>,
    /// Names that stand for a path, as `source` in a query about one file.
    aliases: Vec<(String, PondPath)>,
    /// Whether it is a stored query that is bound: the session's own tables are not there then.
    is_stored: bool,
    session: OpenSession,
    opened: Arc<Mutex<Tables>>,
    /// The directories that make what is in them and were looked into.
    directories: Arc<Mutex<HashMap<PondPath, Arc<dyn Directory>>>>,
    /// What all bindings of one statement share.
    derived: Arc<derived::Statement>,
    listing: Mutex<Listed>,
    is_used: AtomicBool,
}

/// What the engine's synchronous questions are answered from.
#[derive(Default)]
struct Listed {
    /// The newest snapshot seen.
    snapshot: Option<Arc<Snapshot>>,
    /// Its tables, once they were asked for.
    tables: Option<Arc<Listing>>,
}

#[derive(Clone)]
struct Pinned {
    snapshot: Arc<Snapshot>,
    root: Arc<dyn Directory>,
    /// Whether it is looked at from later.
    is_past: bool,
}

/// Names by directory.
pub(crate) type Listing = BTreeMap<String, BTreeMap<String, TableType>>;

impl fmt::Debug for Binding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binding").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Binding {
    /// Binds a statement to `snapshot`.
    pub(crate) fn pinned(
        tree: Tree,
        snapshot: Arc<Snapshot>,
        directory: PondPath,
        aliases: Vec<(String, PondPath)>,
        reading: Reading,
        session: OpenSession,
    ) -> Arc<Self> {
        let root = tree.root(snapshot.clone());
        let listed = Listed { snapshot: Some(snapshot.clone()), tables: None };
        Arc::new(Self {
            tree,
            pinned: Some(Pinned { snapshot, root, is_past: false }),
            directory: Some(directory),
            aliases,
            is_stored: false,
            session,
            opened: Arc::default(),
            directories: Arc::default(),
            derived: Arc::new(derived::Statement::new(reading)),
            listing: Mutex::new(listed),
            is_used: AtomicBool::new(false),
        })
    }

    /// Binds a session whose statements begin unseen: each name is resolved in the newest snapshot.
    pub(crate) fn unpinned(tree: Tree, session: OpenSession) -> Arc<Self> {
        Arc::new(Self {
            tree,
            pinned: None,
            directory: None,
            aliases: Vec::new(),
            is_stored: false,
            session,
            opened: Arc::default(),
            directories: Arc::default(),
            derived: Arc::new(derived::Statement::new(Answers::Make.into())),
            listing: Mutex::default(),
            is_used: AtomicBool::new(false),
        })
    }

    /// Binds the same statement for another engine, whose sessions `session` makes. Nothing is opened
    /// yet there, and no plan of an earlier statement is used.
    #[cfg(feature = "ballista")]
    pub(crate) fn with_session(&self, session: OpenSession) -> Arc<Self> {
        let reading = &self.derived.reading;
        let reading =
            Reading { answers: reading.answers, remake: reading.remake.clone(), plans: None };
        Arc::new(Self {
            session,
            directory: self.directory.clone(),
            aliases: self.aliases.clone(),
            is_stored: self.is_stored,
            opened: Arc::default(),
            directories: Arc::default(),
            derived: Arc::new(derived::Statement::new(reading)),
            ..self.sibling()
        })
    }

    /// Whether an answer that is kept of the derived node at `path` was read, or made.
    pub(crate) fn has_answer(&self, path: &PondPath) -> bool {
        self.derived.used.lock().expect("never poisoned").contains_key(path)
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the snapshot to read.
    pub(crate) async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        if let Some(pinned) = &self.pinned {
            return Ok(pinned.snapshot.clone());
        }
        let snapshot = self.tree.snapshot().await?;
        let mut listed = self.listing.lock().expect("never poisoned");
        if listed.snapshot.as_ref().is_none_or(|seen| seen.txn() != snapshot.txn()) {
            *listed = Listed { snapshot: Some(snapshot.clone()), tables: None };
        }
        Ok(snapshot)
    }

    /// Returns the root directory to read.
    pub(crate) async fn root(&self) -> Result<Arc<dyn Directory>> {
        match &self.pinned {
            Some(pinned) => Ok(pinned.root.clone()),
            None => Ok(self.tree.root(self.snapshot().await?)),
        }
    }

    /// Finds the tree in which `path` is to be looked up: the statement's, unless the path names the
    /// past.
    pub(crate) async fn in_time(&self, path: &PondPath) -> Result<InTime> {
        let place = self.tree.in_time(self.snapshot().await?, path).await?;
        Ok(match &self.pinned {
            // The root may be one of the past, in which what is live does not open.
            Some(pinned) if place.at.is_none() => InTime { root: pinned.root.clone(), ..place },
            _ => place,
        })
    }

    /// Makes a session in which stores of files can be registered and read.
    pub(crate) fn engine(self: &Arc<Self>) -> Result<SessionState> {
        (self.session)(self, false)
    }

    /// Returns the absolute path that `text` means.
    pub(crate) fn path(&self, text: &str) -> Result<PondPath> {
        self.directory.as_ref().unwrap_or(&PondPath::root()).join(text)
    }

    /// Whether the statement reads anything of the pond.
    pub(crate) fn is_used(&self) -> bool {
        self.is_used.load(Ordering::SeqCst)
    }

    /// Remembers that the statement reads something of the pond.
    pub(crate) fn mark_used(&self) {
        self.is_used.store(true, Ordering::SeqCst);
    }

    /// Returns why `table` is none, if it is a path that was asked for in vain.
    pub(crate) fn error_of(&self, table: &TableReference) -> Option<Error> {
        let path = self.path_of(table)?;
        let opened = self.opened.lock().expect("never poisoned");
        opened.get(path.as_str())?.as_ref().err().map(Error::restate)
    }

    /// Returns the path that a table name means, whether there is one or not.
    pub(crate) fn path_of(&self, table: &TableReference) -> Option<PondPath> {
        let directory = table.schema().filter(|schema| schema.starts_with('/'));
        match directory {
            Some(directory) if table.catalog().is_none_or(|catalog| catalog == CATALOG) => {
                PondPath::parse(directory).ok()?.join(table.table()).ok()
            }
            _ => self.path_of_name(table.table()),
        }
    }

    /// Returns the path that `name` stands for.
    fn alias(&self, name: &str) -> Option<&PondPath> {
        self.aliases.iter().find(|(alias, _)| alias == name).map(|(_, path)| path)
    }

    fn path_of_name(&self, name: &str) -> Option<PondPath> {
        if let Some(path) = self.alias(name) {
            return Some(path.clone());
        }
        if name.starts_with('/') {
            return PondPath::parse(name).ok();
        }
        self.directory.as_ref()?.join(name).ok()
    }

    /// Opens the table at `path`, once for each statement.
    ///
    /// A `quiet` miss is not worth an error with hints: the name may be anything.
    pub(crate) async fn table(
        self: &Arc<Self>,
        path: &PondPath,
        quiet: bool,
    ) -> Option<Arc<dyn TableProvider>> {
        let key = path.as_str();
        if self.pinned.is_some()
            && let Some(opened) = self.opened.lock().expect("never poisoned").get(key)
        {
            return opened.as_ref().ok().cloned();
        }
        if let (Some(pinned), Some(plans)) = (&self.pinned, &self.derived.reading.plans)
            && !self.derived.is_shared(path)
            && let Some(table) = plans.get(&pinned.snapshot, path)
        {
            self.mark_used();
            self.opened.lock().expect("never poisoned").insert(key.to_owned(), Ok(table.clone()));
            return Some(table);
        }
        // Not held while opening: a view opens its own tables through here.
        let opened = match self.open(path, quiet).await {
            Ok(Some(table)) => {
                self.mark_used();
                Ok(table)
            }
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        let table = opened.as_ref().ok().cloned();
        let mut all = self.opened.lock().expect("never poisoned");
        if self.pinned.is_some() {
            all.insert(key.to_owned(), opened);
        } else if opened.is_err() {
            if all.len() >= KEPT_ERRORS_MAX {
                all.clear();
            }
            all.insert(key.to_owned(), opened);
        } else {
            all.remove(key);
        }
        table
    }

    /// Opens the table at `path`, or says why there is none.
    pub(crate) async fn require_table(
        self: &Arc<Self>,
        path: &PondPath,
    ) -> Result<Arc<dyn TableProvider>> {
        if let Some(table) = self.table(path, false).await {
            return Ok(table);
        }
        let opened = self.opened.lock().expect("never poisoned");
        match opened.get(path.as_str()) {
            Some(Err(error)) => Err(error.restate()),
            _ => Err(Error::not_found(format!("'{path}' does not exist"))),
        }
    }

    /// Plans to read all of the table at `path`, with all functions there are.
    pub(crate) async fn plan_table(
        self: &Arc<Self>,
        path: &PondPath,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.require_table(path).await?;
        let scan = LogicalPlanBuilder::scan(path.as_str(), provider_as_source(table), None)?;
        let state = (self.session)(self, true)?;
        Ok(state.create_physical_plan(&scan.build()?).await?)
    }

    async fn open(
        self: &Arc<Self>,
        path: &PondPath,
        quiet: bool,
    ) -> Result<Option<Arc<dyn TableProvider>>> {
        let place = self.in_time(path).await?;
        match self.find(&place).await? {
            Some(Node::File(file)) => {
                let session = (self.session)(self, false)?;
                format::as_configured(&session, file.table(&session).await?).map(Some)
            }
            Some(_) => Err(not_a_table(path)),
            None if is_glob(place.path.as_str()) => {
                let table = self.open_glob(&place).await?;
                let session = (self.session)(self, false)?;
                format::as_configured(&session, table).map(Some)
            }
            None if quiet => Ok(None),
            None => Err(place.not_found().await),
        }
    }

    /// Finds what is called by a path.
    async fn find(&self, place: &InTime) -> Result<Option<Node>> {
        let Some((above, name)) = place.path.split() else {
            return lookup(&place.root, &place.path).await;
        };
        let Some(directory) = self.find_directory(place, &above).await? else { return Ok(None) };
        match directory.get(name).await? {
            Some(Node::Symlink(_)) => lookup(&place.root, &place.path).await,
            found => Ok(found),
        }
    }

    /// Opens a directory; one that makes what is in it, once for a statement, however many of its
    /// files are read.
    async fn find_directory(
        &self,
        place: &InTime,
        path: &PondPath,
    ) -> Result<Option<Arc<dyn Directory>>> {
        let is_kept = self.pinned.is_some() && place.at.is_none();
        let known = self.directories.lock().expect("never poisoned").get(path).cloned();
        if let (true, Some(directory)) = (is_kept, known) {
            return Ok(Some(directory));
        }
        let Some(Node::Directory(directory)) = lookup(&place.root, path).await? else {
            return Ok(None);
        };
        if is_kept && directory.read_only().is_some() {
            let mut known = self.directories.lock().expect("never poisoned");
            if known.len() >= KEPT_DIRECTORIES_MAX {
                known.clear();
            }
            known.insert(path.clone(), directory.clone());
        }
        Ok(Some(directory))
    }

    async fn open_glob(self: &Arc<Self>, place: &InTime) -> Result<Arc<dyn TableProvider>> {
        let InTime { path: pattern, root, .. } = place;
        let glob = Glob::parse(pattern.as_str())?;
        let base = glob.base();
        let found = match self.find_directory(place, &base).await? {
            Some(directory) => find_files(&glob, directory, ListFields::NAMES).await?,
            None => {
                // Why there is none.
                resolve(root, &base).await?;
                return Err(Error::invalid(format!("'{base}' is not a directory")));
            }
        };
        if found.is_empty() {
            return Err(Error::not_found(format!("'{pattern}' matches no file"))
                .with_hint(format!("see what is there: ls('{base}')")));
        }
        let session = (self.session)(self, false)?;
        let opens: Vec<_> =
            found.into_iter().map(|found| open_match(root, found, &session)).collect();
        let matches: Vec<Opened> =
            futures::stream::iter(opens).buffered(GLOB_OPENS).try_collect().await?;
        let mut sources = Vec::new();
        let mut views = Vec::new();
        for found in matches {
            match found {
                Opened::Files(files) => sources.extend(files),
                Opened::View(path) => views.push(path),
            }
        }
        if views.is_empty() {
            return format::open_table(&session, sources).await;
        }
        let mut tables = Vec::with_capacity(views.len() + 1);
        if !sources.is_empty() {
            tables.push(format::open_table(&session, sources).await?);
        }
        for path in views {
            // A view may read globs in turn.
            tables.push(Box::pin(self.require_table(&path)).await?);
        }
        derived::union(pattern, tables)
    }

    /// Lists tables for `information_schema`, children of dynamic directories included.
    pub(crate) async fn prepare_listing(&self) -> Result<()> {
        let Some(pinned) = &self.pinned else { return Ok(()) };
        let mut listing = self.stored_listing(&pinned.snapshot)?;
        self.add_children(&pinned.snapshot, &pinned.root, &mut listing).await?;
        self.listing.lock().expect("never poisoned").tables = Some(Arc::new(listing));
        Ok(())
    }

    /// Returns what [`Binding::prepare_listing`] listed.
    #[cfg(feature = "serve")]
    pub(crate) fn tables(&self) -> Listing {
        self.listing().as_ref().clone()
    }

    /// Returns what `Binding::prepare_listing` listed, or else stored nodes alone: the engine's
    /// questions are synchronous, dynamic directories are not.
    fn listing(&self) -> Arc<Listing> {
        let mut listed = self.listing.lock().expect("never poisoned");
        if listed.tables.is_none() {
            // There is no way to report an error here; reading the tables does.
            let tables = listed.snapshot.as_ref().map(|snapshot| self.stored_listing(snapshot));
            listed.tables = Some(Arc::new(tables.and_then(Result::ok).unwrap_or_default()));
        }
        listed.tables.clone().expect("set above")
    }

    /// Lists the stored nodes that are directories or tables.
    fn stored_listing(&self, snapshot: &Snapshot) -> Result<Listing> {
        let mut listing = Listing::from([("/".to_owned(), BTreeMap::new())]);
        let mut count = 0;
        for node in self.tree.stored_below(snapshot, &PondPath::root(), true)? {
            if count == LISTED_TABLES_MAX {
                break;
            }
            let Some((parent, name)) = node.path.split() else { continue };
            let entry = &node.entry;
            if entry.entry_type == EntryType::Directory {
                listing.entry(node.path.as_str().to_owned()).or_default();
            } else if is_table(entry.entry_type, name) {
                let kind = match entry.dynamic_factory() {
                    Some(_) => TableType::View,
                    None => TableType::Base,
                };
                listing
                    .entry(parent.as_str().to_owned())
                    .or_default()
                    .insert(name.to_owned(), kind);
                count += 1;
            }
        }
        Ok(listing)
    }

    /// Adds what dynamic directories hold, the upper levels first. One that cannot be listed stays
    /// without tables.
    async fn add_children(
        &self,
        snapshot: &Snapshot,
        root: &Arc<dyn Directory>,
        listing: &mut Listing,
    ) -> Result<()> {
        let mut count: usize = listing.values().map(BTreeMap::len).sum();
        let mut waiting = VecDeque::new();
        for path in listing.keys() {
            let path = PondPath::parse(path)?;
            let is_dynamic = self
                .tree
                .stored(snapshot, &path)?
                .is_some_and(|node| node.entry.dynamic_factory().is_some());
            if is_dynamic {
                waiting.push_back(path);
            }
        }
        for _ in 0..LISTED_DIRECTORIES_MAX {
            let Some(path) = waiting.pop_front() else { break };
            let Ok(Some(Node::Directory(directory))) = lookup(root, &path).await else { continue };
            let children: Vec<DirEntry> = directory
                .list(ListFields::NAMES)
                .take(LISTED_CHILDREN_MAX)
                .filter_map(|child| async { child.ok() })
                .collect()
                .await;
            let tables = listing.entry(path.as_str().to_owned()).or_default();
            for child in children {
                let Some(entry_type) = child.entry_type.filter(|_| !child.is_hidden()) else {
                    continue;
                };
                if entry_type == EntryType::Directory && waiting.len() < LISTED_DIRECTORIES_MAX {
                    // One whose name is no name in a pond cannot be read either.
                    waiting.extend(path.join(&child.name).ok());
                } else if count < LISTED_TABLES_MAX && is_table(entry_type, &child.name) {
                    let kind = if child.dynamic && child.factory.is_some() {
                        TableType::View
                    } else {
                        TableType::Base
                    };
                    tables.insert(child.name, kind);
                    count += 1;
                }
            }
        }
        Ok(())
    }
}

/// Whether a node has rows, as far as its entry tells.
fn is_table(entry_type: EntryType, name: &str) -> bool {
    match entry_type {
        EntryType::FileTable | EntryType::FileSeries => true,
        EntryType::FileData => TableFormat::of_name(name).is_some(),
        EntryType::Directory | EntryType::Symlink | EntryType::Special => false,
    }
}

fn not_a_table(path: &PondPath) -> Error {
    let all = if path.is_root() { "/*.csv".to_owned() } else { format!("{path}/*.csv") };
    Error::invalid(format!("'{path}' is a directory, not a table")).with_hint(format!(
        "list it: SELECT * FROM ls('{path}'); or read many files as one table: FROM '{all}'"
    ))
}

/// What a match of a glob is.
enum Opened {
    Files(Vec<TableSource>),
    View(PondPath),
}

/// Opens one match of a glob; nothing for a link to a directory.
async fn open_match(
    root: &Arc<dyn Directory>,
    found: Match,
    session: &SessionState,
) -> Result<Opened> {
    let node = match found.open(root).await? {
        Some(node) => node,
        None => return Err(not_found(root, &found.path).await),
    };
    let Node::File(file) = node else { return Ok(Opened::Files(Vec::new())) };
    Ok(match file.table_sources(session).await? {
        Some(sources) => Opened::Files(sources),
        None => Opened::View(found.path),
    })
}

// ---------------------------------------------------------------------------------------------
// The engine's traits

/// A session's catalogs with the pond's among them.
#[derive(Debug)]
pub(crate) struct Catalogs {
    inner: Arc<dyn CatalogProviderList>,
    binding: Arc<Binding>,
    /// The session's default catalog and schema, in which bare names are looked up.
    default: (String, String),
}

impl Catalogs {
    /// Puts `binding` over the catalogs of a session, or over what an earlier binding was put over.
    pub(crate) fn over(state: &SessionState, binding: Arc<Binding>) -> Self {
        let inner = match state.catalog_list().downcast_ref::<Self>() {
            Some(catalogs) => catalogs.inner.clone(),
            None => state.catalog_list().clone(),
        };
        let names = &state.config_options().catalog;
        Self {
            inner,
            binding,
            default: (names.default_catalog.clone(), names.default_schema.clone()),
        }
    }
}

impl CatalogProviderList for Catalogs {
    fn register_catalog(
        &self,
        name: String,
        catalog: Arc<dyn CatalogProvider>,
    ) -> Option<Arc<dyn CatalogProvider>> {
        self.inner.register_catalog(name, catalog)
    }

    fn catalog_names(&self) -> Vec<String> {
        let mut names = self.inner.catalog_names();
        if !names.iter().any(|name| name == CATALOG) {
            names.push(CATALOG.to_owned());
        }
        names
    }

    fn catalog(&self, name: &str) -> Option<Arc<dyn CatalogProvider>> {
        let inner = self.inner.catalog(name);
        if name != CATALOG && name != self.default.0 {
            return inner;
        }
        if inner.is_none() && name != CATALOG {
            return None;
        }
        Some(Arc::new(Catalog {
            inner,
            binding: self.binding.clone(),
            has_directories: name == CATALOG,
            default_schema: (name == self.default.0).then(|| self.default.1.clone()),
        }))
    }
}

/// The catalog `pond`, or the session's default one, or both in one.
#[derive(Debug)]
struct Catalog {
    inner: Option<Arc<dyn CatalogProvider>>,
    binding: Arc<Binding>,
    has_directories: bool,
    default_schema: Option<String>,
}

impl CatalogProvider for Catalog {
    fn schema_names(&self) -> Vec<String> {
        let mut names = self.inner.as_ref().map(|inner| inner.schema_names()).unwrap_or_default();
        if self.has_directories {
            names.extend(self.binding.listing().keys().cloned());
        }
        names
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        if self.has_directories && name.starts_with('/') {
            let path = PondPath::parse(name).ok()?;
            return Some(Arc::new(DirectorySchema { path, binding: self.binding.clone() }));
        }
        let inner = self.inner.as_ref()?.schema(name)?;
        if self.default_schema.as_deref() == Some(name) {
            return Some(Arc::new(DefaultSchema { inner, binding: self.binding.clone() }));
        }
        Some(inner)
    }

    fn register_schema(
        &self,
        name: &str,
        schema: Arc<dyn SchemaProvider>,
    ) -> EngineResult<Option<Arc<dyn SchemaProvider>>> {
        match &self.inner {
            Some(inner) if !name.starts_with('/') => inner.register_schema(name, schema),
            _ => Err(unwritable(name)),
        }
    }

    fn deregister_schema(
        &self,
        name: &str,
        cascade: bool,
    ) -> EngineResult<Option<Arc<dyn SchemaProvider>>> {
        match &self.inner {
            Some(inner) if !name.starts_with('/') => inner.deregister_schema(name, cascade),
            _ => Err(unwritable(name)),
        }
    }
}

/// A directory of the pond.
#[derive(Debug)]
struct DirectorySchema {
    path: PondPath,
    binding: Arc<Binding>,
}

#[async_trait]
impl SchemaProvider for DirectorySchema {
    fn table_names(&self) -> Vec<String> {
        let listing = self.binding.listing();
        let tables = listing.get(self.path.as_str());
        tables.map(|tables| tables.keys().cloned().collect()).unwrap_or_default()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        match self.path.join(name) {
            Ok(path) => Ok(self.binding.table(&path, false).await),
            Err(_) => Ok(None),
        }
    }

    async fn table_type(&self, name: &str) -> EngineResult<Option<TableType>> {
        let listing = self.binding.listing();
        Ok(listing.get(self.path.as_str()).and_then(|tables| tables.get(name).copied()))
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        register(&name, &table)
    }

    fn table_exist(&self, _name: &str) -> bool {
        false
    }
}

/// The session's own tables, and pond paths as bare names.
#[derive(Debug)]
struct DefaultSchema {
    inner: Arc<dyn SchemaProvider>,
    binding: Arc<Binding>,
}

#[async_trait]
impl SchemaProvider for DefaultSchema {
    fn owner_name(&self) -> Option<&str> {
        self.inner.owner_name()
    }

    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        if !name.starts_with('/')
            && !self.binding.is_stored
            && let Some(table) = self.inner.table(name).await?
        {
            return Ok(Some(table));
        }
        // A bare word may well be a table function or a new name: the engine asks for those, too.
        let quiet = !name.contains(['/', '.']) && self.binding.alias(name).is_none();
        match self.binding.path_of_name(name) {
            Some(path) => Ok(self.binding.table(&path, quiet).await),
            None => Ok(None),
        }
    }

    async fn table_type(&self, name: &str) -> EngineResult<Option<TableType>> {
        self.inner.table_type(name).await
    }

    fn register_table(
        &self,
        name: String,
        table: Arc<dyn TableProvider>,
    ) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        if name.starts_with('/') {
            return register(&name, &table);
        }
        self.inner.register_table(name, table)
    }

    fn deregister_table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        if name.starts_with('/') {
            return Err(unwritable(name));
        }
        self.inner.deregister_table(name)
    }

    /// The engine asks before it creates a table. Whether a path is taken is for the tree to say, as
    /// part of the transaction.
    fn table_exist(&self, name: &str) -> bool {
        !name.starts_with('/') && self.inner.table_exist(name)
    }
}

/// Accepts what a factory has put into the pond already; nothing else becomes a node this way.
fn register(
    name: &str,
    table: &Arc<dyn TableProvider>,
) -> EngineResult<Option<Arc<dyn TableProvider>>> {
    if table.downcast_ref::<CreatedNode>().is_some() { Ok(None) } else { Err(unwritable(name)) }
}

fn unwritable(name: &str) -> DataFusionError {
    Error::new(
        ErrorKind::Unsupported,
        format!("'{name}' is a path of the pond, not of the session"),
    )
    .with_hint("make nodes with CREATE NODE, or CREATE EXTERNAL TABLE … STORED AS a factory")
    .into()
}

/// Stands for a node that `CREATE EXTERNAL TABLE` made: the engine wants a table to register.
#[derive(Debug)]
pub(crate) struct CreatedNode;

#[async_trait]
impl TableProvider for CreatedNode {
    fn schema(&self) -> datafusion::arrow::datatypes::SchemaRef {
        Arc::new(datafusion::arrow::datatypes::Schema::empty())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn datafusion::catalog::Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[datafusion::logical_expr::Expr],
        _limit: Option<usize>,
    ) -> EngineResult<Arc<dyn datafusion::physical_plan::ExecutionPlan>> {
        Err(Error::unsupported("a node that was just made is read by its path").into())
    }
}
