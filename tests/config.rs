//! Configuration: which layer wins, and what a mistake is told as.
//!
//! figment's jail gives each test a directory and an environment of its own; the closures return
//! its error type, which is large and not ours.
#![allow(clippy::result_large_err, clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use eventbus::config::{Flag, Layer, MetricsAddress, SettingValue, settings};
use eventbus::rollout::{Mode, Rollout};
use eventbus::rpc::Deadlines;
use eventbus::{BrokerMode, Config, ConfigError, Phase, Rate, Tls, TopicFilter};
use figment::providers::{Format as _, Serialized, Toml};
use figment::{Figment, Jail};

fn load_error() -> String {
    Config::load().unwrap_err().to_string()
}

#[test]
fn without_file_and_environment_the_defaults_hold() {
    Jail::expect_with(|_| {
        let config = Config::load().unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.broker.max_connections, 100);
        assert_eq!(config.broker.timeout, Duration::from_secs(30));
        assert_eq!(config.limits.max_event_size, 1 << 20);
        Ok(())
    });
}

#[test]
fn the_environment_beats_the_file_and_the_program_beats_both() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "eventbus.toml",
            r#"
            phase = "in-process"
            name = "from-file"
            [limits]
            publish_deadline = "100ms"
            max_subscriptions = 7
            [broker]
            mode = "external"
            "#,
        )?;
        let file = Config::load().unwrap();
        assert_eq!(file.phase, Phase::InProcess);
        assert_eq!(file.limits.publish_deadline, Duration::from_millis(100));
        assert_eq!(file.broker.mode, BrokerMode::External);
        assert_eq!(file.broker.max_connections, 100, "a table may be in part");

        jail.set_env("EVENTBUS_NAME", "007");
        jail.set_env("EVENTBUS_PHASE", "unix:///run/x/bus.sock");
        jail.set_env("EVENTBUS_LIMITS__PUBLISH_DEADLINE", "2s");
        jail.set_env("EVENTBUS_BROKER__MAX_CONNECTIONS", "3");
        let both = Config::load().unwrap();
        assert_eq!(both.name.as_deref(), Some("007"));
        assert_eq!(both.phase, Phase::Unix("/run/x/bus.sock".into()));
        assert_eq!(both.limits.publish_deadline, Duration::from_secs(2));
        assert_eq!(both.limits.max_subscriptions, 7);
        assert_eq!(both.broker.mode, BrokerMode::External);
        assert_eq!(both.broker.max_connections, 3);

        let flags = Config::figment()
            .unwrap()
            .merge(Serialized::default("phase", "crossbeam"))
            .merge(("connect.timeout", "1s"));
        let all = Config::from_figment(&flags).unwrap();
        assert_eq!(all.phase, Phase::Crossbeam);
        assert_eq!(all.connect_timeout, Duration::from_secs(1));
        assert_eq!(all.clone().name("own").name.as_deref(), Some("own"));
        Ok(())
    });
}

#[test]
fn a_rate_limit_has_a_seconds_worth_at_once_unless_told() {
    Jail::expect_with(|jail| {
        jail.create_file("eventbus.toml", "[limits]\nrate = 50")?;
        let rate = |per_second, burst| {
            let [per_second, burst] = [per_second, burst].map(|n| NonZeroU32::new(n).unwrap());
            Some(Rate { per_second, burst })
        };
        assert_eq!(Config::load().unwrap().limits.rate, rate(50, 50));
        jail.set_env("EVENTBUS_LIMITS__BURST", "5");
        assert_eq!(Config::load().unwrap().limits.rate, rate(50, 5));
        jail.set_env("EVENTBUS_LIMITS__RATE", "7");
        assert_eq!(Config::load().unwrap().limits.rate, rate(7, 5));
        jail.set_env("EVENTBUS_LIMITS__RATE", "0");
        assert_eq!(
            load_error(),
            "bad value `0` for `limits.rate` in the environment (`EVENTBUS_LIMITS__RATE`); expected \
             more than zero"
        );
        jail.create_file("eventbus.toml", "[limits]\nburst = 5")?;
        jail.set_env("EVENTBUS_LIMITS__RATE", "many");
        assert_eq!(
            load_error(),
            "bad value `many` for `limits.rate` in the environment (`EVENTBUS_LIMITS__RATE`); \
             expected a whole number"
        );
        Ok(())
    });
    Jail::expect_with(|jail| {
        jail.create_file("eventbus.toml", "[limits]\nburst = 5")?;
        assert_eq!(
            load_error(),
            "bad value `5` for `limits.burst` in file `eventbus.toml`; expected `limits.rate` to be \
             set too"
        );
        Ok(())
    });
}

