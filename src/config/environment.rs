//! `EVENTBUS_*` variables as a layer of the configuration.
//!
//! figment's own provider guesses each value's type, so that a client name of `007` would become a
//! number. Here a value is a text unless its key is known to be a number.

use figment::value::{Dict, Map, Value};
use figment::{Error, Metadata, Profile, Provider};

const PREFIX: &str = "EVENTBUS_";

/// What a rollout's hook is told: the stage that is left.
pub(crate) const ROLLOUT_FROM: &str = "EVENTBUS_ROLLOUT_FROM";
/// The stage that is gone to.
pub(crate) const ROLLOUT_TO: &str = "EVENTBUS_ROLLOUT_TO";
/// `advance` or `back`.
pub(crate) const ROLLOUT_DIRECTION: &str = "EVENTBUS_ROLLOUT_DIRECTION";

/// Variables with the prefix that are no keys of the configuration. A rollout tells its hooks where it
/// goes, and a hook may be a program of ours; the rest is for tests, which read configurations, too.
const OTHERS: [&str; 8] = [
    super::FILE_VARIABLE,
    "EVENTBUS_LOG",
    ROLLOUT_FROM,
    ROLLOUT_TO,
    ROLLOUT_DIRECTION,
    "EVENTBUS_BUSRTD",
    "EVENTBUS_NO_FOREIGN",
    "EVENTBUS_BLESS",
];

/// Keys whose values are `true` or `false`.
const SWITCHES: [&str; 3] = ["connect.wait", "rollout.shadow", "rollout.fall_back"];

/// Keys whose values are numbers.
const NUMBERS: [&str; 11] = [
    "limits.max_event_size",
    "limits.max_subscriptions",
    "limits.max_calls",
    "limits.rate",
    "limits.burst",
    "broker.max_connections",
    "broker.rate",
    "rollout.gates.min_events",
    "rollout.gates.max_divergences",
    "rollout.gates.successes",
    "rollout.gates.failures",
];

/// The layer's name.
pub(super) const LAYER: &str = "the environment";

/// The layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Environment;

impl Provider for Environment {
    fn metadata(&self) -> Metadata {
        Metadata::named(LAYER).interpolater(|_, keys| variable(&keys.join(".")))
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        let mut all = Value::from(Dict::new());
        for (name, text) in std::env::vars_os() {
            let Some(key) = name.to_str().and_then(key) else {
                continue;
            };
            let Ok(text) = text.into_string() else {
                return Err(Error::from(format!(
                    "variable `{}` is not UTF-8",
                    variable(&key)
                )));
            };
            all = merge(all, figment::util::nest(&key, value(&key, text)));
        }
        let dict = all.into_dict().unwrap_or_default();
        Ok(Map::from([(Profile::Default, dict)]))
    }
}

/// The variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// The key that the variable `name` sets, if it sets one.
fn key(name: &str) -> Option<String> {
    if OTHERS.contains(&name) {
        return None;
    }
    let key = name.strip_prefix(PREFIX)?.replace("__", ".").to_lowercase();
    (!key.split('.').any(str::is_empty)).then_some(key)
}

/// What a text sets a key to.
pub(super) fn value(key: &str, text: String) -> Value {
    match text.parse::<u64>() {
        Ok(number) if NUMBERS.contains(&key) => return Value::from(number),
        _ => {}
    }
    match text.parse::<bool>() {
        Ok(switch) if SWITCHES.contains(&key) => Value::from(switch),
        _ => Value::from(text),
    }
}

fn merge(into: Value, from: Value) -> Value {
    match (into, from) {
        (Value::Dict(tag, mut into), Value::Dict(_, from)) => {
            for (key, value) in from {
                let merged = match into.remove(&key) {
                    Some(old) => merge(old, value),
                    None => value,
                };
                into.insert(key, merged);
            }
            Value::Dict(tag, into)
        }
        (_, from) => from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_underscores_lead_into_a_table() {
        assert_eq!(key("EVENTBUS_PHASE").as_deref(), Some("phase"));
        assert_eq!(
            key("EVENTBUS_LIMITS__MAX_EVENT_SIZE").as_deref(),
            Some("limits.max_event_size")
        );
        for name in [
            "EVENTBUS_CONFIG",
            "EVENTBUS_LOG",
            "EVENTBUS_BUSRTD",
            "EVENTBUS_NO_FOREIGN",
            "EVENTBUS_BLESS",
            "EVENTBUS_ROLLOUT_FROM",
            "EVENTBUS_ROLLOUT_TO",
            "EVENTBUS_ROLLOUT_DIRECTION",
            "EVENTBUS_",
            "EVENTBUS___X",
            "PATH",
        ] {
            assert_eq!(key(name), None, "{name}");
        }
    }

    #[test]
    fn a_value_is_a_text_unless_its_key_is_a_number_or_a_switch() {
        assert_eq!(
            value("connect.wait", "true".to_owned()).to_bool(),
            Some(true)
        );
        assert_eq!(value("name", "true".to_owned()).as_str(), Some("true"));
        assert_eq!(value("name", "007".to_owned()).as_str(), Some("007"));
        assert_eq!(
            value("broker.max_connections", "7".to_owned()).to_u128(),
            Some(7)
        );
    }
}
