//! What happened on a bus, in the order in which it was seen to happen.
//!
//! A clause that compares as it goes can only say that the first thing it looked at was wrong. A
//! history is written down first, by everybody who publishes and receives, and judged afterwards
//! by the checkers of [`check`](crate::check), which name what they find.
//!
//! Invariant: `Invoke` is recorded before the bus sees the event, and its end after the bus has
//! answered; `Subscribed` after `subscribe` returned. So whatever was invoked after a `Subscribed`
//! entry was published after the subscription was there.
//!
//! # As text
//!
//! A history prints as one line per entry: seconds since it began, a word, what the word is about.
//! An [`Op`] reads back what it writes, so a process that is going to be killed can tell its
//! history to another line by line, and one that was printed can be replayed by hand. With `{:#}`
//! identities are cut to 8 digits, for a reader; those lines do not read back.
//!
//! ```text
//! 0.000012 subscribe red to a.#,b.* [lossy] [without PUBLISHER]
//! 0.000100 invoke    0:7 on a.b by PUBLISHER digest 00c0ffee00c0ffee [at-most-once]
//! 0.000150 ok        0:7          (or: fail 0:7, the publish was refused)
//! 0.000150 unknown   0:7          (the publish was cancelled)
//! 0.000200 deliver   0:7 to red on a.b digest 00c0ffee00c0ffee [stamp PUBLISHER/EPOCH/SEQUENCE]
//! 0.000200 deliver   ? to red on a.b digest …    (an event that no author wrote)
//! 0.000210 lag       3 in red     (told in band that three were dropped here)
//! 0.000300 drain     red          (read until nothing could be on its way)
//! 0.000400 end       red          (ended; what is queued is given up)
//! ```

mod mark;
mod recorder;
mod text;

use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::{Delivery, Origin, PublisherId, Topic, TopicFilter};

pub use mark::{Mark, digest, mark_of, payload};
pub use recorder::{Pending, Recorder};
pub use text::ParseError;

/// One entry of a history.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Since the history began.
    pub at: Duration,
    /// What happened.
    pub op: Op,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// A publish begins.
    Invoke(Publication),
    /// The publish returned Ok. Its receipt does not tell the stamp; arrivals have it.
    Accepted(Mark),
    /// The publish returned an error: nobody gets the event.
    Refused(Mark),
    /// The publish was cancelled: it may have happened.
    Unknown(Mark),
    /// A subscription was made.
    Subscribed(Interest),
    /// A subscription is about to be ended; what is still queued is given up.
    Ended(Arc<str>),
    /// A subscription yielded an event.
    Delivered(Arrival),
    /// A subscription was told that it lost events.
    Lagged(Arc<str>, u64),
    /// A subscription has been read until nothing could be on its way.
    Drained(Arc<str>),
}

/// An event as it was published.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Which event.
    pub mark: Mark,
    /// The handle that it was published through.
    pub handle: PublisherId,
    /// Its topic.
    pub topic: Topic,
    /// Digest of everything that must arrive unaltered.
    pub digest: u64,
    /// The delivery asked for.
    pub delivery: Delivery,
}

/// What a subscription is to get.
#[derive(Debug, Clone, PartialEq)]
pub struct Interest {
    /// The subscription.
    pub subscription: Arc<str>,
    /// Its filters.
    pub filters: Vec<TopicFilter>,
    /// The handle whose events it leaves out.
    pub excluded: Option<PublisherId>,
    /// Whether it may lose events for want of room.
    pub lossy: bool,
}

impl Interest {
    /// Whether the subscription is to get `publication`, if it was published while it stood.
    #[must_use]
    pub fn takes(&self, publication: &Publication) -> bool {
        self.excluded != Some(publication.handle)
            && self.filters.iter().any(|f| f.matches(&publication.topic))
    }
}

/// An event as a subscription yielded it.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// The subscription.
    pub subscription: Arc<str>,
    /// Which event; `None` if it carries no mark, so that no author can have written it.
    pub mark: Option<Mark>,
    /// Its topic.
    pub topic: Topic,
    /// Digest of everything that must have arrived unaltered.
    pub digest: u64,
    /// The stamp that the bus had put on it: publisher, epoch, sequence.
    pub origin: Option<Origin>,
}

/// A finished history, for the checkers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// The entries, in the order in which they were recorded.
    pub entries: Vec<Entry>,
}

impl History {
    /// What a subscription yielded, in order.
    pub fn arrivals<'a>(&'a self, subscription: &'a str) -> impl Iterator<Item = &'a Arrival> {
        self.entries
            .iter()
            .filter_map(move |entry| match &entry.op {
                Op::Delivered(arrival) if *arrival.subscription == *subscription => Some(arrival),
                _ => None,
            })
    }

    /// How many publishes were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.op, Op::Refused(_)))
            .count()
    }

    /// The events whose publish was cancelled.
    pub fn given_up(&self) -> impl Iterator<Item = Mark> + '_ {
        self.entries.iter().filter_map(|entry| match entry.op {
            Op::Unknown(mark) => Some(mark),
            _ => None,
        })
    }

    /// The topics of what a subscription yielded, in order.
    #[must_use]
    pub fn topics_of<'a>(&'a self, subscription: &'a str) -> Vec<&'a str> {
        self.arrivals(subscription)
            .map(|arrival| arrival.topic.as_str())
            .collect()
    }

    /// The marks of what a subscription yielded, in order.
    #[must_use]
    pub fn marks_of(&self, subscription: &str) -> Vec<Option<Mark>> {
        self.arrivals(subscription)
            .map(|arrival| arrival.mark)
            .collect()
    }
}
