//! Statements of the engine over pond paths: which are ours to carry out, which are refused, and why.
//!
//! A name is a pond path where it is written as one: in single quotes, with a `/` in it, or below a
//! directory (`pond."/a"."b.csv"`). Other names are the session's own.

use std::path::Path;
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SessionState;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::logical_expr::{
    CreateExternalTable, DdlStatement, LogicalPlan, Statement as PlanStatement,
};
use datafusion::sql::parser::Statement as EngineStatement;
use datafusion::sql::sqlparser::ast::{
    ObjectName, ObjectType, SchemaName, ShowCreateObject, Statement as SqlStatement, TableFactor,
};
use serde_json::Value;
use url::Url;

use super::limits::check_setting;
use super::{Output, PondContext};
use crate::catalog::{Binding, CATALOG};
use crate::error::{Error, Result};
use crate::factory::{Factory, OptionKind};
use crate::node::{Node, lookup};
use crate::path::PondPath;
use crate::policy::{Access, Policy};
use crate::snapshot::Snapshot;
use crate::tree::{CreateMode, DropNodes, NewNode};

/// Formats that the engine reads from host files by itself.
const HOST_FORMATS: &[&str] = &["PARQUET", "CSV", "JSON", "NDJSON", "AVRO", "ARROW"];

/// Settings that name directories of the host.
const HOST_SETTINGS: &[&str] =
    &["datafusion.runtime.temp_directory", "datafusion.catalog.location"];

const MOUNT_IT: &str =
    "mount its directory: CREATE NODE '/host' FACTORY hostmount WITH (directory = …)";

impl PondContext {
    /// Carries out a statement of standard SQL that means one of ours, or refuses one that the engine
    /// would not carry out on a pond path. `None` leaves it to the engine.
    pub(super) async fn intercept(
        &self,
        statement: &EngineStatement,
        text: &str,
    ) -> Result<Option<Output>> {
        let statement = match statement {
            EngineStatement::Statement(statement) => statement.as_ref(),
            EngineStatement::Explain(explain) => {
                if let EngineStatement::Statement(statement) = explain.statement.as_ref() {
                    self.refuse(statement).await?;
                }
                return Ok(None);
            }
            _ => return Ok(None),
        };
        if let Some(output) = self.transact(statement).await? {
            return Ok(Some(output));
        }
        match statement {
            SqlStatement::CreateSchema {
                schema_name: SchemaName::Simple(name),
                if_not_exists,
                with: None,
                options: None,
                ..
            } if pond_path(name).is_some() => {
                let path = self.path(&pond_path(name).expect("just seen"))?;
                let mut work = self.work(text.to_owned()).await?;
                let change = work.edit().mkdir(&path, *if_not_exists).await?;
                work.finish(vec![change]).await.map(Some)
            }
            SqlStatement::Drop {
                object_type: kind @ (ObjectType::Table | ObjectType::View | ObjectType::Schema),
                if_exists,
                names,
                cascade,
                ..
            } if names.iter().any(|name| pond_path(name).is_some()) => {
                let paths = names
                    .iter()
                    .map(|name| match pond_path(name) {
                        Some(path) => self.path(&path),
                        None => Err(Error::invalid(format!(
                            "{name} is no pond path: drop it in a statement of its own"
                        ))),
                    })
                    .collect::<Result<Vec<_>>>()?;
                self.check_droppable(&paths, kind).await?;
                // CASCADE takes a schema's tables with it, as RECURSIVE does a directory's children.
                let recursive = *cascade && *kind == ObjectType::Schema;
                let drop = DropNodes { if_exists: *if_exists, recursive, cascade: *cascade };
                let mut work = self.work(text.to_owned()).await?;
                let changes = work.edit().drop_nodes(&paths, drop).await?;
                work.finish(changes).await.map(Some)
            }
            SqlStatement::ShowColumns { show_options, .. } => {
                let name = show_options
                    .show_in
                    .as_ref()
                    .and_then(|within| within.parent_name.as_ref().and_then(pond_path));
                match name {
                    Some(path) => Ok(Some(self.describe_table(&self.path(&path)?).await?)),
                    None => Ok(None),
                }
            }
            SqlStatement::ShowCreate {
                obj_type: ShowCreateObject::Table | ShowCreateObject::View,
                obj_name,
            } => match pond_path(obj_name) {
                Some(path) => Ok(Some(self.show_create(&self.path(&path)?).await?)),
                None => Ok(None),
            },
            other => self.refuse(other).await.map(|()| None),
        }
    }

