//! What metrics are made from.

use crate::protocol::{
    Client, ClientError, HealthList, Latency, ReasonList, Request, ServiceList, SettingsList, Stats,
    TimeoutsInForce, Version,
};

/// What a director answered, one question after the other.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// To `version`.
    pub version: Version,
    /// To `stats`.
    pub stats: Stats,
    /// To `latency`.
    pub latency: Latency,
    /// To `service.list`.
    pub services: ServiceList,
    /// To `health`.
    pub health: HealthList,
    /// To `settings`.
    pub settings: SettingsList,
    /// To `timeouts`.
    pub timeouts: TimeoutsInForce,
    /// To `reasons`.
    pub reasons: ReasonList,
}

impl Reading {
    /// Asks.
    ///
    /// # Errors
    /// When one question is not answered.
    pub fn take(client: &mut Client) -> Result<Reading, ClientError> {
        Ok(Reading {
            version: client.version()?,
            stats: client.stats()?,
            latency: client.latency()?,
            services: client.service_list()?,
            health: client.ask(&Request::Health { failing: false })?,
            settings: client.ask(&Request::Settings {})?,
            timeouts: client.ask(&Request::Timeouts {})?,
            reasons: client.reasons()?,
        })
    }
}
