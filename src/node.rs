//! Nodes (TinyFS): the traits that static and dynamic nodes share, and path resolution.
//!
//! The pond itself is a [`Directory`]. Whatever a factory makes is one, too, so that finding a path
//! is one loop over [`Directory::get`] wherever it leads, and host mounts in views in CSV
//! directories need no code of their own.
//!
//! A directory is opened without opening its children: a child that cannot be opened is a
//! [`DirEntry`] with an `error`, and only reading it fails.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{Array, AsArray, BooleanArray};
use datafusion::arrow::compute::prep_null_mask_filter;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::physical_plan::metrics::Count;
use futures::stream::{BoxStream, TryStreamExt};

use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::format::{CsvText, TableSource};
use crate::glob::Glob;
use crate::path::{PondPath, is_glob};
use crate::snapshot::SYMLINKS_MAX;

/// An opened node.
#[derive(Debug, Clone)]
pub enum Node {
    /// Holds named children.
    Directory(Arc<dyn Directory>),
    /// Holds bytes, and perhaps a table.
    File(Arc<dyn File>),
    /// Names another path of the pond.
    Symlink(PondPath),
}

/// What [`Directory::list`] says of one child, without opening it.
#[derive(Debug, Clone, Default)]
pub struct DirEntry {
    /// Name in the directory.
    pub name: String,
    /// What it is; `None` if the host would not say.
    pub entry_type: Option<EntryType>,
    /// Name of the factory that makes it; `None` for static nodes and for transient children.
    pub factory: Option<String>,
    /// Whether its content is made on access.
    pub dynamic: bool,
    /// Size in bytes, if known without reading it.
    pub size: Option<i64>,
    /// Time of the last change, microseconds since 1970 UTC.
    pub mtime: Option<i64>,
    /// Permission bits of a host file.
    pub mode: Option<u32>,
    /// Where a symlink leads, as it is written there.
    pub symlink_target: Option<String>,
    /// Version of the content of a stored node.
    pub version: Option<i64>,
    /// Transaction that last changed a stored node.
    pub txn: Option<i64>,
    /// Why the node cannot be opened, or be told about.
    pub error: Option<String>,
}

impl DirEntry {
    /// Whether shells hide it: its name starts with a dot.
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with('.')
    }
}

/// What the caller of [`Directory::list`] will read beyond name and entry type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListFields {
    /// Size, time, mode, error: a host listing needs a call or two for each entry.
    pub metadata: bool,
    /// The target of symlinks: a host listing needs a call for each link.
    pub symlink_target: bool,
}

impl ListFields {
    /// Names and entry types alone.
    pub const NAMES: ListFields = ListFields { metadata: false, symlink_target: false };
    /// Everything.
    pub const ALL: ListFields = ListFields { metadata: true, symlink_target: true };
}

/// A node that holds named children.
#[async_trait]
pub trait Directory: Debug + Send + Sync {
    /// Streams the children, opening none of them: one broken child never hides its siblings.
    /// `fields` says what the caller will read, so that a host listing may skip its stat calls.
    fn list(&self, fields: ListFields) -> BoxStream<'static, Result<DirEntry>>;

    /// Opens the child `name`, or returns `None` if there is none.
    ///
    /// # Errors
    /// Whatever keeps a child that is there from being opened.
    async fn get(&self, name: &str) -> Result<Option<Node>>;

    /// Opens a whole subtree listing at once, where the directory has a faster way than one
    /// [`Directory::list`] per directory; `None` otherwise.
    ///
    /// Each stream is one partition, meant to be polled by a task of its own; together they yield
    /// what the generic walk of `ls()` would. A directory below that cannot be listed is a row with
    /// its `error`.
    ///
    /// # Errors
    /// Whatever keeps this very directory from being listed.
    fn walk(&self, walk: &Walk) -> Option<Result<Vec<SendableRecordBatchStream>>> {
        let _ = walk;
        None
    }

    /// Says how new what its files show is, of all of them together; `None` where it is made on each
    /// access.
    ///
    /// # Errors
    /// Whatever keeps it from being listed.
    async fn state(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Returns the name under which a user knows what refuses writes here (`hostmount '/host'`), or
    /// `None` for a directory of the pond itself.
    fn read_only(&self) -> Option<String> {
        None
    }
}

/// How new what a file shows is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It is stored.
    Stored,
    /// It is made on each access.
    Live,
    /// It is read from the cache, where it is young enough.
    Fresh,
    /// It will be made anew by whoever reads it next.
    Stale,
    /// It is another file in another form, which is kept once it was converted.
    Converted(Conversion),
}

