//! Files as tables: every format, many files as one table by column name, and what becomes of bytes
//! that are not what they claim, or that change while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
};
use datafusion::arrow::ipc::writer::{FileWriter, StreamWriter};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::MemTable;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::prelude::{SessionConfig, SessionContext};
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use pond::entry::EntryType;
use pond::format::{Compression, KnownTable, TableFormat, TableSource, open_table, read};
use pond::node::{DirEntry, File};
use pond::path::PondPath;
use pond::{Error, ErrorKind, Result};

use crate::probe::ProbeStore;

/// A session with one store of files, reads of which are counted.
struct Files {
    session: SessionContext,
    store: Arc<ProbeStore>,
    url: ObjectStoreUrl,
}

impl Files {
    fn new() -> Self {
        Self::with_config(SessionConfig::new().with_target_partitions(2))
    }

    fn with_config(config: SessionConfig) -> Self {
        // What is learnt from texts is remembered by URL, so each test has its own.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let url = ObjectStoreUrl::parse(format!("probe://store{number}/")).unwrap();
        let store = Arc::new(ProbeStore::default());
        let session = SessionContext::new_with_config(config);
        session.register_object_store(url.as_ref(), store.clone());
        Self { session, store, url }
    }

    async fn put(&self, name: &str, bytes: impl Into<Bytes>) {
        self.store.inner.put(&location(name), PutPayload::from_bytes(bytes.into())).await.unwrap();
    }

    async fn source(&self, name: &str) -> TableSource {
        TableSource {
            path: PondPath::parse(&format!("/host/{name}")).unwrap(),
            store_url: self.url.clone(),
            object: self.store.inner.head(&location(name)).await.unwrap(),
            format: TableFormat::of_name(name).unwrap(),
            known: None,
            inline: None,
            immutable: false,
            after: None,
            text: None,
        }
    }

    async fn open(&self, names: &[&str]) -> Result<Arc<dyn TableProvider>> {
        let mut sources = Vec::new();
        for name in names {
            sources.push(self.source(name).await);
        }
        open_table(&self.session.state(), sources).await
    }

    /// Runs `query` over one table of the files, called `t`.
    async fn query(&self, names: &[&str], query: &str) -> Result<Vec<String>> {
        let table = self.open(names).await?;
        self.query_table(table, query).await
    }

    async fn query_table(&self, table: Arc<dyn TableProvider>, query: &str) -> Result<Vec<String>> {
        let _ = self.session.deregister_table("t")?;
        self.session.register_table("t", table)?;
        let batches = self.session.sql(query).await?.collect().await?;
        Ok(batches.iter().flat_map(rows).collect())
    }

    async fn expect(&self, names: &[&str], query: &str, expected: &[&str]) {
        assert_eq!(self.query(names, query).await.unwrap(), expected, "{query} over {names:?}");
    }

    /// Returns the error of reading everything.
    async fn error(&self, names: &[&str]) -> Error {
        self.query(names, "SELECT * FROM t").await.expect_err("a broken file reads")
    }

    async fn types(&self, names: &[&str]) -> String {
        let schema = self.open(names).await.unwrap().schema();
        let types: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect();
        types.join(", ")
    }
}

fn location(name: &str) -> Path {
    Path::from(format!("mount/{name}"))
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let row = |row| {
        let values = batch.columns().iter().map(|column| {
            if column.is_null(row) {
                "null".to_owned()
            } else {
                array_value_to_string(column, row).unwrap()
            }
        });
        values.collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(row).collect()
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    )
    .unwrap()
}

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1000)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

async fn compress(text: &str, compression: FileCompressionType) -> Vec<u8> {
    let bytes = Bytes::from(text.to_owned());
    let plain = futures::stream::once(async { Ok(bytes) }).boxed();
    let parts: Vec<Bytes> =
        compression.convert_to_compress_stream(plain).unwrap().try_collect().await.unwrap();
    parts.concat()
}

