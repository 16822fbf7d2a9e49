//! What `flush` promises: everything accepted before it is in the queues it is for.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use busrt_backend::{Address, BrokerMode, BusrtBus, Options, open};
use eventbus_trait::{BusState, Event, EventBus, FlushError, Subscribe, TryRecvError};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 200;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test hangs");
    });
}

fn directory() -> tempfile::TempDir {
    tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o700))
        .tempdir()
        .unwrap()
}

async fn opened(address: &Address, broker: BrokerMode) -> Arc<BusrtBus> {
    let mut options = Options::new(address.clone());
    options.broker = broker;
    open(options).await.unwrap()
}

fn event(n: u64) -> Event {
    Event::new("a.b", n.to_le_bytes().to_vec()).unwrap()
}

#[test]
fn after_a_flush_everything_can_be_taken_without_waiting() {
    run(async {
        let dir = directory();
        for address in [
            Address::InProcess,
            Address::Unix(dir.path().join("bus.sock")),
        ] {
            let bus = opened(&address, BrokerMode::Auto).await;
            let publisher = bus.connect(None).await.unwrap();
            let mut near = publisher
                .subscribe(Subscribe::to("a.#").unwrap())
                .await
                .unwrap();
            let mut far = bus.subscribe(Subscribe::to("a.#").unwrap()).await.unwrap();
            // Few at a time: reading the first of many gives the last time to arrive by itself.
            for round in 0..ROUNDS {
                let numbers = || 10 * round..10 * (round + 1);
                for n in numbers() {
                    publisher.publish(event(n)).await.unwrap();
                }
                publisher.flush(PATIENCE).await.unwrap();
                for subscription in [&mut far, &mut near] {
                    for n in numbers() {
                        let taken = subscription.try_recv().unwrap();
                        assert_eq!(taken.bytes().unwrap()[..], n.to_le_bytes());
                    }
                    assert_eq!(subscription.try_recv(), Err(TryRecvError::Empty));
                }
            }
            publisher.shutdown().await.unwrap();
            assert_eq!(publisher.flush(PATIENCE).await, Err(FlushError::Closed));
            bus.shutdown().await.unwrap();
        }
    });
}

#[test]
fn a_flush_that_cannot_be_confirmed_names_who_has_not() {
    run(async {
        let dir = directory();
        let address = Address::Unix(dir.path().join("bus.sock"));
        let host = opened(&address, BrokerMode::Embedded).await;
        let bus = opened(&address, BrokerMode::External).await;
        let mut reader = bus
            .subscribe(Subscribe::to("a.#").unwrap().named("reader"))
            .await
            .unwrap();
        drop(host);
        let mut state = bus.state();
        let away = |state: &BusState| matches!(state, BusState::Connecting { .. });
        state.wait_for(away).await.unwrap();
        bus.publish(event(7)).await.unwrap();
        match bus.flush(Duration::from_millis(20)).await.unwrap_err() {
            FlushError::Unconfirmed { subscriptions, .. } => assert_eq!(subscriptions, ["reader"]),
            other => panic!("{other}"),
        }
        let _host = opened(&address, BrokerMode::Auto).await;
        bus.flush(PATIENCE).await.unwrap();
        assert!(reader.try_recv().is_ok());
    });
}
