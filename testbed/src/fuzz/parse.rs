//! A frame into the parser, against reading it by hand.

use director::wire::{
    Family, Frame, Ipv4Frame, Ipv6Frame, Parsed, Transport, parse as parse_frame, parse_ipv6,
};

/// What the parser says of a frame must be what stands there, and lie within it.
///
/// # Panics
/// Where it is not.
pub fn parse(frame: &[u8]) {
    let mut v4 = Ipv4Frame::NONE;
    match parse_frame(frame, &mut v4) {
        Ok(Parsed::Ipv4) => {
            let header_len = usize::from(frame[14] & 15) * 4;
            assert_eq!((frame[14] >> 4, usize::from(v4.header_len)), (4, header_len));
            assert_eq!(v4.source.octets(), frame[26..30]);
            assert_eq!(v4.destination.octets(), frame[30..34]);
            assert_eq!((v4.protocol, v4.total_len), (frame[23], u16::from_be_bytes([frame[16], frame[17]])));
            lies_within(frame, &v4);
        }
        Ok(Parsed::Ipv6) => {
            let mut v6 = Ipv6Frame::NONE;
            if parse_ipv6(frame, &mut v6).is_ok() {
                assert_eq!(frame[14] >> 4, 6);
                assert_eq!(v6.source.octets(), frame[22..38]);
                assert_eq!(v6.destination.octets(), frame[38..54]);
                assert_eq!(
                    usize::from(v6.total_len),
                    40 + usize::from(u16::from_be_bytes([frame[18], frame[19]]))
                );
                lies_within(frame, &v6);
            }
        }
        Ok(Parsed::Other) | Err(_) => {}
    }
}

fn lies_within<A: Family>(frame: &[u8], parsed: &Frame<A>) {
    let (at, end) = (parsed.transport_offset(), parsed.end());
    assert!(at <= end && end <= frame.len(), "{parsed:?}");
    let l4 = &frame[at..end];
    let word = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    match parsed.transport {
        Transport::Tcp => {
            assert!(l4.len() >= 20 && (5..=l4.len() / 4).contains(&usize::from(l4[12] >> 4)));
            assert_eq!(parsed.tcp_flags, l4[13]);
        }
        Transport::Udp => assert!((8..=l4.len()).contains(&usize::from(word(4)))),
        Transport::FirstFragment => {
            let (least, flags) = match parsed.protocol {
                6 => (20, l4[13]),
                132 => (16, counting_chunk(l4)),
                _ => (8, 0),
            };
            assert!(l4.len() >= least);
            assert_eq!(parsed.tcp_flags, flags);
        }
        Transport::Sctp => {
            assert!(l4.len() >= 16 && (4..=l4.len() - 12).contains(&usize::from(word(14))));
            assert_eq!((parsed.protocol, parsed.tcp_flags), (132, counting_chunk(l4)));
        }
        _ => {
            // ESP and AH go by the ports of their key exchange.
            let port = if parsed.transport == Transport::Ipsec { 500 } else { 0 };
            assert_eq!((parsed.source_port(), parsed.destination_port()), (port, port));
            return;
        }
    }
    assert_eq!((parsed.source_port(), parsed.destination_port()), (word(0), word(2)));
}

/// The first chunk of SCTP, or the ABORT (6) behind a COOKIE ECHO or a COOKIE ACK (10 and 11).
fn counting_chunk(l4: &[u8]) -> u8 {
    let len = usize::from(u16::from_be_bytes([l4[14], l4[15]]));
    let next = 12 + len.div_ceil(4) * 4;
    let aborts = matches!(l4[12], 10 | 11) && next + 4 <= l4.len() && l4[next] == 6;
    if aborts { 6 } else { l4[12] }
}
