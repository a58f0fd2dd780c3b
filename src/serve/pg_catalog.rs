//! `pg_catalog` over the pond: what `\d` of psql and the trees of database tools ask.
//!
//! A directory is a schema, a file with rows a table, a derived node a view; the database is `pond`.
//! The tables that tell of these are made here for each query, of the listing that
//! `information_schema` has, which is bounded and opens nothing. Columns are told of the tables that
//! are asked for by number; asked for those of all, `pg_attribute` opens [`OPENED_MAX`] at most.
//! The other tables, functions and the rewriting of queries to what the engine understands are
//! datafusion-pg-catalog's.
//!
//! Numbers of objects are given out by the server, and the same on all its connections while it runs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int16Array, Int32Array, RecordBatch, StringArray,
    new_null_array,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::catalog::{MemTable, SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TableProviderFilterPushDown, TableType, Volatility,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::Token;
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::has_privilege_udf::create_has_privilege_udf;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{
    self as base, PgCatalogSchemaProvider, PgCatalogStaticTables, array_bounds_udf, format_type,
    pg_get_expr_udf, quote_ident_udf,
};
use datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::commands::{SERVER_VERSION, Settings};
use super::errors::PgError;
use super::values::PgType;
use crate::catalog::{CATALOG, LISTED_TABLES_MAX};
use crate::context::PondContext;
use crate::error::{Error, Result};
use crate::sql::{Cut, cut};

/// How many tables `pg_attribute` opens for one query.
const OPENED_MAX: usize = 1_000;

/// The first number that is not Postgres's own.
const FIRST_OID: u32 = 16_384;

/// How many numbers are kept of what may be gone.
const OIDS_MAX: usize = 4 * LISTED_TABLES_MAX;

/// Schemas that are always there, with their numbers.
const SCHEMAS: [(&str, u32); 3] =
    [("pg_catalog", 11), ("public", 2200), ("information_schema", 13_000)];

/// The user that all is said to belong to.
const OWNER: i32 = 10;

/// Functions and words that Postgres has and the engine lacks, but for those that begin with `pg_`.
const FUNCTIONS: &[&str] = &[
    "version",
    "current_database",
    "current_schema",
    "current_schemas",
    "current_setting",
    "set_config",
    "has_table_privilege",
    "has_schema_privilege",
    "has_database_privilege",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_function_privilege",
    "format_type",
    "obj_description",
    "col_description",
    "shobj_description",
    "quote_ident",
    "array_upper",
    "array_lower",
    "inet_server_addr",
    "inet_server_port",
    "inet_client_addr",
    "txid_current",
    "to_regclass",
    "to_regtype",
];

const WORDS: &[&str] = &[
    "CURRENT_USER",
    "SESSION_USER",
    "CURRENT_ROLE",
    "CURRENT_CATALOG",
    "CURRENT_SCHEMA",
    "REGCLASS",
    "REGTYPE",
    "REGPROC",
    "REGNAMESPACE",
];

/// Whether a statement asks for what only Postgres has.
pub(super) fn is_asked(cut: &Cut<'_>) -> bool {
    let mut tokens = cut.tokens.iter().map(|(token, _)| token);
    let is_query = tokens.find(|token| **token != Token::LParen).is_some_and(|first| {
        matches!(first, Token::Word(word) if word.quote_style.is_none()
            && ["SELECT", "WITH", "VALUES", "TABLE"].iter().any(|verb| word.value.eq_ignore_ascii_case(verb)))
    });
    is_query
        && cut.tokens.iter().enumerate().any(|(at, (token, _))| {
            let Token::Word(word) = token else { return false };
            let name = word.value.to_ascii_lowercase();
            let is_called = matches!(cut.tokens.get(at + 1), Some((Token::LParen, _)));
            name.starts_with("pg_")
                || (is_called && FUNCTIONS.contains(&name.as_str()))
                || (word.quote_style.is_none()
                    && WORDS.iter().any(|known| known.eq_ignore_ascii_case(&name)))
        })
}

/// What all connections of a server share.
pub(super) struct SharedCatalog {
    parser: PostgresCompatibilityParser,
    tables: Arc<PgCatalogStaticTables>,
    oids: Mutex<Oids>,
}

impl SharedCatalog {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            parser: PostgresCompatibilityParser::new(),
            tables: Arc::new(PgCatalogStaticTables::try_new()?),
            oids: Mutex::new(Oids { numbers: HashMap::new(), next: FIRST_OID }),
        })
    }

    /// Parses a query, and puts what the engine understands in place of what it does not.
    pub(super) fn parse(&self, text: &str) -> std::result::Result<SqlStatement, PgError> {
        let mut statements = self
            .parser
            .parse(&without_empty_lists(text))
            .map_err(|error| PgError::new("42601", error.to_string()))?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement @ SqlStatement::Query(_)), true) => Ok(statement),
            _ => Err(PgError::new("42601", "the text is not one query")),
        }
    }
}

