//! Chunks of a text as batches of rows, and what becomes of records and values that do not fit.

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::compute::kernels::nullif::nullif;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::PhysicalExpr;

use super::chunks::{Chunk, RECORD_BYTES_MAX, TooLong, count_lines};
use super::kinds::Classifier;
use super::options::{Layout, OnError, Reject};
use super::records::{Fault, Index, Misfit, Scanner};
use super::values::{Misplaced, Values};
use crate::error::{Error, Place, Result};
use crate::node::meets;
use crate::path::PondPath;

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 8192;
/// The most of a record's text that is shown.
const SHOWN_BYTES: usize = 1000;
/// The most of a value that an error shows.
const VALUE_CHARS: usize = 100;

/// What is read of a text.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub path: PondPath,
    pub layout: Arc<Layout>,
    /// Places of the columns that are wanted.
    pub wanted: Vec<usize>,
    /// Those columns.
    pub schema: SchemaRef,
}

impl Reading {
    pub fn new(path: PondPath, layout: Arc<Layout>, wanted: Vec<usize>) -> Result<Self> {
        let schema = Arc::new(layout.schema().project(&wanted)?);
        Ok(Self { path, layout, wanted, schema })
    }
}

/// Why a text cannot be read on.
#[derive(Debug)]
pub(super) enum Stop {
    /// A column whose type was detected has a value of another kind.
    Widen {
        column: usize,
        line: u64,
        value: String,
    },
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Stop {
    /// Makes an error of it, for a reader that cannot begin again.
    pub fn into_error(self, reading: &Reading) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Widen { column, line, value, .. } => {
                let column = &reading.layout.columns[column];
                let (name, data_type) = (&column.name, &column.data_type);
                Error::corrupt(format!(
                    "'{}': line {line}: '{value}' in column '{name}' does not fit {data_type}, the type \
                     of the values before",
                    reading.path
                ))
                .with_hint("run the statement again: the column is read with a wider type now")
                .passing()
            }
        }
    }
}

/// What was refused.
#[derive(Debug, Default)]
pub(super) struct Rejects {
    /// How many records, and values where these become null.
    pub count: u64,
    /// They themselves, if they are wanted.
    pub all: Option<Vec<Reject>>,
}

impl Rejects {
    /// Counts them, and keeps none.
    pub fn counted() -> Self {
        Self::default()
    }

    /// Keeps them.
    pub fn kept() -> Self {
        Self { count: 0, all: Some(Vec::new()) }
    }

    fn add(&mut self, reject: impl FnOnce() -> Reject) {
        self.count += 1;
        if let Some(all) = &mut self.all {
            all.push(reject());
        }
    }

    pub fn add_long(&mut self, TooLong { line }: TooLong) {
        self.add(|| Reject {
            line,
            column: None,
            reason: format!("longer than {} MiB", RECORD_BYTES_MAX >> 20),
            text: String::new(),
        });
    }
}

/// Makes batches of chunks.
pub(super) struct Decoder {
    reading: Reading,
    scanner: Scanner,
    classifier: Classifier,
    index: Index,
    /// Columns to read first, and what rows of these alone must meet to be read further.
    filter: Option<(Reading, Arc<dyn PhysicalExpr>)>,
}

impl Decoder {
    /// # Errors
    /// `Invalid` for a format of times that is none.
    pub fn new(reading: Reading) -> Result<Self> {
        let layout = &reading.layout;
        let scanner = Scanner::new(&layout.dialect, layout.columns.len(), layout.on_error);
        let classifier = Classifier::new(&layout.dialect)?;
        Ok(Self { reading, scanner, classifier, index: Index::default(), filter: None })
    }

    /// Leaves out batches in which no row meets `filter` over these columns.
    pub fn with_filter(mut self, columns: Vec<usize>, filter: Arc<dyn PhysicalExpr>) -> Self {
        let Reading { path, layout, .. } = &self.reading;
        let reading = Reading::new(path.clone(), layout.clone(), columns);
        self.filter = reading.ok().map(|reading| (reading, filter));
        self
    }

