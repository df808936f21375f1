//! `directorctl service`: virtual services.

use clap::{Args, Subcommand};

use super::names;
use super::output::{Side, Table};
use super::session::{Failure, Session};
use super::values::{self, SchedulerArg, ServiceArg};
use crate::model::{PersistenceEngine, SchedulerFlags, Timeouts};
use crate::protocol::{Counters, PersistenceChange, PersistenceOptions, Request, ServiceList};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a virtual service
    #[command(after_help = "\
Examples:
  directorctl service add tcp 10.99.0.1:80
  directorctl service add tcp 10.99.0.1:80 --scheduler rr
  directorctl service add udp '[2001:db8::80]:53' --scheduler mh --fallback --hash-port
  directorctl service add tcp 10.99.0.1:443 --persistent
  directorctl service add tcp 10.99.0.1:0 --persistent 600 --granularity 255.255.255.0
  directorctl service add udp 10.99.0.1:53 --one-packet
  directorctl service add udp 10.99.0.1:5060 --persistence-engine sip --one-packet
  directorctl service add mark 1

Port 0 means every port of the address, and needs --persistent. Which packets have a mark is for the rules of the configuration to say; mark 1/ipv6 is for those of IPv6.")]
    Add {
        #[command(flatten)]
        service: ServiceArg,

        /// How a real server is chosen for a new connection
        #[arg(long, short, default_value = "wlc")]
        scheduler: SchedulerArg,

        #[command(flatten)]
        flags: Flags,

        #[command(flatten)]
        persistence: PersistenceArgs,

        /// Schedule each datagram by itself, without a connection; udp only
        #[arg(long, short = 'o')]
        one_packet: bool,
    },

    /// Change the scheduler of a virtual service, its flags, persistence or one-packet scheduling
    #[command(after_help = "\
Examples:
  directorctl service edit tcp 10.99.0.1:80 --scheduler wrr
  directorctl service edit tcp 10.99.0.1:80 --scheduler sh --hash-port
  directorctl service edit tcp 10.99.0.1:80 --no-flags
  directorctl service edit tcp 10.99.0.1:443 --persistent 1800
  directorctl service edit tcp 10.99.0.1:443 --no-persistence
  directorctl service edit udp 10.99.0.1:53 --no-one-packet
  directorctl service edit udp 10.99.0.1:5060 --persistence-engine none

What is not named stays as it is. Flags are set all together: those named are set, the others cleared. Without any flag they stay as they are.")]
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["scheduler", "fallback", "hash_port", "no_flags", "persistent", "granularity", "no_persistence",
            "persistence_engine", "one_packet", "no_one_packet"])))]
    Edit {
        #[command(flatten)]
        service: ServiceArg,

        /// How a real server is chosen for a new connection
        #[arg(long, short)]
        scheduler: Option<SchedulerArg>,

        #[command(flatten)]
        flags: Flags,

        /// Clear both flags
        #[arg(long, conflicts_with_all = ["fallback", "hash_port"])]
        no_flags: bool,

        #[command(flatten)]
        persistence: PersistenceArgs,

        /// Make it persistent no longer
        #[arg(long, conflicts_with_all = ["persistent", "granularity", "persistence_engine"])]
        no_persistence: bool,

        /// Schedule each datagram by itself, without a connection; udp only
        #[arg(long, short = 'o')]
        one_packet: bool,

        /// Schedule connections again
        #[arg(long, conflicts_with = "one_packet")]
        no_one_packet: bool,
    },

    /// Delete a virtual service with its real servers
    #[command(visible_alias = "delete", after_help = "Examples:\n  directorctl service del tcp 10.99.0.1:80")]
    Del {
        #[command(flatten)]
        service: ServiceArg,
    },

    /// List virtual services and their real servers
    #[command(after_help = "\
Examples:
  directorctl service list
  directorctl service list --counters
  directorctl service list --thresholds
  directorctl --json service list

Forward is Masq for nat, Route for dr, Tunnel for tunnel, as in ipvsadm.")]
    List {
        /// Show packet and byte counters instead of weights and connections
        #[arg(long)]
        counters: bool,

        /// Show thresholds instead of forwarding methods and weights
        #[arg(long, conflicts_with = "counters")]
        thresholds: bool,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Flags {
    /// sh, mh: a client whose real server is unavailable gets another one
    #[arg(long)]
    fallback: bool,

    /// sh, mh: the client's port is part of the hash
    #[arg(long)]
    hash_port: bool,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct PersistenceArgs {
    /// Bring a client back to its real server for so long after its last new connection; 360 without a number
    #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "360",
        value_parser = clap::value_parser!(u32).range(1..=i64::from(Timeouts::MAX_SECONDS)))]
    persistent: Option<u32>,

    /// Which clients are one: a prefix length, or an IPv4 netmask; each by itself if not given
    #[arg(long, short, value_name = "PREFIX", value_parser = values::granularity)]
    granularity: Option<u8>,

    /// What tells packets of a client apart: sip, the Call-ID of each SIP message, or none; udp only
    #[arg(long, value_name = "ENGINE", value_parser = values::persistence_engine)]
    persistence_engine: Option<PersistenceEngine>,
}

