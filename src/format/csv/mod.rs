//! CSV: one reader for texts that are read directly ([`scan`]) and for those that are converted
//! ([`convert`]).
//!
//! # Model
//! What a user says of a text ([`CsvOptions`]) and what its beginning shows (`detect`) is its
//! [`Layout`]: how values are told apart, and the columns with their types. From there on:
//! - [`chunks`] cuts the bytes into chunks of whole records;
//! - [`records`] finds where the values of a chunk begin and end;
//! - [`values`] makes arrays of those that are wanted, and [`decode`] batches of the arrays, and judges
//!   what does not fit.
//!
//! # Invariants
//! - Each record becomes a row, or is counted as rejected, or reading ends in an error that names
//!   file and line.
//! - A value is never changed to fit: it widens the type that was told from the values before, or
//!   follows [`OnError`]. A wider type is remembered for as long as the text is what it is.
//! - What is held does not grow with the text.

mod chunks;
mod convert;
mod decode;
mod detect;
mod kinds;
mod options;
mod records;
pub(super) mod scan;
mod times;
mod values;

use std::io::Write;
use std::sync::Arc;

use bytes::BytesMut;
use datafusion::catalog::Session;
use futures::stream::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{TableFormat, TableSource, WatchedStore, text, watch};
use crate::error::{Error, ErrorKind, Result};
use chunks::{Chunks, Next};
use convert::Conversion;
pub use convert::{Converted, Passed, Temporal};
use decode::{Decoder, Reading, Rejects};
use kinds::{Kinds, decide};
pub use options::{
    Compression, CsvColumn, CsvOptions, Dialect, Encoding, Layout, OnError, Reject, TimestampFormat,
};

/// How much of a text tells how it is to be read: all of a text that is no longer.
const SAMPLE_BYTES: usize = 256 * 1024;
/// Bytes of a text that is read for its rejects that are taken at once.
const REREAD_BYTES: usize = 256 * 1024;
/// So many bytes tell compression and encoding.
const MAGIC_BYTES: u64 = 8;

/// Learns how a text is to be read.
///
/// # Errors
/// What is wrong with the beginning of the text; what the store says.
pub(super) async fn open(
    store: &Arc<dyn ObjectStore>,
    source: &TableSource,
    options: &Arc<CsvOptions>,
) -> Result<Arc<Layout>> {
    if let Some(layout) = text::recall(source).layout_of(options) {
        return Ok(layout);
    }
    let (compression, encoding) = look(store, source, options).await?;
    let mut wanted = SAMPLE_BYTES;
    let mut layout = loop {
        let (sample, is_whole) = sample(store, source, compression, encoding, wanted).await?;
        let temporal = options.temporal_column.as_deref();
        let is_torn = std::str::from_utf8(&sample).is_err_and(|error| error.error_len().is_some());
        let refuses = matches!(options.on_error, Some(OnError::Skip | OnError::Null));
        let detected = match is_torn && refuses {
            // Its records are refused when they are read.
            true => {
                let text = decode::without_invalid(&sample).0;
                detect::detect(text.as_bytes(), is_whole, options, temporal)
            }
            false => detect::detect(&sample, is_whole, options, temporal),
        };
        match detected {
            Ok(layout) => break layout,
            // No record ends in it.
            Err(error)
                if error.kind() == ErrorKind::Corrupt
                    && !(is_torn || is_whole)
                    && wanted < chunks::RECORD_BYTES_MAX =>
            {
                wanted = (wanted * 8).min(chunks::RECORD_BYTES_MAX);
            }
            Err(error) => return Err(error.context(format!("'{}'", source.path))),
        }
    };
    (layout.dialect.compression, layout.dialect.encoding) = (compression, encoding);
    let mut layout = Arc::new(layout);
    // What its beginning does not show tells no type.
    if !layout.is_whole && layout.columns.iter().any(CsvColumn::is_blank) {
        layout = convert::widen(store, source, &layout).await?;
    }
    text::remember(source, |learnt| learnt.set_layout(options, &layout));
    Ok(layout)
}

