//! Paths that name the past: `'/p@v12'` is `/p` after transaction 12, `'/p@2026-01-31T12:00:00Z'` as
//! it was at that time.
//!
//! A node whose own name reads like that wins. What is live (its content comes from outside of the
//! pond) has no past: opening it there is an error, never today's data.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;

use super::Tree;
use crate::error::{Error, Result};
use crate::node::{Directory, lookup, not_found};
use crate::path::PondPath;
use crate::pond::At;
use crate::snapshot::{Located, Snapshot};

/// Separates a path from the point of its history.
const SEPARATOR: char = '@';

/// Where a path is to be looked up: in the present tree, or in one of the past.
#[derive(Debug, Clone)]
pub struct InTime {
    /// The path, without what it says about time.
    pub path: PondPath,
    /// The tree.
    pub snapshot: Arc<Snapshot>,
    /// Its root.
    pub root: Arc<dyn Directory>,
    /// The point of the past that was asked for.
    pub at: Option<At>,
}

impl Tree {
    /// Finds the tree in which `path` is to be looked up: `present`, unless the path names the past.
    ///
    /// # Errors
    /// Those of [`Tree::as_of`].
    pub async fn in_time(&self, present: Arc<Snapshot>, path: &PondPath) -> Result<InTime> {
        let root = self.root(present.clone());
        if let Some((earlier, at)) = split(path)
            && !is_there(&present, &root, path).await?
        {
            let snapshot =
                self.as_of(at).await.map_err(|error| error.context(format!("'{path}'")))?;
            let root = self.past_root(snapshot.clone());
            return Ok(InTime { path: earlier, snapshot, root, at: Some(at) });
        }
        Ok(InTime { path: path.clone(), snapshot: present, root, at: None })
    }
}

impl InTime {
    /// Makes the error for a path that names nothing there.
    pub async fn not_found(&self) -> Error {
        match self.at {
            None => not_found(&self.root, &self.path).await,
            Some(at) => was_not_there(&self.path, at),
        }
    }
}

/// Makes the error for a path that named nothing at some point of the past.
pub fn was_not_there(path: &PondPath, at: At) -> Error {
    Error::not_found(format!("'{path}{}' does not exist: '{path}' was not there then", suffix(at)))
        .with_hint(format!("see when it was: SELECT * FROM history('{path}')"))
}

async fn is_there(snapshot: &Snapshot, root: &Arc<dyn Directory>, path: &PondPath) -> Result<bool> {
    Ok(match snapshot.locate(path)? {
        Located::Found(_) => true,
        Located::Dynamic { .. } => lookup(root, path).await?.is_some(),
        Located::Missing { .. } | Located::NotDirectory { .. } => false,
    })
}

/// Splits what a path says about time off it.
pub fn split(path: &PondPath) -> Option<(PondPath, At)> {
    let (earlier, when) = path.as_str().rsplit_once(SEPARATOR)?;
    let at = match when.strip_prefix('v') {
        Some(txn) if txn.bytes().all(|digit| digit.is_ascii_digit()) => {
            At::Version(txn.parse().ok()?)
        }
        None if when.starts_with(|first: char| first.is_ascii_digit()) => {
            At::Timestamp(micros(&ScalarValue::from(when))?)
        }
        _ => return None,
    };
    Some((PondPath::parse(earlier).ok()?, at))
}

/// Returns what is put behind a path to name it at some point of its history: `@v12`.
pub fn suffix(at: At) -> String {
    match at {
        At::Version(txn) => format!("{SEPARATOR}v{txn}"),
        At::Timestamp(micros) => {
            let time = ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
            let text = time.cast_to(&DataType::Utf8).map(|text| text.to_string());
            format!("{SEPARATOR}{}", text.unwrap_or_else(|_| micros.to_string()))
        }
    }
}

/// Returns the time that a value means, in microseconds since 1970 UTC: a time, a date, or the text
/// of one.
pub fn micros(value: &ScalarValue) -> Option<i64> {
    match value.data_type() {
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {}
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {}
        _ => return None,
    }
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    match value.cast_to(&time) {
        Ok(ScalarValue::TimestampMicrosecond(micros, _)) => micros,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_its_time_come_apart_and_together() {
        let parts = |text: &str| {
            let (path, at) = split(&PondPath::parse(text).unwrap())?;
            Some((path.to_string(), at, suffix(at)))
        };
        let day = At::Timestamp(1_767_225_600_000_000);
        for (text, expected) in [
            ("/p@v12", Some(("/p", At::Version(12), "@v12"))),
            ("/d/*.csv@v0", Some(("/d/*.csv", At::Version(0), "@v0"))),
            ("/@v3", Some(("/", At::Version(3), "@v3"))),
            ("/p@2026-01-01", Some(("/p", day, "@2026-01-01T00:00:00Z"))),
            ("/p@2026-01-01T01:00:00+01:00", Some(("/p", day, "@2026-01-01T00:00:00Z"))),
            ("/a@v1@v2", Some(("/a@v1", At::Version(2), "@v2"))),
            ("/p@v", None),
            ("/p@v1.csv", None),
            ("/p@12", None),
            ("/me@example.org", None),
            ("/p", None),
        ] {
            let expected =
                expected.map(|(path, at, suffix)| (path.to_owned(), at, suffix.to_owned()));
            assert_eq!(parts(text), expected, "{text}");
        }
    }
}
