//! The lineage of a node as a graph: what it is made from, and what is made from it.
//!
//! A vertex is a stored node, or what a recipe names that is not just one: a glob, or a path through a
//! link, which lead to the nodes behind them; something in a dynamic directory, which leads to the
//! directory; the past of a path; what is not there. Each vertex is there once, and so is each edge,
//! however many ways lead to it. Like all of the lineage it is found in the stored recipes: nothing is
//! opened.

use std::collections::{HashMap, HashSet, VecDeque};

use super::lineage::Broken;
use super::past::InTime;
use super::{Lineage, Source, Tree};
use crate::entry::{EntryType, OplogEntry};
use crate::error::{Error, Result, did_you_mean};
use crate::factory::SourcePath;
use crate::glob::Glob;
use crate::node::lookup;
use crate::path::{PondPath, is_glob};
use crate::snapshot::Located;

/// Which way to look from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To what it is made from.
    Upstream,
    /// To what is made from it.
    Downstream,
}

impl Direction {
    /// Returns its name, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }

    /// Parses what [`Direction::as_str`] returns, in any case.
    ///
    /// # Errors
    /// `Invalid` for any other word.
    pub fn parse(text: &str) -> Result<Self> {
        let all = [Self::Upstream, Self::Downstream];
        let found = all.into_iter().find(|way| way.as_str().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let hint = did_you_mean(text, all.map(Self::as_str))
                .unwrap_or_else(|| "upstream or downstream; without one, both".to_owned());
            Error::invalid(format!("'{text}' is no direction")).with_hint(hint)
        })
    }
}

/// What is made from what.
#[derive(Debug, Clone, Default)]
pub struct LineageGraph {
    /// The nodes, by path.
    pub vertices: Vec<Vertex>,
    /// Who reads what: upstream first, then by depth.
    pub edges: Vec<Edge>,
    /// The vertex from which it was looked for; `None` for all that is below a directory.
    pub start: Option<usize>,
}

/// Something that reads or is read.
#[derive(Debug, Clone)]
pub struct Vertex {
    /// Its path, or the glob, or the path with its time, as a recipe names it.
    pub path: PondPath,
    /// What it is, as far as that is stored.
    pub entry_type: Option<EntryType>,
    /// The factory that makes it; `None` for what is static, or no stored node.
    pub factory: Option<String>,
    /// Why it cannot be read, as far as that is known without opening it.
    pub error: Option<String>,
}

/// One vertex reads another. Both are given as indices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// Which way it was found.
    pub direction: Direction,
    /// How many edges it is away from where the search began, itself included.
    pub depth: usize,
    /// Who reads.
    pub reader: usize,
    /// What is read.
    pub source: usize,
}

impl Edge {
    /// Returns the end that is farther from where the search began.
    pub fn far(&self) -> usize {
        match self.direction {
            Direction::Upstream => self.source,
            Direction::Downstream => self.reader,
        }
    }

    /// Returns the end that is nearer to where the search began.
    pub fn near(&self) -> usize {
        match self.direction {
            Direction::Upstream => self.reader,
            Direction::Downstream => self.source,
        }
    }
}

impl Tree {
    /// Returns what the node at `place` is made from and what is made from it, or one of them. For a
    /// static directory, it is that of all nodes at and below it.
    ///
    /// # Errors
    /// `NotFound`; whatever keeps a dynamic directory from being looked into.
    pub async fn lineage_of(
        &self,
        place: &InTime,
        direction: Option<Direction>,
    ) -> Result<LineageGraph> {
        let InTime { path, snapshot, root, .. } = place;
        match snapshot.locate(path)? {
            Located::Found(_) => {}
            Located::Dynamic { .. } if lookup(root, path).await?.is_some() => {}
            _ => return Err(place.not_found().await),
        }
        let mut search = Search::new(self.lineage(snapshot));
        let start = SourcePath { path: path.clone(), is_table: false, times: 0 };
        let start = search.named(search.lineage.find(start)?)?;
        search.run(start, direction)
    }
}

