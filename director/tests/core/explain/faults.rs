//! Each thing that may be missing is named.

use control::health::Standing;
use control::model::{
    ForwardingMethod, Persistence, PersistenceEngine, Protocol, Scheduler, Service, ServiceKey, Settings,
    Thresholds, Weight,
};
use control::protocol::{Explanation, PacketSketch, TcpFlag};
use director::id::IfIndex;
use director::nexthop::Neighbour;

use super::{explain, explain_with, sketch, tcp};
use crate::frames::{Frame, SYN};
use crate::world::{CLIENT_SIDE, Shape, World, ip, service};

const FROM: &str = "10.0.1.1:40000";
const TO: &str = "10.99.0.1:80";

fn web(method: ForwardingMethod, weights: &[u16]) -> Service {
    let port = if method == ForwardingMethod::Nat { 8080 } else { 80 };
    service(Protocol::Tcp, TO, Scheduler::Rr, method, port, weights)
}

fn nat() -> World {
    World::new(vec![web(ForwardingMethod::Nat, &[1, 1])])
}

fn key() -> ServiceKey {
    "tcp 10.99.0.1:80".parse().unwrap()
}

fn syn() -> PacketSketch {
    tcp(FROM, TO, &[TcpFlag::Syn])
}

fn open(world: &mut World) {
    world.send(CLIENT_SIDE, &Frame::tcp(("10.0.1.1", 40_000), ("10.99.0.1", 80), SYN).bytes());
}

/// Reason, and what is missing.
fn fault(said: &Explanation) -> (&str, &str) {
    (&said.reason, said.missing.as_ref().map_or("", |missing| &missing.code))
}

#[track_caller]
fn is_missing(world: &World, asked: &PacketSketch, reason: &str, code: &str, words: &[&str]) {
    let said = explain(world, asked);
    assert_eq!(fault(&said), (reason, code), "{said:#?}");
    let missing = said.missing.unwrap();
    assert!(words.iter().all(|word| missing.message.contains(word)), "{missing:?}");
    assert!(!missing.remedy.is_empty());
}

#[test]
fn what_is_well_misses_nothing_and_every_step_is_told() {
    let said = explain(&nat(), &syn());
    assert_eq!(fault(&said), ("request_nat", ""));
    let steps: Vec<&str> = said.steps.iter().map(|step| step.step.as_str()).collect();
    assert_eq!(steps, ["port", "owner", "connection", "service", "scheduler", "forward", "next-hop"]);
    let leaves = said.leaves.unwrap();
    assert_eq!((leaves.destination, leaves.destination_port), (ip("10.0.2.12"), Some(8080)));
    let hop = said.next_hop.unwrap();
    assert_eq!((hop.interface.as_str(), hop.port, hop.mtu), ("dir1", 1, 1500));
    assert_eq!(said.candidates.iter().map(|c| c.chosen).collect::<Vec<_>>(), [true, false]);
    assert_eq!(said.assumed, ["ttl", "df", "dscp", "size", "port"]);
}

#[test]
fn a_living_connection_is_told_of_both_ways() {
    let mut world = nat();
    open(&mut world);
    let [from, to] = [FROM, TO].map(|end| end.parse().unwrap());
    let said = explain(&world, &sketch(Protocol::Tcp, from, to));
    assert_eq!(fault(&said), ("request_nat", ""));
    assert_eq!(said.packet.flags, Some(vec![TcpFlag::Ack]));
    assert_eq!(said.connection.unwrap().state, "SYN_RECV");
    let said = explain(&world, &tcp("10.0.2.12:8080", FROM, &[TcpFlag::Syn, TcpFlag::Ack]));
    assert_eq!(fault(&said), ("reply_nat", ""));
    let leaves = said.leaves.unwrap();
    assert_eq!((leaves.source, leaves.source_port), (ip("10.99.0.1"), Some(80)));
    assert_eq!((said.packet.port, said.next_hop.unwrap().port), (Some(1), 0));
}

#[test]
fn no_route_and_an_interface_that_is_down() {
    let mut world = nat();
    world.view.routes.retain(|route| route.network != ip("10.0.2.0"));
    world.publish();
    is_missing(&world, &syn(), "no_route", "no-route", &["10.0.2.12"]);
    world.view.links.get_mut(&IfIndex(11)).unwrap().up = false;
    world.publish();
    is_missing(&world, &syn(), "no_route", "link-down", &["dir1", "10.0.2.12"]);
}

