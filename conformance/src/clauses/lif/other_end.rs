//! LIF-006 to LIF-008: the other end is dead, silent, or not there.

use std::time::{Duration, Instant};

use eventbus_trait::{BusState, ConnectError};

use crate::check;
use crate::harness::{Fault, Opening, Refusal};
use crate::peer::Part;
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// LIF-006, where a client can die: the name of one that was killed can be had again.
pub(super) async fn a_dead_clients_name_is_free(context: &Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let name = || "mortal".to_owned();
    let mut peer = faulty.start_peer(Part::Idler { name: name() }).await?;
    peer.kill()?;
    let opening = Opening {
        name: Some(name()),
        ..Opening::default()
    };
    // At once: the handle itself tries again while the holder may be dead.
    faulty.open(opening).await.map(|_| ())
}

/// LIF-007: a handle notices within two keepalives that its broker has stopped answering and says
/// so; it is connected again once it is answered. What the broker notices is not looked at here.
pub(crate) async fn lif_007_a_silent_peer_is_noticed(context: Context) -> Checked {
    /// For the machine, which may have other things to do.
    const SLACK: Duration = Duration::from_secs(2);
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    let mut state = stage.bus().state();
    ensure_eq!(
        *state.borrow_and_update(),
        BusState::Connected,
        "the state before"
    );
    let began = Instant::now();
    faulty.strike(Fault::Partition).await?;
    let noticed = stage.wait("the handle to notice", state.changed()).await?;
    let took = began.elapsed();
    noticed.map_err(|_| Unmet::broken("the handle's state will never change"))?;
    ensure!(
        !matches!(*state.borrow(), BusState::Connected),
        "the handle is still connected"
    );
    if faulty.struck() == 0 {
        return Err(Unmet::unexercised("nothing was held back"));
    }
    let limit = faulty.keepalive() * 2 + SLACK;
    ensure!(
        took <= limit,
        "noticed after {took:?}, not within {limit:?}"
    );
    faulty.heal().await?;
    let back = state.wait_for(|state| *state == BusState::Connected);
    let back = stage.wait("the handle to be connected again", back).await?;
    back.map(|_| ()).map_err(Unmet::broken)
}

/// LIF-008: where nobody listens, opening fails with a clear error; asked to wait, it waits, and is
/// there when somebody does.
pub(crate) async fn lif_008_nobody_listens(context: Context) -> Checked {
    let faulty = context.fault_stage().await?;
    let stage = &faulty.stage;
    faulty.strike(Fault::BrokerKilled).await?;
    let opening = faulty.try_open(Opening::default());
    let error = match stage.wait("an error", opening).await? {
        Ok(_) => return Err(Unmet::broken("opened a bus where nobody listens")),
        Err(error) => error,
    };
    ensure!(
        matches!(
            error,
            Refusal::Connect(ConnectError::Unreachable { .. } | ConnectError::Timeout { .. })
        ),
        "not clear: {error}"
    );
    let wait = true;
    let waiting = faulty.try_open(Opening {
        wait,
        ..Opening::default()
    });
    let healing = async {
        let nothing = std::future::pending::<()>();
        let _ = tokio::time::timeout(faulty.keepalive(), nothing).await;
        faulty.heal().await
    };
    let both = futures_util::future::join(waiting, healing);
    let (opened, healed) = stage.wait("a bus that waited", both).await?;
    healed?;
    let bus = opened.map_err(|error| Unmet::broken(format_args!("did not wait: {error}")))?;
    let author = stage.author(&bus);
    let mut readers = vec![stage.reader(&bus, "a.#").await?];
    stage
        .while_reading(&mut readers, author.insist_over(&["a.b"], 50))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    check::lost(&stage.history()).verdict()
}
