//! The TCP front door: TLS first, and a name from the certificate.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use tokio::io::{ReadHalf, WriteHalf, split};
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::BrokerError;
use super::door::PeerIdentity;
use super::listener::{Acceptor, Identified};
use crate::tls::{self, Stream, TlsOptions};

/// A port that is taken, and certificates that were read, before the broker has threads.
pub(super) struct Bound {
    listener: StdListener,
    tls: tls::Acceptor,
    address: SocketAddr,
}

impl Bound {
    /// Reads the certificates and takes the port.
    pub(super) fn new(
        address: SocketAddr,
        options: &TlsOptions,
    ) -> Result<(Self, SocketAddr), BrokerError> {
        let tls = tls::Acceptor::new(options)?;
        let listener = StdListener::bind(address).map_err(|e| no_port(address, &e))?;
        let bound = listener.local_addr().map_err(|e| no_port(address, &e))?;
        let this = Self {
            listener,
            tls,
            address: bound,
        };
        Ok((this, bound))
    }

    /// Gives the port to the runtime that the caller is in.
    pub(super) fn start(self, handshake: Duration) -> Result<TlsListener, BrokerError> {
        let Self {
            listener,
            tls,
            address,
        } = self;
        let listener = listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .map_err(|e| no_port(address, &e))?;
        Ok(TlsListener {
            listener,
            tls,
            handshake,
        })
    }
}

fn no_port(address: SocketAddr, reason: &io::Error) -> BrokerError {
    BrokerError::Listen {
        address,
        reason: why_no_port(address, reason),
    }
}

/// What the system said when it was asked for a port, and what can be done about it.
#[must_use]
pub fn why_no_port(address: SocketAddr, reason: &io::Error) -> String {
    let way_out = match reason.kind() {
        io::ErrorKind::AddrInUse => "another program listens there, which `ss -ltnp` shows",
        io::ErrorKind::PermissionDenied => {
            "a port below 1024 is for root or CAP_NET_BIND_SERVICE; take one above"
        }
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported if address.is_ipv6() => {
            "this machine has no such IPv6 address; take one that `ip address` shows, or `127.0.0.1`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; take one that `ip address` shows, or `0.0.0.0` for all"
        }
        _ => match reason.raw_os_error() {
            // std has no kind of its own for it.
            Some(code) if code == rustix::io::Errno::AFNOSUPPORT.raw_os_error() => {
                "this machine has no IPv6; take an IPv4 address such as `127.0.0.1`"
            }
            _ => return reason.to_string(),
        },
    };
    format!("{reason}; {way_out}")
}

/// Listens at a TCP port for clients with a certificate.
pub(super) struct TlsListener {
    listener: TcpListener,
    tls: tls::Acceptor,
    handshake: Duration,
}

impl Acceptor for TlsListener {
    type Raw = (TcpStream, SocketAddr);
    type Reader = ReadHalf<Stream>;
    type Writer = WriteHalf<Stream>;

    const ASKS: bool = true;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.listener.accept().await
    }

    async fn identify(
        &self,
        (stream, peer): (TcpStream, SocketAddr),
    ) -> Result<Identified<Self>, &'static str> {
        match self.tls.accept(stream, self.handshake).await {
            Ok((stream, names)) => {
                debug!(%peer, %names, "connection accepted");
                let (reader, writer) = split(stream);
                let who = PeerIdentity::certified(names, peer.to_string());
                Ok((reader, writer, who))
            }
            Err(refusal) => {
                warn!(%peer, reason = refusal.label(), %refusal, "connection refused");
                Err(refusal.label())
            }
        }
    }
}
