//! Health checks, understood one by one.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use domain::base::{Name, Rtype};
use hyper::header::HeaderValue;
use rustls::pki_types::ServerName;

use super::errors::Complaints;
use super::number::{self, within};
use super::raw_check::{KIND_KEYS, RawCheck};
use super::services::word;
use super::walk::At;
use crate::health::{Check, Dns, Grpc, Http, Kind, Pattern, Reply, Smtp, Tls, Udp};

const KINDS: &[&str] = &["tcp", "http", "https", "udp", "dns", "smtp", "icmp", "grpc", "exec"];

/// Understands a check. `has_port` says whether real servers have one of their own.
pub(super) fn check(raw: &RawCheck, has_port: bool, complaints: &mut Complaints<'_>) -> Option<Check> {
    if !raw.has_kind {
        let remedy = "add what is asked of the real server, e.g. kind = \"tcp\" or kind = \"http\"";
        complaints.add(&raw.site, "the check has no `kind`", remedy);
    }
    let word_of = |kind: &'static str| kind;
    let name = word(raw.kind.as_ref(), KINDS, word_of, complaints);
    for (key, site) in &raw.given {
        let kinds = KIND_KEYS.iter().find(|(known, _)| known == key).map_or(&[][..], |(_, kinds)| kinds);
        // With a kind that nobody understands, it may well be right.
        if name.is_some_and(|name| !kinds.contains(&name)) {
            let kinds = kinds.join("\" or \"");
            complaints.add(
                site,
                format!("`{key}` goes with kind \"{kinds}\" only"),
                format!("remove it, or use kind = \"{kinds}\""),
            );
        }
    }
    let defaults = Check::new(Kind::Tcp);
    let start = word(raw.start.as_ref(), &[true, false], |up| if up { "up" } else { "down" }, complaints);
    let connect_port = within(raw.connect_port.as_ref(), number::PORT, complaints);
    let check = Check {
        interval: number::seconds(raw.interval.as_ref(), number::INTERVAL, complaints)
            .unwrap_or(defaults.interval),
        timeout: number::seconds(raw.timeout.as_ref(), number::INTERVAL, complaints)
            .unwrap_or(defaults.timeout),
        rise: within(raw.rise.as_ref(), number::TIMES, complaints).unwrap_or(defaults.rise),
        fall: within(raw.fall.as_ref(), number::TIMES, complaints).unwrap_or(defaults.fall),
        delay_before_retry: number::seconds(raw.delay_before_retry.as_ref(), number::INTERVAL, complaints)
            .unwrap_or(defaults.delay_before_retry),
        jitter: within(raw.jitter.as_ref(), number::JITTER, complaints).unwrap_or(defaults.jitter),
        start_up: start.unwrap_or(defaults.start_up),
        connect_ip: raw.connect_ip.as_ref().and_then(|at| {
            let what = "an address without a port, e.g. \"192.0.2.1\"";
            understood(at, "an address", what, |text| IpAddr::from_str(text).ok(), complaints)
        }),
        connect_port,
        kind: kind(raw, name?, complaints)?,
    };
    if check.kind.has_port() && !has_port && raw.connect_port.is_none() {
        complaints.add(
            &raw.site,
            "the service has every port, so that the check does not know at which one to ask",
            "add connect_port, e.g. connect_port = 80, or use kind = \"icmp\"",
        );
    }
    Some(check)
}

