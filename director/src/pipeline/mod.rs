//! The way of a packet through one lcore, in reading order: `classify`, `owner`, `connect`, `open`, `send`; `gather`
//! for fragments, `associate` for SCTP, `relay` for ICMP errors, `ftp` for its control connections, `sip` for its
//! datagrams, `local` for what the kernel answers, `bypass` for what nobody serves. `usual` is the short way of packets
//! about which nothing is out of the ordinary, and `train` takes those of one connection along it together.
//!
//! A burst goes through in stages, so that what a later stage reads is fetched while an earlier one
//! still works on other packets. Pure: bytes, tables and a clock in; one [`Verdict`] for each packet out.

mod associate;
mod bypass;
mod classify;
mod connect;
mod defence;
mod flow;
mod ftp;
mod gather;
mod impression;
mod lane;
mod limit;
mod local;
mod mark;
mod open;
pub mod owner;
pub mod rehearsal;
mod relay;
mod send;
mod sip;
mod train;
mod usual;
mod verdict;
mod way;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use impression::{AnyConnection, Ends, Impression};
pub use limit::RateLimit;
pub use verdict::{Action, Verdict, Wait};

use self::classify::{Classified, Other};
use self::defence::Defence;
use self::flow::Flow;
use self::ftp::Ftp;
use self::lane::{AddressedTo, Lane};
use self::local::KernelFragments;
use self::verdict::CommonPort;
use crate::connection::{Address, Connection, SCTP_PROTOCOL, Tables};
use crate::fragment::Packets;
use crate::id::{LcoreId, PortId};
use crate::nexthop::{MacAddr, Unresolved};
use crate::packet::PacketBuf;
use crate::persistence::Templates;
use crate::service::{ServerId, Snapshot};
use crate::stats::{Fleet, LcoreCounters};
use crate::time::Tick;

/// The most packets that [`Pipeline::process`] takes at a time: enough for what a burst costs by itself, and for the wait at
/// the end of each stage, to be shared by many; few enough that all that is read for them stays in the first cache.
pub const MAX_BURST: usize = 64;

/// Where a burst comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Received by a port.
    Port(PortId),
    /// Handed over by other lcores, which have looked at addresses and owner already.
    Ring,
    /// Fragments that waited for their first one, on this lcore.
    Gathered,
}

/// The packets of IPv4 of a burst that are not usual.
type Flows = [Flow<Ipv4Addr>; MAX_BURST];

/// One lcore's data plane without its ports.
pub struct Pipeline {
    lcore: LcoreId,
    lcores: u8,
    tables: Tables,
    templates: Arc<Templates>,
    counters: Arc<LcoreCounters>,
    fleet: Fleet,
    icmp_limit: RateLimit,
    defence: Defence,
    fragments: Packets,
    ftp: Ftp,
    kernel_fragments: KernelFragments,
    /// Room for the lanes of a burst; elsewhere while one is decided about.
    lanes: Option<Box<[Lane; MAX_BURST]>>,
    /// Next hops that packets of this burst wait for.
    awaited: Vec<Unresolved>,
    /// Identification of packets that the director makes itself.
    next_id: u16,
}

impl Pipeline {
    /// The pipeline of `lcore`, one of those in `fleet`, which share `templates`.
    pub fn new(lcore: LcoreId, fleet: Fleet, tables: Tables, templates: Arc<Templates>) -> Pipeline {
        let counters = fleet.lcores()[usize::from(lcore.0)].clone();
        Pipeline {
            lcore,
            lcores: fleet.lcores().len() as u8,
            tables,
            templates,
            counters,
            fleet,
            icmp_limit: RateLimit::default(),
            defence: Defence::default(),
            fragments: Packets::new(Tick(0)),
            ftp: Ftp::default(),
            kernel_fragments: KernelFragments::default(),
            lanes: Some(Lane::burst()),
            awaited: Vec::with_capacity(MAX_BURST),
            next_id: lcore.0.into(),
        }
    }

