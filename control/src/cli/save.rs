//! `directorctl save`: what runs, as tables of the configuration.

use super::session::{Failure, Session};
use super::tables;
use crate::model::{RealServer, Service};
use crate::protocol::{Request, ServiceList, ServiceStatus};

/// Prints the running services.
pub(super) fn run(session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::ServiceList {}, text).map(|_| ())
}

fn text(list: &ServiceList) -> String {
    let services: Vec<String> =
        list.services.iter().map(|status| tables::service(&service(status), &[])).collect();
    services.join("\n")
}

fn service(status: &ServiceStatus) -> Service {
    let servers = status.servers.iter().map(|server| RealServer {
        address: server.address,
        method: server.method,
        tunnel: server.tunnel,
        weight: server.weight,
        thresholds: server.thresholds,
    });
    Service {
        key: status.service,
        scheduler: status.scheduler,
        flags: status.flags,
        persistence: status.persistence,
        one_packet: status.one_packet,
        servers: servers.collect(),
    }
}
