//! The guide has each step as it is, and each step's difference from the one before.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use similar::{ChangeTag, TextDiff};

/// What a step consists of; a file that its directory does not have is as in the step before.
struct Step {
    directory: &'static str,
    files: &'static [&'static str],
}

const STEPS: [Step; 7] = [
    step("step0-channels", &["main.rs"]),
    step("step1-trait", &["main.rs"]),
    step("step2-shadow", &["main.rs", "watch.toml"]),
    step("step3-in-process", &["main.rs", "watch.toml"]),
    step("step4-unix", &["main.rs", "watch.toml"]),
    step("step5-two-processes", &["main.rs", "watch.toml"]),
    step("step6-tcp", &["main.rs", "agent.toml", "collector.toml"]),
];

/// Files that are shown whole, because there is nothing before them.
const WHOLE: [&str; 2] = ["step0-channels/main.rs", "live/watch.toml"];

const fn step(directory: &'static str, files: &'static [&'static str]) -> Step {
    Step { directory, files }
}

fn migration() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A step's file, which may be an earlier step's.
fn file(step: usize, name: &str) -> Option<PathBuf> {
    if !STEPS[step].files.contains(&name) {
        return None;
    }
    let own = migration().join(STEPS[step].directory).join(name);
    if own.exists() {
        return Some(own);
    }
    let before = step.checked_sub(1).and_then(|before| file(before, name));
    Some(before.unwrap_or_else(|| panic!("{}: nobody has {name}", STEPS[step].directory)))
}

/// How a step differs from the one before, as a fenced block.
fn difference(step: usize) -> String {
    let (before, after) = (&STEPS[step - 1], &STEPS[step]);
    let mut names = before.files.to_vec();
    names.extend(
        after
            .files
            .iter()
            .filter(|name| !before.files.contains(name)),
    );
    let mut text = "```diff\n".to_owned();
    for name in names {
        let (old, new) = (file(step - 1, name), file(step, name));
        if old == new {
            continue;
        }
        let label = |side, path: &Option<PathBuf>, step: &Step| match path {
            Some(_) => format!("{side}/{}/{name}", step.directory),
            None => "/dev/null".to_owned(),
        };
        let (from, to) = (label("a", &old, before), label("b", &new, after));
        let [old, new] = [old, new].map(|path| path.map_or_else(String::new, |path| read(&path)));
        let diff = TextDiff::from_lines(&old, &new);
        write!(text, "{}", diff.unified_diff().header(&from, &to)).unwrap();
    }
    text + "```\n"
}

/// What stands in the guide between a pair of marks.
fn section(name: &str) -> String {
    if let Some(step) = STEPS.iter().position(|step| step.directory == name) {
        return difference(step);
    }
    let language = Path::new(name).extension().unwrap().to_str().unwrap();
    let language = language.replace("rs", "rust");
    format!("```{language}\n{}```\n", read(&migration().join(name)))
}

#[test]
fn the_guide_shows_the_steps_as_they_are() {
    let path = migration().join("../../docs/migration.md");
    let document = read(&path);
    let mut anew = document.clone();
    let differences = STEPS[1..].iter().map(|step| step.directory);
    for name in WHOLE.into_iter().chain(differences) {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
        let at = |mark: &str| {
            anew.find(mark)
                .unwrap_or_else(|| panic!("no {mark} in the guide"))
        };
        let (from, to) = (at(&begin) + begin.len(), at(&end));
        anew.replace_range(from..to, &section(name));
    }
    if document == anew {
        return;
    }
    assert!(
        std::env::var_os("EVENTBUS_BLESS").is_some(),
        "docs/migration.md is stale; write it anew with EVENTBUS_BLESS=1"
    );
    fs::write(path, anew).unwrap();
}

/// What a step changes is what one can look through at once.
#[test]
fn each_step_is_the_size_of_a_commit() {
    for (at, step) in STEPS.iter().enumerate().skip(1) {
        let difference = difference(at);
        let changed = difference.lines().filter(|l| l.starts_with(['+', '-']));
        let changed = changed.count();
        assert!(
            (1..=200).contains(&changed),
            "{}: {changed} lines",
            step.directory
        );
    }
}

/// Who copies a step's directory must find nothing in it that is there for nobody.
#[test]
fn each_file_of_a_step_differs_from_the_one_before() {
    for (at, step) in STEPS.iter().enumerate().skip(1) {
        for entry in fs::read_dir(migration().join(step.directory)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(step.files.contains(&&*name), "{}: {name}", step.directory);
            let Some(before) = file(at - 1, &name) else {
                continue;
            };
            let own = migration().join(step.directory).join(&name);
            let diff = (read(&before), read(&own));
            let changes = TextDiff::from_lines(&diff.0, &diff.1);
            let differs = changes
                .iter_all_changes()
                .any(|c| c.tag() != ChangeTag::Equal);
            assert!(differs, "{}: {name} is as before", step.directory);
        }
    }
}
