//! Frames for tests, built and judged by code that shares nothing with the data path.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use director::nexthop::MacAddr;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const PSH: u8 = 0x08;
pub const ACK: u8 = 0x10;

#[derive(Clone, Debug)]
pub enum Payload {
    Tcp { flags: u8, data: Vec<u8> },
    Udp { data: Vec<u8>, checksum: bool },
    Sctp { chunks: Vec<u8> },
    Raw { protocol: u8, data: Vec<u8> },
}

/// An Ethernet frame with an IP packet of the version of its addresses, by its fields. What IPv6 has not is left out
/// there: identification, flags, options.
#[derive(Clone, Debug)]
pub struct Frame {
    pub to: MacAddr,
    pub from: MacAddr,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub source_port: u16,
    pub destination_port: u16,
    pub ttl: u8,
    pub tos: u8,
    pub id: u16,
    pub flags_and_offset: u16,
    pub options: Vec<u8>,
    /// Extension headers of IPv6, each with its number.
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub payload: Payload,
    /// Bytes of padding behind the IP packet.
    pub padding: usize,
}

pub fn ones_complement(bytes: &[u8], mut sum: u32) -> u16 {
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], if pair.len() == 2 { pair[1] } else { 0 }]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC32c bit by bit (RFC 9260 appendix A).
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in bytes.iter().flat_map(|byte| (0..8).map(move |n| u32::from(byte >> n & 1))) {
        crc = if (crc ^ bit) & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    }
    !crc
}

impl Frame {
    pub fn tcp(source: (&str, u16), destination: (&str, u16), flags: u8) -> Frame {
        Frame {
            to: crate::world::D0,
            from: crate::world::C0,
            source: source.0.parse().unwrap(),
            destination: destination.0.parse().unwrap(),
            source_port: source.1,
            destination_port: destination.1,
            ttl: 64,
            tos: 0,
            id: 0x1234,
            flags_and_offset: 0x4000,
            options: Vec::new(),
            extensions: Vec::new(),
            payload: Payload::Tcp { flags, data: Vec::new() },
            padding: 0,
        }
    }

    pub fn udp(source: (&str, u16), destination: (&str, u16), data: &[u8]) -> Frame {
        Frame {
            flags_and_offset: 0,
            payload: Payload::Udp { data: data.to_vec(), checksum: true },
            ..Frame::tcp(source, destination, 0)
        }
    }

    /// With one chunk of this type.
    pub fn sctp(source: (&str, u16), destination: (&str, u16), chunk: u8) -> Frame {
        let payload = Payload::Sctp { chunks: vec![chunk, 0, 0, 8, 1, 2, 3, 4] };
        Frame { payload, ..Frame::tcp(source, destination, 0) }
    }

