//! A transaction: an in-memory list of changes over a snapshot, published as one commit.
//!
//! Each change is performed on the transaction's own view at once, so later changes and reads see it,
//! and it is kept as what was asked. When another writer commits first, `Transaction::rebase`
//! checks that nothing this transaction touched was touched meanwhile (else `Conflict`) and performs
//! the same changes on the newer snapshot: two writers of different paths both succeed, even where
//! both made the same missing parent directory.

use std::sync::Arc;

use bytes::Bytes;

use crate::blob::Stored;
use crate::entry::{EntryType, NodeId, OplogEntry, Segment, TableFacts};
use crate::error::{Error, ErrorKind, Result};
use crate::path::{DEPTH_MAX, PondPath};
use crate::snapshot::{Located, Snapshot};

/// What a new or changed node holds.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeContent {
    /// What it is.
    pub entry_type: EntryType,
    /// The factory of a dynamic node.
    pub factory: Option<String>,
    /// Inline bytes, configuration or symlink target.
    pub content: Option<Bytes>,
    /// SHA-256 of a static file's bytes, in hex.
    pub sha256: Option<String>,
    /// Their size.
    pub size: Option<i64>,
    /// What is known of the table in them.
    pub table: Option<TableFacts>,
    /// Anything else, as a JSON object.
    pub attributes: Option<String>,
}

impl NodeContent {
    /// An empty directory.
    pub fn directory() -> Self {
        Self {
            entry_type: EntryType::Directory,
            factory: None,
            content: None,
            sha256: None,
            size: None,
            table: None,
            attributes: None,
        }
    }

    /// A link to another path, kept as it is written.
    pub fn symlink(target: &str) -> Self {
        Self {
            entry_type: EntryType::Symlink,
            content: Some(Bytes::copy_from_slice(target.as_bytes())),
            ..Self::directory()
        }
    }

    /// A dynamic node.
    pub fn dynamic(
        entry_type: EntryType,
        factory: &str,
        config: Bytes,
        attributes: Option<String>,
    ) -> Self {
        Self {
            entry_type,
            factory: Some(factory.to_owned()),
            content: Some(config),
            attributes,
            ..Self::directory()
        }
    }

    /// A static file; `table` for those with rows.
    pub fn file(entry_type: EntryType, stored: Stored, table: Option<TableFacts>) -> Self {
        Self {
            entry_type,
            content: stored.content,
            sha256: Some(stored.sha256),
            size: Some(stored.size),
            table,
            ..Self::directory()
        }
    }

    /// What the node of a row holds.
    pub fn of_entry(entry: &OplogEntry) -> Self {
        Self {
            entry_type: entry.entry_type,
            factory: entry.dynamic_factory().map(str::to_owned),
            content: entry.content.clone(),
            sha256: entry.sha256.clone(),
            size: entry.size,
            table: entry.table_facts(),
            attributes: entry.attributes.clone(),
        }
    }
}

/// One thing asked of a transaction.
#[derive(Debug, Clone)]
enum Change {
    Create { path: PondPath, content: NodeContent },
    Update { path: PondPath, content: NodeContent },
    Append { path: PondPath, content: NodeContent },
    Copy { rows: Arc<Vec<OplogEntry>>, to: PondPath },
    Remove { path: PondPath, recursive: bool },
    Rename { from: PondPath, to: PondPath },
    Merge { node: NodeId, name: String, segment: Segment, content: NodeContent },
}

/// Changes that will become visible together.
#[derive(Debug)]
pub struct Transaction {
    message: Option<String>,
    base: Arc<Snapshot>,
    /// With the message that was current.
    changes: Vec<(Change, Option<String>)>,
    view: Snapshot,
    rows: Vec<OplogEntry>,
}

/// A point in a transaction to which it can be taken back.
#[derive(Debug, Clone)]
pub struct Savepoint {
    changes: usize,
    rows: usize,
    view: Snapshot,
}

impl Transaction {
    /// Begins on `base`. `message` is stored with every row: the statement, or the user's words.
    pub fn new(base: Arc<Snapshot>, message: Option<String>) -> Self {
        let view = base.as_ref().clone();
        Self { message, base, changes: Vec::new(), view, rows: Vec::new() }
    }

