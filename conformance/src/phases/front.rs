//! Phases with a front door, and those who come to it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::fault::Authority;
use crate::{Answer, Caller, DoorHarness, DoorRig, Rig};
use async_trait::async_trait;
use busrt_backend::broker::{Acl, AclRule, Broker, BrokerOptions, Listener};
use busrt_backend::tls::TlsOptions;
use busrt_backend::{Address, BrokerMode, Options, open};
use eventbus_trait::{EventBus, Limits, TopicFilter};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::doors::{Files, LOCAL, private_directory, refusal};

/// Which front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    Unix,
    Tcp,
}

#[async_trait]
impl DoorHarness for Front {
    async fn start_door(
        &self,
        limits: Limits,
        connections: usize,
    ) -> Result<Box<dyn DoorRig>, String> {
        Ok(Box::new(AtDoor::start(*self, limits, connections).await?))
    }

    fn has_socket(&self) -> bool {
        *self == Self::Unix
    }

    fn has_tls(&self) -> bool {
        *self == Self::Tcp
    }
}

struct AtDoor {
    bus: Arc<dyn EventBus>,
    place: Place,
    limits: Limits,
    authority: Authority,
    foreign: Authority,
    _broker: Broker,
    _directory: TempDir,
}

#[derive(Debug, Clone)]
enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

type Wire = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl AtDoor {
    async fn start(front: Front, limits: Limits, connections: usize) -> Result<Self, String> {
        let directory = private_directory()?;
        let authority = Authority::new(directory.path(), "ours")?;
        let foreign = Authority::new(directory.path(), "foreign")?;
        let mut options = BrokerOptions::new();
        options.max_connections = connections;
        options.handshake_timeout = Duration::from_secs(3);
        options.acl = acl()?;
        let socket = directory.path().join("bus.sock");
        options.listeners.push(match front {
            Front::Unix => Listener::Unix(socket.clone()),
            Front::Tcp => Listener::Tcp {
                address: LOCAL,
                tls: Files::of(authority.issue(&["broker"])?).tls(),
            },
        });
        let broker = Broker::start(options).await.map_err(in_words)?;
        let place = match broker.addresses().first() {
            Some(Address::Tcp { port, .. }) => Place::Tcp(SocketAddr::new(LOCAL.ip(), *port)),
            _ => Place::Unix(socket),
        };
        let tls = Files::of(authority.issue(&["first"])?).tls();
        let bus = open(options_for(&place, &limits, tls)).await;
        Ok(Self {
            bus: bus.map_err(in_words)?,
            place,
            limits,
            authority,
            foreign,
            _broker: broker,
            _directory: directory,
        })
    }

    async fn session(&self, tls: TlsOptions, name: Option<&str>) -> Answer {
        let mut options = options_for(&self.place, &self.limits, tls);
        options.name = name.map(str::to_owned);
        match open(options).await {
            Ok(bus) => Answer::In(bus),
            Err(error) => Answer::Out(refusal(error)),
        }
    }

    fn certificate(&self, name: &str) -> Result<TlsOptions, String> {
        Ok(Files::of(self.authority.issue(&[name])?).tls())
    }

    /// Callers that only TLS knows.
    async fn over_tls(&self, caller: Caller, address: SocketAddr) -> Result<Answer, String> {
        Ok(match caller {
            Caller::Plain => {
                let wire = TcpStream::connect(address).await.map_err(in_words)?;
                closed(Box::new(wire), b"\xEB\x01\x00\x05\x00alice").await
            }
            Caller::NoCertificate => match self.tls_wire(address, None).await {
                // In TLS 1.3 a client has shaken hands before it is judged.
                Ok(wire) => closed(wire, b"\xEB\x01\x00\x05\x00alice").await,
                Err(error) => Answer::Out(error.into()),
            },
            Caller::ForeignAuthority => {
                let files = self.foreign.issue(&["stranger"])?;
                // It knows our broker; our broker does not know it.
                let ca = self.authority.certificate();
                let tls = TlsOptions::new(ca, files.cert, files.key);
                self.session(tls, None).await
            }
            Caller::Expired => {
                let files = self.authority.issue_expired(&["late"])?;
                self.session(Files::of(files).tls(), None).await
            }
            Caller::WrongServerName => {
                let tls = self.certificate("lost")?.server_name("other.example");
                self.session(tls, None).await
            }
            Caller::AnothersName => {
                let tls = self.certificate("mallory")?;
                self.session(tls, Some("first")).await
            }
            _ => Answer::NoSuchCaller,
        })
    }

    async fn tls_wire(
        &self,
        address: SocketAddr,
        certificate: Option<&str>,
    ) -> Result<Wire, String> {
        let mut roots = rustls::RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.authority.certificate()).map_err(in_words)?;
        roots.add(ca).map_err(in_words)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(in_words)?
            .with_root_certificates(roots);
        let config = match certificate {
            None => config.with_no_client_auth(),
            Some(name) => {
                let files = self.authority.issue(&[name])?;
                let cert = CertificateDer::from_pem_file(files.cert).map_err(in_words)?;
                let key = PrivateKeyDer::from_pem_file(files.key).map_err(in_words)?;
                let config = config.with_client_auth_cert(vec![cert], key);
                config.map_err(in_words)?
            }
        };
        let tcp = TcpStream::connect(address).await.map_err(in_words)?;
        let name = ServerName::from(address.ip());
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let wire = connector.connect(name, tcp).await.map_err(in_words)?;
        Ok(Box::new(wire))
    }
}

