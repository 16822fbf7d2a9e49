//! Counters that satisfy the conservation law.
//!
//! For each subscription, at any quiet moment, `matched = delivered + filtered + dropped + queued`
//! (DEL-008). Each term is counted where it happens; none is derived from the others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::rpc::{CallStats, ServiceStats};

/// Live counters of one subscription, shared by the bus, the queue and the receiver.
#[derive(Debug, Default)]
#[repr(C)]
pub struct SubscriptionCounters {
    /// Events whose topic matched.
    pub matched: AtomicU64,
    /// Events dropped, for any reason.
    pub dropped: AtomicU64,
    apart: Apart,
    /// Events handed to the application.
    pub delivered: AtomicU64,
    /// Events that the predicate or the correlation filter turned away.
    pub filtered: AtomicU64,
}

/// Takes no room, and keeps what senders count off the cache line of what the receiver counts.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart;

impl SubscriptionCounters {
    /// Reads all counters; `queued` is what the caller measured.
    #[must_use]
    pub fn snapshot(&self, name: &str, queued: u64) -> SubscriptionStats {
        SubscriptionStats {
            name: name.to_owned(),
            matched: self.matched.load(Ordering::Acquire),
            delivered: self.delivered.load(Ordering::Acquire),
            filtered: self.filtered.load(Ordering::Acquire),
            dropped: self.dropped.load(Ordering::Acquire),
            queued,
        }
    }
}

/// Adds to a counter.
#[inline]
pub fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// What one subscription has seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscriptionStats {
    /// The subscription's name.
    pub name: String,
    /// Events whose topic matched.
    pub matched: u64,
    /// Events handed to the application.
    pub delivered: u64,
    /// Events that the predicate or the correlation filter turned away.
    pub filtered: u64,
    /// Events dropped for want of room, or lost with a peer.
    pub dropped: u64,
    /// Events accepted and not yet handed over.
    pub queued: u64,
}

impl SubscriptionStats {
    /// Whether the conservation law holds. Only meaningful while nothing is on its way.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.matched == self.delivered + self.filtered + self.dropped + self.queued
    }
}

/// What a topic [family](crate::Topic::family) has seen on this handle.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FamilyStats {
    /// Events accepted from this handle.
    pub published: u64,
    /// Copies owed to subscriptions for them.
    pub deliveries: u64,
}

/// What one bus handle has done and seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The backend: `crossbeam`, `in-process`, `unix` …
    pub backend: String,
    /// Events accepted from this handle.
    pub published: u64,
    /// Events refused with an error.
    pub refused: u64,
    /// Copies of `AtMostOnce` events that found no room, over all subscriptions they matched.
    pub dropped: u64,
    /// Frames or events from others that could not be read, each logged.
    pub malformed: u64,
    /// Connections made again after a loss.
    pub reconnects: u64,
    /// Events sent again after a loss.
    pub resends: u64,
    /// Copies given up because their subscriber stayed away too long, each logged.
    pub given_up: u64,
    /// By topic family.
    pub families: BTreeMap<String, FamilyStats>,
    /// By subscription of this handle.
    pub subscriptions: Vec<SubscriptionStats>,
    /// Calls made by this handle.
    #[serde(default)]
    pub calls: CallStats,
    /// By service that this handle serves.
    #[serde(default)]
    pub services: Vec<ServiceStats>,
}
