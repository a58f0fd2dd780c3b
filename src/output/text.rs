//! Writes rows as text: batches are encoded on all processors, and written in their order.
//!
//! An [`Encoder`] says what comes before all rows, what a batch of rows is, and what comes after.
//! Where the runtime has workers, each batch is a task of its own; a window of them is on the way
//! at a time, twice as many as workers, so that memory is bounded. Elsewhere they are encoded in
//! place, one after another.

use std::io::Write;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::common::runtime::SpawnedTask;
use futures::StreamExt;
use futures::future::{Either, ready};
use futures::stream;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Rows, Written, bytes_of, write_error};
use crate::error::{Error, ErrorKind, Result};

/// What the rows that [`Encoder::begin`] sees take, but for the last.
const HEAD_BYTES: usize = 16 << 20;

/// A text that has grown larger is not filled again.
const SPARE_BYTES_MAX: usize = 4 << 20;

/// Turns rows into text.
pub(super) trait Encoder: Send + Sync + 'static {
    /// How many rows [`Encoder::begin`] is to see; they are held back until they are there, or take
    /// [`HEAD_BYTES`].
    fn head_rows(&self) -> usize {
        0
    }

    /// Appends what comes before all rows, the first of which are `head`.
    fn begin(&mut self, head: &[RecordBatch], text: &mut Vec<u8>) -> Result<()>;

    /// Appends the rows of `batch`, which come after `before` others.
    fn rows(&self, batch: &RecordBatch, before: u64, text: &mut Vec<u8>) -> Result<()>;

    /// Appends what comes after all rows.
    fn end(&self, written: Written, text: &mut Vec<u8>) -> Result<()>;
}

/// Writes all rows; `filter` has the last word on what is written.
pub(super) async fn write_text(
    rows: &mut Rows,
    mut encoder: impl Encoder,
    filter: fn(Vec<u8>) -> Vec<u8>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let mut head = Vec::new();
    let mut head_bytes = 0;
    let mut failed = None;
    while rows.written.rows < encoder.head_rows() as u64 && head_bytes < HEAD_BYTES {
        match rows.next().await {
            Ok(Some(batch)) => {
                head_bytes += bytes_of(&batch);
                head.push(batch);
            }
            Ok(None) => break,
            // The rows before are written all the same.
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    let mut text = Vec::new();
    encoder.begin(&head, &mut text)?;
    let mut before = 0;
    for batch in head {
        encoder.rows(&batch, before, &mut text)?;
        before += batch.num_rows() as u64;
        flush(&filter(std::mem::take(&mut text)), out)?;
    }
    flush(&filter(text), out)?;
    if let Some(error) = failed {
        return Err(error);
    }
    let encoder = Arc::new(encoder);
    encode_all(rows, &encoder, filter, out).await?;
    let mut text = Vec::new();
    encoder.end(rows.written, &mut text)?;
    flush(&filter(text), out)
}

async fn encode_all(
    rows: &mut Rows,
    encoder: &Arc<impl Encoder>,
    filter: fn(Vec<u8>) -> Vec<u8>,
    out: &mut (dyn Write + Send),
) -> Result<()> {
    let workers = match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => {
            runtime.metrics().num_workers()
        }
        _ => 0,
    };
    // Texts that are written, to be filled again.
    let spare = Arc::new(Mutex::new(Vec::<Vec<u8>>::new()));
    let batches = stream::unfold(rows, |rows| async {
        let before = rows.written.rows;
        let batch = rows.next().await.transpose()?;
        Some((batch.map(|batch| (batch, before)), rows))
    });
    let texts = batches.map(|batch| {
        let (encoder, spare) = (encoder.clone(), spare.clone());
        let encode = move || {
            let (batch, before) = batch?;
            let mut text = lock(&spare).pop().unwrap_or_default();
            encoder.rows(&batch, before, &mut text)?;
            Ok(filter(text))
        };
        match workers {
            0 => Either::Left(ready(encode())),
            _ => Either::Right(async {
                let task = SpawnedTask::spawn(async { encode() });
                task.join_unwind().await.unwrap_or_else(|source| {
                    Err(Error::new(ErrorKind::Engine, "the runtime ended").with_source(source))
                })
            }),
        }
    });
    let mut texts = pin!(texts.buffered((2 * workers).max(1)));
    while let Some(text) = texts.next().await {
        let mut text = text?;
        flush(&text, out)?;
        if text.capacity() <= SPARE_BYTES_MAX {
            text.clear();
            lock(&spare).push(text);
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is in it is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flush(text: &[u8], out: &mut (dyn Write + Send)) -> Result<()> {
    if !text.is_empty() {
        out.write_all(text).and_then(|()| out.flush()).map_err(write_error)?;
    }
    Ok(())
}
