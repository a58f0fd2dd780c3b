//! The bytes of rows in the formats that `COPY … TO '/p.csv'` writes, made as the rows come.

use std::io::Write;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::ipc::writer::FileWriter;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::{csv, json};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};
use crate::format::{self, EncodedTable, TableFormat};

/// Streams the file that holds `rows`. At most a row group of them is held.
///
/// # Errors
/// `Unsupported` for columns that the format does not have. In the stream: whatever stops the rows.
pub(super) fn encode(
    rows: SendableRecordBatchStream,
    format: &TableFormat,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let schema = rows.schema();
    match format {
        TableFormat::Parquet => {
            let table = EncodedTable::new(rows, None)?;
            let parts = stream::try_unfold(table, |mut table| async {
                Ok(table.next().await?.map(|part| (part, table)))
            });
            Ok(parts.boxed())
        }
        TableFormat::Csv(options) => {
            let delimiter = options.delimiter.unwrap_or(b',');
            let compression = options.compression.unwrap_or(format::Compression::None).file_type();
            let nested = schema.fields().iter().find(|field| field.data_type().is_nested());
            if let Some(field) = nested {
                return Err(Error::unsupported(format!(
                    "column '{}' has type {}, which CSV does not have",
                    field.name(),
                    field.data_type()
                ))
                .with_hint("copy to a name that ends in .json or .parquet, or select its parts"));
            }
            let header =
                Encoder::Csv { delimiter, header: true }.encode(&RecordBatch::new_empty(schema))?;
            let encoder = Encoder::Csv { delimiter, header: false };
            compress(text(rows, encoder, header), compression)
        }
        TableFormat::Json { compression } => {
            compress(text(rows, Encoder::Json, Bytes::new()), *compression)
        }
        TableFormat::Arrow => ipc(rows, &schema),
    }
}

/// How a batch becomes text.
#[derive(Debug, Clone, Copy)]
enum Encoder {
    Csv { delimiter: u8, header: bool },
    Json,
}

impl Encoder {
    fn encode(self, batch: &RecordBatch) -> Result<Bytes, ArrowError> {
        let mut text = Vec::new();
        match self {
            Self::Csv { delimiter, header } => csv::WriterBuilder::new()
                .with_header(header)
                .with_delimiter(delimiter)
                .build(&mut text)
                .write(batch)?,
            Self::Json => {
                let builder = json::WriterBuilder::new().with_explicit_nulls(true);
                let mut writer = builder.build::<_, json::writer::LineDelimited>(&mut text);
                writer.write(batch)?;
                writer.finish()?;
            }
        }
        Ok(Bytes::from(text))
    }
}

fn text(
    rows: SendableRecordBatchStream,
    encoder: Encoder,
    header: Bytes,
) -> BoxStream<'static, Result<Bytes, DataFusionError>> {
    let rows = rows.map(move |batch| Ok(encoder.encode(&batch?)?));
    stream::once(async { Ok(header) }).chain(rows).boxed()
}

fn compress(
    bytes: BoxStream<'static, Result<Bytes, DataFusionError>>,
    compression: FileCompressionType,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let bytes = match compression.is_compressed() {
        true => compression.convert_to_compress_stream(bytes)?,
        false => bytes,
    };
    Ok(bytes.map_err(Error::from).boxed())
}

fn ipc(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let buffer = Buffer::default();
    let writer = FileWriter::try_new(buffer.clone(), schema)?;
    let state = Some((rows, writer, buffer));
    let parts = stream::try_unfold(state, |state| async move {
        let Some((mut rows, mut writer, buffer)) = state else { return Ok(None) };
        match rows.try_next().await? {
            Some(batch) => {
                writer.write(&batch)?;
                Ok(Some((buffer.take(), Some((rows, writer, buffer)))))
            }
            None => {
                writer.finish()?;
                Ok(Some((buffer.take(), None)))
            }
        }
    });
    Ok(parts.boxed())
}

/// What a writer has written and nobody has taken yet.
#[derive(Debug, Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut *self.0.lock().expect("never poisoned")))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("never poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