/// Tells how a text is compressed and encoded, where that is not given.
async fn look(
    store: &Arc<dyn ObjectStore>,
    source: &TableSource,
    options: &CsvOptions,
) -> Result<(Compression, Encoding)> {
    let object = &source.object;
    let head = async {
        match object.size {
            0 => Ok(bytes::Bytes::new()),
            size => store.get_range(&object.location, 0..size.min(MAGIC_BYTES)).await,
        }
    };
    let compression = match options.compression {
        Some(compression) => compression,
        None => match &head.await.map_err(Error::from_store)?[..] {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        },
    };
    let encoding = match options.encoding {
        Some(encoding) => encoding,
        None => {
            let (sample, _) =
                sample(store, source, compression, Encoding::Utf8, MAGIC_BYTES as usize).await?;
            match &sample[..] {
                [0xff, 0xfe, ..] => Encoding::Utf16Le,
                [0xfe, 0xff, ..] => Encoding::Utf16Be,
                _ => Encoding::Utf8,
            }
        }
    };
    Ok((compression, encoding))
}

/// Reads the beginning of a text, and says whether that is all of it.
async fn sample(
    store: &Arc<dyn ObjectStore>,
    source: &TableSource,
    compression: Compression,
    encoding: Encoding,
    wanted: usize,
) -> Result<(BytesMut, bool)> {
    let mut sample = BytesMut::new();
    if source.object.size == 0 {
        return Ok((sample, true));
    }
    if compression == Compression::None && encoding == Encoding::Utf8 {
        let (location, size) = (&source.object.location, source.object.size);
        let range = 0..size.min(wanted as u64);
        let is_whole = range.end == size;
        let bytes = store.get_range(location, range).await.map_err(Error::from_store)?;
        return Ok((bytes.into(), is_whole));
    }
    let mut parts = chunks::utf8(store.clone(), source, compression, encoding)?;
    while sample.len() <= wanted {
        match parts.try_next().await? {
            Some(part) => sample.extend_from_slice(&part),
            None => return Ok((sample, true)),
        }
    }
    // Cut off within a character, it would be no UTF-8.
    sample.truncate(wanted);
    while sample.last().is_some_and(|byte| !byte.is_ascii()) {
        sample.truncate(sample.len() - 1);
    }
    Ok((sample, false))
}

/// Widens the type of a column to one that also holds values of these kinds.
fn widen_column(column: &mut CsvColumn, kinds: Kinds) {
    if column.is_declared {
        return;
    }
    let seen = Kinds::from_bits(column.seen) | kinds;
    column.seen = seen.bits();
    column.data_type = decide(seen);
}

/// Remembers what all of a text has shown of its columns.
fn remember_wider(source: &TableSource, seen: &Layout) {
    text::remember(source, |learnt| {
        if let TableFormat::Csv(options) = &source.format
            && learnt.layout_of(options).is_none()
        {
            learnt.set_layout(options, &Arc::new(seen.clone()));
        }
        for (_, known) in &mut learnt.layouts {
            if known.dialect == seen.dialect && known.columns.len() == seen.columns.len() {
                let mut wider = known.as_ref().clone();
                for (column, seen) in wider.columns.iter_mut().zip(&seen.columns) {
                    widen_column(column, Kinds::from_bits(seen.seen));
                }
                wider.is_whole = true;
                *known = Arc::new(wider);
            }
        }
    });
}

/// A text that can be read apart from any session.
#[derive(Debug, Clone)]
pub struct CsvText {
    store: Arc<dyn ObjectStore>,
    source: TableSource,
    options: Arc<CsvOptions>,
}

impl CsvText {
    /// Opens the text of a source, the store of which `session` knows.
    ///
    /// # Errors
    /// `Unsupported` if the source is no CSV; what the session says.
    pub fn open(session: &dyn Session, source: TableSource) -> Result<Self> {
        let TableFormat::Csv(options) = source.format.clone() else {
            return Err(Error::unsupported(format!("'{}' is no CSV", source.path)));
        };
        let store = WatchedStore::open(session, &source.store_url, [&source])?;
        Ok(Self { store: Arc::new(store), source, options })
    }

