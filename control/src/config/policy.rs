//! What a service says about the health of its real servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::checks::check;
use super::errors::{Complaints, Site};
use super::number::{self, within};
use super::passive::passive;
use super::raw::{RawServer, RawService};
use super::raw_check::RawCheck;
use super::services::{config_remedy, server, word};
use crate::health::{Check, OnFailure, Policy};
use crate::model::{Place, RealServer, Service, faults};

/// The policy of a service; none if there is no check. `own` are checks of real servers of their own.
pub(super) fn policy(
    raw: &RawService,
    service: &Service,
    own: BTreeMap<SocketAddr, Vec<Arc<Check>>>,
    complaints: &mut Complaints<'_>,
) -> Option<Policy> {
    let checks = checks(raw.health.checks.as_deref(), service, complaints).unwrap_or_default();
    let raw_health = &raw.health;
    let defaults = Policy::default();
    let quorum = within(raw_health.quorum.as_ref(), number::QUORUM, complaints);
    let hysteresis = within(raw_health.hysteresis.as_ref(), number::HYSTERESIS, complaints);
    let policy = Policy {
        on_failure: word(raw_health.on_failure.as_ref(), OnFailure::ALL, OnFailure::word, complaints)
            .unwrap_or_default(),
        slow_start: number::seconds(raw_health.slow_start.as_ref(), number::SLOW_START, complaints)
            .unwrap_or(defaults.slow_start),
        quorum: quorum.unwrap_or(defaults.quorum),
        hysteresis: hysteresis.unwrap_or(defaults.hysteresis),
        max_out: within(raw_health.max_out.as_ref(), number::PERCENT, complaints).unwrap_or(defaults.max_out),
        sorry_server: sorry_server(raw, service, complaints),
        passive: passive(raw, service, complaints),
        checks,
        own,
    };
    if let Some(at) = raw_health.hysteresis.as_ref().filter(|_| policy.hysteresis >= policy.quorum) {
        complaints.add(
            &at.site,
            format!(
                "with a hysteresis of {} the quorum of {} could not be lost",
                policy.hysteresis, policy.quorum
            ),
            format!("give less than the quorum, at most {}", policy.quorum - 1),
        );
    }
    let any_given = raw_health.checks.is_some()
        || raw_health.passive.is_some()
        || raw.servers.iter().any(|server| server.checks.is_some());
    if let Some((key, site)) = raw_health.first.as_ref().filter(|_| !any_given) {
        complaints.add(
            site,
            format!("`{key}` says what follows from health checks, and the service has none"),
            "add a [[service.check]], e.g. with kind = \"tcp\", or a [service.passive], or remove it",
        );
    }
    let any = !policy.checks.is_empty() || policy.own.values().any(|checks| !checks.is_empty());
    (any || policy.passive.is_some()).then_some(policy)
}

/// Understands the checks of a service or of a real server; none if nothing is said of them.
pub(super) fn checks(
    raw: Option<&[RawCheck]>,
    service: &Service,
    complaints: &mut Complaints<'_>,
) -> Option<Vec<Arc<Check>>> {
    let has_port = service.key.port() != 0;
    Some(raw?.iter().filter_map(|raw| check(raw, has_port, complaints)).map(Arc::new).collect())
}

fn sorry_server(raw: &RawService, service: &Service, complaints: &mut Complaints<'_>) -> Option<RealServer> {
    let health = &raw.health;
    let Some(address) = &health.sorry_server else {
        if let Some(at) = &health.sorry_server_method {
            complaints.add(&at.site, "there is no `sorry_server`", "add it, or remove this");
        }
        return None;
    };
    let words = RawServer {
        site: address.site.clone(),
        has_address: true,
        address: Some(address.clone()),
        method: health.sorry_server_method.clone(),
        tunnel: None,
        weight: None,
        upper_threshold: None,
        lower_threshold: None,
        checks: None,
    };
    let sorry = server(&words, Some(service.key.port()), complaints)?;
    let site: &Site = &address.site;
    if service.servers.iter().any(|server| server.address == sorry.address) {
        complaints.add(
            site,
            format!("the sorry server {} is a real server of the service too", sorry.address),
            "give another, or remove one of the two",
        );
    }
    // It has to be able to be a real server of this service.
    let alone = Service { servers: vec![sorry], ..service.clone() };
    for fault in faults(&alone) {
        if let Place::Server(_) | Place::Tunnel(_) = fault.place {
            let remedy = config_remedy(&fault.error).replace("method = ", "sorry_server_method = ");
            complaints.add(site, fault.error.to_string(), remedy);
        }
    }
    Some(sorry)
}
