//! What became of calls under a shadow, and how their ends are compared.
//!
//! Invariant, at every instant: `made = unmirrored + same + differs + failed + not_compared +
//! under_way`.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use eventbus_trait::Payload;
use eventbus_trait::rpc::{CallError, Reply, YIELDED};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Most differences that are listed.
const MOST_LISTED: usize = 20;

/// Calls that ended on the primary while there was a candidate.
///
/// A call that is marked idempotent is made once more on the candidate, when the primary has answered
/// it, and the two ends are compared. The others have effects, and the candidate never hears of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Calls {
    /// All.
    pub made: u64,
    /// Not marked idempotent, so not made on the candidate.
    pub unmirrored: u64,
    /// The candidate answered as the primary did.
    pub same: u64,
    /// The candidate answered something else.
    pub differs: u64,
    /// The candidate did not answer; `candidate_errors` of the report says why.
    pub failed: u64,
    /// Marked idempotent and not compared, for the reasons in `not_compared_by_reason`.
    pub not_compared: u64,
    /// Why calls were not compared.
    pub not_compared_by_reason: BTreeMap<NotCompared, u64>,
    /// Those for whose answer from the candidate the comparison waits.
    pub under_way: u64,
    /// The first of those that were answered otherwise, at most 20.
    pub differences: Vec<CallDifference>,
}

/// Why a call that is marked idempotent was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotCompared {
    /// The application gave the call up.
    Cancelled,
    /// The primary has no answer to compare with: the call never reached a handler, or nobody knows
    /// what became of it.
    NoAnswer,
    /// Whoever serves the name serves no copy of it on the candidate: it is not under a shadow.
    NoCopy,
    /// The service needed the slot for a call of its own.
    Yielded,
    /// As many calls as may be were under way on the candidate.
    Full,
    /// A reply is a typed value that could not be encoded.
    Unreadable,
    /// The candidate went away first.
    Gone,
}

impl NotCompared {
    /// Every reason.
    pub const ALL: [Self; 7] = [
        Self::Cancelled,
        Self::NoAnswer,
        Self::NoCopy,
        Self::Yielded,
        Self::Full,
        Self::Unreadable,
        Self::Gone,
    ];

    /// Whether nothing was due to be compared. The others leave something unsaid about the candidate.
    #[must_use]
    pub fn is_explained(self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::NoAnswer | Self::NoCopy | Self::Yielded
        )
    }
}

impl fmt::Display for NotCompared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled by the application",
            Self::NoAnswer => "no answer from the primary",
            Self::NoCopy => "no copy of the service on the candidate",
            Self::Yielded => "the service needed the slot",
            Self::Full => "too many calls on the candidate",
            Self::Unreadable => "unreadable reply",
            Self::Gone => "the candidate went away",
        })
    }
}

/// A call that the candidate answered otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallDifference {
    /// The service.
    pub service: String,
    /// The method.
    pub method: String,
    /// What differs, for people. Nothing of a reply's contents is in it.
    pub detail: String,
}

impl Calls {
    /// Those that leave something unsaid about the candidate.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let reasons = self.not_compared_by_reason.iter();
        let unsaid = reasons.filter(|(reason, _)| !reason.is_explained());
        self.under_way + unsaid.map(|(_, n)| n).sum::<u64>()
    }
}

/// How a call that was begun on the candidate has ended.
#[derive(Debug)]
pub(crate) enum End {
    Same,
    Differs(CallDifference),
    Failed,
    NotCompared(NotCompared),
}

/// The counts, as they are kept.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Calls>);

impl Counted {
    pub(crate) fn unmirrored(&self) {
        let mut calls = self.0.lock();
        calls.made += 1;
        calls.unmirrored += 1;
    }

    /// It ended on the primary and is not made on the candidate.
    pub(crate) fn skipped(&self, reason: NotCompared) {
        let mut calls = self.0.lock();
        calls.made += 1;
        calls.not_compared += 1;
        *calls.not_compared_by_reason.entry(reason).or_default() += 1;
    }

    /// It ended on the primary and is made on the candidate; [`ended`](Self::ended) follows.
    pub(crate) fn begun(&self) {
        let mut calls = self.0.lock();
        calls.made += 1;
        calls.under_way += 1;
    }

    pub(crate) fn ended(&self, end: End) {
        let mut calls = self.0.lock();
        calls.under_way -= 1;
        match end {
            End::Same => calls.same += 1,
            End::Failed => calls.failed += 1,
            End::Differs(difference) => {
                calls.differs += 1;
                if calls.differences.len() < MOST_LISTED {
                    calls.differences.push(difference);
                }
            }
            End::NotCompared(reason) => {
                calls.not_compared += 1;
                *calls.not_compared_by_reason.entry(reason).or_default() += 1;
            }
        }
    }

    pub(crate) fn under_way(&self) -> u64 {
        self.0.lock().under_way
    }

    pub(crate) fn told(&self) -> Calls {
        self.0.lock().clone()
    }
}

