//! The connections of the benchmark and their packets: the n-th has a client of its own.

use std::net::Ipv4Addr;

use director::wire::{checksum, ipv4};

use super::case::{Direction, Traffic};

/// Virtual services with one real server each; connection n belongs to the service n modulo this. With one
/// real server to choose, replies can be written before the director has chosen.
pub const SERVICES: u32 = 16;
/// Real servers of the one service that new connections are opened to.
pub const POOL: u32 = 16;
/// The greatest number of connections that have a client of their own.
pub const MOST: u32 = 1 << 24;
/// Length of every frame, without FCS: the shortest there is.
pub const FRAME: usize = 60;

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
    frames: Vec<[u8; FRAME]>,
    /// Where the client's address, port, and the transport checksum are.
    address_at: usize,
    port_at: usize,
    checksum_at: usize,
}

const IP: usize = 14;
const IP_CHECKSUM: usize = IP + 10;
const TRANSPORT: usize = IP + 20;

impl Templates {
    /// Frames of this traffic, going this way; `flags` are those of TCP.
    #[must_use]
    pub fn new(traffic: Traffic, direction: Direction, flags: u8, target: Target) -> Templates {
        let numbers = match target {
            Target::Each => 0..SERVICES,
            Target::Pool => SERVICES..SERVICES + 1,
        };
        let (address_at, port_at) = match direction {
            Direction::Request => (IP + 12, TRANSPORT),
            Direction::Reply => (IP + 16, TRANSPORT + 2),
        };
        let checksum_at = TRANSPORT
            + match traffic {
                Traffic::Udp => 6,
                Traffic::Tcp => 16,
            };
        let frames = numbers.map(|n| frame(traffic, direction, flags, n, checksum_at)).collect();
        Templates { frames, address_at, port_at, checksum_at }
    }

    /// Writes the frame of connection `n`: [`FRAME`] bytes.
    #[inline]
    pub fn stamp(&self, n: u32, frame: &mut [u8]) {
        let (address, port) = client(n);
        // The service is the connection's number modulo how many there are.
        frame.copy_from_slice(&self.frames[n as usize % self.frames.len()]);
        frame[self.address_at..self.address_at + 4].copy_from_slice(&address.octets());
        frame[self.port_at..self.port_at + 2].copy_from_slice(&port.to_be_bytes());
        let delta = checksum::Delta::default().replace_u32(0, address.into());
        mend(frame, IP_CHECKSUM, delta);
        mend(frame, self.checksum_at, delta.replace_u16(0, port));
    }
}

fn mend(frame: &mut [u8], at: usize, delta: checksum::Delta) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    frame[at..at + 2].copy_from_slice(&delta.apply(old).to_be_bytes());
}

/// The frame of a client at 0.0.0.0:0 to the `service`-th virtual service, or of its real server to that client.
fn frame(traffic: Traffic, direction: Direction, flags: u8, service: u32, checksum_at: usize) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&DIRECTOR_MAC);
    frame[6..12].copy_from_slice(&ROUTER_MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    let client = Ipv4Addr::UNSPECIFIED;
    let (source, destination, source_port, destination_port) = match direction {
        Direction::Request => (client, virtual_address(service), 0, VIRTUAL_PORT),
        Direction::Reply => (server_address(service), client, NAT_PORT, 0),
    };
    let (protocol, total_len) = match traffic {
        Traffic::Udp => (ipv4::UDP, FRAME - IP),
        Traffic::Tcp => (ipv4::TCP, 40),
    };
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
    let end = IP + total_len;
    let transport = &mut frame[TRANSPORT..end];
    transport[..2].copy_from_slice(&source_port.to_be_bytes());
    transport[2..4].copy_from_slice(&destination_port.to_be_bytes());
    match traffic {
        Traffic::Udp => {
            let len = transport.len() as u16;
            transport[4..6].copy_from_slice(&len.to_be_bytes());
            transport[8..].copy_from_slice(b"director benchmark");
        }
        Traffic::Tcp => {
            transport[12] = 5 << 4;
            transport[13] = flags;
            transport[14..16].copy_from_slice(&0xffffu16.to_be_bytes());
        }
    }
    let len = transport.len() as u16;
    let pseudo = checksum::pseudo_header_v4(source, destination, protocol, len);
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

    #[test]
    fn frames_are_sound_to_the_last_checksum() {
        for traffic in [Traffic::Udp, Traffic::Tcp] {
            for direction in [Direction::Request, Direction::Reply] {
                let templates = Templates::new(traffic, direction, ACK, Target::Each);
                for n in [0, 1, 17, 9_999_999] {
                    let mut frame = [0; FRAME];
                    templates.stamp(n, &mut frame);
                    let parsed = parsed(&frame);
                    let (address, port) = client(n);
                    let (source, destination) = (parsed.source_port(), parsed.destination_port());
                    match direction {
                        Direction::Request => {
                            assert_eq!((parsed.source, source), (address, port));
                            assert_eq!(parsed.destination, virtual_address(n % SERVICES));
                        }
                        Direction::Reply => {
                            assert_eq!((parsed.destination, destination), (address, port));
                            assert_eq!(parsed.source, server_address(n % SERVICES));
                        }
                    }
                    assert!(ipv4::checksum_is_valid(&frame[IP..TRANSPORT]));
                    let transport = &frame[parsed.transport_offset()..parsed.end()];
                    let protocol = ipv4::protocol(&frame[IP..]);
                    let len = transport.len() as u16;
                    let pseudo = checksum::pseudo_header_v4(parsed.source, parsed.destination, protocol, len);
                    assert_eq!(checksum::sum(transport, pseudo), 0xffff);
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
