//! Real servers that are the director itself: what the kernel gets, and what becomes of its answers.

use control::model::{ForwardingMethod, Protocol, RealServer, Scheduler, Service, Tunnel};
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{ACK, Frame, RST, SYN, describe};
use crate::world::{CLIENT_SIDE, Outcome, Shape, World, service};

const CLIENT: &str = "10.0.1.1";
const VIP: &str = "10.99.0.1";
/// The director on the real servers' side.
const OWN: &str = "10.0.2.254";
const V6: [&str; 3] = ["2001:db8:1::1", "2001:db8:99::1", "2001:db8:2::fe"];

fn local(protocol: Protocol, method: ForwardingMethod, port: u16, server_port: u16) -> Vec<Service> {
    let of = |vip: &str, own: &str| {
        let of = service(protocol, vip, Scheduler::Rr, method, server_port, &[1]);
        let own = RealServer {
            address: format!("{own}:{server_port}").parse().unwrap(),
            tunnel: Tunnel::default(),
            ..of.servers[0]
        };
        Service { servers: vec![own], ..of }
    };
    vec![of(&format!("{VIP}:{port}"), OWN), of(&format!("[{}]:{port}", V6[1]), &format!("[{}]", V6[2]))]
}

fn world(protocol: Protocol, method: ForwardingMethod, port: u16, server_port: u16, lcores: usize) -> World {
    World::shaped(local(protocol, method, port, server_port), Shape { lcores, ..Shape::default() })
}

/// A frame that the kernel sends to the client's station.
fn by_kernel(frame: Frame) -> Frame {
    Frame { to: crate::world::C0, from: crate::world::D0, ..frame }
}

fn forwarded(outcome: Option<Outcome>) -> String {
    let outcome = outcome.expect("an answer");
    assert!(matches!(outcome.verdict.action, Action::Forward(_)), "{:?}", outcome.verdict);
    describe(&outcome.frame)
}

#[test]
fn by_direct_routing_and_tunnel_the_kernel_gets_what_came() {
    for method in [ForwardingMethod::Dr, ForwardingMethod::Tunnel] {
        let mut world = world(Protocol::Tcp, method, 80, 80, 1);
        assert!(!world.snapshot.local_nat);
        let frame = Frame { ttl: 1, ..Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN) }.bytes();
        let outcome = world.send(CLIENT_SIDE, &frame);
        assert_eq!((outcome.verdict.action, outcome.verdict.reason), (Action::Punt, Reason::LocalServer));
        assert_eq!(outcome.frame, frame);
        assert_eq!(world.connections().len(), 1);
    }
}

#[test]
fn by_nat_the_kernel_is_asked_at_its_own_address_and_answers_from_the_virtual_one() {
    for lcores in [1, 4] {
        let mut world = world(Protocol::Tcp, ForwardingMethod::Nat, 80, 8080, lcores);
        assert!(world.snapshot.local_nat);
        for (n, [client, vip, own]) in [[CLIENT, VIP, OWN], V6].into_iter().enumerate() {
            for port in 30_000..30_004 {
                let syn = Frame::tcp((client, port), (vip, 80), SYN).bytes();
                let outcome = world.send_spread(n % lcores, CLIENT_SIDE, &syn);
                assert_eq!(outcome.verdict.reason, Reason::LocalServer);
                let text = describe(&outcome.frame);
                // As on a way of no hops; to the Ethernet address that it came to.
                assert!(text.contains(&format!("IP {client}>{own} ")) && text.contains("ttl=64"), "{text}");
                assert!(text.contains(&format!("{port}>8080 [S] ok")), "{text}");
                assert_eq!(outcome.frame[..14], syn[..14]);
                let answer = by_kernel(Frame::tcp((own, 8080), (client, port), SYN | ACK));
                let text = forwarded(world.kernel_sends(&answer.bytes()));
                assert!(text.starts_with("to 02:00:00:00:00:c0"), "{text}");
                assert!(text.contains(&format!("IP {vip}>{client} ")), "{text}");
                assert!(text.contains(&format!("80>{port} [SA] ok")), "{text}");
            }
        }
        assert!(
            world.connections().iter().all(|line| line.starts_with("SYN_RECV")),
            "{:?}",
            world.connections()
        );
    }
}

