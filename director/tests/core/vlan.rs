//! VLAN interfaces on ports: what comes tagged is balanced as if it were not, and leaves with the tags of its way.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::id::IfIndex;
use director::nexthop::{KernelView, Link, MacAddr, VlanLink};
use director::packet::{BytesPacket, PacketBuf};
use director::stats::Reason;
use director::wire::vlan::{CUSTOMER, SERVICE, Tag};

use crate::frames::{ACK, Frame, SYN, describe};
use crate::lcore::{Bench, bench_of, fragments};
use crate::world::{D0, D1, Shape, World, ip, server_mac, service};

const VIP: &str = "10.99.0.1";
const CLIENT: &str = "10.0.1.1";
const DIR0: IfIndex = IfIndex(10);
const DIR1: IfIndex = IfIndex(11);

const fn tag(tpid: u16, tci: u16) -> Tag {
    Tag { tpid, tci }
}

pub const C100: Tag = tag(CUSTOMER, 100);
const C200: Tag = tag(CUSTOMER, 200);
pub const S7: Tag = tag(SERVICE, 7);

/// Moves all that the kernel has on a port to a VLAN interface with these tags there, of index `index` and, where there
/// are two tags, that behind it.
fn move_to_vlan(view: &mut KernelView, from: IfIndex, tags: &[Tag], index: u32) {
    let mut to = from;
    for (tag, index) in tags.iter().zip(index..) {
        let parent = view.links[&to].clone();
        let name = format!("{}.{}", parent.name, tag.id());
        let vlan = Some(VlanLink { parent: to, tag: *tag });
        to = IfIndex(index);
        view.links.insert(to, Link { name, vlan, ..parent });
    }
    let there = |link: &mut IfIndex| *link = if *link == from { to } else { *link };
    view.addresses.iter_mut().for_each(|address| there(&mut address.link));
    view.routes.iter_mut().for_each(|route| there(&mut route.link));
    let neighbours = std::mem::take(&mut view.neighbours).into_iter();
    view.neighbours = neighbours
        .map(|(mut neighbour, mac)| {
            there(&mut neighbour.link);
            (neighbour, mac)
        })
        .collect();
}

/// A director with these tags on its client side and on its server side.
pub fn tagged_bench(method: ForwardingMethod, lcores: usize, client: &[Tag], server: &[Tag]) -> Bench {
    let port = |own| if method == ForwardingMethod::Nat { 8000 + own } else { own };
    let services = vec![
        service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, method, port(80), &[1, 1]),
        service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, method, port(53), &[1]),
        service(Protocol::Tcp, "[2001:db8:99::1]:80", Scheduler::Rr, method, port(80), &[1]),
    ];
    let mut world = World::shaped(services, Shape { lcores, capacity: 1000, ..Shape::default() });
    move_to_vlan(&mut world.view, DIR0, client, 20);
    move_to_vlan(&mut world.view, DIR1, server, 30);
    world.publish();
    bench_of(world)
}

/// A frame with tags, made without the director.
pub fn with_tags(tags: &[Tag], frame: &[u8]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|tag| [tag.tpid.to_be_bytes(), tag.tci.to_be_bytes()].concat());
    [&frame[..12], &tags.collect::<Vec<u8>>(), &frame[12..]].concat()
}

fn feed(bench: &Bench, lcore: usize, port: usize, tags: &[Tag], frame: &[u8]) {
    let packet = BytesPacket::new(&with_tags(tags, frame));
    bench.wires[lcore][port].borrow_mut().incoming.push(packet);
}

fn sent(bench: &Bench, port: usize) -> Vec<Vec<u8>> {
    let wires = bench.wires.iter();
    wires.flat_map(|ports| std::mem::take(&mut ports[port].borrow_mut().sent)).collect()
}

/// What the first lcore gave to the kernel as the client side's, in order.
fn punted(bench: &mut Bench) -> Vec<Vec<u8>> {
    let ring = &mut bench.punted[0];
    std::iter::from_fn(|| ring.pop().ok()).map(|packet| packet.bytes().to_vec()).collect()
}

fn reason(bench: &Bench, reason: Reason) -> u64 {
    bench.counters.iter().map(|c| c.reason(reason).get()).sum()
}

/// The only frame that was sent by a port, in words; it has these tags.
fn only(bench: &Bench, port: usize, tags: &[Tag]) -> String {
    let frames = sent(bench, port);
    let [frame] = &frames[..] else { panic!("{} frames", frames.len()) };
    let inside = [&frame[..12], &frame[12 + 4 * tags.len()..]].concat();
    assert_eq!(with_tags(tags, &inside), *frame, "its tags");
    describe(&inside)
}