/// Whether a callee has said this, so that another bus should say the same.
pub(crate) fn is_answer(end: &Result<Reply, CallError>) -> bool {
    use CallError::{Failed, NoMethod, Panicked};
    matches!(
        end,
        Ok(_) | Err(Failed { .. } | NoMethod { .. } | Panicked { .. })
    )
}

/// Compares two ends, of which the primary's is an answer. `copied` says whether this process itself
/// serves the copy that the candidate was asked for.
pub(crate) fn compared(
    primary: &Result<Reply, CallError>,
    candidate: &Result<Reply, CallError>,
    copied: bool,
) -> Result<(), Otherwise> {
    use CallError::{Busy, Failed, NoMethod, NoService, Panicked};
    match (primary, candidate) {
        (_, Err(Failed { code: YIELDED, .. } | Busy { .. })) => {
            Err(Otherwise::NotCompared(NotCompared::Yielded))
        }
        (_, Err(NoService { .. })) if !copied => Err(Otherwise::NotCompared(NotCompared::NoCopy)),
        (_, Err(error)) if !is_answer(candidate) => Err(Otherwise::Failed(error.clone())),
        (Ok(a), Ok(b)) => payloads(&a.payload, &b.payload),
        (
            Err(Failed { code, message, .. }),
            Err(Failed {
                code: other_code,
                message: other,
                ..
            }),
        ) if code == other_code && message == other => Ok(()),
        (Err(NoMethod { .. }), Err(NoMethod { .. })) => Ok(()),
        (Err(Panicked { .. }), Err(Panicked { .. })) => Ok(()),
        _ => {
            let (a, b) = (ending(primary), ending(candidate));
            Err(Otherwise::Differs(format!("{a} on the primary, {b} here")))
        }
    }
}

/// What is not the same end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    Differs(String),
    Failed(CallError),
    NotCompared(NotCompared),
}

/// Without what it says: that may not be for everybody.
fn ending(end: &Result<Reply, CallError>) -> String {
    match end {
        Ok(_) => "a reply".to_owned(),
        Err(CallError::Failed { code, .. }) => format!("a failure with code {code}"),
        Err(CallError::NoMethod { .. }) => "no such method".to_owned(),
        Err(_) => "a panic".to_owned(),
    }
}

fn payloads(a: &Payload, b: &Payload) -> Result<(), Otherwise> {
    let bytes = |payload: &Payload| {
        let encoded = catch_unwind(AssertUnwindSafe(|| payload.bytes()));
        encoded.ok().and_then(Result::ok)
    };
    let (Some(first), Some(second)) = (bytes(a), bytes(b)) else {
        return Err(Otherwise::NotCompared(NotCompared::Unreadable));
    };
    let differs = |detail: String| Err(Otherwise::Differs(detail));
    if first.len() != second.len() {
        let (first, second) = (first.len(), second.len());
        return differs(format!("reply of {first} bytes came as {second} bytes"));
    }
    if first != second {
        return differs(format!("reply of {} bytes differs", first.len()));
    }
    if a.content_type() != b.content_type() {
        return differs("content type differs".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventbus_trait::ContentType;

    fn failed(code: i16) -> Result<Reply, CallError> {
        Err(CallError::Failed {
            service: "s".to_owned(),
            code,
            message: "m".to_owned(),
        })
    }

    #[test]
    fn each_pair_of_ends_is_told() {
        let reply = |text: &'static str| Ok(Reply::new(text));
        let differs = |text: &str| Err(Otherwise::Differs(text.to_owned()));
        let skipped = |reason| Err(Otherwise::NotCompared(reason));
        let none = || CallError::NoService {
            service: "s".to_owned(),
        };
        let json = Reply::new(Payload::new("a", ContentType::Json));
        for (primary, candidate, copied, told) in [
            (reply("a"), reply("a"), true, Ok(())),
            (failed(3), failed(3), true, Ok(())),
            (
                reply("a"),
                reply("b"),
                true,
                differs("reply of 1 bytes differs"),
            ),
            (
                reply("a"),
                reply("bc"),
                true,
                differs("reply of 1 bytes came as 2 bytes"),
            ),
            (reply("a"), Ok(json), true, differs("content type differs")),
            (
                failed(3),
                failed(4),
                true,
                differs("a failure with code 3 on the primary, a failure with code 4 here"),
            ),
            (
                reply("a"),
                failed(YIELDED),
                true,
                skipped(NotCompared::Yielded),
            ),
            (reply("a"), Err(none()), false, skipped(NotCompared::NoCopy)),
            (
                reply("a"),
                Err(none()),
                true,
                Err(Otherwise::Failed(none())),
            ),
            (
                reply("a"),
                Err(CallError::Closed),
                false,
                Err(Otherwise::Failed(CallError::Closed)),
            ),
        ] {
            assert_eq!(compared(&primary, &candidate, copied), told);
        }
    }
}
