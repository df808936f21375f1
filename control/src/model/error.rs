//! Why an edit was refused: what, where, and how to mend it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::{
    Family, ForwardingMethod, Persistence, PersistenceEngine, Scheduler, ServiceKey, Thresholds, Tunnel,
};

/// What is wrong with an address by itself, whatever it is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFault {
    /// `0.0.0.0` or `::`.
    Unspecified,
    /// `224.0.0.0/4` or `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
    /// Port 0, of a real server whose service has a port.
    PortZero,
    /// `fe80::/10`, which means something only together with an interface.
    LinkLocal,
    /// `::ffff:0:0/96`, an IPv4 address in IPv6's clothes.
    Ipv4Mapped,
}

impl fmt::Display for AddressFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressFault::Unspecified => "is the unspecified address",
            AddressFault::Multicast => "is a multicast address",
            AddressFault::Broadcast => "is the broadcast address",
            AddressFault::PortZero => "has port 0",
            AddressFault::LinkLocal => "is a link-local address, which does not say on which link",
            AddressFault::Ipv4Mapped => "is an IPv4 address mapped into IPv6, which no packet carries",
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
         packets reach it with {}", address.port(), port_kept(*service)
    )]
    PortNotAllowed {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
        /// DR or tunnel; any where the service has every port.
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
    /// An address that cannot be balanced, or port 0.
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
    /// A service of every port whose clients' connections would not stay together.
    #[error("virtual service {service} has port 0, which means every port, but is not persistent")]
    PortZeroNotPersistent {
        /// The virtual service.
        service: ServiceKey,
    },
    /// One-packet scheduling of a stream.
    #[error("virtual service {service} cannot have one-packet scheduling, which is for udp")]
    OnePacketNotUdp {
        /// The virtual service.
        service: ServiceKey,
    },
    /// A persistence timeout out of range.
    #[error(
        "virtual service {service} cannot have a persistence timeout of {} s: it is from 1 to {} whole seconds",
        timeout.as_secs_f64(), Persistence::MAX_TIMEOUT.as_secs()
    )]
    PersistenceTimeout {
        /// The virtual service.
        service: ServiceKey,
        /// What it was to be.
        timeout: Duration,
    },
    /// A persistence granularity that is no prefix length of the service's family.
    #[error(
        "virtual service {service} cannot have a persistence granularity of {granularity} bits: \
         it is from {least} to {}", Persistence::widest(service.ip())
    )]
    PersistenceGranularity {
        /// The virtual service.
        service: ServiceKey,
        /// What it is at least, which the persistence engine tells.
        least: u8,
        /// What it was to be, in bits.
        granularity: u8,
    },
    /// A persistence engine that reads datagrams, for a stream.
    #[error("virtual service {service} cannot have the persistence engine {engine}, which is for udp")]
    PersistenceEngineNotUdp {
        /// The virtual service.
        service: ServiceKey,
        /// The engine.
        engine: PersistenceEngine,
    },
    /// A way of wrapping packets that are not wrapped.
    #[error(
        "real server {address} of virtual service {service} cannot have the tunnel {tunnel}: its forwarding method is \
         {method}"
    )]
    TunnelNotAllowed {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
        /// Its forwarding method.
        method: ForwardingMethod,
        /// What it was to be wrapped in.
        tunnel: Tunnel,
    },
    /// A lower threshold that is above the upper one, or without one.
    #[error(
        "real server {address} of virtual service {service} cannot have the lower threshold {}, which is above \
         its upper threshold {}", thresholds.lower, thresholds.upper
    )]
    Thresholds {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        address: SocketAddr,
        /// What they were to be.
        thresholds: Thresholds,
    },
}

/// The port that packets reach a real server with where the forwarding method leaves it alone.
fn port_kept(service: ServiceKey) -> String {
    match service.port() {
        0 => "the port that the client asked for, since the service has every port".to_owned(),
        port => format!("the service's port {port}"),
    }
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
            EditError::PortZeroNotPersistent { .. } => "port-zero-not-persistent",
            EditError::OnePacketNotUdp { .. } => "one-packet-not-udp",
            EditError::PersistenceTimeout { .. } => "persistence-timeout",
            EditError::PersistenceGranularity { .. } => "persistence-granularity",
            EditError::PersistenceEngineNotUdp { .. } => "persistence-engine-not-udp",
            EditError::TunnelNotAllowed { .. } => "tunnel-not-allowed",
            EditError::Thresholds { .. } => "thresholds",
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
            EditError::PortNotAllowed { service, .. } => match service.port() {
                0 => "use port 0, or a virtual service of one port".to_owned(),
                port => format!("use port {port}, or forwarding method nat"),
            },
            EditError::AddressFamily { service, .. } => {
                let family = match service.family() {
                    Family::Ipv4 => "IPv4",
                    Family::Ipv6 => "IPv6",
                };
                format!("give an {family} address")
            }
            EditError::InvalidAddress { fault: AddressFault::PortZero, .. } => {
                "give a port from 1 to 65535".to_owned()
            }
            EditError::InvalidAddress { fault: AddressFault::LinkLocal, .. } => {
                "give a global or a unique local address (fc00::/7)".to_owned()
            }
            EditError::InvalidAddress { fault: AddressFault::Ipv4Mapped, address } => {
                format!("give {}", address.ip().to_canonical())
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
            EditError::PortZeroNotPersistent { .. } => {
                "make it persistent, or give a port from 1 to 65535".to_owned()
            }
            EditError::OnePacketNotUdp { .. } => {
                "leave one-packet scheduling out, or use protocol udp".to_owned()
            }
            EditError::PersistenceTimeout { .. } => {
                format!("give from 1 to {} seconds", Persistence::MAX_TIMEOUT.as_secs())
            }
            EditError::PersistenceGranularity { service, least, .. } => {
                let widest = Persistence::widest(service.ip());
                format!(
                    "give a prefix length from {least} to {widest}; {widest} tells every client from every other"
                )
            }
            EditError::PersistenceEngineNotUdp { .. } => {
                "leave the persistence engine out, or use protocol udp".to_owned()
            }
            EditError::TunnelNotAllowed { .. } => {
                "leave the tunnel out, or use forwarding method tunnel".to_owned()
            }
            EditError::Thresholds { thresholds: Thresholds { upper: 0, .. }, .. } => {
                "give an upper threshold too, or 0 for both".to_owned()
            }
            EditError::Thresholds { thresholds, .. } => {
                format!(
                    "give a lower threshold of at most {}, or 0 for three quarters of it",
                    thresholds.upper
                )
            }
        }
    }
}
