//! Lineage: what dynamic nodes read, and who reads them.
//!
//! It is found in the stored recipes of one snapshot; no node is opened, nothing is planned. A path
//! in a recipe leads to a stored node, through symlinks; into a dynamic directory, which is then what
//! is read; a glob leads to all stored files that it matches. The past of a path, `'/p@v3'`, is read
//! without being depended on: it does not change, and cannot lead in a circle.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::past;
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, Result};
use crate::factory::{Config, FactoryRegistry, SourcePath};
use crate::format::TableFormat;
use crate::glob::Glob;
use crate::path::{PondPath, is_glob};
use crate::snapshot::{Located, Snapshot};

/// Most levels of derived nodes over each other.
pub const LEVELS_MAX: usize = 64;

/// The recipes of one snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Lineage<'a> {
    pub(super) factories: &'a FactoryRegistry,
    pub(super) snapshot: &'a Snapshot,
}

/// One thing that a node reads.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path or glob, as the recipe has it.
    pub named: SourcePath,
    /// The stored nodes that it leads to, with their paths.
    pub nodes: Vec<(PondPath, OplogEntry)>,
    /// Why it cannot be read, as far as that is known without opening it.
    pub error: Option<String>,
}

impl Lineage<'_> {
    /// Returns what a stored node reads, by the recipe in its row; nothing for a static one.
    ///
    /// # Errors
    /// What is wrong with the recipe.
    pub fn sources(&self, entry: &OplogEntry) -> Result<Vec<Source>> {
        let Some(factory) = entry.dynamic_factory() else { return Ok(Vec::new()) };
        let factory = self.factories.require(factory)?;
        let config = Config::from_json(entry.content.as_deref().unwrap_or_default())?;
        factory.sources(&config)?.into_iter().map(|named| self.find(named)).collect()
    }

    /// Finds what a path or glob leads to.
    ///
    /// # Errors
    /// Those of reading the snapshot; `Invalid` for a malformed glob.
    pub(super) fn find(&self, named: SourcePath) -> Result<Source> {
        let path = &named.path;
        let (nodes, error) = match self.snapshot.follow(path) {
            Ok((at, Located::Found(entry))) => {
                let error = named.is_table.then(|| no_rows(&at, &entry)).flatten();
                (vec![(at, entry)], error)
            }
            Ok((_, Located::Dynamic { entry, at })) => (vec![(at, entry)], None),
            Ok((_, Located::NotDirectory { at })) => {
                (Vec::new(), Some(format!("'{at}' is not a directory")))
            }
            Ok((_, Located::Missing { .. })) if past::split(path).is_some() => (Vec::new(), None),
            Ok((_, Located::Missing { .. })) if is_glob(path.as_str()) => {
                let nodes = self.matches(path)?;
                let error = (nodes.is_empty() && named.is_table)
                    .then(|| format!("'{path}' matches no file"));
                (nodes, error)
            }
            Ok((_, Located::Missing { .. })) => {
                (Vec::new(), Some(format!("'{path}' does not exist")))
            }
            Err(error) => (Vec::new(), Some(error.message().to_owned())),
        };
        Ok(Source { named, nodes, error })
    }

    /// Returns the stored files with rows that match a glob, and the dynamic directories below which
    /// some may.
    fn matches(&self, pattern: &PondPath) -> Result<Vec<(PondPath, OplogEntry)>> {
        let glob = Glob::parse(pattern.as_str())?;
        let base = glob.base();
        let mut found = Vec::new();
        let (base, directory) = match self.snapshot.follow(&base)? {
            (base, Located::Found(entry)) => (base, entry),
            (_, Located::Dynamic { entry, at }) => return Ok(vec![(at, entry)]),
            _ => return Ok(found),
        };
        let mut waiting = vec![(glob.state(glob.base().as_str()), base, directory)];
        while let Some((state, path, directory)) = waiting.pop() {
            if directory.dynamic_factory().is_some() {
                found.push((path, directory));
                continue;
            }
            for child in self.snapshot.children(directory.node_id) {
                let child = child?;
                let at = path.child(&child.name);
                if child.entry_type == EntryType::Directory {
                    let below = state.enter(&glob, &child.name, false);
                    if !below.is_dead() {
                        waiting.push((below, at, child));
                    }
                } else if state.is_match(&glob, &child.name, false) {
                    if child.entry_type != EntryType::Symlink {
                        found.push((at, child));
                    } else if let Ok((at, Located::Found(entry))) = self.snapshot.follow(&at) {
                        found.push((at, entry));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the dynamic nodes that reading the node at `path` needs, each behind those that it
    /// needs itself; the node is the last. None for what is not stored, or static.
    ///
    /// # Errors
    /// `Invalid` for a cycle, which is printed, and for more than [`LEVELS_MAX`] levels.
    pub fn order(&self, path: &PondPath) -> Result<Vec<PondPath>> {
        let (path, entry) = match self.snapshot.follow(path) {
            Ok((path, Located::Found(entry))) => (path, entry),
            Ok((_, Located::Dynamic { entry, at })) => (at, entry),
            // A loop of links leads to no node, either.
            _ => return Ok(Vec::new()),
        };
        let mut walk = Walk { lineage: self, levels: HashMap::new(), order: Vec::new() };
        walk.visit(path, entry)?;
        Ok(walk.order)
    }

    /// Checks that nothing at or below `path`, or what it is a link to, needs itself. A link within a
    /// directory that got its path is left to whoever reads through it.
    ///
    /// # Errors
    /// As [`Lineage::order`].
    pub fn check(&self, path: &PondPath) -> Result<()> {
        let (at, entry) = match self.snapshot.follow(path) {
            Ok((at, Located::Found(entry))) => (at, entry),
            // It may lead into a dynamic directory, or nowhere.
            _ => return self.order(path).map(drop),
        };
        if entry.dynamic_factory().is_some() || entry.entry_type != EntryType::Directory {
            return self.order(&at).map(drop);
        }
        let directory = self.snapshot.path_of(entry.node_id)?.unwrap_or(at);
        let nodes = self.snapshot.dynamic_nodes()?;
        let (below, others): (Vec<_>, Vec<_>) =
            nodes.into_iter().partition(|(node, _)| node.starts_with(&directory));
        // Paths through it may lead elsewhere than before, whoever they are of.
        for (node, _) in below.into_iter().chain(others) {
            self.order(&node)?;
        }
        Ok(())
    }

    /// Returns the dynamic nodes that read any of the nodes at or below `paths`, or another node that
    /// does, by path, with what they read of them. What globs match is not minded.
    ///
    /// # Errors
    /// Those of reading the snapshot.
    pub fn dependents(&self, paths: &[PondPath]) -> Result<Vec<(PondPath, PondPath)>> {
        let nodes = self.snapshot.dynamic_nodes()?;
        let mut readers = Vec::with_capacity(nodes.len());
        for (path, entry) in nodes {
            // A recipe that cannot be read depends on nothing.
            let sources = self.sources(&entry).unwrap_or_default();
            readers.push((path, sources));
        }
        let mut gone: Vec<PondPath> = paths.to_vec();
        let mut dependents = BTreeSet::new();
        let mut seen: HashSet<PondPath> = HashSet::new();
        loop {
            let before = dependents.len();
            for (reader, sources) in &readers {
                if seen.contains(reader) || paths.iter().any(|path| reader.starts_with(path)) {
                    continue;
                }
                let lost = sources.iter().find(|source| {
                    let literal = !is_glob(source.named.path.as_str());
                    gone.iter().any(|gone| {
                        let base = match literal {
                            true => source.named.path.clone(),
                            false => Glob::parse(source.named.path.as_str())
                                .map_or_else(|_| source.named.path.clone(), |glob| glob.base()),
                        };
                        let through = |(path, _): &(PondPath, OplogEntry)| path.starts_with(gone);
                        base.starts_with(gone) || (literal && source.nodes.iter().any(through))
                    })
                });
                if let Some(lost) = lost {
                    seen.insert(reader.clone());
                    dependents.insert((reader.clone(), lost.named.path.clone()));
                }
            }
            if dependents.len() == before {
                return Ok(dependents.into_iter().collect());
            }
            gone = dependents.iter().map(|(reader, _)| reader.clone()).collect();
            gone.extend(paths.iter().cloned());
        }
    }

    /// Says why a dynamic node cannot be read, as far as that is known without opening it: its factory
    /// is unknown, its recipe is damaged, what it reads is not there, or is broken itself.
    pub fn broken(&self, entry: &OplogEntry) -> Option<String> {
        entry.dynamic_factory()?;
        self.broken_known(entry, &mut Broken::default()).or_else(|| {
            // Two transactions may each have made half of a cycle.
            let path = self.snapshot.path_of(entry.node_id).ok()??;
            self.order(&path).err().map(|error| error.message().to_owned())
        })
    }

    /// As [`Lineage::broken`], with what is known of others already.
    pub(super) fn broken_known(&self, entry: &OplogEntry, known: &mut Broken) -> Option<String> {
        self.broken_from(entry, known, 0)
    }

    fn broken_from(&self, entry: &OplogEntry, known: &mut Broken, level: usize) -> Option<String> {
        entry.dynamic_factory()?;
        if let Some(reason) = known.get(&entry.node_id) {
            return reason.clone();
        }
        if level > LEVELS_MAX {
            return None;
        }
        // Until more is known, so that a cycle has an end.
        known.insert(entry.node_id, None);
        let reason = match self.sources(entry) {
            Err(error) => Some(error.message().to_owned()),
            Ok(sources) => sources.into_iter().find_map(|source| {
                source.error.or_else(|| {
                    source.nodes.iter().find_map(|(path, entry)| {
                        let reason = self.broken_from(entry, known, level + 1)?;
                        Some(format!("'{path}' is broken: {reason}"))
                    })
                })
            }),
        };
        known.insert(entry.node_id, reason.clone());
        reason
    }
}

/// Why nodes cannot be read, where they can it is `None`.
pub(super) type Broken = HashMap<NodeId, Option<String>>;

/// Says why a stored node is no table, if its row tells.
fn no_rows(path: &PondPath, entry: &OplogEntry) -> Option<String> {
    match entry.entry_type {
        EntryType::Directory => Some(format!("'{path}' is a directory, not a table")),
        EntryType::FileData if TableFormat::of_name(&entry.name).is_none() => {
            Some(format!("'{path}' is a {}: its name tells no format with rows", entry.entry_type))
        }
        _ => None,
    }
}

/// A walk up the lineage, without recursion: chains may be long before they are refused.
struct Walk<'a, 'b> {
    lineage: &'a Lineage<'b>,
    /// The nodes that were left again, by how many levels they are derived through.
    levels: HashMap<NodeId, usize>,
    order: Vec<PondPath>,
}

/// A node on the way.
struct Step {
    path: PondPath,
    id: NodeId,
    level: usize,
    waiting: Vec<(PondPath, OplogEntry)>,
}

impl Walk<'_, '_> {
    fn visit(&mut self, path: PondPath, entry: OplogEntry) -> Result<()> {
        let mut way: Vec<Step> = Vec::new();
        let mut next = Some((path, entry));
        loop {
            if let Some((path, entry)) = next.take() {
                if entry.dynamic_factory().is_none() {
                    continue;
                }
                if let Some(level) = self.levels.get(&entry.node_id) {
                    if let Some(last) = way.last_mut() {
                        last.level = last.level.max(level + 1);
                    }
                } else if let Some(from) = way.iter().position(|step| step.id == entry.node_id) {
                    return Err(cycle(way[from..].iter().map(|step| &step.path), &path));
                } else {
                    // What is wrong with a recipe is told to whoever opens the node.
                    let sources = self.lineage.sources(&entry).unwrap_or_default();
                    let waiting = sources.into_iter().flat_map(|source| source.nodes).collect();
                    way.push(Step { path, id: entry.node_id, level: 1, waiting });
                }
            }
            let Some(last) = way.last_mut() else { return Ok(()) };
            next = last.waiting.pop();
            if next.is_some() {
                continue;
            }
            let done = way.pop().expect("it was there");
            if done.level > LEVELS_MAX {
                return Err(Error::invalid(format!(
                    "'{}' is derived through more than {LEVELS_MAX} levels of nodes",
                    done.path
                ))
                .with_hint(
                    "keep the rows of a node half-way: CREATE TABLE '/p.table' AS SELECT …",
                ));
            }
            self.levels.insert(done.id, done.level);
            if let Some(last) = way.last_mut() {
                last.level = last.level.max(done.level + 1);
            }
            self.order.push(done.path);
        }
    }
}

fn cycle<'a>(way: impl Iterator<Item = &'a PondPath>, back: &PondPath) -> Error {
    let mut names: Vec<String> = way.map(|path| format!("'{path}'")).collect();
    names.push(format!("'{back}'"));
    Error::invalid(format!("'{back}' would be derived from itself: {}", names.join(" → ")))
        .with_hint("an arrow leads from a node to what it reads; break it at one of them")
}
