//! A place for a run: a directory, the steps' configuration moved there, certificates.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::net::TcpSocket;

/// Where the guide has everything.
const GUIDE: &str = "/tmp/watch";
const PORT: &str = "127.0.0.1:7777";

pub(crate) struct Scene {
    directory: tempfile::TempDir,
    port: Arc<TcpSocket>,
    /// A beginning of names that no other process on this machine has.
    pub(crate) names: String,
}

/// How many scenes there were in this process.
static SCENES: AtomicU32 = AtomicU32::new(0);

impl Scene {
    pub(crate) fn new() -> Self {
        let mode = fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(mode).tempdir();
        Self {
            directory: directory.unwrap(),
            port: Arc::new(reserved()),
            names: format!(
                "w{}-{}",
                std::process::id(),
                SCENES.fetch_add(1, Ordering::Relaxed)
            ),
        }
    }

    /// Somebody else's, who dials the same port and knows its authority.
    pub(crate) fn beside(other: &Self) -> Self {
        let scene = Self {
            port: Arc::clone(&other.port),
            ..Self::new()
        };
        scene.certificates();
        let authority = |scene: &Self| scene.path().join("certs/ca.pem");
        fs::copy(authority(other), authority(&scene)).unwrap();
        scene
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A step's configuration as it is, but for the directory and the port.
    pub(crate) fn configuration(&self, name: &str) -> PathBuf {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let text = fs::read_to_string(file).unwrap();
        let text = text
            .replace(GUIDE, self.path().to_str().unwrap())
            .replace(PORT, &self.port.local_addr().unwrap().to_string());
        let moved = self.path().join(name.replace('/', "-"));
        fs::write(&moved, text).unwrap();
        moved
    }

    /// What `eventbus certs` makes in the guide.
    pub(crate) fn certificates(&self) {
        let directory = self.path().join("certs");
        fs::create_dir(&directory).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        for names in [&["agent", "127.0.0.1"][..], &["collector"]] {
            let key = KeyPair::generate().unwrap();
            let all: Vec<_> = names.iter().map(ToString::to_string).collect();
            let params = CertificateParams::new(all).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(
                directory.join(format!("{}.pem", names[0])),
                certificate.pem(),
            )
            .unwrap();
            let file = directory.join(format!("{}.key", names[0]));
            fs::write(&file, key.serialize_pem()).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}

/// A port that nobody else is given as long as this is there, since it is bound; who asks for that very
/// one may listen there, since nobody does.
fn reserved() -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    socket
}
