//! Credit that a node hands out to those who publish to it: how much is set aside for each link.
//!
//! Invariant: what is set aside, over all links, is within the budget but for one event a link, and
//! all of it is returned when a link ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use eventbus_trait::Overflow;

use super::acks::InLink;
use super::link::{MAX_WINDOW, MAX_WINDOW_BYTES};
use super::node::Node;
use super::subscriptions::LocalSubscription;

/// Bytes of credit that one node hands out in all, but for [`MIN_WINDOW_BYTES`] a link.
const BYTES_BUDGET: u64 = 256 << 20;
/// Least bytes of credit for one link.
const MIN_WINDOW_BYTES: u64 = 64 << 10;

impl Node {
    /// Makes a link with a window out of what is left. A `Wait` queue that has less room than the
    /// window, because others' events are in it, widens it as they are read.
    pub(super) fn set_aside(
        &self,
        subscription: &mut LocalSubscription,
        id: u64,
        peer: &Arc<str>,
    ) -> Arc<InLink> {
        let follows = subscription.inbox.overflow() == Overflow::Wait;
        let wanted = if follows {
            subscription.capacity.min(MAX_WINDOW)
        } else {
            MAX_WINDOW
        };
        let full = wanted.min(self.first_window());
        let left = BYTES_BUDGET.saturating_sub(self.granted.bytes.load(Ordering::Relaxed));
        let bytes = MAX_WINDOW_BYTES.min((left / 4).max(MIN_WINDOW_BYTES));
        self.granted.events.fetch_add(full, Ordering::Relaxed);
        self.granted.bytes.fetch_add(bytes, Ordering::Relaxed);
        let window = if follows {
            full.min(subscription.inbox.room())
        } else {
            full
        };
        let link = Arc::new(InLink::new(
            Arc::clone(peer),
            id,
            follows,
            window,
            full,
            wanted,
            bytes,
        ));
        if window < full {
            subscription.inbox.widen_later(&link);
        }
        subscription
            .links
            .insert(Arc::clone(peer), Arc::clone(&link));
        link
    }

    /// What a link may begin with: a quarter of what is left, so that few links take bursts; once
    /// half is gone much less, so that many have some.
    fn first_window(&self) -> u64 {
        let left = self.credit_left();
        let plenty = left > self.credit_budget.load(Ordering::Relaxed) / 2;
        (left / if plenty { 4 } else { 16 }).max(1)
    }

    /// Events of credit that are set aside for nobody.
    fn credit_left(&self) -> u64 {
        let budget = self.credit_budget.load(Ordering::Relaxed);
        budget.saturating_sub(self.granted.events.load(Ordering::Relaxed))
    }

    /// Gives a link on which much is sent more of what is left: most links are idle most of the
    /// time, and what is set aside for them is of no use.
    pub(crate) fn allot_more(&self, link: &Arc<InLink>) {
        if link.wants_more() == 0 {
            return;
        }
        // Under the lock, so that all of it is returned with the rest.
        let state = self.state.lock();
        let more = link.wants_more().min(self.credit_left() / 8);
        let Some(subscription) = state.subscriptions.get(&link.subscription) else {
            return;
        };
        if more == 0 || !subscription.has(link) {
            return;
        }
        self.granted.events.fetch_add(more, Ordering::Relaxed);
        link.allot(more);
        let room = match link.follows_application() {
            true => subscription.inbox.room(),
            false => u64::MAX,
        };
        if !link.widen(room) {
            subscription.inbox.widen_later(link);
        }
    }

    pub(crate) fn return_credit<'a>(&self, links: impl Iterator<Item = &'a Arc<InLink>>) {
        for (events, bytes) in links.filter_map(|link| link.set_aside(false)) {
            self.granted.events.fetch_sub(events, Ordering::Relaxed);
            self.granted.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Sets aside again what was returned.
    pub(crate) fn take_credit<'a>(&self, links: impl Iterator<Item = &'a Arc<InLink>>) {
        for (events, bytes) in links.filter_map(|link| link.set_aside(true)) {
            self.granted.events.fetch_add(events, Ordering::Relaxed);
            self.granted.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}
