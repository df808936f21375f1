//! All that lcores decide by, immutable and published whole.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use control::model::{self, ForwardingMethod};

use super::{ServerId, ServiceId, ServiceLookup};
use crate::connection::TimeoutTable;
use crate::nexthop::{Hop, MacAddr, NextHops};
use crate::scheduler::{Candidate, Scheduler};

/// A port as the data plane sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The director's Ethernet address on it: that of its kernel interface.
    pub mac: MacAddr,
}

/// A virtual service with its scheduler.
#[derive(Debug)]
pub struct VirtualService {
    /// Its number.
    pub id: ServiceId,
    /// What the operator said; identical (the same allocation) as long as nobody edits the service.
    pub model: Arc<model::Service>,
    /// Its real servers in the scheduler's order.
    pub candidates: Vec<Candidate>,
    /// How it chooses among them.
    pub scheduler: Scheduler,
}

/// A real server as forwarding needs it.
#[derive(Clone, Copy, Debug)]
pub struct RealServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// False once it was removed; connections to it may outlive it.
    pub present: bool,
    /// Next hop toward it.
    pub hop: Hop,
    /// Source address of tunnel headers.
    pub tunnel_source: Ipv4Addr,
}

/// Everything, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each publication.
    pub version: u64,
    /// From address and port to virtual service, and to NAT real servers.
    pub lookup: Arc<ServiceLookup>,
    /// Virtual services by number; `None` where a number is free.
    pub services: Vec<Option<Arc<VirtualService>>>,
    /// Real servers by number, removed ones included; `None` where a number is free.
    pub servers: Vec<Option<RealServer>>,
    /// Ports by number.
    pub ports: Vec<PortInfo>,
    /// Next hops toward clients.
    pub hops: Arc<NextHops>,
    /// How long connections live.
    pub timeouts: TimeoutTable,
}

impl Snapshot {
    /// A virtual service.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&VirtualService> {
        self.services.get(id.0 as usize)?.as_deref()
    }

    /// A real server.
    #[inline]
    pub fn server(&self, id: ServerId) -> Option<&RealServer> {
        self.servers.get(id.0 as usize)?.as_ref()
    }
}