#[test]
fn a_named_file_is_read_instead_and_must_exist() {
    Jail::expect_with(|jail| {
        jail.create_file("eventbus.toml", "phase = 'in-process'")?;
        jail.create_file("other.toml", "phase = 'crossbeam'")?;
        jail.set_env("EVENTBUS_CONFIG", "other.toml");
        assert_eq!(Config::load().unwrap().phase, Phase::Crossbeam);
        jail.set_env("EVENTBUS_CONFIG", "absent.toml");
        assert!(matches!(
            Config::load(),
            Err(ConfigError::Unreadable { path, .. }) if path == "absent.toml"
        ));
        Ok(())
    });
}

#[test]
fn a_shadow_comes_from_three_keys() {
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_PHASE", "shadow");
        assert_eq!(
            load_error(),
            "`phase` is `shadow`, so `primary` must be set too"
        );
        jail.set_env("EVENTBUS_PRIMARY", "crossbeam");
        assert_eq!(
            Config::load(),
            Err(ConfigError::Missing {
                key: "candidate",
                because: "`phase` is `shadow`"
            })
        );
        jail.set_env("EVENTBUS_CANDIDATE", "ipc:///run/x/bus.sock");
        let unix = Phase::Unix("/run/x/bus.sock".into());
        assert_eq!(
            Config::load().unwrap().phase,
            Phase::shadow(Phase::Crossbeam, unix).unwrap()
        );
        jail.set_env("EVENTBUS_PRIMARY", "unix:///run/x/bus.sock");
        assert_eq!(
            load_error(),
            "bad value for `candidate` in the environment (`EVENTBUS_CANDIDATE`): primary and \
             candidate are both `unix:///run/x/bus.sock`; two sides of a shadow need a socket each"
        );
        jail.set_env("EVENTBUS_PRIMARY", "shadow");
        assert!(load_error().starts_with("bad value for `primary`"));
        Ok(())
    });
}

#[test]
fn tls_comes_whole_or_not_at_all_and_tcp_needs_it() {
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_PHASE", "tcp://broker.example:7777");
        assert_eq!(
            load_error(),
            "phase `tcp://broker.example:7777` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must \
             be set"
        );
        jail.create_file("eventbus.toml", "[tls]\nca = 'ca.pem'\ncert = 'x.pem'")?;
        let missing = Config::load();
        assert!(
            matches!(missing, Err(ConfigError::MissingTls { keys, .. }) if keys == ["tls.key"])
        );
        jail.set_env("EVENTBUS_PHASE", "crossbeam");
        assert_eq!(
            load_error(),
            "`tls` needs three files, so `tls.key` must be set"
        );
        jail.set_env("EVENTBUS_TLS__KEY", "x.key");
        jail.set_env("EVENTBUS_TLS__SERVER_NAME", "broker");
        jail.set_env("EVENTBUS_CONNECT__WAIT", "true");
        jail.set_env("EVENTBUS_CONNECT__LINK_TIMEOUT", "2m");
        let config = Config::load().unwrap();
        let mut tls = Tls::new("ca.pem", "x.pem", "x.key");
        tls.server_name = Some("broker".to_owned());
        assert_eq!(config.tls, Some(tls));
        assert!(config.wait);
        assert_eq!(config.link_timeout, Duration::from_secs(120));
        Ok(())
    });
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_PHASE", "shadow");
        jail.set_env("EVENTBUS_PRIMARY", "crossbeam");
        jail.set_env("EVENTBUS_CANDIDATE", "tcp://[::1]:7777");
        assert!(load_error().starts_with("phase `tcp://[::1]:7777` needs TLS"));
        Ok(())
    });
}

