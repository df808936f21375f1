//! `directorctl serve`: metrics and the status page, by HTTP.

use std::net::SocketAddr;
use std::path::Path;

use clap::{Args, ValueEnum};

use super::session::Failure;
use crate::metrics::Without;
use crate::serve::{self, DEFAULT_LISTEN};

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,

    /// Leave out metrics that there are many of; may be given more than once
    #[arg(long, value_name = "METRICS")]
    without: Vec<Group>,
}

/// Metrics that there are many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Those of each real server and of its checks
    Servers,
    /// Those of each health check
    Checks,
}

/// Serves until a signal ends it. The director need not be there yet.
pub(super) fn run(options: &Options, socket: &Path) -> Result<(), Failure> {
    let without = Without {
        servers: options.without.contains(&Group::Servers),
        checks: options.without.contains(&Group::Checks),
    };
    let options = serve::Options { listen: options.listen, socket: socket.to_owned(), without };
    let said = |listen| {
        eprintln!("directorctl: status page on http://{listen}/, metrics on http://{listen}/metrics");
    };
    serve::run(&options, said).map_err(Failure::Serve)
}
