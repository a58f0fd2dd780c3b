//! Completion: texts with `|` where the cursor is, and what can be written there.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pond::PondContext;
use pond::context::{CANDIDATES_MAX, CandidateKind};
use pond::pond::{Pond, PondOptions};
use pond::store::Durability;
use pond::tree::Tree;
use tempfile::TempDir;

/// Makes a pond with something of everything.
async fn context(dir: &Path) -> PondContext {
    fs::create_dir_all(dir.join("host/sub")).unwrap();
    fs::write(dir.join("host/station.csv"), "id,Name,select\n1,a,b\n").unwrap();
    fs::write(dir.join("host/it's.csv"), "id\n1\n").unwrap();
    fs::write(dir.join("host/.hidden.csv"), "id\n1\n").unwrap();
    // Too large to be read as it is, were its rows wanted.
    let rows: String = (0..60_000).map(|row| format!("2026-01-01T00:00:00Z,{row}\n")).collect();
    fs::write(dir.join("host/sub/large.csv"), format!("timestamp,value\n{rows}")).unwrap();
    let options = PondOptions { durability: Durability::Process };
    let pond = Pond::init(&dir.join("pond"), options).await.unwrap();
    let context = PondContext::new(Tree::new(pond).with_base_dir(dir.to_owned()));
    for sql in [
        "CREATE TABLE '/base.table' AS SELECT 1 AS id, 2 AS \"Odd Name\", 3 AS total",
        "CREATE TABLE '/barrel.table' AS SELECT 1 AS id",
        "CREATE SCHEMA \"/sensors\"",
        "CREATE TABLE '/sensors/deep.table' AS SELECT 1 AS depth",
        "CREATE NODE '/host' FACTORY hostmount WITH (directory = 'host')",
        "CREATE NODE '/logs' FACTORY csv_directory WITH (source_pattern = '/host/sub/*.csv', \
         target_type = 'series')",
        "CREATE NODE '/raw' FACTORY csv_directory WITH (source_pattern = '/host/sub/*.csv', \
         target_type = 'series', temporal_column = 'timestamp')",
        "CREATE VIEW '/view.table' AS SELECT value * 2 AS doubled FROM '/logs/large.series'",
        "CREATE TABLE mine AS SELECT 1 AS own",
    ] {
        context
            .sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .collect()
            .await
            .unwrap();
    }
    context
}

