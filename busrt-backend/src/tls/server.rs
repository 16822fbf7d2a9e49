//! The broker's end: who may come in over TCP, and why the others may not.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ServerConfig};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::{self, Material, Role, Side};
use super::names::CertNames;
use super::reload::Reloading;
use super::{TlsError, TlsOptions, provider};
use crate::transport::BUFFER_BYTES;

/// A connection behind TLS. rustls alone reads 4 KiB at a time.
pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

/// Why a TCP connection was refused before it said a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// What came was no TLS.
    NotTls,
    /// TLS 1.1 or older.
    OldTls,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate is signed by no authority of ours.
    UnknownAuthority,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It was revoked.
    Revoked,
    /// It is not for TLS clients.
    Purpose,
    /// It has no name that a client can have.
    Nameless,
    /// Anything else that is wrong with the certificate.
    BadCertificate(String),
    /// The client does not believe us.
    ByClient(AlertDescription),
    /// The handshake took too long; a client without TLS waits for the broker to speak first.
    TooSlow,
    /// The connection ended.
    HungUp,
    /// Anything else.
    Other(String),
}

/// The reasons in one word, without those that the front door has too.
pub(crate) const REFUSALS: &[&str] = &[
    "not_tls",
    "old_tls",
    "no_certificate",
    "unknown_authority",
    "expired",
    "not_yet_valid",
    "revoked",
    "wrong_purpose",
    "no_client_name",
    "bad_certificate",
    "client_refused_us",
    "tls_error",
];

impl Refusal {
    /// The reason in one word, for counting.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::OldTls => "old_tls",
            Self::NoCertificate => "no_certificate",
            Self::UnknownAuthority => "unknown_authority",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::Purpose => "wrong_purpose",
            Self::Nameless => "no_client_name",
            Self::BadCertificate(_) => "bad_certificate",
            Self::ByClient(_) => "client_refused_us",
            Self::TooSlow => "handshake_timeout",
            Self::HungUp => "hung_up",
            Self::Other(_) => "tls_error",
        }
    }

    fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|e| e.downcast_ref());
        match inner {
            Some(rustls::Error::NoCertificatesPresented) => Self::NoCertificate,
            Some(rustls::Error::InvalidMessage(_)) => Self::NotTls,
            Some(rustls::Error::PeerIncompatible(
                rustls::PeerIncompatible::Tls12NotOffered
                | rustls::PeerIncompatible::Tls12NotOfferedOrEnabled
                | rustls::PeerIncompatible::SupportedVersionsExtensionRequired
                // What TLS 1.1 does not know and 1.2 always says; it is looked for first.
                | rustls::PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            )) => Self::OldTls,
            Some(rustls::Error::InvalidCertificate(reason)) => Self::of_certificate(reason),
            Some(rustls::Error::AlertReceived(alert)) => Self::ByClient(*alert),
            Some(reason) => Self::Other(reason.to_string()),
            None if hung_up(error.kind()) => Self::HungUp,
            None => Self::Other(error.to_string()),
        }
    }

    fn of_certificate(reason: &CertificateError) -> Self {
        match reason {
            // Another authority of the same name is found out by its signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Self::NotYetValid
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::Purpose
            }
            other => Self::BadCertificate(other.to_string()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTls => "it does not speak TLS",
            Self::OldTls => "it offers no TLS of 1.2 or newer",
            Self::NoCertificate => "it showed no certificate",
            Self::UnknownAuthority => "its certificate is signed by no authority in the CA file",
            Self::Expired => "its certificate has expired",
            Self::NotYetValid => "its certificate is not valid yet",
            Self::Revoked => "its certificate was revoked",
            Self::Purpose => "its certificate is not for TLS clients",
            Self::Nameless => "its certificate has no DNS name that a client can have",
            Self::TooSlow => "no TLS handshake came in time",
            Self::HungUp => "it hung up during the handshake",
            Self::ByClient(alert) => return write!(f, "it refused our certificate: {alert:?}"),
            Self::BadCertificate(reason) => return write!(f, "its certificate is bad: {reason}"),
            Self::Other(reason) => return write!(f, "the TLS handshake failed: {reason}"),
        })
    }
}

fn hung_up(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// Does the handshakes of a listener.
pub(crate) struct Acceptor {
    config: Reloading<ServerConfig>,
}

impl Acceptor {
    /// Reads the files.
    pub(crate) fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let config = Reloading::new(options, Side::Server, server_config)?;
        Ok(Self { config })
    }

    /// Shakes hands on a connection, and says which names its other end may have.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        within: Duration,
    ) -> Result<(Stream, CertNames), Refusal> {
        // Events are batched before they get here; what is written is to be sent.
        let _ = stream.set_nodelay(true);
        let stream = BufReader::with_capacity(BUFFER_BYTES, stream);
        let acceptor = TlsAcceptor::from(self.config.get());
        let stream = match tokio::time::timeout(within, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(reason)) => return Err(Refusal::of(&reason)),
            Err(_) => return Err(Refusal::TooSlow),
        };
        let chain: Option<&[CertificateDer<'_>]> = stream.get_ref().1.peer_certificates();
        let names = chain.and_then(<[_]>::first).map(CertNames::of);
        match names {
            Some(names) if !names.is_empty() => Ok((stream, names)),
            _ => Err(Refusal::Nameless),
        }
    }
}

fn server_config(material: Material, options: &TlsOptions) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(material.roots, provider())
        .with_crls(material.crls)
        .build()
        .map_err(|e| files::no_verifier(options, &e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| files::unusable(Role::Cert, &options.cert, &e))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.own)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
