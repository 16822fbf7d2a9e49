//! Writing a history while it happens.
//!
//! Invariant: a [`Pending`] publish gets exactly one end in the history, whatever becomes of it.

use std::sync::Arc;
use std::time::Instant;

use eventbus_trait::{Event, Overflow, PublisherId, Subscribe};
use parking_lot::Mutex;

use super::{Arrival, Entry, History, Interest, Mark, Op, Publication, digest, mark_of};

/// Writes a history. Clones write the same one.
#[derive(Debug, Clone)]
pub struct Recorder {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            entries: Arc::default(),
        }
    }
}

impl Recorder {
    /// Records that something happened now.
    pub fn record(&self, op: Op) {
        let mut entries = self.entries.lock();
        let at = self.began.elapsed();
        entries.push(Entry { at, op });
    }

    /// Records that `event` is about to be published through `handle`. An event without a mark
    /// is not recorded.
    pub fn invoke(&self, handle: PublisherId, event: &Event) -> Pending {
        if let Some(invoke) = Self::publication(handle, event) {
            self.record(invoke);
        }
        Pending {
            recorder: self.clone(),
            mark: mark_of(event),
        }
    }

    /// Records that `subscription` yielded `event`.
    pub fn delivered(&self, subscription: &Arc<str>, event: &Event) {
        self.record(Self::arrival(subscription, event));
    }

    /// What [`invoke`](Self::invoke) records; `None` of an event without a mark.
    #[must_use]
    pub fn publication(handle: PublisherId, event: &Event) -> Option<Op> {
        Some(Op::Invoke(Publication {
            mark: mark_of(event)?,
            handle,
            topic: event.topic().clone(),
            digest: digest(event),
            delivery: event.get_delivery(),
        }))
    }

    /// What [`delivered`](Self::delivered) records.
    #[must_use]
    pub fn arrival(subscription: &Arc<str>, event: &Event) -> Op {
        Op::Delivered(Arrival {
            subscription: Arc::clone(subscription),
            mark: mark_of(event),
            topic: event.topic().clone(),
            digest: digest(event),
            origin: event.origin().copied(),
        })
    }

    /// Records that a subscription was made by the handle `own`.
    pub fn subscribed(&self, name: &Arc<str>, subscribe: &Subscribe, own: PublisherId) {
        self.record(Op::Subscribed(Interest {
            subscription: Arc::clone(name),
            filters: subscribe.filters().to_vec(),
            excluded: subscribe.excludes_own().then_some(own),
            lossy: subscribe.get_overflow() != Overflow::Wait,
        }));
    }

    /// How many entries of this sort have been recorded up to now.
    #[must_use]
    pub fn count(&self, sort: impl Fn(&Op) -> bool) -> usize {
        let entries = self.entries.lock();
        entries.iter().filter(|entry| sort(&entry.op)).count()
    }

    /// What has been recorded up to now.
    #[must_use]
    pub fn history(&self) -> History {
        History {
            entries: self.entries.lock().clone(),
        }
    }
}

/// A publish that has begun; dropped without an end it is recorded as unknown.
#[derive(Debug)]
#[must_use = "a publish that is not ended is recorded as unknown"]
pub struct Pending {
    recorder: Recorder,
    mark: Option<Mark>,
}

impl Pending {
    /// Records how the publish ended.
    pub fn end<T, E>(mut self, result: &Result<T, E>) {
        if let Some(mark) = self.mark.take() {
            self.recorder.record(match result {
                Ok(_) => Op::Accepted(mark),
                Err(_) => Op::Refused(mark),
            });
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.recorder.record(Op::Unknown(mark));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::payload;

    #[test]
    fn a_publish_that_is_dropped_is_unknown() {
        let recorder = Recorder::default();
        let mark = Mark {
            author: 1,
            sequence: 2,
        };
        let event = Event::new("a.b", payload(mark, 7)).unwrap();
        let handle = PublisherId([0; 16]);
        drop(recorder.invoke(handle, &event));
        recorder.invoke(handle, &event).end(&Ok::<_, ()>(()));
        let ops: Vec<Op> = recorder
            .history()
            .entries
            .into_iter()
            .map(|e| e.op)
            .collect();
        assert!(matches!(ops[0], Op::Invoke(_)));
        assert_eq!(ops[1], Op::Unknown(mark));
        assert_eq!(ops[3], Op::Accepted(mark));
        assert_eq!(ops.len(), 4);
    }
}
