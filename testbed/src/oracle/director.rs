//! The slow director: services, connections in a list, and what becomes of a packet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use control::model::{
    Family, ForwardingMethod, Mark, MarkRule, PersistenceEngine, PortRange, Prefix, Protocol, Scheduler,
    Service, ServiceKey, Settings, Timeouts,
};

use super::fragments::{self, Fate, Fragments};
use super::life::{self, Half};
use super::network::{self, MTU};
use super::packet::{ICMP, ICMPV6, Packet, SCTP, TCP, UDP, quoted};
use super::persistence::{Name, Template};
use super::schedule::{self, Memory, Server};

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It leaves by a port, like this. The director wrote its identification itself where `own` is set.
    Send {
        /// The port: 0 on the clients' side, 1 on the servers'.
        port: u8,
        /// The frame.
        frame: Vec<u8>,
        /// The outer header is the director's.
        own: bool,
    },
    /// It goes to the kernel as it is.
    Punt,
    /// It is lost.
    Drop,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Connection {
    number: u64,
    protocol: u8,
    client: SocketAddr,
    vip: SocketAddr,
    server: SocketAddr,
    /// The service and real server that it counts for.
    of: (ServiceKey, SocketAddr),
    method: ForwardingMethod,
    state: &'static str,
    last: u64,
    timeout: u64,
    output: bool,
    /// Replies find it.
    replied: bool,
    /// It is for fragments: messages of SIP that are whole, or begin, go by themselves.
    for_pieces: bool,
    template: Option<usize>,
}

impl Connection {
    fn end(&self) -> u64 {
        self.last + self.timeout
    }

    /// What is needed to speak in its name: protocol, client, virtual address, real server, method.
    #[must_use]
    pub fn ends(&self) -> (u8, SocketAddr, SocketAddr, SocketAddr, ForwardingMethod) {
        (self.protocol, self.client, self.vip, self.server, self.method)
    }
}

/// What names a connection: protocol, client, virtual address.
pub type Ends = (u8, SocketAddr, SocketAddr);

/// Counts active and inactive connections of a service's real server.
pub type Loads = HashMap<(ServiceKey, SocketAddr), (u64, u64)>;

/// The director.
#[derive(Debug, Default)]
pub struct Director {
    services: BTreeMap<ServiceKey, (Service, Vec<Server>, Memory)>,
    connections: Vec<Connection>,
    templates: Vec<Template>,
    listed: HashMap<Name, usize>,
    loads: Loads,
    /// What the operator has set.
    pub settings: Settings,
    /// Timeouts that the operator has set.
    pub timeouts: Timeouts,
    /// Which packets have which mark, the first rule first.
    pub rules: Vec<MarkRule>,
    fragments: Fragments,
    created: u64,
    /// The port that received what is decided about.
    ingress: u8,
}

type Result = std::result::Result<Decision, Decision>;

/// None of a service by mark, which takes them all.
fn number_of(key: &ServiceKey) -> Option<u8> {
    key.protocol().map(|protocol| match protocol {
        Protocol::Tcp => TCP,
        Protocol::Udp => UDP,
        Protocol::Sctp => SCTP,
    })
}

impl Director {
    /// Makes a service what it is now; `None` where it is deleted.
    pub fn set_service(&mut self, key: ServiceKey, service: Option<&Service>) {
        let Some(service) = service else {
            self.services.remove(&key);
            return;
        };
        let before = self.services.remove(&key);
        let loads = &self.loads;
        let list: Vec<Server> = service
            .servers
            .iter()
            .rev()
            .map(|s| {
                let was =
                    before.as_ref().and_then(|(_, list, _)| list.iter().find(|old| old.address == s.address));
                let mut server = Server {
                    address: s.address,
                    method: s.method,
                    weight: s.weight.0.into(),
                    thresholds: s.thresholds,
                    // A higher threshold ends it at once.
                    overloaded: was
                        .is_some_and(|was| was.overloaded && s.thresholds.upper <= was.thresholds.upper),
                    load: loads.get(&(key, s.address)).copied().unwrap_or_default(),
                };
                server.judge();
                server
            })
            .collect();
        let mut memory = Memory::default();
        if let Some((old, old_list, old_memory)) = before
            && old.scheduler == service.scheduler
        {
            memory = old_memory;
            // The nearest one before it that is still there.
            let used = memory.last.and_then(|last| old_list.iter().position(|s| s.address == last));
            memory.last = used.and_then(|used| {
                let mut earlier = old_list[..=used].iter().rev();
                earlier.find(|old| list.iter().any(|s| s.address == old.address)).map(|old| old.address)
            });
        }
        if service.scheduler == Scheduler::Wrr {
            schedule::changed(&list, &mut memory);
        }
        self.services.insert(key, (service.clone(), list, memory));
    }

