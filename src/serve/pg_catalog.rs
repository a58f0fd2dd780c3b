//! `pg_catalog` over the pond: what `\d` of psql and the trees of database tools ask.
//!
//! A directory is a schema, a file with rows a table, a derived node a view; the database is `pond`.
//! The tables that tell of these are made here for each query, of the listing that
//! `information_schema` has, which is bounded and opens nothing. Columns are told of the tables that
//! are asked for by number; asked for those of all, `pg_attribute` opens [`OPENED_MAX`] at most.
//! Of roles there is the one of the connection, of databases the pond; what a pond has none of is empty
//! ([`NEVER`]). Types, and those functions that the engine has, are told of as Postgres has them, in
//! the tables of datafusion-pg-catalog.
//!
//! Numbers of objects are given out by the server, and the same on all its connections while it runs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int16Array, Int32Array, ListBuilder,
    RecordBatch, StringArray, StringBuilder, new_null_array,
};
use datafusion::arrow::compute::{cast, filter_record_batch};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int32Type, Schema, SchemaRef};
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
use datafusion::sql::sqlparser::tokenizer::{Token, Word};
use datafusion_pg_catalog::pg_catalog::catalog_info::CatalogInfo;
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::generate_series_arg_coercion::CoerceIntArgsToBigInt;
use datafusion_pg_catalog::pg_catalog::has_privilege_udf::create_has_privilege_udf;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use datafusion_pg_catalog::pg_catalog::{
    self as base, ArrowTable, PgCatalogSchemaProvider, PgCatalogStaticTables, PgCatalogTable,
    array_bounds_udf, format_type, quote_ident_udf,
};
use futures::FutureExt;

use super::commands::{SERVER_VERSION, Settings};
use super::errors::PgError;
use super::rewrite::{NEVER, NEVER_STANDARD, Rewriter};
use super::values::PgType;
use crate::catalog::{CATALOG, LISTED_TABLES_MAX};
use crate::context::PondContext;
use crate::error::{Error, Result};
use crate::sql::Cut;

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

/// The pond among the databases.
const DATABASE: i64 = 1;

/// What objects of Postgres itself are described in, with the numbers that it has for these tables.
const SYSTEM_TABLES: &[(&str, i32)] = &[
    ("pg_type", 1247),
    ("pg_attribute", 1249),
    ("pg_proc", 1255),
    ("pg_class", 1259),
    ("pg_authid", 1260),
    ("pg_database", 1262),
    ("pg_tablespace", 1213),
    ("pg_am", 2601),
    ("pg_attrdef", 2604),
    ("pg_cast", 2605),
    ("pg_constraint", 2606),
    ("pg_index", 2610),
    ("pg_language", 2612),
    ("pg_namespace", 2615),
    ("pg_opclass", 2616),
    ("pg_operator", 2617),
    ("pg_rewrite", 2618),
    ("pg_trigger", 2620),
    ("pg_extension", 3079),
    ("pg_collation", 3456),
];

