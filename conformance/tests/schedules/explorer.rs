//! Who explores: shuttle, schedules by chance; a deadline may come whenever it is asked for.

use shuttle::rand::Rng;

pub(crate) use shuttle::{sync, thread};

/// Whether a deadline that is asked for has come.
pub(crate) fn is_over() -> bool {
    chance(8)
}

/// Once in `n` times, by the schedule's own dice.
pub(crate) fn chance(n: u32) -> bool {
    shuttle::rand::thread_rng().gen_ratio(1, n)
}
