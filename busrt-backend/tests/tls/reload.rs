//! Files that change while a broker and its sessions run.

use std::fs;
use std::time::{Duration, SystemTime};

use busrt_backend::broker::Listener;
use busrt_backend::{OpenError, open};
use eventbus_trait::{BusState, ConnectError, Event, EventBus, Subscribe, TlsProblem};

use crate::support::{Authority, broker, broker_with, logs, options, port, replace, run, until};

/// A broker moves to another authority; who is connected stays, who comes later needs the new one.
#[test]
fn new_certificates_are_used_and_connections_stand() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let files = old.server();
        let broker = broker(files.clone()).await;
        let staying = open(options(port(&broker), old.client("staying")))
            .await
            .unwrap();
        let mut events = staying
            .subscribe(Subscribe::to("a.#").unwrap())
            .await
            .unwrap();

        replace(&files, &new.server());
        let coming = options(port(&broker), {
            let mut tls = new.client("coming");
            // The authority's own file has moved to where the broker reads it.
            tls.ca.clone_from(&files.ca);
            tls
        });
        let coming = loop {
            match open(coming.clone()).await {
                Ok(bus) => break bus,
                // Looked at a moment ago.
                Err(OpenError::Connect(ConnectError::Tls { .. })) => {}
                Err(other) => panic!("{other:?}"),
            }
        };
        // Nobody was thrown out, and the old and the new talk.
        assert_eq!(*staying.state().borrow(), BusState::Connected);
        coming
            .publish(Event::new("a.b", "x").unwrap())
            .await
            .unwrap();
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), "x");
        assert_eq!(broker.stats().connections, 2);
        staying.shutdown().await.unwrap();
        coming.shutdown().await.unwrap();
        broker.stop().await;
    });
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_old_one_in_place() {
    run(async {
        let ca = Authority::new();
        let server = ca.server();
        let broker = broker(server.clone()).await;
        fs::write(&server.cert, "torn").unwrap();
        let told = format!("cert={}", server.cert.display());
        let mut served = 0;
        // Until the file was looked at, and once more.
        while !logs()
            .lock()
            .unwrap()
            .lines()
            .any(|line| line.contains("changed certificates not used") && line.contains(&told))
            || served == 0
        {
            let bus = open(options(port(&broker), ca.client("one")))
                .await
                .unwrap();
            bus.shutdown().await.unwrap();
            served += 1;
        }
        let bus = open(options(port(&broker), ca.client("one")))
            .await
            .unwrap();
        bus.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// What was wrong with new files may pass without their being touched; it is told once.
#[test]
fn files_that_become_usable_are_used() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let files = old.server();
        let broker = broker(files.clone()).await;
        let valid_from = SystemTime::now() + Duration::from_secs(5);
        let early = new.issue_with("early", &["127.0.0.1"], |params| {
            params.not_before = valid_from.into();
        });
        replace(&files, &early);
        let mut tls = new.client("coming");
        tls.ca.clone_from(&files.ca);
        let coming = loop {
            match open(options(port(&broker), tls.clone())).await {
                Ok(bus) => break bus,
                Err(OpenError::Connect(ConnectError::Tls { .. })) => {}
                Err(other) => panic!("{other:?}"),
            }
        };
        let told = format!("cert={}", files.cert.display());
        let lines = logs().lock().unwrap().clone();
        let refused = lines
            .lines()
            .filter(|line| line.contains("changed certificates not used") && line.contains(&told));
        assert_eq!(refused.count(), 1);
        coming.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// Revoking bars the next connection and leaves the one that stands.
#[test]
fn who_is_revoked_while_connected_cannot_come_again() {
    run(async {
        let ca = Authority::new();
        let broker = broker(ca.server().crl(ca.revoke(&[]))).await;
        let mallory = options(port(&broker), ca.client("mallory"));
        let inside = open(mallory.clone()).await.unwrap();
        ca.revoke(&["mallory"]);
        let problem = loop {
            match open(mallory.clone()).await {
                Ok(bus) => bus.shutdown().await.unwrap(),
                Err(OpenError::Connect(ConnectError::Tls { problem, .. })) => break problem,
                Err(other) => panic!("{other:?}"),
            }
        };
        let reason = "this client's certificate was revoked".to_owned();
        assert_eq!(problem, TlsProblem::RefusedByBroker { reason });
        until(|| broker.stats().refused.contains_key("revoked")).await;
        let mut events = inside.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        inside.publish(Event::new("a", "x").unwrap()).await.unwrap();
        assert!(events.recv().await.is_some());
        inside.shutdown().await.unwrap();
        broker.stop().await;
    });
}

/// A session whose certificate is worth nothing any more comes back once it has a new one.
#[test]
fn a_session_comes_back_with_its_new_certificate() {
    run(async {
        let (old, new) = (Authority::new(), Authority::new());
        let first = broker(old.server()).await;
        let port = port(&first);
        let files = old.client("one");
        let mut options = options(port, files.clone());
        options.backoff.first = Duration::from_millis(10);
        options.backoff.most = Duration::from_millis(50);
        let one = open(options).await.unwrap();
        let mut events = one.subscribe(Subscribe::to("a").unwrap()).await.unwrap();
        first.stop().await;

        let server = new.server();
        let second = broker_with(server.clone(), |o| {
            let address = ([127, 0, 0, 1], port).into();
            o.listeners = vec![Listener::Tcp {
                address,
                tls: server,
            }];
        })
        .await;
        // The broker is another authority's, and the session says so.
        let mut state = one.state();
        let told = TlsProblem::UnknownAuthority.to_string();
        let distrusts = |state: &BusState| matches!(state, BusState::Connecting { reason, .. } if reason.contains(&told));
        drop(state.wait_for(distrusts).await.unwrap());

        replace(&files, &new.client("one"));
        let connected = |state: &BusState| *state == BusState::Connected;
        drop(state.wait_for(connected).await.unwrap());
        one.publish(Event::new("a", "x").unwrap()).await.unwrap();
        assert_eq!(events.recv().await.unwrap().bytes().unwrap(), "x");
        one.shutdown().await.unwrap();
        second.stop().await;
    });
}
