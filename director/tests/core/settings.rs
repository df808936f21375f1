//! The settings that IPVS has as sysctls: what each one changes.

use control::model::{ForwardingMethod, Protocol, Scheduler, Settings, Weight};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, PSH, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, Outcome, SERVER_SIDE, Shape, World, server_mac, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";

fn world(method: ForwardingMethod, settings: Settings) -> World {
    let mut world = World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, method, 80, &[1, 1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, method, 53, &[1, 1]),
    ]);
    world.settings = settings;
    world.publish();
    world
}

fn tcp(world: &mut World, port: u16, flags: u8) -> Outcome {
    world.send(CLIENT_SIDE, &Frame::tcp((CLIENT, port), (VIP, 80), flags).bytes())
}

fn server_of(outcome: &Outcome) -> u8 {
    assert_eq!(outcome.verdict.reason, Reason::RequestDr);
    outcome.frame[5] - server_mac(0).0[5]
}

fn state(world: &World, port: u16) -> String {
    let of_port = |row: &&String| row.contains(&format!(":{port} "));
    world
        .connections()
        .iter()
        .find(of_port)
        .map_or(String::new(), |row| row.split(' ').next().unwrap().into())
}

#[test]
fn sloppy_tcp_opens_by_any_segment_but_a_reset() {
    let mut strict = world(ForwardingMethod::Dr, Settings::default());
    assert_eq!(tcp(&mut strict, 20_012, ACK).verdict.reason, Reason::NoConnection);
    let mut sloppy = world(ForwardingMethod::Dr, Settings { sloppy_tcp: true, ..Settings::default() });
    for (port, flags, then) in
        [(20_012, ACK, "ESTABLISHED"), (20_013, SYN | ACK, "SYN_RECV"), (20_014, FIN | ACK, "CLOSE")]
    {
        assert_eq!(tcp(&mut sloppy, port, flags).verdict.reason, Reason::RequestDr);
        assert_eq!(state(&sloppy, port), then);
    }
    assert_eq!(tcp(&mut sloppy, 20_015, RST).verdict.action, Action::Punt);
}

#[test]
fn conn_reuse_mode_says_when_a_syn_is_a_new_connection() {
    let ends: [(&[u8], &str); 3] =
        [(&[SYN, ACK, RST], "CLOSE"), (&[SYN, ACK, FIN | ACK], "FIN_WAIT"), (&[SYN, ACK], "ESTABLISHED")];
    for (mode, moves) in [(0, [false; 3]), (1, [true, false, false]), (3, [true, true, false])] {
        let mut world =
            world(ForwardingMethod::Dr, Settings { conn_reuse_mode: mode, ..Settings::default() });
        for (n, ((segments, last), moves)) in ends.into_iter().zip(moves).enumerate() {
            let port = 20_000 + n as u16;
            let first = server_of(&tcp(&mut world, port, segments[0]));
            for flags in &segments[1..] {
                tcp(&mut world, port, *flags);
            }
            assert_eq!(state(&world, port), last);
            assert_eq!(server_of(&tcp(&mut world, port, SYN)) != first, moves, "mode {mode} in {last}");
        }
    }
}

#[test]
fn conn_reuse_mode_1_takes_time_wait_for_over() {
    let mut world = world(ForwardingMethod::Nat, Settings::default());
    tcp(&mut world, 20_000, SYN);
    for (by_server, flags) in [(true, SYN | ACK), (false, ACK), (true, FIN | ACK), (false, FIN | ACK)] {
        if by_server {
            let frame = Frame::tcp(("10.0.2.12", 80), (CLIENT, 20_000), flags).by_server();
            world.send(SERVER_SIDE, &frame.bytes());
        } else {
            tcp(&mut world, 20_000, flags);
        }
    }
    assert_eq!(state(&world, 20_000), "TIME_WAIT");
    assert!(describe(&tcp(&mut world, 20_000, SYN).frame).contains(">10.0.2.11 "));
}

#[test]
fn expire_nodest_conn_lets_connections_of_a_removed_real_server_begin_anew() {
    for expires in [false, true] {
        let settings = Settings { expire_nodest_conn: expires, ..Settings::default() };
        let mut world = world(ForwardingMethod::Dr, settings);
        let first = server_of(&tcp(&mut world, 20_000, SYN));
        tcp(&mut world, 20_000, ACK);
        let key = *world.services.keys().next().unwrap();
        world.edit(key, |service| {
            service.servers.remove(usize::from(first) - 1);
        });
        let outcome = tcp(&mut world, 20_000, PSH | ACK);
        if expires {
            // The kernel resets it, and the client may try again.
            assert_eq!(outcome.verdict.reason, Reason::NoConnection);
            assert!(world.connections().is_empty());
        } else {
            assert_eq!(outcome.verdict.reason, Reason::ServerRemoved);
            assert_eq!(world.connections().len(), 1);
        }
        assert_ne!(server_of(&tcp(&mut world, 20_000, SYN)), first);
    }
}

#[test]
fn expire_nodest_conn_moves_a_syn_away_from_weight_0() {
    for expires in [false, true] {
        let settings = Settings { expire_nodest_conn: expires, ..Settings::default() };
        let mut world = world(ForwardingMethod::Dr, settings);
        let first = server_of(&tcp(&mut world, 20_000, SYN));
        let key = *world.services.keys().next().unwrap();
        world.edit(key, |service| service.servers[usize::from(first) - 1].weight = Weight(0));
        assert_eq!(server_of(&tcp(&mut world, 20_000, SYN)) != first, expires);
    }
}

