//! CSV: the columns that a header and a sample tell, where records end, and errors in a user's
//! words.
//!
//! The engine reads a large text in byte ranges that it aligns at line ends. A quoted value that
//! holds a line break would fall apart there without a word, so a text that is large enough to be
//! split is first searched for one ([`is_multiline`]), once for as long as it stays what it is. The
//! search reads the text at the speed of memory; a text that has such a value is read in one piece.

mod detect;
mod kinds;
mod options;

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::csv::reader::Format;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::config::CsvOptions as EngineOptions;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::DataFusionError;
use futures::stream::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::{TableSource, text};
use crate::error::{Error, Result};
use crate::path::PondPath;
pub use options::{
    Compression, CsvColumn, CsvOptions, Dialect, Encoding, Layout, OnError, Reject, TimestampFormat,
};

const QUOTE: u8 = b'"';

/// Learns the columns of a CSV file.
pub(super) async fn open(
    store: &dyn ObjectStore,
    source: &TableSource,
    delimiter: u8,
    compression: FileCompressionType,
) -> Result<SchemaRef> {
    if let Some((schema, _)) = text::recall(source).columns {
        return Ok(schema);
    }
    let sample = text::sample(store, source, compression, |bytes| {
        let mut records = Records::new(delimiter);
        records.scan(bytes);
        (records.ended >= 2).then_some(records.end)
    });
    let sample = sample.await?;
    let format = Format::default().with_header(true).with_delimiter(delimiter);
    let (schema, _) = format.infer_schema(sample.bytes.as_slice(), None)?;
    let schema = name_columns(&source.path, &schema)?;
    text::remember(source, |learnt| learnt.columns = Some((schema.clone(), !sample.is_whole)));
    Ok(schema)
}

/// Gives each column a name and a type that its later values can have.
fn name_columns(path: &PondPath, header: &Schema) -> Result<SchemaRef> {
    let mut names = HashSet::new();
    let mut fields = Vec::with_capacity(header.fields().len());
    for (index, field) in header.fields().iter().enumerate() {
        let name = match field.name().as_str() {
            "" => format!("column_{}", index + 1),
            name => name.to_owned(),
        };
        if !names.insert(name.clone()) {
            return Err(Error::corrupt(format!("'{path}': the header names '{name}' twice")));
        }
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            // The reader cuts off digits that the type has no room for.
            DataType::Timestamp(unit, zone) => {
                DataType::Timestamp((*unit).max(TimeUnit::Microsecond), zone.clone())
            }
            other => other.clone(),
        };
        fields.push(Field::new(name, data_type, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns the reader's options.
pub(super) fn options(delimiter: u8, multiline: bool) -> EngineOptions {
    EngineOptions {
        has_header: Some(true),
        delimiter,
        quote: QUOTE,
        newlines_in_values: Some(multiline),
        ..EngineOptions::default()
    }
}

/// Whether a quoted value of a text holds a line break.
pub(super) async fn is_multiline(
    store: &dyn ObjectStore,
    source: &TableSource,
    delimiter: u8,
) -> Result<bool> {
    if let Some(multiline) = text::recall(source).multiline {
        return Ok(multiline);
    }
    let mut chunks =
        text::read_range(store, &source.object.location, 0..source.object.size).await?;
    let mut records = Records::new(delimiter);
    while let Some(chunk) = chunks.try_next().await? {
        records.scan(&chunk);
        if records.multiline {
            break;
        }
    }
    text::remember(source, |learnt| learnt.multiline = Some(records.multiline));
    Ok(records.multiline)
}

/// Finds record ends as the reader does: a quote opens a value only at its start, a doubled quote
/// within is one of the value's bytes, and both CR and LF end a record.
struct Records {
    delimiter: u8,
    state: State,
    /// Bytes seen.
    seen: usize,
    /// Records ended so far.
    ended: usize,
    /// Where the last of them ended.
    end: usize,
    /// Whether a record had a line break in a value.
    multiline: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first byte of a value.
    Start,
    /// In a value without quotes.
    Bare,
    /// Between quotes.
    Quoted,
    /// After a quote that ends the value, unless another one follows.
    Closing,
}

impl Records {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, state: State::Start, seen: 0, ended: 0, end: 0, multiline: false }
    }

    fn scan(&mut self, bytes: &[u8]) {
        let mut at = 0;
        if self.seen == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            at = 3;
        }
        while at < bytes.len() {
            // Most bytes are between quotes: skip to the next one, which is where states change.
            let rest = &bytes[at..];
            let until = find(rest, QUOTE).unwrap_or(rest.len());
            self.scan_plain(&rest[..until], at);
            at += until;
            if at < bytes.len() {
                self.state = match self.state {
                    State::Start | State::Closing => State::Quoted,
                    State::Quoted => State::Closing,
                    State::Bare => State::Bare,
                };
                at += 1;
            }
        }
        self.seen += bytes.len();
    }

    /// Scans bytes without a quote, the first of which is at `at`.
    fn scan_plain(&mut self, bytes: &[u8], at: usize) {
        let Some(last) = bytes.last() else { return };
        if self.state == State::Quoted {
            self.multiline |= find(bytes, b'\n').is_some() || find(bytes, b'\r').is_some();
            return;
        }
        if let Some(end) = bytes.iter().rposition(|byte| is_line_end(*byte)) {
            let count = |line_end| bytes.iter().filter(|byte| **byte == line_end).count();
            self.ended += match count(b'\n') {
                0 => count(b'\r'),
                lines => lines,
            };
            self.end = self.seen + at + end + 1;
        }
        let at_start = *last == self.delimiter || is_line_end(*last);
        self.state = if at_start { State::Start } else { State::Bare };
    }
}

