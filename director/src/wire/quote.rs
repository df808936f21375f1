//! What an ICMP error is about: the packet that it quotes (RFC 792, RFC 4443 §2.4).
//!
//! Errors are rare, so this is plain code; but they come from anybody, so every length is checked.

use std::net::IpAddr;

use super::{Family, Frame, Transport, checksum, ethernet, gre, gue, icmp, ipv4, ipv6, read_u16, udp};

/// Bytes of a quoted transport header that an error must hold: those that RFC 792 promises.
const MIN_TRANSPORT: usize = 8;

/// What an ICMP error says happened, in the words of both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// Too big for the next link, whose MTU is given in bytes; 0 where a router of old does not say it.
    TooBig(u16),
    /// The TTL was used up.
    TimeExceeded,
    /// Not delivered for another reason.
    Unreachable,
}

/// An ICMP error about a packet of TCP, UDP or SCTP, or of ESP or AH. All offsets are from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Source of the quoted packet; of the one inside where that is a tunnel's.
    pub source: (IpAddr, u16),
    /// Its destination.
    pub destination: (IpAddr, u16),
    /// Its protocol: TCP, UDP or SCTP. That of the key exchange where it is ESP or AH, as the ports are.
    pub protocol: u8,
    /// The ports stand in the quoted packet.
    pub has_ports: bool,
    /// The error is ICMPv6.
    pub is_v6: bool,
    /// Where the ICMP header is.
    pub icmp: usize,
    /// Where the header of the quoted packet is; of the one inside where that is a tunnel's.
    pub ip: usize,
    /// Where its transport header is.
    pub transport: usize,
    /// Where the error ends.
    pub end: usize,
    /// ICMP type and code.
    pub type_and_code: (u8, u8),
    /// What happened.
    pub complaint: Complaint,
    /// Where the quoted packet is a tunnel's: its other end, and how many bytes it puts in front.
    pub tunnel: Option<(IpAddr, u16)>,
}

impl Quote {
    /// Reads an error in a frame that `wire::parse` or `wire::parse_ipv6` found to be [`Transport::Icmp`]: from
    /// where to where the message goes, and whether it is ICMPv6. `None` where it is no error, or about nothing that
    /// is balanced.
    pub fn read(frame: &[u8], icmp: usize, end: usize, is_v6: bool) -> Option<Quote> {
        let message = frame.get(icmp..end)?;
        if message.len() < icmp::HEADER_LEN {
            return None;
        }
        let type_and_code = (message[0], message[1]);
        let complaint = if is_v6 { complaint_v6(message) } else { complaint_v4(message) }?;
        let at = icmp + icmp::HEADER_LEN;
        let outer = Quoted::read(frame, at, end, is_v6)?;
        // A tunnel's packet carries another one.
        let (inner, is_v6_inside) = match outer.protocol {
            ipv4::IPIP => (outer.transport, false),
            ipv6::IPV6 => (outer.transport, true),
            ipv4::GRE => {
                let (len, is_v6) = gre::inner(frame.get(outer.transport..end)?)?;
                (outer.transport + len, is_v6)
            }
            _ => return Quote::of(frame, outer, None, (is_v6, icmp, end), type_and_code, complaint),
        };
        let inner = Quoted::read(frame, inner, end, is_v6_inside)?;
        Quote::of(frame, inner, Some(outer), (is_v6, icmp, end), type_and_code, complaint)
    }

    /// What is in the quoted packet, if that is one of UDP and takes another one through GUE. `frame` is what `self`
    /// was read from.
    pub fn through_gue(&self, frame: &[u8]) -> Option<Quote> {
        let Quote { is_v6, icmp, end, type_and_code, complaint, .. } = *self;
        let outer = Quoted::read(frame, self.ip, end, is_v6)?;
        let gue = outer.transport + udp::HEADER_LEN;
        let (len, is_v6_inside) = gue::inner(frame.get(gue..end)?)?;
        let inner = Quoted::read(frame, gue + len, end, is_v6_inside)?;
        Quote::of(frame, inner, Some(outer), (is_v6, icmp, end), type_and_code, complaint)
    }

    /// About the packet `inner`, which came through a tunnel if there is an `outer` one.
    fn of(
        frame: &[u8],
        inner: Quoted,
        outer: Option<Quoted>,
        (is_v6, icmp, end): (bool, usize, usize),
        type_and_code: (u8, u8),
        complaint: Complaint,
    ) -> Option<Quote> {
        let transport = frame.get(inner.transport..end).filter(|bytes| bytes.len() >= MIN_TRANSPORT)?;
        let (protocol, ports) = match inner.protocol {
            protocol @ (ipv4::TCP | ipv4::UDP | ipv4::SCTP) => {
                (protocol, Some((read_u16(transport, 0), read_u16(transport, 2))))
            }
            ipv4::ESP | ipv4::AH => (ipv4::UDP, None),
            _ => return None,
        };
        let (source_port, destination_port) = ports.unwrap_or((udp::ISAKMP, udp::ISAKMP));
        Some(Quote {
            source: (inner.source, source_port),
            destination: (inner.destination, destination_port),
            protocol,
            has_ports: ports.is_some(),
            is_v6,
            icmp,
            ip: inner.at,
            transport: inner.transport,
            end,
            type_and_code,
            complaint,
            tunnel: outer.map(|outer| (outer.destination, (inner.at - outer.at) as u16)),
        })
    }

