//! A CSV file as a table or a series.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use futures::stream::BoxStream;

use super::directory::no_text;
use super::{Recipe, serve};
use crate::entry::EntryType;
use crate::error::{Error, Result};
use crate::factory::OpenContext;
use crate::format::{CsvText, TableSource, open_table};
use crate::node::{DirEntry, File, Freshness, Match, Node, lookup, not_found};
use crate::path::PondPath;

/// A file that a factory of this module makes.
#[derive(Debug)]
pub(super) struct CsvFile {
    /// Where it is, and the tree in which its source is found.
    pub cx: OpenContext,
    /// What makes it, or the directory that it is in.
    pub recipe: Arc<Recipe>,
    /// What it shows.
    pub origin: Origin,
}

/// The CSV text of a file.
#[derive(Debug)]
pub(super) enum Origin {
    /// What a directory has found.
    Found(Match),
    /// What a recipe names.
    Named(PondPath),
}

impl CsvFile {
    /// Opens the text; its store is made known to `session`, if there is one.
    async fn source(&self, session: Option<&dyn Session>) -> Result<TableSource> {
        let root = &self.cx.root;
        let (path, found) = match &self.origin {
            Origin::Found(found) => (&found.path, found.open(root).await?),
            Origin::Named(path) => (path, lookup(root, path).await?),
        };
        let file = match found {
            Some(Node::File(file)) => file,
            Some(_) => return Err(Error::invalid(format!("'{path}' is a directory"))),
            None => return Err(not_found(root, path).await),
        };
        if let Some(source) = file.text_source(session).await? {
            return Ok(source);
        }
        Err(match file.metadata().await?.entry_type {
            Some(kind @ (EntryType::FileTable | EntryType::FileSeries)) => no_text(path, kind),
            _ => Error::unsupported(format!("'{path}' is not where CSV can be read from"))
                .with_hint("files of the pond and of host mounts are"),
        })
    }
}

#[async_trait]
impl File for CsvFile {
    async fn metadata(&self) -> Result<DirEntry> {
        let mtime = match &self.origin {
            Origin::Found(found) => found.entry.mtime,
            Origin::Named(_) => None,
        };
        Ok(DirEntry {
            name: self.cx.path.name().to_owned(),
            entry_type: Some(self.recipe.how.target_type),
            factory: Some(self.recipe.factory.to_owned()),
            dynamic: true,
            mtime,
            ..DirEntry::default()
        })
    }

    async fn freshness(&self) -> Result<Freshness> {
        let source = self.source(None).await?;
        serve::freshness(&self.cx, &source, &self.recipe.how).await
    }

    async fn properties(&self, session: &dyn Session) -> Result<Vec<(&'static str, String)>> {
        let source = self.source(Some(session)).await?;
        let mut properties = vec![
            ("source", source.path.to_string()),
            ("source size", source.object.size.to_string()),
        ];
        properties.extend(serve::properties(session, &self.cx, &source, &self.recipe.how).await?);
        Ok(properties)
    }

    async fn refresh(&self, session: &dyn Session) -> Result<()> {
        let source = self.source(Some(session)).await?;
        serve::renew(session, &self.cx, source, &self.recipe.how).await
    }

    async fn csv_text(&self, session: &dyn Session) -> Result<Option<CsvText>> {
        let source = self.recipe.how.text(self.source(Some(session)).await?)?;
        CsvText::open(session, source).map(Some)
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        Ok(None)
    }

    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        let source = self.source(Some(session)).await?;
        let files = serve::serve(session, &self.cx, source, &self.recipe.how).await?;
        open_table(session, files).await
    }

    async fn table_sources(&self, session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        let source = self.source(Some(session)).await?;
        serve::serve(session, &self.cx, source, &self.recipe.how).await.map(Some)
    }
}
