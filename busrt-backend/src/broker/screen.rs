//! What a client's bytes may be: the parser of the front door.
//!
//! It looks at the bytes where they lie, takes no more of them than a frame's head, and says how
//! many of those that follow may pass. Lists of topics, and control messages of a client with an
//! access rule, are looked at as a whole; the rest of a frame passes as it comes.
//!
//! Invariant: nothing passes of which the head was not found valid, and no number that the client
//! announces makes anything larger than `max_frame`.

use busrt::{
    ERR_ACCESS, ERR_CLIENT_NOT_REGISTERED, ERR_NOT_SUPPORTED, OP_ACK, OP_BROADCAST, OP_EXCLUDE,
    OP_MESSAGE, OP_PUBLISH, OP_PUBLISH_FOR, OP_SUBSCRIBE, OP_UNEXCLUDE, OP_UNSUBSCRIBE,
};

use super::DIRECTORY;
use super::names::{self, Name};
use super::rights::Rights;
use super::stats::Reason;
use super::subscribed::Subscribed;
use crate::wire;

/// Bytes of a frame's head: id, flags, length.
pub(super) const HEAD: usize = 9;
/// Least bytes that an event takes in a frame.
const MIN_EVENT: usize = 13;

/// Most messages of one connection to the directory. A session has two for it, that it comes and
/// that it goes; each is told to all others, so a flood of them would drown everybody.
const MAX_TO_DIRECTORY: u32 = 4;
/// What is wrong with a topic or pattern that has another prefix.
const NOT_OURS: &str = "topic outside of `eb/` and `eb-NAMESPACE/`";

/// What a connection ends for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// There is no such operation.
    #[error("no operation has the code {flags:#04x}")]
    Operation {
        /// Operation and QoS as sent.
        flags: u8,
    },
    /// The announced length is over the limit.
    #[error("frame of {len} bytes is over the limit of {limit}")]
    Length {
        /// What was announced.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A topic, pattern or target is none.
    #[error("{what} is not valid")]
    Name {
        /// Which of them.
        what: &'static str,
    },
}

impl Breach {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Operation { .. } => Reason::Operation,
            Self::Length { .. } => Reason::Length,
            Self::Name { .. } => Reason::Topic,
        }
    }
}

/// What to do with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A frame begins that may pass; it carries so many events, or counts as one.
    Frame {
        /// How many.
        events: u32,
    },
    /// A frame begins that may not pass, and this is the answer if its sender wants one.
    Denied {
        /// A whole frame for the client.
        answer: Option<[u8; 6]>,
        /// What was denied.
        what: &'static str,
    },
    /// So many bytes may pass.
    Pass(usize),
    /// So many bytes are to be left out.
    Drop(usize),
    /// Nothing can be said before there are so many bytes.
    Need(usize),
}

/// What is to be done with what is left of the frame under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Pass(usize),
    Drop(usize),
}

/// How a frame with a valid head is taken.
enum Verdict {
    Good { events: u32 },
    Denied { code: u8, what: &'static str },
    Need(usize),
}

/// One client's frames.
#[derive(Debug)]
pub(super) struct Screen {
    rights: Rights,
    max_frame: usize,
    counts_events: bool,
    rest: Rest,
    subscribed: Subscribed,
    to_directory: u32,
}

/// A frame's head, as a client sends it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Head {
    id: [u8; 4],
    flags: u8,
    pub(super) len: usize,
}

impl Screen {
    pub(super) fn new(rights: Rights, max_frame: usize, counts_events: bool) -> Self {
        Self {
            rights,
            max_frame,
            counts_events,
            rest: Rest::Pass(0),
            subscribed: Subscribed::default(),
            to_directory: 0,
        }
    }

    /// Whether a frame is under way.
    pub(super) fn is_inside(&self) -> bool {
        !matches!(self.rest, Rest::Pass(0) | Rest::Drop(0))
    }

