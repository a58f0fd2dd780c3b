//! A text as one Parquet file, in the layout that scans like ([`super::super::write`]).
//!
//! The text is read in chunks of about a row group. Each is parsed and encoded by itself, on the
//! blocking pool, as many at once as there are processors; the encoded columns are put into the file in
//! the order of the text. Most of what is held are the texts of the row groups in work.
//!
//! When a value does not fit the type that its column has got from the beginning of the text, all of
//! it is looked at, and the conversion begins again with types that hold every value.

use std::collections::VecDeque;
use std::io::Write;
use std::num::NonZero;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::Int64Type;
use datafusion::common::runtime::SpawnedTask;
use datafusion::parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves,
};
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Semaphore;

use super::super::facts::FactsBuilder;
use super::super::write::{self, ROW_GROUP_ROWS, joined};
use super::super::{TableSource, detect_temporal};
use super::chunks::{Chunk, Chunks, Next, count_lines};
use super::decode::{Decoder, Reading, Rejects, Stop};
use super::kinds::{Classifier, Kinds};
use super::options::{CsvColumn, Layout, OnError};
use super::values::unquote;
use crate::entry::TableFacts;
use crate::error::{Error, Result};

/// The least and the most text of a row group.
const GROUP_BYTES: std::ops::RangeInclusive<usize> = 256 * 1024..=16 * 1024 * 1024;
/// As much of a text tells how long its records are.
const PROBE_BYTES: u64 = 64 * 1024;
/// Text of a row group where the length of records is not known.
const GROUP_BYTES_UNKNOWN: usize = 6 * 1024 * 1024;

/// Row groups in work, in all conversions of the process together.
static WORKERS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(workers())));

fn workers() -> usize {
    // Asking takes reading files.
    static WORKERS: LazyLock<usize> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(2, NonZero::get));
    *WORKERS
}

/// What became of a text.
#[derive(Debug)]
pub struct Converted {
    /// How it was read in the end.
    pub layout: Arc<Layout>,
    /// What is to be known of the file.
    pub facts: TableFacts,
    /// Rows in the file.
    pub rows: u64,
    /// Records that were left out, and values that became null.
    pub rejected: u64,
    /// How much of the text that is, where a text that grows can be read on from.
    pub passed: Option<Passed>,
}

/// The part of a text that was read, which ends with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its size.
    pub bytes: u64,
    /// Lines in it.
    pub lines: u64,
    /// XXH3 of it.
    pub xxh3: u128,
}

/// Which column is the time of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Temporal {
    /// None.
    Table,
    /// This one, or the one that a series has without being told.
    Series(Option<String>),
}

/// How a text is converted.
pub(super) struct Conversion<'a> {
    /// The store that has it.
    pub store: Arc<dyn ObjectStore>,
    /// The text.
    pub source: &'a TableSource,
    /// How it is read.
    pub layout: Arc<Layout>,
    /// Its time.
    pub temporal: &'a Temporal,
    /// The part to leave out, since it was converted before. Nothing widens then: what does not fit is
    /// an error.
    pub from: Option<Passed>,
    /// Told how many bytes of the source have been read.
    pub progress: &'a (dyn Fn(u64) + Send + Sync),
}

