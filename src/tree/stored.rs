//! Stored nodes opened as [`Directory`] and [`File`], at one snapshot; dynamic ones through their
//! factories.

use std::ops::RangeInclusive;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use futures::stream::{BoxStream, StreamExt};

use super::Tree;
use super::lineage::Lineage;
use crate::blob::Blobs;
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, Result};
use crate::factory::{Config, OpenContext};
use crate::format::{
    self, SeriesRows, Stored, TableFormat, TableKey, TableSource, series_sources, table_source,
};
use crate::node::{DirEntry, Directory, File, ListFields, Node};
use crate::path::PondPath;
use crate::snapshot::{Snapshot, symlink_target};

/// What all nodes of one root share.
#[derive(Debug)]
struct View {
    tree: Tree,
    snapshot: Arc<Snapshot>,
    /// Whether it is looked at from later.
    is_past: bool,
}

/// A static directory at one snapshot.
#[derive(Debug, Clone)]
pub(super) struct StoredDirectory {
    view: Arc<View>,
    id: NodeId,
    path: PondPath,
    /// The dynamic node for which this is looked into.
    reader: Option<Arc<Reader>>,
}

/// A dynamic node that looks for its sources, perhaps as the source of another one.
#[derive(Debug)]
struct Reader {
    node: NodeId,
    reader: Option<Arc<Reader>>,
}

impl StoredDirectory {
    /// Whether a dynamic node is being looked into for its own sake: two transactions may each have
    /// made half of a cycle, which no check of either has seen.
    fn is_reader(&self, node: NodeId) -> bool {
        let readers = std::iter::successors(self.reader.as_ref(), |next| next.reader.as_ref());
        readers.into_iter().any(|reader| reader.node == node)
    }
}

impl StoredDirectory {
    /// The root of `snapshot`.
    pub(super) fn root(tree: Tree, snapshot: Arc<Snapshot>) -> Self {
        Self::root_of(View { tree, snapshot, is_past: false })
    }

    /// The root of `snapshot`, without what is live.
    pub(super) fn past_root(tree: Tree, snapshot: Arc<Snapshot>) -> Self {
        Self::root_of(View { tree, snapshot, is_past: true })
    }

    fn root_of(view: View) -> Self {
        Self { view: Arc::new(view), id: NodeId::ROOT, path: PondPath::root(), reader: None }
    }
}

#[async_trait]
impl Directory for StoredDirectory {
    fn list(&self, _fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let view = self.view.clone();
        let children = self.view.snapshot.children(self.id);
        futures::stream::iter(children)
            .map(move |child| Ok(listed(view.tree.lineage(&view.snapshot), &child?)))
            .boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        let Some(entry) = self.view.snapshot.child(self.id, name)? else { return Ok(None) };
        let path = self.path.child(name);
        if let Some(factory) = entry.dynamic_factory() {
            if self.is_reader(entry.node_id) {
                return Err(Error::invalid(format!("'{path}' is derived from itself"))
                    .with_hint(format!("see what it reads: SHOW LINEAGE FOR '{path}'")));
            }
            let factory = self.view.tree.factories.require(factory).map_err(|error| {
                error.context(format!("'{path}' cannot be opened")).with_hint(
                    "it was made by another version or application; register its factory first",
                )
            })?;
            if self.view.is_past && factory.is_live() {
                return Err(Error::unsupported(format!(
                    "'{path}' has no past: factory '{}' shows what is outside of the pond",
                    factory.name()
                ))
                .with_hint(format!(
                    "it is read as it is now; SHOW CREATE NODE '{path}@v{}' shows its recipe",
                    entry.txn
                )));
            }
            let config = Config::from_json(entry.content.as_deref().unwrap_or_default())
                .map_err(|error| error.context(format!("'{path}'")))?;
            let root = StoredDirectory {
                view: self.view.clone(),
                id: NodeId::ROOT,
                path: PondPath::root(),
                // What is planned has its cycles found before.
                reader: match factory.is_planned() {
                    true => self.reader.clone(),
                    false => {
                        Some(Arc::new(Reader { node: entry.node_id, reader: self.reader.clone() }))
                    }
                },
            };
            let cx = OpenContext {
                path,
                root: Arc::new(root),
                snapshot: self.view.snapshot.clone(),
                made: (entry.txn > 0).then_some((entry.node_id, entry.version)),
                is_past: self.view.is_past,
                cache: self.view.tree.cache.clone(),
            };
            return factory.open(&config, &cx).await.map(Some);
        }
        Ok(Some(match entry.entry_type {
            EntryType::Directory => Node::Directory(Arc::new(StoredDirectory {
                view: self.view.clone(),
                id: entry.node_id,
                path,
                reader: self.reader.clone(),
            })),
            EntryType::Symlink => Node::Symlink(self.path.join(&symlink_target(&entry)?)?),
            _ => Node::File(Arc::new(StoredFile { view: self.view.clone(), path, entry })),
        }))
    }
}

