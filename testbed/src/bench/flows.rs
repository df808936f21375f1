//! The connections of the benchmark and their packets: the n-th has a client of its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use director::wire::{checksum, ethernet, ipv4, ipv6};

use super::case::{Direction, Family, Traffic};

/// Virtual services with one real server each; connection n belongs to the service n modulo this. With one
/// real server to choose, replies can be written before the director has chosen.
pub const SERVICES: u32 = 16;
/// Real servers of the one service that new connections are opened to.
pub const POOL: u32 = 16;
/// The greatest number of connections that have a client of their own.
pub const MOST: u32 = 1 << 24;
/// Length of every frame of IPv4, without FCS: the shortest there is.
pub const FRAME: usize = 60;
/// Length of every frame of IPv6, without FCS: the shortest that TCP has.
pub const FRAME_V6: usize = 74;
/// The longest frame.
pub const MAX_FRAME: usize = FRAME_V6;
/// In front of the 32 bits that IPv4 has: the prefix for documentation.
const PREFIX: u128 = 0x2001_0db8 << 96;

/// The director's Ethernet address.
pub const DIRECTOR_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xd0];
/// The router's, behind which clients are.
pub const ROUTER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0xc0];
/// The router's address.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 254);
/// Port of virtual services.
pub const VIRTUAL_PORT: u16 = 80;
/// Port of real servers by NAT.
pub const NAT_PORT: u16 = 8080;

/// FIN, SYN and so on, as in the TCP header.
pub const SYN: u8 = 2;
/// As above.
pub const ACK: u8 = 16;

/// Which services packets are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The [`SERVICES`], each with one real server.
    Each,
    /// The one with [`POOL`] real servers.
    Pool,
}

/// Address of the `n`-th virtual service; the one after the last has the pool of real servers.
#[must_use]
pub fn virtual_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 1)) + n)
}

/// Address of the real server of the `n`-th virtual service.
#[must_use]
pub fn server_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 0, 1)) + n)
}

/// Address of the `n`-th real server of the pool.
#[must_use]
pub fn pool_address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 1, 1)) + n)
}

/// Address and port of the client of connection `n`, different for each up to [`MOST`].
#[inline]
#[must_use]
pub fn client(n: u32) -> (Ipv4Addr, u16) {
    // Odd, hence a permutation of the 24 bits.
    let mixed = n.wrapping_mul(0x9e37_79b1);
    let port = 1024 + ((mixed >> 8) % 64_000) as u16;
    (Ipv4Addr::from(0x0a00_0000 | mixed & 0x00ff_ffff), port)
}

/// Frames of one kind, ready but for the client.
#[derive(Clone, Debug)]
pub struct Templates {
    frames: Vec<Vec<u8>>,
    traffic: Traffic,
    /// Where the client's address, port, and the transport checksum are.
    address_at: usize,
    port_at: usize,
    checksum_at: usize,
}

const IP: usize = 14;
const IP_CHECKSUM: usize = IP + 10;

/// What tells IPv6 from IPv4 in a frame.
struct Layout {
    /// Length of the IP header.
    header_len: usize,
    source_at: usize,
    destination_at: usize,
    /// Where the last 32 bits of an address are, from its start: those that tell clients apart.
    low: usize,
    frame_len: usize,
}

fn layout(traffic: Traffic) -> Layout {
    match traffic.family() {
        Family::V4 => {
            Layout { header_len: 20, source_at: IP + 12, destination_at: IP + 16, low: 0, frame_len: FRAME }
        }
        Family::V6 => Layout {
            header_len: 40,
            source_at: IP + 8,
            destination_at: IP + 24,
            low: 12,
            frame_len: FRAME_V6,
        },
    }
}

impl Templates {
    /// Frames of this traffic, going this way; `flags` are those of TCP.
    #[must_use]
    pub fn new(traffic: Traffic, direction: Direction, flags: u8, target: Target) -> Templates {
        let numbers = match target {
            Target::Each => 0..SERVICES,
            Target::Pool => SERVICES..SERVICES + 1,
        };
        let layout = layout(traffic);
        let transport = IP + layout.header_len;
        let (address_at, port_at) = match direction {
            Direction::Request => (layout.source_at + layout.low, transport),
            Direction::Reply => (layout.destination_at + layout.low, transport + 2),
        };
        let checksum_at = transport + if traffic.is_tcp() { 16 } else { 6 };
        let frames = numbers.map(|n| frame(traffic, direction, flags, n, checksum_at)).collect();
        Templates { frames, traffic, address_at, port_at, checksum_at }
    }