#[test]
fn sides_without_a_shadow_are_kept_for_later_but_checked_now() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "eventbus.toml",
            "phase = 'crossbeam'\ncandidate = 'in-process'",
        )?;
        assert_eq!(Config::load().unwrap().phase, Phase::Crossbeam);
        jail.set_env("EVENTBUS_CANDIDATE", "unix://relative");
        assert!(load_error().contains("names no absolute path"));
        Ok(())
    });
}

#[test]
fn a_mistake_names_key_value_place_and_what_is_allowed() {
    let file = |text: &str| {
        let mut told = String::new();
        Jail::expect_with(|jail| {
            jail.create_file("eventbus.toml", text)?;
            told = load_error();
            Ok(())
        });
        told
    };
    let cases = [
        (
            "phaze = 'crossbeam'",
            "unknown key `phaze` in file `eventbus.toml`; did you mean `phase`? allowed are `phase`, `primary`, \
             `candidate`, `name`, `limits`, `broker`, `connect`, `observe`, `operations`, `tls`, `rollout`, `acl`",
        ),
        (
            "[broker]\nmod = 'auto'",
            "unknown key `broker.mod` in file `eventbus.toml`; did you mean `broker.mode`? allowed are `mode`, \
             `max_connections`, `timeout`, `grace`, `rate`, `unix`, `tcp`, `metrics`",
        ),
        (
            "[broker]\nmode = 'maybe'",
            "bad value `maybe` for `broker.mode` in file `eventbus.toml`; expected `auto`, \
             `embedded`, `external`",
        ),
        (
            "[connect]\ntimeout = 5",
            "bad value `5` for `connect.timeout` in file `eventbus.toml`; expected a duration \
             such as `5s` or `100ms`",
        ),
        (
            "[connect]\ntimeout = 'soon'",
            "bad value `soon` for `connect.timeout` in file `eventbus.toml`; expected a duration \
             such as `5s` or `100ms`",
        ),
        (
            "[connect]\nwait = 'perhaps'",
            "bad value `perhaps` for `connect.wait` in file `eventbus.toml`; expected `true` or \
             `false`",
        ),
        (
            "[tls]\nca = 5",
            "bad value `5` for `tls.ca` in file `eventbus.toml`; expected a text",
        ),
        (
            "[tls]\ncertificate = 'x.pem'",
            "unknown key `tls.certificate` in file `eventbus.toml`; allowed are `ca`, `cert`, \
             `key`, `server_name`, `crl`",
        ),
        (
            "[broker]\nmax_connections = -1",
            "bad value `-1` for `broker.max_connections` in file `eventbus.toml`; expected a \
             whole number",
        ),
        (
            "[broker]\nmax_connections = 0",
            "bad value `0` for `broker.max_connections` in file `eventbus.toml`; expected more \
             than zero",
        ),
        (
            "phase = 'pigeon'",
            "bad value `pigeon` for `phase` in file `eventbus.toml`; expected `crossbeam`, \
             `in-process`, `unix:///path`, `ipc:///path` or `tcp://host:port`, or `shadow`",
        ),
        (
            "phase = 3",
            "bad value `3` for `phase` in file `eventbus.toml`; expected a text",
        ),
        (
            "limits = 3",
            "bad value `3` for `limits` in file `eventbus.toml`; expected a table",
        ),
        (
            "name = 'a.b'",
            "bad value `a.b` for `name` in file `eventbus.toml`; expected 1 to 64 of A-Z a-z 0-9 _ -, \
             not beginning with `eb-` and without `--in-`",
        ),
        (
            "name = 'x--in-a'",
            "bad value `x--in-a` for `name` in file `eventbus.toml`; expected 1 to 64 of A-Z a-z 0-9 \
             _ -, not beginning with `eb-` and without `--in-`",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(file(text), expected);
    }
    let syntax = file("phase = [1\n");
    assert!(
        syntax.starts_with("cannot read file `eventbus.toml`: ") && !syntax.contains('\n'),
        "{syntax}"
    );
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_BROKER__MAX_CONNECTIONS", "many");
        assert_eq!(
            load_error(),
            "bad value `many` for `broker.max_connections` in the environment \
             (`EVENTBUS_BROKER__MAX_CONNECTIONS`); expected a whole number"
        );
        Ok(())
    });
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_LIMITZ__X", "1");
        assert!(load_error().starts_with(
            "unknown key `limitz` in the environment (`EVENTBUS_LIMITZ`); did you mean \
                 `EVENTBUS_LIMITS`? allowed are `phase`"
        ));
        Ok(())
    });
}

