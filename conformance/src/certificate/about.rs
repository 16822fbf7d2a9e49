//! Of what a certificate is, by what, and where: nobody can repeat a run without it.

use serde::{Deserialize, Serialize};

/// What took part in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The suite.
    pub conformance: String,
    /// The commit that the suite was built of, if it was built in a checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Whether files of that commit had been changed when it was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty: Option<bool>,
    /// What was tested, if its harness says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The compiler that built the suite.
    pub rustc: String,
    /// Operating system, kernel and machine.
    pub os: String,
}

impl Versions {
    pub(super) fn here(backend: Option<String>) -> Self {
        Self {
            conformance: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("CONFORMANCE_COMMIT").map(str::to_owned),
            dirty: option_env!("CONFORMANCE_DIRTY").map(|dirty| dirty == "true"),
            backend,
            rustc: env!("CONFORMANCE_RUSTC").to_owned(),
            os: system(),
        }
    }
}

#[cfg(unix)]
fn system() -> String {
    let name = rustix::system::uname();
    let words = [name.sysname(), name.release(), name.machine()];
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

#[cfg(not(unix))]
fn system() -> String {
    format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)
}
