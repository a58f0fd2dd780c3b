//! The library inside another application: a plain session of its own that was given the pond, the
//! context for the whole language, queries about one file.

use std::process::Command;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::stream::BoxStream;
use pond::entry::EntryType;
use pond::factory::{Config, Factory, OpenContext, OptionSpec};
use pond::format::TableSource;
use pond::node::{DirEntry, File, Node};
use pond::path::PondPath;
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{Error, ErrorKind, PondContext, register};

use crate::oplog::FAST;
use crate::samples::Samples;
use crate::world::init;

async fn tree() -> Tree {
    let tree = Tree::new(Pond::transient().await.unwrap());
    tree.factories().register(Arc::new(Samples)).unwrap();
    tree
}

async fn plain(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    Ok(context.sql(sql).await?.collect().await?)
}

async fn run(context: &PondContext, sql: &str) -> Result<Vec<RecordBatch>, Error> {
    context.sql(sql).await?.collect().await
}

/// The cells of all rows, for short comparisons.
fn cells(batches: &[RecordBatch]) -> Vec<String> {
    pretty_format_batches(batches)
        .unwrap()
        .to_string()
        .lines()
        .skip(3)
        .filter(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join(" "))
        .collect()
}

#[tokio::test]
async fn a_plain_session_reads_and_makes_nodes() {
    let context = SessionContext::new();
    let batch = plain(&context, "SELECT 'north' AS station, 100 AS height").await.unwrap();
    let table = MemTable::try_new(batch[0].schema(), vec![batch]).unwrap();
    context.register_table("heights", Arc::new(table)).unwrap();
    let tree = tree().await;
    register(&context, tree.clone()).await.unwrap();

    plain(
        &context,
        "CREATE EXTERNAL TABLE '/s' STORED AS SAMPLES LOCATION '/data' OPTIONS ('copies' '2')",
    )
    .await
    .unwrap();
    let log = tree.log().await.unwrap();
    assert_eq!(
        log[0].message.as_deref(),
        Some(
            "CREATE EXTERNAL TABLE '/s' STORED AS SAMPLES LOCATION '/data' OPTIONS ('copies' '2')"
        )
    );
    let again = "CREATE EXTERNAL TABLE '/s' STORED AS SAMPLES LOCATION ''";
    let error = plain(&context, again).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error}");
    plain(&context, "CREATE EXTERNAL TABLE IF NOT EXISTS '/s' STORED AS SAMPLES LOCATION ''")
        .await
        .unwrap();
    plain(&context, "CREATE OR REPLACE EXTERNAL TABLE '/s' STORED AS SAMPLES LOCATION ''")
        .await
        .unwrap();
    assert_eq!(tree.log().await.unwrap().len(), 2);

    for (sql, expected) in [
        ("SELECT station FROM '/s/a.csv' ORDER BY 1", &["north", "south"][..]),
        ("SELECT count(*) FROM '/s/[ab].csv'", &["3"]),
        ("SELECT station FROM pond.\"/s\".\"b.csv\"", &["east"]),
        ("SELECT station, height FROM heights JOIN '/s/a.csv' USING (station)", &["north 100"]),
        ("SELECT path FROM NODES(path => '/')", &["/s"]),
        ("SELECT count(*) FROM pond_log()", &["2"]),
        ("SELECT factory FROM factories() WHERE factory LIKE 'sa%'", &["samples"]),
    ] {
        assert_eq!(cells(&plain(&context, sql).await.unwrap()), expected, "{sql}");
    }
}

