//! A real server: a namespace with its address, the VIPs it answers for, and the programs that answer.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::namespace::Namespace;
use super::plan::{self, v6};
use super::process::{Process, run, wait_until};
use super::{Plan, WayBack, programs};
use crate::error::{Context as _, Result};

/// How long a program of a real server may take until it answers.
const START: Duration = Duration::from_secs(10);

/// One real server. Its programs: nginx, a TCP echo, a UDP echo, and the far end of tunnels.
#[derive(Debug)]
pub struct RealServer {
    // Programs end before their machine does: fields drop in order.
    programs: Vec<Process>,
    namespace: Namespace,
    name: String,
    number: u8,
}

impl RealServer {
    /// Gives the namespace with its plugged-in interface `eth0` its addresses and routes.
    ///
    /// The default route leads to the director, because replies of NAT must cross it. Replies from the VIPs
    /// of DR and TUN go by a router beside the director or the director's own kernel, as the lab's plan says.
    pub(super) fn configure(namespace: Namespace, number: u8, lab: &Plan) -> Result<Self> {
        let way_back: (Ipv4Addr, Ipv6Addr) = match lab.way_back {
            WayBack::Router => (plan::ROUTER_SERVER_SIDE, v6::ROUTER_SERVER_SIDE),
            WayBack::Director => (plan::DIRECTOR_SERVER_SIDE, v6::DIRECTOR_SERVER_SIDE),
        };
        // The VIPs are there for DR and TUN, but nobody must learn about it by ARP. Set before the addresses are.
        // IPv6 tells of no address but those of the interface that was asked on, and these are on lo.
        namespace.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
        namespace.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
        namespace.ip(&[
            &format!("addr add {}/24 dev eth0", plan::real_server(number)),
            &format!("addr add {}/64 dev eth0", v6::real_server(number)),
            "link set eth0 up",
            &format!("route add default via {}", plan::DIRECTOR_SERVER_SIDE),
            &format!("route add default via {} table 100", way_back.0),
        ])?;
        namespace.ip_v6(&[
            &format!("route add default via {}", v6::DIRECTOR_SERVER_SIDE),
            &format!("route add default via {} table 100", way_back.1),
        ])?;
        for vip in [plan::VIP_DR, plan::VIP_TUN] {
            namespace
                .ip(&[&format!("addr add {vip}/32 dev lo"), &format!("rule add from {vip} lookup 100")])?;
        }
        for vip in [v6::VIP_DR, v6::VIP_TUN] {
            namespace.ip_v6(&[
                &format!("addr add {vip}/128 dev lo"),
                &format!("rule add from {vip} lookup 100"),
            ])?;
        }
        if lab.narrow_paths {
            namespace.ip(&[
                &format!("addr add {}/32 dev lo", plan::far_real_server(number)),
                &format!("addr add {}/128 dev lo", v6::far_real_server(number)),
            ])?;
        }
        Ok(RealServer { programs: Vec::new(), namespace, name: plan::real_server_name(number), number })
    }