    /// Returns the tree as this transaction sees it, its own changes included.
    pub fn view(&self) -> &Snapshot {
        &self.view
    }

    /// Takes the transaction out of its place, leaving an empty one on the same base.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::new(self.base.clone(), None);
        std::mem::replace(self, empty)
    }

    /// Sets the message of the rows to come.
    pub fn set_message(&mut self, message: Option<String>) {
        self.message = message;
    }

    /// Remembers what was changed so far.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { changes: self.changes.len(), rows: self.rows.len(), view: self.view.clone() }
    }

    /// Takes back what was changed since `savepoint`, which must be of this transaction.
    pub fn roll_back_to(&mut self, savepoint: Savepoint) {
        self.changes.truncate(savepoint.changes);
        self.rows.truncate(savepoint.rows);
        self.view = savepoint.view;
    }

    /// Whether nothing was changed yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Makes a node, and the directories above it that are missing.
    ///
    /// # Errors
    /// `AlreadyExists`; `ReadOnly` below a dynamic node; `Invalid` below a file.
    pub fn create(&mut self, path: &PondPath, content: NodeContent) -> Result<()> {
        self.perform(Change::Create { path: path.clone(), content })
    }

    /// Makes a directory, and those above it that are missing.
    ///
    /// # Errors
    /// As [`Transaction::create`].
    pub fn mkdir(&mut self, path: &PondPath) -> Result<()> {
        self.create(path, NodeContent::directory())
    }

    /// Replaces what a node holds: the next version of its content.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn update(&mut self, path: &PondPath, content: NodeContent) -> Result<()> {
        self.perform(Change::Update { path: path.clone(), content })
    }

    /// Adds a version to a series. Others may append to it at the same time.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` for what is no static series.
    pub fn append(&mut self, path: &PondPath, content: NodeContent) -> Result<()> {
        self.perform(Change::Append { path: path.clone(), content })
    }

    /// Makes a node that holds what `rows` say of another one: its newest row and, of a series, the
    /// rows of its versions and merged files. Directories above it that are missing are made.
    ///
    /// # Errors
    /// As [`Transaction::create`].
    pub fn copy(&mut self, rows: Vec<OplogEntry>, to: &PondPath) -> Result<()> {
        self.perform(Change::Copy { rows: Arc::new(rows), to: to.clone() })
    }

    /// Adds a merged file of a series: all rows of some of its versions.
    ///
    /// # Errors
    /// `NotFound` if the series is gone; `Conflict` if others merged the same versions.
    pub fn merge(
        &mut self,
        series: &OplogEntry,
        segment: Segment,
        content: NodeContent,
    ) -> Result<()> {
        self.perform(Change::Merge {
            node: series.node_id,
            name: series.name.clone(),
            segment,
            content,
        })
    }

    /// Takes a node out of the tree; a static directory with children only if `recursive`.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` for a directory that is not empty, and for the root.
    pub fn remove(&mut self, path: &PondPath, recursive: bool) -> Result<()> {
        self.perform(Change::Remove { path: path.clone(), recursive })
    }

    /// Gives a node another place: one row, whatever is below it.
    ///
    /// # Errors
    /// `NotFound`; `AlreadyExists`; `Invalid` into itself.
    pub fn rename(&mut self, from: &PondPath, to: &PondPath) -> Result<()> {
        self.perform(Change::Rename { from: from.clone(), to: to.clone() })
    }

    fn perform(&mut self, change: Change) -> Result<()> {
        // A change that fails half-way must leave no trace.
        let mut view = self.view.clone();
        let mut rows = Vec::new();
        change.perform(&mut view, &mut rows)?;
        for row in &mut rows {
            row.message.clone_from(&self.message);
        }
        self.view = view;
        self.rows.extend(rows);
        self.changes.push((change, self.message.clone()));
        Ok(())
    }

    /// Returns the rows, stamped with their transaction and its time.
    pub(crate) fn stamped(&self, txn: i64, timestamp: i64) -> Vec<OplogEntry> {
        let mut rows = self.rows.clone();
        for row in &mut rows {
            row.txn = txn;
            row.timestamp = timestamp;
        }
        rows
    }

    /// Returns the rows that it will write, not yet stamped.
    pub(crate) fn rows(&self) -> &[OplogEntry] {
        &self.rows
    }

    pub(crate) fn base(&self) -> &Snapshot {
        &self.base
    }

    /// Performs the same changes on `newest`, a later snapshot than the base.
    ///
    /// # Errors
    /// `Conflict` if what this transaction touches was changed in between.
    pub(crate) fn rebase(&self, newest: Arc<Snapshot>) -> Result<Self> {
        // What the transaction made itself is checked with the change that made it.
        for (change, _) in &self.changes {
            change.check(&self.base, &newest)?;
        }
        let mut rebased = Self::new(newest, None);
        for (change, message) in &self.changes {
            rebased.message.clone_from(message);
            rebased.perform(change.clone()).map_err(|error| conflict(error.message()))?;
        }
        Ok(rebased)
    }
}

