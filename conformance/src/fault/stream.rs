//! A socket of either kind that can be read and written through a shared reference.
//!
//! A proxy must be able to drop both ends of a connection at once, abruptly, whatever its two
//! directions are doing: so neither direction owns a half of anything.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::net::Shutdown;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At a UNIX socket.
    Unix(PathBuf),
    /// At a TCP port; port 0 is whichever is free.
    Tcp(SocketAddr),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    pub(super) async fn connect(place: &Place) -> io::Result<Self> {
        match place {
            Place::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = match self {
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let written = match self {
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Says that nothing more will be written.
    pub(super) fn finish(&self) {
        // Fails only if the other end is gone, which is as good.
        let _ = match self {
            Self::Unix(stream) => rustix::net::shutdown(stream.as_fd(), Shutdown::Write),
            Self::Tcp(stream) => rustix::net::shutdown(stream.as_fd(), Shutdown::Write),
        };
    }

    /// Makes the end of this socket a reset instead of a farewell. A UNIX socket has no such
    /// thing: its peer gets a reset if it had sent something that was not read, else an end.
    pub(super) fn reset_on_drop(&self) {
        if let Self::Tcp(stream) = self {
            // What it cannot do, it says by a farewell: still an end in the middle.
            let _ = stream.set_zero_linger();
        }
    }
}

pub(super) enum Listener {
    /// The path is removed with the listener.
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

impl Listener {
    pub(super) fn bind(place: &Place) -> io::Result<Self> {
        match place {
            Place::Unix(path) => Ok(Self::Unix(UnixListener::bind(path)?, path.clone())),
            Place::Tcp(address) => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Self::Tcp)
            }
        }
    }

    pub(super) fn place(&self) -> io::Result<Place> {
        match self {
            Self::Unix(_, path) => Ok(Place::Unix(path.clone())),
            Self::Tcp(listener) => listener.local_addr().map(Place::Tcp),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Stream::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let path: &Path = path;
            let _ = std::fs::remove_file(path);
        }
    }
}
