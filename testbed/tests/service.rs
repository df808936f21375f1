//! A director as a service. What it tells the service manager, here a socket of the test: ready, stopping, a line of
//! status; and that the watchdog hears nothing as soon as one thread that matters hangs. And what it needs of root. No
//! lab: a port that receives nothing is enough.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use testbed::ensure;
use testbed::error::{Context as _, Error, Result};
use testbed::lab::directorctl::Directorctl;
use testbed::lab::process::wait_until;
use testbed::lab::programs;

/// What systemd would say in `WatchdogSec=`.
const WATCHDOG: Duration = Duration::from_secs(2);
/// What a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A director and the socket on which it is listened to.
struct Director {
    child: Child,
    socket: UnixDatagram,
    home: tempfile::TempDir,
}

impl Director {
    /// Starts it without waiting for anything. `journal`: its standard error is what `JOURNAL_STREAM` names.
    fn start(toml: &str, journal: bool) -> Result<Self> {
        Self::start_by(toml, journal, |_| Ok(Command::new(programs::find("director")?)))
    }

    /// Starts it by a command to which its arguments are added; that may put things into its directory.
    fn start_by(toml: &str, journal: bool, command: impl FnOnce(&Path) -> Result<Command>) -> Result<Self> {
        let home =
            tempfile::Builder::new().prefix("director-service").tempdir().context(|| "no directory")?;
        let socket = UnixDatagram::bind(home.path().join("notify")).context(|| "no socket")?;
        let config = home.path().join("director.toml");
        let control = home.path().join("director.sock");
        fs::write(&config, format!("socket = \"{}\"\n{toml}", control.display())).context(|| "no file")?;
        for open in [home.path(), &home.path().join("notify")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o777)).context(|| "cannot open it")?;
        }
        let log = File::create(home.path().join("log")).context(|| "no log")?;
        let mut command = command(home.path())?;
        command.arg("run").arg("--config").arg(config);
        command.env("NOTIFY_SOCKET", home.path().join("notify"));
        command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        command.env("RUNTIME_DIRECTORY", home.path());
        if journal {
            let stat = rustix::fs::fstat(log.as_fd()).map_err(|error| Error::new(error.to_string()))?;
            command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // SAFETY: between fork and exec, one system call (prctl).
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let child = command.spawn().context(|| "cannot start the director")?;
        Ok(Self { child, socket, home })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// The next message, if one comes within this time.
    fn hear(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).ok()?;
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Listens until a message has all of these lines.
    fn hear_of(&self, lines: &[&str], within: Duration) -> Result<String> {
        let end = Instant::now() + within;
        let mut heard = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Some(message) = self.hear(left) else { break };
            if lines.iter().all(|line| message.lines().any(|said| said.starts_with(line))) {
                return Ok(message);
            }
            heard.push(message);
        }
        Err(Error::new(format!("no {lines:?} within {within:?}, but {heard:?}:\n{}", self.log())))
    }

    /// How often the watchdog is told that all is well within this time.
    fn pings(&self, within: Duration) -> usize {
        let end = Instant::now() + within;
        let mut pings = 0;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.hear(left) {
                Some(message) => pings += usize::from(message.lines().any(|line| line == "WATCHDOG=1")),
                None => break,
            }
        }
        pings
    }

    /// The thread of this name.
    fn thread(&self, name: &str) -> Result<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).context(|| "no threads")?;
        let mut tasks = tasks.flatten().map(|task| task.path());
        let of_name =
            |path: &PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.starts_with(name));
        let task = tasks.find(of_name).context(|| format!("no thread {name}"))?;
        let number = task.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        number.context(|| "a thread without a number")
    }

    /// Ends it by SIGTERM and hears it go.
    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .map_err(|error| Error::new(error.to_string()))?;
        self.hear_of(&["STOPPING=1"], Duration::from_secs(10))?;
        let mut ended = None;
        wait_until("the director to end", Duration::from_secs(10), || {
            ended = self.child.try_wait().context(|| "cannot wait")?;
            Ok(ended.is_some())
        })?;
        ensure!(ended.is_some_and(|status| status.success()), "it ended with {ended:?}: {}", self.log());
        Ok(())
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration that the package installs, but for the socket.
fn harmless() -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../director/debian/director.toml");
    fs::read_to_string(&file).context(|| format!("cannot read {}", file.display()))
}

/// A thread that stands still, as one would that is caught in a loop; it goes on when this is dropped.
struct Frozen(i32);

impl Frozen {
    fn new(thread: i32) -> Result<Self> {
        let ptrace = |request| {
            // SAFETY: neither request reads or writes memory of ours; the thread is our child's.
            unsafe { libc::ptrace(request, thread, 0, 0) }
        };
        ensure!(ptrace(libc::PTRACE_SEIZE) == 0, "may not trace: {}", std::io::Error::last_os_error());
        ensure!(ptrace(libc::PTRACE_INTERRUPT) == 0, "cannot stop it: {}", std::io::Error::last_os_error());
        let mut status = 0;
        // SAFETY: `status` is ours.
        let stopped = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
        ensure!(stopped == thread, "it does not stop: {}", std::io::Error::last_os_error());
        Ok(Self(thread))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, self.0, 0, 0) };
    }
}

