//! What the director does not balance, and how it says no.

use std::time::Duration;

use control::model::{ForwardingMethod, Persistence, Protocol, Scheduler, Service, Weight};
use director::nexthop::MacAddr;
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{ACK, Frame, Payload, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, World, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn with_weights(weights: &[u16]) -> World {
    World::new(vec![service(
        Protocol::Tcp,
        "10.99.0.1:80",
        Scheduler::Wlc,
        ForwardingMethod::Nat,
        8080,
        weights,
    )])
}

fn syn(port: u16) -> Vec<u8> {
    Frame::tcp((CLIENT, port), (VIP, 80), SYN).bytes()
}

#[test]
fn no_real_server_is_port_unreachable() {
    for weights in [&[][..], &[0], &[0, 0]] {
        let mut world = with_weights(weights);
        let outcome = world.send(CLIENT_SIDE, &syn(20018));
        assert_eq!(outcome.verdict.reason, Reason::IcmpPortUnreachable);
        assert_eq!(
            describe(&outcome.frame),
            "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=68 ttl=64 tos=0xc0 df0 ICMP 3/3 mtu=0 quoted 40B \
             {IP 10.0.1.1>10.99.0.1 len=40 ttl=64 tos=0x00 DF TCP 20018>80 [S] ok}"
        );
        let ack = Frame::tcp((CLIENT, 20020), (VIP, 80), ACK).bytes();
        assert_eq!(world.send(CLIENT_SIDE, &ack).verdict.action, Action::Punt, "the kernel resets it");
    }
}

#[test]
fn what_need_not_be_ftps_data_is_the_kernels_where_nobody_serves_ftp() {
    let ftp = service(Protocol::Tcp, "10.99.0.1:21", Scheduler::Rr, ForwardingMethod::Dr, 21, &[]);
    let persistence = Some(Persistence::of_clients(Duration::from_secs(300), 32));
    let mut world = World::new(vec![Service { persistence, ..ftp }]);
    let mut to = |port| world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, 20_019), (VIP, port), SYN).bytes());
    assert_eq!(to(21).verdict.reason, Reason::IcmpPortUnreachable);
    assert_eq!(to(5000).verdict.action, Action::Punt);
}

#[test]
fn errors_are_limited() {
    let mut world = with_weights(&[]);
    let reasons: Vec<_> =
        (0..100).map(|n| world.send(CLIENT_SIDE, &syn(20_000 + n)).verdict.reason).collect();
    assert_eq!(reasons.iter().filter(|r| **r == Reason::IcmpPortUnreachable).count(), 50);
    assert_eq!(reasons.iter().filter(|r| **r == Reason::IcmpLimited).count(), 50);
}

#[test]
fn weight_0_serves_what_it_has_and_gets_nothing_new() {
    let mut world = with_weights(&[1]);
    let key = *world.services.keys().next().unwrap();
    world.send(CLIENT_SIDE, &syn(20021));
    world.edit(key, |service| service.servers[0].weight = Weight(0));
    let ack = Frame::tcp((CLIENT, 20021), (VIP, 80), ACK).bytes();
    assert_eq!(world.send(CLIENT_SIDE, &ack).verdict.reason, Reason::RequestNat);
    assert_eq!(world.send(CLIENT_SIDE, &syn(20023)).verdict.reason, Reason::IcmpPortUnreachable);
}

#[test]
fn what_is_not_ours_reaches_the_kernel_unchanged() {
    let mut world = with_weights(&[1]);
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 0xc0, 8, 6]);
    arp.extend([0; 46]);
    let mut tagged = Frame::tcp((CLIENT, 20016), (VIP, 80), SYN).bytes();
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    let mut icmp = Frame::tcp((CLIENT, 0), (VIP, 0), 0);
    icmp.payload = Payload::Raw { protocol: 1, data: vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0] };
    let cases = [
        (arp, Reason::Group),
        (tagged, Reason::NotIp),
        (icmp.bytes(), Reason::OtherProtocol),
        (Frame::tcp((CLIENT, 20016), (VIP, 81), SYN).bytes(), Reason::NoService),
        (Frame::udp((CLIENT, 20017), (VIP, 80), b"not TCP").bytes(), Reason::NoService),
        (Frame::tcp((CLIENT, 20017), ("10.0.1.254", 22), SYN).bytes(), Reason::NoService),
    ];
    for (frame, reason) in cases {
        let outcome = world.send(CLIENT_SIDE, &frame);
        assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, reason));
        assert_eq!(outcome.frame, frame);
    }
}

#[test]
fn frames_for_other_stations_are_not_ours() {
    let mut world = with_weights(&[1]);
    let mut frame = Frame::tcp((CLIENT, 20001), (VIP, 80), SYN);
    frame.to = MacAddr([2, 0, 0, 0, 0, 0x77]);
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::ForeignMac);
    // Nor is, at one port, the address of another.
    frame.to = crate::world::D1;
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::ForeignMac);
    assert_eq!(world.send(SERVER_SIDE, &frame.bytes()).verdict.reason, Reason::RequestNat);
}

#[test]
fn a_full_table_refuses_new_connections_and_serves_old_ones() {
    let mut world = World::shaped(
        vec![service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1])],
        Shape { capacity: 100, ..Shape::default() },
    );
    for port in 0..100 {
        assert_eq!(world.send(CLIENT_SIDE, &syn(30_000 + port)).verdict.reason, Reason::RequestNat);
    }
    assert_eq!(world.send(CLIENT_SIDE, &syn(40_000)).verdict.reason, Reason::TableFull);
    for port in 0..100 {
        let ack = Frame::tcp((CLIENT, 30_000 + port), (VIP, 80), ACK).bytes();
        assert_eq!(world.send(CLIENT_SIDE, &ack).verdict.reason, Reason::RequestNat);
    }
    world.wait(901_000);
    world.expire();
    assert_eq!(world.send(CLIENT_SIDE, &syn(40_000)).verdict.reason, Reason::RequestNat);
}

#[test]
fn a_wrong_header_checksum_opens_nothing() {
    let mut world = with_weights(&[1]);
    let mut frame = syn(20001);
    frame[24] ^= 1;
    assert_eq!(world.send(CLIENT_SIDE, &frame).verdict.reason, Reason::BadIpv4Checksum);
    assert!(world.connections().is_empty());
}

#[test]
fn no_way_to_the_real_server() {
    let mut world = with_weights(&[1]);
    world.view.routes.retain(|route| route.network != crate::world::ip("10.0.2.0"));
    world.publish();
    assert_eq!(world.send(CLIENT_SIDE, &syn(20001)).verdict.reason, Reason::NoRoute);
    let mut world = with_weights(&[1]);
    world.view.neighbours.retain(|neighbour, _| neighbour.ip != crate::world::ip("10.0.2.11"));
    world.publish();
    let outcome = world.send(CLIENT_SIDE, &syn(20001));
    let Action::Hold(wait) = outcome.verdict.action else { panic!("{:?}", outcome.verdict) };
    assert_eq!(world.pipelines[0].awaited(wait).neighbour.ip, crate::world::ip("10.0.2.11"));
}
