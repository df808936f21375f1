//! What ipvsadm lists, byte for byte: services, real servers and connections in each of its formats.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::command::Format;
use super::names::Names;
use crate::model::{
    Family, ForwardingMethod, GueChecksum, PersistenceEngine, Protocol, Scheduler, ServiceKey, Tunnel,
};
use crate::protocol::{
    ConnectionStatus, Counters, Rates, ServerStatus, ServiceRates, ServiceStatus, TemplateStatus,
};

/// The version of IPVS that the listing is of, and the size of its table, which Director has none of: what a kernel says
/// by default.
const HEAD: &str = "IP Virtual Server version 1.2.1 (size=4096)\n";

/// An address with its port has room for so many bytes.
const NAME_LENGTH: usize = 59;
/// Services of IPv4 are cut after so many bytes, real servers after so many.
const SERVICE_WIDTH: usize = 33;
const SERVER_WIDTH: usize = 28;

/// FTP's port, whose templates are of all ports.
const FTP: u16 = 21;

/// IP's number of a protocol.
pub(super) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// What is known about services beside their status.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// Rates, where they were asked for.
    pub rates: Vec<ServiceRates>,
    /// How many persistence templates each real server has, where that was asked for.
    pub templates: HashMap<(ServiceKey, SocketAddr), u64>,
}

impl Beside {
    fn rates(&self, service: ServiceKey) -> Option<&ServiceRates> {
        self.rates.iter().find(|rates| rates.service == service)
    }

    fn server_rates(&self, service: ServiceKey, server: SocketAddr) -> Rates {
        let of_server = |rates: &ServiceRates| {
            rates.servers.iter().find(|rates| rates.address == server).map(|rates| rates.rates)
        };
        self.rates(service).and_then(of_server).unwrap_or_default()
    }
}

/// Writes listings.
pub struct Printer<'a> {
    format: Format,
    names: &'a dyn Names,
}

impl<'a> Printer<'a> {
    /// A printer in this format; names are asked for unless it is numeric.
    pub fn new(format: Format, names: &'a dyn Names) -> Printer<'a> {
        Printer { format, names }
    }

    /// What stands above everything.
    pub fn head(&self) -> &'static str {
        HEAD
    }

    /// What stands above services.
    pub fn title(&self) -> String {
        let format = self.format;
        let numbers = |titles: [&str; 5]| {
            let mut line = format!("{:<33}", "Prot LocalAddress:Port");
            for title in titles {
                let _ = write!(line, " {title:>8}");
            }
            line + "\n  -> RemoteAddress:Port\n"
        };
        if format.stats {
            numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"])
        } else if format.rate {
            numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"])
        } else if format.thresholds {
            format!(
                "{:<33} {:<10} {:<10} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Prot LocalAddress:Port", "Uthreshold", "Lthreshold", "ActiveConn", "InActConn"
            )
        } else if format.persistent_conn {
            format!(
                "{:<33} {:<9} {:<11} {:<10} {:<10}\n  -> RemoteAddress:Port\n",
                "Prot LocalAddress:Port", "Weight", "PersistConn", "ActiveConn", "InActConn"
            )
        } else {
            let tunnel = if format.tun_info { "TunnelInfo    " } else { "" };
            let columns = format!("Forward {tunnel}Weight ActiveConn InActConn");
            format!("Prot LocalAddress:Port Scheduler Flags\n  -> {:<28} {columns}\n", "RemoteAddress:Port")
        }
    }

    /// A service and its real servers, these in the order in which they are.
    pub fn service(&self, service: &ServiceStatus, beside: &Beside) -> String {
        let mut text = self.service_name(service.service);
        if self.format.stats {
            text = format!("{text:<33}");
            self.counters(&mut text, &service.counters);
        } else if self.format.rate {
            let rates = beside.rates(service.service).map(|rates| rates.rates).unwrap_or_default();
            text = format!("{text:<33}");
            for number in [rates.cps, rates.inpps, rates.outpps, rates.inbps, rates.outbps] {
                self.number(&mut text, number);
            }
        } else {
            text.push(' ');
            text.push_str(&scheduling(service));
        }
        text.push('\n');
        for server in &service.servers {
            self.server(&mut text, service.service, server, beside);
        }
        text
    }

