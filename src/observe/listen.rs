//! Where it listens, and how much anybody there may take.
//!
//! Whoever asks must not be able to hurt the process, whose descriptors these connections take: a
//! few at a time, one request each, each with a deadline. That is why connections are accepted here
//! and not by the framework.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::server::Local;
#[cfg(unix)]
use super::socket::OwnedSocket;
use crate::config::MetricsAddress;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 16;
/// From the first byte of a request to the last of its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener; a UNIX socket is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Listening {
    listener: Listener,
    address: MetricsAddress,
    #[cfg(unix)]
    socket: Option<OwnedSocket>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

/// A connection, of whichever kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Listening {
    pub(super) async fn at(address: &MetricsAddress) -> io::Result<Self> {
        match address {
            MetricsAddress::Tcp(at) => {
                if !at.ip().is_loopback() {
                    warn!(address = %at, "metrics are open to whoever reaches this address");
                }
                let listener = TcpListener::bind(at).await?;
                let address = MetricsAddress::Tcp(listener.local_addr()?);
                Ok(Self {
                    listener: Listener::Tcp(listener),
                    address,
                    #[cfg(unix)]
                    socket: None,
                })
            }
            #[cfg(unix)]
            MetricsAddress::Unix(path) => {
                let (listener, socket) = OwnedSocket::bind(path)?;
                Ok(Self {
                    listener: Listener::Unix(listener),
                    address: address.clone(),
                    socket: Some(socket),
                })
            }
            #[cfg(not(unix))]
            MetricsAddress::Unix(_) => {
                Err(io::Error::other("there are no UNIX sockets on this system"))
            }
        }
    }

    /// The address, with the port that it got.
    pub(super) fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Answers until it is dropped, with all that it has begun.
    pub(super) async fn serve(self, router: Router) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        #[cfg(unix)]
        let _socket = self.socket;
        let mut answering = JoinSet::new();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while answering.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok((stream, local)) => {
                    let router = router.clone();
                    answering.spawn(async move {
                        answer(stream, local, router).await;
                        drop(place);
                    });
                }
                Err(reason) => {
                    warn!(%reason, "accept failed at the metrics address");
                    // A deadline on nothing: the pause.
                    let _ = timeout(ACCEPT_PAUSE, std::future::pending::<()>()).await;
                }
            }
        }
    }
}

impl Listener {
    /// The next connection, and whether it came to the loopback address: a listener at all addresses is
    /// at that one too.
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Option<Local>)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                let at = stream.local_addr()?.ip().to_canonical();
                (Box::new(stream), at.is_loopback().then_some(Local))
            }
            #[cfg(unix)]
            Self::Unix(listener) => (Box::new(listener.accept().await?.0), None),
        })
    }
}

async fn answer(stream: Box<dyn Stream>, local: Option<Local>, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(local) = local {
            request.extensions_mut().insert(local);
        }
        let router = router.clone();
        async move {
            use hyper::service::Service as _;
            Ok::<_, Infallible>(match router.call(request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(DEADLINE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => debug!(%reason, "request not answered"),
        Err(_) => debug!("request not answered in time"),
    }
}
