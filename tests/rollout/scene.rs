//! A place for a rollout: directory, certificates, configuration, watchdog.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use conformance::fault::Reserved;
use eventbus::rollout::{Gates, Rollout};
use eventbus::{BrokerMode, Config, Phase, Tls};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// No test takes as long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Scene {
    pub(crate) directory: tempfile::TempDir,
    port: Reserved,
}

/// Runs a test under a watchdog.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the watchdog has had enough");
    });
}

impl Scene {
    pub(crate) fn new() -> Self {
        let mode = std::fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().permissions(mode).tempdir();
        Self {
            directory: directory.unwrap(),
            port: Reserved::new().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A phase by its short name, at a place of this scene.
    pub(crate) fn phase(&self, name: &str) -> Phase {
        match name {
            "unix" => Phase::Unix(self.path("bus.sock")),
            "tcp" => format!("tcp://{}", self.port.address()).parse().unwrap(),
            name => name.parse().unwrap(),
        }
    }

    /// A rollout over phases, without shadows and with gates that ask for little.
    pub(crate) fn rollout(&self, phases: &[&str]) -> Rollout {
        let phases = phases.iter().map(|name| self.phase(name)).collect();
        let mut rollout = Rollout::new(phases, self.path("journal"));
        rollout.shadow = false;
        rollout.hold = Duration::from_secs(20);
        rollout.gates = easy();
        rollout
    }

    /// A configuration in which each phase has a broker of its own.
    pub(crate) fn config(&self, rollout: Rollout) -> Config {
        let mut config = Config::default()
            .broker_mode(BrokerMode::Embedded)
            .name("collector")
            .rollout(rollout);
        if config.rollout.as_ref().is_some_and(needs_tls) {
            config = config.tls(self.certificates());
        }
        config
    }

    /// An authority, and one certificate for a program that is broker and client.
    pub(crate) fn certificates(&self) -> Tls {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(self.path("ca.pem"), certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let names = ["collector".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(self.path("own.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("own.key"), key.serialize_pem()).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path("own.key"), mode).unwrap();
        Tls::new(
            self.path("ca.pem"),
            self.path("own.pem"),
            self.path("own.key"),
        )
    }
}

fn needs_tls(rollout: &Rollout) -> bool {
    let tcp = |phase: &Phase| matches!(phase, Phase::Tcp { .. });
    rollout.phases.iter().any(tcp)
}

/// Gates that pass as soon as anything happens.
pub(crate) fn easy() -> Gates {
    let mut gates = Gates::default();
    gates.min_events = 1;
    gates.min_time = Duration::from_millis(1);
    gates.successes = 1;
    gates.interval = Duration::from_millis(20);
    gates
}
