//! Writing rows to pond paths with standard SQL: `CREATE TABLE … AS`, `INSERT`, `UPDATE`, `DELETE`,
//! `TRUNCATE`, `SELECT … INTO`, `COPY … TO`.
//!
//! The engine plans such a statement, names and types included. What it would then ask the table to
//! carry out becomes plans of the rows that the file holds afterwards (`rows.rs`), and their stream
//! goes to the tree. A statement reads the snapshot that its change is based on, so of two statements
//! that change one table at the same time, one gets `Conflict`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::datatypes::Schema;
use datafusion::error::Result as EngineResult;
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{
    DdlStatement, DmlStatement, Explain, LogicalPlan, LogicalPlanBuilder, PlanType,
    ToStringifiedPlan, WriteOp, lit,
};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::sql::parser::Statement as EngineStatement;

use super::engine_statements::check_plan;
use super::write_syntax::{Write, WriteKind};
use super::{Output, OutputKind, Planned, PondContext, Purpose, copy, physical_plan, rows};
use crate::catalog::{Answers, Binding};
use crate::entry::{EntryType, OplogEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{TableFormat, detect_temporal};
use crate::path::PondPath;
use crate::snapshot::{Located, Snapshot};
use crate::tree::{Change, Edit, WriteMode, past};

/// What is written, and what becomes of the file that is there.
#[derive(Debug)]
struct Target {
    /// Where, links followed.
    path: PondPath,
    /// The static file that is there.
    before: Option<OplogEntry>,
    /// What it is, or is to be.
    entry_type: EntryType,
    mode: WriteMode,
}

impl Write {
    /// Finds out what the statement writes to; `None` if there is nothing to do, as it exists.
    async fn target(
        &self,
        context: &PondContext,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Option<Target>> {
        let (path, located) = snapshot.follow(&self.path)?;
        let verb = self.kind.verb();
        let before = match located {
            Located::Found(entry) => entry,
            Located::Missing { .. } => {
                return self.new_target(context, snapshot, path).await.map(Some);
            }
            Located::Dynamic { .. } => {
                return Err(context.unwritable(verb, &path, snapshot).await);
            }
            Located::NotDirectory { at } => {
                return Err(Error::invalid(format!("'{path}': '{at}' is not a directory")));
            }
        };
        if let WriteKind::Create { if_not_exists, or_replace } = self.kind {
            if if_not_exists {
                return Ok(None);
            }
            if !or_replace {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("'{path}' already exists"),
                )
                .with_hint(
                    "CREATE OR REPLACE TABLE makes a new version of a table, INSERT INTO adds rows",
                ));
            }
        }
        if before.dynamic_factory().is_some() {
            return Err(context.unwritable(verb, &path, snapshot).await);
        }
        let entry_type = before.entry_type;
        let refused = |hint: String| {
            Error::unsupported(format!("'{path}' is a {entry_type}: it takes no {verb}"))
                .with_hint(hint)
        };
        let mode = match (entry_type, self.kind) {
            (EntryType::FileTable, _) => WriteMode::Replace,
            (EntryType::FileData, WriteKind::Copy) => {
                TableFormat::of_name(path.name()).ok_or_else(|| no_format(&path))?;
                WriteMode::Replace
            }
            (EntryType::FileSeries, WriteKind::Insert { overwrite: false } | WriteKind::Copy) => {
                WriteMode::Append
            }
            (EntryType::FileSeries, WriteKind::Create { .. }) => {
                return Err(refused(format!("DROP TABLE '{path}' first; its past stays readable")));
            }
            (EntryType::FileSeries, _) => {
                return Err(refused(
                    "a series only grows: INSERT INTO adds rows; to change old ones, write it anew: \
                     CREATE TABLE '/new.series' AS SELECT …"
                        .to_owned(),
                ));
            }
            (EntryType::FileData, _) => {
                return Err(refused(format!(
                    "its bytes are replaced as a whole: COPY (SELECT …) TO '{path}'"
                )));
            }
            _ => return Err(refused(format!("name a file: '{}'", path.child("a.table")))),
        };
        Ok(Some(Target { path, before: Some(before), entry_type, mode }))
    }

    /// Finds out what a new file is to be: its name tells.
    async fn new_target(
        &self,
        context: &PondContext,
        snapshot: &Arc<Snapshot>,
        path: PondPath,
    ) -> Result<Target> {
        let is_copy = self.kind == WriteKind::Copy;
        if !is_copy && !matches!(self.kind, WriteKind::Create { .. }) {
            let place = context.tree().in_time(snapshot.clone(), &path).await?;
            if place.at.is_some() {
                return Err(Error::read_only(format!(
                    "'{path}' takes no {}: the past does not change",
                    self.kind.verb()
                )));
            }
            let missing = place.not_found().await;
            let hint = missing.hint().is_none();
            return Err(
                missing.with_hint_opt(hint.then(|| format!("CREATE TABLE '{path}' AS … makes it")))
            );
        }
        if let Some((earlier, _)) = past::split(&path)
            && matches!(snapshot.locate(&earlier)?, Located::Found(_))
        {
            return Err(Error::invalid(format!("'{path}' names the past of '{earlier}'"))
                .with_hint("choose a name without @ at its end"));
        }
        let name = path.name().to_ascii_lowercase();
        let entry_type = match TableFormat::of_name(&name) {
            Some(TableFormat::Parquet) if name.ends_with(".series") => EntryType::FileSeries,
            Some(TableFormat::Parquet) if name.ends_with(".table") => EntryType::FileTable,
            Some(_) if is_copy => EntryType::FileData,
            None if is_copy => return Err(no_format(&path)),
            Some(TableFormat::Parquet) | None => EntryType::FileTable,
            Some(_) => {
                return Err(Error::invalid(format!("'{path}': a table is stored as Parquet"))
                    .with_hint(format!(
                        "name it .table or .series; or write such a file: COPY (SELECT …) TO '{path}'"
                    )));
            }
        };
        Ok(Target { path, before: None, entry_type, mode: WriteMode::Create })
    }
}

