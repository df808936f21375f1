//! What names a connection in a packet, and its hash.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::page::{PageV4, PageV6, TablePage};
use super::{ConnectionTable, Tables};
use crate::wire::Family;
use crate::wire::usual::{Usual, joined};

/// An IP address as keys and entries hold it.
pub trait Address: Family {
    /// A page of their table.
    type Page: TablePage<Self>;

    /// The connections of this version of IP.
    fn table(tables: &Tables) -> &ConnectionTable<Self>;

    /// The connections of this version of IP, to be changed.
    fn table_mut(tables: &mut Tables) -> &mut ConnectionTable<Self>;

    /// Both addresses of a key, mixed to 64 bits. Different seeds give unrelated values.
    fn mix(source: Self, destination: Self, seed: &HashSeed) -> u64;
}

/// Multiplies to 128 bits and folds: every bit of the inputs reaches every bit of the result.
#[inline]
fn fold_multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline(always)]
fn mix_ipv4(addresses: u64, seed: &HashSeed) -> u64 {
    fold_multiply(addresses ^ seed.0[0], seed.0[1])
}

impl Address for Ipv4Addr {
    type Page = PageV4;

    #[inline(always)]
    fn table(tables: &Tables) -> &ConnectionTable<Self> {
        &tables.v4
    }

    #[inline(always)]
    fn table_mut(tables: &mut Tables) -> &mut ConnectionTable<Self> {
        &mut tables.v4
    }

    #[inline]
    fn mix(source: Self, destination: Self, seed: &HashSeed) -> u64 {
        mix_ipv4(joined(source, destination), seed)
    }
}

impl Address for Ipv6Addr {
    type Page = PageV6;

    #[inline(always)]
    fn table(tables: &Tables) -> &ConnectionTable<Self> {
        &tables.v6
    }

    #[inline(always)]
    fn table_mut(tables: &mut Tables) -> &mut ConnectionTable<Self> {
        &mut tables.v6
    }

    #[inline]
    fn mix(source: Self, destination: Self, seed: &HashSeed) -> u64 {
        let halves = |address: Ipv6Addr| {
            let bits = u128::from(address);
            ((bits >> 64) as u64, bits as u64)
        };
        let (source_high, source_low) = halves(source);
        let (destination_high, destination_low) = halves(destination);
        fold_multiply(source_high ^ seed.0[0], source_low ^ seed.0[1])
            ^ fold_multiply(destination_high ^ seed.0[2], destination_low ^ seed.0[3]).rotate_left(32)
    }
}

/// Which way a packet of a connection goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the virtual service.
    Request,
    /// From the real server to the client; crosses the director with NAT only.
    Reply,
}

/// The five fields by which a packet finds its connection, as they stand in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// Random numbers that make hashes unpredictable for those who choose addresses and ports.
#[derive(Clone, Copy, Debug)]
pub struct HashSeed(pub [u64; 4]);

impl HashSeed {
    /// A seed from the standard library's source of randomness.
    pub fn random() -> HashSeed {
        use std::hash::{BuildHasher, RandomState};
        // Each RandomState carries fresh keys; odd multipliers keep the multiplication one-to-one.
        HashSeed(std::array::from_fn(|i| RandomState::new().hash_one(i) | 1))
    }
}

/// The hash of a [`FlowKey`]: names a bucket, its alternative and a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHash(pub(super) u64);

impl FlowHash {
    /// Of no key.
    pub const NONE: FlowHash = FlowHash(0);

    /// As [`FlowKey::hash`].
    #[inline(always)]
    pub(super) fn of_usual(usual: &Usual, seed: &HashSeed) -> FlowHash {
        FlowHash::mixed(mix_ipv4(usual.addresses, seed), usual.ports, usual.protocol, seed)
    }

    #[inline(always)]
    fn mixed(addresses: u64, ports: u32, protocol: u8, seed: &HashSeed) -> FlowHash {
        let rest = u64::from(protocol) << 32 | u64::from(ports);
        let product = fold_multiply(addresses ^ rest ^ seed.0[2], seed.0[3]);
        // Of ports in a row a product is a row of numbers at equal distances, which some seeds make meet in few pages.
        // Parts of it are two such rows, which do not.
        FlowHash(product ^ product >> 29)
    }
}

impl<A: Address> FlowKey<A> {
    /// Whether both are the same: all fields at once, since in a table the first one that differs says nothing.
    #[inline(always)]
    pub fn is(&self, other: &FlowKey<A>) -> bool {
        (self.source == other.source)
            & (self.destination == other.destination)
            & (self.source_port == other.source_port)
            & (self.destination_port == other.destination_port)
            & (self.protocol == other.protocol)
    }

    /// The key's hash.
    #[inline(always)]
    pub fn hash(&self, seed: &HashSeed) -> FlowHash {
        let ports = u32::from(self.source_port) << 16 | u32::from(self.destination_port);
        FlowHash::mixed(A::mix(self.source, self.destination, seed), ports, self.protocol, seed)
    }
}
