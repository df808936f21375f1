//! Services by mark: what rules mark is one service, whatever its address, port and protocol.

use std::num::NonZeroU32;
use std::time::Duration;

use control::model::{
    Family, ForwardingMethod, Mark, MarkRule, Persistence, Prefix, Protocol, Scheduler, SchedulerFlags,
    Service, ServiceKey,
};
use director::pipeline::Action;
use director::service::MarkRules;
use director::stats::Reason;

use crate::frames::{ACK, Frame, Payload, SYN, describe};
use crate::world::{
    CLIENT_SIDE, SERVER_SIDE, Shape, V4_SERVERS, V6_SERVERS, World, server_mac, servers, service,
};

const CLIENT: &str = "10.0.1.1";
const V6_CLIENT: &str = "2001:db8:1::1";
const VIPS: [&str; 2] = ["10.99.0.1", "10.99.0.2"];
const V6_VIP: &str = "2001:db8:99::1";
const ONE: &str = "mark 1";

fn rule(mark: u32, destinations: &[&str], ports: &[&str]) -> MarkRule {
    let network = |text: &&str| text.parse::<Prefix>().expect("a network");
    MarkRule {
        mark: Mark(NonZeroU32::new(mark).expect("no mark is 0")),
        protocol: None,
        sources: Vec::new(),
        destinations: destinations.iter().map(network).collect(),
        source_ports: Vec::new(),
        destination_ports: ports.iter().map(|text| text.parse().expect("ports")).collect(),
        ingress: None,
        dscp: None,
    }
}

/// Mark 1 is HTTP, HTTPS, FTP and all it may announce, of both addresses and of the one of IPv6.
fn web() -> MarkRule {
    rule(1, &[VIPS[0], VIPS[1], V6_VIP], &["21", "80", "443", "500"])
}

fn key(text: &str) -> ServiceKey {
    text.parse().expect("a service")
}

/// A service by mark with two real servers, for which round robin begins with the second.
fn marked(name: &str, method: ForwardingMethod, port: u16) -> Service {
    let key = key(name);
    let network = match key {
        ServiceKey::Mark { family: Family::Ipv6, .. } => V6_SERVERS,
        _ => V4_SERVERS,
    };
    Service {
        key,
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: servers(network, port, method, &[1, 1]),
    }
}

fn persistent(service: Service) -> Service {
    let granularity = if service.key.ip().is_ipv4() { 32 } else { 128 };
    Service { persistence: Some(Persistence::of_clients(Duration::from_secs(300), granularity)), ..service }
}

fn world_of(rules: Vec<MarkRule>, services: Vec<Service>, lcores: usize) -> World {
    World::marking(services, MarkRules::new(rules), Shape { lcores, ..Shape::default() })
}

fn world(services: Vec<Service>) -> World {
    world_of(vec![web()], services, 1)
}

/// From where to where a frame goes: `10.0.1.1:30000>10.0.2.12:80`.
fn way(frame: &[u8]) -> String {
    let text = describe(frame);
    let pairs: Vec<(&str, &str)> = text.split(' ').filter_map(|word| word.split_once('>')).collect();
    match pairs[..] {
        [(from, to), (from_port, to_port), ..] => format!("{from}:{from_port}>{to}:{to_port}"),
        _ => text,
    }
}

/// Lets a frame arrive at an lcore; from where to where it goes, at its owner, and by whom.
fn sent(world: &mut World, lcore: usize, frame: &Frame) -> String {
    let outcome = world.send_spread(lcore, CLIENT_SIDE, &frame.bytes());
    assert!(matches!(outcome.verdict.action, Action::Forward(_)), "{:?}", outcome.verdict);
    let station = outcome.frame[5];
    format!("{} by {station:02x}", way(&outcome.frame))
}

