//! A capture shows packets of the chosen flows as they came and as they left, and tells of those that it lost.

use control::model::{ForwardingMethod, Protocol, Scheduler, ServiceKey};
use director::id::PortId;
use director::lcore::capture::{Captured, CapturedPacket, Wanted, capture};
use director::lcore::clock::Nanos;
use director::lcore::query::{ConnectionFilter, Query};
use director::packet::BytesPacket;
use director::stats::Reason;

use crate::frames::{ACK, Frame, SYN, describe};
use crate::lcore::{Bench, bench_of};
use crate::vlan::{C100, S7, tagged_bench, with_tags};
use crate::world::{Shape, World, ip, service};

const RST: u8 = 4;
const CLIENT: &str = "10.0.1.1";
const VIP: &str = "10.99.0.1";
const VIP6: &str = "2001:db8:99::1";

const ALL: Wanted = Wanted {
    filter: ConnectionFilter { protocol: None, service: None, server: None, client: None, state: None },
    packets: u64::MAX,
    until: Nanos(u64::MAX),
    snaplen: 2000,
    ring: 1 << 18,
};

fn bench(lcores: usize) -> Bench {
    let services = vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Dr, 53, &[1]),
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]),
    ];
    bench_of(World::shaped(services, Shape { lcores, capacity: 1000, ..Shape::default() }))
}

fn start(bench: &mut Bench, wanted: &Wanted) -> Vec<Captured> {
    let mut ends = Vec::new();
    for lcore in 0..bench.lcores.len() {
        let (capturer, captured) = capture(wanted);
        let number = bench.queries[lcore].ask(Query::Capture(Some(capturer)));
        bench.turn(2);
        let answer = bench.queries[lcore].answer(number);
        assert!(matches!(answer, Some(Query::Capture(None))), "nothing captured before");
        ends.push(captured);
    }
    ends
}

fn feed(bench: &mut Bench, lcore: usize, port: usize, frame: &Frame) {
    bench.wires[lcore][port].borrow_mut().incoming.push(BytesPacket::new(&frame.bytes()));
    bench.turn(1);
}

fn read(captured: &mut Captured) -> Vec<CapturedPacket> {
    std::iter::from_fn(|| captured.pop()).collect()
}

fn request(from: &str, port: u16, flags: u8) -> Frame {
    Frame::tcp((from, port), (if from.contains(':') { VIP6 } else { VIP }, 80), flags)
}

fn reply(server: &str, to: &str, port: u16) -> Frame {
    Frame::tcp((server, 8080), (to, port), SYN | ACK).by_server()
}

fn query(port: u16) -> Frame {
    Frame::udp((CLIENT, port), (VIP, 53), b"?")
}

/// The real server to which the last packet of IPv4 went.
fn chosen(bench: &Bench) -> String {
    let wire = bench.wires[0][1].borrow();
    let frame = wire.sent.last().expect("one went");
    frame[30..34].iter().map(u8::to_string).collect::<Vec<_>>().join(".")
}

/// Everything that a director with two services sees: who came, by their source ports.
fn traffic(bench: &mut Bench) {
    feed(bench, 0, 0, &request(CLIENT, 1, SYN));
    feed(bench, 0, 1, &reply(&chosen(bench), CLIENT, 1));
    feed(bench, 0, 0, &request("10.0.1.2", 2, SYN));
    feed(bench, 0, 1, &reply(&chosen(bench), "10.0.1.2", 2));
    feed(bench, 0, 0, &query(3));
    feed(bench, 0, 0, &request("2001:db8:1::1", 4, SYN));
    feed(bench, 0, 1, &reply("2001:db8:2::11", "2001:db8:1::1", 4));
    // Of no connection, to the service; and of no service.
    feed(bench, 0, 0, &request(CLIENT, 5, ACK));
    feed(bench, 0, 0, &Frame::tcp((CLIENT, 6), (VIP, 22), SYN));
    // The last one of its connection.
    feed(bench, 0, 0, &request(CLIENT, 1, RST));
}

/// The port of the client of each packet that a capture with this filter has.
fn seen(filter: ConnectionFilter) -> Vec<u16> {
    let mut bench = bench(1);
    let mut captured = start(&mut bench, &Wanted { filter, ..ALL }).remove(0);
    traffic(&mut bench);
    let port = |packet: &CapturedPacket| {
        let transport = if packet.came.bytes[12..14] == [8, 0] { 34 } else { 54 };
        let at = transport + if packet.came.port == PortId(0) { 0 } else { 2 };
        u16::from_be_bytes([packet.came.bytes[at], packet.came.bytes[at + 1]])
    };
    read(&mut captured).iter().map(port).collect()
}

