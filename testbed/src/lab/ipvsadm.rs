//! `ipvsadm` as people and programs know it: `directorctl` by that name.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use control::cli::ipvsadm::SOCKET_VARIABLE;

use super::{process, programs};
use crate::error::Result;

/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);

/// `ipvsadm` for one director.
#[derive(Clone, Debug)]
pub struct Ipvsadm {
    socket: PathBuf,
}

impl Ipvsadm {
    pub(super) fn new(socket: PathBuf) -> Ipvsadm {
        Ipvsadm { socket }
    }

    /// Runs `ipvsadm LINE` (split at blanks, no quoting); returns what it printed on stdout.
    ///
    /// # Errors
    /// When it ends with another status than 0; the error holds what it said on stderr.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut command = Command::new(programs::find("directorctl")?);
        command.arg0("ipvsadm").args(line.split_whitespace()).env(SOCKET_VARIABLE, &self.socket);
        let output = process::run(&mut command, CALL)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a shell's line in which `ipvsadm` and its companions are ours.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn shell(&self, line: &str) -> Result<String> {
        let ours = programs::find("directorctl")?;
        let functions: String = ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"]
            .map(|name| format!("{name}() {{ (exec -a {name} '{}' \"$@\"); }}\n", ours.display()))
            .concat();
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("set -o pipefail\n{functions}{line}")])
            .env(SOCKET_VARIABLE, &self.socket);
        let output = process::run(&mut command, CALL)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}
