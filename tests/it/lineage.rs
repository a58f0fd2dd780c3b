//! Lineage where it is no tree: diamonds on diamonds, links, and cycles that no check has seen.

use std::time::{Duration, Instant};

use pond::pond::Pond;
use pond::tree::{CreateMode, Direction, Edit, LineageGraph, NewNode, Tree};

use crate::oplog::path;

/// Makes a view without planning it.
async fn view(edit: &mut Edit, at: &str, query: &str) {
    let new = NewNode {
        path: path(at),
        factory: "sql_derived_table".to_owned(),
        options: vec![("sql_query".to_owned(), query.into())],
        mode: CreateMode::New,
        comment: None,
    };
    edit.create_node(new).await.unwrap();
}

async fn lineage(tree: &Tree, at: &str, direction: Option<Direction>) -> LineageGraph {
    let place = tree.in_time(tree.snapshot().await.unwrap(), &path(at)).await.unwrap();
    tree.lineage_of(&place, direction).await.unwrap()
}

/// Who reads what, at which depth.
fn edges(graph: &LineageGraph) -> Vec<String> {
    let path = |at: usize| graph.vertices[at].path.as_str();
    let shown = graph.edges.iter().map(|edge| {
        let (reader, source) = (path(edge.reader), path(edge.source));
        format!("{} {}: {reader} reads {source}", edge.direction.as_str(), edge.depth)
    });
    shown.collect()
}

#[tokio::test]
async fn diamonds_on_diamonds_are_walked_once() {
    let tree = Tree::new(Pond::transient().await.unwrap());
    let mut edit = tree.begin(None).await.unwrap();
    view(&mut edit, "/0.table", "SELECT 1 AS x").await;
    for level in 1..=30 {
        let below = format!("SELECT * FROM '/{}.table'", level - 1);
        view(&mut edit, &format!("/{level}a.table"), &below).await;
        view(&mut edit, &format!("/{level}b.table"), &below).await;
        let both = format!("SELECT a.x FROM '/{level}a.table' a, '/{level}b.table'");
        view(&mut edit, &format!("/{level}.table"), &both).await;
    }
    edit.commit().await.unwrap();
    // A thousand million ways lead through them.
    let begun = Instant::now();
    for at in ["/0.table", "/30.table"] {
        let graph = lineage(&tree, at, None).await;
        let depth = graph.edges.iter().map(|edge| edge.depth).max();
        assert_eq!((graph.edges.len(), graph.vertices.len(), depth), (120, 91, Some(60)));
    }
    let all = lineage(&tree, "/", None).await;
    assert_eq!((all.edges.len(), all.vertices.len()), (120, 91));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn links_are_shown_with_what_they_lead_to() {
    let tree = Tree::new(Pond::transient().await.unwrap());
    let mut edit = tree.begin(None).await.unwrap();
    view(&mut edit, "/dir/base.table", "SELECT 1 AS x").await;
    edit.symlink(&path("/link.table"), "dir/base.table").await.unwrap();
    edit.symlink(&path("/alias"), "dir").await.unwrap();
    edit.symlink(&path("/void"), "nowhere").await.unwrap();
    view(&mut edit, "/a.table", "SELECT * FROM '/link.table'").await;
    view(&mut edit, "/b.table", "SELECT * FROM '/alias/base.table'").await;
    view(&mut edit, "/c.table", "SELECT * FROM '/void'").await;
    edit.commit().await.unwrap();

    let down = |at: &'static str| lineage(&tree, at, Some(Direction::Downstream));
    assert_eq!(
        edges(&down("/dir/base.table").await),
        [
            "downstream 1: /alias/base.table reads /dir/base.table",
            "downstream 1: /link.table reads /dir/base.table",
            "downstream 2: /a.table reads /link.table",
            "downstream 2: /b.table reads /alias/base.table",
        ]
    );
    assert_eq!(
        edges(&lineage(&tree, "/link.table", None).await),
        [
            "upstream 1: /link.table reads /dir/base.table",
            "downstream 1: /a.table reads /link.table",
        ]
    );
    // By whichever path it is asked for.
    let asked = edges(&down("/alias/base.table").await);
    assert_eq!(asked, ["downstream 1: /b.table reads /alias/base.table"]);
    // Of a directory, by a link to it, it is that of all in it.
    let below = edges(&down("/alias").await);
    assert_eq!((below.len(), below[0].as_str()), (5, "downstream 1: /alias reads /dir"));

    let broken = lineage(&tree, "/c.table", None).await;
    assert_eq!(edges(&broken), ["upstream 1: /c.table reads /void"]);
    let void = broken.vertices.iter().find(|vertex| vertex.path.as_str() == "/void").unwrap();
    assert_eq!(void.error.as_deref(), Some("'/void' does not exist"));
}