impl Conversion<'_> {
    /// Converts the text into a file made by `new_file`, which is called again when types have to be
    /// widened.
    ///
    /// # Errors
    /// What is wrong with the text, naming file and line; what the store or the file says.
    pub async fn run<W: Write + Send + 'static>(
        mut self,
        new_file: impl Fn() -> Result<W>,
    ) -> Result<(W, Converted)> {
        loop {
            match self.attempt(new_file()?).await {
                Ok(done) => return Ok(done),
                Err(Stop::Widen { .. }) if self.from.is_none() && !self.layout.is_whole => {
                    self.layout = widen(&self.store, self.source, &self.layout).await?;
                }
                Err(stop) => {
                    let path = self.source.path.clone();
                    let reading = Reading::new(path, self.layout.clone(), Vec::new())?;
                    return Err(stop.into_error(&reading));
                }
            }
        }
    }

    async fn attempt<W: Write + Send + 'static>(
        &self,
        file: W,
    ) -> std::result::Result<(W, Converted), Stop> {
        let schema = self.layout.schema();
        let temporal = match self.temporal {
            Temporal::Table => None,
            Temporal::Series(wanted) => {
                let path = &self.source.path;
                let found = detect_temporal(&schema, wanted.as_deref());
                match found.map_err(|error| error.context(format!("'{path}'"))) {
                    // No rows are in any order.
                    Err(_) if self.layout.has_no_values() => None,
                    found => Some(found?),
                }
            }
        };
        let mut facts = FactsBuilder::new(&schema, temporal.as_deref())?;
        let (mut writer, groups) = write::row_group_writer(&schema, facts.schema(), file)?;
        let wanted = (0..self.layout.columns.len()).collect();
        let job = Arc::new(Job {
            reading: Reading::new(self.source.path.clone(), self.layout.clone(), wanted)?,
            groups,
            temporal,
        });
        let mut chunks =
            Chunks::new(self.store.clone(), self.source, &self.layout, self.group_bytes().await?)?
                .with_fingerprint();
        if let Some(from) = self.from
            && !chunks.resume(from).await?
        {
            let path = &self.source.path;
            return Err(Error::invalid(format!("'{path}' did not only grow")).into());
        }
        let (mut rows, mut rejected) = (0, 0);
        let passed = |chunks: &Chunks| {
            if let Some(position) = chunks.position() {
                (self.progress)(position);
            }
        };
        let encode = move |chunk: &Chunk| job.encode(chunk);
        let too_long = on_workers(&mut chunks, encode, passed, |part: Result<Part, Stop>| {
            let part = part?;
            rejected += part.rejected;
            let Some(group) = part.group else { return Ok(()) };
            rows += group.rows;
            facts.absorb(group.facts)?;
            let mut row_group = writer.next_row_group().map_err(write::engine)?;
            for chunk in group.columns {
                chunk.append_to_row_group(&mut row_group).map_err(write::engine)?;
            }
            row_group.close().map_err(write::engine)?;
            Ok::<_, Stop>(())
        });
        rejected += too_long.await?;
        let passed = chunks.passed();
        let file = writer.into_inner().map_err(write::engine)?;
        let layout = self.layout.clone();
        Ok((file, Converted { layout, facts: facts.finish()?, rows, rejected, passed }))
    }

    /// Returns how much text makes about a row group.
    async fn group_bytes(&self) -> Result<usize> {
        let object = &self.source.object;
        let dialect = &self.layout.dialect;
        if !super::chunks::is_plain(dialect) || object.size == 0 {
            return Ok(GROUP_BYTES_UNKNOWN);
        }
        let probe = 0..object.size.min(PROBE_BYTES);
        let length = probe.end;
        let bytes =
            self.store.get_range(&object.location, probe).await.map_err(Error::from_store)?;
        let lines = count_lines(&bytes).max(1);
        let group = length.div_ceil(lines).saturating_mul(ROW_GROUP_ROWS as u64);
        let group = usize::try_from(group).unwrap_or(usize::MAX);
        Ok(group.clamp(*GROUP_BYTES.start(), *GROUP_BYTES.end()))
    }
}

/// What the row groups of one file have in common.
struct Job {
    reading: Reading,
    groups: ArrowRowGroupWriterFactory,
    temporal: Option<String>,
}

/// What a chunk became.
struct Part {
    group: Option<Group>,
    rejected: u64,
}

struct Group {
    columns: Vec<ArrowColumnChunk>,
    facts: FactsBuilder,
    rows: u64,
}

