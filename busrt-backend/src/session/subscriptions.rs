//! This node's subscriptions: made, announced to every publisher, ended.
//!
//! The order makes the barrier (SUB-001): the broker has the patterns first, then every node opens
//! its link, and only then does `subscribe` return. A node that joins meanwhile learns the
//! subscription from the welcome it gets before it publishes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use eventbus_trait::{
    MAX_CAPACITY, Overflow, Subscribe, SubscribeError, Subscription, SubscriptionStats, TopicFilter,
};
use tokio::sync::oneshot;

use super::acks::InLink;
use super::inbox::{Inbox, InboxSource};
use super::link::LinkState;
use super::node::{Gone, Node, State, names};
use super::writer::Command;
use crate::topics;
use crate::wire::{Control, Refusal, SubscriptionInfo};

/// Most events of credit for one link.
const MAX_WINDOW: u64 = 4_096;
/// Events of credit that one node hands out in all, but for one event a link: half of what a
/// broker of ours queues for a client.
const CREDIT_BUDGET: u64 = 32_768;
/// Most bytes of credit for one link.
const MAX_WINDOW_BYTES: u64 = 8 << 20;
/// Bytes of credit that one node hands out in all, but for [`MIN_WINDOW_BYTES`] a link.
const BYTES_BUDGET: u64 = 256 << 20;
/// Least bytes of credit for one link.
const MIN_WINDOW_BYTES: u64 = 64 << 10;

#[derive(Debug)]
pub(crate) struct LocalSubscription {
    pub(crate) name: Arc<str>,
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) inbox: Arc<Inbox>,
    capacity: u64,
    exclude_own: bool,
    /// The broker has the patterns: links may be opened.
    active: bool,
    /// Nodes that have not answered yet that their link stands.
    pub(crate) unopened: BTreeSet<Arc<str>>,
    /// Nodes that have not said yet that their link has ended; `None` while it is not ending.
    pub(crate) unclosed: Option<BTreeSet<Arc<str>>>,
    pub(crate) refused: Option<Refusal>,
    /// By publisher.
    pub(crate) links: HashMap<Arc<str>, Arc<InLink>>,
}

impl LocalSubscription {
    pub(crate) fn takes(&self, topic: &eventbus_trait::Topic) -> bool {
        self.filters.iter().any(|filter| filter.matches(topic))
    }

    /// Whether every node has opened its link, so that the name is taken for good.
    pub(crate) fn stands(&self) -> bool {
        self.active && self.unopened.is_empty()
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox")
            .field("queued", &self.queued())
            .finish_non_exhaustive()
    }
}

