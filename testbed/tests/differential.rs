//! The data path against the slow director, step by step on random walks: packets, changes of services and real
//! servers, time. Every verdict and every byte that leaves must be the same.
//!
//! `DIFFERENTIAL_SEED=n` repeats one walk, `DIFFERENTIAL_STEPS=n` says how long walks are.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use control::model::{
    Family, ForwardingMethod, Mark, MarkRule, Persistence, PersistenceEngine, Prefix, Protocol, RealServer,
    Scheduler, SchedulerFlags, Service, ServiceKey, Settings, Thresholds, Tunnel, Weight,
};
use director::connection::ConnectionTable;
use director::pipeline::{Action, Verdict};
use director::scheduler::Load as _;
use director::service::MarkRules;
use director::stats::Reason;
use director::time::Tick;
use testbed::bottle::Bottle;
use testbed::oracle::director::{Connection, Ends};
use testbed::oracle::packet::{ICMP, ICMPV6, Packet, SCTP, TCP, UDP};
use testbed::oracle::{Decision, Director, network};

const STEPS: u64 = 90_000;
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

/// Where services may be persistent by Call-ID.
const SIP: u16 = 5060;
const LCORES: usize = 3;
const SCHEDULERS: [Scheduler; 10] = [
    Scheduler::Rr,
    Scheduler::Wrr,
    Scheduler::Lc,
    Scheduler::Wlc,
    Scheduler::Sed,
    Scheduler::Nq,
    Scheduler::Fo,
    Scheduler::Ovf,
    Scheduler::Sh,
    Scheduler::Dh,
];
const METHODS: [ForwardingMethod; 3] =
    [ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel];

/// Random numbers that a seed repeats (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// The connections of a table, those included whose time is over.
fn of<A: director::connection::Address>(table: &ConnectionTable<A>) -> Vec<Ends> {
    let live = (0..table.places()).filter_map(|place| table.live_at(place));
    let ends = live.map(|(_, c)| {
        let end = |ip: A, port| SocketAddr::new(ip.into(), port);
        (c.protocol, end(c.client, c.client_port), end(c.virtual_address, c.virtual_port))
    });
    ends.collect()
}

/// What a verdict comes to.
fn decision(verdict: Verdict, frame: Vec<u8>, own: bool) -> Decision {
    match verdict.action {
        // In pieces that `forward::pieces` is tested for by itself.
        Action::Forward(port) | Action::Cut(port) => Decision::Send { port: port.0, frame, own },
        Action::Punt => Decision::Punt,
        Action::Drop => Decision::Drop,
        Action::Hold(_) | Action::HandOver(_) | Action::Gather(_) => {
            panic!("{verdict:?}: everybody is a neighbour, and owned by one")
        }
    }
}

/// Without what nobody goes by: padding behind the packet, and the number that the director gives its own packets.
fn in_essence(decision: Decision) -> Decision {
    let Decision::Send { port, mut frame, own } = decision else { return decision };
    let is_v4 = frame[12..14] == [8, 0];
    let (at, more) = if is_v4 { (16, 14) } else { (18, 54) };
    frame.truncate(more + usize::from(u16::from_be_bytes([frame[at], frame[at + 1]])));
    if own && is_v4 {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
    }
    Decision::Send { port, frame, own }
}

struct Walk {
    dice: Dice,
    subject: Bottle,
    oracle: Director,
    now: u64,
    /// Fragments that are on their way.
    pieces: Vec<(u8, Packet)>,
    log: Vec<String>,
}

fn keys() -> Vec<ServiceKey> {
    let key = |protocol, n, v6, port| ServiceKey::Address {
        protocol,
        address: SocketAddr::new(network::vip(n, v6), port),
    };
    vec![
        key(Protocol::Tcp, 1, false, 80),
        key(Protocol::Udp, 1, false, 53),
        key(Protocol::Tcp, 2, false, 0),
        key(Protocol::Tcp, 2, false, 80),
        key(Protocol::Tcp, 1, true, 80),
        key(Protocol::Udp, 1, true, 53),
        key(Protocol::Udp, 2, false, SIP),
        key(Protocol::Udp, 2, true, SIP),
        key(Protocol::Sctp, 1, false, 3868),
        key(Protocol::Sctp, 1, true, 3868),
        marked("mark 1"),
        marked("mark 1/ipv6"),
        marked("mark 2"),
    ]
}

/// Where a service by address is.
fn key_end(key: ServiceKey) -> SocketAddr {
    SocketAddr::new(key.ip(), key.port())
}

