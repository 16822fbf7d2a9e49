//! Results come, come again, do not come, and do not fit.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_backend::CrossbeamBus;
use eventbus_trait::{Correlation, Event, EventBus, Limits};

use super::*;

struct Scene {
    bus: Arc<dyn EventBus>,
    gather: Gather,
}

impl Scene {
    async fn new(options: Options) -> Self {
        let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
        let gather = Gather::start(Arc::clone(&bus), options).await.unwrap();
        Self { bus, gather }
    }

    /// A result of a part of `scan`.
    async fn result(&self, topic: &str, id: &str, payload: &'static str) {
        let correlation = Correlation::new("scan").child(id);
        let event = Event::new(topic, payload).unwrap().correlation(correlation);
        self.bus.publish(event).await.unwrap();
    }

    /// Waits until everything that was published has been looked at.
    async fn looked_at(&self, events: u64) -> GatherStats {
        loop {
            let stats = self.gather.stats();
            let seen = stats.parts + stats.repeated + stats.refused + stats.unwanted;
            if seen + stats.unreadable >= events {
                return stats;
            }
            tokio::task::yield_now().await;
        }
    }
}

fn ids(gathered: &Gathered) -> Vec<&str> {
    gathered
        .parts
        .iter()
        .map(|part| &*part.correlation.id)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn all_that_were_named_are_gathered_once_each() {
    let scene = Scene::new(Options::default()).await;
    let gathering = scene.gather.begin(Wanted::ids("scan", ["a", "b"])).unwrap();
    scene.result("results.x", "b", "2").await;
    scene.result("results.x", "b", "again").await;
    scene.result("results.x", "c", "not named").await;
    scene.result("results.y.z", "a", "1").await;
    let gathered = gathering.gathered().await;
    assert_eq!(ids(&gathered), ["b", "a"]);
    assert_eq!(gathered.parts[0].payload, "2".into());
    assert!(gathered.is_complete() && gathered.missing.is_empty());
    assert_eq!((gathered.repeated, gathered.short), (1, 0));
    let stats = scene.looked_at(4).await;
    assert_eq!((stats.gatherings, stats.bytes, stats.unwanted), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_was_given_up_is_no_result_and_the_next_one_has_it() {
    let scene = Scene::new(Options::default()).await;
    let wanted = Wanted::ids("scan", ["a", "b"]).within(Duration::from_secs(3));
    let gathering = scene.gather.begin(wanted).unwrap();
    let any = scene.gather.begin(Wanted::any("scan", 1)).unwrap();
    for (id, stage) in [
        ("a", "accepted"),
        ("a", "cancelled"),
        ("b", "cancelled"),
        ("a", "done"),
    ] {
        let correlation = Correlation::new("scan").child(id).stage(stage);
        let event = Event::new("results.x", stage).unwrap();
        let event = event.correlation(correlation);
        scene.bus.publish(event).await.unwrap();
    }
    let gathered = gathering.gathered().await;
    let [part] = &*gathered.parts else {
        panic!("{gathered:?}");
    };
    assert_eq!(part.payload, "done".into());
    assert_eq!((gathered.ended, gathered.short), (Ended::Deadline, 1));
    let missing: Vec<_> = gathered.missing.iter().map(Missing::to_string).collect();
    assert_eq!(missing, ["`b` was cancelled"]);
    assert_eq!(any.gathered().await.parts[0].payload, "done".into());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_come_by_the_deadline_is_named() {
    let scene = Scene::new(Options::default()).await;
    let wanted = Wanted::topics("scan", ["results.x", "results.y"]);
    let within = Duration::from_secs(3);
    let gathering = scene.gather.begin(wanted.within(within)).unwrap();
    scene.result("results.x", "1", "").await;
    let began = Instant::now();
    let gathered = gathering.gathered().await;
    assert_eq!(began.elapsed(), within);
    assert_eq!((gathered.ended, gathered.short), (Ended::Deadline, 1));
    let missing: Vec<_> = gathered.missing.iter().map(Missing::to_string).collect();
    assert_eq!(missing, ["`results.y` did not come"]);
    assert_eq!(gathered.parts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_of_some_are_enough_and_until_a_deadline_nothing_is() {
    let scene = Scene::new(Options::default()).await;
    let first = scene
        .gather
        .begin(Wanted::ids("scan", ["a", "b", "c"]).first(2))
        .unwrap();
    let any = scene.gather.begin(Wanted::any("scan", 3)).unwrap();
    let all = Wanted::ids("scan", ["a"]).until_deadline();
    let all = scene
        .gather
        .begin(all.within(Duration::from_secs(9)))
        .unwrap();
    for id in ["c", "a", "b"] {
        scene.result("results.x", id, "").await;
    }
    let first = first.gathered().await;
    assert_eq!((ids(&first), first.ended), (vec!["c", "a"], Ended::Enough));
    assert_eq!(first.missing.len(), 1);
    assert_eq!(ids(&any.gathered().await), ["c", "a", "b"]);
    let all = all.gathered().await;
    assert_eq!(
        (ids(&all), all.ended, all.short),
        (vec!["a"], Ended::Deadline, 0)
    );
    let none = scene.gather.begin(Wanted::any("scan", 0)).unwrap();
    assert!(none.gathered().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_counted_and_said() {
    let scene = Scene::new(Options {
        bytes: 100,
        parts: 3,
        gatherings: 2,
    })
    .await;
    let gathering = scene.gather.begin(Wanted::ids("scan", ["a", "b"])).unwrap();
    let large = "123456789 123456789 123456789 123456789 123456789 123456789 123456789 ";
    scene.result("results.x", "a", large).await;
    scene.result("results.x", "b", large).await;
    let gathered = gathering.gathered().await;
    assert_eq!(
        (gathered.ended, gathered.refused, gathered.short),
        (Ended::NoRoom, 1, 1)
    );
    assert_eq!(
        gathered.missing[0].to_string(),
        "`b` came and found no room"
    );
    assert_eq!(scene.gather.stats().refused, 1);
    assert_eq!(
        scene.gather.stats().bytes,
        0,
        "what was handed over is not kept"
    );
    let wanted = Wanted::any("scan", 3)
        .until_deadline()
        .within(Duration::from_secs(1));
    let many = scene.gather.begin(wanted.clone()).unwrap();
    for id in ["1", "2", "3", "4", "5"] {
        scene.result("results.x", id, "").await;
    }
    let many = many.gathered().await;
    assert!(many.parts.len() + usize::try_from(many.refused).unwrap() == 5 && many.refused > 0);
    let one = scene.gather.begin(wanted.clone()).unwrap();
    let two = scene.gather.begin(wanted.clone()).unwrap();
    let three = scene.gather.begin(wanted.clone()).unwrap_err();
    assert_eq!(three, GatherError::Full { limit: 2 });
    drop((one, two));
    let named = scene.gather.begin(Wanted::any("scan", 4)).unwrap_err();
    assert_eq!(named, GatherError::TooManyParts { parts: 4, limit: 3 });
}

#[tokio::test(start_paused = true)]
async fn many_gather_at_once_and_who_gives_up_leaves_nothing() {
    let scene = Scene::new(Options::default()).await;
    let before = scene.bus.stats().subscriptions.len();
    let mut gatherings = Vec::new();
    for n in 0..100 {
        let wanted = Wanted::ids("scan", [format!("{}", n % 10), "never".to_owned()]);
        gatherings.push(scene.gather.begin(wanted).unwrap());
    }
    assert_eq!(
        scene.bus.stats().subscriptions.len(),
        before,
        "over one subscription"
    );
    for n in 0..10 {
        scene.result("results.x", &n.to_string(), "").await;
    }
    let stats = scene.looked_at(100).await;
    assert_eq!((stats.gatherings, stats.parts), (100, 100));
    assert!(stats.bytes > 0);
    drop(gatherings);
    let stats = scene.gather.stats();
    assert_eq!((stats.gatherings, stats.bytes), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handle_given_to_it_alone_lives_as_long_as_it_does() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let own = bus.connect(None).await.unwrap();
    let gather = Gather::start(own, Options::default()).await.unwrap();
    let scene = Scene { bus, gather };
    let gathering = scene.gather.begin(Wanted::any("scan", 1)).unwrap();
    scene.result("results.x", "1", "").await;
    assert!(gathering.gathered().await.is_complete());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_result_is_left_out() {
    let scene = Scene::new(Options::default()).await;
    let gathering = scene.gather.begin(Wanted::any("scan", 2)).unwrap();
    scene
        .bus
        .publish(Event::new("results.x", "bare").unwrap())
        .await
        .unwrap();
    for stage in ["accepted", "refused", "done"] {
        let correlation = Correlation::new("scan").child("1").stage(stage);
        let event = Event::new("results.x", "")
            .unwrap()
            .correlation(correlation);
        scene.bus.publish(event).await.unwrap();
    }
    let stats = scene.looked_at(4).await;
    assert_eq!((stats.parts, stats.unwanted, stats.unreadable), (1, 2, 1));
    scene.bus.shutdown().await.unwrap();
    let gathered = gathering.gathered().await;
    assert_eq!(
        (gathered.ended, gathered.parts.len(), gathered.short),
        (Ended::Closed, 1, 1)
    );
    let closed = scene.gather.begin(Wanted::any("scan", 1)).unwrap_err();
    assert_eq!(closed, GatherError::Closed);
}

#[tokio::test(start_paused = true)]
async fn for_ever_is_no_overflow() {
    let scene = Scene::new(Options::default()).await;
    let wanted = Wanted::any("scan", 1).within(Duration::MAX);
    let gathering = scene.gather.begin(wanted).unwrap();
    scene.result("results.x", "1", "").await;
    assert!(gathering.gathered().await.is_complete());
}
