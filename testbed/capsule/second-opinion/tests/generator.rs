//! What the generator says of a frame is what is in it, read without capsule.

#[allow(dead_code)]
mod by_hand;

use std::net::{Ipv4Addr, SocketAddrV4};

use by_hand::{IP, TRANSPORT, word};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use second_opinion::frame::{Frame, Protocol, any_frame, frame_to};
use second_opinion::workbench::Workbench;

/// Runs `check` over many frames. The runner is made by hand because a pool must be on the thread first.
fn for_many(strategy: impl Strategy<Value = Frame>, check: impl Fn(&Frame) -> Result<(), TestCaseError>) {
    let _workbench = Workbench::new();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    runner.run(&strategy, |frame| check(&frame)).unwrap();
}

fn agrees_with_bytes(frame: &Frame) -> Result<(), TestCaseError> {
    let (bytes, headers) = (&frame.bytes, &frame.headers);
    prop_assert_eq!(&bytes[..6], &headers.destination_mac[..]);
    prop_assert_eq!(&bytes[6..12], &headers.source_mac[..]);
    prop_assert_eq!(word(bytes, 12), 0x0800);
    prop_assert_eq!(bytes[IP], 0x45);
    prop_assert_eq!(word(bytes, IP + 6) & 0x3fff, 0, "a fragment");
    prop_assert_eq!(bytes[IP + 8], headers.ttl);
    let address = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    prop_assert_eq!(SocketAddrV4::new(address(IP + 12), word(bytes, TRANSPORT)), headers.source);
    prop_assert_eq!(SocketAddrV4::new(address(IP + 16), word(bytes, TRANSPORT + 2)), headers.destination);
    let number = match headers.protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => {
            prop_assert_eq!(usize::from(word(bytes, TRANSPORT + 4)), 8 + headers.payload_len);
            prop_assert_ne!(word(bytes, TRANSPORT + 6), 0, "capsule left the checksum out");
            17
        }
    };
    prop_assert_eq!(bytes[IP + 9], number);
    prop_assert_eq!(by_hand::payload(bytes).len(), headers.payload_len);
    prop_assert_eq!(IP + by_hand::ip_len(bytes) + frame.padding, bytes.len());
    prop_assert!(by_hand::ip_checksum_right(bytes), "IPv4 checksum");
    prop_assert!(by_hand::transport_checksum_right(bytes), "transport checksum");
    Ok(())
}

#[test]
fn tcp_frames_hold_what_is_said_of_them() {
    for_many(any_frame(Protocol::Tcp), agrees_with_bytes);
}

#[test]
fn udp_frames_hold_what_is_said_of_them() {
    for_many(any_frame(Protocol::Udp), agrees_with_bytes);
}

#[test]
fn frames_go_to_the_destination_asked_for() {
    let service = "10.99.0.1:80".parse().unwrap();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for_many(frame_to(protocol, service), |frame| {
            prop_assert_eq!(frame.headers.destination, service);
            prop_assert_eq!(frame.headers.ttl, 64);
            agrees_with_bytes(frame)
        });
    }
}
