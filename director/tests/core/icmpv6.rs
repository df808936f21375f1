//! ICMPv6 errors about balanced packets.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{Frame, Payload, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, V4_SERVERS, World, servers, service};

const VIP: &str = "2001:db8:99::1";
const CLIENT: &str = "2001:db8:1::1";
const SERVER: &str = "2001:db8:2::11";

fn dns(method: ForwardingMethod, port: u16) -> World {
    World::new(vec![service(Protocol::Udp, "[2001:db8:99::1]:53", Scheduler::Rr, method, port, &[1])])
}

/// An error of this type and code about a packet.
pub(crate) fn error(
    source: &str,
    destination: &str,
    (kind, code): (u8, u8),
    mtu: u32,
    about: &[u8],
) -> Frame {
    let mut message = vec![kind, code, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(about);
    Frame {
        payload: Payload::Raw { protocol: 58, data: message },
        ..Frame::tcp((source, 0), (destination, 0), 0)
    }
}

fn ask(world: &mut World, port: u16) -> Vec<u8> {
    world.send(CLIENT_SIDE, &Frame::udp((CLIENT, port), (VIP, 53), b"question").bytes()).frame
}

/// As in the kernel, the checksum in the quote stays that of the other side.
#[test]
fn nat_both_ways() {
    let mut world = dns(ForwardingMethod::Nat, 5353);
    let forwarded = ask(&mut world, 20082);
    let refused = error(SERVER, CLIENT, (1, 4), 0, &forwarded[14..]).by_server();
    assert_eq!(
        describe(&world.send(SERVER_SIDE, &refused.bytes()).frame),
        format!(
            "to 02:00:00:00:00:c0 IP {VIP}>{CLIENT} len=104 ttl=63 tos=0x00 ICMPV6 1/4 mtu=0 ok \
             quoted 56B {{IP {CLIENT}>{VIP} len=56 ttl=63 tos=0x00 UDP 20082>53 len=16 BAD-SUM}}"
        )
    );
    let about = crate::icmp::quoted(Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!"), 56);
    let too_big = error("2001:db8:1::77", VIP, (2, 0), 1300, &about);
    assert_eq!(
        describe(&world.send(CLIENT_SIDE, &too_big.bytes()).frame),
        format!(
            "to 02:00:00:00:01:0b IP 2001:db8:1::77>{SERVER} len=104 ttl=63 tos=0x00 ICMPV6 2/0 mtu=1300 ok \
             quoted 56B {{IP {SERVER}>{CLIENT} len=56 ttl=63 tos=0x00 UDP 5353>20082 len=16 BAD-SUM}}"
        )
    );
}

#[test]
fn direct_routing_sends_it_on_as_it_is() {
    let mut world = dns(ForwardingMethod::Dr, 53);
    ask(&mut world, 20082);
    let about = crate::icmp::quoted(Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!"), 56);
    let sent = error("2001:db8:1::77", VIP, (2, 0), 1300, &about).bytes();
    let outcome = world.send(CLIENT_SIDE, &sent);
    assert_eq!(outcome.verdict.reason, Reason::IcmpRequest);
    assert_eq!((&outcome.frame[14..21], &outcome.frame[22..]), (&sent[14..21], &sent[22..]));
}

#[test]
fn errors_about_a_tunnel_become_errors_for_the_client() {
    let mut world = dns(ForwardingMethod::Tunnel, 53);
    let outer = ask(&mut world, 20070);
    let outcome = world.send(
        SERVER_SIDE,
        &error("2001:db8:2::77", "2001:db8:2::fe", (2, 0), 1400, &outer[14..]).by_server().bytes(),
    );
    assert_eq!(outcome.verdict.reason, Reason::IcmpTunnel);
    let words = describe(&outcome.frame);
    assert!(words.contains("ICMPV6 2/0 mtu=1360 ok quoted 56B"), "{words}");
    // No host need go below 1280.
    let outcome = world.send(
        SERVER_SIDE,
        &error("2001:db8:2::77", "2001:db8:2::fe", (2, 0), 1280, &outer[14..]).by_server().bytes(),
    );
    assert!(describe(&outcome.frame).contains("mtu=1280 ok"), "{}", describe(&outcome.frame));
}

#[test]
fn a_tunnel_of_ipv4_about_a_packet_of_ipv6() {
    let mut web =
        service(Protocol::Udp, "[2001:db8:99::1]:53", Scheduler::Rr, ForwardingMethod::Tunnel, 53, &[]);
    web.servers = servers(V4_SERVERS, 53, ForwardingMethod::Tunnel, &[1]);
    let mut world = World::new(vec![web]);
    let outer = ask(&mut world, 20070);
    for (kind, mtu, text) in [
        ((3, 4), 1400, "ICMPV6 2/0 mtu=1380 ok"),
        ((3, 1), 0, "ICMPV6 1/3 mtu=0 ok"),
        ((11, 0), 0, "ICMPV6 3/0 mtu=0 ok"),
    ] {
        let error = crate::icmp::error("10.0.2.77", "10.0.2.254", kind, mtu, &outer[14..]).by_server();
        let outcome = world.send(SERVER_SIDE, &error.bytes());
        assert_eq!(outcome.verdict.reason, Reason::IcmpTunnel);
        let words = describe(&outcome.frame);
        assert!(words.starts_with(&format!("to 02:00:00:00:00:c0 IP {VIP}>{CLIENT} ")), "{words}");
        assert!(words.contains(text), "{words}");
    }
}

#[test]
fn whatever_is_no_error_is_the_kernels() {
    let mut world = dns(ForwardingMethod::Nat, 5353);
    ask(&mut world, 20082);
    let about = crate::icmp::quoted(Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!"), 56);
    for kind in [128, 129, 135, 136, 255] {
        let outcome = world.send(CLIENT_SIDE, &error(CLIENT, VIP, (kind, 0), 0, &about).bytes());
        assert_eq!(outcome.verdict.action, Action::Punt);
    }
    // A quoted fragment is not followed, and neither is an error that is one itself.
    let mut fragment = Frame::udp((VIP, 53), (CLIENT, 20082), b"answer!!");
    fragment.extensions = vec![(44, vec![0, 0, 0, 1, 0, 0, 0, 9])];
    let about = crate::icmp::quoted(fragment, 64);
    assert_eq!(
        world.send(CLIENT_SIDE, &error(CLIENT, VIP, (1, 4), 0, &about).bytes()).verdict.action,
        Action::Punt
    );
}
