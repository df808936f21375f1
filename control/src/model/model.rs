//! The model: every virtual service, and the one way to change them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::validate::{check, has_flags};
use super::{
    Edit, EditError, ForwardingMethod, Limited, SchedulerFlags, Service, ServiceKey, Thresholds, Tunnel,
};

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
/// An edit is first tried ([`Model::change`]), then made ([`Model::make`]). A service that it leaves as it is keeps
/// its `Arc`, so that the data plane sees by `Arc::ptr_eq` which services it must compile anew.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Model {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    /// Real servers of all services together, so that nobody has to count them at each edit.
    servers: usize,
}

/// What an edit makes of its virtual service. Every other service stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What names the service.
    pub key: ServiceKey,
    /// The service from now on; `None` where it is deleted.
    pub service: Option<Arc<Service>>,
}

impl Model {
    /// The model of these services.
    ///
    /// # Errors
    /// The first rule that they break, each by itself or all together.
    pub fn new(services: impl IntoIterator<Item = Service>, limits: &Limits) -> Result<Model, EditError> {
        let mut model = Model::default();
        for service in services {
            check(&service)?;
            room_for(Limited::Services, model.services.len() + 1, limits.services)?;
            room_for(Limited::Servers, model.servers + service.servers.len(), limits.servers)?;
            model.is_free(service.key)?;
            model.make(Change { key: service.key, service: Some(Arc::new(service)) });
        }
        Ok(model)
    }

    /// Every virtual service by its key.
    pub fn services(&self) -> &BTreeMap<ServiceKey, Arc<Service>> {
        &self.services
    }

    /// How many real servers all virtual services have together.
    pub fn server_count(&self) -> usize {
        self.servers
    }

    /// The model after one edit. This one stays as it is, at the cost of a copy of the whole map.
    ///
    /// # Errors
    /// The rule that the edit would break.
    pub fn apply(&self, edit: &Edit, limits: &Limits) -> Result<Model, EditError> {
        let change = self.change(edit, limits)?;
        let mut next = self.clone();
        next.make(change);
        Ok(next)
    }

    /// What an edit would change. Looks at its service alone, however many others there are.
    ///
    /// # Errors
    /// The rule that the edit would break.
    pub fn change(&self, edit: &Edit, limits: &Limits) -> Result<Change, EditError> {
        match *edit {
            Edit::AddService { key, scheduler, flags, persistence, one_packet } => {
                let service = Service { key, scheduler, flags, persistence, one_packet, servers: Vec::new() };
                check(&service)?;
                self.is_free(key)?;
                room_for(Limited::Services, self.services.len() + 1, limits.services)?;
                Ok(Change { key, service: Some(Arc::new(service)) })
            }
            Edit::EditService { key, scheduler, flags, persistence, one_packet } => {
                self.changed(key, |service| {
                    if let Some(scheduler) = scheduler {
                        service.scheduler = scheduler;
                        if !has_flags(scheduler) {
                            service.flags = SchedulerFlags::default();
                        }
                    }
                    if let Some(flags) = flags {
                        service.flags = flags;
                    }
                    if let Some(edit) = persistence {
                        service.persistence = edit.of(service.persistence, key.ip());
                    }
                    service.one_packet = one_packet.unwrap_or(service.one_packet);
                    Ok(())
                })
            }
            Edit::DeleteService { key } => {
                self.get(key)?;
                Ok(Change { key, service: None })
            }
            Edit::AddServer { service, server } => {
                let change = self.changed(service, |service| {
                    service.servers.push(server);
                    Ok(())
                })?;
                room_for(Limited::Servers, self.servers + 1, limits.servers)?;
                Ok(change)
            }
            Edit::EditServer {
                service,
                address,
                weight,
                method,
                tunnel,
                upper_threshold,
                lower_threshold,
            } => self.changed(service, |service| {
                let index = position(service, address)?;
                let server = &mut service.servers[index];
                server.weight = weight.unwrap_or(server.weight);
                server.method = method.unwrap_or(server.method);
                if server.method != ForwardingMethod::Tunnel {
                    server.tunnel = Tunnel::default();
                }
                server.tunnel = tunnel.unwrap_or(server.tunnel);
                let Thresholds { upper, lower } = &mut server.thresholds;
                *upper = upper_threshold.unwrap_or(*upper);
                *lower = lower_threshold.unwrap_or(*lower);
                Ok(())
            }),
            Edit::DeleteServer { service, address } => self.changed(service, |service| {
                let index = position(service, address)?;
                service.servers.remove(index);
                Ok(())
            }),
        }
    }

    /// Makes a change that [`Model::change`] of this model found good.
    pub fn make(&mut self, Change { key, service }: Change) {
        self.servers += service.as_ref().map_or(0, |service| service.servers.len());
        let before = match service {
            Some(service) => self.services.insert(key, service),
            None => self.services.remove(&key),
        };
        self.servers -= before.map_or(0, |service| service.servers.len());
    }

    fn get(&self, key: ServiceKey) -> Result<&Arc<Service>, EditError> {
        self.services.get(&key).ok_or(EditError::NoSuchService { service: key })
    }

    fn is_free(&self, key: ServiceKey) -> Result<(), EditError> {
        if self.services.contains_key(&key) { Err(EditError::ServiceExists { service: key }) } else { Ok(()) }
    }

    /// A changed copy of a service, or the service itself where the change changes nothing.
    fn changed(
        &self,
        key: ServiceKey,
        how: impl FnOnce(&mut Service) -> Result<(), EditError>,
    ) -> Result<Change, EditError> {
        let before = self.get(key)?;
        let mut service = Service::clone(before);
        how(&mut service)?;
        check(&service)?;
        let service = if service == **before { before.clone() } else { Arc::new(service) };
        Ok(Change { key, service: Some(service) })
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
