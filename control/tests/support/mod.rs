//! A real server on a temporary socket with a director behind it that exists only in memory.

// Every test program uses its own part of this.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::drain::{Drains, End, Plan};
use control::health::Standing;
use control::history::Version as Kept;
use control::model::{
    ForwardingMethod, PersistenceEdit, Protocol, ServiceKey, SettingError, Settings, Thresholds, Timeouts,
    Weight,
};
use control::plan::{Difference, Fate, KeyChange, Moves, ServerChange, ServiceChange};
use control::protocol::{
    Applied, CandidateStatus, CaptureEnd, CapturePage, CaptureStarted, CapturedFrame, CapturedPacket,
    CheckHealth, ConfigDiff, ConfigHistory, ConnectionFilter, ConnectionList, ConnectionStatus, Counters,
    Explanation, ExplanationStep, Handler, HealthList, HistogramList, Latency, LatencyBucket,
    LatencyDistribution, LatencyHistogram, LatencySummary, LcoreStats, LeavingPacket, Limits, Missing,
    NextHopStatus, Outcome, PacketSketch, Peer, PortStats, RateList, Rates, ReasonList, ReasonStatus,
    Refusal, Reply, Request, Server, ServerHealth, ServerRates, ServerStatus, ServiceHealth, ServiceList,
    ServiceRates, ServiceStatus, Stats, TcpFlag, TemplateList, TemplateStatus, TimeoutsInForce, Version,
};
use serde_json::Value;

/// What was asked for in one page of connections.
pub(crate) type Page = (ConnectionFilter, Option<String>, Option<u32>);

/// Keeps services in memory; invents connections.
pub(crate) struct FakeDirector {
    services: Mutex<Vec<ServiceStatus>>,
    /// Rates, where a test has its own.
    rates: Vec<ServiceRates>,
    connections: Vec<ConnectionStatus>,
    templates: Vec<TemplateStatus>,
    drains: Mutex<Drains>,
    /// How often histograms were asked for.
    asked: std::sync::atomic::AtomicU64,
    settings: Mutex<Settings>,
    timeouts: Mutex<TimeoutsInForce>,
    /// The pages of connections that were asked for.
    pub(crate) pages: Mutex<Vec<Page>>,
}

fn connection(number: usize) -> ConnectionStatus {
    ConnectionStatus {
        protocol: Protocol::Tcp,
        client: format!("192.0.2.7:{}", 10_000 + number % 50_000).parse().expect("an address"),
        virtual_address: "10.99.0.1:80".parse().expect("an address"),
        server: "10.0.2.11:8080".parse().expect("an address"),
        method: ForwardingMethod::Nat,
        state: "established".to_owned(),
        expires_in_ms: 899_000,
        lcore: 1,
    }
}

fn find(services: &mut [ServiceStatus], key: ServiceKey) -> Result<&mut ServiceStatus, Refusal> {
    services.iter_mut().find(|status| status.service == key).ok_or_else(|| {
        Refusal::new(
            "no-such-service",
            "there is no such service",
            "list them with `directorctl service list`",
        )
    })
}

impl FakeDirector {
    /// What there is now.
    pub(crate) fn services(&self) -> Vec<ServiceStatus> {
        self.services.lock().expect("no handler panicked").clone()
    }
}

