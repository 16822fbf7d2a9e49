//! Divergences as lines of a file: each with the events around it, so that the verdict can be made
//! again from the file alone.
//!
//! Payloads never get into it: what is kept of an event is its place, the instants at which it
//! passed, and whether its contents were the same. A disk may be full or hang, so a thread of its own
//! writes, behind a bounded queue; what does not fit there, or into the file, is counted.
//!
//! Invariant: nobody who publishes, receives or compares ever waits for the disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::report::Divergence;

/// What the first field of each line says.
pub(crate) const FORMAT: &str = "eventbus-divergence/1";
/// Lines that may wait for the disk.
const QUEUE: usize = 1024;

/// Where divergences are written, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DivergenceFile {
    /// The file, which is made anew; only its owner can read it.
    pub path: PathBuf,
    /// Most bytes: 64 MiB. What comes after that is counted.
    pub max_bytes: u64,
}

impl DivergenceFile {
    /// A file at `path`, of at most 64 MiB.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_bytes: 64 << 20,
        }
    }
}

/// What became of the divergences that were to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileReport {
    /// The file.
    pub path: String,
    /// Lines written.
    pub written: u64,
    /// Lines that are not in the file: it was full, the disk was slow, or writing failed.
    pub dropped: u64,
    /// Why writing failed, if it did; the first time.
    pub error: Option<String>,
}

/// One line: a divergence, and what it was concluded from. Instants are nanoseconds since the
/// comparison began, and 0 is never.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: String,
    #[serde(flatten)]
    pub(crate) divergence: Divergence,
    /// When it was concluded.
    pub(crate) at: u64,
    pub(crate) grace: u64,
    pub(crate) silence: u64,
    /// When the side was found to have gone on without the event, and by what.
    pub(crate) gone_on_at: u64,
    pub(crate) gone_on: GoneOn,
    /// The event itself, if it was expected, and events around it in its stream.
    pub(crate) around: Vec<Passage>,
}

/// How a side was found to have gone on without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum GoneOn {
    /// It did not, or it delivered a later event.
    #[default]
    Delivered,
    /// A marker came through.
    Marker,
    /// It was silent for long.
    Silence,
}

/// How one event passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passage {
    pub(crate) sequence: u64,
    pub(crate) published: u64,
    /// When the candidate was given it.
    pub(crate) given: u64,
    /// When the application read it.
    pub(crate) primary: u64,
    /// When the candidate delivered it.
    pub(crate) candidate: u64,
    /// Whether the contents differed.
    pub(crate) differs: bool,
    /// Whether publish order says where it belongs.
    pub(crate) ordered: bool,
}

/// The queue to the thread that writes.
#[derive(Debug)]
pub(crate) struct Recorder {
    queue: Mutex<Option<SyncSender<Record>>>,
    said: Arc<Mutex<FileReport>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Recorder {
    pub(crate) fn start(file: &DivergenceFile) -> Self {
        let said = Arc::new(Mutex::new(FileReport {
            path: file.path.display().to_string(),
            ..FileReport::default()
        }));
        let (sender, receiver) = sync_channel(QUEUE);
        let work = {
            let (file, said) = (file.clone(), Arc::clone(&said));
            move || write_all(&file, &receiver, &said)
        };
        let thread = std::thread::Builder::new()
            .name("shadow-divergences".to_owned())
            .spawn(work);
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                failed(&said, &error);
                None
            }
        };
        Self {
            queue: Mutex::new(Some(sender)),
            said,
            thread: Mutex::new(thread),
        }
    }

    /// Hands a line over, or counts it as dropped.
    pub(crate) fn offer(&self, record: Record) {
        let sent = match &*self.queue.lock() {
            Some(queue) => queue.try_send(record),
            None => Err(TrySendError::Disconnected(record)),
        };
        if sent.is_err() {
            self.said.lock().dropped += 1;
        }
    }

    pub(crate) fn said(&self) -> FileReport {
        self.said.lock().clone()
    }

    /// Takes no more lines; the thread ends when it has written what it has.
    pub(crate) fn close(&self) {
        self.queue.lock().take();
    }

    /// Whether everything that was handed over is in the file, or counted as dropped, after `close`.
    pub(crate) fn is_done(&self) -> bool {
        let thread = self.thread.lock();
        thread.as_ref().is_none_or(|thread| thread.is_finished())
    }
}

fn write_all(to: &DivergenceFile, lines: &Receiver<Record>, said: &Mutex<FileReport>) {
    let mut file = open(&to.path).map_err(|error| failed(said, &error)).ok();
    let mut size = 0;
    while let Ok(record) = lines.recv() {
        let line = serde_json::to_string(&record).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push('\n');
            let fits = size + line.len() as u64 <= to.max_bytes;
            let Some(file) = file.as_mut().filter(|_| fits) else {
                return Ok(false);
            };
            file.write_all(line.as_bytes())?;
            size += line.len() as u64;
            Ok(true)
        });
        match written {
            Ok(true) => said.lock().written += 1,
            Ok(false) => said.lock().dropped += 1,
            Err(error) => {
                failed(said, &error);
                said.lock().dropped += 1;
                // Half a line may be there: nothing that comes after it could be read.
                file = None;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

fn failed(said: &Mutex<FileReport>, error: &io::Error) {
    let mut said = said.lock();
    if said.error.is_none() {
        warn!(path = said.path, %error, "divergences cannot be written");
        said.error = Some(error.to_string());
    }
}
