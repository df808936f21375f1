//! From what the operator said and what the kernel knows to a [`Snapshot`].

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use control::model::{self, ForwardingMethod, ServiceKey, Timeouts};

use super::registry::Registry;
use super::{PortInfo, RealServer, ServerId, ServiceId, ServiceLookup, Snapshot, VirtualService};
use crate::connection::{TimeoutTable, protocol_number};
use crate::nexthop::{Hop, NextHops};
use crate::scheduler::{Candidate, Load, Scheduler};
use crate::stats::{Fleet, ServerTotals};

/// A real server of a virtual service.
type ServerKey = (ServiceKey, SocketAddr);

/// No number is left: too many removed real servers still have connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {limit} numbers for real servers are taken, by those configured and by removed ones that still have \
     connections: wait for those to end, or raise limits.servers and restart"
)]
pub struct Exhausted {
    /// How many numbers there are.
    pub limit: usize,
}

/// What a snapshot is made from.
pub struct Input<'a> {
    /// Virtual services.
    pub services: &'a BTreeMap<ServiceKey, Arc<model::Service>>,
    /// Next hops.
    pub hops: Arc<NextHops>,
    /// Ports by number.
    pub ports: Vec<PortInfo>,
    /// Timeouts that the operator may set.
    pub timeouts: Timeouts,
    /// The oldest snapshot that an lcore still uses.
    pub quiescent: u64,
}

/// Makes snapshots, remembering what must stay the same from one to the next: numbers, scheduler
/// state, counters.
pub struct Compiler {
    services: Registry<ServiceKey>,
    servers: Registry<ServerKey>,
    server_limit: usize,
    version: u64,
    compiled: Vec<Option<Arc<VirtualService>>>,
    lookup: Arc<ServiceLookup>,
    fleet: Fleet,
    /// What a number's counters showed when it was given to its real server.
    baselines: HashMap<u32, ServerTotals>,
    /// What was counted for real servers of a service that are forgotten now.
    forgotten: HashMap<ServiceKey, ServerTotals>,
}

impl Compiler {
    /// A compiler for at most so many services and numbers of real servers at a time; `fleet` has
    /// counters for as many.
    pub fn new(services: usize, servers: usize, fleet: Fleet) -> Compiler {
        Compiler {
            services: Registry::new(services),
            servers: Registry::new(servers),
            server_limit: servers,
            version: 1,
            compiled: Vec::new(),
            lookup: Arc::default(),
            fleet,
            baselines: HashMap::new(),
            forgotten: HashMap::new(),
        }
    }

    /// A snapshot that knows no service and no way anywhere.
    pub fn empty_snapshot(version: u64) -> Snapshot {
        Snapshot {
            version,
            lookup: Arc::default(),
            services: Vec::new(),
            servers: Vec::new(),
            ports: Vec::new(),
            hops: Arc::default(),
            timeouts: TimeoutTable::new(&Timeouts::default()),
        }
    }

    /// The next snapshot.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing that runs is changed by that.
    pub fn compile(&mut self, input: Input<'_>) -> Result<Snapshot, Exhausted> {
        let version = self.version + 1;
        let present = |(key, address): &ServerKey| {
            input.services.get(key).is_some_and(|s| s.servers.iter().any(|server| server.address == *address))
        };
        self.servers.depart(version, present);
        self.services.depart(version, |key| input.services.contains_key(key));
        self.release(input.quiescent);

        let mut compiled: Vec<Option<Arc<VirtualService>>> = Vec::new();
        let mut same_services = true;
        for service in input.services.values() {
            let (id, is_new) =
                self.services.take(service.key).ok_or(Exhausted { limit: self.server_limit })?;
            if is_new {
                self.forgotten.remove(&service.key);
            }
            let at = id as usize;
            if compiled.len() <= at {
                compiled.resize(at + 1, None);
            }
            let previous = self.compiled.get(at).and_then(Option::as_ref).filter(|_| !is_new);
            let built = match previous {
                // Not edited: its scheduler goes on as it is.
                Some(previous) if Arc::ptr_eq(&previous.model, service) => previous.clone(),
                previous => {
                    same_services = false;
                    let previous = previous.cloned();
                    Arc::new(self.build_service(ServiceId(id), service, previous.as_deref())?)
                }
            };
            compiled[at] = Some(built);
        }
        same_services &= compiled.iter().flatten().count() == self.compiled.iter().flatten().count();
        if !same_services {
            self.lookup = Arc::new(build_lookup(&compiled));
        }
        let servers = self.build_servers(&compiled, &input.hops);
        self.compiled = compiled;
        self.version = version;
        Ok(Snapshot {
            version,
            lookup: self.lookup.clone(),
            services: self.compiled.clone(),
            servers,
            ports: input.ports,
            hops: input.hops,
            timeouts: TimeoutTable::new(&input.timeouts),
        })
    }