/// How new the conversion of a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversion {
    /// It is read.
    Cached,
    /// It is too old, or the file is another one by now.
    Stale,
    /// There is none.
    Unconverted,
}

impl Freshness {
    /// Returns its name; `None` for what is stored.
    pub fn as_str(self) -> Option<&'static str> {
        match self {
            Self::Stored => None,
            Self::Live => Some("live"),
            Self::Fresh => Some("fresh"),
            Self::Stale | Self::Converted(Conversion::Stale) => Some("stale"),
            Self::Converted(Conversion::Cached) => Some("cached"),
            Self::Converted(Conversion::Unconverted) => Some("unconverted"),
        }
    }
}

/// An extension of a session that wants to know what columns there are, and no rows: what would be
/// converted first is opened as it is.
#[derive(Debug)]
pub(crate) struct Glance;

/// A node that holds bytes, and perhaps a table.
#[async_trait]
pub trait File: Debug + Send + Sync {
    /// Returns what a listing says of it.
    async fn metadata(&self) -> Result<DirEntry>;

    /// Returns how new what it shows is.
    ///
    /// # Errors
    /// Whatever keeps what it shows from being looked at.
    async fn freshness(&self) -> Result<Freshness> {
        Ok(Freshness::Stored)
    }

    /// Says what is kept of it in the cache, if anything is.
    fn kept(&self) -> Option<String> {
        None
    }

    /// Says more of it, as names and values: how it is read, and what became of that.
    ///
    /// # Errors
    /// Whatever keeps it from being looked at.
    async fn properties(&self, session: &dyn Session) -> Result<Vec<(&'static str, String)>> {
        let _ = session;
        Ok(Vec::new())
    }

    /// Converts it anew, where it is [`Freshness::Converted`].
    ///
    /// # Errors
    /// `Unsupported` where it is not; whatever keeps it from being converted.
    async fn refresh(&self, session: &dyn Session) -> Result<()> {
        let _ = session;
        let name = self.metadata().await?.name;
        Err(Error::unsupported(format!("'{name}' is no conversion")))
    }

    /// Opens the CSV text that it shows the rows of, as it is read, if it does.
    ///
    /// # Errors
    /// Whatever keeps the text from being opened.
    async fn csv_text(&self, session: &dyn Session) -> Result<Option<CsvText>> {
        let _ = session;
        Ok(None)
    }

    /// Streams the bytes without holding the whole file, or returns `None` for a view, which has
    /// rows only ([`crate::format::read`] encodes them).
    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>>;

    /// Opens the file of the host that holds just these bytes, where there is one, and says how many
    /// they are, so that they can be copied without being read.
    async fn host_file(&self) -> Result<Option<(std::fs::File, u64)>> {
        Ok(None)
    }

    /// Returns the rows as a table for the engine to scan, pushdown included.
    ///
    /// # Errors
    /// `Unsupported` if the bytes are in no format that has rows.
    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>>;

    /// Returns where the bytes of its table are, one file or many, registering their object store with
    /// `session`, so that a glob can join them with others into one scan; `None` for views.
    async fn table_sources(&self, session: &dyn Session) -> Result<Option<Vec<TableSource>>>;

    /// Returns where its bytes are, to be read as CSV whatever it is called, registering their object
    /// store with `session`, if there is one. The format is what the name tells of a CSV. `None` for
    /// tables, and where the engine cannot read.
    async fn text_source(&self, session: Option<&dyn Session>) -> Result<Option<TableSource>> {
        let _ = session;
        Ok(None)
    }
}

/// What `ls()` asks of [`Directory::walk`].
#[derive(Debug, Clone)]
pub struct Walk {
    /// Path of the directory being walked; listed paths start with it.
    pub path: PondPath,
    /// The `depth` of the directory's own children: the number of names in their paths.
    pub depth: u32,
    /// The columns to yield, in this order, as indices into [`listing_schema`].
    pub projection: Vec<usize>,
    /// Only entries that meet it are yielded.
    pub filter: Option<ListingFilter>,
    /// Only entries that match it are yielded. Its wildcards pass over names that start with a dot
    /// unless `hidden`.
    pub glob: Option<Arc<Glob>>,
    /// Which directories are worth opening, beyond `glob`.
    pub prune: Prune,
    /// Whether to descend at all.
    pub recursive: bool,
    /// Whether to yield, and descend into, names that start with a dot, where there is no `glob`.
    pub hidden: bool,
    /// Stop after about this many entries.
    pub limit: Option<usize>,
    /// Number of streams wanted.
    pub partitions: usize,
    /// Rows per batch.
    pub batch_rows: usize,
    /// Told what the walk costs.
    pub counters: WalkCounters,
}

