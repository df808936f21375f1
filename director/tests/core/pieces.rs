//! Packets that are too long for their way and may be fragmented, as a real kernel's IPVS fragments them.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::id::IfIndex;
use director::nexthop::Neighbour;
use director::pipeline::Action;
use director::stats::Reason;

use crate::frames::{Frame, describe};
use crate::world::{
    CLIENT_SIDE, Outcome, SERVER_SIDE, V4_SERVERS, V6_SERVERS, World, ip, server_mac, servers, service,
};

const CLIENT: (&str, u16) = ("10.0.1.1", 20075);
const VIP: (&str, u16) = ("10.99.0.1", 53);

fn world(method: ForwardingMethod) -> World {
    let port = if method == ForwardingMethod::Nat { 5353 } else { 53 };
    World::new(vec![service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, method, port, &[1])])
}

/// The way out by one side takes so much.
fn narrow(world: &mut World, link: u32, mtu: u32) {
    world.view.links.get_mut(&IfIndex(link)).unwrap().mtu = mtu;
    world.publish();
}

fn datagram(total_len: usize) -> Frame {
    Frame::udp(CLIENT, VIP, &(0..total_len - 28).map(|n| n as u8).collect::<Vec<_>>())
}

/// A fragment: what it says of its place, and what it carries.
#[derive(Debug, PartialEq)]
struct Piece {
    total_len: usize,
    id: u16,
    word: u16,
}

fn piece(frame: &[u8]) -> Piece {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    Piece { total_len: usize::from(word(16)), id: word(18), word: word(20) }
}

/// Puts fragments of one packet of IPv4 together, in order.
fn whole(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = pieces[0].clone();
    for next in &pieces[1..] {
        let place = usize::from(piece(next).word & 0x1fff) * 8;
        assert_eq!(whole.len() - 34, place, "no gap, no overlap");
        assert_eq!(&next[..12], &whole[..12], "Ethernet addresses");
        assert_eq!(next[22..24], whole[22..24], "TTL and protocol");
        whole.extend(&next[34..]);
    }
    let len = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&len.to_be_bytes());
    whole[20..22].fill(0);
    whole[24..26].fill(0);
    let sum = !crate::frames::ones_complement(&whole[14..34], 0);
    whole[24..26].copy_from_slice(&sum.to_be_bytes());
    whole
}

fn lens_and_words(outcome: &Outcome) -> Vec<(usize, u16)> {
    outcome.leaving().iter().map(|frame| (piece(frame).total_len, piece(frame).word)).collect()
}

#[test]
fn direct_routing_cuts_what_may_be_cut() {
    let mut world = world(ForwardingMethod::Dr);
    narrow(&mut world, 11, 1400);
    let outcome = world.send(CLIENT_SIDE, &datagram(1500).bytes());
    assert_eq!(outcome.verdict.reason, Reason::RequestDr);
    assert_eq!(lens_and_words(&outcome), [(1396, 0x2000), (124, 1376 / 8)]);
    let pieces = outcome.leaving();
    assert!(pieces.iter().all(|frame| piece(frame).id == 0x1234));
    assert_eq!(
        describe(&whole(&pieces)),
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.99.0.1 len=1500 ttl=63 tos=0x00 df0 UDP 20075>53 len=1480 ok"
    );
}

#[test]
fn nat_cuts_in_both_directions() {
    let mut world = world(ForwardingMethod::Nat);
    narrow(&mut world, 11, 1400);
    let outcome = world.send(CLIENT_SIDE, &datagram(1500).bytes());
    assert_eq!(lens_and_words(&outcome), [(1396, 0x2000), (124, 1376 / 8)]);
    assert_eq!(
        describe(&whole(&outcome.leaving())),
        "to 02:00:00:00:01:0b IP 10.0.1.1>10.0.2.11 len=1500 ttl=63 tos=0x00 df0 UDP 20075>5353 len=1480 ok"
    );
    narrow(&mut world, 10, 600);
    let reply = Frame::udp(("10.0.2.11", 5353), CLIENT, &[9; 1000]).by_server();
    let outcome = world.send(SERVER_SIDE, &reply.bytes());
    assert_eq!(lens_and_words(&outcome), [(596, 0x2000), (452, 576 / 8)]);
    assert_eq!(
        describe(&whole(&outcome.leaving())),
        "to 02:00:00:00:00:c0 IP 10.99.0.1>10.0.1.1 len=1028 ttl=63 tos=0x00 df0 UDP 53>20075 len=1008 ok"
    );
}

