//! SCTP: the same services, connections and forwarding methods, states of its own, and CRC32c by NAT.

use control::model::{ForwardingMethod, Persistence, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;
use proptest::prelude::*;

use crate::fragments::cut;
use crate::frames::{Frame, Payload, describe};
use crate::icmp::{error, quoted};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, V4_SERVERS, World, ip, servers, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.2.11";
const V6: [&str; 3] = ["2001:db8:1::1", "2001:db8:99::1", "2001:db8:2::11"];

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

fn world(method: ForwardingMethod, port: u16) -> World {
    World::new(vec![service(Protocol::Sctp, "10.99.0.1:3868", Scheduler::Rr, method, port, &[1])])
}

fn request(port: u16, chunk: u8) -> Vec<u8> {
    Frame::sctp((CLIENT, port), (VIP, 3868), chunk).bytes()
}

fn reply(port: u16, chunk: u8) -> Vec<u8> {
    Frame::sctp((SERVER, 4868), (CLIENT, port), chunk).by_server().bytes()
}

#[test]
fn an_association_by_nat_changes_ports_and_crc_both_ways() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    let out = world.send(CLIENT_SIDE, &request(30_000, INIT));
    assert_eq!(out.verdict.reason, Reason::RequestNat);
    assert_eq!(
        describe(&out.frame),
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.0.2.11 len=40 ttl=63 tos=0x00 DF SCTP 30000>4868 chunk 1 ok"
    );
    let out = world.send(SERVER_SIDE, &reply(30_000, INIT_ACK));
    assert_eq!(out.verdict.reason, Reason::ReplyNat);
    assert_eq!(
        describe(&out.frame),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=40 ttl=63 tos=0x00 DF SCTP 3868>30000 chunk 2 ok"
    );
}

#[test]
fn by_direct_routing_and_tunnel_a_packet_stays_as_it_is() {
    let mut dr = world(ForwardingMethod::Dr, 3868);
    assert_eq!(
        describe(&dr.send(CLIENT_SIDE, &request(30_000, INIT)).frame),
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.99.0.1 len=40 ttl=63 tos=0x00 DF SCTP 30000>3868 chunk 1 ok"
    );
    let mut tunnel = world(ForwardingMethod::Tunnel, 3868);
    assert_eq!(
        describe(&tunnel.send(CLIENT_SIDE, &request(30_000, INIT)).frame),
        "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=60 ttl=63 tos=0x00 DF IPIP {IP 10.0.1.1>10.99.0.1 len=40 \
         ttl=63 tos=0x00 DF SCTP 30000>3868 chunk 1 ok}"
    );
}

#[test]
fn ipv6_is_no_different() {
    for (method, port, out) in [
        (
            ForwardingMethod::Nat,
            4868,
            "IP 2001:db8:1::1>2001:db8:2::11 len=60 ttl=63 tos=0x00 SCTP 30000>4868 chunk 1 ok",
        ),
        (
            ForwardingMethod::Dr,
            3868,
            "IP 2001:db8:1::1>2001:db8:99::1 len=60 ttl=63 tos=0x00 SCTP 30000>3868 chunk 1 ok",
        ),
        (
            ForwardingMethod::Tunnel,
            3868,
            "IPV6 {IP 2001:db8:1::1>2001:db8:99::1 len=60 ttl=63 tos=0x00 SCTP 30000>3868",
        ),
    ] {
        let service = service(Protocol::Sctp, "[2001:db8:99::1]:3868", Scheduler::Rr, method, port, &[1]);
        let mut world = World::new(vec![service]);
        let frame = Frame::sctp((V6[0], 30_000), (V6[1], 3868), INIT);
        let text = describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame);
        assert!(text.contains(out), "{text}");
        if method == ForwardingMethod::Nat {
            let answer = Frame::sctp((V6[2], 4868), (V6[0], 30_000), INIT_ACK).by_server();
            let text = describe(&world.send(SERVER_SIDE, &answer.bytes()).frame);
            assert!(text.contains("IP 2001:db8:99::1>2001:db8:1::1"), "{text}");
            assert!(text.ends_with("SCTP 3868>30000 chunk 2 ok"), "{text}");
            assert_eq!(world.connections()[0].split(' ').next(), Some("C-SENT"));
        }
    }
}

