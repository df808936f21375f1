//! From what the operator said and what the kernel knows to a [`Snapshot`].

use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;

use control::model::{
    self, Change, ForwardingMethod, PersistenceEngine, Protocol, ServiceKey, Settings, Thresholds, Timeouts,
    Tunnel,
};

use super::accounts::Accounts;
use super::registry::Registry;
use super::{
    Endpoints, Lingering, MarkRules, PortInfo, RealServer, ServerId, ServerTable, ServiceId, ServiceLookup,
    ServiceTable, Snapshot, TunnelId, Tunnels, VirtualService, overload,
};
use crate::connection::{TimeoutTable, protocol_number};
use crate::ftp::FtpPorts;
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

/// The virtual services of a snapshot.
#[derive(Clone, Copy, Debug)]
pub enum Services<'a> {
    /// These are all. Each is compared with what was compiled before, so the cost is that of all.
    All(&'a BTreeMap<ServiceKey, Arc<model::Service>>),
    /// Those of the last snapshot but for these changes, at most one for each service. The cost is that
    /// of the services that change.
    Edited(&'a [Change]),
}

/// What a snapshot is made from.
pub struct Input<'a> {
    /// Virtual services.
    pub services: Services<'a>,
    /// Next hops. Where they are not the allocation of the last snapshot's, every real server's is
    /// looked up.
    pub hops: Arc<NextHops>,
    /// Ports by number.
    pub ports: Vec<PortInfo>,
    /// Timeouts that the operator may set.
    pub timeouts: Timeouts,
    /// What the operator has set of the whole director.
    pub settings: Settings,
    /// The oldest snapshot that an lcore still uses.
    pub quiescent: u64,
}

/// FTP's control port.
const FTP: u16 = 21;

/// How many departed real servers a compilation asks whether they still have connections, unless it
/// runs out of numbers. Many may have left and their connections live for long; each snapshot shall
/// not pay for all of them.
const RELEASE_BUDGET: usize = 256;