fn no_format(path: &PondPath) -> Error {
    Error::invalid(format!("'{path}': its name tells no format"))
        .with_hint("name it .table, .series, .csv, .json, .parquet or .arrow")
}

impl Target {
    /// Returns the rows to write, given the engine's plan of the statement. With `marks`, those of an UPDATE
    /// have a column more ([`rows::updated`]).
    fn rows(&self, plan: &LogicalPlan, marks: bool) -> EngineResult<Vec<Part>> {
        let written = |plan: &LogicalPlan| Part { plan: plan.clone(), is_ordered: false };
        let ordered = |plan| Part { plan, is_ordered: true };
        Ok(match plan {
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create)) => {
                vec![written(&create.input)]
            }
            LogicalPlan::Dml(dml) => match dml.op {
                WriteOp::Insert(InsertOp::Append) if self.entry_type == EntryType::FileTable => {
                    vec![ordered(all_rows(dml)?), written(&dml.input)]
                }
                WriteOp::Delete => vec![ordered(rows::kept(&dml.input)?)],
                WriteOp::Update => vec![ordered(rows::updated(&dml.input, marks)?)],
                WriteOp::Truncate => {
                    let none = LogicalPlanBuilder::from(all_rows(dml)?).filter(lit(false))?;
                    vec![ordered(none.build()?)]
                }
                _ => vec![written(&dml.input)],
            },
            query => vec![written(query)],
        })
    }
}

/// Rows of a file; those of several parts follow each other.
struct Part {
    plan: LogicalPlan,
    /// Whether they keep the order of the table that they are from.
    is_ordered: bool,
}

impl Part {
    /// Returns the session to plan it in: with one partition, where rows keep their order.
    fn session(&self, state: &SessionState) -> SessionState {
        let mut state = state.clone();
        if self.is_ordered {
            state.config_mut().options_mut().execution.target_partitions = 1;
        }
        state
    }
}

