//! `eventbus tail`: what goes over a bus that runs, as it goes.
//!
//! It looks on. Unless it is asked to, it never makes a publisher wait: what it cannot show in time is
//! dropped on its side, and each drop has a line at its place.

pub(crate) mod args;
mod line;
mod out;

use std::io::IsTerminal as _;
use std::time::Duration;

use eventbus::{EventBus, Item, Overflow, Subscribe, Subscription};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::remote::{leave, open};
use crate::signals::Signals;
use crate::{complain, tell};
use args::TailArgs;
use out::Out;

/// What it was asked to wait for did not come.
const LESS: u8 = 1;
/// How long, once it was told to end, it tries to show what it has.
const STUCK: Duration = Duration::from_millis(500);

/// Shows events until it is told to end; returns the exit code.
pub(crate) async fn run(args: &TailArgs) -> Result<u8, Failure> {
    let mut signals = Signals::new()?;
    let config = args.remote.configuration()?;
    let opened = async {
        let bus = open(&config).await?;
        let events = bus.subscribe(subscribe(args)?).await?;
        Ok::<_, Failure>((bus, events))
    };
    let (bus, mut events) = tokio::select! {
        opened = opened => opened?,
        _ = signals.next() => return Err(Failure::Interrupted),
    };
    greet(args, &*bus);
    let mut seen = Seen::default();
    let mut out = Out::new();
    let shown = show(args, &mut events, &mut out, &mut signals, &mut seen).await;
    let ended = match shown {
        Ok(ended) => ended,
        Err(failure) => {
            leave(&*bus).await;
            return Err(failure);
        }
    };
    let patience = match ended {
        // What is stuck in a terminal or a pipe stays there.
        End::Told => STUCK,
        _ => Duration::MAX,
    };
    tokio::select! {
        written = timeout(patience, out.finish()) => written.unwrap_or(Ok(()))?,
        _ = signals.next() => {}
    }
    if seen.dropped > 0 {
        tell(&format!(
            "{} events dropped, {} shown; --capacity lets more of them wait, --lossless has \
             publishers wait",
            seen.dropped, seen.shown
        ));
    }
    leave(&*bus).await;
    match ended {
        End::Closed => Err(Failure::Flags("the bus was closed".to_owned())),
        End::Time => Ok(args.count.map_or(0, |count| less(count, seen.shown))),
        End::Count | End::Told => Ok(0),
    }
}

fn less(wanted: u64, shown: u64) -> u8 {
    complain(&format!("{shown} of {wanted} events came in time"));
    LESS
}

#[derive(Debug, Default)]
struct Seen {
    shown: u64,
    dropped: u64,
}

/// Why nothing more is shown.
enum End {
    Count,
    Time,
    Told,
    Closed,
}

fn subscribe(args: &TailArgs) -> Result<Subscribe, Failure> {
    let nothing = || Failure::Flags("no filter given".to_owned());
    let (first, others) = args.filter.split_first().ok_or_else(nothing)?;
    let mut subscribe = Subscribe::filter(first.clone());
    for other in others {
        let both = subscribe.and(other.as_str());
        subscribe = both.map_err(|reason| Failure::Flags(reason.to_string()))?;
    }
    let overflow = if args.lossless {
        Overflow::Wait
    } else {
        Overflow::DropOldest
    };
    Ok(subscribe
        .capacity(args.capacity as usize)
        .overflow(overflow))
}

/// For who sits there and sees nothing yet.
fn greet(args: &TailArgs, bus: &dyn EventBus) {
    if std::io::stderr().is_terminal() {
        let filters: Vec<_> = args.filter.iter().map(|f| format!("`{f}`")).collect();
        let filters = filters.join(", ");
        tell(&format!("{filters} on {}; ctrl-c ends it", bus.backend()));
    }
}

async fn show(
    args: &TailArgs,
    events: &mut Subscription,
    out: &mut Out,
    signals: &mut Signals,
    seen: &mut Seen,
) -> Result<End, Failure> {
    let mut time = std::pin::pin!(async {
        match args.duration {
            Some(duration) => {
                tokio::time::sleep_until(tokio::time::Instant::now() + duration).await
            }
            None => std::future::pending().await,
        }
    });
    loop {
        let item = tokio::select! {
            biased;
            _ = signals.next() => return Ok(End::Told),
            () = out.closed() => return Ok(End::Told),
            () = &mut time => return Ok(End::Time),
            item = events.recv_item() => item,
        };
        let Some(item) = item else {
            return Ok(End::Closed);
        };
        match &item {
            Item::Event(_) => seen.shown += 1,
            Item::Lagged(dropped) => seen.dropped += dropped,
        }
        let line = line::of(&item, args)?;
        tokio::select! {
            taken = out.line(line) => if !taken {
                return Ok(End::Told);
            },
            _ = signals.next() => return Ok(End::Told),
        }
        if args.count == Some(seen.shown) {
            return Ok(End::Count);
        }
    }
}
