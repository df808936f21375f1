//! `directorctl server drain`: starts a drain, watches it, or gives the weight back.
//!
//! The drain itself is the director's. Whoever watches may go.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;

use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use super::values::{self, ServerArg, ServiceArg};
use super::waiting::Waiting;
use crate::drain::End;
use crate::model::{ServiceKey, Timeouts};
use crate::protocol::{Done, DrainList, DrainStatus, Request};

pub(super) const HELP: &str = "\
Examples:
  directorctl server drain tcp 10.99.0.1:80 10.0.2.11:8080
  directorctl server drain tcp 10.99.0.1:80 10.0.2.11:8080 --deadline 1h --keep
  directorctl server drain tcp 10.99.0.1:80 10.0.2.11:8080 --watch
  directorctl server drain tcp 10.99.0.1:80 10.0.2.11:8080 --cancel

The drain is the director's: it goes on when directorctl ends, by Ctrl-C too, and ends with the director.";

/// Without news a line is printed all the same, so that a log shows that somebody still waits.
const QUIET: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    service: ServiceArg,

    /// Address of the real server; its port is the service's if left out
    #[arg(value_name = "SERVER", value_parser = values::server)]
    server: ServerArg,

    /// It ends after so long, whatever connections are left; whole seconds
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = deadline)]
    deadline: u32,

    /// Leave the real server in the service at the end, with weight 0
    #[arg(long)]
    keep: bool,

    /// Wait for active connections alone, not for those that are closing, nor for UDP's
    #[arg(long)]
    active_only: bool,

    /// Start it, or change its deadline, and do not watch
    #[arg(long, conflicts_with_all = ["watch", "cancel"])]
    detach: bool,

    /// Watch a drain that goes on, and change nothing
    #[arg(long, conflicts_with_all = ["deadline", "keep", "active_only"])]
    watch: bool,

    /// End a drain that goes on, and give the real server its weight back
    #[arg(long, conflicts_with_all = ["deadline", "keep", "active_only", "watch"])]
    cancel: bool,

    /// How often to look
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = values::duration)]
    interval: Duration,
}

fn deadline(text: &str) -> Result<u32, String> {
    let duration = values::duration(text)?;
    let most = Timeouts::MAX_SECONDS;
    match u32::try_from(duration.as_secs()) {
        Ok(seconds @ 1..) if duration.subsec_nanos() == 0 && seconds <= most => Ok(seconds),
        _ => Err(format!("give whole seconds, from 1 to {most}")),
    }
}

pub(super) fn run(options: &Options, session: &mut Session) -> Result<(), Failure> {
    let service = options.service.key();
    let address = options.server.of(service);
    if options.cancel {
        return session.change(&Request::ServerDrainCancel { service, address });
    }
    let start = Request::ServerDrain {
        service,
        address,
        deadline: options.deadline,
        keep: options.keep,
        active_only: options.active_only,
    };
    if options.detach {
        return session.change(&start);
    }
    // Before the drain begins, so that no Ctrl-C comes between.
    let mut waiting = Waiting::new()?;
    if !options.watch {
        session.ask::<Done>(&start)?;
    }
    let mut screen = Screen::new(session.is_json());
    loop {
        let Some((status, json)) = look(session, service, address)? else {
            return Err(Failure::Otherwise(format!(
                "the director knows of no drain of {address} in {service}; start one, or list them with \
                 `directorctl server drains`"
            )));
        };
        screen.show(&status, &json)?;
        match status.ended {
            Some(End::Drained | End::Deadline) => return Ok(()),
            Some(end) => {
                let why = match end {
                    End::Edited => "the real server was given another weight",
                    End::Deleted => "the real server was deleted",
                    _ => "it was cancelled",
                };
                return Err(Failure::Otherwise(format!(
                    "the drain of {address} in {service} has ended: {why}"
                )));
            }
            None => {}
        }
        if waiting.is_interrupted(options.interval) {
            screen.leave();
            return Err(Failure::Interrupted(format!(
                "the drain goes on; to watch it or to give the weight back:\n  \
                 directorctl server drain {service} {address} --watch\n  \
                 directorctl server drain {service} {address} --cancel"
            )));
        }
    }
}

