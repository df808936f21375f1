//! ICMP errors about balanced packets, as a real kernel's IPVS was seen to treat them.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{Frame, Payload, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, V6_SERVERS, World, servers, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.2.11";
/// The director's address on the server side.
const DIRECTOR: &str = "10.0.2.254";

fn dns(method: ForwardingMethod, port: u16) -> World {
    World::new(vec![service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, method, port, &[1])])
}

/// The packet that an error is about, IP header first, cut to `len` bytes.
pub(crate) fn quoted(mut frame: Frame, len: usize) -> Vec<u8> {
    frame.ttl = 63;
    let bytes = frame.bytes();
    bytes[14..].iter().copied().take(len).collect()
}

/// An error of this type and code about a packet.
pub(crate) fn error(
    source: &str,
    destination: &str,
    (kind, code): (u8, u8),
    mtu: u16,
    about: &[u8],
) -> Frame {
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(about);
    let mut sum = 0u32;
    for pair in message.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    Frame {
        flags_and_offset: 0,
        payload: Payload::Raw { protocol: 1, data: message },
        ..Frame::tcp((source, 0), (destination, 0), 0)
    }
}

fn ask(world: &mut World, port: u16) -> Vec<u8> {
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, port), (VIP, 53), b"question").bytes()).frame
}

#[test]
fn nat_from_the_real_server_about_a_request() {
    let mut world = dns(ForwardingMethod::Nat, 5353);
    let forwarded = ask(&mut world, 20082);
    let error = error(SERVER, CLIENT, (3, 3), 0, &forwarded[14..14 + 28]).by_server();
    let outcome = world.send(SERVER_SIDE, &error.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpReply);
    assert_eq!(
        describe(&outcome.frame),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=56 ttl=63 tos=0x00 df0 ICMP 3/3 mtu=0 \
         quoted 28B {IP 10.0.1.1>10.99.0.1 len=36 ttl=63 tos=0x00 df0 UDP 20082>53 len=16}"
    );
    // A router between here and the real server is hidden as well.
    let by_router = self::error("10.0.2.77", CLIENT, (11, 0), 0, &forwarded[14..]).by_server();
    let outcome = world.send(SERVER_SIDE, &by_router.bytes());
    assert!(describe(&outcome.frame).contains("IP 10.99.0.1>10.0.1.1"), "{}", describe(&outcome.frame));
}

