//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! The sum is the same whatever the byte order in which 16-bit words are read, as long as it is one
//! order throughout; all words here are read big-endian, so that values can be compared with a
//! packet dump. The trap is elsewhere: `~(~HC + ~m + m')` (RFC 1624, equation 3) is right for every
//! input, while the older `HC - ~m - m'` and `HC + m - m'` go wrong at 0x0000 and 0xffff.

/// Folds a wide one's-complement sum to 16 bits. Added to itself with its halves swapped, a number has their sum with
/// the carry brought round in its upper half.
#[inline(always)]
pub(super) fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The one's-complement sum (not inverted) of `bytes`, started from `initial`. An odd last byte
/// counts as the upper half of a word.
#[inline(always)]
pub fn sum(bytes: &[u8], initial: u64) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut sum: u64 = initial;
    for word in words {
        sum += u64::from(u32::from_be_bytes(*word));
    }
    for pair in rest.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    fold(sum)
}

/// The sum of a pseudo header of IPv4 (RFC 9293 §3.1), to start a transport checksum from.
/// `len` is the length of the transport header and payload.
#[inline]
pub fn pseudo_header_v4(
    source: std::net::Ipv4Addr,
    destination: std::net::Ipv4Addr,
    protocol: u8,
    len: u16,
) -> u64 {
    u64::from(u32::from(source)) + u64::from(u32::from(destination)) + u64::from(protocol) + u64::from(len)
}

/// The sum of a pseudo header of IPv6 (RFC 8200 §8.1). `len` is the length of the transport header and payload.
#[inline]
pub fn pseudo_header_v6(
    source: std::net::Ipv6Addr,
    destination: std::net::Ipv6Addr,
    protocol: u8,
    len: u16,
) -> u64 {
    words_of(u128::from(source)) + words_of(u128::from(destination)) + u64::from(protocol) + u64::from(len)
}

/// The sum of the four 32-bit words of an IPv6 address.
#[inline(always)]
fn words_of(bits: u128) -> u64 {
    let word = |n: u32| u64::from((bits >> (32 * n)) as u32);
    word(0) + word(1) + word(2) + word(3)
}

/// Changes to checksummed words, to be applied to a checksum in one go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Delta(u64);

impl Delta {
    /// No change.
    pub const NONE: Delta = Delta(0);

    /// A 16-bit word changes from `old` to `new`.
    #[inline(always)]
    pub const fn replace_u16(self, old: u16, new: u16) -> Delta {
        Delta(self.0 + !old as u64 + new as u64)
    }

    /// Two neighbouring 16-bit words change.
    #[inline(always)]
    pub fn replace_u32(self, old: u32, new: u32) -> Delta {
        Delta(self.0 + u64::from(!old) + u64::from(new))
    }

    /// Eight neighbouring 16-bit words change.
    #[inline(always)]
    pub fn replace_u128(self, old: u128, new: u128) -> Delta {
        Delta(self.0 + words_of(!old) + words_of(new))
    }

    /// Both.
    #[inline(always)]
    pub fn and(self, other: Delta) -> Delta {
        Delta(self.0 + other.0)
    }

    /// The checksum after the changes (RFC 1624, equation 3).
    #[inline(always)]
    pub fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + u64::from(!checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn example_of_rfc_1624() {
        // RFC 1624 §4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, where RFC 1141 gave 0xFFFF.
        assert_eq!(Delta::default().replace_u16(0x5555, 0x3285).apply(0xdd2f), 0x0000);
    }

    #[test]
    fn sum_of_an_odd_number_of_bytes_pads_with_zero() {
        assert_eq!(sum(&[0x12, 0x34, 0x56], 0), sum(&[0x12, 0x34, 0x56, 0x00], 0));
        assert_eq!(sum(&[], 0), 0);
    }

    proptest! {
        /// A word changed in place and mended incrementally gives what summing all of it anew gives.
        #[test]
        fn incremental_equals_full(mut bytes in proptest::collection::vec(any::<u8>(), 8..200), at in 0usize..1000, new: u32) {
            let at = (at % (bytes.len() / 4)) * 4;
            let before = !sum(&bytes, 0);
            let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let after = !sum(&bytes, 0);
            let mended = Delta::default().replace_u32(old, new).apply(before);
            // 0 and 0xffff are one number in one's complement; which of them a full sum gives
            // depends on whether everything is zero, which a delta cannot know.
            prop_assert!(mended == after || (mended ^ after) == 0xffff && (mended == 0 || after == 0),
                "{mended:04x} {after:04x}");
            let halves = Delta::default()
                .replace_u16((old >> 16) as u16, (new >> 16) as u16)
                .replace_u16(old as u16, new as u16);
            prop_assert_eq!(halves.apply(before), mended);
        }

        /// Sixteen bytes at once give what four times four give.
        #[test]
        fn an_ipv6_address_is_four_words(old: u128, new: u128, checksum: u16) {
            let word = |bits: u128, n: u32| (bits >> (32 * n)) as u32;
            let by_words = (0..4).fold(Delta::default(), |delta, n| delta.replace_u32(word(old, n), word(new, n)));
            let at_once = Delta::default().replace_u128(old, new);
            prop_assert_eq!(at_once.apply(checksum), by_words.apply(checksum));
            let sum_of_bytes = sum(&[old.to_be_bytes(), new.to_be_bytes()].concat(), 6 + 40);
            prop_assert_eq!(fold(pseudo_header_v6(old.into(), new.into(), 6, 40)), sum_of_bytes);
        }

        /// Reading four bytes at a time gives what two at a time give.
        #[test]
        fn wide_equals_narrow(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut narrow = 0u32;
            for pair in bytes.chunks(2) {
                narrow += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
                narrow = (narrow & 0xffff) + (narrow >> 16);
            }
            prop_assert_eq!(u32::from(sum(&bytes, 0)), narrow);
        }
    }
}
