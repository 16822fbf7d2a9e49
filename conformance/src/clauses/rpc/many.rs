//! 10,000 calls, 100 at a time, whose callee ends in the middle: each ends once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventbus_trait::EventBus;
use eventbus_trait::rpc::{Call, CallError};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::scene::number;
use crate::stage::Stage;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// Calls in all, those under way at once, and those answered when the callee ends.
const CALLS: u64 = 10_000;
const AT_ONCE: usize = 100;
const HALF: u64 = CALLS / 2;
/// Calls that are in handlers when it ends, whenever that is.
const HANGING: u64 = 20;

#[derive(Default)]
struct Ends {
    next: AtomicU64,
    replied: AtomicU64,
    gone: AtomicU64,
    /// How often each has ended.
    each: Mutex<BTreeMap<u64, u32>>,
}

/// Makes the calls of `echo`, and some of `hang`, and ends their callee by `ending` when half of them
/// are answered. Each ends once: with its own reply, because its callee went away, or because there is
/// no such service any more. Of none is a slot left at its caller.
pub(super) async fn calls_whose_callee_ends(
    stage: &Stage,
    caller: &Arc<dyn EventBus>,
    service: &str,
    ending: impl Future<Output = Checked>,
) -> Checked {
    let before = caller.stats().calls;
    let ends = Arc::<Ends>::default();
    let longest = stage.patience() * 2;
    let mut callers = JoinSet::new();
    for n in 0..HANGING {
        let (caller, ends, call) = (
            Arc::clone(caller),
            Arc::clone(&ends),
            Call::new(service, "hang", "").deadline(longest),
        );
        callers
            .spawn(async move { ended(&ends, CALLS + n, caller.call(call).await.map(|_| None)) });
    }
    for _ in 0..AT_ONCE {
        let (caller, ends, service) = (Arc::clone(caller), Arc::clone(&ends), service.to_owned());
        callers.spawn(async move {
            loop {
                let n = ends.next.fetch_add(1, Ordering::SeqCst);
                if n >= CALLS {
                    return Ok(());
                }
                let call = Call::new(&*service, "echo", n.to_string().into_bytes());
                let end = caller.call(call.deadline(longest)).await;
                let bytes = end.map(|reply| reply.payload.bytes().ok());
                ended(
                    &ends,
                    n,
                    bytes.map(|bytes| bytes.and_then(|bytes| number(&bytes))),
                )?;
            }
        });
    }
    let half = || ends.replied.load(Ordering::SeqCst) >= HALF;
    stage
        .until("half of the calls to be answered", half)
        .await?;
    ending.await?;
    let all = async {
        while let Some(caller) = callers.join_next().await {
            caller.map_err(Unmet::broken)??;
        }
        Ok::<_, Unmet>(())
    };
    stage.wait("every call to end", all).await??;
    let each = ends.each.lock().clone();
    ensure_eq!(each.len() as u64, CALLS + HANGING, "calls that ended");
    ensure!(each.values().all(|times| *times == 1), "a call ended twice");
    let gone = ends.gone.load(Ordering::SeqCst);
    ensure!(
        gone >= HANGING,
        "{gone} calls were told that their callee went away"
    );
    let calls = caller.stats().calls;
    ensure_eq!(
        calls.outstanding,
        before.outstanding,
        "slots that are left at the caller"
    );
    let counted = [
        (calls.made - before.made, CALLS + HANGING),
        (
            calls.replied - before.replied,
            ends.replied.load(Ordering::SeqCst),
        ),
        (calls.cancelled, before.cancelled),
    ];
    ensure!(
        counted.iter().all(|(told, due)| told == due),
        "counted and due: {counted:?}"
    );
    Ok(())
}

fn ended(ends: &Ends, n: u64, end: Result<Option<u64>, CallError>) -> Checked {
    *ends.each.lock().entry(n).or_default() += 1;
    match end {
        Ok(own) if own == Some(n) => ends.replied.fetch_add(1, Ordering::SeqCst),
        Err(CallError::CalleeGone { .. }) => ends.gone.fetch_add(1, Ordering::SeqCst),
        Err(CallError::NoService { .. }) => 0,
        other => return Err(Unmet::broken(format_args!("call {n} ended with {other:?}"))),
    };
    Ok(())
}
