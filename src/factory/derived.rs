//! Derived files: what a query over other nodes shows.
//!
//! A derived file holds the query and nothing of its answer. Who can plan queries, a session with SQL,
//! carries a [`Planner`] among its extensions, and [`Derived::table`] asks that: the answer is a table
//! whose plan is put, in line, into the plan of the statement that reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use futures::stream::BoxStream;
use sha2::{Digest, Sha256};

use super::temporal_reduce::Reduction;
use super::{OpenContext, SourcePath};
use crate::cache::Ready;
use crate::entry::{EntryType, now_micros};
use crate::error::{Error, Result};
use crate::format::TableSource;
use crate::node::{DirEntry, File, Freshness};
use crate::path::PondPath;
use crate::sql::StoredQuery;

/// A file whose rows are the answer to a query.
#[derive(Debug, Clone)]
pub struct Derived {
    /// Where it is, and the tree in which its sources are found.
    pub cx: OpenContext,
    /// What makes it.
    pub recipe: Arc<Recipe>,
}

/// What a derived file is made from.
#[derive(Debug)]
pub struct Recipe {
    /// Name of the factory.
    pub factory: &'static str,
    /// `file:table` or `file:series`.
    pub entry_type: EntryType,
    /// Names that the query has for paths or globs.
    pub aliases: Vec<(String, PondPath)>,
    /// The query.
    pub query: Query,
    /// How long an answer may be served before it is made anew; `None` for one that never is.
    pub refresh: Option<Duration>,
}

/// The query of a derived file.
#[derive(Debug)]
pub enum Query {
    /// As a user wrote it.
    Stored(Arc<StoredQuery>, String),
    /// Written when the columns of its source are known.
    Reduced(Reduction),
}

impl Query {
    /// Returns its text, or what that is written from.
    pub fn text(&self) -> String {
        match self {
            Self::Stored(_, text) => text.clone(),
            Self::Reduced(reduction) => reduction.text(),
        }
    }

    /// Whether the same contents of its tables give the same answer ([`StoredQuery::is_settled`]).
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Stored(query, _) => query.is_settled(),
            Self::Reduced(_) => true,
        }
    }
}

impl Recipe {
    /// Returns the paths and globs that it reads, sorted.
    ///
    /// # Errors
    /// `Invalid` for a table of the query that is neither a path nor an alias.
    pub fn sources(&self) -> Result<Vec<SourcePath>> {
        let Query::Stored(query, _) = &self.query else {
            let sources = self.aliases.iter().map(|(_, path)| path.clone());
            return Ok(sources.map(|path| SourcePath { path, is_table: true, times: 1 }).collect());
        };
        let aliases: Vec<&str> = self.aliases.iter().map(|(alias, _)| alias.as_str()).collect();
        let mut times = BTreeMap::<(PondPath, bool), usize>::new();
        for path in query.paths(&aliases)? {
            *times.entry((path, true)).or_default() += 1;
        }
        for (alias, path) in &self.aliases {
            // One that the query leaves out is a source all the same.
            *times.entry((path.clone(), true)).or_default() += query.times_named(alias);
        }
        for path in query.listed() {
            *times.entry((path, false)).or_default() += 1;
        }
        let sources = times.into_iter().map(|((path, is_table), times)| SourcePath {
            path,
            is_table,
            times: times.max(1),
        });
        Ok(sources.collect())
    }
}

impl Derived {
    /// Returns what the answer of the file is kept under: its node, and all of its recipe. `None` while
    /// the node is being made.
    pub fn answer_key(&self) -> Option<String> {
        let (node, version) = self.cx.made?;
        let Recipe { factory, query, aliases, .. } = &*self.recipe;
        let aliases: Vec<(&str, &str)> =
            aliases.iter().map(|(alias, path)| (alias.as_str(), path.as_str())).collect();
        let all = serde_json::json!([node, version, factory, query.text(), aliases]);
        let digest = Sha256::digest(all.to_string());
        Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Returns the answer that is kept, however old.
    pub fn answer(&self) -> Option<Ready> {
        self.recipe.refresh?;
        self.cx.cache.get(&self.answer_key()?)
    }
}

/// Plans derived files.
#[async_trait]
pub trait PlanDerived: Send + Sync {
    /// Returns the table that `file` shows.
    ///
    /// # Errors
    /// What is wrong with the query, or with its sources.
    async fn plan_derived(&self, file: &Derived) -> Result<Arc<dyn TableProvider>>;
}

/// The extension of a session that can plan derived files.
pub struct Planner(pub Arc<dyn PlanDerived>);

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner").finish_non_exhaustive()
    }
}

#[async_trait]
impl File for Derived {
    async fn metadata(&self) -> Result<DirEntry> {
        Ok(DirEntry {
            name: self.cx.path.name().to_owned(),
            entry_type: Some(self.recipe.entry_type),
            factory: Some(self.recipe.factory.to_owned()),
            dynamic: true,
            ..DirEntry::default()
        })
    }

    async fn freshness(&self) -> Result<Freshness> {
        Ok(match self.recipe.refresh {
            None => Freshness::Live,
            Some(interval) => match self.answer() {
                Some(ready) if ready.answer.is_fresh(interval) => Freshness::Fresh,
                _ => Freshness::Stale,
            },
        })
    }

    fn kept(&self) -> Option<String> {
        let answer = self.answer()?.answer;
        let rows = answer.rows().ok()?;
        let seconds = (now_micros() - answer.checked_at) / 1_000_000;
        let files = match answer.files.len() {
            1 => "a file".to_owned(),
            many => format!("{many} files"),
        };
        let plural = if rows == 1 { "" } else { "s" };
        Some(format!("kept: {rows} row{plural} in {files}, as of {seconds} s ago"))
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        Ok(None)
    }

    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let Some(planner) = session.config().get_extension::<Planner>() else {
            let path = &self.cx.path;
            return Err(Error::unsupported(format!(
                "'{path}' is a query: this session plans none"
            ))
            .with_hint("read it through a session with the pond's SQL: PondContext, or register"));
        };
        planner.0.plan_derived(self).await
    }

    async fn table_sources(&self, _session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        Ok(None)
    }
}