impl PersistenceArgs {
    /// None if nothing of it was given.
    fn options(self) -> Option<PersistenceOptions> {
        let PersistenceArgs { persistent: timeout, granularity, persistence_engine: engine } = self;
        (timeout.is_some() || granularity.is_some() || engine.is_some()).then_some(PersistenceOptions {
            timeout,
            granularity,
            engine,
        })
    }
}

impl From<Flags> for SchedulerFlags {
    fn from(flags: Flags) -> Self {
        SchedulerFlags { fallback: flags.fallback, port: flags.hash_port }
    }
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Failure> {
    match command {
        Command::Add { service, scheduler, flags, persistence, one_packet } => {
            session.change(&Request::ServiceAdd {
                service: service.key(),
                scheduler: scheduler.into(),
                flags: flags.into(),
                persistence: persistence.options(),
                one_packet,
            })
        }
        Command::Edit {
            service,
            scheduler,
            flags,
            no_flags,
            persistence,
            no_persistence,
            one_packet,
            no_one_packet,
        } => {
            let any = flags.fallback || flags.hash_port || no_flags;
            let off = no_persistence.then_some(PersistenceChange::OFF);
            session.change(&Request::ServiceEdit {
                service: service.key(),
                scheduler: scheduler.map(Into::into),
                flags: any.then(|| flags.into()),
                persistence: off.or(persistence.options().map(PersistenceChange::On)),
                one_packet: (one_packet || no_one_packet).then_some(one_packet),
            })
        }
        Command::Del { service } => session.change(&Request::ServiceDelete { service: service.key() }),
        Command::List { counters, thresholds } => {
            let text = match (counters, thresholds) {
                (true, _) => with_counters,
                (_, true) => with_thresholds,
                _ => with_connections,
            };
            session.show(&Request::ServiceList {}, text).map(|_| ())
        }
    }
}

/// As `ipvsadm -Ln`.
fn with_connections(list: &ServiceList) -> String {
    let mut table = Table::new(&[
        ("Prot", Side::Left),
        ("LocalAddress:Port", Side::Left),
        ("Scheduler", Side::Left),
        ("", Side::Right),
        ("", Side::Right),
        ("", Side::Right),
        ("", Side::Left),
    ]);
    // Only where there is any, beyond what ipvsadm has.
    let has_health = list
        .services
        .iter()
        .flat_map(|service| &service.servers)
        .any(|server| !names::condition(server).is_empty());
    let health = if has_health { "Health" } else { "" };
    let head = ["  ->", "RemoteAddress:Port", "Forward", "Weight", "ActiveConn", "InActConn", health];
    table.row(head.map(str::to_owned));
    for service in &list.services {
        table.row([
            names::kind(service.service).to_owned(),
            names::service(service.service),
            names::scheduling(service),
        ]);
        for server in &service.servers {
            table.row([
                "  ->".to_owned(),
                server.address.to_string(),
                names::method(server.method).to_owned(),
                server.weight.0.to_string(),
                server.active.to_string(),
                server.inactive.to_string(),
                names::condition(server),
            ]);
        }
    }
    table.take()
}

/// As `ipvsadm -Ln --thresholds`.
fn with_thresholds(list: &ServiceList) -> String {
    let mut table = Table::new(&[
        ("Prot", Side::Left),
        ("LocalAddress:Port", Side::Left),
        ("Uthreshold", Side::Right),
        ("Lthreshold", Side::Right),
        ("ActiveConn", Side::Right),
        ("InActConn", Side::Right),
    ]);
    table.row(["  ->", "RemoteAddress:Port"].map(str::to_owned));
    for service in &list.services {
        table.row([names::kind(service.service).to_owned(), names::service(service.service)]);
        for server in &service.servers {
            let numbers = [
                u64::from(server.thresholds.upper),
                u64::from(server.thresholds.lower),
                server.active,
                server.inactive,
            ];
            let words = ["  ->".to_owned(), server.address.to_string()];
            table.row(words.into_iter().chain(numbers.map(|number| number.to_string())));
        }
    }
    table.take()
}

/// As `ipvsadm -Ln --stats --exact`.
fn with_counters(list: &ServiceList) -> String {
    let mut table = Table::new(&[
        ("Prot", Side::Left),
        ("LocalAddress:Port", Side::Left),
        ("Conns", Side::Right),
        ("InPkts", Side::Right),
        ("OutPkts", Side::Right),
        ("InBytes", Side::Right),
        ("OutBytes", Side::Right),
    ]);
    let row = |first: &str, address: String, counters: &Counters| {
        [
            first.to_owned(),
            address,
            counters.connections.to_string(),
            counters.packets_in.to_string(),
            counters.packets_out.to_string(),
            counters.bytes_in.to_string(),
            counters.bytes_out.to_string(),
        ]
    };
    table.row(["  ->".to_owned(), "RemoteAddress:Port".to_owned()]);
    for service in &list.services {
        let (kind, name) = (names::kind(service.service), names::service(service.service));
        table.row(row(kind, name, &service.counters));
        for server in &service.servers {
            table.row(row("  ->", server.address.to_string(), &server.counters));
        }
    }
    table.take()
}
