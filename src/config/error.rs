//! What is wrong with a configuration, in one sentence.
//!
//! figment knows which layer a value came from and serde knows what it wanted; here the two become
//! the key as its author wrote it, the value, the place, and what is allowed.

use figment::error::{Actual, Kind};
use figment::value::Value;
use figment::{Figment, Source};

use super::environment::{self, variable};
use super::nearest::nearest;
use super::settings::FLAG;
use crate::phase::PhaseError;

/// Why a configuration cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file `{path}`: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file is not TOML, or a variable is not UTF-8.
    #[error("cannot read {place}: {reason}")]
    Syntax {
        /// The file or the environment.
        place: String,
        /// What and where.
        reason: String,
    },
    /// There is no such key.
    #[error("unknown key `{key}` in {place}; {}allowed are {allowed}", perhaps(nearest.as_deref()))]
    UnknownKey {
        /// The key, with its table.
        key: String,
        /// Where it was found.
        place: String,
        /// The keys that exist there.
        allowed: String,
        /// The key that was meant, if one is near; in the environment, its variable.
        nearest: Option<String>,
    },
    /// The value does not fit its key.
    #[error("bad value `{value}` for `{key}` in {place}; expected {expected}")]
    Value {
        /// The key, with its table.
        key: String,
        /// The value.
        value: String,
        /// Where it was found.
        place: String,
        /// What is allowed.
        expected: String,
    },
    /// The value names no phase that can be used there.
    #[error("bad value for `{key}` in {place}: {reason}")]
    Phase {
        /// `phase`, `primary` or `candidate`.
        key: String,
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        #[source]
        reason: PhaseError,
    },
    /// A shadow lacks one of its sides, or a rollout its journal.
    #[error("{because}, so `{key}` must be set too")]
    Missing {
        /// The key.
        key: &'static str,
        /// What needs it.
        because: &'static str,
    },
    /// TLS lacks some of its files.
    #[error("{because}, so {} must be set", all(keys))]
    MissingTls {
        /// Of `tls.ca`, `tls.cert` and `tls.key` those that are missing, in this order.
        keys: Vec<&'static str>,
        /// What needs it.
        because: String,
    },
}

impl ConfigError {
    /// Translates the first of figment's errors.
    pub(super) fn from_figment(figment: &Figment, error: figment::Error) -> Self {
        let path = error.path.join(".");
        let expected = match error.kind {
            Kind::UnknownField(field, allowed) => {
                let key = match error.path.last() {
                    Some(last) if *last == field => path,
                    Some(_) => format!("{path}.{field}"),
                    None => field,
                };
                let place = Self::place(figment, &key);
                let nearest = nearest(&key, allowed).map(|nearest| {
                    let in_environment = place.starts_with(environment::LAYER);
                    if in_environment {
                        variable(&nearest)
                    } else {
                        nearest
                    }
                });
                return Self::UnknownKey {
                    place,
                    key,
                    allowed: list(allowed),
                    nearest,
                };
            }
            Kind::UnknownVariant(_, allowed) => list(allowed),
            Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => plain(expected),
            Kind::InvalidLength(_, expected) => expected,
            Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "a smaller number".to_owned(),
            kind if path.is_empty() => {
                let place = error
                    .metadata
                    .as_ref()
                    .and_then(|meta| meta.source.as_ref())
                    .map_or_else(|| "the configuration".to_owned(), describe);
                return Self::Syntax {
                    place,
                    reason: one_line(&kind.to_string()),
                };
            }
            kind => one_line(&kind.to_string()),
        };
        Self::value(figment, &path, &expected)
    }

    /// A value that does not fit.
    pub(super) fn value(figment: &Figment, key: &str, expected: &str) -> Self {
        Self::Value {
            key: key.to_owned(),
            value: figment
                .find_value(key)
                .map_or_else(|_| "?".to_owned(), |value| show(&value)),
            place: Self::place(figment, key),
            expected: expected.to_owned(),
        }
    }

    /// Where the value of `key` comes from.
    pub(super) fn place(figment: &Figment, key: &str) -> String {
        match figment.find_metadata(key) {
            Some(meta) => match &meta.source {
                Some(source) => describe(source),
                None if meta.name == environment::LAYER => {
                    format!("{} (`{}`)", environment::LAYER, variable(key))
                }
                _ if meta.name.starts_with(FLAG) => meta.name.replacen(FLAG, "flag `", 1) + "`",
                None => "the program's settings".to_owned(),
            },
            None => "the configuration".to_owned(),
        }
    }
}

fn describe(source: &Source) -> String {
    match source {
        Source::File(path) => format!("file `{}`", path.display()),
        Source::Code(_) => "the program's settings".to_owned(),
        other => other.to_string(),
    }
}

fn perhaps(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |nearest| format!("did you mean `{nearest}`? "))
}

fn all(keys: &[&str]) -> String {
    let quoted = list(keys);
    match quoted.rsplit_once(", ") {
        Some((most, last)) => format!("{most} and {last}"),
        None => quoted,
    }
}

fn list(allowed: &[&str]) -> String {
    let quoted: Vec<_> = allowed.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// serde's names of types are Rust's; a configuration's author knows words.
fn plain(expected: String) -> String {
    match expected.as_str() {
        "usize" | "u64" | "u32" => "a whole number".to_owned(),
        "a string" | "path string" => "a text".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        _ if expected.starts_with("struct ") => "a table".to_owned(),
        _ => expected,
    }
}

fn show(value: &Value) -> String {
    match value.to_actual() {
        Actual::Str(text) => text,
        Actual::Char(c) => c.to_string(),
        Actual::Bool(b) => b.to_string(),
        Actual::Unsigned(n) => n.to_string(),
        Actual::Signed(n) => n.to_string(),
        Actual::Float(n) => n.to_string(),
        other => other.to_string(),
    }
}

/// A parser's drawing of the place, with its first line (where) and its last (what) kept.
fn one_line(message: &str) -> String {
    let mut lines = message.lines().map(str::trim).filter(|l| !l.is_empty());
    match (lines.next(), lines.next_back()) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        (Some(only), None) => only.to_owned(),
        (None, _) => "unknown reason".to_owned(),
    }
}
