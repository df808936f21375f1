//! The Debian package on a Debian that has just been installed: what it brings starts, answers, may do what it has to and
//! no more, and leaves nothing behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::guest::{Guest, Root};
use testbed::lab::process::{run, wait_until};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Makes the package of the programs as they were built last.
fn package() -> Result<PathBuf> {
    let output = run(&mut Command::new(workspace().join("testbed/package")), Duration::from_secs(900))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(workspace().join(text.lines().last().context(|| "testbed/package names no package")?))
}

/// All files but those that packages in general change.
fn files(guest: &Guest) -> Result<BTreeSet<String>> {
    let script = "find / -xdev \\( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o -path /var/log \
                  -o -path /tmp -o -path /var/tmp -o -path /var/lib/systemd \\) -prune -o -print; find /run /dev -name '*director*'; \
                  cat /etc/passwd /etc/group; ls /sys/class/net; pgrep -l director || true";
    Ok(guest.run(&["sh", "-c", script])?.lines().map(str::to_owned).collect())
}

fn is_active(guest: &Guest) -> Result<bool> {
    let output = guest.output(&["systemctl", "is-active", "director"])?;
    Ok(String::from_utf8_lossy(&output.stdout).trim() == "active")
}

/// The end of its log.
fn journal(guest: &Guest) -> Result<String> {
    guest.run(&["journalctl", "--no-pager", "-u", "director", "-n", "20"])
}

/// What systemd knows of the service.
fn property(guest: &Guest, name: &str) -> Result<String> {
    let text = guest.run(&["systemctl", "show", "--property", name, "--value", "director"])?;
    Ok(text.trim().to_owned())
}

/// Writes a file in the guest.
fn write(guest: &Guest, path: &str, text: &str) -> Result<()> {
    guest.run(&["sh", "-c", "printf '%s' \"$1\" > \"$2\"", "sh", text, path]).map(|_| ())
}

/// Gives the director another configuration, and lets systemd start it anew.
fn restart_with(guest: &Guest, ports: &str) -> Result<()> {
    let toml =
        format!("[dpdk]\nhugepages = \"no\"\nmemory_mb = 64\n[connections]\ncapacity = 10000\n{ports}");
    write(guest, "/etc/director/director.toml", &toml)?;
    let output = guest.output(&["systemctl", "restart", "director"])?;
    if !output.status.success() {
        testbed::fail!("it does not start with\n{toml}\n{}", journal(guest)?);
    }
    Ok(())
}

