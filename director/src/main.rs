//! `director`: the daemon.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use control::config::Config;
use director::cli::{Cli, Command};
use director::doctor::{self, Finding};
use director::log::complain;
use tracing_subscriber::EnvFilter;

/// The configuration is bad.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run { config, log } => run(&config, &log),
        Command::Check { config, json, probe, root } => check(&config, json, probe, &root),
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
        complain(errors);
        ExitCode::from(BAD_CONFIGURATION)
    })
}

fn check(file: &Path, json: bool, probe: bool, root: &Path) -> ExitCode {
    let (config, _) = match load(file) {
        Ok(config) => config,
        Err(status) => return status,
    };
    let mut report = doctor::examine(&config, root);
    // What keeps it from starting would only be said twice.
    if probe && report.starts {
        report = report.with(
            director::daemon::probe(&config)
                .unwrap_or_else(|error| vec![Finding::failure("port", error.to_string())]),
        );
    }
    if json {
        println!("{}", report.json());
    } else {
        print!("{}{report}", config.plan());
    }
    if report.starts { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(file: &Path, log: &str) -> ExitCode {
    let filter = match EnvFilter::try_new(log) {
        Ok(filter) => filter,
        Err(error) => {
            complain(format_args!(
                "--log {log:?} is no filter ({error}): use error, warn, info, debug or trace"
            ));
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    director::log::init(filter);
    let (config, text) = match load(file) {
        Ok(config) => config,
        Err(status) => return status,
    };
    match director::daemon::run(&config, &text, file) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("director: {error}"));
            ExitCode::FAILURE
        }
    }
}
