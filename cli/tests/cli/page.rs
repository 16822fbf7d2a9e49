//! The page in a real browser: live during a sabotaged comparison, and frozen as its report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conformance::fault::Reserved;
use eventbus::observe::{Observed, frozen};
use eventbus::rollout::{self, Activity, Mode, PhasedBus, Rollout, Trial};
use eventbus::shadow::sabotage::{Sabotage, SabotageBus};
use eventbus::{Config, Event, EventBus as _, Phase, Subscribe};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::chromium::Browser;
use crate::program::{Place, Running};

/// How much of the page is beyond the right edge, in pixels.
const BEYOND: &str = "document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// Contrast of texts to the page, by WCAG's formula: the lowest of those that are there.
const CONTRAST: &str = r"(() => {
  const light = (color) => {
    const [r, g, b] = color.match(/[\d.]+/g).slice(0, 3).map((c) => c / 255)
      .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = light(getComputedStyle(document.body).backgroundColor);
  const ratios = [...document.querySelectorAll('body, #when, dt, .fail, .pass, .wait, a, caption')].map((e) => {
    const text = light(getComputedStyle(e).color);
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
  });
  return Math.min(...ratios);
})()";

/// A comparison that goes on until it is interrupted, and where it can be seen.
fn sabotaged(place: &Place) -> (Running, String) {
    let running = place.start(
        "shadow --source synthetic --rate 2000 --duration 1h --candidate in-process \
         --sabotage corrupt=1% --divergences /dev/full \
         --observe 127.0.0.1:0",
        &[],
    );
    let line = running.await_line("to be seen at ");
    let url = line
        .trim()
        .strip_prefix("to be seen at ")
        .unwrap()
        .to_owned();
    (running, url)
}

#[test]
fn the_divergence_is_on_the_page_while_the_comparison_runs() {
    let place = Place::new();
    let (running, url) = sabotaged(&place);
    let mut browser = Browser::start(1000);
    browser.open(&url);
    browser.until("document.querySelector('#newest-0 li h4') !== null");
    let found = browser.text("document.querySelector('#newest-0 li h4').textContent");
    let rest = found.strip_prefix("differs on the candidate: synthetic.topic-");
    let (topic, sequence) = rest
        .and_then(|rest| rest.split_once(" number "))
        .expect(&found);
    assert!(
        topic.parse::<u32>().is_ok() && sequence.parse::<u64>().is_ok(),
        "{found}"
    );
    let place_of_it = browser.text("document.querySelector('#newest-0 dl').textContent");
    assert!(place_of_it.contains("reader-"), "{place_of_it}");
    let news = browser.text("document.querySelector('[role=status][aria-live]').textContent");
    assert_eq!(news, "in-process against crossbeam: diverged (differs)");
    assert!(browser.text("document.title").contains('\u{2717}'));
    browser.until("document.querySelector('#comparison-0 > p.fail.mark') !== null");
    let trouble = browser.text("document.querySelector('#comparison-0 > p.fail.mark').textContent");
    let unwritten = trouble.strip_prefix("divergences not written to /dev/full: ");
    assert!(
        unwritten.is_some_and(|rest| rest.contains("No space left on device")),
        "{trouble}"
    );

    // It goes on by itself, and shows both sides over time.
    let compared =
        "Number(document.querySelector('#comparison-0 dd').textContent.replaceAll(',', ''))";
    let before = browser.eval(compared).as_f64().unwrap();
    browser.until(&format!("{compared} > {before}"));
    for side in ["primary", "candidate"] {
        browser.until(&format!(
            "document.querySelectorAll('#latency-0 svg rect.{side}').length > 4"
        ));
    }
    browser.until("document.querySelectorAll('#queues-0 tbody tr').length === 2");
    browser.until("document.querySelectorAll('#topics-0 tbody tr').length >= 1");

    // By the keyboard alone: the first thing to reach stops the changes, and keeps the focus.
    browser.press("Tab", "");
    assert_eq!(browser.text("document.activeElement.id"), "pause");
    browser.press("Enter", "\r");
    browser.until("document.getElementById('pause').getAttribute('aria-pressed') === 'true'");
    assert_eq!(browser.text("document.activeElement.id"), "pause");

    // What is unfolded stays so while the page changes.
    browser.eval("document.getElementById('more-0').open = true");
    browser.press("Enter", "\r");
    let before = browser.eval(compared).as_f64().unwrap();
    browser.until(&format!("{compared} > {before}"));
    assert_eq!(browser.eval("document.getElementById('more-0').open"), true);

    for scheme in ["light", "dark"] {
        browser.prefer(scheme);
        for width in [400, 320, 1000] {
            browser.width(width);
            assert_eq!(browser.eval(BEYOND), 0, "{width} px, {scheme}");
        }
        let contrast = browser.eval(CONTRAST).as_f64().unwrap();
        assert!(contrast >= 4.5, "{scheme}: {contrast}");
    }
    let back = "getComputedStyle(document.body).backgroundColor";
    let dark = browser.text(back);
    browser.prefer("light");
    assert_ne!(browser.text(back), dark);

    browser.is_content();
    let outside = browser
        .requests
        .iter()
        .find(|asked| !asked.starts_with(&url) && !asked.starts_with("data:"));
    assert_eq!(outside, None);

    running.signal("INT");
    let ended = running.end();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    browser
        .until("document.querySelector('[role=status]').textContent.startsWith('No answer since')");
}

