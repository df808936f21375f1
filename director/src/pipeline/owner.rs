//! Which lcore a connection lives on: a hash of the client's address and port, the source on the way
//! in and the destination on the way back, so that both directions name the same lcore by what stands
//! in the packet alone.
//!
//! The hash is Toeplitz, as NICs compute it for receive-side scaling, with a key that repeats every 16
//! bits. With such a key it depends only on the XOR of the input's 16-bit words, so that it does not
//! matter where in the input a field stands.

use std::net::IpAddr;

use crate::connection::{Address, FlowKey};
use crate::id::LcoreId;
use crate::service::ServiceLookup;

/// The key's period.
pub const KEY_WORD: u16 = 0x6d5a;
/// Entries of a NIC's redirection table that are assumed; a power of two.
const REDIRECTION: u32 = 128;

/// `TABLE[half][byte]`: the hash of a 16-bit word that has `byte` in that half and zeros elsewhere.
const TABLE: [[u16; 256]; 2] = {
    let mut table = [[0; 256]; 2];
    let mut half = 0;
    while half < 2 {
        let mut byte = 0;
        while byte < 256 {
            let mut bit = 0;
            while bit < 8 {
                if byte & (0x80 >> bit) != 0 {
                    table[half][byte] ^= KEY_WORD.rotate_left((half * 8 + bit) as u32);
                }
                bit += 1;
            }
            byte += 1;
        }
        half += 1;
    }
    table
};

/// The Toeplitz hash of input whose 16-bit words have this XOR.
#[inline]
pub fn toeplitz(folded: u16) -> u32 {
    let half = u32::from(TABLE[0][usize::from(folded >> 8)] ^ TABLE[1][usize::from(folded & 0xff)]);
    half << 16 | half
}

/// The XOR of the 16-bit words of an address and a port.
#[inline]
pub fn fold(address: IpAddr, port: u16) -> u16 {
    let address = match address {
        IpAddr::V4(v4) => u32::from(v4),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 96) as u32 ^ (bits >> 64) as u32 ^ (bits >> 32) as u32 ^ bits as u32
        }
    };
    (address >> 16) as u16 ^ address as u16 ^ port
}

/// The lcore among `lcores` that owns the connections of a client's address and port.
#[inline]
pub fn owner(client: IpAddr, port: u16, lcores: u8) -> LcoreId {
    LcoreId(((toeplitz(fold(client, port)) % REDIRECTION) % u32::from(lcores)) as u8)
}

/// The lcore at which all fragments of a packet meet.
#[inline]
pub fn collector(source: IpAddr, destination: IpAddr, id: u32, lcores: u8) -> LcoreId {
    let id = (id >> 16) as u16 ^ id as u16;
    LcoreId(((toeplitz(fold(source, id) ^ fold(destination, 0)) % REDIRECTION) % u32::from(lcores)) as u8)
}

