//! How the model's words are written on the command line.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};

use crate::model::{
    ForwardingMethod, ParseWordError, PersistenceEngine, Protocol, Scheduler, ServiceKey, SettingValue,
};

/// `tcp`, `udp` or `sctp`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum ProtocolArg {
    Tcp,
    Udp,
    Sctp,
}

impl From<ProtocolArg> for Protocol {
    fn from(arg: ProtocolArg) -> Self {
        match arg {
            ProtocolArg::Tcp => Protocol::Tcp,
            ProtocolArg::Udp => Protocol::Udp,
            ProtocolArg::Sctp => Protocol::Sctp,
        }
    }
}

/// Scheduler by IPVS's name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum SchedulerArg {
    /// Round robin
    Rr,
    /// Weighted round robin
    Wrr,
    /// Least connection
    Lc,
    /// Weighted least connection
    Wlc,
    /// Locality-based least connection
    Lblc,
    /// Locality-based least connection with replication
    Lblcr,
    /// Destination hashing
    Dh,
    /// Source hashing
    Sh,
    /// Maglev hashing
    Mh,
    /// Shortest expected delay
    Sed,
    /// Never queue
    Nq,
    /// Weighted failover
    Fo,
    /// Weighted overflow
    Ovf,
    /// The better of two random choices
    Twos,
}

impl From<SchedulerArg> for Scheduler {
    fn from(arg: SchedulerArg) -> Self {
        match arg {
            SchedulerArg::Rr => Scheduler::Rr,
            SchedulerArg::Wrr => Scheduler::Wrr,
            SchedulerArg::Lc => Scheduler::Lc,
            SchedulerArg::Wlc => Scheduler::Wlc,
            SchedulerArg::Lblc => Scheduler::Lblc,
            SchedulerArg::Lblcr => Scheduler::Lblcr,
            SchedulerArg::Dh => Scheduler::Dh,
            SchedulerArg::Sh => Scheduler::Sh,
            SchedulerArg::Mh => Scheduler::Mh,
            SchedulerArg::Sed => Scheduler::Sed,
            SchedulerArg::Nq => Scheduler::Nq,
            SchedulerArg::Fo => Scheduler::Fo,
            SchedulerArg::Ovf => Scheduler::Ovf,
            SchedulerArg::Twos => Scheduler::Twos,
        }
    }
}

/// Forwarding method.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum MethodArg {
    /// Network address translation (ipvsadm -m, "Masq")
    Nat,
    /// Direct routing (ipvsadm -g, "Route")
    Dr,
    /// IP-IP encapsulation (ipvsadm -i, "Tunnel")
    Tunnel,
}

impl From<MethodArg> for ForwardingMethod {
    fn from(arg: MethodArg) -> Self {
        match arg {
            MethodArg::Nat => ForwardingMethod::Nat,
            MethodArg::Dr => ForwardingMethod::Dr,
            MethodArg::Tunnel => ForwardingMethod::Tunnel,
        }
    }
}

/// What a virtual service is told by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ServiceKind {
    /// A TCP port
    Tcp,
    /// A UDP port
    Udp,
    /// An SCTP port
    Sctp,
    /// A mark that a rule of the configuration gives
    Mark,
}

/// How a virtual service is typed.
#[derive(Debug, Args)]
struct ServiceWords {
    /// Transport protocol of the virtual service, or `mark`
    #[arg(value_name = "PROTOCOL")]
    kind: ServiceKind,

    /// Virtual address and port: 10.99.0.1:80 or [2001:db8::80]:80; or the mark: 1, or 1/ipv6
    #[arg(value_name = "VIRTUAL")]
    name: String,
}

/// The virtual service a command is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceArg(ServiceKey);

impl ServiceArg {
    pub(super) fn key(self) -> ServiceKey {
        self.0
    }
}

// Which names there can be hangs on the word before, which a parser of one value does not see.
impl Args for ServiceArg {
    fn augment_args(command: clap::Command) -> clap::Command {
        ServiceWords::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        ServiceWords::augment_args_for_update(command)
    }
}

impl FromArgMatches for ServiceArg {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let ServiceWords { kind, name } = ServiceWords::from_arg_matches(matches)?;
        let key = service_of(kind, &name).map_err(|error| {
            let text = format!("invalid value '{name}' for '<VIRTUAL>': {error}\n");
            clap::Error::raw(ErrorKind::ValueValidation, text)
        })?;
        Ok(ServiceArg(key))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = ServiceArg::from_arg_matches(matches)?;
        Ok(())
    }
}

fn service_of(kind: ServiceKind, name: &str) -> Result<ServiceKey, String> {
    let protocol = match kind {
        ServiceKind::Tcp => Protocol::Tcp,
        ServiceKind::Udp => Protocol::Udp,
        ServiceKind::Sctp => Protocol::Sctp,
        ServiceKind::Mark => {
            let form = |_| "this is no mark: write a number from 1 to 4294967295, for IPv6 1/ipv6".to_owned();
            return ServiceKey::from_str(&format!("mark {name}")).map_err(form);
        }
    };
    Ok(ServiceKey::Address { protocol, address: address_with_port(name)? })
}

/// A real server's address, whose port may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerArg {
    ip: IpAddr,
    port: Option<u16>,
}

impl ServerArg {
    /// With the service's port if none was given.
    pub(super) fn of(self, service: ServiceKey) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or_else(|| service.port()))
    }
}

const ADDRESS_FORMS: &str = "write 10.99.0.1:80 or [2001:db8::80]:80";

/// An address with its port.
pub(super) fn address_with_port(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("this is no address with a port: {ADDRESS_FORMS}"))
}

