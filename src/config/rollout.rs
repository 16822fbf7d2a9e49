//! The table `[rollout]`.

use std::path::PathBuf;
use std::time::Duration;

use figment::Figment;
use serde::Deserialize;

use super::error::ConfigError;
use super::listen::Texts;
use super::raw::duration;
use crate::phase::Phase;
use crate::rollout::{Gates, Hooks, Mode, Rollout};

/// The table as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawRollout {
    phases: Texts,
    journal: Option<PathBuf>,
    admin: Option<PathBuf>,
    mode: Mode,
    shadow: bool,
    #[serde(deserialize_with = "duration")]
    hold: Duration,
    fall_back: bool,
    gates: RawGates,
    hooks: RawHooks,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawGates {
    min_events: u64,
    max_divergences: u64,
    latency_ratio: f64,
    throughput_ratio: f64,
    #[serde(deserialize_with = "duration")]
    min_time: Duration,
    successes: u32,
    failures: u32,
    #[serde(deserialize_with = "duration")]
    interval: Duration,
    #[serde(deserialize_with = "duration")]
    stale: Duration,
    #[serde(deserialize_with = "duration")]
    patience: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHooks {
    before: Texts,
    after: Texts,
    #[serde(deserialize_with = "duration")]
    timeout: Duration,
}

impl Default for RawRollout {
    fn default() -> Self {
        let rollout = Rollout::new(Vec::new(), "");
        Self {
            phases: Texts::default(),
            journal: None,
            admin: None,
            mode: rollout.mode,
            shadow: rollout.shadow,
            hold: rollout.hold,
            fall_back: rollout.fall_back,
            gates: RawGates::default(),
            hooks: RawHooks::default(),
        }
    }
}

impl Default for RawGates {
    fn default() -> Self {
        let gates = Gates::default();
        Self {
            min_events: gates.min_events,
            max_divergences: gates.max_divergences,
            latency_ratio: gates.latency_ratio,
            throughput_ratio: gates.throughput_ratio,
            min_time: gates.min_time,
            successes: gates.successes,
            failures: gates.failures,
            interval: gates.interval,
            stale: gates.stale,
            patience: gates.patience,
        }
    }
}

impl Default for RawHooks {
    fn default() -> Self {
        Self {
            before: Texts::default(),
            after: Texts::default(),
            timeout: Hooks::default().timeout,
        }
    }
}

impl RawRollout {
    /// Checks what the types alone do not say.
    pub(super) fn check(self, figment: &Figment) -> Result<Rollout, ConfigError> {
        let value = |key: &str, expected: &str| Err(ConfigError::value(figment, key, expected));
        let phases = self.phases.phases(figment, "rollout.phases")?;
        let twice = |at: usize, phase: &Phase| phases[..at].contains(phase);
        if phases.len() < 2 || phases.iter().enumerate().any(|(at, p)| twice(at, p)) {
            let written: Vec<_> = phases.iter().map(ToString::to_string).collect();
            return Err(ConfigError::Value {
                key: "rollout.phases".to_owned(),
                value: written.join(", "),
                place: ConfigError::place(figment, "rollout.phases"),
                expected: "two phases or more, none of them twice".to_owned(),
            });
        }
        let Some(journal) = self.journal else {
            return Err(ConfigError::Missing {
                key: "rollout.journal",
                because: "`rollout.phases` is set",
            });
        };
        let gates = &self.gates;
        let positive = [
            ("rollout.hold", self.hold.is_zero()),
            ("rollout.gates.interval", gates.interval.is_zero()),
            ("rollout.gates.successes", gates.successes == 0),
            ("rollout.gates.failures", gates.failures == 0),
            ("rollout.hooks.timeout", self.hooks.timeout.is_zero()),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, zero)| *zero) {
            return value(key, "more than zero");
        }
        for (key, ratio) in [
            ("rollout.gates.latency_ratio", gates.latency_ratio),
            ("rollout.gates.throughput_ratio", gates.throughput_ratio),
        ] {
            if !(ratio.is_finite() && ratio >= 0.0) {
                return value(key, "a number that is not negative");
            }
        }
        let mut rollout = Rollout::new(phases, journal);
        rollout.admin = self.admin;
        rollout.mode = self.mode;
        rollout.shadow = self.shadow;
        rollout.hold = self.hold;
        rollout.fall_back = self.fall_back;
        rollout.gates = self.gates.into();
        rollout.hooks.before = self.hooks.before.paths();
        rollout.hooks.after = self.hooks.after.paths();
        rollout.hooks.timeout = self.hooks.timeout;
        Ok(rollout)
    }
}

impl From<RawGates> for Gates {
    fn from(raw: RawGates) -> Self {
        Self {
            min_events: raw.min_events,
            max_divergences: raw.max_divergences,
            latency_ratio: raw.latency_ratio,
            throughput_ratio: raw.throughput_ratio,
            min_time: raw.min_time,
            successes: raw.successes,
            failures: raw.failures,
            interval: raw.interval,
            stale: raw.stale,
            patience: raw.patience,
        }
    }
}
