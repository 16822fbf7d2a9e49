//! What a bus runs on, and how that is written in one word.
//!
//! A phase is a connection string, so that moving an application from channels to a broker is a
//! change of one value, in a file or in the environment.
//!
//! Invariant: what a [`Phase`] displays as, it parses from, except for a shadow, which is two
//! phases and is put together from three keys of the configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a UNIX socket, in bytes: what the system's address structure has room for.
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// What a bus runs on.
///
/// ```
/// use eventbus::Phase;
/// assert_eq!("crossbeam".parse(), Ok(Phase::Crossbeam));
/// assert_eq!("ipc:///run/x/bus.sock".parse::<Phase>()?.to_string(), "unix:///run/x/bus.sock");
/// assert!("carrier-pigeon".parse::<Phase>().is_err());
/// # Ok::<(), eventbus::PhaseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Channels inside this process.
    Crossbeam,
    /// A busrt broker embedded in this process, without a socket.
    InProcess,
    /// A busrt broker behind a UNIX socket at this absolute path.
    Unix(PathBuf),
    /// A busrt broker behind a TCP port, with TLS and certificates on both sides.
    Tcp {
        /// Host name or address; an IPv6 address without its brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// The application sees the primary; the candidate gets the same traffic and is compared.
    Shadow {
        /// What the application runs on.
        primary: Box<Phase>,
        /// What is compared with it.
        candidate: Box<Phase>,
    },
}

/// Why a text is not a phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PhaseError {
    /// The text is none of the known forms.
    #[error("unknown phase `{text}`; expected {EXPECTED}")]
    Unknown {
        /// The text.
        text: String,
    },
    /// The path of a socket is missing, relative, or not a file's.
    #[error("`{text}` names no absolute path; write `unix:///run/example/bus.sock`")]
    SocketPath {
        /// The text.
        text: String,
    },
    /// The path of a socket is longer than the system allows.
    #[error("socket path of {bytes} bytes is over the limit of {MAX_SOCKET_PATH_BYTES}")]
    SocketPathTooLong {
        /// Length of the path.
        bytes: usize,
    },
    /// A TCP address is not `host:port`.
    #[error("`{text}` is not `tcp://host:port` with a port of 1 to 65535")]
    TcpAddress {
        /// The text.
        text: String,
    },
    /// `shadow` stands where one plain phase is wanted.
    #[error("`shadow` is two phases: set `phase`, `primary` and `candidate` in the configuration")]
    Shadow,
    /// Both sides of a shadow would be the same socket, so that each event came twice.
    #[error("primary and candidate are both `{phase}`; two sides of a shadow need a socket each")]
    SameSocket {
        /// The phase.
        phase: String,
    },
}

/// The forms of a plain phase, for errors and help.
pub(crate) const EXPECTED: &str =
    "`crossbeam`, `in-process`, `unix:///path`, `ipc:///path` or `tcp://host:port`";

impl Phase {
    /// A shadow of two plain phases.
    ///
    /// # Errors
    /// [`PhaseError::Shadow`] if one of them is itself a shadow, [`PhaseError::SameSocket`] if
    /// both are the same socket.
    pub fn shadow(primary: Self, candidate: Self) -> Result<Self, PhaseError> {
        if matches!(primary, Self::Shadow { .. }) || matches!(candidate, Self::Shadow { .. }) {
            return Err(PhaseError::Shadow);
        }
        if primary == candidate && matches!(primary, Self::Unix(_) | Self::Tcp { .. }) {
            return Err(PhaseError::SameSocket {
                phase: primary.to_string(),
            });
        }
        Ok(Self::Shadow {
            primary: Box::new(primary),
            candidate: Box::new(candidate),
        })
    }

    /// The short name, as in [`EventBus::backend`](crate::EventBus::backend).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Crossbeam => "crossbeam",
            Self::InProcess => "in-process",
            Self::Unix(_) => "unix",
            Self::Tcp { .. } => "tcp",
            Self::Shadow { .. } => "shadow",
        }
    }

    /// Short names of the plain phases that this build can open.
    #[must_use]
    pub fn available() -> &'static [&'static str] {
        match (
            cfg!(feature = "crossbeam"),
            cfg!(feature = "busrt"),
            cfg!(feature = "tcp"),
        ) {
            (true, true, true) => &["crossbeam", "in-process", "unix", "tcp"],
            (true, true, false) => &["crossbeam", "in-process", "unix"],
            (true, false, _) => &["crossbeam"],
            (false, true, true) => &["in-process", "unix", "tcp"],
            (false, true, false) => &["in-process", "unix"],
            (false, false, _) => &[],
        }
    }

    /// The first phase over TCP in this one, if any.
    pub(crate) fn tcp(&self) -> Option<&Self> {
        match self {
            Self::Tcp { .. } => Some(self),
            Self::Shadow { primary, candidate } => primary.tcp().or_else(|| candidate.tcp()),
            _ => None,
        }
    }
}

