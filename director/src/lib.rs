//! The data plane of Director: a pure core (bytes, tables and a clock in; a verdict out) and a thin
//! rim that touches DPDK and the kernel.
//!
//! ```text
//! rx burst -> parse -> owner? -> connection lookup -> (miss) service lookup -> schedule -> insert
//!                        |                |
//!                  other lcore's:      state, timers, counters -> rewrite (nat | dr | tun) -> next hop -> tx burst
//!                  hand over
//! not ours -> exception path (kernel)                     every packet ends in exactly one Verdict
//! ```
#![deny(unsafe_code)]

#[cfg(feature = "dpdk")]
pub mod cli;
#[cfg(feature = "dpdk")]
pub mod dpdk;
pub mod id;
pub mod kernel;
pub mod nexthop;
pub mod packet;
pub mod persistence;

pub mod connection;
#[cfg(feature = "dpdk")]
pub mod daemon;
pub mod doctor;
pub mod explain;
pub mod forward;
pub mod fragment;
pub mod ftp;
pub mod lcore;
pub mod log;
pub mod memory;
pub mod pipeline;
mod prefetch;
pub mod scheduler;
pub mod service;
pub mod sip;
pub mod stats;
pub mod time;
pub mod wire;
