//! The folded namespace in the cache: what makes opening a pond independent of its history.
//!
//! `cache/namespace/head` holds one frame with the table's state and the names of the snapshot's layers, and
//! then one frame for each commit since, appended by whoever made it. The layers are files of their own
//! ([`Index`]): one with everything up to some transaction, and over it a small one with what came
//! since, which every save writes anew until it has outgrown the square root of the large one. So
//! opening reads one short file and the ends of two, and what it cannot find there it reads from the
//! oplog; and a save costs little however many nodes there are.
//!
//! Nothing here is synced or trusted: a frame carries its CRC-32, the state is checked against the
//! log file it claims to be of, and whatever does not fit is ignored and made anew. After a power cut
//! the cache may know commits that the oplog lost; that check is what notices.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::oplog::{Commit, TableState};
use crate::snapshot::Snapshot;

/// Changes whenever a structure in the file does.
const FORMAT: u32 = 3;
/// A small layer with fewer entries than this stays one.
const SMALL_ENTRIES_MIN: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    state: TableState,
    /// File names of the layers, the newest first.
    layers: Vec<String>,
}

/// The cache directory, as far as the namespace is concerned.
#[derive(Debug)]
pub(crate) struct Namespace {
    dir: PathBuf,
    /// The layers of the snapshot last loaded or saved, the newest first.
    layers: Vec<(String, Arc<Index>)>,
}

impl Namespace {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, layers: Vec::new() }
    }

    /// Reads what is there: a state and its snapshot.
    /// `None` if there is nothing that can be used.
    pub(crate) fn load(&mut self) -> Option<(TableState, Snapshot)> {
        let bytes = std::fs::read(self.head_path()).ok()?;
        let mut frames = Frames { bytes: &bytes };
        let head: Head = frames.next_frame()?;
        if head.format != FORMAT {
            return None;
        }
        let open = |name: String| {
            let index = Index::open(&self.dir.join(&name)).ok()?;
            Some((name, Arc::new(index)))
        };
        self.layers = head.layers.into_iter().map(open).collect::<Option<_>>()?;
        let mut state = head.state;
        let mut snapshot = self.snapshot(state.txn, state.timestamp);
        // Writers append in the order they come, which need not be that of their commits.
        let mut commits = BTreeMap::new();
        while let Some(commit) = frames.next_frame::<Commit>() {
            commits.insert(commit.version, commit);
        }
        while let Some(commit) = commits.remove(&(state.version + 1)) {
            state.apply(&commit).ok()?;
            commit.rows.iter().try_for_each(|row| snapshot.apply(row)).ok()?;
        }
        Some((state, snapshot))
    }

    /// Appends a commit. A failure only costs the next reader a read of the oplog.
    pub(crate) fn append(&self, commit: &Commit) -> Result<()> {
        let frame = encode_frame(commit)?;
        let path = self.head_path();
        let failed = |error| Error::io(path.display(), error);
        let mut file = OpenOptions::new().append(true).open(&path).map_err(failed)?;
        file.write_all(&frame).map_err(failed)
    }

    /// Replaces what is there; returns the same snapshot with all of it in files.
    pub(crate) fn save(&mut self, state: &TableState, snapshot: &Snapshot) -> Result<Snapshot> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Error::io(self.dir.display(), error))?;
        if !snapshot.overlay().is_empty() {
            let large = self.layers.last().map_or(0, |(_, index)| index.entries());
            let small = match self.layers.as_slice() {
                [(_, small), _] => small.entries(),
                _ => 0,
            };
            let grown =
                small + snapshot.overlay().len() > SMALL_ENTRIES_MIN.max(16 * large.isqrt());
            // All layers become one, or all but the large one do.
            let count = self.layers.len();
            let merged = if grown { count } else { count.saturating_sub(1) };
            self.write_layer(snapshot, merged)?;
        }
        let head = Head {
            format: FORMAT,
            state: state.clone(),
            layers: self.layers.iter().map(|(name, _)| name.clone()).collect(),
        };
        let path = self.head_path();
        let staging = self.dir.join(format!("head.{}", Uuid::now_v7()));
        let written = File::create(&staging)
            .and_then(|mut file| {
                file.write_all(&encode_frame(&head).map_err(std::io::Error::other)?)
            })
            .and_then(|()| std::fs::rename(&staging, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&staging);
            return Err(Error::io(path.display(), error));
        }
        self.remove_others();
        Ok(self.snapshot(snapshot.txn(), snapshot.timestamp()))
    }

    /// Writes the overlay of `snapshot` and its `merged` newest layers as one layer in their place.
    fn write_layer(&mut self, snapshot: &Snapshot, merged: usize) -> Result<()> {
        let whole = merged == self.layers.len();
        let name = format!("{}.index", Uuid::now_v7());
        let path = self.dir.join(&name);
        // Nothing lies below the lowest layer, so it need not say what is gone.
        let pairs = snapshot
            .merged(Vec::new(), Vec::new(), merged)
            .filter(|pair| !whole || !matches!(pair, Ok((_, None))));
        if let Err(error) = Index::write(&path, pairs) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let index = Arc::new(Index::open(&path)?);
        self.layers.splice(..merged, [(name, index)]);
        Ok(())
    }

    /// Returns the names of the files that are in use.
    pub(crate) fn in_use(&self) -> HashSet<String> {
        let bytes = std::fs::read(self.head_path()).unwrap_or_default();
        let head: Option<Head> = Frames { bytes: &bytes }.next_frame();
        head.map(|head| head.layers).into_iter().flatten().chain(["head".to_owned()]).collect()
    }

    /// Removes layers that are no longer named; those who have one open keep reading it.
    fn remove_others(&self) {
        let Ok(listing) = std::fs::read_dir(&self.dir) else { return };
        for entry in listing.flatten() {
            let name = entry.file_name();
            let is_ours = self.layers.iter().any(|(ours, _)| name == ours.as_str());
            let name = name.to_string_lossy();
            if name.ends_with(".index") && !is_ours {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn snapshot(&self, txn: i64, timestamp: i64) -> Snapshot {
        let layers = self.layers.iter().map(|(_, index)| index.clone()).collect();
        Snapshot::from_parts(txn, timestamp, layers)
    }

    /// Returns the same cache without the layers that were loaded: the next save makes all anew.
    pub(crate) fn forget(&self) -> Self {
        Self::new(self.dir.clone())
    }

    fn head_path(&self) -> PathBuf {
        self.dir.join("head")
    }
}

fn encode_frame(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut frame = vec![0; 8];
    frame = postcard::to_extend(value, frame)
        .map_err(|error| Error::invalid("namespace cache").with_source(error))?;
    let length = u32::try_from(frame.len() - 8)
        .map_err(|_| Error::invalid("namespace cache: the overlay is too large"))?;
    let crc = crc32fast::hash(&frame[8..]);
    frame[..4].copy_from_slice(&length.to_le_bytes());
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
    Ok(frame)
}

/// Reads frames until one is torn or damaged.
struct Frames<'a> {
    bytes: &'a [u8],
}

impl Frames<'_> {
    fn next_frame<T: DeserializeOwned>(&mut self) -> Option<T> {
        let (length, rest) = self.bytes.split_first_chunk::<4>()?;
        let (crc, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (payload, rest) = rest.split_at_checked(length)?;
        self.bytes = rest;
        if crc32fast::hash(payload) != u32::from_le_bytes(*crc) {
            return None;
        }
        postcard::from_bytes(payload).ok()
    }
}
