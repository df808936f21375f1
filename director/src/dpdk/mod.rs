//! DPDK as the director uses it: the only room that names `dpdk_sys`.
//!
//! ```text
//! Eal::init -> MbufPool::new -> Port::open -> take_rx_queue, take_tx_queue -> Eal::launch
//!    the lcore:  RxQueue::rx_burst -> Vec<Mbuf> -> (the core) -> Vec<Mbuf> -> TxQueue::tx_burst
//! ```
//!
//! Every handle keeps what it stands on alive: a queue its port, a port its pool, all of them EAL. A port
//! is stopped and closed when its last handle goes, EAL is cleaned up after the last of all.
//!
//! # EAL's arguments, and why
//!
//! The defaults run on a machine without a NIC and without hugepages, and leave nothing behind.
//!
//! | argument | when | why |
//! | --- | --- | --- |
//! | `--lcores 0@(0-1),1@1` | always | the main lcore floats over every CPU we may run on, a worker is pinned to its own. Several workers may name one CPU: slower, and good enough for a lab |
//! | `--in-memory` | with hugepages | no files in a hugetlbfs, none to clean up after a crash, no mount needed |
//! | `--no-huge -m N` | without | EAL takes N MB of ordinary memory, once |
//! | `--no-shconf` | without hugepages | as `--in-memory`, which DPDK refuses together with `--no-huge`: no shared configuration, no lock of an earlier run, so that a second start works at once |
//! | `--no-telemetry` | always | no socket in the runtime directory, no thread; the director has metrics of its own |
//! | `--file-prefix director` | always | the runtime directory, which EAL makes even when nothing is put into it; removed at exit. Nothing in it is shared, so that several directors may run at once |
//! | `--no-pci` | no port is a PCI device | EAL touches no NIC |
//! | `-a ADDRESS` | else, once per port | only these: EAL would take every device that is bound to vfio |
//! | `--iova-mode=va` | no port is a PCI device | needs no physical addresses, hence no special rights; with PCI, EAL chooses |
//!
//! What the configuration adds (`eal_args`) comes last. Virtual devices are no arguments: [`Port::open`] adds
//! each of them later, so that a failure names its port. DPDK's log goes to `tracing` (target `dpdk`).
//!
//! # What the virtual devices do when theirs is missing
//!
//! Found by trying with DPDK 22.11. DPDK's functions return -1, the reason is in the driver's log; [`DpdkError`]
//! says it in words, with the port, its device string and a remedy.
//!
//! | device | missing | DPDK |
//! | --- | --- | --- |
//! | `net_af_packet` | interface | fails when added: `ioctl failed (SIOCGIFINDEX):No such device` |
//! | `net_af_packet` | `iface=` | fails when added, and says nothing |
//! | `net_af_xdp` | interface | fails when added: `Failed to get channel info of interface` |
//! | `net_af_xdp` | XDP in the driver of the interface | fails when a queue is set up: `Failed to create xsk socket` |
//! | `net_pcap` | file or interface to read | fails when added: `Couldn't open X: X: No such file or directory` |
//! | `net_pcap` | directory to write to | fails when added: `Couldn't open X for writing.` |
//! | `net_tap` | rights, `/dev/net/tun` | fails when added: `Unable to set TUNSETIFF`, `Unable to open /dev/net/tun` |
//! | `net_tap` | interface | makes it, and takes it away when closed |
//! | `net_null` | an argument it does not know | fails when added, and says nothing |
//! | `net_ring`, `net_null` | | nothing can be missing |
//! | any | driver | fails when added: `failed to parse device` |
//! | `--vdev` in `eal_args` | whatever | a warning; EAL starts, and [`Port::open`] fails for want of the port |
//!
//! # What else to know of them
//!
//! - `net_af_packet`: the kernel reassembles IP fragments before it hands them over (the driver demands so of its
//!   fanout group), and frames are cut to 1982 bytes: longer datagrams come cut, fragments never. It sets flags of
//!   the kernel's interface: promiscuous mode is therefore taken back when the port is closed. What this host
//!   sends on the interface is left out, as the driver does not do so. MTU at most 1500.
//! - `net_tap`: MTU at most 1504, queues in pairs. It raises a real-time signal in the process for every frame, so
//!   that system calls elsewhere return `EINTR` now and then.
//! - None of them spreads packets by one side alone (`rss` in `[[port]]`). `net_ring`, `net_null` and
//!   `net_af_packet` have no rte_flow. `net_tap` makes tc filters of its rules, where the kernel has those; its
//!   RSS hashes both sides whatever the rule says, and it refuses ours, which ask for Toeplitz by name.
//! - `net_ring`: what is sent on queue n is received on queue n, by the port itself.
//! - `net_pcap`: as many queues as files are named. `infinite_rx=1` loads the file into mbufs of the pool once per
//!   queue, and copies each for every packet it gives.
#![allow(unsafe_code)]

mod af_packet;
mod arguments;
mod clock;
mod descriptors;
mod devargs;
mod device;
mod eal;
mod error;
mod explain;
mod flow;
mod launch;
mod log;
mod mbuf;
mod mempool;
mod port;
mod queue;
mod rss;
mod setup;

pub use clock::{tsc, tsc_hz};
pub use descriptors::close_on_exec;
pub use devargs::is_pci;
pub use eal::{Eal, EalOptions, Hugepages};
pub use error::DpdkError;
pub use launch::{Running, ThreadRegistration, WorkerPanic, register_thread};
pub use mbuf::{HEADROOM, Mbuf};
pub use mempool::{MbufPool, PoolConfig};
pub use port::{Port, PortConfig, PortLink, PortStats};
pub use queue::{BURST, PortQueues, RxQueue, TxQueue};
pub use rss::{Rss, Spread};