#[test]
fn nat_from_the_clients_side_about_a_reply() {
    let mut world = dns(ForwardingMethod::Nat, 5353);
    ask(&mut world, 20082);
    let about = quoted(Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!"), 28);
    for (source, kind, mtu) in [(CLIENT, (3, 3), 0), ("10.0.1.77", (3, 4), 1200)] {
        let outcome = world.send(CLIENT_SIDE, &error(source, VIP, kind, mtu, &about).bytes());
        assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
        assert_eq!(
            describe(&outcome.frame),
            format!(
                "to 02:00:00:00:01:0b IP {source}>10.0.2.11 len=56 ttl=63 tos=0x00 df0 ICMP {}/{} mtu={mtu} \
                 quoted 28B {{IP 10.0.2.11>10.0.1.1 len=36 ttl=63 tos=0x00 df0 UDP 5353>20082 len=16}}",
                kind.0, kind.1
            )
        );
    }
    let totals = world.compiler.server_totals(
        world
            .compiler
            .server_id(*world.services.keys().next().unwrap(), "10.0.2.11:5353".parse().unwrap())
            .unwrap(),
    );
    assert_eq!((totals.packets_in, totals.bytes_in), (3, 36 + 2 * 56), "errors count as IPVS counts them");
}

#[test]
fn direct_routing_and_tunnel_send_it_on_as_it_is() {
    let about = quoted(Frame::udp((VIP, 53), (CLIENT, 20083), b"answer!!"), 28);
    let inner = "IP 10.0.1.77>10.99.0.1 len=56 ttl=63 tos=0x00 df0 ICMP 3/4 mtu=1200 \
                 quoted 28B {IP 10.99.0.1>10.0.1.1 len=36 ttl=63 tos=0x00 df0 UDP 53>20083 len=16}";
    let mut world = dns(ForwardingMethod::Dr, 53);
    ask(&mut world, 20083);
    let error = error("10.0.1.77", VIP, (3, 4), 1200, &about).bytes();
    assert_eq!(describe(&world.send(CLIENT_SIDE, &error).frame), format!("to 02:00:00:00:01:0b {inner}"));
    let mut world = dns(ForwardingMethod::Tunnel, 53);
    ask(&mut world, 20083);
    assert_eq!(
        describe(&world.send(CLIENT_SIDE, &error).frame),
        format!("to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=76 ttl=63 tos=0x00 df0 IPIP {{{inner}}}")
    );
}

#[test]
fn errors_about_nothing_known_are_the_kernels_and_lies_are_dropped() {
    let mut world = dns(ForwardingMethod::Nat, 5353);
    ask(&mut world, 20082);
    let unknown = quoted(Frame::udp((VIP, 53), (CLIENT, 33333), b"answer!!"), 28);
    let known = quoted(Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!"), 28);
    let mut echo = error(CLIENT, VIP, (8, 0), 0, &known);
    let sent = error(CLIENT, VIP, (3, 3), 0, &unknown).bytes();
    let outcome = world.send(CLIENT_SIDE, &sent);
    assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, Reason::OtherProtocol));
    assert_eq!(outcome.frame, sent);
    for frame in [
        echo.clone(),
        // Quotes less than the ports, a fragment that has none, another protocol, a packet sent by somebody else.
        error(CLIENT, VIP, (3, 3), 0, &known[..27]),
        error(CLIENT, VIP, (3, 3), 0, &[&known[..6], &[0, 9], &known[8..]].concat()),
        error(CLIENT, VIP, (3, 3), 0, &[&known[..9], &[47], &known[10..]].concat()),
        error(CLIENT, "10.99.0.2", (3, 3), 0, &known),
    ] {
        assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.action, Action::Punt, "{frame:?}");
    }
    let Payload::Raw { data, .. } = &mut echo.payload else { panic!() };
    (data[0], data[1]) = (3, 3);
    assert_eq!(world.send(CLIENT_SIDE, &echo.bytes()).verdict.reason, Reason::BadIcmpChecksum);
    let mut old = error(CLIENT, VIP, (3, 3), 0, &known);
    old.ttl = 1;
    assert_eq!(world.send(CLIENT_SIDE, &old.bytes()).verdict.reason, Reason::IcmpUndeliverable);
}

#[test]
fn errors_about_a_tunnel_become_errors_for_the_client() {
    let mut world = dns(ForwardingMethod::Tunnel, 53);
    let outer = ask(&mut world, 20070);
    let about = &outer[14..];
    let at = |world: &mut World, kind, mtu, about: &[u8]| {
        world.send(SERVER_SIDE, &error("10.0.2.77", DIRECTOR, kind, mtu, about).by_server().bytes())
    };
    let outcome = at(&mut world, (3, 4), 1300, &about[..48]);
    assert_eq!(outcome.verdict.reason, Reason::IcmpTunnel);
    assert_eq!(
        describe(&outcome.frame),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=56 ttl=64 tos=0xc0 df0 ICMP 3/4 mtu=1280 \
         quoted 28B {IP 10.0.1.1>10.99.0.1 len=36 ttl=63 tos=0x00 df0 UDP 20070>53 len=16}"
    );
    let outcome = at(&mut world, (3, 1), 0, about);
    assert_eq!(
        describe(&outcome.frame),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=64 ttl=64 tos=0xc0 df0 ICMP 3/1 mtu=0 \
         quoted 36B {IP 10.0.1.1>10.99.0.1 len=36 ttl=63 tos=0x00 df0 UDP 20070>53 len=16 ok}"
    );
    // Not enough quoted to know whose it is; a tunnel that is not ours.
    assert_eq!(at(&mut world, (3, 4), 1300, &about[..40]).verdict.action, Action::Punt);
    let mut elsewhere = about.to_vec();
    elsewhere[19] = 12;
    assert_eq!(at(&mut world, (3, 4), 1300, &elsewhere).verdict.action, Action::Punt);
}

