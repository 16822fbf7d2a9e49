//! Each value of a configuration, and which layer it comes from.
//!
//! Invariant: every key that the configuration takes is here, set or not; a test asks serde for them.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Dict, Map};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};
use serde::Serialize;

use super::environment::{self, variable};
use super::{Config, ConfigError};
use crate::phase::Phase;
use crate::rollout::Rollout;

/// One value, and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Setting {
    /// The key, with its table: `broker.mode`.
    pub key: String,
    /// The value that holds.
    pub value: SettingValue,
    /// Who says so.
    #[serde(flatten)]
    pub from: Layer,
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum SettingValue {
    /// There is none.
    None,
    /// `true` or `false`.
    Switch(bool),
    /// A whole number.
    Number(u64),
    /// A number.
    Ratio(f64),
    /// A text, a time, an address, or a path.
    Text(String),
    /// Several of these.
    List(Vec<String>),
}

/// The layer that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layer {
    /// Nobody set it.
    Default,
    /// A file.
    File {
        /// Its path, as it was given.
        path: PathBuf,
    },
    /// The environment.
    Environment {
        /// The variable.
        variable: String,
    },
    /// A flag of the program.
    Flag {
        /// The flag, with its hyphens.
        flag: String,
    },
    /// The program itself.
    Program,
}

impl Display for SettingValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Switch(switch) => switch.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Ratio(ratio) => ratio.fmt(f),
            Self::Text(text) => text.fmt(f),
            Self::List(texts) => texts.join(", ").fmt(f),
        }
    }
}

impl Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path } => write!(f, "file `{}`", path.display()),
            Self::Environment { variable } => write!(f, "environment `{variable}`"),
            Self::Flag { flag } => write!(f, "flag `{flag}`"),
            Self::Program => f.write_str("the program"),
        }
    }
}

/// Before the name of a flag in the name of its layer.
pub(super) const FLAG: &str = "flag ";

/// A layer of one value that a flag of the program has set, so that errors and [`Setting`] name it.
///
/// ```
/// use eventbus::Config;
/// use eventbus::config::{Flag, Layer, settings};
/// let figment = Config::figment()?.merge(Flag::new("--name", "name", "collector"));
/// let name = settings(&figment)?.into_iter().find(|setting| setting.key == "name").unwrap();
/// assert_eq!(name.from, Layer::Flag { flag: "--name".to_owned() });
/// # Ok::<(), eventbus::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Flag<V> {
    flag: String,
    key: String,
    value: V,
}

impl<V> Flag<V> {
    /// `flag` has set `key` to `value`.
    pub fn new(flag: impl Into<String>, key: impl Into<String>, value: V) -> Self {
        Self {
            flag: flag.into(),
            key: key.into(),
            value,
        }
    }
}

impl Flag<figment::value::Value> {
    /// The same with a value that is a text, read as one in the environment is: as a number or a switch
    /// if its key wants one.
    #[must_use]
    pub fn text(flag: impl Into<String>, key: impl Into<String>, text: impl Into<String>) -> Self {
        let key = key.into();
        let value = environment::value(&key, text.into());
        Self::new(flag, key, value)
    }
}

impl<V: Serialize> Provider for Flag<V> {
    fn metadata(&self) -> Metadata {
        Metadata::named(format!("{FLAG}{}", self.flag))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        figment::providers::Serialized::default(&self.key, &self.value).data()
    }
}

/// Each value that holds, in the order of the documentation, and where it comes from.
///
/// # Errors
/// [`ConfigError`], as [`Config::from_figment`].
pub fn settings(figment: &Figment) -> Result<Vec<Setting>, ConfigError> {
    let config = Config::from_figment(figment)?;
    let as_written = |key: &str, value| match (key, figment.find_value(key)) {
        // Neither is used in any other phase.
        ("primary" | "candidate", Ok(figment::value::Value::String(_, text))) => {
            SettingValue::Text(text)
        }
        _ => value,
    };
    let mut settings: Vec<_> = values(&config)
        .into_iter()
        .map(|(key, value)| setting(figment, key.to_owned(), as_written(key, value)))
        .collect();
    for (method, deadline) in config.operations.own() {
        let key = format!("operations.{method}");
        // The others have a key of their own.
        if !settings.iter().any(|setting| setting.key == key) {
            let key = format!("operations.methods.{method}");
            settings.push(setting(figment, key, time(deadline)));
        }
    }
    for (name, rule) in config.acl.iter().flatten() {
        for (what, value) in [
            ("publish", list(&rule.publish)),
            ("subscribe", list(&rule.subscribe)),
            ("call", list(&rule.call)),
        ] {
            settings.push(setting(figment, format!("acl.{name}.{what}"), value));
        }
    }
    Ok(settings)
}

fn setting(figment: &Figment, key: String, value: SettingValue) -> Setting {
    Setting {
        from: from(figment, &key),
        key,
        value,
    }
}

fn from(figment: &Figment, key: &str) -> Layer {
    let Some(meta) = figment.find_metadata(key) else {
        return Layer::Default;
    };
    if let Some(flag) = meta.name.strip_prefix(FLAG) {
        let flag = flag.to_owned();
        return Layer::Flag { flag };
    }
    match &meta.source {
        Some(Source::File(path)) => Layer::File { path: path.clone() },
        None if meta.name == environment::LAYER => Layer::Environment {
            variable: variable(key),
        },
        _ => Layer::Program,
    }
}

/// The keys that there are, whatever is set. Those of `[acl]` are their authors'.
pub(super) fn keys() -> Vec<&'static str> {
    let config = Config::default().rollout(Rollout::new(Vec::new(), ""));
    values(&config).into_iter().map(|(key, _)| key).collect()
}

