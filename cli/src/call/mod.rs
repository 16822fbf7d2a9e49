//! `eventbus call`: one call of a service on a bus that runs.
//!
//! The exit code tells three things apart that a script has to: a reply, a service that was asked and
//! said no, and anything else, where nobody knows or nobody was asked.

pub(crate) mod args;

use std::io::Read as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use eventbus::codec::ContentType;
use eventbus::rpc::{Call, CallError, Reply};
use eventbus::{Config, Payload};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::complain;
use crate::failure::Failure;
use crate::payload::{self, Form, Shown};
use crate::plain;
use crate::remote::{leave, open};
use crate::shadow::output::print;
use crate::signals::Signals;
use args::CallArgs;

/// The service said no.
const REFUSED: u8 = 1;
/// Nobody knows.
const FAILED: u8 = 2;

/// What came of a call.
#[derive(Debug, Serialize)]
struct Document<'a> {
    service: &'a str,
    method: &'a str,
    /// Whether there is a reply.
    ok: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(flatten)]
    reply: Shown,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal>,
}

/// Why there is no reply.
#[derive(Debug, Serialize)]
struct Refusal {
    kind: &'static str,
    message: String,
    /// The handler's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i16>,
    /// Whether the call may have been carried out, as a whole or in part.
    may_have_run: bool,
}

/// Calls and prints the reply; returns the exit code.
pub(crate) async fn run(args: &CallArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let config = args.remote.configuration()?;
    let call = call(args, &config)?;
    let bus = tokio::select! {
        bus = open(&config) => bus?,
        _ = signals.next() => return Err(Failure::Interrupted),
    };
    let began = Instant::now();
    let called = tokio::select! {
        called = bus.call(call) => called,
        _ = signals.next() => {
            // Dropping the call has cancelled it at the service, once the message is out.
            leave(&*bus).await;
            return Err(Failure::Flags(
                "interrupted; the call may have been carried out".to_owned(),
            ));
        }
    };
    let took = began.elapsed();
    let code = tell(args, took, called)?;
    leave(&*bus).await;
    Ok(code)
}

fn call(args: &CallArgs, config: &Config) -> Result<Call, Failure> {
    let bytes = match args.request.as_deref() {
        None => Bytes::new(),
        Some("-") => read()?,
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
    };
    let content_type = match &args.content_type {
        Some(content_type) => content_type.clone(),
        None => {
            check(&bytes)?;
            ContentType::Json
        }
    };
    let payload = Payload::new(bytes, content_type);
    let configured = config.operations.of(&args.method);
    let call = Call::new(&args.service, &args.method, payload);
    let call = call.deadline(args.deadline.unwrap_or(configured));
    Ok(if args.idempotent {
        call.idempotent()
    } else {
        call
    })
}

fn read() -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|reason| Failure::io("read the request from standard input", reason))?;
    Ok(bytes.into())
}

fn check(request: &[u8]) -> Result<(), Failure> {
    if request.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<&RawValue>(request) {
        Ok(_) => Ok(()),
        Err(reason) => Err(Failure::Flags(format!(
            "the request is no JSON: {reason}; quote it for the shell, or give --content-type to send \
             it as it is"
        ))),
    }
}

fn tell(args: &CallArgs, took: Duration, called: Result<Reply, CallError>) -> Result<u8, Failure> {
    let mut document = Document {
        service: &args.service,
        method: &args.method,
        ok: called.is_ok(),
        seconds: took.as_secs_f64(),
        content_type: None,
        reply: Shown::default(),
        error: None,
    };
    let code = match &called {
        Ok(reply) => {
            let bytes = reply.payload.bytes();
            let bytes = bytes.map_err(|reason| Failure::Flags(reason.to_string()))?;
            let content_type = reply.payload.content_type();
            if !args.json {
                let line = payload::line(&bytes, content_type, args.payload.form);
                if !(line.is_empty() || args.payload.form == Form::None) {
                    print(&(line + "\n"))?;
                }
                return Ok(0);
            }
            document.content_type = Some(content_type.to_string());
            document.reply = payload::document(&bytes, content_type, args.payload.form);
            0
        }
        Err(error) => {
            complain(&error.to_string());
            document.error = Some(refusal(error));
            if said_no(error) { REFUSED } else { FAILED }
        }
    };
    if args.json {
        let text = serde_json::to_string(&document);
        let text = text.map_err(|reason| Failure::io("print the reply", reason))?;
        print(&(plain::json(&text) + "\n"))?;
    }
    Ok(code)
}

/// Whether the service was asked, and it was the service that said no.
fn said_no(error: &CallError) -> bool {
    matches!(
        error,
        CallError::NoMethod { .. }
            | CallError::Busy { .. }
            | CallError::Failed { .. }
            | CallError::Panicked { .. }
            | CallError::ReplyTooLarge { .. }
    )
}

fn refusal(error: &CallError) -> Refusal {
    let code = match error {
        CallError::Failed { code, .. } => Some(*code),
        _ => None,
    };
    Refusal {
        kind: kind(error),
        message: error.to_string(),
        code,
        may_have_run: error.may_have_run(),
    }
}

/// A word for scripts.
fn kind(error: &CallError) -> &'static str {
    match error {
        CallError::NoService { .. } => "no_service",
        CallError::NoMethod { .. } => "no_method",
        CallError::BadMethod { .. } => "bad_method",
        CallError::Deadline { .. } => "deadline",
        CallError::Busy { .. } => "busy",
        CallError::Failed { .. } => "failed",
        CallError::Panicked { .. } => "panicked",
        CallError::CalleeGone { .. } => "callee_gone",
        CallError::TooLarge { .. } => "too_large",
        CallError::ReplyTooLarge { .. } => "reply_too_large",
        CallError::Denied { .. } => "denied",
        CallError::Disconnected { .. } => "disconnected",
        _ => "other",
    }
}
