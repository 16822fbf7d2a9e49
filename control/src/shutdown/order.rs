//! Which kinds go before which.

use std::collections::{BTreeMap, BTreeSet};

/// No order can be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// Kinds wait for each other.
    #[error("kinds wait for each other: {}", cycle.join(" before "))]
    Cycle {
        /// Each goes before the next; the last is the first.
        cycle: Vec<String>,
    },
}

/// What each kind waits for.
#[derive(Debug, Clone, Default)]
pub(super) struct Order(BTreeMap<String, BTreeSet<String>>);

impl Order {
    pub(super) fn add(&mut self, first: String, then: String) {
        self.0.entry(first.clone()).or_default();
        self.0.entry(then).or_default().insert(first);
    }

    /// The kinds that this one waits for.
    pub(super) fn before(&self, kind: &str) -> impl Iterator<Item = &String> {
        self.0.get(kind).into_iter().flatten()
    }

    /// These kinds and all that have an order, each behind those that it waits for.
    pub(super) fn sorted<'a>(
        &self,
        others: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<String>, OrderError> {
        let mut left: BTreeSet<String> = self.0.keys().cloned().collect();
        left.extend(others.map(str::to_owned));
        let mut sorted = Vec::new();
        while !left.is_empty() {
            let free = |kind: &&String| self.before(kind).all(|first| !left.contains(first));
            let Some(next) = left.iter().find(free).cloned() else {
                return Err(self.cycle(&left));
            };
            left.remove(&next);
            sorted.push(next);
        }
        Ok(sorted)
    }

    /// A cycle among kinds that all wait for one another of them.
    fn cycle(&self, left: &BTreeSet<String>) -> OrderError {
        let mut path: Vec<String> = Vec::new();
        let mut at = left.first().cloned();
        while let Some(kind) = at {
            let seen = path.iter().position(|known| *known == kind);
            path.push(kind.clone());
            if let Some(from) = seen {
                path.drain(..from);
                break;
            }
            at = self
                .before(&kind)
                .find(|first| left.contains(*first))
                .cloned();
        }
        // It was walked from who waits to whom it waits for.
        path.reverse();
        OrderError::Cycle { cycle: path }
    }
}
