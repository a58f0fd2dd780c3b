//! JSON: an array of objects, or one object a line (NDJSON). Each object has every column.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::Written;
use super::cell::{Column, Object};
use super::text::Encoder;
use crate::error::Result;

pub(super) struct JsonEncoder {
    object: Object,
    is_array: bool,
}

impl JsonEncoder {
    pub(super) fn new(schema: &SchemaRef, is_array: bool) -> Self {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        Self { object: Object::new(names), is_array }
    }
}

impl Encoder for JsonEncoder {
    fn begin(&mut self, _: &[RecordBatch], text: &mut Vec<u8>) -> Result<()> {
        if self.is_array {
            text.push(b'[');
        }
        Ok(())
    }

    fn rows(&self, batch: &RecordBatch, before: u64, text: &mut Vec<u8>) -> Result<()> {
        let columns = Column::all(batch)?;
        for row in 0..batch.num_rows() {
            if self.is_array && (before > 0 || row > 0) {
                text.extend_from_slice(b",\n");
            }
            self.object.push(&columns, row, text)?;
            if !self.is_array {
                text.push(b'\n');
            }
        }
        Ok(())
    }

    fn end(&self, _: Written, text: &mut Vec<u8>) -> Result<()> {
        if self.is_array {
            text.extend_from_slice(b"]\n");
        }
        Ok(())
    }
}
