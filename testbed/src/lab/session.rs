//! What a client does in a lab, each in one call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    pub fn fetch(&self, vip: impl Into<IpAddr>, requests: u32) -> Result<curl::Outcome> {
        self.fetch_by(&curl::Plan::new(plan::url(vip, plan::WEB, "/"), requests))
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
    pub fn ask_udp(&self, vip: impl Into<IpAddr>, requests: u32) -> Result<udp::Outcome> {
        self.ask_udp_by(&udp::Plan::new(SocketAddr::new(vip.into(), plan::ECHO), requests))
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
    pub fn hold(&self, vip: impl Into<IpAddr>, port: u16, speak: Speak, connections: usize) -> Result<Hold> {
        let target = SocketAddr::new(vip.into(), port);
        let sources = vec![Ipv4Addr::UNSPECIFIED; connections];
        self.client().enter(|| Hold::open(target, speak, &sources, Duration::from_millis(50)))?
    }

    /// Downloads the large file from a URL and compares it with the original.
    ///
    /// # Errors
    /// When it does not come whole and unchanged within a minute.
    pub fn download(&self, url: &str) -> Result<()> {
        self.download_from(None, url)
    }

    /// The same from one of the client's addresses.
    ///
    /// # Errors
    /// As [`Self::download`].
    pub fn download_from(&self, source: Option<IpAddr>, url: &str) -> Result<()> {
        let copy = self.directory().join("copy");
        let interface = source.map(|source| format!("--interface {source}")).unwrap_or_default();
        let line = format!("curl -sS --globoff --fail --max-time 60 {interface} -o {} {url}", copy.display());
        self.client().exec(&line, Duration::from_secs(65))?;
        let read = |path: &std::path::Path| {
            std::fs::read(path).context(|| format!("cannot read {}", path.display()))
        };
        ensure!(read(&copy)? == read(&self.large_file())?, "what came from {url} is not what was sent");
        Ok(())
    }

    /// Uploads so many bytes to a URL and says with which HTTP status that ended.
    ///
    /// # Errors
    /// When it does not end within half a minute.
    pub fn upload(&self, url: &str, bytes: usize) -> Result<String> {
        let file = self.directory().join("upload");
        std::fs::write(&file, vec![b'x'; bytes]).context(|| "cannot write the upload")?;
        let line = format!(
            "curl -sS --globoff --max-time 30 -H Expect: -o /dev/null -w %{{http_code}} --data-binary @{} {url}",
            file.display()
        );
        let output = self.client().exec(&line, Duration::from_secs(35))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether the client's ping of an address is answered within a second.
    ///
    /// # Errors
    /// When ping cannot be run.
    pub fn pings(&self, address: impl Into<IpAddr>) -> Result<bool> {
        let address = address.into();
        Ok(self.client().try_exec(&format!("ping -c 1 -W 1 {address}"), PATIENCE)?.status.success())
    }
}
