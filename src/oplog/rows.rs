//! The rows of the oplog in Parquet: how they are written, checked, and read in part.
//!
//! A file is read as a stream of batches of about [`BATCH_BYTES`], and a table as the merge of its files
//! by transaction: all rows of a transaction are in one file, and within a file transactions ascend, so
//! a merge needs one batch of each file whose transactions overlap. What a [`Scan`] does not want is
//! left out as early as it can be told: whole files by their transactions, row groups by their
//! statistics, rows by the few columns that decide, and columns by name.
//!
//! **Checks.** The log names a CRC-32 for each [`Pieces`] of a file, so any range can be read and still
//! be checked: nothing is decoded that is not what was written. A file of another writer has none; it
//! is read as it is, and sorted, for only ours are known to be.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBuilder, Int64Builder,
    RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderBuilder, ArrowReaderOptions, RowFilter,
};
use datafusion::parquet::arrow::async_reader::AsyncFileReader;
use datafusion::parquet::arrow::{ArrowWriter, ParquetRecordBatchStreamBuilder, ProjectionMask};
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData,
};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties};
use datafusion::parquet::file::statistics::Statistics;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::DataFile;
use crate::entry::{EntryType, NodeId, OplogEntry};
use crate::error::{Error, ErrorKind, Result};

/// The columns, their Delta types and their Arrow types.
pub(super) const COLUMNS: [(&str, &str); 19] = [
    ("txn", "long"),
    ("timestamp", "timestamp"),
    ("message", "string"),
    ("node_id", "string"),
    ("parent_id", "string"),
    ("name", "string"),
    ("entry_type", "string"),
    ("deleted", "boolean"),
    ("version", "long"),
    ("factory", "string"),
    ("content", "binary"),
    ("sha256", "string"),
    ("size", "long"),
    ("arrow_schema", "string"),
    ("statistics", "string"),
    ("temporal_column", "string"),
    ("min_time", "long"),
    ("max_time", "long"),
    ("attributes", "string"),
];

/// About as much is decoded, and encoded, at a time.
const BATCH_BYTES: usize = 1 << 20;
/// At most as many rows are decoded, and encoded, at a time.
const BATCH_ROWS: usize = 8192;
/// A row group is no larger than this by much, for it is fetched whole.
const ROW_GROUP_BYTES: usize = 4 << 20;
/// Rows of a row group.
const ROW_GROUP_ROWS: usize = 32 * 1024;
/// A merged file that has reached this size is full.
const FILE_BYTES: usize = 24 << 20;
/// A file up to this size is fetched whole.
const WHOLE_BYTES_MAX: i64 = 1 << 20;
/// Pieces of a file with a CRC of their own.
const PIECES_MAX: usize = 64;
/// The smallest piece.
const PIECE_BYTES_MIN: usize = 64 * 1024;
/// Files that are opened ahead of their turn.
const OPEN_AHEAD: usize = 4;
/// What the attributes of a segment row begin with.
const SEGMENT_PREFIX: &str = "{\"segment\":";

