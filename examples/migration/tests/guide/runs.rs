//! Each step watches the same processes begin and end, and prints the same.

use std::time::{Duration, Instant};

use eventbus::rollout::Activity;
use eventbus::rollout::admin::{Answer, Request, ask};

use crate::prey::{Prey, honest, pretender};
use crate::program::Program;
use crate::scene::Scene;

const STEP0: &str = env!("CARGO_BIN_EXE_step0-channels");
const STEP1: &str = env!("CARGO_BIN_EXE_step1-trait");
const STEP2: &str = env!("CARGO_BIN_EXE_step2-shadow");
const STEP5: &str = env!("CARGO_BIN_EXE_step5-two-processes");

/// No move takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes out, with letters for process ids and names; what belongs to one moment is sorted.
const STORY: [&str; 8] = [
    "alert A is CAT",
    "new A",
    "runs A CAT",
    "new B",
    "runs B OWN",
    "exit A",
    "exit B",
    "counted 6 events, 1 alerts",
];

/// Two processes begin and end while the step looks on.
struct Hunt<'a> {
    scene: &'a Scene,
    told: Vec<String>,
    letters: Vec<(String, String)>,
}

impl<'a> Hunt<'a> {
    fn new(scene: &'a Scene) -> Self {
        Self {
            scene,
            told: Vec::new(),
            letters: Vec::new(),
        }
    }

    /// One that pretends, or does not.
    fn begin(&mut self, letter: &str, pretends: bool) -> Prey {
        let name = format!("{}{letter}", self.scene.names);
        let directory = self.scene.path();
        let file = if pretends {
            pretender(directory, &name)
        } else {
            honest(directory, &name)
        };
        let program = std::fs::canonicalize(&file).unwrap();
        let prey = Prey::start(&file);
        let as_told = if pretends { "CAT" } else { "OWN" };
        // Paths before names, because a path may end in one.
        self.letters
            .insert(0, (program.display().to_string(), as_told.to_owned()));
        self.letters
            .push((format!("{} {name}", prey.pid()), letter.to_owned()));
        self.letters
            .push((prey.pid().to_string(), letter.to_owned()));
        prey
    }

    /// Takes the lines of one moment.
    fn hear(&mut self, program: &mut Program, lines: usize) {
        let heard: Vec<_> = (0..lines).map(|_| program.printed()).collect();
        self.note(heard);
    }

    fn note(&mut self, mut heard: Vec<String>) {
        for line in &mut heard {
            for (text, letter) in &self.letters {
                *line = line.replace(text, letter);
            }
        }
        heard.sort();
        self.told.append(&mut heard);
    }

    /// The whole story, in front of a program that is watching already.
    fn run(mut self, mut printing: Program) -> (Vec<String>, String) {
        let first = self.begin("A", true);
        self.hear(&mut printing, 3);
        let second = self.begin("B", false);
        self.hear(&mut printing, 2);
        self.finish(printing, first, second)
    }

    fn finish(mut self, mut printing: Program, first: Prey, second: Prey) -> (Vec<String>, String) {
        drop(first);
        self.hear(&mut printing, 1);
        drop(second);
        self.hear(&mut printing, 1);
        let (rest, said) = printing.end();
        self.note(rest);
        (self.told, said)
    }
}

/// A step in one process: what it printed is the story; returns what it said at its end.
fn alone(program: &str, configuration: Option<&str>, on: &str) -> String {
    let scene = Scene::new();
    let file = configuration.map(|name| scene.configuration(name));
    let mut watching = Program::start(program, &[&scene.names], scene.path(), file.as_deref());
    if !on.is_empty() {
        watching.await_said(&format!("on {on}"));
    }
    let (told, said) = Hunt::new(&scene).run(watching);
    assert_eq!(told, STORY, "{said}");
    said
}

/// What every bus counts when all is well.
const COUNTED: &str = "published 6, refused 0\nmatched 6, delivered 6, dropped 0, queued 0\n";

#[test]
fn step_0_is_on_bare_channels() {
    assert_eq!(alone(STEP0, None, ""), "");
}

#[test]
fn step_1_is_on_the_trait() {
    assert_eq!(alone(STEP1, None, "crossbeam"), COUNTED);
}

#[test]
fn step_2_compares_a_broker_with_the_channels() {
    let said = alone(STEP2, Some("step2-shadow/watch.toml"), "shadow");
    let verdict = "crossbeam and in-process: match; of 6 deliveries 6 matched, 0 unverified; \
                   0 divergences\n";
    assert_eq!(said, format!("{verdict}{COUNTED}"));
}

