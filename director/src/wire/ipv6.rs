//! IPv6 (RFC 8200). Offsets are from the first byte of the IP header.

use std::net::Ipv6Addr;

use super::checksum::Delta;
use super::{Side, read_u16, write_u16};

/// Length of the header without extension headers, in bytes.
pub const HEADER_LEN: usize = 40;
/// The smallest MTU that a link may have, in bytes (RFC 8200 §5).
pub const MIN_MTU: u16 = 1280;
/// Protocol number of IPv6 in IP (RFC 4213).
pub const IPV6: u8 = 41;
/// Length of a fragment header, in bytes.
pub const FRAGMENT_HEADER_LEN: usize = 8;
/// Protocol number of ICMPv6.
pub const ICMP: u8 = 58;

/// Next header: options for every router on the way.
const HOP_BY_HOP: u8 = 0;
/// Next header: routers that the packet wants to visit.
const ROUTING: u8 = 43;
/// Next header: a fragment.
const FRAGMENT: u8 = 44;
/// Next header: authentication (RFC 4302), which counts its length in another unit.
const AUTHENTICATION: u8 = 51;
/// Next header: options for the destination.
const DESTINATION_OPTIONS: u8 = 60;

/// More extension headers than this nobody sends in earnest.
const MAX_EXTENSIONS: usize = 8;

const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const HOP_LIMIT: usize = 7;
const SOURCE: usize = 8;
const DESTINATION: usize = 24;

/// DSCP and ECN.
#[inline(always)]
pub fn traffic_class(ip: &[u8]) -> u8 {
    (read_u16(ip, 0) >> 4) as u8
}

/// Length of what follows the header, extension headers included, in bytes.
#[inline(always)]
pub fn payload_len(ip: &[u8]) -> u16 {
    read_u16(ip, PAYLOAD_LEN)
}

/// What follows the header.
#[inline(always)]
pub fn next_header(ip: &[u8]) -> u8 {
    ip[NEXT_HEADER]
}

/// Hop limit.
#[inline(always)]
pub fn hop_limit(ip: &[u8]) -> u8 {
    ip[HOP_LIMIT]
}

/// Source address.
#[inline(always)]
pub fn source(ip: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(super::read::<16>(ip, SOURCE))
}

/// Destination address.
#[inline(always)]
pub fn destination(ip: &[u8]) -> Ipv6Addr {
    Ipv6Addr::from(super::read::<16>(ip, DESTINATION))
}

/// Lowers the hop limit by one. The caller has made sure that it is not 0.
#[inline(always)]
pub fn decrement_hop_limit(ip: &mut [u8]) {
    ip[HOP_LIMIT] = ip[HOP_LIMIT].wrapping_sub(1);
}

/// Writes an address. Returns the change, which the transport checksum needs.
#[inline(always)]
pub fn rewrite_address(ip: &mut [u8], side: Side, new: Ipv6Addr) -> Delta {
    let at = match side {
        Side::Source => SOURCE,
        Side::Destination => DESTINATION,
    };
    let old = u128::from_be_bytes(super::read(ip, at));
    ip[at..at + 16].copy_from_slice(&new.octets());
    Delta::default().replace_u128(old, u128::from(new))
}

/// What a header that we write ourselves says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of what follows.
    pub payload_len: u16,
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
}

impl Header {
    /// Writes the 40 bytes at the start of `ip`; the flow label is 0.
    #[inline(always)]
    pub fn write(&self, ip: &mut [u8]) {
        let ip = &mut ip[..HEADER_LEN];
        ip[..4].copy_from_slice(&(6 << 28 | u32::from(self.traffic_class) << 20).to_be_bytes());
        write_u16(ip, PAYLOAD_LEN, self.payload_len);
        ip[NEXT_HEADER] = self.next_header;
        ip[HOP_LIMIT] = self.hop_limit;
        ip[SOURCE..SOURCE + 16].copy_from_slice(&self.source.octets());
        ip[DESTINATION..DESTINATION + 16].copy_from_slice(&self.destination.octets());
    }
}

/// Makes a copied header, without extension headers and with room for a fragment header behind it, that of a fragment:
/// `len` bytes of payload, which begin at `offset` bytes, a multiple of eight, in that of the packet `id`.
pub(crate) fn write_piece(header: &mut [u8], len: usize, (offset, is_last): (usize, bool), id: u32) {
    write_u16(header, PAYLOAD_LEN, (FRAGMENT_HEADER_LEN + len) as u16);
    let next = std::mem::replace(&mut header[NEXT_HEADER], FRAGMENT);
    let fragment = &mut header[HEADER_LEN..];
    (fragment[0], fragment[1]) = (next, 0);
    write_u16(fragment, 2, offset as u16 | u16::from(!is_last));
    fragment[4..FRAGMENT_HEADER_LEN].copy_from_slice(&id.to_be_bytes());
}

