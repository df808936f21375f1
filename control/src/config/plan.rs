//! What a director with this configuration would do, in the operator's words.

use std::fmt::Write as _;

use super::number::FTP_PORT;
use super::{Config, Hugepages, Idle, Mirror, Port, PortDevice, Rss};
use crate::model::{MarkRule, Persistence, RealServer, Service, ServiceKey, Settings, Thresholds, Tunnel};

impl Hugepages {
    pub(super) const ALL: &'static [Hugepages] = &[Hugepages::Auto, Hugepages::Yes, Hugepages::No];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Hugepages::Auto => "auto",
            Hugepages::Yes => "yes",
            Hugepages::No => "no",
        }
    }
}

impl Idle {
    pub(super) const ALL: &'static [Idle] = &[Idle::Auto, Idle::Poll, Idle::Sleep];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Idle::Auto => "auto",
            Idle::Poll => "poll",
            Idle::Sleep => "sleep",
        }
    }
}

impl Rss {
    pub(super) const ALL: &'static [Rss] = &[Rss::Symmetric, Rss::Source, Rss::Destination];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Rss::Symmetric => "symmetric",
            Rss::Source => "source",
            Rss::Destination => "destination",
        }
    }
}

impl Config {
    /// What the director would do with this configuration, one thing a line, for `director check`.
    pub fn plan(&self) -> String {
        let mut lines = vec![format!("control socket {}", self.socket.display()), self.memory()];
        if !self.dpdk.eal_args.is_empty() {
            lines.push(format!("further EAL arguments: {}", self.dpdk.eal_args.join(" ")));
        }
        lines.extend([self.workers(), self.room(), self.timeout_line()]);
        lines.extend(self.settings_line());
        lines.extend(self.ftp_line());
        lines.extend(self.ports.iter().enumerate().map(|(index, port)| port_line(index, port)));
        lines.extend(self.marks.iter().map(MarkRule::to_string));
        for service in self.model.services().values() {
            lines.push(service_line(service));
            lines.extend(self.health.get(&service.key).into_iter().flat_map(|policy| policy.lines(service)));
            lines.extend(self.no_rule(service.key));
            for server in &service.servers {
                lines.push(server_line(server));
            }
        }
        if self.model.services().is_empty() {
            lines.push("no virtual services; directorctl can add them".to_owned());
        }
        lines.push(String::new());
        lines.join("\n")
    }

    /// That no packet can have the service's mark.
    fn no_rule(&self, key: ServiceKey) -> Option<String> {
        let ServiceKey::Mark { mark, .. } = key else { return None };
        let has_rule = self.marks.iter().any(|rule| rule.mark == mark);
        (!has_rule).then(|| format!("  no packet gets there: no [[mark]] gives mark {mark}"))
    }

    fn memory(&self) -> String {
        let megabytes = self.dpdk.memory_mb;
        let mut line = match self.dpdk.hugepages {
            Hugepages::Auto => format!("memory in hugepages if some are free, else {megabytes} MB without"),
            Hugepages::Yes => "memory in hugepages".to_owned(),
            Hugepages::No => format!("{megabytes} MB of memory without hugepages"),
        };
        match self.dpdk.mbufs {
            Some(mbufs) => write!(line, ", {mbufs} mbufs"),
            None => write!(line, ", as many mbufs as ports and queues need"),
        }
        .expect("writing to a String does not fail");
        line
    }

    fn workers(&self) -> String {
        let who = match self.lcores.cpus.as_deref() {
            None => "one worker lcore on the last CPU that the process may run on".to_owned(),
            Some(cpus) => {
                let list: Vec<String> = cpus.iter().map(u32::to_string).collect();
                let (workers, where_to) =
                    if cpus.len() == 1 { ("worker lcore", "CPU") } else { ("worker lcores", "CPUs") };
                format!("{} {workers} on {where_to} {}", cpus.len(), list.join(", "))
            }
        };
        let pci = self.ports.iter().any(|port| port.kind == PortDevice::Pci);
        let polls = match self.lcores.idle {
            Idle::Poll => true,
            Idle::Sleep => false,
            Idle::Auto => pci,
        };
        format!("{who}, {} when idle", if polls { "polling on" } else { "sleeping" })
    }