    fn service_name(&self, service: ServiceKey) -> String {
        match service {
            ServiceKey::Mark { mark, family } => {
                let ipv6 = if family == Family::Ipv6 { " IPv6" } else { "" };
                format!("FWM  {mark}{ipv6}")
            }
            ServiceKey::Address { protocol, address } => {
                let word = protocol_word(protocol);
                let name = format!("{word:<4} {}", self.place(address, protocol_number(protocol)));
                if address.is_ipv4() { cut(name, SERVICE_WIDTH) } else { name }
            }
        }
    }

    fn server(&self, text: &mut String, service: ServiceKey, server: &ServerStatus, beside: &Beside) {
        let format = self.format;
        // Of a service by mark the kernel tells no protocol, so its ports have no names.
        let mut name = self.place(server.address, service.protocol().map_or(0, protocol_number));
        if server.address.is_ipv4() {
            name = cut(name, SERVER_WIDTH);
        }
        let (weight, active, inactive) = (server.weight.0, server.active, server.inactive);
        let _ = write!(text, "  -> {name:<28}");
        if format.stats {
            self.counters(text, &server.counters);
        } else if format.rate {
            let rates = beside.server_rates(service, server.address);
            let _ = write!(text, " {:>8} {:>8} {:>8}", rates.cps, rates.inpps, rates.outpps);
            self.number(text, rates.inbps);
            self.number(text, rates.outbps);
        } else if format.thresholds {
            let (upper, lower) = (server.thresholds.upper, server.thresholds.lower);
            let _ = write!(text, " {upper:<10} {lower:<10} {active:<10} {inactive:<10}");
        } else if format.persistent_conn {
            let templates = beside.templates.get(&(service, server.address)).copied().unwrap_or_default();
            let _ = write!(text, " {weight:<9} {templates:<11} {active:<10} {inactive:<10}");
        } else {
            let _ = write!(text, " {:<7} ", forward(server.method));
            if format.tun_info {
                let _ = write!(text, "{:<13} ", tunnel_info(server));
            }
            let _ = write!(text, "{weight:<6} {active:<10} {inactive:<10}");
        }
        text.push('\n');
    }

    fn counters(&self, text: &mut String, counters: &Counters) {
        let Counters { connections, packets_in, packets_out, bytes_in, bytes_out } = *counters;
        for number in [connections, packets_in, packets_out, bytes_in, bytes_out] {
            self.number(text, number);
        }
    }

    /// A number in nine columns, in thousands and so on where it is great; with `--exact` in as many as it takes.
    fn number(&self, text: &mut String, number: u64) {
        let _ = match number {
            _ if self.format.exact => {
                let digits = number.to_string();
                let width = if digits.len() <= 8 { 9 } else { digits.len() + 1 };
                write!(text, "{digits:>width$}")
            }
            0..100_000_000 => write!(text, "{number:>9}"),
            100_000_000..1_000_000_000 => write!(text, "{:>8}K", number / 1_000),
            1_000_000_000..100_000_000_000 => write!(text, "{:>8}M", number / 1_000_000),
            100_000_000_000..100_000_000_000_000 => write!(text, "{:>8}G", number / 1_000_000_000),
            _ => write!(text, "{:>8}T", number / 1_000_000_000_000),
        };
    }

