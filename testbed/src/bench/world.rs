//! What the director under test is configured with: services, and a kernel that knows the way.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;

use control::model::{
    Change, ForwardingMethod, GueChecksum, Protocol, RealServer, Scheduler, SchedulerFlags, Service,
    ServiceKey, Settings, Thresholds, Timeouts, Tunnel, Weight,
};
use director::id::{IfIndex, PortId};
use director::nexthop::{Address, KernelView, Link, MacAddr, Neighbour, NextHops, PortLink, Route};
use director::service::{Compiler, Input, PortInfo, Services, Snapshot};
use director::stats::Fleet;

use super::case::{Method, Traffic};
use super::flows;
use crate::error::{Context as _, Result};

/// The interface of the one port.
const LINK: IfIndex = IfIndex(1);
/// Numbers for real servers beyond those that are configured.
const SPARE: usize = 64;

/// Services, and the compiler that makes snapshots of them.
pub struct World {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    keys: Vec<ServiceKey>,
    /// Since the last snapshot; everything, where there was none.
    edited: Option<Vec<Change>>,
    hops: Arc<NextHops>,
    compiler: Compiler,
}

impl World {
    /// The services of the benchmark, forwarded to by `method`.
    #[must_use]
    pub fn new(method: Method, traffic: Traffic, scheduler: Scheduler, fleet: Fleet) -> World {
        let each = (0..flows::SERVICES).map(|n| {
            let server = real_server(method, traffic, flows::server_address(n));
            service(traffic, flows::virtual_address(n), Scheduler::Wlc, vec![server])
        });
        let pool = (0..flows::POOL).map(|n| real_server(method, traffic, flows::pool_address(n))).collect();
        let pool = service(traffic, flows::virtual_address(flows::SERVICES), scheduler, pool);
        World::of(each.chain([pool]), fleet)
    }

    /// A world with `services` services of `servers` real servers each: beside those of the benchmark, many
    /// that nobody asks for.
    #[must_use]
    pub fn crowded(traffic: Traffic, services: u32, servers: u32, fleet: Fleet) -> World {
        let crowd = (0..services).map(|n| {
            let vip = Ipv4Addr::from(u32::from(Ipv4Addr::new(203, 0, 0, 0)) + n);
            let first = u32::from(Ipv4Addr::new(198, 19, 8, 0));
            let servers = (0..servers)
                .map(|k| real_server(Method::Dr, traffic, Ipv4Addr::from(first + (n * 7 + k) % 50_000)))
                .collect();
            service(traffic, vip, Scheduler::Wlc, servers)
        });
        let mut world = World::new(Method::Dr, traffic, Scheduler::Rr, fleet.clone());
        let all: Vec<_> =
            std::mem::take(&mut world.services).into_values().map(Arc::unwrap_or_clone).collect();
        World::of(all.into_iter().chain(crowd), fleet)
    }

    fn of(services: impl Iterator<Item = Service>, fleet: Fleet) -> World {
        let services: BTreeMap<_, _> = services.map(|s| (s.key, Arc::new(s))).collect();
        let servers: usize = services.values().map(|s| s.servers.len()).sum();
        let ports = [PortLink { link: LINK, port: PortId(0) }];
        let hops = Arc::new(NextHops::build(Arc::new(kernel_view(&services)), &ports));
        let compiler = Compiler::new(services.len(), servers + SPARE, fleet);
        let keys = services.keys().copied().collect();
        World { services, keys, edited: None, hops, compiler }
    }

    /// Counters that one lcore needs for this many real servers.
    #[must_use]
    pub fn numbers(services: u32, servers: u32) -> usize {
        (services * servers + flows::SERVICES + flows::POOL) as usize + SPARE
    }

    /// The next snapshot; `quiescent` is the oldest version that an lcore still uses.
    ///
    /// # Errors
    /// When numbers for real servers run out.
    pub fn compile(&mut self, quiescent: u64) -> Result<Snapshot> {
        let services = match &self.edited {
            Some(changes) => Services::Edited(changes),
            None => Services::All(&self.services),
        };
        let input = Input {
            services,
            hops: self.hops.clone(),
            ports: vec![PortInfo { mac: MacAddr(flows::DIRECTOR_MAC) }],
            timeouts: Timeouts::default(),
            settings: Settings::default(),
            quiescent,
        };
        let snapshot = self.compiler.compile(input).context(|| "cannot compile the services")?;
        self.edited = Some(Vec::new());
        Ok(snapshot)
    }

