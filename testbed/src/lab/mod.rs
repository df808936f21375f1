//! A lab: machines made of network namespaces, wired as docs/lab.md draws them, that vanish with their guard.
//!
//! ```text
//! client --- sw0 --- dtap0 [ director ] dtap1 --- sw1 --- real1, real2, real3 ...
//!             |                                    |
//!             +------------- router ---------------+      (the way back for DR and TUN)
//! ```
//!
//! Nothing of a lab is outside its namespaces and its directory `/run/dlab-PID-N`, so that a lab whose process
//! was killed can be found and removed by a later run ([`reap::reap`], which every new lab calls first).

pub mod browser;
pub mod config;
pub mod daemon;
pub mod directorctl;
mod directory;
pub mod exporter;
pub mod ipvsadm;
mod machine;
pub mod namespace;
pub mod plan;
pub mod process;
pub mod programs;
pub mod real_server;
pub mod reap;
mod session;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use directory::Directory;
use namespace::Namespace;
use process::{Process, wait_until};
use real_server::RealServer;

use crate::error::Result;
use crate::{ensure, fail};

/// Size of the file `/large` that every real server's nginx hands out.
pub const LARGE_FILE: usize = 20 << 20;

/// The director's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// `net_tap`: the kernel ends `dtap0` and `dtap1` are put into switches when they appear.
    Tap,
    /// `net_af_packet` on the interfaces `port0` and `port1`, which the kernel keeps.
    AfPacket,
}

/// How packets of DR and TUN real servers find back to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayBack {
    /// By a router beside the director, as in a data centre: the director sees one direction only.
    Router,
    /// By the director's kernel, that is through both ports and both mirrors.
    Director,
}

/// What a lab is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    ports: Ports,
    way_back: WayBack,
    real_servers: u8,
    client_addresses: u8,
    mirrors: bool,
    narrow_paths: bool,
    standing: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            ports: Ports::Tap,
            way_back: WayBack::Router,
            real_servers: 3,
            client_addresses: 0,
            mirrors: true,
            narrow_paths: false,
            standing: false,
        }
    }
}

impl Plan {
    /// The kind of ports; `net_tap` unless said otherwise.
    #[must_use]
    pub fn ports(mut self, ports: Ports) -> Self {
        self.ports = ports;
        self
    }

    /// The way back for DR and TUN; by the router unless said otherwise.
    #[must_use]
    pub fn way_back(mut self, way_back: WayBack) -> Self {
        self.way_back = way_back;
        self
    }

    /// The number of real servers, 1..=89; three unless said otherwise.
    #[must_use]
    pub fn real_servers(mut self, number: u8) -> Self {
        self.real_servers = number;
        self
    }

    /// How many addresses from 10.0.1.100 and 2001:db8:1::100 on the client has beside its first ones; none unless
    /// said otherwise.
    #[must_use]
    pub fn client_addresses(mut self, number: u8) -> Self {
        self.client_addresses = number;
        self
    }

    /// Gives the client and each real server more addresses of each version, which packets reach only by the router
    /// and a narrow link behind it: [`plan::far_client`], [`plan::far_real_server`]. What is too long for it, the
    /// router tells by ICMP.
    #[must_use]
    pub fn narrow_paths(mut self) -> Self {
        self.narrow_paths = true;
        self
    }

    /// Leaves it to the director to create the mirrors `dir0` and `dir1`; nobody gives them addresses then.
    #[must_use]
    pub fn without_mirrors(mut self) -> Self {
        self.mirrors = false;
        self
    }

    /// Makes the one lab that stands by itself and outlives this process: its namespaces are called
    /// `lab-client` and so on. [`reap::remove`] takes it down.
    #[must_use]
    pub fn standing(mut self) -> Self {
        self.standing = true;
        self
    }

    /// Stands the lab up, with all programs of all real servers answering.
    ///
    /// # Errors
    /// When not root, when a program that is needed is missing, or when the kernel refuses something.
    pub fn build(self) -> Result<Lab> {
        Lab::build(self)
    }
}

/// A lab that stands. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: programs and machines first, then the directory, then the turn.
    real_servers: Vec<RealServer>,
    client: Namespace,
    router: Namespace,
    director: Namespace,
    switches: Option<Namespace>,
    directory: Directory,
    plan: Plan,
    _turn: MutexGuard<'static, ()>,
}

/// Labs of one process stand one at a time: on a small machine two would disturb each other's timing.
static TURN: Mutex<()> = Mutex::new(());

impl Lab {
    /// What a lab can be like.
    #[must_use]
    pub fn plan() -> Plan {
        Plan::default()
    }

