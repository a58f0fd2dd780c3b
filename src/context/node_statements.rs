//! Carries out our own statements.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StringViewArray};
use datafusion::arrow::compute::{filter_record_batch, like};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::Session;
use futures::{StreamExt, TryStreamExt};
use serde_json::Value;

use super::{Output, PondContext};
use crate::catalog::{Answers, Binding, Reading};
use crate::error::{Error, ErrorKind, Result};
use crate::factory::sql_derived::{SOURCE_ALIASES, sources_option};
use crate::factory::{Config, Factory, FactoryRef, OptionKind};
use crate::node::{Directory, File, Freshness, ListFields, Node, lookup, resolve};
use crate::path::PondPath;
use crate::snapshot::Snapshot;
use crate::sql::{
    self, AlterNodeChange, CreateNode, Describe, NodeParts, NodeStatement, Show, create_node_sql,
};
use crate::table_fn::{factories, lineage, lineage_batch, nodes, pond_log};
use crate::tree::past::InTime;
use crate::tree::{AlterNode, Change, CreateMode, Direction, DropNodes, Edit, NewNode, StoredNode};

/// Most children of a new directory that are planned before it is stored.
const PLANNED_CHILDREN_MAX: usize = 100;

impl PondContext {
    pub(super) async fn execute_node(
        &self,
        statement: NodeStatement,
        text: String,
    ) -> Result<Output> {
        match statement {
            NodeStatement::Create(create) => self.create(create, text).await,
            NodeStatement::Alter { path, if_exists, change } => {
                self.alter(&self.path(&path)?, if_exists, change, text).await
            }
            NodeStatement::Drop { paths, if_exists, recursive, cascade } => {
                let paths = self.paths(&paths)?;
                let mut work = self.work(text).await?;
                let drop = DropNodes { if_exists, recursive, cascade };
                let changes = work.edit().drop_nodes(&paths, drop).await?;
                work.finish(changes).await
            }
            NodeStatement::Refresh { paths } => self.refresh(&self.paths(&paths)?).await,
            NodeStatement::Restore { path, to } => {
                let (path, at) = (self.path(&path)?, self.at(&to).await?);
                let mut work = self.work(text).await?;
                let changes = work.edit().restore(&path, at).await?;
                work.finish(changes).await
            }
            NodeStatement::Show(show) => self.show(show).await,
            NodeStatement::Describe(describe) => self.describe(describe).await,
            NodeStatement::ExplainNode { path } => self.explain_node(&self.path(&path)?).await,
            NodeStatement::Use { path } => {
                self.change_directory(&self.path(&path)?).await?;
                Ok(Output::done())
            }
        }
    }

    /// Returns the absolute path that a path of a statement means.
    pub(super) fn path(&self, text: &str) -> Result<PondPath> {
        self.directory().join(text)
    }

    /// Finds the tree in which `path` is to be looked up: what statements see, unless the path names
    /// the past.
    async fn in_time(&self, path: &PondPath) -> Result<InTime> {
        self.tree().in_time(self.snapshot().await?, path).await
    }

    fn paths(&self, texts: &[String]) -> Result<Vec<PondPath>> {
        texts.iter().map(|text| self.path(text)).collect()
    }

    async fn create(&self, create: CreateNode, text: String) -> Result<Output> {
        let path = self.path(&create.path)?;
        let mode = CreateMode::of_clauses(&path, create.if_not_exists, create.or_replace)?;
        let factory = self.tree().factories().require(&create.factory)?;
        let options = self.options_of(&path, &*factory, &create)?;
        let new = NewNode { path, factory: create.factory, options, mode, comment: create.comment };
        let mut work = self.work(text).await?;
        let change = self.make(work.edit(), new).await?;
        work.finish(vec![change]).await
    }

    /// Makes a dynamic node as a transaction of its own, or as a step of the open one; a query is
    /// planned before. `message` is kept with it.
    ///
    /// # Errors
    /// Those of [`Edit::create_node`], and what is wrong with the query.
    pub async fn create_node(&self, new: NewNode, message: String) -> Result<Output> {
        let mut work = self.work(message).await?;
        let change = self.make(work.edit(), new).await?;
        work.finish(vec![change]).await
    }