#[test]
fn step_3_is_on_a_broker_in_the_process() {
    let said = alone(STEP2, Some("step3-in-process/watch.toml"), "in-process");
    assert_eq!(said, COUNTED);
}

#[test]
fn step_4_is_on_a_broker_behind_a_socket() {
    let said = alone(STEP2, Some("step4-unix/watch.toml"), "unix");
    assert_eq!(said, COUNTED);
}

#[test]
fn step_5_is_two_processes_and_either_may_come_first() {
    let scene = Scene::new();
    let file = scene.configuration("step4-unix/watch.toml");
    let start = |words: &[&str]| Program::start(STEP5, words, scene.path(), Some(&file));
    let mut collectors = start(&["collect", &scene.names]);
    collectors.await_said("on unix");
    let mut hunt = Hunt::new(&scene);
    let first = hunt.begin("A", true);
    collectors.await_said("nobody listens");
    let mut agent = start(&["agent"]);
    hunt.hear(&mut agent, 3);
    let second = hunt.begin("B", false);
    hunt.hear(&mut agent, 2);
    let (told, said) = hunt.finish(agent, first, second);
    assert_eq!(told, STORY, "{said}");
    assert!(
        said.ends_with("matched 6, delivered 6, dropped 0, queued 0\n"),
        "{said}"
    );
    let (_, said) = collectors.end();
    assert!(
        said.contains("refused 0, sent again 0, given up 0"),
        "{said}"
    );
}

#[test]
fn step_6_is_two_processes_over_tcp_with_certificates() {
    let scene = Scene::new();
    scene.certificates();
    let start = |words: &[&str], file| {
        Program::start(STEP5, words, scene.path(), Some(&scene.configuration(file)))
    };
    let mut collectors = start(&["collect", &scene.names], "step6-tcp/collector.toml");
    let mut agent = start(&["agent"], "step6-tcp/agent.toml");
    agent.await_said("on tcp");
    collectors.await_said("on tcp");
    // Who has a certificate of another authority does not get in.
    let stranger = Scene::beside(&scene);
    let file = stranger.configuration("step6-tcp/collector.toml");
    let words = ["collect", &scene.names];
    let mut refused = Program::start(STEP5, &words, stranger.path(), Some(&file));
    refused.await_said("certificate");
    let (told, said) = Hunt::new(&scene).run(agent);
    assert_eq!(told, STORY, "{said}");
    assert!(
        said.ends_with("matched 6, delivered 6, dropped 0, queued 0\n"),
        "{said}"
    );
    let (_, said) = collectors.end();
    // How often depends on how soon the agent has subscribed.
    assert!(
        said.contains("refused 0, sent again 0, given up 0"),
        "{said}"
    );
}

#[test]
fn the_program_of_step_2_moves_while_it_runs() {
    let scene = Scene::new();
    let file = scene.configuration("live/watch.toml");
    let admin = scene.path().join("admin.sock");
    let mut watching = Program::start(STEP2, &[&scene.names], scene.path(), Some(&file));
    watching.await_said("on ");
    let asked = |request| ask(&admin, request, PATIENCE).unwrap();
    let status = || asked(Request::Status);
    let advance = |force| match asked(Request::Advance { force, from: None }) {
        Answer::Done(entry) => entry.to,
        answer => panic!("{answer:?}, {:?}", status()),
    };
    let mut hunt = Hunt::new(&scene);
    assert!(advance(true).starts_with("shadow("));
    let first = hunt.begin("A", true);
    hunt.hear(&mut watching, 3);
    let second = hunt.begin("B", false);
    hunt.hear(&mut watching, 2);
    // Now there is something to compare, and the gates decide.
    let until = Instant::now() + PATIENCE;
    while !matches!(&status(), Answer::Status(status) if status.activity == Activity::Asking) {
        assert!(Instant::now() < until, "{:?}", status());
    }
    assert_eq!(advance(false), "in-process");
    assert!(advance(true).starts_with("shadow("));
    assert!(advance(true).starts_with("unix"));
    let (told, said) = hunt.finish(watching, first, second);
    assert_eq!(told, STORY, "{said}");
    assert!(
        said.ends_with("matched 6, delivered 6, dropped 0, queued 0\n"),
        "{said}"
    );
}
