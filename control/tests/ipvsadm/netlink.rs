//! What ipvsadm and a kernel say to each other: attributes of generic netlink, family "IPVS" (Linux
//! `include/uapi/linux/ip_vs.h`).

use std::net::{IpAddr, SocketAddr};

use control::cli::ipvsadm::{Command, Daemon, Forwarding, Listing, Netmask, Server, Service, TunnelType};
use control::model::{Family, ForwardingMethod, GueChecksum, Protocol, Scheduler, ServiceKey, Tunnel};
use control::protocol::{Counters, Rates, ServerStatus, ServiceStatus};

const SERVICE: u16 = 1;
const SERVER: u16 = 2;
const DAEMON: u16 = 3;
const NESTED: u16 = 0x8000;

const PERSISTENT: u32 = 1;
const ONE_PACKET: u32 = 4;

/// One attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn u8_of(kind: u16, value: u8) -> Vec<u8> {
    attribute(kind, &[value])
}

fn u16_of(kind: u16, value: u16) -> Vec<u8> {
    attribute(kind, &value.to_ne_bytes())
}

fn u32_of(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_ne_bytes())
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}

fn nest(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(NESTED | kind, &parts.concat())
}

fn family(address: IpAddr) -> u16 {
    if address.is_ipv4() { 2 } else { 10 }
}

fn address(kind: u16, address: IpAddr) -> Vec<u8> {
    address_before(kind, address, [0; 12])
}

fn address_before(kind: u16, address: IpAddr, behind: [u8; 12]) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => attribute(kind, &[ip.octets().as_slice(), &behind].concat()),
        IpAddr::V6(ip) => attribute(kind, &ip.octets()),
    }
}

fn port(kind: u16, port: u16) -> Vec<u8> {
    attribute(kind, &port.to_be_bytes())
}

fn protocol(protocol: Protocol) -> u16 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// The attributes that name a service.
fn key(service: ServiceKey) -> Vec<Vec<u8>> {
    let af = u16_of(1, if service.family() == Family::Ipv4 { 2 } else { 10 });
    match service {
        ServiceKey::Mark { mark, .. } => vec![af, u32_of(5, mark.0.get())],
        ServiceKey::Address { protocol: p, address: place } => {
            vec![af, u16_of(2, protocol(p)), address(3, place.ip()), port(4, place.port())]
        }
    }
}

fn described(
    service: ServiceKey,
    scheduler: &str,
    flags: u32,
    timeout: u32,
    netmask: [u8; 4],
) -> Vec<Vec<u8>> {
    let mut parts = key(service);
    parts.push(text(6, scheduler));
    parts.push(attribute(7, &[flags.to_ne_bytes(), [0xff; 4]].concat()));
    parts.push(u32_of(8, timeout));
    parts.push(attribute(9, &netmask));
    parts
}

/// A service that is only named; ipvsadm describes it with what it happens to have.
fn named(service: ServiceKey) -> Vec<u8> {
    let netmask = match service.family() {
        Family::Ipv4 => [0xff; 4],
        Family::Ipv6 => 128u32.to_ne_bytes(),
    };
    nest(SERVICE, &described(service, "", 0, 0, netmask))
}