/// Returns the Arrow schema of the rows.
pub fn oplog_schema() -> SchemaRef {
    static SCHEMA: std::sync::LazyLock<SchemaRef> = std::sync::LazyLock::new(|| {
        let fields = COLUMNS.iter().map(|(name, delta_type)| {
            let data_type = match *delta_type {
                "long" => DataType::Int64,
                "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                "boolean" => DataType::Boolean,
                "binary" => DataType::Binary,
                _ => DataType::Utf8,
            };
            Field::new(*name, data_type, true)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    });
    SCHEMA.clone()
}

/// Which rows are wanted, and which of their columns.
#[derive(Debug, Clone)]
pub struct Scan {
    txns: RangeInclusive<i64>,
    segments: bool,
    nodes: Option<BTreeSet<NodeId>>,
    without: Vec<&'static str>,
}

impl Scan {
    /// All rows.
    pub fn all() -> Self {
        Self::txns(i64::MIN..=i64::MAX)
    }

    /// The rows of the transactions up to `txn`.
    pub fn up_to(txn: i64) -> Self {
        Self::txns(i64::MIN..=txn)
    }

    /// The rows of these transactions.
    pub fn txns(txns: RangeInclusive<i64>) -> Self {
        Self { txns, segments: false, nodes: None, without: Vec::new() }
    }

    /// And the segment rows of every transaction.
    #[must_use]
    pub fn and_segments(mut self) -> Self {
        self.segments = true;
        self
    }

    /// Only rows of these nodes.
    #[must_use]
    pub fn of_nodes(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.nodes = Some(nodes.into_iter().collect());
        self
    }

    /// Leaves `content` out: it is `None` in every row.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.without.push("content");
        self
    }

    /// Leaves `arrow_schema` and `statistics` out: they are `None` in every row.
    #[must_use]
    pub fn without_facts(mut self) -> Self {
        self.without.extend(["arrow_schema", "statistics"]);
        self
    }

    /// Whether `file` may hold wanted rows.
    fn wants_file(&self, file: &DataFile) -> bool {
        let overlaps = file.txn_min <= *self.txns.end() && file.txn_max >= *self.txns.start();
        overlaps || (self.segments && file.segments)
    }

    /// Whether every row of `file` is wanted.
    fn wants_all_of(&self, file: &DataFile) -> bool {
        self.nodes.is_none()
            && self.txns.contains(&file.txn_min)
            && self.txns.contains(&file.txn_max)
    }

    /// Whether a row group may hold wanted rows, as far as its statistics tell.
    fn wants_group(&self, group: &RowGroupMetaData) -> bool {
        let statistics = |name: &str| {
            let column =
                group.columns().iter().find(|column| column.column_path().string() == name);
            column.and_then(|column| column.statistics())
        };
        let in_txns = match statistics("txn") {
            Some(Statistics::Int64(txns)) => match (txns.min_opt(), txns.max_opt()) {
                (Some(min), Some(max)) => min <= self.txns.end() && max >= self.txns.start(),
                _ => true,
            },
            _ => true,
        };
        let text = |name: &str| {
            let bounds = statistics(name).map(|it| (it.min_bytes_opt(), it.max_bytes_opt()));
            match bounds {
                Some((Some(min), Some(max))) => Some((min, max)),
                _ => None,
            }
        };
        let segments = || {
            text("attributes").is_none_or(|(min, max)| {
                let prefix = SEGMENT_PREFIX.as_bytes();
                max >= prefix && min.get(..prefix.len()).unwrap_or(min) <= prefix
            })
        };
        let nodes = || {
            let Some(nodes) = &self.nodes else { return true };
            let id = |bytes| NodeId::parse(std::str::from_utf8(bytes).ok()?).ok();
            match text("node_id").and_then(|(min, max)| Some((id(min)?, id(max)?))) {
                Some((min, max)) => nodes.range(min..=max).next().is_some(),
                None => true,
            }
        };
        (in_txns || (self.segments && segments())) && nodes()
    }

    /// Narrows the reading of a file to what is wanted.
    fn narrow<T>(&self, file: &DataFile, builder: ArrowReaderBuilder<T>) -> ArrowReaderBuilder<T> {
        let metadata = builder.metadata().clone();
        let groups: Vec<usize> = (0..metadata.num_row_groups())
            .filter(|at| self.wants_group(metadata.row_group(*at)))
            .collect();
        let schema = metadata.file_metadata().schema_descr();
        let names = || COLUMNS.iter().map(|(name, _)| *name);
        let wanted = names().filter(|name| !self.without.contains(name));
        let projection = ProjectionMask::columns(schema, wanted);
        let bytes: i64 = metadata
            .row_groups()
            .iter()
            .flat_map(RowGroupMetaData::columns)
            .filter(|column| !self.without.contains(&column.column_path().string().as_str()))
            .map(|column| column.uncompressed_size())
            .sum();
        let row_bytes = bytes.max(0) as usize / (file.rows.max(1) as usize);
        let builder = builder
            .with_row_groups(groups)
            .with_projection(projection)
            .with_batch_size((BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS));
        if self.wants_all_of(file) {
            return builder;
        }
        let deciding = ProjectionMask::columns(schema, ["txn", "node_id", "attributes"]);
        let scan = self.clone();
        let predicate = ArrowPredicateFn::new(deciding, move |batch| scan.select(&batch));
        builder.with_row_filter(RowFilter::new(vec![Box::new(predicate)]))
    }

    /// Tells for each row of a batch of the deciding columns whether it is wanted.
    fn select(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let lacks = |name| ArrowError::SchemaError(format!("no column {name}"));
        let column = |name: &'static str, data_type| {
            cast(batch.column_by_name(name).ok_or_else(|| lacks(name))?, data_type)
        };
        let txns = column("txn", &DataType::Int64)?;
        let nodes = column("node_id", &DataType::Utf8)?;
        let attributes = match batch.column_by_name("attributes") {
            Some(attributes) => Some(cast(attributes, &DataType::Utf8)?),
            None => None,
        };
        let (txns, nodes) = (txns.as_primitive::<Int64Type>(), nodes.as_string::<i32>());
        let attributes = attributes.as_ref().map(|it| it.as_string::<i32>());
        let wanted = (0..batch.num_rows()).map(|row| {
            let is_segment = || {
                attributes
                    .is_some_and(|it| it.is_valid(row) && it.value(row).starts_with(SEGMENT_PREFIX))
            };
            let is_of_nodes = || match &self.nodes {
                Some(wanted) => {
                    NodeId::parse(nodes.value(row)).is_ok_and(|node| wanted.contains(&node))
                }
                None => true,
            };
            (self.txns.contains(&txns.value(row)) || (self.segments && is_segment()))
                && is_of_nodes()
        });
        Ok(wanted.map(Some).collect())
    }
}

