//! Desk, tally and values, without a bus.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_timer::Delay;

use super::*;
use crate::{Correlation, Payload};

const LONG: Duration = Duration::from_secs(60);

fn echo() -> impl Handler {
    |call: Call| async move { Ok(Reply::new(call.payload)) }
}

fn call(method: &str) -> Call {
    Call::new("s", method, "payload").deadline(LONG)
}

fn never() -> impl Future<Output = ()> {
    pending()
}

#[tokio::test]
async fn what_is_admitted_is_counted_once_however_it_ends() {
    let methods = Methods::new()
        .on("echo", echo())
        .on("fail", |_: Call| async { Err(Failure::new(3, "no")) })
        .on("panic", |_: Call| async {
            std::panic::resume_unwind(Box::new("own"))
        })
        .on("hang", |_: Call| async { pending().await });
    let service = Service::new("s", methods).concurrency(2).queue(2);
    let desk = service.desk();
    let attend = async |method: &str| desk.admit(method)?.attend(call(method), never()).await;
    assert_eq!(attend("echo").await, Ok(Reply::new("payload")));
    let service = || "s".to_owned();
    let failed = CallError::Failed {
        service: service(),
        code: 3,
        message: "no".to_owned(),
    };
    assert_eq!(attend("fail").await, Err(failed));
    let panicked = CallError::Panicked { service: service() };
    assert_eq!(attend("panic").await, Err(panicked));
    let none = CallError::NoMethod {
        service: service(),
        method: "none".to_owned(),
    };
    assert_eq!(attend("none").await, Err(none));
    let late = desk.admit("hang").unwrap();
    let late = late.attend(call("hang"), Delay::new(Duration::from_millis(1)));
    let deadline = CallError::Deadline {
        service: service(),
        deadline: LONG,
    };
    assert_eq!(late.await, Err(deadline));
    drop(desk.admit("hang").unwrap());
    let stats = desk.stats();
    let ended = (stats.replied, stats.failed, stats.panicked, stats.dropped);
    assert_eq!(ended, (1, 1, 1, 2));
    assert_eq!((stats.admitted, stats.running, stats.waiting), (5, 0, 0));
    assert!(stats.is_conserved());
}

#[tokio::test]
async fn turns_are_taken_in_the_order_of_tickets() {
    let service = Service::new("s", echo()).concurrency(1).queue(3);
    let desk = service.desk();
    let first = desk.admit("m").unwrap();
    let waiting: Vec<_> = (0..3).map(|_| desk.admit("m").unwrap()).collect();
    let busy = CallError::Busy {
        service: "s".to_owned(),
        limit: 4,
    };
    assert_eq!(desk.admit("m").err(), Some(busy));
    // Polled the other way round.
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks: Vec<_> = waiting
        .into_iter()
        .enumerate()
        .map(|(n, ticket)| {
            let order = Arc::clone(&order);
            Box::pin(async move {
                let _ = ticket.attend(call("m"), never()).await;
                order.lock().unwrap().push(n);
            })
        })
        .collect();
    for task in tasks.iter_mut().rev() {
        let polled =
            std::future::poll_fn(|cx| std::task::Poll::Ready(task.as_mut().poll(cx).is_ready()));
        assert!(!polled.await, "the slot is taken");
    }
    first.attend(call("m"), never()).await.unwrap();
    for task in tasks.into_iter().rev() {
        tokio::spawn(task);
    }
    while desk.stats().replied < 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
    assert_eq!(desk.stats().most_running, 1);
}

/// A call that is given up gives back its place before its handler is gone, and its slot afterwards.
#[tokio::test]
async fn who_gives_up_makes_room_and_runs_nothing_beside_what_runs() {
    let service = Service::new("s", |_: Call| async { pending().await });
    let service = service.concurrency(1).queue(0);
    let desk = service.desk();
    let ticket = desk.admit("m").unwrap();
    let give_up = ticket.give_up();
    let mut running = Box::pin(ticket.attend(call("m"), never()));
    let poll =
        std::future::poll_fn(|cx| std::task::Poll::Ready(running.as_mut().poll(cx).is_pending()));
    assert!(poll.await);
    assert!(desk.admit("m").is_err());
    give_up.now();
    give_up.now();
    let next = desk.admit("m").unwrap();
    let mut next = Box::pin(next.attend(call("m"), never()));
    let poll =
        std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending()));
    assert!(poll.await);
    assert_eq!(desk.stats().running, 1);
    drop(running);
    drop(next);
    let stats = desk.stats();
    assert_eq!((stats.dropped, stats.running, stats.waiting), (2, 0, 0));
    assert!(stats.is_conserved());
}

