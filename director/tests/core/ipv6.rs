//! IPv6 everywhere that IPv4 is, and tunnels from either to the other.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::id::PortId;
use director::pipeline::{Action, Arrival};
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, Payload, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, V4_SERVERS, V6_SERVERS, World, servers, service};

const VIP: &str = "2001:db8:99::1";
const CLIENT: &str = "2001:db8:1::1";
const SERVER: &str = "2001:db8:2::11";

fn world(method: ForwardingMethod, server_ports: [u16; 2]) -> World {
    World::new(vec![
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, method, server_ports[0], &[1]),
        service(Protocol::Udp, "[2001:db8:99::1]:53", Scheduler::Rr, method, server_ports[1], &[1]),
    ])
}

fn nat() -> World {
    world(ForwardingMethod::Nat, [8080, 5353])
}

fn request(port: u16, flags: u8) -> Frame {
    Frame { tos: 0xb9, ..Frame::tcp((CLIENT, port), (VIP, 80), flags) }
}

fn reply(port: u16, flags: u8) -> Frame {
    Frame::tcp((SERVER, 8080), (CLIENT, port), flags).by_server()
}

#[test]
fn a_tcp_connection_by_nat_from_handshake_to_time_wait() {
    let mut world = nat();
    let to_server = |flags| {
        format!(
            "to 02:00:00:00:01:0b IP {CLIENT}>{SERVER} len=60 ttl=63 tos=0xb9 TCP 20001>8080 [{flags}] ok"
        )
    };
    let to_client = |flags| {
        format!("to 02:00:00:00:00:c0 IP {VIP}>{CLIENT} len=60 ttl=63 tos=0x00 TCP 80>20001 [{flags}] ok")
    };
    let is = |world: &World, state| {
        assert_eq!(world.connections(), [format!("{state} [{CLIENT}]:20001 [{VIP}]:80 [{SERVER}]:8080")]);
    };
    let asked =
        |world: &mut World, flags| describe(&world.send(CLIENT_SIDE, &request(20001, flags).bytes()).frame);
    let answered =
        |world: &mut World, flags| describe(&world.send(SERVER_SIDE, &reply(20001, flags).bytes()).frame);
    assert_eq!(asked(&mut world, SYN), to_server("S"));
    is(&world, "SYN_RECV");
    assert_eq!(answered(&mut world, SYN | ACK), to_client("SA"));
    assert_eq!(asked(&mut world, ACK), to_server("A"));
    is(&world, "ESTABLISHED");
    assert_eq!(answered(&mut world, FIN | ACK), to_client("FA"));
    is(&world, "FIN_WAIT");
    assert_eq!(asked(&mut world, FIN | ACK), to_server("FA"));
    is(&world, "TIME_WAIT");
    world.wait(120_000);
    world.expire();
    assert!(world.connections().is_empty());
}

#[test]
fn udp_with_a_checksum_and_without() {
    let mut world = nat();
    let arrives =
        format!("to 02:00:00:00:01:0b IP {CLIENT}>{SERVER} len=56 ttl=63 tos=0x00 UDP 20003>5353 len=16 ok");
    for checksum in [true, false] {
        let mut datagram = Frame::udp((CLIENT, 20003), (VIP, 53), b"question");
        datagram.payload = Payload::Udp { data: b"question".to_vec(), checksum };
        assert_eq!(describe(&world.send(CLIENT_SIDE, &datagram.bytes()).frame), arrives);
    }
    let answer = Frame::udp((SERVER, 5353), (CLIENT, 20003), b"answer!!").by_server();
    assert_eq!(
        describe(&world.send(SERVER_SIDE, &answer.bytes()).frame),
        format!("to 02:00:00:00:00:c0 IP {VIP}>{CLIENT} len=56 ttl=63 tos=0x00 UDP 53>20003 len=16 ok")
    );
}

#[test]
fn direct_routing_changes_the_next_hop_and_the_hop_limit_alone() {
    let mut world = world(ForwardingMethod::Dr, [80, 53]);
    let sent = request(20001, SYN).bytes();
    let got = world.send(CLIENT_SIDE, &sent);
    assert_eq!(got.verdict.reason, Reason::RequestDr);
    assert_eq!(
        describe(&got.frame),
        format!("to 02:00:00:00:01:0b IP {CLIENT}>{VIP} len=60 ttl=63 tos=0xb9 TCP 20001>80 [S] ok")
    );
    assert_eq!((&got.frame[14..21], &got.frame[22..]), (&sent[14..21], &sent[22..]));
}

#[test]
fn extension_headers_travel_along() {
    let mut world = nat();
    let mut frame = request(20001, SYN);
    // Hop by hop, then destination options: padding in both.
    frame.extensions = vec![(0, vec![0, 0, 1, 4, 0, 0, 0, 0]), (60, vec![0, 0, 1, 4, 0, 0, 0, 0])];
    assert_eq!(
        describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame),
        format!("to 02:00:00:00:01:0b IP {CLIENT}>{SERVER} len=76 ttl=63 tos=0xb9 TCP 20001>8080 [S] ok")
    );
}

