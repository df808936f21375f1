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
pub use verdict::{Action, Verdict};

use crate::connection::{Connection, ConnectionTable, FlowHash, FlowKey, TCP_PROTOCOL, UDP_PROTOCOL};
use crate::id::{LcoreId, PortId};
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
    key: FlowKey<Ipv4Addr>,
    /// Of `wire::tcp`; 0 for UDP.
    tcp_flags: u8,
    hash: FlowHash,
}

/// One lcore's data plane without its ports.
pub struct Pipeline {
    lcore: LcoreId,
    lcores: u8,
    table: ConnectionTable<Ipv4Addr>,
    counters: Arc<LcoreCounters>,
    fleet: Fleet,
    icmp_limit: RateLimit,
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
        let mut flows: [Option<Flow>; MAX_BURST] = [None; MAX_BURST];
        for (packet, (flow, verdict)) in packets.iter().zip(flows.iter_mut().zip(verdicts.iter_mut())) {
            let classified = if packet.is_whole() {
                self.classify(snapshot, arrival, packet.bytes())
            } else {
                Err(Verdict::drop(Reason::Scattered))
            };
            match classified {
                Ok(found) => {
                    self.table.prefetch_bucket(found.hash);
                    *flow = Some(found);
                }
                Err(decided) => *verdict = decided,
            }
        }
        for flow in flows[..packets.len()].iter().flatten() {
            self.table.prefetch_connection(flow.hash);
        }
        for (packet, (flow, verdict)) in packets.iter_mut().zip(flows.iter().zip(verdicts.iter_mut())) {
            if let Some(flow) = flow {
                *verdict = self.connect(snapshot, now, flow, packet);
            }
            self.counters.reason(verdict.reason).add(1);
        }
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

    /// What a frame is: a packet for the stages to come, or the end of its way.
    #[inline]
    fn classify(&self, snapshot: &Snapshot, arrival: Arrival, bytes: &[u8]) -> Result<Flow, Verdict> {
        let parsed = wire::parse(bytes).map_err(|error| {
            Verdict::drop(match error {
                wire::Error::TruncatedEthernet => Reason::TruncatedEthernet,
                wire::Error::BadIpv4Header => Reason::BadIpv4Header,
                wire::Error::BadTcpHeader => Reason::BadTcpHeader,
                wire::Error::BadUdpHeader => Reason::BadUdpHeader,
            })
        })?;
        if let Arrival::Port(port) = arrival {
            let destination = ethernet::destination(bytes);
            if ethernet::is_group(destination) {
                return Err(Verdict::punt(Reason::Group));
            }
            let ours = snapshot.ports.get(usize::from(port.0)).map(|info| info.mac);
            if ours != Some(destination) {
                return Err(Verdict::drop(Reason::ForeignMac));
            }
        }
        let Parsed::Ipv4(frame) = parsed else { return Err(Verdict::punt(Reason::NotIpv4)) };
        let (source_port, destination_port, protocol, tcp_flags) = match frame.transport {
            Transport::Tcp { source, destination, flags } => (source, destination, TCP_PROTOCOL, flags),
            Transport::Udp { source, destination } => (source, destination, UDP_PROTOCOL, 0),
            Transport::Other => return Err(Verdict::punt(Reason::OtherProtocol)),
            Transport::Fragment => {
                let ours = snapshot.lookup.may_concern(frame.source.into(), frame.destination.into());
                return Err(if ours {
                    Verdict::drop(Reason::Fragment)
                } else {
                    Verdict::punt(Reason::NoService)
                });
            }
        };
        let key = FlowKey {
            source: frame.source,
            destination: frame.destination,
            source_port,
            destination_port,
            protocol,
        };
        if self.lcores > 1 && arrival != Arrival::Ring {
            let owner = owner::owner_of(&key, &snapshot.lookup, self.lcores);
            if let Some(owner) = owner.filter(|owner| *owner != self.lcore) {
                return Err(Verdict { reason: Reason::OtherLcore, action: Action::HandOver(owner) });
            }
        }
        Ok(Flow { frame, key, tcp_flags, hash: self.table.hash(&key) })
    }
}

/// A connection's time is over: it counts no longer for its real server.
fn note_end(counters: &LcoreCounters, connection: &Connection<Ipv4Addr>) {
    let server = counters.server(connection.server);
    if connection.state.is_active() { server.active.sub(1) } else { server.inactive.sub(1) }
}