    /// Says what to do with the first of `bytes`, which are those that no step has passed or left
    /// out yet.
    ///
    /// # Errors
    /// [`Breach`]: the connection is to be ended.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, Breach> {
        if let Some(step) = self.go_on(bytes.len()) {
            return Ok(step);
        }
        let Some((head, body)) = bytes.split_first_chunk::<HEAD>() else {
            return Ok(Step::Need(HEAD));
        };
        let head = Head::new(head);
        if head.is_ping() {
            return self.ping(&head);
        }
        if head.len > self.max_frame {
            return Err(Breach::Length {
                len: head.len,
                limit: self.max_frame,
            });
        }
        let whole = HEAD + head.len;
        Ok(match self.judge(&head, body)? {
            Verdict::Good { events } => {
                self.rest = Rest::Pass(whole);
                Step::Frame { events }
            }
            Verdict::Denied { code, what } => {
                self.rest = Rest::Drop(whole);
                Step::Denied {
                    answer: head.answer(code),
                    what,
                }
            }
            Verdict::Need(of_body) => Step::Need(HEAD + of_body),
        })
    }

    /// What is left of the frame under way.
    fn go_on(&mut self, have: usize) -> Option<Step> {
        let (left, step): (_, fn(usize) -> Step) = match &mut self.rest {
            Rest::Pass(left) => (left, Step::Pass),
            Rest::Drop(left) => (left, Step::Drop),
        };
        if *left == 0 {
            return None;
        }
        let now = have.min(*left);
        *left -= now;
        Some(if now == 0 { Step::Need(1) } else { step(now) })
    }

    /// A ping has no body, whatever length it announces: busrt does not look.
    fn ping(&mut self, head: &Head) -> Result<Step, Breach> {
        if head.len > 0 {
            return Err(Breach::Length {
                len: head.len,
                limit: 0,
            });
        }
        self.rest = Rest::Pass(HEAD);
        Ok(Step::Frame { events: 0 })
    }

    fn judge(&mut self, head: &Head, body: &[u8]) -> Result<Verdict, Breach> {
        let body = &body[..body.len().min(head.len)];
        match head.operation() {
            OP_PUBLISH => self.publish(head, body),
            OP_MESSAGE => self.message(head, body),
            op @ (OP_SUBSCRIBE | OP_UNSUBSCRIBE) => {
                if body.len() < head.len {
                    return Ok(Verdict::Need(head.len));
                }
                self.patterns(op, body)
            }
            OP_PUBLISH_FOR => Ok(not_supported("publishing for one receiver")),
            OP_EXCLUDE | OP_UNEXCLUDE => Ok(not_supported("excluding topics")),
            OP_BROADCAST => Ok(not_supported("broadcast")),
            _ => Err(Breach::Operation { flags: head.flags }),
        }
    }

    fn publish(&mut self, head: &Head, body: &[u8]) -> Result<Verdict, Breach> {
        let (topic, payload) = match until_nul(head, body, names::MAX_TOPIC, "topic")? {
            Ok(split) => split,
            Err(need) => return Ok(need),
        };
        let allowed = match names::topic(topic) {
            Name::Ours => self.rights.may_publish(topic),
            Name::SignOfLife => true,
            Name::Foreign => return Ok(denied(NOT_OURS)),
            Name::Invalid => return Err(Breach::Name { what: "topic" }),
        };
        if !allowed {
            return Ok(denied("publishing on this topic"));
        }
        self.events(head, body, payload)
    }

    fn message(&mut self, head: &Head, body: &[u8]) -> Result<Verdict, Breach> {
        let (target, payload) = match until_nul(head, body, names::MAX_TARGET, "target")? {
            Ok(split) => split,
            Err(need) => return Ok(need),
        };
        if target == names::BUSRT {
            let (code, what) = (ERR_CLIENT_NOT_REGISTERED, "busrt's own service");
            return Ok(Verdict::Denied { code, what });
        }
        if !names::is_target(target) {
            return Err(Breach::Name { what: "target" });
        }
        let to_directory = target == DIRECTORY.as_bytes();
        if to_directory && self.to_directory == MAX_TO_DIRECTORY {
            return Ok(denied("so many messages to the directory"));
        }
        match self.rights.may_say(target, payload, body.len() == head.len) {
            Some(Ok(())) => {
                self.to_directory += u32::from(to_directory);
                Ok(Verdict::Good { events: 1 })
            }
            Some(Err(what)) => Ok(denied(what)),
            // The buffer grows as bytes come, not as they are announced.
            None => Ok(Verdict::Need(head.len)),
        }
    }

    /// How many events a payload carries, as far as it has come.
    fn events(&self, head: &Head, body: &[u8], payload: &[u8]) -> Result<Verdict, Breach> {
        const COUNT: usize = 4 + 1 + 16 + 8;
        if !self.counts_events || !is_or_may_become(payload, &wire::MAGIC) {
            return Ok(Verdict::Good { events: 1 });
        }
        let Some(count) = payload.get(COUNT..).and_then(<[u8]>::first_chunk) else {
            let more = COUNT + size_of::<u32>() - payload.len();
            let needed = body.len() + more;
            return Ok(if needed <= head.len {
                Verdict::Need(needed)
            } else {
                Verdict::Good { events: 1 }
            });
        };
        let claimed = u32::from_le_bytes(*count);
        // An event takes some bytes, so nobody is charged for more than he can have sent.
        let most = u32::try_from(head.len / MIN_EVENT).unwrap_or(u32::MAX);
        let events = claimed.min(most).max(1);
        Ok(Verdict::Good { events })
    }

    fn patterns(&mut self, op: u8, body: &[u8]) -> Result<Verdict, Breach> {
        let invalid = Breach::Name { what: "pattern" };
        for pattern in body.split(|byte| *byte == 0) {
            match names::pattern(pattern) {
                Name::Ours => {}
                Name::SignOfLife | Name::Foreign => return Ok(denied(NOT_OURS)),
                Name::Invalid => return Err(invalid),
            }
            if op == OP_SUBSCRIBE && !self.rights.may_subscribe(pattern) {
                return Ok(denied("subscribing to this"));
            }
        }
        let counted = if op == OP_SUBSCRIBE {
            self.subscribed.add(body)
        } else {
            self.subscribed.remove(body)
        };
        Ok(counted.map_or_else(denied, |events| Verdict::Good { events }))
    }
}

