//! The director's configuration file for a lab.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use control::model::{ForwardingMethod, Protocol, Scheduler, Tunnel};

use super::{Lab, Ports};

/// A configuration to be written as TOML. What it does not say has the director's defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// The control socket.
    pub socket: PathBuf,
    /// CPUs of the worker lcores; empty for the director's default.
    pub cpus: Vec<usize>,
    /// The ports: device and mirror.
    pub ports: Vec<(String, Option<String>)>,
    /// Seconds after which a UDP connection without packets expires; `None` for the director's default.
    pub udp_timeout: Option<u32>,
    /// Further tables, as TOML.
    pub tables: String,
    /// The virtual services.
    pub services: Vec<Service>,
}

/// A virtual service of a configuration.
#[derive(Clone, Debug)]
pub struct Service {
    /// The mark that it is for instead of protocol and address; of that, the version of IP counts.
    pub mark: Option<u32>,
    /// Its transport protocol.
    pub protocol: Protocol,
    /// VIP and port.
    pub address: SocketAddr,
    /// Its scheduler.
    pub scheduler: Scheduler,
    /// Whether a client whose real server is unavailable gets another one (sh, mh).
    pub fallback: bool,
    /// For how many seconds a client keeps its real server, if it does.
    pub persistence_timeout: Option<u32>,
    /// How many bits of a client's address count for that; `None` for all of them.
    pub persistence_granularity: Option<u8>,
    /// Whether it is persistent by SIP's Call-ID.
    pub by_call: bool,
    /// Whether each datagram is scheduled by itself.
    pub one_packet: bool,
    /// Its real servers.
    pub servers: Vec<Server>,
}

/// A real server of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// How packets reach it.
    pub method: ForwardingMethod,
    /// How packets are wrapped where that is by tunnel.
    pub tunnel: Tunnel,
    /// Its weight.
    pub weight: u16,
}

impl Lab {
    /// A configuration with this lab's socket and ports, without a service. DPDK runs without hugepages.
    #[must_use]
    pub fn config(&self) -> Config {
        let ports = match self.ports() {
            Ports::Tap => {
                [0, 1].map(|n| (format!("net_tap{n},iface=dtap{n}"), Some(format!("dir{n}")))).to_vec()
            }
            Ports::AfPacket => [0, 1].map(|n| (format!("net_af_packet{n},iface=port{n}"), None)).to_vec(),
        };
        Config {
            socket: self.socket(),
            cpus: Vec::new(),
            ports,
            udp_timeout: None,
            tables: String::new(),
            services: Vec::new(),
        }
    }
}

impl Config {
    /// The same with one more service.
    #[must_use]
    pub fn with(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The same with one worker lcore on each of these CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: &[usize]) -> Self {
        self.cpus = cpus.to_vec();
        self
    }

    /// The same with another timeout of UDP connections.
    #[must_use]
    pub fn udp_timeout(mut self, seconds: u32) -> Self {
        self.udp_timeout = Some(seconds);
        self
    }

    /// The same with further tables, as TOML.
    #[must_use]
    pub fn table(mut self, text: &str) -> Self {
        self.tables = format!("{}\n{text}\n", self.tables);
        self
    }

    /// The text of the file.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut text = format!(
            "socket = \"{}\"\nhistory = \"{}\"\n\n[dpdk]\nhugepages = \"no\"\nmemory_mb = 256\n\n[connections]\ncapacity = 100000\n\n\
             [limits]\nservices = 64\nservers = 256\n",
            self.socket.display(),
            self.socket.with_file_name("history").display()
        );
        let mut line = |args: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = text.write_fmt(args);
            text.push('\n');
        };
        if !self.cpus.is_empty() {
            line(format_args!("\n[lcores]\ncpus = {:?}", self.cpus));
        }
        if let Some(seconds) = self.udp_timeout {
            line(format_args!("\n[timeouts]\nudp = {seconds}"));
        }
        for (device, mirror) in &self.ports {
            line(format_args!("\n[[port]]\ndevice = \"{device}\""));
            if let Some(mirror) = mirror {
                line(format_args!("mirror = \"{mirror}\""));
            }
        }
        line(format_args!("{}", self.tables));
        for service in &self.services {
            match service.mark {
                Some(mark) => {
                    let family = if service.address.is_ipv4() { "ipv4" } else { "ipv6" };
                    line(format_args!("\n[[service]]\nmark = {mark}\nfamily = \"{family}\""));
                }
                None => {
                    line(format_args!("\n[[service]]\nprotocol = \"{}\"", protocol(service.protocol)));
                    line(format_args!("address = \"{}\"", service.address));
                }
            }
            line(format_args!("scheduler = \"{}\"", scheduler(service.scheduler)));
            if service.fallback {
                line(format_args!("fallback = true"));
            }
            if let Some(seconds) = service.persistence_timeout {
                line(format_args!("persistence_timeout = {seconds}"));
            }
            if let Some(bits) = service.persistence_granularity {
                line(format_args!("persistence_granularity = {bits}"));
            }
            if service.by_call {
                line(format_args!("persistence_engine = \"sip\""));
            }
            if service.one_packet {
                line(format_args!("one_packet = true"));
            }
            for server in &service.servers {
                line(format_args!("  [[service.server]]\n  address = \"{}\"", server.address));
                line(format_args!("  method = \"{}\"", method(server.method)));
                if server.tunnel != Tunnel::Ipip {
                    line(format_args!("  tunnel = \"{}\"", server.tunnel));
                }
                line(format_args!("  weight = {}", server.weight));
            }
        }
        text
    }
}

