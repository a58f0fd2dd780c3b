//! pond inside another application, in both ways.
//!
//! ```console
//! $ cargo run --example embed
//! ```
//!
//! An application that has a session of its own gives it the pond with one call, [`pond::register`]:
//! its `ctx.sql()` then reads pond paths and makes nodes with standard SQL. [`PondContext`] is a
//! session with the whole language. Both share one [`Tree`], and a factory that the application
//! registers serves both.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::stream::{BoxStream, StreamExt};
use pond::entry::EntryType;
use pond::factory::{Config, Factory, OpenContext, OptionKind, OptionSpec};
use pond::format::TableSource;
use pond::node::{DirEntry, File, Node};
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{PondContext, Result};

#[tokio::main]
async fn main() -> Result<()> {
    // A pond in memory; `Pond::open(dir, …)` opens one on disk.
    let tree = Tree::new(Pond::transient().await?);
    tree.factories().register(Arc::new(Environment))?;

    // 1. A session of the application's own.
    let session = SessionContext::new();
    pond::register(&session, tree.clone()).await?;
    session.sql("CREATE EXTERNAL TABLE '/env' STORED AS ENVIRONMENT LOCATION ''").await?;
    let rows = session.sql("SELECT name FROM '/env' WHERE name = 'PATH'").await?.collect().await?;
    print(&rows)?;

    // 2. A session with the whole language, over the same pond.
    let pond = PondContext::new(tree);
    for statement in [
        "CREATE NODE '/cargo' FACTORY environment WITH (prefix = 'CARGO_PKG_') COMMENT 'ours'",
        "SELECT name, value FROM '/cargo' WHERE value <> '' ORDER BY name",
        "SHOW NODES",
        "SELECT txn, message FROM pond_log()",
    ] {
        print(&pond.sql(statement).await?.collect().await?)?;
    }

    // An error says what is wrong and, apart from that, what can be done.
    if let Err(error) = pond.sql("SELECT * FROM '/carg'").await {
        println!("{error} ({})", error.hint().unwrap_or("no hint"));
    }
    Ok(())
}

fn print(rows: &[RecordBatch]) -> Result<()> {
    println!("{}", pretty_format_batches(rows)?);
    Ok(())
}

/// A factory whose nodes are tables of the process's environment variables.
#[derive(Debug)]
struct Environment;

#[async_trait]
impl Factory for Environment {
    fn name(&self) -> &'static str {
        "environment"
    }

    fn description(&self) -> &'static str {
        "the environment variables of this process"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[OptionSpec {
            name: "prefix",
            kind: OptionKind::Text,
            required: false,
            default: Some(""),
            doc: "what the names of the variables begin with",
        }]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::FileTable
    }

    async fn open(&self, config: &Config, cx: &OpenContext) -> Result<Node> {
        #[derive(serde::Deserialize)]
        struct Options {
            #[serde(default)]
            prefix: String,
        }
        let options: Options = config.parse()?;
        let variables = std::env::vars().filter(|(name, _)| name.starts_with(&options.prefix));
        Ok(Node::File(Arc::new(Variables {
            name: cx.path.name().to_owned(),
            variables: variables.collect(),
        })))
    }
}

#[derive(Debug)]
struct Variables {
    name: String,
    variables: BTreeMap<String, String>,
}

#[async_trait]
impl File for Variables {
    async fn metadata(&self) -> Result<DirEntry> {
        Ok(DirEntry {
            name: self.name.clone(),
            entry_type: Some(EntryType::FileTable),
            dynamic: true,
            ..DirEntry::default()
        })
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        let lines = self.variables.iter().map(|(name, value)| format!("{name}={value}\n"));
        let bytes = Bytes::from(lines.collect::<String>());
        Ok(Some(futures::stream::once(async { Ok(bytes) }).boxed()))
    }

    async fn table(&self, _session: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        use datafusion::arrow::array::{ArrayRef, StringViewArray};
        let names: StringViewArray = self.variables.keys().map(Some).collect();
        let values: StringViewArray = self.variables.values().map(Some).collect();
        let batch = RecordBatch::try_from_iter([
            ("name", Arc::new(names) as ArrayRef),
            ("value", Arc::new(values) as ArrayRef),
        ])?;
        Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
    }

    async fn table_sources(&self, _session: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        Ok(None)
    }
}
