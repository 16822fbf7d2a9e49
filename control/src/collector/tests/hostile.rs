//! Requests that are none, names that are taken, and too much of everything.

use eventbus_trait::rpc::{Call, CallError, INVALID_REQUEST, Methods, ServeError, Service};

use super::*;
use crate::collector::wire::{HealthReport, OPERATIONS};
use crate::member::IdentityError;

async fn raw(
    scene: &Scene,
    method: &str,
    request: impl Into<bytes::Bytes>,
) -> Result<Value, CallError> {
    let payload = eventbus_trait::Payload::raw(request);
    let reply = scene
        .bus
        .call(Call::new("procmond", method, payload))
        .await?;
    Ok(serde_json::from_slice(&reply.payload.bytes().unwrap()).unwrap())
}

fn said(error: CallError) -> (i16, String) {
    match error {
        CallError::Failed { code, message, .. } => (code, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_another_language_is_plain_json_and_may_be_empty() {
    let scene = Scene::new().await;
    for request in ["", "{}", " { } "] {
        let health = raw(&scene, "health_check", request).await.unwrap();
        let health: HealthReport = serde_json::from_value(health).unwrap();
        assert!(health.well);
    }
    let reply = raw(&scene, "update_config", r#"{"version":1,"config":null}"#).await;
    assert_eq!(reply, Ok(json!({ "version": 1, "applied": true })));
    let reply = raw(&scene, "start_collection", "").await;
    assert_eq!(
        reply,
        Ok(json!({ "activity": "collecting", "changed": true }))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_and_says_why() {
    let scene = Scene::new().await;
    for operation in OPERATIONS {
        let misspelt = raw(&scene, operation, r#"{"validate_olny":true}"#).await;
        let (code, message) = said(misspelt.unwrap_err());
        assert_eq!(code, INVALID_REQUEST);
        let begins = format!("request of `{operation}`: unknown field `validate_olny`");
        assert!(message.starts_with(&begins), "{message}");
        for none in ["[", "7", "null", "\u{0}", "{\"version\":-1,\"config\":1}"] {
            let (code, _) = said(raw(&scene, operation, none).await.unwrap_err());
            assert_eq!(code, INVALID_REQUEST, "{operation} {none}");
        }
    }
    let (_, missing) = said(raw(&scene, "update_config", "{}").await.unwrap_err());
    assert!(missing.contains("missing field `version`"), "{missing}");
    let twice = r#"{"version":1,"version":2,"config":1}"#;
    let (_, twice) = said(raw(&scene, "update_config", twice).await.unwrap_err());
    assert!(twice.contains("duplicate field `version`"), "{twice}");
    let unknown = raw(&scene, "format_disk", "{}").await.unwrap_err();
    assert!(matches!(unknown, CallError::NoMethod { .. }), "{unknown}");
    assert_eq!(scene.fake.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_configuration_of_a_megabyte_or_a_thousand_levels_is_refused() {
    let scene = Scene::new().await;
    let error = scene
        .client
        .update_config(1, &"x".repeat(1_000_000))
        .await
        .unwrap_err();
    assert_eq!(error.problem(), Some(Problem::Refused));
    let text = "request of `update_config` is 1000047 bytes, over the limit of 262144";
    assert!(error.to_string().contains(text), "{error}");
    let error = scene
        .client
        .update_config(1, &"x".repeat(1 << 20))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("over the limit of 1048576"),
        "{error}"
    );
    let deep = format!(
        "{{\"version\":1,\"config\":{}1{}}}",
        "[".repeat(1_000),
        "]".repeat(1_000)
    );
    let (code, message) = said(raw(&scene, "update_config", deep).await.unwrap_err());
    assert_eq!(code, INVALID_REQUEST);
    assert!(message.contains("recursion limit"), "{message}");
    assert_eq!(scene.fake.asked(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_an_error_and_no_heartbeat_says_otherwise() {
    let mut scene = Scene::new().await;
    let Change::Joined(member) = scene.next().await else {
        panic!("it has not joined")
    };
    let home = scene.bus.connect(None).await.unwrap();
    let second = serve_collector(home, identity(), Fake::default(), Options::default()).await;
    let service = "procmond".to_owned();
    let in_use = ServeError::InUse { service };
    assert_eq!(second.unwrap_err(), HostError::Serve(in_use));
    let after = scene.registry.stats().heard + 3;
    eventually(|| scene.registry.stats().heard >= after).await;
    assert_eq!(
        scene.registry.members(),
        [scene.registry.member("procmond").unwrap()]
    );
    let there = scene.registry.member("procmond").unwrap();
    assert_eq!(there.identity, member.identity);
    assert_eq!(scene.registry.stats().stale, 0);
}

#[tokio::test]
async fn who_cannot_be_a_member_is_not_served() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let serve =
        |identity, options| serve_collector(Arc::clone(&bus), identity, Fake::default(), options);
    let kind = Identity::new("a", "two words");
    let error = serve(kind, Options::default()).await.unwrap_err();
    let value = "two words".to_owned();
    assert_eq!(
        error,
        HostError::Identity(IdentityError::Word {
            what: "kind",
            value
        })
    );
    let name = serve(Identity::new("eb-a", "kind"), Options::default()).await;
    assert!(matches!(
        name,
        Err(HostError::Identity(IdentityError::Name(_)))
    ));
    let interval = Duration::ZERO;
    let options = Options {
        interval,
        ..Options::default()
    };
    let never = serve(identity(), options).await.unwrap_err();
    assert_eq!(
        never.to_string(),
        "`interval` is 0ns, not within 1ms to a day"
    );
}

#[tokio::test(start_paused = true)]
async fn changes_beyond_those_that_may_wait_are_refused_and_reading_goes_on() {
    let scene = Scene::new().await;
    let (gate, first) = scene.held().await;
    let stop = |_| {
        let client = scene.client.clone();
        tokio::spawn(async move { client.stop_collection().await })
    };
    let waiting: Vec<_> = (0..64).map(stop).collect();
    scene.counted(|service| service.running == 65).await;
    let busy = scene.client.stop_collection().await.unwrap_err();
    assert_eq!(busy.problem(), Some(Problem::Busy), "{busy}");
    assert!(scene.client.health_check().await.unwrap().well);
    gate.notify_one();
    assert!(first.await.unwrap().unwrap().changed);
    let mut changed = 0;
    for stopped in waiting {
        changed += u32::from(stopped.await.unwrap().unwrap().changed);
    }
    assert_eq!(changed, 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_none_is_an_error_of_the_client() {
    let bus: Arc<dyn EventBus> = CrossbeamBus::new(Limits::default());
    let liar = Methods::new().on("health_check", |_: Call| async {
        Ok(eventbus_trait::rpc::Reply::new("all is well"))
    });
    let _serving = bus.serve(Service::new("liar", liar)).await.unwrap();
    let client = CollectorClient::new(Arc::clone(&bus), "liar");
    let error = client.health_check().await.unwrap_err();
    let text = "what `liar` answers to `health_check` is no such reply: expected value at line 1 \
                column 1";
    assert_eq!(error.to_string(), text);
    let nobody = CollectorClient::new(bus, "nobody")
        .health_check()
        .await
        .unwrap_err();
    assert_eq!(
        nobody.to_string(),
        "`health_check`: no service `nobody` on this bus"
    );
    assert!(!nobody.may_have_run());
}
