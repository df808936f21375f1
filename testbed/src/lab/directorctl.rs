//! `directorctl` as an operator uses it, with its JSON read back.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use control::protocol::{ConnectionList, Latency, ServerStatus, ServiceList, Stats};
use serde::de::DeserializeOwned;

use super::{process, programs};
use crate::ensure;
use crate::error::{Context as _, Result};

/// How long one call may take.
const CALL: Duration = Duration::from_secs(10);

/// `directorctl` for one director. It needs no namespace, because the control socket is a file.
#[derive(Clone, Debug)]
pub struct Directorctl {
    socket: PathBuf,
}

impl Directorctl {
    /// For the director with this control socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Directorctl { socket }
    }

    /// Runs `directorctl LINE` (split at blanks, no quoting); returns what it printed on stdout.
    ///
    /// # Errors
    /// When it ends with another status than 0; the error holds what it said on stderr.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = process::run(&mut self.command(line)?, CALL)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Like [`Self::run`], but any exit status will do.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn output(&self, line: &str) -> Result<Output> {
        process::output(&mut self.command(line)?, CALL)
    }

    /// Runs `directorctl --json LINE` and reads its reply.
    ///
    /// # Errors
    /// As [`Self::run`], or when the reply is not of the type asked for.
    pub fn json<T: DeserializeOwned>(&self, line: &str) -> Result<T> {
        let text = self.run(&format!("--json {line}"))?;
        serde_json::from_str(text.trim())
            .context(|| format!("`directorctl --json {line}` printed {text:.200}"))
    }

    /// All virtual services with their counters.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn services(&self) -> Result<ServiceList> {
        self.json("service list")
    }

    /// One real server of one service, e.g. `tcp`, `10.99.0.1:80`, `10.0.2.11:8080`.
    ///
    /// # Errors
    /// As [`Self::json`], or when there is no such real server.
    pub fn server(&self, protocol: &str, service: &str, server: &str) -> Result<ServerStatus> {
        self.services()?
            .services
            .into_iter()
            .filter(|status| status.service.to_string() == format!("{protocol} {service}"))
            .flat_map(|status| status.servers)
            .find(|status| status.address.to_string() == server)
            .context(|| format!("service list has no real server {server} in {protocol} {service}"))
    }

    /// The counters of lcores, ports and slow path.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn stats(&self) -> Result<Stats> {
        self.json("stats")
    }

    /// The latency that the director adds.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn latency(&self) -> Result<Latency> {
        self.json("latency")
    }

    /// All connections. Every page of them is a line, and a busy director may end a page before it is full.
    ///
    /// # Errors
    /// As [`Self::json`].
    pub fn connections(&self) -> Result<ConnectionList> {
        let text = self.run("--json connection list")?;
        let mut all = ConnectionList { connections: Vec::new(), next: None };
        for line in text.lines() {
            let page: ConnectionList = serde_json::from_str(line)
                .context(|| format!("`directorctl --json connection list` printed {line:.200}"))?;
            all.connections.extend(page.connections);
        }
        Ok(all)
    }

    /// Asserts that every packet that came in is accounted for.
    ///
    /// # Errors
    /// When it is not, on some lcore; the error holds the counters.
    pub fn conserved(&self) -> Result<()> {
        let stats = self.stats()?;
        ensure!(
            stats.conserved && stats.lcores.iter().all(|lcore| lcore.conserved),
            "packets are not conserved: {:#?}",
            stats.lcores
        );
        Ok(())
    }

    fn command(&self, line: &str) -> Result<Command> {
        let mut command = Command::new(programs::find("directorctl")?);
        command.arg("--socket").arg(&self.socket).args(line.split_whitespace());
        Ok(command)
    }
}