fn is_line_end(byte: u8) -> bool {
    byte == b'\n' || byte == b'\r'
}

/// As `position`, but many bytes at a time.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    const BLOCK: usize = 256;
    let start = bytes
        .chunks(BLOCK)
        // Without an early exit the comparison is vectorized.
        .position(|block| block.iter().fold(false, |found, byte| found | (*byte == wanted)))?
        * BLOCK;
    bytes[start..].iter().position(|byte| *byte == wanted).map(|at| start + at)
}

/// Counts the lines before the part that the reader takes from `start` on: it skips the line that
/// it lands in.
pub(super) async fn lines_before(
    store: &dyn ObjectStore,
    location: &Path,
    start: u64,
) -> Result<usize> {
    let Some(end) = start.checked_sub(1) else { return Ok(0) };
    let mut chunks = text::read_range(store, location, 0..end).await?;
    let mut lines = 1;
    while let Some(chunk) = chunks.try_next().await? {
        lines += chunk.iter().filter(|byte| **byte == b'\n').count();
    }
    Ok(lines)
}

/// Says what the reader complains of in terms of the file, its columns and lines, or returns `None`
/// for what is not about a row.
///
/// The reader counts rows in two ways: malformed rows from one at the start of its part, and
/// values that do not fit from nought.
pub(super) fn explain(
    path: &PondPath,
    columns: &SchemaRef,
    error: &DataFusionError,
    lines_before: Option<usize>,
) -> Option<Error> {
    let text = error.strip_backtrace();
    let line = |number: usize| match lines_before {
        Some(before) => format!(" line {}:", before + number),
        None => String::new(),
    };
    if let Some((_, rest)) = text.split_once("incorrect number of fields for line ") {
        let (number, rest) = rest.split_once(", expected ")?;
        let (expected, got) = rest.split_once(" got ")?;
        let line = line(number.parse().ok()?);
        return Some(Error::corrupt(format!(
            "'{path}':{line} {got} values where the header names {expected} columns"
        )));
    }
    let (value, place) = match text.split_once("Error while parsing value '") {
        // Error while parsing value 'x' as type 'Int64' for column 2 at line 5. Row data: '[…]'
        Some((_, rest)) => {
            let (value, rest) = rest.split_once("' as type '")?;
            (value, rest.split_once("' for column ")?.1)
        }
        // Error parsing column 2 at line 5: Parser error: Error parsing timestamp from 'x': …
        None => {
            let (_, place) = text.split_once("Error parsing column ")?;
            let (_, value) = place.split_once("from '").unwrap_or_default();
            (value.split_once("': ").map_or(value, |(value, _)| value), place)
        }
    };
    let (column, rest) = place.split_once(" at line ")?;
    let (number, _) = rest.split_once(['.', ':'])?;
    let column = columns.fields().get(column.parse::<usize>().ok()?)?;
    let line = line(number.parse::<usize>().ok()? + 1);
    let value: String = value.chars().take(100).collect();
    Some(Error::corrupt(format!(
        "'{path}':{line} '{value}' in column '{}' does not fit {}, the type of the values before",
        column.name(),
        column.data_type(),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str, chunk: usize) -> (usize, usize, bool) {
        let mut records = Records::new(b',');
        text.as_bytes().chunks(chunk).for_each(|bytes| records.scan(bytes));
        (records.ended, records.end, records.multiline)
    }

    #[test]
    fn records_end_outside_of_quotes() {
        for (text, expected) in [
            ("a,b\n1,2\n3", (2, 8, false)),
            ("a\r\n1\r\n", (2, 6, false)),
            ("a,b\n1,\"x\ny\"\n", (2, 12, true)),
            ("a,b\n1,\"x \"\"y\"\"\"\n", (2, 16, false)),
            // A quote within a bare value is one of its bytes.
            ("a,b\n5\" pipe,\"x\ny\"\n", (2, 18, true)),
            ("a,b\n5\" pipe,2\n", (2, 14, false)),
            ("\u{feff}\"a\nb\",c\n", (1, 11, true)),
        ] {
            assert_eq!(records(text, text.len()), expected, "{text:?}");
            for chunk in 3..text.len() {
                let (_, end, multiline) = records(text, chunk);
                assert_eq!((end, multiline), (expected.1, expected.2), "{text:?} by {chunk}");
            }
        }
    }
}
