//! What the benchmark's parent asks of the process that runs the director, one JSON object in a line.

use serde::{Deserialize, Serialize};

use super::case::{Case, Direction, Method, Traffic};
use super::rig::Sample;
use super::span::Span;

/// Where packets come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// net_pcap with these files, a queue each.
    Pcap(Vec<String>),
    /// Mbufs that are stamped anew; they leave by net_null.
    Stamped,
    /// A generator lcore behind a net_ring, beside the one lcore of the director; they leave by net_null.
    Ring,
}

/// How the process that runs the director starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// Where packets come from.
    pub source: Source,
    /// Worker lcores.
    pub lcores: u8,
    /// Mbufs of the pool.
    pub mbufs: u32,
    /// Without hugepages: MB of ordinary memory.
    pub no_huge_mb: Option<u32>,
}

/// Something to measure.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// A case as it is.
    Forward {
        /// Which.
        case: Case,
        /// How long.
        span: Span,
    },
    /// A plain L2 forward over the stamped source.
    Plain {
        /// What the frames are.
        traffic: Traffic,
        /// Which way they go.
        direction: Direction,
        /// Of how many connections.
        connections: u32,
        /// How long.
        span: Span,
    },
    /// New connections by SYNs of distinct clients, while as many old ones expire, until the table has `upto`.
    Open {
        /// How they are forwarded.
        method: Method,
        /// Connections that are open when it begins; they expire meanwhile.
        old: u32,
        /// Connections to open.
        upto: u32,
    },
    /// A case while connections that are in the table beside its own expire.
    Expire {
        /// Which.
        case: Case,
        /// How many expire in each second.
        per_second: u32,
        /// How long.
        span: Span,
    },
    /// A case while weights change.
    Swap {
        /// Which.
        case: Case,
        /// Services beside those of the benchmark, with ten real servers each.
        services: u32,
        /// Changes in each second.
        per_second: u32,
        /// How long.
        span: Span,
    },
    /// How long a change takes from the operator's edit until all lcores go by it.
    Change {
        /// Services beside those of the benchmark, with ten real servers each.
        services: u32,
        /// How many changes.
        changes: u32,
        /// What the lcores do meanwhile.
        case: Case,
    },
    /// Latency at this pace, over a ring.
    Pace {
        /// The case.
        case: Case,
        /// Packets in a second, in millions; 0 for as many as the ring takes.
        mpps: f64,
        /// How long.
        span: Span,
    },
    /// Memory of a full table.
    Memory {
        /// By which method it was filled.
        method: Method,
    },
}

/// What came of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Packets over time.
    Sample(Sample),
    /// New connections.
    Opened {
        /// How many in a second.
        per_second: f64,
        /// How many expired meanwhile.
        expired: u64,
        /// Whether all packets were accounted for, and each opened a connection.
        conserved: bool,
    },
    /// Packets over time, and what else happened in it.
    Disturbed {
        /// The packets.
        sample: Sample,
        /// Connections that expired or changes that were published.
        events: u64,
    },
    /// Packets over time, frames refused by the ring, and percentiles in nanoseconds: as seen from outside, and by
    /// the director's own histogram.
    Paced {
        /// The packets.
        sample: Sample,
        /// Frames that found the ring full.
        refused: u64,
        /// Those of `PERCENTILES`.
        seen_ns: Vec<f64>,
        /// Those of `PERCENTILES`.
        own_ns: Vec<f64>,
    },
    /// Times in microseconds, in the order of happening.
    Times(Vec<f64>),
    /// Bytes for each connection.
    Bytes(f64),
    /// It could not be done.
    Failed(String),
}
