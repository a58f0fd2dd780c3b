//! The bytes of a text in chunks that begin and end with records.
//!
//! A text that is stored as it is read is taken range by range, so that a chunk is one read and no
//! copy; one that is compressed, or not UTF-8, comes as a stream. Chunks follow each other, so
//! wherever a quoted value holds line breaks, a chunk never ends within it. What is held is a chunk,
//! and a record of up to [`RECORD_BYTES_MAX`].

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use datafusion::error::DataFusionError;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use memchr::{memchr_iter, memchr2};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use twox_hash::XxHash3_128;

use super::super::{TableSource, text};
use super::convert::Passed;
use super::options::{Compression, Dialect, Encoding, Layout, OnError};
use super::records::{Index, Scanner};
use crate::error::{Error, Result};
use crate::path::PondPath;

/// The longest record.
pub(super) const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a compressed text that are read at once.
const READ_BYTES: usize = 1024 * 1024;
/// Bytes that are looked at together, to see whether they are what they were.
const HASHED_BYTES: u64 = 4 * 1024 * 1024;
/// The first chunk, so that a LIMIT need not wait for more.
const FIRST_BYTES: usize = 128 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Some records.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// They end with a record.
    pub bytes: Bytes,
    /// Where the first one is.
    pub at: usize,
    /// The line that `bytes` begin with, from 1.
    pub line: u64,
}

/// A record that was left out, since it is too long to be held.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooLong {
    pub line: u64,
}

/// What comes next of a text.
pub(super) enum Next {
    Records(Chunk),
    TooLong(TooLong),
    End,
}

/// Reads a text in chunks.
pub(super) struct Chunks {
    path: PondPath,
    scanner: Scanner,
    header: Scanner,
    on_error: OnError,
    input: Input,
    chunk_bytes: usize,
    /// Lines passed.
    lines: u64,
    has_header: bool,
    is_begun: bool,
    /// Whether the header has been passed.
    is_passed: bool,
    /// Whether the last chunk ended with a line end.
    is_ended: bool,
    /// What tells the part that was passed from any other, where that is asked for.
    hasher: Option<XxHash3_128>,
}

enum Input {
    Ranges { store: Arc<dyn ObjectStore>, location: Path, size: u64, at: u64 },
    Stream { parts: BoxStream<'static, Result<Bytes>>, held: Bytes, is_ended: bool },
}

impl Chunks {
    /// Starts at the beginning of a text.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        source: &TableSource,
        layout: &Layout,
        chunk_bytes: usize,
    ) -> Result<Self> {
        let dialect = &layout.dialect;
        let input = match is_plain(dialect) {
            true => Input::Ranges {
                store,
                location: source.object.location.clone(),
                size: source.object.size,
                at: 0,
            },
            false => Input::Stream {
                parts: utf8(store, source, dialect.compression, dialect.encoding)?,
                held: Bytes::new(),
                is_ended: false,
            },
        };
        Ok(Self {
            path: source.path.clone(),
            scanner: Scanner::new(dialect, layout.columns.len(), layout.on_error),
            header: Scanner::of_header(dialect, layout.columns.len()),
            on_error: layout.on_error,
            input,
            chunk_bytes,
            lines: 0,
            has_header: dialect.has_header,
            is_begun: false,
            is_passed: false,
            is_ended: true,
            hasher: None,
        })
    }

    /// Starts behind a part of the text that was read before, if that is what it was.
    pub async fn resume(&mut self, from: Passed) -> Result<bool> {
        let (Input::Ranges { store, location, size, at }, Some(hasher)) =
            (&mut self.input, &mut self.hasher)
        else {
            return Ok(false);
        };
        if *size < from.bytes {
            return Ok(false);
        }
        while *at < from.bytes {
            let end = (*at + HASHED_BYTES).min(from.bytes);
            let bytes = store.get_range(location, *at..end).await.map_err(Error::from_store)?;
            hasher.write(&bytes);
            *at = end;
        }
        (self.lines, self.is_begun) = (from.lines, true);
        Ok(hasher.finish_128() == from.xxh3)
    }

    /// Makes a fingerprint of what is passed, where it is stored as it is read.
    pub fn with_fingerprint(mut self) -> Self {
        if matches!(self.input, Input::Ranges { .. }) {
            self.hasher = Some(XxHash3_128::new());
        }
        self
    }

