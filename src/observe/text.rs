//! What was seen, in lines of text: for who has no browser, and for a page whose script does not run.

use std::fmt::Write as _;

use eventbus_trait::Stats;
use eventbus_trait::plain::controls;
use shadow::{LATENCY_BOUNDS_US, SideLatency};

use super::observed::{Observed, Shadowed};
use crate::rollout::status::Status;

/// A few lines that say what there is to see. Ends with a new line.
#[must_use]
pub fn plain(seen: &Observed) -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let words: String = words.chars().map(shown).collect();
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{}", words.trim_end());
    };
    line(format!("{} (eventbus {})", seen.title, seen.version));
    line(format!("health       {}", seen.health.status));
    for reason in &seen.health.reasons {
        line(format!("             {reason}"));
    }
    if let Some(rollout) = &seen.rollout {
        of_rollout(rollout, &mut line);
    }
    if let Some(shadow) = &seen.shadow {
        of_shadow(shadow, &mut line);
    }
    if let Some(stats) = &seen.stats {
        line(format!(
            "bus          {}: {} published, {} refused, {} dropped, {} resent",
            stats.backend, stats.published, stats.refused, stats.dropped, stats.resends
        ));
        for one in &stats.subscriptions {
            line(format!(
                "  {}: {} queued, {} delivered, {} dropped",
                one.name, one.queued, one.delivered, one.dropped
            ));
        }
        of_calls(stats, &mut line);
        for (n, what) in [
            (seen.left_out.subscriptions, "subscriptions"),
            (seen.left_out.families, "topic families"),
            (seen.left_out.services, "services"),
        ] {
            if n > 0 {
                line(format!("  {n} more {what} are in (others)"));
            }
        }
    }
    if let Some(broker) = &seen.broker {
        line(format!(
            "broker       {} of {} connections, {} sessions, {} frames",
            broker.connections, broker.max_connections, broker.sessions, broker.frames
        ));
    }
    text
}

/// What would control a terminal, or reorder what is beside it, is shown as no character at all.
fn shown(c: char) -> char {
    if controls(c) { '\u{fffd}' } else { c }
}

fn of_calls(stats: &Stats, line: &mut impl FnMut(String)) {
    let c = &stats.calls;
    if c.made > 0 {
        line(format!(
            "calls        {} made: {} replied, {} failed, {} cancelled, {} under way",
            c.made, c.replied, c.failed, c.cancelled, c.outstanding
        ));
    }
    for one in &stats.services {
        line(format!(
            "  {}: {} running, {} waiting, {} replied, {} failed, {} panicked, {} dropped, {} refused",
            one.name,
            one.running,
            one.waiting,
            one.replied,
            one.failed,
            one.panicked,
            one.dropped,
            one.busy
        ));
    }
}

fn of_rollout(rollout: &Status, line: &mut impl FnMut(String)) {
    let stage = rollout.stages.get(rollout.stage);
    let name = stage.map_or("", |stage| &stage.name);
    let (at, of) = (rollout.stage + 1, rollout.stages.len());
    line(format!("phase        {}", rollout.phase));
    line(format!("stage        {at} of {of}: {name}"));
    line(format!(
        "rollout      {}, {}",
        rollout.mode, rollout.activity
    ));
    if let Some(cutover) = &rollout.cutover {
        let (from, to, step) = (&cutover.from, &cutover.to, cutover.step);
        line(format!("cutover      {from} to {to}: {step}"));
    }
    for gate in &rollout.gates {
        let measured = gate.measured.as_deref().unwrap_or("nothing measured");
        line(format!(
            "  {}: {}, {measured}; wanted {}",
            gate.name, gate.verdict, gate.wanted
        ));
    }
    if let Some(error) = &rollout.last_error {
        line(format!("error        {error}"));
    }
}

fn of_shadow(shadow: &Shadowed, line: &mut impl FnMut(String)) {
    let r = &shadow.report;
    line(format!(
        "comparison   {} with {}: {}",
        r.candidate, r.primary, r.verdict
    ));
    for trouble in shadow.troubles() {
        line(format!("  {trouble}"));
    }
    line(format!(
        "  {} events, {} of {} deliveries matched",
        r.published, r.matched, r.expected
    ));
    for (name, n) in [
        ("missing", r.missing),
        ("late", r.late),
        ("reordered", r.reordered),
        ("differ", r.differs),
        ("duplicate", r.duplicates),
        ("phantom", r.phantoms),
        ("unverified", r.unverified),
        ("in flight", r.in_flight),
        ("waiting for the candidate", shadow.glance.queued),
    ] {
        if n > 0 {
            line(format!("  {n} {name}"));
        }
    }
    let c = &r.calls;
    if c.made > 0 {
        line(format!(
            "  {} calls: {} not mirrored, {} same, {} differ, {} failed, {} not compared",
            c.made, c.unmirrored, c.same, c.differs, c.failed, c.not_compared
        ));
    }
    for d in &c.differences {
        line(format!("  {}.{}: {}", d.service, d.method, d.detail));
    }
    for (side, latency) in [
        ("primary", &shadow.glance.primary),
        ("candidate", &shadow.glance.candidate),
    ] {
        if let (Some(half), Some(most)) = (quantile(latency, 0.5), quantile(latency, 0.99)) {
            line(format!("  {side} latency: p50 {half}, p99 {most}"));
        }
    }
    for d in &shadow.glance.newest {
        line(format!(
            "  {} on {}: subscription {}, topic {}, publisher {}, epoch {}, sequence {}: {}",
            d.class, d.side, d.subscription, d.topic, d.publisher, d.epoch, d.sequence, d.detail
        ));
    }
}

/// The end of the bucket that a quantile is in.
pub(super) fn quantile(latency: &SideLatency, quantile: f64) -> Option<String> {
    if latency.samples == 0 {
        return None;
    }
    let rank = (latency.samples as f64 * quantile).ceil() as u64;
    let mut below = 0;
    for (at, n) in latency.buckets.iter().enumerate() {
        below += n;
        if below >= rank.max(1) {
            return Some(match LATENCY_BOUNDS_US.get(at) {
                Some(us) => format!("at most {}", time(*us)),
                None => "over 10 s".to_owned(),
            });
        }
    }
    None
}

fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_its_bucket() {
        let mut latency = SideLatency::default();
        assert_eq!(quantile(&latency, 0.5), None);
        latency.samples = 100;
        latency.buckets[3] = 98;
        latency.buckets[10] = 1;
        latency.buckets[22] = 1;
        assert_eq!(quantile(&latency, 0.5).unwrap(), "at most 10 us");
        assert_eq!(quantile(&latency, 0.99).unwrap(), "at most 2 ms");
        assert_eq!(quantile(&latency, 1.0).unwrap(), "over 10 s");
    }
}
