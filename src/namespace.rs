//! The folded namespace in the cache: what makes opening a pond independent of its history.
//!
//! `cache/namespace` holds one frame with the table's state and the overlay of the snapshot, and then
//! one frame for each commit since, appended by whoever made it. The base of the snapshot is a file of
//! its own ([`Index`]), replaced only when the overlay has outgrown it. So opening reads one small
//! file, and what it cannot find there it reads from the oplog.
//!
//! Nothing here is synced or trusted: a frame carries its CRC-32, the state is checked against the
//! log file it claims to be of, and whatever does not fit is ignored and made anew. After a power cut
//! the cache may know commits that the oplog lost; that check is what notices.

use std::collections::BTreeMap;
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
use crate::snapshot::{Overlay, Snapshot};

/// Changes whenever a structure in the file does.
const FORMAT: u32 = 1;
/// An overlay with fewer entries than this stays one.
const OVERLAY_ENTRIES_MIN: usize = 512;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    format: u32,
    state: TableState,
    base: Option<String>,
    overlay: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// The cache directory, as far as the namespace is concerned.
#[derive(Debug)]
pub(crate) struct Namespace {
    dir: PathBuf,
    /// The base of the snapshot last loaded or saved, and its number of blocks.
    base: Option<(String, Arc<Index>)>,
}

impl Namespace {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, base: None }
    }

    /// Reads what is there: a state, its snapshot, and the number of commits that were appended.
    /// `None` if there is nothing that can be used.
    pub(crate) fn load(&mut self) -> Option<(TableState, Snapshot)> {
        let bytes = std::fs::read(self.head_path()).ok()?;
        let mut frames = Frames { bytes: &bytes };
        let head: Head = frames.next_frame()?;
        if head.format != FORMAT {
            return None;
        }
        self.base = match head.base {
            Some(name) => {
                let index = Index::open(&self.dir.join(&name)).ok()?;
                Some((name, Arc::new(index)))
            }
            None => None,
        };
        let overlay: Overlay =
            head.overlay.into_iter().map(|(key, value)| (key, value.map(Into::into))).collect();
        let mut state = head.state;
        let base = self.base.as_ref().map(|(_, index)| index.clone());
        let mut snapshot = Snapshot::from_parts(state.txn, state.timestamp, base, overlay);
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

    /// Replaces what is there; returns `snapshot`, on a new base if its overlay had outgrown the old.
    pub(crate) fn save(&mut self, state: &TableState, snapshot: &Snapshot) -> Result<Snapshot> {
        std::fs::create_dir_all(&self.dir).map_err(|error| Error::io(self.dir.display(), error))?;
        let base_entries = self.base.as_ref().map_or(0, |(_, index)| index.entries());
        let overlay_max = OVERLAY_ENTRIES_MIN.max(16 * base_entries.isqrt());
        let snapshot = if snapshot.overlay().len() > overlay_max {
            self.write_base(snapshot)?
        } else {
            snapshot.clone()
        };
        let head = Head {
            format: FORMAT,
            state: state.clone(),
            base: self.base.as_ref().map(|(name, _)| name.clone()),
            overlay: snapshot
                .overlay()
                .iter()
                .map(|(key, value)| (key.clone(), value.as_ref().map(|value| value.to_vec())))
                .collect(),
        };
        let path = self.head_path();
        let staging = self.dir.join(format!("namespace.{}", Uuid::now_v7()));
        let written = File::create(&staging)
            .and_then(|mut file| {
                file.write_all(&encode_frame(&head).map_err(std::io::Error::other)?)
            })
            .and_then(|()| std::fs::rename(&staging, &path));
        if let Err(error) = written {
            let _ = std::fs::remove_file(&staging);
            return Err(Error::io(path.display(), error));
        }
        Ok(snapshot)
    }

    /// Writes all of `snapshot` as a new base and removes other bases; those who have one open keep
    /// reading it.
    fn write_base(&mut self, snapshot: &Snapshot) -> Result<Snapshot> {
        let name = format!("namespace-{}.index", Uuid::now_v7());
        let path = self.dir.join(&name);
        if let Err(error) = Index::write(&path, snapshot.pairs(Vec::new())) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        let index = Arc::new(Index::open(&path)?);
        let listing = std::fs::read_dir(&self.dir);
        for entry in listing.map_err(|error| Error::io(self.dir.display(), error))?.flatten() {
            let other = entry.file_name();
            let other = other.to_string_lossy();
            if other.starts_with("namespace") && other != "namespace" && other != name.as_str() {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        self.base = Some((name, index.clone()));
        Ok(Snapshot::from_parts(snapshot.txn(), snapshot.timestamp(), Some(index), Overlay::new()))
    }

    /// Removes what is there, so that it is made anew.
    pub(crate) fn clear(&mut self) {
        self.base = None;
        let _ = std::fs::remove_file(self.head_path());
    }

    fn head_path(&self) -> PathBuf {
        self.dir.join("namespace")
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
