use std::sync::Arc;

use super::*;
use crate::health::{Check, Kind, Passive};
use crate::model::{
    Edit, ForwardingMethod, Limits, Model, RealServer, Scheduler, SchedulerFlags, Thresholds,
};
use crate::model::{Tunnel, Weight};

fn key() -> ServiceKey {
    "tcp 10.99.0.1:80".parse().expect("a service")
}

fn address(number: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 2, number], 80))
}

fn server(number: u8) -> RealServer {
    RealServer {
        address: address(number),
        method: ForwardingMethod::Nat,
        tunnel: Tunnel::default(),
        weight: Weight(1),
        thresholds: Thresholds::default(),
    }
}

fn service(numbers: &[u8]) -> Arc<Service> {
    Arc::new(Service {
        key: key(),
        scheduler: Scheduler::Wrr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: numbers.iter().map(|number| server(*number)).collect(),
    })
}

fn board() -> Board {
    let policy = Policy { checks: vec![Arc::new(Check::new(Kind::Tcp))], ..Policy::default() };
    Board::new([(key(), Arc::new(policy))].into(), None)
}

fn down(id: u64) -> Report {
    Report { id, up: false, why: Some("refused".to_owned()) }
}

#[test]
fn a_service_without_checks_is_left_alone() {
    let mut board = Board::default();
    let service = service(&[1]);
    let compiled = board.follow(key(), Some(&service), Instant::now()).expect("it is there");
    assert!(Arc::ptr_eq(&compiled, &service));
    assert!(board.list(false, Instant::now()).health.is_empty());
    assert_eq!(board.standing(key(), address(1)), None);
}

