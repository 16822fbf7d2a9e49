//! The six operations of a collector that is well, or not so well.

use eventbus_trait::Correlation;
use eventbus_trait::rpc::CallError;

use super::*;
use crate::client::OperationError;

#[tokio::test(start_paused = true)]
async fn a_collector_is_a_member_and_serves_its_operations() {
    let mut scene = Scene::new().await;
    let Change::Joined(member) = scene.next().await else {
        panic!("it has not joined")
    };
    assert_eq!(*member.identity, *scene.host.identity());
    assert_eq!(member.activity, Activity::Idle);

    let health = scene.client.health_check().await.unwrap();
    assert!(health.well, "{health:?}");
    assert_eq!(health.identity, *scene.host.identity());
    assert_eq!((health.config_version, health.working), (None, 0));

    let can = scene.client.get_capabilities().await.unwrap();
    assert_eq!(can.operations.len(), 6);
    assert_eq!(can.details, json!({ "reads": "/proc" }));

    let options = json!({ "every_ms": 10 });
    let correlated = scene.client.clone().correlation(Correlation::new("scan-7"));
    let started = correlated.start_collection(&options).await.unwrap();
    assert_eq!(
        (started.activity, started.changed),
        (Activity::Collecting, true)
    );
    assert_eq!(
        scene.fake.0.lock().correlations,
        [Some("scan-7".to_owned())]
    );
    scene
        .until(|change| matches!(change, Change::Changed(m) if m.activity == Activity::Collecting))
        .await;

    let updated = scene
        .client
        .update_config(3, &json!({ "a": 1 }))
        .await
        .unwrap();
    assert!(updated.applied);
    assert_eq!(
        scene.client.health_check().await.unwrap().config_version,
        Some(3)
    );

    let stopped = scene.client.stop_collection().await.unwrap();
    assert_eq!((stopped.activity, stopped.changed), (Activity::Idle, true));
    let asked = [
        "start_collection {\"every_ms\":10}",
        "validate_config {\"a\":1}",
        "update_config {\"a\":1}",
        "stop_collection",
    ];
    assert_eq!(scene.fake.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn twice_is_once_and_contradictions_are_refused() {
    let scene = Scene::new().await;
    let (one, other) = (json!({ "a": 1 }), json!({ "a": 2 }));
    assert!(!scene.client.stop_collection().await.unwrap().changed);
    assert!(scene.client.start_collection(&one).await.unwrap().changed);
    assert!(!scene.client.start_collection(&one).await.unwrap().changed);
    let error = scene.client.start_collection(&other).await.unwrap_err();
    assert_eq!(error.problem(), Some(Problem::Conflict));
    let text = "`procmond` does not `start_collection`: it collects already, with other options; \
                stop it first";
    assert_eq!(error.to_string(), text);
    assert_eq!(scene.fake.asked(), ["start_collection {\"a\":1}"]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_is_taken_whole_or_refused_whole_and_grows() {
    let options = Options {
        config: Some((4, json!({ "a": 4 }))),
        ..Options::default()
    };
    let scene = Scene::with(options).await;
    let (client, fake) = (&scene.client, &scene.fake);
    let (old, new) = (json!({ "a": 4 }), json!({ "a": 5 }));
    // In force already.
    assert!(client.update_config(4, &old).await.unwrap().applied);
    assert_eq!(fake.asked(), [""; 0]);
    let stale = client.update_config(3, &new).await.unwrap_err();
    assert_eq!(stale.problem(), Some(Problem::Stale));
    let text =
        "`procmond` does not `update_config`: configuration 3 is older than 4, which is in force";
    assert_eq!(stale.to_string(), text);
    let equal = client.update_config(4, &new).await.unwrap_err();
    assert_eq!(equal.problem(), Some(Problem::Stale));
    assert_eq!(client.validate_config(4, &new).await.unwrap_err(), equal);
    assert_eq!(fake.asked(), [""; 0]);

    assert!(!client.validate_config(9, &new).await.unwrap().applied);
    assert_eq!(fake.asked(), ["validate_config {\"a\":5}"]);

    fake.will("validate_config", Does::Refuse);
    let refused = client.update_config(5, &new).await.unwrap_err();
    assert_eq!(refused.problem(), Some(Problem::Refused));
    assert!(!refused.may_have_run());
    assert_eq!(fake.asked(), ["validate_config {\"a\":5}"]);
    fake.behave("validate_config");
    fake.will("update_config", Does::Refuse);
    client.update_config(5, &new).await.unwrap_err();
    assert_eq!(client.health_check().await.unwrap().config_version, Some(4));
    fake.behave("update_config");
    assert!(client.update_config(5, &new).await.unwrap().applied);
    assert_eq!(client.health_check().await.unwrap().config_version, Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_says_it_is_not_well_is_degraded_until_it_is() {
    let mut scene = Scene::new().await;
    scene.fake.will("health_check", Does::Refuse);
    scene.ails("no health_check today").await;
    let health = scene.client.health_check().await.unwrap();
    assert!(!health.well);
    scene.fake.will("health_check", Does::Panic);
    scene.ails("health_check panicked").await;
    scene.fake.will("health_check", Does::Hang);
    scene.ails("health_check has not come back within 1s").await;
    scene.fake.behave("health_check");
    scene
        .until(|change| matches!(change, Change::Recovered(_)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_and_what_it_leaves_in_doubt_an_ailment() {
    let mut scene = Scene::new().await;
    scene.fake.will("update_config", Does::Panic);
    let error = scene.client.update_config(1, &json!(1)).await.unwrap_err();
    let service = "procmond".to_owned();
    let expected = OperationError::Call {
        operation: "update_config".to_owned(),
        error: CallError::Panicked { service },
    };
    assert_eq!(error, expected);
    assert!(error.may_have_run());
    scene
        .ails("update_config panicked: configuration 1 may be in force")
        .await;
    // The rest works, and the same again clears it up.
    scene.client.start_collection(&Value::Null).await.unwrap();
    scene.fake.behave("update_config");
    scene.client.update_config(1, &json!(1)).await.unwrap();
    scene
        .until(|change| matches!(change, Change::Recovered(_)))
        .await;

    scene.fake.will("stop_collection", Does::Panic);
    scene.client.stop_collection().await.unwrap_err();
    scene
        .ails("stop_collection panicked: it may or may not collect")
        .await;
    scene.fake.behave("stop_collection");
    // It is asked again, since nobody knows.
    scene.fake.asked();
    scene.client.start_collection(&Value::Null).await.unwrap();
    assert_eq!(scene.fake.asked(), ["start_collection"]);
    scene
        .until(|change| matches!(change, Change::Recovered(_)))
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_goes_on_when_its_caller_gives_up_and_is_cut_off_in_the_end() {
    let mut scene = Scene::new().await;
    let (gate, call) = scene.held().await;
    call.abort();
    let waits = scene.client.clone();
    let waits = tokio::spawn(async move { waits.stop_collection().await });
    gate.notify_one();
    let collecting =
        |c: &Change| matches!(c, Change::Changed(m) if m.activity == Activity::Collecting);
    scene.until(collecting).await;
    assert!(waits.await.unwrap().unwrap().changed);

    scene.fake.will("start_collection", Does::Hang);
    let error = scene
        .client
        .start_collection(&Value::Null)
        .await
        .unwrap_err();
    assert_eq!(error.problem(), Some(Problem::CutOff), "{error}");
    assert!(error.may_have_run());
    scene
        .ails("start_collection was cut off: it may or may not collect")
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let scene = Scene::new().await;
    let (gate, first) = scene.held().await;
    let client = scene.client.clone();
    let given_up = tokio::spawn(async move { client.update_config(1, &json!(1)).await });
    scene.counted(|service| service.admitted == 2).await;
    given_up.abort();
    scene.counted(|service| service.dropped == 1).await;
    gate.notify_one();
    first.await.unwrap().unwrap();
    scene.client.stop_collection().await.unwrap();
    assert_eq!(scene.fake.asked(), ["start_collection", "stop_collection"]);
}
