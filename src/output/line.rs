//! A line for each value, `name = value`, as sqlite's mode `line`: for rows of many columns.
//!
//! Names are on the right of theirs, so that the values begin below each other; so do further lines
//! of a value. Rows are apart by a blank line.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use unicode_width::UnicodeWidthStr;

use super::cell::Column;
use super::escape::escape_controls;
use super::text::Encoder;
use super::{Style, Written};
use crate::error::Result;

pub(super) struct LineEncoder {
    /// What comes before the first line of each value.
    names: Vec<String>,
    /// What comes before the others.
    indent: String,
    null: String,
}

impl LineEncoder {
    pub(super) fn new(schema: &SchemaRef, style: &Style) -> Self {
        let null = style.null_text();
        if !style.header {
            let names = vec![String::new(); schema.fields().len()];
            return Self { names, indent: String::new(), null };
        }
        let names = schema.fields().iter().map(|field| escape_controls(field.name()));
        let names: Vec<String> = names.collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        let names = names
            .iter()
            .map(|name| format!("{}{name} = ", " ".repeat(width - name.width())))
            .collect();
        Self { names, indent: " ".repeat(width + 3), null }
    }
}

impl Encoder for LineEncoder {
    fn begin(&mut self, _: &[RecordBatch], _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, before: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        let mut value = Vec::new();
        for row in 0..batch.num_rows() {
            if before > 0 || row > 0 {
                text.push(b'\n');
            }
            for (name, column) in self.names.iter().zip(&columns) {
                text.extend_from_slice(name.as_bytes());
                if column.is_null(row) {
                    text.extend_from_slice(self.null.as_bytes());
                } else {
                    value.clear();
                    column.text(row, &mut value)?;
                    for (at, line) in value.split(|&byte| byte == b'\n').enumerate() {
                        if at > 0 {
                            text.push(b'\n');
                            text.extend_from_slice(self.indent.as_bytes());
                        }
                        text.extend_from_slice(line);
                    }
                }
                text.push(b'\n');
            }
        }
        Ok(())
    }

    fn end(&self, _: Written, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
