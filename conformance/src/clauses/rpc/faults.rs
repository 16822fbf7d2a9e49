//! RPC-001 and RPC-008 through faults: processes that are killed, and connections that are hurt, while
//! calls are under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use eventbus_trait::EventBus;
use eventbus_trait::rpc::{Call, CallError, Service};
use tokio::task::JoinSet;

use super::ends::{Counting, Handled};
use super::many::calls_whose_callee_ends;
use super::scene::{Census, Gate, methods, number};
use crate::harness::{Fault, Opening, Way};
use crate::peer::Part;
use crate::stage::{Context, Faulty};
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// How long a call waits while connections are hurt.
const DEADLINE: Duration = Duration::from_secs(1);
/// Calls under way at once while connections are hurt.
const CALLERS: usize = 10;
/// Calls that end before a fault strikes, and after it is over.
const AROUND: u64 = 100;

/// RPC-008, of a process: it is killed in the middle of calls from a handle at its broker, and so is
/// the next one that serves the name; the third answers, and has nothing of the calls of the others.
pub(super) async fn a_process_is_killed(context: &Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let caller = faulty.open(Opening::default()).await?;
    let name = format!("{}--rpc1", context.client_name());
    let callee = Part::Callee { name: name.clone() };
    for caller in [&caller, &stage.bus()] {
        let mut peer = faulty.start_peer(callee.clone()).await?;
        let killing = async { peer.kill().map(|_| ()) };
        calls_whose_callee_ends(stage, caller, &name, killing).await?;
    }
    let _third = faulty.start_peer(callee).await?;
    let count = Call::new(&*name, "count", "").deadline(stage.patience());
    let count = stage
        .wait("the next life to answer", caller.call(count))
        .await??;
    let count = number(&count.payload.bytes()?);
    ensure_eq!(count, Some(1), "calls at the next life, this one included");
    Ok(())
}

/// RPC-001, through faults: whatever becomes of the broker or of the caller's connection, each call ends
/// once, none is carried out twice, and calls are answered again afterwards.
pub(super) async fn connections_are_hurt(context: &Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let callee = faulty.open(Opening::default()).await?;
    let (census, handled) = (Census::default(), Handled::default());
    let counting = Counting {
        inner: methods(&census, &Gate::closed()),
        handled: handled.clone(),
    };
    let name = format!("{}--rpc1", context.client_name());
    let service = Service::new(&*name, counting).concurrency(1_000);
    let serving = callee.serve(service.clone());
    let _serving = stage.wait("a service", serving).await??;
    let calls = Arc::new(Calls {
        caller: stage.bus(),
        service: name,
        next: AtomicU64::new(0),
        ended: AtomicU64::new(0),
        replied: AtomicU64::new(0),
    });
    for fault in [
        Fault::Reset,
        Fault::Torn(Way::Up),
        Fault::Torn(Way::Down),
        Fault::Partition,
        Fault::BrokerKilled,
    ] {
        let through = calls_through(&faulty, fault, &calls).await;
        through.map_err(|unmet| match unmet {
            Unmet::Broken(text) => Unmet::Broken(format!("{fault:?}: {text}")),
            other => other,
        })?;
    }
    let quiet = || {
        let served = service.desk().stats();
        calls.caller.stats().calls.outstanding + served.running + served.waiting == 0
    };
    stage.until("every slot to be given back", quiet).await?;
    let (told, served) = (calls.caller.stats().calls, service.desk().stats());
    ensure!(
        served.is_conserved(),
        "calls of a service do not add up: {served:?}"
    );
    let ended = told.replied + told.failed + told.cancelled;
    ensure_eq!(told.made, ended, "calls made, and ended");
    for (number, times) in handled.each() {
        ensure_eq!(times, 1, "times that call {number} was carried out");
    }
    Ok(())
}

/// What calls go on through a fault.
struct Calls {
    caller: Arc<dyn EventBus>,
    service: String,
    next: AtomicU64,
    ended: AtomicU64,
    replied: AtomicU64,
}

impl Calls {
    async fn make(&self) -> Checked {
        let n = self.next.fetch_add(1, Ordering::SeqCst);
        let call = Call::new(&*self.service, "echo", n.to_string().into_bytes());
        match self.caller.call(call.deadline(DEADLINE)).await {
            Ok(reply) => {
                let own = number(&reply.payload.bytes()?);
                ensure_eq!(own, Some(n), "the number in a reply");
                self.replied.fetch_add(1, Ordering::SeqCst);
            }
            Err(
                CallError::Disconnected { .. }
                | CallError::Deadline { .. }
                | CallError::CalleeGone { .. }
                | CallError::NoService { .. },
            ) => {}
            Err(other) => return Err(Unmet::broken(format_args!("call {n}: {other}"))),
        }
        self.ended.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::SeqCst)
    }
}

/// Calls go on from before a fault until after it.
async fn calls_through(faulty: &Faulty, fault: Fault, calls: &Arc<Calls>) -> Checked {
    let stage = &faulty.stage;
    let over = Arc::<AtomicBool>::default();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (over, calls) = (Arc::clone(&over), Arc::clone(calls));
        callers.spawn(async move {
            while !over.load(Ordering::SeqCst) {
                calls.make().await?;
                // So that a phase without a queue does not keep the others from running.
                tokio::task::yield_now().await;
            }
            Ok::<_, Unmet>(())
        });
    }
    let more = |counter: &AtomicU64| Calls::count(counter) + AROUND;
    let begun = more(&calls.replied);
    stage
        .until("calls to be answered", || {
            Calls::count(&calls.replied) >= begun
        })
        .await?;
    let before = faulty.struck();
    faulty.strike(fault).await?;
    let struck = || faulty.struck() > before;
    stage.until("a fault to strike", struck).await?;
    if fault == Fault::Partition {
        // The fault itself: nothing is concluded from the time having passed.
        let _ = tokio::time::timeout(faulty.keepalive() * 2, std::future::pending::<()>()).await;
    }
    faulty.heal().await?;
    let after = more(&calls.replied);
    stage
        .until("calls to be answered again", || {
            Calls::count(&calls.replied) >= after
        })
        .await?;
    over.store(true, Ordering::SeqCst);
    let all = async {
        while let Some(caller) = callers.join_next().await {
            caller.map_err(Unmet::broken)??;
        }
        Ok::<_, Unmet>(())
    };
    stage.wait("every call to end", all).await?
}
