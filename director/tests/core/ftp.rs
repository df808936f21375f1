//! FTP by NAT: what the control connection says, and the data connections that come of it.

use std::net::IpAddr;

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::ftp::FtpPorts;
use director::nexthop::Neighbour;
use director::pipeline::Action;
use director::service::Compiler;
use director::stats::Reason;
use proptest::prelude::*;

use crate::frames::{ACK, Frame, Payload, SYN, ones_complement};
use crate::world::{C0, CLIENT_SIDE, Outcome, SERVER_SIDE, Shape, World, service};

const CLIENT: (&str, u16) = ("10.0.1.1", 30_001);
const VIP: (&str, u16) = ("10.99.0.1", 21);
const SERVER: (&str, u16) = ("10.0.2.11", 21);
const V6: [(&str, u16); 3] = [("2001:db8:1::1", 30_001), ("2001:db8:99::1", 21), ("2001:db8:2::11", 21)];

fn world(lcores: usize) -> World {
    let at = |address| service(Protocol::Tcp, address, Scheduler::Rr, ForwardingMethod::Nat, 21, &[1]);
    World::shaped(vec![at("10.99.0.1:21"), at("[2001:db8:99::1]:21")], Shape { lcores, ..Shape::default() })
}

/// A segment with this text and sequence number.
pub(crate) fn segment(from: (&str, u16), to: (&str, u16), sequence: u32, text: &str) -> Vec<u8> {
    let mut data = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    data.extend(sequence.to_be_bytes());
    data.extend([0, 0, 0, 0, 0x50, ACK, 0x20, 0, 0, 0, 0, 0]);
    data.extend(text.as_bytes());
    let (source, destination): (IpAddr, IpAddr) = (from.0.parse().unwrap(), to.0.parse().unwrap());
    let sum = !ones_complement(&[pseudo(source, destination, data.len()), data.clone()].concat(), 0);
    data[16..18].copy_from_slice(&sum.to_be_bytes());
    let frame = Frame { payload: Payload::Raw { protocol: 6, data }, ..Frame::tcp(from, to, 0) };
    if from.1 == 21 || from.0 == SERVER.0 { frame.by_server() } else { frame }.bytes()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn pseudo(source: IpAddr, destination: IpAddr, len: usize) -> Vec<u8> {
    [octets(source), octets(destination), vec![0, 6], (len as u16).to_be_bytes().to_vec()].concat()
}

/// The text of a segment that left, and its ends; its checksum must be right.
pub(crate) fn read(outcome: &Outcome) -> (String, (IpAddr, u16), (IpAddr, u16)) {
    assert!(matches!(outcome.verdict.action, Action::Forward(_)), "{:?}", outcome.verdict);
    let ip = &outcome.frame[14..];
    let (source, destination, tcp): (IpAddr, IpAddr, &[u8]) = if ip[0] >> 4 == 4 {
        let at = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).unwrap());
        (at(12), at(16), &ip[20..])
    } else {
        let at = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).unwrap());
        (at(8), at(24), &ip[40..])
    };
    let sum = ones_complement(&[pseudo(source, destination, tcp.len()), tcp.to_vec()].concat(), 0);
    assert_eq!(sum, 0xffff, "checksum");
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    (String::from_utf8(tcp[20..].to_vec()).unwrap(), (source, port(0)), (destination, port(2)))
}

fn ends((address, port): (&str, u16)) -> (IpAddr, u16) {
    (address.parse().unwrap(), port)
}

pub(crate) fn send(
    world: &mut World,
    from: (&str, u16),
    to: (&str, u16),
    sequence: u32,
    text: &str,
) -> Outcome {
    let side = if from.0.starts_with("10.0.2") || from.0.starts_with("2001:db8:2:") {
        SERVER_SIDE
    } else {
        CLIENT_SIDE
    };
    let lcore = sequence as usize % world.pipelines.len();
    world.send_all(lcore, side, &segment(from, to, sequence, text)).remove(0)
}

pub(crate) fn syn(world: &mut World, from: (&str, u16), to: (&str, u16)) -> Outcome {
    let frame = Frame::tcp(from, to, SYN);
    let is_server = from.0.starts_with("10.0.2") || from.0.starts_with("2001:db8:2:");
    let (side, frame) = if is_server { (SERVER_SIDE, frame.by_server()) } else { (CLIENT_SIDE, frame) };
    world.send_all(usize::from(from.1) % world.pipelines.len(), side, &frame.bytes()).remove(0)
}

