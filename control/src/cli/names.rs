//! The model's words as the tables show them.

use super::output;
use crate::model::{Family, ForwardingMethod, Persistence, Protocol, Scheduler, SchedulerFlags, ServiceKey};
use crate::protocol::{ServerStatus, ServiceStatus};

/// `TCP`, `UDP` or `SCTP`.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// The word in ipvsadm's first column: the protocol, or `FWM`.
pub(super) fn kind(service: ServiceKey) -> &'static str {
    service.protocol().map_or("FWM", protocol)
}

/// What stands beside it: address and port, or the mark, as ipvsadm shows it: `1`, `1 IPv6`.
pub(super) fn service(service: ServiceKey) -> String {
    match service {
        ServiceKey::Address { address, .. } => address.to_string(),
        ServiceKey::Mark { mark, family: Family::Ipv4 } => mark.to_string(),
        ServiceKey::Mark { mark, family: Family::Ipv6 } => format!("{mark} IPv6"),
    }
}

/// The word in ipvsadm's Forward column.
pub(super) fn method(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Nat => "Masq",
        ForwardingMethod::Dr => "Route",
        ForwardingMethod::Tunnel => "Tunnel",
    }
}

/// What is to be said of a real server beyond what ipvsadm says: its health, and whether it is drained.
pub(super) fn condition(server: &ServerStatus) -> String {
    let drain = server.drain_ends_in_ms.map(|left| format!("draining for {} at most", output::clock(left)));
    let health = server.health.map(|standing| standing.word().to_owned());
    health.into_iter().chain(drain).collect::<Vec<_>>().join(", ")
}

/// The scheduler with its flags as ipvsadm shows them: `sh (sh-fallback,sh-port)`.
pub(super) fn scheduler(scheduler: Scheduler, flags: SchedulerFlags) -> String {
    let name = scheduler.word();
    let set: Vec<String> = [(flags.fallback, "fallback"), (flags.port, "port")]
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| format!("{name}-{flag}"))
        .collect();
    if set.is_empty() { name.to_owned() } else { format!("{name} ({})", set.join(",")) }
}

/// How a service is scheduled, as ipvsadm shows it: `wlc persistent 300 mask 255.255.255.0 pe sip ops`.
pub(super) fn scheduling(service: &ServiceStatus) -> String {
    let mut text = scheduler(service.scheduler, service.flags);
    if let Some(persistence) = service.persistence {
        text.push_str(&persistent(persistence, service.service.ip().is_ipv4()));
        if !persistence.engine.is_none() {
            text.push_str(&format!(" pe {}", persistence.engine));
        }
    }
    if service.one_packet {
        text.push_str(" ops");
    }
    text
}

/// ` persistent 300`, with the mask unless every client is by itself; IPv6 has a prefix length for it.
fn persistent(persistence: Persistence, is_ipv4: bool) -> String {
    let Persistence { timeout, granularity, .. } = persistence;
    let seconds = timeout.as_secs();
    match granularity {
        32 if is_ipv4 => format!(" persistent {seconds}"),
        128 => format!(" persistent {seconds}"),
        bits if is_ipv4 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            format!(" persistent {seconds} mask {}", std::net::Ipv4Addr::from(mask))
        }
        bits => format!(" persistent {seconds} mask {bits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn persistence_reads_as_ipvsadm_shows_it() {
        let text = |granularity, is_ipv4| {
            let timeout = std::time::Duration::from_secs(300);
            persistent(Persistence::of_clients(timeout, granularity), is_ipv4)
        };
        assert_eq!(text(32, true), " persistent 300");
        assert_eq!(text(24, true), " persistent 300 mask 255.255.255.0");
        assert_eq!(text(128, false), " persistent 300");
        assert_eq!(text(32, false), " persistent 300 mask 32");
    }

    #[test]
    fn flags_read_as_ipvsadm_shows_them() {
        assert_eq!(scheduler(Scheduler::Wlc, SchedulerFlags::default()), "wlc");
        assert_eq!(
            scheduler(Scheduler::Sh, SchedulerFlags { fallback: true, port: true }),
            "sh (sh-fallback,sh-port)"
        );
        assert_eq!(scheduler(Scheduler::Mh, SchedulerFlags { fallback: false, port: true }), "mh (mh-port)");
    }
}
