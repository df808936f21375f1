//! The benchmark: what the director costs, beside `dpdk-testpmd` on the same device and the same packets.
//!
//! ```text
//! parent ── commands ──► dpdk-testpmd           io, macswap, 5tswap   ┐ in turn, round after round,
//!        ── jobs ──────► this program again     the director's lcores ┘ one at a time
//!        ── scrapes ───► directorctl serve ──► director run, the daemon itself
//! ```
//!
//! But for the exporter's cost only the rim differs from the daemon: a director under test has the daemon's lcores, pipelines, tables and
//! snapshots, with services made here and no kernel beside it. Connections are opened by packets through the
//! pipeline, over one turn of the timing wheel, and in another order than that in which their packets come.

pub mod capture;
pub mod case;
pub mod exporter;
pub mod flows;
pub mod hugepages;
pub mod instructions;
pub mod job;
pub mod latency;
pub mod machine;
pub mod packet;
mod pieces;
pub mod plan;
pub mod plot;
pub mod process;
pub mod report;
pub mod rig;
mod run;
pub mod source;
pub mod span;
pub mod subject;
pub mod testpmd;
pub mod worker;
pub mod world;

pub use run::{Options, run};

/// CPUs of this machine.
#[must_use]
pub fn cpus() -> u32 {
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// The CPUs of as many worker lcores: the last ones, since the first one has the most other work.
#[must_use]
pub fn worker_cpus(lcores: u8) -> Vec<u32> {
    let cpus = cpus();
    let first = cpus.saturating_sub(u32::from(lcores));
    (0..u32::from(lcores)).map(|n| (first + n) % cpus).collect()
}

/// DPDK's device string of a port that receives these captures over and over, a queue each.
#[must_use]
pub fn pcap_device(files: &[String]) -> String {
    let files: String = files.iter().map(|file| format!(",rx_pcap={file}")).collect();
    format!("net_pcap0{files},infinite_rx=1")
}
