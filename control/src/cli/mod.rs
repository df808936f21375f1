//! `directorctl`: commands, their arguments and their output.

mod apply;
mod capture;
mod config_file;
mod connection;
mod diff;
mod drain;
mod explain;
mod health;
mod history;
mod import;
pub mod ipvsadm;
mod latency;
mod names;
mod output;
mod reasons;
mod save;
mod serve;
mod server;
mod service;
mod session;
mod settings;
mod stats;
mod tables;
mod template;
mod timeouts;
mod top;
mod values;
mod version;
mod waiting;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::protocol::DEFAULT_SOCKET;
use session::{Failure, Session};

/// Asks and changes a running director.
#[derive(Debug, Parser)]
#[command(
    name = "directorctl",
    version,
    after_help = "\
Examples:
  directorctl service add tcp 10.99.0.1:80 --scheduler rr
  directorctl server add tcp 10.99.0.1:80 10.0.2.11:8080 --method nat --weight 2
  directorctl service list --counters
  directorctl connection list --client 192.0.2.7
  directorctl --json stats

Exit status: 0 done, 1 refused or no director, 2 wrong usage; diff has its own."
)]
struct Cli {
    /// Control socket of the director
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,

    /// Print the reply as one line of JSON instead of a table
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Add, edit, delete and list virtual services
    #[command(subcommand)]
    Service(service::Command),

    /// Add, edit, drain and delete real servers of a virtual service
    #[command(subcommand)]
    Server(server::Command),

    /// List connections
    #[command(subcommand)]
    Connection(connection::Command),

    /// List persistence templates
    #[command(subcommand)]
    Template(template::Command),

    /// Make what runs into what a configuration says, all of it or nothing
    #[command(after_help = "\
Examples:
  directorctl apply --dry-run /etc/director/director.toml
  directorctl apply /etc/director/director.toml
  directorctl apply --confirm 60 /etc/director/director.toml && directorctl confirm

Exit status: 0 applied, or could be; 1 refused, or would be: nothing has changed; 2 wrong usage.")]
    Apply(apply::Options),

    /// Let a configuration stay that was applied with --confirm
    #[command(after_help = "Examples:\n  directorctl confirm")]
    Confirm,

    /// Go back to a configuration that ran before
    #[command(after_help = "\
Examples:
  directorctl rollback
  directorctl rollback 4

Without a number, to what ran before the last one that was applied.")]
    Rollback(apply::RollbackOptions),

    /// List the configurations that ran
    #[command(after_help = "Examples:\n  directorctl history\n  directorctl --json history")]
    History,

    /// Compare what runs with the configuration that was applied last, or with a file
    #[command(after_help = "\
Examples:
  directorctl diff
  directorctl diff /etc/director/director.toml

Exit status: 0 no difference, 1 some difference, 2 trouble, as diff's.")]
    Diff(diff::Options),

    /// Print the running services as tables of the configuration
    #[command(after_help = "\
Examples:
  directorctl save > services.toml
  directorctl --json save

What ipvsadm -S leaves out is there, too: thresholds.")]
    Save,

    /// Turn rules of other programs into tables of the configuration; needs no director
    #[command(subcommand)]
    Import(import::Command),

    /// Show or change what is set of the whole director, by the names of IPVS's sysctls
    #[command(after_help = "\
Examples:
  directorctl settings
  directorctl --json settings
  directorctl settings set expire_nodest_conn=true conn_reuse_mode=3")]
    Settings {
        #[command(subcommand)]
        command: Option<settings::Command>,
    },

    /// Show or change when connections time out, as ipvsadm --set
    #[command(after_help = "\
Examples:
  directorctl timeouts
  directorctl timeouts --tcp 3600 --udp 60

Without an option they are shown. A new timeout counts for a connection from its next packet on.")]
    Timeouts(timeouts::Options),

    /// Show what lcores, services, ports and the slow path count; rates; zero counters
    #[command(after_help = "\
Examples:
  directorctl stats
  directorctl --json stats
  directorctl stats --rate
  directorctl stats --zero
  directorctl stats --zero --service tcp,10.99.0.1:80")]
    Stats(stats::Options),

    /// Show the reasons that stats counts packets by, and what each means
    #[command(after_help = "Examples:\n  directorctl reasons\n  directorctl --json reasons")]
    Reasons,

    /// Show the latency that the director adds to packets
    #[command(after_help = "\
Examples:
  directorctl latency
  directorctl --json latency
  directorctl latency --plot latency.svg
  directorctl latency --hlog latency.hlog --interval 1s --count 60

With --interval, what is shown in the end is what was measured in all intervals together.")]
    Latency(latency::Options),