    /// Its name, which is in all its answers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own address (RIP).
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        plan::real_server(self.number)
    }

    /// Its own address of IPv6.
    #[must_use]
    pub fn address_v6(&self) -> Ipv6Addr {
        v6::real_server(self.number)
    }

    /// Its machine.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts all its programs. They are not ready yet; see [`Self::wait_ready`].
    pub(super) fn start_programs(&mut self, directory: &Path, large_file: &Path) -> Result<()> {
        let testbed = programs::find("testbed")?;
        let nginx = self.nginx(directory, large_file)?;
        let mut decap = self.namespace.command(&testbed);
        decap.args(["decap", "--device", "tun0"]);
        decap.args(["--vip", &plan::VIP_TUN.to_string(), "--vip", &v6::VIP_TUN.to_string()]);
        let mut tcp = self.namespace.command(&testbed);
        tcp.args(["tcp-echo", "--name", &self.name]);
        for port in [plan::ECHO, plan::ECHO_NAT] {
            tcp.args(["--listen", &format!("[::]:{port}")]);
        }
        let mut udp = self.namespace.command(&testbed);
        udp.args(["udp-echo", "--name", &self.name]);
        // Bound to one address each, so that an answer leaves with the address that was asked.
        let sockets: [(IpAddr, u16); 8] = [
            (self.address().into(), plan::ECHO_NAT),
            (self.address().into(), plan::ECHO),
            (plan::VIP_DR.into(), plan::ECHO),
            (plan::VIP_TUN.into(), plan::ECHO),
            (self.address_v6().into(), plan::ECHO_NAT),
            (self.address_v6().into(), plan::ECHO),
            (v6::VIP_DR.into(), plan::ECHO),
            (v6::VIP_TUN.into(), plan::ECHO),
        ];
        for (address, port) in sockets {
            udp.args(["--listen", &SocketAddr::new(address, port).to_string()]);
        }
        self.programs = vec![
            nginx,
            self.namespace.spawn("decap", &mut decap)?,
            self.namespace.spawn("tcp-echo", &mut tcp)?,
            self.namespace.spawn("udp-echo", &mut udp)?,
        ];
        Ok(())
    }

    /// Waits until every program answers.
    pub(super) fn wait_ready(&mut self) -> Result<()> {
        let (nginx, others) = self.programs.split_at_mut(1);
        for program in others {
            program.wait_for_text("ready", START)?;
        }
        // nginx does not say that it is ready, so ask it.
        let what = format!("nginx in {} to listen", self.name);
        let namespace = &self.namespace;
        wait_until(&what, START, || {
            if let Some(status) = nginx[0].status()? {
                crate::fail!("nginx in {} ended with {status}:\n{}", namespace.role(), nginx[0].log_tail(20));
            }
            namespace.enter(|| std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, plan::WEB)).is_ok())
        })
    }

    fn nginx(&self, directory: &Path, large_file: &Path) -> Result<Process> {
        let home = directory.join(format!("{}-nginx", self.name));
        let pages = home.join("pages");
        fs::create_dir_all(&pages).context(|| format!("cannot create {}", pages.display()))?;
        fs::hard_link(large_file, pages.join("large")).context(|| "cannot give nginx the large file")?;
        let config = home.join("nginx.conf");
        fs::write(&config, nginx_config(&self.name, &home))
            .context(|| format!("cannot write {}", config.display()))?;
        // A bad configuration is told here, not guessed from a server that does not answer.
        let errors = home.join("error.log");
        let mut check = self.namespace.command("nginx");
        check.arg("-t").arg("-q").arg("-c").arg(&config).arg("-e").arg(&errors);
        run(&mut check, START)?;
        let mut command = self.namespace.command("nginx");
        command.arg("-c").arg(&config).arg("-e").arg(&errors);
        self.namespace.spawn("nginx", &mut command)
    }
}

/// nginx that keeps to `home`, says which real server it is, and closes no idle connection by itself.
fn nginx_config(name: &str, home: &Path) -> String {
    let path = |leaf: &str| -> PathBuf { home.join(leaf) };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {};\n", path(&format!("tmp-{kind}")).display()))
        .concat();
    format!(
        r#"# The worker stays root: the directory of the lab belongs to root.
user root;
daemon off;
worker_processes 1;
pid {pid};
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}  keepalive_timeout 1h;
  keepalive_requests 1000000;
  default_type text/plain;
  server {{
    client_max_body_size 1g;
    listen {web} backlog=4096;
    listen {web_nat} backlog=4096;
    listen [::]:{web} backlog=4096;
    listen [::]:{web_nat} backlog=4096;
    add_header X-Real-Server {name} always;
    add_header X-Client $remote_addr always;
    location / {{ return 200 "{name}\n"; }}
    location = /large {{ root {pages}; }}
  }}
}}
"#,
        pid = path("nginx.pid").display(),
        pages = path("pages").display(),
        web = plan::WEB,
        web_nat = plan::WEB_NAT,
    )
}
