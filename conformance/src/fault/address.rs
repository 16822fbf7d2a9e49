//! Addresses for brokers that listen later, or are killed and started again at the same place.
//!
//! A port that is found free and let go of may be somebody else's when its broker comes to listen, or a
//! client's that tries again there and so connects to itself. One that is bound and not listened at
//! refuses connections as one that nobody has, the system gives it to nobody who asks for any, and who
//! asks for that very one may listen there, if both say `SO_REUSEADDR`, as Rust's listeners do.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A loopback address that is kept free for who is told of it, until this is dropped.
#[derive(Debug)]
pub struct Reserved {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl Reserved {
    /// One that nobody has.
    ///
    /// # Errors
    /// As binding fails.
    pub fn new() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self {
            address: socket.local_addr()?,
            _socket: socket,
        })
    }

    /// Where to listen.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}
