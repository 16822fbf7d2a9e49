//! Examples, as `--help` shows them below the flags, and completions for shells.
//!
//! Who meets the program first wants a command that works, and only then its flags.
//!
//! Invariant: every command has an example, and every example parses; so do the commands of the README.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;
use crate::shadow::output::print;

pub(crate) const FIRST: &str = "\
First:
  eventbus shadow                                 compare two pairs of buses on this machine's processes
  eventbus broker --unix run/bus.sock             a bus for several programs
  eventbus tail '#' --at unix:run/bus.sock        what goes over it
  eventbus config check                           whether a program could start here, and why not

`eventbus COMMAND --help` has examples of each. What a program runs on is configuration: the file
`eventbus.toml`, or variables such as `EVENTBUS_PHASE`.";

pub(crate) const SHADOW: &str = "\
Examples:
  eventbus shadow
  eventbus shadow --source synthetic --candidate unix --events 1000000
  eventbus shadow --candidate tcp --calibrate --json
  eventbus shadow --candidate unix --divergences found.jsonl
  eventbus shadow replay found.jsonl";

pub(crate) const BROKER: &str = "\
Examples:
  eventbus broker --unix run/bus.sock
  eventbus broker --unix run/bus.sock --metrics 127.0.0.1:9100
  eventbus broker --tcp 0.0.0.0:7777 --tls-ca certs/ca.pem --tls-cert certs/broker.pem --tls-key certs/broker.key";

pub(crate) const TOP: &str = "\
Examples:
  eventbus top
  eventbus top unix:run/metrics.sock
  eventbus top --json";

pub(crate) const CALL: &str = "\
Examples:
  eventbus call procmond health_check --at unix:run/bus.sock
  eventbus call procmond update_config '{\"version\": 1, \"config\": {}}' --deadline 10s
  eventbus call procmond get_capabilities --json --at tcp://localhost:7777 --ca certs/ca.pem --cert certs/operator.pem --key certs/operator.key
  eventbus call calculator add - --at unix:run/bus.sock";

pub(crate) const TAIL: &str = "\
Examples:
  eventbus tail '#' --at unix:run/bus.sock
  eventbus tail 'events.process.*' 'health.#' --count 10
  eventbus tail 'events.#' --json --at tcp://localhost:7777 --ca certs/ca.pem --cert certs/operator.pem --key certs/operator.key";

pub(crate) const CERTS: &str = "\
Examples:
  eventbus certs init
  eventbus certs issue broker --server
  eventbus certs issue collector
  eventbus certs show certs/collector.pem
  eventbus certs revoke collector";

pub(crate) const CONFIG: &str = "\
Examples:
  eventbus config show
  eventbus config show broker.toml --json
  eventbus config check
  eventbus config check --set phase=tcp://localhost:7777 --offline";

pub(crate) const ROLLOUT: &str = "\
Examples:
  eventbus rollout status
  eventbus rollout plan
  eventbus rollout advance --dry-run
  eventbus rollout advance
  eventbus rollout back
  eventbus rollout pause
  eventbus rollout resume
  eventbus rollout abort
  eventbus rollout soak --duration 10s";

pub(crate) const CONFORMANCE: &str = "\
Examples:
  eventbus conformance --phase unix
  eventbus conformance --at unix:///run/example/bus.sock --clause DEL
  eventbus conformance --list";

pub(crate) const VALIDATE: &str = "\
Examples:
  eventbus validate
  eventbus validate --json";

pub(crate) const COMPLETIONS: &str = "\
Examples:
  eventbus completions bash > ~/.local/share/bash-completion/completions/eventbus
  eventbus completions zsh > ~/.zfunc/_eventbus
  eventbus completions fish > ~/.config/fish/completions/eventbus.fish";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell: `bash`, `zsh` or `fish`
    #[arg(value_name = "SHELL", value_parser = shell)]
    pub(crate) shell: Shell,
}

