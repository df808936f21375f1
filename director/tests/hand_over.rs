//! Every packet at the wrong lcore, on DPDK's own rings: two worker lcores turn as the director lets them,
//! and the test stands in the place of the wires.
#![cfg(feature = "dpdk")]
#![allow(missing_docs, unreachable_pub, dead_code, reason = "a test, which uses a part of the core's world")]

#[path = "core/frames.rs"]
mod frames;
mod own_process;
#[path = "core/world.rs"]
mod world;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::dpdk::{
    BURST, Eal, EalOptions, Mbuf, MbufPool, PoolConfig, Port, PortConfig, PortQueues, RxQueue, TxQueue, tsc,
    tsc_hz,
};
use director::id::{LcoreId, PortId};
use director::lcore::clock::Clock;
use director::lcore::{Exception, Idle, Lcore, LcoreParts, LcorePort, hand_over_rings};
use director::packet::PacketBuf;
use director::pipeline::owner::owner;
use director::service::{Compiler, Publisher};
use director::stats::{QueueCounters, Reason};

use frames::{ACK, Frame, Payload, SYN};
use own_process::{allowed_cpus, options, own_process};
use world::{Shape, World, service};

const LCORES: usize = 2;
/// Receive queues of each port that the lcores poll: each lcore two of them in turn.
const QUEUES: usize = 4;
const MBUFS: u32 = 8191;

/// A port whose packets go round: what the test sends on queue n is received on queue n by lcore n % 2, and
/// what lcore n sends on a queue behind those, the test receives there.
struct Wire {
    port: Port,
    counters: Arc<[QueueCounters]>,
    toward: Vec<TxQueue>,
    from: Vec<RxQueue>,
    sent: [u64; QUEUES],
}

impl Wire {
    fn open(eal: &Eal, pool: &MbufPool, number: u8) -> Wire {
        let pairs = (QUEUES + LCORES) as u16;
        let config = PortConfig { rx_queues: pairs, tx_queues: pairs, ..Default::default() };
        let device = format!("net_ring{number}");
        let mut port = Port::open(eal, PortId(number), &device, &config, pool).expect("opens");
        let queues = QUEUES as u16;
        Wire {
            counters: QueueCounters::of_port(port.rx_queues().into()),
            toward: (0..queues).map(|n| port.take_tx_queue(n).expect("a queue")).collect(),
            from: (queues..pairs).map(|n| port.take_rx_queue(n).expect("a queue")).collect(),
            port,
            sent: [0; QUEUES],
        }
    }

    /// The port as an lcore has it.
    fn of_lcore(&mut self, lcore: usize) -> LcorePort<PortQueues> {
        let polled = (0..QUEUES).filter(|n| n % LCORES == lcore);
        let rx = polled.map(|n| self.port.take_rx_queue(n as u16).expect("a queue")).collect();
        let tx = self.port.take_tx_queue((QUEUES + lcore) as u16).expect("a queue");
        LcorePort {
            queues: PortQueues::new(rx, tx),
            counters: self.counters.clone(),
            exception: Exception::None,
            from_kernel: None,
        }
    }

    /// Frames arrive by a queue.
    fn arrive(&mut self, pool: &MbufPool, queue: usize, frames: &[Vec<u8>]) {
        for frames in frames.chunks(BURST) {
            let packet = |bytes: &Vec<u8>| {
                let mut packet = pool.alloc(bytes.len()).expect("a packet");
                packet.bytes_mut().copy_from_slice(bytes);
                packet
            };
            let mut burst: Vec<Mbuf> = frames.iter().map(packet).collect();
            assert_eq!(self.toward[queue].tx_burst(&mut burst), frames.len(), "the wire has room");
            self.sent[queue] += frames.len() as u64;
        }
    }

    /// Frames that left, in the order of each lcore.
    fn leave(&mut self) -> Vec<Vec<u8>> {
        let mut burst = Vec::with_capacity(BURST);
        let mut left = Vec::new();
        for queue in &mut self.from {
            queue.rx_burst(&mut burst);
            left.extend(burst.drain(..).map(|packet| packet.bytes().to_vec()));
        }
        left
    }