/// Makes snapshots, remembering what must stay the same from one to the next: numbers, scheduler
/// state, counters. Everything that snapshots share is kept here as it was last.
pub struct Compiler {
    services: Registry<ServiceKey>,
    servers: Registry<ServerKey>,
    server_limit: usize,
    version: u64,
    compiled: ServiceTable,
    server_table: ServerTable,
    lookup: Arc<ServiceLookup>,
    hops: Arc<NextHops>,
    tunnels: Tunnels,
    fleet: Fleet,
    /// Real servers that were removed or are no longer by NAT, and may have connections; whether those may be by NAT.
    lingering: HashMap<ServerKey, bool>,
    accounts: Accounts,
    marks: Arc<MarkRules>,
    /// Rules for marks have changed since the lookup was made.
    marks_are_new: bool,
    ftp_ports: FtpPorts,
    /// A NAT real server is the director itself, or was since next hops were looked up last.
    local_nat: bool,
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
            compiled: ServiceTable::default(),
            server_table: ServerTable::default(),
            lookup: Arc::default(),
            hops: Arc::default(),
            tunnels: Tunnels::default(),
            fleet,
            lingering: HashMap::new(),
            accounts: Accounts::default(),
            marks: Arc::default(),
            marks_are_new: false,
            ftp_ports: FtpPorts::default(),
            local_nat: false,
        }
    }

    /// The same, for packets that these rules mark. For one that has not compiled yet.
    #[must_use]
    pub fn marking(self, rules: MarkRules) -> Compiler {
        Compiler { marks: Arc::new(rules), ..self }.with_lookup()
    }

    /// The same, for FTP at these ports. For one that has not compiled yet.
    #[must_use]
    pub fn reading_ftp_at(self, ports: FtpPorts) -> Compiler {
        Compiler { ftp_ports: ports, ..self }.with_lookup()
    }

    /// From the next snapshot on, packets are marked by these rules; what may have been marked by those of before still
    /// finds its lcore. Returns those of before, to be put back if there is no next snapshot.
    pub fn mark_by(&mut self, rules: Arc<MarkRules>) -> Arc<MarkRules> {
        self.marks_are_new = true;
        std::mem::replace(&mut self.marks, rules)
    }

    /// Rules for marks.
    pub fn marks(&self) -> &Arc<MarkRules> {
        &self.marks
    }

    fn with_lookup(mut self) -> Compiler {
        self.look_up_endpoints();
        self
    }

    fn look_up_endpoints(&mut self) {
        let lookup = build_lookup(&self.compiled, &self.lingering, self.marks.clone(), self.ftp_ports);
        self.lookup = Arc::new(lookup);
    }

    /// A snapshot that knows no service and no way anywhere.
    pub fn empty_snapshot(version: u64) -> Snapshot {
        Snapshot {
            version,
            lookup: Arc::default(),
            services: ServiceTable::default(),
            servers: ServerTable::default(),
            ports: Vec::new(),
            hops: Arc::default(),
            timeouts: TimeoutTable::new(&Timeouts::default()),
            settings: Settings::default(),
            tunnels: Tunnels::default(),
            local_nat: false,
        }
    }

    /// The next snapshot.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing that runs is changed by that.
    pub fn compile(&mut self, input: Input<'_>) -> Result<Snapshot, Exhausted> {
        let all;
        let changes = match input.services {
            Services::Edited(changes) => changes,
            Services::All(services) => {
                all = self.changes_to(services);
                &all
            }
        };
        self.release(input.quiescent, RELEASE_BUDGET);
        self.check_room(changes, input.quiescent)?;
        self.version += 1;
        if !Arc::ptr_eq(&input.hops, &self.hops) {
            self.hops = input.hops;
            self.look_up_hops();
        }
        let mut same_endpoints = true;
        for change in changes {
            same_endpoints &= self.make(change);
        }
        let same_marks = !std::mem::take(&mut self.marks_are_new);
        if !(same_endpoints && same_marks) {
            self.look_up_endpoints();
        }
        Ok(Snapshot {
            version: self.version,
            lookup: self.lookup.clone(),
            services: self.compiled.clone(),
            servers: self.server_table.clone(),
            ports: input.ports,
            hops: self.hops.clone(),
            timeouts: TimeoutTable::new(&input.timeouts),
            settings: input.settings,
            tunnels: self.tunnels.clone(),
            local_nat: self.local_nat,
        })
    }

    /// What makes the services compiled last into `services`.
    fn changes_to(&self, services: &BTreeMap<ServiceKey, Arc<model::Service>>) -> Vec<Change> {
        let deleted = self.compiled().map(|s| s.model.key).filter(|key| !services.contains_key(key));
        let deleted = deleted.map(|key| Change { key, service: None });
        let edited = services.values().filter(|service| {
            let before = self.services.get(&service.key).and_then(|id| self.compiled.get(id as usize));
            !before.is_some_and(|before| Arc::ptr_eq(&before.model, service))
        });
        deleted.chain(edited.map(|s| Change { key: s.key, service: Some(s.clone()) })).collect()
    }

    /// Whether there are numbers for all that these changes add. `quiescent` as in [`Input`].
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn check_room(&mut self, changes: &[Change], quiescent: u64) -> Result<(), Exhausted> {
        if !self.has_room(changes) {
            self.release(quiescent, usize::MAX);
        }
        if self.has_room(changes) { Ok(()) } else { Err(Exhausted { limit: self.server_limit }) }
    }

    /// Whether there are numbers for all that these changes add.
    fn has_room(&self, changes: &[Change]) -> bool {
        let wanted = || changes.iter().filter_map(|change| change.service.as_ref());
        let new_services = wanted().filter(|service| self.services.get(&service.key).is_none()).count();
        // Mostly there are numbers even if every real server were new.
        new_services <= self.services.room()
            && (wanted().map(|service| service.servers.len()).sum::<usize>() <= self.servers.room() || {
                let keys = wanted().flat_map(|s| s.servers.iter().map(|server| (s.key, server.address)));
                keys.filter(|key| self.servers.get(key).is_none()).count() <= self.servers.room()
            })
    }

    /// Makes a change, for which there are numbers. True when all endpoints that [`ServiceLookup`]
    /// knows stay as they are.
    fn make(&mut self, change: &Change) -> bool {
        let number = self.services.get(&change.key);
        let previous = number.and_then(|number| self.compiled.get(number as usize)).cloned();
        match (&change.service, previous) {
            // Not edited: its scheduler goes on as it is.
            (Some(service), Some(previous)) if Arc::ptr_eq(&previous.model, service) => true,
            (Some(service), previous) => {
                let (number, is_new) = self.services.take(service.key);
                if is_new {
                    self.accounts.forget(service.key);
                }
                let built = self.build_service(ServiceId(number), service, previous.as_deref());
                self.compiled.set(number as usize, Some(Arc::new(built)));
                let Some(previous) = previous else { return false };
                self.depart_all_but(&previous, service);
                nat_servers(&previous.model).eq(nat_servers(service))
                    && gue_ends(&previous.model).eq(gue_ends(service))
                    && catches_ftp_data(&previous.model) == catches_ftp_data(service)
                    && speaks_of_calls(&previous.model) == speaks_of_calls(service)
            }
            (None, Some(previous)) => {
                let ServiceId(number) = previous.id;
                self.services.depart(number, self.version);
                self.compiled.set(number as usize, None);
                let depart = |candidate| self.depart(change.key, previous.id, candidate);
                previous.candidates.iter().for_each(depart);
                false
            }
            (None, None) => true,
        }
    }

    fn build_service(
        &mut self,
        id: ServiceId,
        service: &Arc<model::Service>,
        previous: Option<&VirtualService>,
    ) -> VirtualService {
        let mut candidates = Vec::with_capacity(service.servers.len());
        // Looked at only where a weight is 0, or there are thresholds.
        let before: LazyCell<HashMap<ServerId, &Candidate>, _> = LazyCell::new(|| {
            let before = previous.into_iter().flat_map(|previous| &previous.candidates);
            before.map(|candidate| (candidate.server, candidate)).collect()
        });
        let had_thresholds =
            previous.is_some_and(|previous| previous.candidates.iter().any(|c| c.thresholds.any()));
        // IPVS puts a new real server at the head of its list.
        let follows_load = Scheduler::follows_load(service.scheduler, service.servers.len());
        for (at, server) in service.servers.iter().enumerate().rev() {
            let has_seat = follows_load || server.thresholds.any();
            let seat = if has_seat { NonZeroU32::new(at as u32 + 1) } else { None };
            let number = self.place_server((service.key, id), server, seat);
            if had_thresholds || server.thresholds.any() {
                let before = before.get(&number).map(|c| c.thresholds).unwrap_or_default();
                self.judge(number, server.thresholds, before);
            }
            let last_weight = match server.weight.0 {
                0 => before.get(&number).map(|c| c.last_weight).unwrap_or_default(),
                weight => weight,
            };
            candidates.push(Candidate {
                server: number,
                address: server.address,
                weight: server.weight.0,
                last_weight,
                thresholds: server.thresholds,
            });
        }
        let going_on = previous.map(|p| (&p.scheduler, &p.candidates[..]));
        let lcores = self.fleet.lcores().len();
        let scheduler = Scheduler::build(service.scheduler, service.flags, &candidates, going_on, lcores);
        VirtualService { id, model: service.clone(), candidates, scheduler }
    }

    /// Other thresholds: whether a real server is overloaded by them. Higher ones, or none, end an overload at
    /// once (Linux `__ip_vs_update_dest` in `ip_vs_ctl.c`).
    fn judge(&self, server: ServerId, thresholds: Thresholds, before: Thresholds) {
        if thresholds == before {
            return;
        }
        if !thresholds.any() || thresholds.upper > before.upper {
            self.fleet.set_overloaded(server, false);
        }
        overload::judge(thresholds, server, &self.fleet);
    }

    /// Gives a real server a number and its place in the table.
    fn place_server(
        &mut self,
        (key, service): (ServiceKey, ServiceId),
        server: &model::RealServer,
        seat: Option<NonZeroU32>,
    ) -> ServerId {
        let (number, is_new) = self.servers.take((key, server.address));
        let id = ServerId(number);
        if is_new {
            self.accounts.open(number, &self.fleet);
            self.fleet.set_overloaded(id, false);
        }
        let before = self.server_table.get(number as usize);
        let was_nat = before.is_some_and(|before| before.present && before.method == ForwardingMethod::Nat);
        self.linger((key, server.address), was_nat, Some(server.method));
        let before = self.server_table.get(number as usize);
        let entry = match before {
            // Of an edited service most are as they were.
            Some(before)
                if before.present
                    && before.method == server.method
                    && self.tunnels.get(before.tunnel).tunnel == server.tunnel =>
            {
                RealServer { seat, ..*before }
            }
            _ => {
                let entry = RealServer {
                    address: server.address.ip(),
                    port: server.address.port(),
                    method: server.method,
                    present: true,
                    hop: Hop::NoRoute,
                    tunnel: TunnelId::NONE,
                    service,
                    seat,
                };
                with_hop(entry, server.tunnel, &self.hops, &mut self.tunnels)
            }
        };
        self.local_nat |= is_local_nat(&entry);
        if before != Some(&entry) {
            self.server_table.set(number as usize, Some(entry));
        }
        id
    }

    /// Notes which real servers a service has no longer.
    fn depart_all_but(&mut self, previous: &VirtualService, service: &model::Service) {
        let addresses = || service.servers.iter().rev().map(|server| server.address);
        // Other weights, another scheduler: mostly nobody leaves.
        if previous.candidates.iter().map(|candidate| candidate.address).eq(addresses()) {
            return;
        }
        let stay: HashSet<SocketAddr> = addresses().collect();
        let gone = previous.candidates.iter().filter(|candidate| !stay.contains(&candidate.address));
        gone.for_each(|candidate| self.depart(previous.model.key, previous.id, candidate));
    }

    /// Remembers of a real server what its connections may be known by when the lookup knows it no longer, or not by
    /// that: the service that it had, and itself if it was one by NAT.
    fn linger(&mut self, key: ServerKey, was_nat: bool, method: Option<ForwardingMethod>) {
        let is_nat = method == Some(ForwardingMethod::Nat);
        let may_be_nat = (was_nat || self.lingering.get(&key).copied().unwrap_or(false)) && !is_nat;
        if method.is_none() || may_be_nat {
            self.lingering.insert(key, may_be_nat);
        } else {
            self.lingering.remove(&key);
        }
    }

    fn depart(&mut self, key: ServiceKey, service: ServiceId, candidate: &Candidate) {
        let ServerId(number) = candidate.server;
        let was_nat =
            self.server_table.get(number as usize).is_some_and(|e| e.method == ForwardingMethod::Nat);
        self.linger((key, candidate.address), was_nat, None);
        self.servers.depart(number, self.version);
        let entry = RealServer {
            address: candidate.address.ip(),
            port: candidate.address.port(),
            method: ForwardingMethod::Dr,
            present: false,
            hop: Hop::NoRoute,
            tunnel: TunnelId::NONE,
            service,
            seat: None,
        };
        self.server_table.set(number as usize, Some(entry));
    }

    /// The next hop of every real server, by new ones. Where it is the one of before, nothing is copied.
    fn look_up_hops(&mut self) {
        let Compiler { server_table, hops, tunnels, .. } = self;
        let entries = server_table.iter().filter(|(_, entry)| entry.present);
        let entries = entries.map(|(at, entry)| {
            let tunnel = tunnels.get(entry.tunnel).tunnel;
            (at, with_hop(*entry, tunnel, hops, tunnels), entry)
        });
        let other: Vec<_> =
            entries.filter(|(_, new, old)| new != *old).map(|(at, new, _)| (at, new)).collect();
        for (at, entry) in other {
            self.server_table.set(at, Some(entry));
        }
        self.local_nat = self.server_table.iter().any(|(_, entry)| is_local_nat(entry));
    }

    fn release(&mut self, quiescent: u64, budget: usize) {
        let Compiler { services, servers, server_table, fleet, accounts, lingering, .. } = self;
        servers.release(
            quiescent,
            budget,
            |number| fleet.connections(ServerId(number)) == (0, 0),
            |number, (service, address)| {
                server_table.set(number as usize, None);
                lingering.remove(&(service, address));
                // Nobody asks what was counted for a service that is forgotten itself.
                let service = Some(service).filter(|service| services.get(service).is_some());
                accounts.close(number, service, fleet);
            },
        );
        // Connections name their service, but only to be shown: its number may go as soon as no lcore
        // can create a connection for it.
        services.release(
            quiescent,
            budget,
            |_| true,
            |_, key| {
                accounts.forget(key);
            },
        );
    }

    /// What was counted for a real server since it was added, or zeroed.
    pub fn server_totals(&self, ServerId(number): ServerId) -> ServerTotals {
        self.accounts.server(number, &self.fleet)
    }

    /// Every real server, departed ones included, with what was counted for it.
    pub fn all_servers(&self) -> impl Iterator<Item = (ServerId, ServiceKey, SocketAddr, ServerTotals)> {
        let server = |(number, &(service, address)): (u32, &ServerKey)| {
            (ServerId(number), service, address, self.accounts.server(number, &self.fleet))
        };
        self.servers.iter().map(server)
    }

    /// What was counted for real servers of a service that are forgotten.
    pub fn forgotten_totals(&self, service: ServiceKey) -> ServerTotals {
        self.accounts.forgotten(service)
    }

    /// What was counted for everybody who is forgotten.
    pub fn gone_totals(&self) -> ServerTotals {
        self.accounts.gone()
    }

    /// What was counted for each virtual service since it was added, or zeroed, its departed real servers
    /// included.
    pub fn service_totals(&self) -> HashMap<ServiceKey, ServerTotals> {
        let keys = self.compiled().map(|service| service.model.key);
        let mut totals: HashMap<_, _> = keys.map(|key| (key, self.forgotten_totals(key))).collect();
        for (_, service, _, counted) in self.all_servers() {
            let sum = totals.entry(service).or_default();
            *sum = sum.plus(counted);
        }
        totals
    }

    /// What was counted altogether since the start, or since all was zeroed.
    pub fn all_totals(&self) -> ServerTotals {
        self.all_servers().fold(self.gone_totals(), |sum, (.., counted)| sum.plus(counted))
    }

    /// Lets the counters of a service and its real servers begin at nothing (`ipvsadm -Z`), or those of
    /// everybody. Lcores count on as before.
    pub fn zero(&mut self, service: Option<ServiceKey>) {
        let Compiler { servers, accounts, fleet, .. } = self;
        match service {
            None => accounts.zero_all(fleet),
            Some(key) => {
                let own = servers.iter().filter(|(_, (service, _))| *service == key);
                accounts.zero(key, own.map(|(number, _)| number), fleet);
            }
        }
    }

    /// The number of a real server, if it has one.
    pub fn server_id(&self, service: ServiceKey, address: SocketAddr) -> Option<ServerId> {
        self.servers.get(&(service, address)).map(ServerId)
    }

    /// How many connections a real server has over all lcores, active and inactive. One that health checks have taken out
    /// keeps its number, and so its count, while it has any.
    pub fn connections(&self, service: ServiceKey, address: SocketAddr) -> (u64, u64) {
        self.server_id(service, address).map_or((0, 0), |id| self.fleet.connections(id))
    }

    /// The virtual services as compiled last.
    pub fn compiled(&self) -> impl Iterator<Item = &VirtualService> {
        self.compiled.iter().map(|(_, service)| service.as_ref())
    }
}

