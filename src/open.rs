//! Opening what the configuration names.
//!
//! Every phase has its own way in and its own reasons to fail; here they become one function and
//! one error. A phase that this build lacks is an error that names the feature, not a compile-time
//! puzzle: the same program runs on any phase that its features cover.
//!
//! Invariant: a candidate that cannot be reached never keeps an application from starting on its
//! primary (MIG-001); a candidate that this build could never open does, since that is a mistake
//! in the deployment.

use std::sync::Arc;

use eventbus_trait::EventBus;
use shadow::{ShadowBus, ShadowOptions};

#[cfg(feature = "busrt")]
use crate::absent::AbsentBus;
use crate::config::Config;
#[cfg(feature = "observe")]
pub(crate) use crate::observe::Attaching;
use crate::phase::Phase;

/// Why a bus could not be opened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The build lacks the phase.
    #[error("phase `{phase}` needs the feature `{feature}`, which this build does not have")]
    FeatureOff {
        /// The phase.
        phase: String,
        /// The Cargo feature of this crate.
        feature: &'static str,
    },
    /// The phase is over TCP, and there are no certificates.
    #[error("phase `{phase}` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set")]
    NoCertificates {
        /// The phase.
        phase: String,
    },
    /// A shadow is no side of a shadow.
    #[error("phase `{phase}` is itself a shadow")]
    NestedShadow {
        /// The phase.
        phase: String,
    },
    /// [`open_shadow`] was given another phase.
    #[error("phase `{phase}` is no shadow")]
    NoShadow {
        /// The phase.
        phase: String,
    },
    /// The rollout cannot begin.
    #[error("cannot open the rollout: {reason}")]
    Rollout {
        /// Why.
        reason: String,
    },
    /// `observe.listen` is set, and the build has nothing that serves there.
    #[error("`observe.listen` needs the feature `observe`, which this build does not have")]
    ObserveOff,
    /// What the bus does cannot be served where the configuration says.
    #[error("cannot listen at `{address}` as `observe.listen` says: {reason}")]
    Observe {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The broker could not be started or reached.
    #[cfg(feature = "busrt")]
    #[error("cannot open phase `{phase}`: {reason}")]
    Busrt {
        /// The phase.
        phase: String,
        /// What went wrong.
        #[source]
        reason: busrt_backend::OpenError,
    },
}

/// Opens the bus that `config` names.
///
/// Call it within a tokio runtime; crossbeam alone also opens without one. Under a shadow, a
/// candidate that cannot be reached is logged and counted as not compared, and the application
/// runs on the primary. With a [rollout](crate::rollout) configured, `phase` plays no part: the bus
/// is a [`PhasedBus`](crate::rollout::PhasedBus). Cancelling leaves nothing behind. With the feature
/// `opentelemetry`, what is published and called in a span says so ([`trace`](eventbus_trait::trace)).
///
/// # Errors
/// [`OpenError`] names the phase, and the feature or the reason.
pub async fn open(config: &Config) -> Result<Arc<dyn EventBus>, OpenError> {
    if config.rollout.is_some() {
        return rollout(config).await.map(traced);
    }
    let bus = match &config.phase {
        Phase::Shadow { .. } => open_shadow(config).await?,
        plain => {
            let observed = Attaching::begin(config).await?;
            let bus = open_plain(config, plain).await?;
            observed.bus(&bus);
            bus
        }
    };
    Ok(traced(bus))
}

#[cfg(feature = "opentelemetry")]
fn traced(bus: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
    crate::TracedBus::new(bus)
}

#[cfg(not(feature = "opentelemetry"))]
fn traced(bus: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
    bus
}

/// Opens a shadow as [`open`] does, as its own type, which has the report.
///
/// # Errors
/// [`OpenError`] names the phase, and the feature or the reason.
pub async fn open_shadow(config: &Config) -> Result<Arc<ShadowBus>, OpenError> {
    let Phase::Shadow { primary, candidate } = &config.phase else {
        return Err(OpenError::NoShadow {
            phase: config.phase.to_string(),
        });
    };
    let observed = Attaching::begin(config).await?;
    let primary = open_plain(config, primary).await?;
    let mut beside = config.clone();
    // The primary's rate limit decides what there is to compare.
    beside.limits.rate = None;
    // Nobody waits for a candidate.
    beside.wait = false;
    let candidate: Arc<dyn EventBus> = match open_plain(&beside, candidate).await {
        Ok(candidate) => candidate,
        #[cfg(feature = "busrt")]
        Err(OpenError::Busrt { phase, reason }) => {
            tracing::error!(phase, %reason, "candidate cannot be opened; nothing is compared");
            Arc::new(AbsentBus::new(candidate.name(), reason.to_string()))
        }
        Err(error) => return Err(error),
    };
    let shadow = ShadowBus::new(primary, candidate, ShadowOptions::default());
    observed.shadow(&shadow);
    Ok(shadow)
}

