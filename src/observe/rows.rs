//! Which subscriptions and topic families have a line of their own, among more than anybody reads.
//!
//! Whoever adds up what is told from look to look takes a count that has become less for one that has
//! begun again. So a subscription has its line as long as it lives, however long its queue is, and what
//! those without one have counted stays when one of them ends.
//!
//! Invariant: at most [`MOST`] lines of either kind; no counter of `(others)` ever goes down.

use std::collections::{BTreeMap, HashSet};

use eventbus_trait::{Stats, SubscriptionStats};

/// Most subscriptions, and most topic families.
const MOST: usize = 200;
const OTHERS: &str = "(others)";

/// Who has a line, and what the others have counted.
#[derive(Debug, Default)]
pub(super) struct Rows {
    named: HashSet<String>,
    /// What those without a line had counted at the last look, together.
    before: SubscriptionStats,
    /// What they have counted since the first one.
    others: Option<SubscriptionStats>,
}

impl Rows {
    /// Leaves at most so many lines in `stats`, those with most in their queues first.
    pub(super) fn bound(&mut self, stats: &mut Stats) {
        self.bound_subscriptions(&mut stats.subscriptions);
        while stats.families.len() > MOST {
            let Some((_, last)) = stats.families.pop_last() else {
                break;
            };
            let others = stats.families.entry(OTHERS.to_owned()).or_default();
            others.published += last.published;
            others.deliveries += last.deliveries;
        }
    }

    fn bound_subscriptions(&mut self, subscriptions: &mut Vec<SubscriptionStats>) {
        let mut by_name: BTreeMap<String, SubscriptionStats> = BTreeMap::new();
        for one in subscriptions.drain(..) {
            // Several handles may have one of the same name each.
            add(by_name.entry(one.name.clone()).or_default(), &one);
        }
        self.named.retain(|name| by_name.contains_key(name));
        let mut now = SubscriptionStats::default();
        let mut any = false;
        for (name, mut one) in by_name {
            if self.named.contains(&name) || self.named.len() < MOST - 1 {
                self.named.insert(name.clone());
                one.name = name;
                subscriptions.push(one);
            } else {
                add(&mut now, &one);
                any = true;
            }
        }
        subscriptions.sort_by(|a, b| {
            let by_queue = b.queued.cmp(&a.queued);
            by_queue.then_with(|| a.name.cmp(&b.name))
        });
        if any || self.others.is_some() {
            subscriptions.push(self.grown_to(now));
        }
    }

    fn grown_to(&mut self, now: SubscriptionStats) -> SubscriptionStats {
        let others = self.others.get_or_insert_default();
        OTHERS.clone_into(&mut others.name);
        for (sum, before, now) in [
            (&mut others.matched, self.before.matched, now.matched),
            (&mut others.delivered, self.before.delivered, now.delivered),
            (&mut others.filtered, self.before.filtered, now.filtered),
            (&mut others.dropped, self.before.dropped, now.dropped),
        ] {
            *sum += now.saturating_sub(before);
        }
        others.queued = now.queued;
        self.before = now;
        others.clone()
    }
}

fn add(sum: &mut SubscriptionStats, one: &SubscriptionStats) {
    sum.matched += one.matched;
    sum.delivered += one.delivered;
    sum.filtered += one.filtered;
    sum.dropped += one.dropped;
    sum.queued += one.queued;
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventbus_trait::FamilyStats;

    fn subscription(n: u64, delivered: u64, queued: u64) -> SubscriptionStats {
        SubscriptionStats {
            name: format!("s{n:04}"),
            delivered,
            queued,
            ..Default::default()
        }
    }

    fn bounded(rows: &mut Rows, subscriptions: Vec<SubscriptionStats>) -> Vec<SubscriptionStats> {
        let mut stats = Stats {
            subscriptions,
            ..Stats::default()
        };
        rows.bound(&mut stats);
        stats.subscriptions
    }

    #[test]
    fn many_rows_are_put_together_and_nothing_is_lost() {
        let mut stats = Stats::default();
        for n in 0..1_000_u64 {
            stats.subscriptions.push(subscription(n, 0, n));
            let family = FamilyStats {
                published: 1,
                deliveries: 2,
            };
            stats.families.insert(format!("f{n:04}"), family);
        }
        Rows::default().bound(&mut stats);
        assert_eq!(stats.subscriptions.len(), MOST);
        assert_eq!(stats.subscriptions[0].name, "s0198");
        assert_eq!(stats.subscriptions[MOST - 1].name, OTHERS);
        let queued: u64 = stats.subscriptions.iter().map(|s| s.queued).sum();
        assert_eq!(queued, 999 * 500);
        assert_eq!(stats.families.len(), MOST);
        assert_eq!(
            stats.families.values().map(|f| f.published).sum::<u64>(),
            1_000
        );
    }

    /// Whatever waits in their queues, and whoever ends.
    #[test]
    fn who_has_a_line_keeps_it_and_no_count_goes_down() {
        let mut rows = Rows::default();
        let first = bounded(
            &mut rows,
            (0..300).map(|n| subscription(n, 10, n)).collect(),
        );
        // The longest queues are elsewhere now, and one without a line has ended.
        let then: Vec<_> = (0..299).map(|n| subscription(n, 10, 300 - n)).collect();
        let then = bounded(&mut rows, then);
        let names = |all: &[SubscriptionStats]| -> HashSet<String> {
            all.iter().map(|one| one.name.clone()).collect()
        };
        assert_eq!(names(&first), names(&then));
        for before in &first {
            let after = then.iter().find(|one| one.name == before.name).unwrap();
            assert!(after.delivered >= before.delivered, "{before:?} {after:?}");
        }
        // One with a line ends, and another gets it.
        let last = bounded(
            &mut rows,
            (1..299).map(|n| subscription(n, 12, 0)).collect(),
        );
        assert!(names(&last).contains("s0199"));
        assert!(last[MOST - 1].delivered >= then[MOST - 1].delivered);
    }

    #[test]
    fn those_of_one_name_are_one() {
        let twice = vec![subscription(1, 2, 3), subscription(1, 4, 5)];
        assert_eq!(
            bounded(&mut Rows::default(), twice),
            [subscription(1, 6, 8)]
        );
    }
}
