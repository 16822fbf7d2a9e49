//! The front door: from an accepted connection to one that the broker serves.
//!
//! Every listener ends here, with a stream of bytes and a word about who sends them. Invariant: a
//! connection holds its place from the moment it was accepted until both its directions have
//! ended, so there are never more than `max_connections`, and a few that are being refused.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use busrt::broker::{Broker, ServerConfig};
use busrt::{ERR_OTHER, GREETINGS, PROTOCOL_VERSION};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::BrokerOptions;
use super::stats::{Counters, Reason};
use crate::transport::BUFFER_BYTES;

/// Peers over the limit that may wait for a place at the same time.
const WAITING: usize = 16;
/// How long one waits: a place may be held by a connection that is ending.
const PATIENCE: Duration = Duration::from_millis(500);
/// What one is told in busrt's handshake. busrt itself has no other use for this code there.
pub(crate) const ERR_NO_ROOM: u8 = ERR_OTHER;

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
    #[allow(dead_code, reason = "asked by the handshake that comes with the relay")]
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
    config: ServerConfig,
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
            config: ServerConfig::new()
                .timeout(options.keepalive)
                .buf_size(BUFFER_BYTES),
            places: Arc::new(Semaphore::new(options.max_connections)),
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

    /// Serves a connection until it ends.
    pub(super) async fn serve(
        &self,
        place: Place,
        deadline: Instant,
        reader: impl AsyncRead + Send + Unpin + 'static,
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
        who: PeerIdentity,
    ) {
        let Some(_place) = self.wait_for_room(place).await else {
            warn!(
                client = who.label,
                reason = Reason::TooMany.as_str(),
                "connection refused"
            );
            self.counters.refuse(Reason::TooMany.as_str());
            let _ = timeout_at(deadline, refuse(reader, &mut writer)).await;
            return;
        };
        self.counters.connections.fetch_add(1, Relaxed);
        if let Err(reason) = self.pass(reader, writer).await {
            warn!(client = who.label, %reason, "connection not served");
            self.counters.refuse(Reason::Resources.as_str());
        }
        self.counters.connections.fetch_sub(1, Relaxed);
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

    async fn pass(
        &self,
        mut reader: impl AsyncRead + Send + Unpin + 'static,
        mut writer: impl AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<()> {
        let (ours, theirs) = UnixStream::pair()?;
        self.broker
            .lock()
            .await
            .spawn_server_connection(theirs, self.config.clone())
            .map_err(io::Error::other)?;
        let (mut from_broker, mut to_broker) = ours.into_split();
        let up = async {
            let _ = tokio::io::copy(&mut reader, &mut to_broker).await;
            let _ = to_broker.shutdown().await;
        };
        let down = async {
            let _ = tokio::io::copy(&mut from_broker, &mut writer).await;
            let _ = writer.shutdown().await;
        };
        tokio::join!(up, down);
        Ok(())
    }
}

/// Tells a client in busrt's handshake that there is no room, and waits for it to hang up: a
/// connection closed while something in it is unread would take the answer with it.
async fn refuse(mut reader: impl AsyncRead + Unpin, writer: &mut (impl AsyncWrite + Unpin)) {
    let [low, high] = PROTOCOL_VERSION.to_le_bytes();
    let answer = [GREETINGS[0], low, high, ERR_NO_ROOM];
    if writer.write_all(&answer).await.is_ok() && writer.shutdown().await.is_ok() {
        let _ = reader.read(&mut [0; 16]).await;
    }
}
