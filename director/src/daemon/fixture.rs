//! A virtual service whose real servers come and go, for tests of what goes by their numbers.

use std::net::SocketAddr;
use std::sync::Arc;

use control::model::{
    ForwardingMethod, Protocol, RealServer, Scheduler, SchedulerFlags, Service, ServiceKey, Settings,
    Thresholds, Timeouts, Tunnel, Weight,
};

use crate::service::{Compiler, Input, Services};

/// The one virtual service.
pub(super) fn key() -> ServiceKey {
    ServiceKey::Address { protocol: Protocol::Tcp, address: ([10, 99, 0, 1], 80).into() }
}

/// Address of its `n`-th real server.
pub(super) fn address(n: u8) -> SocketAddr {
    ([10, 0, 2, n], 80).into()
}

/// Compiles the service with these real servers.
pub(super) fn compile(compiler: &mut Compiler, servers: &[u8]) {
    let server = |n: &u8| RealServer {
        address: address(*n),
        method: ForwardingMethod::Nat,
        weight: Weight(1),
        tunnel: Tunnel::default(),
        thresholds: Thresholds::default(),
    };
    let service = Arc::new(Service {
        key: key(),
        scheduler: Scheduler::Rr,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers: servers.iter().map(server).collect(),
    });
    let services = [(key(), service)].into();
    let input = Input {
        services: Services::All(&services),
        hops: Arc::default(),
        ports: Vec::new(),
        timeouts: Timeouts::default(),
        settings: Settings::default(),
        quiescent: u64::MAX,
    };
    compiler.compile(input).unwrap();
}
