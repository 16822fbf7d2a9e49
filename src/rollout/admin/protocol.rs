//! What is said at an admin socket.

use serde::{Deserialize, Serialize};

use crate::rollout::Direction;
use crate::rollout::status::{HistoryEntry, Plan, Status};

/// Longest line, in bytes: a status with a long history is far below.
pub(crate) const MAX_LINE: u64 = 1 << 20;

/// What an operator asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// How it stands.
    Status,
    /// What a move would do.
    Plan {
        /// Which way.
        direction: Direction,
    },
    /// To move to the next stage.
    Advance {
        /// Whatever the gates say.
        #[serde(default)]
        force: bool,
    },
    /// To move to the stage before.
    Back,
    /// To do nothing by itself.
    Pause,
    /// To go on.
    Resume,
    /// To give up the move under way.
    Abort,
}

/// What the rollout answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", content = "with")]
#[non_exhaustive]
pub enum Answer {
    /// How it stands.
    Status(Box<Status>),
    /// What a move would do.
    Plan(Plan),
    /// What was done.
    Done(HistoryEntry),
    /// The move under way is being given up.
    Aborting,
    /// Why nothing was done, in one sentence.
    Refused(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_can_be_written_by_hand() {
        let read = |text| serde_json::from_str::<Request>(text).unwrap();
        assert_eq!(read(r#"{"ask":"status"}"#), Request::Status);
        assert_eq!(
            read(r#"{"ask":"advance"}"#),
            Request::Advance { force: false }
        );
        let direction = Direction::Back;
        assert_eq!(
            read(r#"{"ask":"plan","direction":"back"}"#),
            Request::Plan { direction }
        );
        assert!(serde_json::from_str::<Request>(r#"{"ask":"stop"}"#).is_err());
    }
}
