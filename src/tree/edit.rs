//! An edit: the verbs that change the tree, collected into one transaction.
//!
//! Each verb checks everything before it changes anything, and one that fails leaves no trace; later
//! verbs and reads ([`Edit::snapshot`]) see what earlier ones did. Contents are stored as they come,
//! ahead of the commit that names them; an edit that is dropped takes them away again. What the tree's
//! policy refuses is refused before anything is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use serde_json::{Map, Value};

use super::import::{Import, ImportSource};
use super::walk::{Engine, Skipped};
use super::{AlterNode, Change, CreateMode, DropNodes, NewNode, Tree, Undo, past, undo};
use crate::blob::{BlobFile, Pin, Stored};
use crate::entry::{EntryType, OplogEntry, Segment};
use crate::error::{Error, ErrorKind, Result};
use crate::factory::{Config, Factory, OpenContext};
use crate::format::APPEND_TARGET_ROWS;
use crate::keep::Upkeep;
use crate::path::PondPath;
use crate::policy::Access;
use crate::pond::At;
use crate::progress::Progress;
use crate::snapshot::{Located, Snapshot};
use crate::transaction::{self, NodeContent, Transaction};

/// Changes that will become visible together.
#[derive(Debug)]
pub struct Edit {
    pub(super) tree: Tree,
    pub(super) transaction: Transaction,
    changes: Vec<Change>,
    /// Held from the first content stored until after the commit.
    pin: Option<Pin>,
    /// Blobs that were not there before.
    created: Vec<BlobFile>,
    /// As `created`, but of use only until the edit ends.
    passing: Vec<BlobFile>,
    /// Bytes held for their rows.
    inline_bytes: i64,
}

/// When so many bytes wait for their rows, further contents become blobs however small they are: a
/// transaction of a million small files is held in memory until it is committed, which takes about
/// four times as much.
const INLINE_BYTES_MAX: i64 = 32 << 20;

/// So many versions are appended to a series between two looks at what is to be merged.
const MERGE_EVERY: i64 = 8;

/// A point in an edit to which it can be taken back.
#[derive(Debug, Clone)]
pub struct Savepoint {
    transaction: transaction::Savepoint,
    changes: usize,
}

/// What writing to a path does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Makes a file; one that is there is an error.
    Create,
    /// Makes a file, or the next version of the one that is there.
    Replace,
    /// Adds a version to a series, which must be there.
    Append,
}

impl Drop for Edit {
    fn drop(&mut self) {
        self.unpin();
    }
}

impl Edit {
    pub(super) fn new(tree: Tree, transaction: Transaction) -> Self {
        Self {
            tree,
            transaction,
            changes: Vec::new(),
            pin: None,
            created: Vec::new(),
            passing: Vec::new(),
            inline_bytes: 0,
        }
    }

