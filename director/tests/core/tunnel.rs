//! IP in IP: the outer header as a real kernel's IPVS writes it.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::stats::Reason;

use crate::frames::{Frame, Payload, SYN, describe};
use crate::world::{CLIENT_SIDE, World, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn dns() -> World {
    World::new(vec![
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Tunnel, 53, &[1]),
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Tunnel, 80, &[1]),
    ])
}

#[test]
fn ttl_tos_and_df_are_the_inner_ones_and_ecn_as_in_rfc_3168() {
    let mut world = dns();
    for (tos, outer_tos) in [(0x00, 0x00), (0x10, 0x10), (0x03, 0x02), (0xb9, 0xb9)] {
        for (df, id_is_zero) in [(0, false), (0x4000, true)] {
            let mut frame = Frame::udp((CLIENT, 20053), (VIP, 53), b"question");
            (frame.ttl, frame.tos, frame.id, frame.flags_and_offset) = (57, tos, 0xabcd, df);
            let outcome = world.send(CLIENT_SIDE, &frame.bytes());
            let d = if df == 0 { "df0" } else { "DF" };
            assert_eq!(
                describe(&outcome.frame),
                format!(
                    "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=56 ttl=56 tos={outer_tos:#04x} {d} IPIP {{IP \
                     10.0.1.1>10.99.0.1 len=36 ttl=56 tos={tos:#04x} {d} UDP 20053>53 len=16 ok}}"
                )
            );
            assert_eq!(
                outcome.frame[18..20] == [0, 0],
                id_is_zero,
                "identified only where it may be fragmented"
            );
        }
    }
}

#[test]
fn padding_stays_outside() {
    let mut world = dns();
    let mut frame = Frame::tcp((CLIENT, 20001), (VIP, 80), SYN);
    frame.padding = 6;
    let out = world.send(CLIENT_SIDE, &frame.bytes()).frame;
    assert_eq!(out.len(), 14 + 20 + 40);
    assert!(describe(&out).contains("len=60 ttl=63"), "{}", describe(&out));
}

#[test]
fn the_outer_header_counts_for_the_mtu() {
    let mut world = dns();
    let frame = |len: usize, df| {
        let mut frame = Frame::udp((CLIENT, 20063), (VIP, 53), &vec![1; len - 28]);
        frame.flags_and_offset = df;
        frame.bytes()
    };
    assert!(describe(&world.send(CLIENT_SIDE, &frame(1480, 0x4000)).frame).contains("len=1500"));
    let outcome = world.send(CLIENT_SIDE, &frame(1481, 0x4000));
    assert!(
        describe(&outcome.frame).starts_with(
            "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=576 ttl=64 tos=0xc0 df0 ICMP 3/4 mtu=1480 quoted 548B \
             {IP 10.0.1.1>10.99.0.1 len=1481 ttl=63"
        ),
        "{}",
        describe(&outcome.frame)
    );
}

#[test]
fn a_frame_without_room_in_front_is_lost_by_name() {
    use director::packet::BytesPacket;
    use director::pipeline::{Arrival, MAX_BURST, Verdict};
    let mut world = dns();
    let mut frame = Frame::udp((CLIENT, 20053), (VIP, 53), b"question");
    frame.payload = Payload::Udp { data: vec![0; 100], checksum: true };
    let mut packets = [BytesPacket::with_headroom(&frame.bytes(), 19)];
    let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
    world.pipelines[0].process(
        &world.snapshot,
        world.now,
        Arrival::Port(CLIENT_SIDE),
        &mut packets,
        &mut verdicts,
    );
    assert_eq!(verdicts[0].reason, Reason::NoHeadroom);
}
