//! Packets that differ in nothing that decides where they go: compared as a whole, with one look at all fields, instead of
//! being read again field by field.
#![allow(unsafe_code)]

use super::usual::{Head, IP};
use super::{ipv4, tcp};
use crate::packet::PacketBuf;

/// Sixteen bytes: what a vector register holds.
type Row = [u8; 16];
/// As much of a head as is compared: up to TCP's flags.
type Rows = [Row; 3];

/// All bits of a byte have to be the same.
const ALL: u8 = 0xff;
/// The two rows that Ethernet and IPv4 begin with. Free are the source's Ethernet address, TOS, identification, DF and
/// checksum.
const NETWORK: [Row; 2] = [
    // Destination, source, type; version and header length, TOS.
    [ALL, ALL, ALL, ALL, ALL, ALL, 0, 0, 0, 0, 0, 0, ALL, ALL, ALL, 0],
    // Length, identification, flags and offset of the fragment, TTL, protocol, checksum; source, half of the destination.
    [ALL, ALL, 0, 0, 0x3f, ALL, ALL, ALL, 0, 0, ALL, ALL, ALL, ALL, ALL, ALL],
];
/// Which bits of TCP's packets have to be the same: behind the destination the ports, header length and telling flags, not
/// sequence number and acknowledgement.
const TCP: Rows = {
    let [first, second] = NETWORK;
    [first, second, [ALL, ALL, ALL, ALL, ALL, ALL, 0, 0, 0, 0, 0, 0, 0, 0, 0xf0, tcp::TELLING]]
};
/// Those of UDP's: ports and length, not the checksum.
const UDP: Rows = {
    let [first, second] = NETWORK;
    [first, second, [ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL, 0, 0, 0, 0, 0, 0, 0, 0]]
};

/// How many packets in a row, behind the first one, say the same as that in all that decides where they go. If that one is
/// usual, so are they, and of the same connection and direction.
#[inline(never)]
pub(crate) fn how_many<P: PacketBuf>(packets: &[P]) -> usize {
    let Some((first, rest)) = packets.split_first() else { return 0 };
    let len = first.bytes().len();
    let Some(head) = first.bytes().first_chunk() else { return 0 };
    let mask = if ipv4::protocol(&head[IP..]) == ipv4::TCP { TCP } else { UDP };
    let (first, mask) = (rows(head).map(Vector::of), mask.map(Vector::of));
    let is_alike = |packet: &&P| {
        let frame = packet.bytes();
        let head = frame.first_chunk().filter(|_| frame.len() == len && packet.is_whole());
        head.is_some_and(|head| Vector::are_alike(&first, &rows(head).map(Vector::of), &mask))
    };
    rest.iter().take_while(is_alike).count()
}

#[inline(always)]
fn rows(head: &Head) -> Rows {
    let (rows, _) = head.as_chunks();
    [rows[0], rows[1], rows[2]]
}

/// A row in a register, as a number where there are no others.
#[derive(Clone, Copy)]
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
struct Number(u128);

#[cfg(not(target_arch = "x86_64"))]
use Number as Vector;
#[cfg(target_arch = "x86_64")]
use sse2::Vector;

#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
impl Number {
    fn of(row: Row) -> Number {
        Number(u128::from_ne_bytes(row))
    }

    /// Whether no bit differs that counts.
    fn are_alike(a: &[Number; 3], b: &[Number; 3], mask: &[Number; 3]) -> bool {
        (0..3).fold(0, |differing, row| differing | (a[row].0 ^ b[row].0) & mask[row].0) == 0
    }
}

