//! A client's end: to the right broker, or a reason why not.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use eventbus_trait::{ConnectError, TlsProblem};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::files::{self, Material, Role, Side};
use super::reload::Reloading;
use super::{TlsError, TlsOptions, own_names, provider};
use crate::transport::{BUFFER_BYTES, nobody};

/// A broker greets with three bytes.
const GREETING_BYTES: usize = 64;

/// A broker behind TLS. rustls reads 4 KiB at once, which would be many calls.
pub(crate) type Stream = TlsStream<BufReader<TcpStream>>;

/// Makes connections to one broker.
pub(crate) struct Connector {
    host: String,
    port: u16,
    server: ServerName<'static>,
    config: Reloading<ClientConfig>,
}

impl Connector {
    /// Reads the files.
    pub(crate) fn new(host: &str, port: u16, options: &TlsOptions) -> Result<Self, TlsError> {
        let name = options.server_name.as_deref().unwrap_or(host);
        let server = ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName {
            name: name.to_owned(),
        })?;
        Ok(Self {
            host: host.to_owned(),
            port,
            server,
            config: Reloading::new(options, Side::Client, client_config)?,
        })
    }

    /// Checks that the certificate entitles to `name`.
    pub(crate) fn check_name(&self, name: &str) -> Result<(), TlsError> {
        let options = self.config.options();
        let names = own_names(options)?;
        if names.admits(name) {
            return Ok(());
        }
        Err(TlsError::NotEntitled {
            path: options.cert.clone(),
            name: name.to_owned(),
            names: names.to_string(),
        })
    }

    /// The name of a handle: what was asked for, if the certificate entitles to it, else one
    /// derived from the certificate and `suffix`, of at most `room` bytes if that is possible.
    pub(crate) fn client_name(
        &self,
        asked: Option<&str>,
        suffix: &str,
        room: usize,
    ) -> Result<String, TlsError> {
        match asked {
            Some(name) => self.check_name(name).map(|()| name.to_owned()),
            None => Ok(own_names(self.config.options())?.derived(suffix, room)),
        }
    }

    /// Connects, and waits until the broker speaks; gives what it has said so far beside it.
    ///
    /// Call it on the runtime that is to carry the connection.
    pub(crate) async fn connect(&self) -> Result<(Stream, BytesMut), ConnectError> {
        let host = self.host.as_str();
        let tcp = TcpStream::connect((host, self.port))
            .await
            .map_err(|e| self.unreachable(&e))?;
        // Events are batched before they get here; what is written is to be sent.
        let _ = tcp.set_nodelay(true);
        let tcp = BufReader::with_capacity(BUFFER_BYTES, tcp);
        let connector = TlsConnector::from(self.config.get());
        let mut tls = connector
            .connect(self.server.clone(), tcp)
            .await
            .map_err(|e| self.failed(&e))?;
        let greeting = self.greeting(&mut tls).await?;
        Ok((tls, greeting))
    }

    /// Waits until the broker speaks: in TLS 1.3 a client has shaken hands before the broker has
    /// judged its certificate, and learns of a refusal only as it reads.
    async fn greeting(&self, tls: &mut Stream) -> Result<BytesMut, ConnectError> {
        let mut greeting = BytesMut::with_capacity(GREETING_BYTES);
        match tls.read_buf(&mut greeting).await {
            Ok(0) => Err(ConnectError::Refused {
                address: self.address(),
                reason: "it closed the connection without a word".to_owned(),
            }),
            Ok(_) => Ok(greeting),
            Err(reason) => Err(self.failed(&reason)),
        }
    }

    pub(crate) fn address(&self) -> String {
        address(&self.host, self.port)
    }

    fn unreachable(&self, reason: &io::Error) -> ConnectError {
        ConnectError::Unreachable {
            address: self.address(),
            reason: nobody(reason),
        }
    }

    fn failed(&self, reason: &io::Error) -> ConnectError {
        let Some(error) = reason.get_ref().and_then(|e| e.downcast_ref()) else {
            return self.unreachable(reason);
        };
        ConnectError::Tls {
            address: self.address(),
            problem: problem(error, &self.server),
        }
    }
}

/// As it is written in a configuration.
pub(crate) fn address(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("tcp://[{host}]:{port}")
    } else {
        format!("tcp://{host}:{port}")
    }
}

fn problem(error: &rustls::Error, server: &ServerName<'_>) -> TlsProblem {
    match error {
        rustls::Error::InvalidMessage(_) => TlsProblem::NotTls,
        rustls::Error::InvalidCertificate(reason) => match reason {
            // Another authority of the same name is found out by its signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                TlsProblem::UnknownAuthority
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                TlsProblem::Expired
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                TlsProblem::NotYetValid
            }
            CertificateError::Revoked => TlsProblem::Revoked,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsProblem::WrongName {
                    expected: server.to_str().into_owned(),
                }
            }
            other => TlsProblem::Other {
                reason: other.to_string(),
            },
        },
        rustls::Error::AlertReceived(alert) => TlsProblem::RefusedByBroker {
            reason: refusal(*alert),
        },
        other => TlsProblem::Other {
            reason: other.to_string(),
        },
    }
}

/// What a broker's alert says of this client.
fn refusal(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => "it wants a certificate".to_owned(),
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "this client's certificate is signed by no authority of the broker's".to_owned()
        }
        AlertDescription::CertificateExpired => "this client's certificate has expired".to_owned(),
        AlertDescription::CertificateRevoked => "this client's certificate was revoked".to_owned(),
        AlertDescription::ProtocolVersion => "no version of TLS in common".to_owned(),
        other => format!("TLS alert {other:?}"),
    }
}

fn client_config(material: Material, options: &TlsOptions) -> Result<ClientConfig, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(material.roots, provider())
        .with_crls(material.crls)
        .build()
        .map_err(|e| files::no_verifier(options, &e))?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| files::unusable(Role::Cert, &options.cert, &e))?
        .with_webpki_verifier(verifier)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(material.own)));
    config.resumption = Resumption::disabled();
    Ok(config)
}
