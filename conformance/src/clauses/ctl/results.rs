//! CTL-007: results that belong together.

use std::sync::Arc;
use std::time::Duration;

use control::results::{Absence, Ended, Gather, Gathered, Gathering, Options, Wanted};
use eventbus_trait::{Correlation, Event, EventBus, Payload};
use futures_util::future::try_join4;

use super::scene::Scene;
use crate::stage::Context;
use crate::verdict::{Checked, ensure, ensure_eq};

/// How long is gathered where not all comes.
const WITHIN: Duration = Duration::from_millis(300);

/// CTL-007: results are gathered by what they belong to, whoever publishes them: all of some, the first of
/// some, or what comes until a deadline; what is missing is named, and what came again is counted.
pub(crate) async fn ctl_007_results_are_gathered(context: Context) -> Checked {
    let scene = Scene::new(&context).await?;
    let play = Play {
        gather: scene.gather(Options::default()).await?,
        one: scene.handle().await?,
        other: scene.handle().await?,
        scene,
    };
    try_join4(play.all(), play.first(), play.some(), play.cancelled()).await?;
    let stats = play.gather.stats();
    ensure_eq!(
        (stats.gatherings, stats.bytes),
        (0, 0),
        "gatherings, and bytes kept"
    );
    ensure_eq!(stats.repeated, 1, "parts that came again");
    Ok(())
}

struct Play {
    scene: Scene,
    gather: Gather,
    one: Arc<dyn EventBus>,
    other: Arc<dyn EventBus>,
}

impl Play {
    /// Publishes a part of this whole, which says its own id.
    async fn part(&self, bus: &Arc<dyn EventBus>, whole: &str, id: &str) -> Checked {
        let of = Correlation::new(whole).child(id);
        self.says(bus, id, of).await
    }

    async fn says(&self, bus: &Arc<dyn EventBus>, text: &str, of: Correlation) -> Checked {
        let result = Payload::raw(text.as_bytes().to_vec());
        let event = Event::new("results.ctl.part", result)?.correlation(of);
        bus.publish(event).await?;
        Ok(())
    }

    async fn gathered(&self, gathering: Gathering) -> Checked<Gathered> {
        let gathered = gathering.gathered();
        self.scene
            .stage
            .wait("results to be gathered", gathered)
            .await
    }

    /// From two handles, among others that belong to something else, and one of them twice.
    async fn all(&self) -> Checked {
        let wanted = Wanted::ids("all", ["a", "b", "c"]).within(self.scene.stage.patience() * 2);
        let gathering = self.gather.begin(wanted)?;
        self.part(&self.one, "else", "a").await?;
        self.part(&self.one, "all", "b").await?;
        self.part(&self.one, "all", "b").await?;
        self.part(&self.other, "all", "c").await?;
        self.part(&self.other, "all", "nobody asked").await?;
        self.part(&self.one, "all", "a").await?;
        let gathered = self.gathered(gathering).await?;
        ensure_eq!(gathered.ended, Ended::Enough, "why it ended");
        let mut parts = texts(&gathered)?;
        let came = |text: &str| parts.iter().position(|part| part == text);
        ensure!(came("b") < came("a"), "parts of one handle: {parts:?}");
        parts.sort();
        ensure_eq!(parts, ["a", "b", "c"], "parts");
        let rest = (gathered.missing.len(), gathered.short, gathered.repeated);
        ensure_eq!(rest, (0, 0, 1), "missing, short, and repeated");
        for part in &gathered.parts {
            let root = part.correlation.root.as_deref();
            ensure_eq!(root, Some("all"), "the root of a part");
        }
        Ok(())
    }

    async fn first(&self) -> Checked {
        let wanted = Wanted::ids("first", ["a", "b", "c"]).first(2);
        let wanted = wanted.within(self.scene.stage.patience() * 2);
        let gathering = self.gather.begin(wanted)?;
        for id in ["c", "a", "b"] {
            self.part(&self.one, "first", id).await?;
        }
        let gathered = self.gathered(gathering).await?;
        ensure_eq!(gathered.ended, Ended::Enough, "why it ended");
        ensure_eq!(texts(&gathered)?, ["c", "a"], "the first two");
        let missing: Vec<&str> = gathered.missing.iter().map(|m| &*m.name).collect();
        ensure_eq!(missing, ["b"], "what is missing");
        Ok(())
    }

    /// Until a deadline, by which one of three does not come. On a slow machine others may not either: each is
    /// there, or named.
    async fn some(&self) -> Checked {
        let ids = ["a", "b", "never"];
        let wanted = Wanted::ids("some", ids).until_deadline().within(WITHIN);
        let gathering = self.gather.begin(wanted)?;
        self.part(&self.one, "some", "a").await?;
        self.part(&self.other, "some", "b").await?;
        let gathered = self.gathered(gathering).await?;
        ensure_eq!(gathered.ended, Ended::Deadline, "why it ended");
        let mut each = texts(&gathered)?;
        for missing in &gathered.missing {
            ensure_eq!(
                missing.why,
                Absence::Silent,
                "why `{}` is missing",
                missing.name
            );
            each.push(missing.name.clone());
        }
        each.sort();
        ensure_eq!(each, ids, "parts, and what is missing");
        ensure_eq!(gathered.short, gathered.missing.len(), "how many are short");
        let never = gathered
            .missing
            .iter()
            .any(|missing| missing.name == "never");
        ensure!(never, "what nobody published is not missing");
        Ok(())
    }

    /// What its member gave up is no result, and says why it is missing.
    async fn cancelled(&self) -> Checked {
        let wanted = Wanted::ids("cancelled", ["a", "b"]).first(1);
        let gathering = self
            .gather
            .begin(wanted.within(self.scene.stage.patience() * 2))?;
        let whole = Correlation::new("cancelled");
        for stage in ["accepted", "cancelled"] {
            let of = whole.child("a").stage(stage);
            self.says(&self.one, stage, of).await?;
        }
        self.part(&self.one, "cancelled", "b").await?;
        let gathered = self.gathered(gathering).await?;
        ensure_eq!(texts(&gathered)?, ["b"], "the result");
        let why = gathered
            .missing
            .first()
            .map(|missing| (&*missing.name, missing.why));
        ensure_eq!(why, Some(("a", Absence::Cancelled)), "what is missing");
        Ok(())
    }
}

/// What the parts say, in the order in which they came.
fn texts(gathered: &Gathered) -> Checked<Vec<String>> {
    let text = |part: &control::results::Part| -> Checked<String> {
        Ok(String::from_utf8_lossy(&part.payload.bytes()?).into_owned())
    };
    gathered.parts.iter().map(text).collect()
}