impl Head {
    pub(super) fn new([a, b, c, d, flags, len @ ..]: &[u8; HEAD]) -> Self {
        Self {
            id: [*a, *b, *c, *d],
            flags: *flags,
            len: u32::from_le_bytes(*len) as usize,
        }
    }

    pub(super) fn is_ping(&self) -> bool {
        self.flags == 0
    }

    pub(super) fn operation(&self) -> u8 {
        self.flags & 0x3F
    }

    pub(super) fn is_realtime(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// The answer to the frame, if its sender wants one.
    pub(super) fn answer(&self, code: u8) -> Option<[u8; 6]> {
        let [a, b, c, d] = self.id;
        let wanted = self.flags & 0x40 != 0;
        wanted.then_some([OP_ACK, a, b, c, d, code])
    }
}

fn denied(what: &'static str) -> Verdict {
    Verdict::Denied {
        code: ERR_ACCESS,
        what,
    }
}

fn not_supported(what: &'static str) -> Verdict {
    Verdict::Denied {
        code: ERR_NOT_SUPPORTED,
        what,
    }
}

/// Splits at the first NUL, which stands within `most + 1` bytes or the frame is none.
#[allow(clippy::type_complexity, reason = "a wait is no error")]
fn until_nul<'a>(
    head: &Head,
    body: &'a [u8],
    most: usize,
    what: &'static str,
) -> Result<Result<(&'a [u8], &'a [u8]), Verdict>, Breach> {
    let look = &body[..body.len().min(most + 1)];
    match look.iter().position(|byte| *byte == 0) {
        Some(at) => Ok(Ok((&body[..at], &body[at + 1..]))),
        None if look.len() < head.len.min(most + 1) => Ok(Err(Verdict::Need(body.len() + 1))),
        None => Err(Breach::Name { what }),
    }
}

/// Whether bytes that may go on begin with `magic`, as far as can be seen.
fn is_or_may_become(bytes: &[u8], magic: &[u8]) -> bool {
    let seen = bytes.len().min(magic.len());
    bytes[..seen] == magic[..seen]
}

#[cfg(test)]
mod tests {
    use super::super::AclRule;
    use super::*;
    use crate::wire::Control;

    #[test]
    fn a_message_that_is_judged_as_a_whole_is_waited_for_as_a_whole() {
        let ack = wire::AckEntry {
            subscription: 1,
            received: 2,
            credit: 3,
            credit_bytes: 4,
        };
        let mut rule = AclRule::allow_all();
        rule.call.clear();
        let mut screen = Screen::new(Rights::new(rule), 8 << 20, false);
        let body = [&b"peer\0"[..], &Control::Ack(vec![ack; 10_000]).write()].concat();
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        let frame = [&[1, 0, 0, 0, OP_MESSAGE][..], &length, &body].concat();
        for come in [HEAD + 20, 65_536, frame.len() - 1] {
            assert_eq!(screen.step(&frame[..come]), Ok(Step::Need(frame.len())));
        }
        assert_eq!(screen.step(&frame), Ok(Step::Frame { events: 1 }));
    }
}