    /// Length of each frame, without FCS.
    #[must_use]
    pub fn frame_len(&self) -> usize {
        layout(self.traffic).frame_len
    }

    /// Whether some frames are to be cut.
    #[inline]
    #[must_use]
    pub fn are_cut(&self) -> bool {
        self.traffic == Traffic::UdpFragments
    }

    /// Address and port of the client of connection `n`.
    #[must_use]
    pub fn client(&self, n: u32) -> (IpAddr, u16) {
        let (address, port) = client(n);
        (in_family(self.traffic, address), port)
    }

    /// Writes the frame of connection `n`: [`Templates::frame_len`] bytes.
    #[inline]
    pub fn stamp(&self, n: u32, frame: &mut [u8]) {
        let (address, port) = client(n);
        // The service is the connection's number modulo how many there are.
        frame.copy_from_slice(&self.frames[n as usize % self.frames.len()]);
        frame[self.address_at..self.address_at + 4].copy_from_slice(&address.octets());
        frame[self.port_at..self.port_at + 2].copy_from_slice(&port.to_be_bytes());
        let delta = checksum::Delta::default().replace_u32(0, address.into());
        if self.traffic.family() == Family::V4 {
            mend(frame, IP_CHECKSUM, delta);
        }
        mend(frame, self.checksum_at, delta.replace_u16(0, port));
    }
}

fn mend(frame: &mut [u8], at: usize, delta: checksum::Delta) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&delta.apply(old).to_be_bytes());
}

/// An address of the benchmark in the version of IP that packets have: in IPv6 behind a common prefix.
#[must_use]
pub fn in_family(traffic: Traffic, address: Ipv4Addr) -> IpAddr {
    match traffic.family() {
        Family::V4 => address.into(),
        Family::V6 => Ipv6Addr::from(PREFIX | u128::from(u32::from(address))).into(),
    }
}

