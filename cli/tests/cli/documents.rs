//! Each `eventbus …` in the documents is a command line that the program takes.

use std::path::Path;

use crate::program::Place;

/// The lines of shell that begin with the program, and what stands between backticks.
fn commands(text: &str) -> Vec<String> {
    let (mut shell, mut prose, mut tongue) = (String::new(), String::new(), None);
    for line in text.lines() {
        match (&tongue, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => tongue = Some(language == "sh"),
            (Some(_), Some(_)) => tongue = None,
            (Some(true), None) => shell.push_str(&format!("{line}\n")),
            (Some(false), None) => {}
            (None, None) => prose.push_str(&format!("{line}\n")),
        }
    }
    let shell = shell.replace("\\\n", " ");
    let lines = shell.lines().map(str::to_owned);
    let quoted = prose.split('`').skip(1).step_by(2).map(str::to_owned);
    lines
        .chain(quoted)
        .filter_map(|line| {
            let line = line.split([';', '|', '&']).next().unwrap().to_owned();
            let line = line
                .split(" #")
                .next()
                .unwrap()
                .split(" >")
                .next()
                .unwrap()
                .to_owned();
            let words = line.split_whitespace();
            let words: Vec<&str> = words.skip_while(|word| word.contains('=')).collect();
            let cargo = ["cargo", "run", "--release", "--"];
            let words = words
                .strip_prefix(&cargo)
                .or(words.strip_prefix(&["eventbus"]))?;
            (!words.is_empty()).then(|| words.join(" "))
        })
        // What stands for something, and what is left out.
        .filter(|line| !line.contains(['…', '<', '$', '\'', '"']))
        .collect()
}

#[test]
fn every_command_of_ours_is_taken() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = std::fs::read_dir(root.join("docs")).unwrap();
    let mut files: Vec<_> = docs.map(|entry| entry.unwrap().path()).collect();
    files.push(root.join("README.md"));
    files.retain(|file| file.extension().is_some_and(|ending| ending == "md"));
    let place = Place::new();
    let (mut refused, mut taken) = (Vec::new(), std::collections::BTreeSet::new());
    for file in files {
        for line in commands(&std::fs::read_to_string(&file).unwrap()) {
            if !taken.insert(line.clone()) {
                continue;
            }
            // Whatever stands before it is looked at first.
            let line = line.replace(" URL", " http://127.0.0.1:9/");
            let ended = place.run(&format!("{line} --help"));
            // A flag that is only named has no value.
            let flag = line.split_whitespace().last().unwrap_or_default();
            let named = format!("a value is required for '{flag} ");
            let is_named = flag.starts_with("--") && ended.stderr.contains(&named);
            if ended.code != Some(0) && !is_named {
                refused.push(format!("{}: {line}: {}", file.display(), ended.stderr));
            }
        }
    }
    assert!(taken.len() > 30, "{taken:#?}");
    assert!(refused.is_empty(), "{refused:#?}");
}
