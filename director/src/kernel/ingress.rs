//! On an interface that the kernel keeps, it sees the frames that the director balances as well, and
//! would answer them: with a reset, since nobody listens there. This guard drops them on their way
//! into the kernel, in an nftables table of its own. Packet sockets see frames before that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};

use control::model::{Family, ForwardingMethod, Mark, MarkRule, Prefix, Protocol, Service, ServiceKey};

/// The guard cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// The program `nft` is not there.
    #[error(
        "cannot run nft, which keeps the kernel from answering for virtual services: {0}: install the package nftables"
    )]
    NoNft(std::io::Error),
    /// It refused.
    #[error(
        "nft refused the rules that keep the kernel from answering for virtual services: {0}: does this kernel have CONFIG_NF_TABLES_NETDEV?"
    )]
    Refused(String),
}

/// What is kept from the kernel.
#[derive(Debug, Default, PartialEq, Eq)]
struct Balanced {
    /// Virtual services.
    services: BTreeSet<(Protocol, SocketAddr)>,
    /// NAT real servers, whose replies these are.
    servers: BTreeSet<(Protocol, SocketAddr)>,
    /// Virtual addresses to which FTP's clients open data connections, at unprivileged ports.
    ftp: BTreeSet<IpAddr>,
    /// Virtual services by mark, with their NAT real servers that answer from the port that they were asked at.
    marked: BTreeMap<(Mark, Family), BTreeSet<IpAddr>>,
}

/// The rules on some interfaces; they go when this is dropped.
#[derive(Debug)]
pub struct IngressGuard {
    table: String,
    /// With the director's number of the port on each.
    interfaces: Vec<(usize, String)>,
    rules: Vec<MarkRule>,
    /// The kernel does not have them yet.
    rules_are_new: bool,
    /// Ports of FTP's control connections.
    ftp_ports: Vec<u16>,
    current: Balanced,
}

impl IngressGuard {
    /// Guards these interfaces, of the ports with these numbers, against nothing yet; `rules` tell which packets have
    /// which mark, and FTP's control connections are at `ftp_ports`. What a dead director left for them is replaced.
    ///
    /// # Errors
    /// `nft` is missing or refuses.
    pub fn new(
        interfaces: Vec<(usize, String)>,
        rules: Vec<MarkRule>,
        ftp_ports: &[u16],
    ) -> Result<IngressGuard, IngressError> {
        let names: Vec<&str> = interfaces.iter().map(|(_, name)| name.as_str()).collect();
        let table =
            format!("director_{}", names.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let ftp_ports = ftp_ports.to_vec();
        let guard = IngressGuard {
            table,
            interfaces,
            rules,
            rules_are_new: false,
            ftp_ports,
            current: Balanced::default(),
        };
        guard.apply()?;
        Ok(guard)
    }

    /// From the next [`IngressGuard::update`] on, these rules tell which packets have which mark.
    pub fn mark_by(&mut self, rules: &[MarkRule]) {
        if self.rules != rules {
            self.rules = rules.to_vec();
            self.rules_are_new = true;
        }
    }

    /// Guards against these services from now on; does nothing if those are the ones of before.
    ///
    /// # Errors
    /// `nft` refuses; the rules of before stay.
    pub fn update<'a>(&mut self, services: impl Iterator<Item = &'a Service>) -> Result<(), IngressError> {
        let mut wanted = Balanced::default();
        for service in services {
            let mut nat = service
                .servers
                .iter()
                .filter(|s| s.method == ForwardingMethod::Nat)
                .map(|s| s.address)
                .peekable();
            match service.key {
                ServiceKey::Address { protocol, address } => {
                    wanted.services.insert((protocol, address));
                    let is_ftp = protocol == Protocol::Tcp && self.ftp_ports.contains(&address.port());
                    if is_ftp && nat.peek().is_some() {
                        wanted.ftp.insert(address.ip());
                    }
                    for server in nat {
                        wanted.servers.insert((protocol, server));
                        // Active data come from the port before that of commands.
                        if is_ftp && let Some(data) = server.port().checked_sub(1) {
                            wanted.servers.insert((protocol, SocketAddr::new(server.ip(), data)));
                        }
                    }
                }
                ServiceKey::Mark { mark, family } => {
                    let keeps_port = service.persistence.is_some();
                    let (any_port, one_port): (Vec<_>, Vec<_>) =
                        nat.partition(|server| keeps_port || server.port() == 0);
                    let any_port = any_port.into_iter().map(|server| server.ip()).collect();
                    wanted.marked.insert((mark, family), any_port);
                    let ends = one_port.into_iter().flat_map(|s| Protocol::ALL.iter().map(move |p| (*p, s)));
                    wanted.servers.extend(ends);
                }
            }
        }
        if wanted == self.current && !self.rules_are_new {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.current, wanted);
        self.apply().inspect_err(|_| self.current = before)?;
        self.rules_are_new = false;
        Ok(())
    }

    fn apply(&self) -> Result<(), IngressError> {
        nft(&self.script())
    }