#[test]
fn a_report_is_the_page_as_it_was_at_the_end() {
    let place = Place::new();
    let ended = place.run(
        "shadow --source synthetic --events 3000 --candidate in-process --candidate crossbeam \
         --sabotage drop=1% --report run.html",
    );
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let mut browser = Browser::start(400);
    let url = format!("file://{}", place.path().join("run.html").display());
    browser.open(&url);
    browser.until("document.querySelectorAll('article').length === 2");
    let news = browser.text("document.getElementById('news').textContent");
    let due = "in-process against crossbeam: diverged (missing); \
               crossbeam against crossbeam: diverged (missing)";
    assert_eq!(news, due);
    for at in 0..2 {
        let first = format!("document.querySelector('#newest-{at} li h4').textContent");
        let found = browser.text(&first);
        assert!(
            found.starts_with("missing on the candidate: synthetic.topic-"),
            "{found}"
        );
    }
    assert_eq!(
        browser.eval("document.getElementById('pause')"),
        Value::Null
    );
    assert_eq!(browser.eval(BEYOND), 0);
    browser.is_content();
    let outside = browser
        .requests
        .iter()
        .find(|asked| **asked != url && !asked.starts_with("data:"));
    assert_eq!(outside, None);
}

/// What a rollout says of itself, after a gate has failed.
fn halted() -> Value {
    json!({
        "phase": "crossbeam", "stage": 1, "mode": "automatic", "activity": "halted",
        "stages": [
            {"name": "crossbeam", "phase": "crossbeam", "candidate": null},
            {"name": "shadow(crossbeam, unix)", "phase": "crossbeam", "candidate": "unix"},
            {"name": "unix", "phase": "unix", "candidate": null},
        ],
        "cutover": null,
        "gates": [
            {"name": "events", "wanted": "at least 100 events", "measured": "25 events", "progress": 0.25, "verdict": "inconclusive"},
            {"name": "divergences", "wanted": "none", "measured": "3", "progress": null, "verdict": "fail"},
        ],
        "successes": 0, "successes_wanted": 3, "failures": 1, "failures_allowed": 1,
        "stage_since_ms": 1_795_285_457_653_u64, "history": [],
        "last_error": "gate divergences failed: 3, wanted none",
        "longest_publish_delay_us": 1200, "cutovers": 2,
    })
}

