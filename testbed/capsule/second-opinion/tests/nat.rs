//! The NAT rewrite on capsule: in memory, and through the ports of `capsule-nat`.

#[allow(dead_code)]
mod by_hand;

use std::net::SocketAddrV4;
use std::process::Command;

use capsule::Mbuf;
use capsule::packets::ip::v4::Ipv4;
use capsule::packets::{Ethernet, Packet};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use second_opinion::frame::{Frame, Protocol, any_frame, bytes_of, frame_to};
use second_opinion::judge::{Checksum, judge};
use second_opinion::nat::{Plan, RealServer};
use second_opinion::pcap;
use second_opinion::workbench::Workbench;

/// What `capsule-nat` balances, and what the plan here does.
const SERVICE: &str = "10.99.0.1:80";

fn plan() -> Plan {
    let real_servers = [("10.0.2.11:8080", 11), ("10.0.2.12:80", 12), ("10.0.2.13:1", 13)]
        .map(|(address, n)| RealServer { address: address.parse().unwrap(), mac: [2, 0, 0, 0, 2, n] });
    Plan { service: SERVICE.parse().unwrap(), real_servers: real_servers.into(), own_mac: [2, 0, 0, 0, 0, 2] }
}

/// What capsule makes of `bytes`.
fn rewrite(plan: &Plan, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let ip = Mbuf::from_bytes(bytes)?.parse::<Ethernet>()?.parse::<Ipv4>()?;
    bytes_of(&plan.rewrite(ip)?)
}

/// `after` is `before`, without its padding, sent on to one of `to` from `own_mac`.
fn is_sent_on(
    before: &Frame,
    after: &[u8],
    to: &[RealServer],
    own_mac: [u8; 6],
) -> Result<(), TestCaseError> {
    let opinion = judge(after).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
    prop_assert_eq!(opinion.ip_checksum, Checksum::Right);
    prop_assert_eq!(opinion.transport_checksum, Checksum::Right);
    prop_assert!(by_hand::ip_checksum_right(after));
    prop_assert!(by_hand::transport_checksum_right(after));
    let (was, is) = (before.headers, opinion.headers);
    let server = to.iter().find(|server| server.address == is.destination);
    let server = server.ok_or_else(|| TestCaseError::fail(format!("sent to {}", is.destination)))?;
    prop_assert_eq!(is.destination_mac, server.mac);
    prop_assert_eq!(is.source_mac, own_mac);
    prop_assert_eq!((is.source, is.protocol, is.ttl), (was.source, was.protocol, was.ttl - 1));
    prop_assert_eq!(by_hand::payload(after), by_hand::payload(&before.bytes));
    Ok(())
}

/// Frames as Ethernet delivers them if nothing had to be padded: capsule rewrites others wrongly, as
/// `known_defects` shows.
fn unpadded(protocol: Protocol, to: SocketAddrV4) -> impl Strategy<Value = Frame> {
    frame_to(protocol, to).prop_map(|mut frame| {
        frame.bytes.truncate(frame.bytes.len() - frame.padding);
        frame.padding = 0;
        frame
    })
}

/// Frames of both protocols to the service.
fn to_the_service() -> impl Strategy<Value = Frame> {
    let service = SERVICE.parse().unwrap();
    prop_oneof![unpadded(Protocol::Tcp, service), unpadded(Protocol::Udp, service)]
}

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
}

#[test]
fn a_packet_to_the_service_is_sent_on_to_a_real_server() {
    let (_workbench, plan) = (Workbench::new(), plan());
    runner()
        .run(&to_the_service(), |frame| {
            let after =
                rewrite(&plan, &frame.bytes).map_err(|error| TestCaseError::fail(error.to_string()))?;
            is_sent_on(&frame, &after, &plan.real_servers, plan.own_mac)
        })
        .unwrap();
}

#[test]
fn what_is_not_for_the_service_is_not_sent_on() {
    let (_workbench, plan) = (Workbench::new(), plan());
    let others = prop_oneof![
        any_frame(Protocol::Tcp),
        frame_to(Protocol::Udp, "10.99.0.1:81".parse().unwrap()),
        frame_to(Protocol::Tcp, "10.99.0.2:80".parse().unwrap()),
    ];
    runner()
        .run(&others, |frame| {
            prop_assume!(frame.headers.destination != plan.service);
            prop_assert!(rewrite(&plan, &frame.bytes).is_err());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_packet_without_ttl_left_is_not_sent_on() {
    let (_workbench, plan) = (Workbench::new(), plan());
    runner()
        .run(&to_the_service(), |mut frame| {
            for ttl in [0, 1] {
                frame.bytes[by_hand::IP + 8] = ttl;
                prop_assert!(rewrite(&plan, &frame.bytes).is_err());
            }
            Ok(())
        })
        .unwrap();
}

/// The benchmark peer does the work it is timed for: a capture in, a capture out.
#[test]
fn the_pipeline_sends_on_every_packet_of_a_capture() {
    let frames = {
        let _workbench = Workbench::new();
        vec(to_the_service(), 200).new_tree(&mut runner()).unwrap().current()
    };
    let scratch = tempfile::tempdir().unwrap();
    let (input, output) = (scratch.path().join("in.pcap"), scratch.path().join("out.pcap"));
    // A packet that is not for the service, in the middle, must not come out.
    let mut stray = frames[0].bytes.clone();
    stray[by_hand::IP + 19] ^= 0xff;
    let (first, second) = frames.split_at(100);
    let written = first.iter().map(|f| &f.bytes).chain([&stray]).chain(second.iter().map(|f| &f.bytes));
    pcap::write(std::fs::File::create(&input).unwrap(), written.map(Vec::as_slice)).unwrap();

    let run = Command::new(env!("CARGO_BIN_EXE_capsule-nat"))
        .args(["--seconds", "1", "--input"])
        .arg(&input)
        .arg("--output")
        .arg(&output)
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));

    let sent = pcap::read(&std::fs::read(&output).unwrap()).unwrap();
    assert_eq!(sent.len(), frames.len());
    let real_servers: Vec<_> = (11..15)
        .map(|n| RealServer { address: format!("10.0.2.{n}:8080").parse().unwrap(), mac: [2, 0, 0, 0, 2, n] })
        .collect();
    let _workbench = Workbench::new();
    for (before, after) in frames.iter().zip(&sent) {
        is_sent_on(before, after, &real_servers, [2, 0, 0, 0, 0, 2]).unwrap();
    }
}
