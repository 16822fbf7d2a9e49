//! Standard output in a thread of its own.
//!
//! A terminal that is stopped, or a pager that nobody pages, blocks whoever writes to it. The program is
//! to hear its signals all the same, so it hands lines over, and may leave while one is still stuck.
//!
//! Invariant: at most `LINES` lines wait here; beyond that the subscription is where events wait, and
//! that is where drops are counted.

use std::io::{ErrorKind, IsTerminal as _, Write as _};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::{mpsc, oneshot};

use crate::failure::Failure;

const LINES: usize = 64;

/// Where lines go.
pub(super) struct Out {
    lines: Option<mpsc::Sender<String>>,
    ended: oneshot::Receiver<std::io::Result<()>>,
    nobody: oneshot::Receiver<()>,
}

impl Out {
    pub(super) fn new() -> Self {
        let (lines, waiting) = mpsc::channel(LINES);
        let (end, ended) = oneshot::channel();
        let (leave, nobody) = oneshot::channel();
        std::thread::spawn(move || end.send(write(waiting)));
        std::thread::spawn(move || until_nobody_reads(leave));
        Self {
            lines: Some(lines),
            ended,
            nobody,
        }
    }

    /// Hands a line over, when there is room; whether anybody can read it. Cancel-safe: it is handed
    /// over or not.
    pub(super) async fn line(&self, line: String) -> bool {
        match &self.lines {
            Some(lines) => lines.send(line).await.is_ok(),
            None => false,
        }
    }

    /// Waits until nobody reads any more.
    pub(super) async fn closed(&mut self) {
        // An error says that it cannot be known; then a write will tell.
        if (&mut self.nobody).await.is_err() {
            std::future::pending().await
        }
    }

    /// Waits until everything is written.
    pub(super) async fn finish(mut self) -> Result<(), Failure> {
        self.lines = None;
        match self.ended.await {
            Ok(Err(reason)) if reason.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::io("write to standard output", reason))
            }
            _ => Ok(()),
        }
    }
}

/// Writes what there is, and shows it when there is no more for now.
fn write(mut waiting: mpsc::Receiver<String>) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    while let Some(line) = waiting.blocking_recv() {
        out.write_all(line.as_bytes())?;
        while let Ok(line) = waiting.try_recv() {
            out.write_all(line.as_bytes())?;
        }
        out.flush()?;
    }
    Ok(())
}

/// A reader that has left shows at the next write, which may be hours away; a pipe tells at once.
fn until_nobody_reads(leave: oneshot::Sender<()>) {
    let out = std::io::stdout();
    if out.is_terminal() {
        return;
    }
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    let gone = PollFlags::ERR | PollFlags::HUP;
    if poll(&mut watched, None).is_ok() && watched[0].revents().intersects(gone) {
        // It may have ended for another reason.
        let _ = leave.send(());
    }
}