/// Opens a control connection by each version of IP.
fn open(world: &mut World) {
    for [client, vip] in [[CLIENT, VIP], [V6[0], V6[1]]] {
        assert_eq!(syn(world, client, vip).verdict.reason, Reason::RequestNat);
    }
}

#[test]
fn a_passive_data_connection_goes_to_the_real_server_of_its_commands() {
    for lcores in [1, 4] {
        let mut world = world(lcores);
        open(&mut world);
        read(&send(&mut world, CLIENT, VIP, 1000, "PASV\r\n"));
        let answer =
            send(&mut world, SERVER, CLIENT, 5000, "227 Entering Passive Mode (10,0,2,11,195,80).\r\n");
        let (text, from, _) = read(&answer);
        assert_eq!(text, "227 Entering Passive Mode (10,99,0,1,195,80).\r\n");
        assert_eq!(from, ends(VIP));
        // The server's sending it again changes nothing.
        let again =
            send(&mut world, SERVER, CLIENT, 5000, "227 Entering Passive Mode (10,0,2,11,195,80).\r\n");
        assert_eq!(again.frame, answer.frame);
        // Another client is not expected.
        let stranger = syn(&mut world, ("10.0.1.2", 30_002), (VIP.0, 50_000));
        assert_eq!(stranger.verdict.reason, Reason::NoService);
        let data = syn(&mut world, ("10.0.1.1", 30_002), (VIP.0, 50_000));
        assert_eq!(read(&data).2, ends(("10.0.2.11", 50_000)));
        let reply = segment(("10.0.2.11", 50_000), ("10.0.1.1", 30_002), 1, "file");
        let reply = world.send_all(lcores - 1, SERVER_SIDE, &reply).remove(0);
        assert_eq!(read(&reply).1, ends((VIP.0, 50_000)));
        // Each word is for one connection.
        assert_eq!(syn(&mut world, ("10.0.1.1", 30_003), (VIP.0, 50_000)).verdict.reason, Reason::NoService);
    }
}

#[test]
fn two_real_servers_that_name_the_same_port_are_told_apart() {
    let at = service(Protocol::Tcp, "10.99.0.1:21", Scheduler::Rr, ForwardingMethod::Nat, 21, &[1, 1]);
    let mut world = World::new(vec![at]);
    // The real server that was added last comes first.
    let others = [("10.0.2.12", 30_001), ("10.0.2.11", 30_002)];
    for (_, port) in others {
        syn(&mut world, (CLIENT.0, port), VIP);
    }
    for (extended, first, second) in
        [(false, "(10,99,0,1,195,80)", "(10,99,0,1,195,81)"), (true, "6446", "6447")]
    {
        for ((server, client), expected) in others.into_iter().zip([first, second]) {
            let text = match extended {
                false => format!("227 Entering Passive Mode ({},195,80).\r\n", server.replace('.', ",")),
                true => "229 Entering Extended Passive Mode (|||6446|)\r\n".to_owned(),
            };
            let outcome = send(&mut world, (server, 21), (CLIENT.0, client), 5000, &text);
            assert!(read(&outcome).0.contains(expected), "{:?}", read(&outcome));
        }
        let [port, real] = if extended { [6446, 6446] } else { [50_000, 50_000] };
        for (by, (server, _)) in others.into_iter().enumerate() {
            let data = syn(&mut world, (CLIENT.0, 40_000 + port % 100), (VIP.0, port + by as u16));
            assert_eq!(read(&data).2, ends((server, real)));
        }
    }
}

#[test]
fn an_active_data_connection_comes_from_the_virtual_address() {
    for lcores in [1, 4] {
        let mut world = world(lcores);
        open(&mut world);
        let command = send(&mut world, CLIENT, VIP, 1000, "PORT 10,0,1,1,195,80\r\n");
        assert_eq!(read(&command).0, "PORT 10,0,1,1,195,80\r\n", "clients keep their address");
        // Other real servers are not expected.
        let other = syn(&mut world, ("10.0.2.12", 20), (CLIENT.0, 50_000));
        assert_eq!(other.verdict.reason, Reason::NoService);
        // Whatever port the server may use, the client sees that of data.
        let from = if lcores == 1 { 20 } else { 40_001 };
        let data = syn(&mut world, (SERVER.0, from), (CLIENT.0, 50_000));
        assert_eq!(read(&data).1, ends((VIP.0, 20)));
        let answer = Frame::tcp((CLIENT.0, 50_000), (VIP.0, 20), SYN | ACK).bytes();
        let answer = world.send_all(0, CLIENT_SIDE, &answer).remove(0);
        assert_eq!(read(&answer).2, ends((SERVER.0, from)));
        assert_eq!(world.connections().iter().filter(|c| c.contains("10.99.0.1:20")).count(), 1);
    }
}