impl Job {
    /// Encodes a chunk.
    fn encode(&self, chunk: &Chunk) -> std::result::Result<Part, Stop> {
        let mut rejects = Rejects::counted();
        let mut decoder = Decoder::new(self.reading.clone())?;
        let mut encoder = Encoder::new(self)?;
        if self.temporal.is_none() {
            decoder.decode(chunk, &mut rejects, |batch| encoder.write(&batch).map(|()| true))?;
        } else {
            let mut batches = Vec::new();
            decoder.decode(chunk, &mut rejects, |batch| {
                batches.push(batch);
                Ok(true)
            })?;
            for batch in self.in_order(batches)? {
                encoder.write(&batch)?;
            }
        }
        Ok(Part { group: encoder.finish()?, rejected: rejects.count })
    }

    /// Puts the rows of a row group into the order of time, if they are not: text that is nearly in
    /// order becomes a file that is.
    fn in_order(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let Some(temporal) = &self.temporal else { return Ok(batches) };
        let mut last = i64::MIN;
        let mut is_sorted = true;
        for batch in &batches {
            let times = batch
                .column_by_name(temporal)
                .ok_or_else(|| Error::invalid(format!("there is no column '{temporal}'")))?;
            let times = datafusion::arrow::compute::cast(
                times,
                &datafusion::arrow::datatypes::DataType::Int64,
            )?;
            let times = times.as_primitive::<Int64Type>();
            let values = times.values();
            is_sorted &= values.first().is_none_or(|first| last <= *first) && values.is_sorted();
            last = values.last().copied().unwrap_or(last);
        }
        if is_sorted || batches.is_empty() {
            return Ok(batches);
        }
        let all = concat_batches(&self.reading.schema, &batches)?;
        drop(batches);
        let times = all.column_by_name(temporal).expect("it was there above");
        // The sort is stable neither by itself nor for nulls; rows of one time keep no order.
        let order = sort_to_indices(times, None, None)?;
        Ok(vec![take_record_batch(&all, &order)?])
    }
}

/// Runs what takes long on the blocking pool, once there is room among the workers.
async fn on_a_worker<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> SpawnedTask<T> {
    let permit = WORKERS.clone().acquire_owned().await;
    SpawnedTask::spawn_blocking(move || {
        let _permit = permit;
        work()
    })
}

/// Gives the chunks of a text to the workers, and what each of them becomes to `each`, in the order of the
/// text. `passed` is told of each chunk that was taken. Returns how many records are too long.
async fn on_workers<T: Send + 'static, E: From<Error>>(
    chunks: &mut Chunks,
    work: impl Fn(&Chunk) -> T + Clone + Send + 'static,
    passed: impl Fn(&Chunks),
    mut each: impl FnMut(T) -> Result<(), E>,
) -> Result<u64, E> {
    let mut begun = VecDeque::new();
    let (mut too_long, mut is_ended) = (0, false);
    loop {
        while !is_ended && begun.len() < workers() {
            match chunks.next().await? {
                Next::Records(chunk) => {
                    let work = work.clone();
                    begun.push_back(on_a_worker(move || work(&chunk)).await);
                }
                Next::TooLong(_) => too_long += 1,
                Next::End => is_ended = true,
            }
            passed(chunks);
        }
        let Some(first) = begun.pop_front() else { return Ok(too_long) };
        each(joined(first.join().await.map(Ok))?)?;
    }
}

/// Encodes one row group.
struct Encoder<'a> {
    job: &'a Job,
    writers: Vec<datafusion::parquet::arrow::arrow_writer::ArrowColumnWriter>,
    facts: FactsBuilder,
    rows: u64,
}

