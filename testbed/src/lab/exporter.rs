//! `directorctl serve` for a lab's director. It needs no namespace: the control socket is a file, and it listens on the
//! loopback of whoever runs the lab.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::programs;
use crate::ensure;
use crate::error::{Context as _, Result};

/// How long it may take to start, and to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `directorctl serve`; ends when dropped.
#[derive(Debug)]
pub struct Exporter {
    _process: Process,
    address: SocketAddr,
}

impl Exporter {
    /// Serves what the director with this socket says. What it prints goes to `serve.log` in `directory`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(socket: &Path, directory: &Path, arguments: &[&str]) -> Result<Exporter> {
        let mut command = Command::new(programs::find("directorctl")?);
        command.arg("--socket").arg(socket).args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut process =
            Process::start("directorctl serve", &mut command, directory.join("serve.log"), false)?;
        process.wait_for_text("/metrics\n", PATIENCE)?;
        let log = process.log();
        let address = log.rsplit("http://").next().and_then(|rest| rest.split('/').next());
        let address = address.context(|| format!("it says {log:?}"))?;
        let address = address.parse().context(|| format!("{address:?} is no address"))?;
        Ok(Exporter { _process: process, address })
    }

    /// The address of a path as a browser wants it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The body that stands at `path`.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, path: &str) -> Result<String> {
        let mut stream =
            TcpStream::connect(self.address).context(|| format!("cannot connect to {}", self.address))?;
        stream.set_read_timeout(Some(PATIENCE)).context(|| "a timeout")?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address);
        stream.write_all(request.as_bytes()).context(|| format!("cannot ask for {path}"))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context(|| format!("no answer about {path}"))?;
        let (head, body) = answer.split_once("\r\n\r\n").context(|| format!("{path}: {answer:.200}"))?;
        ensure!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        Ok(body.to_owned())
    }
}
