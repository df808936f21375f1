//! All that lcores decide by, immutable and published whole.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use control::model::{self, ForwardingMethod, Settings, Thresholds};

use super::{Chunked, ServerId, ServiceId, ServiceLookup, TunnelId, Tunnels, overload};
use crate::connection::TimeoutTable;
use crate::forward::tunnel::{Head, UsualHead};
use crate::id::LcoreId;
use crate::nexthop::{Hop, MacAddr, NextHops};
use crate::scheduler::{Candidate, Load, Scheduler};

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

/// Virtual services in a chunk. Copying one counts up each of its services, so there are few.
const SERVICES: usize = 64;
/// Real servers in a chunk, 16 KiB.
const SERVERS: usize = 256;

/// Virtual services by number.
pub type ServiceTable = Chunked<Arc<VirtualService>, SERVICES>;
/// Real servers by number.
pub type ServerTable = Chunked<RealServer, SERVERS>;

/// A real server as forwarding needs it, read for each packet: one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct RealServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 where packets keep theirs.
    pub port: u16,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// False once it was removed; connections to it may outlive it.
    pub present: bool,
    /// Next hop toward it.
    pub hop: Hop,
    /// What is put in front of packets where that is by tunnel: [`Snapshot::tunnel`].
    pub tunnel: TunnelId,
    /// The virtual service that has it, or had.
    pub service: ServiceId,
    /// Where it has thresholds or the service's scheduler follows its load: which one it is in the order in which real servers
    /// were added, the first being 1. Candidates stand in the opposite order.
    pub seat: Option<NonZeroU32>,
}

const _: () = assert!(size_of::<Option<RealServer>>() == 64, "one cache line");

/// Everything, at one moment. What did not change is shared with the snapshot before: to make the next
/// one costs what changed, not what there is.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each publication.
    pub version: u64,
    /// From address and port to virtual service, and to NAT real servers.
    pub lookup: Arc<ServiceLookup>,
    /// Virtual services by number.
    pub services: ServiceTable,
    /// Real servers by number, removed ones included.
    pub servers: ServerTable,
    /// Ports by number.
    pub ports: Vec<PortInfo>,
    /// Next hops toward clients.
    pub hops: Arc<NextHops>,
    /// How long connections live.
    pub timeouts: TimeoutTable,
    /// What the operator has set of the whole director.
    pub settings: Settings,
    /// What tunnels put in front of packets.
    pub tunnels: Tunnels,
    /// Whether a NAT real server is the director itself, so that what the kernel sends may be an answer of it.
    pub local_nat: bool,
}

impl VirtualService {
    /// The same service with another scheduler of the same candidates.
    fn scheduled_by(&self, scheduler: Scheduler) -> VirtualService {
        let VirtualService { id, model, candidates, .. } = self;
        VirtualService { id: *id, model: model.clone(), candidates: candidates.clone(), scheduler }
    }
}

impl Snapshot {
    /// As this one, but with these services alone, by these schedulers: what is not there, nobody can change.
    pub fn copy(&self, schedulers: impl IntoIterator<Item = (ServiceId, Scheduler)>) -> Snapshot {
        let mut services = ServiceTable::default();
        for (id, scheduler) in schedulers {
            if let Some(service) = self.service(id) {
                services.set(id.0 as usize, Some(Arc::new(service.scheduled_by(scheduler))));
            }
        }
        Snapshot {
            version: self.version,
            lookup: self.lookup.clone(),
            services,
            servers: self.servers.clone(),
            ports: self.ports.clone(),
            hops: self.hops.clone(),
            timeouts: self.timeouts,
            settings: self.settings,
            tunnels: self.tunnels.clone(),
            local_nat: self.local_nat,
        }
    }

    /// A virtual service.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&VirtualService> {
        self.services.get(id.0 as usize).map(Arc::as_ref)
    }

    /// A real server.
    #[inline]
    pub fn server(&self, id: ServerId) -> Option<&RealServer> {
        self.servers.get(id.0 as usize)
    }

    /// What is put in front of packets toward a real server by tunnel.
    #[inline]
    pub fn tunnel(&self, server: &RealServer) -> &Head {
        self.tunnels.get(server.tunnel)
    }

    /// As [`Snapshot::tunnel`], for usual packets: `None` where none are.
    #[inline(always)]
    pub fn usual_tunnel(&self, server: &RealServer) -> Option<&UsualHead> {
        self.tunnels.usual(server.tunnel)
    }

    /// Tells whoever goes by the load of a real server that its connections on an lcore are not what they were:
    /// its thresholds and its service's scheduler. For that lcore, after each change of its counters.
    #[inline]
    pub fn load_changed(&self, server: ServerId, load: &impl Load, lcore: LcoreId) {
        let Some(RealServer { service, seat: Some(seat), .. }) = self.server(server) else { return };
        let Some(VirtualService { candidates, scheduler, .. }) = self.service(*service) else { return };
        if let Some(at) = candidates.len().checked_sub(seat.get() as usize) {
            let thresholds = candidates.get(at).map(|candidate| candidate.thresholds);
            if let Some(thresholds) = thresholds.filter(Thresholds::any) {
                overload::judge(thresholds, server, load);
            }
            scheduler.load_changed(candidates, at, load, lcore);
        }
    }
}