    /// Returns what is read.
    pub fn reading(&self) -> &Reading {
        &self.reading
    }

    /// Hands all rows of a chunk to `each`, a batch at a time, until that returns `false`.
    pub fn decode(
        &mut self,
        chunk: &Chunk,
        rejects: &mut Rejects,
        mut each: impl FnMut(RecordBatch) -> Result<bool>,
    ) -> Result<(), Stop> {
        let cleaned;
        let (text, invalid) = match std::str::from_utf8(&chunk.bytes) {
            Ok(text) => (text, Vec::new()),
            Err(error) if self.reading.layout.on_error == OnError::Fail => {
                let line = chunk.line + count_lines(&chunk.bytes[..error.valid_up_to()]);
                let path = &self.reading.path;
                return Err(Error::corrupt(format!("'{path}': line {line} is not UTF-8"))
                    .with_hint("if it is of Western Europe, give encoding => 'latin1'")
                    .into());
            }
            Err(_) => {
                let (text, invalid) = without_invalid(&chunk.bytes);
                cleaned = text;
                (cleaned.as_str(), invalid)
            }
        };
        let mut misfits = Vec::new();
        let mut misplaced = Vec::new();
        let lines = Lines::new(chunk, text);
        let mut at = chunk.at;
        while at < text.len() {
            misfits.clear();
            misplaced.clear();
            let indexed =
                self.scanner.index(text.as_bytes(), at, BATCH_ROWS, &mut self.index, &mut misfits);
            at = match indexed {
                Ok(at) => at,
                Err(misfit) => return Err(self.misfit_error(chunk, text, misfit).into()),
            };
            for misfit in &misfits {
                let reason = || self.describe(misfit.what);
                rejects.add(|| lines.reject(misfit.start, None, reason()));
            }
            if invalid.is_empty() && self.is_passed_over(text)? {
                continue;
            }
            let mut columns = self.columns(text, &self.reading.wanted, &mut misplaced)?;
            if layout_skips(&self.reading.layout) {
                // Whether a row is there must not depend on the columns that are asked for.
                let wanted = &self.reading.wanted;
                let places = 0..self.reading.layout.columns.len();
                let others: Vec<usize> = places.filter(|at| !wanted.contains(at)).collect();
                self.columns(text, &others, &mut misplaced)?;
            }
            let mut refused = self.judge(&lines, &misplaced, rejects)?;
            if !invalid.is_empty() {
                self.judge_invalid(
                    &lines,
                    &invalid,
                    &misplaced,
                    &mut refused,
                    &mut columns,
                    rejects,
                )?;
            }
            let rows = RecordBatchOptions::new().with_row_count(Some(self.index.rows()));
            let batch =
                RecordBatch::try_new_with_options(self.reading.schema.clone(), columns, &rows)
                    .map_err(Error::from)?;
            let batch = match refused.kept() {
                None => batch,
                Some(kept) => filter_record_batch(&batch, &kept).map_err(Error::from)?,
            };
            if batch.num_rows() > 0 && !each(batch)? {
                break;
            }
        }
        Ok(())
    }

    /// Whether no row of the index meets the filter.
    fn is_passed_over(&self, text: &str) -> Result<bool> {
        let Some((first, filter)) = &self.filter else { return Ok(false) };
        // What is wrong with the values of a row is told with the row.
        let mut misplaced = Vec::new();
        let columns = self.columns(text, &first.wanted, &mut misplaced)?;
        if !misplaced.is_empty() || layout_skips(&self.reading.layout) {
            return Ok(false);
        }
        let rows = RecordBatchOptions::new().with_row_count(Some(self.index.rows()));
        let batch = RecordBatch::try_new_with_options(first.schema.clone(), columns, &rows)?;
        Ok(meets(filter, &batch)?.true_count() == 0)
    }

