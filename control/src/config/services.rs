//! The services of the configuration, held to the rules of the model.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::errors::{Complaints, Site};
use super::marks::mark;
use super::policy::{checks, policy};
use super::raw::{RawServer, RawService};
use super::walk::At;
use super::{keys, number};
use crate::health::Policy;
use crate::model::{
    EditError, Family, ForwardingMethod, Limited, Limits, Persistence, PersistenceEdit, PersistenceEngine,
    Place, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Thresholds, Tunnel, Weight,
    faults,
};

/// Understands every `[[service]]`. Complains of all that is wrong, and leaves that out.
pub(super) fn services(
    raw: &[RawService],
    limits: &Limits,
    complaints: &mut Complaints<'_>,
) -> (Vec<Service>, BTreeMap<ServiceKey, Arc<Policy>>) {
    let mut services = Vec::with_capacity(raw.len());
    let mut policies = BTreeMap::new();
    let mut seen: HashMap<ServiceKey, usize> = HashMap::new();
    for (index, raw) in raw.iter().enumerate() {
        let Some((service, policy)) = service(raw, complaints) else {
            continue;
        };
        let site = address_site(raw);
        if let Some(first) = seen.insert(service.key, index) {
            seen.insert(service.key, first);
            complaints.add(
                site,
                format!("virtual service {} is service[{first}] already", service.key),
                "put the real servers of both into one [[service]], or change the protocol, address, port or mark",
            );
            continue;
        }
        policies.extend(policy.map(|policy| (service.key, Arc::new(policy))));
        services.push(service);
    }
    check_limits(raw, limits, complaints);
    (services, policies)
}

/// Complains once of the first service and the first server that there is no room for.
fn check_limits(raw: &[RawService], limits: &Limits, complaints: &mut Complaints<'_>) {
    let mut complain = |site: &Site, what, limit| {
        let error = EditError::LimitReached { what, limit };
        complaints.add(site, error.to_string(), error.remedy());
    };
    if let Some(service) = raw.get(limits.services) {
        complain(&service.site, Limited::Services, limits.services);
    }
    if let Some(server) = raw.iter().flat_map(|service| &service.servers).nth(limits.servers) {
        complain(&server.site, Limited::Servers, limits.servers);
    }
}

fn address_site(raw: &RawService) -> &Site {
    let mark = raw.mark.as_ref().map(|at| &at.site);
    raw.address.as_ref().map(|at| &at.site).or(mark).unwrap_or(&raw.site)
}

fn service(raw: &RawService, complaints: &mut Complaints<'_>) -> Option<(Service, Option<Policy>)> {
    let scheduler = word(raw.scheduler.as_ref(), Scheduler::ALL, Scheduler::word, complaints);
    let Named { key, port } = if raw.has_mark { marked(raw, complaints) } else { addressed(raw, complaints) };

    // Servers whose own words are wrong are left out; the others keep the place of their address.
    let mut servers = Vec::with_capacity(raw.servers.len());
    let mut sites = Vec::with_capacity(raw.servers.len());
    let mut own_checks = Vec::new();
    for raw in &raw.servers {
        if let Some(server) = server(raw, port, complaints) {
            servers.push(server);
            own_checks.extend(raw.checks.as_deref().map(|checks| (server.address, checks)));
            let threshold = raw.lower_threshold.as_ref().or(raw.upper_threshold.as_ref());
            let address = raw.address.as_ref().map_or(&raw.site, |at| &at.site);
            let tunnel = raw.tunnel.as_ref().map_or(&raw.site, |at| &at.site);
            sites.push((address, tunnel, threshold.map_or(&raw.site, |at| &at.site)));
        }
    }

    let flag = |at: &Option<At<bool>>| at.as_ref().is_some_and(|at| at.value);
    let flags = SchedulerFlags { fallback: flag(&raw.fallback), port: flag(&raw.hash_port) };
    let flag_site = [&raw.fallback, &raw.hash_port].into_iter().flatten().find(|at| at.value);
    // With a scheduler that nobody understands, the flags may well be right.
    let unclear_scheduler = raw.scheduler.is_some() && scheduler.is_none();
    let Key { key, is_certain } = key?;
    let scheduler = scheduler.unwrap_or_default();
    let persistence = persistence(raw, key, complaints);
    let one_packet = flag(&raw.one_packet);
    let service = Service { key, scheduler, flags, persistence, one_packet, servers };
    for fault in faults(&service) {
        let site = match fault.place {
            Place::Address => address_site(raw),
            Place::Flags if unclear_scheduler => continue,
            Place::Flags => flag_site.map_or(&raw.site, |at| &at.site),
            Place::PersistenceTimeout => site_of(raw, raw.persistence_timeout.as_ref()),
            Place::PersistenceGranularity => site_of(raw, raw.persistence_granularity.as_ref()),
            // With a protocol that nobody understands, they may well be right.
            Place::OnePacket | Place::PersistenceEngine if !is_certain => continue,
            Place::PersistenceEngine => site_of(raw, raw.persistence_engine.as_ref()),
            Place::OnePacket => site_of(raw, raw.one_packet.as_ref()),
            Place::Server(index) => sites[index].0,
            Place::Tunnel(index) => sites[index].1,
            Place::Thresholds(index) => sites[index].2,
        };
        complaints.add(site, fault.error.to_string(), config_remedy(&fault.error));
    }
    let own = own_checks
        .into_iter()
        .filter_map(|(address, raw)| Some((address, checks(Some(raw), &service, complaints)?)))
        .collect();
    let policy = policy(raw, &service, own, complaints);
    is_certain.then_some((service, policy))
}

