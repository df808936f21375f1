//! Fragments: in any order, by any lcore, both ways, they become what the whole packet becomes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use control::model::{ForwardingMethod, Protocol, Scheduler, Service};
use director::fragment::{PATIENCE, SLOTS};
use director::id::PortId;
use director::pipeline::Action;
use director::stats::Reason;
use proptest::prelude::*;

use crate::frames::{ACK, Frame, Payload, SYN};
use crate::world::{CLIENT_SIDE, Outcome, SERVER_SIDE, Shape, World, service};

const CLIENT: &str = "10.0.1.1";
const VIP: &str = "10.99.0.1";
const SERVER: &str = "10.0.2.11";
const V6: [&str; 3] = ["2001:db8:1::1", "2001:db8:99::1", "2001:db8:2::11"];

/// Cuts a frame behind these multiples of eight bytes of its payload. Of IPv6 it gets a fragment header.
pub fn cut(frame: &[u8], at: &[usize], id: u32) -> Vec<Vec<u8>> {
    let is_v4 = frame[12..14] == [8, 0];
    let header_len = if is_v4 { usize::from(frame[14] & 15) * 4 } else { 40 };
    let (header, payload) = frame[14..].split_at(header_len);
    let ends: Vec<usize> =
        at.iter().map(|at| at * 8).filter(|end| *end < payload.len()).chain([payload.len()]).collect();
    let mut begin = 0;
    let piece = |end: &usize| {
        let from = std::mem::replace(&mut begin, *end);
        let (bytes, more) = (&payload[from..*end], *end < payload.len());
        let mut header = header.to_vec();
        if is_v4 {
            header[2..4].copy_from_slice(&((header_len + bytes.len()) as u16).to_be_bytes());
            header[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            let word = (from / 8) as u16 | if more { 0x2000 } else { 0 };
            header[6..8].copy_from_slice(&word.to_be_bytes());
            header[10..12].fill(0);
            let sum = !crate::frames::ones_complement(&header, 0);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            header[4..6].copy_from_slice(&((8 + bytes.len()) as u16).to_be_bytes());
            let next = std::mem::replace(&mut header[6], 44);
            header.extend([next, 0]);
            header.extend((from as u16 | u16::from(more)).to_be_bytes());
            header.extend(id.to_be_bytes());
        }
        [&frame[..14], &header, bytes].concat()
    };
    ends.iter().map(piece).collect()
}

/// A fragment's place, whether more follow, its payload, and the rest of it: the frame with a header as of a whole
/// packet of length 0.
fn read_piece(frame: &[u8]) -> (usize, bool, Vec<u8>, Vec<u8>) {
    let mut head = frame.to_vec();
    let (offset, more, payload_at);
    if frame[12..14] == [8, 0] {
        payload_at = 14 + usize::from(frame[14] & 15) * 4;
        assert_eq!(crate::frames::ones_complement(&frame[14..payload_at], 0), 0xffff, "header checksum");
        let word = u16::from_be_bytes([frame[20], frame[21]]);
        (offset, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
        head[16..22].fill(0);
        head[24..26].fill(0);
    } else {
        assert_eq!(frame[20], 44);
        payload_at = 14 + 48;
        let word = u16::from_be_bytes([frame[56], frame[57]]);
        (offset, more) = (usize::from(word & !7), word & 1 != 0);
        head[18..20].fill(0);
        head[20] = frame[54];
        head.drain(54..62);
    }
    let payload = frame[payload_at..].to_vec();
    head.truncate(head.len() - payload.len());
    (offset, more, payload, head)
}

/// Puts fragments together, which all must have the same header but for their place; gives that and the payload.
fn join(fragments: &[Vec<u8>]) -> (Vec<u8>, Vec<u8>) {
    let pieces: Vec<_> = fragments.iter().map(|frame| read_piece(frame)).collect();
    let end = pieces.iter().find(|piece| !piece.1).map(|(offset, _, bytes, _)| offset + bytes.len());
    let mut whole = vec![None; end.expect("a last fragment")];
    for (offset, _, bytes, head) in &pieces {
        assert_eq!(*head, pieces[0].3);
        for (at, byte) in bytes.iter().enumerate() {
            assert!(whole[offset + at].replace(*byte).is_none(), "comes twice");
        }
    }
    (pieces[0].3.clone(), whole.into_iter().collect::<Option<_>>().expect("no gaps"))
}

/// The same of a frame in one piece.
fn of_whole(frame: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut head = frame.to_vec();
    let payload_at = if frame[12..14] == [8, 0] {
        head[16..22].fill(0);
        head[24..26].fill(0);
        34
    } else {
        head[18..20].fill(0);
        54
    };
    (head[..payload_at].to_vec(), frame[payload_at..].to_vec())
}

fn services(method: ForwardingMethod) -> Vec<Service> {
    let port = if method == ForwardingMethod::Nat { 8080 } else { 80 };
    let at = |protocol, address: &str| service(protocol, address, Scheduler::Rr, method, port, &[1]);
    [Protocol::Udp, Protocol::Tcp]
        .into_iter()
        .flat_map(|protocol| [at(protocol, "10.99.0.1:80"), at(protocol, "[2001:db8:99::1]:80")])
        .collect()
}

fn world(method: ForwardingMethod, lcores: usize) -> World {
    World::shaped(services(method), Shape { lcores, ..Shape::default() })
}

/// From the client, or from the real server back.
fn datagram(v6: bool, tcp: bool, reply: bool, port: u16, len: usize) -> Frame {
    let [client, vip, server] = if v6 { V6 } else { [CLIENT, VIP, SERVER] };
    let (from, to) = if reply { ((server, 8080), (client, port)) } else { ((client, port), (vip, 80)) };
    let data: Vec<u8> = (0..len).map(|at| (at * 7 + at / 256) as u8).collect();
    let mut frame = Frame::udp(from, to, &data);
    if tcp {
        frame.payload = Payload::Tcp { flags: if reply { SYN | ACK } else { SYN }, data };
    }
    if reply { frame.by_server() } else { frame }
}

fn side(reply: bool) -> PortId {
    if reply { SERVER_SIDE } else { CLIENT_SIDE }
}

fn udp(port: u16, len: usize) -> Frame {
    datagram(false, false, false, port, len)
}

fn forwarded(outcomes: Vec<Outcome>) -> Vec<Vec<u8>> {
    let leaves = |outcome: Outcome| match outcome.verdict.action {
        Action::Forward(_) => outcome.frame,
        other => panic!("{other:?} {:?}", outcome.verdict.reason),
    };
    outcomes.into_iter().map(leaves).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Method, version, protocol, order, copies and lcores do not matter: what leaves is what the whole packet would
    /// have become, in pieces.
    #[test]
    fn fragments_become_what_the_whole_packet_becomes(
        method in prop_oneof![Just(ForwardingMethod::Nat), Just(ForwardingMethod::Dr)],
        (v6, tcp, reply) in any::<(bool, bool, bool)>(),
        port in 1024u16..60_000,
        len in 40usize..400,
        at in proptest::collection::btree_set(3usize..50, 0..8),
        lcores in 1usize..=4,
        order in any::<u64>(),
        copies in proptest::collection::vec(any::<prop::sample::Index>(), 0..3),
        receivers in proptest::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let reply = reply && method == ForwardingMethod::Nat;
        let frame = datagram(v6, tcp, reply, port, len).bytes();
        let (mut whole, mut pieces) = (world(method, lcores), world(method, lcores));
        if reply {
            for world in [&mut whole, &mut pieces] {
                let opening = datagram(v6, tcp, false, port, 0).bytes();
                prop_assert_eq!(forwarded(world.send_all(0, CLIENT_SIDE, &opening)).len(), 1);
            }
        }
        let at: Vec<usize> = at.into_iter().collect();
        let mut fragments = cut(&frame, &at, 77);
        prop_assume!(fragments.len() > 1);
        let mut state = order;
        for at in (1..fragments.len()).rev() {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            fragments.swap(at, (state >> 33) as usize % (at + 1));
        }
        // Copies of what has come while there is still something to come.
        let last = fragments.pop().unwrap();
        for copy in &copies {
            if !fragments.is_empty() {
                fragments.push(copy.get(&fragments).clone());
            }
        }
        fragments.push(last);
        let mut out = Vec::new();
        for (fragment, receiver) in fragments.iter().zip(receivers.iter().cycle()) {
            out.extend(pieces.send_all(receiver.index(lcores), side(reply), fragment));
        }
        out.retain(|outcome| outcome.verdict.reason != Reason::FragmentCopy);
        let expected = forwarded(whole.send_all(0, side(reply), &frame));
        prop_assert_eq!(join(&forwarded(out)), of_whole(&expected[0]));
        prop_assert_eq!(pieces.connections(), whole.connections());
        prop_assert_eq!(pieces.give_up(), 0);
    }

    /// Whatever fragments come: what leaves of one packet never overlaps, and nothing waits for ever.
    #[test]
    fn hostile_fragments_pass_at_most_once_and_leave_nothing(
        pieces in proptest::collection::vec((0u16..12, 1u16..10, any::<bool>(), 0u16..2), 0..80),
    ) {
        let mut world = world(ForwardingMethod::Nat, 2);
        let mut come: BTreeMap<u16, Vec<bool>> = BTreeMap::new();
        for (at, len, more, id) in pieces {
            let mut frame = udp(20079, usize::from(len) * 8 - 8);
            frame.id = id;
            frame.flags_and_offset = at | if more { 0x2000 } else { 0 };
            for leaves in world.send_all(usize::from(len) % 2, CLIENT_SIDE, &frame.bytes()) {
                if let Action::Forward(_) = leaves.verdict.action
                    && frame.flags_and_offset != 0
                {
                    let (offset, _, bytes, _) = read_piece(&leaves.frame);
                    let id = u16::from_be_bytes([leaves.frame[18], leaves.frame[19]]);
                    let come = come.entry(id).or_insert_with(|| vec![false; 1024]);
                    if come[..8] == [true; 8] && offset == 0 {
                        // The name of a packet that was whole may be used again.
                        come.fill(false);
                    }
                    prop_assert!(come[offset..offset + bytes.len()].iter().all(|come| !come) || offset > 0);
                    come[offset..offset + bytes.len()].fill(true);
                }
            }
        }
        world.wait(PATIENCE);
        world.give_up();
        prop_assert_eq!(world.give_up(), 0);
    }
}

/// As a kernel showed it: both fragments reach the real server that was chosen for the first one, at its address, and
/// the checksum of the datagram is mended in the first one. It held the first one back until the last one had come;
/// nothing needs that.
#[test]
fn a_datagram_in_two_fragments_by_each_method() {
    let fragments = cut(&udp(20080, 1992).bytes(), &[125], 0x4242);
    for method in [ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel] {
        let mut world = world(method, 1);
        let out = forwarded(fragments.iter().flat_map(|f| world.send_all(0, CLIENT_SIDE, f)).collect());
        assert_eq!(out.len(), 2);
        let inner = if method == ForwardingMethod::Tunnel { 34 } else { 14 };
        for (out, sent) in out.iter().zip(&fragments) {
            let ip = &out[inner..];
            assert_eq!(
                (ip.len(), &ip[4..8]),
                (sent.len() - 14, &sent[18..22]),
                "length, id and place as they came"
            );
            assert_eq!(ip[8], 63);
        }
        if method == ForwardingMethod::Nat {
            let (head, payload) = join(&out);
            assert_eq!(head[30..34], [10, 0, 2, 11]);
            assert_eq!(payload[2..4], 8080u16.to_be_bytes());
            let pseudo = [[10, 0, 1, 1], [10, 0, 2, 11], [0, 17, 0, 0]].concat();
            let sum = crate::frames::ones_complement(&pseudo, payload.len() as u32);
            assert_eq!(crate::frames::ones_complement(&payload, sum.into()), 0xffff);
        }
    }
}

#[test]
fn a_datagram_without_checksum_keeps_none() {
    let mut frame = udp(20080, 100);
    frame.payload = Payload::Udp { data: vec![7; 100], checksum: false };
    let mut world = world(ForwardingMethod::Nat, 1);
    let fragments = cut(&frame.bytes(), &[5], 1);
    let out = forwarded(fragments.iter().flat_map(|f| world.send_all(0, CLIENT_SIDE, f)).collect());
    assert_eq!(join(&out).1[6..8], [0, 0]);
}

#[test]
fn headers_cut_in_two_are_refused() {
    let mut world = world(ForwardingMethod::Nat, 1);
    let syn = datagram(false, true, false, 20001, 40).bytes();
    for fragment in cut(&syn, &[1], 1).iter().chain(&cut(&syn, &[2], 2)[..1]) {
        let reason = world.send(CLIENT_SIDE, fragment).verdict.reason;
        assert_eq!(reason, Reason::BadFragment, "{fragment:02x?}");
    }
    let mut odd = udp(20001, 21);
    odd.flags_and_offset = 0x2000;
    assert_eq!(world.send(CLIENT_SIDE, &odd.bytes()).verdict.reason, Reason::BadFragment, "no multiple of 8");
    let mut behind = udp(20001, 100);
    behind.flags_and_offset = 0x1fff;
    assert_eq!(world.send(CLIENT_SIDE, &behind.bytes()).verdict.reason, Reason::BadFragment, "too long");
    assert!(world.connections().is_empty());
}

#[test]
fn the_first_fragment_decides_about_all() {
    let mut world = World::new(vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1]),
        service(Protocol::Udp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[0]),
    ]);
    let reasons = |world: &mut World, fragments: &[Vec<u8>]| -> Vec<Reason> {
        let out = fragments.iter().flat_map(|f| world.send_all(0, CLIENT_SIDE, f));
        out.map(|outcome| outcome.verdict.reason).collect()
    };
    // No real server is available: an error about the first one alone.
    let fragments = cut(&udp(20001, 100).bytes(), &[5, 10], 1);
    let refused = [Reason::IcmpPortUnreachable, Reason::FragmentNoConnection, Reason::FragmentNoConnection];
    assert_eq!(reasons(&mut world, &fragments), refused);
    // Out of order as well.
    let backward: Vec<_> = cut(&udp(20001, 100).bytes(), &[5, 10], 2).into_iter().rev().collect();
    let mut got = reasons(&mut world, &backward);
    got.sort_by_key(|reason| *reason as u8);
    assert_eq!(got, refused);
    // Of no service: the kernel gets all of them, and puts them together.
    let mut other = udp(20001, 100);
    other.destination_port = 81;
    assert_eq!(reasons(&mut world, &cut(&other.bytes(), &[5], 3)), [Reason::NoService; 2]);
    other.destination = "10.0.1.254".parse::<IpAddr>().unwrap();
    let late: Vec<_> = cut(&other.bytes(), &[5], 4).into_iter().rev().collect();
    assert_eq!(reasons(&mut world, &late), [Reason::NoService; 2]);
    // A long ping of the virtual address is the kernel's, in pieces as in one.
    let mut ping = udp(0, 0);
    ping.payload = Payload::Raw { protocol: 1, data: vec![8; 64] };
    assert_eq!(reasons(&mut world, &cut(&ping.bytes(), &[5], 5)), [Reason::OtherProtocol; 2]);
    // A segment of no connection, which the kernel resets: it needs the first fragment alone for that.
    let mut ack = datagram(false, true, false, 20001, 40);
    ack.payload = Payload::Tcp { flags: ACK, data: vec![0; 40] };
    let resets = [Reason::NoConnection, Reason::FragmentNoConnection];
    assert_eq!(reasons(&mut world, &cut(&ack.bytes(), &[3], 6)), resets);
}

