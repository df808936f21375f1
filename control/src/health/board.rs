//! The health of all virtual services: follows the model, starts and stops checks, and says what is to be compiled.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::passive::Silence;
use super::runner::Running;
use super::{Check, Policy, Pool, Report, Runner, Signs, Standing};
use crate::model::{Service, ServiceKey};
use crate::protocol::{CheckHealth, HealthList, ServerHealth, ServiceHealth};

/// The health of all virtual services that have checks.
#[derive(Debug, Default)]
pub struct Board {
    /// Also of services that are not there now: who comes back has its checks again.
    policies: BTreeMap<ServiceKey, Arc<Policy>>,
    pools: BTreeMap<ServiceKey, Watched>,
    /// Whom a number of the runner's is about: the service, the real server, and which of its checks.
    about: HashMap<u64, (ServiceKey, SocketAddr, usize)>,
    last_id: u64,
    /// Services that have to be compiled anew.
    stale: BTreeSet<ServiceKey>,
    runner: Option<Runner>,
}

#[derive(Debug)]
struct Watched {
    pool: Pool,
    service: Arc<Service>,
    /// By real server, in the order of its checks.
    checks: BTreeMap<SocketAddr, Vec<(u64, Running)>>,
    /// By real server, of those with a passive check.
    silences: BTreeMap<SocketAddr, Silence>,
}

impl Board {
    /// A board for services with these policies. Without a runner nobody makes checks.
    pub fn new(policies: BTreeMap<ServiceKey, Arc<Policy>>, runner: Option<Runner>) -> Board {
        Board { policies, runner, ..Board::default() }
    }

    /// Whether somebody makes checks.
    pub fn has_runner(&self) -> bool {
        self.runner.is_some()
    }

    /// From now on this one makes the checks that begin.
    pub fn hire(&mut self, runner: Runner) {
        self.runner = Some(runner);
    }

    /// What is checked, and what follows.
    pub fn policies(&self) -> &BTreeMap<ServiceKey, Arc<Policy>> {
        &self.policies
    }

    /// From now on these are the policies. Services whose policy is another one have to be followed anew.
    ///
    /// A check that stays goes on as it is. One that is new begins as it says, but takes nobody back: a real server that
    /// was down stays so until its new checks have passed.
    pub fn adopt(&mut self, policies: BTreeMap<ServiceKey, Arc<Policy>>, now: Instant) {
        let before = std::mem::replace(&mut self.policies, policies);
        let watched: Vec<ServiceKey> = self.pools.keys().copied().collect();
        for key in watched {
            let policy = self.policies.get(&key).cloned();
            match policy {
                None => self.forget(key),
                Some(policy) if before.get(&key) == Some(&policy) => {}
                Some(policy) => self.change(key, &policy, now),
            }
        }
    }

    /// A service is not checked any more.
    fn forget(&mut self, key: ServiceKey) {
        self.stale.remove(&key);
        if let Some(watched) = self.pools.remove(&key) {
            for (id, _) in watched.checks.values().flatten() {
                self.about.remove(id);
            }
        }
    }

