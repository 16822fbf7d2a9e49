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

    /// A step begins, and the one before is done.
    pub(super) fn step(&self, what: String) {
        if !self.0.message().is_empty() {
            self.0.inc(1);
        }
        self.0.set_message(what);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
