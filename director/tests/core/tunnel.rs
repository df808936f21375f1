//! IP in IP: the outer header as a real kernel's IPVS writes it.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{Frame, Payload, SYN, describe, ones_complement};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, V4_SERVERS, V6_SERVERS, World, servers, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn dns() -> World {
    World::new(vec![
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Tunnel, 53, &[1]),
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Tunnel, 80, &[1]),
    ])
}

#[test]
fn ttl_tos_and_df_are_the_inner_ones_and_ecn_as_in_rfc_3168() {
    let mut world = dns();
    for (tos, outer_tos) in [(0x00, 0x00), (0x10, 0x10), (0x03, 0x02), (0xb9, 0xb9)] {
        for (df, id_is_zero) in [(0, false), (0x4000, true)] {
            let mut frame = Frame::udp((CLIENT, 20053), (VIP, 53), b"question");
            (frame.ttl, frame.tos, frame.id, frame.flags_and_offset) = (57, tos, 0xabcd, df);
            let outcome = world.send(CLIENT_SIDE, &frame.bytes());
            let d = if df == 0 { "df0" } else { "DF" };
            assert_eq!(
                describe(&outcome.frame),
                format!(
                    "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=56 ttl=56 tos={outer_tos:#04x} {d} IPIP {{IP \
                     10.0.1.1>10.99.0.1 len=36 ttl=56 tos={tos:#04x} {d} UDP 20053>53 len=16 ok}}"
                )
            );
            assert_eq!(
                outcome.frame[18..20] == [0, 0],
                id_is_zero,
                "identified only where it may be fragmented"
            );
        }
    }
}

#[test]
fn padding_stays_outside() {
    let mut world = dns();
    let mut frame = Frame::tcp((CLIENT, 20001), (VIP, 80), SYN);
    frame.padding = 6;
    let out = world.send(CLIENT_SIDE, &frame.bytes()).frame;
    assert_eq!(out.len(), 14 + 20 + 40);
    assert!(describe(&out).contains("len=60 ttl=63"), "{}", describe(&out));
}

#[test]
fn the_outer_header_counts_for_the_mtu() {
    let mut world = dns();
    let frame = |len: usize, df| {
        let mut frame = Frame::udp((CLIENT, 20063), (VIP, 53), &vec![1; len - 28]);
        frame.flags_and_offset = df;
        frame.bytes()
    };
    assert!(describe(&world.send(CLIENT_SIDE, &frame(1480, 0x4000)).frame).contains("len=1500"));
    let outcome = world.send(CLIENT_SIDE, &frame(1481, 0x4000));
    assert!(
        describe(&outcome.frame).starts_with(
            "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=576 ttl=64 tos=0xc0 df0 ICMP 3/4 mtu=1480 quoted 548B \
             {IP 10.0.1.1>10.99.0.1 len=1481 ttl=63"
        ),
        "{}",
        describe(&outcome.frame)
    );
}

#[test]
fn a_frame_without_room_in_front_is_lost_by_name() {
    use director::packet::BytesPacket;
    use director::pipeline::{Arrival, MAX_BURST, Verdict};
    let mut world = dns();
    let mut frame = Frame::udp((CLIENT, 20053), (VIP, 53), b"question");
    frame.payload = Payload::Udp { data: vec![0; 100], checksum: true };
    let mut packets = [BytesPacket::with_headroom(&frame.bytes(), 19)];
    let mut verdicts = [Verdict::UNDECIDED; MAX_BURST];
    world.pipelines[0].process(
        &world.snapshot,
        world.now,
        Arrival::Port(CLIENT_SIDE),
        &mut packets,
        &mut verdicts,
    );
    assert_eq!(verdicts[0].reason, Reason::NoHeadroom);
}

