//! Knowing the other sessions, and being known, before anything is published.
//!
//! A node joins at the directory, says hello to everybody in the list, and has joined once each
//! has told its subscriptions. From then on no subscription is unknown to it: who subscribes later
//! has heard its hello and announces to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventbus_trait::{ConnectError, PublisherId};
use tracing::{debug, warn};

use super::link::LinkState;
use super::node::{Node, Peer, State};
use crate::broker::DIRECTORY;
use crate::wire::{Control, Member, Refusal, StatusEntry, SubscriptionInfo};

impl Node {
    /// Joins the bus.
    pub(crate) async fn join(&self, address: &str, deadline: Duration) -> Result<(), ConnectError> {
        let started = Instant::now();
        self.outbox.send_urgent(&DIRECTORY.into(), Control::Join);
        self.until(deadline, |state| {
            state.lost.is_some() || state.joined.is_some()
        })
        .await;
        let refused = |reason: &str| ConnectError::Refused {
            address: address.to_owned(),
            reason: reason.to_owned(),
        };
        {
            let state = self.state.lock();
            match (&state.lost, &state.joined) {
                (Some(reason), _) => return Err(refused(reason)),
                (None, Some(Ok(()))) => {}
                (None, Some(Err(Refusal::TooManyMembers))) => {
                    return Err(refused("it has as many connections as it may have"));
                }
                (None, Some(Err(Refusal::NameInUse))) => {
                    return Err(ConnectError::NameInUse {
                        name: self.name.to_string(),
                    });
                }
                (None, None) => return Err(self.silent(address, started)),
            }
        }
        let rest = deadline.saturating_sub(started.elapsed());
        let welcomed = |state: &State| state.peers.values().all(|peer| peer.welcomed);
        let done = self
            .until(rest, |state| state.lost.is_some() || welcomed(state))
            .await;
        match (&self.state.lock().lost, done) {
            (Some(reason), _) => return Err(refused(reason)),
            (None, true) => return Ok(()),
            (None, false) => {}
        }
        Err(self.silent(address, started))
    }

    fn silent(&self, address: &str, started: Instant) -> ConnectError {
        let waiting: Vec<_> = self
            .state
            .lock()
            .peers
            .values()
            .filter(|p| !p.welcomed)
            .map(|p| p.name.clone())
            .collect();
        debug!(client = %self.name, ?waiting, "no answer while joining");
        ConnectError::Timeout {
            address: address.to_owned(),
            waited: started.elapsed(),
        }
    }

    pub(crate) fn on_members(&self, members: Vec<Member>) {
        let mut state = self.state.lock();
        for Member { client } in members {
            if *client == *self.name {
                continue;
            }
            let name: Arc<str> = client.as_str().into();
            let hello = Control::Hello {
                publisher: self.publisher,
                subscriptions: Vec::new(),
            };
            self.outbox.send_urgent(&name, hello);
            let peer = Peer {
                name,
                publisher: None,
                welcomed: false,
                knows_us: true,
            };
            state.peers.entry(client).or_insert(peer);
        }
        state.joined = Some(Ok(()));
    }

    /// The directory knows a new node, which will say hello. Whoever is not announced so is a
    /// stranger, and is not listened to.
    pub(crate) fn on_joined(&self, client: &str) {
        let peer = Peer {
            name: client.into(),
            publisher: None,
            // It has no subscription yet, and announces those that it makes.
            welcomed: true,
            knows_us: false,
        };
        self.state
            .lock()
            .peers
            .entry(client.to_owned())
            .or_insert(peer);
    }

    /// A new node says hello: it is told every subscription, and every later one is announced to
    /// it.
    pub(crate) fn on_hello(&self, sender: &str, publisher: PublisherId) {
        let mut state = self.state.lock();
        let Some(peer) = state.peers.get_mut(sender) else {
            return self.stranger(sender);
        };
        peer.publisher = Some(publisher);
        peer.knows_us = true;
        let name = Arc::clone(&peer.name);
        let subscriptions = self.offers_for(&mut state, &name);
        let welcome = Control::Welcome {
            publisher: self.publisher,
            subscriptions,
        };
        self.outbox.answer(&name, welcome);
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
        for subscription in subscriptions {
            self.on_open(sender, subscription);
        }
        if let Some(peer) = self.state.lock().peers.get_mut(sender) {
            peer.publisher = Some(publisher);
            peer.welcomed = true;
        }
    }

