//! Everything that a running director holds, in the order in which it is made; it goes in the opposite
//! order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use control::config::{self, Config, Mirror as MirrorKind, PortDevice};
use control::protocol::BindError;

use crate::connection::{Capacity, Tables};
use crate::dpdk::{
    DpdkError, Eal, EalOptions, Hugepages, Mbuf, MbufPool, PoolConfig, Port, PortConfig, PortQueues, Running,
    Spread, register_thread, tsc, tsc_hz,
};
use crate::ftp::FtpPorts;
use crate::id::{LcoreId, PortId};
use crate::kernel;
use crate::kernel::ingress::{IngressError, IngressGuard};
use crate::kernel::mirror::{Mirror, MirrorError};
use crate::kernel::netlink::{Netlink, NetlinkError};
use crate::kernel::slow_path::{MirroredPort, SlowPath, SlowPathCounters};
use crate::lcore::clock::{Clock, Nanos};
use crate::lcore::query::QueryBox;
use crate::lcore::{Exception, Idle, Lcore, LcoreParts, LcorePort, hand_over_rings};
use crate::nexthop::{Neighbour, PortLink};
use crate::persistence::Templates;
use crate::pipeline::{MAX_BURST, Pipeline};
use crate::service::{Compiler, MarkRules, Publisher};
use crate::stats::{Fleet, LcoreCounters, QueueCounters};

/// Packets in the ring from one lcore to another.
const HAND_OVER_RING: usize = 1024;
/// Packets in a ring between an lcore and the slow path.
const SLOW_PATH_RING: usize = 1024;
/// Wishes of an lcore for neighbours' addresses.
const WANTED_RING: usize = 64;
/// Free mbufs that an lcore keeps for itself.
const MBUF_CACHE: u32 = 256;
/// Numbers for real servers beyond those that may be configured: removed ones keep theirs while
/// connections to them live.
const SPARE_SERVERS: usize = 1024;

/// Why a director does not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The control socket.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// EAL, a pool or a port.
    #[error(transparent)]
    Dpdk(#[from] DpdkError),
    /// A mirror interface.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// Netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The guard on interfaces that the kernel keeps.
    #[error(transparent)]
    Ingress(#[from] IngressError),
    /// The kernel's interface of a port.
    #[error(
        "port {port} ({device}): the kernel has no interface {interface}: create it, or correct the device in [[port]]"
    )]
    NoInterface {
        /// The port.
        port: usize,
        /// Its device.
        device: String,
        /// The interface.
        interface: String,
    },
    /// The table of connections.
    #[error(
        "no memory for {capacity} connections on each of {lcores} lcores: {error}: lower connections.capacity"
    )]
    Table {
        /// Connections for each lcore.
        capacity: u32,
        /// How many lcores.
        lcores: usize,
        /// What the kernel says.
        error: std::io::Error,
    },
    /// Threads, timers, signals.
    #[error("cannot run: {0}")]
    Runtime(String),
    /// The first snapshot.
    #[error(transparent)]
    Exhausted(#[from] crate::service::Exhausted),
    /// A worker lcore is gone.
    #[error("worker lcore {0} ended by itself: this is a defect of the director; its log says more")]
    WorkerEnded(u8),
}

/// A port, for listings and for next hops.
pub(super) struct OpenPort {
    pub(super) port: Port,
    /// Of its receive queues, by number.
    pub(super) counters: Arc<[QueueCounters]>,
    /// The kernel's interface of the port.
    pub(super) link: Option<PortLink>,
    /// Its name.
    pub(super) interface: Option<String>,
}

/// An lcore that is ready to run, and what runs it.
type Ready = Lcore<PortQueues>;

/// What the control thread needs of the lcores.
pub(super) struct Handles {
    pub(super) publisher: Publisher,
    pub(super) compiler: Compiler,
    pub(super) fleet: Fleet,
    pub(super) queries: Vec<Arc<QueryBox>>,
    pub(super) ports: Arc<Vec<OpenPort>>,
    pub(super) guard: Option<IngressGuard>,
    pub(super) netlink: Arc<Netlink>,
    pub(super) templates: Arc<Templates>,
    pub(super) clock: Clock,
    pub(super) slow_path: Option<Arc<SlowPathCounters>>,
    pub(super) cpus: Vec<u32>,
}

/// A director that is started: its lcores may run.
pub(super) struct Started {
    // Dropped from the top: threads first, then what they use.
    running: Vec<Running<()>>,
    stop: Arc<AtomicBool>,
    ready: Vec<Ready>,
    slow_path: Option<SlowPath>,
    wanted: Vec<rtrb::Consumer<Neighbour>>,
    handles: Option<Handles>,
    netlink: Arc<Netlink>,
    idle: Idle,
    clock: Clock,
    ports: Arc<Vec<OpenPort>>,
    eal: Eal,
}

