//! Conversions of CSV in the cache: what was kept is served while it is whole and of the same text, by
//! whatever process, and never otherwise; what nothing needs goes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::prelude::SessionContext;
use object_store::ObjectMeta;
use pond::ErrorKind;
use pond::cache::{Cache, Conversion, ConvertedFile, SourceIdentity, conversion_key};
use pond::entry::{EntryType, now_micros};
use pond::format::{
    Compression, CsvOptions, Dialect, Encoding, Layout, OnError, TableFormat, TableSource,
    TableWriter, stored_table,
};
use pond::keep::parse_size;
use tempfile::TempDir;
use twox_hash::XxHash3_128;

use crate::cli::{run, shell, stderr, stdout};
use crate::oplog::path;
use crate::world::init;

const HOUR: i64 = 3_600_000_000;

/// A cache in a directory of its own.
struct World {
    dir: TempDir,
    cache: Cache,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { cache: Cache::at(dir.path().join("cache")), dir }
    }

    /// The cache as another process sees it.
    fn again(&self) -> Cache {
        Cache::at(self.dir.path().join("cache"))
    }

    fn csv(&self) -> PathBuf {
        self.dir.path().join("cache/csv")
    }

    fn record(&self, name: &str) -> PathBuf {
        self.csv().join(format!("{}.json", key(&text(name, 1))))
    }

    /// The files of the conversion of a text.
    fn files(&self, name: &str) -> Vec<PathBuf> {
        let kept = self.cache.conversions().unwrap();
        let kept = kept.into_iter().filter(|kept| kept.path == format!("/raw/{name}"));
        let files = kept.flat_map(|kept| kept.files);
        files.map(|file| self.csv().join("files").join(file.name)).collect()
    }

    async fn convert(&self, name: &str, rows: i64) -> String {
        self.convert_at(name, rows, now_micros()).await
    }

    /// Converts a text to so many rows, at a time.
    async fn convert_at(&self, name: &str, rows: i64, at: i64) -> String {
        convert(&self.cache, &text(name, 1), rows, at).await
    }

    /// Returns how many rows are served of a text.
    fn served(&self, name: &str) -> Option<u64> {
        served(&self.cache, name)
    }

    fn served_again(&self, name: &str) -> Option<u64> {
        served(&self.again(), name)
    }

    /// Makes all that is there old.
    fn age(&self) {
        for dir in [self.csv(), self.csv().join("files")] {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    set_age(&path, 700);
                }
            }
        }
    }

    /// The names of all files, but for the record of uses and the time of the last sweep.
    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for dir in [self.csv(), self.csv().join("files")] {
            let Ok(listing) = std::fs::read_dir(dir) else { continue };
            for entry in listing.map(Result::unwrap).filter(|entry| entry.path().is_file()) {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
        names.retain(|name| name != "hits" && name != "swept");
        names.sort();
        names
    }
}

fn set_age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

/// A version of a text of the host, called `/raw/<name>`.
fn text(name: &str, version: u64) -> TableSource {
    TableSource {
        path: path(&format!("/raw/{name}")),
        store_url: ObjectStoreUrl::parse("hostmount://1.2").unwrap(),
        object: ObjectMeta {
            location: format!("1.2/{version}/{name}").into(),
            last_modified: SystemTime::UNIX_EPOCH.into(),
            size: 100 + version,
            e_tag: None,
            version: None,
        },
        format: TableFormat::of_name("a.csv").unwrap(),
        known: None,
        inline: None,
        immutable: false,
        after: None,
        text: None,
    }
}

fn key(text: &TableSource) -> String {
    conversion_key(text, &CsvOptions::default(), None, EntryType::FileTable)
}

fn served(cache: &Cache, name: &str) -> Option<u64> {
    let text = text(name, 1);
    cache.conversion(&key(&text), &SourceIdentity::of(&text)).map(|conversion| conversion.rows)
}

fn layout() -> Layout {
    let dialect = Dialect {
        delimiter: b',',
        quote: Some(b'"'),
        escape: None,
        comment: None,
        comments_lead: false,
        has_header: true,
        nulls: Vec::new(),
        timestamp_format: None,
        compression: Compression::None,
        encoding: Encoding::Utf8,
    };
    Layout { dialect, columns: Vec::new(), on_error: OnError::Fail, widens: true, is_whole: true }
}

