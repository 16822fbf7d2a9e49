//! `open`: every phase that this build has carries events, every other says what it lacks.
//!
//! Which tests there are depends on the features, as what `open` does depends on them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use eventbus::{Config, OpenError, Phase};

fn on(phase: &str) -> Config {
    Config::default().phase(phase.parse().unwrap())
}

async fn open_error(config: &Config) -> String {
    eventbus::open(config).await.unwrap_err().to_string()
}

#[cfg(not(feature = "tcp"))]
#[tokio::test]
async fn tcp_without_its_feature_names_the_feature() {
    assert_eq!(
        open_error(&on("tcp://broker:7777")).await,
        "phase `tcp://broker:7777` needs the feature `tcp`, which this build does not have"
    );
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn tcp_without_certificates_says_so() {
    assert_eq!(
        open_error(&on("tcp://broker:7777")).await,
        "phase `tcp://broker:7777` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set"
    );
    let config = on("tcp://broker:7777").tls(eventbus::Tls::new("ca.pem", "x.pem", "x.key"));
    assert_eq!(
        open_error(&config).await,
        "cannot open phase `tcp://broker:7777`: cannot read CA file `ca.pem`: No such file or \
         directory (os error 2)"
    );
}

#[tokio::test]
async fn a_plain_phase_is_no_shadow() {
    let error = eventbus::open_shadow(&on("crossbeam")).await.unwrap_err();
    let phase = "crossbeam".to_owned();
    assert_eq!(error, OpenError::NoShadow { phase });
}

#[test]
fn the_default_phase_is_one_that_the_build_has() {
    let default = Phase::default();
    match Phase::available() {
        [] => assert_eq!(default, Phase::Crossbeam),
        available => assert!(available.contains(&default.name())),
    }
}

#[cfg(not(feature = "crossbeam"))]
#[tokio::test]
async fn crossbeam_without_its_feature_names_the_feature() {
    let told = "phase `crossbeam` needs the feature `crossbeam`, which this build does not have";
    assert_eq!(open_error(&on("crossbeam")).await, told);
}

#[cfg(not(feature = "busrt"))]
#[tokio::test]
async fn busrt_without_its_feature_names_the_feature() {
    for phase in ["in-process", "unix:///run/x/bus.sock"] {
        let told =
            format!("phase `{phase}` needs the feature `busrt`, which this build does not have");
        assert_eq!(open_error(&on(phase)).await, told);
        // Nor does a shadow start with a candidate that could never be.
        let shadow = Config::default().shadow(Phase::Crossbeam, phase.parse().unwrap());
        let error = open_error(&shadow.unwrap()).await;
        assert!(error.contains("needs the feature"), "{error}");
    }
}

#[cfg(any(feature = "crossbeam", feature = "busrt"))]
mod carried {
    use std::sync::Arc;
    use std::time::Duration;

    use eventbus::{Event, EventBus, Subscribe};

    use super::*;

    /// Far beyond what any of this takes; reaching it is a hang.
    const WATCHDOG: Duration = Duration::from_secs(60);

    /// Opens, publishes through one handle, and receives through another.
    async fn carries(config: Config) -> Arc<dyn EventBus> {
        let exchange = async {
            let bus = eventbus::open(&config).await.unwrap();
            let other = bus.connect(None).await.unwrap();
            let mut events = other
                .subscribe(Subscribe::to("events.#").unwrap())
                .await
                .unwrap();
            for n in 0..100_u32 {
                let event = Event::json("events.process.new", &n).unwrap();
                bus.publish(event).await.unwrap();
            }
            for n in 0..100_u32 {
                let event = events.recv().await.expect("an event is missing");
                assert_eq!(*event.decode_json::<u32>().unwrap(), n);
            }
            other.shutdown().await.unwrap();
            assert!(events.recv().await.is_none());
            bus
        };
        tokio::time::timeout(WATCHDOG, exchange).await.unwrap()
    }

    async fn opens(config: Config, backend: &str) {
        let bus = carries(config).await;
        assert_eq!(bus.backend(), backend);
        bus.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn the_default_phase_carries_events() {
        opens(Config::default(), Phase::default().name()).await;
    }

    #[cfg(feature = "crossbeam")]
    #[tokio::test]
    async fn crossbeam_carries_events_alone_and_in_a_shadow() {
        opens(on("crossbeam"), "crossbeam").await;
        let twice = Config::default().shadow(Phase::Crossbeam, Phase::Crossbeam);
        opens(twice.unwrap(), "shadow").await;
    }

    #[cfg(feature = "busrt")]
    mod busrt {
        use eventbus::BrokerMode;

        use super::*;

        /// In a directory that is made with the mode that it must have.
        fn socket(directory: &tempfile::TempDir) -> Phase {
            Phase::Unix(directory.path().join("run/bus.sock"))
        }

        #[tokio::test]
        async fn in_process_carries_events_alone_and_in_a_shadow() {
            opens(on("in-process"), "in-process").await;
            let twice = Config::default().shadow(Phase::InProcess, Phase::InProcess);
            opens(twice.unwrap(), "shadow").await;
        }

        #[tokio::test]
        async fn unix_carries_events_alone_and_in_a_shadow() {
            let directory = tempfile::tempdir().unwrap();
            opens(Config::default().phase(socket(&directory)), "unix").await;
            let shadow = Config::default().shadow(Phase::InProcess, socket(&directory));
            opens(shadow.unwrap(), "shadow").await;
        }

        #[tokio::test]
        async fn two_programs_meet_at_one_socket() {
            let directory = tempfile::tempdir().unwrap();
            let config = Config::default().phase(socket(&directory));
            let host = eventbus::open(&config).await.unwrap();
            let guest = config.clone().broker_mode(BrokerMode::External);
            opens(guest, "unix").await;
            let second = config.broker_mode(BrokerMode::Embedded);
            assert!(
                open_error(&second)
                    .await
                    .starts_with("cannot open phase `unix://")
            );
            host.shutdown().await.unwrap();
        }

        #[tokio::test]
        async fn a_name_and_limits_reach_the_bus() {
            let mut config = on("in-process").name("collector");
            config.limits.max_event_size = 10;
            let bus = eventbus::open(&config).await.unwrap();
            let event = Event::new("a", "eleven long").unwrap();
            let refused = bus.publish(event).await.unwrap_err();
            let reason = eventbus::PublishError::TooLarge {
                size: 11,
                limit: 10,
            };
            assert_eq!(*refused.reason(), reason);
            bus.shutdown().await.unwrap();
        }

        /// MIG-001: no candidate failure reaches the application, not even at the start.
        #[tokio::test]
        async fn a_candidate_that_is_not_there_leaves_the_application_its_primary() {
            let directory = tempfile::tempdir().unwrap();
            let config = Config::default()
                .shadow(Phase::InProcess, socket(&directory))
                .unwrap()
                .connect_timeout(Duration::from_secs(1));
            // In process the mode means nothing, so only the candidate looks for a broker in vain.
            let mut config = config.broker_mode(BrokerMode::External);
            for wait in [false, true] {
                config.wait = wait;
                let opening = opens(config.clone(), "shadow");
                let opened = tokio::time::timeout(Duration::from_secs(60), opening).await;
                assert!(opened.is_ok(), "it waits for its candidate");
            }

            let shadow = eventbus::open_shadow(&config).await.unwrap();
            shadow.publish(Event::new("a", "x").unwrap()).await.unwrap();
            let verdict = shadow.report().verdict;
            assert_eq!(verdict, eventbus::shadow::Verdict::Inconclusive);
            shadow.shutdown().await.unwrap();
        }
    }

    #[cfg(feature = "tcp")]
    mod tcp {
        use std::os::unix::fs::PermissionsExt as _;

        use conformance::fault::Reserved;
        use eventbus::{BrokerMode, Tls};
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

        use super::*;

        /// An authority, and one certificate for a program that is broker and client.
        fn certificates(directory: &tempfile::TempDir) -> Tls {
            let path = |name: &str| directory.path().join(name);
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let certificate = params.self_signed(&key).unwrap();
            std::fs::write(path("ca.pem"), certificate.pem()).unwrap();
            let issuer = Issuer::new(params, key);
            let names = ["collector".to_owned(), "127.0.0.1".to_owned()];
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(names).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            std::fs::write(path("own.pem"), certificate.pem()).unwrap();
            std::fs::write(path("own.key"), key.serialize_pem()).unwrap();
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(path("own.key"), mode).unwrap();
            Tls::new(path("ca.pem"), path("own.pem"), path("own.key"))
        }

        #[tokio::test]
        async fn tcp_carries_events_alone_and_in_a_shadow() {
            let directory = tempfile::tempdir().unwrap();
            let ports = [Reserved::new().unwrap(), Reserved::new().unwrap()];
            let [tcp, candidate] = ports.each_ref().map(|port| {
                format!("tcp://{}", port.address())
                    .parse::<Phase>()
                    .unwrap()
            });
            let config = Config::default()
                .tls(certificates(&directory))
                .broker_mode(BrokerMode::Embedded);
            let host = carries(config.clone().phase(tcp.clone())).await;
            assert_eq!(host.backend(), "tcp");
            let guest = config.clone().broker_mode(BrokerMode::Auto);
            opens(guest.phase(tcp), "tcp").await;
            host.shutdown().await.unwrap();

            let shadow = config.shadow(Phase::InProcess, candidate).unwrap();
            opens(shadow, "shadow").await;
        }

        #[tokio::test]
        async fn a_broker_by_itself_serves_tcp() {
            let directory = tempfile::tempdir().unwrap();
            let mut config = Config::default().tls(certificates(&directory));
            config.broker.tcp.push("127.0.0.1:0".parse().unwrap());
            let broker = eventbus::start_broker(&config).await.unwrap();
            let port = broker.addresses()[0].port().unwrap();
            let tcp = format!("tcp://127.0.0.1:{port}").parse().unwrap();
            opens(config.phase(tcp).name("collector"), "tcp").await;
            broker.stop().await;
        }
    }
}
