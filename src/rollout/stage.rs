//! The stages of a rollout: each phase, and between two of them the shadow of the next.

use super::options::Rollout;
use super::status::StageStatus;
use crate::phase::Phase;

/// A phase, with or without a shadow on the next one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stage {
    pub(crate) phase: Phase,
    pub(crate) candidate: Option<Phase>,
}

impl Stage {
    /// All stages of a rollout, in order.
    pub(crate) fn all(rollout: &Rollout) -> Vec<Self> {
        let mut stages = Vec::new();
        for (at, phase) in rollout.phases.iter().enumerate() {
            stages.push(Self {
                phase: phase.clone(),
                candidate: None,
            });
            if let Some(next) = rollout.phases.get(at + 1).filter(|_| rollout.shadow) {
                stages.push(Self {
                    phase: phase.clone(),
                    candidate: Some(next.clone()),
                });
            }
        }
        stages
    }

    pub(crate) fn name(&self) -> String {
        match &self.candidate {
            None => self.phase.to_string(),
            Some(candidate) => format!("shadow({}, {candidate})", self.phase),
        }
    }

    pub(crate) fn status(&self) -> StageStatus {
        StageStatus {
            name: self.name(),
            phase: self.phase.to_string(),
            candidate: self.candidate.as_ref().map(ToString::to_string),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_phases_is_the_shadow_of_the_second() {
        let phases = || vec![Phase::Crossbeam, Phase::InProcess, Phase::Unix("/a".into())];
        let mut rollout = Rollout::new(phases(), "journal");
        let names = |rollout: &Rollout| {
            Stage::all(rollout)
                .iter()
                .map(Stage::name)
                .collect::<Vec<_>>()
        };
        let expected = [
            "crossbeam",
            "shadow(crossbeam, in-process)",
            "in-process",
            "shadow(in-process, unix:///a)",
            "unix:///a",
        ];
        assert_eq!(names(&rollout), expected);
        rollout.shadow = false;
        assert_eq!(names(&rollout), ["crossbeam", "in-process", "unix:///a"]);
    }
}