/// A real server's address with or without its port.
pub(super) fn server(text: &str) -> Result<ServerArg, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(ServerArg { ip: address.ip(), port: Some(address.port()) });
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    match bare.parse() {
        Ok(ip) => Ok(ServerArg { ip, port: None }),
        Err(_) => Err("this is no address: write 10.0.2.11, 10.0.2.11:8080 or [2001:db8::b]:8080".to_owned()),
    }
}

/// A virtual service in one word: `tcp,10.99.0.1:80`, `mark,1`.
pub(super) fn service(text: &str) -> Result<ServiceKey, String> {
    let form =
        || "this is no virtual service: write tcp,10.99.0.1:80, udp,[2001:db8::80]:53 or mark,1".to_owned();
    let (kind, name) = text.split_once(',').ok_or_else(form)?;
    let kind = ServiceKind::from_str(kind, true).map_err(|_| form())?;
    service_of(kind, name).map_err(|_| form())
}

/// A duration of at least a millisecond: `500ms`, `90s`, `10m`, `1h 30m`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let form = || "this is no duration: write 500ms, 90s, 10m or 1h".to_owned();
    let duration = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => humantime::parse_duration(text).map_err(|_| form())?,
    };
    if duration < Duration::from_millis(1) {
        Err("give at least a millisecond".to_owned())
    } else {
        Ok(duration)
    }
}

/// A persistence granularity: a prefix length, or a netmask.
pub(super) fn granularity(text: &str) -> Result<u8, String> {
    if let Ok(mask) = text.parse::<std::net::Ipv4Addr>() {
        let mask = u32::from(mask);
        let bits = mask.leading_ones();
        if mask.count_ones() != bits {
            return Err("the ones of a netmask stand together: write 255.255.255.0, or 24".to_owned());
        }
        return Ok(bits as u8);
    }
    // 0 is for services with an engine only, which the director knows.
    match text.parse() {
        Ok(bits @ 0..=128) => Ok(bits),
        _ => Err("write a prefix length from 0 to 32, for IPv6 to 128, or an IPv4 netmask".to_owned()),
    }
}

/// A persistence engine.
pub(super) fn persistence_engine(text: &str) -> Result<PersistenceEngine, String> {
    text.parse().map_err(|error: ParseWordError| error.to_string())
}

/// `NAME=VALUE` of a setting.
pub(super) fn setting(text: &str) -> Result<(String, SettingValue), String> {
    let form = || "write NAME=VALUE, e.g. sloppy_tcp=true or drop_entry=1".to_owned();
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    let value = match value {
        "true" | "on" | "yes" => SettingValue::Flag(true),
        "false" | "off" | "no" => SettingValue::Flag(false),
        number => SettingValue::Number(number.parse().map_err(|_| form())?),
    };
    if name.is_empty() { Err(form()) } else { Ok((name.to_owned(), value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_port_may_be_left_out() {
        let key = service("tcp,10.99.0.1:80").expect("a service");
        for (text, want) in [
            ("10.0.2.11", "10.0.2.11:80"),
            ("10.0.2.11:8080", "10.0.2.11:8080"),
            ("2001:db8::b", "[2001:db8::b]:80"),
            ("[2001:db8::b]", "[2001:db8::b]:80"),
            ("[2001:db8::b]:8080", "[2001:db8::b]:8080"),
        ] {
            assert_eq!(server(text).expect(text).of(key).to_string(), want);
        }
        for text in ["", "10.0.2", "10.0.2.11:", "10.0.2.11:65536", "web1", "[10.0.2.11"] {
            assert!(server(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_granularity_is_a_prefix_length_or_a_netmask() {
        for (text, bits) in [
            ("24", 24),
            ("255.255.255.0", 24),
            ("255.255.255.255", 32),
            ("128.0.0.0", 1),
            ("0.0.0.0", 0),
            ("0", 0),
        ] {
            assert_eq!(granularity(text), Ok(bits), "{text}");
        }
        for text in ["", "129", "255.0.255.0", "0.0.0.255", "ffff::", "-1", "255.255.255"] {
            assert!(granularity(text).is_err(), "{text:?}");
        }
        assert!(granularity("255.0.255.0").is_err_and(|error| error.contains("stand together")));
    }

    #[test]
    fn a_duration_has_a_unit_or_is_seconds() {
        for (text, milliseconds) in [("500ms", 500), ("2", 2_000), ("90s", 90_000), ("1h 30m", 5_400_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0", "0s", "1ns", "soon", "-1s", "1.5"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_setting_has_a_name_and_a_value() {
        assert_eq!(setting("sloppy_tcp=on"), Ok(("sloppy_tcp".to_owned(), SettingValue::Flag(true))));
        assert_eq!(setting("drop_entry=2"), Ok(("drop_entry".to_owned(), SettingValue::Number(2))));
        for text in ["", "sloppy_tcp", "sloppy_tcp=", "=1", "drop_entry=much"] {
            assert!(setting(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_service_in_one_word() {
        let key = service("udp,[2001:db8::80]:53").expect("a service");
        assert_eq!(key.to_string(), "udp [2001:db8::80]:53");
        let marked = service("mark,1/ipv6").expect("a service");
        assert_eq!(marked.to_string(), "mark 1/ipv6");
        for text in [
            "mark,0",
            "mark,10.99.0.1:80",
            "tcp,1",
            "mark",
            "10.99.0.1:80",
            "tcp,10.99.0.1",
            "dccp,10.99.0.1:80",
            "tcp 10.99.0.1:80",
            ",",
        ] {
            assert!(service(text).is_err(), "{text:?}");
        }
    }
}