    /// Takes over how many connections real servers are counted to have: one whose time is over counts until somebody
    /// notices. Says what cannot be.
    pub fn recount(
        &mut self,
        now: u64,
        counted: impl Fn(ServiceKey, SocketAddr) -> (u64, u64),
    ) -> Option<String> {
        let mut bounds: HashMap<(ServiceKey, SocketAddr), (u64, u64)> = HashMap::new();
        for c in &self.connections {
            let bound = bounds.entry(c.of).or_default();
            bound.1 += 1;
            bound.0 += u64::from(now < c.end());
        }
        // Those of removed real servers too: they may come back.
        for ((key, server), load) in &mut self.loads {
            *load = counted(*key, *server);
        }
        for (key, (_, list, _)) in &mut self.services {
            for server in list {
                let of = (*key, server.address);
                let load = counted(*key, server.address);
                let (least, most) = bounds.get(&of).copied().unwrap_or_default();
                if !(least..=most).contains(&(load.0 + load.1)) {
                    return Some(format!("{key} {} counts {load:?}, not {least}..={most}", server.address));
                }
                self.loads.insert(of, load);
                server.load = load;
                server.judge();
            }
        }
        None
    }

    /// Whether each real server of a service is overloaded.
    pub fn overloads(&self) -> impl Iterator<Item = (ServiceKey, SocketAddr, bool)> {
        let of = |(key, (_, list, _)): (&ServiceKey, &(Service, Vec<Server>, Memory))| {
            let key = *key;
            list.iter().map(move |s| (key, s.address, s.overloaded)).collect::<Vec<_>>()
        };
        self.services.iter().flat_map(of)
    }

    /// Forgets connections whose time is over and of which somebody has noticed it, which `remembers` tells: until then
    /// they count for their real servers.
    pub fn forget(&mut self, now: u64, remembers: impl FnOnce() -> HashSet<Ends>) {
        if self.connections.iter().all(|c| now < c.end()) {
            return;
        }
        let remembered = remembers();
        let gone = |c: &Connection| now >= c.end() && !remembered.contains(&(c.protocol, c.client, c.vip));
        while let Some(at) = self.connections.iter().position(gone) {
            let c = self.connections.swap_remove(at);
            if let Some(template) = c.template {
                self.templates[template].leave(c.number, c.end());
            }
        }
    }

    /// What is known of the services of a virtual address, to be read.
    #[must_use]
    pub fn describe(&self, vip: IpAddr) -> String {
        let of_vip = self.services.iter().filter(|(key, _)| key.ip() == vip);
        let texts = of_vip.map(|(key, (service, list, memory))| {
            let servers: Vec<String> = list
                .iter()
                .map(|s| {
                    format!(
                        "{} {} w{} {:?} {:?} over={}",
                        s.address, s.method, s.weight, s.load, s.thresholds, s.overloaded
                    )
                })
                .collect();
            format!(
                "{key} {} {:?} {:?} one_packet={} {memory:?}\n  {}",
                service.scheduler,
                service.flags,
                service.persistence,
                service.one_packet,
                servers.join("\n  ")
            )
        });
        let of_vip = self.connections.iter().filter(|c| c.vip.ip() == vip || c.client.ip() == vip);
        let templates =
            self.listed.iter().filter(|(name, _)| name.1.ip() == vip).map(|(_, at)| &self.templates[*at]);
        let all = texts.chain(of_vip.map(|c| format!("{c:?}"))).chain(templates.map(|t| format!("{t:?}")));
        all.collect::<Vec<_>>().join("\n")
    }

