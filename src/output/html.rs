//! A page that a browser shows: one table, complete in itself, without scripts.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::cell::{Column, is_number, type_name};
use super::escape::escape;
use super::text::Encoder;
use super::{Style, Written, count_text};
use crate::error::Result;

const HEAD: &str = "<!doctype html>\n\
    <html lang=\"en\">\n\
    <head>\n\
    <meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n\
    <title>pond</title>\n\
    <style>\n\
    body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color-scheme: light dark }\n\
    table { border-collapse: collapse; font-variant-numeric: tabular-nums }\n\
    th, td { border: 1px solid #8886; padding: .2em .6em; text-align: left; vertical-align: top }\n\
    th { position: sticky; top: 0; background: Canvas }\n\
    td { white-space: pre-wrap }\n\
    small { display: block; font-weight: normal }\n\
    small, i { opacity: .6 }\n";

pub(super) struct HtmlEncoder {
    schema: SchemaRef,
    header: bool,
    null: String,
}

impl HtmlEncoder {
    pub(super) fn new(schema: SchemaRef, style: &Style) -> Self {
        let null = style.null_text();
        Self { schema, header: style.header, null }
    }
}

impl Encoder for HtmlEncoder {
    fn begin(&mut self, _: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        text.extend_from_slice(HEAD.as_bytes());
        let fields = self.schema.fields();
        let numbers = fields.iter().enumerate().filter(|(_, field)| is_number(field.data_type()));
        let numbers: Vec<String> =
            numbers.map(|(at, _)| format!("tr > :nth-child({})", at + 1)).collect();
        if !numbers.is_empty() {
            let rule = format!("{} {{ text-align: right }}\n", numbers.join(", "));
            text.extend_from_slice(rule.as_bytes());
        }
        text.extend_from_slice(b"</style>\n</head>\n<body>\n<table>\n");
        if self.header && !fields.is_empty() {
            text.extend_from_slice(b"<thead>\n<tr>");
            for field in fields {
                text.extend_from_slice(b"<th>");
                push_text(field.name(), text);
                text.extend_from_slice(b"<small>");
                push_text(&type_name(field.data_type()), text);
                text.extend_from_slice(b"</small></th>");
            }
            text.extend_from_slice(b"</tr>\n</thead>\n");
        }
        text.extend_from_slice(b"<tbody>\n");
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, _: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        if columns.is_empty() {
            return Ok(());
        }
        let mut cell = Vec::new();
        for row in 0..batch.num_rows() {
            text.extend_from_slice(b"<tr>");
            for column in &columns {
                text.extend_from_slice(b"<td>");
                if column.is_null(row) {
                    text.extend_from_slice(b"<i>");
                    push_text(&self.null, text);
                    text.extend_from_slice(b"</i>");
                } else {
                    cell.clear();
                    column.text(row, &mut cell)?;
                    push_text(&String::from_utf8_lossy(&cell), text);
                }
                text.extend_from_slice(b"</td>");
            }
            text.extend_from_slice(b"</tr>\n");
        }
        Ok(())
    }

    fn end(&self, written: Written, text: &mut Vec<u8>) -> Result<()> {
        let count = count_text(written);
        let tail = format!("</tbody>\n</table>\n<p>{count}</p>\n</body>\n</html>\n");
        text.extend_from_slice(tail.as_bytes());
        Ok(())
    }
}

/// Appends a text; what HTML cannot hold is told by its number.
fn push_text(value: &str, text: &mut Vec<u8>) {
    let value =
        escape(value, |character| matches!(character, '\t' | '\n') || !character.is_control());
    for byte in value.bytes() {
        match byte {
            b'&' => text.extend_from_slice(b"&amp;"),
            b'<' => text.extend_from_slice(b"&lt;"),
            b'>' => text.extend_from_slice(b"&gt;"),
            byte => text.push(byte),
        }
    }
}
