//! A bar on a terminal, nothing in a pipe.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error that follows the steps; it goes away when this is dropped.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        let template = "{pos}/{len} {wide_bar} {msg} {elapsed}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        // A step may take seconds; the time goes on meanwhile.
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        Self(bar)
    }

    /// A step begins; `done` are behind it.
    pub(super) fn step(&self, done: u64, what: String) {
        self.0.set_message(what);
        self.0.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
