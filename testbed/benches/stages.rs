//! What each stage of the pipeline costs by itself, with everything in the cache that can be:
//! `cargo bench -p testbed`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use director::connection::{FlowKey, HashSeed};
use director::forward::nat;
use director::forward::tunnel::{self, Head};
use director::id::PortId;
use director::packet::PacketBuf as _;
use director::pipeline::{Arrival, MAX_BURST, Verdict, owner};
use director::stats::LatencyCounters;
use director::time::Tick;
use director::wire::{self, Ipv4Frame, Side, ipv4};
use divan::Bencher;
use divan::counter::ItemsCount;
use testbed::bench::case::{Case, Direction, Method, Traffic};
use testbed::bench::flows::{ACK, Order, Target, Templates};
use testbed::bench::packet::FixedPacket;
use testbed::bench::subject::{FILL_MS, Handshake, Subject};

fn main() {
    divan::main();
}

fn templates(traffic: Traffic, direction: Direction) -> Templates {
    Templates::new(traffic, direction, ACK, Target::Each)
}

fn packet(traffic: Traffic) -> FixedPacket {
    let mut packet = FixedPacket::NEW;
    packet.stamp(&templates(traffic, Direction::Request), 1);
    packet
}

const TRAFFIC: [Traffic; 2] = [Traffic::Udp, Traffic::Tcp];

#[divan::bench(args = TRAFFIC)]
fn parse(bencher: Bencher, traffic: Traffic) {
    let packet = packet(traffic);
    let mut into = Ipv4Frame::NONE;
    bencher.bench_local(|| wire::parse(black_box(packet.bytes()), black_box(&mut into)).is_ok());
}

#[divan::bench]
fn hash(bencher: Bencher) {
    let seed = HashSeed::random();
    let key = FlowKey {
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(198, 18, 0, 1),
        source_port: 40_000,
        destination_port: 80,
        protocol: 6,
    };
    bencher.bench_local(|| black_box(&key).hash(&seed));
}

#[divan::bench]
fn owner_of_a_client(bencher: Bencher) {
    let client = Ipv4Addr::new(10, 0, 0, 1).into();
    bencher.bench_local(|| owner::owner(black_box(client), black_box(40_000), 8));
}

/// The TTL, too, as in the pipeline; on one packet over and over, each time waiting for the time before.
#[divan::bench(args = TRAFFIC)]
fn rewrite_by_nat(bencher: Bencher, traffic: Traffic) {
    let mut packet = packet(traffic);
    let mut frame = Ipv4Frame::NONE;
    wire::parse(packet.bytes(), &mut frame).expect("it is sound");
    let server = Ipv4Addr::new(198, 19, 0, 1);
    bencher.bench_local(|| {
        let bytes = packet.bytes_mut();
        ipv4::decrement_ttl(&mut bytes[14..]);
        nat::rewrite(black_box(bytes), &frame, Side::Destination, server, 8080);
    });
}

#[divan::bench(args = ["ipip", "gre", "gue:6080"])]
fn encapsulate(bencher: Bencher, tunnel: &str) {
    let tunnel = tunnel.parse().expect("a tunnel");
    let fresh = packet(Traffic::Udp);
    let mut frame = Ipv4Frame::NONE;
    wire::parse(fresh.bytes(), &mut frame).expect("it is sound");
    let ends: [IpAddr; 2] = [Ipv4Addr::new(198, 18, 255, 1).into(), Ipv4Addr::new(198, 19, 0, 1).into()];
    let head = Head { source: ends[0], tunnel, len: tunnel::overhead(ends[1], tunnel) };
    bencher
        .with_inputs(|| fresh.clone())
        .bench_local_refs(|packet| tunnel::encapsulate(packet, &frame, &head, &ends[1], 1, true));
}

/// Once in a burst, so a thirty-second of this for each packet under load.
#[divan::bench]
fn record_latency(bencher: Bencher) {
    let counters = LatencyCounters::default();
    let mut nanoseconds = 800;
    bencher.bench_local(|| {
        nanoseconds = nanoseconds % 100_000 + 77;
        counters.record(black_box(nanoseconds), 32);
    });
}

/// The whole pipeline without ports, a burst at a time.
fn burst(bencher: Bencher, method: Method, traffic: Traffic, connections: u32) {
    let case = Case { method, traffic, connections, lcores: 1 };
    let mut subject = Subject::new(&case, connections.max(64), false).expect("memory");
    subject.fill(&case, 0, connections, Tick(0), FILL_MS, Handshake::Whole).expect("room");
    let templates = templates(traffic, method.direction());
    let mut order = Order::new(connections);
    let snapshot = subject.publisher.current().clone();
    let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
    bencher
        .counter(ItemsCount::new(MAX_BURST))
        .with_inputs(|| {
            let mut packets = [const { FixedPacket::NEW }; MAX_BURST];
            for (packet, n) in packets.iter_mut().zip(&mut order) {
                packet.stamp(&templates, n);
            }
            packets
        })
        .bench_local_refs(|packets| {
            let arrival = Arrival::Port(PortId(0));
            subject.pipelines[0].process(&snapshot, Tick(FILL_MS), arrival, packets, &mut verdicts);
        });
}

const CONNECTIONS: [u32; 3] = [1, 10_000, 1_000_000];

#[divan::bench(args = CONNECTIONS)]
fn pipeline_dr(bencher: Bencher, connections: u32) {
    burst(bencher, Method::Dr, Traffic::Udp, connections);
}

#[divan::bench(args = CONNECTIONS)]
fn pipeline_dr_of_ipv6(bencher: Bencher, connections: u32) {
    burst(bencher, Method::Dr, Traffic::Udp6, connections);
}

#[divan::bench(args = CONNECTIONS)]
fn pipeline_nat_reply_of_ipv6(bencher: Bencher, connections: u32) {
    burst(bencher, Method::NatReply, Traffic::Tcp6, connections);
}

#[divan::bench(args = CONNECTIONS)]
fn pipeline_tun(bencher: Bencher, connections: u32) {
    burst(bencher, Method::Tun, Traffic::Udp, connections);
}

#[divan::bench(args = CONNECTIONS)]
fn pipeline_nat_request(bencher: Bencher, connections: u32) {
    burst(bencher, Method::NatRequest, Traffic::Tcp, connections);
}

#[divan::bench(args = CONNECTIONS)]
fn pipeline_nat_reply(bencher: Bencher, connections: u32) {
    burst(bencher, Method::NatReply, Traffic::Tcp, connections);
}