#[tokio::test]
async fn derived_nodes_are_made_with_stock_sql_and_only_if_they_can_be_read() {
    let plain_session = SessionContext::new();
    let tree = tree().await;
    register(&plain_session, tree.clone()).await.unwrap();
    let context = PondContext::new(tree.clone());
    let rows = "VALUES ('north', 1.5), ('south', 20)";
    let table =
        format!("CREATE TABLE '/a.table' AS SELECT * FROM ({rows}) AS v (station, temperature)");
    run(&context, &table).await.unwrap();
    let made = |path: &str, query: &str| {
        format!(
            "CREATE EXTERNAL TABLE '{path}' STORED AS SQL_DERIVED_TABLE LOCATION '' \
             OPTIONS ('source_series_path' 'a.table', 'sql_query' '{query}', 'refresh_interval' '1h')"
        )
    };
    let warm = "SELECT station FROM source WHERE temperature > 10";
    plain(&plain_session, &made("/plain.table", warm)).await.unwrap();
    run(&context, &made("/ours.table", "SELECT upper(station) AS s FROM source")).await.unwrap();
    let read = plain(&plain_session, "SELECT * FROM '/plain.table', '/ours.table' ORDER BY 2");
    assert_eq!(cells(&read.await.unwrap()), ["south NORTH", "south SOUTH"]);
    let shown = run(&context, "SHOW CREATE NODE '/plain.table'").await.unwrap();
    assert!(cells(&shown)[0].contains("FROM '/a.table' REFRESH EVERY '1h' AS SELECT station"));

    for wrong in ["SELECT wind FROM source", "SELECT * FROM \"/nowhere.table\"", "DROP TABLE x"] {
        let statement = made("/wrong.table", wrong);
        let (one, other) =
            (plain(&plain_session, &statement).await, run(&context, &statement).await);
        let (one, other) = (one.unwrap_err(), other.unwrap_err());
        assert_eq!(one.message(), other.message());
        assert!(
            one.message().starts_with("'/wrong.table' cannot be made: ")
                || one.message().starts_with("a node is made from a query"),
            "{one}"
        );
    }
    let snapshot = tree.snapshot().await.unwrap();
    let wrong = PondPath::parse("/wrong.table").unwrap();
    assert!(tree.stored(&snapshot, &wrong).unwrap().is_none());
    assert_eq!(tree.log().await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_plain_session_keeps_its_own_names_and_gets_our_errors() {
    let context = SessionContext::new_with_config(
        datafusion::prelude::SessionConfig::new().with_information_schema(true),
    );
    register(&context, tree().await).await.unwrap();
    plain(&context, "CREATE EXTERNAL TABLE '/s' STORED AS SAMPLES LOCATION ''").await.unwrap();
    plain(&context, "CREATE TABLE t AS SELECT 1 AS v").await.unwrap();
    assert_eq!(cells(&plain(&context, "SELECT v FROM datafusion.public.t").await.unwrap()), ["1"]);
    plain(&context, "DROP TABLE t").await.unwrap();

    let error = plain(&context, "SELECT * FROM '/s/aa.csv'").await.unwrap_err();
    assert_eq!(error.message(), "'/s/aa.csv' does not exist");
    assert_eq!(error.hint(), Some("did you mean '/s/a.csv'?"));
    let error = plain(&context, "SELECT * FROM 'a.csv'").await.unwrap_err();
    assert!(error.message().contains("table 'datafusion.public.a.csv' not found"), "{error}");
    let error = plain(&context, "CREATE TABLE '/t' AS SELECT 1").await.unwrap_err();
    assert_eq!(error.message(), "'/t' is a path of the pond, not of the session");
    let error =
        plain(&context, "SELECT * FROM '/s/a.csv' TABLESAMPLE (1 PERCENT)").await.unwrap_err();
    assert!(error.message().contains("TABLESAMPLE"), "{error}");

    let schemas = "SELECT schema_name FROM information_schema.schemata WHERE catalog_name = 'pond'";
    assert_eq!(cells(&plain(&context, schemas).await.unwrap()), ["/", "/s"]);
}

#[tokio::test]
async fn an_application_keeps_its_tables_and_functions_in_a_context() {
    let context = PondContext::new(tree().await);
    run(&context, "CREATE NODE '/s' FACTORY samples").await.unwrap();
    let batch = run(&context, "SELECT 'north' AS station, 7 AS height").await.unwrap();
    context.session().register_batch("heights", batch[0].clone()).unwrap();
    let joined = "SELECT station, height FROM heights JOIN '/s/a.csv' USING (station)";
    assert_eq!(cells(&run(&context, joined).await.unwrap()), ["north 7"]);
    assert_eq!(cells(&run(&context, "SELECT * FROM public.heights").await.unwrap()), ["north 7"]);
    let names = context.function_names();
    for name in ["upper", "count", "row_number", "array_agg", "nodes", "range"] {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
}

/// A table that commits a node each time it is opened: another writer, at the worst moment.
#[derive(Debug, Default)]
struct Meddler(Arc<OnceLock<Tree>>);

#[async_trait]
impl Factory for Meddler {
    fn name(&self) -> &'static str {
        "meddler"
    }

    fn description(&self) -> &'static str {
        "commits a node when it is read"
    }

    fn options(&self) -> &'static [OptionSpec] {
        &[]
    }

    fn entry_type(&self, _config: &Config) -> EntryType {
        EntryType::FileTable
    }

    async fn open(&self, _config: &Config, _cx: &OpenContext) -> pond::Result<Node> {
        Ok(Node::File(Arc::new(Meddler(self.0.clone()))))
    }
}

