//! Virtual services as tables of the configuration.

use std::fmt::Write as _;

use crate::model::{
    Family, ForwardingMethod, Persistence, RealServer, SchedulerFlags, Service, ServiceKey, Thresholds,
    Tunnel,
};

/// `[[service]]` with its real servers. Each of the lines stands above it as a comment.
pub(super) fn service(service: &Service, comments: &[String]) -> String {
    let mut text = String::new();
    for line in comments.iter().flat_map(|comment| comment.lines()) {
        let _ = writeln!(text, "# {line}");
    }
    text.push_str("[[service]]\n");
    match service.key {
        ServiceKey::Address { protocol, address } => {
            let _ = writeln!(text, "protocol = \"{protocol}\"\naddress = \"{address}\"");
        }
        ServiceKey::Mark { mark, family } => {
            let _ = writeln!(text, "mark = {mark}");
            if family == Family::Ipv6 {
                text.push_str("family = \"ipv6\"\n");
            }
        }
    }
    let _ = writeln!(text, "scheduler = \"{}\"", service.scheduler.word());
    let SchedulerFlags { fallback, port } = service.flags;
    for (name, _) in [("fallback", fallback), ("hash_port", port)].iter().filter(|(_, set)| *set) {
        let _ = writeln!(text, "{name} = true");
    }
    if let Some(Persistence { timeout, granularity, engine }) = service.persistence {
        let _ = writeln!(text, "persistence_timeout = {}", timeout.as_secs());
        if granularity != Persistence::widest(service.key.ip()) {
            let _ = writeln!(text, "persistence_granularity = {granularity}");
        }
        if !engine.is_none() {
            let _ = writeln!(text, "persistence_engine = \"{engine}\"");
        }
    }
    if service.one_packet {
        text.push_str("one_packet = true\n");
    }
    for server in &service.servers {
        text.push_str(&real_server(server));
    }
    text
}

fn real_server(server: &RealServer) -> String {
    let RealServer { address, method, tunnel, weight, thresholds } = *server;
    let mut text = String::new();
    let word = match method {
        ForwardingMethod::Nat => "nat",
        ForwardingMethod::Dr => "dr",
        ForwardingMethod::Tunnel => "tunnel",
    };
    let _ = writeln!(text, "\n  [[service.server]]\n  address = \"{address}\"\n  method = \"{word}\"");
    if tunnel != Tunnel::default() {
        let _ = writeln!(text, "  tunnel = \"{tunnel}\"");
    }
    let _ = writeln!(text, "  weight = {}", weight.0);
    let Thresholds { upper, lower } = thresholds;
    for (name, value) in [("upper", upper), ("lower", lower)].iter().filter(|(_, value)| *value != 0) {
        let _ = writeln!(text, "  {name}_threshold = {value}");
    }
    text
}
