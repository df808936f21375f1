//! What a fragment says of its place in the packet that it is a part of (RFC 791, RFC 8200 §4.5).

use super::{ipv4, ipv6, read, read_u16};

/// The most that a packet may be long, header included, in bytes.
const MAX_PACKET_LEN: u32 = u16::MAX as u32;

/// A part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Identification of the packet, together with its addresses and protocol. Of IPv4 in the lower half.
    pub id: u32,
    /// Where its payload begins in that of the packet, in bytes; a multiple of eight.
    pub offset: u16,
    /// Length of its payload, in bytes.
    pub len: u16,
    /// Whether another piece follows behind.
    pub more: bool,
}

impl Piece {
    /// Reads it from an IPv4 packet whose header is `header_len` bytes long and which `wire::parse` accepted.
    #[must_use]
    pub fn of_ipv4(ip: &[u8], header_len: u16) -> Piece {
        let word = ipv4::flags_and_offset(ip);
        Piece {
            id: ipv4::id(ip).into(),
            offset: word << 3,
            len: ipv4::total_len(ip) - header_len,
            more: word & ipv4::MORE_FRAGMENTS != 0,
        }
    }

    /// As [`Piece::of_ipv4`], for IPv6: the fragment header is the last one before `header_len`.
    #[must_use]
    pub fn of_ipv6(ip: &[u8], header_len: u16, total_len: u16) -> Piece {
        let at = usize::from(header_len) - ipv6::FRAGMENT_HEADER_LEN;
        let word = read_u16(ip, at + 2);
        Piece {
            id: u32::from_be_bytes(read(ip, at + 4)),
            offset: word & !7,
            len: total_len - header_len,
            more: word & 1 != 0,
        }
    }

    /// Where its payload ends in that of the packet.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::from(self.offset) + u32::from(self.len)
    }

    /// Whether it can be a part of a packet at all: others come behind it only at a multiple of eight bytes, and no
    /// packet is longer than its length can say.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.len > 0 && (!self.more || self.len.is_multiple_of(8)) && self.end() <= MAX_PACKET_LEN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_say_the_same_in_their_ways() {
        let mut v4 = vec![0; 60];
        v4[..8].copy_from_slice(&[0x46, 0, 0, 60, 0x12, 0x34, 0x20, 0x03]);
        let piece = Piece { id: 0x1234, offset: 24, len: 36, more: true };
        assert_eq!(Piece::of_ipv4(&v4, 24), piece);
        let mut v6 = vec![0; 84];
        v6[40..48].copy_from_slice(&[17, 0, 0, 25, 0, 0, 0x12, 0x34]);
        assert_eq!(Piece::of_ipv6(&v6, 48, 84), piece);
        v6[43] = 24;
        assert!(!Piece::of_ipv6(&v6, 48, 84).more);
    }

    #[test]
    fn a_piece_ends_at_eight_bytes_unless_it_is_the_last_and_within_a_packet() {
        let piece = Piece { id: 1, offset: 0, len: 16, more: true };
        assert!(piece.is_possible());
        assert!(!Piece { len: 0, ..piece }.is_possible());
        assert!(!Piece { len: 15, ..piece }.is_possible());
        assert!(Piece { len: 15, more: false, ..piece }.is_possible());
        assert!(Piece { offset: 65528, len: 7, more: false, ..piece }.is_possible());
        assert!(!Piece { offset: 65528, len: 8, more: false, ..piece }.is_possible());
    }
}
