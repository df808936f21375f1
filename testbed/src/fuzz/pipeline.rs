//! Any frames, changes and time into the pipeline, with whatever connections came of those before.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use control::model::{
    Family, ForwardingMethod, GueChecksum, Mark, MarkRule, Persistence, PersistenceEngine, Prefix, Protocol,
    RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Settings, Thresholds, Tunnel, Weight,
};
use director::pipeline::{Action, Verdict};
use director::service::MarkRules;
use director::stats::{Class, Reason};
use director::time::Tick;

use super::input::Input;
use crate::bottle::Bottle;
use crate::oracle::network;
use crate::oracle::packet::ones_complement;

const LCORES: usize = 2;
const METHODS: [ForwardingMethod; 3] =
    [ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel];

/// How many services the bottle has.
const SERVICES: u8 = 8;
/// Those from here on are by mark.
const MARKED: u8 = 6;

/// What has the mark of the last two services: all ports of the second virtual address but one, and what is urgent.
fn rules() -> MarkRules {
    let rule = |destinations: &[IpAddr], dscp| MarkRule {
        mark: Mark(NonZeroU32::MIN),
        protocol: None,
        sources: Vec::new(),
        destinations: destinations
            .iter()
            .filter_map(|ip| Prefix::of(*ip, if ip.is_ipv4() { 32 } else { 128 }))
            .collect(),
        source_ports: Vec::new(),
        destination_ports: Vec::new(),
        ingress: None,
        dscp,
    };
    let seconds = [false, true].map(|v6| network::vip(2, v6));
    let spared = MarkRule {
        mark: Mark(NonZeroU32::MAX),
        destination_ports: "79".parse().into_iter().collect(),
        ingress: Some(0),
        ..rule(&seconds, None)
    };
    MarkRules::new(vec![spared, rule(&seconds, None), rule(&[], Some(46))])
}

/// A service of the bottle: one of each protocol and family, and one for a mark of each family; methods by the number
/// of the real server.
fn service(n: u8) -> Service {
    let v6 = n & 1 != 0;
    let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(n / 2 % 3)];
    let address = SocketAddr::new(network::vip(1, v6), 80);
    let of = n;
    let server = |n: u8| {
        let method = METHODS[usize::from(n) % 3];
        // Every other tunnel leads to the other family.
        let v6 = v6 != (n == 5);
        // The director is one of its own.
        let ip = if n == 6 { network::own(2, v6) } else { network::server(n, v6) };
        RealServer {
            // Of a mark's, some leave packets their port.
            address: SocketAddr::new(ip, if of >= MARKED && n > 3 { 0 } else { 80 }),
            method,
            weight: Weight(1),
            tunnel: tunnel(n, of),
            thresholds: Thresholds::default(),
        }
    };
    let family = if v6 { Family::Ipv6 } else { Family::Ipv4 };
    let mark = ServiceKey::Mark { mark: Mark(NonZeroU32::MIN), family };
    Service {
        key: if n < MARKED { ServiceKey::Address { protocol, address } } else { mark },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: (1..=6).map(server).collect(),
    }
}

/// How a service's tunnels wrap, by the number of the real server and of the service.
fn tunnel(server: u8, service: u8) -> Tunnel {
    let port = NonZeroU16::MIN.saturating_add(6079);
    match (METHODS[usize::from(server) % 3], server, service % 3) {
        (ForwardingMethod::Tunnel, _, 0) => Tunnel::Gue { port, checksum: GueChecksum::Full },
        (ForwardingMethod::Tunnel, 5, 1) => Tunnel::Gre { checksum: true },
        (ForwardingMethod::Tunnel, _, 1) => Tunnel::Gue { port, checksum: GueChecksum::None },
        (ForwardingMethod::Tunnel, 5, _) => Tunnel::Gre { checksum: false },
        _ => Tunnel::Ipip,
    }
}

/// The bottle that fuzzers begin with.
pub(super) fn bottle(now: Tick) -> Bottle {
    let mut bottle = Bottle::new(LCORES, 32, now).marking(rules());
    bottle.services = (0..SERVICES).map(service).map(|service| (service.key, Arc::new(service))).collect();
    bottle.publish();
    bottle
}

/// Sends frames, changes services, lets time pass, as the bytes say.
///
/// # Panics
/// When a packet ends in no verdict or two, when what leaves is not sound though what came was, when what is given to
/// the kernel was changed.
pub fn pipeline(data: &[u8]) {
    let mut input = Input(data);
    let mut now = Tick(u32::MAX - 100_000);
    let mut bottle = bottle(now);
    let mut sent = 0;
    while !input.is_empty() {
        match input.byte() {
            0..10 => {
                let len = usize::from(input.byte());
                let frame = framed(0, input.take(len));
                if let Some((verdict, out)) = bottle.kernel_sends(&frame, now) {
                    sent += 1;
                    check(verdict, &frame, &out, true);
                }
            }
            10..200 => {
                let (port, len) = (input.byte() & 1, usize::from(input.byte()));
                let frame = framed(port, input.take(len));
                sent += 1;
                send(&mut bottle, port, &frame, now);
            }
            200..220 => change(&mut bottle, &mut input),
            _ => {
                now = now.after(u32::from(input.word()) * 16);
                bottle.expire(now);
            }
        }
    }
    ends_well(&bottle, sent);
}

