//! The maximum segment size that a SYN announces, lowered to what fits the way (RFC 9293 §3.7.1).

use crate::wire::checksum::Delta;
use crate::wire::{Family, Frame, read_u16, tcp, write_u16};

/// End of the option list.
const END: u8 = 0;
/// One byte of nothing.
const NO_OPERATION: u8 = 1;
/// Maximum segment size, with its length.
const MSS: [u8; 2] = [2, 4];

/// Lowers the maximum segment size in a TCP segment that `wire::parse` accepted as `parsed`, whole or the first fragment,
/// to what lets segments without options fit packets of `mtu` bytes. One that announces none, or less, stays as it is.
pub fn clamp<A: Family>(frame: &mut [u8], parsed: &Frame<A>, mtu: u16) {
    let Some(segment) = frame.get_mut(parsed.transport_offset()..parsed.end()) else { return };
    let Some(most) = mtu.checked_sub((A::MIN_HEADER_LEN + tcp::MIN_HEADER_LEN) as u16) else { return };
    let Some(options) = segment.get(tcp::MIN_HEADER_LEN..tcp::header_len(segment)) else { return };
    let Some(at) = find(options).map(|at| at + tcp::MIN_HEADER_LEN) else { return };
    let old = read_u16(segment, at);
    if old <= most {
        return;
    }
    write_u16(segment, at, most);
    // The checksum's words begin at even places; an option may stand at an odd one.
    let is_even = at % 2 == 0;
    let word = |value: u16| if is_even { value } else { value.swap_bytes() };
    let delta = Delta::default().replace_u16(word(old), word(most));
    let checksum = delta.apply(read_u16(segment, tcp::CHECKSUM));
    write_u16(segment, tcp::CHECKSUM, checksum);
}

/// Where the value is among the options.
fn find(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match *options.get(at)? {
            END => return None,
            NO_OPERATION => at += 1,
            _ if options.get(at..at + 4)?.starts_with(&MSS) => return Some(at + 2),
            _ => at += usize::from(*options.get(at + 1)?).max(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ipv4Frame, Parsed, checksum, parse};
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    /// A SYN with these options, and its checksum right.
    fn syn(options: &[u8]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend([8, 0, 0x45, 0, 0, (40 + options.len()) as u8, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend([10, 0, 1, 1, 10, 99, 0, 1, 0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0]);
        frame.extend([((5 + options.len() / 4) << 4) as u8, tcp::SYN, 0x20, 0, 0, 0, 0, 0]);
        frame.extend(options);
        let sum = !checksum::sum(&frame[34..], pseudo(&frame));
        write_u16(&mut frame, 50, sum);
        frame
    }

    fn pseudo(frame: &[u8]) -> u64 {
        let len = (frame.len() - 34) as u16;
        Family::pseudo_header(Ipv4Addr::new(10, 0, 1, 1), Ipv4Addr::new(10, 99, 0, 1), 6, len)
    }

    fn clamped(frame: &[u8], mtu: u16) -> Vec<u8> {
        let mut parsed = Ipv4Frame::NONE;
        assert_eq!(parse(frame, &mut parsed), Ok(Parsed::Ipv4));
        let mut frame = frame.to_vec();
        clamp(&mut frame, &parsed, mtu);
        frame
    }

    #[test]
    fn a_value_that_does_not_fit_is_lowered_wherever_it_stands() {
        for (options, at) in [
            (&[2, 4, 0x05, 0xb4][..], 2),
            (&[1, 2, 4, 0x05, 0xb4, 0, 0, 0], 3),
            (&[3, 3, 7, 4, 2, 1, 2, 4, 0x05, 0xb4, 1, 1], 8),
        ] {
            let frame = syn(options);
            let lower = clamped(&frame, 1480);
            assert_eq!(read_u16(&lower, 54 + at), 1440);
            assert_eq!(checksum::sum(&lower[34..], pseudo(&lower)), 0xffff);
            assert_eq!(clamped(&frame, 1500), frame, "it fits");
        }
    }

    #[test]
    fn what_is_not_announced_is_not_added() {
        for options in [
            &[][..],
            &[1, 1, 1, 1],
            &[0, 2, 4, 5, 0xb4, 0, 0, 0],
            &[8, 10, 2, 4, 5, 0xb4, 2, 4, 5, 0xb4, 0, 0],
        ] {
            assert_eq!(clamped(&syn(options), 1000), syn(options));
        }
    }

    proptest! {
        /// Whatever the options say of themselves.
        #[test]
        fn any_options(mut options in proptest::collection::vec(0u8..12, 0..40), mtu: u16) {
            options.truncate(options.len() / 4 * 4);
            let lower = clamped(&syn(&options), mtu);
            prop_assert_eq!(checksum::sum(&lower[34..], pseudo(&lower)), 0xffff);
        }
    }
}
