//! The benchmark's program: see `testbed::bench` and docs/performance.md.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use testbed::bench::plan::Plan;
use testbed::bench::{Options, plot, run, worker};
use testbed::error::{Context as _, Result};
use testbed::rfc2544;

/// Measures the director beside dpdk-testpmd on the same packets. Nothing else should run meanwhile.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Fewer and shorter rounds: under three minutes.
    #[arg(long, conflicts_with = "smoke")]
    quick: bool,
    /// Only see whether it works, in seconds and in ordinary memory; the figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Use ordinary memory instead of hugepages.
    #[arg(long)]
    no_huge: bool,
    /// Measure only groups with a case whose name contains this, and other parts whose name does.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// How often to measure each case.
    #[arg(long)]
    rounds: Option<u32>,
    /// Also write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw the latencies into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// The process that runs the director under test; started by the benchmark itself.
    #[command(hide = true)]
    Worker {
        /// What to start with, as JSON.
        setup: String,
    },
    /// Measure a director on another machine, or whatever forwards UDP: throughput without loss and latency, after RFC 2544.
    Rfc2544(rfc2544::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.command {
        Some(Command::Worker { setup }) => worker::serve(setup),
        Some(Command::Rfc2544(options)) => rfc2544::run(options),
        None => measure(&cli),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("director-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(cli: &Cli) -> Result<()> {
    let mut plan = match (cli.quick, cli.smoke) {
        (_, true) => Plan::smoke(),
        (true, _) => Plan::quick(),
        _ => Plan::full(),
    };
    if let Some(rounds) = cli.rounds {
        plan.rounds = rounds.max(1);
    }
    let report = run(&Options { plan, no_huge: cli.no_huge || cli.smoke, only: cli.only.clone() })?;
    print!("{}", report.text());
    if let Some(path) = &cli.json {
        let text = serde_json::to_string_pretty(&report).context(|| "the report")?;
        std::fs::write(path, text + "\n").context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &cli.svg {
        let picture = plot::latencies(&report.latency);
        std::fs::write(path, picture).context(|| format!("cannot write {}", path.display()))?;
    }
    testbed::ensure!(report.is_conserved(), "packets are unaccounted for: see NOT CONSERVED above");
    Ok(())
}
