//! Both tables of an lcore.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{ConnectionTable, HashSeed};
use crate::time::Tick;

/// For how many connections an lcore has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections of IPv4, 107 bytes each with index and timing wheel.
    pub ipv4: u32,
    /// Connections of IPv6, 191 bytes each.
    pub ipv6: u32,
}

impl Capacity {
    /// Memory of tables of this capacity, in bytes, but for what fills up hugepages.
    pub fn bytes(self) -> u64 {
        ConnectionTable::<Ipv4Addr>::bytes(self.ipv4) + ConnectionTable::<Ipv6Addr>::bytes(self.ipv6)
    }
}

/// The connections of one lcore: those of IPv4 and those of IPv6, which know nothing of each other.
pub struct Tables {
    pub(super) v4: ConnectionTable<Ipv4Addr>,
    pub(super) v6: ConnectionTable<Ipv6Addr>,
}

impl Tables {
    /// Tables of this capacity, taking all their memory now.
    ///
    /// # Errors
    /// What the kernel says when there is not enough memory.
    pub fn new(capacity: Capacity, hugepages: bool, now: Tick) -> std::io::Result<Tables> {
        Ok(Tables {
            v4: ConnectionTable::new(capacity.ipv4, HashSeed::random(), hugepages, now)?,
            v6: ConnectionTable::new(capacity.ipv6, HashSeed::random(), hugepages, now)?,
        })
    }

    /// The connections of IPv4.
    #[inline]
    pub fn ipv4(&self) -> &ConnectionTable<Ipv4Addr> {
        &self.v4
    }

    /// The connections of IPv6.
    pub fn ipv6(&self) -> &ConnectionTable<Ipv6Addr> {
        &self.v6
    }

    /// The connections of IPv4, to be changed.
    #[inline(always)]
    pub fn ipv4_mut(&mut self) -> &mut ConnectionTable<Ipv4Addr> {
        &mut self.v4
    }

    /// How many connections they hold.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// They hold none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// For how many there is room.
    pub fn capacity(&self) -> usize {
        self.v4.capacity() + self.v6.capacity()
    }

    /// Memory of indices and entries, in bytes.
    pub fn mapped_bytes(&self) -> usize {
        self.v4.mapped_bytes() + self.v6.mapped_bytes()
    }

    /// Whether all entries lie in reserved hugepages.
    pub fn is_huge(&self) -> bool {
        self.v4.is_huge() && self.v6.is_huge()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_was_foreseen() {
        let capacity = Capacity { ipv4: 300_000, ipv6: 200_000 };
        let mapped = Tables::new(capacity, false, Tick(0)).unwrap().mapped_bytes() as u64;
        let bytes = capacity.bytes();
        // Each of four parts is filled up to a hugepage.
        assert!(mapped >= bytes && mapped < bytes + (8 << 20), "{mapped} {bytes}");
        assert_eq!(
            [(1 << 20, 0), (0, 1 << 20)].map(|(ipv4, ipv6)| Capacity { ipv4, ipv6 }.bytes() >> 20),
            [107, 190]
        );
    }
}
