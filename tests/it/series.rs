//! Stored tables and series, below the verbs: rows written as Parquet with their facts, read back
//! through the engine, merged, and read as of any version, with the reads counted.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use datafusion::arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Date64Array, Decimal128Array, Float32Array,
    Float64Array, Int8Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Int32Type, Schema};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::catalog::TableProvider;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{SessionConfig, SessionContext};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use pond::entry::{EntryType, NodeId, OplogEntry, TableFacts};
use pond::format::{
    APPEND_TARGET_ROWS, EncodedTable, KnownTable, Merge, MergeFile, OpenTables, Part, SeriesRows,
    Stored, TableKey, TableSource, TableWriter, detect_temporal, facts_of_parquet, next_merge,
    optimizer_rules, series_sources, stored_table, table_source,
};
use pond::path::PondPath;
use pond::pond::Pond;
use pond::tree::Tree;
use pond::{Error, ErrorKind, Result, register};

use crate::probe::ProbeStore;

/// A series as the oplog would have it, its blobs in a store that counts reads.
struct Series {
    session: SessionContext,
    store: Arc<ProbeStore>,
    url: ObjectStoreUrl,
    path: PondPath,
    temporal: Option<String>,
    versions: Vec<OplogEntry>,
    segments: Vec<OplogEntry>,
}

impl SeriesRows for Series {
    fn segments(&self) -> Result<Vec<OplogEntry>> {
        Ok(self.segments.clone())
    }

    fn versions(&self, versions: RangeInclusive<i64>) -> Result<Vec<OplogEntry>> {
        Ok(self.versions.iter().filter(|row| versions.contains(&row.version)).cloned().collect())
    }
}

impl Series {
    fn new() -> Self {
        Self::with_config(SessionConfig::new().with_target_partitions(2))
    }

    fn with_config(config: SessionConfig) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let url = ObjectStoreUrl::parse(format!("probe://series{number}/")).unwrap();
        let store = Arc::new(ProbeStore::default());
        let state = SessionStateBuilder::new()
            .with_config(config)
            .with_default_features()
            .with_physical_optimizer_rules(optimizer_rules());
        let session = SessionContext::new_with_state(state.build());
        session.register_object_store(url.as_ref(), store.clone());
        Self {
            session,
            store,
            url,
            path: PondPath::parse("/a.series").unwrap(),
            temporal: Some("timestamp".to_owned()),
            versions: Vec::new(),
            segments: Vec::new(),
        }
    }

    async fn put_blob(&self, bytes: Bytes) -> (String, i64) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{:064x}", NEXT.fetch_add(1, Ordering::Relaxed));
        let size = bytes.len() as i64;
        self.store.inner.put(&location(&name), PutPayload::from_bytes(bytes)).await.unwrap();
        (name, size)
    }

    fn row(&self, version: i64, facts: &TableFacts, (sha256, size): (String, i64)) -> OplogEntry {
        let mut row =
            OplogEntry::new(NodeId::create(), NodeId::ROOT, "a.series", EntryType::FileSeries);
        row.version = version;
        row.sha256 = Some(sha256);
        row.size = Some(size);
        row.arrow_schema = Some(facts.arrow_schema.clone());
        row.statistics = Some(facts.statistics.clone());
        row.temporal_column = facts.temporal_column.clone();
        row.min_time = facts.min_time;
        row.max_time = facts.max_time;
        row.attributes = facts.attributes(None);
        row
    }

    async fn append(&mut self, batch: &RecordBatch) -> TableFacts {
        let (bytes, facts) = encode(batch, self.temporal.as_deref());
        let blob = self.put_blob(bytes).await;
        let row = self.row(self.versions.len() as i64 + 1, &facts, blob);
        self.versions.push(row);
        facts
    }

    fn stored<R>(&self, work: impl FnOnce(Stored) -> R) -> R {
        work(Stored {
            path: &self.path,
            store_url: &self.url,
            location: &|sha256| location(sha256),
        })
    }

    fn sources(&self, last: i64) -> Result<Vec<TableSource>> {
        self.stored(|stored| series_sources(stored, 1..=last, self))
    }

    /// The files, in the order of their versions, as the policy and a merge see them.
    fn parts(&self) -> Vec<(Part, MergeFile)> {
        let mut parts = Vec::new();
        let mut next = 1;
        let mut rows: Vec<&OplogEntry> = self.segments.iter().collect();
        rows.sort_by_key(|row| row.segment().unwrap().unwrap().from);
        let newest = self.versions.len() as i64;
        let own = |versions: RangeInclusive<i64>, parts: &mut Vec<(Part, MergeFile)>| {
            for row in self.versions(versions).unwrap() {
                parts.push(self.part(&row, row.version..=row.version, None));
            }
        };
        for row in rows {
            let segment = row.segment().unwrap().unwrap();
            own(next..=segment.from - 1, &mut parts);
            parts.push(self.part(row, segment.from..=segment.to, Some(segment.runs)));
            next = segment.to + 1;
        }
        own(next..=newest, &mut parts);
        parts
    }

    fn part(
        &self,
        row: &OplogEntry,
        versions: RangeInclusive<i64>,
        runs: Option<Vec<(i64, i64)>>,
    ) -> (Part, MergeFile) {
        let source = self.stored(|stored| table_source(stored, row)).unwrap();
        let known = source.known.clone().unwrap();
        let rows = *known.statistics.num_rows.get_value().unwrap() as i64;
        let part = Part { versions, rows: rows as u64, bytes: source.object.size };
        let runs = runs.unwrap_or_else(|| vec![(row.version, rows)]);
        (part, MergeFile { source, runs })
    }

    /// Merges these versions and leaves the smaller segments out.
    async fn merge(&mut self, versions: RangeInclusive<i64>) {
        let within = |inner: &RangeInclusive<i64>| {
            versions.contains(inner.start()) && versions.contains(inner.end())
        };
        let files = self.parts().into_iter().filter(|(part, _)| within(&part.versions));
        let files = files.map(|(_, file)| file).collect();
        let temporal = self.temporal.clone().unwrap();
        let mut merge = Merge::new(&self.session.state(), files, &temporal).await.unwrap();
        let mut bytes = Vec::new();
        while let Some(part) = merge.next().await.unwrap() {
            bytes.extend_from_slice(&part);
        }
        let (facts, segment) = merge.finish().unwrap();
        assert_eq!((segment.from, segment.to), (*versions.start(), *versions.end()));
        let blob = self.put_blob(bytes.into()).await;
        let mut row = self.row(segment.to, &facts, blob);
        row.attributes = Some(segment.attributes());
        self.segments.retain(|row| {
            let old = row.segment().unwrap().unwrap();
            !within(&(old.from..=old.to))
        });
        self.segments.push(row);
    }

    /// Merges as ordinary appends would.
    async fn compact(&mut self) {
        loop {
            let parts: Vec<Part> = self.parts().into_iter().map(|(part, _)| part).collect();
            let Some(versions) = next_merge(&parts, APPEND_TARGET_ROWS) else { return };
            self.merge(versions).await;
        }
    }

    fn newest(&self) -> i64 {
        self.versions.len() as i64
    }

    /// Runs a query over the series as of a version, called `t`.
    async fn query_as_of(&self, last: i64, query: &str) -> Vec<String> {
        let table = stored_table(self.sources(last).unwrap()).unwrap();
        run(&self.session, table, query).await
    }

    async fn query(&self, query: &str) -> Vec<String> {
        self.query_as_of(self.newest(), query).await
    }

    /// Returns which files a query reads, and how many bytes of them.
    async fn reads_as_of(&self, last: i64, query: &str) -> (BTreeSet<Path>, u64) {
        // What an earlier query read of a footer is remembered.
        let cache = self.session.runtime_env().cache_manager.get_file_metadata_cache();
        cache.clear();
        self.store.reset();
        self.query_as_of(last, query).await;
        let bytes = self.store.bytes.lock().unwrap();
        (bytes.keys().cloned().collect(), bytes.values().sum())
    }

    async fn reads(&self, query: &str) -> (BTreeSet<Path>, u64) {
        self.reads_as_of(self.newest(), query).await
    }

    async fn plan(&self, query: &str) -> String {
        let table = stored_table(self.sources(self.newest()).unwrap()).unwrap();
        let _ = self.session.deregister_table("t").unwrap();
        self.session.register_table("t", table).unwrap();
        let plan = self.session.sql(query).await.unwrap().create_physical_plan().await.unwrap();
        DisplayableExecutionPlan::new(plan.as_ref()).indent(false).to_string()
    }
}