#[test]
fn the_checksum_is_mended_where_the_port_changes_and_left_where_it_does_not() {
    let mut wrong = request(30_000, INIT);
    *wrong.last_mut().unwrap() ^= 1;
    let mut other_port = world(ForwardingMethod::Nat, 4868);
    assert!(describe(&other_port.send(CLIENT_SIDE, &wrong).frame).ends_with("30000>4868 chunk 1 ok"));
    let mut same_port = world(ForwardingMethod::Nat, 3868);
    assert!(describe(&same_port.send(CLIENT_SIDE, &wrong).frame).ends_with("30000>3868 chunk 1 BAD-SUM"));
    assert!(describe(&same_port.send(CLIENT_SIDE, &request(30_001, INIT)).frame).ends_with("chunk 1 ok"));
}

#[test]
fn padding_of_the_frame_is_not_summed_up() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    let mut frame = Frame::sctp((CLIENT, 30_000), (VIP, 3868), INIT);
    frame.padding = 9;
    assert!(describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame).ends_with("chunk 1 ok"));
}

#[test]
fn an_init_opens_an_association_and_the_kernel_answers_the_rest() {
    let mut world = world(ForwardingMethod::Dr, 3868);
    for chunk in (0..=255).filter(|chunk| *chunk != INIT) {
        let out = world.send(CLIENT_SIDE, &request(30_000, chunk));
        assert_eq!((out.verdict.reason, out.verdict.action), (Reason::NoConnection, Action::Punt), "{chunk}");
    }
    assert_eq!(world.connections(), Vec::<String>::new());
    assert_eq!(world.send(CLIENT_SIDE, &request(20, INIT)).verdict.reason, Reason::NoConnection, "port 20");
    assert_eq!(world.send(CLIENT_SIDE, &request(30_000, INIT)).verdict.reason, Reason::RequestDr);
    // Another service than TCP's with the same address and port.
    let tcp = Frame::tcp((CLIENT, 30_000), (VIP, 3868), crate::frames::SYN);
    assert_eq!(world.send(CLIENT_SIDE, &tcp.bytes()).verdict.reason, Reason::NoService);
}

#[test]
fn sloppy_sctp_opens_by_any_packet_but_an_abort() {
    let services =
        || vec![service(Protocol::Sctp, "10.99.0.1:3868", Scheduler::Rr, ForwardingMethod::Dr, 3868, &[1])];
    let mut sloppy = World::new(services());
    sloppy.settings.sloppy_sctp = true;
    sloppy.publish();
    for chunk in 0..=255 {
        let reason = sloppy.send(CLIENT_SIDE, &request(30_000 + u16::from(chunk), chunk)).verdict.reason;
        assert_eq!(reason == Reason::RequestDr, chunk != ABORT, "{chunk}");
    }
    let mut bundled = Frame::sctp((CLIENT, 40_000), (VIP, 3868), COOKIE_ECHO);
    bundled.payload = Payload::Sctp { chunks: vec![COOKIE_ECHO, 0, 0, 6, 1, 2, 0, 0, ABORT, 0, 0, 4] };
    assert_eq!(sloppy.send(CLIENT_SIDE, &bundled.bytes()).verdict.reason, Reason::NoConnection);
}

#[test]
fn states_and_loads_follow_both_ends_by_nat() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    let key = *world.services.keys().next().unwrap();
    let server = "10.0.2.11:4868".parse().unwrap();
    for (from_server, chunk, state, load) in [
        (false, INIT, "INIT1", (0, 1)),
        (true, INIT_ACK, "C-SENT", (0, 1)),
        (false, COOKIE_ECHO, "C-REPLIED", (0, 1)),
        (true, COOKIE_ACK, "ESTABLISHED", (1, 0)),
        (false, DATA, "ESTABLISHED", (1, 0)),
        (true, 3, "ESTABLISHED", (1, 0)),
        (false, SHUTDOWN, "S-RECEIVED", (0, 1)),
        (true, SHUTDOWN_ACK, "S-ACK-SENT", (0, 1)),
        (false, SHUTDOWN_COMPLETE, "CLOSED", (0, 1)),
    ] {
        let (port, frame) = if from_server {
            (SERVER_SIDE, reply(30_000, chunk))
        } else {
            (CLIENT_SIDE, request(30_000, chunk))
        };
        world.send(port, &frame);
        assert_eq!(
            world.connections(),
            [format!("{state} 10.0.1.1:30000 10.99.0.1:3868 10.0.2.11:4868")],
            "after chunk {chunk}"
        );
        assert_eq!(world.load(key, server), load, "after chunk {chunk}");
    }
    // Over: an INIT begins another one, else it would be in INIT.
    world.send(CLIENT_SIDE, &request(30_000, INIT));
    assert_eq!(world.connections(), ["INIT1 10.0.1.1:30000 10.99.0.1:3868 10.0.2.11:4868"]);
    assert_eq!(world.load(key, server), (0, 1));
}