    /// A service that is watched has another policy.
    fn change(&mut self, key: ServiceKey, policy: &Arc<Policy>, now: Instant) {
        let Some(mut watched) = self.pools.remove(&key) else { return };
        let before = watched.pool.policy().clone();
        let mut states = BTreeMap::new();
        let mut silences = std::mem::take(&mut watched.silences);
        for (address, running) in std::mem::take(&mut watched.checks) {
            let was_up = watched.pool.state(address).is_none_or(|(up, _)| up);
            // What is known of checks by what they are, and whether they count as passed.
            let passed = watched.pool.checks(address).iter().copied().chain(std::iter::repeat(true));
            let mut known: Vec<(&Arc<Check>, bool, (u64, Running))> = before
                .checks_of(address)
                .iter()
                .zip(passed)
                .zip(running)
                .map(|((check, passed), running)| (check, passed, running))
                .collect();
            let wanted = policy.checks_of(address);
            // If one that stays is why it is down, the new ones are not.
            let silence = silences.remove(&address).filter(|_| policy.passive_of(address).is_some());
            let is_silent = silence.as_ref().is_some_and(|silence| !silence.is_up());
            let is_why =
                |(check, passed, _): &(&Arc<Check>, bool, (u64, Running))| !passed && wanted.contains(check);
            let presumed = was_up || is_silent || known.iter().any(is_why);
            let (mut checks, mut up) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
            for (at, check) in wanted.iter().enumerate() {
                let found = known.iter().position(|(other, ..)| *other == check);
                match found.map(|found| known.swap_remove(found)) {
                    Some((_, passed, (id, running))) => {
                        self.about.insert(id, (key, address, at));
                        up.push(passed);
                        checks.push((id, running));
                    }
                    None => {
                        let is_up = check.start_up && presumed;
                        up.push(is_up);
                        checks.push(self.start((key, address, at), check, is_up, now));
                    }
                }
            }
            for (.., (id, _)) in known {
                self.about.remove(&id);
            }
            if policy.passive_of(address).is_some() {
                let silence = silence.unwrap_or_else(|| Silence::new(presumed, now));
                up.push(silence.is_up());
                watched.silences.insert(address, silence);
            }
            states.insert(address, up);
            watched.checks.insert(address, checks);
        }
        watched.pool.change_policy(policy.clone(), states, now);
        self.pools.insert(key, watched);
    }

    /// Begins to make a check of a real server.
    fn start(
        &mut self,
        about: (ServiceKey, SocketAddr, usize),
        check: &Arc<Check>,
        up: bool,
        now: Instant,
    ) -> (u64, Running) {
        self.last_id += 1;
        let id = self.last_id;
        self.about.insert(id, about);
        let (service, server, _) = about;
        let running = match &self.runner {
            Some(runner) => runner.check(id, check.clone(), check.target(service, server), up),
            None => Running::idle(check, up, now),
        };
        (id, running)
    }

    /// Begins to make checks: once real servers can be reached, so that none is taken out for what was not there yet.
    ///
    /// # Errors
    /// As [`Runner::begin`].
    pub fn begin(&mut self) -> std::io::Result<()> {
        self.runner.as_mut().map_or(Ok(()), Runner::begin)
    }

    /// A service is from now on like this, or gone. Returns it as it is to be compiled.
    pub fn follow(
        &mut self,
        key: ServiceKey,
        service: Option<&Arc<Service>>,
        now: Instant,
    ) -> Option<Arc<Service>> {
        let Some(policy) = self.policies.get(&key).cloned() else { return service.cloned() };
        let Some(service) = service else {
            self.forget(key);
            return None;
        };
        // Taken out while checks are started.
        let mut watched = self.pools.remove(&key).unwrap_or_else(|| Watched {
            pool: Pool::new(policy.clone()),
            service: service.clone(),
            checks: BTreeMap::new(),
            silences: BTreeMap::new(),
        });
        if !Arc::ptr_eq(&watched.service, service) || watched.checks.is_empty() {
            watched.service = service.clone();
            watched.pool.follow(service, now);
            let stay: BTreeSet<SocketAddr> = service.servers.iter().map(|server| server.address).collect();
            watched.checks.retain(|address, checks| {
                let stays = stay.contains(address);
                if !stays {
                    for (id, _) in checks.iter() {
                        self.about.remove(id);
                    }
                }
                stays
            });
            watched.silences.retain(|address, _| stay.contains(address));
            for address in stay {
                if policy.passive_of(address).is_some() {
                    watched.silences.entry(address).or_insert_with(|| Silence::new(true, now));
                }
                if watched.checks.contains_key(&address) {
                    continue;
                }
                let checks = policy.checks_of(address).iter().enumerate();
                let checks =
                    checks.map(|(at, check)| self.start((key, address, at), check, check.start_up, now));
                let checks = checks.collect();
                watched.checks.insert(address, checks);
            }
        }
        judge(key, &mut watched, now);
        let effective = watched.pool.effective(service);
        self.pools.insert(key, watched);
        Some(effective)
    }

