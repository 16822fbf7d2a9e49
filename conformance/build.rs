//! Writes down what builds the suite, and of which state of its sources: a certificate names both.
//!
//! It runs again only after a commit and when sources have changed that the suite is built of, which
//! is when the suite is built again anyway.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the suite is built of, from the root of the workspace.
const SOURCES: [&str; 7] = [
    "Cargo.toml",
    "Cargo.lock",
    "conformance/src",
    "eventbus-trait/src",
    "busrt-backend/src",
    "crossbeam-backend/src",
    "shadow/src",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = said(Command::new(rustc).arg("--version"));
    let version = version.unwrap_or_else(|| "unknown rustc".to_owned());
    println!("cargo:rustc-env=CONFORMANCE_RUSTC={version}");
    if let Some(commit) = commit() {
        println!("cargo:rustc-env=CONFORMANCE_COMMIT={commit}");
        let sources = sources().map(|file| file.display().to_string());
        let status = ["status", "--porcelain", "--"].map(str::to_owned);
        let asked: Vec<String> = status.into_iter().chain(sources).collect();
        let dirty = git(&asked).is_some();
        println!("cargo:rustc-env=CONFORMANCE_DIRTY={dirty}");
    }
}

/// The commit, unless this is no checkout of its own: a copy in another's repository is none.
fn commit() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "HEAD"])?;
    // A file that is not there would have this run every time.
    let moved = ["HEAD", "logs/HEAD"]
        .into_iter()
        .filter_map(|file| git(&["rev-parse", "--git-path", file]).map(PathBuf::from));
    for file in moved.chain(sources()).filter(|file| file.exists()) {
        println!("cargo:rerun-if-changed={}", file.display());
    }
    Some(commit)
}

fn sources() -> impl Iterator<Item = PathBuf> {
    SOURCES.into_iter().map(|file| Path::new("..").join(file))
}

/// What git says here, if it is there and says anything.
fn git(words: &[impl AsRef<OsStr>]) -> Option<String> {
    // It would write down what it found out about files, while others may want to.
    said(Command::new("git").arg("--no-optional-locks").args(words))
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|it| it.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}
