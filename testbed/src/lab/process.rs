//! A program started by a lab: its output goes to a file, and it ends when its guard does.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal, setsid};

use crate::error::{Context as _, Error, Result};
use crate::{ensure, fail};

/// How long a program may take to end after SIGTERM before it gets SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// How often a state that is waited for is looked at.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Looks every few milliseconds whether `ready` says yes; gives up after `within`.
///
/// # Errors
/// The error of `ready`, or one that names `what` when the time is over.
pub fn wait_until(what: &str, within: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + within;
    loop {
        if ready()? {
            return Ok(());
        }
        ensure!(Instant::now() < end, "waited {:.1} s in vain for {what}", within.as_secs_f64());
        thread::sleep(TICK);
    }
}

/// Runs a command to its end, at most for `within`, and returns what it printed.
///
/// # Errors
/// When it cannot be started, ends with another status than 0 (the error holds what it said on stderr),
/// or takes too long (it is killed then).
pub fn run(command: &mut Command, within: Duration) -> Result<Output> {
    let words = words(command);
    let output = output(command, within)?;
    ensure!(
        output.status.success(),
        "`{words}` ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}

/// Like [`run`], but any exit status will do.
///
/// # Errors
/// When the command cannot be started or takes too long.
pub fn output(command: &mut Command, within: Duration) -> Result<Output> {
    let words = words(command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    die_with_parent(command, Signal::KILL);
    let mut child = command.spawn().context(|| format!("cannot start `{words}`"))?;
    let pid = Pid::from_child(&child);
    // Both pipes are drained by threads, so that a talkative command cannot block.
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = match wait(&mut child, within).context(|| format!("cannot wait for `{words}`"))? {
        Some(status) => status,
        None => {
            // Not reaped yet, so the pid is still this child's.
            let _ = kill_process(pid, Signal::KILL);
            let _ = child.wait();
            fail!("`{words}` did not end within {:.1} s and was killed", within.as_secs_f64());
        }
    };
    let collect = |thread: thread::JoinHandle<Vec<u8>>| thread.join().unwrap_or_default();
    Ok(Output { status, stdout: collect(stdout), stderr: collect(stderr) })
}

fn drain(pipe: Option<impl std::io::Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks ends the text; the exit status tells the rest.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn wait(child: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let end = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let args = command.get_args().map(OsStr::to_string_lossy);
    std::iter::once(command.get_program().to_string_lossy()).chain(args).collect::<Vec<_>>().join(" ")
}

/// Has the kernel send `signal` to the child when the thread that starts it ends, however it ends.
pub(crate) fn die_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; the closure makes one system
    // call (prctl), allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(signal))?;
            Ok(())
        });
    }
}

/// Lets the child live on when the terminal or the program that started it goes away.
fn outlive_parent(command: &mut Command) {
    // SAFETY: as above; the closure makes one system call (setsid).
    unsafe {
        command.pre_exec(|| {
            setsid()?;
            Ok(())
        });
    }
}

/// A running program. Dropping it ends it: SIGTERM first, SIGKILL if that does not help.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    leave: bool,
}

impl Process {
    /// Starts `command` with stdout and stderr appended to `log`. Unless `leave` is set, it dies with the
    /// thread that called this and with the returned guard.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub(crate) fn start(name: &str, command: &mut Command, log: PathBuf, leave: bool) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(&log);
        let stdout = open().context(|| format!("cannot open {}", log.display()))?;
        let stderr = stdout.try_clone().context(|| format!("cannot open {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        if leave {
            outlive_parent(command);
        } else {
            die_with_parent(command, Signal::TERM);
        }
        let words = words(command);
        let child = command.spawn().context(|| format!("cannot start {name} by `{words}`"))?;
        Ok(Process { name: name.to_owned(), child, log, leave })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds what it printed.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// All it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last `lines` lines that it printed, each indented, for an error message.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<&str> = log.lines().collect();
        let tail = &all[all.len().saturating_sub(lines)..];
        if tail.is_empty() {
            return format!("  ({} printed nothing)", self.name);
        }
        tail.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context(|| format!("cannot ask for the status of {}", self.name))
    }

    /// Waits until `text` is in what it printed.
    ///
    /// # Errors
    /// When it ends before, or when `within` is over; the error holds the end of its log.
    pub fn wait_for_text(&mut self, text: &str, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            let status = self.status()?;
            // The log is read after the status, so that the last words of a dead program count.
            if self.log().contains(text) {
                return Ok(());
            }
            if let Some(status) = status {
                fail!("{} ended with {status} before it said \"{text}\":\n{}", self.name, self.log_tail(30));
            }
            if Instant::now() >= end {
                fail!(
                    "{} did not say \"{text}\" within {:.1} s:\n{}",
                    self.name,
                    within.as_secs_f64(),
                    self.log_tail(30)
                );
            }
            thread::sleep(TICK);
        }
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When `within` is over.
    pub fn wait_for_end(&mut self, within: Duration) -> Result<ExitStatus> {
        match wait(&mut self.child, within).context(|| format!("cannot wait for {}", self.name))? {
            Some(status) => Ok(status),
            None => fail!(
                "{} did not end within {:.1} s:\n{}",
                self.name,
                within.as_secs_f64(),
                self.log_tail(30)
            ),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.status()? {
            fail!("{} had already ended with {status}:\n{}", self.name, self.log_tail(30));
        }
        // The child is not reaped yet, so that the pid is still its own.
        kill_process(Pid::from_child(&self.child), signal)
            .map_err(|error| Error::new(format!("cannot send {signal:?} to {}: {error}", self.name)))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.leave || !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        if !matches!(wait(&mut self.child, GRACE), Ok(Some(_))) {
            let _ = kill_process(pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed() {
        let begun = Instant::now();
        let error = run(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_command_that_fails_says_what_it_said() {
        let error = run(&mut shell("echo broken >&2; exit 3"), Duration::from_secs(5)).unwrap_err();
        assert!(
            error.to_string().contains("exit status: 3") && error.to_string().contains("broken"),
            "{error}"
        );
    }

    #[test]
    fn much_output_does_not_block() {
        let output = run(&mut shell("head -c 1000000 /dev/zero"), Duration::from_secs(10)).unwrap();
        assert_eq!(output.stdout.len(), 1_000_000);
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let process =
            Process::start("sleeper", &mut shell("exec sleep 60"), dir.path().join("log"), false).unwrap();
        let proc = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(proc.exists());
        drop(process);
        assert!(!proc.exists());
    }

    #[test]
    fn the_last_words_of_a_dead_process_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let mut process =
            Process::start("talker", &mut shell("echo ready to serve"), dir.path().join("log"), false)
                .unwrap();
        process.wait_for_text("ready to serve", Duration::from_secs(5)).unwrap();
        let error = process.wait_for_text("never said", Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("ready to serve"), "{error}");
    }
}