    fn room(&self) -> String {
        format!(
            "room for {} connections of IPv4 and {} of IPv6 per lcore, {} templates, {} services and {} servers",
            self.connections.capacity,
            self.connections.ipv6_capacity,
            self.connections.templates,
            self.limits.services,
            self.limits.servers
        )
    }

    fn timeout_line(&self) -> String {
        let [tcp, tcp_fin, udp] =
            [self.timeouts.tcp, self.timeouts.tcp_fin, self.timeouts.udp].map(|timeout| timeout.as_secs());
        format!("timeouts tcp {tcp} s, tcp_fin {tcp_fin} s, udp {udp} s")
    }
}

impl Config {
    /// The settings that are not the defaults, if any.
    fn settings_line(&self) -> Option<String> {
        let default = Settings::default();
        let other = Settings::NAMES.into_iter().filter(|name| self.settings.get(name) != default.get(name));
        let words: Vec<String> =
            other.filter_map(|name| Some(format!("{name} {}", self.settings.get(name)?))).collect();
        (!words.is_empty()).then(|| format!("settings {}", words.join(", ")))
    }
}

impl Config {
    /// Where FTP's control connections are, if not at their own port alone.
    fn ftp_line(&self) -> Option<String> {
        let ports: Vec<String> = self.ftp_ports.iter().map(u16::to_string).collect();
        match &self.ftp_ports[..] {
            [FTP_PORT] => None,
            [] => Some("FTP is not read along".to_owned()),
            _ => Some(format!("FTP by nat at TCP ports {}", ports.join(", "))),
        }
    }
}

fn server_line(server: &RealServer) -> String {
    let wrapped = match server.tunnel {
        Tunnel::Ipip => String::new(),
        tunnel => format!(" {tunnel}"),
    };
    let mut line = format!("  {} {}{wrapped} weight {}", server.address, server.method, server.weight);
    let Thresholds { upper, lower } = server.thresholds;
    if server.thresholds.any() {
        line.push_str(&format!(" upper_threshold {upper}"));
    }
    if lower > 0 {
        line.push_str(&format!(" lower_threshold {lower}"));
    }
    line
}

fn port_line(index: usize, port: &Port) -> String {
    let kind = match &port.kind {
        PortDevice::Pci => "PCI device".to_owned(),
        PortDevice::Vdev { driver, .. } => format!("virtual device of {driver}"),
    };
    let mirror = match &port.mirror {
        Mirror::Interface(name) => format!("mirrored by {name}"),
        Mirror::None => "without a mirror".to_owned(),
        Mirror::KernelKeeps { interface } => format!("whose interface {interface} the kernel keeps"),
    };
    let rss = match port.rss {
        Rss::Symmetric => String::new(),
        one_side => format!(", RSS by {} alone if the device can", one_side.word()),
    };
    format!(
        "port {index} {}, {kind}, {mirror}, mtu {}, {} receive and {} transmit descriptors{rss}",
        port.device, port.mtu, port.rx_descriptors, port.tx_descriptors
    )
}

fn service_line(service: &Service) -> String {
    let mut line = format!("service {} scheduler {}", service.key, service.scheduler);
    if service.flags.fallback {
        line.push_str(" fallback");
    }
    if service.flags.port {
        line.push_str(" hash_port");
    }
    if let Some(Persistence { timeout, granularity, engine }) = service.persistence {
        line.push_str(&format!(" persistent {} s granularity {granularity}", timeout.as_secs()));
        if !engine.is_none() {
            line.push_str(&format!(" engine {engine}"));
        }
    }
    if service.one_packet {
        line.push_str(" one_packet");
    }
    if service.servers.is_empty() {
        line.push_str(" without real servers");
    }
    line
}