    /// Reads columns.
    fn columns(
        &self,
        text: &str,
        places: &[usize],
        misplaced: &mut Vec<Misplaced>,
    ) -> Result<Vec<ArrayRef>> {
        let layout = &self.reading.layout;
        let columns = places.iter().map(|place| {
            let column = Values {
                text,
                index: &self.index,
                dialect: &layout.dialect,
                classifier: &self.classifier,
                place: *place,
                column: &layout.columns[*place],
            };
            column.read(misplaced)
        });
        columns.collect()
    }

    /// Decides what becomes of values that do not fit, and returns which rows do not stay.
    fn judge(
        &self,
        lines: &Lines<'_>,
        misplaced: &[Misplaced],
        rejects: &mut Rejects,
    ) -> Result<Refused, Stop> {
        let layout = &self.reading.layout;
        let mut refused = Refused { rows: Vec::new(), of: self.index.rows() };
        for Misplaced { row, column: place, .. } in misplaced {
            let column = &layout.columns[*place];
            let start = self.index.start(*row);
            let shown = || {
                let (start, end) = self.index.value(*row, *place);
                let text = lines.text.get(start..end).unwrap_or_default();
                text.chars().take(VALUE_CHARS).collect::<String>()
            };
            if layout.on_error == OnError::Fail {
                let (line, value) = (lines.line(start), shown());
                if layout.widens && !column.is_declared {
                    return Err(Stop::Widen { column: *place, line, value });
                }
                let (path, name) = (&self.reading.path, &column.name);
                let data_type = &column.data_type;
                return Err(Error::corrupt(format!(
                    "'{path}': line {line}: '{value}' in column '{name}' is no {data_type}"
                ))
                .with_hint(
                    "give the column another type in target_schema, name the text in null_values, \
                     or give on_error => 'skip' or 'null'",
                )
                .with_place(lines.place(
                    self.index.value(*row, *place).0,
                    self.index.value(*row, *place).1,
                    path.as_str(),
                ))
                .into());
            }
            if layout.on_error == OnError::Skip && !refused.add(*row) {
                continue;
            }
            rejects.add(|| {
                let reason = format!("'{}' is no {}", shown(), column.data_type);
                lines.reject(start, Some(column.name.clone()), reason)
            });
        }
        Ok(refused)
    }

    /// Decides what becomes of values with bytes that are no text, which are at the places `invalid`.
    fn judge_invalid(
        &self,
        lines: &Lines<'_>,
        invalid: &[usize],
        misplaced: &[Misplaced],
        refused: &mut Refused,
        columns: &mut [ArrayRef],
        rejects: &mut Rejects,
    ) -> Result<()> {
        let layout = &self.reading.layout;
        let mut seen: HashSet<(usize, usize)> =
            misplaced.iter().map(|misplaced| (misplaced.row, misplaced.column)).collect();
        let mut nulls = vec![Vec::new(); layout.columns.len()];
        for at in self.index.within(invalid) {
            let Some(row) = self.index.row_at(*at) else { continue };
            let reject = |column: Option<String>| {
                lines.reject(self.index.start(row), column, "not UTF-8".to_owned())
            };
            if layout.on_error == OnError::Skip {
                if refused.add(row) {
                    rejects.add(|| reject(None));
                }
                continue;
            }
            let Some(place) = self.index.column_at(row, *at) else { continue };
            if seen.insert((row, place)) {
                rejects.add(|| reject(Some(layout.columns[place].name.clone())));
                nulls[place].push(row);
            }
        }
        for (column, place) in columns.iter_mut().zip(&self.reading.wanted) {
            if nulls[*place].is_empty() {
                continue;
            }
            let mut is_null = vec![false; self.index.rows()];
            nulls[*place].iter().for_each(|row| is_null[*row] = true);
            *column = nullif(column, &BooleanArray::from(is_null))?;
        }
        Ok(())
    }

