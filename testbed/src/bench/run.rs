//! The run: groups of cases, round after round, then what is no case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use director::pipeline::owner;

use super::case::{Case, Direction, Method, Traffic, short};
use super::flows::{self, Order, Target, Templates};
use super::hugepages::Hugepages;
use super::job::{Job, Outcome, Setup, Source};
use super::machine::Machine;
use super::plan::{Group, Plan};
use super::process::Director;
use super::report::{
    CaseReport, Disturbance, FLOOR_5TSWAP, FLOOR_PLAIN, Floors, Latency, Opening, PERCENTILES, Percentiles,
    Report, Round,
};
use super::rig::Sample;
use super::span::{Span, median};
use super::testpmd::{Ground, MODES, Testpmd};
use super::{capture, exporter, pcap_device};
use crate::error::{Context as _, Result};
use crate::fail;

/// Mbufs beside those that hold a capture.
const WORKING_MBUFS: u32 = 16_384;
/// Bytes that an mbuf takes.
const MBUF_BYTES: u64 = 2432;
/// EAL, queues and rings of one process, in MB.
const GROUND_MB: u64 = 96;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How much.
    pub plan: Plan,
    /// In ordinary memory.
    pub no_huge: bool,
    /// Only groups with a case whose name contains this, and other parts whose name does.
    pub only: Option<String>,
}

/// Measures.
///
/// # Errors
/// When something cannot be measured. Figures that are bad are no error.
pub fn run(options: &Options) -> Result<Report> {
    let mut plan = options.plan.clone();
    if let Some(text) = &options.only {
        plan.only(text);
    }
    let _pages = if options.no_huge { None } else { Some(Hugepages::reserve(memory_mb(&plan))?) };
    let directory = tempfile::Builder::new().prefix("director-bench-").tempdir();
    let directory = directory.context(|| "cannot make a directory for captures")?;
    let pages = if options.no_huge { 0 } else { Hugepages::total()? };
    let mut run = Run {
        report: Report {
            machine: Machine::read(director::dpdk::Eal::version(), pages)?,
            floors: BTreeMap::new(),
            floors_by_capture: Vec::new(),
            cases: Vec::new(),
            stamped: Vec::new(),
            new_connections_per_second: BTreeMap::new(),
            new_connections: Vec::new(),
            bytes_per_connection: BTreeMap::new(),
            disturbances: Vec::new(),
            exporter: Vec::new(),
            change_visible_us: None,
            latency: Vec::new(),
            seconds: BTreeMap::new(),
            peak_memory_mb: 0,
        },
        plan,
        no_huge: options.no_huge,
        directory: directory.path().to_owned(),
    };
    for group in run.plan.groups.clone() {
        run.timed(&format!("{} {}", capture_name(&group), way(group.direction)), |run| run.group(&group))?;
    }
    if !run.plan.stamped.is_empty() {
        run.timed("stamped", Run::stamped)?;
    }
    let wanted = |part: &str| options.only.as_ref().is_none_or(|text| part.contains(text.as_str()));
    let parts: [(&str, Part); 5] = [
        ("new connections and memory", Run::openings),
        ("changes and expiry", Run::disturbances),
        ("hand-over", Run::hand_over),
        ("latency", Run::latency),
        ("exporter", Run::exporter),
    ];
    for (name, part) in parts.into_iter().filter(|(name, _)| wanted(name)) {
        run.timed(name, part)?;
    }
    Ok(run.report)
}

/// Hugepages that the greatest group needs: its capture in both processes, and a table.
fn memory_mb(plan: &Plan) -> u64 {
    let capture = plan.groups.iter().map(|group| group.connections).max().unwrap_or(0).max(plan.disturbed);
    let captures = (2 * u64::from(capture + WORKING_MBUFS) * MBUF_BYTES) >> 20;
    let stamped = plan.stamped.iter().map(|s| s.1).max().unwrap_or(0).max(plan.open.0 + plan.open.1);
    let table = |connections: u32| (u64::from(connections) * 100) >> 20;
    (captures + table(capture)).max(table(stamped)) + 3 * GROUND_MB
}

fn capture_name(group: &Group) -> String {
    let traffic = group.traffic;
    format!("{traffic}.{}.lcores-{}", short(group.connections), group.lcores)
}

fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "request",
        Direction::Reply => "reply",
    }
}

/// What is measured beside the cases.
type Part = fn(&mut Run) -> Result<()>;

struct Run {
    plan: Plan,
    no_huge: bool,
    directory: PathBuf,
    report: Report,
}

impl Run {
    fn timed(&mut self, what: &str, part: impl FnOnce(&mut Run) -> Result<()>) -> Result<()> {
        let begun = Instant::now();
        eprint!("{what} ... ");
        part(self)?;
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{seconds:.1} s");
        self.report.seconds.insert(what.to_owned(), seconds);
        Ok(())
    }

