//! The contract of every factory: its nodes open, list, read, refuse changes and survive a reopening;
//! bad options are refused before anything is written, and what breaks later breaks only itself.

use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use pond::entry::EntryType;
use pond::factory::{FACTORIES, Factory};
use pond::node::{Directory, ListFields, Node, lookup, resolve};
use pond::pond::Pond;
use pond::tree::{CreateMode, DropNodes, NewNode, Tree};
use pond::{ErrorKind, Result};
use serde_json::{Value, json};

use crate::oplog::{FAST, path};

/// Options that make a working node of `factory`, whose content lies in `dir`, and a way to break it.
/// What it reads of the pond is `/src`, which mounts that.
///
/// A new factory adds its line here; without one this suite fails.
fn sample(factory: &dyn Factory, dir: &Path) -> Vec<(String, Value)> {
    match factory.name() {
        "hostmount" => mounted(dir),
        "csv_directory" => vec![
            ("source_pattern".to_owned(), json!("/src/**/*")),
            ("delimiter".to_owned(), json!(",")),
        ],
        "csv_to_parquet" => vec![("source".to_owned(), json!("/src/a.csv"))],
        "sql_derived_series" | "sql_derived_table" => {
            vec![("sql_query".to_owned(), json!("SELECT 1 AS a"))]
        }
        "temporal_reduce" => vec![
            ("source_series_path".to_owned(), json!("/s.series")),
            ("resolutions".to_owned(), json!(["1h", "1d"])),
        ],
        other => panic!("add a sample of '{other}' to the contract suite"),
    }
}

fn mounted(dir: &Path) -> Vec<(String, Value)> {
    std::fs::create_dir_all(dir.join("data/sub")).unwrap();
    std::fs::write(dir.join("data/a.csv"), "x,y\n1,2\n").unwrap();
    std::fs::write(dir.join("data/sub/b.txt"), "bytes").unwrap();
    vec![("directory".to_owned(), json!(dir.join("data").to_str().unwrap()))]
}

/// Makes a pond in `home` with `/src` in it, as its one transaction.
async fn world(dir: &Path, home: &Path) -> Tree {
    let tree = Tree::new(Pond::init(home, FAST).await.unwrap());
    tree.create_node(node(FACTORIES[0], "/src", mounted(dir)), None).await.unwrap();
    tree
}

fn node(factory: &dyn Factory, at: &str, options: Vec<(String, Value)>) -> NewNode {
    NewNode {
        path: path(at),
        factory: factory.name().to_owned(),
        options,
        mode: CreateMode::New,
        comment: Some("a sample".to_owned()),
    }
}

