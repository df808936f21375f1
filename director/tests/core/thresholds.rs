//! Thresholds: a real server with too many connections gets no new ones until it has few enough.

use control::model::{ForwardingMethod, Protocol, Scheduler, ServiceKey, Thresholds};
use director::pipeline::Arrival;
use director::scheduler::Load;
use director::stats::Reason;
use proptest::prelude::*;

use crate::frames::{ACK, FIN, Frame, RST, SYN};
use crate::world::{CLIENT_SIDE, Shape, World, service};

const VIP: (&str, u16) = ("10.99.0.1", 80);

/// Real servers of these weights, all with these thresholds.
fn world(scheduler: Scheduler, weights: &[u16], upper: u32, lower: u32, lcores: usize) -> World {
    let mut web = service(Protocol::Tcp, "10.99.0.1:80", scheduler, ForwardingMethod::Nat, 8080, weights);
    for server in &mut web.servers {
        server.thresholds = Thresholds { upper, lower };
    }
    World::shaped(vec![web], Shape { lcores, ..Shape::default() })
}

fn key(world: &World) -> ServiceKey {
    *world.services.keys().next().unwrap()
}

/// Whether a client that was not there before is served; it stays for a quarter of an hour then.
fn opens(world: &mut World, port: u16) -> bool {
    send(world, port, SYN) == Reason::RequestNat && send(world, port, ACK) == Reason::RequestNat
}

fn send(world: &mut World, port: u16, flags: u8) -> Reason {
    world.send(CLIENT_SIDE, &Frame::tcp(("10.0.1.1", port), VIP, flags).bytes()).verdict.reason
}

/// So long that connections that were reset are gone: their ten seconds, and a turn of the wheel.
fn forget(world: &mut World) {
    world.wait(43_000);
    world.expire();
}

#[test]
fn overload_comes_with_the_upper_and_goes_below_the_lower() {
    let mut world = world(Scheduler::Rr, &[1], 4, 2, 1);
    assert!((1..=4).all(|port| opens(&mut world, port)));
    assert_eq!(send(&mut world, 5, SYN), Reason::IcmpPortUnreachable);
    assert_eq!(send(&mut world, 1, ACK), Reason::RequestNat, "those that exist are served");
    // One more gone each time: 3 and 2 are not below 2. Inactive ones count, so that the reset alone is nothing.
    for (gone, served) in [(1, false), (2, false), (3, true)] {
        send(&mut world, gone, RST);
        assert!(!opens(&mut world, 1000 + gone), "closed, but still there");
        forget(&mut world);
        assert_eq!(opens(&mut world, 2000 + gone), served);
    }
}

#[test]
fn without_a_lower_threshold_three_quarters_are_enough() {
    let mut world = world(Scheduler::Wlc, &[1], 8, 0, 1);
    assert!((1..=8).all(|port| opens(&mut world, port)) && !opens(&mut world, 9));
    for (gone, served) in [(1, false), (2, false), (3, true)] {
        send(&mut world, gone, RST);
        forget(&mut world);
        assert_eq!(opens(&mut world, 1000 + gone), served, "{} are left", 8 - gone);
    }
}

#[test]
fn others_serve_meanwhile() {
    let mut world = world(Scheduler::Fo, &[2, 1], 3, 0, 1);
    let key = key(&world);
    for port in 1..=6 {
        assert!(opens(&mut world, port));
    }
    assert!(!opens(&mut world, 7));
    let servers = ["10.0.2.11:8080", "10.0.2.12:8080"].map(|address| address.parse().unwrap());
    assert_eq!(servers.map(|server| world.load(key, server)), [(3, 0), (3, 0)]);
}

#[test]
fn an_edit_is_judged_at_once_and_others_change_nothing() {
    let mut world = world(Scheduler::Rr, &[1, 0], 2, 1, 1);
    let key = key(&world);
    let thresholds = |upper, lower| {
        move |service: &mut control::model::Service| {
            service.servers[0].thresholds = Thresholds { upper, lower }
        }
    };
    assert!(opens(&mut world, 1) && opens(&mut world, 2) && !opens(&mut world, 3));
    // Neither another edit nor another snapshot ends an overload, though one connection is less by now.
    send(&mut world, 1, RST);
    forget(&mut world);
    world.edit(key, |service| service.scheduler = Scheduler::Wlc);
    world.publish();
    assert!(!opens(&mut world, 3));
    world.edit(key, thresholds(3, 1));
    assert!(opens(&mut world, 3), "a higher upper threshold ends it, as in IPVS");
    assert!(opens(&mut world, 4) && !opens(&mut world, 5));
    world.edit(key, thresholds(2, 2));
    assert!(!opens(&mut world, 5));
    world.edit(key, thresholds(0, 0));
    assert!(opens(&mut world, 5) && opens(&mut world, 6));
    world.edit(key, thresholds(2, 0));
    assert!(!opens(&mut world, 7), "there are too many already");
    // Gone, and back with the connections that it had.
    let server = world.services[&key].servers[0];
    world.edit(key, |service| service.servers.retain(|other| other.address != server.address));
    assert!(!opens(&mut world, 8));
    world.edit(key, |service| service.servers.push(server));
    assert!(!opens(&mut world, 9));
}