/// Requests of both versions, one whose TTL ends here, and by NAT a reply: what is sent for each, by port.
fn talk(bench: &mut Bench, client: &[Tag], server: &[Tag]) -> Vec<[Vec<Vec<u8>>; 2]> {
    let mut last_hop = Frame::udp((CLIENT, 30_002), (VIP, 53), b"?");
    last_hop.ttl = 1;
    let mut frames = vec![
        (0, Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN)),
        (0, Frame::udp((CLIENT, 30_001), (VIP, 53), b"question")),
        (0, last_hop),
        (0, Frame::tcp(("2001:db8:1::1", 30_003), ("2001:db8:99::1", 80), SYN)),
    ];
    let reply = Frame::udp(("10.0.2.11", 8053), (CLIENT, 30_001), b"answer").by_server();
    frames.push((1, reply));
    frames
        .iter()
        .map(|(port, frame)| {
            // A priority has nothing to do with where a frame belongs.
            let tags: Vec<Tag> =
                [client, server][*port].iter().map(|t| tag(t.tpid, t.tci | 0x6000)).collect();
            feed(bench, 0, *port, &tags, &frame.bytes());
            bench.turn(2);
            punted(bench);
            [sent(bench, 0), sent(bench, 1)]
        })
        .collect()
}

#[test]
fn tags_on_either_side_change_nothing_but_themselves() {
    let kinds: [&[Tag]; 5] = [&[], &[C100], &[S7], &[S7, C100], &[C200, C100]];
    for method in [ForwardingMethod::Nat, ForwardingMethod::Dr, ForwardingMethod::Tunnel] {
        let untagged = talk(&mut tagged_bench(method, 1, &[], &[]), &[], &[]);
        assert!(untagged.iter().take(4).all(|[to_client, to_server]| to_client.len() + to_server.len() == 1));
        for client in kinds {
            for server in kinds {
                let all = |tags: &[Tag], frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                    frames.iter().map(|frame| with_tags(tags, frame)).collect()
                };
                let expected: Vec<_> = untagged
                    .iter()
                    .map(|[to_client, to_server]| [all(client, to_client), all(server, to_server)])
                    .collect();
                let mut bench = tagged_bench(method, 1, client, server);
                assert_eq!(talk(&mut bench, client, server), expected, "{method:?} {client:?} {server:?}");
            }
        }
    }
}

#[test]
fn a_client_that_is_tagged_and_one_that_is_not_are_served_at_the_same_time() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 1, &[], &[C200]);
    let view = &mut bench.world.view;
    let parent = view.links[&DIR0].clone();
    view.links.insert(IfIndex(20), Link { vlan: Some(VlanLink { parent: DIR0, tag: C100 }), ..parent });
    let mut route = view.routes.iter().find(|route| route.link == DIR0).copied().unwrap();
    (route.network, route.link) = (ip("10.0.100.0"), IfIndex(20));
    view.routes.push(route);
    let neighbour = director::nexthop::Neighbour { link: IfIndex(20), ip: ip("10.0.100.1") };
    view.neighbours.insert(neighbour, MacAddr([2, 0, 0, 0, 0, 0xc1]));
    bench.publish();
    for (client, tags) in [(CLIENT, &[][..]), ("10.0.100.1", &[C100])] {
        feed(&bench, 0, 0, tags, &Frame::udp((client, 30_000), (VIP, 53), b"question").bytes());
        bench.turn(2);
        let words = only(&bench, 1, &[C200]);
        assert!(words.contains(&format!("IP {client}>10.0.2.11")), "{words}");
        let reply = Frame::udp(("10.0.2.11", 8053), (client, 30_000), b"answer").by_server();
        feed(&bench, 0, 1, &[C200], &reply.bytes());
        bench.turn(2);
        let words = only(&bench, 0, tags);
        assert!(words.contains(&format!("IP 10.99.0.1>{client}")), "{words}");
    }
}

