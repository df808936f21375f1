//! A director without DPDK: packets in, packets out, time by hand. The addresses are those of the
//! usual two-armed lab.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Settings,
    Thresholds, Timeouts, Tunnel, Weight,
};
use director::connection::{Address, Capacity, Connection, Tables};
use director::forward::pieces::cut;
use director::id::{IfIndex, LcoreId, PortId};
use director::nexthop::{self, KernelView, Link, MacAddr, Neighbour, NextHops, PortLink, Route};
use director::packet::{BytesPacket, PacketBuf};
use director::persistence::Templates;
use director::pipeline::{Action, Arrival, MAX_BURST, Pipeline, Verdict};
use director::service::{Compiler, Input, MarkRules, PortInfo, Services, Snapshot};
use director::stats::{Fleet, LcoreCounters, Reason};
use director::time::Tick;

pub const CLIENT_SIDE: PortId = PortId(0);
pub const SERVER_SIDE: PortId = PortId(1);
/// The director's Ethernet addresses.
pub const D0: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xd0]);
pub const D1: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xd1]);
/// The client's, and those of real servers 1, 2, 3 (the last byte is that of the IP address).
pub const C0: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xc0]);

pub fn server_mac(n: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 1, 10 + n])
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Real server 1 is .11 or ::11, and so on.
fn server_ip(network: &str, n: u8) -> IpAddr {
    ip(&format!("{network}{}", 10 + n))
}

/// What the kernel of the lab's director knows.
pub fn kernel_view() -> KernelView {
    let mut view = KernelView::default();
    for (index, name, mac) in [(10, "dir0", D0), (11, "dir1", D1)] {
        view.links.insert(
            IfIndex(index),
            Link { name: name.into(), mac: Some(mac), mtu: 1500, up: true, vlan: None },
        );
    }
    for (index, address, prefix_len) in [
        (10, "10.0.1.254", 24),
        (10, "10.99.0.1", 32),
        (10, "10.99.0.2", 32),
        (11, "10.0.2.254", 24),
        (10, "2001:db8:1::fe", 64),
        (10, "2001:db8:99::1", 128),
        (11, "2001:db8:2::fe", 64),
    ] {
        view.addresses.push(nexthop::Address { link: IfIndex(index), ip: ip(address), prefix_len });
    }
    for (index, network, prefix_len) in
        [(10, "10.0.1.0", 24), (11, "10.0.2.0", 24), (10, "2001:db8:1::", 64), (11, "2001:db8:2::", 64)]
    {
        view.routes.push(Route {
            network: ip(network),
            prefix_len,
            link: IfIndex(index),
            gateway: None,
            source: None,
            metric: 0,
            mtu: None,
        });
    }
    for client in ["10.0.1.1", "2001:db8:1::1"] {
        view.neighbours.insert(Neighbour { link: IfIndex(10), ip: ip(client) }, C0);
    }
    for n in 1..=9 {
        for network in ["10.0.2.", "2001:db8:2::"] {
            let neighbour = Neighbour { link: IfIndex(11), ip: server_ip(network, n) };
            view.neighbours.insert(neighbour, server_mac(n));
        }
    }
    view
}

/// A service at `address` with real servers `10.0.2.11`, `.12`, ... or `2001:db8:2::11`, `::12`, ... of these weights.
pub fn service(
    protocol: Protocol,
    address: &str,
    scheduler: Scheduler,
    method: ForwardingMethod,
    server_port: u16,
    weights: &[u16],
) -> Service {
    let address: SocketAddr = address.parse().unwrap();
    let network = if address.is_ipv4() { V4_SERVERS } else { V6_SERVERS };
    Service {
        key: ServiceKey::Address { protocol, address },
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: servers(network, server_port, method, weights),
    }
}

/// The network of real servers with IPv4 addresses.
pub const V4_SERVERS: &str = "10.0.2.";
/// The network of real servers with IPv6 addresses.
pub const V6_SERVERS: &str = "2001:db8:2::";

/// Real servers 1, 2, ... of a network, with these weights.
pub fn servers(network: &str, port: u16, method: ForwardingMethod, weights: &[u16]) -> Vec<RealServer> {
    let server = |(i, weight): (usize, &u16)| RealServer {
        address: SocketAddr::new(server_ip(network, i as u8 + 1), port),
        method,
        weight: Weight(*weight),
        tunnel: Tunnel::default(),
        thresholds: Thresholds::default(),
    };
    weights.iter().enumerate().map(server).collect()
}