#[async_trait]
impl File for Meddler {
    async fn metadata(&self) -> pond::Result<DirEntry> {
        Ok(DirEntry::default())
    }

    async fn bytes(&self) -> pond::Result<Option<BoxStream<'static, pond::Result<Bytes>>>> {
        Ok(None)
    }

    async fn table(&self, _session: &dyn Session) -> pond::Result<Arc<dyn TableProvider>> {
        let tree = self.0.get().unwrap();
        tree.mkdir(&PondPath::parse("/zz/meddled").unwrap(), true, None).await?;
        let schema = Arc::new(Schema::new(vec![Field::new("v", DataType::Int64, true)]));
        Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?))
    }

    async fn table_sources(
        &self,
        _session: &dyn Session,
    ) -> pond::Result<Option<Vec<TableSource>>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_statement_sees_one_snapshot() {
    let tree = tree().await;
    let handle = Arc::new(OnceLock::from(tree.clone()));
    tree.factories().register(Arc::new(Meddler(handle))).unwrap();
    let context = PondContext::new(tree);
    run(&context, "CREATE NODE '/m' FACTORY meddler").await.unwrap();
    let everything = "SELECT (SELECT count(*) FROM nodes()) AS n, (SELECT count(*) FROM pond_log()) AS t, \
                      (SELECT count(*) FROM ls('/')) AS l, count(*) FROM '/m'";
    assert_eq!(cells(&run(&context, everything).await.unwrap()), ["1 1 1 0"]);
    assert_eq!(cells(&run(&context, everything).await.unwrap()), ["3 2 2 0"]);
}

#[tokio::test]
async fn a_query_about_one_file_may_leave_out_its_from() {
    let context = PondContext::new(tree().await);
    run(&context, "CREATE NODE '/s' FACTORY samples").await.unwrap();
    let path = PondPath::parse("/s/a.csv").unwrap();
    for (sql, expected) in [
        ("SELECT * WHERE temperature > 2", "south 20.0"),
        ("SELECT source.station ORDER BY temperature LIMIT 1;", "north"),
        ("SELECT station FROM source WHERE temperature < 2", "north"),
        ("SELECT count(*) FROM '/s/a.csv'", "2"),
        ("WITH w AS (SELECT 1 AS v) SELECT count(*), (SELECT v FROM w)", "2 1"),
    ] {
        let output = context.cat_sql(&path, sql).await.unwrap();
        assert_eq!(cells(&output.collect().await.unwrap()), [expected], "{sql}");
    }
    for (sql, expected) in [
        ("SELECT nothing", "column 'nothing' does not exist"),
        ("DROP NODE '/s'", "a query about one file must be a SELECT"),
        ("CREATE TABLE t AS SELECT 1", "a query about one file must be a SELECT"),
        ("SELECT 1; SELECT 2", "the text holds more than one statement"),
    ] {
        let error = context.cat_sql(&path, sql).await.unwrap_err();
        assert_eq!(error.message(), expected, "{sql}");
    }
    let missing = PondPath::parse("/s/x.csv").unwrap();
    let error = context.cat_sql(&missing, "SELECT *").await.unwrap_err();
    assert!(error.message().contains("'/s/x.csv' does not exist"), "{error}");
    let error = run(&context, "SELECT * FROM source").await.unwrap_err();
    assert_eq!(error.message(), "table 'source' does not exist");
}