    /// A capture of the connections of each lcore.
    fn captures(&self, group: &Group) -> Result<Vec<String>> {
        let templates = Templates::new(group.traffic, group.direction, flows::ACK, Target::Each);
        let lcore_of = |n: u32| {
            let (client, port) = flows::client(n);
            owner::owner(client.into(), port, group.lcores).0
        };
        (0..group.lcores)
            .map(|lcore| {
                let path = self.directory.join(format!("{lcore}.pcap"));
                let round = Order::new(group.connections).take(group.connections as usize);
                capture::write(&path, &templates, round.filter(|&n| lcore_of(n) == lcore))?;
                text_of(&path)
            })
            .collect()
    }

    fn setup(&self, source: Source, lcores: u8, captured: u32) -> Setup {
        let mbufs = captured + WORKING_MBUFS * u32::from(lcores);
        Setup { source, lcores, mbufs, no_huge_mb: self.no_huge_mb(mbufs) }
    }

    fn no_huge_mb(&self, mbufs: u32) -> Option<u32> {
        let megabytes = ((u64::from(mbufs) * MBUF_BYTES) >> 20) + GROUND_MB;
        self.no_huge.then_some(megabytes as u32)
    }

    fn group(&mut self, group: &Group) -> Result<()> {
        let files = self.captures(group)?;
        let setup = self.setup(Source::Pcap(files.clone()), group.lcores, group.connections);
        let ground = Ground {
            device: pcap_device(&files),
            lcores: group.lcores,
            mbufs: setup.mbufs,
            no_huge_mb: setup.no_huge_mb,
        };
        let log = self.directory.join("testpmd.log");
        // testpmd loads its capture while the director loads its own.
        let start = || Ok((Testpmd::start(&ground, &log)?, Director::start(&setup)?));
        let cases = group.cases();
        let mut floors: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut rounds: Vec<Vec<Round>> = cases.iter().map(|_| Vec::new()).collect();
        let mut running = None;
        for _ in 0..self.plan.rounds {
            // Where a process has its memory makes it faster or slower for as long as it lives.
            if group.connections <= self.plan.restarted_upto {
                running = None;
            }
            let (testpmd, director) = match &mut running {
                Some(running) => running,
                none => none.insert(start()?),
            };
            for mode in MODES {
                let mpps = testpmd.measure(mode, self.plan.span)? / 1e6;
                floors.entry(mode).or_default().push(mpps);
            }
            let last = |mode: &str| floors[mode].last().copied().unwrap_or_default();
            for (case, rounds) in cases.iter().zip(&mut rounds) {
                let sample = forward(director, case, self.plan.span)?;
                rounds.push(Round { sample, floor: last("5tswap"), io: last("io") });
            }
        }
        self.report.peak_memory_mb = self.report.peak_memory_mb.max(memory_in_use_mb());
        let reports =
            cases.iter().zip(&rounds).map(|(case, rounds)| CaseReport::of(case, rounds, FLOOR_5TSWAP));
        self.report.cases.extend(reports);
        let mpps: BTreeMap<String, f64> =
            floors.iter().map(|(mode, values)| ((*mode).to_owned(), median(values))).collect();
        let usual = (Traffic::Udp, 10_000, 1, Direction::Request);
        let here = (group.traffic, group.connections, group.lcores, group.direction);
        if self.report.floors.is_empty() || here == usual {
            self.report.floors.clone_from(&mpps);
        }
        let capture = format!("{} {}", capture_name(group), way(group.direction));
        self.report.floors_by_capture.push(Floors { capture, mpps });
        Ok(())
    }

    /// Cases that no capture holds, and smaller ones on the same source.
    fn stamped(&mut self) -> Result<()> {
        let mut director = Director::start(&self.setup(Source::Stamped, 1, 0))?;
        let greatest = self.plan.stamped.iter().map(|s| s.1).max().unwrap_or(0);
        for (traffic, connections) in self.plan.stamped.clone() {
            for direction in [Direction::Request, Direction::Reply] {
                let group = Group { traffic, direction, connections, lcores: 1 };
                for case in group.cases() {
                    let mut rounds = Vec::new();
                    for _ in 0..self.plan.stamped_rounds {
                        let span = self.plan.span;
                        let job = Job::Plain { traffic, direction, connections, span };
                        let floor = sample(director.ask(&job)?)?.mpps();
                        let sample = forward(&mut director, &case, span)?;
                        rounds.push(Round { sample, floor, io: floor });
                    }
                    let list = if connections == greatest || traffic == Traffic::UdpFragments {
                        &mut self.report.cases
                    } else {
                        &mut self.report.stamped
                    };
                    list.push(CaseReport::of(&case, &rounds, FLOOR_PLAIN));
                }
            }
        }
        self.report.peak_memory_mb = self.report.peak_memory_mb.max(memory_in_use_mb());
        Ok(())
    }

