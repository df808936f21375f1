//! Ethernet II.

use crate::nexthop::MacAddr;

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 14;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// Shortest frame without FCS, in bytes; shorter ones are padded by their sender.
pub const MIN_FRAME: usize = 60;

/// The destination address.
#[inline(always)]
pub fn destination(frame: &[u8]) -> MacAddr {
    MacAddr(super::read(frame, 0))
}

/// The EtherType.
#[inline(always)]
pub fn ether_type(frame: &[u8]) -> u16 {
    super::read_u16(frame, 12)
}

/// Multicast or broadcast (the group bit of the destination address).
#[inline]
pub fn is_group(address: MacAddr) -> bool {
    address.0[0] & 1 != 0
}

/// Writes a whole header.
#[inline(always)]
pub fn write_header(frame: &mut [u8], addresses: &[u8; 12], ether_type: u16) {
    frame[..12].copy_from_slice(addresses);
    super::write_u16(frame, 12, ether_type);
}

/// Writes both addresses, and leaves the type as it is.
#[inline]
pub fn write_addresses(frame: &mut [u8], addresses: &[u8; 12]) {
    frame[..12].copy_from_slice(addresses);
}