/// What a pond has none of: a list of it is NULL.
const EMPTY: &[&str] = &["pg_auth_members", "pg_options_to_table", "reloptions", "polroles"];

/// Puts NULL in place of `ARRAY(SELECT …)` where that is of what a pond has none of: the engine has
/// no such lists.
fn without_empty_lists(text: &str) -> String {
    let [cut] = &cut(text)[..] else { return text.to_owned() };
    let is = |at: usize, word: &str| {
        matches!(cut.tokens.get(at), Some((Token::Word(found), _))
            if found.value.eq_ignore_ascii_case(word))
    };
    let mut result = String::new();
    let (mut at, mut copied) = (0, 0);
    while at < cut.tokens.len() {
        let is_open = |at: usize| matches!(cut.tokens.get(at), Some((Token::LParen, _)));
        if !(is(at, "array") && is_open(at + 1) && is(at + 2, "select")) {
            at += 1;
            continue;
        }
        let mut depth = 0;
        let close = cut.tokens.iter().enumerate().skip(at + 1).find_map(|(at, (token, _))| {
            depth += match token {
                Token::LParen => 1,
                Token::RParen => -1,
                _ => 0,
            };
            (depth == 0).then_some(at)
        });
        let Some(close) = close else { break };
        if (at..close).any(|at| EMPTY.iter().any(|word| is(at, word))) {
            result.push_str(&cut.text[copied..cut.tokens[at].1.start]);
            result.push_str("CAST(NULL AS VARCHAR[])");
            copied = cut.tokens[close].1.end;
        }
        at = close;
    }
    result + &cut.text[copied..]
}

/// The numbers of schemas and tables.
struct Oids {
    numbers: HashMap<(String, String), u32>,
    next: u32,
}

impl Oids {
    /// Returns the number of a table, or of a schema if `table` is empty.
    fn of(&mut self, schema: &str, table: &str) -> u32 {
        let Self { numbers, next } = self;
        *numbers.entry((schema.to_owned(), table.to_owned())).or_insert_with(|| {
            *next += 1;
            *next - 1
        })
    }
}

/// A schema, or a table of it.
#[derive(Debug, Clone)]
struct Relation {
    oid: u32,
    schema: String,
    schema_oid: u32,
    name: String,
    kind: TableType,
}

/// What there is, as a query sees it.
#[derive(Debug, Default)]
struct View {
    schemas: Vec<(String, u32)>,
    relations: Vec<Relation>,
}

/// The catalog of one connection, in its session.
pub(super) struct PgCatalog {
    shared: Arc<SharedCatalog>,
    provider: Arc<Provider>,
}

impl PgCatalog {
    /// Adds the catalog and its functions to the session of `context`.
    ///
    /// # Errors
    /// What the engine says.
    pub(super) fn install(
        context: &PondContext,
        shared: Arc<SharedCatalog>,
        settings: &Arc<Mutex<Settings>>,
        process: i32,
    ) -> Result<Self> {
        let view: Arc<RwLock<Arc<View>>> = Arc::default();
        let listed = Listed(view.clone());
        let others =
            PgCatalogSchemaProvider::try_new(listed, shared.tables.clone(), EmptyContextProvider)?;
        let provider = Arc::new(Provider { others, view });
        let session = context.session();
        let catalog = session
            .catalog(CATALOG)
            .ok_or_else(|| Error::not_found(format!("catalog '{CATALOG}' does not exist")))?;
        catalog.register_schema("pg_catalog", provider.clone())?;
        for function in functions(settings, process) {
            session.register_udf(function);
        }
        session.register_udtf("pg_get_keywords", shared.tables.pg_get_keywords.clone());
        let state = session.state_ref();
        let with_types = SessionStateBuilder::new_from_existing(state.read().clone())
            .with_type_planner(Arc::new(PgOidTypePlanner))
            .build();
        *state.write() = with_types;
        CoerceIntArgsToBigInt::widen(session);
        context.complete_session();
        Ok(Self { shared, provider })
    }

