//! What CSV and JSON lines share: reading the first part of a text, and remembering what was
//! learnt from it.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::runtime::SpawnedTask;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::error::DataFusionError;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, ObjectStore};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::{CsvOptions, Layout, TableSource};
use crate::entry::now_micros;
use crate::error::{Error, Result};

/// How much of a text tells the types of its columns: all of a text that is no longer.
pub(super) const SAMPLE_BYTES: usize = 256 * 1024;

/// The longest header and first row for which a sample is extended.
const SAMPLE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes that are decompressed at once.
const DECOMPRESSED_BYTES: usize = 128 * 1024;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 1024 * 1024;

/// The first part of a text.
pub(super) struct Sample {
    /// Whole lines or records.
    pub(super) bytes: Vec<u8>,
    /// Whether this is the whole text.
    pub(super) is_whole: bool,
}

/// Reads the first part of a text; `complete` returns how much of it is whole records, if that is
/// enough to learn from.
pub(super) async fn sample(
    store: &dyn ObjectStore,
    source: &TableSource,
    compression: FileCompressionType,
    complete: impl Fn(&[u8]) -> Option<usize>,
) -> Result<Sample> {
    let mut wanted = SAMPLE_BYTES;
    loop {
        let mut bytes = read_head(store, &source.object, compression, wanted).await?;
        if bytes.len() < wanted {
            return Ok(Sample { bytes, is_whole: true });
        }
        if let Some(length) = complete(&bytes) {
            bytes.truncate(length);
            return Ok(Sample { bytes, is_whole: false });
        }
        if wanted >= SAMPLE_BYTES_MAX {
            return Err(Error::corrupt(format!(
                "'{}': no row ends in the first {} MiB",
                source.path,
                SAMPLE_BYTES_MAX >> 20
            )));
        }
        wanted *= 8;
    }
}

/// Reads the first `wanted` bytes of a text, or all there are.
async fn read_head(
    store: &dyn ObjectStore,
    object: &ObjectMeta,
    compression: FileCompressionType,
    wanted: usize,
) -> Result<Vec<u8>> {
    if object.size == 0 {
        return Ok(Vec::new());
    }
    let mut options = GetOptions::new();
    if !compression.is_compressed() {
        options.range = Some(GetRange::Bounded(0..object.size.min(wanted as u64)));
    }
    let result = store.get_opts(&object.location, options).await.map_err(DataFusionError::from)?;
    let mut chunks = decompress(compression, chunks(result));
    let mut bytes = Vec::new();
    while bytes.len() < wanted {
        let Some(chunk) = chunks.try_next().await? else { break };
        let room = wanted - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok(bytes)
}

/// Reads a range of an object in large chunks.
pub(super) async fn read_range(
    store: &dyn ObjectStore,
    location: &Path,
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, DataFusionError>>> {
    if range.is_empty() {
        return Ok(stream::empty().boxed());
    }
    let options = GetOptions::new().with_range(Some(GetRange::Bounded(range)));
    let result = store.get_opts(location, options).await.map_err(DataFusionError::from)?;
    Ok(chunks(result))
}

/// Streams what a store answered; a local file in larger chunks than the store's own.
fn chunks(result: GetResult) -> BoxStream<'static, Result<Bytes, DataFusionError>> {
    match result.payload {
        GetResultPayload::Stream(bytes) => bytes.map_err(DataFusionError::from).boxed(),
        GetResultPayload::File(file, _) => {
            stream::try_unfold((file, result.range), |(mut file, range)| async move {
                let read = tokio::task::spawn_blocking(move || {
                    let length = (range.end - range.start).min(CHUNK_BYTES);
                    let mut chunk = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
                    file.seek(SeekFrom::Start(range.start))?;
                    (&mut file).take(length).read_to_end(&mut chunk)?;
                    let rest = range.start + chunk.len() as u64..range.end;
                    Ok::<_, std::io::Error>((Bytes::from(chunk), (file, rest)))
                });
                let (chunk, rest) = read.await.map_err(std::io::Error::from)??;
                Ok((!chunk.is_empty()).then_some((chunk, rest)))
            })
            .boxed()
        }
    }
}

/// Decompresses bytes, on a thread of its own: all of them, if they are of several compressed texts
/// in a row.
pub(super) fn decompress(
    compression: FileCompressionType,
    bytes: BoxStream<'static, Result<Bytes, DataFusionError>>,
) -> BoxStream<'static, Result<Bytes, DataFusionError>> {
    if !compression.is_compressed() {
        return bytes;
    }
    let (send, received) = mpsc::channel(2);
    let input = Input { bytes, runtime: Handle::current(), part: Bytes::new() };
    let task = SpawnedTask::spawn_blocking(move || {
        let mut text = match compression.convert_read(input) {
            Ok(text) => text,
            Err(error) => return drop(send.blocking_send(Err(error))),
        };
        loop {
            let mut part = vec![0; DECOMPRESSED_BYTES];
            let read = match text.read(&mut part) {
                Ok(0) => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Ok(length) => {
                    part.truncate(length);
                    Ok(Bytes::from(part))
                }
                Err(error) => Err(DataFusionError::from(error)),
            };
            let is_error = read.is_err();
            // Nobody may want more of it.
            if send.blocking_send(read).is_err() || is_error {
                return;
            }
        }
    });
    let parts = stream::try_unfold((received, Some(task)), |(mut received, mut task)| async move {
        if let Some(part) = received.recv().await {
            return Ok(Some((part?, (received, task))));
        }
        // If it did not end well, that was not all.
        if let Some(task) = task.take() {
            task.join().await.map_err(std::io::Error::from)?;
        }
        Ok(None)
    });
    parts.boxed()
}

