//! Runs the scripts in `tests/slt`, each on a pond of its own in memory, with the factory of
//! [`crate::samples`] registered.
//!
//! A record may hold several statements; the last one's rows count. Errors are shown with their hint
//! on a line of its own. `POND_SLT_UPDATE=1` writes what is seen into the scripts, to be read before
//! it is committed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use pond::PondContext;
use pond::context::OutputKind;
use pond::pond::Pond;
use pond::sql::Script;
use pond::tree::Tree;
use sqllogictest::{AsyncDB, DBOutput, DefaultColumnType, Runner};

use crate::samples::Samples;

#[test]
fn scripts() {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    assert!(!files.is_empty());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for file in files {
        runtime.block_on(run(&file));
    }
}

async fn run(file: &PathBuf) {
    let mut runner = Runner::new(|| async { Database::new().await });
    if std::env::var_os("POND_SLT_UPDATE").is_some() {
        runner
            .update_test_file(
                file,
                " ",
                sqllogictest::default_validator,
                sqllogictest::default_normalizer,
                sqllogictest::default_column_validator,
            )
            .await
            .unwrap();
    } else if let Err(error) = runner.run_file_async(file).await {
        panic!("{}: {}", file.display(), error.display(false));
    }
}

struct Database(PondContext);

impl Database {
    async fn new() -> Result<Self, Failure> {
        let tree = Tree::new(Pond::transient().await?);
        tree.factories().register(Arc::new(Samples))?;
        Ok(Self(PondContext::new(tree)))
    }
}

#[async_trait]
impl AsyncDB for Database {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let mut last = DBOutput::StatementComplete(0);
        for statement in Script::new(sql) {
            let output = self.0.execute(statement?).await?;
            let kind = output.kind;
            let schema = output.schema();
            let rows = rows(&output.collect().await?)?;
            last = match kind {
                OutputKind::Done => DBOutput::StatementComplete(0),
                _ => DBOutput::Rows {
                    types: vec![DefaultColumnType::Any; schema.fields().len()],
                    rows,
                },
            };
        }
        Ok(last)
    }

    async fn shutdown(&mut self) {}
}

fn rows(batches: &[datafusion::arrow::array::RecordBatch]) -> Result<Vec<Vec<String>>, Failure> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(pond::Error::from)?;
        for row in 0..batch.num_rows() {
            let cell = |column: &ArrayFormatter| match column.value(row).to_string() {
                text if text.is_empty() => "(empty)".to_owned(),
                text => text,
            };
            let cells: Vec<String> = columns.iter().map(cell).collect();
            // A plan's lines are rows of their own, or they would not be found again in a script.
            match cells.iter().any(|cell| cell.contains('\n')) {
                false => rows.push(cells),
                true => rows.extend(cells.join(" ").lines().map(|line| vec![line.to_owned()])),
            }
        }
    }
    Ok(rows)
}

/// An error with its hint.
#[derive(Debug)]
struct Failure(pond::Error);

impl From<pond::Error> for Failure {
    fn from(error: pond::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0.hint() {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