#[test]
fn a_route_by_an_interface_that_is_no_ports() {
    let mut world = nat();
    let mut link = world.view.links[&IfIndex(11)].clone();
    link.name = "eth9".into();
    world.view.links.insert(IfIndex(12), link);
    for route in &mut world.view.routes {
        if route.link == IfIndex(11) {
            route.link = IfIndex(12);
        }
    }
    world.publish();
    is_missing(&world, &syn(), "no_route", "not-a-port", &["eth9"]);
}

#[test]
fn a_next_hop_without_an_ethernet_address() {
    let mut world = nat();
    world.view.neighbours.remove(&Neighbour { link: IfIndex(11), ip: ip("10.0.2.12") });
    world.publish();
    let said = explain(&world, &syn());
    assert_eq!((said.action.as_str(), fault(&said)), ("hold", ("request_nat", "next-hop-unresolved")));
    assert_eq!(said.next_hop.unwrap().mac, None);
}

#[test]
fn nobody_with_a_weight_nobody_below_a_threshold_nobody_at_all() {
    let quiesced = World::new(vec![web(ForwardingMethod::Nat, &[0, 0])]);
    is_missing(&quiesced, &syn(), "icmp_port_unreachable", "all-quiesced", &["10.0.2.11", "10.0.2.12"]);
    let empty = World::new(vec![web(ForwardingMethod::Nat, &[])]);
    is_missing(&empty, &syn(), "icmp_port_unreachable", "no-real-servers", &["tcp 10.99.0.1:80"]);
    let mut full = web(ForwardingMethod::Nat, &[1]);
    full.servers[0].thresholds = Thresholds { upper: 1, lower: 0 };
    let mut full = World::new(vec![full]);
    open(&mut full);
    let other = tcp("10.0.1.1:40001", TO, &[TcpFlag::Syn]);
    is_missing(&full, &other, "icmp_port_unreachable", "all-overloaded", &["10.0.2.11:8080"]);
    // One of each.
    full.edit(key(), |service| {
        let mut second = service.servers[0];
        second.address.set_port(8081);
        second.weight = Weight(0);
        service.servers.push(second);
    });
    is_missing(&full, &other, "icmp_port_unreachable", "none-available", &["8080", "8081"]);
}

#[test]
fn health_has_taken_all_of_them_out() {
    let mut world = nat();
    // As it is compiled: one is out of the service, the other has no weight.
    world.edit(key(), |service| {
        service.servers.remove(0);
        service.servers[0].weight = Weight(0);
    });
    let configured = web(ForwardingMethod::Nat, &[1, 1]);
    let standing = |address: std::net::SocketAddr| match address.ip() == ip("10.0.2.11") {
        true => Standing::Removed,
        false => Standing::Inhibited,
    };
    let said = explain_with(&world, &syn(), &|_, address| Some(standing(address)), &configured);
    assert_eq!(fault(&said), ("icmp_port_unreachable", "all-failed"), "{said:#?}");
    let missing = said.missing.unwrap();
    assert!(missing.message.contains("10.0.2.11:8080, 10.0.2.12:8080"), "{missing:?}");
    assert_eq!(said.candidates[0].health, Some(Standing::Inhibited));
}

#[test]
fn a_scheduler_that_will_not_have_another_one() {
    let mut hashed = web(ForwardingMethod::Nat, &[1, 0]);
    hashed.scheduler = Scheduler::Sh;
    let world = World::new(vec![hashed]);
    let refused = (0..200).map(|n| tcp(&format!("10.0.1.{n}:40000"), TO, &[TcpFlag::Syn]));
    let refused = refused.into_iter().find(|asked| explain(&world, asked).reason != "request_nat").unwrap();
    is_missing(&world, &refused, "icmp_port_unreachable", "scheduler-refuses", &["sh"]);
}

#[test]
fn no_such_service_or_no_connection_of_it() {
    let mut world = nat();
    let other = tcp(FROM, "10.99.0.1:81", &[TcpFlag::Syn]);
    is_missing(&world, &other, "no_service", "no-such-service", &["tcp 10.99.0.1:80", "10.99.0.1:81"]);
    is_missing(&world, &tcp(FROM, TO, &[TcpFlag::Ack]), "no_connection", "not-opening", &["SYN"]);
    let data = tcp("10.0.1.1:20", TO, &[TcpFlag::Syn]);
    is_missing(&world, &data, "no_connection", "from-ftp-data", &["20"]);
    let reply = tcp("10.0.2.11:8080", FROM, &[TcpFlag::Ack]);
    is_missing(&world, &reply, "no_service", "no-connection", &["10.0.2.11:8080"]);
    world.settings.nat_icmp_send = true;
    world.publish();
    is_missing(&world, &reply, "icmp_port_unreachable", "no-connection", &["nat_icmp_send"]);
}