#[test]
fn a_browser_takes_nothing_that_was_seen_for_markup_and_shows_a_failed_gate() {
    let hostile = "</script><img src=x onerror=hacked=1><b>\"'&{{script}}";
    let place = Place::new();
    let words = "shadow --source synthetic --events 100 --candidate crossbeam --json";
    let (document, _) = place.json(words);
    let side = json!({"samples": 0, "sum_us": 0, "buckets": []});
    let found = json!({"class": "phantom", "side": "candidate", "subscription": hostile,
        "publisher": hostile, "epoch": 1, "topic": hostile, "sequence": 1, "detail": hostile});
    let seen: Observed = serde_json::from_value(json!({
        "schema": 1, "title": hostile, "version": "0", "at_ms": 1, "uptime_ms": 1,
        "health": {"status": "failing", "reasons": [hostile]},
        "rollout": halted(),
        "shadow": {"report": document["runs"][0]["report"], "glance": {
            "by_topic": [{"class": "phantom", "topic": hostile, "count": 1}], "newest": [found],
            "queued": 0, "primary": side, "candidate": side}},
        "history": {"interval_ms": 1000, "points": []},
    }))
    .unwrap();
    let file = place.path().join("hostile.html");
    std::fs::write(&file, frozen(hostile, &[&seen])).unwrap();
    let mut browser = Browser::start(400);
    browser.open(&format!("file://{}", file.display()));
    browser.until("document.querySelector('#newest-0 h4') !== null");
    let shown = browser.text("document.querySelector('#newest-0 h4 bdi').textContent");
    assert_eq!(shown, hostile);
    assert_eq!(
        browser.text("document.getElementById('title').textContent"),
        hostile
    );
    assert_eq!(
        browser.eval("document.querySelectorAll('img, b').length"),
        0
    );
    assert_eq!(browser.text("typeof hacked"), "undefined");
    assert_eq!(browser.eval(BEYOND), 0, "however long a word is");

    let stage = browser.text("document.querySelector('[aria-current=step]').textContent");
    assert_eq!(stage, "shadow(crossbeam, unix)");
    let gates = browser.text("document.querySelector('#rollout-0 tbody').textContent");
    assert!(
        gates.contains("25 %inconclusive") && gates.contains("none3fail"),
        "{gates}"
    );
    let said = browser.text("document.querySelector('#rollout-0').textContent");
    assert!(
        said.contains("gate divergences failed: 3, wanted none"),
        "{said}"
    );
    assert!(
        browser
            .text("document.getElementById('news').textContent")
            .contains("stage 2 of 3, halted")
    );
    browser.is_content();
}

/// A rollout in use, and the page that shows it.
struct Rolling {
    runtime: tokio::runtime::Runtime,
    bus: Arc<PhasedBus>,
    load: JoinHandle<()>,
    address: SocketAddr,
    _port: Reserved,
}

impl Rolling {
    /// By itself, as soon as the gates let it.
    fn start(mut rollout: Rollout, trial: Trial) -> Self {
        rollout.mode = Mode::Automatic;
        rollout.gates.min_time = Duration::ZERO;
        rollout.gates.min_events = 100;
        rollout.gates.interval = Duration::from_millis(100);
        let mut config = Config::default().rollout(rollout).name("collector");
        let port = Reserved::new().unwrap();
        let address = port.address();
        config.observe.listen = Some(address.to_string().parse().unwrap());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let bus = runtime
            .block_on(rollout::open_trial(&config, trial))
            .unwrap();
        let used = Arc::clone(&bus);
        let load = runtime.spawn(async move {
            let subscribe = Subscribe::to("events.#").unwrap().named("dashboard");
            let mut events = used.subscribe(subscribe).await.unwrap();
            let mut ticks = tokio::time::interval(Duration::from_millis(1));
            loop {
                ticks.tick().await;
                let event = Event::json("events.process.new", &1).unwrap();
                used.publish(event).await.unwrap();
                events.recv().await.unwrap();
            }
        });
        Self {
            runtime,
            bus,
            load,
            address,
            _port: port,
        }
    }

    fn shown(&self) -> Browser {
        let mut browser = Browser::start(900);
        browser.open(&format!("http://{}/", self.address));
        browser
    }

    fn end(self) {
        assert_eq!(self.bus.controller().status().activity, Activity::Halted);
        assert!(!self.load.is_finished(), "the application was touched");
        self.load.abort();
        self.runtime.block_on(self.bus.shutdown()).unwrap();
    }
}

/// The gates of the page that have come to this verdict.
fn gates(browser: &mut Browser, verdict: &str) -> String {
    let rows =
        "[...document.querySelectorAll('#rollout-0 tbody tr')].map((row) => row.textContent)";
    browser.text(&format!(
        "{rows}.filter((row) => row.endsWith('{verdict}')).join()"
    ))
}

/// A rollout whose gate wants a socket to be a thousand times as fast as a channel halts before it, and the page says so.
#[test]
fn a_gate_that_fails_is_on_the_page_with_the_stage_that_it_holds() {
    let place = Place::new();
    let socket = format!("unix://{}", place.path().join("run/bus.sock").display());
    let phases = vec![Phase::Crossbeam, socket.parse().unwrap()];
    let mut rollout = Rollout::new(phases, place.path().join("journal"));
    rollout.gates.latency_ratio = 0.001;
    let rolling = Rolling::start(rollout, Trial::default());
    let mut browser = rolling.shown();
    browser.until("document.getElementById('news').textContent.includes('stage 2 of 3, halted')");
    let stage = browser.text("document.querySelector('[aria-current=step]').textContent");
    assert!(stage.starts_with("shadow(crossbeam, unix:"), "{stage}");
    let failed = gates(&mut browser, "fail");
    assert!(failed.starts_with("latency"), "{failed}");
    let passed = gates(&mut browser, "pass");
    assert!(passed.contains("divergences"), "{passed}");
    browser.until("document.querySelectorAll('#latency-0 svg rect').length > 4");
    browser.picture("halted.png");
    browser.is_content();
    rolling.end();
}

