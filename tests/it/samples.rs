//! A factory of the tests: a few small files in memory, registered at run time as an application
//! would.
//!
//! ```text
//! a.csv  b.csv       station, temperature; b.csv has its columns the other way round, and one more
//! notes.txt          no table
//! torn.csv           a table that cannot be read
//! sub/c.csv          a directory below
//! ```

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::object_store::ObjectStoreUrl;
use futures::stream::{BoxStream, StreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, PutPayload};
use pond::entry::EntryType;
use pond::factory::{Config, Factory, OpenContext, OptionKind, OptionSpec};
use pond::format::{TableFormat, TableSource, open_table};
use pond::node::{DirEntry, Directory, File, ListFields, Node};
use pond::path::PondPath;
use pond::{Error, ErrorKind, Result};

const FILES: &[(&str, &str)] = &[
    ("a.csv", "station,temperature\nnorth,1.5\nsouth,20\n"),
    ("b.csv", "temperature,station,Wind\n30,east,7\n"),
    ("notes.txt", "no rows here\n"),
    ("torn.csv", "a,b\n1,2\n3,4,5,6\n"),
    ("sub/c.csv", "station,temperature\nwest,4\n"),
    (".hidden.csv", "station,temperature\nnowhere,0\n"),
];

/// The factory.
#[derive(Debug)]
pub struct Samples;

#[async_trait]
impl Factory for Samples {
    fn name(&self) -> &'static str {
        "samples"
    }

    fn description(&self) -> &'static str {
        "a few small files, for tests"
    }

    fn options(&self) -> &'static [OptionSpec] {
        const OPTIONS: &[OptionSpec] = &[
            OptionSpec {
                name: "directory",
                kind: OptionKind::HostDirectory,
                required: false,
                default: None,
                doc: "kept, not used",
            },
            OptionSpec {
                name: "copies",
                kind: OptionKind::Integer,
                required: false,
                default: Some("1"),
                doc: "kept, not used",
            },
            OptionSpec {
                name: "flavour",
                kind: OptionKind::Choice(&["plain", "spicy"]),
                required: false,
                default: Some("plain"),
                doc: "kept, not used",
            },
            OptionSpec {
                name: "label",
                kind: OptionKind::Text,
                required: false,
                default: None,
                doc: "'refused' does not open",
            },
        ];
        OPTIONS
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::Directory
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        if config.iter().any(|(name, value)| name == "label" && value == "refused") {
            return Err(Error::invalid(format!("'{}' has a bad label", cx.path)));
        }
        let store = InMemory::new();
        for (name, text) in FILES {
            let payload = PutPayload::from_static(text.as_bytes());
            let path = object_store::path::Path::from(*name);
            let put = store.put(&path, payload).await;
            put.map_err(|error| Error::new(ErrorKind::Io, *name).with_source(error))?;
        }
        Ok(Node::Directory(Arc::new(SampleDirectory {
            path: cx.path.clone(),
            below: "",
            store: Arc::new(store),
        })))
    }
}

#[derive(Debug)]
struct SampleDirectory {
    path: PondPath,
    /// What the files' names begin with: nothing, or `sub/`.
    below: &'static str,
    store: Arc<InMemory>,
}

impl SampleDirectory {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        let below = self.below;
        FILES.iter().filter_map(move |(name, _)| name.strip_prefix(below))
    }
}

#[async_trait]
impl Directory for SampleDirectory {
    fn list(&self, _fields: ListFields) -> BoxStream<'static, Result<DirEntry>> {
        let mut entries: Vec<Result<DirEntry>> =
            self.names().filter(|name| !name.contains('/')).map(|name| Ok(entry(name))).collect();
        if self.below.is_empty() {
            entries.push(Ok(DirEntry { entry_type: Some(EntryType::Directory), ..entry("sub") }));
        }
        futures::stream::iter(entries).boxed()
    }

    async fn get(&self, name: &str) -> Result<Option<Node>> {
        if self.below.is_empty() && name == "sub" {
            return Ok(Some(Node::Directory(Arc::new(SampleDirectory {
                path: self.path.child("sub"),
                below: "sub/",
                store: self.store.clone(),
            }))));
        }
        let found = self.names().find(|found| *found == name && !name.contains('/'));
        Ok(found.map(|name| {
            Node::File(Arc::new(SampleFile {
                path: self.path.child(name),
                location: format!("{}{name}", self.below),
                store: self.store.clone(),
            }))
        }))
    }

    fn read_only(&self) -> Option<String> {
        Some(format!("the samples '{}'", self.path))
    }
}

fn entry(name: &str) -> DirEntry {
    DirEntry {
        name: name.to_owned(),
        entry_type: Some(EntryType::FileData),
        dynamic: true,
        ..DirEntry::default()
    }
}

#[derive(Debug)]
struct SampleFile {
    path: PondPath,
    location: String,
    store: Arc<InMemory>,
}

#[async_trait]
impl File for SampleFile {
    async fn metadata(&self) -> Result<DirEntry> {
        let text = FILES.iter().find(|(name, _)| *name == self.location).unwrap().1;
        Ok(DirEntry { size: Some(text.len() as i64), ..entry(self.path.name()) })
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let text = FILES.iter().find(|(name, _)| *name == self.location).unwrap().1;
        Ok(Some(
            futures::stream::once(async move { Ok(Bytes::from_static(text.as_bytes())) }).boxed(),
        ))
    }

    async fn table(&self, session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        match self.table_sources(session).await? {
            Some(sources) => open_table(session, sources).await,
            None => Err(Error::unsupported(format!("'{}' has no rows", self.path))
                .with_hint("tables end in .csv here")),
        }
    }

    async fn table_sources(&self, session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        let Some(format) = TableFormat::of_name(self.path.name()) else { return Ok(None) };
        self.source(Some(session), format).await.map(|source| Some(vec![source]))
    }

    async fn text_source(&self, session: Option<&dyn Session>) -> Result<Option<TableSource>> {
        self.source(session, TableFormat::csv_of_name(self.path.name())).await.map(Some)
    }
}

impl SampleFile {
    async fn source(
        &self,
        session: Option<&dyn Session>,
        format: TableFormat,
    ) -> Result<TableSource> {
        // One store for each node, named by its path.
        let name: String = self.path.as_str().chars().filter(char::is_ascii_alphanumeric).collect();
        let url = ObjectStoreUrl::parse(format!("samples://{}/", name.to_lowercase()))?;
        if let Some(session) = session {
            session.runtime_env().register_object_store(url.as_ref(), self.store.clone());
        }
        let location = object_store::path::Path::from(self.location.as_str());
        let object = self.store.head(&location).await;
        Ok(TableSource {
            path: self.path.clone(),
            store_url: url,
            object: object
                .map_err(|error| Error::new(ErrorKind::Io, &self.location).with_source(error))?,
            format,
            known: None,
            inline: None,
            immutable: false,
            after: None,
            text: None,
        })
    }
}
