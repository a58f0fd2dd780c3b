//! Housekeeping: what keeps a pond small, and tells whether it is whole.
//!
//! | verb | what it does |
//! |---|---|
//! | [`Pond::collect_garbage`] | removes files that nothing needs: blobs no row names, what killed writers left |
//! | [`Pond::expire`] | gives up history, on purpose |
//! | [`Pond::compact`] | merges small files of the oplog now, rather than with some commit |
//! | [`Pond::status`] | says how large what is, and what would be done |
//! | [`check`] | reads everything that is stored and compares it with its checks |
//!
//! **What is needed.** A blob is needed if a row names it, history included, with two exceptions: a
//! version of a series whose rows are in a merged file, and a merged file whose rows are in a larger
//! one (`Merged`). Both are left alone for a grace time, for those who planned with them.

mod expire;
mod fsck;
mod garbage;
mod status;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::entry::{NodeId, OplogEntry, now_micros};
use crate::error::{Error, Result};
use crate::oplog::{DataFile, Oplog, Scan};
use crate::pond::Pond;

pub use expire::Expiration;
pub use fsck::{Checked, check};
pub use garbage::{Garbage, GarbageKind, Grace};
pub use status::Status;

/// Maintenance that failed, and has not succeeded since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What could not be maintained: `oplog`, `series`, the kept `answers of derived nodes`, or the
    /// `conversions of CSV`.
    pub what: String,
    /// When, microseconds since 1970 UTC.
    pub timestamp: i64,
    /// Why.
    pub message: String,
}

/// What is maintained along with commits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upkeep {
    Oplog,
    Series,
    Answers,
    Conversions,
}

impl Upkeep {
    const ALL: [Self; 4] = [Self::Oplog, Self::Series, Self::Answers, Self::Conversions];

    fn as_str(self) -> &'static str {
        match self {
            Self::Oplog => "oplog",
            Self::Series => "series",
            Self::Answers => "answers of derived nodes",
            Self::Conversions => "conversions of CSV",
        }
    }

    fn failure_path(self, dir: &Path) -> PathBuf {
        dir.join(format!("{}-failure.json", self.as_str().replace(' ', "-")))
    }

    /// Keeps the outcome for [`Pond::status`], because a commit does not fail with it.
    ///
    /// It is kept in `dir`, the cache, so a disk that is full may lose it.
    pub(crate) fn remember(self, dir: Option<&Path>, error: Option<&Error>) {
        let Some(path) = dir.map(|dir| self.failure_path(dir)) else { return };
        // Nothing depends on either.
        let _ = match error {
            Some(error) => {
                let (what, message) = (self.as_str().to_owned(), error.to_string());
                let failure = Failure { what, timestamp: now_micros(), message };
                std::fs::write(path, serde_json::json!(failure).to_string())
            }
            None => std::fs::remove_file(path),
        };
    }
}

/// Returns the failures that are remembered.
fn last_failures(dir: &Path) -> Vec<Failure> {
    let read = |upkeep: Upkeep| std::fs::read(upkeep.failure_path(dir)).ok();
    Upkeep::ALL
        .into_iter()
        .filter_map(|upkeep| serde_json::from_slice(&read(upkeep)?).ok())
        .collect()
}

/// Parses an age: a number and its unit, as in `30d` or `12h`.
///
/// # Errors
/// `Invalid`.
pub fn parse_age(text: &str) -> Result<Duration> {
    let invalid = || {
        Error::invalid(format!("'{text}' is no length of time"))
            .with_hint("write a number and its unit: 45s, 30m, 12h, 30d or 8w")
    };
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return Err(invalid()),
    };
    let number: u32 = digits.parse().map_err(|_| invalid())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Parses a size: a number of bytes, or one and its unit, as in `500MB` or `2GiB`.
///
/// # Errors
/// `Invalid`.
pub fn parse_size(text: &str) -> Result<u64> {
    let invalid = || {
        Error::invalid(format!("'{text}' is no size"))
            .with_hint("write a number of bytes, or one with kB, MB, GB, TB, KiB, MiB, GiB or TiB")
    };
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic() || char == ' ');
    let unit: u64 = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err(invalid()),
    };
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    number.checked_mul(unit).ok_or_else(invalid)
}

/// A SHA-256, sixty-four hexadecimal digits as thirty-two bytes.
pub(crate) type Hash = [u8; 32];

pub(crate) fn parse_hash(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 2 * hash.len() || !text.is_ascii() {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(hash)
}

/// The merged files of all series that there ever were.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    of: HashMap<NodeId, Vec<MergedFile>>,
}

#[derive(Debug, Clone, Copy)]
struct MergedFile {
    from: i64,
    to: i64,
    txn: i64,
    timestamp: i64,
}

impl Merged {
    /// Reads what `files` say of them.
    pub(crate) async fn read(oplog: &Oplog, files: &[DataFile]) -> Result<Self> {
        // No transaction at all, but every merged file.
        let scan = Scan::txns(0..=0).and_segments().without_content().without_facts();
        let mut rows = oplog.rows(files, scan);
        let mut merged = Self::default();
        while let Some(batch) = rows.try_next().await? {
            batch.iter().try_for_each(|row| merged.add(row))?;
        }
        Ok(merged)
    }

    fn add(&mut self, row: &OplogEntry) -> Result<()> {
        if let Some(segment) = row.segment()?.filter(|_| !row.deleted) {
            self.of.entry(row.node_id).or_default().push(MergedFile {
                from: segment.from,
                to: segment.to,
                txn: row.txn,
                timestamp: row.timestamp,
            });
        }
        Ok(())
    }

    /// Whether the rows of what `row` describes are in a merged file that is not younger than `time`.
    pub(crate) fn covers(&self, row: &OplogEntry, time: i64) -> Result<bool> {
        let Some(files) = self.of.get(&row.node_id) else { return Ok(false) };
        let segment = row.segment()?;
        Ok(files.iter().filter(|file| file.timestamp <= time).any(|file| match &segment {
            Some(segment) => {
                let contains = file.from <= segment.from && segment.to <= file.to;
                let larger = (file.from, file.to) != (segment.from, segment.to);
                contains && (file.txn > row.txn || (file.txn == row.txn && larger))
            }
            None => (file.from..=file.to).contains(&row.version),
        }))
    }
}

impl Pond {
    /// Merges the small files of the oplog as far as there is something to merge, and writes a
    /// checkpoint. Returns how many files there were, and how many there are.
    ///
    /// # Errors
    /// `Corrupt`, `Io`; `Refused` by a policy that is read-only.
    pub async fn compact(&self) -> Result<(usize, usize)> {
        self.policy().check_write("the oplog")?;
        let compacted = self
            .rearrange(async |oplog, table| {
                let before = table.files.len();
                while oplog.maintain(table).await?.is_some() && !oplog.mergeable(table).is_empty() {
                }
                Ok((before, table.files.len()))
            })
            .await;
        Upkeep::Oplog.remember(self.cache_dir(), compacted.as_ref().err());
        compacted
    }
}
