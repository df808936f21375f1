//! The real servers of one virtual service by their health: who serves, with what weight.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{OnFailure, Policy};
use crate::model::{RealServer, Service, Weight};

/// In so many steps a weight ramps up.
const STEPS: u32 = 20;

/// What becomes of a real server for the sake of its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It serves with its weight.
    In,
    /// It has come back lately and serves with part of its weight.
    Ramping,
    /// It fails, but serves, since checks may not take out more.
    Held,
    /// It fails and gets no new connections.
    Inhibited,
    /// It fails and is taken out.
    Removed,
    /// It would serve, but the quorum is lost, and the sorry server does.
    Aside,
}

impl Standing {
    /// As in the protocol.
    pub fn word(self) -> &'static str {
        match self {
            Standing::In => "in",
            Standing::Ramping => "ramping",
            Standing::Held => "held",
            Standing::Inhibited => "inhibited",
            Standing::Removed => "removed",
            Standing::Aside => "aside",
        }
    }
}

/// The state of one real server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    /// Of each check whether it counts as passed; last, if there is one, of the passive one.
    checks: Vec<bool>,
    since: Instant,
    /// Whether it has been down before it was up.
    came_back: bool,
}

impl Member {
    fn is_up(&self) -> bool {
        self.checks.iter().all(|up| *up)
    }
}

/// The health of one virtual service.
#[derive(Clone, Debug)]
pub struct Pool {
    policy: Arc<Policy>,
    members: BTreeMap<SocketAddr, Member>,
    has_quorum: bool,
    standings: BTreeMap<SocketAddr, (Standing, Weight)>,
    live_weight: u64,
}

impl Pool {
    /// A pool without real servers, whose quorum is taken for granted as keepalived does.
    pub fn new(policy: Arc<Policy>) -> Pool {
        Pool {
            policy,
            members: BTreeMap::new(),
            has_quorum: true,
            standings: BTreeMap::new(),
            live_weight: 0,
        }
    }

    /// What the configuration says.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// From now on real servers are looked after by another policy; `states` says of those that there are which of its
    /// checks count as passed. Who is up stays so since when he was, and on his way to his full weight.
    pub fn change_policy(
        &mut self,
        policy: Arc<Policy>,
        states: BTreeMap<SocketAddr, Vec<bool>>,
        now: Instant,
    ) {
        self.policy = policy;
        for (server, checks) in states {
            let Some(member) = self.members.get_mut(&server) else { continue };
            let was_up = member.is_up();
            member.checks = checks;
            if member.is_up() != was_up {
                (member.since, member.came_back) = (now, !was_up);
            }
        }
    }

    /// Takes on real servers that are new, as their checks start, and forgets those that are gone.
    pub fn follow(&mut self, service: &Service, now: Instant) {
        let stay: BTreeMap<SocketAddr, Member> = service
            .servers
            .iter()
            .map(|server| {
                let new = || {
                    let mut checks: Vec<bool> =
                        self.policy.checks_of(server.address).iter().map(|check| check.start_up).collect();
                    checks.extend(self.policy.passive_of(server.address).map(|_| true));
                    Member { came_back: false, since: now, checks }
                };
                (server.address, self.members.remove(&server.address).unwrap_or_else(new))
            })
            .collect();
        self.members = stay;
    }

    /// A check of a real server has changed its state. Says whether the real server has come up or gone down by that.
    pub fn record(&mut self, server: SocketAddr, check: usize, up: bool, now: Instant) -> Option<bool> {
        let member = self.members.get_mut(&server)?;
        let before = member.is_up();
        *member.checks.get_mut(check)? = up;
        let after = member.is_up();
        if before == after {
            return None;
        }
        member.since = now;
        member.came_back = after;
        Some(after)
    }

    /// Which checks of a real server count as passed.
    pub fn checks(&self, server: SocketAddr) -> &[bool] {
        self.members.get(&server).map_or(&[], |member| &member.checks)
    }

    /// Whether a real server is up, and since when it is or is not.
    pub fn state(&self, server: SocketAddr) -> Option<(bool, Instant)> {
        self.members.get(&server).map(|member| (member.is_up(), member.since))
    }

    /// Whether the service has its quorum.
    pub fn has_quorum(&self) -> bool {
        self.has_quorum
    }

    /// The weights of real servers that are up together.
    pub fn live_weight(&self) -> u64 {
        self.live_weight
    }

