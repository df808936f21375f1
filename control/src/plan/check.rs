//! A health check in words that leave nothing out: two that differ read differently.

use std::fmt::Write as _;

use crate::health::{Check, Dns, Grpc, Http, Kind, Smtp, Tls, Udp};

/// All of a check.
pub(super) fn words(check: &Check) -> String {
    // What `connect_ip` and `connect_port` are, its display says.
    let Check {
        kind,
        interval,
        timeout,
        rise,
        fall,
        delay_before_retry,
        jitter,
        start_up,
        connect_ip: _,
        connect_port: _,
    } = check;
    let mut text = check.to_string();
    of_kind(kind, &mut text);
    let start = if *start_up { "up" } else { "down" };
    let seconds = [interval, timeout, delay_before_retry].map(|duration| duration.as_secs_f64());
    let [interval, timeout, retry] = seconds;
    text + &format!(
        ", interval {interval} timeout {timeout} rise {rise} fall {fall} delay_before_retry {retry} jitter {jitter} \
         start {start}"
    )
}

fn of_kind(kind: &Kind, text: &mut String) {
    match kind {
        Kind::Tcp | Kind::Icmp => {}
        // An argument may have blanks.
        Kind::Exec(words) => more(text, "command", &format!("{words:?}")),
        Kind::Http(Http { path: _, host: _, status, body, tls }) => {
            let status: Vec<String> = status.iter().map(|s| format!("{}-{}", s.start(), s.end())).collect();
            more(text, "status_code", &status.join(","));
            if let Some(body) = body {
                more(text, "regex", &format!("{:?}", body.0.as_str()));
            }
            of_tls(tls.as_ref(), text);
        }
        Kind::Udp(Udp { payload, reply }) => {
            let byte = |byte: &Option<u8>| byte.map_or("XX".to_owned(), |byte| format!("{byte:02x}"));
            if !payload.is_empty() {
                more(text, "payload", &payload.iter().map(|b| byte(&Some(*b))).collect::<Vec<_>>().join(" "));
            }
            if let Some(reply) = reply {
                let bytes: Vec<String> = reply.0.iter().map(byte).collect();
                more(text, "require_reply", &format!("{:?}", bytes.join(" ")));
            }
        }
        // What is asked, its display says.
        Kind::Dns(Dns { name: _, record: _ }) => {}
        Kind::Smtp(Smtp { helo_name }) => more(text, "helo_name", helo_name),
        Kind::Grpc(Grpc { service: _, tls }) => of_tls(tls.as_ref(), text),
        #[cfg(test)]
        Kind::Panic => {}
    }
}

fn of_tls(tls: Option<&Tls>, text: &mut String) {
    let Some(Tls { server_name, verify, ca_file }) = tls else { return };
    more(text, "tls", if *verify { "verified" } else { "unverified" });
    if let Some(name) = server_name {
        more(text, "sni_name", name);
    }
    if let Some(file) = ca_file {
        more(text, "ca_file", &file.display().to_string());
    }
}

fn more(text: &mut String, key: &str, value: &str) {
    // Writing to a String does not fail.
    let _ = write!(text, " {key} {value}");
}