    /// Makes a dynamic node, and plans it if it is a query. Relative paths in its options are relative
    /// to the session's directory. The work is given up where this fails.
    pub(super) async fn make(&self, edit: &mut Edit, mut new: NewNode) -> Result<Change> {
        let factory = self.tree().factories().require(&new.factory)?;
        new.options = absolute(&self.directory(), &*factory, new.options)?;
        let change = edit.create_node(new).await?;
        self.check_plan_of(edit, &change).await?;
        Ok(change)
    }

    /// Plans a node that was made or altered, so that a query that does not work is never stored.
    async fn check_plan_of(&self, edit: &Edit, change: &Change) -> Result<()> {
        plan_made(&self.bind_to(edit.snapshot(), Vec::new(), Answers::None.into()), change).await
    }

    /// Returns the options of a new node: those in WITH, and the clauses that stand for some.
    fn options_of(
        &self,
        path: &PondPath,
        factory: &dyn Factory,
        create: &CreateNode,
    ) -> Result<Vec<(String, Value)>> {
        let clauses = [
            ("FROM", OptionKind::PondPaths, sources_option(&create.sources)?),
            ("REFRESH EVERY", OptionKind::Duration, create.refresh.clone().map(Value::String)),
            ("AS", OptionKind::Query, create.query.clone().map(Value::String)),
        ];
        let mut options = create.options.clone();
        for (clause, kind, value) in clauses {
            let Some(value) = value else { continue };
            let Some(spec) = factory.options().iter().find(|spec| spec.kind == kind) else {
                return Err(takes_no(path, factory, clause));
            };
            options.push((spec.name.to_owned(), value));
        }
        Ok(options)
    }

    async fn alter(
        &self,
        path: &PondPath,
        if_exists: bool,
        change: AlterNodeChange,
        text: String,
    ) -> Result<Output> {
        // Errors of the kind may also be about what the change names: a host directory, a factory.
        if if_exists
            && let Err(missing) = self.require(path).await
            && missing.kind() == ErrorKind::NotFound
        {
            let change = Change { status: "unchanged", txn: None, path: path.clone() };
            return Output::changes(&[change]);
        }
        let change = match change {
            AlterNodeChange::Rename(to) => {
                let to = self.path(&to)?;
                let mut work = self.work(text).await?;
                let change = work.edit().rename(path, &to).await?;
                return work.finish(vec![change]).await;
            }
            AlterNodeChange::Reset(names) => AlterNode::Reset(names),
            AlterNodeChange::Comment(comment) => AlterNode::Comment(comment),
            AlterNodeChange::Set(options) => {
                let factory = self.factory_of(path).await?;
                AlterNode::Set(absolute(&self.directory(), &*factory, options)?)
            }
            AlterNodeChange::Query(query) => {
                let factory = self.factory_of(path).await?;
                let specs = factory.options();
                let Some(spec) = specs.iter().find(|spec| spec.kind == OptionKind::Query) else {
                    return Err(takes_no(path, &*factory, "AS"));
                };
                let aliases = self.aliases_of(path).await?;
                let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
                let query = sql::absolute(&query, &self.directory(), &aliases)?;
                AlterNode::Set(vec![(spec.name.to_owned(), Value::String(query))])
            }
        };
        let is_comment = matches!(change, AlterNode::Comment(_));
        let mut work = self.work(text).await?;
        let edit = work.edit();
        let change = edit.alter_node(path, change).await?;
        if !is_comment {
            self.check_plan_of(edit, &change).await?;
        }
        work.finish(vec![change]).await
    }

    /// Returns the factory of the dynamic node at `path`.
    async fn factory_of(&self, path: &PondPath) -> Result<FactoryRef> {
        match self.require(path).await?.entry.dynamic_factory() {
            Some(factory) => self.tree().factories().require(factory),
            None => Err(Error::unsupported(format!("'{path}' is static: it has no options"))
                .with_hint("ALTER NODE changes nodes that a factory makes")),
        }
    }

    /// Returns the names that the query of the node at `path` may have for its sources.
    async fn aliases_of(&self, path: &PondPath) -> Result<Vec<String>> {
        let node = self.require(path).await?;
        let config = Config::from_json(node.entry.content.as_deref().unwrap_or_default())?;
        let named = config.iter().find_map(|(_, value)| value.as_object());
        Ok(match named {
            Some(named) => named.keys().cloned().collect(),
            None => SOURCE_ALIASES.iter().map(|&name| name.to_owned()).collect(),
        })
    }

