//! The loop of an lcore on ports made of vectors: nothing is lost without a name.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::connection::{Capacity, Tables};
use director::id::LcoreId;
use director::lcore::clock::Nanos;
use director::lcore::query::{ConnectionFilter, Place, Query, QueryBox};
use director::lcore::{Exception, Lcore, LcoreParts, LcorePort, QueuePair, hand_over_rings};
use director::nexthop::Neighbour;
use director::packet::{BytesPacket, PacketBuf};
use director::pipeline::Pipeline;
use director::service::Publisher;
use director::stats::{LatencyCounters, LcoreCounters, QueueCounters, Reason};

use crate::frames::{ACK, Frame, SYN, describe};
use crate::world::{Shape, World, ip, server_mac, service};

/// What a port is fed with, by which receive queue, and what it sent; it takes `room` more packets.
#[derive(Default)]
pub struct Wire {
    queue: u16,
    pub incoming: Vec<BytesPacket>,
    pub sent: Vec<Vec<u8>>,
    room: usize,
}

pub struct FakePort(Rc<RefCell<Wire>>);

impl QueuePair for FakePort {
    type Packet = BytesPacket;

    fn receive(&mut self, into: &mut Vec<BytesPacket>) -> u16 {
        let mut wire = self.0.borrow_mut();
        let n = wire.incoming.len().min(into.capacity() - into.len());
        into.extend(wire.incoming.drain(..n));
        wire.queue
    }

    fn transmit(&mut self, from: &mut Vec<BytesPacket>) -> usize {
        let mut wire = self.0.borrow_mut();
        let n = from.len().min(wire.room);
        wire.room -= n;
        let sent: Vec<_> = from.drain(..n).map(|p| p.bytes().to_vec()).collect();
        wire.sent.extend(sent);
        n
    }
}

pub struct Bench {
    pub world: World,
    pub publisher: Publisher,
    pub lcores: Vec<Lcore<FakePort>>,
    /// `wires[lcore][port]`.
    pub wires: Vec<[Rc<RefCell<Wire>>; 2]>,
    pub punted: Vec<rtrb::Consumer<BytesPacket>>,
    pub from_kernel: rtrb::Producer<BytesPacket>,
    pub wanted: Vec<rtrb::Consumer<Neighbour>>,
    pub queries: Vec<Arc<QueryBox>>,
    pub counters: Vec<Arc<LcoreCounters>>,
    /// Of the receive queues of each port.
    pub queues: [Arc<[QueueCounters]>; 2],
    pub now: Nanos,
}

fn bench(lcores: usize) -> Bench {
    let world = World::shaped(
        vec![
            service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1]),
            service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Dr, 53, &[1]),
        ],
        Shape { lcores, capacity: 1000, ..Shape::default() },
    );
    bench_of(world)
}

pub fn bench_of(mut world: World) -> Bench {
    let lcores = world.pipelines.len();
    let rings = hand_over_rings(lcores, 64);
    let first = std::mem::replace(&mut world.snapshot, director::service::Compiler::empty_snapshot(0));
    let version = first.version;
    let (publisher, readers) = Publisher::new(lcores, first);
    world.snapshot.version = version;
    let (from_kernel, ring) = rtrb::RingBuffer::new(64);
    let mut from_kernel_ring = Some(ring);
    let (mut wires, mut punted, mut wanted, mut queries, mut made) = (vec![], vec![], vec![], vec![], vec![]);
    let counters = world.fleet.lcores().to_vec();
    let queues = [(); 2].map(|()| QueueCounters::of_port(lcores));
    let pipelines = std::mem::take(&mut world.pipelines);
    for (n, ((snapshots, pipeline), (hand_over, taken_over))) in
        readers.into_iter().zip(pipelines).zip(rings).enumerate()
    {
        let (to_kernel, ring) = rtrb::RingBuffer::new(4);
        punted.push(ring);
        let (want, ring) = rtrb::RingBuffer::new(16);
        wanted.push(ring);
        queries.push(Arc::new(QueryBox::default()));
        let wire = || Wire { queue: n as u16, room: 1_000_000, ..Wire::default() };
        let pair = [wire(), wire()].map(|w| Rc::new(RefCell::new(w)));
        let ports = vec![
            LcorePort {
                queues: FakePort(pair[0].clone()),
                counters: queues[0].clone(),
                exception: Exception::Mirror(to_kernel),
                from_kernel: (n == 0).then(|| from_kernel_ring.take()).flatten(),
            },
            LcorePort {
                queues: FakePort(pair[1].clone()),
                counters: queues[1].clone(),
                exception: Exception::None,
                from_kernel: None,
            },
        ];
        wires.push(pair);
        made.push(Lcore::new(LcoreParts {
            pipeline,
            snapshots,
            ports,
            hand_over,
            taken_over,
            wanted: want,
            queries: queries[n].clone(),
        }));
    }
    Bench {
        world,
        publisher,
        lcores: made,
        wires,
        punted,
        from_kernel,
        wanted,
        queries,
        counters,
        queues,
        now: Nanos(5_000_000_000),
    }
}

