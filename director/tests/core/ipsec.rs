//! ESP and AH, which follow the key exchange between the same hosts.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{Frame, Payload, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, World, service};

const CLIENT: &str = "10.0.1.1";
const VIP: &str = "10.99.0.1";

fn key_exchange(method: ForwardingMethod, address: &str) -> World {
    World::new(vec![service(Protocol::Udp, address, Scheduler::Rr, method, 500, &[1, 1])])
}

fn of(protocol: u8, source: &str, destination: &str) -> Frame {
    Frame {
        payload: Payload::Raw { protocol, data: vec![7; 40] },
        flags_and_offset: 0,
        ..Frame::tcp((source, 0), (destination, 0), 0)
    }
}

#[test]
fn esp_and_ah_go_where_their_key_exchange_went() {
    for protocol in [50, 51] {
        for (method, text) in [
            (ForwardingMethod::Dr, "IP 10.0.1.1>10.99.0.1 len=60 ttl=63"),
            (ForwardingMethod::Tunnel, "IP 10.0.2.254>10.0.2.12 len=80 ttl=63"),
            (ForwardingMethod::Nat, "IP 10.0.1.1>10.0.2.12 len=60 ttl=63"),
        ] {
            let mut world = key_exchange(method, "10.99.0.1:500");
            let frame = of(protocol, CLIENT, VIP).bytes();
            let unknown = world.send(CLIENT_SIDE, &frame).verdict;
            assert_eq!((unknown.action, unknown.reason), (Action::Punt, Reason::OtherProtocol));
            // Round robin begins with the real server that was added last.
            world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 500), (VIP, 500), b"key").bytes());
            let out = describe(&world.send(CLIENT_SIDE, &frame).frame);
            assert!(out.starts_with("to 02:00:00:00:01:0c") && out.contains(text), "{out}");
            assert_eq!(world.connections().len(), 1, "no connection of its own");
        }
    }
}

#[test]
fn esp_keeps_its_key_exchange_alive() {
    let mut world = key_exchange(ForwardingMethod::Dr, "10.99.0.1:500");
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 500), (VIP, 500), b"key").bytes());
    for _ in 0..4 {
        world.wait(200_000);
        world.expire();
        let verdict = world.send(CLIENT_SIDE, &of(50, CLIENT, VIP).bytes()).verdict;
        assert_eq!(verdict.reason, Reason::RequestDr);
    }
}

#[test]
fn from_a_nat_real_server_it_comes_from_the_virtual_address() {
    let mut world = key_exchange(ForwardingMethod::Nat, "10.99.0.1:500");
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 500), (VIP, 500), b"key").bytes());
    let back = of(50, "10.0.2.12", CLIENT).by_server();
    let out = describe(&world.send(SERVER_SIDE, &back.bytes()).frame);
    assert!(out.starts_with("to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=60 ttl=63"), "{out}");
}

#[test]
fn fragments_of_esp_need_no_first_one() {
    let mut world = key_exchange(ForwardingMethod::Dr, "10.99.0.1:500");
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 500), (VIP, 500), b"key").bytes());
    for word in [185, 0x2000] {
        let frame = Frame { flags_and_offset: word, ..of(50, CLIENT, VIP) };
        assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::RequestDr);
    }
}

#[test]
fn by_ipv6_and_over_lcores() {
    let address = "[2001:db8:99::1]:500";
    let method = ForwardingMethod::Dr;
    let service = service(Protocol::Udp, address, Scheduler::Rr, method, 500, &[1]);
    let mut world = World::shaped(vec![service], Shape { lcores: 3, ..Shape::default() });
    let ends = ("2001:db8:1::1", "2001:db8:99::1");
    world.send_spread(0, CLIENT_SIDE, &Frame::udp((ends.0, 500), (ends.1, 500), b"key").bytes());
    for lcore in 0..3 {
        let out = world.send_spread(lcore, CLIENT_SIDE, &of(50, ends.0, ends.1).bytes());
        assert_eq!(out.verdict.reason, Reason::RequestDr);
    }
}

#[test]
fn errors_about_esp_find_the_real_server() {
    let mut world = key_exchange(ForwardingMethod::Dr, "10.99.0.1:500");
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 500), (VIP, 500), b"key").bytes());
    let reply = of(50, VIP, CLIENT);
    let error = crate::icmp::error("10.0.1.77", VIP, (3, 4), 1200, &crate::icmp::quoted(reply, 28));
    let outcome = world.send(CLIENT_SIDE, &error.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
    assert!(describe(&outcome.frame).starts_with("to 02:00:00:00:01:0c IP 10.0.1.77>10.99.0.1"));
}