    fn wrong_lcore(&self) -> Vec<u64> {
        self.counters.iter().map(|queue| queue.wrong_lcore.get()).collect()
    }
}

/// Stops the lcores, also when the test fails.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn start() -> Eal {
    // At the same time, where the machine can.
    let cpus = allowed_cpus();
    let worker_cpus = (0..LCORES).map(|n| cpus[n % cpus.len()]).collect();
    Eal::init(&EalOptions { worker_cpus, ..options(0) }).unwrap_or_else(|error| panic!("{error}"))
}

/// A queue of the lcore that does not own the client's connections, one of the two.
fn wrong_queue(port: u16) -> usize {
    let wrong = 1 - usize::from(owner(Ipv4Addr::new(10, 0, 1, 1).into(), port, LCORES as u8).0);
    wrong + LCORES * usize::from(port / 7 % 2)
}

fn u16_at(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// By the client's port: the numbers that frames carry in the IP header's identification.
type Order = BTreeMap<u16, Vec<u16>>;

/// Lets frames arrive, each by its queue, until as many have left by the other port.
fn through(
    pool: &MbufPool,
    into: &mut Wire,
    out: &mut Wire,
    frames: Vec<(usize, Vec<u8>)>,
    mut each: impl FnMut(Vec<u8>),
) {
    let mut by_queue: [Vec<Vec<u8>>; QUEUES] = Default::default();
    let all = frames.len();
    for (queue, frame) in frames {
        by_queue[queue].push(frame);
    }
    for (queue, frames) in by_queue.iter().enumerate() {
        into.arrive(pool, queue, frames);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut left = 0;
    while left < all && Instant::now() < deadline {
        for frame in out.leave() {
            left += 1;
            each(frame);
        }
    }
    assert_eq!(left, all, "every packet arrives");
}

#[test]
fn every_packet_at_the_wrong_lcore_arrives_in_order_and_is_counted() {
    own_process("every_packet_at_the_wrong_lcore_arrives_in_order_and_is_counted", |_| {
        const CONNECTIONS: u16 = 160;
        const ROUNDS: u16 = 24;
        /// Frames of a connection that are under way at the same time.
        const TOGETHER: u16 = 4;
        let eal = start();
        let config = PoolConfig { mbufs: MBUFS, ..Default::default() };
        let pool = MbufPool::new(&eal, &config).unwrap_or_else(|error| panic!("{error}"));
        let mut wires = [Wire::open(&eal, &pool, 0), Wire::open(&eal, &pool, 1)];
        let nat =
            service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]);
        let mut world =
            World::shaped(vec![nat], Shape { lcores: LCORES, capacity: 1000, ..Shape::default() });
        let counters = world.fleet.lcores().to_vec();
        let snapshot = std::mem::replace(&mut world.snapshot, Compiler::empty_snapshot(0));
        let (_publisher, readers) = Publisher::new(LCORES, snapshot);

        let (clock, stop) = (Clock::new(tsc(), tsc_hz()), Arc::new(AtomicBool::new(false)));
        let (mut running, mut wanted) = (Vec::new(), Vec::new());
        let parts = world.pipelines.drain(..).zip(readers).zip(hand_over_rings(LCORES, 1024));
        for (n, ((pipeline, snapshots), (hand_over, taken_over))) in parts.enumerate() {
            let (want, take) = rtrb::RingBuffer::new(16);
            wanted.push(take);
            let mut lcore = Lcore::new(LcoreParts {
                pipeline,
                snapshots,
                ports: wires.iter_mut().map(|wire| wire.of_lcore(n)).collect(),
                hand_over,
                taken_over,
                wanted: want,
                queries: Arc::default(),
            });
            let stop = stop.clone();
            let turn = move || lcore.run(|| clock.at(tsc()), &stop, Idle::Sleep);
            running.push(eal.launch(LcoreId(n as u8), turn).expect("launched"));
        }
        let stop = Stop(stop);

        let [clients, servers] = &mut wires;
        let ports = 30_000..30_000 + CONNECTIONS;
        let (mut requests, mut replies): (Order, Order) = Default::default();
        let mut server_of = BTreeMap::new();
        for round in (0..ROUNDS).step_by(TOGETHER.into()) {
            let numbers = round..round + TOGETHER;
            let frames = numbers.clone().flat_map(|id| {
                ports.clone().map(move |port| {
                    let flags = if id == 0 { SYN } else { ACK };
                    let frame = Frame::tcp(("10.0.1.1", port), ("10.99.0.1", 80), flags);
                    (wrong_queue(port), Frame { id, ..frame }.bytes())
                })
            });
            through(&pool, clients, servers, frames.collect(), |frame| {
                // What the kernel would say of the frame that left: from the client, to a real server.
                assert_eq!((&frame[26..30], u16_at(&frame, 36)), ([10, 0, 1, 1].as_slice(), 8080));
                requests.entry(u16_at(&frame, 34)).or_default().push(u16_at(&frame, 18));
                let server = Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33]);
                assert_eq!(*server_of.entry(u16_at(&frame, 34)).or_insert(server), server);
            });
            let server_of = &server_of;
            let frames = numbers.flat_map(|id| {
                ports.clone().map(move |port| {
                    let server = server_of[&port].to_string();
                    let mut frame = Frame::tcp((&server, 8080), ("10.0.1.1", port), ACK).by_server();
                    if id == 0 {
                        frame.payload = Payload::Tcp { flags: SYN | ACK, data: Vec::new() };
                    }
                    (wrong_queue(port), Frame { id, ..frame }.bytes())
                })
            });
            through(&pool, servers, clients, frames.collect(), |frame| {
                assert_eq!((&frame[26..30], u16_at(&frame, 34)), ([10, 99, 0, 1].as_slice(), 80));
                replies.entry(u16_at(&frame, 36)).or_default().push(u16_at(&frame, 18));
            });
        }
        drop(stop);
        for running in running {
            running.join().expect("no panic");
        }

        let in_order: Vec<u16> = (0..ROUNDS).collect();
        for order in [&requests, &replies] {
            assert_eq!(order.len(), usize::from(CONNECTIONS));
            for (port, numbers) in order {
                assert_eq!(numbers, &in_order, "client's port {port}");
            }
        }
        let all = u64::from(CONNECTIONS) * u64::from(ROUNDS);
        for wire in &wires {
            assert!(wire.sent.iter().all(|sent| *sent > 0) && wire.sent.iter().sum::<u64>() == all);
            // Each by the queue it came by; the queues behind are polled by no lcore.
            assert_eq!(wire.wrong_lcore(), [wire.sent.as_slice(), &[0; LCORES]].concat());
        }
        for (n, c) in counters.iter().enumerate() {
            let of = |lcore: usize| {
                wires.iter().flat_map(|w| w.sent.iter().skip(lcore).step_by(LCORES)).sum::<u64>()
            };
            let other = of(1 - n);
            assert!(c.is_conserved(), "{c:?}");
            assert_eq!((c.received.get(), c.handed_over.get()), (of(n), of(n)), "lcore {n} keeps none");
            assert_eq!((c.taken_over.get(), c.forwarded.get()), (other, other), "and sends the other's");
            assert_eq!((c.punted.get(), c.dropped.get(), c.held.get()), (0, 0, 0));
            let reasons =
                [Reason::OtherLcore, Reason::RequestNat, Reason::ReplyNat].map(|r| c.reason(r).get());
            assert_eq!(reasons, [of(n), other / 2, other / 2]);
            let owned = ports.clone().filter(|port| wrong_queue(*port) % LCORES != n).count();
            assert_eq!(c.connections.get(), owned as u64, "connections live on their owner");
        }
        assert_eq!(pool.available(), MBUFS, "every mbuf is back");
    });
}