    fn build(plan: Plan) -> Result<Lab> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(
            rustix::process::geteuid().is_root(),
            "a lab needs root, for network namespaces; run this as root"
        );
        reap::reap();
        let prefix = if plan.standing { reap::STANDING.to_owned() } else { reap::new_prefix() };
        if plan.standing {
            ensure!(!reap::standing(), "a lab stands already; take it down first: testbed lab down");
        }
        let directory = Directory::create(&prefix, plan.standing)?;
        let make = |role: &str| Namespace::create(&prefix, role, directory.path(), plan.standing);
        let (director, client, router) = (make("director")?, make("client")?, make("router")?);
        // A kernel end of net_tap must be in a switch where it appears, which is the director's namespace.
        let switches = match plan.ports {
            Ports::Tap => None,
            Ports::AfPacket => Some(make("switches")?),
        };
        let host = switches.as_ref().unwrap_or(&director);
        wire::switch(host, "sw0")?;
        wire::switch(host, "sw1")?;
        wire::plug(&client, "eth0", host, "sw0", "client")?;
        wire::plug(&router, "eth0", host, "sw0", "router0")?;
        wire::plug(&router, "eth1", host, "sw1", "router1")?;
        if plan.ports == Ports::AfPacket {
            wire::plug(&director, "port0", host, "sw0", "director0")?;
            wire::plug(&director, "port1", host, "sw1", "director1")?;
        }
        machine::client(&client, &plan)?;
        machine::router(&router, &plan)?;
        machine::director(&director, &plan)?;
        let mut lab = Lab {
            real_servers: Vec::new(),
            client,
            router,
            director,
            switches,
            directory,
            plan,
            _turn: turn,
        };
        for number in 1..=lab.plan.real_servers {
            let server = lab.new_real_server(&prefix, number)?;
            lab.real_servers.push(server);
        }
        if lab.plan.ports == Ports::AfPacket {
            // What a packet socket reads must be whole (see there).
            lab.client.transmit_offload_off("eth0")?;
            lab.director.transmit_offload_off("port0")?;
            lab.director.transmit_offload_off("port1")?;
            for server in &lab.real_servers {
                server.namespace().transmit_offload_off("eth0")?;
            }
        }
        for server in &mut lab.real_servers {
            server.wait_ready()?;
        }
        Ok(lab)
    }

    fn new_real_server(&self, prefix: &str, number: u8) -> Result<RealServer> {
        let name = plan::real_server_name(number);
        let namespace = Namespace::create(prefix, &name, self.directory(), self.plan.standing)?;
        wire::plug(&namespace, "eth0", self.switch_host(), "sw1", &name)?;
        let mut server = RealServer::configure(namespace, number, &self.plan)?;
        server.start_programs(self.directory(), &self.large_file())?;
        Ok(server)
    }

    fn switch_host(&self) -> &Namespace {
        self.switches.as_ref().unwrap_or(&self.director)
    }

    /// The machine that asks.
    #[must_use]
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The machine that the director runs on.
    #[must_use]
    pub fn director(&self) -> &Namespace {
        &self.director
    }

    /// The machine by which replies of DR and TUN real servers go back.
    #[must_use]
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The real servers in order.
    #[must_use]
    pub fn real_servers(&self) -> &[RealServer] {
        &self.real_servers
    }

    /// The kind of its ports.
    #[must_use]
    pub fn ports(&self) -> Ports {
        self.plan.ports
    }

    /// Where its configurations, logs and sockets are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of the director's control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory().join("director.sock")
    }

    /// The original of the file `/large` that the real servers hand out.
    #[must_use]
    pub fn large_file(&self) -> PathBuf {
        self.directory.large_file()
    }

    /// Puts the kernel ends of net_tap ports into their switches, as soon as `process` has made them.
    ///
    /// # Errors
    /// When they do not appear within twenty seconds, or the process ends.
    pub fn plug_in_taps(&self, process: &mut Process) -> Result<()> {
        let taps = [("dtap0", "sw0", "02:d1:00:00:00:00"), ("dtap1", "sw1", "02:d1:00:00:00:01")];
        for (tap, switch, address) in taps {
            wait_until(&format!("{tap} to appear"), Duration::from_secs(20), || {
                if let Some(status) = process.status()? {
                    fail!("it ended with {status} before it made {tap}:\n{}", process.log_tail(30));
                }
                self.director.has_interface(tap)
            })?;
            // The kernel end carries the port's own address, which the switch would take for its own.
            self.director.ip(&[
                &format!("link set {tap} address {address}"),
                &format!("link set {tap} master {switch} up"),
            ])?;
        }
        Ok(())
    }
}
