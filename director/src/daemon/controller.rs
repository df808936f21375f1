//! The one place where what runs is changed: an operator's request or the kernel's news becomes a new
//! snapshot, or an error and nothing else.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use control::config::Config;
use control::drain::Drains;
use control::health::{Board, Report};
use control::model::{Change, Edit, EditError, Limits, Model, Settings, Timeouts};
use control::plan::Live;
use control::protocol::{Refusal, Reply};
use tokio::sync::mpsc::UnboundedSender;

use super::apply::Applying;
use super::capture::Captures;
use super::estimates::Estimates;
use super::name_of;
use super::signs::Listener;
use super::start::{Handles, OpenPort, StartError, Started};
use crate::dpdk::tsc;
use crate::kernel::ingress::IngressGuard;
use crate::kernel::netlink::Netlink;
use crate::kernel::slow_path::SlowPathCounters;
use crate::lcore::clock::{Clock, Nanos};
use crate::lcore::query::{Query, QueryBox};
use crate::nexthop::{Hop, KernelView, Neighbour, NextHops, PortLink};
use crate::persistence::Templates;
use crate::service::{Compiler, Exhausted, Input, PortInfo, Publisher, Services, Snapshot};
use crate::stats::Fleet;
use crate::time::Tick;

/// How long a new real server's next hop may take to be found before the change takes effect without.
const RESOLVE_PATIENCE: Duration = Duration::from_millis(500);
/// So many next hops that cannot be found are named, and the others counted.
const MOST_NAMED: usize = 10;
/// How long an lcore may take to answer a question.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// How often an answer is looked for.
const ANSWER_POLL: Duration = Duration::from_micros(200);

/// Serves the control socket and publishes snapshots.
pub(super) struct Controller {
    state: Mutex<State>,
    /// Held while lcores are asked: a box has room for one question.
    pub(super) queries: tokio::sync::Mutex<Vec<Arc<QueryBox>>>,
    pub(super) captures: tokio::sync::Mutex<Captures>,
    netlink: Arc<Netlink>,
    pub(super) fleet: Fleet,
    pub(super) ports: Arc<Vec<OpenPort>>,
    pub(super) templates: Arc<Templates>,
    clock: Clock,
    pub(super) slow_path: Option<Arc<SlowPathCounters>>,
    pub(super) cpus: Vec<u32>,
    pub(super) capacity: u32,
    pub(super) since: Instant,
    pub(super) limits: Limits,
    /// What the director was started with.
    pub(super) started: Config,
    pub(super) applying: tokio::sync::RwLock<Applying>,
    /// Where health checks tell what changes.
    pub(super) reports: UnboundedSender<Report>,
}

/// What changes.
pub(super) struct State {
    pub(super) model: Model,
    pub(super) timeouts: Timeouts,
    pub(super) settings: Settings,
    pub(super) compiler: Compiler,
    pub(super) estimates: Estimates,
    pub(super) board: Board,
    listener: Listener,
    pub(super) drains: Drains,
    /// A drain's end could not be published, and the log has said so.
    pub(super) drain_waits: bool,
    /// When a configuration is taken back that nobody has confirmed.
    pub(super) taken_back_at: Option<Instant>,
    publisher: Publisher,
    guard: Option<IngressGuard>,
    /// The guard refused; it is asked again with the next snapshot.
    guard_is_behind: bool,
    /// What health checks found could not be published, and the log has said so.
    health_waits: bool,
    /// The kernel's view and the next hops made from it.
    hops: (Arc<KernelView>, Arc<NextHops>),
}

impl State {
    /// What lcores decide by.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.publisher.current().clone()
    }

    /// Whether every lcore decides by it.
    pub(super) fn is_in_force(&self) -> bool {
        self.publisher.quiescent() >= self.publisher.current().version
    }

    /// What runs, of all that can be configured while it does.
    pub(super) fn live(&self) -> Live {
        Live {
            model: self.model.clone(),
            health: self.board.policies().clone(),
            timeouts: self.timeouts,
            settings: self.settings,
            marks: self.compiler.marks().rules().to_vec(),
        }
    }

    /// The oldest snapshot that an lcore still uses.
    pub(super) fn quiescent(&self) -> u64 {
        self.publisher.quiescent()
    }
}

