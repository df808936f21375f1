//! SIP by UDP: calls are kept together by their Call-ID.

use std::sync::Arc;
use std::time::Duration;

use control::model::{
    Family, ForwardingMethod, Mark, MarkRule, Persistence, PersistenceEngine, PortRange, Protocol, Scheduler,
    Service, ServiceKey,
};
use director::service::{Compiler, MarkRules};
use director::stats::Reason;

use crate::fragments::cut;
use crate::frames::{Frame, Payload, SYN, describe};
use crate::world::{CLIENT_SIDE, Outcome, SERVER_SIDE, Shape, World, server_mac, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const SIP: u16 = 5060;
/// Of the real servers.
const PORT: u16 = 5070;

/// Three real servers by NAT in turn, persistent by Call-ID for 300 s.
fn proxies(one_packet: bool) -> Service {
    let mut proxies =
        service(Protocol::Udp, "10.99.0.1:5060", Scheduler::Rr, ForwardingMethod::Nat, PORT, &[1, 1, 1]);
    proxies.persistence = Some(by_call(32));
    proxies.one_packet = one_packet;
    proxies
}

fn by_call(granularity: u8) -> Persistence {
    let engine = PersistenceEngine::Sip;
    Persistence { engine, ..Persistence::of_clients(Duration::from_secs(300), granularity) }
}

fn message(method: &str, call_id: &str) -> Vec<u8> {
    format!(
        "{method} sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 10.0.1.1:5060;branch=z9hG4bK7\r\n\
         Max-Forwards: 70\r\nCall-ID: {call_id}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

fn answer(call_id: &str) -> Vec<u8> {
    format!("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.0.1.1:5060\r\ni: {call_id}\r\nCSeq: 1 INVITE\r\n\r\n")
        .into_bytes()
}

fn say(world: &mut World, client: (&str, u16), text: &[u8]) -> Outcome {
    world.send(CLIENT_SIDE, &Frame::udp(client, (VIP, SIP), text).bytes())
}

/// Which real server a message of a call goes to.
fn call(world: &mut World, client: (&str, u16), call_id: &str) -> u8 {
    server_of(&say(world, client, &message("INVITE", call_id)))
}

fn server_of(outcome: &Outcome) -> u8 {
    assert_eq!(outcome.verdict.reason, Reason::RequestNat);
    outcome.frame[5] - server_mac(0).0[5]
}

/// A real server says something.
fn server_says(world: &mut World, server: u8, to: (&str, u16), text: &[u8]) -> Outcome {
    let address = format!("10.0.2.{}", 10 + server);
    world.send(SERVER_SIDE, &Frame::udp((&address, PORT), to, text).by_server().bytes())
}

#[test]
fn a_call_keeps_its_real_server_whatever_port_its_messages_come_from() {
    for one_packet in [false, true] {
        let mut world = World::new(vec![proxies(one_packet)]);
        let first = call(&mut world, (CLIENT, 20_000), "1@x");
        for port in 20_001..20_020 {
            assert_eq!(call(&mut world, (CLIENT, port), "1@x"), first);
        }
        let others: Vec<u8> =
            (0..6).map(|n| call(&mut world, (CLIENT, 21_000 + n), &format!("{n}@y"))).collect();
        assert!((1..=3).all(|server| others.contains(&server)), "{others:?}");
    }
}

#[test]
fn calls_from_one_port_go_to_several_real_servers_with_one_packet_scheduling() {
    let mut world = World::new(vec![proxies(true)]);
    let first: Vec<u8> = (0..9).map(|n| call(&mut world, (CLIENT, SIP), &format!("{n}@x"))).collect();
    assert!((1..=3).all(|server| first.contains(&server)), "{first:?}");
    for _ in 0..3 {
        let again: Vec<u8> = (0..9).map(|n| call(&mut world, (CLIENT, SIP), &format!("{n}@x"))).collect();
        assert_eq!(again, first);
    }
    assert_eq!(world.connections(), [""; 0]);
    assert_eq!(world.templates.list(world.now).len(), 9);
}

#[test]
fn without_it_a_known_connection_goes_before_its_call_id() {
    let mut world = World::new(vec![proxies(false)]);
    let first = call(&mut world, (CLIENT, SIP), "1@x");
    for n in 2..5 {
        assert_eq!(call(&mut world, (CLIENT, SIP), &format!("{n}@x")), first);
    }
    // Nor does it need one, as to keep a way open.
    assert_eq!(server_of(&say(&mut world, (CLIENT, SIP), b"\r\n\r\n")), first);
    assert_eq!(world.templates.list(world.now).len(), 1, "that of the first");
}

#[test]
fn of_no_connection_and_without_a_call_id_a_packet_is_dropped() {
    for one_packet in [false, true] {
        let mut world = World::new(vec![proxies(one_packet)]);
        let key = world.services.keys().next().copied().unwrap();
        let long = message("INVITE", &"x".repeat(256));
        for text in [&b""[..], b"\r\n\r\n", b"INVITE sip:bob SIP/2.0\r\nTo: bob\r\n\r\n", &long] {
            assert_eq!(say(&mut world, (CLIENT, SIP), text).verdict.reason, Reason::NoCallId);
        }
        assert_eq!(world.connections(), [""; 0]);
        // Even where nobody could be chosen.
        world.edit(key, |service| service.servers.clear());
        assert_eq!(say(&mut world, (CLIENT, SIP), b"\r\n\r\n").verdict.reason, Reason::NoCallId);
        let refused = say(&mut world, (CLIENT, SIP), &message("INVITE", "1@x"));
        assert_eq!(refused.verdict.reason, Reason::IcmpPortUnreachable);
    }
}

#[test]
fn call_ids_are_the_same_only_if_every_byte_is() {
    let mut world = World::new(vec![proxies(true)]);
    let long = "x".repeat(254);
    for (one, other) in [("abc@x", "ABC@x"), (&format!("{long}1"), &format!("{long}2")), ("1", "11")] {
        let servers = [one, other, one, other].map(|id| call(&mut world, (CLIENT, SIP), id));
        assert_ne!(servers[0], servers[1], "{one} {other}");
        assert_eq!(servers[..2], servers[2..]);
    }
    assert_eq!(world.templates.list(world.now).len(), 6);
}

#[test]
fn the_client_counts_too_unless_the_granularity_is_0() {
    let mut world = World::new(vec![proxies(true)]);
    let key = world.services.keys().next().copied().unwrap();
    let one = call(&mut world, ("10.0.1.1", SIP), "1@x");
    assert_ne!(call(&mut world, ("10.0.1.2", SIP), "1@x"), one);
    world.edit(key, |service| service.persistence = Some(by_call(0)));
    let one = call(&mut world, ("10.0.1.1", SIP), "2@x");
    for n in 2..6 {
        assert_eq!(call(&mut world, (&format!("10.0.{n}.{n}"), SIP + n), "2@x"), one);
    }
}

#[test]
fn a_call_is_forgotten_when_its_template_is() {
    let mut world = World::new(vec![proxies(true)]);
    let first = call(&mut world, (CLIENT, SIP), "1@x");
    for _ in 0..5 {
        world.wait(299_999);
        assert_eq!(call(&mut world, (CLIENT, SIP), "1@x"), first);
    }
    world.wait(300_000);
    assert_ne!(call(&mut world, (CLIENT, SIP), "1@x"), first);
}

#[test]
fn with_one_packet_scheduling_answers_leave_as_from_the_virtual_service() {
    let mut world = World::new(vec![proxies(true)]);
    let server = call(&mut world, (CLIENT, 20_000), "1@x");
    let outcome = server_says(&mut world, server, (CLIENT, 20_000), &answer("1@x"));
    assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
    let text = describe(&outcome.frame);
    assert!(text.starts_with("to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=102 ttl=63"), "{text}");
    assert!(text.contains("UDP 5060>20000") && !text.contains("BAD"), "{text}");
    assert_eq!(world.connections(), [""; 0]);
    let [template] = world.templates.list(world.now)[..] else { panic!("one call") };
    assert!(template.assured && template.controlled() == 0, "{template:?}");
    // What is of no call goes its way as it is, to the kernel.
    let outcome = server_says(&mut world, server, (CLIENT, 20_000), b"\r\n\r\n");
    assert_eq!(outcome.verdict.reason, Reason::NoService);
}

#[test]
fn a_real_server_may_call_and_is_called_back() {
    for one_packet in [false, true] {
        let mut world = World::new(vec![proxies(one_packet)]);
        let outcome = server_says(&mut world, 2, (CLIENT, SIP), &message("INVITE", "9@y"));
        assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
        let text = describe(&outcome.frame);
        assert!(text.contains("IP 10.99.0.1>10.0.1.1") && text.contains("UDP 5060>5060"), "{text}");
        assert_eq!(server_of(&say(&mut world, (CLIENT, SIP), &answer("9@y"))), 2);
        // From another port as well, since the call is known.
        assert_eq!(call(&mut world, (CLIENT, 33_333), "9@y"), 2);
        let connections = world.connections();
        let expected = [
            "UDP 10.0.1.1:33333 10.99.0.1:5060 10.0.2.12:5070",
            "UDP 10.0.1.1:5060 10.99.0.1:5060 10.0.2.12:5070",
        ];
        assert_eq!(connections, if one_packet { &expected[..0] } else { &expected[..] });
    }
}

#[test]
fn a_call_that_another_real_server_goes_on_with_is_that_ones() {
    let mut world = World::new(vec![proxies(true)]);
    let first = call(&mut world, (CLIENT, SIP), "1@x");
    let other = first % 3 + 1;
    assert_eq!(
        server_says(&mut world, other, (CLIENT, SIP), &answer("1@x")).verdict.reason,
        Reason::ReplyNat
    );
    assert_eq!(call(&mut world, (CLIENT, SIP), "1@x"), other);
}

#[test]
fn of_two_real_servers_that_call_one_client_the_last_gets_its_answers() {
    let mut world = World::new(vec![proxies(false)]);
    for server in [1, 2, 1, 3] {
        let id = format!("{server}@y");
        let outcome = server_says(&mut world, server, (CLIENT, SIP), &message("INVITE", &id));
        assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
        assert_eq!(server_of(&say(&mut world, (CLIENT, SIP), &answer(&id))), server);
    }
    assert_eq!(world.connections(), ["UDP 10.0.1.1:5060 10.99.0.1:5060 10.0.2.13:5070"]);
    let key = world.services.keys().next().copied().unwrap();
    let loads: Vec<_> =
        world.services[&key].servers.iter().map(|server| world.load(key, server.address).1).collect();
    assert_eq!(loads, [0, 0, 1]);
}

#[test]
fn what_a_real_server_sends_from_elsewhere_or_by_another_method_is_not_of_a_call() {
    let mut world = World::new(vec![proxies(true)]);
    let key = world.services.keys().next().copied().unwrap();
    let say = |world: &mut World, from: (&str, u16)| {
        let frame = Frame::udp(from, (CLIENT, SIP), &message("INVITE", "1@x")).by_server();
        world.send(SERVER_SIDE, &frame.bytes()).verdict.reason
    };
    assert_eq!(say(&mut world, ("10.0.2.11", PORT)), Reason::ReplyNat);
    assert_eq!(say(&mut world, ("10.0.2.11", PORT + 1)), Reason::NoService);
    assert_eq!(say(&mut world, ("10.0.2.19", PORT)), Reason::NoService);
    // Nor once the service knows nothing of calls, or the real server is gone.
    world.edit(key, |service| {
        service.persistence = Some(Persistence { engine: PersistenceEngine::None, ..by_call(32) });
    });
    assert_eq!(say(&mut world, ("10.0.2.11", PORT)), Reason::NoService);
    world.edit(key, |service| service.persistence = Some(by_call(32)));
    assert_eq!(say(&mut world, ("10.0.2.11", PORT)), Reason::ReplyNat);
    world.edit(key, |service| service.servers.retain(|server| server.address.port() != PORT));
    assert_eq!(say(&mut world, ("10.0.2.11", PORT)), Reason::NoService);
}

#[test]
fn by_direct_routing_calls_are_kept_together_too() {
    let mut proxies =
        service(Protocol::Udp, "10.99.0.1:5060", Scheduler::Rr, ForwardingMethod::Dr, SIP, &[1, 1]);
    proxies.persistence = Some(by_call(32));
    proxies.one_packet = true;
    let mut world = World::new(vec![proxies]);
    let mut to = |id: &str| {
        let outcome = say(&mut world, (CLIENT, SIP), &message("INVITE", id));
        assert_eq!(outcome.verdict.reason, Reason::RequestDr);
        outcome.frame[5]
    };
    let (one, two) = (to("1@x"), to("2@x"));
    assert_ne!(one, two);
    assert_eq!([to("2@x"), to("1@x")], [two, one]);
    let outcome = server_says(&mut world, 1, (CLIENT, SIP), &answer("1@x"));
    assert_eq!(outcome.verdict.reason, Reason::NoService, "answers do not cross the director");
}

#[test]
fn of_ipv6_it_is_the_same() {
    const VIP6: &str = "2001:db8:99::1";
    const CLIENT6: &str = "2001:db8:1::1";
    let mut proxies = service(
        Protocol::Udp,
        "[2001:db8:99::1]:5060",
        Scheduler::Rr,
        ForwardingMethod::Nat,
        PORT,
        &[1, 1, 1],
    );
    proxies.persistence = Some(by_call(128));
    proxies.one_packet = true;
    let mut world = World::new(vec![proxies]);
    let mut call = |port, id: &str| {
        let frame = Frame::udp((CLIENT6, port), (VIP6, SIP), &message("INVITE", id));
        server_of(&world.send(CLIENT_SIDE, &frame.bytes()))
    };
    let one = call(20_000, "1@x");
    assert_ne!(call(20_000, "2@x"), one);
    assert_eq!(call(20_001, "1@x"), one);
    let server = format!("2001:db8:2::{}", 10 + one);
    let frame = Frame::udp((&server, PORT), (CLIENT6, 20_001), &answer("1@x")).by_server();
    let text = describe(&world.send(SERVER_SIDE, &frame.bytes()).frame);
    assert!(text.contains("IP 2001:db8:99::1>2001:db8:1::1") && text.contains("UDP 5060>20001"), "{text}");
}

#[test]
fn fragments_of_a_message_follow_its_first_one_and_other_calls_from_that_port_do_not() {
    for (lcores, lcore) in [(1, 0), (4, 0), (4, 2)] {
        let shape = Shape { lcores, ..Shape::default() };
        let mut world = World::shaped(vec![proxies(true)], shape);
        let mut servers = Vec::new();
        for id in 1..=6u32 {
            let call_id = format!("{}@x", id % 3);
            let mut text = message("INVITE", &call_id);
            text.resize(3000, b'a');
            let frame = Frame::udp((CLIENT, SIP), (VIP, SIP), &text).bytes();
            let mut pieces = cut(&frame, &[100, 200], id);
            pieces.reverse();
            let outcomes: Vec<Outcome> =
                pieces.iter().flat_map(|piece| world.send_all(lcore, CLIENT_SIDE, piece)).collect();
            assert_eq!(outcomes.len(), 3);
            let server = server_of(&outcomes[0]);
            assert!(outcomes.iter().all(|outcome| server_of(outcome) == server));
            // A whole one of another call in between goes its own way.
            let whole = Frame::udp((CLIENT, SIP), (VIP, SIP), &message("BYE", &call_id)).bytes();
            assert_eq!(server_of(&world.send_spread(lcore, CLIENT_SIDE, &whole)), server);
            servers.push(server);
        }
        assert_eq!(servers[..3], servers[3..]);
        assert!(servers[0] != servers[1] && servers[1] != servers[2], "{servers:?}");
        // And back, in fragments or not.
        let address = format!("10.0.2.{}", 10 + servers[0]);
        let mut text = answer("1@x");
        text.resize(2000, b'a');
        let frame = Frame::udp((&address, PORT), (CLIENT, SIP), &text).by_server().bytes();
        let back: Vec<_> = cut(&frame, &[150], 77)
            .iter()
            .flat_map(|piece| world.send_all(lcore, SERVER_SIDE, piece))
            .collect();
        assert_eq!(back.len(), 2);
        for outcome in back {
            assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
            assert!(describe(&outcome.frame).contains("IP 10.99.0.1>10.0.1.1"));
        }
        assert_eq!(world.connections().len(), 1, "of the fragments");
    }
}

#[test]
fn a_first_fragment_must_have_the_call_id() {
    let mut world = World::new(vec![proxies(false)]);
    let frame = Frame::udp((CLIENT, SIP), (VIP, SIP), &message("INVITE", "1@x")).bytes();
    let outcomes: Vec<Reason> = cut(&frame, &[5], 1)
        .iter()
        .flat_map(|piece| world.send_all(0, CLIENT_SIDE, piece))
        .map(|outcome| outcome.verdict.reason)
        .collect();
    assert_eq!(outcomes, [Reason::NoCallId, Reason::FragmentNoConnection]);
}

#[test]
fn once_the_engine_is_gone_what_was_for_fragments_is_a_connection_like_any() {
    let mut world = World::new(vec![proxies(true)]);
    let key = world.services.keys().next().copied().unwrap();
    let mut text = message("INVITE", "1@x");
    text.resize(1000, b'a');
    let pieces = cut(&Frame::udp((CLIENT, SIP), (VIP, SIP), &text).bytes(), &[100], 1);
    let server = server_of(&world.send_all(0, CLIENT_SIDE, &pieces[0])[0]);
    world.edit(key, |service| service.one_packet = false);
    for n in 2..5 {
        assert_eq!(call(&mut world, (CLIENT, SIP), &format!("{n}@x")), server);
    }
    let reply = server_says(&mut world, server, (CLIENT, SIP), b"\r\n\r\n");
    assert_eq!(reply.verdict.reason, Reason::ReplyNat);
    assert_eq!(world.connections().len(), 1);
}

#[test]
fn right_across_lcores() {
    for one_packet in [false, true] {
        let mut world = World::shaped(vec![proxies(one_packet)], Shape { lcores: 4, ..Shape::default() });
        let mut servers = [0; 10];
        for n in 0..200u16 {
            let (id, port) = (n % 10, 20_000 + n);
            let text = message("INVITE", &format!("{id}@x"));
            let frame = Frame::udp((CLIENT, port), (VIP, SIP), &text).bytes();
            let server = server_of(&world.send_spread(usize::from(n) % 4, CLIENT_SIDE, &frame));
            let address = format!("10.0.2.{}", 10 + server);
            let back = Frame::udp((&address, PORT), (CLIENT, port), &answer(&format!("{id}@x"))).by_server();
            let outcome = world.send_spread(usize::from(n / 4) % 4, SERVER_SIDE, &back.bytes());
            assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
            let known = std::mem::replace(&mut servers[usize::from(id)], server);
            assert!(known == 0 || known == server, "call {id} went to {known}, and to {server}");
        }
        assert!((1..=3).all(|server| servers.contains(&server)), "{servers:?}");
        assert_eq!(world.templates.list(world.now).len(), 10);
    }
}

#[test]
fn of_a_service_by_mark_it_is_the_datagrams() {
    let rule = MarkRule {
        mark: Mark::FIRST,
        protocol: None,
        sources: Vec::new(),
        destinations: Vec::new(),
        source_ports: Vec::new(),
        destination_ports: vec![PortRange(5060..=5069)],
        ingress: None,
        dscp: None,
    };
    let key = ServiceKey::Mark { mark: Mark::FIRST, family: Family::Ipv4 };
    let marked = Service { key, ..proxies(true) };
    let mut world = World::new(Vec::new());
    world.compiler = Compiler::new(64, 1024, world.fleet.clone()).marking(MarkRules::new(vec![rule]));
    world.services.insert(key, Arc::new(marked));
    world.publish();
    let to = |world: &mut World, vip: &str, port: u16, id: &str| {
        let frame = Frame::udp((CLIENT, SIP), (vip, port), &message("INVITE", id));
        server_of(&world.send(CLIENT_SIDE, &frame.bytes()))
    };
    let one = to(&mut world, VIP, SIP, "1@x");
    assert_ne!(to(&mut world, VIP, SIP, "2@x"), one);
    assert_eq!(to(&mut world, "10.99.0.2", 5067, "1@x"), one, "a mark is one service");
    let tcp = Frame {
        payload: Payload::Tcp { flags: SYN, data: message("INVITE", "1@x") },
        ..Frame::tcp((CLIENT, SIP), (VIP, SIP), SYN)
    };
    assert_eq!(world.send(CLIENT_SIDE, &tcp.bytes()).verdict.reason, Reason::NoCallId);
    // Which virtual address would it be from?
    let outcome = server_says(&mut world, one, (CLIENT, 33_333), &answer("1@x"));
    assert_eq!(outcome.verdict.reason, Reason::NoService);
}

#[test]
fn full_tables_refuse_new_calls_by_name_and_serve_those_that_are() {
    let shape = Shape { templates: 2, capacity: 3, ..Shape::default() };
    let mut world = World::shaped(vec![proxies(false)], shape);
    let first = call(&mut world, (CLIENT, 20_000), "1@x");
    call(&mut world, (CLIENT, 20_001), "2@x");
    let refused = say(&mut world, (CLIENT, 20_002), &message("INVITE", "3@x"));
    assert_eq!(refused.verdict.reason, Reason::TemplateTableFull);
    let refused = server_says(&mut world, 1, (CLIENT, 20_002), &message("INVITE", "3@x"));
    assert_eq!(refused.verdict.reason, Reason::TemplateTableFull);
    assert_eq!(call(&mut world, (CLIENT, 20_003), "1@x"), first);
    let refused = say(&mut world, (CLIENT, 20_004), &message("INVITE", "1@x"));
    assert_eq!(refused.verdict.reason, Reason::TableFull);
    let refused = server_says(&mut world, first, (CLIENT, 20_005), &message("INVITE", "1@x"));
    assert_eq!(refused.verdict.reason, Reason::TableFull);
    assert_eq!(world.templates.list(world.now).iter().map(|t| t.controlled()).sum::<u32>(), 3);
}
