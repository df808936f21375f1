//! A network namespace: one machine of a lab.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{self, Process, die_with_parent};
use super::reap;
use crate::error::{Context as _, Error, Result};
use crate::{ensure, fail};

/// How long one call of `ip` may take.
const IP: Duration = Duration::from_secs(20);

/// A named network namespace. Dropping it ends the processes in it and deletes it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// What its machine is called in the lab: `client`, `real1` ...
    role: String,
    logs: PathBuf,
    leave: bool,
}

impl Namespace {
    /// Makes the namespace `prefix-role`, quiet from birth: loopback up, no reverse-path filter, and of IPv6 no
    /// router solicitations and no waiting until an address is known to be nobody else's. Logs of its programs go to `logs`.
    pub(super) fn create(prefix: &str, role: &str, logs: &Path, leave: bool) -> Result<Self> {
        let name = format!("{prefix}-{role}");
        process::run(Command::new("ip").args(["netns", "add", &name]), IP)?;
        let namespace = Namespace { name, role: role.to_owned(), logs: logs.to_owned(), leave };
        // A client's port is not used again while the director may still remember it.
        namespace.sysctl("net/ipv4/tcp_tw_reuse", "0")?;
        for which in ["all", "default"] {
            let v6 = |key: &str, value| namespace.sysctl(&format!("net/ipv6/conf/{which}/{key}"), value);
            for key in
                ["accept_dad", "dad_transmits", "accept_ra", "router_solicitations", "accept_redirects"]
            {
                v6(key, "0")?;
            }
            v6("disable_ipv6", "0")?;
            namespace.sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
            // Two networks meet in some machines of a lab on purpose; a redirect would change the path under test.
            namespace.sysctl(&format!("net/ipv4/conf/{which}/send_redirects"), "0")?;
            namespace.sysctl(&format!("net/ipv4/conf/{which}/accept_redirects"), "0")?;
        }
        namespace.ip(&["link set lo up"])?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its machine is called in the lab.
    #[must_use]
    pub fn role(&self) -> &str {
        &self.role
    }

    /// `program` to be run inside; add arguments, then give it to [`Self::run`] or [`Self::spawn`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        // `ip netns exec` mounts a /sys that shows the namespace's own interfaces, then becomes the program.
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command line (split at blanks, no quoting) inside to its end.
    ///
    /// # Errors
    /// As [`process::run`].
    pub fn exec(&self, line: &str, within: Duration) -> Result<Output> {
        process::run(&mut self.command_line(line), within)
    }

    /// Like [`Self::exec`], but any exit status will do.
    ///
    /// # Errors
    /// As [`process::output`].
    pub fn try_exec(&self, line: &str, within: Duration) -> Result<Output> {
        process::output(&mut self.command_line(line), within)
    }

    fn command_line(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Starts a command made by [`Self::command`] in the background; it ends with the returned guard. What it
    /// prints goes to `ROLE-NAME.log` in the lab's directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        let log = self.logs.join(format!("{}-{name}.log", self.role));
        Process::start(&format!("{name} in {}", self.role), command, log, self.leave)
    }

    /// Feeds lines to `ip -batch` inside, e.g. `addr add 10.0.1.1/24 dev eth0`.
    ///
    /// # Errors
    /// When `ip` refuses one of them; the lines after it are not done.
    pub fn ip(&self, lines: &[&str]) -> Result<()> {
        self.batch(&[], lines)
    }

    /// The same by `ip -6`, for what does not tell by an address which version of IP is meant, and for rules.
    ///
    /// # Errors
    /// As [`Self::ip`].
    pub fn ip_v6(&self, lines: &[&str]) -> Result<()> {
        self.batch(&["-6"], lines)
    }

    fn batch(&self, options: &[&str], lines: &[&str]) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(options).args(["-n", &self.name, "-batch", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        die_with_parent(&mut command, Signal::KILL);
        let mut ip = command.spawn().context(|| "cannot start `ip` (is iproute2 installed?)")?;
        if let Some(mut stdin) = ip.stdin.take() {
            // If `ip` stops reading, its status says so.
            let _ = stdin.write_all(lines.join("\n").as_bytes());
        }
        let output = ip.wait_with_output().context(|| "cannot wait for `ip`")?;
        ensure!(
            output.status.success(),
            "`ip` in {} refused one of these:\n  {}\nand said: {}",
            self.name,
            lines.join("\n  "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Writes a setting below `/proc/sys`, e.g. `net/ipv4/ip_forward`, as seen inside.
    ///
    /// # Errors
    /// When the kernel refuses it or has no such setting.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        // /proc/sys/net shows the namespace of the thread that opens it.
        self.enter(|| fs::write(&path, value))?
            .context(|| format!("cannot write {value} to {} in {}", path.display(), self.name))
    }

    /// Whether an interface of this name exists inside.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn has_interface(&self, interface: &str) -> Result<bool> {
        Ok(self.interfaces()?.iter().any(|name| name == interface))
    }

    /// The names of its interfaces.
    ///
    /// # Errors
    /// When the namespace is gone or the kernel's list is not readable.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        // The list in /proc belongs to the thread's namespace, that in /sys to the mount.
        let list = self
            .enter(|| fs::read_to_string("/proc/thread-self/net/dev"))?
            .context(|| format!("cannot list the interfaces of {}", self.name))?;
        let names = list.lines().skip(2).filter_map(|line| line.split_once(':'));
        Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
    }

    /// What its kernel believes to be the largest packet that gets from its address `from` to `to`: by the route, or
    /// learned from an ICMP error. `None` where that is what the interface takes.
    ///
    /// # Errors
    /// When there is no route.
    pub fn path_mtu(&self, to: impl Into<IpAddr>, from: impl Into<IpAddr>) -> Result<Option<u32>> {
        let line = format!("ip route get {} from {}", to.into(), from.into());
        let words = self.exec(&line, IP)?.stdout;
        let words = String::from_utf8_lossy(&words).into_owned();
        let mut words = words.split_whitespace().skip_while(|&word| word != "mtu").skip(1);
        Ok(words.find_map(|word| word.parse().ok()))
    }

    /// How many TCP resets its kernel has sent.
    ///
    /// # Errors
    /// When the namespace is gone or the kernel does not count them.
    pub fn resets_sent(&self) -> Result<u64> {
        let counters = self
            .enter(|| fs::read_to_string("/proc/thread-self/net/snmp"))?
            .context(|| format!("cannot read the counters of {}", self.name))?;
        let mut rows = counters.lines().filter_map(|line| line.strip_prefix("Tcp: "));
        let (names, values) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
        let column = names.split_whitespace().position(|name| name == "OutRsts");
        let value = column.and_then(|column| values.split_whitespace().nth(column)?.parse().ok());
        value.ok_or_else(|| Error::new("the kernel does not count resets"))
    }

    /// Runs `work` on a thread of its own that has moved into the namespace: sockets which it opens belong
    /// there, and so do those of threads that it starts.
    ///
    /// Programs must not be started in it, because they would die with the thread.
    ///
    /// # Errors
    /// When the namespace is gone.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let path = reap::netns_path(&self.name);
        let file = File::open(&path).context(|| format!("cannot open namespace {}", path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok::<T, rustix::io::Errno>(work())
            });
            match inside.join() {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(errno)) => fail!("cannot enter namespace {} (are you root?): {errno}", self.name),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Switches transmit checksum offload of an interface off, for good checksums in every frame that leaves by it.
    ///
    /// A veth hands frames to its peer as they are, and with the offload on a TCP or UDP checksum in them is
    /// only the sum of the pseudo header. A tap completes it; a packet socket (net_af_packet) does not.
    ///
    /// # Errors
    /// When ethtool is missing or refuses.
    pub fn transmit_offload_off(&self, interface: &str) -> Result<()> {
        self.exec(&format!("ethtool -K {interface} tx off"), IP).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.leave {
            reap::remove_namespace(&self.name);
        }
    }
}
