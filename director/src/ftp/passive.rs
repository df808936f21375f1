//! What a server says about a data connection that its client shall open to it.

use std::net::{IpAddr, Ipv4Addr};

use super::{host_port, port};

/// Where the words of an answer begin, behind the number and a blank.
const WORDS: usize = 4;

/// An answer to PASV or EPSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 227: an address and a port (RFC 959), which stand here in the line.
    Passive {
        /// The address.
        address: Ipv4Addr,
        /// The port.
        port: u16,
        /// Where the numbers begin and end.
        span: (usize, usize),
    },
    /// 229: a port alone (RFC 2428).
    Extended {
        /// The port.
        port: u16,
        /// Where its digits begin and end.
        span: (usize, usize),
    },
}

/// Reads a line of a server, without its end.
#[must_use]
pub fn answer(line: &[u8]) -> Option<Answer> {
    if line.starts_with(b"227 ") {
        // The words have no digits: none of the servers that we know of writes any.
        let begin = WORDS + line[WORDS..].iter().position(u8::is_ascii_digit)?;
        let (address, port, len) = host_port(&line[begin..])?;
        (port != 0).then_some(Answer::Passive { address: address.into(), port, span: (begin, begin + len) })
    } else if line.starts_with(b"229 ") {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let inside = line[open + 1..].split(|byte| *byte == b')').next()?;
        let delimiter = inside.first()?;
        let mut fields = inside.split(|byte| byte == delimiter);
        let [before, family, address] = [fields.next()?, fields.next()?, fields.next()?];
        let number = fields.next()?;
        let is_short = before.is_empty() && family.is_empty() && address.is_empty();
        let begin = open + 4;
        let span = (begin, begin + number.len());
        is_short.then(|| port(number)).flatten().map(|port| Answer::Extended { port, span })
    } else {
        None
    }
}

/// Writes another address and port into an answer, without a change of its length. False, and nothing changed, where
/// its words are too few for that. The port has as many digits as the one that was there.
#[must_use]
pub fn rewrite(line: &mut [u8], answer: &Answer, address: IpAddr, port: u16) -> bool {
    match (answer, address) {
        (Answer::Passive { span, .. }, IpAddr::V4(address)) => rewrite_passive(line, *span, address, port),
        (Answer::Passive { .. }, IpAddr::V6(_)) => false,
        (Answer::Extended { span: (begin, end), .. }, _) => {
            let mut rest = port;
            for digit in line[*begin..*end].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            true
        }
    }
}