fn file_of(cache: &Cache, rows: i64) -> ConvertedFile {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let mut writer = TableWriter::new(&batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let (bytes, facts) = writer.finish().unwrap();
    let mut file = cache.new_file().unwrap();
    file.write_all(&bytes).unwrap();
    file.finish(facts).unwrap()
}

fn conversion(text: &TableSource, files: Vec<ConvertedFile>, rows: i64, at: i64) -> Conversion {
    Conversion {
        path: text.path.to_string(),
        shown_as: format!("/shown/{}.table", text.path.name().trim_end_matches(".csv")),
        source: SourceIdentity::of(text),
        layout: layout(),
        rows: rows as u64,
        rejected: 3,
        files,
        prefix: None,
        converted_at: at,
        took_ms: 1,
    }
}

async fn convert(cache: &Cache, text: &TableSource, rows: i64, at: i64) -> String {
    let key = key(text);
    let lock = cache.lock_conversion(&key).await.unwrap();
    let conversion = conversion(text, vec![file_of(cache, rows)], rows, at);
    cache.publish_conversion(&key, conversion, &lock).unwrap();
    key
}

/// Changes a byte, and puts the time back to what it was.
fn flip(file: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
    file.set_modified(modified).unwrap();
}

fn read_record(record: &Path) -> (serde_json::Value, serde_json::Value) {
    let text = std::fs::read_to_string(record).unwrap();
    let (seal, content) = text.split_once('\n').unwrap();
    (serde_json::from_str(seal).unwrap(), serde_json::from_str(content).unwrap())
}

/// Writes a record as another start of the system would have.
fn write_record(record: &Path, boot: &str, content: &serde_json::Value) {
    let (mut seal, _) = read_record(record);
    let content = content.to_string();
    seal["boot"] = boot.into();
    seal["xxh3"] = format!("{:032x}", XxHash3_128::oneshot(content.as_bytes())).into();
    std::fs::write(record, format!("{seal}\n{content}")).unwrap();
}

#[tokio::test]
async fn what_is_published_is_served_while_the_text_is_the_same() {
    let world = World::new();
    assert_eq!(world.served("a.csv"), None);
    let key_of_a = world.convert("a.csv", 10).await;
    world.convert("b.csv", 20).await;
    assert_eq!((world.served("a.csv"), world.served("b.csv")), (Some(10), Some(20)));
    assert_eq!(world.served_again("a.csv"), Some(10));

    let changed = text("a.csv", 2);
    assert_eq!(key(&changed), key_of_a);
    assert!(world.cache.conversion(&key_of_a, &SourceIdentity::of(&changed)).is_none());
    assert!(world.cache.kept_conversion(&key_of_a).is_some());
    convert(&world.cache, &changed, 11, now_micros()).await;
    assert_eq!(world.served("a.csv"), None);
    assert_eq!(world.again().kept_conversion(&key_of_a).unwrap().rows, 11);
}

/// A text that is stored is named by its content: its conversion goes with it, wherever it is.
#[test]
fn a_key_stands_for_a_text_and_how_it_is_read() {
    let [one, other] = ["a.csv", "b.csv"].map(|name| text(name, 1));
    let options = |delimiter| CsvOptions { delimiter, ..CsvOptions::default() };
    let keys = [
        conversion_key(&one, &options(None), None, EntryType::FileTable),
        conversion_key(&one, &options(Some(b';')), None, EntryType::FileTable),
        conversion_key(&one, &options(None), Some("t"), EntryType::FileTable),
        conversion_key(&one, &options(None), None, EntryType::FileSeries),
        conversion_key(&other, &options(None), None, EntryType::FileTable),
    ];
    let different: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    assert_eq!(keys[0], key(&text("a.csv", 2)));

    let stored = |dir: &str, name: &str, content: char| {
        let location = format!("{dir}/blobs/aa/{}", content.to_string().repeat(64));
        let object = ObjectMeta { location: location.into(), ..one.object.clone() };
        TableSource { object, immutable: true, ..text(name, 1) }
    };
    let [here, there] = [stored("pond", "a.csv", 'a'), stored("copy", "b.csv", 'a')];
    assert_eq!(key(&here), key(&there));
    assert_eq!(SourceIdentity::of(&here), SourceIdentity::of(&there));
    assert_ne!(key(&here), key(&stored("pond", "a.csv", 'b')));
}

#[tokio::test]
async fn a_torn_or_changed_file_is_not_served() {
    for rows in [1, 20_000] {
        let world = World::new();
        world.convert("a.csv", rows).await;
        let file = world.files("a.csv").remove(0);
        let whole = std::fs::read(&file).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&file, &whole[..length]).unwrap();
            assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None));
        }
        // The same content is the same file, whenever it was written.
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(
            (world.served("a.csv"), world.served_again("a.csv")),
            (Some(rows as u64), Some(rows as u64))
        );
        for at in [0, whole.len() / 3, whole.len() - 5] {
            flip(&file, at as u64);
            assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None));
            flip(&file, at as u64);
        }
        assert_eq!(world.served_again("a.csv"), Some(rows as u64));
        std::fs::remove_file(&file).unwrap();
        assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None));
        // Whoever wants it makes it anew.
        world.convert("a.csv", rows).await;
        assert_eq!(world.served("a.csv"), Some(rows as u64));
    }
}

