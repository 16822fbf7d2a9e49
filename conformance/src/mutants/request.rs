//! What a mutant asks of the bus inside, where that is not what it was asked for.

use eventbus_trait::{Overflow, Subscribe, TopicFilter};

use super::Defect;

/// The subscription to ask for instead of `wanted`.
pub(super) fn altered(wanted: &Subscribe, defect: Defect) -> Subscribe {
    match defect {
        Defect::IgnoresGates => wanted.ungated(),
        Defect::ConfusesOverflow if wanted.get_overflow() == Overflow::DropNewest => {
            wanted.clone().overflow(Overflow::DropOldest)
        }
        Defect::IgnoresExcludeOwn if wanted.excludes_own() => {
            rebuilt(wanted, wanted.filters().to_vec())
        }
        Defect::WidensStar => {
            let widened: Vec<TopicFilter> = wanted.filters().iter().map(widened).collect();
            if widened == wanted.filters() {
                return wanted.clone();
            }
            rebuilt(wanted, widened)
        }
        _ => wanted.clone(),
    }
}

/// The same with other filters, for every handle's events, and without predicates.
fn rebuilt(wanted: &Subscribe, filters: Vec<TopicFilter>) -> Subscribe {
    let mut texts = filters.into_iter();
    let Some(first) = texts.next() else {
        return wanted.clone();
    };
    let mut subscribe = Subscribe::filter(first)
        .capacity(wanted.get_capacity())
        .overflow(wanted.get_overflow());
    for filter in texts {
        // Its text was a filter before.
        if let Ok(more) = subscribe.clone().and(filter.as_str()) {
            subscribe = more;
        }
    }
    match wanted.name() {
        Some(name) => subscribe.named(name),
        None => subscribe,
    }
}

/// The filter with `#` for a final `*`.
fn widened(filter: &TopicFilter) -> TopicFilter {
    let stem = filter.as_str().strip_suffix('*');
    let wide = stem.and_then(|stem| TopicFilter::new(format!("{stem}#")).ok());
    wide.unwrap_or_else(|| filter.clone())
}
