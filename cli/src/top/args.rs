//! What `eventbus top` is asked.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::args::duration;

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Where the program serves what it does: `http://127.0.0.1:9600/`, `127.0.0.1:9600` or
    /// `unix:PATH`
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:9600/")]
    pub(crate) at: Target,

    /// Print once what there is to see, and end; so it does in a pipe
    #[arg(long)]
    pub(crate) once: bool,

    /// Print once what the program answers, as JSON, and end
    #[arg(long)]
    pub(crate) json: bool,

    /// Time between two looks
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    pub(crate) interval: Duration,
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A host and a port.
    Tcp(String),
    /// A UNIX socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(at) => write!(f, "http://{at}/"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "expected `http://HOST:PORT/`, `HOST:PORT` or `unix:PATH`".to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(wrong()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if text.starts_with("https:") {
            return Err("it is served in plain HTTP; expected `http://HOST:PORT/`".to_owned());
        }
        let at = text.strip_prefix("http://").unwrap_or(text);
        let at = at.split('/').next().unwrap_or_default();
        let sound = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        match at.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && at.chars().all(sound) => {
                port.parse::<u16>().map_err(|_| wrong())?;
                Ok(Self::Tcp(at.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_written_in_several_ways() {
        let tcp = Target::Tcp("127.0.0.1:9600".to_owned());
        for text in [
            "http://127.0.0.1:9600/",
            "http://127.0.0.1:9600",
            "127.0.0.1:9600",
            "http://127.0.0.1:9600/observed.json",
        ] {
            assert_eq!(text.parse(), Ok(tcp.clone()), "{text}");
        }
        assert_eq!("[::1]:1".parse(), Ok(Target::Tcp("[::1]:1".to_owned())));
        assert_eq!("unix:/a".parse(), Ok(Target::Unix("/a".into())));
        for text in [
            "",
            "x",
            "unix:",
            "127.0.0.1",
            "a:b",
            "a:99999",
            "https://a:1",
            "a b:1",
            "a\r\n:1",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
    }
}