#[test]
fn padding_and_counters_go_by_the_ip_header() {
    let mut world = nat();
    let mut frame = Frame::udp((CLIENT, 20003), (VIP, 53), b"abc");
    frame.padding = 15;
    assert!(describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame).ends_with("len=11 ok"));
    let key = *world.services.keys().last().unwrap();
    let server = world.compiler.server_id(key, format!("[{SERVER}]:5353").parse().unwrap()).unwrap();
    assert_eq!(world.compiler.server_totals(server).bytes_in, 51);
}

/// A service of one version of IP with a real server of the other or the same, by tunnel.
fn tunnel(address: &str, network: &str) -> World {
    let mut web = service(Protocol::Tcp, address, Scheduler::Rr, ForwardingMethod::Tunnel, 80, &[]);
    web.servers = servers(network, 80, ForwardingMethod::Tunnel, &[1]);
    World::new(vec![web])
}

#[test]
fn six_in_six() {
    let mut world = tunnel("[2001:db8:99::1]:80", V6_SERVERS);
    assert_eq!(
        describe(&world.send(CLIENT_SIDE, &request(20001, SYN).bytes()).frame),
        format!(
            "to 02:00:00:00:01:0b IP 2001:db8:2::fe>{SERVER} len=100 ttl=63 tos=0xb9 \
             IPV6 {{IP {CLIENT}>{VIP} len=60 ttl=63 tos=0xb9 TCP 20001>80 [S] ok}}"
        )
    );
}

#[test]
fn six_in_four() {
    let mut world = tunnel("[2001:db8:99::1]:80", V4_SERVERS);
    let outcome = world.send(CLIENT_SIDE, &request(20001, SYN).bytes());
    assert_eq!(
        describe(&outcome.frame),
        format!(
            "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=80 ttl=63 tos=0xb9 df0 \
             IPV6 {{IP {CLIENT}>{VIP} len=60 ttl=63 tos=0xb9 TCP 20001>80 [S] ok}}"
        )
    );
    assert_eq!(outcome.frame[12..14], [8, 0]);
    // Its state goes on by later packets.
    world.send(CLIENT_SIDE, &request(20001, ACK).bytes());
    assert_eq!(world.connections(), [format!("ESTABLISHED [{CLIENT}]:20001 [{VIP}]:80 [::]:80")]);
}

#[test]
fn four_in_six() {
    let mut world = tunnel("10.99.0.1:80", V6_SERVERS);
    let mut frame = Frame::tcp(("10.0.1.1", 20001), ("10.99.0.1", 80), SYN);
    frame.tos = 0x03;
    assert_eq!(
        describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame),
        format!(
            "to 02:00:00:00:01:0b IP 2001:db8:2::fe>{SERVER} len=80 ttl=63 tos=0x02 \
             IPIP {{IP 10.0.1.1>10.99.0.1 len=40 ttl=63 tos=0x03 DF TCP 20001>80 [S] ok}}"
        )
    );
}

#[test]
fn hop_limit_length_and_no_real_server_are_answered_by_icmpv6() {
    let mut world = nat();
    let mut old = request(20001, SYN);
    old.ttl = 1;
    let outcome = world.send(CLIENT_SIDE, &old.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpTimeExceeded);
    assert_eq!(
        describe(&outcome.frame),
        format!(
            "to 02:00:00:00:00:c0 IP {VIP}>{CLIENT} len=108 ttl=64 tos=0x00 ICMPV6 3/0 mtu=0 ok \
             quoted 60B {{IP {CLIENT}>{VIP} len=60 ttl=1 tos=0xb9 TCP 20001>80 [S] ok}}"
        )
    );
    let mut world = tunnel("[2001:db8:99::1]:80", V6_SERVERS);
    let mut long = request(20001, SYN);
    long.payload = Payload::Tcp { flags: SYN, data: vec![7; 1461 - 60] };
    let outcome = world.send(CLIENT_SIDE, &long.bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpTooBig);
    let text = describe(&outcome.frame);
    assert!(
        text.contains("len=1280 ttl=64 tos=0x00 ICMPV6 2/0 mtu=1460 ok quoted 1232B"),
        "1500 less a header of 40: {text}"
    );
    long.payload = Payload::Tcp { flags: SYN, data: vec![7; 1460 - 60] };
    assert_eq!(world.send(CLIENT_SIDE, &long.bytes()).verdict.reason, Reason::RequestTunnel);

    let mut world = World::new(vec![service(
        Protocol::Tcp,
        "[2001:db8:99::1]:80",
        Scheduler::Rr,
        ForwardingMethod::Nat,
        80,
        &[0],
    )]);
    let outcome = world.send(CLIENT_SIDE, &request(20001, SYN).bytes());
    assert_eq!(outcome.verdict.reason, Reason::IcmpPortUnreachable);
    assert!(describe(&outcome.frame).contains("ICMPV6 1/4 mtu=0 ok"), "{}", describe(&outcome.frame));
}

