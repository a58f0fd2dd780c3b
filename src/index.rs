//! An immutable sorted file of key-value pairs, read block by block: what the namespace snapshot in
//! the cache is kept in.
//!
//! Opening reads the footer and the list of blocks; a look-up reads one block of about 16 KiB. So
//! the cost of opening a pond does not depend on how many nodes it has. The layout is the sorted
//! table of LevelDB without its compression and filters:
//!
//! ```text
//! magic | block … | block list | list offset u64, list length u32, CRC-32 u32 | magic
//! block = { key length u32, value length u32, key, value } …
//! ```
//!
//! A value length of `u32::MAX` says that the key is gone: a file can be laid over another one.
//!
//! Every block and the block list carry a CRC-32: damage is an error that names the file, never a
//! wrong answer; the file, which is only a cache, is removed and made anew by the next opening.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"PONDIDX1";
const FOOTER_BYTES: u64 = 8 + 4 + 4 + 8;
const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks kept in memory by one open file: 8 MiB.
const BLOCKS_KEPT: usize = 512;
const GONE: u32 = u32::MAX;

/// A key and its value; `None` for a key that is gone.
pub type Pair = (Bytes, Option<Bytes>);

#[derive(Debug, Serialize, Deserialize)]
struct BlockRef {
    first_key: Vec<u8>,
    offset: u64,
    length: u32,
    crc: u32,
}

/// An open sorted file.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    file: File,
    blocks: Vec<BlockRef>,
    entries: usize,
    kept: Mutex<HashMap<usize, Bytes>>,
}

