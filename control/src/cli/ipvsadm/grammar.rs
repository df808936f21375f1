//! ipvsadm's grammar: option after option, each complained about as soon as it is read, then what they are together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use super::command::{
    Command, Complaint, Daemon, Format, Forwarding, Listing, Netmask, Server, Service, TunnelOptions,
    TunnelType,
};
use super::names::Names;
use super::options::{Given, Means, Opt, Rule, Verb, rule};
use super::popt::{Fault, Scanner};
use super::values;
use crate::model::{Family, Mark, Persistence, Protocol, ServiceKey, Timeouts};

/// The scheduler of a service that names none.
const DEFAULT_SCHEDULER: &str = "wlc";
/// The interface of a daemon that names none.
const DEFAULT_INTERFACE: &str = "eth0";
/// The longest names that the kernel has room for.
const SCHEDULER_LENGTH: usize = 15;
const ENGINE_LENGTH: usize = 16;
const INTERFACE_LENGTH: usize = 15;
/// As much of `-b` as ipvsadm reads.
const FLAGS_LENGTH: usize = 127;

/// Reads a command line; `program` is how ipvsadm was called, `words` what stood behind it.
///
/// # Errors
/// What ipvsadm says about it, with its exit status.
pub fn parse(program: &str, words: &[String], names: &dyn Names) -> Result<Command, Complaint> {
    let mut scanner = Scanner::new(words);
    let mut line = Line::new(names);
    let first = match scanner.option() {
        Ok(Some(first)) => first,
        Ok(None) | Err(_) => return Err(Complaint::try_help(program)),
    };
    let verb = match first.option.means {
        Means::Help => return Ok(Command::Help),
        Means::Version => return Ok(Command::Version),
        Means::Verb(verb) => verb,
        _ => return Err(Complaint::try_help(program)),
    };
    match (verb, first.value.as_deref().unwrap_or_default()) {
        (Verb::StartDaemon | Verb::StopDaemon, "master") => line.daemon.master = true,
        (Verb::StartDaemon | Verb::StopDaemon, "backup") => {}
        (Verb::StartDaemon, _) => return Err(Complaint::usage("illegal start-daemon parameter specified")),
        (Verb::StopDaemon, _) => return Err(Complaint::usage("illegal start_daemon specified")),
        _ => {}
    }
    let taken = loop {
        match scanner.option() {
            Ok(Some(found)) => {
                // Only what takes an optional word may be without one.
                let taken = line.take(found.option.means, found.value.as_deref(), || scanner.word());
                if taken.is_err() {
                    break taken;
                }
            }
            Ok(None) => break Ok(()),
            Err(Fault { word, what }) => break Err(Complaint::refused(format!("{word}: {what}"))),
        }
    };
    match line.zero_prefix.take() {
        Some(complaint) if taken.is_err() || line.engine.as_deref() != Some("sip") => return Err(complaint),
        _ => taken?,
    }
    if verb == Verb::Set {
        line.timeouts(&mut scanner)?;
    }
    if let Some(word) = scanner.argument() {
        return Err(Complaint::usage(format!("unexpected argument {word}")));
    }
    if !line.flags.is_empty() {
        let scheduler = if line.scheduler.is_empty() { DEFAULT_SCHEDULER } else { &line.scheduler };
        line.scheduler_flags = values::flags(&line.flags, scheduler)?;
    }
    line.command(verb)
}

/// What has been read so far.
struct Line<'a> {
    names: &'a dyn Names,
    given: Given,
    format: Format,
    // The service. Its family is unknown until there is an address or a mark.
    family: Option<Family>,
    address: IpAddr,
    port: u16,
    protocol: u8,
    mark: Option<Mark>,
    scheduler: String,
    flags: String,
    scheduler_flags: super::command::Flags,
    persistent: Option<u32>,
    netmask: Netmask,
    /// What ipvsadm says to `-M 0` of IPv6. By SIP's Call-ID alone it has a meaning, and `-S` must say it somehow, so that
    /// it counts where there is `--pe sip`.
    zero_prefix: Option<Complaint>,
    engine: Option<String>,
    one_packet: bool,
    // The real server.
    server: SocketAddr,
    forwarding: Forwarding,
    weight: u32,
    upper_threshold: u32,
    lower_threshold: u32,
    tunnel: TunnelOptions,
    timeouts: [u32; 3],
    daemon: Daemon,
}

