//! The tree against a model: random changes to a pond and to a `BTreeMap` of paths give the same tree
//! and the same errors, also after it is opened again with its cache or without it.

use std::collections::BTreeMap;

use pond::entry::{EntryType, NodeId};
use pond::path::PondPath;
use pond::pond::Pond;
use pond::snapshot::Snapshot;
use pond::transaction::NodeContent;
use proptest::prelude::*;

use crate::oplog::{FAST, path};

#[derive(Debug, Clone)]
enum Step {
    Mkdir(String),
    Write(String, u8),
    Update(String, u8),
    Remove(String, bool),
    Rename(String, String),
    Reopen { with_cache: bool },
}

/// `None` for a directory, the content of a file.
type Model = BTreeMap<String, Option<u8>>;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("ü %2F#1")];
    let path =
        proptest::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")));
    let step = prop_oneof![
        3 => path.clone().prop_map(Step::Mkdir),
        3 => (path.clone(), any::<u8>()).prop_map(|(path, byte)| Step::Write(path, byte)),
        2 => (path.clone(), any::<u8>()).prop_map(|(path, byte)| Step::Update(path, byte)),
        3 => (path.clone(), any::<bool>()).prop_map(|(path, recursive)| Step::Remove(path, recursive)),
        3 => (path.clone(), path).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => any::<bool>().prop_map(|with_cache| Step::Reopen { with_cache }),
    ];
    proptest::collection::vec(step, 1..60)
}

fn file(byte: u8) -> NodeContent {
    let content = bytes::Bytes::from(vec![byte]);
    let sha256 = pond::blob::sha256(&content);
    let stored = pond::blob::Stored { sha256, size: 1, content: Some(content), created: None };
    NodeContent::file(EntryType::FileData, stored, None)
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether something can be made at `path`: it is free, and only directories lie above it.
fn is_free(model: &Model, path: &str) -> bool {
    !model.contains_key(path)
        && model.iter().all(|(other, content)| content.is_none() || !is_below(path, other))
}

fn make_parents(model: &mut Model, path: &str) {
    for (at, _) in path.match_indices('/').skip(1) {
        model.insert(path[..at].to_owned(), None);
    }
}

/// Performs a step on the model; whether it can be done.
fn perform(model: &mut Model, step: &Step) -> bool {
    match step {
        Step::Mkdir(path) | Step::Write(path, _) if !is_free(model, path) => false,
        Step::Mkdir(path) => {
            make_parents(model, path);
            model.insert(path.clone(), None);
            true
        }
        Step::Write(path, byte) => {
            make_parents(model, path);
            model.insert(path.clone(), Some(*byte));
            true
        }
        Step::Update(path, byte) => match model.get_mut(path) {
            Some(Some(content)) => {
                *content = *byte;
                true
            }
            _ => false,
        },
        Step::Remove(path, recursive) => {
            let holds = model.keys().any(|other| is_below(other, path));
            if !model.contains_key(path) || (holds && !recursive) {
                return false;
            }
            model.retain(|other, _| other != path && !is_below(other, path));
            true
        }
        Step::Rename(from, to) => {
            if !model.contains_key(from) || !is_free(model, to) || is_below(to, from) {
                return false;
            }
            make_parents(model, to);
            let moved: Vec<String> = model
                .keys()
                .filter(|other| *other == from || is_below(other, from))
                .cloned()
                .collect();
            for old in moved {
                let content = model.remove(&old).unwrap();
                model.insert(format!("{to}{}", &old[from.len()..]), content);
            }
            true
        }
        Step::Reopen { .. } => true,
    }
}

async fn commit(pond: &Pond, step: &Step) -> pond::Result<()> {
    let mut transaction = pond.begin(None).await?;
    match step {
        Step::Mkdir(text) => transaction.mkdir(&path(text))?,
        Step::Write(text, byte) => transaction.create(&path(text), file(*byte))?,
        Step::Update(text, byte) => {
            if let pond::snapshot::Located::Found(entry) = transaction.view().locate(&path(text))?
                && entry.entry_type == EntryType::Directory
            {
                return Err(pond::Error::invalid("a directory"));
            }
            transaction.update(&path(text), file(*byte))?;
        }
        Step::Remove(text, recursive) => transaction.remove(&path(text), *recursive)?,
        Step::Rename(from, to) => transaction.rename(&path(from), &path(to))?,
        Step::Reopen { .. } => {}
    }
    pond.commit(transaction).await?;
    Ok(())
}

fn tree(snapshot: &Snapshot, at: &PondPath, id: NodeId, model: &mut Model) {
    for child in snapshot.children(id) {
        let child = child.unwrap();
        let path = at.child(&child.name);
        assert_eq!(snapshot.path_of(child.node_id).unwrap().as_ref(), Some(&path));
        let content = child.content.as_ref().map(|content| content[0]);
        model.insert(path.to_string(), content);
        tree(snapshot, &path, child.node_id, model);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn random_changes_give_the_tree_of_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut pond = Pond::init(dir.path(), FAST).await.unwrap();
            let mut model = Model::new();
            for step in &steps {
                if let Step::Reopen { with_cache } = step {
                    drop(pond);
                    if !with_cache {
                        std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
                    }
                    pond = Pond::open(dir.path(), FAST).await.unwrap();
                }
                let mut wanted = model.clone();
                let possible = perform(&mut wanted, step);
                let done = commit(&pond, step).await;
                assert_eq!(done.is_ok(), possible, "{step:?} on {model:?}: {done:?}");
                if possible {
                    model = wanted;
                }
                let mut seen = Model::new();
                let snapshot = pond.snapshot().await.unwrap();
                tree(&snapshot, &PondPath::root(), NodeId::ROOT, &mut seen);
                assert_eq!(seen, model, "after {step:?}");
            }
        });
    }
}
