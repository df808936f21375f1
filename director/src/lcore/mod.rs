//! The loop of a worker lcore: receive burst, pipeline, transmit burst; between bursts a little of
//! everything else, each bounded. Generic over its ports, so that it is tested without DPDK.

pub mod capture;
pub mod clock;
mod cut;
mod gather;
mod hold;
mod local;
pub mod query;
mod vlan;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use capture::Capturer;
use clock::Nanos;
use cut::Cutter;
use gather::GatherQueue;
use hold::{HoldQueue, Released};
use query::{Answerer, QueryBox};
use rtrb::PushError;

use crate::id::PortId;
use crate::nexthop::{Neighbour, Unresolved, Vlans};
use crate::packet::PacketBuf;
use crate::pipeline::{Action, Arrival, MAX_BURST, Pipeline, Verdict};
use crate::service::Reader;
use crate::stats::{LcoreCounters, QueueCounters, Reason};
use crate::time::Tick;
use crate::wire::{self, ethernet};

/// Connections and slots of the timing wheel that are looked at between bursts.
const EXPIRE_PER_TURN: usize = 32;

/// The receive queues of a port that one lcore polls, and the transmit queue it sends on.
pub trait QueuePair {
    /// What it carries.
    type Packet: PacketBuf;

    /// Appends what one receive queue has, at most `into.capacity() - into.len()` packets, and says which
    /// queue of the port that was.
    fn receive(&mut self, into: &mut Vec<Self::Packet>) -> u16;

    /// Sends from the front of `from`, removes what was sent, and says how many that were.
    fn transmit(&mut self, from: &mut Vec<Self::Packet>) -> usize;
}

/// What becomes of packets that are the kernel's.
pub enum Exception<P> {
    /// They go to the port's mirror interface.
    Mirror(rtrb::Producer<P>),
    /// The kernel keeps the interface and has seen them itself.
    KernelHasIt,
    /// There is no mirror interface: they are lost.
    None,
}

/// A port as one lcore uses it.
pub struct LcorePort<Q: QueuePair> {
    /// The lcore's queues.
    pub queues: Q,
    /// Counters of all receive queues of the port, by number; this lcore writes those of its own.
    pub counters: Arc<[QueueCounters]>,
    /// The way to the kernel.
    pub exception: Exception<Q::Packet>,
    /// Frames that the kernel wants sent; for one lcore only.
    pub from_kernel: Option<rtrb::Consumer<Q::Packet>>,
}

/// A packet on its way to the lcore that owns its connection.
pub struct Handed<P> {
    packet: P,
    port: PortId,
    /// Sent by the kernel on that port's mirror.
    is_kernels: bool,
}

/// A worker lcore.
pub struct Lcore<Q: QueuePair> {
    pipeline: Pipeline,
    counters: Arc<LcoreCounters>,
    snapshots: Reader,
    ports: Vec<LcorePort<Q>>,
    /// One burst for each port, on its way out.
    leaving: Vec<Vec<Q::Packet>>,
    /// Toward each other lcore, by number; `None` for itself.
    hand_over: Vec<Option<rtrb::Producer<Handed<Q::Packet>>>>,
    /// Packets of this burst for each other lcore.
    handing: Vec<Vec<Handed<Q::Packet>>>,
    /// From each other lcore.
    taken_over: Vec<rtrb::Consumer<Handed<Q::Packet>>>,
    hold: HoldQueue<Q::Packet>,
    gather: GatherQueue<Q::Packet>,
    cutter: Cutter,
    /// Neighbours whose Ethernet address is wanted.
    wanted: rtrb::Producer<Neighbour>,
    answers: Answerer,
    /// What captures packets, while somebody wants that.
    capturer: Option<Box<Capturer>>,
    burst: Vec<Q::Packet>,
    /// Frames of the kernel that other lcores have handed over.
    kernels: Vec<(Q::Packet, PortId)>,
    /// Packets of a burst that nobody wants any more, to be freed together.
    spent: Vec<Q::Packet>,
    verdicts: [Verdict; MAX_BURST],
    /// When the turn before this one started, and how many packets it sent.
    last: (Nanos, u64),
}

