//! From a frame to what the pipeline decides by. Every length that is used later is checked here.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::fragment::Piece;
use super::usual::Usual;
use super::{Error, Family, ethernet, ipv4, ipv6, sctp, tcp, udp};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 packet whose header is sound.
    Ipv4,
    /// An IPv6 packet, for [`parse_ipv6`] to look at.
    Ipv6,
    /// Anything else (ARP, frames whose tags were not taken off): not for the data plane.
    Other,
}

/// An IP packet in an Ethernet frame. Flat, so that each field is written and read in its own size: the
/// processor waits when a value is read in greater pieces than it was written in just before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source and destination port of TCP, UDP and SCTP, the source in the upper half; else 0. Later fragments have none
    /// until [`Frame::set_ports`] lends them those of the first one.
    ports: u32,
    /// Length of the IP packet, header included, as its header says; the frame holds that much.
    pub total_len: u16,
    /// Length of the IP header with its options or extension headers, in bytes.
    pub header_len: u16,
    /// IP protocol number; of IPv6 that behind all extension headers. That of UDP for [`Transport::Ipsec`].
    pub protocol: u8,
    /// What it carries.
    pub transport: Transport,
    /// Flags of TCP (those of `wire::tcp`); of SCTP the type of the chunk that counts (those of `wire::sctp`); else 0.
    pub tcp_flags: u8,
}

/// An IPv4 packet in an Ethernet frame.
pub type Ipv4Frame = Frame<Ipv4Addr>;
/// An IPv6 packet in an Ethernet frame.
pub type Ipv6Frame = Frame<Ipv6Addr>;

impl<A: Family> Frame<A> {
    /// Of no packet.
    pub const NONE: Frame<A> = Frame {
        source: A::UNSPECIFIED,
        destination: A::UNSPECIFIED,
        ports: 0,
        total_len: 0,
        header_len: 0,
        protocol: 0,
        transport: Transport::Other,
        tcp_flags: 0,
    };

    fn put_ipsec(&mut self) {
        self.protocol = ipv4::UDP;
        self.put(Transport::Ipsec, u32::from(udp::ISAKMP) << 16 | u32::from(udp::ISAKMP), 0);
    }

    #[inline(always)]
    fn put(&mut self, transport: Transport, ports: u32, tcp_flags: u8) {
        self.transport = transport;
        self.ports = ports;
        self.tcp_flags = tcp_flags;
    }

    /// In the place of an ICMP error: the packet that would go the same way as the error, from the same client to
    /// the same service or back, since that is the connection that the error is about.
    pub(super) fn set_ends(&mut self, (source, source_port): (A, u16), (destination, port): (A, u16)) {
        self.source = source;
        self.destination = destination;
        self.ports = u32::from(source_port) << 16 | u32::from(port);
    }

    /// Source port of TCP, UDP and SCTP; else 0.
    #[inline(always)]
    pub fn source_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// Destination port of TCP, UDP and SCTP; else 0.
    #[inline(always)]
    pub fn destination_port(&self) -> u16 {
        self.ports as u16
    }

    /// Whether it is SCTP with a chunk of this type, of those in `wire::sctp`.
    #[inline]
    pub fn has_chunk(&self, chunk: u8) -> bool {
        self.protocol == ipv4::SCTP && self.tcp_flags == chunk && self.transport != Transport::LaterFragment
    }

    /// Whether it breaks a connection off at once: TCP with RST, SCTP with ABORT.
    #[inline]
    pub fn is_reset(&self) -> bool {
        self.protocol == ipv4::TCP && self.tcp_flags & tcp::RST != 0 || self.has_chunk(sctp::ABORT)
    }

    /// Both ports, the source in the upper half.
    #[inline]
    pub(crate) fn ports(&self) -> u32 {
        self.ports
    }

    /// Lends a later fragment the ports of its first one, which [`Frame::ports`] told.
    pub(crate) fn set_ports(&mut self, ports: u32) {
        self.ports = ports;
    }

    /// Offset of the transport header from the start of the frame.
    #[inline(always)]
    pub fn transport_offset(&self) -> usize {
        ethernet::HEADER_LEN + usize::from(self.header_len)
    }

    /// Offset of the end of the IP packet from the start of the frame; padding follows, if anything.
    #[inline(always)]
    pub fn end(&self) -> usize {
        ethernet::HEADER_LEN + usize::from(self.total_len)
    }
}

impl Ipv4Frame {
    /// Makes it that of a usual packet.
    #[inline(always)]
    pub(crate) fn set_usual(&mut self, usual: &Usual) {
        let transport = if usual.protocol == ipv4::TCP { Transport::Tcp } else { Transport::Udp };
        self.source = usual.source();
        self.destination = usual.destination();
        self.total_len = usual.total_len;
        self.header_len = ipv4::MIN_HEADER_LEN as u16;
        self.protocol = usual.protocol;
        self.put(transport, usual.ports, usual.tcp_flags);
    }
}