    async fn refresh(&self, paths: &[PondPath]) -> Result<Output> {
        if self.in_transaction() {
            return Err(Error::invalid("REFRESH NODE: a transaction is open")
                .with_hint("what is kept is of committed contents: COMMIT first"));
        }
        let snapshot = self.snapshot().await?;
        let root = self.tree().root(snapshot.clone());
        // All are looked at before any is made anew.
        let mut kept = Vec::with_capacity(paths.len());
        for path in paths {
            let freshness = match resolve(&root, path).await? {
                Node::File(file) => match file.freshness().await? {
                    freshness @ (Freshness::Stored | Freshness::Live) => freshness,
                    Freshness::Fresh | Freshness::Stale => {
                        kept.push(Kept::Answer(snapshot.follow(path)?.0));
                        continue;
                    }
                    Freshness::Converted(_) => {
                        kept.push(Kept::Conversion(path.clone(), file));
                        continue;
                    }
                },
                Node::Directory(directory) => {
                    let children = kept_children(&*directory, path).await?;
                    if !children.is_empty() {
                        kept.extend(children);
                        continue;
                    }
                    Freshness::Live
                }
                Node::Symlink(_) => Freshness::Stored,
            };
            let reason = match freshness {
                Freshness::Stored => "it is static",
                _ => "it keeps no copy of its source",
            };
            return Err(Error::unsupported(format!("'{path}' cannot be refreshed: {reason}"))
                .with_hint("it is always as new as can be: read it"));
        }
        let mut changes = Vec::with_capacity(kept.len());
        let mut failed = Vec::new();
        for kept in kept {
            let path = match kept {
                Kept::Answer(path) => {
                    self.make_answer(&snapshot, &path).await?;
                    path
                }
                Kept::Conversion(path, file) => {
                    let binding = self.bind_to(snapshot.clone(), Vec::new(), Answers::None.into());
                    if let Err(error) = file.refresh(&self.lean().bound(&binding)).await {
                        failed.push(error);
                        continue;
                    }
                    path
                }
            };
            changes.push(Change { status: "refreshed", txn: None, path });
        }
        // One file that cannot be converted does not keep the others from it.
        match (failed.len(), failed.pop()) {
            (_, None) => Output::changes(&changes),
            (1, Some(error)) if changes.is_empty() => Err(error),
            (count, Some(error)) => Err(error.context(format!(
                "{count} of {} files could not be converted",
                count + changes.len()
            ))),
        }
    }

    /// Makes the answer that is kept of the derived node at `path` anew.
    async fn make_answer(&self, snapshot: &Arc<Snapshot>, path: &PondPath) -> Result<()> {
        let remake = Some(path.clone());
        let reading = Reading { remake, ..Answers::Make.into() };
        let binding = self.bind_to(snapshot.clone(), Vec::new(), reading);
        binding.require_table(path).await?;
        if !binding.has_answer(path) {
            return Err(Error::unsupported(format!("'{path}' cannot be refreshed"))
                .with_hint("a pond in memory keeps no answers"));
        }
        Ok(())
    }

    async fn show(&self, show: Show) -> Result<Output> {
        match show {
            Show::Nodes { path, recursive, like: pattern } => {
                let binding = self.bind(Vec::new()).await?;
                let path = self.path(path.as_deref().unwrap_or("."))?;
                let mut batch = nodes::nodes_batch(&binding, &path, recursive).await?;
                if let Some(pattern) = pattern {
                    let pattern = StringViewArray::new_scalar(pattern);
                    let names = batch.column_by_name("name").expect("nodes() has it");
                    batch = filter_record_batch(&batch, &like(names, &pattern)?)?;
                }
                Output::rows(batch)
            }
            Show::Factories => Output::rows(factories::factories_batch(self.tree().factories())?),
            Show::Log => Output::rows(pond_log::log_rows(&*self.bind(Vec::new()).await?).await?),
            Show::CreateNode(path) => self.show_create(&self.path(&path)?).await,
            Show::Lineage { path, direction } => {
                let binding = self.bind(Vec::new()).await?;
                let direction = direction.map(Direction::parse).transpose()?;
                let graph = lineage::lineage_of(&binding, &self.path(&path)?, direction).await?;
                Output::rows(lineage_batch(&graph)?)
            }
        }
    }

