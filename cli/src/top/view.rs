//! What was seen, as lines for a terminal.

use eventbus::observe::{History, Observed, plain};
use eventbus::shadow::LATENCY_BOUNDS_US;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

/// The more of a column's deliveries are in a bucket, the darker.
const SHADES: [char; 5] = [' ', '░', '▒', '▓', '█'];
const KEYS: &str = "q quit   p pause   arrows, page keys: scroll";

/// What is shown, and how.
#[derive(Debug)]
pub(super) struct View {
    target: String,
    seen: Option<Observed>,
    lost: Option<String>,
    paused: bool,
    scroll: u16,
}

impl View {
    pub(super) fn new(target: String) -> Self {
        Self {
            target,
            seen: None,
            lost: None,
            paused: false,
            scroll: 0,
        }
    }

    /// Takes an answer. One that failed leaves what was seen before.
    pub(super) fn take(&mut self, answer: Result<Observed, String>) {
        match answer {
            Ok(seen) => {
                self.lost = None;
                if !self.paused {
                    self.seen = Some(seen);
                }
            }
            Err(reason) => self.lost = Some(reason),
        }
    }

    pub(super) fn pause(&mut self) {
        self.paused = !self.paused;
    }

    #[cfg(test)]
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn scroll(&mut self, lines: i32) {
        let scrolled = i32::from(self.scroll).saturating_add(lines);
        self.scroll = u16::try_from(scrolled.max(0)).unwrap_or(u16::MAX);
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [body, foot] =
            Layout::vertical([Constraint::Min(0), Constraint::Length(1)]).areas(frame.area());
        let lines = wrapped(self.lines(body.width), usize::from(body.width));
        let most = lines.len().saturating_sub(usize::from(body.height));
        self.scroll = self.scroll.min(u16::try_from(most).unwrap_or(u16::MAX));
        frame.render_widget(Paragraph::new(lines).scroll((self.scroll, 0)), body);
        let state = match (&self.lost, self.paused) {
            (Some(reason), _) => Span::styled(format!("{}: {reason}", self.target), bad()),
            (None, true) => Span::styled("paused", Style::new().add_modifier(Modifier::REVERSED)),
            (None, false) => Span::raw(self.target.clone()),
        };
        let foot_line = Line::from(vec![Span::raw(KEYS), Span::raw("   "), state]);
        frame.render_widget(Paragraph::new(foot_line), foot);
    }

    fn lines(&self, width: u16) -> Vec<Line<'static>> {
        let Some(seen) = &self.seen else {
            return vec![Line::from("nothing seen yet")];
        };
        let mut lines: Vec<_> = plain(seen).lines().map(coloured).collect();
        if seen.shadow.is_some() {
            for side in ["primary", "candidate"] {
                lines.push(Line::default());
                lines.extend(heat(&seen.history, side, width));
            }
        }
        lines
    }
}

/// Lines that fit, so that their number is known, which scrolling must not exceed.
fn wrapped(lines: Vec<Line<'static>>, width: usize) -> Vec<Line<'static>> {
    let mut fitting = Vec::with_capacity(lines.len());
    for line in lines {
        let text: Vec<char> = line
            .spans
            .iter()
            .flat_map(|span| span.content.chars())
            .collect();
        if text.len() <= width {
            fitting.push(line);
            continue;
        }
        for piece in text.chunks(width.max(1)) {
            fitting.push(Line::styled(piece.iter().collect::<String>(), line.style));
        }
    }
    fitting
}

fn bad() -> Style {
    Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)
}

/// What is well or not is so by its words; colour only repeats it.
fn coloured(line: &str) -> Line<'static> {
    let named = [
        "comparison",
        "health",
        "rollout",
        "error",
        "phase",
        "stage",
        "bus",
        "broker",
    ];
    let (bad_words, good_words) = (
        ["diverged", "halted", "failing", "stuck", "is fail"],
        [": match", " ok"],
    );
    let style = if bad_words.iter().any(|word| line.contains(word)) || line.starts_with("error") {
        bad()
    } else if named.iter().any(|name| line.starts_with(name))
        && good_words.iter().any(|word| line.ends_with(word))
    {
        Style::new().fg(Color::Green)
    } else if line.starts_with(' ') {
        Style::new()
    } else {
        Style::new().add_modifier(Modifier::BOLD)
    };
    Line::styled(line.to_owned(), style)
}

/// One row for each bucket that is used, the slowest first; one column for each point in time.
fn heat(history: &History, side: &str, width: u16) -> Vec<Line<'static>> {
    let columns = usize::from(width).saturating_sub(10);
    let points: Vec<&Vec<u64>> = history
        .points
        .iter()
        .map(|point| {
            if side == "primary" {
                &point.primary
            } else {
                &point.candidate
            }
        })
        .filter(|buckets| !buckets.is_empty())
        .collect();
    let shown = &points[points.len().saturating_sub(columns)..];
    let used = |at: usize| {
        shown
            .iter()
            .any(|buckets| buckets.get(at).is_some_and(|n| *n > 0))
    };
    let buckets = 0..=LATENCY_BOUNDS_US.len();
    let mut used = buckets.filter(|at| used(*at));
    let Some(low) = used.next() else {
        return vec![Line::from(format!("{side}: no latency measured yet"))];
    };
    let high = used.next_back().unwrap_or(low);
    let head = format!(
        "{side}, latency over time, {} s a column",
        history.interval_ms / 1000
    );
    let mut lines = vec![Line::styled(
        head,
        Style::new().add_modifier(Modifier::BOLD),
    )];
    for at in (low..=high).rev() {
        let row: String = shown.iter().map(|buckets| shade(buckets, at)).collect();
        lines.push(Line::from(format!("{:>8}  {row}", bound(at))));
    }
    lines
}