    /// Serve metrics for Prometheus and a status page by HTTP, until it is stopped
    #[command(after_help = "\
Examples:
  directorctl serve
  directorctl serve --listen 192.0.2.10:9750 --without servers

The director need not run yet. Whoever reaches the address may look; nothing can be changed there.")]
    Serve(serve::Options),

    /// Show the health checks of real servers and what follows from them
    #[command(after_help = "\
Examples:
  directorctl health
  directorctl health --failing
  directorctl --json health")]
    Health(health::Options),

    /// Watch services, real servers, lcores, ports, drops and latency on a terminal
    #[command(after_help = top::HELP)]
    Top(top::Options),
    /// Explain what would become of a packet, and why; nothing is changed
    #[command(after_help = "\
Examples:
  directorctl explain --from 192.0.2.7:40000 --to 10.99.0.1:80
  directorctl explain --proto udp --from 192.0.2.7:5353 --to 10.99.0.1:53 --size 1400
  directorctl explain --from 10.0.2.11:8080 --to 192.0.2.7:40000 --flags syn,ack
  directorctl --json explain --from 192.0.2.7:40000 --to 10.99.0.1:80 | jq -r .reason")]
    Explain(explain::Options),

    /// Capture packets of chosen flows, as they came and as they left, in pcapng
    #[command(after_help = "\
Examples:
  directorctl capture --client 192.0.2.7 --count 20 -w - | tshark -r -
  directorctl capture --service tcp,10.99.0.1:80 --seconds 10 -w web.pcapng
  directorctl capture --server 10.0.2.11:8080 --snaplen 128 -w - | wireshark -k -i -
  directorctl --json capture --count 1

Ctrl-C ends it. Each frame names the port and the direction, and its comment is the reason by which stats counts it.")]
    Capture(capture::Options),

    /// Show the versions of directorctl, the running director, DPDK and the protocol
    #[command(after_help = "Examples:\n  directorctl version\n  directorctl --json version")]
    Version,

    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  directorctl completion bash > /etc/bash_completion.d/directorctl
  directorctl completion zsh > /usr/local/share/zsh/site-functions/_directorctl
  directorctl completion fish > ~/.config/fish/completions/directorctl.fish")]
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// The commands and their arguments, for manual pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs `directorctl` with these arguments, the program's name first; by another name it is [`ipvsadm`].
pub fn run<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if let Some(face) = arguments.first().and_then(|program| ipvsadm::Face::of(program)) {
        return ipvsadm::run(face, &arguments);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be told to somebody who has closed both outputs.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    // Where 1 says that something differs, it cannot say that nobody knows.
    let trouble = if matches!(cli.command, Command::Diff(_)) { 2 } else { 1 };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::ReaderGone) => ExitCode::SUCCESS,
        Err(Failure::Interrupted(goes_on)) => {
            eprintln!("directorctl: {goes_on}");
            // As a shell tells of a program that SIGINT has ended.
            ExitCode::from(130)
        }
        Err(Failure::Status(status)) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("directorctl: {failure}");
            ExitCode::from(trouble)
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    if let Command::Completion { shell } = cli.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "directorctl", &mut script);
        return output::print(&script);
    }
    if let Command::Import(command) = &cli.command {
        return import::run(command);
    }
    if let Command::Serve(options) = &cli.command {
        return serve::run(options, &cli.socket);
    }
    let mut session = Session::open(&cli.socket, cli.json)?;
    match cli.command {
        // It asks by connections of its own; this one has shown that there is a director.
        Command::Top(options) => top::run(&options, &cli.socket, cli.json),
        Command::Service(command) => service::run(command, &mut session),
        Command::Server(command) => server::run(command, &mut session),
        Command::Connection(command) => connection::run(command, &mut session),
        Command::Settings { command } => settings::run(command, &mut session),
        Command::Timeouts(options) => timeouts::run(options, &mut session),
        Command::Stats(options) => stats::run(options, &mut session),
        Command::Latency(options) => latency::run(&options, &mut session),
        Command::Reasons => reasons::run(&mut session),
        Command::Health(options) => health::run(options, &mut session),
        Command::Explain(options) => explain::run(options, &mut session),
        Command::Capture(options) => capture::run(options, &mut session),
        Command::Version => version::run(&mut session),
        Command::Template(command) => template::run(command, &mut session),
        Command::Save => save::run(&mut session),
        Command::Apply(options) => apply::run(options, &mut session),
        Command::Confirm => apply::confirm(&mut session),
        Command::Rollback(options) => apply::roll_back(&options, &mut session),
        Command::History => history::run(&mut session),
        Command::Diff(options) => diff::run(&options, &mut session),
        Command::Completion { .. } | Command::Import(_) | Command::Serve(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_does_something_shows_examples() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Examples:\n  directorctl"), "{path} has no examples");
            }
            for child in command.get_subcommands() {
                check(child, &path);
            }
        }
        check(&Cli::command(), "");
    }
}
