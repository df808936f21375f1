//! Network address translation: one address and port rewritten, checksums mended.

use std::net::Ipv4Addr;

use crate::wire::checksum::{pseudo_header_v4, sum};
use crate::wire::ipv4::{Side, rewrite_address};
use crate::wire::{Ipv4Frame, Transport, ethernet, ipv4, read_u16, tcp, udp, write_u16};

/// Rewrites one end of a TCP or UDP packet that `wire::parse` accepted as `parsed`.
///
/// A UDP datagram without checksum gets one, as IPVS gives it one (`udp_snat_handler` in Linux
/// `ip_vs_proto_udp.c`).
#[inline(always)]
pub fn rewrite(frame: &mut [u8], parsed: &Ipv4Frame, side: Side, address: Ipv4Addr, port: u16) {
    let transport = parsed.transport_offset();
    let delta = rewrite_address(&mut frame[ethernet::HEADER_LEN..], side, address);
    let port_at = transport + if side == Side::Source { 0 } else { 2 };
    let delta = delta.replace_u16(read_u16(frame, port_at), port);
    write_u16(frame, port_at, port);
    match parsed.transport {
        Transport::Tcp => {
            let at = transport + tcp::CHECKSUM;
            let checksum = delta.apply(read_u16(frame, at));
            write_u16(frame, at, checksum);
        }
        Transport::Udp => {
            let at = transport + udp::CHECKSUM;
            let checksum = match read_u16(frame, at) {
                0 => full_udp_checksum(frame, parsed),
                present => delta.apply(present),
            };
            // 0 would say that there is none; its other form in one's complement says the same number.
            write_u16(frame, at, if checksum == 0 { 0xffff } else { checksum });
        }
        Transport::Fragment | Transport::Other => {}
    }
}

/// The checksum of a datagram whose own says 0, with the addresses that are in the frame now.
#[cold]
fn full_udp_checksum(frame: &[u8], parsed: &Ipv4Frame) -> u16 {
    let ip = &frame[ethernet::HEADER_LEN..];
    let datagram = &frame[parsed.transport_offset()..];
    let len = udp::len(datagram);
    let pseudo = pseudo_header_v4(ipv4::source(ip), ipv4::destination(ip), ipv4::UDP, len);
    !sum(&datagram[..usize::from(len)], pseudo)
}
