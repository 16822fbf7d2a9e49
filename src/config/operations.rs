//! `[operations]`: how long calls wait, by the operation that they ask for.
//!
//! The six operations of a collector are keys, so that a mistyped one is found; an application's own
//! methods, which nobody here can know, have a table of their own below.

use std::collections::BTreeMap;
use std::time::Duration;

use eventbus_trait::rpc::{Deadlines, MAX_METHOD_BYTES};
use figment::Figment;
use serde::Deserialize;
use serde::de::Deserializer;

use super::error::ConfigError;
use super::raw::{LONGEST, duration};

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawOperations {
    default: Option<Lapse>,
    health_check: Option<Lapse>,
    start_collection: Option<Lapse>,
    stop_collection: Option<Lapse>,
    update_config: Option<Lapse>,
    get_capabilities: Option<Lapse>,
    shutdown: Option<Lapse>,
    methods: BTreeMap<String, Lapse>,
}

#[derive(Debug, Clone, Copy)]
struct Lapse(Duration);

impl<'de> Deserialize<'de> for Lapse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        duration(deserializer).map(Self)
    }
}

impl RawOperations {
    pub(super) fn check(&self, figment: &Figment) -> Result<Deadlines, ConfigError> {
        let own = [
            ("health_check", self.health_check),
            ("start_collection", self.start_collection),
            ("stop_collection", self.stop_collection),
            ("update_config", self.update_config),
            ("get_capabilities", self.get_capabilities),
            ("shutdown", self.shutdown),
        ];
        let checked = |key: &str, lapse: Lapse| match lapse.0 {
            Duration::ZERO => Err(ConfigError::value(figment, key, "more than zero")),
            long if long > LONGEST => Err(ConfigError::value(figment, key, "at most `24h`")),
            fits => Ok(fits),
        };
        let mut deadlines = Deadlines::of_collectors();
        if let Some(lapse) = self.default {
            deadlines = deadlines.for_others(checked("operations.default", lapse)?);
        }
        for (operation, lapse) in own {
            if let Some(lapse) = lapse {
                let lapse = checked(&format!("operations.{operation}"), lapse)?;
                deadlines = deadlines.with(operation, lapse);
            }
        }
        for (method, lapse) in &self.methods {
            let key = format!("operations.methods.{method}");
            if own.iter().any(|(operation, _)| operation == method) {
                let expected = format!("`operations.{method}`, which is its own key");
                return Err(ConfigError::value(figment, &key, &expected));
            }
            let printable = method.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
            if !(1..=MAX_METHOD_BYTES).contains(&method.len()) || !printable {
                let expected = "a method's name, 1 to 64 printable ASCII characters";
                return Err(ConfigError::value(figment, &key, expected));
            }
            deadlines = deadlines.with(method, checked(&key, *lapse)?);
        }
        Ok(deadlines)
    }
}
