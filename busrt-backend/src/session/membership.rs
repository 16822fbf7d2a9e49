//! Knowing the other sessions, and being known, before anything is published.
//!
//! A node that comes, or comes back, says hello to everybody who is there: who it is, and where
//! all its subscriptions stand. Each answers in kind. Both go on with their links from what they
//! were told; a subscription that is not in the list is no more. A node is connected once everybody
//! has answered: from then on no subscription is unknown to it, because who subscribes later has
//! heard its hello and announces to it.
//!
//! A node that has lost its connection is away: its links wait for it, and so does whoever
//! publishes more than they have room for, until it is back or `link_timeout` has passed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{ConnectError, PublisherId, count};
use tokio::time::Instant as Clock;
use tracing::{debug, error, info, warn};

use super::directory::STOCK_PREFIX;
use super::link::Link;
use super::node::{Node, Peer, State};
use crate::wire::{Control, Events, Member, Refusal, StatusEntry, SubscriptionInfo};

/// Peers that are remembered after twice the link timeout. One that was forgotten and comes back all
/// the same begins anew: what it had not confirmed may come twice, or be lost and counted.
const MAX_PARKED: usize = 1_024;

impl Node {
    /// Waits until the first connection is in step with everybody.
    pub(crate) async fn joined(
        &self,
        address: &str,
        deadline: Duration,
    ) -> Result<(), ConnectError> {
        let started = Instant::now();
        self.until(deadline, |state| {
            state.lost.is_some() || state.up || state.refused.is_some()
        })
        .await;
        let refused = |reason: String| ConnectError::Refused {
            address: address.to_owned(),
            reason,
        };
        let state = self.state.lock();
        match (&state.lost, state.refused) {
            _ if state.up => return Ok(()),
            (Some(reason), _) => return Err(refused(reason.clone())),
            (None, Some(Refusal::NameInUse)) => {
                return Err(ConnectError::NameInUse {
                    name: self.name.to_string(),
                });
            }
            (None, Some(refusal)) => return Err(refused(refusal.to_string())),
            (None, None) => {}
        }
        if let Some(reason) = &state.down {
            return Err(refused(reason.clone()));
        }
        let (address, waited) = (address.to_owned(), started.elapsed());
        let silent = state.peers.values().filter(|p| p.is_silent());
        let peers: Vec<_> = silent.map(|peer| peer.name.to_string()).collect();
        Err(if peers.is_empty() {
            ConnectError::Timeout { address, waited }
        } else {
            ConnectError::Silent {
                address,
                peers,
                waited,
            }
        })
    }

    /// The directory has counted us in, and these are the others.
    pub(crate) fn on_members(&self, members: Vec<Member>) {
        let names = members.into_iter().map(|member| member.client);
        self.enter_bus(names.collect());
    }

    fn enter_bus(&self, there: HashSet<String>) {
        let mut state = self.state.lock();
        state.joined = true;
        state.refused = None;
        let now = Clock::now();
        // The time that we were away ourselves is nobody else's absence.
        let offline = state.down_since.take().map(|since| now - since);
        for peer in state.peers.values_mut() {
            peer.away = peer.away.map(|since| since + offline.unwrap_or_default());
        }
        for (name, peer) in &mut state.peers {
            if !there.contains(name) {
                peer.away.get_or_insert(now);
            }
        }
        for name in there {
            self.greet(&mut state, &name);
        }
        self.reopen_own(&mut state);
    }

    /// Says hello.
    fn greet(&self, state: &mut State, name: &str) {
        if *name == *self.name {
            return;
        }
        let peer = state
            .peers
            .entry(name.to_owned())
            .or_insert_with(|| Peer::new(name));
        peer.away = None;
        peer.welcomed = false;
        peer.knows_us = true;
        let name = Arc::clone(&peer.name);
        self.unpark(state, &name);
        let subscriptions = self.offers_for(state, &name);
        let hello = Control::Hello {
            publisher: self.publisher,
            subscriptions,
        };
        self.outbox.send_urgent(&name, hello);
    }

    /// Goes on with the links to ourselves: their frames go through the broker too.
    fn reopen_own(&self, state: &mut State) {
        for info in self.own_offers(state) {
            self.open_own(info);
        }
    }

    /// Opens a link to a subscription of our own.
    pub(crate) fn open_own(&self, info: SubscriptionInfo) {
        self.give_up(self.outbox.open_link(&self.name, info, false));
    }

