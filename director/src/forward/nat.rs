//! Network address translation: one address and port rewritten, checksums mended.

use crate::wire::checksum::sum;
use crate::wire::{Family, Frame, Side, Transport, ethernet, ipv4, read_u16, sctp, tcp, udp, write_u16};

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
