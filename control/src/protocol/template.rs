//! Persistence templates as the protocol tells of them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::strict::strict_service_option;
use crate::model::ServiceKey;

/// Which templates `template.list` is about: those that agree with every field present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemplateFilter {
    /// Virtual service.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "strict_service_option")]
    pub service: Option<ServiceKey>,
    /// Address and port of the real server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<SocketAddr>,
    /// Address of the clients' network, its other bits 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
}

/// One page of templates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateList {
    /// The templates of this page, in no promised order.
    pub templates: Vec<TemplateStatus>,
    /// The `cursor` of the next page; null: this was the last one.
    pub next: Option<String>,
}

/// One template: which real server the clients of a network come back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateStatus {
    /// The virtual service.
    pub service: ServiceKey,
    /// Address of the clients' network, its other bits 0.
    pub client: IpAddr,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// Whether a connection of it has been established (IPVS's ASSURED, else NONE).
    pub assured: bool,
    /// How many connections it has.
    pub connections: u32,
    /// Milliseconds until its clock runs out.
    pub expires_in_ms: u64,
}
