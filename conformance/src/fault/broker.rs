//! Brokers as child processes: killed, stopped, started again at the same place.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::busrtd::busrtd;
use super::process::{Process, ProcessError};
use super::stream::Place;

/// How long a broker may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How a broker is started, and how it is known to listen.
enum Kind {
    /// By this command, which says `ready` and, perhaps, where.
    Speaking(Box<dyn Fn() -> Command + Send + Sync>),
    /// By this command, which says nothing.
    Silent(Box<dyn Fn() -> Command + Send + Sync>, Place),
}

/// A broker in a process of its own. Dropping it kills it.
pub struct BrokerProcess {
    kind: Kind,
    process: Option<Process>,
    place: Option<String>,
    kills: u64,
}

impl BrokerProcess {
    /// A broker that says `ready` when it listens, and what follows that word is where. `command`
    /// makes it listen at the same place each time.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn speaking(
        command: impl Fn() -> Command + Send + Sync + 'static,
    ) -> Result<Self, ProcessError> {
        Self::of(Kind::Speaking(Box::new(command)))
    }

    /// A stock `busrtd` at a UNIX socket.
    ///
    /// # Errors
    /// In words, why there is none.
    pub fn busrtd(socket: &Path, keepalive: Duration) -> Result<Self, String> {
        let program = busrtd()?;
        let place = Place::Unix(socket.to_owned());
        let socket = socket.to_owned();
        let seconds = keepalive.as_secs_f64();
        let command = move || {
            let mut command = Command::new(&program);
            command
                .arg("-B")
                .arg(&socket)
                .args(["-t", &seconds.to_string(), "-w", "2"])
                .args(["--queue-size", "8192"])
                .stderr(Stdio::null());
            command
        };
        Self::of(Kind::Silent(Box::new(command), place)).map_err(|error| error.to_string())
    }

    fn of(kind: Kind) -> Result<Self, ProcessError> {
        let mut this = Self {
            kind,
            process: None,
            place: None,
            kills: 0,
        };
        this.start()?;
        Ok(this)
    }

    /// Starts it, if it does not run, and waits until it listens.
    ///
    /// # Errors
    /// If it does not come to listen.
    pub fn start(&mut self) -> Result<(), ProcessError> {
        if self.process.as_mut().is_some_and(Process::is_running) {
            return Ok(());
        }
        let process = match &self.kind {
            Kind::Speaking(command) => {
                let process = Process::start("the broker", command())?;
                self.place = Some(process.wait_for("ready", PATIENCE)?);
                process
            }
            Kind::Silent(command, place) => {
                let mut process = Process::start("the broker", command())?;
                wait_until_it_listens(&mut process, place)?;
                process
            }
        };
        self.process = Some(process);
        Ok(())
    }

    /// Says `word` to it, and returns what it says to that after the same word.
    ///
    /// # Errors
    /// If it says nothing, or does not run.
    pub fn ask(&mut self, word: &str) -> Result<String, ProcessError> {
        let name = || "the broker".to_owned();
        let process = self.process.as_mut();
        let process = process.ok_or_else(|| ProcessError::Ended { name: name() })?;
        process.say(word)?;
        process.wait_for(word, PATIENCE)
    }

    /// Kills it, with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
            self.kills += 1;
        }
    }

    /// How often it was killed while it ran.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// The process, while there is one.
    #[must_use]
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// What it said of where it listens.
    #[must_use]
    pub fn place(&self) -> Option<&str> {
        self.place.as_deref()
    }
}

fn wait_until_it_listens(process: &mut Process, place: &Place) -> Result<(), ProcessError> {
    let name = process.name().to_owned();
    let began = Instant::now();
    loop {
        let listens = match place {
            Place::Unix(path) => UnixStream::connect(path).is_ok(),
            Place::Tcp(address) => std::net::TcpStream::connect(address).is_ok(),
        };
        if listens {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            let waited = began.elapsed();
            return Err(ProcessError::Silent { name, waited });
        }
        // Also the pause: it says nothing, so this waits for its end or for the time to pass.
        if let Err(ended @ ProcessError::Ended { .. }) = process.line(LOOK_EVERY) {
            return Err(ended);
        }
    }
}

impl std::fmt::Debug for BrokerProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerProcess")
            .field("process", &self.process)
            .field("kills", &self.kills)
            .finish_non_exhaustive()
    }
}
