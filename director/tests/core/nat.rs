//! NAT: what a real kernel's IPVS was seen to do with the same packets, and what it must survive.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::connection::HashSeed;
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, PSH, Payload, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, World, ip, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.2.11";

fn web() -> World {
    World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Nat, 5353, &[1]),
    ])
}

fn request(world: &mut World, port: u16, flags: u8) -> String {
    describe(&world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, port), (VIP, 80), flags).bytes()).frame)
}

fn reply(world: &mut World, port: u16, flags: u8) -> String {
    let frame = Frame::tcp((SERVER, 8080), (CLIENT, port), flags).by_server();
    describe(&world.send(SERVER_SIDE, &frame.bytes()).frame)
}

#[test]
fn a_tcp_connection_from_handshake_to_time_wait() {
    let mut world = web();
    let to_server = |flags| {
        format!(
            "to 02:00:00:00:01:0b IP 10.0.1.1>10.0.2.11 len=40 ttl=63 tos=0x00 DF TCP 20001>8080 [{flags}] ok"
        )
    };
    let to_client = |flags| {
        format!(
            "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=40 ttl=63 tos=0x00 DF TCP 80>20001 [{flags}] ok"
        )
    };
    let is = |world: &World, state| {
        assert_eq!(world.connections(), [format!("{state} 10.0.1.1:20001 10.99.0.1:80 10.0.2.11:8080")]);
    };
    assert_eq!(request(&mut world, 20001, SYN), to_server("S"));
    is(&world, "SYN_RECV");
    assert_eq!(reply(&mut world, 20001, SYN | ACK), to_client("SA"));
    is(&world, "SYN_RECV");
    assert_eq!(request(&mut world, 20001, ACK), to_server("A"));
    is(&world, "ESTABLISHED");
    assert_eq!(request(&mut world, 20001, PSH | ACK), to_server("PA"));
    assert_eq!(reply(&mut world, 20001, FIN | ACK), to_client("FA"));
    is(&world, "FIN_WAIT");
    assert_eq!(request(&mut world, 20001, FIN | ACK), to_server("FA"));
    is(&world, "TIME_WAIT");
    assert_eq!(reply(&mut world, 20001, ACK), to_client("A"));
    is(&world, "TIME_WAIT");
    assert_eq!(request(&mut world, 20001, RST), to_server("R"));
    is(&world, "CLOSE");
}

#[test]
fn packets_of_a_real_server_that_belong_to_no_connection_are_the_kernels() {
    let mut world = web();
    for port in [8080, 5555] {
        let frame = Frame::tcp((SERVER, port), (CLIENT, 31000), SYN | ACK).by_server().bytes();
        let outcome = world.send(SERVER_SIDE, &frame);
        assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, Reason::NoService));
        assert_eq!(outcome.frame, frame, "it reaches the kernel unchanged");
    }
}

#[test]
fn udp_with_a_checksum_and_without() {
    let mut world = web();
    let mut datagram = Frame::udp((CLIENT, 20003), (VIP, 53), b"question");
    let arrives =
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.0.2.11 len=36 ttl=63 tos=0x00 df0 UDP 20003>5353 len=16 ok";
    assert_eq!(describe(&world.send(CLIENT_SIDE, &datagram.bytes()).frame), arrives);
    datagram.payload = Payload::Udp { data: b"question".to_vec(), checksum: false };
    // As IPVS does: a checksum is filled in.
    assert_eq!(describe(&world.send(CLIENT_SIDE, &datagram.bytes()).frame), arrives);
    for checksum in [true, false] {
        let mut answer = Frame::udp((SERVER, 5353), (CLIENT, 20003), b"answer!!").by_server();
        answer.payload = Payload::Udp { data: b"answer!!".to_vec(), checksum };
        assert_eq!(
            describe(&world.send(SERVER_SIDE, &answer.bytes()).frame),
            "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=36 ttl=63 tos=0x00 df0 UDP 53>20003 len=16 ok"
        );
    }
    assert_eq!(world.connections(), ["UDP 10.0.1.1:20003 10.99.0.1:53 10.0.2.11:5353"]);
}

