//! The parent's end of the process that runs the director under test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::job::{Job, Outcome, Setup};
use super::worker::READY;
use crate::error::{Context as _, Result};
use crate::fail;

/// A director that waits for jobs.
pub struct Director {
    child: Child,
    jobs: ChildStdin,
    outcomes: BufReader<ChildStdout>,
}

impl Director {
    /// Starts this same program as the director under test.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(setup: &Setup) -> Result<Director> {
        let program = std::env::current_exe().context(|| "cannot find this program")?;
        let setup = serde_json::to_string(setup).context(|| "the set-up")?;
        let mut command = Command::new(program);
        command.args(["worker", &setup]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context(|| "cannot start the director under test")?;
        let jobs = child.stdin.take().context(|| "the director under test has no standard input")?;
        let outcomes = child.stdout.take().context(|| "the director under test has no standard output")?;
        let mut director = Director { child, jobs, outcomes: BufReader::new(outcomes) };
        let ready = director.line()?;
        crate::ensure!(ready.trim() == READY, "the director under test says {ready:?}");
        Ok(director)
    }

    /// Has a job done.
    ///
    /// # Errors
    /// When it could not be done, or the process ended.
    pub fn ask(&mut self, job: &Job) -> Result<Outcome> {
        let text = serde_json::to_string(job).context(|| "a job")?;
        let sent = writeln!(self.jobs, "{text}").and_then(|()| self.jobs.flush());
        sent.context(|| "the director under test is gone")?;
        let line = self.line()?;
        match serde_json::from_str(&line).context(|| format!("the director under test says {line:?}"))? {
            Outcome::Failed(error) => fail!("{text}: {error}"),
            outcome => Ok(outcome),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let length = self.outcomes.read_line(&mut line).context(|| "cannot hear the director under test")?;
        crate::ensure!(length > 0, "the director under test ended; what it said stands above");
        Ok(line)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        // Between two jobs there is nothing to lose, and EAL with its memory goes with the process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