/// As [`Number`]. Eight instructions of some eighty for each packet less.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use std::arch::x86_64::{
        __m128i, _mm_and_si128, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_setzero_si128, _mm_xor_si128,
    };

    use super::Row;

    #[derive(Clone, Copy)]
    pub(super) struct Vector(__m128i);

    impl Vector {
        #[inline(always)]
        pub(super) fn of(row: Row) -> Vector {
            // SAFETY: SSE2 is part of x86-64, and a row is as long as what is read.
            Vector(unsafe { _mm_loadu_si128(row.as_ptr().cast()) })
        }

        #[inline(always)]
        pub(super) fn are_alike(a: &[Vector; 3], b: &[Vector; 3], mask: &[Vector; 3]) -> bool {
            // SAFETY: SSE2 is part of x86-64.
            unsafe { all_at_once(a, b, mask) }
        }
    }

    #[target_feature(enable = "sse2")]
    #[inline]
    fn all_at_once(a: &[Vector; 3], b: &[Vector; 3], mask: &[Vector; 3]) -> bool {
        let differing = |row: usize| _mm_and_si128(_mm_xor_si128(a[row].0, b[row].0), mask[row].0);
        let differing = _mm_or_si128(_mm_or_si128(differing(0), differing(1)), differing(2));
        _mm_movemask_epi8(_mm_cmpeq_epi8(differing, _mm_setzero_si128())) == 0xffff
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::BytesPacket;
    use crate::wire::usual::{HEAD_LEN, Usual};

    fn alike(a: &Head, b: &Head) -> bool {
        how_many(&[BytesPacket::new(a), BytesPacket::new(b)]) == 1
    }

    /// The head of a usual packet.
    fn head(protocol: u8, random: &[u8; HEAD_LEN]) -> Head {
        let mut head = *random;
        head[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        head[16..18].copy_from_slice(&40u16.to_be_bytes());
        (head[20], head[21]) = (head[20] & 0xc0, 0);
        head[22] |= 2;
        head[23] = protocol;
        match protocol {
            ipv4::TCP => head[46] = 0x50 | head[46] & 0x0f,
            _ => head[38..40].copy_from_slice(&20u16.to_be_bytes()),
        }
        head
    }

    proptest! {
        /// Whatever bit differs: packets that are alike are read alike, and what most senders change does not make them differ.
        #[test]
        fn what_is_alike_is_read_alike(
            random in proptest::array::uniform32(any::<u8>()),
            rest in proptest::array::uniform22(any::<u8>()),
            is_tcp: bool,
            byte in 0..HEAD_LEN,
            bit in 0..8,
        ) {
            let random: [u8; HEAD_LEN] = [&random[..], &rest[..]].concat().try_into().unwrap();
            let a = head(if is_tcp { ipv4::TCP } else { ipv4::UDP }, &random);
            let mut b = a;
            b[byte] ^= 1u8 << bit;
            let read = |head: &Head| {
                let mut usual = Usual::read(head, HEAD_LEN)?;
                usual.tcp_flags &= tcp::TELLING;
                Some((usual, head[..6].to_vec(), head[IP + ipv4::TTL]))
            };
            prop_assert!(read(&a).is_some() && alike(&a, &a));
            prop_assert!(read(&a) == read(&b) || !alike(&a, &b));
            let transport = if is_tcp { [38..46, 48..54] } else { [40..42, 42..54] };
            let free = [6..12, 15..16, 18..20, 24..26].into_iter().chain(transport);
            prop_assert!(alike(&a, &b) || !free.into_iter().any(|bytes| bytes.contains(&byte)));
        }

        #[test]
        fn vectors_are_numbers(a: [Row; 3], flips in proptest::collection::vec((0usize..3, 0usize..16, any::<u8>()), 0..3), is_tcp: bool) {
            let mut b = a;
            flips.into_iter().for_each(|(row, byte, flip)| b[row][byte] ^= flip);
            let mask = if is_tcp { TCP } else { UDP };
            let numbers = Number::are_alike(&a.map(Number::of), &b.map(Number::of), &mask.map(Number::of));
            prop_assert_eq!(Vector::are_alike(&a.map(Vector::of), &b.map(Vector::of), &mask.map(Vector::of)), numbers);
        }
    }

    #[test]
    fn another_length_ends_the_row() {
        let packet =
            |len: usize| BytesPacket::new(&[&head(ipv4::UDP, &[7; HEAD_LEN])[..], &vec![0; len]].concat());
        assert_eq!(how_many(&[packet(0), packet(0), packet(0), packet(1), packet(0)]), 2);
        assert_eq!(how_many(&[packet(0)]), 0);
        assert_eq!(how_many::<BytesPacket>(&[]), 0);
        assert_eq!(how_many(&[BytesPacket::new(&[0; 53]), BytesPacket::new(&[0; 53])]), 0);
    }
}