#[test]
fn names_tell_formats() {
    let csv = |compression| Some(TableFormat::csv(None, compression));
    assert_eq!(TableFormat::of_name("a.CSV"), csv(None));
    assert_eq!(TableFormat::of_name("a.b.csv.GZ"), csv(Some(Compression::Gzip)));
    assert_eq!(TableFormat::of_name("a.csv.zst"), csv(Some(Compression::Zstd)));
    let tsv = TableFormat::csv(Some(b'\t'), Some(Compression::Xz));
    assert_eq!(TableFormat::of_name("a.tsv.xz"), Some(tsv));
    for name in ["a.json", "a.jsonl", "a.ndjson"] {
        let json = TableFormat::Json { compression: FileCompressionType::UNCOMPRESSED };
        assert_eq!(TableFormat::of_name(name), Some(json));
    }
    for name in ["a.parquet", "a.pq", "a.table", "a.series"] {
        assert_eq!(TableFormat::of_name(name), Some(TableFormat::Parquet));
    }
    for name in ["a.arrow", "a.ipc", "a.feather"] {
        assert_eq!(TableFormat::of_name(name), Some(TableFormat::Arrow));
    }
    for name in ["a", "csv", "a.txt", "a.gz", "a.parquet.gz", "a.csv.lz4", ""] {
        assert_eq!(TableFormat::of_name(name), None, "{name}");
    }
}

#[tokio::test]
async fn every_format_has_the_same_rows() {
    let files = Files::new();
    let table = batch(vec![("n", ints([1, 2])), ("s", texts(&["x", "y, z"]))]);
    files.put("a.parquet", parquet(&table)).await;
    let mut file = FileWriter::try_new(Vec::new(), &table.schema()).unwrap();
    file.write(&table).unwrap();
    files.put("a.arrow", file.into_inner().unwrap()).await;
    let mut stream = StreamWriter::try_new(Vec::new(), &table.schema()).unwrap();
    stream.write(&table).unwrap();
    files.put("stream.ipc", stream.into_inner().unwrap()).await;
    let csv = "n,s\n1,x\n2,\"y, z\"\n";
    let json = "{\"n\": 1, \"s\": \"x\"}\n{\"n\": 2, \"s\": \"y, z\"}\n";
    files.put("a.csv", csv).await;
    files.put("a.tsv", "n\ts\r\n1\tx\r\n2\ty, z\r\n").await;
    files.put("a.jsonl", json).await;
    let mut names = vec!["a.parquet", "a.arrow", "stream.ipc", "a.csv", "a.tsv", "a.jsonl"];
    for (csv_name, json_name, compression) in [
        ("a.csv.gz", "a.json.gz", FileCompressionType::GZIP),
        ("a.csv.zst", "a.json.zst", FileCompressionType::ZSTD),
        ("a.csv.bz2", "a.json.bz2", FileCompressionType::BZIP2),
        ("a.csv.xz", "a.json.xz", FileCompressionType::XZ),
    ] {
        files.put(csv_name, compress(csv, compression).await).await;
        files.put(json_name, compress(json, compression).await).await;
        names.extend([csv_name, json_name]);
    }
    for name in &names {
        files.expect(&[name], "SELECT * FROM t ORDER BY n", &["1|x", "2|y, z"]).await;
        files.expect(&[name], "SELECT s FROM t WHERE n = 2", &["y, z"]).await;
        files.expect(&[name], "SELECT s, n, n + 1 FROM t ORDER BY n LIMIT 1", &["x|1|2"]).await;
        files.expect(&[name], "SELECT count(*) FROM t", &["2"]).await;
    }
    // One glob over all of them is one table.
    let all = "SELECT count(*), sum(n), min(s), max(s) FROM t";
    files.expect(&names, all, &["28|42|x|y, z"]).await;
    assert_eq!(files.types(&names).await, "n Int64, s Utf8View");
}

#[tokio::test]
async fn columns_match_by_name_and_not_by_place() {
    let files = Files::new();
    files.put("1.csv", "a,b\n1,2\n").await;
    files.put("2.csv", "b,a\n20,10\n").await;
    files.put("3.csv", "c,a\nx,100\n").await;
    files.put("4.jsonl", "{\"b\": 2000, \"a\": 1000}\n").await;
    let columns = vec![("b", ints([20_000])), ("d", ints([7])), ("a", ints([10_000]))];
    files.put("5.parquet", parquet(&batch(columns))).await;
    let names = ["5.parquet", "4.jsonl", "3.csv", "2.csv", "1.csv"];
    assert_eq!(files.types(&names).await, "a Int64, b Int64, c Utf8View, d Int64");
    let expected = [
        "1|2|null|null",
        "10|20|null|null",
        "100|null|x|null",
        "1000|2000|null|null",
        "10000|20000|null|7",
    ];
    files.expect(&names, "SELECT * FROM t ORDER BY a", &expected).await;
    files.expect(&names, "SELECT d, c FROM t WHERE b IS NULL", &["null|x"]).await;
    files.expect(&names, "SELECT c FROM t WHERE d = 7", &["null"]).await;
    files.expect(&names, "SELECT sum(b), count(c), count(d) FROM t", &["22022|1|1"]).await;
}

