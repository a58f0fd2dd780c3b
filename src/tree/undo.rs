//! How a transaction is taken back: the few verbs after which the tree is what it was before.
//!
//! They follow from what the transaction changes, not from the verbs it was made with: `mkdir -p`
//! makes directories that it does not name. What was made is removed, what was moved is moved back,
//! and all else is restored to the transaction before. Where that would be many verbs, or they would
//! get in each other's way, the whole tree is restored.

use super::{DiffEntry, Edit};
use crate::error::Result;
use crate::path::PondPath;
use crate::snapshot::Located;

/// Most verbs to take one transaction back; beyond, the tree is restored as a whole.
const VERBS_MAX: usize = 3;

/// Most nodes that one verb removes.
const PATHS_MAX: usize = 8;

/// Most rows of a transaction that is looked at.
const ROWS_MAX: usize = 10_000;

/// A verb that takes back a part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    /// Gives a node its old path.
    Rename {
        /// Where it is.
        from: PondPath,
        /// Where it was.
        to: PondPath,
    },
    /// Removes what was made.
    Drop {
        /// The nodes.
        paths: Vec<PondPath>,
        /// Whether any is a directory that holds something.
        recursive: bool,
    },
    /// Makes a node what it was.
    Restore {
        /// The node.
        path: PondPath,
        /// After which transaction.
        to: i64,
    },
}

impl Edit {
    /// Returns what would take the edit back, but for the number of the transaction before it.
    pub(super) fn plan_undo(&self) -> Vec<Undo> {
        if self.is_empty() {
            return Vec::new();
        }
        // Restoring the tree takes anything back: what cannot be compared does not hinder the commit.
        let changes = if self.rows() > ROWS_MAX { None } else { self.nodes_changed().ok() };
        changes
            .and_then(|changes| verbs(&changes))
            .unwrap_or_else(|| vec![Undo::Restore { path: PondPath::root(), to: 0 }])
    }

    /// Returns what [`Edit::diff`] does, less what is added below a new directory because it was moved
    /// there.
    fn nodes_changed(&self) -> Result<Vec<DiffEntry>> {
        let mut changes = Vec::new();
        for change in self.diff()? {
            let is_moved = match self.transaction.view().locate(&change.path)? {
                Located::Found(entry) if change.change == "added" => {
                    self.transaction.base().path_of(entry.node_id)?.is_some()
                }
                _ => false,
            };
            if !is_moved {
                changes.push(change);
            }
        }
        Ok(changes)
    }
}

/// Completes the verbs, of an edit that became transaction `txn`.
pub(super) fn complete(verbs: Vec<Undo>, txn: i64) -> Vec<Undo> {
    let complete = |verb| match verb {
        Undo::Restore { path, .. } => Undo::Restore { path, to: txn - 1 },
        verb => verb,
    };
    verbs.into_iter().map(complete).collect()
}

