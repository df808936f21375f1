//! Health checks of a keepalived.conf.

use super::words::Line;

/// The blocks by which keepalived checks a real server.
const CHECKERS: [&str; 10] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "MISC_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
];

/// What says how real servers are checked, and what follows from that.
const SETTINGS: [&str; 22] = [
    "alpha",
    "omega",
    "quorum",
    "hysteresis",
    "quorum_up",
    "quorum_down",
    "delay_loop",
    "retry",
    "delay_before_retry",
    "warmup",
    "connect_timeout",
    "inhibit_on_failure",
    "ha_suspend",
    "virtualhost",
    "smtp_alert",
    "snmp_name",
    "notify_up",
    "notify_down",
    "sorry_server",
    "sorry_server_inhibit",
    "sorry_server_lvs_method",
    "log_all_failures",
];

/// Whether a line is about health checks.
pub(super) fn is_about_health(line: &Line) -> bool {
    CHECKERS.contains(&line.keyword()) || SETTINGS.contains(&line.keyword())
}

/// What is not carried over of such a line: all of it, as long as there are no health checks in the configuration.
pub(super) fn lost(line: &Line) -> Option<String> {
    Some(format!("{}: there are no health checks in the configuration", line.keyword()))
}
