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
use director::service::{Compiler, Input, MarkRules, PortInfo, Services, Snapshot};
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
    /// Fragments that wait, by lcore and slot.
    waiting: BTreeMap<(usize, usize), BytesPacket>,
    given_up: u64,
}

/// Two links, and everybody a neighbour.
fn kernel_view() -> KernelView {
    let mut view = KernelView::default();
    for side in [1u8, 2] {
        let link = IfIndex(side.into());
        let mac = Some(MacAddr(network::DIRECTOR[usize::from(side) - 1]));
        view.links.insert(
            link,
            Link { name: format!("dir{side}"), mac, mtu: network::MTU as u32, up: true, vlan: None },
        );
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
            waiting: BTreeMap::new(),
            given_up: 0,
        };
        bottle.publish();
        bottle
    }

    /// The same, where packets have marks by these rules.
    #[must_use]
    pub fn marking(self, rules: MarkRules) -> Bottle {
        Bottle { compiler: self.compiler.marking(rules), ..self }
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

    /// A frame comes by a port to an lcore, which may hand it over, and that one again where it is a fragment. Returns
    /// the last verdict and the frame as it is then, and those of fragments that had waited for it; nothing where it
    /// waits itself.
    ///
    /// # Panics
    /// When a packet is handed over too often, or a slot is used twice.
    pub fn send(&mut self, lcore: usize, port: u8, frame: &[u8], now: Tick) -> Vec<(Verdict, Vec<u8>)> {
        let mut ends = Vec::new();
        self.follow(lcore, Arrival::Port(PortId(port)), BytesPacket::new(frame), now, 2, &mut ends);
        ends
    }

    /// The kernel sends a frame by a port. What became of it where it is an answer of a real server that is the director
    /// itself.
    pub fn kernel_sends(&mut self, frame: &[u8], now: Tick) -> Option<(Verdict, Vec<u8>)> {
        let mut packet = BytesPacket::new(frame);
        let owner = self.pipelines[0].answerer(&self.snapshot, &mut packet)?;
        let owner = &mut self.pipelines[usize::from(owner.0)];
        let verdict = owner.answer(&self.snapshot, now, &mut packet)?;
        Some((verdict, packet.bytes().to_vec()))
    }

    fn follow(
        &mut self,
        lcore: usize,
        arrival: Arrival,
        packet: BytesPacket,
        now: Tick,
        hand_overs: u8,
        ends: &mut Vec<(Verdict, Vec<u8>)>,
    ) {
        let mut packets = [packet];
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        self.pipelines[lcore].process(&self.snapshot, now, arrival, &mut packets, &mut verdicts);
        let [packet] = packets;
        match verdicts[0].action {
            Action::HandOver(owner) => {
                assert!(hand_overs > 0, "handed over too often");
                self.follow(owner.0.into(), Arrival::Ring, packet, now, hand_overs - 1, ends);
            }
            Action::Gather(slot) => {
                assert!(self.waiting.insert((lcore, slot.index()), packet).is_none(), "a slot is used twice");
            }
            _ => ends.push((verdicts[0], packet.bytes().to_vec())),
        }
        self.release(lcore, now, ends);
    }

    /// Fragments of an lcore wait no longer.
    fn release(&mut self, lcore: usize, now: Tick, ends: &mut Vec<(Verdict, Vec<u8>)>) {
        while let Some(released) = self.pipelines[lcore].next_gathered() {
            let packet = self.waiting.remove(&(lcore, released.slot.index()));
            let mut packet = packet.expect("what is released has waited");
            // Else its time was over: lost, as its fellows are, and nobody's decision.
            match released.ports {
                Some(ports) => {
                    packet.set_note(ports);
                    self.follow(lcore, Arrival::Gathered, packet, now, 1, ends);
                }
                None => self.given_up += 1,
            }
        }
    }

    /// How many fragments waited in vain.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// How many fragments wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Lets the wheels of all lcores come by.
    pub fn expire(&mut self, now: Tick) {
        for pipeline in &mut self.pipelines {
            pipeline.expire(&self.snapshot, now, 1_000_000);
        }
        for lcore in 0..self.pipelines.len() {
            let mut ends = Vec::new();
            self.release(lcore, now, &mut ends);
            assert!(ends.is_empty(), "time alone tells no ports");
        }
    }
}
