//! A program of the operator's: status 0 passes.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use super::runner::Progress;
use super::{Failure, Target};

/// So much of what a program says becomes the reason.
const MAX_WORDS: usize = 200;

pub(super) async fn check(target: &Target, words: &[String], progress: &Progress) -> Result<(), Failure> {
    let (program, arguments) = words.split_first().ok_or("no program is named")?;
    progress.at("running the program");
    let mut child = Command::new(program)
        .args(arguments)
        .env("VIRTUAL_SERVICE", target.service.to_string())
        .env("REAL_SERVER", target.server.to_string())
        .env("REAL_SERVER_IP", target.address.ip().to_string())
        .env("REAL_SERVER_PORT", target.address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::of_system(format_args!("cannot start {program}"), error))?;
    let _group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let mut said = Vec::new();
    let mut stderr = child.stderr.take();
    // Its own children may hold the pipe open after it has ended: nobody waits for those.
    let status = loop {
        let Some(pipe) = &mut stderr else { break child.wait().await };
        let mut chunk = [0; 1024];
        tokio::select! {
            biased;
            read = pipe.read(&mut chunk) => match read {
                Ok(length) if length > 0 => {
                    let room = MAX_WORDS.saturating_sub(said.len());
                    said.extend_from_slice(&chunk[..length.min(room)]);
                }
                _ => stderr = None,
            },
            status = child.wait() => break status,
        }
    };
    let status = status.map_err(|error| Failure::Own(format!("cannot wait for {program}: {error}")))?;
    if status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default();
    let why = if first.is_empty() { status.to_string() } else { format!("{status}: {first}") };
    Err(why.into())
}

/// What the program has started and left ends with the check.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // Mostly there is nobody left.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}
