use std::sync::OnceLock;

use super::*;
use crate::model::{ForwardingMethod, RealServer, Scheduler, SchedulerFlags, Thresholds, Tunnel};

const PLAN: Plan = Plan { deadline: Duration::from_secs(600), keep: false, active_only: false };

fn at(seconds: u64) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(seconds)
}

fn key() -> ServiceKey {
    "tcp 10.99.0.1:80".parse().expect("a service")
}

fn server(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 2, number], 8080))
}

fn service(weights: &[(u8, u16)]) -> Service {
    let server = |&(number, weight): &(u8, u16)| RealServer {
        address: server(number),
        method: ForwardingMethod::Nat,
        tunnel: Tunnel::default(),
        weight: Weight(weight),
        thresholds: Thresholds::default(),
    };
    Service {
        key: key(),
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: weights.iter().map(server).collect(),
    }
}

/// Real server 11, whose weight was 3, is drained from second 0 on.
fn drained(plan: Plan) -> Drains {
    let mut drains = Drains::default();
    drains.begin((key(), server(11)), plan, Weight(3), (4, 6), at(0));
    drains
}

fn end(drains: &mut Drains, server: SocketAddr, end: End, now: u64) {
    let drain = drains.take(key(), server).expect("it goes on");
    drains.close(key(), server, drain, end, at(now));
}

fn ends(drains: &Drains, now: u64) -> Vec<Option<End>> {
    drains.list(None, None, at(now), |_| false).drains.iter().map(|drain| drain.ended).collect()
}

#[test]
fn it_ends_with_the_last_connection() {
    let mut drains = drained(PLAN);
    assert_eq!(drains.count(at(1), |_, _| (1, 6)), []);
    assert_eq!(drains.count(at(2), |_, _| (0, 1)), [], "one that is inactive may still be used");
    let due = Due { service: key(), server: server(11), end: End::Drained, keep: false };
    assert_eq!(drains.count(at(3), |_, _| (0, 0)), [due]);
    assert_eq!(drains.count(at(4), |_, _| (0, 0)), [due], "until it is said to have ended");
    let drain = drains.take(key(), server(11)).expect("it went on");
    assert_eq!(drain.weight, Weight(3));
    drains.resume(key(), server(11), drain);
    assert_eq!(drains.count(at(4), |_, _| (0, 0)), [due], "its end could not be carried out");
    end(&mut drains, server(11), End::Drained, 4);
    assert!(drains.is_empty());
    assert_eq!(drains.count(at(5), |_, _| panic!("nobody is drained")), []);
    assert_eq!(ends(&drains, 5), [Some(End::Drained)]);
    assert!(ends(&drains, 5 + 3600).is_empty(), "after an hour it is forgotten");
}

#[test]
fn it_may_wait_for_active_connections_alone() {
    let mut drains = drained(Plan { active_only: true, ..PLAN });
    assert_eq!(drains.count(at(1), |_, _| (1, 6)), []);
    assert_eq!(drains.count(at(2), |_, _| (0, 6))[0].end, End::Drained);
}

#[test]
fn at_its_deadline_it_ends_whatever_is_left_and_says_how_much() {
    let mut drains = drained(Plan { keep: true, ..PLAN });
    assert_eq!(drains.count(at(599), |_, _| (2, 1)), []);
    let due = Due { service: key(), server: server(11), end: End::Deadline, keep: true };
    assert_eq!(drains.count(at(600), |_, _| (2, 1)), [due]);
    end(&mut drains, server(11), End::Deadline, 600);
    let list = drains.list(None, None, at(602), |_| true).drains;
    let [status] = &list[..] else { panic!("one drain: {list:?}") };
    assert_eq!((status.active, status.inactive, status.at_first), (2, 1, 10));
    assert_eq!((status.ended, status.ended_ms, status.estimate_ms), (Some(End::Deadline), Some(2000), None));
    assert!(!status.persistent_clients, "what has ended waits for nobody");
}

#[test]
fn a_second_wish_moves_the_deadline_and_keeps_the_weight_to_give_back() {
    let mut drains = drained(PLAN);
    let sooner = Plan { deadline: Duration::from_secs(60), keep: true, ..PLAN };
    drains.begin((key(), server(11)), sooner, Weight(0), (4, 4), at(100));
    assert_eq!(drains.count(at(159), |_, _| (1, 0)), []);
    let due = drains.count(at(160), |_, _| (1, 0));
    assert_eq!((due[0].end, due[0].keep), (End::Deadline, true));
    let drain = drains.get(key(), server(11)).expect("it goes on until it is ended");
    assert_eq!((drain.weight, drain.begun, drain.at_first), (Weight(3), at(0), (4, 6)));
}

#[test]
fn edits_of_the_model_that_speak_against_it_end_it() {
    let all = [(11, 0), (12, 1)];
    for (what, after, end) in [
        ("weight 0 again", Some(service(&all)), None),
        ("another server's weight", Some(service(&[(11, 0), (12, 7)])), None),
        ("a weight", Some(service(&[(11, 5), (12, 1)])), Some(End::Edited)),
        ("the server deleted", Some(service(&[(12, 1)])), Some(End::Deleted)),
        ("the service deleted", None, Some(End::Deleted)),
    ] {
        let mut drains = drained(PLAN);
        let other = "udp 10.99.0.1:53".parse().expect("a service");
        drains.follow(other, None, at(1));
        drains.follow(key(), after.as_ref(), at(1));
        assert_eq!(ends(&drains, 2), [end], "{what}");
        assert_eq!(drains.is_empty(), end.is_some(), "{what}");
    }
}

#[test]
fn a_real_server_that_is_drained_again_has_one_drain() {
    let mut drains = drained(PLAN);
    end(&mut drains, server(11), End::Cancelled, 1);
    drains.begin((key(), server(11)), PLAN, Weight(2), (1, 0), at(2));
    assert_eq!(ends(&drains, 3), [None]);
    let of = |service, server| drains.list(service, server, at(3), |_| true).drains.len();
    assert_eq!((of(Some(key()), Some(server(11))), of(None, Some(server(12)))), (1, 0));
    assert!(drains.list(None, None, at(3), |_| true).drains[0].persistent_clients);
}

#[test]
fn not_more_than_so_many_ended_ones_are_remembered() {
    let mut drains = Drains::default();
    for port in 1..=MOST as u16 + 5 {
        let address = SocketAddr::from(([10, 0, 2, 11], port));
        drains.begin((key(), address), PLAN, Weight(1), (0, 0), at(0));
        end(&mut drains, address, End::Drained, 0);
    }
    assert_eq!(ends(&drains, 1).len(), MOST);
}
