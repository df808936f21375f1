//! Questions that only an lcore can answer, since nobody else may look into its table. The control
//! thread leaves a question in a box; the lcore works on it a little between bursts, in memory that
//! came with the question, and puts the answer back.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use control::model::{ForwardingMethod, ServiceKey};
use crossbeam::atomic::AtomicCell;

use super::capture::Capturer;
use crate::connection::{Address, Connection, ConnectionTable, State, protocol_of};
use crate::pipeline::{Impression, Pipeline};
use crate::service::Snapshot;
use crate::stats::{LcoreCounters, Reason};
use crate::time::Tick;

/// Places of the table that are looked at between two bursts: some 20 µs when none is in a cache.
const PLACES_PER_TURN: u32 = 256;
/// Turns after which a question is answered with what was found so far: the control thread has more to do than to wait
/// for the end of a large table in which little fits the filter.
const TURNS_PER_ANSWER: u32 = 1024;

/// Which connections are asked for; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionFilter {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The virtual service.
    pub service: Option<ServiceKey>,
    /// The real server's address and port.
    pub server: Option<SocketAddr>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The state, or one of the same name.
    pub state: Option<State>,
}

impl ConnectionFilter {
    /// Whether every connection is asked for.
    pub(super) fn is_empty(&self) -> bool {
        let ConnectionFilter { protocol, service, server, client, state } = self;
        protocol.is_none() && service.is_none() && server.is_none() && client.is_none() && state.is_none()
    }

    pub(super) fn matches(&self, c: &ConnectionRow) -> bool {
        self.protocol.is_none_or(|p| p == c.protocol)
            && self.state.is_none_or(|s| s.is_called_as(c.state))
            && self.client.is_none_or(|ip| ip == c.client.ip())
            && self.service.is_none_or(|w| w == c.service)
            && self.server.is_none_or(|w| w == c.server)
    }
}

/// A connection as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionRow {
    /// IP protocol number.
    pub protocol: u8,
    /// The client's address and port.
    pub client: SocketAddr,
    /// The virtual service; where that is gone, what it was by the address.
    pub service: ServiceKey,
    /// The virtual address and port.
    pub virtual_address: SocketAddr,
    /// The real server's address and port.
    pub server: SocketAddr,
    /// How packets reach the real server.
    pub method: ForwardingMethod,
    /// The state.
    pub state: State,
    /// Milliseconds that are left.
    pub expires_in: u32,
}

impl ConnectionRow {
    pub(super) fn of<A: Address>(c: &Connection<A>, snapshot: &Snapshot, now: Tick) -> ConnectionRow {
        // A real server of the other version of IP is known by its number alone.
        let elsewhere = || snapshot.server(c.server).map(|server| server.address);
        let server: IpAddr = c.server_address.into();
        let server = if server.is_unspecified() { elsewhere().unwrap_or(server) } else { server };
        let virtual_address = (c.virtual_address.into(), c.virtual_port).into();
        let service = snapshot.server(c.server).and_then(|server| snapshot.service(server.service));
        let by_address =
            || ServiceKey::Address { protocol: protocol_of(c.protocol), address: virtual_address };
        ConnectionRow {
            service: service.map_or_else(by_address, |service| service.model.key),
            protocol: c.protocol,
            client: (c.client.into(), c.client_port).into(),
            virtual_address,
            server: (server, c.server_port).into(),
            method: c.method,
            state: c.state,
            expires_in: c.expires_in(now),
        }
    }
}

/// Where to go on in the tables of an lcore: first that of IPv4, then that of IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// In the table of IPv6.
    pub ipv6: bool,
    /// The place in that table.
    pub at: u32,
}

/// A question, and room for its answer.
#[derive(Debug)]
pub enum Query {
    /// Some connections.
    Connections {
        /// Where to go on.
        cursor: Place,
        /// Which ones.
        filter: ConnectionFilter,
        /// Filled up to its capacity, never beyond; perhaps less though there is more.
        found: Vec<ConnectionRow>,
        /// Where to go on, if there is more.
        next: Option<Place>,
    },
    /// All counters at one moment between bursts.
    Counters(Box<CounterCopy>),
    /// What bears on a packet.
    Impression(Box<Impression>),
    /// What captures packets from now on, if anything does; the answer has what did before.
    Capture(Option<Box<Capturer>>),
}

/// Counters of an lcore at one moment.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the fields are those of LcoreCounters")]
pub struct CounterCopy {
    pub received: u64,
    pub taken_over: u64,
    pub forwarded: u64,
    pub handed_over: u64,
    pub punted: u64,
    pub dropped: u64,
    pub held: u64,
    pub pieces: u64,
    pub from_kernel: u64,
    pub from_kernel_lost: u64,
    pub connections: u64,
    pub loops: u64,
    pub busy_loops: u64,
    pub reasons: [u64; Reason::ALL.len()],
    /// Whether everything that came in is accounted for.
    pub conserved: bool,
}

