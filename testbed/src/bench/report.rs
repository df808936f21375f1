//! What a run found, for machines and for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::case::Case;
use super::exporter::ExporterCost;
use super::machine::Machine;
use super::rig::Sample;
use super::span::median;

/// All figures of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// testpmd on net_pcap with 10,000 flows of UDP (the first group where that was not measured), in Mpps, by
    /// forwarding mode.
    pub floors: BTreeMap<String, f64>,
    /// testpmd on every capture.
    pub floors_by_capture: Vec<Floors>,
    /// The cases.
    pub cases: Vec<CaseReport>,
    /// Cases of fewer connections on the same source as those that no capture holds.
    pub stamped: Vec<CaseReport>,
    /// By method.
    pub new_connections_per_second: BTreeMap<String, f64>,
    /// What became of old connections meanwhile.
    pub new_connections: Vec<Opening>,
    /// Memory of a full table, by method, in bytes.
    pub bytes_per_connection: BTreeMap<String, f64>,
    /// What is disturbed by what, and how much.
    pub disturbances: Vec<Disturbance>,
    /// What being scraped costs.
    pub exporter: Vec<ExporterCost>,
    /// From an operator's edit until every lcore goes by it, in microseconds.
    pub change_visible_us: Option<Percentiles>,
    /// What the director adds to a packet's way, by load.
    pub latency: Vec<Latency>,
    /// How long parts of the run took, in seconds.
    pub seconds: BTreeMap<String, f64>,
    /// The greatest memory of all processes together, in MB: hugepages and resident ordinary memory.
    pub peak_memory_mb: u64,
}

/// testpmd on one capture.
#[derive(Clone, Debug, Serialize)]
pub struct Floors {
    /// Which, as in the names of cases without the method.
    pub capture: String,
    /// Medians in Mpps, by forwarding mode.
    pub mpps: BTreeMap<String, f64>,
}

/// One case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseReport {
    /// `method.traffic.connections.lcores-N`.
    pub name: String,
    /// Packets in a second, in millions; the median.
    pub mpps: f64,
    /// Nanoseconds between two packets.
    pub ns_per_packet: f64,
    /// Rate by that of the floor in the same round; the median.
    pub ratio: f64,
    /// What the ratio is to.
    pub floor: &'static str,
    /// Nanoseconds for each packet above testpmd's `io` (or above the plain forward) in the same round; the median.
    pub ns_above_io: f64,
    /// How often it was measured.
    pub rounds: usize,
    /// The least rate, in Mpps.
    pub min: f64,
    /// The greatest rate, in Mpps.
    pub max: f64,
    /// Every packet of every round is accounted for, and none was lost.
    pub conserved: bool,
    /// Instructions for each packet; nothing where the machine does not count them.
    pub instructions_per_packet: Option<f64>,
}

/// Ratio to testpmd.
pub const FLOOR_5TSWAP: &str = "testpmd 5tswap";
/// Ratio to the plain forward.
pub const FLOOR_PLAIN: &str = "plain L2 forward over the same source";

/// One measurement of a case beside its floors of the same round, in Mpps.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The case.
    pub sample: Sample,
    /// What the ratio is to.
    pub floor: f64,
    /// What `ns_above_io` is above.
    pub io: f64,
}

impl CaseReport {
    /// Medians of these rounds. With N lcores a packet costs N times the time between two packets.
    #[must_use]
    pub fn of(case: &Case, rounds: &[Round], floor: &'static str) -> CaseReport {
        let rates: Vec<f64> = rounds.iter().map(|round| round.sample.mpps()).collect();
        let of_each = |value: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(value).collect::<Vec<_>>());
        let mpps = median(&rates);
        let cost = |mpps: f64| f64::from(case.lcores) * 1000.0 / mpps;
        let counted: Vec<f64> = rounds.iter().filter_map(|r| r.sample.instructions_per_packet).collect();
        CaseReport {
            name: case.to_string(),
            mpps,
            ns_per_packet: 1000.0 / mpps,
            ratio: of_each(&|round| round.sample.mpps() / round.floor),
            floor,
            ns_above_io: of_each(&|round| cost(round.sample.mpps()) - cost(round.io)),
            rounds: rounds.len(),
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            conserved: rounds.iter().all(|round| round.sample.conserved && round.sample.lost == 0),
            instructions_per_packet: (!counted.is_empty()).then(|| median(&counted)),
        }
    }
}