/// Returns the plan of the rows that are there.
fn all_rows(dml: &DmlStatement) -> EngineResult<LogicalPlan> {
    LogicalPlanBuilder::scan(dml.table_name.clone(), dml.target.clone(), None)?.build()
}

/// What a writing statement is planned with.
pub(super) struct Writing {
    write: Write,
    target: Target,
}

impl Writing {
    /// Plans the rows to write, given the engine's plan of the statement.
    pub(super) async fn plan(
        &self,
        plan: &LogicalPlan,
        binding: &Binding,
        state: &SessionState,
        host_files: bool,
    ) -> EngineResult<Vec<Arc<dyn ExecutionPlan>>> {
        let mut plans = Vec::new();
        for part in self.target.rows(plan, true)? {
            // Rows set nothing.
            check_plan(&part.plan, binding, state, host_files, true)?;
            let session = part.session(state);
            plans.push(match part.is_ordered {
                // The rows of a cluster's partitions come in no order.
                true => session.create_physical_plan(&part.plan).await?,
                false => physical_plan(&session, &part.plan).await?,
            });
        }
        Ok(plans)
    }

    /// Plans an `EXPLAIN` of the statement: of the rows to write, of which those come last that are
    /// new.
    pub(super) async fn explain(
        &self,
        explain: Explain,
        state: &SessionState,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let part = self.target.rows(&explain.plan, false)?.pop().expect("there is one at least");
        let state = part.session(state);
        let plan = Arc::new(part.plan);
        let stringified_plans = vec![plan.to_stringified(PlanType::InitialLogicalPlan)];
        let explain = Explain { plan, stringified_plans, ..explain };
        state.create_physical_plan(&LogicalPlan::Explain(explain)).await
    }

    /// Writes the rows of `plans`; returns how many were added, changed or taken away, if that is known.
    async fn run(
        &self,
        edit: &mut Edit,
        plans: Vec<Arc<dyn ExecutionPlan>>,
        state: &SessionState,
    ) -> Result<(Change, Option<u64>)> {
        let Target { path, before, entry_type, mode } = &self.target;
        let planned = plans[0].schema();
        let updates = self.write.kind == WriteKind::Update;
        let columns = planned.fields().len() - usize::from(updates);
        let schema = rows::file_schema(&Schema::new(planned.fields()[..columns].to_vec()))?;
        if *entry_type == EntryType::FileData {
            let (rows, _) = rows::stream(plans, &schema, &state.task_ctx())?;
            let format = TableFormat::of_name(path.name()).expect("the target was checked");
            let (rows, written) = rows::counted(rows);
            let change = edit.write_bytes(path, *mode, copy::encode(rows, &format)?).await?;
            return Ok((change, Some(written.load(Ordering::Relaxed).unsigned_abs())));
        }
        let temporal_column = self.temporal_column(&schema)?;
        let is_sorted = match (&temporal_column, plans.as_slice()) {
            (Some(column), [plan]) => rows::is_sorted(plan.as_ref(), column)?,
            _ => true,
        };
        let (mut rows, changed) = rows::stream(plans, &schema, &state.task_ctx())?;
        if let Some(column) = &temporal_column
            && !is_sorted
        {
            rows = rows::sort(rows, column, state)?;
        }
        // These take rows or add some: as many as before are the same.
        let counts =
            matches!(self.write.kind, WriteKind::Delete | WriteKind::Insert { overwrite: false });
        let rows_before = before.as_ref().filter(|_| counts).and_then(OplogEntry::num_rows);
        let (rows, written) = rows::counted(rows);
        let wanted = self.write.temporal_column.as_deref().or(temporal_column.as_deref());
        let change = edit.write_table(path, *mode, Some(*entry_type), wanted, rows).await?;
        let written = written.load(Ordering::Relaxed);
        let count = match (mode, self.write.kind) {
            (WriteMode::Replace, WriteKind::Delete | WriteKind::Insert { overwrite: false }) => {
                rows_before.map(|before| before.abs_diff(written))
            }
            (WriteMode::Replace, WriteKind::Update) => Some(changed.load(Ordering::Relaxed)),
            (WriteMode::Replace, WriteKind::Truncate) => None,
            _ => Some(written.unsigned_abs()),
        };
        let is_same = rows_before == Some(written) || updates && count == Some(0);
        if *mode == WriteMode::Replace && is_same {
            return Ok((Change { status: "unchanged", ..change }, Some(0)));
        }
        Ok((change, count))
    }

