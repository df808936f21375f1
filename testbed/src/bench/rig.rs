//! Worker lcores that run a director under test on given queues, and what is seen of them meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Instant;

use director::dpdk::{Eal, Mbuf, Running, tsc, tsc_hz};
use director::id::LcoreId;
use director::lcore::clock::{Clock, Nanos};
use director::lcore::query::QueryBox;
use director::lcore::{Exception, Idle, Lcore, LcoreParts, LcorePort, hand_over_rings};
use director::pipeline::MAX_BURST;
use director::service::Publisher;
use director::stats::{Fleet, LcoreCounters, QueueCounters};
use director::time::Tick;
use serde::{Deserialize, Serialize};

use super::instructions::Counter;
use super::source::Fed;
use super::span::Span;
use super::subject::Subject;
use super::world::World;
use crate::error::{Context as _, Result};

/// Packets in the ring from one lcore to another, as in the daemon.
const HAND_OVER_RING: usize = 1024;

/// What was counted over some time.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Packets that left.
    pub packets: u64,
    /// Packets that came.
    pub received: u64,
    /// How long.
    pub nanoseconds: u64,
    /// Whether at the end every packet of the whole run was accounted for.
    pub conserved: bool,
    /// Packets that came in the whole run.
    pub whole: u64,
    /// Those of them that were dropped, punted or held.
    pub lost: u64,
    /// Packets that another lcore took over.
    pub handed_over: u64,
    /// Instructions of the lcores for each packet, where the machine counts them.
    pub instructions_per_packet: Option<f64>,
}

impl Sample {
    /// Packets in a second, in millions.
    #[must_use]
    pub fn mpps(&self) -> f64 {
        self.packets as f64 * 1000.0 / self.nanoseconds.max(1) as f64
    }
}

/// What can be seen of running lcores.
pub struct View<'a> {
    /// Their counters.
    pub fleet: &'a Fleet,
    /// Publishes to them.
    pub publisher: &'a mut Publisher,
    /// Their services.
    pub world: &'a mut World,
}

impl View<'_> {
    /// The sum of a counter over all lcores.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&LcoreCounters) -> u64) -> u64 {
        self.fleet.lcores().iter().map(|lcore| of(lcore)).sum()
    }

    /// Changes the weight of the `n`-th service's first real server, and publishes that.
    ///
    /// # Errors
    /// When it cannot be compiled.
    pub fn change_weight(&mut self, n: u32) -> Result<()> {
        self.world.change_weight(n as usize, 1 + (n % 100) as u16);
        self.publisher.publish(self.world.compile(self.publisher.quiescent())?);
        Ok(())
    }

    /// Counts what happens during `span`, while `meanwhile` is called over and over; it is to rest by itself.
    pub fn sample(&mut self, span: Span, mut meanwhile: impl FnMut(&mut Self)) -> Sample {
        sleep(span.warm_up());
        let counted = |view: &Self| {
            (
                view.sum(|c| c.forwarded.get()),
                view.sum(|c| c.received.get()),
                view.sum(|c| c.handed_over.get()),
            )
        };
        let (forwarded, received, handed_over) = counted(self);
        let begun = Instant::now();
        while begun.elapsed() < span.run() {
            meanwhile(self);
        }
        let (forwarded_then, received_then, handed_over_then) = counted(self);
        Sample {
            packets: forwarded_then - forwarded,
            received: received_then - received,
            handed_over: handed_over_then - handed_over,
            nanoseconds: begun.elapsed().as_nanos() as u64,
            ..Sample::default()
        }
    }
}

/// Queues for each worker lcore.
pub struct Rig<Q> {
    eal: Eal,
    queues: Vec<Q>,
}

impl<Q: Fed> Rig<Q> {
    /// One queue pair for each worker lcore of EAL.
    #[must_use]
    pub fn new(eal: Eal, queues: Vec<Q>) -> Rig<Q> {
        Rig { eal, queues }
    }

    /// The queue pair of an lcore that rests.
    pub fn queues(&mut self) -> &mut [Q] {
        &mut self.queues
    }