#[test]
fn a_udp_checksum_that_comes_out_as_0_is_sent_as_ffff() {
    let mut world = web();
    let mut zeros = 0;
    // Over all values of two payload bytes, one makes the rewritten checksum 0.
    for n in 0..=u16::MAX {
        let frame = Frame::udp((CLIENT, 20003), (VIP, 53), &n.to_be_bytes()).bytes();
        let out = world.send(CLIENT_SIDE, &frame).frame;
        assert_ne!(out[40..42], [0, 0], "0 would mean that there is none");
        if out[40..42] == [0xff, 0xff] {
            zeros += 1;
            assert!(describe(&out).ends_with(" ok"));
        }
    }
    assert!(zeros >= 1);
}

#[test]
fn padding_is_neither_counted_nor_summed() {
    let mut world = web();
    let mut frame = Frame::udp((CLIENT, 20003), (VIP, 53), b"abc");
    frame.padding = 15;
    frame.payload = Payload::Udp { data: b"abc".to_vec(), checksum: false };
    let out = world.send(CLIENT_SIDE, &frame.bytes()).frame;
    assert_eq!(out.len(), 60);
    assert!(describe(&out).ends_with("UDP 20003>5353 len=11 ok"), "{}", describe(&out));
    let server =
        world.compiler.server_id(*world.services.keys().last().unwrap(), "10.0.2.11:5353".parse().unwrap());
    assert_eq!(world.compiler.server_totals(server.unwrap()).bytes_in, 31, "the IP header's length counts");
}

#[test]
fn ip_options_travel_along() {
    let mut world = web();
    let mut frame = Frame::tcp((CLIENT, 20001), (VIP, 80), SYN);
    frame.options = vec![0x94, 4, 0, 0, 1, 1, 1, 0];
    let out = world.send(CLIENT_SIDE, &frame.bytes()).frame;
    assert!(
        describe(&out).ends_with("len=48 ttl=63 tos=0x00 DF TCP 20001>8080 [S] ok"),
        "{}",
        describe(&out)
    );
    assert_eq!(out[34..42], [0x94, 4, 0, 0, 1, 1, 1, 0]);
}

#[test]
fn one_client_port_at_two_virtual_addresses_of_one_real_server() {
    let mut world = World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]),
        service(Protocol::Tcp, "10.99.0.2:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]),
    ]);
    for vip in [VIP, "10.99.0.2"] {
        world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, 20001), (vip, 80), SYN).bytes());
    }
    // The real server cannot tell them apart; its replies go to the newer one.
    assert!(reply(&mut world, 20001, SYN | ACK).contains("10.99.0.2>10.0.1.1"));
    assert_eq!(world.connections().len(), 2);
    world.wait(200_000);
    world.expire();
    assert!(world.connections().is_empty());
}

#[test]
fn the_hash_depends_on_its_seed_and_on_every_field() {
    use director::connection::FlowKey;
    use std::net::Ipv4Addr;
    let key = FlowKey {
        source: Ipv4Addr::new(10, 0, 1, 1),
        destination: Ipv4Addr::new(10, 99, 0, 1),
        source_port: 20001,
        destination_port: 80,
        protocol: 6u8,
    };
    let seed = HashSeed::random();
    let others = [
        FlowKey { source: Ipv4Addr::new(10, 0, 1, 2), ..key },
        FlowKey { destination: Ipv4Addr::new(10, 99, 0, 2), ..key },
        FlowKey { source_port: 20002, ..key },
        FlowKey { destination_port: 81, ..key },
        FlowKey { protocol: 17, ..key },
        FlowKey { source: key.destination, destination: key.source, ..key },
    ];
    assert!(others.iter().all(|other| other.hash(&seed) != key.hash(&seed)));
    assert_ne!(key.hash(&HashSeed::random()), key.hash(&seed));
    let _ = ip(VIP);
}