fn by(tunnel: &str) -> World {
    let mut world = dns();
    for service in world.services.values_mut() {
        std::sync::Arc::make_mut(service).servers[0].tunnel = tunnel.parse().unwrap();
    }
    world.publish();
    world
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn question(port: u16) -> Frame {
    let mut frame = Frame::udp((CLIENT, port), (VIP, 53), b"question");
    frame.flags_and_offset = 0x4000;
    frame
}

/// What a kernel's IPVS sent of the same packets, but for the source port of UDP.
#[test]
fn gre_and_gue_are_those_of_a_kernel() {
    let out = by("gre").send(CLIENT_SIDE, &question(20071).bytes()).frame;
    assert_eq!(
        hex(&out[14..62]),
        "4500003c000040003f2f228b0a0002fe0a00020b0000080045000024123440003f1114310a0001010a6300014e670035"
    );
    let out = by("gue:6080").send(CLIENT_SIDE, &question(20072).bytes()).frame;
    let port = u16::from_be_bytes([out[34], out[35]]);
    assert!(port >= 0xc000);
    assert_eq!(hex(&out[14..34]), "45000044000040003f1122a10a0002fe0a00020b");
    assert_eq!(hex(&out[36..62]), "17c0003000000004000045000024123440003f1114310a000101");
    assert_eq!(out.len(), 14 + 68);
}

#[test]
fn gre_with_checksum_sums_up() {
    let out = by("gre:csum").send(CLIENT_SIDE, &question(20074).bytes()).frame;
    assert_eq!(hex(&out[14..34]), "45000040000040003f2f22870a0002fe0a00020b");
    assert_eq!((hex(&out[34..38]), hex(&out[40..42])), ("80000800".to_owned(), "0000".to_owned()));
    assert_eq!(ones_complement(&out[34..], 0), 0xffff);
    assert_eq!(hex(&out[42..62]), "45000024123440003f1114310a0001010a630001");
}

#[test]
fn gue_with_checksum_sums_up() {
    for tunnel in ["gue:6080:csum", "gue:6080:remcsum"] {
        let out = by(tunnel).send(CLIENT_SIDE, &question(20073).bytes()).frame;
        let words = describe(&out);
        assert!(words.ends_with(">6080 len=48 ok"), "{words}");
        assert_eq!(hex(&out[42..46]), "00040000", "no option");
    }
}

#[test]
fn the_source_port_of_gue_is_a_connections_own() {
    let mut world = by("gue:6080");
    let mut port_of = |client_port| {
        let out = world.send(CLIENT_SIDE, &question(client_port).bytes()).frame;
        u16::from_be_bytes([out[34], out[35]])
    };
    let ports: std::collections::HashSet<_> = (20_000..20_100).map(&mut port_of).collect();
    assert!(ports.len() > 90, "{}", ports.len());
    assert_eq!(port_of(20_000), port_of(20_000));
}

#[test]
fn the_headers_of_gre_and_gue_count_for_the_mtu() {
    for (tunnel, overhead) in [("gre", 24), ("gre:csum", 28), ("gue:6080", 32)] {
        let mut world = by(tunnel);
        let mut frame = question(20063);
        let data = |len: usize| Payload::Udp { data: vec![1; len - 28], checksum: true };
        frame.payload = data(1500 - overhead);
        assert!(describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame).contains("len=1500"));
        frame.payload = data(1501 - overhead);
        let words = describe(&world.send(CLIENT_SIDE, &frame.bytes()).frame);
        assert!(words.contains(&format!("ICMP 3/4 mtu={} quoted", 1500 - overhead)), "{words}");
        frame.flags_and_offset = 0;
        assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).leaving().len(), 2);
    }
}

