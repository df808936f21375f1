use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::health::{Check, Kind};
use crate::model::{ForwardingMethod, Scheduler, SchedulerFlags, Thresholds, Tunnel};

fn at(milliseconds: u64) -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_millis(milliseconds)
}

fn server(number: u8, weight: u16) -> RealServer {
    RealServer {
        address: SocketAddr::from(([10, 0, 2, number], 80)),
        method: ForwardingMethod::Nat,
        tunnel: Tunnel::default(),
        weight: Weight(weight),
        thresholds: Thresholds::default(),
    }
}

fn service(weights: &[u16]) -> Arc<Service> {
    Arc::new(Service {
        key: "tcp 10.99.0.1:80".parse().expect("a service"),
        scheduler: Scheduler::Wrr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: weights.iter().zip(1..).map(|(weight, number)| server(number, *weight)).collect(),
    })
}

fn policy() -> Policy {
    Policy { checks: vec![Arc::new(Check::new(Kind::Tcp))], ..Policy::default() }
}

fn pool(policy: Policy, service: &Service) -> Pool {
    let mut pool = Pool::new(Arc::new(policy));
    pool.follow(service, at(0));
    pool.judge(service, at(0));
    pool
}

/// Lets the only check of a real server change.
fn turn(pool: &mut Pool, service: &Service, number: u8, up: bool, milliseconds: u64) -> bool {
    pool.record(server(number, 1).address, 0, up, at(milliseconds));
    pool.judge(service, at(milliseconds))
}

/// The weights that are compiled, by the last byte of the address.
fn weights(pool: &Pool, service: &Arc<Service>) -> Vec<(u8, u16)> {
    let last_byte = |server: &RealServer| match server.address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 0,
    };
    pool.effective(service).servers.iter().map(|server| (last_byte(server), server.weight.0)).collect()
}

#[test]
fn a_service_in_good_health_is_compiled_as_it_is() {
    let service = service(&[1, 5]);
    let pool = pool(policy(), &service);
    assert!(Arc::ptr_eq(&pool.effective(&service), &service));
    assert!(pool.has_quorum() && pool.live_weight() == 6);
}

#[test]
fn who_fails_is_inhibited_and_has_its_weight_again_afterwards() {
    let service = service(&[1, 5]);
    let mut pool = pool(policy(), &service);
    assert!(turn(&mut pool, &service, 2, false, 10));
    assert_eq!(weights(&pool, &service), [(1, 1), (2, 0)]);
    assert!(!turn(&mut pool, &service, 2, false, 20), "nothing new");
    assert!(turn(&mut pool, &service, 2, true, 30));
    assert!(Arc::ptr_eq(&pool.effective(&service), &service));
}

#[test]
fn who_fails_is_removed_where_that_is_wanted() {
    let service = service(&[1, 5]);
    let mut pool = pool(Policy { on_failure: OnFailure::Remove, ..policy() }, &service);
    turn(&mut pool, &service, 1, false, 10);
    assert_eq!(weights(&pool, &service), [(2, 5)]);
}

#[test]
fn an_edit_of_the_weight_counts_when_the_real_server_is_back() {
    let before = service(&[1, 5]);
    let mut pool = pool(policy(), &before);
    turn(&mut pool, &before, 2, false, 10);
    let after = service(&[1, 7]);
    pool.follow(&after, at(20));
    pool.judge(&after, at(20));
    assert_eq!(weights(&pool, &after), [(1, 1), (2, 0)]);
    turn(&mut pool, &after, 2, true, 30);
    assert_eq!(weights(&pool, &after), [(1, 1), (2, 7)]);
}

#[test]
fn all_checks_must_pass() {
    let service = service(&[1]);
    let checks = vec![Arc::new(Check::new(Kind::Tcp)), Arc::new(Check::new(Kind::Icmp))];
    let mut pool = pool(Policy { checks, ..policy() }, &service);
    let address = service.servers[0].address;
    assert_eq!(pool.record(address, 0, false, at(1)), Some(false));
    assert_eq!(pool.record(address, 1, false, at(2)), None);
    assert_eq!(pool.record(address, 0, true, at(3)), None);
    assert_eq!(pool.record(address, 1, true, at(4)), Some(true));
    assert_eq!(pool.record(address, 2, true, at(5)), None, "there is no such check");
}

