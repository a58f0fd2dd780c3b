//! A snapshot: the tree of stored nodes at one transaction, a pure fold of the oplog's rows.
//!
//! The tree is a sorted map of bytes to bytes, kept in layers: immutable [`Index`] files in the cache,
//! which may hold millions of nodes and are read only where they are asked, and over them an in-memory
//! overlay of what came since, which is a persistent map, so that copying a snapshot and changing the
//! copy costs nothing to the original. Six kinds of keys:
//!
//! ```text
//! 1 | parent id | name      → the newest row of the node called so there
//! 2 | node id               → parent id, name
//! 3 | node id | version     → the newest row of that version of a series
//! 4 | node id | version     → a merged file of a series, by the first version in it
//! 5 | node id               → the bytes of a static file, unless they are few
//! 6 | node id               → nothing: the node is dynamic
//! ```
//!
//! Bytes are kept apart so that a listing need not read what is in the files.
//!
//! What a series shows is decided by its versions; where their rows are found, by its merged files.
//! A snapshot of the past has the versions of its time and the merged files of today (`Snapshot::arrange`):
//! merging changes no rows, and the files it took them from are gone after a while.
//!
//! A removed directory takes what is below out of the tree by becoming unreachable, so removing and
//! renaming are one row whatever is below.

use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, Result};
use crate::index::{Index, Pair};
use crate::path::PondPath;

/// Most links followed before a path is called a loop, as on Linux.
pub const SYMLINKS_MAX: usize = 40;

/// Changes on top of the base: a value, or `None` for a key that is gone.
pub(crate) type Overlay = OrdMap<Vec<u8>, Option<Bytes>>;

/// The tree at one transaction.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    txn: i64,
    timestamp: i64,
    /// The files, the newest first.
    layers: Vec<Arc<Index>>,
    overlay: Overlay,
}

/// Where a path leads in the stored tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Located {
    /// To this node. Symlinks on the way were followed, the last name was not.
    Found(OplogEntry),
    /// To nothing: the rest of the path is missing below this directory.
    Missing {
        /// The deepest directory that is there.
        directory: OplogEntry,
        /// Its path.
        at: PondPath,
        /// The names missing below it; at least one.
        names: Vec<String>,
    },
    /// Into a dynamic node: what is below is its factory's.
    Dynamic {
        /// The node.
        entry: OplogEntry,
        /// Its path.
        at: PondPath,
    },
    /// Through a file.
    NotDirectory {
        /// Path of the file.
        at: PondPath,
    },
}

impl Snapshot {
    pub(crate) fn from_parts(txn: i64, timestamp: i64, layers: Vec<Arc<Index>>) -> Self {
        Self { txn, timestamp, layers, overlay: Overlay::new() }
    }

    /// Returns the number of the newest transaction in it; 0 for an empty pond.
    pub fn txn(&self) -> i64 {
        self.txn
    }

    /// Returns the time of that transaction, microseconds since 1970 UTC.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    pub(crate) fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Applies one row; rows come in the order of their transactions.
    pub fn apply(&mut self, row: &OplogEntry) -> Result<()> {
        self.txn = self.txn.max(row.txn);
        self.timestamp = self.timestamp.max(row.timestamp);
        if row.is_segment() {
            return self.arrange(row);
        }
        let id_key = id_key(row.node_id);
        let place = child_key(row.parent_id, &row.name);
        if let Some(before) = self.get(&id_key)?
            && (row.deleted || before != place[1..])
        {
            let mut old_place = vec![CHILD];
            old_place.extend_from_slice(&before);
            self.overlay.insert(old_place, None);
        }
        if row.deleted {
            self.overlay.insert(id_key, None);
            for prefix in [VERSION, SEGMENT, CONTENT, DYNAMIC] {
                self.remove_all(node_key(prefix, row.node_id))?;
            }
            return Ok(());
        }
        let content_key = node_key(CONTENT, row.node_id);
        let long = row.content.as_ref().filter(|content| {
            row.entry_type.is_file()
                && row.dynamic_factory().is_none()
                && content.len() > CONTENT_BYTES_MAX
        });
        let value = match long {
            Some(content) => {
                self.overlay.insert(content_key, Some(content.clone()));
                encode(&OplogEntry { content: None, ..row.clone() })?
            }
            None => {
                if row.version > 1 && self.get(&content_key)?.is_some() {
                    self.overlay.insert(content_key, None);
                }
                encode(row)?
            }
        };
        let dynamic_key = node_key(DYNAMIC, row.node_id);
        if row.dynamic_factory().is_some() {
            self.overlay.insert(dynamic_key, Some(Bytes::new()));
        } else if row.version > 1 && self.get(&dynamic_key)?.is_some() {
            self.overlay.insert(dynamic_key, None);
        }
        if row.entry_type == EntryType::FileSeries {
            self.overlay.insert(version_key(row.node_id, row.version), Some(value.clone()));
        }
        self.overlay.insert(id_key, Some(Bytes::copy_from_slice(&place[1..])));
        self.overlay.insert(place, Some(value));
        Ok(())
    }