#[test]
fn extended_commands_serve_both_versions_of_ip() {
    let mut world = world(2);
    open(&mut world);
    let [client, vip, server] = V6;
    let answer = "229 Entering Extended Passive Mode (|||6446|)\r\n";
    assert_eq!(read(&send(&mut world, server, client, 5000, answer)).0, answer, "it names no address");
    assert_eq!(read(&syn(&mut world, (client.0, 40_000), (vip.0, 6446))).2, ends((server.0, 6446)));
    send(&mut world, client, vip, 1000, "EPRT |2|2001:db8:1::1|6000|\r\n");
    assert_eq!(read(&syn(&mut world, (server.0, 20), (client.0, 6000))).1, ends((vip.0, 20)));
    send(&mut world, SERVER, CLIENT, 5000, answer);
    assert_eq!(read(&syn(&mut world, (CLIENT.0, 40_000), (VIP.0, 6446))).2, ends((SERVER.0, 6446)));
    send(&mut world, CLIENT, VIP, 1000, "EPRT |1|10.0.1.1|6000|\r\n");
    assert_eq!(read(&syn(&mut world, (SERVER.0, 20), (CLIENT.0, 6000))).1, ends((VIP.0, 20)));
}

#[test]
fn commands_that_come_in_pieces_are_understood_and_answers_are_waited_for() {
    let mut world = world(2);
    open(&mut world);
    for (sequence, text) in [(1000, "PO"), (1002, "RT 10,0,1,1"), (1013, ",195,80\r"), (1021, "\n")] {
        read(&send(&mut world, CLIENT, VIP, sequence, text));
    }
    assert_eq!(read(&syn(&mut world, (SERVER.0, 20), (CLIENT.0, 50_000))).1, ends((VIP.0, 20)));
    let whole = "227 Entering Passive Mode (10,0,2,11,195,80).\r\n";
    for cut in [1, 3, 20, 30, 40, 46] {
        let sequence = 5000 + cut as u32 * 100;
        for (sequence, text) in [(sequence, &whole[..cut]), (sequence + cut as u32, &whole[cut..])] {
            let outcome = send(&mut world, SERVER, CLIENT, sequence, text);
            assert_eq!(outcome.verdict.reason, Reason::FtpSplitAnswer, "{text}");
        }
        let again = read(&send(&mut world, SERVER, CLIENT, sequence, whole)).0;
        assert_eq!(again, "227 Entering Passive Mode (10,99,0,1,195,80).\r\n");
    }
}

#[test]
fn a_control_connection_lives_as_long_as_its_data_connection() {
    for lcores in [1, 4] {
        let mut world = world(lcores);
        let transfer = |world: &mut World| {
            open(world);
            send(world, CLIENT, VIP, 1000, "PASV\r\n");
            let answer = "227 Entering Passive Mode (10,0,2,11,195,80).\r\n";
            send(world, SERVER, CLIENT, 5000, answer);
            assert_eq!(syn(world, ("10.0.1.1", 30_002), (VIP.0, 50_000)).verdict.reason, Reason::RequestNat);
        };
        let data = |world: &mut World| {
            let frame = segment(("10.0.1.1", 30_002), (VIP.0, 50_000), 1, "file");
            assert_eq!(world.send_all(0, CLIENT_SIDE, &frame)[0].verdict.reason, Reason::RequestNat);
        };
        transfer(&mut world);
        let quiet = |world: &mut World, with_wheel: bool| {
            // Longer than an hour of an established connection's timeout in all.
            for _ in 0..100 {
                world.wait(40_000);
                data(world);
                if with_wheel {
                    world.expire();
                }
            }
        };
        for with_wheel in [true, false] {
            quiet(&mut world, with_wheel);
            read(&send(&mut world, CLIENT, VIP, 1006, "NOOP\r\n"));
        }
        // Without data it ends in its own time.
        world.wait(1_000_000);
        world.expire();
        // Its time may have been over before that of its data was noticed.
        world.wait(100_000);
        world.expire();
        assert!(world.connections().is_empty(), "{:?}", world.connections());
        assert_eq!(send(&mut world, CLIENT, VIP, 1012, "NOOP\r\n").verdict.action, Action::Punt);
    }
}

