//! Names of hosts and ports, as libc looks them up for ipvsadm.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs as _};
use std::sync::OnceLock;

/// Who knows names.
pub trait Names {
    /// The first IPv4 address of a host.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;
    /// The port of this name with this IP protocol.
    fn port(&self, name: &str, protocol: u8) -> Option<u16>;
    /// The name of the host at this address.
    fn host_name(&self, address: IpAddr) -> Option<String>;
    /// The name of this port with this IP protocol.
    fn port_name(&self, port: u16, protocol: u8) -> Option<String>;
}

/// Knows none: what is read and written is numbers alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNames;

impl Names for NoNames {
    fn host(&self, _: &str) -> Option<Ipv4Addr> {
        None
    }

    fn port(&self, _: &str, _: u8) -> Option<u16> {
        None
    }

    fn host_name(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port_name(&self, _: u16, _: u8) -> Option<String> {
        None
    }
}

/// Knows what this machine knows: hosts by libc's resolver (files, DNS, whatever nsswitch.conf says), ports by
/// `/etc/services` itself, since no safe wrapper of libc knows SCTP's.
#[derive(Debug, Default)]
pub struct SystemNames {
    ports: OnceLock<Vec<PortName>>,
}

#[derive(Debug, PartialEq, Eq)]
struct PortName {
    /// The official name, then others.
    names: Vec<String>,
    port: u16,
    protocol: String,
}

impl SystemNames {
    fn ports(&self) -> &[PortName] {
        self.ports.get_or_init(|| parse(&fs::read_to_string("/etc/services").unwrap_or_default()))
    }
}

impl Names for SystemNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        let mut addresses = (name, 0).to_socket_addrs().ok()?;
        addresses.find_map(|address| match address.ip() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
    }

    fn port(&self, name: &str, protocol: u8) -> Option<u16> {
        let protocol = protocol_word(protocol)?;
        let known = |line: &&PortName| line.protocol == protocol && line.names.iter().any(|n| n == name);
        self.ports().iter().find(known).map(|line| line.port)
    }

    fn host_name(&self, address: IpAddr) -> Option<String> {
        // An address without a name comes back as it is.
        dns_lookup::lookup_addr(&address).ok().filter(|name| name.parse::<IpAddr>().is_err())
    }

    fn port_name(&self, port: u16, protocol: u8) -> Option<String> {
        let protocol = protocol_word(protocol)?;
        let known = |line: &&PortName| line.protocol == protocol && line.port == port;
        self.ports().iter().find(known)?.names.first().cloned()
    }
}

fn protocol_word(protocol: u8) -> Option<&'static str> {
    match protocol {
        6 => Some("tcp"),
        17 => Some("udp"),
        132 => Some("sctp"),
        _ => None,
    }
}

/// Lines as `http 80/tcp www  # comment`.
fn parse(text: &str) -> Vec<PortName> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_ascii_whitespace();
        let name = words.next()?;
        let (port, protocol) = words.next()?.split_once('/')?;
        let names = std::iter::once(name).chain(words).map(str::to_owned).collect();
        Some(PortName { names, port: port.parse().ok()?, protocol: protocol.to_owned() })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names_for_each_protocol() {
        let names = SystemNames { ports: OnceLock::new() };
        let text = "# services\nhttp\t80/tcp\twww # web\nhttp 80/udp\nm2ua 2904/sctp\nbroken 1\n";
        names.ports.set(parse(text)).expect("nobody has looked yet");
        assert_eq!(
            (names.port("www", 6), names.port("www", 17), names.port("http", 17)),
            (Some(80), None, Some(80))
        );
        assert_eq!(names.port_name(80, 6).as_deref(), Some("http"));
        assert_eq!((names.port_name(2904, 132).as_deref(), names.port_name(2904, 0)), (Some("m2ua"), None));
    }
}
