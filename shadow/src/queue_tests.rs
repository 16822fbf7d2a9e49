//! When a candidate has caught up. Apart from the queue, which the models compile a second time.

use std::collections::VecDeque;

use eventbus_trait::Event;

use crate::queue::{Command, Queue};

#[tokio::test]
async fn who_has_no_event_left_has_caught_up_whatever_else_there_is_to_do() {
    let (queue, mut batch) = (Queue::new(1), VecDeque::new());
    let event = Event::new("a", "x").unwrap();
    let room = queue.room_if_keeping_up(&event).unwrap();
    assert!(queue.control(Command::Work));
    assert!(queue.room_if_keeping_up(&event).is_none());
    queue.next(&mut batch, 1).await;
    assert!(queue.control(Command::Work));
    assert!(queue.has_caught_up());
    drop(room);
    queue.reopen();
    assert!(queue.room_if_keeping_up(&event).is_some());
}