#[test]
fn by_direct_routing_the_client_alone_tells_the_state() {
    let mut world = world(ForwardingMethod::Dr, 3868);
    for (chunk, state) in [(INIT, "INIT1"), (INIT, "INIT"), (COOKIE_ECHO, "ESTABLISHED"), (ABORT, "CLOSED")] {
        world.send(CLIENT_SIDE, &request(30_000, chunk));
        assert!(
            world.connections()[0].starts_with(&format!("{state} ")),
            "{chunk}: {:?}",
            world.connections()
        );
    }
}

#[test]
fn an_association_expires_as_its_state_says() {
    for (chunks, seconds) in [(&[INIT][..], 4), (&[INIT, INIT], 61), (&[INIT, COOKIE_ECHO], 900)] {
        let mut world = world(ForwardingMethod::Dr, 3868);
        chunks.iter().for_each(|chunk| drop(world.send(CLIENT_SIDE, &request(30_000, *chunk))));
        world.now = world.now.after(seconds * 1000 - 1);
        world.expire();
        assert_eq!(world.connections().len(), 1, "{chunks:?}");
        world.now = world.now.after(1);
        assert_eq!(world.send(CLIENT_SIDE, &request(30_000, DATA)).verdict.reason, Reason::NoConnection);
        assert_eq!(world.connections().len(), 0, "{chunks:?}");
    }
}

#[test]
fn what_no_honest_host_sends_is_dropped() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    for chunks in [
        &[][..],
        &[1],
        &[1, 0, 0],
        &[1, 0, 0, 3],
        &[1, 0, 0, 0, 0, 0, 0, 0],
        &[1, 0, 0, 5],
        &[1, 0, 255, 255, 0],
    ] {
        let mut frame = Frame::sctp((CLIENT, 30_000), (VIP, 3868), INIT);
        frame.payload = Payload::Sctp { chunks: chunks.to_vec() };
        assert_eq!(
            world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason,
            Reason::BadSctpHeader,
            "{chunks:?}"
        );
        (frame.source, frame.destination) = (ip(V6[0]), ip(V6[1]));
        assert_eq!(
            world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason,
            Reason::BadSctpHeader,
            "{chunks:?}"
        );
    }
    let mut shortest = Frame::sctp((CLIENT, 30_000), (VIP, 3868), INIT);
    shortest.payload = Payload::Sctp { chunks: vec![INIT, 0, 0, 4] };
    assert_eq!(world.send(CLIENT_SIDE, &shortest.bytes()).verdict.reason, Reason::RequestNat);
}

#[test]
fn without_a_real_server_the_port_is_unreachable() {
    let none = service(Protocol::Sctp, "10.99.0.1:3868", Scheduler::Rr, ForwardingMethod::Nat, 4868, &[0]);
    let mut world = World::new(vec![none]);
    let out = world.send(CLIENT_SIDE, &request(30_000, INIT));
    assert_eq!(out.verdict.reason, Reason::IcmpPortUnreachable);
    assert!(describe(&out.frame).contains("ICMP 3/3"), "{}", describe(&out.frame));
}

