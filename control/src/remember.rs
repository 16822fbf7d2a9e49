//! Remembering what was, as far as there is room for it.
//!
//! Invariant: at most so many entries and so many bytes; the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

#[derive(Debug)]
pub(crate) struct Remembered<K, V> {
    most: usize,
    most_bytes: usize,
    bytes: usize,
    order: VecDeque<K>,
    entries: HashMap<K, (V, usize)>,
}

impl<K: Clone + Eq + Hash, V> Remembered<K, V> {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            bytes: 0,
            order: VecDeque::new(),
            entries: HashMap::new(),
        }
    }

    /// Remembers this as the newest. What is too large to be remembered displaces nothing.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.forget(&key);
        if self.most == 0 || bytes > self.most_bytes {
            return;
        }
        while self.entries.len() >= self.most || self.bytes + bytes > self.most_bytes {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += bytes;
        self.order.push_back(key.clone());
        self.entries.insert(key, (value, bytes));
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    pub(crate) fn forget(&mut self, key: &K) {
        if self.remove(key) {
            self.order.retain(|other| other != key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn remove(&mut self, key: &K) -> bool {
        let removed = self.entries.remove(key);
        self.bytes -= removed.as_ref().map_or(0, |(_, bytes)| *bytes);
        removed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_bytes_are_bounded_and_the_oldest_go_first() {
        let mut memory = Remembered::new(3, 10);
        for key in 0..5 {
            memory.put(key, key, 4);
        }
        assert_eq!(
            (memory.len(), memory.get(&2), memory.get(&3)),
            (2, None, Some(&3))
        );
        memory.put(9, 9, 11);
        assert_eq!(memory.len(), 2, "what is too large alone displaces nobody");
        memory.forget(&4);
        memory.put(5, 5, 6);
        assert_eq!(
            memory.len(),
            2,
            "what was forgotten has given its bytes back"
        );
        memory.put(3, 33, 0);
        memory.put(6, 6, 0);
        memory.put(7, 7, 0);
        assert_eq!((memory.get(&5), memory.get(&3)), (None, Some(&33)));
        let mut none = Remembered::new(0, 10);
        none.put(1, 1, 1);
        assert_eq!(none.len(), 0);
    }
}