    /// The directory knows a node that will say hello. Whoever is not announced so is a stranger,
    /// and is not listened to.
    pub(crate) fn on_joined(&self, client: &str) {
        let mut state = self.state.lock();
        let peer = state
            .peers
            .entry(client.to_owned())
            .or_insert_with(|| Peer::new(client));
        peer.away = None;
        // It publishes nothing before it knows our subscriptions, so nobody waits for it.
        peer.welcomed = true;
        peer.knows_us = false;
    }

    /// A stock broker's list of sessions.
    pub(crate) fn on_listed(&self, names: Vec<String>) {
        let there: HashSet<String> = names.into_iter().collect();
        if !self.state.lock().joined {
            return self.enter_bus(there);
        }
        let gone: Vec<_> = {
            let state = self.state.lock();
            let known = state.peers.values().filter(|peer| peer.away.is_none());
            known
                .filter(|peer| !there.contains(&*peer.name))
                .map(|peer| Arc::clone(&peer.name))
                .collect()
        };
        for client in gone {
            self.on_lost(&client);
        }
        let mut state = self.state.lock();
        for name in there {
            // One that came before our list was made, or that we took for gone, says hello too.
            if state.peers.get(&name).is_none_or(|p| p.away.is_some()) {
                self.greet(&mut state, &name);
            }
        }
    }

    pub(crate) fn on_hello(
        &self,
        sender: &str,
        publisher: PublisherId,
        subscriptions: Vec<SubscriptionInfo>,
    ) {
        {
            let mut state = self.state.lock();
            if !state.peers.contains_key(sender) {
                if !state.polled || !sender.starts_with(STOCK_PREFIX) {
                    drop(state);
                    return self.stranger(sender);
                }
                state.peers.insert(sender.to_owned(), Peer::new(sender));
            }
        }
        self.get_in_step(sender, publisher, subscriptions);
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(sender) else {
            return;
        };
        peer.knows_us = true;
        let name = Arc::clone(&peer.name);
        self.unpark(&mut state, &name);
        let subscriptions = self.offers_for(&mut state, &name);
        let welcome = Control::Welcome {
            publisher: self.publisher,
            subscriptions,
        };
        self.outbox.answer(&name, welcome);
    }

    /// A publisher says that it has come further than it can have.
    pub(crate) fn beyond_credit(&self, sender: &str, subscription: &str, next: u64) {
        self.count_malformed();
        warn!(
            subscription,
            publisher = sender,
            next,
            "message beyond its credit"
        );
    }

    fn stranger(&self, sender: &str) {
        self.count_malformed();
        warn!(client = %self.name, sender, "message of a client that has not joined");
    }

    pub(crate) fn on_welcome(
        &self,
        sender: &str,
        publisher: PublisherId,
        subscriptions: Vec<SubscriptionInfo>,
    ) {
        if !self.state.lock().peers.contains_key(sender) {
            return self.stranger(sender);
        }
        self.get_in_step(sender, publisher, subscriptions);
    }

    /// Takes in who a peer is and all its subscriptions: links to others have ended.
    fn get_in_step(
        &self,
        sender: &str,
        publisher: PublisherId,
        subscriptions: Vec<SubscriptionInfo>,
    ) {
        let ids: HashSet<u64> = subscriptions.iter().map(|s| s.id).collect();
        let another_life = {
            let mut state = self.state.lock();
            let Some(peer) = state.peers.get_mut(sender) else {
                return;
            };
            let before = peer.publisher.replace(publisher);
            peer.away = None;
            let another_life = before.is_some_and(|before| before != publisher);
            state
                .remote_names
                .retain(|_, (peer, id)| **peer != *sender || ids.contains(id));
            if another_life {
                for s in state.subscriptions.values() {
                    if let Some(link) = s.links.get(sender) {
                        link.begin_again();
                    }
                }
                // The one before will not keep its word.
                state.no_word_from(sender);
            }
            another_life
        };
        if another_life {
            info!(client = %self.name, peer = sender, "peer has begun another life");
            self.give_up(self.outbox.take_links(|link| *link.peer == *sender));
            self.outbox.forget_peer(sender);
        } else {
            self.outbox
                .close_links(|link| *link.peer == *sender && !ids.contains(&link.subscription));
        }
        for subscription in subscriptions {
            self.on_open(sender, subscription);
        }
        // Only now: whoever waits for this may publish at once.
        if let Some(peer) = self.state.lock().peers.get_mut(sender) {
            peer.welcomed = true;
        }
    }