#[test]
fn each_version_of_ip_goes_in_each_by_gre_and_gue() {
    let address = |v6| if v6 { "[2001:db8:99::1]:53" } else { "10.99.0.1:53" };
    for (inner_v6, outer_v6) in [(false, true), (true, false), (true, true)] {
        for tunnel in ["gre:csum", "gue:6080:csum"] {
            let mut dns =
                service(Protocol::Udp, address(inner_v6), Scheduler::Rr, ForwardingMethod::Tunnel, 53, &[]);
            let network = if outer_v6 { V6_SERVERS } else { V4_SERVERS };
            dns.servers = servers(network, 53, ForwardingMethod::Tunnel, &[1]);
            dns.servers[0].tunnel = tunnel.parse().unwrap();
            let mut world = World::new(vec![dns]);
            let frame = if inner_v6 {
                Frame::udp(("2001:db8:1::1", 20001), ("2001:db8:99::1", 53), b"question")
            } else {
                question(20001)
            };
            let out = world.send(CLIENT_SIDE, &frame.bytes()).frame;
            let outer_len = if outer_v6 { 40 } else { 20 };
            let (shim_len, kind) = if tunnel.starts_with("gre") {
                assert_eq!(ones_complement(&out[14 + outer_len..], 0), 0xffff);
                (8, u16::from_be_bytes([out[16 + outer_len], out[17 + outer_len]]))
            } else {
                assert!(describe(&out).ends_with(" ok"), "{}", describe(&out));
                (12, if out[14 + outer_len + 9] == 41 { 0x86dd } else { 0x0800 })
            };
            let kind = kind.to_be_bytes();
            let inner = describe(&[&[0; 12][..], &kind, &out[14 + outer_len + shim_len..]].concat());
            assert!(inner.ends_with("UDP 20001>53 len=16 ok"), "{inner}");
        }
    }
}

#[test]
fn errors_about_gre_and_gue_become_errors_for_the_client() {
    for (tunnel, overhead) in [("gre", 24), ("gre:csum", 28), ("gue:6080", 32)] {
        let mut world = by(tunnel);
        let outer = world.send(CLIENT_SIDE, &question(20070).bytes()).frame;
        let about = &outer[14..];
        let mut at = |about: &[u8]| {
            let error = crate::icmp::error("10.0.2.77", "10.0.2.254", (3, 4), 1300, about);
            world.send(SERVER_SIDE, &error.by_server().bytes())
        };
        let outcome = at(about);
        assert_eq!(outcome.verdict.reason, Reason::IcmpTunnel, "{tunnel}");
        assert_eq!(
            describe(&outcome.frame),
            format!(
                "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=64 ttl=64 tos=0xc0 df0 ICMP 3/4 mtu={} quoted 36B \
                 {{IP 10.0.1.1>10.99.0.1 len=36 ttl=63 tos=0x00 DF UDP 20070>53 len=16 ok}}",
                1300 - overhead
            )
        );
        // Of another real server's; too little of it.
        let mut elsewhere = about.to_vec();
        elsewhere[19] = 12;
        assert_eq!(at(&elsewhere).verdict.action, Action::Punt);
        assert_eq!(at(&about[..40]).verdict.action, Action::Punt);
    }
}

#[test]
fn another_tunnel_is_for_all_packets_from_then_on() {
    let mut world = by("ipip");
    assert!(describe(&world.send(CLIENT_SIDE, &question(20_000).bytes()).frame).contains("IPIP"));
    let keys: Vec<_> = world.services.keys().copied().collect();
    for key in keys {
        world.edit(key, |service| service.servers[0].tunnel = "gre".parse().unwrap());
    }
    let out = world.send(CLIENT_SIDE, &question(20_000).bytes()).frame;
    assert_eq!(out[23], 47);
    assert_eq!(world.connections().len(), 1);
}

#[test]
fn the_segment_size_of_a_syn_is_lowered_where_it_is_asked_for() {
    for (tunnel, most) in [("ipip", 1440), ("gue:6080", 1428)] {
        let mut world = by(tunnel);
        let mut frame = Frame::tcp((CLIENT, 20001), (VIP, 80), SYN);
        let mut announced = |world: &mut World| {
            frame.source_port += 1;
            let mut bytes = frame.bytes();
            // The header ends four bytes later, with the option.
            bytes[46] = 0x60;
            bytes[16..18].copy_from_slice(&44u16.to_be_bytes());
            bytes.extend([2, 4, 0x05, 0xb4]);
            bytes[24..26].fill(0);
            let sum = !ones_complement(&bytes[14..34], 0);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            let out = world.send(CLIENT_SIDE, &bytes).frame;
            u16::from_be_bytes([out[out.len() - 2], out[out.len() - 1]])
        };
        assert_eq!(announced(&mut world), 1460);
        world.settings.mss_clamp = true;
        world.publish();
        assert_eq!(announced(&mut world), most);
    }
}
