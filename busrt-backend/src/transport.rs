//! A client of a broker: inside this process, over a UNIX socket, or over TCP behind TLS.

use std::io;
use std::path::Path;
use std::time::Duration;

use busrt::borrow::Cow;
use busrt::client::AsyncClient as _;
use busrt::{Error, ErrorKind, EventChannel, Frame, FrameKind, QoS};
use bytes::{Bytes, BytesMut};
use eventbus_trait::ConnectError;
use tokio::net::UnixStream;

use crate::broker::{Broker, BrokerOptions, ERR_NO_ROOM};
use crate::client::{self, Answer, Reader, WireClient, WireFrame};

/// Buffers of a connection, each way, in bytes.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// Room for the names in a frame, beside what the broker's limit counts.
const NAMES_BYTES: usize = 64 * 1024;

/// A connected client, whatever it is connected by.
///
/// What it is told to do is done at the next [`flush`](Client::flush) at the latest. An error is
/// the end of the connection, but for [`send`](Client::send) in process.
#[derive(Debug)]
pub(crate) enum Client {
    InProcess(InProcess),
    Wire(WireClient),
}

/// busrt's client inside the broker's process.
pub(crate) struct InProcess(busrt::broker::Client);

/// What a connection has to live with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// How long the broker may take nothing.
    pub(crate) keepalive: Duration,
    /// Longest frame of the broker's, in bytes.
    pub(crate) max_frame: usize,
}

impl Terms {
    /// Terms for events of this size: what the broker of a session with this limit passes.
    pub(crate) fn new(keepalive: Duration, max_event_size: usize) -> Self {
        let mut broker = BrokerOptions::new();
        broker.fit(max_event_size);
        Self {
            keepalive,
            max_frame: broker.max_frame.saturating_add(NAMES_BYTES),
        }
    }
}

impl Client {
    pub(crate) fn is_in_process(&self) -> bool {
        matches!(self, Self::InProcess(_))
    }

    /// What arrives, for whoever is to drain it; once.
    pub(crate) fn take_frames(&mut self) -> Option<Frames> {
        match self {
            Self::InProcess(client) => client.0.take_event_channel().map(Frames::InProcess),
            Self::Wire(client) => client.take_reader().map(Box::new).map(Frames::Wire),
        }
    }

    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: Vec<u8>,
        want_answer: bool,
    ) -> Result<Option<Answer>, Error> {
        match self {
            Self::InProcess(client) => {
                let qos = qos(want_answer);
                client.0.publish(topic, Cow::Owned(payload), qos).await
            }
            Self::Wire(client) => client.publish(topic, payload, want_answer).await,
        }
    }

    /// Sends a message to one client.
    pub(crate) async fn send(
        &mut self,
        target: &str,
        payload: Vec<u8>,
        want_answer: bool,
    ) -> Result<Option<Answer>, Error> {
        match self {
            Self::InProcess(client) => {
                let qos = qos(want_answer);
                client.0.send(target, Cow::Owned(payload), qos).await
            }
            Self::Wire(client) => client.send(target, payload, want_answer).await,
        }
    }

    pub(crate) async fn subscribe_bulk(
        &mut self,
        patterns: &[&str],
    ) -> Result<Option<Answer>, Error> {
        match self {
            Self::InProcess(client) => client.0.subscribe_bulk(patterns, qos(true)).await,
            Self::Wire(client) => client.subscribe(patterns).await,
        }
    }

    pub(crate) async fn unsubscribe_bulk(&mut self, patterns: &[&str]) -> Result<(), Error> {
        match self {
            Self::InProcess(client) => {
                let done = client.0.unsubscribe_bulk(patterns, qos(false)).await;
                done.map(drop)
            }
            Self::Wire(client) => client.unsubscribe(patterns).await,
        }
    }

    /// Shows the broker that we are there.
    pub(crate) async fn ping(&mut self) -> Result<(), Error> {
        match self {
            Self::InProcess(_) => Ok(()),
            Self::Wire(client) => client.ping().await,
        }
    }

    /// Has everything sent. Whoever waits for something that it brings about calls it first.
    pub(crate) async fn flush(&mut self) -> Result<(), Error> {
        match self {
            Self::InProcess(_) => Ok(()),
            Self::Wire(client) => client.flush().await,
        }
    }

    /// Waits for an answer; the client need not be drained meanwhile.
    pub(crate) async fn answered(&mut self, answer: Answer) -> Result<(), Error> {
        match self {
            Self::InProcess(_) => answer.await?,
            Self::Wire(client) => client.answered(answer).await,
        }
    }

    /// Has everything sent, and the broker know that there is no more.
    pub(crate) async fn close(&mut self) {
        if let Self::Wire(client) = self {
            client.close().await;
        }
    }
}

