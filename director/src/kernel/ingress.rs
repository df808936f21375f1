//! On an interface that the kernel keeps, it sees the frames that the director balances as well, and
//! would answer them: with a reset, since nobody listens there. This guard drops them on their way
//! into the kernel, in an nftables table of its own. Packet sockets see frames before that.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use control::model::{ForwardingMethod, Protocol, Service};

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

/// What is kept from the kernel: virtual services, and NAT real servers' replies.
type Endpoints = (BTreeSet<(Protocol, SocketAddr)>, BTreeSet<(Protocol, SocketAddr)>);

/// The rules on some interfaces; they go when this is dropped.
#[derive(Debug)]
pub struct IngressGuard {
    table: String,
    interfaces: Vec<String>,
    current: Endpoints,
}

impl IngressGuard {
    /// Guards these interfaces, against nothing yet. What a dead director left for them is replaced.
    ///
    /// # Errors
    /// `nft` is missing or refuses.
    pub fn new(interfaces: Vec<String>) -> Result<IngressGuard, IngressError> {
        let table =
            format!("director_{}", interfaces.join("_").replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        let guard = IngressGuard { table, interfaces, current: Endpoints::default() };
        guard.apply()?;
        Ok(guard)
    }

    /// Guards against these services from now on; does nothing if those are the ones of before.
    ///
    /// # Errors
    /// `nft` refuses; the rules of before stay.
    pub fn update<'a>(&mut self, services: impl Iterator<Item = &'a Service>) -> Result<(), IngressError> {
        let mut wanted = Endpoints::default();
        for service in services {
            wanted.0.insert((service.key.protocol, service.key.address));
            let nat = service.servers.iter().filter(|s| s.method == ForwardingMethod::Nat);
            wanted.1.extend(nat.map(|s| (service.key.protocol, s.address)));
        }
        if wanted == self.current {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.current, wanted);
        self.apply().inspect_err(|_| self.current = before)
    }

    fn apply(&self) -> Result<(), IngressError> {
        nft(&self.script())
    }

    /// The whole table, in one transaction: whoever reads it sees the old one or the new one.
    fn script(&self) -> String {
        let table = &self.table;
        let mut script =
            format!("add table netdev {table}\ndelete table netdev {table}\nadd table netdev {table}\n");
        for (n, interface) in self.interfaces.iter().enumerate() {
            let _ = writeln!(
                script,
                "add chain netdev {table} in{n} {{ type filter hook ingress device \"{interface}\" priority 0; policy accept; }}"
            );
            for (direction, side, endpoints) in
                [("daddr", "dport", &self.current.0), ("saddr", "sport", &self.current.1)]
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
        }
        script
    }
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
