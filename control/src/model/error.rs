//! Why an edit was refused: what, where, and how to mend it.

use std::fmt;
use std::net::SocketAddr;

use super::{ForwardingMethod, Scheduler, ServiceKey};

/// What is wrong with an address by itself, whatever it is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFault {
    /// `0.0.0.0` or `::`.
    Unspecified,
    /// `224.0.0.0/4` or `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Port 0.
    PortZero,
}

impl fmt::Display for AddressFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressFault::Unspecified => "is the unspecified address",
            AddressFault::Multicast => "is a multicast address",
            AddressFault::Broadcast => "is the broadcast address",
            AddressFault::PortZero => "has port 0",
        })
    }
}

/// What there can be only so many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Virtual services.
    Services,
    /// Real servers of all virtual services together.
    Servers,
}

impl Limited {
    fn word(self) -> &'static str {
        match self {
            Limited::Services => "services",
            Limited::Servers => "servers",
        }
    }
}

/// An edit that the model refuses. The display says what is wrong and where; [`EditError::remedy`] how to
/// mend it; [`EditError::code`] is for programs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The virtual service is there already.
    #[error("virtual service {service} exists already")]
    ServiceExists {
        /// The virtual service.
        service: ServiceKey,
    },
    /// There is no such virtual service.
    #[error("there is no virtual service {service}")]
    NoSuchService {
        /// The virtual service asked for.
        service: ServiceKey,
    },
    /// The real server is in the virtual service already.
    #[error("virtual service {service} has the real server {address} already")]
    ServerExists {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
    },
    /// The virtual service has no such real server.
    #[error("virtual service {service} has no real server {address}")]
    NoSuchServer {
        /// The virtual service.
        service: ServiceKey,
        /// The real server asked for.
        address: SocketAddr,
    },
    /// Direct routing and tunnelling leave the port alone, so the real server's must be the service's.
    #[error(
        "real server {address} of virtual service {service} cannot have port {} with forwarding method {method}: \
         packets reach it with the service's port {}", address.port(), service.address.port()
    )]
    PortNotAllowed {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
        /// DR or tunnel.
        method: ForwardingMethod,
    },
    /// IPv4 here and IPv6 there, which only a tunnel can join.
    #[error(
        "real server {address} of virtual service {service} is not of the service's address family, \
         which forwarding method {method} cannot bridge"
    )]
    AddressFamily {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
        /// NAT or DR.
        method: ForwardingMethod,
    },
    /// An address that no host can have, or port 0.
    #[error("{address} {fault}, which neither a virtual service nor a real server can have")]
    InvalidAddress {
        /// The address.
        address: SocketAddr,
        /// What is wrong with it.
        fault: AddressFault,
    },
    /// Only the hashing schedulers have flags.
    #[error(
        "scheduler {scheduler} of virtual service {service} knows neither the fallback nor the port flag"
    )]
    FlagsNotAllowed {
        /// The virtual service.
        service: ServiceKey,
        /// Its scheduler.
        scheduler: Scheduler,
    },
    /// No room for one more; counters were allocated for so many at start.
    #[error("there is room for {limit} {} only, all of them taken", what.word())]
    LimitReached {
        /// What there are too many of.
        what: Limited,
        /// How many there can be.
        limit: usize,
    },
    /// IPv6 is not balanced yet.
    #[error("{address} is an IPv6 address, and IPv6 is not supported yet")]
    Ipv6NotSupported {
        /// The address.
        address: SocketAddr,
    },
}

impl EditError {
    /// A short name for programs that does not change: kebab-case, one per variant.
    pub fn code(&self) -> &'static str {
        match self {
            EditError::ServiceExists { .. } => "service-exists",
            EditError::NoSuchService { .. } => "no-such-service",
            EditError::ServerExists { .. } => "server-exists",
            EditError::NoSuchServer { .. } => "no-such-server",
            EditError::PortNotAllowed { .. } => "port-not-allowed",
            EditError::AddressFamily { .. } => "address-family",
            EditError::InvalidAddress { .. } => "invalid-address",
            EditError::FlagsNotAllowed { .. } => "flags-not-allowed",
            EditError::LimitReached { .. } => "limit-reached",
            EditError::Ipv6NotSupported { .. } => "ipv6-not-supported",
        }
    }

    /// What the operator can do about it, as an instruction.
    pub fn remedy(&self) -> String {
        match self {
            EditError::ServiceExists { .. } => {
                "edit the existing virtual service, or delete it first".to_owned()
            }
            EditError::NoSuchService { .. } => {
                "list the virtual services, and add this one if it is missing".to_owned()
            }
            EditError::ServerExists { .. } => "edit the existing real server, or delete it first".to_owned(),
            EditError::NoSuchServer { service, .. } => {
                format!("list the real servers of {service}, and add this one if it is missing")
            }
            EditError::PortNotAllowed { service, .. } => {
                format!("use port {}, or forwarding method nat", service.address.port())
            }
            EditError::AddressFamily { service, .. } => {
                let family = if service.address.is_ipv4() { "IPv4" } else { "IPv6" };
                format!("give an {family} address")
            }
            EditError::InvalidAddress { fault: AddressFault::PortZero, .. } => {
                "give a port from 1 to 65535".to_owned()
            }
            EditError::InvalidAddress { .. } => "give the unicast address of a host".to_owned(),
            EditError::FlagsNotAllowed { .. } => {
                "leave the flags out, or use scheduler sh or mh, which have them".to_owned()
            }
            EditError::LimitReached { what, .. } => {
                let what = what.word();
                format!(
                    "delete {what} that are not needed, or raise `{what}` in [limits] and restart the director"
                )
            }
            EditError::Ipv6NotSupported { .. } => "give an IPv4 address".to_owned(),
        }
    }
}