    fn build_service(
        &mut self,
        id: ServiceId,
        service: &Arc<model::Service>,
        previous: Option<&VirtualService>,
    ) -> Result<VirtualService, Exhausted> {
        let mut candidates = Vec::with_capacity(service.servers.len());
        // IPVS puts a new real server at the head of its list.
        for server in service.servers.iter().rev() {
            let key = (service.key, server.address);
            let (number, is_new) = self.servers.take(key).ok_or(Exhausted { limit: self.server_limit })?;
            let number = ServerId(number);
            if is_new {
                self.baselines.insert(number.0, self.fleet.totals(number));
            }
            let last_weight = if server.weight.0 > 0 {
                server.weight.0
            } else {
                let before = previous.and_then(|p| p.candidates.iter().find(|c| c.server == number));
                before.map_or(0, |c| c.last_weight)
            };
            candidates.push(Candidate {
                server: number,
                address: server.address,
                weight: server.weight.0,
                last_weight,
            });
        }
        let going_on = previous.map(|p| (&p.scheduler, &p.candidates[..]));
        let scheduler = Scheduler::build(service.scheduler, service.flags, &candidates, going_on);
        Ok(VirtualService { id, model: service.clone(), candidates, scheduler })
    }

    fn build_servers(
        &self,
        compiled: &[Option<Arc<VirtualService>>],
        hops: &NextHops,
    ) -> Vec<Option<RealServer>> {
        let mut servers: Vec<Option<RealServer>> = vec![None; self.servers.len()];
        for (number, (_, address), _) in self.servers.iter() {
            // Departed, unless found below.
            servers[number as usize] = Some(RealServer {
                address: address.ip(),
                port: address.port(),
                method: ForwardingMethod::Dr,
                present: false,
                hop: Hop::NoRoute,
                tunnel_source: Ipv4Addr::UNSPECIFIED,
            });
        }
        for service in compiled.iter().flatten() {
            for (candidate, server) in service.candidates.iter().zip(service.model.servers.iter().rev()) {
                let ip = server.address.ip();
                let tunnel_source = match ip {
                    IpAddr::V4(v4) => hops.source_toward_v4(v4),
                    IpAddr::V6(_) => None,
                };
                servers[candidate.server.0 as usize] = Some(RealServer {
                    address: ip,
                    port: server.address.port(),
                    method: server.method,
                    present: true,
                    hop: hops.toward(ip),
                    tunnel_source: tunnel_source.unwrap_or(Ipv4Addr::UNSPECIFIED),
                });
            }
        }
        servers
    }

    fn release(&mut self, quiescent: u64) {
        let (fleet, baselines, forgotten) = (&self.fleet, &mut self.baselines, &mut self.forgotten);
        self.servers.release(
            quiescent,
            |number| fleet.connections(ServerId(number)) == (0, 0),
            |number, (service, _)| {
                let baseline = baselines.remove(&number).unwrap_or_default();
                let sum = forgotten.entry(service).or_default();
                *sum = sum.plus(fleet.totals(ServerId(number)).since(baseline));
            },
        );
        // Connections name their service, but only to be shown: its number may go as soon as no lcore
        // can create a connection for it.
        self.services.release(
            quiescent,
            |_| true,
            |_, key| {
                forgotten.remove(&key);
            },
        );
    }

    /// What was counted for a real server since it was added.
    pub fn server_totals(&self, server: ServerId) -> ServerTotals {
        let baseline = self.baselines.get(&server.0).copied().unwrap_or_default();
        self.fleet.totals(server).since(baseline)
    }

    /// What was counted for each virtual service since it was added, its departed real servers
    /// included.
    pub fn service_totals(&self) -> HashMap<ServiceKey, ServerTotals> {
        let mut totals = self.forgotten.clone();
        for (number, (service, _), _) in self.servers.iter() {
            let sum = totals.entry(*service).or_default();
            *sum = sum.plus(self.server_totals(ServerId(number)));
        }
        totals
    }

    /// The number of a real server, if it has one.
    pub fn server_id(&self, service: ServiceKey, address: SocketAddr) -> Option<ServerId> {
        self.servers.get(&(service, address)).map(ServerId)
    }

    /// The virtual services as compiled last.
    pub fn compiled(&self) -> impl Iterator<Item = &VirtualService> {
        self.compiled.iter().flatten().map(Arc::as_ref)
    }
}

fn build_lookup(compiled: &[Option<Arc<VirtualService>>]) -> ServiceLookup {
    let services = || compiled.iter().flatten();
    ServiceLookup::build(
        services().map(|s| {
            let ServiceKey { protocol, address } = s.model.key;
            (address.ip(), address.port(), protocol_number(protocol), s.id)
        }),
        services().flat_map(|s| {
            let protocol = protocol_number(s.model.key.protocol);
            let nat = s.model.servers.iter().filter(|server| server.method == ForwardingMethod::Nat);
            nat.map(move |server| (server.address.ip(), server.address.port(), protocol))
        }),
    )
}
