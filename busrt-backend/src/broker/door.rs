//! The front door: from an accepted connection to one that the broker serves.
//!
//! Every listener ends here, with a stream of bytes and a word about who sends them. Invariant: a
//! connection holds its place from the moment it is known whose it is until both its directions have
//! ended, so there are never more than `max_connections`, and a few that are being refused.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::broker::{Broker, Client};
use busrt::client::AsyncClient;
use busrt::{ErrorKind, OP_MESSAGE, RESPONSE_OK};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, error, info, warn};

use super::bucket::Bucket;
use super::down::{self, Down};
use super::end::End;
use super::handshake::{self, Refused};
use super::rights::Rights;
use super::screen::Screen;
use super::stats::{Counters, Reason};
use super::up::{self, Inbound, Up};
use super::{Acl, BrokerOptions, DIRECTORY, RateLimit};

/// Peers over the limit that may wait for a place at the same time.
const WAITING: usize = 16;
/// How long one waits: a place may be held by a connection that is ending.
const PATIENCE: Duration = Duration::from_millis(500);

/// Which client names a peer may take, and what logs call it.
#[derive(Debug, Clone)]
pub(super) struct PeerIdentity {
    names: Names,
    label: String,
}

#[derive(Debug, Clone)]
enum Names {
    Any,
    #[cfg(feature = "tcp")]
    Certified(crate::tls::CertNames),
}

impl PeerIdentity {
    /// A peer that may take any name.
    pub(super) fn any(label: String) -> Self {
        Self {
            names: Names::Any,
            label,
        }
    }

    /// A peer that may take the names that its certificate entitles to.
    #[cfg(feature = "tcp")]
    pub(super) fn certified(names: crate::tls::CertNames, label: String) -> Self {
        Self {
            names: Names::Certified(names),
            label,
        }
    }

    /// Whether it may take `name`.
    pub(super) fn may_be(&self, name: &str) -> bool {
        match &self.names {
            Names::Any => !name.is_empty(),
            #[cfg(feature = "tcp")]
            Names::Certified(names) => names.admits(name),
        }
    }
}

/// A connection's place at the broker, or in the line of those who wait for one.
#[derive(Debug)]
pub(super) enum Place {
    Taken(OwnedSemaphorePermit),
    Waiting(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
}

pub(super) struct Door {
    pub(super) counters: Arc<Counters>,
    pub(super) handshake_timeout: Duration,
    broker: Arc<Mutex<Broker>>,
    keepalive: Duration,
    max_frame: usize,
    queue_bytes: usize,
    acl: Acl,
    rate: Option<RateLimit>,
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    runtime: Handle,
}

impl Door {
    pub(super) fn new(
        broker: Arc<Mutex<Broker>>,
        options: &BrokerOptions,
        counters: Arc<Counters>,
        runtime: Handle,
    ) -> Self {
        Self {
            counters,
            handshake_timeout: options.handshake_timeout,
            broker,
            keepalive: options.keepalive,
            max_frame: options.max_frame,
            queue_bytes: options.queue_bytes,
            acl: options.acl.clone(),
            rate: options.rate,
            places: Arc::new(Semaphore::new(
                options.max_connections.min(Semaphore::MAX_PERMITS),
            )),
            waiting: Arc::new(Semaphore::new(WAITING)),
            runtime,
        }
    }

    /// Runs the life of a connection on the broker's runtime.
    pub(super) fn spawn(&self, life: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(life);
    }

    /// A place for a connection just accepted, `None` if even those who wait are too many.
    pub(super) fn place(&self) -> Option<Place> {
        let free = Arc::clone(&self.places).try_acquire_owned();
        let line = || Arc::clone(&self.waiting).try_acquire_owned();
        free.map(Place::Taken)
            .or_else(|_| line().map(Place::Waiting))
            .ok()
    }

    /// Serves a connection until it ends. `deadline` is that of its handshake.
    pub(super) async fn serve(
        &self,
        place: Place,
        deadline: Instant,
        mut reader: impl AsyncRead + Send + Unpin + 'static,
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
        who: PeerIdentity,
    ) {
        let peer = who.label.as_str();
        let Some(_place) = self.wait_for_room(place).await else {
            warn!(
                peer,
                reason = Reason::TooMany.as_str(),
                "connection refused"
            );
            self.counters.refuse(Reason::TooMany.as_str());
            let _ = timeout_at(deadline, handshake::no_room(&mut reader, &mut writer)).await;
            return;
        };
        let _counted = Counted::new(&self.counters);
        let entering = self.enter(&mut reader, &mut writer, &who);
        let entered = timeout_at(deadline, entering).await.unwrap_or_else(|_| {
            let code = busrt::ERR_TIMEOUT;
            Err(Refused::new(Reason::HandshakeTimeout, code))
        });
        match entered {
            Ok(entered) => self.attend(entered, reader, writer, peer).await,
            Err(Refused { reason, code, name }) => {
                let word = reason.as_str();
                if reason == Reason::HungUp {
                    debug!(peer, reason = word, "connection refused");
                } else {
                    warn!(peer, client = name, reason = word, "connection refused");
                }
                self.counters.refuse(reason.as_str());
                let refusing = handshake::refuse(&mut reader, &mut writer, code);
                let _ = timeout_at(deadline, refusing).await;
            }
        }
    }

