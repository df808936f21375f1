//! Counters of one lcore, and all lcores together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use control::health::Signs;

use super::latency::LatencyCounters;
use super::reason::Reason;
use super::signs::SignCounters;
use crate::id::LcoreId;
use crate::scheduler::Load;
use crate::service::ServerId;

/// A number that one thread writes and others read. Costs its writer what a plain number costs.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. Only the owning lcore may: two writers would lose counts.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Subtracts; as [`Counter::add`].
    #[inline]
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Its value, perhaps a moment old.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets it; as [`Counter::add`].
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Of one real server on one lcore; one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServerCounters {
    /// Connections created.
    pub connections: Counter,
    /// Packets from clients.
    pub packets_in: Counter,
    /// Packets to clients (NAT only).
    pub packets_out: Counter,
    /// Bytes from clients, by the IP header's length.
    pub bytes_in: Counter,
    /// Bytes to clients, by the IP header's length.
    pub bytes_out: Counter,
    /// Connections that count as active now.
    pub active: Counter,
    /// Connections that count as inactive now.
    pub inactive: Counter,
    /// Which of its connections it answered (NAT and TCP only).
    pub signs: SignCounters,
}

/// Of one real server over all lcores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTotals {
    /// Connections created.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients (NAT only).
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
}

impl ServerTotals {
    pub(super) fn zip(self, other: ServerTotals, f: impl Fn(u64, u64) -> u64) -> ServerTotals {
        ServerTotals {
            connections: f(self.connections, other.connections),
            packets_in: f(self.packets_in, other.packets_in),
            packets_out: f(self.packets_out, other.packets_out),
            bytes_in: f(self.bytes_in, other.bytes_in),
            bytes_out: f(self.bytes_out, other.bytes_out),
        }
    }

    /// What was counted since `earlier`.
    pub fn since(self, earlier: ServerTotals) -> ServerTotals {
        self.zip(earlier, u64::wrapping_sub)
    }

    /// Both together.
    pub fn plus(self, other: ServerTotals) -> ServerTotals {
        self.zip(other, u64::wrapping_add)
    }
}

/// Of one receive queue of a port. Written by the lcore that polls it; one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct QueueCounters {
    /// Packets that arrived here although another lcore owns their connection, whatever became of them.
    pub wrong_lcore: Counter,
}

impl QueueCounters {
    /// Counters for the receive queues of one port, by number.
    pub fn of_port(queues: usize) -> Arc<[QueueCounters]> {
        (0..queues).map(|_| QueueCounters::default()).collect()
    }
}

/// All counters that one lcore writes. On cache lines of its own.
#[derive(Debug)]
#[repr(align(64))]
pub struct LcoreCounters {
    /// Packets received from ports, and answers of real servers that are the director itself.
    pub received: Counter,
    /// Packets taken over from other lcores.
    pub taken_over: Counter,
    /// Packets that left by a port.
    pub forwarded: Counter,
    /// Packets put into another lcore's ring.
    pub handed_over: Counter,
    /// Packets given to the kernel.
    pub punted: Counter,
    /// Packets lost, whatever the reason.
    pub dropped: Counter,
    /// Packets waiting for a neighbour's Ethernet address now.
    pub held: Counter,
    /// Fragments sent in the place of packets too long for their link, beyond the packets themselves.
    pub pieces: Counter,
    /// Frames of the kernel sent by a port; not among the received.
    pub from_kernel: Counter,
    /// Frames of the kernel that found the transmit queue full.
    pub from_kernel_lost: Counter,
    /// Connections in the table now.
    pub connections: Counter,
    /// Connections given up to defend against floods (`drop_entry`).
    pub given_up: Counter,
    /// Turns of the loop.
    pub loops: Counter,
    /// Turns of the loop that found packets.
    pub busy_loops: Counter,
    /// Nanoseconds from receive burst to transmit burst.
    pub latency: LatencyCounters,
    reasons: [Counter; Reason::ALL.len()],
    servers: Box<[ServerCounters]>,
}

impl LcoreCounters {
    /// Counters for at most `servers` real servers at a time.
    pub fn new(servers: usize) -> LcoreCounters {
        LcoreCounters {
            received: Counter::default(),
            taken_over: Counter::default(),
            forwarded: Counter::default(),
            handed_over: Counter::default(),
            punted: Counter::default(),
            dropped: Counter::default(),
            held: Counter::default(),
            pieces: Counter::default(),
            from_kernel: Counter::default(),
            from_kernel_lost: Counter::default(),
            connections: Counter::default(),
            given_up: Counter::default(),
            loops: Counter::default(),
            busy_loops: Counter::default(),
            latency: LatencyCounters::default(),
            reasons: std::array::from_fn(|_| Counter::default()),
            servers: (0..servers).map(|_| ServerCounters::default()).collect(),
        }
    }

