//! Packets that differ in nothing that decides where they go: compared as a whole, with one look at all fields, instead of
//! being read again field by field.
#![allow(unsafe_code)]

use super::usual::{Head, IP};
use super::{ipv4, tcp};
use crate::packet::PacketBuf;

/// As much of a head as is compared: up to TCP's flags.
const COMPARED: usize = 48;

/// Which bits of a head have to be the same. Free are the source's Ethernet address, TOS, identification, DF, checksums, sequence
/// numbers, flags that move no state, window and data.
#[repr(C, align(16))]
struct Mask([u8; COMPARED]);

const fn mask(transport: [u8; 14]) -> Mask {
    let network: [u8; 34] = [
        // Destination, source, type.
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff,
        // Version and header length; TOS; total length; identification.
        0xff, 0, 0xff, 0xff, 0, 0, // Flags and offset of the fragment; TTL; protocol; checksum.
        0x3f, 0xff, 0xff, 0xff, 0, 0, // Addresses.
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    let mut all = [0; COMPARED];
    let (front, back) = all.split_at_mut(network.len());
    front.copy_from_slice(&network);
    back.copy_from_slice(&transport);
    Mask(all)
}

/// Ports; sequence number and acknowledgement; header length; flags.
static TCP: Mask = mask([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, tcp::TELLING]);
/// Ports and length; checksum and data.
static UDP: Mask = mask([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);

/// How many packets in a row, behind the first one, say the same as that in all that decides where they go. If that one is
/// usual, so are they, and of the same connection and direction.
#[inline(never)]
pub(crate) fn how_many<P: PacketBuf>(packets: &[P]) -> usize {
    let Some((first, rest)) = packets.split_first() else { return 0 };
    let first = first.bytes();
    let Some(head) = first.first_chunk() else { return 0 };
    let mask = if head[IP + ipv4::PROTOCOL] == ipv4::TCP { &TCP } else { &UDP };
    let like = |packet: &&P| {
        let frame = packet.bytes();
        packet.is_whole()
            && frame.len() == first.len()
            && frame.first_chunk().is_some_and(|other| is_like(head, other, mask))
    };
    rest.iter().take_while(like).count()
}

#[inline(always)]
fn is_like(head: &Head, other: &Head, mask: &Mask) -> bool {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64.
    return unsafe { all_at_once(head, other, mask) };
    #[cfg(not(target_arch = "x86_64"))]
    one_by_one(head, other, mask)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
#[inline]
fn all_at_once(head: &Head, other: &Head, mask: &Mask) -> bool {
    use std::arch::x86_64::{
        _mm_and_si128, _mm_cmpeq_epi8, _mm_load_si128, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_setzero_si128, _mm_xor_si128,
    };
    let differing = |at: usize| {
        // SAFETY: 16 bytes from there lie within a head, which is longer than what is compared.
        let head = unsafe { _mm_loadu_si128(head[at..].as_ptr().cast()) };
        // SAFETY: as above.
        let other = unsafe { _mm_loadu_si128(other[at..].as_ptr().cast()) };
        // SAFETY: so they do within the mask, which is aligned.
        let mask = unsafe { _mm_load_si128(mask.0[at..].as_ptr().cast()) };
        _mm_and_si128(_mm_xor_si128(head, other), mask)
    };
    let differing = _mm_or_si128(_mm_or_si128(differing(0), differing(16)), differing(32));
    _mm_movemask_epi8(_mm_cmpeq_epi8(differing, _mm_setzero_si128())) == 0xffff
}

/// What [`is_like`] says, byte by byte.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn one_by_one(head: &Head, other: &Head, mask: &Mask) -> bool {
    head.iter().zip(other).zip(&mask.0).all(|((a, b), mask)| (a ^ b) & mask == 0)
}
