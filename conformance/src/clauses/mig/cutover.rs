//! MIG-003 and MIG-004: a bus that is moved from one phase to another while it is in use, and one
//! whose process dies over it.

use eventbus_trait::Subscribe;

use crate::check::{self, Within};
use crate::harness::{Course, Steps};
use crate::history::History;
use crate::stage::{Context, Movable};
use crate::verdict::{Checked, Unmet, ensure_eq};

/// MIG-003: a bus is moved forward and back, twice, while publishers publish. Every subscription
/// gets each event once and in order, also one with little room and one that reads nothing until
/// the end; and publishers stay who they are and go on counting.
pub(crate) async fn mig_003_a_cutover_is_not_noticed(context: Context) -> Checked {
    let movable = context.movable_stage().await?;
    let stage = &movable.stage;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let authors = [stage.author(&near), stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
        stage.read(&far, Subscribe::to("a.b")?.capacity(4)).await?,
    ];
    let sleeper = stage.reader(&near, "b.#").await?;
    for course in [Course::Forward, Course::Back, Course::Forward, Course::Back] {
        for author in &authors {
            author.publish_over(&["b.c"], 4).await?;
        }
        let moving = movable.publish_through(course, &authors);
        let moved = stage.while_reading(&mut readers, moving).await;
        moved.map_err(|unmet| about(unmet, format_args!("{course:?}")))?;
        ensure_eq!(
            movable.holds_second(),
            course == Course::Forward,
            "{course:?}: whether the second phase holds after the move"
        );
    }
    readers.push(sleeper);
    stage.drain(&mut readers, &authors).await?;
    all_is_well(&stage.history())
}

fn all_is_well(history: &History) -> Checked {
    check::lost(history).verdict()?;
    check::duplicates(history).verdict()?;
    check::phantoms(history).verdict()?;
    check::corrupted(history).verdict()?;
    check::nonmonotonic(history, Within::Topic).verdict()?;
    check::skips(history, Within::Topic).verdict()?;
    check::stamps(history, Within::Topic).verdict()
}

fn about(unmet: Unmet, what: std::fmt::Arguments<'_>) -> Unmet {
    match unmet {
        Unmet::Broken(text) => Unmet::Broken(format!("{what}: {text}")),
        Unmet::Unexercised(text) => Unmet::Unexercised(format!("{what}: {text}")),
        other => other,
    }
}

/// MIG-004: a process that moves a bus is killed before each step of it, forward and back. It
/// starts again in the old phase if the step that decides had not come, and in the new one if it
/// had; the bus works there, starts there again, and can be moved on.
pub(crate) async fn mig_004_a_crash_leaves_one_phase(context: Context) -> Checked {
    let steps = context.cutover_steps()?;
    for course in [Course::Forward, Course::Back] {
        for step in 1..=steps.last {
            let found = found(&context, course, step, steps).await;
            found.map_err(|unmet| {
                about(unmet, format_args!("{course:?}, killed before step {step}"))
            })?;
        }
    }
    Ok(())
}

async fn found(context: &Context, course: Course, step: u8, steps: Steps) -> Checked {
    let wreck = context.crash(course, step).await?;
    let second = (course == Course::Forward) == (step > steps.decides);
    for start in ["first", "second"] {
        let movable = context.restarted(&wreck).await?;
        ensure_eq!(
            movable.holds_second(),
            second,
            "whether the second phase holds at the {start} start"
        );
        works(&movable).await?;
        if start == "second" {
            let on = if second {
                Course::Back
            } else {
                Course::Forward
            };
            movable.cut_over(on).await?;
            ensure_eq!(movable.holds_second(), !second, "whether it moved on");
            works(&movable).await?;
        }
        context.close(movable.stage).await?;
    }
    Ok(())
}

/// Two handles hear each other.
async fn works(movable: &Movable) -> Checked {
    const EVENTS: usize = 10;
    let stage = &movable.stage;
    let (near, far) = (stage.bus(), stage.connect().await?);
    let authors = [stage.author(&near), stage.author(&far)];
    let mut readers = vec![
        stage.reader(&near, "a.#").await?,
        stage.reader(&far, "a.#").await?,
    ];
    let publishing = async {
        for author in &authors {
            author.publish_over(&["a.b"], EVENTS).await?;
        }
        Ok(())
    };
    stage.while_reading(&mut readers, publishing).await?;
    stage.drain(&mut readers, &authors).await?;
    let history = stage.history();
    for reader in readers {
        reader.unsubscribe().await?;
    }
    all_is_well(&history)
}
