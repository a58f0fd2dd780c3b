//! Importing: what is outside of the pond's own tree is copied into it, as one part of an [`Edit`].
//!
//! A source is a file or directory of the host, a node inside a dynamic one, or a stream of bytes.
//! It is visited twice: first to check what it would change and to add up its size, then to copy it,
//! so that most mistakes are told before anything is read. Whatever fails, the edit is as it was.
//!
//! **What a file becomes** is, in this order: what was asked for; what it is already, if it is a
//! dynamic node's table or replaces a node; what the target's name says (`.table`, `.series`); data.
//! Data is stored byte for byte, and so is Parquet that becomes a table or a series. CSV, JSON and
//! Arrow are read by the engine, whose rows are written as Parquet; they stay in their order.
//!
//! Contents are streamed: memory does not grow with the size of a file.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion::catalog::TableProvider;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::task::spawn_blocking;

use super::Change;
use super::edit::{Edit, WriteMode, expect_type};
use super::walk::{Engine, Found, FoundFile, Skipped, Walk};
use crate::blob::read_file;
use crate::entry::{EntryType, INLINE_BYTES_MAX, OplogEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::factory::hostmount::{host_name, open_host};
use crate::format::{self, TableFormat, TableSource};
use crate::node::{Directory, File, Node, lookup, resolve};
use crate::path::PondPath;
use crate::policy::{Access, Policy};
use crate::progress::Progress;
use crate::snapshot::{Located, symlink_target};
use crate::transaction::NodeContent;

/// Bytes from which the format of a stream is told.
const HEAD_BYTES: usize = 512;

/// What is to be copied into the pond.
#[derive(Debug, Default)]
pub struct Import {
    /// What is copied, and where to. Directories that are there are added to; a file that is there
    /// gets its next version.
    pub sources: Vec<(ImportSource, PondPath)>,
    /// What files become; `None` lets each file tell.
    pub entry_type: Option<EntryType>,
    /// The column that orders a series.
    pub temporal_column: Option<String>,
    /// How the bytes of tables make rows; `None` lets each file tell.
    pub source_format: Option<TableFormat>,
    /// Told how far it has come.
    pub progress: Arc<Progress>,
    /// Reads and writes tables.
    pub engine: Arc<Engine>,
}

/// Where it comes from.
pub enum ImportSource {
    /// A file of the host, or a directory with all it holds. A link is followed.
    Host(PathBuf),
    /// A node inside a dynamic one, or one of the past: what `path` names below `root`.
    Node {
        /// The root.
        root: Arc<dyn Directory>,
        /// The path.
        path: PondPath,
    },
    /// Bytes as they come, and what they are called in errors.
    Stream {
        /// What they are called.
        name: String,
        /// The bytes.
        bytes: BoxStream<'static, Result<Bytes>>,
    },
}

impl ImportSource {
    /// A file or directory of the host or, where `path` names a pipe, what comes out of it.
    ///
    /// # Errors
    /// `Refused` by `policy`; `NotFound`, `PermissionDenied`, `Io`.
    pub async fn of_host(path: &Path, policy: &Policy) -> Result<Self> {
        policy.check_host(path, Access::Read)?;
        let (path, name) = (path.to_owned(), path.display().to_string());
        let failed = |error| Error::io(format!("'{name}'"), error);
        let opened = spawn_blocking(move || {
            let kind = std::fs::metadata(&path)?.file_type();
            if kind.is_file() || kind.is_dir() {
                return Ok((path, None));
            }
            let pipe = std::fs::File::open(&path)?;
            Ok((path, Some(pipe)))
        })
        .await
        .map_err(|error| failed(std::io::Error::other(error)))?;
        match opened.map_err(failed)? {
            (path, None) => Ok(Self::Host(path)),
            (_, Some(pipe)) => Ok(Self::Stream { name, bytes: read_file(pipe) }),
        }
    }
}

impl fmt::Debug for ImportSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(path) => f.debug_tuple("Host").field(path).finish(),
            Self::Node { path, .. } => f.debug_tuple("Node").field(path).finish(),
            Self::Stream { name, .. } => f.debug_tuple("Stream").field(name).finish(),
        }
    }
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// The nodes that it changed.
    pub changes: Vec<Change>,
    /// What it passed over.
    pub skipped: Vec<Skipped>,
}

