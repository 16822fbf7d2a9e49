//! What `eventbus conformance` is asked.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

use ::conformance::phases::{Running, phases, self_contained};
use ::conformance::{Harness, Seed, Suite};
use clap::Args;
use eventbus::Phase;

use crate::args::replaceable;
use crate::failure::Failure;
use crate::place::{Flags, Place};

#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// The phase to test, on buses of its own; may be given several times [default: all that need
    /// nothing from outside]
    #[arg(long, value_name = "PHASE", conflicts_with = "at")]
    pub(crate) phase: Vec<String>,

    /// Test the broker that runs at `unix:///path` or `tcp://host:port`; what others do there goes
    /// on untouched and unseen
    #[arg(long, value_name = "URL")]
    pub(crate) at: Option<Phase>,

    /// Certificates of the authorities whose word is taken for the broker [default: `tls.ca`]
    #[arg(long, value_name = "FILE.pem", requires = "at")]
    pub(crate) ca: Option<PathBuf>,

    /// The certificate to show to the broker [default: `tls.cert`]
    #[arg(long, value_name = "FILE.pem", requires = "at")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of that certificate [default: `tls.key`]
    #[arg(long, value_name = "FILE", requires = "at")]
    pub(crate) key: Option<PathBuf>,

    /// Only this clause (`DEL-003`) or family (`DEL`); may be given several times
    #[arg(long, value_name = "ID")]
    pub(crate) clause: Vec<String>,

    /// Write what was found of a phase to a file that ends in `.json` or `.html`, or of all phases
    /// into a directory; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,

    /// The seed of what the clauses vary: a number, or a word [default: one by chance, which the
    /// table tells]
    #[arg(long, value_name = "N", env = "CONFORMANCE_SEED", hide_env = true, value_parser = seed)]
    pub(crate) seed: Option<Seed>,

    /// Print one JSON document instead of the table
    #[arg(long)]
    pub(crate) json: bool,

    /// List phases and clauses, and run nothing
    #[arg(long)]
    pub(crate) list: bool,
}

impl ConformanceArgs {
    /// What is to run, on what.
    pub(crate) fn suite(&self) -> Result<Suite, Failure> {
        let harnesses = self.harnesses()?;
        self.check_certificates(harnesses.len())?;
        let suite = Suite::new(harnesses).only(&self.clause);
        let suite = suite.map_err(|unknown| Failure::Flags(unknown.to_string()))?;
        Ok(match self.seed {
            Some(seed) => suite.seed(seed),
            None => suite,
        })
    }

    fn harnesses(&self) -> Result<Vec<Arc<dyn Harness>>, Failure> {
        if let Some(phase) = &self.at {
            return Ok(vec![Arc::new(self.running(phase)?)]);
        }
        if self.phase.is_empty() {
            return Ok(self_contained());
        }
        let mut chosen: Vec<Arc<dyn Harness>> = Vec::new();
        for name in &self.phase {
            let mut known = phases().into_iter();
            let harness = known.find(|harness| harness.name() == name);
            let harness = harness.ok_or_else(|| unknown_phase(name))?;
            if !chosen.iter().any(|other| other.name() == name) {
                chosen.push(harness);
            }
        }
        if self.phase.iter().any(|name| name == "busrtd") {
            busrtd()?;
        }
        Ok(chosen)
    }

    fn running(&self, phase: &Phase) -> Result<Running, Failure> {
        let flags = Flags {
            config: None,
            ca: self.ca.as_ref(),
            cert: self.cert.as_ref(),
            key: self.key.as_ref(),
        };
        Place::of(phase, flags)?
            .running()
            .map_err(|reason| Failure::io(format!("test the broker at `{phase}`"), reason))
    }

    fn check_certificates(&self, phases: usize) -> Result<(), Failure> {
        for file in &self.certificate {
            // A run of minutes is not to end at a file that cannot be written.
            replaceable(file)?;
            if file.is_dir() {
                continue;
            }
            let ending = file.extension().and_then(|ending| ending.to_str());
            if !matches!(ending, Some("json" | "html")) {
                return Err(Failure::Flags(format!(
                    "--certificate `{}` is neither a directory nor a file that ends in `.json` or \
                     `.html`",
                    file.display()
                )));
            }
            if phases != 1 {
                return Err(Failure::Flags(format!(
                    "--certificate `{}` has room for one phase; give one --phase, or a directory",
                    file.display()
                )));
            }
        }
        Ok(())
    }
}

fn seed(text: &str) -> Result<Seed, Infallible> {
    Ok(Seed::from_text(text))
}

fn unknown_phase(name: &str) -> Failure {
    let known: Vec<String> = phases()
        .iter()
        .map(|harness| format!("`{}`", harness.name()))
        .collect();
    Failure::Flags(format!(
        "no phase `{name}`; expected one of {}",
        known.join(", ")
    ))
}

/// A program that is installed builds nothing.
fn busrtd() -> Result<(), Failure> {
    use ::conformance::fault::{BUSRTD_VARIABLE, BUSRTD_VERSION, busrtd};
    if std::env::var_os(BUSRTD_VARIABLE).is_none() {
        return Err(Failure::Flags(format!(
            "--phase busrtd needs busrtd {BUSRTD_VERSION}; set {BUSRTD_VARIABLE} to its path"
        )));
    }
    busrtd().map(|_| ()).map_err(Failure::Flags)
}
