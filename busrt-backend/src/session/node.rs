//! A node: the state that one bus handle's tasks and callers share.
//!
//! It outlives its connection. While there is none, publishing goes on as far as there is room,
//! and what subscriptions have can be read; when there is one again, every other node is told
//! where our subscriptions stand and tells where its own do (see [`membership`](super::membership)).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{BusState, Limits, PublisherId, Throttle, TopicFilter, process_epoch};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::acks::AckBook;
use super::command::Command;
use super::link::Link;
use super::outbox::Outbox;
use super::subscriptions::LocalSubscription;
use crate::calls::Calls;
use crate::wire::Refusal;
use crate::work::Tasks;

/// Another session on the broker.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    /// Known once it has said hello or welcome.
    pub(crate) publisher: Option<PublisherId>,
    /// It has told its subscriptions since it, or we, came.
    pub(crate) welcomed: bool,
    /// It has been told ours since then: later ones are announced to it.
    pub(crate) knows_us: bool,
    /// Since when it has not been on the broker, while we were.
    pub(crate) away: Option<Instant>,
    /// It has been away for so long that the credit set aside for it was returned.
    pub(crate) parked: bool,
}

impl Peer {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            publisher: None,
            welcomed: false,
            knows_us: false,
            away: None,
            parked: false,
        }
    }

    /// It is on the broker and has not told its subscriptions.
    pub(crate) fn is_silent(&self) -> bool {
        self.away.is_none() && !self.welcomed
    }
}

/// What changes with control messages.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The directory has counted us in, since the last connection was made.
    pub(crate) joined: bool,
    /// The directory's last refusal.
    pub(crate) refused: Option<Refusal>,
    /// It is a stock broker, which announces nobody: whoever says hello is a peer.
    pub(crate) polled: bool,
    /// Joined, and in step with every node that is there.
    pub(crate) up: bool,
    pub(crate) peers: HashMap<String, Peer>,
    pub(crate) subscriptions: HashMap<u64, LocalSubscription>,
    /// Names of other nodes' subscriptions, with their node.
    pub(crate) remote_names: HashMap<String, (Arc<str>, u64)>,
    /// Subscriptions that have ended, with the nodes that have not said yet that they know.
    pub(crate) ending: HashMap<u64, BTreeSet<Arc<str>>>,
    pub(crate) closing: bool,
    /// Subscriptions that have ended and whose patterns the broker still has.
    pub(crate) unneeded: Vec<u64>,
    /// Since when there has been no connection.
    pub(crate) down_since: Option<Instant>,
    /// Why there is no connection now, and will be one again.
    pub(crate) down: Option<String>,
    /// Why there will be none any more.
    pub(crate) lost: Option<String>,
    /// What was not confirmed then.
    pub(crate) lost_unconfirmed: Vec<(Arc<Link>, u64)>,
    pub(crate) next_name: u64,
    /// What the broker lets us publish, if it said.
    pub(crate) may_publish: Option<Vec<TopicFilter>>,
}

pub(crate) struct Node {
    /// Client name on the broker.
    pub(crate) name: Arc<str>,
    pub(crate) publisher: PublisherId,
    pub(crate) limits: Limits,
    /// The rate limit, if there is one.
    pub(crate) throttle: Option<Throttle>,
    /// How long a peer may stay away before its links are given up.
    pub(crate) link_timeout: Duration,
    pub(crate) outbox: Outbox,
    pub(crate) acks: AckBook,
    pub(crate) calls: Calls,
    pub(crate) state: Mutex<State>,
    /// Told on each change of `state`.
    pub(crate) changed: Notify,
    pub(crate) commands: mpsc::Sender<Command>,
    /// Where its tasks run.
    pub(crate) tasks: Tasks,
    pub(crate) watch: watch::Sender<BusState>,
    pub(crate) refused: AtomicU64,
    pub(crate) malformed: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    pub(crate) resends: AtomicU64,
    pub(crate) given_up: AtomicU64,
    /// Credit handed out and not returned, over all links.
    pub(crate) granted: Granted,
    /// Events of credit to hand out in all, but for one event a link.
    pub(crate) credit_budget: AtomicU64,
    /// The broker limits what we may publish.
    pub(crate) restricted: AtomicBool,
}

/// Credit handed out, in events and bytes.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Declares the node lost when it is dropped: when its task ends, however that ends.
pub(crate) struct LostOnDrop {
    node: Arc<Node>,
    reason: &'static str,
}

impl Drop for LostOnDrop {
    fn drop(&mut self) {
        self.node.lose(self.reason);
    }
}

