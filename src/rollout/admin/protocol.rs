//! What is said at an admin socket.

use serde::{Deserialize, Serialize};

use crate::rollout::Direction;
use crate::rollout::status::{HistoryEntry, Plan, StageRef, Status};

/// Longest line, in bytes: a status with a long history is far below.
pub(crate) const MAX_LINE: u64 = 1 << 20;

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
        /// Only out of this stage: so an order that comes twice moves once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StageRef>,
    },
    /// To move to the stage before.
    Back {
        /// Only out of this stage.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<StageRef>,
    },
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
        let (force, from) = (false, None);
        assert_eq!(
            read(r#"{"ask":"advance"}"#),
            Request::Advance { force, from }
        );
        assert_eq!(read(r#"{"ask":"back"}"#), Request::Back { from: None });
        let by_index = read(r#"{"ask":"back","from":1}"#);
        let from = Some(StageRef::Index(1));
        assert_eq!(by_index, Request::Back { from });
        let by_name = read(r#"{"ask":"advance","force":true,"from":"crossbeam"}"#);
        let from = Some(StageRef::Name("crossbeam".to_owned()));
        assert_eq!(by_name, Request::Advance { force: true, from });
        let direction = Direction::Back;
        assert_eq!(
            read(r#"{"ask":"plan","direction":"back"}"#),
            Request::Plan { direction }
        );
        assert!(serde_json::from_str::<Request>(r#"{"ask":"stop"}"#).is_err());
    }
}
