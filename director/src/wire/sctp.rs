//! SCTP (RFC 9260). Offsets are from the first byte of the common header.

use super::{read, read_u16};

/// Length of the common header, in bytes.
pub const HEADER_LEN: usize = 12;
/// Length of the common header with the part that all chunks have, which a packet holds at least, in bytes.
pub const MIN_PACKET_LEN: usize = HEADER_LEN + CHUNK_HEADER_LEN;
/// Where the checksum is.
pub const CHECKSUM: usize = 8;

/// Chunk: user data; whatever has no meaning for the state of an association counts as this.
pub const DATA: u8 = 0;
/// Chunk: asks for an association.
pub const INIT: u8 = 1;
/// Chunk: answers INIT.
pub const INIT_ACK: u8 = 2;
/// Chunk: ends an association at once.
pub const ABORT: u8 = 6;
/// Chunk: no more data from the sender.
pub const SHUTDOWN: u8 = 7;
/// Chunk: answers SHUTDOWN.
pub const SHUTDOWN_ACK: u8 = 8;
/// Chunk: something was wrong.
pub const ERROR: u8 = 9;
/// Chunk: the answer to INIT ACK.
pub const COOKIE_ECHO: u8 = 10;
/// Chunk: the association is there.
pub const COOKIE_ACK: u8 = 11;
/// Chunk: the last one of an association.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// Type, flags and length.
const CHUNK_HEADER_LEN: usize = 4;

/// Length of the first chunk with its header and without padding, in bytes, as it claims.
#[inline]
pub fn first_chunk_len(sctp: &[u8]) -> usize {
    usize::from(read_u16(sctp, HEADER_LEN + 2))
}

/// Whether the first chunk is as long as it can be; `sctp` holds [`MIN_PACKET_LEN`] at least, and all of it if `whole`.
pub fn first_chunk_is_sound(sctp: &[u8], whole: bool) -> bool {
    let len = first_chunk_len(sctp);
    len >= CHUNK_HEADER_LEN && (!whole || len <= sctp.len() - HEADER_LEN)
}

/// Type of the chunk that says what becomes of the association: the first one, unless that is a COOKIE that an ABORT
/// follows (Linux `set_sctp_state` in `ip_vs_proto_sctp.c`). `sctp` holds [`MIN_PACKET_LEN`] at least.
pub fn telling_chunk(sctp: &[u8]) -> u8 {
    let first = sctp[HEADER_LEN];
    if matches!(first, COOKIE_ECHO | COOKIE_ACK) {
        // Chunks begin at multiples of four bytes.
        let next = HEADER_LEN + first_chunk_len(sctp).next_multiple_of(4);
        if sctp.get(next..next + CHUNK_HEADER_LEN).is_some_and(|chunk| chunk[0] == ABORT) {
            return ABORT;
        }
    }
    first
}

/// Writes the checksum: CRC32c over the whole packet, which `sctp` holds, with zeros in its place (RFC 9260 §6.8). It
/// covers no addresses.
pub fn write_checksum(sctp: &mut [u8]) {
    sctp[CHECKSUM..CHECKSUM + 4].fill(0);
    let crc = crc32c::crc32c(sctp);
    // RFC 9260 appendix A: the register's lowest byte goes first.
    sctp[CHECKSUM..CHECKSUM + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Whether the checksum is right; `sctp` is a whole packet.
pub fn checksum_is_valid(sctp: &[u8]) -> bool {
    let crc = crc32c::crc32c(&sctp[..CHECKSUM]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    let crc = crc32c::crc32c_append(crc, &sctp[HEADER_LEN..]);
    crc.to_le_bytes() == read::<4>(sctp, CHECKSUM)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// CRC32c bit by bit: Castagnoli's polynomial, the lowest bit first.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(
                crc ^ u32::from(*byte),
                |crc, _| {
                    if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 }
                },
            )
        })
    }

    #[test]
    fn the_checksum_is_that_of_the_published_vectors() {
        // RFC 3720 appendix B.4, whose CRC is the same: 32 bytes of zeros, and of ones.
        assert_eq!(by_definition(&[0; 32]), 0x8a91_36aa);
        assert_eq!(by_definition(&[0xff; 32]), 0x62a8_ab43);
        let mut packet = [0; 32];
        write_checksum(&mut packet);
        assert_eq!(packet[CHECKSUM..HEADER_LEN], [0xaa, 0x36, 0x91, 0x8a]);
        assert!(checksum_is_valid(&packet));
        packet[31] = 1;
        assert!(!checksum_is_valid(&packet));
    }

    #[test]
    fn a_cookie_may_be_followed_by_what_counts() {
        let packet = |first: u8, len: u16, next: u8| {
            let mut packet = vec![0; HEADER_LEN];
            packet.extend([first, 0]);
            packet.extend(len.to_be_bytes());
            packet.extend([0xff; 4]);
            packet.extend([next, 0, 0, 4]);
            packet
        };
        assert_eq!(telling_chunk(&packet(COOKIE_ECHO, 8, ABORT)), ABORT);
        assert_eq!(telling_chunk(&packet(COOKIE_ECHO, 5, ABORT)), ABORT, "padded");
        assert_eq!(telling_chunk(&packet(COOKIE_ECHO, 9, ABORT)), COOKIE_ECHO, "behind the packet");
        assert_eq!(telling_chunk(&packet(COOKIE_ACK, 8, DATA)), COOKIE_ACK);
        assert_eq!(telling_chunk(&packet(DATA, 8, ABORT)), DATA);
        assert_eq!(telling_chunk(&packet(COOKIE_ECHO, u16::MAX, ABORT)), COOKIE_ECHO);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_and_summed_up(mut packet in proptest::collection::vec(any::<u8>(), MIN_PACKET_LEN..200)) {
            let chunk = telling_chunk(&packet);
            prop_assert!(chunk == packet[HEADER_LEN] || chunk == ABORT);
            let _ = first_chunk_is_sound(&packet, true);
            write_checksum(&mut packet);
            prop_assert!(checksum_is_valid(&packet));
            let stored = read::<4>(&packet, CHECKSUM);
            packet[CHECKSUM..HEADER_LEN].fill(0);
            prop_assert_eq!(by_definition(&packet).to_le_bytes(), stored);
        }
    }
}