/// What an lcore is made of.
pub struct LcoreParts<Q: QueuePair> {
    /// Its data plane.
    pub pipeline: Pipeline,
    /// Where its snapshots come from.
    pub snapshots: Reader,
    /// All ports, by number.
    pub ports: Vec<LcorePort<Q>>,
    /// Toward each other lcore, by number; `None` for itself.
    pub hand_over: Vec<Option<rtrb::Producer<Handed<Q::Packet>>>>,
    /// From each other lcore.
    pub taken_over: Vec<rtrb::Consumer<Handed<Q::Packet>>>,
    /// Neighbours whose Ethernet address is wanted.
    pub wanted: rtrb::Producer<Neighbour>,
    /// Questions of the control thread.
    pub queries: Arc<QueryBox>,
}

/// An lcore's ends of the rings between lcores: toward each other one, and from each other one.
pub type HandOverEnds<P> = (Vec<Option<rtrb::Producer<Handed<P>>>>, Vec<rtrb::Consumer<Handed<P>>>);

/// A ring of `capacity` packets from each lcore to each other one.
pub fn hand_over_rings<P>(lcores: usize, capacity: usize) -> Vec<HandOverEnds<P>> {
    let mut ends: Vec<HandOverEnds<P>> = (0..lcores).map(|_| (Vec::new(), Vec::new())).collect();
    for from in 0..lcores {
        for to in 0..lcores {
            let toward = (from != to).then(|| {
                let (toward, taken) = rtrb::RingBuffer::new(capacity);
                ends[to].1.push(taken);
                toward
            });
            ends[from].0.push(toward);
        }
    }
    ends
}

/// What an lcore does when nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It asks again at once: the least latency, and the whole CPU.
    Poll,
    /// It rests a little after a while: for machines that have other work to do.
    Sleep,
}

impl Idle {
    /// Turns without a packet before it rests.
    const PATIENCE: u32 = 256;
    /// How long it rests; a descriptor ring of 1024 lasts longer than that below 20 Mpps.
    const REST: Duration = Duration::from_micros(20);
}

impl<Q: QueuePair> Lcore<Q> {
    /// An lcore that has not turned yet.
    pub fn new(parts: LcoreParts<Q>) -> Lcore<Q> {
        let counters = parts.pipeline.counters().clone();
        Lcore {
            counters,
            cutter: Cutter::new(parts.pipeline.lcore()),
            pipeline: parts.pipeline,
            snapshots: parts.snapshots,
            leaving: parts.ports.iter().map(|_| Vec::with_capacity(MAX_BURST)).collect(),
            ports: parts.ports,
            handing: parts.hand_over.iter().map(|_| Vec::with_capacity(MAX_BURST)).collect(),
            hand_over: parts.hand_over,
            taken_over: parts.taken_over,
            hold: HoldQueue::new(),
            gather: GatherQueue::new(),
            wanted: parts.wanted,
            answers: Answerer::new(parts.queries),
            capturer: None,
            burst: Vec::with_capacity(MAX_BURST),
            kernels: Vec::with_capacity(MAX_BURST),
            spent: Vec::with_capacity(MAX_BURST),
            verdicts: [Verdict::UNDECIDED; MAX_BURST],
            last: (Nanos(0), 0),
        }
    }

    /// Ends it, and gives its ports back. What it holds in its rings and its table is gone.
    pub fn into_ports(self) -> Vec<LcorePort<Q>> {
        self.ports
    }

    /// Turns until `stop`. `clock` is read once in each turn.
    pub fn run(&mut self, mut clock: impl FnMut() -> Nanos, stop: &AtomicBool, idle: Idle) {
        let mut idle_turns = 0;
        while !stop.load(Ordering::Relaxed) {
            if self.turn(clock()) {
                idle_turns = 0;
            } else if idle == Idle::Sleep {
                idle_turns += 1;
                if idle_turns >= Idle::PATIENCE {
                    std::thread::sleep(Idle::REST);
                }
            }
        }
    }

