//! Wireshark reads what the director sends: every header form that it writes or rewrites, without one complaint.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Thresholds,
    Weight,
};
use director::forward::pieces::cut;
use director::packet::{BytesPacket, PacketBuf as _};
use director::pipeline::Action;
use director::time::Tick;
use testbed::bench::capture;
use testbed::bottle::Bottle;
use testbed::error::{Context as _, Result};
use testbed::oracle::network;
use testbed::oracle::packet::{ICMP, ICMPV6, Packet, SCTP, TCP, UDP};
use testbed::{ensure, fail};

/// What Wireshark is to look at, beyond what it looks at by itself.
const CHECKS: [&str; 6] = [
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "sctp.checksum:CRC-32C",
    // GUE over IPv6 may do without (RFC 6935).
    "udp.ignore_ipv6_zero_checksum:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
];
/// What it says of a frame that is not sound. Of a quote by ICMPv6 that is cut short it sums up what there is, and finds
/// that wrong: there, only the error's own checksum counts.
const COMPLAINTS: &str = "_ws.malformed || ip.checksum.status == \"Bad\" || icmp.checksum.status == \"Bad\" || \
                          icmpv6.checksum.status == \"Bad\" || gre.checksum.status == \"Bad\" || \
                          (!(icmpv6.type == 2) && (_ws.expert.group == \"Checksum\" || \
                          _ws.expert.group == \"Malformed\" || _ws.expert.severity == \"Error\" || \
                          tcp.checksum.status == \"Bad\" || udp.checksum.status == \"Bad\" || \
                          sctp.checksum.status == \"Bad\"))";
const MTU: u16 = 1500;

/// How a real server is reached: method, tunnel, whether it is of the other version of IP than the service.
const WAYS: [(ForwardingMethod, &str, bool); 12] = [
    (ForwardingMethod::Nat, "ipip", false),
    (ForwardingMethod::Dr, "ipip", false),
    (ForwardingMethod::Tunnel, "ipip", false),
    (ForwardingMethod::Tunnel, "ipip", true),
    (ForwardingMethod::Tunnel, "gre", false),
    (ForwardingMethod::Tunnel, "gre", true),
    (ForwardingMethod::Tunnel, "gre:csum", false),
    (ForwardingMethod::Tunnel, "gre:csum", true),
    (ForwardingMethod::Tunnel, "gue:6080", false),
    (ForwardingMethod::Tunnel, "gue:6080", true),
    (ForwardingMethod::Tunnel, "gue:6080:csum", false),
    (ForwardingMethod::Tunnel, "gue:6080:csum", true),
];

const PROTOCOLS: [(Protocol, u8); 3] = [(Protocol::Tcp, TCP), (Protocol::Udp, UDP), (Protocol::Sctp, SCTP)];

fn port(way: usize) -> u16 {
    7000 + way as u16
}

fn service(protocol: Protocol, v6: bool, way: usize) -> Service {
    let (method, tunnel, is_other) = WAYS[way];
    let server_port = if method == ForwardingMethod::Nat { 8000 + way as u16 } else { port(way) };
    let server = RealServer {
        address: SocketAddr::new(network::server(1, v6 != is_other), server_port),
        method,
        tunnel: tunnel.parse().expect("a tunnel"),
        weight: Weight(1),
        thresholds: Thresholds::default(),
    };
    Service {
        key: ServiceKey::Address { protocol, address: SocketAddr::new(network::vip(1, v6), port(way)) },
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: vec![server],
    }
}

/// A packet from a client's or a real server's port to another one, with its checksum right.
fn packet(protocol: u8, from: SocketAddr, to: SocketAddr, body: &[u8]) -> Packet {
    let mut packet = Packet::between(from.ip(), to.ip(), protocol);
    let side = if from.ip() == network::server(1, from.is_ipv6()) { 2 } else { 1 };
    packet.stations[..6].copy_from_slice(&network::DIRECTOR[side - 1]);
    packet.payload = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    packet.payload.extend(body);
    packet.sum_up();
    packet
}

