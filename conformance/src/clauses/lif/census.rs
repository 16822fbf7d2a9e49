//! LIF-004: what the process holds before and after a bus.
//!
//! Measured on the process itself, so nothing else may run beside it, and a first bus warms up
//! what the process keeps for good, such as the thread of a timer.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use eventbus_trait::{Delivery, Subscribe, Topic};

use crate::harness::Capability;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, Unmet};

const ROUNDS: usize = 3;

/// LIF-004: after shutdown no task, thread, file or socket is left.
pub(crate) async fn lif_004_nothing_is_left_behind(context: Context) -> Checked {
    if !cfg!(target_os = "linux") {
        return Err(Unmet::NotApplicable(
            "what a process holds is read from /proc".into(),
        ));
    }
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
    threads: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Census {
    fn take() -> Checked<Self> {
        let list = |path| fs::read_dir(path).map_err(Unmet::unexercised);
        let names = |dir: fs::ReadDir| {
            dir.flatten()
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        let threads = names(list("/proc/self/task")?).map(|id| {
            let name = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
            format!("thread {id} {}", name.unwrap_or_default().trim())
        });
        let threads = threads.collect();
        // The directory that is being listed is itself open while it is.
        let files = names(list("/proc/self/fd")?).filter_map(|fd| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            let target = target.to_string_lossy().into_owned();
            (!target.starts_with("/proc/")).then(|| format!("file {fd} {target}"))
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
        let new = |now: &BTreeSet<String>, then: &BTreeSet<String>| {
            now.difference(then).cloned().collect::<Vec<_>>()
        };
        let mut beyond = new(&self.threads, &before.threads);
        beyond.extend(new(&self.files, &before.files));
        if self.tasks > before.tasks {
            beyond.push(format!("{} tasks", self.tasks - before.tasks));
        }
        beyond
    }
}
