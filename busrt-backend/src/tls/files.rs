//! Reading the files of a TLS end, with every mistake named.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use tracing::warn;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::{TlsError, TlsOptions, provider};

/// What a file is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Ca,
    Cert,
    Key,
    Crl,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Ca => "CA file",
            Self::Cert => "certificate",
            Self::Key => "key",
            Self::Crl => "revocation list",
        }
    }
}

/// Which end of a connection the files are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// The files of one end, read and checked.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) own: Arc<CertifiedKey>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
}

impl Material {
    pub(super) fn read(options: &TlsOptions, side: Side) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(Role::Ca, &options.ca)? {
            roots
                .add(certificate)
                .map_err(|e| unusable(Role::Ca, &options.ca, &e))?;
        }
        let chain = certificates(Role::Cert, &options.cert)?;
        check_own(&chain, &roots, options, side)?;
        let own =
            CertifiedKey::from_der(chain, key(&options.key)?, &provider()).map_err(|reason| {
                match reason {
                    rustls::Error::InconsistentKeys(_) => TlsError::KeyMismatch {
                        key: options.key.clone(),
                        cert: options.cert.clone(),
                    },
                    reason => unusable(Role::Key, &options.key, &reason),
                }
            })?;
        let crls = match &options.crl {
            Some(path) => all(Role::Crl, path, &read(Role::Crl, path)?)?,
            None => Vec::new(),
        };
        check_lists(&own.cert, &roots, options, &crls);
        Ok(Self {
            roots: Arc::new(roots),
            own: Arc::new(own),
            crls,
        })
    }
}

/// The certificates in a file, at least one.
pub(super) fn certificates(
    role: Role,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(role, path, &read(role, path)?)
}

fn all<T: PemObject>(role: Role, path: &Path, bytes: &[u8]) -> Result<Vec<T>, TlsError> {
    let found: Result<Vec<T>, _> = T::pem_slice_iter(bytes).collect();
    match found {
        Ok(found) if found.is_empty() => Err(empty(role, path)),
        Ok(found) => Ok(found),
        Err(reason) => Err(unusable(role, path, &reason)),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let bytes = read(Role::Key, path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|reason| match reason {
        pem::Error::NoItemsFound => empty(Role::Key, path),
        reason => unusable(Role::Key, path, &reason),
    })
}

/// Reads a file; a key only if it is kept from others.
fn read(role: Role, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable = |reason: std::io::Error| TlsError::Unreadable {
        role: role.name(),
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    if matches!(role, Role::Key) {
        let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            let path = path.to_owned();
            return Err(TlsError::OpenKey { path, mode });
        }
        // A secret that an orchestrator mounts is often its group's.
        if mode & 0o070 != 0 {
            warn!(key = %path.display(), mode = %format_args!("{mode:04o}"), "key open to its group");
        }
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

/// Checks the end's own certificate as a peer would, so that a mistake shows at the start, with
/// its date, and not as a peer's complaint.
fn check_own(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    options: &TlsOptions,
    side: Side,
) -> Result<(), TlsError> {
    let Some((leaf, between)) = chain.split_first() else {
        return Err(empty(Role::Cert, &options.cert));
    };
    let path = || options.cert.clone();
    let leaf =
        EndEntityCert::try_from(leaf).map_err(|e| unusable(Role::Cert, &options.cert, &e))?;
    let (usage, purpose) = match side {
        Side::Server => (KeyUsage::server_auth(), "server"),
        Side::Client => (KeyUsage::client_auth(), "client"),
    };
    let algorithms = provider().signature_verification_algorithms.all;
    let now = UnixTime::now();
    let checked = leaf.verify_for_usage(algorithms, &roots.roots, between, now, usage, None, None);
    match checked {
        Ok(_) => Ok(()),
        Err(webpki::Error::CertExpired { not_after, .. }) => Err(TlsError::Expired {
            path: path(),
            at: date(not_after),
        }),
        Err(webpki::Error::CertNotValidYet { not_before, .. }) => Err(TlsError::NotYetValid {
            path: path(),
            at: date(not_before),
        }),
        Err(webpki::Error::RequiredEkuNotFoundContext(_)) => Err(TlsError::Purpose {
            path: path(),
            purpose,
        }),
        Err(reason) => {
            // Each end may have an authority of its own.
            let cert = options.cert.display();
            warn!(%cert, %reason, "own certificate is not signed by an authority of the CA file");
            Ok(())
        }
    }
}

/// Says of a list whose time is over that it is: what it revokes stays revoked, so it is used. Only
/// the lists of the authority that has signed the end's own certificate can be told.
fn check_lists(
    chain: &[CertificateDer<'_>],
    roots: &RootCertStore,
    options: &TlsOptions,
    lists: &[CertificateRevocationListDer<'_>],
) {
    let Some(crl) = &options.crl else {
        return;
    };
    let read = |list: &CertificateRevocationListDer<'_>| {
        let list = OwnedCertRevocationList::from_der(list).ok()?;
        Some(CertRevocationList::from(list))
    };
    let lists: Vec<_> = lists.iter().filter_map(read).collect();
    let lists: Vec<_> = lists.iter().collect();
    let Some((leaf, between)) = chain.split_first() else {
        return;
    };
    let (Ok(leaf), Ok(revocation)) = (
        EndEntityCert::try_from(leaf),
        RevocationOptionsBuilder::new(&lists),
    ) else {
        return;
    };
    let revocation = revocation
        .with_depth(RevocationCheckDepth::EndEntity)
        .with_status_policy(UnknownStatusPolicy::Allow)
        .with_expiration_policy(ExpirationPolicy::Enforce)
        .build();
    let algorithms = provider().signature_verification_algorithms.all;
    let now = UnixTime::now();
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let revocation = Some(revocation);
        let checked = leaf.verify_for_usage(
            algorithms,
            &roots.roots,
            between,
            now,
            usage,
            revocation,
            None,
        );
        if let Err(webpki::Error::CrlExpired { next_update, .. }) = checked {
            let (crl, at) = (crl.display(), date(next_update));
            warn!(%crl, at, "the time of the revocation list is over; it is used all the same");
            return;
        }
    }
}

fn date(time: UnixTime) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(time.as_secs());
    humantime::format_rfc3339_seconds(time).to_string()
}

fn empty(role: Role, path: &Path) -> TlsError {
    TlsError::Empty {
        role: role.name(),
        path: path.to_owned(),
        wanted: match role {
            Role::Ca | Role::Cert => "certificate",
            Role::Key => "private key",
            Role::Crl => "revocation list",
        },
    }
}

/// Authorities, or lists of revoked certificates, that no verifier can be made of.
pub(super) fn no_verifier(options: &TlsOptions, reason: &impl std::fmt::Display) -> TlsError {
    match &options.crl {
        Some(crl) => unusable(Role::Crl, crl, reason),
        None => unusable(Role::Ca, &options.ca, reason),
    }
}

pub(super) fn unusable(role: Role, path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::Unusable {
        role: role.name(),
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// What tells one version of the files from another. The time of the last change of the inode
/// also moves when the mode does, or the file is replaced by an older one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(Vec<Option<(u64, i64, i64, u64)>>);

impl Stamp {
    pub(super) fn of(options: &TlsOptions) -> Self {
        let paths = [&options.ca, &options.cert, &options.key];
        let stamp = |path: &Path| {
            let file = fs::metadata(path).ok()?;
            Some((file.ino(), file.ctime(), file.ctime_nsec(), file.len()))
        };
        let all = paths.into_iter().chain(&options.crl);
        Self(all.map(|path| stamp(path)).collect())
    }
}