    /// Another node's subscription: opens a link, unless its name is taken; or goes on with the
    /// link from the subscription's cursor.
    pub(crate) fn on_open(&self, sender: &str, info: SubscriptionInfo) {
        let name: Arc<str> = sender.into();
        let subscription = info.id;
        {
            let mut state = self.state.lock();
            if !state.peers.contains_key(sender) {
                drop(state);
                return self.stranger(sender);
            }
            let goes_on = self.outbox.has_link(sender, subscription);
            if !goes_on && info.received == 0 && self.name_is_ours(&state, sender, &info) {
                let refusal = Refusal::NameInUse;
                self.outbox.answer(
                    &name,
                    Control::OpenRefused {
                        subscription,
                        refusal,
                    },
                );
                return;
            }
            // One name for each link: a link that goes on has told its own.
            if !goes_on {
                let holder = (Arc::clone(&name), subscription);
                state.remote_names.insert(info.name.clone(), holder);
            }
        }
        self.give_up(self.outbox.open_link(&name, info, true));
    }

    /// Whether a subscription of ours has the name. Of two that are made at once, the one of the
    /// node with the lower identity has it; both nodes decide so.
    fn name_is_ours(&self, state: &State, sender: &str, info: &SubscriptionInfo) -> bool {
        let mut ours = state.subscriptions.values();
        let ours = ours.find(|s| *s.name == *info.name && s.refused.is_none());
        let theirs = state.peers.get(sender).and_then(|peer| peer.publisher);
        ours.is_some_and(|s| s.stands() || theirs.is_none_or(|theirs| self.publisher < theirs))
    }

    /// A publisher has opened its link, or goes on with it. If it does so beyond our cursor, it has
    /// given up what lies between.
    pub(crate) fn on_opened(&self, sender: &str, subscription: u64, first: u64) {
        let (inbox, link, name) = {
            let mut state = self.state.lock();
            let Some(s) = state.subscriptions.get_mut(&subscription) else {
                return;
            };
            s.unopened.remove(sender);
            let Some(link) = s.links.get(sender) else {
                return;
            };
            (Arc::clone(&s.inbox), Arc::clone(link), Arc::clone(&s.name))
        };
        if !link.may_reach(first) {
            return self.beyond_credit(sender, &name, first);
        }
        link.answered();
        let missing = first.saturating_sub(link.received());
        if missing > 0 {
            error!(subscription = %name, publisher = sender, first = link.received(), last = first - 1, "given up by its publisher");
            link.miss(missing);
            inbox.push(Some(&link), Events::none(), missing);
            self.acks.repeat(&link, &self.outbox.wake);
        }
    }

    pub(crate) fn on_refused(&self, sender: &str, subscription: u64, refusal: Refusal) {
        if let Some(s) = self.state.lock().subscriptions.get_mut(&subscription) {
            if s.stands() {
                error!(subscription = %s.name, publisher = sender, ?refusal, "subscription refused by a peer");
                return;
            }
            s.refused = Some(refusal);
        }
    }

    /// Another node's subscription ends.
    pub(crate) fn on_close(&self, sender: &str, subscription: u64) {
        self.state
            .lock()
            .remote_names
            .retain(|_, (peer, id)| **peer != *sender || *id != subscription);
        self.outbox
            .close_links(|l| l.subscription == subscription && *l.peer == *sender);
    }

    /// A publisher has sent everything that it had for a subscription that ends.
    pub(crate) fn on_closed(&self, sender: &str, status: &StatusEntry) {
        let tail = {
            let mut state = self.state.lock();
            state.has_ended(status.subscription, sender);
            let Some(s) = state.subscriptions.get_mut(&status.subscription) else {
                return;
            };
            if let Some(unclosed) = &mut s.unclosed {
                unclosed.remove(sender);
            }
            let link = s.links.get(sender).map(Arc::clone);
            link.map(|link| (Arc::clone(&s.inbox), link, Arc::clone(&s.name)))
        };
        if let Some((inbox, link, name)) = tail {
            if !link.may_reach(status.next) {
                return self.beyond_credit(sender, &name, status.next);
            }
            let missing = status.next.saturating_sub(link.received());
            if missing > 0 {
                warn!(
                    subscription = status.subscription,
                    publisher = sender,
                    missing,
                    "link ended short"
                );
                link.miss(missing);
            }
            let lagged = link.newly_dropped(status.dropped).saturating_add(missing);
            if lagged > 0 {
                inbox.push(Some(&link), Events::none(), lagged);
            }
        }
    }