#[test]
fn several_addresses_ports_and_protocols_take_turns_as_one_service() {
    let mut world = world(vec![marked(ONE, ForwardingMethod::Dr, 0)]);
    let frames = [
        Frame::tcp((CLIENT, 30_000), (VIPS[0], 80), SYN),
        Frame::tcp((CLIENT, 30_000), (VIPS[1], 80), SYN),
        Frame::udp((CLIENT, 30_000), (VIPS[1], 443), b"quic"),
        Frame::sctp((CLIENT, 30_000), (VIPS[0], 443), 1),
    ];
    for (frame, server) in frames.iter().zip(["0c", "0b", "0c", "0b"]) {
        let out = sent(&mut world, 0, frame);
        assert!(out.ends_with(&format!("by {server}")), "{out}");
    }
    let other = Frame::tcp((CLIENT, 30_000), (VIPS[0], 81), SYN);
    assert_eq!(world.send(CLIENT_SIDE, &other.bytes()).verdict.reason, Reason::NoService);
}

#[test]
fn a_mark_goes_before_an_address_and_without_a_service_for_it_the_address_counts() {
    let by_address = service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]);
    let frame = |port| Frame::tcp((CLIENT, port), (VIPS[0], 80), SYN);
    let mut world = world(vec![marked(ONE, ForwardingMethod::Dr, 0), by_address]);
    assert_eq!(world.send(CLIENT_SIDE, &frame(30_000).bytes()).verdict.reason, Reason::RequestDr);
    world.services.remove(&key(ONE));
    world.publish();
    assert_eq!(world.send(CLIENT_SIDE, &frame(30_001).bytes()).verdict.reason, Reason::RequestNat);
}

#[test]
fn the_first_rule_counts_even_if_its_mark_has_no_service() {
    let spared = MarkRule { sources: vec!["10.0.1.1".parse().unwrap()], ..rule(9, &[], &[]) };
    let mut world = world_of(vec![spared, web()], vec![marked(ONE, ForwardingMethod::Dr, 0)], 1);
    let mut to = |client| {
        world.send(CLIENT_SIDE, &Frame::tcp((client, 30_000), (VIPS[0], 80), SYN).bytes()).verdict.reason
    };
    assert_eq!(to("10.0.1.1"), Reason::NoService);
    assert_eq!(to("10.0.1.2"), Reason::RequestDr);
}

#[test]
fn a_real_server_of_port_0_gets_the_packets_port_and_another_one_its_own() {
    for (port, text) in [(0, "10.0.2.12:443"), (8080, "10.0.2.12:8080")] {
        let mut world = world(vec![marked(ONE, ForwardingMethod::Nat, port)]);
        let out = sent(&mut world, 0, &Frame::tcp((CLIENT, 30_000), (VIPS[0], 443), SYN));
        assert!(out.contains(text), "{out}");
    }
}

#[test]
fn a_persistent_one_leaves_packets_their_port_whatever_the_real_servers() {
    let mut world = world(vec![persistent(marked(ONE, ForwardingMethod::Nat, 8080))]);
    let out = sent(&mut world, 0, &Frame::tcp((CLIENT, 30_000), (VIPS[0], 443), SYN));
    assert!(out.contains("10.0.2.12:443"), "{out}");
}

#[test]
fn a_client_has_one_real_server_for_all_that_has_the_mark() {
    for lcores in [1, 3] {
        let services = vec![persistent(marked(ONE, ForwardingMethod::Nat, 0))];
        let mut world = world_of(vec![web()], services, lcores);
        for (n, (vip, port)) in [(0, 80), (1, 443), (0, 443), (1, 80)].into_iter().enumerate() {
            let at = (VIPS[vip], port);
            let from = 30_000 + n as u16;
            let tcp = sent(&mut world, n % lcores, &Frame::tcp((CLIENT, from), at, SYN));
            let udp = sent(&mut world, n % lcores, &Frame::udp((CLIENT, from), at, b"quic"));
            assert!(tcp.contains(&format!(">10.0.2.12:{port}")), "{tcp}");
            assert!(udp.contains(&format!(">10.0.2.12:{port}")), "{udp}");
        }
        let templates = world.templates.list(world.now);
        let names: Vec<_> = templates.iter().map(|template| format!("{:?}", template.key)).collect();
        assert_eq!(templates.len(), 1, "{names:?}");
        let name = templates[0].key;
        assert_eq!(
            (name.virtual_address.to_string().as_str(), name.virtual_port, name.protocol),
            ("0.0.0.1", 0, 0)
        );
        // Another client begins with the other one.
        let other = sent(&mut world, 0, &Frame::tcp(("10.0.1.2", 30_000), (VIPS[0], 80), SYN));
        assert!(other.contains(">10.0.2.11:80"), "{other}");
    }
}

