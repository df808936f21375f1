//! What another scheduler, or other real servers, move: whom clients would have before and after. Computed from both
//! alone, for an operator who asks before he changes them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use control::model::{self, ServiceKey, Settings};

use super::{Candidate, Load, Request, Scheduler};
use crate::id::LcoreId;
use crate::service::ServerId;
use crate::time::Tick;

/// So many clients stand for all: what a share of them is, is right to a third of a hundredth or so.
const CLIENTS: u32 = 16_384;

/// The share that moves, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Share {
    /// Of clients: a hash tells whom each has, before and after.
    Clients(f64),
    /// Of new connections: so much more some real servers get, and others less.
    New(f64),
}

/// What moves when a service becomes another one, as configured: everybody is well, and nobody overloaded.
pub fn moved(before: &model::Service, after: &model::Service) -> Share {
    let mut whom_before = candidates(before, &HashMap::new());
    let had: HashMap<SocketAddr, u16> =
        whom_before.iter().map(|candidate| (candidate.address, candidate.weight)).collect();
    let whom_after = candidates(after, &had);
    whom_before.iter_mut().for_each(|candidate| candidate.last_weight = candidate.weight);
    let share = |differing: u32| f64::from(differing) / f64::from(CLIENTS);
    match (hashes(before.scheduler), hashes(after.scheduler)) {
        (true, true) => {
            let old = chosen(before, &whom_before);
            let new = chosen(after, &whom_after);
            let differing = old.zip(new).filter(|(old, new)| old != new).count();
            Share::Clients(share(u32::try_from(differing).unwrap_or(CLIENTS)))
        }
        _ => {
            let (old, new) = (shares(before, &whom_before), shares(after, &whom_after));
            let all = old.keys().chain(new.keys().filter(|who| !old.contains_key(*who)));
            let of = |shares: &HashMap<_, f64>, who| shares.get(who).copied().unwrap_or(0.0);
            Share::New(all.map(|who| (of(&old, who) - of(&new, who)).abs()).sum::<f64>() / 2.0)
        }
    }
}

/// Whether a hash of the packet tells the real server.
fn hashes(scheduler: model::Scheduler) -> bool {
    use model::Scheduler::{Dh, Mh, Sh};
    matches!(scheduler, Sh | Mh | Dh)
}

/// As the compiler makes them; `before` are weights of before.
fn candidates(service: &model::Service, before: &HashMap<SocketAddr, u16>) -> Vec<Candidate> {
    let servers = service.servers.iter().rev().enumerate();
    let candidate = |(at, server): (usize, &model::RealServer)| Candidate {
        server: ServerId(at as u32),
        address: server.address,
        weight: server.weight.0,
        last_weight: match server.weight.0 {
            0 => before.get(&server.address).copied().unwrap_or_default(),
            weight => weight,
        },
        thresholds: server.thresholds,
    };
    servers.map(candidate).collect()
}

/// Whom each of the clients has.
fn chosen(service: &model::Service, candidates: &[Candidate]) -> impl Iterator<Item = Option<SocketAddr>> {
    let scheduler = Scheduler::build(service.scheduler, service.flags, candidates, None, 1);
    let (key, settings) = (service.key, Settings::default());
    (0..CLIENTS).map(move |n| {
        let at = scheduler.choose(candidates, client(n, key), &Idle, LcoreId(0), Tick::default(), &settings);
        at.map(|at| candidates[at].address)
    })
}

/// The n-th client: they are far from each other, as clients of the Internet are.
fn client(n: u32, key: ServiceKey) -> Request {
    let spread = n.wrapping_mul(0x9e37_79b9);
    let ip = |bits: u32| match key.ip() {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::from_bits(bits)),
        IpAddr::V6(_) => {
            let (high, low) = (u128::from(bits), u128::from(bits.wrapping_mul(0x85eb_ca6b)));
            IpAddr::from(Ipv6Addr::from_bits(0x2000 << 112 | high << 80 | low))
        }
    };
    // What has a mark may go to any address.
    let destination = if key.is_mark() { ip(spread.rotate_left(16)) } else { key.ip() };
    Request { source: ip(spread), source_port: 1024 | (spread >> 7) as u16, destination }
}

/// What part of new connections each real server gets; `None`: nobody does.
fn shares(service: &model::Service, candidates: &[Candidate]) -> HashMap<Option<SocketAddr>, f64> {
    use model::Scheduler::{Fo, Lc, Ovf, Rr};
    let mut shares: HashMap<Option<SocketAddr>, f64> = HashMap::new();
    if hashes(service.scheduler) {
        for who in chosen(service, candidates) {
            *shares.entry(who).or_default() += 1.0 / f64::from(CLIENTS);
        }
        return shares;
    }
    let weight = |candidate: &Candidate| match service.scheduler {
        // Whoever may have any has as many as the next one.
        Rr | Lc => f64::from(u8::from(candidate.weight > 0)),
        _ => f64::from(candidate.weight),
    };
    if let Fo | Ovf = service.scheduler {
        // The first of the heaviest has all of them, until it is overloaded.
        let first = super::by_weight(candidates).first().map(|at| candidates[*at as usize].address);
        return [(first, 1.0)].into();
    }
    let total: f64 = candidates.iter().map(weight).sum();
    if total == 0.0 {
        return [(None, 1.0)].into();
    }
    candidates.iter().map(|candidate| (Some(candidate.address), weight(candidate) / total)).collect()
}

/// Nobody has any connections.
struct Idle;

