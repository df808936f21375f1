//! A worker lcore takes no memory from the allocator once it runs, and gives none back: neither for packets of
//! known connections, nor to open, end or expire them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use director::lcore::capture::{Wanted, capture};
use director::lcore::clock::Nanos;
use director::lcore::query::{ConnectionFilter, Query, QueryBox};
use director::lcore::{Exception, Lcore, LcoreParts, LcorePort, QueuePair, hand_over_rings};
use director::pipeline::MAX_BURST;
use director::stats::{Fleet, QueueCounters};
use director::time::Tick;
use testbed::bench::case::{Case, Direction, Method, Traffic};
use testbed::bench::flows::{ACK, Order, SYN, Target, Templates};
use testbed::bench::packet::FixedPacket;
use testbed::bench::subject::{Handshake, Subject};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with the calls of each thread counted.
struct Counting;

// SAFETY: all is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as we were called.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: as we were called.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Turns of an lcore's loop.
const TURNS: u64 = 1000;

#[global_allocator]
static COUNTING: Counting = Counting;

/// Receives stamped frames, and takes back what is sent to stamp it again.
struct Loop {
    store: Vec<FixedPacket>,
    templates: Vec<Templates>,
    order: Order,
}

impl QueuePair for Loop {
    type Packet = FixedPacket;

    fn receive(&mut self, into: &mut Vec<FixedPacket>) -> u16 {
        for n in 0..MAX_BURST {
            let (Some(mut packet), Some(flow)) = (self.store.pop(), self.order.next()) else { break };
            packet.stamp(&self.templates[n % self.templates.len()], flow);
            into.push(packet);
        }
        0
    }

    fn transmit(&mut self, from: &mut Vec<FixedPacket>) -> usize {
        let sent = from.len();
        self.store.append(from);
        sent
    }
}

/// Calls of the allocator in many turns of a loop that gets these kinds of packets of `of` connections, of which
/// the table has room for `capacity`; and the counters then.
fn calls(method: Method, templates: Vec<Templates>, of: u32, capacity: u32) -> (u64, Fleet) {
    let queries = Arc::new(QueryBox::default());
    calls_asked(method, templates, (of, capacity), &queries)
}

/// The same, of an lcore that is asked something before it turns.
fn calls_asked(
    method: Method,
    templates: Vec<Templates>,
    (of, capacity): (u32, u32),
    queries: &Arc<QueryBox>,
) -> (u64, Fleet) {
    let case = Case { method, traffic: Traffic::Tcp, connections: 100, lcores: 1 };
    let mut subject = Subject::new(&case, capacity, false).unwrap();
    subject.fill(&case, 0, 100, Tick(0), 0, Handshake::Whole).unwrap();
    let Subject { fleet, mut pipelines, mut readers, .. } = subject;
    // What is dropped goes to no queue, and its place in the store stays empty.
    let store = vec![FixedPacket::NEW; TURNS as usize * MAX_BURST];
    let queues = Loop { store, templates, order: Order::new(of) };
    let rings = hand_over_rings(1, 64).remove(0);
    let mut lcore = Lcore::new(LcoreParts {
        pipeline: pipelines.remove(0),
        snapshots: readers.remove(0),
        ports: vec![LcorePort {
            queues,
            counters: QueueCounters::of_port(1),
            exception: Exception::None,
            from_kernel: None,
        }],
        hand_over: rings.0,
        taken_over: rings.1,
        wanted: rtrb::RingBuffer::new(64).0,
        queries: queries.clone(),
    });
    let before = CALLS.get();
    for turn in 0..TURNS {
        // A second in each turn, so that everything expires in between.
        lcore.turn(Nanos(turn * 1_000_000_000));
    }
    let calls = CALLS.get() - before;
    (calls, fleet)
}

fn requests(flags: u8) -> Templates {
    Templates::new(Traffic::Tcp, Direction::Request, flags, Target::Each)
}

#[test]
fn the_counter_counts() {
    let before = CALLS.get();
    drop(std::hint::black_box(vec![1u8; 1000]));
    assert_eq!(CALLS.get() - before, 2);
}

#[test]
fn known_connections_cost_no_allocation() {
    for method in [Method::Dr, Method::Tun, Method::NatRequest, Method::NatReply] {
        let templates = Templates::new(Traffic::Tcp, method.direction(), ACK, Target::Each);
        let (calls, fleet) = calls(method, vec![templates], 100, 100);
        assert_eq!(calls, 0, "{method:?}");
        let lcore = &fleet.lcores()[0];
        let all = TURNS * MAX_BURST as u64;
        assert_eq!((lcore.received.get(), lcore.forwarded.get()), (all, all), "{method:?}");
    }
}

#[test]
fn opening_ending_and_expiring_cost_none_either() {
    const RST: u8 = 4;
    for method in [Method::Dr, Method::NatRequest] {
        let kinds = vec![requests(SYN), requests(ACK), requests(RST), requests(SYN)];
        let (calls, fleet) = calls(method, kinds, 5000, 1000);
        assert_eq!(calls, 0, "{method:?}");
        let lcore = &fleet.lcores()[0];
        let opened: u64 =
            (0..16).map(|n| lcore.server(director::service::ServerId(n)).connections.get()).sum();
        assert!(opened > 10_000, "{opened} connections were opened");
        assert!(lcore.is_conserved());
    }
}

#[test]
fn a_capture_costs_none() {
    let templates = vec![requests(SYN), requests(ACK)];
    let wanted = Wanted {
        filter: ConnectionFilter::default(),
        packets: u64::MAX,
        until: Nanos(u64::MAX),
        snaplen: 65_535,
        ring: 1 << 20,
    };
    let (capturer, mut captured) = capture(&wanted);
    let queries = Arc::new(QueryBox::default());
    queries.ask(Query::Capture(Some(capturer)));
    let (calls, _) = calls_asked(Method::NatRequest, templates, (5000, 1000), &queries);
    assert_eq!(calls, 0);
    // It went on until its ring was full, and counted then.
    let (kept, lost) = (captured.tally.captured.get(), captured.tally.lost.get());
    assert_eq!(kept + lost, (TURNS - 1) * MAX_BURST as u64);
    assert!(kept > 1000 && lost > 1000, "{kept} {lost}");
    assert_eq!(std::iter::from_fn(|| captured.pop()).count() as u64, kept);
}