impl Edit {
    /// Says what [`Edit::import`] would do. No contents are read.
    ///
    /// # Errors
    /// As [`Edit::import`], but for those that only contents can cause.
    pub async fn plan_import(&self, import: &Import) -> Result<Imported> {
        let mut plan = Plan::default();
        for (source, to) in &import.sources {
            self.may_change(to)?;
            let mut items = Items::open(source, to, self.tree().policy()).await?;
            while let Some(item) = items.next().await? {
                self.plan_item(import, item, &mut plan).await?;
            }
        }
        import.progress.expect_bytes(plan.bytes);
        Ok(plan.imported)
    }

    async fn plan_item(&self, import: &Import, item: Item, plan: &mut Plan) -> Result<()> {
        let (status, path) = match item {
            Item::Directory(to) if self.is_directory(&to).await? => return Ok(()),
            Item::Directory(to) => ("created", to),
            Item::Link { to, target } => match self.link_status(&to, &target)? {
                Some(status) => (status, to),
                None => return Ok(()),
            },
            Item::File { file, to, .. } => {
                let (path, before) = self.target(&to, WriteMode::Replace).await?;
                let own_type = file.as_ref().and_then(|file| file.entry_type);
                let kind = import.type_of(own_type, before.as_ref(), &path);
                if let Some(before) = &before {
                    expect_type(&path, before, kind)?;
                }
                let size = file.and_then(|file| file.size).unwrap_or(0);
                plan.bytes += u64::try_from(size).unwrap_or(0);
                let status = match before {
                    None => "created",
                    Some(_) if kind == EntryType::FileSeries => "appended",
                    Some(_) => "replaced",
                };
                (status, path)
            }
            Item::Skipped(skipped) => {
                plan.imported.skipped.push(skipped);
                return Ok(());
            }
        };
        if !plan.paths.insert(path.clone()) {
            return Err(Error::invalid(format!("'{path}' has two sources"))
                .with_hint("put one of them elsewhere"));
        }
        plan.imported.changes.push(Change { status, txn: None, path });
        Ok(())
    }

    /// Copies files and directories into the tree.
    ///
    /// # Errors
    /// Those of the sources; `Invalid` for two sources of one path, for a file where a directory is,
    /// and for bytes that are not the table they should become; `Unsupported` for a file of another
    /// type; `AlreadyExists` for a link where something else is; `ReadOnly` inside a dynamic node.
    pub async fn import(&mut self, mut import: Import) -> Result<Imported> {
        let Imported { skipped, .. } = self.plan_import(&import).await?;
        let savepoint = self.savepoint();
        let before = self.changes().len();
        let sources = std::mem::take(&mut import.sources);
        let mut importer = Importer { edit: self, import };
        for (source, to) in sources {
            if let Err(error) = importer.source(source, &to).await {
                self.roll_back_to(savepoint);
                return Err(error);
            }
        }
        Ok(Imported { changes: self.changes()[before..].to_vec(), skipped })
    }

    /// Whether there is a directory at `to`, perhaps behind links.
    ///
    /// # Errors
    /// `Invalid` if there is something else.
    async fn is_directory(&self, to: &PondPath) -> Result<bool> {
        match lookup(&self.tree().root(self.snapshot()), to).await? {
            Some(Node::Directory(_)) => Ok(true),
            Some(_) => Err(Error::invalid(format!("'{to}' is not a directory"))
                .with_hint("choose another name, or remove it first")),
            None => Ok(false),
        }
    }

    /// Returns what making the link `to` does; `None` if it is there already.
    fn link_status(&self, to: &PondPath, target: &str) -> Result<Option<&'static str>> {
        match self.transaction.view().locate(to)? {
            Located::Found(entry) if entry.entry_type == EntryType::Symlink => {
                Ok((symlink_target(&entry)? != target).then_some("replaced"))
            }
            Located::Found(entry) => Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("'{to}' already exists: it is a {}", entry.entry_type),
            )
            .with_hint("a link does not replace it; remove it first")),
            _ => Ok(Some("created")),
        }
    }
}

