//! Nodes that would be derived from themselves, and chains that are too long: what takes more than a
//! statement. The statements are in `tests/slt/cycles.slt`.

use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use pond::pond::Pond;
use pond::tree::{AlterNode, Edit, Tree};
use pond::{Error, PondContext, Result};
use serde_json::json;

use crate::oplog::path;

struct World {
    tree: Tree,
    pond: PondContext,
}

impl World {
    /// A pond with '/r.table' in it.
    async fn new() -> Self {
        let tree = Tree::new(Pond::transient().await.unwrap());
        let world = Self { pond: PondContext::new(tree.clone()), tree };
        world.ask("CREATE TABLE '/r.table' AS SELECT 1 AS x").await;
        world
    }

    async fn try_ask(&self, query: &str) -> Result<String> {
        let batches = self.pond.sql(query).await?.collect().await?;
        Ok(pretty_format_batches(&batches)?.to_string())
    }

    async fn ask(&self, query: &str) -> String {
        self.try_ask(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    async fn refused(&self, query: &str) -> String {
        match self.try_ask(query).await {
            Ok(rows) => panic!("{query} is not refused:\n{rows}"),
            Err(error) => error.to_string(),
        }
    }

    /// Makes `node` show what `source` does.
    async fn view(&self, node: &str, source: &str) {
        self.ask(&view(node, source)).await;
    }

    async fn edit(&self) -> Edit {
        self.tree.begin(None).await.unwrap()
    }
}

fn view(node: &str, source: &str) -> String {
    format!("CREATE OR REPLACE VIEW '{node}' AS SELECT x FROM '{source}'")
}

#[tokio::test]
async fn a_link_or_a_copy_makes_no_cycle() {
    let world = World::new().await;
    world.view("/d/a.table", "/r.table").await;
    world.view("/b.table", "/d/a.table").await;
    world.view("/e/a.table", "/b.table").await;
    let is_cycle = |error: Error, cycle: &str| {
        assert!(error.message().ends_with(cycle), "{error}");
        assert!(error.message().contains("would be derived from itself"), "{error}");
    };

    let mut edit = world.edit().await;
    edit.rename(&path("/r.table"), &path("/away.table")).await.unwrap();
    let cycle = "'/b.table' → '/d/a.table' → '/b.table'";
    is_cycle(edit.symlink(&path("/r.table"), "/b.table").await.unwrap_err(), cycle);
    is_cycle(edit.symlink(&path("/r.table"), "b.table").await.unwrap_err(), cycle);
    let (b, r) = (path("/b.table"), path("/r.table"));
    let copied = edit.copy(&b, None, &r, &Arc::default(), &Arc::default()).await;
    is_cycle(copied.unwrap_err(), "'/r.table' → '/d/a.table' → '/r.table'");
    // Nothing of it is left.
    edit.symlink(&r, "/away.table").await.unwrap();
    edit.commit().await.unwrap();
    assert!(world.ask("SELECT x FROM '/e/a.table'").await.contains('1'));

    // Of a directory, below which something is that others read already.
    let mut edit = world.edit().await;
    edit.rename(&path("/d"), &path("/d2")).await.unwrap();
    let linked = edit.symlink(&path("/d"), "/e").await;
    is_cycle(linked.unwrap_err(), "'/e/a.table' → '/b.table' → '/e/a.table'");
    let (d, e) = (path("/d"), path("/e"));
    let copied = edit.copy(&e, None, &d, &Arc::default(), &Arc::default()).await;
    is_cycle(copied.unwrap_err(), "'/d/a.table' → '/b.table' → '/d/a.table'");
    edit.symlink(&d, "/d2").await.unwrap();
    edit.commit().await.unwrap();
    assert!(world.ask("SELECT x FROM '/e/a.table'").await.contains('1'));
}

async fn reads(edit: &mut Edit, node: &str, source: &str) {
    let query = json!(format!("SELECT x FROM '{source}'"));
    let change = AlterNode::Set(vec![("sql_query".to_owned(), query)]);
    edit.alter_node(&path(node), change).await.unwrap();
}

/// Two transactions, neither of which sees the other: the cycle is found by whoever reads it, it is
/// listed, harms nothing beside it, and can be mended.
#[tokio::test]
async fn halves_of_a_cycle_from_two_transactions_are_found_by_readers() {
    let world = World::new().await;
    world.view("/a.table", "/r.table").await;
    world.view("/b.table", "/r.table").await;
    world.view("/over.table", "/b.table").await;
    let (mut one, mut other) = (world.edit().await, world.edit().await);
    reads(&mut one, "/a.table", "/b.table").await;
    reads(&mut other, "/b.table", "/a.table").await;
    one.commit().await.unwrap();
    other.commit().await.unwrap();

    let (a, b) = ("'/a.table' → '/b.table' → '/a.table'", "'/b.table' → '/a.table' → '/b.table'");
    for (node, cycle) in [("/a.table", a), ("/b.table", b), ("/over.table", b)] {
        for statement in
            ["SELECT * FROM", "EXPLAIN SELECT * FROM", "DESCRIBE", "SELECT 1 FROM '/r.table',"]
        {
            let error = world.refused(&format!("{statement} '{node}'")).await;
            assert!(error.contains(cycle), "{statement} '{node}': {error}");
        }
    }
    assert!(world.ask("SELECT x FROM '/r.table'").await.contains('1'));
    for list in ["ls('/')", "nodes()"] {
        let listed = world.ask(&format!("SELECT name, error FROM {list} ORDER BY name")).await;
        for (node, cycle) in [("a.table", a), ("b.table", b), ("over.table", b)] {
            let line = listed.lines().find(|line| line.contains(&format!("| {node} ")));
            assert!(line.is_some_and(|line| line.contains(cycle)), "{node} in {list}:\n{listed}");
        }
        assert_eq!(listed.matches("would be derived from itself").count(), 3, "{listed}");
    }
    world.ask("SELECT table_name FROM information_schema.columns").await;
    let edges = world.ask("SELECT path, reads, read_by FROM lineage('/a.table')").await;
    assert!(edges.contains("/over.table"), "{edges}");
    // One that would read it is refused; one of the two that is changed mends all.
    assert!(world.refused(&view("/new.table", "/over.table")).await.contains(b));
    world.view("/b.table", "/r.table").await;
    assert!(world.ask("SELECT x FROM '/over.table'").await.contains('1'));
    assert!(!world.ask("SELECT error FROM nodes()").await.contains("itself"));
}

/// Two nodes of a cycle can be dropped, however they read each other.
#[tokio::test]
async fn a_cycle_can_be_dropped() {
    let world = World::new().await;
    world.view("/a.table", "/r.table").await;
    world.view("/b.table", "/r.table").await;
    let (mut one, mut other) = (world.edit().await, world.edit().await);
    reads(&mut one, "/a.table", "/b.table").await;
    reads(&mut other, "/b.table", "/a.table").await;
    one.commit().await.unwrap();
    other.commit().await.unwrap();
    assert!(world.refused("DROP NODE '/a.table'").await.contains("'/b.table' reads '/a.table'"));
    let dropped = world.ask("DROP NODE '/a.table' CASCADE").await;
    assert!(dropped.contains("/b.table"), "{dropped}");
    assert_eq!(world.ask("SELECT name FROM ls('/')").await.matches(".table").count(), 1);
}

/// A chain of 64 levels is as good as any; what would be the 65th is refused, when it is made and, if
/// the chain got longer at its foot, when it is read.
#[tokio::test]
async fn chains_have_a_length_that_is_told() {
    let world = World::new().await;
    let at = |level: usize| match level {
        0 => "/r.table".to_owned(),
        level => format!("/chain/{level}.table"),
    };
    for level in 1..=64 {
        let (node, below) = (at(level), at(level - 1));
        world.ask(&format!("CREATE VIEW '{node}' AS SELECT x + 1 AS x FROM '{below}'")).await;
    }
    assert!(world.ask("SELECT x FROM '/chain/64.table'").await.contains("65"));
    let error = world.refused(&view("/more.table", "/chain/64.table")).await;
    assert!(error.contains("'/more.table' is derived through more than 64 levels"), "{error}");
    assert!(!world.ask("SELECT name FROM ls('/')").await.contains("more"));

    // A level more at the foot.
    world.view("/foot.table", "/r.table").await;
    world
        .ask("CREATE OR REPLACE VIEW '/chain/1.table' AS SELECT x + 1 AS x FROM '/foot.table'")
        .await;
    assert!(world.ask("SELECT x FROM '/chain/63.table'").await.contains("64"));
    let too_long = "'/chain/64.table' is derived through more than 64 levels";
    assert!(world.refused("SELECT x FROM '/chain/64.table'").await.contains(too_long));
    let listed = world.ask("SELECT name, error FROM ls('/chain') WHERE error IS NOT NULL").await;
    assert!(listed.contains(too_long) && !listed.contains("63.table"), "{listed}");
    // Rows that are kept half-way are a new foot.
    world.ask("CREATE TABLE '/half.table' AS SELECT x FROM '/chain/32.table'").await;
    world
        .ask("ALTER NODE '/chain/33.table' SET QUERY AS SELECT x + 1 AS x FROM '/half.table'")
        .await;
    assert!(world.ask("SELECT x FROM '/chain/64.table'").await.contains("65"));
}
