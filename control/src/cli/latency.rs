//! `directorctl latency`: what the director adds to the way of a packet.

use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use crate::protocol::{Latency, LatencySummary, Request};

pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::Latency {}, text).map(|_| ())
}

fn text(latency: &Latency) -> String {
    let titles = ["Lcore", "Packets", "Min", "Mean", "P50", "P90", "P99", "P99.9", "P99.99", "Max"];
    let mut table = Table::new(&titles.map(|title| (title, Side::Right)));
    for summary in latency.lcores.iter().chain([&latency.all]) {
        table.row(row(summary));
    }
    table.take()
}

fn row(summary: &LatencySummary) -> Vec<String> {
    let name = summary.lcore.map_or_else(|| "all".to_owned(), |lcore| lcore.to_string());
    let times = [
        summary.min_ns,
        summary.mean_ns,
        summary.p50_ns,
        summary.p90_ns,
        summary.p99_ns,
        summary.p99_9_ns,
        summary.p99_99_ns,
        summary.max_ns,
    ];
    // Without a packet there is no time to show; a row of zeros would look like a very fast director.
    let show = |time| if summary.count == 0 { "-".to_owned() } else { output::duration(time) };
    [name, summary.count.to_string()].into_iter().chain(times.map(show)).collect()
}