    /// Returns the statement that makes the node anew.
    pub(super) async fn show_create(&self, path: &PondPath) -> Result<Output> {
        let node = self.require(path).await?;
        let entry = &node.entry;
        let Some(factory) = entry.dynamic_factory() else {
            return Err(Error::unsupported(format!(
                "'{path}' is a static {}: no factory makes it",
                entry.entry_type
            ))
            .with_hint("CREATE SCHEMA \"/dir\" makes a directory"));
        };
        let config = Config::from_json(entry.content.as_deref().unwrap_or_default())
            .map_err(|error| error.context(format!("'{path}'")))?;
        let comment = entry.comment();
        let specs = self.tree().factories().get(factory);
        let specs = specs.as_ref().map_or(&[][..], |factory| factory.options());
        let kind_of =
            |name: &str| specs.iter().find(|spec| spec.name == name).map(|spec| spec.kind);
        let mut parts = NodeParts {
            path: node.path.as_str(),
            factory,
            comment: comment.as_deref(),
            ..NodeParts::default()
        };
        for (name, value) in config.iter() {
            match (kind_of(name), value) {
                (Some(OptionKind::Query), Value::String(query)) => parts.query = Some(query),
                (Some(OptionKind::Duration), Value::String(refresh)) => {
                    parts.refresh = Some(refresh);
                }
                (Some(OptionKind::PondPaths), Value::String(path)) => {
                    parts.sources.push((path.clone(), None));
                }
                (Some(OptionKind::PondPaths), Value::Object(paths)) => {
                    parts.sources.extend(paths.iter().map(|(alias, path)| {
                        (path.as_str().unwrap_or_default().to_owned(), Some(alias.clone()))
                    }));
                }
                _ => parts.options.push((name, value)),
            }
        }
        let sql = create_node_sql(&parts);
        Output::rows(text_columns(&[
            ("path", vec![Some(node.path.as_str().to_owned())]),
            ("create_statement", vec![Some(sql)]),
        ])?)
    }

    async fn describe(&self, describe: Describe) -> Result<Output> {
        match describe {
            Describe::Path(path) => self.describe_table(&self.path(&path)?).await,
            Describe::Node(path) => self.describe_node(&self.path(&path)?).await,
            Describe::Factory(name) => {
                let factory = self.tree().factories().require(&name)?;
                Output::rows(factories::options_batch(factory.options())?)
            }
        }
    }

    /// Returns the columns of the table at `path`, as the engine's DESCRIBE does.
    pub(super) async fn describe_table(&self, path: &PondPath) -> Result<Output> {
        let binding = self.bind(Vec::new()).await?;
        let schema = binding.require_table(path).await?.schema();
        let names = schema.fields().iter().map(|field| Some(field.name().clone())).collect();
        let types =
            schema.fields().iter().map(|field| Some(field.data_type().to_string())).collect();
        let nullable = schema
            .fields()
            .iter()
            .map(|field| Some(if field.is_nullable() { "YES" } else { "NO" }.to_owned()))
            .collect();
        Output::rows(text_columns(&[
            ("column_name", names),
            ("data_type", types),
            ("is_nullable", nullable),
        ])?)
    }

