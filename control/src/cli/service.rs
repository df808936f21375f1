//! `directorctl service`: virtual services.

use clap::{Args, Subcommand};

use super::names;
use super::output::{Side, Table};
use super::session::{Failure, Session};
use super::values::{SchedulerArg, ServiceArg};
use crate::model::SchedulerFlags;
use crate::protocol::{Counters, Request, ServiceList};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a virtual service
    #[command(after_help = "\
Examples:
  directorctl service add tcp 10.99.0.1:80
  directorctl service add tcp 10.99.0.1:80 --scheduler rr
  directorctl service add udp '[2001:db8::80]:53' --scheduler mh --fallback --hash-port")]
    Add {
        #[command(flatten)]
        service: ServiceArg,

        /// How a real server is chosen for a new connection
        #[arg(long, short, default_value = "wlc")]
        scheduler: SchedulerArg,

        #[command(flatten)]
        flags: Flags,
    },

    /// Change the scheduler of a virtual service or its flags
    #[command(after_help = "\
Examples:
  directorctl service edit tcp 10.99.0.1:80 --scheduler wrr
  directorctl service edit tcp 10.99.0.1:80 --scheduler sh --hash-port
  directorctl service edit tcp 10.99.0.1:80 --no-flags

Flags are set all together: those named are set, the others cleared. Without any flag they stay as they are.")]
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["scheduler", "fallback", "hash_port", "no_flags"])))]
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
  directorctl --json service list

Forward is Masq for nat, Route for dr, Tunnel for tunnel, as in ipvsadm.")]
    List {
        /// Show packet and byte counters instead of weights and connections
        #[arg(long)]
        counters: bool,
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

impl From<Flags> for SchedulerFlags {
    fn from(flags: Flags) -> Self {
        SchedulerFlags { fallback: flags.fallback, port: flags.hash_port }
    }
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Failure> {
    match command {
        Command::Add { service, scheduler, flags } => session.change(&Request::ServiceAdd {
            service: service.key(),
            scheduler: scheduler.into(),
            flags: flags.into(),
        }),
        Command::Edit { service, scheduler, flags, no_flags } => {
            let any = flags.fallback || flags.hash_port || no_flags;
            session.change(&Request::ServiceEdit {
                service: service.key(),
                scheduler: scheduler.map(Into::into),
                flags: any.then(|| flags.into()),
            })
        }
        Command::Del { service } => session.change(&Request::ServiceDelete { service: service.key() }),
        Command::List { counters } => {
            let text = if counters { with_counters } else { with_connections };
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
    ]);
    let head = ["  ->", "RemoteAddress:Port", "Forward", "Weight", "ActiveConn", "InActConn"];
    table.row(head.map(str::to_owned));
    for service in &list.services {
        table.row([
            names::protocol(service.service.protocol).to_owned(),
            service.service.address.to_string(),
            names::scheduler(service.scheduler, service.flags),
        ]);
        for server in &service.servers {
            table.row([
                "  ->".to_owned(),
                server.address.to_string(),
                names::method(server.method).to_owned(),
                server.weight.0.to_string(),
                server.active.to_string(),
                server.inactive.to_string(),
            ]);
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
        let protocol = names::protocol(service.service.protocol);
        table.row(row(protocol, service.service.address.to_string(), &service.counters));
        for server in &service.servers {
            table.row(row("  ->", server.address.to_string(), &server.counters));
        }
    }
    table.take()
}