    /// A node has left and will not come back.
    pub(crate) fn on_left(&self, client: &str) {
        self.on_lost(client);
        self.give_up(self.outbox.take_links(|link| *link.peer == *client));
        self.forget(&mut self.state.lock(), client);
    }

    /// A node has lost its connection. Nobody waits for its word; what is for it waits for it.
    pub(crate) fn on_lost(&self, client: &str) {
        {
            let mut state = self.state.lock();
            let Some(peer) = state.peers.get_mut(client) else {
                return;
            };
            peer.away.get_or_insert_with(Clock::now);
            peer.welcomed = false;
            peer.knows_us = false;
            state.no_word_from(client);
        }
        self.outbox.detach_links(|link| *link.peer == *client);
        debug!(client = %self.name, peer = client, "peer is away");
    }

    /// Gives up who has been away for longer than the link timeout, while we were connected. Who has
    /// for twice as long is parked: the credit set aside for it is for others, but where its links
    /// stood is remembered, because it may not know how long it was away.
    pub(crate) fn expire(&self, now: Clock) {
        let given_up = {
            let mut state = self.state.lock();
            if !state.joined {
                return;
            }
            let absent = |peer: &Peer| peer.away.map(|since| now.duration_since(since));
            let longer = |state: &State, than: Duration| -> Vec<Arc<str>> {
                let peers = state.peers.values();
                let longer = peers.filter(|p| absent(p).is_some_and(|absent| absent >= than));
                longer.map(|peer| Arc::clone(&peer.name)).collect()
            };
            let mut given_up = Vec::new();
            for client in longer(&state, self.link_timeout) {
                let links = self.outbox.give_up_links(|link| *link.peer == *client);
                given_up.extend(links);
            }
            for client in longer(&state, self.link_timeout * 2) {
                self.park(&mut state, &client);
            }
            given_up
        };
        self.give_up(given_up);
    }

    /// Ends links that are given up: their receipts fail, and what was not acknowledged is lost.
    fn give_up(&self, links: impl IntoIterator<Item = (Arc<Link>, u64)>) {
        for (link, missing) in links {
            if missing > 0 {
                let first = link.received();
                warn!(subscription = %link.name, peer = %link.peer, publisher = %self.publisher, first, events = missing, "given up");
            }
            // Whoever is told that it is lost may look at the count.
            count(&self.given_up, missing);
            link.lose("its subscriber is given up");
        }
    }

    /// Returns the credit set aside for a peer; forgets it if too many are remembered.
    fn park(&self, state: &mut State, client: &str) {
        let parked = state.peers.values().filter(|peer| peer.parked).count();
        let Some(peer) = state.peers.get_mut(client).filter(|peer| !peer.parked) else {
            return;
        };
        if parked >= MAX_PARKED {
            return self.forget(state, client);
        }
        peer.parked = true;
        let links = state.subscriptions.values();
        self.return_credit(links.filter_map(|s| s.links.get(client)));
    }

    fn unpark(&self, state: &mut State, client: &str) {
        let Some(peer) = state.peers.get_mut(client).filter(|peer| peer.parked) else {
            return;
        };
        peer.parked = false;
        let links = state.subscriptions.values();
        self.take_credit(links.filter_map(|s| s.links.get(client)));
    }

    /// Forgets a peer that is gone for good.
    fn forget(&self, state: &mut State, client: &str) {
        state.peers.remove(client);
        state.remote_names.retain(|_, (peer, _)| **peer != *client);
        for s in state.subscriptions.values_mut() {
            if let Some(link) = s.links.remove(client) {
                link.end();
                self.return_credit(std::iter::once(&link));
            }
        }
        self.outbox.forget_peer(client);
        info!(client = %self.name, peer = client, "peer left");
    }
}

impl State {
    /// Nobody waits for a word of this peer any more.
    fn no_word_from(&mut self, client: &str) {
        let ending: Vec<u64> = self.ending.keys().copied().collect();
        for subscription in ending {
            self.has_ended(subscription, client);
        }
        for s in self.subscriptions.values_mut() {
            s.unopened.remove(client);
            if let Some(unclosed) = &mut s.unclosed {
                unclosed.remove(client);
            }
        }
    }

    /// A peer knows that a subscription has ended.
    fn has_ended(&mut self, subscription: u64, client: &str) {
        if let Some(others) = self.ending.get_mut(&subscription) {
            others.remove(client);
            if others.is_empty() {
                self.ending.remove(&subscription);
            }
        }
    }
}

#[cfg(test)]
mod tests;