    /// Returns how much was passed, if a line ended there: one that goes on would be another record.
    pub fn passed(&self) -> Option<Passed> {
        match (&self.input, &self.hasher) {
            (Input::Ranges { at, .. }, Some(hasher)) if self.is_ended => {
                Some(Passed { bytes: *at, lines: self.lines, xxh3: hasher.finish_128() })
            }
            _ => None,
        }
    }

    /// Returns how many bytes of the source were passed, if that can be told.
    pub fn position(&self) -> Option<u64> {
        match &self.input {
            Input::Ranges { at, .. } => Some(*at),
            Input::Stream { .. } => None,
        }
    }

    /// Returns the next records.
    ///
    /// # Errors
    /// What the store says; `Corrupt` for a record that is too long, unless such are left out.
    pub async fn next(&mut self) -> Result<Next> {
        let mut wanted = if self.is_begun { self.chunk_bytes } else { FIRST_BYTES };
        loop {
            let (window, is_last) = self.window(wanted).await?;
            if window.is_empty() {
                return Ok(Next::End);
            }
            let end = match is_last {
                true => Some(window.len()),
                false if self.is_begun => self.scanner.last_end(&window[..]),
                // Comments come before the header only.
                false => self.header.last_end(&window[..]),
            };
            if let Some(end) = end {
                let bytes = self.take(&window, end);
                // A value that is open at the end of the text goes on in what will follow.
                if is_last && self.hasher.is_some() {
                    self.is_ended &= self.scanner.last_end(&window) == Some(end);
                }
                let mut chunk = Chunk { at: 0, line: self.lines + 1, bytes };
                self.lines += count_lines(&chunk.bytes);
                if !self.is_begun {
                    chunk.at = self.first_record(&chunk.bytes);
                    self.is_begun = self.is_passed || chunk.at < chunk.bytes.len();
                    if !self.is_begun && !is_last {
                        continue;
                    }
                    self.is_begun = true;
                }
                return Ok(Next::Records(chunk));
            }
            if window.len() >= RECORD_BYTES_MAX {
                return self.skip_record(&window).await;
            }
            wanted = (wanted * 4).min(RECORD_BYTES_MAX);
        }
    }

    /// Returns the next bytes, and whether they are the last, without passing them.
    async fn window(&mut self, wanted: usize) -> Result<(Bytes, bool)> {
        match &mut self.input {
            Input::Ranges { store, location, size, at } => {
                let end = (*at + wanted as u64).min(*size);
                if *at >= end {
                    return Ok((Bytes::new(), true));
                }
                let bytes = store.get_range(location, *at..end).await.map_err(Error::from_store)?;
                Ok((bytes, end == *size))
            }
            Input::Stream { parts, held, is_ended } => {
                if held.len() < wanted && !*is_ended {
                    let mut all = BytesMut::with_capacity(wanted + READ_BYTES);
                    all.extend_from_slice(held);
                    while all.len() < wanted && !*is_ended {
                        match parts.try_next().await? {
                            Some(part) => all.extend_from_slice(&part),
                            None => *is_ended = true,
                        }
                    }
                    *held = all.freeze();
                }
                Ok((held.clone(), *is_ended))
            }
        }
    }

    /// Passes the first `end` bytes of the window.
    fn take(&mut self, window: &Bytes, end: usize) -> Bytes {
        let taken = window.slice(..end);
        self.is_ended = taken.ends_with(b"\n");
        match &mut self.input {
            Input::Ranges { at, .. } => {
                *at += end as u64;
                if let Some(hasher) = &mut self.hasher {
                    hasher.write(&taken);
                }
            }
            Input::Stream { held, .. } => *held = held.slice(end..),
        }
        taken
    }