/// The payload of an IP packet, as far as the data plane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with a whole header.
    Tcp,
    /// UDP with a whole header.
    Udp,
    /// The first fragment of a TCP segment, UDP datagram or SCTP packet, with a whole header.
    FirstFragment,
    /// Another fragment of such.
    LaterFragment,
    /// SCTP with a whole header and at least the head of a chunk.
    Sctp,
    /// ESP or AH, be it a fragment. Protocol and ports are those of the key exchange between the same hosts: such a
    /// packet goes where that went.
    Ipsec,
    /// ICMP or ICMPv6 in one piece.
    Icmp,
    /// An ICMP error about a packet of TCP, UDP or SCTP. Addresses, ports and protocol of the frame are those of a packet
    /// that goes the error's way; lengths are the error's own.
    IcmpError,
    /// As [`Transport::IcmpError`], about a packet that was in a tunnel. Addresses and ports are those of the packet
    /// inside, as it went into the tunnel.
    TunnelError,
    /// Any other protocol, in one piece or not.
    Other,
}

/// Reads a frame. Where it is IPv4, `into` says what is in it; else that holds anything. Of IPv6 only the type is
/// looked at.
///
/// # Errors
/// What cannot be a packet that an honest host sent. The header's checksum is not looked at: it is
/// only updated incrementally, so a wrong one stays wrong for its receiver to see.
#[inline(always)]
pub fn parse(frame: &[u8], into: &mut Ipv4Frame) -> Result<Parsed, Error> {
    match frame.first_chunk().and_then(|head| Usual::read(head, frame.len())) {
        Some(usual) => {
            into.set_usual(&usual);
            Ok(Parsed::Ipv4)
        }
        None => parse_unusual(frame, into),
    }
}

/// Source and destination port, which TCP and UDP have in the same place.
#[inline(always)]
fn ports(transport: &[u8]) -> u32 {
    u32::from_be_bytes(super::read(transport, 0))
}

/// As [`parse`], where the frame is known not to be usual, or it does not matter.
///
/// # Errors
/// As [`parse`].
#[inline(never)]
pub(crate) fn parse_unusual(frame: &[u8], into: &mut Ipv4Frame) -> Result<Parsed, Error> {
    if frame.len() < ethernet::HEADER_LEN {
        return Err(Error::TruncatedEthernet);
    }
    match ethernet::ether_type(frame) {
        ethernet::IPV4 => {}
        ethernet::IPV6 => return Ok(Parsed::Ipv6),
        _ => return Ok(Parsed::Other),
    }
    let ip = &frame[ethernet::HEADER_LEN..];
    if ip.len() < ipv4::MIN_HEADER_LEN || ip[0] >> 4 != 4 {
        return Err(Error::BadIpv4Header);
    }
    let header_len = usize::from(ip[0] & 0xf) * 4;
    let total_len = ipv4::total_len(ip);
    if header_len < ipv4::MIN_HEADER_LEN
        || usize::from(total_len) < header_len
        || usize::from(total_len) > ip.len()
    {
        return Err(Error::BadIpv4Header);
    }
    let ip = &ip[..usize::from(total_len)];
    let protocol = ipv4::protocol(ip);
    let is_fragment = ipv4::flags_and_offset(ip) & !(ipv4::DONT_FRAGMENT | 0x8000) != 0;
    into.header_len = header_len as u16;
    into.protocol = protocol;
    into.total_len = total_len;
    into.source = ipv4::source(ip);
    into.destination = ipv4::destination(ip);
    if is_fragment {
        let piece = Piece::of_ipv4(ip, header_len as u16);
        parse_fragment(protocol, &piece, &ip[header_len..], into)?;
    } else {
        parse_transport(protocol, &ip[header_len..], into)?;
    }
    Ok(Parsed::Ipv4)
}

/// Reads a frame of IPv6, which [`parse`] has found it to be. `into` says what is in it.
///
/// # Errors
/// What cannot be a packet that an honest host sent.
#[inline(always)]
pub fn parse_ipv6(frame: &[u8], into: &mut Ipv6Frame) -> Result<(), Error> {
    let Some(ip) = frame.get(ethernet::HEADER_LEN..) else { return Err(Error::TruncatedEthernet) };
    if ip.len() < ipv6::HEADER_LEN || ip[0] >> 4 != 6 {
        return Err(Error::BadIpv6Header);
    }
    let total_len = ipv6::HEADER_LEN + usize::from(ipv6::payload_len(ip));
    let (Ok(len), Some(ip)) = (u16::try_from(total_len), ip.get(..total_len)) else {
        return Err(Error::BadIpv6Header);
    };
    into.source = ipv6::source(ip);
    into.destination = ipv6::destination(ip);
    into.total_len = len;
    match ipv6::upper(ip).ok_or(Error::BadIpv6Header)? {
        ipv6::Upper::Protocol(protocol, at) => {
            into.protocol = protocol;
            into.header_len = at as u16;
            parse_transport(protocol, &ip[at..], into)
        }
        ipv6::Upper::Fragment(protocol, at) => {
            into.protocol = protocol;
            into.header_len = at as u16;
            let piece = Piece::of_ipv6(ip, at as u16, len);
            parse_fragment(protocol, &piece, &ip[at..], into)
        }
        ipv6::Upper::Elsewhere => {
            into.protocol = ipv6::next_header(ip);
            into.header_len = ipv6::HEADER_LEN as u16;
            into.put(Transport::Other, 0, 0);
            Ok(())
        }
    }
}

