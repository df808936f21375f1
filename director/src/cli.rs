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
    /// Check a configuration and print what would be done with it. Exit status 2 if it is bad.
    #[command(after_help = "Example:\n  director check --config /etc/director/director.toml")]
    Check {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
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
