//! The words of `docs/performance.md` around its tables.

pub(crate) const TOP: &str = "\
# Performance

Figures belong to a machine and an hour. What is compared here ran in turn, in one run, on one
machine; so the ratios are what counts, and the absolute figures beside them are this machine's.
This page, its pictures and [the results](performance.json) they are made of come from one command,
which wants two idle cores and ten minutes:

```sh
cargo bench -p conformance --bench peers -- --docs
```

Without `--docs` it only prints the tables. `--only headline`, `matrix`, `latency` or `curves` runs a
part, `--quick` takes a third of the time, `--rounds N` changes the rounds, `--json FILE` and
`--markdown FILE` write elsewhere, from `conformance/` on, `--check` exits with 1 if a target is missed.
`--stored --docs` makes this page again without measuring, which is what to do after changing its words.
";

pub(crate) const TARGETS: &str = "\
## Targets

A throughput ratio is ours divided by the raw part beside it, a latency ratio likewise: throughput is
better when it is higher, latency when it is lower.
";

pub(crate) const HEADLINE: &str = "\
## Throughput

One publisher, one subscriber, 100-byte payloads, at-least-once, published one by one, through
`Arc<dyn EventBus>`. TCP is ours with TLS and certificates on both sides, raw without TLS.
";

pub(crate) const AFTER_HEADLINE: &str = "\
Raw busrt carries one event in a frame; ours carries what is waiting, which is why it can be faster
than what it stands on. Raw busrt over sockets is acknowledged by the broker alone, ours by every
subscription. The crossbeam ratio depends on two cores being free: on one, the two threads take turns,
and the raw channel gains most from that.
";

pub(crate) const MATRIX: &str = "\
### One thing changed

The same with one dimension varied. Ratios first: ours divided by the raw part, under the same load.
Raw channels have no topics: there is one for each subscriber. Raw busrt at-most-once is sent without
confirmation. Nothing holds an at-most-once publisher back, so it is kept from running more than 2,048
events ahead of the subscriber, for all alike; raw busrt over sockets always is, because its broker
disconnects a subscriber whose queue is full. Flooded is without that: what finds no room is dropped
and counted. A raw batch is 100 events in one frame, cut up again by the subscriber; channels have no
batches.
";

pub(crate) const LATENCY: &str = "\
## Latency

One way, from when an event was due until the subscriber has it, in one process with one clock. An
event that had to wait because the one before it was slow counts its waiting: nothing is omitted. The
publisher waits for its next event by looking at the clock and giving its core away in between
(`sched_yield` on a thread, `yield_now` in a task): timers are late by more than what is measured, and
with two cores a publisher that spins without giving way would take one from the broker.

Twice, because it decides what a raw part does. On threads of their own, publisher and subscriber wake
each other through the kernel. As tasks of one runtime, a raw subscriber in the same process runs next
on the publisher's own worker, and a runtime that never sleeps, because the publisher's task keeps it
awake, looks at raw busrt's sockets all the time; a bus of ours brings threads of its own, which sleep.
";

pub(crate) const SATURATED: &str = "\
As fast as it goes, from the call until the subscriber has it: this is how much is queued, divided by
the throughput.
";

pub(crate) const CURVES: &str = "\
## What an event costs when something grows

Time per event published, at saturation, once every topic has had an event. One publisher, one subscriber, 100 bytes, unless said. Both
axes are logarithmic: a cost that does not depend on what grows is flat, and one in proportion to it
is a diagonal.
";

pub(crate) const METHOD: &str = "\
## Method

- Every measurement runs in a process of its own, so that processor time (user and system, all
  threads, the broker included) and memory (the most that was resident, less what was before the bus
  was opened) are its own.
- A round runs every contender once, each of ours right after the raw part beside it. A figure is the
  median of the rounds, a ratio the median of the rounds' ratios.
- Every copy is counted where it arrives. At-least-once, all must be there, once, in order; at-most-once,
  what arrived and what was counted as dropped must be what was accepted. A run where that is not so
  fails instead of printing a figure.
- Raw parts are used as well as they can be while nothing is lost: crossbeam between threads, tokio's
  channel and busrt in process between tasks, and for busrt over sockets what is best is chosen for
  each load before its rounds: a publisher on a thread or as a task, and 64, 256 or 1,024 outstanding
  confirmations.
- Brokers run in the process that is measured, and so do publishers and subscribers; those of ours are
  each on a thread of its own, unless said.
";

pub(crate) const BOTTOM: &str = "\
## Further

Each of these tells something else:

- [A subscriber that stops reading](stall.md): what happens to memory and publishers meanwhile.
- `cargo bench -p conformance --bench paths` counts instructions on three hot paths with callgrind and
  holds them to `conformance/benches/budget.toml`; `.ci/run` runs it. After a change that is worth what
  it costs, `cargo bench -p conformance --bench paths -- --bless` writes the new budget.
";
