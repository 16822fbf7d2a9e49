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
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::debug;

use super::link::{Link, LinkState};
use super::node::Node;
use super::outbox::{Item, Run};
use super::routes::Route;
use crate::broker::DIRECTORY;
use crate::transport::Client;
use crate::wire::{AckEntry, Control, FrameWriter, LinkEntry, MAX_COUNT};

/// How long an acknowledgement waits for company, unless it is urgent.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// How long the broker may take to handle our last word.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// Longest time between two signs of life; busrt drops a client that is silent for 1.25 times the
/// broker's timeout.
const MAX_PING: Duration = Duration::from_millis(300);

/// What only the owner of the client can do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Have the broker send us what a subscription needs.
    Subscribe {
        id: u64,
        patterns: Vec<String>,
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// A subscription needs nothing any more.
    Unsubscribe { id: u64 },
    /// Send what is left, then end.
    Stop,
}

struct Writer {
    node: Arc<Node>,
    client: Client,
    /// The patterns that each subscription needs.
    patterns: HashMap<u64, Vec<String>>,
    /// How many subscriptions need a pattern.
    needed: HashMap<String, usize>,
    stopping: bool,
    in_process: bool,
}

/// Runs until it is told to stop or the connection is lost.
pub(crate) async fn run(
    node: Arc<Node>,
    client: Client,
    commands: mpsc::Receiver<Command>,
    keepalive: Duration,
) {
    let _lost = node.lost_on_drop("its writer has ended");
    let mut writer = Writer {
        node: Arc::clone(&node),
        // Only a client over a socket can tell whether it is connected.
        in_process: client.get_connected_beacon().is_none(),
        client,
        patterns: HashMap::new(),
        needed: HashMap::new(),
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
            if node.is_lost() {
                return Ok(());
            }
            if busy {
                // The drain that this has woken may sit on this very thread.
                tokio::task::yield_now().await;
                continue;
            }
            if self.stopping {
                self.acknowledge().await?;
                return self.leave().await;
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
            Command::Subscribe {
                id,
                patterns,
                reply,
            } => {
                let mut new = patterns.clone();
                new.retain(|pattern| {
                    let count = self.needed.entry(pattern.clone()).or_default();
                    *count += 1;
                    *count == 1
                });
                self.patterns.insert(id, patterns);
                if new.is_empty() {
                    let _ = reply.send(Ok(()));
                    return Ok(());
                }
                let new: Vec<&str> = new.iter().map(String::as_str).collect();
                let confirm = self
                    .client
                    .subscribe_bulk(&new, QoS::RealtimeProcessed)
                    .await?;
                tokio::spawn(confirmed(confirm, reply));
            }
            Command::Unsubscribe { id } => {
                let mut gone = self.patterns.remove(&id).unwrap_or_default();
                gone.retain(|pattern| {
                    let count = self.needed.get_mut(pattern);
                    let last = count.is_none_or(|count| {
                        *count -= 1;
                        *count == 0
                    });
                    if last {
                        self.needed.remove(pattern);
                    }
                    last
                });
                let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
                if !gone.is_empty() {
                    self.client.unsubscribe_bulk(&gone, QoS::Realtime).await?;
                }
            }
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }

    /// Leaves, behind the last events, because whoever hears of it forgets our links; and waits
    /// until the broker has handled it. The broker drops what it has not read yet if it finds,
    /// writing to us, that we are gone.
    async fn leave(&mut self) -> Result<(), Error> {
        let leave = Control::Leave.write();
        let sent = self
            .client
            .send(DIRECTORY, leave.into(), QoS::RealtimeProcessed)
            .await;
        if let Ok(Some(handled)) = sent {
            let _ = timeout(LEAVE_PATIENCE, handled).await;
        }
        Ok(())
    }

    /// Sends a message to one client. A client that is gone is no error: the directory tells.
    async fn send(&mut self, to: &Arc<str>, message: &Control) -> Result<(), Error> {
        let payload = message.write();
        match self.client.send(to, payload.into(), QoS::Realtime).await {
            Ok(_) => Ok(()),
            // In process, a client that is about to go has closed its end already.
            Err(e)
                if e.kind() == busrt::ErrorKind::NotRegistered
                    || (self.in_process && e.kind() == busrt::ErrorKind::Eof) =>
            {
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
                Item::Run(run) => {
                    let frame = self.frame(&run);
                    let topic = &run.route.broker_topic;
                    self.client
                        .publish(topic, frame.into(), QoS::Realtime)
                        .await?;
                }
            }
        }
        Ok(())
    }

    fn frame(&self, run: &Run) -> Vec<u8> {
        let len = run.events.len() as u64;
        let links: Vec<LinkEntry> = open_links(&run.route)
            .map(|link| LinkEntry {
                subscription: link.subscription,
                dropped: link.tell_dropped(),
                first: link.write(len),
            })
            .collect();
        let (publisher, epoch) = (self.node.publisher, self.node.epoch);
        let hint = usize::try_from(run.cost).unwrap_or_default();
        let mut frame = FrameWriter::new(publisher, epoch, &links, hint);
        for event in &run.events {
            // It was encoded before it was offered.
            let payload = event.payload().encoded().unwrap_or_default();
            frame.push(event, payload, publisher, epoch);
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
                continue;
            }
            for entries in entries.chunks(MAX_COUNT) {
                self.send(&peer, &Control::Ack(entries.to_vec())).await?;
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
