//! FTP by NAT: vsftpd behind the director, curl before it, data connections both ways, over two lcores.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::model::ForwardingMethod::Nat;
use control::model::Scheduler;
use testbed::ensure;
use testbed::error::{Context as _, Result};
use testbed::lab::config::Service;
use testbed::lab::plan::v6;
use testbed::lab::process::Process;
use testbed::lab::{Lab, plan};

const START: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(120);
/// Transfers at a time.
const AT_ONCE: usize = 20;
/// Bytes in each of them.
const LENGTH: usize = 50_000_000;

/// A lab with an FTP server on each real server, and the director of a service for them.
struct Session {
    // Ended before the lab is.
    _servers: Vec<Process>,
    lab: Lab,
    file: PathBuf,
}

/// A directory of the FTP user's, who may read and, below `in`, write.
fn pages(lab: &Lab, name: &str, file: &Path) -> Result<PathBuf> {
    let root = lab.directory().join(format!("{name}-ftp"));
    let (inward, empty) = (root.join("in"), root.join("empty"));
    for directory in [&inward, &empty] {
        fs::create_dir_all(directory).context(|| format!("cannot create {}", directory.display()))?;
    }
    fs::set_permissions(&inward, fs::Permissions::from_mode(0o777)).context(|| "cannot open a directory")?;
    for n in 1..=AT_ONCE {
        fs::hard_link(file, root.join(format!("file{n}"))).context(|| "cannot give vsftpd the file")?;
    }
    Ok(root)
}

fn start_server(lab: &Lab, number: usize, file: &Path) -> Result<Process> {
    let server = &lab.real_servers()[number];
    let root = pages(lab, server.name(), file)?;
    let config = root.with_extension("conf");
    let text = format!(
        "listen_ipv6=YES\nbackground=NO\nanonymous_enable=YES\nno_anon_password=YES\nwrite_enable=YES\n\
         anon_upload_enable=YES\nanon_root={0}\nsecure_chroot_dir={0}/empty\nconnect_from_port_20=YES\n\
         seccomp_sandbox=NO\nisolate=NO\nisolate_network=NO\nxferlog_enable=NO\n",
        root.display()
    );
    fs::write(&config, text).context(|| format!("cannot write {}", config.display()))?;
    let mut command = server.namespace().command("vsftpd");
    command.arg(&config);
    server.namespace().spawn("vsftpd", &mut command)
}

fn session() -> Result<Session> {
    let lab = Lab::plan().build()?;
    let pattern = fs::read(lab.large_file()).context(|| "cannot read the large file")?;
    let file = lab.directory().join("file");
    let content: Vec<u8> = pattern.iter().copied().cycle().take(LENGTH).collect();
    fs::write(&file, content).context(|| "cannot write a file")?;
    let servers = (0..3).map(|number| start_server(&lab, number, &file)).collect::<Result<Vec<_>>>()?;
    for server in lab.real_servers() {
        let listens = || server.namespace().enter(|| std::net::TcpStream::connect(("::1", 21)).is_ok());
        testbed::lab::process::wait_until("vsftpd to listen", START, listens)?;
    }
    Ok(Session { _servers: servers, lab, file })
}

impl Session {
    fn curl(&self, arguments: &str) -> Result<()> {
        let line = format!("curl -sS --globoff --max-time 100 {arguments}");
        self.lab.client().exec(&line, PATIENCE).map(drop)
    }

    /// A file that came, or that real servers got, is what was sent; it is removed then.
    fn is_intact(&self, path: &Path) -> Result<()> {
        let read = |path: &Path| fs::read(path).context(|| format!("cannot read {}", path.display()));
        ensure!(read(path)? == read(&self.file)?, "{} was changed on the way", path.display());
        fs::remove_file(path).context(|| "cannot remove a file")
    }

    /// Downloads one file and uploads one, with these options of curl.
    fn transfers(&self, vip: impl Into<IpAddr>, name: &str, options: &str) -> Result<()> {
        let host = plan::url(vip, 21, "/").replacen("http", "ftp", 1);
        let copy = self.lab.directory().join("copy");
        self.curl(&format!("{options} -o {} {host}file1", copy.display()))?;
        self.is_intact(&copy)?;
        self.curl(&format!("{options} -T {} {host}in/{name}", self.file.display()))?;
        self.uploads_are_intact(1)
    }

    /// So many files were uploaded, to whichever real server.
    fn uploads_are_intact(&self, number: usize) -> Result<()> {
        let mut found = 0;
        for server in self.lab.real_servers() {
            let inward = self.lab.directory().join(format!("{}-ftp/in", server.name()));
            for entry in fs::read_dir(&inward).context(|| "cannot read a directory")? {
                self.is_intact(&entry.context(|| "cannot read a directory")?.path())?;
                found += 1;
            }
        }
        ensure!(found == number, "{found} files were uploaded, not {number}");
        Ok(())
    }
}

#[test]
fn files_come_and_go_by_passive_and_active_ftp() -> Result<()> {
    let session = session()?;
    let lab = &session.lab;
    let ftp = |vip: IpAddr| Service::tcp(vip, 21, Scheduler::Rr).lab_servers(lab, 21, Nat, &[1, 1, 1]);
    let config = lab.config().cpus(&[0, 1]).with(ftp(plan::VIP_NAT.into())).with(ftp(v6::VIP_NAT.into()));
    let director = lab.start_director(&config)?;

    // PASV, EPSV, PORT, EPRT; the second and the last by both versions of IP.
    let ways = [
        ("pasv", "--disable-epsv --ftp-skip-pasv-ip"),
        ("epsv", ""),
        ("port", "-P - --disable-eprt"),
        ("eprt", "-P -"),
    ];
    for (name, options) in ways {
        // Without it, curl goes to the address that the answer names: the virtual one, or nothing is transferred.
        session.transfers(
            plan::VIP_NAT,
            name,
            &options.replace("--ftp-skip-pasv-ip", "--no-ftp-skip-pasv-ip"),
        )?;
    }
    for (name, options) in [("epsv6", ""), ("eprt6", "-P -")] {
        session.transfers(v6::VIP_NAT, name, options)?;
    }

    // All at once, by PASV.
    let copies = lab.directory().join("copies");
    fs::create_dir(&copies).context(|| "cannot create a directory")?;
    let each = |text: &dyn Fn(usize) -> String| (1..=AT_ONCE).map(text).collect::<Vec<_>>().join(" ");
    let passive = "--disable-epsv --no-ftp-skip-pasv-ip --parallel --parallel-max 20 --parallel-immediate";
    let all = each(&|n| format!("-o {}/copy{n} ftp://10.99.0.1/file{n}", copies.display()));
    session.curl(&format!("{passive} {all}"))?;
    for n in 1..=AT_ONCE {
        session.is_intact(&copies.join(format!("copy{n}")))?;
    }
    let all = each(&|n| format!("-T {} ftp://10.99.0.1/in/up{n}", session.file.display()));
    session.curl(&format!("{passive} {all}"))?;
    session.uploads_are_intact(AT_ONCE)?;

    let service = director.ctl().services()?.services.into_iter().find(|s| s.service.ip().is_ipv4());
    for server in &service.context(|| "there is no FTP service")?.servers {
        ensure!(server.counters.connections >= 20, "control and data connections count: {server:?}");
    }
    director.ctl().conserved()?;
    director.stop()?;
    Ok(())
}