fn rewrite_passive(line: &mut [u8], (begin, end): (usize, usize), address: Ipv4Addr, port: u16) -> bool {
    let mut text = [0u8; 24];
    let [a, b, c, d] = address.octets();
    let [high, low] = port.to_be_bytes();
    let len = {
        use std::io::Write;
        let mut rest = &mut text[..];
        let before = rest.len();
        if write!(rest, "{a},{b},{c},{d},{high},{low}").is_err() {
            return false;
        }
        before - rest.len()
    };
    let old = end - begin;
    if len <= old {
        // What is behind moves up, blanks follow it.
        line[begin..begin + len].copy_from_slice(&text[..len]);
        line.copy_within(end.., begin + len);
        let line_len = line.len();
        line[line_len - (old - len)..].fill(b' ');
        return true;
    }
    let grows = len - old;
    // What stands right before the numbers, a bracket mostly, stays there.
    if begin < WORDS + 1 + grows {
        return begin == WORDS + grows && {
            line[WORDS..WORDS + len].copy_from_slice(&text[..len]);
            true
        };
    }
    let bracket = line[begin - 1];
    let begin = begin - grows;
    let words = &mut line[WORDS..begin - 1];
    words.fill(b' ');
    let fits =
        ["Entering Passive Mode", "Passive Mode", "Passive"].iter().find(|text| text.len() < words.len());
    if let Some(fits) = fits {
        words[..fits.len()].copy_from_slice(fits.as_bytes());
    }
    line[begin - 1] = bracket;
    line[begin..end].copy_from_slice(&text[..len]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(line: &str, address: [u8; 4]) -> Option<String> {
        let mut bytes = line.as_bytes().to_vec();
        let Some(read @ Answer::Passive { port, .. }) = answer(&bytes) else { panic!("{line}") };
        let done = rewrite(&mut bytes, &read, address.into(), port);
        assert!(done || bytes == line.as_bytes());
        done.then(|| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        let passive = |port, span| Answer::Passive { address: [10, 0, 2, 11].into(), port, span };
        let lines: [(&str, Answer); 4] = [
            ("227 Entering Passive Mode (10,0,2,11,195,80).", passive(50_000, (27, 43))),
            ("227 Entering passive mode (10,0,2,11,0,21).", passive(21, (27, 41))),
            ("227 =10,0,2,11,195,80", passive(50_000, (5, 21))),
            (
                "229 Entering Extended Passive Mode (|||6446|)",
                Answer::Extended { port: 6446, span: (39, 43) },
            ),
        ];
        for (line, expected) in lines {
            assert_eq!(answer(line.as_bytes()), Some(expected), "{line}");
        }
        for line in [
            "227 Entering Passive Mode",
            "227-Entering Passive Mode (10,0,2,11,195,80).",
            "227 Entering Passive Mode (10,0,2,11,0,0).",
            "227 Entering Passive Mode (10,0,2,11,300,80).",
            "229 Entering Extended Passive Mode (|1|10.0.2.11|6446|)",
            "229 Entering Extended Passive Mode (|||0|)",
            "229 (",
            "150 Here comes (|||6446|)",
            "",
        ] {
            assert_eq!(answer(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn the_length_stays_whatever_the_addresses_are() {
        let line = "227 Entering Passive Mode (10,0,2,11,195,80).";
        assert_eq!(rewritten(line, [10, 0, 2, 99]).unwrap(), "227 Entering Passive Mode (10,0,2,99,195,80).");
        assert_eq!(rewritten(line, [1, 1, 1, 1]).unwrap(), "227 Entering Passive Mode (1,1,1,1,195,80).  ");
        assert_eq!(rewritten(line, [10, 99, 0, 1]).unwrap(), "227 Entering Passive Mode (10,99,0,1,195,80).");
        assert_eq!(
            rewritten(line, [203, 0, 113, 80]).unwrap(),
            "227 Passive Mode       (203,0,113,80,195,80)."
        );
        assert_eq!(rewritten("227 =1,1,1,1,1,1", [1, 1, 1, 10]).unwrap(), "227 1,1,1,10,1,1");
        assert_eq!(rewritten("227 =1,1,1,1,1,1", [1, 1, 10, 10]), None);
    }

    #[test]
    fn an_extended_answer_gets_another_port() {
        let mut line = b"229 Entering Extended Passive Mode (|||6446|)".to_vec();
        let read = answer(&line).unwrap();
        assert!(rewrite(&mut line, &read, [10, 99, 0, 1].into(), 1024));
        assert_eq!(line, b"229 Entering Extended Passive Mode (|||1024|)");
    }

    proptest! {
        /// Whatever a server writes: the line that goes on has the same length, and says the new address and the old
        /// port to whoever looks for the first digit.
        #[test]
        fn clients_read_the_new_address(
            words in "[a-zA-Z =(]{0,30}",
            old: [u8; 4],
            new: [u8; 4],
            port in 1u16..,
            tail in "[ -~]{0,10}",
        ) {
            let [high, low] = port.to_be_bytes();
            let [a, b, c, d] = old;
            let tail: String = tail.chars().filter(|c| !c.is_ascii_digit()).collect();
            let mut line = format!("227 {words}{a},{b},{c},{d},{high},{low}{tail}").into_bytes();
            let before = line.clone();
            let Some(whole @ Answer::Passive { address, port: read, .. }) = answer(&line) else { panic!() };
            prop_assert_eq!((address.octets(), read), (old, port));
            if rewrite(&mut line, &whole, new.into(), port) {
                let Some(Answer::Passive { address, port: read, .. }) = answer(&line) else {
                    panic!("{}", String::from_utf8_lossy(&line))
                };
                prop_assert_eq!((address.octets(), read, line.len()), (new, port, before.len()));
            } else {
                prop_assert_eq!(line, before);
                prop_assert!(words.len() < 8);
            }
        }

        #[test]
        fn no_line_makes_it_panic(line in proptest::collection::vec(any::<u8>(), 0..60), hint in 0usize..3) {
            let line = [[&b""[..], b"227 ", b"229 "][hint], &line[..]].concat();
            let _ = answer(&line);
        }
    }
}
