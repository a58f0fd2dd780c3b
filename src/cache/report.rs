//! What the cache tells along the way: how far a conversion is, and what it could not do.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, RwLock};

use super::Cache;
use crate::path::PondPath;

/// The last conversion could be kept.
const GOOD: u8 = 1;
/// The last conversion could not be kept.
const BAD: u8 = 2;

/// What an [`Observer`] is told.
#[derive(Debug, Clone, Copy)]
pub enum Told<'a> {
    /// How far the conversion of a text is.
    Converting {
        /// The text.
        path: &'a PondPath,
        /// Bytes of it that have been read; `None` when it is over, or has failed.
        read: Option<u64>,
        /// Its size in bytes.
        size: u64,
    },
    /// What could not be done, and what is done instead.
    Notice(&'a str),
}

/// Is told what happens, from many threads.
pub type Observer = Arc<dyn Fn(Told<'_>) + Send + Sync>;

/// Who is told.
#[derive(Default)]
pub(super) struct Report {
    observer: RwLock<Option<Observer>>,
    /// What became of the last conversion: failures in a row are of the same cause, mostly.
    state: AtomicU8,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").finish_non_exhaustive()
    }
}

/// Tells how far one conversion is, and when it is over.
pub struct Progress<'a> {
    path: &'a PondPath,
    size: u64,
    observer: Option<Observer>,
}

impl fmt::Debug for Progress<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({})", self.path)
    }
}

impl Progress<'_> {
    /// Tells how many bytes have been read.
    pub fn read(&self, bytes: u64) {
        self.tell(Some(bytes));
    }

    fn tell(&self, read: Option<u64>) {
        if let Some(observer) = &self.observer {
            observer(Told::Converting { path: self.path, read, size: self.size });
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

impl Cache {
    /// Sets who is told what happens.
    pub fn observe(&self, observer: Option<Observer>) {
        *self.report.observer.write().expect("never poisoned") = observer;
    }

    /// Begins to tell how far the conversion of a text of `size` bytes is.
    pub fn progress<'a>(&self, path: &'a PondPath, size: u64) -> Progress<'a> {
        Progress { path, size, observer: self.observer() }
    }

    /// Tells of a conversion that could not be kept, unless the one before could not either.
    pub fn failed(&self, notice: &str) {
        let is_first = self.report.state.swap(BAD, Ordering::Relaxed) != BAD;
        if is_first && let Some(observer) = self.observer() {
            observer(Told::Notice(notice));
        }
    }

    /// Remembers that a conversion could be kept, and returns whether that is news.
    pub fn succeeded(&self) -> bool {
        self.report.state.swap(GOOD, Ordering::Relaxed) != GOOD
    }

    fn observer(&self) -> Option<Observer> {
        self.report.observer.read().expect("never poisoned").clone()
    }
}
