//! The kernel room against a real kernel. Each test runs itself again in a network namespace of its
//! own, which goes with the process, however that ends. Needs root.
#![allow(missing_docs, reason = "tests")]

use std::net::UdpSocket;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Thresholds,
    Tunnel, Weight,
};
use director::id::{IfIndex, PortId};
use director::kernel::ingress::IngressGuard;
use director::kernel::mirror::Mirror;
use director::kernel::netlink::Netlink;
use director::kernel::slow_path::{MirroredPort, SlowPath};
use director::nexthop::{KernelView, MacAddr, Neighbour, NextHops, PortLink, VlanLink};
use director::packet::{BytesPacket, PacketBuf, PacketPool};
use director::wire::vlan::{CUSTOMER, SERVICE, Tag, Tags};

const INSIDE: &str = "DIRECTOR_TEST_NAMESPACE";

/// Runs `body` in a fresh network namespace with `lo` up.
fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        body();
        return;
    }
    let output = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (package util-linux) runs");
    let words =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // A name that fits no test would succeed too.
    assert!(
        output.status.success() && words.contains("1 passed"),
        "{test} failed in its namespace:\n{words}"
    );
}

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(arguments: &str) -> String {
    shell(&format!("ip {arguments}"))
}

/// Another namespace, held by a process that ends with this value, at the other end of a veth.
struct Peer(Child);

impl Peer {
    fn new() -> Peer {
        let child = Command::new("unshare").args(["--net", "--", "sleep", "60"]).spawn().unwrap();
        let peer = Peer(child);
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let theirs = format!("/proc/{}/ns/net", peer.0.id());
        wait("the other namespace", || std::fs::read_link(&theirs).is_ok_and(|ns| ns != own));
        ip(&format!("link add veth0 type veth peer name veth1 netns {}", peer.0.id()));
        ip("address add 10.0.0.1/24 dev veth0");
        ip("link set veth0 up");
        peer.run("ip address add 10.0.0.2/24 dev veth1 && ip link set veth1 up");
        peer
    }