/// In a build that cannot serve anything.
#[cfg(not(feature = "observe"))]
pub(crate) struct Attaching;

#[cfg(not(feature = "observe"))]
impl Attaching {
    pub(crate) async fn begin(config: &Config) -> Result<Self, OpenError> {
        match config.observe.listen {
            None => Ok(Self),
            Some(_) => Err(OpenError::ObserveOff),
        }
    }

    fn bus(self, _: &Arc<dyn EventBus>) {}

    fn shadow(self, _: &Arc<ShadowBus>) {}

    #[cfg(feature = "rollout")]
    pub(crate) fn rollout(
        self,
        _: &Arc<crate::rollout::PhasedBus>,
        _: impl Fn(&str) -> Option<Arc<ShadowBus>> + Send + Sync + 'static,
    ) {
    }
}

#[cfg(feature = "rollout")]
async fn rollout(config: &Config) -> Result<Arc<dyn EventBus>, OpenError> {
    Ok(crate::rollout::open(config).await?)
}

#[cfg(not(feature = "rollout"))]
async fn rollout(_: &Config) -> Result<Arc<dyn EventBus>, OpenError> {
    Err(OpenError::FeatureOff {
        phase: "rollout".to_owned(),
        feature: "rollout",
    })
}

pub(crate) async fn open_plain(
    config: &Config,
    phase: &Phase,
) -> Result<Arc<dyn EventBus>, OpenError> {
    match phase {
        Phase::Crossbeam => crossbeam(config),
        Phase::InProcess | Phase::Unix(_) => busrt(config, phase).await,
        Phase::Tcp { .. } if cfg!(feature = "tcp") => busrt(config, phase).await,
        Phase::Tcp { .. } => Err(OpenError::FeatureOff {
            phase: phase.to_string(),
            feature: "tcp",
        }),
        // `Phase::shadow` refuses shadows as sides.
        Phase::Shadow { .. } => Err(OpenError::NestedShadow {
            phase: phase.to_string(),
        }),
    }
}

#[cfg(feature = "crossbeam")]
fn crossbeam(config: &Config) -> Result<Arc<dyn EventBus>, OpenError> {
    Ok(crossbeam_backend::CrossbeamBus::new(config.limits.clone()))
}

#[cfg(not(feature = "crossbeam"))]
fn crossbeam(_: &Config) -> Result<Arc<dyn EventBus>, OpenError> {
    Err(OpenError::FeatureOff {
        phase: Phase::Crossbeam.to_string(),
        feature: "crossbeam",
    })
}

#[cfg(feature = "busrt")]
async fn busrt(config: &Config, phase: &Phase) -> Result<Arc<dyn EventBus>, OpenError> {
    use crate::config::BrokerMode;
    use busrt_backend::{Address, Options};

    let address = match phase {
        Phase::Unix(path) => Address::Unix(path.clone()),
        #[cfg(feature = "tcp")]
        Phase::Tcp { host, port } => Address::Tcp {
            host: host.clone(),
            port: *port,
            tls: tls(config).ok_or_else(|| OpenError::NoCertificates {
                phase: phase.to_string(),
            })?,
        },
        _ => Address::InProcess,
    };
    let mut options = Options::new(address);
    options.broker = match config.broker.mode {
        BrokerMode::Auto => busrt_backend::BrokerMode::Auto,
        BrokerMode::Embedded => busrt_backend::BrokerMode::Embedded,
        BrokerMode::External => busrt_backend::BrokerMode::External,
    };
    options.name.clone_from(&config.name);
    options.limits = config.limits.clone();
    options.connect_timeout = config.connect_timeout;
    options.keepalive = config.broker.timeout;
    options.max_connections = config.broker.max_connections;
    options.acl = crate::standalone::acl(config);
    options.rate = crate::standalone::rate(config);
    options.wait = config.wait;
    options.link_timeout = config.link_timeout;
    match busrt_backend::open(options).await {
        Ok(bus) => Ok(bus),
        Err(reason) => Err(OpenError::Busrt {
            phase: phase.to_string(),
            reason,
        }),
    }
}

#[cfg(feature = "tcp")]
pub(crate) fn tls(config: &Config) -> Option<busrt_backend::tls::TlsOptions> {
    let tls = config.tls.as_ref()?;
    let mut options = busrt_backend::tls::TlsOptions::new(&tls.ca, &tls.cert, &tls.key);
    options.server_name.clone_from(&tls.server_name);
    options.crl.clone_from(&tls.crl);
    Some(options)
}

#[cfg(not(feature = "busrt"))]
async fn busrt(_: &Config, phase: &Phase) -> Result<Arc<dyn EventBus>, OpenError> {
    Err(OpenError::FeatureOff {
        phase: phase.to_string(),
        feature: "busrt",
    })
}
