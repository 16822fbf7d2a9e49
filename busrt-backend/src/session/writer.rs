//! The writer: what sends over one connection, in the order that [`sending`] has.
//!
//! No caller's future ever touches a connection: callers put things into the outbox and wait there.
//! What is sent here leaves with the next flush, or earlier if it is much. The writer sends what is
//! waiting: an idle bus sends at once, a busy one sends large frames. Only under a load does it wait for
//! more, at its [`pace`](super::pace).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use busrt::{Error, ErrorKind};
use eventbus_trait::{count, fate};
use tokio::time::timeout;
use tracing::{debug, info};

use super::kept::Again;
use super::link::Link;
use super::node::Node;
use super::run::{Run, Taken};
use super::sending::{self, Wire};
use crate::namespace;
use crate::topics;
use crate::transport::Client;
use crate::wire::{AckEntry, Control, FrameWriter, LinkEntry, MAX_COUNT, begin_resend};

/// How long the broker may take to handle our last word.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

pub(crate) struct Writer {
    pub(crate) node: Arc<Node>,
    pub(crate) client: Client,
    namespace: Option<String>,
}

impl Writer {
    pub(crate) fn new(node: Arc<Node>, client: Client) -> Self {
        let namespace = namespace::of(&node.name).map(str::to_owned);
        Self {
            node,
            namespace,
            client,
        }
    }

    pub(crate) fn is_in_process(&self) -> bool {
        self.client.is_in_process()
    }

    /// Sends everything that was taken. What could not be sent stays in `taken`, but for messages
    /// and the run whose sending failed: that one is kept by its links.
    pub(crate) async fn send_all(&mut self, taken: &mut Taken) -> Result<(), Error> {
        let node = Arc::clone(&self.node);
        sending::send_all(&node.outbox, taken, self).await
    }

    /// Leaves, behind the last events, because whoever hears of it forgets our links; and waits
    /// until the broker has handled it. The broker drops what it has not read yet if it finds,
    /// writing to us, that we are gone.
    pub(crate) async fn leave(&mut self, whom: &[Arc<str>]) {
        let leave = Control::Leave.write();
        let mut handled = None;
        for to in whom {
            let sent = self.client.send(to, leave.clone(), true).await;
            if let Ok(Some(confirm)) = sent {
                handled = Some(confirm);
            }
        }
        let left = async {
            if let Some(handled) = handled {
                let _ = self.client.answered(handled).await;
            }
            self.client.close().await;
        };
        let _ = timeout(LEAVE_PATIENCE, left).await;
    }

    /// Sends a message to one client. A client that is gone is no error: the directory tells.
    async fn send(&mut self, to: &Arc<str>, message: &Control) -> Result<(), Error> {
        self.send_bytes(to, message.write()).await
    }

    async fn send_bytes(&mut self, to: &Arc<str>, payload: Vec<u8>) -> Result<(), Error> {
        match self.client.send(to, payload, false).await {
            Ok(_) => Ok(()),
            // In process, a client that is about to go has closed its end already.
            Err(e)
                if e.kind() == ErrorKind::NotRegistered
                    || (self.is_in_process() && e.kind() == ErrorKind::Eof) =>
            {
                debug!(to = %to, "message to a client that is gone");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn frame_of(&self, prefix: Vec<u8>, links: &[LinkEntry], run: &Run, skip: u32) -> Vec<u8> {
        let hint = run.written.bytes();
        let mut frame = FrameWriter::after(prefix, run.publisher, run.epoch, links, hint);
        frame.append(&run.written, skip);
        frame.finish()
    }

    /// Asks subscribers that are silent where they stand.
    pub(crate) async fn beat(&mut self) -> Result<(), Error> {
        for (peer, entry) in self.node.outbox.heartbeats() {
            debug!(%peer, subscription = entry.subscription, next = entry.next, "heartbeat");
            self.send(&peer, &Control::Status(vec![entry])).await?;
        }
        Ok(())
    }

    pub(crate) async fn acknowledge(&mut self) -> Result<(), Error> {
        let mut by_peer: HashMap<Arc<str>, Vec<AckEntry>> = HashMap::new();
        for (peer, entry) in self.node.acks.take(|link| self.node.allot_more(link)) {
            by_peer.entry(peer).or_default().push(entry);
        }
        for (peer, entries) in by_peer {
            if peer == self.node.name {
                self.node.outbox.acknowledge(&peer, &entries);
                continue;
            }
            for entries in entries.chunks(MAX_COUNT) {
                self.send(&peer, &Control::Ack(entries.to_vec())).await?;
            }
        }
        Ok(())
    }
}

impl Wire for Writer {
    type Error = Error;

    async fn message(&mut self, to: &Arc<str>, message: &Control) -> Result<(), Error> {
        self.send(to, message).await
    }

    async fn frame(&mut self, run: &Run, links: &[LinkEntry]) -> Result<(), Error> {
        let frame = self.frame_of(Vec::new(), links, run, 0);
        let topic = topics::within(&run.route.broker_topic, self.namespace.as_deref());
        self.client.publish(&topic, frame, false).await?;
        Ok(())
    }

    async fn frame_again(&mut self, link: &Link, again: &Again) -> Result<(), Error> {
        let prefix = begin_resend(&again.run.route.topic);
        let frame = self.frame_of(prefix, &[again.entry], &again.run, again.skip);
        let events = again.next() - again.entry.first;
        self.send_bytes(&link.peer, frame).await?;
        count(&self.node.resends, events);
        if fate::is_told() {
            for event in again.run.events(again.skip) {
                fate::sent_again(&link.name, &event, "its subscriber has not confirmed it");
            }
        }
        Ok(())
    }

    fn sent_again(&mut self, link: &Link, first: u64, next: u64) {
        info!(subscription = %link.name, peer = %link.peer, publisher = %self.node.publisher, first, last = next.saturating_sub(1), "sent again");
    }
}