impl Bench {
    fn feed(&mut self, lcore: usize, port: usize, frame: &Frame) {
        self.wires[lcore][port].borrow_mut().incoming.push(BytesPacket::new(&frame.bytes()));
    }

    /// Every lcore turns `n` times, a microsecond apart.
    pub fn turn(&mut self, n: usize) {
        for _ in 0..n {
            for lcore in &mut self.lcores {
                self.now.0 += 1000;
                lcore.turn(self.now);
            }
        }
        assert!(self.counters.iter().all(|c| c.is_conserved()), "{:?}", self.counters[0]);
    }

    /// Makes what was changed in `world` take effect.
    pub fn publish(&mut self) {
        self.world.publish();
        let fresh =
            std::mem::replace(&mut self.world.snapshot, director::service::Compiler::empty_snapshot(0));
        self.publisher.publish(fresh);
    }

    /// Packets at the wrong lcore, by receive queue, which are as many as lcores.
    fn strays(&self, port: usize) -> Vec<u64> {
        self.queues[port].iter().map(|queue| queue.wrong_lcore.get()).collect()
    }

    fn sent(&self, lcore: usize, port: usize) -> Vec<String> {
        self.wires[lcore][port].borrow().sent.iter().map(|f| describe(f)).collect()
    }
}

fn syn(port: u16) -> Frame {
    Frame::tcp(("10.0.1.1", port), ("10.99.0.1", 80), SYN)
}

#[test]
fn packets_go_through_and_are_counted() {
    let mut bench = bench(1);
    for port in 0..100 {
        bench.feed(0, 0, &syn(30_000 + port));
    }
    bench.turn(5);
    assert_eq!(bench.sent(0, 1).len(), 100);
    let c = &bench.counters[0];
    assert_eq!((c.received.get(), c.forwarded.get(), c.dropped.get()), (100, 100, 0));
    assert_eq!(c.connections.get(), 100);
    let mut histogram = LatencyCounters::histogram();
    c.latency.add_to(&mut histogram);
    assert_eq!(histogram.len(), 100, "each packet has a latency");
    assert!((990..=1010).contains(&histogram.max()), "{}", histogram.max());
}

#[test]
fn a_full_transmit_queue_loses_by_name() {
    let mut bench = bench(1);
    bench.wires[0][1].borrow_mut().room = 10;
    for port in 0..40 {
        bench.feed(0, 0, &syn(30_000 + port));
    }
    bench.turn(3);
    let c = &bench.counters[0];
    assert_eq!((c.forwarded.get(), c.dropped.get(), c.reason(Reason::TxFull).get()), (10, 30, 30));
}

#[test]
fn the_kernels_packets_go_to_its_mirror_and_are_lost_by_name() {
    let mut bench = bench(1);
    for port in 0..6 {
        bench.feed(0, 0, &Frame::tcp(("10.0.1.1", 30_000 + port), ("10.99.0.1", 22), SYN));
    }
    bench.feed(0, 1, &Frame::tcp(("10.0.2.11", 22), ("10.0.2.254", 1), SYN).by_server());
    bench.turn(2);
    let c = &bench.counters[0];
    assert_eq!(
        (c.punted.get(), c.reason(Reason::PuntFull).get(), c.reason(Reason::NoMirror).get()),
        (4, 2, 1)
    );
    assert_eq!(bench.punted[0].slots(), 4);
    // And the way back, which is not received and hence not part of the balance.
    bench.from_kernel.push(BytesPacket::new(&syn(1).bytes())).unwrap();
    bench.turn(1);
    assert_eq!(bench.sent(0, 0).len(), 1);
    assert_eq!(bench.counters[0].from_kernel.get(), 1);
}

