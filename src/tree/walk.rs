//! A walk through a tree in order to copy it: what importing, exporting and copying out of a mount
//! share.
//!
//! Each directory is listed once, its names are visited in order, and only the directories on the
//! way down are held.
//!
//! Links are kept or followed. One that is relative and stays inside the tree that is copied is kept
//! as it is written: in the copy, it leads to the copy of what it leads to here. Any other would lead
//! somewhere else in the copy, so what it leads to takes its place. FIFOs, sockets, devices and links
//! that lead nowhere cannot be copied; they are told, and passed over.

use std::collections::{BTreeMap, btree_map};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::entry::EntryType;
use crate::error::{Error, ErrorKind, Result};
use crate::factory::hostmount::{host_name, open_host};
use crate::node::{DirEntry, Directory, File, ListFields, Node, lookup};
use crate::path::{PondPath, host_bytes};
use crate::policy::Policy;
use crate::snapshot::SYMLINKS_MAX;
use datafusion::catalog::TableProvider;
use datafusion::datasource::provider_as_source;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

/// Something that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Where it is: in the pond, or on the host.
    pub path: PondPath,
    /// Why.
    pub reason: String,
}

type MakeSession = Box<dyn Fn() -> Result<SessionState> + Send + Sync>;

/// The engine that copies read and write tables with, made when it is first needed. Rows stay in
/// their order.
#[derive(Default)]
pub struct Engine {
    session: OnceLock<SessionState>,
    make: Option<MakeSession>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine over sessions that `make` makes; the default one plans no derived files.
    pub fn new(make: impl Fn() -> Result<SessionState> + Send + Sync + 'static) -> Self {
        Self { session: OnceLock::new(), make: Some(Box::new(make)) }
    }

    /// Returns its session.
    pub(super) fn session(&self) -> Result<&SessionState> {
        if self.session.get().is_none() {
            let mut session = match &self.make {
                Some(make) => make()?,
                None => SessionStateBuilder::new_with_default_features().build(),
            };
            session.config_mut().options_mut().execution.target_partitions = 1;
            // Another thread may have been faster.
            let _ = self.session.set(session);
        }
        Ok(self.session.get().expect("set above"))
    }

    /// Reads a whole table.
    pub(super) async fn scan(
        &self,
        table: Arc<dyn TableProvider>,
    ) -> Result<SendableRecordBatchStream> {
        let session = self.session()?;
        let plan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
        let plan = session.create_physical_plan(&plan).await?;
        Ok(execute_stream(plan, session.task_ctx())?)
    }
}

/// What a walk comes by. Paths are relative to the tree: `/` is the tree itself.
#[derive(Debug)]
pub(super) enum Found {
    /// A directory; what it holds follows.
    Directory(PondPath),
    File(FoundFile),
    /// A link that is kept.
    Link {
        path: PondPath,
        target: String,
    },
    /// What cannot be copied, whoever asks.
    Skipped(Skipped),
    /// What cannot be read, although it should be.
    Broken(Error),
}

/// A file that a walk came by; it is opened when it is wanted.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub path: PondPath,
    /// Its size in bytes, if the listing told.
    pub size: Option<i64>,
    pub entry_type: Option<EntryType>,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Child(Arc<dyn Directory>, String),
    Opened(Arc<dyn File>),
}

impl FoundFile {
    /// A file that is a tree of its own.
    pub async fn alone(file: Arc<dyn File>) -> Result<Self> {
        Self::opened(PondPath::root(), file).await
    }

    async fn opened(path: PondPath, file: Arc<dyn File>) -> Result<Self> {
        let DirEntry { size, entry_type, .. } = file.metadata().await?;
        Ok(Self { path, size, entry_type, place: Place::Opened(file) })
    }

    /// Opens it; `None` if it has gone.
    pub async fn open(&self) -> Result<Option<Arc<dyn File>>> {
        match &self.place {
            Place::Opened(file) => Ok(Some(file.clone())),
            Place::Child(directory, name) => match directory.get(name).await? {
                Some(Node::File(file)) => Ok(Some(file)),
                _ => Ok(None),
            },
        }
    }
}

/// The walk.
pub(super) struct Walk {
    /// What the tree is called.
    source: PondPath,
    /// Where links of the pond are looked up; `None` on the host.
    root: Option<Arc<dyn Directory>>,
    /// The directories on the way down.
    levels: Vec<Level>,
    /// Where links of the host may lead.
    policy: Policy,
}

struct Level {
    directory: Arc<dyn Directory>,
    path: PondPath,
    /// Those still to be visited, by name.
    children: btree_map::IntoIter<String, DirEntry>,
    /// How far below the directory that its links must not leave.
    depth: usize,
    /// How many links were followed on the way down.
    followed: usize,
    /// Where it is on the host.
    host: Option<PathBuf>,
}

impl Walk {
    /// Walks the directory `source` of the pond whose root is `root`.
    pub async fn of_pond(
        source: PondPath,
        root: Arc<dyn Directory>,
        directory: Arc<dyn Directory>,
    ) -> Result<Self> {
        let policy = Policy::default();
        let mut walk = Self { source, root: Some(root), levels: Vec::new(), policy };
        walk.enter(directory, PondPath::root(), 0, 0, None).await?;
        Ok(walk)
    }

    /// Walks a directory of the host.
    pub async fn of_host(
        host: &Path,
        directory: Arc<dyn Directory>,
        policy: Policy,
    ) -> Result<Self> {
        let mut walk = Self { source: host_name(host)?, root: None, levels: Vec::new(), policy };
        walk.enter(directory, PondPath::root(), 0, 0, Some(host.to_owned())).await?;
        Ok(walk)
    }

