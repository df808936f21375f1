//! Fragmentation: a packet that is too long for its link, in pieces that fit (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Rare, so it is plain: each piece is a packet of its own with a copy of its part.

use crate::packet::PacketBuf;
use crate::wire::{ethernet, ipv4, ipv6};

/// Why a packet could not be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncut {
    /// The link takes less than a header and eight bytes, or the frame holds no whole IP packet.
    TooNarrow,
    /// No packet was free to put a piece into.
    NoRoom,
}

/// Gives the pieces of a frame that holds an IP packet longer than `mtu` bytes to `each`, in order, and says how many
/// those were. Of IPv6 only packets without extension headers are cut, and only by whom they come from: a tunnel's;
/// `id` names them. Those of IPv4 have their identification already, and may be fragments themselves.
///
/// # Errors
/// [`Uncut`], with the number of pieces that were given before that.
pub fn cut<P: PacketBuf>(
    packet: &P,
    mtu: u16,
    id: u32,
    mut each: impl FnMut(P),
) -> Result<usize, (usize, Uncut)> {
    let frame = packet.bytes();
    let whole = Whole::of(frame).ok_or((0, Uncut::TooNarrow))?;
    let step = usize::from(mtu).saturating_sub(whole.header_len()) / 8 * 8;
    if step == 0 {
        return Err((0, Uncut::TooNarrow));
    }
    let mut made = 0;
    for at in (0..whole.payload.len()).step_by(step) {
        let payload = &whole.payload[at..whole.payload.len().min(at + step)];
        let header_len = ethernet::HEADER_LEN + whole.header_len();
        let Some(mut piece) = packet.sibling(header_len + payload.len()) else {
            return Err((made, Uncut::NoRoom));
        };
        let bytes = piece.bytes_mut();
        bytes[..ethernet::HEADER_LEN].copy_from_slice(&frame[..ethernet::HEADER_LEN]);
        let is_last = at + payload.len() == whole.payload.len();
        whole.write_header(&mut bytes[ethernet::HEADER_LEN..header_len], at, payload.len(), is_last, id);
        bytes[header_len..].copy_from_slice(payload);
        each(piece);
        made += 1;
    }
    Ok(made)
}

/// A packet that is to be cut.
struct Whole<'a> {
    is_v6: bool,
    /// Header with options.
    header: &'a [u8],
    payload: &'a [u8],
}

impl<'a> Whole<'a> {
    fn of(frame: &'a [u8]) -> Option<Whole<'a>> {
        let ip = frame.get(ethernet::HEADER_LEN..)?;
        let is_v6 = ethernet::ether_type(frame) == ethernet::IPV6;
        let (header_len, total_len) = if is_v6 {
            let header = ip.get(..ipv6::HEADER_LEN)?;
            (ipv6::HEADER_LEN, ipv6::HEADER_LEN + usize::from(ipv6::payload_len(header)))
        } else {
            let header = ip.get(..ipv4::MIN_HEADER_LEN)?;
            (usize::from(header[0] & 0xf) * 4, usize::from(ipv4::total_len(header)))
        };
        let (header, payload) = ip.get(..total_len)?.split_at_checked(header_len)?;
        (header_len >= ipv4::MIN_HEADER_LEN).then_some(Whole { is_v6, header, payload })
    }

    /// That of a piece.
    fn header_len(&self) -> usize {
        self.header.len() + if self.is_v6 { ipv6::FRAGMENT_HEADER_LEN } else { 0 }
    }

    /// Writes the header of the piece whose payload begins `at` bytes into that of the packet.
    fn write_header(&self, header: &mut [u8], at: usize, len: usize, is_last: bool, id: u32) {
        header[..self.header.len()].copy_from_slice(self.header);
        if self.is_v6 {
            return ipv6::write_piece(header, len, (at, is_last), id);
        }
        if at > 0 {
            blank_options(&mut header[ipv4::MIN_HEADER_LEN..]);
        }
        // A piece of a piece is a piece of the whole.
        let word = ipv4::flags_and_offset(header);
        let more = if is_last { word & ipv4::MORE_FRAGMENTS } else { ipv4::MORE_FRAGMENTS };
        let offset = (word & ipv4::FRAGMENT_OFFSET) + (at / 8) as u16;
        ipv4::write_piece(header, len, more | offset & ipv4::FRAGMENT_OFFSET);
    }
}

/// "No operation" in the place of the options that belong into the first fragment only.
fn blank_options(options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while at < options.len() {
        let len = match options[at] {
            END => return,
            NO_OPERATION => 1,
            _ => options.get(at + 1).map_or(0, |len| usize::from(*len)),
        };
        // Whoever lies about a length keeps what stands behind it.
        if len == 0 || len > options.len() - at {
            return;
        }
        if options[at] & COPIED == 0 {
            options[at..at + len].fill(NO_OPERATION);
        }
        at += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::BytesPacket;
    use crate::wire::fragment::Piece;
    use crate::wire::{Family, Ipv4Frame, Ipv6Frame, Parsed, Transport, parse, parse_ipv6};
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn ipv4_frame(options: &[u8], word: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x08, 0x00]);
        let mut ip = vec![0; 20];
        ipv4::Header {
            tos: 0,
            total_len: (20 + options.len() + payload.len()) as u16,
            id: 0x4242,
            flags_and_offset: word,
            ttl: 9,
            protocol: ipv4::IPIP,
            source: Ipv4Addr::new(10, 0, 2, 254),
            destination: Ipv4Addr::new(10, 0, 2, 11),
        }
        .write(&mut ip);
        ip[0] = 0x45 + (options.len() / 4) as u8;
        ip.extend(options);
        frame.extend(ip);
        frame.extend(payload);
        frame
    }

