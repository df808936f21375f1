//! The model's words as the tables show them.

use crate::model::{ForwardingMethod, Protocol, Scheduler, SchedulerFlags};

/// `TCP` or `UDP`.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
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

#[cfg(test)]
mod tests {
    use super::*;

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