fn shell(text: &str) -> Result<Shell, String> {
    match text {
        "bash" => Ok(Shell::Bash),
        "zsh" => Ok(Shell::Zsh),
        "fish" => Ok(Shell::Fish),
        _ => Err("expected `bash`, `zsh` or `fish`".to_owned()),
    }
}

/// Prints what a shell needs to complete our commands; the answer is always yes.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "eventbus", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Command, Parser as _};

    /// The commands in a text: what begins with `eventbus`, or with `cargo run` and goes on after `--`.
    /// What is indented or set in columns ends at two spaces, a comment at ` # `.
    fn commands(text: &str) -> Vec<Vec<String>> {
        let text = text.replace("\\\n", " ");
        let lines = text.lines().map(str::trim);
        let ours = lines.filter_map(|line| match line.strip_prefix("cargo run --release -- ") {
            Some(rest) => Some(format!("eventbus {rest}")),
            None => line.starts_with("eventbus ").then(|| line.to_owned()),
        });
        ours.map(|line| words(&line)).collect()
    }

    /// As a shell parts them.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        let mut put = |word: &mut String| {
            if !word.is_empty() {
                words.push(std::mem::take(word));
            }
        };
        for c in line.chars() {
            match quote {
                Some(q) if c == q => quote = None,
                Some(_) => word.push(c),
                None if c == '\'' || c == '"' => quote = Some(c),
                None if matches!(c, '>' | '|' | '&') => break,
                None if c == '#' && word.is_empty() => break,
                None if c.is_whitespace() => put(&mut word),
                None => word.push(c),
            }
        }
        put(&mut word);
        words
    }

    fn parses(words: &[String]) {
        if let Err(error) = Cli::try_parse_from(words) {
            panic!("{}: {error}", words.join(" "));
        }
    }

    fn shown(command: &Command) -> String {
        command
            .get_after_help()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Has a line of help, and an example here or above; so have all below it.
    fn has_help(command: &Command, path: &str, above: &str) -> usize {
        let about = command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            !about.is_empty() && about.len() <= 100,
            "`{path}` has no line of help, or a long one"
        );
        let here = shown(command);
        let examples = format!("{above}\n{here}");
        let mut found = commands(&examples).into_iter().map(|words| words.join(" "));
        assert!(
            found.any(|example| example == path || example.starts_with(&format!("{path} "))),
            "`{path}` has no example"
        );
        for words in commands(&here) {
            parses(&words);
        }
        let below = command
            .get_subcommands()
            .filter(|command| command.get_name() != "help");
        1 + below
            .map(|command| {
                has_help(
                    command,
                    &format!("{path} {}", command.get_name()),
                    &examples,
                )
            })
            .sum::<usize>()
    }

    #[test]
    fn every_command_has_help_and_an_example_that_parses() {
        let mut cli = Cli::command();
        cli.build();
        let seen: usize = cli
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .map(|command| has_help(command, &format!("eventbus {}", command.get_name()), ""))
            .sum();
        assert!(seen >= 25, "{seen} commands seen");
    }

    #[test]
    fn what_is_to_be_done_first_parses() {
        let first = shown(&Cli::command());
        let lines: String = first
            .lines()
            .map(|line| {
                // What it is for stands in a column of its own.
                let line = line.trim();
                format!("{}\n", line.split("  ").next().unwrap_or(line))
            })
            .collect();
        let commands = commands(&lines);
        assert_eq!(commands.len(), 4, "{lines}");
        for words in commands {
            parses(&words);
        }
    }

    #[test]
    fn the_commands_of_the_readme_parse() {
        let readme = include_str!("../../README.md");
        let blocks = readme.split("```").skip(1).step_by(2);
        let shell: String = blocks
            .filter_map(|block| block.strip_prefix("sh\n"))
            .collect();
        let commands = commands(&shell);
        assert!(commands.len() >= 3, "{commands:?}");
        for words in commands {
            parses(&words);
        }
    }
}