fn marked(text: &str) -> ServiceKey {
    text.parse().expect("a key")
}

/// Mark 1 is several ports of several protocols, mark 2 what comes in a certain way, also to an address that has
/// services by itself; mark 3 has no service.
fn rules() -> Vec<MarkRule> {
    let rule = |mark, protocol, destinations: &[IpAddr], ports: &[&str]| MarkRule {
        mark: Mark(NonZeroU32::new(mark).expect("no mark is 0")),
        protocol,
        sources: Vec::new(),
        destinations: destinations
            .iter()
            .filter_map(|ip| Prefix::of(*ip, if ip.is_ipv4() { 32 } else { 128 }))
            .collect(),
        source_ports: Vec::new(),
        destination_ports: ports.iter().map(|text| text.parse().expect("a range")).collect(),
        ingress: None,
        dscp: None,
    };
    let (tcp, udp) = (Some(Protocol::Tcp), Some(Protocol::Udp));
    let both = [network::vip(3, false), network::vip(3, true)];
    let (one, two, four) = ([network::vip(1, false)], [network::vip(2, false)], [network::vip(3, false)]);
    let client = Prefix::of(network::client(4, false), 31).expect("at most 32 bits");
    vec![
        MarkRule { sources: vec![client], ..rule(3, tcp, &one, &[]) },
        MarkRule { ingress: Some(1), ..rule(1, tcp, &both, &["81"]) },
        MarkRule { ingress: Some(0), ..rule(2, tcp, &four, &["81"]) },
        MarkRule { dscp: Some(46), ..rule(2, tcp, &two, &[]) },
        rule(1, tcp, &both, &["80", "440-450"]),
        rule(1, udp, &both, &["53"]),
        rule(1, None, &both, &["3868"]),
    ]
}

impl Walk {
    fn new(seed: u64) -> Walk {
        let mut walk = Walk {
            dice: Dice(seed),
            subject: Bottle::new(LCORES, 2000, Tick(Walk::START as u32)).marking(MarkRules::new(rules())),
            oracle: Director::default(),
            now: Walk::START,
            pieces: Vec::new(),
            log: Vec::new(),
        };
        walk.oracle.rules = rules();
        for key in keys() {
            walk.replace(key);
        }
        walk
    }

    /// Near the end of a clock of 32 bits.
    const START: u64 = u32::MAX as u64 - 500_000;

    fn tick(&self) -> Tick {
        Tick(self.now as u32)
    }

    fn set(&mut self, key: ServiceKey, service: Option<Service>) {
        self.log.push(format!("set {key}: {service:?}"));
        self.recount();
        self.oracle.set_service(key, service.as_ref());
        match service {
            Some(service) => drop(self.subject.services.insert(key, Arc::new(service))),
            None => drop(self.subject.services.remove(&key)),
        }
        self.subject.publish();
    }

    fn real_server(&mut self, key: ServiceKey) -> RealServer {
        let method = self.dice.pick(&METHODS);
        let v6 = key.ip().is_ipv6() != (method == ForwardingMethod::Tunnel && self.dice.one_in(2));
        let port = match method {
            _ if key.is_mark() => self.dice.pick(&[0, 0, 80, 8080]),
            ForwardingMethod::Nat if key.port() != 0 => self.dice.pick(&[key.port(), 8080]),
            _ => key.port(),
        };
        let upper = if self.dice.one_in(5) { 1 + self.dice.below(6) as u32 } else { 0 };
        RealServer {
            address: SocketAddr::new(network::server(1 + self.dice.below(4) as u8, v6), port),
            method,
            weight: Weight(self.dice.pick(&[0, 1, 1, 2, 3, 6])),
            tunnel: Tunnel::default(),
            thresholds: Thresholds { upper, lower: if upper > 2 { self.dice.below(3) as u32 } else { 0 } },
        }
    }