impl Service {
    /// A TCP service without real servers.
    #[must_use]
    pub fn tcp(vip: impl Into<IpAddr>, port: u16, scheduler: Scheduler) -> Self {
        Service {
            mark: None,
            protocol: Protocol::Tcp,
            address: SocketAddr::new(vip.into(), port),
            scheduler,
            fallback: false,
            persistence_timeout: None,
            persistence_granularity: None,
            by_call: false,
            one_packet: false,
            servers: Vec::new(),
        }
    }

    /// A UDP service without real servers.
    #[must_use]
    pub fn udp(vip: impl Into<IpAddr>, port: u16, scheduler: Scheduler) -> Self {
        Service { protocol: Protocol::Udp, ..Service::tcp(vip, port, scheduler) }
    }

    /// An SCTP service without real servers.
    #[must_use]
    pub fn sctp(vip: impl Into<IpAddr>, port: u16, scheduler: Scheduler) -> Self {
        Service { protocol: Protocol::Sctp, ..Service::tcp(vip, port, scheduler) }
    }

    /// A service by mark without real servers, for the version of IP of this address.
    #[must_use]
    pub fn marked(mark: u32, of: impl Into<IpAddr>, scheduler: Scheduler) -> Self {
        Service { mark: Some(mark), ..Service::tcp(of, 0, scheduler) }
    }

    /// The same with a fallback for clients whose real server is unavailable.
    #[must_use]
    pub fn with_fallback(mut self) -> Self {
        self.fallback = true;
        self
    }

    /// The same with persistence: a client keeps its real server for so many seconds.
    #[must_use]
    pub fn persistent(mut self, seconds: u32) -> Self {
        self.persistence_timeout = Some(seconds);
        self
    }

    /// The same with persistence for networks of clients: those whose addresses begin with the same bits are one.
    #[must_use]
    pub fn granularity(mut self, bits: u8) -> Self {
        self.persistence_granularity = Some(bits);
        self
    }

    /// The same with persistence by SIP's Call-ID.
    #[must_use]
    pub fn by_call(mut self) -> Self {
        self.by_call = true;
        self
    }

    /// The same with each datagram scheduled by itself.
    #[must_use]
    pub fn one_packet(mut self) -> Self {
        self.one_packet = true;
        self
    }

    /// The same with one more real server.
    #[must_use]
    pub fn server(
        mut self,
        address: impl Into<IpAddr>,
        port: u16,
        method: ForwardingMethod,
        weight: u16,
    ) -> Self {
        let address = SocketAddr::new(address.into(), port);
        self.servers.push(Server { address, method, tunnel: Tunnel::default(), weight });
        self
    }

    /// The same with all its real servers by this tunnel.
    #[must_use]
    pub fn by_tunnel(mut self, tunnel: Tunnel) -> Self {
        self.servers.iter_mut().for_each(|server| server.tunnel = tunnel);
        self
    }

    /// The same with the first real servers of a lab, one for each weight, by their addresses of the VIP's version.
    #[must_use]
    pub fn lab_servers(mut self, lab: &Lab, port: u16, method: ForwardingMethod, weights: &[u16]) -> Self {
        for (server, &weight) in lab.real_servers().iter().zip(weights) {
            let address: IpAddr = match self.address {
                SocketAddr::V4(_) => server.address().into(),
                SocketAddr::V6(_) => server.address_v6().into(),
            };
            self = self.server(address, port, method, weight);
        }
        self
    }

    /// The same with the first real servers of a lab behind tunnels of the other version of IP than the VIP's.
    #[must_use]
    pub fn lab_servers_by_other_version(mut self, lab: &Lab, weights: &[u16]) -> Self {
        let port = self.address.port();
        for (server, &weight) in lab.real_servers().iter().zip(weights) {
            let address: IpAddr = match self.address {
                SocketAddr::V4(_) => server.address_v6().into(),
                SocketAddr::V6(_) => server.address().into(),
            };
            self = self.server(address, port, ForwardingMethod::Tunnel, weight);
        }
        self
    }
}

/// The protocol as configuration and command line spell it.
#[must_use]
pub fn protocol(protocol: Protocol) -> &'static str {
    protocol.word()
}

/// The scheduler as configuration and command line spell it.
#[must_use]
pub fn scheduler(scheduler: Scheduler) -> &'static str {
    scheduler.word()
}

/// The forwarding method as configuration and command line spell it.
#[must_use]
pub fn method(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Nat => "nat",
        ForwardingMethod::Dr => "dr",
        ForwardingMethod::Tunnel => "tunnel",
    }
}