    fn ipv6_frame(payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([0x86, 0xdd]);
        let mut ip = vec![0; 40];
        ipv6::Header {
            traffic_class: 0,
            payload_len: payload.len() as u16,
            next_header: ipv6::IPV6,
            hop_limit: 9,
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
        }
        .write(&mut ip);
        frame.extend(ip);
        frame.extend(payload);
        frame
    }

    fn pieces(frame: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, Uncut> {
        let mut pieces = Vec::new();
        let cut = cut(&BytesPacket::new(frame), mtu, 77, |piece| pieces.push(piece.bytes().to_vec()));
        cut.map(|made| assert_eq!(made, pieces.len())).map_err(|(made, why)| {
            assert_eq!(made, pieces.len());
            why
        })?;
        Ok(pieces)
    }

    fn place(frame: &[u8]) -> (Piece, Vec<u8>) {
        let mut v4 = Ipv4Frame::NONE;
        let (piece, at) = if parse(frame, &mut v4) == Ok(Parsed::Ipv4) {
            assert!(ipv4::checksum_is_valid(&frame[14..14 + usize::from(v4.header_len)]));
            (Ipv4Addr::piece(&frame[14..], &v4), v4.transport_offset())
        } else {
            let mut v6 = Ipv6Frame::NONE;
            parse_ipv6(frame, &mut v6).unwrap();
            assert_eq!(v6.transport, Transport::Other);
            (Ipv6Addr::piece(&frame[14..], &v6), v6.transport_offset())
        };
        (piece, frame[at..].to_vec())
    }

    proptest! {
        /// Put together again they are what was cut, each fits, and only the last is not full.
        #[test]
        fn pieces_make_the_whole(
            is_v6: bool,
            payload in proptest::collection::vec(any::<u8>(), 1..4000),
            mtu in 68u16..1600,
            options in proptest::sample::select(vec![vec![], vec![1; 4], vec![0x94, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0]]),
            before in 0u16..100,
            more: bool,
        ) {
            let word = before | if more { ipv4::MORE_FRAGMENTS } else { 0 };
            let frame = if is_v6 { ipv6_frame(&payload) } else { ipv4_frame(&options, word, &payload) };
            let (before, more) = if is_v6 { (0, false) } else { (before * 8, more) };
            let mut whole = Vec::new();
            let pieces = pieces(&frame, mtu).unwrap();
            for (n, bytes) in pieces.iter().enumerate() {
                prop_assert!(bytes.len() <= usize::from(mtu) + 14);
                prop_assert_eq!(&bytes[..12], &frame[..12]);
                let is_last = n + 1 == pieces.len();
                let (piece, part) = place(bytes);
                prop_assert_eq!(piece.more, more || !is_last);
                prop_assert_eq!(usize::from(piece.offset), usize::from(before) + whole.len());
                if is_v6 || pieces.len() > 1 || before > 0 || more {
                    prop_assert_eq!(piece.id, if is_v6 { 77 } else { 0x4242 });
                }
                whole.extend(part);
            }
            prop_assert_eq!(whole, payload);
        }

        /// Whatever is in the frame, nothing is read beyond it.
        #[test]
        fn anything_may_be_asked_to_be_cut(
            mut frame in proptest::collection::vec(any::<u8>(), 0..200),
            kind in proptest::sample::select(vec![[0x08, 0x00], [0x86, 0xdd]]),
            mtu: u16,
        ) {
            if frame.len() >= 14 {
                frame[12..14].copy_from_slice(&kind);
            }
            let _ = pieces(&frame, mtu);
        }
    }

    #[test]
    fn options_that_are_not_to_be_copied_are_in_the_first_piece_only() {
        // Router alert is copied, record route is not.
        let options = [0x94, 4, 0, 0, 7, 7, 4, 1, 2, 3, 4, 0];
        let made = pieces(&ipv4_frame(&options, 0, &[5; 100]), 80).unwrap();
        assert_eq!(made[0][34..46], options);
        assert_eq!(made[1][34..46], [0x94, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]);
    }

    #[test]
    fn a_link_too_narrow_for_a_header_takes_nothing() {
        assert_eq!(pieces(&ipv4_frame(&[], 0, &[5; 100]), 27), Err(Uncut::TooNarrow));
        assert_eq!(pieces(&ipv4_frame(&[], 0, &[5; 100]), 28).unwrap().len(), 13);
        assert_eq!(pieces(&ipv6_frame(&[5; 100]), 55), Err(Uncut::TooNarrow));
    }
}
