//! Carries commands out by the protocol's requests.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use super::command::{Command, Complaint, Format, Listing, Service};
use super::meaning::{self, Unable};
use super::names::Names;
use super::print::{Beside, Printer};
use super::{refusals, sort};
use crate::model::{Edit, PersistenceEdit, ServiceKey};
use crate::protocol::{
    Client, ClientError, ConnectionFilter, ConnectionList, Done, PersistenceChange, PersistenceOptions,
    RateList, Request, ServiceList, ServiceStatus, TemplateFilter, TemplateList, TemplateStatus,
    TimeoutsInForce,
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
            Command::Zero(service) => self.change(command, &Request::StatsZero { service: *service }),
            Command::SetTimeouts { tcp, tcp_fin, udp } => {
                let changed = |seconds: u32| (seconds != 0).then_some(seconds);
                let (tcp, tcp_fin, udp) = (changed(*tcp), changed(*tcp_fin), changed(*udp));
                self.change(command, &Request::TimeoutsSet { tcp, tcp_fin, udp })
            }
            // These need no director; whoever called knows what to do.
            Command::Help | Command::Version | Command::Restore => Ok(()),
            Command::AddService(_)
            | Command::EditService(_)
            | Command::DeleteService(_)
            | Command::AddServer(..)
            | Command::EditServer(..)
            | Command::DeleteServer(..) => match meaning::edit(command) {
                Some(Ok(edit)) => self.change(command, &request(edit)),
                Some(Err(unable)) => Err(self.unable(command, &unable)?),
                None => Ok(()),
            },
        }
    }

    fn client(&mut self) -> Result<&mut Client, Complaint> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                Client::connect(self.socket).map_err(|error| Complaint::lost(refusals::nobody(&error)))?
            }
        };
        Ok(self.client.insert(client))
    }

    fn change(&mut self, command: &Command, request: &Request) -> Result<(), Complaint> {
        let done: Result<Done, ClientError> = self.client()?.ask(request);
        done.map(|_| ()).map_err(|error| self.failed(command, &error))
    }

    /// What is said of a request that came to nothing. After a refusal `-R` goes on. After anything else nobody knows what
    /// became of the request, and its reply may yet come: it all ends, lest it be taken for the reply to the next line.
    fn failed(&mut self, command: &Command, error: &ClientError) -> Complaint {
        let text = refusals::words(command, error);
        if matches!(error, ClientError::Refused(_)) {
            return Complaint::refused(text);
        }
        self.client = None;
        Complaint::lost(text)
    }

    /// Asks for what is to be listed; a refusal ends it all.
    fn ask<T: serde::de::DeserializeOwned>(
        &mut self,
        command: &Command,
        request: &Request,
    ) -> Result<T, Complaint> {
        let reply = self.client()?.ask(request);
        reply.map_err(|error| match self.failed(command, &error) {
            Complaint { ends: false, text, .. } => Complaint::listing(text),
            lost => lost,
        })
    }

    fn clear(&mut self, command: &Command) -> Result<(), Complaint> {
        let list: ServiceList = self.ask(command, &Request::ServiceList {})?;
        for status in list.services {
            match self.client()?.service_delete(status.service) {
                Err(ClientError::Refused(refusal)) if refusal.code == "no-such-service" => {}
                Err(error) => return Err(self.failed(command, &error)),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// What ipvsadm says to what Director has not. A kernel looks for the service before it looks for the scheduler.
    fn unable(&mut self, command: &Command, unable: &Unable) -> Result<Complaint, Complaint> {
        if !matches!(unable, Unable::Scheduler(_) | Unable::Engine(_)) {
            return Ok(Complaint::refused(refusals::INVALID));
        }
        let list: ServiceList = self.ask(command, &Request::ServiceList {})?;
        let exists = |service: &Service| list.services.iter().any(|status| status.service == service.key);
        Ok(Complaint::refused(match command {
            Command::AddService(service) if exists(service) => refusals::SERVICE_EXISTS,
            Command::EditService(service) if !exists(service) => refusals::NO_SERVICE,
            _ => refusals::NO_SCHEDULER,
        }))
    }

    /// All services, sorted as they are to be listed.
    fn services(&mut self, command: &Command, format: Format) -> Result<Vec<ServiceStatus>, Complaint> {
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
            let page: ConnectionList = self.ask(command, &request)?;
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

/// An edit as a request.
fn request(edit: Edit) -> Request {
    match edit {
        Edit::AddService { key: service, scheduler, flags, persistence, one_packet } => {
            let persistence = persistence.map(|persistence| PersistenceOptions {
                timeout: u32::try_from(persistence.timeout.as_secs()).ok(),
                granularity: Some(persistence.granularity),
                engine: Some(persistence.engine),
            });
            Request::ServiceAdd { service, scheduler, flags, persistence, one_packet }
        }
        Edit::EditService { key: service, scheduler, flags, persistence, one_packet } => {
            let persistence = persistence.map(|edit| match edit {
                PersistenceEdit::Off => PersistenceChange::OFF,
                PersistenceEdit::On { timeout, granularity, engine } => {
                    let timeout = timeout.and_then(|timeout| u32::try_from(timeout.as_secs()).ok());
                    PersistenceChange::On(PersistenceOptions { timeout, granularity, engine })
                }
            });
            Request::ServiceEdit { service, scheduler, flags, persistence, one_packet }
        }
        Edit::DeleteService { key: service } => Request::ServiceDelete { service },
        Edit::AddServer { service, server } => Request::ServerAdd { service, server },
        Edit::EditServer { service, address, weight, method, tunnel, upper_threshold, lower_threshold } => {
            Request::ServerEdit { service, address, weight, method, tunnel, upper_threshold, lower_threshold }
        }
        Edit::DeleteServer { service, address } => Request::ServerDelete { service, address },
    }
}

/// Without a reader, or room, for what is listed it ends; [`super::stdout`] knows whether there is something to say.
fn write(out: &mut dyn Write, text: &str) -> Result<(), Complaint> {
    out.write_all(text.as_bytes()).map_err(|_| Complaint { text: String::new(), status: 141, ends: true })
}
