//! `eventbus call`: what comes back, and what a script can tell by the exit code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eventbus::codec::ContentType;
use eventbus::rpc::{Call, Failure, Methods, Reply, Service, Serving};
use eventbus::{Config, Payload, Tls};
use serde_json::{Value, json};

use crate::program::{Ended, Place, until};
use crate::scene::Scene;

/// What the service does.
fn methods(dropped: &Arc<AtomicBool>) -> Methods {
    struct Told(Arc<AtomicBool>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::clone(dropped);
    Methods::new()
        .on(
            "echo",
            |call: Call| async move { Ok(Reply::new(call.payload)) },
        )
        .on("kind", |call: Call| async move {
            Ok(Reply::json(call.payload.content_type().as_str())?)
        })
        .on("bytes", |_| async {
            Ok(Reply::new(Payload::new(
                &b"\x08\x96\x01"[..],
                ContentType::Protobuf,
            )))
        })
        .on("hostile", |_| async {
            {
                let text = ContentType::parse("text/plain");
                Ok(Reply::new(Payload::new("\u{1b}[2J\neventbus: done", text)))
            }
        })
        .on("fail", |_| async {
            Err(Failure::new(7, "disk full\u{1b}[2J\r\nno"))
        })
        .on("panic", |_| async { panic!("of this test") })
        .on("idempotent", |call: Call| async move {
            Ok(Reply::json(&call.idempotent)?)
        })
        .on("never", move |_| {
            let told = Told(Arc::clone(&dropped));
            async move {
                let _told = told;
                std::future::pending::<Result<Reply, Failure>>().await
            }
        })
}

fn serve(scene: &Scene, dropped: &Arc<AtomicBool>) -> Serving {
    let service = Service::new("calculator", methods(dropped));
    scene.runtime.block_on(scene.bus.serve(service)).unwrap()
}

fn words(rest: &str) -> String {
    format!("call calculator {rest} --at unix:run/bus.sock")
}

#[track_caller]
fn is(ended: &Ended, code: i32, stdout: &str, stderr: &str) {
    assert_eq!(ended.stderr, stderr);
    assert_eq!(ended.stdout, stdout);
    assert_eq!(ended.code, Some(code));
}

fn replies(scene: &Scene) {
    let place = &scene.place;
    let run = |rest: &str| place.run(&words(rest));
    is(&run("echo {\"a\":[1,2.50]}"), 0, "{\"a\":[1,2.50]}\n", "");
    is(&run("echo -1"), 0, "-1\n", "");
    is(&run("echo"), 0, "", "");
    is(&run("kind 1"), 0, "\"application/json\"\n", "");
    is(&run("idempotent"), 0, "false\n", "");
    is(&run("idempotent --idempotent"), 0, "true\n", "");
    is(&run("bytes"), 0, "0x089601\n", "");
    is(&run("bytes --payload base64"), 0, "CJYB\n", "");
    is(&run("bytes --payload none"), 0, "", "");
    is(&run("hostile"), 0, "\\u{1b}[2J\\neventbus: done\n", "");
    let input = b"{ \"a\" :\n \"\x7f b\" }\n";
    let echoed = place.run_with(&words("echo -"), input);
    is(&echoed, 0, "{\"a\":\"\\u007f b\"}\n", "");
    let typed = words("kind - --content-type application/x-protobuf");
    is(
        &place.run_with(&typed, b"\xff"),
        0,
        "\"application/x-protobuf\"\n",
        "",
    );
}

#[test]
fn a_reply_is_printed_so_that_it_controls_nothing() {
    let scene = Scene::new();
    let _serving = serve(&scene, &Arc::default());
    replies(&scene);
}

#[test]
fn it_works_at_a_stock_broker_too() {
    let scene = Scene::stock();
    let _serving = serve(&scene, &Arc::default());
    replies(&scene);
}

#[test]
fn the_exit_code_tells_who_said_no() {
    let scene = Scene::new();
    let _serving = serve(&scene, &Arc::default());
    for (rest, code, sentence) in [
        (
            "fail",
            1,
            "service `calculator` failed: disk full\\u{1b}[2J\\r\\nno (code 7)",
        ),
        ("nothing", 1, "service `calculator` has no method `nothing`"),
        ("panic", 1, "the handler of `calculator` panicked"),
        (
            "never --deadline 100ms",
            2,
            "no answer from `calculator` within 100ms; the call may have been carried out",
        ),
        (
            "echo {a:1}",
            2,
            "the request is no JSON: key must be a string at line 1 column 2; quote it for the shell, \
             or give --content-type to send it as it is",
        ),
    ] {
        let ended = scene.place.run(&words(rest));
        is(&ended, code, "", &format!("eventbus: {sentence}\n"));
    }
    let nobody = scene.place.run("call nobody echo --at unix:run/bus.sock");
    is(
        &nobody,
        2,
        "",
        "eventbus: no service `nobody` on this bus\n",
    );
}

#[test]
fn a_program_gets_one_document_whatever_came_of_it() {
    let scene = Scene::new();
    let _serving = serve(&scene, &Arc::default());
    let document = |rest: &str| {
        let ended = scene.place.run(&words(&format!("{rest} --json")));
        assert_eq!(ended.stdout.lines().count(), 1, "{ended:?}");
        let mut document: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(document["seconds"].take().as_f64().unwrap() > 0.0);
        (document, ended.code.unwrap())
    };
    let common = |ok: bool, method: &str| json!({"service": "calculator", "method": method, "ok": ok, "seconds": null});
    let with = |mut document: Value, more: Value| {
        let more = more.as_object().unwrap().clone();
        document.as_object_mut().unwrap().extend(more);
        document
    };
    let reply = json!({"content_type": "application/json", "payload": {"a": 1}});
    assert_eq!(
        document("echo {\"a\":1}"),
        (with(common(true, "echo"), reply), 0)
    );
    let reply = json!({"content_type": "application/x-protobuf", "payload_base64": "CJYB"});
    assert_eq!(document("bytes"), (with(common(true, "bytes"), reply), 0));
    let message = "service `calculator` failed: disk full\u{1b}[2J\r\nno (code 7)";
    let error = json!({"kind": "failed", "message": message, "code": 7, "may_have_run": true});
    let error = json!({"error": error});
    assert_eq!(document("fail"), (with(common(false, "fail"), error), 1));
    let (document, code) = document("never --deadline 50ms");
    assert_eq!((&document["error"]["kind"], code), (&json!("deadline"), 2));
}

#[test]
fn an_interrupt_cancels_the_call() {
    let scene = Scene::new();
    let dropped = Arc::new(AtomicBool::new(false));
    let _serving = serve(&scene, &dropped);
    let running = scene.place.start(&words("never --deadline 1h"), &[]);
    until("it is being handled", || {
        let services = scene.bus.stats().services;
        services.iter().any(|service| service.running == 1)
    });
    running.signal("INT");
    let sentence = "eventbus: interrupted; the call may have been carried out\n";
    is(&running.end(), 2, "", sentence);
    until("it is cancelled", || dropped.load(Ordering::SeqCst));
}

#[test]
fn a_bus_that_is_not_there_is_one_sentence_and_a_2() {
    let place = Place::new();
    let run = |rest: &str| place.run(&format!("call a b {rest}"));
    let nowhere = "phase `crossbeam` is inside its program, where nobody else can reach it; give --at \
                   unix:PATH or --at tcp://host:port, or set `phase`";
    is(&run(""), 2, "", &format!("eventbus: {nowhere}\n"));
    let socket = place.path().canonicalize().unwrap().join("absent.sock");
    let absent = run("--at unix:absent.sock");
    assert_eq!(absent.code, Some(2));
    assert_eq!(absent.stderr.lines().count(), 1, "{absent:?}");
    assert!(
        absent
            .stderr
            .contains(&format!("unix://{}", socket.display())),
        "{absent:?}"
    );
    let what = "expected `unix:PATH`, `tcp://host:port` or `config`";
    let sentence = format!("eventbus: invalid value 'crossbeam' for '--at <URL>': {what}\n");
    is(&run("--at crossbeam"), 2, "", &sentence);
}

#[test]
fn over_tcp_it_shows_its_certificate_from_flags_or_configuration() {
    let place = Place::new();
    for words in ["init", "issue broker --server", "issue operator"] {
        assert_eq!(place.run(&format!("certs {words}")).code, Some(0));
    }
    let files = "--tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key certs/broker.key";
    let broker = place.start(&format!("broker --json --tcp 127.0.0.1:0 {files}"), &[]);
    let ready: Value = serde_json::from_str(&broker.first_line()).unwrap();
    let phase = format!("tcp://{}", ready["tcp"][0].as_str().unwrap());
    let certs = place.path().join("certs");
    let file = |name: &str| certs.join(name);
    let config = Config::default()
        .phase(phase.parse().unwrap())
        .tls(Tls::new(
            file("ca.pem"),
            file("operator.pem"),
            file("operator.key"),
        ));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _serving = runtime.block_on(async {
        let bus = eventbus::open(&config).await.unwrap();
        let methods = methods(&Arc::default());
        // Its name has to be one that the certificate entitles to.
        let service = Service::new("operator--calculator", methods);
        let serving = bus.serve(service).await.unwrap();
        (bus, serving)
    });
    let flags = "--ca certs/ca.pem --cert certs/operator.pem --key certs/operator.key";
    let call = "call operator--calculator echo 42";
    is(
        &place.run(&format!("{call} --at {phase} {flags}")),
        0,
        "42\n",
        "",
    );
    let none = place.run(&format!("{call} --at {phase}"));
    let sentence = format!(
        "eventbus: phase `{phase}` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set; \
         --ca, --cert and --key do that\n"
    );
    is(&none, 2, "", &sentence);
    let file = format!(
        "phase = '{phase}'\nname = 'another'\n[connect]\nwait = true\n[observe]\nlisten = \
         '127.0.0.1:1'\n[tls]\nca = 'certs/ca.pem'\ncert = 'certs/operator.pem'\nkey = \
         'certs/operator.key'\n"
    );
    std::fs::write(place.path().join("eventbus.toml"), file).unwrap();
    is(&place.run(call), 0, "42\n", "");
    let denied = place.run(&format!("{call} --name another"));
    assert_eq!(denied.code, Some(2));
    assert!(
        denied
            .stderr
            .contains("does not entitle to client name `another`"),
        "{denied:?}"
    );
    drop(_serving);
    runtime.shutdown_timeout(Duration::from_secs(5));
}