/// The texts that `text` can become, from the start of what is typed to the cursor.
async fn complete(context: &PondContext, text: &str) -> (String, Vec<String>) {
    let at = text.find('|').expect("the cursor is somewhere");
    let text = text.replacen('|', "", 1);
    let found = context.complete(&text, at).await;
    let texts = found.candidates.into_iter().map(|candidate| candidate.text).collect();
    (text[found.start.min(at)..at].to_owned(), texts)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_place_has_its_candidates() {
    let dir = TempDir::new().unwrap();
    let context = context(dir.path()).await;
    // To make the view, what it reads was converted.
    let kept = conversions(&context).await;
    let mut wrong = Vec::new();
    for (text, expected) in [
        // Words, in the case of what is typed.
        ("CREA|", &["CREATE"] as &[&str]),
        ("SELECT 1; refr|", &["refresh node"]),
        ("create or |", &["replace"]),
        ("SUM|", &["SUMMARIZE"]),
        ("SHOW N|", &["NODES"]),
        ("SHOW LINEAGE FOR '/a' |", &["UPSTREAM", "DOWNSTREAM"]),
        ("DROP NODE '/a' C|", &["CASCADE"]),
        ("RESTORE NODE '/a' TO |", &["VERSION", "TIMESTAMP"]),
        ("SELECT id FROM '/base.table' WH|", &["WHERE"]),
        ("SELECT id FROM '/base.table' WHERE id = 1 GR|", &["GROUP BY"]),
        ("SELECT id FR|", &["FROM"]),
        ("SELECT id FROM '/base.table' ORDER BY id d|", &["desc"]),
        // Paths.
        ("SELECT * FROM '/ba|", &["'/barrel.table'", "'/base.table'"]),
        ("SELECT * FROM '/bas|' WHERE id = 'x'", &["'/base.table"]),
        ("SELECT * FROM '/se|", &["'/sensors/"]),
        ("SELECT * FROM '/sensors/|", &["'/sensors/deep.table'"]),
        ("SELECT * FROM '/sensors/../base|", &["'/sensors/../base.table'"]),
        ("SELECT * FROM 'bas|", &["'base.table'"]),
        ("SELECT * FROM \"/bas|", &["\"/base.table\""]),
        ("SELECT * FROM '/host/|", &["'/host/it''s.csv'", "'/host/station.csv'", "'/host/sub/"]),
        ("SELECT * FROM '/host/it''|", &["'/host/it''s.csv'"]),
        ("SELECT * FROM '/host/.|", &["'/host/.hidden.csv'"]),
        (
            "SELECT * FROM '/host/../../|",
            &[
                "'/host/../../barrel.table'",
                "'/host/../../base.table'",
                "'/host/../../host/",
                "'/host/../../logs/",
                "'/host/../../raw/",
                "'/host/../../sensors/",
                "'/host/../../view.table'",
            ],
        ),
        ("SELECT * FROM '/logs/|", &["'/logs/large.series'"]),
        ("SELECT * FROM '/nowhere/|", &[]),
        ("SELECT * FROM '/*/|", &[]),
        ("SELECT * FROM ls('/sens|", &["'/sensors/"]),
        ("SELECT * FROM ls(path => 'sens|", &["'sensors/"]),
        ("CREATE NODE '/sens|", &["'/sensors/"]),
        ("DROP NODE IF EXISTS '/vi|", &["'/view.table'"]),
        ("SELECT 1 WHERE 'b|", &[]),
        // Tables, functions.
        ("SELECT * FROM mi|", &["mine"]),
        ("WITH mist AS (SELECT 1) SELECT * FROM mi|", &["mist", "mine"]),
        ("SELECT * FROM fact|", &["factories("]),
        ("SELECT * FROM ls('/', rec|", &["recursive => "]),
        ("SELECT date_tr|", &["date_trunc("]),
        // Columns, of tables before and behind.
        ("SELECT tota| FROM '/base.table'", &["total"]),
        ("SELECT dept|, 'x' FROM '/sensors/deep.table'; SELECT 1", &["depth"]),
        ("SELECT odd| FROM '/base.table'", &["\"Odd Name\""]),
        ("SELECT \"Odd| FROM '/base.table'", &["\"Odd Name\""]),
        ("SELECT b.| FROM '/base.table' b, mine", &["id", "\"Odd Name\"", "total"]),
        ("SELECT mine.| FROM '/base.table' b, mine", &["own"]),
        ("SELECT sx| FROM (SELECT 1 AS \"sXY\") q WHERE 1 = s", &["\"sXY\""]),
        ("WITH w AS (SELECT 1 AS within) SELECT withi| FROM w", &["within"]),
        ("SELECT sel| FROM '/host/station.csv'", &["\"select\""]),
        ("SELECT valu| FROM '/raw/large.series'", &["value"]),
        ("SELECT dou| FROM '/view.table'", &["doubled"]),
        ("INSERT INTO '/base.table' (tota|", &["total"]),
        ("UPDATE '/base.table' SET tota|", &["total"]),
        // Factories, their options and values.
        ("CREATE NODE '/x' FACTORY host|", &["hostmount"]),
        ("DESCRIBE FACTORY csv_to|", &["csv_to_parquet"]),
        ("CREATE NODE '/x' FACTORY hostmount WITH (dir|", &["directory = "]),
        ("CREATE NODE '/x' FACTORY hostmount WITH (directory = '|", &["'host/", "'pond/"]),
        (
            "CREATE NODE '/x' FACTORY hostmount WITH (directory = '|') COMMENT 'x'",
            &["'host/", "'pond/"],
        ),
        ("CREATE NODE '/x' FACTORY csv_directory WITH (source_pattern = '/ho|", &["'/host/"]),
        (
            "CREATE NODE '/x' FACTORY csv_directory WITH (target_type = |",
            &["'table'", "'series'", "'auto'"],
        ),
        (
            "CREATE NODE '/x' FACTORY csv_directory WITH (source_pattern = '/a', target_type = 's|",
            &["'series'"],
        ),
        ("ALTER NODE '/logs' SET (target_t|", &["target_type = "]),
        ("ALTER NODE '/logs' RE|", &["RESET (", "RENAME TO"]),
        ("CREATE NODE '/x' FACTORY hostmount WITH (directory = 'a') COM|", &["COMMENT"]),
        // Settings, one group at a time.
        ("SET data|", &["datafusion."]),
        ("SET datafusion.execution.batch|", &["datafusion.execution.batch_size"]),
        // Nothing.
        ("-- SEL|", &[]),
        ("SELECT 12|", &[]),
    ] {
        let (_, found) = complete(&context, text).await;
        if found != expected {
            wrong.push(format!("{text}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Nothing was converted for it.
    assert_eq!(conversions(&context).await, kept);
}

async fn conversions(context: &PondContext) -> usize {
    let kept = context.sql("SELECT * FROM cache()").await.unwrap().collect().await.unwrap();
    kept.iter().map(|batch| batch.num_rows()).sum()
}

#[tokio::test]
async fn paths_count_from_the_directory_of_the_session() {
    let dir = TempDir::new().unwrap();
    let context = context(dir.path()).await;
    context.sql("USE '/sensors'").await.unwrap();
    assert_eq!(complete(&context, "FROM 'd|").await.1, ["'deep.table'"]);
    assert_eq!(complete(&context, "FROM |").await.1.last().unwrap(), "LATERAL");
    assert!(complete(&context, "FROM |").await.1.contains(&"'deep.table'".to_owned()));
    let found = context.complete_path("../sens").await;
    assert_eq!(found[0].text, "../sensors/");
    assert_eq!((found[0].shown.as_str(), found[0].kind), ("sensors/", CandidateKind::Directory));
}

#[tokio::test]
async fn any_text_and_any_place_have_an_answer() {
    let dir = TempDir::new().unwrap();
    let context = context(dir.path()).await;
    let text = "WITH w AS (SELECT 'ä' AS é) CREATE NODE '/x' FACTORY f FROM '/a' AS b WITH (a = ('b', c)) \
                AS SELECT \"x\".y, count(*) OVER (PARTITION BY $$z$$) FROM ls('/') l JOIN (SELECT 1) USING (a) \
                )) ] ; SET a.b = 'c'; ALTER NODE '/p' SET ( ; SHOW LINEAGE FOR ' -- x\n/* y";
    for at in 0..=text.len() + 1 {
        let found = context.complete(text, at.min(text.len())).await;
        assert!(found.start <= text.len() && text.is_char_boundary(found.start), "{at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_among_ten_thousand_is_found_at_once() {
    let dir = TempDir::new().unwrap();
    let context = context(dir.path()).await;
    let mut edit = context.tree().begin(None).await.unwrap();
    for number in 0..10_000 {
        let path = pond::path::PondPath::parse(&format!("/sensors/n{number:05}")).unwrap();
        edit.mkdir(&path, false).await.unwrap();
    }
    edit.commit().await.unwrap();
    let begun = Instant::now();
    let (_, found) = complete(&context, "SELECT * FROM '/sensors/n0999|").await;
    let one = begun.elapsed();
    assert_eq!(found.len(), 10);
    let begun = Instant::now();
    let (_, found) = complete(&context, "SELECT * FROM '/sensors/n|").await;
    let many = begun.elapsed();
    assert_eq!(found.len(), CANDIDATES_MAX);
    // What is promised is 50 ms; a machine that does much else has more.
    assert!(one.max(many) < Duration::from_millis(500), "{one:?}, {many:?}");
    if std::env::var_os("POND_TIMES").is_some() {
        std::io::Write::write_all(
            &mut std::io::stderr(),
            format!("{one:?}, {many:?}\n").as_bytes(),
        )
        .unwrap();
    }
}