/// The graph while it is found.
struct Search<'a> {
    lineage: Lineage<'a>,
    vertices: Vec<Vertex>,
    places: HashMap<PondPath, usize>,
    /// The rows of those that are stored nodes.
    rows: Vec<Option<OplogEntry>>,
    /// What each reads, once it was asked for.
    sources: Vec<Option<Vec<usize>>>,
    broken: Broken,
    edges: Vec<Edge>,
    seen: HashSet<(usize, usize)>,
}

impl<'a> Search<'a> {
    fn new(lineage: Lineage<'a>) -> Self {
        Self {
            lineage,
            vertices: Vec::new(),
            places: HashMap::new(),
            rows: Vec::new(),
            sources: Vec::new(),
            broken: Broken::default(),
            edges: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn run(mut self, start: usize, direction: Option<Direction>) -> Result<LineageGraph> {
        let directory = self.static_directory(start)?;
        if directory.is_some() || direction != Some(Direction::Upstream) {
            for (path, entry) in self.lineage.snapshot.dynamic_nodes()? {
                let node = self.node(path, entry)?;
                self.sources_of(node)?;
            }
        }
        let roots: Vec<usize> = match &directory {
            None => vec![start],
            Some(directory) => {
                let is_below = |vertex: &Vertex| vertex.path.starts_with(directory);
                let below = self.vertices.iter().enumerate();
                below.filter(|(_, vertex)| is_below(vertex)).map(|(at, _)| at).collect()
            }
        };
        if direction != Some(Direction::Downstream) {
            self.walk(Direction::Upstream, &roots, |search, at| search.sources_of(at))?;
        }
        if direction != Some(Direction::Upstream) {
            let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.vertices.len()];
            for (reader, sources) in self.sources.iter().enumerate() {
                for &source in sources.iter().flatten() {
                    readers[source].push(reader);
                }
            }
            readers[start].extend(self.globs_over(start));
            self.walk(Direction::Downstream, &roots, |_, at| Ok(readers[at].clone()))?;
        }
        Ok(self.finish(directory.is_none().then_some(start)))
    }

    /// Walks from `roots`, the nearest first.
    fn walk(
        &mut self,
        direction: Direction,
        roots: &[usize],
        mut next: impl FnMut(&mut Self, usize) -> Result<Vec<usize>>,
    ) -> Result<()> {
        let mut reached: HashSet<usize> = roots.iter().copied().collect();
        let mut waiting: VecDeque<(usize, usize)> = roots.iter().map(|&root| (root, 1)).collect();
        while let Some((near, depth)) = waiting.pop_front() {
            for far in next(self, near)? {
                let (reader, source) = match direction {
                    Direction::Upstream => (near, far),
                    Direction::Downstream => (far, near),
                };
                if self.seen.insert((reader, source)) {
                    self.edges.push(Edge { direction, depth, reader, source });
                }
                if reached.insert(far) {
                    waiting.push_back((far, depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Leaves out what no edge leads to, but for `start`, and puts the rest in order.
    fn finish(self, start: Option<usize>) -> LineageGraph {
        let ends = self.edges.iter().flat_map(|edge| [edge.reader, edge.source]);
        let used: HashSet<usize> = ends.chain(start).collect();
        let mut order: Vec<usize> = used.into_iter().collect();
        order.sort_by(|&left, &right| self.vertices[left].path.cmp(&self.vertices[right].path));
        let places: HashMap<usize, usize> =
            order.iter().enumerate().map(|(place, &at)| (at, place)).collect();
        let mut edges = self.edges;
        for edge in &mut edges {
            (edge.reader, edge.source) = (places[&edge.reader], places[&edge.source]);
        }
        edges.sort_by_key(|edge| (edge.direction, edge.depth, edge.far(), edge.near()));
        let vertices = order.into_iter().map(|at| self.vertices[at].clone()).collect();
        LineageGraph { vertices, edges, start: start.map(|start| places[&start]) }
    }

    /// Returns the path of the static directory that a vertex is, or is a link to.
    fn static_directory(&self, at: usize) -> Result<Option<PondPath>> {
        let path = &self.vertices[at].path;
        Ok(match self.lineage.snapshot.follow(path) {
            Ok((at, Located::Found(entry)))
                if entry.entry_type == EntryType::Directory
                    && entry.dynamic_factory().is_none() =>
            {
                Some(self.lineage.snapshot.path_of(entry.node_id)?.unwrap_or(at))
            }
            _ => None,
        })
    }

    /// Returns the globs over a dynamic directory that match a vertex in it.
    fn globs_over(&self, inside: usize) -> Vec<usize> {
        let Some(directories) = &self.sources[inside] else { return Vec::new() };
        let is_over = |at: usize| {
            let path = &self.vertices[at].path;
            self.rows[at].is_none()
                && is_glob(path.as_str())
                && at != inside
                && self.sources[at].iter().flatten().any(|source| directories.contains(source))
                && Glob::parse(path.as_str())
                    .is_ok_and(|glob| glob.is_match(self.vertices[inside].path.as_str()))
        };
        (0..self.vertices.len()).filter(|&at| is_over(at)).collect()
    }

    /// Returns the vertex of a stored node.
    fn node(&mut self, path: PondPath, entry: OplogEntry) -> Result<usize> {
        // One node may be reached by many paths, through linked directories.
        let path = self.lineage.snapshot.path_of(entry.node_id)?.unwrap_or(path);
        if let Some(&at) = self.places.get(&path) {
            return Ok(at);
        }
        let error = self.lineage.broken_known(&entry, &mut self.broken);
        let factory = entry.dynamic_factory().map(str::to_owned);
        let at = self.add(Vertex { path, entry_type: Some(entry.entry_type), factory, error });
        self.rows[at] = Some(entry);
        Ok(at)
    }

    /// Returns the vertex of what a recipe names.
    fn named(&mut self, source: Source) -> Result<usize> {
        let Source { named: SourcePath { path, .. }, nodes, error } = source;
        let mut behind = Vec::with_capacity(nodes.len());
        for (path, entry) in nodes {
            behind.push(self.node(path, entry)?);
        }
        let at = match (behind.as_slice(), self.places.get(&path)) {
            ([node], _) if self.vertices[*node].path == path => *node,
            (_, Some(&known)) => known,
            (_, None) => {
                let entry_type = match self.lineage.snapshot.locate(&path) {
                    Ok(Located::Found(entry)) => Some(entry.entry_type),
                    _ => None,
                };
                let at = self.add(Vertex { path, entry_type, factory: None, error: None });
                self.sources[at] = Some(behind);
                at
            }
        };
        let known = self.vertices[at].error.take();
        self.vertices[at].error = known.or(error);
        Ok(at)
    }

    fn add(&mut self, vertex: Vertex) -> usize {
        let at = self.vertices.len();
        self.places.insert(vertex.path.clone(), at);
        self.vertices.push(vertex);
        self.rows.push(None);
        self.sources.push(None);
        at
    }

    /// Returns what a vertex reads.
    fn sources_of(&mut self, at: usize) -> Result<Vec<usize>> {
        if let Some(known) = &self.sources[at] {
            return Ok(known.clone());
        }
        // What is wrong with a recipe is told as the vertex's error.
        let sources = match &self.rows[at] {
            Some(entry) => self.lineage.sources(entry).unwrap_or_default(),
            None => Vec::new(),
        };
        let sources = sources.into_iter().map(|source| self.named(source));
        let sources: Vec<usize> = sources.collect::<Result<_>>()?;
        self.sources[at] = Some(sources.clone());
        Ok(sources)
    }
}
