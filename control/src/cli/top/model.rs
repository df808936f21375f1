//! What is known of the director: the last sample, and what changed since the one before.

use std::collections::{BTreeMap, VecDeque};

use super::ask::{News, Sample};
use super::grid::{Cell, Grid, short};
use super::looking::View;
use crate::cli::{names, output};
use crate::protocol::{LatencySummary, LcoreStats, PortStats, ServiceStatus, Stats};

/// Values that a sparkline has room for at most.
const HISTORY: usize = 512;

/// Reasons for packets that are not lost, as docs/reasons.md has them; all others are drops.
const NOT_DROPPED: [&str; 21] = [
    "request_nat",
    "request_dr",
    "request_tunnel",
    "request_bypass",
    "reply_nat",
    "icmp_time_exceeded",
    "icmp_port_unreachable",
    "icmp_too_big",
    "icmp_request",
    "icmp_reply",
    "icmp_tunnel",
    "kernels_own",
    "other_lcore",
    "fragment_elsewhere",
    "fragment_waits",
    "not_ip",
    "group",
    "no_service",
    "no_connection",
    "other_protocol",
    "local_server",
];

/// Whether somebody answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Presence {
    /// Nothing has been heard yet.
    #[default]
    Unknown,
    Here,
    /// For what reason not.
    Away(String),
}

/// What is known of the director.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    pub(super) presence: Presence,
    last: Option<Box<Sample>>,
    /// The statistics of the sample before, of the same director.
    before: Option<Stats>,
    /// Packets from and to clients per second, and connections made per second, the latest last.
    packets: VecDeque<u64>,
    connections: VecDeque<u64>,
}

impl Model {
    /// Something has come.
    pub(super) fn take(&mut self, news: News) {
        let mut sample = match news {
            News::Away(why) => {
                self.presence = Presence::Away(why);
                return;
            }
            News::Sample(sample) => sample,
        };
        self.presence = Presence::Here;
        let last = self.last.take().map(|last| *last);
        // A director that is up for less long than before is another one, which counts from nothing.
        let last = last.filter(|last| last.stats.uptime_ms < sample.stats.uptime_ms);
        let (before, services) = last.map(|last| (last.stats, last.services)).unzip();
        // Those of another view's time are better than none.
        sample.services = sample.services.take().or(services.flatten());
        if let Some(before) = &before {
            let seconds = seconds(before, &sample.stats);
            let (old, new) = (before.counters, sample.stats.counters);
            let packets = |c: crate::protocol::Counters| c.packets_in + c.packets_out;
            keep(&mut self.packets, rate(packets(old), packets(new), seconds));
            keep(&mut self.connections, rate(old.connections, new.connections, seconds));
        } else {
            (self.packets, self.connections) = Default::default();
        }
        self.before = before;
        self.last = Some(sample);
    }

    /// Packets from and to clients per second, the latest last.
    pub(super) fn packets(&self) -> &VecDeque<u64> {
        &self.packets
    }

    /// Connections made per second, the latest last.
    pub(super) fn connections(&self) -> &VecDeque<u64> {
        &self.connections
    }

    /// The whole director in a line.
    pub(super) fn headline(&self) -> String {
        let Some(Sample { stats, .. }) = self.last.as_deref() else { return String::new() };
        let connections: u64 = stats.lcores.iter().map(|lcore| lcore.connections).sum();
        let dropped = |stats: &Stats| stats.lcores.iter().map(|lcore| lcore.dropped).sum();
        let accounted =
            if stats.conserved { "every packet accounted for" } else { "PACKETS UNACCOUNTED FOR" };
        format!(
            "up {}, {} connections, {} packets/s dropped, {accounted}",
            output::clock(stats.uptime_ms),
            short(connections as f64),
            short(self.per_second(stats, dropped)),
        )
    }

    /// What a view shows.
    pub(super) fn grid(&self, view: View) -> Grid {
        let Some(sample) = self.last.as_deref() else { return Grid::default() };
        match view {
            View::Services => services(sample),
            View::Servers => servers(sample),
            View::Lcores => self.lcores(sample),
            View::Ports => self.ports(sample),
            View::Drops => self.drops(sample),
            View::Latency => latency(sample),
        }
    }

    /// How fast a number of the statistics grows; 0 before there are two samples.
    fn per_second(&self, stats: &Stats, number: impl Fn(&Stats) -> u64) -> f64 {
        let Some(before) = &self.before else { return 0.0 };
        rate(number(before), number(stats), seconds(before, stats))
    }

