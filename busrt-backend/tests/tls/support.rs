//! Authorities, certificates, brokers, and raw peers that do not keep to the rules.

use std::fs::{self, Permissions};
use std::future::Future;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use busrt_backend::broker::{Broker, BrokerOptions, Listener};
use busrt_backend::tls::TlsOptions;
use busrt_backend::{Address, Options};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SerialNumber,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const TLS_1_2: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12];
pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs a test under a watchdog.
pub(crate) fn run(test: impl Future<Output = ()>) {
    listen_to_logs();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test)
            .await
            .expect("the test hangs");
    });
}

/// Waits for a condition; the watchdog ends a wait in vain.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    let mut look = tokio::time::interval(Duration::from_millis(5));
    while !condition() {
        look.tick().await;
    }
}

/// An authority, and a directory for what it signs.
pub(crate) struct Authority {
    pub(crate) dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// All authorities here have one name, as those of `eventbus certs init` have.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("ca.pem"), &certificate.pem(), 0o644);
        let issuer = Issuer::new(params, key);
        Self { dir, issuer }
    }

    /// Its certificate.
    pub(crate) fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for clients and servers, with these names.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> TlsOptions {
        self.issue_with(name, names, |_| {})
    }

    /// One that `edit` has changed before it was signed. Its serial number is its name.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        names: &[&str],
        edit: impl FnOnce(&mut CertificateParams),
    ) -> TlsOptions {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.serial_number = Some(SerialNumber::from_slice(name.as_bytes()));
        edit(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |ending: &str| self.dir.path().join(format!("{name}.{ending}"));
        write(&path("key"), &key.serialize_pem(), 0o600);
        write(&path("pem"), &certificate.pem(), 0o644);
        TlsOptions::new(self.file(), path("pem"), path("key"))
    }

    /// A client's certificate.
    pub(crate) fn client(&self, name: &str) -> TlsOptions {
        self.issue(name, &[name])
    }

    /// A broker's certificate, for the address that the tests use.
    pub(crate) fn server(&self) -> TlsOptions {
        self.issue("server", &["127.0.0.1"])
    }

    /// Writes the list of those who are revoked.
    pub(crate) fn revoke(&self, names: &[&str]) -> std::path::PathBuf {
        self.revoke_until(names, SystemTime::now() + DAY)
    }

    /// Writes one whose time is over then.
    pub(crate) fn revoke_until(&self, names: &[&str], until: SystemTime) -> std::path::PathBuf {
        let now = SystemTime::now();
        let revoked = |name: &&str| RevokedCertParams {
            serial_number: SerialNumber::from_slice(name.as_bytes()),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: until.into(),
            crl_number: SerialNumber::from(1_u64 + names.len() as u64),
            issuing_distribution_point: None,
            revoked_certs: names.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.dir.path().join("crl.pem");
        let pem = list.signed_by(&self.issuer).unwrap().pem().unwrap();
        write(&path, &pem, 0o644);
        path
    }
}

/// Writes a file whole, as `eventbus certs` does, so that nobody reads half of it.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(path.parent().unwrap())
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.persist(path).unwrap();
}

/// A broker at a port of its own.
pub(crate) async fn broker(tls: TlsOptions) -> Broker {
    broker_with(tls, |_| {}).await
}

pub(crate) async fn broker_with(tls: TlsOptions, edit: impl FnOnce(&mut BrokerOptions)) -> Broker {
    let mut options = BrokerOptions::new();
    let address = ([127, 0, 0, 1], 0).into();
    options.listeners.push(Listener::Tcp { address, tls });
    edit(&mut options);
    Broker::start(options).await.unwrap()
}

pub(crate) fn port(broker: &Broker) -> u16 {
    match broker.addresses() {
        [Address::Tcp { port, .. }] => *port,
        other => panic!("{other:?}"),
    }
}

/// Options of a session at `broker`.
pub(crate) fn options(port: u16, tls: TlsOptions) -> Options {
    let host = "127.0.0.1".to_owned();
    Options::new(Address::Tcp { host, port, tls })
}

/// Waits until the broker has refused somebody for `reason`, and has said so in its log.
pub(crate) async fn refused(broker: &Broker, reason: &'static str) {
    until(|| broker.stats().refused.contains_key(reason)).await;
    assert_eq!(broker.stats().refused.len(), 1, "{:?}", broker.stats());
    let told = format!("reason=\"{reason}\"");
    until(|| logs().lock().unwrap().contains(&told)).await;
}

/// A TLS client that shows whatever certificate it is told to, or none.
pub(crate) struct RawClient {
    pub(crate) show: Option<TlsOptions>,
    pub(crate) versions: &'static [&'static rustls::SupportedProtocolVersion],
}

impl RawClient {
    pub(crate) fn showing(show: &TlsOptions) -> Self {
        Self {
            show: Some(show.clone()),
            versions: rustls::ALL_VERSIONS,
        }
    }

    /// Shakes hands with the broker at `port`, which it believes because of `ca`.
    pub(crate) async fn connect(
        &self,
        port: u16,
        ca: &Path,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let config = match &self.show {
            None => config.with_no_client_auth(),
            Some(show) => {
                let (chain, key) = chain_and_key(show);
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }
}

pub(crate) fn chain_and_key(
    tls: &TlsOptions,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(&tls.cert).unwrap();
    let key = PrivateKeyDer::from_pem_file(&tls.key).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

/// The alert that ended a TLS connection.
pub(crate) fn alert(error: &std::io::Error) -> rustls::AlertDescription {
    let inner = error.get_ref().and_then(|e| e.downcast_ref());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("no alert: {error:?}"),
    }
}

/// What this process has logged.
pub(crate) fn logs() -> &'static Mutex<String> {
    static LOGS: OnceLock<Mutex<String>> = OnceLock::new();
    LOGS.get_or_init(Mutex::default)
}

struct ToLogs;

impl Write for ToLogs {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        logs()
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn listen_to_logs() {
    // Fails in all tests of this program but the first, which is as it should be.
    let _ = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(|| ToLogs)
        .try_init();
}

/// Replaces the files of one end by those of another.
pub(crate) fn replace(old: &TlsOptions, new: &TlsOptions) {
    for (old, new) in [
        (&old.ca, &new.ca),
        (&old.cert, &new.cert),
        (&old.key, &new.key),
    ] {
        fs::rename(new, old).unwrap();
    }
}