#[test]
fn a_port_at_which_nobody_listens_is_refused_in_the_name_of_the_virtual_address() {
    let mut tcp = world(Protocol::Tcp, ForwardingMethod::Nat, 80, 8080, 1);
    tcp.send(CLIENT_SIDE, &Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN).bytes());
    let reset = by_kernel(Frame::tcp((OWN, 8080), (CLIENT, 30_000), RST | ACK));
    let text = forwarded(tcp.kernel_sends(&reset.bytes()));
    assert!(text.contains("IP 10.99.0.1>10.0.1.1") && text.contains("80>30000 [RA] ok"), "{text}");
    let mut udp = world(Protocol::Udp, ForwardingMethod::Nat, 53, 5353, 4);
    udp.send_spread(0, CLIENT_SIDE, &Frame::udp((CLIENT, 30_000), (VIP, 53), b"?").bytes());
    let about = crate::icmp::quoted(Frame::udp((CLIENT, 30_000), (OWN, 5353), b"?"), 28);
    let error = by_kernel(crate::icmp::error(OWN, CLIENT, (3, 3), 0, &about));
    let text = forwarded(udp.kernel_sends(&error.bytes()));
    assert!(text.contains("IP 10.99.0.1>10.0.1.1") && text.contains("ICMP 3/3"), "{text}");
    assert!(text.contains("10.0.1.1>10.99.0.1"), "{text}");
}

#[test]
fn what_is_of_no_connection_leaves_as_the_kernel_sends_it() {
    let mut world = world(Protocol::Tcp, ForwardingMethod::Nat, 80, 8080, 4);
    // Who asks the real server itself gets its own answer.
    for frame in [
        Frame::tcp((OWN, 8080), (CLIENT, 30_000), SYN | ACK),
        Frame::tcp((OWN, 22), (CLIENT, 30_000), ACK),
        Frame::udp((OWN, 8080), (CLIENT, 30_000), b"!"),
        Frame::tcp((VIP, 80), (CLIENT, 30_000), ACK),
    ] {
        assert!(world.kernel_sends(&by_kernel(frame).bytes()).is_none());
    }
    assert!(world.kernel_sends(&[0xff; 60]).is_none());
    assert!(world.kernel_sends(&[]).is_none());
}

#[test]
fn a_long_answer_leaves_in_the_kernels_fragments() {
    for lcores in [1, 4] {
        let mut world = world(Protocol::Udp, ForwardingMethod::Nat, 53, 5353, lcores);
        for [client, vip, own] in [[CLIENT, VIP, OWN], V6] {
            world.send_spread(0, CLIENT_SIDE, &Frame::udp((client, 30_000), (vip, 53), b"?").bytes());
            let answer = by_kernel(Frame::udp((own, 5353), (client, 30_000), &[7; 4000])).bytes();
            let whole = by_kernel(Frame::udp((vip, 53), (client, 30_000), &[7; 4000])).bytes();
            let wanted = crate::fragments::cut(&whole, &[180, 360], 9);
            for (piece, wanted) in crate::fragments::cut(&answer, &[180, 360], 9).iter().zip(wanted) {
                let outcome = world.kernel_sends(piece).expect("an answer");
                assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
                // But for TTL and header checksum.
                let payload = if vip == VIP { 34 } else { 54 };
                assert_eq!(outcome.frame[payload..], wanted[payload..]);
            }
            // One that has lost its first fragment is nobody's.
            let late = &crate::fragments::cut(&answer, &[180], 77)[1];
            assert!(world.kernel_sends(late).is_none());
        }
    }
}