/// The CRC-32 of each piece of a file, in their order. All pieces but the last have the same size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pieces {
    bytes: u64,
    crcs: Vec<u32>,
}

impl Pieces {
    /// Computes those of a file.
    pub(super) fn of(file: &[u8]) -> Self {
        let bytes = file.len().div_ceil(PIECES_MAX).next_power_of_two().max(PIECE_BYTES_MIN);
        Self { bytes: bytes as u64, crcs: file.chunks(bytes).map(crc32fast::hash).collect() }
    }

    /// Parses what [`Pieces::to_tag`] returns.
    pub(super) fn parse(tag: &str) -> Option<Self> {
        let (bytes, crcs) = tag.split_once(':')?;
        let crc = |crc| u32::from_str_radix(crc, 16).ok();
        let crcs = crcs.split(',').map(crc).collect::<Option<_>>()?;
        Some(Self { bytes: bytes.parse().ok().filter(|bytes| *bytes > 0)?, crcs })
    }

    /// Returns the form that the log has: the size of a piece, and the CRCs in hexadecimal.
    pub(super) fn to_tag(&self) -> String {
        let crcs: Vec<String> = self.crcs.iter().map(|crc| format!("{crc:08x}")).collect();
        format!("{}:{}", self.bytes, crcs.join(","))
    }

    /// Returns the range of whole pieces that `range` lies in, in a file of `size` bytes.
    fn around(&self, range: &Range<u64>, size: u64) -> Range<u64> {
        let start = range.start / self.bytes * self.bytes;
        start..range.end.div_ceil(self.bytes).saturating_mul(self.bytes).min(size)
    }

    /// Whether `bytes`, which begin with a piece and end with one, are what was written there.
    fn fit(&self, at: u64, bytes: &[u8]) -> bool {
        let first = usize::try_from(at / self.bytes).unwrap_or(usize::MAX);
        let crcs = self.crcs.get(first..).unwrap_or_default();
        let count = bytes.len().div_ceil(self.bytes as usize);
        count <= crcs.len()
            && bytes
                .chunks(self.bytes as usize)
                .zip(crcs)
                .all(|(piece, crc)| crc32fast::hash(piece) == *crc)
    }
}

/// A data file, of which only what was written is ever returned.
struct CheckedFile {
    store: Arc<dyn ObjectStore>,
    file: DataFile,
    whole: Option<Bytes>,
}

impl CheckedFile {
    fn path(&self) -> Path {
        Path::from(self.file.path.as_str())
    }

    fn size_bytes(&self) -> u64 {
        u64::try_from(self.file.size_bytes).unwrap_or(0)
    }