    fn run(&self, command: &str) -> String {
        shell(&format!("nsenter --net=/proc/{}/ns/net -- sh -c '{command}'", self.0.id()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits until the view is as it should be.
async fn until(netlink: &Netlink, what: &str, is: impl Fn(&KernelView) -> bool) -> Arc<KernelView> {
    let mut view = netlink.view();
    let waited = tokio::time::timeout(Duration::from_secs(10), view.wait_for(|view| is(view))).await;
    waited.unwrap_or_else(|_| panic!("waited in vain for {what}")).unwrap().clone()
}

fn index(view: &KernelView, name: &str) -> Option<IfIndex> {
    view.links.iter().find(|(_, link)| link.name == name).map(|(index, _)| *index)
}

#[test]
fn the_view_follows_links_addresses_routes_and_neighbours() {
    in_namespace("the_view_follows_links_addresses_routes_and_neighbours", || {
        runtime().block_on(async {
            let netlink = Netlink::start().await.unwrap();
            ip("link add d0 type bridge");
            let view = until(&netlink, "the link", |v| index(v, "d0").is_some()).await;
            let d0 = index(&view, "d0").unwrap();
            assert!(!view.links[&d0].up);
            ip("link set d0 address 02:00:00:00:00:07 mtu 1400 up");
            until(&netlink, "its address, MTU and state", |v| {
                let link = &v.links[&d0];
                link.mac == Some(MacAddr([2, 0, 0, 0, 0, 7])) && link.mtu == 1400 && link.up
            })
            .await;
            ip("address add 10.1.0.1/24 dev d0");
            until(&netlink, "the address and its route", |v| {
                v.addresses
                    .iter()
                    .any(|a| a.link == d0 && a.ip.to_string() == "10.1.0.1" && a.prefix_len == 24)
                    && v.routes
                        .iter()
                        .any(|r| r.link == d0 && r.network.to_string() == "10.1.0.0" && r.prefix_len == 24)
            })
            .await;
            ip("route add default via 10.1.0.254 dev d0 metric 7 mtu 1300");
            ip("route add 10.7.0.0/16 nexthop via 10.1.0.3 dev d0 nexthop via 10.1.0.4 dev d0");
            let view = until(&netlink, "two more routes", |v| {
                v.routes.iter().filter(|r| r.gateway.is_some()).count() == 2
            })
            .await;
            let default = view.routes.iter().find(|r| r.prefix_len == 0).unwrap();
            assert_eq!((default.metric, default.mtu), (7, Some(1300)));
            assert_eq!(default.gateway, Some("10.1.0.254".parse().unwrap()));
            assert!(
                view.routes.iter().any(|r| r.gateway == Some("10.1.0.3".parse().unwrap())),
                "of several the first"
            );
            ip("neighbour add 10.1.0.9 lladdr 02:00:00:00:00:09 dev d0");
            let nine = Neighbour { link: d0, ip: "10.1.0.9".parse().unwrap() };
            until(&netlink, "the neighbour", |v| {
                v.neighbours.get(&nine) == Some(&MacAddr([2, 0, 0, 0, 0, 9]))
            })
            .await;
            // It is the operator's: asked for by us, the kernel would forget that, and look for nobody.
            netlink.resolve(nine).await;
            ip("neighbour get 10.1.0.9 dev d0");
            let known = Command::new("ip").args(["neighbour", "show", "nud", "permanent"]).output();
            let known = String::from_utf8(known.unwrap().stdout).unwrap();
            assert!(known.contains("10.1.0.9 dev d0"), "{known}");
            ip("neighbour del 10.1.0.9 dev d0");
            until(&netlink, "its end", |v| !v.neighbours.contains_key(&nine)).await;
            ip("link del d0");
            until(&netlink, "the end of everything", |v| !v.links.contains_key(&d0) && v.routes.is_empty())
                .await;
        });
    });
}

/// Whether this kernel has VLAN interfaces (`CONFIG_VLAN_8021Q`); without them there is nothing to be tested.
fn has_vlans() -> bool {
    let made = Command::new("sh")
        .args(["-c", "ip link add link d0 name v0 type vlan id 1 && ip link del v0"])
        .output();
    let has = made.is_ok_and(|output| output.status.success());
    if !has {
        eprintln!("this kernel has no VLAN interfaces: not tested");
    }
    has
}

#[test]
fn the_view_knows_what_a_vlan_interface_is_on() {
    in_namespace("the_view_knows_what_a_vlan_interface_is_on", || {
        runtime().block_on(async {
            let netlink = Netlink::start().await.unwrap();
            ip("link add d0 type bridge");
            ip("link set d0 up");
            if !has_vlans() {
                return;
            }
            ip("link add link d0 name d0.7 type vlan id 7 protocol 802.1ad");
            ip("link add link d0.7 name d0.7.100 type vlan id 100");
            ip("link set d0.7 up");
            ip("link set d0.7.100 mtu 1400 up");
            let view = until(&netlink, "both", |v| {
                index(v, "d0.7.100").is_some_and(|inner| v.links[&inner].up && v.links[&inner].mtu == 1400)
            })
            .await;
            let at = |name: &str| index(&view, name).unwrap();
            let on = |parent, tpid, tci| Some(VlanLink { parent: at(parent), tag: Tag { tpid, tci } });
            assert_eq!(view.links[&at("d0")].vlan, None);
            assert_eq!(view.links[&at("d0.7")].vlan, on("d0", SERVICE, 7));
            assert_eq!(view.links[&at("d0.7.100")].vlan, on("d0.7", CUSTOMER, 100));
            let port = [PortLink { link: at("d0"), port: PortId(0) }];
            let hops = NextHops::build(view.clone(), &port);
            let tags = [(SERVICE, 7), (CUSTOMER, 100)].map(|(tpid, tci)| Tag { tpid, tci });
            let found = hops.vlans().find(PortId(0), Tags::new(&tags).unwrap()).unwrap();
            assert_eq!(Some(found.mac), view.links[&at("d0.7.100")].mac);
            // One that another namespace has is nothing here, though it is on an interface of ours.
            let other = Command::new("unshare").args(["--net", "--", "sleep", "60"]).spawn().unwrap();
            let mut other = Peer(other);
            let theirs = format!("/proc/{}/ns/net", other.0.id());
            let own = std::fs::read_link("/proc/self/ns/net").unwrap();
            wait("the other namespace", || std::fs::read_link(&theirs).is_ok_and(|ns| ns != own));
            ip(&format!("link set d0.7.100 netns {}", other.0.id()));
            until(&netlink, "its end here", |v| index(v, "d0.7.100").is_none()).await;
            other.run("ip link show d0.7.100");
            other.0.kill().unwrap();
        });
    });
}

#[test]
fn the_view_survives_more_events_than_a_socket_holds() {
    in_namespace("the_view_survives_more_events_than_a_socket_holds", || {
        runtime().block_on(async {
            let netlink = Netlink::start().await.unwrap();
            ip("link add d0 type bridge");
            ip("link set d0 up");
            let route = |n: u32| format!("10.{}.{}.0/24 dev d0", n / 250, n % 250);
            let batch: String = (0..5000)
                .map(|n| format!("route add {}\n", route(n)))
                .chain((0..4990).map(|n| format!("route del {}\n", route(n))))
                .collect();
            // Nobody reads the socket while this runs: the runtime's only thread is here.
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), batch).unwrap();
            ip(&format!("-batch {}", file.path().display()));
            let view = until(&netlink, "the ten routes that are left", |v| {
                v.routes.iter().filter(|r| r.network.is_ipv4()).count() == 10
            })
            .await;
            assert!(view.routes.iter().all(|r| r.network.is_ipv6() || r.prefix_len == 24));
        });
    });
}

#[test]
fn a_neighbour_is_found_when_asked_for_and_followed_when_it_moves() {
    in_namespace("a_neighbour_is_found_when_asked_for_and_followed_when_it_moves", || {
        runtime().block_on(async {
            let peer = Peer::new();
            let netlink = Netlink::start().await.unwrap();
            let view =
                until(&netlink, "the link", |v| index(v, "veth0").is_some_and(|i| v.links[&i].up)).await;
            let two = Neighbour { link: index(&view, "veth0").unwrap(), ip: "10.0.0.2".parse().unwrap() };
            assert!(!view.neighbours.contains_key(&two));
            netlink.resolve(two).await;
            let view = until(&netlink, "the neighbour", |v| v.neighbours.contains_key(&two)).await;
            let before = view.neighbours[&two];
            peer.run("ip link set veth1 address 02:00:00:00:00:99");
            // Asking again makes the kernel probe, and see that it has moved.
            let moved = MacAddr([2, 0, 0, 0, 0, 0x99]);
            assert_ne!(before, moved);
            ip("neighbour change 10.0.0.2 dev veth0 nud stale");
            let deadline = Instant::now() + Duration::from_secs(20);
            while netlink.view().borrow().neighbours.get(&two) != Some(&moved) {
                assert!(Instant::now() < deadline, "the move was not noticed");
                netlink.resolve(two).await;
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    });
}

#[test]
fn a_mirror_is_made_or_attached_to_and_says_why_it_cannot() {
    in_namespace("a_mirror_is_made_or_attached_to_and_says_why_it_cannot", || {
        let exists =
            |name: &str| Command::new("ip").args(["link", "show", name]).output().unwrap().status.success();
        let mac = MacAddr([2, 0, 0, 0, 0, 0x42]);
        let mirror = Mirror::open("dir0", 1400, Some(mac)).unwrap();
        assert_eq!(mirror.mac(), mac);
        let shown = ip("link show dir0");
        assert!(
            shown.contains("mtu 1400") && shown.contains("02:00:00:00:00:42") && shown.contains("UP"),
            "{shown}"
        );
        let busy = Mirror::open("dir0", 1500, None).err().unwrap().to_string();
        assert!(busy.contains("dir0") && busy.contains("another process is attached"), "{busy}");
        drop(mirror);
        assert!(!exists("dir0"), "it goes with its director");

        ip("tuntap add dir1 mode tap");
        ip("address add 10.9.0.1/24 dev dir1");
        drop(Mirror::open("dir1", 1500, None).unwrap());
        assert!(
            ip("address show dir1").contains("10.9.0.1/24"),
            "what was there before stays, with its addresses"
        );

        ip("link add br0 type bridge");
        let other = Mirror::open("br0", 1500, None).err().unwrap().to_string();
        assert!(other.contains("br0") && other.contains("no TAP"), "{other}");
    });
}

struct Heap;

impl PacketPool for Heap {
    type Packet = BytesPacket;

    fn alloc(&mut self, len: usize) -> Option<BytesPacket> {
        (len <= 1514).then(|| BytesPacket::new(&vec![0; len]))
    }
}

/// An ICMP echo request from 10.0.1.1 to 10.0.1.254, checksums right.
fn ping(to: MacAddr) -> Vec<u8> {
    let mut frame = to.0.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 8, 0]);
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0x63, 0xe0, 10, 0, 1, 1, 10, 0, 1, 254]);
    frame.extend([8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let sum: u32 = frame[14..34].chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(p[1])).sum();
    let missing = 0xffff - (sum % 0xffff);
    let checksum = (u32::from(frame[24]) << 8 | u32::from(frame[25])) + missing;
    frame[24..26].copy_from_slice(&((checksum % 0xffff) as u16).to_be_bytes());
    frame
}

#[test]
fn the_slow_path_moves_frames_both_ways_and_names_what_it_loses() {
    in_namespace("the_slow_path_moves_frames_both_ways_and_names_what_it_loses", || {
        shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        let mirror = Mirror::open("dir0", 1500, None).unwrap();
        let mac = mirror.mac();
        ip("address add 10.0.1.254/24 dev dir0");
        ip("neighbour add 10.0.1.1 lladdr 02:00:00:00:00:01 dev dir0");
        let (mut give, to_kernel) = rtrb::RingBuffer::new(64);
        let (from_kernel, mut take) = rtrb::RingBuffer::new(4);
        let port = MirroredPort { mirror, to_kernel: vec![to_kernel], from_kernel };
        let slow_path = SlowPath::spawn(vec![port], Heap, || ()).unwrap();
        let counters = slow_path.counters().clone();
        let read = |name: &str| counters.read()[name];

        give.push(BytesPacket::new(&ping(mac))).unwrap();
        wait("the kernel's echo reply", || !take.is_empty());
        let reply: BytesPacket = take.pop().unwrap();
        assert_eq!(reply.bytes()[..6], [2, 0, 0, 0, 0, 1]);
        assert_eq!(reply.bytes()[34], 0, "an echo reply");
        assert_eq!((read("taken"), read("to_kernel"), read("to_lcore")), (1, 1, 1));

        // Nobody takes the answers: the ring of four is full, and the rest is lost by name.
        for _ in 0..20 {
            give.push(BytesPacket::new(&ping(mac))).unwrap();
        }
        wait("the rest to be lost", || read("from_kernel") == 21);
        assert_eq!((read("to_lcore"), read("ring_full")), (5, 16));

        ip("link set dir0 down");
        for _ in 0..10 {
            give.push(BytesPacket::new(&ping(mac))).unwrap();
        }
        wait("the lost ones", || read("mirror_down") == 10);
        assert_eq!(read("taken"), read("to_kernel") + read("mirror_full") + read("mirror_down"));
        drop(slow_path);
    });
}

#[test]
fn frames_from_the_kernel_have_whole_checksums() {
    in_namespace("frames_from_the_kernel_have_whole_checksums", || {
        shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        let mirror = Mirror::open("dir0", 1500, None).unwrap();
        ip("address add 10.0.1.254/24 dev dir0");
        ip("neighbour add 10.0.1.1 lladdr 02:00:00:00:00:01 dev dir0");
        let socket = UdpSocket::bind("10.0.1.254:0").unwrap();
        socket.send_to(&[7; 1000], "10.0.1.1:9").unwrap();
        let mut frame = [0; 2048];
        let mut len = 0;
        wait("the datagram", || {
            len = mirror.take(&mut frame).unwrap_or(0);
            len > 1000
        });
        let udp = &frame[34..len];
        let pseudo: u64 = [0x0a00u64, 0x01fe, 0x0a00, 0x0101, 17, udp.len() as u64].iter().sum();
        assert_ne!(udp[6..8], [0, 0]);
        assert_eq!(director::wire::checksum::sum(udp, pseudo), 0xffff, "not merely the pseudo header's sum");
    });
}

#[test]
fn the_guard_keeps_a_service_from_the_kernel_and_gives_it_back() {
    in_namespace("the_guard_keeps_a_service_from_the_kernel_and_gives_it_back", || {
        let peer = Peer::new();
        let socket = UdpSocket::bind("10.0.0.1:53").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let arrives = || {
            peer.run("echo x | socat -u - UDP4-SENDTO:10.0.0.1:53");
            socket.recv(&mut [0; 16]).is_ok()
        };
        assert!(arrives());
        let service = Service {
            key: ServiceKey::Address { protocol: Protocol::Udp, address: "10.0.0.1:53".parse().unwrap() },
            scheduler: Scheduler::Rr,
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            servers: vec![RealServer {
                address: "10.0.0.2:5353".parse().unwrap(),
                method: ForwardingMethod::Nat,
                weight: Weight(1),
                tunnel: Tunnel::default(),
                thresholds: Thresholds::default(),
            }],
        };
        let mut guard = IngressGuard::new(vec![(0, "veth0".into())], Vec::new(), &[21]).unwrap();
        assert!(arrives(), "nothing is guarded yet");
        guard.update([&service].into_iter()).unwrap();
        assert!(!arrives());
        // A director that died left its table; the next one replaces it.
        std::mem::forget(guard);
        let mut guard = IngressGuard::new(vec![(0, "veth0".into())], Vec::new(), &[21]).unwrap();
        assert!(arrives());
        guard.update([&service].into_iter()).unwrap();
        assert!(!arrives());
        drop(guard);
        assert!(arrives());
        assert_eq!(shell("nft list tables"), "");
    });
}