    /// The connections that live.
    pub fn connections(&self, now: u64) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |c| now < c.end())
    }

    /// Decides about a frame that came by a port, and about fragments that waited for it; about nothing where it waits.
    pub fn handle(&mut self, port: u8, frame: &[u8], now: u64) -> Vec<Decision> {
        let decided = |result: Result| vec![result.unwrap_or_else(|other| other)];
        let Some(packet) = Packet::read(frame) else { return vec![Decision::Punt] };
        if packet.stations[..6] != network::DIRECTOR[usize::from(port)] {
            return vec![Decision::Drop];
        }
        self.ingress = port;
        match packet.protocol {
            SCTP if !is_later(&packet) && !has_chunk(&packet) => vec![Decision::Drop],
            TCP | UDP | SCTP if packet.piece.is_some() => self.gather(port, packet, now),
            TCP | UDP | SCTP => {
                let ports = (packet.word(0), packet.word(2));
                decided(self.decide(packet, ports, now))
            }
            ICMP | ICMPV6 if packet.piece.is_none() => decided(self.error(packet, now)),
            _ => vec![Decision::Punt],
        }
    }

    /// Whether packets between these addresses may be balanced.
    #[must_use]
    pub fn concerns(&self, source: IpAddr, destination: IpAddr, now: u64) -> bool {
        let nat = |s: &Server| s.method == ForwardingMethod::Nat && s.address.ip() == source;
        let marks = |rule: &MarkRule| is_of(source, &rule.sources) && is_of(destination, &rule.destinations);
        self.services.iter().any(|(key, (_, list, _))| key.ip() == destination || list.iter().any(nat))
            || self.rules.iter().any(marks)
            || self
                .connections(now)
                .any(|c| c.vip.ip() == destination || c.replied && c.server.ip() == source)
    }

    fn gather(&mut self, port: u8, packet: Packet, now: u64) -> Vec<Decision> {
        if fragments::is_bad(&packet) {
            return vec![Decision::Drop];
        }
        if !self.concerns(packet.source, packet.destination, now) {
            return vec![Decision::Punt];
        }
        match self.fragments.come(port, packet, now) {
            Fate::Lost => vec![Decision::Drop],
            Fate::Wait => Vec::new(),
            Fate::Go(pieces, ports) => {
                let decide = |(port, piece)| {
                    self.ingress = port;
                    self.decide(piece, ports, now).unwrap_or_else(|other| other)
                };
                pieces.into_iter().map(decide).collect()
            }
        }
    }

    /// Decides about a TCP, UDP or SCTP packet with these ports, or a fragment of one.
    fn decide(&mut self, mut packet: Packet, ports: (u16, u16), now: u64) -> Result {
        let source = SocketAddr::new(packet.source, ports.0);
        let destination = SocketAddr::new(packet.destination, ports.1);
        let flags = match packet.protocol {
            TCP if !is_later(&packet) => packet.payload[13],
            SCTP if !is_later(&packet) => counting_chunk(&packet),
            _ => 0,
        };
        if let Some(at) = self.find(packet.protocol, source, destination, now) {
            let is_reply = self.connections[at].vip != destination;
            if self.connections[at].for_pieces
                && !is_later(&packet)
                && let Some(decision) = self.go_alone(&mut packet, at, (source, destination), now)
            {
                return decision;
            }
            let goes_on = is_reply || self.goes_on(at, flags, now)?;
            // Nobody has the whole of it for its checksum.
            let method = self.connections[at].method;
            if goes_on && packet.protocol == SCTP && packet.piece.is_some() && method == ForwardingMethod::Nat
            {
                return Ok(Decision::Drop);
            }
            if is_reply {
                return self.reply(packet, at, flags, now);
            }
            if goes_on {
                return self.request(packet, at, flags, now);
            }
            self.remove(at, now);
        }
        self.open(&mut packet, source, destination, flags, now)
    }

    /// The living connection with these ends, seen from either side.
    fn find(&self, protocol: u8, source: SocketAddr, destination: SocketAddr, now: u64) -> Option<usize> {
        let is = |c: &Connection| c.protocol == protocol && now < c.end();
        let asked = |c: &Connection| is(c) && c.client == source && c.vip == destination;
        let answered = |c: &Connection| is(c) && c.replied && c.server == source && c.client == destination;
        self.connections.iter().position(asked).or_else(|| self.connections.iter().position(answered))
    }

    fn server(&self, of: (ServiceKey, SocketAddr)) -> Option<&Server> {
        self.services.get(&of.0)?.1.iter().find(|s| s.address == of.1)
    }

    /// Whether a packet of the client goes on with its connection; else that is over.
    fn goes_on(&self, at: usize, flags: u8, _now: u64) -> std::result::Result<bool, Decision> {
        let c = &self.connections[at];
        let syn = c.protocol == TCP && flags & 2 != 0 || c.protocol == SCTP && flags == INIT;
        let mode = self.settings.conn_reuse_mode;
        let server = self.server(c.of);
        if syn && mode != 0 {
            if self.settings.expire_nodest_conn && server.is_some_and(|s| s.weight == 0) {
                return Ok(false);
            }
            let half_closed = mode & 2 != 0 && c.state == "FW" && half(c) == Half::InputOnly;
            if c.template.is_none() && (matches!(c.state, "TW" | "CL" | "sCL") || half_closed) {
                return Ok(false);
            }
        }
        match server {
            Some(_) => Ok(true),
            // Whoever may open a connection is served by a real server that is there.
            None if self.settings.expire_nodest_conn || syn || c.protocol == UDP => Ok(false),
            None => Err(Decision::Drop),
        }
    }

    fn touch(&mut self, at: usize, half: Half, flags: u8, now: u64) {
        let before = self.connections[at].state;
        let c = &mut self.connections[at];
        if c.protocol == TCP {
            c.state = life::next(c.state, half, flags);
        } else if c.protocol == SCTP {
            c.state = life::next_association(c.state, half, flags);
        }
        c.last = now;
        c.timeout = life::timeout(c.state, &self.timeouts);
        let (of, after) = (c.of, c.state);
        self.count(of, before, -1);
        self.count(of, after, 1);
        if life::is_active(before) != life::is_active(after) {
            self.judge(of);
        }
    }

    /// Counts a connection in a state for its real server, or no longer.
    fn count(&mut self, of: (ServiceKey, SocketAddr), state: &str, by: i64) {
        let load = self.loads.entry(of).or_default();
        let part = if life::is_active(state) { &mut load.0 } else { &mut load.1 };
        *part = part.wrapping_add_signed(by);
        let load = *load;
        if let Some((_, list, _)) = self.services.get_mut(&of.0)
            && let Some(server) = list.iter_mut().find(|s| s.address == of.1)
        {
            server.load = load;
        }
    }

    fn judge(&mut self, of: (ServiceKey, SocketAddr)) {
        if let Some((_, list, _)) = self.services.get_mut(&of.0)
            && let Some(server) = list.iter_mut().find(|s| s.address == of.1)
        {
            server.judge();
        }
    }

    fn remove(&mut self, at: usize, now: u64) {
        let c = self.connections.swap_remove(at);
        if let Some(template) = c.template {
            self.templates[template].leave(c.number, now.min(c.end()));
        }
        self.count(c.of, c.state, -1);
        self.judge(c.of);
    }

    fn request(&mut self, packet: Packet, at: usize, flags: u8, now: u64) -> Result {
        let half = half(&self.connections[at]);
        self.touch(at, half, flags, now);
        let c = &self.connections[at];
        let (method, server, of) = (c.method, c.server, c.of);
        to_server(packet, method, server, of.1, self.settings.pmtu_disc)
    }

    fn reply(&mut self, packet: Packet, at: usize, flags: u8, now: u64) -> Result {
        self.connections[at].output = true;
        self.touch(at, Half::Output, flags, now);
        let c = &self.connections[at];
        to_client(packet, c.client, c.vip)
    }

    /// A message of SIP that is whole, or begins, where there is a connection for fragments.
    fn go_alone(
        &mut self,
        packet: &mut Packet,
        at: usize,
        (source, destination): (SocketAddr, SocketAddr),
        now: u64,
    ) -> Option<Result> {
        if self.connections[at].vip != destination {
            return self.message_of_server(packet, source, destination, now);
        }
        let service = &self.services[&self.service_of(packet, source, destination)?].0;
        if !service.one_packet || !is_by_call(service) {
            return None;
        }
        if packet.piece.is_some() {
            self.remove(at, now);
        }
        Some(self.open(packet, source, destination, 0, now))
    }

    /// What a NAT real server says unasked, which is of a call.
    fn message_of_server(
        &mut self,
        packet: &mut Packet,
        server: SocketAddr,
        client: SocketAddr,
        now: u64,
    ) -> Option<Result> {
        let is_its = |(key, (service, list, _)): &(&ServiceKey, &(Service, Vec<Server>, Memory))| {
            number_of(key) == Some(UDP)
                && key.port() != 0
                && is_by_call(service)
                && list.iter().any(|s| s.address == server && s.method == ForwardingMethod::Nat)
        };
        let (key, (service, ..)) = self.services.iter().find(is_its)?;
        let (key, one_packet, persistence) = (*key, service.one_packet, service.persistence?);
        let call = super::sip::call_id(packet)?;
        let ServiceKey::Address { address: vip, .. } = key else { return None };
        let name = name_of(key, vip, network_of(client.ip(), persistence.granularity), Some(call));
        let at = match self.tied(key, &name, now) {
            Some((tied, at)) if tied.address == server => at,
            _ => self.tie(name, server, persistence.timeout.as_secs() * 1000, now),
        };
        self.created += 1;
        self.templates[at].join(self.created, now);
        if one_packet && packet.piece.is_none() {
            self.templates[at].leave(self.created, now);
            return Some(to_client(packet.clone(), client, vip));
        }
        let number = self.created;
        while let Some(at) =
            self.connections.iter().position(|c| c.protocol == UDP && (c.client, c.vip) == (client, vip))
        {
            self.remove(at, now);
        }
        let of = (key, server);
        self.connect(Connection {
            number,
            protocol: UDP,
            client,
            vip,
            server,
            of,
            method: ForwardingMethod::Nat,
            state: "UD",
            last: now,
            timeout: life::timeout("UD", &self.timeouts),
            output: false,
            replied: true,
            for_pieces: one_packet,
            template: Some(at),
        });
        let at = self.connections.len() - 1;
        Some(self.reply(packet.clone(), at, 0, now))
    }

    /// Adds a connection.
    fn connect(&mut self, new: Connection) {
        if new.replied {
            // Replies of two connections that look alike to the real server go to the newer one.
            let alike = |c: &&mut Connection| {
                c.protocol == new.protocol && c.server == new.server && c.client == new.client
            };
            self.connections.iter_mut().filter(alike).for_each(|c| c.replied = false);
        }
        let (of, state) = (new.of, new.state);
        self.connections.push(new);
        self.count(of, state, 1);
        self.judge(of);
    }

    /// A packet of no connection.
    fn open(
        &mut self,
        packet: &mut Packet,
        client: SocketAddr,
        vip: SocketAddr,
        flags: u8,
        now: u64,
    ) -> Result {
        // One whose time is over makes room.
        let (protocol, same) = (packet.protocol, |c: &Connection| c.client == client && c.vip == vip);
        let over = |c: &Connection| c.protocol == protocol && same(c) && now >= c.end();
        while let Some(at) = self.connections.iter().position(over) {
            self.remove(at, now);
        }
        let Some(key) = self.service_of(packet, client, vip) else {
            if packet.protocol == UDP
                && !is_later(packet)
                && let Some(decision) = self.message_of_server(packet, client, vip, now)
            {
                return decision;
            }
            let known = self.services.iter().any(|(key, (_, list, _))| {
                let nat = |s: &&Server| s.method == ForwardingMethod::Nat && s.address.ip() == client.ip();
                number_of(key).is_none_or(|protocol| protocol == packet.protocol)
                    && list.iter().filter(nat).any(|s| s.address.port() == client.port())
            });
            let is_reset = match packet.protocol {
                TCP => flags & 4 != 0,
                SCTP => flags == ABORT,
                _ => false,
            };
            if self.settings.nat_icmp_send && known && !is_reset {
                return Ok(error(packet, Trouble::NoPort, None));
            }
            return Ok(Decision::Punt);
        };
        if is_later(packet) {
            return Ok(Decision::Drop);
        }
        let by_flags = match packet.protocol {
            UDP => true,
            SCTP => flags == INIT || self.settings.sloppy_sctp && flags != ABORT,
            _ => (flags & 2 != 0 || self.settings.sloppy_tcp) && flags & 4 == 0,
        };
        if !by_flags || client.port() == 20 {
            return Ok(Decision::Punt);
        }
        let by_call = is_by_call(&self.services[&key].0);
        let call = if by_call { super::sip::call_id(packet) } else { None };
        if by_call && call.is_none() {
            return Ok(Decision::Drop);
        }
        let Some((server, template)) = self.choose(key, client, vip, call, now) else {
            return Ok(error(packet, Trouble::NoPort, Some(vip.ip())));
        };
        let one_packet = self.services[&key].0.one_packet && packet.protocol == UDP;
        let of = (key, server.address);
        // A service has a port to compare with only if it is by address.
        let is_other = if key.is_mark() {
            self.services[&key].0.persistence.is_some()
        } else {
            key.port() != vip.port()
        };
        let keeps_port = server.address.port() == 0 || is_other;
        let port = if keeps_port { vip.port() } else { server.address.port() };
        let target = SocketAddr::new(server.address.ip(), port);
        self.created += 1;
        if let Some(template) = template {
            self.templates[template].join(self.created, now);
        }
        let is_part = packet.piece.is_some();
        let is_lost = packet.protocol == SCTP && is_part && server.method == ForwardingMethod::Nat;
        if is_lost || one_packet && !is_part {
            if let Some(template) = template {
                self.templates[template].leave(self.created, now);
            }
            if is_lost {
                return Ok(Decision::Drop);
            }
        } else {
            let half = if server.method == ForwardingMethod::Nat { Half::Input } else { Half::InputOnly };
            let state = match packet.protocol {
                UDP => "UD",
                SCTP => life::next_association("sNO", half, flags),
                _ => life::next("NO", half, flags),
            };
            self.connect(Connection {
                number: self.created,
                protocol: packet.protocol,
                client,
                vip,
                server: target,
                of,
                method: server.method,
                state,
                last: now,
                timeout: life::timeout(state, &self.timeouts),
                output: false,
                replied: server.method == ForwardingMethod::Nat,
                for_pieces: by_call && one_packet,
                template,
            });
        }
        to_server(packet.clone(), server.method, target, server.address, self.settings.pmtu_disc)
    }

    /// The service of a packet's mark, else that of an address and port, else that of all ports.
    fn service_of(&self, packet: &Packet, client: SocketAddr, vip: SocketAddr) -> Option<ServiceKey> {
        let of = |port: u16| {
            let is = |key: &&ServiceKey| {
                number_of(key) == Some(packet.protocol) && (key.ip(), key.port()) == (vip.ip(), port)
            };
            self.services.keys().find(is).copied()
        };
        let marked = self.mark_of(packet, client, vip).and_then(|wanted| {
            let is = |key: &&ServiceKey| {
                matches!(key, ServiceKey::Mark { mark, .. } if *mark == wanted)
                    && key.ip().is_ipv4() == vip.is_ipv4()
            };
            self.services.keys().find(is).copied()
        });
        marked.or_else(|| of(vip.port())).or_else(|| of(0))
    }

    fn mark_of(&self, packet: &Packet, client: SocketAddr, vip: SocketAddr) -> Option<Mark> {
        let within = |port, ranges: &[PortRange]| {
            ranges.is_empty() || ranges.iter().any(|range| range.0.clone().any(|one| one == port))
        };
        let fits = |rule: &&MarkRule| {
            let key = rule.protocol.map(|protocol| ServiceKey::Address { protocol, address: vip });
            key.is_none_or(|key| number_of(&key) == Some(packet.protocol))
                && is_of(client.ip(), &rule.sources)
                && is_of(vip.ip(), &rule.destinations)
                && within(client.port(), &rule.source_ports)
                && within(vip.port(), &rule.destination_ports)
                && rule.ingress.is_none_or(|port| port == self.ingress)
                && rule.dscp.is_none_or(|dscp| dscp == packet.tos >> 2)
        };
        self.rules.iter().find(fits).map(|rule| rule.mark)
    }

    /// The real server of a new connection, and its template.
    fn choose(
        &mut self,
        key: ServiceKey,
        client: SocketAddr,
        vip: SocketAddr,
        call: Option<String>,
        now: u64,
    ) -> Option<(Server, Option<usize>)> {
        let persistence = self.services.get(&key)?.0.persistence;
        let name = persistence.map(|p| name_of(key, vip, network_of(client.ip(), p.granularity), call));
        if let Some(name) = &name
            && let Some((server, at)) = self.tied(key, name, now)
        {
            return Some((server, Some(at)));
        }
        let (service, list, memory) = self.services.get_mut(&key)?;
        let server = schedule::choose(service.scheduler, service.flags, list, memory, client, vip.ip())
            .map(|at| list[at].clone())?;
        let template = name.zip(persistence).map(|(name, persistence)| {
            self.tie(name, server.address, persistence.timeout.as_secs() * 1000, now)
        });
        Some((server, template))
    }

    /// The real server that a template of this name leads to, if it is there and may. Else it is forgotten.
    fn tied(&mut self, key: ServiceKey, name: &Name, now: u64) -> Option<(Server, usize)> {
        let known = self.listed.get(name).copied().filter(|&at| {
            let connections = &self.connections;
            self.templates[at].run(now, |number| connections.iter().any(|c| c.number == number))
        });
        let tied = known.and_then(|at| {
            let list = &self.services.get(&key)?.1;
            let server = list.iter().find(|s| s.address == self.templates[at].server)?;
            let quiescent = self.settings.expire_quiescent_template && server.weight == 0;
            (!quiescent).then(|| (server.clone(), at))
        });
        if tied.is_none() {
            self.listed.remove(name);
        }
        tied
    }

    /// A new template of a name, which stands for the one that had it.
    fn tie(&mut self, name: Name, server: SocketAddr, timeout: u64, now: u64) -> usize {
        self.templates.push(Template::new(name.clone(), server, timeout, now));
        self.listed.insert(name, self.templates.len() - 1);
        self.templates.len() - 1
    }

    /// An ICMP message: errors about packets of connections go on, the rest is the kernel's.
    fn error(&mut self, mut packet: Packet, now: u64) -> Result {
        let is_error = match packet.protocol {
            ICMP => packet.source.is_ipv4() && matches!(packet.payload[0], 3 | 4 | 11),
            _ => packet.source.is_ipv6() && packet.payload[0] < 128,
        };
        let about = packet.payload.get(8..).and_then(quoted);
        let Some((source, destination, protocol, len)) = about.filter(|_| is_error) else {
            return Ok(Decision::Punt);
        };
        let ports = 8 + len;
        if !matches!(protocol, TCP | UDP | SCTP)
            || packet.payload.len() < ports + 8
            || packet.destination != source
        {
            return Ok(Decision::Punt);
        }
        let (from, to) = (
            SocketAddr::new(source, packet.word(ports)),
            SocketAddr::new(destination, packet.word(ports + 2)),
        );
        // The error goes the other way than what it is about.
        let Some(at) = self.find(protocol, to, from, now) else { return Ok(Decision::Punt) };
        let c = self.connections[at].clone();
        if packet.ttl <= 1 || packet.len() > MTU {
            return Ok(Decision::Drop);
        }
        if c.vip != from {
            // About a request, from the real server's side.
            packet.ttl -= 1;
            packet.source = c.vip.ip();
            rewrite_quote(&mut packet, false, c.vip);
            let Some((port, stations)) = network::way(c.client.ip()) else { return Ok(Decision::Drop) };
            packet.stations = stations;
            return Ok(Decision::Send { port, frame: packet.frame(), own: false });
        }
        if self.server(c.of).is_none() {
            return Ok(Decision::Drop);
        }
        if c.method == ForwardingMethod::Nat {
            packet.destination = c.server.ip();
            rewrite_quote(&mut packet, true, c.server);
        }
        match to_server(packet, c.method, c.server, c.of.1, self.settings.pmtu_disc) {
            // No error about an error.
            Ok(Decision::Send { port: 0, .. }) => Ok(Decision::Drop),
            other => other,
        }
    }
}