    fn lcores(&self, sample: &Sample) -> Grid {
        let mut grid = Grid::new(&[
            "Lcore",
            "CPU",
            "Received/s",
            "Forwarded/s",
            "Punted/s",
            "Dropped/s",
            "HandedOver/s",
            "Busy%",
            "Conns",
            "Full%",
            "Conserved",
        ]);
        for (n, lcore) in sample.stats.lcores.iter().enumerate() {
            let per_second = |number: fn(&LcoreStats) -> u64| {
                let of = |stats: &Stats| stats.lcores.get(n).map_or(0, number);
                Cell::number(self.per_second(&sample.stats, of))
            };
            let (loops, busy) = match self.before.as_ref().and_then(|before| before.lcores.get(n)) {
                Some(old) => {
                    (lcore.loops.wrapping_sub(old.loops), lcore.busy_loops.wrapping_sub(old.busy_loops))
                }
                None => (lcore.loops, lcore.busy_loops),
            };
            grid.rows.push(vec![
                Cell::number(lcore.lcore.into()),
                Cell::number(lcore.cpu.into()),
                per_second(|lcore| lcore.received),
                per_second(|lcore| lcore.forwarded),
                per_second(|lcore| lcore.punted),
                per_second(|lcore| lcore.dropped),
                per_second(|lcore| lcore.handed_over),
                percent(busy, loops),
                Cell::number(lcore.connections as f64),
                percent(lcore.connections, lcore.capacity),
                Cell::text(if lcore.conserved { "yes" } else { "NO" }),
            ]);
        }
        grid
    }

    fn ports(&self, sample: &Sample) -> Grid {
        let mut grid = Grid::new(&[
            "Port",
            "Mirror",
            "RxPkts/s",
            "RxBit/s",
            "TxPkts/s",
            "TxBit/s",
            "Missed/s",
            "Errors/s",
            "NoMbuf/s",
            "WrongLcore/s",
            "Device",
        ]);
        for (n, port) in sample.stats.ports.iter().enumerate() {
            let per_second = |number: fn(&PortStats) -> u64| {
                let of = |stats: &Stats| stats.ports.get(n).map_or(0, number);
                Cell::number(self.per_second(&sample.stats, of))
            };
            grid.rows.push(vec![
                Cell::number(port.port.into()),
                Cell::text(port.mirror.as_deref().unwrap_or("-")),
                per_second(|port| port.rx_packets),
                per_second(|port| port.rx_bytes.wrapping_mul(8)),
                per_second(|port| port.tx_packets),
                per_second(|port| port.tx_bytes.wrapping_mul(8)),
                per_second(|port| port.rx_missed),
                per_second(|port| port.rx_errors + port.tx_errors),
                per_second(|port| port.rx_no_mbuf),
                per_second(|port| port.wrong_lcore.iter().sum()),
                Cell::text(port.device.as_str()),
            ]);
        }
        grid
    }

    fn drops(&self, sample: &Sample) -> Grid {
        let mut grid = Grid::new(&["Reason", "Dropped/s", "Total"]);
        let now = drops(&sample.stats);
        let before = self.before.as_ref().map(|before| (drops(before), seconds(before, &sample.stats)));
        for (reason, total) in now {
            let per_second = before.as_ref().map_or(0.0, |(before, seconds)| {
                rate(before.get(reason).copied().unwrap_or_default(), total, *seconds)
            });
            grid.rows.push(vec![Cell::text(reason), Cell::number(per_second), Cell::number(total as f64)]);
        }
        grid
    }
}

/// Packets that were lost, by reason, over all lcores.
fn drops(stats: &Stats) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    for (reason, count) in stats.lcores.iter().flat_map(|lcore| &lcore.reasons) {
        if *count > 0 && !NOT_DROPPED.contains(&reason.as_str()) {
            *sums.entry(reason.as_str()).or_insert(0) += count;
        }
    }
    sums
}

