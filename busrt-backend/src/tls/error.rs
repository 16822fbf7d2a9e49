//! What is wrong with the files of a TLS end, or with its settings.

use std::path::PathBuf;

/// Why the files of a TLS end cannot be used. Each names the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The system does not give the file.
    #[error("cannot read {role} `{}`: {reason}", path.display())]
    Unreadable {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file holds nothing of the kind.
    #[error("no PEM {wanted} in {role} `{}`", path.display())]
    Empty {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The file holds something that cannot be used.
    #[error("{role} `{}` cannot be used: {reason}", path.display())]
    Unusable {
        /// What the file is for.
        role: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Users other than the owner and its group can read the key.
    #[error("key `{}` has mode {mode:04o}, so others can read it; `chmod 600` it", path.display())]
    OpenKey {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The key is another certificate's.
    #[error("key `{}` is not that of certificate `{}`", key.display(), cert.display())]
    KeyMismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        cert: PathBuf,
    },
    /// The certificate's time is over.
    #[error("certificate `{}` expired at {at}; have it issued again", path.display())]
    Expired {
        /// The certificate's file.
        path: PathBuf,
        /// When, as RFC 3339 writes it.
        at: String,
    },
    /// The certificate's time has not come.
    #[error("certificate `{}` is not valid before {at}; is the clock right?", path.display())]
    NotYetValid {
        /// The certificate's file.
        path: PathBuf,
        /// From when on it is.
        at: String,
    },
    /// The certificate does not allow this use.
    #[error("certificate `{}` is not for TLS {purpose}s", path.display())]
    Purpose {
        /// The certificate's file.
        path: PathBuf,
        /// `server` or `client`.
        purpose: &'static str,
    },
    /// No name in the certificate can be a client's.
    #[error(
        "certificate `{}` has no DNS name that a client can have: 1 to {} of A-Z a-z 0-9 _ - \
         without `--`, not beginning with `eb-`",
        path.display(), super::names::LONGEST
    )]
    Nameless {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The name asked for is not one that the certificate entitles to.
    #[error("certificate `{}` does not entitle to client name `{name}`, only to {names}", path.display())]
    NotEntitled {
        /// The certificate's file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The names that it does entitle to.
        names: String,
    },
    /// The broker's own certificate is not for the name that its clients dial.
    #[error("certificate `{}` is not for `{name}`, which clients dial", path.display())]
    NotForName {
        /// The certificate's file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A certificate cannot be for this name.
    #[error("server name `{name}` is neither a DNS name nor an IP address")]
    ServerName {
        /// The name.
        name: String,
    },
}