    fn openings(&mut self) -> Result<()> {
        let mut director = Director::start(&self.setup(Source::Stamped, 1, 0))?;
        let (old, upto) = self.plan.open;
        for (name, method) in [("dr", Method::Dr), ("tun", Method::Tun), ("nat", Method::NatRequest)] {
            let (mut rates, mut expired_then, mut all_conserved) = (Vec::new(), Vec::new(), true);
            for _ in 0..self.plan.stamped_rounds {
                match director.ask(&Job::Open { method, old, upto })? {
                    Outcome::Opened { per_second, expired, conserved } => {
                        rates.push(per_second);
                        expired_then.push(expired as f64);
                        all_conserved &= conserved;
                    }
                    other => fail!("new connections gave {other:?}"),
                }
            }
            let per_second = median(&rates);
            self.report.new_connections_per_second.insert(name.to_owned(), per_second);
            self.report.new_connections.push(Opening {
                method: name.to_owned(),
                per_second,
                opened: upto,
                expired: median(&expired_then) as u64,
                conserved: all_conserved,
            });
            match director.ask(&Job::Memory { method })? {
                Outcome::Bytes(bytes) => self.report.bytes_per_connection.insert(name.to_owned(), bytes),
                other => fail!("memory gave {other:?}"),
            };
        }
        self.report.peak_memory_mb = self.report.peak_memory_mb.max(memory_in_use_mb());
        Ok(())
    }

