//! `eventbus conformance`: the contract, clause by clause, on this machine or at a broker that runs.
//!
//! What runs is the suite that `cargo test -p conformance` runs. Brokers and peers that clauses kill
//! are this program again, so that nothing has to be installed beside it.

pub(crate) mod args;
mod output;
mod progress;

use std::fs;
use std::path::Path;

use ::conformance::certificate::Certificate;
use tempfile::TempDir;

use crate::failure::Failure;
use crate::shadow::endpoint::private_directory;
use crate::shadow::output::print;
use crate::signals::Signals;
use args::ConformanceArgs;
use progress::Bar;

/// Runs the clauses and prints what was found; returns the exit code.
pub(crate) fn run(args: ConformanceArgs) -> Result<u8, Failure> {
    if args.list {
        print(&output::list(&args.suite()?, args.json)?)?;
        return Ok(0);
    }
    let directory = directory()?;
    let ended = Signals::or(move || clauses(&args));
    // After an interrupt clauses still run; where their directory is no more they make nothing.
    let away = directory.path().with_extension("away");
    let _ = fs::rename(directory.path(), &away);
    let _ = fs::remove_dir_all(away);
    ended
}

fn clauses(args: &ConformanceArgs) -> Result<u8, Failure> {
    let suite = args.suite()?;
    suite
        .try_phases()
        .map_err(|reason| Failure::io("run the clauses", reason))?;
    let report = {
        let bar = Bar::new();
        suite.run(|progress| bar.follow(&progress))
    };
    let certificates = report.certificates();
    // What was found is told, whatever becomes of the files.
    print(&if args.json {
        output::document(&report, &certificates)?
    } else {
        format!("{report}\n")
    })?;
    for file in &args.certificate {
        for certificate in &certificates {
            write(certificate, file)?;
        }
    }
    Ok(u8::from(!report.passed()))
}

/// Where all phases and clauses have their sockets, so that they can be taken away at an interrupt.
fn directory() -> Result<TempDir, Failure> {
    let directory = private_directory()?;
    tempfile::env::override_temp_dir(directory.path())
        .map_err(|taken| Failure::io("take a directory", format!("`{}` is", taken.display())))?;
    Ok(directory)
}

fn write(certificate: &Certificate, file: &Path) -> Result<(), Failure> {
    let written = if file.is_dir() {
        certificate.write_into(file)
    } else {
        certificate.write_to(file)
    };
    written.map_err(|reason| Failure::io(format!("write `{}`", file.display()), reason))
}
