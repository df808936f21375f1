//! ICMP (RFC 792): the errors that a director sends.

use std::net::Ipv4Addr;

use super::{checksum, ethernet, ipv4, write_u16};
use crate::packet::PacketBuf;

/// Length of the ICMP header in front of the quoted packet, in bytes.
pub const HEADER_LEN: usize = 8;
/// How much of the offending packet is quoted at most: an ICMP error does not exceed 576 bytes
/// (RFC 1812 §4.3.2.3).
pub const MAX_QUOTE: usize = 576 - ipv4::MIN_HEADER_LEN - HEADER_LEN;
/// Precedence "internetwork control", which RFC 1812 §4.3.2.5 asks for.
const TOS: u8 = 0xc0;

/// An error about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Destination unreachable, port unreachable: no real server can be had.
    PortUnreachable,
    /// Destination unreachable, fragmentation needed; carries the next hop's MTU in bytes (RFC 1191).
    FragmentationNeeded(u16),
    /// Time exceeded in transit.
    TimeExceeded,
}

impl IcmpError {
    fn type_and_code(self) -> (u8, u8) {
        match self {
            IcmpError::PortUnreachable => (3, 3),
            IcmpError::FragmentationNeeded(_) => (3, 4),
            IcmpError::TimeExceeded => (11, 0),
        }
    }
}

/// Turns the packet into an ICMP error about itself, from `from` to the packet's source. The
/// Ethernet header is left for the next hop to write. False where the frame had no room in front.
///
/// `ip_len` is the length of the IP packet in the frame, in bytes.
#[must_use]
pub fn turn_into_error<P: PacketBuf>(
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
    let ip = &mut packet.bytes_mut()[ethernet::HEADER_LEN..];
    let total_len = ipv4::MIN_HEADER_LEN + HEADER_LEN + quoted;
    ipv4::Header {
        tos: TOS,
        total_len: total_len as u16,
        id,
        flags_and_offset: 0,
        ttl: 64,
        protocol: ipv4::ICMP,
        source: from,
        destination: to,
    }
    .write(ip);
    let icmp = &mut ip[ipv4::MIN_HEADER_LEN..total_len];
    let (kind, code) = error.type_and_code();
    icmp[..HEADER_LEN].fill(0);
    icmp[0] = kind;
    icmp[1] = code;
    if let IcmpError::FragmentationNeeded(mtu) = error {
        write_u16(icmp, 6, mtu);
    }
    let sum = !checksum::sum(icmp, 0);
    write_u16(icmp, 2, sum);
    true
}
