//! Persistence: a client's connections go to one real server, whatever lcore they are on.

use std::time::Duration;

use control::model::{ForwardingMethod, Persistence, Protocol, Scheduler, Service, Weight};
use director::id::PortId;
use director::stats::Reason;

use crate::frames::{ACK, FIN, Frame, PSH, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, Outcome, SERVER_SIDE, Shape, World, server_mac, service};

const VIP: &str = "10.99.0.1";

fn persistent(seconds: u64, granularity: u8) -> Service {
    let mut web = service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1, 1, 1]);
    web.persistence = Some(Persistence::of_clients(Duration::from_secs(seconds), granularity));
    web
}

fn tcp(world: &mut World, client: (&str, u16), flags: u8) -> Outcome {
    world.send(CLIENT_SIDE, &Frame::tcp(client, (VIP, 80), flags).bytes())
}

/// Which real server a frame goes to.
fn server_of(outcome: &Outcome) -> u8 {
    assert!(
        matches!(outcome.verdict.reason, Reason::RequestDr | Reason::RequestNat),
        "{:?}",
        outcome.verdict
    );
    outcome.frame[5] - server_mac(0).0[5]
}

/// Opens a connection from a port and closes it again.
fn visit(world: &mut World, client: (&str, u16)) -> u8 {
    let server = server_of(&tcp(world, client, SYN));
    tcp(world, client, ACK);
    tcp(world, client, FIN | ACK);
    tcp(world, client, RST);
    world.wait(10_000);
    world.expire();
    server
}

#[test]
fn a_client_stays_with_its_real_server_for_as_long_as_it_comes_back_in_time() {
    let mut world = World::new(vec![persistent(300, 32)]);
    let first = visit(&mut world, ("10.0.1.1", 20_000));
    for port in 20_001..20_020 {
        assert_eq!(visit(&mut world, ("10.0.1.1", port)), first);
        world.wait(200_000);
    }
    // Others go round.
    let others: Vec<u8> = (2..8).map(|n| visit(&mut world, (&format!("10.0.1.{n}"), 20_000))).collect();
    assert!((1..=3).all(|server| others.contains(&server)), "{others:?}");
    // The last visit was 200 s and 6 visits ago.
    world.wait(40_000);
    let again: Vec<u8> = (0..4)
        .map(|n| {
            world.wait(300_001);
            visit(&mut world, ("10.0.1.1", 21_000 + n))
        })
        .collect();
    assert!(again.windows(2).all(|pair| pair[0] != pair[1]), "forgotten each time: {again:?}");
}

#[test]
fn with_connections_a_template_goes_on_by_the_minute() {
    let mut world = World::new(vec![persistent(10, 32)]);
    let first = server_of(&tcp(&mut world, ("10.0.1.1", 20_000), SYN));
    tcp(&mut world, ("10.0.1.1", 20_000), ACK);
    for minute in 0..5 {
        world.wait(60_000);
        tcp(&mut world, ("10.0.1.1", 20_000), ACK);
        assert_eq!(server_of(&tcp(&mut world, ("10.0.1.1", 20_001 + minute), SYN)), first);
    }
    // Closed: a minute after the last connection was created it is over, not ten seconds.
    tcp(&mut world, ("10.0.1.1", 20_000), RST);
    world.wait(59_999);
    world.expire();
    assert_eq!(world.templates.list(world.now).len(), 1);
    world.wait(120_000);
    world.expire();
    assert_eq!(world.templates.list(world.now).len(), 0);
    assert!(world.templates.is_empty());
}

#[test]
fn granularity_makes_a_network_one_client() {
    let mut world = World::new(vec![persistent(300, 24)]);
    let first = visit(&mut world, ("10.0.7.1", 20_000));
    for n in 2..20 {
        assert_eq!(visit(&mut world, (&format!("10.0.7.{n}"), 20_000)), first);
    }
    let next = visit(&mut world, ("10.0.8.1", 20_000));
    assert_ne!(next, first);
}

