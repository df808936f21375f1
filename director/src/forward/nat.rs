//! Network address translation: one address and port rewritten, checksums mended.

use std::net::Ipv4Addr;

use crate::wire::checksum::{Delta, sum};
use crate::wire::usual::{Head, IP, TRANSPORT};
use crate::wire::{
    Family, Frame, Side, Transport, ethernet, ipv4, read, read_u16, sctp, tcp, udp, write_u16,
};

/// Rewrites one end of a TCP, UDP or SCTP packet that `wire::parse` accepted as `parsed`.
///
/// A UDP datagram without checksum gets one, as IPVS gives it one (`udp_snat_handler` in Linux
/// `ip_vs_proto_udp.c`), unless it is a fragment: whoever has but a part of it cannot.
#[inline(always)]
pub fn rewrite<A: Family>(frame: &mut [u8], parsed: &Frame<A>, side: Side, address: A, port: u16) {
    let transport = parsed.transport_offset();
    let delta = A::rewrite_address(&mut frame[ethernet::HEADER_LEN..], side, address);
    if !matches!(parsed.transport, Transport::Tcp | Transport::Udp | Transport::FirstFragment) {
        // The addresses are all that a later fragment has; the checksum of the whole is mended in the first one.
        if parsed.transport == Transport::Sctp {
            rewrite_sctp(&mut frame[transport..parsed.end()], side, port);
        }
        return;
    }
    let port_at = transport + if side == Side::Source { 0 } else { 2 };
    let delta = delta.replace_u16(read_u16(frame, port_at), port);
    write_u16(frame, port_at, port);
    if parsed.protocol == ipv4::TCP {
        let at = transport + tcp::CHECKSUM;
        let checksum = delta.apply(read_u16(frame, at));
        write_u16(frame, at, checksum);
    } else {
        let at = transport + udp::CHECKSUM;
        let checksum = match read_u16(frame, at) {
            0 if parsed.transport == Transport::FirstFragment => return,
            0 => full_udp_checksum(frame, parsed, side, address),
            present => delta.apply(present),
        };
        // 0 would say that there is none; its other form in one's complement says the same number.
        write_u16(frame, at, if checksum == 0 { 0xffff } else { checksum });
    }
}

/// As [`rewrite`], of a usual packet, by its head alone. `None`, and nothing changed, where the whole packet is needed: it
/// is a UDP datagram without checksum.
#[inline(always)]
pub fn rewrite_usual(
    head: &mut Head,
    is_tcp: bool,
    side: Side,
    (address, port): (Ipv4Addr, u16),
) -> Option<()> {
    let (address_at, port_at) = match side {
        Side::Source => (IP + ipv4::SOURCE, TRANSPORT),
        Side::Destination => (IP + ipv4::DESTINATION, TRANSPORT + 2),
    };
    let checksum_at = TRANSPORT + if is_tcp { tcp::CHECKSUM } else { udp::CHECKSUM };
    // Sums are the same in either order of bytes (RFC 1071 §2): none has to be swapped.
    let word = |head: &Head, at| u16::from_le_bytes(read(head, at));
    let before = word(head, checksum_at);
    if !is_tcp && before == 0 {
        return None;
    }
    let (address, port) = (address.octets(), port.to_be_bytes());
    let delta =
        Delta::default().replace_u32(u32::from_le_bytes(read(head, address_at)), u32::from_le_bytes(address));
    let ip_checksum = delta.apply(word(head, IP + ipv4::CHECKSUM));
    let checksum = delta.replace_u16(word(head, port_at), u16::from_le_bytes(port)).apply(before);
    head[address_at..address_at + 4].copy_from_slice(&address);
    head[port_at..port_at + 2].copy_from_slice(&port);
    head[IP + ipv4::CHECKSUM..][..2].copy_from_slice(&ip_checksum.to_le_bytes());
    // As above.
    let checksum = if checksum == 0 && !is_tcp { 0xffff } else { checksum };
    head[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_le_bytes());
    Some(())
}

/// Rewrites one port of a whole SCTP packet. Its checksum covers no addresses, so that it changes with the port only;
/// then it is computed anew, as IPVS computes it (`sctp_nat_csum` in Linux `ip_vs_proto_sctp.c`), be it right or wrong
/// before.
#[cold]
fn rewrite_sctp(packet: &mut [u8], side: Side, port: u16) {
    let at = if side == Side::Source { 0 } else { 2 };
    if read_u16(packet, at) != port {
        write_u16(packet, at, port);
        sctp::write_checksum(packet);
    }
}

/// The checksum of a datagram whose own says 0, with the address that one side has now.
#[cold]
fn full_udp_checksum<A: Family>(frame: &[u8], parsed: &Frame<A>, side: Side, address: A) -> u16 {
    let (source, destination) = match side {
        Side::Source => (address, parsed.destination),
        Side::Destination => (parsed.source, address),
    };
    let datagram = &frame[parsed.transport_offset()..];
    let len = udp::len(datagram);
    let pseudo = A::pseudo_header(source, destination, ipv4::UDP, len);
    !sum(&datagram[..usize::from(len)], pseudo)
}
