//! Director's core and capsule on the same frames: they read alike and rewrite alike.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use capsule::Mbuf;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet};
use director::forward::nat;
use director::wire::{Error, Ipv4Frame, Parsed, Side, Transport, ethernet, ipv4, parse};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use second_opinion::frame::{Frame, Headers, Protocol, any_frame, bytes_of, frame_to};
use second_opinion::judge::{Checksum, NoOpinion, Opinion, judge};
use second_opinion::nat::{Plan, RealServer};
use second_opinion::workbench::Workbench;

/// Ethernet, IPv4 and TCP headers: what a parser looks at.
const HEADERS: usize = 54;

/// Protocol number of SCTP, which capsule does not know.
const SCTP: u8 = 132;

/// Protocol numbers of ESP and AH, which carry nothing to read.
const IPSEC: [u8; 2] = [50, 51];

/// Where the UDP checksum is in a frame.
const UDP_CHECKSUM: usize = 40;

/// Runs `check` on many values. By hand, as a pool must be on the thread before a frame is drawn.
fn for_many<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let _workbench = Workbench::new();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config).run(&strategy, check).unwrap();
}

/// Frames of both protocols.
fn frames() -> impl Strategy<Value = Frame> {
    prop_oneof![any_frame(Protocol::Tcp), any_frame(Protocol::Udp)]
}

/// Frames of both protocols that a NAT director sends on, and the real server to send them to.
fn requests() -> impl Strategy<Value = (Frame, RealServer)> {
    let service = service();
    let frames = prop_oneof![frame_to(Protocol::Tcp, service), frame_to(Protocol::Udp, service)];
    let server = any::<(u32, u16, [u8; 6])>().prop_map(|(address, port, mac)| RealServer {
        address: SocketAddrV4::new(address.into(), port),
        mac,
    });
    (frames, server)
}

/// What [`requests`] go to.
fn service() -> SocketAddrV4 {
    "10.99.0.1:80".parse().unwrap()
}

/// The packet Director sees in a frame that is one.
fn director_reads(bytes: &[u8]) -> Result<Ipv4Frame, TestCaseError> {
    let mut packet = Ipv4Frame::NONE;
    match parse(bytes, &mut packet) {
        Ok(Parsed::Ipv4) => Ok(packet),
        other => Err(TestCaseError::fail(format!("Director says {other:?}"))),
    }
}

/// capsule's opinion of a frame that it has one of.
fn capsule_reads(bytes: &[u8]) -> Result<Opinion, TestCaseError> {
    judge(bytes).map_err(|no| TestCaseError::fail(format!("capsule says {no:?}")))
}

/// Director found in a frame what capsule (or its generator) says is there.
fn reads_alike(packet: &Ipv4Frame, headers: &Headers) -> Result<(), TestCaseError> {
    prop_assert_eq!(packet.source, *headers.source.ip());
    prop_assert_eq!(packet.destination, *headers.destination.ip());
    let (source, destination) = (packet.source_port(), packet.destination_port());
    let protocol = match packet.transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
        other => return Err(TestCaseError::fail(format!("Director says {other:?}"))),
    };
    prop_assert_eq!(protocol, headers.protocol);
    prop_assert_eq!((source, destination), (headers.source.port(), headers.destination.port()));
    prop_assert_eq!(packet.header_len, 20);
    Ok(())
}

#[test]
fn every_frame_of_capsules_is_read_as_capsule_meant_it() {
    for_many(512, frames(), |frame| {
        let packet = director_reads(&frame.bytes)?;
        reads_alike(&packet, &frame.headers)?;
        prop_assert_eq!(packet.end(), frame.bytes.len() - frame.padding);
        Ok(())
    });
}

/// Bytes of the headers to overwrite, more often such that decide what the rest is taken for.
fn damage() -> impl Strategy<Value = Vec<(usize, u8)>> {
    let deciding = prop_oneof![
        Just((12, 0x81)),                                                      // EtherType: a tag
        (Just(14), 0x30..=0x5fu8),                                             // version and header length
        (16..18usize, any::<u8>()),                                            // total length
        (Just(17), 20..80u8),       // the same, near the truth for small packets
        (20..22usize, any::<u8>()), // fragment
        (Just(23), prop_oneof![Just(1), Just(SCTP), Just(IPSEC[0]), 4..20u8]), // protocol
        (Just(46), any::<u8>()),    // TCP data offset
        (38..40usize, any::<u8>()), // UDP length
    ];
    vec(prop_oneof![deciding, (0..HEADERS, any::<u8>())], 1..4)
}