    /// Returns the node called `name` in the directory `parent`.
    pub fn child(&self, parent: NodeId, name: &str) -> Result<Option<OplogEntry>> {
        self.get(&child_key(parent, name))?.map(|value| decode(&value)).transpose()
    }

    /// Iterates over the children of the directory `parent`, by name.
    pub fn children(
        &self,
        parent: NodeId,
    ) -> impl Iterator<Item = Result<OplogEntry>> + Send + use<> {
        self.pairs(child_key(parent, "")).map(|pair| decode(&pair?.1))
    }

    /// Iterates over the versions of a series, oldest first.
    pub fn versions(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = Result<OplogEntry>> + Send + use<> {
        self.versions_from(node, 0)
    }

    /// Applies the row of a merged file, whatever its transaction: the files it replaces go.
    ///
    /// # Errors
    /// `Corrupt` if the row does not say which versions it holds.
    pub(crate) fn arrange(&mut self, row: &OplogEntry) -> Result<()> {
        let Some(segment) = row.segment()? else { return Ok(()) };
        for other in self.segments(row.node_id) {
            let Some(other) = other?.segment()? else { continue };
            if segment.from <= other.from && other.to <= segment.to {
                self.overlay.insert(segment_key(row.node_id, other.from), None);
            }
        }
        self.overlay.insert(segment_key(row.node_id, segment.from), Some(encode(row)?));
        Ok(())
    }

    fn remove_all(&mut self, prefix: Vec<u8>) -> Result<()> {
        let keys: Vec<Bytes> =
            self.pairs(prefix).map(|pair| pair.map(|(key, _)| key)).collect::<Result<_>>()?;
        for key in keys {
            self.overlay.insert(key.to_vec(), None);
        }
        Ok(())
    }

    /// Iterates over the merged files of a series, by version. Those of versions that the snapshot
    /// does not have yet may be among them.
    pub fn segments(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = Result<OplogEntry>> + Send + use<> {
        self.pairs(node_key(SEGMENT, node)).map(|pair| decode(&pair?.1))
    }

    /// Returns what changes whenever the merged files of a series do.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of the cache.
    pub fn layout(&self, node: NodeId) -> Result<i64> {
        let mut hasher = crc32fast::Hasher::new();
        for pair in self.pairs(node_key(SEGMENT, node)) {
            hasher.update(&pair?.1);
        }
        Ok(hasher.finalize().into())
    }

    /// Iterates over the versions of a series from `first` on, oldest first.
    pub fn versions_from(
        &self,
        node: NodeId,
        first: i64,
    ) -> impl Iterator<Item = Result<OplogEntry>> + Send + use<> {
        self.pairs_from(node_key(VERSION, node), version_key(node, first))
            .map(|pair| decode(&pair?.1))
    }

    /// Returns the bytes of a static file, where they are not in a blob.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of the cache.
    pub fn content(&self, entry: &OplogEntry) -> Result<Option<Bytes>> {
        match &entry.content {
            Some(content) => Ok(Some(content.clone())),
            None => self.get(&node_key(CONTENT, entry.node_id)),
        }
    }

    /// Returns the path of a node, or `None` if it is not in the tree.
    pub fn path_of(&self, node: NodeId) -> Result<Option<PondPath>> {
        let mut names = Vec::new();
        let mut at = node;
        while at != NodeId::ROOT {
            let Some(place) = self.get(&id_key(at))? else { return Ok(None) };
            let (parent, name) = split_place(&place)?;
            names.push(name);
            at = parent;
        }
        names.reverse();
        Ok(Some(names.iter().fold(PondPath::root(), |path, name| path.child(name))))
    }

    /// Returns the dynamic nodes in the tree, with their paths, in the order in which they were made.
    ///
    /// # Errors
    /// `Corrupt`, `Io`: those of the cache.
    pub fn dynamic_nodes(&self) -> Result<Vec<(PondPath, OplogEntry)>> {
        let mut nodes = Vec::new();
        for pair in self.pairs(vec![DYNAMIC]) {
            let (key, _) = pair?;
            let id: [u8; 16] = key[1..]
                .try_into()
                .map_err(|_| Error::corrupt("namespace snapshot: the key of a dynamic node"))?;
            let id = NodeId::from_bytes(id);
            // What is below a removed directory is in no tree.
            let Some(path) = self.path_of(id)? else { continue };
            if let Located::Found(entry) = self.locate(&path)?
                && entry.node_id == id
            {
                nodes.push((path, entry));
            }
        }
        Ok(nodes)
    }

    /// Whether a node is in the tree, in this version of its content.
    pub fn has_version(&self, node: NodeId, version: i64) -> bool {
        let located = self.path_of(node).ok().flatten().map(|path| self.locate(&path));
        matches!(located, Some(Ok(Located::Found(entry)))
            if entry.node_id == node && entry.version == version)
    }

    /// Finds where `path` leads; symlinks are followed but for the last name.
    ///
    /// # Errors
    /// `Invalid` for a loop of symlinks.
    pub fn locate(&self, path: &PondPath) -> Result<Located> {
        Ok(self.find(path)?.1)
    }

    /// As [`Snapshot::locate`], with the path, free of links, of what was found; of anything else, the
    /// path that was asked for.
    fn find(&self, path: &PondPath) -> Result<(PondPath, Located)> {
        let mut wanted: Vec<String> = path.names().rev().map(str::to_owned).collect();
        let mut at = PondPath::root();
        let mut entry = root_entry();
        let mut links = 0;
        while let Some(name) = wanted.pop() {
            if entry.dynamic_factory().is_some() {
                return Ok((path.clone(), Located::Dynamic { entry, at }));
            }
            if entry.entry_type != EntryType::Directory {
                return Ok((path.clone(), Located::NotDirectory { at }));
            }
            let Some(child) = self.child(entry.node_id, &name)? else {
                wanted.push(name);
                wanted.reverse();
                let missing = Located::Missing { directory: entry, at, names: wanted };
                return Ok((path.clone(), missing));
            };
            if child.entry_type == EntryType::Symlink && !wanted.is_empty() {
                links += 1;
                if links > SYMLINKS_MAX {
                    return Err(Error::invalid(format!("'{path}' is a loop of symbolic links")));
                }
                let target = at.join(&symlink_target(&child)?)?;
                wanted.extend(target.names().rev().map(str::to_owned));
                at = PondPath::root();
                entry = root_entry();
            } else {
                at = at.child(&name);
                entry = child;
            }
        }
        Ok((at, Located::Found(entry)))
    }

    /// Finds where `path` leads, the last link followed, too, and which path that is: free of links, if
    /// there is something.
    ///
    /// # Errors
    /// `Invalid` for a loop of symlinks.
    pub fn follow(&self, path: &PondPath) -> Result<(PondPath, Located)> {
        let mut at = path.clone();
        for _ in 0..SYMLINKS_MAX {
            match self.find(&at)? {
                (link, Located::Found(entry)) if entry.entry_type == EntryType::Symlink => {
                    let (parent, _) = link.split().unwrap_or((PondPath::root(), ""));
                    at = parent.join(&symlink_target(&entry)?)?;
                }
                found => return Ok(found),
            }
        }
        Err(Error::invalid(format!("'{path}' is a loop of symbolic links")))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        if let Some(value) = self.overlay.get(key) {
            return Ok(value.clone());
        }
        for layer in &self.layers {
            if let Some(value) = layer.get(key)? {
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// Iterates over the pairs whose key starts with `prefix`, in order, all layers merged.
    fn pairs(
        &self,
        prefix: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes)>> + Send + use<> {
        self.pairs_from(prefix.clone(), prefix)
    }

    /// Iterates over the pairs whose key starts with `prefix` and is at least `from`, in order.
    fn pairs_from(
        &self,
        prefix: Vec<u8>,
        from: Vec<u8>,
    ) -> impl Iterator<Item = Result<(Bytes, Bytes)>> + Send + use<> {
        self.merged(prefix, from, self.layers.len())
            .filter_map(|pair| pair.map(|(key, value)| Some((key, value?))).transpose())
    }

    /// Iterates over what the overlay and the newest `layers` say of the keys that start with
    /// `prefix` and are at least `from`, in order.
    pub(crate) fn merged(
        &self,
        prefix: Vec<u8>,
        from: Vec<u8>,
        layers: usize,
    ) -> impl Iterator<Item = Result<Pair>> + Send + use<> {
        let mut sources: Vec<Peekable<Source>> = Vec::with_capacity(layers + 1);
        let overlay = self.overlay.clone();
        sources.push(
            (Box::new(OverlayPairs { from: Bound::Included(from.clone()), overlay }) as Source)
                .peekable(),
        );
        for layer in &self.layers[..layers] {
            sources.push((Box::new(layer.range(&from)) as Source).peekable());
        }
        Merged { sources, prefix }
    }
}

type Source = Box<dyn Iterator<Item = Result<Pair>> + Send>;

/// The pairs of several sources with one prefix, in order; of equal keys the first source's.
struct Merged {
    sources: Vec<Peekable<Source>>,
    prefix: Vec<u8>,
}

impl Iterator for Merged {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut least: Option<(Bytes, usize)> = None;
        for (at, source) in self.sources.iter_mut().enumerate() {
            match source.peek() {
                Some(Err(_)) => return source.next(),
                Some(Ok((key, _)))
                    if key.starts_with(&self.prefix)
                        && least.as_ref().is_none_or(|(least, _)| key < least) =>
                {
                    least = Some((key.clone(), at));
                }
                _ => {}
            }
        }
        let (key, at) = least?;
        for older in &mut self.sources[at + 1..] {
            older.next_if(|pair| pair.as_ref().is_ok_and(|(other, _)| *other == key));
        }
        self.sources[at].next()
    }
}

/// The pairs of an overlay from some key on; it keeps the map, not a borrow of it.
struct OverlayPairs {
    overlay: Overlay,
    from: Bound<Vec<u8>>,
}

impl Iterator for OverlayPairs {
    type Item = Result<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.overlay.range((self.from.clone(), Bound::Unbounded)).next()?;
        self.from = Bound::Excluded(key.clone());
        Some(Ok((Bytes::copy_from_slice(key), value.clone())))
    }
}

/// Returns what stands for the root, which has no row.
pub fn root_entry() -> OplogEntry {
    OplogEntry::new(NodeId::ROOT, NodeId::ROOT, "", EntryType::Directory)
}

/// Returns where a symlink leads, as it is written.
pub fn symlink_target(entry: &OplogEntry) -> Result<String> {
    let content = entry.content.as_deref().unwrap_or_default();
    std::str::from_utf8(content).map(str::to_owned).map_err(|error| {
        Error::corrupt(format!("target of symlink '{}'", entry.name)).with_source(error)
    })
}

const CHILD: u8 = 1;
const PLACE: u8 = 2;
const VERSION: u8 = 3;
const SEGMENT: u8 = 4;
const CONTENT: u8 = 5;
const DYNAMIC: u8 = 6;

/// The longest bytes of a file that stay with its row.
const CONTENT_BYTES_MAX: usize = 256;

fn child_key(parent: NodeId, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(17 + name.len());
    key.push(CHILD);
    key.extend_from_slice(parent.as_bytes());
    key.extend_from_slice(name.as_bytes());
    key
}

fn id_key(node: NodeId) -> Vec<u8> {
    node_key(PLACE, node)
}

fn version_key(node: NodeId, version: i64) -> Vec<u8> {
    let mut key = node_key(VERSION, node);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

fn segment_key(node: NodeId, from: i64) -> Vec<u8> {
    let mut key = node_key(SEGMENT, node);
    key.extend_from_slice(&from.to_be_bytes());
    key
}

fn node_key(kind: u8, node: NodeId) -> Vec<u8> {
    let mut key = Vec::with_capacity(25);
    key.push(kind);
    key.extend_from_slice(node.as_bytes());
    key
}

fn split_place(place: &[u8]) -> Result<(NodeId, String)> {
    let damaged = || Error::corrupt("namespace snapshot: a place");
    let (parent, name) = place.split_at_checked(16).ok_or_else(damaged)?;
    let parent = NodeId::from_bytes(parent.try_into().map_err(|_| damaged())?);
    Ok((parent, String::from_utf8(name.to_vec()).map_err(|_| damaged())?))
}

fn encode(row: &OplogEntry) -> Result<Bytes> {
    postcard::to_allocvec(row)
        .map(Bytes::from)
        .map_err(|error| Error::invalid(format!("'{}'", row.name)).with_source(error))
}

fn decode(value: &[u8]) -> Result<OplogEntry> {
    postcard::from_bytes(value)
        .map_err(|error| Error::corrupt("namespace snapshot: a row").with_source(error))
}
