//! Packets by their fields.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

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
    /// Where it belongs, if it is a fragment.
    pub piece: Option<Piece>,
    /// The payload.
    pub payload: Vec<u8>,
}

/// A fragment's place in its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Identification; that of IPv4 is in the packet as well.
    pub id: u32,
    /// Where its payload begins, in bytes.
    pub offset: usize,
    /// More fragments follow.
    pub more: bool,
}

/// Protocol numbers.
pub const TCP: u8 = 6;
/// As above.
pub const UDP: u8 = 17;
/// As above.
pub const SCTP: u8 = 132;
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

/// CRC32c by the book (RFC 9260 appendix A): one bit after the other.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
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
            piece: (ip[6] & 0x3f != 0 || ip[7] != 0).then(|| Piece {
                id: u16::from_be_bytes([ip[4], ip[5]]).into(),
                offset: usize::from(u16::from_be_bytes([ip[6] & 0x1f, ip[7]])) * 8,
                more: ip[6] & 0x20 != 0,
            }),
            payload: ip.get(20..len)?.to_vec(),
        })
    }

    fn read_v6(stations: [u8; 12], ip: &[u8]) -> Option<Packet> {
        let address = |at: usize| Some(IpAddr::V6(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?.into()));
        let (source, destination) = (address(8)?, address(24)?);
        let len = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let header = if ip[6] == 44 { ip.get(40..48) } else { None };
        let word = header.map_or(0, |header| u16::from_be_bytes([header[2], header[3]]));
        let piece = header.map(|header| Piece {
            id: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            offset: usize::from(word & !7),
            more: word & 1 != 0,
        });
        Some(Packet {
            stations,
            source,
            destination,
            tos: ip[0] << 4 | ip[1] >> 4,
            ttl: ip[7],
            id: 0,
            df: true,
            protocol: header.map_or(ip[6], |header| header[0]),
            piece,
            payload: ip.get(if piece.is_some() { 48 } else { 40 }..len)?.to_vec(),
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
        match (self.source.is_ipv4(), self.piece) {
            (true, _) => 20,
            (false, None) => 40,
            (false, Some(_)) => 48,
        }
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
            let df = if self.df { 0x4000 } else { 0 };
            let place = self.piece.map_or(0, |p| (p.offset / 8) as u16 | if p.more { 0x2000 } else { 0 });
            ip.extend((df | place).to_be_bytes());
            ip.extend([self.ttl, self.protocol, 0, 0]);
            ip.extend(octets(self.source));
            ip.extend(octets(self.destination));
            let sum = !ones_complement(&ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            ip = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
            ip.extend((len - 40).to_be_bytes());
            ip.extend([if self.piece.is_some() { 44 } else { self.protocol }, self.ttl]);
            ip.extend(octets(self.source));
            ip.extend(octets(self.destination));
            if let Some(piece) = self.piece {
                ip.extend([self.protocol, 0]);
                ip.extend((piece.offset as u16 | u16::from(piece.more)).to_be_bytes());
                ip.extend(piece.id.to_be_bytes());
            }
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
        if self.protocol == SCTP {
            self.payload[8..12].fill(0);
            let crc = crc32c(&self.payload).to_le_bytes();
            return self.payload[8..12].copy_from_slice(&crc);
        }
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

    /// Gives the packet another source or destination and computes its checksum from all of it; of a first fragment
    /// from how that was, since the rest is not here.
    pub fn readdress(&mut self, source: bool, end: SocketAddr) {
        let address = if source { &mut self.source } else { &mut self.destination };
        let before = octets(std::mem::replace(address, end.ip()));
        if self.piece.is_some_and(|piece| piece.offset > 0) {
            return;
        }
        let at = if source { 0 } else { 2 };
        let port = self.word(at);
        self.set_word(at, end.port());
        if self.piece.is_none() {
            return self.sum_up();
        }
        let checksum = if self.protocol == TCP { 16 } else { 6 };
        let old = self.word(checksum);
        if self.protocol == UDP && old == 0 {
            return;
        }
        // RFC 1624: the sum, without what was, with what is.
        let mut covered = (!old).to_be_bytes().to_vec();
        covered.extend(before.iter().chain(&port.to_be_bytes()).map(|byte| !byte));
        covered.extend(octets(end.ip()));
        covered.extend(end.port().to_be_bytes());
        let sum = !ones_complement(&covered);
        self.set_word(checksum, if sum == 0 && self.protocol == UDP { 0xffff } else { sum });
    }

    /// Cuts the packet behind these offsets in its payload, multiples of eight.
    #[must_use]
    pub fn cut(&self, at: &[usize], id: u32) -> Vec<Packet> {
        let bounds: Vec<usize> = [0].iter().chain(at).chain([&self.payload.len()]).copied().collect();
        let piece = |bounds: &[usize]| Packet {
            piece: Some(Piece { id, offset: bounds[0], more: bounds[1] < self.payload.len() }),
            id: if self.source.is_ipv4() { id as u16 } else { 0 },
            payload: self.payload[bounds[0]..bounds[1]].to_vec(),
            ..self.clone()
        };
        bounds.windows(2).map(piece).collect()
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
            piece: None,
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
