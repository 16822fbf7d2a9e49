//! The key that somebody meant who wrote another.

use super::settings::keys;

/// The key nearest to `key`, which does not exist beside those `allowed`: one of them, or one of the
/// same name in another table.
pub(super) fn nearest(key: &str, allowed: &[&str]) -> Option<String> {
    let (table, name) = match key.rsplit_once('.') {
        Some((table, name)) => (Some(table), name),
        None => (None, key),
    };
    let lower = name.to_lowercase();
    let beside = allowed
        .iter()
        .map(|candidate| (strsim::osa_distance(&lower, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= MOST.min(candidate.len() / 2))
        .min();
    let whole = |name: &str| match table {
        Some(table) => format!("{table}.{name}"),
        None => name.to_owned(),
    };
    let elsewhere = || {
        let same = |key: &&str| key.rsplit_once('.').is_some_and(|(_, last)| last == name);
        let mut all = keys().into_iter().filter(same);
        // If it is in two tables, nobody knows which was meant.
        all.next().filter(|_| all.next().is_none())
    };
    match beside {
        Some((_, name)) => Some(whole(name)),
        None => elsewhere().map(str::to_owned),
    }
}

/// Letters that may be wrong.
const MOST: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_beside_or_of_the_same_name() {
        let top = ["phase", "primary", "limits", "broker"];
        for (key, nearest_key) in [
            ("phaze", Some("phase")),
            ("Phase", Some("phase")),
            ("limit", Some("limits")),
            ("brokre", Some("broker")),
            ("max_connections", Some("broker.max_connections")),
            // `broker`, `limits`: which?
            ("rate", None),
            ("entirely_different", None),
            ("x", None),
        ] {
            assert_eq!(nearest(key, &top).as_deref(), nearest_key, "{key}");
        }
        let connect = ["timeout", "wait", "link_timeout"];
        assert_eq!(
            nearest("connect.timeot", &connect).as_deref(),
            Some("connect.timeout")
        );
        assert_eq!(
            nearest("connect.max_calls", &connect).as_deref(),
            Some("limits.max_calls")
        );
    }
}
