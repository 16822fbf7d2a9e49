//! What was dropped and not told: uncounted.

use super::view::{Stream, View, Yielded};
use super::{Findings, Kind};
use crate::history::{History, Publication};

pub(super) fn uncounted(history: &History) -> Findings {
    let view = View::of(history);
    let mut findings = Findings::default();
    for stream in view.streams.iter().filter(|s| !s.ended) {
        let owed = view.owed(stream, &mut findings);
        findings.examined += owed.len() as u64;
        // What was cancelled may count or not, and shift all that comes after it.
        let unknown = view.unknown_to(stream).count() as u64;
        if unknown == 0 && owed.iter().all(|p| p.mark.author == owed[0].mark.author) {
            misplaced(stream, &owed, &mut findings);
        }
        let told: u64 = stream.items.iter().map(Yielded::events).sum();
        let owed = owed.len() as u64;
        if !(owed..=owed + unknown).contains(&told) {
            let detail = format!("{told} delivered or counted as lost, {owed} owed");
            findings.add(Kind::Uncounted, stream, None, detail);
        }
    }
    findings
}

/// Finds the first event that came elsewhere than the counts of lost events say.
fn misplaced(stream: &Stream<'_>, owed: &[&Publication], findings: &mut Findings) {
    let mut at = 0;
    for item in &stream.items {
        if let Yielded::Event(arrival) = item {
            let want = owed.get(at).map(|p| p.mark);
            if arrival.mark != want {
                let want = want.map_or("the end".into(), |mark| mark.to_string());
                let detail = format!("came where {want} was due");
                return findings.add(Kind::Uncounted, stream, arrival.mark, detail);
            }
        }
        at += usize::try_from(item.events()).unwrap_or(usize::MAX);
    }
}
