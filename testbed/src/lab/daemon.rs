//! The director under test: `director run` in the director's namespace.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;

use super::config::Config;
use super::directorctl::Directorctl;
use super::ipvsadm::Ipvsadm;
use super::process::Process;
use super::programs;
use super::{Lab, Ports};
use crate::ensure;
use crate::error::{Context as _, Result};

/// What it prints when lcores poll and the socket answers.
const READY: &str = "director is ready";
/// How long it may take until then. DPDK without hugepages needs about a second on two busy cores.
const START: Duration = Duration::from_secs(30);
/// How long a clean stop may take.
const STOP: Duration = Duration::from_secs(10);

/// A running director. [`Self::stop`] checks that it leaves in order; dropped without that, it prints the end
/// of its log, because a test must have failed.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    socket: PathBuf,
    expected_to_run: bool,
}

impl Lab {
    /// Writes the configuration, starts the director, plugs in its wires and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the error holds the end of its log.
    pub fn start_director(&self, config: &Config) -> Result<Daemon> {
        self.start_director_toml(&config.toml(), &config.socket)
    }

    /// Like [`Self::start_director`] with the text of a configuration.
    ///
    /// # Errors
    /// As there.
    pub fn start_director_toml(&self, toml: &str, socket: &std::path::Path) -> Result<Daemon> {
        let path = self.write_config("director.toml", toml)?;
        let mut command = self.director().command(programs::find("director")?);
        command.arg("run").arg("--config").arg(&path).args(["--log", "info"]);
        let mut process = self.director().spawn("daemon", &mut command)?;
        // The wires are in before it is ready: until then it asks who its next hops are.
        if self.ports() == Ports::Tap {
            self.plug_in_taps(&mut process)?;
        }
        process.wait_for_text(READY, START)?;
        Ok(Daemon { process, socket: socket.to_owned(), expected_to_run: !self.plan.standing })
    }

    /// Writes a file into the lab's directory, readable by everybody.
    ///
    /// # Errors
    /// When it cannot.
    pub fn write_config(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.directory().join(name);
        fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
        // One log for each start: what a former director said must not be taken for the new one's words.
        let _ = fs::remove_file(self.directory().join("director-daemon.log"));
        Ok(path)
    }

    /// Runs the director's program in its namespace to its end; any exit status will do.
    ///
    /// # Errors
    /// When it does not end within half a minute.
    pub fn director_output(&self, args: &[&str]) -> Result<Output> {
        let mut command = self.director().command(programs::find("director")?);
        command.args(args);
        super::process::output(&mut command, START)
    }
}

impl Daemon {
    /// `directorctl` for this director.
    #[must_use]
    pub fn ctl(&self) -> Directorctl {
        Directorctl::new(self.socket.clone())
    }

    /// `ipvsadm` for this director.
    #[must_use]
    pub fn ipvsadm(&self) -> Ipvsadm {
        Ipvsadm::new(self.socket.clone())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to stop by SIGTERM; returns what it said.
    ///
    /// # Errors
    /// As [`Self::stop_by`].
    pub fn stop(self) -> Result<String> {
        self.stop_by(Signal::TERM)
    }

    /// Asks it to stop by a signal; returns what it said.
    ///
    /// # Errors
    /// When it has ended before, does not end within ten seconds, or ends with another status than 0.
    pub fn stop_by(mut self, signal: Signal) -> Result<String> {
        self.process.signal(signal)?;
        let status = self.process.wait_for_end(STOP)?;
        ensure!(
            status.success(),
            "the director ended with {status} (signal {:?}) after {signal:?}:\n{}",
            status.signal(),
            self.process.log_tail(40)
        );
        self.expected_to_run = false;
        Ok(self.process.log())
    }
}

impl Daemon {
    /// Kills it outright, as a fault or the kernel's out-of-memory killer would.
    ///
    /// # Errors
    /// When it has ended before, or does not end.
    pub fn kill(mut self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait_for_end(STOP)?;
        self.expected_to_run = false;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.expected_to_run {
            eprintln!("the end of the director's log:\n{}", self.process.log_tail(60));
        }
    }
}
