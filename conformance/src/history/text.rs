//! A history as text: one line per entry, which reads back.
//!
//! Invariant: `line.parse::<Op>()` of what an [`Op`] prints is that op.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use eventbus_trait::{Delivery, Origin, PublisherId, Topic, TopicFilter};

use super::{Arrival, Entry, History, Interest, Mark, Op, Publication};

/// More entries than this are not all printed.
const MOST_LINES: usize = 60;
/// How many are then printed of the end.
const LAST_LINES: usize = 20;

/// A line that is no entry of a history.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{line}` is no entry of a history: {reason}")]
pub struct ParseError {
    line: String,
    reason: &'static str,
}

/// All entries, with the middle left out of a long history.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = &self.entries;
        if entries.len() <= MOST_LINES {
            return print(f, entries);
        }
        let (first, rest) = entries.split_at(MOST_LINES - LAST_LINES);
        let (left_out, last) = rest.split_at(rest.len() - LAST_LINES);
        print(f, first)?;
        writeln!(f, "… {} entries …", left_out.len())?;
        print(f, last)
    }
}

fn print(f: &mut fmt::Formatter<'_>, entries: &[Entry]) -> fmt::Result {
    for entry in entries {
        fmt::Display::fmt(entry, f)?;
        writeln!(f)?;
    }
    Ok(())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6} ", self.at.as_secs_f64())?;
        fmt::Display::fmt(&self.op, f)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = f.alternate();
        match self {
            Self::Invoke(p) => {
                let (mark, topic, digest) = (p.mark, &p.topic, p.digest);
                let by = identity(p.handle, short);
                write!(
                    f,
                    "invoke    {mark} on {topic} by {by} digest {digest:016x}"
                )?;
                match p.delivery {
                    Delivery::AtMostOnce => f.write_str(" at-most-once"),
                    _ => Ok(()),
                }
            }
            Self::Accepted(mark) => write!(f, "ok        {mark}"),
            Self::Refused(mark) => write!(f, "fail      {mark}"),
            Self::Unknown(mark) => write!(f, "unknown   {mark}"),
            Self::Subscribed(interest) => subscribed(f, interest, short),
            Self::Ended(name) => write!(f, "end       {}", escaped(name)),
            Self::Delivered(arrival) => delivered(f, arrival, short),
            Self::Lagged(name, n) => write!(f, "lag       {n} in {}", escaped(name)),
            Self::Drained(name) => write!(f, "drain     {}", escaped(name)),
        }
    }
}

fn subscribed(f: &mut fmt::Formatter<'_>, interest: &Interest, short: bool) -> fmt::Result {
    let filters: Vec<&str> = interest.filters.iter().map(TopicFilter::as_str).collect();
    let name = escaped(&interest.subscription);
    write!(f, "subscribe {name} to {}", filters.join(","))?;
    if interest.lossy {
        f.write_str(" lossy")?;
    }
    match interest.excluded {
        Some(excluded) => write!(f, " without {}", identity(excluded, short)),
        None => Ok(()),
    }
}

fn delivered(f: &mut fmt::Formatter<'_>, arrival: &Arrival, short: bool) -> fmt::Result {
    match arrival.mark {
        Some(mark) => write!(f, "deliver   {mark}")?,
        None => f.write_str("deliver   ?")?,
    }
    let (name, topic) = (escaped(&arrival.subscription), &arrival.topic);
    write!(f, " to {name} on {topic} digest {:016x}", arrival.digest)?;
    match arrival.origin {
        Some(origin) => {
            let by = identity(origin.publisher, short);
            write!(f, " stamp {by}/{}/{}", origin.epoch, origin.sequence)
        }
        None => Ok(()),
    }
}

fn identity(publisher: PublisherId, short: bool) -> String {
    let mut text = publisher.to_string();
    if short {
        text.truncate(8);
    }
    text
}

/// A name as one word.
fn escaped(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for c in name.chars() {
        if c == '%' || c.is_whitespace() || c.is_control() {
            word.push_str(&format!("%{:x}%", u32::from(c)));
        } else {
            word.push(c);
        }
    }
    word
}

fn unescaped(word: &str) -> Option<String> {
    let mut name = String::new();
    for (at, part) in word.split('%').enumerate() {
        if at % 2 == 0 {
            name.push_str(part);
        } else {
            name.push(char::from_u32(u32::from_str_radix(part, 16).ok()?)?);
        }
    }
    Some(name)
}

impl FromStr for Op {
    type Err = ParseError;

    fn from_str(line: &str) -> Result<Self, ParseError> {
        let error = |reason| ParseError {
            line: line.to_owned(),
            reason,
        };
        let mut words = Words(line.split_whitespace().collect());
        let word = words.next().ok_or_else(|| error("it is empty"))?;
        let op = match word {
            "invoke" => words.publication().map(Self::Invoke),
            "ok" => words.mark().map(Self::Accepted),
            "fail" => words.mark().map(Self::Refused),
            "unknown" => words.mark().map(Self::Unknown),
            "subscribe" => words.interest().map(Self::Subscribed),
            "deliver" => words.arrival().map(Self::Delivered),
            "lag" => words.lag(),
            "drain" => words.name().map(Self::Drained),
            "end" => words.name().map(Self::Ended),
            _ => return Err(error("no such word")),
        };
        let op = op.ok_or_else(|| error("not what the word is about"))?;
        if words.0.is_empty() {
            Ok(op)
        } else {
            Err(error("more than the word is about"))
        }
    }
}