/// Names that SQL has for types of Postgres.
const TYPE_NAMES: &[(&str, &str)] = &[
    ("bigint", "int8"),
    ("boolean", "bool"),
    ("character", "bpchar"),
    ("character varying", "varchar"),
    ("decimal", "numeric"),
    ("double precision", "float8"),
    ("int", "int4"),
    ("integer", "int4"),
    ("real", "float4"),
    ("smallint", "int2"),
    ("time without time zone", "time"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
];

/// The namespace of Postgres's own.
const SYSTEM: i32 = 11;

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
    "to_regnamespace",
    "to_regtype",
    "has_sequence_privilege",
    "getdatabaseencoding",
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
    // ODBC asks so for what there is none of, and the engine wants columns of different names.
    let is_null = |token: &Token| match token {
        Token::Word(word) => word.value.eq_ignore_ascii_case("NULL"),
        token => *token == Token::Comma,
    };
    let asks_nothing = cut.tokens.len() > 2 && tokens.clone().all(is_null);
    let token = |at: usize| cut.tokens.get(at).map(|(token, _)| token);
    let is = |at: usize, words: &[&str]| {
        matches!(token(at), Some(Token::Word(word)) if word.quote_style.is_none()
            && words.iter().any(|known| word.value.eq_ignore_ascii_case(known)))
    };
    // A column may be called pg_… by whoever asks.
    let is_table = |at: usize| {
        at > 0 && is(at - 1, &["FROM", "JOIN", "LATERAL", "ONLY"])
            || token(at + 1) == Some(&Token::Period)
            || at > 1 && token(at - 1) == Some(&Token::Period) && is(at - 2, &["pg_catalog"])
            || at > 0
                && token(at - 1) == Some(&Token::Comma)
                && (0..at).any(|before| is(before, &["FROM"]))
    };
    let own: Vec<&str> = (0..cut.tokens.len())
        .filter(|at| is(at + 1, &["AS"]) && token(at + 2) == Some(&Token::LParen))
        .filter_map(|at| match token(at) {
            Some(Token::Word(word)) => Some(word.value.as_str()),
            _ => None,
        })
        .collect();
    let is_own = |word: &Word| own.iter().any(|name| name.eq_ignore_ascii_case(&word.value));
    is_query
        && (asks_nothing
            || cut.tokens.iter().enumerate().any(|(at, (token, _))| {
            let Token::Word(word) = token else { return false };
            let name = word.value.to_ascii_lowercase();
            let is_called = matches!(cut.tokens.get(at + 1), Some((Token::LParen, _)));
            let of_standard = || {
                name == "information_schema"
                    && matches!(cut.tokens.get(at + 2), Some((Token::Word(table), _))
                        if NEVER_STANDARD.iter().any(|known| table.value.eq_ignore_ascii_case(known)))
            };
            (name.starts_with("pg_") && (is_called || is_table(at) && !is_own(word)))
                || of_standard()
                || (is_called && FUNCTIONS.contains(&name.as_str()))
                || (word.quote_style.is_none()
                    && WORDS.iter().any(|known| known.eq_ignore_ascii_case(&name)))
        }))
}

/// What all connections of a server share.
pub(super) struct SharedCatalog {
    rewriter: Rewriter,
    tables: Arc<PgCatalogStaticTables>,
    types: Arc<HashMap<String, i32>>,
    oids: Mutex<Oids>,
}

impl SharedCatalog {
    pub(super) fn new() -> Result<Self> {
        let tables = Arc::new(PgCatalogStaticTables::try_new()?);
        let mut types = HashMap::new();
        for batch in kept_types(&tables.pg_type)? {
            let (oids, names) = (number_column(&batch, "oid")?, text_column(&batch, "typname")?);
            let rows = names.as_string::<i32>().iter().zip(oids.as_primitive::<Int32Type>());
            types.extend(rows.filter_map(|(name, oid)| Some((name?.to_owned(), oid?))));
        }
        Ok(Self {
            rewriter: Rewriter::new(),
            tables,
            types: Arc::new(types),
            oids: Mutex::new(Oids { numbers: HashMap::new(), next: FIRST_OID }),
        })
    }
}

fn number_column(batch: &RecordBatch, name: &str) -> EngineResult<ArrayRef> {
    column(batch, name, &DataType::Int32)
}

fn text_column(batch: &RecordBatch, name: &str) -> EngineResult<ArrayRef> {
    column(batch, name, &DataType::Utf8)
}

fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> EngineResult<ArrayRef> {
    Ok(cast(batch.column(batch.schema_ref().index_of(name)?), data_type)?)
}