    /// `DROP TABLE` of a directory, or `DROP SCHEMA` of a file, is a mistake. What is not there is
    /// left to the tree.
    async fn check_droppable(&self, paths: &[PondPath], kind: &ObjectType) -> Result<()> {
        let snapshot = self.snapshot().await?;
        for path in paths {
            let Some(node) = self.tree().stored(&snapshot, path)? else { continue };
            let is_directory = node.entry.entry_type == crate::entry::EntryType::Directory;
            // DROP TABLE of any dynamic node is DROP NODE: what stock SQL made, it can drop.
            if node.entry.dynamic_factory().is_some() && *kind != ObjectType::Schema {
                continue;
            }
            if is_directory != (*kind == ObjectType::Schema) {
                return Err(Error::invalid(format!(
                    "'{path}' is a {}: DROP {kind} is not for it",
                    node.entry.entry_type
                ))
                .with_hint(format!("DROP NODE '{path}'")));
            }
        }
        Ok(())
    }

    /// Refuses what is not carried out on pond paths.
    async fn refuse(&self, statement: &SqlStatement) -> Result<()> {
        let (verb, names) = match statement {
            SqlStatement::Use(target) => {
                return Err(Error::invalid(format!(
                    "{target}: a path is written in single quotes"
                ))
                .with_hint("USE '/path' sets the directory that relative paths start from"));
            }
            SqlStatement::Prepare { statement, .. } => {
                return Box::pin(self.refuse(statement)).await;
            }
            SqlStatement::Explain { statement, .. } => {
                return Box::pin(self.refuse(statement)).await;
            }
            SqlStatement::Merge(merge) => {
                ("MERGE", factor_name(&merge.table).into_iter().collect())
            }
            SqlStatement::Truncate(truncate) => {
                ("TRUNCATE", truncate.table_names.iter().map(|target| &target.name).collect())
            }
            SqlStatement::CreateView(create) => ("CREATE VIEW", vec![&create.name]),
            SqlStatement::AlterTable(alter) => ("ALTER TABLE", vec![&alter.name]),
            SqlStatement::AlterView { name, .. } => ("ALTER VIEW", vec![name]),
            SqlStatement::CreateSchema { schema_name: SchemaName::Simple(name), .. } => {
                ("CREATE SCHEMA with options", vec![name])
            }
            SqlStatement::CreateIndex(create) => ("CREATE INDEX", vec![&create.table_name]),
            _ => return Ok(()),
        };
        match names.into_iter().find_map(pond_path) {
            Some(path) => {
                let path = self.path(&path)?;
                Err(self.unwritable(verb, &path, &self.snapshot().await?).await)
            }
            None => Ok(()),
        }
    }

    /// Says why a pond path takes no writes from `verb`, naming the mount that it is in.
    pub(super) async fn unwritable(
        &self,
        verb: &str,
        path: &PondPath,
        snapshot: &Arc<Snapshot>,
    ) -> Error {
        let refusal = if verb.starts_with("CREATE ") {
            format!("cannot be made by {verb}")
        } else {
            format!("takes no {verb}")
        };
        let root = self.tree().root(snapshot.clone());
        let mut at = Some(path.clone());
        while let Some(directory) = at {
            if let Ok(Some(Node::Directory(opened))) = lookup(&root, &directory).await
                && let Some(owner) = opened.read_only()
            {
                return Error::read_only(format!("'{path}' {refusal}: {owner} is read-only"))
                    .with_hint("what it shows is changed at its source");
            }
            at = directory.split().map(|(parent, _)| parent);
        }
        let hint = match verb {
            "MERGE" => "UPDATE, DELETE and INSERT within BEGIN … COMMIT do the same",
            "CREATE VIEW" | "ALTER VIEW" => "CREATE TABLE … AS keeps the rows of a query",
            "TRUNCATE" => "TRUNCATE takes one table at a time",
            "ALTER TABLE" => "CREATE OR REPLACE TABLE … AS SELECT … gives it other columns",
            _ => "a dynamic node is changed by ALTER NODE",
        };
        Error::unsupported(format!("'{path}' {refusal}")).with_hint(hint)
    }
}

