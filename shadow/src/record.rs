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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    /// The file, and no link to one. The first comparison of a shadow makes it anew, those that follow
    /// go on in it; only its owner can read it.
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
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What those who find and the thread that writes know of each other.
#[derive(Debug)]
struct Shared {
    said: Mutex<FileReport>,
    /// Lines that wait for the disk.
    waiting: AtomicUsize,
    /// Whether the file takes no more lines.
    over: AtomicBool,
}

impl Recorder {
    /// Starts to write, behind what is there if an earlier comparison `goes_on`.
    pub(crate) fn start(file: &DivergenceFile, goes_on: bool) -> Self {
        let shared = Arc::new(Shared {
            said: Mutex::new(FileReport {
                path: file.path.display().to_string(),
                ..FileReport::default()
            }),
            waiting: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let (sender, receiver) = sync_channel(QUEUE);
        let work = {
            let (file, shared) = (file.clone(), Arc::clone(&shared));
            move || write_all(&file, goes_on, &receiver, &shared)
        };
        let thread = std::thread::Builder::new()
            .name("shadow-divergences".to_owned())
            .spawn(work);
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.failed(&error);
                None
            }
        };
        Self {
            queue: Mutex::new(Some(sender)),
            shared,
            thread: Mutex::new(thread),
        }
    }

    /// How many lines would be taken now: there is no use in making more.
    pub(crate) fn room(&self) -> usize {
        if self.shared.over.load(Ordering::Relaxed) {
            return 0;
        }
        QUEUE.saturating_sub(self.shared.waiting.load(Ordering::Relaxed))
    }

    /// Hands a line over, or counts it as dropped.
    pub(crate) fn offer(&self, record: Record) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = match &*self.queue.lock() {
            Some(queue) => queue.try_send(record),
            None => Err(TrySendError::Disconnected(record)),
        };
        if sent.is_err() {
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            self.drop_one();
        }
    }

    /// Counts a line that was not even made, for want of room.
    pub(crate) fn drop_one(&self) {
        self.shared.said.lock().dropped += 1;
    }

    pub(crate) fn said(&self) -> FileReport {
        self.shared.said.lock().clone()
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

impl Shared {
    /// Nothing more can be written.
    fn failed(&self, error: &io::Error) {
        self.over.store(true, Ordering::Relaxed);
        let path = {
            let mut said = self.said.lock();
            if said.error.is_some() {
                return;
            }
            said.error = Some(error.to_string());
            said.path.clone()
        };
        // Not under the lock, which publishers and subscribers take: a log may hang.
        warn!(path, %error, "divergences cannot be written");
    }
}

fn write_all(to: &DivergenceFile, goes_on: bool, lines: &Receiver<Record>, shared: &Shared) {
    let opened = open(&to.path, goes_on).map_err(|error| shared.failed(&error));
    let (mut file, mut size) = opened.map_or((None, 0), |(file, size)| (Some(file), size));
    while let Ok(record) = lines.recv() {
        shared.waiting.fetch_sub(1, Ordering::Relaxed);
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
            Ok(true) => shared.said.lock().written += 1,
            Ok(false) => {
                shared.over.store(true, Ordering::Relaxed);
                shared.said.lock().dropped += 1;
                file = None;
            }
            Err(error) => {
                shared.failed(&error);
                shared.said.lock().dropped += 1;
                // Half a line may be there: nothing that comes after it could be read.
                file = None;
            }
        }
    }
}

/// Opens the file, and says how much is in it.
fn open(path: &Path, goes_on: bool) -> io::Result<(File, u64)> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    #[cfg(target_os = "linux")]
    std::os::unix::fs::OpenOptionsExt::custom_flags(
        &mut options,
        rustix::fs::OFlags::NOFOLLOW.bits().cast_signed(),
    );
    let file = options.open(path)?;
    if !file.metadata()?.is_file() {
        return Ok((file, 0));
    }
    // The mode above is that of a file that was not there.
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    if !goes_on {
        file.set_len(0)?;
    }
    let size = file.metadata()?.len();
    Ok((file, size))
}