/// Makes everything but running lcores.
pub(super) async fn start(config: &Config) -> Result<Started, StartError> {
    let eal = Eal::init(&eal_options(config))?;
    let lcores = eal.workers();
    let cpus = worker_cpus(&eal);
    let clock = Clock::new(tsc(), tsc_hz());
    let hugepages = eal.hugepages();
    tracing::info!(dpdk = Eal::version(), lcores, hugepages, "EAL has started");

    let pool = MbufPool::new(&eal, &pool_config(config, lcores))?;
    let (mut ports, mut mirrors) = (Vec::new(), Vec::new());
    for (n, wanted) in config.ports.iter().enumerate() {
        let (port, mirror) = open_port(&eal, &pool, n, wanted, lcores)?;
        mirrors.push(mirror);
        ports.push(port);
    }
    let kept = config.ports.iter().enumerate().filter_map(|(n, port)| Some((n, kept_interface(port)?)));
    let guarded: Vec<(usize, String)> = kept.collect();
    let guard = if guarded.is_empty() {
        None
    } else {
        Some(IngressGuard::new(guarded, config.marks.clone(), &config.ftp_ports)?)
    };
    let netlink = Arc::new(Netlink::start().await?);

    let servers = config.limits.servers + SPARE_SERVERS;
    let fleet = Fleet::new((0..lcores).map(|_| Arc::new(LcoreCounters::new(servers))).collect());
    let rules = MarkRules::new(config.marks.clone());
    let compiler = Compiler::new(config.limits.services, servers, fleet.clone())
        .marking(rules)
        .reading_ftp_at(FtpPorts::new(&config.ftp_ports));
    let (publisher, readers) = Publisher::new(lcores, Compiler::empty_snapshot(1));

    let mut slow_path_ports = Vec::new();
    let mut exceptions: Vec<Vec<Exception<Mbuf>>> = (0..lcores).map(|_| Vec::new()).collect();
    let mut from_kernel = Vec::new();
    for (n, mirror) in mirrors.into_iter().enumerate() {
        let kept = kept_interface(&config.ports[n]).is_some();
        let Some(mirror) = mirror else {
            for lcore in &mut exceptions {
                lcore.push(if kept { Exception::KernelHasIt } else { Exception::None });
            }
            from_kernel.push(None);
            continue;
        };
        let mut to_kernel = Vec::new();
        for lcore in &mut exceptions {
            let (give, take) = rtrb::RingBuffer::new(SLOW_PATH_RING);
            lcore.push(Exception::Mirror(give));
            to_kernel.push(take);
        }
        let (give, take) = rtrb::RingBuffer::new(SLOW_PATH_RING);
        from_kernel.push(Some(take));
        slow_path_ports.push(MirroredPort { mirror, to_kernel, from_kernel: give });
    }
    let slow_path = if slow_path_ports.is_empty() {
        None
    } else {
        let thread_eal = eal.clone();
        let at_start = move || register_thread(&thread_eal).inspect_err(|error| tracing::warn!(%error)).ok();
        let spawned = SlowPath::spawn(slow_path_ports, pool.clone(), at_start);
        Some(spawned.map_err(|error| StartError::Runtime(error.to_string()))?)
    };

    let templates = Arc::new(Templates::new(config.connections.templates as usize));
    let mut parts = Parts {
        config,
        clock,
        hugepages,
        fleet: &fleet,
        templates: &templates,
        ports: &mut ports,
        from_kernel,
    };
    let (mut ready, mut wanted, mut queries) = (Vec::new(), Vec::new(), Vec::new());
    let rings = hand_over_rings(lcores, HAND_OVER_RING);
    for (n, ((snapshots, exceptions), rings)) in readers.into_iter().zip(exceptions).zip(rings).enumerate() {
        let (want, take) = rtrb::RingBuffer::new(WANTED_RING);
        let query = Arc::new(QueryBox::default());
        ready.push(Lcore::new(LcoreParts {
            pipeline: parts.pipeline(n, lcores)?,
            snapshots,
            ports: parts.ports(n, lcores, exceptions)?,
            hand_over: rings.0,
            taken_over: rings.1,
            wanted: want,
            queries: query.clone(),
        }));
        wanted.push(take);
        queries.push(query);
    }

    let ports = Arc::new(ports);
    let handles = Handles {
        publisher,
        compiler,
        fleet,
        queries,
        ports: ports.clone(),
        guard,
        netlink: netlink.clone(),
        templates,
        clock,
        slow_path: slow_path.as_ref().map(|s| s.counters().clone()),
        cpus,
    };
    Ok(Started {
        running: Vec::new(),
        stop: Arc::default(),
        ready,
        slow_path,
        wanted,
        handles: Some(handles),
        netlink,
        idle: idle(config),
        clock,
        ports,
        eal,
    })
}

