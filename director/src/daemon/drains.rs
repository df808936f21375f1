//! Real servers that are drained: the weight goes to 0 and, at the end, the real server goes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use control::drain::{Due, End, Plan};
use control::model::{Edit, ServiceKey, Timeouts, Weight};
use control::protocol::{Refusal, Reply};

use super::controller::{Controller, State, exhausted, refuse};
use crate::service::Services;

impl Controller {
    /// Begins a drain, or gives the one that goes on another plan.
    pub(super) fn drain(
        &self,
        (service, server): (ServiceKey, SocketAddr),
        deadline: u32,
        keep: bool,
        active_only: bool,
    ) -> Result<Reply, Refusal> {
        if !(1..=Timeouts::MAX_SECONDS).contains(&deadline) {
            return Err(Refusal::new(
                "bad-deadline",
                format!("a drain cannot have a deadline of {deadline} s"),
                format!("give from 1 to {} seconds", Timeouts::MAX_SECONDS),
            ));
        }
        let mut state = self.state();
        let change = state.model.change(&weigh(service, server, Weight(0)), &self.limits).map_err(refuse)?;
        let weight = weight_of(&state, service, server);
        self.publish(&mut state, Services::Edited(&[change])).map_err(exhausted)?;
        let left = state.compiler.connections(service, server);
        let plan = Plan { deadline: Duration::from_secs(deadline.into()), keep, active_only };
        state.drains.begin((service, server), plan, weight, left, Instant::now());
        drop(state);
        let (active, inactive) = left;
        tracing::info!(%service, %server, deadline, active, inactive, "real server is drained");
        Ok(Reply::DONE)
    }

    /// Gives a real server that is drained its weight back.
    pub(super) fn cancel_drain(&self, service: ServiceKey, server: SocketAddr) -> Result<Reply, Refusal> {
        let mut state = self.state();
        let Some(drain) = state.drains.take(service, server) else {
            return Err(Refusal::new(
                "no-drain",
                format!("real server {server} of virtual service {service} is not drained"),
                "list the drains that go on with `directorctl server drains`",
            ));
        };
        let weight = drain.weight;
        let edit = weigh(service, server, weight);
        let change = state.model.change(&edit, &self.limits).map_err(refuse);
        let carried_out = change
            .and_then(|change| self.publish(&mut state, Services::Edited(&[change])).map_err(exhausted));
        if let Err(refusal) = carried_out {
            state.drains.resume(service, server, drain);
            return Err(refusal);
        }
        state.drains.close(service, server, drain, End::Cancelled, Instant::now());
        drop(state);
        tracing::info!(%service, %server, weight = weight.0, "drain is cancelled");
        Ok(Reply::DONE)
    }

    /// Drains of all real servers that fit.
    pub(super) fn drains(&self, service: Option<ServiceKey>, server: Option<SocketAddr>) -> Reply {
        let state = self.state();
        // A persistence template leads to a real server without weight, too, unless it is to expire there.
        let comes_back = |key| {
            let service = state.model.services().get(&key);
            service.is_some_and(|s| s.persistence.is_some()) && !state.settings.expire_quiescent_template
        };
        Reply::Drains(state.drains.list(service, server, Instant::now(), comes_back))
    }

    /// Counts what is left to real servers that are drained, and ends the drains whose end has come.
    pub(super) fn count_drains(&self) {
        // While a configuration is applied nothing else changes; the end comes a quarter of a second later.
        let Ok(_by_hand) = self.applying.try_read() else { return };
        let mut state = self.state();
        // An lcore that still goes by an older snapshot may give connections to whom the newest one gives none.
        if state.drains.is_empty() || !state.is_in_force() {
            return;
        }
        let State { drains, compiler, .. } = &mut *state;
        let now = Instant::now();
        let due = drains.count(now, |service, server| compiler.connections(service, server));
        for due in due {
            self.end_drain(&mut state, due, now);
        }
    }

    fn end_drain(&self, state: &mut State, Due { service, server, end, keep }: Due, now: Instant) {
        let Some(drain) = state.drains.take(service, server) else { return };
        if !keep {
            let edit = Edit::DeleteServer { service, address: server };
            let change = state.model.change(&edit, &self.limits).map_err(refuse);
            let carried_out =
                change.and_then(|change| self.publish(state, Services::Edited(&[change])).map_err(exhausted));
            if let Err(refusal) = carried_out {
                state.drains.resume(service, server, drain);
                // It is tried again four times a second, and said once.
                if !std::mem::replace(&mut state.drain_waits, true) {
                    tracing::error!(%service, %server, %refusal, "the end of a drain waits");
                }
                return;
            }
            state.drain_waits = false;
        }
        let (active, inactive) = drain.left;
        tracing::info!(%service, %server, end = end.word(), keep, active, inactive, "drain has ended");
        state.drains.close(service, server, drain, end, now);
    }
}

fn weigh(service: ServiceKey, address: SocketAddr, weight: Weight) -> Edit {
    Edit::EditServer {
        service,
        address,
        weight: Some(weight),
        method: None,
        tunnel: None,
        upper_threshold: None,
        lower_threshold: None,
    }
}

/// The operator's weight of a real server that is there.
fn weight_of(state: &State, service: ServiceKey, server: SocketAddr) -> Weight {
    let service = state.model.services().get(&service);
    let server = service.and_then(|service| service.servers.iter().find(|s| s.address == server));
    server.map_or(Weight(0), |server| server.weight)
}
