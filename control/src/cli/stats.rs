//! `directorctl stats`: what lcores, ports and the slow path count.

use std::collections::BTreeMap;

use clap::Args;

use super::names;
use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use super::values;
use crate::model::ServiceKey;
use crate::protocol::{LcoreStats, PortStats, RateList, Rates, Request, Stats};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Options {
    /// Show rates of services and real servers, per second and smoothed, as ipvsadm -L --rate
    #[arg(long)]
    rate: bool,

    /// Let the counters of services and real servers begin at zero, as ipvsadm -Z
    #[arg(long, conflicts_with = "rate")]
    zero: bool,

    /// With --zero: only those of this service, tcp,10.99.0.1:80
    #[arg(long, value_name = "SERVICE", requires = "zero", value_parser = values::service)]
    service: Option<ServiceKey>,
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    match options {
        Options { zero: true, service, .. } => session.change(&Request::StatsZero { service }),
        Options { rate: true, .. } => session.show(&Request::Rates {}, rates).map(|_| ()),
        _ => session.show(&Request::Stats {}, text).map(|_| ()),
    }
}

/// As `ipvsadm -Ln --rate --exact`, with a last row of all together.
fn rates(list: &RateList) -> String {
    let titles = ["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"].map(|title| (title, Side::Right));
    let head = [("Prot", Side::Left), ("LocalAddress:Port", Side::Left)];
    let mut table = Table::new(&[&head[..], &titles[..]].concat());
    let row = |first: &str, address: String, rates: &Rates| {
        let numbers = [rates.cps, rates.inpps, rates.outpps, rates.inbps, rates.outbps];
        [first.to_owned(), address].into_iter().chain(numbers.map(|number| number.to_string()))
    };
    table.row(["  ->".to_owned(), "RemoteAddress:Port".to_owned()]);
    for service in &list.services {
        let (kind, name) = (names::kind(service.service), names::service(service.service));
        table.row(row(kind, name, &service.rates));
        for server in &service.servers {
            table.row(row("  ->", server.address.to_string(), &server.rates));
        }
    }
    table.row(row("All", String::new(), &list.all));
    table.take()
}

/// What all services have together, since the start and per second.
fn together(stats: &Stats) -> String {
    let titles = ["Services", "Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"];
    let mut table =
        Table::new(&titles.map(|title| (title, if title == "Services" { Side::Left } else { Side::Right })));
    let Stats { counters: c, rates: r, .. } = stats;
    for (name, numbers) in [
        ("in all", [c.connections, c.packets_in, c.packets_out, c.bytes_in, c.bytes_out]),
        ("per second", [r.cps, r.inpps, r.outpps, r.inbps, r.outbps]),
    ] {
        table.row([name.to_owned()].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    table.take()
}

fn text(stats: &Stats) -> String {
    let accounted = if stats.conserved { "every packet accounted for" } else { "PACKETS UNACCOUNTED FOR" };
    let mut sections = vec![format!("Up {}, {accounted}\n", output::clock(stats.uptime_ms))];
    sections.push(lcores(&stats.lcores));
    if let Some(reasons) = reasons(&stats.lcores) {
        sections.push(reasons);
    }
    sections.push(together(stats));
    sections.push(ports(&stats.ports));
    if let Some(queues) = wrong_lcores(&stats.ports) {
        sections.push(queues);
    }
    if !stats.slow_path.is_empty() {
        sections.push(named("Slow path", &stats.slow_path));
    }
    sections.join("\n")
}

fn lcores(lcores: &[LcoreStats]) -> String {
    let titles = [
        "Lcore",
        "CPU",
        "Received",
        "TakenOver",
        "Forwarded",
        "HandedOver",
        "Punted",
        "Dropped",
        "Held",
        "Pieces",
        "FromKernel",
        "KernelLost",
        "Conns",
        "Capacity",
        "Busy%",
        "Conserved",
    ];
    let mut table = Table::new(&titles.map(|title| (title, Side::Right)));
    for lcore in lcores {
        let busy = match lcore.loops {
            0 => "-".to_owned(),
            loops => format!("{:.1}", lcore.busy_loops as f64 * 100.0 / loops as f64),
        };
        let numbers = [
            u64::from(lcore.lcore),
            u64::from(lcore.cpu),
            lcore.received,
            lcore.taken_over,
            lcore.forwarded,
            lcore.handed_over,
            lcore.punted,
            lcore.dropped,
            lcore.held,
            lcore.pieces,
            lcore.from_kernel,
            lcore.from_kernel_lost,
            lcore.connections,
            lcore.capacity,
        ];
        let conserved = if lcore.conserved { "yes" } else { "NO" };
        table.row(numbers.iter().map(u64::to_string).chain([busy, conserved.to_owned()]));
    }
    table.take()
}

/// Drops by reason, summed over the lcores; none if nothing was dropped.
fn reasons(lcores: &[LcoreStats]) -> Option<String> {
    let mut sums = BTreeMap::new();
    for (reason, count) in lcores.iter().flat_map(|lcore| &lcore.reasons).filter(|(_, count)| **count > 0) {
        *sums.entry(reason.clone()).or_insert(0u64) += count;
    }
    (!sums.is_empty()).then(|| named("Packets because", &sums))
}

fn ports(ports: &[PortStats]) -> String {
    let right = [
        "RxPkts",
        "RxBytes",
        "TxPkts",
        "TxBytes",
        "RxMissed",
        "RxErrors",
        "RxNoMbuf",
        "TxErrors",
        "WrongLcore",
    ];
    let mut head = vec![("Port", Side::Right)];
    head.extend(["Device", "Mirror", "MAC", "RSS"].map(|title| (title, Side::Left)));
    head.extend(right.map(|title| (title, Side::Right)));
    let mut table = Table::new(&head);
    for port in ports {
        let words = [
            port.port.to_string(),
            port.device.clone(),
            port.mirror.clone().unwrap_or_else(|| "-".to_owned()),
            port.mac.clone(),
            port.rss.clone(),
        ];
        let numbers = [
            port.rx_packets,
            port.rx_bytes,
            port.tx_packets,
            port.tx_bytes,
            port.rx_missed,
            port.rx_errors,
            port.rx_no_mbuf,
            port.tx_errors,
            port.wrong_lcore.iter().sum(),
        ];
        table.row(words.into_iter().chain(numbers.iter().map(u64::to_string)));
    }
    table.take()
}

/// Receive queues that packets arrived at the wrong lcore by; none if there is no such queue.
fn wrong_lcores(ports: &[PortStats]) -> Option<String> {
    let mut table = Table::new(&["Port", "RxQueue", "WrongLcore"].map(|title| (title, Side::Right)));
    let mut any = false;
    for port in ports {
        for (queue, count) in port.wrong_lcore.iter().enumerate().filter(|(_, count)| **count > 0) {
            any = true;
            table.row([port.port.to_string(), queue.to_string(), count.to_string()]);
        }
    }
    any.then(|| table.take())
}

fn named(title: &str, counts: &BTreeMap<String, u64>) -> String {
    let mut table = Table::new(&[(title, Side::Left), ("Count", Side::Right)]);
    for (name, count) in counts {
        table.row([name.clone(), count.to_string()]);
    }
    table.take()
}