/// Options of a [`World`].
#[derive(Clone, Copy)]
pub struct Shape {
    pub lcores: usize,
    pub capacity: u32,
    pub templates: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { lcores: 1, capacity: 10_000, templates: 1000 }
    }
}

/// A director in a bottle.
pub struct World {
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    pub view: KernelView,
    pub timeouts: Timeouts,
    pub compiler: Compiler,
    pub fleet: Fleet,
    pub pipelines: Vec<Pipeline>,
    pub templates: Arc<Templates>,
    pub settings: Settings,
    pub snapshot: Snapshot,
    pub now: Tick,
    /// Fragments that wait, by lcore and slot, with the place that `send_all` gave them.
    waiting: BTreeMap<(usize, usize), BytesPacket>,
}

/// What came of one packet.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
    /// What stands beside the frame for whoever sends it.
    note: u32,
}

impl Outcome {
    pub fn of(verdict: Verdict, packet: &BytesPacket) -> Outcome {
        Outcome { verdict, frame: packet.bytes().to_vec(), note: packet.note() }
    }

    /// The frames that leave.
    pub fn leaving(&self) -> Vec<Vec<u8>> {
        match self.verdict.action {
            Action::Forward(_) => vec![self.frame.clone()],
            Action::Cut(_) => {
                let mut pieces = Vec::new();
                let whole = BytesPacket::new(&self.frame);
                cut(&whole, self.note as u16, 0x77, |piece| pieces.push(piece.bytes().to_vec())).unwrap();
                pieces
            }
            other => panic!("{other:?} {:?}", self.verdict.reason),
        }
    }
}

impl World {
    pub fn new(services: Vec<Service>) -> World {
        World::shaped(services, Shape::default())
    }

    pub fn shaped(services: Vec<Service>, shape: Shape) -> World {
        World::marking(services, MarkRules::default(), shape)
    }

    /// One where packets have marks by these rules.
    pub fn marking(services: Vec<Service>, rules: MarkRules, shape: Shape) -> World {
        let lcores = (0..shape.lcores).map(|_| Arc::new(LcoreCounters::new(1024))).collect();
        let fleet = Fleet::new(lcores);
        let templates = Arc::new(Templates::new(shape.templates));
        // Near the end, so that every test also runs over the wrap of the clock's 49 days.
        let now = Tick(u32::MAX - 30_000);
        let pipelines = (0..shape.lcores)
            .map(|n| {
                let capacity = Capacity { ipv4: shape.capacity, ipv6: shape.capacity };
                let tables = Tables::new(capacity, false, now).unwrap();
                Pipeline::new(LcoreId(n as u8), fleet.clone(), tables, templates.clone())
            })
            .collect();
        let mut world = World {
            services: services.into_iter().map(|s| (s.key, Arc::new(s))).collect(),
            view: kernel_view(),
            timeouts: Timeouts::default(),
            compiler: Compiler::new(64, 1024, fleet.clone()).marking(rules),
            fleet,
            pipelines,
            templates,
            settings: Settings::default(),
            snapshot: Compiler::empty_snapshot(1),
            now,
            waiting: BTreeMap::new(),
        };
        world.publish();
        world
    }

    /// Makes changes of `services`, `view`, `timeouts` and `settings` take effect.
    pub fn publish(&mut self) {
        let ports =
            [(10, CLIENT_SIDE), (11, SERVER_SIDE)].map(|(l, port)| PortLink { link: IfIndex(l), port });
        let input = Input {
            services: Services::All(&self.services),
            hops: Arc::new(NextHops::build(Arc::new(self.view.clone()), &ports)),
            ports: vec![PortInfo { mac: D0 }, PortInfo { mac: D1 }],
            timeouts: self.timeouts,
            settings: self.settings,
            quiescent: self.snapshot.version,
        };
        self.snapshot = self.compiler.compile(input).unwrap();
    }

    /// The kernel sends a frame by a port; what became of it on the lcore that owns its connection. Without an outcome it
    /// leaves as it is.
    pub fn kernel_sends(&mut self, frame: &[u8]) -> Option<Outcome> {
        let mut packet = BytesPacket::new(frame);
        let owner = self.pipelines[0].answerer(&self.snapshot, &mut packet)?;
        let owner = &mut self.pipelines[usize::from(owner.0)];
        let verdict = owner.answer(&self.snapshot, self.now, &mut packet)?;
        Some(Outcome::of(verdict, &packet))
    }

    /// Replaces a service's definition, as an edit does.
    pub fn edit(&mut self, key: ServiceKey, change: impl FnOnce(&mut Service)) {
        let mut service = Service::clone(&self.services[&key]);
        change(&mut service);
        self.services.insert(key, Arc::new(service));
        self.publish();
    }