#[test]
fn a_real_server_that_answers_where_nobody_asked_is_told_unless_it_aborts() {
    let services =
        vec![service(Protocol::Sctp, "10.99.0.1:3868", Scheduler::Rr, ForwardingMethod::Nat, 4868, &[1])];
    let mut world = World::new(services);
    world.settings.nat_icmp_send = true;
    world.publish();
    assert_eq!(world.send(SERVER_SIDE, &reply(30_000, DATA)).verdict.reason, Reason::IcmpPortUnreachable);
    assert_eq!(world.send(SERVER_SIDE, &reply(30_000, ABORT)).verdict.reason, Reason::NoService);
    assert_eq!(world.send(SERVER_SIDE, &reply(30_000, 4)).verdict.reason, Reason::IcmpPortUnreachable);
}

#[test]
fn errors_about_sctp_find_the_association() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    world.send(CLIENT_SIDE, &request(30_000, INIT));
    let about = quoted(Frame::sctp((VIP, 3868), (CLIENT, 30_000), DATA), 28);
    let out = world.send(CLIENT_SIDE, &error(CLIENT, VIP, (3, 3), 0, &about).bytes());
    assert_eq!(out.verdict.reason, Reason::IcmpRequest);
    let text = describe(&out.frame);
    assert!(text.contains("IP 10.0.1.1>10.0.2.11"), "{text}");
    assert_eq!(out.frame[14 + 20 + 8 + 20..][..4], [0x13, 0x04, 0x75, 0x30], "ports 4868 and 30000");
    let about = quoted(Frame::sctp((CLIENT, 30_000), (SERVER, 4868), DATA), 28);
    let out = world.send(SERVER_SIDE, &error(SERVER, CLIENT, (3, 2), 0, &about).by_server().bytes());
    assert_eq!(out.verdict.reason, Reason::IcmpReply);
    assert_eq!(out.frame[14 + 20 + 8 + 20..][..4], [0x75, 0x30, 0x0f, 0x1c], "ports 30000 and 3868");
}

#[test]
fn persistence_holds_for_sctp() {
    let mut kept = service(Protocol::Sctp, "10.99.0.1:0", Scheduler::Rr, ForwardingMethod::Dr, 0, &[1, 1]);
    kept.persistence = Some(Persistence::of_clients(std::time::Duration::from_secs(60), 32));
    let mut world = World::new(vec![kept]);
    for port in 30_000..30_010 {
        world.send(CLIENT_SIDE, &request(port, INIT));
    }
    let connections = world.connections();
    assert_eq!(connections.len(), 10);
    let server = |row: &String| row.split(' ').nth(3).unwrap().to_owned();
    assert!(connections.iter().all(|row| server(row) == server(&connections[0])), "{connections:?}");
}

#[test]
fn every_lcore_finds_the_association() {
    let services =
        vec![service(Protocol::Sctp, "10.99.0.1:3868", Scheduler::Rr, ForwardingMethod::Nat, 4868, &[1])];
    let mut world = World::shaped(services, Shape { lcores: 3, ..Shape::default() });
    for port in 30_000..30_030 {
        for lcore in 0..3 {
            let chunk = if lcore == 0 { INIT } else { DATA };
            let out = world.send_spread(lcore, CLIENT_SIDE, &request(port, chunk));
            assert_eq!(out.verdict.reason, Reason::RequestNat);
            let out = world.send_spread(lcore, SERVER_SIDE, &reply(port, INIT_ACK));
            assert_eq!(out.verdict.reason, Reason::ReplyNat);
        }
    }
    assert_eq!(world.connections().len(), 30);
}

#[test]
fn a_departed_real_server_drops_what_cannot_open_another_association() {
    let mut world = world(ForwardingMethod::Nat, 4868);
    world.send(CLIENT_SIDE, &request(30_000, INIT));
    let key = *world.services.keys().next().unwrap();
    world.edit(key, |service| {
        service.servers = vec![servers(V4_SERVERS, 4868, ForwardingMethod::Nat, &[1, 1])[1]];
    });
    assert_eq!(world.send(CLIENT_SIDE, &request(30_000, DATA)).verdict.reason, Reason::ServerRemoved);
    assert_eq!(world.send(CLIENT_SIDE, &request(30_000, INIT)).verdict.reason, Reason::RequestNat);
    assert_eq!(world.connections(), ["INIT1 10.0.1.1:30000 10.99.0.1:3868 10.0.2.12:4868"]);
}