#[test]
fn every_packet_at_the_wrong_lcore_still_arrives_in_order() {
    let mut bench = bench(2);
    // Both lcores get everything of connections that they do and do not own.
    for n in 0..50u16 {
        for flags in [SYN, ACK] {
            let mut frame = syn(30_000 + n);
            frame.payload = crate::frames::Payload::Tcp { flags, data: Vec::new() };
            bench.feed(usize::from(n % 2), 0, &frame);
        }
    }
    bench.turn(10);
    let handed: u64 = bench.counters.iter().map(|c| c.handed_over.get()).sum();
    let taken: u64 = bench.counters.iter().map(|c| c.taken_over.get()).sum();
    assert!(handed > 20 && handed == taken, "{handed} {taken}");
    let handed: Vec<_> = bench.counters.iter().map(|c| c.handed_over.get()).collect();
    assert_eq!((bench.strays(0), bench.strays(1)), (handed, vec![0, 0]), "each by the queue it came by");
    let all: Vec<_> = (0..2).flat_map(|lcore| bench.sent(lcore, 1)).collect();
    assert_eq!(all.len(), 100);
    for n in 0..50 {
        let of: Vec<_> = all.iter().filter(|f| f.contains(&format!("TCP {}>8080", 30_000 + n))).collect();
        assert_eq!(of.len(), 2);
        assert!(of[0].contains("[S]") && of[1].contains("[A]"), "in the order in which they came");
    }
}

#[test]
fn a_full_ring_between_lcores_loses_by_name() {
    let mut bench = bench(2);
    // Only the first lcore turns, so that its ring of 64 fills up.
    for n in 0..400 {
        bench.feed(0, 0, &syn(30_000 + n));
    }
    for _ in 0..20 {
        bench.now.0 += 1000;
        let now = bench.now;
        bench.lcores[0].turn(now);
    }
    let c = &bench.counters[0];
    assert_eq!(c.handed_over.get(), 64);
    let lost = c.reason(Reason::HandOverFull).get();
    assert!(lost > 50);
    assert!(c.is_conserved());
    assert_eq!(bench.strays(0), [64 + lost, 0], "those that were lost as well");
    assert_eq!(c.reason(Reason::OtherLcore).get(), 64 + lost);
    bench.turn(5);
    assert_eq!(bench.counters[1].taken_over.get(), 64);
}

#[test]
fn packets_wait_for_a_neighbour_and_go_when_it_is_found() {
    let mut world = World::new(vec![service(
        Protocol::Udp,
        "10.99.0.1:53",
        Scheduler::Rr,
        ForwardingMethod::Dr,
        53,
        &[1],
    )]);
    world.view.neighbours.clear();
    world.publish();
    let mut bench = bench_of(world);
    for n in 0..3 {
        bench.feed(0, 0, &Frame::udp(("10.0.1.1", 30_000 + n), ("10.99.0.1", 53), b"?"));
    }
    bench.turn(2);
    let c = bench.counters[0].clone();
    assert_eq!((c.held.get(), c.forwarded.get()), (3, 0));
    let wanted = bench.wanted[0].pop().unwrap();
    assert_eq!(wanted.ip, ip("10.0.2.11"));
    bench.world.view.neighbours.insert(wanted, server_mac(1));
    bench.publish();
    bench.turn(1);
    assert_eq!((c.held.get(), c.forwarded.get()), (0, 3));
    assert!(bench.sent(0, 1)[0].starts_with("to 02:00:00:00:01:0b IP 10.0.1.1>10.99.0.1"));
}

#[test]
fn a_silent_neighbour_loses_its_packets_by_name() {
    let mut world = World::new(vec![service(
        Protocol::Udp,
        "10.99.0.1:53",
        Scheduler::Rr,
        ForwardingMethod::Dr,
        53,
        &[1],
    )]);
    world.view.neighbours.clear();
    world.publish();
    let mut bench = bench_of(world);
    for n in 0..100 {
        bench.feed(0, 0, &Frame::udp(("10.0.1.1", 30_000 + n), ("10.99.0.1", 53), b"?"));
    }
    bench.turn(5);
    let c = bench.counters[0].clone();
    assert_eq!((c.held.get(), c.reason(Reason::NeighbourQueueFull).get()), (64, 36));
    bench.now.0 += 1_100_000_000;
    bench.turn(1);
    assert_eq!((c.held.get(), c.reason(Reason::NeighbourSilent).get()), (0, 64));
}

/// Fragments of one datagram to the service of port 53, as many as `at` cuts it into.
pub fn fragments(port: u16, id: u32, at: &[usize]) -> Vec<BytesPacket> {
    let whole = Frame::udp(("10.0.1.1", port), ("10.99.0.1", 53), &[7; 200]).bytes();
    crate::fragments::cut(&whole, at, id).iter().map(|fragment| BytesPacket::new(fragment)).collect()
}

