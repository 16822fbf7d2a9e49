//! Calls over a broker, from outside: frames as busrt's own clients send them, and as nobody should.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

#[path = "front_door/peer.rs"]
mod peer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use busrt_backend::broker::{Acl, AclRule};
use busrt_backend::wire::call;
use busrt_backend::{Address, BrokerMode, BusrtBus, Options, open};
use eventbus_trait::rpc::{Call, CallError, Failure, Methods, Reply, ServeError, Service};
use eventbus_trait::{ContentType, EventBus};
use peer::{MESSAGE, OK, PATIENCE, Peer, addressed};
use tokio::time::timeout;

/// busrt's acknowledgement for what is not allowed.
const DENIED: u8 = busrt::ERR_ACCESS;

async fn bus(path: &Path, name: &str, change: impl FnOnce(&mut Options)) -> Arc<BusrtBus> {
    let mut options = Options::new(Address::Unix(path.to_owned()));
    options.name = Some(name.to_owned());
    change(&mut options);
    open(options).await.unwrap()
}

/// A bus whose process is the broker.
async fn host(path: &Path) -> Arc<BusrtBus> {
    bus(path, "host", |_| {}).await
}

fn methods() -> Methods {
    Methods::new()
        .on(
            "echo",
            |call: Call| async move { Ok(Reply::new(call.payload)) },
        )
        .on("fail", |_: Call| async { Err(Failure::new(-5, "no")) })
        .on("hang", |_: Call| async { std::future::pending().await })
}

fn asks(service: &str, method: &str) -> Call {
    Call::new(service, method, "question").deadline(PATIENCE)
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("it hangs")
}

/// Runs a byte-wise peer where it may block.
async fn blocking<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    in_time(tokio::task::spawn_blocking(run)).await.unwrap()
}

/// The payload of the next message to the peer.
fn message(peer: &mut Peer) -> Vec<u8> {
    loop {
        let received = peer.receive().expect("the broker has hung up");
        if received.kind == busrt::OP_MESSAGE {
            let at = received.body.iter().position(|byte| *byte == 0).unwrap();
            return received.body[at + 1..].to_vec();
        }
    }
}

/// What busrt's own clients send and get: no context, no envelope, codes and words.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_session_calls_by_busrts_own_frames() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let service = Service::new("service", methods()).concurrency(1).queue(0);
    let _serving = host.serve(service).await.unwrap();
    blocking(move || {
        let mut peer = Peer::enter(&path, "plain");
        let mut ask = |request: Vec<u8>| {
            // Without an acknowledgement, behind which the reply may not stand.
            peer.frame(MESSAGE, &addressed("service", &request));
            message(&mut peer)
        };
        assert_eq!(ask(call::request(1, "echo", b"\0x")), b"\x11\x01\0\0\0\0x");
        assert_eq!(
            ask(call::request(2, "fail", b"")),
            b"\x12\x02\0\0\0\xFB\xFFno"
        );
        let none = ask(call::request(3, "none", b""));
        assert_eq!(none[..7], *b"\x12\x03\0\0\0\xA7\x80");
        assert_eq!(none[7..], *b"service `service` has no method `none`");
        // Nobody waits for an answer to 0; the next one is of the next call.
        let told = peer.ask(
            MESSAGE,
            &addressed("service", &call::request(0, "echo", b"")),
        );
        assert_eq!(told, OK);
    })
    .await;
    host.shutdown().await.unwrap();
}