    async fn describe_node(&self, path: &PondPath) -> Result<Output> {
        let place = self.in_time(path).await?;
        let stored = self.tree().stored(&place.snapshot, &place.path)?;
        let is_static = stored.as_ref().is_some_and(|node| node.entry.dynamic_factory().is_none());
        let mut properties = match stored {
            Some(node) => stored_properties(&node),
            None => transient_properties(&place).await?,
        };
        if !is_static && let Ok(Some(Node::File(file))) = lookup(&place.root, &place.path).await {
            let binding = self.bind(Vec::new()).await?;
            let more = file_properties(&*file, &self.lean().bound(&binding)).await;
            properties.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        let (names, values) =
            properties.into_iter().map(|(name, value)| (Some(name), Some(value))).unzip();
        Output::rows(text_columns(&[("property", names), ("value", values)])?)
    }

    /// Returns the stored node at `path`.
    ///
    /// # Errors
    /// `NotFound` with a hint; `Unsupported` for what a factory makes on access.
    pub(super) async fn require(&self, path: &PondPath) -> Result<StoredNode> {
        let place = self.in_time(path).await?;
        if let Some(node) = self.tree().stored(&place.snapshot, &place.path)? {
            return Ok(node);
        }
        match lookup(&place.root, &place.path).await? {
            None => Err(place.not_found().await),
            Some(_) => {
                Err(Error::unsupported(format!("'{path}' is not stored: it is made on access")))
            }
        }
    }
}

/// Plans what was made or altered in the tree of `binding`, which has it already: a file, or what a
/// directory derives from the pond.
///
/// # Errors
/// What is wrong with a query.
pub(crate) async fn plan_made(binding: &Arc<Binding>, change: &Change) -> Result<()> {
    let path = &change.path;
    let (tree, snapshot) = (binding.tree(), binding.snapshot().await?);
    let Some(node) = tree.stored(&snapshot, path)? else { return Ok(()) };
    let Some(factory) = node.entry.dynamic_factory() else { return Ok(()) };
    let factory = tree.factories().require(factory)?;
    if !change.is_written() || factory.is_live() {
        return Ok(());
    }
    let mut tables = Vec::new();
    if !factory.is_planned() {
        // Its sources are looked at all the same.
    } else if node.entry.entry_type.is_file() {
        tables.push(path.clone());
    } else if let Node::Directory(directory) = resolve(&binding.root().await?, path).await? {
        let children = directory.list(ListFields::NAMES).take(PLANNED_CHILDREN_MAX);
        let names = children.map_ok(|child| path.child(&child.name));
        tables = names.try_collect().await?;
    }
    let verb = if change.status == "altered" { "altered" } else { "made" };
    for table in tables {
        let planned = binding.plan_table(&table).await;
        planned.map_err(|error| {
            error.in_context(&format!("'{table}' is broken"), &format!("'{path}' cannot be {verb}"))
        })?;
    }
    // A source that the query does not use must be there, too.
    match tree.lineage(&snapshot).broken(&node.entry) {
        Some(reason) => Err(Error::invalid(format!("'{path}' cannot be {verb}: {reason}"))),
        None => Ok(()),
    }
}

/// Says how a file is read, and what became of that: an error is part of it.
pub(super) async fn file_properties(
    file: &dyn File,
    session: &dyn Session,
) -> Vec<(&'static str, String)> {
    let mut properties = match file.properties(session).await {
        Ok(properties) => properties,
        Err(error) => vec![("error", error.to_string())],
    };
    if let Ok(freshness @ Freshness::Converted(_)) = file.freshness().await {
        properties.extend(freshness.as_str().map(|state| ("state", state.to_owned())));
    }
    properties
}

/// What REFRESH NODE makes anew.
enum Kept {
    /// The answer of a derived node.
    Answer(PondPath),
    /// The conversion of a file.
    Conversion(PondPath, Arc<dyn File>),
}

/// Returns the children of a dynamic directory of which anything is kept.
async fn kept_children(directory: &dyn Directory, path: &PondPath) -> Result<Vec<Kept>> {
    let mut kept = Vec::new();
    if directory.read_only().is_none() {
        return Ok(kept);
    }
    let mut others = 0;
    let mut children = directory.list(ListFields::NAMES);
    while let Some(child) = children.try_next().await? {
        if others == PLANNED_CHILDREN_MAX {
            break;
        }
        let at = path.child(&child.name);
        let Ok(Some(Node::File(file))) = directory.get(&child.name).await else {
            others += 1;
            continue;
        };
        match file.freshness().await {
            Ok(Freshness::Fresh | Freshness::Stale) => kept.push(Kept::Answer(at)),
            Ok(Freshness::Converted(_)) => kept.push(Kept::Conversion(at, file)),
            _ => others += 1,
        }
    }
    Ok(kept)
}

/// Makes the paths in options that are relative to `directory` absolute.
///
/// # Errors
/// `Invalid` for paths that cannot be, and for texts that are no query.
pub(crate) fn absolute(
    directory: &PondPath,
    factory: &dyn Factory,
    mut options: Vec<(String, Value)>,
) -> Result<Vec<(String, Value)>> {
    let kind_of = |name: &str| {
        let spec = factory.options().iter().find(|spec| spec.name.eq_ignore_ascii_case(name));
        spec.map(|spec| spec.kind)
    };
    let mut aliases: Vec<String> = SOURCE_ALIASES.iter().map(|&name| name.to_owned()).collect();
    for (name, value) in &mut options {
        match (kind_of(name), value) {
            (Some(OptionKind::PondPath | OptionKind::PondPaths), Value::String(path)) => {
                *path = directory.join(path)?.to_string();
            }
            (Some(OptionKind::PondPaths), Value::Object(paths)) => {
                aliases = paths.keys().cloned().collect();
                for path in paths.values_mut() {
                    if let Value::String(path) = path {
                        *path = directory.join(path)?.to_string();
                    }
                }
            }
            _ => {}
        }
    }
    let aliases: Vec<&str> = aliases.iter().map(String::as_str).collect();
    for (name, value) in &mut options {
        if let (Some(OptionKind::Query), Value::String(query)) = (kind_of(name), value) {
            // As files of options end it.
            let text = query.trim().trim_end_matches(';').trim_end();
            *query = sql::absolute(text, directory, &aliases)?;
        }
    }
    Ok(options)
}

fn takes_no(path: &PondPath, factory: &dyn Factory, clause: &str) -> Error {
    let clause = if clause == "AS" { "query (AS …)" } else { clause };
    let options: Vec<&str> = factory.options().iter().map(|option| option.name).collect();
    let hint = if options.is_empty() {
        "it takes no options".to_owned()
    } else {
        format!("it takes WITH ({})", options.join(", "))
    };
    Error::unsupported(format!("'{path}': factory '{}' takes no {clause}", factory.name()))
        .with_hint(hint)
}

fn stored_properties(node: &StoredNode) -> Vec<(String, String)> {
    let entry = &node.entry;
    let mut properties = vec![
        ("path".to_owned(), node.path.as_str().to_owned()),
        ("entry_type".to_owned(), entry.entry_type.to_string()),
    ];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.push((name.to_owned(), value));
        }
    };
    add("factory", entry.dynamic_factory().map(str::to_owned));
    if entry.dynamic_factory().is_some()
        && let Ok(config) = Config::from_json(entry.content.as_deref().unwrap_or_default())
    {
        for (name, value) in config.iter() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            add(&format!("option {name}"), Some(value));
        }
    }
    add("comment", entry.comment());
    add("size", entry.size.map(|size| size.to_string()));
    // The root has no row.
    if entry.txn > 0 {
        add("version", Some(entry.version.to_string()));
        add("txn", Some(entry.txn.to_string()));
        add("node_id", Some(entry.node_id.to_string()));
    }
    add("error", node.error.clone());
    properties
}

