//! Three matchers against each other: the compiled one that every backend uses, the definition,
//! and the broker's own, which sees filters and topics in translation.
//!
//! The broker may let through too much, because what arrives is matched again; what it holds back
//! is lost.

use busrt_backend::topics;
use eventbus_trait::filter::reference;
use eventbus_trait::{MAX_SEGMENTS, Topic, TopicFilter};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::FileFailurePersistence;
use submap::SubMap;

/// Whether a broker that has been given the translation of `filter` lets `topic` through.
fn broker_lets_through(filter: &TopicFilter, topic: &Topic) -> bool {
    // As busrt sets its own up.
    let mut map: SubMap<u32> = SubMap::new().separator('/').match_any("+").wildcard("#");
    map.register_client(&1);
    for pattern in topics::patterns(filter) {
        assert!(map.subscribe(&pattern, &1));
    }
    map.get_subscribers(&topics::to_broker(topic)).contains(&1)
}

/// Few words, so that filters and topics meet often; some that look like the broker's syntax.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", "eb", "_", "-", "0"]).prop_map(String::from),
        1 => "[A-Za-z0-9_-]{1,64}",
    ]
}

fn topic() -> impl Strategy<Value = Topic> {
    prop::collection::vec(word(), 1..=MAX_SEGMENTS)
        .prop_filter_map("too long", |words| Topic::new(words.join(".")).ok())
}

/// A filter unrelated to any topic.
fn filter() -> impl Strategy<Value = TopicFilter> {
    let segment = prop_oneof![
        3 => word(),
        2 => prop::sample::select(vec!["*", "+"]).prop_map(String::from),
    ];
    (prop::collection::vec(segment, 0..6), any::<bool>()).prop_filter_map(
        "no filter",
        |(mut segments, tail)| {
            if tail || segments.is_empty() {
                segments.push("#".to_owned());
            }
            TopicFilter::new(segments.join(".")).ok()
        },
    )
}

/// A topic and a filter that was made from it, so that they match more often than not.
fn related() -> impl Strategy<Value = (TopicFilter, Topic)> {
    let change = prop::sample::select(vec!["keep", "keep", "keep", "*", "+", "other"]);
    let changes = prop::collection::vec(change, MAX_SEGMENTS);
    (topic(), changes, 0..=MAX_SEGMENTS, any::<bool>()).prop_filter_map(
        "no filter",
        |(topic, changes, cut, tail)| {
            let mut segments: Vec<&str> = topic
                .segments()
                .zip(&changes)
                .map(|(segment, change)| if *change == "keep" { segment } else { change })
                .collect();
            if tail {
                segments.truncate(cut);
                segments.push("#");
            }
            let filter = TopicFilter::new(segments.join(".")).ok()?;
            Some((filter, topic))
        },
    )
}

fn agree(filter: &TopicFilter, topic: &Topic) -> Result<(), TestCaseError> {
    let defined = reference::matches(filter.as_str(), topic.as_str());
    prop_assert_eq!(
        filter.matches(topic),
        defined,
        "`{}` and `{}`",
        filter,
        topic
    );
    if defined {
        let passes = broker_lets_through(filter, topic);
        prop_assert!(
            passes,
            "the broker holds `{}` back from `{}`",
            topic,
            filter
        );
    }
    Ok(())
}

/// 2000 cases, unless `PROPTEST_CASES` says otherwise.
fn config() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 2000;
    }
    config.failure_persistence = Some(Box::new(FileFailurePersistence::Direct(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/matchers.regressions"
    ))));
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn matchers_agree_on_related_pairs((filter, topic) in related()) {
        agree(&filter, &topic)?;
    }

    #[test]
    fn matchers_agree_on_unrelated_pairs(filter in filter(), topic in topic()) {
        agree(&filter, &topic)?;
    }

    #[test]
    fn a_topic_survives_the_translation(topic in topic()) {
        prop_assert_eq!(topics::from_broker(&topics::to_broker(&topic)), Some(topic));
    }

    #[test]
    fn nothing_of_the_brokers_own_is_let_through(filter in filter(), word in word()) {
        let mut map: SubMap<u32> = SubMap::new().separator('/').match_any("+").wildcard("#");
        map.register_client(&1);
        for pattern in topics::patterns(&filter) {
            map.subscribe(&pattern, &1);
        }
        let own = format!(".broker/{word}");
        prop_assert!(map.get_subscribers(&own).is_empty(), "`{}` takes `{}`", filter, own);
    }
}

/// The generators reach both answers, or the properties above would say little.
#[test]
fn related_pairs_match_and_differ() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut matched = 0;
    for _ in 0..300 {
        let (filter, topic) = related().new_tree(&mut runner).unwrap().current();
        matched += usize::from(filter.matches(&topic));
    }
    assert!((60..240).contains(&matched), "{matched} of 300 pairs match");
}

/// Where the broker's matcher is not ours, and the translation makes up for it.
#[test]
fn the_broker_needs_two_patterns_for_a_tail() {
    let mut map: SubMap<u32> = SubMap::new().separator('/').match_any("+").wildcard("#");
    map.register_client(&1);
    map.subscribe("eb/a/#", &1);
    assert!(
        map.get_subscribers("eb/a").is_empty(),
        "busrt's `a/#` takes `a` after all"
    );
    let filter = TopicFilter::new("a.#").unwrap();
    assert!(broker_lets_through(&filter, &Topic::new("a").unwrap()));
}