/// A service of somebody else's gets what its own library sends, and a notification ahead of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_session_is_called_by_busrts_own_frames() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let mut peer = blocking(move || Peer::enter(&path, "plain")).await;
    let caller = Arc::clone(&host);
    let called = tokio::spawn(async move {
        let reply = caller.call(asks("plain", "do")).await;
        let failed = caller.call(asks("plain", "do")).await;
        let none = caller.call(asks("plain", "do")).await;
        (reply, failed, none)
    });
    let peer = blocking(move || {
        for answer in [&b"answer"[..], b"\x07\0seven", b"\xA7\x80unknown"] {
            let context = message(&mut peer);
            assert!(context.starts_with(b"\0\xEB\x05RC"), "{context:?}");
            let request = message(&mut peer);
            let (kind, rest) = request.split_at(1);
            let (id, rest) = rest.split_at(4);
            assert_eq!((kind, rest), (&b"\x01"[..], &b"do\0question"[..]));
            let kind = if answer == b"answer" { 0x11 } else { 0x12 };
            let reply = [&[kind][..], id, answer].concat();
            peer.frame(MESSAGE, &addressed("host", &reply));
        }
        peer
    })
    .await;
    let (reply, failed, none) = in_time(called).await.unwrap();
    let reply = reply.unwrap();
    assert_eq!(reply.payload.bytes().unwrap(), "answer");
    assert_eq!(reply.payload.content_type(), &ContentType::Raw);
    let service = || "plain".to_owned();
    let seven = CallError::Failed {
        service: service(),
        code: 7,
        message: "seven".to_owned(),
    };
    assert_eq!(failed, Err(seven));
    let method = "do".to_owned();
    assert_eq!(
        none,
        Err(CallError::NoMethod {
            service: service(),
            method
        })
    );
    drop(peer);
    host.shutdown().await.unwrap();
}

/// RPC-002: whoever was not asked can answer as much as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn rpc_002_a_forged_reply_is_nobodys() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let callee = {
        let path = path.clone();
        blocking(move || Peer::enter(&path, "callee")).await
    };
    let caller = Arc::clone(&host);
    let called = tokio::spawn(async move { caller.call(asks("callee", "do")).await });
    blocking(move || {
        let mut callee = callee;
        message(&mut callee);
        let request = message(&mut callee);
        let id = u32::from_le_bytes(request[1..5].try_into().unwrap());
        let mut forger = Peer::enter(&path, "forger");
        for forged in [id, id.wrapping_add(1), 0, 1] {
            let reply = call::reply(forged, &ContentType::Raw, b"forged", false);
            assert_eq!(forger.ask(MESSAGE, &addressed("host", &reply)), OK);
            let gone = CallError::CalleeGone {
                service: "callee".to_owned(),
            };
            let error = call::error(forged, &gone, true);
            assert_eq!(forger.ask(MESSAGE, &addressed("host", &error)), OK);
        }
        let reply = call::reply(id, &ContentType::Raw, b"true", false);
        assert_eq!(callee.ask(MESSAGE, &addressed("host", &reply)), OK);
    })
    .await;
    let reply = in_time(called).await.unwrap().unwrap();
    assert_eq!(reply.payload.bytes().unwrap(), "true");
    assert_eq!(host.stats().calls.outstanding, 0);
    host.shutdown().await.unwrap();
}

/// RPC-008: a callee that hangs up, and one that comes back under its name and knows of nothing.
#[tokio::test(flavor = "multi_thread")]
async fn rpc_008_a_callee_that_hangs_up_or_is_another_one_now_ends_its_calls() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let gone = Err(CallError::CalleeGone {
        service: "callee".to_owned(),
    });
    for comes_back in [false, true] {
        let entering = path.clone();
        let callee = blocking(move || Peer::enter(&entering, "callee")).await;
        let caller = Arc::clone(&host);
        let called = tokio::spawn(async move { caller.call(asks("callee", "do")).await });
        blocking(move || {
            let mut callee = callee;
            message(&mut callee);
            message(&mut callee);
        })
        .await;
        let reborn = if comes_back {
            let other = bus(&path, "other", |options| {
                options.broker = BrokerMode::External
            })
            .await;
            let serving = other.serve(Service::new("callee", methods())).await;
            Some((other, serving.unwrap()))
        } else {
            None
        };
        assert_eq!(in_time(called).await.unwrap(), gone, "{comes_back}");
        if let Some((other, serving)) = reborn {
            assert!(host.call(asks("callee", "echo")).await.is_ok());
            drop(serving);
            other.shutdown().await.unwrap();
        }
    }
    host.shutdown().await.unwrap();
}