/// What Director takes a packet of this protocol for, if that is not `other`.
fn opaque(protocol: u8, other: Transport) -> Transport {
    if IPSEC.contains(&protocol) { Transport::Ipsec } else { other }
}

/// Headers damaged, the frame perhaps cut short: what capsule can say of the result, Director says too,
/// and what capsule refuses for a reason, Director sorts under the same.
#[test]
fn damaged_frames_are_read_alike() {
    let cut = proptest::option::weighted(0.1, 0..HEADERS);
    let seen = RefCell::new(BTreeMap::<_, u32>::new());
    for_many(20_000, (frames(), damage(), cut), |(frame, writes, cut)| {
        let mut bytes = frame.bytes;
        for (at, value) in writes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(cut.unwrap_or(usize::MAX));
        let director = parse(&bytes, &mut Ipv4Frame::NONE);
        let refused = |director| match director {
            Err(_) => Ok(()),
            Ok(packet) => Err(TestCaseError::fail(format!("Director says {packet:?}"))),
        };
        let kind = match judge(&bytes) {
            Ok(opinion) => {
                reads_alike(&director_reads(&bytes)?, &opinion.headers)?;
                "read"
            }
            Err(NoOpinion::Length) => {
                refused(director)?;
                "length"
            }
            Err(NoOpinion::Fragment) => {
                // Fragments of what no director balances are the kernel's, like all of it.
                let balanced = matches!(bytes[14 + 9], 6 | 17 | SCTP);
                // Some of them cut a header in two, or are of no length that a fragment has.
                if !balanced {
                    prop_assert_eq!(
                        director_reads(&bytes)?.transport,
                        opaque(bytes[14 + 9], Transport::Other)
                    );
                } else if !matches!(director, Err(Error::BadFragment | Error::BadSctpHeader)) {
                    let is_first = bytes[14 + 6] & 0x1f == 0 && bytes[14 + 7] == 0;
                    let expected = if is_first { Transport::FirstFragment } else { Transport::LaterFragment };
                    prop_assert_eq!(director_reads(&bytes)?.transport, expected);
                }
                "fragment"
            }
            Err(NoOpinion::Tagged) => {
                prop_assert_eq!(director, Ok(Parsed::Other));
                "tagged"
            }
            Err(NoOpinion::OtherProtocol) if bytes[14] >> 4 != 4 => {
                refused(director)?;
                "version"
            }
            // capsule knows nothing of SCTP.
            Err(NoOpinion::OtherProtocol) if bytes[14 + 9] == SCTP => {
                if director != Err(Error::BadSctpHeader) {
                    prop_assert_eq!(director_reads(&bytes)?.transport, Transport::Sctp);
                }
                "protocol"
            }
            Err(NoOpinion::OtherProtocol) => {
                let transparent = if bytes[14 + 9] == 1 { Transport::Icmp } else { Transport::Other };
                let expected = opaque(bytes[14 + 9], transparent);
                prop_assert_eq!(director_reads(&bytes)?.transport, expected);
                "protocol"
            }
            // capsule cannot read on; that Director knows where the options end is all there is to say.
            Err(NoOpinion::Options) => {
                if director.is_ok() {
                    let packet = director_reads(&bytes)?;
                    prop_assert_eq!(packet.header_len, u16::from(bytes[14] & 0xf) * 4);
                    prop_assert!(packet.end() <= bytes.len());
                }
                "options"
            }
            Err(NoOpinion::NotParsed(_)) => {
                let packet = matches!(director, Ok(Parsed::Ipv4));
                prop_assert!(!packet, "capsule refuses what Director takes for {director:?}");
                "not parsed"
            }
        };
        *seen.borrow_mut().entry(kind).or_default() += 1;
        Ok(())
    });
    let seen = seen.into_inner();
    assert!(seen.len() == 8 && seen.values().all(|n| *n > 50), "too one-sided to say anything: {seen:?}");
}

