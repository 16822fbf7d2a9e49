//! This node's subscriptions: made, announced to every publisher, ended.
//!
//! The order makes the barrier (SUB-001): the broker has the patterns first, then every node opens
//! its link, and only then does `subscribe` return. A node that joins meanwhile learns the
//! subscription from the welcome it gets before it publishes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{Subscribe, SubscribeError, Subscription, SubscriptionStats, TopicFilter};
use tokio::sync::oneshot;

use super::acks::InLink;
use super::command::{Command, NotSubscribed};
use super::inbox::{Inbox, InboxSource};

use super::node::{Gone, Node, State, names};
use crate::namespace;
use crate::topics;
use crate::wire::{Control, Refusal, SubscriptionInfo};

#[derive(Debug)]
pub(crate) struct LocalSubscription {
    pub(crate) name: Arc<str>,
    pub(crate) filters: Vec<TopicFilter>,
    pub(crate) inbox: Arc<Inbox>,
    pub(super) capacity: u64,
    exclude_own: bool,
    /// The broker has the patterns: links may be opened.
    active: bool,
    /// `subscribe` has succeeded.
    confirmed: bool,
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

    pub(super) fn has(&self, link: &Arc<InLink>) -> bool {
        let found = self.links.get(&link.peer);
        found.is_some_and(|found| Arc::ptr_eq(found, link))
    }

    /// Nobody can be reached for now: there is no word to wait for.
    pub(crate) fn disconnected(&mut self) {
        self.unopened.clear();
        if let Some(unclosed) = &mut self.unclosed {
            unclosed.clear();
        }
    }

    /// Whether every node has opened its link, so that the name is taken for good.
    pub(crate) fn stands(&self) -> bool {
        self.confirmed
    }
}

