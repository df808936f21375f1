//! What the two versions of IP do differently, so that all the rest is written once.

use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::{Delta, pseudo_header_v4, pseudo_header_v6};
use super::fragment::Piece;
use super::{Frame, ethernet, ipv4, ipv6};

/// Which of the two addresses is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
}

/// A version of IP, named by its addresses.
pub trait Family: Copy + Eq + Debug + Into<IpAddr> + 'static {
    /// EtherType.
    const ETHER_TYPE: u16;
    /// Length of a header without options or extension headers, in bytes.
    const MIN_HEADER_LEN: usize;
    /// Protocol number of a packet of this version inside another packet (RFC 2003, RFC 4213).
    const PROTOCOL: u8;
    /// Protocol number of ICMP for this version.
    const ICMP: u8;
    /// The address of no host.
    const UNSPECIFIED: Self;
    /// The header without options or extension headers.
    type Header: AsRef<[u8]>;

    /// The address, if it is of this version.
    fn of(address: IpAddr) -> Option<Self>;

    /// The header at the start of a packet that `wire::parse` accepted: one check of the length for all that is
    /// read and written of it.
    fn header(ip: &mut [u8]) -> Option<&mut Self::Header>;

    /// Time to live, hop limit.
    fn ttl(header: &Self::Header) -> u8;

    /// Lowers the TTL by one. The caller has made sure that it is not 0.
    fn decrement_ttl(header: &mut Self::Header);

    /// DSCP and ECN.
    fn traffic_class(header: &Self::Header) -> u8;

    /// Whether no router may fragment the packet.
    fn is_whole_or_nothing(header: &Self::Header) -> bool;

    /// Writes an address and mends the header's checksum, if it has one. Returns the change, which the transport
    /// checksum needs as well, since its pseudo header holds the address too.
    fn rewrite_address(ip: &mut [u8], side: Side, new: Self) -> Delta;

    /// Whether the header's checksum is right, where there is one. `header` is the header with its options.
    fn checksum_is_valid(header: &[u8]) -> bool;

    /// The place of a fragment in its packet; `ip` is a packet that was read as `parsed`.
    fn piece(ip: &[u8], parsed: &Frame<Self>) -> Piece;

    /// The sum of the pseudo header, to start a transport checksum from. `len` is the length of transport header
    /// and payload.
    fn pseudo_header(source: Self, destination: Self, protocol: u8, len: u16) -> u64;
}

impl Family for Ipv4Addr {
    const ETHER_TYPE: u16 = ethernet::IPV4;
    const MIN_HEADER_LEN: usize = ipv4::MIN_HEADER_LEN;
    const PROTOCOL: u8 = ipv4::IPIP;
    const ICMP: u8 = ipv4::ICMP;
    const UNSPECIFIED: Self = Ipv4Addr::UNSPECIFIED;
    type Header = [u8; ipv4::MIN_HEADER_LEN];

    #[inline(always)]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn header(ip: &mut [u8]) -> Option<&mut Self::Header> {
        ip.first_chunk_mut()
    }

    #[inline(always)]
    fn ttl(header: &Self::Header) -> u8 {
        ipv4::ttl(header)
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Self::Header) {
        ipv4::decrement_ttl(header);
    }

    #[inline(always)]
    fn traffic_class(header: &Self::Header) -> u8 {
        ipv4::tos(header)
    }

    #[inline(always)]
    fn is_whole_or_nothing(header: &Self::Header) -> bool {
        ipv4::flags_and_offset(header) & ipv4::DONT_FRAGMENT != 0
    }

    #[inline(always)]
    fn rewrite_address(ip: &mut [u8], side: Side, new: Self) -> Delta {
        ipv4::rewrite_address(ip, side, new)
    }

    #[inline]
    fn checksum_is_valid(header: &[u8]) -> bool {
        ipv4::checksum_is_valid(header)
    }

    fn piece(ip: &[u8], parsed: &Frame<Self>) -> Piece {
        Piece::of_ipv4(ip, parsed.header_len)
    }

    #[inline]
    fn pseudo_header(source: Self, destination: Self, protocol: u8, len: u16) -> u64 {
        pseudo_header_v4(source, destination, protocol, len)
    }
}

impl Family for Ipv6Addr {
    const ETHER_TYPE: u16 = ethernet::IPV6;
    const MIN_HEADER_LEN: usize = ipv6::HEADER_LEN;
    const PROTOCOL: u8 = ipv6::IPV6;
    const ICMP: u8 = ipv6::ICMP;
    const UNSPECIFIED: Self = Ipv6Addr::UNSPECIFIED;
    type Header = [u8; ipv6::HEADER_LEN];

    #[inline(always)]
    fn of(address: IpAddr) -> Option<Self> {
        match address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        }
    }

    #[inline(always)]
    fn header(ip: &mut [u8]) -> Option<&mut Self::Header> {
        ip.first_chunk_mut()
    }

    #[inline(always)]
    fn ttl(header: &Self::Header) -> u8 {
        ipv6::hop_limit(header)
    }

    #[inline(always)]
    fn decrement_ttl(header: &mut Self::Header) {
        ipv6::decrement_hop_limit(header);
    }

    #[inline(always)]
    fn traffic_class(header: &Self::Header) -> u8 {
        ipv6::traffic_class(header)
    }

    #[inline(always)]
    fn is_whole_or_nothing(_: &Self::Header) -> bool {
        true
    }

    #[inline(always)]
    fn rewrite_address(ip: &mut [u8], side: Side, new: Self) -> Delta {
        ipv6::rewrite_address(ip, side, new)
    }

    #[inline]
    fn checksum_is_valid(_: &[u8]) -> bool {
        true
    }

    fn piece(ip: &[u8], parsed: &Frame<Self>) -> Piece {
        Piece::of_ipv6(ip, parsed.header_len, parsed.total_len)
    }

    #[inline]
    fn pseudo_header(source: Self, destination: Self, protocol: u8, len: u16) -> u64 {
        pseudo_header_v6(source, destination, protocol, len)
    }
}