/// Reads what a fragment has of the transport header. Whoever cuts that in two has something to hide.
#[cold]
fn parse_fragment<A: Family>(
    protocol: u8,
    piece: &Piece,
    payload: &[u8],
    into: &mut Frame<A>,
) -> Result<(), Error> {
    let header_len = match protocol {
        ipv4::TCP => tcp::MIN_HEADER_LEN,
        ipv4::UDP => udp::HEADER_LEN,
        ipv4::SCTP => sctp::MIN_PACKET_LEN,
        ipv4::ESP | ipv4::AH => {
            into.put_ipsec();
            return Ok(());
        }
        _ => {
            into.put(Transport::Other, 0, 0);
            return Ok(());
        }
    };
    let cuts_the_header = match piece.offset {
        0 => payload.len() < header_len,
        offset => usize::from(offset) < header_len,
    };
    if cuts_the_header || !piece.is_possible() {
        return Err(Error::BadFragment);
    }
    if piece.offset > 0 {
        into.put(Transport::LaterFragment, 0, 0);
    } else {
        let flags = match protocol {
            ipv4::TCP => tcp::flags(payload),
            ipv4::SCTP if sctp::first_chunk_is_sound(payload, false) => sctp::telling_chunk(payload),
            ipv4::SCTP => return Err(Error::BadSctpHeader),
            _ => 0,
        };
        into.put(Transport::FirstFragment, ports(payload), flags);
    }
    Ok(())
}

#[inline(always)]
fn parse_transport<A: Family>(protocol: u8, payload: &[u8], into: &mut Frame<A>) -> Result<(), Error> {
    match protocol {
        ipv4::TCP => {
            if payload.len() < tcp::MIN_HEADER_LEN {
                return Err(Error::BadTcpHeader);
            }
            let header_len = tcp::header_len(payload);
            if header_len < tcp::MIN_HEADER_LEN || header_len > payload.len() {
                return Err(Error::BadTcpHeader);
            }
            into.put(Transport::Tcp, ports(payload), tcp::flags(payload));
        }
        ipv4::UDP => {
            if payload.len() < udp::HEADER_LEN {
                return Err(Error::BadUdpHeader);
            }
            let len = usize::from(udp::len(payload));
            if len < udp::HEADER_LEN || len > payload.len() {
                return Err(Error::BadUdpHeader);
            }
            into.put(Transport::Udp, ports(payload), 0);
        }
        ipv4::SCTP => return parse_sctp(payload, into),
        ipv4::ESP | ipv4::AH => into.put_ipsec(),
        protocol if protocol == A::ICMP => into.put(Transport::Icmp, 0, 0),
        _ => into.put(Transport::Other, 0, 0),
    }
    Ok(())
}

#[cold]
fn parse_sctp<A: Family>(payload: &[u8], into: &mut Frame<A>) -> Result<(), Error> {
    if payload.len() < sctp::MIN_PACKET_LEN || !sctp::first_chunk_is_sound(payload, true) {
        return Err(Error::BadSctpHeader);
    }
    into.put(Transport::Sctp, ports(payload), sctp::telling_chunk(payload));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The short way reads what the long way reads, and leaves to it what it does not.
        #[test]
        fn the_usual_is_no_exception(
            mut frame in proptest::collection::vec(any::<u8>(), 0..80),
            first in prop_oneof![Just(0x45u8), Just(0x46), any::<u8>()],
            total_len in prop_oneof![20u16..70, any::<u16>()],
            flags in prop_oneof![Just(0u16), Just(ipv4::DONT_FRAGMENT), any::<u16>()],
            protocol in prop_oneof![Just(ipv4::TCP), Just(ipv4::UDP), any::<u8>()],
            udp_len in prop_oneof![0u16..60, any::<u16>()],
        ) {
            let words = [(12, ethernet::IPV4), (16, total_len), (20, flags), (38, udp_len)];
            let len = frame.len();
            for (at, word) in words.into_iter().filter(|(at, _)| at + 2 <= len) {
                super::super::write_u16(&mut frame, at, word);
            }
            for (at, byte) in [(14, first), (23, protocol)].into_iter().filter(|(at, _)| *at < len) {
                frame[at] = byte;
            }
            let (mut short, mut long) = (Ipv4Frame::NONE, Ipv4Frame::NONE);
            let parsed = parse(&frame, &mut short);
            prop_assert_eq!(parsed, parse_unusual(&frame, &mut long));
            if parsed == Ok(Parsed::Ipv4) {
                prop_assert_eq!(short, long);
            }
        }
    }
}