    /// What the runner tells.
    pub fn record(&mut self, report: &Report, now: Instant) {
        // Of a check that has been stopped meanwhile there may still be news.
        let Some((key, address, at)) = self.about.get(&report.id).copied() else { return };
        let Some(watched) = self.pools.get_mut(&key) else { return };
        let check =
            watched.pool.policy().checks_of(address).get(at).map(ToString::to_string).unwrap_or_default();
        let turned = watched.pool.record(address, at, report.up, now);
        let (server, service) = (address, key);
        match (report.up, &report.why) {
            (true, _) => tracing::info!(%service, %server, check, "health check passes again"),
            (false, why) => {
                let why = why.as_deref().unwrap_or_default();
                tracing::warn!(%service, %server, check, "health check fails: {why}");
            }
        }
        if turned.is_some() {
            self.stale.insert(key);
        }
    }

    /// Real servers whose signs are to be told by [`Board::hear`].
    pub fn heard(&self) -> impl Iterator<Item = (ServiceKey, SocketAddr)> {
        self.pools.iter().flat_map(|(key, watched)| watched.silences.keys().map(|server| (*key, *server)))
    }

    /// What the data path has counted of a real server since the last time, be it nothing: time counts as well.
    pub fn hear(&mut self, service: ServiceKey, server: SocketAddr, signs: Signs, now: Instant) {
        let Some(watched) = self.pools.get_mut(&service) else { return };
        let policy = watched.pool.policy().clone();
        let (Some(silence), Some(passive)) = (watched.silences.get_mut(&server), policy.passive_of(server))
        else {
            return;
        };
        let Some(up) = silence.hear(passive, signs, now) else { return };
        let check = passive.to_string();
        if up {
            tracing::info!(%service, %server, check, "health check tries again");
        } else {
            let why = silence.last_failure.as_ref().map(|(why, _)| why.as_str()).unwrap_or_default();
            tracing::warn!(%service, %server, check, "health check fails: {why}");
        }
        // Behind the checks that are made.
        let at = policy.checks_of(server).len();
        if watched.pool.record(server, at, up, now).is_some() {
            self.stale.insert(service);
        }
    }

    /// Services whose real servers serve otherwise than they are compiled, with what is to be compiled once
    /// [`Board::follow`] is asked. Where a weight ramps up, time alone does that.
    pub fn stale(&mut self, now: Instant) -> Vec<ServiceKey> {
        for (key, watched) in &mut self.pools {
            if watched.pool.is_ramping() && judge(*key, watched, now) {
                self.stale.insert(*key);
            }
        }
        std::mem::take(&mut self.stale).into_iter().collect()
    }

    /// These could not be compiled, and shall be tried again.
    pub fn put_back(&mut self, keys: impl IntoIterator<Item = ServiceKey>) {
        self.stale.extend(keys);
    }

    /// Addresses of sorry servers, which are to be found when they are needed.
    pub fn sorry_servers(&self) -> impl Iterator<Item = IpAddr> {
        self.policies.values().filter_map(|policy| policy.sorry_server).map(|server| server.address.ip())
    }

    /// What became of a real server for the sake of its health; none where it is not checked.
    pub fn standing(&self, service: ServiceKey, server: SocketAddr) -> Option<Standing> {
        let watched = self.pools.get(&service)?;
        // Who has no checks may stand aside all the same.
        let standing = watched.pool.standing(server)?.0;
        let is_checked = watched.checks.get(&server).is_some_and(|checks| !checks.is_empty())
            || watched.silences.contains_key(&server);
        (is_checked || standing != Standing::In).then_some(standing)
    }

