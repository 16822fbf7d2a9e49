//! What a clause panicked with, and where.
//!
//! A panic tells its place to the hook alone, so there is a hook, which goes on to the one before.
//!
//! Invariant: a place that is told is that of the panic that was caught, on the same thread.

use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

use crate::verdict::{Checked, Unmet};

thread_local! {
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs `clause`; a panic breaks it.
pub(crate) async fn caught(clause: impl Future<Output = Checked>) -> Checked {
    install();
    let mut clause = pin!(clause);
    poll_fn(|cx| {
        PLACE.set(None);
        let polled = catch_unwind(AssertUnwindSafe(|| clause.as_mut().poll(cx)));
        polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic, PLACE.take()))))
    })
    .await
}

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PLACE.set(panic.location().map(ToString::to_string));
            before(panic);
        }));
    });
}

fn panicked(panic: &(dyn Any + Send), place: Option<String>) -> Unmet {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    let place = place.unwrap_or_else(|| "a place that nobody told".to_owned());
    let text = text.unwrap_or("no message");
    Unmet::broken(format_args!("panicked at {place}: {text}"))
}
