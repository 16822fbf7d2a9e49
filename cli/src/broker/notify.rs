//! Telling the service manager: ready, stopping, still alive.
//!
//! The protocol is one datagram of `KEY=value` lines to the socket that `$NOTIFY_SOCKET` names.
//! Invariant: a broker never fails, and never waits, because of who started it; a socket that
//! cannot be told is one warning.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

/// The service manager that started this process, if one did.
#[derive(Debug)]
pub(super) struct Manager {
    told: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one that the environment names.
    pub(super) fn from_environment() -> Self {
        let watchdog = watchdog(
            std::env::var("WATCHDOG_USEC").ok().as_deref(),
            std::env::var("WATCHDOG_PID").ok().as_deref(),
            std::process::id(),
        );
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), watchdog)
    }

    fn new(socket: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let told = socket
            .filter(|name| !name.is_empty())
            .and_then(|name| match open(name) {
                Ok(told) => Some(told),
                Err(reason) => {
                    warn!(socket = ?name, %reason, "service manager not told");
                    None
                }
            });
        Self { told, watchdog }
    }

    /// How often [`alive`](Self::alive) must be said: half of what the manager waits for it.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.told.as_ref()?;
        self.watchdog.map(|patience| patience / 2)
    }

    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining\n");
    }

    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1\n");
    }

    fn tell(&self, message: &str) {
        let Some((socket, address)) = &self.told else {
            return;
        };
        if let Err(reason) = socket.send_to_addr(message.as_bytes(), address) {
            warn!(socket = ?address, %reason, message = message.trim_end(), "service manager not told");
        }
    }
}

/// A leading `@` is an abstract name.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::other("neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold up a broker that starts.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// How long the manager waits for a sign of life of process `own`.
fn watchdog(microseconds: Option<&str>, process: Option<&str>, own: u32) -> Option<Duration> {
    if process.is_some_and(|process| process.parse() != Ok(own)) {
        return None;
    }
    let microseconds = microseconds?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_manager_hears_by_path_and_by_abstract_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("eventbus-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&address).unwrap();
        let name = format!("@{name}");
        for (socket, given) in [
            (by_path, path.as_os_str()),
            (by_name, OsStr::new(name.as_str())),
        ] {
            let manager = Manager::new(Some(given), Some(Duration::from_secs(2)));
            assert_eq!(manager.heartbeat(), Some(Duration::from_secs(1)));
            manager.ready("here");
            manager.alive();
            manager.stopping();
            assert_eq!(receive(&socket), "READY=1\nSTATUS=here\n");
            assert_eq!(receive(&socket), "WATCHDOG=1\n");
            assert_eq!(receive(&socket), "STOPPING=1\nSTATUS=draining\n");
        }
    }

    #[test]
    fn nobody_to_tell_is_no_failure() {
        for socket in [
            None,
            Some(""),
            Some("/nonexistent/notify"),
            Some("relative"),
        ] {
            let manager = Manager::new(socket.map(OsStr::new), None);
            assert_eq!(manager.heartbeat(), None);
            manager.ready("here");
        }
    }

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None, 7), second);
        assert_eq!(watchdog(Some("1000000"), Some("7"), 7), second);
        for (microseconds, process) in [
            (Some("1000000"), Some("8")),
            (Some("1000000"), Some("x")),
            (Some("0"), None),
            (Some("soon"), None),
            (None, Some("7")),
        ] {
            assert_eq!(watchdog(microseconds, process, 7), None);
        }
    }
}