    /// Everything that is known, or only what is not as it should be.
    pub fn list(&self, failing: bool, now: Instant) -> HealthList {
        let ago = |then: Instant| {
            u64::try_from(now.saturating_duration_since(then).as_millis()).unwrap_or(u64::MAX)
        };
        let server = |watched: &Watched, address: SocketAddr| {
            let (standing, weight) = watched.pool.standing(address)?;
            let (up, since) = watched.pool.state(address)?;
            let descriptions = watched.pool.policy().checks_of(address);
            let checks = watched.checks.get(&address).into_iter().flatten().zip(descriptions);
            let checks = checks.map(|((_, running), check)| {
                let view = running.view();
                CheckHealth {
                    check: check.to_string(),
                    up: view.state.is_up(),
                    since_ms: ago(view.state.since()),
                    last: view.last.as_ref().map(|(result, _)| result.is_ok()),
                    latency_us: view
                        .last
                        .as_ref()
                        .map(|(_, took)| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
                    error: view.last_failure.as_ref().map(|(why, _)| why.clone()),
                    error_ms: view.last_failure.as_ref().map(|(_, then)| ago(*then)),
                    passed: view.passed,
                    failed: view.failed,
                }
            });
            let passive = watched.pool.policy().passive_of(address).zip(watched.silences.get(&address));
            let passive = passive.map(|(passive, silence)| CheckHealth {
                check: passive.to_string(),
                up: silence.is_up(),
                since_ms: ago(silence.since()),
                last: silence.last,
                latency_us: None,
                error: silence.last_failure.as_ref().map(|(why, _)| why.clone()),
                error_ms: silence.last_failure.as_ref().map(|(_, then)| ago(*then)),
                passed: silence.answered,
                failed: silence.unanswered,
            });
            Some(ServerHealth {
                address,
                up,
                since_ms: ago(since),
                standing,
                effective_weight: weight,
                checks: checks.chain(passive).collect(),
            })
        };
        let health = self.pools.iter().map(|(key, watched)| {
            let policy = watched.pool.policy();
            ServiceHealth {
                service: *key,
                quorum: policy.quorum,
                hysteresis: policy.hysteresis,
                has_quorum: watched.pool.has_quorum(),
                live_weight: watched.pool.live_weight(),
                sorry_server: policy.sorry_server.map(|server| server.address),
                servers: watched.service.servers.iter().filter_map(|s| server(watched, s.address)).collect(),
            }
        });
        let mut health: Vec<ServiceHealth> = health.collect();
        if failing {
            let is_well = |s: &ServerHealth| s.standing == Standing::In && s.checks.iter().all(|c| c.up);
            health.iter_mut().for_each(|service| service.servers.retain(|server| !is_well(server)));
            health.retain(|service| !service.has_quorum || !service.servers.is_empty());
        }
        HealthList { health }
    }
}

/// Judges a service, and says in the log what has become of it. True if that makes any difference.
fn judge(service: ServiceKey, watched: &mut Watched, now: Instant) -> bool {
    let before = (watched.pool.has_quorum(), standings(watched));
    if !watched.pool.judge(&watched.service, now) {
        return false;
    }
    let live_weight = watched.pool.live_weight();
    for (server, (standing, weight)) in standings(watched) {
        let was = before.1.get(&server).map(|(standing, _)| *standing);
        // What is new serves, unless its checks say otherwise.
        if standing != was.unwrap_or(Standing::In) {
            match standing {
                Standing::In => tracing::info!(%service, %server, %weight, "real server serves again"),
                Standing::Ramping => {
                    tracing::info!(%service, %server, %weight, "real server begins to serve again");
                }
                Standing::Held => {
                    tracing::warn!(%service, %server, "real server fails, but checks may take out no more");
                }
                Standing::Inhibited => {
                    tracing::warn!(%service, %server, "real server gets no new connections");
                }
                Standing::Removed => tracing::warn!(%service, %server, "real server is taken out"),
                Standing::Aside => {
                    tracing::warn!(%service, %server, "real server stands aside for the sorry server");
                }
            }
        }
    }
    match (before.0, watched.pool.has_quorum()) {
        (true, false) => {
            let sorry_server = watched.pool.sorry_server().map(|server| server.address.to_string());
            tracing::error!(%service, live_weight, sorry_server, "quorum is lost");
        }
        (false, true) => tracing::info!(%service, live_weight, "quorum is regained"),
        _ => {}
    }
    true
}

fn standings(watched: &Watched) -> BTreeMap<SocketAddr, (Standing, crate::model::Weight)> {
    let servers = watched.service.servers.iter();
    servers.filter_map(|s| Some((s.address, watched.pool.standing(s.address)?))).collect()
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