#[test]
fn fragments_wait_for_their_first_one_wherever_they_come() {
    let mut bench = bench(2);
    for n in 0..20u16 {
        let mut pieces = fragments(30_000 + n, n.into(), &[5, 10]);
        // The first one last, and each by another lcore.
        pieces.reverse();
        for (at, piece) in pieces.into_iter().enumerate() {
            bench.wires[at % 2][0].borrow_mut().incoming.push(piece);
            bench.turn(3);
            let held: u64 = bench.counters.iter().map(|c| c.held.get()).sum();
            assert_eq!(held, [1, 2, 0][at]);
        }
    }
    let sent: usize = (0..2).map(|lcore| bench.sent(lcore, 1).len()).sum();
    assert_eq!(sent, 60);
    let sum = |reason: Reason| bench.counters.iter().map(|c| c.reason(reason).get()).sum::<u64>();
    assert_eq!((sum(Reason::FragmentWaits), sum(Reason::RequestDr)), (40, 60));
}

#[test]
fn fragments_that_wait_in_vain_are_lost_by_name() {
    let mut bench = bench(1);
    for n in 0..300 {
        let piece = fragments(30_000, n, &[5]).pop().unwrap();
        bench.wires[0][0].borrow_mut().incoming.push(piece);
    }
    bench.turn(20);
    let c = bench.counters[0].clone();
    // Now and then one makes room for another: which packets are neighbours in the table, nobody can foresee.
    let lost = || c.reason(Reason::FragmentQueueFull).get() + c.reason(Reason::FragmentTimeout).get();
    assert!((30..=44).contains(&c.reason(Reason::FragmentQueueFull).get()), "{}", lost());
    assert_eq!(c.held.get() + lost(), 300);
    bench.now.0 += 6_000_000_000;
    // All packets are looked at, a few in each turn.
    bench.turn(2 * director::fragment::PACKETS / 32);
    assert_eq!((c.held.get(), lost()), (0, 300));
}

#[test]
fn questions_are_answered_between_bursts() {
    let mut bench = bench(1);
    for n in 0..600 {
        bench.feed(0, 0, &syn(30_000 + n));
    }
    bench.turn(30);
    let ask = |cursor, room, filter| Query::Connections {
        cursor,
        filter,
        found: Vec::with_capacity(room),
        next: None,
    };
    let mut all = Vec::new();
    let mut cursor = Place::default();
    loop {
        let number = bench.queries[0].ask(ask(cursor, 100, ConnectionFilter::default()));
        let mut answer = None;
        for _ in 0..10 {
            bench.turn(1);
            answer = answer.or_else(|| bench.queries[0].answer(number));
        }
        let Some(Query::Connections { found, next, .. }) = answer else { panic!("no answer") };
        all.extend(found.iter().map(|c| c.client.port()));
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    all.sort_unstable();
    assert_eq!(all, (30_000..30_600).collect::<Vec<_>>());

    let filter = ConnectionFilter { server: Some("10.0.2.12:8080".parse().unwrap()), ..Default::default() };
    let number = bench.queries[0].ask(ask(Place::default(), 1000, filter));
    bench.turn(10);
    let Some(Query::Connections { found, next: None, .. }) = bench.queries[0].answer(number) else {
        panic!()
    };
    assert_eq!(found.len(), 300);
    assert!(found.iter().all(|c| c.server.ip() == ip("10.0.2.12")));

    let nothing = director::lcore::query::CounterCopy::of(&LcoreCounters::new(0));
    let number = bench.queries[0].ask(Query::Counters(Box::new(nothing)));
    bench.turn(1);
    let Some(Query::Counters(copy)) = bench.queries[0].answer(number) else { panic!() };
    assert_eq!((copy.received, copy.conserved), (600, true));
}

#[test]
fn the_answer_to_a_question_that_was_given_up_is_not_the_answer_to_the_next() {
    let mut bench = bench(1);
    for n in 0..600 {
        bench.feed(0, 0, &syn(30_000 + n));
    }
    bench.turn(30);
    let ask = |filter| {
        let found = Vec::with_capacity(1000);
        Query::Connections { cursor: Place::default(), filter, found, next: None }
    };
    let nobody = ConnectionFilter { client: Some(ip("10.0.9.9")), ..ConnectionFilter::default() };
    let given_up = bench.queries[0].ask(ask(nobody));
    bench.turn(1);
    let number = bench.queries[0].ask(ask(ConnectionFilter::default()));
    // What was found for the first one comes back here, while the second one is worked on.
    bench.turn(1);
    assert!(bench.queries[0].answer(number).is_none());
    bench.turn(10);
    let Some(Query::Connections { found, .. }) = bench.queries[0].answer(number) else { panic!("no answer") };
    assert_eq!(found.len(), 600);
    assert!(bench.queries[0].answer(given_up).is_none());
}

#[test]
fn a_million_connections_are_listed_without_a_long_turn() {
    let shape = Shape { capacity: 1 << 20, ..Shape::default() };
    let nat = service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1]);
    let mut bench = bench_of(World::shaped(vec![nat], shape));
    for client in 0..1_000_000u32 {
        let from = std::net::Ipv4Addr::from_bits(0x0a01_0000 + client / 60_000).to_string();
        let syn = Frame::tcp((&from, 1_024 + (client % 60_000) as u16), ("10.99.0.1", 80), SYN);
        bench.feed(0, 0, &syn);
        if client % 32 == 31 {
            bench.turn(2);
            bench.wires[0].iter().for_each(|wire| wire.borrow_mut().sent.clear());
        }
    }
    bench.turn(10);
    assert_eq!(bench.counters[0].connections.get(), 1_000_000);

    // Nothing fits: each answer is one that gave up, and says where to go on.
    let filter = ConnectionFilter { client: Some(ip("10.0.9.9")), ..ConnectionFilter::default() };
    let (mut cursor, mut answers, mut turns, mut longest) =
        (Place::default(), 0, 0u32, std::time::Duration::ZERO);
    loop {
        let found = Vec::with_capacity(1_000);
        let number = bench.queries[0].ask(Query::Connections { cursor, filter, found, next: None });
        let next = loop {
            let begun = std::time::Instant::now();
            bench.turn(1);
            longest = longest.max(begun.elapsed());
            turns += 1;
            match bench.queries[0].answer(number) {
                Some(Query::Connections { found, next, .. }) => {
                    assert!(found.is_empty());
                    break next;
                }
                Some(_) => panic!("an answer to another question"),
                None => assert!(turns < 10_000, "no answer"),
            }
        };
        answers += 1;
        match next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    println!("{answers} answers in {turns} turns, of which the longest took {longest:?}");
    assert!(answers >= 4 && turns >= 1_000_000 / 256, "{answers} answers in {turns} turns");
}

