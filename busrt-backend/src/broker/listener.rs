//! Accepting connections: who is at the door, and is there room.
//!
//! A peer that is to be refused for want of room is told so, by a few tasks; when they are busy it
//! is dropped. Running out of descriptors pauses accepting and spins nowhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::door::{Door, PeerIdentity};
use super::stats::Reason;

/// How long to wait after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A kind of listener.
pub(super) trait Acceptor: Send + Sync + 'static {
    /// A connection of which nothing is known.
    type Raw: Send + 'static;
    /// What is read from it once it is known whose it is.
    type Reader: AsyncRead + Send + Unpin + 'static;
    /// What is written to it.
    type Writer: AsyncWrite + Send + Unpin + 'static;

    /// Takes the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Raw>> + Send;

    /// Finds out whose it is, within the handshake timeout. It logs why not, and says it in a word.
    fn identify(
        &self,
        raw: Self::Raw,
    ) -> impl Future<Output = Result<Identified<Self>, &'static str>> + Send;
}

/// A connection's halves, and whose it is.
pub(super) type Identified<A> = (
    <A as Acceptor>::Reader,
    <A as Acceptor>::Writer,
    PeerIdentity,
);

/// Accepts until its task is ended.
pub(super) async fn run<A: Acceptor>(acceptor: A, door: Arc<Door>) {
    let acceptor = Arc::new(acceptor);
    loop {
        match acceptor.accept().await {
            Ok(raw) => {
                door.counters.accepted.fetch_add(1, Relaxed);
                admit(raw, &acceptor, &door);
            }
            Err(reason) => {
                door.counters.accept_errors.fetch_add(1, Relaxed);
                error!(%reason, "accept failed");
                // A deadline on nothing: the pause.
                let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
}

fn admit<A: Acceptor>(raw: A::Raw, acceptor: &Arc<A>, door: &Arc<Door>) {
    let Some(place) = door.place() else {
        door.counters.refuse(Reason::TooMany.as_str());
        warn!(reason = Reason::TooMany.as_str(), "connection dropped");
        return;
    };
    let (acceptor, door) = (Arc::clone(acceptor), Arc::clone(door));
    let deadline = Instant::now() + door.handshake_timeout;
    door.clone().spawn(async move {
        match acceptor.identify(raw).await {
            Ok((reader, writer, who)) => door.serve(place, deadline, reader, writer, who).await,
            Err(reason) => door.counters.refuse(reason),
        }
    });
}

impl Acceptor for UnixListener {
    type Raw = UnixStream;
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(Self::accept(self).await?.0)
    }

    async fn identify(&self, stream: UnixStream) -> Result<Identified<Self>, &'static str> {
        let own = rustix::process::geteuid().as_raw();
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == own => {
                debug!(pid = ?peer.pid(), "connection accepted");
                let label = peer
                    .pid()
                    .map_or("unix".to_owned(), |pid| format!("pid {pid}"));
                let (reader, writer) = stream.into_split();
                Ok((reader, writer, PeerIdentity::any(label)))
            }
            Ok(peer) => {
                warn!(uid = peer.uid(), pid = ?peer.pid(), "peer of another user refused");
                Err(Reason::User.as_str())
            }
            Err(reason) => {
                warn!(%reason, "peer without credentials refused");
                Err(Reason::User.as_str())
            }
        }
    }
}