#[test]
fn the_kernel_gets_its_packets_as_they_came() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 1, &[C100], &[]);
    let syn = Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN).bytes();
    let arp = |to: MacAddr| [&to.0[..], &[2, 0, 0, 0, 0, 0xc0, 8, 6], &[7; 28]].concat();
    let ssh = Frame::tcp((CLIENT, 30_000), (VIP, 22), SYN).bytes();
    let priority = tag(CUSTOMER, 0xa000);
    for (tags, frame, why) in [
        // Of no VLAN interface: of another VLAN, on another kind of tag, with one more tag than is known.
        (&[C200][..], &syn, Reason::NotIp),
        (&[tag(SERVICE, 100)], &syn, Reason::NotIp),
        (&[C100, C200], &syn, Reason::NotIp),
        (&[C100, C100, C100], &syn, Reason::NotIp),
        // Of one: ARP, broadcast or not, and what is for no service.
        (&[tag(CUSTOMER, 0xf064)], &arp(D0), Reason::NotIp),
        (&[C100], &arp(MacAddr([0xff; 6])), Reason::Group),
        (&[C100], &ssh, Reason::NoService),
        // A priority alone, around the port's own and around a VLAN's.
        (&[priority], &ssh, Reason::NoService),
        (&[priority, C100], &ssh, Reason::NoService),
        (&[priority, C100, C200], &ssh, Reason::NotIp),
        (&[], &arp(D0), Reason::NotIp),
    ] {
        let before = reason(&bench, why);
        feed(&bench, 0, 0, tags, frame);
        bench.turn(1);
        assert_eq!(reason(&bench, why), before + 1, "{tags:?} {why:?}");
        assert_eq!(punted(&mut bench), [with_tags(tags, frame)], "{tags:?}");
    }
    // A tag that is cut short is none.
    let short = [&syn[..12], &[0x81, 0, 0, 100]].concat();
    feed(&bench, 0, 0, &[], &short);
    bench.turn(1);
    assert_eq!(punted(&mut bench), [short]);
}

#[test]
fn a_tag_that_tells_but_a_priority_is_none() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[C100], &[]);
    let syn = |port| Frame::tcp((CLIENT, port), (VIP, 80), SYN).bytes();
    feed(&bench, 0, 0, &[tag(CUSTOMER, 0xe000)], &syn(30_000));
    feed(&bench, 0, 0, &[tag(CUSTOMER, 0xe000), C100], &syn(30_001));
    bench.turn(1);
    assert_eq!(sent(&bench, 1).len(), 2);
}

#[test]
fn without_a_vlan_interface_tags_are_not_looked_at() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[], &[]);
    let syn = Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN).bytes();
    feed(&bench, 0, 0, &[tag(CUSTOMER, 0)], &syn);
    bench.turn(1);
    assert_eq!(punted(&mut bench), [with_tags(&[tag(CUSTOMER, 0)], &syn)]);
}

#[test]
fn what_a_nic_took_off_is_put_back_or_used() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 1, &[S7, C100], &[]);
    let syn = Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN).bytes();
    let ssh = Frame::tcp((CLIENT, 30_000), (VIP, 22), SYN).bytes();
    for (off, left, frame, is_ours) in [
        (&[S7][..], &[C100][..], &syn, true),
        (&[S7, C100], &[], &syn, true),
        (&[S7], &[C100], &ssh, false),
        (&[C100], &[], &syn, false),
        (&[C200], &[C100], &syn, false),
    ] {
        let mut packet = BytesPacket::new(&with_tags(left, frame));
        packet.set_tags(director::wire::vlan::Tags::new(off).unwrap());
        bench.wires[0][0].borrow_mut().incoming.push(packet);
        bench.turn(1);
        assert_eq!(sent(&bench, 1).len(), usize::from(is_ours));
        let whole = with_tags(&[off, left].concat(), frame);
        assert_eq!(punted(&mut bench), if is_ours { vec![] } else { vec![whole] });
    }
}

#[test]
fn a_vlan_interface_may_have_an_address_of_its_own() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[C100], &[C200]);
    let (own, other) = (MacAddr([2, 0, 0, 0, 0, 0x64]), MacAddr([2, 0, 0, 0, 0, 0x65]));
    for (link, mac) in [(20, own), (30, other)] {
        bench.world.view.links.get_mut(&IfIndex(link)).unwrap().mac = Some(mac);
    }
    bench.publish();
    let to = |mac| Frame { to: mac, ..Frame::udp((CLIENT, 30_000), (VIP, 53), b"?") }.bytes();
    for mac in [own, D0] {
        feed(&bench, 0, 0, &[C100], &to(mac));
        bench.turn(1);
        let frames = sent(&bench, 1);
        assert_eq!((&frames[0][..6], &frames[0][6..12]), (&server_mac(1).0[..], &other.0[..]));
    }
    // Not on another VLAN, nor without a tag.
    for (tags, mac) in [(&[C100][..], D1), (&[C100], other), (&[], own), (&[tag(CUSTOMER, 0)], own)] {
        feed(&bench, 0, 0, tags, &to(mac));
    }
    bench.turn(1);
    assert_eq!((reason(&bench, Reason::ForeignMac), sent(&bench, 1).len()), (4, 0));
}