/// What a `[[service]]` is called.
struct Named {
    key: Option<Key>,
    /// The port of its real servers that give none.
    port: Option<u16>,
}

struct Key {
    key: ServiceKey,
    /// False where the protocol is a guess, so that the rest can be looked at.
    is_certain: bool,
}

fn addressed(raw: &RawService, complaints: &mut Complaints<'_>) -> Named {
    if !raw.has_protocol {
        complaints.add(
            &raw.site,
            "the service has no `protocol`",
            "add protocol = \"tcp\", \"udp\" or \"sctp\"",
        );
    }
    if !raw.has_address {
        complaints.add(
            &raw.site,
            "the service has no `address`",
            "add its virtual address and port, e.g. address = \"10.99.0.1:80\"",
        );
    }
    if let Some(family) = &raw.family {
        let remedy = "remove it: the address tells the family; a `mark` does not";
        complaints.add(&family.site, "`family` goes with `mark` only", remedy);
    }
    let protocol = word(raw.protocol.as_ref(), Protocol::ALL, Protocol::word, complaints);
    let address = raw.address.as_ref().and_then(|at| service_address(at, complaints));
    let key = |address| Key {
        key: ServiceKey::Address { protocol: protocol.unwrap_or(Protocol::Tcp), address },
        is_certain: protocol.is_some(),
    };
    Named { key: address.map(key), port: address.map(|address| address.port()) }
}

fn marked(raw: &RawService, complaints: &mut Complaints<'_>) -> Named {
    let given = [("protocol", raw.protocol.as_ref()), ("address", raw.address.as_ref())];
    for (name, at) in given.into_iter().filter_map(|(name, at)| at.map(|at| (name, at))) {
        complaints.add(
            &at.site,
            format!("a service by `mark` has no `{name}`"),
            "move it into the [[mark]] that gives the mark, or remove `mark`",
        );
    }
    let family = word(raw.family.as_ref(), Family::ALL, Family::word, complaints);
    let is_certain = family.is_some() || raw.family.is_none();
    let key = |mark| Key { key: ServiceKey::Mark { mark, family: family.unwrap_or_default() }, is_certain };
    Named { key: mark(raw.mark.as_ref(), complaints).map(key), port: Some(0) }
}

fn site_of<'a, T>(raw: &'a RawService, at: Option<&'a At<T>>) -> &'a Site {
    at.map_or(&raw.site, |at| &at.site)
}

/// Persistent is a service of which any of it is given.
fn persistence(raw: &RawService, key: ServiceKey, complaints: &mut Complaints<'_>) -> Option<Persistence> {
    let timeout = number::within(raw.persistence_timeout.as_ref(), number::SECONDS, complaints);
    let granularity = number::within(raw.persistence_granularity.as_ref(), number::GRANULARITY, complaints);
    let words = (PersistenceEngine::ALL, PersistenceEngine::word);
    let engine = word(raw.persistence_engine.as_ref(), words.0, words.1, complaints);
    let given =
        raw.persistence_timeout.is_some() || raw.persistence_granularity.is_some() || engine.is_some();
    let timeout = timeout.map(|seconds| Duration::from_secs(u64::from(seconds)));
    given.then(|| PersistenceEdit::On { timeout, granularity, engine }.of(None, key.ip()))?
}