#[test]
fn a_tunnel_of_ipv6_about_a_packet_of_ipv4() {
    let mut web = service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Tunnel, 53, &[]);
    web.servers = servers(V6_SERVERS, 53, ForwardingMethod::Tunnel, &[1]);
    let mut world = World::new(vec![web]);
    let outer = ask(&mut world, 20070);
    let about = &outer[14..];
    for (kind, mtu, text) in [
        ((2, 0), 1300u32, "ICMP 3/4 mtu=1260"),
        ((1, 3), 0, "ICMP 3/1 mtu=0"),
        ((3, 0), 0, "ICMP 11/0 mtu=0"),
    ] {
        let error = crate::icmpv6::error("2001:db8:2::77", "2001:db8:2::fe", kind, mtu, about).by_server();
        let outcome = world.send(SERVER_SIDE, &error.bytes());
        let words = describe(&outcome.frame);
        assert!(words.starts_with("to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 "), "{words}");
        assert!(words.contains(text), "{words}");
    }
}

#[test]
fn errors_are_limited_to_a_burst_of_fifty() {
    let mut world = dns(ForwardingMethod::Tunnel, 53);
    let outer = ask(&mut world, 20070);
    let error = error("10.0.2.77", DIRECTOR, (3, 1), 0, &outer[14..]).by_server().bytes();
    let reasons: Vec<_> = (0..60).map(|_| world.send(SERVER_SIDE, &error).verdict.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == Reason::IcmpTunnel).count(), 50);
    assert_eq!(reasons[59], Reason::IcmpLimited);
}

#[test]
fn errors_reach_the_owner_whatever_lcore_they_come_to() {
    let dns = service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Nat, 5353, &[1]);
    let mut world = World::shaped(vec![dns], Shape { lcores: 3, ..Shape::default() });
    for port in 20_000..20_030 {
        let request = Frame::udp((CLIENT, port), (VIP, 53), b"question").bytes();
        let forwarded = world.send_spread(0, CLIENT_SIDE, &request).frame;
        for lcore in 0..3 {
            let about = quoted(Frame::udp((VIP, 53), (CLIENT, port), b"answer!!"), 28);
            let from_client = error("10.0.1.77", VIP, (3, 4), 1200, &about).bytes();
            let outcome = world.send_spread(lcore, CLIENT_SIDE, &from_client);
            assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
            let from_server = error(SERVER, CLIENT, (3, 3), 0, &forwarded[14..]).by_server().bytes();
            let outcome = world.send_spread(lcore, SERVER_SIDE, &from_server);
            assert_eq!(outcome.verdict.reason, Reason::IcmpReply);
        }
    }
}

#[test]
fn a_tcp_syn_that_is_refused_on_the_way() {
    let mut world = World::new(vec![service(
        Protocol::Tcp,
        "10.99.0.1:80",
        Scheduler::Rr,
        ForwardingMethod::Nat,
        8080,
        &[1],
    )]);
    let forwarded = world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, 20001), (VIP, 80), SYN).bytes()).frame;
    let error = error(SERVER, CLIENT, (3, 10), 0, &forwarded[14..]).by_server();
    let words = describe(&world.send(SERVER_SIDE, &error.bytes()).frame);
    assert!(words.contains("ICMP 3/10 mtu=0 quoted 40B {IP 10.0.1.1>10.99.0.1 len=40"), "{words}");
    assert!(words.contains("TCP 20001>80 [S]"), "{words}");
    assert_eq!(
        world.connections(),
        ["SYN_RECV 10.0.1.1:20001 10.99.0.1:80 10.0.2.11:8080"],
        "no state moves"
    );
}
