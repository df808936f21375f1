//! Headers on the wire: one header, one file. Lengths are checked once, by [`parse`]; what it hands
//! out can be read and rewritten without further checks of the packet's honesty.

pub(crate) mod alike;
pub mod checksum;
pub mod ethernet;
mod family;
pub mod fragment;
pub mod gre;
pub mod gue;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
mod parse;
pub mod quote;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod usual;
pub mod vlan;

pub use family::{Family, Side};
pub(crate) use parse::parse_unusual;
pub use parse::{Frame, Ipv4Frame, Ipv6Frame, Parsed, Transport, parse, parse_ipv6};

/// What is wrong with a packet. Tiny and `Copy`: hostile packets are refused at line rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Shorter than an Ethernet header.
    TruncatedEthernet,
    /// An IPv4 header that is cut short, of another version, or whose lengths contradict each other
    /// or the frame.
    BadIpv4Header,
    /// An IPv6 header that is cut short or of another version, whose length contradicts the frame, or whose
    /// extension headers are cut short or too many.
    BadIpv6Header,
    /// A TCP header that is cut short or whose data offset is impossible.
    BadTcpHeader,
    /// A UDP header that is cut short or whose length is impossible.
    BadUdpHeader,
    /// An SCTP header that is cut short, or whose first chunk is or has an impossible length.
    BadSctpHeader,
    /// The first fragment of a packet without the whole transport header, or a later one that would overwrite it
    /// (RFC 1858, RFC 7112), or one that cannot be a part of any packet.
    BadFragment,
}

/// Reads the big-endian 16-bit field at `at`.
#[inline(always)]
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(read(bytes, at))
}

/// Reads the big-endian 32-bit field at `at`.
#[inline(always)]
pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(read(bytes, at))
}

/// The `N` bytes at `at`, by one check of the length.
#[inline(always)]
pub(crate) fn read<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut read = [0; N];
    read.copy_from_slice(&bytes[at..at + N]);
    read
}

/// Writes the big-endian 16-bit field at `at`.
#[inline(always)]
pub(crate) fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