fn values(config: &Config) -> Vec<(&'static str, SettingValue)> {
    let (primary, candidate) = match &config.phase {
        Phase::Shadow { primary, candidate } => (Some(primary), Some(candidate)),
        _ => (None, None),
    };
    let phase = match &config.phase {
        Phase::Shadow { .. } => text("shadow"),
        phase => text(phase),
    };
    let (limits, broker, tls) = (&config.limits, &config.broker, config.tls.as_ref());
    let operation = |name: &str| time(config.operations.of(name));
    let mut values = vec![
        ("phase", phase),
        ("primary", maybe(primary)),
        ("candidate", maybe(candidate)),
        ("name", maybe(config.name.as_ref())),
        ("limits.max_event_size", number(limits.max_event_size)),
        ("limits.publish_deadline", time(limits.publish_deadline)),
        ("limits.max_subscriptions", number(limits.max_subscriptions)),
        ("limits.max_calls", number(limits.max_calls)),
        (
            "limits.rate",
            rate(limits.rate.map(|rate| rate.per_second.get())),
        ),
        (
            "limits.burst",
            rate(limits.rate.map(|rate| rate.burst.get())),
        ),
        ("broker.mode", word(&broker.mode)),
        ("broker.max_connections", number(broker.max_connections)),
        ("broker.timeout", time(broker.timeout)),
        ("broker.grace", time(broker.grace)),
        ("broker.rate", rate(broker.rate)),
        ("broker.unix", paths(&broker.unix)),
        ("broker.tcp", list(&broker.tcp)),
        ("broker.metrics", maybe(broker.metrics.as_ref())),
        ("connect.timeout", time(config.connect_timeout)),
        ("connect.wait", SettingValue::Switch(config.wait)),
        ("connect.link_timeout", time(config.link_timeout)),
        ("observe.listen", maybe(config.observe.listen.as_ref())),
        ("operations.default", time(config.operations.others())),
        ("operations.health_check", operation("health_check")),
        ("operations.start_collection", operation("start_collection")),
        ("operations.stop_collection", operation("stop_collection")),
        ("operations.update_config", operation("update_config")),
        ("operations.get_capabilities", operation("get_capabilities")),
        ("operations.shutdown", operation("shutdown")),
        ("tls.ca", path(tls.map(|tls| &*tls.ca))),
        ("tls.cert", path(tls.map(|tls| &*tls.cert))),
        ("tls.key", path(tls.map(|tls| &*tls.key))),
        (
            "tls.server_name",
            maybe(tls.and_then(|tls| tls.server_name.as_ref())),
        ),
        ("tls.crl", path(tls.and_then(|tls| tls.crl.as_deref()))),
    ];
    if let Some(rollout) = &config.rollout {
        values.extend(of_rollout(rollout));
    }
    values
}

fn of_rollout(rollout: &Rollout) -> Vec<(&'static str, SettingValue)> {
    let (gates, hooks) = (&rollout.gates, &rollout.hooks);
    vec![
        ("rollout.phases", list(&rollout.phases)),
        ("rollout.journal", path(Some(&rollout.journal))),
        ("rollout.admin", path(rollout.admin.as_deref())),
        ("rollout.mode", word(&rollout.mode)),
        ("rollout.shadow", SettingValue::Switch(rollout.shadow)),
        ("rollout.hold", time(rollout.hold)),
        ("rollout.fall_back", SettingValue::Switch(rollout.fall_back)),
        (
            "rollout.gates.min_events",
            SettingValue::Number(gates.min_events),
        ),
        (
            "rollout.gates.max_divergences",
            SettingValue::Number(gates.max_divergences),
        ),
        (
            "rollout.gates.latency_ratio",
            SettingValue::Ratio(gates.latency_ratio),
        ),
        (
            "rollout.gates.throughput_ratio",
            SettingValue::Ratio(gates.throughput_ratio),
        ),
        ("rollout.gates.min_time", time(gates.min_time)),
        (
            "rollout.gates.successes",
            SettingValue::Number(gates.successes.into()),
        ),
        (
            "rollout.gates.failures",
            SettingValue::Number(gates.failures.into()),
        ),
        ("rollout.gates.interval", time(gates.interval)),
        ("rollout.gates.stale", time(gates.stale)),
        ("rollout.gates.patience", time(gates.patience)),
        ("rollout.hooks.before", paths(&hooks.before)),
        ("rollout.hooks.after", paths(&hooks.after)),
        ("rollout.hooks.timeout", time(hooks.timeout)),
    ]
}

fn text(value: impl Display) -> SettingValue {
    SettingValue::Text(value.to_string())
}

fn maybe(value: Option<impl Display>) -> SettingValue {
    value.map_or(SettingValue::None, text)
}

fn time(time: Duration) -> SettingValue {
    text(humantime::format_duration(time))
}

fn path(path: Option<&Path>) -> SettingValue {
    maybe(path.map(Path::display))
}

fn paths(paths: &[PathBuf]) -> SettingValue {
    let paths: Vec<_> = paths.iter().map(|path| path.display()).collect();
    list(&paths)
}

fn list(values: &[impl Display]) -> SettingValue {
    if values.is_empty() {
        return SettingValue::None;
    }
    SettingValue::List(values.iter().map(ToString::to_string).collect())
}

fn number(number: usize) -> SettingValue {
    SettingValue::Number(u64::try_from(number).unwrap_or(u64::MAX))
}

fn rate(rate: Option<u32>) -> SettingValue {
    rate.map_or(SettingValue::None, |rate| SettingValue::Number(rate.into()))
}

/// As the configuration writes a word that is one of a few.
fn word(word: &impl Serialize) -> SettingValue {
    match figment::value::Value::serialize(word) {
        Ok(figment::value::Value::String(_, text)) => SettingValue::Text(text),
        _ => SettingValue::None,
    }
}
