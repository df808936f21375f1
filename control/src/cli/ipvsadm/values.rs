//! How ipvsadm reads single words: numbers as C's `strtol` does, addresses as `inet_aton` and `inet_pton` do.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::command::{Complaint, Flags};
use super::names::Names;

/// A whole decimal number from `least` to `most`, with blanks or a sign before it, and nothing behind it.
pub(super) fn number(text: &str, least: i64, most: i64) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| (least..=most).contains(number))
}

/// As `atoi`: the number that the text begins with, 0 where it begins with none.
pub(super) fn leading_number(text: &str) -> i64 {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let sign = text.len() - text.strip_prefix(['+', '-']).unwrap_or(text).len();
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].parse().unwrap_or(0)
}

/// As `inet_aton`: one to four numbers, decimal, octal or hexadecimal, of which the last fills what is left.
pub(super) fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let end = text.find([' ', '\t', '\n', '\x0b', '\x0c', '\r']).unwrap_or(text.len());
    let parts: Vec<&str> = text[..end].split('.').collect();
    let (last, first) = parts.split_last()?;
    if first.len() > 3 {
        return None;
    }
    let mut address = 0u32;
    for (place, part) in first.iter().enumerate() {
        address |= u32::from(u8::try_from(c_number(part)?).ok()?) << (24 - 8 * place);
    }
    let last = c_number(last)?;
    let room = 32 - 8 * first.len() as u32;
    (u64::from(last) < 1 << room).then(|| Ipv4Addr::from(address | last))
}

/// A number as C writes it: `0x1f`, `017`, `15`.
fn c_number(text: &str) -> Option<u32> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    // from_str_radix would take a sign.
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// An address, and a port where there was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) address: IpAddr,
    pub(super) port: Option<u16>,
}

/// `host`, `host:port`, `[v6]:port` or a bare IPv6 address. The port's name is looked up for `protocol`.
pub(super) fn place(text: &str, protocol: u8, names: &dyn Names) -> Option<Place> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (host, bracketed_port) = match text.strip_prefix('[') {
        Some(inside) => {
            let (host, rest) = inside.split_once(']')?;
            (host, Some(rest.strip_prefix(':')?))
        }
        None => (text, None),
    };
    let (address, port) = match host.parse::<Ipv6Addr>() {
        Ok(address) => (address.into(), bracketed_port),
        // A port behind brackets counts for IPv6 alone.
        Err(_) => {
            let (host, port) = host.rsplit_once(':').map_or((host, None), |(h, p)| (h, Some(p)));
            (IpAddr::V4(ipv4(host).or_else(|| names.host(host))?), port)
        }
    };
    let port = match port {
        None => None,
        Some(text) => {
            let by_number = number(text, 0, 65_535).and_then(|port| u16::try_from(port).ok());
            Some(by_number.or_else(|| names.port(text, protocol))?)
        }
    };
    Some(Place { address, port })
}

/// The flags of `-b`, which `scheduler` must know.
pub(super) fn flags(text: &str, scheduler: &str) -> Result<Flags, Complaint> {
    let mut flags = Flags::default();
    let mut words = text.split(',').filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return Err(Complaint::usage("invalid scheduler flag `'"));
    }
    for word in words {
        let (flag, only) = match word {
            "flag-1" => (&mut flags.first, None),
            "flag-2" => (&mut flags.second, None),
            "flag-3" => (&mut flags.third, None),
            "sh-fallback" => (&mut flags.first, Some("sh")),
            "sh-port" => (&mut flags.second, Some("sh")),
            "mh-fallback" => (&mut flags.first, Some("mh")),
            "mh-port" => (&mut flags.second, Some("mh")),
            _ => return Err(Complaint::usage(format!("invalid scheduler flag `{word}'"))),
        };
        *flag = true;
        if only.is_some_and(|only| only != scheduler) {
            return Err(Complaint::usage(format!("incompatible scheduler flag `{word}'")));
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::super::names::NoNames;
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_reads_them() {
        assert_eq!(number(" +12", 0, 100), Some(12));
        for bad in ["", " ", "12 ", "0x10", "-1", "101", "1e1", "99999999999999999999"] {
            assert_eq!(number(bad, 0, 100), None, "{bad:?}");
        }
        assert_eq!((leading_number("64x"), leading_number("x"), leading_number("-3")), (64, 0, -3));
    }

    #[test]
    fn addresses_are_read_as_inet_aton_reads_them() {
        for (text, address) in [
            ("10.0.0.1", "10.0.0.1"),
            ("10.1", "10.0.0.1"),
            ("0x0a.1", "10.0.0.1"),
            ("010.0.0.1", "8.0.0.1"),
            ("24", "0.0.0.24"),
            ("1.2.3", "1.2.0.3"),
            ("4294967295", "255.255.255.255"),
            ("10.0.0.1 and more", "10.0.0.1"),
        ] {
            assert_eq!(ipv4(text).map(|ip| ip.to_string()).as_deref(), Some(address), "{text}");
        }
        for bad in ["", ".1", "1.", "1.2.3.4.5", "256.0.0.1", "08.0.0.1", "0x", "1.2.3.256", "+1", "a"] {
            assert_eq!(ipv4(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ports_behind_brackets_count_for_ipv6_alone() {
        let read = |text| place(text, 6, &NoNames).map(|place| (place.address.to_string(), place.port));
        assert_eq!(read("[2001:db8::1]:80"), Some(("2001:db8::1".to_owned(), Some(80))));
        assert_eq!(read("2001:db8::1"), Some(("2001:db8::1".to_owned(), None)));
        assert_eq!(read("[10.0.0.1]:80"), Some(("10.0.0.1".to_owned(), None)));
        for bad in ["[2001:db8::1]", "[2001:db8::1", "80", "", "10.0.0.1:", "10.0.0.1:99999", "[]:80"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
