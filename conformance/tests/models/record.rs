//! Writing down how far something was explored, for the certificates to show.

use std::any::Any;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;

/// Writes `target/conformance/models/NAME.json`.
pub(crate) fn record(name: &str, covers: &[&str], executions: usize, floor: usize) {
    fs::create_dir_all(directory()).unwrap();
    let record = json!({
        "model": name,
        "covers": covers,
        "executions": executions,
        "floor": floor,
    });
    fs::write(file_of(name), format!("{record:#}\n")).unwrap();
}

/// Removes what an earlier run wrote.
pub(crate) fn forget(name: &str) {
    match fs::remove_file(file_of(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => panic!("{name}: {error}"),
        _ => {}
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../conformance/models")
}

fn file_of(name: &str) -> PathBuf {
    directory().join(format!("{name}.json"))
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}
