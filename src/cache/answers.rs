//! Answers: the rows that derived nodes showed.
//!
//! ```text
//! cache/derived/<key>.json            what is kept of one derived node, and of when
//! cache/derived/<key>.lock            held by whoever makes it anew
//! cache/derived/files/<aa>/<sha256>   its rows: Parquet files, named by their content
//! ```
//!
//! A key stands for one node in one version of its recipe. Answers of nodes that are gone, or have
//! another recipe, are removed by whoever publishes next. So the cache holds about what the nodes
//! show, once.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};

use super::{Cache, FILES_GRACE, FileId, Lock, no_cache};
use crate::blob::{BlobFile, Blobs};
use crate::entry::{NodeId, TableFacts, now_micros};
use crate::error::{Error, Result};
use crate::format::{KnownTable, TableFormat, TableSource, stored_table};
use crate::path::PondPath;
use crate::store::{Durability, Staged, keep, list_dir};

/// How long to wait for somebody else who makes an answer anew.
const LOCK_WAIT: Duration = Duration::from_secs(60);
/// How many answers are held ready in memory.
const READY_MAX: usize = 256;
/// Changes whenever [`Answer`] does.
const FORMAT: u32 = 3;

/// What a derived node showed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    format: u32,
    /// Where the node was.
    pub path: String,
    /// The node, and the version of its recipe.
    pub made: (NodeId, i64),
    /// When its rows were read from the sources, microseconds since 1970 UTC.
    pub built_at: i64,
    /// When it was last known to be what the sources say.
    pub checked_at: i64,
    /// The transaction that it is as of.
    pub txn: i64,
    /// The contents that it was made from; `None` if they cannot be told from later ones.
    pub sources: Option<Vec<SourceVersion>>,
    /// Its rows: those of all files.
    pub files: Vec<AnswerFile>,
}

/// One content that an answer was made from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceVersion {
    /// The node that reads it, and what the recipe calls it.
    pub read_as: (NodeId, String),
    /// The node.
    pub node: NodeId,
    /// Version of its content, or of its recipe.
    pub version: i64,
    /// When that was written, microseconds since 1970 UTC: copies of a pond that have gone different
    /// ways give one version different contents.
    pub written_at: i64,
    /// The files of its own answer, if it is a derived node that keeps one.
    pub files: Vec<String>,
}

/// A file of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnswerFile {
    /// SHA-256 of its contents, in hex.
    pub sha256: String,
    /// Its size in bytes.
    pub size: i64,
    /// What is known of its rows.
    pub facts: TableFacts,
}

/// An answer, opened.
#[derive(Debug, Clone)]
pub struct Ready {
    /// What is kept.
    pub answer: Arc<Answer>,
    /// Its rows.
    pub table: Arc<dyn TableProvider>,
}

impl Answer {
    /// Makes an answer that is as of now.
    pub fn new(
        path: &PondPath,
        made: (NodeId, i64),
        txn: i64,
        sources: Option<Vec<SourceVersion>>,
        files: Vec<AnswerFile>,
    ) -> Self {
        let now = now_micros();
        let path = path.to_string();
        Self { format: FORMAT, path, made, built_at: now, checked_at: now, txn, sources, files }
    }

    /// Returns the same answer, known to be what the sources say now.
    #[must_use]
    pub fn checked(&self, txn: i64) -> Self {
        Self { checked_at: now_micros(), txn, ..self.clone() }
    }

    /// Whether it may still be served. A clock that was put back makes no answer last longer.
    pub fn is_fresh(&self, interval: Duration) -> bool {
        let age = now_micros() - self.checked_at;
        u64::try_from(age).is_ok_and(|age| u128::from(age) < interval.as_micros())
    }

    /// Returns the size of its files, in bytes.
    pub fn size(&self) -> i64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Returns how many rows it has.
    ///
    /// # Errors
    /// `Corrupt` if what it says of a file is damaged.
    pub fn rows(&self) -> Result<i64> {
        self.files.iter().map(AnswerFile::rows).sum()
    }
}

