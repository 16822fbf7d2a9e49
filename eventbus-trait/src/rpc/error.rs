//! Why there is no reply, or no service: the same values in every phase (MIG-005).

use std::time::Duration;

use crate::codec::CodecError;

/// The code of a [`Failure`] that is made of a [`CodecError`]: JSON-RPC's and busrt's code for invalid
/// parameters.
pub const INVALID_REQUEST: i16 = -32602;

/// Why [`EventBus::call`](crate::EventBus::call) has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Nobody on the bus serves this name.
    #[error("no service `{service}` on this bus")]
    NoService {
        /// The name.
        service: String,
    },
    /// The service has no such method.
    #[error("service `{service}` has no method `{method}`")]
    NoMethod {
        /// The service.
        service: String,
        /// The method.
        method: String,
    },
    /// No method can be called so.
    #[error("method `{method}` is not 1 to 64 printable ASCII characters")]
    BadMethod {
        /// The method.
        method: String,
    },
    /// The deadline came first.
    #[error("no answer from `{service}` within {deadline:?}; the call may have been carried out")]
    Deadline {
        /// The service.
        service: String,
        /// The call's deadline.
        deadline: Duration,
    },
    /// As many calls run and wait at the service as may; this one was not begun.
    #[error("service `{service}` has {limit} calls, which is its limit; try again later")]
    Busy {
        /// The service.
        service: String,
        /// Calls that may run and wait.
        limit: usize,
    },
    /// The handler said that it failed.
    #[error("service `{service}` failed: {message} (code {code})")]
    Failed {
        /// The service.
        service: String,
        /// The handler's code.
        code: i16,
        /// What it said.
        message: String,
    },
    /// The handler panicked. The service lives on.
    #[error("the handler of `{service}` panicked")]
    Panicked {
        /// The service.
        service: String,
    },
    /// Whoever served the name went away, or stopped serving, before it answered.
    #[error("`{service}` went away before it answered; the call may have been carried out")]
    CalleeGone {
        /// The service.
        service: String,
    },
    /// The request is larger than the bus allows.
    #[error("request of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// Size of request and correlation, in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The call was carried out, and the reply is larger than the bus allows.
    #[error("reply of {size} bytes is over the limit of {limit}; the call was carried out")]
    ReplyTooLarge {
        /// Size of the reply, in bytes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The request is a typed value that could not be encoded.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The handle has as many calls under way as it may have.
    #[error("{limit} calls of this handle are under way, which is its limit")]
    TooManyCalls {
        /// The limit.
        limit: usize,
    },
    /// The broker does not allow this client to call the service (SEC-004).
    #[error("not allowed to call `{service}`")]
    Denied {
        /// The service.
        service: String,
    },
    /// The connection to the broker was lost while the call was under way.
    #[error("no connection to the broker: {reason}; the call may have been carried out")]
    Disconnected {
        /// What is known of the loss.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
    /// The backend has no RPC.
    #[error("backend `{backend}` does not make calls")]
    NotSupported {
        /// The backend.
        backend: String,
    },
}

impl CallError {
    /// Whether the call may have been carried out, as a whole or in part (RPC-004). If not, another
    /// attempt does nothing twice.
    #[must_use]
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::Deadline { .. }
            | Self::Failed { .. }
            | Self::Panicked { .. }
            | Self::CalleeGone { .. }
            | Self::ReplyTooLarge { .. }
            | Self::Disconnected { .. }
            | Self::Closed => true,
            Self::NoService { .. }
            | Self::NoMethod { .. }
            | Self::BadMethod { .. }
            | Self::Busy { .. }
            | Self::TooLarge { .. }
            | Self::Codec(_)
            | Self::TooManyCalls { .. }
            | Self::Denied { .. }
            | Self::NotSupported { .. } => false,
        }
    }
}

/// What a handler says instead of a reply.
///
/// ```
/// use eventbus_trait::rpc::Failure;
/// let full = Failure::new(7, "disk full");
/// assert_eq!(full.to_string(), "disk full (code 7)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It has no such method.
    #[error("no such method")]
    NoMethod,
    /// It failed.
    #[error("{message} (code {code})")]
    Failed {
        /// A number that callers decide by. From -32768 to -32000 are busrt's.
        code: i16,
        /// What happened.
        message: String,
    },
}

impl Failure {
    /// It failed.
    pub fn new(code: i16, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Failed { code, message }
    }

    /// What the caller of `method` gets.
    #[must_use]
    pub fn of(self, service: &str, method: &str) -> CallError {
        let service = service.to_owned();
        match self {
            Self::NoMethod => CallError::NoMethod {
                service,
                method: method.to_owned(),
            },
            Self::Failed { code, message } => CallError::Failed {
                service,
                code,
                message,
            },
        }
    }
}

/// The request is not what the handler takes, or its reply has no encoding.
impl From<CodecError> for Failure {
    fn from(error: CodecError) -> Self {
        Self::new(INVALID_REQUEST, error.to_string())
    }
}

/// Why a service is not served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Somebody on the bus has this name.
    #[error("name `{service}` is in use on this bus")]
    InUse {
        /// The name.
        service: String,
    },
    /// No service may have this name.
    #[error(
        "service name `{service}` is not 1 to {limit} of A-Z a-z 0-9 _ -, or begins with `eb-` or has \
         `--in-` in it, which are reserved"
    )]
    BadName {
        /// The name.
        service: String,
        /// Longest name on this bus, in bytes.
        limit: usize,
    },
    /// The client may not have this name on the broker: its certificate does not entitle to it.
    #[error("not allowed to serve `{service}`: {reason}")]
    Denied {
        /// The name.
        service: String,
        /// What stands against it.
        reason: String,
    },
    /// A limit of the service is none.
    #[error("{what} of service `{service}` is {value}, not within 1 to {limit}")]
    Capacity {
        /// The service.
        service: String,
        /// Which limit.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// The largest allowed.
        limit: usize,
    },
    /// There is no runtime to run handlers on.
    #[error("`serve` was called outside of a tokio runtime, which handlers run on")]
    NoRuntime,
    /// There is no connection to the broker, or it takes no more of them.
    #[error("no connection to the broker for `{service}`: {reason}")]
    Disconnected {
        /// The service.
        service: String,
        /// What is known.
        reason: String,
    },
    /// The bus was shut down.
    #[error("bus is closed")]
    Closed,
    /// The backend has no RPC.
    #[error("backend `{backend}` does not serve calls")]
    NotSupported {
        /// The backend.
        backend: String,
    },
}
