// Shows what was seen. Live, it asks for more once a second; frozen, it shows what it was given.
//
// Whatever was seen goes into the document as text, never as markup. Each time the whole view is made
// anew and the document is changed only where it differs, so that focus, selection and what is
// unfolded stay as they are.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6, 1e7];
  const CLASSES = ["missing", "late", "reordered", "differs", "duplicate", "phantom"];
  const data = JSON.parse(document.getElementById("data").textContent);
  const news = document.getElementById("news");
  const when = document.getElementById("when");
  const state = { runs: data.runs, paused: false, lost: null };

  // Characters that control or reorder what is beside them are shown as what they are: not text.
  const clean = (text) => String(text).replace(/[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu, "\ufffd");
  const number = (n) => Number(n).toLocaleString("en");
  const word = (text) => String(text).replaceAll("_", " ").replaceAll("-", " ");
  const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many}`;

  function make(name, attributes, ...children) {
    const svg = ["svg", "rect", "text", "line", "g"].includes(name);
    const element = svg ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value !== null && value !== undefined && value !== false) element.setAttribute(key, clean(value));
    }
    for (const child of children.flat(Infinity)) {
      if (child === null || child === undefined || child === false) continue;
      element.append(child instanceof Node ? child : document.createTextNode(clean(child)));
    }
    return element;
  }

  function change(old, now) {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName || (old.id ?? "") !== (now.id ?? "")) {
      old.replaceWith(now);
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    // What is unfolded is the reader's.
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !now.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of [...now.attributes]) {
      if (name !== "open" && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const [before, after] = [[...old.childNodes], [...now.childNodes]];
    after.forEach((child, at) => (at < before.length ? change(before[at], child) : old.append(child)));
    before.slice(after.length).forEach((child) => child.remove());
  }

  const mark = (kind, text) => make("span", { class: `mark ${kind}` }, text);
  const kindOf = (verdict) => ({ match: "pass", pass: "pass", diverged: "fail", fail: "fail" })[verdict] ?? "wait";
  const facts = (pairs) =>
    make("dl", { class: "facts" }, pairs.filter(Boolean).map(([term, ...told]) => make("div", {}, make("dt", {}, term), make("dd", {}, told))));

  function table(caption, columns, rows) {
    const head = make("tr", {}, columns.map((column) => make("th", { scope: "col" }, column)));
    const body = rows.map((row) =>
      make("tr", {}, row.map((cell, at) =>
        at === 0 ? make("th", { scope: "row" }, cell) : make("td", { "data-is": columns[at] }, cell))));
    return make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, body));
  }

  function duration(us) {
    const units = [[1e6, "s"], [1e3, "ms"], [1, "\u00b5s"]];
    const [size, unit] = units.find(([size]) => us >= size) ?? units[2];
    return `${Number((us / size).toPrecision(3))} ${unit}`;
  }
  const ago = (ms) => {
    const s = Math.max(0, Math.round(ms / 1000));
    if (s < 120) return plural(s, "second", "seconds");
    return s < 7200 ? plural(Math.round(s / 60), "minute", "minutes") : plural(Math.round(s / 3600), "hour", "hours");
  };
  const date = (ms) => new Date(ms).toISOString().replace("T", " ").slice(0, 19) + " UTC";

  // The end of the bucket that a quantile is in: more is not known.
  function quantile(buckets, share) {
    const all = buckets.reduce((sum, n) => sum + n, 0);
    if (all === 0) return null;
    let below = 0;
    const at = buckets.findIndex((n) => (below += n) >= Math.max(1, Math.ceil(all * share)));
    return at < BOUNDS.length ? `\u2264 ${duration(BOUNDS[at])}` : "> 10 s";
  }

  function rollout(r, at) {
    const stages = r.stages.map((stage, n) =>
      make("li", { "aria-current": n === r.stage ? "step" : null, class: n < r.stage ? "past" : null }, stage.name));
    const gates = r.gates.map((gate) => [
      word(gate.name),
      gate.wanted,
      gate.measured ?? "nothing yet",
      gate.progress === null || gate.progress === undefined ? "" : [
        make("progress", { max: 1, value: Math.min(1, Math.max(0, gate.progress)), "aria-label": `progress of ${gate.name}` }),
        ` ${Math.floor(gate.progress * 100)} %`,
      ],
      mark(kindOf(gate.verdict), gate.verdict),
    ]);
    const history = [...r.history].reverse().map((entry) => [
      date(entry.at_ms), word(entry.what), entry.from === entry.to ? entry.to : `${entry.from} \u2192 ${entry.to}`, entry.reason,
      duration(entry.took_us), duration(entry.publish_delay_us),
    ]);
    return make("section", { id: `rollout-${at}`, "aria-labelledby": `h-rollout-${at}` },
      make("h3", { id: `h-rollout-${at}` }, "Rollout"),
      facts([
        ["Phase", make("bdi", {}, r.phase)],
        ["Doing", mark({ halted: "fail", done: "pass" }[r.activity] ?? "wait", r.activity)],
        ["Mode", r.mode],
        ["Cutovers", number(r.cutovers)],
        ["Longest publish delay", duration(r.longest_publish_delay_us)],
      ]),
      make("ol", { class: "stages", "aria-label": "Stages" }, stages),
      r.cutover && make("p", {}, `Cutover ${r.cutover.number}, ${r.cutover.from} to ${r.cutover.to}: ${r.cutover.step}`),
      r.last_error && make("p", { class: "fail mark" }, r.last_error),
      gates.length > 0 && table(
        `Gates to the next stage: ${r.successes} of ${r.successes_wanted} passes in a row, ${r.failures} failures of ${r.failures_allowed}`,
        ["gate", "wanted", "measured", "progress", "verdict"], gates),
      history.length > 0 && make("details", { id: `history-${at}` }, make("summary", {}, `What happened (${history.length})`),
        table("Newest first", ["when", "what", "stage", "why", "took", "publishers held"], history)));
  }

  const counted = (r) => [["missing", r.missing], ["late", r.late], ["reordered", r.reordered],
    ["differs", r.differs], ["duplicate", r.duplicates], ["phantom", r.phantoms]];
  const diverged = (r) => counted(r).reduce((sum, [, n]) => sum + n, 0);

  function topics(counts, at) {
    if (counts.length === 0) return null;
    const rows = new Map();
    for (const { class: kind, topic, count } of counts) {
      if (!rows.has(topic)) rows.set(topic, {});
      rows.get(topic)[kind] = count;
    }
    const sum = (row) => Object.values(row).reduce((all, n) => all + n, 0);
    const shown = CLASSES.filter((kind) => counts.some((one) => one.class === kind));
    const sorted = [...rows].sort(([a, x], [b, y]) => sum(y) - sum(x) || (a < b ? -1 : 1));
    return make("div", { id: `topics-${at}` }, table("Divergences by topic and class", ["topic", ...shown],
      sorted.map(([topic, row]) => [make("bdi", {}, topic === "" ? "(other topics)" : topic), ...shown.map((kind) => number(row[kind] ?? 0))])));
  }

  const place = (d) => make("li", {},
    make("h4", { class: "fail" }, `${d.class} on the ${d.side}: `, make("bdi", {}, d.topic), ` number ${d.sequence}`),
    make("p", {}, d.detail),
    make("dl", { class: "place" }, [["subscription", d.subscription], ["publisher", d.publisher || "none"], ["epoch", d.epoch],
      ["primary", d.shown?.primary], ["candidate", d.shown?.candidate]].filter(([, text]) => text !== undefined)
      .map(([term, text]) => [make("dt", {}, term), make("dd", {}, make("bdi", {}, text))])));

  // What keeps a comparison from being whole.
  function troubles(r) {
    const file = r.divergence_file;
    const unwritten = file && (file.dropped > 0 || file.error);
    return [
      r.disabled && `shadow disabled: ${r.disabled}`,
      ...Object.entries(r.hook_errors).map(([hook, n]) => `hook ${hook} failed: ${number(n)}`),
      unwritten && `divergences not written to ${file.path}: ${number(file.dropped)}, ${file.error ?? "no room"}`,
    ].filter(Boolean);
  }

  function comparison({ report: r, glance }, at) {
    const reasons = Object.entries(r.unverified_by_reason);
    const errors = Object.entries(r.candidate_errors);
    const [first, ...others] = glance.newest;
    return make("section", { id: `comparison-${at}`, "aria-labelledby": `h-comparison-${at}` },
      make("h3", { id: `h-comparison-${at}` }, "Comparison"),
      make("p", {}, mark(kindOf(r.verdict), r.verdict), " ", make("bdi", {}, r.candidate), " against ", make("bdi", {}, r.primary)),
      troubles(r).map((trouble) => make("p", { class: "fail mark" }, trouble)),
      facts([
        ["Events compared", number(r.published)],
        ["Deliveries matched", `${number(r.matched)} of ${number(r.expected)}`],
        ...counted(r).map(([kind, n]) => [kind[0].toUpperCase() + kind.slice(1), n > 0 ? make("span", { class: "fail" }, number(n)) : "0"]),
        ["Unverified", number(r.unverified)],
        ["In flight", number(r.in_flight)],
        r.ignored > 0 && ["Ignored", number(r.ignored)],
        r.foreign > 0 && ["From elsewhere", number(r.foreign)],
        r.injected !== undefined && ["Sabotaged on purpose", number(r.injected)],
      ]),
      topics(glance.by_topic, at),
      first && make("h3", {}, "Newest divergences"),
      first && make("ul", { class: "found", id: `newest-${at}` }, place(first)),
      others.length > 0 && make("details", { id: `more-${at}` }, make("summary", {}, `${others.length} before it`),
        make("ul", { class: "found" }, others.map(place))),
      reasons.length > 0 && make("div", {}, table("Not compared", ["reason", "deliveries"], reasons.map(([reason, n]) => [word(reason), number(n)]))),
      errors.length > 0 && make("div", {}, table("Errors of the candidate", ["operation and kind", "times"], errors.map(([kind, n]) => [kind, number(n)]))));
  }

  // One column for each point in time, one row for each bucket; the more of a column's deliveries are
  // in a bucket, the stronger its colour.
  function heat(points, side, low, high) {
    const [width, height, left, right, top, bottom] = [420, 170, 46, 6, 6, 18];
    const columns = points.length;
    const rows = high - low + 1;
    const [w, h] = [(width - left - right) / Math.max(1, columns), (height - top - bottom) / rows];
    const y = (at) => top + (high - at) * h;
    const cells = points.flatMap((point, n) => {
      const all = point[side].reduce((sum, k) => sum + k, 0);
      return point[side].map((k, at) => k > 0 && make("rect", {
        class: side, x: (left + n * w).toFixed(2), y: y(at).toFixed(2), width: Math.max(0.5, w + 0.2).toFixed(2), height: (h + 0.2).toFixed(2),
        "fill-opacity": (0.12 + 0.88 * Math.sqrt(k / all)).toFixed(2),
      }));
    });
    const labels = [];
    for (let at = low; at <= high; at += 1) {
      // The lower end of each decade has its name.
      if (at % 3 === 0 && at <= BOUNDS.length) {
        labels.push(make("line", { class: "grid", x1: left, x2: width - right, y1: y(at - 1), y2: y(at - 1) }));
        labels.push(make("text", { class: "end", x: left - 4, y: y(at - 1) + 3 }, at === 0 ? "0" : duration(BOUNDS[at - 1])));
      }
    }
    const span = columns > 0 ? points[columns - 1].at_ms - points[0].at_ms : 0;
    return make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Latencies of the ${side} over ${ago(span)}; the table below has them in numbers` },
      labels, cells,
      make("text", { x: left, y: height - 5 }, span > 0 ? `${ago(span)} before` : ""),
      make("text", { class: "end", x: width - right, y: height - 5 }, data.live ? "now" : "at the end"));
  }

  function latency(glance, history, at) {
    const sides = ["primary", "candidate"];
    if (sides.every((side) => glance[side].samples === 0)) return null;
    const points = history.points.filter((point) => point.primary.length > 0);
    const used = BOUNDS.concat([0]).map((_, n) => sides.some((side) => glance[side].buckets[n] > 0));
    const [low, high] = [Math.max(0, used.indexOf(true) - 1), Math.min(BOUNDS.length, used.lastIndexOf(true) + 1)];
    const shown = points.slice(-30);
    const rows = shown.map((point) => [date(point.at_ms).slice(11, 19), ...sides.flatMap((side) =>
      [quantile(point[side], 0.5) ?? "none", quantile(point[side], 0.99) ?? "none"])]).reverse();
    return make("section", { id: `latency-${at}`, "aria-labelledby": `h-latency-${at}` },
      make("h3", { id: `h-latency-${at}` }, "Latency of both sides"),
      table("Of all deliveries that both sides made", ["side", "p50", "p99", "mean", "deliveries"], sides.map((side) => {
        const { samples, sum_us: sum, buckets } = glance[side];
        return [side, quantile(buckets, 0.5) ?? "none", quantile(buckets, 0.99) ?? "none", samples > 0 ? duration(sum / samples) : "none", number(samples)];
      })),
      points.length > 1 && make("div", { class: "pair" }, sides.map((side) =>
        make("figure", {}, make("figcaption", {}, `${side}, over time`), heat(points, side, low, high)))),
      points.length > 1 && make("details", { id: `over-time-${at}` }, make("summary", {}, `In numbers, ${duration(history.interval_ms * 1000)} each`),
        table("Newest first", ["until", "primary p50", "primary p99", "candidate p50", "candidate p99"], rows)));
  }

  function queues(seen, at) {
    const waiting = seen.stats?.subscriptions ?? [];
    if (waiting.length === 0 && !seen.shadow) return null;
    const most = Math.max(1, ...waiting.map((one) => one.queued));
    return make("section", { id: `queues-${at}`, "aria-labelledby": `h-queues-${at}` },
      make("h3", { id: `h-queues-${at}` }, "Queues"),
      seen.shadow && make("p", {}, `Waiting for the candidate: ${number(seen.shadow.glance.queued)}, at most ${number(seen.shadow.report.queue_high_water)} until now`),
      waiting.length > 0 && table("Subscriptions, the longest queue first", ["subscription", "queued", "delivered", "filtered", "dropped"], waiting.map((one) =>
        [make("bdi", {}, one.name),
          [make("progress", { max: most, value: one.queued, "aria-label": "beside the longest" }), ` ${number(one.queued)}`],
          number(one.delivered), number(one.filtered), one.dropped > 0 ? make("span", { class: "fail" }, number(one.dropped)) : "0"])));
  }

  function bus(s, at) {
    const families = Object.entries(s.families);
    return make("section", { id: `bus-${at}`, "aria-labelledby": `h-bus-${at}` },
      make("h3", { id: `h-bus-${at}` }, "Bus"),
      facts([["Runs on", make("bdi", {}, s.backend)], ["Published", number(s.published)], ["Refused", number(s.refused)], ["Dropped", number(s.dropped)],
        ["Reconnects", number(s.reconnects)], ["Sent again", number(s.resends)], ["Given up", number(s.given_up)], ["Malformed", number(s.malformed)]]),
      families.length > 0 && table("By topic family", ["family", "published", "deliveries"], families.map(([name, f]) => [make("bdi", {}, name), number(f.published), number(f.deliveries)])));
  }

  function calls(seen, at) {
    const { calls: made, services = [] } = seen.stats ?? {};
    const compared = seen.shadow?.report.calls;
    if (!(made?.made > 0 || services.length > 0 || compared?.made > 0)) return null;
    const left = seen.left_out?.services ?? 0;
    const bad = (n) => n > 0 ? make("span", { class: "fail" }, number(n)) : "0";
    return make("section", { id: `calls-${at}`, "aria-labelledby": `h-calls-${at}` },
      make("h3", { id: `h-calls-${at}` }, "Calls"),
      made && facts([["Made", number(made.made)], ["Replied", number(made.replied)], ["Failed", number(made.failed)],
        ["Cancelled", number(made.cancelled)], ["Under way", number(made.outstanding)]]),
      services.length > 0 && table("Services", ["service", "running", "waiting", "replied", "failed", "panicked", "dropped", "refused"], services.map((one) =>
        [make("bdi", {}, one.name), number(one.running), number(one.waiting), number(one.replied), number(one.failed), bad(one.panicked), number(one.dropped), bad(one.busy)])),
      left > 0 && make("p", {}, `${number(left)} more services are in (others)`),
      compared?.made > 0 && table("On the candidate", ["what came of them", "calls"],
        [["not idempotent, not mirrored", number(compared.unmirrored)], ["same reply", number(compared.same)], ["other reply", bad(compared.differs)],
          ["candidate failed", bad(compared.failed)], ["not compared", number(compared.not_compared)], ["under way", number(compared.under_way)]]),
      compared?.differences.length > 0 && table("Answered otherwise", ["method", "detail"], compared.differences.map((one) =>
        [make("bdi", {}, `${one.service}.${one.method}`), one.detail])));
  }

  function broker(b, at) {
    const refused = Object.entries(b.refused).filter(([, n]) => n > 0);
    return make("section", { id: `broker-${at}`, "aria-labelledby": `h-broker-${at}` },
      make("h3", { id: `h-broker-${at}` }, "Broker"),
      facts([["Connections", `${number(b.connections)} of ${number(b.max_connections)}`], ["Sessions", number(b.sessions)], ["Accepted", number(b.accepted)],
        ["Frames", number(b.frames)], ["Frames denied", number(b.denied)], ["Bytes in", number(b.bytes_in)], ["Bytes out", number(b.bytes_out)]]),
      refused.length > 0 && table("Connections refused", ["reason", "times"], refused.map(([reason, n]) => [word(reason), number(n)])));
  }

  // One sentence that changes only when there is news, because it is read aloud.
  function told(seen) {
    const parts = [];
    if (!["ok"].includes(seen.health.status)) parts.push(`${seen.health.status}: ${seen.health.reasons.join("; ")}`);
    if (seen.rollout) parts.push(`stage ${seen.rollout.stage + 1} of ${seen.rollout.stages.length}, ${seen.rollout.activity}`);
    if (seen.shadow) {
      const kinds = counted(seen.shadow.report).filter(([, n]) => n > 0).map(([kind]) => kind);
      parts.push(`${seen.shadow.report.candidate} against ${seen.shadow.report.primary}: ${seen.shadow.report.verdict}${kinds.length ? ` (${kinds.join(", ")})` : ""}`);
      if (seen.shadow.report.disabled) parts.push("shadow disabled");
    }
    return parts.join("; ") || seen.health.status;
  }

  function view(seen, at) {
    const title = state.runs.length > 1 && seen.shadow ? `${seen.shadow.report.primary} and ${seen.shadow.report.candidate}` : null;
    return make("article", { id: `run-${at}` },
      title && make("h2", {}, title),
      seen.health.reasons.map((reason) => make("p", { class: "fail mark" }, reason)),
      seen.rollout && rollout(seen.rollout, at),
      seen.shadow && comparison(seen.shadow, at),
      seen.shadow && latency(seen.shadow.glance, seen.history, at),
      queues(seen, at),
      calls(seen, at),
      seen.stats && bus(seen.stats, at),
      seen.broker && broker(seen.broker, at),
      make("footer", {}, data.live
        ? [make("a", { href: "observed.json" }, "JSON"), ", ", make("a", { href: "metrics" }, "metrics"), ", ", make("a", { href: "healthz" }, "health")]
        : `Frozen ${date(seen.at_ms)}, after ${ago(seen.uptime_ms)}; eventbus ${seen.version}`));
  }

  function show() {
    const runs = make("div", { id: "runs" }, state.runs.map(view));
    change(document.getElementById("runs"), runs);
    const said = clean(state.lost ?? state.runs.map(told).join("; "));
    if (news.textContent !== said) news.textContent = said;
    const bad = state.lost !== null || state.runs.some((seen) => seen.health.reasons.length > 0 || seen.shadow?.report.verdict === "diverged" || seen.rollout?.activity === "halted");
    news.className = bad ? "fail" : "";
    const name = clean(state.runs[0]?.title ?? "eventbus");
    document.title = `${bad ? "\u2717 " : ""}${name}`;
    const last = state.runs[0];
    if (data.live && last) {
      const button = make("button", { type: "button", id: "pause", "aria-pressed": String(state.paused) }, "Pause");
      change(when, make("p", { id: "when" }, button, ` As of ${date(last.at_ms)}, up for ${ago(last.uptime_ms)}`));
    }
  }

  async function ask() {
    try {
      const answer = await fetch("observed.json", { cache: "no-store", signal: AbortSignal.timeout(5000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const seen = await answer.json();
      if (seen.schema !== 1) throw new Error(`schema ${seen.schema}: reload the page`);
      state.lost = null;
      if (!state.paused) state.runs = [seen];
    } catch (reason) {
      state.lost = `No answer since ${date(state.runs[0].at_ms)} (${reason.message})`;
    }
    show();
    setTimeout(ask, 1000);
  }

  document.addEventListener("click", (event) => {
    if (event.target.id !== "pause") return;
    state.paused = !state.paused;
    show();
  });
  show();
  if (data.live) setTimeout(ask, 1000);
})();
