//! Opening the bus that the configuration names, as the agent or as a collector in a process of its own.

use std::fs::metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use eventbus::{BrokerMode, Config, EventBus, Phase};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::Failure;
use crate::plain::say;

/// A broker that is there has answered by then.
const AT_ONCE: Duration = Duration::from_secs(1);

/// As configured, or at a socket that both programs find without being told.
fn config() -> Result<Config, Failure> {
    let mut figment = Config::figment()?;
    if !figment.contains("phase") && !figment.contains("rollout") {
        let socket = socket()?;
        figment = figment.merge(("phase", format!("unix://{}", socket.display())));
    }
    Ok(Config::from_figment(&figment)?)
}

fn socket() -> Result<PathBuf, Failure> {
    let uid = metadata("/proc/self")?.uid();
    Ok(std::env::temp_dir().join(format!("eventbus-agent-{uid}/bus.sock")))
}

/// The agent's bus, and whether other processes can come to it.
pub(crate) async fn open_agent() -> Result<(Arc<dyn EventBus>, bool), Failure> {
    let mut config = config()?;
    config.name.get_or_insert_with(|| "agent".to_owned());
    let alone = config.rollout.is_none() && !is_shared(&config.phase);
    let bus = eventbus::open(&config).await?;
    println!("agent on {}", place(&config));
    Ok((bus, !alone))
}

/// A collector's bus: somebody else's broker, which may come later, or come back.
pub(crate) async fn open_collector(name: &str) -> Result<Arc<dyn EventBus>, Failure> {
    let mut config = config()?;
    if config.rollout.is_none() && !is_shared(&config.phase) {
        let text = format!(
            "phase `{}` is inside one process, where the agent hosts the monitor itself; for a process of \
             its own it needs unix:///path or tcp://host:port",
            config.phase
        );
        return Err(text.into());
    }
    config.name = Some(name.to_owned());
    config.broker.mode = BrokerMode::External;
    config.wait = true;
    let place = place(&config);
    println!("{name} on {place}");
    let opening = eventbus::open(&config);
    let mut opening = pin!(opening);
    if let Ok(opened) = timeout(AT_ONCE, &mut opening).await {
        return Ok(opened?);
    }
    say(format_args!(
        "{name} waits for a broker on {place}, such as the agent's, and serves when it is there"
    ));
    Ok(opening.await?)
}

/// Where a bus is, for people.
fn place(config: &Config) -> String {
    match &config.rollout {
        Some(_) => "a rollout".to_owned(),
        None => config.phase.to_string(),
    }
}

fn is_shared(phase: &Phase) -> bool {
    match phase {
        Phase::Unix(_) | Phase::Tcp { .. } => true,
        Phase::Shadow { primary, .. } => is_shared(primary),
        _ => false,
    }
}

/// Waits until somebody wants this program to end.
pub(crate) async fn interrupted() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed?,
        _ = terminate.recv() => {}
    }
    Ok(())
}
