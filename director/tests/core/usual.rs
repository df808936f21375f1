//! The short way of usual packets, beside the way of all.

use std::collections::HashSet;

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::id::PortId;
use director::packet::{BytesPacket, PacketBuf as _};
use director::pipeline::{Action, Arrival, MAX_BURST, Verdict};
use director::service::ServerId;
use proptest::prelude::*;

use crate::frames::{ACK, FIN, Frame, PSH, Payload, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, World, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.2.11";
/// Four times the IP option that says nothing (RFC 791).
const NOTHING: &[u8] = &[1, 1, 1, 1];

fn world() -> World {
    let service = |protocol, port: u16, method, server_port| {
        service(protocol, &format!("{VIP}:{port}"), Scheduler::Rr, method, server_port, &[1])
    };
    let by_gue = |protocol| {
        let mut service = service(protocol, 83, ForwardingMethod::Tunnel, 83);
        service.servers[0].tunnel = "gue:6080".parse().unwrap();
        service
    };
    World::new(vec![
        service(Protocol::Tcp, 80, ForwardingMethod::Dr, 80),
        service(Protocol::Tcp, 81, ForwardingMethod::Nat, 8081),
        service(Protocol::Tcp, 82, ForwardingMethod::Tunnel, 82),
        service(Protocol::Udp, 80, ForwardingMethod::Dr, 80),
        service(Protocol::Udp, 81, ForwardingMethod::Nat, 8081),
        service(Protocol::Udp, 82, ForwardingMethod::Tunnel, 82),
        by_gue(Protocol::Tcp),
        by_gue(Protocol::Udp),
    ])
}

/// A packet between a client and a virtual service, or back.
#[derive(Clone, Debug)]
struct Sent {
    /// Milliseconds after the one before.
    wait: u32,
    by_server: bool,
    frame: Frame,
}

impl Sent {
    fn port(&self) -> PortId {
        if self.by_server { SERVER_SIDE } else { CLIENT_SIDE }
    }

    /// The same with an IP option that says nothing, which makes it unusual.
    fn with_option(mut self) -> Sent {
        self.frame.options = NOTHING.to_vec();
        self
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let flags = prop_oneof![
        4 => Just(ACK),
        2 => Just(PSH | ACK),
        2 => Just(SYN),
        1 => Just(SYN | ACK),
        1 => Just(FIN | ACK),
        1 => Just(RST),
        1 => Just(0),
    ];
    (
        prop_oneof![8 => Just(0u32), 1 => Just(1000), 1 => Just(400_000)],
        any::<bool>(),
        prop_oneof![Just(None), flags.prop_map(Some)],
        (80u16..84, 0u16..3),
        prop_oneof![8 => Just(64u8), 1 => 0u8..3],
        (any::<u8>(), any::<bool>()),
        (prop_oneof![4 => Just(4usize), 1 => Just(0), 1 => Just(1476)], any::<bool>(), 0usize..8),
    )
        .prop_map(
            |(wait, by_server, flags, (port, client), ttl, (tos, df), (len, checksum, padding))| {
                let data = vec![0x55; len];
                let client = (CLIENT, 40_000 + client);
                let (source, destination) = match (by_server, port) {
                    (true, 81) => ((SERVER, 8081), client),
                    (true, port) => ((SERVER, port), client),
                    (false, port) => (client, (VIP, port)),
                };
                let mut frame = match flags {
                    Some(flags) => Frame::tcp(source, destination, flags),
                    None => Frame::udp(source, destination, &data),
                };
                match (&mut frame.payload, flags) {
                    (payload, None) => *payload = Payload::Udp { data, checksum },
                    (payload, Some(flags)) => *payload = Payload::Tcp { flags, data },
                }
                (frame.ttl, frame.tos, frame.padding) = (ttl, tos, padding);
                frame.flags_and_offset = if df { 0x4000 } else { 0 };
                Sent { wait, by_server, frame: if by_server { frame.by_server() } else { frame } }
            },
        )
}

/// What came of a packet, but for what tells that it had an IP option.
fn told(frame: &[u8]) -> String {
    let words = describe(frame);
    // The length of the packet, and of what an ICMP error quotes of it.
    let is_told = |word: &&str| !word.starts_with("len=") && !word.ends_with('B');
    words.split(' ').filter(is_told).collect::<Vec<_>>().join(" ")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An option that says nothing changes nothing but the way through the director.
    #[test]
    fn the_short_way_ends_where_the_long_one_does(packets in proptest::collection::vec(sent(), 1..60)) {
        let (mut short, mut long) = (world(), world());
        for packet in packets {
            let optional = packet.clone().with_option();
            for (world, packet) in [(&mut short, &packet), (&mut long, &optional)] {
                world.wait(packet.wait);
                world.expire();
            }
            let a = short.send(packet.port(), &packet.frame.bytes());
            let b = long.send(packet.port(), &optional.frame.bytes());
            prop_assert_eq!(a.verdict, b.verdict, "{:?}", packet);
            prop_assert_eq!(told(&a.frame), told(&b.frame), "{:?}", packet);
            prop_assert_eq!(short.connections(), long.connections());
        }
        for (a, b) in short.fleet.lcores().iter().zip(long.fleet.lcores()) {
            for reason in director::stats::Reason::ALL {
                prop_assert_eq!(a.reason(*reason).get(), b.reason(*reason).get(), "{:?}", reason);
            }
        }
    }

    /// A burst is decided about as its packets are one by one: usual ones and others, alone and in a row.
    #[test]
    fn a_burst_is_its_packets_one_by_one(
        before in proptest::collection::vec(sent(), 0..20),
        burst in proptest::collection::vec((sent(), any::<bool>(), 1usize..6), 1..MAX_BURST),
        by_server: bool,
    ) {
        let (mut one_by_one, mut together) = (world(), world());
        for packet in before {
            for world in [&mut one_by_one, &mut together] {
                world.send(packet.port(), &packet.frame.bytes());
            }
        }
        // All of one port, and at one moment.
        let port = if by_server { SERVER_SIDE } else { CLIENT_SIDE };
        let frames: Vec<_> = burst
            .into_iter()
            .filter(|(packet, ..)| packet.by_server == by_server)
            .map(|(packet, unusual, times)| (if unusual { packet.with_option() } else { packet }, times))
            .flat_map(|(packet, times)| std::iter::repeat_n(packet.frame.bytes(), times))
            .take(MAX_BURST)
            .collect();
        let mut packets: Vec<_> = frames.iter().map(|frame| BytesPacket::new(frame)).collect();
        let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
        let World { pipelines, snapshot, now, .. } = &mut together;
        let common = pipelines[0].process(snapshot, *now, Arrival::Port(port), &mut packets, &mut verdicts);
        let leaves = |verdict: &Verdict| match verdict.action {
            Action::Forward(port) => Some(port),
            _ => None,
        };
        let ways: HashSet<_> = verdicts[..frames.len()].iter().map(leaves).collect();
        prop_assert_eq!(common, if ways.len() == 1 { ways.into_iter().next().flatten() } else { None });
        for (frame, (packet, verdict)) in frames.iter().zip(packets.iter().zip(verdicts)) {
            let alone = one_by_one.send(port, frame);
            prop_assert_eq!(alone.verdict, verdict, "{}", describe(frame));
            prop_assert_eq!(describe(&alone.frame), describe(packet.bytes()));
        }
        prop_assert_eq!(one_by_one.connections(), together.connections());
        for (a, b) in one_by_one.fleet.lcores().iter().zip(together.fleet.lcores()) {
            for reason in director::stats::Reason::ALL {
                prop_assert_eq!(a.reason(*reason).get(), b.reason(*reason).get(), "{:?}", reason);
            }
        }
        for server in 0..8 {
            let totals = |world: &World| world.fleet.totals(ServerId(server));
            prop_assert_eq!(totals(&one_by_one), totals(&together), "{}", server);
        }
    }
}