    /// Returns the column that orders the rows, if they are a series'.
    fn temporal_column(&self, schema: &Schema) -> Result<Option<String>> {
        let path = &self.target.path;
        let wanted = self.write.temporal_column.as_deref();
        if self.target.entry_type != EntryType::FileSeries {
            return match wanted {
                None => Ok(None),
                Some(_) => Err(Error::invalid(format!(
                    "'{path}' is a {}: only a series has a temporal column",
                    self.target.entry_type
                ))
                .with_hint("name it .series")),
            };
        }
        let known =
            self.target.before.as_ref().and_then(|before| before.temporal_column.as_deref());
        detect_temporal(schema, known.or(wanted))
            .map(Some)
            .map_err(|error| error.context(format!("'{path}'")))
    }
}

impl PondContext {
    /// Carries out a writing statement.
    pub(super) async fn write(
        &self,
        statement: EngineStatement,
        write: Write,
        text: String,
    ) -> Result<Output> {
        // Before anything is planned.
        self.tree().policy().check_write(format_args!("'{}'", write.path))?;
        let mut work = self.work(text).await?;
        let snapshot = work.edit().snapshot();
        let Some(target) = write.target(self, &snapshot).await? else {
            let change = Change { status: "exists", txn: None, path: write.path };
            return work.finish(vec![change]).await;
        };
        let writing = Writing { write, target };
        let answers = if work.is_step() { Answers::None } else { Answers::Make };
        let binding = self.bind_to(snapshot, Vec::new(), answers.into());
        let (state, planned) = self.planned(&binding, statement, Purpose::Write(&writing)).await?;
        let Planned::Rows(plans) = planned else {
            return Err(Error::invalid(format!("'{}': no rows to write", writing.target.path)));
        };
        let before = work.edit().savepoint();
        let (change, rows_written) = writing.run(work.edit(), plans, &state).await?;
        if !change.is_written() {
            work.edit().roll_back_to(before);
        }
        Ok(Output { rows_written, ..work.finish(vec![change]).await? })
    }

    /// Explains a writing statement: the plan of the rows that it writes.
    pub(super) async fn explain_write(
        &self,
        statement: EngineStatement,
        write: Write,
        analyze: bool,
    ) -> Result<Output> {
        let snapshot = self.snapshot().await?;
        let Some(target) = write.target(self, &snapshot).await? else {
            return Err(Error::invalid(format!("'{}' exists: nothing is planned", write.path)));
        };
        if analyze {
            return Err(Error::unsupported(format!(
                "'{}': EXPLAIN ANALYZE carries nothing out that writes",
                write.path
            ))
            .with_hint("EXPLAIN shows the plan; EXPLAIN ANALYZE of the query alone runs it"));
        }
        let answers = if self.in_transaction() { Answers::None } else { Answers::Read };
        let binding = self.bind_to(snapshot, Vec::new(), answers.into());
        let writing = Writing { write, target };
        let (state, planned) = self.planned(&binding, statement, Purpose::Write(&writing)).await?;
        match planned {
            Planned::Query(plan) => {
                Ok(Output::new(OutputKind::Rows, execute_stream(plan, state.task_ctx())?))
            }
            _ => Err(Error::invalid(format!("'{}': no rows to write", writing.target.path))),
        }
    }
}