fn tcp(flags: u8, data: usize) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0x20, 0, 0, 0, 0, 0];
    body.resize(body.len() + data, b'x');
    body
}

fn udp(data: usize) -> Vec<u8> {
    let mut body = (8 + data as u16).to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.resize(body.len() + data, 0xfe);
    body
}

/// INIT: tag, window, streams, sequence number (RFC 9260 §3.3.2).
fn init() -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend([1, 0, 0, 20, 1, 2, 3, 4, 0, 1, 0, 0, 0, 5, 0, 5, 0, 0, 0, 1]);
    body
}

/// The first packets of a connection, and one that must be cut where that may be.
fn requests(protocol: u8, client: SocketAddr, vip: SocketAddr) -> Vec<Packet> {
    let bodies = match protocol {
        TCP => vec![tcp(2, 0), tcp(0x18, 101), tcp(0x18, 1438)],
        UDP => vec![udp(7), udp(0), udp(1449)],
        _ => vec![init()],
    };
    let mut packets: Vec<Packet> = bodies.iter().map(|body| packet(protocol, client, vip, body)).collect();
    packets.push({
        let mut expired = packets[0].clone();
        expired.ttl = 1;
        expired
    });
    if protocol == UDP {
        packets.extend(packet(UDP, client, vip, &udp(3001)).cut(&[1400, 2800], 0x4242));
        if client.is_ipv4() {
            let mut without = packet(UDP, client, vip, &udp(33));
            without.set_word(6, 0);
            packets.push(without);
        }
    }
    packets
}

/// An error about a reply, from a router on the way to the client, which quotes no more than it must: the checksum of
/// a quoted packet stays as it was, as IPVS leaves it.
fn error_about(reply: &Packet, v6: bool) -> Packet {
    let mut error = Packet::between(network::client(9, v6), reply.source, if v6 { ICMPV6 } else { ICMP });
    error.stations[..6].copy_from_slice(&network::DIRECTOR[0]);
    error.payload = if v6 { vec![2, 0, 0, 0, 0, 0, 5, 0] } else { vec![3, 4, 0, 0, 0, 0, 5, 0] };
    let header_len = if v6 { 40 } else { 20 };
    error.payload.extend(reply.ip().iter().take(header_len + 8));
    error.sum_up();
    error
}

/// Everything that leaves because of these packets.
fn sent(bottle: &mut Bottle, now: Tick, side: u8, packet: &Packet) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for (verdict, frame) in bottle.send(0, side, &packet.frame(), now) {
        match verdict.action {
            Action::Forward(_) => frames.push(frame),
            Action::Cut(_) => {
                let whole = BytesPacket::new(&frame);
                cut(&whole, MTU, 0x77, |piece| frames.push(piece.bytes().to_vec())).expect("it can be cut");
            }
            other => panic!(
                "{other:?}, {:?}: protocol {} from {} to {}",
                verdict.reason, packet.protocol, packet.source, packet.destination
            ),
        }
    }
    frames
}

/// What the director sends of every header form.
fn frames() -> Vec<Vec<u8>> {
    let now = Tick(1000);
    let mut frames = Vec::new();
    for v6 in [false, true] {
        for (protocol, number) in PROTOCOLS {
            for way in 0..WAYS.len() {
                // Each on its own, since errors are limited to so many a second.
                let mut bottle = Bottle::new(1, 100, now);
                let service = service(protocol, v6, way);
                let (key, server) = (service.key, service.servers[0]);
                let virtual_address = SocketAddr::new(key.ip(), key.port());
                bottle.services.insert(key, Arc::new(service));
                bottle.publish();
                let client = SocketAddr::new(network::client(1, v6), 40_000);
                for request in requests(number, client, virtual_address) {
                    frames.extend(sent(&mut bottle, now, 0, &request));
                }
                let replied_by =
                    if server.method == ForwardingMethod::Nat { server.address } else { virtual_address };
                let body = match number {
                    TCP => tcp(0x12, 0),
                    UDP => udp(11),
                    _ => init(),
                };
                let reply = packet(number, replied_by, client, &body);
                if server.method == ForwardingMethod::Nat {
                    frames.extend(sent(&mut bottle, now, 1, &reply));
                }
                let seen = packet(number, virtual_address, client, &body);
                frames.extend(sent(&mut bottle, now, 0, &error_about(&seen, v6)));
            }
        }
    }
    frames
}