    /// From a real server on the server side.
    pub fn by_server(self) -> Frame {
        Frame { to: crate::world::D1, from: crate::world::server_mac(1), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let ports = [self.source_port.to_be_bytes(), self.destination_port.to_be_bytes()].concat();
        let (protocol, mut l4, checksum_at) = match &self.payload {
            Payload::Tcp { flags, data } => {
                let mut l4 = ports;
                l4.extend([0, 0, 3, 0xe8, 0, 0, 0, 0, 0x50, *flags, 0x20, 0, 0, 0, 0, 0]);
                l4.extend(data);
                (6, l4, Some(16))
            }
            Payload::Udp { data, checksum } => {
                let mut l4 = ports;
                l4.extend((8 + data.len() as u16).to_be_bytes());
                l4.extend([0, 0]);
                l4.extend(data);
                (17, l4, checksum.then_some(6))
            }
            Payload::Sctp { chunks } => {
                let mut l4 = ports;
                l4.extend([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0]);
                l4.extend(chunks);
                let crc = crc32c(&l4).to_le_bytes();
                l4[8..12].copy_from_slice(&crc);
                (132, l4, None)
            }
            Payload::Raw { protocol, data } => (*protocol, data.clone(), None),
        };
        let is_icmpv6 = protocol == 58 && l4.len() >= 4;
        if let Some(at) = checksum_at.or(is_icmpv6.then_some(2)) {
            l4[at..at + 2].fill(0);
            let sum = !ones_complement(&l4, self.pseudo(protocol, l4.len()));
            let sum = if sum == 0 && protocol == 17 { 0xffff } else { sum };
            l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let ip = self.packet(protocol, &l4);
        let ether_type: [u8; 2] = if self.source.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
        [&self.to.0[..], &self.from.0, &ether_type, &ip, &vec![0xaa; self.padding]].concat()
    }

    fn packet(&self, protocol: u8, l4: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.source, self.destination) else {
            return self.packet_v6(protocol, l4);
        };
        let header_len = 20 + self.options.len();
        let mut ip = vec![0x40 | (header_len / 4) as u8, self.tos];
        ip.extend(((header_len + l4.len()) as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.flags_and_offset.to_be_bytes());
        ip.extend([self.ttl, protocol, 0, 0]);
        ip.extend(source.octets());
        ip.extend(destination.octets());
        ip.extend(&self.options);
        let sum = !ones_complement(&ip, 0);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        [ip, l4.to_vec()].concat()
    }

    fn packet_v6(&self, protocol: u8, l4: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        let numbers = self.extensions.iter().map(|(number, _)| *number).chain([protocol]);
        for ((_, bytes), next) in self.extensions.iter().zip(numbers.clone().skip(1)) {
            payload.push(next);
            payload.extend(&bytes[1..]);
        }
        payload.extend(l4);
        let first = numbers.clone().next().unwrap();
        let mut ip = (6u32 << 28 | u32::from(self.tos) << 20).to_be_bytes().to_vec();
        ip.extend((payload.len() as u16).to_be_bytes());
        ip.extend([first, self.ttl]);
        for address in [self.source, self.destination] {
            let IpAddr::V6(address) = address else { panic!("one family for both ends") };
            ip.extend(address.octets());
        }
        [ip, payload].concat()
    }

    fn pseudo(&self, protocol: u8, len: usize) -> u32 {
        pseudo(self.source, self.destination, protocol, len)
    }
}

fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> u32 {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let addresses = [octets(source), octets(destination)].concat();
    u32::from(ones_complement(&addresses, u32::from(protocol) + len as u32))
}

/// A frame in words, one line, in the manner of the recordings of a real kernel. Wrong checksums and
/// lengths are said so.
pub fn describe(frame: &[u8]) -> String {
    let is_ip = frame.len() >= 34 && (frame[12..14] == [8, 0] && frame[14] >> 4 == 4)
        || frame.len() >= 54 && frame[12..14] == [0x86, 0xdd] && frame[14] >> 4 == 6;
    if !is_ip {
        return format!("not IP, {} bytes", frame.len());
    }
    let mac = MacAddr(frame[..6].try_into().unwrap());
    format!("to {mac} {}", describe_ip(&frame[14..]))
}

fn describe_ip(ip: &[u8]) -> String {
    if ip[0] >> 4 == 6 {
        let total = 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
        let address = |at: usize| IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap()));
        let tos = (u16::from_be_bytes([ip[0], ip[1]]) >> 4) as u8;
        let (source, destination) = (address(8), address(24));
        let (mut next, mut at) = (ip[6], 40);
        while matches!(next, 0 | 43 | 60) {
            (next, at) = (ip[at], at + 8 + usize::from(ip[at + 1]) * 8);
        }
        let text = format!("IP {source}>{destination} len={total} ttl={} tos={tos:#04x}", ip[7]);
        return text + &describe_l4(ip, at, total, next, (source, destination));
    }
    let header_len = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let address = |at: usize| IpAddr::V4(Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]));
    let flags = u16::from_be_bytes([ip[6], ip[7]]);
    let header_ok = ones_complement(&ip[..header_len], 0) == 0xffff;
    let text = format!(
        "IP {}>{} len={total} ttl={} tos={:#04x} {}{}",
        address(12),
        address(16),
        ip[8],
        ip[1],
        if flags & 0x4000 != 0 { "DF" } else { "df0" },
        if header_ok { "" } else { " BAD-IPSUM" }
    );
    text + &describe_l4(ip, header_len, total, ip[9], (address(12), address(16)))
}

fn describe_l4(ip: &[u8], header_len: usize, total: usize, protocol: u8, ends: (IpAddr, IpAddr)) -> String {
    let mut text = String::new();
    let whole = ip.len() >= total;
    let l4 = &ip[header_len..total.min(ip.len())];
    let sum = |protocol| {
        let p = pseudo(ends.0, ends.1, protocol, total - header_len);
        if !whole {
            ""
        } else if ones_complement(l4, p) == 0xffff {
            " ok"
        } else {
            " BAD-SUM"
        }
    };
    let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    match protocol {
        6 if l4.len() >= 20 => {
            let flags: String = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, 'A')]
                .iter()
                .filter(|f| l4[13] & f.0 != 0)
                .map(|f| f.1)
                .collect();
            text += &format!(" TCP {}>{} [{flags}]{}", port(0), port(2), sum(6));
        }
        17 if l4.len() >= 8 => {
            let none = port(6) == 0;
            text += &format!(
                " UDP {}>{} len={}{}",
                port(0),
                port(2),
                port(4),
                if none { " none" } else { sum(17) }
            );
        }
        132 if l4.len() >= 13 => {
            let summed = [&l4[..8], &[0; 4], &l4[12..]].concat();
            let ok = if !whole {
                ""
            } else if crc32c(&summed).to_le_bytes() == l4[8..12] {
                " ok"
            } else {
                " BAD-SUM"
            };
            text += &format!(" SCTP {}>{} chunk {}{ok}", port(0), port(2), l4[12]);
        }
        4 => text += &format!(" IPIP {{{}}}", describe_ip(l4)),
        41 => text += &format!(" IPV6 {{{}}}", describe_ip(l4)),
        58 if l4.len() >= 8 => {
            let mtu = u32::from_be_bytes(l4[4..8].try_into().unwrap());
            text += &format!(" ICMPV6 {}/{} mtu={mtu}{}", l4[0], l4[1], sum(58));
            if l4.len() >= 48 && l4[0] < 128 {
                text += &format!(" quoted {}B {{{}}}", l4.len() - 8, describe_ip(&l4[8..]));
            }
        }
        1 if l4.len() >= 8 => {
            let ok = ones_complement(l4, 0) == 0xffff;
            text += &format!(" ICMP {}/{} mtu={}{}", l4[0], l4[1], port(6), if ok { "" } else { " BAD-SUM" });
            if l4.len() >= 28 {
                text += &format!(" quoted {}B {{{}}}", l4.len() - 8, describe_ip(&l4[8..]));
            }
        }
        other => text += &format!(" protocol {other}"),
    }
    text
}
