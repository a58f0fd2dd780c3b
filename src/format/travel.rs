//! Scans for other processes: the engine's own nodes, without what only this process has.
//!
//! A scan of the pond's is the engine's, with a wrapper around its source that watches the files
//! ([`super::watch`]). A blob never changes, so without the wrapper its scan is the same, and whoever
//! opens the URL can run it. What else there is stays here: texts, whose reader is ours; bytes that came
//! with their row; files in a store that only this process has, or that may change while they are read;
//! and scans of parts of a file, which no plan that is sent can say.

use std::sync::Arc;

use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

use super::csv::scan::CsvScan;
use super::watch::WatchedSource;
use crate::path::PondPath;

/// The schemes of stores that other processes open, too.
const SHARED_SCHEMES: &[&str] = &["file", "s3", "gs", "az", "abfs", "abfss", "http", "https"];

/// Most bytes of rows in memory that are sent.
const ROWS_BYTES_MAX: usize = 1024 * 1024;

/// A scan that can run in another process.
pub struct Travelling {
    /// The scan, of the engine's own nodes alone.
    pub scan: Arc<dyn ExecutionPlan>,
    /// Whether it reads files.
    pub reads_files: bool,
}

/// Returns a scan as another process can run it, or why none can.
pub fn travelling(scan: &Arc<dyn ExecutionPlan>) -> Result<Travelling, String> {
    let Some(exec) = scan.downcast_ref::<DataSourceExec>() else {
        return Err(format!("rows of {} are made in this process", scan.name()));
    };
    let source = exec.data_source();
    if let Some(texts) = source.downcast_ref::<CsvScan>() {
        let path = texts.paths().next().map_or("", PondPath::as_str);
        return Err(format!("scan of '{path}' reads text"));
    }
    if let Some(memory) = source.downcast_ref::<MemorySourceConfig>() {
        let batches = memory.partitions().iter().flatten();
        let bytes: usize = batches.map(|batch| batch.get_array_memory_size()).sum();
        if bytes > ROWS_BYTES_MAX {
            return Err(format!("a table of the session holds {bytes} bytes of rows"));
        }
        return Ok(Travelling { scan: scan.clone(), reads_files: false });
    }
    let Some(config) = source.downcast_ref::<FileScanConfig>() else {
        return Err("a scan is the application's own".to_owned());
    };
    Ok(Travelling { scan: without_watch(scan, config)?, reads_files: true })
}

/// Returns the scan of files that never change, with the engine's own source.
fn without_watch(
    scan: &Arc<dyn ExecutionPlan>,
    config: &FileScanConfig,
) -> Result<Arc<dyn ExecutionPlan>, String> {
    let watched = config.file_source().downcast_ref::<WatchedSource>();
    let files = || config.file_groups.iter().flat_map(|group| group.files());
    let first = files().next().map(|file| &file.object_meta.location);
    let path = match (watched, first) {
        (Some(watched), Some(location)) => watched.path_of(location).map(|path| path.to_string()),
        (None, Some(location)) => Some(location.to_string()),
        _ => None,
    };
    let stays = |why: &str| Err(format!("scan of '{}' {why}", path.as_deref().unwrap_or_default()));
    if watched.is_some_and(WatchedSource::holds_bytes) {
        return stays("holds bytes of the oplog");
    }
    let url = config.object_store_url.as_str();
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    if !SHARED_SCHEMES.contains(&scheme) {
        return stays("is in a store that only this process has");
    }
    if files().any(|file| file.extension::<ParquetRowSelection>().is_some()) {
        return stays("is of some rows of a file");
    }
    // The message has 32 bits for it.
    if config.limit.is_some_and(|limit| u32::try_from(limit).is_err()) {
        return stays("has a limit that is too large to be sent");
    }
    let Some(watched) = watched else { return Ok(scan.clone()) };
    if !watched.is_immutable() {
        return stays("is of a file that may change meanwhile");
    }
    if watched.inner().downcast_ref::<ParquetSource>().is_none() {
        return stays("is not of Parquet");
    }
    let config =
        FileScanConfigBuilder::from(config.clone()).with_source(watched.inner().clone()).build();
    Ok(DataSourceExec::from_data_source(config))
}