    async fn wait_for_room(&self, place: Place) -> Option<OwnedSemaphorePermit> {
        match place {
            Place::Taken(permit) => Some(permit),
            Place::Waiting(_line) => {
                let free = Arc::clone(&self.places).acquire_owned();
                timeout(PATIENCE, free).await.ok()?.ok()
            }
        }
    }

    /// Learns the client's name, and registers it with busrt.
    async fn enter(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        writer: &mut (impl AsyncWrite + Unpin),
        who: &PeerIdentity,
    ) -> Result<Entered, Refused> {
        let name = handshake::name(reader, writer, |name| who.may_be(name)).await?;
        let registered = self.broker.lock().await.register_client(&name).await;
        let client = registered.map_err(|reason| {
            if reason.kind() == ErrorKind::Busy {
                return Refused::named(Reason::NameInUse, busrt::ERR_BUSY, name.clone());
            }
            error!(client = name, %reason, "connection not served");
            Refused::named(Reason::Resources, busrt::ERR_OTHER, name.clone())
        })?;
        Ok(Entered {
            client,
            rights: Rights::new(self.acl.rule(&name).clone()),
            name,
        })
    }

    /// Serves both directions until one of them ends, and a little longer what is still to be read.
    async fn attend(
        &self,
        entered: Entered,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        peer: &str,
    ) {
        let Entered {
            name,
            rights,
            mut client,
        } = entered;
        let Some(frames) = client.take_event_channel() else {
            return;
        };
        info!(client = name, peer, "client connected");
        let (answers, waiting) = mpsc::channel(up::ANSWERS);
        let limits = down::Limits {
            keepalive: self.keepalive,
            most: self.queue_bytes,
        };
        let down = Down::new(writer, frames, waiting, &self.counters, limits);
        let mut down = down.noting(rights.asked());
        let welcoming = down.welcome(welcome(&rights));
        if !matches!(timeout(self.handshake_timeout, welcoming).await, Ok(Ok(()))) {
            debug!(client = name, peer, "connection lost");
            return;
        }
        let bucket = self.rate.map(|rate| Bucket::new(rate, Instant::now()));
        let up = Up {
            name: &name,
            reader,
            client: &mut client,
            screen: Screen::new(rights, self.max_frame, bucket.is_some()),
            bucket,
            answers,
            counters: &self.counters,
            keepalive: self.keepalive,
            inbound: Inbound::new(),
        };
        let ended = tokio::select! {
            ended = up.run() => ended,
            ended = down.run() => ended,
        };
        let patience = match &ended {
            Ok(()) => {
                // It has hung up, and may read on what was sent before.
                down.hang_up();
                let _ = timeout(self.handshake_timeout, down.run()).await;
                self.handshake_timeout
            }
            Err(end) => {
                self.cut(&name, peer, end);
                if end.hears() {
                    self.handshake_timeout
                } else {
                    Duration::ZERO
                }
            }
        };
        let _ = timeout(patience, down.close()).await;
        drop(down);
        // Only now is the name free, and nothing of this connection left to be taken for another's.
        drop(client);
        info!(client = name, peer, "client disconnected");
    }

    fn cut(&self, client: &str, peer: &str, end: &End) {
        match end.reason() {
            Some(reason) => {
                warn!(client, peer, reason = reason.as_str(), detail = %end, "connection ended");
                self.counters.refuse(reason.as_str());
            }
            None => debug!(client, peer, %end, "connection lost"),
        }
    }
}

/// One that has said who it is.
struct Entered {
    name: String,
    rights: Rights,
    /// What it is to busrt. Its name is in use as long as this is there.
    client: Client,
}

/// The handshake's last word and, if there are rules, what they are.
fn welcome(rights: &Rights) -> Vec<u8> {
    let mut out = vec![RESPONSE_OK];
    if let Some(grant) = rights.grant() {
        let length = DIRECTORY.len() + 1 + grant.len();
        out.push(OP_MESSAGE);
        out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        out.push(0);
        out.extend_from_slice(DIRECTORY.as_bytes());
        out.push(0);
        out.extend_from_slice(&grant);
    }
    out
}

/// A connection in the count of them.
struct Counted<'a>(&'a Counters);

impl<'a> Counted<'a> {
    fn new(counters: &'a Counters) -> Self {
        counters.connections.fetch_add(1, Relaxed);
        Self(counters)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}
