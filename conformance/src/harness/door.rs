//! What a backend supplies so that the clauses can come to its front door.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use eventbus_trait::{EventBus, Limits};

use super::{Refusal, Rig};

/// Who comes to the front door.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// A session like any other.
    Member,
    /// A session that may publish and subscribe on `open.#` and nothing else.
    Guest,
    /// A client without TLS, where it is asked for.
    Plain,
    /// A client without a certificate, where one is asked for.
    NoCertificate,
    /// A session whose certificate is from an authority that the broker does not know.
    ForeignAuthority,
    /// A session whose certificate has expired.
    Expired,
    /// A session that expects the broker's certificate to be for another name.
    WrongServerName,
    /// A session under a name that its certificate is not for.
    AnothersName,
    /// Somebody who has got as far as any client, and then sends these bytes.
    Bytes(Vec<u8>),
}

/// How it went.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It was let in.
    In(Arc<dyn EventBus>),
    /// It was turned away, or its connection was closed.
    Out(Refusal),
    /// The phase's connections know no such caller.
    NoSuchCaller,
}

/// A phase with a front door of its own.
#[async_trait]
pub trait DoorHarness: Send + Sync {
    /// Starts a bus as [`Harness::start`](super::Harness::start) does, whose broker takes at most
    /// `connections`.
    ///
    /// # Errors
    /// In words, why no bus could be started.
    async fn start_door(
        &self,
        limits: Limits,
        connections: usize,
    ) -> Result<Box<dyn DoorRig>, String>;

    /// Whether the door is a [socket](DoorRig::socket) in the file system.
    fn has_socket(&self) -> bool {
        cfg!(unix)
    }

    /// Whether callers have to come by TLS, with certificates.
    fn has_tls(&self) -> bool {
        true
    }
}

/// A started bus, and the way to its front door.
#[async_trait]
pub trait DoorRig: Rig {
    /// Comes to the door, and returns once it is known how that went: for
    /// [`Caller::Bytes`], once the connection is closed.
    ///
    /// # Errors
    /// In words, why nobody could come.
    async fn come(&self, caller: Caller) -> Result<Answer, String>;

    /// The socket in the file system, if there is one.
    fn socket(&self) -> Option<PathBuf>;

    /// Tries to be a second broker at the same place.
    ///
    /// # Errors
    /// In words, why it could not be, as it should.
    async fn second_broker(&self) -> Result<(), String>;
}
