//! A bounded memo of things that are a pure function of their key.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// Keeps what was used last: of its whole weight between a half and all.
///
/// Two generations instead of a list in the order of use: when the young one is full, it becomes the
/// old one, and what was not used since the last time is gone.
#[derive(Debug)]
pub(crate) struct Memo<K, V> {
    /// What an entry counts for.
    weigh: fn(&K) -> usize,
    /// The most that a generation may weigh.
    generation_weight: usize,
    generations: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    young_weight: usize,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    pub(crate) fn new(weight: usize, weigh: fn(&K) -> usize) -> Self {
        let generations =
            Generations { young: HashMap::new(), young_weight: 0, old: HashMap::new() };
        Self { weigh, generation_weight: weight / 2, generations: Mutex::new(generations) }
    }

    /// Returns what is kept for `key`, or makes and keeps it. Two threads may both make it.
    pub(crate) fn get_or_try_insert(&self, key: K, make: impl FnOnce() -> Result<V>) -> Result<V> {
        let kept = self.get(&key);
        if let Some(value) = kept {
            return Ok(value);
        }
        let value = make()?;
        self.insert(&mut self.lock(), key, value.clone());
        Ok(value)
    }

    fn get(&self, key: &K) -> Option<V> {
        let mut generations = self.lock();
        if let Some(value) = generations.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = generations.old.remove_entry(key)?;
        self.insert(&mut generations, key, value.clone());
        Some(value)
    }

    fn insert(&self, generations: &mut Generations<K, V>, key: K, value: V) {
        let weight = (self.weigh)(&key);
        if generations.young_weight + weight > self.generation_weight {
            generations.old = std::mem::take(&mut generations.young);
            generations.young_weight = 0;
        }
        if generations.young.insert(key, value).is_none() {
            generations.young_weight += weight;
        }
    }

    /// A panic elsewhere leaves whole entries behind.
    fn lock(&self) -> MutexGuard<'_, Generations<K, V>> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let memo = Memo::new(12, |key: &u32| if *key == 1000 { 7 } else { 3 });
        let get = |key: u32| {
            let mut made = false;
            let value = memo.get_or_try_insert(key, || {
                made = true;
                Ok(key * 10)
            });
            assert_eq!(value.unwrap(), key * 10);
            made
        };
        assert!(get(0));
        for key in 1..100 {
            assert!(get(key), "{key} is new");
            assert!(!get(0), "0 is used all the time");
        }
        assert!(!get(99));
        assert!(get(50), "50 was not used for long");
        // What is heavier than a generation is the only one of its own.
        assert!(get(1000));
        assert!(!get(1000));
        let generations = memo.generations.lock().unwrap();
        assert!(generations.young.len() + generations.old.len() <= 4);
    }
}