#[test]
fn of_ipv6_by_prefix() {
    let mut web =
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[1, 1, 1]);
    web.persistence = Some(Persistence::of_clients(Duration::from_secs(300), 56));
    let mut world = World::new(vec![web]);
    let mut from = |client: &str| {
        server_of(
            &world.send(CLIENT_SIDE, &Frame::tcp((client, 20_000), ("2001:db8:99::1", 80), SYN).bytes()),
        )
    };
    let first = from("2001:db8:1:100::1");
    assert_eq!(from("2001:db8:1:1ff::2"), first);
    assert_ne!(from("2001:db8:1:200::1"), first);
}

#[test]
fn right_across_lcores() {
    let mut world = World::shaped(vec![persistent(300, 32)], Shape { lcores: 4, ..Shape::default() });
    let servers: Vec<u8> = (0..200)
        .map(|n| {
            let frame = Frame::tcp(("10.0.1.1", 20_000 + n), (VIP, 80), SYN).bytes();
            server_of(&world.send_spread(usize::from(n) % 4, CLIENT_SIDE, &frame))
        })
        .collect();
    assert!(servers.iter().all(|server| *server == servers[0]));
    assert!(world.pipelines.iter().all(|pipeline| pipeline.tables().len() > 20), "on all lcores");
    assert_eq!(world.templates.list(world.now)[0].controlled(), 200);
}

#[test]
fn a_service_of_all_ports_keeps_the_port_and_the_real_server() {
    for method in [ForwardingMethod::Dr, ForwardingMethod::Nat] {
        let mut all = service(Protocol::Tcp, "10.99.0.1:0", Scheduler::Rr, method, 0, &[1, 1]);
        all.persistence = Some(Persistence::of_clients(Duration::from_secs(300), 32));
        let web = service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Dr, 80, &[0]);
        let mut world = World::new(vec![all, web]);
        let mut servers = Vec::new();
        for (n, port) in [21, 443, 8080, 40_000].into_iter().enumerate() {
            let frame = Frame::tcp(("10.0.1.1", 20_000 + n as u16), (VIP, port), SYN).bytes();
            let outcome = world.send(CLIENT_SIDE, &frame);
            assert!(
                describe(&outcome.frame).contains(&format!(">{port} [S] ok")),
                "{}",
                describe(&outcome.frame)
            );
            servers.push(server_of(&outcome));
        }
        assert!(servers.iter().all(|server| *server == servers[0]));
        // The service of the very port comes first, though it has nobody.
        assert_eq!(tcp(&mut world, ("10.0.1.1", 30_000), SYN).verdict.reason, Reason::IcmpPortUnreachable);
        if method == ForwardingMethod::Nat {
            let server = format!("10.0.2.{}", 10 + servers[0]);
            let frame = Frame::tcp((&server, 443), ("10.0.1.1", 20_001), SYN | ACK).by_server();
            let outcome = world.send(SERVER_SIDE, &frame.bytes());
            assert_eq!(outcome.verdict.action, director::pipeline::Action::Forward(PortId(0)));
            assert!(describe(&outcome.frame).contains("IP 10.99.0.1>10.0.1.1"));
        }
    }
}

#[test]
fn weight_0_serves_its_templates_unless_they_are_to_expire() {
    let mut world = World::new(vec![persistent(300, 32)]);
    let first = visit(&mut world, ("10.0.1.1", 20_000));
    let key = *world.services.keys().next().unwrap();
    world.edit(key, |service| service.servers[usize::from(first) - 1].weight = Weight(0));
    assert_eq!(visit(&mut world, ("10.0.1.1", 20_001)), first);
    world.settings.expire_quiescent_template = true;
    world.publish();
    let second = visit(&mut world, ("10.0.1.1", 20_002));
    assert_ne!(second, first);
    assert_eq!(visit(&mut world, ("10.0.1.1", 20_003)), second, "and stays there");
}

