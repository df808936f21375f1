//! IPv4 (RFC 791). Offsets are from the first byte of the IP header.

use std::net::Ipv4Addr;

use super::checksum::Delta;
use super::{Side, read_u16, write_u16};

/// Length of a header without options, in bytes.
pub const MIN_HEADER_LEN: usize = 20;
/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of IP in IP (RFC 2003).
pub const IPIP: u8 = 4;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of GRE (RFC 2784).
pub const GRE: u8 = 47;
/// Protocol number of ESP (RFC 4303).
pub const ESP: u8 = 50;
/// Protocol number of AH (RFC 4302).
pub const AH: u8 = 51;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;
/// "Don't fragment", in the 16-bit field of flags and fragment offset.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// "More fragments" follow, in the same field.
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// The fragment offset, in the same field, in units of eight bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

const TOS: usize = 1;
const TOTAL_LEN: usize = 2;
const ID: usize = 4;
const FLAGS: usize = 6;
pub(crate) const TTL: usize = 8;
const PROTOCOL: usize = 9;
/// Where the header's checksum is.
pub(crate) const CHECKSUM: usize = 10;
/// Where the source address is.
pub(crate) const SOURCE: usize = 12;
/// Where the destination address is.
pub(crate) const DESTINATION: usize = 16;

/// Type of service: DSCP and ECN.
#[inline]
pub fn tos(ip: &[u8]) -> u8 {
    ip[TOS]
}

/// Length of header and payload, in bytes.
#[inline(always)]
pub fn total_len(ip: &[u8]) -> u16 {
    read_u16(ip, TOTAL_LEN)
}

/// Identification.
#[inline]
pub fn id(ip: &[u8]) -> u16 {
    read_u16(ip, ID)
}

/// Flags (upper three bits) and fragment offset in units of eight bytes.
#[inline(always)]
pub fn flags_and_offset(ip: &[u8]) -> u16 {
    read_u16(ip, FLAGS)
}

/// Time to live.
#[inline(always)]
pub fn ttl(ip: &[u8]) -> u8 {
    ip[TTL]
}

/// Protocol of the payload.
#[inline(always)]
pub fn protocol(ip: &[u8]) -> u8 {
    ip[PROTOCOL]
}

/// Source address.
#[inline(always)]
pub fn source(ip: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(super::read::<4>(ip, SOURCE))
}

/// Destination address.
#[inline(always)]
pub fn destination(ip: &[u8]) -> Ipv4Addr {
    Ipv4Addr::from(super::read::<4>(ip, DESTINATION))
}

/// Lowers the TTL by one and mends the checksum. The caller has made sure that it is not 0.
#[inline(always)]
pub fn decrement_ttl(ip: &mut [u8]) {
    // The TTL is the upper half of its word: one less is 0x0100 more in the checksum, the carry brought round
    // (RFC 1141), where 0xffff, which RFC 1624 warns of, becomes 0. With its bytes swapped it is 1 more: such sums are
    // the same in either order of bytes (RFC 1071 §2).
    ip[TTL] = ip[TTL].wrapping_sub(1);
    let sum = u32::from(u16::from_le_bytes(super::read(ip, CHECKSUM))) + 1;
    let sum = (sum + u32::from(sum >= 0xffff)) as u16;
    ip[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_le_bytes());
}

/// Writes an address and mends the header's checksum. Returns the change, which the transport
/// checksum needs as well, since its pseudo header holds the address too.
#[inline(always)]
pub fn rewrite_address(ip: &mut [u8], side: Side, new: Ipv4Addr) -> Delta {
    let at = match side {
        Side::Source => SOURCE,
        Side::Destination => DESTINATION,
    };
    let old = u32::from_be_bytes(super::read(ip, at));
    let delta = Delta::default().replace_u32(old, u32::from(new));
    ip[at..at + 4].copy_from_slice(&new.octets());
    let checksum = delta.apply(read_u16(ip, CHECKSUM));
    write_u16(ip, CHECKSUM, checksum);
    delta
}

