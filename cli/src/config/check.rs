//! What would fail if a program, or a broker, ran with a configuration here and now.
//!
//! It looks as the program would, and leaves everything as it was: sockets are not made, files are only
//! read, and a port is given back at once.

use std::fmt::Display;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use eventbus::broker::{SocketError, examine, why_no_port};
use eventbus::config::{Figment, MetricsAddress};
use eventbus::rollout::Rollout;
use eventbus::tls::{TlsOptions, check_broker, check_client};
use eventbus::{BrokerMode, Config, ConfigError, Observe, Phase, Tls};
use rustix::fs::{Access, access};
use serde::Serialize;

use crate::failure::Failure;
use crate::remote::leave;
use crate::runtime;

/// Something that would fail.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// The key that it is about; the sentence names it where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
    /// One sentence.
    pub(super) problem: String,
}

/// All that would fail, in the order of the configuration.
pub(super) fn problems(figment: &Figment, offline: bool) -> Result<Vec<Problem>, Failure> {
    let config = match Config::from_figment(figment) {
        Ok(config) => config,
        // What nobody can read is no answer.
        Err(reason @ ConfigError::Unreadable { .. }) => return Err(reason.into()),
        Err(reason) => {
            let problem = reason.to_string();
            return Ok(vec![Problem { key: None, problem }]);
        }
    };
    let mut check = Check {
        config: &config,
        problems: Vec::new(),
        ports: Vec::new(),
        brokers: Vec::new(),
    };
    check.phases();
    check.broker();
    check.address("broker.metrics", config.broker.metrics.as_ref());
    check.address("observe.listen", config.observe.listen.as_ref());
    if let Some(rollout) = &config.rollout {
        check.rollout(rollout);
    }
    let Check {
        mut problems,
        brokers,
        ..
    } = check;
    if !offline && !brokers.is_empty() {
        problems.extend(runtime()?.block_on(unanswered(&config, brokers)));
    }
    Ok(problems)
}

struct Check<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
    /// Held until all are looked at: two keys may want the same.
    ports: Vec<TcpListener>,
    /// Phases at which another program runs the broker.
    brokers: Vec<(&'static str, Phase)>,
}