type ByteStream = BoxStream<'static, Result<Bytes>>;

/// Copies, one thing after the other.
struct Importer<'e> {
    edit: &'e mut Edit,
    import: Import,
}

impl Importer<'_> {
    async fn source(&mut self, source: ImportSource, to: &PondPath) -> Result<()> {
        if let ImportSource::Stream { name, bytes } = source {
            return self.stream(to, &name, bytes).await;
        }
        let mut items = Items::open(&source, to, self.edit.tree().policy()).await?;
        while let Some(item) = items.next().await? {
            self.item(item).await?;
        }
        Ok(())
    }

    async fn item(&mut self, item: Item) -> Result<()> {
        match item {
            Item::Directory(to) => {
                if !self.edit.is_directory(&to).await? {
                    self.edit.transaction.mkdir(&to)?;
                    self.edit.done("created", to);
                }
            }
            Item::Link { to, target } => match self.edit.link_status(&to, &target)? {
                Some("replaced") => {
                    self.edit.transaction.update(&to, NodeContent::symlink(&target))?;
                    self.edit.done("replaced", to);
                }
                Some(_) => drop(self.edit.symlink(&to, &target).await?),
                None => {}
            },
            Item::File { file: Some(found), to, source } => {
                // `None`: it has gone since it was listed.
                if let Some(file) = found.open().await? {
                    self.file(&to, &source, found.entry_type, &*file).await?;
                }
            }
            Item::File { file: None, .. } | Item::Skipped(_) => {}
        }
        Ok(())
    }

    /// Copies a file, called `source` in errors.
    async fn file(
        &mut self,
        to: &PondPath,
        source: &PondPath,
        own_type: Option<EntryType>,
        file: &dyn File,
    ) -> Result<()> {
        let kind = self.type_at(to, own_type).await?;
        if kind == EntryType::FileData
            && let Some(host_file) = file.host_file().await?
            && host_file.1 > INLINE_BYTES_MAX as u64
        {
            let progress = self.import.progress.clone();
            let copied = move |bytes| progress.add_bytes(bytes);
            let written =
                self.edit.write_host_file(to, WriteMode::Replace, host_file, copied).await;
            return written.map(drop).map_err(|error| error.context(format!("'{source}'")));
        }
        let Some(bytes) = file.bytes().await? else {
            if kind == EntryType::FileData {
                return self
                    .data(to, format::read(file, self.import.engine.session()?).await?)
                    .await;
            }
            let table = file.table(self.import.engine.session()?).await?;
            return self.table(to, kind, table).await;
        };
        if kind == EntryType::FileData {
            return self.data(to, bytes).await;
        }
        let named = TableFormat::of_name(source.name());
        let (format, bytes) = match self.import.source_format.clone().or(named.clone()) {
            Some(format) => (format, bytes),
            None => {
                let (head, bytes) = peek(bytes).await?;
                (format_of_head(&head).ok_or_else(|| no_table(source.as_str()))?, bytes)
            }
        };
        if format == TableFormat::Parquet {
            return self.parquet(to, kind, bytes).await;
        }
        if named.as_ref() != Some(&format) {
            return self.spooled(to, kind, source.clone(), format, bytes).await;
        }
        let session = self.import.engine.session()?;
        for source in file.table_sources(session).await?.unwrap_or_default() {
            format::look_through(session, &source).await?;
        }
        let table = file.table(session).await?;
        self.table(to, kind, table).await?;
        let size = file.metadata().await?.size.unwrap_or(0);
        self.import.progress.add_bytes(u64::try_from(size).unwrap_or(0));
        Ok(())
    }

    async fn stream(&mut self, to: &PondPath, name: &str, bytes: ByteStream) -> Result<()> {
        let kind = self.type_at(to, None).await?;
        if kind == EntryType::FileData {
            return self.data(to, bytes).await;
        }
        let (head, bytes) = peek(bytes).await?;
        let told = || format_of_head(&head).or_else(|| format_of_text(&head));
        let format = self.import.source_format.clone().or_else(told);
        match format.ok_or_else(|| no_table(name))? {
            TableFormat::Parquet => self.parquet(to, kind, bytes).await,
            format => self.spooled(to, kind, to.clone(), format, bytes).await,
        }
    }

    /// Returns what becomes of a file at `to`.
    async fn type_at(&self, to: &PondPath, own_type: Option<EntryType>) -> Result<EntryType> {
        let (path, before) = self.edit.target(to, WriteMode::Replace).await?;
        Ok(self.import.type_of(own_type, before.as_ref(), &path))
    }

    async fn data(&mut self, to: &PondPath, bytes: ByteStream) -> Result<()> {
        let bytes = counted(bytes, self.import.progress.clone());
        self.edit.write_bytes(to, WriteMode::Replace, bytes).await.map(drop)
    }

    async fn parquet(&mut self, to: &PondPath, kind: EntryType, bytes: ByteStream) -> Result<()> {
        let bytes = counted(bytes, self.import.progress.clone());
        let (mode, temporal) = (self.mode(to, kind).await?, self.import.temporal_column(kind));
        self.edit.write_parquet(to, mode, Some(kind), temporal, bytes).await.map(drop)
    }

    async fn table(
        &mut self,
        to: &PondPath,
        kind: EntryType,
        table: Arc<dyn TableProvider>,
    ) -> Result<()> {
        let rows = self.import.engine.scan(table).await?;
        let progress = self.import.progress.clone();
        let rows = RecordBatchStreamAdapter::new(
            rows.schema(),
            rows.inspect_ok(move |batch| progress.add_rows(batch.num_rows() as u64)),
        );
        let (mode, temporal) = (self.mode(to, kind).await?, self.import.temporal_column(kind));
        self.edit.write_table(to, mode, Some(kind), temporal, Box::pin(rows)).await.map(drop)
    }

    /// Returns how a file at `to` is written: a series that is there is added to.
    async fn mode(&self, to: &PondPath, kind: EntryType) -> Result<WriteMode> {
        let (_, before) = self.edit.target(to, WriteMode::Replace).await?;
        Ok(match before {
            Some(_) if kind == EntryType::FileSeries => WriteMode::Append,
            _ => WriteMode::Replace,
        })
    }

    /// Converts what comes as a stream, although the engine reads here and there: it is stored for
    /// as long as that takes.
    async fn spooled(
        &mut self,
        to: &PondPath,
        kind: EntryType,
        name: PondPath,
        format: TableFormat,
        bytes: ByteStream,
    ) -> Result<()> {
        let stored = self.edit.store_for_now(counted(bytes, self.import.progress.clone())).await?;
        let blobs = self.edit.tree().pond().blobs();
        blobs.register(self.import.engine.session()?.runtime_env());
        let source = TableSource {
            path: name,
            store_url: blobs.url(),
            object: blobs.object(&stored.sha256, stored.size),
            format,
            known: None,
            inline: stored.content,
            immutable: true,
            after: None,
            text: None,
        };
        let session = self.import.engine.session()?;
        format::look_through(session, &source).await?;
        let table = format::open_table(session, vec![source]).await?;
        self.table(to, kind, table).await
    }
}