impl<'a> Line<'a> {
    fn new(names: &'a dyn Names) -> Line<'a> {
        let nowhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        Line {
            names,
            given: Given::default(),
            format: Format::default(),
            family: None,
            address: nowhere,
            port: 0,
            protocol: 0,
            mark: None,
            scheduler: String::new(),
            flags: String::new(),
            scheduler_flags: super::command::Flags::default(),
            persistent: None,
            netmask: Netmask::Mask(u32::MAX),
            zero_prefix: None,
            engine: None,
            one_packet: false,
            server: (nowhere, 0).into(),
            forwarding: Forwarding::default(),
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            tunnel: TunnelOptions::default(),
            timeouts: [0; 3],
            daemon: Daemon {
                master: false,
                interface: String::new(),
                sync_id: 0,
                max_length: 0,
                group: None,
                port: 0,
                ttl: 0,
            },
        }
    }

    /// Takes an option behind the command. `word` is the word that it stood in.
    fn take(
        &mut self,
        means: Means,
        value: Option<&str>,
        word: impl Fn() -> String,
    ) -> Result<(), Complaint> {
        let text = value.unwrap_or_default();
        match means {
            Means::Verb(_) | Means::Help | Means::Version => {
                return Err(Complaint::usage(format!("invalid option `{}'", word())));
            }
            Means::ServiceAddress(protocol) => {
                self.note(Opt::Service)?;
                self.protocol = protocol;
                let place = values::place(text, protocol, self.names)
                    .ok_or_else(|| Complaint::usage("illegal virtual server address[:port] specified"))?;
                self.address = place.address;
                self.port = place.port.unwrap_or(self.port);
                self.family = Some(family(place.address));
                if place.address.is_ipv6() {
                    self.netmask = Netmask::Prefix(128);
                }
            }
            Means::ServiceMark => {
                self.note(Opt::Service)?;
                self.family = Some(Family::Ipv4);
                // ipvsadm says TCP here, which names of a real server's port are then looked up by.
                self.protocol = 6;
                let mark = values::number(text, 1, u32::MAX.into()).and_then(|mark| u32::try_from(mark).ok());
                self.mark = mark.and_then(NonZeroU32::new).map(Mark);
                if self.mark.is_none() {
                    return Err(Complaint::usage(format!("invalid fwmark value `{text}' specified")));
                }
            }
            Means::Ipv6 => {
                if self.mark.is_none() {
                    return Err(Complaint::usage("-6 used before -f\n"));
                }
                self.family = Some(Family::Ipv6);
                self.netmask = Netmask::Prefix(128);
            }
            Means::Masquerading => self.forward(Forwarding::Masquerade)?,
            Means::Tunneling => self.forward(Forwarding::Tunnel)?,
            Means::Gatewaying => self.forward(Forwarding::Route)?,
            Means::Sort => {}
            Means::Opt(opt) => {
                self.note(opt)?;
                self.set(opt, value, text)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, opt: Opt) -> Result<(), Complaint> {
        if self.given.note(opt) {
            return Ok(());
        }
        Err(Complaint::usage(format!("multiple '{}' options specified", opt.name())))
    }

    fn forward(&mut self, forwarding: Forwarding) -> Result<(), Complaint> {
        self.note(Opt::Forward)?;
        self.forwarding = forwarding;
        Ok(())
    }

    fn set(&mut self, opt: Opt, value: Option<&str>, text: &str) -> Result<(), Complaint> {
        match opt {
            Opt::Scheduler => self.scheduler = cut(text, SCHEDULER_LENGTH),
            Opt::Persistent => {
                self.persistent = Some(match value {
                    None => Persistence::DEFAULT_TIMEOUT.as_secs() as u32,
                    Some(text) => timeout(text, 1)?,
                });
            }
            Opt::Netmask => self.netmask = self.netmask(text)?,
            Opt::Server => self.server(text)?,
            Opt::Weight => self.weight = ranged(text, 0, i32::MAX.into(), "illegal weight specified")?,
            Opt::UpperThreshold => {
                self.upper_threshold = ranged(text, 0, i32::MAX.into(), "illegal u_threshold specified")?;
            }
            Opt::LowerThreshold => {
                self.lower_threshold = ranged(text, 0, i32::MAX.into(), "illegal l_threshold specified")?;
            }
            Opt::OnePacket => self.one_packet = true,
            Opt::PersistenceEngine => {
                self.engine = Some(cut(text, ENGINE_LENGTH)).filter(|engine| !engine.is_empty());
            }
            Opt::SchedFlags => self.flags = cut(text, FLAGS_LENGTH),
            Opt::Numeric => self.format.numeric = true,
            Opt::Stats => self.format.stats = true,
            Opt::Rate => self.format.rate = true,
            Opt::Thresholds => self.format.thresholds = true,
            Opt::PersistentConn => self.format.persistent_conn = true,
            Opt::NoSort => self.format.no_sort = true,
            Opt::Exact => self.format.exact = true,
            Opt::TunInfo => self.format.tun_info = true,
            Opt::McastInterface => self.daemon.interface = cut(text, INTERFACE_LENGTH),
            Opt::SyncId => self.daemon.sync_id = ranged(text, 0, 255, "illegal syncid specified")?,
            Opt::McastGroup => self.daemon.group = Some(group(text)?),
            Opt::McastPort => self.daemon.port = ranged(text, 1, 65_535, "illegal mcast-port specified")?,
            Opt::McastTtl => self.daemon.ttl = ranged(text, 1, 255, "illegal mcast-ttl specified")?,
            Opt::SyncMaxlen => {
                // What an IPv4 and a UDP header leave of a packet.
                let most = 65_535 - 20 - 8;
                self.daemon.max_length = ranged(text, 1, most, "illegal sync-maxlen specified")?;
            }
            Opt::TunType => {
                self.tunnel.kind = match text {
                    "ipip" => TunnelType::Ipip,
                    "gue" => TunnelType::Gue,
                    "gre" => TunnelType::Gre,
                    _ => return Err(Complaint::usage("illegal tunnel type specified")),
                };
            }
            Opt::TunPort => self.tunnel.port = ranged(text, 1, 65_535, "illegal tunnel port specified")?,
            Opt::TunCsum => self.tunnel.csum = true,
            Opt::TunRemcsum => self.tunnel.remcsum = true,
            // Being there is all they say.
            Opt::Connection | Opt::Timeout | Opt::Daemon | Opt::TunNocsum | Opt::Service | Opt::Forward => {}
        }
        Ok(())
    }

    fn netmask(&mut self, text: &str) -> Result<Netmask, Complaint> {
        if self.family == Some(Family::Ipv6) {
            let complaint = Complaint::usage("illegal ipv6 netmask specified");
            if text == "0" {
                self.zero_prefix = Some(complaint);
                return Ok(Netmask::Prefix(0));
            }
            let bits = values::leading_number(text);
            let bits = u32::try_from(bits).ok().filter(|bits| (1..=128).contains(bits));
            return bits.map(Netmask::Prefix).ok_or(complaint);
        }
        let mask = values::ipv4(text).or_else(|| self.names.host(text));
        let mask =
            mask.ok_or_else(|| Complaint::usage("illegal virtual server persistent mask specified"))?;
        Ok(Netmask::Mask(mask.to_bits()))
    }

    fn server(&mut self, text: &str) -> Result<(), Complaint> {
        let place = values::place(text, self.protocol, self.names)
            .ok_or_else(|| Complaint::usage("illegal real server address[:port] specified"))?;
        self.server = (place.address, place.port.unwrap_or(self.port)).into();
        Ok(())
    }

    fn timeouts(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Complaint> {
        let words = [scanner.argument(), scanner.argument(), scanner.argument()];
        let [Some(tcp), Some(tcp_fin), Some(udp)] = words else {
            return Err(Complaint::usage("--set option requires 3 timeout values"));
        };
        self.timeouts = [timeout(&tcp, 0)?, timeout(&tcp_fin, 0)?, timeout(&udp, 0)?];
        Ok(())
    }

    /// What all of it together asks for.
    fn command(mut self, verb: Verb) -> Result<Command, Complaint> {
        self.check_options(verb)?;
        match verb {
            Verb::Add => Ok(Command::AddService(self.service()?)),
            Verb::Edit => Ok(Command::EditService(self.service()?)),
            Verb::Delete => Ok(Command::DeleteService(self.key())),
            Verb::Flush => Ok(Command::Clear),
            Verb::List => Ok(Command::List(self.listing()?, self.format)),
            Verb::AddServer => {
                let server = self.real_server()?;
                Ok(Command::AddServer(self.key(), server))
            }
            Verb::EditServer => {
                let server = self.real_server()?;
                Ok(Command::EditServer(self.key(), server))
            }
            Verb::DeleteServer => Ok(Command::DeleteServer(self.key(), self.server)),
            Verb::Set => {
                let [tcp, tcp_fin, udp] = self.timeouts;
                Ok(Command::SetTimeouts { tcp, tcp_fin, udp })
            }
            Verb::StartDaemon => {
                if self.daemon.interface.is_empty() {
                    self.daemon.interface = DEFAULT_INTERFACE.to_owned();
                }
                Ok(Command::StartDaemon(self.daemon))
            }
            Verb::StopDaemon => Ok(Command::StopDaemon(self.daemon)),
            Verb::Restore => Ok(Command::Restore),
            Verb::Save => Ok(Command::Save(self.format)),
            Verb::Zero => {
                let one = self.mark.is_some() || !self.address.is_unspecified() || self.port != 0;
                Ok(Command::Zero(one.then(|| self.key())))
            }
        }
    }

    fn check_options(&self, verb: Verb) -> Result<(), Complaint> {
        let mut exclusive: Option<Opt> = None;
        for opt in Opt::ALL {
            let (option, command) = (opt.name(), verb.name());
            match (rule(verb, opt), self.given.has(opt)) {
                (Rule::Needed, false) => {
                    let text =
                        format!("You need to supply the '{option}' option for the '{command}' command");
                    return Err(Complaint::usage(text));
                }
                (Rule::Illegal, true) => {
                    return Err(Complaint::usage(format!(
                        "Illegal '{option}' option with the '{command}' command"
                    )));
                }
                (Rule::Exclusive, true) => {
                    if let Some(other) = exclusive.replace(opt) {
                        return Err(Complaint::usage(format!(
                            "The option '{option}' conflicts with the '{}' option in the '{command}' command",
                            other.name()
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn key(&self) -> ServiceKey {
        if let Some(mark) = self.mark {
            return ServiceKey::Mark { mark, family: self.family.unwrap_or_default() };
        }
        let protocol = match self.protocol {
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            _ => Protocol::Tcp,
        };
        ServiceKey::Address { protocol, address: (self.address, self.port).into() }
    }

    fn service(self) -> Result<Service, Complaint> {
        if self.mark.is_none() && self.port == 0 && self.persistent.is_none() {
            return Err(Complaint::usage("Zero port specified for non-persistent service"));
        }
        if self.one_packet && self.mark.is_none() && self.protocol != 17 {
            return Err(Complaint::usage("One-Packet Scheduling is only for UDP virtual services"));
        }
        let key = self.key();
        let scheduler = if self.scheduler.is_empty() { DEFAULT_SCHEDULER.to_owned() } else { self.scheduler };
        Ok(Service {
            key,
            scheduler,
            flags: self.scheduler_flags,
            persistent: self.persistent,
            netmask: self.netmask,
            engine: self.engine,
            one_packet: self.one_packet,
        })
    }

    fn real_server(&mut self) -> Result<Server, Complaint> {
        if self.mark.is_none() && self.forwarding != Forwarding::Masquerade {
            self.server.set_port(self.port);
        }
        let tunnels = self.forwarding == Forwarding::Tunnel;
        if Some(family(self.server.ip())) != self.family && !tunnels {
            return Err(Complaint::usage("Different address family is allowed only for tunneling servers"));
        }
        let options = [Opt::TunType, Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum];
        if self.given.has_any(&options) && !tunnels {
            return Err(Complaint::usage("Tunnel options conflict with forward method"));
        }
        self.check_tunnel()?;
        Ok(Server {
            address: self.server,
            forwarding: self.forwarding,
            weight: self.weight,
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
            tunnel: self.tunnel,
        })
    }

    fn check_tunnel(&self) -> Result<(), Complaint> {
        let (kind, rules) = match self.tunnel.kind {
            TunnelType::Ipip => ("ipip", [Rule::Illegal; 4]),
            TunnelType::Gue => ("gue", [Rule::Needed, Rule::Exclusive, Rule::Exclusive, Rule::Exclusive]),
            TunnelType::Gre => ("gre", [Rule::Illegal, Rule::Exclusive, Rule::Exclusive, Rule::Illegal]),
        };
        let mut exclusive: Option<Opt> = None;
        for (opt, rule) in
            [Opt::TunPort, Opt::TunNocsum, Opt::TunCsum, Opt::TunRemcsum].into_iter().zip(rules)
        {
            let option = opt.name();
            match (rule, self.given.has(opt)) {
                (Rule::Needed, false) => {
                    let text =
                        format!("You need to supply the '{option}' option for the '{kind}' tunnel type");
                    return Err(Complaint::usage(text));
                }
                (Rule::Illegal, true) => {
                    let text = format!("Illegal '{option}' option with the '{kind}' tunnel type");
                    return Err(Complaint::usage(text));
                }
                (Rule::Exclusive, true) => {
                    if let Some(other) = exclusive.replace(opt) {
                        return Err(Complaint::usage(format!(
                            "The option '{option}' conflicts with the '{}' option in the '{kind}' tunnel type",
                            other.name()
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn listing(&self) -> Result<Listing, Complaint> {
        let given = self.given;
        let plain = [Opt::Connection, Opt::Timeout, Opt::Daemon];
        let short = [Opt::Timeout, Opt::Daemon];
        if given.has_any(&plain) && given.has_any(&[Opt::Stats, Opt::Rate, Opt::Thresholds])
            || given.has_any(&short) && given.has(Opt::PersistentConn)
        {
            return Err(Complaint::usage("options conflicts in the list command"));
        }
        Ok(if given.has(Opt::Connection) {
            Listing::Connections
        } else if given.has(Opt::Service) {
            Listing::Service(self.key())
        } else if given.has(Opt::Timeout) {
            Listing::Timeouts
        } else if given.has(Opt::Daemon) {
            Listing::Daemons
        } else {
            Listing::Services
        })
    }
}

fn family(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
}

/// As many of the first bytes as there is room for.
fn cut(text: &str, length: usize) -> String {
    text.char_indices().take_while(|(at, c)| at + c.len_utf8() <= length).map(|(_, c)| c).collect()
}

fn ranged<T: TryFrom<i64>>(text: &str, least: i64, most: i64, wrong: &str) -> Result<T, Complaint> {
    let number = values::number(text, least, most).and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Complaint::usage(wrong))
}

fn timeout(text: &str, least: i64) -> Result<u32, Complaint> {
    ranged(text, least, Timeouts::MAX_SECONDS.into(), &format!("invalid timeout value `{text}' specified"))
}

fn group(text: &str) -> Result<IpAddr, Complaint> {
    if text.contains(':') {
        let group = text.parse::<Ipv6Addr>().ok().filter(Ipv6Addr::is_multicast).map(IpAddr::V6);
        return group.ok_or_else(|| Complaint::usage(format!("invalid IPv6 mcast-group `{text}'")));
    }
    let group = text.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_multicast).map(IpAddr::V4);
    group.ok_or_else(|| Complaint::usage(format!("invalid IPv4 mcast-group `{text}'")))
}
