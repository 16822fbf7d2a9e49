//! A stage whose bus can be moved from one phase to another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventbus_trait::Topic;
use futures_util::future::try_join_all;

use super::{Author, Stage};
use crate::harness::{Course, CutoverRig, Wreck};
use crate::verdict::{Checked, Unmet};

/// How many events an author publishes in a beat while the bus is moved.
const IN_A_BEAT: usize = 5;
const BEAT: Duration = Duration::from_millis(1);
/// How many each publishes before and after.
const AROUND: usize = 50;
const TOPICS: [&str; 2] = ["a.b", "a.c"];

/// A started bus and the means to move it.
pub struct Movable {
    /// The stage.
    pub stage: Stage,
    pub(super) rig: Arc<dyn CutoverRig>,
}

/// What a process that was killed has left behind.
pub struct Wrecked(pub(super) Box<dyn Wreck>);

impl Movable {
    /// Whether the second phase holds.
    #[must_use]
    pub fn holds_second(&self) -> bool {
        self.rig.holds_second()
    }

    /// Moves the bus.
    ///
    /// # Errors
    /// Broken, if it is not moved.
    pub async fn cut_over(&self, course: Course) -> Checked {
        let moving = self.stage.wait("the move", self.rig.cut_over(course));
        moving.await?.map_err(Unmet::Broken)
    }

    /// Moves the bus while every author publishes, from before it begins until it is over.
    ///
    /// # Errors
    /// Broken, if an event is refused or the bus is not moved. Unexercised, if nobody published
    /// meanwhile.
    pub async fn publish_through(&self, course: Course, authors: &[Arc<Author>]) -> Checked {
        for author in authors {
            author.publish_over(&TOPICS, AROUND).await?;
        }
        let over = Arc::new(AtomicBool::new(false));
        let publishing: Vec<_> = authors
            .iter()
            .map(|author| tokio::spawn(publish_until(Arc::clone(author), Arc::clone(&over))))
            .collect();
        let moved = self.cut_over(course).await;
        over.store(true, Ordering::SeqCst);
        let joined = publishing
            .into_iter()
            .map(|task| async { task.await.map_err(Unmet::broken)? });
        let during: usize = try_join_all(joined).await?.into_iter().sum();
        moved?;
        if during == 0 {
            return Err(Unmet::unexercised("nobody published during a move"));
        }
        for author in authors {
            author.publish_over(&TOPICS, AROUND).await?;
        }
        Ok(())
    }
}

/// How many events it published before it was over.
async fn publish_until(author: Arc<Author>, over: Arc<AtomicBool>) -> Checked<usize> {
    let topics = TOPICS.map(Topic::new);
    let mut topics = topics.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (mut beat, mut during) = (tokio::time::interval(BEAT), 0);
    loop {
        for _ in 0..IN_A_BEAT {
            author.send(author.event(&topics[0])).await?;
            topics.rotate_left(1);
        }
        if over.load(Ordering::SeqCst) {
            return Ok(during);
        }
        during += IN_A_BEAT;
        beat.tick().await;
    }
}

impl std::fmt::Debug for Movable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Movable")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Wrecked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wrecked").finish_non_exhaustive()
    }
}
