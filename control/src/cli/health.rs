//! `directorctl health`: the health checks of real servers.

use clap::Args;

use super::output::{self, Side, Table};
use super::session::{Failure, Session};
use crate::protocol::{CheckHealth, HealthList, Request, ServiceHealth};

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Options {
    /// Show only real servers that fail or do not serve as they should
    #[arg(long)]
    failing: bool,
}

pub(super) fn run(options: Options, session: &mut Session) -> Result<(), Failure> {
    session.show(&Request::Health { failing: options.failing }, text).map(|_| ())
}

fn text(list: &HealthList) -> String {
    list.health.iter().map(service).collect::<Vec<_>>().join("\n")
}

fn service(health: &ServiceHealth) -> String {
    let mut table = Table::new(&[
        ("  RemoteAddress:Port", Side::Left),
        ("Standing", Side::Left),
        ("Weight", Side::Right),
        ("Check", Side::Left),
        ("State", Side::Left),
        ("Since", Side::Right),
        ("Latency", Side::Right),
        ("Passed", Side::Right),
        ("Failed", Side::Right),
        ("LastFailure", Side::Left),
    ]);
    for server in &health.servers {
        let mut first = [
            format!("  {}", server.address),
            server.standing.word().to_owned(),
            server.effective_weight.0.to_string(),
        ];
        if server.checks.is_empty() {
            table.row(first.into_iter().chain(["-".to_owned()]));
            continue;
        }
        for check in &server.checks {
            table.row(std::mem::take(&mut first).into_iter().chain(row(check)));
        }
    }
    format!("{}\n{}", title(health), table.take())
}

fn title(health: &ServiceHealth) -> String {
    let ServiceHealth { service, live_weight, quorum, hysteresis, .. } = health;
    let bounds = if *hysteresis > 0 { format!("{quorum} +/- {hysteresis}") } else { quorum.to_string() };
    match (health.has_quorum, health.sorry_server) {
        (true, _) => format!("{service}: healthy weight {live_weight}, quorum {bounds}"),
        (false, None) => format!("{service}: QUORUM LOST: healthy weight {live_weight}, quorum {bounds}"),
        (false, Some(sorry)) => format!(
            "{service}: QUORUM LOST: healthy weight {live_weight}, quorum {bounds}; sorry server {sorry} serves"
        ),
    }
}

fn row(check: &CheckHealth) -> [String; 7] {
    let failure = match (&check.error, check.error_ms) {
        (Some(error), Some(ago)) => format!("{error} ({} ago)", output::clock(ago)),
        _ => String::new(),
    };
    let latency = check.latency_us.map(|us| output::duration(us.saturating_mul(1000)));
    [
        check.check.clone(),
        if check.up { "up" } else { "down" }.to_owned(),
        output::clock(check.since_ms),
        latency.unwrap_or_else(|| "-".to_owned()),
        check.passed.to_string(),
        check.failed.to_string(),
        failure,
    ]
}
