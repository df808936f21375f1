//! `directorctl latency`: what the director adds to the way of a packet.

mod record;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use super::values;
use crate::protocol::{Latency, LatencySummary, Request};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Draw the percentiles, as HdrHistogram's plotter does
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Write a log as HdrHistogram's tools read it, all lcores together and each by its tag
    #[arg(long, value_name = "FILE.hlog")]
    hlog: Option<PathBuf>,

    /// Measure from now on, in intervals of this length; without, all since the director started
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    interval: Option<Duration>,

    /// Measure so many intervals; without, until Ctrl-C
    #[arg(long, value_name = "N", requires = "interval", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
}

pub(super) fn run(options: &Options, session: &mut Session) -> Result<(), Failure> {
    let Options { plot, hlog, interval, count } = options;
    if plot.is_some() || hlog.is_some() || interval.is_some() {
        let wanted = record::Wanted {
            plot: plot.as_deref(),
            log: hlog.as_deref(),
            interval: *interval,
            count: *count,
        };
        return record::run(&wanted, session);
    }
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
