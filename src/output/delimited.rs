//! CSV as RFC 4180 has it, and the same with tabs (TSV).
//!
//! A value is in quotes where it has to be: if it holds the delimiter, a quote or a line end, or
//! reads as NULL does. So the empty text is `""` and NULL is empty, and what is written reads back
//! as it was. A list or a struct is JSON, in quotes as any text.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::cell::{Column, is_plain};
use super::text::Encoder;
use super::{Style, Written};
use crate::error::{Error, Result};

pub(super) struct DelimitedEncoder {
    schema: SchemaRef,
    delimiter: u8,
    header: bool,
    null: Vec<u8>,
    kinds: Vec<Kind>,
}

/// How the values of a column are written.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Text with nothing to quote.
    Plain,
    Text,
    Json,
}

impl DelimitedEncoder {
    /// # Errors
    /// `Invalid` for a text of NULL that would have to be in quotes, and so would be no NULL.
    pub(super) fn new(schema: SchemaRef, delimiter: u8, style: &Style) -> Result<Self> {
        let null = style.null.clone().unwrap_or_default().into_bytes();
        if null.iter().any(|&byte| is_special(byte, delimiter)) {
            let name = style.format.as_str();
            return Err(Error::invalid(format!(
                "--null {:?} would break rows of {name}",
                style.null.as_deref().unwrap_or_default()
            ))
            .with_hint("it may hold no delimiter, quote or line end"));
        }
        let kind = |data_type| match data_type {
            data_type if is_plain(data_type) && null.is_empty() => Kind::Plain,
            data_type if data_type.is_nested() => Kind::Json,
            _ => Kind::Text,
        };
        let kinds = schema.fields().iter().map(|field| kind(field.data_type())).collect();
        Ok(Self { schema, delimiter, header: style.header, null, kinds })
    }

    /// Puts what begins at `begin` in quotes, if it needs them.
    fn quote(&self, begin: usize, text: &mut Vec<u8>) {
        let value = &text[begin..];
        if !value.iter().any(|&byte| is_special(byte, self.delimiter)) && value != self.null {
            return;
        }
        let value = text.split_off(begin);
        text.push(b'"');
        for byte in value {
            if byte == b'"' {
                text.push(b'"');
            }
            text.push(byte);
        }
        text.push(b'"');
    }
}

/// Whether a value that holds the byte is in quotes.
fn is_special(byte: u8, delimiter: u8) -> bool {
    byte == delimiter || matches!(byte, b'"' | b'\n' | b'\r')
}

impl Encoder for DelimitedEncoder {
    fn begin(&mut self, _: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        if !self.header || self.schema.fields().is_empty() {
            return Ok(());
        }
        for (at, field) in self.schema.fields().iter().enumerate() {
            if at > 0 {
                text.push(self.delimiter);
            }
            let begin = text.len();
            text.extend_from_slice(field.name().as_bytes());
            self.quote(begin, text);
        }
        text.push(b'\n');
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, _: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        for row in 0..batch.num_rows() {
            for (at, (column, kind)) in columns.iter().zip(&self.kinds).enumerate() {
                if at > 0 {
                    text.push(self.delimiter);
                }
                if column.is_null(row) {
                    text.extend_from_slice(&self.null);
                    continue;
                }
                let begin = text.len();
                match kind {
                    Kind::Json => column.json(row, text)?,
                    Kind::Plain | Kind::Text => column.text(row, text)?,
                }
                if *kind != Kind::Plain {
                    self.quote(begin, text);
                }
            }
            text.push(b'\n');
        }
        Ok(())
    }

    fn end(&self, _: Written, _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