    async fn read(&mut self, ranges: Vec<Range<u64>>) -> Result<Vec<Bytes>> {
        let size_bytes = self.size_bytes();
        if ranges.iter().any(|range| range.start > range.end || range.end > size_bytes) {
            return Err(damaged(&self.file));
        }
        if self.whole.is_none() && self.file.size_bytes <= WHOLE_BYTES_MAX {
            self.whole = Some(read_whole(&self.store, &self.file).await?);
        }
        if let Some(whole) = &self.whole {
            let slice = |range: Range<u64>| whole.slice(range.start as usize..range.end as usize);
            return Ok(ranges.into_iter().map(slice).collect());
        }
        let Some(pieces) = self.file.pieces.clone() else {
            let read = self.store.get_ranges(&self.path(), &ranges).await;
            return read.map_err(|error| unreadable(&self.file, error));
        };
        let mut around: Vec<Range<u64>> =
            ranges.iter().map(|range| pieces.around(range, size_bytes)).collect();
        around.sort_by_key(|range| range.start);
        around.dedup_by(|next, range| {
            let joined = next.start <= range.end;
            if joined {
                range.end = range.end.max(next.end);
            }
            joined
        });
        let read = self.store.get_ranges(&self.path(), &around).await;
        let read = read.map_err(|error| unreadable(&self.file, error))?;
        for (range, bytes) in around.iter().zip(&read) {
            if bytes.len() as u64 != range.end - range.start || !pieces.fit(range.start, bytes) {
                return Err(damaged(&self.file));
            }
        }
        let slice = |range: Range<u64>| {
            let at = around.partition_point(|around| around.start <= range.start) - 1;
            let start = around[at].start;
            read[at].slice((range.start - start) as usize..(range.end - start) as usize)
        };
        Ok(ranges.into_iter().map(slice).collect())
    }
}

impl AsyncFileReader for CheckedFile {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let mut read = self.get_byte_ranges(vec![range]).await?;
            Ok(read.pop().expect("one for each range"))
        }
        .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        self.read(ranges)
            .map(|read| read.map_err(|error| ParquetError::External(error.into())))
            .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size_bytes = self.size_bytes();
            let reader = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(PIECE_BYTES_MIN));
            Ok(Arc::new(reader.load_and_finish(self, size_bytes).await?))
        }
        .boxed()
    }
}

fn context(file: &DataFile) -> String {
    format!("oplog file {}", file.path)
}

fn damaged(file: &DataFile) -> Error {
    Error::corrupt(format!("{} is damaged", context(file)))
        .with_hint("restore the file from a backup")
}

fn wrong_size(file: &DataFile, found: u64) -> Error {
    Error::corrupt(format!("{} has {found} bytes, not {}", context(file), file.size_bytes))
        .with_hint("restore the file from a backup")
}

fn unreadable(file: &DataFile, error: object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        _ => ErrorKind::Io,
    };
    Error::new(kind, context(file)).with_source(error)
}

/// Names the file in what the Parquet reader says.
fn undecodable(file: &DataFile, error: ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(inner) => Error::corrupt(context(file)).with_source(inner),
        },
        error => Error::corrupt(context(file)).with_source(error),
    }
}

/// Reads the bytes of a file and checks them.
pub(super) async fn read_whole(store: &Arc<dyn ObjectStore>, file: &DataFile) -> Result<Bytes> {
    let read = async { store.get(&Path::from(file.path.as_str())).await?.bytes().await }.await;
    let bytes = read.map_err(|error| unreadable(file, error))?;
    if i64::try_from(bytes.len()) != Ok(file.size_bytes) {
        return Err(wrong_size(file, bytes.len() as u64));
    }
    match &file.pieces {
        Some(pieces) if *pieces != Pieces::of(&bytes) => Err(damaged(file)),
        _ => Ok(bytes),
    }
}

/// Reads a file from end to end, a bounded part at a time, and compares it with its checks.
pub(super) async fn check_file(store: &Arc<dyn ObjectStore>, file: &DataFile) -> Result<()> {
    let found = store.head(&Path::from(file.path.as_str())).await;
    let found = found.map_err(|error| match error {
        object_store::Error::NotFound { .. } => {
            Error::corrupt(format!("{} is missing", context(file)))
                .with_hint("restore the file from a backup")
        }
        error => unreadable(file, error),
    })?;
    if i64::try_from(found.size) != Ok(file.size_bytes) {
        return Err(wrong_size(file, found.size));
    }
    let mut reader = CheckedFile { store: store.clone(), file: file.clone(), whole: None };
    let size_bytes = reader.size_bytes();
    for at in (0..size_bytes).step_by(WHOLE_BYTES_MAX as usize) {
        let range = at..size_bytes.min(at + WHOLE_BYTES_MAX as u64);
        reader.read(vec![range]).await?;
    }
    Ok(())
}

