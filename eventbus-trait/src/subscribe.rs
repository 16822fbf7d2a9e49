//! What a subscription asks for.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::correlation::{CorrelationFilter, Predicate};
use crate::error::SubscribeError;
use crate::event::Event;
use crate::filter::{FilterError, TopicFilter};
use crate::topic::Topic;

/// Capacity of a subscription that asks for none, in events.
pub const DEFAULT_CAPACITY: usize = 8192;
/// Largest capacity, in events.
pub const MAX_CAPACITY: usize = 1 << 20;
/// Longest name of a subscription, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// What happens to an `AtLeastOnce` event that finds a subscription full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Overflow {
    /// The publisher waits. Nothing is lost.
    #[default]
    Wait,
    /// The oldest queued event makes room; the subscription is told how many it lost.
    DropOldest,
    /// The new event is dropped; the subscription is told how many it lost.
    DropNewest,
}

/// What a subscription asks for.
///
/// ```
/// use eventbus_trait::{Overflow, Subscribe};
/// let subscribe = Subscribe::to("events.process.#")?
///     .and("health.*")?
///     .named("dashboard")
///     .capacity(100)
///     .overflow(Overflow::DropOldest)
///     .matching(|event| event.get_header("host") == Some("a"));
/// # Ok::<(), eventbus_trait::FilterError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Subscribe {
    filters: Vec<TopicFilter>,
    name: Option<String>,
    capacity: usize,
    overflow: Overflow,
    exclude_own: bool,
    gate: Gate,
}

impl Subscribe {
    /// Everything that one filter takes.
    ///
    /// # Errors
    /// [`FilterError`] if `filter` is not valid.
    pub fn to(filter: impl AsRef<str>) -> Result<Self, FilterError> {
        TopicFilter::new(filter).map(Self::filter)
    }

    /// Everything that a compiled filter takes.
    #[must_use]
    pub fn filter(filter: TopicFilter) -> Self {
        Self {
            filters: vec![filter],
            name: None,
            capacity: DEFAULT_CAPACITY,
            overflow: Overflow::default(),
            exclude_own: false,
            gate: Gate::default(),
        }
    }

    /// Also everything that another filter takes; an event that both take comes once (SUB-003).
    ///
    /// # Errors
    /// [`FilterError`] if `filter` is not valid.
    pub fn and(mut self, filter: impl AsRef<str>) -> Result<Self, FilterError> {
        self.filters.push(TopicFilter::new(filter)?);
        Ok(self)
    }

    /// Names the subscription; the name is unique on the bus and stands in errors, logs and
    /// counters. Without it the subscription gets a name of its own.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Checks what a backend would refuse whatever the bus looks like; for backends.
    ///
    /// # Errors
    /// [`SubscribeError::Capacity`], [`SubscribeError::NameTooLong`].
    pub fn check(&self) -> Result<(), SubscribeError> {
        let (capacity, limit) = (self.capacity, MAX_CAPACITY);
        if capacity == 0 || capacity > limit {
            return Err(SubscribeError::Capacity { capacity, limit });
        }
        let bytes = self.name.as_ref().map_or(0, String::len);
        let limit = MAX_NAME_BYTES;
        if bytes > limit {
            return Err(SubscribeError::NameTooLong { bytes, limit });
        }
        Ok(())
    }

    /// How many events may wait for the application, [`DEFAULT_CAPACITY`] without it.
    #[must_use]
    pub fn capacity(mut self, events: usize) -> Self {
        self.capacity = events;
        self
    }

    /// What happens when the subscription is full.
    #[must_use]
    pub fn overflow(mut self, overflow: Overflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Leaves out what the same bus handle publishes.
    #[must_use]
    pub fn exclude_own(mut self) -> Self {
        self.exclude_own = true;
        self
    }

    /// Takes only events for which `predicate` is true. It runs in the task that receives, so it
    /// may be slow or panic without harm to anybody else; a panic counts as false.
    #[must_use]
    pub fn matching(mut self, predicate: impl Fn(&Event) -> bool + Send + Sync + 'static) -> Self {
        self.gate.predicate = Some(Predicate(Arc::new(predicate)));
        self
    }

    /// Takes only events with this correlation.
    #[must_use]
    pub fn correlated(mut self, filter: CorrelationFilter) -> Self {
        self.gate.correlation = Some(filter);
        self
    }

    /// The same without its predicate and correlation filter: for layers above a bus, which take
    /// everything from the bus and apply the gate in a [`Subscription`](crate::Subscription) of
    /// their own.
    #[must_use]
    pub fn ungated(&self) -> Self {
        Self {
            gate: Gate::default(),
            ..self.clone()
        }
    }

    /// The topic filters.
    #[must_use]
    pub fn filters(&self) -> &[TopicFilter] {
        &self.filters
    }

    /// Whether one of the filters takes `topic`.
    #[must_use]
    pub fn takes(&self, topic: &Topic) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// The name asked for.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The capacity asked for, in events.
    #[must_use]
    pub fn get_capacity(&self) -> usize {
        self.capacity
    }

    /// The overflow policy asked for.
    #[must_use]
    pub fn get_overflow(&self) -> Overflow {
        self.overflow
    }

    /// Whether the handle's own events are left out.
    #[must_use]
    pub fn excludes_own(&self) -> bool {
        self.exclude_own
    }

    pub(crate) fn gate(&self) -> Gate {
        self.gate.clone()
    }
}

/// The decision that needs the event itself: correlation filter and predicate.
///
/// It is taken in the receiving task, in every phase, so that it falls alike everywhere (SUB-009)
/// and application code never runs in a publisher or in a backend's own task.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate {
    correlation: Option<CorrelationFilter>,
    predicate: Option<Predicate>,
}

impl Gate {
    /// Whether the application wants `event`.
    pub(crate) fn admits(&self, event: &Event) -> bool {
        self.correlation
            .as_ref()
            .is_none_or(|filter| filter.matches(event.get_correlation()))
            && self.predicate.as_ref().is_none_or(|predicate| {
                catch_unwind(AssertUnwindSafe(|| (predicate.0)(event))).unwrap_or(false)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_backend_refuses_is_refused_alike() {
        let subscribe = || Subscribe::to("a").unwrap();
        assert_eq!(subscribe().check(), Ok(()));
        let long = "n".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(
            subscribe().named(long).check(),
            Err(SubscribeError::NameTooLong {
                bytes: MAX_NAME_BYTES + 1,
                limit: MAX_NAME_BYTES
            })
        );
        let capacity = MAX_CAPACITY + 1;
        assert_eq!(
            subscribe().capacity(capacity).check(),
            Err(SubscribeError::Capacity {
                capacity,
                limit: MAX_CAPACITY
            })
        );
    }
}