#[test]
fn a_check_that_starts_down_keeps_a_new_real_server_out() {
    let check = Check { start_up: false, ..Check::new(Kind::Tcp) };
    let service = service(&[3]);
    let mut pool = pool(Policy { checks: vec![Arc::new(check)], ..policy() }, &service);
    assert_eq!(weights(&pool, &service), [(1, 0)]);
    turn(&mut pool, &service, 1, true, 10);
    assert_eq!(weights(&pool, &service), [(1, 3)]);
}

#[test]
fn a_real_server_with_checks_of_its_own_has_no_others() {
    let service = service(&[1, 1]);
    let own = [(service.servers[1].address, Vec::new())].into();
    let mut pool = pool(Policy { own, ..policy() }, &service);
    assert!(!turn(&mut pool, &service, 2, false, 10), "it has no check");
    assert!(turn(&mut pool, &service, 1, false, 10));
}

#[test]
fn the_quorum_is_lost_and_regained_with_hysteresis() {
    let service = service(&[2, 2, 2, 2]);
    let sorry_server = Some(server(99, 1));
    let mut pool = pool(Policy { quorum: 4, hysteresis: 1, sorry_server, ..policy() }, &service);
    turn(&mut pool, &service, 1, false, 10);
    turn(&mut pool, &service, 2, false, 20);
    assert!(pool.has_quorum(), "4 is no less than 4 - 1");
    turn(&mut pool, &service, 3, false, 30);
    assert!(!pool.has_quorum(), "2 is");
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 0), (3, 0), (4, 0), (99, 1)]);
    assert_eq!(pool.standing(server(4, 2).address), Some((Standing::Aside, Weight(0))));
    turn(&mut pool, &service, 3, true, 40);
    assert!(!pool.has_quorum(), "4 is less than 4 + 1");
    turn(&mut pool, &service, 2, true, 50);
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 2), (3, 2), (4, 2)]);
}

#[test]
fn without_a_sorry_server_whoever_is_left_serves() {
    let service = service(&[1, 1]);
    let mut pool = pool(Policy { quorum: 2, ..policy() }, &service);
    turn(&mut pool, &service, 1, false, 10);
    assert!(!pool.has_quorum());
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 1)]);
}

#[test]
fn the_last_real_server_takes_the_quorum_with_it_whatever_the_hysteresis() {
    let service = service(&[1]);
    let policy = Policy { quorum: 1, hysteresis: 5, sorry_server: Some(server(99, 1)), ..policy() };
    let mut pool = pool(policy, &service);
    turn(&mut pool, &service, 1, false, 10);
    assert_eq!(weights(&pool, &service), [(1, 0), (99, 1)]);
}

#[test]
fn checks_take_out_no_more_than_they_may_and_the_first_to_fail_first() {
    let service = service(&[1, 1, 1, 1, 0]);
    let mut pool = pool(Policy { max_out: 50, ..policy() }, &service);
    for (n, number) in [3, 1, 4].into_iter().enumerate() {
        turn(&mut pool, &service, number, false, 10 + n as u64);
    }
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)]);
    assert_eq!(pool.standing(server(4, 1).address), Some((Standing::Held, Weight(1))));
    turn(&mut pool, &service, 3, true, 20);
    assert_eq!(
        weights(&pool, &service),
        [(1, 0), (2, 1), (3, 1), (4, 0), (5, 0)],
        "there is room for the next"
    );
}