impl<'a> Encoder<'a> {
    fn new(job: &'a Job) -> Result<Self> {
        let facts = FactsBuilder::new(&job.reading.schema, job.temporal.as_deref())?;
        // The number is only of use to encryption.
        let writers = job.groups.create_column_writers(0).map_err(write::engine)?;
        Ok(Self { job, writers, facts, rows: 0 })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.facts.add(batch)?;
        self.rows += batch.num_rows() as u64;
        let fields = self.job.reading.schema.fields();
        let mut writers = self.writers.iter_mut();
        for (field, column) in fields.iter().zip(batch.columns()) {
            for leaf in compute_leaves(field, column).map_err(write::engine)? {
                let writer = writers.next().expect("a column has a writer for each of its leaves");
                writer.write(&leaf).map_err(write::engine)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Option<Group>> {
        if self.rows == 0 {
            return Ok(None);
        }
        let columns = self.writers.into_iter().map(|writer| writer.close());
        let columns = columns.collect::<std::result::Result<_, _>>().map_err(write::engine)?;
        Ok(Some(Group { columns, facts: self.facts, rows: self.rows }))
    }
}

/// Looks at every value of a text, and returns its layout with types that hold them all; or, where
/// what does not fit is rejected, with types for the columns of which no value was seen.
///
/// # Errors
/// What is wrong with the text.
pub(super) async fn widen(
    store: &Arc<dyn ObjectStore>,
    source: &TableSource,
    layout: &Arc<Layout>,
) -> Result<Arc<Layout>> {
    let is_open = |column: &CsvColumn| match layout.widens {
        true => !column.is_declared,
        false => column.is_blank(),
    };
    let open: Vec<usize> =
        (0..layout.columns.len()).filter(|place| is_open(&layout.columns[*place])).collect();
    let looking = Arc::new(Looking {
        layout: layout.clone(),
        classifier: Classifier::new(&layout.dialect)?,
        open,
    });
    let mut chunks = Chunks::new(store.clone(), source, layout, GROUP_BYTES_UNKNOWN)?;
    let mut seen = vec![Kinds::NONE; layout.columns.len()];
    let look = move |chunk: &Chunk| looking.look(chunk);
    on_workers(
        &mut chunks,
        look,
        |_| (),
        |kinds: Vec<Kinds>| {
            seen.iter_mut().zip(kinds).for_each(|(all, seen)| *all |= seen);
            Ok::<_, Error>(())
        },
    )
    .await?;
    let mut layout = layout.as_ref().clone();
    layout.is_whole = true;
    for (column, seen) in layout.columns.iter_mut().zip(seen) {
        super::widen_column(column, seen);
    }
    Ok(Arc::new(layout))
}

/// What is looked at.
struct Looking {
    layout: Arc<Layout>,
    classifier: Classifier,
    /// Places of the columns whose types are to be told.
    open: Vec<usize>,
}

impl Looking {
    fn look(&self, chunk: &Chunk) -> Vec<Kinds> {
        let dialect = &self.layout.dialect;
        let columns = self.layout.columns.len();
        let scanner = super::records::Scanner::new(dialect, columns, OnError::Null);
        let mut index = super::records::Index::default();
        let mut seen = vec![Kinds::NONE; columns];
        let (bytes, mut at) = (&chunk.bytes[..], chunk.at);
        while at < bytes.len() {
            let indexed =
                scanner.index(bytes, at, super::decode::BATCH_ROWS, &mut index, &mut Vec::new());
            // Every record is made to fit.
            at = indexed.unwrap_or(bytes.len());
            for place in &self.open {
                for row in 0..index.rows() {
                    let (start, end) = index.value(row, *place);
                    let Some(value) = bytes.get(start..end) else { continue };
                    seen[*place] |= self.kinds(value, *place);
                }
            }
        }
        seen
    }

    fn kinds(&self, value: &[u8], place: usize) -> Kinds {
        let dialect = &self.layout.dialect;
        let is_time = self.layout.columns[place].data_type.is_temporal();
        let classify = |value: &[u8], is_quoted| match is_time {
            true => self.classifier.classify_time(value, is_quoted),
            false => self.classifier.classify(value, is_quoted),
        };
        match (value.first(), dialect.quote) {
            (Some(first), Some(quote)) if *first == quote => {
                let Ok(text) = std::str::from_utf8(&value[1..]) else { return Kinds::TEXT };
                match unquote(text, quote, dialect.escape) {
                    Some((inner, _)) => classify(inner.as_bytes(), true),
                    None => Kinds::TEXT,
                }
            }
            _ => classify(value, false),
        }
    }
}
