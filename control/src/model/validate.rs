//! What makes a virtual service a valid one. The configuration and every edit are held to these rules alike.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use super::{
    AddressFault, EditError, ForwardingMethod, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey,
};

/// The part of a service that breaks a rule, so that the configuration can point at its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The service's address.
    Address,
    /// The scheduler's flags.
    Flags,
    /// The address of the real server with this index.
    Server(usize),
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
    if let Err(error) = check_address(service.key.address) {
        faults.push(Fault { place: Place::Address, error });
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
    let same_family = address.is_ipv4() == service.address.is_ipv4();
    if !same_family && method != ForwardingMethod::Tunnel {
        return Err(EditError::AddressFamily { service, address, method });
    }
    check_address(address)?;
    if method != ForwardingMethod::Nat && address.port() != service.address.port() {
        return Err(EditError::PortNotAllowed { service, address, method });
    }
    Ok(())
}

fn check_address(address: SocketAddr) -> Result<(), EditError> {
    let fault = match address.ip() {
        ip if ip.is_unspecified() => Some(AddressFault::Unspecified),
        ip if ip.is_multicast() => Some(AddressFault::Multicast),
        IpAddr::V4(ip) if ip.is_broadcast() => Some(AddressFault::Broadcast),
        _ if address.port() == 0 => Some(AddressFault::PortZero),
        _ => None,
    };
    if let Some(fault) = fault {
        return Err(EditError::InvalidAddress { address, fault });
    }
    // The only place that knows that the data plane balances IPv4 alone.
    if address.is_ipv6() {
        return Err(EditError::Ipv6NotSupported { address });
    }
    Ok(())
}
