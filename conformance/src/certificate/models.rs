//! The models of the concurrent parts: each of them writes down how far it was explored.
//!
//! Invariant: what was explored before the running suite was built is not told: it was of other code.

use std::env;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How far one model was explored. A model runs with the tests of the suite, not with a clause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Model {
    /// Its name.
    pub model: String,
    /// The ids of the contract that it is for.
    pub covers: Vec<String>,
    /// Interleavings that were run.
    pub executions: u64,
    /// How many there have to be, so that the model is known to explore anything.
    pub floor: u64,
}

/// What the models have written since this program was built.
pub(crate) fn explored() -> Vec<Model> {
    let program = env::current_exe().and_then(fs::metadata);
    let built = program.and_then(|program| program.modified());
    built.map_or_else(|_| Vec::new(), |built| read(&super::directory(), built))
}

/// What the models have written below the certificates' directory since then, by name. A file that
/// is no such record is left out: it is another program's, or half written.
pub(super) fn read(directory: &Path, since: SystemTime) -> Vec<Model> {
    let Ok(files) = fs::read_dir(directory.join("models")) else {
        return Vec::new();
    };
    let texts = files
        .flatten()
        .filter(|file| {
            let written = file.metadata().and_then(|file| file.modified());
            written.is_ok_and(|written| written >= since)
        })
        .filter_map(|file| fs::read_to_string(file.path()).ok());
    let mut models: Vec<Model> = texts
        .filter_map(|text| serde_json::from_str(&text).ok())
        .collect();
    models.sort_by(|a, b| a.model.cmp(&b.model));
    models
}
