//! Direct routing, and what it shares with all methods: states seen from one side, what may open a
//! connection, TTL, MTU.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, PSH, Payload, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, World, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn web() -> World {
    World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Dr, 53, &[1]),
    ])
}

fn tcp(world: &mut World, port: u16, flags: u8) -> crate::world::Outcome {
    world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, port), (VIP, 80), flags).bytes())
}

#[test]
fn only_the_next_hop_and_the_ttl_change() {
    let mut world = web();
    let mut frame = Frame::tcp((CLIENT, 20005), (VIP, 80), SYN);
    frame.tos = 0x10;
    let sent = frame.bytes();
    let got = world.send(CLIENT_SIDE, &sent).frame;
    assert_eq!(
        describe(&got),
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.99.0.1 len=40 ttl=63 tos=0x10 DF TCP 20005>80 [S] ok"
    );
    assert_eq!(got[6..12], crate::world::D1.0, "the director's address on the server side");
    assert_eq!(got[26..], sent[26..], "addresses and payload are untouched");
}

#[test]
fn states_are_told_from_the_clients_half_alone() {
    let mut world = web();
    for (flags, state) in
        [(SYN, "SYN_RECV"), (ACK, "ESTABLISHED"), (FIN | ACK, "FIN_WAIT"), (ACK, "FIN_WAIT")]
    {
        tcp(&mut world, 20005, flags);
        assert_eq!(world.connections(), [format!("{state} 10.0.1.1:20005 10.99.0.1:80 10.0.2.11:80")]);
    }
    tcp(&mut world, 20006, SYN);
    tcp(&mut world, 20006, ACK);
    tcp(&mut world, 20006, RST | ACK);
    assert_eq!(world.connections()[0], "CLOSE 10.0.1.1:20006 10.99.0.1:80 10.0.2.11:80");
}

#[test]
fn only_a_syn_opens_a_connection_and_the_kernel_answers_the_rest() {
    let mut world = web();
    for (port, flags) in
        [(20007, ACK), (20009, FIN | ACK), (20010, RST), (20011, PSH | ACK), (20012, SYN | RST)]
    {
        let outcome = tcp(&mut world, port, flags);
        assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, Reason::NoConnection));
    }
    assert!(world.connections().is_empty());
    // A SYN+ACK does: active FTP with direct routing needs it.
    assert_eq!(tcp(&mut world, 20008, SYN | ACK).verdict.reason, Reason::RequestDr);
    assert_eq!(world.connections(), ["SYN_RECV 10.0.1.1:20008 10.99.0.1:80 10.0.2.11:80"]);
    // FTP's data port never does.
    assert_eq!(tcp(&mut world, 20, SYN).verdict.reason, Reason::NoConnection);
}

#[test]
fn a_ttl_that_is_used_up_is_answered() {
    let mut world = web();
    let mut frame = Frame::tcp((CLIENT, 20044), (VIP, 80), SYN);
    frame.ttl = 2;
    assert!(
        describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame).contains("10.0.1.1>10.99.0.1 len=40 ttl=1")
    );
    for ttl in [1, 0] {
        frame.ttl = ttl;
        frame.source_port = 20045;
        let outcome = world.send(CLIENT_SIDE, &frame.bytes());
        assert_eq!(outcome.verdict.reason, Reason::IcmpTimeExceeded);
        assert_eq!(
            describe(&outcome.frame),
            format!(
                "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=68 ttl=64 tos=0xc0 df0 ICMP 11/0 mtu=0 quoted 40B \
                 {{IP 10.0.1.1>10.99.0.1 len=40 ttl={ttl} tos=0x00 DF TCP 20045>80 [S] ok}}"
            )
        );
    }
}

#[test]
fn a_packet_that_is_too_long_for_the_next_link() {
    let mut world = web();
    world.view.links.get_mut(&director::id::IfIndex(11)).unwrap().mtu = 1400;
    world.publish();
    let mut frame = Frame::udp((CLIENT, 20075), (VIP, 53), &[7; 1472]);
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::RequestDr);
    frame.flags_and_offset = 0x4000;
    let outcome = world.send(CLIENT_SIDE, &frame.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpTooBig);
    assert_eq!(
        describe(&outcome.frame),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=576 ttl=64 tos=0xc0 df0 ICMP 3/4 mtu=1400 quoted 548B \
         {IP 10.0.1.1>10.99.0.1 len=1500 ttl=63 tos=0x00 DF UDP 20075>53 len=1480}"
    );
    let Payload::Udp { data, .. } = &mut frame.payload else { unreachable!() };
    data.truncate(1372);
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::RequestDr);
}

#[test]
fn a_connection_lives_as_long_as_its_state_says() {
    let mut world = web();
    tcp(&mut world, 20005, SYN);
    world.wait(59_999);
    assert_eq!(world.connections().len(), 1);
    // A packet in time starts the time anew.
    tcp(&mut world, 20005, ACK);
    world.wait(899_999);
    assert_eq!(world.connections().len(), 1);
    world.wait(1);
    assert!(world.connections().is_empty(), "over, though nobody has cleaned up yet");
    // A late packet is one of no connection.
    assert_eq!(tcp(&mut world, 20005, ACK).verdict.reason, Reason::NoConnection);
    let key = *world.services.keys().next().unwrap();
    assert_eq!(world.load(key, "10.0.2.11:80".parse().unwrap()), (0, 0));
}

#[test]
fn the_wheel_frees_what_is_over_and_only_that() {
    let mut world = web();
    for port in 0..1000 {
        tcp(&mut world, 30_000 + port, SYN);
    }
    for port in 0..500 {
        tcp(&mut world, 30_000 + port, ACK);
    }
    world.wait(61_000);
    world.expire();
    assert_eq!(world.pipelines[0].tables().len(), 500);
    let key = *world.services.keys().next().unwrap();
    assert_eq!(world.load(key, "10.0.2.11:80".parse().unwrap()), (500, 0));
    world.wait(900_000);
    world.expire();
    assert_eq!(world.pipelines[0].tables().len(), 0);
    assert_eq!(world.load(key, "10.0.2.11:80".parse().unwrap()), (0, 0));
}

#[test]
fn a_syn_on_a_connection_that_is_over_is_scheduled_anew() {
    let mut world = World::new(vec![service(
        Protocol::Tcp,
        "10.99.0.1:80",
        Scheduler::Rr,
        ForwardingMethod::Dr,
        80,
        &[1, 1],
    )]);
    tcp(&mut world, 20005, SYN);
    tcp(&mut world, 20005, ACK);
    let first = world.connections();
    tcp(&mut world, 20005, SYN);
    assert_eq!(world.connections(), first, "a SYN in the middle changes nothing");
    tcp(&mut world, 20005, RST);
    tcp(&mut world, 20005, SYN);
    let again = world.connections();
    assert_eq!(again.len(), 1);
    assert!(again[0].starts_with("SYN_RECV"));
    assert_ne!(again[0][9..], first[0][12..], "round robin went on to the other real server");
}
