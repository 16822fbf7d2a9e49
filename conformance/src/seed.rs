//! Seeds: where a clause varies what it does, one number says how.
//!
//! A run has one seed. Each clause has a generator of its own, derived from the run's seed, the
//! phase and the clause's name, so that a clause that is run alone does what it did among others.
//! What tasks do at once still interleaves as the machine likes: a seed replays the program, not
//! the schedule.
//!
//! Invariant: the derivation and the generator are written down here and by name, so a seed means
//! the same program on every machine and after an update of a dependency.

use std::fmt;
use std::sync::OnceLock;

use rand::SeedableRng as _;

/// Sets the seed of a run: a number, or any word, which stands for one.
pub const SEED_VARIABLE: &str = "CONFORMANCE_SEED";

/// The generator that a seed stands for.
pub type Rng = rand::rngs::Xoshiro256PlusPlus;

/// A seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed of this process's run: [`SEED_VARIABLE`] if it is set, else one by chance. The
    /// same one each time.
    #[must_use]
    pub fn of_run() -> Self {
        static SEED: OnceLock<Seed> = OnceLock::new();
        *SEED.get_or_init(|| match std::env::var(SEED_VARIABLE) {
            Ok(text) => Self::from_text(&text),
            // Small enough to be typed.
            Err(_) => Self(u64::from(rand::random::<u32>())),
        })
    }

    /// The seed that a text stands for: a number is itself, a word stands for one.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        let text = text.trim();
        text.parse().map_or_else(|_| Self(0).of(text), Self)
    }

    /// The seed of a named part.
    #[must_use]
    pub fn of(self, part: &str) -> Self {
        // FNV-1a, begun with the seed.
        let hash = part.bytes().fold(mixed(self.0), |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed(hash))
    }

    /// The seed of a numbered part.
    #[must_use]
    pub fn nth(self, part: u64) -> Self {
        Self(mixed(mixed(self.0).wrapping_add(part)))
    }

    /// A number below `bound`, 0 if that is 0: for what needs a single one.
    #[must_use]
    pub fn below(self, bound: u64) -> u64 {
        mixed(self.0).checked_rem(bound).unwrap_or(0)
    }

    /// The generator.
    #[must_use]
    pub fn rng(self) -> Rng {
        Rng::seed_from_u64(self.0)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `SplitMix64`'s step.
fn mixed(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How to run one test of this program again: by cargo, if that is known to have built it.
#[must_use]
pub fn replay_command(test: &str, seed: Seed) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let stem = program.file_name().unwrap_or_default().to_string_lossy();
    // Cargo puts tests there, and appends a hash to the target's name; examples and programs are
    // elsewhere.
    let is_test = program.parent().is_some_and(|in_| in_.ends_with("deps"));
    let target = stem.rsplit_once('-').map_or(&*stem, |(name, _)| name);
    let runner = match std::env::var("CARGO_PKG_NAME") {
        Ok(package) if is_test => format!("cargo test -p {package} --test {target} --"),
        _ => program.display().to_string(),
    };
    format!("{SEED_VARIABLE}={seed} {runner} --exact {test}")
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let clause = Seed(7).of("unix").of("del_001_reaches_every_subscription");
        assert_eq!(clause, Seed(16_697_209_964_859_081_984));
        assert_eq!(clause.rng().random_range(0..1_000_u32), 451);
        assert_eq!(Seed(7).nth(3).below(61), 53);
    }

    #[test]
    fn parts_differ_and_a_word_is_a_seed() {
        assert_ne!(Seed(7).of("unix"), Seed(7).of("tcp"));
        assert_ne!(Seed(7).of("unix"), Seed(8).of("unix"));
        assert_ne!(Seed(7).nth(0), Seed(7).nth(1));
        assert_eq!(Seed::from_text(" 42 "), Seed(42));
        assert_eq!(Seed::from_text("a word"), Seed::from_text("a word"));
        assert_ne!(Seed::from_text("a word"), Seed::from_text("another"));
    }

    #[test]
    fn a_replay_names_the_seed_the_program_and_the_test() {
        let command = replay_command("unix::del_001", Seed(5));
        assert!(command.starts_with("CONFORMANCE_SEED=5 "), "{command}");
        assert!(command.contains("conformance"), "{command}");
        assert!(command.ends_with(" --exact unix::del_001"), "{command}");
    }
}