impl Change {
    /// Appends the rows that carry out the change to `rows` and applies them to `view`.
    fn perform(&self, view: &mut Snapshot, rows: &mut Vec<OplogEntry>) -> Result<()> {
        let mut push = |view: &mut Snapshot, row: OplogEntry| -> Result<()> {
            // Not that of the row it follows: what it describes is of no transaction yet.
            let row = OplogEntry { txn: 0, timestamp: 0, ..row };
            view.apply(&row)?;
            rows.push(row);
            Ok(())
        };
        match self {
            Self::Create { path, content } => {
                let (parent, name, made) = make_parents(view, path)?;
                for row in made {
                    push(view, row)?;
                }
                let entry = OplogEntry::new(NodeId::create(), parent, &name, content.entry_type);
                push(view, content.fill(entry))
            }
            Self::Update { path, content } => {
                let mut entry = find(view, path)?;
                entry.version += 1;
                push(view, content.fill(entry))
            }
            Self::Append { path, content } => {
                let mut entry = find(view, path)?;
                if entry.entry_type != EntryType::FileSeries || entry.dynamic_factory().is_some() {
                    return Err(Error::unsupported(format!("'{path}' is no static series")));
                }
                entry.version += 1;
                push(view, content.fill(entry))
            }
            Self::Copy { rows: copied, to } => {
                let (parent, name, made) = make_parents(view, to)?;
                for row in made {
                    push(view, row)?;
                }
                let node_id = NodeId::create();
                for row in copied.iter() {
                    let row = row.clone();
                    let copy = OplogEntry { node_id, parent_id: parent, name: name.clone(), ..row };
                    push(view, OplogEntry { deleted: false, ..copy })?;
                }
                Ok(())
            }
            Self::Merge { node, name, segment, content } => {
                let Some(path) = view.path_of(*node)? else {
                    return Err(Error::not_found(format!(
                        "series '{name}' does not exist any more"
                    )));
                };
                let entry = find(view, &path)?;
                push(
                    view,
                    OplogEntry {
                        version: segment.to,
                        attributes: Some(segment.attributes()),
                        ..content.fill(entry)
                    },
                )
            }
            Self::Remove { path, recursive } => {
                let entry = find(view, path)?;
                if !recursive
                    && entry.entry_type == EntryType::Directory
                    && view.children(entry.node_id).next().transpose()?.is_some()
                {
                    return Err(Error::invalid(format!("'{path}' is not empty"))
                        .with_hint("remove it with all it holds: RECURSIVE, or rm -r"));
                }
                push(view, OplogEntry { deleted: true, content: None, ..entry })
            }
            Self::Rename { from, to } => {
                let entry = find(view, from)?;
                let into_itself =
                    || Error::invalid(format!("'{from}' cannot be moved into itself"));
                if to != from && to.starts_with(from) && entry.entry_type != EntryType::Symlink {
                    return Err(into_itself());
                }
                let (parent, name, made) = make_parents(view, to)?;
                // A link may lead there, too.
                let above = made.first().map_or(parent, |row| row.parent_id);
                if let (Some(above), Some(own)) =
                    (view.path_of(above)?, view.path_of(entry.node_id)?)
                    && above.starts_with(&own)
                {
                    return Err(into_itself());
                }
                for row in made {
                    push(view, row)?;
                }
                push(view, OplogEntry { parent_id: parent, name, ..entry })
            }
        }
    }

