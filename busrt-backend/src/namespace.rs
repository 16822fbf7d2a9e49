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

use crate::options::{OpenError, is_name};

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
    client.rsplit_once(MARK).map(|(_, namespace)| namespace)
}

/// The client name of `name` in a namespace; in words, why there is none.
pub(crate) fn within(name: String, namespace: Option<&str>) -> Result<String, String> {
    let Some(namespace) = namespace else {
        return Ok(name);
    };
    let whole = name + MARK + namespace;
    if is_name(&whole) {
        Ok(whole)
    } else {
        Err(format!(
            "client name `{whole}` is too long with its namespace"
        ))
    }
}

/// An error in terms of the name that was asked for.
pub(crate) fn as_asked(error: ConnectError) -> ConnectError {
    match error {
        ConnectError::NameInUse { name } => ConnectError::NameInUse {
            name: name
                .rsplit_once(MARK)
                .map_or(&*name, |(own, _)| own)
                .to_owned(),
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
        let long = within("n".repeat(60), Some("a1")).unwrap_err();
        assert!(long.contains("too long"), "{long}");
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
