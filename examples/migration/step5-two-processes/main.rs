//! A process watcher. Two collectors look at `/proc` and tell what they see; an agent prints it,
//! counts it, and gives the alarm when a process goes by another name than its program. `agent` is
//! the agent, `collect NAME` the collectors, which watch the processes whose name begins so; each
//! goes on until its standard input ends.

#[path = "../proc.rs"]
mod proc;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use eventbus::shadow::ShadowBus;
use eventbus::{Config, Event, EventBus, Phase, PublishError, Receipt, ReceiptError};
use eventbus::{Subscribe, Subscription};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use proc::Process;

type Failure = Box<dyn Error + Send + Sync>;

/// Time between two looks at `/proc`.
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a confirmation may take before it is taken for granted.
const CONFIRM: Duration = Duration::from_secs(5);
/// How long a comparison may take to be decided, at the end.
const SETTLE: Duration = Duration::from_secs(10);

/// What a collector has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Seen {
    New(Process),
    Runs(Process, String),
    Exit(Process),
}

impl Seen {
    fn topic(&self) -> &'static str {
        match self {
            Self::New(_) => "events.process.new",
            Self::Runs(..) => "events.process.runs",
            Self::Exit(_) => "events.process.exit",
        }
    }
}

/// A bus, and the runtime that it needs, for threads.
struct Bus {
    bus: Arc<dyn EventBus>,
    shadow: Option<Arc<ShadowBus>>,
    runtime: Runtime,
}

impl Bus {
    fn open() -> Result<Self, Failure> {
        let config = Config::load()?;
        let runtime = Runtime::new()?;
        let mut shadow = None;
        let bus: Arc<dyn EventBus> = match &config.phase {
            Phase::Shadow { .. } => {
                let opened = runtime.block_on(eventbus::open_shadow(&config))?;
                shadow = Some(Arc::clone(&opened));
                opened
            }
            _ => runtime.block_on(eventbus::open(&config))?,
        };
        eprintln!("on {}", bus.backend());
        Ok(Self {
            bus,
            shadow,
            runtime,
        })
    }

    fn subscribe(&self) -> Result<Subscription, Failure> {
        let all = Subscribe::to("events.process.#")?
            .named("agent")
            .capacity(1024);
        Ok(self.runtime.block_on(self.bus.subscribe(all))?)
    }

    /// Waits for room as long as it takes, as the channels did, but says so. Whether anybody has it:
    /// if not, the collector tells it again at its next look.
    fn publish(&self, seen: &Seen) -> Result<bool, Failure> {
        let mut event = Event::typed(seen.topic(), seen.clone())?;
        loop {
            match self.runtime.block_on(self.bus.publish(event)) {
                Ok(receipt) => return self.confirmed(&receipt),
                Err(refused) => {
                    if !matches!(refused.reason(), PublishError::Backpressure { .. }) {
                        return Err(refused.into());
                    }
                    eprintln!("{refused}");
                    event = refused.into_event();
                }
            }
        }
    }

    fn confirmed(&self, receipt: &Receipt) -> Result<bool, Failure> {
        let heard = match self.runtime.block_on(receipt.confirmed(CONFIRM)) {
            Ok(confirmation) => confirmation.deliveries > 0,
            // It is sent again until it arrives, or its subscription is given up.
            Err(ReceiptError::Unconfirmed { .. }) => true,
            Err(ReceiptError::Lost { .. }) => false,
            Err(reason) => return Err(reason.into()),
        };
        if !heard {
            eprintln!("nobody listens");
        }
        Ok(heard)
    }

    /// What the shadow has found.
    fn compared(&self) {
        let Some(shadow) = &self.shadow else { return };
        self.runtime.block_on(shadow.settle(SETTLE));
        let report = shadow.report();
        eprintln!(
            "{} and {}: {}; of {} deliveries {} matched, {} unverified; {} divergences",
            report.primary,
            report.candidate,
            report.verdict,
            report.expected,
            report.matched,
            report.unverified,
            report.diverged()
        );
        for divergence in &report.divergences {
            eprintln!("{divergence:?}");
        }
    }