    fn misfit_error(&self, chunk: &Chunk, text: &str, misfit: Misfit) -> Error {
        let line = Lines::new(chunk, text).line(misfit.start);
        let (path, what) = (&self.reading.path, self.describe(misfit.what));
        let hint = match misfit.what {
            Fault::Unclosed | Fault::BehindQuote => {
                "give quote => 'none' if quotes are part of the values, or escape => '\\'; or leave \
                 such records out with on_error => 'skip'"
            }
            Fault::Values(_) => {
                "see sniff() for the delimiter that was found; leave such records out with on_error \
                 => 'skip', or fill them up with on_error => 'null'"
            }
        };
        Error::corrupt(format!("'{path}': line {line}: {what}"))
            .with_hint(hint)
            .with_place(Lines::new(chunk, text).place(misfit.start, misfit.start, path.as_str()))
    }

    fn describe(&self, fault: Fault) -> String {
        let columns = self.reading.layout.columns.len();
        let s = |count: usize| if count == 1 { "" } else { "s" };
        match fault {
            Fault::Values(values) if self.reading.layout.dialect.has_header => format!(
                "{values} value{} where the header names {columns} column{}",
                s(values),
                s(columns)
            ),
            Fault::Values(values) => {
                format!(
                    "{values} value{} where there are {columns} column{}",
                    s(values),
                    s(columns)
                )
            }
            Fault::BehindQuote => "text goes on behind a closing quote".to_owned(),
            Fault::Unclosed => "a quote is never closed".to_owned(),
        }
    }
}

/// Whether rows may be left out for any of their values.
fn layout_skips(layout: &Layout) -> bool {
    layout.on_error == OnError::Skip
}

/// Rows that are left out.
struct Refused {
    rows: Vec<bool>,
    of: usize,
}

impl Refused {
    /// Leaves a row out, and returns whether it was not yet.
    fn add(&mut self, row: usize) -> bool {
        self.rows.resize(self.of, false);
        !std::mem::replace(&mut self.rows[row], true)
    }

    fn kept(self) -> Option<BooleanArray> {
        let kept = || self.rows.iter().map(|refused| !refused).collect::<Vec<_>>().into();
        (!self.rows.is_empty()).then(kept)
    }
}

/// What places in a chunk are called.
struct Lines<'a> {
    chunk: &'a Chunk,
    text: &'a str,
    /// The place that was asked for last, and its line: most are asked for in order.
    last: Cell<(usize, u64)>,
}

impl<'a> Lines<'a> {
    fn new(chunk: &'a Chunk, text: &'a str) -> Self {
        Self { chunk, text, last: Cell::new((0, chunk.line)) }
    }

    /// Returns the place of some bytes, or of the whole line where there are none.
    fn place(&self, from: usize, to: usize, name: &str) -> Place {
        let line_end =
            || self.text[from..].find(['\n', '\r']).map_or(self.text.len(), |at| from + at);
        let to = if to > from { to } else { line_end() };
        Place::of(self.text, from..to, self.chunk.line).named(Some(name))
    }

    /// Returns the line at the start of a record, from 1.
    fn line(&self, at: usize) -> u64 {
        let (from, line) = match self.last.get() {
            (last, line) if last <= at => (last, line),
            _ => (0, self.chunk.line),
        };
        let line = line + count_lines(&self.chunk.bytes[from..at]);
        self.last.set((at, line));
        line
    }

    fn reject(&self, start: usize, column: Option<String>, reason: String) -> Reject {
        let rest = &self.text[start..];
        let end = rest.find(['\n', '\r']).unwrap_or(rest.len());
        let text = &rest[..rest.floor_char_boundary(end.min(SHOWN_BYTES))];
        Reject { line: self.line(start), column, reason, text: text.to_owned() }
    }
}

/// Puts a question mark in the place of each byte that is no UTF-8, and returns where they are.
pub(super) fn without_invalid(bytes: &[u8]) -> (String, Vec<usize>) {
    let mut text = String::with_capacity(bytes.len());
    let mut places = Vec::new();
    for part in bytes.utf8_chunks() {
        text.push_str(part.valid());
        for _ in part.invalid() {
            places.push(text.len());
            text.push('?');
        }
    }
    (text, places)
}