#[tokio::test]
async fn types_widen_across_files() {
    let files = Files::new();
    files.put("1.csv", "n,t,w\n1,2024-01-02,1\n").await;
    files.put("2.csv", "n,t,w\n2.5,2024-01-02T03:04:05.125,01x\n").await;
    assert_eq!(files.types(&["1.csv", "2.csv"]).await, "n Float64, t Timestamp(µs), w Utf8View");
    files
        .expect(
            &["1.csv", "2.csv"],
            "SELECT * FROM t ORDER BY n",
            &["1.0|2024-01-02T00:00:00|1", "2.5|2024-01-02T03:04:05.125|01x"],
        )
        .await;

    let narrow: ArrayRef = Arc::new(Int32Array::from(vec![Some(-1), None]));
    let wide: ArrayRef = Arc::new(Float64Array::from(vec![0.5]));
    files.put("1.parquet", parquet(&batch(vec![("n", narrow)]))).await;
    files.put("2.parquet", parquet(&batch(vec![("n", ints([3]))]))).await;
    files.put("3.parquet", parquet(&batch(vec![("n", wide)]))).await;
    assert_eq!(files.types(&["1.parquet", "2.parquet"]).await, "n Int64");
    let bounds = "SELECT min(n), max(n), count(n), count(*) FROM t";
    files.expect(&["1.parquet", "2.parquet"], bounds, &["-1|3|2|3"]).await;
    files.expect(&["1.parquet", "2.parquet"], "SELECT n FROM t WHERE n > 0", &["3"]).await;
    let all = ["1.parquet", "2.parquet", "3.parquet"];
    files.expect(&all, "SELECT sum(n), min(n), max(n) FROM t", &["2.5|-1.0|3.0"]).await;

    // Text that was guessed to be a number is read as the text that it was.
    files.put("4.parquet", parquet(&batch(vec![("w", texts(&["z"]))]))).await;
    files.put("5.csv", "w\n007\n").await;
    files.put("6.jsonl", "{\"w\": 1.50}\n").await;
    files
        .expect(
            &["4.parquet", "5.csv", "6.jsonl"],
            "SELECT w FROM t ORDER BY w",
            &["007", "1.50", "z"],
        )
        .await;
}

#[tokio::test]
async fn types_that_conflict_name_both_files_and_the_column() {
    let files = Files::new();
    files.put("1.parquet", parquet(&batch(vec![("n", ints([1]))]))).await;
    files.put("2.parquet", parquet(&batch(vec![("n", texts(&["x"]))]))).await;
    let error = files.open(&["1.parquet", "2.parquet"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.to_string(),
        "'/host/2.parquet': column 'n' is Utf8View, but Int64 in '/host/1.parquet'"
    );
}

#[tokio::test]
async fn empty_texts_have_no_rows() {
    let files = Files::new();
    files.put("empty.csv", "").await;
    files.put("empty.jsonl", "").await;
    files.put("header.csv", "a,b\n").await;
    files.put("bare.csv", "a,b").await;
    files.put("full.csv", "a\n5\n").await;
    let plan = files.query(&["empty.csv"], "EXPLAIN SELECT * FROM t").await.unwrap().join("\n");
    assert!(!plan.contains("DataSourceExec"), "{plan}");
    for name in ["empty.csv", "empty.jsonl", "header.csv", "bare.csv"] {
        files.expect(&[name], "SELECT * FROM t", &[]).await;
        files.expect(&[name], "SELECT count(*) FROM t", &["0"]).await;
    }
    assert_eq!(files.types(&["header.csv"]).await, "a Utf8View, b Utf8View");
    let names = ["empty.csv", "header.csv", "full.csv"];
    assert_eq!(files.types(&names).await, "a Int64, b Utf8View");
    files.expect(&names, "SELECT * FROM t", &["5|null"]).await;
}

#[tokio::test]
async fn headers_are_taken_as_they_are() {
    let files = Files::new();
    files.put("bom.csv", "\u{feff}\"a, b\",,C\n1,2,3\n").await;
    assert_eq!(files.types(&["bom.csv"]).await, "a, b Int64, column_2 Int64, C Int64");
    files.expect(&["bom.csv"], "SELECT \"a, b\", \"C\" FROM t", &["1|3"]).await;
    files.put("twice.csv", "a,b,a\n1,2,3\n").await;
    assert_eq!(files.types(&["twice.csv"]).await, "a Int64, b Int64, a_1 Int64");
    files.expect(&["twice.csv"], "SELECT a, a_1 FROM t", &["1|3"]).await;
}

/// Small files are split as if they were large.
fn eager_to_split() -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(4);
    config.options_mut().optimizer.repartition_file_min_size = 1;
    config
}

