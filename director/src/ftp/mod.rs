//! FTP through NAT (RFC 959, RFC 2428; Linux `ip_vs_ftp.c`): the control connection says where the data connection will
//! be, and the director, which reads along, expects it there.
//!
//! The kernel's helper writes the virtual address in the place of the real server's into the answer to PASV, and must
//! then shift sequence numbers for the rest of the connection, SACK blocks included, because the text has another
//! length. Here the answer keeps its length: its words are free text (RFC 959 §5.4; clients look for the first digit,
//! RFC 1123 §4.1.2.6), and give up or take as many characters as the address needs. Nothing has to be remembered, and a
//! segment that is sent again is rewritten again to the same bytes.

mod command;
mod data;
mod expectations;
mod held;
mod lines;
mod passive;
mod ports;

pub use command::active_port;
pub use data::DataConnections;
pub(crate) use expectations::end;
pub use expectations::{Expectation, Expectations, Name};
pub use held::{Held, is_cut};
pub use lines::{Lines, Whose};
pub use passive::{Answer, answer, rewrite};
pub use ports::FtpPorts;

/// The port of FTP's control connections, unless the operator names others.
pub const CONTROL_PORT: u16 = 21;
/// The longest line that is read, in bytes; those that matter have less than 80.
pub const MAX_LINE: usize = 256;

/// Six numbers below 256 with commas between, as PORT and the answer to PASV have them: an address and a port.
/// Returns them with how many characters they take.
fn host_port(text: &[u8]) -> Option<([u8; 4], u16, usize)> {
    let mut numbers = [0u8; 6];
    let mut at = 0;
    for (n, number) in numbers.iter_mut().enumerate() {
        if n > 0 {
            if text.get(at) != Some(&b',') {
                return None;
            }
            at += 1;
        }
        let digits = text[at..].iter().take(4).take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=3).contains(&digits) {
            return None;
        }
        let value =
            text[at..at + digits].iter().fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'));
        *number = u8::try_from(value).ok()?;
        at += digits;
    }
    let [a, b, c, d, high, low] = numbers;
    Some(([a, b, c, d], u16::from_be_bytes([high, low]), at))
}

/// A port in decimal, without anything around.
fn port(text: &[u8]) -> Option<u16> {
    let digits = (1..=5).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_ports_are_six_numbers() {
        assert_eq!(host_port(b"10,0,2,11,195,80)."), Some(([10, 0, 2, 11], 50_000, 16)));
        assert_eq!(host_port(b"0,0,0,0,0,1"), Some(([0; 4], 1, 11)));
        for wrong in [
            &b"10,0,2,11,195"[..],
            b"10,0,2,11,195,",
            b"10,0,2,256,1,1",
            b"10, 0,2,1,1,1",
            b"1234,0,0,1,1,1",
            b"",
        ] {
            assert_eq!(host_port(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn ports_are_decimal_and_not_0() {
        assert_eq!(port(b"6446"), Some(6446));
        for wrong in [&b""[..], b"0", b"65536", b"+21", b"6446 ", b"123456"] {
            assert_eq!(port(wrong), None);
        }
    }
}