#[test]
fn the_weight_ramps_up_after_recovery_but_not_at_the_start() {
    let service = service(&[100, 100]);
    let mut pool = pool(Policy { slow_start: Duration::from_secs(10), ..policy() }, &service);
    assert_eq!(weights(&pool, &service), [(1, 100), (2, 100)]);
    turn(&mut pool, &service, 1, false, 0);
    turn(&mut pool, &service, 1, true, 1000);
    let mut seen = Vec::new();
    for tenth in 0..=110 {
        let changed = pool.judge(&service, at(1000 + tenth * 100));
        seen.push(weights(&pool, &service)[0].1);
        assert_eq!(changed, seen.len() > 1 && seen[seen.len() - 1] != seen[seen.len() - 2]);
        assert_eq!(pool.is_ramping(), tenth < 95, "{tenth}");
    }
    assert_eq!((seen[0], seen[50], seen[99], seen[100]), (5, 55, 100, 100));
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]));
    seen.dedup();
    assert_eq!(seen.len(), 20, "in so many steps");
}

#[test]
fn a_sorry_server_that_is_added_as_a_real_server_is_there_once() {
    let mut service = service(&[1, 1]);
    let sorry = server(2, 1);
    let mut pool = pool(Policy { quorum: 2, sorry_server: Some(sorry), ..policy() }, &service);
    turn(&mut pool, &service, 1, false, 10);
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 1)]);
    Arc::make_mut(&mut service).servers.pop();
    pool.follow(&service, at(20));
    pool.judge(&service, at(20));
    assert_eq!(weights(&pool, &service), [(1, 0), (2, 1)], "now as the sorry server");
}

proptest! {
    /// Whatever checks do: nobody has more than the operator's weight, everybody is there once, no more are out than
    /// may be, and in the end all have their weights again.
    #[test]
    fn pools_keep_their_promises(
        given in prop::collection::vec(0..200_u16, 1..8),
        quorum in 1..300_u32,
        hysteresis in 0..50_u32,
        max_out in 0..=100_u8,
        remove in any::<bool>(),
        has_sorry in any::<bool>(),
        turns in prop::collection::vec((1..8_u8, any::<bool>(), 0..5000_u64), 0..60),
    ) {
        let service = service(&given);
        let policy = Policy {
            quorum,
            hysteresis,
            max_out,
            on_failure: if remove { OnFailure::Remove } else { OnFailure::Inhibit },
            slow_start: Duration::from_secs(3),
            sorry_server: has_sorry.then(|| server(99, 1)),
            ..policy()
        };
        let mut pool = pool(policy, &service);
        let mut now = 0;
        for (number, up, wait) in turns {
            now += wait;
            let before = (pool.has_quorum(), weights(&pool, &service));
            let changed = turn(&mut pool, &service, number, up, now);
            let weights = weights(&pool, &service);
            prop_assert!(changed || before == (pool.has_quorum(), weights.clone()));
            let sorry = weights.iter().any(|(number, _)| *number == 99);
            prop_assert_eq!(sorry, has_sorry && !pool.has_quorum());
            let mut numbers: Vec<u8> = weights.iter().map(|(number, _)| *number).collect();
            numbers.dedup();
            prop_assert_eq!(numbers.len(), weights.len());
            for (number, weight) in weights.iter().filter(|(number, _)| *number != 99) {
                prop_assert!(*weight <= given[usize::from(*number) - 1]);
            }
            let weighty = given.iter().filter(|weight| **weight > 0).count();
            if !sorry {
                let serving = weights.iter().filter(|(_, weight)| *weight > 0).count();
                prop_assert!(weighty - serving <= weighty * usize::from(max_out) / 100);
            }
            prop_assert!(!pool.has_quorum() || pool.live_weight() >= u64::from(quorum.saturating_sub(hysteresis)));
            prop_assert!(pool.has_quorum() || pool.live_weight() < u64::from(quorum + hysteresis));
        }
        for number in 1..=given.len() as u8 {
            turn(&mut pool, &service, number, true, now);
        }
        pool.judge(&service, at(now + 3000));
        let total: u32 = given.iter().map(|weight| u32::from(*weight)).sum();
        if total >= quorum + hysteresis {
            prop_assert!(Arc::ptr_eq(&pool.effective(&service), &service));
        }
    }
}