    /// One turn: a burst of each port and ring, and a little of the rest. True when packets came.
    pub fn turn(&mut self, now: Nanos) -> bool {
        // The moment at which this turn starts is the one at which the last one had sent everything.
        let (started, sent) = self.last;
        if sent > 0 {
            self.counters.latency.record(now.0 - started.0, sent);
        }
        let tick = now.tick();
        if let Some(capturer) = &mut self.capturer {
            capturer.turn(now);
        }
        let news = self.snapshots.refresh();
        let forwarded_before = self.counters.forwarded.get();

        let mut came = 0;
        for port in 0..self.ports.len() {
            came += self.receive(PortId(port as u8), tick);
        }
        for ring in 0..self.taken_over.len() {
            came += self.take_over(ring, tick);
        }
        if self.pipeline.has_gathered() {
            self.release_gathered(tick);
        }
        let from_kernel = if self.snapshots.current().local_nat {
            self.sort_for_kernel(tick)
        } else {
            self.send_for_kernel()
        };
        self.release_held(news, tick);
        for port in 0..self.ports.len() {
            self.flush(port);
        }

        self.pipeline.expire(self.snapshots.current(), tick, EXPIRE_PER_TURN);
        self.answers.turn(&self.pipeline, self.snapshots.current(), tick, &mut self.capturer);
        self.counters.loops.add(1);
        self.counters.busy_loops.add(u64::from(came > 0));
        self.last = (now, self.counters.forwarded.get() - forwarded_before);
        came + from_kernel > 0
    }

    fn receive(&mut self, port: PortId, now: Tick) -> usize {
        let mut burst = std::mem::take(&mut self.burst);
        let queue = self.ports[usize::from(port.0)].queues.receive(&mut burst);
        let came = burst.len();
        if came > 0 {
            self.counters.received.add(came as u64);
            let vlans = self.snapshots.current().hops.vlans();
            if !vlans.is_empty() {
                vlan::take_off(&mut burst, port, vlans);
            }
            let strays = self.process(Arrival::Port(port), &mut burst, now, |_| port);
            if strays > 0
                && let Some(counters) = self.ports[usize::from(port.0)].counters.get(usize::from(queue))
            {
                counters.wrong_lcore.add(strays);
            }
        }
        self.burst = burst;
        came
    }

    fn take_over(&mut self, ring: usize, now: Tick) -> usize {
        let ring = &mut self.taken_over[ring];
        // The whole chunk is given back at once: the other lcore reads its place in the ring once for a burst.
        let Ok(chunk) = ring.read_chunk(ring.slots().min(MAX_BURST)) else { return 0 };
        if chunk.is_empty() {
            return 0;
        }
        let mut burst = std::mem::take(&mut self.burst);
        let mut ports = [PortId(0); MAX_BURST];
        let came = chunk.len();
        for handed in chunk {
            if handed.is_kernels {
                self.kernels.push((handed.packet, handed.port));
                continue;
            }
            ports[burst.len()] = handed.port;
            burst.push(handed.packet);
        }
        self.counters.taken_over.add(came as u64);
        if !self.kernels.is_empty() {
            self.answer_taken_over(now);
        }
        self.process(Arrival::Ring, &mut burst, now, |at| ports[at]);
        self.burst = burst;
        came
    }

    /// Decides about a burst and does what was decided; `port_of` says where a packet came in. Returns how
    /// many packets are another lcore's.
    fn process(
        &mut self,
        arrival: Arrival,
        burst: &mut Vec<Q::Packet>,
        now: Tick,
        port_of: impl Fn(usize) -> PortId,
    ) -> u64 {
        let mut strays = 0;
        if let Some(capturer) = &mut self.capturer {
            capturer.before(self.pipeline.tables(), self.snapshots.current(), now, burst);
        }
        let common = self.pipeline.process(self.snapshots.current(), now, arrival, burst, &mut self.verdicts);
        if let Some(capturer) = &mut self.capturer {
            let (tables, decided) = (self.pipeline.tables(), (&burst[..], &self.verdicts[..]));
            capturer.after(tables, self.snapshots.current(), now, decided, &port_of);
        }
        if let Some(out) = common
            && let Some(leaving) = self.leaving.get_mut(usize::from(out.0))
            && leaving.is_empty()
        {
            // All at once, and nobody has to look at each.
            std::mem::swap(burst, leaving);
            if leaving.len() == MAX_BURST {
                transmit(&self.counters, &mut self.ports[usize::from(out.0)].queues, leaving);
            }
            return 0;
        }
        for (at, packet) in burst.drain(..).enumerate() {
            let port = port_of(at);
            match self.verdicts[at].action {
                Action::Forward(out) => match self.leaving.get_mut(usize::from(out.0)) {
                    Some(leaving) => {
                        leaving.push(packet);
                        if leaving.len() == MAX_BURST {
                            transmit(&self.counters, &mut self.ports[usize::from(out.0)].queues, leaving);
                        }
                    }
                    None => {
                        let vlans = self.snapshots.current().hops.vlans();
                        let (ports, leaving) = (&mut self.ports, &mut self.leaving);
                        self.spent.extend(leave_tagged(&self.counters, ports, leaving, packet, out, vlans));
                    }
                },
                Action::Drop => {
                    self.counters.dropped.add(1);
                    self.spent.push(packet);
                }
                Action::Punt => {
                    let exception = &mut self.ports[usize::from(port.0)].exception;
                    self.spent.extend(punt(&self.counters, exception, packet));
                }
                Action::HandOver(owner) => {
                    strays += 1;
                    match self.handing.get_mut(usize::from(owner.0)) {
                        Some(handing) => handing.push(Handed { packet, port, is_kernels: false }),
                        None => {
                            lose(&self.counters, Reason::HandOverFull, 1);
                            self.spent.push(packet);
                        }
                    }
                }
                Action::Cut(out) => {
                    let vlans = self.snapshots.current().hops.vlans();
                    let (counters, ports, leaving) = (&self.counters, &mut self.ports, &mut self.leaving);
                    let mtu = packet.note() as u16;
                    self.cutter.cut(counters, &packet, mtu, |piece| {
                        leave_by(counters, ports, leaving, piece, out, vlans);
                    });
                    self.spent.push(packet);
                }
                Action::Hold(wait) => self.hold(packet, self.pipeline.awaited(wait), now),
                Action::Gather(slot) => {
                    self.counters.held.add(1);
                    self.spent.extend(self.gather.keep(slot, packet, port));
                }
            }
        }
        if strays > 0 {
            self.hand_over();
        }
        Q::Packet::free(&mut self.spent);
        strays
    }

