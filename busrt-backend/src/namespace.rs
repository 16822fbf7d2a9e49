//! Namespaces: several buses on one broker, which know nothing of each other.
//!
//! A member's namespace is the end of its client name, after `--in-`, so everybody who hears of a
//! client knows at once whether it is a member of the same bus, and whoever decides who may have
//! which name, and which topics, decides as before. Members of one bus have no links to those of
//! another, so they neither get each other's events nor wait for each other; and its topics begin
//! otherwise on the broker, so none of it even goes to them.
//!
//! Invariant: a handle's client name has the mark if and only if the handle has a namespace.

use eventbus_trait::ConnectError;

use crate::options::{LONGEST_NAME, OpenError};

/// Between a client's own name and its namespace.
pub(crate) const MARK: &str = "--in-";
/// Longest namespace.
pub(crate) const LONGEST: usize = 16;

/// Checks a namespace.
pub(crate) fn check(namespace: &str) -> Result<(), OpenError> {
    if is_one(namespace) {
        Ok(())
    } else {
        Err(OpenError::Namespace {
            namespace: namespace.to_owned(),
        })
    }
}

/// Whether it is a namespace.
pub(crate) fn is_one(text: &str) -> bool {
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The namespace of whoever has this client name; `None` is one, too: that of most.
pub(crate) fn of(client: &str) -> Option<&str> {
    split(client).1
}

/// A client name without its namespace, and that.
pub(crate) fn split(client: &str) -> (&str, Option<&str>) {
    match client.rsplit_once(MARK) {
        Some((own, namespace)) if is_one(namespace) => (own, Some(namespace)),
        _ => (client, None),
    }
}

/// Longest name that leaves room for the namespace.
pub(crate) fn room(namespace: Option<&str>) -> usize {
    let taken = namespace.map_or(0, |namespace| MARK.len() + namespace.len());
    LONGEST_NAME.saturating_sub(taken)
}

/// The client name of `name` in a namespace.
pub(crate) fn within(name: String, namespace: Option<&str>) -> Result<String, ConnectError> {
    let limit = room(namespace);
    match namespace {
        None => Ok(name),
        Some(namespace) if name.len() <= limit => Ok(name + MARK + namespace),
        Some(namespace) => Err(ConnectError::LongName {
            name,
            namespace: namespace.to_owned(),
            limit,
        }),
    }
}

/// An error in terms of the name that was asked for.
pub(crate) fn as_asked(error: ConnectError) -> ConnectError {
    match error {
        ConnectError::NameInUse { name } => ConnectError::NameInUse {
            name: split(&name).0.to_owned(),
        },
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_namespace() {
        let name = within("collector--2".to_owned(), Some("a1")).unwrap();
        assert_eq!(name, "collector--2--in-a1");
        assert_eq!(of(&name), Some("a1"));
        assert_eq!(of(&within("collector--2".to_owned(), None).unwrap()), None);
        for other in ["x--in-", "x--in-a-b", "x--in-12345678901234567"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(within("n".repeat(57), Some("a1")).unwrap().len(), 64);
        let long = within("n".repeat(58), Some("a1")).unwrap_err().to_string();
        assert!(
            long.contains("the 57 bytes that namespace `a1` leaves"),
            "{long}"
        );
        let taken = ConnectError::NameInUse { name };
        assert_eq!(
            as_asked(taken).to_string(),
            ConnectError::NameInUse {
                name: "collector--2".to_owned(),
            }
            .to_string()
        );
    }

    #[test]
    fn a_namespace_is_short_and_plain() {
        assert_eq!(check("0a1B"), Ok(()));
        for bad in ["", "a-b", "a.b", "ä", "12345678901234567"] {
            assert!(
                check(bad).unwrap_err().to_string().contains("1 to 16"),
                "{bad}"
            );
        }
    }
}
