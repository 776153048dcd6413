//! What was looked up once and is believed until a change is told. Must never take an answer that may be older than a change.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Things remembered; beyond it all are forgotten and looked up again.
const CAPACITY: usize = 100_000;

/// Things by their names.
pub(crate) struct Remembered<K, V>(Mutex<State<K, V>>);

struct State<K, V> {
    known: HashMap<K, Arc<V>>,
    /// Raised with each change that was told.
    changes: u64,
}

/// When a look-up began.
#[derive(Clone, Copy)]
pub(crate) struct Since(u64);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(State { known: HashMap::new(), changes: 0 }))
    }
}

impl<K: Eq + Hash, V> Remembered<K, V> {
    /// What is remembered; else the moment at which a look-up for it begins.
    pub(crate) fn get(&self, key: &K) -> Result<Arc<V>, Since> {
        let state = self.lock();
        state.known.get(key).cloned().ok_or(Since(state.changes))
    }

    /// Remembers what a look-up found, unless a change was told since it began.
    pub(crate) fn remember(&self, key: K, found: V, since: Since) -> Arc<V> {
        let found = Arc::new(found);
        let mut state = self.lock();
        if state.changes == since.0 {
            if state.known.len() >= CAPACITY {
                state.known.clear();
            }
            state.known.insert(key, Arc::clone(&found));
        }
        found
    }

    /// It changed.
    pub(crate) fn forget(&self, key: &K) {
        let mut state = self.lock();
        state.changes += 1;
        state.known.remove(key);
    }

    /// Anything may have changed.
    pub(crate) fn forget_all(&self) {
        let mut state = self.lock();
        state.changes += 1;
        state.known.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_before_a_change_was_told_is_not_remembered() {
        let remembered: Remembered<u8, &str> = Remembered::default();
        let Err(before) = remembered.get(&1) else { panic!("nothing was remembered") };
        remembered.forget(&2);
        assert_eq!(*remembered.remember(1, "old", before), "old");
        let Err(since) = remembered.get(&1) else { panic!("it may be older than the change") };
        remembered.remember(1, "new", since);
        assert_eq!(remembered.get(&1).ok().as_deref(), Some(&"new"));
    }
}