fn factor_name(factor: &TableFactor) -> Option<&ObjectName> {
    match factor {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}

/// Returns the path that a name in a statement is, if it is written as one.
pub(super) fn pond_path(name: &ObjectName) -> Option<String> {
    let parts: Vec<_> = name.0.iter().map(|part| part.as_ident()).collect::<Option<_>>()?;
    match parts.as_slice() {
        [name] => {
            let is_path = name.quote_style == Some('\'') || name.value.contains('/');
            is_path.then(|| name.value.clone())
        }
        [directory, name] if directory.value.starts_with('/') => {
            Some(format!("{}/{}", directory.value, name.value))
        }
        [catalog, name]
            if catalog.value.eq_ignore_ascii_case(CATALOG) && name.value.starts_with('/') =>
        {
            Some(name.value.clone())
        }
        [catalog, directory, name]
            if catalog.value.eq_ignore_ascii_case(CATALOG)
                && (directory.value.starts_with('/') || name.value.starts_with('/')) =>
        {
            if name.value.starts_with('/') {
                return Some(name.value.clone());
            }
            Some(format!("{}/{}", directory.value, name.value))
        }
        _ => None,
    }
}

/// Whether a statement only reads.
pub(super) fn is_query(statement: &EngineStatement) -> bool {
    match statement {
        EngineStatement::Statement(statement) => {
            matches!(statement.as_ref(), SqlStatement::Query(_))
        }
        EngineStatement::Explain(explain) => is_query(&explain.statement),
        _ => false,
    }
}

/// Whether a plan runs a prepared query.
pub(super) fn is_execute(plan: &LogicalPlan) -> bool {
    matches!(plan, LogicalPlan::Statement(PlanStatement::Execute(_)))
}

fn limits_links(location: &str) -> Error {
    Error::refused(format!(
        "'{location}' cannot be opened by CREATE EXTERNAL TABLE where a policy limits the files of the \
         host: it follows links that lead elsewhere"
    ))
    .with_hint(MOUNT_IT)
}

/// Refuses plans that would touch host files outside of mounts, write pond paths behind the tree's
/// back, keep a snapshot beyond their statement, or rows beyond the memory limit. The whole plan is looked at: `EXPLAIN ANALYZE`
/// and `PREPARE` carry others.
pub(super) fn check_plan(
    plan: &LogicalPlan,
    binding: &Binding,
    state: &SessionState,
    host_files: bool,
    is_memory_shared: bool,
) -> EngineResult<()> {
    let policy = binding.tree().policy();
    plan.apply_with_subqueries(|node| {
        let refused = match node {
            LogicalPlan::Copy(copy) if !host_files => Some(
                Error::refused(format!("'{}' cannot be written by COPY", copy.output_url))
                    .with_hint(
                        "host files are closed to SQL: write to the pond, COPY … TO '/path.csv', or \
                         write out what a query shows",
                    ),
            ),
            LogicalPlan::Copy(copy) => check_copy(copy, policy).err(),
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) if !host_files => {
                Some(no_host_table(create, binding))
            }
            LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create))
                if !policy.allows_host() =>
            {
                let location = create.locations.first().map_or("", String::as_str);
                let allowed = policy.check_host(Path::new(location), Access::Read);
                Some(allowed.err().unwrap_or_else(|| limits_links(location)))
            }
            LogicalPlan::Ddl(ddl)
                if let Some(name) = made_by(ddl)
                    && is_pond_path(name) =>
            {
                Some(not_prepared(name))
            }
            LogicalPlan::Ddl(DdlStatement::CreateMemoryTable(create))
                if policy.memory_limit.is_some() =>
            {
                Some(would_be_held(create.name.table()))
            }
            LogicalPlan::Dml(dml) if is_pond_path(&dml.table_name) => {
                Some(not_prepared(&dml.table_name))
            }
            LogicalPlan::Ddl(DdlStatement::CreateView(view)) if binding.is_used() => {
                Some(would_freeze(&format!("view '{}'", view.name.table())))
            }
            LogicalPlan::Statement(PlanStatement::Prepare(prepare)) if binding.is_used() => {
                Some(would_freeze(&format!("prepared statement '{}'", prepare.name)))
            }
            LogicalPlan::Statement(PlanStatement::SetVariable(set))
                if HOST_SETTINGS.contains(&set.variable.as_str())
                    && !(host_files && policy.allows_host()) =>
            {
                Some(
                    Error::refused(format!("'{}' cannot be set", set.variable))
                        .with_hint("host files are closed to SQL"),
                )
            }
            LogicalPlan::Statement(PlanStatement::SetVariable(set))
                if set.variable == "datafusion.sql_parser.dialect" =>
            {
                Some(
                    Error::unsupported(format!("'{}' cannot be set", set.variable))
                        .with_hint("the pond speaks the generic dialect"),
                )
            }
            LogicalPlan::Statement(PlanStatement::SetVariable(set)) => {
                let options = state.config().options();
                let value = Some(set.value.as_str());
                check_setting(policy, is_memory_shared, options, &set.variable, value).err()
            }
            LogicalPlan::Statement(PlanStatement::ResetVariable(reset)) => {
                let options = state.config().options();
                check_setting(policy, is_memory_shared, options, &reset.variable, None).err()
            }
            _ => None,
        };
        match refused {
            Some(error) => Err(error.into()),
            None => Ok(TreeNodeRecursion::Continue),
        }
    })?;
    Ok(())
}