impl Index {
    /// Writes `pairs`, which come in ascending order of distinct keys, to a new file at `path`.
    ///
    /// The file is complete when this returns, but not synced: it is a cache.
    pub fn write(path: &Path, pairs: impl IntoIterator<Item = Result<Pair>>) -> Result<()> {
        let failed = |error| Error::io(path.display(), error);
        let mut file = BufWriter::new(File::create(path).map_err(failed)?);
        file.write_all(MAGIC).map_err(failed)?;
        let mut offset = MAGIC.len() as u64;
        let mut blocks = Vec::new();
        let mut entries = 0_u64;
        let mut block = Vec::with_capacity(2 * BLOCK_BYTES);
        let mut first_key = Vec::new();
        let mut end_block = |block: &mut Vec<u8>, first_key: &mut Vec<u8>| -> Result<()> {
            file.write_all(block).map_err(failed)?;
            let length = u32::try_from(block.len())
                .map_err(|_| Error::invalid(format!("{}: entry too large", path.display())))?;
            blocks.push(BlockRef {
                first_key: std::mem::take(first_key),
                offset,
                length,
                crc: crc32fast::hash(block),
            });
            offset += u64::from(length);
            block.clear();
            Ok(())
        };
        for pair in pairs {
            let (key, value) = pair?;
            entries += 1;
            if block.is_empty() {
                first_key = key.to_vec();
            }
            let length = |bytes: &Bytes| {
                u32::try_from(bytes.len())
                    .ok()
                    .filter(|length| *length != GONE)
                    .ok_or_else(|| Error::invalid(format!("{}: entry too large", path.display())))
            };
            block.extend_from_slice(&length(&key)?.to_le_bytes());
            let value_length = value.as_ref().map_or(Ok(GONE), length)?;
            block.extend_from_slice(&value_length.to_le_bytes());
            block.extend_from_slice(&key);
            block.extend_from_slice(value.as_deref().unwrap_or_default());
            if block.len() >= BLOCK_BYTES {
                end_block(&mut block, &mut first_key)?;
            }
        }
        if !block.is_empty() {
            end_block(&mut block, &mut first_key)?;
        }
        let list = postcard::to_allocvec(&(entries, &blocks))
            .map_err(|error| Error::invalid(path.display().to_string()).with_source(error))?;
        let length = u32::try_from(list.len())
            .map_err(|_| Error::invalid(format!("{}: too many blocks", path.display())))?;
        file.write_all(&list).map_err(failed)?;
        file.write_all(&offset.to_le_bytes()).map_err(failed)?;
        file.write_all(&length.to_le_bytes()).map_err(failed)?;
        file.write_all(&crc32fast::hash(&list).to_le_bytes()).map_err(failed)?;
        file.write_all(MAGIC).map_err(failed)?;
        file.flush().map_err(failed)
    }

    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Corrupt` if it is torn or of another format.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(path.display(), error);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let damaged = || Error::corrupt(format!("{} is damaged", path.display()));
        let footer_at = size.checked_sub(FOOTER_BYTES).ok_or_else(damaged)?;
        let mut footer = [0; FOOTER_BYTES as usize];
        file.read_exact_at(&mut footer, footer_at).map_err(failed)?;
        let list_at = u64::from_le_bytes(footer[..8].try_into().expect("8 bytes"));
        let length = u32::from_le_bytes(footer[8..12].try_into().expect("4 bytes"));
        let crc = u32::from_le_bytes(footer[12..16].try_into().expect("4 bytes"));
        if &footer[16..] != MAGIC || list_at.checked_add(u64::from(length)) != Some(footer_at) {
            return Err(damaged());
        }
        let mut list = vec![0; length as usize];
        file.read_exact_at(&mut list, list_at).map_err(failed)?;
        if crc32fast::hash(&list) != crc {
            return Err(damaged());
        }
        let (entries, blocks): (u64, _) = postcard::from_bytes(&list).map_err(|_| damaged())?;
        let entries = usize::try_from(entries).map_err(|_| damaged())?;
        Ok(Self { path: path.to_owned(), file, blocks, entries, kept: Mutex::default() })
    }

    /// Returns the number of pairs.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns what the file says of `key`: a value, that it is gone (`Some(None)`), or nothing.
    pub fn get(&self, key: &[u8]) -> Result<Option<Option<Bytes>>> {
        let block = self.blocks.partition_point(|block| block.first_key.as_slice() <= key);
        let Some(block) = block.checked_sub(1) else { return Ok(None) };
        let block = self.block(block)?;
        let mut at = 0;
        while at < block.len() {
            let pair = PairAt::new(&block, at);
            match block[pair.key.clone()].cmp(key) {
                Ordering::Less => at = pair.end,
                Ordering::Equal => return Ok(Some(pair.value.map(|value| block.slice(value)))),
                Ordering::Greater => break,
            }
        }
        Ok(None)
    }

    /// Iterates over the pairs whose key is at least `from`, in order.
    pub fn range(
        self: &Arc<Self>,
        from: &[u8],
    ) -> impl Iterator<Item = Result<Pair>> + Send + use<> {
        let index = self.clone();
        let from = from.to_vec();
        let first = self
            .blocks
            .partition_point(|block| block.first_key.as_slice() <= from.as_slice())
            .saturating_sub(1);
        (first..self.blocks.len())
            .flat_map(move |block| match index.block(block) {
                Ok(bytes) => pairs_or_error(Ok(Pairs { block: bytes, at: 0 })),
                Err(error) => pairs_or_error(Err(error)),
            })
            .skip_while(move |pair| {
                pair.as_ref().is_ok_and(|(key, _)| key.as_ref() < from.as_slice())
            })
    }

    fn block(&self, number: usize) -> Result<Bytes> {
        if let Some(block) = self.kept.lock().expect("never panics").get(&number) {
            return Ok(block.clone());
        }
        let block = &self.blocks[number];
        let mut bytes = vec![0; block.length as usize];
        self.file
            .read_exact_at(&mut bytes, block.offset)
            .map_err(|error| Error::io(self.path.display(), error))?;
        if crc32fast::hash(&bytes) != block.crc {
            // Without it, whoever opens the pond next folds the oplog and makes it anew.
            let _ = std::fs::remove_file(&self.path);
            return Err(Error::corrupt(format!("{} is damaged", self.path.display()))
                .with_hint("it was only a cache and has been removed; try again"));
        }
        let bytes = Bytes::from(bytes);
        let mut kept = self.kept.lock().expect("never panics");
        if kept.len() >= BLOCKS_KEPT
            && let Some(any) = kept.keys().next().copied()
        {
            kept.remove(&any);
        }
        kept.insert(number, bytes.clone());
        Ok(bytes)
    }
}

/// The pairs of one block, or the one error that reading it gave.
fn pairs_or_error(pairs: Result<Pairs>) -> Box<dyn Iterator<Item = Result<Pair>> + Send> {
    match pairs {
        Ok(pairs) => Box::new(pairs.map(Ok)),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

/// Where the parts of one pair lie in a block whose CRC was checked.
struct PairAt {
    key: Range<usize>,
    value: Option<Range<usize>>,
    end: usize,
}

impl PairAt {
    fn new(block: &[u8], at: usize) -> Self {
        let number = |at: usize| u32::from_le_bytes(block[at..at + 4].try_into().expect("4 bytes"));
        let key = at + 8..at + 8 + number(at) as usize;
        let value = match number(at + 4) {
            GONE => None,
            length => Some(key.end..key.end + length as usize),
        };
        let end = value.as_ref().map_or(key.end, |value| value.end);
        Self { key, value, end }
    }
}

/// Iterates over the pairs of a block.
struct Pairs {
    block: Bytes,
    at: usize,
}

impl Iterator for Pairs {
    type Item = Pair;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.block.len() {
            return None;
        }
        let pair = PairAt::new(&self.block, self.at);
        self.at = pair.end;
        Some((self.block.slice(pair.key), pair.value.map(|value| self.block.slice(value))))
    }
}