/// What stands behind a header and its extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A protocol, at this offset.
    Protocol(u8, usize),
    /// A part of a packet: the protocol that the fragment header names.
    Fragment(u8, usize),
    /// Not for its destination address alone: it wants to visit more routers.
    Elsewhere,
}

/// Walks the extension headers of a packet (RFC 8200 §4). `ip` ends where the packet does. `None` where they are cut
/// short or there are too many of them.
#[inline(always)]
pub fn upper(ip: &[u8]) -> Option<Upper> {
    let first = next_header(ip);
    match first {
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS => walk(ip, first),
        protocol => Some(Upper::Protocol(protocol, HEADER_LEN)),
    }
}

#[cold]
fn walk(ip: &[u8], mut next: u8) -> Option<Upper> {
    let mut at = HEADER_LEN;
    for _ in 0..MAX_EXTENSIONS {
        let len = match next {
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => 8 + usize::from(*ip.get(at + 1)?) * 8,
            AUTHENTICATION => 8 + usize::from(*ip.get(at + 1)?) * 4,
            FRAGMENT => 8,
            protocol => return Some(Upper::Protocol(protocol, at)),
        };
        let header = ip.get(at..at + len)?;
        match next {
            // Segments left.
            ROUTING if header[3] > 0 => return Some(Upper::Elsewhere),
            // Offset and "more fragments"; a packet in one piece may carry the header all the same (RFC 6946).
            FRAGMENT if read_u16(header, 2) & !0x6 != 0 => {
                return Some(Upper::Fragment(header[0], at + len));
            }
            _ => {}
        }
        next = header[0];
        at += len;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(extensions: &[&[u8]]) -> Vec<u8> {
        let mut ip = vec![0; HEADER_LEN];
        Header {
            traffic_class: 0xb9,
            payload_len: extensions.iter().map(|bytes| bytes.len() as u16).sum(),
            next_header: 17,
            hop_limit: 64,
            source: "2001:db8:1::1".parse().unwrap(),
            destination: "2001:db8:99::1".parse().unwrap(),
        }
        .write(&mut ip);
        extensions.iter().for_each(|bytes| ip.extend_from_slice(bytes));
        ip
    }

    #[test]
    fn what_is_written_is_read() {
        let mut ip = packet(&[&[0; 8]]);
        assert_eq!(ip[0] >> 4, 6);
        assert_eq!((traffic_class(&ip), payload_len(&ip), hop_limit(&ip)), (0xb9, 8, 64));
        assert_eq!(source(&ip), "2001:db8:1::1".parse::<Ipv6Addr>().unwrap());
        decrement_hop_limit(&mut ip);
        assert_eq!(hop_limit(&ip), 63);
        let _ = rewrite_address(&mut ip, Side::Destination, Ipv6Addr::LOCALHOST);
        assert_eq!(destination(&ip), Ipv6Addr::LOCALHOST);
        assert_eq!(upper(&ip), Some(Upper::Protocol(17, 40)));
    }

    #[test]
    fn extension_headers_are_walked_to_their_end_and_no_further() {
        let through = |first: u8, extensions: &[&[u8]]| {
            let mut ip = packet(extensions);
            ip[NEXT_HEADER] = first;
            upper(&ip)
        };
        let udp = [0; 8];
        let to = |next: u8| [next, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(through(HOP_BY_HOP, &[&to(17), &udp]), Some(Upper::Protocol(17, 48)));
        assert_eq!(
            through(HOP_BY_HOP, &[&to(DESTINATION_OPTIONS), &to(ROUTING), &to(6), &udp]),
            Some(Upper::Protocol(6, 64))
        );
        // Authentication: 4-byte units, two of them not counted.
        let mut authentication = [0; 24];
        (authentication[0], authentication[1]) = (17, 4);
        assert_eq!(through(AUTHENTICATION, &[&authentication, &udp]), Some(Upper::Protocol(17, 64)));
        assert_eq!(through(FRAGMENT, &[&to(17), &udp]), Some(Upper::Protocol(17, 48)), "in one piece");
        assert_eq!(through(FRAGMENT, &[&[17, 0, 0, 1, 0, 0, 0, 9], &udp]), Some(Upper::Fragment(17, 48)));
        assert_eq!(through(FRAGMENT, &[&[17, 0, 0, 8, 0, 0, 0, 9], &udp]), Some(Upper::Fragment(17, 48)));
        assert_eq!(through(ROUTING, &[&[17, 0, 4, 1, 0, 0, 0, 0], &udp]), Some(Upper::Elsewhere));
        assert_eq!(through(HOP_BY_HOP, &[]), None, "cut short");
        assert_eq!(through(HOP_BY_HOP, &[&[17, 1, 0, 0, 0, 0, 0, 0]]), None, "longer than the packet");
        assert_eq!(through(DESTINATION_OPTIONS, &[&to(DESTINATION_OPTIONS).repeat(9), &udp]), None);
    }
}
