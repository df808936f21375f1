//! The network of the walks: two ports, and everybody a neighbour.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The largest packet on either link.
pub const MTU: usize = 1500;
/// The director's Ethernet address on the client side and on the servers' side.
pub const DIRECTOR: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 0xd0], [2, 0, 0, 0, 0, 0xd1]];

/// The `n`-th client, from 1 on.
#[must_use]
pub fn client(n: u8, v6: bool) -> IpAddr {
    host(1, n, v6)
}

/// The `n`-th real server, from 1 on.
#[must_use]
pub fn server(n: u8, v6: bool) -> IpAddr {
    host(2, 10 + n, v6)
}

/// The director's own address on a side: 1 is the clients', 2 the servers'.
#[must_use]
pub fn own(side: u8, v6: bool) -> IpAddr {
    host(side, 254, v6)
}

fn host(network: u8, n: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, network.into(), 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 0, network, n).into()
    }
}

/// The `n`-th virtual address.
#[must_use]
pub fn vip(n: u8, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 99, 0, n).into()
    }
}

/// The port and the Ethernet addresses by which packets reach a host on one of the links.
#[must_use]
pub fn way(to: IpAddr) -> Option<(u8, [u8; 12])> {
    let (side, n) = match to {
        IpAddr::V4(v4) => {
            let [_, zero, side, n] = v4.octets();
            (if zero == 0 { side } else { 0 }, n)
        }
        IpAddr::V6(v6) => (v6.segments()[2] as u8, v6.segments()[7] as u8),
    };
    if !matches!(side, 1 | 2) {
        return None;
    }
    let mut stations = [0; 12];
    stations[..6].copy_from_slice(&station(side, n));
    stations[6..].copy_from_slice(&DIRECTOR[usize::from(side) - 1]);
    Some((side - 1, stations))
}

/// The Ethernet address of a host.
#[must_use]
pub fn station(side: u8, n: u8) -> [u8; 6] {
    [2, 0, 0, 1, side, n]
}