    /// Returns the tree that is edited.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the tree as the edit sees it, its own changes included.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(self.transaction.view().clone())
    }

    /// Returns what the verbs did so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Whether there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.transaction.is_empty()
    }

    /// Sets what is stored with the rows of the verbs to come.
    pub fn set_message(&mut self, message: Option<String>) {
        self.transaction.set_message(message);
    }

    /// Remembers what was done so far.
    pub fn savepoint(&self) -> Savepoint {
        Savepoint { transaction: self.transaction.savepoint(), changes: self.changes.len() }
    }

    /// Takes back what was done since `savepoint`, which must be of this edit.
    pub fn roll_back_to(&mut self, savepoint: Savepoint) {
        self.transaction.roll_back_to(savepoint.transaction);
        self.changes.truncate(savepoint.changes);
    }

    /// Publishes the changes as one transaction, and returns them with its number. When this
    /// returns, they are durable and visible to all.
    ///
    /// # Errors
    /// `Conflict` if another transaction changed the same path first; nothing was written then.
    pub async fn commit(mut self) -> Result<Vec<Change>> {
        let mut changes = std::mem::take(&mut self.changes);
        if self.transaction.is_empty() {
            return Ok(changes);
        }
        if let Some(pin) = &self.pin {
            pin.check().await?;
        }
        let transaction = self.transaction.take();
        // Who is dropped while it commits may have committed: what it names stays then.
        let created = std::mem::take(&mut self.created);
        match self.tree.pond.commit(transaction).await {
            Ok(committed) => {
                for change in changes.iter_mut().filter(|change| change.is_written()) {
                    change.txn = Some(committed.txn);
                }
                // Clean-up need not wait for the merging.
                if let Some(pin) = self.unpin() {
                    pin.release().await;
                }
                let mut appended = BTreeMap::<&PondPath, i64>::new();
                for change in changes.iter().filter(|change| change.status == "appended") {
                    *appended.entry(&change.path).or_default() += 1;
                }
                for (path, versions) in appended {
                    // Looking at the files of a series costs more the more there are.
                    let due = self.tree.pond.snapshot().await.is_ok_and(|newest| {
                        matches!(newest.locate(path), Ok(Located::Found(series))
                            if series.version % MERGE_EVERY < versions)
                    });
                    if !due {
                        continue;
                    }
                    // The append is done; what could not be merged is tried again after the next.
                    let merged = Box::pin(self.tree.merge_series(path, APPEND_TARGET_ROWS)).await;
                    Upkeep::Series.remember(self.tree.pond.cache_dir(), merged.err().as_ref());
                }
                Ok(changes)
            }
            Err(error) => {
                // Whether an interrupted write has come through cannot be told: what it may name
                // stays, and is left to clean-up.
                if error.kind() == ErrorKind::Conflict {
                    self.created = created;
                }
                Err(error)
            }
        }
    }

    /// As [`Edit::commit`], and returns what takes the transaction back, in the order in which it
    /// works, as long as no other follows: nothing if nothing was written.
    ///
    /// # Errors
    /// Those of [`Edit::commit`].
    pub async fn commit_undoable(self) -> Result<(Vec<Change>, Vec<Undo>)> {
        let verbs = self.plan_undo();
        let changes = self.commit().await?;
        let undo = match changes.iter().find_map(|change| change.txn) {
            Some(txn) => undo::complete(verbs, txn),
            None => Vec::new(),
        };
        Ok((changes, undo))
    }

    /// Returns how many rows committing would write.
    pub(super) fn rows(&self) -> usize {
        self.transaction.rows().len()
    }

    /// As [`Edit::commit`], for an edit of one verb that changes one node.
    pub(super) async fn commit_one(self) -> Result<Change> {
        let mut changes = self.commit().await?;
        Ok(changes.pop().expect("the verb reported its change"))
    }

    /// Refuses to change what is at `path`, ahead of all that it takes.
    pub(super) fn may_change(&self, path: &PondPath) -> Result<()> {
        self.tree.policy().check_write(format_args!("'{path}'"))
    }

    pub(super) fn done(&mut self, status: &'static str, path: PondPath) -> Change {
        let change = Change { status, txn: None, path };
        self.changes.push(change.clone());
        change
    }

    /// Makes a dynamic node, and the directories above it that are missing.
    ///
    /// # Errors
    /// `NotFound` for an unknown factory, `Invalid` for bad options, `AlreadyExists`, `ReadOnly` inside
    /// a dynamic node, and whatever keeps the node from being opened.
    pub async fn create_node(&mut self, new: NewNode) -> Result<Change> {
        self.may_change(&new.path)?;
        let factory = self.tree.factories.require(&new.factory)?;
        let config = Config::validate(&*factory, new.options)?;
        let path = new.path;
        let replaced = match self.transaction.view().locate(&path)? {
            Located::Found(_) if new.mode == CreateMode::IfNotExists => {
                return Ok(self.done("exists", path));
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
        let content = self.recipe(&*factory, config, &path, attributes).await?;
        self.checked(&path.clone(), |edit| edit.write(path, replaced, content))
    }

    /// Makes a change, unless it would make something at or below `path` need itself.
    fn checked<T>(
        &mut self,
        path: &PondPath,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let savepoint = self.savepoint();
        let rows = self.rows();
        let result = change(self).and_then(|changed| {
            self.tree.lineage(self.transaction.view()).check(path)?;
            self.check_mounts(rows)?;
            Ok(changed)
        });
        if result.is_err() {
            self.roll_back_to(savepoint);
        }
        result
    }

    /// Refuses host directories that the policy closes and nothing in the tree showed before: whatever
    /// verb brings them, be it that a mount of the past comes back. `before` is how many rows there were.
    fn check_mounts(&self, before: usize) -> Result<()> {
        if self.tree.policy().allows_host() {
            return Ok(());
        }
        let mut there: Option<BTreeSet<PathBuf>> = None;
        for row in &self.transaction.rows()[before..] {
            for directory in self.tree.host_directories(row)? {
                if there.is_none() {
                    let mut all = BTreeSet::new();
                    for (_, node) in self.transaction.base().dynamic_nodes()? {
                        all.extend(self.tree.host_directories(&node)?);
                    }
                    there = Some(all);
                }
                if there.as_ref().is_none_or(|there| !there.contains(&directory)) {
                    self.tree.policy().check_host(&directory, Access::Read)?;
                }
            }
        }
        Ok(())
    }

    /// Completes a configuration, opens the node once, and returns what is stored of it.
    async fn recipe(
        &self,
        factory: &dyn Factory,
        config: Config,
        path: &PondPath,
        attributes: Option<String>,
    ) -> Result<NodeContent> {
        let config = factory.prepare(config, &self.tree.create).await?;
        let cx = OpenContext {
            path: path.clone(),
            root: self.tree.root(self.snapshot()),
            snapshot: self.snapshot(),
            made: None,
            is_past: false,
            cache: self.tree.cache.clone(),
        };
        factory.open(&config, &cx).await?;
        let entry_type = factory.entry_type(&config);
        let config = Bytes::from(config.to_json());
        Ok(NodeContent::dynamic(entry_type, factory.name(), config, attributes))
    }

    /// Changes the configuration or the comment of a dynamic node.
    ///
    /// # Errors
    /// `NotFound`, `Unsupported` for a static node, and as [`Edit::create_node`].
    pub async fn alter_node(&mut self, path: &PondPath, change: AlterNode) -> Result<Change> {
        self.may_change(path)?;
        let entry = self.tree.require(self.transaction.view(), path).await?;
        let Some(factory) = entry.dynamic_factory() else {
            return Err(Error::unsupported(format!("'{path}' is static: it has no options"))
                .with_hint("ALTER NODE changes nodes that a factory makes"));
        };
        let factory = self.tree.factories.require(factory)?;
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
            NodeContent { attributes, ..NodeContent::of_entry(&entry) }
        } else {
            let config = Config::validate(&*factory, options)?;
            self.recipe(&*factory, config, path, attributes).await?
        };
        if content.content == entry.content && content.attributes == entry.attributes {
            return Ok(self.done("unchanged", path.clone()));
        }
        self.checked(path, |edit| {
            edit.transaction.update(path, content)?;
            Ok(edit.done("altered", path.clone()))
        })
    }

    /// Takes nodes out of the tree.
    ///
    /// # Errors
    /// `NotFound` unless `if_exists`; `Invalid` for a directory that is not empty unless `recursive`,
    /// and for a node that others read unless `cascade`; `ReadOnly` inside a dynamic node.
    pub async fn drop_nodes(&mut self, paths: &[PondPath], drop: DropNodes) -> Result<Vec<Change>> {
        let savepoint = self.savepoint();
        let result = self.try_drop(paths, drop).await;
        if result.is_err() {
            self.roll_back_to(savepoint);
        }
        result
    }

    async fn try_drop(&mut self, paths: &[PondPath], drop: DropNodes) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        let mut found = Vec::new();
        for path in paths {
            self.may_change(path)?;
            match self.tree.require(self.transaction.view(), path).await {
                Err(error) if drop.if_exists && error.kind() == ErrorKind::NotFound => {
                    changes.push(self.done("unchanged", path.clone()));
                    continue;
                }
                result => result?,
            };
            // One may be named twice, or lie below another.
            if !found.iter().any(|other| path.starts_with(other)) {
                found.retain(|other: &PondPath| !other.starts_with(path));
                found.push(path.clone());
            }
        }
        let dependents = self.tree.lineage(self.transaction.view()).dependents(&found)?;
        let remove =
            |edit: &mut Self, path: &PondPath| edit.transaction.remove(path, drop.recursive);
        for path in &found {
            remove(self, path)?;
        }
        if !drop.cascade && !dependents.is_empty() {
            return Err(depended_on(&found, &dependents, drop.recursive));
        }
        let dependents: Vec<PondPath> = dependents.into_iter().map(|(reader, _)| reader).collect();
        for path in &dependents {
            remove(self, path)?;
        }
        let dropped = dependents.into_iter().chain(found);
        changes.extend(dropped.map(|path| self.done("dropped", path)));
        Ok(changes)
    }

    /// Gives a node another path; directories above it that are missing are made.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `ReadOnly`; `Invalid` into itself.
    pub async fn rename(&mut self, from: &PondPath, to: &PondPath) -> Result<Change> {
        self.may_change(from)?;
        self.tree.require(self.transaction.view(), from).await?;
        if from == to {
            return Ok(self.done("unchanged", to.clone()));
        }
        self.checked(to, |edit| {
            edit.transaction.rename(from, to)?;
            Ok(edit.done("renamed", to.clone()))
        })
    }

    /// Makes a directory. With `parents`, those above it, too, and one that is there is fine.
    ///
    /// # Errors
    /// `AlreadyExists`; `NotFound` for a missing parent; `ReadOnly` inside a dynamic node.
    pub async fn mkdir(&mut self, path: &PondPath, parents: bool) -> Result<Change> {
        self.may_change(path)?;
        match self.transaction.view().locate(path)? {
            Located::Found(entry) if parents && entry.entry_type == EntryType::Directory => {
                return Ok(self.done("exists", path.clone()));
            }
            Located::Missing { names, at, .. } if names.len() > 1 && !parents => {
                return Err(Error::not_found(format!("'{}' does not exist", at.child(&names[0])))
                    .with_hint("make it first, or all at once: pond mkdir -p"));
            }
            _ => {}
        }
        self.transaction.mkdir(path)?;
        Ok(self.done("created", path.clone()))
    }

    /// Makes a link to `target`, which is kept as it is written: an absolute path of the pond, or one
    /// relative to the link's directory. It need not be there yet.
    ///
    /// # Errors
    /// `AlreadyExists`, `ReadOnly`; `Invalid` for an empty target, or one with names no node can have.
    pub async fn symlink(&mut self, path: &PondPath, target: &str) -> Result<Change> {
        self.may_change(path)?;
        if target.is_empty() {
            return Err(Error::invalid(format!("'{path}' cannot link to nothing")));
        }
        let (parent, _) = path.split().unwrap_or((PondPath::root(), ""));
        parent.join(target)?;
        self.checked(path, |edit| {
            edit.transaction.create(path, NodeContent::symlink(target))?;
            Ok(edit.done("created", path.clone()))
        })
    }

    /// Writes a `file:data`: a new one, or the next version of one. A link to one is followed.
    ///
    /// # Errors
    /// `AlreadyExists` for `Create`; `Unsupported` for a node that is no `file:data`; `ReadOnly`
    /// inside a dynamic node; those of the stream; `Io`.
    pub async fn write_bytes(
        &mut self,
        path: &PondPath,
        mode: WriteMode,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Change> {
        let (path, before) = self.target(path, mode).await?;
        if let Some(before) = &before {
            expect_type(&path, before, EntryType::FileData)?;
        }
        let stored = self.store(bytes, false).await?;
        let content = NodeContent::file(EntryType::FileData, stored, None);
        self.write(path, before.is_some(), content)
    }

    /// As [`Edit::write_bytes`], of what is in a file of the host; `copied` is told of the bytes as
    /// they are copied.
    pub(super) async fn write_host_file(
        &mut self,
        path: &PondPath,
        mode: WriteMode,
        (file, size_bytes): (std::fs::File, u64),
        copied: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<Change> {
        let (path, before) = self.target(path, mode).await?;
        if let Some(before) = &before {
            expect_type(&path, before, EntryType::FileData)?;
        }
        self.pin().await?;
        let stored = self.tree.pond.blobs().put_file(file, size_bytes, copied).await?;
        let content = NodeContent::file(EntryType::FileData, self.keep(stored), None);
        self.write(path, before.is_some(), content)
    }

    /// Puts contents into the tree: a new node, or the next version of one.
    pub(super) fn write(
        &mut self,
        path: PondPath,
        is_there: bool,
        content: NodeContent,
    ) -> Result<Change> {
        if is_there {
            self.transaction.update(&path, content)?;
            Ok(self.done("replaced", path))
        } else {
            self.transaction.create(&path, content)?;
            Ok(self.done("created", path))
        }
    }

    /// Returns where writing to `path` leads, links followed, and the static file that is there.
    pub(super) async fn target(
        &self,
        path: &PondPath,
        mode: WriteMode,
    ) -> Result<(PondPath, Option<OplogEntry>)> {
        self.may_change(path)?;
        let (at, located) = self.transaction.view().follow(path)?;
        match located {
            Located::Found(entry) => {
                if mode == WriteMode::Create {
                    return Err(Error::new(
                        ErrorKind::AlreadyExists,
                        format!("'{path}' already exists"),
                    ));
                }
                if let Some(factory) = entry.dynamic_factory() {
                    return Err(Error::read_only(format!(
                        "'{at}' is made by factory '{factory}': it takes no writes"
                    ))
                    .with_hint("what a dynamic node shows is changed at its source"));
                }
                if entry.entry_type == EntryType::Directory {
                    return Err(Error::invalid(format!("'{at}' is a directory"))
                        .with_hint(format!("name the file: '{}'", at.child("NAME"))));
                }
                Ok((at, Some(entry)))
            }
            Located::Missing { .. } if mode == WriteMode::Append => {
                let root = self.tree.root(self.snapshot());
                Err(crate::node::not_found(&root, &at).await)
            }
            Located::Missing { .. } => Ok((at, None)),
            Located::Dynamic { entry, at: node } => Err(transaction::read_only(&at, &entry, &node)),
            Located::NotDirectory { at: file } => {
                Err(Error::invalid(format!("'{at}': '{file}' is not a directory")))
            }
        }
    }

    /// Stores contents ahead of the commit.
    pub(super) async fn store(
        &mut self,
        bytes: BoxStream<'static, Result<Bytes>>,
        always_blob: bool,
    ) -> Result<Stored> {
        self.pin().await?;
        let always_blob = always_blob || self.inline_bytes >= INLINE_BYTES_MAX;
        let stored = self.tree.pond.blobs().put(bytes, always_blob).await?;
        if stored.content.is_some() {
            self.inline_bytes += stored.size;
        }
        Ok(self.keep(stored))
    }

    /// Stores what is needed until the edit ends, and no longer.
    pub(super) async fn store_for_now(
        &mut self,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<Stored> {
        self.pin().await?;
        let mut stored = self.tree.pond.blobs().put(bytes, false).await?;
        self.passing.extend(stored.created.take());
        Ok(stored)
    }

    /// Keeps clean-up away from what will be stored.
    pub(super) async fn pin(&mut self) -> Result<()> {
        if self.pin.is_none() {
            self.pin = Some(self.tree.pond.blobs().pin().await?);
        }
        Ok(())
    }

    /// Takes away what the tree does not need, and lets clean-up through.
    fn unpin(&mut self) -> Option<Pin> {
        let pin = self.pin.take()?;
        self.created.append(&mut self.passing);
        self.tree.pond.blobs().discard(&pin, &self.created);
        Some(pin)
    }

    /// Remembers what to take away again if the edit is dropped.
    pub(super) fn keep(&mut self, mut stored: Stored) -> Stored {
        self.created.extend(stored.created.take());
        stored
    }

    /// Copies a node, a directory with all below it, as it is or, with `at`, as it was. A link is
    /// followed. Contents of stored nodes are shared; those inside a dynamic node are copied in, and
    /// what cannot be is returned. What is there at `to` must be a file of the same type, of which the
    /// copy is the next version, or, for what is copied in, a directory, which is added to.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `ReadOnly`; `Invalid` for a directory into itself; those of
    /// [`Edit::import`].
    pub async fn copy(
        &mut self,
        from: &PondPath,
        at: Option<At>,
        to: &PondPath,
        progress: &Arc<Progress>,
        engine: &Arc<Engine>,
    ) -> Result<Vec<Skipped>> {
        self.may_change(to)?;
        self.pin().await?;
        let source = match at {
            Some(at) => self.tree.as_of(at).await?,
            None => self.snapshot(),
        };
        let root = match at {
            Some(_) => self.tree.past_root(source.clone()),
            None => self.tree.root(source.clone()),
        };
        let written = from;
        let (from, located) = source.follow(from)?;
        let entry = match (located, at) {
            (Located::Found(entry), _) => entry,
            (Located::Dynamic { .. }, _) => {
                let node = ImportSource::Node { root, path: from };
                let (progress, engine) = (progress.clone(), engine.clone());
                let sources = vec![(node, to.clone())];
                let import = Import { sources, progress, engine, ..Import::default() };
                return Ok(self.import(import).await?.skipped);
            }
            (_, Some(at)) => return Err(past::was_not_there(&from, at)),
            (_, None) => return Err(crate::node::not_found(&root, &from).await),
        };
        // Links may lead there, too.
        let real = match self.transaction.view().locate(to)? {
            Located::Missing { at, names, .. } => {
                names.iter().fold(at, |path, name| path.child(name))
            }
            _ => self.transaction.view().follow(to).map_or_else(|_| to.clone(), |(real, _)| real),
        };
        let into_itself = to.starts_with(written) || real.starts_with(&from);
        if at.is_none() && into_itself && entry.entry_type == EntryType::Directory {
            return Err(Error::invalid(format!("'{from}' cannot be copied into itself")));
        }
        self.checked(to, |edit| edit.try_copy(&source, &entry, to))?;
        self.done("copied", to.clone());
        Ok(Vec::new())
    }

    fn try_copy(&mut self, source: &Snapshot, entry: &OplogEntry, to: &PondPath) -> Result<()> {
        if let Located::Found(before) = self.transaction.view().locate(to)?
            && before.entry_type == entry.entry_type
            && matches!(entry.entry_type, EntryType::FileData | EntryType::FileTable)
            && before.dynamic_factory().is_none()
            && entry.dynamic_factory().is_none()
        {
            let content = source.content(entry)?;
            let entry = OplogEntry { content, ..entry.clone() };
            return self.transaction.update(to, NodeContent::of_entry(&entry));
        }
        self.copy_from(source, entry, to)
    }

    /// Makes `to` hold what `entry` is in `source`, with all below it.
    fn copy_from(&mut self, source: &Snapshot, entry: &OplogEntry, to: &PondPath) -> Result<()> {
        self.transaction.copy(node_rows(source, entry)?, to)?;
        if entry.entry_type == EntryType::Directory && entry.dynamic_factory().is_none() {
            for child in source.children(entry.node_id) {
                let child = child?;
                self.copy_from(source, &child, &to.child(&child.name))?;
            }
        }
        Ok(())
    }

    /// Makes a node, and all below it, what it was at some point of the past; also one that is gone.
    ///
    /// # Errors
    /// `NotFound` if it was not there then; those of [`crate::pond::Pond::as_of`].
    pub async fn restore(&mut self, path: &PondPath, at: At) -> Result<Vec<Change>> {
        self.may_change(path)?;
        self.pin().await?;
        let past = self.tree.pond.as_of(at).await?;
        let Located::Found(then) = past.locate(path)? else {
            return Err(Error::not_found(format!(
                "'{path}' did not exist at transaction {}",
                past.txn()
            ))
            .with_hint(format!("see when it did: SELECT * FROM history('{path}')")));
        };
        let before = self.changes.len();
        self.checked(path, |edit| edit.restore_node(&past, path, &then))?;
        if self.changes.len() == before {
            self.done("unchanged", path.clone());
        }
        Ok(self.changes[before..].to_vec())
    }

    fn restore_node(&mut self, past: &Snapshot, path: &PondPath, then: &OplogEntry) -> Result<()> {
        let now = match self.transaction.view().locate(path)? {
            _ if path.is_root() => then.clone(),
            Located::Found(now) => now,
            _ => {
                self.copy_from(past, then, path)?;
                self.done("restored", path.clone());
                return Ok(());
            }
        };
        if now.node_id == then.node_id && now.txn == then.txn && !is_directory(then) {
            return Ok(());
        }
        if is_directory(then) && is_directory(&now) {
            return self.restore_children(past, path, then, &now);
        }
        let view = self.transaction.view();
        let (new, old) = (with_content(past, then)?, with_content(view, &now)?);
        let (new, old) = (NodeContent::of_entry(&new), NodeContent::of_entry(&old));
        let is_series =
            then.entry_type == EntryType::FileSeries && then.dynamic_factory().is_none();
        if new == old && !is_series {
            return Ok(());
        }
        let same_kind = now.entry_type == then.entry_type
            && now.dynamic_factory().is_some() == then.dynamic_factory().is_some();
        if same_kind && !is_series && !is_directory(then) {
            self.transaction.update(path, new)?;
        } else {
            self.transaction.remove(path, true)?;
            self.copy_from(past, then, path)?;
        }
        self.done("restored", path.clone());
        Ok(())
    }

    fn restore_children(
        &mut self,
        past: &Snapshot,
        path: &PondPath,
        then: &OplogEntry,
        now: &OplogEntry,
    ) -> Result<()> {
        let kept: BTreeSet<String> = past
            .children(then.node_id)
            .map(|child| child.map(|child| child.name))
            .collect::<Result<_>>()?;
        let view = self.transaction.view().clone();
        for child in view.children(now.node_id) {
            let child = child?;
            if !kept.contains(&child.name) {
                let path = path.child(&child.name);
                self.transaction.remove(&path, true)?;
                self.done("dropped", path);
            }
        }
        for child in past.children(then.node_id) {
            let child = child?;
            self.restore_node(past, &path.child(&child.name), &child)?;
        }
        Ok(())
    }
}

/// Most names in one error.
const NAMED_MAX: usize = 10;

/// Makes the error for nodes that others read.
fn depended_on(paths: &[PondPath], dependents: &[(PondPath, PondPath)], recursive: bool) -> Error {
    let quoted = |path: &PondPath| format!("'{path}'");
    let reads = |(reader, read): &(PondPath, PondPath)| format!("'{reader}' reads '{read}'");
    let dropped = some_of(paths, quoted);
    let statement = match paths.len() {
        1..=NAMED_MAX => format!("DROP NODE {dropped}"),
        _ => "DROP NODE …".to_owned(),
    };
    let recursive = if recursive { " RECURSIVE" } else { "" };
    Error::invalid(format!("{dropped} cannot be dropped: {}", some_of(dependents, reads)))
        .with_hint(format!("drop what reads it, too: {statement}{recursive} CASCADE"))
}

/// Names some of many things, and counts the others.
fn some_of<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let mut names: Vec<String> = all.iter().take(NAMED_MAX).map(name).collect();
    if all.len() > NAMED_MAX {
        names.push(format!("and {} more", all.len() - NAMED_MAX));
    }
    names.join(", ")
}

fn is_directory(entry: &OplogEntry) -> bool {
    entry.entry_type == EntryType::Directory && entry.dynamic_factory().is_none()
}

fn with_content(snapshot: &Snapshot, entry: &OplogEntry) -> Result<OplogEntry> {
    Ok(OplogEntry { content: snapshot.content(entry)?, ..entry.clone() })
}

/// Refuses to write one kind of contents into a file of another kind.
pub(super) fn expect_type(path: &PondPath, entry: &OplogEntry, wanted: EntryType) -> Result<()> {
    if entry.entry_type == wanted {
        return Ok(());
    }
    let word = entry.entry_type.as_str().trim_start_matches("file:");
    Err(Error::unsupported(format!("'{path}' is a {}, not a {wanted}", entry.entry_type))
        .with_hint(format!("write it as what it is (put --type {word}), or remove it first")))
}

/// Returns the rows that make another node hold what `entry` is in `source`.
fn node_rows(source: &Snapshot, entry: &OplogEntry) -> Result<Vec<OplogEntry>> {
    if entry.entry_type != EntryType::FileSeries || entry.dynamic_factory().is_some() {
        return Ok(vec![OplogEntry { version: 1, ..with_content(source, entry)? }]);
    }
    let last = entry.version;
    let mut rows = Vec::new();
    for row in source.segments(entry.node_id) {
        let row = row?;
        let Some(segment) = row.segment()? else { continue };
        if segment.from > last {
            continue;
        }
        // Rows of later versions stay in the file and belong to none of the copy's.
        let runs = segment.runs.iter();
        let runs = runs.map(|(version, rows)| (if *version > last { 0 } else { *version }, *rows));
        let segment = Segment { to: segment.to.min(last), runs: runs.collect(), ..segment };
        let attributes = Some(segment.attributes());
        rows.push(OplogEntry { version: segment.to, attributes, ..row });
    }
    for row in source.versions_from(entry.node_id, 0) {
        let row = row?;
        if row.version <= last {
            rows.push(row);
        }
    }
    Ok(rows)
}