/// In real time: nobody on the way is to wait for more.
pub(crate) fn qos(want_answer: bool) -> QoS {
    if want_answer {
        QoS::RealtimeProcessed
    } else {
        QoS::Realtime
    }
}

/// What arrives at a client.
#[derive(Debug)]
pub(crate) enum Frames {
    InProcess(EventChannel),
    Wire(Box<Reader>),
}

impl Frames {
    /// The next frame; `None` when the broker has ended the connection. It may be cancelled.
    ///
    /// # Errors
    /// The connection has failed.
    pub(crate) async fn next(&mut self) -> Result<Option<Incoming>, Error> {
        match self {
            Self::InProcess(frames) => Ok(frames.recv().await.ok().map(Incoming::InProcess)),
            Self::Wire(reader) => Ok(reader.next().await?.map(Incoming::Wire)),
        }
    }
}

/// A frame of another client.
#[derive(Debug)]
pub(crate) enum Incoming {
    InProcess(Frame),
    Wire(WireFrame),
}

/// A busrt frame as the owner of its payload's bytes.
struct Owned(Frame);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.payload()
    }
}

impl Incoming {
    pub(crate) fn kind(&self) -> FrameKind {
        match self {
            Self::InProcess(frame) => frame.kind(),
            Self::Wire(frame) => frame.kind(),
        }
    }

    pub(crate) fn sender(&self) -> &str {
        match self {
            Self::InProcess(frame) => frame.sender(),
            Self::Wire(frame) => frame.sender(),
        }
    }

    pub(crate) fn topic(&self) -> Option<&str> {
        match self {
            Self::InProcess(frame) => frame.topic(),
            Self::Wire(frame) => frame.topic(),
        }
    }

    /// The payload, in the memory that it arrived in.
    pub(crate) fn payload(&self) -> Bytes {
        match self {
            Self::InProcess(frame) => Bytes::from_owner(Owned(Frame::clone(frame))),
            Self::Wire(frame) => frame.payload(),
        }
    }
}

impl std::fmt::Debug for InProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.get_name())
    }
}

/// A client inside the broker's process.
pub(crate) async fn in_process(broker: &Broker, name: &str) -> Result<Client, ConnectError> {
    match broker.register(name).await {
        Ok(client) => Ok(Client::InProcess(InProcess(client))),
        Err(reason) => Err(refused("in-process", name, &reason)),
    }
}

/// A client over a UNIX socket.
pub(crate) async fn unix(path: &Path, name: &str, terms: Terms) -> Result<Client, ConnectError> {
    let address = path.display().to_string();
    let mut stream = match UnixStream::connect(path).await {
        Ok(stream) => {
            check_owner(&stream, &address)?;
            stream
        }
        Err(e) => {
            return Err(ConnectError::Unreachable {
                address,
                reason: nobody(&e),
            });
        }
    };
    let Terms {
        keepalive,
        max_frame,
    } = terms;
    let mut read = BytesMut::new();
    client::register(&mut stream, &mut read, name, keepalive)
        .await
        .map_err(|reason| refused(&address, name, &reason))?;
    let (reader, writer) = stream.into_split();
    let client = WireClient::new(reader, writer, read, keepalive, max_frame);
    Ok(Client::Wire(client))
}

/// Why a broker cannot be reached, and what to look at.
pub(crate) fn nobody(reason: &io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{reason}; run as the broker's user, or come over TCP")
        }
        _ => format!("{reason}; is a broker running there?"),
    }
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
    terms: Terms,
) -> Result<Client, ConnectError> {
    let Terms {
        keepalive,
        max_frame,
    } = terms;
    let (mut stream, mut read) = connector.connect().await?;
    client::register(&mut stream, &mut read, name, keepalive)
        .await
        .map_err(|reason| refused(&connector.address(), name, &reason))?;
    let (reader, writer) = tokio::io::split(stream);
    let client = WireClient::new(reader, writer, read, keepalive, max_frame);
    Ok(Client::Wire(client))
}

fn refused(address: &str, name: &str, reason: &Error) -> ConnectError {
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
