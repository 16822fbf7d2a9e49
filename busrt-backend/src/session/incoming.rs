//! The drain: takes every frame that arrives, at once.
//!
//! It waits for nothing but the next frame. If it waited for the application, the broker's queue
//! would fill behind it, and the broker throws out a client whose queue is full.

use std::collections::HashMap;
use std::sync::Arc;

use busrt::{EventChannel, Frame, FrameKind};
use bytes::Bytes;
use eventbus_trait::{Event, Payload, Topic};
use tracing::{error, trace, warn};

use super::acks::InLink;
use super::inbox::Inbox;
use super::node::Node;
use super::outbox::event_cost;
use crate::broker::DIRECTORY;
use crate::topics;
use crate::wire::{Control, EventFrame, LinkEntry, StatusEntry, is_frame};

/// Frames handled before other tasks of the runtime get a turn.
const TURN: u32 = 64;
/// Topics whose names are kept translated.
const MAX_TOPICS: usize = 4_096;

/// A busrt frame as the owner of its payload's bytes.
struct Owned(Frame);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

/// Runs until the connection ends.
pub(crate) async fn run(node: Arc<Node>, frames: EventChannel) {
    let _lost = node.lost_on_drop("the broker closed it");
    let mut topics = HashMap::new();
    let mut turn = 0;
    while let Ok(frame) = frames.recv().await {
        match frame.kind() {
            FrameKind::Publish => node.on_publish(&frame, &mut topics),
            FrameKind::Message => node.on_message(&frame),
            _ => {}
        }
        turn += 1;
        if turn % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A frame's part for one subscription of ours.
struct Share {
    inbox: Arc<Inbox>,
    link: Arc<InLink>,
    lagged: u64,
}

impl Node {
    fn on_publish(&self, frame: &Frame, topics: &mut HashMap<String, Option<Topic>>) {
        let name = frame.topic().unwrap_or_default();
        let topic = match topics.get(name) {
            Some(topic) => topic.clone(),
            None => {
                if topics.len() >= MAX_TOPICS {
                    topics.clear();
                }
                topics
                    .entry(name.to_owned())
                    .or_insert(topics::from_broker(name))
                    .clone()
            }
        };
        let Some(topic) = topic else {
            trace!(topic = name, "not one of our topics");
            return;
        };
        let sender = frame.sender();
        let payload = Bytes::from_owner(Owned(Arc::clone(frame)));
        if !is_frame(&payload) {
            return self.on_foreign(&topic, payload);
        }
        match EventFrame::read(&topic, &payload) {
            Ok(frame) => self.on_events(sender, &topic, frame),
            Err(reason) => {
                self.count_malformed();
                warn!(%topic, sender, %reason, "unreadable frame");
            }
        }
    }

    fn on_events(&self, sender: &str, topic: &Topic, frame: EventFrame) {
        let len = frame.events.len() as u64;
        let mut shares = self.shares(sender, topic, &frame.links, len);
        let Some(last) = shares.pop() else { return };
        let bytes: u64 = frame.events.iter().map(event_cost).sum();
        for share in shares {
            share.deliver(self, frame.events.clone(), len, bytes);
        }
        last.deliver(self, frame.events, len, bytes);
    }

    /// Which subscriptions of ours a frame is for. A link that the frame does not continue without
    /// a gap has lost something on the way; it is counted and said.
    fn shares(&self, sender: &str, topic: &Topic, entries: &[LinkEntry], len: u64) -> Vec<Share> {
        let state = self.state.lock();
        let mut shares: Vec<Share> = Vec::with_capacity(1);
        for entry in entries {
            let Some(s) = state.subscriptions.get(&entry.subscription) else {
                continue;
            };
            let Some(link) = s.links.get(sender) else {
                continue;
            };
            let expected = link.received();
            let twice = shares.iter().any(|share| Arc::ptr_eq(&share.link, link));
            if twice || !s.takes(topic) || !link.covers(entry.first, len) {
                self.count_malformed();
                warn!(subscription = %s.name, publisher = sender, %topic, first = entry.first, len, "frame without a right to be here");
                continue;
            }
            if entry.first < expected {
                warn!(subscription = %s.name, publisher = sender, first = entry.first, expected, "repeated frame");
                continue;
            }
            let mut lagged = link.newly_dropped(entry.dropped);
            if entry.first > expected {
                let missing = entry.first - expected;
                error!(subscription = %s.name, publisher = sender, first = expected, last = entry.first - 1, "gap");
                link.miss(missing);
                lagged = lagged.saturating_add(missing);
            }
            trace!(subscription = %s.name, publisher = sender, first = entry.first, len, "frame");
            shares.push(Share {
                inbox: Arc::clone(&s.inbox),
                link: Arc::clone(link),
                lagged,
            });
        }
        shares
    }

    /// An event of a client that knows nothing of sessions: no link, no credit, so a subscription
    /// that has no room drops it.
    fn on_foreign(&self, topic: &Topic, payload: Bytes) {
        let inboxes: Vec<_> = {
            let state = self.state.lock();
            let taking = state.subscriptions.values().filter(|s| s.takes(topic));
            taking.map(|s| Arc::clone(&s.inbox)).collect()
        };
        for inbox in inboxes {
            let event = Event::on(topic.clone(), Payload::raw(payload.clone()));
            inbox.push(None, vec![event], 0);
        }
    }

    fn on_message(&self, frame: &Frame) {
        let sender = frame.sender();
        let message = match Control::read(&Bytes::copy_from_slice(frame.payload())) {
            Ok(Some(message)) => message,
            Ok(None) => {
                trace!(sender, "message that is none of ours");
                return;
            }
            Err(reason) => {
                self.count_malformed();
                warn!(sender, %reason, "unreadable message");
                return;
            }
        };
        trace!(client = %self.name, sender, ?message, "message");
        if sender == DIRECTORY {
            self.on_directory(message)
        } else {
            self.on_peer(sender, message)
        }
        self.changed.notify_waiters();
    }

    fn on_directory(&self, message: Control) {
        match message {
            Control::Members(members) => self.on_members(members),
            Control::JoinRefused(refusal) => self.state.lock().joined = Some(Err(refusal)),
            Control::Joined(member) => self.on_joined(&member.client),
            Control::Left(member) => self.on_left(&member.client),
            _ => {}
        }
    }

    fn on_peer(&self, sender: &str, message: Control) {
        match message {
            Control::Hello { publisher, .. } => self.on_hello(sender, publisher),
            Control::Welcome {
                publisher,
                subscriptions,
            } => {
                self.on_welcome(sender, publisher, subscriptions);
            }
            Control::Open(info) => self.on_open(sender, info),
            Control::Opened { subscription, .. } => self.on_opened(sender, subscription),
            Control::OpenRefused {
                subscription,
                refusal,
            } => self.on_refused(subscription, refusal),
            Control::Close { subscription } => self.on_close(sender, subscription),
            Control::Closed(status) => self.on_closed(sender, &status),
            Control::Ack(acks) => self.outbox.acknowledge(sender, &acks),
            Control::Status(entries) => self.on_status(sender, &entries),
            other => warn!(sender, message = ?other, "message that only a directory sends"),
        }
    }

    /// A publisher tells of drops that no frame has told.
    fn on_status(&self, sender: &str, entries: &[StatusEntry]) {
        for entry in entries {
            let share = {
                let state = self.state.lock();
                let found = state.subscriptions.get(&entry.subscription);
                found.and_then(|s| Some((Arc::clone(&s.inbox), Arc::clone(s.links.get(sender)?))))
            };
            if let Some((inbox, link)) = share {
                let lagged = link.newly_dropped(entry.dropped);
                if lagged > 0 {
                    inbox.push(Some(&link), Vec::new(), lagged);
                }
            }
        }
    }
}

impl Share {
    fn deliver(self, node: &Node, events: Vec<Event>, len: u64, bytes: u64) {
        self.inbox.push(Some(&self.link), events, self.lagged);
        self.link.receive(len, bytes);
        node.acks.note(&self.link, &node.outbox.wake);
    }
}
