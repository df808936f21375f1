//! `dpdk-testpmd`: what the same device costs without a director.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::span::Span;
use crate::error::{Context as _, Result};
use crate::fail;

/// The forwarding modes that are measured, from the least work to the most.
pub const MODES: [&str; 3] = ["io", "macswap", "5tswap"];

/// How testpmd and the director under test get memory and packets.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Device string of the port.
    pub device: String,
    /// Worker lcores, one queue each.
    pub lcores: u8,
    /// Mbufs of the pool.
    pub mbufs: u32,
    /// Without hugepages: MB of ordinary memory.
    pub no_huge_mb: Option<u32>,
}

/// A testpmd that is started and rests.
pub struct Testpmd {
    child: Child,
    commands: ChildStdin,
    output: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Testpmd {
    /// Starts it. `log` takes what it says on its standard error.
    ///
    /// # Errors
    /// When it does not start; the error holds what it said.
    pub fn start(ground: &Ground, log: &Path) -> Result<Testpmd> {
        let cpus: Vec<String> = super::worker_cpus(ground.lcores)
            .iter()
            .enumerate()
            .map(|(n, cpu)| format!("{}@{cpu}", n + 1))
            .collect();
        let last = super::cpus() - 1;
        let errors = std::fs::File::create(log).context(|| format!("cannot write {}", log.display()))?;
        // It would keep what it says in a buffer for as long as it speaks to a pipe.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "dpdk-testpmd", "--lcores", &format!("0@(0-{last}),{}", cpus.join(","))]);
        match ground.no_huge_mb {
            Some(megabytes) => command.args(["--no-huge", "--no-shconf", "-m", &megabytes.to_string()]),
            None => command.arg("--in-memory"),
        };
        let prefix = format!("bench-testpmd-{}", std::process::id());
        command.args(["--no-pci", "--iova-mode=va", "--no-telemetry", "--file-prefix", &prefix]);
        command.args([
            "--vdev",
            &ground.device,
            "--",
            "--interactive",
            "--no-flush-rx",
            "--port-topology=loop",
        ]);
        let (queues, mbufs) = (ground.lcores.to_string(), ground.mbufs.to_string());
        command.args(["--nb-cores", &queues, "--rxq", &queues, "--txq", &queues]);
        // As many at a time as the director takes.
        let burst = director::dpdk::BURST.to_string();
        command.args(["--rxd", "1024", "--txd", "1024", "--burst", &burst, "--mbcache", "256"]);
        command.args(["--total-num-mbufs", &mbufs]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .context(|| "cannot start dpdk-testpmd (Debian package dpdk-dev)")?;
        let commands = child.stdin.take().context(|| "dpdk-testpmd has no standard input")?;
        let output = child.stdout.take().context(|| "dpdk-testpmd has no standard output")?;
        Ok(Testpmd { child, commands, output: BufReader::new(output), log: log.to_owned() })
    }

    /// Forwards in a mode for a while, and returns packets received in a second.
    ///
    /// # Errors
    /// When testpmd ended, or says something else than expected.
    pub fn measure(&mut self, mode: &str, span: Span) -> Result<f64> {
        self.command(&format!("set fwd {mode}"))?;
        self.command("start")?;
        sleep(span.warm_up());
        // Each showing counts from the one before.
        self.rate()?;
        sleep(span.run());
        let rate = self.rate()?;
        self.command("stop")?;
        self.wait_for("Done.")?;
        Ok(rate)
    }

    fn rate(&mut self) -> Result<f64> {
        self.command("show port stats 0")?;
        let line = self.wait_for("Rx-pps:")?;
        rate_in(&line).context(|| format!("dpdk-testpmd says {line:?}"))
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let sent = writeln!(self.commands, "{command}").and_then(|()| self.commands.flush());
        sent.context(|| format!("dpdk-testpmd takes no command: {}", self.last_words()))
    }

    fn wait_for(&mut self, text: &str) -> Result<String> {
        let mut line = String::new();
        loop {
            line.clear();
            let length = self.output.read_line(&mut line).context(|| "cannot read what dpdk-testpmd says")?;
            if length == 0 {
                fail!("dpdk-testpmd ended: {}", self.last_words());
            }
            if line.contains(text) {
                return Ok(line);
            }
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // It ends by itself at this; if not, then by a signal.
        let _ = self.command("quit");
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `  Rx-pps:     31250000          Rx-bps:  ...`
fn rate_in(line: &str) -> Option<f64> {
    line.split("Rx-pps:").nth(1)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read() {
        assert_eq!(rate_in("  Rx-pps:     31250000          Rx-bps:  15000000000\n"), Some(31_250_000.0));
        assert_eq!(rate_in("testpmd> "), None);
    }
}
