//! `directorctl top`: a running director on a terminal, over and over.
//!
//! A thread asks (`ask`), its replies become the model (`model`), keys change what is looked at (`looking`), both
//! together are drawn (`draw`). Neither model nor keys know of a terminal, and the model knows of no clock but the
//! director's.

mod ask;
mod draw;
mod grid;
mod looking;
mod model;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{SignalKind, signal};

use self::ask::Asking;
use self::looking::{Looking, Then};
use self::model::Model;
use super::session::Failure;
use super::values;

pub(super) const HELP: &str = "\
Examples:
  directorctl top
  directorctl top --interval 500ms

Keys: 1 to 6 or Tab another view, arrows and pages move, s and S sort by the next or previous column, r turns the order
round, / filters, p pauses, ? helps, q quits.";

/// How long a key or a reply may wait to be seen.
const SOON: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How often the director is asked
    #[arg(long, short = 'd', value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    interval: Duration,
}

pub(super) fn run(options: &Options, socket: &Path, json: bool) -> Result<(), Failure> {
    if json || !io::stdout().is_terminal() {
        let instead =
            "use `directorctl --json stats`, `service list`, `stats --rate` or `latency` in scripts";
        return Err(Failure::Otherwise(format!("top is for a terminal; {instead}")));
    }
    // Before the terminal is another one, so that no signal leaves it so.
    let ended = ended_by_signal().map_err(Failure::Signals)?;
    // Its panic hook gives the terminal back, too.
    let mut terminal = ratatui::try_init().map_err(Failure::Output)?;
    let outcome = watch(&mut terminal, &Asking::begin(socket, options.interval), &ended);
    ratatui::restore();
    outcome.map_err(Failure::Output)
}

fn watch(terminal: &mut DefaultTerminal, asking: &Asking, ended: &AtomicBool) -> io::Result<()> {
    let (mut model, mut looking) = (Model::default(), Looking::default());
    let mut is_stale = true;
    while !ended.load(Ordering::Relaxed) {
        // While it pauses, what came too late to know of that is not shown either.
        for news in asking.news() {
            if !looking.is_paused() {
                model.take(news);
                is_stale = true;
            }
        }
        if is_stale {
            terminal.draw(|frame| draw::draw(frame, &model, &mut looking))?;
            is_stale = false;
        }
        if !event::poll(SOON)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                if looking.press(key) == Then::Quit {
                    return Ok(());
                }
                asking.wish(looking.view().needs_services(), looking.is_paused());
                is_stale = true;
            }
            Event::Resize(..) => is_stale = true,
            _ => {}
        }
    }
    Ok(())
}

/// Becomes true with SIGTERM, SIGHUP or SIGINT.
fn ended_by_signal() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kinds = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()];
    let [mut terminate, mut hangup, mut interrupt] = {
        let _inside = runtime.enter();
        [signal(kinds[0])?, signal(kinds[1])?, signal(kinds[2])?]
    };
    let ended = Arc::new(AtomicBool::new(false));
    let tell = ended.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        tell.store(true, Ordering::Relaxed);
    });
    Ok(ended)
}
