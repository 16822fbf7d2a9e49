//! A process watcher. Two collectors look at `/proc` and tell what they see; an agent prints it,
//! counts it, and gives the alarm when a process goes by another name than its program. It watches
//! the processes whose name begins with its argument, until its standard input ends.

#[path = "../proc.rs"]
mod proc;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use eventbus::{Config, Event, EventBus, PublishError, Subscribe, Subscription};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use proc::Process;

type Failure = Box<dyn Error + Send + Sync>;

/// Time between two looks at `/proc`.
const INTERVAL: Duration = Duration::from_millis(100);

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
    runtime: Runtime,
}

impl Bus {
    fn open() -> Result<Self, Failure> {
        let config = Config::load()?;
        let runtime = Runtime::new()?;
        let bus = runtime.block_on(eventbus::open(&config))?;
        eprintln!("on {}", bus.backend());
        Ok(Self { bus, runtime })
    }

    fn subscribe(&self) -> Result<Subscription, Failure> {
        let all = Subscribe::to("events.process.#")?
            .named("agent")
            .capacity(1024);
        Ok(self.runtime.block_on(self.bus.subscribe(all))?)
    }

    /// Waits for room as long as it takes, as the channels did, but says so.
    fn publish(&self, seen: &Seen) -> Result<(), Failure> {
        let mut event = Event::typed(seen.topic(), seen.clone())?;
        while let Err(refused) = self.runtime.block_on(self.bus.publish(event)) {
            if !matches!(refused.reason(), PublishError::Backpressure { .. }) {
                return Err(refused.into());
            }
            eprintln!("{refused}");
            event = refused.into_event();
        }
        Ok(())
    }

    fn close(&self) {
        said(
            self.runtime
                .block_on(self.bus.shutdown())
                .map_err(Failure::from),
        );
    }

    /// What the bus has counted.
    fn counted(&self, events: &Subscription) {
        let (bus, agent) = (self.bus.stats(), events.stats());
        eprintln!("published {}, refused {}", bus.published, bus.refused);
        eprintln!(
            "matched {}, delivered {}, dropped {}, queued {}",
            agent.matched, agent.delivered, agent.dropped, agent.queued
        );
    }
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
    let name = std::env::args()
        .nth(1)
        .ok_or("whose name? give its beginning")?;
    let bus = Bus::open()?;
    let mut events = bus.subscribe()?;
    thread::scope(|agents| {
        agents.spawn(|| said(agent(&mut events)));
        collect(&bus, &name);
        bus.close();
    });
    bus.counted(&events);
    Ok(())
}

/// Runs the collectors until standard input ends.
fn collect(bus: &Bus, name: &str) {
    let (stop, stopped) = bounded(0);
    thread::scope(|collectors| {
        collectors.spawn(|| said(lives(bus, name, &stopped)));
        collectors.spawn(|| said(programs(bus, name, &stopped)));
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(stop);
    });
}

/// Tells who begins and who ends.
fn lives(bus: &Bus, name: &str, stopped: &Receiver<()>) -> Result<(), Failure> {
    let mut known = BTreeSet::new();
    while goes_on(stopped) {
        let now = proc::named(name)?;
        for process in &now - &known {
            bus.publish(&Seen::New(process))?;
        }
        for process in &known - &now {
            bus.publish(&Seen::Exit(process))?;
        }
        known = now;
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
            if let Some(program) = program {
                bus.publish(&Seen::Runs(process.clone(), program))?;
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