/// Streams the wanted rows of one file, in the order they are in.
async fn open_file(
    store: Arc<dyn ObjectStore>,
    file: DataFile,
    scan: &Scan,
) -> Result<BoxStream<'static, Result<Vec<OplogEntry>>>> {
    let reader = CheckedFile { store, file: file.clone(), whole: None };
    let builder = ParquetRecordBatchStreamBuilder::new(reader).await;
    let stream = builder.and_then(|builder| scan.narrow(&file, builder).build());
    let stream = stream.map_err(|error| undecodable(&file, error))?;
    Ok(stream
        .map(move |batch| {
            let batch = batch.map_err(|error| undecodable(&file, error))?;
            decode_rows(&batch).map_err(|error| error.context(context(&file)))
        })
        .boxed())
}

/// Streams the wanted rows of a table, in the order of their transactions; a batch at a time.
///
/// What is in memory at once: a row group and a batch of each file whose transactions overlap.
pub(super) fn read(
    store: Arc<dyn ObjectStore>,
    files: &[DataFile],
    scan: Scan,
) -> BoxStream<'static, Result<Vec<OplogEntry>>> {
    let mut files: Vec<DataFile> =
        files.iter().filter(|file| scan.wants_file(file)).cloned().collect();
    files.sort_by_key(|file| file.txn_min);
    let waiting = files.iter().map(|file| file.txn_min).collect();
    let opening = futures::stream::iter(files)
        .map(move |file| {
            let (store, scan) = (store.clone(), scan.clone());
            async move { FileRows::open(store, file, &scan).await }
        })
        .buffered(OPEN_AHEAD)
        .boxed();
    let merge = Merge { waiting, opening, open: Vec::new() };
    futures::stream::try_unfold(merge, |mut merge| async move {
        Ok(merge.next().await?.map(|rows| (rows, merge)))
    })
    .boxed()
}

/// The rows of one file that are still to come.
struct FileRows {
    rows: VecDeque<OplogEntry>,
    rest: BoxStream<'static, Result<Vec<OplogEntry>>>,
}

impl FileRows {
    async fn open(store: Arc<dyn ObjectStore>, file: DataFile, scan: &Scan) -> Result<Self> {
        let is_sorted = file.pieces.is_some();
        let mut rest = open_file(store, file, scan).await?;
        let mut rows = Vec::new();
        if !is_sorted {
            while let Some(batch) = rest.try_next().await? {
                rows.extend(batch);
            }
            rows.sort_by_key(|row| row.txn);
        }
        let mut file = Self { rows: rows.into(), rest };
        file.fill().await?;
        Ok(file)
    }

    /// Decodes the next batch if there is nothing left of the last one.
    async fn fill(&mut self) -> Result<()> {
        while self.rows.is_empty()
            && let Some(batch) = self.rest.try_next().await?
        {
            self.rows = batch.into();
        }
        Ok(())
    }

    fn txn(&self) -> Option<i64> {
        self.rows.front().map(|row| row.txn)
    }
}

/// Several files as one, in the order of their transactions.
struct Merge {
    /// First transactions of the files that are not open yet, ascending.
    waiting: VecDeque<i64>,
    /// Those files.
    opening: BoxStream<'static, Result<FileRows>>,
    /// None of them is at its end.
    open: Vec<FileRows>,
}

impl Merge {
    async fn next(&mut self) -> Result<Option<Vec<OplogEntry>>> {
        let least = loop {
            let least = self.open.iter().filter_map(FileRows::txn).min();
            match (self.waiting.front(), least) {
                (Some(waiting), Some(least)) if *waiting > least => break least,
                (None, Some(least)) => break least,
                (None, None) => return Ok(None),
                _ => {
                    self.waiting.pop_front();
                    let file = self.opening.try_next().await?;
                    self.open.extend(file.filter(|file| !file.rows.is_empty()));
                }
            }
        };
        let is_least = |file: &FileRows| file.txn() == Some(least);
        let at = self.open.iter().position(is_least).expect("one has the least");
        let others = self.open.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.filter_map(|(_, file)| file.txn()).chain(self.waiting.front().copied());
        let bound = others.min().unwrap_or(i64::MAX);
        let file = &mut self.open[at];
        let count = file.rows.partition_point(|row| row.txn == least || row.txn < bound);
        let rows = file.rows.drain(..count).collect();
        file.fill().await?;
        if file.rows.is_empty() {
            self.open.swap_remove(at);
        }
        Ok(Some(rows))
    }
}

