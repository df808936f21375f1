//! The daemon's log on standard error: with times for people and files, with priorities for systemd's journal, and with
//! an end to floods.

mod flood;
mod journal;

use std::fmt::Display;
use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use flood::{Flood, FloodLayer};

/// What [`init`] has set up.
static FLOOD: OnceLock<Arc<Flood>> = OnceLock::new();

/// Begins to log what `filter` lets pass. Once in a process.
///
/// # Panics
/// Where the process logs already.
pub fn init(filter: EnvFilter) {
    let flood = FLOOD.get_or_init(Arc::default).clone();
    let text = fmt::layer().with_writer(std::io::stderr);
    let text = if journal::reads_stderr() {
        text.event_format(journal::Prioritised::default()).with_ansi(false).boxed()
    } else {
        text.with_ansi(std::io::stderr().is_terminal()).boxed()
    };
    tracing_subscriber::registry().with(filter).with(FloodLayer(flood)).with(text).init();
}

/// Says how many lines were left out, where that is due; called now and then.
pub(crate) fn report_left_out() {
    if let Some(flood) = FLOOD.get() {
        flood.report(Instant::now(), flood::REPORTED_EVERY);
    }
}

/// Says how many lines were left out, since nothing more will be logged.
pub(crate) fn report_rest() {
    if let Some(flood) = FLOOD.get() {
        flood.report(Instant::now(), std::time::Duration::ZERO);
    }
}

/// Says what a program ends with, whatever is logged.
pub fn complain(text: impl Display) {
    let text = text.to_string();
    if journal::reads_stderr() {
        eprint!("{}", journal::prefixed(&text, &tracing::Level::ERROR));
    } else {
        eprintln!("{text}");
    }
}
