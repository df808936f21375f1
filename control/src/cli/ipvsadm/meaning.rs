//! What ipvsadm's rules mean to Director: a command as an edit of the model. What ipvsadm leaves out has its own default,
//! not what was before, so that an edit says everything.

use std::num::NonZeroU16;
use std::time::Duration;

use super::command::{Command, Flags, Forwarding, Netmask, Server, Service, TunnelOptions, TunnelType};
use crate::model::{
    Edit, ForwardingMethod, GueChecksum, Persistence, PersistenceEdit, PersistenceEngine, RealServer,
    Scheduler, SchedulerFlags, Thresholds, Tunnel, Weight,
};

/// What ipvsadm can say and Director has not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::cli) enum Unable {
    /// A scheduler of another name.
    #[error("there is no scheduler {0}")]
    Scheduler(String),
    /// A persistence engine of another name.
    #[error("there is no persistence engine {0}")]
    Engine(String),
    /// A flag that no scheduler here has a meaning for.
    #[error("no scheduler has a meaning for flag-3")]
    ThirdFlag,
    /// A mask that skips bits.
    #[error("of the netmask {} not the first bits are set, but others", std::net::Ipv4Addr::from(*.0))]
    Netmask(u32),
    /// A weight that is too great.
    #[error("the weight {0} is above 65535")]
    Weight(u32),
}

/// The edit that a command asks for; none where it asks for no change of services or real servers.
pub(in crate::cli) fn edit(command: &Command) -> Option<Result<Edit, Unable>> {
    Some(match command {
        Command::AddService(service) => add(service),
        Command::EditService(service) => change(service),
        Command::DeleteService(key) => Ok(Edit::DeleteService { key: *key }),
        Command::AddServer(service, server) => {
            real_server(server).map(|server| Edit::AddServer { service: *service, server })
        }
        Command::EditServer(service, server) => real_server(server).map(|server| Edit::EditServer {
            service: *service,
            address: server.address,
            weight: Some(server.weight),
            method: Some(server.method),
            tunnel: Some(server.tunnel).filter(|_| server.method == ForwardingMethod::Tunnel),
            upper_threshold: Some(server.thresholds.upper),
            lower_threshold: Some(server.thresholds.lower),
        }),
        Command::DeleteServer(service, address) => {
            Ok(Edit::DeleteServer { service: *service, address: *address })
        }
        _ => return None,
    })
}

fn add(service: &Service) -> Result<Edit, Unable> {
    Ok(Edit::AddService {
        key: service.key,
        scheduler: scheduler(service)?,
        flags: flags(service.flags)?,
        persistence: persistence(service)?,
        one_packet: service.one_packet,
    })
}

fn change(service: &Service) -> Result<Edit, Unable> {
    let persistence = persistence(service)?.map_or(PersistenceEdit::Off, |persistence| PersistenceEdit::On {
        timeout: Some(persistence.timeout),
        granularity: Some(persistence.granularity),
        engine: Some(persistence.engine),
    });
    Ok(Edit::EditService {
        key: service.key,
        scheduler: Some(scheduler(service)?),
        flags: Some(flags(service.flags)?),
        persistence: Some(persistence),
        one_packet: Some(service.one_packet),
    })
}

/// The scheduler, by IPVS's name.
fn scheduler(service: &Service) -> Result<Scheduler, Unable> {
    service.scheduler.parse().map_err(|_| Unable::Scheduler(service.scheduler.clone()))
}

fn flags(flags: Flags) -> Result<SchedulerFlags, Unable> {
    if flags.third {
        return Err(Unable::ThirdFlag);
    }
    Ok(SchedulerFlags { fallback: flags.first, port: flags.second })
}

/// The persistence engine, which says nothing of a service that is not persistent.
fn engine(service: &Service) -> Result<PersistenceEngine, Unable> {
    match service.engine.as_deref() {
        None => Ok(PersistenceEngine::None),
        Some("sip") => Ok(PersistenceEngine::Sip),
        Some(other) => Err(Unable::Engine(other.to_owned())),
    }
}

fn persistence(service: &Service) -> Result<Option<Persistence>, Unable> {
    let engine = engine(service)?;
    let Some(seconds) = service.persistent else { return Ok(None) };
    let granularity = match (service.netmask.bits(), service.netmask) {
        (Some(bits), _) => bits,
        (None, Netmask::Mask(mask) | Netmask::Prefix(mask)) => return Err(Unable::Netmask(mask)),
    };
    Ok(Some(Persistence { timeout: Duration::from_secs(seconds.into()), granularity, engine }))
}

fn real_server(server: &Server) -> Result<RealServer, Unable> {
    let method = match server.forwarding {
        Forwarding::Route => ForwardingMethod::Dr,
        Forwarding::Tunnel => ForwardingMethod::Tunnel,
        Forwarding::Masquerade => ForwardingMethod::Nat,
    };
    Ok(RealServer {
        address: server.address,
        method,
        tunnel: tunnel(server.tunnel),
        weight: Weight(u16::try_from(server.weight).map_err(|_| Unable::Weight(server.weight))?),
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