impl Controller {
    /// Takes over what `started` has made for it; health checks tell `reports`.
    ///
    /// # Panics
    /// When called twice for one `started`.
    pub(super) fn new(
        started: &mut Started,
        config: &Config,
        applying: Applying,
        board: Board,
        reports: UnboundedSender<Report>,
    ) -> Controller {
        let Some(handles) = started.take_handles() else { unreachable!("one controller for each director") };
        let Handles {
            publisher,
            compiler,
            fleet,
            queries,
            ports,
            guard,
            netlink,
            templates,
            clock,
            slow_path,
            cpus,
        } = handles;
        Controller {
            state: Mutex::new(State {
                model: config.model.clone(),
                timeouts: config.timeouts,
                settings: config.settings,
                compiler,
                estimates: Estimates::default(),
                board,
                listener: Listener::default(),
                drains: Drains::default(),
                drain_waits: false,
                taken_back_at: None,
                publisher,
                guard,
                guard_is_behind: false,
                health_waits: false,
                hops: Default::default(),
            }),
            queries: tokio::sync::Mutex::new(queries),
            captures: Default::default(),
            netlink,
            fleet,
            ports,
            templates,
            clock,
            slow_path,
            cpus,
            capacity: config.connections.capacity,
            since: Instant::now(),
            limits: config.limits,
            // What changes is held where it changes.
            started: Config {
                model: Model::default(),
                health: Default::default(),
                marks: Vec::new(),
                ..config.clone()
            },
            applying: tokio::sync::RwLock::new(applying),
            reports,
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This moment, as lcores count.
    pub(super) fn now(&self) -> Tick {
        self.moment().tick()
    }

    /// The same for lcores.
    pub(super) fn moment(&self) -> Nanos {
        self.clock.at(tsc())
    }

    /// Publishes what the configuration says, for lcores to start with.
    pub(super) fn publish_first(&self) -> Result<(), StartError> {
        let mut state = self.state();
        let model = state.model.clone();
        Ok(self.publish(&mut state, Services::All(model.services()))?)
    }

    /// Once lcores run: finds the next hops of real servers, so that the first clients need not wait.
    pub(super) async fn settle(&self) {
        let servers: Vec<IpAddr> = self.server_addresses();
        self.find_next_hops(&servers).await;
        self.kernel_changed();
    }

    /// The kernel's view has changed.
    pub(super) fn kernel_changed(&self) {
        let mut state = self.state();
        if let Err(error) = self.publish(&mut state, Services::Edited(&[])) {
            tracing::warn!(%error, "the kernel's news wait");
        }
    }

    /// Frees snapshots that lcores have sent back.
    pub(super) fn collect(&self) {
        self.state().publisher.collect();
    }

    /// Two seconds have passed, and rates are what they are now.
    pub(super) fn estimate(&self) {
        let mut state = self.state();
        let State { settings, estimates, compiler, .. } = &mut *state;
        if settings.run_estimation {
            estimates.tick(compiler);
        } else {
            estimates.pause();
        }
    }

    /// What runs, in a line.
    pub(super) fn status(&self) -> String {
        let state = self.state();
        let services = state.model.services();
        let servers: usize = services.values().map(|service| service.servers.len()).sum();
        let cpus: Vec<String> = self.cpus.iter().map(u32::to_string).collect();
        format!(
            "{} virtual services, {servers} real servers; lcores on CPUs {}; {} ports",
            services.len(),
            cpus.join(", "),
            self.ports.len()
        )
    }

    /// Turns of each lcore's loop so far.
    pub(super) fn turns(&self) -> impl Iterator<Item = u64> {
        self.fleet.lcores().iter().map(|lcore| lcore.loops.get())
    }

    /// A quarter of a second has passed: tells passive checks what lcores have counted meanwhile.
    pub(super) fn listen(&self) {
        let mut state = self.state();
        let State { board, listener, compiler, .. } = &mut *state;
        let heard = listener.listen(board.heard(), compiler, &self.fleet);
        let now = Instant::now();
        heard.into_iter().for_each(|(service, server, signs)| board.hear(service, server, signs, now));
    }

    /// Health checks have changed their state; without any, weights may be on their way up.
    pub(super) fn health_changed(&self, reports: &[Report]) {
        let mut state = self.state();
        let now = Instant::now();
        reports.iter().for_each(|report| state.board.record(report, now));
        let stale = state.board.stale(now);
        let services = stale.iter().filter_map(|key| state.model.services().get(key));
        let changes: Vec<Change> =
            services.map(|service| Change { key: service.key, service: Some(service.clone()) }).collect();
        let published = match &changes[..] {
            [] => Ok(()),
            changes => self.publish(&mut state, Services::Edited(changes)),
        };
        // It is tried again four times a second, and said once.
        match published {
            Ok(()) if state.health_waits => {
                state.health_waits = false;
                tracing::info!("what health checks found waits no longer");
            }
            Ok(()) => {}
            Err(error) => {
                if !state.health_waits {
                    tracing::error!(%error, "what health checks found waits");
                }
                state.health_waits = true;
                state.board.put_back(stale);
            }
        }
    }

    /// Asks the kernel for a neighbour.
    pub(super) async fn resolve(&self, neighbour: Neighbour) {
        tracing::trace!(neighbour = name_of(&neighbour), "wanted");
        self.netlink.resolve(neighbour).await;
    }

    /// The neighbours that lead to real servers.
    pub(super) fn next_hops(&self) -> HashSet<Neighbour> {
        let addresses = self.server_addresses();
        let state = self.state();
        addresses.into_iter().filter_map(|ip| state.hops.1.neighbour_toward(ip)).collect()
    }

    fn server_addresses(&self) -> Vec<IpAddr> {
        let state = self.state();
        let servers = state.model.services().values().flat_map(|service| &service.servers);
        let servers = servers.map(|server| server.address.ip());
        servers.chain(state.board.sorry_servers()).collect::<HashSet<_>>().into_iter().collect()
    }

    /// Waits until the next hops toward these addresses are known, but not for long.
    pub(super) async fn find_next_hops(&self, addresses: &[IpAddr]) {
        let deadline = Instant::now() + RESOLVE_PATIENCE;
        loop {
            let hops = self.fresh_hops();
            // Many of them may be behind one router.
            let missing: HashSet<Neighbour> = addresses
                .iter()
                .filter_map(|ip| match hops.toward(*ip) {
                    Hop::Unresolved(unresolved) => Some(unresolved.neighbour),
                    Hop::Ready(_) | Hop::Local | Hop::NoRoute => None,
                })
                .collect();
            if missing.is_empty() || Instant::now() >= deadline {
                let others = missing.len().saturating_sub(MOST_NAMED);
                for neighbour in missing.iter().take(MOST_NAMED) {
                    tracing::warn!(
                        neighbour = name_of(neighbour),
                        others,
                        "a next hop answers neither ARP nor neighbour discovery"
                    );
                }
                return;
            }
            for neighbour in missing {
                if Instant::now() >= deadline {
                    break;
                }
                self.resolve(neighbour).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Next hops by the kernel's latest view.
    fn fresh_hops(&self) -> Arc<NextHops> {
        let mut state = self.state();
        self.refresh_hops(&mut state)
    }

    fn refresh_hops(&self, state: &mut State) -> Arc<NextHops> {
        let view = self.netlink.view().borrow().clone();
        if !Arc::ptr_eq(&view, &state.hops.0) {
            let links: Vec<PortLink> = self.ports.iter().filter_map(|port| port.link).collect();
            state.hops = (view.clone(), Arc::new(NextHops::build(view, &links)));
        }
        state.hops.1.clone()
    }

    /// Makes these services what runs, by the kernel's latest view. Costs what changes, not what there
    /// is.
    pub(super) fn publish(&self, state: &mut State, services: Services<'_>) -> Result<(), Exhausted> {
        let hops = self.refresh_hops(state);
        let ports = self.ports.iter().map(|open| {
            let of_interface = open.link.and_then(|link| hops.mac_of(link.link));
            PortInfo { mac: of_interface.unwrap_or_else(|| open.port.mac()) }
        });
        // What is compiled is what is configured as health has left it.
        let now = Instant::now();
        let healthy: Vec<Change> = match services {
            Services::All(all) => all
                .iter()
                .map(|(key, s)| Change { key: *key, service: state.board.follow(*key, Some(s), now) })
                .collect(),
            Services::Edited(changes) => changes
                .iter()
                .map(|c| Change { key: c.key, service: state.board.follow(c.key, c.service.as_ref(), now) })
                .collect(),
        };
        let input = Input {
            services: Services::Edited(&healthy),
            ports: ports.collect(),
            hops: hops.clone(),
            timeouts: state.timeouts,
            settings: state.settings,
            quiescent: state.publisher.quiescent(),
        };
        let snapshot = match state.compiler.compile(input) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                for Change { key, .. } in healthy {
                    state.board.follow(key, state.model.services().get(&key), now);
                }
                return Err(error);
            }
        };
        if let Services::Edited(changes) = services {
            for change in changes {
                state.model.make(change.clone());
                state.drains.follow(change.key, change.service.as_deref(), now);
            }
        }
        // The kernel is kept from answering before lcores begin to, and only then. What the guard goes by
        // is what the lookup is made from.
        let new_endpoints = !Arc::ptr_eq(&snapshot.lookup, &state.publisher.current().lookup);
        if let Some(guard) = &mut state.guard
            && (new_endpoints || state.guard_is_behind)
        {
            guard.mark_by(state.compiler.marks().rules());
            let updated = guard.update(state.model.services().values().map(Arc::as_ref));
            state.guard_is_behind = updated.is_err();
            if let Err(error) = updated {
                tracing::error!(%error, "the kernel may answer for virtual services");
            }
        }
        state.publisher.publish(snapshot);
        Ok(())
    }

    pub(super) async fn edit(&self, edit: Edit) -> Result<Reply, Refusal> {
        let _by_hand = self.applying.read().await;
        // A bad change is refused at once. A good one is tried again below, since others may have come
        // between while its next hop was looked for.
        self.state().model.change(&edit, &self.limits).map_err(refuse)?;
        if let Edit::AddServer { server, .. } = &edit {
            self.find_next_hops(&[server.address.ip()]).await;
        }
        let mut state = self.state();
        let change = state.model.change(&edit, &self.limits).map_err(refuse)?;
        self.publish(&mut state, Services::Edited(&[change])).map_err(exhausted)?;
        drop(state);
        tracing::info!(?edit, "changed");
        Ok(Reply::DONE)
    }

    /// Asks an lcore and waits for its answer. `None` if it does not answer.
    pub(super) async fn ask(queries: &QueryBox, query: Query) -> Option<Query> {
        let number = queries.ask(query);
        let deadline = Instant::now() + ANSWER_PATIENCE;
        loop {
            if let Some(answer) = queries.answer(number) {
                return Some(answer);
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(ANSWER_POLL).await;
        }
    }
}

pub(super) fn exhausted(error: Exhausted) -> Refusal {
    let remedy = "wait for connections to removed real servers to end";
    Refusal::new("too-many-removed-servers", error.to_string(), remedy)
}

pub(super) fn refuse(error: EditError) -> Refusal {
    Refusal::new(error.code(), error.to_string(), error.remedy())
}