#[test]
fn nat_replies_come_from_the_address_that_was_asked_on_whatever_lcore() {
    for lcores in [1, 4] {
        let mut world = world_of(vec![web()], vec![marked(ONE, ForwardingMethod::Nat, 0)], lcores);
        for (n, vip) in VIPS.into_iter().enumerate() {
            for port in [80, 443] {
                let client = (CLIENT, 30_000 + n as u16);
                let out = sent(&mut world, n % lcores, &Frame::tcp(client, (vip, port), SYN));
                let server = if out.contains(">10.0.2.11:") { "10.0.2.11" } else { "10.0.2.12" };
                for lcore in 0..lcores {
                    let reply = Frame::tcp((server, port), client, SYN | ACK).by_server();
                    let outcome = world.send_spread(lcore, SERVER_SIDE, &reply.bytes());
                    assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
                    assert_eq!(way(&outcome.frame), format!("{vip}:{port}>{CLIENT}:{}", client.1));
                }
            }
        }
    }
}

#[test]
fn a_real_server_may_be_a_client_of_the_service_that_it_serves() {
    let mut world = world_of(vec![web()], vec![marked(ONE, ForwardingMethod::Nat, 0)], 4);
    for port in 30_000..30_016 {
        let client = ("10.0.2.13", port);
        let request = Frame::tcp(client, (VIPS[0], 80), SYN).by_server();
        let out = way(&world.send_spread(0, SERVER_SIDE, &request.bytes()).frame);
        let server = if out.contains(">10.0.2.11:") { "10.0.2.11" } else { "10.0.2.12" };
        let reply = Frame::tcp((server, 80), client, SYN | ACK).by_server();
        assert_eq!(world.send_spread(1, SERVER_SIDE, &reply.bytes()).verdict.reason, Reason::ReplyNat);
        // One that serves asks as well.
        let client = ("10.0.2.11", port);
        let request = Frame::tcp(client, (VIPS[0], 443), SYN).by_server();
        let out = way(&world.send_spread(2, SERVER_SIDE, &request.bytes()).frame);
        let server = if out.contains(">10.0.2.11:") { "10.0.2.11" } else { "10.0.2.12" };
        let reply = Frame::tcp((server, 443), client, SYN | ACK).by_server();
        assert_eq!(world.send_spread(3, SERVER_SIDE, &reply.bytes()).verdict.reason, Reason::ReplyNat);
    }
}

#[test]
fn ipv6_has_marks_and_services_of_its_own() {
    let services =
        vec![marked("mark 1", ForwardingMethod::Nat, 0), marked("mark 1/ipv6", ForwardingMethod::Nat, 0)];
    let mut world = world_of(vec![web()], services, 2);
    let client = (V6_CLIENT, 30_000);
    let out = sent(&mut world, 0, &Frame::tcp(client, (V6_VIP, 443), SYN));
    assert!(out.contains(">2001:db8:2::12:443"), "{out}");
    let reply = Frame::tcp(("2001:db8:2::12", 443), client, SYN | ACK).by_server();
    assert_eq!(world.send_spread(1, SERVER_SIDE, &reply.bytes()).verdict.reason, Reason::ReplyNat);
    // Without a service for this version of IP, the mark means nothing.
    world.services.remove(&key("mark 1/ipv6"));
    world.publish();
    let next = Frame::tcp((V6_CLIENT, 30_001), (V6_VIP, 443), SYN);
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &next.bytes()).verdict.action, Action::Punt);
    assert_eq!(
        world
            .send_spread(0, CLIENT_SIDE, &Frame::tcp((CLIENT, 1), (VIPS[0], 80), SYN).bytes())
            .verdict
            .reason,
        Reason::RequestNat
    );
}

