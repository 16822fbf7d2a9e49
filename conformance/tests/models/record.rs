//! Writing down how far something was explored, for the certificates to show.

use std::any::Any;
use std::fs;
use std::path::Path;

use serde_json::json;

/// Writes `target/conformance/models/NAME.json`.
pub(crate) fn record(name: &str, covers: &[&str], executions: usize, floor: usize) {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../conformance/models");
    fs::create_dir_all(&directory).unwrap();
    let record = json!({
        "model": name,
        "covers": covers,
        "executions": executions,
        "floor": floor,
    });
    let path = directory.join(format!("{name}.json"));
    fs::write(path, format!("{record:#}\n")).unwrap();
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned
        .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}