    /// The whole table, in one transaction: whoever reads it sees the old one or the new one.
    fn script(&self) -> String {
        let table = &self.table;
        let mut script =
            format!("add table netdev {table}\ndelete table netdev {table}\nadd table netdev {table}\n");
        for (n, (port, interface)) in self.interfaces.iter().enumerate() {
            let _ = writeln!(
                script,
                "add chain netdev {table} in{n} {{ type filter hook ingress device \"{interface}\" priority 0; policy accept; }}"
            );
            for (direction, side, endpoints) in
                [("daddr", "dport", &self.current.services), ("saddr", "sport", &self.current.servers)]
            {
                for (family, is_v4) in [("ip", true), ("ip6", false)] {
                    // Port 0 stands for every port.
                    for (protocol, address) in endpoints.iter().filter(|(_, address)| address.port() == 0) {
                        if address.is_ipv4() == is_v4 {
                            let (ip, protocol) = (address.ip(), word(*protocol));
                            let _ = writeln!(
                                script,
                                "add rule netdev {table} in{n} {family} {direction} {ip} meta l4proto {protocol} counter drop",
                            );
                        }
                    }
                    let elements: Vec<String> = endpoints
                        .iter()
                        .filter(|(_, address)| address.is_ipv4() == is_v4 && address.port() != 0)
                        .map(|(protocol, address)| {
                            format!("{} . {} . {}", address.ip(), word(*protocol), address.port())
                        })
                        .collect();
                    if !elements.is_empty() {
                        let _ = writeln!(
                            script,
                            "add rule netdev {table} in{n} {family} {direction} . meta l4proto . th {side} {{ {} }} counter drop",
                            elements.join(", ")
                        );
                    }
                }
            }
            for vip in &self.current.ftp {
                let family = if vip.is_ipv4() { "ip" } else { "ip6" };
                let _ = writeln!(
                    script,
                    "add rule netdev {table} in{n} {family} daddr {vip} tcp dport 1024-65535 counter drop"
                );
            }
            for rule in self.marked_replies().into_iter().chain(self.marked(*port)) {
                let _ = writeln!(script, "add rule netdev {table} in{n} {rule}");
            }
        }
        script
    }

    /// Rules for what NAT real servers of services by mark answer.
    fn marked_replies(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for ((mark, _), servers) in &self.current.marked {
            for (server, rule) in servers
                .iter()
                .flat_map(|s| self.rules.iter().filter(|r| r.mark == *mark).map(move |r| (s, r)))
            {
                let ports = choice("th sport", &rule.destination_ports);
                let family = if server.is_ipv4() { "ip" } else { "ip6" };
                let protocol = protocols(rule);
                lines.push(format!("{family} saddr {server} {protocol}{ports} counter drop"));
            }
        }
        lines
    }

    /// Rules for what has a mark, in their order: what has another one first is the kernel's.
    fn marked(&self, port: usize) -> Vec<String> {
        if self.current.marked.is_empty() {
            return Vec::new();
        }
        let on_port = self.rules.iter().filter(|rule| rule.ingress.is_none_or(|at| usize::from(at) == port));
        let both = on_port.flat_map(|rule| Family::ALL.iter().map(move |family| (rule, *family)));
        let lines = both.filter_map(|(rule, family)| {
            let is_v4 = family == Family::Ipv4;
            let word = if is_v4 { "ip" } else { "ip6" };
            let of_family = |networks: &[Prefix]| {
                let of_family: Vec<Prefix> =
                    networks.iter().filter(|network| network.is_ipv4() == is_v4).copied().collect();
                (networks.is_empty() || !of_family.is_empty()).then_some(of_family)
            };
            let mut line = format!("meta protocol {word} {}", protocols(rule));
            line += &choice(&format!("{word} saddr"), &of_family(&rule.sources)?);
            line += &choice(&format!("{word} daddr"), &of_family(&rule.destinations)?);
            line += &choice("th sport", &rule.source_ports);
            line += &choice("th dport", &rule.destination_ports);
            line += &rule.dscp.map_or(String::new(), |dscp| format!(" {word} dscp {dscp}"));
            let is_balanced = self.current.marked.contains_key(&(rule.mark, family));
            Some(line + if is_balanced { " counter drop" } else { " accept" })
        });
        lines.collect()
    }
}

/// That a packet is of the protocols that a rule for marks asks for.
fn protocols(rule: &MarkRule) -> String {
    let asked: Vec<&str> = match rule.protocol {
        Some(protocol) => vec![word(protocol)],
        None => Protocol::ALL.iter().map(|protocol| word(*protocol)).collect(),
    };
    format!("meta l4proto {{ {} }}", asked.join(", "))
}

/// That something of a packet is one of these; nothing where there are none.
fn choice(what: &str, items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { String::new() } else { format!(" {what} {{ {} }}", items.join(", ")) }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

impl Drop for IngressGuard {
    fn drop(&mut self) {
        if let Err(error) = nft(&format!("delete table netdev {}\n", self.table)) {
            tracing::warn!(%error, table = self.table, "the ingress rules stay behind");
        }
    }
}

fn nft(script: &str) -> Result<(), IngressError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(IngressError::NoNft)?;
    if let Some(mut stdin) = child.stdin.take() {
        // If it does not read, it says why below.
        let _ = stdin.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(IngressError::NoNft)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(IngressError::Refused(String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ")))
    }
}
