//! The signals that end a program, noticed from when they are asked for; and work that ends at one.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use ::conformance::Stop;
use tempfile::TempDir;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::info;

use crate::failure::Failure;
use crate::shadow::endpoint::private_directory;
use crate::{begin_a_line, tell};

/// How long what is under way at an interrupt may take to end.
pub(crate) const WIND_UP: Duration = Duration::from_secs(10);

/// SIGINT and SIGTERM, noticed from when this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Interrupt,
    Terminate,
}

impl Signals {
    /// Takes them over from the system, which would end the program.
    pub(crate) fn new() -> Result<Self, Failure> {
        let notice =
            |kind| unix::signal(kind).map_err(|reason| Failure::io("notice signals", reason));
        Ok(Self {
            interrupt: notice(SignalKind::interrupt())?,
            terminate: notice(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them, and says which. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => {
                info!("interrupted");
                Signal::Interrupt
            }
            _ = self.terminate.recv() => {
                info!("told to end");
                Signal::Terminate
            }
        }
    }
}

/// Does work that is not polled, with a directory of its own for all that is temporary.
///
/// An interrupt asks the work to end and waits for that, since what opens a bus may be about to write there;
/// then the directory goes. A second interrupt ends it at once, and so does [`WIND_UP`].
pub(crate) fn in_directory<T: Send + 'static>(
    work: impl FnOnce(&Path, &Stop) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|reason| Failure::io("start the runtime", reason))?;
    runtime.block_on(async {
        // First of all: who is interrupted before has made nothing.
        let mut signals = Signals::new()?;
        let directory = temporary()?;
        let (stop, place) = (Stop::default(), directory.path().to_owned());
        let (tell, mut told) = oneshot::channel();
        let asked = stop.clone();
        // Nobody listens any more if it was given up.
        thread::spawn(move || drop(tell.send(work(&place, &asked))));
        let ended = tokio::select! {
            biased;
            _ = signals.next() => wound_up(&stop, &mut signals, told).await,
            ended = &mut told => ended.map_err(|_| Failure::io("go on", "a thread has panicked"))?,
        };
        take_away(directory);
        ended
    })
}

/// What came of work that is asked to end.
async fn wound_up<T>(
    stop: &Stop,
    signals: &mut Signals,
    told: oneshot::Receiver<Result<T, Failure>>,
) -> Result<T, Failure> {
    stop.ask();
    begin_a_line();
    tell("interrupted: what was begun is ended; once more leaves it at once");
    tokio::select! {
        biased;
        _ = signals.next() => Err(Failure::Interrupted),
        ended = timeout(WIND_UP, told) => match ended {
            // It was done just then.
            Ok(Ok(Ok(done))) => Ok(done),
            _ => Err(Failure::Interrupted),
        },
    }
}

/// Where everything temporary of this process goes.
fn temporary() -> Result<TempDir, Failure> {
    let directory = private_directory()?;
    tempfile::env::override_temp_dir(directory.path())
        .map_err(|taken| Failure::io("take a directory", format!("`{}` is", taken.display())))?;
    Ok(directory)
}

/// Also from work that was given up: where the directory was, its files find none any more.
fn take_away(directory: TempDir) {
    let away = directory.path().with_extension("away");
    let _ = fs::rename(directory.path(), &away);
    let _ = fs::remove_dir_all(away);
}