    /// Decides about a burst of at most [`MAX_BURST`] packets, rewriting them where the verdict is to
    /// send them. `verdicts[i]` is that of `packets[i]`. Returns the port by which all of them are to be sent, where it is
    /// one.
    pub fn process<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        arrival: Arrival,
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) -> Option<PortId> {
        debug_assert!(packets.len() <= MAX_BURST);
        self.awaited.clear();
        if let Arrival::Port(port) = arrival
            && snapshot.lookup.asks_ingress()
        {
            packets.iter_mut().for_each(|packet| packet.set_ingress(port.0));
        }
        let station = match arrival {
            // A port that the snapshot does not know is not up yet: nothing is addressed to no address.
            Arrival::Port(port) => {
                Some(snapshot.ports.get(usize::from(port.0)).map_or(MacAddr([0; 6]), |info| info.mac))
            }
            Arrival::Ring | Arrival::Gathered => None,
        };
        let mut room = self.lanes.take().unwrap_or_else(Lane::burst);
        let burst = lane::read_burst(self.tables.ipv4(), AddressedTo::new(station), packets, &mut room);
        let lanes = &mut room[..burst.lanes];
        let common = if burst.unusual == 0 {
            self.decide_ipv4(snapshot, now, station.is_some(), None, lanes, packets, verdicts)
        } else {
            self.process_mixed(snapshot, now, (arrival, station), burst.unusual, lanes, packets, verdicts)
        };
        self.lanes = Some(room);
        common.get()
    }

    /// As [`Pipeline::process`], of a burst with packets that are not usual, which `unusual` names, one bit for each.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // called in one place
    fn process_mixed<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        (arrival, station): (Arrival, Option<MacAddr>),
        unusual: u64,
        lanes: &mut [Lane],
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) -> CommonPort {
        let mut flows = [Flow::NONE; MAX_BURST];
        // One bit for each packet that the stages of IPv4 cannot read.
        let mut others = 0u64;
        for (at, (packet, (flow, verdict))) in
            packets.iter().zip(flows.iter_mut().zip(verdicts.iter_mut())).enumerate()
        {
            if unusual & 1 << at == 0 {
                continue;
            }
            flow.is_usual = false;
            let classified = self.classify(station, packet, flow);
            match classified.unwrap_or_else(|| self.classify_for_other(snapshot, arrival, packet, flow)) {
                Classified::Ipv4 => self.tables.ipv4().prefetch_bucket(flow.hash),
                Classified::Other => others |= 1 << at,
                Classified::Decided(decided) => self.decide(verdict, decided),
            }
        }
        if others != 0 {
            self.process_others(snapshot, now, (arrival, station), others, packets, &mut flows, verdicts);
        }
        if unusual.count_ones() as usize == packets.len() {
            self.decide_all(snapshot, now, &mut flows, packets, verdicts);
            return CommonPort::of(&verdicts[..packets.len()]);
        }
        for flow in flows.iter_mut().filter(|flow| flow.goes_on) {
            flow.guess = self.tables.ipv4().prefetch_connection(flow.hash);
        }
        self.decide_ipv4(snapshot, now, station.is_some(), Some(&flows), lanes, packets, verdicts)
    }

    /// The packets that `others` names: those of IPv6 go through stages of their own, fragments of IPv4 through those
    /// of IPv4 as `ipv4_flows`, SCTP and ICMP errors one by one.
    #[inline(never)]
    #[allow(clippy::too_many_arguments)] // called in one place
    fn process_others<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        (arrival, station): (Arrival, Option<MacAddr>),
        others: u64,
        packets: &mut [P],
        ipv4_flows: &mut [Flow<Ipv4Addr>; MAX_BURST],
        verdicts: &mut [Verdict; MAX_BURST],
    ) {
        let mut flows = [Flow::<Ipv6Addr>::NONE; MAX_BURST];
        for (at, packet) in packets.iter_mut().enumerate().filter(|(at, _)| others & 1 << at != 0) {
            match self.classify_other(station, packet.bytes(), (&mut ipv4_flows[at], &mut flows[at])) {
                Other::Ipv6 => self.tables.ipv6().prefetch_bucket(flows[at].hash),
                Other::Ipv4 => self.tables.ipv4().prefetch_bucket(ipv4_flows[at].hash),
                Other::FragmentOfIpv4 => {
                    let decided = self.fragment(snapshot, now, arrival, &mut ipv4_flows[at], packet);
                    decided.into_iter().for_each(|decided| self.decide(&mut verdicts[at], decided));
                }
                Other::FragmentOfIpv6 => {
                    let decided = self.fragment(snapshot, now, arrival, &mut flows[at], packet);
                    decided.into_iter().for_each(|decided| self.decide(&mut verdicts[at], decided));
                }
                Other::SctpOfIpv4 => {
                    let decided = self.associate(snapshot, now, &mut ipv4_flows[at], packet);
                    self.decide(&mut verdicts[at], decided);
                }
                Other::SctpOfIpv6 => {
                    let decided = self.associate(snapshot, now, &mut flows[at], packet);
                    self.decide(&mut verdicts[at], decided);
                }
                Other::Error(quote) => {
                    let decided = self.relay(snapshot, now, station, packet, &quote);
                    self.decide(&mut verdicts[at], decided);
                }
                Other::Decided(decided) => self.decide(&mut verdicts[at], decided),
            }
        }
        self.decide_all(snapshot, now, &mut flows, packets, verdicts);
    }

    /// What becomes of a fragment; `None` where it goes on as a flow, with ports.
    fn fragment<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        arrival: Arrival,
        flow: &mut Flow<A>,
        packet: &mut P,
    ) -> Option<Verdict> {
        match self.gather(snapshot, now, arrival, flow, packet) {
            Err(decided) => Some(decided),
            Ok(()) if flow.frame.protocol == SCTP_PROTOCOL => {
                Some(self.associate(snapshot, now, flow, packet))
            }
            Ok(()) => None,
        }
    }

    /// Looks up the flows that go on, and decides about them.
    #[inline(always)]
    fn decide_all<A: Address, P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        flows: &mut [Flow<A>; MAX_BURST],
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) {
        let flows = &mut flows[..packets.len()];
        let table = A::table(&self.tables);
        for flow in flows.iter_mut().filter(|flow| flow.goes_on) {
            flow.guess = table.prefetch_connection(flow.hash);
        }
        table.touch(flows.iter().filter(|flow| flow.goes_on).map(|flow| flow.guess));
        for (packet, (flow, verdict)) in packets.iter_mut().zip(flows.iter().zip(verdicts.iter_mut())) {
            if flow.goes_on {
                let decided = self.connect(snapshot, now, flow, packet);
                self.decide(verdict, decided);
            }
        }
    }

    #[inline(always)]
    fn decide(&self, verdict: &mut Verdict, decided: Verdict) {
        *verdict = decided;
        self.counters.reason(decided.reason).add(1);
    }

    /// The next hop that a packet of the last burst waits for.
    pub fn awaited(&self, wait: Wait) -> Unresolved {
        self.awaited[usize::from(wait.0)]
    }

    /// Removes connections whose time is over, looking at no more than `budget` of them. Call between
    /// bursts.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Tick, budget: usize) {
        self.expire_family::<Ipv4Addr>(snapshot, now, budget);
        self.expire_family::<Ipv6Addr>(snapshot, now, budget);
        self.counters.connections.set(self.tables.len() as u64);
        self.fragments.expire(now, budget);
        self.defend(snapshot, now);
    }

    #[inline]
    fn expire_family<A: Address>(&mut self, snapshot: &Snapshot, now: Tick, budget: usize) {
        let (counters, fleet, templates, lcore) = (&self.counters, &self.fleet, &self.templates, self.lcore);
        A::table_mut(&mut self.tables).expire(now, budget, |connection| {
            if ftp::lives_on(templates.expectations(), connection, now) {
                return;
            }
            note_end(counters, templates, connection, now);
            snapshot.load_changed(connection.server, fleet, lcore);
        });
    }

    /// Whose it is.
    pub fn lcore(&self) -> LcoreId {
        self.lcore
    }

    /// The connections of this lcore.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// This lcore's counters.
    pub fn counters(&self) -> &Arc<LcoreCounters> {
        &self.counters
    }
}

/// A connection is over: it counts no longer for its real server, nor for its template.
fn note_end<A: Address>(
    counters: &LcoreCounters,
    templates: &Templates,
    connection: &Connection<A>,
    now: Tick,
) {
    if connection.server == ServerId::NONE {
        return;
    }
    let server = counters.server(connection.server);
    if connection.state.is_active() {
        server.active.sub(1);
    } else {
        server.inactive.sub(1);
    }
    if connection.is_ftp_data() {
        templates.expectations().data().ends(connection.client.into(), connection.server);
    }
    if connection.template.is_some() {
        // It may have been over for a while.
        let expired = connection.is_expired(now);
        let ended = if expired { connection.last_seen.after(connection.timeout) } else { now };
        templates.release(connection.template, ended);
    }
}