/// Every packet that was sent has ended in one reason.
pub(super) fn ends_well(bottle: &Bottle, sent: u64) {
    let counted: u64 =
        bottle.pipelines.iter().flat_map(|p| Reason::ALL.iter().map(|r| p.counters().reason(*r).get())).sum();
    let again = [Reason::OtherLcore, Reason::FragmentElsewhere, Reason::FragmentWaits];
    let handed: u64 =
        bottle.pipelines.iter().flat_map(|p| again.map(|reason| p.counters().reason(reason).get())).sum();
    let (waiting, gone) = (bottle.waiting() as u64, bottle.given_up());
    assert_eq!(
        counted + gone + waiting,
        sent + handed,
        "every packet ends in one reason, and once more where it was handed over or waited"
    );
}

/// Bytes behind the Ethernet addresses that let them in; the type goes by the first of them.
pub(super) fn framed(port: u8, ip: &[u8]) -> Vec<u8> {
    let ether_type: [u8; 2] =
        if ip.first().is_some_and(|first| first >> 4 == 6) { [0x86, 0xdd] } else { [8, 0] };
    [&network::DIRECTOR[usize::from(port)][..], &[2, 0, 0, 0, 0, 1], &ether_type, ip].concat()
}

/// Sends a frame. What becomes of it, where it is no fragment: the others of its packet come out as well.
pub(super) fn send(bottle: &mut Bottle, port: u8, frame: &[u8], now: Tick) -> Option<(Verdict, Vec<u8>)> {
    let lcore = usize::from(frame.last().copied().unwrap_or(0)) % LCORES;
    let ends = bottle.send(lcore, port, frame, now);
    ends.iter().for_each(|(verdict, out)| check(*verdict, frame, out, ends.len() == 1));
    ends.into_iter().next()
}

fn check(verdict: Verdict, frame: &[u8], out: &[u8], is_alone: bool) {
    let class = verdict.reason.class();
    match verdict.action {
        Action::Forward(_) | Action::Cut(_) => {
            assert_eq!(class, Class::Forwarded);
            if is_alone {
                is_sound(frame, out);
            }
        }
        Action::Hold(_) => assert_eq!(class, Class::Forwarded),
        Action::Punt => {
            assert_eq!(class, Class::Punted);
            let is_changed = verdict.reason == Reason::LocalServer;
            assert!(out == frame || is_changed || !is_alone, "the kernel gets what came");
        }
        Action::Drop => assert_eq!(class, Class::Dropped),
        Action::HandOver(_) | Action::Gather(_) => unreachable!("followed already"),
    }
}

/// What leaves is IP as long as it says, with a header checksum that is right where that of what came was.
fn is_sound(came: &[u8], leaves: &[u8]) {
    match leaves[12..14] {
        [8, 0] => {
            let header = &leaves[14..14 + usize::from(leaves[14] & 15) * 4];
            let len = usize::from(u16::from_be_bytes([leaves[16], leaves[17]]));
            assert!(leaves[14] >> 4 == 4 && len >= header.len() && leaves.len() >= 14 + len);
            let was_right = came[12..14] != [8, 0]
                || ones_complement(&came[14..14 + usize::from(came[14] & 15) * 4]) == 0xffff;
            assert!(!was_right || ones_complement(header) == 0xffff, "{came:02x?}\n{leaves:02x?}");
        }
        [0x86, 0xdd] => {
            let len = 40 + usize::from(u16::from_be_bytes([leaves[18], leaves[19]]));
            assert!(leaves[14] >> 4 == 6 && leaves.len() >= 14 + len);
        }
        _ => panic!("neither IPv4 nor IPv6 leaves: {leaves:02x?}"),
    }
}

fn change(bottle: &mut Bottle, input: &mut Input<'_>) {
    let key = service(input.byte() % SERVICES).key;
    let Some(before) = bottle.services.get(&key) else {
        let service = service(input.byte() % SERVICES);
        bottle.services.insert(service.key, Arc::new(service));
        return bottle.publish();
    };
    let mut changed = Service::clone(before);
    let at = usize::from(input.byte()) % changed.servers.len().max(1);
    match input.byte() % 8 {
        0 => drop(bottle.services.remove(&key)),
        1 => {
            let timeout = Duration::from_secs(1 + u64::from(input.byte()));
            let how = input.byte();
            let mut persistence = Persistence::of_clients(timeout, 1 + how % 32);
            if how & 128 != 0 && key.protocol() == Some(Protocol::Udp) {
                persistence.engine = PersistenceEngine::Sip;
            }
            changed.persistence = Some(persistence);
        }
        2 if !changed.servers.is_empty() => drop(changed.servers.remove(at)),
        3 if !changed.servers.is_empty() => changed.servers[at].weight = Weight(input.byte().into()),
        4 => {
            changed.one_packet = key.protocol().is_none_or(|p| p == Protocol::Udp) && !changed.one_packet;
        }
        5 => {
            let bits = input.byte();
            bottle.settings = Settings {
                sloppy_tcp: bits & 1 != 0,
                sloppy_sctp: bits & 1 != 0,
                expire_nodest_conn: bits & 2 != 0,
                conn_reuse_mode: bits >> 2 & 3,
                nat_icmp_send: bits & 16 != 0,
                cache_bypass: bits & 16 != 0,
                schedule_icmp: bits & 32 != 0,
                drop_entry: bits >> 6,
                ..Settings::default()
            };
        }
        _ => changed = service(input.byte() % SERVICES),
    }
    if bottle.services.contains_key(&key) {
        bottle.services.insert(changed.key, Arc::new(changed));
    }
    bottle.publish();
}