/// A file of rows in the making.
pub(super) struct FileWriter {
    writer: ArrowWriter<Vec<u8>>,
    facts: FileFacts,
    /// Rows that are written when there are enough of them.
    waiting: Vec<OplogEntry>,
    waiting_bytes: usize,
}

/// What is known of the rows of a file.
pub(super) struct FileFacts {
    pub(super) rows: i64,
    pub(super) txn_min: i64,
    pub(super) txn_max: i64,
    pub(super) segments: bool,
}

impl FileWriter {
    /// Begins a file for the rows of one transaction, few of them or many.
    pub(super) fn for_commit(rows: usize) -> Result<Self> {
        Self::new(Compression::UNCOMPRESSED, rows > 8)
    }

    /// Begins a file for the rows of many transactions.
    pub(super) fn for_merge() -> Result<Self> {
        Self::new(Compression::SNAPPY, true)
    }

    fn new(compression: Compression, dictionary: bool) -> Result<Self> {
        let properties = properties(compression, dictionary)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), oplog_schema(), Some(properties));
        Ok(Self {
            writer: writer.map_err(unwritable)?,
            facts: FileFacts { rows: 0, txn_min: i64::MAX, txn_max: 0, segments: false },
            waiting: Vec::new(),
            waiting_bytes: 0,
        })
    }

    /// Appends rows, whose transactions are not below those before.
    pub(super) fn push(&mut self, rows: Vec<OplogEntry>) -> Result<()> {
        self.waiting_bytes += rows.iter().map(size_bytes).sum::<usize>();
        self.waiting.extend(rows);
        if self.waiting_bytes >= BATCH_BYTES || self.waiting.len() >= BATCH_ROWS {
            self.write_waiting()?;
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> Result<()> {
        self.waiting_bytes = 0;
        let rows = std::mem::take(&mut self.waiting);
        self.write(&rows)
    }

    /// Writes rows, a bounded part at a time.
    pub(super) fn write(&mut self, mut rows: &[OplogEntry]) -> Result<()> {
        for row in rows {
            self.facts.rows += 1;
            self.facts.txn_min = self.facts.txn_min.min(row.txn);
            self.facts.txn_max = self.facts.txn_max.max(row.txn);
            self.facts.segments |= row.is_segment();
        }
        while !rows.is_empty() {
            let mut bytes = 0;
            let fitting = rows.iter().take(BATCH_ROWS).take_while(|row| {
                let fits = bytes < BATCH_BYTES;
                bytes += size_bytes(row);
                fits
            });
            let (batch, rest) = rows.split_at(fitting.count());
            self.writer.write(&rows_batch(batch)?).map_err(unwritable)?;
            rows = rest;
        }
        Ok(())
    }

    /// Whether the next transaction belongs in another file.
    pub(super) fn is_full(&self) -> bool {
        self.writer.bytes_written() + self.writer.in_progress_size() >= FILE_BYTES
    }

    /// The last row's transaction.
    pub(super) fn txn_max(&self) -> i64 {
        self.waiting.last().map_or(self.facts.txn_max, |row| row.txn)
    }

    /// Ends the file.
    pub(super) fn finish(mut self) -> Result<(Bytes, FileFacts)> {
        self.write_waiting()?;
        let bytes = self.writer.into_inner().map_err(unwritable)?;
        Ok((bytes.into(), self.facts))
    }
}

pub(super) fn properties(
    compression: Compression,
    dictionary: bool,
) -> datafusion::parquet::file::properties::WriterPropertiesBuilder {
    WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(dictionary)
        .set_statistics_enabled(EnabledStatistics::Chunk)
}

pub(super) fn unwritable(error: ParquetError) -> Error {
    Error::invalid("encoding oplog rows").with_source(error)
}

/// About how much memory a row takes.
fn size_bytes(row: &OplogEntry) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let texts = [&row.message, &row.arrow_schema, &row.statistics, &row.attributes];
    256 + row.content.as_ref().map_or(0, Bytes::len) + texts.into_iter().map(text).sum::<usize>()
}