#[test]
fn one_packet_scheduling_is_for_datagrams_alone() {
    let one = Service { one_packet: true, ..marked(ONE, ForwardingMethod::Dr, 0) };
    let mut world = world(vec![one]);
    for server in ["0c", "0b", "0c"] {
        let out = sent(&mut world, 0, &Frame::udp((CLIENT, 30_000), (VIPS[0], 443), b"?"));
        assert!(out.ends_with(&format!("by {server}")), "{out}");
    }
    assert!(world.connections().is_empty());
    sent(&mut world, 0, &Frame::tcp((CLIENT, 30_000), (VIPS[0], 443), SYN));
    assert_eq!(world.connections().len(), 1);
}

#[test]
fn the_port_that_received_it_and_its_dscp_make_a_mark_and_later_packets_need_neither() {
    let by_way = MarkRule { ingress: Some(SERVER_SIDE.0), ..rule(1, &[VIPS[0]], &[]) };
    let by_class = MarkRule { dscp: Some(46), ..rule(1, &[VIPS[1]], &[]) };
    let mut world = world_of(vec![by_way, by_class], vec![marked(ONE, ForwardingMethod::Dr, 0)], 2);
    let syn = Frame::tcp((CLIENT, 30_000), (VIPS[0], 80), SYN);
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &syn.bytes()).verdict.reason, Reason::NoService);
    let there = syn.by_server();
    assert_eq!(world.send_all(1, SERVER_SIDE, &there.bytes())[0].verdict.reason, Reason::RequestDr);
    let later = Frame::tcp((CLIENT, 30_000), (VIPS[0], 80), ACK);
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &later.bytes()).verdict.reason, Reason::RequestDr);
    let syn = |tos| Frame { tos, ..Frame::tcp((CLIENT, 30_001), (VIPS[1], 80), SYN) };
    assert_eq!(world.send_spread(1, CLIENT_SIDE, &syn(0).bytes()).verdict.reason, Reason::NoService);
    // ECN is not part of it.
    assert_eq!(
        world.send_spread(1, CLIENT_SIDE, &syn(46 << 2 | 1).bytes()).verdict.reason,
        Reason::RequestDr
    );
    let later = Frame { tos: 0, ..Frame::tcp((CLIENT, 30_001), (VIPS[1], 80), ACK) };
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &later.bytes()).verdict.reason, Reason::RequestDr);
}

#[test]
fn fragments_find_their_service_by_the_ports_of_the_first_one() {
    for lcores in [1, 4] {
        for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
            let mut world = world_of(vec![web()], vec![marked(ONE, method, 0)], lcores);
            let whole = Frame::udp((CLIENT, 30_000), (VIPS[1], 443), &[7; 64]);
            let mut ends = Vec::new();
            for (lcore, piece) in crate::fragments::cut(&whole.bytes(), &[5], 7).into_iter().rev().enumerate()
            {
                ends.extend(world.send_all(lcore % lcores, CLIENT_SIDE, &piece));
            }
            assert_eq!(ends.len(), 2, "{ends:?}");
            for end in &ends {
                assert!(
                    matches!(end.verdict.reason, Reason::RequestDr | Reason::RequestNat),
                    "{:?}",
                    end.verdict
                );
                assert_eq!(end.frame[..6], server_mac(2).0);
            }
        }
    }
}

