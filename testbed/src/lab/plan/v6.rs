//! The addresses of IPv6. Their last group reads as the last number of the IPv4 address beside it.

use std::net::Ipv6Addr;

/// The client's network, where the director's client side is.
pub const CLIENT_SIDE: &str = "2001:db8:1::/64";
/// The real servers' network.
pub const SERVER_SIDE: &str = "2001:db8:2::/64";
/// Where the client is once more, behind the router and a narrow link.
pub const FAR_CLIENT_SIDE: &str = "2001:db8:3::/64";
/// Where the real servers are once more, behind the router and a narrow link.
pub const FAR_SERVER_SIDE: &str = "2001:db8:4::/64";
/// The VIPs' network.
pub const VIP_SIDE: &str = "2001:db8:99::/64";

/// The client's first address.
pub const CLIENT: Ipv6Addr = address(0x1, 1);
/// The director on the client side.
pub const DIRECTOR_CLIENT_SIDE: Ipv6Addr = address(0x1, 254);
/// The director on the real servers' side.
pub const DIRECTOR_SERVER_SIDE: Ipv6Addr = address(0x2, 254);
/// The router on the client side.
pub const ROUTER_CLIENT_SIDE: Ipv6Addr = address(0x1, 253);
/// The router on the real servers' side.
pub const ROUTER_SERVER_SIDE: Ipv6Addr = address(0x2, 253);

/// The VIP of services forwarded by NAT.
pub const VIP_NAT: Ipv6Addr = address(0x99, 1);
/// The VIP of services forwarded by direct routing.
pub const VIP_DR: Ipv6Addr = address(0x99, 2);
/// The VIP of services forwarded by tunnelling.
pub const VIP_TUN: Ipv6Addr = address(0x99, 3);
/// All VIPs of a lab that are of IPv6.
pub const VIPS: [Ipv6Addr; 3] = [VIP_NAT, VIP_DR, VIP_TUN];

/// The address of the `number`-th real server, counted from 1: 2001:db8:2::11, 2001:db8:2::12 ...
#[must_use]
pub fn real_server(number: u8) -> Ipv6Addr {
    address(0x2, 10 + number)
}

/// Its address behind the router and a narrow link: 2001:db8:4::11 ...
#[must_use]
pub fn far_real_server(number: u8) -> Ipv6Addr {
    address(0x4, 10 + number)
}

/// The `index`-th of the client's further addresses, which begin at 2001:db8:1::100.
#[must_use]
pub fn client_address(index: u8) -> Ipv6Addr {
    address(0x1, 100 + index)
}

/// The `index`-th of the client's addresses behind the router and a narrow link: 2001:db8:3::1 ...
#[must_use]
pub fn far_client(index: u8) -> Ipv6Addr {
    address(0x3, 1 + index)
}

/// `2001:db8:NETWORK::HOST`, of which the host is meant to be read as a decimal number.
const fn address(network: u16, host: u8) -> Ipv6Addr {
    let host = host as u16;
    let reads = host / 100 * 0x100 + host / 10 % 10 * 0x10 + host % 10;
    Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, reads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_group_reads_as_in_ipv4() {
        assert_eq!(DIRECTOR_CLIENT_SIDE.to_string(), "2001:db8:1::254");
        assert_eq!(real_server(3).to_string(), "2001:db8:2::13");
        assert_eq!(client_address(149).to_string(), "2001:db8:1::249");
        assert_eq!(VIP_TUN.to_string(), "2001:db8:99::3");
    }
}