#[tokio::test]
async fn line_breaks_in_values_survive_parallel_reading() {
    let files = Files::with_config(eager_to_split());
    let quoted: String = (0..500).map(|n| format!("{n},\"first\nsecond, {n}\"\n")).collect();
    files.put("quoted.csv", format!("n,s\n{quoted}")).await;
    let plain: String = (0..500).map(|n| format!("{n},\"first, {n}\"\n")).collect();
    files.put("plain.csv", format!("n,s\n{plain}")).await;
    let sums = "SELECT count(*), sum(n), count(DISTINCT s), min(length(s)) FROM t";
    files.expect(&["quoted.csv"], sums, &["500|124750|500|15"]).await;
    files.expect(&["plain.csv"], sums, &["500|124750|500|8"]).await;
    let explain = "EXPLAIN SELECT sum(n) FROM t";
    let lines: String = (0..500).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    files.put("a.jsonl", lines).await;
    files.expect(&["a.jsonl"], "SELECT count(*), sum(n) FROM t", &["500|124750"]).await;
    let plan = files.query(&["a.jsonl"], explain).await.unwrap().join("\n");
    assert!(plan.contains("{4 groups:"), "{plan}");
}

#[tokio::test]
async fn malformed_rows_are_errors_that_name_file_and_line() {
    for config in [SessionConfig::new().with_target_partitions(1), eager_to_split()] {
        let files = Files::with_config(config);
        files.put("good.csv", "a,b\n1,2\n").await;
        files.put("ragged.csv", "a,b\n1,2\n3\n").await;
        let error = files.error(&["good.csv", "ragged.csv"]).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().starts_with("'/host/ragged.csv': "), "{error}");

        // Beyond the sample, the reader finds it.
        let good: String = (0..60_000).map(|n| format!("{n},2\n")).collect();
        for (name, row, expected) in [
            ("long.csv", "1,2,3", "3 values where the header names 2 columns"),
            ("short.csv", "1", "1 value where the header names 2 columns"),
            (
                "words.csv",
                "1,many",
                "'many' in column 'b' does not fit Int64, the type of the values before",
            ),
        ] {
            files.put(name, format!("a,b\n{good}{row}\n1,2\n")).await;
            let error = files.error(&["good.csv", name]).await;
            assert_eq!(error.to_string(), format!("'/host/{name}': line 60002: {expected}"));
        }
    }
}

#[tokio::test]
async fn values_beyond_the_sample_are_never_changed() {
    let files = Files::new();
    let lines: String = (0..60_000).map(|n| format!("{{\"n\": {n}}}\n")).collect();
    files.put("a.jsonl", format!("{lines}{{\"n\": 9007199254740993}}\n")).await;
    files.expect(&["a.jsonl"], "SELECT max(n) FROM t", &["9007199254740993"]).await;
    files.put("b.jsonl", format!("{lines}{{\"n\": 1.5}}\n")).await;
    let error = files.error(&["b.jsonl"]).await;
    assert!(error.to_string().starts_with("'/host/b.jsonl': column 'n': "), "{error}");
    assert!(error.to_string().contains("1.5"), "{error}");

    let rows: String = (0..30_000).map(|_| "2024-01-02 03:04:05\n".to_owned()).collect();
    files.put("t.csv", format!("t\n{rows}2024-01-02 03:04:05.678901\n")).await;
    files.expect(&["t.csv"], "SELECT max(t) FROM t", &["2024-01-02T03:04:05.678901"]).await;
    files.put("u.csv", format!("t\n{rows}yesterday\n")).await;
    let error = files.error(&["u.csv"]).await.to_string();
    assert_eq!(
        error,
        "'/host/u.csv': line 30002: 'yesterday' in column 't' does not fit Timestamp(µs), the \
         type of the values before"
    );
}