    /// Checks that what this change touches is in `newest` as it was in `base`.
    fn check(&self, base: &Snapshot, newest: &Snapshot) -> Result<()> {
        match self {
            Self::Create { path, .. } | Self::Update { path, .. } => same(path, base, newest),
            Self::Copy { rows, to } => {
                same(to, base, newest)?;
                // The files that a merged one has replaced may be gone.
                match rows.first().filter(|row| row.entry_type == EntryType::FileSeries) {
                    Some(row) if base.layout(row.node_id)? != newest.layout(row.node_id)? => {
                        Err(conflict(format!("the files of series '{}' were merged", row.name)))
                    }
                    _ => Ok(()),
                }
            }
            Self::Append { path, content } => match (base.locate(path)?, newest.locate(path)?) {
                (Located::Found(before), Located::Found(after))
                    if before.node_id == after.node_id =>
                {
                    // The columns were checked against those of the versions before.
                    let columns = content.table.as_ref().map(|table| &table.arrow_schema);
                    for row in newest.versions_from(after.node_id, before.version + 1) {
                        let others = row?.arrow_schema;
                        if others.as_ref() != columns && others != before.arrow_schema {
                            return Err(conflict(format!(
                                "another transaction appended other columns to '{path}'"
                            )));
                        }
                    }
                    Ok(())
                }
                // Made in the same transaction.
                (Located::Missing { .. }, _) => Ok(()),
                _ => Err(conflict(format!("another transaction changed '{path}' first"))),
            },
            Self::Merge { node, name, segment, .. } => {
                let of = |snapshot: &Snapshot| {
                    let merged = snapshot.segments(*node).map(|row| row?.segment());
                    merged
                        .filter_map(Result::transpose)
                        .filter(|other| {
                            other.as_ref().map_or(true, |other| {
                                other.from <= segment.to && segment.from <= other.to
                            })
                        })
                        .collect::<Result<Vec<Segment>>>()
                };
                if of(base)? == of(newest)? {
                    Ok(())
                } else {
                    Err(conflict(format!("another transaction merged series '{name}' first")))
                }
            }
            Self::Remove { path, recursive } => {
                same(path, base, newest)?;
                match newest.locate(path)? {
                    Located::Found(entry) if *recursive => {
                        untouched_below(path, &entry, base.txn(), newest)
                    }
                    _ => Ok(()),
                }
            }
            Self::Rename { from, to } => {
                same(from, base, newest)?;
                same(to, base, newest)
            }
        }
    }
}

impl NodeContent {
    pub(crate) fn fill(&self, entry: OplogEntry) -> OplogEntry {
        let attributes = match &self.table {
            Some(table) => {
                let own = self.attributes.as_deref().or(entry.attributes.as_deref());
                table.attributes(own)
            }
            None => self.attributes.clone(),
        };
        let table = self.table.clone().unwrap_or_default();
        let known = self.table.is_some();
        OplogEntry {
            entry_type: self.entry_type,
            factory: self.factory.clone().or(Some(crate::entry::STATIC_FACTORY.to_owned())),
            content: self.content.clone(),
            sha256: self.sha256.clone(),
            size: self.size,
            arrow_schema: known.then_some(table.arrow_schema),
            statistics: known.then_some(table.statistics),
            temporal_column: table.temporal_column,
            min_time: table.min_time,
            max_time: table.max_time,
            attributes,
            ..entry
        }
    }
}

fn conflict(message: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Conflict, format!("conflict: {message}"))
        .with_hint("another transaction came first; look at the result and try again")
}

