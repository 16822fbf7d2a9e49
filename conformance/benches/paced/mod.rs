//! What the benches have in common that measure at full speed and at a pace.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

/// What the command line asks for.
pub(crate) struct Asked {
    pub(crate) rounds: usize,
    pub(crate) time: Duration,
    pub(crate) pace: u64,
    picked: Vec<Option<String>>,
}

impl Asked {
    /// Reads the command line. A measurement takes `time` if it says nothing else; each of `picks` is
    /// an option that picks one of several names.
    pub(crate) fn read(time: Duration, picks: &[(&str, &[&str])]) -> Result<Self, String> {
        let mut asked = Self {
            rounds: 7,
            time,
            pace: 10_000,
            picked: vec![None; picks.len()],
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            let number = |text: String| {
                let parsed = text.parse::<u64>().ok().filter(|n| *n > 0);
                parsed.ok_or(format!("`{text}` is no positive number"))
            };
            match word.as_str() {
                // `cargo bench` adds it.
                "--bench" => {}
                "--rounds" => asked.rounds = number(value()?)? as usize,
                "--millis" => asked.time = Duration::from_millis(number(value()?)?),
                "--pace" => asked.pace = number(value()?)?,
                word => {
                    let pick = picks.iter().position(|(option, _)| *option == word);
                    let pick = pick.ok_or(format!("unknown option {word}"))?;
                    asked.picked[pick] = Some(value()?);
                }
            }
        }
        for (one, (_, all)) in asked.picked.iter().zip(picks) {
            if let Some(one) = one
                && !all.contains(&one.as_str())
            {
                return Err(format!("`{one}` is none of {}", all.join(", ")));
            }
        }
        Ok(asked)
    }

    /// Whether `name` is what was picked by the `pick`th option, or nothing was.
    pub(crate) fn wants(&self, pick: usize, name: &str) -> bool {
        self.picked[pick].as_ref().is_none_or(|one| one == name)
    }
}

pub(crate) fn median<T>(samples: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Waits on this thread.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

/// Keeps the processors awake for as long as the file is held, as `cyclictest` does: one that sleeps
/// takes longer to wake than an event to be published, and whether it does hangs on what happened to
/// it before. Says so where that is not allowed.
pub(crate) fn awake() -> Option<File> {
    const LATENCY: &str = "/dev/cpu_dma_latency";
    let held = || {
        let mut file = File::options().write(true).open(LATENCY)?;
        file.write_all(&0_i32.to_ne_bytes())?;
        Ok::<_, std::io::Error>(file)
    };
    held()
        .inspect_err(|problem| {
            eprintln!("processors may sleep, which makes two latencies: {LATENCY}: {problem}")
        })
        .ok()
}
