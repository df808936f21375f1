//! UDP (RFC 768). Offsets are from the first byte of the UDP header.

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;
/// Where the checksum is; 0 there means that the sender computed none.
pub const CHECKSUM: usize = 6;

/// Port of the key exchange that ESP and AH follow (RFC 7296).
pub const ISAKMP: u16 = 500;

/// Length of header and payload, in bytes, as it claims.
#[inline]
pub fn len(udp: &[u8]) -> u16 {
    super::read_u16(udp, 4)
}

/// Writes a header without checksum: source and destination port, length of header and payload in bytes.
#[inline]
pub fn write(udp: &mut [u8], (source, destination): (u16, u16), len: u16) {
    for (at, word) in [(0, source), (2, destination), (4, len), (CHECKSUM, 0)] {
        super::write_u16(udp, at, word);
    }
}

/// Writes the checksum of a datagram that ends where `udp` does, begun from the sum of its pseudo header.
pub fn write_checksum(udp: &mut [u8], pseudo_header: u64) {
    super::write_u16(udp, CHECKSUM, 0);
    let checksum = !super::checksum::sum(udp, pseudo_header);
    // 0 would say that there is none; its other form in one's complement says the same number.
    super::write_u16(udp, CHECKSUM, if checksum == 0 { 0xffff } else { checksum });
}