impl Import {
    /// Returns what a file becomes at `to`, where `before` is now.
    fn type_of(
        &self,
        own: Option<EntryType>,
        before: Option<&OplogEntry>,
        to: &PondPath,
    ) -> EntryType {
        let is_rows = |kind: &EntryType| *kind != EntryType::FileData && kind.is_file();
        self.entry_type
            .or(before.map(|before| before.entry_type))
            .or(own.filter(is_rows))
            .or_else(|| EntryType::of_name(to.name()))
            .unwrap_or(EntryType::FileData)
    }

    fn temporal_column(&self, kind: EntryType) -> Option<&str> {
        self.temporal_column.as_deref().filter(|_| kind == EntryType::FileSeries)
    }
}

/// What was found out about an import.
#[derive(Default)]
struct Plan {
    imported: Imported,
    paths: HashSet<PondPath>,
    bytes: u64,
}

/// One thing to be done for a source.
enum Item {
    Directory(PondPath),
    Link {
        to: PondPath,
        target: String,
    },
    /// `source` is its name in errors; without `file`, it is a stream.
    File {
        file: Option<FoundFile>,
        to: PondPath,
        source: PondPath,
    },
    Skipped(Skipped),
}

/// What is to be done for one source, in order.
struct Items {
    first: Option<Item>,
    walk: Option<Walk>,
    source: PondPath,
    to: PondPath,
}

