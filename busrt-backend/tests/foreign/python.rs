//! Python with busrt's own client libraries, in a virtual environment that is made once.
//!
//! It needs `python3` with its `venv` module, and PyPI the first time. Without them the tests fail
//! and say so: a machine on which nothing was tried must not look like one on which all is well.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

const LIBRARIES: [&str; 2] = ["busrt==0.1.2", "busrt-async==0.1.3"];
/// Reaching it is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory with the peer's program and the documented decoder, and what runs them.
pub(crate) struct Python {
    interpreter: PathBuf,
    program: tempfile::TempDir,
}

impl Python {
    pub(crate) fn new() -> Result<Self, String> {
        let program = tempfile::tempdir().map_err(|e| e.to_string())?;
        let put = |name: &str, text: &str| {
            std::fs::write(program.path().join(name), text).map_err(|e| e.to_string())
        };
        put("peer.py", include_str!("peer.py"))?;
        put("decoder.py", documented("def decode(")?)?;
        Ok(Self {
            interpreter: environment()?,
            program,
        })
    }

    /// Starts a peer; `words` are its library, role, socket, topic and payload.
    pub(crate) fn peer(&self, words: &[&str]) -> Peer {
        Peer::start(self.command().arg("peer.py").args(words))
    }

    /// Starts the example of `docs/wire-format.md`, at this socket.
    pub(crate) fn example(&self, socket: &str) -> Peer {
        let code = documented("OP_PUBLISH").unwrap();
        let code = code.replace("/run/example/bus.sock", socket);
        assert!(code.contains(socket));
        self.code(&code, &[])
    }

    /// Starts a program with words of its own; it may import `decode` from `decoder`.
    pub(crate) fn code(&self, code: &str, words: &[&str]) -> Peer {
        Peer::start(self.command().arg("-c").arg(code).args(words))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        command.current_dir(self.program.path());
        command
    }
}

/// A peer that runs; it is killed when this is dropped.
pub(crate) struct Peer {
    child: Child,
    lines: Receiver<String>,
}

impl Peer {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = sync_channel(1 << 12);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that it says.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the peer says nothing"),
            Err(RecvTimeoutError::Disconnected) => panic!("the peer has ended"),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The piece of Python in `docs/wire-format.md` that has `text` in it.
fn documented(text: &str) -> Result<&'static str, String> {
    let document = include_str!("../../../docs/wire-format.md");
    document
        .split("```python\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .find(|code| code.contains(text))
        .ok_or_else(|| format!("docs/wire-format.md has no Python with `{text}` in it"))
}

/// The interpreter of the environment, which is made unless it is there.
fn environment() -> Result<PathBuf, String> {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fixtures = tmp.parent().unwrap_or(tmp).join("fixtures");
    let at = fixtures.join("python");
    let made = at.join(format!("{}.made", LIBRARIES.join("+")));
    std::fs::create_dir_all(&fixtures).map_err(|e| e.to_string())?;
    // Another run of these tests may be making it.
    let lock = File::create(fixtures.join("python.lock")).map_err(|e| e.to_string())?;
    lock.lock().map_err(|e| e.to_string())?;
    let interpreter = at.join("bin/python");
    if !made.exists() {
        let mut make = Command::new("python3");
        run(make.args(["-m", "venv", "--clear"]).arg(&at))?;
        let mut install = Command::new(&interpreter);
        run(install
            .args(["-m", "pip", "install", "--quiet"])
            .arg("--disable-pip-version-check")
            .args(LIBRARIES))?;
        std::fs::write(&made, "").map_err(|e| e.to_string())?;
    }
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<(), String> {
    let why = match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            format!("{}: {said}", output.status)
        }
        Err(reason) => reason.to_string(),
    };
    Err(format!(
        "no Python to test with: `{command:?}` failed ({why}); install python3 and python3-venv, \
         or set EVENTBUS_NO_FOREIGN=1 to go without these tests"
    ))
}