    /// How often a reason was given.
    #[inline]
    pub fn reason(&self, reason: Reason) -> &Counter {
        &self.reasons[reason as usize]
    }

    /// Of one real server.
    #[inline]
    pub fn server(&self, server: ServerId) -> &ServerCounters {
        &self.servers[server.0 as usize]
    }

    /// Of all real servers, by number.
    #[inline(always)]
    pub(crate) fn servers(&self) -> &[ServerCounters] {
        &self.servers
    }

    /// Whether all that came in is accounted for. True between bursts; a reader on another thread
    /// may catch the lcore in the middle of one.
    pub fn is_conserved(&self) -> bool {
        let came = self.received.get() + self.taken_over.get() + self.pieces.get();
        let went = self.forwarded.get()
            + self.handed_over.get()
            + self.punted.get()
            + self.dropped.get()
            + self.held.get();
        came == went
    }
}

/// The counters of all lcores, and what all of them have found out about real servers.
#[derive(Clone, Debug)]
pub struct Fleet {
    lcores: Arc<[Arc<LcoreCounters>]>,
    /// Whether a real server is overloaded, by number. Written seldom, by whichever lcore finds it out.
    overloaded: Arc<[AtomicBool]>,
}

impl Fleet {
    /// Of these lcores, in the order of their numbers.
    pub fn new(lcores: Vec<Arc<LcoreCounters>>) -> Fleet {
        let servers = lcores.first().map_or(0, |lcore| lcore.servers.len());
        let overloaded = (0..servers).map(|_| AtomicBool::new(false)).collect();
        Fleet { lcores: lcores.into(), overloaded }
    }

    /// Counters of their own with room for so many real servers, of which these have the connections that they have here;
    /// nothing else was counted.
    pub fn copy(&self, room: usize, servers: impl Iterator<Item = ServerId> + Clone) -> Fleet {
        let copy = |lcore: &Arc<LcoreCounters>| {
            let copy = LcoreCounters::new(room);
            for server in servers.clone() {
                let (from, to) = (lcore.server(server), copy.server(server));
                to.active.set(from.active.get());
                to.inactive.set(from.inactive.get());
            }
            Arc::new(copy)
        };
        let fleet = Fleet::new(self.lcores.iter().map(copy).collect());
        servers.for_each(|server| fleet.set_overloaded(server, self.is_overloaded(server)));
        fleet
    }

    /// Each lcore's.
    pub fn lcores(&self) -> &[Arc<LcoreCounters>] {
        &self.lcores
    }

    /// Of one real server over all lcores.
    pub fn totals(&self, server: ServerId) -> ServerTotals {
        self.lcores.iter().fold(ServerTotals::default(), |sum, lcore| {
            let of = lcore.server(server);
            sum.plus(ServerTotals {
                connections: of.connections.get(),
                packets_in: of.packets_in.get(),
                packets_out: of.packets_out.get(),
                bytes_in: of.bytes_in.get(),
                bytes_out: of.bytes_out.get(),
            })
        })
    }

    /// Signs of life of one real server over all lcores.
    pub fn signs(&self, server: ServerId) -> Signs {
        let of_lcores = self.lcores.iter().map(|lcore| lcore.server(server).signs.get());
        of_lcores.fold(Signs::default(), Signs::plus)
    }
}

impl Load for Fleet {
    fn connections(&self, server: ServerId) -> (u64, u64) {
        self.lcores.iter().fold((0u64, 0u64), |(active, inactive), lcore| {
            let of = lcore.server(server);
            (active.wrapping_add(of.active.get()), inactive.wrapping_add(of.inactive.get()))
        })
    }

    fn connections_on(&self, lcore: LcoreId, server: ServerId) -> (u64, u64) {
        let of = self.lcores[usize::from(lcore.0)].server(server);
        (of.active.get(), of.inactive.get())
    }

    fn is_overloaded(&self, server: ServerId) -> bool {
        self.overloaded[server.0 as usize].load(Ordering::Relaxed)
    }

    fn set_overloaded(&self, server: ServerId, overloaded: bool) {
        self.overloaded[server.0 as usize].store(overloaded, Ordering::Relaxed);
    }
}