fn kind(raw: &RawCheck, name: &str, complaints: &mut Complaints<'_>) -> Option<Kind> {
    Some(match name {
        "tcp" => Kind::Tcp,
        "http" => Kind::Http(http(raw, None, complaints)),
        "https" => {
            // As a browser would ask.
            let host = raw.virtualhost.as_ref().map(|at| at.value.split(':').next().unwrap_or_default());
            let host = host.filter(|host| is_server_name(host)).map(str::to_owned);
            let tls = tls(raw, complaints);
            let server_name = tls.server_name.clone().or(host);
            Kind::Http(http(raw, Some(Tls { server_name, ..tls }), complaints))
        }
        "udp" => Kind::Udp(udp(raw, complaints)),
        "dns" => Kind::Dns(dns(raw, complaints)),
        "smtp" => Kind::Smtp(smtp(raw, complaints)),
        "icmp" => Kind::Icmp,
        "grpc" => {
            let encrypted = raw.tls.as_ref().is_some_and(|at| at.value);
            let unused = [
                raw.sni_name.as_ref().map(|at| &at.site),
                raw.verify.as_ref().map(|at| &at.site),
                raw.ca_file.as_ref().map(|at| &at.site),
            ];
            if let Some(site) = unused.into_iter().flatten().next().filter(|_| !encrypted) {
                complaints.add(
                    site,
                    "it is for TLS, which the check does not speak",
                    "set tls = true, or remove it",
                );
            }
            let service = raw.grpc_service.as_ref().map(|at| at.value.clone()).unwrap_or_default();
            Kind::Grpc(Grpc { service, tls: encrypted.then(|| tls(raw, complaints)) })
        }
        _ => Kind::Exec(command(raw, complaints)?),
    })
}

/// What a text means. Complains of one that is not what it should be.
fn understood<T>(
    At { value, site }: &At<String>,
    what: &str,
    remedy: &str,
    read: impl Fn(&str) -> Option<T>,
    complaints: &mut Complaints<'_>,
) -> Option<T> {
    let found = read(value);
    if found.is_none() {
        complaints.add(site, format!("{value:?} is not {what}"), format!("write {remedy}"));
    }
    found
}

fn http(raw: &RawCheck, tls: Option<Tls>, complaints: &mut Complaints<'_>) -> Http {
    let path = raw.path.as_ref().and_then(|at| {
        let read = |text: &str| {
            let fits = text.starts_with('/') && hyper::Uri::from_str(text).is_ok();
            fits.then(|| text.to_owned())
        };
        understood(at, "a path", "one that begins with `/`, e.g. \"/healthz\"", read, complaints)
    });
    let host = raw.virtualhost.as_ref().and_then(|at| {
        let read = |text: &str| {
            let fits = !text.is_empty() && !text.contains('/') && HeaderValue::from_str(text).is_ok();
            fits.then(|| text.to_owned())
        };
        understood(at, "a host", "a name, with a port if need be, e.g. \"www.example.com\"", read, complaints)
    });
    let status = raw.status_code.as_ref().map(|list| {
        if list.value.is_empty() {
            complaints.add(&list.site, "no status passes", "name at least one, e.g. [\"200-299\"]");
        }
        let what = "a status or a range of them, e.g. \"200\" or \"200-299\"";
        list.value.iter().filter_map(|at| understood(at, "a status", what, statuses, complaints)).collect()
    });
    let body = raw.regex.as_ref().and_then(|At { value, site }| match regex::bytes::Regex::new(value) {
        Ok(regex) => Some(Pattern(regex)),
        Err(error) => {
            // The library shows the place over several lines; the last one says what is wrong.
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let remedy = "correct it; in TOML, '...' leaves backslashes as they are";
            complaints.add(site, format!("this is not a regular expression: {reason}"), remedy);
            None
        }
    });
    Http {
        path: path.unwrap_or_else(|| "/".to_owned()),
        host,
        status: status.unwrap_or_else(|| vec![200..=299]),
        body,
        tls,
    }
}

fn statuses(text: &str) -> Option<RangeInclusive<u16>> {
    let status = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|status| digits && (100..=599).contains(status))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some(first..=last)
}

fn is_server_name(name: &str) -> bool {
    matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)))
}

fn tls(raw: &RawCheck, complaints: &mut Complaints<'_>) -> Tls {
    let verify = raw.verify.as_ref().is_some_and(|at| at.value);
    let ca_file = raw.ca_file.as_ref().map(|At { value, site }| {
        if !verify {
            complaints.add(
                site,
                "certificates are not verified, so that none has to be trusted",
                "add verify = true, or remove it",
            );
        }
        if let Err(error) = crate::health::certificates(value.as_ref()) {
            complaints.add(site, error, "give a file of certificates in PEM");
        }
        value.into()
    });
    let server_name = raw.sni_name.as_ref().and_then(|at| {
        let read = |text: &str| is_server_name(text).then(|| text.to_owned());
        understood(at, "a name of a server", "a DNS name, e.g. \"www.example.com\"", read, complaints)
    });
    Tls { server_name, verify, ca_file }
}