impl Handler for FakeDirector {
    async fn handle(&self, request: Request, _peer: Peer) -> Result<Reply, Refusal> {
        if let Request::ConnectionList { filter: ConnectionFilter { state: Some(state), .. }, .. } = &request
            && state == "slow"
        {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let mut services = self.services.lock().expect("no handler panicked");
        match request {
            Request::ServiceAdd { service, scheduler, flags, persistence, one_packet } => {
                if find(&mut services, service).is_ok() {
                    return Err(Refusal::new("service-exists", "it exists", "edit it"));
                }
                let counters = Counters {
                    connections: 7,
                    packets_in: 70,
                    packets_out: 60,
                    bytes_in: 700,
                    bytes_out: 600,
                };
                let persistence =
                    persistence.and_then(|options| PersistenceEdit::from(options).of(None, service.ip()));
                services.push(ServiceStatus {
                    service,
                    scheduler,
                    flags,
                    persistence,
                    one_packet,
                    counters,
                    servers: Vec::new(),
                });
            }
            Request::ServiceEdit { service, scheduler, flags, persistence, one_packet } => {
                let status = find(&mut services, service)?;
                status.scheduler = scheduler.unwrap_or(status.scheduler);
                status.flags = flags.unwrap_or(status.flags);
                if let Some(change) = persistence {
                    let edit = PersistenceEdit::from(change);
                    status.persistence = edit.of(status.persistence, service.ip());
                }
                status.one_packet = one_packet.unwrap_or(status.one_packet);
            }
            Request::ServiceDelete { service } => {
                find(&mut services, service)?;
                services.retain(|status| status.service != service);
            }
            Request::ServerAdd { service, server } => {
                find(&mut services, service)?.servers.push(ServerStatus {
                    address: server.address,
                    method: server.method,
                    tunnel: server.tunnel,
                    weight: server.weight,
                    thresholds: server.thresholds,
                    overloaded: false,
                    drain_ends_in_ms: None,
                    health: (server.address.port() == 9).then_some(Standing::Inhibited),
                    active: 3,
                    inactive: 4,
                    counters: Counters { connections: 5, ..Counters::default() },
                });
            }
            Request::ServerEdit {
                service,
                address,
                weight,
                method,
                tunnel,
                upper_threshold,
                lower_threshold,
            } => {
                let status = find(&mut services, service)?;
                for server in status.servers.iter_mut().filter(|server| server.address == address) {
                    server.weight = weight.unwrap_or(server.weight);
                    server.method = method.unwrap_or(server.method);
                    server.tunnel = tunnel.unwrap_or(server.tunnel);
                    server.thresholds.upper = upper_threshold.unwrap_or(server.thresholds.upper);
                    server.thresholds.lower = lower_threshold.unwrap_or(server.thresholds.lower);
                }
            }
            Request::ServerDelete { service, address } => {
                find(&mut services, service)?.servers.retain(|server| server.address != address);
            }
            Request::ServerDrain { service, address, deadline, keep, active_only } => {
                let server = find(&mut services, service)?.servers.iter_mut().find(|s| s.address == address);
                let Some(server) = server else {
                    return Err(Refusal::new("no-such-server", "none", "add it"));
                };
                let plan = Plan { deadline: Duration::from_secs(deadline.into()), keep, active_only };
                let left = (server.active, server.inactive);
                let weight = std::mem::replace(&mut server.weight, Weight(0));
                server.drain_ends_in_ms = Some(u64::from(deadline) * 1000);
                let mut drains = self.drains.lock().expect("no handler panicked");
                drains.begin((service, address), plan, weight, left, Instant::now());
            }
            // Whoever asks costs each of them a connection.
            Request::ServerDrainStatus { service, address } => {
                let mut drains = self.drains.lock().expect("no handler panicked");
                let servers = services.iter_mut().flat_map(|status| &mut status.servers);
                for server in servers.filter(|server| server.drain_ends_in_ms.is_some()) {
                    match (server.active, server.inactive) {
                        (0, inactive) => server.inactive = inactive.saturating_sub(1),
                        (active, _) => server.active = active - 1,
                    }
                }
                let left = |service, address| {
                    let servers = services.iter().filter(|s| s.service == service).flat_map(|s| &s.servers);
                    let mut servers = servers.filter(|server| server.address == address);
                    servers.next().map_or((0, 0), |server| (server.active, server.inactive))
                };
                for due in drains.count(Instant::now(), left) {
                    let drain = drains.take(due.service, due.server).expect("it is due");
                    drains.close(due.service, due.server, drain, due.end, Instant::now());
                }
                let list = drains.list(service, address, Instant::now(), |key| key.port() == 443);
                return Ok(Reply::Drains(list));
            }
            Request::ServerDrainCancel { service, address } => {
                let mut drains = self.drains.lock().expect("no handler panicked");
                let Some(drain) = drains.take(service, address) else {
                    return Err(Refusal::new("no-drain", "it is not drained", "drain it"));
                };
                for server in
                    find(&mut services, service)?.servers.iter_mut().filter(|s| s.address == address)
                {
                    (server.weight, server.drain_ends_in_ms) = (drain.weight, None);
                }
                drains.close(service, address, drain, End::Cancelled, Instant::now());
            }
            Request::ServiceList {} => {
                return Ok(Reply::ServiceList(ServiceList { services: services.clone() }));
            }
            Request::ConnectionList { filter, cursor, limit } => {
                let start = cursor.as_deref().map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
                let end = self.connections.len().min(start + limit.unwrap_or(1000) as usize);
                self.pages.lock().expect("no handler panicked").push((filter, cursor, limit));
                let next = (end < self.connections.len()).then(|| end.to_string());
                let connections = self.connections[start..end].to_vec();
                return Ok(Reply::ConnectionList(ConnectionList { connections, next }));
            }
            Request::TemplateList { cursor, limit, .. } => {
                let start = cursor.as_deref().map_or(0, |cursor| cursor.parse().expect("a cursor of ours"));
                let end = self.templates.len().min(start + limit.unwrap_or(1000) as usize);
                let next = (end < self.templates.len()).then(|| end.to_string());
                let templates = self.templates[start..end].to_vec();
                return Ok(Reply::TemplateList(TemplateList { templates, next }));
            }
            Request::Settings {} => {
                let settings = *self.settings.lock().expect("no handler panicked");
                return Ok(Reply::Settings(settings.into()));
            }
            Request::SettingsSet { settings: wanted } => {
                let mut settings = self.settings.lock().expect("no handler panicked");
                for (name, value) in wanted {
                    let refuse = |e: SettingError| Refusal::new(e.code(), e.to_string(), e.remedy());
                    settings.set(&name, value).map_err(refuse)?;
                }
            }
            Request::Timeouts {} => {
                return Ok(Reply::Timeouts(*self.timeouts.lock().expect("no handler panicked")));
            }
            Request::TimeoutsSet { tcp, tcp_fin, udp } => {
                let mut timeouts = self.timeouts.lock().expect("no handler panicked");
                timeouts.tcp = tcp.map_or(timeouts.tcp, u64::from);
                timeouts.tcp_fin = tcp_fin.map_or(timeouts.tcp_fin, u64::from);
                timeouts.udp = udp.map_or(timeouts.udp, u64::from);
            }
            Request::Stats {} => return Ok(Reply::Stats(stats())),
            Request::StatsZero { service } => {
                for status in services.iter_mut().filter(|s| service.is_none_or(|key| key == s.service)) {
                    status.counters = Counters::default();
                }
            }
            Request::Rates {} => {
                let rates = Rates { cps: 1, inpps: 20, outpps: 19, inbps: 2_000, outbps: 123_456_789_000 };
                if !self.rates.is_empty() {
                    return Ok(Reply::Rates(RateList { all: rates, services: self.rates.clone() }));
                }
                let services = services.iter().map(|status| ServiceRates {
                    service: status.service,
                    rates,
                    servers: status
                        .servers
                        .iter()
                        .map(|server| ServerRates { address: server.address, rates: Rates::default() })
                        .collect(),
                });
                return Ok(Reply::Rates(RateList { all: rates, services: services.collect() }));
            }
            Request::Latency {} => {
                let all =
                    LatencySummary { count: 10, min_ns: 900, p99_ns: 2_500, ..LatencySummary::default() };
                return Ok(Reply::Latency(Latency {
                    lcores: vec![LatencySummary { lcore: Some(1), ..all }],
                    all,
                    distributions: vec![LatencyDistribution {
                        lcore: 1,
                        sum_ns: 15_000,
                        buckets: vec![
                            LatencyBucket { below_ns: 1_024, count: 4 },
                            LatencyBucket { below_ns: 2_560, count: 6 },
                        ],
                    }],
                }));
            }
            Request::LatencyHistograms {} => {
                // Ten packets of a microsecond more each time that somebody asks.
                let asked = self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
                let mut histogram = hdrhistogram::Histogram::new_with_bounds(1, 1 << 30, 3).expect("bounds");
                histogram.saturating_record_n(1_000, 10 * asked);
                let histograms = vec![LatencyHistogram::of(1, &histogram)];
                return Ok(Reply::Histograms(HistogramList { uptime_ms: 1_000 * asked, histograms }));
            }
            Request::Reasons {} => return Ok(Reply::Reasons(reasons())),
            Request::Health { .. } => return Ok(Reply::Health(health())),
            Request::ConfigApply { text, confirm_within, .. } => {
                let services: Vec<ServiceChange> =
                    text.contains("[[service]]").then(change).into_iter().collect();
                let difference = Difference { services, ..Difference::default() };
                return Ok(Reply::Applied(Applied { version: Some(4), difference, confirm_within }));
            }
            Request::ConfigConfirm {} => {
                return Err(Refusal::new("nothing-to-confirm", "nothing waits", "see the history"));
            }
            Request::ConfigRollback { to: version } => {
                return Ok(Reply::Applied(Applied { version, ..Applied::default() }));
            }
            Request::ConfigHistory {} => return Ok(Reply::ConfigHistory(history())),
            Request::ConfigDiff { text, source } => {
                let text = text.unwrap_or_default();
                if text.contains("mistake") {
                    let source = source.unwrap_or_default();
                    let message = format!("{source}:1:1: mistake: it is one");
                    return Err(Refusal::new("bad-configuration", message, "mend it"));
                }
                let mut diff = ConfigDiff::default();
                if text.contains("[[service]]") {
                    diff.difference.services.push(change());
                }
                if text.contains("[dpdk]") {
                    let (from, to) = (Some("512".to_owned()), Some("256".to_owned()));
                    diff.needs_restart.push(KeyChange { key: "dpdk.memory_mb".to_owned(), from, to });
                }
                return Ok(Reply::ConfigDiff(diff));
            }

            Request::Explain { packet } => {
                return Ok(Reply::Explanation(Box::new(Explanation { packet, ..explanation() })));
            }
            Request::CaptureStart { filter, count: Some(13), .. } => {
                let message = format!("a capture of {filter:?} runs");
                return Err(Refusal::new("capture-runs", message, "wait"));
            }
            Request::CaptureStart { snaplen, .. } => {
                let snaplen = snaplen.unwrap_or(65_535);
                return Ok(Reply::CaptureStarted(CaptureStarted { capture: 7, snaplen }));
            }
            Request::CaptureRead { .. } => return Ok(Reply::CapturePage(capture_page())),
            Request::CaptureStop { .. } => {}
            Request::Version {} => {
                let dpdk = "DPDK 22.11.5".to_owned();
                return Ok(Reply::Version(Version { director: "9.8.7".to_owned(), dpdk, protocol: 1 }));
            }
        }
        Ok(Reply::DONE)
    }
}

/// The last page of a capture: a packet that left, and one that did not.
fn capture_page() -> CapturePage {
    let frame =
        |port: &str, bytes: &str| CapturedFrame { port: port.to_owned(), len: 60, bytes: bytes.to_owned() };
    let packet = CapturedPacket {
        seconds: 1_700_000_000,
        nanoseconds: 123_456_789,
        lcore: 0,
        reason: "request_nat".to_owned(),
        came: frame("wan0", "AAECAwQ="),
        left: Some(frame("lan0", "BQYHCAk=")),
    };
    let dropped = CapturedPacket { reason: "no_route".to_owned(), left: None, ..packet.clone() };
    CapturePage { packets: vec![packet, dropped], captured: 2, lost: 3, ended: Some(CaptureEnd::Count) }
}

/// A service of which one real server goes.
fn change() -> ServiceChange {
    let gone = |value: &str| KeyChange { key: value.to_owned(), from: Some("1".to_owned()), to: None };
    ServiceChange {
        service: "tcp 10.99.0.1:80".parse().expect("a service"),
        change: Fate::Changed,
        keys: Vec::new(),
        servers: vec![ServerChange {
            address: "10.0.2.12:8080".parse().expect("an address"),
            change: Fate::Removed,
            keys: vec![gone("weight")],
            connections: Some(1),
        }],
        moves: Some(Moves {
            connections: 3,
            lose_server: 1,
            clients_per_mille: Some(251),
            new_per_mille: None,
        }),
    }
}

/// What becomes of a first packet of a service with one real server that is overloaded and one that is not.
pub(crate) fn explanation() -> Explanation {
    let candidate = CandidateStatus {
        address: "10.0.2.11:8080".parse().expect("an address"),
        weight: Weight(2),
        active: 3,
        inactive: 4,
        thresholds: Thresholds { upper: 7, lower: 0 },
        overloaded: true,
        health: None,
        available: false,
        chosen: false,
    };
    let other = CandidateStatus {
        address: "10.0.2.12:8080".parse().expect("an address"),
        thresholds: Thresholds::default(),
        overloaded: false,
        health: Some(Standing::In),
        available: true,
        chosen: true,
        ..candidate.clone()
    };
    let step =
        |step: &str, finding: &str| ExplanationStep { step: step.to_owned(), finding: finding.to_owned() };
    let end = |text: &str| text.parse().expect("an address");
    Explanation {
        packet: PacketSketch {
            protocol: Protocol::Tcp,
            from: end("10.0.1.1:40000"),
            to: end("10.99.0.1:80"),
            flags: Some(vec![TcpFlag::Syn]),
            chunk: None,
            size: Some(40),
            ttl: Some(64),
            df: Some(true),
            dscp: Some(0),
            port: Some(0),
            call_id: None,
        },
        assumed: vec!["ttl".to_owned()],
        lcore: 1,
        steps: vec![step("owner", "lcore 1 of 2"), step("scheduler", "wlc: 10.0.2.12:8080 is chosen")],
        mark: None,
        service: Some("tcp 10.99.0.1:80".parse().expect("a service")),
        connection: None,
        template: None,
        candidates: vec![candidate, other],
        server: Some(end("10.0.2.12:8080")),
        method: Some(ForwardingMethod::Nat),
        tunnel: None,
        leaves: Some(LeavingPacket {
            source: end("10.0.1.1:40000").ip(),
            source_port: Some(40_000),
            destination: end("10.0.2.12:8080").ip(),
            destination_port: Some(8080),
            size: 40,
        }),
        next_hop: Some(NextHopStatus {
            address: end("10.0.2.12:0").ip(),
            interface: "lan0".to_owned(),
            port: 1,
            vlans: vec![7],
            mac: None,
            mtu: 1500,
        }),
        action: "hold".to_owned(),
        reason: "request_nat".to_owned(),
        meaning: "From a client to a real server by NAT.".to_owned(),
        missing: Some(Missing {
            code: "next-hop-unresolved".to_owned(),
            message: "the Ethernet address of 10.0.2.12 on lan0 is not known".to_owned(),
            remedy: "see that it answers".to_owned(),
        }),
    }
}

/// Two versions, of which the second waits to be confirmed.
fn history() -> ConfigHistory {
    let version = |version: u64, confirmed| Kept {
        version,
        time_ms: 1_772_366_400_000,
        who: "uid 0 pid 4711".to_owned(),
        source: "/etc/director.toml".to_owned(),
        summary: "1 service changed".to_owned(),
        after: version.checked_sub(4),
        confirmed,
    };
    ConfigHistory {
        versions: vec![version(3, true), version(4, false)],
        current: Some(4),
        taken_back_in_ms: Some(59_000),
    }
}

/// Reasons of two outcomes.
pub(crate) fn reasons() -> ReasonList {
    let reason = |reason: &str, outcome, meaning: &str| ReasonStatus {
        reason: reason.to_owned(),
        outcome,
        meaning: meaning.to_owned(),
    };
    ReasonList {
        reasons: vec![
            reason("request_nat", Outcome::Forwarded, "From a client to a real server by NAT."),
            reason("table_full", Outcome::Dropped, "The table of connections is full."),
        ],
    }
}

/// The health of a service of which one real server fails.
pub(crate) fn health() -> HealthList {
    let check = CheckHealth {
        check: "http /healthz".to_owned(),
        up: true,
        since_ms: 3_600_000,
        last: Some(true),
        latency_us: Some(1_500),
        error: None,
        error_ms: None,
        passed: 700,
        failed: 0,
    };
    let server = ServerHealth {
        address: "10.0.2.11:8080".parse().expect("an address"),
        up: true,
        since_ms: 3_600_000,
        standing: Standing::In,
        effective_weight: Weight(2),
        checks: vec![check.clone()],
    };
    let failing = CheckHealth {
        up: false,
        since_ms: 61_000,
        last: Some(false),
        error: Some("status 503".to_owned()),
        error_ms: Some(1_000),
        failed: 31,
        ..check
    };
    let down = ServerHealth {
        address: "10.0.2.12:8080".parse().expect("an address"),
        up: false,
        since_ms: 61_000,
        standing: Standing::Inhibited,
        effective_weight: Weight(0),
        checks: vec![failing],
    };
    HealthList {
        health: vec![ServiceHealth {
            service: "tcp 10.99.0.1:80".parse().expect("a service"),
            quorum: 3,
            hysteresis: 0,
            has_quorum: false,
            live_weight: 2,
            sorry_server: Some("10.0.2.99:8080".parse().expect("an address")),
            servers: vec![server, down],
        }],
    }
}

/// Statistics in which every field that may be empty is not.
pub(crate) fn stats() -> Stats {
    Stats {
        uptime_ms: 61_000,
        conserved: true,
        counters: Counters { connections: 4, ..Counters::default() },
        rates: Rates { inpps: 77, ..Rates::default() },
        lcores: vec![LcoreStats {
            lcore: 1,
            cpu: 3,
            received: 1_000,
            dropped: 5,
            loops: 200,
            busy_loops: 50,
            conserved: true,
            reasons: [("no-real-server".to_owned(), 5)].into(),
            ..LcoreStats::default()
        }],
        ports: vec![PortStats {
            device: "net_tap0,iface=dtap0".to_owned(),
            mirror: Some("dir0".to_owned()),
            mac: "02:00:00:00:00:01".to_owned(),
            rss: "source".to_owned(),
            rx_packets: 1_000,
            wrong_lcore: vec![0, 12, 30],
            ..PortStats::default()
        }],
        slow_path: [("to-kernel".to_owned(), 15)].into(),
    }
}

/// What a director has from the start.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) services: Vec<ServiceStatus>,
    /// Rates; without any they are invented.
    pub(crate) rates: Vec<ServiceRates>,
    pub(crate) connections: Vec<ConnectionStatus>,
    pub(crate) templates: Vec<TemplateStatus>,
}