fn services(sample: &Sample) -> Grid {
    let mut grid = Grid::new(&[
        "Service",
        "Scheduler",
        "Up",
        "Active",
        "Inactive",
        "Conns/s",
        "InPkts/s",
        "OutPkts/s",
        "InBytes/s",
        "OutBytes/s",
    ]);
    let Some((list, rates)) = &sample.services else { return grid };
    let rates: BTreeMap<_, _> = rates.services.iter().map(|rates| (rates.service, rates.rates)).collect();
    for service in &list.services {
        let rates = rates.get(&service.service).copied().unwrap_or_default();
        let sum = |number: fn(&crate::protocol::ServerStatus) -> u64| {
            Cell::number(service.servers.iter().map(number).sum::<u64>() as f64)
        };
        let up = service.servers.iter().filter(|server| is_up(server)).count();
        grid.rows.push(vec![
            name(service),
            Cell::text(names::scheduling(service)),
            Cell::Number(up as f64, format!("{up}/{}", service.servers.len())),
            sum(|server| server.active),
            sum(|server| server.inactive),
            Cell::number(rates.cps as f64),
            Cell::number(rates.inpps as f64),
            Cell::number(rates.outpps as f64),
            Cell::number(rates.inbps as f64),
            Cell::number(rates.outbps as f64),
        ]);
    }
    grid
}

/// Whether it gets new connections, as far as weight and health go.
fn is_up(server: &crate::protocol::ServerStatus) -> bool {
    use crate::health::Standing::{Held, In, Ramping};
    server.weight.0 > 0 && server.health.is_none_or(|standing| matches!(standing, In | Ramping | Held))
}

fn servers(sample: &Sample) -> Grid {
    let mut grid = Grid::new(&[
        "Server",
        "Service",
        "Forward",
        "Weight",
        "Active",
        "Inactive",
        "Conns/s",
        "InPkts/s",
        "OutPkts/s",
        "Health",
    ]);
    let Some((list, rates)) = &sample.services else { return grid };
    let rates: BTreeMap<_, _> = rates
        .services
        .iter()
        .flat_map(|rates| rates.servers.iter().map(|server| ((rates.service, server.address), server.rates)))
        .collect();
    for service in &list.services {
        for server in &service.servers {
            let rates = rates.get(&(service.service, server.address)).copied().unwrap_or_default();
            grid.rows.push(vec![
                Cell::text(server.address.to_string()),
                name(service),
                Cell::text(names::method(server.method)),
                Cell::number(server.weight.0.into()),
                Cell::number(server.active as f64),
                Cell::number(server.inactive as f64),
                Cell::number(rates.cps as f64),
                Cell::number(rates.inpps as f64),
                Cell::number(rates.outpps as f64),
                Cell::text(names::condition(server)),
            ]);
        }
    }
    grid
}

fn name(service: &ServiceStatus) -> Cell {
    Cell::text(format!("{} {}", names::kind(service.service), names::service(service.service)))
}

fn latency(sample: &Sample) -> Grid {
    let mut grid =
        Grid::new(&["Lcore", "Packets", "P50", "P90", "P99", "P99.9", "P99.99", "Max", "Min", "Mean"]);
    for summary in sample.latency.lcores.iter().chain([&sample.latency.all]) {
        let time = |ns: u64| match summary.count {
            0 => Cell::Number(0.0, "-".to_owned()),
            _ => Cell::Number(ns as f64, output::duration(ns)),
        };
        let LatencySummary { lcore, count, .. } = *summary;
        let name = lcore.map_or_else(|| "all".to_owned(), |lcore| lcore.to_string());
        grid.rows.push(vec![
            Cell::Number(lcore.map_or(f64::INFINITY, f64::from), name),
            Cell::number(count as f64),
            time(summary.p50_ns),
            time(summary.p90_ns),
            time(summary.p99_ns),
            time(summary.p99_9_ns),
            time(summary.p99_99_ns),
            time(summary.max_ns),
            time(summary.min_ns),
            time(summary.mean_ns),
        ]);
    }
    grid
}

fn percent(part: u64, whole: u64) -> Cell {
    let percent = if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    Cell::Number(percent, format!("{percent:.1}"))
}

/// How long there is between two samples of one director, by its own clock.
fn seconds(before: &Stats, now: &Stats) -> f64 {
    now.uptime_ms.saturating_sub(before.uptime_ms).max(1) as f64 / 1000.0
}

/// Counters that were zeroed meanwhile have not grown.
fn rate(before: u64, now: u64, seconds: f64) -> f64 {
    now.saturating_sub(before) as f64 / seconds
}

fn keep(history: &mut VecDeque<u64>, value: f64) {
    if history.len() == HISTORY {
        history.pop_front();
    }
    history.push_back(value.round() as u64);
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub(super) mod tests;