/// The model's remedies are for edits of a running director; in a file some things are mended otherwise.
pub(super) fn config_remedy(error: &EditError) -> String {
    match error {
        EditError::ServerExists { .. } => "remove one of the two, or change its address or port".to_owned(),
        EditError::PortNotAllowed { service, .. } => {
            format!("leave the port out or use {}, or add method = \"nat\"", service.port())
        }
        EditError::FlagsNotAllowed { .. } => {
            "remove it, or add scheduler = \"sh\" or scheduler = \"mh\"".to_owned()
        }
        EditError::PortZeroNotPersistent { .. } => {
            "add persistence_timeout, e.g. persistence_timeout = 360, or give a port from 1 to 65535"
                .to_owned()
        }
        EditError::TunnelNotAllowed { .. } => "remove it, or add method = \"tunnel\"".to_owned(),
        EditError::OnePacketNotUdp { .. } | EditError::PersistenceEngineNotUdp { .. } => {
            "remove it, or change protocol to \"udp\"".to_owned()
        }
        other => other.remedy(),
    }
}

fn service_address(at: &At<String>, complaints: &mut Complaints<'_>) -> Option<SocketAddr> {
    if let Ok(address) = SocketAddr::from_str(&at.value) {
        return Some(address);
    }
    match IpAddr::from_str(&at.value) {
        Ok(ip) => complaints.add(
            &at.site,
            format!("{ip} has no port"),
            format!("add the service's port, e.g. \"{}\"", SocketAddr::new(ip, 80)),
        ),
        Err(_) => complaints.add(
            &at.site,
            format!("{:?} is not an address with a port", at.value),
            "write ADDRESS:PORT, e.g. \"10.99.0.1:80\"; names are not resolved",
        ),
    }
    None
}

/// A server, of whose port nothing is known if neither it nor a service that is understood gives one.
pub(super) fn server(
    raw: &RawServer,
    service_port: Option<u16>,
    complaints: &mut Complaints<'_>,
) -> Option<RealServer> {
    if !raw.has_address {
        complaints.add(
            &raw.site,
            "the real server has no `address`",
            "add its address, e.g. address = \"10.0.2.11\" or, with a port of its own, \"10.0.2.11:8080\"",
        );
    }
    let method = word(raw.method.as_ref(), ForwardingMethod::ALL, ForwardingMethod::word, complaints);
    let tunnel = raw.tunnel.as_ref().and_then(|at| tunnel(at, complaints)).unwrap_or_default();
    let weight = number::within(raw.weight.as_ref(), number::WEIGHT, complaints);
    let thresholds = [&raw.upper_threshold, &raw.lower_threshold]
        .map(|given| number::within(given.as_ref(), number::THRESHOLD, complaints));
    // Of two of which one cannot be told, nothing is said of how they go together.
    let thresholds = match (thresholds, &raw.upper_threshold, &raw.lower_threshold) {
        ([None, _], Some(_), _) | ([_, None], _, Some(_)) => Thresholds::default(),
        ([upper, lower], ..) => {
            Thresholds { upper: upper.unwrap_or_default(), lower: lower.unwrap_or_default() }
        }
    };
    let At { value, site } = raw.address.as_ref()?;
    let address = match (SocketAddr::from_str(value), IpAddr::from_str(value)) {
        (Ok(address), _) => address,
        (_, Ok(ip)) => SocketAddr::new(ip, service_port?),
        _ => {
            complaints.add(
                site,
                format!("{value:?} is not an address"),
                "write ADDRESS or ADDRESS:PORT, e.g. \"10.0.2.11:8080\"; names are not resolved",
            );
            return None;
        }
    };
    // What a method that nobody understands would allow is not known.
    if raw.method.is_some() && method.is_none() {
        return None;
    }
    Some(RealServer {
        address,
        method: method.unwrap_or_default(),
        tunnel,
        weight: weight.map_or_else(Weight::default, Weight),
        thresholds,
    })
}

fn tunnel(At { value, site }: &At<String>, complaints: &mut Complaints<'_>) -> Option<Tunnel> {
    match Tunnel::from_str(value) {
        Ok(tunnel) => Some(tunnel),
        Err(error) => {
            complaints.add(site, format!("{value:?} is no tunnel"), format!("write {}", error.expected));
            None
        }
    }
}

/// The value that the word stands for. Complains of a word that is none of them.
pub(super) fn word<T: Copy>(
    given: Option<&At<String>>,
    all: &[T],
    name: impl Fn(T) -> &'static str,
    complaints: &mut Complaints<'_>,
) -> Option<T> {
    let At { value, site } = given?;
    if let Some(found) = all.iter().find(|candidate| name(**candidate) == value) {
        return Some(*found);
    }
    let words: Vec<&str> = all.iter().map(|value| name(*value)).collect();
    let list = words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
    let remedy = match keys::nearest(value, &words) {
        Some(near) => format!("did you mean \"{near}\"? It can be {list}"),
        None => format!("it can be {list}"),
    };
    complaints.add(site, format!("{value:?} is not known here"), remedy);
    None
}
