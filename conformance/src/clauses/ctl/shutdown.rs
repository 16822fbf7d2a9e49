//! CTL-009: members that are taken down together.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use control::collector::{Asked, Collector, Host, Refusal};
use control::member::Identity;
use control::registry::{Removal, Rules};
use control::shutdown::End;
use eventbus_trait::EventBus;
use parking_lot::Mutex;
use serde_json::Value;

use super::scene::{RARELY, Scene, Told};
use crate::stage::Context;
use crate::verdict::{Checked, Unmet, ensure, ensure_eq};

/// How long somebody may take who does not come to an end.
const SHORT: Duration = Duration::from_millis(100);

/// CTL-009: members go in the order of their kinds, each when it has finished what it had taken in, or by its
/// deadline, by force; and how each of them ended is told.
pub(crate) async fn ctl_009_members_go_in_order(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let registry = scene.registry(Rules::default()).await?;
    let mut told = Told::by(&scene, &registry);
    let notes = Notes::default();
    let source = Member::new(&scene, "source", "source", &notes).await?;
    let hangs = Member::new(&scene, "hangs", "stuck", &notes).await?;
    let store = Member::new(&scene, "store", "store", &notes).await?;
    let dead = Member::new(&scene, "dead", "dead", &notes).await?;
    for member in [&source, &hangs, &store, &dead] {
        told.joined(&member.identity.name).await?;
    }
    let members = registry.members();
    ensure_eq!(members.len(), 4, "members");
    let ending = dead.home.shutdown();
    scene.stage.wait("a handle to end", ending).await??;

    let coordinator = scene
        .coordinator()
        .deadline(scene.stage.patience() * 2)
        .deadline_of("stuck", SHORT);
    let coordinator = scene
        .context()
        .plane()
        .before(coordinator, "source", "store");
    // What a member has taken in is finished before it goes.
    let work = source.host.intake().enter();
    let work = work.ok_or_else(|| Unmet::broken("a member takes nothing in"))?;
    let held = hangs.host.intake().enter();
    let down = tokio::spawn(async move { coordinator.shut_down(&members).await });
    let asked = || source.host.intake().is_closed();
    scene
        .stage
        .until("a member to take nothing in", asked)
        .await?;
    ensure!(
        source.host.intake().enter().is_none(),
        "it takes something in"
    );
    let forced = scene
        .stage
        .wait("who hangs to be forced", hangs.host.ended());
    forced.await?;
    ensure!(
        !store.host.intake().is_closed(),
        "the last was asked before its turn"
    );
    notes.note("work");
    drop(work);
    let report = scene.stage.wait("all to be down", down).await?;
    let report = report.map_err(Unmet::broken)??;
    drop(held);

    let want = [
        "work",
        "source begins",
        "source ends",
        "store begins",
        "store ends",
    ];
    ensure_eq!(notes.all(), want, "what happened, in order");
    let ends: Vec<(&str, &End)> = report.members.iter().map(|m| (&*m.kind, &m.end)).collect();
    let [
        ("dead", End::Silent { .. }),
        ("source", End::Graceful),
        ("store", End::Graceful),
        (
            "stuck",
            End::Forced {
                unfinished: 1,
                reason,
            },
        ),
    ] = &ends[..]
    else {
        return Err(Unmet::broken(format_args!("they ended so: {ends:?}")));
    };
    ensure!(
        reason.contains("not finished"),
        "why it was forced: {reason}"
    );
    ensure!(!report.is_graceful(), "all ended gracefully");
    for member in [&source, &hangs, &store] {
        let (gone, reason) = told.removed(&member.identity.name).await?;
        ensure_eq!(reason, Removal::Left, "`{}`", gone.identity.name);
    }
    Ok(())
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn note(&self, text: impl Into<String>) {
        self.0.lock().push(text.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

struct Member {
    identity: Identity,
    home: Arc<dyn EventBus>,
    host: Host,
}

impl Member {
    async fn new(scene: &Scene, of: &str, kind: &str, notes: &Notes) -> Checked<Self> {
        let identity = Identity::new(scene.name(of), kind);
        let home = scene.handle().await?;
        let last = Arc::new(Last {
            of: of.to_owned(),
            notes: notes.clone(),
        });
        let host = scene.host(&home, &identity, last, RARELY).await?;
        Ok(Self {
            identity,
            home,
            host,
        })
    }
}

/// Notes when it finishes.
struct Last {
    of: String,
    notes: Notes,
}

#[async_trait]
impl Collector for Last {
    async fn start_collection(&self, _: &Asked, _: &Value) -> Result<(), Refusal> {
        Ok(())
    }

    async fn stop_collection(&self, _: &Asked) -> Result<(), Refusal> {
        Ok(())
    }

    async fn shutdown(&self, _: &Asked) -> Result<(), Refusal> {
        self.notes.note(format!("{} begins", self.of));
        tokio::task::yield_now().await;
        self.notes.note(format!("{} ends", self.of));
        Ok(())
    }
}
