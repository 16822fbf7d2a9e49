//! Where it listens, and how much anybody there may take.
//!
//! Whoever asks must not be able to hurt the process, whose descriptors these connections take: a
//! few at a time, one request each, each with a deadline. That is why connections are accepted here
//! and not by the framework.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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
    socket: Option<OwnedPath>,
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

#[derive(Debug)]
struct OwnedPath(PathBuf);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        // It may be gone already, with its directory.
        let _ = fs::remove_file(&self.0);
    }
}

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
                    socket: None,
                })
            }
            MetricsAddress::Unix(path) => Ok(Self {
                listener: unix(path)?,
                address: address.clone(),
                socket: Some(OwnedPath(path.clone())),
            }),
        }
    }

    /// The address, with the port that it got.
    pub(super) fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Whether only this machine reaches it, by a port as any browser on it does.
    pub(super) fn is_loopback(&self) -> bool {
        matches!(&self.address, MetricsAddress::Tcp(at) if at.ip().is_loopback())
    }

    /// Answers until it is dropped, with all that it has begun.
    pub(super) async fn serve(self, router: Router) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let _socket = self.socket;
        let mut answering = JoinSet::new();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while answering.try_join_next().is_some() {}
            match self.listener.accept().await {
                Ok(stream) => {
                    let router = router.clone();
                    answering.spawn(async move {
                        answer(stream, router).await;
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
    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            #[cfg(unix)]
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Takes over what a dead process has left, and nothing else. A directory that is not there yet is
/// made for this user alone, as the broker makes its own.
#[cfg(unix)]
fn unix(path: &Path) -> io::Result<Listener> {
    use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
    use std::os::unix::net::UnixStream;

    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    let left = path.symlink_metadata();
    if left.is_ok_and(|meta| meta.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::other("another process listens there"));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Listener::Unix(listener))
}

#[cfg(not(unix))]
fn unix(_: &Path) -> io::Result<Listener> {
    Err(io::Error::other("there are no UNIX sockets on this system"))
}

async fn answer(stream: Box<dyn Stream>, router: Router) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
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