/// Guests may use `open.#`, everybody else everything.
fn acl() -> Result<Acl, String> {
    let open = TopicFilter::new("open.#").map_err(in_words)?;
    let mut rule = AclRule::deny_all();
    rule.publish = vec![open.clone()];
    rule.subscribe = vec![open];
    Ok(Acl::default().with("guest*", rule))
}

fn options_for(place: &Place, limits: &Limits, tls: TlsOptions) -> Options {
    let address = match place {
        Place::Unix(path) => Address::Unix(path.clone()),
        Place::Tcp(address) => Address::Tcp {
            host: address.ip().to_string(),
            port: address.port(),
            tls,
        },
    };
    let mut options = Options::new(address);
    options.broker = BrokerMode::External;
    options.limits = limits.clone();
    options
}

/// Sends bytes and waits for the end of the connection.
async fn closed(mut wire: Wire, bytes: &[u8]) -> Answer {
    // Both may fail, once it is closed: that is what is waited for.
    let _ = wire.write_all(bytes).await;
    let mut said = Vec::new();
    let ended = wire.read_to_end(&mut said).await;
    Answer::Out(format!("the connection was closed: {ended:?}").into())
}

impl Rig for AtDoor {
    fn bus(&self) -> Arc<dyn EventBus> {
        Arc::clone(&self.bus)
    }
}

#[async_trait]
impl DoorRig for AtDoor {
    async fn come(&self, caller: Caller) -> Result<Answer, String> {
        match (caller, &self.place) {
            (Caller::Member, _) => Ok(self.session(self.certificate("member")?, None).await),
            (Caller::Guest, _) => {
                let tls = self.certificate("guest")?;
                Ok(self.session(tls, Some("guest")).await)
            }
            (Caller::Bytes(bytes), Place::Unix(path)) => {
                let wire = UnixStream::connect(path).await.map_err(in_words)?;
                Ok(closed(Box::new(wire), &bytes).await)
            }
            (Caller::Bytes(bytes), Place::Tcp(address)) => {
                let wire = self.tls_wire(*address, Some("member")).await?;
                Ok(closed(wire, &bytes).await)
            }
            (_, Place::Unix(_)) => Ok(Answer::NoSuchCaller),
            (caller, Place::Tcp(address)) => self.over_tls(caller, *address).await,
        }
    }

    fn socket(&self) -> Option<PathBuf> {
        match &self.place {
            Place::Unix(path) => Some(path.clone()),
            Place::Tcp(_) => None,
        }
    }

    async fn second_broker(&self) -> Result<(), String> {
        let mut options = BrokerOptions::new();
        options.listeners.push(match &self.place {
            Place::Unix(path) => Listener::Unix(path.clone()),
            Place::Tcp(address) => Listener::Tcp {
                address: *address,
                tls: self.certificate("broker")?,
            },
        });
        Broker::start(options).await.map(|_| ()).map_err(in_words)
    }
}