#[tokio::test]
async fn host_files_are_open_to_an_application_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("out.csv").display().to_string();
    let context = PondContext::builder(tree().await).with_host_files(true).build();
    run(&context, &format!("COPY (SELECT 1 AS a) TO 'file://{file}'")).await.unwrap();
    let create = format!("CREATE EXTERNAL TABLE e STORED AS CSV LOCATION '{file}'");
    run(&context, &create).await.unwrap();
    assert_eq!(cells(&run(&context, "SELECT a FROM e").await.unwrap()), ["1"]);
    let error = run(&context, &format!("SELECT * FROM '{file}'")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    // What begins with '/' is a path of the pond, here as everywhere.
    run(&context, &format!("COPY (SELECT 2 AS a) TO '{file}'")).await.unwrap();
    assert_eq!(cells(&run(&context, "SELECT a FROM e").await.unwrap()), ["1"]);
    let copied = format!("SELECT a FROM '{file}'");
    assert_eq!(cells(&run(&context, &copied).await.unwrap()), ["2"]);
    let error = run(&context, "COPY (SELECT 1 AS a) TO 'out.csv'").await.unwrap_err();
    assert_eq!(error.hint(), Some("write '/out.csv' for the pond, './out.csv' for the host"));
}

/// A session starts without most functions and gets them when a statement needs them.
#[tokio::test]
async fn whatever_the_first_statement_uses_is_there() {
    let engine = SessionContext::new();
    let tree = tree().await;
    for sql in [
        "SELECT [1, 2][2], {a: 5}['a'], map(['k'], [1])['k']",
        "SELECT extract(year FROM date '2026-02-03'), date '2026-02-03' + INTERVAL '1 day'",
        "SELECT 'a' || 'b', position('b' IN 'abc'), substring('abc' FROM 2), trim(' a '), overlay('abc' PLACING 'x' FROM 2)",
        "SELECT DISTINCT ON (a) b FROM (VALUES (1, 2), (1, 2)) t(a, b)",
        "SELECT first_value(v) OVER (ORDER BY v DESC) FROM (VALUES (1), (2)) t(v)",
        "SELECT first_value(v ORDER BY v DESC) FROM (VALUES (1), (2)) t(v)",
        "SELECT sum(v) OVER (ORDER BY v), count(*) OVER () FROM (VALUES (1), (2)) t(v)",
        "SELECT count(DISTINCT v), avg(v), max(v) FILTER (WHERE v < 2) FROM (VALUES (1), (2)) t(v)",
        "SELECT current_date IS NULL, now() IS NULL",
        "SELECT 'abc' ~ 'b', 'abc' LIKE '%c', 'a' IN ('a'), 1 IS DISTINCT FROM 2, NOT true",
        "SELECT [1] @> [1], ARRAY[1] || ARRAY[2]",
        "SELECT v FROM (SELECT unnest([1, 2]) AS v) ORDER BY v",
        "SELECT a, grouping(a), sum(b) FROM (VALUES (1, 2)) t(a, b) GROUP BY GROUPING SETS ((a), ()) ORDER BY 1",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT * FROM r",
        "SELECT v FROM (VALUES (1), (2)) t(v) WHERE v > (SELECT avg(v) FROM (VALUES (1), (2)) u(v))",
        "SELECT CASE WHEN coalesce(NULL, 1) = 1 THEN 'x' ELSE upper('y') END, nullif(1, 1), abs(-1)",
        "SELECT timestamp '2026-01-01T00:00:00Z' AT TIME ZONE 'UTC' IS NULL",
        "SELECT * FROM range(1, 4)",
    ] {
        let expected = cells(&plain(&engine, sql).await.unwrap());
        let context = PondContext::new(tree.clone());
        assert_eq!(cells(&run(&context, sql).await.unwrap()), expected, "{sql}");
    }
    let context = PondContext::new(tree);
    let names = context.function_names();
    let state = engine.state();
    let all = state
        .scalar_functions()
        .keys()
        .chain(state.aggregate_functions().keys())
        .chain(state.window_functions().keys())
        .chain(state.higher_order_functions().keys())
        .chain(state.table_functions().keys());
    for name in all {
        assert!(names.contains(name), "{name}");
    }
    run(&context, "SET datafusion.execution.time_zone = '+02:00'").await.unwrap();
    let zone = "SELECT arrow_typeof(now())";
    assert!(cells(&run(&context, zone).await.unwrap())[0].contains("+02:00"));
}