#[test]
fn a_removed_real_server_leaves_its_templates() {
    let mut world = World::new(vec![persistent(300, 32)]);
    let first = visit(&mut world, ("10.0.1.1", 20_000));
    let key = *world.services.keys().next().unwrap();
    world.edit(key, |service| {
        service.servers.remove(usize::from(first) - 1);
    });
    assert_ne!(visit(&mut world, ("10.0.1.1", 20_001)), first);
}

#[test]
fn a_syn_does_not_move_a_connection_of_a_template() {
    let mut world = World::new(vec![persistent(300, 32)]);
    let client = ("10.0.1.1", 20_000);
    let first = server_of(&tcp(&mut world, client, SYN));
    tcp(&mut world, client, ACK);
    tcp(&mut world, client, FIN | ACK);
    tcp(&mut world, client, RST);
    assert!(world.connections()[0].starts_with("CLOSE"));
    assert_eq!(server_of(&tcp(&mut world, client, SYN)), first);
    assert_eq!(world.templates.list(world.now)[0].controlled(), 1, "the same connection");
}

#[test]
fn templates_are_assured_once_a_connection_is_established() {
    let mut world = World::new(vec![persistent(300, 32)]);
    tcp(&mut world, ("10.0.1.1", 20_000), SYN);
    assert!(!world.templates.list(world.now)[0].assured);
    tcp(&mut world, ("10.0.1.1", 20_000), PSH | ACK);
    assert!(world.templates.list(world.now)[0].assured);
}

#[test]
fn a_full_table_of_templates_refuses_by_name() {
    let mut world = World::shaped(vec![persistent(300, 32)], Shape { templates: 2, ..Shape::default() });
    for n in 1..=2 {
        assert_eq!(tcp(&mut world, (&format!("10.0.1.{n}"), 20_000), SYN).verdict.reason, Reason::RequestDr);
    }
    assert_eq!(tcp(&mut world, ("10.0.1.3", 20_000), SYN).verdict.reason, Reason::TemplateTableFull);
    assert_eq!(tcp(&mut world, ("10.0.1.1", 20_001), SYN).verdict.reason, Reason::RequestDr);
}

#[test]
fn one_packet_scheduling_keeps_nothing() {
    let mut dns = service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Nat, 5353, &[1, 1]);
    dns.one_packet = true;
    let mut world = World::new(vec![dns]);
    let frame = Frame::udp(("10.0.1.1", 20004), (VIP, 53), b"question").bytes();
    let servers: Vec<u8> = (0..4).map(|_| server_of(&world.send(CLIENT_SIDE, &frame))).collect();
    assert_eq!(servers, [2, 1, 2, 1]);
    assert!(world.connections().is_empty());
    // Answers are nobody's, as in the kernel.
    let answer = Frame::udp(("10.0.2.11", 5353), ("10.0.1.1", 20004), b"answer!!").by_server();
    assert_eq!(world.send(SERVER_SIDE, &answer.bytes()).verdict.reason, Reason::NoService);
    let key = *world.services.keys().next().unwrap();
    assert_eq!(world.load(key, "10.0.2.11:5353".parse().unwrap()), (0, 0));
    assert_eq!(world.compiler.service_totals()[&key].connections, 4);
}

#[test]
fn a_number_that_another_real_server_has_by_now_is_not_followed() {
    let mut world = World::new(vec![persistent(300, 32)]);
    let key = *world.services.keys().next().unwrap();
    // Closed, expired, forgotten: the numbers are free for the real servers of another service.
    visit(&mut world, ("10.0.1.1", 20_000));
    world.wait(60_000);
    world.expire();
    world.edit(key, |service| service.servers.clear());
    world.publish();
    let other =
        service(Protocol::Tcp, "10.99.0.2:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]);
    world.services.insert(other.key, std::sync::Arc::new(other));
    world.publish();
    let servers = persistent(300, 32).servers;
    world.edit(key, |service| service.servers = servers);
    for port in 20_001..20_004 {
        assert_eq!(tcp(&mut world, ("10.0.1.1", port), SYN).verdict.reason, Reason::RequestDr);
    }
}
