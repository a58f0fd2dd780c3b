//! The directory of a `csv_directory`: the files that match a pattern, under their names.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use tokio::sync::OnceCell;

use super::file::{CsvFile, Origin};
use super::{Recipe, names};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::factory::OpenContext;
use crate::glob::Glob;
use crate::node::{DirEntry, Directory, File, Freshness, ListFields, Match, Node, lookup, resolve};
use crate::node::{find_files, not_found};
use crate::path::{PondPath, is_glob};

/// How many files are looked at together.
const LOOKS: usize = 16;
/// How many files are asked for their state.
const STATES_MAX: usize = 10_000;

/// The directory.
#[derive(Debug, Clone)]
pub(super) struct CsvDirectory(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    cx: OpenContext,
    recipe: Arc<Recipe>,
    /// Its files, once they were asked for: by name, and with what a listing says of them.
    named: OnceCell<Arc<Vec<Child>>>,
    listed: OnceCell<Arc<Vec<Child>>>,
}

/// A file of the directory.
#[derive(Debug)]
struct Child {
    /// What a listing says of it.
    entry: DirEntry,
    found: Match,
}

impl CsvDirectory {
    pub(super) fn new(cx: OpenContext, recipe: Arc<Recipe>) -> Self {
        let (named, listed) = (OnceCell::new(), OnceCell::new());
        Self(Arc::new(Opened { cx, recipe, named, listed }))
    }
}

impl Opened {
    /// Returns the files, sorted by name.
    async fn children(&self, fields: ListFields) -> Result<Arc<Vec<Child>>> {
        let find = || async { self.find(fields).await.map(Arc::new) };
        let found = match (self.listed.get(), fields.metadata) {
            (Some(listed), _) => listed,
            (None, true) => self.listed.get_or_try_init(find).await?,
            (None, false) => self.named.get_or_try_init(find).await?,
        };
        Ok(found.clone())
    }

    async fn find(&self, fields: ListFields) -> Result<Vec<Child>> {
        let (root, pattern) = (&self.cx.root, &self.recipe.source);
        let (base, found) = find(root, pattern, fields).await?;
        let entries: Vec<_> = stream::iter(&found)
            .map(|found| self.entry(found, fields))
            .boxed()
            .buffered(LOOKS)
            .try_collect()
            .await?;
        let files = found.into_iter().zip(entries);
        let (found, entries): (Vec<_>, Vec<_>) =
            files.filter_map(|(found, entry)| Some((found, entry?))).unzip();
        let paths: Vec<PondPath> = found.iter().map(|found| found.path.clone()).collect();
        let ending = match self.recipe.how.target_type {
            EntryType::FileSeries => "series",
            _ => "table",
        };
        let names = names::name_all(&base, &paths);
        let mut children: Vec<Child> = names
            .into_iter()
            .zip(entries)
            .zip(found)
            .map(|((name, entry), found)| {
                let entry = DirEntry { name: format!("{name}.{ending}"), ..entry };
                Child { entry, found }
            })
            .collect();
        children.sort_by(|left, right| left.entry.name.cmp(&right.entry.name));
        Ok(children)
    }

    /// Says what a listing does of a file, but for its name; `None` for what is no file.
    async fn entry(&self, found: &Match, fields: ListFields) -> Result<Option<DirEntry>> {
        let mut entry = DirEntry {
            entry_type: Some(self.recipe.how.target_type),
            factory: Some(self.recipe.factory.to_owned()),
            dynamic: true,
            mtime: found.entry.mtime,
            error: found.entry.error.clone(),
            ..DirEntry::default()
        };
        let mut entry_type = found.entry.entry_type;
        if entry_type == Some(EntryType::Symlink) {
            match found.open(&self.cx.root).await {
                Ok(Some(Node::File(file))) if fields.metadata => match file.metadata().await {
                    Ok(target) => {
                        entry.mtime = target.mtime;
                        entry.error = target.error;
                        entry_type = target.entry_type;
                    }
                    Err(error) => entry.error = Some(error.message().to_owned()),
                },
                Ok(Some(Node::File(_))) => {}
                Ok(Some(_)) => return Ok(None),
                Ok(None) => {
                    let error = not_found(&self.cx.root, &found.path).await;
                    entry.error = Some(error.message().to_owned());
                }
                Err(error) => entry.error = Some(error.message().to_owned()),
            }
        }
        if let Some(kind @ (EntryType::FileTable | EntryType::FileSeries)) = entry_type {
            entry.error.get_or_insert_with(|| no_text(&found.path, kind).message().to_owned());
        }
        Ok(Some(entry))
    }

