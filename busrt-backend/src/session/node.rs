//! A node: the state that one bus handle's tasks and callers share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{Limits, PublisherId, process_epoch};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tracing::error;

use super::acks::AckBook;
use super::link::{Link, LinkState};
use super::outbox::Outbox;
use super::subscriptions::LocalSubscription;
use super::writer::Command;
use crate::wire::Refusal;

/// Another session on the broker.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: Arc<str>,
    /// Known once it has said hello or welcome.
    pub(crate) publisher: Option<PublisherId>,
    /// It has told its subscriptions.
    pub(crate) welcomed: bool,
    /// It knows this node: subscriptions are announced to it. One that has joined later does once
    /// it has said hello, and is told all subscriptions then.
    pub(crate) knows_us: bool,
}

/// What changes with control messages.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The directory's answer.
    pub(crate) joined: Option<Result<(), Refusal>>,
    pub(crate) peers: HashMap<String, Peer>,
    pub(crate) subscriptions: HashMap<u64, LocalSubscription>,
    /// Names of other nodes' subscriptions, with their node.
    pub(crate) remote_names: HashMap<String, (Arc<str>, u64)>,
    /// Subscriptions that have ended, with the nodes that have not said yet that they know.
    pub(crate) ending: HashMap<u64, BTreeSet<Arc<str>>>,
    pub(crate) closing: bool,
    /// Why the connection is gone.
    pub(crate) lost: Option<String>,
    /// What was not confirmed when it went.
    pub(crate) lost_unconfirmed: Vec<(Arc<Link>, u64)>,
    pub(crate) next_name: u64,
}

pub(crate) struct Node {
    /// Client name on the broker.
    pub(crate) name: Arc<str>,
    pub(crate) publisher: PublisherId,
    pub(crate) epoch: u64,
    pub(crate) limits: Limits,
    pub(crate) outbox: Outbox,
    pub(crate) acks: AckBook,
    pub(crate) state: Mutex<State>,
    /// Told on each change of `state`.
    pub(crate) changed: Notify,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) refused: AtomicU64,
    pub(crate) malformed: AtomicU64,
    /// Credit handed out and not returned, over all links.
    pub(crate) granted: Granted,
    lost: AtomicBool,
}

/// Credit handed out, in events and bytes.
#[derive(Debug, Default)]
pub(crate) struct Granted {
    pub(crate) events: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// Declares the connection lost when it is dropped: when its task ends, however that ends.
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
        commands: mpsc::Sender<Command>,
    ) -> Self {
        let epoch = process_epoch();
        Self {
            name,
            publisher,
            epoch,
            limits,
            outbox: Outbox::new(publisher, epoch),
            acks: AckBook::default(),
            state: Mutex::default(),
            changed: Notify::new(),
            commands,
            refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            granted: Granted::default(),
            lost: AtomicBool::new(false),
        }
    }

    /// The connection is gone: nothing is accepted any more, and whoever waits is told.
    pub(crate) fn lose(&self, reason: &str) {
        let inboxes: Vec<_> = {
            let mut state = self.state.lock();
            if state.lost.is_some() {
                return;
            }
            state.lost = Some(reason.to_owned());
            self.lost.store(true, Ordering::Release);
            state.lost_unconfirmed = self.outbox.unconfirmed();
            if !state.closing {
                error!(client = %self.name, reason, "connection to the broker lost");
            }
            state
                .subscriptions
                .values()
                .map(|s| Arc::clone(&s.inbox))
                .collect()
        };
        self.outbox.close();
        self.outbox.end_links(LinkState::Lost, |_| true);
        for inbox in inboxes {
            inbox.end();
        }
        self.changed.notify_waiters();
    }

    /// Whether the connection is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
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