/// As after an upgrade was taken back: the factory is not registered any more.
#[tokio::test]
async fn a_node_of_an_unknown_factory_is_listed_and_breaks_nothing_else() {
    let known = tree().await;
    let context = PondContext::new(known.clone());
    run(&context, "CREATE NODE '/s' FACTORY samples WITH (copies = 2)").await.unwrap();
    run(&context, "CREATE SCHEMA \"/dir\"").await.unwrap();
    let context = PondContext::new(Tree::new(known.pond().clone()));
    for (sql, expected) in [
        ("SELECT path, error FROM nodes()", &["/dir", "/s factory 'samples' does not exist"][..]),
        ("SELECT path FROM ls('/') ORDER BY 1", &["/dir", "/s"]),
        (
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE '/_%' ORDER BY 1",
            &["/dir", "/s"],
        ),
        ("SELECT count(*) FROM information_schema.tables WHERE table_schema = '/s'", &["0"]),
        ("SELECT count(*) FROM information_schema.columns WHERE table_schema = '/s'", &["0"]),
        ("SHOW CREATE NODE '/s'", &["/s CREATE NODE '/s' FACTORY samples WITH (copies = 2)"]),
    ] {
        let cells: Vec<String> = cells(&run(&context, sql).await.unwrap())
            .iter()
            .map(|row| row.trim().to_owned())
            .collect();
        assert_eq!(cells, expected, "{sql}");
    }
    let error = run(&context, "SELECT * FROM '/s/a.csv'").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().starts_with("'/s' cannot be opened: factory 'samples'"), "{error}");
    run(&context, "DROP NODE '/s'").await.unwrap();
}

/// A pond that is replaced by an older copy of it, which went on by itself, has as many transactions.
#[tokio::test]
async fn nothing_is_kept_from_a_history_that_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (pond, copy) = (dir.path().join("pond"), dir.path().join("copy"));
    let context = PondContext::new(init(&pond).await);
    for sql in [
        "CREATE TABLE '/t.table' AS SELECT 1 AS n",
        "CREATE VIEW '/v.table' AS SELECT n * 10 AS n FROM '/t.table'",
    ] {
        run(&context, sql).await.unwrap();
    }
    let status = Command::new("cp").arg("-r").args([&pond, &copy]).status().unwrap();
    assert!(status.success());
    let other = PondContext::new(Tree::new(Pond::open(&copy, FAST).await.unwrap()));
    run(&context, "INSERT INTO '/t.table' VALUES (2)").await.unwrap();
    run(&other, "CREATE OR REPLACE VIEW '/v.table' AS SELECT n * 100 AS n FROM '/t.table'")
        .await
        .unwrap();
    let queries = ["SELECT sum(n) FROM '/t.table'", "SELECT sum(n) FROM '/v.table'"];
    for (sums, replace) in [(["3", "30"], true), (["1", "100"], false)] {
        for _ in 0..2 {
            for (query, sum) in queries.iter().zip(sums) {
                assert_eq!(cells(&run(&context, query).await.unwrap()), [sum], "{query}");
            }
        }
        if replace {
            std::fs::remove_dir_all(&pond).unwrap();
            std::fs::rename(&copy, &pond).unwrap();
        }
    }
}
