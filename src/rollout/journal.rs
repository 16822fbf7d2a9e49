//! The journal: which phase holds, on disk.
//!
//! One line for each record, appended and synced before what it says is acted upon. A line that was
//! being written when the machine died is cut off when the journal is opened again: whatever it was
//! to say had not been done yet. A damaged line before the last is not guessed at.
//!
//! Invariant: a cutover whose commit is in the journal is done, one whose commit is not was never
//! begun, as far as a restart is concerned (MIG-004).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::task::JoinError;

/// What a journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub(crate) enum Record {
    /// A process begins in this stage.
    Start { stage: String, phase: String },
    /// A cutover begins.
    Begin {
        number: u64,
        from: String,
        to: String,
    },
    /// From here on the new phase holds.
    Commit { number: u64, to: String },
    /// The cutover was given up; the old phase holds.
    Abort { number: u64, reason: String },
    /// Nothing of the old phase is left.
    Done { number: u64 },
    /// The stage changed, and with it at most what is compared.
    Stage { stage: String },
}

/// What a journal says of where things stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// The phase that holds; none if the journal is new.
    pub(crate) phase: Option<String>,
    /// The stage, if it is known more exactly.
    pub(crate) stage: Option<String>,
    /// The last cutover's number.
    pub(crate) number: u64,
    /// The phase of a cutover that was begun and neither committed nor given up.
    pub(crate) unfinished: Option<String>,
}

/// Why a journal cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("cannot use journal `{path}`: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// Another process has it.
    #[error("journal `{path}` is in use by another process")]
    InUse {
        /// The file.
        path: String,
    },
    /// A line is not what was written, and it is not the last.
    #[error("journal `{path}` is damaged in line {line}; say in a new one which phase holds")]
    Damaged {
        /// The file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
}

/// An open journal. A disk may take its time, so it is written where nobody's events wait for it.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    writer: Arc<Mutex<Writer>>,
}

impl Journal {
    /// Opens the journal, or begins one, and says how things stand.
    pub(crate) async fn open(path: &Path) -> Result<(Self, Standing), JournalError> {
        let place = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || Writer::open(&place)).await;
        let (writer, standing) = opened.map_err(|reason| ended(path, &reason))??;
        let journal = Self {
            path: path.to_owned(),
            writer: Arc::new(Mutex::new(writer)),
        };
        Ok((journal, standing))
    }

    /// Writes a record; when this returns it is on disk. If it fails, the record is not there. If it
    /// is dropped before, it may be.
    pub(crate) async fn write(&mut self, record: Record) -> Result<(), JournalError> {
        let writer = Arc::clone(&self.writer);
        let written = tokio::task::spawn_blocking(move || writer.lock().write(&record)).await;
        written.map_err(|reason| ended(&self.path, &reason))?
    }
}

/// The thread that was to write is not there any more.
fn ended(path: &Path, reason: &JoinError) -> JournalError {
    failed(path, &io::Error::other(reason.to_string()))
}

/// The end of a journal's file.
#[derive(Debug)]
struct Writer {
    path: PathBuf,
    file: File,
    /// Where the next record goes.
    end: u64,
}

impl Writer {
    fn open(path: &Path) -> Result<(Self, Standing), JournalError> {
        let io = |reason: io::Error| failed(path, &reason);
        let is_new = !path.exists();
        let options = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            // Who may open it may hold its lock, and the application would not start.
            .mode(0o600)
            .clone();
        let mut file = options.open(path).map_err(io)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            JournalError::InUse {
                path: path.display().to_string(),
            }
        })?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(io)?;
        let (records, end) = read(&text).map_err(|line| JournalError::Damaged {
            path: path.display().to_string(),
            line,
        })?;
        if end < text.len() {
            let torn = text.len() - end;
            tracing::warn!(path = %path.display(), torn, "the end of the journal is cut off");
            file.set_len(end as u64).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        if is_new {
            sync_directory(path).map_err(io)?;
        }
        let writer = Self {
            path: path.to_owned(),
            file,
            end: end as u64,
        };
        Ok((writer, standing(&records)))
    }

    fn write(&mut self, record: &Record) -> Result<(), JournalError> {
        let io = |reason: io::Error| failed(&self.path, &reason);
        let line = line(record).map_err(io)?;
        let written = self
            .file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(line.as_bytes()))
            .and_then(|()| self.file.sync_data());
        if let Err(reason) = written {
            // Half a line, or one that may be on disk or not: it must not be found later.
            if let Err(reason) = self
                .file
                .set_len(self.end)
                .and_then(|()| self.file.sync_all())
            {
                tracing::error!(path = %self.path.display(), %reason, "a failed record may stay in the journal");
            }
            return Err(failed(&self.path, &reason));
        }
        self.end += line.len() as u64;
        Ok(())
    }
}

fn failed(path: &Path, reason: &io::Error) -> JournalError {
    JournalError::Io {
        path: path.display().to_string(),
        reason: reason.to_string(),
    }
}

/// A new file is only there for sure once its directory is on disk.
fn sync_directory(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

fn line(record: &Record) -> io::Result<String> {
    let text = serde_json::to_string(record)?;
    Ok(format!("{:016x} {text}\n", checksum(text.as_bytes())))
}

/// FNV-1a: it is to notice a torn line, not an enemy.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The records, and where the last whole one ends; or the line that is damaged.
fn read(text: &[u8]) -> Result<(Vec<Record>, usize), usize> {
    let (mut records, mut end) = (Vec::new(), 0);
    let mut damaged = None;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match (parse(line), damaged) {
            (Some(_), Some(before)) => return Err(before),
            (Some(record), None) => {
                records.push(record);
                end += line.len();
            }
            (None, before) => damaged = before.or(Some(number + 1)),
        }
    }
    Ok((records, end))
}

