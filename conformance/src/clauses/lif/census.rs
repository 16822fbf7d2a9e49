//! LIF-004: what the process holds before and after a bus.
//!
//! Measured on the process itself, so nothing else may run beside it, and a first bus warms up
//! what the process keeps for good, such as the thread of a timer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use eventbus_trait::{Delivery, Subscribe, Topic};

use crate::harness::Capability;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet};

const ROUNDS: usize = 3;

/// LIF-004: after shutdown no task, thread, file or socket is left.
pub(crate) async fn lif_004_nothing_is_left_behind(context: Context) -> Checked {
    let warm_up = context.stage().await?;
    use_it(&warm_up, context.has(Capability::SeveralHandles)).await?;
    context.close(warm_up).await?;
    for _ in 0..ROUNDS {
        round(&context).await?;
    }
    Ok(())
}

/// Starts a bus, uses it, shuts it down, and waits until the process holds no more than before.
async fn round(context: &Context) -> Checked {
    let before = Census::take()?;
    let stage = context.stage().await?;
    let paths = stage.paths();
    use_it(&stage, context.has(Capability::SeveralHandles)).await?;
    context.close(stage.clone()).await?;
    drop(stage);
    let mut left: Vec<String> = Vec::new();
    let mut beat = tokio::time::interval(Duration::from_millis(5));
    let gone = context.wait("the process to hold no more than before", async {
        loop {
            left = match Census::take() {
                Ok(now) => now.beyond(&before),
                Err(error) => vec![error.to_string()],
            };
            let present = paths.iter().filter(|path| path.exists());
            left.extend(present.map(|path| path.display().to_string()));
            if left.is_empty() {
                break;
            }
            beat.tick().await;
        }
    });
    let gone = gone.await;
    gone.map_err(|unmet| Unmet::broken(format_args!("{unmet}; left behind: {}", left.join(", "))))
}

/// Leaves a bus in disorder: subscriptions unread and full, publishers of several kinds.
async fn use_it(stage: &Stage, several: bool) -> Checked {
    let near = stage.bus();
    let far = if several {
        stage.connect().await?
    } else {
        stage.bus()
    };
    let author = stage.author(&far);
    let small = Subscribe::to("a.#")?.capacity(2);
    let unread = stage.read(&near, small).await?;
    let mut readers = vec![
        stage.reader(&far, "b.#").await?,
        stage.reader(&near, "b.c").await?,
    ];
    author.fill("a.b").await?;
    author.publish_over(&["b.c", "b.d"], 50).await?;
    let topic = Topic::new("a.b")?;
    author
        .send(author.event(&topic).delivery(Delivery::AtMostOnce))
        .await?;
    let short = Duration::from_millis(5);
    let _ = tokio::time::timeout(short, author.send(author.event(&topic))).await;
    stage.drain(&mut readers, &[author]).await?;
    drop(unread);
    readers.remove(0).unsubscribe().await.map(|_| ())
}

/// What the process holds.
struct Census {
    tasks: usize,
    /// Names by id: a thread gets its name some time after it has begun.
    threads: BTreeMap<String, String>,
    files: BTreeSet<(String, String)>,
}

impl Census {
    fn take() -> Checked<Self> {
        let threads = names("/proc/self/task")?.into_iter().map(|id| {
            let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
            (id, name.unwrap_or_default().trim().to_owned())
        });
        let threads = threads.collect();
        let files = names("/proc/self/fd")?.into_iter().filter_map(|fd| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            let target = target.to_string_lossy().into_owned();
            // The directory that is being listed is itself open while it is.
            (!target.starts_with("/proc/")).then_some((fd, target))
        });
        let files = files.collect();
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        Ok(Self {
            tasks,
            threads,
            files,
        })
    }

    /// What is here and was not there.
    fn beyond(&self, before: &Self) -> Vec<String> {
        let threads = self
            .threads
            .iter()
            .filter(|(id, _)| !before.threads.contains_key(*id));
        let threads = threads.map(|(id, name)| format!("thread {id} `{name}`"));
        let files = self.files.difference(&before.files);
        let files = files.map(|(fd, target)| format!("file {fd} {target}"));
        let mut beyond: Vec<String> = threads.chain(files).collect();
        if self.tasks > before.tasks {
            beyond.push(format!("{} tasks", self.tasks - before.tasks));
        }
        beyond
    }
}

fn names(directory: &str) -> Checked<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Unmet::unexercised)?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect())
}
