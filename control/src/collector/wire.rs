//! Requests and replies of the six operations, as JSON.
//!
//! A request with a field that its operation does not know is refused, so that nobody believes that a
//! misspelt wish was granted; an empty request is `{}`. A reply may get further fields with time, and
//! who reads one passes over what it does not know.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::{Problem, invalid};
use crate::member::{Activity, Identity};
use eventbus_trait::rpc::{Call, Failure};

/// How a member is.
pub const HEALTH_CHECK: &str = "health_check";
/// Begin to collect.
pub const START_COLLECTION: &str = "start_collection";
/// Collect no more.
pub const STOP_COLLECTION: &str = "stop_collection";
/// Go by another configuration.
pub const UPDATE_CONFIG: &str = "update_config";
/// What a member can do.
pub const GET_CAPABILITIES: &str = "get_capabilities";
/// Finish, and go.
pub const SHUTDOWN: &str = "shutdown";
/// All operations that every member serves.
pub const OPERATIONS: [&str; 6] = [
    HEALTH_CHECK,
    START_COLLECTION,
    STOP_COLLECTION,
    UPDATE_CONFIG,
    GET_CAPABILITIES,
    SHUTDOWN,
];

/// The request of [`HEALTH_CHECK`], [`STOP_COLLECTION`] and [`GET_CAPABILITIES`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

/// The request of [`START_COLLECTION`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StartCollection {
    /// What to collect, and how: for the collector to read.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub options: Value,
}

/// The request of [`UPDATE_CONFIG`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateConfig {
    /// The version of `config`; a later one is larger.
    pub version: u64,
    /// All of the configuration: what is not in it is at its default.
    pub config: Value,
    /// Whether only to say if it would be taken.
    #[serde(default)]
    pub validate_only: bool,
}

/// The request of [`SHUTDOWN`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// How long the member may take to finish, in milliseconds. If nothing is said, as long as the
    /// caller waits, and no longer than the member's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The life of the member that is meant; whichever has the name, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// The reply to [`HEALTH_CHECK`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct HealthReport {
    /// Who answers.
    pub identity: Identity,
    /// Whether all is well.
    pub well: bool,
    /// Why it is not.
    #[serde(default)]
    pub ailment: Option<String>,
    /// What it is doing.
    pub activity: Activity,
    /// How long it has been served, in milliseconds.
    pub uptime_ms: u64,
    /// The version of the configuration that it goes by, if it was given one.
    #[serde(default)]
    pub config_version: Option<u64>,
    /// Pieces of work that it has taken in and not finished.
    pub working: usize,
}

/// The reply to [`START_COLLECTION`] and [`STOP_COLLECTION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CollectionReply {
    /// What the member does now.
    pub activity: Activity,
    /// Whether it did something else before.
    pub changed: bool,
}

/// The reply to [`UPDATE_CONFIG`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConfigReply {
    /// The version that was asked for.
    pub version: u64,
    /// Whether the member goes by it now; not if it was only to be validated.
    pub applied: bool,
}

/// The reply to [`GET_CAPABILITIES`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Who answers, with the kinds of task that it can do.
    pub identity: Identity,
    /// The operations that it serves.
    pub operations: Vec<String>,
    /// What else the collector says of itself.
    #[serde(default)]
    pub details: Value,
}

/// The reply to [`SHUTDOWN`], before the member leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShutdownReply {
    /// How it ended.
    pub ended: Ending,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// Pieces of work that were not finished.
    pub unfinished: usize,
    /// Why it did not end gracefully.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How a collector ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Everything that it had taken in is finished.
    Graceful,
    /// Something is not.
    Forced,
}

/// Reads the request of a call of up to `limit` bytes.
pub(super) fn request<T: DeserializeOwned>(call: &Call, limit: usize) -> Result<T, Failure> {
    let operation = &call.method;
    let bytes = call.payload.bytes()?;
    let size = bytes.len();
    if size > limit {
        let text = format!("request of `{operation}` is {size} bytes, over the limit of {limit}");
        return Err(Problem::Refused.failure(text));
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
    serde_json::from_slice(text)
        .map_err(|error| invalid(format!("request of `{operation}`: {error}")))
}