    pub fn wait(&mut self, milliseconds: u32) {
        self.now = self.now.after(milliseconds);
    }

    /// A frame arrives at a port, of the first lcore.
    pub fn send(&mut self, port: PortId, frame: &[u8]) -> Outcome {
        self.send_to_lcore(0, Arrival::Port(port), frame)
    }

    pub fn send_to_lcore(&mut self, lcore: usize, arrival: Arrival, frame: &[u8]) -> Outcome {
        let mut packets = [BytesPacket::new(frame)];
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        self.pipelines[lcore].process(&self.snapshot, self.now, arrival, &mut packets, &mut verdicts);
        Outcome::of(verdicts[0], &packets[0])
    }

    /// Lets the wheel of every lcore come by until nothing is due.
    pub fn expire(&mut self) {
        for pipeline in &mut self.pipelines {
            pipeline.expire(&self.snapshot, self.now, 10_000_000);
        }
    }

    /// Lets frames of one lcore arrive at one moment, and hands them over to whom they belong.
    pub fn send_spread(&mut self, lcore: usize, port: PortId, frame: &[u8]) -> Outcome {
        let outcome = self.send_to_lcore(lcore, Arrival::Port(port), frame);
        match outcome.verdict.action {
            Action::HandOver(owner) => self.send_to_lcore(owner.0.into(), Arrival::Ring, frame),
            _ => outcome,
        }
    }

    /// A frame arrives at a port, of some lcore, and everything that comes of it is done, by whichever lcore: what
    /// became at last of it and of those that had waited for it, in order. Empty where it waits itself.
    pub fn send_all(&mut self, lcore: usize, port: PortId, frame: &[u8]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.follow(lcore, Arrival::Port(port), BytesPacket::new(frame), &mut outcomes);
        outcomes
    }

    fn follow(&mut self, lcore: usize, arrival: Arrival, packet: BytesPacket, outcomes: &mut Vec<Outcome>) {
        let mut packets = [packet];
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        self.pipelines[lcore].process(&self.snapshot, self.now, arrival, &mut packets, &mut verdicts);
        let [packet] = packets;
        match verdicts[0].action {
            Action::HandOver(other) => self.follow(other.0.into(), Arrival::Ring, packet, outcomes),
            Action::Gather(slot) => {
                assert!(self.waiting.insert((lcore, slot.index()), packet).is_none(), "a slot is used twice");
            }
            _ => outcomes.push(Outcome::of(verdicts[0], &packet)),
        }
        while let Some(released) = self.pipelines[lcore].next_gathered() {
            let mut packet = self.waiting.remove(&(lcore, released.slot.index())).unwrap();
            match released.ports {
                Some(ports) => {
                    packet.set_note(ports);
                    self.follow(lcore, Arrival::Gathered, packet, outcomes);
                }
                None => {
                    let verdict = Verdict { reason: Reason::FragmentTimeout, action: Action::Drop };
                    outcomes.push(Outcome::of(verdict, &packet));
                }
            }
        }
    }

    /// Lets the lcores do what they do between bursts; says how many fragments waited in vain.
    pub fn give_up(&mut self) -> usize {
        self.expire();
        let mut lost = 0;
        for lcore in 0..self.pipelines.len() {
            while let Some(released) = self.pipelines[lcore].next_gathered() {
                assert_eq!(released.ports, None);
                self.waiting.remove(&(lcore, released.slot.index())).unwrap();
                lost += 1;
            }
        }
        lost
    }

    /// State, client, virtual address and real server of each connection, sorted.
    pub fn connections(&self) -> Vec<String> {
        fn row<A: Address>(c: &Connection<A>) -> String {
            let end = |ip: A, port| SocketAddr::new(ip.into(), port).to_string();
            let client = end(c.client, c.client_port);
            let service = end(c.virtual_address, c.virtual_port);
            format!("{} {client} {service} {}", c.state.name(), end(c.server_address, c.server_port))
        }
        let mut list = Vec::new();
        for pipeline in &self.pipelines {
            pipeline.tables().ipv4().walk(0, u32::MAX, self.now, |c| {
                list.push(row(c));
                true
            });
            pipeline.tables().ipv6().walk(0, u32::MAX, self.now, |c| {
                list.push(row(c));
                true
            });
        }
        list.sort();
        list
    }

    /// `(active, inactive)` of the n-th real server at a service.
    pub fn load(&self, key: ServiceKey, server: SocketAddr) -> (u64, u64) {
        use director::scheduler::Load;
        self.fleet.connections(self.compiler.server_id(key, server).unwrap())
    }
}