fn service(service: &Service) -> Vec<u8> {
    let netmask = match service.netmask {
        Netmask::Mask(mask) => mask.to_be_bytes(),
        Netmask::Prefix(bits) => bits.to_ne_bytes(),
    };
    let flags = [
        (service.persistent.is_some(), PERSISTENT),
        (service.one_packet, ONE_PACKET),
        (service.flags.first, 8),
        (service.flags.second, 16),
        (service.flags.third, 32),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
    let timeout = service.persistent.unwrap_or(0);
    let mut parts = described(service.key, &service.scheduler, flags, timeout, netmask);
    if let Some(engine) = &service.engine {
        let place = parts.len() - 3;
        parts.insert(place, text(11, engine));
    }
    nest(SERVICE, &parts)
}

/// Of two versions of IP, what is left of the longer address stays behind the shorter one.
fn behind(service: ServiceKey, server: SocketAddr) -> [u8; 12] {
    match (service.ip(), server.ip()) {
        (IpAddr::V6(ip), IpAddr::V4(_)) => ip.octets()[4..].try_into().expect("twelve of sixteen"),
        _ => [0; 12],
    }
}

fn server(key: ServiceKey, server: &Server) -> Vec<u8> {
    let method = match server.forwarding {
        Forwarding::Masquerade => 0,
        Forwarding::Tunnel => 2,
        Forwarding::Route => 3,
    };
    let kind = match server.tunnel.kind {
        TunnelType::Ipip => 0,
        TunnelType::Gue => 1,
        TunnelType::Gre => 2,
    };
    let flags = u16::from(server.tunnel.csum) | u16::from(server.tunnel.remcsum) << 1;
    let (upper, lower) = (server.upper_threshold, server.lower_threshold);
    let behind = behind(key, server.address);
    described_server(
        (server.address, behind),
        method,
        server.weight,
        (kind, server.tunnel.port, flags),
        (upper, lower),
    )
}

fn described_server(
    (place, behind): (SocketAddr, [u8; 12]),
    method: u32,
    weight: u32,
    (kind, tunnel_port, flags): (u8, u16, u16),
    (upper, lower): (u32, u32),
) -> Vec<u8> {
    nest(
        SERVER,
        &[
            u16_of(11, family(place.ip())),
            address_before(1, place.ip(), behind),
            port(2, place.port()),
            u32_of(3, method),
            u32_of(4, weight),
            u8_of(13, kind),
            port(14, tunnel_port),
            u16_of(15, flags),
            u32_of(5, upper),
            u32_of(6, lower),
        ],
    )
}

fn daemon(daemon: &Daemon, starts: bool) -> Vec<u8> {
    let mut parts = vec![
        u32_of(1, if daemon.master { 1 } else { 2 }),
        text(2, if starts { &daemon.interface } else { "" }),
        u32_of(3, daemon.sync_id.into()),
    ];
    if daemon.max_length != 0 {
        parts.push(u16_of(4, daemon.max_length));
    }
    if daemon.port != 0 {
        parts.push(u16_of(7, daemon.port));
    }
    if daemon.ttl != 0 {
        parts.push(u8_of(8, daemon.ttl));
    }
    match daemon.group {
        Some(IpAddr::V4(group)) => parts.push(attribute(5, &group.octets())),
        Some(IpAddr::V6(group)) => parts.push(attribute(6, &group.octets())),
        None => {}
    }
    nest(DAEMON, &parts)
}

/// What ipvsadm asks the kernel for when it understands a command line so; none where it asks nothing.
pub(crate) fn question(command: &Command) -> Option<String> {
    let (number, attributes) = match command {
        Command::AddService(one) => (1, service(one)),
        Command::EditService(one) => (2, service(one)),
        Command::DeleteService(key) => (3, named(*key)),
        Command::List(Listing::Services, _) | Command::Save(_) => (4, Vec::new()),
        Command::List(Listing::Service(key), _) => (4, nest(SERVICE, &described(*key, "", 0, 0, [0; 4]))),
        Command::AddServer(key, one) => (5, [named(*key), server(*key, one)].concat()),
        Command::EditServer(key, one) => (6, [named(*key), server(*key, one)].concat()),
        Command::DeleteServer(key, place) => {
            let place = (*place, behind(*key, *place));
            let nothing = described_server(place, 3, 1, (0, 0, 0), (0, 0));
            (7, [named(*key), nothing].concat())
        }
        Command::StartDaemon(one) => (9, daemon(one, true)),
        Command::StopDaemon(one) => (10, daemon(one, false)),
        Command::List(Listing::Daemons, _) => (11, Vec::new()),
        Command::SetTimeouts { tcp, tcp_fin, udp } => {
            (12, [u32_of(4, *tcp), u32_of(5, *tcp_fin), u32_of(6, *udp)].concat())
        }
        Command::List(Listing::Timeouts, _) => (13, Vec::new()),
        Command::Zero(Some(key)) => (16, named(*key)),
        Command::Zero(None) => (16, Vec::new()),
        Command::Clear => (17, Vec::new()),
        Command::List(Listing::Connections, _) | Command::Help | Command::Version | Command::Restore => {
            return None;
        }
    };
    let hex = hex(&attributes);
    Some(if hex.is_empty() { number.to_string() } else { format!("{number}:{hex}") })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn statistics(counters: &Counters, rates: &Rates) -> Vec<u8> {
    let numbers = [
        counters.connections,
        counters.packets_in,
        counters.packets_out,
        counters.bytes_in,
        counters.bytes_out,
        rates.cps,
        rates.inpps,
        rates.outpps,
        rates.inbps,
        rates.outbps,
    ];
    let parts: Vec<_> =
        (1..).zip(numbers).map(|(kind, number)| attribute(kind, &number.to_ne_bytes())).collect();
    nest(12, &parts)
}

/// A kernel's answers when it has this service: lines for the stand-in.
pub(crate) fn answers(
    status: &ServiceStatus,
    rates: &Rates,
    server_rates: &[Rates],
    templates: &[u32],
) -> String {
    let persistence = status.persistence;
    let flags = [
        (persistence.is_some(), PERSISTENT),
        (status.one_packet, ONE_PACKET),
        (status.flags.fallback, 8),
        (status.flags.port, 16),
    ];
    let flags = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum();
    let timeout = persistence.map_or(0, |persistence| persistence.timeout.as_secs() as u32);
    let netmask = match (status.service.family(), persistence.map(|persistence| persistence.granularity)) {
        (Family::Ipv4, None | Some(32)) => [0xff; 4],
        (Family::Ipv4, Some(bits)) => (u32::MAX << (32 - bits)).to_be_bytes(),
        (Family::Ipv6, bits) => u32::from(bits.unwrap_or(128)).to_ne_bytes(),
    };
    let mut parts = described(status.service, scheduler(status.scheduler), flags, timeout, netmask);
    if persistence.is_some_and(|persistence| !persistence.engine.is_none()) {
        parts.push(text(11, "sip"));
    }
    parts.push(statistics(&status.counters, rates));
    let mut lines = format!("4 {}\n", hex(&nest(SERVICE, &parts)));
    let asked = hex(&nest(SERVICE, &key(status.service)));
    for (at, server) in status.servers.iter().enumerate() {
        let rates = server_rates.get(at).copied().unwrap_or_default();
        let attributes = listed_server(server, &rates, templates.get(at).copied().unwrap_or_default());
        lines.push_str(&format!("8:{asked} {}\n", hex(&attributes)));
    }
    lines
}

fn scheduler(scheduler: Scheduler) -> &'static str {
    scheduler.word()
}

fn listed_server(server: &ServerStatus, rates: &Rates, templates: u32) -> Vec<u8> {
    let method = match server.method {
        ForwardingMethod::Nat => 0,
        ForwardingMethod::Tunnel => 2,
        ForwardingMethod::Dr => 3,
    };
    let (kind, tunnel_port, flags) = match server.tunnel {
        Tunnel::Ipip => (0, 0, 0),
        Tunnel::Gue { port, checksum } => {
            let flags = match checksum {
                GueChecksum::None => 0,
                GueChecksum::Full => 1,
                GueChecksum::Remote => 2,
            };
            (1, port.get(), flags)
        }
        Tunnel::Gre { checksum } => (2, 0, u16::from(checksum)),
    };
    nest(
        SERVER,
        &[
            u16_of(11, family(server.address.ip())),
            address(1, server.address.ip()),
            port(2, server.address.port()),
            u32_of(3, method),
            u32_of(4, server.weight.0.into()),
            u8_of(13, kind),
            port(14, tunnel_port),
            u16_of(15, flags),
            u32_of(5, server.thresholds.upper),
            u32_of(6, server.thresholds.lower),
            u32_of(7, server.active as u32),
            u32_of(8, server.inactive as u32),
            u32_of(9, templates),
            statistics(&server.counters, rates),
        ],
    )
}

/// A kernel's answer to the question for timeouts.
pub(crate) fn timeouts(tcp: u32, tcp_fin: u32, udp: u32) -> String {
    let attributes = [u32_of(4, tcp), u32_of(5, tcp_fin), u32_of(6, udp)].concat();
    format!("13 {}\n", hex(&attributes))
}