/// Returns the types that are not of tables or schemas that only Postgres has.
fn kept_types(table: &ArrowTable) -> EngineResult<Vec<RecordBatch>> {
    let mut kept = Vec::new();
    let mut gone = HashSet::new();
    for arrays in [false, true] {
        for batch in table.data() {
            let (oid, namespace, relation, element) = (
                number_column(batch, "oid")?,
                number_column(batch, "typnamespace")?,
                number_column(batch, "typrelid")?,
                number_column(batch, "typelem")?,
            );
            let of = |array: &ArrayRef, row: usize| array.as_primitive::<Int32Type>().value(row);
            let stays: BooleanArray = (0..batch.num_rows())
                .map(|row| {
                    let stays = of(&namespace, row) == SYSTEM && of(&relation, row) == 0;
                    Some(stays && !gone.contains(&of(&element, row)))
                })
                .collect();
            match arrays {
                true => kept.push(filter_record_batch(batch, &stays)?),
                false => gone.extend(
                    (0..batch.num_rows()).filter(|row| !stays.value(*row)).map(|row| of(&oid, row)),
                ),
            }
        }
    }
    Ok(kept)
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
    cursors: Vec<CursorRow>,
}

/// A cursor of the connection.
#[derive(Debug)]
pub(super) struct CursorRow {
    pub name: String,
    pub query: String,
    pub is_binary: bool,
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
        // Which functions the engine has is told, too.
        context.complete_session();
        let view: Arc<RwLock<Arc<View>>> = Arc::default();
        let listed = Listed(view.clone());
        let others = PgCatalogSchemaProvider::try_new(
            listed.clone(),
            shared.tables.clone(),
            EmptyContextProvider,
        )?;
        let session = context.session();
        let settings_of = settings.clone();
        let functions_of = {
            let state = session.state_ref();
            let state = state.read();
            let scalars = state.scalar_functions().keys();
            let others = state.aggregate_functions().keys().chain(state.window_functions().keys());
            scalars.chain(others).cloned().collect()
        };
        let provider =
            Arc::new(Provider { others, view, settings: settings_of, functions: functions_of });
        let catalog = session
            .catalog(CATALOG)
            .ok_or_else(|| Error::not_found(format!("catalog '{CATALOG}' does not exist")))?;
        catalog.register_schema("pg_catalog", provider.clone())?;
        for function in functions(settings, process) {
            session.register_udf(function);
        }
        for (name, kind, is_needed) in LOOKUPS {
            let (listed, types) = (listed.clone(), shared.types.clone());
            session.register_udf(Lookup::function(name, *kind, *is_needed, listed, types));
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
        cursors: Vec<CursorRow>,
    ) -> std::result::Result<SqlStatement, PgError> {
        let query = self.shared.rewriter.parse(text)?;
        let tables = context.tables().boxed().await?;
        let view = View { cursors, ..self.view_of(&tables) };
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
    settings: Arc<Mutex<Settings>>,
    /// The names of the functions that the engine has.
    functions: HashSet<String>,
}

impl Provider {
    /// Returns the rows of a table that the server makes itself.
    fn rows(&self, name: &str, view: &View) -> Option<Vec<Row>> {
        let settings = || self.settings.lock().expect("never poisoned");
        Some(match name {
            "pg_namespace" => view.schemas.iter().map(namespace).collect(),
            "pg_class" => view.relations.iter().map(class).collect(),
            "pg_database" => vec![database()],
            "pg_roles" | "pg_authid" => {
                vec![role(settings().get("session_authorization").unwrap_or_default())]
            }
            "pg_settings" => settings().all().map(|(name, value)| setting(name, value)).collect(),
            _ if NEVER.contains(&name) => Vec::new(),
            _ => return None,
        })
    }