#[tokio::test]
async fn a_torn_or_foreign_record_counts_as_none() {
    let world = World::new();
    world.convert("a.csv", 10).await;
    world.convert("b.csv", 20).await;
    let record = world.record("a.csv");
    let whole = std::fs::read(&record).unwrap();
    for length in (0..whole.len()).step_by(7) {
        std::fs::write(&record, &whole[..length]).unwrap();
        assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None), "{length}");
    }
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&record, &flipped).unwrap();
        // Which start of the system it is of only says what must be hashed.
        let kept = world.served_again("a.csv");
        assert!(kept.is_none_or(|rows| rows == 10), "{at}");
        let is_in_boot = (whole[..at].windows(8).any(|word| word == b"\"boot\":\""))
            && !whole[..at].windows(8).any(|word| word == b"\"xxh3\":\"");
        assert!(kept.is_none() || is_in_boot, "{at}");
    }
    for foreign in ["{}", "[]\n[]", "\n", "null"] {
        std::fs::write(&record, foreign).unwrap();
        assert_eq!(world.served("a.csv"), None);
    }
    std::fs::write(&record, &whole).unwrap();
    assert_eq!(world.served("a.csv"), Some(10));
    // That of another text, or of another version of the program.
    std::fs::copy(world.record("b.csv"), &record).unwrap();
    assert_eq!((world.served("a.csv"), world.served("b.csv")), (None, Some(20)));
    let text = String::from_utf8(whole).unwrap();
    std::fs::write(&record, text.replacen("\"format\":1", "\"format\":2", 1)).unwrap();
    assert_eq!(world.served("a.csv"), None);
    // Nothing of it fails.
    assert_eq!(world.cache.conversions().unwrap().len(), 1);
    assert_eq!(world.cache.entries().unwrap().len(), 1);
    world.convert("a.csv", 10).await;
    assert_eq!(world.served("a.csv"), Some(10));
}

#[tokio::test]
async fn files_of_two_texts_that_change_places_are_not_served() {
    let world = World::new();
    // Of one size.
    world.convert("a.csv", 10).await;
    world.convert("b.csv", 10).await;
    let [a, b] = ["a.csv", "b.csv"].map(|name| world.files(name).remove(0));
    flip(&b, 5);
    let away = world.dir.path().join("away");
    std::fs::rename(&a, &away).unwrap();
    std::fs::rename(&b, &a).unwrap();
    std::fs::rename(&away, &b).unwrap();
    assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None));
    // That is the content it had before.
    assert_eq!(world.served("b.csv"), Some(10));
}

/// Ids are believed only in the start of the system that wrote them.
#[tokio::test]
async fn after_a_start_of_the_system_files_are_hashed_once() {
    let world = World::new();
    world.convert("a.csv", 10).await;
    let (record, file) = (world.record("a.csv"), world.files("a.csv").remove(0));
    let (seal, content) = read_record(&record);
    let boot = seal["boot"].as_str().unwrap().to_owned();
    assert!(!boot.is_empty());

    write_record(&record, "another", &content);
    assert_eq!(world.served_again("a.csv"), Some(10));
    assert_eq!(read_record(&record).0["boot"], seal["boot"], "it was not renewed");

    // A file whose record says that it is the one that is there, although it is not: as if the power
    // had failed before its content was on the disk.
    flip(&file, 9);
    let mut content = content;
    let metadata = std::fs::metadata(&file).unwrap();
    {
        use std::os::unix::fs::MetadataExt;
        let changed = metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec();
        content["files"][0]["id"]["changed"] = changed.into();
    }
    write_record(&record, &boot, &content);
    assert_eq!(world.served_again("a.csv"), Some(10), "the id was not believed");
    write_record(&record, "another", &content);
    assert_eq!((world.served("a.csv"), world.served_again("a.csv")), (None, None));
}