fn worker_cpus(eal: &Eal) -> Vec<u32> {
    (0..eal.workers()).filter_map(|n| eal.worker_cpu(LcoreId(n as u8))).collect()
}

impl Started {
    /// What the control thread works with; given once.
    pub(super) fn take_handles(&mut self) -> Option<Handles> {
        self.handles.take()
    }

    /// The CPU of each worker lcore.
    pub(super) fn worker_cpus(&self) -> Vec<u32> {
        worker_cpus(&self.eal)
    }

    pub(super) fn netlink(&self) -> &Netlink {
        &self.netlink
    }

    /// Lets the lcores run.
    pub(super) fn launch(&mut self) -> Result<(), StartError> {
        for (n, mut lcore) in self.ready.drain(..).enumerate() {
            let (stop, idle, clock) = (self.stop.clone(), self.idle, self.clock);
            let running = self.eal.launch(LcoreId(n as u8), move || {
                // The default slack of 50 µs would make a rest of 20 µs one of 70.
                if let Err(error) = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1)) {
                    tracing::debug!(%error, "timer slack stays as it is");
                }
                let now = || -> Nanos { clock.at(tsc()) };
                lcore.run(now, &stop, idle);
            })?;
            self.running.push(running);
        }
        Ok(())
    }

    /// Neighbours whose Ethernet addresses lcores want.
    pub(super) fn wanted(&mut self) -> Vec<Neighbour> {
        self.wanted.iter_mut().flat_map(|ring| std::iter::from_fn(|| ring.pop().ok())).collect()
    }

    /// A worker lcore that has ended though nobody stopped it.
    pub(super) fn dead_worker(&self) -> Option<u8> {
        self.running.iter().position(Running::is_finished).map(|n| n as u8)
    }

    /// Ends lcores, then the slow path, then gives ports and EAL back.
    pub(super) fn stop(mut self) -> Result<(), StartError> {
        self.stop.store(true, Ordering::Relaxed);
        for running in self.running.drain(..) {
            if let Err(panic) = running.join() {
                tracing::error!(%panic);
            }
        }
        drop(self.slow_path.take());
        tracing::info!(ports = self.ports.len(), "stopped");
        Ok(())
    }
}

pub(super) fn eal_options(config: &Config) -> EalOptions {
    let pci = config.ports.iter().filter(|port| matches!(port.kind, PortDevice::Pci));
    EalOptions {
        hugepages: match config.dpdk.hugepages {
            config::Hugepages::Auto => Hugepages::Auto,
            config::Hugepages::Yes => Hugepages::Yes,
            config::Hugepages::No => Hugepages::No,
        },
        memory_mb: config.dpdk.memory_mb,
        worker_cpus: config.lcores.cpus.clone().unwrap_or_default(),
        pci: pci.map(|port| port.device.clone()).collect(),
        extra_args: config.dpdk.eal_args.clone(),
        ..EalOptions::default()
    }
}

/// Enough mbufs to fill every descriptor ring and every ring between threads, unless told otherwise.
pub(super) fn pool_config(config: &Config, lcores: usize) -> PoolConfig {
    let descriptors: usize = config
        .ports
        .iter()
        .map(|port| {
            (usize::from(port.rx_descriptors) + usize::from(port.tx_descriptors)) * lcores + SLOW_PATH_RING
        })
        .sum();
    let rings =
        lcores * lcores.saturating_sub(1) * HAND_OVER_RING + lcores * (MBUF_CACHE as usize + 4 * MAX_BURST);
    let enough = u32::try_from(descriptors + rings).unwrap_or(u32::MAX).max(4096);
    PoolConfig {
        mbufs: config.dpdk.mbufs.unwrap_or(enough),
        cache: MBUF_CACHE,
        mtu: config.ports.iter().map(|port| port.mtu).max().unwrap_or(1500),
        ..PoolConfig::default()
    }
}

fn idle(config: &Config) -> Idle {
    match config.lcores.idle {
        config::Idle::Poll => Idle::Poll,
        config::Idle::Sleep => Idle::Sleep,
        config::Idle::Auto if config.ports.iter().any(|port| matches!(port.kind, PortDevice::Pci)) => {
            Idle::Poll
        }
        config::Idle::Auto => Idle::Sleep,
    }
}

/// The interface of a port that the kernel keeps.
fn kept_interface(port: &config::Port) -> Option<String> {
    match &port.mirror {
        MirrorKind::KernelKeeps { interface } => Some(interface.clone()),
        MirrorKind::Interface(_) | MirrorKind::None => None,
    }
}