impl Check<'_> {
    fn note(&mut self, key: &str, problem: impl Display) {
        self.problems.push(Problem {
            key: Some(key.to_owned()),
            problem: problem.to_string(),
        });
    }

    fn phases(&mut self) {
        let config = self.config;
        match (&config.rollout, &config.phase) {
            (Some(rollout), _) => {
                for phase in &rollout.phases {
                    self.phase("rollout.phases", phase);
                }
            }
            (None, Phase::Shadow { primary, candidate }) => {
                self.phase("primary", primary);
                self.phase("candidate", candidate);
            }
            (None, phase) => self.phase("phase", phase),
        }
    }

    fn phase(&mut self, key: &'static str, phase: &Phase) {
        let mode = self.config.broker.mode;
        let mut elsewhere = || self.brokers.push((key, phase.clone()));
        match phase {
            Phase::Unix(_) if mode == BrokerMode::External => elsewhere(),
            Phase::Unix(path) => match examine(path) {
                Err(SocketError::InUse { .. }) if mode == BrokerMode::Auto => elsewhere(),
                Err(reason) => self.note(key, reason),
                Ok(()) => {}
            },
            Phase::Tcp { host, port } if self.client_files(host) => {
                if mode == BrokerMode::Embedded {
                    self.broker_files(Some(host));
                    self.embedded_port(key, host, *port);
                } else {
                    self.brokers.push((key, phase.clone()));
                }
            }
            _ => {}
        }
    }

    /// Whether a client can use them.
    fn client_files(&mut self, host: &str) -> bool {
        let Some(tls) = &self.config.tls else {
            // Without them there is no such configuration.
            return false;
        };
        match check_client(&options(tls), host, self.config.name.as_deref()) {
            Ok(()) => true,
            Err(reason) => {
                self.once("tls", &reason.to_string());
                false
            }
        }
    }

    fn broker_files(&mut self, host: Option<&str>) {
        let Some(tls) = &self.config.tls else {
            return;
        };
        if let Err(reason) = check_broker(&options(tls), host) {
            self.once("tls", &reason.to_string());
        }
    }

    /// What several ends share is told once.
    fn once(&mut self, key: &str, problem: &str) {
        if !self.problems.iter().any(|known| known.problem == problem) {
            self.note(key, problem);
        }
    }

    fn embedded_port(&mut self, key: &str, host: &str, port: u16) {
        use std::net::ToSocketAddrs as _;
        match (host, port).to_socket_addrs().map(|mut all| all.next()) {
            Ok(Some(address)) => self.port(key, address),
            Ok(None) => self.note(key, format!("`{host}` has no address")),
            Err(reason) => self.note(key, format!("no address for `{host}`: {reason}")),
        }
    }

    fn broker(&mut self) {
        let broker = &self.config.broker;
        for path in &broker.unix {
            if let Err(reason) = examine(path) {
                self.note("broker.unix", reason);
            }
        }
        if !broker.tcp.is_empty() {
            self.broker_files(None);
        }
        for address in &broker.tcp {
            self.port("broker.tcp", *address);
        }
    }

    fn port(&mut self, key: &str, address: SocketAddr) {
        match TcpListener::bind(address) {
            Ok(port) => self.ports.push(port),
            Err(reason) => {
                let why = why_no_port(address, &reason);
                self.note(key, format!("cannot listen at `{address}`: {why}"));
            }
        }
    }

    fn address(&mut self, key: &str, address: Option<&MetricsAddress>) {
        match address {
            Some(MetricsAddress::Tcp(address)) => self.port(key, *address),
            Some(MetricsAddress::Unix(path)) => self.room(key, path),
            None => {}
        }
    }

    fn rollout(&mut self, rollout: &Rollout) {
        self.room("rollout.journal", &rollout.journal);
        if let Some(admin) = &rollout.admin {
            self.room("rollout.admin", admin);
        }
        for (key, hooks) in [
            ("rollout.hooks.before", &rollout.hooks.before),
            ("rollout.hooks.after", &rollout.hooks.after),
        ] {
            for hook in hooks {
                match hook.metadata() {
                    Ok(meta) if meta.permissions().mode() & 0o111 == 0 => {
                        self.note(key, format!("`{}` is not executable", hook.display()));
                    }
                    Ok(_) => {}
                    Err(reason) => self.note(key, format!("`{}`: {reason}", hook.display())),
                }
            }
        }
    }

    /// Whether something can be made at `path`, or in the directories that will be made for it.
    fn room(&mut self, key: &str, path: &Path) {
        let mut there = path.ancestors().skip(1).map(|directory| {
            let empty = directory.as_os_str().is_empty();
            if empty { Path::new(".") } else { directory }
        });
        let Some(directory) = there.find(|directory| directory.exists()) else {
            return;
        };
        if let Err(reason) = access(directory, Access::WRITE_OK | Access::EXEC_OK) {
            let reason = std::io::Error::from(reason);
            let (path, directory) = (path.display(), directory.display());
            self.note(
                key,
                format!("cannot make `{path}` in `{directory}`: {reason}"),
            );
        }
    }
}

fn options(tls: &Tls) -> TlsOptions {
    let mut options = TlsOptions::new(&tls.ca, &tls.cert, &tls.key);
    options.server_name.clone_from(&tls.server_name);
    options.crl.clone_from(&tls.crl);
    options
}

/// Brokers that do not answer, or not us. A program that waits for its broker would not fail.
async fn unanswered(config: &Config, brokers: Vec<(&'static str, Phase)>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if config.wait {
        return problems;
    }
    for (key, phase) in brokers {
        let mut guest = config
            .clone()
            .phase(phase)
            .broker_mode(BrokerMode::External);
        // The name may be in use by the very program whose configuration this is.
        guest.name = None;
        guest.rollout = None;
        guest.observe = Observe::default();
        match eventbus::open(&guest).await {
            Ok(bus) => leave(&*bus).await,
            Err(reason) => problems.push(Problem {
                key: Some(key.to_owned()),
                problem: reason.to_string(),
            }),
        }
    }
    problems
}