    /// The lines of `-S` for a service, which `-R` reads again.
    pub fn rule(&self, service: &ServiceStatus) -> String {
        let name = match service.service {
            ServiceKey::Mark { mark, family } => {
                let ipv6 = if family == Family::Ipv6 { " -6" } else { "" };
                format!("-f {mark}{ipv6}")
            }
            ServiceKey::Address { protocol, address } => {
                let option = match protocol {
                    Protocol::Tcp => "-t",
                    Protocol::Udp => "-u",
                    Protocol::Sctp => "--sctp-service",
                };
                format!("{option} {}", self.place(address, protocol_number(protocol)))
            }
        };
        let mut text = format!("-A {name} -s {}", service.scheduler.word());
        if let Some(persistence) = service.persistence {
            let _ = write!(text, " -p {}", persistence.timeout.as_secs());
            if let Some(mask) = mask(service) {
                let _ = write!(text, " -M {mask}");
            }
        }
        if let Some(engine) = engine(service) {
            let _ = write!(text, " --pe {engine}");
        }
        if service.one_packet {
            text.push_str(" -o");
        }
        if let Some(flags) = flags(service) {
            let _ = write!(text, " -b {flags}");
        }
        text.push('\n');
        for server in &service.servers {
            let place = self.place(server.address, service.service.protocol().map_or(0, protocol_number));
            let option = match server.method {
                ForwardingMethod::Nat => "-m",
                ForwardingMethod::Tunnel => "-i",
                ForwardingMethod::Dr => "-g",
            };
            let _ = write!(text, "-a {name} -r {place} {option} -w {}", server.weight.0);
            if server.method == ForwardingMethod::Tunnel {
                text.push_str(&tunnel_rule(server.tunnel));
            }
            text.push('\n');
        }
        text
    }

    /// What stands above connections.
    pub fn connections_title(&self) -> String {
        let titles = format!("pro expire {:<11} {:<18} {:<18} ", "state", "source", "virtual");
        let last = if self.format.persistent_conn {
            format!("{:<18} {:<16} pe_data", "destination", "pe name")
        } else {
            "destination".to_owned()
        };
        format!("IPVS connection entries\n{titles}{last}\n")
    }

    /// A connection.
    pub fn connection(&self, connection: &ConnectionStatus) -> String {
        let (word, number) = (protocol_word(connection.protocol), protocol_number(connection.protocol));
        let places = [connection.client, connection.virtual_address, connection.server];
        self.entry(word, number, connection.expires_in_ms, &connection.state, places)
    }

    /// A persistence template. IPVS lists it among connections: the client's port is 0, a mark stands in the place of the
    /// virtual address, and where ports are not told apart they are 0.
    pub fn template(&self, template: &TemplateStatus) -> String {
        let (word, number, virtual_address, keeps_port) = match template.service {
            ServiceKey::Address { protocol, address } => {
                let keeps_port = !matches!(address.port(), 0 | FTP);
                let port = if keeps_port { address.port() } else { 0 };
                (protocol_word(protocol), protocol_number(protocol), (address.ip(), port).into(), keeps_port)
            }
            ServiceKey::Mark { mark, family } => {
                let mark = mark.0.get();
                let address: IpAddr = match family {
                    Family::Ipv4 => Ipv4Addr::from_bits(mark).into(),
                    Family::Ipv6 => Ipv6Addr::from_bits(u128::from(mark) << 96).into(),
                };
                ("IP", 0, SocketAddr::new(address, 0), false)
            }
        };
        let server_port = if keeps_port { template.server.port() } else { 0 };
        let state = if template.assured { "ASSURED" } else { "NONE" };
        let places =
            [(template.client, 0).into(), virtual_address, (template.server.ip(), server_port).into()];
        self.entry(word, number, template.expires_in_ms, state, places)
    }

    fn entry(
        &self,
        word: &str,
        number: u8,
        milliseconds: u64,
        state: &str,
        places: [SocketAddr; 3],
    ) -> String {
        let seconds = milliseconds / 1_000;
        let expire = format!("{:02}:{:02}", seconds / 60, seconds % 60);
        let [client, virtual_address, server] = places.map(|place| self.place(place, number));
        format!("{word:<3} {expire:<6} {state:<11} {client:<18} {virtual_address:<18} {server}\n")
    }

