//! Tables of GitHub's Markdown: a row is a line, so line ends in values are `<br>`.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::cell::{Column, is_number};
use super::text::Encoder;
use super::{Style, Written};
use crate::error::Result;

pub(super) struct MarkdownEncoder {
    schema: SchemaRef,
    header: bool,
    null: String,
}

impl MarkdownEncoder {
    pub(super) fn new(schema: SchemaRef, style: &Style) -> Self {
        let null = style.null_text();
        Self { schema, header: style.header, null }
    }
}

impl Encoder for MarkdownEncoder {
    fn begin(&mut self, _: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        let fields = self.schema.fields();
        if fields.is_empty() {
            return Ok(());
        }
        // A table without the first line is none: it is there, and empty.
        for field in fields {
            text.extend_from_slice(b"| ");
            push_cell(if self.header { field.name().as_bytes() } else { b"" }, text);
            text.push(b' ');
        }
        text.extend_from_slice(b"|\n");
        for field in fields {
            let is_number = is_number(field.data_type());
            text.extend_from_slice(if is_number { b"|--:" } else { b"|---" });
        }
        text.extend_from_slice(b"|\n");
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, _: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        let mut cell = Vec::new();
        for row in 0..batch.num_rows() {
            for column in &columns {
                cell.clear();
                match column.is_null(row) {
                    true => cell.extend_from_slice(self.null.as_bytes()),
                    false => column.text(row, &mut cell)?,
                }
                text.extend_from_slice(b"| ");
                push_cell(&cell, text);
                text.push(b' ');
            }
            text.extend_from_slice(b"|\n");
        }
        Ok(())
    }

    fn end(&self, _: Written, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// Appends a text so that nothing in it ends the cell, and no tag is seen as one.
fn push_cell(cell: &[u8], text: &mut Vec<u8>) {
    for (at, &byte) in cell.iter().enumerate() {
        match byte {
            b'|' => text.extend_from_slice(b"\\|"),
            b'\\' => text.extend_from_slice(b"\\\\"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'&' => text.extend_from_slice(b"&amp;"),
            b'\r' if cell.get(at + 1) == Some(&b'\n') => {}
            b'\n' | b'\r' => text.extend_from_slice(b"<br>"),
            byte => text.push(byte),
        }
    }
}