    /// Who serves while the quorum is lost, if it is.
    pub fn sorry_server(&self) -> Option<&RealServer> {
        self.policy.sorry_server.as_ref().filter(|_| !self.has_quorum)
    }

    /// What became of a real server by the last [`Pool::judge`], and its weight now.
    pub fn standing(&self, server: SocketAddr) -> Option<(Standing, Weight)> {
        self.standings.get(&server).copied()
    }

    /// Whether a weight is still on its way up.
    pub fn is_ramping(&self) -> bool {
        self.standings.values().any(|(standing, _)| *standing == Standing::Ramping)
    }

    /// Judges everybody anew. True if that makes any difference.
    pub fn judge(&mut self, service: &Service, now: Instant) -> bool {
        let up = |server: &RealServer| self.members.get(&server.address).is_none_or(Member::is_up);
        let live = service.servers.iter().filter(|server| up(server));
        let live_weight: u64 = live.map(|server| u64::from(server.weight.0)).sum();
        let Policy { quorum, hysteresis, max_out, .. } = *self.policy;
        // keepalived's words, and its care that a quorum can be lost at all.
        let has_quorum = if self.has_quorum {
            live_weight >= u64::from(quorum.saturating_sub(hysteresis).max(1))
        } else {
            live_weight >= u64::from(quorum) + u64::from(hysteresis)
        };

        // Of those that fail, whoever failed first may be taken out first.
        let weighty = service.servers.iter().filter(|server| server.weight.0 > 0);
        let may_be_out = weighty.clone().count() * usize::from(max_out) / 100;
        let mut failing: Vec<&RealServer> = weighty.filter(|server| !up(server)).collect();
        failing.sort_by_key(|server| self.members.get(&server.address).map(|member| member.since));
        let held = failing.get(may_be_out..).unwrap_or_default();

        let aside = !has_quorum && self.policy.sorry_server.is_some();
        let standing = |server: &RealServer| match self.policy.on_failure {
            OnFailure::Remove if !up(server) && !held.contains(&server) => (Standing::Removed, Weight(0)),
            OnFailure::Inhibit if !up(server) && !held.contains(&server) => (Standing::Inhibited, Weight(0)),
            _ if aside && self.is_sorry(server.address) => (Standing::In, server.weight),
            _ if aside => (Standing::Aside, Weight(0)),
            _ if !up(server) => (Standing::Held, server.weight),
            _ => match self.members.get(&server.address) {
                Some(member) if member.came_back => {
                    let weight = ramped(
                        server.weight,
                        now.saturating_duration_since(member.since),
                        self.policy.slow_start,
                    );
                    (if weight == server.weight { Standing::In } else { Standing::Ramping }, weight)
                }
                _ => (Standing::In, server.weight),
            },
        };
        let standings: BTreeMap<_, _> =
            service.servers.iter().map(|server| (server.address, standing(server))).collect();
        let changed = has_quorum != self.has_quorum || standings != self.standings;
        (self.has_quorum, self.standings, self.live_weight) = (has_quorum, standings, live_weight);
        changed
    }

    fn is_sorry(&self, server: SocketAddr) -> bool {
        self.policy.sorry_server.is_some_and(|sorry| sorry.address == server)
    }

    /// The service as it is to be compiled, by the last [`Pool::judge`]; the very same where health changes nothing.
    pub fn effective(&self, service: &Arc<Service>) -> Arc<Service> {
        let seen = |server: &RealServer| match self.standing(server.address) {
            Some((Standing::Removed, _)) => None,
            Some((_, weight)) => Some(RealServer { weight, ..*server }),
            None => Some(*server),
        };
        let mut servers: Vec<RealServer> = service.servers.iter().filter_map(seen).collect();
        if let Some(sorry) = self.sorry_server()
            && !servers.iter().any(|server| server.address == sorry.address)
        {
            servers.push(*sorry);
        }
        if servers == service.servers {
            service.clone()
        } else {
            Arc::new(Service { servers, ..(**service).clone() })
        }
    }
}

/// The weight of a real server so long after it came back: it rises in steps, from at least 1.
fn ramped(weight: Weight, elapsed: Duration, slow_start: Duration) -> Weight {
    if elapsed >= slow_start {
        return weight;
    }
    let step = (elapsed.as_secs_f64() / slow_start.as_secs_f64() * f64::from(STEPS)) as u32;
    // At the beginning, too, it is to get some.
    let part = (u32::from(weight.0) * (step + 1)).div_ceil(STEPS);
    Weight(u16::try_from(part).unwrap_or(weight.0).min(weight.0))
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