    /// Returns the functions that the engine has, too.
    fn kept_functions(&self, table: &ArrowTable) -> EngineResult<Vec<RecordBatch>> {
        let kept = table.data().iter().map(|batch| {
            let names = text_column(batch, "proname")?;
            let stays: BooleanArray = names
                .as_string::<i32>()
                .iter()
                .map(|name| Some(name.is_some_and(|name| self.functions.contains(name))))
                .collect();
            Ok(filter_record_batch(batch, &stays)?)
        });
        kept.collect()
    }
}

#[async_trait]
impl SchemaProvider for Provider {
    fn table_names(&self) -> Vec<String> {
        self.others.table_names()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        let name = name.to_ascii_lowercase();
        if name == CURSORS {
            let view = self.view.read().expect("never poisoned").clone();
            let schema = cursor_columns();
            let rows: Vec<Row> = view.cursors.iter().map(cursor).collect();
            let batch = batch(&schema, &rows)?;
            return Ok(Some(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?)));
        }
        let Some(table) = self.others.build_table_by_name(&name)? else { return Ok(None) };
        let schema = with_lists(&name, table.schema());
        let view = self.view.read().expect("never poisoned").clone();
        let batches = match (name.as_str(), &table) {
            ("pg_attribute", _) => return Ok(Some(Arc::new(Attributes { schema, view }))),
            ("pg_type", PgCatalogTable::Static(table)) => as_listed(kept_types(table)?, &schema)?,
            ("pg_proc", PgCatalogTable::Static(table)) => {
                as_listed(self.kept_functions(table)?, &schema)?
            }
            _ => match self.rows(&name, &view) {
                Some(rows) => vec![batch(&schema, &rows)?],
                None => return table.try_into_table_provider().map(Some),
            },
        };
        Ok(Some(Arc::new(MemTable::try_new(schema, vec![batches])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(CURSORS) || self.others.table_exist(name)
    }
}

/// The table of the connection's cursors.
const CURSORS: &str = "pg_cursors";

fn cursor_columns() -> SchemaRef {
    let column = |name: &str, of: DataType| Field::new(name, of, true);
    Arc::new(Schema::new(vec![
        column("name", DataType::Utf8),
        column("statement", DataType::Utf8),
        column("is_holdable", DataType::Boolean),
        column("is_binary", DataType::Boolean),
        column("is_scrollable", DataType::Boolean),
    ]))
}

fn cursor(cursor: &CursorRow) -> Row {
    vec![
        ("name", word(&cursor.name)),
        ("statement", word(&cursor.query)),
        ("is_holdable", Cell::Flag(false)),
        ("is_binary", Cell::Flag(cursor.is_binary)),
        ("is_scrollable", Cell::Flag(false)),
    ]
}

/// Adds the lists of texts that Postgres has in a table and that are always null here, and what else
/// a table lacks.
fn with_lists(table: &str, schema: SchemaRef) -> SchemaRef {
    let lists: &[&str] = match table {
        "pg_settings" => {
            let boot = Arc::new(Field::new("boot_val", DataType::Utf8, true));
            let fields = schema.fields().iter().cloned().chain([boot]);
            return Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        }
        "pg_attribute" => &["attacl", "attoptions", "attfdwoptions"],
        "pg_proc" => {
            &["proacl", "proconfig", "proallargtypes", "proargmodes", "proargnames", "protrftypes"]
        }
        "pg_type" => &["typacl"],
        "pg_class" => &["relacl", "reloptions"],
        "pg_namespace" => &["nspacl"],
        "pg_database" => &["datacl"],
        "pg_default_acl" => &["defaclacl"],
        _ => return schema,
    };
    let others = schema.fields().iter().filter(|field| !lists.contains(&field.name().as_str()));
    let mut fields: Vec<FieldRef> = others.cloned().collect();
    fields.extend(lists.iter().map(|name| {
        Arc::new(Field::new_list(*name, Field::new_list_field(DataType::Utf8, true), true))
    }));
    Arc::new(Schema::new(fields))
}

/// Gives rows the columns of [`with_lists`].
fn as_listed(batches: Vec<RecordBatch>, schema: &SchemaRef) -> EngineResult<Vec<RecordBatch>> {
    let of = |batch: RecordBatch| {
        let columns =
            schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
                Some(column) if column.data_type() == field.data_type() => column.clone(),
                _ => new_null_array(field.data_type(), batch.num_rows()),
            });
        Ok(RecordBatch::try_new(schema.clone(), columns.collect())?)
    };
    batches.into_iter().map(of).collect()
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

fn database() -> Row {
    vec![
        ("oid", Cell::Number(DATABASE)),
        ("datname", word(CATALOG)),
        ("datdba", Cell::Number(OWNER.into())),
        // UTF-8, of which texts are compared by their bytes.
        ("encoding", Cell::Number(6)),
        ("datlocprovider", word("c")),
        ("datcollate", word("C")),
        ("datctype", word("C")),
        ("datallowconn", Cell::Flag(true)),
        ("datconnlimit", Cell::Number(-1)),
        ("dattablespace", Cell::Number(1663)),
    ]
}

fn role(user: &str) -> Row {
    vec![
        ("oid", Cell::Number(OWNER.into())),
        ("rolname", word(user)),
        ("rolsuper", Cell::Flag(false)),
        ("rolinherit", Cell::Flag(true)),
        ("rolcreaterole", Cell::Flag(false)),
        ("rolcreatedb", Cell::Flag(false)),
        ("rolcanlogin", Cell::Flag(true)),
        ("rolreplication", Cell::Flag(false)),
        ("rolbypassrls", Cell::Flag(false)),
        ("rolconnlimit", Cell::Number(-1)),
    ]
}

fn setting(name: &str, value: &str) -> Row {
    let is_switch = matches!(value, "on" | "off");
    let usual = Settings::usual(name);
    vec![
        ("name", word(name)),
        ("setting", word(value)),
        ("context", word("user")),
        ("vartype", word(if is_switch { "bool" } else { "string" })),
        ("source", word(if usual == value { "default" } else { "session" })),
        ("boot_val", word(usual)),
        ("reset_val", word(usual)),
    ]
}

/// Returns what says how many digits a decimal has; -1 for other types.
fn type_modifier(data_type: &DataType) -> i64 {
    match data_type {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale)
            if *scale >= 0 =>
        {
            ((i64::from(*precision) << 16) | i64::from(*scale)) + 4
        }
        _ => -1,
    }
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
            ("atttypmod", Cell::Number(type_modifier(field.data_type()))),
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
    if rows.is_empty() {
        return Ok(RecordBatch::new_empty(schema.clone()));
    }
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
        ("pg_get_expr", null.clone()),
        ("pg_get_partkeydef", null.clone()),
        ("pg_get_constraintdef", null.clone()),
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
        ("inet_client_addr", null.clone()),
        ("txid_current", ScalarValue::Int64(None)),
        ("pg_total_relation_size", ScalarValue::Int64(None)),
        ("pg_relation_size", ScalarValue::Int64(None)),
        ("pg_get_function_sqlbody", null.clone()),
        ("pg_get_functiondef", null.clone()),
        ("pg_get_partition_constraintdef", null.clone()),
        ("pg_conversion_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_operator_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_opfamily_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_statistics_obj_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_ts_config_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_ts_dict_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_ts_parser_is_visible", ScalarValue::Boolean(Some(true))),
        ("pg_ts_template_is_visible", ScalarValue::Boolean(Some(true))),
        ("has_sequence_privilege", ScalarValue::Boolean(Some(true))),
        ("pg_has_role", ScalarValue::Boolean(Some(true))),
        ("pg_is_other_temp_schema", ScalarValue::Boolean(Some(false))),
        ("pg_my_temp_schema", ScalarValue::Int32(Some(0))),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(6))),
        ("getdatabaseencoding", text("UTF8")),
        // There are no locks.
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
        base::create_pg_relation_is_publishable_udf(),
        base::create_pg_get_statisticsobjdef_columns_udf(),
        base::create_pg_encoding_to_char_udf(),
        base::create_pg_stat_get_numscans(),
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
        if let (false, Some(ColumnarValue::Array(names))) = (self.sets, args.args.first()) {
            let names = cast(names, &DataType::Utf8)?;
            let settings = self.settings.lock().expect("never poisoned");
            let values = names.as_string::<i32>().iter().map(|name| settings.get(name?));
            return Ok(ColumnarValue::Array(Arc::new(values.collect::<StringArray>())));
        }
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

