//! UDP (RFC 768). Offsets are from the first byte of the UDP header.

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;
/// Where the checksum is; 0 there means that the sender computed none.
pub const CHECKSUM: usize = 6;

/// Length of header and payload, in bytes, as it claims.
#[inline]
pub fn len(udp: &[u8]) -> u16 {
    super::read_u16(udp, 4)
}
