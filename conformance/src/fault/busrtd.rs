//! A stock `busrtd`, as a fixture: found, or built once.
//!
//! The version is fixed, because what it does is what the session has to cope with. It is built
//! outside of the workspace's own build, into a directory below the target directory, under a
//! lock: test processes that need it at the same time build it once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The version of busrt that the fixture is.
pub const BUSRTD_VERSION: &str = "0.5.6";
/// The environment variable that names a `busrtd` to use instead.
pub const BUSRTD_VARIABLE: &str = "EVENTBUS_BUSRTD";

/// The path of a stock `busrtd`: that in `EVENTBUS_BUSRTD`, else the fixture, which is built if it
/// is not there yet. That takes minutes.
///
/// # Errors
/// In words, why there is none.
pub fn busrtd() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(BUSRTD_VARIABLE) {
        let path = PathBuf::from(path);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(format!(
                "{BUSRTD_VARIABLE} names no file: {}",
                path.display()
            ))
        };
    }
    let fixtures = target().join("fixtures");
    let root = fixtures.join(format!("busrtd-{BUSRTD_VERSION}"));
    let program = root.join("bin/busrtd");
    let in_words = |what: &str, error: std::io::Error| format!("{what} for busrtd: {error}");
    fs::create_dir_all(&fixtures).map_err(|e| in_words("no directory", e))?;
    let lock = File::create(fixtures.join("busrtd.lock")).map_err(|e| in_words("no lock", e))?;
    lock.lock().map_err(|e| in_words("no lock", e))?;
    if !program.is_file() {
        build(&root, &fixtures.join("build"))?;
    }
    Ok(program)
}

/// Where cargo builds: a test or program runs from there.
fn target() -> PathBuf {
    if let Some(directory) = std::env::var_os("CARGO_TARGET_DIR") {
        return PathBuf::from(directory);
    }
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")
}

fn build(root: &Path, target: &Path) -> Result<(), String> {
    eprintln!("building busrtd {BUSRTD_VERSION} into {}", root.display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["install", "busrt", "--version", BUSRTD_VERSION])
        .args(["--features", "server,cli", "--bin", "busrtd", "--locked"])
        .arg("--root")
        .arg(root)
        .env("CARGO_TARGET_DIR", target)
        .stdout(Stdio::null());
    // What cargo sets for a build of ours is not for a build of that.
    command.env_remove("RUSTFLAGS");
    let done = command
        .status()
        .map_err(|error| format!("cannot run cargo to build busrtd: {error}"))?;
    if done.success() {
        // Large, and of no more use; what cannot be removed does no harm.
        let _ = fs::remove_dir_all(target);
        return Ok(());
    }
    Err(format!(
        "cargo could not build busrtd {BUSRTD_VERSION} ({done}); set {BUSRTD_VARIABLE} to one"
    ))
}