/// A conflict unless `path` names the same state of the same node, or nothing, in both.
fn same(path: &PondPath, base: &Snapshot, newest: &Snapshot) -> Result<()> {
    let matching = match (base.locate(path)?, newest.locate(path)?) {
        (Located::Found(before), Located::Found(after)) => {
            before.node_id == after.node_id && before.txn == after.txn
        }
        // Others may have made some of the missing parents, which is what we want, too; but what was
        // there must be there still.
        (
            Located::Missing { directory: before, at: before_at, .. },
            Located::Missing { directory: after, at: after_at, .. },
        ) => {
            after_at.starts_with(&before_at)
                && (after_at != before_at || before.node_id == after.node_id)
                && newest.path_of(before.node_id)?.as_ref() == Some(&before_at)
        }
        (before, after) => before == after,
    };
    if matching {
        Ok(())
    } else {
        Err(conflict(format!("another transaction changed '{path}' first")))
    }
}

/// A conflict if anything below the directory at `path` is newer than transaction `txn`: it would be
/// removed by someone who has not seen it.
fn untouched_below(
    path: &PondPath,
    directory: &OplogEntry,
    txn: i64,
    newest: &Snapshot,
) -> Result<()> {
    let mut directories = vec![(path.clone(), directory.node_id)];
    while let Some((path, id)) = directories.pop() {
        for child in newest.children(id) {
            let child = child?;
            let path = path.child(&child.name);
            if child.txn > txn {
                return Err(conflict(format!("another transaction changed '{path}' first")));
            }
            if child.entry_type == EntryType::Directory {
                directories.push((path, child.node_id));
            }
        }
    }
    Ok(())
}

/// Returns the stored node at `path`, with its bytes: its next row must not be without them.
fn find(view: &Snapshot, path: &PondPath) -> Result<OplogEntry> {
    if path.is_root() {
        return Err(Error::invalid("'/' is the root: it cannot be changed"));
    }
    match view.locate(path)? {
        Located::Found(entry) => {
            let content = view.content(&entry)?;
            Ok(OplogEntry { content, ..entry })
        }
        Located::Missing { .. } => Err(Error::not_found(format!("'{path}' does not exist"))),
        Located::Dynamic { entry, at } => Err(read_only(path, &entry, &at)),
        Located::NotDirectory { at } => Err(not_directory(path, &at)),
    }
}

/// Returns the id of the directory that will hold `path`, the last name, and the rows of the
/// directories that are missing above it.
fn make_parents(view: &Snapshot, path: &PondPath) -> Result<(NodeId, String, Vec<OplogEntry>)> {
    if path.is_root() {
        return Err(Error::new(ErrorKind::AlreadyExists, "'/' already exists"));
    }
    let depth = path.names().count();
    if depth > DEPTH_MAX {
        return Err(Error::invalid(format!(
            "a path of {depth} names is too deep: at most {DEPTH_MAX} are possible"
        )));
    }
    match view.locate(path)? {
        Located::Missing { directory, mut names, .. } => {
            let name = names.pop().expect("at least the last name is missing");
            let mut parent = directory.node_id;
            let mut made = Vec::new();
            for directory in names {
                let row =
                    OplogEntry::new(NodeId::create(), parent, &directory, EntryType::Directory);
                parent = row.node_id;
                made.push(row);
            }
            Ok((parent, name, made))
        }
        Located::Found(_) => {
            Err(Error::new(ErrorKind::AlreadyExists, format!("'{path}' already exists")))
        }
        Located::Dynamic { entry, at } => Err(read_only(path, &entry, &at)),
        Located::NotDirectory { at } => Err(not_directory(path, &at)),
    }
}

/// Makes the error for a change of `path`, which lies inside the dynamic node `entry` at `at`.
pub(crate) fn read_only(path: &PondPath, entry: &OplogEntry, at: &PondPath) -> Error {
    let factory = entry.dynamic_factory().unwrap_or_default();
    Error::read_only(format!("'{path}' is inside the {factory} node '{at}', which is read-only"))
        .with_hint("what a dynamic node shows is changed at its source")
}

fn not_directory(path: &PondPath, at: &PondPath) -> Error {
    Error::invalid(format!("'{path}': '{at}' is not a directory"))
}