#[test]
fn the_package_installs_runs_and_leaves_nothing() -> Result<()> {
    let package = package()?;
    let root = Root::at(&workspace().join("target/package/debian"))?;
    let inside = root.fetch(&package)?.display().to_string();
    let guest = root.boot()?;
    let before = files(&guest)?;

    guest.run(&["apt-get", "-qq", "install", "--yes", "--no-install-recommends", &inside])?;
    ensure!(is_active(&guest)?, "it does not run after its installation:\n{}", journal(&guest)?);
    let enabled = guest.run(&["systemctl", "is-enabled", "director"])?;
    ensure!(enabled.trim() == "enabled", "{enabled}");
    let version = guest.run(&["directorctl", "version"])?;
    ensure!(version.contains(env!("CARGO_PKG_VERSION")) && version.contains("DPDK"), "{version}");
    let stats = guest.run(&["directorctl", "stats"])?;
    ensure!(stats.contains("net_null0"), "{stats}");
    let status = property(&guest, "StatusText")?;
    ensure!(status.starts_with("0 virtual services, 0 real servers; lcores on CPUs "), "{status}");

    // What it is allowed, and by what name its log is known.
    let pid = property(&guest, "MainPID")?;
    let process = guest.run(&["cat", &format!("/proc/{pid}/status")])?;
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        // CAP_NET_ADMIN is 12, CAP_NET_RAW is 13.
        let expected = format!("{set}:\t{:016x}", 1 << 12 | 1 << 13);
        ensure!(process.contains(&expected), "{expected}, but\n{process}");
    }
    ensure!(process.contains("NoNewPrivs:\t1") && !process.contains("Uid:\t0"), "{process}");
    let journal = guest.run(&["journalctl", "--no-pager", "-u", "director", "-p", "info", "-o", "json"])?;
    let ready = journal.lines().find(|line| line.contains("director is ready")).context(|| "no such line")?;
    ensure!(ready.contains("\"PRIORITY\":\"6\""), "{ready}");

    // Manual pages and completions are where they are looked for.
    for file in [
        "/usr/share/man/man8/director.8.gz",
        "/usr/share/man/man8/director-check.8.gz",
        "/usr/share/man/man1/directorctl.1.gz",
        "/usr/share/man/man1/directorctl-service-add.1.gz",
        "/usr/share/bash-completion/completions/directorctl",
        "/usr/share/zsh/vendor-completions/_directorctl",
        "/usr/share/fish/vendor_completions.d/directorctl.fish",
        "/usr/share/doc/director/copyright",
    ] {
        // `minbase` keeps all of /usr/share.
        guest.run(&["test", "-s", file])?;
    }

    // With no more rights than these, all that needs some works: taps, mirrors, packet sockets, nftables.
    restart_with(&guest, "[[port]]\ndevice = \"net_tap0,iface=dtap0\"\nmirror = \"dir0\"\n")?;
    guest.run(&["ip", "address", "add", "192.0.2.1/24", "dev", "dir0"])?;
    guest.run(&["directorctl", "service", "add", "tcp", "192.0.2.80:80"])?;
    guest.run(&["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb"])?;
    guest.run(&["ip", "link", "set", "va", "up"])?;
    restart_with(
        &guest,
        "[[port]]\ndevice = \"net_af_packet0,iface=va\"\n[[service]]\nprotocol = \"tcp\"\naddress = \"192.0.2.80:80\"\n",
    )?;
    let ruleset = guest.run(&["nft", "list", "ruleset"])?;
    ensure!(ruleset.contains("192.0.2.80"), "no guard: {ruleset}");

    // A reload applies the file, which is kept, and needs no restart.
    let pid = property(&guest, "MainPID")?;
    guest.run(&["sh", "-c", "sed -i s/192.0.2.80:80/192.0.2.80:81/ /etc/director/director.toml"])?;
    guest.run(&["systemctl", "reload", "director"])?;
    wait_until("the reload", Duration::from_secs(5), || {
        Ok(guest.run(&["directorctl", "service", "list"])?.contains("192.0.2.80:81"))
    })?;
    ensure!(property(&guest, "MainPID")? == pid, "it was restarted");
    let kept = guest.run(&["ls", "/var/lib/director/history"])?;
    ensure!(!kept.trim().is_empty(), "no version is kept");

    // Metrics, for those who may look and no more.
    guest.run(&["systemctl", "start", "director-exporter"])?;
    let scrape = "exec 3<>/dev/tcp/127.0.0.1/9750; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    wait_until("metrics", Duration::from_secs(10), || {
        let output = guest.output(&["bash", "-c", scrape])?;
        Ok(String::from_utf8_lossy(&output.stdout).contains("director_up 1"))
    })?;
    guest.run(&["ip", "link", "delete", "va"])?;

    // A bad configuration is not tried again and again.
    write(&guest, "/etc/director/director.toml", "nonsense")?;
    let output = guest.output(&["systemctl", "restart", "director"])?;
    ensure!(!output.status.success(), "it starts with nonsense");
    let restarts = property(&guest, "NRestarts")?;
    ensure!(restarts == "0", "{restarts} restarts with a bad configuration");

    // Hugepages come and go with their unit.
    let pages = || -> Result<u64> {
        let text = guest.run(&["cat", "/proc/sys/vm/nr_hugepages"])?;
        text.trim().parse().context(|| format!("{text} hugepages"))
    };
    let had = pages()?;
    guest.run(&["mkdir", "/etc/systemd/system/director-hugepages.service.d"])?;
    write(
        &guest,
        "/etc/systemd/system/director-hugepages.service.d/override.conf",
        "[Service]\nEnvironment=PAGES=4\n",
    )?;
    guest.run(&["systemctl", "daemon-reload"])?;
    guest.run(&["systemctl", "start", "director-hugepages"])?;
    ensure!(pages()? == had + 4, "{} hugepages, and {had} before", pages()?);

    guest.run(&["apt-get", "-qq", "purge", "--yes", "--autoremove", "director"])?;
    ensure!(pages()? == had, "{} hugepages, and {had} before", pages()?);
    wait_until("what it left to go", Duration::from_secs(5), || Ok(files(&guest)? == before)).or_else(
        |_| {
            let after = files(&guest)?;
            let (left, gone): (Vec<_>, Vec<_>) =
                (after.difference(&before).collect(), before.difference(&after).collect());
            testbed::fail!("it left {left:?} behind and took {gone:?} away")
        },
    )?;
    guest.halt()
}
