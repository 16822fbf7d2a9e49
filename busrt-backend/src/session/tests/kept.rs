//! Keeping runs, and sending what follows a cursor again.

use std::sync::Arc;

use eventbus_trait::Event;

use super::super::kept::Kept;
use super::super::run::Run;
use super::outbox::run_of;

fn run(len: usize) -> Arc<Run> {
    let events = (0..len).map(|n| Event::new("a", n.to_string().into_bytes()).unwrap());
    Arc::new(run_of(events.collect()))
}

fn again(kept: &mut Kept) -> Vec<(u64, u64)> {
    std::iter::from_fn(|| kept.again(1))
        .map(|a| (a.entry.first, a.run.count() - u64::from(a.skip)))
        .collect()
}

#[test]
fn what_follows_the_cursor_is_sent_again_and_then_the_link_is_live() {
    let mut kept = Kept::new(0, true);
    assert_eq!(kept.keep(&run(10), 0), Some(0));
    assert_eq!(kept.keep(&run(5), 0), Some(10));
    kept.release(4);
    kept.rewind(4);
    assert_eq!(kept.keep(&run(2), 3), None, "live events wait behind it");
    assert_eq!(again(&mut kept), [(4, 6), (10, 5), (15, 2)]);
    assert!(kept.is_live());
    assert_eq!(kept.keep(&run(1), 3), Some(17));
}

#[test]
fn what_is_acknowledged_is_let_go() {
    let mut kept = Kept::new(7, true);
    for _ in 0..3 {
        kept.keep(&run(10), 0);
    }
    kept.release(27);
    assert_eq!(kept.len(), 1, "a run is kept until all of it is there");
    kept.release(37);
    assert!(kept.len() == 0);
    kept.rewind(37);
    assert!(again(&mut kept).is_empty());
    assert!(kept.is_live());
}

#[test]
fn a_detached_link_gets_nothing_until_its_subscriber_tells_its_cursor() {
    let mut kept = Kept::new(0, true);
    kept.keep(&run(3), 0);
    kept.detach();
    assert_eq!(kept.keep(&run(2), 0), None);
    kept.rewind(3);
    assert_eq!(again(&mut kept), [(3, 2)]);
}
