//! Hostile input: whatever comes, nothing panics, and everything is accounted for.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::packet::{BytesPacket, PacketBuf};
use director::pipeline::{Action, Arrival, MAX_BURST, Verdict};
use director::stats::{Class, Reason};
use proptest::prelude::*;

use crate::frames::{ACK, Frame, SYN};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, World, service};

fn world() -> World {
    World::shaped(
        vec![
            service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Wrr, ForwardingMethod::Nat, 8080, &[1, 2]),
            service(Protocol::Tcp, "10.99.0.1:81", Scheduler::Mh, ForwardingMethod::Tunnel, 81, &[1, 2]),
            service(Protocol::Udp, "10.99.0.1:53", Scheduler::Wlc, ForwardingMethod::Nat, 5353, &[1, 2]),
            service(Protocol::Udp, "10.99.0.1:54", Scheduler::Sh, ForwardingMethod::Dr, 54, &[1, 2]),
        ],
        Shape { lcores: 2, capacity: 50, ..Shape::default() },
    )
}

/// Sound frames that the world knows what to do with, from both sides.
fn sound() -> impl Strategy<Value = Vec<u8>> {
    let service = prop_oneof![Just(80u16), Just(81), Just(82)];
    let dns = prop_oneof![Just(53u16), Just(54), Just(55)];
    let port = 30_000u16..30_100;
    let data = proptest::collection::vec(any::<u8>(), 0..80);
    prop_oneof![
        (port.clone(), service, any::<u8>(), any::<u8>()).prop_map(|(p, s, flags, ttl)| {
            let mut frame = Frame::tcp(("10.0.1.1", p), ("10.99.0.1", s), flags);
            frame.ttl = ttl;
            frame.bytes()
        }),
        (port.clone(), dns, data)
            .prop_map(|(p, s, d)| Frame::udp(("10.0.1.1", p), ("10.99.0.1", s), &d).bytes()),
        (port.clone(), any::<u8>()).prop_map(|(p, flags)| Frame::tcp(
            ("10.0.2.11", 8080),
            ("10.0.1.1", p),
            flags
        )
        .by_server()
        .bytes()),
        port.prop_map(|p| Frame::udp(("10.0.2.12", 5353), ("10.0.1.1", p), b"!").by_server().bytes()),
    ]
}

/// The same, cut anywhere and with bytes changed anywhere.
fn unsound() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6);
    (sound(), changes, proptest::option::of(any::<proptest::sample::Index>())).prop_map(
        |(mut frame, changes, cut)| {
            for (at, value) in changes {
                let at = at.index(frame.len());
                frame[at] = value;
            }
            if let Some(cut) = cut {
                frame.truncate(cut.index(frame.len() + 1));
            }
            frame
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn nothing_panics_and_every_packet_ends_in_one_verdict(
        frames in proptest::collection::vec((prop_oneof![unsound(), sound(), proptest::collection::vec(any::<u8>(), 0..200)], any::<bool>(), any::<bool>(), 0u32..50_000), 1..120)
    ) {
        let mut world = world();
        let mut sent = [0u64; 2];
        for burst in frames.chunks(7) {
            let lcore = usize::from(burst[0].1);
            let arrival = if burst[0].2 { Arrival::Port(CLIENT_SIDE) } else { Arrival::Port(SERVER_SIDE) };
            let mut packets: Vec<_> = burst.iter().map(|(frame, ..)| BytesPacket::new(frame)).collect();
            let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
            world.pipelines[lcore].process(&world.snapshot, world.now, arrival, &mut packets, &mut verdicts);
            sent[lcore] += packets.len() as u64;
            for ((frame, ..), (packet, verdict)) in burst.iter().zip(packets.iter().zip(verdicts)) {
                let class = verdict.reason.class();
                match verdict.action {
                    Action::Forward(_) | Action::Cut(_) | Action::Hold(_) => prop_assert_eq!(class, Class::Forwarded),
                    Action::Gather(_) => prop_assert_eq!(class, Class::Waiting),
                    Action::Punt => prop_assert_eq!(class, Class::Punted),
                    Action::HandOver(_) => prop_assert_eq!(class, Class::HandedOver),
                    Action::Drop => prop_assert_eq!(class, Class::Dropped),
                }
                if matches!(class, Class::Punted | Class::HandedOver | Class::Waiting) {
                    prop_assert_eq!(packet.bytes(), &frame[..], "what others get is unchanged");
                }
            }
            world.wait(burst[0].3);
            world.pipelines[lcore].expire(&world.snapshot, world.now, 16);
        }
        for (pipeline, sent) in world.pipelines.iter().zip(sent) {
            let counted: u64 = Reason::ALL.iter().map(|r| pipeline.counters().reason(*r).get()).sum();
            prop_assert_eq!(counted, sent);
        }
        // Whatever was opened ends, and then nobody is burdened by it.
        world.wait(1_000_000);
        world.expire();
        for pipeline in &world.pipelines {
            prop_assert_eq!(pipeline.tables().len(), 0);
        }
        for service in world.compiler.compiled() {
            for server in &service.model.servers {
                prop_assert_eq!(world.load(service.model.key, server.address), (0, 0));
            }
        }
    }
}

#[test]
fn each_kind_of_lie_has_its_name() {
    let mut world = world();
    let tcp = Frame::tcp(("10.0.1.1", 30_000), ("10.99.0.1", 80), SYN | ACK).bytes();
    let udp = Frame::udp(("10.0.1.1", 30_000), ("10.99.0.1", 53), b"12345678").bytes();
    let with = |frame: &[u8], at: usize, value: u8| {
        let mut frame = frame.to_vec();
        frame[at] = value;
        frame
    };
    let cases = [
        (tcp[..13].to_vec(), Reason::TruncatedEthernet),
        (tcp[..33].to_vec(), Reason::BadIpv4Header),
        (tcp[..53].to_vec(), Reason::BadIpv4Header),
        (with(&tcp, 14, 0x65), Reason::BadIpv4Header),
        (with(&tcp, 14, 0x44), Reason::BadIpv4Header),
        (with(&tcp, 14, 0x4f), Reason::BadIpv4Header),
        (with(&tcp, 16, 0xff), Reason::BadIpv4Header),
        (with(&tcp, 17, 39), Reason::BadTcpHeader),
        (with(&tcp, 46, 0x40), Reason::BadTcpHeader),
        (with(&tcp, 46, 0x60), Reason::BadTcpHeader),
        (with(&udp, 39, 7), Reason::BadUdpHeader),
        (with(&udp, 39, 17), Reason::BadUdpHeader),
        (with(&udp, 17, 27), Reason::BadUdpHeader),
    ];
    for (frame, reason) in cases {
        assert_eq!(world.send(CLIENT_SIDE, &frame).verdict.reason, reason);
    }
}