#[test]
fn sctp_of_the_kernels_is_answered_likewise() {
    let mut world = world(Protocol::Sctp, ForwardingMethod::Nat, 3868, 3869, 3);
    let init = Frame::sctp((CLIENT, 30_000), (VIP, 3868), 1).bytes();
    assert_eq!(world.send_spread(0, CLIENT_SIDE, &init).verdict.reason, Reason::LocalServer);
    let answer = by_kernel(Frame::sctp((OWN, 3869), (CLIENT, 30_000), 2));
    let text = forwarded(world.kernel_sends(&answer.bytes()));
    assert!(text.contains("IP 10.99.0.1>10.0.1.1"), "{text}");
}

#[test]
fn an_ftp_server_on_the_director_is_read_along() {
    let mut world = world(Protocol::Tcp, ForwardingMethod::Nat, 21, 21, 4);
    let (client, vip) = ((CLIENT, 30_000), (VIP, 21));
    world.send_spread(0, CLIENT_SIDE, &Frame::tcp(client, vip, SYN).bytes());
    let answer = "227 Entering Passive Mode (10,0,2,254,195,80).\r\n";
    let segment = crate::ftp::segment((OWN, 21), client, 5000, answer);
    let outcome = world.kernel_sends(&segment).expect("an answer");
    // Its words make up for the length.
    assert_eq!(crate::ftp::read(&outcome).0, "227 Entering Passive Mode (10,99,0,1,195,80). \r\n");
    let data = world.send_spread(1, CLIENT_SIDE, &Frame::tcp((CLIENT, 30_001), (VIP, 50_000), SYN).bytes());
    assert_eq!(data.verdict.reason, Reason::LocalServer);
    let answer = by_kernel(Frame::tcp((OWN, 50_000), (CLIENT, 30_001), SYN | ACK));
    assert!(forwarded(world.kernel_sends(&answer.bytes())).contains("IP 10.99.0.1>10.0.1.1"));
    // Active: the kernel opens the data connection.
    world.send_all(0, CLIENT_SIDE, &crate::ftp::segment(client, vip, 1000, "PORT 10,0,1,1,117,72\r\n"));
    let data = by_kernel(Frame::tcp((OWN, 20), (CLIENT, 30_024), SYN));
    let text = forwarded(world.kernel_sends(&data.bytes()));
    assert!(text.contains("IP 10.99.0.1>10.0.1.1") && text.contains("20>30024 [S]"), "{text}");
}

#[test]
fn an_error_about_an_answer_goes_to_the_kernel() {
    for method in [ForwardingMethod::Nat, ForwardingMethod::Tunnel] {
        let mut world = world(Protocol::Udp, method, 53, 53, 1);
        world.send(CLIENT_SIDE, &Frame::udp((CLIENT, 30_000), (VIP, 53), b"?").bytes());
        let about = crate::icmp::quoted(Frame::udp((VIP, 53), (CLIENT, 30_000), b"!"), 28);
        let error = crate::icmp::error("10.0.1.77", VIP, (3, 4), 1200, &about);
        let outcome = world.send(CLIENT_SIDE, &error.bytes());
        assert_eq!(outcome.verdict.reason, Reason::LocalServer);
        let text = describe(&outcome.frame);
        let to = if method == ForwardingMethod::Nat { OWN } else { VIP };
        assert!(text.contains(&format!("IP 10.0.1.77>{to} ")) && text.contains("ttl=64"), "{text}");
    }
}

#[test]
fn it_is_noticed_when_an_address_becomes_the_directors_own_and_when_not_any_more() {
    let services =
        vec![service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 80, &[1])];
    let mut world = World::new(services);
    let address = director::nexthop::Address {
        link: director::id::IfIndex(11),
        ip: "10.0.2.11".parse().unwrap(),
        prefix_len: 32,
    };
    for own in [false, true, false] {
        world.view.addresses.retain(|other| *other != address);
        world.view.addresses.extend(own.then_some(address));
        world.publish();
        assert_eq!(world.snapshot.local_nat, own);
    }
}
