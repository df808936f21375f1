//! `director`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use control::config::Config;
use tracing_subscriber::EnvFilter;

/// A Linux Virtual Server director in user space: DPDK lcores spread TCP and UDP connections over real
/// servers by NAT, direct routing or IP-IP tunnelling.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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

/// The configuration is bad.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, log } => run(&config, &log),
        Command::Check { config } => match load(&config) {
            Ok((config, _)) => {
                print!("{}", config.plan());
                ExitCode::SUCCESS
            }
            Err(status) => status,
        },
        Command::Version => {
            println!("director {}", env!("CARGO_PKG_VERSION"));
            println!("{}", director::dpdk::Eal::version());
            ExitCode::SUCCESS
        }
    }
}

/// A configuration and its text.
fn load(file: &Path) -> Result<(Config, String), ExitCode> {
    let load = |text: String| Ok((Config::parse(&text, &file.display().to_string())?, text));
    Config::read(file).and_then(load).map_err(|errors| {
        eprintln!("{errors}");
        ExitCode::from(BAD_CONFIGURATION)
    })
}

fn run(file: &Path, log: &str) -> ExitCode {
    let filter = match EnvFilter::try_new(log) {
        Ok(filter) => filter,
        Err(error) => {
            eprintln!("--log {log:?} is no filter ({error}): use error, warn, info, debug or trace");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let (config, text) = match load(file) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match director::daemon::run(&config, &text, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("director: {error}");
            ExitCode::FAILURE
        }
    }
}
