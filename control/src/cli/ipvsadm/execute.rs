//! Carries commands out: ipvsadm's words into the protocol's requests. What ipvsadm leaves out has its own default, not
//! what was before, so that everything is sent.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::Path;

use super::command::{
    Command, Complaint, Format, Forwarding, Listing, Server, Service, TunnelOptions, TunnelType,
};
use super::names::Names;
use super::print::{Beside, Printer};
use super::{refusals, sort};
use crate::model::{
    ForwardingMethod, GueChecksum, PersistenceEngine, RealServer, Scheduler, SchedulerFlags, ServiceKey,
    Thresholds, Tunnel, Weight,
};
use crate::protocol::{
    Client, ClientError, ConnectionFilter, Done, PersistenceChange, PersistenceOptions, RateList, Request,
    ServiceList, TemplateFilter, TemplateList, TemplateStatus, TimeoutsInForce,
};

/// The director, once it is asked something.
pub(super) struct Director<'a> {
    socket: &'a Path,
    names: &'a dyn Names,
    client: Option<Client>,
}

impl<'a> Director<'a> {
    pub(super) fn new(socket: &'a Path, names: &'a dyn Names) -> Director<'a> {
        Director { socket, names, client: None }
    }

    /// Where it listens.
    pub(super) fn socket(&self) -> &'a Path {
        self.socket
    }

    /// Carries it out; what it lists goes to `out`.
    pub(super) fn carry_out(&mut self, command: &Command, out: &mut dyn Write) -> Result<(), Complaint> {
        match command {
            Command::List(listing, format) => self.list(listing, *format, out),
            Command::Save(format) => {
                let services = self.services(command, *format)?;
                let printer = Printer::new(*format, self.names);
                services.iter().try_for_each(|service| write(out, &printer.rule(service)))
            }
            Command::StartDaemon(_) => {
                self.client()?;
                Err(Complaint::refused(refusals::INVALID))
            }
            Command::StopDaemon(_) => {
                self.client()?;
                Err(Complaint::refused(refusals::NO_DAEMON))
            }
            Command::Clear => self.clear(command),
            Command::AddService(service) => {
                let request = self.add(command, service)?;
                self.change(command, &request)
            }
            Command::EditService(service) => {
                let request = self.edit(command, service)?;
                self.change(command, &request)
            }
            Command::DeleteService(service) => {
                self.change(command, &Request::ServiceDelete { service: *service })
            }
            Command::Zero(service) => self.change(command, &Request::StatsZero { service: *service }),
            Command::AddServer(service, server) => {
                let server = real_server(server)?;
                self.change(command, &Request::ServerAdd { service: *service, server })
            }
            Command::EditServer(service, server) => {
                let RealServer { address, method, tunnel, weight, thresholds } = real_server(server)?;
                let request = Request::ServerEdit {
                    service: *service,
                    address,
                    weight: Some(weight),
                    method: Some(method),
                    tunnel: (method == ForwardingMethod::Tunnel).then_some(tunnel),
                    upper_threshold: Some(thresholds.upper),
                    lower_threshold: Some(thresholds.lower),
                };
                self.change(command, &request)
            }
            Command::DeleteServer(service, address) => {
                self.change(command, &Request::ServerDelete { service: *service, address: *address })
            }
            Command::SetTimeouts { tcp, tcp_fin, udp } => {
                let changed = |seconds: u32| (seconds != 0).then_some(seconds);
                let (tcp, tcp_fin, udp) = (changed(*tcp), changed(*tcp_fin), changed(*udp));
                self.change(command, &Request::TimeoutsSet { tcp, tcp_fin, udp })
            }
            // These need no director; whoever called knows what to do.
            Command::Help | Command::Version | Command::Restore => Ok(()),
        }
    }

    fn client(&mut self) -> Result<&mut Client, Complaint> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(self.socket).map_err(|error| Complaint {
                text: refusals::nobody(&error),
                status: 2,
                ends: true,
            })?,
        };
        Ok(self.client.insert(client))
    }

    fn change(&mut self, command: &Command, request: &Request) -> Result<(), Complaint> {
        let done: Result<Done, ClientError> = self.client()?.ask(request);
        done.map(|_| ()).map_err(|error| Complaint::refused(refusals::words(command, &error)))
    }

    /// Asks for what is to be listed; a refusal ends it all.
    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        command: &Command,
        request: &Request,
    ) -> Result<T, Complaint> {
        let reply = self.client()?.ask(request);
        reply.map_err(|error| Complaint::listing(refusals::words(command, &error)))
    }

    fn clear(&mut self, command: &Command) -> Result<(), Complaint> {
        let list: ServiceList = self.ask(command, &Request::ServiceList {})?;
        for status in list.services {
            match self.client()?.service_delete(status.service) {
                Err(ClientError::Refused(refusal)) if refusal.code == "no-such-service" => {}
                Err(error) => return Err(Complaint::refused(refusals::words(command, &error))),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    fn add(&mut self, command: &Command, service: &Service) -> Result<Request, Complaint> {
        let (scheduler, flags) = self.scheduling(command, service)?;
        let persistence = persistence(service)?;
        let Service { key, one_packet, .. } = *service;
        Ok(Request::ServiceAdd { service: key, scheduler, flags, persistence, one_packet })
    }

    fn edit(&mut self, command: &Command, service: &Service) -> Result<Request, Complaint> {
        let (scheduler, flags) = self.scheduling(command, service)?;
        let persistence = persistence(service)?.map_or(PersistenceChange::OFF, PersistenceChange::On);
        Ok(Request::ServiceEdit {
            service: service.key,
            scheduler: Some(scheduler),
            flags: Some(flags),
            persistence: Some(persistence),
            one_packet: Some(service.one_packet),
        })
    }

    /// The scheduler and its flags, and that there is no persistence engine. A kernel looks for the service first.
    fn scheduling(
        &mut self,
        command: &Command,
        service: &Service,
    ) -> Result<(Scheduler, SchedulerFlags), Complaint> {
        let scheduler = service.scheduler.parse::<Scheduler>().ok().filter(|_| has_engine(service));
        let Some(scheduler) = scheduler else {
            let list: ServiceList = self.ask(command, &Request::ServiceList {})?;
            let exists = list.services.iter().any(|status| status.service == service.key);
            return Err(Complaint::refused(match command {
                Command::AddService(_) if exists => refusals::SERVICE_EXISTS,
                Command::EditService(_) if !exists => refusals::NO_SERVICE,
                _ => refusals::NO_SCHEDULER,
            }));
        };
        if service.flags.third {
            return Err(Complaint::refused(refusals::INVALID));
        }
        Ok((scheduler, SchedulerFlags { fallback: service.flags.first, port: service.flags.second }))
    }

    /// All services, sorted as they are to be listed.
    fn services(
        &mut self,
        command: &Command,
        format: Format,
    ) -> Result<Vec<crate::protocol::ServiceStatus>, Complaint> {
        let mut list: ServiceList = self.ask(command, &Request::ServiceList {})?;
        if !format.no_sort {
            sort::services(&mut list.services);
            list.services.iter_mut().for_each(|service| sort::servers(&mut service.servers));
        }
        Ok(list.services)
    }

    fn list(&mut self, listing: &Listing, format: Format, out: &mut dyn Write) -> Result<(), Complaint> {
        let command = &Command::List(listing.clone(), format);
        let printer = Printer::new(format, self.names);
        match listing {
            Listing::Services | Listing::Service(_) => {
                let mut services = self.services(command, format)?;
                let beside = self.beside(command, format)?;
                match listing {
                    Listing::Service(key) => {
                        services.retain(|status| status.service == *key);
                        if services.is_empty() {
                            return Err(Complaint::listing(refusals::NO_SERVICE));
                        }
                    }
                    _ => write(out, printer.head())?,
                }
                write(out, &printer.title())?;
                services.iter().try_for_each(|service| write(out, &printer.service(service, &beside)))
            }
            Listing::Connections => self.connections(command, &printer, out),
            Listing::Timeouts => {
                let timeouts: TimeoutsInForce = self.ask(command, &Request::Timeouts {})?;
                let TimeoutsInForce { tcp, tcp_fin, udp } = timeouts;
                write(out, &format!("Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}\n"))
            }
            // There is none, and so nothing is said of it.
            Listing::Daemons => self.client().map(|_| ()),
        }
    }

    /// What some formats show beside what is in the list of services.
    fn beside(&mut self, command: &Command, format: Format) -> Result<Beside, Complaint> {
        let mut beside = Beside::default();
        if format.rate && !format.stats {
            let rates: RateList = self.ask(command, &Request::Rates {})?;
            beside.rates = rates.services;
        }
        if format.persistent_conn && !(format.stats || format.rate || format.thresholds) {
            beside.templates = self.templates(command)?;
        }
        Ok(beside)
    }

    /// How many templates each real server has.
    fn templates(&mut self, command: &Command) -> Result<HashMap<(ServiceKey, SocketAddr), u64>, Complaint> {
        let mut counts = HashMap::new();
        self.each_template(command, |template| {
            *counts.entry((template.service, template.server)).or_default() += 1;
            Ok(())
        })?;
        Ok(counts)
    }

    /// Templates as they are read, a page at a time.
    fn each_template(
        &mut self,
        command: &Command,
        mut each: impl FnMut(&TemplateStatus) -> Result<(), Complaint>,
    ) -> Result<(), Complaint> {
        let mut cursor = None;
        loop {
            let request = Request::TemplateList { filter: TemplateFilter::default(), cursor, limit: None };
            let page: TemplateList = self.ask(command, &request)?;
            page.templates.iter().try_for_each(&mut each)?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Connections as they are read, a page at a time, then templates likewise.
    fn connections(
        &mut self,
        command: &Command,
        printer: &Printer<'_>,
        out: &mut dyn Write,
    ) -> Result<(), Complaint> {
        let mut cursor = None;
        let mut title = Some(printer.connections_title());
        loop {
            let request =
                Request::ConnectionList { filter: ConnectionFilter::default(), cursor, limit: None };
            let page: crate::protocol::ConnectionList = self.ask(command, &request)?;
            if let Some(title) = title.take() {
                write(out, &title)?;
            }
            page.connections.iter().try_for_each(|connection| write(out, &printer.connection(connection)))?;
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        self.each_template(command, |template| write(out, &printer.template(template)))
    }
}

/// The one place that says which persistence engines there are: none.
fn has_engine(service: &Service) -> bool {
    service.engine.is_none()
}

/// Persistence as the protocol has it. A mask of other bits than the first ones is beyond Director.
fn persistence(service: &Service) -> Result<Option<PersistenceOptions>, Complaint> {
    let Some(timeout) = service.persistent else { return Ok(None) };
    let granularity = service.netmask.bits().ok_or_else(|| Complaint::refused(refusals::INVALID))?;
    Ok(Some(PersistenceOptions {
        timeout: Some(timeout),
        granularity: Some(granularity),
        engine: Some(PersistenceEngine::None),
    }))
}

/// A real server as the protocol has it. Weights beyond 65535, which ipvsadm lets pass, are beyond Director.
fn real_server(server: &Server) -> Result<RealServer, Complaint> {
    let weight = u16::try_from(server.weight).map_err(|_| Complaint::refused(refusals::INVALID))?;
    let method = match server.forwarding {
        Forwarding::Route => ForwardingMethod::Dr,
        Forwarding::Tunnel => ForwardingMethod::Tunnel,
        Forwarding::Masquerade => ForwardingMethod::Nat,
    };
    Ok(RealServer {
        address: server.address,
        method,
        tunnel: tunnel(server.tunnel),
        weight: Weight(weight),
        thresholds: Thresholds { upper: server.upper_threshold, lower: server.lower_threshold },
    })
}

fn tunnel(options: TunnelOptions) -> Tunnel {
    let TunnelOptions { kind, port, csum, remcsum } = options;
    match (kind, NonZeroU16::new(port)) {
        (TunnelType::Gue, Some(port)) => {
            let checksum = match (csum, remcsum) {
                (_, true) => GueChecksum::Remote,
                (true, false) => GueChecksum::Full,
                (false, false) => GueChecksum::None,
            };
            Tunnel::Gue { port, checksum }
        }
        (TunnelType::Gre, _) => Tunnel::Gre { checksum: csum },
        // The grammar gives GUE a port always.
        (TunnelType::Ipip, _) | (TunnelType::Gue, None) => Tunnel::Ipip,
    }
}

/// Whoever reads the list may have enough of it, as `head` does; ipvsadm ends then without a word.
fn write(out: &mut dyn Write, text: &str) -> Result<(), Complaint> {
    out.write_all(text.as_bytes()).map_err(|_| Complaint { text: String::new(), status: 141, ends: true })
}