#[test]
fn news_make_a_service_stale_and_its_weights_others() {
    let (mut board, now) = (board(), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    assert_eq!(board.stale(now), []);
    board.record(&down(2), now);
    assert_eq!(board.stale(now), [key()]);
    assert_eq!(board.stale(now), [], "once");
    let compiled = board.follow(key(), Some(&service), now).expect("it is there");
    assert_eq!(compiled.servers.iter().map(|server| server.weight.0).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(board.standing(key(), address(2)), Some(Standing::Inhibited));
    board.put_back([key()]);
    assert_eq!(board.stale(now), [key()]);
}

#[test]
fn who_comes_is_checked_and_who_goes_no_longer() {
    let (mut board, now) = (board(), Instant::now());
    board.follow(key(), Some(&service(&[1])), now);
    board.follow(key(), Some(&service(&[1, 2])), now);
    assert_eq!(board.about.len(), 2);
    board.record(&down(2), now);
    board.follow(key(), Some(&service(&[2])), now);
    assert_eq!((board.about.len(), board.standing(key(), address(2))), (1, Some(Standing::Inhibited)));
    board.record(&down(1), now);
    assert_eq!(board.stale(now), [key()], "of real server 2 alone, since nobody asks about 1 any more");
    // One that comes back begins anew.
    board.follow(key(), Some(&service(&[1])), now);
    board.follow(key(), Some(&service(&[1, 2])), now);
    assert_eq!(board.standing(key(), address(2)), Some(Standing::In));
    board.follow(key(), None, now);
    assert!(board.about.is_empty() && board.pools.is_empty());
    board.follow(key(), Some(&service(&[1])), now);
    assert_eq!(board.about.len(), 1, "a service that comes back has its checks again");
}

#[test]
fn edits_of_an_operator_are_not_lost() {
    let (mut board, now, limits) = (board(), Instant::now(), Limits::default());
    let mut model = Model::new([Service::clone(&service(&[1, 2]))], &limits).expect("valid");
    board.follow(key(), model.services().get(&key()), now);
    board.record(&down(1), now);
    let edit = Edit::EditServer {
        service: key(),
        address: address(1),
        weight: Some(Weight(9)),
        method: None,
        tunnel: None,
        upper_threshold: None,
        lower_threshold: None,
    };
    let change = model.change(&edit, &limits).expect("allowed");
    let compiled = board.follow(key(), change.service.as_ref(), now).expect("it is there");
    model.make(change);
    assert_eq!(compiled.servers[0].weight, Weight(0));
    board.record(&Report { id: 1, up: true, why: None }, now);
    let compiled = board.follow(key(), model.services().get(&key()), now).expect("it is there");
    assert_eq!(compiled.servers[0].weight, Weight(9));
}

fn check(interval: u64) -> Arc<Check> {
    Arc::new(Check { interval: std::time::Duration::from_secs(interval), ..Check::new(Kind::Tcp) })
}

/// A policy with these checks.
fn policies(checks: &[Arc<Check>]) -> BTreeMap<ServiceKey, Arc<Policy>> {
    let policy = Policy { checks: checks.to_vec(), ..Policy::default() };
    [(key(), Arc::new(policy))].into()
}

fn weights(board: &mut Board, service: &Arc<Service>, now: Instant) -> Vec<u16> {
    let compiled = board.follow(key(), Some(service), now).expect("it is there");
    compiled.servers.iter().map(|server| server.weight.0).collect()
}

#[test]
fn other_checks_neither_take_out_nor_take_back() {
    let (mut board, now) = (Board::new(policies(&[check(1)]), None), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    board.record(&down(2), now);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    board.adopt(policies(&[check(2)]), now);
    assert_eq!(weights(&mut board, &service, now), [1, 0], "nobody knows of the second one yet");
    board.record(&down(1), now);
    assert_eq!(weights(&mut board, &service, now), [1, 0], "news of checks that are made no longer");
    // The new ones have the numbers that follow.
    board.record(&Report { id: 4, up: true, why: None }, now);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
    board.record(&down(3), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1]);
}

#[test]
fn a_check_that_stays_goes_on_and_a_new_one_starts_down_if_it_says_so() {
    let (mut board, now) = (Board::new(policies(&[check(1)]), None), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    let careful = Arc::new(Check { start_up: false, ..Check::new(Kind::Icmp) });
    board.adopt(policies(&[careful, check(1)]), now);
    assert_eq!(weights(&mut board, &service, now), [0, 0]);
    for id in [3, 4] {
        board.record(&Report { id, up: true, why: None }, now);
    }
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
    board.record(&down(2), now);
    assert_eq!(
        weights(&mut board, &service, now),
        [1, 0],
        "the old check of the second one has its number yet"
    );
    // What keeps it down is still asked; the new one is not to blame.
    board.adopt(policies(&[check(1), check(7)]), now);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    board.record(&Report { id: 2, up: true, why: None }, now);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
}

#[test]
fn policies_come_and_go() {
    let (mut board, now) = (Board::default(), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    board.adopt(policies(&[check(1)]), now);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
    board.record(&down(1), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1]);
    board.adopt(policies(&[check(1)]), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1], "equal ones change nothing");
    let quorum = Policy { checks: vec![check(1)], quorum: 2, ..Policy::default() };
    board.adopt([(key(), Arc::new(quorum))].into(), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1]);
    assert!(!board.list(false, now).health[0].has_quorum);
    board.adopt(BTreeMap::new(), now);
    let compiled = board.follow(key(), Some(&service), now).expect("it is there");
    assert!(Arc::ptr_eq(&compiled, &service), "without checks it is as configured");
    assert!(board.list(false, now).health.is_empty() && board.stale(now).is_empty());
}

/// A policy with these checks that are made, and a passive one that three unanswered connections fail for 30 seconds.
fn listening(checks: &[Arc<Check>]) -> BTreeMap<ServiceKey, Arc<Policy>> {
    let passive = Some(Passive { unanswered: 3, ..Passive::default() });
    [(key(), Arc::new(Policy { checks: checks.to_vec(), passive, ..Policy::default() }))].into()
}

fn silent(unanswered: u32) -> Signs {
    Signs { unanswered, answered: 0 }
}

const HOLD: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn who_answers_nobody_is_out_for_its_hold_without_a_check_that_is_made() {
    let (mut board, now) = (Board::new(listening(&[]), None), Instant::now());
    let service = service(&[1, 2]);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
    assert_eq!(board.heard().collect::<Vec<_>>(), [(key(), address(1)), (key(), address(2))]);
    assert_eq!(board.standing(key(), address(1)), Some(Standing::In), "it is looked after");
    board.hear(key(), address(2), silent(2), now);
    assert_eq!(board.stale(now), []);
    board.hear(key(), address(2), silent(1), now);
    board.hear(key(), address(1), Signs { unanswered: 9, answered: 1 }, now);
    assert_eq!(board.stale(now), [key()]);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    let shown = board.list(true, now);
    let [server] = &shown.health[0].servers[..] else { panic!("one fails: {shown:?}") };
    let [check] = &server.checks[..] else { panic!("one check: {server:?}") };
    assert_eq!(check.check, "passive 3 unanswered in 10 s");
    assert_eq!(check.error.as_deref(), Some("3 connections unanswered, and none answered since"));
    assert_eq!((check.up, check.last, check.passed, check.failed), (false, Some(false), 0, 3));
    // Time alone brings it back.
    board.hear(key(), address(2), Signs::default(), now + HOLD / 2);
    assert_eq!(board.stale(now + HOLD / 2), []);
    board.hear(key(), address(2), Signs::default(), now + HOLD);
    assert_eq!(board.stale(now + HOLD), [key()]);
    assert_eq!(weights(&mut board, &service, now + HOLD), [1, 1]);
    // Who goes is listened to no longer, nor is what is said of him afterwards heard.
    board.follow(key(), Some(&self::service(&[1])), now);
    assert_eq!(board.heard().count(), 1);
    board.hear(key(), address(2), silent(9), now);
    assert_eq!(board.stale(now), []);
}

#[test]
fn checks_that_are_made_and_passive_ones_must_both_pass() {
    let (mut board, now) = (Board::new(listening(&[check(1)]), None), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    board.hear(key(), address(1), silent(3), now);
    board.record(&down(1), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1]);
    board.hear(key(), address(1), Signs::default(), now + HOLD);
    assert_eq!(weights(&mut board, &service, now), [0, 1], "what is asked of it still fails");
    board.record(&Report { id: 1, up: true, why: None }, now);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
}

#[test]
fn passive_checks_take_out_no_more_than_the_policy_lets_them() {
    let passive = Some(Passive { unanswered: 3, ..Passive::default() });
    let policy = Policy { passive, max_out: 50, quorum: 2, ..Policy::default() };
    let (mut board, now) = (Board::new([(key(), Arc::new(policy))].into(), None), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    board.hear(key(), address(2), silent(3), now);
    board.hear(key(), address(1), silent(3), now + HOLD / 30);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    assert_eq!(board.standing(key(), address(1)), Some(Standing::Held));
    assert!(!board.list(false, now).health[0].has_quorum);
}

#[test]
fn passive_checks_come_and_go_with_policies_and_take_nobody_back() {
    let (mut board, now) = (Board::new(policies(&[check(1)]), None), Instant::now());
    let service = service(&[1, 2]);
    board.follow(key(), Some(&service), now);
    assert_eq!(board.heard().count(), 0);
    board.adopt(listening(&[check(1)]), now);
    assert_eq!((weights(&mut board, &service, now), board.heard().count()), (vec![1, 1], 2));
    // What is known by a passive one stays, whatever else changes, its own numbers included.
    board.hear(key(), address(2), silent(3), now);
    let other = Passive { unanswered: 1, window: HOLD, hold: HOLD * 2 };
    let policy = Policy { checks: vec![check(1), check(2)], passive: Some(other), ..Policy::default() };
    board.adopt([(key(), Arc::new(policy))].into(), now);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    board.hear(key(), address(2), Signs::default(), now + HOLD);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    board.hear(key(), address(2), Signs::default(), now + HOLD * 2);
    assert_eq!(weights(&mut board, &service, now), [1, 1], "the new check was not to blame");
    // Without it nothing else is wrong.
    board.hear(key(), address(2), silent(1), now + HOLD * 2);
    assert_eq!(weights(&mut board, &service, now), [1, 0]);
    board.adopt(policies(&[check(1)]), now);
    assert_eq!((weights(&mut board, &service, now), board.heard().count()), (vec![1, 1], 0));
    // In the place of a check that failed it holds who was down.
    board.record(&down(1), now);
    board.adopt(listening(&[]), now);
    assert_eq!(weights(&mut board, &service, now), [0, 1]);
    board.hear(key(), address(1), Signs::default(), now + HOLD);
    assert_eq!(weights(&mut board, &service, now), [1, 1]);
    board.adopt(BTreeMap::new(), now);
    assert_eq!(board.heard().count(), 0);
}
