//! A recording, published again.
//!
//! It goes out at full speed unless a rate is given: what a comparison needs of a recording is its
//! order and its content. Each publisher of the recording is a handle of its own again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use eventbus::{Event, EventBus};
use tokio::sync::mpsc;

use super::pace::{BATCH, Pace};
use crate::failure::Failure;
use crate::shadow::feed::Feed;
use crate::shadow::recording::Player;

/// Batches read ahead of publishing.
const AHEAD: usize = 16;
/// Most handles that a recording may ask for.
const MOST_PUBLISHERS: usize = 256;

/// Neighbouring events of one publisher.
type Batch = (u32, Vec<Event>);

/// Publishes the recording until it ends or the feed wants no more.
pub(crate) async fn run(
    file: &Path,
    rate: Option<u64>,
    bus: &Arc<dyn EventBus>,
    feed: &Arc<Feed>,
) -> Result<(), Failure> {
    let (send, mut batches) = mpsc::channel(AHEAD);
    let reader = tokio::task::spawn_blocking({
        let file = file.to_path_buf();
        move || read(&file, &send)
    });
    let mut handles = BTreeMap::new();
    let mut pace = Pace::new(rate, 1);
    'all: while let Some((publisher, mut events)) = batches.recv().await {
        let handle = handle(&mut handles, bus, publisher).await?;
        while !events.is_empty() {
            let due = pace.due(events.len()).await;
            if due == 0 && !feed.is_over() {
                continue;
            }
            let claimed = feed.claim(due);
            if claimed == 0 {
                break 'all;
            }
            let rest = events.split_off(claimed);
            feed.publish(&handle, publisher, events).await?;
            events = rest;
        }
    }
    // The reader ends when it finds nobody to send to.
    drop(batches);
    reader
        .await
        .map_err(|reason| Failure::io("read the recording", reason))?
}

async fn handle(
    handles: &mut BTreeMap<u32, Arc<dyn EventBus>>,
    bus: &Arc<dyn EventBus>,
    publisher: u32,
) -> Result<Arc<dyn EventBus>, Failure> {
    if let Some(handle) = handles.get(&publisher) {
        return Ok(Arc::clone(handle));
    }
    if handles.len() == MOST_PUBLISHERS {
        return Err(Failure::io(
            "play the recording",
            format!("it has more than {MOST_PUBLISHERS} publishers"),
        ));
    }
    let handle = bus.connect(None).await?;
    handles.insert(publisher, Arc::clone(&handle));
    Ok(handle)
}

/// Reads on a thread that may block; ends early when nobody wants more.
fn read(file: &Path, to: &mpsc::Sender<Batch>) -> Result<(), Failure> {
    let mut player = Player::open(file)?;
    let mut batch: Batch = (0, Vec::new());
    while let Some((publisher, event)) = player.next()? {
        if publisher != batch.0 || batch.1.len() == BATCH {
            let full = std::mem::replace(&mut batch, (publisher, Vec::new()));
            if !full.1.is_empty() && to.blocking_send(full).is_err() {
                return Ok(());
            }
        }
        batch.1.push(event);
    }
    if !batch.1.is_empty() {
        // Nobody there means that the source has ended already.
        let _ = to.blocking_send(batch);
    }
    Ok(())
}