async fn transient_properties(place: &InTime) -> Result<Vec<(String, String)>> {
    let mut properties = vec![("path".to_owned(), place.path.as_str().to_owned())];
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.push((name.to_owned(), value));
        }
    };
    let Some(node) = lookup(&place.root, &place.path).await? else {
        return Err(place.not_found().await);
    };
    match node {
        Node::Directory(directory) => {
            add("entry_type", Some("directory".to_owned()));
            add("inside", directory.read_only());
        }
        Node::File(file) => {
            let listed = file.metadata().await?;
            add("entry_type", listed.entry_type.map(|kind| kind.to_string()));
            add("size", listed.size.map(|size| size.to_string()));
            add("mode", listed.mode.map(|mode| format!("{:o}", mode & 0o7777)));
        }
        Node::Symlink(target) => {
            add("entry_type", Some("symlink".to_owned()));
            add("target", Some(target.to_string()));
        }
    }
    add("dynamic", Some("true".to_owned()));
    Ok(properties)
}

/// Makes a batch of text columns, all of one length.
fn text_columns(columns: &[(&str, Vec<Option<String>>)]) -> Result<RecordBatch> {
    let arrays: Vec<ArrayRef> = columns
        .iter()
        .map(|(_, values)| Arc::new(values.iter().collect::<StringArray>()) as ArrayRef)
        .collect();
    let fields: Vec<Field> = columns
        .iter()
        .zip(&arrays)
        .map(|((name, _), array)| Field::new(*name, DataType::Utf8, array.null_count() > 0))
        .collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}