/// SCTP's chunk that asks for an association.
const INIT: u8 = 1;
/// SCTP's chunk that breaks one off.
const ABORT: u8 = 6;

/// Whether there is room for SCTP's first chunk, as long as it says; of a fragment, as long as any is.
fn has_chunk(packet: &Packet) -> bool {
    packet.payload.len() >= 16 && {
        let len = usize::from(packet.word(14));
        len >= 4 && (packet.piece.is_some() || len <= packet.payload.len() - 12)
    }
}

/// The first chunk, or the ABORT behind COOKIE ECHO or COOKIE ACK.
fn counting_chunk(packet: &Packet) -> u8 {
    let next = 12 + usize::from(packet.word(14)).next_multiple_of(4);
    match packet.payload[12] {
        10 | 11 if packet.payload.len() >= next + 4 && packet.payload[next] == ABORT => ABORT,
        first => first,
    }
}

fn is_by_call(service: &Service) -> bool {
    service.persistence.is_some_and(|persistence| persistence.engine == PersistenceEngine::Sip)
}

/// What a template of a service's clients goes by.
fn name_of(key: ServiceKey, vip: SocketAddr, network: IpAddr, call: Option<String>) -> Name {
    let virtual_end = match key {
        ServiceKey::Address { .. } => SocketAddr::new(vip.ip(), key.port()),
        // Whatever it was that had the mark.
        ServiceKey::Mark { mark, family } => {
            let v4 = Ipv4Addr::from(mark.0.get());
            let ip = if family == Family::Ipv4 { v4.into() } else { v4.to_ipv6_mapped().into() };
            SocketAddr::new(ip, 0)
        }
    };
    (network, virtual_end, number_of(&key).unwrap_or_default(), call)
}

