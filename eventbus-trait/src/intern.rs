//! Topics that stay: shared without counting.
//!
//! An event carries its topic from the publisher's thread to the receivers', and what is counted
//! in all of them travels between their processors for each event. The texts of topics that live
//! long are kept for the life of the process instead.
//!
//! Invariant: there are at most `MOST` of them, so what is kept is bounded, whoever makes them up.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::topic::MAX_TOPIC_BYTES;

/// Most texts that stay; together they are at most 1 MiB.
const MOST: usize = (1 << 20) / (MAX_TOPIC_BYTES + 1);

static KEPT: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

/// The text, kept for good; `None` if there are as many as there may be.
pub(crate) fn intern(text: &str) -> Option<&'static str> {
    // A panic leaves the set as it was.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if let Some(text) = kept.get(text) {
        return Some(text);
    }
    if kept.len() >= MOST {
        return None;
    }
    let text: &'static str = Box::leak(text.into());
    kept.insert(text);
    Some(text)
}

#[cfg(test)]
mod tests {
    use crate::Topic;

    #[test]
    fn only_so_many_stay_and_all_are_topics() {
        let first = Topic::new("intern.first").unwrap().interned();
        for n in 0..2 * super::MOST {
            let topic = Topic::new(format!("intern.{n}")).unwrap();
            assert_eq!(topic.clone().interned(), topic);
        }
        let kept = super::KEPT.lock().unwrap().as_ref().unwrap().len();
        assert_eq!(kept, super::MOST);
        assert!(first.is(&Topic::new("intern.first").unwrap().interned()));
        assert_eq!(first, Topic::new("intern.first").unwrap());
    }
}
