//! The hooks that look at contents: which payloads are alike, and what of them is shown.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may panic")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{WATCHDOG, assert_law, crossbeam, subscribe, take, until, whole, within};
use eventbus_trait::{Event, EventBus};
use shadow::sabotage::{Sabotage, SabotageBus};
use shadow::{
    Compare, DivergenceClass, DivergenceFile, Reason, Redact, Report, ShadowBus, ShadowOptions,
    Side, Verdict,
};
use tracing_test::traced_test;

const EVENTS: u64 = 600;

/// Events with a secret in each payload, against a saboteur; how often that struck.
async fn sabotaged(kind: Sabotage, options: ShadowOptions) -> (Report, u64) {
    let grace = Duration::from_millis(50);
    let saboteur = SabotageBus::with_grace(crossbeam(), kind, 0.05, 5, grace);
    let options = ShadowOptions { grace, ..options };
    let bus = ShadowBus::new(crossbeam(), Arc::clone(&saboteur) as _, options);
    let mut events = subscribe(&*bus, "#").await;
    for n in 0..EVENTS {
        let event = Event::new("t.a", format!("secret {n}").into_bytes()).unwrap();
        bus.publish(event).await.unwrap();
    }
    take(&mut events, EVENTS as usize).await;
    let _ = within(bus.detach(WATCHDOG)).await.unwrap();
    let written = || {
        bus.report()
            .divergence_file
            .is_none_or(|file| file.written > 0)
    };
    until("the file", written).await;
    let report = bus.report();
    assert_law(&report);
    assert!(saboteur.injected() > 10, "{kind}");
    (report, saboteur.injected())
}

fn compared(compare: Compare) -> ShadowOptions {
    ShadowOptions {
        compare: Some(compare),
        ..whole()
    }
}

#[tokio::test]
async fn the_application_says_which_payloads_are_alike() {
    let alike = Compare::by(|primary, candidate| {
        assert_ne!(primary.bytes().unwrap(), candidate.bytes().unwrap());
        assert!(primary.bytes().unwrap().starts_with(b"secret"));
        primary.topic() == candidate.topic()
    });
    let (report, _) = sabotaged(Sabotage::Corrupt, compared(alike)).await;
    assert_eq!((report.matched, report.differs), (EVENTS, 0), "{report:#?}");
    assert_eq!(report.verdict, Verdict::Match);
    assert!(report.hook_errors.is_empty(), "{report:#?}");
    let never = Compare::by(|_, _| false);
    let (report, injected) = sabotaged(Sabotage::Corrupt, compared(never)).await;
    assert_eq!(
        (report.differs, report.matched),
        (injected, EVENTS - injected)
    );
}

/// What only the hook could have called alike is neither a match nor a divergence.
#[tokio::test]
async fn a_comparison_that_fails_is_told_and_decides_nothing() {
    let panics = || -> bool { panic!("a panic on purpose") };
    for compare in [
        Compare::by(move |_, _| panics()),
        Compare::try_by(|_, _| Err("no such schema")),
    ] {
        let (report, injected) = sabotaged(Sabotage::Corrupt, compared(compare)).await;
        assert_eq!(
            report.hook_errors,
            [("compare".to_owned(), injected)].into()
        );
        let unverified = [(Reason::HookFailed, injected)].into();
        assert_eq!(report.unverified_by_reason, unverified, "{report:#?}");
        assert_eq!((report.differs, report.matched), (0, EVENTS - injected));
        assert_eq!(report.verdict, Verdict::Inconclusive);
        assert!(report.table().contains("failures of hook compare"));
    }
}

/// A hook of contents leaves everything else as it is.
#[tokio::test]
async fn other_divergences_are_found_with_hooks_as_without() {
    for kind in Sabotage::ALL {
        let options = ShadowOptions {
            redact: Some(Redact::to(|event| event.topic().to_string())),
            ..compared(Compare::by(|_, _| true))
        };
        let (report, injected) = sabotaged(kind, options).await;
        let found = if kind == Sabotage::Corrupt {
            0
        } else {
            injected
        };
        assert_eq!(report.diverged(), found, "{kind}: {report:#?}");
    }
}

fn sides(report: &Report) -> impl Iterator<Item = (DivergenceClass, bool, bool)> + '_ {
    report.divergences.iter().map(|d| {
        let shown = d.shown.clone().unwrap_or_default();
        (d.class, shown.primary.is_some(), shown.candidate.is_some())
    })
}

/// Without the hook nothing of a payload is told; with it, what the hook makes of it, everywhere.
#[tokio::test]
#[traced_test]
async fn nothing_is_shown_but_what_the_hook_has_made_of_it() {
    let path = std::env::temp_dir().join(format!("shadow-redact-{}", std::process::id()));
    let shows = Redact::to(|event| format!("{} bytes, cleared", event.bytes().unwrap().len()));
    for kind in Sabotage::ALL {
        for redact in [None, Some(shows.clone())] {
            let is_shown = redact.is_some();
            let options = ShadowOptions {
                redact,
                divergence_file: Some(DivergenceFile::new(&path)),
                ..whole()
            };
            let (report, injected) = sabotaged(kind, options).await;
            assert_eq!(report.divergences.len() as u64, injected, "{kind}");
            let json = serde_json::to_string(&report).unwrap();
            let file = std::fs::read_to_string(&path).unwrap();
            for text in [json, file, report.table()] {
                assert!(!text.contains("secret"), "{kind}: {text}");
                assert_eq!(text.contains("bytes, cleared"), is_shown, "{kind}: {text}");
            }
            if !is_shown {
                continue;
            }
            for (class, primary, candidate) in sides(&report) {
                let due = match class {
                    DivergenceClass::Missing => (true, false),
                    DivergenceClass::Differs | DivergenceClass::Reordered => (true, true),
                    // What was given up was forgotten before it came.
                    DivergenceClass::Late => (primary, true),
                    DivergenceClass::Duplicate | DivergenceClass::Phantom => (false, true),
                };
                assert_eq!((primary, candidate), due, "{class}");
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
    // Of all threads: the candidate's has a log of its own.
    let log = tracing_test::internal::global_buf().lock().unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(
        log.contains("divergence") && log.contains("bytes, cleared"),
        "{log}"
    );
    assert!(!log.contains("secret"), "a payload is in the log");
}

#[tokio::test]
async fn what_could_not_be_cleared_is_not_shown() {
    let panics = || -> String { panic!("a panic on purpose") };
    let options = ShadowOptions {
        redact: Some(Redact::to(move |_| panics())),
        ..whole()
    };
    let (report, injected) = sabotaged(Sabotage::Drop, options).await;
    assert_eq!(report.hook_errors, [("redact".to_owned(), injected)].into());
    assert!(sides(&report).all(|shown| shown == (DivergenceClass::Missing, false, false)));
    let long = Redact::to(|_| "ä".repeat(1_000));
    let options = ShadowOptions {
        redact: Some(long),
        ..whole()
    };
    let (report, _) = sabotaged(Sabotage::Drop, options).await;
    let shown = report.divergences[0].shown.clone().unwrap();
    assert_eq!(report.divergences[0].side, Side::Candidate);
    assert_eq!(shown.primary.unwrap(), "ä".repeat(256));
}
