//! TOP: topics and filters, through the bus. The types check them, so no phase can accept what
//! another refuses; what is left to show is that a phase carries every valid topic and takes every
//! decision as the definition does.

use eventbus_trait::{Event, FilterError, Subscribe, Topic, TopicError, filter::reference};

use crate::check;
use crate::stage::{Context, Stage};
use crate::verdict::{Checked, ensure, ensure_eq};

/// TOP-001: the largest topics are carried; the rest are errors that name the segment.
pub(crate) async fn top_001_topics_are_checked(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let mut readers = [stage.reader(&stage.bus(), "#").await?];
    for topic in largest_topics() {
        author.publish(&topic).await?;
    }
    for (text, names) in invalid_topics() {
        match Event::new(&*text, "x") {
            Ok(_) => ensure!(false, "`{text}` was taken for a topic"),
            Err(error) => {
                let said = error.to_string();
                ensure!(said.contains(&names), "`{said}` does not name `{names}`");
            }
        }
    }
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    check::lost(&history).verdict()?;
    check::phantoms(&history).verdict()?;
    check::corrupted(&history).verdict()
}

fn largest_topics() -> Vec<String> {
    let segment = "s".repeat(64);
    let longest = [&*segment; 3].join(".") + "." + &"s".repeat(60);
    let every: String = ('A'..='Z').chain('a'..='z').collect::<String>() + "0123456789_-";
    vec![
        "a".into(),
        segment,
        vec!["a"; 16].join("."),
        longest,
        format!("{}.{}", &every[..32], &every[32..]),
    ]
}

/// Texts that are no topics, each with what its error has to name.
fn invalid_topics() -> Vec<(String, String)> {
    let over = "s".repeat(65);
    let long = vec!["s".repeat(60); 5].join(".");
    [
        (String::new(), "empty"),
        ("a..b".into(), "segment 2"),
        (".a".into(), "segment 1"),
        ("a.".into(), "segment 2"),
        ("a.b c".into(), "b c"),
        ("a.ä".into(), "ä"),
        ("a/b".into(), "a/b"),
        ("a.b\0c".into(), "\\0"),
        (format!("a.{over}"), "65"),
        (vec!["a"; 17].join("."), "17"),
        (long, "304"),
    ]
    .map(|(text, names)| (text, names.to_owned()))
    .to_vec()
}

/// TOP-002: `*` and `+` match exactly one segment, at the start, within and at the end.
pub(crate) async fn top_002_one_segment(context: Context) -> Checked {
    let stage = context.stage().await?;
    let takes: &[(&str, &[&str])] = &[
        ("*", &["a", "z"]),
        ("+", &["a", "z"]),
        ("a.*", &["a.b", "a.z"]),
        ("a.+", &["a.b", "a.z"]),
        ("*.b", &["a.b", "z.b"]),
        ("a.*.c", &["a.b.c", "a.z.c"]),
        ("+.*.c", &["a.b.c", "a.z.c"]),
    ];
    let topics = [
        "a", "z", "a.b", "a.z", "z.b", "a.b.c", "a.z.c", "a.b.c.d", "a.b.d",
    ];
    takes_exactly(&stage, takes, &topics).await
}

/// TOP-003: `#` matches zero or more segments.
pub(crate) async fn top_003_any_segments(context: Context) -> Checked {
    let stage = context.stage().await?;
    let takes: &[(&str, &[&str])] = &[
        ("#", &["a", "a.b", "a.b.c", "z", "z.b.c"]),
        ("a.#", &["a", "a.b", "a.b.c"]),
        ("a.b.#", &["a.b", "a.b.c"]),
        ("*.#", &["a", "a.b", "a.b.c", "z", "z.b.c"]),
        ("*.b.#", &["a.b", "a.b.c", "z.b.c"]),
        ("a.*.#", &["a.b", "a.b.c"]),
    ];
    takes_exactly(&stage, takes, &["a", "a.b", "a.b.c", "z", "z.b.c"]).await
}

