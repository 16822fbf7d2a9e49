//! What a move would do: the dry run.
//!
//! A second implementation of the steps, which only says them. It reads the status alone, so it can
//! neither do anything nor wait for anything.

use super::controller::Direction;
use super::status::{Plan, PlannedStep, StageStatus, Status, Step, Verdict};

/// What a move from where `status` stands would do.
pub(crate) fn plan(status: &Status, direction: Direction) -> Plan {
    let to = match direction {
        Direction::Advance => status.stage.checked_add(1),
        Direction::Back => status.stage.checked_sub(1),
    };
    let to = to.and_then(|to| status.stages.get(to));
    let from = status.stages.get(status.stage);
    Plan {
        from: from.map(|stage| stage.name.clone()).unwrap_or_default(),
        to: to.map(|stage| stage.name.clone()),
        steps: match (from, to) {
            (Some(from), Some(to)) => steps(from, to),
            _ => Vec::new(),
        },
        objections: match direction {
            Direction::Advance => objections(status),
            Direction::Back => Vec::new(),
        },
    }
}

fn steps(from: &StageStatus, to: &StageStatus) -> Vec<PlannedStep> {
    let mut steps = Vec::new();
    let mut plain = |what| steps.push(PlannedStep { step: None, what });
    if let Some(candidate) = &from.candidate
        && to.candidate.as_ref() != Some(candidate)
    {
        plain(format!("end the shadow on `{candidate}`"));
    }
    if from.phase != to.phase {
        for step in Step::ALL {
            let (from, to, what) = (&from.phase, &to.phase, step.what());
            let what = match step {
                Step::Begin => format!("{what}, from `{from}` to `{to}`"),
                Step::Open | Step::Commit | Step::Switch => format!("{what}: `{to}`"),
                Step::Hold | Step::Drain | Step::Close => format!("{what}: `{from}`"),
                Step::Subscribe | Step::Done => what.to_owned(),
            };
            let step = Some(step);
            steps.push(PlannedStep { step, what });
        }
    }
    let mut plain = |what| steps.push(PlannedStep { step: None, what });
    if let Some(candidate) = &to.candidate
        && from.candidate.as_ref() != Some(candidate)
    {
        plain(format!("begin a shadow on `{candidate}`"));
    }
    steps
}

/// What stands against going on, in one sentence each.
pub(crate) fn objections(status: &Status) -> Vec<String> {
    let gates = status.gates.iter();
    let mut objections: Vec<_> = gates
        .filter(|gate| gate.verdict != Verdict::Pass)
        .map(|gate| {
            let measured = gate.measured.as_deref().unwrap_or("nothing measured");
            let (name, verdict, wanted) = (&gate.name, gate.verdict, &gate.wanted);
            format!("{name} is {verdict}: {measured}, wanted {wanted}")
        })
        .collect();
    let (done, wanted) = (status.successes, status.successes_wanted);
    if !status.gates.is_empty() && objections.is_empty() && done < wanted {
        objections.push(format!("{done} of {wanted} evaluations in a row passed"));
    }
    objections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::status::{Activity, GateStatus, Mode};

    fn stage(phase: &str, candidate: Option<&str>) -> StageStatus {
        StageStatus {
            name: phase.to_owned(),
            phase: phase.to_owned(),
            candidate: candidate.map(ToOwned::to_owned),
        }
    }

    fn status(at: usize) -> Status {
        Status {
            phase: "crossbeam".to_owned(),
            stage: at,
            stages: vec![
                stage("crossbeam", None),
                stage("crossbeam", Some("in-process")),
                stage("in-process", None),
            ],
            mode: Mode::Manual,
            activity: Activity::Watching,
            cutover: None,
            gates: vec![GateStatus {
                name: "events".to_owned(),
                wanted: "at least 10 events".to_owned(),
                measured: Some("3 events".to_owned()),
                progress: Some(0.3),
                verdict: Verdict::Inconclusive,
            }],
            successes: 0,
            successes_wanted: 1,
            failures: 0,
            failures_allowed: 1,
            stage_since_ms: 0,
            history: Vec::new(),
            last_error: None,
            longest_publish_delay_us: 0,
            cutovers: 0,
        }
    }

    #[test]
    fn a_plan_says_each_step_and_what_stands_against_it() {
        let plan = plan(&status(1), Direction::Advance);
        assert_eq!(plan.to.as_deref(), Some("in-process"));
        let cutover: Vec<_> = plan.steps.iter().filter_map(|step| step.step).collect();
        assert_eq!(cutover, Step::ALL);
        assert_eq!(plan.steps[0].what, "end the shadow on `in-process`");
        let objection = "events is inconclusive: 3 events, wanted at least 10 events";
        assert_eq!(plan.objections, [objection]);
    }

    #[test]
    fn a_shadow_needs_no_cutover_and_going_back_no_gate() {
        let back = plan(&status(1), Direction::Back);
        assert_eq!(back.steps.len(), 1);
        assert_eq!(back.objections, Vec::<String>::new());
        let nowhere = plan(&status(0), Direction::Back);
        assert_eq!((nowhere.to, nowhere.steps.len()), (None, 0));
    }
}
