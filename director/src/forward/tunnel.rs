//! IP in IP (RFC 2003): the whole packet behind another IPv4 header.

use std::net::Ipv4Addr;

use crate::packet::PacketBuf;
use crate::wire::{Ipv4Frame, ethernet, ipv4};

/// What the encapsulation adds, in bytes.
pub const OVERHEAD: u16 = ipv4::MIN_HEADER_LEN as u16;

/// "Congestion experienced" of ECN.
const CE: u8 = 3;
/// "ECN-capable transport", codepoint 0.
const ECT_0: u8 = 2;

/// Puts an outer header in front, as IPVS does (`ip_vs_tunnel_xmit` in Linux `ip_vs_xmit.c`): TTL, TOS
/// and DF are the inner ones, ECN as in RFC 3168 §9.1.1 with full functionality. The Ethernet header
/// gets its type; its addresses are left to the next hop. False where there was no room.
///
/// `id` identifies the outer packet where it may be fragmented.
#[must_use]
pub fn encapsulate<P: PacketBuf>(
    packet: &mut P,
    parsed: &Ipv4Frame,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    id: u16,
) -> bool {
    // Padding of a short frame is no part of the inner packet.
    packet.truncate(parsed.end());
    let inner = &packet.bytes()[ethernet::HEADER_LEN..];
    let (tos, ttl) = (ipv4::tos(inner), ipv4::ttl(inner));
    let dont_fragment = ipv4::flags_and_offset(inner) & ipv4::DONT_FRAGMENT;
    if !packet.prepend(usize::from(OVERHEAD)) {
        return false;
    }
    let frame = packet.bytes_mut();
    crate::wire::write_u16(frame, ethernet::HEADER_LEN - 2, ethernet::IPV4);
    ipv4::Header {
        tos: if tos & CE == CE { tos & !CE | ECT_0 } else { tos },
        total_len: parsed.total_len + OVERHEAD,
        id: if dont_fragment != 0 { 0 } else { id },
        flags_and_offset: dont_fragment,
        ttl,
        protocol: ipv4::IPIP,
        source,
        destination,
    }
    .write(&mut frame[ethernet::HEADER_LEN..]);
    true
}