/// A served socket; stops when dropped.
pub(crate) struct Running {
    pub(crate) director: Arc<FakeDirector>,
    pub(crate) path: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Running {
    /// Serves with this many connections to list.
    pub(crate) fn start(connections: usize, limits: Limits) -> Running {
        let connections = (0..connections).map(connection).collect();
        Running::serve(World { connections, ..World::default() }, limits)
    }

    /// Serves with all this.
    pub(crate) fn start_with(world: World) -> Running {
        Running::serve(world, Limits::default())
    }

    fn serve(world: World, limits: Limits) -> Running {
        let World { services, rates, connections, templates } = world;
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("director.sock");
        let pages = Mutex::default();
        let director = Arc::new(FakeDirector {
            services: Mutex::new(services),
            rates,
            connections,
            templates,
            drains: Mutex::default(),
            asked: Default::default(),
            settings: Mutex::default(),
            timeouts: Mutex::new(Timeouts::default().into()),
            pages,
        });
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let thread = std::thread::spawn({
            let (director, path) = (Arc::clone(&director), path.clone());
            move || {
                let server = Server::bind(&path).expect("a free name").with_limits(limits);
                ready.send(()).expect("the test waits");
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                let shutdown = async { stopped.await.unwrap_or(()) };
                runtime.block_on(server.serve(director, shutdown)).expect("serves");
            }
        });
        is_ready.recv().expect("the server starts");
        Running { director, path, stop: Some(stop), thread: Some(thread), _directory: directory }
    }

    /// A connection that speaks lines.
    pub(crate) fn connect(&self) -> Lines {
        Lines::connect(&self.path)
    }

    /// Stops serving and waits for it.
    pub(crate) fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The receiver is gone only if the server is.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            assert!(joined.is_ok() || std::thread::panicking(), "the server panicked");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A client without any knowledge of the protocol.
pub(crate) struct Lines {
    pub(crate) stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Lines {
    pub(crate) fn connect(path: &Path) -> Lines {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let reader = BufReader::new(stream.try_clone().expect("a second handle"));
        Lines { stream, reader }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// The next line as JSON; none when the server has closed the connection.
    pub(crate) fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect("a line of JSON")),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no line within the timeout: {error}"),
        }
    }

    /// Sends a line and returns the next one.
    pub(crate) fn ask(&mut self, line: &str) -> Value {
        // The server may close before it has all of a line that is too long, after it has said why.
        let _ = self.stream.write_all(format!("{line}\n").as_bytes());
        self.receive().expect("a reply")
    }
}