/// Bytes to be decompressed.
struct Input {
    bytes: BoxStream<'static, Result<Bytes, DataFusionError>>,
    runtime: Handle,
    part: Bytes,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.part.is_empty() {
            match self.runtime.block_on(self.bytes.try_next())? {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.part.len());
        buffer[..length].copy_from_slice(&self.part.split_to(length));
        Ok(length)
    }
}

/// What was learnt from a text.
#[derive(Debug, Clone, Default)]
pub(super) struct Learnt {
    /// The columns, and whether they were learnt from a part only.
    pub(super) columns: Option<(SchemaRef, bool)>,
    /// How a CSV is read, by what was said of it.
    pub(super) layouts: Vec<(Arc<CsvOptions>, Arc<Layout>)>,
}

/// The number of ways to read one text that are remembered.
const LAYOUTS_MAX: usize = 4;

impl Learnt {
    /// Returns how a CSV is read.
    pub(super) fn layout_of(&self, options: &Arc<CsvOptions>) -> Option<Arc<Layout>> {
        let known = self.layouts.iter().find(|(known, _)| known == options);
        known.map(|(_, layout)| layout.clone())
    }

    /// Sets how a CSV is read.
    pub(super) fn set_layout(&mut self, options: &Arc<CsvOptions>, layout: &Arc<Layout>) {
        self.layouts.retain(|(known, _)| known != options);
        if self.layouts.len() == LAYOUTS_MAX {
            self.layouts.remove(0);
        }
        self.layouts.push((options.clone(), layout.clone()));
    }
}

/// The number of texts that are remembered.
const MEMORY_TEXTS_MAX: usize = 10_000;

type Memory = HashMap<(String, Path), (ObjectMeta, Learnt)>;

/// What was learnt from texts lately, valid as long as a text is what it was then.
static MEMORY: LazyLock<Mutex<Memory>> = LazyLock::new(Mutex::default);

/// Returns what is known of a text.
pub(super) fn recall(source: &TableSource) -> Learnt {
    let memory = MEMORY.lock().expect("never poisoned");
    match memory.get(&key(source)) {
        Some((object, learnt)) if *object == source.object => learnt.clone(),
        _ => Learnt::default(),
    }
}

/// Remembers what is known of a text, unless it could still change and look the same.
pub(super) fn remember(source: &TableSource, learn: impl FnOnce(&mut Learnt)) {
    if unsettled_for(source).is_some() {
        return;
    }
    let mut memory = MEMORY.lock().expect("never poisoned");
    if memory.len() >= MEMORY_TEXTS_MAX {
        memory.clear();
    }
    let (object, learnt) =
        memory.entry(key(source)).or_insert_with(|| (source.object.clone(), Learnt::default()));
    if *object != source.object {
        (*object, *learnt) = (source.object.clone(), Learnt::default());
    }
    learn(learnt);
}

/// The longest step of the times of a file: they are those of the kernel's clock tick.
const TICK: Duration = Duration::from_millis(20);

/// Returns for how long a change of a file of the host might not give it another time.
pub(crate) fn unsettled_for(source: &TableSource) -> Option<Duration> {
    let changed: i128 = source.object.version.as_ref()?.parse().ok()?;
    let age = u64::try_from(i128::from(now_micros()) * 1000 - changed).ok()?;
    TICK.checked_sub(Duration::from_nanos(age)).filter(|left| !left.is_zero())
}

fn key(source: &TableSource) -> (String, Path) {
    (source.store_url.as_str().to_owned(), source.object.location.clone())
}
