//! The configuration as it is written, before it is checked.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use eventbus_trait::{Limits, Rate, check_client_name};
use figment::Figment;
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use super::error::ConfigError;
use super::listen::{self, MetricsAddress, RawRule, Texts};
use super::operations::RawOperations;
use super::rollout::RawRollout;
use super::{Broker, BrokerMode, Config, Observe, Tls};
use crate::phase::{Phase, PhaseError};
use crate::rollout::Rollout;

/// Most connections of a broker.
const MAX_CONNECTIONS: usize = 65_535;
/// Longest time that may be asked for.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    phase: Option<String>,
    primary: Option<String>,
    candidate: Option<String>,
    name: Option<String>,
    limits: RawLimits,
    broker: RawBroker,
    connect: RawConnect,
    observe: RawObserve,
    operations: RawOperations,
    tls: RawTls,
    rollout: Option<RawRollout>,
    acl: Option<BTreeMap<String, RawRule>>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLimits {
    max_event_size: usize,
    #[serde(deserialize_with = "duration")]
    publish_deadline: Duration,
    max_subscriptions: usize,
    max_calls: usize,
    rate: Option<u32>,
    burst: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawBroker {
    mode: BrokerMode,
    max_connections: usize,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
    #[serde(deserialize_with = "duration")]
    grace: Duration,
    rate: Option<u32>,
    unix: Texts,
    tcp: Texts,
    metrics: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConnect {
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
    wait: bool,
    #[serde(deserialize_with = "duration")]
    link_timeout: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawObserve {
    listen: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawTls {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    server_name: Option<String>,
    crl: Option<PathBuf>,
}

impl Default for RawLimits {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            max_event_size: limits.max_event_size,
            publish_deadline: limits.publish_deadline,
            max_subscriptions: limits.max_subscriptions,
            max_calls: limits.max_calls,
            rate: None,
            burst: None,
        }
    }
}

impl Default for RawBroker {
    fn default() -> Self {
        let broker = Broker::default();
        Self {
            mode: broker.mode,
            max_connections: broker.max_connections,
            timeout: broker.timeout,
            grace: broker.grace,
            rate: broker.rate,
            unix: Texts::default(),
            tcp: Texts::default(),
            metrics: None,
        }
    }
}

impl Default for RawConnect {
    fn default() -> Self {
        let config = Config::default();
        Self {
            timeout: config.connect_timeout,
            wait: config.wait,
            link_timeout: config.link_timeout,
        }
    }
}

impl Raw {
    /// Checks what the types alone do not say.
    pub(super) fn check(self, figment: &Figment) -> Result<Config, ConfigError> {
        let phase = self.phase(figment)?;
        let broker = self.broker.check(figment)?;
        let rollout = self.rollout.map(|rollout| rollout.check(figment));
        let rollout = rollout.transpose()?;
        let config = Config {
            tls: self
                .tls
                .check(tcp_phase(&phase, rollout.as_ref()), &broker)?,
            acl: self
                .acl
                .as_ref()
                .map(|rules| listen::acl(figment, rules))
                .transpose()?,
            phase,
            rollout,
            name: self.name,
            limits: self.limits.check(figment)?,
            broker,
            connect_timeout: self.connect.timeout,
            wait: self.connect.wait,
            link_timeout: self.connect.link_timeout,
            observe: Observe {
                listen: address(figment, "observe.listen", self.observe.listen.as_deref())?,
            },
            operations: self.operations.check(figment)?,
        };
        let positive = [
            ("limits.max_event_size", config.limits.max_event_size == 0),
            ("broker.max_connections", config.broker.max_connections == 0),
            ("broker.timeout", config.broker.timeout.is_zero()),
            ("broker.rate", config.broker.rate == Some(0)),
            ("connect.timeout", config.connect_timeout.is_zero()),
            ("connect.link_timeout", config.link_timeout.is_zero()),
        ];
        for (key, zero) in positive {
            if zero {
                return Err(ConfigError::value(figment, key, "more than zero"));
            }
        }
        // Beyond these, sums of times and numbers of permits overflow; the directory numbers its
        // members by 16 bits.
        if config.broker.max_connections > MAX_CONNECTIONS {
            let expected = "at most 65,535";
            return Err(ConfigError::value(
                figment,
                "broker.max_connections",
                expected,
            ));
        }
        let times = [
            ("broker.timeout", config.broker.timeout),
            ("broker.grace", config.broker.grace),
            ("connect.timeout", config.connect_timeout),
        ];
        for (key, time) in times {
            if time > LONGEST {
                return Err(ConfigError::value(figment, key, "at most `24h`"));
            }
        }
        if config
            .name
            .as_deref()
            .is_some_and(|name| check_client_name(name).is_err())
        {
            let expected =
                "1 to 64 of A-Z a-z 0-9 _ -, not beginning with `eb-` and without `--in-`";
            return Err(ConfigError::value(figment, "name", expected));
        }
        Ok(config)
    }

    fn phase(&self, figment: &Figment) -> Result<Phase, ConfigError> {
        // `primary` and `candidate` are checked in any phase: a mistake there shows before the day
        // on which somebody sets `phase` to `shadow`.
        let primary = side(figment, "primary", self.primary.as_deref())?;
        let candidate = side(figment, "candidate", self.candidate.as_deref())?;
        let Some(text) = self.phase.as_deref() else {
            return Ok(Phase::default());
        };
        if text != "shadow" {
            return plain(figment, "phase", text);
        }
        match (primary, candidate) {
            (None, _) => Err(missing("primary")),
            (_, None) => Err(missing("candidate")),
            (Some(primary), Some(candidate)) => {
                Phase::shadow(primary, candidate).map_err(|reason| ConfigError::Phase {
                    key: "candidate".to_owned(),
                    place: ConfigError::place(figment, "candidate"),
                    reason,
                })
            }
        }
    }
}

impl RawLimits {
    fn check(&self, figment: &Figment) -> Result<Limits, ConfigError> {
        let positive = |key, number: Option<u32>| {
            let zero = || ConfigError::value(figment, key, "more than zero");
            number
                .map(|n| NonZeroU32::new(n).ok_or_else(zero))
                .transpose()
        };
        let rate = positive("limits.rate", self.rate)?;
        let burst = positive("limits.burst", self.burst)?;
        let rate = match (rate, burst) {
            (Some(rate), None) => Some(Rate::per_second(rate)),
            (Some(per_second), Some(burst)) => Some(Rate { per_second, burst }),
            (None, None) => None,
            (None, Some(_)) => {
                let expected = "`limits.rate` to be set too";
                return Err(ConfigError::value(figment, "limits.burst", expected));
            }
        };
        Ok(Limits {
            max_event_size: self.max_event_size,
            publish_deadline: self.publish_deadline,
            max_subscriptions: self.max_subscriptions,
            max_calls: self.max_calls,
            rate,
        })
    }
}

impl RawBroker {
    fn check(&self, figment: &Figment) -> Result<Broker, ConfigError> {
        let metrics = address(figment, "broker.metrics", self.metrics.as_deref())?;
        Ok(Broker {
            mode: self.mode,
            max_connections: self.max_connections,
            timeout: self.timeout,
            grace: self.grace,
            rate: self.rate,
            unix: self.unix.sockets(figment, "broker.unix")?,
            tcp: self.tcp.ports(figment, "broker.tcp")?,
            metrics,
        })
    }
}

impl RawTls {
    /// All three files or none, and none only without TCP.
    fn check(self, tcp: Option<&Phase>, broker: &Broker) -> Result<Option<Tls>, ConfigError> {
        let more = self.server_name.is_some() || self.crl.is_some();
        let files = [
            ("tls.ca", self.ca),
            ("tls.cert", self.cert),
            ("tls.key", self.key),
        ];
        let because = match tcp {
            Some(tcp) => format!("phase `{tcp}` needs TLS"),
            None if !broker.tcp.is_empty() => "a broker's TCP port needs TLS".to_owned(),
            None if more || files.iter().any(|(_, file)| file.is_some()) => {
                "`tls` needs three files".to_owned()
            }
            None => return Ok(None),
        };
        match files {
            [(_, Some(ca)), (_, Some(cert)), (_, Some(key))] => Ok(Some(Tls {
                ca,
                cert,
                key,
                server_name: self.server_name,
                crl: self.crl,
            })),
            files => {
                let missing = files.into_iter().filter(|(_, file)| file.is_none());
                let keys = missing.map(|(key, _)| key).collect();
                Err(ConfigError::MissingTls { keys, because })
            }
        }
    }
}

/// The first phase over TCP that is to be opened, if any.
fn tcp_phase<'a>(phase: &'a Phase, rollout: Option<&'a Rollout>) -> Option<&'a Phase> {
    match rollout {
        Some(rollout) => rollout.phases.iter().find_map(Phase::tcp),
        None => phase.tcp(),
    }
}

fn missing(key: &'static str) -> ConfigError {
    let because = "`phase` is `shadow`";
    ConfigError::Missing { key, because }
}

fn address(
    figment: &Figment,
    key: &str,
    text: Option<&str>,
) -> Result<Option<MetricsAddress>, ConfigError> {
    let wrong = |expected| ConfigError::value(figment, key, expected);
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

fn side(figment: &Figment, key: &str, text: Option<&str>) -> Result<Option<Phase>, ConfigError> {
    text.map(|text| plain(figment, key, text)).transpose()
}

fn plain(figment: &Figment, key: &str, text: &str) -> Result<Phase, ConfigError> {
    text.parse().map_err(|reason: PhaseError| match reason {
        PhaseError::Unknown { .. } => {
            let shadow = if key == "phase" { ", or `shadow`" } else { "" };
            ConfigError::value(figment, key, &format!("{}{shadow}", crate::phase::EXPECTED))
        }
        reason => ConfigError::Phase {
            key: key.to_owned(),
            place: ConfigError::place(figment, key),
            reason,
        },
    })
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Human;
    impl Visitor<'_> for Human {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as `5s` or `100ms`")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            humantime::parse_duration(text)
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(Human)
}
