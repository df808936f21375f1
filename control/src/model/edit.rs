//! What an operator can change about the model while the director runs.

use std::net::SocketAddr;

use super::{
    ForwardingMethod, Persistence, PersistenceEdit, RealServer, Scheduler, SchedulerFlags, ServiceKey,
    Tunnel, Weight,
};

/// One change of the model, made whole or not at all: tried by [`Model::change`](super::Model::change), made by
/// [`Model::make`](super::Model::make).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Adds a virtual service without real servers.
    AddService {
        /// What names it.
        key: ServiceKey,
        /// How it chooses a real server.
        scheduler: Scheduler,
        /// The scheduler's options.
        flags: SchedulerFlags,
        /// Whether clients come back to the same real server, and for how long.
        persistence: Option<Persistence>,
        /// Whether each datagram is scheduled by itself.
        one_packet: bool,
    },
    /// Changes what is given of a virtual service.
    EditService {
        /// The virtual service.
        key: ServiceKey,
        /// The new scheduler, if it changes.
        scheduler: Option<Scheduler>,
        /// The new options, if they change. Options that are not given stay as they are, but are dropped
        /// when the new scheduler has none.
        flags: Option<SchedulerFlags>,
        /// What becomes of the persistence, if it changes.
        persistence: Option<PersistenceEdit>,
        /// The new one-packet scheduling, if it changes.
        one_packet: Option<bool>,
    },
    /// Deletes a virtual service with its real servers.
    DeleteService {
        /// The virtual service.
        key: ServiceKey,
    },
    /// Adds a real server behind those that the virtual service has.
    AddServer {
        /// The virtual service.
        service: ServiceKey,
        /// The real server.
        server: RealServer,
    },
    /// Changes what is given of a real server, which keeps its place.
    EditServer {
        /// The virtual service.
        service: ServiceKey,
        /// Which real server.
        address: SocketAddr,
        /// The new weight, if it changes.
        weight: Option<Weight>,
        /// The new forwarding method, if it changes.
        method: Option<ForwardingMethod>,
        /// How it is wrapped from now on, if that changes. A method other than tunnel drops what is not given.
        tunnel: Option<Tunnel>,
        /// The new upper threshold, if it changes.
        upper_threshold: Option<u32>,
        /// The new lower threshold, if it changes.
        lower_threshold: Option<u32>,
    },
    /// Deletes a real server.
    DeleteServer {
        /// The virtual service.
        service: ServiceKey,
        /// Which real server.
        address: SocketAddr,
    },
}
