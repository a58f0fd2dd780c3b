//! Conversions that nobody waits for: they come after the statement that wanted the rows, on the
//! runtime that it ran on, a few at a time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};

use super::Cache;

/// How many are in work at once.
const IN_WORK: usize = 2;

/// What is still to come.
#[derive(Debug)]
pub(super) struct Later {
    keys: Mutex<HashSet<String>>,
    done: Notify,
    room: Semaphore,
}

impl Default for Later {
    fn default() -> Self {
        Self { keys: Mutex::default(), done: Notify::new(), room: Semaphore::new(IN_WORK) }
    }
}

/// One that is to come; dropped, it is not any more, whatever became of it.
struct Coming {
    key: String,
    later: Arc<Later>,
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.later.keys.lock().expect("never poisoned").remove(&self.key);
        self.later.done.notify_waiters();
    }
}

impl Cache {
    /// Runs `work` on `runtime` soon, unless there is some under `key` already.
    pub fn later(
        &self,
        runtime: &Handle,
        key: &str,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        if !self.later.keys.lock().expect("never poisoned").insert(key.to_owned()) {
            return;
        }
        let coming = Coming { key: key.to_owned(), later: self.later.clone() };
        runtime.spawn(async move {
            // Nothing closes it.
            let _room = coming.later.room.acquire().await;
            work.await;
        });
    }

    /// Waits until nothing is to come any more: who ends a process sees its work kept that way.
    pub async fn idle(&self) {
        loop {
            let done = self.later.done.notified();
            let mut done = std::pin::pin!(done);
            done.as_mut().enable();
            if self.later.keys.lock().expect("never poisoned").is_empty() {
                return;
            }
            done.await;
        }
    }
}
