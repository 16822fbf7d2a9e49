//! A node: the state that one bus handle's tasks and callers share.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::{Limits, PublisherId, process_epoch};
use futures_timer::Delay;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tracing::error;

use super::acks::AckBook;
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
    pub(crate) closing: bool,
    /// Why the connection is gone.
    pub(crate) lost: Option<String>,
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
    /// Events of credit handed out and not returned, over all links.
    pub(crate) granted: AtomicU64,
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
            granted: AtomicU64::new(0),
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
        self.outbox
            .end_links(super::link::LinkState::Lost, |_| true);
        for inbox in inboxes {
            inbox.end();
        }
        self.changed.notify_waiters();
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