#[test]
fn the_mtu_is_the_vlan_interfaces() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 1, &[C100], &[C200]);
    bench.world.view.links.get_mut(&IfIndex(30)).unwrap().mtu = 1200;
    bench.publish();
    for (len, fits) in [(1200, true), (1201, false)] {
        let mut frame = Frame::udp((CLIENT, 30_000), (VIP, 53), &vec![7; len - 28]);
        frame.flags_and_offset = 0x4000;
        feed(&bench, 0, 0, &[C100], &frame.bytes());
        bench.turn(1);
        if fits {
            assert!(only(&bench, 1, &[C200]).contains("len=1200"));
        } else {
            assert!(only(&bench, 0, &[C100]).contains("ICMP 3/4 mtu=1200"));
        }
    }
}

#[test]
fn packets_wait_for_a_neighbour_on_a_vlan_whose_number_changes_meanwhile() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[C100], &[S7, C200]);
    bench.world.view.neighbours.clear();
    bench.publish();
    feed(&bench, 0, 0, &[C100], &Frame::udp((CLIENT, 30_000), (VIP, 53), b"?").bytes());
    bench.turn(2);
    assert_eq!(bench.counters[0].held.get(), 1);
    let wanted = bench.wanted[0].pop().unwrap();
    assert_eq!((wanted.link, wanted.ip), (IfIndex(31), ip("10.0.2.11")));
    // Another one, in front of the others.
    let parent = bench.world.view.links[&DIR1].clone();
    let vlan = Some(VlanLink { parent: DIR1, tag: tag(CUSTOMER, 9) });
    bench.world.view.links.insert(IfIndex(12), Link { vlan, ..parent });
    bench.world.view.neighbours.insert(wanted, server_mac(1));
    bench.publish();
    bench.turn(1);
    assert_eq!(bench.counters[0].held.get(), 0);
    assert!(only(&bench, 1, &[S7, C200]).starts_with("to 02:00:00:00:01:0b IP 10.0.1.1>10.99.0.1"));
}

#[test]
fn tags_go_with_packets_to_other_lcores() {
    let mut bench = tagged_bench(ForwardingMethod::Nat, 2, &[S7, C100], &[C200]);
    for n in 0..20 {
        let (syn, ack) = (Frame::tcp((CLIENT, 30_000 + n), (VIP, 80), SYN), (VIP, 80));
        feed(&bench, 0, 0, &[S7, C100], &syn.bytes());
        // Of no connection: the kernel's, by whichever lcore finds out.
        let stray = Frame::tcp((CLIENT, 40_000 + n), ack, ACK).bytes();
        feed(&bench, usize::from(n % 2), 0, &[S7, C100], &stray);
        bench.turn(3);
        for ring in &mut bench.punted {
            while let Ok(packet) = ring.pop() {
                assert_eq!(packet.bytes(), with_tags(&[S7, C100], &stray));
            }
        }
    }
    assert!(reason(&bench, Reason::OtherLcore) > 10);
    assert_eq!(reason(&bench, Reason::NoConnection), 20);
    let frames = sent(&bench, 1);
    assert_eq!(frames.len(), 20);
    assert!(frames.iter().all(|frame| frame[12..18] == [0x81, 0, 0, 200, 8, 0]));
}

#[test]
fn tagged_fragments_wait_for_their_first_one() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 2, &[C100], &[S7]);
    for n in 0..10u16 {
        for (at, piece) in fragments(30_000 + n, n.into(), &[5, 10]).iter().rev().enumerate() {
            feed(&bench, at % 2, 0, &[C100], piece.bytes());
            bench.turn(3);
        }
    }
    let frames = sent(&bench, 1);
    assert_eq!(frames.len(), 30);
    assert!(frames.iter().all(|frame| frame[12..18] == [0x88, 0xa8, 0, 7, 8, 0]));
}

#[test]
fn a_frame_without_room_for_its_tags_is_lost_by_name() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[], &[S7, C100]);
    for headroom in [7, 8] {
        let frame = Frame::udp((CLIENT, 30_000), (VIP, 53), b"?").bytes();
        let packet = BytesPacket::with_headroom(&frame, headroom);
        bench.wires[0][0].borrow_mut().incoming.push(packet);
        bench.turn(1);
    }
    assert_eq!((reason(&bench, Reason::NoHeadroom), sent(&bench, 1).len()), (1, 1));
    assert_eq!(reason(&bench, Reason::RequestDr), 2);
}

#[test]
fn an_interface_that_goes_down_takes_its_vlan_back_to_the_kernel() {
    let mut bench = tagged_bench(ForwardingMethod::Dr, 1, &[C100], &[C200]);
    let syn = Frame::tcp((CLIENT, 30_000), (VIP, 80), SYN).bytes();
    bench.world.view.links.get_mut(&IfIndex(20)).unwrap().up = false;
    bench.publish();
    feed(&bench, 0, 0, &[C100], &syn);
    bench.turn(1);
    assert_eq!(punted(&mut bench), [with_tags(&[C100], &syn)]);
}
