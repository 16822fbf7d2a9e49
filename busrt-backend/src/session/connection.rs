//! The connection: the one task that owns the busrt client, and makes another when it is gone.
//!
//! While a connection holds, a drain task takes what arrives and this task sends. When it ends, for
//! whatever reason, everything that is not acknowledged stays with its links, and everything not
//! sent stays here or in the outbox; the next connection goes on from there.
//!
//! Invariant: at most one client and one drain exist at a time; a connection's messages are handled
//! before its end is.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::count;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error};

use super::command::{Command, NotSubscribed, Reply};
use super::directory::Membership;
use super::incoming;
use super::life::Life;
use super::node::Node;
use super::pace::{PAUSE, Pace};
use super::run::Taken;
use super::writer::Writer;
use crate::calls::port::ASK_EVERY;
use crate::client::Answer;
use crate::dial::Dialer;
use crate::patterns::Patterns;
use crate::transport::Client;

/// How long an acknowledgement waits for company, unless it is urgent.
const ACK_DELAY: Duration = Duration::from_millis(1);
/// Patterns in one subscribe frame after a reconnection.
const PATTERNS_AT_ONCE: usize = 256;
/// A topic that nobody subscribes to: its acknowledgement says that the broker is there.
pub(crate) const PING_TOPIC: &str = "eb-ping";

/// Why a connection ended.
enum End {
    /// We were told to.
    Stopped,
    Lost(String),
}

impl From<busrt::Error> for End {
    fn from(reason: busrt::Error) -> Self {
        Self::Lost(reason.to_string())
    }
}

struct Connection {
    node: Arc<Node>,
    dialer: Arc<Dialer>,
    commands: mpsc::Receiver<Command>,
    patterns: Patterns,
    /// Which subscriptions wait for the next connection to have their patterns.
    waiting: Vec<(u64, Reply)>,
    taken: Taken,
    stopping: bool,
}

/// Runs until it is told to stop.
pub(crate) async fn run(
    node: Arc<Node>,
    dialer: Arc<Dialer>,
    first: Client,
    commands: mpsc::Receiver<Command>,
) {
    let _lost = node.lost_on_drop("the session's task has ended");
    let mut this = Connection {
        node: Arc::clone(&node),
        dialer,
        commands,
        patterns: Patterns::default(),
        waiting: Vec::new(),
        taken: Taken::default(),
        stopping: false,
    };
    let mut pauses = this.dialer.pauses();
    let mut client = Some(first);
    loop {
        let next = match client.take() {
            Some(client) => Some(client),
            None => this.dial(&mut pauses).await,
        };
        let Some(next) = next else { break };
        match this.hold(next).await {
            End::Stopped => break,
            End::Lost(_) if this.stopping => break,
            End::Lost(reason) => {
                if node.state.lock().up {
                    pauses = this.dialer.pauses();
                }
                this.taken.forget_messages();
                node.go_down(&reason);
            }
        }
    }
    debug!(client = %node.name, "connection ended");
}