impl State {
    /// Whether a subscription has the name. That of a node that is away is free: it may have died
    /// and begun another life.
    fn is_taken(&self, name: &str) -> bool {
        let theirs = self.remote_names.get(name);
        let peer = theirs.and_then(|(peer, _)| self.peers.get(&**peer));
        peer.is_some_and(|peer| peer.away.is_none())
            || self.subscriptions.values().any(|s| *s.name == *name)
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
                        .is_none_or(|s| (state.up && s.unopened.is_empty()) || s.refused.is_some())
            })
            .await;
        self.outcome(id, answered, started)?;
        Ok(subscription)
    }

    fn outcome(&self, id: u64, answered: bool, started: Instant) -> Result<(), SubscribeError> {
        self.check()?;
        let mut state = self.state.lock();
        if answered
            && let Some(subscription) = state.subscriptions.get_mut(&id)
            && subscription.refused.is_none()
        {
            subscription.confirmed = true;
            return Ok(());
        }
        let Some(subscription) = state.subscriptions.get(&id) else {
            return Err(SubscribeError::Closed);
        };
        if subscription.refused.is_some() {
            return Err(SubscribeError::AlreadySubscribed {
                name: subscription.name.to_string(),
            });
        }
        if !answered {
            if let Some(reason) = state.down.clone() {
                return Err(SubscribeError::Disconnected { reason });
            }
            let mut peers = names(&subscription.unopened);
            let silent = state
                .peers
                .values()
                .filter(|p| p.away.is_none() && !p.welcomed);
            peers.extend(silent.map(|peer| peer.name.to_string()));
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
    pub(super) fn enter(
        &self,
        subscribe: &Subscribe,
    ) -> Result<(u64, Arc<str>, Arc<Inbox>), SubscribeError> {
        self.check()?;
        subscribe.check()?;
        let capacity = subscribe.get_capacity();
        let mut state = self.state.lock();
        let limit = self.limits.max_subscriptions;
        if state.subscriptions.len() >= limit {
            return Err(SubscribeError::TooManySubscriptions { limit });
        }
        let name: Arc<str> = match subscribe.name() {
            Some(name) if state.is_taken(name) => {
                return Err(SubscribeError::AlreadySubscribed {
                    name: name.to_owned(),
                });
            }
            Some(name) => name.into(),
            None => loop {
                state.next_name += 1;
                let name = format!("{}-{}", self.name, state.next_name);
                if !state.is_taken(&name) {
                    break name.into();
                }
            },
        };
        let id = uuid::Uuid::new_v4().as_u64_pair().0;
        let inbox = Arc::new(Inbox::new(
            Arc::clone(&name),
            capacity,
            subscribe.get_overflow(),
        ));
        let entry = LocalSubscription {
            name: Arc::clone(&name),
            filters: subscribe.filters().to_vec(),
            inbox: Arc::clone(&inbox),
            capacity: capacity as u64,
            exclude_own: subscribe.excludes_own(),
            active: false,
            confirmed: false,
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
            patterns: patterns(subscribe.filters(), namespace::of(&self.name)),
            reply,
        };
        let started = Instant::now();
        let done = async {
            if self.commands.send(command).await.is_err() {
                return Err(NotSubscribed::Failed("the session has ended".to_owned()));
            }
            let ended = NotSubscribed::Failed("the connection has ended".to_owned());
            confirmed.await.unwrap_or(Err(ended))
        };
        tokio::select! {
            done = done => match done {
                Ok(()) => Ok(()),
                Err(NotSubscribed::Denied) => Err(SubscribeError::Denied {
                    filter: filters(subscribe),
                }),
                Err(NotSubscribed::Failed(reason)) => {
                    self.check().and(Err(SubscribeError::Disconnected { reason }))
                }
            },
            () = futures_timer::Delay::new(deadline) => {
                if let Some(reason) = self.state.lock().down.clone() {
                    return Err(SubscribeError::Disconnected { reason });
                }
                Err(SubscribeError::Timeout {
                    peers: vec!["the broker".to_owned()],
                    waited: started.elapsed(),
                })
            }
        }
    }

    /// Announces the subscription to every node known, this one included.
    pub(super) fn announce(&self, id: u64) {
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
        // Who has yet to say hello is told then, and who is away when it is back.
        let known: Vec<_> = peers.values().filter(|p| p.knows_us).collect();
        subscription.unopened = known.iter().map(|peer| Arc::clone(&peer.name)).collect();
        for peer in known {
            let info = self.offer(subscription, id, &peer.name);
            self.outbox.send_urgent(&peer.name, Control::Open(info));
        }
        if !subscription.exclude_own {
            let info = self.offer(subscription, id, &self.name);
            self.open_own(info);
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
        let cursor = link.cursor();
        SubscriptionInfo {
            id,
            name: subscription.name.to_string(),
            filters: subscription.filters.clone(),
            link: cursor.link,
            received: cursor.received,
            received_bytes: cursor.received_bytes,
            credit: cursor.credit,
            credit_bytes: cursor.credit_bytes,
        }
    }

    /// What this node's publishing side is told of its own subscriptions.
    pub(crate) fn own_offers(&self, state: &mut State) -> Vec<SubscriptionInfo> {
        let name = Arc::clone(&self.name);
        let all = state.subscriptions.iter_mut();
        all.filter(|(_, s)| s.active && !s.exclude_own && s.unclosed.is_none())
            .map(|(id, subscription)| self.offer(subscription, *id, &name))
            .collect()
    }

    /// Asks the publisher of a link for everything from its cursor on.
    pub(crate) fn ask_again(&self, state: &mut State, id: u64, peer: &Arc<str>) {
        let Some(subscription) = state.subscriptions.get_mut(&id) else {
            return;
        };
        // One that ends has no link to go on with.
        if subscription.unclosed.is_some() {
            return;
        }
        let info = self.offer(subscription, id, peer);
        if **peer == *self.name {
            self.open_own(info);
        } else {
            self.outbox.answer(peer, Control::Open(info));
        }
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
            let known = state.peers.values().filter(|peer| peer.knows_us);
            let others = known
                .filter(|peer| subscription.links.contains_key(&peer.name))
                .map(|peer| Arc::clone(&peer.name))
                .collect();
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
            state.unneeded.push(id);
            for peer in state.peers.values() {
                self.outbox
                    .send_urgent(&peer.name, Control::Close { subscription: id });
            }
            ended
        };
        ended.inbox.close();
        self.return_credit(ended.links.values());
        self.outbox
            .close_links(|l| l.subscription == id && l.peer == self.name);
        self.outbox.wake.notify_one();
        self.changed.notify_waiters();
    }

    /// Asks every publisher to end its links to us and waits until they have: everything that
    /// they accepted for us has arrived then.
    pub(crate) async fn drain_subscriptions(&self, deadline: Duration) {
        {
            let mut state = self.state.lock();
            let State {
                peers,
                subscriptions,
                joined,
                ..
            } = &mut *state;
            for (id, subscription) in subscriptions.iter_mut() {
                if subscription.unclosed.is_some() {
                    continue;
                }
                let there = |peer: &Arc<str>| {
                    *joined
                        && (*peer == self.name || peers.get(&**peer).is_some_and(|p| p.knows_us))
                };
                let links = subscription.links.keys().filter(|peer| there(peer));
                subscription.unclosed = Some(links.cloned().collect());
                for peer in peers.values() {
                    self.outbox
                        .send_urgent(&peer.name, Control::Close { subscription: *id });
                }
            }
        }
        self.outbox.close_links(|link| link.peer == self.name);
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

fn filters(subscribe: &Subscribe) -> String {
    let all: Vec<&str> = subscribe
        .filters()
        .iter()
        .map(TopicFilter::as_str)
        .collect();
    all.join(", ")
}

fn patterns(filters: &[TopicFilter], namespace: Option<&str>) -> Vec<String> {
    let all: BTreeSet<String> = filters.iter().flat_map(topics::patterns).collect();
    let within = |pattern: String| topics::within(&pattern, namespace).into_owned();
    all.into_iter().map(within).collect()
}
