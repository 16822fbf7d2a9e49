//! The writer: the one task that owns the busrt client.
//!
//! busrt kills a connection whose write is cancelled, so no caller's future ever touches it:
//! callers put things into the outbox and wait there. The writer sends what is waiting, never
//! waits for more: an idle bus sends at once, a busy one sends large frames.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use busrt::{Error, QoS};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::debug;

use super::link::{Link, LinkState};
use super::node::Node;
use super::outbox::{Item, Queued};
use super::routes::Route;
use crate::transport::Client;
use crate::wire::{AckEntry, Control, FrameWriter, LinkEntry};

/// Most events in a frame.
const MAX_EVENTS: usize = 1_000;
/// Bytes after which a frame takes no further event.
const FRAME_BYTES: usize = 128 * 1024;
/// How long an acknowledgement waits for company, unless it is urgent.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// Longest time between two signs of life; busrt drops a client that is silent for 1.25 times the
/// broker's timeout.
const MAX_PING: Duration = Duration::from_millis(300);

/// What only the owner of the client can do.
#[derive(Debug)]
pub(crate) enum Command {
    Subscribe {
        patterns: Vec<String>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Unsubscribe {
        patterns: Vec<String>,
    },
    /// Send what is left, then end.
    Stop,
}

struct Writer {
    node: Arc<Node>,
    client: Client,
    /// How many subscriptions need a pattern.
    patterns: HashMap<String, usize>,
    stopping: bool,
}

/// Runs until it is told to stop or the connection is lost.
pub(crate) async fn run(
    node: Arc<Node>,
    client: Client,
    commands: mpsc::Receiver<Command>,
    keepalive: Duration,
) {
    let mut writer = Writer {
        node: Arc::clone(&node),
        client,
        patterns: HashMap::new(),
        stopping: false,
    };
    match writer.work(commands, keepalive).await {
        Ok(()) => debug!(client = %node.name, "writer ended"),
        Err(reason) => node.lose(&reason.to_string()),
    }
}

impl Writer {
    async fn work(
        &mut self,
        mut commands: mpsc::Receiver<Command>,
        keepalive: Duration,
    ) -> Result<(), Error> {
        let node = Arc::clone(&self.node);
        let mut ping = interval((keepalive / 3).min(MAX_PING));
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut urgent = VecDeque::new();
        let mut items = VecDeque::new();
        let mut ack_at: Option<Instant> = None;
        loop {
            while let Ok(command) = commands.try_recv() {
                self.obey(command).await?;
            }
            let busy = node.outbox.take(&mut urgent, &mut items);
            for (to, message) in urgent.drain(..) {
                self.send(&to, &message).await?;
            }
            self.send_items(&mut items).await?;
            self.tell_drops().await?;
            let due = ack_at.is_some_and(|at| at <= Instant::now());
            if node.acks.is_urgent() || due {
                self.acknowledge().await?;
                ack_at = None;
            } else if ack_at.is_none() && !node.acks.is_empty() {
                ack_at = Some(Instant::now() + ACK_DELAY);
            }
            if busy {
                // The drain that this has woken may sit on this very thread.
                tokio::task::yield_now().await;
                continue;
            }
            if self.stopping {
                return self.acknowledge().await;
            }
            tokio::select! {
                () = node.outbox.wake.notified() => {}
                () = sleep_until(ack_at.unwrap_or_else(Instant::now)), if ack_at.is_some() => {}
                _ = ping.tick() => self.client.ping().await?,
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await?,
                    None => self.stopping = true,
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Subscribe { patterns, reply } => {
                let new: Vec<&str> = patterns
                    .iter()
                    .filter(|pattern| {
                        let count = self.patterns.entry((*pattern).clone()).or_default();
                        *count += 1;
                        *count == 1
                    })
                    .map(String::as_str)
                    .collect();
                if new.is_empty() {
                    let _ = reply.send(Ok(()));
                    return Ok(());
                }
                let confirm = self
                    .client
                    .subscribe_bulk(&new, QoS::RealtimeProcessed)
                    .await?;
                tokio::spawn(confirmed(confirm, reply));
            }
            Command::Unsubscribe { patterns } => {
                let mut gone = Vec::new();
                for pattern in patterns {
                    if let Some(count) = self.patterns.get_mut(&pattern) {
                        *count -= 1;
                        if *count == 0 {
                            self.patterns.remove(&pattern);
                            gone.push(pattern);
                        }
                    }
                }
                let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
                if !gone.is_empty() {
                    self.client.unsubscribe_bulk(&gone, QoS::Realtime).await?;
                }
            }
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }

    /// Sends a message to one client. A client that is gone is no error: the directory tells.
    async fn send(&mut self, to: &Arc<str>, message: &Control) -> Result<(), Error> {
        let payload = message.write();
        match self.client.send(to, payload.into(), QoS::Realtime).await {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == busrt::ErrorKind::NotRegistered => {
                debug!(to = %to, "message to a client that is gone");
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    async fn send_items(&mut self, items: &mut VecDeque<Item>) -> Result<(), Error> {
        while let Some(item) = items.pop_front() {
            match item {
                Item::Control(to, message) => self.send(&to, &message).await?,
                Item::Event(first) => {
                    let run = run_length(&first, items);
                    let frame = self.frame(&first, items.drain(..run - 1));
                    let topic = Arc::clone(&first.route.broker_topic);
                    self.client
                        .publish(&topic, frame.into(), QoS::Realtime)
                        .await?;
                }
            }
        }
        Ok(())
    }

    fn frame(&self, first: &Queued, rest: impl ExactSizeIterator<Item = Item>) -> Vec<u8> {
        let len = 1 + rest.len() as u64;
        let links: Vec<LinkEntry> = open_links(&first.route)
            .map(|link| LinkEntry {
                subscription: link.subscription,
                dropped: link.tell_dropped(),
                first: link.write(len),
            })
            .collect();
        let (publisher, epoch) = (self.node.publisher, self.node.epoch);
        let hint = (first.payload.len() + 16) * (1 + rest.len());
        let mut frame = FrameWriter::new(publisher, epoch, &links, hint);
        frame.push(&first.event, &first.payload, publisher, epoch);
        for item in rest {
            if let Item::Event(queued) = item {
                frame.push(&queued.event, &queued.payload, publisher, epoch);
            }
        }
        frame.finish()
    }

    async fn tell_drops(&mut self) -> Result<(), Error> {
        if self.node.outbox.dropped() == 0 {
            return Ok(());
        }
        for (peer, entry) in self.node.outbox.untold_drops() {
            self.send(&peer, &Control::Status(vec![entry])).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self) -> Result<(), Error> {
        let mut by_peer: HashMap<Arc<str>, Vec<AckEntry>> = HashMap::new();
        for (peer, entry) in self.node.acks.take() {
            by_peer.entry(peer).or_default().push(entry);
        }
        for (peer, entries) in by_peer {
            if peer == self.node.name {
                self.node.outbox.acknowledge(&peer, &entries);
            } else {
                self.send(&peer, &Control::Ack(entries)).await?;
            }
        }
        Ok(())
    }
}

async fn confirmed(confirm: busrt::OpConfirm, reply: oneshot::Sender<Result<(), String>>) {
    let result = match confirm {
        None => Ok(()),
        Some(confirm) => match confirm.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err("the connection has ended".to_owned()),
        },
    };
    let _ = reply.send(result);
}

/// A link stays in frames until its end has been told, which comes after its last event.
fn open_links(route: &Route) -> impl Iterator<Item = &Link> {
    route
        .links
        .iter()
        .map(|(_, link)| &**link)
        .filter(|link| link.state() != LinkState::Lost)
}

/// How many events from `first` on share its route and fit into one frame. Drops are told at the
/// head of a frame, so one ends before the place of a drop.
fn run_length(first: &Queued, rest: &VecDeque<Item>) -> usize {
    let until_drop = open_links(&first.route)
        .filter_map(Link::events_before_drop)
        .min();
    let most = until_drop
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(MAX_EVENTS)
        .min(MAX_EVENTS);
    let mut bytes = first.payload.len();
    let mut run = 1;
    for item in rest {
        match item {
            Item::Event(next)
                if run < most
                    && bytes + next.payload.len() <= FRAME_BYTES
                    && Arc::ptr_eq(&next.route, &first.route) =>
            {
                bytes += next.payload.len();
                run += 1;
            }
            _ => break,
        }
    }
    run
}
