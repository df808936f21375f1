//! Questions that only an lcore can answer, since nobody else may look into its table. The control
//! thread leaves a question in a box; the lcore works on it a little between bursts, in memory that
//! came with the question, and puts the answer back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::atomic::AtomicCell;

use crate::connection::{Connection, State};
use crate::pipeline::Pipeline;
use crate::stats::{LcoreCounters, Reason};
use crate::time::Tick;

/// Places of the table that are looked at between two bursts: some 20 µs when none is in a cache.
const PLACES_PER_TURN: u32 = 256;

/// Which connections are asked for; what is `None` does not matter.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionFilter {
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The virtual service's address and port.
    pub service: Option<SocketAddr>,
    /// The real server's address and port.
    pub server: Option<SocketAddr>,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The state.
    pub state: Option<State>,
}

impl ConnectionFilter {
    fn matches(&self, c: &Connection<Ipv4Addr>) -> bool {
        let is =
            |wanted: Option<SocketAddr>, ip: Ipv4Addr, port| wanted.is_none_or(|w| w == (ip, port).into());
        self.protocol.is_none_or(|p| p == c.protocol)
            && self.state.is_none_or(|s| s == c.state)
            && self.client.is_none_or(|ip| ip == IpAddr::V4(c.client))
            && is(self.service, c.virtual_address, c.virtual_port)
            && is(self.server, c.server_address, c.server_port)
    }
}

/// A question, and room for its answer.
#[derive(Debug)]
pub enum Query {
    /// Some connections.
    Connections {
        /// Where to go on; 0 at first.
        cursor: u32,
        /// Which ones.
        filter: ConnectionFilter,
        /// Filled up to its capacity, never beyond.
        found: Vec<Connection<Ipv4Addr>>,
        /// The lcore's clock when the answer was finished.
        now: Tick,
        /// Where to go on, if there is more.
        next: Option<u32>,
    },
    /// All counters at one moment between bursts.
    Counters(Box<CounterCopy>),
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

/// Where question and answer are put.
#[derive(Default)]
pub struct QueryBox {
    asked: AtomicCell<Option<Box<Query>>>,
    answered: AtomicCell<Option<Box<Query>>>,
    waiting: AtomicBool,
}

impl QueryBox {
    /// Asks. One question at a time: a new one replaces one that nobody has taken up.
    pub fn ask(&self, query: Box<Query>) {
        self.answered.take();
        self.asked.swap(Some(query));
        self.waiting.store(true, Ordering::Release);
    }

    /// The answer, once it is there.
    pub fn answer(&self) -> Option<Box<Query>> {
        self.answered.take()
    }
}

/// The lcore's end of a [`QueryBox`].
pub(super) struct Answerer {
    queries: Arc<QueryBox>,
    current: Option<Box<Query>>,
}

impl Answerer {
    pub(super) fn new(queries: Arc<QueryBox>) -> Answerer {
        Answerer { queries, current: None }
    }

    /// Works on the question, if there is one. Call between bursts.
    #[inline]
    pub(super) fn turn(&mut self, pipeline: &Pipeline, now: Tick) {
        if self.current.is_some() || self.queries.waiting.load(Ordering::Relaxed) {
            self.work(pipeline, now);
        }
    }

    #[cold]
    fn work(&mut self, pipeline: &Pipeline, now: Tick) {
        if self.queries.waiting.swap(false, Ordering::Acquire) {
            // The control thread gave up on the question before; what is left of it goes back the
            // same way as an answer, since freeing it is not an lcore's work.
            if let Some(fresh) = self.queries.asked.take()
                && let Some(stale) = self.current.replace(fresh)
            {
                std::mem::forget(self.queries.answered.swap(Some(stale)));
            }
        }
        let Some(query) = &mut self.current else { return };
        let done = match query.as_mut() {
            Query::Counters(copy) => {
                **copy = CounterCopy::of(pipeline.counters());
                true
            }
            Query::Connections { cursor, filter, found, now: at, next } => {
                *at = now;
                *next = pipeline.table().walk(*cursor, PLACES_PER_TURN, now, |connection| {
                    if !filter.matches(connection) {
                        return true;
                    }
                    let room = found.len() < found.capacity();
                    if room {
                        found.push(*connection);
                    }
                    room
                });
                *cursor = next.unwrap_or(*cursor);
                next.is_none() || found.len() == found.capacity()
            }
        };
        if done {
            let answer = self.current.take();
            // Nothing was there: the asker clears the box before it asks.
            std::mem::forget(self.queries.answered.swap(answer));
        }
    }
}