    /// Looks at what there is now, and parses a query about it.
    pub(super) async fn prepare(
        &self,
        context: &PondContext,
        text: &str,
    ) -> std::result::Result<SqlStatement, PgError> {
        let query = self.shared.parse(text)?;
        let tables = context.tables().await?;
        let view = self.view_of(&tables);
        *self.provider.view.write().expect("never poisoned") = Arc::new(view);
        Ok(query)
    }

    fn view_of(&self, tables: &BTreeMap<String, BTreeMap<String, TableType>>) -> View {
        let mut oids = self.shared.oids.lock().expect("never poisoned");
        if oids.numbers.len() > OIDS_MAX {
            oids.numbers.retain(|(schema, name), _| {
                tables.get(schema).is_some_and(|of| name.is_empty() || of.contains_key(name))
            });
        }
        let mut view = View::default();
        view.schemas.extend(SCHEMAS.map(|(name, oid)| (name.to_owned(), oid)));
        for (schema, of) in tables {
            let schema_oid = oids.of(schema, "");
            view.schemas.push((schema.clone(), schema_oid));
            view.relations.extend(of.iter().map(|(name, kind)| Relation {
                oid: oids.of(schema, name),
                schema: schema.clone(),
                schema_oid,
                name: name.clone(),
                kind: *kind,
            }));
        }
        view
    }
}

/// What the other catalog tables are told of the pond.
#[derive(Clone)]
struct Listed(Arc<RwLock<Arc<View>>>);

impl Listed {
    fn view(&self) -> Arc<View> {
        self.0.read().expect("never poisoned").clone()
    }
}

impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listed").finish_non_exhaustive()
    }
}

#[async_trait]
impl CatalogInfo for Listed {
    async fn catalog_names(&self) -> EngineResult<Vec<String>> {
        Ok(vec![CATALOG.to_owned()])
    }

    async fn schema_names(&self, _: &str) -> EngineResult<Option<Vec<String>>> {
        Ok(Some(self.view().schemas.iter().map(|(name, _)| name.clone()).collect()))
    }

    async fn table_names(&self, _: &str, schema: &str) -> EngineResult<Option<Vec<String>>> {
        let view = self.view();
        let of = view.relations.iter().filter(|relation| relation.schema == schema);
        Ok(Some(of.map(|relation| relation.name.clone()).collect()))
    }

    async fn table_schema(&self, _: &str, _: &str, _: &str) -> EngineResult<Option<SchemaRef>> {
        Ok(Some(Arc::new(Schema::empty())))
    }

    async fn table_type(
        &self,
        _: &str,
        schema: &str,
        table: &str,
    ) -> EngineResult<Option<TableType>> {
        let view = self.view();
        let found = view
            .relations
            .iter()
            .find(|relation| relation.schema == schema && relation.name == table);
        Ok(found.map(|relation| relation.kind))
    }
}

/// The schema `pg_catalog`.
#[derive(Debug)]
struct Provider {
    others: PgCatalogSchemaProvider<Listed, EmptyContextProvider>,
    view: Arc<RwLock<Arc<View>>>,
}

#[async_trait]
impl SchemaProvider for Provider {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        let name = name.to_ascii_lowercase();
        let Some(table) = self.others.build_table_by_name(&name)? else { return Ok(None) };
        let schema = with_lists(&name, table.schema());
        let view = self.view.read().expect("never poisoned").clone();
        let rows: Vec<Row> = match name.as_str() {
            "pg_namespace" => view.schemas.iter().map(namespace).collect(),
            "pg_class" => view.relations.iter().map(class).collect(),
            "pg_attribute" => return Ok(Some(Arc::new(Attributes { schema, view }))),
            _ => return table.try_into_table_provider().map(Some),
        };
        let batch = batch(&schema, &rows)?;
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.others.table_exist(name)
    }
}