/// A static file at one snapshot.
#[derive(Debug)]
struct StoredFile {
    view: Arc<View>,
    path: PondPath,
    entry: OplogEntry,
}

impl StoredFile {
    fn blobs(&self) -> &Blobs {
        self.view.tree.pond.blobs()
    }

    /// Returns the SHA-256 and the size of a blob's contents; `None` for bytes in the row.
    fn blob(&self) -> Result<Option<(&str, i64)>> {
        match (&self.entry.sha256, self.entry.size) {
            _ if self.view.snapshot.content(&self.entry)?.is_some() => Ok(None),
            (Some(sha256), Some(size)) => Ok(Some((sha256, size))),
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl File for StoredFile {
    async fn metadata(&self) -> Result<DirEntry> {
        Ok(listed(self.view.tree.lineage(&self.view.snapshot), &self.entry))
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        // A series is all its versions together: rows, not bytes.
        if self.entry.entry_type == EntryType::FileSeries {
            return Ok(None);
        }
        if let Some((sha256, size)) = self.blob()? {
            let bytes = self.blobs().read(sha256, size).await;
            return bytes.map(Some).map_err(|error| error.context(format!("'{}'", self.path)));
        }
        let content = self.view.snapshot.content(&self.entry)?.unwrap_or_default();
        Ok(Some(futures::stream::once(async { Ok(content) }).boxed()))
    }

    async fn host_file(&self) -> Result<Option<(std::fs::File, u64)>> {
        if self.entry.entry_type == EntryType::FileSeries {
            return Ok(None);
        }
        let Some((sha256, size)) = self.blob()? else { return Ok(None) };
        let file = self.blobs().open(sha256, size).await;
        let file = file.map_err(|error| error.context(format!("'{}'", self.path)))?;
        Ok(file.zip(u64::try_from(size).ok()))
    }

    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        if !is_table(&self.entry) {
            let source = self.data_source(Some(session), self.format()?)?;
            return format::open_table(session, vec![source]).await;
        }
        let tree = &self.view.tree;
        self.blobs().register(session.runtime_env());
        tree.tables.get(self.table_key()?, || self.sources())
    }

    async fn table_sources(&self, session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        if !is_table(&self.entry) {
            return Ok(Some(vec![self.data_source(Some(session), self.format()?)?]));
        }
        self.blobs().register(session.runtime_env());
        self.sources().map(Some)
    }

    async fn text_source(&self, session: Option<&dyn Session>) -> Result<Option<TableSource>> {
        if is_table(&self.entry) {
            return Ok(None);
        }
        self.data_source(session, TableFormat::csv_of_name(&self.entry.name)).map(Some)
    }
}

impl StoredFile {
    /// Returns the format that the name tells.
    fn format(&self) -> Result<TableFormat> {
        TableFormat::of_name(&self.entry.name).ok_or_else(|| {
            Error::unsupported(format!(
                "'{}' is a {}: its name tells no format with rows",
                self.path, self.entry.entry_type
            ))
            .with_hint(format!("read its bytes: pond cat '{}'", self.path))
        })
    }

    /// Returns the bytes as a table in a format.
    fn data_source(
        &self,
        session: Option<&dyn Session>,
        format: TableFormat,
    ) -> Result<TableSource> {
        let inline = match self.blob()? {
            Some(_) => None,
            None => Some(self.view.snapshot.content(&self.entry)?.unwrap_or_default()),
        };
        let sha256 = self.entry.sha256.as_deref().unwrap_or_default();
        if let Some(session) = session {
            self.blobs().register(session.runtime_env());
        }
        Ok(TableSource {
            path: self.path.clone(),
            store_url: self.blobs().url(),
            object: self.blobs().object(sha256, self.entry.size.unwrap_or(0)),
            format,
            known: None,
            inline,
            immutable: true,
            after: None,
            text: None,
        })
    }

    /// Returns the files of the table.
    fn sources(&self) -> Result<Vec<TableSource>> {
        let Self { view, path, entry } = self;
        stored_sources(self.blobs(), path, &view.snapshot, entry, 1..=entry.version)
    }

    /// Returns what tells this state of the table from others; `None` for what is not committed.
    fn table_key(&self) -> Result<Option<TableKey>> {
        let entry = &self.entry;
        if entry.txn == 0 {
            return Ok(None);
        }
        let layout = self.view.snapshot.layout(entry.node_id)?;
        Ok(Some(TableKey {
            path: self.path.clone(),
            store_url: self.blobs().url(),
            node: entry.node_id,
            versions: 1..=entry.version,
            sha256: entry.sha256.clone(),
            changed: (entry.txn, layout),
        }))
    }
}

/// Whether a static file is stored as Parquet with facts in its row.
pub(super) fn is_table(entry: &OplogEntry) -> bool {
    matches!(entry.entry_type, EntryType::FileTable | EntryType::FileSeries)
        && entry.dynamic_factory().is_none()
}

/// Returns the files that hold the rows of a static table, or of these versions of a series.
pub(super) fn stored_sources(
    blobs: &Blobs,
    path: &PondPath,
    snapshot: &Snapshot,
    entry: &OplogEntry,
    versions: RangeInclusive<i64>,
) -> Result<Vec<TableSource>> {
    let store_url = blobs.url();
    let location = |sha256: &str| blobs.object(sha256, 0).location;
    let stored = Stored { path, store_url: &store_url, location: &location };
    if entry.entry_type == EntryType::FileTable {
        return Ok(vec![table_source(stored, entry)?]);
    }
    series_sources(stored, versions, &Versions { snapshot, node: entry.node_id })
}

/// The rows of one series in a snapshot.
struct Versions<'a> {
    snapshot: &'a Snapshot,
    node: NodeId,
}

impl SeriesRows for Versions<'_> {
    fn segments(&self) -> Result<Vec<OplogEntry>> {
        self.snapshot.segments(self.node).collect()
    }

    fn versions(&self, versions: RangeInclusive<i64>) -> Result<Vec<OplogEntry>> {
        let last = *versions.end();
        let rows = self.snapshot.versions_from(self.node, *versions.start());
        rows.take_while(|row| row.as_ref().map_or(true, |row| row.version <= last)).collect()
    }
}

pub(super) fn listed(lineage: Lineage<'_>, entry: &OplogEntry) -> DirEntry {
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
        mtime: Some(entry.timestamp).filter(|time| *time > 0),
        mode: None,
        symlink_target: (entry.entry_type == EntryType::Symlink)
            .then(|| symlink_target(entry).unwrap_or_default()),
        version: Some(entry.version),
        // What an open transaction has made has none yet.
        txn: Some(entry.txn).filter(|txn| *txn > 0),
        error: lineage.broken(entry),
    }
}
