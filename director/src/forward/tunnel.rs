//! IP in IP (RFC 2003, RFC 2473, RFC 4213): the whole packet behind another header, of either version.

use std::net::IpAddr;

use crate::packet::PacketBuf;
use crate::wire::{Family, Frame, ethernet, ipv4, ipv6};

/// "Congestion experienced" of ECN.
const CE: u8 = 3;
/// "ECN-capable transport", codepoint 0.
const ECT_0: u8 = 2;

/// What the encapsulation toward a real server adds, in bytes.
#[inline(always)]
pub fn overhead(server: IpAddr) -> u16 {
    match server {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN as u16,
        IpAddr::V6(_) => ipv6::HEADER_LEN as u16,
    }
}

/// EtherType of the packets toward a real server.
#[inline(always)]
pub fn ether_type(server: IpAddr) -> u16 {
    match server {
        IpAddr::V4(_) => ethernet::IPV4,
        IpAddr::V6(_) => ethernet::IPV6,
    }
}

/// Puts an outer header in front, as IPVS does (`ip_vs_tunnel_xmit` and `ip_vs_tunnel_xmit_v6` in Linux
/// `ip_vs_xmit.c`): TTL and TOS are the inner ones, ECN as in RFC 3168 §9.1.1 with full functionality, DF is that of an
/// inner IPv4 packet where `copy_df`. The Ethernet header is left to the next hop. False where there was no room, or
/// the ends are not of one version.
///
/// `id` identifies the outer packet where it may be fragmented.
#[must_use]
#[inline(always)]
pub fn encapsulate<A: Family, P: PacketBuf>(
    packet: &mut P,
    parsed: &Frame<A>,
    ends: (&IpAddr, &IpAddr),
    id: u16,
    copy_df: bool,
) -> bool {
    // Padding of a short frame is no part of the inner packet.
    packet.truncate(parsed.end());
    let inner = A::header(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
    let Some(inner) = inner else { return false };
    let (class, ttl) = (A::traffic_class(inner), A::ttl(inner));
    let dont_fragment = copy_df && A::ETHER_TYPE == ethernet::IPV4 && A::is_whole_or_nothing(inner);
    let class = if class & CE == CE { class & !CE | ECT_0 } else { class };
    match ends {
        (&IpAddr::V4(source), &IpAddr::V4(destination)) => {
            let header = ipv4::Header {
                tos: class,
                total_len: parsed.total_len + ipv4::MIN_HEADER_LEN as u16,
                id: if dont_fragment { 0 } else { id },
                flags_and_offset: if dont_fragment { ipv4::DONT_FRAGMENT } else { 0 },
                ttl,
                protocol: A::PROTOCOL,
                source,
                destination,
            };
            if !packet.prepend(ipv4::MIN_HEADER_LEN) {
                return false;
            }
            header.write(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
        }
        (&IpAddr::V6(source), &IpAddr::V6(destination)) => {
            let header = ipv6::Header {
                traffic_class: class,
                payload_len: parsed.total_len,
                next_header: A::PROTOCOL,
                hop_limit: ttl,
                source,
                destination,
            };
            if !packet.prepend(ipv6::HEADER_LEN) {
                return false;
            }
            header.write(&mut packet.bytes_mut()[ethernet::HEADER_LEN..]);
        }
        _ => return false,
    }
    true
}
