//! The rollout's end of an admin socket.
//!
//! Invariant: the socket has its mode before it has its name, so nobody else ever gets in.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{info, warn};

use super::is_trusted;
use super::protocol::{Answer, MAX_LINE, Request};
use crate::rollout::controller::{Controller, Direction};

/// Operators at once.
const CONNECTIONS: usize = 16;
/// How long an operator may say nothing.
const IDLE: Duration = Duration::from_secs(60);

/// A socket that is served; dropping it ends that and removes it.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    task: AbortHandle,
}

impl Server {
    /// Serves at `path`; the reason if the system says no, or somebody else is there.
    pub(crate) fn start(path: &Path, controller: Controller) -> Result<Self, String> {
        let told = |error: io::Error| {
            let path = path.display();
            format!("cannot listen at admin socket `{path}`: {error}")
        };
        let listener = bind(path).map_err(told)?;
        let task = tokio::spawn(serve(listener, controller)).abort_handle();
        let path = path.to_owned();
        Ok(Self { path, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // Gone already, if somebody tidied up.
        let _ = fs::remove_file(&self.path);
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    if let Ok(metadata) = path.symlink_metadata() {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::other("it is not a socket; it is left as it is"));
        }
        if Blocking::connect(path).is_ok() {
            return Err(io::Error::other("another process answers there"));
        }
    }
    let mut early = path.as_os_str().to_owned();
    early.push(format!(".{}", std::process::id()));
    let early = PathBuf::from(early);
    // Left by an earlier process of this number, if at all.
    let _ = fs::remove_file(&early);
    let listener = UnixListener::bind(&early)?;
    fs::set_permissions(&early, Permissions::from_mode(0o600))?;
    fs::rename(&early, path)?;
    Ok(listener)
}

async fn serve(listener: UnixListener, controller: Controller) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut operators = JoinSet::new();
    loop {
        while operators.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) if is_ours(&stream) => {
                let controller = controller.clone();
                operators.spawn(async move {
                    let _place = place;
                    if let Err(reason) = converse(stream, &controller).await {
                        info!(%reason, "an operator is gone");
                    }
                });
            }
            Ok(_) => warn!("somebody else's process at the admin socket was refused"),
            Err(reason) => {
                warn!(%reason, "cannot accept an operator");
                futures_timer::Delay::new(Duration::from_millis(100)).await;
            }
        }
    }
}

fn is_ours(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| is_trusted(peer.uid()))
}

async fn converse(stream: UnixStream, controller: &Controller) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = String::new();
        let mut limited = (&mut reader).take(MAX_LINE);
        let read = tokio::time::timeout(IDLE, limited.read_line(&mut line));
        let Ok(read) = read.await else { return Ok(()) };
        if read? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(controller, request).await,
            Err(error) => Answer::Refused(format!("this is no request: {error}")),
        };
        let mut line = serde_json::to_string(&answer)?;
        line.push('\n');
        writer.write_all(line.as_bytes()).await?;
    }
}

async fn answer(controller: &Controller, request: Request) -> Answer {
    let done = match request {
        Request::Status => return Answer::Status(Box::new(controller.status())),
        Request::Plan { direction } => return Answer::Plan(controller.plan(direction)),
        Request::Abort => {
            return match controller.abort() {
                Ok(()) => Answer::Aborting,
                Err(error) => Answer::Refused(error.to_string()),
            };
        }
        Request::Advance { force, from: None } => controller.advance(force).await,
        Request::Back { from: None } => controller.back().await,
        Request::Advance {
            force,
            from: Some(from),
        } => controller.go_from(from, Direction::Advance, force).await,
        Request::Back { from: Some(from) } => controller.go_from(from, Direction::Back, true).await,
        Request::Pause => controller.pause().await,
        Request::Resume => controller.resume().await,
    };
    match done {
        Ok(entry) => Answer::Done(entry),
        Err(error) => Answer::Refused(error.to_string()),
    }
}
