//! The command line of `director`.

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};

/// A Linux Virtual Server director in user space: DPDK lcores spread TCP and UDP connections over real
/// servers by NAT, direct routing or IP-IP tunnelling.
#[derive(Parser)]
#[command(name = "director", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run until SIGTERM or SIGINT; SIGHUP reads the configuration anew.
    #[command(after_help = "Example:\n  director run --config /etc/director/director.toml")]
    Run {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// What is logged to standard error: error, warn, info, debug, trace, or a filter such as
        /// `info,dpdk=debug`.
        #[arg(long, value_name = "FILTER", default_value = "info")]
        log: String,
    },
    /// Check a configuration and the machine: print what would be done, what keeps the director from starting, what
    /// costs speed and what to do, and what is good. Needs no running director, and touches nothing.
    ///
    /// Exit status 0 even with advice, 1 with something that keeps it from starting, 2 if the configuration is bad.
    #[command(after_help = "\
Examples:
  director check --config /etc/director/director.toml
  director check --config /etc/director/director.toml --json
  director check --config /etc/director/director.toml --probe

Costs are rules of thumb. With --probe the ports are opened, as root and not beside a running director.")]
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print what was found as one line of JSON instead.
        #[arg(long)]
        json: bool,
        /// Open the ports, to see which queues and RSS their devices give, and close them again.
        #[arg(long)]
        probe: bool,
        /// Where `/sys`, `/proc` and `/dev` of the machine are.
        #[arg(long, value_name = "DIRECTORY", default_value = "/", hide = true, conflicts_with = "probe")]
        root: PathBuf,
    },
    /// Print the versions of the director and of DPDK.
    Version,
}

/// The commands and their arguments, for manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_consistent() {
        super::command().debug_assert();
    }
}
