//! Accepting connections: who is at the door, and is there room.
//!
//! A peer that is to be refused for want of room is told so, by a few tasks; when they are busy it
//! is dropped. Running out of descriptors pauses accepting and spins nowhere.
//!
//! Invariant: whoever needs the peer's help to find out who it is holds no place meanwhile, so
//! strangers at a port take nobody's. Of those there are a few, and a new one pushes out the oldest:
//! honest peers are through in milliseconds.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{debug, error, warn};

use super::door::{Door, PeerIdentity, Place};
use super::stats::Reason;

/// How long to wait after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Peers of one listener that may be telling who they are at the same time.
const UNFINISHED: usize = 64;

/// A kind of listener.
pub(super) trait Acceptor: Send + Sync + 'static {
    /// A connection of which nothing is known.
    type Raw: Send + 'static;
    /// What is read from it once it is known whose it is.
    type Reader: AsyncRead + Send + Unpin + 'static;
    /// What is written to it.
    type Writer: AsyncWrite + Send + Unpin + 'static;

    /// Whether finding out whose it is takes the peer's help, and so as long as it likes.
    const ASKS: bool;

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
    let mut unfinished = Unfinished::default();
    loop {
        match acceptor.accept().await {
            Ok(raw) => {
                door.counters.accepted.fetch_add(1, Relaxed);
                if A::ASKS {
                    ask(raw, &acceptor, &door, unfinished.another());
                } else {
                    admit(raw, &acceptor, &door);
                }
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

/// Those who are telling who they are, the oldest first.
#[derive(Default)]
struct Unfinished(VecDeque<oneshot::Sender<()>>);

impl Unfinished {
    /// One more; what it gets resolves when it is pushed out.
    fn another(&mut self) -> oneshot::Receiver<()> {
        self.0.retain(|one| !one.is_closed());
        if self.0.len() == UNFINISHED {
            self.0.pop_front();
        }
        let (held, pushed_out) = oneshot::channel();
        self.0.push_back(held);
        pushed_out
    }
}

/// Finds out who it is, and then whether there is room.
fn ask<A: Acceptor>(
    raw: A::Raw,
    acceptor: &Arc<A>,
    door: &Arc<Door>,
    pushed_out: oneshot::Receiver<()>,
) {
    let (acceptor, door) = (Arc::clone(acceptor), Arc::clone(door));
    let deadline = Instant::now() + door.handshake_timeout;
    door.clone().spawn(async move {
        let identified = tokio::select! {
            biased;
            identified = acceptor.identify(raw) => identified,
            _ = pushed_out => {
                let reason = Reason::Unfinished.as_str();
                warn!(reason, "connection dropped");
                Err(reason)
            }
        };
        match identified {
            Ok(identified) => {
                if let Some(place) = place(&door) {
                    enter::<A>(&door, place, deadline, identified).await;
                }
            }
            Err(reason) => door.counters.refuse(reason),
        }
    });
}

/// Finds out whether there is room, and then who it is.
fn admit<A: Acceptor>(raw: A::Raw, acceptor: &Arc<A>, door: &Arc<Door>) {
    let Some(place) = place(door) else {
        return;
    };
    let (acceptor, door) = (Arc::clone(acceptor), Arc::clone(door));
    let deadline = Instant::now() + door.handshake_timeout;
    door.clone().spawn(async move {
        match acceptor.identify(raw).await {
            Ok(identified) => enter::<A>(&door, place, deadline, identified).await,
            Err(reason) => door.counters.refuse(reason),
        }
    });
}

fn place(door: &Door) -> Option<Place> {
    let place = door.place();
    if place.is_none() {
        door.counters.refuse(Reason::TooMany.as_str());
        warn!(reason = Reason::TooMany.as_str(), "connection dropped");
    }
    place
}

async fn enter<A: Acceptor>(
    door: &Door,
    place: Place,
    deadline: Instant,
    (reader, writer, who): Identified<A>,
) {
    door.serve(place, deadline, reader, writer, who).await;
}

impl Acceptor for UnixListener {
    type Raw = UnixStream;
    type Reader = OwnedReadHalf;
    type Writer = OwnedWriteHalf;

    const ASKS: bool = false;

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
