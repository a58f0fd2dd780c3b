//! An object store for tests: in memory, it counts reads, and can be told to panic or to change a file.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// A store that counts reads, and can be told to panic or to change a file.
#[derive(Debug, Default)]
pub struct ProbeStore {
    pub inner: InMemory,
    pub reads: AtomicUsize,
    /// Bytes read of each file.
    pub bytes: Mutex<BTreeMap<Path, u64>>,
    pub panics: AtomicBool,
    /// A file to overwrite once the next read has been answered.
    pub change: Mutex<Option<(Path, Vec<u8>)>>,
}

impl ProbeStore {
    async fn change(&self) {
        let change = self.change.lock().unwrap().take();
        if let Some((at, bytes)) = change {
            self.inner.put(&at, PutPayload::from(bytes)).await.unwrap();
        }
    }

    fn count(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics.load(Ordering::Relaxed), "the store was told to");
    }
}

impl ProbeStore {
    fn count_bytes(&self, at: &Path, bytes: u64) {
        *self.bytes.lock().unwrap().entry(at.clone()).or_default() += bytes;
    }

    /// Forgets what was counted.
    pub fn reset(&self) {
        self.reads.store(0, Ordering::Relaxed);
        self.bytes.lock().unwrap().clear();
    }
}

impl fmt::Display for ProbeStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("probe")
    }
}

#[async_trait]
impl ObjectStore for ProbeStore {
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if options.head {
            return self.inner.get_opts(at, options).await;
        }
        self.count();
        let result = self.inner.get_opts(at, options).await;
        if let Ok(result) = &result {
            self.count_bytes(at, result.range.end - result.range.start);
        }
        self.change().await;
        result
    }

    async fn get_ranges(
        &self,
        at: &Path,
        ranges: &[Range<u64>],
    ) -> object_store::Result<Vec<Bytes>> {
        self.count();
        self.count_bytes(at, ranges.iter().map(|range| range.end - range.start).sum());
        let bytes = self.inner.get_ranges(at, ranges).await;
        self.change().await;
        bytes
    }

    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, a: &Path, b: &Path, o: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(a, b, o).await
    }
}
