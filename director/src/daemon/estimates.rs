//! Rates of everything that is counted, for those who ask. Made by the control thread from the counters;
//! lcores know nothing of it.

use std::collections::HashMap;
use std::net::SocketAddr;

use control::model::ServiceKey;

use crate::service::{Compiler, ServerId};
use crate::stats::{Estimator, ServerTotals};

/// Estimators of all virtual services and real servers, and of everything together.
#[derive(Debug, Default)]
pub(super) struct Estimates {
    all: Estimator,
    services: HashMap<ServiceKey, Estimator>,
    /// By number, with whose number it is.
    servers: Vec<Option<(ServiceKey, SocketAddr, Estimator)>>,
    /// Nothing was estimated for a while, so that what was counted meanwhile is no rate.
    paused: bool,
}

impl Estimates {
    /// Two seconds have passed.
    pub(super) fn tick(&mut self, compiler: &Compiler) {
        let fresh =
            |totals: ServerTotals| if self.paused { Estimator::since(totals) } else { Estimator::default() };
        let mut all = compiler.gone_totals();
        let mut sums: HashMap<ServiceKey, ServerTotals> = HashMap::new();
        let mut servers = Vec::with_capacity(self.servers.len());
        for (ServerId(number), service, address, totals) in compiler.all_servers() {
            let number = number as usize;
            let before = self.servers.get(number).copied().flatten();
            // A number that is somebody else's now begins anew.
            let own = before.filter(|(its, at, _)| (*its, *at) == (service, address));
            let mut estimator = own.map_or_else(|| fresh(totals), |(.., estimator)| estimator);
            estimator.tick(totals);
            servers.resize(servers.len().max(number + 1), None);
            servers[number] = Some((service, address, estimator));
            all = all.plus(totals);
            let sum = sums.entry(service).or_default();
            *sum = sum.plus(totals);
        }
        let services = compiler.compiled().map(|service| {
            let key = service.model.key;
            let own = sums.get(&key).copied().unwrap_or_default();
            let totals = own.plus(compiler.forgotten_totals(key));
            let mut estimator = self.services.get(&key).copied().unwrap_or_else(|| fresh(totals));
            estimator.tick(totals);
            (key, estimator)
        });
        let services = services.collect();
        if self.paused {
            self.all = Estimator::since(all);
        }
        self.all.tick(all);
        (self.services, self.servers, self.paused) = (services, servers, false);
    }

    /// Nothing is estimated any more: old rates would be lies.
    pub(super) fn pause(&mut self) {
        if !self.paused {
            *self = Estimates { paused: true, ..Estimates::default() };
        }
    }

    /// Counters of a service, or of everything, begin at nothing; and so do their rates.
    pub(super) fn zero(&mut self, service: Option<ServiceKey>) {
        let Some(service) = service else {
            *self = Estimates { paused: self.paused, ..Estimates::default() };
            return;
        };
        self.services.remove(&service);
        for server in &mut self.servers {
            if server.as_ref().is_some_and(|(its, ..)| *its == service) {
                *server = None;
            }
        }
    }

    /// Per second, of everything together.
    pub(super) fn all(&self) -> ServerTotals {
        self.all.rates()
    }

    /// Per second, of a virtual service.
    pub(super) fn service(&self, service: ServiceKey) -> ServerTotals {
        self.services.get(&service).copied().unwrap_or_default().rates()
    }

    /// Per second, of a real server.
    pub(super) fn server(
        &self,
        service: ServiceKey,
        address: SocketAddr,
        ServerId(number): ServerId,
    ) -> ServerTotals {
        match self.servers.get(number as usize) {
            Some(Some((its, at, estimator))) if (*its, *at) == (service, address) => estimator.rates(),
            _ => ServerTotals::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{address, compile, key};
    use crate::stats::{Fleet, LcoreCounters};
    use std::sync::Arc;

    #[test]
    fn rates_are_those_of_whoever_has_the_number() {
        let fleet = Fleet::new(vec![Arc::new(LcoreCounters::new(3))]);
        let mut compiler = Compiler::new(2, 3, fleet.clone());
        let mut estimates = Estimates::default();
        compile(&mut compiler, &[11, 12]);
        let id = |compiler: &Compiler, n| compiler.server_id(key(), address(n)).unwrap();
        let count = |id, n| fleet.lcores()[0].server(id).packets_in.add(n);
        let read = |estimates: &Estimates, compiler: &Compiler, n| {
            let server = estimates.server(key(), address(n), id(compiler, n)).packets_in;
            [server, estimates.service(key()).packets_in, estimates.all().packets_in]
        };
        count(id(&compiler, 11), 800);
        count(id(&compiler, 12), 80);
        estimates.tick(&compiler);
        assert_eq!(read(&estimates, &compiler, 11), [100, 110, 110]);
        assert_eq!(read(&estimates, &compiler, 12), [10, 110, 110]);
        // One goes, and its number is another one's: nothing that was counted is counted again.
        let old = id(&compiler, 12);
        compile(&mut compiler, &[11]);
        compile(&mut compiler, &[11]);
        compile(&mut compiler, &[11, 13]);
        assert_eq!(id(&compiler, 13), old);
        assert_eq!(read(&estimates, &compiler, 13)[0], 0);
        estimates.tick(&compiler);
        assert_eq!(read(&estimates, &compiler, 13), [0, 82, 82]);
        // Zeroed, one service or everything.
        compiler.zero(Some(key()));
        estimates.zero(Some(key()));
        assert_eq!(read(&estimates, &compiler, 11), [0, 0, 82]);
        assert_eq!(compiler.all_totals().packets_in, 880);
        count(id(&compiler, 11), 8);
        estimates.tick(&compiler);
        assert_eq!(read(&estimates, &compiler, 11)[..2], [1, 1]);
        compiler.zero(None);
        estimates.zero(None);
        assert_eq!((read(&estimates, &compiler, 11), compiler.all_totals().packets_in), ([0; 3], 0));
        // What is counted while nobody estimates is no rate afterwards.
        estimates.pause();
        count(id(&compiler, 11), 1_000_000);
        estimates.tick(&compiler);
        assert_eq!(read(&estimates, &compiler, 11), [0; 3]);
    }
}