    /// An address with its port.
    fn place(&self, place: SocketAddr, protocol: u8) -> String {
        let (address, port) = (place.ip(), place.port());
        let named = !self.format.numeric;
        let host = named.then(|| self.names.host_name(address)).flatten().unwrap_or_else(|| number(address));
        let port =
            named.then(|| self.names.port_name(port, protocol)).flatten().unwrap_or_else(|| port.to_string());
        let text = if address.is_ipv4() { format!("{host}:{port}") } else { format!("[{host}]:{port}") };
        cut(text, NAME_LENGTH)
    }
}

/// `wlc (flags) persistent 300 mask 255.255.255.0 pe sip ops`.
fn scheduling(service: &ServiceStatus) -> String {
    let mut text = service.scheduler.word().to_owned();
    if let Some(flags) = flags(service) {
        let _ = write!(text, " ({flags})");
    }
    if let Some(persistence) = service.persistence {
        let _ = write!(text, " persistent {}", persistence.timeout.as_secs());
        if let Some(mask) = mask(service) {
            let _ = write!(text, " mask {mask}");
        }
        if let Some(engine) = engine(service) {
            let _ = write!(text, " pe {engine}");
        }
    }
    if service.one_packet {
        text.push_str(" ops");
    }
    text
}

/// The persistence engine of a service: what `--pe` named.
fn engine(service: &ServiceStatus) -> Option<PersistenceEngine> {
    service.persistence.map(|persistence| persistence.engine).filter(|engine| !engine.is_none())
}

/// The mask of a persistent service, unless every client is by itself.
fn mask(service: &ServiceStatus) -> Option<String> {
    let bits = service.persistence?.granularity;
    match service.service.family() {
        Family::Ipv4 if bits >= 32 => None,
        Family::Ipv4 => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Some(Ipv4Addr::from(mask).to_string())
        }
        Family::Ipv6 => (bits != 128).then(|| bits.to_string()),
    }
}

fn flags(service: &ServiceStatus) -> Option<String> {
    let name = match service.scheduler {
        Scheduler::Sh => "sh",
        Scheduler::Mh => "mh",
        _ => return None,
    };
    let flags = [(service.flags.fallback, "fallback"), (service.flags.port, "port")];
    let words: Vec<String> =
        flags.iter().filter(|(set, _)| *set).map(|(_, flag)| format!("{name}-{flag}")).collect();
    (!words.is_empty()).then(|| words.join(","))
}

fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn forward(method: ForwardingMethod) -> &'static str {
    match method {
        ForwardingMethod::Nat => "Masq",
        ForwardingMethod::Dr => "Route",
        ForwardingMethod::Tunnel => "Tunnel",
    }
}

fn tunnel_info(server: &ServerStatus) -> String {
    if server.method != ForwardingMethod::Tunnel {
        return "n/a".to_owned();
    }
    let text = match server.tunnel {
        Tunnel::Ipip => "ipip".to_owned(),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                GueChecksum::None => "-c",
                GueChecksum::Full => "+c",
                GueChecksum::Remote => "r+c",
            };
            format!("gue:{port}:{checksum}")
        }
        Tunnel::Gre { checksum } => format!("gre:{}", if checksum { "+c" } else { "-c" }),
    };
    // There is room for so many bytes.
    cut(text, 15)
}

fn tunnel_rule(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Ipip => " --tun-type ipip".to_owned(),
        Tunnel::Gue { port, checksum } => {
            let checksum = match checksum {
                GueChecksum::None => "--tun-nocsum",
                GueChecksum::Full => "--tun-csum",
                GueChecksum::Remote => "--tun-remcsum",
            };
            format!(" --tun-type gue --tun-port {port} {checksum}")
        }
        Tunnel::Gre { checksum } => {
            format!(" --tun-type gre {}", if checksum { "--tun-csum" } else { "--tun-nocsum" })
        }
    }
}

/// An address as `inet_ntop` writes it, which is not quite as Rust does: one that begins with exactly 96 zero bits has
/// its last 32 written as IPv4's.
fn number(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => match ip.segments() {
            [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
                format!("::{}", Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
            }
            _ => Ipv6Addr::to_string(&ip),
        },
    }
}

fn cut(mut text: String, length: usize) -> String {
    while text.len() > length {
        text.pop();
    }
    text
}