    /// Returns the next thing found, directories before what they hold.
    ///
    /// # Errors
    /// `Invalid` for links that lead round in a circle.
    pub async fn next(&mut self) -> Result<Option<Found>> {
        loop {
            // Lets a cancellation through, however ready the entries are.
            tokio::task::consume_budget().await;
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            let Some((name, entry)) = level.children.next() else {
                self.levels.pop();
                continue;
            };
            let path = level.path.child(&name);
            let found = match &entry.symlink_target {
                Some(target) if stays_inside(target, level.depth) => {
                    Some(Found::Link { path, target: target.clone() })
                }
                Some(target) => Some(self.follow(path, &name, target).await?),
                None => {
                    self.visit(path, entry).await.unwrap_or_else(|error| Some(Found::Broken(error)))
                }
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Returns what a child is that is no link; `None` if it has gone since it was listed.
    async fn visit(&mut self, path: PondPath, entry: DirEntry) -> Result<Option<Found>> {
        let DirEntry { name, entry_type, size, error, .. } = entry;
        let level = self.levels.last().expect("the child is of the last level");
        match entry_type {
            Some(EntryType::Special) => {
                Ok(Some(self.skipped(&path, "it is a FIFO, socket or device".to_owned())))
            }
            Some(kind) if kind.is_file() && error.is_none() => {
                let place = Place::Child(level.directory.clone(), name);
                Ok(Some(Found::File(FoundFile { path, size, entry_type, place })))
            }
            // What is listed with an error says the same here.
            _ => match level.directory.get(&name).await? {
                Some(node) => {
                    let host = level.host.as_deref().map(|host| host_child(host, &name));
                    let (depth, followed) = (level.depth + 1, level.followed);
                    self.opened(path, node, depth, followed, host).await.map(Some)
                }
                None => Ok(None),
            },
        }
    }

    /// Returns what a link leads to, in its place.
    async fn follow(&mut self, path: PondPath, name: &str, target: &str) -> Result<Found> {
        let level = self.levels.last().expect("the link is in the last level");
        let followed = level.followed + 1;
        let loops = || {
            let path = self.at(&path);
            Error::invalid(format!("'{path}' is a loop of symbolic links, to '{target}'"))
                .with_hint("it leads to a directory that it is in; take the link away first")
        };
        if followed > SYMLINKS_MAX {
            return Err(loops());
        }
        let host = level.host.as_deref().map(|host| host_child(host, name));
        let node = match &host {
            Some(host) => match open_host(host, &self.policy).await {
                Err(error) if is_loop(&error) => return Err(loops()),
                node => node,
            },
            None => match self.follow_in_pond(&level.directory, name).await {
                Err(error) if error.kind() == ErrorKind::Invalid => return Err(loops()),
                node => node,
            },
        };
        let is_of_pond = host.is_none();
        let found = match node {
            Ok(node) => self.opened(path, node, 0, followed, host).await,
            Err(error) => match error.kind() {
                // It leads out of a mount.
                ErrorKind::PermissionDenied if is_of_pond => {
                    Ok(self.skipped(&path, error.to_string()))
                }
                ErrorKind::NotFound => {
                    let reason = format!("it is a link to '{target}', which does not exist");
                    Ok(self.skipped(&path, reason))
                }
                ErrorKind::Unsupported => {
                    let reason = format!("it is a link to '{target}', which is special");
                    Ok(self.skipped(&path, reason))
                }
                _ => Err(error),
            },
        };
        Ok(found.unwrap_or_else(Found::Broken))
    }

    async fn follow_in_pond(&self, directory: &Arc<dyn Directory>, name: &str) -> Result<Node> {
        let node = match (directory.get(name).await?, &self.root) {
            (Some(Node::Symlink(target)), Some(root)) => lookup(root, &target).await?,
            (node, _) => node,
        };
        node.ok_or_else(|| Error::not_found(format!("'{name}' leads nowhere")))
    }

    async fn opened(
        &mut self,
        path: PondPath,
        node: Node,
        depth: usize,
        followed: usize,
        host: Option<PathBuf>,
    ) -> Result<Found> {
        match node {
            Node::Directory(directory) => {
                self.enter(directory, path.clone(), depth, followed, host).await?;
                Ok(Found::Directory(path))
            }
            Node::File(file) => Ok(Found::File(FoundFile::opened(path, file).await?)),
            Node::Symlink(target) => Err(Error::invalid(format!("'{path}' links to '{target}'"))),
        }
    }

    async fn enter(
        &mut self,
        directory: Arc<dyn Directory>,
        path: PondPath,
        depth: usize,
        followed: usize,
        host: Option<PathBuf>,
    ) -> Result<()> {
        let mut children = BTreeMap::new();
        let mut entries = directory.list(ListFields::ALL);
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            children.insert(entry.name.clone(), entry);
        }
        let children = children.into_iter();
        self.levels.push(Level { directory, path, children, depth, followed, host });
        Ok(())
    }

    fn skipped(&self, path: &PondPath, reason: String) -> Found {
        Found::Skipped(Skipped { path: self.at(path), reason })
    }

    fn at(&self, path: &PondPath) -> PondPath {
        self.source.append(path)
    }
}

/// Whether a link in a directory `depth` names below the tree's own leads to something in the tree.
fn stays_inside(target: &str, depth: usize) -> bool {
    let mut depth = depth;
    for name in target.split('/') {
        match name {
            "" | "." => {}
            ".." if depth == 0 => return false,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    !target.starts_with('/')
}

fn is_loop(error: &Error) -> bool {
    use std::error::Error as _;
    let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    source.and_then(rustix::io::Errno::from_io_error) == Some(rustix::io::Errno::LOOP)
}

fn host_child(directory: &Path, name: &str) -> PathBuf {
    directory.join(OsStr::from_bytes(&host_bytes(name)))
}