#[test]
fn the_service_manager_hears_of_start_changes_and_end() -> Result<()> {
    let director = Director::start(&harmless()?, false)?;
    let ready = director.hear_of(&["READY=1", "STATUS="], START)?;
    ensure!(ready.contains("0 virtual services, 0 real servers; lcores on CPUs "), "{ready}");
    ensure!(ready.contains("; 1 ports"), "{ready}");
    let pings = director.pings(2 * WATCHDOG);
    ensure!(pings >= 4, "only {pings} pings in {:?}", 2 * WATCHDOG);
    Directorctl::new(director.path("director.sock")).run("service add tcp 192.0.2.80:80")?;
    director.hear_of(&["STATUS=1 virtual services, 0 real servers"], Duration::from_secs(5))?;
    director.stop()
}

#[test]
fn the_watchdog_hears_nothing_while_one_thread_hangs() -> Result<()> {
    let director = Director::start(&harmless()?, false)?;
    director.hear_of(&["READY=1"], START)?;
    for thread in [director.thread("rte-worker")?, i32::try_from(director.child.id()).unwrap_or_default()] {
        director.hear_of(&["WATCHDOG=1"], WATCHDOG)?;
        let frozen = Frozen::new(thread)?;
        // One may be on its way, and one more be due because of turns made before.
        let late = director.pings(WATCHDOG);
        ensure!(late <= 2, "{late} pings while thread {thread} stood still");
        let pings = director.pings(WATCHDOG);
        ensure!(pings == 0, "{pings} pings though thread {thread} stands still:\n{}", director.log());
        drop(frozen);
        director.hear_of(&["WATCHDOG=1"], WATCHDOG)?;
    }
    let log = director.log();
    ensure!(log.contains("worker lcores make no turns of their loops lcores=[0] watchdog=true"), "{log}");
    ensure!(log.contains("all worker lcores make turns of their loops again"), "{log}");
    director.stop()
}

#[test]
fn the_journal_gets_priorities_instead_of_times() -> Result<()> {
    let director = Director::start(&harmless()?, true)?;
    director.hear_of(&["READY=1"], START)?;
    let log = director.log();
    ensure!(log.contains("<6>director::daemon: director is ready file="), "{log}");
    ensure!(log.lines().all(|line| line.starts_with('<') && !line.contains('\u{1b}')), "{log}");
    director.stop()?;
    // What keeps it from starting is an error, each line of it.
    let mut director = Director::start("[[port]]\ndevice = \"net_null0\"\ncolour = 1\n", true)?;
    let status = director.child.wait().context(|| "cannot wait")?;
    ensure!(status.code() == Some(2), "{status}");
    let log = director.log();
    ensure!(log.contains("colour") && log.lines().all(|line| line.starts_with("<3>")), "{log}");
    Ok(())
}

/// Starts a director as `nobody` with these capabilities and no more, in a network namespace with a veth `va`.
fn start_with_rights(port: &str, capabilities: &[&str]) -> Result<Director> {
    let toml = format!(
        "[dpdk]\nhugepages = \"no\"\nmemory_mb = 64\n[connections]\ncapacity = 1000\n[[port]]\n{port}\n\
         [[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.80:80\"\n"
    );
    let set: String = capabilities.iter().map(|capability| format!(",+{capability}")).collect();
    Director::start_by(&toml, false, |home| {
        // Where the programs are built, nobody may look.
        let program = home.join("director");
        fs::copy(programs::find("director")?, &program).context(|| "cannot copy the director")?;
        let script = format!(
            "ip link add va type veth peer name vb && ip link set va up && exec setpriv --reuid=nobody --regid=nogroup \
             --clear-groups --no-new-privs --inh-caps=-all{set} --ambient-caps=-all{set} --bounding-set=-all{set} \
             -- \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script, "sh"]).arg(program);
        Ok(command)
    })
}

#[test]
fn it_needs_no_more_of_root_than_the_documentation_says() -> Result<()> {
    let (null, tap, packet) = (
        "device = \"net_null0,no-rx=1\"\nmirror = \"none\"",
        "device = \"net_tap0,iface=dtap0\"\nmirror = \"dir0\"",
        "device = \"net_af_packet0,iface=va\"",
    );
    // Enough.
    for (port, capabilities) in [(null, &[][..]), (tap, &["net_admin"]), (packet, &["net_admin", "net_raw"])]
    {
        let director = start_with_rights(port, capabilities)?;
        director.hear_of(&["READY=1"], START)?;
        director.stop()?;
    }
    // Too little, and said so.
    for (port, capabilities, word) in [
        (tap, &[][..], "CAP_NET_ADMIN"),
        (tap, &["net_raw"], "CAP_NET_ADMIN"),
        (packet, &["net_admin"], "CAP_NET_RAW"),
        (packet, &["net_raw"], "not permitted"),
    ] {
        let mut director = start_with_rights(port, capabilities)?;
        let mut status = None;
        wait_until("it to give up", START, || {
            status = director.child.try_wait().context(|| "cannot wait")?;
            Ok(status.is_some())
        })?;
        let log = director.log();
        ensure!(status.is_some_and(|status| status.code() == Some(1)), "{status:?}: {log}");
        ensure!(log.contains(word), "{port} with {capabilities:?} does not say {word}: {log}");
    }
    Ok(())
}
