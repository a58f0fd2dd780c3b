//! What the cache tells its user along the way: how far a conversion is, and what it could not do.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, RwLock};

use super::Cache;
use crate::path::PondPath;

/// The most notices that wait.
const NOTICES_MAX: usize = 16;

/// How far the conversion of a text is.
#[derive(Debug, Clone, Copy)]
pub struct Converting<'a> {
    /// The text.
    pub path: &'a PondPath,
    /// Bytes of it that have been read; `None` when it is over, or has failed.
    pub read: Option<u64>,
    /// Its size in bytes.
    pub size: u64,
}

/// Is told how far conversions are, from many threads.
pub type Observer = Arc<dyn Fn(Converting<'_>) + Send + Sync>;

/// What waits to be told, and who is told at once.
#[derive(Default)]
pub(super) struct Report {
    notices: Mutex<VecDeque<String>>,
    observer: RwLock<Option<Observer>>,
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
            observer(Converting { path: self.path, read, size: self.size });
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.tell(None);
    }
}

impl Cache {
    /// Sets who is told how far conversions are.
    pub fn observe(&self, observer: Option<Observer>) {
        *self.report.observer.write().expect("never poisoned") = observer;
    }

    /// Begins to tell how far the conversion of a text of `size` bytes is.
    pub fn progress<'a>(&self, path: &'a PondPath, size: u64) -> Progress<'a> {
        let observer = self.report.observer.read().expect("never poisoned").clone();
        Progress { path, size, observer }
    }

    /// Leaves a notice for whoever runs statements; the oldest go if nobody takes them.
    pub fn notice(&self, text: String) {
        let mut notices = self.report.notices.lock().expect("never poisoned");
        if notices.contains(&text) {
            return;
        }
        if notices.len() == NOTICES_MAX {
            notices.pop_front();
        }
        notices.push_back(text);
    }

    /// Takes the notices that wait.
    pub fn take_notices(&self) -> Vec<String> {
        self.report.notices.lock().expect("never poisoned").drain(..).collect()
    }
}