async fn run(session: &SessionContext, table: Arc<dyn TableProvider>, query: &str) -> Vec<String> {
    let _ = session.deregister_table("t").unwrap();
    session.register_table("t", table).unwrap();
    let batches = session.sql(query).await.unwrap().collect().await.unwrap();
    batches.iter().flat_map(rows).collect()
}

fn rows(batch: &RecordBatch) -> Vec<String> {
    let row = |row| {
        let values = batch.columns().iter().map(|column| match column.is_null(row) {
            true => "null".to_owned(),
            false => array_value_to_string(column, row).unwrap(),
        });
        values.collect::<Vec<_>>().join("|")
    };
    (0..batch.num_rows()).map(row).collect()
}

fn location(sha256: &str) -> Path {
    Path::from(format!("blobs/{}/{sha256}", &sha256[..2]))
}

fn encode(batch: &RecordBatch, temporal: Option<&str>) -> (Bytes, TableFacts) {
    let mut writer = TableWriter::new(&batch.schema(), temporal).unwrap();
    let mut bytes = Vec::new();
    for at in (0..batch.num_rows()).step_by(8192) {
        writer.write(&batch.slice(at, 8192.min(batch.num_rows() - at))).unwrap();
        bytes.extend_from_slice(&writer.take());
    }
    let (rest, facts) = writer.finish().unwrap();
    bytes.extend_from_slice(&rest);
    (bytes.into(), facts)
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, values)| (name, values, true)),
    )
    .unwrap()
}

const HOUR_MICROS: i64 = 3_600_000_000;
/// 2026-01-01.
const START_MICROS: i64 = 1_767_225_600_000_000;

/// An hour of readings of ten stations.
fn hour(hour: i64, rows: i64) -> RecordBatch {
    readings(START_MICROS + hour * HOUR_MICROS, HOUR_MICROS / rows, rows)
}

fn readings(from: i64, step: i64, rows: i64) -> RecordBatch {
    // A scrambled number for each row: weather repeats itself less than a formula.
    let noise = |row: i64, salt: u64| {
        let mut x = (row as u64).wrapping_add(salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 31;
        x = x.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (x >> 33) as i64
    };
    let at = |row: i64| from / step + row;
    let times = (0..rows).map(|row| from + row * step);
    let stations = (0..rows).map(|row| format!("station-{}", noise(at(row), 1) % 10));
    let temperatures = (0..rows).map(|row| (noise(at(row), 2) % 400) as f64 / 10.0 - 10.0);
    let humidities = (0..rows).map(|row| (noise(at(row), 3) % 1000) as f64 / 10.0);
    let statuses = (0..rows).map(|row| (noise(at(row), 4) % 4) as i32);
    batch(vec![
        (
            "timestamp",
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
        ),
        ("station", Arc::new(StringArray::from_iter_values(stations))),
        ("temperature", Arc::new(Float64Array::from_iter_values(temperatures))),
        ("humidity", Arc::new(Float64Array::from_iter_values(humidities))),
        ("status", Arc::new(Int32Array::from_iter_values(statuses))),
    ])
}

fn micros(times: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(times))
}

fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

#[test]
fn facts_give_every_bound_back_or_none() {
    let decimal = |values: Vec<Option<i128>>, digits, scale| -> ArrayRef {
        Arc::new(Decimal128Array::from(values).with_precision_and_scale(digits, scale).unwrap())
    };
    let text = |text: &str| ScalarValue::Utf8View(Some(text.to_owned()));
    let long = "x".repeat(65);
    let max = 9_223_372_036_854_775_807i64;
    let huge = 99_999_999_999_999_999_999_999_999_999_999_999_999i128;
    let cases: Vec<(&str, ArrayRef, Option<ScalarValue>, Option<ScalarValue>)> = vec![
        (
            "bool",
            Arc::new(BooleanArray::from(vec![true, false])),
            Some(false.into()),
            Some(true.into()),
        ),
        (
            "int8",
            Arc::new(Int8Array::from(vec![-128, 127])),
            Some((-128i8).into()),
            Some(127i8.into()),
        ),
        (
            "int64",
            Arc::new(Int64Array::from(vec![-max, max])),
            Some((-max).into()),
            Some(max.into()),
        ),
        (
            "uint64",
            Arc::new(UInt64Array::from(vec![3, u64::MAX])),
            Some(3u64.into()),
            Some(u64::MAX.into()),
        ),
        // The shortest text of 5e-324 and of 0.1 + 0.2 reads as the same number.
        (
            "float64",
            Arc::new(Float64Array::from(vec![5e-324, 0.1 + 0.2])),
            Some(5e-324.into()),
            Some((0.1 + 0.2).into()),
        ),
        (
            "digits",
            Arc::new(Float64Array::from(vec![-8.41e21, 1.234_567_890_123_456_7e-300])),
            Some((-8.41e21).into()),
            Some(1.234_567_890_123_456_7e-300.into()),
        ),
        (
            "zeros",
            Arc::new(Float64Array::from(vec![0.0, -0.0])),
            Some((-0.0).into()),
            Some(0.0.into()),
        ),
        (
            "infinite",
            Arc::new(Float64Array::from(vec![f64::INFINITY, f64::NEG_INFINITY])),
            Some(f64::NEG_INFINITY.into()),
            Some(f64::INFINITY.into()),
        ),
        ("nan", Arc::new(Float64Array::from(vec![1.0, f64::NAN])), None, None),
        ("negative_nan", Arc::new(Float64Array::from(vec![1.0, -f64::NAN])), None, None),
        (
            "float32",
            Arc::new(Float32Array::from(vec![0.1, 16_777_217.0])),
            Some(0.1f32.into()),
            Some(16_777_217.0f32.into()),
        ),
        (
            "decimal",
            decimal(vec![Some(-huge), None, Some(huge)], 38, 10),
            Some(ScalarValue::Decimal128(Some(-huge), 38, 10)),
            Some(ScalarValue::Decimal128(Some(huge), 38, 10)),
        ),
        (
            "text",
            Arc::new(StringArray::from(vec!["ä\"\n", "z"])),
            Some(text("z")),
            Some(text("ä\"\n")),
        ),
        ("view", Arc::new(StringViewArray::from(vec!["b", "a"])), Some(text("a")), Some(text("b"))),
        ("long", Arc::new(StringArray::from(vec!["a", long.as_str()])), Some(text("a")), None),
        (
            "date32",
            Arc::new(Date32Array::from(vec![-719_162, 20_000])),
            Some(ScalarValue::Date32(Some(-719_162))),
            Some(ScalarValue::Date32(Some(20_000))),
        ),
        (
            "date64",
            Arc::new(Date64Array::from(vec![1, 86_400_000])),
            Some(ScalarValue::Date64(Some(1))),
            Some(ScalarValue::Date64(Some(86_400_000))),
        ),
        (
            "time",
            Arc::new(Time64MicrosecondArray::from(vec![1, 86_399_999_999])),
            Some(ScalarValue::Time64Microsecond(Some(1))),
            Some(ScalarValue::Time64Microsecond(Some(86_399_999_999))),
        ),
        (
            "seconds",
            Arc::new(TimestampSecondArray::from(vec![-1, 1])),
            Some(ScalarValue::TimestampSecond(Some(-1), None)),
            Some(ScalarValue::TimestampSecond(Some(1), None)),
        ),
        (
            "millis",
            Arc::new(TimestampMillisecondArray::from(vec![-62_135_596_800_000, 1])),
            Some(ScalarValue::TimestampMillisecond(Some(-62_135_596_800_000), None)),
            Some(ScalarValue::TimestampMillisecond(Some(1), None)),
        ),
        (
            "micros",
            Arc::new(
                TimestampMicrosecondArray::from(vec![1, START_MICROS + 1])
                    .with_timezone("Europe/Berlin"),
            ),
            Some(ScalarValue::TimestampMicrosecond(Some(1), Some("Europe/Berlin".into()))),
            Some(ScalarValue::TimestampMicrosecond(
                Some(START_MICROS + 1),
                Some("Europe/Berlin".into()),
            )),
        ),
        (
            "nanos",
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1_767_225_600_123_456_789])),
            Some(ScalarValue::TimestampNanosecond(Some(-1), None)),
            Some(ScalarValue::TimestampNanosecond(Some(1_767_225_600_123_456_789), None)),
        ),
        // Beyond what has a name as a date.
        (
            "aeons",
            Arc::new(TimestampSecondArray::from(vec![0, max])),
            Some(ScalarValue::TimestampSecond(Some(0), None)),
            None,
        ),
        ("nulls", Arc::new(Int64Array::from(vec![None, None])), None, None),
        ("bytes", Arc::new(BinaryArray::from(vec![b"a".as_ref(), b"b"])), None, None),
        (
            "list",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(vec![
                Some(vec![Some(1)]),
                None,
            ])),
            None,
            None,
        ),
    ];
    for (name, values, min, max) in cases {
        let nulls = values.null_count();
        let values = batch(vec![(name, values)]);
        let (bytes, facts) = encode(&values, None);
        let known = KnownTable::from_facts(&facts).unwrap();
        let column = &known.statistics.column_statistics[0];
        let bound = |bound: Option<ScalarValue>| bound.map_or(Precision::Absent, Precision::Exact);
        assert_eq!(column.min_value, bound(min), "{name}: {}", facts.statistics);
        assert_eq!(column.max_value, bound(max), "{name}: {}", facts.statistics);
        assert_eq!(column.null_count, Precision::Exact(nulls), "{name}");
        assert_eq!(known.statistics.num_rows, Precision::Exact(values.num_rows()), "{name}");
        // The facts of the file are those of the rows.
        let table = rt().block_on(inspect(bytes, None)).unwrap();
        let nested = matches!(name, "list");
        if !nested {
            assert_eq!(table, facts, "{name}");
        }
    }
}

