//! The end: gracefully, by force, twice, and without a word.

use tokio::time::Instant;

use super::*;
use crate::collector::wire::Ending;
use crate::registry::Removal;

const SOON: Duration = Duration::from_secs(5);

fn shut_down(ended: Ended) -> wire::ShutdownReply {
    match ended {
        Ended::ShutDown(reply) => reply,
        other => panic!("{other:?}"),
    }
}

fn removal(change: &Change) -> Option<Removal> {
    match change {
        Change::Removed { reason, .. } => Some(*reason),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn gracefully_it_stops_drains_confirms_and_leaves() {
    let mut scene = Scene::new().await;
    scene.client.start_collection(&Value::Null).await.unwrap();
    let intake = scene.host.intake();
    let (one, other) = (intake.enter().unwrap(), intake.enter().unwrap());
    let client = scene.client.clone();
    let shutdown = tokio::spawn(async move { client.shutdown(SOON, None).await });
    let draining = |c: &Change| matches!(c, Change::Changed(m) if m.activity == Activity::Draining);
    let Change::Changed(member) = scene.until(draining).await else {
        unreachable!()
    };
    assert!(!member.is_available());
    assert!(intake.enter().is_none(), "it still takes work in");
    let refused = scene.client.start_collection(&json!(1)).await.unwrap_err();
    assert_eq!(refused.problem(), Some(Problem::Draining));
    assert_eq!(scene.client.health_check().await.unwrap().working, 2);
    scene.asked("stop_collection").await;
    drop(one);
    assert!(!shutdown.is_finished());
    assert_eq!(scene.fake.asked(), ["start_collection", "stop_collection"]);
    drop(other);
    let reply = shutdown.await.unwrap().unwrap();
    assert_eq!(
        (reply.ended, reply.unfinished, &reply.reason),
        (Ending::Graceful, 0, &None)
    );
    let left = scene.until(|change| removal(change).is_some()).await;
    assert_eq!(removal(&left), Some(Removal::Left));
    assert_eq!(scene.host.ended().await, Ended::ShutDown(reply));
    assert_eq!(scene.fake.asked(), ["shutdown"]);
    let gone = scene.client.health_check().await.unwrap_err();
    assert!(gone.to_string().contains("no service `procmond`"), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_finished_by_the_deadline_is_cut_off() {
    let scene = Scene::new().await;
    let _never = scene.host.intake().enter().unwrap();
    let start = Instant::now();
    let reply = scene.client.shutdown(SOON, None).await.unwrap();
    assert_eq!(start.elapsed(), SOON);
    assert_eq!(
        (reply.ended, reply.unfinished, reply.took_ms),
        (Ending::Forced, 1, 5_000)
    );
    assert_eq!(
        reply.reason.as_deref(),
        Some("1 pieces of work were not finished")
    );
    assert_eq!(scene.fake.asked(), ["abort"]);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_does_not_come_back_holds_up_no_shutdown() {
    let scene = Scene::new().await;
    scene.fake.will("start_collection", Does::Hang);
    let client = scene.client.clone();
    let hangs = tokio::spawn(async move { client.start_collection(&Value::Null).await });
    scene.asked("start_collection").await;
    let reply = scene.client.shutdown(SOON, None).await.unwrap();
    assert_eq!(reply.ended, Ending::Forced);
    assert_eq!(
        reply.reason.as_deref(),
        Some("start_collection had not come back")
    );
    let cut_off = hangs.await.unwrap().unwrap_err();
    assert_eq!(cut_off.problem(), Some(Problem::CutOff));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_refuses_or_panics_in_the_end_has_not_ended_gracefully() {
    for (does, reason) in [
        (Does::Refuse, "shutdown: no shutdown today"),
        (Does::Panic, "shutdown panicked"),
    ] {
        let scene = Scene::new().await;
        scene.fake.will("shutdown", does);
        let reply = shut_down(scene.host.shutdown(SOON).await);
        assert_eq!(
            (reply.ended, reply.reason.as_deref()),
            (Ending::Forced, Some(reason))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_called_twice_is_one_and_the_earlier_deadline_holds() {
    let scene = Scene::new().await;
    let _never = scene.host.intake().enter().unwrap();
    let start = Instant::now();
    let call = |deadline| {
        let client = scene.client.clone();
        tokio::spawn(async move { client.shutdown(deadline, None).await })
    };
    let patient = call(Duration::from_secs(25));
    scene.host.intake().closed().await;
    let more = call(Duration::from_secs(28));
    let impatient = call(SOON);
    let replies = [patient, more, impatient];
    let mut got = Vec::new();
    for reply in replies {
        got.push(reply.await.unwrap().unwrap());
    }
    assert_eq!(start.elapsed(), SOON);
    assert!(got.iter().all(|reply| *reply == got[0]), "{got:?}");
    assert_eq!(
        scene.host.shutdown(SOON).await,
        Ended::ShutDown(got[0].clone())
    );
    assert_eq!(scene.fake.asked(), ["abort"], "it was taken down twice");
}

#[tokio::test(start_paused = true)]
async fn another_life_than_the_one_meant_is_not_shut_down() {
    let scene = Scene::new().await;
    let error = scene
        .client
        .shutdown(SOON, Some("life-0"))
        .await
        .unwrap_err();
    assert_eq!(error.problem(), Some(Problem::Conflict), "{error}");
    let own = scene.host.identity().instance.clone();
    scene.client.shutdown(SOON, Some(&own)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_dropped_says_goodbye_and_one_without_a_bus_ends() {
    let Scene {
        host,
        mut changes,
        bus,
        registry,
        ..
    } = Scene::new().await;
    assert!(matches!(changes.next().await, Some(Change::Joined(_))));
    drop(host);
    let left = timeout(WATCHDOG, changes.next()).await.unwrap().unwrap();
    assert_eq!(removal(&left), Some(Removal::Left));
    let members = registry.members();
    assert_eq!(members, []);
    bus.shutdown().await.unwrap();

    let scene = Scene::new().await;
    scene.home.shutdown().await.unwrap();
    let ended = timeout(WATCHDOG, scene.host.ended()).await;
    assert_eq!(ended.expect("it goes on"), Ended::BusClosed);
    assert!(scene.host.intake().is_closed());
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_on_while_a_change_does_not_come_back() {
    let options = Options {
        limit: Duration::from_secs(60),
        ..Options::default()
    };
    let scene = Scene::with(options).await;
    scene.fake.will("start_collection", Does::Hang);
    let start = Instant::now();
    let before = scene.registry.stats().heard;
    scene
        .client
        .start_collection(&Value::Null)
        .await
        .unwrap_err();
    let heard = scene.registry.stats().heard - before;
    let seconds = start.elapsed().as_secs();
    assert!(heard >= seconds && seconds >= 35, "{heard} in {seconds} s");
}
