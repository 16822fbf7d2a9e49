//! Calls: the frames of busrt's own RPC, and what sessions say to each other beside them.
//!
//! Request, reply and error are busrt's, so that clients in other languages call services of ours and
//! are called. What busrt's frames have no place for (deadline, correlation, content type) goes ahead
//! of a request as a notification, which others take no notice of. Who has sent one understands an
//! envelope, so only such callers get one around their reply.

use std::time::Duration;

use bytes::Bytes;
use eventbus_trait::rpc::CallError;
use eventbus_trait::{ContentType, Correlation};

use super::reader::{Reader, WireError, put_text};

/// First bytes of busrt's RPC frames.
const NOTIFICATION: u8 = 0x00;
const REQUEST: u8 = 0x01;
const REPLY: u8 = 0x11;
const ERROR: u8 = 0x12;

/// After the first byte of a notification of ours, and before what we put around replies and errors.
const OURS: [u8; 3] = [0xEB, 0x05, b'R'];
const VERSION: u8 = 1;
const CONTEXT: u8 = b'C';
const CANCEL: u8 = b'X';
const ASK: u8 = b'Q';
const ENVELOPE: u8 = b'P';
const REFUSAL: u8 = b'E';

const IDEMPOTENT: u8 = 1;
const CORRELATED: u8 = 2;

/// busrt's code for a method that there is not.
const NO_METHOD: i16 = -32601;

/// A frame of a call, as read.
#[derive(Debug, Clone, PartialEq)]
pub enum CallFrame {
    /// What belongs to the request that comes next from the same client.
    Context(Context),
    /// The caller does not wait any more.
    Cancel {
        /// The call.
        id: u32,
    },
    /// The caller asks whether these are under way: those that are not get an error.
    Ask {
        /// The calls.
        ids: Vec<u32>,
    },
    /// Somebody else's notification.
    Notification,
    /// A call.
    Request {
        /// Its number at the caller; nobody waits for an answer to 0.
        id: u32,
        /// The method.
        method: String,
        /// The request.
        payload: Bytes,
    },
    /// The answer to a call.
    Reply {
        /// The call.
        id: u32,
        /// What the payload is, if it was said.
        content_type: ContentType,
        /// The reply.
        payload: Bytes,
    },
    /// A call has failed.
    Error {
        /// The call.
        id: u32,
        /// busrt's code.
        code: i16,
        /// What is said of it: [`error_of`] reads it.
        payload: Bytes,
    },
}

/// What a caller says of a call beside the request.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// The call.
    pub id: u32,
    /// How long the caller still waits.
    pub left: Duration,
    /// Whether it may be carried out twice.
    pub idempotent: bool,
    /// What the request is.
    pub content_type: ContentType,
    /// What the call belongs to.
    pub correlation: Option<Correlation>,
}

/// What was asked, for whoever reads an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// The call's deadline.
    pub deadline: Duration,
}

impl CallFrame {
    /// Reads a message; `None` if it is none of a call.
    ///
    /// # Errors
    /// [`WireError`] says which field is wrong.
    pub fn read(bytes: &Bytes) -> Result<Option<Self>, WireError> {
        let mut r = Reader::new(bytes);
        let Ok(kind) = r.u8("kind") else {
            return Ok(None);
        };
        let frame = match kind {
            NOTIFICATION => read_notification(bytes)?,
            REQUEST => {
                let id = r.u32("call")?;
                let rest = r.bytes("method", r.left())?;
                let end = rest.iter().position(|byte| *byte == 0);
                let end = end.ok_or(WireError::Invalid { field: "method" })?;
                let method = str::from_utf8(&rest[..end]);
                let method = method.map_err(|_| WireError::Invalid { field: "method" })?;
                Self::Request {
                    id,
                    method: method.to_owned(),
                    payload: rest.slice(end + 1..),
                }
            }
            REPLY => {
                let id = r.u32("call")?;
                read_reply(id, r.bytes("reply", r.left())?)?
            }
            ERROR => Self::Error {
                id: r.u32("call")?,
                code: i16::from_le_bytes(r.array("code")?),
                payload: r.bytes("message", r.left())?,
            },
            _ => return Ok(None),
        };
        Ok(Some(frame))
    }
}