    /// Writes into `parsed` what the pipeline goes by: the ends of the connection that the error is about, the error's
    /// own lengths. False where the connection is of the other version of IP.
    pub fn describe<A: Family>(&self, parsed: &mut Frame<A>) -> bool {
        let (Some(source), Some(destination)) = (A::of(self.source.0), A::of(self.destination.0)) else {
            return false;
        };
        let (source, destination) = ((source, self.source.1), (destination, self.destination.1));
        parsed.protocol = self.protocol;
        parsed.header_len = (self.icmp - ethernet::HEADER_LEN) as u16;
        parsed.total_len = (self.end - ethernet::HEADER_LEN) as u16;
        if self.tunnel.is_some() {
            parsed.transport = Transport::TunnelError;
            parsed.set_ends(source, destination);
        } else {
            // The error goes back to where the packet came from.
            parsed.transport = Transport::IcmpError;
            parsed.set_ends(destination, source);
        }
        true
    }
}

/// Types of RFC 792 that say that a packet did not arrive, and that IPVS follows (`ip_vs_in_icmp`).
fn complaint_v4(message: &[u8]) -> Option<Complaint> {
    match (message[0], message[1]) {
        (3, 4) => Some(Complaint::TooBig(read_u16(message, 6))),
        (3, _) | (4, _) => Some(Complaint::Unreachable),
        (11, _) => Some(Complaint::TimeExceeded),
        _ => None,
    }
}

/// Types below 128 are errors (RFC 4443 §2.1).
fn complaint_v6(message: &[u8]) -> Option<Complaint> {
    match message[0] {
        2 => {
            let mtu = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
            Some(Complaint::TooBig(u16::try_from(mtu).unwrap_or(u16::MAX)))
        }
        3 => Some(Complaint::TimeExceeded),
        0..=127 => Some(Complaint::Unreachable),
        _ => None,
    }
}

/// A quoted IP header.
#[derive(Clone, Copy)]
struct Quoted {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    at: usize,
    transport: usize,
}

impl Quoted {
    fn read(frame: &[u8], at: usize, end: usize, is_v6: bool) -> Option<Quoted> {
        let ip = frame.get(at..end)?;
        if is_v6 {
            if ip.len() < ipv6::HEADER_LEN || ip[0] >> 4 != 6 {
                return None;
            }
            // IPVS does not follow errors about fragments either.
            let ipv6::Upper::Protocol(protocol, len) = ipv6::upper(ip)? else { return None };
            return Some(Quoted {
                source: ipv6::source(ip).into(),
                destination: ipv6::destination(ip).into(),
                protocol,
                at,
                transport: at + len,
            });
        }
        if ip.len() < ipv4::MIN_HEADER_LEN || ip[0] >> 4 != 4 {
            return None;
        }
        let header_len = usize::from(ip[0] & 0xf) * 4;
        // Ports are in the first fragment only.
        let offset = ipv4::flags_and_offset(ip) & 0x1fff;
        if header_len < ipv4::MIN_HEADER_LEN || header_len > ip.len() || offset != 0 {
            return None;
        }
        Some(Quoted {
            source: ipv4::source(ip).into(),
            destination: ipv4::destination(ip).into(),
            protocol: ipv4::protocol(ip),
            at,
            transport: at + header_len,
        })
    }
}

/// Whether the checksum of an error is right.
pub fn is_sound(frame: &[u8], quote: &Quote) -> bool {
    checksum::sum(&frame[quote.icmp..quote.end], pseudo_header(frame, quote)) == 0xffff
}

/// Writes the checksum of an error.
pub fn write_checksum(frame: &mut [u8], quote: &Quote) {
    super::write_u16(frame, quote.icmp + 2, 0);
    let sum = !checksum::sum(&frame[quote.icmp..quote.end], pseudo_header(frame, quote));
    super::write_u16(frame, quote.icmp + 2, sum);
}

/// ICMPv6 has a pseudo header, ICMP has none.
fn pseudo_header(frame: &[u8], quote: &Quote) -> u64 {
    let ip = &frame[ethernet::HEADER_LEN..];
    if quote.is_v6 {
        let len = (quote.end - quote.icmp) as u16;
        checksum::pseudo_header_v6(ipv6::source(ip), ipv6::destination(ip), ipv6::ICMP, len)
    } else {
        0
    }
}

/// Writes the address and port of one end of the quoted packet, as the connection's other side knows them. Of a
/// quoted IPv4 header the checksum is mended; the transport checksum is left alone, as IPVS leaves it: who reads a
/// quote goes by addresses and ports.
pub fn rewrite<A: Family>(frame: &mut [u8], quote: &Quote, side: super::Side, address: A, port: u16) {
    let _ = A::rewrite_address(&mut frame[quote.ip..], side, address);
    if !quote.has_ports {
        return;
    }
    let at = quote.transport + if side == super::Side::Source { 0 } else { 2 };
    super::write_u16(frame, at, port);
}

/// The ends of the packet that carries an error: who sent it, and to whom.
pub fn carrier(frame: &[u8]) -> (IpAddr, IpAddr) {
    let ip = &frame[ethernet::HEADER_LEN..];
    if ip[0] >> 4 == 6 {
        (ipv6::source(ip).into(), ipv6::destination(ip).into())
    } else {
        (ipv4::source(ip).into(), ipv4::destination(ip).into())
    }
}