#[tokio::test]
async fn nested_json_unites_members_by_name() {
    let files = Files::new();
    files.put("1.jsonl", "{\"z\": 1, \"p\": {\"x\": 1}, \"l\": [1]}\n").await;
    files.put("2.jsonl", "{\"z\": 2, \"p\": {\"y\": 2.5, \"x\": 3}, \"l\": []}\n").await;
    let types = files.types(&["2.jsonl"]).await;
    let members = "\"x\": Int64, \"y\": Float64";
    assert_eq!(types, format!("z Int64, p Struct({members}), l List(Utf8View)"));
    let query = "SELECT z, t.p['x'], t.p['y'], l[1] FROM t ORDER BY z";
    files.expect(&["1.jsonl", "2.jsonl"], query, &["1|1|null|1", "2|3|2.5|null"]).await;
}

#[tokio::test]
async fn corrupt_files_are_errors_that_name_them() {
    let files = Files::new();
    let whole = parquet(&batch(vec![("n", ints(0..5000)), ("s", texts(&["x"; 5000]))]));
    files.put("empty.parquet", "").await;
    files.put("tail.parquet", whole[..whole.len() - 3].to_vec()).await;
    files.put("head.parquet", whole[..100].to_vec()).await;
    files.put("text.arrow", "no arrow at all").await;
    files.put("binary.json", vec![0xff, 0xfe, 0x00]).await;
    files.put("torn.csv.gz", b"\x1f\x8b\x08 no gzip at all".to_vec()).await;
    for name in [
        "empty.parquet",
        "tail.parquet",
        "head.parquet",
        "text.arrow",
        "binary.json",
        "torn.csv.gz",
    ] {
        let error = files.error(&[name]).await;
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().starts_with(&format!("'/host/{name}': ")), "{error}");
    }
    // Pages that are damaged below a sound footer are found when they are read.
    let mut damaged = whole.clone();
    damaged[4..2000].fill(0xff);
    files.put("damaged.parquet", damaged).await;
    files.expect(&["damaged.parquet"], "SELECT count(*) FROM t", &["5000"]).await;
    let error = files.error(&["damaged.parquet"]).await;
    assert!(error.to_string().starts_with("'/host/damaged.parquet': "), "{error}");
}

