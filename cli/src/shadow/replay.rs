//! `eventbus shadow replay`: the verdicts of a divergence file, made again from the file alone.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use eventbus::shadow::replay;

use super::output;
use crate::failure::Failure;

/// Replays `file` and prints what came out; returns the exit code.
pub(crate) fn run(file: &Path, json: bool) -> Result<u8, Failure> {
    let name = file.display();
    let lines = File::open(file).map_err(|reason| Failure::io(format!("open `{name}`"), reason))?;
    let replay = replay(BufReader::new(lines))
        .map_err(|reason| Failure::io(format!("replay `{name}`"), reason))?;
    if json {
        let text = serde_json::to_string_pretty(&replay)
            .map_err(|reason| Failure::io("write JSON", reason))?;
        output::print(&format!("{text}\n"))?;
    } else {
        let mut text = format!(
            "{} divergences came out as they were told",
            replay.reproduced
        );
        for other in &replay.otherwise {
            text.push_str(&format!(
                "\nline {}: told as {}, came out as {:?}",
                other.line, other.told, other.found
            ));
        }
        output::print(&format!("{text}\n"))?;
    }
    Ok(u8::from(!replay.otherwise.is_empty()))
}
