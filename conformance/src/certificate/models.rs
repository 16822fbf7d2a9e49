//! The models of the concurrent parts: each of them writes down how far it was explored.

use std::fs;
use std::path::Path;

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

/// What the models have written below the certificates' directory, by name. A file that is no such
/// record is left out: it is another program's, or half written.
pub(super) fn read(directory: &Path) -> Vec<Model> {
    let Ok(files) = fs::read_dir(directory.join("models")) else {
        return Vec::new();
    };
    let texts = files
        .flatten()
        .filter_map(|file| fs::read_to_string(file.path()).ok());
    let mut models: Vec<Model> = texts
        .filter_map(|text| serde_json::from_str(&text).ok())
        .collect();
    models.sort_by(|a, b| a.model.cmp(&b.model));
    models
}