impl Node {
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        subscribe: Subscribe,
        deadline: Duration,
    ) -> Result<Subscription, SubscribeError> {
        let started = Instant::now();
        let (id, name, inbox) = self.enter(&subscribe)?;
        // From here on, dropping the source undoes everything.
        let source = InboxSource::new(Arc::clone(self), id, Arc::clone(&inbox));
        let subscription = Subscription::new(
            name,
            &subscribe,
            Arc::clone(&inbox.counters),
            Box::new(source),
        );
        self.add_patterns(id, &subscribe, deadline).await?;
        self.announce(id);
        let answered = self
            .until(deadline.saturating_sub(started.elapsed()), |state| {
                state.lost.is_some()
                    || state.closing
                    || state
                        .subscriptions
                        .get(&id)
                        .is_none_or(|s| s.unopened.is_empty() || s.refused.is_some())
            })
            .await;
        self.outcome(id, answered, started)?;
        Ok(subscription)
    }

    fn outcome(&self, id: u64, answered: bool, started: Instant) -> Result<(), SubscribeError> {
        self.check()?;
        let state = self.state.lock();
        let Some(subscription) = state.subscriptions.get(&id) else {
            return Err(SubscribeError::Closed);
        };
        if subscription.refused.is_some() {
            return Err(SubscribeError::AlreadySubscribed {
                name: subscription.name.to_string(),
            });
        }
        if !answered {
            let peers = names(&subscription.unopened);
            return Err(SubscribeError::Timeout {
                peers,
                waited: started.elapsed(),
            });
        }
        Ok(())
    }

    fn check(&self) -> Result<(), SubscribeError> {
        match self.gone() {
            None => Ok(()),
            Some(Gone::Closed) => Err(SubscribeError::Closed),
            Some(Gone::Lost { reason }) => Err(SubscribeError::Disconnected { reason }),
        }
    }

    /// Enters the subscription into the table, under a name that nobody known has.
    fn enter(&self, subscribe: &Subscribe) -> Result<(u64, Arc<str>, Arc<Inbox>), SubscribeError> {
        self.check()?;
        let capacity = subscribe.get_capacity();
        if capacity == 0 || capacity > MAX_CAPACITY {
            return Err(SubscribeError::Capacity {
                capacity,
                limit: MAX_CAPACITY,
            });
        }
        let mut state = self.state.lock();
        let limit = self.limits.max_subscriptions;
        if state.subscriptions.len() >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        let name: Arc<str> = match subscribe.name() {
            Some(name) => name.into(),
            None => {
                state.next_name += 1;
                format!("{}-{}", self.name, state.next_name).into()
            }
        };
        let taken = state.remote_names.contains_key(&*name)
            || state.subscriptions.values().any(|s| s.name == name);
        if taken {
            return Err(SubscribeError::AlreadySubscribed {
                name: name.to_string(),
            });
        }
        let id = uuid::Uuid::new_v4().as_u64_pair().0;
        let inbox = Arc::new(Inbox::new(capacity, subscribe.get_overflow()));
        let entry = LocalSubscription {
            name: Arc::clone(&name),
            filters: subscribe.filters().to_vec(),
            inbox: Arc::clone(&inbox),
            capacity: capacity as u64,
            exclude_own: subscribe.excludes_own(),
            active: false,
            unopened: BTreeSet::new(),
            unclosed: None,
            refused: None,
            links: HashMap::new(),
        };
        state.subscriptions.insert(id, entry);
        Ok((id, name, inbox))
    }

    /// Has the broker send us what the filters take, and waits until it says that it will.
    async fn add_patterns(
        &self,
        id: u64,
        subscribe: &Subscribe,
        deadline: Duration,
    ) -> Result<(), SubscribeError> {
        let (reply, confirmed) = oneshot::channel();
        let command = Command::Subscribe {
            id,
            patterns: patterns(subscribe.filters()),
            reply,
        };
        let started = Instant::now();
        let done = async {
            if self.commands.send(command).await.is_err() {
                return Err("the connection has ended".to_owned());
            }
            confirmed
                .await
                .unwrap_or_else(|_| Err("the connection has ended".to_owned()))
        };
        tokio::select! {
            done = done => match done {
                Ok(()) => Ok(()),
                Err(reason) => self.check().and(Err(SubscribeError::Disconnected { reason })),
            },
            () = futures_timer::Delay::new(deadline) => Err(SubscribeError::Timeout {
                peers: vec!["the broker".to_owned()],
                waited: started.elapsed(),
            }),
        }
    }

    /// Announces the subscription to every node known, this one included.
    fn announce(self: &Arc<Self>, id: u64) {
        let mut state = self.state.lock();
        let State {
            peers,
            subscriptions,
            ..
        } = &mut *state;
        let Some(subscription) = subscriptions.get_mut(&id) else {
            return;
        };
        subscription.active = true;
        subscription.unopened = peers.values().map(|peer| Arc::clone(&peer.name)).collect();
        for peer in peers.values() {
            let info = self.offer(subscription, id, &peer.name);
            self.outbox.send_urgent(&peer.name, Control::Open(info));
        }
        if !subscription.exclude_own {
            let info = self.offer(subscription, id, &self.name);
            self.outbox.open_link(&self.name, info, None);
        }
    }

    /// What a publisher is told of a subscription; the credit in it is set aside.
    fn offer(
        &self,
        subscription: &mut LocalSubscription,
        id: u64,
        peer: &Arc<str>,
    ) -> SubscriptionInfo {
        let link = match subscription.links.get(peer) {
            Some(link) => Arc::clone(link),
            None => self.set_aside(subscription, id, peer),
        };
        let (credit, credit_bytes) = link.window();
        SubscriptionInfo {
            id,
            name: subscription.name.to_string(),
            filters: subscription.filters.clone(),
            received: 0,
            received_bytes: 0,
            credit,
            credit_bytes,
        }
    }

    /// Makes a link with a window out of what is left. A `Wait` queue that has less room than the
    /// window, because others' events are in it, widens it as they are read.
    fn set_aside(
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
        let left = CREDIT_BUDGET.saturating_sub(self.granted.events.load(Ordering::Relaxed));
        let full = wanted.min((left / 4).max(1));
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

    /// What a new node is told: every subscription that stands or is about to.
    pub(crate) fn offers_for(&self, state: &mut State, peer: &Arc<str>) -> Vec<SubscriptionInfo> {
        let standing = |s: &LocalSubscription| s.active && s.unclosed.is_none();
        let active = state.subscriptions.iter_mut().filter(|(_, s)| standing(s));
        active
            .map(|(id, subscription)| self.offer(subscription, *id, peer))
            .collect()
    }

    /// Ends a subscription and waits until every publisher knows, so that its name is free on the
    /// whole bus and nobody waits for its room.
    pub(crate) async fn end_subscription_everywhere(&self, id: u64, deadline: Duration) {
        {
            let mut state = self.state.lock();
            let Some(subscription) = state.subscriptions.get(&id) else {
                return;
            };
            let others = subscription.links.keys().filter(|peer| **peer != self.name);
            let others = others.cloned().collect();
            state.ending.insert(id, others);
        }
        self.end_subscription(id);
        self.until(deadline, |state| {
            state.lost.is_some() || state.ending.get(&id).is_none_or(BTreeSet::is_empty)
        })
        .await;
        self.state.lock().ending.remove(&id);
    }

    /// Ends a subscription at once: what is queued is given up, publishers stop sending.
    pub(crate) fn end_subscription(&self, id: u64) {
        let ended = {
            let mut state = self.state.lock();
            let Some(ended) = state.subscriptions.remove(&id) else {
                return;
            };
            for peer in state.peers.values() {
                self.outbox
                    .send_urgent(&peer.name, Control::Close { subscription: id });
            }
            ended
        };
        ended.inbox.close();
        self.return_credit(ended.links.values());
        self.outbox.end_links(LinkState::Closed, |l| {
            l.subscription == id && l.peer == self.name
        });
        // If the writer is too busy to take it, the broker sends us a little too much.
        let _ = self.commands.try_send(Command::Unsubscribe { id });
        self.changed.notify_waiters();
    }

    pub(crate) fn return_credit<'a>(&self, links: impl Iterator<Item = &'a Arc<InLink>>) {
        for link in links {
            let (events, bytes) = link.set_aside();
            self.granted.events.fetch_sub(events, Ordering::Relaxed);
            self.granted.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Asks every publisher to end its links to us and waits until they have: everything that
    /// they accepted for us has arrived then.
    pub(crate) async fn drain_subscriptions(&self, deadline: Duration) {
        {
            let mut state = self.state.lock();
            let State {
                peers,
                subscriptions,
                ..
            } = &mut *state;
            for (id, subscription) in subscriptions.iter_mut() {
                if subscription.unclosed.is_some() {
                    continue;
                }
                subscription.unclosed = Some(subscription.links.keys().cloned().collect());
                for peer in peers.values() {
                    self.outbox
                        .send_urgent(&peer.name, Control::Close { subscription: *id });
                }
            }
        }
        self.outbox
            .end_links(LinkState::Closed, |link| link.peer == self.name);
        let drained = |s: &LocalSubscription| s.unclosed.as_ref().is_none_or(BTreeSet::is_empty);
        self.until(deadline, |state| {
            state.lost.is_some() || state.subscriptions.values().all(drained)
        })
        .await;
        let inboxes: Vec<_> = self
            .state
            .lock()
            .subscriptions
            .values()
            .map(|s| Arc::clone(&s.inbox))
            .collect();
        for inbox in inboxes {
            inbox.end();
        }
    }

    pub(crate) fn subscription_stats(&self) -> Vec<SubscriptionStats> {
        let state = self.state.lock();
        let subscriptions = state.subscriptions.values();
        let mut stats: Vec<_> = subscriptions
            .map(|s| s.inbox.counters.snapshot(&s.name, s.inbox.queued()))
            .collect();
        stats.sort_by(|a, b| a.name.cmp(&b.name));
        stats
    }
}

fn patterns(filters: &[TopicFilter]) -> Vec<String> {
    let all: BTreeSet<String> = filters.iter().flat_map(topics::patterns).collect();
    all.into_iter().collect()
}