/// Reads everything below a node: the paths and the number of bytes.
async fn read_all(root: &Arc<dyn Directory>, at: &str) -> Result<Vec<(String, usize)>> {
    let mut found = Vec::new();
    let mut open = vec![(at.to_owned(), resolve(root, &path(at)).await?)];
    while let Some((at, node)) = open.pop() {
        match node {
            Node::Directory(directory) => {
                let entries: Vec<_> = directory.list(ListFields::ALL).try_collect().await?;
                for entry in entries {
                    assert!(entry.error.is_none() && entry.entry_type.is_some(), "{entry:?}");
                    let child = directory.get(&entry.name).await?;
                    open.push((
                        format!("{at}/{}", entry.name),
                        child.expect("what is listed is there"),
                    ));
                }
            }
            Node::File(file) => {
                let metadata = file.metadata().await?;
                let Some(mut stream) = file.bytes().await? else {
                    // A query, which has rows only.
                    assert!(metadata.entry_type.is_some() && metadata.size.is_none(), "{at}");
                    found.push((at, 0));
                    continue;
                };
                let mut bytes = 0;
                while let Some(chunk) = stream.next().await {
                    bytes += chunk?.len();
                }
                assert_eq!(metadata.size, i64::try_from(bytes).ok(), "{at}");
                found.push((at, bytes));
            }
            Node::Symlink(_) => {}
        }
    }
    found.sort();
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_factory_opens_lists_reads_refuses_changes_and_survives() {
    for factory in FACTORIES {
        let dir = tempfile::tempdir().unwrap();
        let options = sample(*factory, dir.path());
        let home = dir.path().join("pond");
        let tree = world(dir.path(), &home).await;
        let made = tree.create_node(node(*factory, "/n", options.clone()), None).await.unwrap();
        assert_eq!((made.status, made.txn), ("created", Some(2)));

        let snapshot = tree.snapshot().await.unwrap();
        let stored = tree.stored(&snapshot, &path("/n")).unwrap().unwrap();
        assert_eq!(stored.entry.dynamic_factory(), Some(factory.name()));
        assert_eq!(stored.entry.comment().as_deref(), Some("a sample"));
        let before = read_all(&tree.root(snapshot), "/n").await.unwrap();
        assert!(!before.is_empty());

        if stored.entry.entry_type == EntryType::Directory {
            let inside = &before[0].0;
            let attempts = [
                tree.mkdir(&path("/n/new"), true, None).await,
                tree.rename(&path(inside), &path("/stolen"), None).await,
                tree.create_node(node(*factory, "/n/new", options.clone()), None).await,
                tree.drop_nodes(
                    &[path(inside)],
                    DropNodes { recursive: true, ..DropNodes::default() },
                    None,
                )
                .await
                .map(|mut c| c.remove(0)),
            ];
            for error in attempts.map(Result::unwrap_err) {
                assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
                assert!(error.message().contains("'/n'"), "{error} names no mount");
            }
            let root = tree.root(tree.snapshot().await.unwrap());
            assert!(lookup(&root, &path("/n/nothing")).await.unwrap().is_none());
        }

        drop(tree);
        let tree = Tree::new(Pond::open(&home, FAST).await.unwrap());
        let snapshot = tree.snapshot().await.unwrap();
        assert_eq!(snapshot.txn(), 2, "a refused change was written");
        assert_eq!(read_all(&tree.root(snapshot), "/n").await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_factory_refuses_bad_options_before_it_writes() {
    for factory in FACTORIES {
        let dir = tempfile::tempdir().unwrap();
        let good = sample(*factory, dir.path());
        let tree = world(dir.path(), &dir.path().join("pond")).await;
        let mut bad = vec![(
            "unknown",
            [good.clone(), vec![("no_such_option".to_owned(), json!(1))]].concat(),
        )];
        for spec in factory.options() {
            let twice: Vec<_> =
                good.iter().filter(|(name, _)| name == spec.name).cloned().collect();
            bad.push(("ill-typed", vec![(spec.name.to_owned(), json!({"no": ["such", "type"]}))]));
            if !twice.is_empty() {
                let upper = (spec.name.to_uppercase(), twice[0].1.clone());
                bad.push(("twice", [good.clone(), vec![upper]].concat()));
            }
            if spec.required {
                let without = good.iter().filter(|(name, _)| name != spec.name).cloned().collect();
                bad.push(("missing", without));
            }
        }
        for (what, options) in bad {
            let error = tree.create_node(node(*factory, "/n", options), None).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error}");
        }
        assert_eq!(tree.snapshot().await.unwrap().txn(), 1, "{}", factory.name());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_whose_directory_is_gone_stays_listed_and_says_so_when_opened() {
    let dir = tempfile::tempdir().unwrap();
    let tree = Tree::new(Pond::init(&dir.path().join("pond"), FAST).await.unwrap());
    let hostmount = FACTORIES[0];
    let options = sample(hostmount, dir.path());
    tree.create_node(node(hostmount, "/n", options.clone()), None).await.unwrap();
    tree.create_node(node(hostmount, "/other", options), None).await.unwrap();
    std::fs::rename(dir.path().join("data"), dir.path().join("gone")).unwrap();

    let root = tree.root(tree.snapshot().await.unwrap());
    let names: Vec<String> =
        root.list(ListFields::ALL).map_ok(|entry| entry.name).try_collect().await.unwrap();
    assert_eq!(names, ["n", "other"]);
    let comment = pond::tree::AlterNode::Comment(Some("gone for now".to_owned()));
    tree.alter_node(&path("/n"), comment, None).await.unwrap();
    let error = resolve(&root, &path("/n")).await.unwrap_err();
    assert!(error.to_string().contains("data"), "{error} does not say what is gone");

    std::fs::rename(dir.path().join("gone"), dir.path().join("data")).unwrap();
    assert!(!read_all(&root, "/n").await.unwrap().is_empty());
}
