//! Random packets in random worlds, told beforehand and then sent.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use control::model::{
    ForwardingMethod, GueChecksum, Mark, MarkRule, Persistence, PersistenceEngine, Protocol, RealServer,
    Scheduler, SchedulerFlags, Service, ServiceKey, Settings, Thresholds, Tunnel, Weight,
};
use control::protocol::{PacketSketch, SctpChunk, TcpFlag};
use director::id::{IfIndex, PortId};
use director::nexthop::Neighbour;
use director::packet::{BytesPacket, PacketBuf};
use director::pipeline::{Action, Arrival, MAX_BURST, Verdict};
use director::scheduler::Load;
use director::service::{MarkRules, ServerId};
use director::stats::ServerTotals;

use super::{explain, rehearse, sketch};
use crate::world::{Outcome, Shape, World, ip};

const WORLDS: u64 = 150;
/// So many numbers of real servers are in use at most.
const SERVERS: u32 = 256;
const PACKETS: usize = 60;

/// xorshift64*: the same worlds at each run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}

const SCHEDULERS: [Scheduler; 14] = [
    Scheduler::Rr,
    Scheduler::Wrr,
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Lblc,
    Scheduler::Lblcr,
    Scheduler::Dh,
    Scheduler::Sh,
    Scheduler::Mh,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
    Scheduler::Twos,
];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const METHODS: [ForwardingMethod; 3] =
    [ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel];
const VIPS: [[&str; 2]; 2] = [["10.99.0.1", "10.99.0.2"], ["2001:db8:99::1", "2001:db8:99::2"]];
const PORTS: [u16; 5] = [80, 443, 21, 5060, 2000];

fn address(is_v6: bool, n: usize) -> IpAddr {
    let n = 11 + n;
    ip(&if is_v6 { format!("2001:db8:2::{n}") } else { format!("10.0.2.{n}") })
}

fn server(dice: &mut Dice, key: ServiceKey, n: usize) -> RealServer {
    let method = dice.of(&METHODS);
    let is_v6 = !key.ip().is_ipv4();
    // Only a tunnel leads into the other version; another method is a mistake that nobody can make by the socket.
    let crosses = dice.one_in(if method == ForwardingMethod::Tunnel { 4 } else { 40 });
    let port = match method {
        ForwardingMethod::Nat => dice.of(&[8080, 0, key.port()]),
        _ => key.port(),
    };
    let tunnel = match (method, dice.below(4)) {
        (ForwardingMethod::Tunnel, 0) => Tunnel::Gre { checksum: true },
        (ForwardingMethod::Tunnel, 1) => Tunnel::Gre { checksum: false },
        (ForwardingMethod::Tunnel, 2) => {
            Tunnel::Gue { port: 6080.try_into().unwrap(), checksum: GueChecksum::None }
        }
        _ => Tunnel::Ipip,
    };
    RealServer {
        address: SocketAddr::new(address(is_v6 != crosses, n), port),
        method,
        tunnel,
        weight: Weight(dice.of(&[0, 1, 1, 1, 2, 3, 100])),
        thresholds: if dice.one_in(4) {
            Thresholds { upper: dice.below(4) as u32, lower: 0 }
        } else {
            Thresholds::default()
        },
    }
}

fn service(dice: &mut Dice, key: ServiceKey) -> Service {
    let how_many = dice.of(&[0, 1, 2, 3, 5, 20]);
    let none_has_weight = dice.one_in(10);
    let mut servers: Vec<RealServer> = (0..how_many).map(|n| server(dice, key, n)).collect();
    if none_has_weight {
        servers.iter_mut().for_each(|server| server.weight = Weight(0));
    }
    let is_sip = key.protocol() == Some(Protocol::Udp) && key.port() == 5060;
    let persistence = (key.port() == 0 && !key.is_mark() || dice.one_in(3)).then(|| Persistence {
        timeout: Duration::from_secs(dice.of(&[1, 30, 300])),
        granularity: if key.ip().is_ipv4() { dice.of(&[24, 32]) } else { dice.of(&[64, 128]) },
        engine: if is_sip { PersistenceEngine::Sip } else { PersistenceEngine::None },
    });
    Service {
        key,
        scheduler: dice.of(&SCHEDULERS),
        flags: SchedulerFlags { fallback: dice.one_in(2), port: dice.one_in(2) },
        persistence,
        one_packet: key.protocol() != Some(Protocol::Tcp) && dice.one_in(5),
        servers,
    }
}