/// Makes a copied header that of a fragment: `len` bytes of payload behind it, at this place.
pub(crate) fn write_piece(header: &mut [u8], len: usize, more_and_offset: u16) {
    write_u16(header, TOTAL_LEN, (header.len() + len) as u16);
    write_u16(header, FLAGS, more_and_offset);
    write_u16(header, CHECKSUM, 0);
    let checksum = !super::checksum::sum(header, 0);
    write_u16(header, CHECKSUM, checksum);
}

/// Whether the header's checksum is right. `header` is the header with its options, nothing more.
#[inline]
pub fn checksum_is_valid(header: &[u8]) -> bool {
    super::checksum::sum(header, 0) == 0xffff
}

/// What a header that we write ourselves says.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    /// Type of service.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub flags_and_offset: u16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
}

impl Header {
    /// Writes the 20 bytes at the start of `ip`, checksum included.
    #[inline(always)]
    pub fn write(&self, ip: &mut [u8]) {
        // Each as it stands in the header, read as one number of the other order of bytes.
        let swapped = |word: u16| u32::from(u16::from_le_bytes(word.to_be_bytes()));
        let mut words = [
            0x45 | u32::from(self.tos) << 8 | swapped(self.total_len) << 16,
            swapped(self.id) | swapped(self.flags_and_offset) << 16,
            u32::from(self.ttl) | u32::from(self.protocol) << 8,
            u32::from_le_bytes(self.source.octets()),
            u32::from_le_bytes(self.destination.octets()),
        ];
        // Summed as they stand in the header, since sums are the same in either order of bytes (RFC 1071 §2); and before
        // they are written: read back from the frame, the processor would wait.
        let checksum = !super::checksum::fold(words.into_iter().map(u64::from).sum());
        words[CHECKSUM / 4] |= u32::from(checksum) << 16;
        for (word, place) in words.into_iter().zip(ip[..MIN_HEADER_LEN].as_chunks_mut::<4>().0) {
            *place = word.to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut ip = vec![0; 20];
        Header {
            tos: 0x10,
            total_len: 40,
            id: 0x1234,
            flags_and_offset: DONT_FRAGMENT,
            ttl: 64,
            protocol: TCP,
            source: Ipv4Addr::new(10, 0, 1, 1),
            destination: Ipv4Addr::new(10, 99, 0, 1),
        }
        .write(&mut ip);
        ip
    }

    #[test]
    fn written_header_has_a_valid_checksum() {
        assert!(checksum_is_valid(&header()));
    }

    #[test]
    fn a_lower_ttl_gives_the_checksum_of_rfc_1624_whatever_it_was() {
        for checksum in 0..=u16::MAX {
            for ttl in [1u16, 64, 255] {
                let mut ip = header();
                ip[TTL] = ttl as u8;
                write_u16(&mut ip, CHECKSUM, checksum);
                decrement_ttl(&mut ip);
                let word = |ttl: u16| ttl << 8 | u16::from(TCP);
                let expected = Delta::default().replace_u16(word(ttl), word(ttl - 1)).apply(checksum);
                assert_eq!(read_u16(&ip, CHECKSUM), expected, "{checksum:04x} {ttl}");
            }
        }
    }

    #[test]
    fn ttl_and_addresses_are_rewritten_with_the_checksum_kept_valid() {
        let mut ip = header();
        for _ in 0..64 {
            decrement_ttl(&mut ip);
            assert!(checksum_is_valid(&ip));
        }
        assert_eq!(ttl(&ip), 0);
        let _ = rewrite_address(&mut ip, Side::Destination, Ipv4Addr::new(0, 0, 0, 0));
        let _ = rewrite_address(&mut ip, Side::Source, Ipv4Addr::new(255, 255, 255, 255));
        assert!(checksum_is_valid(&ip));
        assert_eq!(source(&ip), Ipv4Addr::BROADCAST);
        assert_eq!(destination(&ip), Ipv4Addr::UNSPECIFIED);
    }
}