/// What a walk of a host directory cost; `EXPLAIN ANALYZE` shows it.
#[derive(Debug, Clone, Default)]
pub struct WalkCounters {
    /// Calls that read a buffer of entries.
    pub reads: Count,
    /// Calls that asked about one entry: its metadata, or only its type where the directory does
    /// not tell.
    pub stats: Count,
    /// Directories opened below the first.
    pub opened: Count,
    /// Directories that could not be read.
    pub unreadable: Count,
}

/// A condition on cheap columns ([`is_cheap_column`]) of a listing.
#[derive(Debug, Clone)]
pub struct ListingFilter {
    columns: Vec<usize>,
    condition: Arc<dyn PhysicalExpr>,
}

impl ListingFilter {
    /// Makes a filter of a condition over the whole of [`listing_schema`].
    pub fn new(condition: Arc<dyn PhysicalExpr>) -> Result<Self> {
        let mut columns: Vec<usize> =
            collect_columns(&condition).iter().map(|column| column.index()).collect();
        columns.sort_unstable();
        let schema = listing_schema().project(&columns)?;
        let condition = reassign_expr_columns(condition, &schema)?;
        Ok(Self { columns, condition })
    }

    /// Returns the columns that the condition reads, as indices into [`listing_schema`].
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// Returns whether each row of a batch of these columns meets the condition.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        meets(&self.condition, batch)
    }
}

/// Returns whether each row of a batch meets a condition over its columns.
pub(crate) fn meets(
    condition: &Arc<dyn PhysicalExpr>,
    batch: &RecordBatch,
) -> Result<BooleanArray> {
    let mask = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    let mask = mask.as_boolean();
    // Null is not true.
    Ok(match mask.null_count() {
        0 => mask.clone(),
        _ => prep_null_mask_filter(mask),
    })
}

impl std::fmt::Display for ListingFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.condition)
    }
}

/// Bounds on the entries wanted, from which a walk concludes which directories not to open.
#[derive(Debug, Clone, Default)]
pub struct Prune {
    /// Wanted paths all start with this text.
    pub path_prefix: Option<String>,
    /// Wanted entries are at most this deep.
    pub depth_max: Option<u32>,
}

impl Prune {
    /// Whether anything below the directory `path`, whose children are at `depth`, can be wanted.
    pub fn may_hold(&self, path: &str, depth: u32) -> bool {
        if self.depth_max.is_some_and(|max| depth > max) {
            return false;
        }
        if let Some(prefix) = &self.path_prefix {
            // The children are called `<path>/…`.
            let separated = !path.ends_with('/');
            let (prefix, path) = (prefix.as_bytes(), path.as_bytes());
            let common = prefix.len().min(path.len());
            if prefix[..common] != path[..common] {
                return false;
            }
            if separated && prefix.len() > path.len() && prefix[path.len()] != b'/' {
                return false;
            }
        }
        true
    }
}

