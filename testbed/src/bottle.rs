//! A director in a bottle: the data path without ports, with a network where everybody is a neighbour
//! ([`crate::oracle::network`]). For walks and fuzzers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use control::model::{Service, ServiceKey, Settings, Timeouts};
use director::connection::{Capacity, Tables};
use director::id::{IfIndex, LcoreId, PortId};
use director::nexthop::{Address, KernelView, Link, MacAddr, Neighbour, NextHops, PortLink, Route};
use director::packet::{BytesPacket, PacketBuf as _};
use director::persistence::Templates;
use director::pipeline::{Action, Arrival, MAX_BURST, Pipeline, Verdict};
use director::service::{Compiler, Input, PortInfo, Services, Snapshot};
use director::stats::{Fleet, LcoreCounters};
use director::time::Tick;

use crate::oracle::network;

/// The data path of a director without ports, with what it is configured with.
pub struct Bottle {
    /// Virtual services; they take effect with [`Bottle::publish`].
    pub services: BTreeMap<ServiceKey, Arc<Service>>,
    view: Arc<NextHops>,
    /// Makes snapshots.
    pub compiler: Compiler,
    /// Counters.
    pub fleet: Fleet,
    /// One for each lcore.
    pub pipelines: Vec<Pipeline>,
    /// Persistence templates.
    pub templates: Arc<Templates>,
    /// What is in force.
    pub snapshot: Snapshot,
    /// As `services`.
    pub settings: Settings,
    /// As `services`.
    pub timeouts: Timeouts,
}

/// Two links, and everybody a neighbour.
fn kernel_view() -> KernelView {
    let mut view = KernelView::default();
    for side in [1u8, 2] {
        let link = IfIndex(side.into());
        let mac = Some(MacAddr(network::DIRECTOR[usize::from(side) - 1]));
        view.links.insert(link, Link { name: format!("dir{side}"), mac, mtu: network::MTU as u32, up: true });
        for v6 in [false, true] {
            let own = network::own(side, v6);
            let prefix_len = if v6 { 48 } else { 24 };
            view.addresses.push(Address { link, ip: own, prefix_len });
            let network = match own {
                IpAddr::V4(v4) => IpAddr::from([v4.octets()[0], v4.octets()[1], v4.octets()[2], 0]),
                IpAddr::V6(v6) => {
                    let [a, b, c, ..] = v6.segments();
                    IpAddr::from([a, b, c, 0, 0, 0, 0, 0])
                }
            };
            view.routes.push(Route {
                network,
                prefix_len,
                link,
                gateway: None,
                source: None,
                metric: 0,
                mtu: None,
            });
            for n in 1..30 {
                let ip = if side == 1 { network::client(n, v6) } else { network::server(n, v6) };
                let host = if side == 1 { n } else { 10 + n };
                view.neighbours.insert(Neighbour { link, ip }, MacAddr(network::station(side, host)));
            }
        }
    }
    for v6 in [false, true] {
        view.addresses.extend([1, 2].map(|n| Address {
            link: IfIndex(1),
            ip: network::vip(n, v6),
            prefix_len: if v6 { 128 } else { 32 },
        }));
    }
    view
}

impl Bottle {
    /// One without services, with so many lcores and so much room for connections of either family on each.
    ///
    /// # Panics
    /// When there is no memory.
    #[must_use]
    pub fn new(lcores: usize, capacity: u32, now: Tick) -> Bottle {
        let fleet = Fleet::new((0..lcores).map(|_| Arc::new(LcoreCounters::new(256))).collect());
        let templates = Arc::new(Templates::new(1000));
        let pipelines = (0..lcores)
            .map(|n| {
                let tables =
                    Tables::new(Capacity { ipv4: capacity, ipv6: capacity }, false, now).expect("memory");
                Pipeline::new(LcoreId(n as u8), fleet.clone(), tables, Arc::clone(&templates))
            })
            .collect();
        let ports = [1u8, 2].map(|side| PortLink { link: IfIndex(side.into()), port: PortId(side - 1) });
        let mut bottle = Bottle {
            services: BTreeMap::new(),
            view: Arc::new(NextHops::build(Arc::new(kernel_view()), &ports)),
            compiler: Compiler::new(64, 200, fleet.clone()),
            fleet,
            pipelines,
            templates,
            snapshot: Compiler::empty_snapshot(1),
            settings: Settings::default(),
            timeouts: Timeouts::default(),
        };
        bottle.publish();
        bottle
    }

    /// Makes services, settings and timeouts take effect.
    ///
    /// # Panics
    /// When there are no numbers left for real servers.
    pub fn publish(&mut self) {
        let input = Input {
            services: Services::All(&self.services),
            hops: self.view.clone(),
            ports: network::DIRECTOR.map(|mac| PortInfo { mac: MacAddr(mac) }).to_vec(),
            timeouts: self.timeouts,
            settings: self.settings,
            quiescent: self.snapshot.version,
        };
        self.snapshot = self.compiler.compile(input).expect("numbers for real servers");
    }

    /// A frame comes by a port to an lcore, which may hand it over to its owner. Returns the last verdict and the
    /// frame as it is then.
    ///
    /// # Panics
    /// When the owner hands it over again.
    pub fn send(&mut self, lcore: usize, port: u8, frame: &[u8], now: Tick) -> (Verdict, Vec<u8>) {
        let mut arrival = (lcore, Arrival::Port(PortId(port)));
        loop {
            let mut packets = [BytesPacket::new(frame)];
            let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
            self.pipelines[arrival.0].process(&self.snapshot, now, arrival.1, &mut packets, &mut verdicts);
            match verdicts[0].action {
                Action::HandOver(owner) => {
                    assert_eq!(arrival.1, Arrival::Port(PortId(port)), "handed over twice");
                    arrival = (owner.0.into(), Arrival::Ring);
                }
                _ => return (verdicts[0], packets[0].bytes().to_vec()),
            }
        }
    }

    /// Lets the wheels of all lcores come by.
    pub fn expire(&mut self, now: Tick) {
        for pipeline in &mut self.pipelines {
            pipeline.expire(&self.snapshot, now, 1_000_000);
        }
    }
}