    /// A case undisturbed and disturbed in turn.
    fn disturbances(&mut self) -> Result<()> {
        let case =
            Case { method: Method::Dr, traffic: Traffic::Tcp, connections: self.plan.disturbed, lcores: 1 };
        let group = Group {
            traffic: case.traffic,
            direction: Direction::Request,
            connections: case.connections,
            lcores: 1,
        };
        let files = self.captures(&group)?;
        let mut director = Director::start(&self.setup(Source::Pcap(files), 1, case.connections))?;
        let (services, swap) = (self.plan.services, self.plan.swap);
        for (by, services, per_second) in [
            ("1000 weight changes a second".to_owned(), 0, 1000),
            (format!("the same, {services} services"), services, 1000),
        ] {
            let job = |per_second| Job::Swap { case, services, per_second, span: swap };
            self.disturb(&mut director, by, &case, 1, swap, &job(0), &job(per_second))?;
        }
        let span = Span { run_ms: self.plan.span.run_ms * 2, ..self.plan.span };
        let job = |per_second| Job::Expire { case, per_second, span };
        let (rounds, by) = (self.plan.rounds, "1000000 connections a second expire".to_owned());
        self.disturb(&mut director, by, &case, rounds, span, &job(0), &job(1_000_000))?;
        match director.ask(&Job::Change { services, changes: self.plan.changes, case })? {
            Outcome::Times(times) => self.report.change_visible_us = Percentiles::of(&times),
            other => fail!("changes gave {other:?}"),
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one call of each kind
    fn disturb(
        &mut self,
        director: &mut Director,
        by: String,
        case: &Case,
        rounds: u32,
        span: Span,
        quiet: &Job,
        job: &Job,
    ) -> Result<()> {
        let mut pairs = Vec::new();
        let mut happened = Vec::new();
        for _ in 0..rounds {
            let (before, _) = disturbed(director.ask(quiet)?)?;
            let (during, events) = disturbed(director.ask(job)?)?;
            pairs.push((before, during));
            happened.push(events as f64 * 1000.0 / span.run_ms as f64);
        }
        let found = disturbance(by, case, &pairs, median(&happened), Losses::None);
        self.report.disturbances.push(found);
        Ok(())
    }

    /// Latency at shares of what goes when as much comes as can.
    fn latency(&mut self) -> Result<()> {
        let case =
            Case { method: Method::Dr, traffic: Traffic::Udp, connections: self.plan.disturbed, lcores: 1 };
        let mut director = Director::start(&self.setup(Source::Ring, 2, 0))?;
        let mut pace = |mpps| match director.ask(&Job::Pace { case, mpps, span: self.plan.pace })? {
            Outcome::Paced { sample, refused, seen_ns, own_ns } => Ok((sample, refused, seen_ns, own_ns)),
            other => fail!("a pace gave {other:?}"),
        };
        let capacity = pace(0.0)?.0.mpps();
        for load_percent in [10, 50, 80, 100] {
            let (sample, refused, seen_ns, own_ns) = pace(capacity * f64::from(load_percent) / 100.0)?;
            let named = |values: Vec<f64>| {
                PERCENTILES.iter().map(|(name, _)| (*name).to_owned()).zip(values).collect()
            };
            self.report.latency.push(Latency {
                load_percent,
                mpps: sample.mpps(),
                refused_per_mille: refused as f64 * 1000.0 / (sample.whole + refused).max(1) as f64,
                percentiles_ns: named(seen_ns),
                own_percentiles_ns: named(own_ns),
            });
        }
        Ok(())
    }

    /// A whole director, scraped and not, in turn.
    fn exporter(&mut self) -> Result<()> {
        let span = std::time::Duration::from_millis(self.plan.watched_ms);
        self.report.exporter = exporter::measure(&self.directory, self.plan.rounds, span)?;
        Ok(())
    }

    /// Two lcores whose captures are right, and exchanged: every packet comes to the wrong lcore.
    fn hand_over(&mut self) -> Result<()> {
        let lcores = 2;
        let case =
            Case { method: Method::Dr, traffic: Traffic::Udp, connections: self.plan.disturbed, lcores };
        let group = Group {
            traffic: case.traffic,
            direction: Direction::Request,
            connections: case.connections,
            lcores,
        };
        let mut files = self.captures(&group)?;
        let mut right = Director::start(&self.setup(Source::Pcap(files.clone()), lcores, case.connections))?;
        files.reverse();
        let mut wrong = Director::start(&self.setup(Source::Pcap(files), lcores, case.connections))?;
        let mut pairs = Vec::new();
        for _ in 0..self.plan.rounds {
            let before = forward(&mut right, &case, self.plan.span)?;
            pairs.push((before, forward(&mut wrong, &case, self.plan.span)?));
        }
        let rates: Vec<f64> = pairs
            .iter()
            .map(|(_, during)| during.handed_over as f64 * 1e9 / during.nanoseconds.max(1) as f64)
            .collect();
        let by = "every packet at the wrong lcore".to_owned();
        // Each lcore takes from its port whatever it can, so that the other's ring may overflow: by name.
        let found = disturbance(by, &case, &pairs, median(&rates), Losses::ByName);
        self.report.disturbances.push(found);
        Ok(())
    }
}

/// What may be lost in a disturbed run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    None,
    ByName,
}

fn disturbance(
    by: String,
    case: &Case,
    pairs: &[(Sample, Sample)],
    events_per_second: f64,
    losses: Losses,
) -> Disturbance {
    let of_each =
        |value: &dyn Fn(&(Sample, Sample)) -> f64| median(&pairs.iter().map(value).collect::<Vec<_>>());
    let cost = |sample: &Sample| f64::from(case.lcores) * 1000.0 / sample.mpps();
    Disturbance {
        by,
        case: case.to_string(),
        undisturbed: of_each(&|(before, _)| before.mpps()),
        disturbed: of_each(&|(_, during)| during.mpps()),
        ratio: of_each(&|(before, during)| during.mpps() / before.mpps()),
        ns_more: of_each(&|(before, during)| cost(during) - cost(before)),
        events_per_second,
        lost_per_mille: of_each(&|(_, during)| during.lost as f64 * 1000.0 / during.whole.max(1) as f64),
        conserved: pairs
            .iter()
            .flat_map(|(before, during)| [(before, Losses::None), (during, losses)])
            .all(|(sample, losses)| sample.conserved && (sample.lost == 0 || losses == Losses::ByName)),
    }
}

fn forward(director: &mut Director, case: &Case, span: Span) -> Result<Sample> {
    sample(director.ask(&Job::Forward { case: *case, span })?)
}

fn sample(outcome: Outcome) -> Result<Sample> {
    match outcome {
        Outcome::Sample(sample) => Ok(sample),
        other => fail!("a case gave {other:?}"),
    }
}

fn disturbed(outcome: Outcome) -> Result<(Sample, u64)> {
    match outcome {
        Outcome::Disturbed { sample, events } => Ok((sample, events)),
        other => fail!("a disturbed case gave {other:?}"),
    }
}

fn text_of(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context(|| format!("{} is no text", path.display()))
}

/// Hugepages in use and ordinary memory of this program's processes, in MB.
fn memory_in_use_mb() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let pages = |name: &str| -> u64 {
        let path = format!("/sys/kernel/mm/hugepages/hugepages-2048kB/{name}");
        read(&path).trim().parse().unwrap_or(0)
    };
    let huge = 2 * pages("nr_hugepages").saturating_sub(pages("free_hugepages"));
    let me = std::process::id().to_string();
    let children = read(&format!("/proc/{me}/task/{me}/children"));
    let resident: u64 = children
        .split_whitespace()
        .chain([me.as_str()])
        .map(|pid| {
            let status = read(&format!("/proc/{pid}/status"));
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            line.and_then(|kb| kb.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0)
        })
        .sum();
    huge + resident / 1024
}