/// Publishes each topic once and holds what each filter took against what it is to take.
async fn takes_exactly(stage: &Stage, takes: &[(&str, &[&str])], topics: &[&str]) -> Checked {
    let author = stage.author(&stage.bus());
    let mut readers = Vec::new();
    for (filter, _) in takes {
        readers.push(stage.reader(&stage.bus(), filter).await?);
    }
    stage
        .while_reading(&mut readers, author.publish_over(topics, topics.len()))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    for (reader, (filter, wanted)) in readers.iter().zip(takes) {
        let mut taken = history.topics_of(reader.name());
        taken.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        ensure_eq!(taken, wanted, "topics that `{filter}` took");
    }
    Ok(())
}

/// TOP-004: a wildcard is a whole segment, `#` stands last, and a topic has none.
pub(crate) async fn top_004_whole_segments(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let mut readers = [stage.reader(&stage.bus(), "#").await?];
    for text in ["a*", "a.b*", "a.*b", "#a", "a.b#", "a.++", "**"] {
        let error = Subscribe::to(text).err();
        ensure!(
            matches!(error, Some(FilterError::PartialWildcard { .. })),
            "filter `{text}`: {error:?}"
        );
    }
    for text in ["#.a", "a.#.b", "#.#"] {
        let error = Subscribe::to(text).err();
        ensure!(
            matches!(error, Some(FilterError::TailNotLast { .. })),
            "filter `{text}`: {error:?}"
        );
    }
    for text in ["*", "a.*", "a.+.b", "a.#", "#"] {
        let error = Event::new(text, "x").err();
        ensure!(
            matches!(error, Some(TopicError::Wildcard { .. })),
            "topic `{text}`: {error:?}"
        );
    }
    author.publish("a.b").await?;
    stage.drain(&mut readers, &[author]).await?;
    ensure_eq!(
        stage.history().topics_of(readers[0].name()),
        ["a.b"],
        "topics that came"
    );
    Ok(())
}

/// TOP-005: on every pair of a filter and a topic the phase decides as the definition does.
pub(crate) async fn top_005_agrees_with_the_definition(context: Context) -> Checked {
    let stage = context.stage().await?;
    let author = stage.author(&stage.bus());
    let filters = every_filter();
    let topics = every_topic();
    let mut readers = Vec::new();
    for filter in &filters {
        readers.push(stage.reader(&stage.bus(), filter).await?);
    }
    let each: Vec<&str> = topics.iter().map(String::as_str).collect();
    stage
        .while_reading(&mut readers, author.publish_over(&each, each.len()))
        .await?;
    stage.drain(&mut readers, &[author]).await?;
    let history = stage.history();
    for (reader, filter) in readers.iter().zip(&filters) {
        let taken = history.topics_of(reader.name());
        for topic in &topics {
            let want = usize::from(reference::matches(filter, topic));
            let have = taken.iter().filter(|taken| *taken == topic).count();
            ensure_eq!(have, want, "copies of `{topic}` that `{filter}` took");
        }
    }
    Ok(())
}

/// Every topic of one to three segments out of two words, and one deeper than any filter.
fn every_topic() -> Vec<String> {
    let mut topics = combinations(&["a", "b"]);
    topics.push("a.b.a.b".into());
    debug_assert!(topics.iter().all(|topic| Topic::new(topic).is_ok()));
    topics
}

/// Every filter of one to three segments out of a word and the wildcards.
fn every_filter() -> Vec<String> {
    let stems = combinations(&["a", "*"]);
    let tails = stems.iter().map(|stem| format!("{stem}.#"));
    let mut filters: Vec<String> = tails.collect();
    filters.extend(stems);
    filters.extend(["#".into(), "+.b".into(), "b.+.#".into()]);
    filters
}

fn combinations(words: &[&str]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    for _ in 0..2 {
        all.extend(last.iter().cloned());
        last = last
            .iter()
            .flat_map(|stem| words.iter().map(move |word| format!("{stem}.{word}")))
            .collect();
    }
    all.extend(last);
    all
}
