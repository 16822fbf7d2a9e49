//! A process watcher. Two collectors look at `/proc` and tell what they see; an agent prints it,
//! counts it, and gives the alarm when a process goes by another name than its program. It watches
//! the processes whose name begins with its argument, until its standard input ends.

#[path = "../proc.rs"]
mod proc;

use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, thread};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use proc::Process;

type Failure = Box<dyn Error + Send + Sync>;

/// Time between two looks at `/proc`.
const INTERVAL: Duration = Duration::from_millis(100);

/// What a collector has seen.
#[derive(Debug, Clone)]
enum Seen {
    New(Process),
    Runs(Process, String),
    Exit(Process),
}

/// Every subscriber has a channel, and gets a copy of everything.
#[derive(Default)]
struct Bus {
    subscribers: Mutex<Vec<Sender<Seen>>>,
}

impl Bus {
    fn subscribe(&self) -> Receiver<Seen> {
        let (sender, receiver) = bounded(1024);
        self.with(|subscribers| subscribers.push(sender));
        receiver
    }

    fn publish(&self, seen: &Seen) {
        self.with(|subscribers| subscribers.retain(|one| one.send(seen.clone()).is_ok()));
    }

    fn close(&self) {
        self.with(Vec::clear);
    }

    fn with(&self, what: impl FnOnce(&mut Vec<Sender<Seen>>)) {
        what(
            &mut self
                .subscribers
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
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
    let bus = Bus::default();
    let events = bus.subscribe();
    thread::scope(|agents| {
        agents.spawn(|| agent(&events));
        collect(&bus, &name);
        bus.close();
    });
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
            bus.publish(&Seen::New(process));
        }
        for process in &known - &now {
            bus.publish(&Seen::Exit(process));
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
                bus.publish(&Seen::Runs(process.clone(), program));
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
fn agent(events: &Receiver<Seen>) {
    let (mut count, mut alerts) = (0, 0);
    for seen in events {
        count += 1;
        alerts += u64::from(told(&seen));
    }
    println!("counted {count} events, {alerts} alerts");
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