#[test]
fn a_packet_is_shown_as_it_came_and_as_it_left() {
    let mut bench = bench(1);
    let mut captured = start(&mut bench, &ALL).remove(0);
    let request = request(CLIENT, 30_000, SYN);
    feed(&mut bench, 0, 0, &request);
    let (turned, server) = (bench.now, chosen(&bench));
    let frames = [request, reply(&server, CLIENT, 30_000)];
    feed(&mut bench, 0, 1, &frames[1]);
    let packets = read(&mut captured);
    assert_eq!(packets.len(), 2);
    assert_eq!(packets[0].at, turned);
    assert_eq!(packets.iter().map(|p| p.reason).collect::<Vec<_>>(), [Reason::RequestNat, Reason::ReplyNat]);
    for (n, packet) in packets.iter().enumerate() {
        let left = packet.left.as_ref().unwrap();
        assert_eq!((packet.came.port, left.port), (PortId(n as u8), PortId(1 - n as u8)));
        assert_eq!(packet.came.bytes, frames[n].bytes(), "as it came");
        assert_eq!(left.bytes, bench.wires[0][1 - n].borrow().sent[0], "as it left");
        assert_eq!((packet.came.len, left.len), (54, 54));
    }
    let left = describe(&packets[0].left.as_ref().unwrap().bytes);
    assert!(left.contains(&format!("10.0.1.1>{server}")) && !left.contains("BAD"), "{left}");
    assert_eq!((captured.tally.captured.get(), captured.tally.lost.get()), (2, 0));
}

#[test]
fn what_does_not_leave_is_shown_as_it_came() {
    let mut bench = bench(1);
    let mut captured = start(&mut bench, &ALL).remove(0);
    feed(&mut bench, 0, 0, &Frame::tcp((CLIENT, 1), (VIP, 22), SYN));
    bench.wires[0][0].borrow_mut().incoming.push(BytesPacket::new(&request(CLIENT, 1, SYN).bytes()[..40]));
    bench.wires[0][0].borrow_mut().incoming.push(BytesPacket::new(&[0xff; 60]));
    bench.turn(1);
    let packets = read(&mut captured);
    assert_eq!(packets.len(), 3);
    assert!(packets.iter().all(|packet| packet.left.is_none()));
    assert_eq!(packets[2].came.bytes, [0xff; 60]);
}

#[test]
fn a_filter_chooses_flows_with_their_answers() {
    let none = ALL.filter;
    let tcp = |address: &str| {
        Some(ServiceKey::Address { protocol: Protocol::Tcp, address: address.parse().unwrap() })
    };
    assert_eq!(seen(none), [1, 1, 2, 2, 3, 4, 4, 5, 6, 1]);
    assert_eq!(seen(ConnectionFilter { protocol: Some(17), ..none }), [3]);
    assert_eq!(seen(ConnectionFilter { client: Some(ip("10.0.1.2")), ..none }), [2, 2]);
    assert_eq!(seen(ConnectionFilter { client: Some(ip("2001:db8:1::1")), ..none }), [4, 4]);
    assert_eq!(seen(ConnectionFilter { service: tcp("10.99.0.1:80"), ..none }), [1, 1, 2, 2, 5, 1]);
    assert_eq!(seen(ConnectionFilter { service: tcp("[2001:db8:99::1]:80"), ..none }), [4, 4]);
    let server = |text: &str| Some(text.parse().unwrap());
    // The first client's and the second's.
    let mut of =
        ["10.0.2.11:8080", "10.0.2.12:8080"].map(|ip| seen(ConnectionFilter { server: server(ip), ..none }));
    of.sort();
    assert_eq!(of, [vec![1, 1, 1], vec![2, 2]]);
    assert_eq!(seen(ConnectionFilter { server: server("10.0.2.11:53"), ..none }), [3]);
    let both = ConnectionFilter { client: Some(ip(CLIENT)), service: tcp("10.99.0.1:80"), ..none };
    assert_eq!(seen(both), [1, 1, 5, 1]);
    assert_eq!(seen(ConnectionFilter { client: Some(ip("10.0.1.9")), ..none }), [0; 0]);
}