/// The state of one drain, as it came too, for programs.
fn look(
    session: &mut Session,
    service: ServiceKey,
    address: SocketAddr,
) -> Result<Option<(DrainStatus, Value)>, Failure> {
    let request = Request::ServerDrainStatus { service: Some(service), address: Some(address) };
    let reply: Value = session.ask(&request)?;
    let list: DrainList = session.read(&request, reply.clone())?;
    Ok(list.drains.into_iter().next().map(|status| (status, reply["drains"][0].clone())))
}

/// Where the watched drain is shown.
struct Screen {
    form: Form,
    /// Whether the [`note`] stands there already.
    is_noted: bool,
}

enum Form {
    /// A bar on a terminal.
    Bar(ProgressBar),
    /// A line whenever something changes.
    Lines { last: Option<(u64, u64)>, at: Instant },
    /// Each state as an object.
    Json,
}

impl Screen {
    fn new(json: bool) -> Screen {
        let form = if json {
            Form::Json
        } else if std::io::stdout().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("=> "));
            Form::Bar(bar)
        } else {
            Form::Lines { last: None, at: Instant::now() }
        };
        Screen { form, is_noted: false }
    }

    fn show(&mut self, status: &DrainStatus, json: &Value) -> Result<(), Failure> {
        let note = note(status).filter(|_| !self.is_noted);
        self.is_noted |= note.is_some();
        match &mut self.form {
            Form::Json => output::print(format!("{json}\n").as_bytes()),
            Form::Bar(bar) => {
                if let Some(note) = note {
                    bar.println(note);
                }
                // Persistent clients may make more of them than there were.
                let waited = waited_for(status);
                bar.set_length(status.at_first.max(waited));
                bar.set_position(status.at_first.saturating_sub(waited));
                bar.set_message(line(status));
                if status.ended.is_some() {
                    bar.abandon();
                }
                Ok(())
            }
            Form::Lines { last, at } => {
                if let Some(note) = note {
                    output::print(format!("{note}\n").as_bytes())?;
                }
                let left = (status.active, status.inactive);
                if *last == Some(left) && status.ended.is_none() && at.elapsed() < QUIET {
                    return Ok(());
                }
                (*last, *at) = (Some(left), Instant::now());
                output::print(format!("{}\n", line(status)).as_bytes())
            }
        }
    }

    /// Leaves what is shown as it is.
    fn leave(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.abandon();
        }
    }
}

const BAR: &str = "[{bar:24}] {wide_msg}";

fn waited_for(status: &DrainStatus) -> u64 {
    if status.active_only { status.active } else { status.active.saturating_add(status.inactive) }
}

/// How it stands, in one line.
fn line(status: &DrainStatus) -> String {
    let DrainStatus { active, inactive, at_first, deadline_ms, .. } = *status;
    let left = format!(
        "{} of {at_first} connections left ({active} active, {inactive} inactive)",
        active + inactive
    );
    let gone = if status.keep { "it stays with weight 0" } else { "it is taken out" };
    match status.ended {
        Some(End::Drained) if active + inactive == 0 => format!("drained, {gone}"),
        Some(End::Drained) => format!("drained, {gone}: {left}"),
        Some(End::Deadline) => format!("deadline reached, {gone}: {left}"),
        Some(end) => format!("{}: {left}", end.word()),
        None => {
            let at_last = format!("at the latest in {}", output::clock(deadline_ms));
            match status.estimate_ms {
                // What ends later than it may ends when it may.
                Some(estimate) if estimate < deadline_ms => {
                    format!("{left}, ends in about {}, {at_last}", output::clock(estimate))
                }
                Some(_) => format!("{left}, ends by its deadline in {}", output::clock(deadline_ms)),
                None => format!("{left}, ends {at_last}"),
            }
        }
    }
}