/// A caller that hangs up has its handlers dropped, whatever deadline it gave.
#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_of_a_caller_that_hangs_up_are_dropped() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let service = Service::new("service", methods()).concurrency(1).queue(0);
    let _serving = host.serve(service.longest(PATIENCE * 10)).await.unwrap();
    let served = || host.stats().services[0].clone();
    let peer = blocking(move || {
        let mut peer = Peer::enter(&path, "plain");
        let request = call::request(1, "hang", b"");
        assert_eq!(peer.ask(MESSAGE, &addressed("service", &request)), OK);
        peer
    })
    .await;
    let until = async |running: u64| {
        let mut beat = tokio::time::interval(Duration::from_millis(5));
        while served().running != running {
            beat.tick().await;
        }
    };
    in_time(until(1)).await;
    drop(peer);
    in_time(until(0)).await;
    assert_eq!(served().dropped, 1);
    assert!(host.call(asks("service", "echo")).await.is_ok());
    host.shutdown().await.unwrap();
}

/// A handle serves under its own name by its own connection, and a name is one client's.
#[tokio::test(flavor = "multi_thread")]
async fn a_handle_may_serve_under_its_own_name_and_nobody_under_anothers() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let other = bus(&path, "other", |options| {
        options.broker = BrokerMode::External
    })
    .await;
    let serve = async |bus: &BusrtBus, name: &str| bus.serve(Service::new(name, methods())).await;
    let in_use = |name: &str| ServeError::InUse {
        service: name.to_owned(),
    };
    let none = other.call(asks("host", "echo")).await;
    let no_service = CallError::NoService {
        service: "host".to_owned(),
    };
    assert_eq!(
        none,
        Err(no_service.clone()),
        "a client that serves nothing"
    );
    let serving = serve(&host, "host").await.unwrap();
    assert!(other.call(asks("host", "echo")).await.is_ok());
    assert!(host.call(asks("host", "echo")).await.is_ok(), "itself");
    assert_eq!(serve(&host, "host").await.unwrap_err(), in_use("host"));
    assert_eq!(serve(&other, "host").await.unwrap_err(), in_use("host"));
    assert!(serving.stop(PATIENCE).await);
    assert_eq!(other.call(asks("host", "echo")).await, Err(no_service));
    drop(serve(&other, "named").await.unwrap());
    // The name comes back once the connection has ended.
    drop(serve(&host, "named").await.unwrap());
    other.shutdown().await.unwrap();
    host.shutdown().await.unwrap();
}

/// SEC-004: calls are denied by the callee's name; an answer is no call.
#[tokio::test(flavor = "multi_thread")]
async fn sec_004_calls_are_denied_and_answers_are_not() {
    let (_dir, path) = peer::socket();
    let mut guest = AclRule::allow_all();
    guest.call = vec!["open*".to_owned()];
    let mut options = Options::new(Address::Unix(path.clone()));
    options.name = Some("host".to_owned());
    options.acl = Acl::default().with("guest*", guest);
    let host = open(options).await.unwrap();
    let serving = [
        host.serve(Service::new("open-to-all", methods())).await,
        host.serve(Service::new("closed", methods())).await,
    ];
    let guest = bus(&path, "guest", |options| {
        options.broker = BrokerMode::External
    })
    .await;
    assert!(guest.call(asks("open-to-all", "echo")).await.is_ok());
    let denied = CallError::Denied {
        service: "closed".to_owned(),
    };
    assert_eq!(guest.call(asks("closed", "echo")).await, Err(denied));
    let own = guest.serve(Service::new("guest-service", methods())).await;
    assert!(host.call(asks("guest-service", "echo")).await.is_ok());
    blocking(move || {
        let mut peer = Peer::enter(&path, "guest-plain");
        let request = call::request(1, "echo", b"");
        let told = peer.ask(MESSAGE, &addressed("closed", &request));
        assert_eq!(told, DENIED);
    })
    .await;
    drop((serving, own));
    guest.shutdown().await.unwrap();
    host.shutdown().await.unwrap();
}

/// What arrives at a caller or a callee that makes no sense hurts neither.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_hurts_nobody() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let _serving = host
        .serve(Service::new("service", methods()))
        .await
        .unwrap();
    blocking(move || {
        let mut peer = Peer::enter(&path, "plain");
        for bad in [
            &b""[..],
            b"\x01",
            b"\x01\0\0\0\0no end",
            b"\x11\x01",
            b"\x12\x01\0\0\0",
            b"\0",
            b"\0\xEB\x05R",
            b"\0\xEB\x05RC\x01",
            b"\0\xEB\x05RQ\x01\xFF\xFF",
            b"\0\xEB\x05RC\x02",
        ] {
            for to in ["service", "host"] {
                peer.ask(MESSAGE, &addressed(to, bad));
            }
        }
    })
    .await;
    assert!(host.call(asks("service", "echo")).await.is_ok());
    host.shutdown().await.unwrap();
}