    /// Runs the director from the moment `at` of its clock on, while `observe` looks on. Returns what that found,
    /// whether all packets were accounted for with none lost, and instructions for each packet.
    ///
    /// # Errors
    /// When an lcore cannot be launched or panics, or what `observe` returns.
    pub fn run<T>(
        &mut self,
        subject: Subject,
        at: Tick,
        observe: impl FnOnce(&mut View<'_>) -> Result<T>,
    ) -> Result<(T, Ending)> {
        let Subject { mut world, fleet, pipelines, mut publisher, readers } = subject;
        let stop = Arc::new(AtomicBool::new(false));
        let lcores = pipelines.len();
        let rings = hand_over_rings(lcores, HAND_OVER_RING);
        let mut running = Vec::new();
        let parts = pipelines.into_iter().zip(readers).zip(std::mem::take(&mut self.queues)).zip(rings);
        for (n, (((pipeline, snapshots), queues), rings)) in parts.enumerate() {
            let lcore = Lcore::new(LcoreParts {
                pipeline,
                snapshots,
                ports: vec![LcorePort {
                    queues,
                    counters: QueueCounters::of_port(lcores),
                    exception: Exception::None,
                    from_kernel: None,
                }],
                hand_over: rings.0,
                taken_over: rings.1,
                wanted: rtrb::RingBuffer::new(1).0,
                queries: Arc::new(QueryBox::default()),
            });
            running.push(self.launch(LcoreId(n as u8), lcore, at, stop.clone())?);
        }
        let seen = observe(&mut View { fleet: &fleet, publisher: &mut publisher, world: &mut world });
        stop.store(true, Ordering::Relaxed);
        let mut instructions = Some(0);
        for lcore in running {
            let (lcore, counted) = lcore.join().context(|| "a worker lcore")?;
            instructions = instructions.zip(counted).map(|(sum, more)| sum + more);
            self.queues.extend(lcore.into_ports().into_iter().map(|port| port.queues));
        }
        Ok((seen?, Ending::of(&fleet, instructions)))
    }

    fn launch(
        &self,
        n: LcoreId,
        mut lcore: Lcore<Q>,
        at: Tick,
        stop: Arc<AtomicBool>,
    ) -> Result<Running<(Lcore<Q>, Option<u64>)>> {
        let launched = self.eal.launch(n, move || {
            let mut instructions = Counter::open(0).ok();
            let clock = Clock::new(tsc(), tsc_hz());
            let start = u64::from(at.0) * 1_000_000;
            lcore.run(|| Nanos(clock.at(tsc()).0 + start), &stop, Idle::Poll);
            let counted = instructions.as_mut().and_then(|counter| counter.read().ok());
            (lcore, counted)
        });
        launched.context(|| "cannot launch a worker lcore")
    }

    /// Swaps Ethernet addresses and sends back, with nothing in between: the least that a packet from these
    /// queues can cost. One lcore.
    ///
    /// # Errors
    /// When the lcore cannot be launched or panics.
    pub fn forward_plainly(&mut self, span: Span) -> Result<Sample> {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(LcoreCounters::new(0));
        let mut queues = self.queues.remove(0);
        let (ending, counter) = (stop.clone(), sent.clone());
        let running = self.eal.launch(LcoreId(0), move || {
            let mut burst = Vec::with_capacity(MAX_BURST);
            while !ending.load(Ordering::Relaxed) {
                queues.receive(&mut burst);
                for mbuf in &mut burst {
                    swap_addresses(mbuf);
                }
                counter.forwarded.add(queues.transmit(&mut burst) as u64);
                burst.clear();
            }
            queues
        });
        let running = running.context(|| "cannot launch a worker lcore")?;
        sleep(span.warm_up());
        let (before, begun) = (sent.forwarded.get(), Instant::now());
        sleep(span.run());
        let (packets, nanoseconds) = (sent.forwarded.get() - before, begun.elapsed().as_nanos() as u64);
        stop.store(true, Ordering::Relaxed);
        self.queues.insert(0, running.join().context(|| "a worker lcore")?);
        Ok(Sample { packets, received: packets, nanoseconds, conserved: true, ..Sample::default() })
    }
}

fn swap_addresses(mbuf: &mut Mbuf) {
    use director::packet::PacketBuf as _;
    if let [destination, source] = mbuf.bytes_mut()[..12].as_chunks_mut::<6>().0 {
        std::mem::swap(destination, source);
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Every packet is accounted for.
    pub conserved: bool,
    /// Packets that came in all.
    pub received: u64,
    /// Packets that did not leave, nor lay in a ring between lcores at the end.
    pub lost: u64,
    /// Packets that left in all.
    pub forwarded: u64,
    /// Instructions for each packet, where the machine counts them.
    pub instructions_per_packet: Option<f64>,
}

impl Ending {
    fn of(fleet: &Fleet, instructions: Option<u64>) -> Ending {
        let lcores = fleet.lcores();
        let sum = |of: fn(&LcoreCounters) -> u64| lcores.iter().map(|lcore| of(lcore)).sum::<u64>();
        let received = sum(|c| c.received.get());
        // Packets may lie in rings between lcores at the end; those that came that way did arrive before.
        let in_rings = sum(|c| c.handed_over.get()) - sum(|c| c.taken_over.get());
        let forwarded = sum(|c| c.forwarded.get());
        let per_packet = |count: u64| count as f64 / received.max(1) as f64;
        Ending {
            conserved: lcores.iter().all(|lcore| lcore.is_conserved()),
            received,
            lost: received - forwarded - in_rings,
            forwarded,
            instructions_per_packet: instructions.map(per_packet),
        }
    }

    /// Enters this into what was counted before.
    #[must_use]
    pub fn of_sample(self, sample: Sample) -> Sample {
        Sample {
            conserved: self.conserved,
            whole: self.received,
            lost: self.lost,
            instructions_per_packet: self.instructions_per_packet,
            ..sample
        }
    }
}
