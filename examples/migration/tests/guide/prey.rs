//! Real processes to be watched, with names that no other run uses.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process that waits until it is ended.
pub(crate) struct Prey(Child);

impl Prey {
    /// Starts one under the name of a file.
    pub(crate) fn start(file: &Path) -> Self {
        let mut command = Command::new(file);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        loop {
            match command.spawn() {
                Ok(child) => return Self(child),
                // Another thread has forked while the file was being written.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {}
                Err(error) => panic!("{}: {error}", file.display()),
            }
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Prey {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `cat` under another name: it pretends.
pub(crate) fn pretender(directory: &Path, name: &str) -> PathBuf {
    let file = directory.join(name);
    symlink(cat(), &file).unwrap();
    file
}

/// A copy of `cat`, which has its own name.
pub(crate) fn honest(directory: &Path, name: &str) -> PathBuf {
    let file = directory.join(name);
    fs::copy(cat(), &file).unwrap();
    file
}

fn cat() -> PathBuf {
    fs::canonicalize("/bin/cat").unwrap()
}