/// Another fragment than the first.
fn is_later(packet: &Packet) -> bool {
    packet.piece.is_some_and(|piece| piece.offset > 0)
}

fn half(c: &Connection) -> Half {
    if c.method == ForwardingMethod::Nat || c.output { Half::Input } else { Half::InputOnly }
}

/// Whether an address is of one of these networks, or there are none.
fn is_of(ip: IpAddr, networks: &[Prefix]) -> bool {
    let is_of = |network: &Prefix| {
        let text = network.to_string();
        let (first, bits) = text.split_once('/').unwrap_or((&text, "128"));
        let first: IpAddr = first.parse().expect("an address");
        first.is_ipv4() == ip.is_ipv4() && network_of(ip, bits.parse().expect("a number")) == first
    };
    networks.is_empty() || networks.iter().any(is_of)
}

fn network_of(ip: IpAddr, bits: u8) -> IpAddr {
    let keep = |octets: &mut [u8]| {
        for (n, octet) in octets.iter_mut().enumerate() {
            for bit in 0..8 {
                if n * 8 + bit >= usize::from(bits) {
                    *octet &= !(0x80 >> bit);
                }
            }
        }
    };
    match ip {
        IpAddr::V4(v4) => {
            let mut octets = v4.octets();
            keep(&mut octets);
            octets.into()
        }
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            keep(&mut octets);
            octets.into()
        }
    }
}