#[test]
fn a_standalone_broker_has_sockets_ports_and_rules() {
    Jail::expect_with(|jail| {
        jail.create_file(
            "broker.toml",
            r##"
            [broker]
            unix = ["/run/x/bus.sock", "/run/y/bus.sock"]
            tcp = ["127.0.0.1:7777", "[::1]:7777"]
            metrics = "unix:/run/x/metrics.sock"
            rate = 5
            [tls]
            ca = "ca.pem"
            cert = "broker.pem"
            key = "broker.key"
            [acl."*"]
            subscribe = ["events.#"]
            [acl.writer]
            publish = ["#"]
            call = ["inventory", "a-*"]
            "##,
        )?;
        let read = || {
            let figment = Config::figment_from("broker.toml".as_ref()).unwrap();
            Config::from_figment(&figment).unwrap()
        };
        let config = read();
        assert_eq!(config.broker.unix.len(), 2);
        assert_eq!(config.broker.tcp[1], "[::1]:7777".parse().unwrap());
        let metrics = MetricsAddress::Unix("/run/x/metrics.sock".into());
        assert_eq!(config.broker.metrics, Some(metrics));
        assert_eq!(config.broker.rate, Some(5));
        let acl = config.acl.unwrap();
        assert_eq!(acl["*"].subscribe, [TopicFilter::new("events.#").unwrap()]);
        assert_eq!(acl["*"].publish, []);
        assert_eq!(acl["writer"].call, ["inventory", "a-*"]);

        jail.set_env("EVENTBUS_BROKER__UNIX", "/a.sock, /b.sock");
        jail.set_env("EVENTBUS_BROKER__METRICS", "127.0.0.1:9100");
        jail.set_env("EVENTBUS_BROKER__RATE", "7");
        let config = read();
        assert_eq!(
            config.broker.unix,
            [Path::new("/a.sock"), Path::new("/b.sock")]
        );
        let metrics = "127.0.0.1:9100".parse().unwrap();
        assert_eq!(config.broker.metrics, Some(MetricsAddress::Tcp(metrics)));
        assert_eq!(config.broker.rate, Some(7));
        Ok(())
    });
}

#[test]
fn rules_of_access_that_name_nobody_are_rules() {
    Jail::expect_with(|jail| {
        assert_eq!(Config::load().unwrap().acl, None);
        jail.create_file("eventbus.toml", "[acl]")?;
        assert_eq!(
            Config::load().unwrap().acl,
            Some(std::collections::BTreeMap::new())
        );
        Ok(())
    });
}

