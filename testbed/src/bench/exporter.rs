//! What being watched costs: a whole director, `directorctl serve` beside it, and who scrapes that.
//!
//! The director is the daemon itself, with its control thread and its socket, in a network namespace of its own. Its port
//! receives a capture over and over, and its own counters tell how much it forwards.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::protocol::{Client, Stats};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::case::{Direction, Traffic};
use super::flows::{self, DIRECTOR_MAC, Order, ROUTER_MAC, Target, Templates};
use super::span::median;
use super::{capture, pcap_device, worker_cpus};
use crate::error::{Context as _, Result};
use crate::lab::exporter::Exporter;
use crate::lab::process::{self, Process};
use crate::lab::programs;
use crate::{ensure, fail};

/// Connections of the capture; the director's pool has to hold it.
const CONNECTIONS: u32 = 1000;
/// The kernel's interface for the port.
const MIRROR: &str = "bench0";
/// How long the director may take to start.
const START: Duration = Duration::from_secs(60);

/// A way of being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scraping {
    Never,
    EverySecond,
    Always,
}

/// What it costs to be watched, in turn with not being watched.
#[derive(Clone, Debug, Serialize)]
pub struct ExporterCost {
    /// How often metrics were asked for.
    pub scraped: String,
    /// What was forwarded meanwhile, in Mpps; the median.
    pub mpps: f64,
    /// What was forwarded while nobody asked.
    pub quiet: f64,
    /// One by the other, of the same round; the median.
    pub ratio: f64,
    /// How often metrics were had, in a second.
    pub scrapes_per_second: f64,
    /// How long one scrape took, in milliseconds; the median.
    pub scrape_ms: f64,
    /// Every packet is accounted for.
    pub conserved: bool,
}

/// What one run found.
struct Found {
    mpps: f64,
    scrapes: Vec<f64>,
    seconds: f64,
    conserved: bool,
}

/// Measures in turn, so often, each for so long.
///
/// # Errors
/// When the director or the exporter do not run.
pub(super) fn measure(directory: &Path, rounds: u32, span: Duration) -> Result<Vec<ExporterCost>> {
    let director = Running::start(directory)?;
    let _aside = Aside::step()?;
    let exporter = Exporter::start(&director.socket, directory, &[])?;
    let mut client = Client::connect(&director.socket).context(|| "the director under test")?;
    let mut found: [Vec<Found>; 3] = Default::default();
    // The first run opens the connections.
    watched(&mut client, &exporter, Scraping::Never, span)?;
    for _ in 0..rounds {
        for (scraping, of_it) in
            [Scraping::Never, Scraping::EverySecond, Scraping::Always].into_iter().zip(&mut found)
        {
            of_it.push(watched(&mut client, &exporter, scraping, span)?);
        }
    }
    let [quiet, every_second, always] = &found;
    let cost = |scraped: &str, of_it: &[Found]| {
        let of_each = |value: &dyn Fn(&Found) -> f64| median(&of_it.iter().map(value).collect::<Vec<_>>());
        let ratios: Vec<f64> =
            of_it.iter().zip(quiet).map(|(found, quiet)| found.mpps / quiet.mpps).collect();
        let scrapes: Vec<f64> = of_it.iter().flat_map(|found| found.scrapes.iter().copied()).collect();
        ExporterCost {
            scraped: scraped.to_owned(),
            mpps: of_each(&|found| found.mpps),
            quiet: median(&quiet.iter().map(|found| found.mpps).collect::<Vec<_>>()),
            ratio: median(&ratios),
            scrapes_per_second: of_each(&|found| found.scrapes.len() as f64 / found.seconds),
            scrape_ms: median(&scrapes),
            conserved: of_it.iter().chain(quiet).all(|found| found.conserved),
        }
    };
    Ok(vec![cost("once a second", every_second), cost("as fast as it goes", always)])
}

fn watched(client: &mut Client, exporter: &Exporter, scraping: Scraping, span: Duration) -> Result<Found> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let scraper = scope.spawn(|| scrape(exporter, scraping, &stop));
        let begun = Instant::now();
        let measured = (|| {
            let before = stats(client)?;
            thread::sleep(span);
            Ok((before, stats(client)?))
        })();
        stop.store(true, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let scrapes = match scraper.join() {
            Ok(scrapes) => scrapes?,
            Err(panicked) => std::panic::resume_unwind(panicked),
        };
        let (before, after): (Stats, Stats) = measured?;
        let forwarded = |stats: &Stats| stats.lcores.iter().map(|lcore| lcore.forwarded).sum::<u64>();
        let milliseconds = after.uptime_ms - before.uptime_ms;
        ensure!(milliseconds > 0, "the director's clock stands still");
        let mpps = (forwarded(&after) - forwarded(&before)) as f64 / milliseconds as f64 / 1e3;
        ensure!(mpps > 0.0, "the director under test forwards nothing: {:?}", after.lcores);
        Ok(Found { mpps, scrapes, seconds, conserved: before.conserved && after.conserved })
    })
}

