//! An operator's end of an admin socket.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

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
    converse(stream, request, patience).map_err(|error| AdminError::NoAnswer {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn converse(
    mut stream: UnixStream,
    request: Request,
    patience: Duration,
) -> std::io::Result<Answer> {
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_LINE)).read_line(&mut answer)?;
    if answer.is_empty() {
        return Err(std::io::Error::other("it closed the connection"));
    }
    Ok(serde_json::from_str(&answer)?)
}