impl Load for Idle {
    fn connections(&self, _: ServerId) -> (u64, u64) {
        (0, 0)
    }

    fn connections_on(&self, _: LcoreId, _: ServerId) -> (u64, u64) {
        (0, 0)
    }

    fn is_overloaded(&self, _: ServerId) -> bool {
        false
    }

    fn set_overloaded(&self, _: ServerId, _: bool) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::model::{ForwardingMethod, RealServer, SchedulerFlags, Service, Thresholds, Tunnel, Weight};
    use proptest::prelude::*;

    fn service(key: &str, scheduler: model::Scheduler, weights: &[(u8, u16)]) -> Service {
        let key: ServiceKey = key.parse().expect(key);
        let server = |&(n, weight): &(u8, u16)| RealServer {
            address: ([10, 0, 2, n], 80).into(),
            method: ForwardingMethod::Nat,
            tunnel: Tunnel::default(),
            weight: Weight(weight),
            thresholds: Thresholds::default(),
        };
        let servers = weights.iter().map(server).collect();
        let flags = SchedulerFlags::default();
        Service { key, scheduler, flags, persistence: None, one_packet: false, servers }
    }

    fn web(scheduler: model::Scheduler, weights: &[(u8, u16)]) -> Service {
        service("tcp 10.99.0.1:80", scheduler, weights)
    }

    fn clients(before: &Service, after: &Service) -> f64 {
        match moved(before, after) {
            Share::Clients(share) => share,
            other => panic!("a hash tells: {other:?}"),
        }
    }

    fn new(before: &Service, after: &Service) -> f64 {
        match moved(before, after) {
            Share::New(share) => (share * 1000.0).round() / 1000.0,
            other => panic!("no hash tells: {other:?}"),
        }
    }

    use model::Scheduler::{Dh, Fo, Lc, Mh, Rr, Sh, Wlc, Wrr};

    const FOUR: &[(u8, u16)] = &[(1, 1), (2, 1), (3, 1), (4, 1)];

    #[test]
    fn one_of_four_that_goes_moves_a_quarter_by_maglev_and_most_by_sh() {
        let three = &FOUR[..3];
        let maglev = clients(&web(Mh, FOUR), &web(Mh, three));
        assert!((0.25..0.35).contains(&maglev), "{maglev}");
        let modulo = clients(&web(Sh, FOUR), &web(Sh, three));
        assert!((0.6..0.9).contains(&modulo), "{modulo}");
        let six =
            clients(&service("tcp [2001:db8::1]:80", Mh, FOUR), &service("tcp [2001:db8::1]:80", Mh, three));
        assert!((0.25..0.35).contains(&six), "{six}");
    }

    /// Its clients are refused, and nobody else's are touched.
    #[test]
    fn weight_0_of_a_hash_moves_its_own_clients() {
        let drained = &[(1, 1), (2, 1), (3, 1), (4, 0)];
        for scheduler in [Sh, Mh] {
            let share = clients(&web(scheduler, FOUR), &web(scheduler, drained));
            assert!((0.23..0.27).contains(&share), "{scheduler}: {share}");
        }
    }

    #[test]
    fn by_destination_an_address_has_one_real_server_and_marks_have_many() {
        let swapped = &[(4, 1), (3, 1), (2, 1), (1, 1)];
        let address = clients(&web(Dh, FOUR), &web(Dh, swapped));
        assert!(address == 0.0 || address == 1.0, "{address}");
        let mark = clients(&service("mark 1", Dh, FOUR), &service("mark 1", Dh, swapped));
        assert_eq!(mark, 1.0);
    }

    #[test]
    fn of_new_connections_what_some_get_more_is_what_others_get_less() {
        assert_eq!(new(&web(Wrr, FOUR), &web(Wlc, FOUR)), 0.0);
        assert_eq!(new(&web(Wrr, FOUR), &web(Wrr, &FOUR[..2])), 0.5);
        assert_eq!(new(&web(Wrr, &[(1, 1), (2, 1)]), &web(Wrr, &[(1, 3), (2, 1)])), 0.25);
        assert_eq!(
            new(&web(Rr, &[(1, 1), (2, 1)]), &web(Lc, &[(1, 3), (2, 1)])),
            0.0,
            "weights do not count"
        );
        assert_eq!(new(&web(Wrr, FOUR), &web(Wrr, &[])), 1.0);
        assert_eq!(new(&web(Wrr, FOUR), &web(Fo, FOUR)), 0.75);
        assert_eq!(new(&web(Fo, &[(1, 1), (2, 2)]), &web(Fo, &[(1, 3), (2, 2)])), 1.0);
        let mixed = new(&web(Wrr, FOUR), &web(Sh, FOUR));
        assert!(mixed < 0.02, "{mixed}");
    }

    fn any_service() -> impl Strategy<Value = Service> {
        let scheduler = prop::sample::select(model::Scheduler::ALL);
        (scheduler, prop::collection::btree_map(1..9u8, 0..4u16, 0..6))
            .prop_map(|(scheduler, weights)| web(scheduler, &weights.into_iter().collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn nothing_moves_where_nothing_changes_and_never_more_than_all(before in any_service(), after in any_service()) {
            let share = |share| match share {
                Share::Clients(share) | Share::New(share) => share,
            };
            prop_assert_eq!(share(moved(&before, &before)), 0.0);
            prop_assert!((0.0..=1.000_001).contains(&share(moved(&before, &after))));
        }
    }
}
