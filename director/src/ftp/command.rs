//! What a client says about a data connection that its server shall open to it.

use std::net::{IpAddr, Ipv6Addr};

use super::{host_port, port};

/// The port that a client's PORT or EPRT names, if it names the client's own address: whoever names another host's
/// lets the server attack that (RFC 2577). `line` is without its end.
#[must_use]
pub fn active_port(line: &[u8], client: IpAddr) -> Option<u16> {
    let (verb, rest) = line.split_at_checked(4)?;
    let argument = rest.strip_prefix(b" ")?.trim_ascii();
    if verb.eq_ignore_ascii_case(b"PORT") {
        let (address, port, len) = host_port(argument)?;
        (IpAddr::from(address) == client && len == argument.len() && port != 0).then_some(port)
    } else if verb.eq_ignore_ascii_case(b"EPRT") {
        extended(argument, client)
    } else {
        None
    }
}

/// `|1|10.0.1.1|6446|` or `|2|2001:db8::1|6446|` (RFC 2428 §2), with any delimiter that is printable.
fn extended(argument: &[u8], client: IpAddr) -> Option<u16> {
    let delimiter = *argument.first().filter(|byte| byte.is_ascii_graphic())?;
    let mut fields = argument.split(|byte| *byte == delimiter).skip(1);
    let (family, address, number, end) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let address: IpAddr = std::str::from_utf8(address).ok()?.parse().ok()?;
    let family_is_right = match address {
        IpAddr::V4(_) => family == b"1",
        IpAddr::V6(v6) => family == b"2" && v6 != Ipv6Addr::UNSPECIFIED,
    };
    (family_is_right && address == client && end.is_empty()).then(|| port(number)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4() -> IpAddr {
        "10.0.1.1".parse().unwrap()
    }

    #[test]
    fn both_commands_name_a_port_of_the_client() {
        assert_eq!(active_port(b"PORT 10,0,1,1,195,80", v4()), Some(50_000));
        assert_eq!(active_port(b"port 10,0,1,1,195,80 ", v4()), Some(50_000));
        assert_eq!(active_port(b"EPRT |1|10.0.1.1|6446|", v4()), Some(6446));
        assert_eq!(active_port(b"EPRT !2!2001:db8::1!6446!", "2001:db8::1".parse().unwrap()), Some(6446));
    }

    #[test]
    fn other_hosts_and_other_commands_are_nobodys_business() {
        for line in [
            "PORT 10,0,1,2,195,80",
            "PORT 10,0,1,1,0,0",
            "PORT 10,0,1,1,195,80,1",
            "EPRT |1|10.0.1.2|6446|",
            "EPRT |2|10.0.1.1|6446|",
            "EPRT |1|10.0.1.1|6446",
            "EPRT |1|10.0.1.1|0|",
            "EPRT ",
            "STOR PORT 10,0,1,1,195,80",
            "PASV",
            "",
        ] {
            assert_eq!(active_port(line.as_bytes(), v4()), None, "{line}");
        }
    }
}
