//! What a full inbox drops, and where it tells so.

use std::sync::atomic::Ordering;

use eventbus_trait::{Event, Overflow};

use super::super::inbox::Inbox;
use crate::wire::Events;

fn events(range: std::ops::Range<u32>) -> Events {
    let events = range.map(|n| Event::new("a", n.to_string().into_bytes()).unwrap());
    events.collect::<Vec<_>>().into()
}

fn read(inbox: &Inbox) -> Vec<String> {
    let mut out = Vec::new();
    while let Ok(chunk) = inbox.take() {
        if chunk.lagged > 0 {
            out.push(format!("lagged {}", chunk.lagged));
        }
        for event in chunk.events {
            inbox.hand_over();
            out.push(String::from_utf8(event.bytes().unwrap().to_vec()).unwrap());
        }
    }
    out
}

fn conserved(inbox: &Inbox, delivered: u64) {
    inbox.counters.delivered.store(delivered, Ordering::Relaxed);
    let stats = inbox.counters.snapshot("s", inbox.queued());
    assert!(stats.is_conserved(), "{stats:?}");
}

#[test]
fn drop_oldest_tells_the_loss_where_it_is() {
    let inbox = Inbox::new("s".into(), 3, Overflow::DropOldest);
    inbox.push(None, events(0..2), 0);
    inbox.push(None, events(2..5), 0);
    conserved(&inbox, 0);
    assert_eq!(read(&inbox), ["lagged 2", "2", "3", "4"]);
    inbox.push(None, events(0..10), 0);
    assert_eq!(read(&inbox), ["lagged 7", "7", "8", "9"]);
    conserved(&inbox, 6);
}

#[test]
fn drop_newest_tells_the_loss_after_what_was_kept() {
    let inbox = Inbox::new("s".into(), 3, Overflow::DropNewest);
    inbox.push(None, events(0..2), 0);
    inbox.push(None, events(2..5), 0);
    conserved(&inbox, 0);
    assert_eq!(read(&inbox), ["0", "1", "2", "lagged 2"]);
    inbox.push(None, events(5..6), 4);
    assert_eq!(read(&inbox), ["lagged 4", "5"]);
    conserved(&inbox, 4);
}
