//! `/healthz` and `/metrics`, for a service manager and for Prometheus.
//!
//! Whoever asks must not be able to hurt the broker, whose descriptors these connections take: a
//! few at a time, one request each, each with a deadline. That is why this is hyper and not a
//! framework above it.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventbus::config::MetricsAddress;
use http_body_util::Full;
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::health::Health;
use super::metrics;
use crate::failure::Failure;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 16;
/// From the first byte of a request to the last of its answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where it listens; a UNIX socket is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Bound {
    listener: Listener,
    address: MetricsAddress,
    socket: Option<OwnedPath>,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
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

impl Bound {
    /// Listens at an address.
    pub(super) async fn new(address: &MetricsAddress) -> Result<Self, Failure> {
        let failed = |reason: io::Error| Failure::io(format!("listen at `{address}`"), reason);
        match address {
            MetricsAddress::Tcp(at) => {
                if !at.ip().is_loopback() {
                    warn!(address = %at, "metrics are open to whoever reaches this address");
                }
                let listener = TcpListener::bind(at).await.map_err(failed)?;
                let address = MetricsAddress::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self {
                    listener: Listener::Tcp(listener),
                    address,
                    socket: None,
                })
            }
            MetricsAddress::Unix(path) => {
                let listener = unix(path).map_err(failed)?;
                Ok(Self {
                    listener: Listener::Unix(listener),
                    address: address.clone(),
                    socket: Some(OwnedPath(path.clone())),
                })
            }
        }
    }

    /// The address, with the port that it got.
    pub(super) fn address(&self) -> &MetricsAddress {
        &self.address
    }

    /// Answers until its task is ended.
    pub(super) async fn serve(self, health: Arc<Health>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let _socket = self.socket;
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match self.listener.accept().await {
                Ok(stream) => {
                    let health = Arc::clone(&health);
                    tokio::spawn(async move {
                        answer(stream, health).await;
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
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Takes over what a dead process has left, and nothing else. A directory that is not there yet is
/// made for this user alone, as the broker makes its own.
fn unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    let left = path.symlink_metadata();
    if left.is_ok_and(|meta| meta.file_type().is_socket()) {
        if StdUnixStream::connect(path).is_ok() {
            return Err(io::Error::other("another process listens there"));
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn answer(stream: Box<dyn Stream>, health: Arc<Health>) {
    let service = service_fn(move |request| {
        let health = Arc::clone(&health);
        async move { Ok::<_, Infallible>(respond(&request, &health)) }
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

fn respond<B>(request: &Request<B>, health: &Health) -> Response<Full<Bytes>> {
    let (status, content_type, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz") => {
            let (healthy, body) = health.document();
            let status = if healthy {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            (status, JSON, body)
        }
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, METRICS, metrics::text(health))
        }
        (_, "/healthz" | "/metrics") => {
            let body = "only GET\n".to_owned();
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, body)
        }
        _ => {
            let body = "there are /healthz and /metrics\n".to_owned();
            (StatusCode::NOT_FOUND, TEXT, body)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Ok(value) = content_type.parse() {
        headers.insert(CONTENT_TYPE, value);
    }
    if status == StatusCode::METHOD_NOT_ALLOWED
        && let Ok(value) = "GET, HEAD".parse()
    {
        headers.insert(ALLOW, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use eventbus::broker::{Broker, BrokerOptions};
    use http_body_util::BodyExt as _;

    use super::*;

    async fn get(path: &str, health: &Health) -> (u16, String) {
        let request = Request::get(path).body(()).unwrap();
        let response = respond(&request, health);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_broker_that_drains_or_has_ended_says_so() {
        let broker = Broker::start(BrokerOptions::new()).await.unwrap();
        let health = Health::new(broker.monitor(), 1);
        let (status, body) = get("/healthz", &health).await;
        assert!(
            status == 200 && body.starts_with(r#"{"status":"ok","#),
            "{body}"
        );
        assert!(get("/metrics", &health).await.1.contains("_draining 0\n"));
        health.drain();
        for _ in 0..2 {
            let (status, body) = get("/healthz", &health).await;
            assert!(status == 503 && body.starts_with(r#"{"status":"draining","#));
            let (status, page) = get("/metrics", &health).await;
            assert!(status == 200 && page.contains("_draining 1\n"), "{page}");
        }
        broker.stop().await;
        assert_eq!(get("/healthz", &health).await.0, 503);
    }
}
