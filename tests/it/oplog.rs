//! The oplog as others see it: as a Delta table, from two handles, after maintenance, without its
//! cache, and as an older version wrote it.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Int64Type;
use datafusion::prelude::SessionContext;
use pond::ErrorKind;
use pond::path::PondPath;
use pond::pond::{Pond, PondOptions};
use pond::snapshot::{Located, Snapshot};
use pond::store::Durability;
use url::Url;

pub const FAST: PondOptions = PondOptions { durability: Durability::Process };

pub fn path(text: &str) -> PondPath {
    PondPath::parse(text).unwrap()
}

pub async fn mkdir(pond: &Pond, text: &str) -> pond::Result<i64> {
    let mut transaction = pond.begin(Some(format!("mkdir {text}"))).await?;
    transaction.mkdir(&path(text))?;
    Ok(pond.commit(transaction).await?.txn)
}

pub fn exists(snapshot: &Snapshot, text: &str) -> bool {
    matches!(snapshot.locate(&path(text)).unwrap(), Located::Found(_))
}

/// Counts rows and transactions through delta-rs's own table provider.
async fn delta_rows(dir: &Path) -> (i64, i64) {
    let url = Url::from_directory_path(dir.join("oplog")).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    let context = SessionContext::new();
    context.register_table("oplog", table.table_provider().await.unwrap()).unwrap();
    let batches = context
        .sql("SELECT count(*), count(DISTINCT txn) FROM oplog WHERE name IS NOT NULL")
        .await
        .unwrap()
        .collect()
        .await
        .unwrap();
    let number = |column| batches[0].column(column).as_primitive::<Int64Type>().value(0);
    (number(0), number(1))
}