/// Refuses to copy to where the policy does not let files be written. The engine says where that is.
fn check_copy(copy: &CopyTo, policy: &Policy) -> Result<()> {
    if policy.allows_host() {
        return Ok(());
    }
    let refused = || policy.refuse_host(&copy.output_url, Access::Write);
    if !copy.partition_by.is_empty() {
        return Err(
            refused().with_hint("under a policy COPY writes one file: leave out PARTITIONED BY")
        );
    }
    let url = ListingTableUrl::parse(&copy.output_url).map_err(|_| refused())?;
    let url: &Url = url.as_ref();
    let path = url.to_file_path().ok().filter(|_| url.scheme() == "file");
    // It is called what the statement calls it.
    path.and_then(|path| policy.check_host(&path, Access::Write).ok()).ok_or_else(refused)
}

/// Returns the name of the session's table or view that a statement makes, `SELECT … INTO` included.
fn made_by(ddl: &DdlStatement) -> Option<&TableReference> {
    match ddl {
        DdlStatement::CreateMemoryTable(create) => Some(&create.name),
        DdlStatement::CreateView(create) => Some(&create.name),
        _ => None,
    }
}

fn is_pond_path(table: &TableReference) -> bool {
    table.table().starts_with('/') || table.schema().is_some_and(|schema| schema.starts_with('/'))
}

fn not_prepared(name: &TableReference) -> Error {
    Error::unsupported(format!("'{}' cannot be written by a prepared statement", name.table()))
        .with_hint("write the statement out")
}

fn would_be_held(name: &str) -> Error {
    Error::refused(format!("'{name}' would be held in memory beyond the memory limit"))
        .with_hint(format!("CREATE TABLE '/{name}.table' AS … keeps it in the pond"))
}

fn would_freeze(object: &str) -> Error {
    Error::unsupported(format!(
        "{object} cannot read the pond: it would keep the pond as it is now"
    ))
    .with_hint("write the query out, with WITH … AS (…) for its parts")
}