/// A rollout through the migration whose first candidate alters one event in fifty.
fn sabotaged_rollout(place: &Place, fall_back: bool) -> Rolling {
    let socket = format!("unix://{}", place.path().join("run/bus.sock").display());
    let phases = vec![Phase::Crossbeam, Phase::InProcess, socket.parse().unwrap()];
    let mut rollout = Rollout::new(phases, place.path().join("journal"));
    rollout.fall_back = fall_back;
    // How fast it is is not what is looked at here.
    rollout.gates.latency_ratio = 1e9;
    rollout.gates.throughput_ratio = 0.0;
    let sabotage =
        |bus| SabotageBus::new(bus, Sabotage::Corrupt, 0.02, 7) as Arc<dyn eventbus::EventBus>;
    Rolling::start(rollout, Trial::default().around_candidates(sabotage))
}

const WHY: &str = "document.querySelector('#rollout-0 p.fail.mark').textContent";

#[test]
fn a_rollout_stops_where_its_candidate_is_sabotaged_and_the_page_says_why() {
    let place = Place::new();
    let rolling = sabotaged_rollout(&place, false);
    let mut browser = rolling.shown();
    browser.until("document.getElementById('news').textContent.includes('stage 2 of 5, halted')");
    let stage = browser.text("document.querySelector('[aria-current=step]').textContent");
    assert_eq!(stage, "shadow(crossbeam, in-process)");
    let failed = gates(&mut browser, "fail");
    assert!(
        failed.starts_with("divergencesat most 0") && failed.contains(" differing"),
        "{failed}"
    );
    let why = browser.text(WHY);
    assert!(
        why.starts_with("divergences: ") && why.ends_with("wanted at most 0"),
        "{why}"
    );
    let found = browser.text("document.querySelector('#newest-0 li h4').textContent");
    let sequence = found.strip_prefix("differs on the candidate: events.process.new number ");
    assert!(
        sequence.is_some_and(|n| n.parse::<u64>().is_ok()),
        "{found}"
    );
    let place_of_it = browser.text("document.querySelector('#newest-0 dl').textContent");
    assert!(place_of_it.contains("dashboard"), "{place_of_it}");
    let news = browser.text("document.getElementById('news').textContent");
    assert!(
        news.contains("in-process against crossbeam: diverged (differs)"),
        "{news}"
    );
    assert!(browser.text("document.title").contains('\u{2717}'));
    browser.picture("stopped.png");
    browser.is_content();
    rolling.end();
}

#[test]
fn a_rollout_that_may_goes_back_from_a_sabotaged_candidate_and_the_page_says_so() {
    let place = Place::new();
    let rolling = sabotaged_rollout(&place, true);
    let mut browser = rolling.shown();
    browser.until("document.getElementById('news').textContent.includes('stage 1 of 5, halted')");
    let stage = browser.text("document.querySelector('[aria-current=step]').textContent");
    assert_eq!(stage, "crossbeam");
    let why = browser.text(WHY);
    assert!(why.starts_with("divergences: "), "{why}");
    browser.eval("document.querySelector('#history-0').open = true");
    let happened = browser.text("document.querySelector('#history-0 tbody').innerText");
    let told: Vec<&str> = happened.lines().collect();
    let newest = |n: usize| told.iter().filter(|line| !line.is_empty()).nth(n).unwrap();
    assert!(
        newest(0).contains("halted") && newest(0).contains(&why),
        "{happened}"
    );
    let back = "shadow(crossbeam, in-process) \u{2192} crossbeam";
    assert!(
        newest(1).contains("went back") && newest(1).contains(back),
        "{happened}"
    );
    assert!(newest(1).contains(&why), "{happened}");
    assert_eq!(
        browser.eval("document.querySelector('#newest-0')"),
        Value::Null
    );
    browser.picture("went-back.png");
    browser.is_content();
    rolling.end();
}
