//! The packet inside a tunnel's packet.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

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

/// Why a packet was not taken out of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The outer packet is not IPv4 with the tunnel's protocol, or is shorter than it says.
    Outer,
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
            Refusal::Inner => f.write_str("the inner packet is not of this kind"),
            Refusal::Truncated => f.write_str("the inner packet is cut off"),
            Refusal::Address(address) => {
                write!(f, "the inner packet is for {address}, which is no VIP of ours")
            }
        }
    }
}

/// The packet of version `inner` in what a raw socket of version `outer` gives, without what may be padded behind it.
///
/// # Errors
/// When it is none, or is not for one of `vips`.
pub fn decapsulate<'a>(
    outer: Version,
    inner: Version,
    packet: &'a [u8],
    vips: &[IpAddr],
) -> Result<&'a [u8], Refusal> {
    // A raw socket of IPv6 gives what is behind the header and its extensions, one of IPv4 all of it.
    let carried = match outer {
        Version::V4 => carried_by_v4(packet, inner).ok_or(Refusal::Outer)?,
        Version::V6 => packet,
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

/// What a packet of IPv4 carries, if it carries a packet of version `inner`.
fn carried_by_v4(packet: &[u8], inner: Version) -> Option<&[u8]> {
    let (header, total) = v4_lengths(packet)?;
    let protocol = match inner {
        Version::V4 => 4,
        Version::V6 => 41,
    };
    if packet[9] != protocol {
        return None;
    }
    packet.get(header..total)
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
