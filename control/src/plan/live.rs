//! What of a configuration can change while a director runs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::health::Policy;
use crate::model::{Change, MarkRule, Model, ServiceKey, Settings, Timeouts};

/// What of a configuration can change while a director runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Live {
    /// The virtual services.
    pub model: Model,
    /// What is checked of real servers; also of services that are not there now.
    pub health: BTreeMap<ServiceKey, Arc<Policy>>,
    /// When connections time out.
    pub timeouts: Timeouts,
    /// What is set of the whole director.
    pub settings: Settings,
    /// Which packets get which mark.
    pub marks: Vec<MarkRule>,
}

impl From<&Config> for Live {
    fn from(config: &Config) -> Live {
        Live {
            model: config.model.clone(),
            health: config.health.clone(),
            timeouts: config.timeouts,
            settings: config.settings,
            marks: config.marks.clone(),
        }
    }
}

impl Live {
    /// What makes the services of this one into those of `next`, at most one change for each service. Of a service
    /// that stays as it is, but whose health is looked after otherwise, the change is to itself, in the very same
    /// `Arc`; others that stay are not among them.
    pub fn changes_to(&self, next: &Live) -> Vec<Change> {
        let (before, after) = (self.model.services(), next.model.services());
        let deleted = before.keys().filter(|key| !after.contains_key(key));
        let deleted = deleted.map(|key| Change { key: *key, service: None });
        let edited = after.values().filter_map(|service| {
            let key = service.key;
            let service = match before.get(&key) {
                Some(same) if same == service => {
                    let is_watched_so = self.health.get(&key) == next.health.get(&key);
                    return (!is_watched_so).then(|| Change { key, service: Some(same.clone()) });
                }
                _ => service.clone(),
            };
            Some(Change { key, service: Some(service) })
        });
        deleted.chain(edited).collect()
    }

    /// Services whose health is looked after otherwise by `next`.
    pub fn policies_differing(&self, next: &Live) -> BTreeSet<ServiceKey> {
        let keys = self.health.keys().chain(next.health.keys());
        keys.filter(|key| self.health.get(key) != next.health.get(key)).copied().collect()
    }

    /// Addresses that may have to be reached: of real servers and of sorry servers.
    pub fn addresses(&self) -> HashSet<IpAddr> {
        let servers = self.model.services().values().flat_map(|service| &service.servers);
        let sorry = self.health.values().filter_map(|policy| policy.sorry_server.as_ref());
        servers.chain(sorry).map(|server| server.address.ip()).collect()
    }
}