/// Connections that were opened as fast as it goes.
#[derive(Clone, Debug, Serialize)]
pub struct Opening {
    /// By which method.
    pub method: String,
    /// How many in a second; the median.
    pub per_second: f64,
    /// How many were in the table at the end.
    pub opened: u32,
    /// Old ones that expired meanwhile.
    pub expired: u64,
    /// Every SYN opened a connection and left, and no packet is unaccounted for.
    pub conserved: bool,
}

/// A case, undisturbed and disturbed in turn.
#[derive(Clone, Debug, Serialize)]
pub struct Disturbance {
    /// By what.
    pub by: String,
    /// The case.
    pub case: String,
    /// In Mpps.
    pub undisturbed: f64,
    /// In Mpps.
    pub disturbed: f64,
    /// One by the other, of the same round; the median.
    pub ratio: f64,
    /// Nanoseconds for each packet more.
    pub ns_more: f64,
    /// Expired connections, published changes or handed over packets in a second.
    pub events_per_second: f64,
    /// Packets that were lost, by name, in a thousand.
    pub lost_per_mille: f64,
    /// Every packet is accounted for, and none was lost, unless lcores could give each other more than they take.
    pub conserved: bool,
}

/// What a packet's way through the director takes.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Share of what was forwarded when as much came as could.
    pub load_percent: u32,
    /// What was forwarded, in Mpps.
    pub mpps: f64,
    /// Frames that found the ring before the director full, in a thousand.
    pub refused_per_mille: f64,
    /// From when a frame was due until it was handed to the driver, in nanoseconds; `p50` to `p99.99`.
    pub percentiles_ns: BTreeMap<String, f64>,
    /// As the director's own histogram shows it, from receive burst to transmit burst.
    pub own_percentiles_ns: BTreeMap<String, f64>,
}

/// The percentiles that latencies are told by, in ascending order; so are their names.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("p99.99", 99.99)];

/// Of times.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: f64,
    /// Nine of ten are below.
    pub p90: f64,
    /// 99 of a hundred are below.
    pub p99: f64,
    /// The greatest.
    pub max: f64,
}

impl Percentiles {
    /// Of these values; `None` of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Percentiles> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| sorted.get(((sorted.len() - 1) as f64 * share).round() as usize).copied();
        let max = *sorted.last()?;
        Some(Percentiles { p50: at(0.5)?, p90: at(0.9)?, p99: at(0.99)?, max })
    }
}