#[test]
fn other_ports_than_21_are_read_along_if_that_is_asked_for() {
    let mut world = World::new(Vec::new());
    world.compiler =
        Compiler::new(64, 1024, world.fleet.clone()).reading_ftp_at(FtpPorts::new(&[2100, 2121]));
    for port in [21, 2121] {
        let address = format!("10.99.0.1:{port}");
        let of = service(Protocol::Tcp, &address, Scheduler::Rr, ForwardingMethod::Nat, port, &[1]);
        world.services.insert(of.key, of.into());
    }
    world.publish();
    let client = ("10.0.1.1", 30_001);
    for (port, name) in [(2121, "10,99,0,1"), (21, "10,0,2,11")] {
        syn(&mut world, client, (VIP.0, port));
        let frame =
            segment((SERVER.0, port), client, 5000, "227 Entering Passive Mode (10,0,2,11,195,80).\r\n");
        let answer = world.send(SERVER_SIDE, &frame);
        assert_eq!(read(&answer).0, format!("227 Entering Passive Mode ({name},195,80).\r\n"));
    }
    assert_eq!(read(&syn(&mut world, ("10.0.1.1", 30_002), (VIP.0, 50_000))).2, ends((SERVER.0, 50_000)));
    // Active data are from the port before that of commands.
    world.send(CLIENT_SIDE, &segment(client, (VIP.0, 2121), 1000, "PORT 10,0,1,1,117,72\r\n"));
    let data = syn(&mut world, (SERVER.0, 2120), ("10.0.1.1", 30_024));
    assert_eq!(read(&data).1, ends((VIP.0, 2120)));
}

#[test]
fn nobody_is_led_to_another_host() {
    let mut world = world(1);
    open(&mut world);
    // A server that names somebody else: as it came, and nothing is expected.
    let foreign = "227 Entering Passive Mode (10,0,2,99,195,80).\r\n";
    assert_eq!(read(&send(&mut world, SERVER, CLIENT, 5000, foreign)).0, foreign);
    assert_eq!(syn(&mut world, (CLIENT.0, 40_000), (VIP.0, 50_000)).verdict.reason, Reason::NoService);
    // A client that names somebody else.
    send(&mut world, CLIENT, VIP, 1000, "PORT 10,0,1,9,195,80\r\n");
    let view = director::id::IfIndex(10);
    world.view.neighbours.insert(Neighbour { link: view, ip: "10.0.1.9".parse().unwrap() }, C0);
    world.publish();
    assert_eq!(syn(&mut world, (SERVER.0, 20), ("10.0.1.9", 50_000)).verdict.reason, Reason::NoService);
    // What is said too late.
    send(&mut world, CLIENT, VIP, 1100, "PORT 10,0,1,1,195,80\r\n");
    world.wait(120_000);
    assert_eq!(syn(&mut world, (SERVER.0, 20), (CLIENT.0, 50_000)).verdict.reason, Reason::NoService);
}

proptest! {
    /// Whatever either end says: nothing panics, every checksum stays right, lengths stay.
    #[test]
    fn whatever_is_said_stays_a_segment(
        said in proptest::collection::vec(
            (any::<bool>(), 0u32..40, "(227 |229 |PORT |EPRT |PASV)?[-0-9,()|. a-zA-Z\r\n]{0,60}\r?\n?"),
            1..40,
        ),
    ) {
        let mut world = world(2);
        open(&mut world);
        for (by_server, sequence, text) in said {
            let (from, to) = if by_server { (SERVER, CLIENT) } else { (CLIENT, VIP) };
            let outcome = send(&mut world, from, to, 1000 + sequence, &text);
            if outcome.verdict.reason != Reason::FtpSplitAnswer {
                prop_assert_eq!(read(&outcome).0.len(), text.len());
            }
        }
    }
}
