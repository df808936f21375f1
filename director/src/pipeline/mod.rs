//! The way of a packet through one lcore, in reading order: `parse`, `owner`, `connect`, `send`.
//!
//! A burst goes through in stages, so that what a later stage reads is fetched while an earlier one
//! still works on other packets. Pure: bytes, tables and a clock in; one [`Verdict`] for each packet out.

mod connect;
mod limit;
pub mod owner;
mod send;
mod verdict;

use std::net::Ipv4Addr;
use std::sync::Arc;

pub use limit::RateLimit;
pub use verdict::{Action, Verdict, Wait};

use crate::connection::{Connection, ConnectionTable, FlowHash, FlowKey, Guess};
use crate::id::{LcoreId, PortId};
use crate::nexthop::{MacAddr, Unresolved};
use crate::packet::PacketBuf;
use crate::service::Snapshot;
use crate::stats::{Fleet, LcoreCounters, Reason};
use crate::time::Tick;
use crate::wire::{self, Ipv4Frame, Parsed, Transport, ethernet};

/// The most packets that [`Pipeline::process`] takes at a time.
pub const MAX_BURST: usize = 32;

/// Where a burst comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Received by a port.
    Port(PortId),
    /// Handed over by other lcores, which have looked at addresses and owner already.
    Ring,
}

/// A TCP or UDP packet on its way through the stages.
#[derive(Clone, Copy, Debug)]
struct Flow {
    frame: Ipv4Frame,
    /// From a port, so that this lcore need not be the one that owns it.
    from_port: bool,
    /// Not decided about yet.
    goes_on: bool,
    hash: FlowHash,
    guess: Guess,
}

impl Flow {
    /// What stands in the place of a packet that was decided about.
    const NONE: Flow = Flow {
        frame: Ipv4Frame::NONE,
        from_port: false,
        goes_on: false,
        hash: FlowHash::NONE,
        guess: Guess::NONE,
    };

    #[inline(always)]
    fn key(&self) -> FlowKey<Ipv4Addr> {
        FlowKey {
            source: self.frame.source,
            destination: self.frame.destination,
            source_port: self.frame.source_port(),
            destination_port: self.frame.destination_port(),
            protocol: self.frame.protocol,
        }
    }
}

/// One lcore's data plane without its ports.
pub struct Pipeline {
    lcore: LcoreId,
    lcores: u8,
    table: ConnectionTable<Ipv4Addr>,
    counters: Arc<LcoreCounters>,
    fleet: Fleet,
    icmp_limit: RateLimit,
    /// Next hops that packets of this burst wait for.
    awaited: Vec<Unresolved>,
    /// Identification of packets that the director makes itself.
    next_id: u16,
}

impl Pipeline {
    /// The pipeline of `lcore`, one of those in `fleet`.
    pub fn new(lcore: LcoreId, fleet: Fleet, table: ConnectionTable<Ipv4Addr>) -> Pipeline {
        let counters = fleet.lcores()[usize::from(lcore.0)].clone();
        Pipeline {
            lcore,
            lcores: fleet.lcores().len() as u8,
            table,
            counters,
            fleet,
            icmp_limit: RateLimit::default(),
            awaited: Vec::with_capacity(MAX_BURST),
            next_id: 1,
        }
    }

    /// Decides about a burst of at most [`MAX_BURST`] packets, rewriting them where the verdict is to
    /// send them. `verdicts[i]` is that of `packets[i]`.
    pub fn process<P: PacketBuf>(
        &mut self,
        snapshot: &Snapshot,
        now: Tick,
        arrival: Arrival,
        packets: &mut [P],
        verdicts: &mut [Verdict; MAX_BURST],
    ) {
        debug_assert!(packets.len() <= MAX_BURST);
        self.awaited.clear();
        let station = match arrival {
            // A port that the snapshot does not know is not up yet: nothing is addressed to no address.
            Arrival::Port(port) => {
                Some(snapshot.ports.get(usize::from(port.0)).map_or(MacAddr([0; 6]), |info| info.mac))
            }
            Arrival::Ring => None,
        };
        let mut flows = [Flow::NONE; MAX_BURST];
        for (packet, (flow, verdict)) in packets.iter().zip(flows.iter_mut().zip(verdicts.iter_mut())) {
            match self.classify(snapshot, station, packet, flow) {
                Ok(()) => self.table.prefetch_bucket(flow.hash),
                Err(decided) => *verdict = decided,
            }
        }
        for flow in flows[..packets.len()].iter_mut().filter(|flow| flow.goes_on) {
            flow.guess = self.table.prefetch_connection(flow.hash);
        }
        for flow in flows[..packets.len()].iter().filter(|flow| flow.goes_on) {
            self.table.touch(flow.guess);
        }
        for (packet, (flow, verdict)) in packets.iter_mut().zip(flows.iter().zip(verdicts.iter_mut())) {
            if flow.goes_on {
                *verdict = self.connect(snapshot, now, flow, packet);
            }
            self.counters.reason(verdict.reason).add(1);
        }
    }