    /// Another service in the place of what there is.
    fn replace(&mut self, key: ServiceKey) {
        let scheduler = self.dice.pick(&SCHEDULERS);
        let has_flags = scheduler == Scheduler::Sh;
        let flags = SchedulerFlags {
            fallback: has_flags && self.dice.one_in(2),
            port: has_flags && self.dice.one_in(2),
        };
        let must_persist = key.port() == 0 && !key.is_mark();
        let persistent = must_persist || key.port() == SIP || self.dice.one_in(3);
        let granularity = if key.ip().is_ipv4() { [24, 32] } else { [64, 128] };
        let persistence = persistent.then(|| {
            let timeout = Duration::from_secs(self.dice.pick(&[5, 60, 360]));
            let persistence = Persistence::of_clients(timeout, self.dice.pick(&granularity));
            let by_call = key.port() == SIP || key.is_mark() && self.dice.one_in(4);
            if !by_call || self.dice.one_in(4) {
                return persistence;
            }
            let granularity = self.dice.pick(&[0, persistence.granularity]);
            Persistence { granularity, engine: PersistenceEngine::Sip, ..persistence }
        });
        let mut service = Service {
            key,
            scheduler,
            flags,
            persistence,
            one_packet: key.protocol().is_none_or(|protocol| protocol == Protocol::Udp)
                && self.dice.one_in(if key.port() == SIP { 2 } else { 4 }),
            servers: Vec::new(),
        };
        for _ in 0..self.dice.below(5) {
            let server = self.real_server(key);
            if service.servers.iter().all(|other| other.address != server.address) {
                service.servers.push(server);
            }
        }
        self.set(key, Some(service));
    }

    fn change(&mut self) {
        let key = self.dice.pick(&keys());
        let Some(service) = self.subject.services.get(&key) else { return self.replace(key) };
        let mut service = Service::clone(service);
        match self.dice.below(8) {
            0 => return self.replace(key),
            1 => return self.set(key, None),
            2 | 3 => {
                let server = self.real_server(key);
                if service.servers.iter().all(|other| other.address != server.address) {
                    service.servers.push(server);
                }
            }
            4 if !service.servers.is_empty() => {
                let at = self.dice.below(service.servers.len() as u64) as usize;
                service.servers.remove(at);
            }
            5 => {
                let settings = Settings {
                    sloppy_tcp: self.dice.one_in(3),
                    sloppy_sctp: self.dice.one_in(3),
                    expire_nodest_conn: self.dice.one_in(3),
                    expire_quiescent_template: self.dice.one_in(3),
                    conn_reuse_mode: self.dice.below(4) as u8,
                    nat_icmp_send: self.dice.one_in(3),
                    pmtu_disc: !self.dice.one_in(3),
                    ..Settings::default()
                };
                self.log.push(format!("{settings:?}"));
                (self.subject.settings, self.oracle.settings) = (settings, settings);
                return self.subject.publish();
            }
            _ if !service.servers.is_empty() => {
                let at = self.dice.below(service.servers.len() as u64) as usize;
                service.servers[at].weight = Weight(self.dice.pick(&[0, 1, 2, 4]));
            }
            _ => return,
        }
        self.set(key, Some(service));
    }

    fn pass(&mut self) {
        let long = self.dice.pick(&[1, 10, 100, 1000, 1000, 3000, 10_000, 35_000, 61_000, 130_000, 400_000]);
        self.now += 1 + self.dice.below(long);
        self.log.push(format!("{} ms", self.now - Walk::START));
        let tick = self.tick();
        self.subject.expire(tick);
    }

    fn recount(&mut self) {
        let pipelines = &self.subject.pipelines;
        self.oracle.forget(self.now, || {
            pipelines.iter().flat_map(|p| [of(p.tables().ipv4()), of(p.tables().ipv6())]).flatten().collect()
        });
        let (compiler, fleet) = (&self.subject.compiler, &self.subject.fleet);
        let counted =
            |key, server| compiler.server_id(key, server).map_or((0, 0), |id| fleet.connections(id));
        if let Some(wrong) = self.oracle.recount(self.now, counted) {
            self.fail(&wrong);
        }
        for (key, server, overloaded) in self.oracle.overloads() {
            let id = self.subject.compiler.server_id(key, server).expect("a real server of a service");
            let service = &self.subject.services[&key];
            let limited = service.servers.iter().any(|s| s.address == server && s.thresholds.any());
            if limited && self.subject.fleet.is_overloaded(id) != overloaded {
                self.fail(&format!("{key} {server} should be overloaded: {overloaded}"));
            }
        }
    }

    fn fail(&self, why: &str) -> ! {
        let last = self.log.len().saturating_sub(number("DIFFERENTIAL_LOG").unwrap_or(30) as usize);
        panic!("{why}\n--- the last steps:\n{}", self.log[last..].join("\n"));
    }

