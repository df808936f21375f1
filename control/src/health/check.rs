//! One check: what is asked of a real server, how often, and what answer is right.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use domain::base::{Name, Rtype};

use crate::model::ServiceKey;

/// One check of a real server.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What is asked.
    pub kind: Kind,
    /// From the beginning of one check to that of the next (keepalived's `delay_loop`).
    pub interval: Duration,
    /// How long all of a check may take.
    pub timeout: Duration,
    /// So many passes in a row bring a real server back.
    pub rise: u32,
    /// So many failures in a row take it out.
    pub fall: u32,
    /// The wait for the next check while failures are being counted, if that is shorter than `interval`.
    pub delay_before_retry: Duration,
    /// By how many hundredths each wait is longer or shorter, at random.
    pub jitter: u8,
    /// Whether it counts as passed before the first check (keepalived's `alpha` says no).
    pub start_up: bool,
    /// Where to ask, if not at the real server's address.
    pub connect_ip: Option<IpAddr>,
    /// The port to ask at, if not the real server's.
    pub connect_port: Option<u16>,
}

impl Check {
    /// A check with keepalived's defaults.
    pub fn new(kind: Kind) -> Check {
        Check {
            kind,
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(5),
            rise: 1,
            fall: 3,
            delay_before_retry: Duration::from_secs(1),
            jitter: 10,
            start_up: true,
            connect_ip: None,
            connect_port: None,
        }
    }

    /// Where a real server is asked.
    pub fn target(&self, service: ServiceKey, server: SocketAddr) -> Target {
        let ip = self.connect_ip.unwrap_or(server.ip());
        let address = SocketAddr::new(ip, self.connect_port.unwrap_or(server.port()));
        Target { service, server, address }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if let Some(ip) = self.connect_ip {
            write!(f, " at {ip}")?;
        }
        if let Some(port) = self.connect_port {
            write!(f, " port {port}")?;
        }
        Ok(())
    }
}

/// Whom a check is about, and where it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The virtual service.
    pub service: ServiceKey,
    /// The real server's address and port.
    pub server: SocketAddr,
    /// Where to ask.
    pub address: SocketAddr,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A TCP connection is made.
    Tcp,
    /// An answer by HTTP, or by HTTPS.
    Http(Http),
    /// A datagram meets no ICMP error, or gets a reply.
    Udp(Udp),
    /// An answer by DNS.
    Dns(Dns),
    /// A greeting by SMTP.
    Smtp(Smtp),
    /// An ICMP echo.
    Icmp,
    /// gRPC's health protocol says SERVING.
    Grpc(Grpc),
    /// A program with its arguments, which ends with status 0.
    Exec(Vec<String>),
    /// Panics.
    #[cfg(test)]
    Panic,
}

impl Kind {
    /// Whether it asks at a port.
    pub fn has_port(&self) -> bool {
        !matches!(self, Kind::Icmp | Kind::Exec(_))
    }
}

/// What is asked by HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Path with its query.
    pub path: String,
    /// The Host header; else the address asked.
    pub host: Option<String>,
    /// Statuses that pass.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body must contain.
    pub body: Option<Pattern>,
    /// By HTTPS.
    pub tls: Option<Tls>,
}

/// What is asked of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tls {
    /// The name that is asked for (SNI) and that a verified certificate must have; else none is asked for, and the
    /// certificate must have the address.
    pub server_name: Option<String>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// Certificates to trust, in PEM; else the system's.
    pub ca_file: Option<PathBuf>,
}

/// What is asked by UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Udp {
    /// The datagram's bytes.
    pub payload: Vec<u8>,
    /// The reply that must come; without, silence passes and an ICMP error fails.
    pub reply: Option<Reply>,
}

/// Bytes that a reply must begin with; `None` stands for any byte. Empty: any reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply(pub Vec<Option<u8>>);

impl Reply {
    /// Whether a reply begins so.
    pub fn fits(&self, reply: &[u8]) -> bool {
        let fits = |(wanted, got): (&Option<u8>, &u8)| wanted.is_none_or(|wanted| wanted == *got);
        reply.len() >= self.0.len() && self.0.iter().zip(reply).all(fits)
    }
}

/// What is asked by DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The name.
    pub name: Name<Vec<u8>>,
    /// The type of records.
    pub record: Rtype,
}

/// How the director greets by SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp {
    /// The name behind HELO.
    pub helo_name: String,
}

/// What is asked by gRPC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grpc {
    /// The service whose health is asked for; empty: the server's.
    pub service: String,
    /// By TLS.
    pub tls: Option<Tls>,
}

/// A regular expression.
#[derive(Clone, Debug)]
pub struct Pattern(pub regex::bytes::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Tcp => f.write_str("tcp"),
            Kind::Http(http) => {
                write!(f, "{} {}", if http.tls.is_some() { "https" } else { "http" }, http.path)?;
                http.host.as_ref().map_or(Ok(()), |host| write!(f, " of {host}"))
            }
            Kind::Udp(_) => f.write_str("udp"),
            Kind::Dns(dns) => write!(f, "dns {} {}", dns.record, dns.name),
            Kind::Smtp(_) => f.write_str("smtp"),
            Kind::Icmp => f.write_str("icmp"),
            Kind::Grpc(grpc) if grpc.service.is_empty() => f.write_str("grpc"),
            Kind::Grpc(grpc) => write!(f, "grpc {}", grpc.service),
            Kind::Exec(words) => write!(f, "exec {}", words.join(" ")),
            #[cfg(test)]
            Kind::Panic => f.write_str("panic"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_fits_that_begins_as_wanted() {
        let reply = Reply(vec![Some(1), None, Some(3)]);
        assert!(reply.fits(&[1, 9, 3]) && reply.fits(&[1, 2, 3, 4]));
        assert!(!reply.fits(&[1, 9]) && !reply.fits(&[1, 9, 4]) && !reply.fits(&[]));
        assert!(Reply::default().fits(&[]));
    }

    #[test]
    fn a_check_asks_the_real_server_unless_told_otherwise() {
        let service = "tcp 10.99.0.1:80".parse().expect("a service");
        let server = "10.0.2.11:8080".parse().expect("an address");
        let mut check = Check::new(Kind::Tcp);
        assert_eq!(check.target(service, server).address, server);
        check.connect_port = Some(9000);
        assert_eq!(check.target(service, server).address.to_string(), "10.0.2.11:9000");
        check.connect_ip = Some("192.0.2.1".parse().expect("an address"));
        assert_eq!(check.target(service, server).address.to_string(), "192.0.2.1:9000");
        assert_eq!(check.to_string(), "tcp at 192.0.2.1 port 9000");
    }
}
