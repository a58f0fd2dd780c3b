//! What the scans of a plan read: for EXPLAIN NODE, and for whoever would run them again.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::datasource::physical_plan::{FileScanConfig, FileSource, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_plan::ExecutionPlan;

use super::csv::scan::CsvScan;
use super::watch::WatchedSource;
use crate::path::PondPath;

/// One scan at a leaf of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The tables, or files of the host, that it reads.
    pub paths: Vec<PondPath>,
    /// How many files it opens.
    pub files: usize,
    /// Of how many.
    pub of: usize,
    /// The columns that it reads.
    pub columns: Vec<String>,
    /// What its rows must meet, as far as that reached it.
    pub predicate: Option<String>,
    /// How many rows are enough.
    pub limit: Option<usize>,
}

/// Returns the scans of a plan, from left to right.
pub fn scans_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Scan> {
    let mut scans = Vec::new();
    let mut waiting = vec![plan.clone()];
    while let Some(plan) = waiting.pop() {
        waiting.extend(plan.children().into_iter().rev().cloned());
        let Some(scan) = plan.downcast_ref::<DataSourceExec>() else { continue };
        if let Some(texts) = scan.data_source().downcast_ref::<CsvScan>() {
            let paths: BTreeSet<PondPath> = texts.paths().cloned().collect();
            scans.push(Scan {
                files: paths.len(),
                of: paths.len(),
                paths: paths.into_iter().collect(),
                columns: texts.columns(),
                predicate: texts.filter().map(ToString::to_string),
                limit: scan.data_source().fetch(),
            });
            continue;
        }
        let config = scan.data_source().downcast_ref::<FileScanConfig>();
        let Some(config) = config else { continue };
        let Some(source) = config.file_source().downcast_ref::<WatchedSource>() else { continue };
        // One file may be in several partitions.
        let files: HashSet<_> = config
            .file_groups
            .iter()
            .flat_map(|group| group.files())
            .map(|file| &file.object_meta.location)
            .collect();
        let paths: BTreeSet<PondPath> = files.iter().filter_map(|at| source.path_of(at)).collect();
        let columns = config.projected_schema().map_or_else(
            |_| Vec::new(),
            |schema| schema.fields().iter().map(|field| field.name().clone()).collect(),
        );
        scans.push(Scan {
            paths: paths.into_iter().collect(),
            files: files.len(),
            of: source.files(),
            columns,
            predicate: source.filter().map(|filter| filter.to_string()),
            limit: config.limit,
        });
    }
    scans
}

/// Returns how many files a scan opens, each counted as often as it is, if they are Parquet and never
/// change: then it finds the same rows each time.
pub fn scans_again(plan: &Arc<dyn ExecutionPlan>) -> Option<usize> {
    let scan = plan.downcast_ref::<DataSourceExec>()?;
    let (config, source) = scan.downcast_to_file_source::<WatchedSource>()?;
    (source.is_immutable() && source.inner().is::<ParquetSource>())
        .then(|| config.file_groups.iter().map(|group| group.len()).sum())
}