/// Returns the columns of `ls()`.
pub fn listing_schema() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| {
        let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Arc::new(Schema::new(vec![
            Field::new("path", DataType::Utf8View, false),
            Field::new("name", DataType::Utf8View, false),
            Field::new("parent", DataType::Utf8View, false),
            Field::new("entry_type", DataType::Utf8View, true),
            Field::new("factory", DataType::Utf8View, true),
            Field::new("dynamic", DataType::Boolean, false),
            Field::new("size", DataType::Int64, true),
            Field::new("mtime", time, true),
            Field::new("mode", DataType::UInt32, true),
            Field::new("depth", DataType::UInt32, false),
            Field::new("is_symlink", DataType::Boolean, false),
            Field::new("symlink_target", DataType::Utf8View, true),
            Field::new("hidden", DataType::Boolean, false),
            Field::new("version", DataType::Int64, true),
            Field::new("txn", DataType::Int64, true),
            Field::new("error", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Whether a column of [`listing_schema`] is known from a directory's own bytes, without a call for
/// each entry.
pub fn is_cheap_column(name: &str) -> bool {
    !matches!(name, "size" | "mtime" | "mode" | "symlink_target" | "error")
}

/// Opens what `path` names below `root`; symlinks of the pond are followed, the last one included.
///
/// # Errors
/// `NotFound` with the nearest existing name as a hint; `Invalid` for a loop of symlinks.
pub async fn resolve(root: &Arc<dyn Directory>, path: &PondPath) -> Result<Node> {
    match lookup(root, path).await? {
        Some(node) => Ok(node),
        None => Err(not_found(root, path).await),
    }
}

/// As [`resolve`], but a path that names nothing is `None`.
pub async fn lookup(root: &Arc<dyn Directory>, path: &PondPath) -> Result<Option<Node>> {
    let mut wanted: Vec<String> = path.names().rev().map(str::to_owned).collect();
    let mut node = Node::Directory(root.clone());
    let mut links = 0;
    while let Some(name) = wanted.pop() {
        let Node::Directory(directory) = &node else { return Ok(None) };
        let Some(child) = directory.get(&name).await? else { return Ok(None) };
        match child {
            Node::Symlink(target) => {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(Error::invalid(format!("'{path}' is a loop of symbolic links")));
                }
                wanted.extend(target.names().rev().map(str::to_owned));
                node = Node::Directory(root.clone());
            }
            child => node = child,
        }
    }
    Ok(Some(node))
}

/// Returns the paths below `root` that a glob matches, in order; a path that is no glob, or that a
/// node is called by, is the only one. What is below a match is not listed with it.
///
/// # Errors
/// `NotFound` if the glob matches nothing; `Invalid` for a malformed one.
pub async fn expand(root: &Arc<dyn Directory>, pattern: &PondPath) -> Result<Vec<PondPath>> {
    if !is_glob(pattern.as_str()) || lookup(root, pattern).await.is_ok_and(|node| node.is_some()) {
        return Ok(vec![pattern.clone()]);
    }
    let nothing = || Error::not_found(format!("'{pattern}' matches nothing"));
    let glob = Glob::parse(pattern.as_str())?;
    let base = glob.base();
    let Some(Node::Directory(directory)) = lookup(root, &base).await? else {
        return Err(nothing());
    };
    let mut matches = Vec::new();
    let mut waiting = vec![(directory, base.clone(), glob.state(base.as_str()))];
    while let Some((directory, path, state)) = waiting.pop() {
        let mut entries = directory.list(ListFields::NAMES);
        while let Some(entry) = entries.try_next().await? {
            let below = state.enter(&glob, &entry.name, false);
            if state.is_match(&glob, &entry.name, false) {
                matches.push(path.child(&entry.name));
            } else if !below.is_dead()
                && entry.entry_type == Some(EntryType::Directory)
                && let Some(Node::Directory(child)) = directory.get(&entry.name).await?
            {
                waiting.push((child, path.child(&entry.name), below));
            }
        }
    }
    matches.sort_unstable();
    if matches.is_empty() { Err(nothing()) } else { Ok(matches) }
}

/// A file, or a link, that a glob matches.
#[derive(Debug, Clone)]
pub struct Match {
    /// Where it is.
    pub path: PondPath,
    /// The directory that it was found in.
    pub parent: Arc<dyn Directory>,
    /// What the directory says of it.
    pub entry: DirEntry,
}

impl Match {
    /// Opens it, following links of the pond from `root`; `None` if it is not there any more.
    ///
    /// # Errors
    /// Whatever keeps it from being opened.
    pub async fn open(&self, root: &Arc<dyn Directory>) -> Result<Option<Node>> {
        match self.parent.get(&self.entry.name).await? {
            Some(Node::Symlink(_)) => lookup(root, &self.path).await,
            found => Ok(found),
        }
    }
}

/// Returns the files and links below `base`, the directory [`Glob::base`], that a glob matches, in
/// the order of their paths. Each directory is opened once. Wildcards do not match the dot of a
/// hidden name.
///
/// # Errors
/// Whatever keeps a directory from being listed.
pub async fn find_files(
    glob: &Glob,
    base: Arc<dyn Directory>,
    fields: ListFields,
) -> Result<Vec<Match>> {
    let mut found = Vec::new();
    let path = glob.base();
    let mut waiting = vec![(glob.state(path.as_str()), path, base)];
    while let Some((state, path, directory)) = waiting.pop() {
        let mut children = directory.list(fields);
        while let Some(child) = children.try_next().await? {
            match child.entry_type {
                Some(EntryType::Directory) => {
                    let below = state.enter(glob, &child.name, false);
                    if below.is_dead() {
                        continue;
                    }
                    // What was replaced or removed since it was listed is no match any more.
                    if let Some(Node::Directory(opened)) = directory.get(&child.name).await? {
                        waiting.push((below, path.child(&child.name), opened));
                    }
                }
                Some(EntryType::Special) => {}
                _ if state.is_match(glob, &child.name, false) => {
                    let path = path.child(&child.name);
                    found.push(Match { path, parent: directory.clone(), entry: child });
                }
                _ => {}
            }
        }
    }
    found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
    Ok(found)
}

/// Makes the error for a path that names nothing: it says how far the path leads, and what was
/// perhaps meant.
pub async fn not_found(root: &Arc<dyn Directory>, path: &PondPath) -> Error {
    let missing = Error::not_found(format!("'{path}' does not exist"));
    let Some((mut parent, mut name)) = path.split() else { return missing };
    loop {
        match lookup(root, &parent).await {
            Ok(Some(Node::Directory(directory))) => {
                let hint = nearest_name(directory.as_ref(), name)
                    .await
                    .map(|near| format!("did you mean '{}'?", parent.child(&near)));
                return missing.with_hint_opt(hint);
            }
            Ok(Some(_)) => {
                return Error::not_found(format!("'{path}' does not exist"))
                    .with_hint(format!("'{parent}' is not a directory"));
            }
            Ok(None) => {}
            Err(_) => return missing,
        }
        // `name` must not borrow from a parent that is replaced.
        let Some((up, _)) = parent.split() else { return missing };
        let depth = up.names().count();
        name = path.names().nth(depth).expect("an ancestor is shorter than its path");
        parent = up;
    }
}

/// How many names [`nearest_name`] looks at: a hint must not cost a listing of a million entries.
const NEAREST_NAMES_MAX: usize = 10_000;

async fn nearest_name(directory: &dyn Directory, wanted: &str) -> Option<String> {
    use futures::StreamExt;
    let names: Vec<String> = directory
        .list(ListFields::NAMES)
        .take(NEAREST_NAMES_MAX)
        .filter_map(|entry| async { entry.ok().map(|entry| entry.name) })
        .collect()
        .await;
    let hint = crate::error::did_you_mean(wanted, names.iter().map(String::as_str))?;
    names.into_iter().find(|name| hint.contains(&format!("'{name}'")))
}

/// Builds one batch of [`listing_schema`] rows from entries at `paths`, projected to `projection`.
///
/// Each item is the entry, its parent's path and its depth.
pub fn listing_batch(
    entries: &[(DirEntry, String, u32)],
    projection: &[usize],
) -> Result<RecordBatch> {
    use datafusion::arrow::array::*;
    let schema = Arc::new(listing_schema().project(projection)?);
    let path_of = |(entry, parent, _): &(DirEntry, String, u32)| {
        if parent == "/" { format!("/{}", entry.name) } else { format!("{parent}/{}", entry.name) }
    };
    let text = |value: fn(&DirEntry) -> Option<&str>| -> ArrayRef {
        Arc::new(entries.iter().map(|(entry, _, _)| value(entry)).collect::<StringViewArray>())
    };
    let number = |value: fn(&DirEntry) -> Option<i64>| -> ArrayRef {
        Arc::new(entries.iter().map(|(entry, _, _)| value(entry)).collect::<Int64Array>())
    };
    let flag = |value: fn(&DirEntry) -> bool| -> ArrayRef {
        Arc::new(entries.iter().map(|(entry, _, _)| Some(value(entry))).collect::<BooleanArray>())
    };
    let columns = schema
        .fields()
        .iter()
        .map(|field| match field.name().as_str() {
            "path" => Arc::new(entries.iter().map(path_of).map(Some).collect::<StringViewArray>())
                as ArrayRef,
            "name" => text(|entry| Some(&entry.name)),
            "parent" => Arc::new(
                entries
                    .iter()
                    .map(|(_, parent, _)| Some(parent.as_str()))
                    .collect::<StringViewArray>(),
            ),
            "entry_type" => text(|entry| entry.entry_type.map(EntryType::as_str)),
            "factory" => text(|entry| entry.factory.as_deref()),
            "dynamic" => flag(|entry| entry.dynamic),
            "size" => number(|entry| entry.size),
            "mtime" => Arc::new(
                entries
                    .iter()
                    .map(|(entry, _, _)| entry.mtime)
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
            "mode" => {
                Arc::new(entries.iter().map(|(entry, _, _)| entry.mode).collect::<UInt32Array>())
            }
            "depth" => {
                Arc::new(UInt32Array::from_iter_values(entries.iter().map(|(_, _, depth)| *depth)))
            }
            "is_symlink" => flag(|entry| entry.entry_type == Some(EntryType::Symlink)),
            "symlink_target" => text(|entry| entry.symlink_target.as_deref()),
            "hidden" => flag(DirEntry::is_hidden),
            "version" => number(|entry| entry.version),
            "txn" => number(|entry| entry.txn),
            "error" => text(|entry| entry.error.as_deref()),
            other => unreachable!("listing column {other}"),
        })
        .collect();
    let options = datafusion::arrow::record_batch::RecordBatchOptions::new()
        .with_row_count(Some(entries.len()));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}
