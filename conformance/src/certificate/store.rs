//! Where certificates are kept.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Certificate;

/// Where `cargo test` leaves certificates: `conformance` in the [target directory](target_directory).
#[must_use]
pub fn directory() -> PathBuf {
    target_directory().join("conformance")
}

/// Cargo's target directory: where this program lies, if cargo built it as a test; else
/// `CARGO_TARGET_DIR`; else `target` here.
#[must_use]
pub fn target_directory() -> PathBuf {
    env::current_exe()
        .ok()
        .and_then(|program| above_deps(&program))
        .or_else(|| env::var_os("CARGO_TARGET_DIR").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("target"))
}

/// Tests lie in `target/PROFILE/deps`.
fn above_deps(program: &Path) -> Option<PathBuf> {
    let deps = program.ancestors().find(|path| path.ends_with("deps"))?;
    Some(deps.parent()?.parent()?.to_owned())
}

impl Certificate {
    /// The name of its files, without what they end in: the phase, and `PHASE.partial` of a run that
    /// left clauses out, so that it does not take the place of a whole one.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        };
        let phase: String = self.phase.chars().map(safe).collect();
        if self.complete {
            phase
        } else {
            format!("{phase}.partial")
        }
    }

    /// Writes it as `PHASE.json` and `PHASE.html` into a directory, which is made if it is not
    /// there.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_into(&self, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let path = |ending| directory.join(format!("{}.{ending}", self.file_stem()));
        replace(&path("json"), &self.to_json())?;
        replace(&path("html"), &self.to_html())
    }

    /// Writes it to a file, as a page if the name ends in `.html`, else as JSON.
    ///
    /// # Errors
    /// What the system said.
    pub fn write_to(&self, file: &Path) -> io::Result<()> {
        let html = file.extension().is_some_and(|ending| ending == "html");
        replace(file, &if html { self.to_html() } else { self.to_json() })
    }
}

/// At once, so that nobody reads half a certificate, and none is left if the disk is full.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_lies_below_the_target_directory() {
        for (program, target) in [
            ("/w/target/debug/deps/suite-0a1b", "/w/target"),
            (
                "/w/target/x86_64-unknown-linux-musl/release/deps/suite-0a1b",
                "/w/target/x86_64-unknown-linux-musl",
            ),
        ] {
            assert_eq!(above_deps(Path::new(program)), Some(PathBuf::from(target)));
        }
        assert_eq!(above_deps(Path::new("/usr/bin/suite")), None);
        assert!(directory().ends_with("conformance"));
    }
}
