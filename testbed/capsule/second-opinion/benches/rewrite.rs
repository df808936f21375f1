//! Parsing and NAT alone, on frames hot in the cache: capsule's and Director's on the same bytes.
//!
//! No ports, no tables: this is the part of `capsule-nat` in which the two do the same.

use std::hint::black_box;
use std::net::SocketAddrV4;
use std::time::Duration;

use capsule::Mbuf;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet};
use director::forward::nat;
use director::wire::{Ipv4Frame, Parsed, Side, ethernet, ipv4, parse};
use rustix::time::{ClockId, clock_gettime};
use second_opinion::frame::bytes_of;
use second_opinion::nat::{Plan, RealServer};
use second_opinion::workbench::Workbench;

/// Frames rewritten in turn.
const FRAMES: usize = 32;

/// Rewrites of a frame before a fresh one is taken: each takes one off its TTL of 64.
const ROUNDS: usize = 60;

/// How long each side runs, five times.
const RUN: Duration = Duration::from_millis(400);

fn main() {
    let _workbench = Workbench::new();
    // There and back: what the first plan rewrites, the second rewrites to what it was.
    let plans = [plan("10.99.0.1:80", "10.0.2.11:8080"), plan("10.0.2.11:8080", "10.99.0.1:80")];
    for len in [64, 1514] {
        let frames: Vec<_> = (0..FRAMES).map(|n| frame(n as u8, len)).collect();
        assert_eq!(
            by_capsule(&frames, &plans, ROUNDS),
            by_director(&frames, &plans, ROUNDS),
            "both do the same work"
        );
        for run in 1..=5 {
            let capsule = nanoseconds(|| by_capsule(&frames, &plans, ROUNDS));
            let director = nanoseconds(|| by_director(&frames, &plans, ROUNDS));
            println!("{len} bytes, run {run}: capsule {capsule:.1} ns, Director {director:.1} ns per packet");
        }
    }
}

/// From a service to its only real server.
fn plan(service: &str, server: &str) -> Plan {
    let real_servers = vec![RealServer { address: address(server), mac: [2, 0, 0, 0, 2, 11] }];
    Plan { service: address(service), real_servers, own_mac: [2, 0, 0, 0, 0, 2] }
}

fn address(text: &str) -> SocketAddrV4 {
    text.parse().expect("an address written above")
}

/// A TCP frame to the first plan's service with all checksums right.
fn frame(client: u8, len: u16) -> Vec<u8> {
    let mut frame = vec![0; usize::from(len)];
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(len - 14).to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 6]);
    frame[26..34].copy_from_slice(&[10, 0, 1, client, 10, 99, 0, 1]);
    frame[34..38].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    frame[46] = 5 << 4;
    let mut tcp = ipv4_of(Mbuf::from_bytes(&frame).expect("it fits an mbuf"))
        .parse::<capsule::packets::Tcp4>()
        .expect("TCP");
    tcp.reconcile_all();
    bytes_of(&tcp.reset()).expect("not empty")
}

fn ipv4_of(mbuf: Mbuf) -> Ipv4 {
    mbuf.parse::<Ethernet>().and_then(Ethernet::parse::<Ipv4>).expect("IPv4")
}

/// The frames after `rounds` rewrites by capsule.
fn by_capsule(frames: &[Vec<u8>], plans: &[Plan; 2], rounds: usize) -> Vec<Vec<u8>> {
    let mut mbufs: Vec<_> =
        frames.iter().map(|frame| Mbuf::from_bytes(frame).expect("it fits an mbuf")).collect();
    let mut next = Vec::with_capacity(mbufs.len());
    for round in 0..rounds {
        for mbuf in mbufs.drain(..) {
            next.push(plans[round % 2].rewrite(ipv4_of(mbuf)).expect("for the service"));
        }
        std::mem::swap(&mut mbufs, &mut next);
    }
    mbufs.iter().map(|mbuf| bytes_of(mbuf).expect("not empty")).collect()
}

/// The frames after `rounds` rewrites by Director.
fn by_director(frames: &[Vec<u8>], plans: &[Plan; 2], rounds: usize) -> Vec<Vec<u8>> {
    let mut frames = frames.to_vec();
    for round in 0..rounds {
        let plan = &plans[round % 2];
        let server = plan.real_servers[0];
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&server.mac);
        addresses[6..].copy_from_slice(&plan.own_mac);
        for frame in &mut frames {
            let mut packet = Ipv4Frame::NONE;
            assert_eq!(parse(black_box(frame), &mut packet), Ok(Parsed::Ipv4));
            assert!(packet.destination == *plan.service.ip(), "for the service");
            ipv4::decrement_ttl(&mut frame[ethernet::HEADER_LEN..]);
            nat::rewrite(frame, &packet, Side::Destination, *server.address.ip(), server.address.port());
            ethernet::write_header(frame, &addresses, ethernet::IPV4);
        }
    }
    frames
}

/// CPU time of this thread per packet of `work`, which rewrites every frame [`ROUNDS`] times.
fn nanoseconds(work: impl Fn() -> Vec<Vec<u8>>) -> f64 {
    let start = cpu_time();
    let mut packets = 0;
    while cpu_time() - start < RUN {
        black_box(work());
        packets += FRAMES * ROUNDS;
    }
    (cpu_time() - start).as_secs_f64() * 1e9 / packets as f64
}

/// Not the clock on the wall: others may want the CPU too.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