fn rt() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap()
}

/// Stores a file as it is and returns its facts.
async fn inspect(bytes: Bytes, temporal: Option<&str>) -> Result<TableFacts> {
    let store = Arc::new(ProbeStore::default());
    let at = Path::from("staged");
    store.inner.put(&at, PutPayload::from_bytes(bytes)).await.unwrap();
    let object = store.inner.head(&at).await.unwrap();
    let path = PondPath::parse("/t.table").unwrap();
    let find = |schema: &Schema| match temporal {
        Some(wanted) => detect_temporal(schema, Some(wanted)).map(Some),
        None => Ok(None),
    };
    facts_of_parquet(store, &object, &path, find).await
}

#[tokio::test]
async fn facts_of_other_writers_files_are_exact() {
    let long = |end: &str| format!("{}{end}", "y".repeat(70));
    let values = batch(vec![
        ("n", ints([5, 1, 9, 3])),
        ("x", Arc::new(Float64Array::from(vec![Some(1.5), None, Some(f64::NAN), Some(0.5)]))),
        ("short", Arc::new(StringArray::from(vec!["b", "a", "d", "c"]))),
        (
            "long",
            Arc::new(StringArray::from(vec!["b".to_owned(), long("1"), long("2"), "c".to_owned()])),
        ),
        ("time", micros([10, 20, 20, 30])),
        ("mixed", micros([10, 30, 20, 40])),
    ]);
    let (_, expected) = encode(&values, Some("time"));
    for statistics in [EnabledStatistics::None, EnabledStatistics::Chunk] {
        for groups in [1, 4] {
            let properties = WriterProperties::builder()
                .set_statistics_enabled(statistics)
                .set_statistics_truncate_length(Some(8))
                .set_max_row_group_row_count(Some(4 / groups));
            let mut writer =
                ArrowWriter::try_new(Vec::new(), values.schema(), Some(properties.build()))
                    .unwrap();
            writer.write(&values).unwrap();
            let bytes = Bytes::from(writer.into_inner().unwrap());
            assert_eq!(inspect(bytes.clone(), Some("time")).await.unwrap(), expected);
            let mixed = inspect(bytes, Some("mixed")).await.unwrap();
            assert!(!mixed.sorted);
            assert_eq!((mixed.min_time, mixed.max_time), (Some(10), Some(40)));
        }
    }
    assert!(expected.sorted);
    assert!(
        expected.statistics.contains(r#""minValues":{"long":"b","mixed":"#),
        "{}",
        expected.statistics
    );
}

#[tokio::test]
async fn what_is_no_parquet_is_refused_with_the_reason() {
    let (good, _) = encode(&batch(vec![("n", ints(0..1000))]), None);
    let error = inspect(Bytes::from_static(b"a,b\n1,2\n"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().starts_with("'/t.table' is not a Parquet file: "), "{error}");
    for end in [0, 4, 100, good.len() - 1] {
        let error = inspect(good.slice(..end), None).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{end}: {error}");
    }
    let error = inspect(good, Some("time")).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no column 'time' to order a series by");
}

#[test]
fn the_temporal_column_is_found_or_the_candidates_are_named() {
    let schema = batch(vec![
        ("n", ints([1])),
        ("Timestamp", micros([1])),
        ("day", Arc::new(Date32Array::from(vec![1]))),
    ])
    .schema();
    assert_eq!(detect_temporal(&schema, None).unwrap(), "Timestamp");
    assert_eq!(detect_temporal(&schema, Some("DAY")).unwrap(), "day");
    let error = detect_temporal(&schema, Some("n")).unwrap_err();
    assert_eq!(error.to_string(), "column 'n' has type Int64, so it cannot order a series");
    assert_eq!(error.hint(), Some("name the temporal column, one of 'Timestamp', 'day'"));
    let none = batch(vec![("n", ints([1]))]).schema();
    let error = detect_temporal(&none, None).unwrap_err();
    assert_eq!(error.to_string(), "there is no column 'timestamp' to order a series by");
    assert_eq!(error.hint(), Some("a series needs a column of timestamps or dates"));
}

#[test]
fn tables_that_cannot_be_written_are_refused() {
    let twice = Schema::new(vec![
        datafusion::arrow::datatypes::Field::new(
            "a",
            datafusion::arrow::datatypes::DataType::Int64,
            true,
        ),
        datafusion::arrow::datatypes::Field::new(
            "a",
            datafusion::arrow::datatypes::DataType::Int64,
            true,
        ),
    ]);
    let error = |schema: &Schema| TableWriter::new(schema, None).err().unwrap();
    assert_eq!(error(&twice).to_string(), "there are two columns 'a'");
    assert_eq!(error(&Schema::empty()).to_string(), "a table needs at least one column");
}

/// The counts of the issue: thirty versions of an hour each, before and after they are merged.
#[tokio::test]
async fn an_hour_opens_one_file_and_counts_open_none() {
    let mut series = Series::new();
    for number in 0..30 {
        series.append(&hour(number, 10_000)).await;
    }
    let from = |hour: i64| format!("to_timestamp_micros({})", START_MICROS + hour * HOUR_MICROS);
    for round in ["appended", "merged"] {
        let files = series.sources(30).unwrap().len();
        assert_eq!(files, if round == "appended" { 30 } else { 6 });
        for number in [0, 7, 12, 29] {
            let query = format!(
                "SELECT avg(temperature), count(*) FROM t WHERE timestamp >= {} AND timestamp < {}",
                from(number),
                from(number + 1)
            );
            let rows = series.query(&query).await;
            assert!(rows[0].ends_with("|10000"), "{rows:?}");
            let (files, bytes) = series.reads(&query).await;
            assert_eq!(files.len(), 1, "{round}: {files:?}");
            assert!(bytes <= 60_000, "{round}: hour {number} read {bytes} bytes");
        }
        let bounds = "SELECT count(*), min(timestamp), max(timestamp), min(station), max(status), \
                      max(temperature) FROM t";
        assert_eq!(
            series.query(bounds).await,
            ["300000|2026-01-01T00:00:00Z|2026-01-02T05:59:59.640Z|station-0|3|29.9"]
        );
        assert_eq!(series.reads(bounds).await.0.len(), 0, "{round}");
        let none = format!("SELECT * FROM t WHERE timestamp >= {}", from(30));
        assert_eq!(series.reads(&none).await.0.len(), 0, "{round}");
        series.compact().await;
    }
    // As of the 7th version, the segment of 25 is read in part, and the same query opens as much.
    let bounds = "SELECT count(*), min(timestamp), max(timestamp) FROM t";
    assert_eq!(
        series.query_as_of(7, bounds).await,
        ["70000|2026-01-01T00:00:00Z|2026-01-01T06:59:59.640Z"]
    );
    assert_eq!(series.reads_as_of(7, bounds).await.0.len(), 0);
    let query = format!(
        "SELECT avg(temperature) FROM t WHERE timestamp >= {} AND timestamp < {}",
        from(3),
        from(4)
    );
    assert_eq!(series.query_as_of(7, &query).await, series.query(&query).await);
    let (files, bytes) = series.reads_as_of(7, &query).await;
    let (newest_files, newest_bytes) = series.reads(&query).await;
    assert_eq!(files, newest_files);
    assert!(bytes <= newest_bytes, "{bytes} instead of {newest_bytes}");
    let later = format!("SELECT * FROM t WHERE timestamp >= {}", from(7));
    assert_eq!(series.reads_as_of(7, &later).await.0.len(), 0);
    let scan = "SELECT count(temperature), sum(status) FROM t";
    assert!(series.query_as_of(7, scan).await[0].starts_with("70000|"));
}

/// A filter on a bucket makes the plan that the range makes when it is written by hand, and so reads
/// as much: the same files, row groups and pages.
#[tokio::test]
async fn a_bucket_reads_what_its_range_does() {
    let mut series = Series::new();
    register(&series.session, Tree::new(Pond::transient().await.unwrap())).await.unwrap();
    for number in 0..60 {
        series.append(&hour(number, 10_000)).await;
    }
    let time = |hour: i64| format!("to_timestamp_micros({})", START_MICROS + hour * HOUR_MICROS);
    let hours = "(SELECT date_trunc('hour', timestamp) AS hour, avg(temperature) AS a, \
                 count(*) AS n FROM t GROUP BY 1)";
    let of_range = |from: i64, to: i64| {
        format!(
            "SELECT * FROM (SELECT date_trunc('hour', timestamp) AS hour, avg(temperature) AS a, \
             count(*) AS n FROM t WHERE timestamp >= {} AND timestamp < {} GROUP BY 1) ORDER BY 1",
            time(from),
            time(to)
        )
    };
    let of_days = |from: i64, to: i64| {
        format!(
            "SELECT avg(temperature), count(*) FROM t WHERE timestamp >= {} AND timestamp < {}",
            time(from),
            time(to)
        )
    };
    let days = "SELECT avg(temperature), count(*) FROM t WHERE";
    let cases = [
        (format!("SELECT * FROM {hours} WHERE hour = {} ORDER BY 1", time(7)), of_range(7, 8)),
        (
            format!(
                "SELECT * FROM {hours} WHERE hour > {} AND hour <= {} ORDER BY 1",
                time(20),
                time(22)
            ),
            of_range(21, 23),
        ),
        (format!("{days} date_trunc('hour', timestamp) = {}", time(33)), of_days(33, 34)),
        (
            format!("{days} date_bin(INTERVAL '1 hour', timestamp) = '2026-01-02T04:00:00Z'"),
            of_days(28, 29),
        ),
        (format!("{days} DATE(timestamp) = '2026-01-02'"), of_days(24, 48)),
        (format!("{days} DATE(date_trunc('hour', timestamp)) = '2026-01-02'"), of_days(24, 48)),
        (
            format!("{days} date_trunc('day', timestamp) IN ('2026-01-02', '2026-01-01')"),
            of_days(0, 48),
        ),
    ];
    for round in ["appended", "merged"] {
        for (bucket, range) in &cases {
            let rows = series.query(range).await;
            assert!(rows.iter().all(|row| row.ends_with("0000")) && !rows.is_empty(), "{rows:?}");
            assert_eq!(series.query(bucket).await, rows, "{bucket}");
            assert_eq!(series.plan(bucket).await, series.plan(range).await, "{bucket}");
            assert_eq!(series.reads(bucket).await, series.reads(range).await, "{round}: {bucket}");
        }
        let (files, bytes) = series.reads(&cases[0].0).await;
        assert_eq!(files.len(), 1, "{round}");
        assert!(bytes <= 60_000, "{round}: {bytes}");
        let no_hour =
            format!("SELECT * FROM {hours} WHERE hour = {} + INTERVAL '1 minute'", time(7));
        assert_eq!(series.reads(&no_hour).await.0.len(), 0);
        series.compact().await;
    }
    // A day of a zone whose clocks change is looked for within a few days.
    let day = format!(
        "{days} date_trunc('day', timestamp AT TIME ZONE 'Europe/Berlin') = '2025-12-31T23:00:00Z'"
    );
    assert!(series.query(&day).await[0].ends_with("|230000"));
    let far = day.replace("2025-12-31", "2025-12-20");
    assert_eq!(series.reads(&far).await.0.len(), 0);
    assert_eq!(series.reads(&day).await.0.len(), 2);
    assert_eq!(series.reads("SELECT sum(temperature) FROM t").await.0.len(), 12);
}

#[tokio::test]
async fn the_first_and_the_last_rows_need_no_sort_and_one_file() {
    let mut series = Series::new();
    for number in 0..60 {
        series.append(&hour(number, 10_000)).await;
    }
    series.compact().await;
    let first = "SELECT timestamp, status FROM t ORDER BY timestamp LIMIT 10";
    let plan = series.plan(first).await;
    assert!(!plan.contains("SortExec"), "{plan}");
    let (files, bytes) = series.reads(first).await;
    assert_eq!(files.len(), 1, "{plan}");
    assert!(bytes < 60_000, "{bytes}");
    let last = "SELECT timestamp, status FROM t ORDER BY timestamp DESC LIMIT 10";
    let (files, bytes) = series.reads(last).await;
    assert_eq!(files.len(), 1, "{}", series.plan(last).await);
    assert!(bytes < 60_000, "{bytes}");
    assert_eq!(series.query(first).await[0].split('|').next(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(series.query(last).await[0].split('|').next(), Some("2026-01-03T11:59:59.640Z"));
    assert_eq!(series.query(last).await.len(), 10);
}

/// Cuts also small scans into partitions.
fn eager_to_split(partitions: usize) -> SessionConfig {
    SessionConfig::new().with_target_partitions(partitions).with_repartition_file_min_size(1)
}

/// Rows in no order, of which every version and every point in between must come out right.
struct Model {
    series: Series,
    versions: Vec<RecordBatch>,
}

impl Model {
    fn new() -> Self {
        Self { series: Series::with_config(eager_to_split(3)), versions: Vec::new() }
    }

    async fn append(&mut self, batch: RecordBatch) {
        self.series.append(&batch).await;
        self.versions.push(batch);
    }

    /// Compares queries over the series as of each version with the same over the plain rows.
    async fn check(&self, columns: &str, queries: &[&str]) {
        let plain = SessionContext::new();
        for last in 1..=self.versions.len() {
            // As the engine unites them: by name, in memory.
            let mut union = Vec::new();
            for (at, batch) in self.versions[..last].iter().enumerate() {
                let name = format!("v{at}");
                let _ = plain.deregister_table(&name).unwrap();
                plain.register_batch(&name, batch.clone()).unwrap();
                union.push(format!("SELECT {columns} FROM {name}"));
            }
            let union = union.join(" UNION ALL ");
            let table = plain.sql(&union).await.unwrap().into_view();
            for query in queries {
                let expected = run(&plain, table.clone(), query).await;
                let found = self.series.query_as_of(last as i64, query).await;
                assert_eq!(found, expected, "as of version {last}: {query}");
            }
        }
    }
}

const CHECKS: &[&str] = &[
    "SELECT count(*), count(value), min(timestamp), max(timestamp), min(value), max(value) FROM t",
    "SELECT * FROM t ORDER BY timestamp, value LIMIT 20",
    "SELECT * FROM t ORDER BY timestamp DESC, value LIMIT 20",
    "SELECT timestamp FROM t ORDER BY timestamp LIMIT 15",
    "SELECT timestamp FROM t ORDER BY timestamp DESC LIMIT 15",
    "SELECT timestamp FROM t ORDER BY timestamp DESC NULLS LAST LIMIT 5",
    "SELECT timestamp FROM t ORDER BY timestamp",
    "SELECT timestamp, value FROM t WHERE timestamp > to_timestamp_micros(500) ORDER BY 1, 2 LIMIT 9",
    "SELECT count(*), sum(value) FROM t WHERE timestamp BETWEEN to_timestamp_micros(300) AND to_timestamp_micros(700)",
    "SELECT count(*) FROM t WHERE value < 100",
    "SELECT count(*) FROM t WHERE timestamp IS NULL",
    "SELECT date_bin(INTERVAL '100 microseconds', timestamp), count(*), sum(value) FROM t GROUP BY 1 ORDER BY 1",
];

fn version(times: impl IntoIterator<Item = i64>) -> RecordBatch {
    let times: Vec<i64> = times.into_iter().collect();
    let values: Vec<i64> = times.iter().map(|time| time * 7 % 1000).collect();
    batch(vec![("timestamp", micros(times)), ("value", ints(values))])
}

#[tokio::test]
async fn late_and_unsorted_rows_come_out_right_as_of_every_version() {
    let mut model = Model::new();
    let columns = "timestamp, value";
    // In order, late, overlapping, descending, empty, the same again, before everything, with nulls.
    model.append(version(0..100)).await;
    model.append(version(100..200)).await;
    model.append(version((50..150).step_by(3))).await;
    model.append(version((200..300).rev())).await;
    model.append(version([])).await;
    model.append(version(100..200)).await;
    model.append(version([-5, -5, 1000])).await;
    let plan = model.series.plan("SELECT timestamp FROM t ORDER BY timestamp").await;
    assert!(plan.contains("SortExec"), "{plan}");
    model.check(columns, CHECKS).await;
    model.series.merge(2..=3).await;
    model.check(columns, CHECKS).await;
    model.series.merge(4..=7).await;
    model.check(columns, CHECKS).await;
    // The descending version is in order now, and the series with it.
    let plan = model.series.plan("SELECT timestamp FROM t ORDER BY timestamp").await;
    assert!(!plan.contains("SortExec"), "{plan}");
    model.series.merge(1..=7).await;
    assert_eq!(model.series.sources(7).unwrap().len(), 1);
    model.check(columns, CHECKS).await;
    let nulls: TimestampMicrosecondArray = vec![Some(5), None, Some(400)].into();
    let nulls = vec![("timestamp", Arc::new(nulls) as ArrayRef), ("value", ints([1, 2, 3]))];
    model.append(batch(nulls)).await;
    model.append(version(600..700)).await;
    model.check(columns, CHECKS).await;
    model.series.merge(1..=9).await;
    model.check(columns, CHECKS).await;
}

#[tokio::test]
async fn a_segment_that_is_read_in_part_is_merged_in_part() {
    let mut model = Model::new();
    for start in [0, 50, 20, 100] {
        model.append(version(start..start + 60)).await;
    }
    model.series.merge(1..=4).await;
    // As a copy of the series as of version 3 has it: the rows of the 4th are nobody's.
    let row = &mut model.series.segments[0];
    let mut segment = row.segment().unwrap().unwrap();
    segment.to = 3;
    for (version, _) in segment.runs.iter_mut().filter(|(version, _)| *version > 3) {
        *version = 0;
    }
    row.attributes = Some(segment.attributes());
    model.series.versions.truncate(3);
    model.versions.truncate(3);
    model.check("timestamp, value", CHECKS).await;
}

#[tokio::test]
async fn columns_that_change_over_time_are_one_table() {
    let mut model = Model::new();
    let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, 2]));
    let millis: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![3000, 4000]));
    let ints32: ArrayRef = Arc::new(Int32Array::from(vec![Some(7), None]));
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    model.append(batch(vec![("timestamp", seconds), ("value", ints32)])).await;
    model.append(batch(vec![("value", ints([1 << 40, 8])), ("timestamp", millis)])).await;
    model
        .append(batch(vec![
            ("timestamp", micros([5_000_000, 6_000_000])),
            ("note", texts.clone()),
            ("value", floats),
        ]))
        .await;
    model.append(batch(vec![("timestamp", micros([7_000_000, 8_000_000])), ("note", texts)])).await;
    let mut expected = Vec::new();
    let queries = [
        "SELECT count(*), count(value), min(value), max(value), count(note), max(note) FROM t",
        "SELECT timestamp, value, note FROM t ORDER BY timestamp",
        "SELECT timestamp FROM t ORDER BY timestamp DESC LIMIT 3",
        "SELECT count(*) FROM t WHERE value IS NULL",
    ];
    let all = [
        "8|5|0.5|1099511627776.0|4|b",
        "1970-01-01T00:00:01|7.0|null",
        "1970-01-01T00:00:02|null|null",
        "1970-01-01T00:00:03|1099511627776.0|null",
        "1970-01-01T00:00:04|8.0|null",
        "1970-01-01T00:00:05|0.5|a",
        "1970-01-01T00:00:06|1.5|b",
        "1970-01-01T00:00:07|null|a",
        "1970-01-01T00:00:08|null|b",
        "1970-01-01T00:00:08",
        "1970-01-01T00:00:07",
        "1970-01-01T00:00:06",
        "3",
    ];
    for query in queries {
        expected.extend(model.series.query(query).await);
    }
    assert_eq!(expected, all);
    assert_eq!(model.series.reads(queries[0]).await.0.len(), 0);
    model.series.merge(2..=3).await;
    model.series.merge(1..=4).await;
    let mut merged = Vec::new();
    for query in queries {
        merged.extend(model.series.query(query).await);
    }
    assert_eq!(merged, all);
    // As of the first version the columns are those of the merged file, and the values its own.
    let first =
        model.series.query_as_of(1, "SELECT count(*), max(value), count(note) FROM t").await;
    assert_eq!(first, ["2|7.0|0"]);

    let error = {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        model.append(batch(vec![("timestamp", micros([9])), ("value", texts)])).await;
        stored_table(model.series.sources(5).unwrap()).err().unwrap()
    };
    assert_eq!(
        error.to_string(),
        "'/a.series': column 'value' is Utf8View, but Float64 in '/a.series'"
    );
}