fn no_host_table(create: &CreateExternalTable, binding: &Binding) -> Error {
    if !HOST_FORMATS.contains(&create.file_type.as_str()) {
        return match binding.tree().factories().require(&create.file_type) {
            Err(error) => error,
            Ok(_) => Error::unsupported(format!("'{}' is made by CREATE NODE", create.name)),
        };
    }
    let location = create.locations.first().map_or("", String::as_str);
    Error::unsupported(format!("'{location}' cannot be read: host files are closed to SQL"))
        .with_hint(MOUNT_IT)
}

/// Returns the node that `CREATE EXTERNAL TABLE … STORED AS <factory>` makes, if it is one.
pub(super) fn node_of_plan(plan: &LogicalPlan, binding: &Binding) -> EngineResult<Option<NewNode>> {
    let LogicalPlan::Ddl(DdlStatement::CreateExternalTable(create)) = plan else {
        return Ok(None);
    };
    let Some(factory) = binding.tree().factories().get(&create.file_type) else { return Ok(None) };
    let path = binding.path_of(&create.name).ok_or_else(|| {
        DataFusionError::from(Error::invalid(format!("'{}' is not a pond path", create.name)))
    })?;
    Ok(Some(external_node(path, &*factory, create)?))
}

/// Returns the statement that is kept with the transaction: the engine's own text leaves out OPTIONS.
pub(crate) fn external_text(create: &CreateExternalTable) -> Option<String> {
    let text = create.definition.as_deref()?;
    if create.options.is_empty() {
        return Some(text.to_owned());
    }
    let quote = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let mut options: Vec<String> = create
        .options
        .iter()
        .map(|(name, value)| format!("{} {}", quote(option_name(name)), quote(value)))
        .collect();
    options.sort();
    Some(format!("{text} OPTIONS ({})", options.join(", ")))
}

/// The engine puts `format.` before names without a dot; `pond.` keeps it from doing so.
fn option_name(name: &str) -> &str {
    ["format.", "pond."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// Makes a node of the parts of `CREATE EXTERNAL TABLE`: LOCATION is the factory's host directory,
/// the engine's prefix is taken off the options' names.
///
/// # Errors
/// `Invalid` for parts that a node does not have.
pub(crate) fn external_node(
    path: PondPath,
    factory: &dyn Factory,
    create: &CreateExternalTable,
) -> Result<NewNode> {
    let unused = [
        ("columns", !create.schema.fields().is_empty()),
        ("PARTITIONED BY", !create.table_partition_cols.is_empty()),
        ("WITH ORDER", !create.order_exprs.is_empty()),
        ("UNBOUNDED", create.unbounded),
        ("TEMPORARY", create.temporary),
    ];
    if let Some((clause, _)) = unused.iter().find(|(_, given)| *given) {
        return Err(Error::unsupported(format!(
            "'{path}': factory '{}' takes no {clause}",
            factory.name()
        )));
    }
    let mode = CreateMode::of_clauses(&path, create.if_not_exists, create.or_replace)?;
    let mut options: Vec<(String, Value)> = create
        .options
        .iter()
        .map(|(name, value)| (option_name(name).to_owned(), Value::String(value.clone())))
        .collect();
    options.sort_by(|(left, _), (right, _)| left.cmp(right));
    let location = factory.options().iter().find(|option| option.kind == OptionKind::HostDirectory);
    match (location, create.locations.as_slice()) {
        (_, []) => {}
        // The engine's syntax demands a LOCATION.
        (_, [empty]) if empty.is_empty() => {}
        (Some(option), [directory]) => {
            options.push((option.name.to_owned(), Value::String(directory.clone())));
        }
        (Some(_), _) => {
            return Err(Error::invalid(format!("'{path}' takes one LOCATION")));
        }
        (None, _) => {
            return Err(Error::invalid(format!(
                "'{path}': factory '{}' takes no LOCATION",
                factory.name()
            ))
            .with_hint("the syntax wants one all the same: LOCATION ''"));
        }
    }
    Ok(NewNode { path, factory: factory.name().to_owned(), options, mode, comment: None })
}