fn log_files(dir: &Path) -> (usize, usize) {
    let names: Vec<String> = std::fs::read_dir(dir.join("oplog/_delta_log"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let count = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    (count(".json"), count(".checkpoint.parquet"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_reads_the_same_through_delta_rs_whatever_maintenance_did() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    for number in 1..=150 {
        assert_eq!(mkdir(&pond, &format!("/d{number}")).await.unwrap(), number);
        if [1, 31, 33, 100, 150].contains(&number) {
            assert_eq!(delta_rows(dir.path()).await, (number, number));
        }
    }
    let (json, checkpoints) = log_files(dir.path());
    assert!(json <= 3 * 32 && checkpoints <= 2, "{json} log files, {checkpoints} checkpoints");

    let log = pond.log().await.unwrap();
    assert_eq!(log.len(), 150);
    assert_eq!(log[41].message.as_deref(), Some("mkdir /d42"));
    assert!(log.windows(2).all(|pair| pair[0].timestamp < pair[1].timestamp));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pond_opens_to_the_same_tree_with_its_cache_and_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    for number in 1..=700 {
        mkdir(&pond, &format!("/a/{}/d{number}", number % 7)).await.unwrap();
    }
    drop(pond);
    let tree = |snapshot: &Snapshot| {
        let mut names = Vec::new();
        for parent in 0..7 {
            let Located::Found(entry) = snapshot.locate(&path(&format!("/a/{parent}"))).unwrap()
            else {
                panic!("/a/{parent} is missing")
            };
            for child in snapshot.children(entry.node_id) {
                names.push(child.unwrap().name);
            }
        }
        (snapshot.txn(), names)
    };
    let cached = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
    assert!(
        std::fs::read_dir(dir.path().join("cache/namespace")).unwrap().count() >= 3,
        "the namespace has its layers"
    );
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
    let folded = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
    assert_eq!(tree(&cached), tree(&folded));
    assert_eq!(tree(&cached).1.len(), 700);

    // Any damage to the cache is noticed, or its file is named.
    let head = dir.path().join("cache/namespace/head");
    let bytes = std::fs::read(&head).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 40) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&head, &damaged).unwrap();
        let snapshot = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
        assert_eq!(tree(&snapshot), tree(&folded), "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_writers_of_one_path_one_wins_and_of_two_paths_both_do() {
    let dir = tempfile::tempdir().unwrap();
    let first = Pond::init(dir.path(), FAST).await.unwrap();
    let second = Pond::open(dir.path(), FAST).await.unwrap();

    let mut one = first.begin(None).await.unwrap();
    let mut two = second.begin(None).await.unwrap();
    one.mkdir(&path("/new/same")).unwrap();
    two.mkdir(&path("/new/same")).unwrap();
    first.commit(one).await.unwrap();
    let error = second.commit(two).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("'/new/same'"), "{error}");

    // Both make the missing parent '/fresh'.
    let mut one = first.begin(None).await.unwrap();
    let mut two = second.begin(None).await.unwrap();
    one.mkdir(&path("/fresh/one")).unwrap();
    two.mkdir(&path("/fresh/two")).unwrap();
    first.commit(one).await.unwrap();
    second.commit(two).await.unwrap();
    let snapshot = first.snapshot().await.unwrap();
    assert!(exists(&snapshot, "/fresh/one") && exists(&snapshot, "/fresh/two"));

    // Removing a tree in which another has just written.
    let mut one = first.begin(None).await.unwrap();
    let mut two = second.begin(None).await.unwrap();
    one.mkdir(&path("/fresh/three")).unwrap();
    two.remove(&path("/fresh"), true).unwrap();
    first.commit(one).await.unwrap();
    assert_eq!(second.commit(two).await.unwrap_err().kind(), ErrorKind::Conflict);

    // Writing into a directory that another has just moved away.
    let mut one = first.begin(None).await.unwrap();
    let mut two = second.begin(None).await.unwrap();
    one.rename(&path("/fresh"), &path("/moved")).unwrap();
    two.mkdir(&path("/fresh/four")).unwrap();
    first.commit(one).await.unwrap();
    assert_eq!(second.commit(two).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(exists(&second.snapshot().await.unwrap(), "/moved/three"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_slept_through_the_clean_up_of_the_log_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let awake = Pond::init(dir.path(), FAST).await.unwrap();
    let asleep = Pond::open(dir.path(), FAST).await.unwrap();
    let mut late = asleep.begin(None).await.unwrap();
    late.mkdir(&path("/late")).unwrap();
    for number in 1..=100 {
        mkdir(&awake, &format!("/d{number}")).await.unwrap();
    }
    assert!(!dir.path().join("oplog/_delta_log/00000000000000000001.json").exists());
    assert_eq!(asleep.commit(late).await.unwrap().txn, 101);
    assert!(!dir.path().join("oplog/_delta_log/00000000000000000001.json").exists());
    for pond in [&awake, &asleep, &Pond::open(dir.path(), FAST).await.unwrap()] {
        let snapshot = pond.snapshot().await.unwrap();
        assert!(exists(&snapshot, "/late") && exists(&snapshot, "/d100"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_builds_on_a_commit_in_a_hole_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let awake = Pond::init(dir.path(), FAST).await.unwrap();
    let asleep = Pond::open(dir.path(), FAST).await.unwrap();
    for number in 1..=100 {
        mkdir(&awake, &format!("/d{number}")).await.unwrap();
    }
    // Another late writer won the free name and was killed before it could take its file back.
    let log = |version: i64| dir.path().join(format!("oplog/_delta_log/{version:020}.json"));
    let newest = (1..200).rev().find(|version| log(*version).exists()).unwrap();
    std::fs::copy(log(newest), log(1)).unwrap();
    assert_eq!(mkdir(&asleep, "/late").await.unwrap(), 101);
    let snapshot = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
    assert!(exists(&snapshot, "/late") && exists(&snapshot, "/d100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_a_layer_of_the_cache_costs_one_error_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    for number in 1..=700 {
        mkdir(&pond, &format!("/d{number}")).await.unwrap();
    }
    drop(pond);
    let count = async || {
        let snapshot = Pond::open(dir.path(), FAST).await?.snapshot().await?;
        snapshot
            .children(pond::entry::NodeId::ROOT)
            .try_fold(0, |count, child| child.map(|_| count + 1))
    };
    let layers = || {
        let files = std::fs::read_dir(dir.path().join("cache/namespace")).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "index"))
            .collect()
    };
    for at in [20_000, 100, usize::MAX] {
        let layers: Vec<std::path::PathBuf> = layers();
        assert!(!layers.is_empty());
        for layer in layers {
            let mut bytes = std::fs::read(&layer).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 1;
            std::fs::write(&layer, bytes).unwrap();
        }
        let first: pond::Result<i32> = count().await;
        assert!(
            first.as_ref().map_or_else(|e| e.kind() == ErrorKind::Corrupt, |n| *n == 700),
            "{first:?}"
        );
        for _ in 0..2 {
            let again = count().await;
            if again.is_err() {
                continue;
            }
            assert_eq!(again.unwrap(), 700);
        }
        assert_eq!(count().await.unwrap(), 700, "byte {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_without_the_factory_column_opens_and_its_rows_are_static() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    mkdir(&pond, "/old").await.unwrap();
    drop(pond);
    drop_column(dir.path(), "factory");
    std::fs::remove_dir_all(dir.path().join("cache")).unwrap();

    let pond = Pond::open(dir.path(), FAST).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    let Located::Found(old) = snapshot.locate(&path("/old")).unwrap() else { panic!("missing") };
    assert_eq!((old.factory.as_deref(), old.dynamic_factory()), (None, None));

    // The first commit gives the table the column, also for other readers.
    mkdir(&pond, "/new").await.unwrap();
    let reopened = Pond::open(dir.path(), FAST).await.unwrap();
    let snapshot = reopened.snapshot().await.unwrap();
    let Located::Found(new) = snapshot.locate(&path("/new")).unwrap() else { panic!("missing") };
    assert_eq!(new.factory.as_deref(), Some("tlogfs"));
    assert_eq!(delta_rows(dir.path()).await, (2, 2));
}

/// Returns the text of a log file as it was written before log files had seals and data files checks.
pub fn without_checks(text: &str) -> String {
    let mut text = text.to_owned();
    for (from, to) in [(",\"seal\":{", "}"), ("\"tags\":{", "},")] {
        if let Some(at) = text.find(from) {
            let end = at + text[at..].find(to).unwrap() + to.len();
            text.replace_range(at..end, "");
        }
    }
    text
}

/// Rewrites the table of a pond with one commit as if `column` had never been thought of.
fn drop_column(dir: &Path, column: &str) {
    use datafusion::parquet::arrow::ArrowWriter;
    use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    let oplog = dir.join("oplog");
    for entry in std::fs::read_dir(&oplog).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "parquet") {
            continue;
        }
        let bytes = bytes::Bytes::from(std::fs::read(&file).unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batches: Vec<_> = reader.map(|batch| batch.unwrap()).collect();
        let schema = batches[0].schema();
        let keep: Vec<usize> =
            (0..schema.fields().len()).filter(|at| schema.field(*at).name() != column).collect();
        let batch = batches[0].project(&keep).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let log = oplog.join("_delta_log/00000000000000000001.json");
        let text = without_checks(&std::fs::read_to_string(&log).unwrap());
        assert!(text.contains(name) && !text.contains("crc32"), "{text}");
        let size = format!("\"size\":{}", std::fs::metadata(&file).unwrap().len());
        std::fs::write(&log, text.replace(&size, &format!("\"size\":{}", bytes.len()))).unwrap();
        std::fs::write(&file, bytes).unwrap();
    }
    let log = oplog.join("_delta_log/00000000000000000000.json");
    let text = without_checks(&std::fs::read_to_string(&log).unwrap());
    let field = format!(
        "{{\\\"metadata\\\":{{}},\\\"name\\\":\\\"{column}\\\",\\\"nullable\\\":true,\\\"type\\\":\\\"string\\\"}},"
    );
    assert!(text.contains(&field), "{text}");
    std::fs::write(&log, text.replace(&field, "")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn opening_after_a_thousand_commits_reads_few_log_files() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    for number in 1..=1000 {
        mkdir(&pond, &format!("/d{number}")).await.unwrap();
    }
    // Without a cache at most the commits since the checkpoint before the last are there to read,
    // and compaction keeps the table to a few files whatever its history.
    let (json, checkpoints) = log_files(dir.path());
    assert!(json <= 2 * 34 && checkpoints <= 2, "{json} log files, {checkpoints} checkpoints");
    let url = Url::from_directory_path(dir.path().join("oplog")).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    let files = table.get_file_uris().unwrap().count();
    assert!(files <= 3 * 32, "{files} files");
    let _: Arc<Snapshot> = pond.snapshot().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_knows_more_than_the_oplog_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let pond = Pond::init(dir.path(), FAST).await.unwrap();
    for number in 1..=5 {
        mkdir(&pond, &format!("/kept{number}")).await.unwrap();
    }
    let log = |version| dir.path().join(format!("oplog/_delta_log/{version:020}.json"));
    for number in 6..=8 {
        mkdir(&pond, &format!("/lost{number}")).await.unwrap();
    }
    drop(pond);
    // What a power cut does to commits that were not synced; the cache survived it.
    for version in 6..=8 {
        std::fs::remove_file(log(version)).unwrap();
    }
    let pond = Pond::open(dir.path(), FAST).await.unwrap();
    let snapshot = pond.snapshot().await.unwrap();
    assert_eq!(snapshot.txn(), 5);
    assert!(exists(&snapshot, "/kept5") && !exists(&snapshot, "/lost6"));
    assert_eq!(mkdir(&pond, "/next").await.unwrap(), 6);
    assert!(log(6).exists() && !log(9).exists());
    assert_eq!(delta_rows(dir.path()).await, (6, 6));

    // As many commits as the cache knew of, but other ones.
    let head = dir.path().join("cache/namespace/head");
    let old = std::fs::read(&head).unwrap();
    std::fs::remove_file(log(6)).unwrap();
    std::fs::remove_file(&head).unwrap();
    let pond = Pond::open(dir.path(), FAST).await.unwrap();
    mkdir(&pond, "/other").await.unwrap();
    std::fs::write(&head, old).unwrap();
    let snapshot = Pond::open(dir.path(), FAST).await.unwrap().snapshot().await.unwrap();
    assert!(exists(&snapshot, "/other") && !exists(&snapshot, "/next"));
}

/// An object store in memory that notes each request.
#[derive(Debug, Default)]
struct Counting {
    inner: object_store::memory::InMemory,
    requests: std::sync::Mutex<Vec<String>>,
}

impl Counting {
    fn note(&self, verb: &str, what: impl std::fmt::Display) {
        self.requests.lock().unwrap().push(format!("{verb} {what}"));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

impl std::fmt::Display for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Counting")
    }
}

mod counting {
    use super::Counting;
    use futures::stream::BoxStream;
    use object_store::path::Path;
    use object_store::*;

    #[async_trait::async_trait]
    impl ObjectStore for Counting {
        async fn put_opts(
            &self,
            at: &Path,
            payload: PutPayload,
            options: PutOptions,
        ) -> Result<PutResult> {
            self.note("put", at);
            self.inner.put_opts(at, payload, options).await
        }
        async fn put_multipart_opts(
            &self,
            at: &Path,
            options: PutMultipartOptions,
        ) -> Result<Box<dyn MultipartUpload>> {
            self.note("put", at);
            self.inner.put_multipart_opts(at, options).await
        }
        async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
            self.note(if options.head { "head" } else { "get" }, at);
            self.inner.get_opts(at, options).await
        }
        fn delete_stream(
            &self,
            locations: BoxStream<'static, Result<Path>>,
        ) -> BoxStream<'static, Result<Path>> {
            self.inner.delete_stream(locations)
        }
        fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.note("list", "");
            self.inner.list(prefix)
        }
        fn list_with_offset(
            &self,
            prefix: Option<&Path>,
            offset: &Path,
        ) -> BoxStream<'static, Result<ObjectMeta>> {
            self.note("list", "");
            self.inner.list_with_offset(prefix, offset)
        }
        async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
            self.note("list", "");
            self.inner.list_with_delimiter(prefix).await
        }
        async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
            self.inner.copy_opts(from, to, options).await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_two_files_and_no_listing_and_two_thousand_are_few_to_open() {
    use pond::entry::{EntryType, NodeId, OplogEntry};
    use pond::oplog::{Oplog, Written};
    let store = Arc::new(Counting::default());
    let oplog = Oplog::new(store.clone(), store.clone(), &Url::parse("memory:///").unwrap());
    let mut state = oplog.create().await.unwrap();
    for txn in 1..=2000 {
        let name = format!("n{txn}");
        let mut row = OplogEntry::new(NodeId::create(), NodeId::ROOT, &name, EntryType::Directory);
        (row.txn, row.timestamp) = (txn, txn);
        store.take();
        let Written::Done(commit) = oplog.write(&state, vec![row]).await.unwrap() else {
            panic!("nobody else writes")
        };
        let requests = store.take();
        let count = |verb| requests.iter().filter(|request| request.starts_with(verb)).count();
        assert_eq!((count("put"), count("list"), count("get")), (2, 0, 0), "{requests:?}");
        state.apply(&commit).unwrap();
        if oplog.needs_maintenance(&state) {
            oplog.maintain(&mut state).await.unwrap();
            assert!(store.take().iter().all(|request| !request.starts_with("list")));
        }
    }
    store.take();
    let loaded = oplog.load().await.unwrap();
    assert_eq!((loaded.version, loaded.txn), (state.version, 2000));
    let read: std::collections::HashSet<String> = store
        .take()
        .into_iter()
        .filter(|request| request.starts_with("get") && request.contains("_delta_log"))
        .collect();
    assert!(read.len() <= 40, "{} log files were read: {read:?}", read.len());
    assert!(loaded.files.len() <= 64, "{} data files", loaded.files.len());
}