/// Writes one end of the packet that an error quotes; its own checksums but the header's stay.
fn rewrite_quote(packet: &mut Packet, source: bool, end: SocketAddr) {
    let mut quote = packet.payload.split_off(8);
    let v4 = quote[0] >> 4 == 4;
    let (at, header) = match (v4, source) {
        (true, true) => (12, 20),
        (true, false) => (16, 20),
        (false, true) => (8, 40),
        (false, false) => (24, 40),
    };
    match end.ip() {
        IpAddr::V4(ip) => quote[at..at + 4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => quote[at..at + 16].copy_from_slice(&ip.octets()),
    }
    let port = header + if source { 0 } else { 2 };
    quote[port..port + 2].copy_from_slice(&end.port().to_be_bytes());
    if v4 {
        quote[10..12].fill(0);
        let sum = !super::packet::ones_complement(&quote[..20]);
        quote[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.payload.extend(quote);
    packet.sum_up();
}

/// Sends a NAT real server's packet to its client.
fn to_client(mut packet: Packet, client: SocketAddr, vip: SocketAddr) -> Result {
    let Some((port, stations)) = network::way(client.ip()) else { return Ok(Decision::Drop) };
    if packet.ttl <= 1 {
        return Ok(error(&packet, Trouble::Expired, None));
    }
    if packet.len() > MTU && packet.df {
        return Ok(error(&packet, Trouble::TooBig(MTU), None));
    }
    packet.ttl -= 1;
    packet.readdress(true, vip);
    packet.stations = stations;
    Ok(Decision::Send { port, frame: packet.frame(), own: false })
}

/// Sends a client's packet to its real server.
fn to_server(
    mut packet: Packet,
    method: ForwardingMethod,
    target: SocketAddr,
    server: SocketAddr,
    copy_df: bool,
) -> Result {
    let Some((port, stations)) = network::way(server.ip()) else { return Ok(Decision::Drop) };
    let vip = packet.destination;
    let room = match method {
        ForwardingMethod::Tunnel if server.is_ipv4() => MTU - 20,
        ForwardingMethod::Tunnel => MTU - 40,
        ForwardingMethod::Nat | ForwardingMethod::Dr => MTU,
    };
    if packet.ttl <= 1 {
        return Ok(error(&packet, Trouble::Expired, Some(vip)));
    }
    packet.ttl -= 1;
    // The outer packet is the director's own: it may cut that.
    let is_own = method == ForwardingMethod::Tunnel && packet.source.is_ipv4() && !copy_df;
    if packet.len() > room && packet.df && !is_own {
        return Ok(error(&packet, Trouble::TooBig(room), Some(vip)));
    }
    match method {
        ForwardingMethod::Dr => {}
        ForwardingMethod::Nat if matches!(packet.protocol, TCP | UDP | SCTP) => {
            packet.readdress(false, target);
        }
        ForwardingMethod::Nat => {}
        ForwardingMethod::Tunnel => {
            let v4 = packet.source.is_ipv4();
            let mut outer =
                Packet::between(network::own(2, server.is_ipv6()), server.ip(), if v4 { 4 } else { 41 });
            outer.tos = if packet.tos & 3 == 3 { packet.tos & !3 | 2 } else { packet.tos };
            outer.ttl = packet.ttl;
            outer.df = v4 && packet.df && copy_df;
            outer.payload = packet.ip();
            outer.stations = stations;
            return Ok(Decision::Send { port, frame: outer.frame(), own: true });
        }
    }
    packet.stations = stations;
    Ok(Decision::Send { port, frame: packet.frame(), own: false })
}

/// Why a packet comes back.
#[derive(Clone, Copy)]
enum Trouble {
    Expired,
    NoPort,
    TooBig(usize),
}

/// Answers a packet with an ICMP error from an address, or from the director's own toward its sender.
fn error(packet: &Packet, trouble: Trouble, from: Option<IpAddr>) -> Decision {
    if is_later(packet) {
        return Decision::Drop;
    }
    let v6 = packet.source.is_ipv6();
    let Some((port, stations)) = network::way(packet.source) else { return Decision::Drop };
    let from = from.unwrap_or_else(|| network::own(port + 1, v6));
    let mut answer = Packet::between(from, packet.source, if v6 { ICMPV6 } else { ICMP });
    answer.tos = if v6 { 0 } else { 0xc0 };
    let (kind, code) = match (trouble, v6) {
        (Trouble::Expired, false) => (11, 0),
        (Trouble::NoPort, false) => (3, 3),
        (Trouble::TooBig(_), false) => (3, 4),
        (Trouble::Expired, true) => (3, 0),
        (Trouble::NoPort, true) => (1, 4),
        (Trouble::TooBig(_), true) => (2, 0),
    };
    let mtu = if let Trouble::TooBig(room) = trouble { room as u16 } else { 0 };
    answer.payload = vec![kind, code, 0, 0, 0, 0];
    answer.payload.extend(mtu.to_be_bytes());
    let most = if v6 { 1280 - 48 } else { 576 - 28 };
    answer.payload.extend(packet.ip().iter().take(most));
    answer.sum_up();
    answer.stations = stations;
    Decision::Send { port, frame: answer.frame(), own: true }
}
