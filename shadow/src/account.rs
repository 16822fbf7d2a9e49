//! What was found, beyond what each track counts: errors by kind, the first divergences, and the
//! counts of subscriptions that have ended.

use std::collections::BTreeMap;

use crate::class::Counts;
use crate::glance::Places;
use crate::report::{Divergence, DivergenceClass};
use crate::streams::Key;
use crate::sub::Sub;
use crate::track::Finding;

/// Most kinds of candidate errors that are counted apart.
const MAX_KINDS: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Counts of subscriptions that have ended.
    pub(crate) past: Counts,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Why nothing more is compared.
    pub(crate) disabled: Option<String>,
    pub(crate) hook_errors: BTreeMap<String, u64>,
    pub(crate) divergences: Vec<Divergence>,
    pub(crate) places: Places,
}

impl Account {
    /// Counts an error; whether it is the first of its kind.
    pub(crate) fn count_error(&mut self, name: String) -> bool {
        let full = self.errors.len() >= MAX_KINDS && !self.errors.contains_key(&name);
        let name = if full { "other/other".to_owned() } else { name };
        let n = self.errors.entry(name).or_default();
        *n += 1;
        *n == 1
    }

    /// Counts a failure of a hook; whether it is the first.
    pub(crate) fn count_hook(&mut self, hook: &str) -> bool {
        let n = self.hook_errors.entry(hook.to_owned()).or_default();
        *n += 1;
        *n == 1
    }

    /// Lists a divergence, or puts it in the place of what was said of the same delivery before.
    pub(crate) fn enter(
        &mut self,
        new: Divergence,
        finding: &Finding,
        most: usize,
    ) -> Option<Divergence> {
        self.places.note(&new, finding.was_missing);
        let same = |old: &&mut Divergence| {
            old.sequence == new.sequence
                && old.publisher == new.publisher
                && old.epoch == new.epoch
                && old.topic == new.topic
                && old.subscription == new.subscription
                && old.class == DivergenceClass::Missing
        };
        let listed = &mut self.divergences;
        if finding.was_missing
            && let Some(old) = listed.iter_mut().find(same)
        {
            old.clone_from(&new);
        } else if listed.len() < most {
            listed.push(new.clone());
        } else {
            return None;
        }
        Some(new)
    }
}

#[cold]
pub(crate) fn located(sub: &Sub, key: &Key, finding: &Finding) -> Divergence {
    Divergence {
        class: finding.class,
        side: finding.side,
        subscription: sub.name().to_owned(),
        publisher: key.publisher.to_string(),
        epoch: key.epoch,
        topic: key.topic.to_string(),
        sequence: finding.sequence,
        displaced: finding.displaced,
        detail: finding.detail.clone(),
        shown: finding.shown.clone(),
    }
}
