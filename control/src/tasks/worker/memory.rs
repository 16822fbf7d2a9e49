//! What a worker remembers of tasks that have ended.

use crate::remember::Remembered;
use crate::tasks::{Answer, Mark};

/// A task, whatever the attempt.
pub(super) type Key = (String, String);

pub(super) fn key(mark: &Mark) -> Key {
    (mark.dispatcher.clone(), mark.id.clone())
}

#[derive(Debug)]
pub(super) struct Memory(Remembered<Key, (Mark, Answer)>);

impl Memory {
    pub(super) fn new(most: usize, most_bytes: usize) -> Self {
        Self(Remembered::new(most, most_bytes))
    }

    /// Remembers how a task ended.
    pub(super) fn put(&mut self, mark: &Mark, answer: &Answer) {
        let bytes = match answer {
            Answer::Done(payload) => payload.known_len().unwrap_or_default(),
            Answer::Failed { message, .. } => message.len(),
            _ => 0,
        };
        self.0.put(key(mark), (mark.clone(), answer.clone()), bytes);
    }

    /// How the task of this order ended. What was cancelled is cancelled for that order alone: another
    /// attempt begins anew.
    pub(super) fn get(&self, mark: &Mark) -> Option<&Answer> {
        let (ended, answer) = self.0.get(&key(mark))?;
        match answer {
            Answer::Cancelled if ended != mark => None,
            _ => Some(answer),
        }
    }

    /// Forgets a task, because it begins anew.
    pub(super) fn forget(&mut self, mark: &Mark) {
        self.0.forget(&key(mark));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