impl Items {
    async fn open(source: &ImportSource, to: &PondPath, policy: &Policy) -> Result<Self> {
        let to = to.clone();
        let (name, node, host) = match source {
            ImportSource::Host(path) => {
                (host_name(path)?, open_host(path, policy).await?, Some(path))
            }
            ImportSource::Node { root, path } => (path.clone(), resolve(root, path).await?, None),
            ImportSource::Stream { .. } => {
                let first = Item::File { file: None, to: to.clone(), source: to.clone() };
                return Ok(Self { first: Some(first), walk: None, source: to.clone(), to });
            }
        };
        let (first, walk) = match (node, source) {
            (Node::Directory(directory), ImportSource::Node { root, .. }) => {
                let walk = Walk::of_pond(name.clone(), root.clone(), directory).await?;
                (Item::Directory(to.clone()), Some(walk))
            }
            (Node::Directory(directory), _) => {
                let host = host.map_or(Path::new("/"), PathBuf::as_path);
                let walk = Walk::of_host(host, directory, policy.clone());
                (Item::Directory(to.clone()), Some(walk.await?))
            }
            (Node::File(file), _) => {
                let file = Some(FoundFile::alone(file).await?);
                (Item::File { file, to: to.clone(), source: name.clone() }, None)
            }
            (Node::Symlink(target), _) => {
                return Err(Error::invalid(format!("'{name}' is a link to '{target}'")));
            }
        };
        Ok(Self { first: Some(first), walk, source: name, to })
    }

    async fn next(&mut self) -> Result<Option<Item>> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let Some(found) = walk.next().await? else { return Ok(None) };
        Ok(Some(match found {
            Found::Directory(path) => Item::Directory(self.to.append(&path)),
            Found::Link { path, target } => Item::Link { to: self.to.append(&path), target },
            Found::File(file) => Item::File {
                to: self.to.append(&file.path),
                source: self.source.append(&file.path),
                file: Some(file),
            },
            Found::Skipped(skipped) => Item::Skipped(skipped),
            Found::Broken(error) => return Err(error),
        }))
    }
}

fn counted(bytes: ByteStream, progress: Arc<Progress>) -> ByteStream {
    bytes.inspect_ok(move |chunk| progress.add_bytes(chunk.len() as u64)).boxed()
}

/// Returns the first bytes of a stream, and the whole of it.
async fn peek(mut bytes: ByteStream) -> Result<(Bytes, ByteStream)> {
    let mut head = BytesMut::new();
    while head.len() < HEAD_BYTES
        && let Some(chunk) = bytes.try_next().await?
    {
        head.extend_from_slice(&chunk);
    }
    let head = head.freeze();
    let first = head.clone();
    Ok((head, stream::once(async { Ok(first) }).chain(bytes).boxed()))
}

/// Returns the format that a file begins with the mark of.
fn format_of_head(head: &[u8]) -> Option<TableFormat> {
    let begins = |mark: &[u8]| head.starts_with(mark);
    if begins(b"PAR1") {
        Some(TableFormat::Parquet)
    } else if begins(b"ARROW1") || begins(&[0xff; 4]) {
        Some(TableFormat::Arrow)
    } else {
        None
    }
}

/// Returns the format that a text looks like; CSV may look like anything.
fn format_of_text(head: &[u8]) -> Option<TableFormat> {
    let compression = FileCompressionType::UNCOMPRESSED;
    let valid = head.utf8_chunks().next()?.valid();
    // A character may be cut by the end.
    if valid.contains('\0') || valid.len() + 3 < head.len() {
        return None;
    }
    Some(match valid.trim_start().as_bytes().first()? {
        b'{' | b'[' => TableFormat::Json { compression },
        _ => TableFormat::csv(None, None),
    })
}

fn no_table(name: &str) -> Error {
    Error::invalid(format!(
        "'{name}' cannot become a table: it is neither Parquet, CSV, JSON nor Arrow"
    ))
    .with_hint("say what it is, as --source-format csv, or keep its bytes: --type data")
}