fn udp(raw: &RawCheck, complaints: &mut Complaints<'_>) -> Udp {
    let payload = raw.payload.as_ref().and_then(|at| {
        let read = |text: &str| hex(text)?.into_iter().collect();
        understood(at, "hexadecimal", "two digits a byte, e.g. \"0a ff\"", read, complaints)
    });
    let reply = raw.require_reply.as_ref().and_then(|at| {
        let what = "two digits a byte, or XX for any, e.g. \"0a XX ff\"";
        understood(at, "hexadecimal", what, hex, complaints)
    });
    Udp { payload: payload.unwrap_or_default(), reply: reply.map(Reply) }
}

/// Bytes of two digits each, with blanks between them or not; XX is any byte.
fn hex(text: &str) -> Option<Vec<Option<u8>>> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let byte = |pair: &[char]| match pair {
        ['X' | 'x', 'X' | 'x'] => Some(None),
        [high, low] => Some(Some((high.to_digit(16)? << 4 | low.to_digit(16)?) as u8)),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn dns(raw: &RawCheck, complaints: &mut Complaints<'_>) -> Dns {
    let name = raw.name.as_ref().and_then(|at| {
        let read = |text: &str| Name::vec_from_str(text).ok();
        understood(at, "a domain name", "e.g. \"example.com\"", read, complaints)
    });
    let record = raw.record.as_ref().and_then(|at| {
        let read = |text: &str| Rtype::from_str(text).ok();
        understood(at, "a type of records", "e.g. \"A\", \"AAAA\" or \"SOA\"", read, complaints)
    });
    Dns { name: name.unwrap_or_else(Name::root_vec), record: record.unwrap_or(Rtype::SOA) }
}

fn smtp(raw: &RawCheck, complaints: &mut Complaints<'_>) -> Smtp {
    let helo_name = raw.helo_name.as_ref().and_then(|at| {
        let fits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let read = |text: &str| fits(text).then(|| text.to_owned());
        understood(at, "a name to greet with", "this host's name, e.g. \"lb1.example.com\"", read, complaints)
    });
    Smtp { helo_name: helo_name.unwrap_or_else(|| "localhost".to_owned()) }
}

fn command(raw: &RawCheck, complaints: &mut Complaints<'_>) -> Option<Vec<String>> {
    let remedy =
        "add the program with its arguments, e.g. command = [\"/usr/local/bin/check-db\", \"--quick\"]";
    if !raw.has_command {
        complaints.add(&raw.site, "the check has no `command`", remedy);
    }
    let At { value: words, site } = raw.command.as_ref()?;
    let Some(program) = words.first() else {
        complaints.add(site, "no program is named", remedy);
        return None;
    };
    // Nobody knows what PATH a daemon will have.
    if !program.value.starts_with('/') {
        complaints.add(&program.site, format!("{:?} is not a full path", program.value), "begin it with `/`");
    }
    if let Some(at) = words.iter().find(|at| at.value.contains('\0')) {
        complaints.add(&at.site, "no argument can have a zero byte", "remove it");
    }
    Some(words.iter().map(|at| at.value.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_one_or_a_range() {
        assert_eq!(statuses("200"), Some(200..=200));
        assert_eq!(statuses("200-299"), Some(200..=299));
        for bad in ["", "99", "600", "299-200", "200-", "-200", "+200", "200 - 299", "ok"] {
            assert_eq!(statuses(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn bytes_are_two_digits_each() {
        assert_eq!(hex("0a XX fF"), Some(vec![Some(10), None, Some(255)]));
        assert_eq!(hex(""), Some(vec![]));
        for bad in ["0", "0g", "X0", "0a0", "é0"] {
            assert_eq!(hex(bad), None, "{bad:?}");
        }
    }
}