#[test]
fn secure_tcp_asks_for_more_than_the_clients_word() {
    let mut world = world(ForwardingMethod::Nat, Settings { secure_tcp: 3, ..Settings::default() });
    world.expire();
    tcp(&mut world, 20_000, SYN);
    tcp(&mut world, 20_000, ACK);
    assert_eq!(state(&world, 20_000), "SYN_RECV");
    let frame = Frame::tcp(("10.0.2.12", 80), (CLIENT, 20_000), SYN | ACK).by_server();
    world.send(SERVER_SIDE, &frame.bytes());
    assert_eq!(state(&world, 20_000), "SYNACK");
    tcp(&mut world, 20_000, ACK);
    assert_eq!(state(&world, 20_000), "SYNACK");
    let frame = Frame::tcp(("10.0.2.12", 80), (CLIENT, 20_000), PSH | ACK).by_server();
    world.send(SERVER_SIDE, &frame.bytes());
    assert_eq!(state(&world, 20_000), "ESTABLISHED");
}

#[test]
fn drop_packet_refuses_every_tenth_new_connection() {
    let mut world =
        world(ForwardingMethod::Dr, Settings { drop_packet: 3, am_droprate: 10, ..Settings::default() });
    world.expire();
    let reasons: Vec<_> = (0..100).map(|n| tcp(&mut world, 20_000 + n, SYN).verdict.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == Reason::DropPacket).count(), 10);
    // Known connections are served all the same.
    for (n, reason) in reasons.iter().enumerate().filter(|(_, reason)| **reason == Reason::RequestDr) {
        assert_eq!(tcp(&mut world, 20_000 + n as u16, ACK).verdict.reason, *reason);
    }
}

#[test]
fn drop_entry_gives_up_what_never_was_established() {
    let web = service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1]);
    let mut world = World::shaped(vec![web], Shape { capacity: 3200, ..Shape::default() });
    world.settings = Settings { drop_entry: 3, ..Settings::default() };
    world.publish();
    for n in 0..1000 {
        tcp(&mut world, 20_000 + n, SYN);
        if n % 2 == 0 {
            // A lively connection: more packets than eight.
            (0..9).for_each(|_| drop(tcp(&mut world, 20_000 + n, ACK)));
        }
    }
    for _ in 0..40 {
        world.wait(1000);
        (0..4).for_each(|_| world.expire());
    }
    assert_eq!(world.connections().len(), 500, "{:?}", &world.connections()[..3]);
    assert!(world.connections().iter().all(|row| row.starts_with("ESTABLISHED")));
    assert_eq!(world.pipelines[0].counters().given_up.get(), 500);
    let key = *world.services.keys().next().unwrap();
    assert_eq!(world.load(key, "10.0.2.11:80".parse().unwrap()), (500, 0));
}

#[test]
fn nat_icmp_send_tells_a_real_server_that_nobody_asked() {
    let mut world = world(ForwardingMethod::Nat, Settings { nat_icmp_send: true, ..Settings::default() });
    let frame = |port, flags| Frame::tcp(("10.0.2.11", port), (CLIENT, 31_000), flags).by_server().bytes();
    let outcome = world.send(SERVER_SIDE, &frame(80, SYN | ACK));
    assert_eq!(
        describe(&outcome.frame),
        "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len=68 ttl=64 tos=0xc0 df0 ICMP 3/3 mtu=0 \
         quoted 40B {IP 10.0.2.11>10.0.1.1 len=40 ttl=64 tos=0x00 DF TCP 80>31000 [SA] ok}"
    );
    assert_eq!(world.send(SERVER_SIDE, &frame(80, RST)).verdict.action, Action::Punt);
    assert_eq!(world.send(SERVER_SIDE, &frame(5555, SYN)).verdict.action, Action::Punt);
}

#[test]
fn schedule_icmp_finds_the_real_server_of_a_connection_it_does_not_know() {
    let about = crate::icmp::quoted(Frame::udp((VIP, 53), (CLIENT, 20_000), b"answer!!"), 28);
    let error = crate::icmp::error("10.0.1.77", VIP, (3, 4), 1200, &about).bytes();
    let mut strict = world(ForwardingMethod::Dr, Settings::default());
    assert_eq!(strict.send(CLIENT_SIDE, &error).verdict.action, Action::Punt);
    let mut anycast = world(ForwardingMethod::Dr, Settings { schedule_icmp: true, ..Settings::default() });
    assert_eq!(anycast.send(CLIENT_SIDE, &error).verdict.reason, Reason::IcmpRequest);
    assert_eq!(anycast.connections().len(), 1);
    anycast.wait(3000);
    assert!(anycast.connections().is_empty());
}

#[test]
fn pmtu_disc_0_lets_tunnel_packets_be_fragmented() {
    for (pmtu_disc, flag) in [(true, " DF IPIP"), (false, " df0 IPIP")] {
        let mut world = world(ForwardingMethod::Tunnel, Settings { pmtu_disc, ..Settings::default() });
        assert!(describe(&tcp(&mut world, 20_000, SYN).frame).contains(flag));
    }
}
