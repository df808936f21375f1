//! TCP (RFC 9293). Offsets are from the first byte of the TCP header.

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;
/// Where the checksum is.
pub const CHECKSUM: usize = 16;
/// Flag: no more data from the sender.
pub const FIN: u8 = 0x01;
/// Flag: synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Flag: reset the connection.
pub const RST: u8 = 0x04;
/// Flag: acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The flags that move the state of a connection.
pub const TELLING: u8 = FIN | SYN | RST | ACK;

/// The flags.
#[inline]
pub fn flags(tcp: &[u8]) -> u8 {
    tcp[13]
}

/// Length of the header with its options, in bytes, as it claims.
#[inline]
pub fn header_len(tcp: &[u8]) -> usize {
    usize::from(tcp[12] >> 4) * 4
}
