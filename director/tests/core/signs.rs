//! Signs of life, and of none: which connections real servers answered.

use std::net::SocketAddr;

use control::health::Signs;
use control::model::{ForwardingMethod, Protocol, Scheduler, ServiceKey, Settings, Weight};
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, RST, SYN};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, World, service};

const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.2.11";

fn web(method: ForwardingMethod) -> World {
    World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, method, 80, &[1]),
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, method, 80, &[1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, method, 53, &[1]),
    ])
}

fn request(world: &mut World, port: u16, flags: u8) -> Reason {
    let frame = Frame::tcp((CLIENT, port), ("10.99.0.1", 80), flags).bytes();
    world.send(CLIENT_SIDE, &frame).verdict.reason
}

fn reply(world: &mut World, port: u16, flags: u8) {
    let frame = Frame::tcp((SERVER, 80), (CLIENT, port), flags).by_server().bytes();
    assert_eq!(world.send(SERVER_SIDE, &frame).verdict.reason, Reason::ReplyNat);
}

/// `(unanswered, answered)` of a real server.
fn signs_of(world: &World, service: &str, server: &str) -> (u32, u32) {
    let service: ServiceKey = service.parse().unwrap();
    let server: SocketAddr = server.parse().unwrap();
    let Signs { unanswered, answered } =
        world.fleet.signs(world.compiler.server_id(service, server).unwrap());
    (unanswered, answered)
}

fn signs(world: &World) -> (u32, u32) {
    signs_of(world, "tcp 10.99.0.1:80", "10.0.2.11:80")
}

#[test]
fn a_connection_counts_once_when_its_syn_comes_again_without_an_answer() {
    let mut world = web(ForwardingMethod::Nat);
    request(&mut world, 20_001, SYN);
    assert_eq!(signs(&world), (0, 0), "it may be answered yet");
    for _ in 0..3 {
        world.wait(1000);
        assert_eq!(request(&mut world, 20_001, SYN), Reason::RequestNat, "it still goes there");
        assert_eq!(signs(&world), (1, 0));
    }
    // Another one, with what ECN adds.
    request(&mut world, 20_002, SYN | 0xc0);
    request(&mut world, 20_002, SYN | 0xc0);
    assert_eq!(signs(&world), (2, 0));
    // Answered late: both were so.
    reply(&mut world, 20_001, SYN | ACK);
    request(&mut world, 20_001, SYN);
    assert_eq!(signs(&world), (2, 1));
}

#[test]
fn whatever_a_real_server_says_is_an_answer_and_counts_once() {
    let mut world = web(ForwardingMethod::Nat);
    for (port, answer) in [(20_001, SYN | ACK), (20_002, RST | ACK)] {
        request(&mut world, port, SYN);
        reply(&mut world, port, answer);
        reply(&mut world, port, answer);
    }
    assert_eq!(signs(&world), (0, 2));
    // The client of the first one never had the answer, or is gone: no sign against the real server.
    request(&mut world, 20_001, SYN);
    world.wait(61_000);
    world.expire();
    assert_eq!((signs(&world), world.connections().len()), ((0, 2), 0));
    // The whole life of one.
    for (is_request, flags) in
        [(true, SYN), (false, SYN | ACK), (true, ACK), (false, ACK), (true, FIN | ACK), (false, FIN | ACK)]
    {
        if is_request {
            request(&mut world, 20_003, flags);
        } else {
            reply(&mut world, 20_003, flags);
        }
    }
    assert_eq!(signs(&world), (0, 3));
    // Its port is used again: a new connection, which is another one to answer.
    assert_eq!(request(&mut world, 20_003, SYN), Reason::RequestNat);
    assert_eq!(signs(&world), (0, 3));
    request(&mut world, 20_003, SYN);
    reply(&mut world, 20_003, SYN | ACK);
    assert_eq!(signs(&world), (1, 4));
}

#[test]
fn one_that_nobody_asks_for_again_expires_without_a_sign() {
    let mut world = web(ForwardingMethod::Nat);
    request(&mut world, 20_001, SYN);
    // What a client sends that gives up, or that answers itself, asks for nothing.
    request(&mut world, 20_001, RST);
    request(&mut world, 20_001, SYN | ACK);
    world.wait(61_000);
    world.expire();
    assert_eq!((signs(&world), world.connections().len()), ((0, 0), 0));
    // The same one once more is a new one.
    request(&mut world, 20_001, SYN);
    assert_eq!(signs(&world), (0, 0));
}

#[test]
fn a_syn_that_goes_to_another_real_server_by_that_is_a_sign_against_the_first() {
    let mut world = World::new(vec![service(
        Protocol::Tcp,
        "10.99.0.1:80",
        Scheduler::Wrr,
        ForwardingMethod::Nat,
        80,
        &[1, 0],
    )]);
    world.settings = Settings { expire_nodest_conn: true, ..Settings::default() };
    world.publish();
    request(&mut world, 20_001, SYN);
    let key = "tcp 10.99.0.1:80".parse().unwrap();
    world.edit(key, |service| {
        (service.servers[0].weight, service.servers[1].weight) = (Weight(0), Weight(1));
    });
    request(&mut world, 20_001, SYN);
    assert_eq!(world.connections(), ["SYN_RECV 10.0.1.1:20001 10.99.0.1:80 10.0.2.12:80"]);
    let of = |server| signs_of(&world, "tcp 10.99.0.1:80", server);
    assert_eq!((of("10.0.2.11:80"), of("10.0.2.12:80")), ((1, 0), (0, 0)));
}

#[test]
fn of_ipv6_as_well() {
    let mut world = web(ForwardingMethod::Nat);
    let (client, vip, server) = ("2001:db8:1::1", "2001:db8:99::1", "2001:db8:2::11");
    let syn = Frame::tcp((client, 20_001), (vip, 80), SYN).bytes();
    let key = ("tcp [2001:db8:99::1]:80", "[2001:db8:2::11]:80");
    world.send(CLIENT_SIDE, &syn);
    world.send(CLIENT_SIDE, &syn);
    assert_eq!(signs_of(&world, key.0, key.1), (1, 0));
    let answer = Frame::tcp((server, 80), (client, 20_001), SYN | ACK).by_server().bytes();
    assert_eq!(world.send(SERVER_SIDE, &answer).verdict.reason, Reason::ReplyNat);
    assert_eq!(signs_of(&world, key.0, key.1), (1, 1));
}

#[test]
fn where_answers_are_not_seen_or_none_is_due_nothing_is_a_sign() {
    for method in [ForwardingMethod::Dr, ForwardingMethod::Tunnel] {
        let mut world = web(method);
        request(&mut world, 20_001, SYN);
        request(&mut world, 20_001, SYN);
        assert_eq!(signs(&world), (0, 0), "{method}");
    }
    let mut world = web(ForwardingMethod::Nat);
    let question = Frame::udp((CLIENT, 20_001), ("10.99.0.1", 53), b"question").bytes();
    let answer = Frame::udp((SERVER, 53), (CLIENT, 20_001), b"answer").by_server().bytes();
    world.send(CLIENT_SIDE, &question);
    world.send(CLIENT_SIDE, &question);
    world.send(SERVER_SIDE, &answer);
    assert_eq!(signs_of(&world, "udp 10.99.0.1:53", "10.0.2.11:53"), (0, 0));
}