fn rules(dice: &mut Dice) -> MarkRules {
    if !dice.one_in(3) {
        return MarkRules::default();
    }
    let rule = |mark: u32| MarkRule {
        mark: Mark(NonZeroU32::new(mark).unwrap()),
        protocol: None,
        sources: Vec::new(),
        destinations: Vec::new(),
        source_ports: Vec::new(),
        destination_ports: Vec::new(),
        ingress: None,
        dscp: None,
    };
    let vip = |dice: &mut Dice| {
        let which = dice.below(2);
        let length = if which == 0 { 32 } else { 128 };
        format!("{}/{length}", dice.of(&VIPS[which])).parse().unwrap()
    };
    let mut all = Vec::new();
    for mark in 1..=2 {
        let mut rule = rule(mark);
        rule.destinations = vec![vip(dice)];
        match dice.below(4) {
            0 => rule.destination_ports = vec!["443".parse().unwrap(), "7000-8000".parse().unwrap()],
            1 => rule.dscp = Some(46),
            2 => rule.ingress = Some(dice.below(2) as u8),
            _ => rule.protocol = Some(dice.of(&PROTOCOLS)),
        }
        all.push(rule);
    }
    MarkRules::new(all)
}

fn settings(dice: &mut Dice) -> Settings {
    Settings {
        sloppy_tcp: dice.one_in(5),
        sloppy_sctp: dice.one_in(5),
        expire_nodest_conn: dice.one_in(3),
        expire_quiescent_template: dice.one_in(3),
        conn_reuse_mode: dice.of(&[0, 1, 1, 2, 3]),
        drop_packet: dice.of(&[0, 0, 0, 3, 1]),
        am_droprate: dice.of(&[2, 10]),
        secure_tcp: dice.of(&[0, 0, 3]),
        amemthresh: 3,
        mss_clamp: dice.one_in(3),
        cache_bypass: dice.one_in(3),
        nat_icmp_send: dice.one_in(3),
        pmtu_disc: !dice.one_in(3),
        lblc_expiration: Duration::from_secs(dice.of(&[1, 1000])),
        lblcr_expiration: Duration::from_secs(dice.of(&[1, 1000])),
        ..Settings::default()
    }
}

fn world(dice: &mut Dice) -> World {
    let mut services: BTreeMap<ServiceKey, Service> = BTreeMap::new();
    for _ in 0..1 + dice.below(5) {
        let version = dice.below(3) / 2;
        let mut key = match dice.below(6) {
            0 => format!("mark {}{}", 1 + dice.below(2), ["", "/ipv6"][version]).parse().ok(),
            _ => None,
        };
        if key.is_none() {
            let (vip, port) = (ip(dice.of(&VIPS[version])), dice.of(&[80, 80, 443, 21, 5060, 0]));
            key = Some(ServiceKey::Address {
                protocol: dice.of(&PROTOCOLS),
                address: SocketAddr::new(vip, port),
            });
        }
        let Some(key) = key else { continue };
        services.insert(key, service(dice, key));
    }
    let shape = Shape {
        lcores: dice.of(&[1, 1, 2, 3]),
        capacity: dice.of(&[3, 8, 1000]),
        templates: dice.of(&[2, 1000]),
    };
    let rules = rules(dice);
    let mut world = World::marking(services.into_values().collect(), rules, shape);
    world.settings = settings(dice);
    world.publish();
    world
}

/// Something else happens between two packets.
fn happen(dice: &mut Dice, world: &mut World) {
    match dice.below(12) {
        0 => world.wait(dice.of(&[1, 500, 3_000, 70_000, 400_000])),
        1 => {
            world.expire();
        }
        2 => {
            let link = IfIndex(10 + dice.below(2) as u32);
            let link = world.view.links.get_mut(&link).unwrap();
            link.mtu = dice.of(&[1500, 1500, 1280, 576]);
            world.publish();
        }
        3 => {
            let link = IfIndex(10 + dice.below(2) as u32);
            let is_up = !dice.one_in(3);
            world.view.links.get_mut(&link).unwrap().up = is_up;
            world.publish();
        }
        4 => {
            let version = dice.one_in(3);
            let n = dice.below(5);
            let address = address(version, n);
            world.view.neighbours.remove(&Neighbour { link: IfIndex(11), ip: address });
            world.publish();
        }
        5 | 6 => {
            let Some(key) = some_service(dice, world) else { return };
            let weights: Vec<u16> = (0..20).map(|_| dice.of(&[0, 1, 1, 4])).collect();
            world.edit(key, |service| {
                for (server, weight) in service.servers.iter_mut().zip(weights) {
                    server.weight = Weight(weight);
                }
            });
        }
        7 => {
            let Some(key) = some_service(dice, world) else { return };
            let at = dice.below(20);
            world.edit(key, |service| {
                if at < service.servers.len() {
                    service.servers.remove(at);
                }
            });
        }
        8 if dice.one_in(4) => {
            let Some(key) = some_service(dice, world) else { return };
            world.services.remove(&key);
            world.publish();
        }
        9 if dice.one_in(3) => {
            // The director has a real server's address.
            let (n, version) = (dice.below(3), dice.one_in(3));
            let ip = address(version, n);
            let local = director::nexthop::Address { link: IfIndex(11), ip, prefix_len: 32 };
            world.view.addresses.push(local);
            world.publish();
        }
        _ => {}
    }
}