#[test]
fn a_new_real_server_has_nothing_of_who_had_its_number() {
    let mut world = world(Scheduler::Rr, &[1], 1, 0, 1);
    let key = key(&world);
    assert!(opens(&mut world, 1) && !opens(&mut world, 2));
    let old = world.services[&key].servers[0];
    let id = world.compiler.server_id(key, old.address).unwrap();
    world.edit(key, |service| service.servers.clear());
    world.wait(3_600_000);
    world.expire();
    world.publish();
    world.edit(key, |service| {
        let address = "10.0.2.13:8080".parse().unwrap();
        service.servers.push(control::model::RealServer { address, ..old });
    });
    assert_eq!(world.compiler.server_id(key, "10.0.2.13:8080".parse().unwrap()), Some(id));
    assert!(opens(&mut world, 3) && !opens(&mut world, 4));
}

#[test]
fn all_lcores_count_together() {
    let mut world = world(Scheduler::Wlc, &[1; 20], 2, 1, 2);
    let key = key(&world);
    let open = |world: &mut World, lcore, port| {
        let frame = Frame::tcp(("10.0.1.1", port), VIP, SYN).bytes();
        world.send_to_lcore(lcore, Arrival::Ring, &frame).verdict.reason == Reason::RequestNat
    };
    for port in 0..40 {
        assert!(open(&mut world, usize::from(port % 3 == 0), 1000 + port), "{port}");
    }
    assert!(!open(&mut world, 0, 2000) && !open(&mut world, 1, 2000));
    let servers: Vec<_> = world.services[&key].servers.iter().map(|server| server.address).collect();
    assert!(servers.iter().all(|server| world.load(key, *server) == (2, 0)));
    // What ends on one lcore makes room on the other.
    for port in (0..40).filter(|port| port % 3 == 0) {
        let frame = Frame::tcp(("10.0.1.1", 1000 + port), VIP, RST).bytes();
        world.send_to_lcore(1, Arrival::Ring, &frame);
    }
    world.wait(61_000);
    world.expire();
    assert!(open(&mut world, 0, 3000) && open(&mut world, 1, 3000));
}

#[derive(Clone, Debug)]
enum Step {
    Open,
    Packet(u16, u8),
    Wait(u32),
    Thresholds(usize, u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = proptest::sample::select(vec![ACK, FIN | ACK, RST]);
    prop_oneof![
        12 => Just(Step::Open),
        6 => (any::<u16>(), flags).prop_map(|(n, flags)| Step::Packet(n, flags)),
        3 => prop_oneof![0u32..3000, 0u32..200_000].prop_map(Step::Wait),
        1 => (any::<usize>(), 0u32..6, 0u32..6).prop_map(|(n, a, b)| Step::Thresholds(n, a.max(b), a.min(b))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever the scheduler and whatever happens: nobody has more than its upper threshold unless that was
    /// lowered, and with a scheduler that refuses nobody else, a client is served if somebody is available.
    #[test]
    fn no_scheduler_goes_beyond_the_upper_threshold(
        scheduler in proptest::sample::select(Scheduler::ALL),
        many: bool,
        steps in proptest::collection::vec(step(), 1..200),
    ) {
        let count = if many { 20 } else { 3 };
        let mut world = world(scheduler, &vec![1; count], 4, 0, 1);
        let key = key(&world);
        let mut port = 1024;
        for step in steps {
            match step {
                Step::Open => {
                    port += 1;
                    let totals = |world: &World| -> Vec<(u64, u64, bool)> {
                        let servers = world.services[&key].servers.iter();
                        servers.map(|server| {
                            let id = world.compiler.server_id(key, server.address).unwrap();
                            let (active, inactive) = world.fleet.connections(id);
                            let upper = u64::from(server.thresholds.upper);
                            (active + inactive, upper, upper > 0 && world.fleet.is_overloaded(id))
                        }).collect()
                    };
                    let before = totals(&world);
                    let served = opens(&mut world, port);
                    for ((was, upper, overloaded), (is, ..)) in before.iter().zip(totals(&world)) {
                        prop_assert!(!overloaded || is == *was, "{scheduler}");
                        prop_assert!(*upper == 0 || is <= (*upper).max(*was));
                        prop_assert!(*upper == 0 || was < upper || *overloaded);
                    }
                    let choosy = matches!(scheduler, Scheduler::Dh | Scheduler::Sh | Scheduler::Mh | Scheduler::Ovf);
                    let available = before.iter().any(|(.., overloaded)| !overloaded);
                    prop_assert!(choosy || served == available, "{scheduler}");
                }
                Step::Packet(_, _) if port == 1024 => {}
                Step::Packet(n, flags) => {
                    send(&mut world, 1025 + n % (port - 1024), flags);
                }
                Step::Wait(milliseconds) => {
                    world.wait(milliseconds);
                    world.expire();
                }
                Step::Thresholds(n, upper, lower) => world.edit(key, |service| {
                    let n = n % service.servers.len();
                    service.servers[n].thresholds = Thresholds { upper, lower };
                }),
            }
        }
    }
}