impl Report {
    /// Whether no packet went unaccounted for.
    #[must_use]
    pub fn is_conserved(&self) -> bool {
        self.cases.iter().chain(&self.stamped).all(|case| case.conserved)
            && self.new_connections.iter().all(|opening| opening.conserved)
            && self.disturbances.iter().all(|disturbance| disturbance.conserved)
            && self.exporter.iter().all(|cost| cost.conserved)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let machine = &self.machine;
        let _ = writeln!(
            text,
            "{}, {} CPUs, {}, Linux {}, {} hugepages of 2 MB\n",
            machine.cpu, machine.cores, machine.dpdk, machine.kernel, machine.hugepages
        );
        let _ = writeln!(text, "{:<28}{:>9}{:>9}{:>9}", "testpmd, Mpps", "io", "macswap", "5tswap");
        for floors in &self.floors_by_capture {
            let _ = write!(text, "{:<28}", floors.capture);
            for mode in super::testpmd::MODES {
                let _ = write!(text, "{:>9.2}", floors.mpps.get(mode).copied().unwrap_or_default());
            }
            text.push('\n');
        }
        self.write_cases(&mut text);
        if !self.new_connections.is_empty() {
            text.push_str("\nnew connections (SYNs of distinct clients, old ones expiring)\n");
        }
        for opening in &self.new_connections {
            let _ = writeln!(
                text,
                "{:<28}{:>9.2} M/s   {} opened, {} expired meanwhile{}",
                opening.method,
                opening.per_second / 1e6,
                opening.opened,
                opening.expired,
                lost(opening.conserved)
            );
        }
        for (method, bytes) in &self.bytes_per_connection {
            let _ = writeln!(text, "{method:<28}{bytes:>9.1} bytes for each connection of a full table");
        }
        if !self.disturbances.is_empty() {
            text.push_str(
                "\ndisturbed by                            Mpps  quiet  ratio  ns more  events/s  lost o/oo\n",
            );
        }
        for d in &self.disturbances {
            let _ = writeln!(
                text,
                "{:<36}{:>8.2}{:>7.2}{:>7.3}{:>9.2}{:>10.0}{}",
                d.by,
                d.disturbed,
                d.undisturbed,
                d.ratio,
                d.ns_more,
                d.events_per_second,
                lost(d.conserved)
            );
        }
        if !self.exporter.is_empty() {
            text.push_str(
                "\nmetrics scraped                         Mpps  quiet  ratio  scrapes/s  ms each\n",
            );
        }
        for cost in &self.exporter {
            let _ = writeln!(
                text,
                "{:<36}{:>8.2}{:>7.2}{:>7.3}{:>11.1}{:>9.2}{}",
                cost.scraped,
                cost.mpps,
                cost.quiet,
                cost.ratio,
                cost.scrapes_per_second,
                cost.scrape_ms,
                lost(cost.conserved)
            );
        }
        if let Some(p) = self.change_visible_us {
            let _ = writeln!(
                text,
                "\na change is visible on all lcores after {:.0} us (p90 {:.0}, p99 {:.0}, max {:.0})",
                p.p50, p.p90, p.p99, p.max
            );
        }
        if !self.latency.is_empty() {
            text.push_str(
                "\nadded latency, us    Mpps    p50    p90     p99    p99.9   p99.99   own p50   own p99\n",
            );
        }
        for latency in &self.latency {
            let us =
                |of: &BTreeMap<String, f64>, name: &str| of.get(name).copied().unwrap_or_default() / 1000.0;
            let seen = |name| us(&latency.percentiles_ns, name);
            let own = |name| us(&latency.own_percentiles_ns, name);
            let _ = writeln!(
                text,
                "at {:>3} % of capacity {:>5.2}{:>7.1}{:>7.1}{:>8.1}{:>9.1}{:>9.1}{:>10.2}{:>10.2}",
                latency.load_percent,
                latency.mpps,
                seen("p50"),
                seen("p90"),
                seen("p99"),
                seen("p99.9"),
                seen("p99.99"),
                own("p50"),
                own("p99")
            );
        }
        let whole: f64 = self.seconds.values().sum();
        let _ = writeln!(text, "\n{whole:.0} s, at most {} MB", self.peak_memory_mb);
        text
    }

    fn write_cases(&self, text: &mut String) {
        for (title, cases) in [("", &self.cases), (" (stamped, to compare with)", &self.stamped)] {
            if cases.is_empty() {
                continue;
            }
            let _ = writeln!(
                text,
                "\n{:<28}{:>9}{:>9}{:>9}{:>10}{:>9}{:>9}{:>8}",
                format!("case{title}"),
                "Mpps",
                "ns",
                "ratio",
                "above io",
                "min",
                "max",
                "instr."
            );
            for case in cases {
                let instructions =
                    case.instructions_per_packet.map_or("-".to_owned(), |count| format!("{count:.0}"));
                let plain = if case.floor == FLOOR_PLAIN { "  to a plain L2 forward" } else { "" };
                let _ = writeln!(
                    text,
                    "{:<28}{:>9.2}{:>9.1}{:>9.3}{:>10.1}{:>9.2}{:>9.2}{:>8}{plain}{}",
                    case.name,
                    case.mpps,
                    case.ns_per_packet,
                    case.ratio,
                    case.ns_above_io,
                    case.min,
                    case.max,
                    instructions,
                    lost(case.conserved)
                );
            }
        }
    }
}

fn lost(conserved: bool) -> &'static str {
    if conserved { "" } else { "  NOT CONSERVED" }
}