#[test]
fn one_packet_scheduling_sends_all_fragments_of_a_datagram_to_one_real_server() {
    let mut service =
        service(Protocol::Udp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]);
    service.one_packet = true;
    let mut world = World::new(vec![service]);
    for id in 0..4u16 {
        let fragments = cut(&udp(20001 + id, 100).bytes(), &[5, 10], id.into());
        let out = forwarded(fragments.iter().flat_map(|f| world.send_all(0, CLIENT_SIDE, f)).collect());
        join(&out);
    }
}

#[test]
fn what_waits_in_vain_is_lost_by_name_and_makes_room() {
    let mut world = world(ForwardingMethod::Nat, 1);
    let mut lost = BTreeMap::new();
    for id in 0..SLOTS as u32 + 10 {
        let fragments = cut(&udp(20001, 100).bytes(), &[5], id);
        for outcome in world.send_all(0, CLIENT_SIDE, &fragments[1]) {
            *lost.entry(outcome.verdict.reason.name()).or_insert(0) += 1;
        }
    }
    // Now and then one makes room for another: which packets are neighbours in the table, nobody can foresee.
    assert!(lost.keys().all(|name| ["fragment_queue_full", "fragment_timeout"].contains(name)), "{lost:?}");
    let lost: usize = lost.values().sum();
    assert!((10..30).contains(&lost), "{lost}");
    world.wait(PATIENCE);
    assert_eq!(world.give_up() + lost, SLOTS + 10);
    let waits = world.send_all(0, CLIENT_SIDE, &cut(&udp(20001, 100).bytes(), &[5], 1000)[1]);
    assert!(waits.is_empty(), "there is room again");
}