/// What a handler had is dropped when its deadline comes, and it was told how much time there was.
#[tokio::test]
async fn a_handler_is_told_what_is_left_and_dropped_at_the_deadline() {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dropped);
    let service = Service::new("s", move |call: Call| {
        assert!(call.deadline <= LONG && !call.deadline.is_zero());
        let told = Told(Arc::clone(&flag));
        async move {
            let _told = told;
            pending().await
        }
    });
    let ticket = service.desk().admit("m").unwrap();
    let ended = ticket.attend(call("m"), Delay::new(Duration::from_millis(1)));
    assert!(matches!(ended.await, Err(CallError::Deadline { .. })));
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_tally_is_closed_and_waited_for() {
    let tally = Tally::new(2);
    let one = tally.enter().unwrap();
    let other = tally.enter().unwrap();
    assert_eq!(tally.enter().err(), Some(NotIn::Full { limit: 2 }));
    one.done(true);
    tally.close();
    assert_eq!(tally.enter().err(), Some(NotIn::Closed));
    let empty = tokio::spawn({
        let tally = Arc::clone(&tally);
        async move { tally.empty().await }
    });
    tokio::task::yield_now().await;
    assert!(!empty.is_finished());
    drop(other);
    empty.await.unwrap();
    let stats = tally.stats();
    let counted = (
        stats.made,
        stats.replied,
        stats.cancelled,
        stats.outstanding,
    );
    assert_eq!(counted, (2, 1, 1, 0));
    tally.end();
    tally.over().await;
}

#[test]
fn what_can_be_said_of_a_call_is_said_before_anybody_is_asked() {
    for bad in ["", "a b", "a\0", "ü", &"m".repeat(MAX_METHOD_BYTES + 1)] {
        let method = bad.to_owned();
        assert_eq!(call(bad).check(100), Err(CallError::BadMethod { method }));
    }
    let large = call("m").correlation(Correlation::new("id"));
    let size = 7 + 2 + 8;
    let limit = size - 1;
    assert_eq!(large.check(limit), Err(CallError::TooLarge { size, limit }));
    assert_eq!(large.check(size), Ok(()));
    let typed = Call::typed::<String, crate::codec::Json>("s", "m", "x".repeat(9));
    assert_eq!(typed.check(1), Ok(()), "nobody has encoded it");
}

#[test]
fn bounds_and_names_of_a_service_are_checked() {
    let service = |name: &str| Service::new(name, echo());
    assert_eq!(service("ok").check(64), Ok(()));
    for bad in ["", "eb-own", "a--in-b", "dotted.name"] {
        let error = service(bad).check(64);
        assert!(matches!(error, Err(ServeError::BadName { .. })), "{bad}");
    }
    assert!(service("long").check(3).is_err());
    let none = service("s").concurrency(0).check(64).unwrap_err();
    let text = "concurrency of service `s` is 0, not within 1 to 65536";
    assert_eq!(none.to_string(), text);
    assert!(service("s").queue(MAX_CALLS + 1).check(64).is_err());
}

#[test]
fn typed_requests_and_replies_by_each_codec() {
    let call = Call::json("s", "m", &[1, 2]).unwrap();
    assert_eq!(*call.decode_json::<Vec<u8>>().unwrap(), [1, 2]);
    let shared = Arc::new("value".to_owned());
    let reply = Reply::typed::<String, crate::codec::Json>(Arc::clone(&shared));
    let same = reply.decode::<String, crate::codec::Json>().unwrap();
    assert!(Arc::ptr_eq(&same, &shared));
    let there = Reply::new(Payload::raw(reply.payload.bytes().unwrap()));
    assert_eq!(*there.decode_json::<String>().unwrap(), "value");
    let failure: Failure = there.decode_json::<u8>().unwrap_err().into();
    assert!(matches!(
        failure,
        Failure::Failed {
            code: INVALID_REQUEST,
            ..
        }
    ));
}

#[cfg(feature = "protobuf")]
#[test]
fn a_prost_message_is_a_request() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Ask {
        #[prost(uint32, tag = "1")]
        pid: u32,
        #[prost(string, tag = "2")]
        name: String,
    }
    let ask = Ask {
        pid: 150,
        name: "init".to_owned(),
    };
    let call = Call::protobuf("s", "m", &ask).unwrap();
    assert_eq!(
        call.payload.bytes().unwrap(),
        &b"\x08\x96\x01\x12\x04init"[..]
    );
    assert_eq!(call.payload.content_type(), &crate::ContentType::Protobuf);
    assert_eq!(*call.decode_protobuf::<Ask>().unwrap(), ask);
    let reply = Reply::protobuf(&ask).unwrap();
    assert_eq!(*reply.decode_protobuf::<Ask>().unwrap(), ask);
    let bad = Call::new("s", "m", &b"\xFF"[..]);
    assert!(bad.decode_protobuf::<Ask>().is_err());
}