/// What is left of a line.
struct Words<'a>(std::collections::VecDeque<&'a str>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        self.0.pop_front()
    }

    /// Takes `word` if it is the next one.
    fn has(&mut self, word: &str) -> bool {
        let has = self.0.front() == Some(&word);
        if has {
            self.0.pop_front();
        }
        has
    }

    /// What follows `word`, which has to be next.
    fn after(&mut self, word: &str) -> Option<&'a str> {
        if self.has(word) { self.next() } else { None }
    }

    fn mark(&mut self) -> Option<Mark> {
        mark(self.next()?)
    }

    fn name(&mut self) -> Option<Arc<str>> {
        unescaped(self.next()?).map(Arc::from)
    }

    fn digest(&mut self) -> Option<u64> {
        u64::from_str_radix(self.after("digest")?, 16).ok()
    }

    fn publication(&mut self) -> Option<Publication> {
        Some(Publication {
            mark: self.mark()?,
            topic: Topic::new(self.after("on")?).ok()?,
            handle: PublisherId::parse(self.after("by")?)?,
            digest: self.digest()?,
            delivery: if self.has("at-most-once") {
                Delivery::AtMostOnce
            } else {
                Delivery::AtLeastOnce
            },
        })
    }

    fn interest(&mut self) -> Option<Interest> {
        let subscription = self.name()?;
        let filters = self.after("to")?.split(',').map(TopicFilter::new);
        Some(Interest {
            subscription,
            filters: filters.collect::<Result<_, _>>().ok()?,
            lossy: self.has("lossy"),
            excluded: match self.after("without") {
                Some(publisher) => Some(PublisherId::parse(publisher)?),
                None => None,
            },
        })
    }

    fn arrival(&mut self) -> Option<Arrival> {
        let mark = match self.next()? {
            "?" => None,
            word => Some(mark(word)?),
        };
        let (subscription, topic) = (self.after("to")?, self.after("on")?);
        Some(Arrival {
            subscription: unescaped(subscription)?.into(),
            mark,
            topic: Topic::new(topic).ok()?,
            digest: self.digest()?,
            origin: match self.after("stamp") {
                Some(stamp) => Some(origin(stamp)?),
                None => None,
            },
        })
    }

    fn lag(&mut self) -> Option<Op> {
        let n = self.next()?.parse().ok()?;
        let name = unescaped(self.after("in")?)?;
        Some(Op::Lagged(name.into(), n))
    }
}

fn mark(word: &str) -> Option<Mark> {
    let (author, sequence) = word.split_once(':')?;
    Some(Mark {
        author: author.parse().ok()?,
        sequence: sequence.parse().ok()?,
    })
}

fn origin(word: &str) -> Option<Origin> {
    let mut parts = word.split('/');
    let origin = Origin {
        publisher: PublisherId::parse(parts.next()?)?,
        epoch: parts.next()?.parse().ok()?,
        sequence: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(origin)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HANDLE: PublisherId = PublisherId([0xa1; 16]);
    const MARK: Mark = Mark {
        author: 3,
        sequence: 40,
    };

    fn ops() -> Vec<Op> {
        let topic = || Topic::new("a.b").unwrap();
        let publication = |delivery| Publication {
            mark: MARK,
            handle: HANDLE,
            topic: topic(),
            digest: 0xc0ffee,
            delivery,
        };
        let interest = |lossy, excluded| Interest {
            subscription: "a name of 100 %\n".into(),
            filters: ["a.#", "*"].map(|f| TopicFilter::new(f).unwrap()).to_vec(),
            excluded,
            lossy,
        };
        let arrival = |mark, origin| Arrival {
            subscription: "red".into(),
            mark,
            topic: topic(),
            digest: u64::MAX,
            origin,
        };
        let origin = Origin {
            publisher: HANDLE,
            epoch: 5,
            sequence: 41,
        };
        vec![
            Op::Subscribed(interest(false, None)),
            Op::Subscribed(interest(true, Some(HANDLE))),
            Op::Invoke(publication(Delivery::AtLeastOnce)),
            Op::Invoke(publication(Delivery::AtMostOnce)),
            Op::Accepted(MARK),
            Op::Refused(MARK),
            Op::Unknown(MARK),
            Op::Delivered(arrival(Some(MARK), Some(origin))),
            Op::Delivered(arrival(None, None)),
            Op::Lagged("red".into(), 7),
            Op::Drained("red".into()),
            Op::Ended("red".into()),
        ]
    }

    #[test]
    fn what_is_written_reads_back() {
        for op in ops() {
            assert_eq!(op.to_string().parse(), Ok(op.clone()), "{op}");
        }
    }

    #[test]
    fn a_line_has_a_time_a_word_and_short_identities_for_a_reader() {
        let op = ops().swap_remove(7);
        let at = Duration::from_micros(1_250_003);
        let line = format!("{:#}", Entry { at, op });
        let want = "1.250003 deliver   3:40 to red on a.b digest ffffffffffffffff \
                    stamp a1a1a1a1/5/41";
        assert_eq!(line, want);
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        for line in [
            "",
            "published 0:1",
            "ok 0",
            "ok 0:1 more",
            "lag many in red",
            "deliver 0:1 to red on a..b digest 0",
        ] {
            assert!(line.parse::<Op>().is_err(), "{line}");
        }
    }

    #[test]
    fn the_middle_of_a_long_history_is_left_out() {
        let entry = |n| Entry {
            at: Duration::ZERO,
            op: Op::Accepted(Mark {
                author: 0,
                sequence: n,
            }),
        };
        let history = History {
            entries: (0..1_000).map(entry).collect(),
        };
        let text = history.to_string();
        assert_eq!(text.lines().count(), MOST_LINES + 1);
        assert!(text.contains("… 940 entries …"), "{text}");
        assert!(text.ends_with("0:999\n"), "{text}");
    }
}
