//! Certificates for a program that is broker and client, in a directory that goes with them.

use std::path::{Path, PathBuf};

use busrt_backend::tls::TlsOptions;
use tempfile::TempDir;

use super::doors::{Files, private_directory};
use crate::fault::Authority;

/// For a broker at `127.0.0.1`, and for clients called `collector`. The files last as long as the
/// directory.
///
/// # Errors
/// In words, what could not be made or written.
pub fn for_broker_and_client() -> Result<(TlsOptions, TempDir), String> {
    let directory = private_directory()?;
    let authority = Authority::new(directory.path(), "authority")?;
    let tls = Files::of(authority.issue(&["collector"])?).tls();
    Ok((tls, directory))
}

/// Authority, certificate and key of a program called `name` that is broker and client, below
/// `directory`.
pub(super) fn in_directory(directory: &Path, name: &str) -> Result<[PathBuf; 3], String> {
    let issued = Authority::new(directory, "authority")?.issue(&[name])?;
    Ok([issued.ca, issued.cert, issued.key])
}