/// What a port is asked for.
pub(super) fn port_config(wanted: &config::Port, lcores: usize) -> PortConfig {
    let is_pci = matches!(wanted.kind, PortDevice::Pci);
    PortConfig {
        rx_queues: lcores as u16,
        tx_queues: lcores as u16,
        rx_descriptors: wanted.rx_descriptors,
        tx_descriptors: wanted.tx_descriptors,
        mtu: wanted.mtu,
        // The director's address is its kernel interface's, which is the port's own only on a NIC.
        promiscuous: !is_pci && kept_interface(wanted).is_none(),
        spread: match wanted.rss {
            config::Rss::Symmetric => Spread::Symmetric,
            config::Rss::Source => Spread::Source,
            config::Rss::Destination => Spread::Destination,
        },
        socket: None,
    }
}

fn open_port(
    eal: &Eal,
    pool: &MbufPool,
    n: usize,
    wanted: &config::Port,
    lcores: usize,
) -> Result<(OpenPort, Option<Mirror>), StartError> {
    let id = PortId(n as u8);
    let is_pci = matches!(wanted.kind, PortDevice::Pci);
    let kept = kept_interface(wanted);
    if let Some(interface) = &kept
        && kernel::interface(interface).is_none()
    {
        return Err(StartError::NoInterface {
            port: n,
            device: wanted.device.clone(),
            interface: interface.clone(),
        });
    }
    let port = Port::open(eal, id, &wanted.device, &port_config(wanted, lcores), pool)?;
    let (mirror, interface, link) = match &wanted.mirror {
        MirrorKind::Interface(name) => {
            let mirror = Mirror::open(name, wanted.mtu, is_pci.then(|| port.mac()))?;
            let link = mirror.link();
            (Some(mirror), Some(name.clone()), Some(link))
        }
        MirrorKind::None => (None, None, None),
        MirrorKind::KernelKeeps { interface } => {
            (None, Some(interface.clone()), kernel::interface(interface))
        }
    };
    let mut queues = String::new();
    if port.rx_queues() > 1 {
        queues = format!(", {} receive queues, RSS: {}", port.rx_queues(), rss_word(&port));
    }
    tracing::info!(port = n, device = wanted.device, mirror = interface, "port is open{queues}");
    let counters = QueueCounters::of_port(port.rx_queues().into());
    let link = link.map(|link| PortLink { port: id, link });
    Ok((OpenPort { port, counters, link, interface }, mirror))
}

/// What a port spreads packets by, in the protocol's words.
pub(super) fn rss_word(port: &Port) -> &'static str {
    port.rss().map_or("none", |rss| rss.spread.word())
}

/// What lcores are made of, as far as it is shared among them.
struct Parts<'a> {
    config: &'a Config,
    clock: Clock,
    hugepages: bool,
    fleet: &'a Fleet,
    templates: &'a Arc<Templates>,
    ports: &'a mut Vec<OpenPort>,
    from_kernel: Vec<Option<rtrb::Consumer<Mbuf>>>,
}

impl Parts<'_> {
    fn pipeline(&self, n: usize, lcores: usize) -> Result<Pipeline, StartError> {
        let connections = &self.config.connections;
        let capacity = Capacity { ipv4: connections.capacity, ipv6: connections.ipv6_capacity };
        let now = self.clock.at(tsc()).tick();
        let tables = Tables::new(capacity, self.hugepages, now).map_err(|error| StartError::Table {
            capacity: capacity.ipv4,
            lcores,
            error,
        })?;
        if n == 0 {
            let megabytes = tables.mapped_bytes() >> 20;
            tracing::info!(
                capacity = capacity.ipv4,
                ipv6_capacity = capacity.ipv6,
                megabytes,
                hugepages = tables.is_huge(),
                "tables of connections for each lcore"
            );
        }
        Ok(Pipeline::new(LcoreId(n as u8), self.fleet.clone(), tables, self.templates.clone()))
    }

    /// The ports as lcore `n` uses them: every `lcores`-th receive queue, one transmit queue.
    fn ports(
        &mut self,
        n: usize,
        lcores: usize,
        exceptions: Vec<Exception<Mbuf>>,
    ) -> Result<Vec<LcorePort<PortQueues>>, StartError> {
        let mut of_lcore = Vec::new();
        for (at, (open, exception)) in self.ports.iter_mut().zip(exceptions).enumerate() {
            let queues = (0..open.port.rx_queues()).filter(|q| usize::from(*q) % lcores == n);
            let rx =
                queues.collect::<Vec<_>>().into_iter().filter_map(|q| open.port.take_rx_queue(q)).collect();
            let Some(tx) = open.port.take_tx_queue(n as u16) else {
                return Err(StartError::Runtime(format!("port {at} has no transmit queue for lcore {n}")));
            };
            of_lcore.push(LcorePort {
                queues: PortQueues::new(rx, tx),
                counters: open.counters.clone(),
                exception,
                // The first lcore sends for the kernel.
                from_kernel: if n == 0 { self.from_kernel[at].take() } else { None },
            });
        }
        Ok(of_lcore)
    }
}