/// `crossbeam` if that feature is on; else `in-process` if `busrt` is; else `crossbeam`, which
/// then says at [`open`](crate::open) which feature it needs.
impl Default for Phase {
    fn default() -> Self {
        if cfg!(all(feature = "busrt", not(feature = "crossbeam"))) {
            Self::InProcess
        } else {
            Self::Crossbeam
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crossbeam | Self::InProcess => f.write_str(self.name()),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Shadow { primary, candidate } => write!(f, "shadow({primary}, {candidate})"),
        }
    }
}

impl FromStr for Phase {
    type Err = PhaseError;

    fn from_str(text: &str) -> Result<Self, PhaseError> {
        match text {
            "crossbeam" => return Ok(Self::Crossbeam),
            "in-process" => return Ok(Self::InProcess),
            "shadow" => return Err(PhaseError::Shadow),
            _ => {}
        }
        match text.split_once("://") {
            Some(("unix" | "ipc", path)) => socket(text, path),
            Some(("tcp", address)) => tcp(text, address),
            _ => Err(PhaseError::Unknown {
                text: text.to_owned(),
            }),
        }
    }
}

fn socket(text: &str, path: &str) -> Result<Phase, PhaseError> {
    if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
        return Err(PhaseError::SocketPath {
            text: text.to_owned(),
        });
    }
    if path.len() > MAX_SOCKET_PATH_BYTES {
        return Err(PhaseError::SocketPathTooLong { bytes: path.len() });
    }
    Ok(Phase::Unix(Path::new(path).to_path_buf()))
}

fn tcp(text: &str, address: &str) -> Result<Phase, PhaseError> {
    let parse = || {
        let (host, port) = address.rsplit_once(':')?;
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        // A colon outside brackets is an IPv6 address whose end is taken for a port.
        if host.is_empty() || (bare.is_none() && host.contains([':', '/', '[', ']'])) {
            return None;
        }
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let host = bare.unwrap_or(host).to_owned();
        Some(Phase::Tcp { host, port })
    };
    parse().ok_or_else(|| PhaseError::TcpAddress {
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_phase_displays_as_it_parses_from() {
        for text in [
            "crossbeam",
            "in-process",
            "unix:///run/x/bus.sock",
            "tcp://broker.example:7777",
            "tcp://[::1]:7777",
        ] {
            assert_eq!(text.parse::<Phase>().unwrap().to_string(), text);
        }
        assert_eq!(
            "ipc:///run/x/bus.sock".parse(),
            Ok(Phase::Unix("/run/x/bus.sock".into()))
        );
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (text, error) in [
            (
                "Crossbeam",
                "unknown phase `Crossbeam`; expected `crossbeam`, `in-process`, `unix:///path`, \
                 `ipc:///path` or `tcp://host:port`",
            ),
            (
                "unix://bus.sock",
                "`unix://bus.sock` names no absolute path; write `unix:///run/example/bus.sock`",
            ),
            (
                "tcp://host",
                "`tcp://host` is not `tcp://host:port` with a port of 1 to 65535",
            ),
            (
                "tcp://::1:5",
                "`tcp://::1:5` is not `tcp://host:port` with a port of 1 to 65535",
            ),
        ] {
            assert_eq!(text.parse::<Phase>().unwrap_err().to_string(), error);
        }
        let long = format!("unix:///{}", "x".repeat(MAX_SOCKET_PATH_BYTES));
        assert_eq!(
            long.parse::<Phase>(),
            Err(PhaseError::SocketPathTooLong { bytes: 108 })
        );
        for text in [
            "",
            "shadow",
            "unix:///",
            "unix://",
            "ipc:///a\0b",
            "tcp://:1",
            "tcp://a:0",
        ] {
            assert!(text.parse::<Phase>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_shadow_needs_two_plain_phases_and_two_sockets() {
        let unix = Phase::Unix("/run/x.sock".into());
        assert!(Phase::shadow(Phase::InProcess, Phase::InProcess).is_ok());
        assert_eq!(
            Phase::shadow(unix.clone(), unix.clone()),
            Err(PhaseError::SameSocket {
                phase: "unix:///run/x.sock".to_owned()
            })
        );
        let nested = Phase::shadow(Phase::Crossbeam, unix).unwrap();
        assert_eq!(
            Phase::shadow(nested, Phase::Crossbeam),
            Err(PhaseError::Shadow)
        );
    }
}
