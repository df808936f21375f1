//! capsule, the packet framework, as a second opinion on packets.
//!
//! Director does not run on capsule (`docs/capsule.md` says why); here capsule stays useful because
//! nobody of Director wrote it:
//!
//! - [`frame`] makes valid frames with capsule's builders and proptest strategies, each with what a
//!   parser ought to find in it;
//! - [`judge`] has capsule parse a frame and verify its checksums;
//! - [`nat`] is the rewrite of a NAT director as a capsule pipeline, for tests and for the benchmark
//!   peer `capsule-nat`.
//!
//! All of it works on mbufs, so a thread needs a [`workbench::Workbench`] first.

pub mod frame;
pub mod judge;
pub mod nat;
pub mod pcap;
pub mod workbench;
