//! What the demo shows: on a terminal a table that is redrawn in place, else plain lines.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use control::protocol::{Latency, ServiceList};

use crate::lab::config;
use crate::lab::directorctl::Directorctl;

/// How often the table is redrawn.
const REDRAW: Duration = Duration::from_millis(300);
/// How often a plain line tells how it goes.
const PLAIN: Duration = Duration::from_secs(3);
/// Rows that a terminal must have for the table.
const ROWS: u16 = 26;
/// Width of the progress bar in characters.
const BAR: usize = 30;

/// The screen, shared by the threads that send requests and the one that draws.
#[derive(Debug)]
pub(super) struct Screen {
    begun: Instant,
    columns: Option<usize>,
    planned: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    ended: AtomicBool,
    drawing: Mutex<Drawing>,
}

#[derive(Debug, Default)]
struct Drawing {
    title: String,
    /// The rows on the screen that the next picture replaces.
    table: Vec<String>,
}

impl Screen {
    /// A screen for a demo that began at `begun` and means to send `planned` requests.
    pub(super) fn new(begun: Instant, planned: u64) -> Self {
        Screen {
            begun,
            columns: terminal(),
            planned: AtomicU64::new(planned),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            drawing: Mutex::default(),
        }
    }

    /// Counts one request.
    pub(super) fn count(&self, answered: bool) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if !answered {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Plans for more requests than was thought.
    pub(super) fn plan_more(&self, requests: u64) {
        self.planned.fetch_add(requests, Ordering::Relaxed);
    }

    /// Requests answered rightly, and others.
    pub(super) fn requests(&self) -> (u64, u64) {
        let failed = self.failed.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed) - failed, failed)
    }

    /// Begins a scene; its title stands above the table.
    pub(super) fn scene(&self, title: &str) {
        self.lock().title = title.to_owned();
        self.say(&format!("== {title}"));
    }

    /// Prints a line that stays.
    pub(super) fn say(&self, line: &str) {
        let mut drawing = self.lock();
        let table = std::mem::take(&mut drawing.table);
        let mut text = erase(table.len());
        let _ = writeln!(text, "[{:5.1} s] {line}", self.begun.elapsed().as_secs_f64());
        drawing.table = table;
        for row in &drawing.table {
            let _ = writeln!(text, "{row}");
        }
        print(&text);
    }

    /// Draws until [`Self::end`] is called; to be run on a thread of its own.
    pub(super) fn keep_drawing(&self, ctl: &Directorctl) {
        let pause = if self.columns.is_some() { REDRAW } else { PLAIN };
        let mut next = Instant::now() + pause;
        while !self.ended.load(Ordering::Acquire) {
            if Instant::now() < next {
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            next = Instant::now() + pause;
            // A picture that cannot be had is left out; what counts is checked elsewhere.
            let (Ok(services), Ok(latency)) = (ctl.services(), ctl.latency()) else { continue };
            match self.columns {
                Some(columns) => self.draw(columns, &services, &latency),
                None => self.say(&format!("{}; {}", self.progress(), percentiles(&latency))),
            }
        }
    }

    /// Ends the drawing; the last table stays.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.lock().table.clear();
    }

    fn draw(&self, columns: usize, services: &ServiceList, latency: &Latency) {
        let mut drawing = self.lock();
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        let mut table = vec![format!("-- {}", drawing.title), self.progress()];
        table.extend(rows(services));
        table.push(format!("director's own {}", percentiles(latency)));
        for row in &mut table {
            *row = row.chars().take(columns).collect();
        }
        let mut text = erase(drawing.table.len());
        for row in &table {
            let _ = writeln!(text, "{row}");
        }
        drawing.table = table;
        print(&text);
    }

    fn progress(&self) -> String {
        let (answered, failed) = self.requests();
        let planned = self.planned.load(Ordering::Relaxed).max(1);
        let part = ((answered + failed) as f64 / planned as f64).min(1.0);
        let full = (part * BAR as f64) as usize;
        format!(
            "[{}{}] {:3.0} %  {answered} answered, {failed} failed",
            "#".repeat(full),
            "-".repeat(BAR - full),
            part * 100.0
        )
    }

    fn lock(&self) -> MutexGuard<'_, Drawing> {
        self.drawing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The width of the terminal on stdout; `None` if there is none, or none that the table fits on.
fn terminal() -> Option<usize> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() || std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    (size.ws_row >= ROWS && size.ws_col >= 60).then_some(usize::from(size.ws_col))
}

/// Moves up over so many rows and clears what follows.
fn erase(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\x1b[{rows}A\x1b[J") }
}

fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever closed our output does not want to see it.
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

/// The services and their real servers, one a row.
fn rows(list: &ServiceList) -> Vec<String> {
    let mut rows = vec![format!(
        "{:<28} {:<16} {:>6} {:>6} {:>11} {:>10} {:>11}",
        "service", "real server", "weight", "active", "connections", "packets in", "packets out"
    )];
    for service in &list.services {
        let mut title = format!("{} {}", service.service, config::scheduler(service.scheduler));
        for server in &service.servers {
            rows.push(format!(
                "{title:<28} {:<16} {:>6} {:>6} {:>11} {:>10} {:>11}",
                server.address.to_string(),
                server.weight.0,
                server.active,
                server.counters.connections,
                server.counters.packets_in,
                server.counters.packets_out
            ));
            title = format!("  {}", config::method(server.method));
        }
    }
    rows
}

/// The latency of all lcores together in one line.
pub(super) fn percentiles(latency: &Latency) -> String {
    let all = &latency.all;
    format!(
        "latency: p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {} ({} packets)",
        time(all.p50_ns),
        time(all.p90_ns),
        time(all.p99_ns),
        time(all.p99_9_ns),
        time(all.p99_99_ns),
        time(all.max_ns),
        all.count
    )
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000 => format!("{nanoseconds} ns"),
        10_000..10_000_000 => format!("{:.1} us", nanoseconds as f64 / 1e3),
        _ => format!("{:.1} ms", nanoseconds as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_answered_from_failed() {
        let screen = Screen::new(Instant::now(), 4);
        screen.count(true);
        screen.count(false);
        assert!(screen.progress().ends_with("]  50 %  1 answered, 1 failed"), "{}", screen.progress());
        screen.plan_more(4);
        assert!(screen.progress().contains(" 25 %"), "{}", screen.progress());
        assert_eq!(screen.requests(), (1, 1));
    }

    #[test]
    fn times_have_a_fitting_unit() {
        assert_eq!([time(812), time(45_210), time(12_300_000)], ["812 ns", "45.2 us", "12.3 ms"]);
    }

    #[test]
    fn erasing_goes_up_over_what_was_drawn() {
        assert_eq!(erase(0), "");
        assert_eq!(erase(3), "\x1b[3A\x1b[J");
    }
}