    fn segment(&mut self, source: SocketAddr, destination: SocketAddr, protocol: u8) -> Packet {
        let mut packet = Packet::between(source.ip(), destination.ip(), protocol);
        packet.payload.extend(source.port().to_be_bytes());
        packet.payload.extend(destination.port().to_be_bytes());
        let room =
            if self.dice.one_in(12) { 1400 + self.dice.below(120) } else { self.dice.below(40) } as usize;
        let speaks =
            protocol == UDP && ([source.port(), destination.port()].contains(&SIP) || self.dice.one_in(3));
        let room = room.max(if speaks { 16 } else { 0 }).min(network::MTU + 20 - packet.len() - 20);
        if protocol == TCP {
            let flags = self.dice.pick(&[2, 2, 2, 16, 16, 24, 17, 4, 18, 20, 0]);
            packet.payload.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
        } else if protocol == SCTP {
            let chunk = self.dice.pick(&[1, 1, 1, 1, 2, 10, 10, 11, 0, 3, 5, 7, 8, 14, 9, 6, 192]);
            packet.payload.extend([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0, chunk, 0]);
            packet.payload.extend(((4 + room) as u16).to_be_bytes());
        } else {
            packet.payload.extend(((8 + room) as u16).to_be_bytes());
            packet.payload.extend([0, 0]);
        }
        let begin = packet.payload.len();
        packet.payload.extend((0..room).map(|n| n as u8));
        if speaks {
            let text = self.message();
            packet.payload[begin..].iter_mut().zip(text.bytes()).for_each(|(byte, text)| *byte = text);
        }
        if protocol == SCTP && room < 100 && self.dice.one_in(8) {
            packet.payload.resize(packet.payload.len().next_multiple_of(4), 0);
            packet.payload.extend([self.dice.pick(&[6, 3, 0]), 0, 0, 4]);
        }
        packet.sum_up();
        if protocol == UDP && self.dice.one_in(6) {
            packet.set_word(6, 0);
        }
        self.seal(&mut packet);
        packet
    }

    /// A message of SIP: of one of a few calls, short or long, right or not.
    fn message(&mut self) -> String {
        let before = self.dice.pick(&["", "", "", "To: b\r\n", "To: b\r\n i: 7\r\n", "\r\n", "i:\r\n"]);
        let name = self.dice.pick(&["i:", "i:", "i:", "Call-ID: ", "call-id :\t", "I: \r\n ", "id:", ""]);
        let call = self.dice.pick(&["1", "1", "2", "2", "3", "A@x", "a@x", "1 1"]);
        let end = self.dice.pick(&["\r\n", "\r\n", "\r\n", "\n", "\r", "", " \r\n\r\n"]);
        format!("A\r\n{before}{name}{call}{end}")
    }

    /// A real server calls somebody.
    fn call(&mut self) -> Option<(u8, Packet)> {
        let key = self.dice.pick(&[false, true].map(|v6| ServiceKey::Address {
            protocol: Protocol::Udp,
            address: SocketAddr::new(network::vip(2, v6), SIP),
        }));
        let servers = &self.subject.services.get(&key)?.servers;
        let server = self
            .dice
            .pick(&servers.iter().map(|server| server.address).chain([key_end(key)]).collect::<Vec<_>>());
        if server.is_ipv4() != key.ip().is_ipv4() {
            return None;
        }
        let client = network::client(1 + self.dice.below(5) as u8, server.is_ipv6());
        let port = self.dice.pick(&[30_001, 30_002, 30_003]);
        Some((1, self.segment(server, SocketAddr::new(client, port), UDP)))
    }

    /// What a sender chooses of the IP header.
    fn seal(&mut self, packet: &mut Packet) {
        packet.ttl = if self.dice.one_in(25) { self.dice.below(3) as u8 } else { 64 };
        packet.tos = self.dice.pick(&[0, 0, 0x10, 0xb9, 3]);
        packet.df = packet.source.is_ipv6() || self.dice.one_in(2);
        packet.id = if packet.source.is_ipv6() { 0 } else { self.dice.roll() as u16 };
    }