#[test]
fn a_ttl_that_is_used_up_and_a_packet_that_is_too_long() {
    let mut world = nat();
    is_missing(&world, &PacketSketch { ttl: Some(1), ..syn() }, "icmp_time_exceeded", "ttl-used-up", &["1"]);
    world.view.links.get_mut(&IfIndex(11)).unwrap().mtu = 1400;
    world.publish();
    let long = PacketSketch { size: Some(1500), ..syn() };
    is_missing(&world, &long, "icmp_too_big", "mtu-too-small", &["1500", "1400"]);
    let said = explain(&world, &PacketSketch { df: Some(false), ..long.clone() });
    assert_eq!((said.action.as_str(), fault(&said)), ("cut", ("request_nat", "")));
    let tunnel = World::new(vec![web(ForwardingMethod::Tunnel, &[1])]);
    is_missing(&tunnel, &long, "icmp_too_big", "mtu-too-small", &["1500", "tunnel takes 20"]);
}

#[test]
fn a_real_server_of_the_other_version_of_ip() {
    let mut nat = web(ForwardingMethod::Nat, &[1]);
    nat.servers[0].address.set_ip(ip("2001:db8:2::11"));
    is_missing(&World::new(vec![nat]), &syn(), "no_route", "wrong-family", &["2001:db8:2::11"]);
}

#[test]
fn a_real_server_that_was_removed() {
    let mut world = nat();
    open(&mut world);
    world.edit(key(), |service| service.servers.clear());
    is_missing(&world, &tcp(FROM, TO, &[TcpFlag::Ack]), "server_removed", "server-removed", &["removed"]);
    world.settings.expire_nodest_conn = true;
    world.publish();
    is_missing(&world, &tcp(FROM, TO, &[TcpFlag::Ack]), "no_connection", "not-opening", &[]);
}

#[test]
fn tables_that_are_full() {
    let shape = Shape { capacity: 1, templates: 1, ..Shape::default() };
    let mut persistent = web(ForwardingMethod::Dr, &[1]);
    let timeout = std::time::Duration::from_secs(300);
    persistent.persistence = Some(Persistence::of_clients(timeout, 32));
    let mut world = World::shaped(vec![persistent], shape);
    open(&mut world);
    let same = tcp("10.0.1.1:40001", TO, &[TcpFlag::Syn]);
    is_missing(&world, &same, "table_full", "table-full", &["1 connections and room for 1"]);
    let other = tcp("10.0.1.7:40001", TO, &[TcpFlag::Syn]);
    is_missing(&world, &other, "template_table_full", "template-table-full", &["1 persistence"]);
}

#[test]
fn the_defence_drops_and_a_service_without_servers_lets_pass() {
    let mut world = nat();
    world.settings = Settings { drop_packet: 3, am_droprate: 1, ..Settings::default() };
    world.publish();
    world.expire();
    is_missing(&world, &syn(), "drop_packet", "drop-packet", &["one in 1"]);
}

#[test]
fn a_datagram_without_a_call_id() {
    let mut sip =
        service(Protocol::Udp, "10.99.0.1:5060", Scheduler::Rr, ForwardingMethod::Nat, 5060, &[1, 1]);
    let timeout = std::time::Duration::from_secs(300);
    sip.persistence =
        Some(Persistence { engine: PersistenceEngine::Sip, ..Persistence::of_clients(timeout, 32) });
    let world = World::new(vec![sip]);
    let [from, to] = ["10.0.1.1:5060", "10.99.0.1:5060"].map(|end| end.parse().unwrap());
    let asked = sketch(Protocol::Udp, from, to);
    is_missing(&world, &asked, "no_call_id", "no-call-id", &["Call-ID"]);
    let said = explain(&world, &PacketSketch { call_id: Some("a84b4c76e66710".into()), ..asked });
    assert_eq!(fault(&said), ("request_nat", ""));
}

#[test]
fn what_cannot_be_a_packet_is_refused() {
    use director::explain::{BadSketch, Question};
    let world = nat();
    let refused = |asked: PacketSketch| Question::new(asked, &world.snapshot, 1).unwrap_err();
    assert_eq!(refused(tcp(FROM, "[2001:db8:99::1]:80", &[])), BadSketch::TwoFamilies);
    assert_eq!(refused(PacketSketch { port: Some(2), ..syn() }), BadSketch::NoSuchPort(2));
    assert_eq!(refused(PacketSketch { size: Some(39), ..syn() }), BadSketch::TooShort(40));
    assert_eq!(refused(PacketSketch { dscp: Some(64), ..syn() }), BadSketch::BadDscp(64));
}
