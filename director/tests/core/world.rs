//! A director without DPDK: packets in, packets out, time by hand. The addresses are those of the
//! usual two-armed lab.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Settings,
    Thresholds, Timeouts, Weight,
};
use director::connection::{ConnectionTable, HashSeed};
use director::id::{IfIndex, LcoreId, PortId};
use director::nexthop::{Address, KernelView, Link, MacAddr, Neighbour, NextHops, PortLink, Route};
use director::packet::{BytesPacket, PacketBuf};
use director::pipeline::{Arrival, MAX_BURST, Pipeline, Verdict};
use director::service::{Compiler, Input, PortInfo, Services, Snapshot};
use director::stats::{Fleet, LcoreCounters};
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

/// What the kernel of the lab's director knows.
pub fn kernel_view() -> KernelView {
    let mut view = KernelView::default();
    for (index, name, mac) in [(10, "dir0", D0), (11, "dir1", D1)] {
        view.links.insert(IfIndex(index), Link { name: name.into(), mac: Some(mac), mtu: 1500, up: true });
    }
    for (index, address, prefix_len) in
        [(10, "10.0.1.254", 24), (10, "10.99.0.1", 32), (10, "10.99.0.2", 32), (11, "10.0.2.254", 24)]
    {
        view.addresses.push(Address { link: IfIndex(index), ip: ip(address), prefix_len });
    }
    for (index, network) in [(10, "10.0.1.0"), (11, "10.0.2.0")] {
        view.routes.push(Route {
            network: ip(network),
            prefix_len: 24,
            link: IfIndex(index),
            gateway: None,
            source: None,
            metric: 0,
            mtu: None,
        });
    }
    view.neighbours.insert(Neighbour { link: IfIndex(10), ip: ip("10.0.1.1") }, C0);
    for n in 1..=9 {
        let neighbour = Neighbour { link: IfIndex(11), ip: ip(&format!("10.0.2.{}", 10 + n)) };
        view.neighbours.insert(neighbour, server_mac(n));
    }
    view
}

/// A service at `address` with real servers `10.0.2.11`, `.12`, ... of these weights.
pub fn service(
    protocol: Protocol,
    address: &str,
    scheduler: Scheduler,
    method: ForwardingMethod,
    server_port: u16,
    weights: &[u16],
) -> Service {
    let server = |(i, weight): (usize, &u16)| RealServer {
        address: SocketAddr::new(ip(&format!("10.0.2.{}", 11 + i)), server_port),
        method,
        weight: Weight(*weight),
        thresholds: Thresholds::default(),
    };
    Service {
        key: ServiceKey { protocol, address: address.parse().unwrap() },
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: weights.iter().enumerate().map(server).collect(),
    }
}

/// Options of a [`World`].
#[derive(Clone, Copy)]
pub struct Shape {
    pub lcores: usize,
    pub capacity: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Shape { lcores: 1, capacity: 10_000 }
    }
}

/// A director in a bottle.
pub struct World {
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    pub view: KernelView,
    pub timeouts: Timeouts,
    pub settings: Settings,
    pub compiler: Compiler,
    pub fleet: Fleet,
    pub pipelines: Vec<Pipeline>,
    pub snapshot: Snapshot,
    pub now: Tick,
}

/// What came of one packet.
#[derive(Debug)]
pub struct Outcome {
    pub verdict: Verdict,
    pub frame: Vec<u8>,
}

impl World {
    pub fn new(services: Vec<Service>) -> World {
        World::shaped(services, Shape::default())
    }

    pub fn shaped(services: Vec<Service>, shape: Shape) -> World {
        let lcores = (0..shape.lcores).map(|_| Arc::new(LcoreCounters::new(1024))).collect();
        let fleet = Fleet::new(lcores);
        // Near the end, so that every test also runs over the wrap of the clock's 49 days.
        let now = Tick(u32::MAX - 30_000);
        let pipelines = (0..shape.lcores)
            .map(|n| {
                let table = ConnectionTable::new(shape.capacity, HashSeed::random(), false, now).unwrap();
                Pipeline::new(LcoreId(n as u8), fleet.clone(), table)
            })
            .collect();
        let mut world = World {
            services: services.into_iter().map(|s| (s.key, Arc::new(s))).collect(),
            view: kernel_view(),
            timeouts: Timeouts::default(),
            settings: Settings::default(),
            compiler: Compiler::new(64, 1024, fleet.clone()),
            fleet,
            pipelines,
            snapshot: Compiler::empty_snapshot(1),
            now,
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
        Outcome { verdict: verdicts[0], frame: packets[0].bytes().to_vec() }
    }

    /// Lets the wheel of every lcore come by until nothing is due.
    pub fn expire(&mut self) {
        for pipeline in &mut self.pipelines {
            pipeline.expire(&self.snapshot, self.now, 10_000_000);
        }
    }

    /// State, real server and seconds left of each connection, sorted.
    pub fn connections(&self) -> Vec<String> {
        let mut list = Vec::new();
        for pipeline in &self.pipelines {
            pipeline.table().walk(0, u32::MAX, self.now, |c| {
                list.push(format!(
                    "{} {}:{} {}:{} {}:{}",
                    c.state.name(),
                    c.client,
                    c.client_port,
                    c.virtual_address,
                    c.virtual_port,
                    c.server_address,
                    c.server_port
                ));
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