#[test]
fn what_is_no_packet_of_a_service_is_the_kernels() {
    let mut world = nat();
    let no_service = Frame::tcp((CLIENT, 1), (VIP, 81), SYN);
    let no_connection = request(20001, ACK);
    let echo = Frame {
        payload: Payload::Raw { protocol: 58, data: vec![128, 0, 0, 0, 0, 1, 0, 1] },
        ..request(0, 0)
    };
    let neighbour = Frame { to: director::nexthop::MacAddr([0x33, 0x33, 0xff, 0, 0, 1]), ..echo.clone() };
    // Wants to visit another router first.
    let routed = Frame { extensions: vec![(43, vec![0, 0, 4, 1, 0, 0, 0, 0])], ..request(20002, SYN) };
    for (frame, reason) in [
        (no_service, Reason::NoService),
        (no_connection, Reason::NoConnection),
        (echo, Reason::OtherProtocol),
        (neighbour, Reason::Group),
        (routed, Reason::OtherProtocol),
    ] {
        let sent = frame.bytes();
        let outcome = world.send(CLIENT_SIDE, &sent);
        assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, reason));
        assert_eq!(outcome.frame, sent);
    }
}

#[test]
fn each_kind_of_lie_has_its_name() {
    let mut world = nat();
    let frame = request(20001, SYN).bytes();
    let with = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        frame
    };
    for (frame, reason) in [
        (frame[..53].to_vec(), Reason::BadIpv6Header),
        (with(14, 0x45), Reason::BadIpv6Header),
        (with(18, 0xff), Reason::BadIpv6Header),
        (with(20, 0), Reason::BadIpv6Header),
        (with(19, 19), Reason::BadTcpHeader),
        (with(20, 17), Reason::BadUdpHeader),
    ] {
        assert_eq!(world.send(CLIENT_SIDE, &frame).verdict.reason, reason);
    }
}

#[test]
fn both_versions_in_one_burst_keep_their_order() {
    use director::packet::{BytesPacket, PacketBuf};
    use director::pipeline::{MAX_BURST, Verdict};
    let mut world = World::new(vec![
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1]),
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1]),
    ]);
    let frame = |n: u16| {
        if n.is_multiple_of(3) {
            request(20_000 + n, SYN).bytes()
        } else {
            Frame::tcp(("10.0.1.1", 20_000 + n), ("10.99.0.1", 80), SYN).bytes()
        }
    };
    let mut packets: Vec<_> = (0..MAX_BURST as u16).map(|n| BytesPacket::new(&frame(n))).collect();
    let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
    world.pipelines[0].process(
        &world.snapshot,
        world.now,
        Arrival::Port(CLIENT_SIDE),
        &mut packets,
        &mut verdicts,
    );
    for (n, (packet, verdict)) in packets.iter().zip(verdicts).enumerate() {
        assert_eq!(verdict.reason, Reason::RequestDr);
        assert!(describe(packet.bytes()).contains(&format!("{}>80 [S] ok", 20_000 + n)));
    }
    let of_ipv6 = MAX_BURST.div_ceil(3);
    assert_eq!(world.pipelines[0].tables().ipv6().len(), of_ipv6);
    assert_eq!(world.pipelines[0].tables().ipv4().len(), MAX_BURST - of_ipv6);
}

#[test]
fn replies_find_the_lcore_that_the_client_names() {
    let web = service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]);
    let mut world = World::shaped(vec![web], Shape { lcores: 3, ..Shape::default() });
    for port in (20_000..40_000).step_by(331) {
        let asked = world.send_spread(usize::from(port) % 3, CLIENT_SIDE, &request(port, SYN).bytes());
        assert_eq!(asked.verdict.reason, Reason::RequestNat);
        let answered =
            world.send_spread(usize::from(port + 1) % 3, SERVER_SIDE, &reply(port, SYN | ACK).bytes());
        assert_eq!(answered.verdict.action, Action::Forward(PortId(0)));
    }
    assert!(world.pipelines.iter().all(|pipeline| pipeline.tables().ipv6().len() > 5));
}

#[test]
fn connections_of_a_deleted_service_are_still_found_by_every_lcore() {
    let web = service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]);
    let key = web.key;
    let mut world = World::shaped(vec![web], Shape { lcores: 3, ..Shape::default() });
    for port in 20_000..20_010 {
        world.send_spread(0, CLIENT_SIDE, &request(port, SYN).bytes());
        world.send_spread(0, CLIENT_SIDE, &request(port, ACK).bytes());
    }
    world.services.remove(&key);
    world.publish();
    for port in 20_000..20_010 {
        for lcore in 0..3 {
            let answered = world.send_spread(lcore, SERVER_SIDE, &reply(port, ACK).bytes());
            assert_eq!(answered.verdict.reason, Reason::ReplyNat);
            let asked = world.send_spread(lcore, CLIENT_SIDE, &request(port, ACK).bytes());
            assert_eq!(asked.verdict.reason, Reason::ServerRemoved);
        }
    }
}
