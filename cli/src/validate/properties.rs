//! What each transport is by construction: no measurement tells it, the code and its tests do.

use serde::{Deserialize, Serialize};

use super::plan::Transport;

/// How far a bus goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reach {
    Process,
    Host,
    Network,
}

/// Who is kept out, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peers {
    /// Nobody else can reach it.
    SameProcess,
    /// The kernel says whose process a peer is, and only this user's get in.
    SameUser,
    /// Both ends prove who they are by certificates.
    Certificate,
}

/// What a transport is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Properties {
    pub(crate) reach: Reach,
    pub(crate) peers: Peers,
    /// Whether what is on its way can neither be read nor altered.
    pub(crate) encrypted: bool,
}

impl Transport {
    pub(crate) fn properties(self) -> Properties {
        let (reach, peers, encrypted) = match self {
            Self::Crossbeam | Self::InProcess => (Reach::Process, Peers::SameProcess, false),
            Self::Unix => (Reach::Host, Peers::SameUser, false),
            Self::Tcp => (Reach::Network, Peers::Certificate, true),
        };
        Properties {
            reach,
            peers,
            encrypted,
        }
    }
}

impl Reach {
    /// As in `it reaches …`.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Process => "one process",
            Self::Host => "the processes of one host",
            Self::Network => "other hosts",
        }
    }
}

impl Peers {
    /// What speaks for it, and what is left open.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::SameProcess => "nothing outside of the process can reach it",
            Self::SameUser => {
                "the socket has mode 0600 in a directory of mode 0700, and the kernel says whose \
                 process a peer is"
            }
            Self::Certificate => {
                "certificates on both sides, TLS 1.3 or 1.2, and a client name is bound to its \
                 certificate"
            }
        }
    }
}
