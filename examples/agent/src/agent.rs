//! The agent: knows who is there, counts what they tell, and asks them for tasks.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use control::client::CollectorClient;
use control::dispatch::{self, Dispatcher, Outcome, TaskSpec};
use control::member::Activity;
use control::registry::{Change, Health, Member, Registry, Rules};
use control::results::{self, Gather, Wanted};
use control::shutdown::Coordinator;
use eventbus::{Correlation, EventBus, PublisherId, Subscribe};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::hash::{HashRequest, Hashed};
use crate::plain::{complain, say};
use crate::procmond::{self, GONE, NEW};
use crate::reputation::Reputation;
use crate::{Failure, HASH_EXECUTABLE, KIND, setup};

/// What it listens to.
const EVENTS: &str = "events.process.#";
/// How long the first task may wait for somebody to come who does it.
const FIRST_WITHIN: Duration = Duration::from_secs(300);
/// How long everybody may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// Heartbeats of the monitor that it hosts itself.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Has the broker, unless there is one, and asks the members of the bus for tasks. It reads commands from
/// its standard input: `members`, `hash PID …`, `shutdown` (of all members), `quit`.
#[derive(Debug, Parser)]
#[command(name = "agent")]
struct Args {
    /// Prints a line for so many events.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How long a task may take that was asked for.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

/// Runs until it is told to quit, or interrupted.
///
/// # Errors
/// Why it does not run, in a sentence.
pub async fn main() -> Result<(), Failure> {
    let args = Args::parse();
    let (bus, shared) = setup::open_agent().await?;
    let registry = Registry::start(Arc::clone(&bus), Rules::default()).await?;
    let hosted = if shared {
        None
    } else {
        let home = bus.connect(Some("procmond")).await?;
        Some(procmond::serve(home, "procmond", HEARTBEAT, None).await?)
    };
    let agent = Arc::new(Agent {
        dispatcher: Dispatcher::start(
            Arc::clone(&bus),
            "agent",
            &registry,
            dispatch::Options::default(),
        )
        .await?,
        gather: Gather::start(Arc::clone(&bus), results::Options::default()).await?,
        bus,
        registry,
        deadline: args.deadline,
    });
    // A first task, for whoever comes first.
    let own = i32::try_from(std::process::id())?;
    tokio::spawn(Arc::clone(&agent).hash(vec![own], true));
    let listened = agent.listen(args.every).await;
    if let Some(host) = hosted {
        host.shutdown(END_WITHIN).await;
    }
    agent.bus.shutdown().await?;
    listened
}

struct Agent {
    bus: Arc<dyn EventBus>,
    registry: Registry,
    dispatcher: Dispatcher,
    gather: Gather,
    deadline: Duration,
}

impl Agent {
    async fn listen(self: &Arc<Self>, every: u64) -> Result<(), Failure> {
        let mut events = self.bus.subscribe(Subscribe::to(EVENTS)?).await?;
        let mut changes = self.registry.watch();
        let mut commands = commands();
        let mut interrupted = std::pin::pin!(setup::interrupted());
        let mut counts = BTreeMap::<&str, u64>::new();
        let mut seen = 0;
        loop {
            tokio::select! {
                ended = &mut interrupted => return ended,
                event = events.recv() => {
                    let event = event.ok_or("the bus was closed")?;
                    seen += 1;
                    // Others choose their topics, and could choose very many.
                    let topic = match event.topic().as_str() {
                        NEW => NEW,
                        GONE => GONE,
                        _ => "other",
                    };
                    *counts.entry(topic).or_default() += 1;
                    if seen % every == 0 {
                        say(format_args!("{seen} events: {counts:?}"));
                    }
                }
                change = changes.next() => {
                    let change = change.ok_or("the bus was closed")?;
                    self.changed(change);
                }
                Some(command) = commands.recv() => {
                    if !self.obey(&command) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn changed(self: &Arc<Self>, change: Change) {
        match change {
            Change::Resync(members) => members.into_iter().for_each(|m| self.joined(&m)),
            Change::Joined(member) => self.joined(&member),
            Change::Degraded(member) => {
                say(format_args!(
                    "{} is degraded: {}",
                    member.identity.name,
                    health(&member.health)
                ));
            }
            Change::Recovered(member) => {
                say(format_args!("{} has recovered", member.identity.name))
            }
            Change::Changed(member) => {
                say(format_args!(
                    "{} is {} now",
                    member.identity.name,
                    activity(member.activity)
                ));
            }
            Change::Removed { member, reason } => {
                say(format_args!("{} {reason}", member.identity.name))
            }
            _ => {}
        }
    }

    /// Has a monitor that does nothing begin.
    fn joined(self: &Arc<Self>, member: &Member) {
        let identity = &member.identity;
        say(format_args!(
            "{} has joined: {}",
            identity.name,
            describe(member)
        ));
        if identity.kind != KIND || member.activity != Activity::Idle {
            return;
        }
        let client = CollectorClient::new(Arc::clone(&self.bus), &identity.name);
        tokio::spawn(async move {
            if let Err(error) = client.start_collection(&Value::Null).await {
                complain(format_args!("{error}"));
            }
        });
    }

    /// Does what somebody has typed; says whether to go on.
    fn obey(self: &Arc<Self>, command: &str) -> bool {
        let words: Vec<_> = command.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["quit"] => return false,
            ["members"] => {
                for member in self.registry.members() {
                    say(format_args!(
                        "{}: {}",
                        member.identity.name,
                        describe(&member)
                    ));
                }
            }
            ["hash", ref pids @ ..] if !pids.is_empty() => {
                let number = |pid: &&str| pid.parse().map_err(|_| (*pid).to_owned());
                match pids.iter().map(number).collect() {
                    Ok(pids) => drop(tokio::spawn(Arc::clone(self).hash(pids, false))),
                    Err(word) => complain(format_args!("`{word}` is no process id")),
                }
            }
            ["shutdown"] => drop(tokio::spawn(Arc::clone(self).shut_down())),
            _ => complain(format_args!(
                "no command `{command}`; there are: members, hash PID …, shutdown, quit"
            )),
        }
        true
    }

    /// Has executables hashed, each by whoever has least to do, and gathers what comes of it.
    async fn hash(self: Arc<Self>, pids: Vec<i32>, patient: bool) {
        let whole = Correlation::new(PublisherId::random().to_string());
        let id = |pid: i32| format!("{}/{pid}", whole.id);
        let ids: Vec<_> = pids.iter().map(|pid| id(*pid)).collect();
        let deadline = if patient { FIRST_WITHIN } else { self.deadline };
        let wanted = Wanted::ids(&whole.id, ids).within(deadline);
        let gathering = match self.gather.begin(wanted) {
            Ok(gathering) => gathering,
            Err(error) => return complain(format_args!("{error}")),
        };
        let each = pids.iter().map(|pid| {
            let (agent, whole, id) = (Arc::clone(&self), whole.clone(), id(*pid));
            let pid = *pid;
            tokio::spawn(async move {
                let outcome = agent.task(pid, id, &whole, patient).await;
                let done = outcome.is_ok();
                match outcome {
                    Ok(text) => say(format_args!("{text}")),
                    Err(error) => say(format_args!("hash of {pid} failed: {error}")),
                }
                done
            })
        });
        let mut done = 0;
        for task in each.collect::<Vec<_>>() {
            done += usize::from(task.await.unwrap_or(false));
        }
        if done < pids.len() {
            return say(format_args!("{done} of {} hashed", pids.len()));
        }
        let gathered = gathering.gathered().await;
        say(format_args!(
            "{done} of {} hashed, {} gathered",
            pids.len(),
            gathered.parts.len()
        ));
    }

    async fn task(
        &self,
        pid: i32,
        id: String,
        whole: &Correlation,
        patient: bool,
    ) -> Result<String, Failure> {
        let mut spec = TaskSpec::json(HASH_EXECUTABLE, &HashRequest { pid })?
            .id(id)
            .correlation(whole)
            .deadline(self.deadline);
        if patient {
            spec = spec.wait_for_member().deadline(FIRST_WITHIN);
        }
        let outcome: Outcome = self.dispatcher.submit(spec)?.outcome().await;
        let done = outcome?;
        let hashed: Hashed = serde_json::from_slice(&done.result.bytes()?)?;
        let said = match &hashed.reputation {
            None => String::new(),
            Some(Reputation::Said(said)) => format!(", reputation {said}"),
            Some(Reputation::Unavailable(why)) => format!(", no reputation: {why}"),
        };
        Ok(format!(
            "{} {} {} by {}, attempt {}{said}",
            hashed.sha256,
            hashed.pid,
            hashed.executable.display(),
            done.member,
            done.attempt
        ))
    }

    /// Has everybody end, those first that publish.
    async fn shut_down(self: Arc<Self>) {
        let coordinator = Coordinator::new(Arc::clone(&self.bus)).deadline(END_WITHIN);
        match coordinator.shut_down(&self.registry.members()).await {
            Ok(report) => {
                for member in &report.members {
                    say(format_args!("{} {}", member.name, member.end));
                }
                say(format_args!("members shut down: {}", report.members.len()));
            }
            Err(error) => complain(format_args!("{error}")),
        }
    }
}

fn describe(member: &Member) -> String {
    let identity = &member.identity;
    let can: Vec<_> = identity.capabilities.iter().map(String::as_str).collect();
    format!(
        "{} {}, {}, {}, can {}",
        identity.kind,
        identity.version,
        activity(member.activity),
        health(&member.health),
        can.join(" ")
    )
}

fn activity(of: Activity) -> &'static str {
    match of {
        Activity::Idle => "idle",
        Activity::Collecting => "collecting",
        Activity::Draining => "draining",
        Activity::Leaving => "leaving",
    }
}

fn health(of: &Health) -> String {
    match of {
        Health::Degraded {
            ailment: Some(ailment),
            ..
        } => format!("not well: {ailment}"),
        Health::Degraded { missed, .. } => format!("not heard for {missed} heartbeats"),
        _ => "well".to_owned(),
    }
}

/// What is typed, line by line. The end of input is no end: who has none goes on.
fn commands() -> mpsc::Receiver<String> {
    let (sender, commands) = mpsc::channel(16);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    commands
}