/// Returns rows as a batch of [`oplog_schema`].
pub fn rows_batch(rows: &[OplogEntry]) -> Result<RecordBatch> {
    fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
        let mut builder = StringBuilder::new();
        values.for_each(|value| builder.append_option(value));
        Arc::new(builder.finish())
    }
    fn long(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
        let mut builder = Int64Builder::new();
        values.for_each(|value| builder.append_option(value));
        Arc::new(builder.finish())
    }
    let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut deleted = BooleanBuilder::new();
    let mut content = BinaryBuilder::new();
    for row in rows {
        times.append_value(row.timestamp);
        deleted.append_value(row.deleted);
        content.append_option(row.content.as_deref());
    }
    let ids: Vec<String> = rows.iter().map(|row| row.node_id.to_string()).collect();
    let parents: Vec<String> = rows.iter().map(|row| row.parent_id.to_string()).collect();
    let columns = vec![
        long(rows.iter().map(|row| Some(row.txn))),
        Arc::new(times.finish()),
        text(rows.iter().map(|row| row.message.as_deref())),
        text(ids.iter().map(|id| Some(id.as_str()))),
        text(parents.iter().map(|id| Some(id.as_str()))),
        text(rows.iter().map(|row| Some(row.name.as_str()))),
        text(rows.iter().map(|row| Some(row.entry_type.as_str()))),
        Arc::new(deleted.finish()),
        long(rows.iter().map(|row| Some(row.version))),
        text(rows.iter().map(|row| row.factory.as_deref())),
        Arc::new(content.finish()),
        text(rows.iter().map(|row| row.sha256.as_deref())),
        long(rows.iter().map(|row| row.size)),
        text(rows.iter().map(|row| row.arrow_schema.as_deref())),
        text(rows.iter().map(|row| row.statistics.as_deref())),
        text(rows.iter().map(|row| row.temporal_column.as_deref())),
        long(rows.iter().map(|row| row.min_time)),
        long(rows.iter().map(|row| row.max_time)),
        text(rows.iter().map(|row| row.attributes.as_deref())),
    ];
    Ok(RecordBatch::try_new(oplog_schema(), columns)?)
}

/// Returns the rows of a batch, whose columns are found by name; a missing one is null.
fn decode_rows(batch: &RecordBatch) -> Result<Vec<OplogEntry>> {
    let mut rows = Vec::with_capacity(batch.num_rows());
    let schema = oplog_schema();
    let columns: HashMap<&str, ArrayRef> = schema
        .fields()
        .iter()
        .filter_map(|field| {
            let column = batch.column_by_name(field.name())?;
            Some(cast(column, field.data_type()).map(|column| (field.name().as_str(), column)))
        })
        .collect::<Result<_, _>>()?;
    let text = |name: &str, row: usize| {
        let column = columns.get(name)?.as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let long = |name: &str, row: usize| {
        let column = columns.get(name)?.as_primitive::<Int64Type>();
        column.is_valid(row).then(|| column.value(row))
    };
    let time = |name: &str, row: usize| {
        let column = columns.get(name)?.as_primitive::<TimestampMicrosecondType>();
        column.is_valid(row).then(|| column.value(row))
    };
    let lacks = |name: &str, row: usize| Error::corrupt(format!("row {row} has no {name}"));
    for row in 0..batch.num_rows() {
        let required = |name: &str| text(name, row).ok_or_else(|| lacks(name, row));
        rows.push(OplogEntry {
            txn: long("txn", row).ok_or_else(|| lacks("txn", row))?,
            timestamp: time("timestamp", row).unwrap_or(0),
            message: text("message", row),
            node_id: NodeId::parse(&required("node_id")?)?,
            parent_id: NodeId::parse(&required("parent_id")?)?,
            name: required("name")?,
            entry_type: EntryType::parse(&required("entry_type")?)?,
            deleted: columns
                .get("deleted")
                .is_some_and(|column| column.is_valid(row) && column.as_boolean().value(row)),
            version: long("version", row).unwrap_or(1),
            factory: text("factory", row),
            content: columns.get("content").and_then(|column| {
                let column = column.as_binary::<i32>();
                column.is_valid(row).then(|| Bytes::copy_from_slice(column.value(row)))
            }),
            sha256: text("sha256", row),
            size: long("size", row),
            arrow_schema: text("arrow_schema", row),
            statistics: text("statistics", row),
            temporal_column: text("temporal_column", row),
            min_time: long("min_time", row),
            max_time: long("max_time", row),
            attributes: text("attributes", row),
        });
    }
    Ok(rows)
}