impl AnswerFile {
    /// Returns how many rows it has.
    ///
    /// # Errors
    /// As [`Answer::rows`].
    pub fn rows(&self) -> Result<i64> {
        let known = KnownTable::from_facts(&self.facts)?;
        let rows = known.statistics.num_rows.get_value().copied();
        Ok(rows.and_then(|rows| i64::try_from(rows).ok()).unwrap_or_default())
    }
}

impl Cache {
    fn derived(&self) -> Option<PathBuf> {
        Some(self.dir()?.join("derived"))
    }

    /// Returns where the files of answers are; `None` without a directory.
    ///
    /// # Errors
    /// `Invalid` if its path cannot be one of an object store.
    pub fn files(&self) -> Result<Option<Blobs>> {
        self.derived().map(|dir| Blobs::local(dir.join("files"), Durability::Full)).transpose()
    }

    /// Returns the answer kept under `key`; `None` if there is none, or if any of its files is gone.
    pub fn get(&self, key: &str) -> Option<Ready> {
        let path = self.derived()?.join(format!("{key}.json"));
        let stamp = FileId::at(&path).ok()?;
        let kept = self.ready.lock().expect("never poisoned").get(key).cloned();
        let ready = match kept {
            Some((of, ready)) if of == stamp => ready,
            _ => self.open(&path)?,
        };
        let files = self.files().ok()??;
        let is_whole = |file: &AnswerFile| {
            std::fs::metadata(files.path_of(&file.sha256)?)
                .is_ok_and(|found| i64::try_from(found.len()) == Ok(file.size))
                .then_some(())
        };
        if ready.answer.files.iter().any(|file| is_whole(file).is_none()) {
            return None;
        }
        let mut all = self.ready.lock().expect("never poisoned");
        if all.len() >= READY_MAX {
            all.clear();
        }
        all.insert(key.to_owned(), (stamp, ready.clone()));
        Some(ready)
    }

    /// Reads an answer; what cannot be read is none.
    fn open(&self, path: &Path) -> Option<Ready> {
        let answer: Answer = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
        if answer.format != FORMAT {
            return None;
        }
        let path = PondPath::parse(&answer.path).ok()?;
        let table = self.table(&path, &answer.files).ok()?;
        Some(Ready { answer: Arc::new(answer), table })
    }

