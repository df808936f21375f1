//! What is missing where a packet does not reach whom it should, and how to mend it.

use std::net::IpAddr;

use control::health::Standing;
use control::model::{Protocol, ServiceKey};
use control::protocol::{CandidateStatus, Missing};

use super::{Question, View};
use crate::connection::{Direction, protocol_number};
use crate::nexthop::{Hop, NoWay};
use crate::pipeline::rehearsal::Rehearsed;
use crate::pipeline::{Action, AnyConnection, Impression, Verdict};
use crate::service::VirtualService;
use crate::stats::Reason;

fn missing(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Missing {
    Missing { code: code.to_owned(), message: message.into(), remedy: remedy.into() }
}

/// All that faults are told by.
pub(super) struct Findings<'a> {
    pub(super) question: &'a Question,
    pub(super) impression: &'a Impression,
    pub(super) rehearsed: &'a Rehearsed,
    pub(super) view: &'a View<'a>,
    /// The connection that the packet is of, and which way it goes there.
    pub(super) known: Option<(AnyConnection, Direction)>,
    /// The virtual service, if there is one.
    pub(super) service: Option<&'a VirtualService>,
    pub(super) candidates: &'a [CandidateStatus],
    /// Where the packet goes after all.
    pub(super) toward: Option<IpAddr>,
}