#[test]
fn a_mistake_in_a_standalone_brokers_keys_is_one_sentence() {
    for (file, sentence) in [
        (
            "[broker]\nunix = ['bus.sock']",
            "bad value `bus.sock` for `broker.unix` in file `eventbus.toml`; expected an absolute \
             path of at most 107 bytes",
        ),
        (
            "[broker]\ntcp = ['localhost']",
            "bad value `localhost` for `broker.tcp` in file `eventbus.toml`; expected an address \
             and a port such as `127.0.0.1:7777` or `[::]:7777`",
        ),
        (
            "[broker]\ntcp = ['127.0.0.1:7777']",
            "a broker's TCP port needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set",
        ),
        (
            "[broker]\nmetrics = 'unix:metrics'",
            "bad value `unix:metrics` for `broker.metrics` in file `eventbus.toml`; expected an \
             address and a port such as `127.0.0.1:9100`, or `unix:/path`",
        ),
        (
            "[broker]\nrate = 0",
            "bad value `0` for `broker.rate` in file `eventbus.toml`; expected more than zero",
        ),
        (
            "[broker]\nmax_connections = 65536",
            "bad value `65536` for `broker.max_connections` in file `eventbus.toml`; expected at \
             most 65,535",
        ),
        (
            "[broker]\ntimeout = '25h'",
            "bad value `25h` for `broker.timeout` in file `eventbus.toml`; expected at most `24h`",
        ),
        (
            "[broker]\ngrace = '500000000000years'",
            "bad value `500000000000years` for `broker.grace` in file `eventbus.toml`; expected at \
             most `24h`",
        ),
        (
            "[acl.'a*b']\npublish = ['#']",
            "bad value `a*b` for `acl` in file `eventbus.toml`; expected names of clients: 1 to 64 \
             of A-Z a-z 0-9 _ -, or a beginning and a final `*`",
        ),
        (
            "[acl.a]\npublish = ['#.b']",
            "bad value `#.b` for `acl.a.publish` in file `eventbus.toml`; expected a topic filter; \
             `#` is segment 1 of 2 in filter `#.b`; it may only stand last",
        ),
        (
            "[acl.a]\nread = ['#']",
            "unknown key `acl.a.read` in file `eventbus.toml`; allowed are `publish`, `subscribe`, \
             `call`",
        ),
    ] {
        Jail::expect_with(|jail| {
            jail.create_file("eventbus.toml", file)?;
            assert_eq!(load_error(), sentence);
            Ok(())
        });
    }
}

/// The configurations that the guide to transports gives, each under the heading of its phase.
#[test]
fn the_guide_to_transports_gives_configurations_that_load() {
    let guide = include_str!("../docs/transports.md");
    let mut phases = Vec::new();
    for section in guide.split("\n## ").skip(1) {
        let name = section.lines().next().unwrap();
        for block in section.split("```toml\n").skip(1) {
            let text = block.split("```").next().unwrap();
            let figment = Figment::from(Toml::string(text));
            let config = Config::from_figment(&figment).unwrap_or_else(|e| panic!("{e}: {text}"));
            if text.contains("phase = ") {
                assert_eq!(config.phase.name(), name, "{text}");
                phases.push(name);
            } else {
                let listens = !config.broker.unix.is_empty() || !config.broker.tcp.is_empty();
                assert!(listens, "neither a program's nor a broker's: {text}");
            }
            let tcp = matches!(config.phase, Phase::Tcp { .. }) || !config.broker.tcp.is_empty();
            assert_eq!(tcp, config.tls.is_some(), "{text}");
        }
    }
    phases.dedup();
    assert_eq!(phases, ["crossbeam", "in-process", "unix", "tcp"]);
}

#[test]
fn a_rollout_has_phases_and_a_journal() {
    Jail::expect_with(|jail| {
        let file = |text: &str| {
            jail.create_file("eventbus.toml", text).unwrap();
            Config::load()
        };
        let rollout = file(
            "[rollout]\nphases = ['crossbeam', 'unix:///run/x/bus.sock']\njournal = 'j'\n\
             mode = 'automatic'\nshadow = false\nhold = '1s'\n\
             [rollout.gates]\nmin_events = 5\nlatency_ratio = 2.5\n\
             [rollout.hooks]\nbefore = ['/bin/true']",
        );
        let rollout = rollout.unwrap().rollout.unwrap();
        let mut expected = Rollout::new(
            vec![Phase::Crossbeam, Phase::Unix("/run/x/bus.sock".into())],
            "j",
        );
        expected.mode = Mode::Automatic;
        expected.shadow = false;
        expected.hold = Duration::from_secs(1);
        expected.gates.min_events = 5;
        expected.gates.latency_ratio = 2.5;
        expected.hooks.before = vec!["/bin/true".into()];
        assert_eq!(rollout, expected);
        for (text, told) in [
            (
                "phases = ['crossbeam']",
                "bad value `crossbeam` for `rollout.phases` in file `eventbus.toml`; expected two phases or \
                 more, none of them twice",
            ),
            (
                "phases = ['crossbeam', 'in-process']",
                "`rollout.phases` is set, so `rollout.journal` must be set too",
            ),
            (
                "phases = ['crossbeam', 'tcp://h:1']\njournal = 'j'",
                "phase `tcp://h:1` needs TLS, so `tls.ca`, `tls.cert` and `tls.key` must be set",
            ),
            (
                "phases = ['crossbeam', 'in-process']\njournal = 'j'\nhold = '0s'",
                "bad value `0s` for `rollout.hold` in file `eventbus.toml`; expected more than zero",
            ),
        ] {
            let error = file(&format!("[rollout]\n{text}")).unwrap_err();
            assert_eq!(error.to_string(), told);
        }
        Ok(())
    });
}

