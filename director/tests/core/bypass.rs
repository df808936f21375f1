//! `cache_bypass`: a service by mark that nobody serves lets packets pass to where they were going.

use std::num::NonZeroU32;

use control::model::{
    ForwardingMethod, Mark, MarkRule, Protocol, Scheduler, SchedulerFlags, Service, Weight,
};
use director::pipeline::Action;
use director::service::MarkRules;
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, V4_SERVERS, World, server_mac, servers, service};

const CLIENT: &str = "10.0.1.1";
/// A web server somewhere, whose pages a cache should hand out.
const ORIGIN: &str = "10.0.2.15";
const V6: [&str; 2] = ["2001:db8:1::1", "2001:db8:2::15"];

fn world(lcores: usize, one_packet: bool) -> World {
    let web = MarkRule {
        mark: Mark(NonZeroU32::MIN),
        protocol: None,
        sources: Vec::new(),
        destinations: Vec::new(),
        source_ports: Vec::new(),
        destination_ports: "80".parse().into_iter().collect(),
        ingress: Some(CLIENT_SIDE.0),
        dscp: None,
    };
    let caches = |name: &str, weights: &[u16]| Service {
        key: name.parse().unwrap(),
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet,
        servers: servers(V4_SERVERS, 0, ForwardingMethod::Dr, weights),
    };
    let services = vec![caches("mark 1", &[0]), caches("mark 1/ipv6", &[])];
    let mut world = World::marking(services, MarkRules::new(vec![web]), Shape { lcores, ..Shape::default() });
    world.settings.cache_bypass = true;
    world.publish();
    world
}

fn to_origin(port: u16, flags: u8) -> Vec<u8> {
    Frame::tcp((CLIENT, port), (ORIGIN, 80), flags).bytes()
}

#[test]
fn packets_pass_unchanged_but_for_the_next_hop() {
    for lcores in [1, 3] {
        let mut world = world(lcores, false);
        for (client, origin) in [(CLIENT, ORIGIN), (V6[0], V6[1])] {
            let frame = Frame::tcp((client, 30_000), (origin, 80), SYN).bytes();
            let outcome = world.send_spread(0, CLIENT_SIDE, &frame);
            assert_eq!(outcome.verdict.reason, Reason::RequestBypass);
            assert_eq!(outcome.verdict.action, Action::Forward(SERVER_SIDE));
            assert_eq!(outcome.frame[..6], server_mac(5).0);
            let text = describe(&outcome.frame);
            assert!(text.contains(&format!("IP {client}>{origin} ")) && text.contains("ttl=63"), "{text}");
        }
        let list = world.connections();
        assert_eq!(list[0], "SYN_RECV 10.0.1.1:30000 10.0.2.15:80 0.0.0.0:0");
    }
}

#[test]
fn a_connection_that_passed_goes_on_so_when_there_is_a_real_server_again_and_new_ones_are_scheduled() {
    let mut world = world(1, false);
    world.send(CLIENT_SIDE, &to_origin(30_000, SYN));
    let key = "mark 1".parse().unwrap();
    world.edit(key, |service| service.servers[0].weight = Weight(1));
    let mut reason = |port, flags| world.send(CLIENT_SIDE, &to_origin(port, flags)).verdict.reason;
    assert_eq!(reason(30_000, ACK), Reason::RequestBypass);
    assert_eq!(reason(30_001, SYN), Reason::RequestDr);
    // States go as if both ends were seen, as IPVS has it.
    assert_eq!(reason(30_000, FIN | ACK), Reason::RequestBypass);
    assert!(world.connections()[0].starts_with("CLOSE_WAIT"), "{:?}", world.connections());
}

#[test]
fn it_ends_by_its_time_and_is_counted_for_nobody() {
    let mut world = world(1, false);
    world.send(CLIENT_SIDE, &to_origin(30_000, SYN));
    assert_eq!(world.load("mark 1".parse().unwrap(), "10.0.2.11:0".parse().unwrap()), (0, 0));
    world.wait(200_000);
    world.expire();
    assert!(world.connections().is_empty());
    assert_eq!(world.send(CLIENT_SIDE, &to_origin(30_000, ACK)).verdict.action, Action::Punt);
}

#[test]
fn nothing_passes_without_the_setting_by_address_or_to_the_director_itself() {
    let mut world = world(1, false);
    let refused = |world: &mut World, to: &str| {
        let frame = Frame::tcp((CLIENT, 30_000), (to, 80), SYN).bytes();
        world.send(CLIENT_SIDE, &frame).verdict.reason
    };
    assert_eq!(refused(&mut world, "10.99.0.2"), Reason::IcmpPortUnreachable, "an address of its own");
    assert_eq!(refused(&mut world, "224.0.0.9"), Reason::IcmpPortUnreachable, "a group");
    let by_address = service(Protocol::Tcp, "10.0.2.16:8080", Scheduler::Rr, ForwardingMethod::Dr, 8080, &[]);
    world.services.insert(by_address.key, by_address.into());
    world.publish();
    let frame = Frame::tcp((CLIENT, 30_000), ("10.0.2.16", 8080), SYN).bytes();
    assert_eq!(world.send(CLIENT_SIDE, &frame).verdict.reason, Reason::IcmpPortUnreachable);
    world.settings.cache_bypass = false;
    world.publish();
    assert_eq!(refused(&mut world, ORIGIN), Reason::IcmpPortUnreachable);
}

#[test]
fn datagrams_and_sctp_pass_and_of_one_packet_scheduling_nothing_is_kept() {
    let mut kept = world(2, false);
    let datagram = Frame::udp((CLIENT, 30_000), (ORIGIN, 80), b"?").bytes();
    let init = Frame::sctp((CLIENT, 30_000), (ORIGIN, 80), 1).bytes();
    for frame in [&datagram, &datagram, &init, &init] {
        assert_eq!(kept.send_spread(0, CLIENT_SIDE, frame).verdict.reason, Reason::RequestBypass);
    }
    assert_eq!(kept.connections().len(), 2);
    let mut loose = world(1, true);
    assert_eq!(loose.send(CLIENT_SIDE, &datagram).verdict.reason, Reason::RequestBypass);
    assert!(loose.connections().is_empty());
}

#[test]
fn an_error_of_the_client_about_an_answer_passes_too() {
    let mut world = world(1, false);
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 30_000), (ORIGIN, 80), b"?").bytes());
    let about = crate::icmp::quoted(Frame::udp((ORIGIN, 80), (CLIENT, 30_000), b"!"), 28);
    let error = crate::icmp::error(CLIENT, ORIGIN, (3, 3), 0, &about);
    let outcome = world.send(CLIENT_SIDE, &error.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
    assert_eq!(outcome.frame[..6], server_mac(5).0);
}

#[test]
fn what_is_too_long_or_has_used_up_its_ttl_is_told_as_by_a_router() {
    let mut world = world(1, false);
    let expired = Frame { ttl: 1, ..Frame::tcp((CLIENT, 30_000), (ORIGIN, 80), SYN) };
    assert_eq!(world.send(CLIENT_SIDE, &expired.bytes()).verdict.reason, Reason::IcmpTimeExceeded);
}
