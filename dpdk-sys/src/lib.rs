//! Raw FFI to the installed DPDK: what bindgen makes of the headers that pkg-config finds, and a C shim
//! for the static inlines among them. No logic.
//!
//! - Functions, types and constants keep DPDK's names and are documented by DPDK.
//! - `dpdk_sys_*` are the shim's (`shim.c`, declared in `wrapper.h`): a symbol for a static inline each.
//!   A call costs 1-2 ns, so the data path calls once per burst.
//! - `rte_mbuf` is opaque: its fields are at `DPDK_SYS_MBUF_*`, offsets in bytes which `tests/abi.rs`
//!   compares with those of the C compiler. So the names of DPDK's anonymous unions, which differ between
//!   releases, concern nobody.
//!
//! Linking is dynamic, as pkg-config says. Drivers are not linked: EAL loads them at run time from the
//! directory it was built with (`/usr/lib/x86_64-linux-gnu/dpdk/pmds-*` on Debian).
#![no_std]
#![allow(non_camel_case_types, non_snake_case, non_upper_case_globals)]
#![allow(missing_docs, unreachable_pub, unused_qualifications, unsafe_op_in_unsafe_fn)]
#![allow(
    clippy::all,
    clippy::semicolon_if_nothing_returned,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
