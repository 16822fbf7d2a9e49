//! A stage whose front door strangers come to.

use std::path::PathBuf;
use std::sync::Arc;

use eventbus_trait::EventBus;

use super::Stage;
use crate::harness::{Answer, Caller, DoorRig};
use crate::verdict::{Checked, Unmet};

/// A started bus and the way to its front door.
pub struct AtDoor {
    /// The stage.
    pub stage: Stage,
    pub(super) rig: Arc<dyn DoorRig>,
}

impl AtDoor {
    /// Comes to the door.
    ///
    /// # Errors
    /// Unexercised, if nobody could; broken, if there was no answer.
    pub async fn come(&self, caller: Caller) -> Checked<Answer> {
        let coming = self.rig.come(caller);
        let answer = self.stage.wait("an answer at the door", coming).await?;
        let answer = answer.map_err(Unmet::Unexercised)?;
        if let Answer::In(bus) = &answer {
            self.stage.0.handles.lock().push(Arc::clone(bus));
        }
        Ok(answer)
    }

    /// A session like any other.
    ///
    /// # Errors
    /// Broken, if it is not let in.
    pub async fn member(&self) -> Checked<Arc<dyn EventBus>> {
        match self.come(Caller::Member).await? {
            Answer::In(bus) => Ok(bus),
            other => Err(Unmet::broken(format_args!("a member: {other:?}"))),
        }
    }

    /// The socket in the file system, if there is one.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.rig.socket()
    }

    /// Tries to be a second broker at the same place: what came of that.
    ///
    /// # Errors
    /// Broken, if nothing does.
    pub async fn second_broker(&self) -> Checked<Result<(), String>> {
        let trying = self.rig.second_broker();
        self.stage.wait("a second broker", trying).await
    }
}

impl std::fmt::Debug for AtDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtDoor")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
