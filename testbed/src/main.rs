//! The testbed's programs: the demo, the demo's lab by hand, and the real servers and clients that labs use.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use testbed::error::Result;
use testbed::lab::{browser, reap};
use testbed::traffic::hold::{self, Hold, Speak};
use testbed::traffic::{echo, spread, udp};
use testbed::{decap, demo, ensure, pages, pictures};

/// Virtual labs for Director: a demo, real servers and clients.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Balance four services over three real servers, change them meanwhile, and check every promise.
    Demo {
        /// Leave the lab standing at the end, and print commands to play with.
        #[arg(long)]
        keep: bool,
    },
    /// Stand the demo's lab up or take it down by hand.
    Lab {
        /// What to do.
        #[arg(value_enum)]
        action: LabAction,
    },
    /// Remove labs whose owner died before it could.
    Reap {
        /// The standing lab of `demo --keep` or `lab up` as well.
        #[arg(long)]
        all: bool,
    },
    /// Make the pictures of the documentation anew: the status page of a lab's director.
    Pictures,
    /// Write manual pages and shell completions of `director` and `directorctl`, for the package.
    Pages {
        /// A directory; made if it is not there, and emptied before.
        directory: PathBuf,
    },
    /// Take packets for a real server out of their tunnel, IPv4 or IPv6 in either.
    Decap {
        /// The tun device to make; packets come in by it.
        #[arg(long, default_value = "tun0")]
        device: String,
        /// An address that the real server serves; others are refused.
        #[arg(long, required = true)]
        vip: Vec<IpAddr>,
    },
    /// A UDP real server that answers `NAME what was sent`.
    UdpEcho(EchoArgs),
    /// A TCP real server that answers every line with `NAME what was sent`.
    TcpEcho(EchoArgs),
    /// Send UDP requests, each from a source port of its own, and count who answers.
    UdpClient {
        /// Where to send them.
        target: SocketAddr,
        /// How many requests.
        #[arg(long, default_value_t = 100)]
        requests: u32,
        /// An address to ask from; several are used in turn.
        #[arg(long)]
        source: Vec<IpAddr>,
        /// Bytes in each request beside its number.
        #[arg(long, default_value_t = 0)]
        padding: usize,
        /// How long to wait for each answer, in milliseconds.
        #[arg(long, default_value_t = 2000)]
        timeout: u64,
    },
    /// Hold TCP connections open and use each all the time; fail if one breaks.
    Hold {
        /// Where to connect.
        target: SocketAddr,
        /// How many connections.
        #[arg(long, default_value_t = 10)]
        connections: usize,
        /// How long to hold them, in seconds.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Milliseconds between two exchanges on a connection.
        #[arg(long, default_value_t = 100)]
        interval: u64,
        /// Speak HTTP instead of lines to a TCP echo.
        #[arg(long)]
        http: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum LabAction {
    /// Machines, wires, real servers and a director with the demo's services.
    Up,
    /// End its processes, delete its namespaces and files.
    Down,
}

#[derive(Args)]
struct EchoArgs {
    /// The name to answer with.
    #[arg(long)]
    name: String,
    /// Address and port to listen on; may be given several times.
    #[arg(long, required = true)]
    listen: Vec<SocketAddr>,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Demo { keep } => demo::run(keep),
        Command::Lab { action: LabAction::Up } => demo::stand_up(),
        Command::Lab { action: LabAction::Down } => {
            ensure!(reap::remove(reap::STANDING), "no lab stands");
            println!("the lab is down");
            Ok(())
        }
        Command::Reap { all } => {
            for prefix in reap::reap() {
                println!("removed what was left of {prefix}");
            }
            if all && reap::remove(reap::STANDING) {
                println!("the standing lab is down");
            }
            Ok(())
        }
        Command::Pictures => pictures::make(&browser::pictures()),
        Command::Pages { directory } => pages::write(&directory),
        Command::Decap { device, vip } => decap::serve(&device, &vip),
        Command::UdpEcho(args) => echo::udp(&args.name, &args.listen),
        Command::TcpEcho(args) => echo::tcp(&args.name, &args.listen),
        Command::UdpClient { target, requests, source, padding, timeout } => {
            let timeout = Duration::from_millis(timeout);
            let plan = udp::Plan { target, sources: source, requests, padding, timeout };
            let outcome = udp::ask(&plan, |_| ())?;
            println!("answers: {}", spread::show(&outcome.answers));
            ensure!(
                outcome.failed() == 0,
                "{} requests had no answer, {} a wrong one: {:?}",
                outcome.timeouts,
                outcome.wrong_answers,
                outcome.wrong
            );
            Ok(())
        }
        Command::Hold { target, connections, seconds, interval, http } => {
            let speak = if http { Speak::Http } else { Speak::Echo };
            let sources = vec![Ipv4Addr::UNSPECIFIED; connections];
            let held = Hold::open(target, speak, &sources, Duration::from_millis(interval))?;
            std::thread::sleep(Duration::from_secs(seconds));
            let held = held.finish();
            for one in &held {
                println!("{} {} {} exchanges", one.client, one.server, one.exchanges);
            }
            hold::all_lived(&held, 1)
        }
    }
}