#[test]
fn fragments_go_where_the_association_goes_but_not_by_nat() {
    let long = |source, destination, chunk: u8| {
        let mut frame = Frame::sctp((source, 30_000), (destination, 3868), chunk);
        frame.payload = Payload::Sctp { chunks: [&[chunk, 0, 0, 100][..], &[7; 96]].concat() };
        frame.bytes()
    };
    let cases = [
        ("10.99.0.1:3868", CLIENT, VIP, ForwardingMethod::Dr, 3868, Reason::RequestDr),
        ("10.99.0.1:3868", CLIENT, VIP, ForwardingMethod::Tunnel, 3868, Reason::RequestTunnel),
        ("10.99.0.1:3868", CLIENT, VIP, ForwardingMethod::Nat, 4868, Reason::FragmentOfSctp),
        ("[2001:db8:99::1]:3868", V6[0], V6[1], ForwardingMethod::Dr, 3868, Reason::RequestDr),
        ("[2001:db8:99::1]:3868", V6[0], V6[1], ForwardingMethod::Nat, 4868, Reason::FragmentOfSctp),
    ];
    for (at, client, vip, method, port, reason) in cases {
        for is_known in [true, false] {
            let services = vec![service(Protocol::Sctp, at, Scheduler::Rr, method, port, &[1])];
            let mut world = World::shaped(services, Shape { lcores: 2, ..Shape::default() });
            if is_known {
                world.send_spread(0, CLIENT_SIDE, &Frame::sctp((client, 30_000), (vip, 3868), INIT).bytes());
            }
            let chunk = if is_known { COOKIE_ECHO } else { INIT };
            let mut reasons = Vec::new();
            for piece in cut(&long(client, vip, chunk), &[3, 9], 77).iter().rev() {
                reasons.extend(world.send_all(1, CLIENT_SIDE, piece).iter().map(|out| out.verdict.reason));
            }
            if method == ForwardingMethod::Nat && !is_known {
                assert_eq!(reasons[0], Reason::FragmentOfSctp);
                assert_eq!(world.connections(), Vec::<String>::new());
                continue;
            }
            assert_eq!(reasons, [reason; 3], "{at} {method:?} {is_known}");
            let state = world.connections()[0].split(' ').next().unwrap().to_owned();
            let expected = match (method, is_known) {
                // What is lost changes nothing.
                (ForwardingMethod::Nat, _) | (_, false) => "INIT1",
                _ => "ESTABLISHED",
            };
            assert_eq!(state, expected, "{at} {method:?} {is_known}");
        }
    }
}

proptest! {
    /// Whatever is in a packet and wherever it comes from, nothing panics, and what leaves by NAT is summed up right.
    #[test]
    fn any_chunks_by_any_way(
        packets in proptest::collection::vec(
            (any::<bool>(), 0u16..4, 0u8..16, proptest::collection::vec(any::<u8>(), 0..40), any::<bool>()),
            1..40,
        ),
        is_v6: bool,
    ) {
        let at = if is_v6 { "[2001:db8:99::1]:3868" } else { "10.99.0.1:3868" };
        let [client, vip, server] = if is_v6 { V6 } else { [CLIENT, VIP, SERVER] };
        let services = vec![service(Protocol::Sctp, at, Scheduler::Rr, ForwardingMethod::Nat, 4868, &[1])];
        let mut world = World::new(services);
        for (is_reply, port, chunk, rest, is_sound) in packets {
            let port = 30_000 + port;
            let mut frame = if is_reply {
                Frame::sctp((server, 4868), (client, port), chunk).by_server()
            } else {
                Frame::sctp((client, port), (vip, 3868), chunk)
            };
            if is_sound {
                let len = (4 + rest.len() as u16).to_be_bytes();
                frame.payload = Payload::Sctp { chunks: [&[chunk, 0, len[0], len[1]][..], &rest].concat() };
            } else {
                frame.payload = Payload::Sctp { chunks: rest };
            }
            let out = world.send(if is_reply { SERVER_SIDE } else { CLIENT_SIDE }, &frame.bytes());
            if let Action::Forward(_) = out.verdict.action {
                prop_assert!(describe(&out.frame).ends_with(" ok"), "{}", describe(&out.frame));
            }
        }
        prop_assert!(world.connections().len() <= 4);
    }
}
