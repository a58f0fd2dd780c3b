//! A bounded memo of things that are a pure function of their key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::error::Result;

/// Keeps what was used last: between `entries / 2` and `entries` of them.
///
/// Two generations instead of a list in the order of use: when the young one is full, it becomes the
/// old one, and what was not used since the last time is gone.
#[derive(Debug)]
pub(super) struct Memo<K, V> {
    generation_entries: usize,
    generations: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    pub(super) fn new(entries: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { generation_entries: (entries / 2).max(1), generations: Mutex::new(generations) }
    }

    /// Returns what is kept for `key`, or makes and keeps it. Two threads may both make it.
    pub(super) fn get_or_try_insert(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        // A panic elsewhere leaves whole entries behind.
        let lock = || self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = lock().get(&key, self.generation_entries);
        if let Some(value) = kept {
            return Ok(value);
        }
        let value = make()?;
        lock().insert(key, value.clone(), self.generation_entries);
        Ok(value)
    }
}

impl<K: Eq + Hash, V: Clone> Generations<K, V> {
    fn get(&mut self, key: &K, entries: usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), entries);
        Some(value)
    }

    fn insert(&mut self, key: K, value: V, entries: usize) {
        if self.young.len() >= entries {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let memo = Memo::new(4);
        let get = |key: u32| {
            let mut made = false;
            let value = memo.get_or_try_insert(key, || {
                made = true;
                Ok(key * 10)
            });
            assert_eq!(value.unwrap(), key * 10);
            made
        };
        for key in 0..100 {
            assert!(get(key), "{key} is new");
            assert!(!get(0), "0 is used all the time");
        }
        assert!(!get(99));
        assert!(get(50), "50 was not used for long");
        let generations = memo.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 4);
    }
}