impl Findings<'_> {
    /// What is missing, if anything is.
    pub(super) fn missing(&self, verdict: Verdict) -> Option<Missing> {
        // An error that waits for its way back to the client is not what is missing.
        let is_error = matches!(
            verdict.reason,
            Reason::IcmpPortUnreachable | Reason::IcmpTimeExceeded | Reason::IcmpTooBig
        );
        if !is_error && let Action::Hold(_) = verdict.action {
            return Some(self.unresolved());
        }
        Some(match verdict.reason {
            Reason::NoService => self.no_service(),
            Reason::NoConnection => self.no_connection(),
            Reason::IcmpPortUnreachable if self.service.is_some() => self.nobody(),
            Reason::RequestBypass if self.known.is_none() => self.nobody(),
            Reason::IcmpPortUnreachable => missing(
                "no-connection",
                "a NAT real server sends a packet of no known connection, and is told so (nat_icmp_send)",
                "let a client open the connection, or look whether it timed out",
            ),
            Reason::IcmpTimeExceeded => missing(
                "ttl-used-up",
                format!("the TTL is {}: the director, as any router, may not send it on", self.ttl()),
                "send with a greater TTL, or look for a loop of routes on the way to the director",
            ),
            Reason::IcmpTooBig | Reason::NeedsFragmentation => self.too_long(),
            Reason::NoRoute => self.no_route(),
            Reason::TableFull => {
                let (used, capacity) = self.impression.connections;
                missing(
                    "table-full",
                    format!(
                        "lcore {} has {used} connections and room for {capacity}",
                        self.impression.lcore.0
                    ),
                    "raise connections.capacity of the configuration, shorten timeouts, or set drop_entry",
                )
            }
            Reason::TemplateTableFull => missing(
                "template-table-full",
                format!("there is room for {} persistence templates", self.view.shared.templates.capacity()),
                "shorten the services' persistence timeouts, or let a template serve a whole network of clients",
            ),
            Reason::ServerRemoved => missing(
                "server-removed",
                "the connection's real server was removed, and its packets are dropped silently, as IPVS does",
                "set expire_nodest_conn to let such a packet be scheduled anew, or add the real server again",
            ),
            Reason::DropPacket => missing(
                "drop-packet",
                format!(
                    "one in {} packets that would open a connection is dropped, since drop_packet defends",
                    self.impression.drop_rate()
                ),
                "set drop_packet to 0, or find out why connections are many (amemthresh)",
            ),
            Reason::NoCallId => missing(
                "no-call-id",
                "the service is persistent by SIP's Call-ID, and the datagram has none",
                "give a Call-ID, or make the service persistent by the client's address",
            ),
            Reason::OtherProtocol => missing(
                "other-protocol",
                "only TCP, UDP and SCTP are balanced",
                "nothing is to be done: the kernel gets it",
            ),
            Reason::IcmpLimited => missing(
                "icmp-limited",
                "an ICMP error is due, but this lcore has sent a thousand within a second",
                "look for a client that sends what cannot be forwarded",
            ),
            Reason::ForeignMac => missing(
                "port-unknown",
                format!("port {} has no Ethernet address yet", self.question.port.0),
                "look in the director's log for the port's interface",
            ),
            _ => return None,
        })
    }

    fn ttl(&self) -> u8 {
        self.question.sketch.ttl.unwrap_or_default()
    }

    fn no_service(&self) -> Missing {
        let sketch = &self.question.sketch;
        let snapshot = self.view.shared.snapshot;
        let protocol = protocol_number(sketch.protocol);
        let (from, to) = (sketch.from, sketch.to);
        let is_reply = snapshot.lookup.is_nat_server(from.ip(), from.port(), protocol);
        if is_reply {
            return missing(
                "no-connection",
                format!("{from} is a NAT real server, but has no connection with {to}"),
                "begin with the client's packet, or look whether the connection timed out",
            );
        }
        let here = |key: &ServiceKey| !key.is_mark() && key.ip() == to.ip();
        let mut others: Vec<String> = snapshot
            .services
            .iter()
            .map(|(_, service)| service.model.key)
            .filter(here)
            .map(|key| key.to_string())
            .collect();
        others.sort();
        let protocol = format!("{:?}", sketch.protocol).to_lowercase();
        let what = match &others[..] {
            [] => format!("no virtual service has the address {}", to.ip()),
            some => format!(
                "no virtual service is {protocol} {to}; at that address there are {}",
                some.join(", ")
            ),
        };
        let by_mark = if snapshot.lookup.marks().any() { ", or a rule for a mark that fits" } else { "" };
        missing(
            "no-such-service",
            format!("{what}, and the packet is the kernel's"),
            format!("add one: directorctl service add {protocol} {to}{by_mark}"),
        )
    }

    fn no_connection(&self) -> Missing {
        let sketch = &self.question.sketch;
        if sketch.from.port() == 20 {
            return missing(
                "from-ftp-data",
                "no connection is opened from port 20, FTP's data port",
                "FTP's commands go by NAT to a service at port 21, which announces its data connections",
            );
        }
        match sketch.protocol {
            Protocol::Sctp => missing(
                "not-opening",
                "no association is known, and the packet does not begin with INIT",
                "begin with INIT, look whether the association timed out, or set sloppy_sctp",
            ),
            _ => missing(
                "not-opening",
                "no connection is known, and the segment is not a SYN alone that may open one",
                "begin with a SYN, look whether the connection timed out (directorctl timeouts), or set sloppy_tcp",
            ),
        }
    }

    /// Why a service has nobody for a packet.
    fn nobody(&self) -> Missing {
        let Some(service) = self.service else {
            return missing("no-such-service", "there is no such service", "add it");
        };
        let key = service.model.key;
        let configured = (self.view.configured)(key);
        let servers = configured.as_ref().map_or(0, |service| service.servers.len());
        if servers == 0 && self.candidates.is_empty() {
            return missing(
                "no-real-servers",
                format!("{key} has no real server"),
                "add one with directorctl server add",
            );
        }
        // Those whom health has taken out are no candidates, or have no weight.
        let out = |address| {
            let standing = (self.view.standing)(key, address);
            matches!(standing, Some(Standing::Inhibited | Standing::Removed | Standing::Aside))
        };
        let by_health: Vec<String> = configured
            .iter()
            .flat_map(|service| &service.servers)
            .filter(|server| out(server.address))
            .map(|server| server.address.to_string())
            .collect();
        let quiesced =
            || self.candidates.iter().filter(|candidate| candidate.weight.0 == 0 && !out(candidate.address));
        let overloaded =
            || self.candidates.iter().filter(|candidate| candidate.weight.0 > 0 && candidate.overloaded);
        let names = |candidates: &mut dyn Iterator<Item = &CandidateStatus>| {
            candidates.map(|candidate| candidate.address.to_string()).collect::<Vec<_>>().join(", ")
        };
        if self.candidates.iter().any(|candidate| candidate.available) {
            return missing(
                "scheduler-refuses",
                format!(
                    "some real servers of {key} are available, but not the one that {} names",
                    service.model.scheduler.word()
                ),
                "allow another one by the flag fallback of sh and mh, raise weights (ovf), or use another scheduler",
            );
        }
        match (by_health.is_empty(), quiesced().next().is_some(), overloaded().next().is_some()) {
            (false, false, false) => missing(
                "all-failed",
                format!("health checks have taken out all real servers of {key}: {}", by_health.join(", ")),
                "see directorctl health --failing",
            ),
            (true, true, false) => missing(
                "all-quiesced",
                format!("all real servers of {key} have weight 0: {}", names(&mut quiesced())),
                "give one a weight: directorctl server edit --weight 1",
            ),
            (true, false, true) => missing(
                "all-overloaded",
                format!(
                    "all real servers of {key} have reached their upper threshold: {}",
                    names(&mut overloaded())
                ),
                "raise --upper-threshold, add real servers, or wait until they are below their lower threshold",
            ),
            _ => missing(
                "none-available",
                format!(
                    "no real server of {key} is available: failed {}; weight 0 {}; overloaded {}",
                    or_none(by_health.join(", ")),
                    or_none(names(&mut quiesced())),
                    or_none(names(&mut overloaded()))
                ),
                "see directorctl service list and directorctl health --failing",
            ),
        }
    }

    fn too_long(&self) -> Missing {
        let sketch = &self.question.sketch;
        let snapshot = self.view.shared.snapshot;
        let size = sketch.size.unwrap_or_default();
        let server = self.rehearsed.server.and_then(|server| snapshot.server(server));
        let is_reply = self.known.is_some_and(|(_, direction)| direction == Direction::Reply);
        let (mtu, added) = match server {
            Some(server) if !is_reply => {
                let method = self.known.map_or(server.method, |(connection, _)| connection.method());
                let added = match method {
                    control::model::ForwardingMethod::Tunnel => snapshot.tunnel(server).len,
                    _ => 0,
                };
                (server.hop.mtu(), added)
            }
            _ => (self.toward.map_or(u16::MAX, |ip| snapshot.hops.toward(ip).mtu()), 0),
        };
        let tunnel = if added > 0 { format!(", of which the tunnel takes {added}") } else { String::new() };
        missing(
            "mtu-too-small",
            format!(
                "the packet has {size} bytes and must not be fragmented; the MTU of the way is {mtu}{tunnel}"
            ),
            "raise the MTU of the interface or route, let senders obey ICMP's fragmentation needed, or set mss_clamp",
        )
    }

    fn no_route(&self) -> Missing {
        let snapshot = self.view.shared.snapshot;
        let server = self.rehearsed.server.and_then(|server| snapshot.server(server));
        if let Some(server) = server
            && server.address.is_ipv4() != self.question.sketch.to.is_ipv4()
            && matches!(server.hop, Hop::Ready(_) | Hop::Unresolved(_) | Hop::Local)
        {
            return missing(
                "wrong-family",
                format!(
                    "the real server {} is of the other version of IP, to which only a tunnel leads",
                    server.address
                ),
                "give the real server the method tunnel, or an address of the service's version",
            );
        }
        let Some(ip) = self.toward else {
            return missing("no-route", "there is no route", "add one: ip route add");
        };
        match snapshot.hops.why_no_way(ip) {
            NoWay::LinkDown(name) => missing(
                "link-down",
                format!("the interface {name}, by which {ip} would be reached, is down"),
                format!("ip link set {name} up, and look whether its routes are there again"),
            ),
            NoWay::NotAPort(name) => missing(
                "not-a-port",
                format!("the route to {ip} leads by {name}, which is no port's interface"),
                "give the director that device as a port, or lead the route by a port's interface",
            ),
            NoWay::NoMac(name) => missing(
                "no-ethernet",
                format!("the route to {ip} leads by {name}, which has no Ethernet address"),
                "lead the route by a port's interface",
            ),
            NoWay::NoRoute => missing(
                "no-route",
                format!("the kernel has no route to {ip} in its main table"),
                format!("ip route add {ip} via the router that leads there"),
            ),
        }
    }

    fn unresolved(&self) -> Missing {
        let hops = &self.view.shared.snapshot.hops;
        let (what, interface) = match self.rehearsed.awaited {
            Some(unresolved) => {
                let link = unresolved.neighbour.link;
                (unresolved.neighbour.ip.to_string(), hops.name_of(link).unwrap_or("?").to_owned())
            }
            None => ("the next hop".to_owned(), "?".to_owned()),
        };
        missing(
            "next-hop-unresolved",
            format!(
                "the Ethernet address of {what} on {interface} is not known: packets wait for it a second, then are \
                 dropped (neighbour_silent)"
            ),
            format!("see that {what} answers ARP or neighbour discovery: ip neigh show dev {interface}"),
        )
    }
}

fn or_none(names: String) -> String {
    if names.is_empty() { "none".to_owned() } else { names }
}