/// Adds the lists of texts that Postgres has in a table and that are always null here.
fn with_lists(table: &str, schema: SchemaRef) -> SchemaRef {
    let lists: &[&str] = match table {
        "pg_class" => &["relacl", "reloptions"],
        "pg_namespace" => &["nspacl"],
        _ => return schema,
    };
    let others = schema.fields().iter().filter(|field| !lists.contains(&field.name().as_str()));
    let mut fields: Vec<FieldRef> = others.cloned().collect();
    fields.extend(lists.iter().map(|name| {
        Arc::new(Field::new_list(*name, Field::new_list_field(DataType::Utf8, true), true))
    }));
    Arc::new(Schema::new(fields))
}

/// A value of a catalog table.
#[derive(Debug, Clone)]
enum Cell {
    Number(i64),
    Text(String),
    Flag(bool),
}

/// The columns of a row that are not as usual.
type Row = Vec<(&'static str, Cell)>;

fn oid(number: u32) -> Cell {
    Cell::Number(number.into())
}

fn word(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

fn namespace((name, number): &(String, u32)) -> Row {
    vec![("oid", oid(*number)), ("nspname", word(name)), ("nspowner", Cell::Number(OWNER.into()))]
}

fn class(relation: &Relation) -> Row {
    vec![
        ("oid", oid(relation.oid)),
        ("relname", word(&relation.name)),
        ("relnamespace", oid(relation.schema_oid)),
        ("relowner", Cell::Number(OWNER.into())),
        ("relfilenode", oid(relation.oid)),
        ("relpersistence", word("p")),
        ("relkind", word(if relation.kind == TableType::View { "v" } else { "r" })),
        ("relispopulated", Cell::Flag(true)),
        ("relreplident", word("d")),
        // How many there are is not known without a look.
        ("reltuples", Cell::Number(-1)),
    ]
}

fn attributes(relation: &Relation, columns: &Schema) -> Vec<Row> {
    let rows = columns.fields().iter().enumerate().map(|(at, field)| {
        let of = PgType::of(field);
        vec![
            ("attrelid", oid(relation.oid)),
            ("attname", word(field.name())),
            ("atttypid", oid(of.oid())),
            ("attlen", Cell::Number(of.size().into())),
            ("attnum", Cell::Number(at as i64 + 1)),
            ("attndims", Cell::Number(matches!(of, PgType::Array(_)).into())),
            ("atttypmod", Cell::Number(-1)),
            ("attcacheoff", Cell::Number(-1)),
            ("attstattarget", Cell::Number(-1)),
            ("attbyval", Cell::Flag((1..=8).contains(&of.size()))),
            ("attalign", word("i")),
            ("attstorage", word(if of.size() < 0 { "x" } else { "p" })),
            ("attnotnull", Cell::Flag(!field.is_nullable())),
            ("attislocal", Cell::Flag(true)),
        ]
    });
    rows.collect()
}

/// Makes rows of a table; what a row does not say is null where that goes, or else zero, empty or false.
fn batch(schema: &SchemaRef, rows: &[Row]) -> EngineResult<RecordBatch> {
    let columns = schema.fields().iter().map(|field| {
        let cells = rows
            .iter()
            .map(|row| row.iter().find(|(name, _)| name == field.name()).map(|(_, cell)| cell));
        let usual = |value: i64| (!field.is_nullable()).then_some(value);
        let numbers = cells.clone().map(|cell| match cell {
            Some(Cell::Number(number)) => Some(*number),
            _ => usual(0),
        });
        let column: ArrayRef = match field.data_type() {
            DataType::Int16 => {
                Arc::new(numbers.map(|it| it.map(|it| it as i16)).collect::<Int16Array>())
            }
            DataType::Int32 => {
                // Numbers of objects have no sign, the column has.
                Arc::new(numbers.map(|it| it.map(|it| it as i32)).collect::<Int32Array>())
            }
            DataType::Float64 => {
                Arc::new(numbers.map(|it| it.map(|it| it as f64)).collect::<Float64Array>())
            }
            DataType::Boolean => Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Flag(flag)) => Some(*flag),
                        _ => usual(0).map(|_| false),
                    })
                    .collect::<BooleanArray>(),
            ),
            DataType::Utf8 => Arc::new(
                cells
                    .map(|cell| match cell {
                        Some(Cell::Text(text)) => Some(text.as_str()),
                        _ => usual(0).map(|_| ""),
                    })
                    .collect::<StringArray>(),
            ),
            other if field.is_nullable() => new_null_array(other, rows.len()),
            other => {
                return Err(DataFusionError::Internal(format!(
                    "column '{}' is of {other}",
                    field.name()
                )));
            }
        };
        Ok(column)
    });
    let columns = columns.collect::<EngineResult<Vec<_>>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// `pg_attribute`: the columns of the tables that are asked for.
