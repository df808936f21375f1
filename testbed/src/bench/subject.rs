//! A director under test: pipelines whose tables hold the connections of a case, and what publishes to them.

use std::sync::Arc;

use control::model::Scheduler;
use director::connection::{Capacity, Tables};
use director::id::{LcoreId, PortId};
use director::packet::BytesPacket;
use director::pipeline::{Arrival, MAX_BURST, Pipeline, Verdict, owner};
use director::service::{Publisher, Reader};
use director::stats::{Fleet, LcoreCounters};
use director::time::Tick;

use super::case::{Case, Direction, Family, Method, Traffic};
use super::flows::{self, MAX_FRAME, Target, Templates};
use super::world::World;
use crate::ensure;
use crate::error::{Context as _, Result};

/// One turn of the timing wheel and a little: connections that were opened evenly over this time come due
/// evenly, as they do in a director that has run for long.
pub const FILL_MS: u32 = 34_000;

/// How far a TCP connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    /// By a SYN alone.
    Half,
    /// To its end.
    Whole,
}

/// A director without ports.
pub struct Subject {
    /// Its services.
    pub world: World,
    /// Its counters.
    pub fleet: Fleet,
    /// One for each lcore.
    pub pipelines: Vec<Pipeline>,
    /// The control thread's end.
    pub publisher: Publisher,
    /// The lcores' ends.
    pub readers: Vec<Reader>,
}

impl Subject {
    /// One whose tables are empty.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn new(case: &Case, capacity: u32, hugepages: bool) -> Result<Subject> {
        let fleet = fleet(case.lcores, World::numbers(0, 0));
        let world = World::new(case.method, case.traffic, Scheduler::Rr, fleet.clone());
        Subject::of(world, fleet, case, capacity, hugepages)
    }

    /// One with many services that nobody asks for beside those of the benchmark.
    ///
    /// # Errors
    /// When memory does not suffice.
    pub fn crowded(case: &Case, services: u32, servers: u32, hugepages: bool) -> Result<Subject> {
        let fleet = fleet(case.lcores, World::numbers(services, servers));
        let world = World::crowded(case.traffic, services, servers, fleet.clone());
        Subject::of(world, fleet, case, case.connections, hugepages)
    }

    fn of(mut world: World, fleet: Fleet, case: &Case, capacity: u32, hugepages: bool) -> Result<Subject> {
        let (lcores, family) = (case.lcores, case.traffic.family());
        let snapshot = world.compile(0)?;
        let (publisher, readers) = Publisher::new(usize::from(lcores), snapshot);
        let pipelines: Result<Vec<_>> = (0..lcores)
            .map(|n| {
                let capacity = match family {
                    Family::V4 => Capacity { ipv4: capacity, ipv6: 1 },
                    Family::V6 => Capacity { ipv4: 1, ipv6: capacity },
                };
                let tables = Tables::new(capacity, hugepages, Tick(0))
                    .context(|| format!("no memory for {capacity:?} connections"))?;
                Ok(Pipeline::new(LcoreId(n), fleet.clone(), tables, Arc::default()))
            })
            .collect();
        Ok(Subject { world, fleet, pipelines: pipelines?, publisher, readers })
    }

    /// Opens the connections from `first` on as a client does, by a datagram or a handshake, evenly over `over`
    /// milliseconds from `since` on. Where replies come through the director, the real server answers.
    ///
    /// # Errors
    /// When one was not opened.
    pub fn fill(
        &mut self,
        case: &Case,
        first: u32,
        count: u32,
        since: Tick,
        over: u32,
        handshake: Handshake,
    ) -> Result<()> {
        let opening = Templates::new(case.traffic, Direction::Request, flows::SYN, Target::Each);
        let going_on = Templates::new(case.traffic, Direction::Request, flows::ACK, Target::Each);
        let answer = Templates::new(case.traffic, Direction::Reply, flows::SYN | flows::ACK, Target::Each);
        let is_nat = matches!(case.method, Method::NatRequest | Method::NatReply);
        let before: usize = self.opened();
        let mut filler = Filler::new(self);
        for n in 0..count {
            let tick = since.after((u64::from(n) * u64::from(over) / u64::from(count.max(1))) as u32);
            filler.push(first + n, &opening, tick);
            if handshake == Handshake::Half {
                continue;
            }
            if is_nat {
                filler.push(first + n, &answer, tick);
            }
            if case.traffic.is_tcp() {
                filler.push(first + n, &going_on, tick);
            }
        }
        filler.finish();
        let opened = self.opened() - before;
        ensure!(opened == count as usize, "{opened} of {count} connections were opened");
        Ok(())
    }

    /// Lets time pass in which nothing comes.
    pub fn pass(&mut self, from: Tick, to: Tick) {
        let snapshot = self.publisher.current().clone();
        for step in (0..to.since(from)).step_by(64) {
            for pipeline in &mut self.pipelines {
                pipeline.expire(&snapshot, from.after(step), usize::MAX);
            }
        }
    }

    /// Connections in all tables.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.pipelines.iter().map(|pipeline| pipeline.tables().len()).sum()
    }
}

fn fleet(lcores: u8, servers: usize) -> Fleet {
    Fleet::new((0..lcores).map(|_| Arc::new(LcoreCounters::new(servers))).collect())
}

/// Sends packets into pipelines, a burst at a time, each into that of its owner.
struct Filler<'a> {
    subject: &'a mut Subject,
    bursts: Vec<Vec<BytesPacket>>,
    now: Tick,
}

impl<'a> Filler<'a> {
    fn new(subject: &'a mut Subject) -> Filler<'a> {
        let bursts = subject.pipelines.iter().map(|_| Vec::with_capacity(MAX_BURST)).collect();
        Filler { subject, bursts, now: Tick(0) }
    }

    fn push(&mut self, n: u32, templates: &Templates, now: Tick) {
        let (client, port) = templates.client(n);
        let owner = usize::from(owner::owner(client, port, self.bursts.len() as u8).0);
        let mut frame = [0; MAX_FRAME];
        let frame = &mut frame[..templates.frame_len()];
        templates.stamp(n, frame);
        self.now = now;
        self.bursts[owner].push(BytesPacket::new(frame));
        if self.bursts[owner].len() == MAX_BURST {
            self.process(owner);
        }
    }

    fn process(&mut self, lcore: usize) {
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        let snapshot = self.subject.publisher.current().clone();
        let pipeline = &mut self.subject.pipelines[lcore];
        pipeline.process(
            &snapshot,
            self.now,
            Arrival::Port(PortId(0)),
            &mut self.bursts[lcore],
            &mut verdicts,
        );
        pipeline.expire(&snapshot, self.now, 2 * MAX_BURST);
        self.bursts[lcore].clear();
    }

    fn finish(mut self) {
        for lcore in 0..self.bursts.len() {
            self.process(lcore);
        }
    }
}

/// The table's memory for each connection when it is full, in bytes.
///
/// # Errors
/// When it cannot be filled to its capacity.
pub fn bytes_per_connection(method: Method, hugepages: bool) -> Result<f64> {
    const CONNECTIONS: u32 = 1 << 20;
    let case = Case { method, traffic: Traffic::Udp, connections: CONNECTIONS, lcores: 1 };
    let mut subject = Subject::new(&case, CONNECTIONS, hugepages)?;
    subject.fill(&case, 0, CONNECTIONS, Tick(0), 0, Handshake::Whole)?;
    Ok(subject.pipelines[0].tables().ipv4().mapped_bytes() as f64 / f64::from(CONNECTIONS))
}
