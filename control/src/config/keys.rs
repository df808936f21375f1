//! The keys that a configuration can have, and the nearest of them to one that it cannot.

use crate::model::Settings;

/// Every table and its keys. Tables in arrays are named without an index; `""` is the top level.
pub(crate) const KEYS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "socket",
            "history",
            "dpdk",
            "lcores",
            "connections",
            "limits",
            "timeouts",
            "settings",
            "ftp_ports",
            "port",
            "mark",
            "service",
        ],
    ),
    ("dpdk", &["hugepages", "memory_mb", "mbufs", "eal_args"]),
    ("lcores", &["cpus", "idle"]),
    ("connections", &["capacity", "ipv6_capacity", "templates"]),
    ("limits", &["services", "servers"]),
    ("timeouts", &["tcp", "tcp_fin", "udp"]),
    ("settings", &Settings::NAMES),
    ("port", &["device", "mirror", "mtu", "rx_descriptors", "tx_descriptors", "rss"]),
    (
        "mark",
        &[
            "mark",
            "protocol",
            "sources",
            "destinations",
            "source_ports",
            "destination_ports",
            "ingress",
            "dscp",
        ],
    ),
    (
        "service",
        &[
            "mark",
            "family",
            "protocol",
            "address",
            "scheduler",
            "fallback",
            "hash_port",
            "persistence_timeout",
            "persistence_granularity",
            "persistence_engine",
            "one_packet",
            "on_failure",
            "slow_start",
            "quorum",
            "hysteresis",
            "max_out",
            "sorry_server",
            "sorry_server_method",
            "check",
            "passive",
            "server",
        ],
    ),
    ("service.check", CHECK_KEYS),
    ("service.passive", &["unanswered", "window", "hold"]),
    (
        "service.server",
        &["address", "method", "tunnel", "weight", "upper_threshold", "lower_threshold", "check"],
    ),
    ("service.server.check", CHECK_KEYS),
];

/// Keys of a health check, of whatever kind.
const CHECK_KEYS: &[&str] = &[
    "kind",
    "interval",
    "timeout",
    "rise",
    "fall",
    "delay_before_retry",
    "jitter",
    "start",
    "connect_ip",
    "connect_port",
    "path",
    "virtualhost",
    "status_code",
    "regex",
    "tls",
    "sni_name",
    "verify",
    "ca_file",
    "payload",
    "require_reply",
    "name",
    "type",
    "helo_name",
    "grpc_service",
    "command",
];

/// The keys of a table of [`KEYS`]; none for a table that is not there.
pub(super) fn keys_of(table: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys)
}

/// What to do about a key that its table does not have.
pub(super) fn remedy(table: &str, unknown: &str) -> String {
    let known = keys_of(table);
    if let Some(near) = nearest(unknown, known) {
        return format!("did you mean `{near}`?");
    }
    let elsewhere: Vec<String> = KEYS
        .iter()
        .filter(|(_, keys)| keys.contains(&unknown))
        .map(|(name, _)| if name.is_empty() { "the top level".to_owned() } else { format!("`{name}`") })
        .collect();
    if elsewhere.is_empty() {
        format!("remove it; the keys here are {}", known.join(", "))
    } else {
        format!("move it to {}, where `{unknown}` belongs", elsewhere.join(" or "))
    }
}

/// The candidate that is so near that the operator probably meant it.
pub(super) fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    // Long texts are no typing errors, and the distance costs length times length.
    if word.len() > 64 {
        return None;
    }
    candidates
        .iter()
        .map(|candidate| (distance(&word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many insertions, deletions, substitutions and swaps of neighbours make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substituted = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substituted.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_one_step_away() {
        assert_eq!(distance("scheduler", "scheduler"), 0);
        assert_eq!(distance("schedular", "scheduler"), 1);
        assert_eq!(distance("shceduler", "scheduler"), 1);
        assert_eq!(distance("", "mtu"), 3);
    }

    #[test]
    fn the_nearest_key_is_suggested_or_none() {
        assert_eq!(nearest("schedular", keys_of("service")), Some("scheduler"));
        assert_eq!(nearest("tcp-fin", keys_of("timeouts")), Some("tcp_fin"));
        assert_eq!(nearest("MTU", keys_of("port")), Some("mtu"));
        assert_eq!(nearest("backends", keys_of("service")), None);
        assert_eq!(nearest(&"s".repeat(100_000), keys_of("service")), None);
    }

    #[test]
    fn a_key_of_another_table_is_sent_there() {
        assert_eq!(remedy("service", "weight"), "move it to `service.server`, where `weight` belongs");
        assert_eq!(remedy("timeouts", "capacity"), "move it to `connections`, where `capacity` belongs");
        assert_eq!(remedy("lcores", "frobnicate"), "remove it; the keys here are cpus, idle");
    }
}
