//! TLS with certificates on both sides: who a peer is, decided before it says a word.
//!
//! Both ends show a certificate and both check the other's: a client believes a broker whose
//! certificate is for the name it dialled, a broker believes a client as far as the names in its
//! certificate go ([`CertNames`]). Files are read again when they change; connections that stand
//! are left alone.
//!
//! Invariant: sessions are never resumed, so each connection has had both certificates checked
//! whole, against the files as they were when it was made.

mod client;
mod error;
mod files;
mod names;
mod reload;
mod server;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;

use crate::broker::BrokerError;

pub(crate) use client::{Connector, address};
pub use error::TlsError;
pub use names::CertNames;
pub(crate) use server::{Acceptor, REFUSALS, Stream};

/// The files that a TLS end needs, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsOptions {
    /// Certificates of the authorities whose word is taken for a peer.
    pub ca: PathBuf,
    /// This end's certificate, followed by those between it and its authority, if any.
    pub cert: PathBuf,
    /// The key of that certificate. Others must not be able to read it.
    pub key: PathBuf,
    /// The name that the broker's certificate must be for, if it is not the host that is dialled.
    pub server_name: Option<String>,
    /// Lists of revoked certificates, one from each authority that signed something in use.
    pub crl: Option<PathBuf>,
}

impl TlsOptions {
    /// The three files that are always needed.
    #[must_use]
    pub fn new(ca: impl Into<PathBuf>, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            ca: ca.into(),
            cert: cert.into(),
            key: key.into(),
            server_name: None,
            crl: None,
        }
    }

    /// Sets the name that the broker's certificate must be for.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the file of revocation lists.
    #[must_use]
    pub fn crl(mut self, crl: impl Into<PathBuf>) -> Self {
        self.crl = Some(crl.into());
        self
    }
}

/// The names that the certificate in `options` entitles a client to.
///
/// # Errors
/// [`TlsError`] if it cannot be read, or entitles to none.
pub fn own_names(options: &TlsOptions) -> Result<CertNames, TlsError> {
    let chain = files::certificates(files::Role::Cert, &options.cert)?;
    let names = chain.first().map(CertNames::of).unwrap_or_default();
    if names.is_empty() {
        return Err(TlsError::Nameless {
            path: options.cert.clone(),
        });
    }
    Ok(names)
}

/// Whether a client that dials `host` can use the files, and may be called `name`.
///
/// # Errors
/// [`TlsError`] names the file and what is wrong with it.
pub fn check_client(options: &TlsOptions, host: &str, name: Option<&str>) -> Result<(), TlsError> {
    // The port plays no part before it connects.
    let connector = Connector::new(host, 0, options)?;
    match name {
        Some(name) => connector.check_name(name),
        None => own_names(options).map(|_| ()),
    }
}

/// Whether a broker can use the files, and if its clients dial `host`, whether its certificate is for
/// that name.
///
/// # Errors
/// [`TlsError`] names the file and what is wrong with it.
pub fn check_broker(options: &TlsOptions, host: Option<&str>) -> Result<(), TlsError> {
    let material = files::Material::read(options, files::Side::Server)?;
    let Some(name) = host.map(|host| options.server_name.as_deref().unwrap_or(host)) else {
        return Ok(());
    };
    let server = ServerName::try_from(name).map_err(|_| TlsError::ServerName {
        name: name.to_owned(),
    })?;
    let own = material
        .own
        .cert
        .first()
        .map(webpki::EndEntityCert::try_from);
    match own {
        Some(Ok(own)) if own.verify_is_valid_for_subject_name(&server).is_ok() => Ok(()),
        _ => Err(TlsError::NotForName {
            path: options.cert.clone(),
            name: name.to_owned(),
        }),
    }
}

/// Where a broker listens whose clients dial `host`.
pub(crate) fn resolve(host: &str, port: u16) -> Result<SocketAddr, BrokerError> {
    let found = (host, port).to_socket_addrs().map(|mut all| all.next());
    let reason = match found {
        Ok(Some(address)) => return Ok(address),
        Ok(None) => "it has none".to_owned(),
        Err(e) => e.to_string(),
    };
    Err(BrokerError::Runtime {
        reason: format!("no address for `{host}`: {reason}"),
    })
}

/// busrt brings rustls with aws-lc-rs; naming it here keeps a second provider from mattering.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