    /// Opens files of an answer as a table.
    ///
    /// # Errors
    /// `Corrupt` if what is said of a file is damaged.
    pub fn table(&self, path: &PondPath, files: &[AnswerFile]) -> Result<Arc<dyn TableProvider>> {
        let store = self.files()?.ok_or_else(no_cache)?;
        let sources = files
            .iter()
            .map(|file| {
                Ok(TableSource {
                    path: path.clone(),
                    store_url: store.url(),
                    object: store.object(&file.sha256, file.size),
                    format: TableFormat::Parquet,
                    known: Some(KnownTable::from_facts(&file.facts)?),
                    inline: None,
                    immutable: true,
                    after: None,
                    text: None,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        stored_table(sources)
    }

    /// Waits for the right to make an answer anew.
    ///
    /// # Errors
    /// `Conflict` if somebody has it for longer than a minute; `Io`.
    pub async fn lock(&self, key: &str) -> Result<Lock> {
        let dir = self.derived().ok_or_else(no_cache)?;
        Lock::wait(&dir.join(format!("{key}.lock")), Some(LOCK_WAIT)).await
    }

    /// Puts an answer in the place of the one before, and removes what nothing needs any more:
    /// `is_wanted` says whether a node is there, in this version of its recipe.
    ///
    /// # Errors
    /// `Io`.
    pub fn publish(
        &self,
        key: &str,
        answer: &Answer,
        _lock: &Lock,
        is_wanted: impl Fn(NodeId, i64) -> bool,
    ) -> Result<()> {
        let dir = self.derived().ok_or_else(no_cache)?;
        let path = dir.join(format!("{key}.json"));
        let failed = |error| Error::io(path.display(), error);
        self.let_go(&path, answer)?;
        let mut staged = Staged::create(path.clone(), Durability::Full).map_err(failed)?;
        let text = serde_json::json!(answer).to_string();
        staged.file().write_all(text.as_bytes()).map_err(failed)?;
        staged.publish_as(path.clone(), true).map_err(failed)?;
        // The next one to publish tries again.
        let _ = self.sweep(is_wanted);
        Ok(())
    }

    /// Begins the grace time of the files that the next answer does not name any more.
    fn let_go(&self, path: &Path, next: &Answer) -> Result<()> {
        let before = std::fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let (Some(before), Some(files)) = (before, self.files()?) else { return Ok(()) };
        let before: Answer = before;
        for file in before.files.iter().filter(|file| !next.files.contains(file)) {
            // One that is gone needs no grace.
            let _ = files.path_of(&file.sha256).map(|path| keep(&path, Durability::Process));
        }
        Ok(())
    }

    /// Returns every answer that is kept, with its key.
    ///
    /// # Errors
    /// `Io`.
    pub fn answers(&self) -> Result<Vec<(String, Answer)>> {
        let Some(dir) = self.derived() else { return Ok(Vec::new()) };
        let listed = list_dir(&dir).map_err(|error| Error::io(dir.display(), error))?;
        let mut answers = Vec::new();
        for (path, _) in listed {
            let Some(key) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"))
            else {
                continue;
            };
            let answer = std::fs::read(&path).ok().and_then(|text| {
                serde_json::from_slice(&text).ok().filter(|answer: &Answer| answer.format == FORMAT)
            });
            answers.extend(answer.map(|answer| (key.to_owned(), answer)));
        }
        Ok(answers)
    }

    /// Forgets the answers of nodes at or below a path; all of them without one. What another answer
    /// names stays. See [`Cache::clear`].
    pub(super) fn clear_answers(&self, below: Option<&PondPath>) -> Result<u64> {
        let (Some(dir), Some(files)) = (self.derived(), self.files()?) else { return Ok(0) };
        let mut named = std::collections::HashSet::new();
        let mut gone = Vec::new();
        for (key, answer) in self.answers()? {
            let is_meant = below.is_none_or(|below| {
                PondPath::parse(&answer.path).is_ok_and(|path| path.starts_with(below))
            });
            let path = dir.join(format!("{key}.lock"));
            let lock = if is_meant { Lock::attempt(&path) } else { Ok(None) };
            let lock = lock.map_err(|error| Error::io(path.display(), error))?;
            if lock.is_none() {
                named.extend(answer.files.into_iter().map(|file| file.sha256));
                continue;
            }
            let _ = std::fs::remove_file(dir.join(format!("{key}.json")));
            gone.extend(answer.files);
        }
        let mut freed = 0;
        for file in gone.iter().filter(|file| !named.contains(&file.sha256)) {
            let removed = files.path_of(&file.sha256).map(std::fs::remove_file);
            if let (Some(Ok(())), Ok(size)) = (removed, u64::try_from(file.size)) {
                freed += size;
            }
        }
        Ok(freed)
    }

    /// Removes answers of nodes that are not wanted, and files that no answer names. Returns how many
    /// bytes they had.
    ///
    /// # Errors
    /// `Io`.
    pub fn sweep(&self, is_wanted: impl Fn(NodeId, i64) -> bool) -> Result<u64> {
        let (Some(dir), Some(files)) = (self.derived(), self.files()?) else { return Ok(0) };
        let age = |modified: SystemTime| modified.elapsed().unwrap_or_default();
        let mut named = std::collections::HashSet::new();
        let mut freed = 0;
        for (key, answer) in self.answers()? {
            let (node, version) = answer.made;
            if is_wanted(node, version) {
                named.extend(answer.files.into_iter().map(|file| file.sha256));
                continue;
            }
            let _ = std::fs::remove_file(dir.join(format!("{key}.json")));
        }
        for BlobFile { sha256, path, modified, size_bytes } in files.list_files()? {
            let is_named = sha256.is_some_and(|sha256| named.contains(&sha256));
            if !is_named && age(modified) > FILES_GRACE {
                freed += size_bytes;
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(freed)
    }
}
