//! What was counted for whom. Lcores count for numbers of real servers and never begin anew; here stands from
//! where on it is whose.

use std::collections::HashMap;

use control::model::ServiceKey;

use super::ServerId;
use crate::stats::{Fleet, ServerTotals};

/// Where counting began, and what no number counts any more.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// What a number's counters showed when it was given to its real server, or when those were zeroed.
    baselines: HashMap<u32, ServerTotals>,
    /// What was counted for real servers of a service that are forgotten now.
    forgotten: HashMap<ServiceKey, ServerTotals>,
    /// What was counted altogether and is in no number's account any more.
    gone: ServerTotals,
}

impl Accounts {
    /// A number is given to a real server.
    pub(super) fn open(&mut self, number: u32, fleet: &Fleet) {
        self.baselines.insert(number, fleet.totals(ServerId(number)));
    }

    /// A number is free again. What its real server had goes to its service, if that is still there.
    pub(super) fn close(&mut self, number: u32, service: Option<ServiceKey>, fleet: &Fleet) {
        let counted = self.server(number, fleet);
        self.baselines.remove(&number);
        self.gone = self.gone.plus(counted);
        if let Some(service) = service {
            let sum = self.forgotten.entry(service).or_default();
            *sum = sum.plus(counted);
        }
    }

    /// A service is new, or gone for good.
    pub(super) fn forget(&mut self, service: ServiceKey) {
        self.forgotten.remove(&service);
    }

    /// Of the real server that has a number.
    pub(super) fn server(&self, number: u32, fleet: &Fleet) -> ServerTotals {
        let baseline = self.baselines.get(&number).copied().unwrap_or_default();
        fleet.totals(ServerId(number)).since(baseline)
    }

    /// Of a service's real servers that no number stands for any more.
    pub(super) fn forgotten(&self, service: ServiceKey) -> ServerTotals {
        self.forgotten.get(&service).copied().unwrap_or_default()
    }

    /// Of everything that no number stands for any more.
    pub(super) fn gone(&self) -> ServerTotals {
        self.gone
    }

    /// Begins at nothing for one service with these numbers; altogether all stays.
    pub(super) fn zero(&mut self, service: ServiceKey, numbers: impl Iterator<Item = u32>, fleet: &Fleet) {
        self.forgotten.remove(&service);
        for number in numbers {
            // Read once: nothing is lost between the two accounts.
            let now = fleet.totals(ServerId(number));
            let baseline = self.baselines.insert(number, now).unwrap_or_default();
            self.gone = self.gone.plus(now.since(baseline));
        }
    }

    /// Begins at nothing for everybody, altogether too.
    pub(super) fn zero_all(&mut self, fleet: &Fleet) {
        for (number, baseline) in &mut self.baselines {
            *baseline = fleet.totals(ServerId(*number));
        }
        self.forgotten.clear();
        self.gone = ServerTotals::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::LcoreCounters;
    use std::sync::Arc;

    fn key(port: u16) -> ServiceKey {
        let address = ([10, 99, 0, 1], port).into();
        ServiceKey::Address { protocol: control::model::Protocol::Tcp, address }
    }

    #[test]
    fn altogether_is_what_was_counted_whoever_it_belongs_to() {
        let fleet = Fleet::new(vec![Arc::new(LcoreCounters::new(2)), Arc::new(LcoreCounters::new(2))]);
        let count = |number, n| fleet.lcores()[1].server(ServerId(number)).packets_in.add(n);
        let mut accounts = Accounts::default();
        let read = |accounts: &Accounts| {
            let servers = [0, 1].map(|number| accounts.server(number, &fleet));
            let all = accounts.gone().plus(servers[0]).plus(servers[1]);
            let forgotten = accounts.forgotten(key(80));
            [servers[0], servers[1], forgotten, all].map(|totals| totals.packets_in)
        };
        accounts.open(0, &fleet);
        accounts.open(1, &fleet);
        count(0, 5);
        count(1, 7);
        assert_eq!(read(&accounts), [5, 7, 0, 12]);
        accounts.close(0, Some(key(80)), &fleet);
        accounts.open(0, &fleet);
        assert_eq!(read(&accounts), [0, 7, 5, 12]);
        accounts.zero(key(80), [1].into_iter(), &fleet);
        count(1, 1);
        assert_eq!(read(&accounts), [0, 1, 0, 13]);
        accounts.zero_all(&fleet);
        count(0, 2);
        assert_eq!(read(&accounts), [2, 0, 0, 2]);
    }
}
