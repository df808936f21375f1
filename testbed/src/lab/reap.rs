//! Names of labs, and the removal of what dead ones left behind.
//!
//! All that a lab makes carries its prefix: `dlab-PID-N` for the N-th lab of process PID. Interfaces and
//! processes live in the lab's namespaces and go with them. So a later run can tell what is left over from
//! a run that was killed: the namespaces and directories whose PID is not alive, or belongs to a younger process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};

use super::process::{self, TICK};

/// What the names of labs that belong to a process begin with.
const OWNED: &str = "dlab-";
/// The prefix of the one lab that stands by itself (`demo --keep`, `lab up`).
pub const STANDING: &str = "lab";

/// A prefix for a new lab of this process.
pub(super) fn new_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{OWNED}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Where a lab keeps configurations, logs and sockets.
pub(super) fn directory(prefix: &str) -> PathBuf {
    Path::new("/run").join(if prefix == STANDING { "director-lab" } else { prefix })
}

/// The file that stands for a named namespace.
pub(super) fn netns_path(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Removes all labs whose owner is dead. Returns their prefixes.
pub fn reap() -> Vec<String> {
    let dead: BTreeSet<String> = names_in("/run/netns")
        .chain(names_in("/run"))
        .filter_map(|(name, made)| {
            let (prefix, pid) = owner(&name)?;
            (!owner_lives(pid, made)).then_some(prefix)
        })
        .collect();
    for prefix in &dead {
        remove(prefix);
    }
    dead.into_iter().collect()
}

/// Removes the lab with this prefix: its processes, namespaces and directory. Returns whether there was one.
pub fn remove(prefix: &str) -> bool {
    let of_lab = format!("{prefix}-");
    let mut found = false;
    for (name, _) in names_in("/run/netns").filter(|(name, _)| name.starts_with(&of_lab)) {
        found = true;
        remove_namespace(&name);
    }
    fs::remove_dir_all(directory(prefix)).is_ok() || found
}

/// Whether the lab that stands by itself is there.
#[must_use]
pub fn standing() -> bool {
    let of_lab = format!("{STANDING}-");
    names_in("/run/netns").any(|(name, _)| name.starts_with(&of_lab))
}

/// Ends what runs in a namespace, then deletes it.
pub(super) fn remove_namespace(name: &str) {
    // The daemon gets the time to leave in order; nobody waits for long.
    for (signal, patience) in [(Signal::TERM, 3000), (Signal::KILL, 2000)] {
        let pids = pids(name);
        if pids.is_empty() {
            break;
        }
        for pid in pids {
            let _ = kill_process(pid, signal);
        }
        let end = Instant::now() + Duration::from_millis(patience);
        while !self::pids(name).is_empty() && Instant::now() < end {
            thread::sleep(TICK);
        }
    }
    let _ = process::output(Command::new("ip").args(["netns", "del", name]), Duration::from_secs(10));
}

/// The processes whose network namespace this is. Only processes that were started in the lab can be there.
fn pids(name: &str) -> Vec<Pid> {
    let Ok(output) =
        process::output(Command::new("ip").args(["netns", "pids", name]), Duration::from_secs(10))
    else {
        return Vec::new();
    };
    let me = std::process::id().cast_signed();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| line.trim().parse().ok())
        .filter(|&pid| pid != me)
        .filter_map(Pid::from_raw)
        .collect()
}

fn names_in(directory: &str) -> impl Iterator<Item = (String, Option<SystemTime>)> {
    fs::read_dir(directory).into_iter().flatten().flatten().filter_map(|entry| {
        let made = entry.metadata().and_then(|data| data.modified()).ok();
        Some((entry.file_name().into_string().ok()?, made))
    })
}

/// The prefix in a name and the process it belongs to.
fn owner(name: &str) -> Option<(String, u32)> {
    let mut parts = name.strip_prefix(OWNED)?.splitn(3, '-');
    let pid: u32 = parts.next()?.parse().ok()?;
    let number: u32 = parts.next()?.parse().ok()?;
    Some((format!("{OWNED}{pid}-{number}"), pid))
}

/// Whether process `pid` is alive and old enough to have made something at `made`.
fn owner_lives(pid: u32, made: Option<SystemTime>) -> bool {
    let Some(born) = born(pid) else { return false };
    // The kernel gives processes numbers that others had before. The slack is for coarse clocks.
    made.is_none_or(|made| born <= made + Duration::from_secs(3))
}

/// When a process started, to a second or so; `None` if there is none. (The times of `/proc/PID` itself do
/// not tell: they are those of the first look at it.)
fn born(pid: u32) -> Option<SystemTime> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; the 20th field after it is the start in ticks since boot.
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let kernel = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = kernel.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(boot + ticks / clock_ticks_per_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_owner() {
        assert_eq!(owner("dlab-123-4-real1"), Some(("dlab-123-4".to_owned(), 123)));
        assert_eq!(owner("dlab-123-4"), Some(("dlab-123-4".to_owned(), 123)));
        for other in ["lab-client", "dlab-", "dlab-x-1-client", "dlab-12", "web"] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn an_owner_is_alive_only_if_it_was_there_when_the_lab_was_made() {
        let me = std::process::id();
        assert!(owner_lives(me, Some(SystemTime::now())));
        assert!(!owner_lives(me, Some(SystemTime::UNIX_EPOCH)), "made before this process was born");
        let mut child = Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        assert!(!owner_lives(dead, Some(SystemTime::now())));
    }
}
