//! A health check as it was typed.

use super::errors::{Complaints, Site};
use super::walk::{At, Table};

/// Keys that only some kinds have.
pub(super) const KIND_KEYS: &[(&str, &[&str])] = &[
    ("path", &["http", "https"]),
    ("virtualhost", &["http", "https"]),
    ("status_code", &["http", "https"]),
    ("regex", &["http", "https"]),
    ("tls", &["grpc"]),
    ("sni_name", &["https", "grpc"]),
    ("verify", &["https", "grpc"]),
    ("ca_file", &["https", "grpc"]),
    ("payload", &["udp"]),
    ("require_reply", &["udp"]),
    ("name", &["dns"]),
    ("type", &["dns"]),
    ("helo_name", &["smtp"]),
    ("grpc_service", &["grpc"]),
    ("command", &["exec"]),
];

/// One `[service.check]`, `[[service.check]]` or `[[service.server.check]]`.
pub(super) struct RawCheck {
    pub(super) site: Site,
    /// Keys that only some kinds have, where they stand.
    pub(super) given: Vec<(&'static str, Site)>,
    pub(super) has_kind: bool,
    pub(super) kind: Option<At<String>>,
    pub(super) interval: Option<At<f64>>,
    pub(super) timeout: Option<At<f64>>,
    pub(super) rise: Option<At<i128>>,
    pub(super) fall: Option<At<i128>>,
    pub(super) delay_before_retry: Option<At<f64>>,
    pub(super) jitter: Option<At<i128>>,
    pub(super) start: Option<At<String>>,
    pub(super) connect_ip: Option<At<String>>,
    pub(super) connect_port: Option<At<i128>>,
    pub(super) path: Option<At<String>>,
    pub(super) virtualhost: Option<At<String>>,
    pub(super) status_code: Option<At<Vec<At<String>>>>,
    pub(super) regex: Option<At<String>>,
    pub(super) tls: Option<At<bool>>,
    pub(super) sni_name: Option<At<String>>,
    pub(super) verify: Option<At<bool>>,
    pub(super) ca_file: Option<At<String>>,
    pub(super) payload: Option<At<String>>,
    pub(super) require_reply: Option<At<String>>,
    pub(super) name: Option<At<String>>,
    pub(super) record: Option<At<String>>,
    pub(super) helo_name: Option<At<String>>,
    pub(super) grpc_service: Option<At<String>>,
    pub(super) has_command: bool,
    pub(super) command: Option<At<Vec<At<String>>>>,
}

impl RawCheck {
    /// The checks of a table, one as `[name]` or several as `[[name]]`; `None` if nothing is said of any.
    pub(super) fn read_all(
        table: &Table<'_, '_>,
        name: &str,
        complaints: &mut Complaints<'_>,
    ) -> Option<Vec<RawCheck>> {
        let given = table.has("check");
        let checks = table.table_or_tables(name, complaints);
        given.then(|| checks.iter().map(|table| RawCheck::read(table, complaints)).collect())
    }

    fn read(table: &Table<'_, '_>, c: &mut Complaints<'_>) -> RawCheck {
        let given = KIND_KEYS.iter().filter_map(|(key, _)| Some((*key, table.site_of(key)?)));
        RawCheck {
            site: table.site().clone(),
            given: given.collect(),
            has_kind: table.has("kind"),
            kind: table.string("kind", c),
            interval: table.number("interval", c),
            timeout: table.number("timeout", c),
            rise: table.integer("rise", c),
            fall: table.integer("fall", c),
            delay_before_retry: table.number("delay_before_retry", c),
            jitter: table.integer("jitter", c),
            start: table.string("start", c),
            connect_ip: table.string("connect_ip", c),
            connect_port: table.integer("connect_port", c),
            path: table.string("path", c),
            virtualhost: table.string("virtualhost", c),
            status_code: table.strings("status_code", c),
            regex: table.string("regex", c),
            tls: table.boolean("tls", c),
            sni_name: table.string("sni_name", c),
            verify: table.boolean("verify", c),
            ca_file: table.string("ca_file", c),
            payload: table.string("payload", c),
            require_reply: table.string("require_reply", c),
            name: table.string("name", c),
            record: table.string("type", c),
            helo_name: table.string("helo_name", c),
            grpc_service: table.string("grpc_service", c),
            has_command: table.has("command"),
            command: table.strings("command", c),
        }
    }
}

/// `[service.passive]`.
pub(super) struct RawPassive {
    pub(super) site: Site,
    pub(super) unanswered: Option<At<i128>>,
    pub(super) window: Option<At<f64>>,
    pub(super) hold: Option<At<f64>>,
}

impl RawPassive {
    fn read(table: &Table<'_, '_>, c: &mut Complaints<'_>) -> RawPassive {
        RawPassive {
            site: table.site().clone(),
            unanswered: table.integer("unanswered", c),
            window: table.number("window", c),
            hold: table.number("hold", c),
        }
    }
}

/// What a `[[service]]` says about the health of its real servers beside their checks.
pub(super) struct RawHealth {
    pub(super) checks: Option<Vec<RawCheck>>,
    pub(super) passive: Option<RawPassive>,
    pub(super) on_failure: Option<At<String>>,
    pub(super) slow_start: Option<At<f64>>,
    pub(super) quorum: Option<At<i128>>,
    pub(super) hysteresis: Option<At<i128>>,
    pub(super) max_out: Option<At<i128>>,
    pub(super) sorry_server: Option<At<String>>,
    pub(super) sorry_server_method: Option<At<String>>,
    /// The first of its keys, which mean nothing without a check.
    pub(super) first: Option<(&'static str, Site)>,
}

/// Keys of [`RawHealth`] beside the checks.
pub(super) const HEALTH_KEYS: &[&str] =
    &["on_failure", "slow_start", "quorum", "hysteresis", "max_out", "sorry_server", "sorry_server_method"];

impl RawHealth {
    pub(super) fn read(table: &Table<'_, '_>, c: &mut Complaints<'_>) -> RawHealth {
        RawHealth {
            checks: RawCheck::read_all(table, "service.check", c),
            passive: table.table("service.passive", c).map(|table| RawPassive::read(&table, c)),
            on_failure: table.string("on_failure", c),
            slow_start: table.number("slow_start", c),
            quorum: table.integer("quorum", c),
            hysteresis: table.integer("hysteresis", c),
            max_out: table.integer("max_out", c),
            sorry_server: table.string("sorry_server", c),
            sorry_server_method: table.string("sorry_server_method", c),
            first: HEALTH_KEYS.iter().find_map(|key| Some((*key, table.site_of(key)?))),
        }
    }
}
