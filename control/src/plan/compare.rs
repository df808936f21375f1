//! Two configurations beside each other.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use super::keys::{coming, differing, going, of_director, of_marks, of_server, of_service};
use super::{Difference, Fate, KeyChange, Live, ServerChange, ServiceChange};
use crate::health::Policy;
use crate::model::{RealServer, Service};

impl Difference {
    /// What makes `before` into `after`. Empty if, and only if, they are equal; of policies of services that neither has,
    /// nothing is said.
    pub fn between(before: &Live, after: &Live) -> Difference {
        let director = |live: &Live| of_director(live.settings, live.timeouts);
        let mut keys = differing(&director(before), &director(after));
        keys.extend(of_marks(&before.marks, &after.marks));
        let (old, new) = (before.model.services(), after.model.services());
        let gone = old.values().filter(|service| !new.contains_key(&service.key));
        let gone = gone.map(|service| {
            let policy = before.health.get(&service.key).map(AsRef::as_ref);
            alone(service, policy, Fate::Removed)
        });
        let come_or_changed = new.values().filter_map(|service| {
            let policies = (before.health.get(&service.key), after.health.get(&service.key));
            let (was, is) = (policies.0.map(AsRef::as_ref), policies.1.map(AsRef::as_ref));
            match old.get(&service.key) {
                None => Some(alone(service, is, Fate::Added)),
                Some(before) if before == service && was == is => None,
                Some(before) => Some(changed((before, was), (service, is))),
            }
        });
        let mut services: Vec<ServiceChange> = gone.chain(come_or_changed).collect();
        services.sort_by_key(|change| change.service);
        Difference { keys, services }
    }
}

/// A service that comes or goes.
fn alone(service: &Service, policy: Option<&Policy>, change: Fate) -> ServiceChange {
    let words = if change == Fate::Added { coming } else { going };
    let server = |server: &RealServer| ServerChange {
        address: server.address,
        change,
        keys: words(of_server(server)),
        connections: None,
    };
    ServiceChange {
        service: service.key,
        change,
        keys: words(of_service(service, policy)),
        servers: service.servers.iter().map(server).collect(),
        moves: None,
    }
}

fn changed(before: (&Service, Option<&Policy>), after: (&Service, Option<&Policy>)) -> ServiceChange {
    let mut keys = differing(&of_service(before.0, before.1), &of_service(after.0, after.1));
    let (old, new) = (&before.0.servers, &after.0.servers);
    keys.extend(order(old, new));
    ServiceChange {
        service: after.0.key,
        change: Fate::Changed,
        keys,
        servers: servers(old, new),
        moves: None,
    }
}

/// Schedulers walk real servers in their order.
fn order(before: &[RealServer], after: &[RealServer]) -> Option<KeyChange> {
    let all = |servers: &[RealServer]| servers.iter().map(|s| s.address).collect::<HashSet<SocketAddr>>();
    let (old, new) = (all(before), all(after));
    let list = |servers: &[RealServer], others: &HashSet<SocketAddr>| {
        let stay = servers.iter().filter(|server| others.contains(&server.address));
        stay.map(|server| server.address.to_string()).collect::<Vec<_>>()
    };
    // Who comes is usually last; who comes elsewhere is told by its place among the others.
    let (from, to) = (list(before, &new), list(after, &old));
    if from != to {
        return Some(KeyChange {
            key: "order of real servers".to_owned(),
            from: Some(from.join(" ")),
            to: Some(to.join(" ")),
        });
    }
    let last_are_new = after.iter().skip(to.len()).all(|server| !old.contains(&server.address));
    (!last_are_new).then(|| KeyChange {
        key: "order of real servers".to_owned(),
        from: Some(before.iter().map(|s| s.address.to_string()).collect::<Vec<_>>().join(" ")),
        to: Some(after.iter().map(|s| s.address.to_string()).collect::<Vec<_>>().join(" ")),
    })
}

fn servers(before: &[RealServer], after: &[RealServer]) -> Vec<ServerChange> {
    let change = |server: &RealServer, change, keys| ServerChange {
        address: server.address,
        change,
        keys,
        connections: None,
    };
    let new: HashSet<SocketAddr> = after.iter().map(|server| server.address).collect();
    let old: HashMap<SocketAddr, &RealServer> =
        before.iter().map(|server| (server.address, server)).collect();
    let gone = before.iter().filter(|server| !new.contains(&server.address));
    let gone = gone.map(|server| change(server, Fate::Removed, going(of_server(server))));
    let others = after.iter().filter_map(|server| match old.get(&server.address) {
        None => Some(change(server, Fate::Added, coming(of_server(server)))),
        Some(before) if *before == server => None,
        Some(before) => {
            Some(change(server, Fate::Changed, differing(&of_server(before), &of_server(server))))
        }
    });
    gone.chain(others).collect()
}
