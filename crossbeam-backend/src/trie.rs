//! All filters of a bus as one tree, so that finding the subscriptions of a topic does not look at
//! those that do not match.
//!
//! Invariant: an entry is at the node that its filter's segments lead to, under `here` if the
//! filter ends there and under `tail` if it goes on with `#`; a node without entries and children
//! is removed.

use std::collections::HashMap;
use std::sync::Arc;

use eventbus_trait::{Topic, TopicFilter};

/// Entries by filter. `T` is shared and told apart by `id`.
#[derive(Debug)]
pub(crate) struct Trie<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    literal: HashMap<Box<str>, Node<T>>,
    any: Option<Box<Node<T>>>,
    here: Vec<(u64, Arc<T>)>,
    tail: Vec<(u64, Arc<T>)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self {
            literal: HashMap::new(),
            any: None,
            here: Vec::new(),
            tail: Vec::new(),
        }
    }
}

impl<T> Default for Trie<T> {
    fn default() -> Self {
        Self {
            root: Node::default(),
        }
    }
}

impl<T> Trie<T> {
    /// Adds an entry under a filter.
    pub(crate) fn insert(&mut self, filter: &TopicFilter, id: u64, entry: &Arc<T>) {
        let mut node = &mut self.root;
        for part in filter.parts() {
            node = match part {
                Some(literal) => node.literal.entry(literal.into()).or_default(),
                None => node.any.get_or_insert_default(),
            };
        }
        let list = if filter.has_tail() {
            &mut node.tail
        } else {
            &mut node.here
        };
        list.push((id, Arc::clone(entry)));
    }

    /// Removes the entry `id` from under a filter.
    pub(crate) fn remove(&mut self, filter: &TopicFilter, id: u64) {
        let parts: Vec<_> = filter.parts().collect();
        self.root.remove(&parts, filter.has_tail(), id);
    }

    /// The entries whose filters take `topic`, each once, oldest first.
    pub(crate) fn matching(&self, topic: &Topic) -> Vec<Arc<T>> {
        let segments: Vec<_> = topic.segments().collect();
        let mut found = Vec::new();
        self.root.collect(&segments, &mut found);
        found.sort_by_key(|(id, _)| *id);
        found.dedup_by_key(|(id, _)| *id);
        found
            .into_iter()
            .map(|(_, entry)| Arc::clone(entry))
            .collect()
    }
}

impl<T> Node<T> {
    fn collect<'a>(&'a self, segments: &[&str], found: &mut Vec<(u64, &'a Arc<T>)>) {
        found.extend(self.tail.iter().map(|(id, entry)| (*id, entry)));
        let Some((first, rest)) = segments.split_first() else {
            found.extend(self.here.iter().map(|(id, entry)| (*id, entry)));
            return;
        };
        if let Some(node) = self.literal.get(*first) {
            node.collect(rest, found);
        }
        if let Some(node) = &self.any {
            node.collect(rest, found);
        }
    }

    fn remove(&mut self, parts: &[Option<&str>], tail: bool, id: u64) {
        match parts.split_first() {
            None => {
                let list = if tail { &mut self.tail } else { &mut self.here };
                list.retain(|(other, _)| *other != id);
            }
            Some((Some(literal), rest)) => {
                if let Some(node) = self.literal.get_mut(*literal) {
                    node.remove(rest, tail, id);
                    if node.is_empty() {
                        self.literal.remove(*literal);
                    }
                }
            }
            Some((None, rest)) => {
                if let Some(node) = &mut self.any {
                    node.remove(rest, tail, id);
                    if node.is_empty() {
                        self.any = None;
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literal.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.tail.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::sample::select;

    fn filters() -> impl proptest::strategy::Strategy<Value = Vec<TopicFilter>> {
        use proptest::strategy::Strategy;
        let filter = (vec(select(vec!["a", "b", "*", "+"]), 0..4), any_tail()).prop_filter_map(
            "a filter has a segment",
            |(mut parts, tail)| {
                if tail {
                    parts.push("#");
                }
                TopicFilter::new(parts.join(".")).ok()
            },
        );
        vec(filter, 0..12)
    }

    fn any_tail() -> impl proptest::strategy::Strategy<Value = bool> {
        proptest::bool::ANY
    }

    proptest::proptest! {
        #[test]
        fn the_tree_finds_what_the_filters_take(
            filters in filters(),
            removed in vec(proptest::bool::ANY, 12),
            topic in vec(select(vec!["a", "b", "c"]), 1..5),
        ) {
            let topic = Topic::new(topic.join(".")).unwrap();
            let mut trie = Trie::default();
            for (id, filter) in filters.iter().enumerate() {
                trie.insert(filter, id as u64, &Arc::new(id));
            }
            for (id, filter) in filters.iter().enumerate().filter(|(id, _)| removed[*id]) {
                trie.remove(filter, id as u64);
            }
            let found: Vec<usize> = trie.matching(&topic).iter().map(|id| **id).collect();
            let expected: Vec<usize> = (0..filters.len())
                .filter(|id| !removed[*id] && filters[*id].matches(&topic))
                .collect();
            proptest::prop_assert_eq!(found, expected);
            for (id, filter) in filters.iter().enumerate() {
                trie.remove(filter, id as u64);
            }
            proptest::prop_assert!(trie.root.is_empty());
        }
    }

    #[test]
    fn an_entry_under_two_filters_is_found_once() {
        let mut trie = Trie::default();
        let entry = Arc::new(());
        for filter in ["a.#", "a.*", "#"] {
            trie.insert(&TopicFilter::new(filter).unwrap(), 7, &entry);
        }
        assert_eq!(trie.matching(&Topic::new("a.b").unwrap()).len(), 1);
    }
}
