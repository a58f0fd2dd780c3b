//! The tree against models: random changes to a pond and to a `BTreeMap` of paths give the same tree
//! and the same errors, also after it is opened again with its cache or without it.
//!
//! The first model is of single changes of stored nodes; the second is of all verbs, in transactions
//! of several, with links, series and the past: it is compared after each verb and, at the end, with
//! every transaction there ever was.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{RecordBatch, TimestampMicrosecondArray};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, StreamExt, TryStreamExt};
use pond::entry::{EntryType, NodeId, OplogEntry};
use pond::path::PondPath;
use pond::pond::{At, Pond};
use pond::snapshot::{Located, Snapshot};
use pond::transaction::NodeContent;
use pond::tree::{DropNodes, Edit, Engine, Tree, WriteMode, read_node};
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

/// What a node of the whole tree is.
#[derive(Debug, Clone, PartialEq)]
enum Held {
    Directory,
    /// A byte, and how often.
    Data(u8, usize),
    /// The times in each version.
    Series(Vec<Vec<i64>>),
    Link(String),
}

type Whole = BTreeMap<String, Held>;

/// One verb.
#[derive(Debug, Clone)]
enum Verb {
    Put(String, u8, bool),
    Append(String, u8),
    Copy(String, String),
    Link(String, String),
    Move(String, String),
    Remove(String, bool),
    Mkdir(String, bool),
    Restore(String, u8),
}

/// What happens between two looks at the tree.
#[derive(Debug, Clone)]
enum Act {
    /// One transaction.
    Commit(Vec<Verb>),
    /// One that is dropped.
    Abandon(Vec<Verb>),
    Reopen {
        with_cache: bool,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("ü @v1")];
    let path =
        proptest::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")));
    let target = prop_oneof![
        path.clone(),
        Just("a".to_owned()),
        Just("../b".to_owned()),
        Just("b/a".to_owned())
    ];
    let verb = prop_oneof![
        4 => (path.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(path, byte, large)| Verb::Put(path, byte, large)),
        2 => (path.clone(), 1..4_u8).prop_map(|(path, rows)| Verb::Append(path, rows)),
        3 => (path.clone(), path.clone()).prop_map(|(from, to)| Verb::Copy(from, to)),
        2 => (path.clone(), target).prop_map(|(path, target)| Verb::Link(path, target)),
        3 => (path.clone(), path.clone()).prop_map(|(from, to)| Verb::Move(from, to)),
        2 => (path.clone(), any::<bool>()).prop_map(|(path, all)| Verb::Remove(path, all)),
        3 => (path.clone(), any::<bool>()).prop_map(|(path, all)| Verb::Mkdir(path, all)),
        2 => (prop_oneof![Just("/".to_owned()), path], any::<u8>())
            .prop_map(|(path, back)| Verb::Restore(path, back)),
    ];
    let verbs = proptest::collection::vec(verb, 1..5);
    let act = prop_oneof![
        8 => verbs.clone().prop_map(Act::Commit),
        1 => verbs.prop_map(Act::Abandon),
        1 => any::<bool>().prop_map(|with_cache| Act::Reopen { with_cache }),
    ];
    proptest::collection::vec(act, 1..20)
}

/// Where a path leads: `Ok` with the path without links, the last name not followed; `Err` if it
/// leads through a file or round in a circle.
fn place(tree: &Whole, path: &str) -> Result<String, ()> {
    let mut wanted: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let (mut at, mut links) = (String::new(), 0);
    while let Some(name) = wanted.pop() {
        if name.is_empty() {
            continue;
        }
        let child = format!("{at}/{name}");
        match tree.get(&child) {
            Some(Held::Link(target)) if !wanted.is_empty() => {
                links += 1;
                if links > 40 {
                    return Err(());
                }
                let target = joined(&at, target);
                wanted.extend(target.split('/').rev().map(str::to_owned));
                at.clear();
            }
            Some(Held::Data(..) | Held::Series(_)) if !wanted.is_empty() => return Err(()),
            _ => at = child,
        }
    }
    Ok(if at.is_empty() { "/".to_owned() } else { at })
}

