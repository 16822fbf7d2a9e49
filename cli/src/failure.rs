//! Why the program could not find out what it was asked.

use std::fmt::Display;
use std::time::Duration;

use eventbus::broker::why_no_port;
use eventbus::config::MetricsAddress;

/// A reason to end with exit code 2, as one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Config(#[from] eventbus::ConfigError),
    #[error(transparent)]
    Open(#[from] eventbus::OpenError),
    #[error(transparent)]
    Start(#[from] eventbus::StartError),
    #[error(transparent)]
    Phase(#[from] eventbus::PhaseError),
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] eventbus::SubscribeError),
    #[error("cannot connect: {0}")]
    Connect(#[from] eventbus::ConnectError),
    #[error("the source stopped after a refusal: {0}")]
    Publish(#[from] eventbus::BatchRefused),
    #[error("cannot calibrate: {0}")]
    Calibrate(#[from] eventbus::shadow::CalibrationError),
    #[error("{0}")]
    Flags(String),
    #[error("cannot {action}: {reason}")]
    Cannot { action: String, reason: String },
    #[error("interrupted")]
    Interrupted,
    #[error("{failure}; {left_out}")]
    LeftOut {
        failure: Box<Failure>,
        left_out: String,
    },
    #[error("the buses have taken nothing for {waited:?}, after {published} events")]
    Standstill { published: u64, waited: Duration },
    #[error("line {line} of `{file}` is no recorded event: {reason}")]
    Recording {
        file: String,
        line: usize,
        reason: String,
    },
}

impl Failure {
    /// Nothing can be served there.
    pub(crate) fn listen(address: &MetricsAddress, reason: &std::io::Error) -> Self {
        let why = match address {
            MetricsAddress::Tcp(at) => why_no_port(*at, reason),
            MetricsAddress::Unix(_) => reason.to_string(),
        };
        Self::io(format!("listen at `{address}`"), why)
    }

    /// The same, and what was not done for it.
    pub(crate) fn and_left_out(self, left_out: String) -> Self {
        Self::LeftOut {
            failure: Box::new(self),
            left_out,
        }
    }

    /// What was tried, and what the system said.
    pub(crate) fn io(action: impl Into<String>, reason: impl Display) -> Self {
        Self::Cannot {
            action: action.into(),
            reason: reason.to_string(),
        }
    }
}
