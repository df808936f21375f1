//! Packets by their fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IP packet in an Ethernet frame, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Destination and source address of the frame.
    pub stations: [u8; 12],
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Identification; 0 of IPv6.
    pub id: u16,
    /// "Don't fragment"; of IPv6 always.
    pub df: bool,
    /// Protocol of the payload.
    pub protocol: u8,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Protocol numbers.
pub const TCP: u8 = 6;
/// As above.
pub const UDP: u8 = 17;
/// As above.
pub const ICMP: u8 = 1;
/// As above.
pub const ICMPV6: u8 = 58;

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The one's-complement sum of RFC 1071, by the book.
pub fn ones_complement(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) * 256 + u32::from(*pair.get(1).unwrap_or(&0));
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    sum as u16
}

impl Packet {
    /// Takes a frame apart. `None` where it is no IP packet without options or extension headers.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Packet> {
        let stations = frame.get(..12)?.try_into().ok()?;
        let ip = frame.get(14..)?;
        match frame.get(12..14)? {
            [8, 0] => Packet::read_v4(stations, ip),
            [0x86, 0xdd] => Packet::read_v6(stations, ip),
            _ => None,
        }
    }

    fn read_v4(stations: [u8; 12], ip: &[u8]) -> Option<Packet> {
        let address = |at: usize| Some(IpAddr::V4(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?.into()));
        let (source, destination) = (address(12)?, address(16)?);
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        if ip[0] != 0x45 {
            return None;
        }
        Some(Packet {
            stations,
            source,
            destination,
            tos: ip[1],
            ttl: ip[8],
            id: u16::from_be_bytes([ip[4], ip[5]]),
            df: ip[6] & 0x40 != 0,
            protocol: ip[9],
            payload: ip.get(20..len)?.to_vec(),
        })
    }

    fn read_v6(stations: [u8; 12], ip: &[u8]) -> Option<Packet> {
        let address = |at: usize| Some(IpAddr::V6(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into()));
        let (source, destination) = (address(8)?, address(24)?);
        let len = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        Some(Packet {
            stations,
            source,
            destination,
            tos: ip[0] << 4 | ip[1] >> 4,
            ttl: ip[7],
            id: 0,
            df: true,
            protocol: ip[6],
            payload: ip.get(40..len)?.to_vec(),
        })
    }

    /// Length of the IP packet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.payload.len() + self.header_len()
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    fn header_len(&self) -> usize {
        if self.source.is_ipv4() { 20 } else { 40 }
    }

    /// The IP packet, its header's checksum computed.
    #[must_use]
    pub fn ip(&self) -> Vec<u8> {
        let len = self.len() as u16;
        let mut ip;
        if self.source.is_ipv4() {
            ip = vec![0x45, self.tos];
            ip.extend(len.to_be_bytes());
            ip.extend(self.id.to_be_bytes());
            ip.extend([if self.df { 0x40 } else { 0 }, 0, self.ttl, self.protocol, 0, 0]);
            ip.extend(octets(self.source));
            ip.extend(octets(self.destination));
            let sum = !ones_complement(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
            ip.extend((len - 40).to_be_bytes());
            ip.extend([self.protocol, self.ttl]);
            ip.extend(octets(self.source));
            ip.extend(octets(self.destination));
        }
        ip.extend(&self.payload);
        ip
    }

    /// The frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let ether_type = if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        [&self.stations[..], &ether_type, &self.ip()].concat()
    }

    /// A 16-bit field of the payload.
    #[must_use]
    pub fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.payload[at], self.payload[at + 1]])
    }

    /// Writes a 16-bit field of the payload.
    pub fn set_word(&mut self, at: usize, value: u16) {
        self.payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    /// Computes the checksum of what the packet carries, from all of it.
    pub fn sum_up(&mut self) {
        let at = match self.protocol {
            TCP => 16,
            UDP => 6,
            ICMP | ICMPV6 => 2,
            _ => return,
        };
        self.set_word(at, 0);
        let mut covered = Vec::new();
        if self.protocol != ICMP {
            covered.extend(octets(self.source));
            covered.extend(octets(self.destination));
            covered.extend((self.payload.len() as u32).to_be_bytes());
            covered.extend([0, 0, 0, self.protocol]);
        }
        covered.extend(&self.payload);
        let sum = !ones_complement(&covered);
        self.set_word(at, if sum == 0 && self.protocol == UDP { 0xffff } else { sum });
    }

    /// A packet without payload between these ends.
    #[must_use]
    pub fn between(source: IpAddr, destination: IpAddr, protocol: u8) -> Packet {
        let df = source.is_ipv6();
        Packet {
            stations: [0; 12],
            source,
            destination,
            tos: 0,
            ttl: 64,
            id: 0,
            df,
            protocol,
            payload: Vec::new(),
        }
    }
}

/// Where an IP header of either version begins, whose packet it is: ends, protocol, length of the header.
#[must_use]
pub fn quoted(ip: &[u8]) -> Option<(IpAddr, IpAddr, u8, usize)> {
    match ip.first()? >> 4 {
        4 if ip.len() >= 20 && ip[6] & 0x1f == 0 && ip[7] == 0 => {
            let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
            Some((address(12), address(16), ip[9], 20))
        }
        6 if ip.len() >= 40 => {
            let address =
                |at: usize| Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).ok()?)));
            Some((address(8)?, address(24)?, ip[6], 40))
        }
        _ => None,
    }
}