/// Director's NAT, from parsing to the Ethernet header, as its pipeline does it.
fn director_sends_on(bytes: &mut [u8], server: &RealServer, own_mac: [u8; 6]) -> Result<(), TestCaseError> {
    let packet = director_reads(bytes)?;
    ipv4::decrement_ttl(&mut bytes[ethernet::HEADER_LEN..]);
    nat::rewrite(bytes, &packet, Side::Destination, *server.address.ip(), server.address.port());
    let mut addresses = [0; 12];
    addresses[..6].copy_from_slice(&server.mac);
    addresses[6..].copy_from_slice(&own_mac);
    ethernet::write_header(bytes, &addresses, ethernet::IPV4);
    Ok(())
}

/// Director mends checksums by what changed, capsule computes them anew: the bytes are the same.
#[test]
fn nat_gives_the_same_bytes() {
    for_many(1024, requests(), |(mut frame, server)| {
        // Padding is where capsule goes wrong.
        frame.bytes.truncate(frame.bytes.len() - frame.padding);
        let plan = Plan { service: service(), real_servers: vec![server], own_mac: [2, 0, 0, 0, 0, 2] };
        let by_capsule = Mbuf::from_bytes(&frame.bytes)
            .and_then(|mbuf| mbuf.parse::<Ethernet>()?.parse::<Ipv4>())
            .and_then(|ip| bytes_of(&plan.rewrite(ip)?))
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        director_sends_on(&mut frame.bytes, &server, plan.own_mac)?;
        prop_assert_eq!(&frame.bytes[..], &by_capsule[..]);
        Ok(())
    });
}

#[test]
fn nat_leaves_padding_alone_and_checksums_right() {
    for_many(512, requests(), |(frame, server)| {
        let mut after = frame.bytes.clone();
        director_sends_on(&mut after, &server, [2; 6])?;
        let opinion = capsule_reads(&after)?;
        prop_assert_eq!(
            (opinion.ip_checksum, opinion.transport_checksum),
            (Checksum::Right, Checksum::Right)
        );
        let expected = Headers {
            source_mac: [2; 6],
            destination_mac: server.mac,
            destination: server.address,
            ttl: frame.headers.ttl - 1,
            ..frame.headers
        };
        prop_assert_eq!(opinion.headers, expected);
        let tail = after.len() - frame.padding - frame.headers.payload_len;
        prop_assert_eq!(&after[tail..], &frame.bytes[tail..]);
        Ok(())
    });
}

#[test]
fn nat_of_replies_leaves_checksums_right() {
    for_many(512, (frames(), any::<(u32, u16)>()), |(frame, (address, port))| {
        let mut after = frame.bytes.clone();
        let packet = director_reads(&after)?;
        nat::rewrite(&mut after, &packet, Side::Source, address.into(), port);
        let opinion = capsule_reads(&after)?;
        prop_assert_eq!(
            (opinion.ip_checksum, opinion.transport_checksum),
            (Checksum::Right, Checksum::Right)
        );
        let source = SocketAddrV4::new(address.into(), port);
        prop_assert_eq!(opinion.headers, Headers { source, ..frame.headers });
        Ok(())
    });
}

/// A packet damaged before the director must not look sound behind it.
#[test]
fn nat_does_not_hide_damage() {
    for_many(512, (requests(), any::<Index>()), |((mut frame, server), at)| {
        prop_assume!(frame.headers.payload_len > 0);
        let end = frame.bytes.len() - frame.padding;
        frame.bytes[end - 1 - at.index(frame.headers.payload_len)] ^= 0x40;
        director_sends_on(&mut frame.bytes, &server, [2; 6])?;
        let opinion = capsule_reads(&frame.bytes)?;
        prop_assert_eq!(
            (opinion.ip_checksum, opinion.transport_checksum),
            (Checksum::Right, Checksum::Wrong)
        );
        Ok(())
    });
}

#[test]
fn nat_gives_a_right_checksum_to_udp_without_one() {
    for_many(512, requests(), |(mut frame, server)| {
        prop_assume!(frame.headers.protocol == Protocol::Udp);
        frame.bytes[UDP_CHECKSUM..UDP_CHECKSUM + 2].fill(0);
        director_sends_on(&mut frame.bytes, &server, [2; 6])?;
        prop_assert_eq!(capsule_reads(&frame.bytes)?.transport_checksum, Checksum::Right);
        Ok(())
    });
}