#[test]
fn an_operation_has_a_deadline_of_its_own_or_the_default() {
    Jail::expect_with(|jail| {
        let seconds = Duration::from_secs;
        let none = Config::load().unwrap().operations;
        assert_eq!(none, Deadlines::of_collectors());
        assert_eq!(
            (none.of("health_check"), none.of("hash")),
            (seconds(2), seconds(5))
        );
        jail.create_file(
            "eventbus.toml",
            r#"
            [operations]
            default = "7s"
            health_check = "1s"
            shutdown = "40s"
            [operations.methods]
            hash = "60s"
            "#,
        )?;
        let file = Config::load().unwrap().operations;
        assert_eq!(file.of("health_check"), seconds(1));
        assert_eq!(file.of("shutdown"), seconds(40));
        assert_eq!(
            (file.of("hash"), file.of("other")),
            (seconds(60), seconds(7))
        );
        assert_eq!(file.of("get_capabilities"), seconds(7));
        jail.set_env("EVENTBUS_OPERATIONS__HEALTH_CHECK", "250ms");
        jail.set_env("EVENTBUS_OPERATIONS__DEFAULT", "3s");
        jail.set_env("EVENTBUS_OPERATIONS__METHODS__SCAN", "9s");
        let both = Config::load().unwrap().operations;
        assert_eq!(both.of("health_check"), Duration::from_millis(250));
        assert_eq!(
            (both.of("other"), both.of("shutdown")),
            (seconds(3), seconds(40))
        );
        assert_eq!(
            (both.of("scan"), both.of("hash")),
            (seconds(9), seconds(60))
        );
        Ok(())
    });
}

#[test]
fn a_mistake_in_the_operations_is_told_by_its_key() {
    let cases = [
        (
            "helth_check = \"1s\"",
            "unknown key `operations.helth_check` in file `",
            "allowed are `default`, `health_check`",
        ),
        (
            "shutdown = 30",
            "bad value `30` for `operations.shutdown` in file `",
            "expected a duration such as `5s`",
        ),
        (
            "default = \"0s\"",
            "bad value `0s` for `operations.default` in file `",
            "expected more than zero",
        ),
        (
            "update_config = \"25h\"",
            "bad value `25h` for `operations.update_config` in file `",
            "expected at most `24h`",
        ),
        (
            "[operations.methods]\nhash = \"0s\"",
            "bad value `0s` for `operations.methods.hash` in file `",
            "expected more than zero",
        ),
        (
            "[operations.methods]\nshutdown = \"1s\"",
            "bad value `1s` for `operations.methods.shutdown` in file `",
            "expected `operations.shutdown`, which is its own key",
        ),
        (
            "[operations.methods]\n\"a b\" = \"1s\"",
            "bad value `1s` for `operations.methods.a b` in file `",
            "expected a method's name",
        ),
    ];
    for (line, begins, says) in cases {
        Jail::expect_with(|jail| {
            jail.create_file("eventbus.toml", &format!("[operations]\n{line}\n"))?;
            let error = load_error();
            assert!(error.starts_with(begins) && error.contains(says), "{error}");
            Ok(())
        });
    }
    Jail::expect_with(|jail| {
        jail.set_env("EVENTBUS_OPERATIONS__SHUTDOWN", "soon");
        let error = load_error();
        let place = "in the environment (`EVENTBUS_OPERATIONS__SHUTDOWN`)";
        assert!(
            error.contains("bad value `soon`") && error.contains(place),
            "{error}"
        );
        Ok(())
    });
}