fn some_service(dice: &mut Dice, world: &World) -> Option<ServiceKey> {
    let all: Vec<ServiceKey> = world.services.keys().copied().collect();
    (!all.is_empty()).then(|| dice.of(&all))
}

fn packet(dice: &mut Dice, world: &World) -> PacketSketch {
    let version = dice.below(3) / 2;
    let client = ip(dice.of(&[
        ["10.0.1.1", "10.0.1.1", "10.0.1.1", "10.0.1.7", "192.0.2.9"],
        ["2001:db8:1::1", "2001:db8:1::1", "2001:db8:1::1", "2001:db8:1::7", "2001:db8:ffff::9"],
    ][version]));
    let client = SocketAddr::new(client, dice.of(&[30_000, 30_001, 30_002, 40_000, 20]));
    let vip = SocketAddr::new(ip(dice.of(&VIPS[version])), dice.of(&PORTS));
    let mut sketch = sketch(dice.of(&PROTOCOLS), client, vip);
    if let Some(key) = some_service(dice, world).filter(|_| !dice.one_in(4)) {
        // Toward a service that there is, most often.
        sketch.protocol = key.protocol().unwrap_or(sketch.protocol);
        if let ServiceKey::Address { address, .. } = key
            && address.is_ipv4() == client.is_ipv4()
        {
            let port = if address.port() == 0 { dice.of(&PORTS) } else { address.port() };
            sketch.to = SocketAddr::new(address.ip(), port);
        }
        if dice.one_in(4)
            && let Some(server) = world.services[&key].servers.first()
            && server.address.is_ipv4() == client.is_ipv4()
        {
            // From a real server, which may be asked or not.
            let servers = &world.services[&key].servers;
            let from = dice.of(servers).address;
            let port = if from.port() == 0 { sketch.to.port() } else { from.port() };
            (sketch.from, sketch.to) = (SocketAddr::new(from.ip(), port), client);
            if from.is_ipv4() != client.is_ipv4() {
                sketch.from = vip;
            }
        }
    }
    if !dice.one_in(3) {
        sketch.flags = Some(dice.of(&[
            vec![TcpFlag::Syn],
            vec![TcpFlag::Syn],
            vec![TcpFlag::Ack],
            vec![TcpFlag::Ack],
            vec![TcpFlag::Syn, TcpFlag::Ack],
            vec![TcpFlag::Fin, TcpFlag::Ack],
            vec![TcpFlag::Rst],
        ]));
        sketch.chunk =
            Some(dice.of(&[SctpChunk::Init, SctpChunk::Data, SctpChunk::Abort, SctpChunk::CookieEcho]));
    }
    if dice.one_in(3) {
        sketch.size = Some(dice.of(&[600, 1281, 1400, 1500]));
        sketch.df = dice.of(&[None, Some(true), Some(false)]);
    }
    if dice.one_in(8) {
        sketch.ttl = Some(dice.of(&[1, 2]));
    }
    if dice.one_in(3) {
        sketch.dscp = Some(46);
    }
    if dice.one_in(2) {
        sketch.port = Some(dice.below(2) as u8);
    }
    if dice.one_in(2) {
        sketch.call_id = Some(dice.of(&["one", "two"]).to_owned());
    }
    sketch
}

