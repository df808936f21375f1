//! From a frame to what the pipeline decides by. Every length that is used later is checked here.

use std::net::Ipv4Addr;

use super::{Error, ethernet, ipv4, tcp, udp};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An IPv4 packet whose header is sound.
    Ipv4(Ipv4Frame),
    /// Anything else (ARP, IPv6, tagged frames): not for the data plane.
    Other,
}

/// An IPv4 packet in an Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Frame {
    /// Length of the IP header with its options: 20..=60 bytes.
    pub header_len: u8,
    /// Length of the IP packet, header included, as its header says; the frame holds that much.
    pub total_len: u16,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub transport: Transport,
}

impl Ipv4Frame {
    /// Offset of the transport header from the start of the frame.
    #[inline]
    pub fn transport_offset(&self) -> usize {
        ethernet::HEADER_LEN + usize::from(self.header_len)
    }

    /// Offset of the end of the IP packet from the start of the frame; padding follows, if anything.
    #[inline]
    pub fn end(&self) -> usize {
        ethernet::HEADER_LEN + usize::from(self.total_len)
    }
}

/// The payload of an IP packet, as far as the data plane cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with a whole header.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The flags of `wire::tcp`.
        flags: u8,
    },
    /// UDP with a whole header.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// A fragment of a TCP segment or UDP datagram, the first one included.
    Fragment,
    /// Any other protocol, ICMP included, in one piece or not.
    Other,
}

/// Reads a frame.
///
/// # Errors
/// What cannot be a packet that an honest host sent. The header's checksum is not looked at: it is
/// only updated incrementally, so a wrong one stays wrong for its receiver to see.
#[inline]
pub fn parse(frame: &[u8]) -> Result<Parsed, Error> {
    if frame.len() < ethernet::HEADER_LEN {
        return Err(Error::TruncatedEthernet);
    }
    if ethernet::ether_type(frame) != ethernet::IPV4 {
        return Ok(Parsed::Other);
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
    let transport = if is_fragment && matches!(protocol, ipv4::TCP | ipv4::UDP) {
        Transport::Fragment
    } else {
        parse_transport(protocol, &ip[header_len..])?
    };
    Ok(Parsed::Ipv4(Ipv4Frame {
        header_len: header_len as u8,
        total_len,
        source: ipv4::source(ip),
        destination: ipv4::destination(ip),
        transport,
    }))
}

#[inline]
fn parse_transport(protocol: u8, payload: &[u8]) -> Result<Transport, Error> {
    match protocol {
        ipv4::TCP => {
            if payload.len() < tcp::MIN_HEADER_LEN {
                return Err(Error::BadTcpHeader);
            }
            let header_len = tcp::header_len(payload);
            if header_len < tcp::MIN_HEADER_LEN || header_len > payload.len() {
                return Err(Error::BadTcpHeader);
            }
            Ok(Transport::Tcp {
                source: super::read_u16(payload, 0),
                destination: super::read_u16(payload, 2),
                flags: tcp::flags(payload),
            })
        }
        ipv4::UDP => {
            if payload.len() < udp::HEADER_LEN {
                return Err(Error::BadUdpHeader);
            }
            let len = usize::from(udp::len(payload));
            if len < udp::HEADER_LEN || len > payload.len() {
                return Err(Error::BadUdpHeader);
            }
            Ok(Transport::Udp {
                source: super::read_u16(payload, 0),
                destination: super::read_u16(payload, 2),
            })
        }
        _ => Ok(Transport::Other),
    }
}
