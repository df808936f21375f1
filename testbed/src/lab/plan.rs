//! The addresses of a lab; docs/lab.md draws them. Those of IPv6 are in [`v6`], by the same names.

pub mod v6;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The client's network, where the director's client side is.
pub const CLIENT_SIDE: &str = "10.0.1.0/24";
/// The real servers' network.
pub const SERVER_SIDE: &str = "10.0.2.0/24";
/// Where the client is once more, behind the router and a narrow link.
pub const FAR_CLIENT_SIDE: &str = "10.0.3.0/24";
/// Where the real servers are once more, behind the router and a narrow link.
pub const FAR_SERVER_SIDE: &str = "10.0.4.0/24";
/// The VIPs' network.
pub const VIP_SIDE: &str = "10.99.0.0/24";

/// The client's first address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);
/// The director on the client side: the client's gateway to the VIPs.
pub const DIRECTOR_CLIENT_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 254);
/// The director on the real servers' side: their default gateway.
pub const DIRECTOR_SERVER_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 254);
/// The router by which replies of DR and TUN real servers go straight back, on the client side.
pub const ROUTER_CLIENT_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 253);
/// The router on the real servers' side.
pub const ROUTER_SERVER_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 253);

/// The VIP of services forwarded by NAT; only the director holds it.
pub const VIP_NAT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// The VIP of services forwarded by direct routing; the real servers hold it too.
pub const VIP_DR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
/// The VIP of services forwarded by tunnelling; the real servers hold it too.
pub const VIP_TUN: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
/// All VIPs of a lab that are of IPv4.
pub const VIPS: [Ipv4Addr; 3] = [VIP_NAT, VIP_DR, VIP_TUN];

/// The largest packet to the client's far addresses.
pub const FAR_CLIENT_MTU: u16 = 1300;
/// The largest packet to a real server's far address.
pub const FAR_SERVER_MTU: u16 = 1400;

/// The port of the web services, and of nginx for what comes by DR and TUN.
pub const WEB: u16 = 80;
/// The port of nginx for what comes by NAT, so that a port is really mapped.
pub const WEB_NAT: u16 = 8080;
/// The port of the echo services (TCP and UDP), and of the echo programs for what comes by DR and TUN.
pub const ECHO: u16 = 7;
/// The port of the echo programs for what comes by NAT.
pub const ECHO_NAT: u16 = 7007;

/// The address of the `number`-th real server, counted from 1: 10.0.2.11, 10.0.2.12 ...
#[must_use]
pub fn real_server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 2, 10 + number)
}

/// Its address that packets reach by the router alone, with [`FAR_SERVER_MTU`]: 10.0.4.11, 10.0.4.12 ...
#[must_use]
pub fn far_real_server(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 4, 10 + number)
}

/// Its name, which it puts into its answers.
#[must_use]
pub fn real_server_name(number: u8) -> String {
    format!("real{number}")
}

/// The `index`-th of the client's further addresses, which begin at 10.0.1.100.
#[must_use]
pub fn client_address(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 100 + index)
}

/// The `index`-th of the client's addresses that packets reach by the router alone, on whose link to them only
/// [`FAR_CLIENT_MTU`] bytes fit: 10.0.3.1, 10.0.3.2 ...
#[must_use]
pub fn far_client(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 3, 1 + index)
}

/// How many far addresses of each version of IP the client can have: one for each VIP, for what a machine learns of
/// the path to an address is not learned again.
pub const FAR_CLIENTS: u8 = VIPS.len() as u8;

/// How many further addresses of each version of IP the client can have.
pub const CLIENT_ADDRESSES: u8 = 150;

/// `http://ADDRESS:PORT/PATH` with the brackets that an address of IPv6 needs. The path begins with a slash.
#[must_use]
pub fn url(address: impl Into<IpAddr>, port: u16, path: &str) -> String {
    format!("http://{}{path}", SocketAddr::new(address.into(), port))
}
