//! What the documents say is so: their links lead somewhere, their commands name what there is, their
//! configurations are read, the messages that they quote are the program's, and so are their metrics.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use eventbus::Config;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents, by their paths.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "md") {
            paths.push(path);
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The blocks of code of one language, and the rest.
fn blocks(text: &str, language: &str) -> (Vec<String>, String) {
    let (mut blocks, mut prose) = (Vec::new(), String::new());
    let mut inside: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut inside, line.trim_start().strip_prefix("```")) {
            (None, Some(tongue)) => inside = Some((tongue == language, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, block)) = inside.take() {
                    blocks.push(block);
                }
            }
            (Some((_, block)), None) => block.push_str(&format!("{line}\n")),
            (None, None) => prose.push_str(&format!("{line}\n")),
        }
    }
    (blocks, prose)
}

/// As headings are addressed: lower case, spaces are hyphens, other marks are left out.
fn anchors(text: &str) -> BTreeSet<String> {
    let (_, prose) = blocks(text, "none");
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
            let title: String = line
                .trim_start_matches('#')
                .trim()
                .chars()
                .filter(kept)
                .collect();
            title.to_lowercase().replace(' ', "-")
        })
        .collect()
}

/// The targets of all links.
fn links(prose: &str) -> Vec<&str> {
    let after = prose.split("](").skip(1);
    after
        .filter_map(|rest| Some(rest.split_once(')')?.0))
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let (mut broken, mut followed) = (Vec::new(), 0);
    for (path, text) in &documents {
        let (_, prose) = blocks(text, "none");
        for link in links(&prose) {
            if link.contains("://") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let there = fs::canonicalize(&target).is_ok();
            let target = fs::canonicalize(target).unwrap_or_default();
            let of_target = documents.get(&target).map(|text| anchors(text));
            let anchored =
                anchor.is_empty() || of_target.is_some_and(|anchors| anchors.contains(anchor));
            if !there || !anchored {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(followed > 50, "{followed}");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_configuration_is_read() {
    let (mut wrong, mut read) = (Vec::new(), 0);
    for (path, text) in documents() {
        for block in blocks(&text, "toml").0 {
            if block.contains("[dependencies]") || block.contains("[features]") {
                continue;
            }
            read += 1;
            if let Err(error) = Config::from_figment(&Figment::from(Toml::string(&block))) {
                wrong.push(format!("{}: {error}\n{block}", path.display()));
            }
        }
    }
    assert!(read >= 5, "{read}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Packages of the workspace and their directories.
fn packages() -> BTreeMap<String, PathBuf> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let members = manifest.split("members = [").nth(1).unwrap();
    let members = members.split(']').next().unwrap();
    let members = members.split('"').skip(1).step_by(2);
    let named = members.chain(["fuzz"]).map(|member| {
        let directory = root().join(member);
        let manifest = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let package = manifest.split("[package]").nth(1).unwrap();
        let name = package.split("name = \"").nth(1).unwrap();
        (name.split('"').next().unwrap().to_owned(), directory)
    });
    named.collect()
}

/// What is wrong with a command line of cargo's.
fn wrong_with(words: &[&str], packages: &BTreeMap<String, PathBuf>) -> Option<String> {
    let ours: Vec<&str> = words
        .iter()
        .copied()
        .take_while(|word| *word != "--")
        .collect();
    let after = |flag: &str| {
        let at = ours.iter().position(|word| *word == flag)?;
        ours.get(at + 1).copied()
    };
    let asked = after("-p").or_else(|| after("--package"));
    let directories: Vec<&PathBuf> = match asked {
        Some(name) => packages.get(name).into_iter().collect(),
        None => packages.values().collect(),
    };
    if let Some(name) = asked
        && !packages.contains_key(name)
    {
        return Some(format!("no package `{name}`"));
    }
    for (flag, folder) in [
        ("--test", "tests"),
        ("--bench", "benches"),
        ("--example", "examples"),
        ("--bin", "src/bin"),
    ] {
        let Some(name) = after(flag) else { continue };
        let there = directories.iter().any(|directory| {
            let declared = fs::read_to_string(directory.join("Cargo.toml")).unwrap();
            let folder = directory.join(folder);
            folder.join(format!("{name}.rs")).exists()
                || folder.join(name).join("main.rs").exists()
                || declared.contains(&format!("name = \"{name}\""))
        });
        if !there {
            return Some(format!("no {flag} `{name}`"));
        }
    }
    None
}

/// Each line of a shell that begins with `program`, variables before it left out, and what stands
/// between backticks.
fn commands(text: &str, program: &str) -> Vec<String> {
    let (shell, prose) = blocks(text, "sh");
    let joined = shell.join("\n").replace("\\\n", " ");
    let lines = joined.lines().map(str::to_owned);
    let quoted = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    lines
        .chain(quoted)
        .filter_map(|line| {
            let line = line.split(" #").next().unwrap().trim().to_owned();
            let words = line.split_whitespace();
            let words: Vec<&str> = words.skip_while(|word| word.contains('=')).collect();
            (words.len() > 1 && words[0] == program).then(|| words.join(" "))
        })
        .collect()
}

#[test]
fn every_command_of_cargo_names_what_there_is() {
    let packages = packages();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (path, text) in documents() {
        for line in commands(&text, "cargo") {
            let words: Vec<&str> = line.split_whitespace().collect();
            if !["run", "test", "bench", "doc", "build"].contains(&words[1]) {
                continue;
            }
            checked += 1;
            if let Some(why) = wrong_with(&words, &packages) {
                wrong.push(format!("{}: `{line}`: {why}", path.display()));
            }
        }
    }
    assert!(checked > 20, "{checked}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All texts of the sources, with an ellipsis for what is filled in.
fn texts() -> BTreeSet<String> {
    let mut folders = vec![root().to_owned()];
    let mut all = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let skipped = ["target", "tests", ".git", "docs", "benches", "seeds"];
            if path.is_dir() && !skipped.contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut texts = BTreeSet::new();
    // A text that goes on in the next line.
    let lines = all
        .split("\\\n")
        .map(str::trim_start)
        .collect::<Vec<_>>()
        .concat();
    for line in lines
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
    {
        for text in line.replace("\\\"", "'").split('"').skip(1).step_by(2) {
            texts.insert(filled(text));
        }
    }
    texts
}

fn filled(text: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    out.push('…');
                }
            }
            '}' => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Each heading of `docs/troubleshooting.md` that quotes a message quotes one that the sources have, with
/// an ellipsis for what is filled in.
#[test]
fn every_message_that_is_quoted_is_one_of_ours() {
    let text = fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let texts = texts();
    let quoted = text.lines().filter_map(|line| line.strip_prefix("### \""));
    let quoted: Vec<&str> = quoted.map(|line| line.trim_end_matches('"')).collect();
    assert!(quoted.len() >= 20, "{}", quoted.len());
    let foreign: Vec<_> = quoted
        .iter()
        .filter(|message| !texts.iter().any(|text| text.contains(**message)))
        .collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

/// The exporter's families are in `docs/observing.md`, which a test of the exporter's holds to it.
#[test]
fn every_metric_that_is_named_is_exported() {
    let exported = fs::read_to_string(root().join("docs/observing.md")).unwrap();
    let exported: BTreeSet<&str> = exported
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    let (mut unknown, mut named) = (BTreeSet::new(), 0);
    for name in [
        "alerts.yml",
        "operations.md",
        "security.md",
        "troubleshooting.md",
    ] {
        let text = fs::read_to_string(root().join("docs").join(name)).unwrap();
        let part = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        for word in text.split(part) {
            let is_metric = word.starts_with("eventbus_") || word.starts_with("process_");
            if is_metric && word != "eventbus_" {
                named += 1;
                if !exported.contains(word) {
                    unknown.insert(format!("{name}: {word}"));
                }
            }
        }
    }
    assert!(named > 20, "{named}");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// What stands behind `mark` in lines that begin so, up to `end`.
fn named(file: &str, mark: &str, end: char) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let lines = text.lines();
    lines
        .filter_map(|line| line.trim_start().strip_prefix(mark)?.split(end).next())
        .map(str::to_owned)
        .collect()
}

/// `promtool test rules tests/alerts.yml` shows that they fire; here is that none is left out.
#[test]
fn every_alert_is_explained_and_tested() {
    let rules = named("docs/alerts.yml", "- alert: ", ' ');
    assert!(rules.len() >= 10, "{rules:?}");
    let explained = named("docs/operations.md", "| `Eventbus", '`');
    let explained: BTreeSet<_> = explained.iter().map(|n| format!("Eventbus{n}")).collect();
    assert_eq!(explained, rules);
    assert_eq!(named("tests/alerts.yml", "alertname: ", ' '), rules);
    let quiet = "- {eval_time: 20m, alertname: ";
    assert_eq!(named("tests/alerts.yml", quiet, '}'), rules);
}

/// What is wrong with a dependency that a document writes down.
fn wrong_with_dependency(name: &str, asked: &Value, ours: &Dict) -> Option<String> {
    let asked = match asked {
        Value::Dict(_, asked) => asked.clone(),
        version => Dict::from([("version".to_owned(), version.clone())]),
    };
    if let Some(path) = asked.get("path").and_then(Value::as_str) {
        let within = path.trim_start_matches("../").strip_prefix("eventbus");
        let Some(directory) = within.filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Some(format!("{name} is not in the clone: {path}"));
        };
        let manifest = root()
            .join(directory.trim_start_matches('/'))
            .join("Cargo.toml");
        let Ok(manifest) = Figment::from(Toml::file_exact(&manifest)).extract::<Dict>() else {
            return Some(format!("no {}", manifest.display()));
        };
        let features = asked.get("features").and_then(Value::as_array);
        let has = |feature: &Value| {
            let feature = feature.as_str().unwrap_or_default();
            let features = manifest.get("features").and_then(Value::as_dict);
            features.is_some_and(|all| all.contains_key(feature))
        };
        let unknown = features.into_iter().flatten().find(|feature| !has(feature));
        return unknown.map(|feature| format!("{name} has no feature {feature:?}"));
    }
    let version = |dependency: &Value| {
        let version = dependency.find_ref("version").unwrap_or(dependency);
        version.as_str().map(str::to_owned)
    };
    let asked = asked.get("version").and_then(Value::as_str)?;
    let ours = version(ours.get(name)?)?;
    let goes = ours == asked || ours.starts_with(&format!("{asked}."));
    (!goes).then(|| format!("{name} {asked}, and we have {ours}"))
}

#[test]
fn every_dependency_is_there() {
    let manifest = root().join("Cargo.toml");
    let manifest: Dict = Figment::from(Toml::file_exact(manifest)).extract().unwrap();
    let ours = manifest["workspace"].find_ref("dependencies").unwrap();
    let ours = ours.as_dict().unwrap();
    let (mut wrong, mut checked) = (Vec::new(), 0);
    for (path, text) in documents() {
        for block in blocks(&text, "toml").0 {
            let asked: Dict = Figment::from(Toml::string(&block)).extract().unwrap();
            for table in ["dependencies", "dev-dependencies"] {
                for (name, asked) in asked
                    .get(table)
                    .and_then(Value::as_dict)
                    .into_iter()
                    .flatten()
                {
                    checked += 1;
                    if let Some(why) = wrong_with_dependency(name, asked, ours) {
                        wrong.push(format!("{}: {why}", path.display()));
                    }
                }
            }
        }
    }
    assert!(checked >= 10, "{checked}");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
