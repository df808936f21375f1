//! Numbers that must not be mixed up.

/// A port of the director: the n-th `[[port]]` of the configuration. Not DPDK's port number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u8);

/// A worker lcore of the director, counted from 0. Not a CPU and not DPDK's lcore number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LcoreId(pub u8);

/// An interface of the kernel (`ip link`), by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);
