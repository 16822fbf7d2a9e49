//! What a connection costs the broker: the figures of `docs/operations.md` are what this prints.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use eventbus::{BrokerMode, Config, Event, EventBus, Phase, Subscribe};
use serde_json::Value;

use crate::program::Place;

const SESSIONS: u64 = 100;
/// Far more than it is: this finds a mistake of another order, and measures nothing.
const TOO_MUCH: u64 = 8 << 20;

fn resident(metrics: &Path) -> u64 {
    let mut stream = UnixStream::connect(metrics).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: broker\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    value.unwrap().parse().unwrap()
}

/// Sessions that each have a subscription, have published to all others and have read all of it.
async fn sessions(socket: &Path) -> Vec<Arc<dyn EventBus>> {
    let config = Config::default()
        .phase(Phase::Unix(socket.to_owned()))
        .broker_mode(BrokerMode::External);
    let first = eventbus::open(&config).await.unwrap();
    let mut all = vec![first];
    while (all.len() as u64) < SESSIONS {
        let next = all[0].connect(None).await.unwrap();
        all.push(next);
    }
    let mut readers = Vec::new();
    for bus in &all {
        let everything = Subscribe::to("memory.#").unwrap();
        readers.push(bus.subscribe(everything).await.unwrap());
    }
    for bus in &all {
        let event = Event::json("memory.told", &[0_u64; 12]).unwrap();
        bus.publish(event).await.unwrap();
    }
    for mut reader in readers {
        for _ in 0..SESSIONS {
            assert!(reader.recv().await.is_some());
        }
    }
    all
}

#[test]
fn a_connection_costs_the_broker_little() {
    let place = Place::new();
    let words = "broker --json --unix run/bus.sock --metrics unix:run/metrics.sock \
                 --max-connections 110";
    let broker = place.start(words, &[]);
    let ready: Value = serde_json::from_str(&broker.first_line()).unwrap();
    assert_eq!(ready["ready"], true);
    let run = place.path().canonicalize().unwrap().join("run");
    let metrics = run.join("metrics.sock");
    let before = resident(&metrics);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = runtime.block_on(sessions(&run.join("bus.sock")));
    let after = resident(&metrics);
    let each = after.saturating_sub(before) / SESSIONS;
    println!(
        "broker alone {:.1} MB, with {SESSIONS} sessions {:.1} MB: {:.2} MB each",
        before as f64 / 1e6,
        after as f64 / 1e6,
        each as f64 / 1e6
    );
    assert!(each > 0 && each < TOO_MUCH, "{each} bytes");
    runtime.block_on(async {
        for bus in &all {
            bus.shutdown().await.unwrap();
        }
    });
    broker.signal("TERM");
    assert_eq!(broker.end().code, Some(0));
}