#[test]
fn pipelines_of_a_bench_are_those_of_their_lcores() {
    // The fleet's order is the lcores' order; a mix-up would credit one lcore with another's work.
    let world = World::shaped(Vec::new(), Shape { lcores: 3, capacity: 10, ..Shape::default() });
    for (n, counters) in world.fleet.lcores().iter().enumerate() {
        let capacity = Capacity { ipv4: 1, ipv6: 1 };
        let tables = Tables::new(capacity, false, director::time::Tick(0)).unwrap();
        let pipeline = Pipeline::new(LcoreId(n as u8), world.fleet.clone(), tables, Arc::default());
        assert!(Arc::ptr_eq(pipeline.counters(), counters));
    }
}

#[test]
fn long_packets_leave_in_pieces_and_are_accounted_for() {
    let tunnel = ForwardingMethod::Tunnel;
    let mut world = World::new(vec![service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, tunnel, 53, &[1])]);
    let neighbours = std::mem::take(&mut world.view.neighbours);
    world.publish();
    let mut bench = bench_of(world);
    let long = Frame::udp(("10.0.1.1", 30_000), ("10.99.0.1", 53), &[1; 1470]);
    bench.feed(0, 0, &long);
    bench.turn(2);
    let c = bench.counters[0].clone();
    assert_eq!((c.held.get(), c.forwarded.get(), c.pieces.get()), (1, 0, 0));
    bench.world.view.neighbours = neighbours;
    bench.world.publish();
    let fresh = std::mem::replace(&mut bench.world.snapshot, director::service::Compiler::empty_snapshot(0));
    bench.publisher.publish(fresh);
    bench.turn(1);
    assert_eq!((c.held.get(), c.forwarded.get(), c.pieces.get()), (0, 2, 1), "what waited");
    (0..40).for_each(|_| bench.feed(0, 0, &long));
    bench.turn(3);
    assert_eq!((c.received.get(), c.forwarded.get(), c.pieces.get()), (41, 82, 41), "what did not");
    let sent = bench.wires[0][1].borrow().sent.clone();
    assert!(sent.iter().all(|frame| frame.len() <= 1514));
    for (first, second) in sent.iter().zip(&sent[1..]).step_by(2) {
        assert_eq!(first[18..20], second[18..20], "pieces of a packet leave one after the other");
    }
}