/// What is looked up: a name by its number, or a number by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sought {
    Relation,
    RelationName,
    Namespace,
    NamespaceName,
    Type,
    /// The names of the types whose numbers a text lists.
    TypeNames,
    /// Functions are known by their names: none has a number for its definition.
    Function,
}

/// The functions that look up, and whether what is not there is an error.
const LOOKUPS: &[(&str, Sought, bool)] = &[
    ("to_regclass", Sought::Relation, false),
    ("to_regnamespace", Sought::Namespace, false),
    ("to_regtype", Sought::Type, false),
    ("pg_regclass_of", Sought::Relation, true),
    ("pg_regnamespace_of", Sought::Namespace, true),
    ("pg_regtype_of", Sought::Type, true),
    ("pg_regproc_of", Sought::Function, true),
    ("pg_relation_name", Sought::RelationName, false),
    ("pg_type_names", Sought::TypeNames, false),
    ("pg_namespace_name", Sought::NamespaceName, false),
];

/// A function that looks up what the listing has.
#[derive(Debug)]
struct Lookup {
    name: &'static str,
    sought: Sought,
    is_needed: bool,
    listed: Listed,
    types: Arc<HashMap<String, i32>>,
    signature: Signature,
}

impl Lookup {
    fn function(
        name: &'static str,
        sought: Sought,
        is_needed: bool,
        listed: Listed,
        types: Arc<HashMap<String, i32>>,
    ) -> ScalarUDF {
        let signature = Signature::any(1, Volatility::Stable);
        ScalarUDF::from(Self { name, sought, is_needed, listed, types, signature })
    }

