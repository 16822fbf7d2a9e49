//! SUB-007: subscriptions outlive the connection that they were made on.

use crate::check::{self, Within};
use crate::harness::{Fault, Opening};
use crate::stage::{Context, Lasts};
use crate::verdict::Checked;

/// SUB-007: after its handle has lost its connection, or the broker its memory, a subscription goes
/// on as before, and nobody has subscribed again.
pub(crate) async fn sub_007_subscriptions_are_restored(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let (near, far) = (stage.bus(), faulty.open(Opening::default()).await?);
    let authors = [stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&near, "a.*.c").await?,
    ];
    for fault in [Fault::Reset, Fault::BrokerKilled, Fault::Reset] {
        faulty
            .publish_through(fault, Lasts::Moment, &authors, &mut readers)
            .await?;
        stage.drain(&mut readers, &authors).await?;
    }
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::duplicates(&history).verdict()?;
    check::phantoms(&history).verdict()?;
    check::nonmonotonic(&history, Within::Topic).verdict()
}