/// Rows of two versions that alternate at every row have no short note of whose they are.
#[tokio::test]
async fn versions_that_interleave_too_often_are_put_after_each_other() {
    let mut model = Model::new();
    let times = |from: i64, step| (0..40_000i64).map(move |row| from + row * step);
    model.append(version(times(0, 2))).await;
    model.append(version(times(1, 2))).await;
    model.append(version(times(80_000, 1))).await;
    let checks = [
        "SELECT count(*), min(timestamp), max(timestamp), sum(value) FROM t",
        "SELECT timestamp FROM t ORDER BY timestamp DESC LIMIT 15",
        "SELECT timestamp FROM t ORDER BY timestamp LIMIT 15",
    ];
    model.check("timestamp, value", &checks).await;
    model.series.merge(1..=3).await;
    let segment = model.series.segments[0].segment().unwrap().unwrap();
    assert!(!segment.sorted);
    assert_eq!(segment.runs, [(1, 40_000), (2, 40_000), (3, 40_000)]);
    model.check("timestamp, value", &checks).await;
    // Few enough, and they are merged.
    let mut model = Model::new();
    model.append(version((0..1000).map(|row| row * 2))).await;
    model.append(version((0..1000).map(|row| row * 2 + 1))).await;
    model.series.merge(1..=2).await;
    let segment = model.series.segments[0].segment().unwrap().unwrap();
    assert!(segment.sorted);
    assert_eq!(segment.runs.len(), 2000);
    model.check("timestamp, value", CHECKS).await;
}