/// The lcore that owns a packet's connection; `None` where it is of no virtual service. One that was removed may still
/// have connections; and so what may have a mark is always of one.
#[inline]
pub fn owner_of<A: Address>(key: &FlowKey<A>, lookup: &ServiceLookup, lcores: u8) -> Option<LcoreId> {
    let (source, destination): (IpAddr, IpAddr) = (key.source.into(), key.destination.into());
    let (to, from) = (key.destination_port, key.source_port);
    if lookup.service(destination, to, key.protocol).is_some()
        || lookup.was_service(destination, to, key.protocol)
        || lookup.may_be_ftp_data(destination, to, key.protocol)
        || lookup.marks().may_mark_by_destination((source, from), (destination, to), key.protocol)
    {
        Some(owner(source, key.source_port, lcores))
    } else if lookup.is_nat_server(source, from, key.protocol)
        || lookup.was_nat_server(source, from, key.protocol)
    {
        Some(owner(destination, key.destination_port, lcores))
    } else if lookup.marks().may_mark((source, from), (destination, to), key.protocol)
        || lookup.may_be_marked_ftp_data(to, key.protocol)
    {
        // After replies: a rule that does not name where packets go would mark these too.
        Some(owner(source, key.source_port, lcores))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    /// Toeplitz by its definition: for each set bit of the input, the 32 bits of the key that start
    /// there.
    fn by_definition(key: &[u8], input: &[u8]) -> u32 {
        let bit = |bytes: &[u8], i: usize| bytes[i / 8] >> (7 - i % 8) & 1;
        let mut hash = 0u32;
        for i in (0..input.len() * 8).filter(|i| bit(input, *i) == 1) {
            hash ^= (0..32).fold(0, |window, k| window << 1 | u32::from(bit(key, i + k)));
        }
        hash
    }

    /// The key that Microsoft publishes to verify RSS implementations.
    const PUBLISHED_KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    /// Source, destination, and the hashes published for them: with ports, and of the addresses alone.
    const PUBLISHED: [(&str, &str, u32, u32); 8] = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x51cc_c178, 0x323e_8fc2),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xc626_b0ea, 0xd718_262a),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0x5c2b_394a, 0xd2d0_a5de),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0xafc7_327f, 0x8298_9176),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x10e8_28a2, 0x5d18_09c5),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x4020_7d3d, 0x2cc1_8cd5),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0xdde5_1bbf, 0x0f0c_461c),
        (
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            "[fe80::200:f8ff:fe21:67cf]:38024",
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    fn octets(address: IpAddr) -> Vec<u8> {
        match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        }
    }

    /// What a NIC hashes: both addresses, then both ports.
    fn input(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
        let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
        [octets(source.ip()), octets(destination.ip()), ports].concat()
    }

    /// Addresses and ports of zeros: what is left of a side that is not hashed.
    fn nobody(as_of: SocketAddr) -> SocketAddr {
        match as_of {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }
    }

    /// What a NIC hashes that leaves the other side out, instead of hashing zeros.
    fn alone(side: SocketAddr) -> Vec<u8> {
        [octets(side.ip()), side.port().to_be_bytes().to_vec()].concat()
    }

    fn folded(side: SocketAddr) -> u16 {
        fold(side.ip(), side.port())
    }

    /// Both sides, one side in its place, and one side alone: the table gives what the definition gives.
    fn agrees_with_the_definition(source: SocketAddr, destination: SocketAddr) {
        let key = KEY_WORD.to_be_bytes().repeat(26);
        let nobody = nobody(source);
        let both = by_definition(&key, &input(source, destination));
        assert_eq!(toeplitz(folded(source) ^ folded(destination)), both, "{source} {destination}");
        assert_eq!(both, by_definition(&key, &input(destination, source)), "symmetric");
        for side in [source, destination] {
            let hash = toeplitz(folded(side));
            assert_eq!(hash, by_definition(&key, &input(side, nobody)), "source {side}");
            assert_eq!(hash, by_definition(&key, &input(nobody, side)), "destination {side}");
            assert_eq!(hash, by_definition(&key, &alone(side)), "{side} alone");
        }
    }

    fn published() -> impl Iterator<Item = (SocketAddr, SocketAddr, u32, u32)> {
        PUBLISHED.iter().map(|(source, destination, ports, addresses)| {
            (source.parse().unwrap(), destination.parse().unwrap(), *ports, *addresses)
        })
    }

    #[test]
    fn the_definition_gives_the_published_vectors() {
        for (source, destination, with_ports, of_addresses) in published() {
            let input = input(source, destination);
            assert_eq!(by_definition(&PUBLISHED_KEY, &input), with_ports, "{source} {destination}");
            let addresses = &input[..input.len() - 4];
            assert_eq!(by_definition(&PUBLISHED_KEY, addresses), of_addresses, "{source} {destination}");
        }
    }

    #[test]
    fn the_table_is_the_definition_for_the_published_vectors() {
        for (source, destination, ..) in published() {
            agrees_with_the_definition(source, destination);
        }
    }

    proptest! {
        #[test]
        fn the_table_is_the_definition_for_ipv4(source: (u32, u16), destination: (u32, u16)) {
            let address = |(bits, port)| (Ipv4Addr::from_bits(bits), port).into();
            agrees_with_the_definition(address(source), address(destination));
        }

        #[test]
        fn the_table_is_the_definition_for_ipv6(source: (u128, u16), destination: (u128, u16)) {
            let address = |(bits, port)| (Ipv6Addr::from_bits(bits), port).into();
            agrees_with_the_definition(address(source), address(destination));
        }
    }

    #[test]
    fn clients_spread_over_lcores() {
        for lcores in 1..=4u8 {
            let mut count = vec![0; usize::from(lcores)];
            for port in 32_768..60_999 {
                count[usize::from(owner("192.0.2.7".parse().unwrap(), port, lcores).0)] += 1;
            }
            let even = (60_999 - 32_768) / i32::from(lcores);
            assert!(count.iter().all(|n: &i32| (n - even).abs() < even / 20), "{count:?}");
        }
    }
}
