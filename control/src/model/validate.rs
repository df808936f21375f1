//! What makes a virtual service a valid one. The configuration and every edit are held to these rules alike.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::{
    AddressFault, EditError, ForwardingMethod, Persistence, Protocol, RealServer, Scheduler, SchedulerFlags,
    Service, ServiceKey, Tunnel,
};

/// The part of a service that breaks a rule, so that the configuration can point at its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The service's address.
    Address,
    /// The scheduler's flags.
    Flags,
    /// The persistence timeout.
    PersistenceTimeout,
    /// The persistence granularity.
    PersistenceGranularity,
    /// The persistence engine.
    PersistenceEngine,
    /// One-packet scheduling.
    OnePacket,
    /// The address of the real server with this index.
    Server(usize),
    /// The tunnel of the real server with this index.
    Tunnel(usize),
    /// The thresholds of the real server with this index.
    Thresholds(usize),
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which part breaks it.
    pub place: Place,
    /// Why, and how to mend it.
    pub error: EditError,
}

/// Every rule that the service breaks by itself; none if it is valid. How many services and servers there can
/// be is not the service's matter but the model's.
pub fn faults(service: &Service) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Err(error) = check_service_address(service) {
        faults.push(Fault { place: Place::Address, error });
    }
    faults.extend(service.persistence.into_iter().flat_map(|p| persistence_faults(service.key, p)));
    // Of a service by mark it is the datagrams that are scheduled so.
    if service.one_packet && service.key.protocol().is_some_and(|protocol| protocol != Protocol::Udp) {
        let error = EditError::OnePacketNotUdp { service: service.key };
        faults.push(Fault { place: Place::OnePacket, error });
    }
    if service.flags != SchedulerFlags::default() && !has_flags(service.scheduler) {
        let error = EditError::FlagsNotAllowed { service: service.key, scheduler: service.scheduler };
        faults.push(Fault { place: Place::Flags, error });
    }
    let mut seen = HashSet::with_capacity(service.servers.len());
    for (index, server) in service.servers.iter().enumerate() {
        let place = Place::Server(index);
        if let Err(error) = check_server(service.key, server) {
            faults.push(Fault { place, error });
        } else if !seen.insert(server.address) {
            let error = EditError::ServerExists { service: service.key, address: server.address };
            faults.push(Fault { place, error });
        }
        if server.method != ForwardingMethod::Tunnel && server.tunnel != Tunnel::Ipip {
            let RealServer { address, method, tunnel, .. } = *server;
            let error = EditError::TunnelNotAllowed { service: service.key, address, method, tunnel };
            faults.push(Fault { place: Place::Tunnel(index), error });
        }
        // ERANGE in Linux `ip_vs_edit_dest`. Without an upper threshold the lower one would mean nothing.
        if server.thresholds.lower > server.thresholds.upper {
            let RealServer { address, thresholds, .. } = *server;
            let error = EditError::Thresholds { service: service.key, address, thresholds };
            faults.push(Fault { place: Place::Thresholds(index), error });
        }
    }
    faults
}

fn check_service_address(service: &Service) -> Result<(), EditError> {
    let ServiceKey::Address { address, .. } = service.key else { return Ok(()) };
    check_address(address)?;
    if address.port() == 0 && service.persistence.is_none() {
        return Err(EditError::PortZeroNotPersistent { service: service.key });
    }
    Ok(())
}

fn persistence_faults(service: ServiceKey, persistence: Persistence) -> Vec<Fault> {
    let Persistence { timeout, granularity, engine } = persistence;
    let mut faults = Vec::new();
    let whole_seconds = timeout.subsec_nanos() == 0;
    if timeout.is_zero() || !whole_seconds || timeout > Persistence::MAX_TIMEOUT {
        let error = EditError::PersistenceTimeout { service, timeout };
        faults.push(Fault { place: Place::PersistenceTimeout, error });
    }
    if !(persistence.least()..=Persistence::widest(service.ip())).contains(&granularity) {
        let error = EditError::PersistenceGranularity { service, least: persistence.least(), granularity };
        faults.push(Fault { place: Place::PersistenceGranularity, error });
    }
    // EPROTONOSUPPORT would be IPVS's. Of a service by mark it is the datagrams that are looked at.
    if !engine.is_none() && service.protocol().is_some_and(|protocol| protocol != Protocol::Udp) {
        let error = EditError::PersistenceEngineNotUdp { service, engine };
        faults.push(Fault { place: Place::PersistenceEngine, error });
    }
    faults
}

/// The first broken rule, for edits: the service was valid before, so there is hardly a second one.
pub(super) fn check(service: &Service) -> Result<(), EditError> {
    match faults(service).into_iter().next() {
        Some(fault) => Err(fault.error),
        None => Ok(()),
    }
}

/// Whether the scheduler has flags at all.
pub(super) fn has_flags(scheduler: Scheduler) -> bool {
    matches!(scheduler, Scheduler::Sh | Scheduler::Mh)
}

fn check_server(service: ServiceKey, server: &RealServer) -> Result<(), EditError> {
    let RealServer { address, method, .. } = *server;
    let same_family = address.is_ipv4() == service.ip().is_ipv4();
    if !same_family && method != ForwardingMethod::Tunnel {
        return Err(EditError::AddressFamily { service, address, method });
    }
    check_address(address)?;
    // What has a mark may have any port: by NAT the real server's counts if it has one, else none does.
    let ServiceKey::Address { address: virtual_address, .. } = service else { return Ok(()) };
    let (port, service_port) = (address.port(), virtual_address.port());
    // Whatever the method, packets to a service of every port keep theirs.
    if (method != ForwardingMethod::Nat || service_port == 0) && port != service_port {
        return Err(EditError::PortNotAllowed { service, address, method });
    }
    if port == 0 && service_port != 0 {
        return Err(EditError::InvalidAddress { address, fault: AddressFault::PortZero });
    }
    Ok(())
}

/// The address alone, whatever the port.
fn check_address(address: SocketAddr) -> Result<(), EditError> {
    let fault = match address.ip() {
        ip if ip.is_unspecified() => AddressFault::Unspecified,
        ip if ip.is_multicast() => AddressFault::Multicast,
        IpAddr::V4(ip) if ip.is_broadcast() => AddressFault::Broadcast,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => AddressFault::LinkLocal,
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => AddressFault::Ipv4Mapped,
        _ => return Ok(()),
    };
    Err(EditError::InvalidAddress { address, fault })
}