/// What keeps a drain from ending, where something does.
fn note(status: &DrainStatus) -> Option<String> {
    (status.ended.is_none() && status.persistent_clients).then(|| {
        "clients that persistence binds to it go on coming: set expire_quiescent_template=true to send them elsewhere"
            .to_owned()
    })
}

pub(super) fn list(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::ServerDrainStatus { service: None, address: None }, table).map(|_| ())
}

fn table(list: &DrainList) -> String {
    let mut table = Table::new(&[
        ("Service", Side::Left),
        ("RemoteAddress:Port", Side::Left),
        ("State", Side::Left),
        ("Began", Side::Right),
        ("AtFirst", Side::Right),
        ("ActiveConn", Side::Right),
        ("InActConn", Side::Right),
        ("Estimate", Side::Right),
        ("Deadline", Side::Right),
        ("Then", Side::Left),
    ]);
    for status in &list.drains {
        let (state, then) = match (status.ended, status.ended_ms) {
            (Some(end), Some(ago)) => (end.word(), format!("ended {} ago", output::clock(ago))),
            _ if status.keep => ("draining", "stays with weight 0".to_owned()),
            _ => ("draining", "is taken out".to_owned()),
        };
        let goes_on = status.ended.is_none();
        let estimate = status.estimate_ms.map_or_else(|| "-".to_owned(), output::clock);
        table.row([
            status.service.to_string(),
            status.server.to_string(),
            state.to_owned(),
            output::clock(status.begun_ms),
            status.at_first.to_string(),
            status.active.to_string(),
            status.inactive.to_string(),
            estimate,
            if goes_on { output::clock(status.deadline_ms) } else { "-".to_owned() },
            then,
        ]);
    }
    table.take()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn status() -> DrainStatus {
        DrainStatus {
            service: "tcp 10.99.0.1:80".parse().expect("a service"),
            server: "10.0.2.11:8080".parse().expect("an address"),
            weight: Weight(2),
            keep: false,
            active_only: false,
            begun_ms: 60_000,
            deadline_ms: 540_000,
            at_first: 120,
            active: 30,
            inactive: 7,
            estimate_ms: Some(125_000),
            persistent_clients: false,
            ended: None,
            ended_ms: None,
        }
    }

    #[test]
    fn a_line_says_what_is_left_and_when_that_ends() {
        let left = "37 of 120 connections left (30 active, 7 inactive)";
        for (changed, wanted) in [
            (status(), format!("{left}, ends in about 02:05, at the latest in 09:00")),
            (DrainStatus { estimate_ms: None, ..status() }, format!("{left}, ends at the latest in 09:00")),
            (
                DrainStatus { estimate_ms: Some(600_000), ..status() },
                format!("{left}, ends by its deadline in 09:00"),
            ),
            (
                DrainStatus { ended: Some(End::Deadline), ..status() },
                format!("deadline reached, it is taken out: {left}"),
            ),
            (
                DrainStatus { ended: Some(End::Drained), active: 0, inactive: 0, keep: true, ..status() },
                "drained, it stays with weight 0".to_owned(),
            ),
        ] {
            assert_eq!(line(&changed), wanted);
        }
    }

    #[test]
    fn the_template_of_the_bar_is_one() {
        assert!(ProgressStyle::with_template(BAR).is_ok());
    }

    #[test]
    fn persistent_clients_are_spoken_of_while_they_come() {
        assert_eq!(note(&status()), None);
        let persistent = DrainStatus { persistent_clients: true, ..status() };
        assert!(note(&persistent).is_some_and(|note| note.contains("expire_quiescent_template=true")));
        assert_eq!(note(&DrainStatus { ended: Some(End::Drained), ..persistent }), None);
    }

    #[test]
    fn deadlines_are_whole_seconds() {
        assert_eq!(deadline("10m"), Ok(600));
        assert_eq!(deadline("90"), Ok(90));
        assert_eq!(deadline("1h 30m"), Ok(5400));
        for wrong in ["0", "0s", "500ms", "1500ms", "32days", "soon", "-5s"] {
            assert!(deadline(wrong).is_err(), "{wrong}");
        }
    }
}
