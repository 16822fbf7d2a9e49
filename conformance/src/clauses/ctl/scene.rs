//! A bus with somebody who asks, and as many handles as there are members.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use control::collector::{self, Collector, Host, HostError, serve_collector};
use control::dispatch::{self, Dispatcher};
use control::member::{Activity, Heartbeat, Identity};
use control::registry::{self, Change, Registry, Removal, Rules, Watch};
use control::results::{self, Gather};
use control::tasks::worker::{self, TaskHandler, Worker};
use eventbus_trait::rpc::ServeError;
use eventbus_trait::{Event, EventBus};

use super::parts::Hands;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet};

/// The interval of who is never silent for too long while a clause runs, and so is heard once.
pub(super) const RARELY: Duration = Duration::from_secs(300);
/// The interval of who is to be heard more than once: the shortest that registries take by themselves.
pub(super) const OFTEN: Duration = Duration::from_millis(50);

/// The kind of members whose kind does not matter.
pub(super) const KIND: &str = "ctl";

/// A bus, and what is started on it.
pub(in crate::clauses) struct Scene {
    context: Context,
    pub(in crate::clauses) stage: Stage,
}

impl Scene {
    pub(in crate::clauses) async fn new(context: &Context) -> Checked<Self> {
        let stage = context.stage().await?;
        let context = context.clone();
        Ok(Self { context, stage })
    }

    /// The scene on a stage that was begun otherwise.
    pub(super) fn on(context: &Context, stage: Stage) -> Self {
        let context = context.clone();
        Self { context, stage }
    }

    /// A name that may be had wherever names are bound to certificates.
    pub(in crate::clauses) fn name(&self, of: &str) -> String {
        format!("{}--ctl-{of}", self.context.client_name())
    }

    pub(in crate::clauses) fn identity(&self, of: &str) -> Identity {
        Identity::new(self.name(of), KIND)
    }

    /// A handle for one member.
    pub(in crate::clauses) async fn handle(&self) -> Checked<Arc<dyn EventBus>> {
        self.stage.connect().await
    }

    /// A registry on a handle of its own.
    pub(super) async fn registry(&self, rules: Rules) -> Checked<Registry> {
        let bus = self.handle().await?;
        let starting = Registry::start(bus, self.context.plane().rules(rules));
        Ok(self.stage.wait("a registry", starting).await??)
    }

    /// Serves a member, again and again while a former life may still have its name.
    pub(super) async fn host(
        &self,
        bus: &Arc<dyn EventBus>,
        identity: &Identity,
        collector: Arc<dyn Collector>,
        interval: Duration,
    ) -> Checked<Host> {
        let options = self.context.plane().host(collector::Options {
            interval,
            ..collector::Options::default()
        });
        let serving = async {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            loop {
                beat.tick().await;
                let (bus, identity) = (Arc::clone(bus), identity.clone());
                let one = Arc::clone(&collector);
                match serve_collector(bus, identity, one, options.clone()).await {
                    Err(HostError::Serve(ServeError::InUse { .. })) => {}
                    other => return other,
                }
            }
        };
        Ok(self.stage.wait("a member to be served", serving).await??)
    }

    /// Has a member do tasks, which says nothing of itself by that.
    pub(in crate::clauses) async fn worker(
        &self,
        bus: &Arc<dyn EventBus>,
        identity: &Identity,
        handler: Arc<dyn TaskHandler>,
    ) -> Checked<Worker> {
        let options = self.context.plane().worker(worker::Options::default());
        let starting = Worker::start(Arc::clone(bus), identity, handler, options);
        Ok(self.stage.wait("a worker", starting).await??)
    }

    /// A member that does tasks on a handle of its own, and that was announced.
    pub(in crate::clauses) async fn member(
        &self,
        identity: Identity,
        hands: &Hands,
    ) -> Checked<Member> {
        let home = self.handle().await?;
        let handler = hands.of(&identity.name);
        let worker = self.worker(&home, &identity, handler).await?;
        self.announce(&home, &identity).await?;
        let name = identity.name;
        Ok(Member { name, home, worker })
    }

    /// A gatherer on the first handle.
    pub(in crate::clauses) async fn gather(&self, options: results::Options) -> Checked<Gather> {
        let options = self.context.plane().gather(options);
        let starting = Gather::start(self.stage.bus(), options);
        Ok(self.stage.wait("a gatherer", starting).await??)
    }

    /// Who asks: on the first handle, with a registry of its own.
    pub(in crate::clauses) async fn agent(&self, options: dispatch::Options) -> Checked<Agent> {
        let rules = Rules {
            min_interval: Duration::from_millis(1),
            ..Rules::default()
        };
        let starting = Registry::start(self.stage.bus(), self.context.plane().rules(rules));
        let registry = self.stage.wait("a registry", starting).await??;
        // A member on a slow machine is not to lose a task for that.
        let accept_within = self.stage.patience() * 20;
        let options = dispatch::Options {
            accept_within,
            ..options
        };
        let options = self.context.plane().dispatcher(options);
        let starting = Dispatcher::start(self.stage.bus(), AGENT, &registry, options);
        let dispatcher = self.stage.wait("a dispatcher", starting).await??;
        Ok(Agent {
            stage: self.stage.clone(),
            registry,
            dispatcher,
        })
    }

