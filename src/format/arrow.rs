//! Arrow IPC: the columns from the schema message of a file or a stream.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::ObjectStore;

use super::{FileKind, TableSource, text};
use crate::error::Result;

/// The first bytes of the file format; a stream starts with its schema message at once.
const FILE_MAGIC: &[u8] = b"ARROW1\0\0";

/// Learns the columns of an Arrow file, and in which of the two formats it is.
///
/// Both start with the schema message, after the magic bytes of the file format.
pub(super) async fn open(
    store: &dyn ObjectStore,
    source: &TableSource,
) -> Result<(SchemaRef, FileKind)> {
    let plain = FileCompressionType::UNCOMPRESSED;
    let sample = text::sample(store, source, plain, |bytes| {
        let (messages, _) = split_magic(bytes);
        (message_length(messages)? <= messages.len()).then_some(bytes.len())
    });
    let bytes = sample.await?.bytes;
    let (bytes, kind) = split_magic(&bytes);
    let schema = StreamReader::try_new(Cursor::new(bytes), None)?.schema();
    // Metadata would keep schemas of like columns apart.
    let fields = schema
        .fields()
        .iter()
        .map(|field| Arc::new(field.as_ref().clone().with_metadata(Default::default())));
    Ok((Arc::new(Schema::new(fields.collect::<Vec<_>>())), kind))
}

/// Splits off the magic bytes, after which writers pad with nought to a multiple of eight or more.
fn split_magic(bytes: &[u8]) -> (&[u8], FileKind) {
    let Some(bytes) = bytes.strip_prefix(FILE_MAGIC) else {
        return (bytes, FileKind::ArrowStream);
    };
    let padding = bytes.chunks_exact(8).take_while(|word| word.iter().all(|byte| *byte == 0));
    (&bytes[8 * padding.count()..], FileKind::ArrowFile)
}

/// The length of the first message with its prefix: a marker, which old writers leave out, and four
/// bytes.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (prefix, length) = match word(0)? {
        u32::MAX => (8, word(4)?),
        length => (4, length),
    };
    usize::try_from(length).ok()?.checked_add(prefix)
}
