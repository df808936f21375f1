//! Several lcores: a connection lives on one of them, whatever queue its packets come by.

use control::model::{ForwardingMethod, Protocol, Scheduler};
use director::pipeline::{Action, Arrival};
use director::stats::Reason;
use proptest::prelude::*;

use crate::frames::{ACK, Frame, SYN, describe};
use crate::world::{CLIENT_SIDE, SERVER_SIDE, Shape, World, service};

fn world(lcores: usize) -> World {
    World::shaped(
        vec![
            service(Protocol::Tcp, "10.99.0.1:80", Scheduler::Rr, ForwardingMethod::Nat, 8080, &[1, 1, 1]),
            service(Protocol::Udp, "10.99.0.1:53", Scheduler::Rr, ForwardingMethod::Dr, 53, &[1, 1, 1]),
        ],
        Shape { lcores, capacity: 1000, ..Shape::default() },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whichever lcores the two directions of a connection arrive on, they meet on one.
    #[test]
    fn request_and_reply_meet_on_one_lcore(lcores in 2usize..5, at in 0usize..4, back in 0usize..4, port in 1024u16..) {
        let mut world = world(lcores);
        let (at, back) = (at % lcores, back % lcores);
        let request = Frame::tcp(("10.0.1.1", port), ("10.99.0.1", 80), SYN).bytes();
        let mut outcome = world.send_to_lcore(at, Arrival::Port(CLIENT_SIDE), &request);
        let owner = match outcome.verdict.action {
            Action::HandOver(owner) => {
                prop_assert_eq!(&outcome.frame, &request, "unchanged until its owner has it");
                outcome = world.send_to_lcore(usize::from(owner.0), Arrival::Ring, &request);
                usize::from(owner.0)
            }
            _ => at,
        };
        prop_assert_eq!(outcome.verdict.reason, Reason::RequestNat);
        let server = describe(&outcome.frame).split('>').nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let reply = Frame::tcp((&server, 8080), ("10.0.1.1", port), SYN | ACK).by_server().bytes();
        let mut outcome = world.send_to_lcore(back, Arrival::Port(SERVER_SIDE), &reply);
        if let Action::HandOver(to) = outcome.verdict.action {
            prop_assert_eq!(usize::from(to.0), owner);
            outcome = world.send_to_lcore(owner, Arrival::Ring, &reply);
        } else {
            prop_assert_eq!(back, owner);
        }
        prop_assert_eq!(outcome.verdict.reason, Reason::ReplyNat);
        for (n, pipeline) in world.pipelines.iter().enumerate() {
            prop_assert_eq!(pipeline.tables().len(), usize::from(n == owner));
        }
    }
}

#[test]
fn what_is_not_balanced_stays_where_it_came() {
    let mut world = world(4);
    for port in 0..64 {
        let other = Frame::tcp(("10.0.1.1", 30_000 + port), ("10.99.0.1", 81), SYN).bytes();
        assert_eq!(world.send(CLIENT_SIDE, &other).verdict.action, Action::Punt);
        let from_server = Frame::tcp(("10.0.2.11", 22), ("10.0.1.1", 30_000 + port), ACK).by_server().bytes();
        assert_eq!(world.send(SERVER_SIDE, &from_server).verdict.action, Action::Punt);
    }
}

#[test]
fn round_robin_is_one_round_over_all_lcores() {
    let mut world = world(4);
    let mut count = std::collections::HashMap::new();
    for port in 0..300u16 {
        let frame = Frame::udp(("10.0.1.1", 30_000 + port), ("10.99.0.1", 53), b"?").bytes();
        let mut outcome = world.send(CLIENT_SIDE, &frame);
        if let Action::HandOver(owner) = outcome.verdict.action {
            outcome = world.send_to_lcore(usize::from(owner.0), Arrival::Ring, &frame);
        }
        *count.entry(outcome.frame[..6].to_vec()).or_insert(0) += 1;
    }
    assert_eq!(count.into_values().collect::<Vec<_>>(), [100, 100, 100]);
    assert!(world.pipelines.iter().all(|p| p.tables().len() > 40));
}
