//! Which files of a series to merge: so that a series is a few well-sized files and not one for each
//! append, and an append costs the same at version 1,000 as at version 10.
//!
//! Files are merged with their neighbours only, so that each holds the rows of consecutive versions. A
//! file of [`target_rows`](next_merge) rows is full and never rewritten. The others are merged when
//! together they would be full, or when [`FAN_IN`] of about one size are there, as in a size-tiered
//! merge tree: a row is rewritten once for each power of [`FAN_IN`] between its append and a full file.

use std::ops::RangeInclusive;

/// So many files of about one size are merged.
const FAN_IN: usize = 32;
/// A file of so many bytes is full, whatever its rows. With it, a merge reads at most about twice as
/// much, which bounds its memory.
const FULL_BYTES: u64 = 64 * 1024 * 1024;

/// A file of a series.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The versions whose rows it holds.
    pub versions: RangeInclusive<i64>,
    /// Its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Part {
    fn is_full(&self, target_rows: u64) -> bool {
        self.rows >= target_rows || self.bytes >= FULL_BYTES
    }

    /// The power of [`FAN_IN`] that its rows come to.
    fn tier(&self) -> u32 {
        self.rows.max(1).ilog(FAN_IN as u64)
    }
}

/// Rows of a file that ordinary appends make and then leave alone: two row groups.
pub const APPEND_TARGET_ROWS: u64 = 2 * super::write::ROW_GROUP_ROWS as u64;
/// Rows of a file that maintenance makes.
pub const MAINTAIN_TARGET_ROWS: u64 = 8 * super::write::ROW_GROUP_ROWS as u64;

/// Returns the versions whose files to merge into one, or `None` if all is well. `parts` are the files
/// of the series in the order of their versions. After a merge, ask again.
pub fn next_merge(parts: &[Part], target_rows: u64) -> Option<RangeInclusive<i64>> {
    let mut at = 0;
    while at < parts.len() {
        if parts[at].is_full(target_rows) {
            at += 1;
            continue;
        }
        let length = parts[at..].iter().take_while(|part| !part.is_full(target_rows)).count();
        let run = &parts[at..at + length];
        let merge = if at + length < parts.len() {
            // Nothing can come between two full files any more.
            (length >= 2).then(|| first_to_fill(run, target_rows))
        } else {
            growing(run, target_rows)
        };
        if let Some(merge) = merge {
            let (first, last) = (&merge[0], &merge[merge.len() - 1]);
            return Some(*first.versions.start()..=*last.versions.end());
        }
        at += length;
    }
    None
}

/// Returns what to merge of the newest files, none of which is full.
fn growing(run: &[Part], target_rows: u64) -> Option<&[Part]> {
    let highest = run.iter().map(Part::tier).max()?;
    (0..=highest).find_map(|tier| {
        let length = run.iter().rev().take_while(|part| part.tier() <= tier).count();
        let newest = &run[run.len() - length..];
        let rows: u64 = newest.iter().map(|part| part.rows).sum();
        let bytes: u64 = newest.iter().map(|part| part.bytes).sum();
        let fills = length >= 2 && (rows >= target_rows || bytes >= FULL_BYTES);
        let alike = newest.iter().filter(|part| part.tier() == tier).count();
        (fills || alike >= FAN_IN).then(|| first_to_fill(newest, target_rows))
    })
}

/// Returns the first parts that together are full, or all of them.
fn first_to_fill(run: &[Part], target_rows: u64) -> &[Part] {
    let (mut rows, mut bytes) = (0, 0);
    let full = run.iter().position(|part| {
        rows += part.rows;
        bytes += part.bytes;
        rows >= target_rows || bytes >= FULL_BYTES
    });
    let length = full.map_or(run.len(), |last| last + 1);
    // What would be left alone joins them.
    if length + 1 == run.len() { run } else { &run[..length] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Appends versions of so many rows, merges as the policy says, and returns the parts, and how
    /// many rows were written in all.
    fn append(versions: &[u64], target_rows: u64) -> (Vec<Part>, u64) {
        let mut parts: Vec<Part> = Vec::new();
        let mut written = 0;
        for (version, rows) in (1..).zip(versions) {
            parts.push(Part { versions: version..=version, rows: *rows, bytes: rows * 8 });
            written += rows;
            while let Some(versions) = next_merge(&parts, target_rows) {
                let within = |part: &Part| {
                    versions.contains(part.versions.start())
                        && versions.contains(part.versions.end())
                };
                let first = parts.iter().position(within).unwrap();
                let merged: Vec<Part> = parts.iter().filter(|part| within(part)).cloned().collect();
                assert!(merged.len() >= 2);
                assert!(!merged.iter().any(|part| part.rows >= target_rows), "rewrote a full file");
                let rows = merged.iter().map(|part| part.rows).sum();
                written += rows;
                parts.retain(|part| !within(part));
                parts.insert(first, Part { versions, rows, bytes: rows * 8 });
            }
        }
        let mut next = 1;
        for part in &parts {
            assert_eq!(*part.versions.start(), next, "parts follow each other");
            next = part.versions.end() + 1;
        }
        assert_eq!(next, versions.len() as i64 + 1);
        (parts, written)
    }

    #[test]
    fn a_thousand_appends_make_tens_of_files() {
        let (parts, written) = append(&[10_000; 1000], APPEND_TARGET_ROWS);
        assert_eq!(parts.len(), 40);
        assert_eq!(written, 2 * 10_000_000, "each row is rewritten once");
        let (parts, _) = append(&[10_000; 1000], MAINTAIN_TARGET_ROWS);
        assert!(parts.len() <= 40, "{}", parts.len());
    }

    #[test]
    fn tiny_appends_cost_a_few_rewrites_each() {
        let (parts, written) = append(&[1; 100_000], APPEND_TARGET_ROWS);
        assert!(parts.len() <= 4 * FAN_IN, "{}", parts.len());
        assert!(written <= 5 * 100_000, "{written}");
        // Sizes of all kinds.
        let mixed: Vec<u64> = (0..20_000).map(|at| 1 + at * 7919 % 3000).collect();
        let (parts, written) = append(&mixed, APPEND_TARGET_ROWS);
        let rows: u64 = mixed.iter().sum();
        assert!(written <= 5 * rows, "{written} of {rows}");
        let full = rows.div_ceil(APPEND_TARGET_ROWS) as usize;
        assert!(parts.len() <= full + 4 * FAN_IN, "{}", parts.len());
    }

    #[test]
    fn full_files_are_left_alone_and_what_is_between_is_one() {
        let mut versions = vec![10; 5];
        versions.push(1_000_000);
        versions.extend([20; 7]);
        versions.push(1_000_000);
        let (parts, _) = append(&versions, APPEND_TARGET_ROWS);
        assert_eq!(
            parts.iter().map(|part| part.rows).collect::<Vec<_>>(),
            [50, 1_000_000, 140, 1_000_000]
        );
    }

    #[test]
    fn bytes_count_as_rows_do() {
        let part = |version, bytes| Part { versions: version..=version, rows: 10, bytes };
        let half = FULL_BYTES / 2;
        assert_eq!(next_merge(&[part(1, half)], 1000), None);
        assert_eq!(next_merge(&[part(1, half), part(2, half)], 1000), Some(1..=2));
        assert_eq!(next_merge(&[part(1, FULL_BYTES), part(2, FULL_BYTES)], 1000), None);
    }
}