#[test]
fn an_error_says_whether_the_call_may_have_run() {
    let service = || "s".to_owned();
    let deadline = CallError::Deadline {
        service: service(),
        deadline: Duration::from_secs(1),
    };
    assert!(deadline.may_have_run());
    let text = "no answer from `s` within 1s; the call may have been carried out";
    assert_eq!(deadline.to_string(), text);
    let busy = CallError::Busy {
        service: service(),
        limit: 3,
    };
    assert!(!busy.may_have_run());
}

/// How many handlers are there, and how many there were at once.
#[derive(Clone, Default)]
struct Crowd(Arc<[std::sync::atomic::AtomicU64; 2]>);

struct InCrowd(Crowd);

impl Crowd {
    fn enter(&self) -> InCrowd {
        let there = self.0[0].fetch_add(1, Ordering::SeqCst) + 1;
        self.0[1].fetch_max(there, Ordering::SeqCst);
        InCrowd(self.clone())
    }

    fn now_and_most(&self) -> (u64, u64) {
        let of = |at: usize| self.0[at].load(Ordering::SeqCst);
        (of(0), of(1))
    }
}

impl Drop for InCrowd {
    fn drop(&mut self) {
        self.0.0[0].fetch_sub(1, Ordering::SeqCst);
    }
}

/// A service for one call at a time, whose handler hangs, and its spare one.
fn crowded() -> (Crowd, Service, Spare, Service) {
    let crowd = Crowd::default();
    let entering = crowd.clone();
    let hang = move |_: Call| {
        let there = entering.enter();
        async move {
            let _there = there;
            pending().await
        }
    };
    let service = Service::new("s", Methods::new().on("hang", hang));
    let service = service.concurrency(1).queue(4);
    let spare = Spare::of(&service);
    let other = spare.service("s--spare").concurrency(8);
    (crowd, service, spare, other)
}

fn yielded(end: Result<Reply, CallError>) -> bool {
    matches!(end, Err(CallError::Failed { code: YIELDED, .. }))
}

#[tokio::test]
async fn a_spare_handler_gives_its_slot_to_a_call_that_finds_none() {
    let (crowd, service, _spare, other) = crowded();
    let asked = call("hang").idempotent();
    let spare = other.desk().admit("hang").unwrap();
    let spare = tokio::spawn(spare.attend(asked, never()));
    while crowd.now_and_most().0 == 0 {
        tokio::task::yield_now().await;
    }
    let ticket = service.desk().admit("hang").unwrap();
    let calling = tokio::spawn(ticket.attend(call("hang"), never()));
    assert!(yielded(spare.await.unwrap()));
    while service.desk().stats().running == 0 {
        tokio::task::yield_now().await;
    }
    // One that comes now waits behind the call, and for it.
    let waits = other.desk().admit("hang").unwrap();
    let mut waits = Box::pin(waits.attend(call("hang").idempotent(), never()));
    let polled = waits
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(polled.is_pending());
    assert_eq!(crowd.now_and_most(), (1, 1));
    calling.abort();
    drop(waits);
    let stats = service.desk().stats();
    assert_eq!((stats.admitted, stats.busy), (1, 0));
}

#[tokio::test]
async fn a_spare_service_ends_with_its_service_and_repeats_nothing_unasked() {
    let (crowd, _service, spare, other) = crowded();
    let unasked = other.desk().admit("hang").unwrap();
    let unasked = unasked.attend(call("hang"), never()).await;
    let refused = |end| {
        matches!(
            end,
            Err(CallError::Failed {
                code: NOT_IDEMPOTENT,
                ..
            })
        )
    };
    assert!(refused(unasked));
    let under_way = other.desk().admit("hang").unwrap();
    let under_way = tokio::spawn(under_way.attend(call("hang").idempotent(), never()));
    while crowd.now_and_most().0 == 0 {
        tokio::task::yield_now().await;
    }
    spare.end();
    assert!(yielded(under_way.await.unwrap()));
    let after = other.desk().admit("hang").unwrap();
    assert!(yielded(
        after.attend(call("hang").idempotent(), never()).await
    ));
    assert_eq!(crowd.now_and_most(), (0, 1));
}
