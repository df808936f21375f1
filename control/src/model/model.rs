//! The model: every virtual service, and the one way to change them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use super::validate::{check, has_flags};
use super::{Edit, EditError, Limited, SchedulerFlags, Service, ServiceKey};

/// How many services and servers can be configured at once; counters are allocated for them at start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Virtual services.
    pub services: usize,
    /// Real servers of all virtual services together.
    pub servers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { services: 4096, servers: 65536 }
    }
}

/// Every virtual service with its real servers, all of them valid.
///
/// A model never changes: [`Model::apply`] makes another one. A service that an edit leaves as it is keeps its
/// `Arc`, so that the data plane sees by `Arc::ptr_eq` which services it must compile anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    services: BTreeMap<ServiceKey, Arc<Service>>,
}

impl Model {
    /// The model of these services.
    ///
    /// # Errors
    /// The first rule that they break, each by itself or all together.
    pub fn new(services: impl IntoIterator<Item = Service>, limits: &Limits) -> Result<Model, EditError> {
        let mut model = Model::default();
        let mut servers = 0;
        for service in services {
            check(&service)?;
            servers += service.servers.len();
            room_for(Limited::Services, model.services.len() + 1, limits.services)?;
            room_for(Limited::Servers, servers, limits.servers)?;
            model.insert(service)?;
        }
        Ok(model)
    }

    /// Every virtual service by its key.
    pub fn services(&self) -> &BTreeMap<ServiceKey, Arc<Service>> {
        &self.services
    }

    /// How many real servers all virtual services have together.
    pub fn server_count(&self) -> usize {
        self.services.values().map(|service| service.servers.len()).sum()
    }

    /// The model after one edit. This one stays as it is.
    ///
    /// # Errors
    /// The rule that the edit would break.
    pub fn apply(&self, edit: &Edit, limits: &Limits) -> Result<Model, EditError> {
        let mut next = self.clone();
        match *edit {
            Edit::AddService { key, scheduler, flags } => {
                let service = Service { key, scheduler, flags, servers: Vec::new() };
                check(&service)?;
                next.insert(service)?;
                room_for(Limited::Services, next.services.len(), limits.services)?;
            }
            Edit::EditService { key, scheduler, flags } => next.change(key, |service| {
                if let Some(scheduler) = scheduler {
                    service.scheduler = scheduler;
                    if !has_flags(scheduler) {
                        service.flags = SchedulerFlags::default();
                    }
                }
                if let Some(flags) = flags {
                    service.flags = flags;
                }
                Ok(())
            })?,
            Edit::DeleteService { key } => {
                next.services.remove(&key).ok_or(EditError::NoSuchService { service: key })?;
            }
            Edit::AddServer { service, server } => {
                next.change(service, |service| {
                    service.servers.push(server);
                    Ok(())
                })?;
                room_for(Limited::Servers, next.server_count(), limits.servers)?;
            }
            Edit::EditServer { service, address, weight, method } => next.change(service, |service| {
                let index = position(service, address)?;
                let server = &mut service.servers[index];
                server.weight = weight.unwrap_or(server.weight);
                server.method = method.unwrap_or(server.method);
                Ok(())
            })?,
            Edit::DeleteServer { service, address } => next.change(service, |service| {
                let index = position(service, address)?;
                service.servers.remove(index);
                Ok(())
            })?,
        }
        Ok(next)
    }

    fn insert(&mut self, service: Service) -> Result<(), EditError> {
        match self.services.entry(service.key) {
            Entry::Occupied(_) => Err(EditError::ServiceExists { service: service.key }),
            Entry::Vacant(entry) => {
                entry.insert(Arc::new(service));
                Ok(())
            }
        }
    }

    /// Puts a changed copy in the place of a service, unless the change changes nothing.
    fn change(
        &mut self,
        key: ServiceKey,
        how: impl FnOnce(&mut Service) -> Result<(), EditError>,
    ) -> Result<(), EditError> {
        let slot = self.services.get_mut(&key).ok_or(EditError::NoSuchService { service: key })?;
        let mut service = Service::clone(slot);
        how(&mut service)?;
        check(&service)?;
        if service != **slot {
            *slot = Arc::new(service);
        }
        Ok(())
    }
}

fn position(service: &Service, address: SocketAddr) -> Result<usize, EditError> {
    let missing = EditError::NoSuchServer { service: service.key, address };
    service.servers.iter().position(|server| server.address == address).ok_or(missing)
}

fn room_for(what: Limited, wanted: usize, limit: usize) -> Result<(), EditError> {
    if wanted > limit { Err(EditError::LimitReached { what, limit }) } else { Ok(()) }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