/// Without what the director makes up for each packet anew: the identification of those that it makes itself.
fn comparable(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame.get(12..14) == Some(&[0x08, 0x00]) {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    frame
}

/// Lets a frame come to an lcore, which may hand it over. What became of it, and on which lcore.
fn send(world: &mut World, mut lcore: usize, port: PortId, frame: &[u8]) -> (Outcome, usize) {
    let (mut packets, mut arrival) = ([BytesPacket::new(frame)], Arrival::Port(port));
    loop {
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        let pipeline = &mut world.pipelines[lcore];
        pipeline.process(&world.snapshot, world.now, arrival, &mut packets, &mut verdicts);
        match verdicts[0].action {
            Action::HandOver(owner) => (lcore, arrival) = (owner.0.into(), Arrival::Ring),
            _ => return (Outcome::of(verdicts[0], &packets[0]), lcore),
        }
    }
}

/// What is counted of each real server.
fn totals(world: &World) -> Vec<ServerTotals> {
    (0..SERVERS).map(|n| world.fleet.totals(ServerId(n))).collect()
}

/// All that a question might have changed and that can be seen.
#[derive(Debug, PartialEq)]
struct State {
    connections: Vec<String>,
    templates: Vec<String>,
    loads: Vec<(u64, u64)>,
    totals: Vec<ServerTotals>,
}

fn state(world: &World) -> State {
    let mut templates: Vec<String> =
        world.templates.list(world.now).iter().map(|template| format!("{template:?}")).collect();
    templates.sort();
    let loads = (0..SERVERS).map(|n| world.fleet.connections(ServerId(n))).collect();
    State { connections: world.connections(), templates, loads, totals: totals(world) }
}

#[test]
fn what_is_explained_happens() {
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let (mut told, mut schedulers) = (0, BTreeMap::<String, usize>::new());
    for seed in 1..=WORLDS {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut world = world(&mut dice);
        for n in 0..PACKETS {
            if dice.one_in(3) {
                happen(&mut dice, &mut world);
            }
            let asked = packet(&mut dice, &world);
            let here = format!("world {seed}, packet {n}: {asked:?}");
            // Templates that are over are swept now rather than when they are listed below.
            world.templates.list(world.now);
            let before = state(&world);
            let said = explain(&world, &asked);
            let (frame, rehearsed) = rehearse(&world, &asked);
            assert_eq!(before, state(&world), "a question changes nothing, {here}");

            let is_kernels = world.snapshot.local_nat && world.snapshot.hops.is_local(asked.from.ip());
            let outcome = if is_kernels {
                world.kernel_sends(&frame)
            } else {
                let port = PortId(said.packet.port.unwrap());
                let receiver = dice.below(world.pipelines.len());
                let (outcome, decided) = send(&mut world, receiver, port, &frame);
                let is_owned = said.steps.iter().any(|s| s.step == "owner" && s.finding.starts_with("lcore"));
                assert!(!is_owned || decided == usize::from(said.lcore), "{here}");
                Some(outcome)
            };
            assert_eq!(outcome.is_some(), rehearsed.verdict.is_some(), "{here}\n{said:#?}");
            let Some((outcome, verdict)) = outcome.zip(rehearsed.verdict) else {
                assert_eq!(said.reason, "kernels_own");
                continue;
            };
            assert_eq!(outcome.verdict, verdict, "{here}\n{said:#?}");
            assert_eq!(comparable(&outcome.frame), comparable(rehearsed.packet.bytes()), "{here}\n{said:#?}");
            assert_eq!(said.reason, outcome.verdict.reason.name(), "{here}");

            let after = totals(&world);
            let counted =
                (0..SERVERS).find(|n| after[*n as usize] != before.totals[*n as usize]).map(ServerId);
            assert_eq!(counted, rehearsed.server, "{here}\n{said:#?}");
            if let Some(server) = counted.and_then(|id| world.snapshot.server(id)) {
                let address = SocketAddr::new(server.address, server.port);
                assert_eq!(said.server, Some(address), "{here}");
                if let Some(chosen) = said.candidates.iter().find(|candidate| candidate.chosen) {
                    assert_eq!(chosen.address, address, "{here}");
                    // A template goes before weights, and a connection that gives way to the packet may be what overloads.
                    let is_new = said.steps.iter().any(|step| step.finding == "none is known");
                    assert!(chosen.available || said.template.is_some() || !is_new, "{here}\n{said:#?}");
                    if let Some(step) = said.steps.iter().find(|step| step.step == "scheduler") {
                        let name = step.finding.split(':').next().unwrap().to_owned();
                        *schedulers.entry(name).or_default() += 1;
                    }
                }
            }
            if let Action::Forward(out) | Action::Cut(out) = outcome.verdict.action {
                let hop = said.next_hop.as_ref().unwrap_or_else(|| panic!("{here}\n{said:#?}"));
                let mac: Vec<String> = outcome.frame[..6].iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!((hop.port, hop.mac.clone()), (out.0, Some(mac.join(":"))), "{here}");
            }
            *seen.entry(outcome.verdict.reason.name()).or_default() += 1;
            told += 1;
        }
    }
    println!("{told} packets: {seen:?}\n{schedulers:?}");
    for reason in [
        "request_nat",
        "request_dr",
        "request_tunnel",
        "reply_nat",
        "icmp_time_exceeded",
        "icmp_port_unreachable",
        "icmp_too_big",
        "no_service",
        "no_connection",
        "no_route",
        "table_full",
        "template_table_full",
        "drop_packet",
        "no_call_id",
        "local_server",
        "needs_fragmentation",
    ] {
        assert!(seen.get(reason).is_some_and(|n| *n > 0), "no packet was {reason}: {seen:?}");
    }
    for scheduler in SCHEDULERS {
        assert!(
            schedulers.contains_key(scheduler.word()),
            "{} chose nobody: {schedulers:?}",
            scheduler.word()
        );
    }
}