/// A broker that ends takes the calls under way with it, and nothing else: when there is one again, the
/// service is served again without the application's help, and a call made meanwhile is carried out.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_finds_its_services_and_calls() {
    let (_dir, path) = peer::socket();
    let first = host(&path).await;
    let quickly = |options: &mut Options| {
        options.broker = BrokerMode::External;
        options.backoff.most = Duration::from_millis(100);
    };
    let callee = bus(&path, "callee", quickly).await;
    let caller = bus(&path, "caller", quickly).await;
    let service = Service::new("service", methods()).concurrency(1).queue(0);
    let _serving = callee.serve(service).await.unwrap();
    let _own = callee
        .serve(Service::new("callee", methods()))
        .await
        .unwrap();
    let until = async |what: &str, done: &dyn Fn() -> bool| {
        let waiting = async {
            let mut beat = tokio::time::interval(Duration::from_millis(5));
            while !done() {
                beat.tick().await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}"));
    };
    let served = || callee.stats().services[0].clone();
    let hanging = {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move { caller.call(asks("service", "hang")).await })
    };
    until("it runs", &|| served().running == 1).await;
    first.shutdown().await.unwrap();
    let lost = in_time(hanging).await.unwrap();
    assert!(
        matches!(lost, Err(CallError::Disconnected { .. })),
        "{lost:?}"
    );
    until("its handler is dropped", &|| served().running == 0).await;
    // The handle's own connection comes back by itself, and what it serves with it.
    let waiting = {
        let caller = Arc::clone(&caller);
        tokio::spawn(async move { caller.call(asks("callee", "echo")).await })
    };
    until("it waits", &|| caller.stats().calls.outstanding == 1).await;
    let second = host(&path).await;
    let answered = async {
        loop {
            match caller.call(asks("service", "echo")).await {
                Ok(reply) => return reply,
                // The service's connection, or the caller's, is not there yet.
                Err(CallError::NoService { .. } | CallError::Disconnected { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    let reply = in_time(answered).await;
    assert_eq!(reply.payload.bytes().unwrap(), "question");
    // It was not sent before there was a broker; the callee may have come later than the caller.
    let waited = in_time(waiting).await.unwrap();
    assert!(
        matches!(waited, Ok(_) | Err(CallError::NoService { .. })),
        "{waited:?}"
    );
    assert_eq!(caller.stats().calls.outstanding, 0);
    caller.shutdown().await.unwrap();
    callee.shutdown().await.unwrap();
    second.shutdown().await.unwrap();
}

/// A service whose runtime has ended tells its callers so: it neither hangs nor holds up anybody else.
#[test]
fn a_service_whose_runtime_has_ended_is_gone() {
    // A deadlock would keep a runtime from ending, and with it a watchdog that runs there.
    let (ended, watchdog) = std::sync::mpsc::sync_channel(1);
    let test = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(calls_a_service_without_a_runtime());
        drop(runtime);
        ended.send(())
    });
    let hangs = watchdog.recv_timeout(PATIENCE);
    assert_ne!(hangs, Err(std::sync::mpsc::RecvTimeoutError::Timeout));
    test.join().unwrap().unwrap();
}

async fn calls_a_service_without_a_runtime() {
    let (_dir, path) = peer::socket();
    let host = host(&path).await;
    let (own, serves) = (tokio::runtime::Runtime::new().unwrap(), Arc::clone(&host));
    let serving = own.spawn(async move { serves.serve(Service::new("service", methods())).await });
    let serving = in_time(serving).await.unwrap().unwrap();
    let caller = bus(&path, "caller", |_| {}).await;
    assert!(in_time(caller.call(asks("service", "echo"))).await.is_ok());
    own.shutdown_background();
    let gone = Err(CallError::CalleeGone {
        service: "service".to_owned(),
    });
    for _ in 0..3 {
        assert_eq!(in_time(caller.call(asks("service", "echo"))).await, gone);
    }
    in_time(serving.stop(Duration::ZERO)).await;
    in_time(caller.shutdown()).await.unwrap();
    in_time(host.shutdown()).await.unwrap();
}