    /// Returns where the first record that is not the header starts.
    fn first_record(&mut self, bytes: &[u8]) -> usize {
        let mut start = if bytes.starts_with(BOM) { BOM.len() } else { 0 };
        loop {
            let blank = bytes[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
            let next = self.header.skip_comments(bytes, start + blank.count());
            if next == start {
                break;
            }
            start = next;
        }
        if !self.has_header || self.is_passed || start == bytes.len() {
            return start;
        }
        self.is_passed = true;
        let end = self.header.index(bytes, start, 1, &mut Index::default(), &mut Vec::new());
        end.unwrap_or(bytes.len())
    }

    /// Passes a record that is too long.
    async fn skip_record(&mut self, window: &Bytes) -> Result<Next> {
        let line = self.lines + 1;
        if self.on_error == OnError::Fail {
            return Err(Error::corrupt(format!(
                "'{}': the record on line {line} is longer than {} MiB",
                self.path,
                RECORD_BYTES_MAX >> 20
            ))
            .with_hint(
                "perhaps a quote is never closed: give quote => 'none', or leave such records out \
                 with on_error => 'skip'",
            ));
        }
        let mut window = window.clone();
        loop {
            let end = memchr2(b'\n', b'\r', &window);
            self.take(&window, end.unwrap_or(window.len()));
            if end.is_some() {
                self.lines += 1;
                let (rest, _) = self.window(2).await?;
                let end = if rest.starts_with(b"\r\n") { 2 } else { 1 };
                self.take(&rest, end);
                break;
            }
            (window, _) = self.window(READ_BYTES).await?;
            if window.is_empty() {
                break;
            }
        }
        self.is_begun = true;
        Ok(Next::TooLong(TooLong { line }))
    }
}

/// Whether the bytes of a text are what is read.
pub(super) fn is_plain(dialect: &Dialect) -> bool {
    dialect.compression == Compression::None && dialect.encoding == Encoding::Utf8
}

/// Counts the lines that end in `bytes`, with LF, CRLF or CR.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    let lone = memchr_iter(b'\r', bytes).filter(|at| bytes.get(at + 1) != Some(&b'\n')).count();
    (memchr_iter(b'\n', bytes).count() + lone) as u64
}

/// Streams a text as UTF-8.
pub(super) fn utf8(
    store: Arc<dyn ObjectStore>,
    source: &TableSource,
    compression: Compression,
    encoding: Encoding,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let location = source.object.location.clone();
    let size = source.object.size;
    let raw = stream::try_unfold(0, move |at| {
        let (store, location) = (store.clone(), location.clone());
        async move {
            let range: Range<u64> = at..(at + READ_BYTES as u64).min(size);
            if range.is_empty() {
                return Ok::<_, DataFusionError>(None);
            }
            let bytes = store.get_range(&location, range.clone()).await?;
            Ok(Some((bytes, range.end)))
        }
    });
    let plain = text::decompress(compression.file_type(), raw.boxed());
    let path = source.path.clone();
    let plain = plain.map_err(move |error| match Error::from(error) {
        ours if ours.kind() != crate::error::ErrorKind::Engine => ours,
        engine if compression == Compression::None => engine,
        engine => Error::corrupt(format!("'{path}': cannot be decompressed")).with_source(engine),
    });
    Ok(transcode(&source.path, plain.boxed(), encoding))
}

/// Makes bytes UTF-8.
fn transcode(
    path: &PondPath,
    bytes: BoxStream<'static, Result<Bytes>>,
    encoding: Encoding,
) -> BoxStream<'static, Result<Bytes>> {
    let encoding = match encoding {
        Encoding::Utf8 => return bytes,
        Encoding::Latin1 => encoding_rs::WINDOWS_1252,
        Encoding::Utf16Le => encoding_rs::UTF_16LE,
        Encoding::Utf16Be => encoding_rs::UTF_16BE,
    };
    let decoder = Some(encoding.new_decoder_with_bom_removal());
    let path = path.clone();
    let parts = stream::try_unfold((bytes, decoder), move |(mut bytes, decoder)| {
        let path = path.clone();
        async move {
            let Some(mut decoder) = decoder else { return Ok(None) };
            let part = bytes.try_next().await?;
            let is_last = part.is_none();
            let part = part.unwrap_or_default();
            let room = decoder.max_utf8_buffer_length(part.len()).unwrap_or(part.len() * 3 + 16);
            let mut text = String::with_capacity(room);
            let (_, _, had_errors) = decoder.decode_to_string(&part, &mut text, is_last);
            if had_errors {
                return Err(Error::corrupt(format!("'{path}': is not {}", encoding.name())));
            }
            let decoder = (!is_last).then_some(decoder);
            Ok(Some((Bytes::from(text), (bytes, decoder))))
        }
    });
    parts.boxed()
}