fn shade(buckets: &[u64], at: usize) -> char {
    let all: u64 = buckets.iter().sum();
    let n = buckets.get(at).copied().unwrap_or_default();
    if n == 0 {
        return SHADES[0];
    }
    let share = (n as f64 / all as f64).sqrt();
    SHADES[((share * 4.0).ceil() as usize).clamp(1, 4)]
}

fn bound(at: usize) -> String {
    match LATENCY_BOUNDS_US.get(at) {
        None => "> 10 s".to_owned(),
        Some(us @ 0..1_000) => format!("{us} us"),
        Some(us @ 1_000..1_000_000) => format!("{} ms", us / 1_000),
        Some(us) => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn seen() -> Observed {
        let mut buckets = vec![0; LATENCY_BOUNDS_US.len() + 1];
        buckets[4] = 90;
        buckets[6] = 10;
        let side = json!({"samples": 100, "sum_us": 3000, "buckets": buckets});
        let point = json!({"at_ms": 1, "published": 1, "diverged": 0, "queued": 0,
            "candidate_queued": 0, "primary": buckets, "candidate": buckets});
        let document = json!({
            "schema": 1, "title": "collector", "version": "0", "at_ms": 1, "uptime_ms": 1,
            "health": {"status": "failing", "reasons": ["the \u{1b}[31mdisk is full"]},
            "stats": {"backend": "crossbeam", "published": 7, "refused": 0, "dropped": 0,
                "malformed": 0, "reconnects": 0, "resends": 0, "given_up": 0, "families": {},
                "subscriptions": [{"name": "reader", "matched": 7, "delivered": 5, "filtered": 0,
                    "dropped": 0, "queued": 2}]},
            "history": {"interval_ms": 1000, "points": [point.clone(), point]},
        });
        let mut seen: Observed = serde_json::from_value(document).unwrap();
        let shadow = json!({"report": report(), "glance": {"by_topic": [], "newest": [],
            "queued": 3, "primary": side.clone(), "candidate": side}});
        seen.shadow = Some(serde_json::from_value(shadow).unwrap());
        seen
    }

    /// The report of `docs/shadow.md`.
    fn report() -> serde_json::Value {
        let documented = include_str!("../../../docs/shadow.md");
        let schema = documented.split("```json").nth(1).unwrap();
        let schema: serde_json::Value =
            serde_json::from_str(schema.split("```").next().unwrap()).unwrap();
        schema["runs"][0]["report"].clone()
    }

    fn drawn(view: &mut View, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn what_was_seen_is_on_the_screen() {
        let mut view = View::new("http://127.0.0.1:9600/".to_owned());
        assert!(drawn(&mut view, 80, 24).contains("nothing seen yet"));
        view.take(Ok(seen()));
        let screen = drawn(&mut view, 100, 50);
        for told in [
            "collector",
            "failing",
            "unix with crossbeam: diverged",
            "101 missing",
            "3 waiting for the candidate",
            "reader: 2 queued",
            "primary latency: p50 at most 20 us, p99 at most 100 us",
            "candidate, latency over time, 1 s a column",
            "   20 us  ██",
            "  100 us  ▒▒",
            "q quit",
        ] {
            assert!(screen.contains(told), "{told:?} is not on\n{screen}");
        }
        assert!(!screen.contains('\u{1b}'), "a terminal would obey");
    }

    #[test]
    fn a_program_that_is_gone_leaves_what_was_seen() {
        let mut view = View::new("there".to_owned());
        view.take(Ok(seen()));
        view.take(Err("connection refused".to_owned()));
        let screen = drawn(&mut view, 100, 50);
        assert!(
            screen.contains("collector") && screen.contains("there: connection refused"),
            "{screen}"
        );
    }

    #[test]
    fn a_small_terminal_scrolls_and_not_too_far() {
        let mut view = View::new("there".to_owned());
        view.take(Ok(seen()));
        assert!(drawn(&mut view, 40, 8).contains("collector"));
        view.scroll(10_000);
        let screen = drawn(&mut view, 40, 8);
        assert!(
            !screen.contains("collector") && screen.contains("20 us"),
            "{screen}"
        );
        view.scroll(i32::MIN);
        assert!(drawn(&mut view, 40, 8).contains("collector"));
    }

    #[test]
    fn what_is_paused_stands_still() {
        let mut view = View::new("there".to_owned());
        view.take(Ok(seen()));
        view.pause();
        let mut later = seen();
        later.title = "other".to_owned();
        view.take(Ok(later));
        assert!(drawn(&mut view, 100, 50).contains("collector"));
    }
}
