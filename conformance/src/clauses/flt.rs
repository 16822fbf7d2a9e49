//! FLT: faults. DEL and ORD hold through each of them.
//!
//! One handle is hurt and one is not; both publish and both subscribe, from before the fault until
//! after it, so that events on their way in either direction are struck.

mod clock;

pub(super) use clock::flt_007_clocks_jump;

use crate::check::{self, Within};
use crate::harness::{Fault, Opening, Way};
use crate::history::{History, Mark, Op};
use crate::peer::Part;
use crate::stage::{Context, Faulty, Lasts};
use crate::verdict::{Checked, Unmet, ensure};

/// FLT-001: the broker's process is killed and started again, more than once.
pub(crate) async fn flt_001_the_broker_is_killed(context: Context) -> Checked {
    let killed = (Fault::BrokerKilled, Lasts::Moment);
    survives(&context.fault_stage().await?, &[killed, killed]).await
}

/// FLT-002: a connection is reset, again and again; the handle counts that it connects again.
pub(crate) async fn flt_002_a_connection_is_reset(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    survives(&faulty, &[(Fault::Reset, Lasts::Moment); 4]).await?;
    let hurt = faulty.stage.bus();
    // A phase whose state never changes has nothing to connect again.
    if hurt.state().has_changed().is_ok() {
        let reconnects = hurt.stats().reconnects;
        ensure!(
            reconnects > 0,
            "a handle that was reset counts no reconnect"
        );
    }
    Ok(())
}

/// FLT-003: the network is partitioned for longer than the keepalive: both ways, and each way.
pub(crate) async fn flt_003_the_network_is_partitioned(context: Context) -> Checked {
    let faults = [
        Fault::Partition,
        Fault::HalfPartition(Way::Up),
        Fault::HalfPartition(Way::Down),
    ];
    let faults = faults.map(|fault| (fault, Lasts::LongerThanKeepalive));
    survives(&context.fault_stage().await?, &faults).await
}

/// FLT-004: bytes come late, few at a time, and are torn in the middle.
pub(crate) async fn flt_004_bytes_are_torn(context: Context) -> Checked {
    let faults = [
        (Fault::Delay, Lasts::Pieces(20)),
        (Fault::Trickle, Lasts::Pieces(500)),
        (Fault::Torn(Way::Up), Lasts::Moment),
        (Fault::Torn(Way::Down), Lasts::Moment),
    ];
    survives(&context.fault_stage().await?, &faults).await
}

/// Nothing is lost, repeated, invented, altered or out of its topic's order through `faults`.
async fn survives(faulty: &Faulty, faults: &[(Fault, Lasts)]) -> Checked {
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    let authors = [stage.author(&near), stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&near, "a.b").await?,
        stage.reader(&far, "a.#").await?,
    ];
    for (fault, lasts) in faults {
        let through = faulty.publish_through(*fault, *lasts, &authors, &mut readers);
        through
            .await
            .map_err(|unmet| during(faulty, *fault, unmet))?;
    }
    stage.drain(&mut readers, &authors).await?;
    if faulty.struck() == 0 {
        return Err(Unmet::unexercised("no fault has struck"));
    }
    all_is_well(&stage.history())
}

/// What was broken, and how.
fn during(faulty: &Faulty, fault: Fault, unmet: Unmet) -> Unmet {
    match unmet {
        Unmet::Broken(text) => {
            let state = faulty.stage.bus().state().borrow().clone();
            Unmet::Broken(format!("{fault:?}: {text}; the handle is {state:?}"))
        }
        other => other,
    }
}

fn all_is_well(history: &History) -> Checked {
    check::lost(history).verdict()?;
    check::duplicates(history).verdict()?;
    check::phantoms(history).verdict()?;
    check::corrupted(history).verdict()?;
    check::nonmonotonic(history, Within::Topic).verdict()?;
    check::skips(history, Within::Topic).verdict()?;
    check::stamps(history, Within::Topic).verdict()
}

/// An author that nobody on the stage is.
const STRANGER: u32 = 1_000_000;

/// FLT-005: a subscriber is killed and starts again. Nobody else loses anything, and its second
/// life gets all that is published after it has subscribed.
pub(crate) async fn flt_005_a_subscriber_is_killed(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    let author = stage.author(&near);
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
    ];
    let mortal = Part::Subscriber {
        name: "mortal".into(),
    };
    let mut first_life = faulty.start_peer(mortal.clone()).await?;
    stage
        .while_reading(&mut readers, author.insist_over(&["a.b"], 200))
        .await?;
    first_life
        .heard(stage, "the other process to receive", 100, is_arrival)
        .await?;
    first_life.kill()?;
    stage
        .while_reading(&mut readers, author.insist_over(&["a.b"], 200))
        .await?;
    let mut second_life = faulty.start_peer(mortal).await?;
    stage
        .while_reading(&mut readers, author.insist_over(&["a.b"], 200))
        .await?;
    second_life
        .heard(stage, "the second life to receive", 200, is_arrival)
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    second_life.hear()?;
    second_life.note_drained();
    all_is_well(&stage.history())
}

fn is_arrival(op: &Op) -> bool {
    matches!(op, Op::Delivered(_))
}

/// FLT-006: a publisher is killed. What had been confirmed to it is delivered, once and in order;
/// what had not been is delivered once or not at all.
pub(crate) async fn flt_006_a_publisher_is_killed(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let mut readers = vec![stage.reader(&stage.bus(), "a.#").await?];
    let author = stage.author(&stage.bus());
    let part = Part::Publisher { author: STRANGER };
    let mut peer = faulty.start_peer(part).await?;
    let confirming = peer.heard(stage, "confirmations", 400, |op| {
        matches!(op, Op::Accepted(_))
    });
    stage.while_reading(&mut readers, confirming).await?;
    peer.kill()?;
    let of_it = |op: &Op, wanted: fn(&Op) -> Option<Mark>| {
        wanted(op).is_some_and(|mark| mark.author == STRANGER)
    };
    let confirmed = stage.recorder().count(|op| of_it(op, accepted));
    // No fence of an author on the stage is behind its events.
    let arriving = stage.until("what was confirmed", || {
        stage.recorder().count(|op| of_it(op, delivered)) >= confirmed
    });
    stage.while_reading(&mut readers, arriving).await?;
    stage.drain(&mut readers, &[author]).await?;
    peer.hear()?;
    let history = stage.history();
    all_is_well(&history)?;
    // Also of what was not confirmed, nothing comes without what was published before it.
    let marks = history.marks_of(readers[0].name()).into_iter().flatten();
    let of_it = marks.filter(|mark| mark.author == STRANGER);
    let received: Vec<u64> = of_it.map(|mark| mark.sequence).collect();
    let dense: Vec<u64> = (0..received.len() as u64).collect();
    ensure!(
        received == dense,
        "{confirmed} confirmed, {} received, not all up to the last: {:?}",
        received.len(),
        received
            .iter()
            .zip(&dense)
            .find(|(have, want)| have != want)
    );
    Ok(())
}

fn accepted(op: &Op) -> Option<Mark> {
    match op {
        Op::Accepted(mark) => Some(*mark),
        _ => None,
    }
}

fn delivered(op: &Op) -> Option<Mark> {
    match op {
        Op::Delivered(arrival) => arrival.mark,
        _ => None,
    }
}