#[test]
fn errors_about_either_way_find_the_connection_on_whatever_lcore() {
    for lcores in [1, 4] {
        let mut world = world_of(vec![web()], vec![marked(ONE, ForwardingMethod::Nat, 0)], lcores);
        sent(&mut world, 0, &Frame::udp((CLIENT, 30_000), (VIPS[1], 443), b"?"));
        for lcore in 0..lcores {
            let about = crate::icmp::quoted(Frame::udp((VIPS[1], 443), (CLIENT, 30_000), b"!"), 28);
            let error = crate::icmp::error("10.0.1.77", VIPS[1], (3, 4), 1200, &about);
            let outcome = world.send_spread(lcore, CLIENT_SIDE, &error.bytes());
            assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
            assert!(describe(&outcome.frame).contains("10.0.1.77>10.0.2.12"));
            let about = crate::icmp::quoted(Frame::udp((CLIENT, 30_000), ("10.0.2.12", 443), b"?"), 28);
            let error = crate::icmp::error("10.0.2.12", CLIENT, (3, 3), 0, &about).by_server();
            let outcome = world.send_spread(lcore, SERVER_SIDE, &error.bytes());
            assert_eq!(outcome.verdict.reason, Reason::IcmpReply);
            assert!(describe(&outcome.frame).contains(&format!("{}>{CLIENT}", VIPS[1])));
        }
    }
}

#[test]
fn esp_follows_a_key_exchange_that_has_the_mark() {
    let mut world = world_of(vec![web()], vec![marked(ONE, ForwardingMethod::Dr, 0)], 3);
    let esp = Frame {
        payload: Payload::Raw { protocol: 50, data: vec![7; 40] },
        flags_and_offset: 0,
        ..Frame::tcp((CLIENT, 0), (VIPS[0], 0), 0)
    };
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &esp.bytes()).verdict.reason, Reason::OtherProtocol);
    sent(&mut world, 0, &Frame::udp((CLIENT, 500), (VIPS[0], 500), b"key"));
    for lcore in 0..3 {
        let out = sent(&mut world, lcore, &esp);
        assert!(out.ends_with("by 0c"), "{out}");
    }
}

#[test]
fn passive_ftp_is_read_along_and_its_data_need_no_mark() {
    for lcores in [1, 4] {
        let mut world = world_of(vec![web()], vec![marked(ONE, ForwardingMethod::Nat, 0)], lcores);
        let (client, vip, server) = ((CLIENT, 30_000), (VIPS[1], 21), ("10.0.2.12", 21));
        sent(&mut world, 0, &Frame::tcp(client, vip, SYN));
        crate::ftp::send(&mut world, client, vip, 1000, "PASV\r\n");
        let answer = "227 Entering Passive Mode (10,0,2,12,195,80).\r\n";
        let (text, from, _) = crate::ftp::read(&crate::ftp::send(&mut world, server, client, 5000, answer));
        assert_eq!(text, "227 Entering Passive Mode (10,99,0,2,195,80).\r\n");
        assert_eq!(from, (VIPS[1].parse().unwrap(), 21));
        let data = crate::ftp::syn(&mut world, (CLIENT, 30_001), (VIPS[1], 50_000));
        assert_eq!(crate::ftp::read(&data).2, ("10.0.2.12".parse().unwrap(), 50_000));
    }
}

#[test]
fn a_mark_without_an_available_real_server_is_unreachable() {
    let mut world = world(vec![Service { servers: Vec::new(), ..marked(ONE, ForwardingMethod::Nat, 0) }]);
    let syn = Frame::tcp((CLIENT, 30_000), (VIPS[0], 80), SYN);
    let outcome = world.send(CLIENT_SIDE, &syn.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpPortUnreachable);
    assert!(describe(&outcome.frame).contains("10.99.0.1>10.0.1.1"));
}

#[test]
fn nat_icmp_send_leaves_alone_what_a_real_server_of_any_port_begins_itself() {
    let mut world = world(vec![marked(ONE, ForwardingMethod::Nat, 0)]);
    world.settings.nat_icmp_send = true;
    world.publish();
    let own = Frame::tcp(("10.0.2.11", 45_000), (CLIENT, 22), SYN).by_server();
    assert_eq!(world.send(SERVER_SIDE, &own.bytes()).verdict.action, Action::Punt);
}