/// The frame of a client at 0.0.0.0:0 to the `service`-th virtual service, or of its real server to that client.
fn frame(traffic: Traffic, direction: Direction, flags: u8, service: u32, checksum_at: usize) -> Vec<u8> {
    let layout = layout(traffic);
    let mut frame = vec![0; layout.frame_len];
    frame[..6].copy_from_slice(&DIRECTOR_MAC);
    frame[6..12].copy_from_slice(&ROUTER_MAC);
    let client = Ipv4Addr::UNSPECIFIED;
    let (source, destination, source_port, destination_port) = match direction {
        Direction::Request => (client, virtual_address(service), 0, VIRTUAL_PORT),
        Direction::Reply => (server_address(service), client, NAT_PORT, 0),
    };
    let protocol = if traffic.is_tcp() { ipv4::TCP } else { ipv4::UDP };
    let total_len = if traffic.is_tcp() { layout.header_len + 20 } else { layout.frame_len - IP };
    let len = (total_len - layout.header_len) as u16;
    let ends = (in_family(traffic, source), in_family(traffic, destination));
    let (ether_type, pseudo) = match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = ipv4::Header {
                tos: 0,
                total_len: total_len as u16,
                id: 1,
                flags_and_offset: ipv4::DONT_FRAGMENT,
                ttl: 64,
                protocol,
                source,
                destination,
            };
            header.write(&mut frame[IP..]);
            (ethernet::IPV4, checksum::pseudo_header_v4(source, destination, protocol, len))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = ipv6::Header {
                traffic_class: 0,
                payload_len: len,
                next_header: protocol,
                hop_limit: 64,
                source,
                destination,
            };
            header.write(&mut frame[IP..]);
            (ethernet::IPV6, checksum::pseudo_header_v6(source, destination, protocol, len))
        }
        _ => unreachable!("both ends are of the traffic's family"),
    };
    frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
    let transport = &mut frame[IP + layout.header_len..IP + total_len];
    transport[..2].copy_from_slice(&source_port.to_be_bytes());
    transport[2..4].copy_from_slice(&destination_port.to_be_bytes());
    if traffic.is_tcp() {
        transport[12] = 5 << 4;
        transport[13] = flags;
        transport[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
    } else {
        transport[4..6].copy_from_slice(&len.to_be_bytes());
        let payload = b"director benchmark";
        let payload = &payload[..payload.len().min(transport.len() - 8)];
        transport[8..8 + payload.len()].copy_from_slice(payload);
    }
    let sum = !checksum::sum(transport, pseudo);
    frame[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Connections in an order that no prefetcher foresees, each once in a round.
#[derive(Clone, Debug)]
pub struct Order {
    next: u32,
    step: u32,
    of: u32,
}

impl Order {
    /// An order of the numbers below `of`.
    #[must_use]
    pub fn new(of: u32) -> Order {
        let of = of.max(1);
        // About the golden section of it; the next number without a common divisor makes every number come.
        let mut step = (f64::from(of) * 0.618_033_988) as u32;
        while gcd(step, of) != 1 {
            step += 1;
        }
        Order { next: 0, step: step % of, of }
    }
}

impl Iterator for Order {
    type Item = u32;

    #[inline]
    fn next(&mut self) -> Option<u32> {
        let here = self.next;
        self.next += self.step;
        if self.next >= self.of {
            self.next -= self.of;
        }
        Some(here)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use director::wire::{self, Ipv4Frame, Parsed};
    use std::collections::HashSet;

    fn parsed(frame: &[u8]) -> Ipv4Frame {
        let mut parsed = Ipv4Frame::NONE;
        assert_eq!(wire::parse(frame, &mut parsed), Ok(Parsed::Ipv4), "{frame:02x?}");
        parsed
    }

    #[test]
    fn every_connection_has_a_client_of_its_own() {
        let clients: HashSet<_> = (0..MOST).step_by(7).map(|n| client(n).0).collect();
        assert_eq!(clients.len(), MOST.div_ceil(7) as usize);
        assert!((0..100_000).all(|n| client(n).1 >= 1024));
    }

    #[test]
    fn an_order_meets_every_connection_once_in_a_round() {
        for of in [1, 2, 7, 16, 1000, 10_000] {
            let round: HashSet<_> = Order::new(of).take(of as usize).collect();
            assert_eq!(round.len(), of as usize);
        }
    }

    /// Ends, header and payload of a frame are what the connection's number says.
    fn is_sound<A: wire::Family>(
        n: u32,
        direction: Direction,
        templates: &Templates,
        parsed: &wire::Frame<A>,
    ) {
        let mut frame = vec![0; templates.frame_len()];
        templates.stamp(n, &mut frame);
        let (source, destination): (IpAddr, IpAddr) = (parsed.source.into(), parsed.destination.into());
        match direction {
            Direction::Request => {
                assert_eq!((source, parsed.source_port()), templates.client(n));
                assert_eq!(destination, in_family(templates.traffic, virtual_address(n % SERVICES)));
            }
            Direction::Reply => {
                assert_eq!((destination, parsed.destination_port()), templates.client(n));
                assert_eq!(source, in_family(templates.traffic, server_address(n % SERVICES)));
            }
        }
        assert!(A::checksum_is_valid(&frame[IP..parsed.transport_offset()]));
        let transport = &frame[parsed.transport_offset()..parsed.end()];
        let pseudo =
            A::pseudo_header(parsed.source, parsed.destination, parsed.protocol, transport.len() as u16);
        assert_eq!(checksum::sum(transport, pseudo), 0xffff);
    }

    #[test]
    fn frames_are_sound_to_the_last_checksum() {
        for traffic in [Traffic::Udp, Traffic::Tcp, Traffic::Udp6, Traffic::Tcp6] {
            for direction in [Direction::Request, Direction::Reply] {
                let templates = Templates::new(traffic, direction, ACK, Target::Each);
                for n in [0, 1, 17, 9_999_999] {
                    let mut frame = vec![0; templates.frame_len()];
                    templates.stamp(n, &mut frame);
                    if traffic.family() == Family::V4 {
                        is_sound(n, direction, &templates, &parsed(&frame));
                    } else {
                        let mut parsed = wire::Ipv6Frame::NONE;
                        assert_eq!(wire::parse_ipv6(&frame, &mut parsed), Ok(()), "{frame:02x?}");
                        is_sound(n, direction, &templates, &parsed);
                    }
                }
            }
        }
    }

    #[test]
    fn new_connections_go_to_the_pool() {
        let mut frame = [0; FRAME];
        Templates::new(Traffic::Tcp, Direction::Request, SYN, Target::Pool).stamp(5, &mut frame);
        assert_eq!(parsed(&frame).destination, virtual_address(SERVICES));
    }
}
