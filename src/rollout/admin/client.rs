//! An operator's end of an admin socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::is_trusted;
use super::protocol::{Answer, MAX_LINE, Request};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody is there.
    #[error("no rollout answers at `{path}`: {reason}")]
    Unreachable {
        /// The socket.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Somebody else's process is there.
    #[error(
        "at `{path}` is a process of user {uid}, who is neither you nor root; nothing was said to it"
    )]
    Stranger {
        /// The socket.
        path: String,
        /// Whose process it is.
        uid: u32,
    },
    /// It did not answer, or in another language.
    #[error("the rollout at `{path}` did not answer: {reason}")]
    NoAnswer {
        /// The socket.
        path: String,
        /// What happened.
        reason: String,
    },
}

/// Asks the rollout whose admin socket is at `path`, and waits for its answer at most for `patience`.
/// Says nothing to a process of another user than its own and root.
///
/// It blocks the thread: for programs without a runtime.
///
/// # Errors
/// [`AdminError`] names the socket.
pub fn ask(path: &Path, request: Request, patience: Duration) -> Result<Answer, AdminError> {
    let stream = UnixStream::connect(path).map_err(|error| AdminError::Unreachable {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    let no_answer = |error: io::Error| AdminError::NoAnswer {
        path: path.display().to_string(),
        reason: error.to_string(),
    };
    let uid = owner(&stream, path).map_err(no_answer)?;
    if !is_trusted(uid) {
        let path = path.display().to_string();
        return Err(AdminError::Stranger { path, uid });
    }
    converse(stream, request, patience).map_err(no_answer)
}

/// Whose process listens at the other end.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn owner(stream: &UnixStream, _: &Path) -> io::Result<u32> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid.as_raw())
}

/// Whose the socket is that was connected to, where the system tells no more.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn owner(_: &UnixStream, path: &Path) -> io::Result<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(path.symlink_metadata()?.uid())
}

fn converse(mut stream: UnixStream, request: Request, patience: Duration) -> io::Result<Answer> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::other("it closed the connection"));
    }
    Ok(serde_json::from_str(&answer)?)
}