    fn close(&self) {
        self.compared();
        said(
            self.runtime
                .block_on(self.bus.shutdown())
                .map_err(Failure::from),
        );
    }

    /// What the bus has counted.
    fn counted(&self) {
        let bus = self.bus.stats();
        eprintln!(
            "published {}, refused {}, sent again {}, given up {}, connected again {}",
            bus.published, bus.refused, bus.resends, bus.given_up, bus.reconnects
        );
    }
}

/// What a subscription has counted.
fn counted(events: &Subscription) {
    let agent = events.stats();
    eprintln!(
        "matched {}, delivered {}, dropped {}, queued {}",
        agent.matched, agent.delivered, agent.dropped, agent.queued
    );
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Failure> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["agent"] => listen(),
        ["collect", name] => watch(name),
        _ => Err("which part? `agent`, or `collect` and the beginning of a name".into()),
    }
}

/// The process of the agent.
fn listen() -> Result<(), Failure> {
    let bus = Bus::open()?;
    let mut events = bus.subscribe()?;
    thread::scope(|agents| {
        agents.spawn(|| said(agent(&mut events)));
        until_input_ends();
        bus.close();
    });
    counted(&events);
    Ok(())
}

/// The process of the collectors.
fn watch(name: &str) -> Result<(), Failure> {
    let bus = Bus::open()?;
    collect(&bus, name);
    bus.close();
    bus.counted();
    Ok(())
}

fn until_input_ends() {
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}

/// Runs the collectors until standard input ends.
fn collect(bus: &Bus, name: &str) {
    let (stop, stopped) = bounded(0);
    thread::scope(|collectors| {
        collectors.spawn(|| said(lives(bus, name, &stopped)));
        collectors.spawn(|| said(programs(bus, name, &stopped)));
        until_input_ends();
        drop(stop);
    });
}

/// Tells who begins and who ends.
fn lives(bus: &Bus, name: &str, stopped: &Receiver<()>) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    while goes_on(stopped) {
        let now = proc::named(name)?;
        for process in &now - &known {
            if bus.publish(&Seen::New(process.clone()))? {
                known.insert(process);
            }
        }
        for process in &known - &now {
            if bus.publish(&Seen::Exit(process.clone()))? {
                known.remove(&process);
            }
        }
    }
    Ok(())
}

/// Tells who runs which program.
fn programs(bus: &Bus, name: &str, stopped: &Receiver<()>) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    while goes_on(stopped) {
        let now = proc::named(name)?;
        known.retain(|process| now.contains(process));
        for process in now {
            let program = process.program().filter(|_| !known.contains(&process));
            if let Some(program) = program
                && bus.publish(&Seen::Runs(process.clone(), program))?
            {
                known.insert(process);
            }
        }
    }
    Ok(())
}

/// Waits for the next look; says whether there is one.
fn goes_on(stopped: &Receiver<()>) -> bool {
    stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout)
}

/// Says why a thread has ended, unless all is well.
fn said(ended: Result<(), Failure>) {
    if let Err(reason) = ended {
        eprintln!("{reason}");
    }
}

/// Prints, counts, and gives the alarm, until the bus is closed.
fn agent(events: &mut Subscription) -> Result<(), Failure> {
    let (mut count, mut alerts) = (0, 0);
    while let Some(event) = events.recv_blocking() {
        count += 1;
        alerts += u64::from(told(&*event.decode_json::<Seen>()?));
    }
    println!("counted {count} events, {alerts} alerts");
    Ok(())
}

/// Prints what was seen; says whether that was an alert.
fn told(seen: &Seen) -> bool {
    match seen {
        Seen::New(process) => println!("new {} {}", process.pid, process.name),
        Seen::Exit(process) => println!("exit {} {}", process.pid, process.name),
        Seen::Runs(process, program) => {
            println!("runs {} {program}", process.pid);
            if process.pretends(program) {
                println!("alert {} {} is {program}", process.pid, process.name);
                return true;
            }
        }
    }
    false
}