    /// Hands a burst's packets over, those of each other lcore at once.
    fn hand_over(&mut self) {
        for (ring, handing) in self.hand_over.iter_mut().zip(&mut self.handing) {
            if handing.is_empty() {
                continue;
            }
            let room = ring.as_ref().map_or(0, |ring| ring.slots().min(handing.len()));
            let chunk = ring.as_mut().and_then(|ring| ring.write_chunk_uninit(room).ok());
            let handed = chunk.map_or(0, |chunk| chunk.fill_from_iter(handing.drain(..room)));
            self.counters.handed_over.add(handed as u64);
            lose(&self.counters, Reason::HandOverFull, handing.len() as u64);
            self.spent.extend(handing.drain(..).map(|handed| handed.packet));
        }
    }

    fn hold(&mut self, packet: Q::Packet, unresolved: Unresolved, now: Tick) {
        // A full ring means that the control thread has plenty to ask for; the next packet asks again.
        let _ = self.wanted.push(unresolved.neighbour);
        match self.hold.push(packet, unresolved, now) {
            Ok(()) => self.counters.held.add(1),
            Err(packet) => {
                lose(&self.counters, Reason::NeighbourQueueFull, 1);
                self.spent.push(packet);
            }
        }
    }

    /// Decides about fragments that wait no longer.
    #[cold]
    fn release_gathered(&mut self, now: Tick) {
        let mut burst = std::mem::take(&mut self.burst);
        let mut ports = [PortId(0); MAX_BURST];
        while self.pipeline.has_gathered() {
            while burst.len() < MAX_BURST
                && let Some(released) = self.pipeline.next_gathered()
            {
                let Some((mut packet, port)) = self.gather.take(released.slot) else { continue };
                self.counters.held.sub(1);
                match released.ports {
                    Some(note) => {
                        packet.set_note(note);
                        ports[burst.len()] = port;
                        burst.push(packet);
                    }
                    None => {
                        lose(&self.counters, Reason::FragmentTimeout, 1);
                        self.spent.push(packet);
                    }
                }
            }
            self.process(Arrival::Gathered, &mut burst, now, |at| ports[at]);
        }
        self.burst = burst;
    }

    fn release_held(&mut self, news: bool, now: Tick) {
        let (counters, ports, leaving) = (&self.counters, &mut self.ports, &mut self.leaving);
        let (hops, cutter) = (&self.snapshots.current().hops, &mut self.cutter);
        self.hold.release(hops, news, now, |released| {
            counters.held.sub(1);
            match released {
                Released::GivenUp(_) => lose(counters, Reason::NeighbourSilent, 1),
                Released::Ready(mut packet, egress) => {
                    ethernet::write_addresses(packet.bytes_mut(), &egress.addresses);
                    let mut leave =
                        |packet| leave_by(counters, ports, leaving, packet, egress.port, hops.vlans());
                    if packet.bytes().len() > ethernet::HEADER_LEN + usize::from(egress.mtu) {
                        cutter.cut(counters, &packet, egress.mtu, leave);
                    } else {
                        leave(packet);
                    }
                }
            }
        });
    }