/// A real server with the next hop toward it.
fn with_hop(server: RealServer, tunnel: Tunnel, hops: &NextHops, tunnels: &mut Tunnels) -> RealServer {
    let source = hops.source_toward(server.address);
    let tunnel = tunnels.number(source, server.address, tunnel);
    RealServer { hop: hops.toward(server.address), tunnel, ..server }
}

fn is_local_nat(server: &RealServer) -> bool {
    server.present && server.method == ForwardingMethod::Nat && server.hop == Hop::Local
}

/// Where replies of a service's NAT real servers come from.
fn nat_servers(service: &model::Service) -> impl Iterator<Item = SocketAddr> {
    let nat = service.servers.iter().filter(|server| server.method == ForwardingMethod::Nat);
    nat.map(|server| server.address)
}

/// Where a service's real servers take packets out of GUE.
fn gue_ends(service: &model::Service) -> impl Iterator<Item = (IpAddr, u16)> {
    service.servers.iter().filter_map(|server| match server.tunnel {
        Tunnel::Gue { port, .. } => Some((server.address.ip(), port.get())),
        Tunnel::Ipip | Tunnel::Gre { .. } => None,
    })
}

/// Whether connections to other ports of the VIP are this service's as well: FTP's data connections
/// find their way by persistence (Linux `ip_vs_service_find` in `ip_vs_ctl.c`).
fn catches_ftp_data(service: &model::Service) -> bool {
    let is_ftp = service.key.protocol() == Some(Protocol::Tcp) && service.key.port() == FTP;
    is_ftp && service.persistence.is_some()
}