impl Connection {
    /// Another client, however long it takes; `None` if told to stop.
    async fn dial(&mut self, pauses: &mut impl Iterator<Item = Duration>) -> Option<Client> {
        let mut attempts = 0;
        loop {
            let pause = pauses.next().unwrap_or_default();
            let at = Instant::now() + pause;
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.obey_offline() => return None,
            }
            let (dialer, name) = (Arc::clone(&self.dialer), Arc::clone(&self.node.name));
            let made = tokio::select! {
                made = dialer.dial_again(&name) => made,
                () = self.obey_offline() => return None,
            };
            match made {
                Ok(client) => {
                    count(&self.node.reconnects, 1);
                    return Some(client);
                }
                Err(reason) => {
                    attempts += 1;
                    debug!(client = %name, %reason, attempts, "not connected");
                    self.node.tell_connecting(attempts, &reason.to_string());
                }
            }
        }
    }

    /// Takes commands while there is no connection; ends when told to stop.
    async fn obey_offline(&mut self) {
        if self.stopping {
            return;
        }
        loop {
            match self.commands.recv().await {
                Some(Command::Subscribe {
                    id,
                    patterns,
                    reply,
                }) => {
                    self.patterns.add(id, patterns);
                    self.waiting.retain(|(_, reply)| !reply.is_closed());
                    self.waiting.push((id, reply));
                }
                Some(Command::Stop) | None => {
                    self.stopping = true;
                    return;
                }
            }
        }
    }

    /// Uses a client until it is of no use any more.
    async fn hold(&mut self, mut client: Client) -> End {
        let Some(frames) = client.take_frames() else {
            return End::Lost("the client is drained already".to_owned());
        };
        // The next front door may have other rules, and says so only if it has any.
        self.node.set_grant(None);
        self.node.outbox.go_online();
        let mut drain = self
            .node
            .tasks
            .spawn(incoming::run(Arc::clone(&self.node), frames));
        let mut writer = Writer::new(Arc::clone(&self.node), client);
        let end = tokio::select! {
            end = self.work(&mut writer) => end.err().unwrap_or(End::Stopped),
            drained = &mut drain => return match drained {
                Some(Err(reason)) => reason.into(),
                _ => End::Lost("the broker closed it".to_owned()),
            },
        };
        drop(writer);
        drain.stop().await;
        end
    }

    async fn work(&mut self, writer: &mut Writer) -> Result<(), End> {
        let node = Arc::clone(&self.node);
        self.subscribe_all(writer).await?;
        let mut membership =
            Membership::join(&node, &mut writer.client, self.dialer.keepalive()).await?;
        let mut life = Life::new(self.dialer.keepalive(), Instant::now());
        let mut ack_at: Option<Instant> = None;
        let mut pace = Pace::default();
        let mut ask_at = Instant::now() + ASK_EVERY;
        loop {
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command, writer).await?;
            }
            self.forget_patterns(writer).await?;
            // Before events, however many wait.
            node.calls.port.send_all(&mut writer.client).await?;
            let busy = node.outbox.take(&mut self.taken);
            let executor = node.tasks.executor();
            let load = executor.map(|executor| (executor, self.taken.count()));
            writer.send_all(&mut self.taken).await?;
            let now = Instant::now();
            if node.acks.is_urgent() || ack_at.is_some_and(|at| at <= now) {
                writer.acknowledge().await?;
                ack_at = None;
            } else if ack_at.is_none() && !node.acks.is_empty() {
                ack_at = Some(now + ACK_DELAY);
            }
            if life.is_due(now) {
                self.show_life(&mut life, writer, now).await?;
                membership.tick(&node, writer, now).await?;
            }
            if ask_at <= now {
                node.calls.port.ask(&mut writer.client, now).await?;
                ask_at = now + ASK_EVERY;
            }
            if let Some(refusal) = node.refusal() {
                return Err(End::Lost(refusal));
            }
            writer.client.flush().await?;
            if busy {
                // The drain that this has woken may sit on this very thread.
                node.tasks.yield_now().await;
                if let Some((executor, (runs, events))) = load
                    && pace.sent(events / runs.max(1), events, now.into_std())
                    && node.outbox.gather()
                {
                    tokio::select! {
                        () = executor.pause(PAUSE) => {}
                        () = node.outbox.wake.notified() => {}
                        () = node.calls.port.wake.notified() => {}
                    }
                }
                continue;
            }
            pace.rest();
            if self.stopping {
                writer.acknowledge().await?;
                writer.leave(&membership.farewell(&node)).await;
                return Ok(());
            }
            tokio::select! {
                () = node.outbox.wake.notified() => {}
                () = node.calls.port.wake.notified() => {}
                () = sleep_until(ask_at), if node.calls.port.is_busy() => {}
                () = sleep_until(ack_at.unwrap_or(now)), if ack_at.is_some() => {}
                () = sleep_until(life.next) => {}
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command, writer).await?,
                    None => self.stopping = true,
                },
            }
        }
    }

    async fn show_life(
        &self,
        life: &mut Life,
        writer: &mut Writer,
        now: Instant,
    ) -> Result<(), End> {
        let due = life
            .look(now)
            .map_err(|reason| End::Lost(reason.to_string()))?;
        if due.heartbeat {
            writer.beat().await?;
        }
        if writer.is_in_process() {
            return Ok(());
        }
        writer.client.ping().await?;
        if due.ping {
            let answer = writer.client.publish(PING_TOPIC, Vec::new(), true).await?;
            life.pinged(now, answer);
        }
        Ok(())
    }

    /// Gives a new connection all patterns, before anybody hears of it.
    async fn subscribe_all(&mut self, writer: &mut Writer) -> Result<(), End> {
        for id in self.unneeded() {
            self.patterns.remove(id);
        }
        let all: Vec<String> = self.patterns.all().map(str::to_owned).collect();
        let mut denied = HashSet::new();
        for some in all.chunks(PATTERNS_AT_ONCE) {
            if self.subscribe_some(writer, some).await? {
                continue;
            }
            // One of them is not allowed, or not any more: the others must not suffer for it.
            for one in some {
                if !self
                    .subscribe_some(writer, std::slice::from_ref(one))
                    .await?
                {
                    error!(client = %self.node.name, pattern = %one, "not allowed to subscribe");
                    denied.insert(one.as_str());
                }
            }
        }
        for (id, reply) in self.waiting.drain(..) {
            let is_denied = self.patterns.of(id).any(|pattern| denied.contains(pattern));
            let _ = reply.send(if is_denied {
                Err(NotSubscribed::Denied)
            } else {
                Ok(())
            });
        }
        Ok(())
    }

    /// Whether the broker allows it.
    async fn subscribe_some(&self, writer: &mut Writer, some: &[String]) -> Result<bool, End> {
        let some: Vec<&str> = some.iter().map(String::as_str).collect();
        let confirm = writer.client.subscribe_bulk(&some).await?;
        writer.client.flush().await?;
        match timeout(self.dialer.keepalive(), confirmed(confirm)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(NotSubscribed::Denied)) => Ok(false),
            Ok(Err(NotSubscribed::Failed(reason))) => Err(End::Lost(reason)),
            Err(_) => Err(End::Lost(SILENT.to_owned())),
        }
    }

    fn unneeded(&self) -> Vec<u64> {
        std::mem::take(&mut self.node.state.lock().unneeded)
    }

    /// Has the broker send no more of what nobody needs.
    async fn forget_patterns(&mut self, writer: &mut Writer) -> Result<(), End> {
        for id in self.unneeded() {
            let gone = self.patterns.remove(id);
            let gone: Vec<&str> = gone.iter().map(String::as_str).collect();
            if !gone.is_empty() {
                writer.client.unsubscribe_bulk(&gone).await?;
            }
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command, writer: &mut Writer) -> Result<(), End> {
        match command {
            Command::Subscribe {
                id,
                patterns,
                reply,
            } => {
                // All of them, also those that others have: their answer may yet be a refusal.
                let all: Vec<&str> = patterns.iter().map(String::as_str).collect();
                let confirm = writer.client.subscribe_bulk(&all).await;
                self.patterns.add(id, patterns);
                let confirm = confirm?;
                tokio::spawn(async move {
                    let _ = reply.send(confirmed(confirm).await);
                });
            }
            Command::Stop => self.stopping = true,
        }
        Ok(())
    }
}

const SILENT: &str = "the broker does not answer";

async fn confirmed(confirm: Option<Answer>) -> Result<(), NotSubscribed> {
    match confirm {
        None => Ok(()),
        Some(confirm) => match confirm.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) if e.kind() == busrt::ErrorKind::Access => Err(NotSubscribed::Denied),
            Ok(Err(e)) => Err(NotSubscribed::Failed(e.to_string())),
            Err(_) => Err(NotSubscribed::Failed("the connection has ended".to_owned())),
        },
    }
}

impl Node {
    /// The directory's refusal, for this connection.
    fn refusal(&self) -> Option<String> {
        let state = self.state.lock();
        (!state.joined)
            .then(|| state.refused.map(|refusal| refusal.to_string()))
            .flatten()
    }
}
