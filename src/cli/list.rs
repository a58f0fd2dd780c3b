//! `pond ls`: what directories hold, without a query engine.
//!
//! A listing is a stream: the names of a directory are sorted once they are all there (`-U` skips
//! that), the tree below is visited one directory at a time, and what cannot be read is told on
//! stderr while the rest is still listed. Links are listed, never entered.

use std::io::{IsTerminal, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;
use datafusion::arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use pond::entry::EntryType;
use pond::glob::{Glob, GlobState};
use pond::node::{
    DirEntry, Directory, ListFields, Node, listing_batch, listing_schema, lookup, not_found,
    resolve,
};
use pond::output::{self, escape_controls};
use pond::path::{PondPath, is_glob};
use pond::{Error, Result};

use super::results::Results;
use super::{Outcome, Shell, Stdout, completions, pond_path, report, serve};

/// Most rows in a batch, where the listing is written as rows.
const BATCH_ROWS: usize = 1024;

/// List what directories hold
///
/// With --format, the columns are those of the table function ls(). A path may name the past:
/// /sensors@v12.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  pond ls -lR /sensors")]
pub struct Ls {
    /// A path or a glob (`*`, `?`, `[a-z]`, `{a,b}`, `**`); the root by default
    #[arg(value_name = "PATH|GLOB", add = completions::paths())]
    path: Option<String>,

    #[command(flatten)]
    how: How,
}

/// How a listing is made.
#[derive(Debug, Args, Default)]
pub struct How {
    /// One line a node: type, permissions, size in bytes, time (UTC), name
    #[arg(short)]
    pub long: bool,

    /// Also names that start with a dot
    #[arg(short)]
    pub all: bool,

    /// Also everything below, as whole paths
    #[arg(short = 'R')]
    pub recursive: bool,

    /// The directory itself, not what it holds
    #[arg(short)]
    pub directory: bool,

    /// In the order that comes: at once and in little memory
    #[arg(short = 'U')]
    pub unsorted: bool,
}

impl Ls {
    pub fn run(self, shell: &Shell) -> Outcome {
        let format = shell.format()?;
        let complete = serve(async {
            let path = pond_path(self.path.as_deref().unwrap_or("/"))?;
            let tree = shell.open().await?;
            let found = tree.in_time(tree.snapshot().await?, &path).await?;
            list(&found.root, &found.path, &self.how, format.is_some(), &mut shell.results()?).await
        })?;
        Ok(if complete { 0 } else { 1 })
    }
}

/// Lists what `path`, perhaps a glob, names below `root`, as rows or as lines.
///
/// Returns whether all of it could be read; what could not is told on stderr or, where the listing
/// has a place for it, there.
///
/// # Errors
/// `NotFound` if the path names nothing or the glob matches nothing.
pub async fn list(
    root: &Arc<dyn Directory>,
    path: &PondPath,
    how: &How,
    as_rows: bool,
    results: &mut Results,
) -> Result<bool> {
    let fields = if how.long || as_rows { ListFields::ALL } else { ListFields::NAMES };
    let complete = Arc::new(AtomicBool::new(true));
    let (entries, whole_paths) = open(root, path, how, fields, complete.clone()).await?;
    match as_rows {
        true => print_rows(entries, results).await?,
        false => print_lines(entries, how.long, whole_paths, results.out()).await?,
    }
    Ok(complete.load(Ordering::Relaxed))
}

/// A listed node.
struct Listed {
    entry: DirEntry,
    parent: PondPath,
}

type Entries = BoxStream<'static, Listed>;

/// Opens the listing of `path`, and says whether its lines are whole paths rather than names.
async fn open(
    root: &Arc<dyn Directory>,
    path: &PondPath,
    how: &How,
    fields: ListFields,
    complete: Arc<AtomicBool>,
) -> Result<(Entries, bool)> {
    let mut walk = Walk {
        glob: None,
        recursive: how.recursive,
        hidden: how.all,
        unsorted: how.unsorted,
        fields,
        levels: Vec::new(),
        complete,
    };
    // A file may be called like a glob.
    if is_glob(path.as_str()) && !lookup(root, path).await.is_ok_and(|node| node.is_some()) {
        let glob = Glob::parse(path.as_str())?;
        let base = glob.base();
        let state = glob.state(base.as_str());
        walk.glob = Some(glob);
        let Node::Directory(directory) = resolve(root, &base).await? else {
            return Err(Error::not_found(format!("'{path}' matches nothing"))
                .with_hint(format!("'{base}' is not a directory")));
        };
        walk.enter(directory, base, state).await;
        let mut entries = walk.into_stream().peekable();
        if Pin::new(&mut entries).peek().await.is_none() {
            return Err(Error::not_found(format!("'{path}' matches nothing")));
        }
        return Ok((entries.boxed(), true));
    }
    if !how.directory
        && let Ok(Some(Node::Directory(directory))) = lookup(root, path).await
    {
        walk.enter(directory, path.clone(), GlobState::default()).await;
        return Ok((walk.into_stream(), how.recursive));
    }
    let listed = list_one(root, path, fields).await?;
    walk.complete.store(listed.entry.error.is_none(), Ordering::Relaxed);
    Ok((stream::iter([listed]).boxed(), true))
}

/// Returns the entry of `path` itself.
async fn list_one(
    root: &Arc<dyn Directory>,
    path: &PondPath,
    fields: ListFields,
) -> Result<Listed> {
    let Some((parent, name)) = path.split() else {
        let entry = DirEntry { entry_type: Some(EntryType::Directory), ..DirEntry::default() };
        return Ok(Listed { entry, parent: PondPath::root() });
    };
    let opened = lookup(root, path).await;
    if let Ok(Some(Node::File(file))) = &opened {
        let entry = DirEntry { name: name.to_owned(), ..file.metadata().await? };
        return Ok(Listed { entry, parent });
    }
    // A directory, or what is listed but cannot be opened: the parent knows it.
    if let Ok(Some(Node::Directory(directory))) = lookup(root, &parent).await {
        let mut entries = directory.list(fields);
        while let Some(entry) = entries.next().await {
            let mut entry = entry?;
            if entry.name == name {
                if let Err(error) = opened {
                    entry.error.get_or_insert(error.to_string());
                }
                return Ok(Listed { entry, parent });
            }
        }
    }
    match opened {
        Err(error) => Err(error),
        Ok(_) => Err(not_found(root, path).await),
    }
}

/// A visit of a directory and, perhaps, of those below.
struct Walk {
    /// What entries must match; without one, all do.
    glob: Option<Glob>,
    recursive: bool,
    hidden: bool,
    unsorted: bool,
    fields: ListFields,
    /// The directories being read, each in the one before.
    levels: Vec<Level>,
    /// Cleared when something cannot be read.
    complete: Arc<AtomicBool>,
}

struct Level {
    directory: Arc<dyn Directory>,
    path: PondPath,
    state: GlobState,
    entries: BoxStream<'static, Result<DirEntry>>,
}

impl Walk {
    fn into_stream(self) -> Entries {
        stream::unfold(self, |mut walk| async {
            let listed = walk.next().await?;
            Some((listed, walk))
        })
        .boxed()
    }

    async fn enter(&mut self, directory: Arc<dyn Directory>, path: PondPath, state: GlobState) {
        let mut entries = directory.list(self.fields);
        if !self.unsorted {
            let mut sorted: Vec<Result<DirEntry>> = entries.collect().await;
            sorted.sort_by(|a, b| match (a, b) {
                (Ok(a), Ok(b)) => a.name.cmp(&b.name),
                (a, b) => a.is_err().cmp(&b.is_err()),
            });
            entries = stream::iter(sorted).boxed();
        }
        self.levels.push(Level { directory, path, state, entries });
    }

    async fn next(&mut self) -> Option<Listed> {
        loop {
            // Lets a cancellation through, however ready the entries are.
            tokio::task::consume_budget().await;
            let level = self.levels.last_mut()?;
            let entry = match level.entries.next().await {
                None => {
                    self.levels.pop();
                    continue;
                }
                Some(Err(error)) => {
                    self.tell(error);
                    continue;
                }
                Some(Ok(entry)) => entry,
            };
            let (matches, below) = match &self.glob {
                Some(glob) => (
                    level.state.is_match(glob, &entry.name, self.hidden),
                    level.state.enter(glob, &entry.name, self.hidden),
                ),
                None => (self.hidden || !entry.is_hidden(), GlobState::default()),
            };
            let descends = match &self.glob {
                Some(_) => !below.is_dead(),
                None => self.recursive && matches,
            };
            let parent = level.path.clone();
            if descends && entry.entry_type == Some(EntryType::Directory) {
                let directory = level.directory.clone();
                match directory.get(&entry.name).await {
                    Ok(Some(Node::Directory(child))) => {
                        self.enter(child, parent.child(&entry.name), below).await;
                    }
                    // It was removed or replaced meanwhile, or is a broken node, which says so.
                    Ok(_) => {}
                    Err(error) if entry.error.is_none() => self.tell(error),
                    Err(_) => {}
                }
            }
            if matches {
                if entry.error.is_some() {
                    self.complete.store(false, Ordering::Relaxed);
                }
                return Some(Listed { entry, parent });
            }
        }
    }

    fn tell(&self, error: Error) {
        self.complete.store(false, Ordering::Relaxed);
        report(&error);
    }
}

async fn print_rows(entries: Entries, results: &mut Results) -> Result<()> {
    let schema = listing_schema();
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let batches = entries.ready_chunks(BATCH_ROWS).map(move |chunk| {
        let rows: Vec<(DirEntry, String, u32)> = chunk.into_iter().map(to_row).collect();
        listing_batch(&rows, &columns).map_err(DataFusionError::from)
    });
    let rows = RecordBatchStreamAdapter::new(schema, batches);
    results.write_rows(Box::pin(rows)).await?;
    Ok(())
}

/// Returns the entry with its parent and its depth: 1 for what the root holds.
fn to_row(Listed { entry, parent }: Listed) -> (DirEntry, String, u32) {
    let depth = parent.names().count() + usize::from(!entry.name.is_empty());
    (entry, parent.as_str().to_owned(), u32::try_from(depth).unwrap_or(u32::MAX))
}

async fn print_lines(
    mut entries: Entries,
    long: bool,
    whole_paths: bool,
    out: &mut Stdout,
) -> Result<()> {
    let on_terminal = std::io::stdout().is_terminal();
    while let Some(Listed { entry, parent, .. }) = entries.next().await {
        let name = match (entry.name.as_str(), whole_paths) {
            ("", _) => "/".to_owned(),
            (name, true) => parent.child(name).as_str().to_owned(),
            (name, false) => name.to_owned(),
        };
        // What moves the cursor must not reach a terminal; a pipe gets the name itself.
        let shown = if on_terminal || long { escape_controls(&name) } else { name };
        let line = if long { long_line(&entry, &shown) } else { shown };
        writeln!(out, "{line}").map_err(output::write_error)?;
        if let Some(error) = &entry.error
            && !long
        {
            let path = parent.child(&entry.name);
            report(&Error::new(pond::ErrorKind::Io, format!("'{path}': {error}")));
        }
    }
    out.flush().map_err(output::write_error)
}

/// Type, permissions, size, time and name in columns of fixed width.
fn long_line(entry: &DirEntry, name: &str) -> String {
    let unknown = || "-".to_owned();
    let entry_type = entry.entry_type.map_or("?", EntryType::as_str);
    let mode = entry.mode.map_or_else(unknown, permissions);
    let size = entry.size.map_or_else(unknown, |size| size.to_string());
    let time = entry
        .mtime
        .and_then(timestamp_us_to_datetime)
        .map_or_else(unknown, |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string());
    let mut line = format!("{entry_type:<11}  {mode:<9}  {size:>12}  {time:<20}  {name}");
    if let Some(target) = &entry.symlink_target {
        line.push_str(&format!(" -> {}", escape_controls(target)));
    }
    if let Some(factory) = &entry.factory {
        line.push_str(&format!(" [{factory}]"));
    }
    if let Some(error) = &entry.error {
        line.push_str(&format!(" (error: {})", escape_controls(error)));
    }
    line
}

/// Permission bits as `rwxr-xr-x`.
fn permissions(mode: u32) -> String {
    (0..9)
        .map(|bit| if mode & (0o400 >> bit) == 0 { '-' } else { b"rwx"[bit % 3].into() })
        .collect()
}