/// Whether what its NAT real servers send unasked is of calls to it. What has a mark or every port could not be told
/// which address and port to leave with (Linux `ip_vs_new_conn_out` in `ip_vs_core.c`).
fn speaks_of_calls(service: &model::Service) -> bool {
    let is_by_call = service.persistence.is_some_and(|p| p.engine == PersistenceEngine::Sip);
    is_by_call && service.key.protocol() == Some(Protocol::Udp) && service.key.port() != 0
}

fn build_lookup(
    compiled: &ServiceTable,
    lingering: &HashMap<ServerKey, bool>,
    marks: Arc<MarkRules>,
    ftp_ports: FtpPorts,
) -> ServiceLookup {
    let lingering = endpoints_of(lingering, &ftp_ports);
    let mut endpoints = Endpoints { lingering, marks, ftp_ports, ..Endpoints::default() };
    for (_, service) in compiled.iter() {
        endpoints.gue_ends.extend(gue_ends(&service.model));
        let (protocol, address) = match service.model.key {
            ServiceKey::Address { protocol, address } => (protocol, address),
            ServiceKey::Mark { mark, family } => {
                endpoints.marked.push((mark, family, service.id));
                let before = endpoints.nat_servers.len();
                let servers = nat_servers(&service.model).flat_map(marked_ends);
                endpoints.nat_servers.extend(servers);
                endpoints.marks_by_nat |= endpoints.nat_servers.len() > before;
                continue;
            }
        };
        let (vip, protocol) = (address.ip(), protocol_number(protocol));
        endpoints.services.push((vip, address.port(), protocol, service.id));
        if speaks_of_calls(&service.model) {
            let servers = nat_servers(&service.model).map(|server| (server.ip(), server.port(), service.id));
            endpoints.sip_servers.extend(servers);
        }
        // FTP's data come from other ports than commands.
        let any_port =
            service.model.key.protocol() == Some(Protocol::Tcp) && ftp_ports.contains(address.port());
        let nat_servers = nat_servers(&service.model)
            .flat_map(|server| ports(server, any_port).map(move |port| (server.ip(), port, protocol)));
        let before = endpoints.nat_servers.len();
        endpoints.nat_servers.extend(nat_servers);
        if any_port && endpoints.nat_servers.len() > before {
            endpoints.ftp_by_nat.push(vip);
        }
        if catches_ftp_data(&service.model) {
            endpoints.ftp.push((vip, service.id));
        }
    }
    ServiceLookup::build(endpoints)
}