fn read_notification(bytes: &Bytes) -> Result<CallFrame, WireError> {
    let body = bytes.slice(1..);
    if !body.starts_with(&OURS) {
        return Ok(CallFrame::Notification);
    }
    let mut r = Reader::at(&body, OURS.len());
    let kind = r.u8("kind")?;
    check_version(&mut r)?;
    let frame = match kind {
        CONTEXT => CallFrame::Context(Context::read(&mut r)?),
        CANCEL => CallFrame::Cancel { id: r.u32("call")? },
        ASK => {
            let count = r.count("calls", 4)?;
            let ids: Result<_, _> = (0..count).map(|_| r.u32("call")).collect();
            CallFrame::Ask { ids: ids? }
        }
        _ => return Err(WireError::Invalid { field: "kind" }),
    };
    r.end()?;
    Ok(frame)
}

fn read_reply(id: u32, payload: Bytes) -> Result<CallFrame, WireError> {
    let (content_type, payload) = match enveloped(&payload, ENVELOPE) {
        None => (ContentType::Raw, payload),
        Some(mut r) => {
            check_version(&mut r)?;
            let content_type = ContentType::parse(r.text("content type")?);
            (content_type, r.bytes("reply", r.left())?)
        }
    };
    Ok(CallFrame::Reply {
        id,
        content_type,
        payload,
    })
}

/// What follows our mark, if `bytes` begin with it.
fn enveloped(bytes: &Bytes, kind: u8) -> Option<Reader<'_>> {
    let [a, b, c] = OURS;
    let mark = [a, b, c, kind];
    bytes
        .starts_with(&mark)
        .then(|| Reader::at(bytes, mark.len()))
}

fn check_version(r: &mut Reader<'_>) -> Result<(), WireError> {
    match r.u8("version")? {
        VERSION => Ok(()),
        version => Err(WireError::Version {
            version,
            known: VERSION,
        }),
    }
}

impl Context {
    fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let id = r.u32("call")?;
        let left = Duration::from_micros(r.u64("time left")?);
        let flags = r.u8("flags")?;
        let content_type = ContentType::parse(r.text("content type")?);
        let correlation = if flags & CORRELATED == 0 {
            None
        } else {
            let json = r.bytes("correlation", r.left())?;
            let invalid = |_| WireError::Invalid {
                field: "correlation",
            };
            Some(serde_json::from_slice(&json).map_err(invalid)?)
        };
        Ok(Self {
            id,
            left,
            idempotent: flags & IDEMPOTENT != 0,
            content_type,
            correlation,
        })
    }

    /// The notification that goes ahead of the request.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut out = notification(CONTEXT);
        out.extend_from_slice(&self.id.to_le_bytes());
        let left = u64::try_from(self.left.as_micros()).unwrap_or(u64::MAX);
        out.extend_from_slice(&left.to_le_bytes());
        let correlation = self
            .correlation
            .as_ref()
            .and_then(|correlation| serde_json::to_vec(correlation).ok());
        let mut flags = 0;
        if self.idempotent {
            flags |= IDEMPOTENT;
        }
        if correlation.is_some() {
            flags |= CORRELATED;
        }
        out.push(flags);
        put_text(&mut out, self.content_type.as_str());
        out.extend(correlation.unwrap_or_default());
        out
    }
}

fn notification(kind: u8) -> Vec<u8> {
    let mut out = vec![NOTIFICATION];
    out.extend_from_slice(&OURS);
    out.extend_from_slice(&[kind, VERSION]);
    out
}

/// Says that nobody waits for a call any more.
#[must_use]
pub fn cancel(id: u32) -> Vec<u8> {
    let mut out = notification(CANCEL);
    out.extend_from_slice(&id.to_le_bytes());
    out
}