    /// Returns the number of what a text names; a number in it is itself.
    fn number(&self, view: &View, text: &str) -> Result<Option<i32>> {
        if let Ok(number) = text.trim().parse::<u32>() {
            return Ok(Some(number.cast_signed()));
        }
        let found = match self.sought {
            Sought::Function => {
                let message = format!("function '{text}' has no definition to be shown");
                return Err(Error::not_found(message));
            }
            Sought::Type => {
                let name = text.trim_start_matches("pg_catalog.").to_lowercase();
                let (name, is_array) = match name.strip_suffix("[]") {
                    Some(name) => (name, true),
                    None => (name.as_str(), false),
                };
                let known = TYPE_NAMES.iter().find(|(known, _)| *known == name);
                let name = known.map_or(name, |(_, name)| name).trim_matches('"');
                let name = if is_array { format!("_{name}") } else { name.to_owned() };
                self.types.get(&name).copied()
            }
            Sought::Namespace => {
                let name = parts(text).concat();
                let found = view.schemas.iter().find(|(known, _)| *known == name);
                found.map(|(_, oid)| oid.cast_signed())
            }
            _ => {
                let parts = parts(text);
                let (schema, name) = match parts.as_slice() {
                    [.., schema, name] => (Some(schema), name),
                    [name] => (None, name),
                    [] => (None, &String::new()),
                };
                let system = SYSTEM_TABLES.iter().find(|(known, _)| {
                    known == name && schema.is_none_or(|schema| schema == "pg_catalog")
                });
                let stored = || {
                    view.relations.iter().find(|relation| {
                        relation.name == *name
                            && schema.is_none_or(|schema| *schema == relation.schema)
                    })
                };
                let stored = || stored().map(|relation| relation.oid.cast_signed());
                system.map(|(_, oid)| *oid).or_else(stored)
            }
        };
        match (found, self.is_needed) {
            (None, true) => Err(Error::not_found(format!("'{text}' does not exist"))),
            (found, _) => Ok(found),
        }
    }

