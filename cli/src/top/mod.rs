//! `eventbus top`: the page, in a terminal.
//!
//! A task asks the program once a second; this thread shows what it was told last and reads keys, so
//! a program that does not answer never makes the keyboard deaf.

pub(crate) mod args;
mod client;
mod view;

use std::io::IsTerminal as _;
use std::time::Duration;

use eventbus::observe::{Observed, plain};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::failure::Failure;
use crate::shadow::output::print;
use args::{Target, TopArgs};
use view::View;

/// How long a key may wait.
const KEYS: Duration = Duration::from_millis(100);

/// The last answer, or why there is none.
type Answer = Result<Observed, String>;

/// Shows what there is to see; returns the exit code.
pub(crate) async fn run(args: &TopArgs) -> Result<u8, Failure> {
    let target = &args.at;
    let failed = |reason: String| Failure::io(format!("ask `{target}`"), reason);
    if args.json {
        let text = client::document(target).await.map_err(failed)?;
        print(&text)?;
        return Ok(0);
    }
    let first = client::look(target).await.map_err(failed)?;
    if args.once || !std::io::stdout().is_terminal() {
        print(&plain(&first))?;
        return Ok(0);
    }
    let (tell, told) = watch::channel(Ok(first));
    let asking = tokio::spawn(ask(target.clone(), args.interval, tell));
    let shown = tokio::task::block_in_place(|| {
        let mut terminal =
            ratatui::try_init().map_err(|reason| Failure::io("use the terminal", reason))?;
        let shown = show(&mut terminal, told, target);
        ratatui::restore();
        shown.map_err(|reason| Failure::io("use the terminal", reason))
    });
    asking.abort();
    shown.map(|()| 0)
}

async fn ask(target: Target, every: Duration, tell: watch::Sender<Answer>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if tell.send(client::look(&target).await).is_err() {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    mut told: watch::Receiver<Answer>,
    target: &Target,
) -> std::io::Result<()> {
    let mut view = View::new(target.to_string());
    let mut dirty = true;
    loop {
        if told.has_changed().unwrap_or(false) {
            view.take(told.borrow_and_update().clone());
            dirty = true;
        }
        if dirty {
            terminal.draw(|frame| view.draw(frame))?;
        }
        dirty = false;
        if !event::poll(KEYS)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if !act(&mut view, key) {
                    return Ok(());
                }
                dirty = true;
            }
            Event::Resize(..) => dirty = true,
            _ => {}
        }
    }
}

/// What a key does; whether to go on.
fn act(view: &mut View, key: KeyEvent) -> bool {
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
        KeyCode::Char('p' | ' ') => view.pause(),
        KeyCode::Up | KeyCode::Char('k') => view.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => view.scroll(1),
        KeyCode::PageUp => view.scroll(-10),
        KeyCode::PageDown => view.scroll(10),
        KeyCode::Home => view.scroll(i32::MIN),
        _ => {}
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_what_the_last_line_says() {
        let mut view = View::new(String::new());
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert!(!act(&mut view, KeyEvent::from(code)));
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!act(&mut view, interrupt));
        assert!(act(&mut view, KeyEvent::from(KeyCode::Char('p'))));
        assert!(view.is_paused());
    }
}