#[tokio::test]
async fn a_reader_that_panics_is_an_error() {
    let files = Files::new();
    files.put("a.parquet", parquet(&batch(vec![("n", ints(0..5000))]))).await;
    files.put("a.csv", "n\n1\n").await;
    for name in ["a.parquet", "a.csv"] {
        let table = files.open(&[name]).await.unwrap();
        files.store.panics.store(true, Ordering::Relaxed);
        let error = files.query_table(table, "SELECT * FROM t").await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("'/host/{name}': the reader failed: the store was told to")
        );
        files.store.panics.store(false, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_file_that_changes_is_an_error_and_never_other_rows() {
    let files = Files::new();
    let table = batch(vec![("n", ints(0..5000))]);
    for (name, before, after) in [
        ("a.parquet", parquet(&table), parquet(&table.slice(0, 10))),
        ("a.csv", b"n\n1\n2\n".to_vec(), b"n\n1\n".to_vec()),
        ("b.csv", b"n\n1\n2\n".to_vec(), b"n\n1\n3\n".to_vec()),
        ("a.jsonl", b"{\"n\": 1}\n{\"n\": 2}\n".to_vec(), b"{\"n\": 1}\n".to_vec()),
    ] {
        files.put(name, before.clone()).await;
        let table = files.open(&[name]).await.unwrap();
        // Changed before it is read, and after its first bytes.
        let changed = format!("'/host/{name}' changed while it was being read");
        files.put(name, after.clone()).await;
        let error = files.query_table(table.clone(), "SELECT * FROM t").await.unwrap_err();
        assert_eq!(error.to_string(), changed);
        files.put(name, before).await;
        let table = files.open(&[name]).await.unwrap();
        *files.store.change.lock().unwrap() = Some((location(name), after));
        let error = files.query_table(table.clone(), "SELECT * FROM t").await.unwrap_err();
        assert_eq!(error.to_string(), changed);
        // Opened again it is read as it is.
        files.query(&[name], "SELECT * FROM t").await.unwrap();
        files.store.inner.delete(&location(name)).await.unwrap();
        let error = files.query_table(table, "SELECT * FROM t").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert_eq!(error.to_string(), format!("'/host/{name}' does not exist any more"));
    }
}

#[tokio::test]
async fn counts_and_bounds_of_parquet_read_no_data() {
    let files = Files::new();
    for part in 0..4i64 {
        let rows = part * 1000..(part + 1) * 1000;
        files.put(&format!("{part}.parquet"), parquet(&batch(vec![("n", ints(rows))]))).await;
    }
    let names = ["0.parquet", "1.parquet", "2.parquet", "3.parquet"];
    let table = files.open(&names).await.unwrap();
    let footers = files.store.reads.load(Ordering::Relaxed);
    let bounds = "SELECT count(*), min(n), max(n) FROM t";
    let rows = files.query_table(table.clone(), bounds).await.unwrap();
    assert_eq!(rows, ["4000|0|3999"]);
    assert_eq!(files.store.reads.load(Ordering::Relaxed), footers);
    // A range is read from the one file that has it.
    let query = "SELECT count(*) FROM t WHERE n >= 1200 AND n < 1300";
    assert_eq!(files.query_table(table, query).await.unwrap(), ["100"]);
    assert_eq!(files.store.reads.load(Ordering::Relaxed), footers + 1);
    // Footers are read once in a session.
    let reads = files.store.reads.load(Ordering::Relaxed);
    files.expect(&names, bounds, &["4000|0|3999"]).await;
    assert_eq!(files.store.reads.load(Ordering::Relaxed), reads);
}

#[tokio::test]
async fn bounds_of_numbers_with_nan_are_not_taken_from_the_footer() {
    let files = Files::new();
    let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0, f64::NAN]));
    files.put("a.parquet", parquet(&batch(vec![("x", column)]))).await;
    files.expect(&["a.parquet"], "SELECT max(x) FROM t", &["NaN"]).await;
}

#[tokio::test]
async fn a_known_table_is_planned_without_a_read() {
    let files = Files::new();
    files.put("a.series", parquet(&batch(vec![("n", ints(0..1000))]))).await;
    let opened = files.open(&["a.series"]).await.unwrap();
    let state = files.session.state();
    let plan = opened.scan(&state, None, &[], None).await.unwrap();
    let statistics = datafusion::physical_plan::statistics::StatisticsContext::new()
        .compute(plan.as_ref(), &Default::default())
        .unwrap();
    let known =
        Arc::new(KnownTable { schema: opened.schema(), statistics, sorted_by: None, rows: None });

    let fresh = Files { session: SessionContext::new(), ..files };
    fresh.session.register_object_store(fresh.url.as_ref(), fresh.store.clone());
    let source =
        TableSource { known: Some(known), immutable: true, ..fresh.source("a.series").await };
    let reads = fresh.store.reads.load(Ordering::Relaxed);
    let table = open_table(&fresh.session.state(), vec![source]).await.unwrap();
    let rows = fresh.query_table(table.clone(), "SELECT count(*), max(n) FROM t").await.unwrap();
    assert_eq!(rows, ["1000|999"]);
    assert_eq!(fresh.store.reads.load(Ordering::Relaxed), reads);
    let rows = fresh.query_table(table, "SELECT n FROM t WHERE n = 7").await.unwrap();
    assert_eq!(rows, ["7"]);
}

/// What was learnt of a text that has just changed is not remembered: it may change again within the
/// step of its times, and look the same.
#[tokio::test]
async fn a_text_that_has_just_changed_is_looked_at_again() {
    let files = Files::new();
    for (changed_before, expected) in
        [(0, "c Int64, d Utf8View"), (1_000_000_000, "a Int64, b Int64")]
    {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos();
        files.put("x.csv", "a,b\n1,2\n").await;
        let mut source = files.source("x.csv").await;
        // Nobody is to look whether it is what it was.
        (source.object.e_tag, source.immutable) = (None, true);
        source.object.version = Some((now - changed_before).to_string());
        let state = files.session.state();
        let first = open_table(&state, vec![source.clone()]).await.unwrap().schema();
        assert_eq!(first.field(0).name(), "a");
        files.put("x.csv", "c,d\n1,x\n").await;
        let again = open_table(&state, vec![source]).await.unwrap().schema();
        let types: Vec<String> = again
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect();
        assert_eq!(types.join(", "), expected);
    }
}