fn parse(line: &[u8]) -> Option<Record> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (sum, text) = line.split_once(' ')?;
    let sum = u64::from_str_radix(sum, 16).ok()?;
    if sum != checksum(text.as_bytes()) {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn standing(records: &[Record]) -> Standing {
    let mut standing = Standing::default();
    let mut begun: Option<(u64, &String)> = None;
    for record in records {
        match record {
            Record::Start { stage, phase } => {
                standing.phase = Some(phase.clone());
                standing.stage = Some(stage.clone());
                standing.unfinished = None;
            }
            Record::Begin { number, from, to } => {
                begun = Some((*number, from));
                standing.number = *number;
                standing.unfinished = Some(to.clone());
            }
            Record::Commit { to, .. } => {
                standing.phase = Some(to.clone());
                standing.stage = None;
                standing.unfinished = None;
            }
            Record::Abort { number, .. } => {
                standing.unfinished = None;
                // A commit whose write failed may be there all the same.
                if let Some((_, from)) = begun.filter(|(begun, _)| begun == number) {
                    standing.phase = Some(from.clone());
                }
            }
            Record::Done { .. } => {}
            Record::Stage { stage } => standing.stage = Some(stage.clone()),
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    /// Far beyond what any write takes.
    const WATCHDOG: std::time::Duration = std::time::Duration::from_secs(20);

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn records() -> Vec<Record> {
        let text = |s: &str| s.to_owned();
        vec![
            Record::Start {
                stage: text("crossbeam"),
                phase: text("crossbeam"),
            },
            Record::Begin {
                number: 1,
                from: text("crossbeam"),
                to: text("in-process"),
            },
            Record::Commit {
                number: 1,
                to: text("in-process"),
            },
            Record::Done { number: 1 },
        ]
    }

    fn written(directory: &Path) -> PathBuf {
        let path = directory.join("journal");
        let (mut journal, standing) = Writer::open(&path).unwrap();
        assert_eq!(standing, Standing::default());
        for record in records() {
            journal.write(&record).unwrap();
        }
        path
    }

    #[test]
    fn a_journal_cut_off_anywhere_says_one_phase() {
        let directory = tempfile::tempdir().unwrap();
        let whole = fs::read(written(directory.path())).unwrap();
        let committed = {
            let lines: Vec<_> = whole.split_inclusive(|b| *b == b'\n').collect();
            lines[..3].iter().map(|line| line.len()).sum::<usize>()
        };
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in 0..=whole.len() {
            let path = directory.path().join(format!("cut-{cut}"));
            fs::write(&path, &whole[..cut]).unwrap();
            let (mut journal, standing) = Writer::open(&path).unwrap();
            let phase = if cut >= committed {
                Some("in-process")
            } else {
                (cut >= first).then_some("crossbeam")
            };
            assert_eq!(standing.phase.as_deref(), phase, "cut at {cut}");
            // And it can be written on.
            journal.write(&Record::Done { number: 9 }).unwrap();
            drop(journal);
            let (_, after) = Writer::open(&path).unwrap();
            assert_eq!(after.phase, standing.phase);
        }
    }

    #[test]
    fn damage_before_the_end_is_an_error_that_names_the_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let whole = fs::read(&path).unwrap();
        let second = whole.iter().position(|b| *b == b'\n').unwrap() + 20;
        let mut bent = whole;
        bent[second] ^= 1;
        fs::write(&path, bent).unwrap();
        let error = Writer::open(&path).unwrap_err();
        assert!(
            matches!(error, JournalError::Damaged { line: 2, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_commit_that_was_given_up_after_all_counts_for_nothing() {
        let mut records = records();
        records.truncate(3);
        assert_eq!(standing(&records).phase.as_deref(), Some("in-process"));
        records.push(Record::Abort {
            number: 1,
            reason: "the disk is full".to_owned(),
        });
        let standing = standing(&records);
        assert_eq!(standing.phase.as_deref(), Some("crossbeam"));
        assert_eq!(standing.unfinished, None);
    }

    #[test]
    fn nobody_else_may_hold_a_journal() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let mode = fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_journal_has_one_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let (_open, _) = Writer::open(&path).unwrap();
        let error = Writer::open(&path).unwrap_err();
        assert!(matches!(error, JournalError::InUse { .. }), "{error}");
    }

    /// In one thread: a disk that takes its time keeps no other task from going on.
    #[tokio::test]
    async fn nobody_waits_for_the_disk_but_who_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let (mut journal, _) = Journal::open(&path).await.unwrap();
        let disk = Arc::clone(&journal.writer);
        let (busy, is_busy) = std::sync::mpsc::sync_channel(0);
        let (done, is_done) = std::sync::mpsc::sync_channel::<()>(0);
        let slow = std::thread::spawn(move || {
            let _disk = disk.lock();
            busy.send(()).unwrap();
            // A writer in this thread would wait for it until the watchdog lets it go on.
            is_done.recv_timeout(WATCHDOG)
        });
        is_busy.recv().unwrap();
        let record = Record::Done { number: 1 };
        let writing = tokio::spawn(async move { journal.write(record).await });
        tokio::task::yield_now().await;
        assert!(!writing.is_finished());
        done.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), Ok(()));
        writing.await.unwrap().unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("done"));
    }
}
