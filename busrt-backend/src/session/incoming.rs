//! The drain: takes every frame that arrives, at once.
//!
//! It waits for nothing but the next frame. If it waited for the application, the broker's queue
//! would fill behind it, and the broker throws out a client whose queue is full.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use busrt::{Error, FrameKind};
use bytes::Bytes;
use eventbus_trait::{Event, Payload, Topic, TopicFilter};
use tracing::{debug, trace, warn};

use super::acks::InLink;
use super::cost::events_cost;
use super::directory::{STOCK_BROKER, read_answer};
use super::inbox::Inbox;
use super::node::Node;
use crate::broker::DIRECTORY;
use crate::namespace;
use crate::topics;
use crate::transport::{Frames, Incoming};
use crate::wire::{Control, EventFrame, Events, StatusEntry, WireError, is_frame, read_resend};

/// Frames handled before other tasks of the runtime get a turn.
const TURN: u32 = 64;
/// Topics whose names are kept translated.
const MAX_TOPICS: usize = 4_096;

/// Runs until the connection ends; nothing of a connection is handled after that.
///
/// # Errors
/// The connection has not just been closed.
pub(crate) async fn run(node: Arc<Node>, mut frames: Frames) -> Result<(), Error> {
    let mut topics = HashMap::new();
    let mut turn = 0;
    while let Some(frame) = frames.next().await? {
        match frame.kind() {
            FrameKind::Publish => node.on_publish(&frame, &mut topics),
            FrameKind::Message => node.on_message(&frame),
            _ => {}
        }
        turn += 1;
        if turn % TURN == 0 {
            node.tasks.yield_now().await;
        }
    }
    Ok(())
}

/// A frame's part for one subscription of ours.
struct Share {
    inbox: Arc<Inbox>,
    link: Arc<InLink>,
    lagged: u64,
    /// Events at its beginning that the subscription has already.
    skip: usize,
}