#[test]
fn a_tunnel_cuts_the_outer_packet() {
    let mut world = world(ForwardingMethod::Tunnel);
    let mut ids = Vec::new();
    for (len, rest) in [(1481, 21), (1500, 40)] {
        let outcome = world.send(CLIENT_SIDE, &datagram(len).bytes());
        assert_eq!(lens_and_words(&outcome), [(1500, 0x2000), (rest, 1480 / 8)]);
        let pieces = outcome.leaving();
        ids.push(piece(&pieces[0]).id);
        assert_eq!(piece(&pieces[0]).id, piece(&pieces[1]).id);
        assert_eq!(
            describe(&whole(&pieces)),
            format!(
                "to 02:00:00:00:01:0b IP 10.0.2.254>10.0.2.11 len={} ttl=63 tos=0x00 df0 IPIP {{IP \
                 10.0.1.1>10.99.0.1 len={len} ttl=63 tos=0x00 df0 UDP 20075>53 len={} ok}}",
                len + 20,
                len - 20
            )
        );
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn without_pmtu_disc_a_tunnel_cuts_what_may_not_be_cut_itself() {
    let mut world = world(ForwardingMethod::Tunnel);
    let mut frame = datagram(1500);
    frame.flags_and_offset = 0x4000;
    let refused = world.send(CLIENT_SIDE, &frame.bytes());
    assert_eq!(refused.verdict.reason, Reason::IcmpTooBig);
    world.settings.pmtu_disc = false;
    world.publish();
    let outcome = world.send(CLIENT_SIDE, &frame.bytes());
    assert_eq!(lens_and_words(&outcome), [(1500, 0x2000), (40, 1480 / 8)]);
    let text = describe(&whole(&outcome.leaving()));
    assert!(text.contains("IPIP {IP 10.0.1.1>10.99.0.1 len=1500 ttl=63 tos=0x00 DF UDP"), "{text}");
}

#[test]
fn a_fragment_is_cut_into_fragments_of_the_same_packet() {
    let mut world = world(ForwardingMethod::Dr);
    narrow(&mut world, 11, 600);
    let frame = datagram(2428).bytes();
    let cut_at = |from: usize, to: usize, more: u16| {
        let mut piece = [&frame[..34], &frame[34 + from..34 + to]].concat();
        piece[16..18].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        piece[20..22].copy_from_slice(&((from / 8) as u16 | more).to_be_bytes());
        piece[24..26].fill(0);
        let sum = !crate::frames::ones_complement(&piece[14..34], 0);
        piece[24..26].copy_from_slice(&sum.to_be_bytes());
        piece
    };
    let mut pieces = Vec::new();
    for (from, to, more) in [(0, 1200, 0x2000), (1200, 2408, 0)] {
        for outcome in world.send_all(0, CLIENT_SIDE, &cut_at(from, to, more)) {
            pieces.extend(outcome.leaving());
        }
    }
    assert!(pieces.iter().all(|frame| piece(frame).total_len <= 600 && piece(frame).id == 0x1234));
    let last = pieces.iter().filter(|frame| piece(frame).word & 0x2000 == 0).count();
    assert_eq!((last, pieces.len()), (1, 6));
    let text = describe(&whole(&pieces));
    assert!(text.contains("len=2428 ttl=63 tos=0x00 df0 UDP 20075>53 len=2408 ok"), "{text}");
}

#[test]
fn a_tunnel_of_ipv6_cuts_with_a_fragment_header() {
    let mut world = world(ForwardingMethod::Tunnel);
    let key = *world.services.keys().next().unwrap();
    world.edit(key, |service| {
        service.servers = servers(V6_SERVERS, 53, ForwardingMethod::Tunnel, &[1]);
    });
    let outcome = world.send(CLIENT_SIDE, &datagram(1490).bytes());
    let pieces = outcome.leaving();
    assert_eq!(pieces.len(), 2);
    let mut inner = Vec::new();
    for (n, frame) in pieces.iter().enumerate() {
        let payload_len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        assert_eq!(frame.len(), 14 + 40 + payload_len);
        assert_eq!((frame[20], frame[54], frame[55]), (44, 4, 0), "fragment header, IPv4 behind it");
        let word = u16::from_be_bytes([frame[56], frame[57]]);
        assert_eq!((usize::from(word & !7), word & 1), (inner.len(), u16::from(n == 0)));
        inner.extend(&frame[62..]);
    }
    assert_eq!(pieces[0].len(), 14 + 40 + 8 + 1448);
    assert_eq!(pieces[0][58..62], pieces[1][58..62], "one identification");
    let text = describe(&[&[0; 12][..], &[8, 0], &inner[..]].concat());
    assert!(text.ends_with("len=1490 ttl=63 tos=0x00 df0 UDP 20075>53 len=1470 ok"), "{text}");
}

#[test]
fn what_ipv6_may_not_cut_is_refused_or_lost_by_name() {
    let mut world = World::new(vec![service(
        Protocol::Udp,
        "[2001:db8:99::1]:53",
        Scheduler::Rr,
        ForwardingMethod::Dr,
        53,
        &[1],
    )]);
    let frame = Frame::udp(("2001:db8:1::1", 20075), ("2001:db8:99::1", 53), &[1; 1400]);
    narrow(&mut world, 11, 1400);
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::IcmpTooBig);
    narrow(&mut world, 11, 1279);
    assert_eq!(world.send(CLIENT_SIDE, &frame.bytes()).verdict.reason, Reason::NeedsFragmentation);
}

#[test]
fn what_waits_for_its_neighbour_is_cut_when_it_leaves() {
    let mut world = world(ForwardingMethod::Tunnel);
    let neighbour = Neighbour { link: IfIndex(11), ip: ip(&format!("{V4_SERVERS}11")) };
    world.view.neighbours.remove(&neighbour);
    world.publish();
    let outcome = world.send(CLIENT_SIDE, &datagram(1500).bytes());
    let Action::Hold(wait) = outcome.verdict.action else { panic!("{:?}", outcome.verdict) };
    assert_eq!(world.pipelines[0].awaited(wait).mtu, 1500);
    assert_eq!(piece(&outcome.frame).total_len, 1520, "whole as yet");
    // The lcore's own part is in `lcore::long_packets_leave_in_pieces_and_are_accounted_for`.
    world.view.neighbours.insert(neighbour, server_mac(1));
    world.publish();
    assert_eq!(world.send(CLIENT_SIDE, &datagram(1500).bytes()).leaving().len(), 2);
}
