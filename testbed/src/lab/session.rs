//! What a client does in a lab, each in one call.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use super::{Lab, plan};
use crate::ensure;
use crate::error::{Context as _, Result};
use crate::traffic::hold::{Hold, Speak};
use crate::traffic::{curl, udp};

/// How long a short command in a lab may take.
const PATIENCE: Duration = Duration::from_secs(15);

impl Lab {
    /// Fetches `http://VIP/` so many times, one after the other, each on a new connection.
    ///
    /// # Errors
    /// When one fails.
    pub fn fetch(&self, vip: Ipv4Addr, requests: u32) -> Result<curl::Outcome> {
        self.fetch_by(&curl::Plan::new(format!("http://{vip}/"), requests))
    }

    /// Fetches what a plan says.
    ///
    /// # Errors
    /// When one request fails.
    pub fn fetch_by(&self, plan: &curl::Plan) -> Result<curl::Outcome> {
        let outcome = curl::ask(self.client(), plan, |_| ())?;
        ensure!(
            outcome.failed == 0,
            "{} of {} requests to {} failed: {}",
            outcome.failed,
            plan.total(),
            plan.url,
            outcome.failures.join("; ")
        );
        Ok(outcome)
    }

    /// Sends so many UDP requests to the echo service of a VIP, each from a port of its own.
    ///
    /// # Errors
    /// When one has no right answer.
    pub fn ask_udp(&self, vip: Ipv4Addr, requests: u32) -> Result<udp::Outcome> {
        self.ask_udp_by(&udp::Plan::new(SocketAddr::from((vip, plan::ECHO)), requests))
    }

    /// Sends the UDP requests of a plan.
    ///
    /// # Errors
    /// When one has no right answer.
    pub fn ask_udp_by(&self, plan: &udp::Plan) -> Result<udp::Outcome> {
        let outcome = self.client().enter(|| udp::ask(plan, |_| ()))??;
        ensure!(
            outcome.failed() == 0,
            "of {} requests to {} {} had no answer and {} a wrong one: {:?}",
            plan.requests,
            plan.target,
            outcome.timeouts,
            outcome.wrong_answers,
            outcome.wrong
        );
        Ok(outcome)
    }

    /// Opens so many connections from the client and uses each every 50 ms.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn hold(&self, vip: Ipv4Addr, port: u16, speak: Speak, connections: usize) -> Result<Hold> {
        let target = SocketAddrV4::new(vip, port);
        let sources = vec![Ipv4Addr::UNSPECIFIED; connections];
        self.client().enter(|| Hold::open(target, speak, &sources, Duration::from_millis(50)))?
    }

    /// Downloads the large file from a URL and compares it with the original.
    ///
    /// # Errors
    /// When it does not come whole and unchanged within a minute.
    pub fn download(&self, url: &str) -> Result<()> {
        let copy = self.directory().join("copy");
        let line = format!("curl -sS --fail --max-time 60 -o {} {url}", copy.display());
        self.client().exec(&line, Duration::from_secs(65))?;
        let read = |path: &std::path::Path| {
            std::fs::read(path).context(|| format!("cannot read {}", path.display()))
        };
        ensure!(read(&copy)? == read(&self.large_file())?, "what came from {url} is not what was sent");
        Ok(())
    }

    /// Whether the client's ping of an address is answered within a second.
    ///
    /// # Errors
    /// When ping cannot be run.
    pub fn pings(&self, address: Ipv4Addr) -> Result<bool> {
        Ok(self.client().try_exec(&format!("ping -c 1 -W 1 {address}"), PATIENCE)?.status.success())
    }
}