impl Node {
    fn on_publish(&self, frame: &Incoming, topics: &mut HashMap<String, Option<Topic>>) {
        let name = frame.topic().unwrap_or_default();
        let topic = match topics.get(name) {
            Some(topic) => topic.clone(),
            None => {
                if topics.len() >= MAX_TOPICS {
                    topics.clear();
                }
                topics
                    .entry(name.to_owned())
                    .or_insert_with(|| self.topic_of(name))
                    .clone()
            }
        };
        let Some(topic) = topic else {
            trace!(topic = name, "not one of our topics");
            return;
        };
        let sender = frame.sender();
        let payload = frame.payload();
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

    /// The topic of a broker's name, if it is one of our bus.
    fn topic_of(&self, name: &str) -> Option<Topic> {
        let (namespace, _) = topics::split(name)?;
        let ours = namespace == namespace::of(&self.name);
        ours.then(|| topics::from_broker(name))?
            .map(Topic::interned)
    }

    fn on_events(&self, sender: &str, topic: &Topic, frame: EventFrame) {
        let mut shares = self.shares(sender, topic, &frame);
        let Some(last) = shares.pop() else { return };
        let events = match shares.is_empty() {
            true => frame.events,
            false => frame.events.shared(),
        };
        for share in shares {
            share.deliver(self, events.clone());
        }
        last.deliver(self, events);
    }

    /// Which subscriptions of ours a frame is for, and from which event on.
    fn shares(&self, sender: &str, topic: &Topic, frame: &EventFrame) -> Vec<Share> {
        let len = frame.events.len() as u64;
        let mut state = self.state.lock();
        let mut shares: Vec<Share> = Vec::with_capacity(1);
        let mut gaps = Vec::new();
        for entry in &frame.links {
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
            if entry.first > expected {
                if link.may_ask() {
                    warn!(subscription = %s.name, publisher = sender, first = expected, last = entry.first - 1, "gap");
                    gaps.push((entry.subscription, Arc::clone(&link.peer)));
                }
                continue;
            }
            let skip = expected - entry.first;
            trace!(subscription = %s.name, publisher = sender, first = entry.first, len, skip, "frame");
            if skip >= len && len > 0 {
                // The publisher does not know that it has arrived.
                self.acks.repeat(link, &self.outbox.wake);
                continue;
            }
            shares.push(Share {
                inbox: Arc::clone(&s.inbox),
                link: Arc::clone(link),
                lagged: link.newly_dropped(entry.dropped),
                skip: usize::try_from(skip).unwrap_or(usize::MAX),
            });
        }
        for (id, peer) in gaps {
            self.ask_again(&mut state, id, &peer);
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
            inbox.push(None, vec![event].into(), 0);
        }
    }

    fn on_message(&self, frame: &Incoming) {
        let sender = frame.sender();
        if sender == STOCK_BROKER {
            if let Some(mut names) = read_answer(&frame.payload()) {
                names.retain(|name| self.shares_its_bus_with(name));
                self.on_listed(names);
                self.message_handled();
            }
            return;
        }
        let payload = frame.payload();
        if self.calls.port.on_message(sender, &payload) {
            return;
        }
        let message = match self.read_message(sender, &payload) {
            Ok(Some(message)) => message,
            Ok(None) => return,
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
        self.message_handled();
    }

    fn message_handled(&self) {
        self.check_up();
        self.changed.notify_waiters();
    }

    /// Takes in events that are sent again; returns any other message of ours.
    fn read_message(&self, sender: &str, payload: &Bytes) -> Result<Option<Control>, WireError> {
        if let Some((topic, frame)) = read_resend(payload)? {
            self.on_events(sender, &topic, EventFrame::read(&topic, &frame)?);
            return Ok(None);
        }
        let message = Control::read(payload)?;
        if message.is_none() {
            trace!(sender, "message that is none of ours");
        }
        Ok(message)
    }

    fn on_directory(&self, message: Control) {
        match message {
            Control::Members(mut members) => {
                members.retain(|member| self.shares_its_bus_with(&member.client));
                self.on_members(members);
            }
            Control::JoinRefused(refusal) => self.state.lock().refused = Some(refusal),
            Control::Joined(member) | Control::Left(member) | Control::Lost(member)
                if !self.shares_its_bus_with(&member.client) => {}
            Control::Joined(member) => self.on_joined(&member.client),
            Control::Left(member) => self.on_left(&member.client),
            Control::Lost(member) => self.on_lost(&member.client),
            Control::Grant { publish, .. } => self.set_grant(Some(publish)),
            _ => {}
        }
    }

    /// Whether a client is in the same namespace. Whoever is not does not exist for us.
    fn shares_its_bus_with(&self, client: &str) -> bool {
        namespace::of(client) == namespace::of(&self.name)
    }

    fn on_peer(&self, sender: &str, message: Control) {
        if !self.shares_its_bus_with(sender) {
            return debug!(client = %self.name, sender, "message of another namespace");
        }
        match message {
            Control::Hello {
                publisher,
                subscriptions,
            } => self.on_hello(sender, publisher, subscriptions),
            Control::Welcome {
                publisher,
                subscriptions,
            } => {
                self.on_welcome(sender, publisher, subscriptions);
            }
            Control::Open(info) => self.on_open(sender, info),
            Control::Opened {
                subscription,
                first,
            } => self.on_opened(sender, subscription, first),
            Control::OpenRefused {
                subscription,
                refusal,
            } => self.on_refused(sender, subscription, refusal),
            Control::Close { subscription } => self.on_close(sender, subscription),
            Control::Closed(status) => self.on_closed(sender, &status),
            Control::Ack(acks) => self.outbox.acknowledge(sender, &acks),
            Control::Status(entries) => self.on_status(sender, &entries),
            Control::Leave => self.on_left(sender),
            other => warn!(sender, message = ?other, "message that only a directory sends"),
        }
    }

    /// A publisher tells of drops that no frame has told, or asks where we stand. Everything that
    /// it sent on the link before has arrived, so what is missing is lost.
    fn on_status(&self, sender: &str, entries: &[StatusEntry]) {
        for entry in entries {
            let mut state = self.state.lock();
            let found = state.subscriptions.get(&entry.subscription);
            let share =
                found.and_then(|s| Some((Arc::clone(&s.inbox), Arc::clone(s.links.get(sender)?))));
            let Some((inbox, link)) = share else { continue };
            if !link.may_reach(entry.next) {
                let name = state.subscriptions.get(&entry.subscription);
                let name = name.map(|s| Arc::clone(&s.name)).unwrap_or_default();
                drop(state);
                self.beyond_credit(sender, &name, entry.next);
                continue;
            }
            if entry.next > link.received() {
                warn!(
                    subscription = entry.subscription,
                    publisher = sender,
                    first = link.received(),
                    last = entry.next - 1,
                    "tail lost"
                );
                self.ask_again(&mut state, entry.subscription, &link.peer);
                continue;
            }
            drop(state);
            let lagged = link.newly_dropped(entry.dropped);
            if lagged > 0 {
                inbox.push(Some(&link), Events::none(), lagged);
            }
            self.acks.repeat(&link, &self.outbox.wake);
        }
    }

    /// The front door says what we may publish; `None` is everything.
    pub(crate) fn set_grant(&self, publish: Option<Vec<TopicFilter>>) {
        let publish = publish.filter(|filters| filters.iter().all(|filter| filter.as_str() != "#"));
        self.restricted.store(publish.is_some(), Ordering::Release);
        self.state.lock().may_publish = publish;
    }
}

impl Share {
    fn deliver(self, node: &Node, mut events: Events) {
        events.let_go(self.skip);
        let len = events.len() as u64;
        let bytes = events_cost(&events);
        if self.inbox.push(Some(&self.link), events, self.lagged) {
            self.link.receive(len, bytes);
            node.acks.note(&self.link, &node.outbox.wake);
        }
    }
}