#[tokio::test]
async fn a_copy_of_a_cache_is_as_good() {
    let world = World::new();
    world.convert("a.csv", 10).await;
    let copy = tempfile::tempdir().unwrap();
    let from = world.dir.path().join("cache");
    let status = Command::new("cp").arg("-r").arg(from).arg(copy.path()).status().unwrap();
    assert!(status.success());
    let cache = Cache::at(copy.path().join("cache"));
    assert_eq!(served(&cache, "a.csv"), Some(10));
    let kept = cache.kept_conversion(&key(&text("a.csv", 1))).unwrap();
    let [source] = &cache.conversion_sources(&kept, &path("/shown/a.table")).unwrap()[..] else {
        panic!("one file")
    };
    let place = format!("/{}", source.object.location);
    assert!(Path::new(&place).starts_with(copy.path()), "{place}");
}

#[tokio::test]
async fn what_is_served_is_a_table() {
    let world = World::new();
    let key = world.convert("a.csv", 1000).await;
    let kept = world.cache.kept_conversion(&key).unwrap();
    let sources = world.cache.conversion_sources(&kept, &path("/shown/a.table")).unwrap();
    let session = SessionContext::new();
    session.register_table("a", stored_table(sources).unwrap()).unwrap();
    let sum = session.sql("SELECT sum(n) FROM a WHERE n > 10").await.unwrap();
    let plan = sum.clone();
    let batches = sum.collect().await.unwrap();
    let sums = batches[0].column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert_eq!(sums.value(0), (11..1000).sum::<i64>());

    // It was planned, and then it is gone.
    assert_eq!(world.cache.clear(None).unwrap(), kept.size());
    let error = pond::Error::from(plan.collect().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("'/shown/a.table': the cache was cleared"), "{error}");
    assert!(error.hint().unwrap().contains("again"));
}