#[test]
fn bounds_are_kept() {
    let mut bench = bench(1);
    let until = Nanos(bench.now.0 + 1_000_000);
    let wanted = Wanted { packets: 3, snaplen: 40, ..ALL };
    let mut captured = start(&mut bench, &wanted).remove(0);
    (0..5).for_each(|n| feed(&mut bench, 0, 0, &request(CLIENT, 100 + n, SYN)));
    let packets = read(&mut captured);
    assert_eq!((packets.len(), captured.tally.lost.get()), (3, 0));
    for packet in packets {
        let left = packet.left.unwrap();
        assert_eq!((packet.came.len, packet.came.bytes.len(), left.len, left.bytes.len()), (54, 40, 54, 40));
    }

    let (capturer, mut captured) = capture(&Wanted { until, ..ALL });
    bench.queries[0].ask(Query::Capture(Some(capturer)));
    bench.turn(1);
    feed(&mut bench, 0, 0, &request(CLIENT, 200, SYN));
    bench.now = until;
    feed(&mut bench, 0, 0, &request(CLIENT, 201, SYN));
    assert_eq!(read(&mut captured).len(), 1);

    // Taken back, it captures no longer.
    let mut captured = start_instead(&mut bench, &ALL);
    let number = bench.queries[0].ask(Query::Capture(None));
    bench.turn(1);
    assert!(matches!(bench.queries[0].answer(number), Some(Query::Capture(Some(_)))));
    feed(&mut bench, 0, 0, &request(CLIENT, 202, SYN));
    assert_eq!(read(&mut captured), []);
}

fn start_instead(bench: &mut Bench, wanted: &Wanted) -> Captured {
    let (capturer, captured) = capture(wanted);
    bench.queries[0].ask(Query::Capture(Some(capturer)));
    bench.turn(1);
    captured
}

#[test]
fn what_finds_no_room_is_counted() {
    let mut bench = bench(1);
    // Room for one packet with its head, not for two.
    let mut captured = start(&mut bench, &Wanted { ring: 200, ..ALL }).remove(0);
    for n in 0..100 {
        (0..3).for_each(|at| feed(&mut bench, 0, 0, &request(CLIENT, 1000 + 3 * n + at, SYN)));
        // However the ring wraps around, the packet is whole.
        let packets = read(&mut captured);
        assert_eq!(packets.len(), 1);
        assert_eq!(packets[0].came.bytes, request(CLIENT, 1000 + 3 * n, SYN).bytes());
        assert!(!describe(&packets[0].left.as_ref().unwrap().bytes).contains("BAD"));
    }
    assert_eq!((captured.tally.captured.get(), captured.tally.lost.get()), (100, 200));
    assert_eq!(bench.wires[0][1].borrow().sent.len(), 300, "all of them go their way");
}

#[test]
fn a_packet_for_another_lcore_is_shown_once() {
    let mut bench = bench(2);
    let mut captured = start(&mut bench, &ALL);
    for n in 0..20 {
        feed(&mut bench, 0, 0, &request(CLIENT, 1000 + n, SYN));
    }
    bench.turn(2);
    let packets: Vec<_> = captured.iter_mut().map(read).collect();
    assert!(!packets[1].is_empty() && bench.counters[0].handed_over.get() == packets[1].len() as u64);
    let all = packets.concat();
    assert_eq!(all.len(), 20);
    assert!(all.iter().all(|packet| packet.came.port == PortId(0) && packet.reason == Reason::RequestNat));
}

#[test]
fn tags_stand_where_they_stood_on_the_wire() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 1, &[C100], &[S7, C100]);
    let mut captured = start(&mut bench, &ALL).remove(0);
    let frame = with_tags(&[C100], &request(CLIENT, 1000, SYN).bytes());
    bench.wires[0][0].borrow_mut().incoming.push(BytesPacket::new(&frame));
    bench.turn(1);
    let packet = read(&mut captured).remove(0);
    let left = packet.left.unwrap();
    assert_eq!((packet.came.port, packet.came.len, packet.came.bytes), (PortId(0), 58, frame));
    assert_eq!((left.port, left.len), (PortId(1), 62));
    assert_eq!(left.bytes, bench.wires[0][1].borrow().sent[0]);
}
