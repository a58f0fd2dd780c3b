//! Rows as aligned columns, for a file or a pipe.
//!
//! Column widths come from the first [`TABLE_HEAD_ROWS`] rows, fewer if they are long; later cells that are wider stick
//! out, which is the price of writing any number of rows in bounded memory. Nothing is cut off. A
//! text of many lines takes as many, each but the last with a `+` after it, as psql has it; other
//! control characters are escaped.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::UnicodeWidthStr;

use super::cell::{Column, is_number, is_plain};
use super::escape::{escape, escape_controls};
use super::text::Encoder;
use super::{Style, Written};
use crate::error::Result;

/// The rows that decide how wide the columns of a table are, unless they are long; they are held back
/// until then.
pub const TABLE_HEAD_ROWS: usize = 1000;

/// A cell wider than this does not widen its column.
const COLUMN_WIDTH_MAX: usize = 80;

pub(super) struct TableEncoder {
    /// No names if there is no header.
    names: Option<Vec<String>>,
    null: String,
    is_number: Vec<bool>,
    is_plain: Vec<bool>,
    widths: Vec<usize>,
}

impl TableEncoder {
    pub(super) fn new(schema: &SchemaRef, style: &Style) -> Self {
        let fields = schema.fields();
        let names = || fields.iter().map(|field| escape_controls(field.name())).collect();
        Self {
            names: style.header.then(names),
            null: escape_cell(style.null.as_deref().unwrap_or("NULL")),
            is_number: fields.iter().map(|field| is_number(field.data_type())).collect(),
            is_plain: fields.iter().map(|field| is_plain(field.data_type())).collect(),
            widths: vec![0; fields.len()],
        }
    }

    fn cell(&self, column: &Column, row: usize, cell: &mut Vec<u8>) -> Result<()> {
        cell.clear();
        match column.is_null(row) {
            true => cell.extend_from_slice(self.null.as_bytes()),
            false => column.text(row, cell)?,
        }
        Ok(())
    }

    /// Appends a row whose cells are one line each, or returns false if one is not.
    fn push_line(
        &self,
        columns: &[Column],
        row: usize,
        cell: &mut Vec<u8>,
        text: &mut Vec<u8>,
    ) -> Result<bool> {
        for (at, column) in columns.iter().enumerate() {
            self.cell(column, row, cell)?;
            text.extend_from_slice(if at == 0 { b" " } else { b" | " });
            let is_last = at + 1 == columns.len();
            if is_last && cell.is_empty() {
                // No line ends with a blank.
                text.pop();
                break;
            }
            let is_simple =
                self.is_plain[at] || cell.iter().all(|byte| (b' '..=b'~').contains(byte));
            let width = match is_simple {
                true => cell.len(),
                false => {
                    let cell = str::from_utf8(cell).expect("the text of a value is UTF-8");
                    if escape(cell, |_| false) != cell {
                        return Ok(false);
                    }
                    cell.width()
                }
            };
            let padding = self.widths[at].saturating_sub(width);
            if self.is_number[at] {
                text.resize(text.len() + padding, b' ');
            }
            text.extend_from_slice(cell);
            if !self.is_number[at] && !is_last {
                text.resize(text.len() + padding, b' ');
            }
        }
        text.push(b'\n');
        Ok(true)
    }
}

impl Encoder for TableEncoder {
    fn head_rows(&self) -> usize {
        TABLE_HEAD_ROWS
    }

    fn begin(&mut self, head: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        if let Some(names) = &self.names {
            self.widths = names.iter().map(|name| name.width()).collect();
        }
        let mut rows_left = TABLE_HEAD_ROWS;
        let mut cell = Vec::new();
        for batch in head {
            let rows = batch.num_rows().min(rows_left);
            rows_left -= rows;
            for (at, column) in Column::all(batch)?.iter().enumerate() {
                for row in 0..rows {
                    self.cell(column, row, &mut cell)?;
                    let cell = String::from_utf8_lossy(&cell);
                    let width = width_of(&escape_cell(&cell)).min(COLUMN_WIDTH_MAX);
                    self.widths[at] = self.widths[at].max(width);
                }
            }
        }
        if let Some(names) = self.names.as_ref().filter(|names| !names.is_empty()) {
            // Headers are on the left, so that they are seen where a long column begins.
            push_row(text, names, &vec![false; names.len()], &self.widths);
            let rules: Vec<String> =
                self.widths.iter().map(|width| "-".repeat(width + 2)).collect();
            text.extend_from_slice(rules.join("+").as_bytes());
            text.push(b'\n');
        }
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, _: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        let mut cell = Vec::new();
        for row in 0..batch.num_rows() {
            let begin = text.len();
            if self.push_line(&columns, row, &mut cell, text)? {
                continue;
            }
            text.truncate(begin);
            let mut cells = Vec::with_capacity(columns.len());
            for column in &columns {
                self.cell(column, row, &mut cell)?;
                cells.push(escape_cell(&String::from_utf8_lossy(&cell)));
            }
            push_row(text, &cells, &self.is_number, &self.widths);
        }
        Ok(())
    }

    fn end(&self, _: Written, _: &mut Vec<u8>) -> Result<()> {
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

/// Returns the text of a cell with its line ends, save those at its end, and nothing else that a
/// terminal would not show as it is.
pub(super) fn escape_cell(text: &str) -> String {
    escape(text.trim_end_matches('\n'), |character| character == '\n').into_owned()
}