/// What a table takes, as serde says it when it is given something else.
fn allowed(table: &str) -> Vec<String> {
    let key = format!("{table}zzzzzzzz");
    let figment = Figment::from(Serialized::default(&key, 1));
    match Config::from_figment(&figment).unwrap_err() {
        ConfigError::UnknownKey { allowed, .. } => {
            let names = allowed.split(", ").map(|name| name.trim_matches('`'));
            names.map(|name| format!("{table}{name}")).collect()
        }
        other => panic!("{other}"),
    }
}

#[test]
fn every_key_is_a_setting() {
    let text =
        "phase = 'crossbeam'\n[rollout]\nphases = ['crossbeam', 'in-process']\njournal = 'x'";
    let figment = Figment::from(Toml::string(text));
    let shown: Vec<_> = settings(&figment)
        .unwrap()
        .into_iter()
        .map(|s| s.key)
        .collect();
    let tables = [
        "limits",
        "broker",
        "connect",
        "observe",
        "operations",
        "tls",
        "rollout",
        "rollout.gates",
        "rollout.hooks",
    ];
    let mut wanted = Vec::new();
    for table in ["".to_owned()]
        .into_iter()
        .chain(tables.map(|table| format!("{table}.")))
    {
        let of_table = allowed(&table);
        let table = |key: &String| {
            tables.contains(&&**key) || ["acl", "operations.methods"].contains(&&**key)
        };
        wanted.extend(of_table.into_iter().filter(|key| !table(key)));
    }
    for key in &wanted {
        assert!(shown.contains(key), "`{key}` is not shown");
    }
    assert_eq!(shown.len(), wanted.len(), "{shown:?}");
}

#[test]
fn a_setting_says_who_set_it() {
    Jail::expect_with(|jail| {
        let file = "candidate = 'in-process'\n[broker]\nmax_connections = 5\nunix = ['/a', '/b']\n[acl.x]\ncall = ['y']\n[operations.methods]\nhash = '9s'";
        jail.create_file("eventbus.toml", file)?;
        jail.set_env("EVENTBUS_BROKER__MAX_CONNECTIONS", "6");
        jail.set_env("EVENTBUS_CONNECT__TIMEOUT", "90s");
        let figment = Config::figment().unwrap();
        let figment = figment.merge(Flag::text("--set broker.rate", "broker.rate", "7"));
        let all = settings(&figment).unwrap();
        let told = |key: &str| {
            let setting = all.iter().find(|setting| setting.key == key).unwrap();
            (setting.value.clone(), setting.from.clone())
        };
        let path = Path::new("eventbus.toml").to_owned();
        let file = || Layer::File { path: path.clone() };
        let environment = |name: &str| Layer::Environment {
            variable: name.to_owned(),
        };
        let text = |text: &str| SettingValue::Text(text.to_owned());
        let list =
            |texts: &[&str]| SettingValue::List(texts.iter().map(|&t| t.to_owned()).collect());
        let unsaid = Config::default().phase.to_string();
        assert_eq!(told("phase"), (text(&unsaid), Layer::Default));
        assert_eq!(told("candidate"), (text("in-process"), file()));
        assert_eq!(told("broker.unix"), (list(&["/a", "/b"]), file()));
        assert_eq!(told("operations.methods.hash"), (text("9s"), file()));
        assert_eq!(told("acl.x.call"), (list(&["y"]), file()));
        let connections = environment("EVENTBUS_BROKER__MAX_CONNECTIONS");
        assert_eq!(
            told("broker.max_connections"),
            (SettingValue::Number(6), connections)
        );
        let timeout = environment("EVENTBUS_CONNECT__TIMEOUT");
        assert_eq!(told("connect.timeout"), (text("1m 30s"), timeout));
        let flag = Layer::Flag {
            flag: "--set broker.rate".to_owned(),
        };
        assert_eq!(told("broker.rate"), (SettingValue::Number(7), flag));
        assert_eq!(told("tls.key"), (SettingValue::None, Layer::Default));
        let bad = figment.merge(Flag::text("--set broker.rate", "broker.rate", "fast"));
        let sentence = "bad value `fast` for `broker.rate` in flag `--set broker.rate`; expected a whole number";
        assert_eq!(settings(&bad).unwrap_err().to_string(), sentence);
        Ok(())
    });
}