    /// Another node's subscription: opens a link, unless its name is taken.
    pub(crate) fn on_open(&self, sender: &str, info: SubscriptionInfo) {
        let name: Arc<str> = sender.into();
        let subscription = info.id;
        {
            let mut state = self.state.lock();
            if !state.peers.contains_key(sender) {
                return self.stranger(sender);
            }
            if self.name_is_ours(&state, sender, &info) {
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
            state
                .remote_names
                .insert(info.name.clone(), (Arc::clone(&name), subscription));
        }
        let opened = Control::Opened {
            subscription,
            first: 0,
        };
        self.outbox.open_link(&name, info, Some(opened));
    }

    /// Whether a subscription of ours has the name. Of two that are made at once, the one of the
    /// node with the lower identity has it; both nodes decide so.
    fn name_is_ours(&self, state: &State, sender: &str, info: &SubscriptionInfo) -> bool {
        let ours = state.subscriptions.values().find(|s| *s.name == *info.name);
        let theirs = state.peers.get(sender).and_then(|peer| peer.publisher);
        ours.is_some_and(|s| s.stands() || theirs.is_none_or(|theirs| self.publisher < theirs))
    }

    pub(crate) fn on_opened(&self, sender: &str, subscription: u64) {
        if let Some(s) = self.state.lock().subscriptions.get_mut(&subscription) {
            s.unopened.remove(sender);
        }
    }

    pub(crate) fn on_refused(&self, subscription: u64, refusal: Refusal) {
        if let Some(s) = self.state.lock().subscriptions.get_mut(&subscription) {
            s.refused = Some(refusal);
        }
    }

    /// Another node's subscription ends.
    pub(crate) fn on_close(&self, sender: &str, subscription: u64) {
        self.state
            .lock()
            .remote_names
            .retain(|_, (peer, id)| **peer != *sender || *id != subscription);
        self.outbox.end_links(LinkState::Closed, |l| {
            l.subscription == subscription && *l.peer == *sender
        });
    }

    /// A publisher has sent everything that it had for a subscription that ends.
    pub(crate) fn on_closed(&self, sender: &str, status: &StatusEntry) {
        let tail = {
            let mut state = self.state.lock();
            if let Some(others) = state.ending.get_mut(&status.subscription) {
                others.remove(sender);
            }
            let Some(s) = state.subscriptions.get_mut(&status.subscription) else {
                return;
            };
            if let Some(unclosed) = &mut s.unclosed {
                unclosed.remove(sender);
            }
            let link = s.links.get(sender).map(Arc::clone);
            link.map(|link| (Arc::clone(&s.inbox), link))
        };
        if let Some((inbox, link)) = tail {
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
                inbox.push(Some(&link), Vec::new(), lagged);
            }
        }
    }

    /// A node is gone, with or without a word.
    pub(crate) fn on_left(&self, client: &str) {
        {
            let mut state = self.state.lock();
            state.peers.remove(client);
            state.remote_names.retain(|_, (peer, _)| **peer != *client);
            for others in state.ending.values_mut() {
                others.remove(client);
            }
            for s in state.subscriptions.values_mut() {
                s.unopened.remove(client);
                if let Some(unclosed) = &mut s.unclosed {
                    unclosed.remove(client);
                }
                if let Some(link) = s.links.remove(client) {
                    link.end();
                    self.return_credit(std::iter::once(&link));
                }
            }
        }
        let lost = self
            .outbox
            .end_links(LinkState::Lost, |link| *link.peer == *client);
        if lost > 0 {
            warn!(client = %self.name, peer = client, links = lost, "peer left with open links");
        }
    }
}