    /// Gives the first real server of the `n`-th service another weight, as an operator does.
    pub fn change_weight(&mut self, n: usize, weight: u16) {
        let key = self.keys[n % self.keys.len()];
        if let Some(service) = self.services.get_mut(&key) {
            Arc::make_mut(service).servers[0].weight = Weight(weight);
            let change = Change { key, service: Some(service.clone()) };
            if let Some(edited) = &mut self.edited {
                edited.push(change);
            }
        }
    }
}

/// Where real servers take packets out of GUE.
const GUE_PORT: NonZeroU16 = NonZeroU16::new(6080).unwrap();

fn service(traffic: Traffic, vip: Ipv4Addr, scheduler: Scheduler, servers: Vec<RealServer>) -> Service {
    let protocol = if traffic.is_tcp() { Protocol::Tcp } else { Protocol::Udp };
    let address = SocketAddr::from((flows::in_family(traffic, vip), flows::VIRTUAL_PORT));
    Service {
        key: ServiceKey::Address { protocol, address },
        scheduler,
        flags: SchedulerFlags::default(),
        persistence: None,
        one_packet: false,
        servers,
    }
}

fn real_server(method: Method, traffic: Traffic, address: Ipv4Addr) -> RealServer {
    let address = flows::in_family(traffic, address);
    let tunnel = match method {
        Method::Gue => Tunnel::Gue { port: GUE_PORT, checksum: GueChecksum::None },
        _ => Tunnel::Ipip,
    };
    let (method, port) = match method {
        Method::Dr => (ForwardingMethod::Dr, flows::VIRTUAL_PORT),
        Method::Tun | Method::Gue => (ForwardingMethod::Tunnel, flows::VIRTUAL_PORT),
        Method::NatRequest | Method::NatReply => (ForwardingMethod::Nat, flows::NAT_PORT),
    };
    let address = SocketAddr::new(address, port);
    RealServer { address, method, tunnel, weight: Weight(1), thresholds: Thresholds::default() }
}

/// One interface, real servers on its link, and a router to everybody else.
fn kernel_view(services: &BTreeMap<ServiceKey, Arc<Service>>) -> KernelView {
    let mut view = KernelView::default();
    let mac = Some(MacAddr(flows::DIRECTOR_MAC));
    view.links.insert(LINK, Link { name: "dir0".to_owned(), mac, mtu: 1500, up: true, vlan: None });
    for (traffic, more) in [(Traffic::Udp, 0), (Traffic::Udp6, 96)] {
        let of = |address| flows::in_family(traffic, address);
        let route = |network, prefix_len, gateway| Route {
            network: of(network),
            prefix_len,
            link: LINK,
            gateway,
            source: None,
            metric: 0,
            mtu: None,
        };
        let own = of(Ipv4Addr::new(198, 18, 255, 1));
        view.addresses.push(Address { link: LINK, ip: own, prefix_len: 15 + more });
        view.routes.push(route(Ipv4Addr::UNSPECIFIED, more, Some(of(flows::ROUTER))));
        view.routes.push(route(Ipv4Addr::new(198, 18, 0, 0), 15 + more, None));
    }
    let servers = services.values().flat_map(|s| s.servers.iter().map(|server| server.address.ip()));
    for ip in servers {
        let low = match ip {
            IpAddr::V4(v4) => u32::from(v4),
            IpAddr::V6(v6) => u128::from(v6) as u32,
        };
        let [_, a, b, c] = low.to_be_bytes();
        view.neighbours.insert(Neighbour { link: LINK, ip }, MacAddr([0x02, 0, 1, a, b, c]));
    }
    for traffic in [Traffic::Udp, Traffic::Udp6] {
        let router = Neighbour { link: LINK, ip: flows::in_family(traffic, flows::ROUTER) };
        view.neighbours.insert(router, MacAddr(flows::ROUTER_MAC));
    }
    view
}
