//! The raw parts, used as well as they can be while nothing is lost.

pub(crate) mod busrt;
pub(crate) mod channels;

use tokio::runtime::Runtime;

/// Deals what subscribers read to so many readers.
fn deal<T>(ends: Vec<T>, readers: usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..readers).map(|_| Vec::new()).collect();
    for (n, end) in ends.into_iter().enumerate() {
        dealt[n % readers].push(end);
    }
    dealt
}

fn workers() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}