    /// A packet of a client: to a service, or near one.
    fn request(&mut self) -> (u8, Packet) {
        let key = self.dice.pick(&keys());
        let (vip, protocol, port) = match key {
            ServiceKey::Address { protocol, address } => (address.ip(), protocol, address.port()),
            ServiceKey::Mark { family, .. } => {
                let vip = network::vip(3, family == Family::Ipv6);
                let all = [(Protocol::Udp, 53), (Protocol::Sctp, 3868), (Protocol::Tcp, 80)];
                let tcp = [81, 443, 451].map(|port| (Protocol::Tcp, port));
                let (protocol, port) = self.dice.pick(&[all, tcp].concat());
                (vip, protocol, port)
            }
        };
        let protocol = match protocol {
            Protocol::Tcp => TCP,
            Protocol::Udp => UDP,
            Protocol::Sctp => SCTP,
        };
        let port = match port {
            0 => self.dice.pick(&[80, 443, 7]),
            port if self.dice.one_in(30) => port + 1,
            port => port,
        };
        let client = network::client(1 + self.dice.below(5) as u8, vip.is_ipv6());
        let port_of_client = self.dice.pick(&[20, 30_001, 30_002, 30_003, 30_004, 30_005]);
        let source = SocketAddr::new(client, port_of_client);
        // Not all clients are on one side.
        let side = u8::from(key.is_mark() && self.dice.one_in(4));
        (side, self.segment(source, SocketAddr::new(vip, port), protocol))
    }

    fn some_connection(&mut self) -> Option<Connection> {
        let all: Vec<&Connection> = self.oracle.connections(self.now).collect();
        if all.is_empty() {
            return None;
        }
        Some(all[self.dice.below(all.len() as u64) as usize].clone())
    }

    /// A packet of a real server: of a connection, or of none.
    fn reply(&mut self) -> Option<(u8, Packet)> {
        let (protocol, client, vip, server, method) = self.some_connection()?.ends();
        let from = match method {
            ForwardingMethod::Nat => server,
            // What the director does not expect to see.
            _ if self.dice.one_in(2) => SocketAddr::new(server.ip(), vip.port()),
            _ => return None,
        };
        if from.is_ipv4() != client.is_ipv4() {
            return None;
        }
        let port = if self.dice.one_in(20) { client.port() + 1 } else { client.port() };
        Some((1, self.segment(from, SocketAddr::new(client.ip(), port), protocol)))
    }

    /// An ICMP error about a packet of a connection, from either side, true or not.
    fn error(&mut self) -> Option<(u8, Packet)> {
        let (protocol, client, vip, server, method) = self.some_connection()?.ends();
        let about_reply = method != ForwardingMethod::Nat || self.dice.one_in(2);
        let (port, source, destination) = if about_reply { (0, vip, client) } else { (1, client, server) };
        let mut about = self.segment(source, destination, protocol);
        about.payload.truncate(if self.dice.one_in(10) { 7 } else { 8 + self.dice.below(60) as usize });
        let v6 = source.is_ipv6();
        let router = match (port, v6) {
            (0, v6) => network::client(1 + self.dice.below(9) as u8, v6),
            (_, v6) => network::server(1 + self.dice.below(9) as u8, v6),
        };
        let to = if self.dice.one_in(15) { network::vip(2, v6) } else { source.ip() };
        let mut packet = Packet::between(router, to, if v6 { ICMPV6 } else { ICMP });
        let (kind, code) = if v6 {
            self.dice.pick(&[(1, 4), (2, 0), (3, 0), (128, 0)])
        } else {
            self.dice.pick(&[(3, 3), (3, 4), (11, 0), (8, 0), (5, 1)])
        };
        packet.payload = vec![kind, code, 0, 0, 0, 0, 5, 0];
        packet.payload.extend(about.ip());
        packet.sum_up();
        self.seal(&mut packet);
        Some((port, packet))
    }

    /// Cuts a packet into fragments, which come in any order; some are lost, some come twice, some lie.
    fn cut(&mut self, port: u8, packet: &Packet) {
        let least = match packet.protocol {
            UDP => 8,
            _ if self.dice.one_in(20) => 8,
            SCTP => 16,
            _ => 24,
        };
        let mut at: Vec<usize> = (0..1 + self.dice.below(3))
            .map(|_| least + self.dice.below(8) as usize * 8)
            .filter(|at| *at < packet.payload.len())
            .collect();
        at.sort_unstable();
        at.dedup();
        if at.is_empty() {
            return;
        }
        let id = self.dice.roll() as u32;
        // Identifications are used again now and then, long before their time is over.
        let id = if self.dice.one_in(10) { id % 4 } else { id };
        for mut piece in packet.cut(&at, if packet.source.is_ipv4() { id & 0xffff } else { id }) {
            if self.dice.one_in(60) {
                let place = piece.piece.as_mut().expect("a fragment");
                place.offset += 8;
            }
            for _ in 0..self.dice.pick(&[0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2]) {
                let place = self.dice.below(1 + self.pieces.len() as u64) as usize;
                self.pieces.insert(place, (port, piece.clone()));
            }
        }
    }