/// Asks whether calls are under way: at most 65,535.
#[must_use]
pub fn ask(ids: &[u32]) -> Vec<u8> {
    let ids = &ids[..ids.len().min(usize::from(u16::MAX))];
    let mut out = notification(ASK);
    #[allow(clippy::cast_possible_truncation, reason = "bounded by u16::MAX above")]
    out.extend_from_slice(&(ids.len() as u16).to_le_bytes());
    for id in ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
    out
}

/// A request. The method has no NUL.
#[must_use]
pub fn request(id: u32, method: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(6 + method.len() + payload.len());
    out.push(REQUEST);
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(method.as_bytes());
    out.push(0);
    out.extend_from_slice(payload);
    out
}

/// A reply, in an envelope for a caller that understands it.
#[must_use]
pub fn reply(id: u32, content_type: &ContentType, payload: &[u8], enveloped: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(48 + payload.len());
    out.push(REPLY);
    out.extend_from_slice(&id.to_le_bytes());
    if enveloped {
        out.extend_from_slice(&OURS);
        out.extend_from_slice(&[ENVELOPE, VERSION]);
        put_text(&mut out, content_type.as_str());
    }
    out.extend_from_slice(payload);
    out
}

/// Which error it is, and what there is to say of it in numbers.
fn coded(error: &CallError) -> (u8, i16, [u64; 2]) {
    match error {
        CallError::Failed { code, .. } => (0, *code, [0; 2]),
        CallError::NoService { .. } => (1, -32001, [0; 2]),
        CallError::NoMethod { .. } | CallError::BadMethod { .. } => (2, NO_METHOD, [0; 2]),
        CallError::Busy { limit, .. } => (3, -32050, [*limit as u64, 0]),
        CallError::Panicked { .. } => (4, -32603, [0; 2]),
        CallError::ReplyTooLarge { size, limit } => (5, -32051, [*size as u64, *limit as u64]),
        CallError::Deadline { .. } => (7, -32053, [0; 2]),
        // Nothing else is a callee's to say.
        _ => (6, -32052, [0; 2]),
    }
}

/// An error: in an envelope the error itself, otherwise its code and what it says.
#[must_use]
pub fn error(id: u32, error: &CallError, enveloped: bool) -> Vec<u8> {
    let (kind, code, numbers) = coded(error);
    let mut out = vec![ERROR];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&code.to_le_bytes());
    let message = match error {
        CallError::Failed { message, .. } => message.clone(),
        other => other.to_string(),
    };
    if enveloped {
        out.extend_from_slice(&OURS);
        out.extend_from_slice(&[REFUSAL, VERSION, kind]);
        for number in numbers {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
    out.extend_from_slice(message.as_bytes());
    out
}

/// What an error says to whoever asked.
#[must_use]
pub fn error_of(code: i16, payload: &Bytes, asked: Asked) -> CallError {
    let Asked {
        service,
        method,
        deadline,
    } = asked;
    let failed = |service, message: &[u8]| CallError::Failed {
        service,
        code,
        message: String::from_utf8_lossy(message).into_owned(),
    };
    match read_refusal(payload) {
        None if code == NO_METHOD => CallError::NoMethod { service, method },
        None => failed(service, payload),
        Some((kind, [first, second], message)) => match kind {
            0 => failed(service, &message),
            1 => CallError::NoService { service },
            2 => CallError::NoMethod { service, method },
            3 => CallError::Busy {
                service,
                limit: number(first),
            },
            4 => CallError::Panicked { service },
            5 => CallError::ReplyTooLarge {
                size: number(first),
                limit: number(second),
            },
            7 => CallError::Deadline { service, deadline },
            _ => CallError::CalleeGone { service },
        },
    }
}

fn number(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn read_refusal(payload: &Bytes) -> Option<(u8, [u64; 2], Bytes)> {
    let mut r = enveloped(payload, REFUSAL)?;
    check_version(&mut r).ok()?;
    let kind = r.u8("error").ok()?;
    let numbers = [r.u64("number").ok()?, r.u64("number").ok()?];
    let message = r.bytes("message", r.left()).ok()?;
    Some((kind, numbers, message))
}

#[cfg(test)]
mod tests;