fn stats(client: &mut Client) -> Result<Stats> {
    client.stats().context(|| "the director under test does not answer")
}

/// Asks for metrics until it is told to stop; returns how long each took, in milliseconds.
fn scrape(exporter: &Exporter, scraping: Scraping, stop: &AtomicBool) -> Result<Vec<f64>> {
    let mut took = Vec::new();
    let mut next = Instant::now();
    while scraping != Scraping::Never && !stop.load(Ordering::Relaxed) {
        if Instant::now() < next {
            thread::sleep(Duration::from_millis(5));
            continue;
        }
        let begun = Instant::now();
        let text = exporter.get("/metrics")?;
        ensure!(text.contains("\ndirector_up 1\n"), "the director was not asked");
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if scraping == Scraping::EverySecond {
            next += Duration::from_secs(1);
        }
    }
    Ok(took)
}

/// Keeps this thread, and what it starts, off the worker lcore's CPU, if there is another one. Not so any more once it is
/// dropped.
struct Aside(CpuSet);

impl Aside {
    fn step() -> Result<Aside> {
        let before = sched_getaffinity(None).context(|| "cannot tell on which CPUs this runs")?;
        let mut others = before;
        worker_cpus(1).into_iter().for_each(|cpu| others.unset(cpu as usize));
        if others.count() > 0 {
            sched_setaffinity(None, &others).context(|| "cannot keep off the worker lcore's CPU")?;
        }
        Ok(Aside(before))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It was so before.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// A director that forwards as much as it can.
struct Running {
    process: Process,
    socket: PathBuf,
}

impl Running {
    fn start(directory: &Path) -> Result<Running> {
        let path = |name: &str| directory.join(name);
        let pcap = path("exporter.pcap");
        let templates = Templates::new(Traffic::Udp, Direction::Request, flows::ACK, Target::Each);
        capture::write(&pcap, &templates, Order::new(CONNECTIONS).take(CONNECTIONS as usize))?;
        let (config, socket) = (path("exporter.toml"), path("exporter.sock"));
        let pcap = pcap.to_str().context(|| "the capture's path is no text")?.to_owned();
        let text = toml(&socket, &pcap_device(&[pcap]));
        std::fs::write(&config, text).context(|| format!("cannot write {}", config.display()))?;
        // A namespace that is gone with the program.
        let mut command = Command::new("unshare");
        command.arg("--net").arg(programs::find("director")?).arg("run").arg("--config").arg(&config);
        let mut process = Process::start("director run", &mut command, path("exporter.log"), false)?;
        process.wait_for_text("director is ready", START)?;
        let running = Running { process, socket };
        running.wire()?;
        Ok(running)
    }

    /// Gives the port its Ethernet address, and says where real servers are.
    fn wire(&self) -> Result<()> {
        let pid = self.process.pid().to_string();
        let ip = |line: &str| {
            let mut command = Command::new("nsenter");
            command.args(["--target", &pid, "--net", "ip"]).args(line.split(' '));
            process::run(&mut command, START)
        };
        ip(&format!("link set {MIRROR} address {}", mac(DIRECTOR_MAC)))?;
        ip(&format!("address add 198.18.255.1/15 dev {MIRROR}"))?;
        ip(&format!("link set {MIRROR} up"))?;
        for n in 0..flows::POOL {
            let server = flows::server_address(n);
            ip(&format!("neighbour replace {server} lladdr {} dev {MIRROR} nud permanent", mac(ROUTER_MAC)))?;
        }
        // Until the kernel's news have come to the lcore.
        let mut client = Client::connect(&self.socket).context(|| "the director under test")?;
        let end = Instant::now() + START;
        while stats(&mut client)?.lcores.iter().all(|lcore| lcore.forwarded == 0) {
            if Instant::now() >= end {
                fail!("the director under test forwards nothing: {:?}", stats(&mut client)?.lcores);
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// By direct routing, a real server for each service.
fn toml(socket: &Path, device: &str) -> String {
    let services: String = (0..flows::SERVICES)
        .map(|n| {
            let (vip, server, port) = (flows::virtual_address(n), flows::server_address(n), flows::VIRTUAL_PORT);
            format!(
                "\n[[service]]\nprotocol = \"udp\"\naddress = \"{vip}:{port}\"\nscheduler = \"rr\"\n  [[service.server]]\n  \
                 address = \"{server}:{port}\"\n  method = \"dr\"\n"
            )
        })
        .collect();
    format!(
        "socket = \"{}\"\n[dpdk]\nhugepages = \"no\"\nmemory_mb = 256\n[connections]\ncapacity = 100000\n[lcores]\ncpus = \
         {:?}\n[[port]]\ndevice = \"{device}\"\nmirror = \"{MIRROR}\"\n{services}",
        socket.display(),
        worker_cpus(1)
    )
}