/// A link's target as an absolute path.
fn joined(directory: &str, target: &str) -> String {
    let directory = if directory.is_empty() { "/" } else { directory };
    path(directory).join(target).unwrap().to_string()
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// As [`place`], the last name followed, too; also the path by which it was found.
fn followed(tree: &Whole, path: &str) -> Result<(String, String), ()> {
    let mut by = path.to_owned();
    for _ in 0..40 {
        let at = place(tree, &by)?;
        match tree.get(&at) {
            Some(Held::Link(target)) => by = joined(parent(&at), target),
            _ => return Ok((at, by)),
        }
    }
    Err(())
}

fn is_at_or_below(path: &str, directory: &str) -> bool {
    directory == "/" || path == directory || is_below(path, directory)
}

/// Makes a node at a free place, and what is missing above it.
fn make(tree: &mut Whole, at: &str, held: Held) -> Result<(), ()> {
    if at == "/" || tree.contains_key(at) {
        return Err(());
    }
    for (end, _) in at.match_indices('/').skip(1) {
        tree.entry(at[..end].to_owned()).or_insert(Held::Directory);
    }
    tree.insert(at.to_owned(), held);
    Ok(())
}

fn take(tree: &mut Whole, at: &str) -> Vec<(String, Held)> {
    let taken: Vec<String> = tree.keys().filter(|path| is_at_or_below(path, at)).cloned().collect();
    let at = at.trim_end_matches('/');
    taken
        .into_iter()
        .map(|path| {
            let held = tree.remove(&path).unwrap();
            (path[at.len()..].to_owned(), held)
        })
        .collect()
}

fn plant(tree: &mut Whole, at: &str, taken: Vec<(String, Held)>) {
    let at = at.trim_end_matches('/');
    tree.extend(taken.into_iter().map(|(below, held)| (format!("{at}{below}"), held)));
}

fn size(byte: u8, large: bool) -> usize {
    if large { 70_000 } else { usize::from(byte) + 1 }
}

/// Does to the model what a verb does; whether it can be done. `past` are the trees of before.
fn wanted(tree: &mut Whole, verb: &Verb, past: &[Whole], times: i64) -> Result<(), ()> {
    match verb {
        Verb::Put(path, byte, large) => {
            let (at, _) = followed(tree, path)?;
            let held = Held::Data(*byte, size(*byte, *large));
            match tree.get_mut(&at) {
                Some(there @ Held::Data(..)) => *there = held,
                Some(_) => return Err(()),
                None => make(tree, &at, held)?,
            }
        }
        Verb::Append(path, rows) => {
            let (at, _) = followed(tree, path)?;
            let rows = rows_of(*rows, times);
            match tree.get_mut(&at) {
                Some(Held::Series(versions)) => versions.push(rows),
                Some(_) => return Err(()),
                None => make(tree, &at, Held::Series(vec![rows]))?,
            }
        }
        Verb::Copy(from, to) => {
            let (at, _) = followed(tree, from)?;
            let held = tree.get(&at).cloned().ok_or(())?;
            let into_itself = is_at_or_below(to, from)
                || place(tree, to).is_ok_and(|to| is_at_or_below(&to, &at));
            if held == Held::Directory && into_itself {
                return Err(());
            }
            let to = place(tree, to)?;
            match (held, tree.get_mut(&to)) {
                (held @ Held::Data(..), Some(there @ Held::Data(..))) => *there = held,
                (_, Some(_)) => return Err(()),
                (held, None) => {
                    let copy = take(&mut tree.clone(), &at);
                    make(tree, &to, held)?;
                    plant(tree, &to, copy);
                }
            }
        }
        Verb::Link(path, target) => {
            let at = place(tree, path)?;
            make(tree, &at, Held::Link(target.clone()))?;
        }
        Verb::Move(from, to) => {
            let at = place(tree, from)?;
            let held = tree.get(&at).cloned().ok_or(())?;
            if from != to {
                let (written, to) = (to, place(tree, to)?);
                // Also where the text of the path says so, and its links lead out again.
                let is_link = matches!(held, Held::Link(_));
                let says_so = !is_link && is_at_or_below(written, from);
                let into_itself = is_at_or_below(&to, &at) || says_so;
                if into_itself || tree.contains_key(&to) {
                    return Err(());
                }
                make(tree, &to, held)?;
                let moved = take(tree, &at);
                plant(tree, &to, moved);
            }
        }
        Verb::Remove(path, all) => {
            let at = place(tree, path)?;
            let holds = tree.keys().any(|other| is_below(other, &at));
            if !tree.contains_key(&at) || (holds && !all) {
                return Err(());
            }
            take(tree, &at);
        }
        Verb::Mkdir(path, all) => {
            let at = place(tree, path)?;
            match tree.get(&at) {
                Some(Held::Directory) if *all => {}
                Some(_) => return Err(()),
                None if !all && !parent(&at).is_empty() && !tree.contains_key(parent(&at)) => {
                    return Err(());
                }
                None => make(tree, &at, Held::Directory)?,
            }
        }
        Verb::Restore(path, back) => {
            let past = &past[usize::from(*back) % past.len()];
            let then = place(past, path)?;
            if then != "/" && !past.contains_key(&then) {
                return Err(());
            }
            let now = place(tree, path)?;
            take(tree, &now);
            if now != "/" {
                make(tree, &now, past.get(&then).cloned().unwrap_or(Held::Directory))?;
            }
            plant(tree, &now, take(&mut past.clone(), &then));
        }
    }
    Ok(())
}

/// The times of the rows of an append; `first` keeps those of different appends apart.
fn rows_of(rows: u8, first: i64) -> Vec<i64> {
    (0..i64::from(rows)).map(|row| first * 1000 + row).collect()
}

async fn carry_out(edit: &mut Edit, verb: &Verb, past: usize, times: i64) -> pond::Result<()> {
    match verb {
        Verb::Put(text, byte, large) => {
            let bytes = Bytes::from(vec![*byte; size(*byte, *large)]);
            let bytes = stream::once(std::future::ready(Ok(bytes))).boxed();
            edit.write_bytes(&path(text), WriteMode::Replace, bytes).await?;
        }
        Verb::Append(text, rows) => {
            let times = TimestampMicrosecondArray::from(rows_of(*rows, times));
            let batch = RecordBatch::try_from_iter([("timestamp", Arc::new(times) as _)]).unwrap();
            let (schema, rows) = (batch.schema(), stream::iter([Ok(batch)]));
            let rows = Box::pin(RecordBatchStreamAdapter::new(schema, rows));
            let series = Some(EntryType::FileSeries);
            let mode = match edit.snapshot().locate(&path(text))? {
                // Links are followed by the verb itself.
                Located::Missing { .. } => WriteMode::Create,
                _ if leads_nowhere(edit, text).await => WriteMode::Create,
                _ => WriteMode::Append,
            };
            edit.write_table(&path(text), mode, series, None, rows).await?;
        }
        Verb::Copy(from, to) => {
            edit.copy(&path(from), None, &path(to), &Arc::default(), &Arc::default()).await?;
        }
        Verb::Link(text, target) => drop(edit.symlink(&path(text), target).await?),
        Verb::Move(from, to) => drop(edit.rename(&path(from), &path(to)).await?),
        Verb::Remove(text, all) => drop(
            edit.drop_nodes(&[path(text)], DropNodes { recursive: *all, ..DropNodes::default() })
                .await?,
        ),
        Verb::Mkdir(text, all) => drop(edit.mkdir(&path(text), *all).await?),
        Verb::Restore(text, back) => {
            let txn = i64::try_from(usize::from(*back) % past).unwrap();
            edit.restore(&path(text), At::Version(txn)).await?;
        }
    }
    Ok(())
}

async fn leads_nowhere(edit: &Edit, text: &str) -> bool {
    let root = edit.tree().root(edit.snapshot());
    pond::node::lookup(&root, &path(text)).await.is_ok_and(|node| node.is_none())
}

/// Reads a whole tree; of a series, how many rows each of its versions says it has.
async fn seen(tree: &Tree, snapshot: &Arc<Snapshot>) -> Whole {
    let mut all = Whole::new();
    for node in tree.stored_below(snapshot, &PondPath::root(), true).unwrap() {
        let entry = &node.entry;
        let held = match entry.entry_type {
            EntryType::Directory => Held::Directory,
            EntryType::Symlink => {
                Held::Link(String::from_utf8(entry.content.clone().unwrap().to_vec()).unwrap())
            }
            EntryType::FileSeries => {
                let versions = snapshot.versions(entry.node_id).map(|row| times_of(&row.unwrap()));
                Held::Series(versions.collect())
            }
            _ => {
                let root = tree.root(snapshot.clone());
                let bytes = read_node(&root, &node.path, &Engine::default()).await.unwrap();
                let bytes: Vec<Bytes> = bytes.try_collect().await.unwrap();
                let bytes = bytes.concat();
                assert!(bytes.iter().all(|byte| *byte == bytes[0]));
                Held::Data(bytes[0], bytes.len())
            }
        };
        all.insert(node.path.to_string(), held);
    }
    all
}

/// The times in a version: an append's are consecutive.
fn times_of(row: &OplogEntry) -> Vec<i64> {
    (row.min_time.unwrap()..=row.max_time.unwrap()).collect()
}

/// How many cases to try: more than `usual` with `PROPTEST_CASES`.
fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn verbs_give_the_tree_of_the_model_at_every_transaction(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1)
            .enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut tree = Tree::new(Pond::init(dir.path(), FAST).await.unwrap());
            let mut past = vec![Whole::new()];
            let mut times = 0;
            for act in &acts {
                let verbs = match act {
                    Act::Commit(verbs) | Act::Abandon(verbs) => verbs,
                    Act::Reopen { with_cache } => {
                        drop(tree);
                        if !with_cache {
                            std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
                        }
                        tree = Tree::new(Pond::open(dir.path(), FAST).await.unwrap());
                        continue;
                    }
                };
                let mut model = past.last().unwrap().clone();
                let mut edit = tree.begin(None).await.unwrap();
                for verb in verbs {
                    times += 1;
                    let mut after = model.clone();
                    let possible = wanted(&mut after, verb, &past, times).is_ok();
                    let done = carry_out(&mut edit, verb, past.len(), times).await;
                    assert_eq!(done.is_ok(), possible, "{verb:?} on {model:?}: {done:?}");
                    if possible {
                        model = after;
                    }
                    assert_eq!(seen(&tree, &edit.snapshot()).await, model, "after {verb:?}");
                }
                if matches!(act, Act::Abandon(_)) || edit.is_empty() {
                    continue;
                }
                edit.commit().await.unwrap();
                past.push(model);
            }
            for (txn, model) in past.iter().enumerate() {
                let at = At::Version(i64::try_from(txn).unwrap());
                let then = tree.as_of(at).await.unwrap();
                assert_eq!(&seen(&tree, &then).await, model, "as of {txn}");
            }
            let newest = tree.snapshot().await.unwrap();
            assert_eq!(newest.txn(), i64::try_from(past.len()).unwrap() - 1);
        });
    }
}