    fn step(&mut self) {
        let (port, packet) = match self.dice.below(100) {
            0..3 => return self.change(),
            3..12 => return self.pass(),
            12..18 => match self.call() {
                Some(packet) => packet,
                None => return,
            },
            18..34 => match self.reply() {
                Some(packet) => packet,
                None => return,
            },
            34..40 => match self.error() {
                Some(packet) => packet,
                None => return,
            },
            40..60 if !self.pieces.is_empty() => {
                let (port, piece) = self.pieces.remove(0);
                if !self.oracle.concerns(piece.source, piece.destination, self.now + 1) {
                    return;
                }
                (port, piece)
            }
            _ => self.request(),
        };
        let is_transport = matches!(packet.protocol, TCP | UDP | SCTP) && packet.piece.is_none();
        if is_transport && self.pieces.len() < 20 && self.dice.one_in(8) {
            return self.cut(port, &packet);
        }
        let mut packet = packet;
        packet.stations[..6].copy_from_slice(&network::DIRECTOR[usize::from(port)]);
        let mut frame = packet.frame();
        if self.dice.one_in(40) {
            // The shortest frames are padded by their senders.
            frame.resize(frame.len().max(60) + self.dice.below(8) as usize, 0xaa);
        }
        // ICMP errors of the director are limited; nobody sends a thousand in a second here.
        self.now += 1;
        self.recount();
        let before = self.oracle.describe(packet.destination);
        let expected = self.oracle.handle(port, &frame, self.now);
        let lcore = self.dice.below(LCORES as u64) as usize;
        let tick = self.tick();
        let ends = self.subject.send(lcore, port, &frame, tick);
        self.log.push(format!(
            "{} port {port} lcore {lcore} {packet:?}\n    {:?}",
            self.now - Walk::START,
            ends.iter().map(|(verdict, _)| verdict).collect::<Vec<_>>()
        ));
        let own: Vec<bool> =
            expected.iter().map(|decision| matches!(decision, Decision::Send { own: true, .. })).collect();
        let expected: Vec<Decision> = expected.into_iter().map(in_essence).collect();
        let own = own.into_iter().chain(std::iter::repeat(false));
        let got: Vec<Decision> = ends
            .into_iter()
            .zip(own)
            .map(|((verdict, out), own)| in_essence(decision(verdict, out, own)))
            .collect();
        if expected != got {
            let show_one = |decision: &Decision| match decision {
                Decision::Send { port, frame, .. } => {
                    format!("port {port} {:?}\n{frame:02x?}", Packet::read(frame))
                }
                other => format!("{other:?}"),
            };
            let show = |all: &[Decision]| all.iter().map(show_one).collect::<Vec<_>>().join("\n         ");
            self.fail(&format!(
                "expected {}\ngot      {}\n{before}\n{:?} now {}",
                show(&expected),
                show(&got),
                self.subject.templates.list(tick),
                self.now
            ));
        }
    }
}

fn walk(seed: u64, steps: u64) {
    println!("seed {seed}: {steps} steps");
    let result = std::panic::catch_unwind(|| {
        let mut walk = Walk::new(seed);
        for _ in 0..steps {
            walk.step();
            if walk.log.len() > 4000 {
                walk.log.drain(..3000);
            }
        }
        let without_call = walk.subject.pipelines.iter().map(|p| p.counters().reason(Reason::NoCallId).get());
        assert!(steps < STEPS || without_call.sum::<u64>() > 100, "hardly a walk by SIP");
        // At last everything ends, and nobody is burdened by it.
        walk.now += 1_000_000;
        let tick = walk.tick();
        walk.subject.expire(tick);
        assert!(walk.subject.pipelines.iter().all(|pipeline| pipeline.tables().is_empty()));
    });
    if let Err(panic) = result {
        eprintln!("DIFFERENTIAL_SEED={seed} DIFFERENTIAL_STEPS={steps} repeats this walk");
        std::panic::resume_unwind(panic);
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn the_data_path_decides_as_the_slow_director_does() {
    let steps = number("DIFFERENTIAL_STEPS").unwrap_or(STEPS);
    if let Some(seed) = number("DIFFERENTIAL_SEED") {
        return walk(seed, steps);
    }
    let fresh =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
    SEEDS.into_iter().chain([fresh]).for_each(|seed| walk(seed, steps));
}
