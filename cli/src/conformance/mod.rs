//! `eventbus conformance`: the contract, clause by clause, on this machine or at a broker that runs.
//!
//! What runs is the suite that `cargo test -p conformance` runs. Brokers and peers that clauses kill
//! are this program again, so that nothing has to be installed beside it.

pub(crate) mod args;
mod output;
mod progress;

use std::path::Path;

use ::conformance::Stop;
use ::conformance::certificate::Certificate;

use crate::failure::Failure;
use crate::shadow::output::print;
use crate::signals;
use args::ConformanceArgs;
use progress::Bar;

/// Runs the clauses and prints what was found; returns the exit code.
pub(crate) fn run(args: ConformanceArgs) -> Result<u8, Failure> {
    if args.list {
        print(&output::list(&args.suite()?, args.json)?)?;
        return Ok(0);
    }
    signals::in_directory(move |_, stop| clauses(&args, stop))
}

fn clauses(args: &ConformanceArgs, stop: &Stop) -> Result<u8, Failure> {
    let suite = args.suite()?.until(stop.clone());
    suite
        .try_phases()
        .map_err(|reason| Failure::io("run the clauses", reason))?;
    let report = {
        let bar = Bar::new();
        suite.run(|progress| bar.follow(&progress))
    };
    if stop.is_asked() {
        return Err(Failure::Interrupted);
    }
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

fn write(certificate: &Certificate, file: &Path) -> Result<(), Failure> {
    let written = if file.is_dir() {
        certificate.write_into(file)
    } else {
        certificate.write_to(file)
    };
    written.map_err(|reason| Failure::io(format!("write `{}`", file.display()), reason))
}
