//! A bar on a terminal, nothing in a pipe.

use ::conformance::Progress;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that follows a run; it goes away when this is dropped.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let bar = ProgressBar::new(0);
        let template = "{pos}/{len} {wide_bar} {msg} {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// A clause has ended; one that fails the run is told at once.
    pub(super) fn follow(&self, progress: &Progress<'_>) {
        let Progress { phase, clause, .. } = progress;
        if progress.outcome.verdict.fails_the_run() {
            let word = progress.outcome.verdict.word();
            self.0
                .println(format!("{word} {} on {phase}: {}", clause.id, clause.title));
        }
        self.0.set_length(progress.all as u64);
        self.0.set_message(format!("{} {phase}", clause.id));
        self.0.set_position(progress.done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