    /// Returns the names of the types whose numbers a text lists: `25 23`.
    fn type_names(&self, texts: &ArrayRef) -> EngineResult<ArrayRef> {
        let mut lists = ListBuilder::new(StringBuilder::new());
        if !matches!(texts.data_type(), DataType::Utf8 | DataType::Utf8View) {
            // Of lists, all are null.
            (0..texts.len()).for_each(|_| lists.append_null());
            return Ok(Arc::new(lists.finish()));
        }
        let names: HashMap<i32, &str> =
            self.types.iter().map(|(name, oid)| (*oid, name.as_str())).collect();
        for text in cast(texts, &DataType::Utf8)?.as_string::<i32>() {
            let numbers = text.unwrap_or_default().split_whitespace();
            for number in numbers {
                let name = number.parse().ok().and_then(|oid: i32| names.get(&oid));
                lists.values().append_value(name.copied().unwrap_or(number));
            }
            lists.append(text.is_some());
        }
        Ok(Arc::new(lists.finish()))
    }

    fn name_of(&self, view: &View, number: i32) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let oid = number.cast_unsigned();
        let found = match self.sought {
            Sought::NamespaceName => {
                let found = view.schemas.iter().find(|(_, known)| *known == oid);
                found.map(|(name, _)| name.clone())
            }
            _ => {
                let system = SYSTEM_TABLES.iter().find(|(_, known)| *known == number);
                let found = view.relations.iter().find(|relation| relation.oid == oid);
                let stored = found.map(|relation| {
                    format!("{}.{}", quoted(&relation.schema), quoted(&relation.name))
                });
                stored.or_else(|| system.map(|(name, _)| (*name).to_owned()))
            }
        };
        // As Postgres shows what is not there.
        found.unwrap_or_else(|| if oid == 0 { "-".to_owned() } else { oid.to_string() })
    }
}

/// Splits a name at its dots, without quotes.
fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for c in text.trim().chars() {
        match (c, parts.last_mut()) {
            ('"', _) => is_quoted = !is_quoted,
            ('.', _) if !is_quoted => parts.push(String::new()),
            (c, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    parts
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && Arc::ptr_eq(&self.listed.0, &other.listed.0)
    }
}

impl Eq for Lookup {}

impl std::hash::Hash for Lookup {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Lookup {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(match self.sought {
            Sought::RelationName | Sought::NamespaceName => DataType::Utf8,
            Sought::TypeNames => DataType::new_list(DataType::Utf8, true),
            Sought::Relation | Sought::Namespace | Sought::Type | Sought::Function => {
                DataType::Int32
            }
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let is_scalar = matches!(args.args.first(), Some(ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let view = self.listed.view();
        let found: ArrayRef = match self.sought {
            Sought::TypeNames => self.type_names(&arrays[0])?,
            Sought::RelationName | Sought::NamespaceName => {
                let numbers = cast(&arrays[0], &DataType::Int32)?;
                let numbers = numbers.as_primitive::<Int32Type>().iter();
                let names = numbers.map(|number| Some(self.name_of(&view, number?)));
                Arc::new(names.collect::<StringArray>())
            }
            Sought::Relation | Sought::Namespace | Sought::Type | Sought::Function => {
                let texts = cast(&arrays[0], &DataType::Utf8)?;
                let numbers = texts.as_string::<i32>().iter().map(|text| match text {
                    Some(text) => self.number(&view, text),
                    None => Ok(None),
                });
                Arc::new(numbers.collect::<Result<Int32Array>>()?)
            }
        };
        match is_scalar && found.len() == 1 {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?)),
            false => Ok(ColumnarValue::Array(found)),
        }
    }
}
