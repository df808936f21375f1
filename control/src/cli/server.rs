//! `directorctl server`: real servers.

use clap::Subcommand;

use super::drain;
use super::session::{Failure, Session};
use super::values::{self, MethodArg, ServerArg, ServiceArg};
use crate::model::{RealServer, Thresholds, Tunnel, Weight};
use crate::protocol::Request;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Add a real server to a virtual service
    #[command(after_help = "\
Examples:
  directorctl server add tcp 10.99.0.1:80 10.0.2.11
  directorctl server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat --weight 2
  directorctl server add tcp 10.99.0.1:80 10.0.2.11 --method tunnel --tunnel gue:6080
  directorctl server add tcp 10.99.0.1:80 10.0.2.12 --upper-threshold 1000 --lower-threshold 800")]
    Add {
        #[command(flatten)]
        service: ServiceArg,

        /// Address of the real server; its port is the service's if left out
        #[arg(value_name = "SERVER", value_parser = values::server)]
        server: ServerArg,

        /// How packets reach it
        #[arg(long, short, default_value = "dr")]
        method: MethodArg,

        /// How packets are wrapped with method tunnel: ipip, gre, gre:csum, gue:PORT, gue:PORT:csum or gue:PORT:remcsum
        #[arg(long, default_value = "ipip")]
        tunnel: Tunnel,

        /// Its share of new connections, 0 to 65535; 0: none, existing ones are served
        #[arg(long, short, default_value_t = 1)]
        weight: u16,

        /// With so many connections it gets no new ones; 0: never
        #[arg(long, short = 'x', default_value_t = 0, value_name = "CONNECTIONS")]
        upper_threshold: u32,

        /// With fewer it gets new ones again; 0: with less than three quarters of the upper threshold
        #[arg(long, short = 'y', default_value_t = 0, value_name = "CONNECTIONS")]
        lower_threshold: u32,
    },

    /// Change the weight of a real server, its forwarding method, its tunnel or its thresholds
    #[command(after_help = "\
Examples:
  directorctl server edit tcp 10.99.0.1:80 10.0.2.11:8080 --weight 0
  directorctl server edit tcp 10.99.0.1:80 10.0.2.11 --method tunnel --weight 3
  directorctl server edit tcp 10.99.0.1:80 10.0.2.11 -x 0 -y 0")]
    #[command(group(clap::ArgGroup::new("change").required(true).multiple(true)
        .args(["method", "tunnel", "weight", "upper_threshold", "lower_threshold"])))]
    Edit {
        #[command(flatten)]
        service: ServiceArg,

        /// Address of the real server; its port is the service's if left out
        #[arg(value_name = "SERVER", value_parser = values::server)]
        server: ServerArg,

        /// How packets of new connections reach it
        #[arg(long, short)]
        method: Option<MethodArg>,

        /// How packets are wrapped: ipip, gre, gre:csum, gue:PORT, gue:PORT:csum or gue:PORT:remcsum
        #[arg(long)]
        tunnel: Option<Tunnel>,

        /// Its share of new connections, 0 to 65535; 0: none, existing ones are served
        #[arg(long, short)]
        weight: Option<u16>,

        /// With so many connections it gets no new ones; 0: never
        #[arg(long, short = 'x', value_name = "CONNECTIONS")]
        upper_threshold: Option<u32>,

        /// With fewer it gets new ones again; 0: with less than three quarters of the upper threshold
        #[arg(long, short = 'y', value_name = "CONNECTIONS")]
        lower_threshold: Option<u32>,
    },

    /// Give a real server no new connections, wait for those that it has, and take it out
    #[command(after_help = drain::HELP)]
    Drain(drain::Options),

    /// List the drains that go on and those that have ended within the last hour
    #[command(after_help = "Examples:\n  directorctl server drains\n  directorctl --json server drains")]
    Drains,

    /// Take a real server out of a virtual service
    #[command(
        visible_alias = "delete",
        after_help = "Examples:\n  directorctl server del tcp 10.99.0.1:80 10.0.2.11:8080"
    )]
    Del {
        #[command(flatten)]
        service: ServiceArg,

        /// Address of the real server; its port is the service's if left out
        #[arg(value_name = "SERVER", value_parser = values::server)]
        server: ServerArg,
    },
}

pub(super) fn run(command: Command, session: &mut Session) -> Result<(), Failure> {
    let request = match command {
        Command::Add {
            service,
            server,
            method,
            tunnel,
            weight,
            upper_threshold: upper,
            lower_threshold: lower,
        } => {
            let service = service.key();
            let server = RealServer {
                address: server.of(service),
                method: method.into(),
                tunnel,
                weight: Weight(weight),
                thresholds: Thresholds { upper, lower },
            };
            Request::ServerAdd { service, server }
        }
        Command::Edit { service, server, method, tunnel, weight, upper_threshold, lower_threshold } => {
            let service = service.key();
            Request::ServerEdit {
                service,
                address: server.of(service),
                weight: weight.map(Weight),
                method: method.map(Into::into),
                tunnel,
                upper_threshold,
                lower_threshold,
            }
        }
        Command::Drain(options) => return drain::run(&options, session),
        Command::Drains => return drain::list(session),
        Command::Del { service, server } => {
            let service = service.key();
            Request::ServerDelete { service, address: server.of(service) }
        }
    };
    session.change(&request)
}
