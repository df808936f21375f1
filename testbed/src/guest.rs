//! A Debian of its own, as it is right after its installation, with systemd running: a container by `systemd-nspawn` on
//! a root that `debootstrap` made once. What happens in it is in memory, and gone with it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::error::{Context as _, Result};
use crate::lab::process::{Process, output, run, wait_until};
use crate::{ensure, fail};

/// How long `debootstrap` and `apt-get` may take, mirrors being what they are.
const DOWNLOAD: Duration = Duration::from_secs(900);
/// How long systemd may take to boot or to halt.
const BOOT: Duration = Duration::from_secs(60);
/// How old lists of packages may be.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// The root of a Debian that nobody has changed but by downloading packages.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// The root in this directory; made there if it is not, from the mirrors of this machine.
    ///
    /// # Errors
    /// When `debootstrap` fails.
    pub fn at(path: &Path) -> Result<Self> {
        let root = Self { path: path.to_owned() };
        if !path.exists() {
            let partial = path.with_extension("partial");
            if partial.exists() {
                fs::remove_dir_all(&partial).context(|| format!("cannot remove {}", partial.display()))?;
            }
            let mut command = Command::new("debootstrap");
            command.args(["--variant=minbase", "--include=systemd,systemd-sysv,dbus,nftables,iproute2"]);
            command.arg(codename()?).arg(&partial).arg(mirror()?);
            run(&mut command, DOWNLOAD)?;
            fs::rename(&partial, path).context(|| format!("cannot rename {}", partial.display()))?;
        }
        Ok(root)
    }

    /// Puts a package into the root as `/NAME`, and what it depends on where `apt-get` finds it without a network.
    ///
    /// # Errors
    /// When something cannot be had.
    pub fn fetch(&self, package: &Path) -> Result<PathBuf> {
        let name = package.file_name().context(|| "a package without a name")?;
        for old in fs::read_dir(&self.path).context(|| "cannot read the root")?.flatten() {
            if old.path().extension().is_some_and(|extension| extension == "deb") {
                fs::remove_file(old.path()).context(|| "cannot remove an old package")?;
            }
        }
        fs::copy(package, self.path.join(name)).context(|| "cannot copy the package")?;
        for file in ["etc/resolv.conf", "etc/hosts"] {
            // A machine without them has other ways to names.
            let _ = fs::copy(Path::new("/").join(file), self.path.join(file));
        }
        let stamp = self.path.join("var/lib/apt/fetched");
        let fetched = fs::metadata(&stamp).and_then(|stamp| stamp.modified()).ok();
        let age = fetched.and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_none_or(|age| age > FRESH) {
            run(&mut self.chroot(&["apt-get", "-qq", "update"]), DOWNLOAD)?;
            fs::write(&stamp, "").context(|| "cannot note when lists were fetched")?;
        }
        let inside = Path::new("/").join(name);
        let path = inside.display().to_string();
        let words =
            ["apt-get", "-qq", "--no-install-recommends", "--download-only", "install", "--yes", &path];
        run(&mut self.chroot(&words), DOWNLOAD)?;
        Ok(inside)
    }

    fn chroot(&self, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(&self.path).args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Boots it, in a network namespace of its own.
    ///
    /// # Errors
    /// When systemd does not come up; the error holds what was said.
    pub fn boot(&self) -> Result<Guest> {
        let log = self.path.with_extension("log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new("systemd-nspawn");
        command.arg("--directory").arg(&self.path).args([
            "--quiet",
            "--boot",
            "--volatile=overlay",
            "--private-network",
            "--bind=/dev/net/tun",
            // systemd-nspawn leaves it out, and DPDK does not start without.
            "--bind-ro=/sys/module",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--machine=director-guest",
        ]);
        // The unified hierarchy, which Debian boots with, whatever this machine has; and sysctls that can be set.
        command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "1");
        let process = Process::start("systemd-nspawn", &mut command, log, false)?;
        let mut guest = Guest { process, init: 0 };
        wait_until("the guest to have an init", BOOT, || {
            if let Some(status) = guest.process.status()? {
                fail!("systemd-nspawn ended with {status}:\n{}", guest.process.log_tail(20));
            }
            guest.init = child_of(guest.process.pid()).unwrap_or(0);
            Ok(guest.init != 0)
        })?;
        wait_until("the guest to be up", BOOT, || {
            let output = guest.output(&["systemctl", "is-system-running"])?;
            Ok(String::from_utf8_lossy(&output.stdout).trim() == "running")
        })?;
        Ok(guest)
    }
}

/// A Debian that runs. Dropped, it halts and is forgotten.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    init: u32,
}

impl Guest {
    /// Runs a program in it, as root; any exit status will do.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub fn output(&self, words: &[&str]) -> Result<Output> {
        output(&mut self.command(words), BOOT)
    }

    /// Runs a program in it, as root; returns what it said.
    ///
    /// # Errors
    /// When it ends with another status than 0.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let output = run(&mut self.command(words), BOOT)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--target"]).arg(self.init.to_string());
        command.arg("--").args(words).env_clear();
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// Halts it.
    ///
    /// # Errors
    /// When it does not.
    pub fn halt(mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let status = self.process.wait_for_end(BOOT)?;
        ensure!(status.success(), "the guest ended with {status}: {}", self.process.log_tail(20));
        Ok(())
    }
}

fn child_of(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    // Until it has become init, it is a copy of systemd-nspawn.
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "systemd").then_some(child)
}

/// The release of this machine, which the programs were built for.
fn codename() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context(|| "cannot read /etc/os-release")?;
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    name.map(str::to_owned).context(|| "/etc/os-release has no VERSION_CODENAME")
}

/// The first mirror that apt uses on this machine.
fn mirror() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let more = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(more.map(|entry| entry.path()));
    files.retain(|file| file.extension().is_some_and(|kind| kind == "list" || kind == "sources"));
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap_or_default();
        for line in text.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            if matches!(words.next(), Some("URIs:" | "deb"))
                && let Some(uri) = words.find(|word| word.contains("://"))
            {
                return Ok(uri.to_owned());
            }
        }
    }
    fail!("apt has no mirror on this machine")
}
