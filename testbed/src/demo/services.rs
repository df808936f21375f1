//! The demo's four services, and what their schedulers promise.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddrV4};

use control::model::{ForwardingMethod, Protocol, Scheduler};

use crate::error::{Context as _, Result};
use crate::lab::config::{self, Config, Service};
use crate::lab::directorctl::Directorctl;
use crate::lab::{Lab, plan};
use crate::traffic::{Counts, spread};

/// The real server that leaves in the middle of the demo, counted from 1.
pub(super) const LEAVING: u8 = 2;
/// The real server that comes then.
pub(super) const COMING: u8 = 4;
/// How many addresses the client asks the hashed service from.
pub(super) const CLIENT_ADDRESSES: u8 = 96;

/// How many reasons for failed requests are kept.
const FAILURES: usize = 5;

/// One service of the demo.
#[derive(Clone, Copy, Debug)]
pub(super) struct Balanced {
    pub(super) protocol: Protocol,
    pub(super) address: SocketAddrV4,
    pub(super) scheduler: Scheduler,
    pub(super) method: ForwardingMethod,
    /// The port of its real servers.
    pub(super) port: u16,
    /// Weights of the real servers 1 to 4; the fourth is the one that comes.
    pub(super) weights: [u16; 4],
}

/// All of them: three by TCP, one for each forwarding method, and one by UDP.
pub(super) const SERVICES: [Balanced; 4] = [
    Balanced {
        protocol: Protocol::Tcp,
        address: SocketAddrV4::new(plan::VIP_NAT, plan::WEB),
        scheduler: Scheduler::Rr,
        method: ForwardingMethod::Nat,
        port: plan::WEB_NAT,
        weights: [1, 1, 1, 1],
    },
    Balanced {
        protocol: Protocol::Tcp,
        address: SocketAddrV4::new(plan::VIP_DR, plan::WEB),
        scheduler: Scheduler::Wrr,
        method: ForwardingMethod::Dr,
        port: plan::WEB,
        weights: [3, 2, 1, 2],
    },
    Balanced {
        protocol: Protocol::Tcp,
        address: SocketAddrV4::new(plan::VIP_TUN, plan::WEB),
        scheduler: Scheduler::Mh,
        method: ForwardingMethod::Tunnel,
        port: plan::WEB,
        weights: [1, 1, 1, 1],
    },
    Balanced {
        protocol: Protocol::Udp,
        address: SocketAddrV4::new(plan::VIP_NAT, 53),
        scheduler: Scheduler::Rr,
        method: ForwardingMethod::Nat,
        port: plan::ECHO_NAT,
        weights: [1, 1, 1, 1],
    },
];

/// Which real servers are in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// The first three.
    Before,
    /// After one has left and another has come.
    After,
}

impl Cast {
    fn servers(self) -> [u8; 3] {
        match self {
            Cast::Before => [1, LEAVING, 3],
            Cast::After => [1, 3, COMING],
        }
    }
}

impl Balanced {
    /// `tcp 10.99.0.1:80`, as directorctl names a service.
    pub(super) fn key(&self) -> String {
        format!("{} {}", config::protocol(self.protocol), self.address)
    }

    /// The service and how it is balanced, in one line.
    pub(super) fn title(&self) -> String {
        format!("{} {} {}", self.key(), config::scheduler(self.scheduler), config::method(self.method))
    }

    pub(super) fn server(&self, number: u8) -> SocketAddrV4 {
        SocketAddrV4::new(plan::real_server(number), self.port)
    }

    pub(super) fn weight(&self, number: u8) -> u16 {
        self.weights[usize::from(number - 1)]
    }

