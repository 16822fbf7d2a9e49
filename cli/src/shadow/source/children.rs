//! Short-lived processes of our own, so that a quiet machine has starts and exits to tell of.
//!
//! Each child is a `cat` that waits on a pipe: it lives until it has been seen, however slow the
//! observer is, and ends when the pipe is closed, also when this process dies.
//!
//! Invariant: at most [`MOST`] live at a time, and none outlives this value.

use std::collections::VecDeque;
use std::process::{Child, Command, Stdio};

use tracing::warn;

/// Most children at a time.
const MOST: usize = 4;
/// A child is told to end after this many passes over `/proc`.
const LIFE: u32 = 3;
/// Passes after which a child that was told to end is killed.
const PATIENCE: u32 = 200;

/// The children that live now.
#[derive(Debug, Default)]
pub(crate) struct Children {
    live: VecDeque<(Child, u32)>,
    passes: u32,
    impossible: bool,
}

impl Children {
    /// Ends the old, reaps the ended, and starts one now and then. Call it before each pass.
    pub(crate) fn tend(&mut self) {
        self.live.retain_mut(|(child, age)| {
            *age += 1;
            if *age > LIFE {
                drop(child.stdin.take());
            }
            if *age > PATIENCE {
                end(child);
                return false;
            }
            // An error means that there is nothing left to wait for.
            matches!(child.try_wait(), Ok(None))
        });
        self.passes = self.passes.wrapping_add(1);
        if self.passes.is_multiple_of(2) && self.live.len() < MOST && !self.impossible {
            self.start();
        }
    }

    fn start(&mut self) {
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match child {
            Ok(child) => self.live.push_back((child, 0)),
            Err(reason) => {
                self.impossible = true;
                warn!(%reason, "no child processes; only what others start and end is seen");
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (child, _) in &mut self.live {
            end(child);
        }
    }
}

/// Kills and reaps. Both fail only if the child is gone already.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_few_and_end() {
        let mut children = Children::default();
        let mut started = std::collections::BTreeSet::new();
        while started.len() < 3 * MOST {
            children.tend();
            started.extend(children.live.iter().map(|(child, _)| child.id()));
            assert!(children.live.len() <= MOST && !children.impossible);
            std::thread::yield_now();
        }
        let live: Vec<_> = children.live.iter().map(|(child, _)| child.id()).collect();
        drop(children);
        for pid in live {
            let path = format!("/proc/{pid}/stat");
            assert!(!std::path::Path::new(&path).exists(), "{pid} is left");
        }
    }
}
