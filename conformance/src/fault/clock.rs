//! A wall clock that can be turned while processes run by it.
//!
//! The library libfaketime stands between a process and its clock, and reads how far to turn it from
//! a file, each time it is asked. Clocks that only measure are left alone, as a real jump leaves them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// The wall clock of the processes that were started by it.
#[derive(Debug, Clone)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that goes right, with its file in `directory`. `None` where the package
    /// `libfaketime` is not installed.
    #[must_use]
    pub fn new(directory: &Path) -> Option<Self> {
        Some(Self {
            library: library()?,
            file: directory.join("clock"),
        })
    }

    /// Whether there can be one.
    #[must_use]
    pub fn can_be_turned() -> bool {
        library().is_some()
    }

    /// Makes `command` start its process by this clock.
    pub fn rule(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }

    /// Turns the clock to so many seconds before or after the right time.
    ///
    /// # Errors
    /// What the system said.
    pub fn turn(&self, seconds: i64) -> io::Result<()> {
        // In one step, because it is read at any time.
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))?;
        fs::rename(new, &self.file)
    }
}

fn library() -> Option<PathBuf> {
    let below = |root: &str| {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut places = vec![PathBuf::from("/usr/lib"), PathBuf::from("/usr/local/lib")];
    places.extend(below("/usr/lib"));
    let libraries = places.into_iter().map(|place| place.join(LIBRARY));
    libraries.into_iter().find(|library| library.is_file())
}
