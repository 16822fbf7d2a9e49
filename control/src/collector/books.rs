//! What a member does and goes by, and what an operation makes of it. No task, no bus, no clock.
//!
//! Invariant: nothing here changes before the collector has said that it is done.

use serde_json::Value;

use super::problem::Problem;
use super::wire::{CollectionReply, ConfigReply, UpdateConfig};
use crate::member::Activity;
use eventbus_trait::rpc::Failure;

/// A change that the collector is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Start(Value),
    Stop,
    Configure(UpdateConfig),
}

/// What the collector has answered, if it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    Panicked,
    TooLong,
}

/// What to do with a change.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is so already.
    Done(Value),
    /// It cannot be.
    Refused(Failure),
    /// The collector is to be asked.
    Ask,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    /// What it collects by, if it does.
    collecting: Option<Value>,
    /// Version and content of the configuration in force.
    config: Option<(u64, Value)>,
    /// What is not known to have been carried out.
    collection_doubt: Option<String>,
    config_doubt: Option<String>,
}

impl Change {
    pub(super) fn operation(&self) -> &'static str {
        use super::wire::{START_COLLECTION, STOP_COLLECTION, UPDATE_CONFIG};
        match self {
            Self::Start(_) => START_COLLECTION,
            Self::Stop => STOP_COLLECTION,
            Self::Configure(_) => UPDATE_CONFIG,
        }
    }
}

impl Books {
    pub(super) fn new(config: Option<(u64, Value)>) -> Self {
        Self {
            config,
            ..Self::default()
        }
    }

    pub(super) fn activity(&self) -> Activity {
        match self.collecting {
            Some(_) => Activity::Collecting,
            None => Activity::Idle,
        }
    }

    pub(super) fn config_version(&self) -> Option<u64> {
        self.config.as_ref().map(|(version, _)| *version)
    }

    /// What nobody knows, in words.
    pub(super) fn doubts(&self) -> Option<String> {
        let doubts: Vec<_> = [&self.collection_doubt, &self.config_doubt]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!doubts.is_empty()).then(|| doubts.join("; "))
    }

    /// Whether the collector has to be asked at all.
    pub(super) fn consider(&self, change: &Change) -> Verdict {
        match change {
            Change::Start(options) => match &self.collecting {
                _ if self.collection_doubt.is_some() => Verdict::Ask,
                Some(present) if present == options => self.collection(false),
                Some(_) => {
                    let text = "it collects already, with other options; stop it first";
                    Verdict::Refused(Problem::Conflict.failure(text))
                }
                None => Verdict::Ask,
            },
            Change::Stop if self.collecting.is_none() && self.collection_doubt.is_none() => {
                self.collection(false)
            }
            Change::Stop => Verdict::Ask,
            Change::Configure(update) => self.consider_config(update),
        }
    }

    fn consider_config(&self, update: &UpdateConfig) -> Verdict {
        let asked = update.version;
        let Some((version, config)) = &self.config else {
            return Verdict::Ask;
        };
        let same = *version == asked && *config == update.config;
        if asked > *version || (same && self.config_doubt.is_some()) {
            return Verdict::Ask;
        }
        if same {
            return done(&ConfigReply {
                version: asked,
                applied: !update.validate_only,
            });
        }
        let text = if *version == asked {
            format!("configuration {asked} is in force with other content; give it a new version")
        } else {
            format!("configuration {asked} is older than {version}, which is in force")
        };
        Verdict::Refused(Problem::Stale.failure(text))
    }

    /// The collector has done it: what its caller gets.
    pub(super) fn conclude(&mut self, change: Change) -> Value {
        let before = self.activity();
        match change {
            Change::Start(options) => {
                self.collecting = Some(options);
                self.collection_doubt = None;
            }
            Change::Stop => {
                self.collecting = None;
                self.collection_doubt = None;
            }
            Change::Configure(update) => {
                let reply = ConfigReply {
                    version: update.version,
                    applied: !update.validate_only,
                };
                if reply.applied {
                    self.config = Some((update.version, update.config));
                    self.config_doubt = None;
                }
                return value(&reply);
            }
        }
        value(&CollectionReply {
            activity: self.activity(),
            changed: self.activity() != before,
        })
    }

    /// Nobody knows whether the collector has done it.
    pub(super) fn doubt(&mut self, change: &Change, why: Doubt) {
        let operation = change.operation();
        let what = match why {
            Doubt::Panicked => "panicked",
            Doubt::TooLong => "was cut off",
        };
        match change {
            Change::Start(_) | Change::Stop => {
                let text = format!("{operation} {what}: it may or may not collect");
                self.collection_doubt = Some(text);
            }
            // Validating changes nothing.
            Change::Configure(update) if update.validate_only => {}
            Change::Configure(update) => {
                let version = update.version;
                let text = format!("{operation} {what}: configuration {version} may be in force");
                self.config_doubt = Some(text);
            }
        }
    }

    fn collection(&self, changed: bool) -> Verdict {
        let activity = self.activity();
        done(&CollectionReply { activity, changed })
    }
}

fn done(reply: &impl serde::Serialize) -> Verdict {
    Verdict::Done(value(reply))
}

/// Replies are plain structures, which have a JSON form.
pub(super) fn value(reply: &impl serde::Serialize) -> Value {
    serde_json::to_value(reply).unwrap_or_default()
}