/// Where a real server of a service by mark answers from. It may have connections of any protocol; and of any port,
/// since the service has one to compare packets' with only as long as it is not persistent.
fn marked_ends(server: SocketAddr) -> impl Iterator<Item = (IpAddr, u16, u8)> {
    ports(server, true)
        .flat_map(move |port| Protocol::ALL.iter().map(move |p| (server.ip(), port, protocol_number(*p))))
}

/// The ports that a real server answers from: its own, and all, for which 0 stands, if it may be any.
fn ports(server: SocketAddr, any: bool) -> impl Iterator<Item = u16> {
    [server.port()].into_iter().chain((any && server.port() != 0).then_some(0))
}

/// What packets of connections to these real servers may come from and go to.
fn endpoints_of(servers: &HashMap<ServerKey, bool>, ftp_ports: &FtpPorts) -> Lingering {
    let mut lingering = Lingering::default();
    for ((service, server), may_be_nat) in servers {
        let ServiceKey::Address { protocol, address } = service else {
            // Which packets were for it, the rules tell.
            if *may_be_nat {
                lingering.nat_servers.extend(marked_ends(*server));
            }
            continue;
        };
        // FTP's data have other ports than its service.
        let is_ftp = ftp_ports.contains(address.port()) || address.port() == FTP;
        let any_port = *protocol == Protocol::Tcp && is_ftp;
        let protocol = protocol_number(*protocol);
        let port = |address: &SocketAddr| if any_port { 0 } else { address.port() };
        lingering.services.insert((address.ip(), port(address), protocol));
        if *may_be_nat {
            lingering.nat_servers.insert((server.ip(), port(server), protocol));
        }
    }
    lingering
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Publisher;
    use crate::stats::LcoreCounters;
    use control::model::{Edit, Limits, Mark, MarkRule, Model, SchedulerFlags, Weight};
    use std::net::Ipv4Addr;

    const SERVICES: u32 = 200;
    const SERVERS: u32 = 5;

    fn key(n: u32) -> ServiceKey {
        ServiceKey::Address { protocol: Protocol::Udp, address: (Ipv4Addr::from(0x0a63_0000 + n), 53).into() }
    }

    fn server(service: u32, n: u32) -> model::RealServer {
        let address = (Ipv4Addr::from(0x0a80_0000 + service * 100 + n), 53).into();
        let thresholds = Thresholds::default();
        let (method, tunnel) = (ForwardingMethod::Nat, Tunnel::default());
        model::RealServer { address, method, tunnel, weight: Weight(1), thresholds }
    }

    fn many() -> Model {
        let services = (0..SERVICES).map(|n| model::Service {
            key: key(n),
            scheduler: model::Scheduler::Wlc,
            flags: SchedulerFlags::default(),
            persistence: None,
            one_packet: false,
            servers: (0..SERVERS).map(|at| server(n, at)).collect(),
        });
        Model::new(services, &Limits::default()).unwrap()
    }

    struct Bench {
        model: Model,
        compiler: Compiler,
        hops: Arc<NextHops>,
    }

    impl Bench {
        fn compile(&mut self, services: Services<'_>, quiescent: u64) -> Result<Snapshot, Exhausted> {
            let (hops, timeouts, settings) = (self.hops.clone(), Timeouts::default(), Settings::default());
            self.compiler.compile(Input { services, hops, ports: Vec::new(), timeouts, settings, quiescent })
        }

        fn edit(&mut self, edit: Edit, quiescent: u64) -> Result<Snapshot, Exhausted> {
            let change = self.model.change(&edit, &Limits::default()).unwrap();
            let snapshot = self.compile(Services::Edited(std::slice::from_ref(&change)), quiescent)?;
            self.model.make(change);
            Ok(snapshot)
        }
    }

    /// All compiled, with room for so many more real servers.
    fn bench(spare: u32) -> (Bench, Snapshot) {
        let numbers = (SERVICES * SERVERS + spare) as usize;
        let fleet = Fleet::new(vec![Arc::new(LcoreCounters::new(numbers))]);
        let compiler = Compiler::new(SERVICES as usize + 1, numbers, fleet);
        let mut bench = Bench { model: many(), compiler, hops: Arc::default() };
        let model = bench.model.clone();
        let snapshot = bench.compile(Services::All(model.services()), 1).unwrap();
        (bench, snapshot)
    }

    fn weight(n: u32, at: u32, weight: u16) -> Edit {
        let address = server(n, at).address;
        Edit::EditServer {
            service: key(n),
            address,
            weight: Some(Weight(weight)),
            method: None,
            tunnel: None,
            upper_threshold: None,
            lower_threshold: None,
        }
    }

    #[test]
    fn another_weight_shares_all_but_its_service() {
        let (mut bench, before) = bench(0);
        let after = bench.edit(weight(150, 2, 7), 1).unwrap();
        assert!(after.servers.is_same(&before.servers));
        assert!(Arc::ptr_eq(&after.lookup, &before.lookup));
        assert!(Arc::ptr_eq(&after.hops, &before.hops));
        let ServiceId(edited) = bench.compiler.compiled().find(|s| s.model.key == key(150)).unwrap().id;
        assert_eq!(after.services.differing(&before.services).len(), 1);
        for ((at, new), (_, old)) in after.services.iter().zip(before.services.iter()) {
            assert_eq!(Arc::ptr_eq(new, old), at != edited as usize);
        }
        // Nothing was edited.
        let again = bench.edit(weight(150, 2, 7), 1).unwrap();
        assert!(again.services.is_same(&after.services));
        // The same when the compiler has to find out for itself.
        let model = bench.model.clone();
        let again = bench.compile(Services::All(model.services()), 1).unwrap();
        assert!(again.services.is_same(&after.services) && again.servers.is_same(&after.servers));
    }

    #[test]
    fn a_real_server_that_comes_or_goes_copies_its_own_chunk() {
        let (mut bench, before) = bench(1);
        let after = bench.edit(Edit::AddServer { service: key(3), server: server(3, 50) }, 1).unwrap();
        assert!(after.servers.differing(&before.servers).len() <= 1);
        assert_eq!(after.services.differing(&before.services).len(), 1);
        assert!(!Arc::ptr_eq(&after.lookup, &before.lookup));
        let gone =
            bench.edit(Edit::DeleteServer { service: key(3), address: server(3, 1).address }, 1).unwrap();
        assert_eq!(gone.servers.differing(&after.servers).len(), 1);
        assert!(!gone.lookup.is_nat_server(server(3, 1).address.ip(), 53, 17));
        // Hops that lead where they led copy nothing.
        bench.hops = Arc::default();
        let same = bench.compile(Services::Edited(&[]), 1).unwrap();
        assert!(same.servers.is_same(&gone.servers) && !Arc::ptr_eq(&same.hops, &gone.hops));
    }

    #[test]
    fn what_no_snapshot_shares_any_more_is_freed() {
        let (mut bench, first) = bench(0);
        let old = Arc::downgrade(first.services.get(0).unwrap());
        let key = first.services.get(0).unwrap().model.key;
        let at = (0..SERVICES).find(|n| self::key(*n) == key).unwrap();
        let (mut publisher, mut readers) = Publisher::new(1, first);
        publisher.publish(bench.edit(weight(at, 0, 2), 1).unwrap());
        assert!(old.upgrade().is_some(), "the lcore still uses it");
        assert!(readers[0].refresh());
        assert!(old.upgrade().is_some(), "not freed on the lcore");
        publisher.collect();
        assert!(old.upgrade().is_none());
    }

    #[test]
    fn without_numbers_nothing_changes() {
        let (mut bench, before) = bench(1);
        let address = server(7, 0).address;
        bench.edit(Edit::AddServer { service: key(7), server: server(7, 50) }, 1).unwrap();
        let after = bench.edit(Edit::DeleteServer { service: key(7), address }, 1).unwrap();
        // The number of the one removed is kept as long as an lcore may use it.
        let add = Edit::AddServer { service: key(8), server: server(8, 50) };
        let limit = (SERVICES * SERVERS + 1) as usize;
        assert_eq!(bench.edit(add.clone(), before.version).err(), Some(Exhausted { limit }));
        let same = bench.compile(Services::Edited(&[]), before.version).unwrap();
        assert!(same.servers.is_same(&after.servers) && same.services.is_same(&after.services));
        assert!(Arc::ptr_eq(&same.lookup, &after.lookup));
        assert_eq!(same.version, after.version + 1);
        let freed = bench.compile(Services::Edited(&[]), after.version).unwrap();
        assert_eq!((same.servers.iter().count(), freed.servers.iter().count()), (limit, limit - 1));
        bench.edit(add, after.version).unwrap();
    }

    #[test]
    fn other_rules_for_marks_make_another_lookup_and_leave_the_rest() {
        let (mut bench, before) = bench(0);
        let rule = MarkRule {
            mark: Mark::FIRST,
            protocol: None,
            sources: Vec::new(),
            destinations: Vec::new(),
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            ingress: Some(0),
            dscp: None,
        };
        let old = bench.compiler.mark_by(Arc::new(MarkRules::new(vec![rule])));
        let after = bench.compile(Services::Edited(&[]), 1).unwrap();
        assert!(after.lookup.asks_ingress() && !before.lookup.asks_ingress());
        assert!(after.services.is_same(&before.services) && after.servers.is_same(&before.servers));
        let again = bench.compile(Services::Edited(&[]), 1).unwrap();
        assert!(Arc::ptr_eq(&again.lookup, &after.lookup), "once");
        bench.compiler.mark_by(old);
        assert!(!bench.compile(Services::Edited(&[]), 1).unwrap().lookup.marks().any());
    }
}