    /// Returns the source.
    pub fn source(&self) -> &TableSource {
        &self.source
    }

    /// Learns how it is to be read.
    ///
    /// # Errors
    /// What is wrong with its beginning; what the store says.
    pub async fn layout(&self) -> Result<Arc<Layout>> {
        let source = &self.source;
        watch::isolate(&source.path, open(&self.store, source, &self.options)).await
    }

    /// Looks at all of it, if only its beginning was looked at.
    ///
    /// # Errors
    /// What is wrong with the text; what the store says.
    pub async fn look_through(&self) -> Result<()> {
        let layout = self.layout().await?;
        if !layout.is_whole && layout.widens {
            let wide = convert::widen(&self.store, &self.source, &layout).await?;
            text::remember(&self.source, |learnt| learnt.set_layout(&self.options, &wide));
        }
        Ok(())
    }

    /// Converts the text, or what comes behind a part of it that was converted as `from` tells, into a
    /// file made by `new_file`. That is called again when types have to be widened. `progress` is told
    /// how many bytes of the source have been read.
    ///
    /// # Errors
    /// What is wrong with the text, naming file and line; what the store or the file says; with `from`,
    /// `Invalid` if the text did not only grow.
    pub async fn convert<W: Write + Send + 'static>(
        &self,
        temporal: &Temporal,
        from: Option<(Passed, Arc<Layout>)>,
        progress: &(dyn Fn(u64) + Send + Sync),
        new_file: impl Fn() -> Result<W>,
    ) -> Result<(W, Converted)> {
        let (from, layout) = match from {
            Some((from, layout)) => (Some(from), layout),
            None => (None, self.layout().await?),
        };
        let source = &self.source;
        let conversion =
            Conversion { store: self.store.clone(), source, layout, temporal, from, progress };
        let (file, converted) = watch::isolate(&source.path, conversion.run(new_file)).await?;
        self.check().await?;
        text::remember(source, |learnt| learnt.set_layout(&self.options, &converted.layout));
        Ok((file, converted))
    }

    /// Begins to read the text for what is refused of it.
    ///
    /// # Errors
    /// `Invalid` for a layout that cannot be.
    pub fn rejects(&self, layout: Arc<Layout>) -> Result<TextRejects> {
        let all = (0..layout.columns.len()).collect();
        let chunks = Chunks::new(self.store.clone(), &self.source, &layout, REREAD_BYTES)?;
        let reading = Reading::new(self.source.path.clone(), layout, all)?;
        Ok(TextRejects { text: self.clone(), chunks, decoder: Decoder::new(reading)? })
    }

    /// Fails if the text is not what it was when it was opened.
    async fn check(&self) -> Result<()> {
        let TableSource { object, immutable, .. } = &self.source;
        if !immutable && object.size > 0 {
            self.store.head(&object.location).await.map_err(Error::from_store)?;
        }
        Ok(())
    }
}

/// What is refused of a text, as it is read.
pub struct TextRejects {
    text: CsvText,
    chunks: Chunks,
    decoder: Decoder,
}

impl TextRejects {
    /// Returns what is refused of the next part, which may be nothing; `None` at the end.
    ///
    /// # Errors
    /// What is wrong with the text, or its store.
    pub async fn next(&mut self) -> Result<Option<Vec<Reject>>> {
        let mut rejects = Rejects::kept();
        match self.chunks.next().await? {
            Next::End => {
                self.text.check().await?;
                return Ok(None);
            }
            Next::TooLong(record) => rejects.add_long(record),
            Next::Records(chunk) => {
                let decoded = self.decoder.decode(&chunk, &mut rejects, |_| Ok(true));
                decoded.map_err(|stop| stop.into_error(self.decoder.reading()))?;
            }
        }
        Ok(Some(rejects.all.unwrap_or_default()))
    }
}
