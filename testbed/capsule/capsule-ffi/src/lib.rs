//! The crate beneath capsule: what capsule 0.1.5 calls, on the DPDK that is installed.
//!
//! capsule was written for DPDK 19.11. Its own `capsule-ffi` asks for headers and libraries that are
//! no longer there, so `[patch.crates-io]` puts this crate in its place. It is written from the names
//! capsule uses and from DPDK's headers:
//!
//! - bindgen over the installed headers for all that still has its name;
//! - a C shim for DPDK's inline functions, under the names with `_` before them that capsule links to;
//! - constants renamed in DPDK 21.11, under their old names;
//! - [`rte_eal_init`], which translates the EAL options that DPDK has renamed;
//! - stand-ins for KNI, which DPDK has given up: they fail with `ENOTSUP`.
//!
//! Left out: libpcap, which only capsule's feature `pcap-dump` asks for.
#![cfg(target_os = "linux")]
#![allow(non_camel_case_types, non_upper_case_globals)]

mod eal;
mod kni;

#[allow(
    missing_docs,
    non_snake_case,
    unsafe_op_in_unsafe_fn,
    unused_qualifications,
    unreachable_pub,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    clippy::semicolon_if_nothing_returned
)]
mod raw {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use eal::{append_eal_arguments, rte_eal_init};
pub use kni::*;
// What this crate defines itself wins over a name of the same spelling in `raw`.
pub use raw::*;

/// How a port chooses the receive queue; the values as DPDK has them, and the one capsule knows by
/// its old name.
pub mod rte_eth_rx_mq_mode {
    pub use crate::raw::rte_eth_rx_mq_mode::*;

    /// Receive side scaling, as DPDK called it before 21.11.
    pub const ETH_MQ_RX_RSS: Type = RTE_ETH_MQ_RX_RSS;
}
