//! A service's own connection: it takes calls and answers them, and is made again when it is lost.
//!
//! Invariant: the drain waits for no handler, because the broker throws out a client whose queue is
//! full.

use std::sync::Arc;
use std::time::Duration;

use busrt::FrameKind;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::port::{ASK_EVERY, Port};
use crate::dial::Dialer;
use crate::session::connection::PING_TOPIC;
use crate::session::life::Life;
use crate::transport::{Client, Frames};
use crate::work::Tasks;

/// Frames handled before other tasks of the runtime get a turn.
const TURN: u32 = 64;
/// How long the broker may take to handle our last word.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// Runs until it is told to stop, and has said what there was to say.
pub(crate) async fn run(port: Arc<Port>, dialer: Arc<Dialer>, tasks: Tasks, first: Client) {
    let mut pauses = dialer.pauses();
    let mut client = Some(first);
    while let Some(next) = client.take() {
        let since = Instant::now();
        match hold(&port, &dialer, &tasks, next).await {
            Ok(()) => break,
            Err(reason) => {
                warn!(service = %port.name(), reason, "connection of a service lost");
                port.offline(&reason);
            }
        }
        if since.elapsed() > dialer.keepalive() {
            pauses = dialer.pauses();
        }
        client = dial(&port, &dialer, &mut pauses).await;
    }
    debug!(service = %port.name(), "connection of a service ended");
}

/// Another client, however long it takes; `None` if told to stop.
async fn dial(
    port: &Port,
    dialer: &Dialer,
    pauses: &mut impl Iterator<Item = Duration>,
) -> Option<Client> {
    loop {
        let at = Instant::now() + pauses.next().unwrap_or_default();
        let made = async {
            sleep_until(at).await;
            dialer.dial_again(port.name()).await
        };
        let mut made = std::pin::pin!(made);
        let made = loop {
            if port.is_stopping() {
                return None;
            }
            tokio::select! {
                made = &mut made => break made,
                () = port.wake.notified() => {}
            }
        };
        match made {
            Ok(client) => {
                info!(service = %port.name(), "served again");
                return Some(client);
            }
            Err(reason) => debug!(service = %port.name(), %reason, "not connected"),
        }
    }
}

/// Uses a client until it is of no use any more.
async fn hold(
    port: &Arc<Port>,
    dialer: &Dialer,
    tasks: &Tasks,
    mut client: Client,
) -> Result<(), String> {
    let Some(frames) = client.take_frames() else {
        return Err("the client is drained already".to_owned());
    };
    let mut drain = tasks.spawn(drain(Arc::clone(port), tasks.clone(), frames));
    let ended = tokio::select! {
        ended = work(port, dialer.keepalive(), &mut client) => ended,
        _ = &mut drain => return Err("the broker closed it".to_owned()),
    };
    drop(client);
    drain.stop().await;
    ended
}

async fn drain(port: Arc<Port>, tasks: Tasks, mut frames: Frames) {
    let mut turn = 0_u32;
    while let Ok(Some(frame)) = frames.next().await {
        if frame.kind() == FrameKind::Message {
            port.on_message(frame.sender(), &frame.payload());
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(TURN) {
            tasks.yield_now().await;
        }
    }
}

async fn work(port: &Port, keepalive: Duration, client: &mut Client) -> Result<(), String> {
    let lost = |reason: busrt::Error| reason.to_string();
    let mut life = Life::new(keepalive, Instant::now());
    let mut ask_at = Instant::now() + ASK_EVERY;
    loop {
        port.send_all(client).await.map_err(lost)?;
        let now = Instant::now();
        if ask_at <= now {
            port.ask(client, now).await.map_err(lost)?;
            ask_at = now + ASK_EVERY;
        }
        if life.is_due(now) {
            show_life(&mut life, client, now).await?;
        }
        client.flush().await.map_err(lost)?;
        if port.is_stopping() && port.has_said_all() {
            leave(client).await;
            return Ok(());
        }
        tokio::select! {
            () = port.wake.notified() => {}
            () = sleep_until(ask_at), if port.is_busy() => {}
            () = sleep_until(life.next) => {}
        }
    }
}

async fn show_life(life: &mut Life, client: &mut Client, now: Instant) -> Result<(), String> {
    let due = life.look(now).map_err(|reason| reason.to_string())?;
    if client.is_in_process() {
        return Ok(());
    }
    let lost = |reason: busrt::Error| reason.to_string();
    client.ping().await.map_err(lost)?;
    if due.ping {
        let answer = client.publish(PING_TOPIC, Vec::new(), true).await;
        life.pinged(now, answer.map_err(lost)?);
    }
    Ok(())
}

/// Waits until the broker has handled everything: it drops what it has not read yet if it finds,
/// writing to us, that we are gone.
async fn leave(client: &mut Client) {
    let left = async {
        if let Ok(Some(answer)) = client.publish(PING_TOPIC, Vec::new(), true).await {
            let _ = client.answered(answer).await;
        }
        client.close().await;
    };
    let _ = timeout(LEAVE_PATIENCE, left).await;
}