impl CounterCopy {
    /// A copy as the counters are now. Consistent only on the lcore itself.
    pub fn of(counters: &LcoreCounters) -> CounterCopy {
        CounterCopy {
            received: counters.received.get(),
            taken_over: counters.taken_over.get(),
            forwarded: counters.forwarded.get(),
            handed_over: counters.handed_over.get(),
            punted: counters.punted.get(),
            dropped: counters.dropped.get(),
            held: counters.held.get(),
            pieces: counters.pieces.get(),
            from_kernel: counters.from_kernel.get(),
            from_kernel_lost: counters.from_kernel_lost.get(),
            connections: counters.connections.get(),
            loops: counters.loops.get(),
            busy_loops: counters.busy_loops.get(),
            reasons: std::array::from_fn(|i| counters.reason(Reason::ALL[i]).get()),
            conserved: counters.is_conserved(),
        }
    }
}

/// Which question an answer is to. An lcore may answer one that its asker has given up, after the next was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(u64);

/// A question with its number.
struct Asked {
    number: Number,
    query: Query,
}

/// Where question and answer are put.
#[derive(Default)]
pub struct QueryBox {
    asked: AtomicCell<Option<Box<Asked>>>,
    answered: AtomicCell<Option<Box<Asked>>>,
    waiting: AtomicBool,
    /// The number of the last question.
    last: AtomicU64,
}

impl QueryBox {
    /// Asks. One question at a time: a new one replaces one that nobody has taken up.
    pub fn ask(&self, query: Query) -> Number {
        let number = Number(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.answered.take();
        self.asked.swap(Some(Box::new(Asked { number, query })));
        self.waiting.store(true, Ordering::Release);
        number
    }

    /// The answer to a question, once it is there. One to another question is nobody's any more, and is freed.
    pub fn answer(&self, number: Number) -> Option<Query> {
        self.answered.take().filter(|answer| answer.number == number).map(|answer| answer.query)
    }
}

/// The lcore's end of a [`QueryBox`].
pub(super) struct Answerer {
    queries: Arc<QueryBox>,
    current: Option<Box<Asked>>,
    /// For how many turns the question has been worked on.
    turns: u32,
}

impl Answerer {
    pub(super) fn new(queries: Arc<QueryBox>) -> Answerer {
        Answerer { queries, current: None, turns: 0 }
    }

    /// Works on the question, if there is one. Call between bursts.
    #[inline]
    pub(super) fn turn(
        &mut self,
        pipeline: &Pipeline,
        snapshot: &Snapshot,
        now: Tick,
        capturer: &mut Option<Box<Capturer>>,
    ) {
        if self.current.is_some() || self.queries.waiting.load(Ordering::Relaxed) {
            self.work(pipeline, snapshot, now, capturer);
        }
    }

    #[cold]
    fn work(
        &mut self,
        pipeline: &Pipeline,
        snapshot: &Snapshot,
        now: Tick,
        capturer: &mut Option<Box<Capturer>>,
    ) {
        if self.queries.waiting.swap(false, Ordering::Acquire) {
            // The control thread gave up on the question before; what is left of it goes back the
            // same way as an answer, since freeing it is not an lcore's work.
            if let Some(fresh) = self.queries.asked.take()
                && let Some(stale) = self.current.replace(fresh)
            {
                std::mem::forget(self.queries.answered.swap(Some(stale)));
                self.turns = 0;
            }
        }
        let Some(asked) = &mut self.current else { return };
        self.turns += 1;
        let done = match &mut asked.query {
            Query::Impression(impression) => {
                pipeline.impress(snapshot, now, impression);
                true
            }
            Query::Capture(other) => {
                std::mem::swap(capturer, other);
                true
            }
            Query::Counters(copy) => {
                **copy = CounterCopy::of(pipeline.counters());
                true
            }
            Query::Connections { cursor, filter, found, next } => {
                let tables = pipeline.tables();
                *next = if cursor.ipv6 {
                    walk(tables.ipv6(), cursor.at, snapshot, now, filter, found)
                        .map(|at| Place { ipv6: true, at })
                } else {
                    let at = walk(tables.ipv4(), cursor.at, snapshot, now, filter, found);
                    Some(at.map_or(Place { ipv6: true, at: 0 }, |at| Place { ipv6: false, at }))
                };
                *cursor = next.unwrap_or(*cursor);
                next.is_none() || found.len() == found.capacity() || self.turns >= TURNS_PER_ANSWER
            }
        };
        if done {
            let answer = self.current.take();
            self.turns = 0;
            // Nothing was there: the asker clears the box before it asks.
            std::mem::forget(self.queries.answered.swap(answer));
        }
    }
}

/// Adds what fits the filter, as far as there is room. Returns where to go on in the table.
fn walk<A: Address>(
    table: &ConnectionTable<A>,
    from: u32,
    snapshot: &Snapshot,
    now: Tick,
    filter: &ConnectionFilter,
    found: &mut Vec<ConnectionRow>,
) -> Option<u32> {
    table.walk(from, PLACES_PER_TURN, now, |connection| {
        let row = ConnectionRow::of(connection, snapshot, now);
        if !filter.matches(&row) {
            return true;
        }
        let room = found.len() < found.capacity();
        if room {
            found.push(row);
        }
        room
    })
}
