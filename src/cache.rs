//! The cache directory: derived files that may be deleted at any moment.

use std::path::{Path, PathBuf};

/// Where derived files of a pond are kept.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    dir: Option<PathBuf>,
}

impl Cache {
    /// A cache in `dir`, which is made on first use.
    pub fn at(dir: PathBuf) -> Self {
        Self { dir: Some(dir) }
    }

    /// No cache: a transient pond has no place for one.
    pub fn none() -> Self {
        Self::default()
    }

    /// Returns the directory, if there is one.
    pub fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }
}
