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
//! Every block and the block list carry a CRC-32: damage is an error that names the file, never a
//! wrong answer. Whoever gets it removes the file, which is only a cache.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const MAGIC: &[u8; 8] = b"PONDIDX1";
const FOOTER_BYTES: u64 = 8 + 4 + 4 + 8;
const BLOCK_BYTES: usize = 16 * 1024;
/// Blocks kept in memory by one open file: 4 MiB.
const BLOCKS_KEPT: usize = 256;

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
    pub fn write(
        path: &Path,
        pairs: impl IntoIterator<Item = Result<(Vec<u8>, Bytes)>>,
    ) -> Result<()> {
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
                first_key.clone_from(&key);
            }
            for length in [key.len(), value.len()] {
                let length = u32::try_from(length)
                    .map_err(|_| Error::invalid(format!("{}: entry too large", path.display())))?;
                block.extend_from_slice(&length.to_le_bytes());
            }
            block.extend_from_slice(&key);
            block.extend_from_slice(&value);
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

    /// Returns the value of `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let block = self.blocks.partition_point(|block| block.first_key.as_slice() <= key);
        let Some(block) = block.checked_sub(1) else { return Ok(None) };
        let block = self.block(block)?;
        for pair in Pairs::new(block) {
            if pair.0.as_ref() >= key {
                return Ok((pair.0.as_ref() == key).then_some(pair.1));
            }
        }
        Ok(None)
    }

    /// Iterates over the pairs whose key is at least `from`, in order.
    pub fn range(
        self: &Arc<Self>,
        from: &[u8],
    ) -> impl Iterator<Item = Result<(Bytes, Bytes)>> + use<> {
        let index = self.clone();
        let from = from.to_vec();
        let first = self
            .blocks
            .partition_point(|block| block.first_key.as_slice() <= from.as_slice())
            .saturating_sub(1);
        (first..self.blocks.len())
            .flat_map(move |block| match index.block(block) {
                Ok(bytes) => pairs_or_error(Ok(Pairs::new(bytes))),
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
            return Err(Error::corrupt(format!("{} is damaged", self.path.display()))
                .with_hint("delete the file: it is a cache and will be made anew"));
        }
        let bytes = Bytes::from(bytes);
        let mut kept = self.kept.lock().expect("never panics");
        if kept.len() >= BLOCKS_KEPT {
            kept.clear();
        }
        kept.insert(number, bytes.clone());
        Ok(bytes)
    }
}

/// The pairs of one block, or the one error that reading it gave.
fn pairs_or_error(pairs: Result<Pairs>) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes)>> + Send> {
    match pairs {
        Ok(pairs) => Box::new(pairs.map(Ok)),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}

/// Iterates over the pairs of a block whose CRC was checked.
struct Pairs {
    rest: Bytes,
}

impl Pairs {
    fn new(block: Bytes) -> Self {
        Self { rest: block }
    }
}

impl Iterator for Pairs {
    type Item = (Bytes, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let length = |at: usize| {
            u32::from_le_bytes(self.rest[at..at + 4].try_into().expect("4 bytes")) as usize
        };
        let (key_length, value_length) = (length(0), length(4));
        let mut pair = self.rest.split_to(8 + key_length + value_length);
        let mut key = pair.split_off(8);
        let value = key.split_off(key_length);
        Some((key, value))
    }
}