/// Returns the verbs that take changes back, in the order in which they work; `None` if the tree is
/// better restored as a whole.
fn verbs(changes: &[DiffEntry]) -> Option<Vec<Undo>> {
    let mut moved: Vec<(&PondPath, &PondPath)> = Vec::new();
    let mut restored: Vec<&PondPath> = Vec::new();
    for change in changes {
        match (change.change, &change.from) {
            ("renamed", Some(from)) if change.version_before == change.version_after => {
                moved.push((&change.path, from));
            }
            ("renamed", _) => return None,
            // It would be moved back with what it is in, which in the order of paths comes before.
            (_, None) if moved.iter().any(|(arrived, _)| is_within(&change.path, arrived)) => {
                return None;
            }
            // In the order of paths, a directory comes before what it holds.
            ("removed" | "modified", _) if !is_below(&change.path, &restored) => {
                restored.push(&change.path);
            }
            _ => {}
        }
    }
    let arrived: Vec<&PondPath> = moved.iter().map(|(path, _)| *path).collect();
    let mut made: Vec<&PondPath> = Vec::new();
    let mut recursive = false;
    for change in changes.iter().filter(|change| change.change == "added") {
        let path = &change.path;
        if is_below(path, &restored) || arrived.contains(&path) {
            continue;
        }
        match is_below(path, &made) {
            true => recursive = true,
            false => made.push(path),
        }
    }
    let touches =
        |path: &PondPath, other: &PondPath| path.starts_with(other) || other.starts_with(path);
    let in_the_way = |(at, (path, from)): (usize, &(&PondPath, &PondPath))| {
        restored.iter().any(|other| touches(other, path) || touches(other, from))
            || made.iter().any(|other| touches(other, from))
            || moved.iter().enumerate().any(|(other_at, (other_path, other_from))| {
                touches(path, other_from)
                    || (at != other_at && (touches(path, other_path) || touches(from, other_from)))
            })
    };
    if moved.iter().enumerate().any(in_the_way) || made.len() > PATHS_MAX {
        return None;
    }
    let mut verbs: Vec<Undo> = moved
        .iter()
        .map(|(path, from)| Undo::Rename { from: (*path).clone(), to: (*from).clone() })
        .collect();
    if !made.is_empty() {
        verbs.push(Undo::Drop { paths: made.into_iter().cloned().collect(), recursive });
    }
    verbs.extend(restored.into_iter().map(|path| Undo::Restore { path: path.clone(), to: 0 }));
    (verbs.len() <= VERBS_MAX).then_some(verbs)
}

fn is_within(path: &PondPath, other: &PondPath) -> bool {
    path != other && path.starts_with(other)
}

fn is_below(path: &PondPath, others: &[&PondPath]) -> bool {
    others.iter().any(|other| path.starts_with(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryType;

    fn change(change: &'static str, path: &str, from: Option<&str>) -> DiffEntry {
        let path_of = |text: &str| PondPath::root().join(text).unwrap();
        DiffEntry {
            change,
            path: path_of(path),
            from: from.map(path_of),
            entry_type: EntryType::FileData,
            version_before: None,
            version_after: None,
            size_before: None,
            size_after: None,
        }
    }

    fn shown(changes: &[DiffEntry]) -> Option<Vec<String>> {
        let show = |verb: &Undo| match verb {
            Undo::Rename { from, to } => format!("rename {from} {to}"),
            Undo::Drop { paths, recursive } => format!("drop {} {recursive}", paths.len()),
            Undo::Restore { path, .. } => format!("restore {path}"),
        };
        verbs(changes).map(|verbs| verbs.iter().map(show).collect())
    }

    #[test]
    fn what_was_changed_says_how_to_take_it_back() {
        let all = [change("added", "/a", None), change("added", "/a/b", None)];
        assert_eq!(shown(&all).unwrap(), ["drop 1 true"]);
        assert_eq!(shown(&all[..1]).unwrap(), ["drop 1 false"]);
        let moved_into_new = [
            change("added", "/new", None),
            change("added", "/new/a", None),
            change("renamed", "/new/a", Some("/a")),
        ];
        assert_eq!(shown(&moved_into_new).unwrap(), ["rename /new/a /a", "drop 1 false"]);
        let replaced = [
            change("added", "/a", None),
            change("removed", "/a", None),
            change("removed", "/a/b", None),
            change("modified", "/c", None),
        ];
        assert_eq!(shown(&replaced).unwrap(), ["restore /a", "restore /c"]);
    }

    #[test]
    fn what_would_get_in_its_way_restores_all() {
        for changes in [
            // They changed places.
            vec![change("renamed", "/a", Some("/b")), change("renamed", "/b", Some("/a"))],
            // The place is taken.
            vec![change("added", "/a", None), change("renamed", "/b", Some("/a"))],
            // It came out of what is gone.
            vec![change("renamed", "/b", Some("/d/b")), change("removed", "/d", None)],
            // It is new, or changed, in what was moved.
            vec![change("renamed", "/dd", Some("/d")), change("added", "/dd/new", None)],
            vec![change("renamed", "/dd", Some("/d")), change("modified", "/dd/a", None)],
            ["/a", "/b", "/c", "/d"].map(|path| change("modified", path, None)).to_vec(),
        ] {
            assert_eq!(shown(&changes), None);
        }
    }
}
