//! FLT-007: a wall clock that jumps.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};

use super::all_is_well;
use crate::harness::{Fault, Opening};
use crate::history::Op;
use crate::peer::Part;
use crate::stage::{Actor, Context, Lasts, Stage};
use crate::verdict::{Checked, ensure_eq};

/// The other process's subscription.
const ELSEWHERE: &str = "elsewhere";

/// How long the clock is off: longer than it takes until the next sign of life.
const OFF: Duration = Duration::from_secs(2);

/// FLT-007: the wall clock of the broker and of another process jumps ahead and back again, and
/// behind and back again. Nothing is lost, and nobody is given up or has to connect again.
pub(crate) async fn flt_007_clocks_jump(context: Context) -> Checked {
    let faulty = context.clock_stage().await?;
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    let authors = [stage.author(&near), stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
    ];
    let name = ELSEWHERE.to_owned();
    let mut elsewhere = faulty.start_peer(Part::Subscriber { name }).await?;
    for hours in [1, -1] {
        let jump = Fault::ClockJump { hours };
        let lasts = Lasts::For(OFF);
        let through = faulty.publish_through(jump, lasts, &authors, &mut readers);
        match select(pin!(through), pin!(listen(stage, &mut elsewhere, u64::MAX))).await {
            Either::Left((through, _)) => through?,
            Either::Right((gone, _)) => gone?,
        }
    }
    stage.drain(&mut readers, &authors).await?;
    let written: u64 = authors.iter().map(|author| author.written()).sum();
    let listening = listen(stage, &mut elsewhere, written);
    stage
        .wait("the other process to receive", listening)
        .await??;
    elsewhere.note_drained();
    for bus in [&near, &far] {
        let stats = bus.stats();
        let noticed = (stats.reconnects, stats.given_up);
        ensure_eq!(
            noticed,
            (0, 0),
            "connections made again, and peers given up"
        );
    }
    all_is_well(&stage.history())
}

/// Hears what it says, until it has received so many events: who is not heard stops receiving.
async fn listen(stage: &Stage, peer: &mut Actor, events: u64) -> Checked {
    let mut beat = tokio::time::interval(Duration::from_millis(1));
    let of_it = |op: &Op| matches!(op, Op::Delivered(a) if *a.subscription == *ELSEWHERE);
    while (stage.recorder().count(of_it) as u64) < events {
        beat.tick().await;
        peer.hear()?;
    }
    Ok(())
}