#[derive(Debug)]
struct Attributes {
    schema: SchemaRef,
    view: Arc<View>,
}

#[async_trait]
impl TableProvider for Attributes {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let asked: Vec<Vec<i64>> = filters.iter().filter_map(relations_asked).collect();
        let is_asked =
            |relation: &Relation| asked.iter().all(|oids| oids.contains(&i64::from(relation.oid)));
        let mut rows = Vec::new();
        let catalog = state.catalog_list().catalog(CATALOG);
        let of = self.view.relations.iter().filter(|relation| is_asked(relation));
        for relation in of.take(OPENED_MAX) {
            let schema = catalog.as_ref().and_then(|catalog| catalog.schema(&relation.schema));
            let Some(schema) = schema else { continue };
            // A table that does not open has no columns, and is listed all the same.
            if let Some(table) = schema.table(&relation.name).await? {
                rows.extend(attributes(relation, &table.schema()));
            }
        }
        let batch = batch(&self.schema, &rows)?;
        let table = MemTable::try_new(self.schema.clone(), vec![vec![batch]])?;
        table.scan(state, projection, &[], limit).await
    }
}

/// Returns the tables whose columns alone pass a filter, if it says so.
fn relations_asked(filter: &Expr) -> Option<Vec<i64>> {
    let is_relation =
        |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "attrelid");
    let number = |expr: &Expr| match expr {
        Expr::Literal(value, _) => match value {
            ScalarValue::Int32(Some(number)) => Some(i64::from(number.cast_unsigned())),
            ScalarValue::Int64(Some(number)) => Some(*number),
            ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => text.parse().ok(),
            _ => None,
        },
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) => {
            let (column, value) = if is_relation(left) { (left, right) } else { (right, left) };
            is_relation(column).then(|| number(value)).flatten().map(|number| vec![number])
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut both = relations_asked(left)?;
            both.extend(relations_asked(right)?);
            Some(both)
        }
        Expr::InList(list) if !list.negated && is_relation(&list.expr) => {
            list.list.iter().map(number).collect()
        }
        _ => None,
    }
}