    /// Sends frames of the kernel, a burst for each port.
    fn send_for_kernel(&mut self) -> usize {
        let mut all = 0;
        for (port, leaving) in self.ports.iter_mut().zip(&mut self.leaving) {
            let Some(ring) = &mut port.from_kernel else { continue };
            if ring.is_empty() {
                continue;
            }
            transmit(&self.counters, &mut port.queues, leaving);
            let frames = leaving.capacity().min(ring.slots());
            leaving.extend((0..frames).map_while(|_| ring.pop().ok()));
            all += leaving.len();
            self.counters.from_kernel.add(port.queues.transmit(leaving) as u64);
            self.counters.from_kernel_lost.add(leaving.len() as u64);
            Q::Packet::free(leaving);
        }
        all
    }

    fn flush(&mut self, port: usize) {
        if !self.leaving[port].is_empty() {
            transmit(&self.counters, &mut self.ports[port].queues, &mut self.leaving[port]);
        }
    }
}

/// Lets a packet leave by a port.
fn leave<Q: QueuePair>(
    counters: &LcoreCounters,
    ports: &mut [LcorePort<Q>],
    leaving: &mut [Vec<Q::Packet>],
    packet: Q::Packet,
    out: PortId,
) {
    let (port, leaving) = (&mut ports[usize::from(out.0)], &mut leaving[usize::from(out.0)]);
    leaving.push(packet);
    if leaving.len() == MAX_BURST {
        transmit(counters, &mut port.queues, leaving);
    }
}

/// Lets a packet leave by a port or a VLAN interface.
#[cold]
fn leave_by<Q: QueuePair>(
    counters: &LcoreCounters,
    ports: &mut [LcorePort<Q>],
    leaving: &mut [Vec<Q::Packet>],
    packet: Q::Packet,
    out: PortId,
    vlans: &Vlans,
) {
    if usize::from(out.0) < ports.len() {
        leave(counters, ports, leaving, packet, out);
    } else {
        leave_tagged(counters, ports, leaving, packet, out, vlans);
    }
}

/// Lets a packet leave by a VLAN interface. Returns it where it is lost.
#[cold]
#[inline(never)]
fn leave_tagged<Q: QueuePair>(
    counters: &LcoreCounters,
    ports: &mut [LcorePort<Q>],
    leaving: &mut [Vec<Q::Packet>],
    mut packet: Q::Packet,
    out: PortId,
    vlans: &Vlans,
) -> Option<Q::Packet> {
    match vlan::put_on(&mut packet, out, vlans) {
        Some(port) => {
            leave(counters, ports, leaving, packet, port);
            None
        }
        None => {
            lose(counters, Reason::NoHeadroom, 1);
            Some(packet)
        }
    }
}

/// Sends what is leaving by a port; what its queue does not take is lost.
fn transmit<Q: QueuePair>(counters: &LcoreCounters, queues: &mut Q, leaving: &mut Vec<Q::Packet>) {
    counters.forwarded.add(queues.transmit(leaving) as u64);
    if !leaving.is_empty() {
        lose(counters, Reason::TxFull, leaving.len() as u64);
        Q::Packet::free(leaving);
    }
}

/// Gives a packet to the kernel, with the tags that it came with. Returns it where the kernel does not take it, or needs
/// no copy of it.
fn punt<P: PacketBuf>(counters: &LcoreCounters, exception: &mut Exception<P>, mut packet: P) -> Option<P> {
    if !wire::vlan::restore(&mut packet) {
        lose(counters, Reason::NoHeadroom, 1);
        return Some(packet);
    }
    match exception {
        Exception::Mirror(ring) => match ring.push(packet) {
            Ok(()) => {
                counters.punted.add(1);
                return None;
            }
            Err(PushError::Full(packet)) => {
                lose(counters, Reason::PuntFull, 1);
                return Some(packet);
            }
        },
        Exception::KernelHasIt => counters.punted.add(1),
        Exception::None => lose(counters, Reason::NoMirror, 1),
    }
    Some(packet)
}

/// Packets are lost after they were decided about.
fn lose(counters: &LcoreCounters, reason: Reason, packets: u64) {
    counters.reason(reason).add(packets);
    counters.dropped.add(packets);
}