/// Of all who want to convert a text at once, one does; the others find what it made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_converts() {
    let world = World::new();
    let made = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..24)
        .map(|_| {
            let (cache, made) = (world.again(), made.clone());
            tokio::spawn(async move {
                let text = text("a.csv", 1);
                let key = key(&text);
                let lock = cache.lock_conversion(&key).await.unwrap();
                if cache.conversion(&key, &SourceIdentity::of(&text)).is_none() {
                    made.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    let files = vec![file_of(&cache, 10)];
                    let conversion = conversion(&text, files, 10, now_micros());
                    cache.publish_conversion(&key, conversion, &lock).unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

/// Starts a process that has begun to convert `/raw/a.csv`.
fn converter(dir: &Path) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "conversions::child", "--nocapture", "--quiet"])
        .env("POND_TEST_DIR", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map(Result::unwrap).any(|line| line.contains("converting")));
    child
}

#[tokio::test]
#[ignore = "run by the other tests, as a process of its own"]
async fn child() {
    let dir = std::env::var("POND_TEST_DIR").unwrap();
    let cache = Cache::at(Path::new(&dir).join("cache"));
    let _lock = cache.lock_conversion(&key(&text("a.csv", 1))).await.unwrap();
    let mut file = cache.new_file().unwrap();
    file.write_all(&[1; 100_000]).unwrap();
    println!("converting");
    std::thread::sleep(Duration::from_secs(60));
}

#[tokio::test]
async fn a_killed_converter_leaves_nothing_and_makes_room_for_the_next() {
    let world = World::new();
    let mut child = converter(world.dir.path());
    let key = key(&text("a.csv", 1));
    let wait = Duration::from_millis(300);
    assert!(tokio::time::timeout(wait, world.cache.lock_conversion(&key)).await.is_err());
    assert_eq!(world.cache.clear(None).unwrap(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    let lock = tokio::time::timeout(Duration::from_secs(10), world.cache.lock_conversion(&key));
    drop(lock.await.expect("it is free").unwrap());
    assert_eq!(world.names(), Vec::<String>::new());
    // Nor is anything left of one that fails.
    drop(world.cache.new_file().unwrap());
    assert_eq!(world.names().len(), 0);
    world.convert("a.csv", 10).await;
    assert_eq!(world.served("a.csv"), Some(10));
}

#[tokio::test]
async fn what_was_used_longest_ago_goes_first() {
    let world = World::new();
    let now = now_micros();
    let texts = ["a.csv", "b.csv", "c.csv", "d.csv"];
    for (age, name) in texts.iter().enumerate() {
        world.convert_at(name, 1000, now - (9 - age as i64) * HOUR).await;
    }
    let size = std::fs::metadata(&world.files("a.csv")[0]).unwrap().len();
    let kept = || texts.map(|name| world.served_again(name).is_some());
    world.cache.set_budget(4 * size);
    world.cache.sweep_conversions().unwrap();
    assert_eq!(kept(), [true, true, true, true]);
    // By another process.
    world.again().used(&key(&text("a.csv", 1)));
    world.cache.set_budget(4 * size - 1);
    world.cache.sweep_conversions().unwrap();
    assert_eq!(kept(), [true, false, true, true]);
    world.cache.set_budget(size);
    world.cache.sweep_conversions().unwrap();
    assert_eq!(kept(), [true, false, false, false]);
    // One that is used stays whatever its size; and so does the last one.
    world.convert("b.csv", 1000).await;
    world.cache.set_budget(1);
    world.cache.sweep_conversions().unwrap();
    assert_eq!(kept(), [true, true, false, false]);
}

#[tokio::test]
async fn the_last_one_used_stays_however_large_it_is() {
    let world = World::new();
    for (age, name) in [(2, "a.csv"), (1, "b.csv")] {
        world.convert_at(name, 1000, now_micros() - age * HOUR).await;
    }
    world.cache.set_budget(1);
    world.cache.sweep_conversions().unwrap();
    assert_eq!((world.served("a.csv"), world.served("b.csv")), (None, Some(1000)));
}

/// The budget is kept without anybody asking for it.
#[tokio::test]
async fn publishing_makes_room() {
    let world = World::new();
    world.cache.set_budget(1);
    world.convert_at("a.csv", 1000, now_micros() - HOUR).await;
    for number in 0..200 {
        world.convert(&format!("b{number}.csv"), 10).await;
        if world.served("a.csv").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it is still there");
}

#[tokio::test]
async fn a_sweep_leaves_what_is_named_and_removes_the_rest() {
    let world = World::new();
    world.convert("a.csv", 10).await;
    let gone = world.files("a.csv").remove(0);
    world.convert("a.csv", 11).await;
    world.convert("b.csv", 20).await;
    let named = world.names();
    let named: Vec<&String> = named.iter().filter(|name| !gone.ends_with(name)).collect();
    let old_lock = world.csv().join(format!("{}.lock", "0".repeat(64)));
    let broken = world.csv().join(format!("{}.json", "1".repeat(64)));
    let staged = world.csv().join("files/00.parquet#7000001");
    let staged_record = world.csv().join(format!("{}.json#7000001", "2".repeat(64)));
    let others = [&old_lock, &broken, &staged, &staged_record];
    others.iter().for_each(|path| std::fs::write(path, "x").unwrap());
    drop(world.cache.lock_conversion(&"3".repeat(64)).await.unwrap());
    let held = world.cache.lock_conversion(&"4".repeat(64)).await.unwrap();

    // For a while, everything stays: queries may read what was replaced.
    assert_eq!(world.cache.sweep_conversions().unwrap(), 0);
    assert!(gone.exists() && others.iter().all(|path| path.exists()));
    world.age();
    let freed = std::fs::metadata(&gone).unwrap().len() + 1;
    assert_eq!(world.cache.sweep_conversions().unwrap(), freed);
    let names = world.names();
    assert!(names.iter().any(|name| *name == format!("{}.lock", "4".repeat(64))), "it is held");
    drop(held);
    let left: Vec<&String> = names.iter().filter(|name| !name.starts_with("444")).collect();
    assert_eq!(left, named);
    assert_eq!((world.served("a.csv"), world.served("b.csv")), (Some(11), Some(20)));
}

#[tokio::test]
async fn uses_are_counted_by_all_processes_together() {
    let world = World::new();
    let a = world.convert("a.csv", 10).await;
    world.convert("b.csv", 20).await;
    let one = world.again();
    (0..3).for_each(|_| one.used(&a));
    let hits =
        || world.cache.conversions().unwrap().iter().map(|kept| kept.hits).collect::<Vec<_>>();
    // The first one is written at once.
    assert_eq!(hits(), [1, 0]);
    let other = world.again();
    (0..2).for_each(|_| other.used(&a));
    drop((one, other));
    assert_eq!(hits(), [5, 0]);
    // What is not a use is passed over.
    let mut file = std::fs::File::options().append(true).open(world.csv().join("hits")).unwrap();
    file.write_all(b"torn\n\xff\xfe\n 1\nx y z\n").unwrap();
    world.cache.used(&a);
    assert_eq!(hits(), [6, 0]);
    let used = world.cache.conversions().unwrap()[0].used_at;
    assert!((now_micros() - used) < HOUR);
    // Many are summed up.
    file.write_all(format!("{a} 1 1\n").repeat(20_000).as_bytes()).unwrap();
    file.write_all(b"gone 1 1\n").unwrap();
    world.cache.sweep_conversions().unwrap();
    assert_eq!(hits(), [20_006, 0]);
    assert_eq!(std::fs::read_to_string(world.csv().join("hits")).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn what_is_cleared_is_what_was_named() {
    let world = World::new();
    let kept = || ["a.csv", "b.csv", "c.csv"].map(|name| world.served(name).is_some());
    for name in ["a.csv", "b.csv", "c.csv"] {
        world.convert(name, 10).await;
    }
    assert_eq!(world.cache.clear(Some(&path("/ra"))).unwrap(), 0);
    assert!(world.cache.clear(Some(&path("/raw/a.csv"))).unwrap() > 0);
    assert_eq!(kept(), [false, true, true]);
    assert!(world.cache.clear(Some(&path("/shown/b.table"))).unwrap() > 0);
    assert_eq!(kept(), [false, false, true]);
    let lock = world.cache.lock_conversion(&key(&text("c.csv", 1))).await.unwrap();
    assert_eq!(world.cache.clear(Some(&path("/shown"))).unwrap(), 0);
    assert_eq!(kept(), [false, false, true]);
    drop(lock);
    assert!(world.cache.clear(Some(&path("/shown"))).unwrap() > 0);
    assert_eq!(kept(), [false, false, false]);
    assert_eq!(world.names(), Vec::<String>::new());
}

#[tokio::test]
async fn the_shell_lists_and_clears() {
    let dir = tempfile::tempdir().unwrap();
    let pond_dir = dir.path().join(".pond");
    let tree = init(&pond_dir).await;
    let cx = pond::PondContext::new(tree.clone());
    for statement in [
        "CREATE TABLE '/s.series' AS SELECT now() AS timestamp, 1 AS v",
        "CREATE NODE '/d.series' FACTORY sql_derived_series FROM '/s.series' REFRESH EVERY '1h' AS SELECT * FROM source",
        "SELECT * FROM '/d.series'",
    ] {
        cx.sql(statement).await.unwrap().collect().await.unwrap();
    }
    for name in ["a.csv", "b.csv"] {
        let key = convert(tree.cache(), &text(name, 1), 10, now_micros() - 2 * HOUR).await;
        tree.cache().used(&key);
    }
    drop((cx, tree));
    let listed = |arguments: &[&str]| {
        let output = run(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let table = listed(&["cache"]);
    let lines: Vec<Vec<&str>> =
        table.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    assert_eq!(lines[0], ["path", "kind", "source", "rows", "size", "age", "hits"]);
    assert_eq!(lines[2][..4], ["/d.series", "answer", "NULL", "1"]);
    assert_eq!(lines[3][..4], ["/shown/a.table", "csv", "/raw/a.csv", "10"]);
    assert_eq!(lines[3][5..], ["2h", "1"]);
    let csv = listed(&["cache", "--format", "csv"]);
    assert!(csv.starts_with("path,source,kind,built,checked,txn,rows,rejected,files,size,hits,"));
    let sql = "SELECT path, rejected, hits, key IS NOT NULL AS k FROM cache() WHERE kind = 'csv'";
    assert!(listed(&["sql", "--format", "csv", sql]).contains("/shown/b.table,3,1,true"));

    let cleared = run(dir.path(), &["cache", "clear", "raw/a.csv"]);
    assert!(stderr(&cleared).starts_with("note: removed "), "{}", stderr(&cleared));
    let table = listed(&["cache"]);
    assert!(!table.contains("/raw/a.csv") && table.contains("/raw/b.csv"), "{table}");
    listed(&["cache", "clear", "/d.series"]);
    assert!(!listed(&["cache"]).contains("/d.series"));
    listed(&["cache", "clear"]);
    assert_eq!(listed(&["cache", "--format", "csv"]).lines().count(), 1);

    let output = shell(dir.path()).env("POND_CACHE_SIZE", "much").arg("ls").output().unwrap();
    assert!(stderr(&output).starts_with("error: $POND_CACHE_SIZE: 'much' is no size"));
    assert_eq!(parse_size("2 GiB").unwrap(), 2 << 30);
    assert_eq!(parse_size("500MB").unwrap(), 500_000_000);
    assert!(parse_size("99999999999 TB").is_err());
}
