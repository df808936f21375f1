//! The packet inside a tunnel's packet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::oracle::packet::ones_complement;

/// The shortest header of IPv4.
const V4_HEADER: usize = 20;
/// The header of IPv6 without its extensions.
const V6_HEADER: usize = 40;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// IPv4, inside a tunnel protocol 4.
    V4,
    /// IPv6, inside a tunnel protocol 41.
    V6,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Version::V4 => "IPv4",
            Version::V6 => "IPv6",
        })
    }
}

/// What stands between the outer header and the packet inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Nothing: a packet of this version, by its protocol number.
    Ip(Version),
    /// Generic routing encapsulation (RFC 2784).
    Gre,
    /// Generic UDP encapsulation (draft-ietf-intarea-gue); a socket of UDP has taken that header off.
    Gue,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Carrier::Ip(version) => version.fmt(f),
            Carrier::Gre => f.write_str("GRE"),
            Carrier::Gue => f.write_str("GUE"),
        }
    }
}

/// Why a packet was not taken out of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The outer packet is not IPv4 with the tunnel's protocol, or is shorter than it says.
    Outer,
    /// What stands before the inner packet is not what it should be, or its checksum is wrong.
    Between,
    /// The inner packet is not of its version, or its header is cut off or lies about its length.
    Inner,
    /// The inner packet is longer than what the outer one carries.
    Truncated,
    /// The inner packet is for an address that this real server does not serve.
    Address(IpAddr),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Outer => f.write_str("the outer packet is not of this kind"),
            Refusal::Between => f.write_str("the header before the inner packet is wrong"),
            Refusal::Inner => f.write_str("the inner packet is not of this kind"),
            Refusal::Truncated => f.write_str("the inner packet is cut off"),
            Refusal::Address(address) => {
                write!(f, "the inner packet is for {address}, which is no VIP of ours")
            }
        }
    }
}

/// The packet inside what a socket for `carrier` over IP of version `outer` gives, without what may be padded behind it.
///
/// # Errors
/// When it is none, or is not for one of `vips`.
pub fn decapsulate<'a>(
    outer: Version,
    carrier: Carrier,
    packet: &'a [u8],
    vips: &[IpAddr],
) -> Result<&'a [u8], Refusal> {
    // A raw socket of IPv6 gives what is behind the header and its extensions, one of IPv4 all of it.
    let carried = match (outer, carrier) {
        (Version::V4, Carrier::Ip(_) | Carrier::Gre) => {
            carried_by_v4(packet, carrier).ok_or(Refusal::Outer)?
        }
        _ => packet,
    };
    let (inner, carried) = match carrier {
        Carrier::Ip(version) => (version, carried),
        Carrier::Gre => behind_gre(carried).ok_or(Refusal::Between)?,
        Carrier::Gue => behind_gue(carried).ok_or(Refusal::Between)?,
    };
    let (length, destination) = match inner {
        Version::V4 => {
            let (_, length) = v4_lengths(carried).ok_or(Refusal::Inner)?;
            (length, Ipv4Addr::new(carried[16], carried[17], carried[18], carried[19]).into())
        }
        Version::V6 => v6_length_and_destination(carried).ok_or(Refusal::Inner)?,
    };
    let packet = carried.get(..length).ok_or(Refusal::Truncated)?;
    if vips.contains(&destination) { Ok(packet) } else { Err(Refusal::Address(destination)) }
}

/// What a packet of IPv4 carries, if it is the protocol of this carrier.
fn carried_by_v4(packet: &[u8], carrier: Carrier) -> Option<&[u8]> {
    let (header, total) = v4_lengths(packet)?;
    let protocol = match carrier {
        Carrier::Ip(Version::V4) => 4,
        Carrier::Ip(Version::V6) => 41,
        Carrier::Gre => 47,
        Carrier::Gue => 17,
    };
    if packet[9] != protocol {
        return None;
    }
    packet.get(header..total)
}

/// What is behind a header of GRE without key and sequence number, whose checksum is right if it has one.
fn behind_gre(gre: &[u8]) -> Option<(Version, &[u8])> {
    let length = match gre.get(..2)? {
        [0, 0] => 4,
        [0x80, 0] if ones_complement(gre) == 0xffff => 8,
        _ => return None,
    };
    let version = match gre.get(2..4)? {
        [0x08, 0x00] => Version::V4,
        [0x86, 0xdd] => Version::V6,
        _ => return None,
    };
    Some((version, gre.get(length..)?))
}

/// What is behind a header of GUE, version 0, with its extensions.
fn behind_gue(gue: &[u8]) -> Option<(Version, &[u8])> {
    let [first, protocol, ..] = *gue.get(..4)? else { return None };
    let version = match protocol {
        4 => Version::V4,
        41 => Version::V6,
        _ => return None,
    };
    if first >> 5 != 0 {
        return None;
    }
    Some((version, gue.get(4 + usize::from(first & 0x1f) * 4..)?))
}

/// The lengths of header and packet in an IPv4 header, if it is one.
fn v4_lengths(packet: &[u8]) -> Option<(usize, usize)> {
    if packet.len() < V4_HEADER || packet[0] >> 4 != 4 {
        return None;
    }
    let header = usize::from(packet[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    (header >= V4_HEADER && header <= total && header <= packet.len()).then_some((header, total))
}

/// The length of a packet by its IPv6 header, and where it goes, if it is one.
fn v6_length_and_destination(packet: &[u8]) -> Option<(usize, IpAddr)> {
    if packet.len() < V6_HEADER || packet[0] >> 4 != 6 {
        return None;
    }
    let length = V6_HEADER + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let destination: [u8; 16] = packet[24..V6_HEADER].try_into().ok()?;
    Some((length, Ipv6Addr::from(destination).into()))
}

#[cfg(test)]
mod tests;