/// The functions of Postgres that clients call of themselves.
fn functions(settings: &Arc<Mutex<Settings>>, process: i32) -> Vec<ScalarUDF> {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_owned()));
    let null = ScalarValue::Utf8(None);
    let user = settings.lock().expect("never poisoned").get("session_authorization").map(text);
    let user = user.unwrap_or_else(|| null.clone());
    let version = format!("PostgreSQL {SERVER_VERSION} (pond {})", env!("CARGO_PKG_VERSION"));
    let constants = [
        ("version", text(&version)),
        ("session_user", user.clone()),
        ("current_user", user.clone()),
        ("pg_get_userbyid", user),
        ("pg_backend_pid", ScalarValue::Int32(Some(process))),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        ("pg_type_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_function_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_collation_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_opclass_is_visible", ScalarValue::Boolean(Some(true))),
        ("has_column_privilege", ScalarValue::Boolean(Some(true))),
        ("has_function_privilege", ScalarValue::Boolean(Some(true))),
        ("obj_description", null.clone()),
        ("col_description", null.clone()),
        ("shobj_description", null.clone()),
        ("pg_get_viewdef", null.clone()),
        ("pg_get_indexdef", null.clone()),
        ("pg_get_triggerdef", null.clone()),
        ("pg_get_ruledef", null.clone()),
        ("pg_get_function_result", null.clone()),
        ("pg_get_function_arguments", null.clone()),
        ("pg_get_function_identity_arguments", null.clone()),
        ("pg_get_serial_sequence", null.clone()),
        ("pg_tablespace_location", null.clone()),
        ("pg_database_size", ScalarValue::Int64(None)),
        ("pg_table_size", ScalarValue::Int64(None)),
        ("pg_indexes_size", ScalarValue::Int64(None)),
        ("pg_size_pretty", null.clone()),
        ("inet_server_addr", null.clone()),
        ("inet_server_port", ScalarValue::Int32(None)),
        ("inet_client_addr", null),
        ("txid_current", ScalarValue::Int64(None)),
        // There are no types but those that drivers know, and no locks.
        ("to_regtype", ScalarValue::Int32(None)),
        ("pg_advisory_unlock_all", ScalarValue::Utf8(None)),
    ];
    let mut all = vec![
        base::create_current_database_udf(CATALOG),
        base::create_current_schema_udf(),
        base::create_current_schemas_udf(),
        create_has_privilege_udf("has_table_privilege"),
        create_has_privilege_udf("has_schema_privilege"),
        create_has_privilege_udf("has_database_privilege"),
        create_has_privilege_udf("has_any_column_privilege"),
        base::create_pg_table_is_visible(),
        format_type::create_format_type_udf(),
        pg_get_expr_udf::create_pg_get_expr_udf(),
        base::create_pg_get_partkeydef_udf(),
        base::create_pg_relation_is_publishable_udf(),
        base::create_pg_get_statisticsobjdef_columns_udf(),
        base::create_pg_encoding_to_char_udf(),
        base::create_pg_relation_size_udf(),
        base::create_pg_total_relation_size_udf(),
        base::create_pg_stat_get_numscans(),
        base::create_pg_get_constraintdef(),
        base::create_pg_get_partition_ancestors_udf(),
        quote_ident_udf::create_quote_ident_udf(),
        quote_ident_udf::create_parse_ident_udf(),
        array_bounds_udf::create_array_upper_udf(),
        array_bounds_udf::create_array_lower_udf(),
    ];
    all.extend(constants.map(|(name, value)| Constant::function(name, value)));
    all.extend([false, true].map(|sets| SettingFunction::function(sets, settings)));
    all
}

/// A function that returns the same whatever it is given.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn function(name: &'static str, value: ScalarValue) -> ScalarUDF {
        let signature = Signature::one_of(
            vec![
                datafusion::logical_expr::TypeSignature::Nullary,
                datafusion::logical_expr::TypeSignature::VariadicAny,
            ],
            Volatility::Stable,
        );
        ScalarUDF::from(Self { name, value, signature })
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name [, missing_ok])` and `set_config(name, value, is_local)`.
#[derive(Debug)]
struct SettingFunction {
    sets: bool,
    settings: Arc<Mutex<Settings>>,
    signature: Signature,
}

impl SettingFunction {
    fn function(sets: bool, settings: &Arc<Mutex<Settings>>) -> ScalarUDF {
        let signature = Signature::variadic_any(Volatility::Volatile);
        ScalarUDF::from(Self { sets, settings: settings.clone(), signature })
    }
}

impl PartialEq for SettingFunction {
    fn eq(&self, other: &Self) -> bool {
        self.sets == other.sets && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

impl Eq for SettingFunction {}

impl std::hash::Hash for SettingFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.sets, Arc::as_ptr(&self.settings)).hash(state);
    }
}

impl ScalarUDFImpl for SettingFunction {
    fn name(&self) -> &str {
        if self.sets { "set_config" } else { "current_setting" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let text = |at: usize| match args.args.get(at) {
            Some(ColumnarValue::Scalar(
                ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)),
            )) => Ok(text.as_str()),
            _ => Err(Error::invalid(format!("{}() takes literal texts", self.name()))),
        };
        let name = text(0)?;
        let mut settings = self.settings.lock().expect("never poisoned");
        if self.sets {
            settings.set(name, Some(text(1)?)).map_err(|error| Error::invalid(error.message))?;
        }
        match (settings.get(name), args.args.len()) {
            (None, 1) => Err(Error::not_found(format!("setting '{name}' does not exist")).into()),
            (value, _) => Ok(ColumnarValue::Scalar(ScalarValue::Utf8(value.map(str::to_owned)))),
        }
    }
}
