//! The directory: which sessions are on the broker.
//!
//! A publisher must know every subscription before it publishes, and a subscriber must know every
//! publisher before `subscribe` returns; but busrt tells nobody who is there. So sessions join at
//! a well-known client of the broker's own. Joining is a single point in time: of two sessions
//! that come at once, the later one finds the earlier one in its list.
//!
//! A session that ends without a word is found by probing: the broker answers at once that a name
//! is not registered any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::broker::Client;
use busrt::client::AsyncClient;
use busrt::{ErrorKind, Frame, FrameKind, QoS};
use bytes::Bytes;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::stats::Counters;
use crate::options::is_name;
use crate::wire::{Control, Member, Refusal};

/// The directory's client name.
pub(crate) const DIRECTORY: &str = "eb-directory";

/// How often sessions are probed: the time after which a dead one is noticed.
const PROBE_EVERY: Duration = Duration::from_millis(250);

struct Directory {
    client: Client,
    members: BTreeSet<String>,
    max_members: usize,
    counters: Arc<Counters>,
}

/// Serves until the broker's runtime ends.
pub(super) async fn run(mut client: Client, max_members: usize, counters: Arc<Counters>) {
    let Some(frames) = client.take_event_channel() else {
        return;
    };
    let mut directory = Directory {
        client,
        members: BTreeSet::new(),
        max_members,
        counters,
    };
    let mut probe = interval(PROBE_EVERY);
    probe.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Ok(frame) => directory.handle(&frame).await,
                Err(_) => return,
            },
            _ = probe.tick() => directory.probe().await,
        }
        let sessions = &directory.counters.sessions;
        sessions.store(directory.members.len(), Relaxed);
        directory.counters.went_round();
    }
}

impl Directory {
    async fn handle(&mut self, frame: &Frame) {
        if frame.kind() != FrameKind::Message {
            return;
        }
        let sender = frame.sender();
        match Control::read(&Bytes::copy_from_slice(frame.payload())) {
            Ok(Some(Control::Join)) if is_name(sender) => self.join(sender).await,
            Ok(Some(Control::Leave)) => self.left(sender).await,
            Ok(other) => debug!(sender, ?other, "message not for a directory"),
            Err(reason) => warn!(sender, %reason, "unreadable message"),
        }
    }

    async fn join(&mut self, sender: &str) {
        // It has come back before it was missed: the others must hear that it was away.
        self.lost(vec![sender.to_owned()]).await;
        if self.members.len() >= self.max_members {
            // Room may be held by sessions that are gone already.
            self.probe().await;
        }
        let answer = if self.members.len() >= self.max_members {
            warn!(
                sender,
                limit = self.max_members,
                "session refused: too many"
            );
            Control::JoinRefused(Refusal::TooManyMembers)
        } else {
            let joined = Control::Joined(Member {
                client: sender.to_owned(),
            });
            for member in self.members.clone() {
                // One that is gone is found by the next probe.
                self.send(&member, &joined).await;
            }
            self.members.insert(sender.to_owned());
            info!(sender, members = self.members.len(), "session joined");
            Control::Members(
                self.members
                    .iter()
                    .map(|client| Member {
                        client: client.clone(),
                    })
                    .collect(),
            )
        };
        if !self.send(sender, &answer).await {
            self.lost(vec![sender.to_owned()]).await;
        }
    }

    async fn probe(&mut self) {
        let mut dead = Vec::new();
        for member in self.members.clone() {
            if !self.send(&member, &Control::Probe).await {
                dead.push(member);
            }
        }
        self.lost(dead).await;
    }

    /// Tells everybody of one that will not come back.
    async fn left(&mut self, client: &str) {
        if self.members.remove(client) {
            info!(client, members = self.members.len(), "session left");
            let left = Control::Left(Member {
                client: client.to_owned(),
            });
            let dead = self.tell(&left).await;
            self.lost(dead).await;
        }
    }

    /// Tells everybody of those who have lost their connection, and of those found so while
    /// telling.
    async fn lost(&mut self, mut lost: Vec<String>) {
        while let Some(client) = lost.pop() {
            if self.members.remove(&client) {
                info!(client, members = self.members.len(), "session lost");
                lost.extend(self.tell(&Control::Lost(Member { client })).await);
            }
        }
    }

    /// Tells everybody; returns those who are gone.
    async fn tell(&mut self, message: &Control) -> Vec<String> {
        let mut dead = Vec::new();
        for member in self.members.clone() {
            if !self.send(&member, message).await {
                dead.push(member);
            }
        }
        dead
    }

    /// Whether `to` is still registered.
    async fn send(&mut self, to: &str, message: &Control) -> bool {
        match self
            .client
            .send(to, message.write().into(), QoS::Realtime)
            .await
        {
            Ok(_) => true,
            Err(reason) => {
                // The end of a connection that is being closed has no name for it any more.
                if !matches!(reason.kind(), ErrorKind::NotRegistered | ErrorKind::Eof) {
                    warn!(to, %reason, "session lost");
                }
                false
            }
        }
    }
}
