//! Rows as aligned columns for people.
//!
//! Column widths come from the first [`TABLE_HEAD_ROWS`] rows; later cells that are wider stick
//! out, which is the price of writing any number of rows in bounded memory. Nothing is cut off. A
//! text of many lines takes as many, each but the last with a `+` after it, as psql has it; other
//! control characters are escaped.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use super::Encoder;
use crate::error::Result;

/// The rows that decide how wide the columns of a table are; they are held back until then.
pub const TABLE_HEAD_ROWS: usize = 1000;

/// A cell wider than this does not widen its column.
const COLUMN_WIDTH_MAX: usize = 80;

pub(super) struct TableEncoder {
    names: Vec<String>,
    is_number: Vec<bool>,
    state: State,
}

enum State {
    /// The rows so far, while the widths are not known.
    Head(Vec<Vec<String>>),
    /// The widths of the columns.
    Body(Vec<usize>),
}

impl TableEncoder {
    pub(super) fn new(schema: SchemaRef) -> Self {
        let fields = schema.fields();
        Self {
            names: fields.iter().map(|field| escape_controls(field.name())).collect(),
            is_number: fields.iter().map(|field| field.data_type().is_numeric()).collect(),
            state: State::Head(Vec::new()),
        }
    }

    /// Writes the header and the rows held back.
    fn end_head(&mut self, text: &mut Vec<u8>) {
        let State::Head(rows) = &mut self.state else { return };
        let rows = std::mem::take(rows);
        if self.names.is_empty() {
            return;
        }
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.width()).collect();
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(width_of(cell).min(COLUMN_WIDTH_MAX));
            }
        }
        // Headers are on the left, so that they are seen where a long column begins.
        push_row(text, &self.names, &vec![false; self.names.len()], &widths);
        let rules: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        text.extend_from_slice(rules.join("+").as_bytes());
        text.push(b'\n');
        for row in &rows {
            push_row(text, row, &self.is_number, &widths);
        }
        self.state = State::Body(widths);
    }
}

impl Encoder for TableEncoder {
    fn encode(&mut self, batch: &RecordBatch, text: &mut Vec<u8>) -> Result<()> {
        let options = FormatOptions::default().with_null("NULL").with_display_error(false);
        let columns = batch
            .columns()
            .iter()
            .map(|array| ArrayFormatter::try_new(array.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            let cells = columns
                .iter()
                .map(|column| Ok(escape_cell(&column.value(row).try_to_string()?)))
                .collect::<Result<Vec<String>>>()?;
            match &mut self.state {
                State::Head(rows) => {
                    rows.push(cells);
                    if rows.len() == TABLE_HEAD_ROWS {
                        self.end_head(text);
                    }
                }
                State::Body(widths) => push_row(text, &cells, &self.is_number, widths),
            }
        }
        Ok(())
    }

    fn finish(&mut self, text: &mut Vec<u8>) -> Result<()> {
        self.end_head(text);
        Ok(())
    }
}

/// Returns the width of the widest line of a cell, `+` included.
fn width_of(cell: &str) -> usize {
    let (above, last) = cell.rsplit_once('\n').unwrap_or(("", cell));
    above.split('\n').map(|line| line.width() + 1).fold(last.width(), usize::max)
}

fn push_row(text: &mut Vec<u8>, cells: &[String], is_number: &[bool], widths: &[usize]) {
    let height = cells.iter().map(|cell| cell.matches('\n').count()).max().unwrap_or(0);
    let mut rest: Vec<Option<&str>> = cells.iter().map(|cell| Some(cell.as_str())).collect();
    for _ in 0..=height {
        for (at, (rest, width)) in rest.iter_mut().zip(widths).enumerate() {
            text.extend_from_slice(if at == 0 { b" " } else { b" | " });
            let (line, below) = match rest.and_then(|rest| rest.split_once('\n')) {
                Some((line, below)) => (format!("{line}+"), Some(below)),
                None => (rest.unwrap_or_default().to_owned(), None),
            };
            *rest = below;
            let is_last = at + 1 == cells.len();
            if is_last && line.is_empty() {
                // No line ends with a blank.
                text.pop();
                break;
            }
            let padding = width.saturating_sub(line.width());
            if is_number[at] {
                text.resize(text.len() + padding, b' ');
            }
            text.extend_from_slice(line.as_bytes());
            if !is_number[at] && !is_last {
                text.resize(text.len() + padding, b' ');
            }
        }
        text.push(b'\n');
    }
}

/// As [`escape_controls`], but line ends stay, save those at the end of the text.
fn escape_cell(text: &str) -> String {
    let lines: Vec<String> = text.trim_end_matches('\n').split('\n').map(escape_controls).collect();
    lines.join("\n")
}

/// Returns `text` with control characters as `\n`, `\t` or `\u{1b}`, so that no value can move the
/// cursor or break a line.
pub fn escape_controls(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    escaped
}
