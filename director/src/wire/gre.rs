//! Generic routing encapsulation (RFC 2784). Offsets are from the first byte of the GRE header.

use super::{checksum, ethernet, read_u16, write_u16};

/// Length of a header without checksum, in bytes.
pub const MIN_HEADER_LEN: usize = 4;
/// Length of a header with checksum, in bytes.
pub const CHECKSUM_HEADER_LEN: usize = 8;

/// "Checksum present", in the first 16-bit word.
const CHECKSUM_PRESENT: u16 = 0x8000;

/// Writes a header in front of a packet, whose EtherType it names. `gre` begins with room for it, of one of the two
/// lengths, and ends where the packet does.
pub fn write(gre: &mut [u8], ether_type: u16, has_checksum: bool) {
    write_u16(gre, 0, if has_checksum { CHECKSUM_PRESENT } else { 0 });
    write_u16(gre, 2, ether_type);
    if has_checksum {
        gre[4..8].fill(0);
        let sum = !checksum::sum(gre, 0);
        write_u16(gre, 4, sum);
    }
}

/// Where the packet behind a header begins, and whether it is IPv6. `None` of what the director does not send.
pub fn inner(gre: &[u8]) -> Option<(usize, bool)> {
    let head = gre.get(..MIN_HEADER_LEN)?;
    let len = match read_u16(head, 0) {
        0 => MIN_HEADER_LEN,
        CHECKSUM_PRESENT => CHECKSUM_HEADER_LEN,
        _ => return None,
    };
    match read_u16(head, 2) {
        ethernet::IPV4 => Some((len, false)),
        ethernet::IPV6 => Some((len, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_sums_up() {
        let mut gre = [0xaa; 13];
        write(&mut gre, ethernet::IPV4, false);
        assert_eq!(gre[..5], [0, 0, 8, 0, 0xaa]);
        assert_eq!(inner(&gre), Some((4, false)));
        write(&mut gre, ethernet::IPV6, true);
        assert_eq!((&gre[..4], &gre[6..9]), (&[0x80, 0, 0x86, 0xdd][..], &[0, 0, 0xaa][..]));
        assert_eq!(checksum::sum(&gre, 0), 0xffff);
        assert_eq!(inner(&gre), Some((8, true)));
        for other in [&[0; 3][..], &[0x20, 0, 8, 0], &[0, 1, 8, 0], &[0, 0, 8, 6]] {
            assert_eq!(inner(other), None);
        }
    }
}