    /// The next hop that a packet of the last burst waits for.
    pub fn awaited(&self, wait: Wait) -> Unresolved {
        self.awaited[usize::from(wait.0)]
    }

    /// Removes connections whose time is over, looking at no more than `budget` of them. Call between
    /// bursts.
    pub fn expire(&mut self, snapshot: &Snapshot, now: Tick, budget: usize) {
        let (counters, fleet, lcore) = (&self.counters, &self.fleet, self.lcore);
        self.table.expire(now, budget, |connection| {
            note_end(counters, connection);
            snapshot.load_changed(connection.server, fleet, lcore);
        });
        self.counters.connections.set(self.table.len() as u64);
    }

    /// The connections of this lcore.
    pub fn table(&self) -> &ConnectionTable<Ipv4Addr> {
        &self.table
    }

    /// This lcore's counters.
    pub fn counters(&self) -> &Arc<LcoreCounters> {
        &self.counters
    }

    /// What a frame is: a packet for the stages to come, or the end of its way. `station` is the Ethernet address
    /// of the port that it came by, where it came by a port.
    #[inline(always)]
    fn classify<P: PacketBuf>(
        &self,
        snapshot: &Snapshot,
        station: Option<MacAddr>,
        packet: &P,
        flow: &mut Flow,
    ) -> Result<(), Verdict> {
        if !packet.is_whole() {
            return Err(Verdict::drop(Reason::Scattered));
        }
        let bytes = packet.bytes();
        let parsed = wire::parse(bytes, &mut flow.frame).map_err(malformed)?;
        if let Some(ours) = station
            && ours != ethernet::destination(bytes)
        {
            return Err(not_for_us(bytes));
        }
        if parsed == Parsed::Other {
            return Err(Verdict::punt(Reason::NotIpv4));
        }
        match flow.frame.transport {
            Transport::Tcp | Transport::Udp => {}
            Transport::Other => return Err(Verdict::punt(Reason::OtherProtocol)),
            Transport::Fragment => return Err(fragment(snapshot, &flow.frame)),
        }
        flow.from_port = station.is_some();
        flow.goes_on = true;
        flow.hash = self.table.hash(&flow.key());
        Ok(())
    }
}

#[cold]
fn malformed(error: wire::Error) -> Verdict {
    Verdict::drop(match error {
        wire::Error::TruncatedEthernet => Reason::TruncatedEthernet,
        wire::Error::BadIpv4Header => Reason::BadIpv4Header,
        wire::Error::BadTcpHeader => Reason::BadTcpHeader,
        wire::Error::BadUdpHeader => Reason::BadUdpHeader,
    })
}

/// A frame whose Ethernet destination is not the port's.
#[cold]
fn not_for_us(bytes: &[u8]) -> Verdict {
    if ethernet::is_group(ethernet::destination(bytes)) {
        Verdict::punt(Reason::Group)
    } else {
        Verdict::drop(Reason::ForeignMac)
    }
}

#[cold]
fn fragment(snapshot: &Snapshot, frame: &Ipv4Frame) -> Verdict {
    if snapshot.lookup.may_concern(frame.source.into(), frame.destination.into()) {
        Verdict::drop(Reason::Fragment)
    } else {
        Verdict::punt(Reason::NoService)
    }
}

/// A connection's time is over: it counts no longer for its real server.
fn note_end(counters: &LcoreCounters, connection: &Connection<Ipv4Addr>) {
    let server = counters.server(connection.server);
    if connection.state.is_active() { server.active.sub(1) } else { server.inactive.sub(1) }
}
