//! Getting a busrt client: inside this process, over a UNIX socket, or over TCP behind TLS.

use std::path::Path;
use std::time::Duration;

use busrt::ErrorKind;
use busrt::client::AsyncClient;
use eventbus_trait::ConnectError;
use tokio::net::UnixStream;

use crate::broker::{Broker, ERR_NO_ROOM};

/// Buffers of a connection, each way, in bytes.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// A connected client, whatever it is connected by.
pub(crate) type Client = Box<dyn AsyncClient>;

/// A client inside the broker's process.
pub(crate) async fn in_process(broker: &Broker, name: &str) -> Result<Client, ConnectError> {
    match broker.register(name).await {
        Ok(client) => Ok(Box::new(client)),
        Err(reason) => Err(refused("in-process", name, &reason)),
    }
}

/// A client over a UNIX socket.
pub(crate) async fn unix(
    path: &Path,
    name: &str,
    keepalive: Duration,
) -> Result<Client, ConnectError> {
    let address = path.display().to_string();
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => {
            check_owner(&stream, &address)?;
            stream
        }
        Err(e) => {
            return Err(ConnectError::Unreachable {
                address,
                reason: e.to_string(),
            });
        }
    };
    register(stream, &address, name, keepalive).await
}

/// A broker of another user hears what this one must not tell, and may tell it anything.
fn check_owner(stream: &UnixStream, address: &str) -> Result<(), ConnectError> {
    let own = rustix::process::geteuid().as_raw();
    let reason = match stream.peer_cred() {
        Ok(peer) if peer.uid() == own => return Ok(()),
        Ok(peer) => format!("it belongs to uid {}, not to this user", peer.uid()),
        Err(reason) => format!("it does not say whose it is: {reason}"),
    };
    Err(ConnectError::Refused {
        address: address.to_owned(),
        reason,
    })
}

/// A client over TCP, behind TLS. Call it on the runtime that is to carry the connection.
#[cfg(feature = "tcp")]
pub(crate) async fn tcp(
    connector: &crate::tls::Connector,
    name: &str,
    keepalive: Duration,
) -> Result<Client, ConnectError> {
    let stream = connector.connect().await?;
    register(stream, &connector.address(), name, keepalive).await
}

/// Registers `name` with the broker at the other end of `stream`.
async fn register(
    stream: UnixStream,
    address: &str,
    name: &str,
    keepalive: Duration,
) -> Result<Client, ConnectError> {
    // busrt takes our stream only if the path looks like a socket's; the path itself is not used.
    let config = busrt::ipc::Config::new("/tunnel", name)
        .timeout(keepalive)
        .buf_size(BUFFER_BYTES)
        .queue_size(CLIENT_QUEUE_FRAMES);
    match busrt::ipc::Client::connect_stream(stream, &config).await {
        Ok(client) => Ok(Box::new(client)),
        Err(reason) => Err(refused(address, name, &reason)),
    }
}

/// Frames between busrt's reader and our drain, which never waits.
const CLIENT_QUEUE_FRAMES: usize = 1024;

fn refused(address: &str, name: &str, reason: &busrt::Error) -> ConnectError {
    match reason.kind() {
        ErrorKind::Busy => ConnectError::NameInUse {
            name: name.to_owned(),
        },
        kind => ConnectError::Refused {
            address: address.to_owned(),
            reason: if kind as u8 == ERR_NO_ROOM {
                "it has as many connections as it may have".to_owned()
            } else {
                reason.to_string()
            },
        },
    }
}
