//! Table functions: `ls()`, `nodes()`, `factories()`, `lineage()`, `pond_log()`, `pond_diff()`,
//! `history()`, `oplog()`, `cache()`, `sniff()`.
//!
//! Their names are of any case; their arguments are literals, positional or named (`recursive =>
//! true`): `FromPlanner` puts named ones into place, so that each function has one way to be
//! called. What a function reads is the snapshot of the statement it is called in; `ls()` learns it
//! from a [`RootSource`] when its table is scanned, so looking up a function costs nothing.

mod arguments;
mod cache;
pub(crate) mod factories;
mod history;
pub(crate) mod lineage;
pub mod ls;
pub(crate) mod nodes;
mod oplog;
mod planner;
mod pond_diff;
pub(crate) mod pond_log;
mod rejects;
mod rows;
mod sniff;

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::TableFunctionImpl;

use self::arguments::Signature;
pub use self::cache::cache_batch;
pub use self::history::history_batch;
pub use self::lineage::lineage_batch;
pub(crate) use self::planner::FromPlanner;
pub use self::pond_diff::diff_batch;
pub use self::pond_log::log_batch;
use crate::catalog::Binding;
use crate::error::{Error, Result};
use crate::glob::Glob;
use crate::node::{Directory, File, ListFields, Match, Node, find_files, lookup, resolve};
use crate::path::{PondPath, is_glob};
use crate::tree::past::InTime;

/// Gives what a statement reads.
#[async_trait]
pub trait RootSource: Debug + Send + Sync {
    /// Returns the root; the same for every call within one statement.
    async fn root(&self) -> Result<Arc<dyn Directory>>;

    /// Returns the absolute path, or glob, that `text` means.
    fn path(&self, text: &str) -> Result<PondPath> {
        PondPath::parse(text)
    }

    /// Returns where `path` is looked up, if it names the past ([`crate::tree::past`]).
    async fn past(&self, path: &PondPath) -> Result<Option<InTime>> {
        let _ = path;
        Ok(None)
    }
}

/// A root that is known already.
#[derive(Debug, Clone)]
pub struct FixedRoot(pub Arc<dyn Directory>);

#[async_trait]
impl RootSource for FixedRoot {
    async fn root(&self) -> Result<Arc<dyn Directory>> {
        Ok(self.0.clone())
    }
}

#[async_trait]
impl RootSource for Binding {
    async fn root(&self) -> Result<Arc<dyn Directory>> {
        Binding::root(self).await
    }

    fn path(&self, text: &str) -> Result<PondPath> {
        // A statement that names a path reads it.
        self.mark_used();
        Binding::path(self, text)
    }

    async fn past(&self, path: &PondPath) -> Result<Option<InTime>> {
        let place = self.in_time(path).await?;
        Ok(place.at.is_some().then_some(place))
    }
}

/// What a path that is given to a function names.
pub(crate) enum FilesAt {
    /// A file.
    One(Arc<dyn File>),
    /// What a glob matches, in the tree with this root.
    Matches { root: Arc<dyn Directory>, found: Vec<Match> },
}

/// Finds the files that a function is about; `example` calls it with those of a directory.
pub(crate) async fn files_at(binding: &Binding, path: &PondPath, example: &str) -> Result<FilesAt> {
    let place = binding.in_time(path).await?;
    match lookup(&place.root, &place.path).await? {
        Some(Node::File(file)) => return Ok(FilesAt::One(file)),
        Some(_) => {
            return Err(Error::invalid(format!("'{path}' is a directory"))
                .with_hint(format!("name its files: {example}")));
        }
        None if !is_glob(place.path.as_str()) => return Err(place.not_found().await),
        None => {}
    }
    let glob = Glob::parse(place.path.as_str())?;
    let base = glob.base();
    let Node::Directory(directory) = resolve(&place.root, &base).await? else {
        return Err(Error::invalid(format!("'{base}' is not a directory")));
    };
    let found = find_files(&glob, directory, ListFields::NAMES).await?;
    Ok(FilesAt::Matches { root: place.root, found })
}

/// Every function of ours.
static SIGNATURES: &[&Signature] = &[
    &ls::SIGNATURE,
    &nodes::SIGNATURE,
    &factories::SIGNATURE,
    &lineage::SIGNATURE,
    &pond_log::SIGNATURE,
    &pond_diff::SIGNATURE,
    &history::SIGNATURE,
    &oplog::SIGNATURE,
    &cache::SIGNATURE,
    &sniff::SIGNATURE,
    &rejects::SIGNATURE,
];

/// Returns the functions of `binding`, by name.
pub(crate) fn functions(binding: &Arc<Binding>) -> Vec<(&'static str, Arc<dyn TableFunctionImpl>)> {
    vec![
        (ls::SIGNATURE.name, Arc::new(ls::LsFunction::new(binding.clone()))),
        (nodes::SIGNATURE.name, Arc::new(nodes::Nodes(binding.clone()))),
        (factories::SIGNATURE.name, Arc::new(factories::Factories(binding.clone()))),
        (lineage::SIGNATURE.name, Arc::new(lineage::LineageRows(binding.clone()))),
        (pond_log::SIGNATURE.name, Arc::new(pond_log::PondLog(binding.clone()))),
        (pond_diff::SIGNATURE.name, Arc::new(pond_diff::PondDiff(binding.clone()))),
        (history::SIGNATURE.name, Arc::new(history::History(binding.clone()))),
        (oplog::SIGNATURE.name, Arc::new(oplog::OplogRows(binding.clone()))),
        (sniff::SIGNATURE.name, Arc::new(sniff::Sniff(binding.clone()))),
        (rejects::SIGNATURE.name, Arc::new(rejects::Rejects(binding.clone()))),
        (cache::SIGNATURE.name, Arc::new(cache::CacheRows(binding.clone()))),
    ]
}

/// Returns the names of the parameters of a function; none if there is no such function.
pub(crate) fn parameters(name: &str) -> &'static [&'static str] {
    let signature = SIGNATURES.iter().find(|signature| signature.name == name);
    signature.map_or(&[], |signature| signature.parameters)
}

/// Returns the names of the functions.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SIGNATURES.iter().map(|signature| signature.name)
}