    /// Says of a member that it is there, for as long as a clause takes.
    pub(in crate::clauses) async fn announce(
        &self,
        bus: &Arc<dyn EventBus>,
        identity: &Identity,
    ) -> Checked {
        Voice::new(bus, identity).promise(RARELY).await
    }

    pub(super) fn coordinator(&self) -> control::shutdown::Coordinator {
        control::shutdown::Coordinator::new(self.stage.bus())
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }
}

/// Somebody who does tasks.
pub(in crate::clauses) struct Member {
    pub(in crate::clauses) name: String,
    pub(in crate::clauses) home: Arc<dyn EventBus>,
    pub(super) worker: Worker,
}

/// The dispatcher's name.
pub(in crate::clauses) const AGENT: &str = "ctl-agent";

/// Somebody who asks.
pub(in crate::clauses) struct Agent {
    stage: Stage,
    pub(super) registry: Registry,
    pub(in crate::clauses) dispatcher: Dispatcher,
}

impl Agent {
    /// Waits until it knows so many members.
    pub(in crate::clauses) async fn knows(&self, members: usize) -> Checked {
        let known = || self.dispatcher.now().members == members;
        self.stage.until("members to be known", known).await
    }
}

/// A member that says what it is told to say, and else is silent.
pub(super) struct Voice {
    bus: Arc<dyn EventBus>,
    heartbeat: Heartbeat,
}

impl Voice {
    pub(super) fn new(bus: &Arc<dyn EventBus>, identity: &Identity) -> Self {
        Self {
            bus: Arc::clone(bus),
            heartbeat: Heartbeat {
                identity: identity.clone(),
                activity: Activity::Idle,
                ailment: None,
                interval_ms: 0,
                number: 0,
            },
        }
    }

    /// Says that it is well, and when it will say so again.
    pub(super) async fn promise(&mut self, interval: Duration) -> Checked {
        self.heartbeat.number += 1;
        self.heartbeat.interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        let event = Event::json(self.heartbeat.topic(), &self.heartbeat)?;
        self.bus.publish(event).await?;
        Ok(())
    }
}

/// What a registry tells.
pub(super) struct Told {
    stage: Stage,
    watch: Watch,
    /// What was told of somebody else while nobody waited for it.
    pub(super) untaken: VecDeque<Change>,
}

impl Told {
    pub(super) fn by(scene: &Scene, registry: &Registry) -> Self {
        Self {
            stage: scene.stage.clone(),
            watch: registry.watch(),
            untaken: VecDeque::new(),
        }
    }

    /// The next change of the member of this name; that it was there when the watch began is one.
    pub(super) async fn next_of(&mut self, name: &str) -> Checked<Change> {
        let next = async {
            loop {
                let own = |change: &Change| about(change) == Some(name);
                if let Some(at) = self.untaken.iter().position(own) {
                    return Ok(self.untaken.remove(at));
                }
                match self.watch.next().await {
                    Some(Change::Resync(members)) => {
                        self.untaken.extend(members.into_iter().map(Change::Joined));
                    }
                    Some(change) => self.untaken.push_back(change),
                    None => return Err(Unmet::broken("a watch of members has ended")),
                }
            }
        };
        let next = self.stage.wait("news of a member", next).await??;
        next.ok_or_else(|| Unmet::broken("no news"))
    }

    pub(super) async fn joined(&mut self, name: &str) -> Checked<registry::Member> {
        match self.next_of(name).await? {
            Change::Joined(member) => Ok(member),
            other => Err(Unmet::broken(format_args!(
                "`{name}` has not joined, but: {other:?}"
            ))),
        }
    }

    pub(super) async fn degraded(&mut self, name: &str) -> Checked<registry::Member> {
        match self.next_of(name).await? {
            Change::Degraded(member) => Ok(member),
            other => Err(Unmet::broken(format_args!(
                "`{name}` is not degraded, but: {other:?}"
            ))),
        }
    }

    /// The end of the member, whatever it does before.
    pub(super) async fn removed(&mut self, name: &str) -> Checked<(registry::Member, Removal)> {
        loop {
            match self.next_of(name).await? {
                Change::Removed { member, reason } => return Ok((member, reason)),
                Change::Joined(member) => {
                    return Err(Unmet::broken(format_args!("joined again: {member:?}")));
                }
                _ => {}
            }
        }
    }
}

/// Whom it is about.
fn about(change: &Change) -> Option<&str> {
    match change {
        Change::Joined(member)
        | Change::Changed(member)
        | Change::Degraded(member)
        | Change::Recovered(member)
        | Change::Removed { member, .. } => Some(&member.identity.name),
        _ => None,
    }
}
