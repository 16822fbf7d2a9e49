//! The task `hash_executable`: SHA-256 of what a process runs.
//!
//! The digest is aws-lc-rs's, which TLS has brought already.

use std::fmt::Write as _;
use std::fs::{File, read_link};
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_lc_rs::digest::{Context, SHA256};
use control::tasks::worker::{TaskFailure, TaskHandler, Work};
use eventbus::{ContentType, Payload};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::plain::say;
use crate::reputation::{Oracle, Reputation};

/// Read at once, in bytes.
const CHUNK: usize = 1 << 16;

/// Whose executable.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HashRequest {
    /// The process.
    pub pid: i32,
}

/// What a process runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hashed {
    /// The process.
    pub pid: i32,
    /// Where the executable is, or was when it was started.
    pub executable: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its digest, in hexadecimal digits.
    pub sha256: String,
    /// What a service says of it, if one is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reputation: Option<Reputation>,
}

/// Does the task.
pub(crate) struct Hasher {
    pub(crate) member: String,
    pub(crate) oracle: Option<Oracle>,
}

/// Ends the reading when nobody waits for its result any more.
struct GivenUp(Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl TaskHandler for Hasher {
    async fn run(&self, work: Work) -> Result<Payload, TaskFailure> {
        let HashRequest { pid } = *work.decode_json::<HashRequest>()?;
        say(format_args!(
            "{} hashes {pid}, attempt {}",
            self.member, work.task.mark.attempt
        ));
        let given_up = GivenUp(Arc::default());
        let flag = Arc::clone(&given_up.0);
        let hashed = spawn_blocking(move || hash(pid, &flag)).await;
        let failed = |error: &dyn std::error::Error| {
            TaskFailure::new(format!("cannot read what process {pid} runs: {error}"))
        };
        let mut hashed = hashed
            .map_err(|error| failed(&error))?
            .map_err(|error| failed(&error))?;
        if let Some(oracle) = &self.oracle {
            let said = oracle.ask(&hashed.sha256, &work.correlation).await;
            hashed.reputation = Some(said);
        }
        let json = serde_json::to_vec(&hashed).map_err(|error| failed(&error))?;
        Ok(Payload::new(json, ContentType::Json))
    }
}

fn hash(pid: i32, given_up: &AtomicBool) -> io::Result<Hashed> {
    // Opened by this name it is the very file, also if another one has its path by now.
    let path = format!("/proc/{pid}/exe");
    let mut file = File::open(&path)?;
    let executable = read_link(&path)?;
    let mut digest = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut bytes = 0;
    loop {
        if given_up.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match file.read(&mut chunk)? {
            0 => break,
            read => {
                digest.update(&chunk[..read]);
                bytes += read as u64;
            }
        }
    }
    let digest = digest.finish();
    let sha256 = digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
    Ok(Hashed {
        pid,
        executable,
        bytes,
        sha256,
        reputation: None,
    })
}
