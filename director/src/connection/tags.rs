//! Comparing the tags of a bucket with one tag: one vector comparison on x86-64, a loop elsewhere.
#![allow(unsafe_code)]

/// Slots of a bucket.
pub(super) const SLOTS: usize = 8;

/// One bit for each slot that holds `tag`.
#[inline(always)]
pub(super) fn matches(tags: &[u16; SLOTS], tag: u16) -> u8 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    return unsafe { all_at_once(tags, tag) };
    #[cfg(not(target_arch = "x86_64"))]
    one_by_one(tags, tag)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn all_at_once(tags: &[u16; SLOTS], tag: u16) -> u8 {
    use std::arch::x86_64::{
        _mm_cmpeq_epi16, _mm_loadu_si128, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
        _mm_setzero_si128,
    };
    // SAFETY: reads the 16 bytes of the eight tags, wherever they lie.
    let row = unsafe { _mm_loadu_si128(tags.as_ptr().cast()) };
    let equal = _mm_cmpeq_epi16(row, _mm_set1_epi16(tag.cast_signed()));
    // Each 16-bit lane of all ones or zeros becomes a byte of the same, and that a bit.
    _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())) as u8
}

/// What [`matches`] gives, slot by slot.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(tags: &[u16; SLOTS], tag: u16) -> u8 {
    tags.iter().enumerate().fold(0, |mask, (slot, here)| mask | u8::from(*here == tag) << slot)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_at_once_is_one_by_one(tags: [u16; SLOTS], few in proptest::array::uniform8(0u16..3), any_tag: u16, tag in 0u16..3) {
            prop_assert_eq!(matches(&tags, any_tag), one_by_one(&tags, any_tag));
            prop_assert_eq!(matches(&tags, tags[3]), one_by_one(&tags, tags[3]));
            prop_assert_eq!(matches(&few, tag), one_by_one(&few, tag));
        }
    }
}
