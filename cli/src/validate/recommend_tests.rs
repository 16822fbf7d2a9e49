//! Recommendations follow the measurements: turn a figure, and another transport is recommended.

use super::super::errors::Errors;
use super::super::findings::{Latency, Memory, Recovered, Recovery, Setup, Throughput};
use super::super::payload::Delivery;
use super::*;

/// A transport that has carried everything, at such figures.
fn found(transport: Transport, events_per_second: f64, us: f64) -> Findings {
    let delivery = Delivery {
        accepted: 1_000,
        delivered: 1_000,
        ..Delivery::default()
    };
    let properties = transport.properties();
    let recovery = match properties.reach {
        Reach::Process => Recovery::NotMeasured {
            not_measured: "there is no broker".to_owned(),
        },
        Reach::Host | Reach::Network => Recovery::Measured(Recovered {
            broker_seconds: 0.01,
            seconds: Some(0.2),
            longest_publish_seconds: 0.001,
            reconnects: 2,
            resent: 5,
            delivery,
        }),
    };
    Findings {
        transport,
        against: None,
        passed: true,
        failures: Vec::new(),
        setup: Setup {
            broker_seconds: None,
            open_seconds: 0.001,
            subscribe_seconds: 0.001,
            samples: 5,
        },
        throughput: Throughput {
            events_per_second,
            rounds: vec![events_per_second],
            seconds: 1.0,
            delivery,
        },
        latency: Latency {
            rate: 10_000,
            accepted_rate: 10_000.0,
            p50_us: us / 2.0,
            p99_us: us,
            p50_typical_us: us / 2.0,
            p99_typical_us: us,
            p999_us: us * 2.0,
            max_us: us * 3.0,
            distribution: Vec::new(),
            delivery,
        },
        delivery,
        success_rate: 1.0,
        errors: Errors::default(),
        recovery,
        memory: Memory {
            before: 0,
            after: 1 << 20,
            peak: 1 << 20,
            broker: None,
        },
        properties,
    }
}

fn usual() -> Vec<Findings> {
    vec![
        found(Transport::Crossbeam, 10e6, 1.0),
        found(Transport::InProcess, 6e6, 10.0),
        found(Transport::Unix, 3e6, 40.0),
        found(Transport::Tcp, 2e6, 80.0),
    ]
}

fn choices(measured: &[Findings]) -> [Option<Transport>; 4] {
    let all = recommend(measured);
    std::array::from_fn(|at| all[at].transport)
}

/// Everything that is said of `other` in the recommendation for `purpose`.
fn said_of(measured: &[Findings], purpose: Use, other: Transport) -> String {
    let all = recommend(measured);
    let recommendation = all.iter().find(|one| one.purpose == purpose).unwrap();
    let mut others = recommendation.others.iter();
    let other = others.find(|one| one.transport == other).unwrap();
    other.reasons.join("; ")
}

#[test]
fn the_nearest_that_reaches_is_usual() {
    use Transport::{Crossbeam, Tcp, Unix};
    let expected = [Some(Crossbeam), Some(Unix), Some(Tcp), Some(Tcp)];
    assert_eq!(choices(&usual()), expected);
    let said = said_of(&usual(), Use::OneProcess, Transport::Tcp);
    assert!(said.contains("5.0 times the throughput"), "{said}");
    let said = said_of(&usual(), Use::OneHost, Transport::Crossbeam);
    assert_eq!(said, "it reaches one process only");
}

#[test]
fn other_figures_lead_to_another_recommendation() {
    let mut turned = usual();
    turned[3] = found(Transport::Tcp, 30e6, 0.1);
    let expected = [Some(Transport::Tcp); 4];
    assert_eq!(choices(&turned), expected);
    let said = said_of(&turned, Use::OneHost, Transport::Unix);
    assert!(said.contains("tcp has 10 times the throughput"), "{said}");
    turned[3] = found(Transport::Tcp, 3.1e6, 39.0);
    let unix = recommend(&turned).remove(1);
    assert_eq!(unix.transport, Some(Transport::Unix), "alike is no reason");
    let reasons = unix.reasons.join("; ");
    assert!(reasons.contains("as good as tcp"), "{reasons}");
}

#[test]
fn who_failed_is_not_recommended_and_told_why() {
    let mut failed = usual();
    failed[2].passed = false;
    failed[2].failures = vec!["latency: 3 of 1000 events lost".to_owned()];
    assert_eq!(choices(&failed)[1], Some(Transport::Tcp));
    let said = said_of(&failed, Use::OneHost, Transport::Unix);
    assert_eq!(said, "latency: 3 of 1000 events lost");
}

#[test]
fn without_one_that_is_fit_there_is_none() {
    let only = &usual()[..2];
    let expected = [Some(Transport::Crossbeam), None, None, None];
    assert_eq!(choices(only), expected);
    let said = said_of(only, Use::UntrustedNetwork, Transport::Tcp);
    assert_eq!(said, "it was not measured");
    let said = said_of(only, Use::UntrustedNetwork, Transport::InProcess);
    assert!(said.contains("not encrypted"), "{said}");
}

#[test]
fn what_speaks_against_a_choice_is_told() {
    let mut errors = usual();
    errors[3].errors.backpressure = 7;
    errors[3].latency.accepted_rate = 5_000.0;
    let drawbacks = recommend(&errors).remove(3).drawbacks.join("; ");
    for told in [
        "loopback",
        "backpressure 7",
        "did not keep up",
        "certificates",
    ] {
        assert!(drawbacks.contains(told), "{told}: {drawbacks}");
    }
    let drawbacks = recommend(&usual()).remove(0).drawbacks.join("; ");
    assert!(
        drawbacks.contains("recovery was not measured"),
        "{drawbacks}"
    );
}