/// What is in frames of GUE, which this Wireshark takes for data: frames of their own.
fn inside_gue(frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let inside = |frame: &Vec<u8>| {
        let (header_len, is_whole) = match frame[14] >> 4 {
            4 => (20, frame[23] == UDP && frame[20] & 0x3f == 0 && frame[21] == 0),
            _ => (40, frame[20] == UDP),
        };
        let gue = 14 + header_len + 8;
        let is_gue = is_whole && frame[gue - 6..gue - 4] == 6080u16.to_be_bytes();
        let ether_type = if *frame.get(gue + 1)? == 4 { [8, 0] } else { [0x86, 0xdd] };
        is_gue.then(|| [&frame[..12], &ether_type, &frame[gue + 4..]].concat())
    };
    frames.iter().filter_map(inside).collect()
}

/// Lines of `tshark` about a capture.
fn tshark(path: &Path, what: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(path);
    CHECKS.iter().for_each(|check| {
        command.args(["-o", check]);
    });
    let output = command.args(what).output().context(|| "cannot run tshark: install the package tshark")?;
    if !output.status.success() {
        fail!("tshark: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

#[test]
fn wireshark_has_no_complaint_about_anything_that_leaves() -> Result<()> {
    let directory = tempfile::tempdir().context(|| "no directory")?;
    let path = directory.path().join("sent.pcap");
    let mut frames = frames();
    let inside_gue = inside_gue(&frames);
    ensure!(inside_gue.len() > 50, "{} frames of GUE", inside_gue.len());
    frames.extend(inside_gue);
    capture::write_frames(&path, frames.iter().cloned())?;
    let complaints = tshark(&path, &["-Y", COMPLAINTS])?;
    ensure!(complaints.is_empty(), "{} of {} frames: {complaints:#?}", complaints.len(), frames.len());
    let stacks: BTreeSet<String> =
        tshark(&path, &["-T", "fields", "-e", "frame.protocols"])?.into_iter().collect();
    for inner in ["ip:tcp", "ip:udp", "ip:sctp", "ipv6:tcp", "ipv6:udp", "ipv6:sctp"] {
        for outer in ["ip", "ipv6"] {
            for between in ["", ":gre"] {
                let stack = format!(":{outer}{between}:{inner}");
                ensure!(stacks.iter().any(|seen| seen.contains(&stack)), "no frame is {stack}: {stacks:#?}");
            }
        }
    }
    Ok(())
}

/// The test before says something only if Wireshark would have complained.
#[test]
fn wireshark_complains_of_what_is_damaged() -> Result<()> {
    let directory = tempfile::tempdir().context(|| "no directory")?;
    let frames = frames();
    let damaged = |at: fn(&[u8]) -> usize| {
        frames.iter().filter(|frame| frame.len() > 60).map(move |frame| {
            let mut frame = frame.clone();
            let at = at(&frame);
            frame[at] ^= 0x11;
            frame
        })
    };
    let path = directory.path().join("damaged.pcap");
    // The TTL's place is summed up by every IPv4 header; the last byte by whatever is inside it.
    capture::write_frames(&path, damaged(|_| 22).filter(|frame| frame[14] >> 4 == 4))?;
    let all = tshark(&path, &[])?.len();
    ensure!(tshark(&path, &["-Y", COMPLAINTS])?.len() == all, "some of {all} damaged headers pass");
    capture::write_frames(&path, damaged(|frame| frame.len() - 1))?;
    let (complaints, all) = (tshark(&path, &["-Y", COMPLAINTS])?.len(), tshark(&path, &[])?.len());
    ensure!(complaints * 2 > all, "{complaints} of {all} damaged ends are told");
    Ok(())
}
