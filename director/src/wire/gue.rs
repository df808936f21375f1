//! Generic UDP encapsulation, version 0 (draft-ietf-intarea-gue-09 §3). Offsets are from the first byte of the GUE
//! header, which stands behind the one of UDP.

use super::{ipv4, ipv6};

/// Length of a header without flags and extensions, in bytes.
pub const HEADER_LEN: usize = 4;

/// In the first byte: version 0, no control message, header length in units of four bytes beyond the first ones.
const LEN: u8 = 0x1f;

/// Writes a header without flags in front of a packet of this protocol number.
#[inline]
pub fn write(gue: &mut [u8], protocol: u8) {
    gue[..HEADER_LEN].copy_from_slice(&[0, protocol, 0, 0]);
}

/// Where the packet behind a header begins, and whether it is IPv6. `None` of what is no packet of IP.
pub fn inner(gue: &[u8]) -> Option<(usize, bool)> {
    let head = gue.get(..HEADER_LEN)?;
    if head[0] & !LEN != 0 {
        return None;
    }
    let len = HEADER_LEN + usize::from(head[0] & LEN) * 4;
    match head[1] {
        ipv4::IPIP => Some((len, false)),
        ipv6::IPV6 => Some((len, true)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut gue = [0xaa; 5];
        write(&mut gue, ipv4::IPIP);
        assert_eq!((gue, inner(&gue)), ([0, 4, 0, 0, 0xaa], Some((4, false))));
        write(&mut gue, ipv6::IPV6);
        assert_eq!(inner(&gue), Some((4, true)));
        assert_eq!(inner(&[2, 4, 0, 0]), Some((12, false)), "with extensions");
        for other in [&[0, 4, 0][..], &[0x40, 4, 0, 0], &[0x20, 4, 0, 0], &[0, 17, 0, 0]] {
            assert_eq!(inner(other), None);
        }
    }
}
