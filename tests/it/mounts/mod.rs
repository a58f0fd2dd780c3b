//! Mounted host directories and `ls()`, as their users reach them: nodes, statements, and the object
//! store behind table scans.

mod creation;
mod escape;
mod listing;
mod live;
mod names;
mod permissions;

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::UInt32Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::TryStreamExt;
use object_store::ObjectStore;
use pond::factory::Factory;
use pond::format::TableSource;
use pond::node::{Directory, File, Node, resolve};
use pond::path::PondPath;
use pond::pond::Pond;
use pond::table_fn::FixedRoot;
use pond::table_fn::ls::{LsArgs, LsTable};
use pond::tree::{Change, CreateMode, NewNode, Tree};

/// A transient pond with a host directory mounted at `/host`.
pub struct Mounted {
    pub tree: Tree,
    pub root: Arc<dyn Directory>,
    pub context: SessionContext,
}

impl Mounted {
    pub async fn new(directory: &Path) -> Self {
        let tree = Tree::new(Pond::transient().await.unwrap());
        mount(&tree, "/host", directory).await.unwrap();
        let root = tree.root(tree.snapshot().await.unwrap());
        let config = SessionConfig::new().with_target_partitions(2);
        Self { tree, root, context: SessionContext::new_with_config(config) }
    }

    pub async fn node(&self, path: &str) -> pond::Result<Node> {
        resolve(&self.root, &PondPath::parse(path)?).await
    }

    pub async fn file(&self, path: &str) -> pond::Result<Arc<dyn File>> {
        match self.node(path).await? {
            Node::File(file) => Ok(file),
            other => panic!("{path} is {other:?}"),
        }
    }

    pub async fn directory(&self, path: &str) -> pond::Result<Arc<dyn Directory>> {
        match self.node(path).await? {
            Node::Directory(directory) => Ok(directory),
            other => panic!("{path} is {other:?}"),
        }
    }

    /// Reads a file as bytes.
    pub async fn cat(&self, path: &str) -> pond::Result<Vec<u8>> {
        let bytes = self.file(path).await?.bytes().await?.expect("host files are bytes");
        let chunks: Vec<_> = bytes.try_collect().await?;
        Ok(chunks.concat())
    }

    /// Prepares a file for a table scan.
    pub async fn source(&self, path: &str) -> pond::Result<(TableSource, Arc<dyn ObjectStore>)> {
        let state = self.context.state();
        let source =
            self.file(path).await?.table_sources(&state).await?.expect("it is no view").remove(0);
        let store = state.runtime_env().object_store(&source.store_url).unwrap();
        Ok((source, store))
    }

    /// Runs `query` with `ls` standing for this call of `ls()`.
    pub async fn sql(&self, args: LsArgs, query: &str) -> pond::Result<Vec<RecordBatch>> {
        let table = LsTable::try_new(Arc::new(FixedRoot(self.root.clone())), args)?;
        let (config, runtime) = (self.context.copied_config(), self.context.runtime_env());
        let context = SessionContext::new_with_config_rt(config, runtime);
        context.register_table("ls", Arc::new(table))?;
        let batches = async { context.sql(query).await?.collect().await };
        Ok(batches.await?)
    }

    /// Returns the rows of a query as text, sorted.
    pub async fn rows(&self, args: LsArgs, query: &str) -> pond::Result<Vec<String>> {
        let mut rows = lines(&self.sql(args, query).await?);
        rows.sort();
        Ok(rows)
    }

    /// Returns the sorted paths that `ls()` lists.
    pub async fn paths(&self, args: LsArgs) -> pond::Result<Vec<String>> {
        self.rows(args, "SELECT path FROM ls").await
    }
}

pub fn ls(path: &str) -> LsArgs {
    LsArgs { path: path.to_owned(), ..LsArgs::default() }
}

pub fn ls_all(path: &str) -> LsArgs {
    LsArgs { path: path.to_owned(), recursive: true, hidden: true }
}

pub async fn mount(tree: &Tree, path: &str, directory: &Path) -> pond::Result<Change> {
    let directory = directory.to_str().unwrap().to_owned();
    let new = NewNode {
        path: PondPath::parse(path).unwrap(),
        factory: pond::factory::hostmount::Hostmount.name().to_owned(),
        options: vec![("directory".to_owned(), directory.into())],
        mode: CreateMode::New,
        comment: None,
    };
    tree.create_node(new, None).await
}

/// Returns each row as its values joined by `|`.
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let line = |batch: &RecordBatch, row: usize| {
        let values = batch.columns().iter().map(|column| match column.is_null(row) {
            true => "NULL".to_owned(),
            false => match column.as_string_view_opt() {
                Some(text) => text.value(row).to_owned(),
                None => match column.as_primitive_opt::<UInt32Type>() {
                    Some(number) => number.value(row).to_string(),
                    None => array_value_to_string(column, row).unwrap(),
                },
            },
        });
        values.collect::<Vec<_>>().join("|")
    };
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |row| line(batch, row)))
        .collect()
}

/// Returns a value of `EXPLAIN ANALYZE`, such as `stat_calls`.
pub fn metric(batches: &[RecordBatch], name: &str) -> usize {
    let plan = lines(batches).join("\n");
    let value = plan.split(&format!("{name}=")).nth(1).unwrap_or_else(|| panic!("{plan}"));
    let digits: String =
        value.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ' ' | 'K')).collect();
    match digits.trim().strip_suffix('K') {
        Some(thousands) => (thousands.trim().parse::<f64>().unwrap() * 1000.0) as usize,
        None => digits.trim().parse().unwrap_or_else(|_| panic!("{name} in {plan}")),
    }
}