/// A local file's bytes come as a handle, which readers use in ways of their own.
#[tokio::test]
async fn local_files_are_read_alike() {
    let directory = tempfile::tempdir().unwrap();
    let url = ObjectStoreUrl::parse("local://files/").unwrap();
    let store = LocalFileSystem::new_with_prefix(directory.path()).unwrap();
    let store = Arc::new(store);
    let mut files = Files::with_config(eager_to_split());
    files.session.register_object_store(url.as_ref(), store.clone());
    files.url = url;
    let table = batch(vec![("n", ints(0..50_000)), ("s", texts(&["a \"b\""; 50_000]))]);
    let csv: String = (0..50_000).map(|n| format!("{n},\"a \"\"b\"\"\"\n")).collect();
    let csv = format!("n,s\n{csv}");
    let json: String =
        (0..50_000).map(|n| format!("{{\"n\": {n}, \"s\": \"a \\\"b\\\"\"}}\n")).collect();
    let mut arrow = FileWriter::try_new(Vec::new(), &table.schema()).unwrap();
    arrow.write(&table).unwrap();
    for (name, bytes) in [
        ("a.parquet", parquet(&table)),
        ("a.csv", csv.clone().into_bytes()),
        ("a.csv.zst", compress(&csv, FileCompressionType::ZSTD).await),
        ("a.jsonl", json.clone().into_bytes()),
        ("a.jsonl.gz", compress(&json, FileCompressionType::GZIP).await),
        ("a.arrow", arrow.into_inner().unwrap()),
    ] {
        std::fs::write(directory.path().join(name), &bytes).unwrap();
        let source = || async {
            TableSource {
                path: PondPath::parse(&format!("/host/{name}")).unwrap(),
                store_url: files.url.clone(),
                object: store.head(&Path::from(name)).await.unwrap(),
                format: TableFormat::of_name(name).unwrap(),
                known: None,
                inline: None,
                immutable: false,
                after: None,
                text: None,
            }
        };
        let open =
            || async { open_table(&files.session.state(), vec![source().await]).await.unwrap() };
        let query = "SELECT count(*), sum(n), min(s), max(s) FROM t";
        let rows = files.query_table(open().await, query).await.unwrap();
        assert_eq!(rows, ["50000|1249975000|a \"b\"|a \"b\""], "{name}");
        // A file cut short since it was opened.
        let table = open().await;
        std::fs::write(directory.path().join(name), &bytes[..bytes.len() / 2]).unwrap();
        let error = files.query_table(table, query).await.unwrap_err();
        assert_eq!(error.to_string(), format!("'/host/{name}' changed while it was being read"));
    }
}

#[derive(Debug)]
struct View(RecordBatch);

#[async_trait]
impl File for View {
    async fn metadata(&self) -> Result<DirEntry> {
        let entry_type = Some(EntryType::FileTable);
        Ok(DirEntry { name: "view".to_owned(), entry_type, ..DirEntry::default() })
    }

    async fn bytes(&self) -> Result<Option<BoxStream<'static, Result<Bytes>>>> {
        Ok(None)
    }

    async fn table(&self, _: &dyn Session) -> Result<Arc<dyn TableProvider>> {
        Ok(Arc::new(MemTable::try_new(self.0.schema(), vec![vec![self.0.clone(); 3]])?))
    }

    async fn table_sources(&self, _: &dyn Session) -> Result<Option<Vec<TableSource>>> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_view_is_read_as_parquet() {
    let view = View(batch(vec![("n", ints(0..1000)), ("s", texts(&["x"; 1000]))]));
    let session = SessionContext::new().state();
    let parts: Vec<Bytes> = read(&view, &session).await.unwrap().try_collect().await.unwrap();
    let reader = ParquetRecordBatchReader::try_new(Bytes::from(parts.concat()), 8192).unwrap();
    let rows: usize = reader.map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 3000);
}