#[tokio::test]
async fn an_encoded_table_streams_and_tells_why_it_ends() {
    let part = hour(0, 8192);
    let schema = part.schema();
    let stream = |rows: Vec<datafusion::error::Result<RecordBatch>>| {
        let rows = futures::stream::iter(rows);
        Box::pin(RecordBatchStreamAdapter::new(schema.clone(), rows))
    };
    let many = (0..60).map(|number| Ok(hour(number, 8192))).collect();
    let mut encoded = EncodedTable::new(stream(many), Some("timestamp")).unwrap();
    let mut parts = Vec::new();
    while let Some(part) = encoded.next().await.unwrap() {
        parts.push(part);
    }
    let facts = encoded.finish().unwrap();
    assert!(facts.sorted);
    assert!(parts.len() >= 4, "{} parts", parts.len());
    let whole = Bytes::from(parts.concat());
    assert_eq!(inspect(whole, Some("timestamp")).await.unwrap(), facts);

    let torn = Err(Error::invalid("row 8193 is torn").into());
    let mut encoded = EncodedTable::new(stream(vec![Ok(part.clone()), torn]), None).unwrap();
    let error = loop {
        match encoded.next().await {
            Ok(part) => assert!(part.is_some(), "half a table is no table"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.to_string(), "row 8193 is torn");
    assert_eq!(encoded.finish().unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_opened_table_is_kept_until_the_series_changes() {
    let mut series = Series::new();
    series.append(&version(0..10)).await;
    let tables = OpenTables::default();
    let key = |changed| TableKey {
        path: series.path.clone(),
        store_url: series.url.clone(),
        node: NodeId::ROOT,
        versions: 1..=1,
        sha256: None,
        changed: (changed, 0),
    };
    let opened = std::cell::Cell::new(0);
    let open = || {
        opened.set(opened.get() + 1);
        series.sources(1)
    };
    tables.get(Some(key(1)), open).unwrap();
    tables.get(Some(key(1)), open).unwrap();
    assert_eq!(opened.get(), 1);
    tables.get(Some(key(2)), open).unwrap();
    tables.get(None, open).unwrap();
    tables.get(None, open).unwrap();
    assert_eq!(opened.get(), 4);
}

/// A limit in the order of time is of the earliest rows that a filter leaves, also where the engine
/// would rather take row groups whose rows all meet it.
#[tokio::test]
async fn a_limit_after_a_filter_takes_the_earliest_rows() {
    for partitions in [1, 2, 5] {
        let mut series = Series::with_config(eager_to_split(partitions));
        // Several row groups, and late rows for a second lane.
        series.append(&version(0..400_000)).await;
        series.append(&version(400_000..800_000)).await;
        series.append(&version((0..800_000).step_by(1000))).await;
        for last in [2, 3] {
            for from in [0, 1, 130_000, 399_999, 700_001] {
                let query = format!(
                    "SELECT timestamp FROM t WHERE timestamp >= to_timestamp_micros({from}) \
                     ORDER BY timestamp LIMIT 5"
                );
                let late = |time: i64| 1 + usize::from(last == 3 && time % 1000 == 0);
                let times = (from..).flat_map(|time| std::iter::repeat_n(time, late(time)));
                let expected: Vec<String> = times
                    .take(5)
                    .flat_map(|time| rows(&batch(vec![("t", micros([time]))])))
                    .collect();
                let found = series.query_as_of(last, &query).await;
                assert_eq!(found, expected, "{partitions} partitions, as of {last}: {query}");
            }
        }
    }
}
