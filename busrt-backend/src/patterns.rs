//! What the broker is asked to send us: each pattern once, however many subscriptions need it.

use std::collections::HashMap;

#[derive(Debug, Default)]
pub(crate) struct Patterns {
    by_subscription: HashMap<u64, Vec<String>>,
    /// How many subscriptions need a pattern.
    needed: HashMap<String, usize>,
}

impl Patterns {
    /// Adds what a subscription needs.
    pub(crate) fn add(&mut self, id: u64, patterns: Vec<String>) {
        for pattern in &patterns {
            *self.needed.entry(pattern.clone()).or_default() += 1;
        }
        self.by_subscription.insert(id, patterns);
    }

    /// What a subscription needs.
    pub(crate) fn of(&self, id: u64) -> impl Iterator<Item = &str> {
        let patterns = self.by_subscription.get(&id).into_iter().flatten();
        patterns.map(String::as_str)
    }

    /// Removes a subscription; returns what nobody needs any more.
    pub(crate) fn remove(&mut self, id: u64) -> Vec<String> {
        let mut gone = self.by_subscription.remove(&id).unwrap_or_default();
        gone.retain(|pattern| {
            let count = self.needed.get_mut(pattern);
            let last = count.is_none_or(|count| {
                *count -= 1;
                *count == 0
            });
            if last {
                self.needed.remove(pattern);
            }
            last
        });
        gone
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.needed.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stays_as_long_as_somebody_needs_it() {
        let mut patterns = Patterns::default();
        let list = |items: &[&str]| items.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        patterns.add(1, list(&["a", "b"]));
        patterns.add(2, list(&["b"]));
        assert_eq!(patterns.of(1).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(patterns.remove(1), ["a"]);
        assert_eq!(patterns.all().collect::<Vec<_>>(), ["b"]);
        assert_eq!(patterns.remove(2), ["b"]);
        assert_eq!(patterns.remove(2), Vec::<String>::new());
    }
}
