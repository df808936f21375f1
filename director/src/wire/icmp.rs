//! ICMP (RFC 792) and ICMPv6 (RFC 4443): the errors that a director sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Family, checksum, ethernet, ipv4, ipv6, write_u16};
use crate::packet::PacketBuf;

/// Length of the ICMP header in front of the quoted packet, in bytes; the same in both versions.
pub const HEADER_LEN: usize = 8;
/// How much of the offending packet is quoted at most: an ICMP error does not exceed 576 bytes
/// (RFC 1812 §4.3.2.3).
pub const MAX_QUOTE: usize = 576 - ipv4::MIN_HEADER_LEN - HEADER_LEN;
/// The same of ICMPv6, whose errors do not exceed the smallest MTU (RFC 4443 §2.4).
pub const MAX_QUOTE_V6: usize = ipv6::MIN_MTU as usize - ipv6::HEADER_LEN - HEADER_LEN;
/// Precedence "internetwork control", which RFC 1812 §4.3.2.5 asks for.
const TOS: u8 = 0xc0;
/// TTL and hop limit of errors.
const TTL: u8 = 64;

/// An error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Destination unreachable, port unreachable: no real server can be had.
    PortUnreachable,
    /// Destination unreachable, host or address unreachable: it did not arrive at its real server.
    HostUnreachable,
    /// Destination unreachable for the reason that an ICMP error of the same version gave: its type and code.
    Relayed(u8, u8),
    /// Too long for the next link, whose MTU in bytes it carries: fragmentation needed (RFC 1191), packet too big.
    TooBig(u16),
    /// Time exceeded in transit.
    TimeExceeded,
}

impl IcmpError {
    fn type_and_code(self, v6: bool) -> (u8, u8) {
        match (self, v6) {
            (IcmpError::PortUnreachable, false) => (3, 3),
            (IcmpError::HostUnreachable, false) => (3, 1),
            (IcmpError::TooBig(_), false) => (3, 4),
            (IcmpError::TimeExceeded, false) => (11, 0),
            (IcmpError::PortUnreachable, true) => (1, 4),
            (IcmpError::HostUnreachable, true) => (1, 3),
            (IcmpError::TooBig(_), true) => (2, 0),
            (IcmpError::TimeExceeded, true) => (3, 0),
            (IcmpError::Relayed(kind, code), _) => (kind, code),
        }
    }

    /// Writes the message around what it quotes: everything but the checksum.
    fn write(self, message: &mut [u8], v6: bool) {
        let (kind, code) = self.type_and_code(v6);
        message[..HEADER_LEN].fill(0);
        message[0] = kind;
        message[1] = code;
        if let IcmpError::TooBig(mtu) = self {
            // 16 bits in ICMP, the lower half of 32 in ICMPv6.
            write_u16(message, 6, mtu);
        }
    }
}

/// Turns the packet into an ICMP error about itself, from `from` to the packet's source. The Ethernet addresses are
/// left for the next hop to write. False where the frame had no room in front, or `from` is of the other version.
///
/// `ip_len` is the length of the IP packet in the frame, in bytes; `id` identifies the error where it may be
/// fragmented.
#[must_use]
pub fn turn_into_error<A: Family, P: PacketBuf>(
    packet: &mut P,
    ip_len: usize,
    error: IcmpError,
    from: IpAddr,
    id: u16,
) -> bool {
    match from {
        IpAddr::V4(from) if A::ICMP == ipv4::ICMP => about_ipv4(packet, ip_len, error, from, id),
        IpAddr::V6(from) if A::ICMP == ipv6::ICMP => about_ipv6(packet, ip_len, error, from),
        _ => false,
    }
}

fn about_ipv4<P: PacketBuf>(
    packet: &mut P,
    ip_len: usize,
    error: IcmpError,
    from: Ipv4Addr,
    id: u16,
) -> bool {
    let to = ipv4::source(&packet.bytes()[ethernet::HEADER_LEN..]);
    let quoted = ip_len.min(MAX_QUOTE);
    packet.truncate(ethernet::HEADER_LEN + quoted);
    if !packet.prepend(ipv4::MIN_HEADER_LEN + HEADER_LEN) {
        return false;
    }
    let frame = packet.bytes_mut();
    write_u16(frame, ethernet::HEADER_LEN - 2, ethernet::IPV4);
    let ip = &mut frame[ethernet::HEADER_LEN..];
    let total_len = ipv4::MIN_HEADER_LEN + HEADER_LEN + quoted;
    ipv4::Header {
        tos: TOS,
        total_len: total_len as u16,
        id,
        flags_and_offset: 0,
        ttl: TTL,
        protocol: ipv4::ICMP,
        source: from,
        destination: to,
    }
    .write(ip);
    let message = &mut ip[ipv4::MIN_HEADER_LEN..total_len];
    error.write(message, false);
    let sum = !checksum::sum(message, 0);
    write_u16(message, 2, sum);
    true
}

fn about_ipv6<P: PacketBuf>(packet: &mut P, ip_len: usize, error: IcmpError, from: Ipv6Addr) -> bool {
    let to = ipv6::source(&packet.bytes()[ethernet::HEADER_LEN..]);
    let quoted = ip_len.min(MAX_QUOTE_V6);
    packet.truncate(ethernet::HEADER_LEN + quoted);
    if !packet.prepend(ipv6::HEADER_LEN + HEADER_LEN) {
        return false;
    }
    let frame = packet.bytes_mut();
    write_u16(frame, ethernet::HEADER_LEN - 2, ethernet::IPV6);
    let ip = &mut frame[ethernet::HEADER_LEN..];
    let len = HEADER_LEN + quoted;
    ipv6::Header {
        traffic_class: 0,
        payload_len: len as u16,
        next_header: ipv6::ICMP,
        hop_limit: TTL,
        source: from,
        destination: to,
    }
    .write(ip);
    let message = &mut ip[ipv6::HEADER_LEN..ipv6::HEADER_LEN + len];
    error.write(message, true);
    let pseudo = checksum::pseudo_header_v6(from, to, ipv6::ICMP, len as u16);
    let sum = !checksum::sum(message, pseudo);
    write_u16(message, 2, sum);
    true
}
