//! Which client names a certificate entitles to.
//!
//! The DNS name `collector` in a certificate entitles to the client name `collector` and to
//! `collector--` followed by anything, so that one process can have several handles. Two hyphens,
//! because one is ordinary: `collector-1` may well be another certificate's name. For the same
//! reason a name that has two hyphens itself entitles to nothing, and neither do names of this
//! project's own clients.

use std::fmt;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::options::is_name;

/// Between a certificate's name and what a handle appends to it.
const SEPARATOR: &str = "--";
/// Own clients of brokers and sessions begin so.
const RESERVED: &str = "eb-";
/// What a derived name appends at most, with the separator.
const APPENDED: usize = SEPARATOR.len() + MOST;
/// Characters of a derived name that tell handles apart: most, and least.
const MOST: usize = 16;
const LEAST: usize = 8;
/// Longest name that leaves room for what is appended.
pub(super) const LONGEST: usize = 64 - APPENDED;

/// The client names that a certificate entitles to.
///
/// ```
/// use busrt_backend::tls::CertNames;
/// let names = CertNames::new(["collector", "localhost", "a.dotted.name"]);
/// assert!(names.admits("collector") && names.admits("collector--2"));
/// assert!(!names.admits("collector-2") && !names.admits("a.dotted.name"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertNames(Vec<String>);

impl CertNames {
    /// From the DNS names of a certificate; those that no client can have are left out.
    pub fn new<'a>(dns: impl IntoIterator<Item = &'a str>) -> Self {
        let fits = |name: &&str| Self::can_be_one(name);
        Self(dns.into_iter().filter(fits).map(str::to_owned).collect())
    }

    /// Those of a certificate, whose subject is not looked at.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        match EndEntityCert::try_from(certificate) {
            Ok(certificate) => Self::new(certificate.valid_dns_names()),
            Err(_) => Self::default(),
        }
    }

    /// Whether a certificate can entitle to `name`.
    #[must_use]
    pub fn can_be_one(name: &str) -> bool {
        // A hyphen at an end is no DNS name, and at the front of what is appended it would make
        // `a-` + `--b` and `a` + `---b` the same.
        is_name(name)
            && name.len() <= LONGEST
            && !name.contains(SEPARATOR)
            && !name.starts_with(RESERVED)
            && !name.starts_with('-')
            && !name.ends_with('-')
    }

    /// Whether a client of this certificate may have `name` on the broker.
    #[must_use]
    pub fn admits(&self, name: &str) -> bool {
        let base = name.split_once(SEPARATOR).map_or(name, |(base, _)| base);
        is_name(name) && self.0.iter().any(|own| own == base)
    }

    /// The names of the certificate, without what may follow them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Whether it entitles to no name at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A name made of the first one and at most 16 characters of `suffix`: fewer, so that it has at
    /// most `room` bytes, but so many that it is one handle's alone.
    pub(super) fn derived(&self, suffix: &str, room: usize) -> String {
        let first = self.0.first().map_or("", String::as_str);
        let left = room.saturating_sub(first.len() + SEPARATOR.len());
        let suffix = suffix.get(..left.clamp(LEAST, MOST)).unwrap_or(suffix);
        format!("{first}{SEPARATOR}{suffix}")
    }
}

impl fmt::Display for CertNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}`{name}`, `{name}{SEPARATOR}…`")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_entitles_to_itself_and_to_what_follows_two_hyphens() {
        let names = CertNames::new(["collector"]);
        for name in [
            "collector",
            "collector--",
            "collector--1",
            "collector--a-b--c",
        ] {
            assert!(names.admits(name), "{name}");
        }
        for name in [
            "",
            "collecto",
            "Collector",
            "collector-1",
            "collector-",
            "collectors--1",
            "xcollector",
            "--collector",
            "x--collector",
            "collector--.",
            "collector--\0",
            "collector%%1",
        ] {
            assert!(!names.admits(name), "{name}");
        }
    }

    #[test]
    fn what_no_client_can_have_entitles_to_nothing() {
        let long = "x".repeat(LONGEST + 1);
        for name in [
            "",
            "a.b",
            "*",
            "a--b",
            "eb-directory",
            "-a",
            "a-",
            long.as_str(),
        ] {
            let names = CertNames::new([name]);
            assert!(names.is_empty(), "{name}");
            assert!(!names.admits(name), "{name}");
        }
    }

    #[test]
    fn a_derived_name_is_admitted_and_fits() {
        let longest = "x".repeat(LONGEST);
        let names = CertNames::new(["a.b", longest.as_str()]);
        let suffix = "0123456789abcdef0123";
        for (room, length) in [(64, 64), (60, 60), (56, 56), (50, 56)] {
            let derived = names.derived(suffix, room);
            assert_eq!(derived.len(), length, "{room}");
            assert!(names.admits(&derived));
        }
    }

    /// No name is admitted by two certificates that share no name.
    #[test]
    fn admitted_names_of_two_certificates_never_meet() {
        use proptest::prelude::*;
        let name = "[ab_-]{1,5}";
        proptest!(|(one in name, other in name, asked in "[ab_-]{1,9}")| {
            prop_assume!(one != other);
            let both = [&one, &other].map(|n| CertNames::new([n.as_str()]).admits(&asked));
            prop_assert_ne!(both, [true, true]);
        });
    }
}
