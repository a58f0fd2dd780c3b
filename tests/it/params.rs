//! Values for the parameters of statements, from the library; `tests/cmd/params.md` has the shell's.

use pond::PondContext;
use pond::path::PondPath;
use pond::pond::Pond;
use pond::sql::Params;
use pond::tree::Tree;
use serde_json::{Value, json};

async fn context(params: &[(&str, Value)]) -> PondContext {
    let context = PondContext::new(Tree::new(Pond::transient().await.unwrap()));
    let rows = "(VALUES (1, 'one'), (2, 'two'), (3, NULL)) AS v (n, name)";
    context.sql(&format!("CREATE TABLE '/t.table' AS SELECT * FROM {rows}")).await.unwrap();
    context.with_params(Params::new(params.iter().cloned()).unwrap())
}

async fn count(context: &PondContext, sql: &str) -> usize {
    let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
    rows.iter().map(|batch| batch.num_rows()).sum()
}

#[tokio::test]
async fn a_value_stands_wherever_a_literal_may() {
    let context = context(&[
        ("p", json!("/t.table")),
        ("q", json!("/t2.table")),
        ("n", json!(2)),
        ("minus", json!(-2)),
        ("text", json!("2")),
        ("null", Value::Null),
        ("yes", json!(true)),
        ("1", json!("one")),
        ("query", json!("SELECT 1 AS one")),
    ])
    .await;
    for (sql, rows) in [
        ("SELECT * FROM $p WHERE n >= $n", 2),
        // A text is compared with a number as '2' is.
        ("SELECT * FROM $p WHERE n >= $text", 2),
        ("SELECT * FROM $p WHERE name = $1", 1),
        ("SELECT * FROM $p WHERE name = $null", 0),
        ("SELECT * FROM $p WHERE $yes AND n = - $minus", 1),
        ("SELECT * FROM $p WHERE n*$n = $minus*$minus AND n * $minus = -4", 1),
        ("SELECT * FROM $p LIMIT $n", 2),
        ("SELECT * FROM $p VERSION AS OF 1", 3),
        ("SUMMARIZE $p", 2),
        ("INSERT INTO $p VALUES ($n, $1)", 1),
        ("CREATE NODE $q FACTORY sql_derived_table WITH (sql_query = $query)", 1),
        ("DROP NODE $q", 1),
    ] {
        assert_eq!(count(&context, sql).await, rows, "{sql}");
    }
    assert_eq!(context.params().unused(), Vec::<&str>::new());
    let path = PondPath::parse("/t.table").unwrap();
    let rows = context.cat_sql(&path, "SELECT * WHERE n = $n").await.unwrap();
    assert_eq!(rows.collect().await.unwrap()[0].num_rows(), 2);
}

#[tokio::test]
async fn a_value_is_never_read_as_sql() {
    let evil = "x'; DROP NODE '/t.table'; SELECT '";
    let context = context(&[("v", json!(evil))]).await;
    assert_eq!(count(&context, "SELECT * FROM '/t.table' WHERE name = $v").await, 0);
    assert_eq!(count(&context, "INSERT INTO '/t.table' VALUES (9, $v)").await, 1);
    assert_eq!(count(&context, "SELECT * FROM '/t.table' WHERE name = $v").await, 1);
    let error = context.sql("SELECT * FROM $v").await.unwrap_err();
    assert_eq!(error.kind(), pond::ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn what_is_missing_or_kept_is_an_error() {
    let context = context(&[("from", json!(1)), ("to", json!(2)), ("too", json!(3))]).await;
    let error = context.sql("SELECT $form").await.unwrap_err();
    assert_eq!(error.message(), "parameter $form has no value");
    let hint = "did you mean '$from'? values were given for $from, $to, $too";
    assert_eq!(error.hint(), Some(hint));
    let node = "CREATE NODE '/d' FACTORY sql_derived_table AS SELECT $from AS a";
    let error = context.sql(node).await.unwrap_err();
    assert_eq!(error.message(), "a node's query takes no parameter ($from)");
    assert!(Params::new([("a", json!([1]))]).is_err());
    assert!(Params::new([("a b", json!(1))]).is_err());
    // Those of PREPARE are its own.
    context.sql("PREPARE plus AS SELECT $1 + 1").await.unwrap();
    assert_eq!(count(&context, "EXECUTE plus($to)").await, 1);
    assert_eq!(context.params().unused(), ["too"]);
}