impl Node {
    pub(crate) fn new(
        name: Arc<str>,
        publisher: PublisherId,
        limits: Limits,
        link_timeout: Duration,
        commands: mpsc::Sender<Command>,
        tasks: Tasks,
    ) -> Self {
        let connecting = BusState::Connecting {
            attempts: 0,
            reason: "joining".to_owned(),
        };
        Self {
            calls: Calls::new(Arc::clone(&name), limits.max_calls),
            name,
            publisher,
            throttle: limits.rate.map(Throttle::new),
            limits,
            link_timeout,
            outbox: Outbox::new(publisher, process_epoch()),
            acks: AckBook::default(),
            state: Mutex::default(),
            changed: Notify::new(),
            commands,
            tasks,
            watch: watch::Sender::new(connecting),
            refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            resends: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            granted: Granted::default(),
            credit_budget: AtomicU64::new(super::CREDIT_BUDGET),
            restricted: AtomicBool::new(false),
        }
    }

    /// There is no connection for now. What is under way stays where it is; whoever waits for a
    /// word of a peer need not wait for it any more.
    pub(crate) fn go_down(&self, reason: &str) {
        let closing = {
            let mut state = self.state.lock();
            state.down = Some(reason.to_owned());
            state.down_since.get_or_insert_with(Instant::now);
            state.joined = false;
            state.up = false;
            let State {
                peers,
                subscriptions,
                ending,
                ..
            } = &mut *state;
            for peer in peers.values_mut() {
                peer.welcomed = false;
                peer.knows_us = false;
            }
            ending.clear();
            for s in subscriptions.values_mut() {
                s.disconnected();
            }
            state.closing
        };
        self.outbox.go_offline();
        self.calls.port.offline(reason);
        if !closing {
            warn!(client = %self.name, reason, "connection to the broker lost");
        }
        self.tell_connecting(0, reason);
        self.changed.notify_waiters();
    }

    pub(crate) fn tell_connecting(&self, attempts: u32, reason: &str) {
        self.watch.send_replace(BusState::Connecting {
            attempts,
            reason: reason.to_owned(),
        });
    }

    /// Notes that the node is in step with everybody, if it is.
    pub(crate) fn check_up(&self) {
        {
            let mut state = self.state.lock();
            let there = |peer: &Peer| peer.away.is_none();
            if state.up
                || !state.joined
                || !state
                    .peers
                    .values()
                    .filter(|p| there(p))
                    .all(|p| p.welcomed)
            {
                return;
            }
            state.up = true;
            state.down = None;
            info!(client = %self.name, peers = state.peers.len(), "connected");
        }
        self.watch.send_replace(BusState::Connected);
        self.changed.notify_waiters();
    }

    /// There will be no connection any more: nothing is accepted, and whoever waits is told.
    pub(crate) fn lose(&self, reason: &str) {
        let inboxes: Vec<_> = {
            let mut state = self.state.lock();
            if state.lost.is_some() {
                return;
            }
            state.lost = Some(reason.to_owned());
            state.lost_unconfirmed = self.outbox.unconfirmed();
            if !state.closing {
                error!(client = %self.name, reason, "session ended");
            }
            state
                .subscriptions
                .values()
                .map(|s| Arc::clone(&s.inbox))
                .collect()
        };
        self.outbox.close();
        self.calls.port.lose(reason);
        self.end_turns();
        for (link, _) in self.outbox.take_links(|_| true) {
            link.lose("not confirmed when its session ended");
        }
        self.outbox.give_up_unsent();
        for inbox in inboxes {
            inbox.end();
        }
        self.watch.send_replace(BusState::Closed);
        self.changed.notify_waiters();
    }

    /// Nobody waits for a turn under the rate limit any more.
    pub(crate) fn end_turns(&self) {
        if let Some(throttle) = &self.throttle {
            throttle.close();
        }
    }

    pub(crate) fn lost_on_drop(self: &Arc<Self>, reason: &'static str) -> LostOnDrop {
        LostOnDrop {
            node: Arc::clone(self),
            reason,
        }
    }

    /// Why nothing can be done any more, if so.
    pub(crate) fn gone(&self) -> Option<Gone> {
        let state = self.state.lock();
        if state.closing {
            return Some(Gone::Closed);
        }
        state.lost.clone().map(|reason| Gone::Lost { reason })
    }

    /// Waits until `done` is true of the state, or the deadline. Whether it became true.
    pub(crate) async fn until(
        &self,
        deadline: Duration,
        mut done: impl FnMut(&State) -> bool,
    ) -> bool {
        let mut timer = Delay::new(deadline);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if done(&self.state.lock()) {
                return true;
            }
            tokio::select! {
                () = &mut changed => {}
                () = &mut timer => return done(&self.state.lock()),
            }
        }
    }

    pub(crate) fn count_malformed(&self) {
        self.malformed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Why an operation is not possible any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gone {
    Closed,
    Lost { reason: String },
}

/// Names of peers, for an error.
pub(crate) fn names(peers: &BTreeSet<Arc<str>>) -> Vec<String> {
    peers.iter().map(|name| name.to_string()).collect()
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
