//! MIG-006: what a shadow does with calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use eventbus_trait::EventBus;
use eventbus_trait::rpc::{Call, Methods, Reply, Service, Serving};
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{about, shadow};
use crate::harness::Mirroring;
use crate::mutants::Defect;
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Calls of either kind; a candidate that swaps replies does so more than once.
const EACH: u64 = 100;
/// How long a call may take, and a candidate that hangs in one be waited for.
const DEADLINE: Duration = Duration::from_secs(2);

/// How often each request was carried out.
type Carried = Arc<Mutex<BTreeMap<Vec<u8>, u32>>>;

/// A defect of the candidate, and what it is counted as.
type Told = (Defect, fn(&Mirroring) -> bool);

/// MIG-006: a call is made on the primary, and its caller gets the primary's answer, whatever the
/// candidate does. Only what is marked idempotent is made on the candidate as well, and counted by what
/// that answered; the others are counted as not mirrored.
pub(crate) async fn mig_006_calls_are_the_primarys(context: Context) -> Checked {
    let told: [Told; 5] = [
        (Defect::None, |calls| calls.same == EACH),
        (Defect::SwapsReplies, |calls| {
            calls.differs > 0 && calls.same + calls.differs == EACH
        }),
        (Defect::RefusesAll, |calls| calls.failed == EACH),
        (Defect::Panics, |calls| calls.failed == EACH),
        (Defect::Hangs, |calls| calls.failed == EACH),
    ];
    for (defect, is_told) in told {
        let through = calls_beside(&context, defect, is_told).await;
        through.map_err(|unmet| match unmet {
            Unmet::Broken(_) => about(defect, &unmet),
            other => other,
        })?;
    }
    Ok(())
}

async fn calls_beside(
    context: &Context,
    defect: Defect,
    is_told: fn(&Mirroring) -> bool,
) -> Checked {
    let (shadow, _) = shadow(context, defect).await?;
    let stage = &shadow.stage;
    let name = format!("{}--rpc1", context.client_name());
    let carried = Carried::default();
    let bus = stage.bus();
    let serving = stage
        .wait("a service", serve(&bus, &name, &carried))
        .await??;
    for kind in ["effect", "idempotent"] {
        let calls = (0..EACH).map(|n| {
            let request = format!("{kind} {n}");
            let call = Call::new(&*name, "echo", request.clone().into_bytes()).deadline(DEADLINE);
            let call = match kind {
                "idempotent" => call.idempotent(),
                _ => call,
            };
            let bus = &bus;
            async move { (request, bus.call(call).await) }
        });
        for (request, end) in stage.wait("every call to end", join_all(calls)).await? {
            let bytes = end?.payload.bytes()?;
            ensure_eq!(&bytes[..], request.as_bytes(), "a reply");
        }
    }
    let calls = shadow.compare().await.calls;
    ensure!(calls.adds_up(), "calls do not add up: {calls:?}");
    ensure_eq!(
        (calls.made, calls.unmirrored),
        (2 * EACH, EACH),
        "calls, and those not mirrored"
    );
    ensure!(is_told(&calls), "what came of them is not told: {calls:?}");
    for (request, times) in &*carried.lock() {
        let twice = request.starts_with(b"idempotent");
        ensure!(
            *times <= 1 + u32::from(twice),
            "a call was carried out {times} times"
        );
    }
    drop(serving);
    context.close(shadow.stage).await
}

async fn serve(
    bus: &Arc<dyn EventBus>,
    name: &str,
    carried: &Carried,
) -> Result<Serving, eventbus_trait::rpc::ServeError> {
    let carried = Arc::clone(carried);
    let echo = move |call: Call| {
        let carried = Arc::clone(&carried);
        async move {
            let bytes = call.payload.bytes()?;
            *carried.lock().entry(bytes.to_vec()).or_default() += 1;
            Ok(Reply::new(call.payload))
        }
    };
    let service = Service::new(name, Methods::new().on("echo", echo));
    bus.serve(service.concurrency(1_000)).await
}