    fn file(&self, child: &Child) -> CsvFile {
        let path = self.cx.path.child(&child.entry.name);
        CsvFile {
            cx: OpenContext { path, ..self.cx.clone() },
            recipe: self.recipe.clone(),
            origin: Origin::Found(child.found.clone()),
        }
    }
}

/// Says why a table is not read as CSV.
pub(super) fn no_text(path: &PondPath, kind: EntryType) -> Error {
    Error::unsupported(format!("'{path}' is a {kind}, not CSV text"))
        .with_hint(format!("it is read by its own name: SELECT * FROM '{path}'"))
}

/// Opens the directory below which a pattern matches.
pub(super) async fn base(
    root: &Arc<dyn Directory>,
    pattern: &PondPath,
) -> Result<(PondPath, Arc<dyn Directory>)> {
    let base = Glob::parse(pattern.as_str())?.base();
    match resolve(root, &base).await? {
        Node::Directory(directory) => Ok((base, directory)),
        _ => Err(Error::invalid(format!("'{base}' is not a directory"))),
    }
}

/// Finds the files of a pattern, and the directory below which they are. A file that is called like
/// the pattern is the only one.
async fn find(
    root: &Arc<dyn Directory>,
    pattern: &PondPath,
    fields: ListFields,
) -> Result<(PondPath, Vec<Match>)> {
    if let (Some((above, name)), Some(Node::File(file))) =
        (pattern.split(), lookup(root, pattern).await?)
        && let Node::Directory(parent) = resolve(root, &above).await?
    {
        let entry = DirEntry { name: name.to_owned(), ..file.metadata().await? };
        return Ok((above, vec![Match { path: pattern.clone(), parent, entry }]));
    }
    if !is_glob(pattern.as_str()) {
        return Err(not_found(root, pattern).await);
    }
    let (base, directory) = base(root, pattern).await?;
    let found = find_files(&Glob::parse(pattern.as_str())?, directory, fields).await?;
    Ok((base, found))
}

#[async_trait]
impl Directory for CsvDirectory {
    fn list(&self, fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let this = self.0.clone();
        let children = async move { this.children(fields).await };
        stream::once(children)
            .map_ok(|children| {
                let places = 0..children.len();
                stream::iter(places.map(move |place| Ok(children[place].entry.clone())))
            })
            .try_flatten()
            .boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        let children = self.0.children(ListFields::NAMES).await?;
        let found = children.binary_search_by(|child| child.entry.name.as_str().cmp(name));
        Ok(found.ok().map(|place| Node::File(Arc::new(self.0.file(&children[place])))))
    }

    fn read_only(&self) -> Option<String> {
        Some(format!("{} '{}'", self.0.recipe.factory, self.0.cx.path))
    }

    async fn state(&self) -> Result<Option<String>> {
        let children = self.0.children(ListFields::NAMES).await?;
        let states: Vec<&str> = stream::iter(children.iter().take(STATES_MAX))
            .map(|child| async {
                let state = self.0.file(child).freshness().await;
                state.ok().and_then(Freshness::as_str).unwrap_or("broken")
            })
            .boxed()
            .buffered(LOOKS)
            .collect()
            .await;
        let mut counts: Vec<(&str, usize)> = Vec::new();
        for state in states {
            match counts.iter_mut().find(|(known, _)| *known == state) {
                Some((_, count)) => *count += 1,
                None => counts.push((state, 1)),
            }
        }
        counts.sort_unstable();
        let counts: Vec<String> =
            counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
        Ok(Some(match (counts.join(", "), children.len()) {
            (_, 0) => "empty".to_owned(),
            (counts, ..=STATES_MAX) => counts,
            (counts, all) => format!("{counts}, of {all}"),
        }))
    }
}
