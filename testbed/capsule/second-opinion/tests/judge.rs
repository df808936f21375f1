//! capsule as a judge: agrees with its own frames, notices damage, and says when not to ask it.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use second_opinion::frame::{Frame, Protocol, any_frame};
use second_opinion::judge::{Checksum, NoOpinion, judge};
use second_opinion::workbench::Workbench;

/// Where the IPv4 header starts.
const IP: usize = 14;

/// Where the transport header starts.
const TRANSPORT: usize = IP + 20;

/// Runs `check` over many frames of both protocols, each with an index to pick a byte by.
fn for_many(check: impl Fn(Frame, prop::sample::Index) -> Result<(), TestCaseError>) {
    let _workbench = Workbench::new();
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let frames = prop_oneof![any_frame(Protocol::Tcp), any_frame(Protocol::Udp)];
    runner.run(&(frames, any::<prop::sample::Index>()), |(frame, index)| check(frame, index)).unwrap();
}

#[test]
fn reads_back_what_the_generator_put_in() {
    for_many(|frame, _| {
        let opinion = judge(&frame.bytes).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
        prop_assert_eq!(opinion.headers, frame.headers);
        prop_assert_eq!(opinion.ip_checksum, Checksum::Right);
        prop_assert_eq!(opinion.transport_checksum, Checksum::Right);
        Ok(())
    });
}

#[test]
fn notices_a_changed_byte_of_the_payload() {
    for_many(|mut frame, index| {
        prop_assume!(frame.headers.payload_len > 0);
        let end = frame.bytes.len() - frame.padding;
        frame.bytes[end - 1 - index.index(frame.headers.payload_len)] ^= 0x10;
        let opinion = judge(&frame.bytes).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
        prop_assert_eq!(opinion.ip_checksum, Checksum::Right);
        prop_assert_eq!(opinion.transport_checksum, Checksum::Wrong);
        Ok(())
    });
}

#[test]
fn notices_a_changed_byte_of_the_addresses() {
    for_many(|mut frame, index| {
        frame.bytes[IP + 12 + index.index(8)] ^= 0x01;
        let opinion = judge(&frame.bytes).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
        prop_assert_eq!(opinion.ip_checksum, Checksum::Wrong);
        prop_assert_eq!(opinion.transport_checksum, Checksum::Wrong);
        Ok(())
    });
}

#[test]
fn does_not_mind_padding() {
    for_many(|mut frame, index| {
        prop_assume!(frame.padding > 0);
        let at = frame.bytes.len() - 1 - index.index(frame.padding);
        frame.bytes[at] ^= 0xff;
        let opinion = judge(&frame.bytes).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
        prop_assert_eq!(opinion.transport_checksum, Checksum::Right);
        Ok(())
    });
}

#[test]
fn has_no_opinion_on_what_it_cannot_judge() {
    for_many(|frame, _| {
        let changed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = frame.bytes.clone();
            change(&mut bytes);
            judge(&bytes)
        };
        prop_assert_eq!(changed(&|b| b[12] = 0x81), Err(NoOpinion::Tagged));
        prop_assert_eq!(changed(&|b| b[IP] = 0x46), Err(NoOpinion::Options));
        prop_assert_eq!(changed(&|b| b[IP] = 0x44), Err(NoOpinion::Length));
        prop_assert_eq!(changed(&|b| b[IP] = 0x65), Err(NoOpinion::OtherProtocol));
        prop_assert_eq!(changed(&|b| b[IP + 9] = 47), Err(NoOpinion::OtherProtocol));
        prop_assert_eq!(changed(&|b| b[IP + 6] |= 0x20), Err(NoOpinion::Fragment));
        prop_assert_eq!(changed(&|b| b[IP + 7] |= 1), Err(NoOpinion::Fragment));
        prop_assert_eq!(changed(&|b| b[IP + 2..IP + 4].fill(0xff)), Err(NoOpinion::Length));
        prop_assert_eq!(changed(&|b| b[IP + 2..IP + 4].copy_from_slice(&[0, 19])), Err(NoOpinion::Length));
        prop_assert_eq!(
            changed(&|b| match frame.headers.protocol {
                Protocol::Tcp => b[TRANSPORT + 12] = 0x40,
                Protocol::Udp => b[TRANSPORT + 4..TRANSPORT + 6].copy_from_slice(&[0, 7]),
            }),
            Err(NoOpinion::Length)
        );
        prop_assert!(matches!(changed(&|b| b[12] = 0x86), Err(NoOpinion::NotParsed(_))));
        prop_assert!(matches!(changed(&|b| b.truncate(TRANSPORT - 1)), Err(NoOpinion::NotParsed(_))));
        prop_assert!(matches!(changed(&Vec::clear), Err(NoOpinion::NotParsed(_))));
        Ok(())
    });
}

#[test]
fn udp_may_leave_its_checksum_out() {
    for_many(|mut frame, _| {
        prop_assume!(frame.headers.protocol == Protocol::Udp);
        frame.bytes[TRANSPORT + 6..TRANSPORT + 8].fill(0);
        let opinion = judge(&frame.bytes).map_err(|no| TestCaseError::fail(format!("{no:?}")))?;
        prop_assert_eq!(opinion.transport_checksum, Checksum::Absent);
        Ok(())
    });
}
