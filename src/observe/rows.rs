//! Which subscriptions, services and topic families have a line of their own, among more than anybody reads.
//!
//! Whoever adds up what is told from look to look takes a count that has become less for one that has
//! begun again. So a subscription has its line as long as it lives, however long its queue is, and what
//! those without one have counted stays when one of them ends.
//!
//! Invariant: at most [`MOST`] lines of each kind; no counter of `(others)` ever goes down.

use std::collections::{BTreeMap, HashSet};

use eventbus_trait::rpc::ServiceStats;
use eventbus_trait::{Stats, SubscriptionStats};
use serde::{Deserialize, Serialize};

/// Most subscriptions, most services, and most topic families.
const MOST: usize = 200;
const OTHERS: &str = "(others)";

/// How many have no line of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// Subscriptions that are in `(others)`.
    pub subscriptions: u64,
    /// Topic families that are in `(others)`.
    pub families: u64,
    /// Services that are in `(others)`.
    pub services: u64,
}

impl LeftOut {
    /// Whether everybody has one.
    #[must_use]
    pub fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

/// Who has a line, and what the others have counted.
#[derive(Debug, Default)]
pub(super) struct Rows {
    subscriptions: Lines<SubscriptionStats>,
    services: Lines<ServiceStats>,
}

impl Rows {
    /// Leaves at most so many lines in `stats`, those with most in their queues first; says how many
    /// are left out.
    pub(super) fn bound(&mut self, stats: &mut Stats) -> LeftOut {
        let mut families = 0;
        while stats.families.len() > MOST {
            let Some((_, last)) = stats.families.pop_last() else {
                break;
            };
            let others = stats.families.entry(OTHERS.to_owned()).or_default();
            others.published += last.published;
            others.deliveries += last.deliveries;
            families += 1;
        }
        LeftOut {
            subscriptions: self.subscriptions.bound(&mut stats.subscriptions),
            families,
            services: self.services.bound(&mut stats.services),
        }
    }
}

/// What a line says.
trait Row: Clone + Default {
    fn name(&mut self) -> &mut String;
    fn queued(&self) -> u64;
    /// Adds what another of the same name has counted.
    fn add(&mut self, more: &Self);
    /// Adds what was counted from `before` until `now`, and takes over what is not counted up.
    fn grow(&mut self, before: &Self, now: &Self);
}

/// Who has a line of one kind.
#[derive(Debug, Default)]
struct Lines<R> {
    named: HashSet<String>,
    /// What those without a line had counted at the last look, together.
    before: R,
    /// What they have counted since the first one.
    others: Option<R>,
}

impl<R: Row> Lines<R> {
    fn bound(&mut self, rows: &mut Vec<R>) -> u64 {
        let mut by_name: BTreeMap<String, R> = BTreeMap::new();
        for mut one in rows.drain(..) {
            // Several handles may have one of the same name each.
            by_name.entry(one.name().clone()).or_default().add(&one);
        }
        self.named.retain(|name| by_name.contains_key(name));
        let (mut now, mut left_out) = (R::default(), 0);
        for (name, mut one) in by_name {
            if self.named.contains(&name) || self.named.len() < MOST - 1 {
                self.named.insert(name.clone());
                *one.name() = name;
                rows.push(one);
            } else {
                now.add(&one);
                left_out += 1;
            }
        }
        // They come in the order of their names.
        rows.sort_by_key(|one| std::cmp::Reverse(one.queued()));
        if left_out > 0 || self.others.is_some() {
            let others = self.others.get_or_insert_default();
            OTHERS.clone_into(others.name());
            others.grow(&self.before, &now);
            rows.push(others.clone());
            self.before = now;
        }
        left_out
    }
}

impl Row for SubscriptionStats {
    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn queued(&self) -> u64 {
        self.queued
    }

    fn add(&mut self, more: &Self) {
        self.matched += more.matched;
        self.delivered += more.delivered;
        self.filtered += more.filtered;
        self.dropped += more.dropped;
        self.queued += more.queued;
    }

    fn grow(&mut self, before: &Self, now: &Self) {
        self.matched += now.matched.saturating_sub(before.matched);
        self.delivered += now.delivered.saturating_sub(before.delivered);
        self.filtered += now.filtered.saturating_sub(before.filtered);
        self.dropped += now.dropped.saturating_sub(before.dropped);
        self.queued = now.queued;
    }
}

impl Row for ServiceStats {
    fn name(&mut self) -> &mut String {
        &mut self.name
    }

    fn queued(&self) -> u64 {
        self.waiting
    }

    fn add(&mut self, more: &Self) {
        let (waiting, running) = (self.waiting, self.running);
        self.grow(&Self::default(), more);
        self.waiting += waiting;
        self.running += running;
    }

    fn grow(&mut self, before: &Self, now: &Self) {
        for (sum, before, now) in [
            (&mut self.admitted, before.admitted, now.admitted),
            (&mut self.busy, before.busy, now.busy),
            (&mut self.replied, before.replied, now.replied),
            (&mut self.failed, before.failed, now.failed),
            (&mut self.panicked, before.panicked, now.panicked),
            (&mut self.dropped, before.dropped, now.dropped),
        ] {
            *sum += now.saturating_sub(before);
        }
        self.waiting = now.waiting;
        self.running = now.running;
        self.most_running = self.most_running.max(now.most_running);
    }
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
            stats.services.push(ServiceStats {
                name: format!("c{n:04}"),
                admitted: 3,
                replied: 2,
                running: 1,
                ..ServiceStats::default()
            });
        }
        let left_out = Rows::default().bound(&mut stats);
        let told = LeftOut {
            subscriptions: 801,
            families: 801,
            services: 801,
        };
        assert_eq!(left_out, told);
        assert_eq!(stats.services.len(), MOST);
        assert_eq!(stats.services[MOST - 1].name, OTHERS);
        let of = |count: fn(&ServiceStats) -> u64| stats.services.iter().map(count).sum::<u64>();
        let all = (of(|s| s.admitted), of(|s| s.replied), of(|s| s.running));
        assert_eq!(all, (3_000, 2_000, 1_000));
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