    /// Checks the answers of one stable phase against the scheduler's promise; says in words what held.
    pub(super) fn judge(&self, cast: Cast, seen: &Seen) -> Result<String> {
        let weights: Vec<(String, u64)> = cast
            .servers()
            .iter()
            .map(|&number| (plan::real_server_name(number), u64::from(self.weight(number))))
            .collect();
        let counts = spread::show(&seen.counts);
        match self.scheduler {
            Scheduler::Wrr => {
                spread::weighted_round_robin(&seen.counts, &weights)?;
                Ok(format!("{counts}: exactly the weights"))
            }
            Scheduler::Mh | Scheduler::Sh => {
                spread::sticky(&seen.by_client)?;
                let clients = seen.clients();
                spread::near_equal(&clients, &weights)?;
                let bound = spread::near_equal_bound(clients.values().sum(), weights.len());
                Ok(format!(
                    "each of {} client addresses has one real server ({}), shares within {bound:.0} of equal",
                    seen.by_client.len(),
                    spread::show(&clients)
                ))
            }
            Scheduler::Rr | Scheduler::Wlc => {
                spread::round_robin(&seen.counts, &weights)?;
                Ok(format!("{counts}: equal but for one"))
            }
            // None of the demo's services has another.
            other => Ok(format!("{counts}, by {}", config::scheduler(other))),
        }
    }
}

/// Who answered in one phase.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Answers by real server.
    pub(super) counts: Counts,
    /// Real servers by the client address that asked.
    pub(super) by_client: BTreeMap<IpAddr, Vec<String>>,
    /// Requests without a right answer.
    pub(super) failed: u64,
    /// The first few reasons.
    pub(super) failures: Vec<String>,
}

impl Seen {
    pub(super) fn add(&mut self, more: Seen) {
        for (server, count) in more.counts {
            *self.counts.entry(server).or_default() += count;
        }
        for (client, servers) in more.by_client {
            self.by_client.entry(client).or_default().extend(servers);
        }
        self.failed += more.failed;
        let room = FAILURES.saturating_sub(self.failures.len());
        self.failures.extend(more.failures.into_iter().take(room));
    }

    pub(super) fn answered(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many client addresses each real server has.
    pub(super) fn clients(&self) -> Counts {
        let mut clients = Counts::new();
        for server in self.first_servers().into_values() {
            *clients.entry(server).or_default() += 1;
        }
        clients
    }

    /// The real server of each client address.
    pub(super) fn first_servers(&self) -> BTreeMap<IpAddr, String> {
        self.by_client
            .iter()
            .filter_map(|(client, servers)| Some((*client, servers.first()?.clone())))
            .collect()
    }
}

/// The configuration with which the director starts.
pub(super) fn config(lab: &Lab) -> Config {
    // UDP knows no end of a connection: with the default of five minutes nobody could wait for a drain.
    let config = lab.config().udp_timeout(3);
    SERVICES.iter().fold(config, |config, balanced| {
        let mut service = Service::tcp(*balanced.address.ip(), balanced.address.port(), balanced.scheduler);
        service.protocol = balanced.protocol;
        // Without it, the clients of a real server of weight 0 are refused, as IPVS has it.
        service.fallback = balanced.scheduler == Scheduler::Mh;
        for number in Cast::Before.servers() {
            let server = balanced.server(number);
            service = service.server(*server.ip(), server.port(), balanced.method, balanced.weight(number));
        }
        config.with(service)
    })
}

/// Connections that the director has counted, by service (as in [`SERVICES`]) and name of real server.
pub(super) fn connections(ctl: &Directorctl) -> Result<Vec<Counts>> {
    let list = ctl.services()?;
    SERVICES
        .iter()
        .map(|balanced| {
            let status = list
                .services
                .iter()
                .find(|status| status.service.to_string() == balanced.key())
                .context(|| format!("service list has no {}", balanced.key()))?;
            Ok((1..=COMING)
                .filter_map(|number| {
                    let address = balanced.server(number).into();
                    let server = status.servers.iter().find(|server| server.address == address)?;
                    Some((plan::real_server_name(number), server.counters.connections))
                })
                .collect())
        })
        .collect()
}
